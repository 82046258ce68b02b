/* errors: how the core's results read in debug lines, in the words of Python's own exceptions. */
#include "mcx.h"

#include <netdb.h>
#include <string.h>

PyObject *mcx_status_text(const mc_connection *connection, mc_status status)
{
    switch (status) {
    case MC_TIMEOUT:
        return PyUnicode_FromString("timed out");
    case MC_CLOSED:
        return PyUnicode_FromString("connection closed in readline()");
    case MC_MALFORMED:
        return PyUnicode_FromString("a reply that the protocol does not allow");
    default:
        break;
    }
    if (connection != NULL && connection->resolver_error != 0) {
        return PyUnicode_FromFormat("[Errno %d] %s", connection->resolver_error,
                                    gai_strerror(connection->resolver_error));
    }
    int error = connection != NULL ? connection->error : 0;
    return PyUnicode_FromFormat("[Errno %d] %s", error, strerror(error));
}
