/* fanout: the bytes of legs over their connections: of one alone, or of several served together.
 *
 * One step sends what can be sent and receives what has come on all legs, waiting in one poll, so
 * that a slow server delays nobody else and no side waits for the other's full buffers. Only for
 * transports that can be polled. The connections belong to the call. */
#ifndef MC_FANOUT_H
#define MC_FANOUT_H

#include <poll.h>

#include "core/flow/leg.h"

/* Sends all that a leg has laid out. After MC_INTERRUPTED it can be called again. */
mc_status mc_leg_send(mc_leg *leg, mc_clock *clock);

/* Receives once. */
mc_status mc_leg_receive(mc_leg *leg, mc_clock *clock);

/* Both, where there is something to be sent, and something to wait for behind it. */
mc_status mc_leg_move(mc_leg *leg, mc_clock *clock);

/* MC_OK: something moved, or a leg has ended (mc_leg_fail); MC_INTERRUPTED, MC_TIMEOUT: of the
 * whole step, nothing is lost; MC_NO_MEMORY. Legs that do not run are left out. polls has room for
 * count entries; behind the step arrived[i] tells whether leg i received something. All transports
 * are free. */
mc_status mc_fanout_step(mc_leg *const *legs, size_t count, struct pollfd *polls, bool *arrived,
                         mc_clock *clock);

/* The same in three, of which only the wait needs no GIL, for transports that are not all free.
 * MC_RAISED: one of them has raised, and nothing was done behind that. Begin: MC_AGAIN: wait, and
 * behind MC_OK end it; else the step is over. */
mc_status mc_fanout_begin(mc_leg *const *legs, size_t count, struct pollfd *polls, bool *arrived);
mc_status mc_fanout_wait(struct pollfd *polls, size_t count, mc_clock *clock);
mc_status mc_fanout_end(mc_leg *const *legs, size_t count, const struct pollfd *polls,
                        bool *arrived);

#endif
