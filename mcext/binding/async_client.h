/* async_client: the type `_AsyncCache`. */
#ifndef MCX_ASYNC_CLIENT_H
#define MCX_ASYNC_CLIENT_H

#include "state.h"

/* _core._AsyncCache, _AsyncStream and _AsyncCall. */
int mcx_add_async_types(mcx_module *module, PyObject *module_object);

#endif
