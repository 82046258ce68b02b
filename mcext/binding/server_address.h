/* server_address: a server as applications give it, taken apart. */
#ifndef MCX_SERVER_ADDRESS_H
#define MCX_SERVER_ADDRESS_H

#include <stdbool.h>

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

/* Whether it is no server, but what is asked for servers: "elasticache://..." or "dns+...", also in
 * front of a tuple. */
bool mcx_server_is_source(PyObject *given);

/* What servers of a list are told apart by: a new reference. */
PyObject *mcx_server_key(const mc_address *remote, PyObject *name);
/* The same of a server as applications give it, and its weight: (key, weight), new; None for what
 * is no server, which is said when one is made of it. */
PyObject *mcx_server_key_of(PyObject *given);

#endif
