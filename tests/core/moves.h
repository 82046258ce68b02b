/* moves: how the tests of connections move bytes: all the pieces of a send; a leg for one "get k"
 * whose replies are received. */
#ifndef MOVES_H
#define MOVES_H

#include "check.h"
#include "core/flow/fanout.h"
#include "core/net/socket.h"

static const mc_slice key = {"k", 1};

/* Sends all of *pieces, which move on as bytes leave. */
static inline mc_status send_all(mc_connection *connection, struct iovec **pieces, int *count,
                                 mc_clock *clock)
{
    mc_status status = MC_OK;

    while (*count > 0 && status == MC_OK) {
        size_t moved = 0;

        status = mc_connection_send(connection, *pieces, *count, &moved, clock);
        if (status == MC_OK) {
            mc_pieces_advance(pieces, count, moved);
        }
    }
    return status;
}

/* A leg for "get k", not laid out: it can only receive. */
static inline void begin_get(mc_leg *leg, mc_connection *connection, const mc_clock *clock)
{
    mc_leg_init(leg, MC_GET, &key, 1);
    mc_leg_begin(leg, connection, clock);
}

/* The same, laid out. */
static inline void ask_for_key(mc_leg *leg, mc_connection *connection, const mc_clock *clock)
{
    begin_get(leg, connection, clock);
    CHECK(mc_leg_next(leg) == MC_LEG_MOVE);
}

/* What a leg has ended in, or would but for another try; MC_OK while it runs. */
static inline mc_status ended_in(mc_leg *leg)
{
    return mc_leg_is_running(leg)             ? MC_OK
           : mc_leg_next(leg) == MC_LEG_RETRY ? MC_CLOSED
                                              : leg->verdict.status;
}

#endif
