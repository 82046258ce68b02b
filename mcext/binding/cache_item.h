/* cache_item: the type Item: values with what the server knows of them. */
#ifndef MCX_CACHE_ITEM_H
#define MCX_CACHE_ITEM_H

#include "core/wire/reply.h"

#include "state.h"

/* What an mg for an Item asks for; k has to be there, to be compared. */
#define MCX_ITEM_FLAGS ((mc_slice){"v k f c t l s h", 15})

/* _core.Item. */
int mcx_add_item_type(mcx_module *module, PyObject *module_object);

/* An Item of what a meta reply says; of one that is all 0 only flags and cas are known. Steals
 * value, which may be NULL, with an exception. */
PyObject *mcx_item_new(mcx_module *module, const mc_reply *reply, uint32_t flags, uint64_t cas,
                       PyObject *value);

/* The same with another value, its flags and its token. Steals value, as above. */
PyObject *mcx_item_renewed(mcx_module *module, PyObject *item, uint32_t flags, uint64_t cas,
                           PyObject *value);

#endif
