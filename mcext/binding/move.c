#include "move.h"

#include "core/flow/fanout.h"
#include "core/net/clock.h"

#include "call.h"
#include "compat.h"

typedef mc_status (*mover)(mc_leg *leg, mc_clock *clock);

static inline void move(mcx_call *call, mc_leg *leg, mover by)
{
    bool is_free = leg->connection->transport->is_free;
    bool is_first = !leg->moved;
    mc_status status;

    do {
        if (LIKELY(is_free)) {
            Py_BEGIN_ALLOW_THREADS
            status = by(leg, &call->clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = by(leg, &call->clock);
        }
        /* A long receive returns early with what it has when a signal comes. Beside an exception of
         * a Python socket's no handler may run: it is heard when that has gone up. */
        if (UNLIKELY(status == MC_INTERRUPTED || !is_first) && status != MC_RAISED &&
            PyErr_CheckSignals() < 0) {
            status = MC_RAISED;
        }
    } while (UNLIKELY(status == MC_INTERRUPTED));
    if (UNLIKELY(status != MC_OK)) {
        mc_leg_fail(leg, status);
    }
}

void mcx_move(mcx_call *call, mc_leg *leg)
{
    move(call, leg, mc_leg_move);
}

void mcx_send(mcx_call *call, mc_leg *leg)
{
    move(call, leg, mc_leg_send);
}
