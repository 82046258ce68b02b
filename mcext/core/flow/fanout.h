/* fanout: several connections of one call served together.
 *
 * One step sends what can be sent and receives what has come on all legs, waiting in one poll, so
 * that a slow server delays nobody else and no side waits for the other's full buffers. Native
 * transports only. No GIL needed; the connections belong to the call. */
#ifndef MC_FANOUT_H
#define MC_FANOUT_H

#include <poll.h>

#include "core/net/connection.h"

typedef struct {
    mc_connection *connection; /* NULL: the leg is over */
    mc_exchange exchange;
    struct iovec *pieces; /* what is still to be sent of what was produced */
    int count;
    bool more;        /* more will be produced once this is sent */
    mc_status status; /* of the last step: MC_OK, or why the leg ended */
    bool arrived;     /* the last step received something */
} mc_leg;

/* MC_OK: something moved, or a leg's status is set; MC_INTERRUPTED, MC_TIMEOUT: of the whole step,
 * nothing is lost; MC_NO_MEMORY. polls has room for count entries. */
mc_status mc_fanout_step(mc_leg *const *legs, size_t count, struct pollfd *polls, mc_clock *clock);

#endif
