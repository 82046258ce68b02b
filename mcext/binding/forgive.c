#include "forgive.h"

#include "core/wire/command.h"

#include "call.h"
#include "compat.h"
#include "faults.h"
#include "log.h"
#include "state.h"

/* error.__cause__ = the exception that is set, which is taken. */
static void chain_cause(PyObject *error)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    PyException_SetCause(error, value); /* steals */
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

/* DecodeError(text, server=..., command=..., flags=...): a new reference. */
static PyObject *make_error(mcx_call *call, PyObject *class, PyObject *text)
{
    PyObject *server = call->host ? mcx_server_written(call->host) : Py_NewRef(Py_None);
    PyObject *arguments = server ? PyTuple_Pack(1, text) : NULL;
    PyObject *keywords =
        arguments ? Py_BuildValue("{sOsssI}", "server", server, "command",
                                  mcx_command_name(call->command), "flags", (unsigned)call->flags)
                  : NULL;
    PyObject *error = keywords ? PyObject_Call(class, arguments, keywords) : NULL;

    Py_XDECREF(server);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return error;
}

/* A DecodeError, for why or for the exception that is set. NULL. */
static COLD PyObject *raise_error(mcx_call *call, const char *why)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL, *text, *class, *error = NULL;

    if (why == NULL) { /* it is the exception that is set */
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
    }
    text = why != NULL ? PyUnicode_FromFormat("the value cannot be decoded (flags %u): %s",
                                              (unsigned)call->flags, why)
                       : PyUnicode_FromFormat("the value cannot be decoded (flags %u): %R",
                                              (unsigned)call->flags, value);
    class = text ? mcx_import("mcext.errors", "DecodeError") : NULL;
    if (class != NULL) {
        error = make_error(call, class, text);
    }
    if (error != NULL && type != NULL) {
        PyErr_Restore(type, value, traceback);
        type = value = traceback = NULL;
        chain_cause(error);
    }
    if (error != NULL) {
        PyErr_SetObject(class, error);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_XDECREF(text);
    Py_XDECREF(class);
    Py_XDECREF(error);
    return NULL;
}

COLD PyObject *mcx_forgive(mcx_call *call, const char *format)
{
    PyObject *error;
    int result;

    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
    if (call->cache != NULL) {
        return raise_error(call, NULL);
    }
#if PY_VERSION_HEX >= 0x030C0000
    error = PyErr_GetRaisedException();
#else
    {
        PyObject *type, *traceback;

        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
#endif
    result = mcx_debuglog(call, format, error);
    Py_DECREF(error);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

COLD PyObject *mcx_give_up(mcx_call *call, const char *format, const char *why)
{
    if (call->cache != NULL) {
        return raise_error(call, why);
    }
    return mcx_debuglog(call, format, why) < 0 ? NULL : Py_NewRef(Py_None);
}
