/* client: the small methods of Client. */
#ifndef MCX_CLIENT_H
#define MCX_CLIENT_H

#include "compat.h"

extern PyMethodDef mcx_client_methods[];

#endif
