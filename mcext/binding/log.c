/* log: the client's and the hosts' debug lines, and how the core's results read in them. */
#include "log.h"

#include <netdb.h>
#include <string.h>

#include "core/net/connection.h"
#include "core/wire/key.h"

#include "call.h"
#include "server.h"
#include "state.h"

/* sys.stderr of this moment: a new reference, or NULL without an exception. */
static PyObject *find_stderr(void)
{
    PyObject *stream = NULL;

#if PY_VERSION_HEX >= 0x030D0000
    PyObject *sys = PyImport_ImportModule("sys");

    if (sys == NULL || PyObject_GetOptionalAttrString(sys, "stderr", &stream) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(sys);
#else
    stream = Py_XNewRef(PySys_GetObject("stderr"));
#endif
    return stream;
}

int mcx_write_stderr(mcx_module *module, PyObject *text)
{
    PyObject *stream = find_stderr();
    PyObject *result;

    if (stream == NULL || stream == Py_None) {
        Py_XDECREF(stream);
        return 0;
    }
    result = PyObject_CallMethodOneArg(stream, module->str_write, text);
    Py_DECREF(stream);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int mcx_debuglog(mcx_call *call, const char *format, ...)
{
    PyObject *type, *value, *traceback, *text, *result = NULL;
    va_list words;

    if (!call->snapshot->debug && !call->debuglog_is_replaced) {
        return 0;
    }
    PyErr_Fetch(&type, &value, &traceback); /* a debug line must not eat what it stands beside */
    va_start(words, format);
    text = PyUnicode_FromFormatV(format, words);
    va_end(words);
    if (text != NULL) {
        result = PyObject_CallMethodOneArg(call->self,
                                           call->module->client_insides[MCX_INSIDE_DEBUGLOG], text);
    }
    int failed = result == NULL ? -1 : 0;

    Py_XDECREF(text);
    Py_XDECREF(result);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return failed;
}

int mcx_server_debuglog(mcx_server *host, const char *format, ...)
{
    PyObject *type, *value, *traceback, *text, *line = NULL;
    va_list words;
    int result = -1;

    if (!atomic_load(&host->is_debug)) {
        return 0;
    }
    PyErr_Fetch(&type, &value, &traceback); /* a debug line must not eat what it stands beside */
    va_start(words, format);
    text = PyUnicode_FromFormatV(format, words);
    va_end(words);
    if (text != NULL) {
        line = PyUnicode_FromFormat("MemCached: %U\n", text);
    }
    if (line != NULL) {
        result = mcx_write_stderr(host->module, line);
    }
    Py_XDECREF(text);
    Py_XDECREF(line);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return result;
}

int mcx_debuglog_line(mcx_server *host, const char *format, mc_slice line)
{
    PyObject *shown;
    int result;

    if (!atomic_load(&host->is_debug)) {
        return 0;
    }
    shown = PyUnicode_DecodeUTF8(line.bytes, (Py_ssize_t)line.length, "replace");
    result = shown ? mcx_server_debuglog(host, format, shown) : -1;
    Py_XDECREF(shown);
    return result;
}

PyObject *mcx_status_text(const mc_connection *connection, mc_status status)
{
    switch (status) {
    case MC_TIMEOUT:
        return PyUnicode_FromString("timed out");
    case MC_CLOSED:
        return PyUnicode_FromString("connection closed in readline()");
    case MC_MALFORMED:
        return PyUnicode_FromString("a reply that the protocol does not allow");
    case MC_CROWDED:
        return PyUnicode_FromString("timed out while others were in the TLS handshake");
    default:
        break;
    }
    if (connection != NULL && connection->problem != NULL) {
        return PyUnicode_FromString(connection->problem);
    }
    if (connection != NULL && connection->resolver_error != 0) {
        return PyUnicode_FromFormat("[Errno %d] %s", connection->resolver_error,
                                    gai_strerror(connection->resolver_error));
    }
    int error = connection != NULL ? connection->error : 0;
    return PyUnicode_FromFormat("[Errno %d] %s", error, strerror(error));
}

int mcx_set_problem(mc_connection *connection, const char *words)
{
    size_t size = strlen(words) + 1;
    char *copy = mc_reallocate(connection->problem, size);

    if (copy == NULL) {
        return -1;
    }
    memcpy(copy, words, size);
    connection->problem = copy;
    return 0;
}

int mcx_keep_problem(mc_connection *connection)
{
    PyObject *type, *value, *traceback, *text;
    const char *words;
    int result;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    text = value ? PyObject_Str(value) : NULL;
    words = text ? PyUnicode_AsUTF8(text) : NULL;
    result = mcx_set_problem(connection, words ? words : "TLS failed");
    PyErr_Clear(); /* of an exception that cannot be shown */
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return result;
}
