/* python_socket: bytes that move through Python objects: any object with a socket's methods, where
 * socket.socket is not Python's own (gevent, eventlet, a SOCKS wrapper, a test's fake).
 *
 * With the GIL held throughout; what is called here may run any code, and switch greenlets. */
#include "python_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/fleet/pool.h"
#include "core/net/clock.h"
#include "core/net/connection.h"
#include "core/net/socket.h"

#include "compat.h"
#include "log.h"
#include "secret.h"
#include "server.h"
#include "state.h"

/* What one sendall is given: its timeout may be that of each of its steps (eventlet's is), and so
 * it gets all the time that is left only for so many bytes. */
#define SEND_AT_ONCE ((size_t)65536)

/* True where the exception that is set is an SSLError, whose number is no errno. */
static bool is_of_tls(void)
{
    PyObject *type, *value, *traceback, *class;
    bool is;

    PyErr_Fetch(&type, &value, &traceback); /* the look-up clears what it meets */
    class = mcx_imported("ssl", "SSLError");
    is = class != NULL && PyErr_GivenExceptionMatches(type, class);
    Py_XDECREF(class);
    PyErr_Restore(type, value, traceback);
    return is;
}

/* An exception as a status: network trouble is an answer, everything else goes to the caller. */
static mc_status from_exception(mc_connection *connection)
{
    mc_status status = MC_FAILED;

    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return MC_RAISED;
    }
    if (is_of_tls()) {
        return mcx_keep_problem(connection) < 0 ? MC_NO_MEMORY : MC_FAILED;
    }
    if (PyErr_ExceptionMatches(PyExc_TimeoutError)) {
        status = MC_TIMEOUT;
    }
    else if (PyErr_ExceptionMatches(PyExc_ConnectionResetError) ||
             PyErr_ExceptionMatches(PyExc_BrokenPipeError) ||
             PyErr_ExceptionMatches(PyExc_ConnectionAbortedError)) {
        status = MC_CLOSED;
    }
    PyObject *type, *value, *traceback, *number;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    number = value ? PyObject_GetAttrString(value, "errno") : NULL;
    connection->error = number && PyLong_Check(number) ? (int)PyLong_AsLong(number) : 0;
    Py_XDECREF(number);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    PyErr_Clear();
    return status;
}

/* 1 where there is such an attribute, 0; -1 with what the look-up raised. */
static int has_attribute(PyObject *object, const char *name)
{
    PyObject *found = PyObject_GetAttrString(object, name);

    if (found == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(found);
    return 1;
}

/* A test's fake may have no settimeout. */
static int set_timeout(PyObject *socket, int64_t left)
{
    PyObject *method = PyObject_GetAttrString(socket, "settimeout");
    PyObject *seconds, *result = NULL;

    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    seconds = left == INT64_MAX ? Py_NewRef(Py_None)
                                : PyFloat_FromDouble((double)left / (double)MC_SECOND);
    if (seconds != NULL) {
        result = PyObject_CallOneArg(method, seconds);
    }
    Py_DECREF(method);
    Py_XDECREF(seconds);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static mc_status prepare(mc_connection *connection, mc_clock *clock)
{
    int64_t left = mc_clock_left(clock, mc_clock_now());

    if (left == 0) {
        return MC_TIMEOUT;
    }
    return set_timeout(connection->socket, left) < 0 ? from_exception(connection) : MC_OK;
}

static mc_status python_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock)
{
    PyObject *bytes, *result;
    mc_status status = prepare(connection, clock);
    size_t length = pieces->iov_len < SEND_AT_ONCE ? pieces->iov_len : SEND_AT_ONCE;

    (void)count; /* a piece at a time */
    if (status != MC_OK) {
        return status;
    }
    bytes = mcx_copy_to_send(connection, pieces->iov_base, length);
    result = bytes ? PyObject_CallMethod(connection->socket, "sendall", "O", bytes) : NULL;
    if (result != NULL) {
        *moved = length;
    }
    else {
        status = from_exception(connection);
    }
    mcx_drop_sent(connection, bytes);
    Py_XDECREF(result);
    return status;
}

static size_t scatter(struct iovec *pieces, int count, const char *data, size_t length)
{
    size_t done = 0;

    for (int i = 0; i < count && done < length; i++) {
        size_t part = length - done < pieces[i].iov_len ? length - done : pieces[i].iov_len;

        memcpy(pieces[i].iov_base, data + done, part);
        done += part;
    }
    return done;
}

static mc_status python_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock)
{
    PyObject *data;
    size_t wanted = 0;
    int64_t left = mc_clock_left(clock, mc_clock_now());
    mc_status status;
    Py_buffer view;

    (void)all; /* the caller comes again for the rest */
    if (left == 0 && connection->overtime == 0) {
        return MC_TIMEOUT;
    }
    if (set_timeout(connection->socket, left) < 0) {
        return from_exception(connection);
    }
    for (int i = 0; i < count; i++) {
        wanted += pieces[i].iov_len;
    }
    wanted = wanted > (1 << 20) ? (1 << 20) : wanted;
    if (left == 0 && wanted > connection->overtime) {
        wanted = connection->overtime;
    }
    clock->late = true;
    data = PyObject_CallMethod(connection->socket, "recv", "n", (Py_ssize_t)wanted);
    if (data == NULL) {
        status = from_exception(connection);
        return left == 0 && status == MC_FAILED ? MC_TIMEOUT : status; /* it would have to wait */
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        /* A fake's '' is its end of file; anything else is no socket's answer. */
        PyErr_Clear(); /* before a __len__ runs */
        Py_ssize_t length = PyObject_Size(data);

        PyErr_Clear();
        Py_DECREF(data);
        return length == 0 ? MC_CLOSED : MC_MALFORMED;
    }
    if (view.len == 0) {
        status = MC_CLOSED;
    }
    else if ((size_t)view.len > wanted) {
        status = MC_MALFORMED;
    }
    else {
        *moved = scatter(pieces, count, view.buf, (size_t)view.len);
        status = MC_OK;
        connection->overtime -= left == 0 ? (uint32_t)view.len : 0;
    }
    PyBuffer_Release(&view);
    Py_DECREF(data);
    return status;
}

int mcx_python_has_timeout(const mc_connection *connection)
{
    return has_attribute(connection->socket, "settimeout");
}

int mcx_python_allow_overtime(mc_connection *connection, uint32_t bytes)
{
    int has_timeout = mcx_python_has_timeout(connection);

    connection->overtime = has_timeout > 0 ? bytes : 0; /* without one it would wait for ever */
    return has_timeout < 0 ? -1 : 0;
}

static void python_close(mc_connection *connection)
{
    PyObject *socket = connection->socket;
    PyObject *class = (PyObject *)connection->kind;
    PyObject *type, *value, *traceback, *result = NULL;
    /* Another thread's, whose host ends here: its methods are for that thread, its end is not. */
    bool is_own = connection->owner == 0 || connection->owner == mcx_thread_number();

    connection->socket = NULL;
    connection->fd = -1;
    PyErr_Fetch(&type, &value, &traceback);
    if (is_own) {
        result = PyObject_CallMethod(socket, "close", NULL);
    }
    if (is_own && result == NULL) {
        if (PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* it is closed all the same */
        }
        else {
            PyErr_WriteUnraisable(socket);
        }
    }
    Py_XDECREF(result);
    Py_DECREF(socket);
    Py_DECREF(class);
    PyErr_Restore(type, value, traceback);
}

/* ---- whose connections are ------------------------------------------------------------------ */

static _Atomic uint64_t next_thread_number = 1;
static _Thread_local uint64_t thread_number;

uint64_t mcx_thread_number(void)
{
    if (UNLIKELY(thread_number == 0)) {
        thread_number = atomic_fetch_add_explicit(&next_thread_number, 1, memory_order_relaxed);
    }
    return thread_number;
}

uint64_t mcx_socket_owner(PyObject *socket_class)
{
    for (PyTypeObject *each = PyType_Check(socket_class) ? (PyTypeObject *)socket_class : NULL;
         each != NULL; each = each->tp_base) {
        if (strcmp(each->tp_name, "_socket.socket") == 0) {
            return 0;
        }
    }
    return mcx_thread_number();
}

/* What stands in the thread's own dict, and so ends with the thread, in that thread: it closes the
 * connections that the thread alone may touch. */
typedef struct {
    PyObject_HEAD
    PyObject *hosts; /* a WeakSet */
} thread_end;

static void close_owned(PyObject *hosts)
{
    PyObject *list = PySequence_List(hosts);

    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        mcx_server *host = (mcx_server *)PyList_GET_ITEM(list, i);
        mc_connection *connection;

        while ((connection = mc_pool_take_owned(&host->server.pool, mcx_thread_number())) != NULL) {
            mc_pool_give(connection, false, 0);
        }
    }
    Py_XDECREF(list);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(hosts);
    }
}

static void owner_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *error, *value, *traceback;

    PyErr_Fetch(&error, &value, &traceback);
    close_owned(((thread_end *)self)->hosts);
    PyErr_Restore(error, value, traceback);
    Py_DECREF(((thread_end *)self)->hosts);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot owner_slots[] = {
    {Py_tp_dealloc, owner_dealloc},
    {Py_tp_doc, "A thread's connections that no other thread may touch."},
    {0, NULL},
};

PyType_Spec mcx_owner_spec = {
    .name = "mcext._core._Owner",
    .basicsize = sizeof(thread_end),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = owner_slots,
};

/* host has a connection that is the calling thread's. */
static int note_owned(mcx_module *module, mcx_server *host)
{
    PyObject *dict = PyThreadState_GetDict(), *end = NULL, *set = NULL, *added = NULL;

    if (dict == NULL || PyDict_GetItemRef(dict, (PyObject *)module->owner_type, &end) < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (end == NULL) {
        set = mcx_import("weakref", "WeakSet");
        if (set != NULL) {
            Py_SETREF(set, PyObject_CallNoArgs(set));
        }
        end = set ? module->owner_type->tp_alloc(module->owner_type, 0) : NULL;
        if (end == NULL) {
            Py_XDECREF(set);
            return -1;
        }
        ((thread_end *)end)->hosts = set;
        if (PyDict_SetItem(dict, (PyObject *)module->owner_type, end) < 0) {
            Py_DECREF(end);
            return -1;
        }
    }
    added = PyObject_CallMethod(((thread_end *)end)->hosts, "add", "O", host);
    Py_XDECREF(added);
    Py_DECREF(end);
    return added == NULL ? -1 : 0;
}

static mc_status python_connect(mc_connection *connection, mc_connecting *state,
                                const mc_endpoint *to, mc_clock *clock)
{
    mcx_server *host = mcx_server_of(connection);
    PyObject *socket_class = (PyObject *)connection->kind; /* the call's, until it is open */
    PyObject *socket, *result = NULL;

    (void)to; /* the host has it as Python's objects; the socket's own connect waits */
    mc_connecting_spend(state, clock);
    int64_t left = mc_clock_connect_left(clock);
    mc_status status = MC_OK;

    connection->overtime = 0;
    if (left == 0) {
        return MC_TIMEOUT;
    }
    socket = PyObject_CallFunction(socket_class, "Oi", host->family, (int)SOCK_STREAM);
    if (socket == NULL) {
        return from_exception(connection);
    }
    if (set_timeout(socket, left) == 0) {
        result = PyObject_CallMethod(socket, "connect", "(O)", host->address);
    }
    if (result == NULL) {
        status = from_exception(connection);
    }
    Py_XDECREF(result);
    mc_connecting_spend(state, clock);
    connection->socket = socket; /* owned from here on; closed with the connection */
    /* Held as long: else another one could come to stand at its address, and pass for the same. */
    connection->kind = Py_NewRef(socket_class);
    connection->fd = -1;
    if (status != MC_OK) {
        python_close(connection);
        return status;
    }
    int has_fileno = has_attribute(socket, "fileno");

    if (has_fileno > 0) {
        connection->fd = PyObject_AsFileDescriptor(socket);
        if (connection->fd < 0) {
            PyErr_Clear();
        }
    }
    if (has_fileno < 0 || (connection->owner != 0 && note_owned(host->module, host) < 0)) {
        python_close(connection);
        return MC_RAISED;
    }
    return MC_OK;
}

static bool python_is_quiet(mc_connection *connection)
{
    return connection->fd < 0 || mc_socket_is_quiet(connection->fd);
}

const mc_transport mcx_python_transport = {
    .connect = python_connect,
    .send = python_send,
    .receive = python_receive,
    .is_quiet = python_is_quiet,
    .close = python_close,
};
