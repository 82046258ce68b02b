/* server_address: a server as applications give it, taken apart. */
#ifndef MCX_SERVER_ADDRESS_H
#define MCX_SERVER_ADDRESS_H

#include "core/net/address.h"

#include "compat.h"

/* An address, (address, weight) or an mcext.Server taken apart. 0 or -1; *address and *name (NULL:
 * it has none) are borrowed, *weight is new; untouched after -1. */
int mcx_server_split(PyObject *given, PyObject **address, PyObject **weight, PyObject **name);

/* What parsed points into is *owner, strong. A path need not be UTF-8: as os.fsdecode gives it. */
int mcx_server_parse(PyObject *given, mc_address *parsed, PyObject **owner);

/* What is connected to: parsed, a name that is not ASCII in its IDNA form, as Python's own sockets
 * look it up. *name is strong or NULL. */
int mcx_server_find_remote(const mc_address *parsed, mc_address *remote, PyObject **name);

#endif
