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

/* Starts of verbs that others share: of arguments (key), and (server, text or None). */
int mcx_async_start_get(mcx_acall *self, mcx_call *call);
int mcx_async_start_server(mcx_acall *self, mcx_call *call);

/* What an mg for an Item asks for; k has to be there, to be compared. */
#define MCX_ITEM_FLAGS ((mc_slice){"v k f c t l s h", 15})

/* A line for one key on its server, which it waits for: as mcx_verb.start. */
int mcx_async_line(mcx_acall *self, mcx_call *call, mc_command command, mc_slice argument);

#endif
