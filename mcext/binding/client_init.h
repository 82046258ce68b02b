/* client_init: the constructor of Client. */
#ifndef MCX_CLIENT_INIT_H
#define MCX_CLIENT_INIT_H

#include "state.h"

int mcx_add_init(mcx_module *module);

#endif
