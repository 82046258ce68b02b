/* cache_lease: what a look of get_or_set asks for, and what it found. */
#ifndef MCX_CACHE_LEASE_H
#define MCX_CACHE_LEASE_H

#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "call.h"
#include "retrieve.h"

/* As mcext.fill knows them. */
typedef enum {
    MCX_LOOK_HIT,      /* a value to be served as it is */
    MCX_LOOK_WON,      /* nothing, or an old value: this caller is to compute, with the token */
    MCX_LOOK_TAKEN,    /* nothing, and another computes */
    MCX_LOOK_NO_LEASE, /* nothing, and the server grants no lease */
    MCX_LOOK_NO_META,  /* the server has no meta protocol */
    MCX_LOOK_OLD       /* a value that another is computing anew */
} mcx_look;

/* The flags of the mg, in text. */
#define MCX_LOOK_FLAGS 64
mc_slice mcx_look_flags(char text[MCX_LOOK_FLAGS], uint64_t lease, uint64_t refresh);

/* The flags of the md that gives a lease back, in text. An old value stays, and is for the next one
 * to compute anew. */
#define MCX_RELEASE_FLAGS 32
mc_slice mcx_release_flags(char text[MCX_RELEASE_FLAGS], bool has_value, uint64_t token);

/* By the reply to it. Of a stub got has nothing behind that. */
mcx_look mcx_judge_look(const mc_reply *reply, mcx_retrieved *got);

/* (look, value, token, whether there is a value). */
PyObject *mcx_look_tuple(mcx_call *call, mcx_look found, mcx_retrieved *got);

#endif
