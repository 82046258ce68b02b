/* client_type: the `Client` type. */
#ifndef MCX_CLIENT_TYPE_H
#define MCX_CLIENT_TYPE_H

#include "state.h"

int mcx_add_client_type(mcx_module *module, PyObject *module_object);

#endif
