#include "faults.h"

#include <string.h>

#include "core/net/connection.h"
#include "core/wire/command.h"
#include "core/wire/error_line.h"
#include "core/wire/reply.h"

#include "async.h"
#include "cache.h"
#include "call.h"
#include "compat.h"
#include "log.h"
#include "server.h"
#include "state.h"
#include "watch.h"

/* mcext.errors.name(message, server=..., command=..., may_have_run=...): a new reference. */
static PyObject *make(const char *name, PyObject *message, PyObject *server, mc_command command,
                      bool may_have_run)
{
    PyObject *class = mcx_import("mcext.errors", name);
    PyObject *arguments = class ? PyTuple_Pack(1, message) : NULL;
    PyObject *keywords = arguments
                             ? Py_BuildValue("{sOsssO}", "server", server ? server : Py_None,
                                             "command", mcx_command_name(command), "may_have_run",
                                             may_have_run ? Py_True : Py_False)
                             : NULL;
    PyObject *error = keywords ? PyObject_Call(class, arguments, keywords) : NULL;

    Py_XDECREF(class);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return error;
}

static int append(PyObject **list, PyObject *item)
{
    if (*list == NULL && (*list = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_Append(*list, item);
}

/* Keeps a new fault with the call; steals message, which may be NULL. */
static int note(mcx_call *call, const char *name, PyObject *message, mcx_server *host,
                mc_command command, bool may_have_run)
{
    PyObject *server = host != NULL && message != NULL ? mcx_server_written(host) : NULL;
    PyObject *error = NULL;
    int result = -1;

    if (message != NULL && (host == NULL || server != NULL)) {
        error = make(name, message, server, command, may_have_run);
    }
    if (error != NULL) {
        result = append(&call->faults, error);
    }
    Py_XDECREF(message);
    Py_XDECREF(server);
    Py_XDECREF(error);
    return result;
}

int mcx_fault_connect(mcx_call *call, mcx_server *host, mc_connection *connection, mc_status status)
{
    bool late = status == MC_TIMEOUT || status == MC_CROWDED;
    PyObject *text = status == MC_TIMEOUT ? PyUnicode_FromString("the connect timed out")
                                          : mcx_status_text(connection, status);

    return note(call, late ? "ServerTimeout" : "ServerUnavailable", text, host, call->command,
                false);
}

int mcx_fault_authentication(mcx_call *call, mcx_server *host, PyObject *text, PyObject *cause)
{
    if (note(call, "AuthenticationError", Py_NewRef(text), host, call->command, false) < 0) {
        return -1;
    }
    if (cause != NULL) {
        PyException_SetCause(PyList_GET_ITEM(call->faults, PyList_GET_SIZE(call->faults) - 1),
                             Py_NewRef(cause));
    }
    return 0;
}

int mcx_fault_dead(mcx_call *call, mcx_server *host)
{
    if (call->faults != NULL) {
        return 0; /* it is this call that has marked it, or what failed before says more */
    }
    return note(call, "ServerUnavailable",
                PyUnicode_FromString("marked dead after a failure, and not yet to be tried again"),
                host, call->command, false);
}

PyObject *mcx_fault_take(const char *name)
{
    PyObject *type, *value, *traceback, *class;
    bool is_one;

    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    class = mcx_import("mcext.errors", name);
    is_one = class != NULL && value != NULL && PyObject_TypeCheck(value, (PyTypeObject *)class);
    if (class != NULL && !is_one) {
        Py_DECREF(class);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    if (is_one && traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(class);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (!is_one) {
        Py_CLEAR(value);
    }
    return value;
}

int mcx_fault_keep(mcx_call *call, mcx_server *host)
{
    PyObject *error = mcx_fault_take("DecodeError");
    PyObject *server = error ? mcx_server_written(host) : NULL;
    int result = -1;

    if (server != NULL && PyObject_SetAttrString(error, "server", server) == 0) {
        result = append(&call->faults, error);
    }
    Py_XDECREF(server);
    Py_XDECREF(error);
    return result;
}

int mcx_fault_no_meta(mcx_call *call)
{
    return note(call, "ServerError",
                PyUnicode_FromString("the server has no meta protocol (memcached 1.6.10)"),
                call->host, call->command, false);
}

int mcx_fault_conflict(mcx_call *call)
{
    return note(call, "ConflictError", PyUnicode_FromString("others were faster at each try"), NULL,
                call->command, false);
}

/* Where servers are found by asking: why there are none. A new str, or NULL with an exception. */
static PyObject *why_nobody(mcx_call *call)
{
    PyObject *why = mcx_watch_why(call->shared), *text = NULL;

    if (why != NULL) {
        text = PyUnicode_FromFormat("there are no servers: %U", why);
        Py_DECREF(why);
    }
    else if (!PyErr_Occurred()) {
        text = PyUnicode_FromString("there are no servers");
    }
    return text;
}

int mcx_fault_nobody(mcx_call *call)
{
    if (call->faults != NULL) {
        return 0;
    }
    return note(call, "ServerUnavailable",
                call->snapshot->bucket_count == 0 ? why_nobody(call)
                                                  : PyUnicode_FromString("no server can be used"),
                NULL, call->command, false);
}

/* The last, which is of the leg that has just ended: others may be of other servers. */
int mcx_fault_has_run(mcx_call *call)
{
    if (mcx_fault_nobody(call) < 0) {
        return -1;
    }
    return PyObject_SetAttrString(PyList_GET_ITEM(call->faults, PyList_GET_SIZE(call->faults) - 1),
                                  "may_have_run", Py_True);
}

PyObject *mcx_protocol_text(mc_slice line)
{
    if (line.length == 0) {
        return PyUnicode_FromString("a reply that the protocol does not allow");
    }

    PyObject *bytes = PyBytes_FromStringAndSize(line.bytes, (Py_ssize_t)Py_MIN(line.length, 80));
    PyObject *text =
        bytes ? PyUnicode_FromFormat("the server said what is no answer to this command: %R", bytes)
              : NULL;

    Py_XDECREF(bytes);
    return text;
}

int mcx_fault_leg(mcx_call *call, mcx_server *host, const mc_leg *leg)
{
    mc_slice line = leg->exchange.reply.line;

    if (leg->verdict.answered) {
        return 0; /* its error line is noted */
    }
    if (host == NULL) {
        return mcx_fault_has_run(call); /* what went to the old connection */
    }
    if (leg->verdict.status == MC_MALFORMED && leg->exchange.lost_count) {
        return 0; /* the same: with it the other answers were lost */
    }
    if (leg->verdict.status == MC_MALFORMED && line.length != 0 &&
        mc_error_is_unauthenticated(&leg->exchange.reply)) {
        return mcx_fault_line(call, host, &leg->exchange.reply); /* in place of a marker's reply */
    }
    switch (leg->verdict.status) {
    case MC_TIMEOUT:
        return note(call, "ServerTimeout", PyUnicode_FromString("timed out"), host, leg->command,
                    leg->asked);
    case MC_MALFORMED:
        return note(call, "ProtocolError", mcx_protocol_text(line), host, leg->command, leg->asked);
    case MC_REFUSED:
        return note(call, "ServerUnavailable", mcx_status_text(leg->connection, MC_REFUSED), host,
                    leg->command, leg->asked);
    case MC_CLOSED:
        return note(call, "ConnectionLost",
                    PyUnicode_FromString("the server closed the connection"), host, leg->command,
                    leg->asked);
    default:
        return note(call, "ConnectionLost", mcx_status_text(leg->connection, leg->verdict.status),
                    host, leg->command, leg->asked);
    }
}

static bool is_text(mc_slice text, const char *wanted)
{
    return text.length == strlen(wanted) && memcmp(text.bytes, wanted, text.length) == 0;
}

/* An ERROR or CLIENT_ERROR says that the command was refused, and so do two of memcached's
 * SERVER_ERRORs; any other may be a proxy's, who does not know either. */
static bool may_have_run(const mc_reply *reply)
{
    return reply->type == MC_REPLY_SERVER_ERROR &&
           !is_text(reply->text, "object too large for cache") &&
           !is_text(reply->text, "out of memory storing object");
}

const char *mcx_line_fault(const mc_reply *reply, bool *has_run)
{
    *has_run = may_have_run(reply);
    return is_text(reply->text, "object too large for cache") ? "ValueTooLarge"
           : mc_error_is_unauthenticated(reply)               ? "AuthenticationError"
                                                              : "ServerError";
}

int mcx_fault_line(mcx_call *call, mcx_server *host, const mc_reply *reply)
{
    bool has_run;
    const char *name = mcx_line_fault(reply, &has_run);

    return note(call, name,
                PyUnicode_DecodeUTF8(reply->line.bytes, (Py_ssize_t)reply->line.length, "replace"),
                host, call->command, has_run);
}

int mcx_fault_note(mcx_call *call, const mcx_afault *fault)
{
    PyObject *text = fault->text != NULL ? Py_NewRef(fault->text) : PyUnicode_FromString("");

    if (note(call, fault->name, text, fault->host, call->command, fault->may_have_run) < 0) {
        return -1;
    }
    if (fault->cause != NULL) {
        PyException_SetCause(PyList_GET_ITEM(call->faults, PyList_GET_SIZE(call->faults) - 1),
                             Py_NewRef(fault->cause));
    }
    return 0;
}

const char *mcx_fault_class(const char *name)
{
    static const char *const names[] = {"ServerUnavailable", "ServerTimeout", "AuthenticationError",
                                        "ConnectionLost"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            return names[i];
        }
    }
    return names[0];
}

int mcx_fault_too_large(mcx_call *call, mcx_server *host, PyObject *key)
{
    return note(call, "ValueTooLarge",
                PyUnicode_FromFormat("the value of %R is larger than max_value_length (%zd bytes)",
                                     key, call->snapshot->max_value_length),
                host, call->command, false);
}

COLD int mcx_event(mcx_call *call, const char *kind, mcx_server *host, PyObject *error, size_t keys)
{
    PyObject *server, *event = NULL;
    int result = -1;

    if (call->cache->on_event == NULL) {
        return 0;
    }
    server = host != NULL ? mcx_server_written(host) : Py_NewRef(Py_None);
    if (server != NULL) {
        event = Py_BuildValue("(ssNndOO)", kind, mcx_command_name(call->command), server,
                              (Py_ssize_t)keys, (double)(mc_clock_now() - call->clock.start) / 1e9,
                              error ? error : Py_None, Py_False);
    }
    if (event != NULL) {
        result = append(&call->events, event);
        Py_DECREF(event);
    }
    return result;
}
