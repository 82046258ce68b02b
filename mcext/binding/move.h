/* move: a leg's bytes, without the GIL where the transport is free of Python; signals are heard. */
#ifndef MCX_MOVE_H
#define MCX_MOVE_H

#include "call.h"

#include "core/flow/fanout.h"

/* Moves bytes once; the leg hears of a failure. After mc_leg_next said MC_LEG_MOVE. */
void mcx_move(mcx_call *call, mc_leg *leg);

/* The same, sending alone. */
void mcx_send(mcx_call *call, mc_leg *leg);

#endif
