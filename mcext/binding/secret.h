/* secret: a name or a password with which a client makes itself known to its servers, as an object
 * that shows nothing of it: the type `_Secret`.
 *
 * The bytes are its own and zeroed when it ends. A password may be a function, which is asked for
 * it at each connect. With the GIL; immutable, but for one mark that is atomic. */
#ifndef MCX_SECRET_H
#define MCX_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "core/net/connection.h"

#include "compat.h"
#include "state.h"

/* Bytes of "name password", the data block of an authentication: what a line of memcached's file
 * has room for (authfile.c, MAX_ENTRY_LEN). */
#define MCX_PAYLOAD_AT_MOST 255

typedef struct mcx_secret mcx_secret;

extern PyType_Spec mcx_secret_spec;

/* A new _Secret of an argument, which may be one already. TypeError or ValueError that names the
 * argument and shows nothing of it. name: of the password's: it is refused where they do not fit.
 */
PyObject *mcx_secret_name(mcx_module *module, PyObject *value);
PyObject *mcx_secret_password(mcx_module *module, PyObject *value, PyObject *name);

/* _secrets(username, password): for mcext.cache: both as _Secrets, or None where none was given. */
PyObject *mcx_secret_pair(PyObject *module, PyObject *args);

/* Lays out "name password" of two of them, which asks the function where there is one, and runs any
 * code then. -1 with an exception. In every case the caller wipes payload. */
int mcx_secret_lay_out(PyObject *name, PyObject *password, char payload[MCX_PAYLOAD_AT_MOST],
                       size_t *length);

/* True the first time: a warning is given once for each. */
bool mcx_secret_warns_now(PyObject *password);

/* Wipes bytes that were made here, where nobody else has them, and drops the reference. */
void mcx_secret_drop_bytes(PyObject *bytes);

/* What a connection is to send, as bytes: to be dropped by mcx_drop_sent. */
static inline PyObject *mcx_copy_to_send(const mc_connection *connection, const void *from,
                                         size_t length)
{
    PyObject *bytes = PyBytes_FromStringAndSize(from, (Py_ssize_t)length);

    if (UNLIKELY(connection->secret)) {
        mc_wipe_registers();
    }
    return bytes;
}

/* The same of a copy of what a connection has sent, where that is a secret; else it is dropped
 * alone. Behind the last look at an exception, whose traceback may have it. */
static inline void mcx_drop_sent(const mc_connection *connection, PyObject *bytes)
{
    if (UNLIKELY(connection->secret)) {
        mcx_secret_drop_bytes(bytes);
    }
    else {
        Py_XDECREF(bytes);
    }
}

#endif
