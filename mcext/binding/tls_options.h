/* tls_options: tls_context and tls_server_hostname, of clients and of their servers. */
#ifndef MCX_TLS_OPTIONS_H
#define MCX_TLS_OPTIONS_H

#include "compat.h"

/* What may be assigned, None for none: -1 with TypeError or ValueError that names the option. */
int mcx_tls_check_context(PyObject *context);
int mcx_tls_check_name(PyObject *name);

/* RuntimeWarning where a context verifies nothing; -1 where that is an error, or the look at it. */
int mcx_tls_warn(PyObject *context);

/* All of that for the two options of a client that is made; a name without a context is an error.
 */
int mcx_tls_check(PyObject *context, PyObject *name);

/* The attributes of a server; offset is the field's in mcx_server. */
PyObject *mcx_tls_get(PyObject *server, void *offset);
int mcx_tls_set(PyObject *server, PyObject *value, void *offset);

#endif
