/* call: begins and ends one call of a client's method. */
#ifndef MCX_CALL_H
#define MCX_CALL_H

#include "core/net/connection.h"
#include "record.h"
#include "shared.h"
#include "state.h"

typedef struct mcx_cache mcx_cache;
typedef struct mcx_server mcx_server;

/* As it is written where it is told of. */
static inline const char *mcx_command_name(mc_command command)
{
    return command == MC_META_PROBE ? "mn" : mc_commands[command].name.bytes;
}

/* One call of a client's method. */
typedef struct {
    PyObject *self;   /* borrowed: the caller's */
    mcx_cache *cache; /* self, where it is a Cache (cache_call.h); NULL: it is a Client */
    mcx_module *module;
    mcx_shared *shared;
    mcx_snapshot *snapshot; /* valid until mcx_call_end */
    mcx_record *record;     /* strong; a Client's */
    mc_clock clock;
    int64_t began; /* by mc_clock_now; the clock's start moves by what is left out */
    const mc_transport *transport;
    PyObject *socket_class; /* strong; NULL: connections are native */
    uint64_t owner;
    bool debuglog_is_replaced;
    bool is_customised; /* found in its middle, before anything was sent: mcx_pure is the way */
    /* Of a Cache's call: */
    mc_command command;
    bool raises;      /* what fails is raised; else it is a miss */
    uint32_t flags;   /* of the value that is decoded */
    mcx_server *host; /* that was asked for it: the snapshot's; NULL: none, or many */
    PyObject *faults; /* strong; list of the exceptions for what failed, or NULL */
    PyObject *events; /* strong; list of what on_event is to hear beside, or NULL */
} mcx_call;

/* The time since before went into the caller's own code (a key_encoder, a generator of keys, a
 * pickler): it is not the servers', and counts for no deadline. */
static inline void mcx_leave_out(mcx_call *call, int64_t before)
{
    call->clock.start += mc_clock_now() - before;
}

/* 0; -1 with an exception, or 1 where the client replaces one of its insides and mcx_pure is the
 * way: then mcx_call_end is not due. */
int mcx_call_begin(mcx_call *call, PyObject *self);
/* The same for calls that meet all servers, whose lists may have been changed in place. */
int mcx_call_begin_listed(mcx_call *call, PyObject *self);
/* The same for what takes part in a call in Python: never 1. */
int mcx_call_begin_inner(mcx_call *call, PyObject *self);

/* Enters the snapshot that is current: what begin does, and a call whose lists have changed. As
 * mcx_call_begin. */
int mcx_call_enter(mcx_call *call);

/* The transport of the connections that this call makes: what begin does. -1 with an exception. */
int mcx_call_find_transport(mcx_call *call);

/* Connections that have been idle for long are closed, and the watch is told, if there is one: what
 * end does at times. Returns result, or NULL with an exception: one that was there stays, and what
 * a signal handler raised comes out. */
static inline bool mcx_call_is_to_reap(const mcx_call *call)
{
    return call->clock.start >=
           atomic_load_explicit(&call->shared->next_reap, memory_order_relaxed);
}
PyObject *mcx_call_reap(mcx_call *call, PyObject *result);

/* Ends it; result (may be NULL) is passed through. */
PyObject *mcx_call_end(mcx_call *call, PyObject *result);
/* The same for a method of mcx_pure's, which goes that way where that turned out to be right. */
PyObject *mcx_call_finish(mcx_call *call, PyObject *result, int method, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);

/* Counts a command, or a multi call, in the client's stats. */
static inline int mcx_count(mcx_call *call, int what)
{
    if (LIKELY(mcx_counts_alone(call->record))) {
        call->record->counts[what]++;
        return 0;
    }
    return mcx_record_count_name(call->module, call->record, call->module->count_names[what]);
}

#endif
