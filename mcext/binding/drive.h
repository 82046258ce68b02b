/* drive: takes a leg of a call on to what is the caller's to do, tries once more, and says what it
 * ended in. */
#ifndef MCX_DRIVE_H
#define MCX_DRIVE_H

#include "core/flow/leg.h"

#include "target.h"

/* On to the next step that is the caller's: MC_LEG_PRODUCE, _VALUE, _FILLED, _REPLY or _OVER. */
mc_leg_step mcx_drive(mcx_call *call, mcx_target *target, mc_leg *leg);

/* The server closed before it said a word: a new connection, and begins anew where there is one.
 * The leg hears of it where there is none. */
void mcx_begin_again(mcx_call *call, mcx_target *target, mc_leg *leg);

/* The leg, which is over or given up here (MC_RAISED), and its target end: 1; 0 where it failed,
 * with the debug line and the dead mark that this asks for; -1 with an exception. told: the caller
 * has said what was wrong. */
int mcx_conclude(mcx_call *call, mcx_target *target, mc_leg *leg, bool told);

#endif
