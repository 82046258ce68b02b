/* server_type: the type `_Server`, the base class of _Host in C. */
#ifndef MCX_SERVER_TYPE_H
#define MCX_SERVER_TYPE_H

#include "compat.h"

extern PyType_Spec mcx_server_spec;

#endif
