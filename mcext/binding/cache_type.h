/* cache_type: the type `_Cache`. */
#ifndef MCX_CACHE_TYPE_H
#define MCX_CACHE_TYPE_H

#include "compat.h"
#include "state.h"

/* What every Python that this package runs on reads. */
#define MCX_CACHE_PICKLE_PROTOCOL 5

/* _core._Cache and _core.Item. */
int mcx_add_cache_type(mcx_module *module, PyObject *module_object);

#endif
