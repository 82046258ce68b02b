/* async_verbs: the methods of an AsyncCache that are about one key, or one server. */
#ifndef MCX_ASYNC_VERBS_H
#define MCX_ASYNC_VERBS_H

#include "async.h"

/* The tables of _AsyncCache's methods, a file each. */
extern PyMethodDef mcx_async_methods[], mcx_async_store_methods[], mcx_async_meta_methods[],
    mcx_async_many_methods[], mcx_async_beside_methods[];

/* Results where nothing came, by errors="miss". */
PyObject *mcx_missed_none(const mcx_acall *self);
PyObject *mcx_missed_false(const mcx_acall *self);

/* Where a call's key belongs. */
typedef struct {
    mc_slice key;
    PyObject *owner; /* strong: keeps its bytes */
    mcx_lane *lane;  /* borrowed */
    bool is_probe;   /* what is sent there decides about a dead mark that has run out */
} mcx_aplace;

/* The place of the key that is the first argument: 1, 0 where there is none, with call->faults, -1
 * with an exception. owner is strong where it is 1, and the caller's to give up. */
int mcx_async_place(mcx_acall *self, mcx_call *call, mcx_aplace *place);

/* Starts of verbs that others share: of arguments (key), and (server, text or None). */
int mcx_async_start_get(mcx_acall *self, mcx_call *call);
int mcx_async_start_server(mcx_acall *self, mcx_call *call);

/* A line for one key on its server, which it waits for: as mcx_verb.start. */
int mcx_async_line(mcx_acall *self, mcx_call *call, mc_command command, mc_slice argument);

#endif
