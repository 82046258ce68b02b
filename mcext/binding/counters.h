/* counters: what a Cache counts, for each of its servers. Counting never allocates, locks or
 * raises. Without the GIL the additions are atomic, and no order is promised between them. */
#ifndef MCX_COUNTERS_H
#define MCX_COUNTERS_H

#include <stdint.h>

#include "core/flow/leg.h"

#include "call.h"
#include "server.h"

/* X(name): what stands beside the calls by command and the durations. */
#define MCX_COUNTERS(X)                                                                            \
    X(keys)                                                                                        \
    X(hits)                                                                                        \
    X(misses)                                                                                      \
    X(stored)                                                                                      \
    X(bytes_in)                                                                                    \
    X(bytes_out)                                                                                   \
    X(connects)                                                                                    \
    X(retries)                                                                                     \
    X(timeouts)                                                                                    \
    X(lost)                                                                                        \
    X(dead_marks)                                                                                  \
    X(fills_won)                                                                                   \
    X(fills_lost)                                                                                  \
    X(fills_waited)

/* Number i: less than 2**i microseconds; the last: all that are longer. */
#define MCX_DURATIONS 24

#ifdef Py_GIL_DISABLED
typedef _Atomic uint64_t mcx_counter;
#define mcx_count_up(counter, by) atomic_fetch_add_explicit(counter, by, memory_order_relaxed)
#else
typedef uint64_t mcx_counter;
#define mcx_count_up(counter, by) (*(counter) += (by))
#endif

typedef struct mcx_counters {
    mcx_counter calls[MC_COMMANDS];
#define X(name) mcx_counter name;
    MCX_COUNTERS(X)
#undef X
    mcx_counter durations[MCX_DURATIONS];
} mcx_counters;

/* What was asked of a server at once, and what came of it. */
typedef struct {
    mc_command command;
    mc_family family;
    size_t calls, keys;
    size_t good; /* keys found, or stored */
    bool retried;
    mc_status status;
} mcx_tally;

void mcx_counters_add(mcx_counters *counters, const mcx_tally *tally);

/* A call took so many nanoseconds. */
void mcx_count_duration(mcx_counters *counters, int64_t took);

/* A leg of a Cache's call is over: returns the nanoseconds since the call began. */
int64_t mcx_counters_note(mcx_call *call, mcx_server *host, const mc_leg *leg);

/* Their names: a new tuple. */
PyObject *mcx_counter_names(void);

/* As mcext.Cache.metrics() gives them: a new dict. reset: they are 0 from then on. */
PyObject *mcx_counters_dict(mcx_counters *counters, bool reset);

#endif
