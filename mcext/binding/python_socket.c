/* python_socket: bytes that move through Python objects: any object with a socket's methods, where
 * socket.socket is not Python's own (gevent, eventlet, a SOCKS wrapper, a test's fake), and hosts
 * whose methods are replaced.
 *
 * With the GIL held throughout; what is called here may run any code, and switch greenlets. */
#include "mcx.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* What one sendall is given: its timeout may be that of each of its steps (eventlet's is), and so
 * it gets all the time that is left only for so many bytes. */
#define SEND_AT_ONCE ((size_t)65536)

/* An exception as a status: network trouble is an answer, everything else goes to the caller. */
static mc_status from_exception(mc_connection *connection)
{
    mc_status status = MC_FAILED;

    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return MC_RAISED;
    }
    if (PyErr_ExceptionMatches(PyExc_TimeoutError)) {
        status = MC_TIMEOUT;
    }
    else if (PyErr_ExceptionMatches(PyExc_ConnectionResetError) ||
             PyErr_ExceptionMatches(PyExc_BrokenPipeError) ||
             PyErr_ExceptionMatches(PyExc_ConnectionAbortedError)) {
        status = MC_CLOSED;
    }
    if (connection != NULL) {
        PyObject *type, *value, *traceback, *number;

        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        number = value ? PyObject_GetAttrString(value, "errno") : NULL;
        connection->error = number && PyLong_Check(number) ? (int)PyLong_AsLong(number) : 0;
        Py_XDECREF(number);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    PyErr_Clear();
    return status;
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
    return set_timeout(connection->handle, left) < 0 ? from_exception(connection) : MC_OK;
}

static mc_status send_piece(mc_connection *connection, struct iovec *pieces, size_t *moved,
                            mc_clock *clock)
{
    PyObject *bytes, *result;
    mc_status status = prepare(connection, clock);
    size_t length = pieces->iov_len < SEND_AT_ONCE ? pieces->iov_len : SEND_AT_ONCE;

    if (status != MC_OK) {
        return status;
    }
    bytes = PyBytes_FromStringAndSize(pieces->iov_base, (Py_ssize_t)length);
    result = bytes ? PyObject_CallMethod(connection->handle, "sendall", "O", bytes) : NULL;
    Py_XDECREF(bytes);
    if (result == NULL) {
        return from_exception(connection);
    }
    Py_DECREF(result);
    *moved = length;
    return MC_OK;
}

static mc_status python_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock)
{
    mc_status status;

    (void)count; /* a piece at a time */
    connection->moving = true;
    status = send_piece(connection, pieces, moved, clock);
    connection->moving = false;
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

static mc_status receive_pieces(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, mc_clock *clock)
{
    PyObject *data;
    size_t wanted = 0;
    int64_t left = mc_clock_left(clock, mc_clock_now());
    mc_status status;
    Py_buffer view;

    if (left == 0 && connection->overtime == 0) {
        return MC_TIMEOUT;
    }
    if (set_timeout(connection->handle, left) < 0) {
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
    data = PyObject_CallMethod(connection->handle, "recv", "n", (Py_ssize_t)wanted);
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

void mcx_python_allow_overtime(mc_connection *connection, uint32_t bytes)
{
    /* Without settimeout it would wait for ever. */
    connection->overtime = PyObject_HasAttrString(connection->handle, "settimeout") ? bytes : 0;
}

static mc_status python_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock)
{
    mc_status status;

    (void)all; /* the caller comes again for the rest */
    connection->moving = true;
    status = receive_pieces(connection, pieces, count, moved, clock);
    connection->moving = false;
    return status;
}

static void python_close(mc_connection *connection)
{
    PyObject *socket = connection->handle;
    PyObject *class = (PyObject *)connection->kind;
    PyObject *type, *value, *traceback, *result;

    connection->handle = NULL;
    connection->fd = -1;
    PyErr_Fetch(&type, &value, &traceback);
    result = PyObject_CallMethod(socket, "close", NULL);
    if (result == NULL) {
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

const mc_transport mcx_python_transport = {python_send, python_receive, python_close};

mc_status mcx_python_connect(mcx_module *module, mc_connection *connection, PyObject *socket_class,
                             mcx_host *host, mc_clock *clock)
{
    int64_t left = mc_clock_connect_left(clock);
    int64_t before = mc_clock_now();
    PyObject *socket, *result = NULL;
    mc_status status = MC_OK;

    (void)module;
    connection->resolver_error = connection->error = 0;
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
    clock->connecting += mc_clock_now() - before;
    clock->late = true;
    connection->transport = &mcx_python_transport;
    connection->handle = socket; /* owned from here on; closed with the connection */
    /* Held as long: else another one could come to stand at its address, and pass for the same. */
    connection->kind = Py_NewRef(socket_class);
    connection->fd = -1;
    if (status != MC_OK) {
        PyObject *type, *value, *traceback;

        PyErr_Fetch(&type, &value, &traceback);
        python_close(connection);
        PyErr_Restore(type, value, traceback);
        return status;
    }
    if (PyObject_HasAttrString(socket, "fileno")) {
        connection->fd = PyObject_AsFileDescriptor(socket);
        if (connection->fd < 0) {
            PyErr_Clear();
        }
    }
    atomic_store(&connection->open, 1);
    return MC_OK;
}

/* ---- a host's own methods ------------------------------------------------------------------- */

mc_status mcx_host_exception(mcx_call *call)
{
    if (PyErr_ExceptionMatches(call->module->error) ||
        PyErr_ExceptionMatches(call->module->connection_dead_error)) {
        PyErr_Clear();
        return MC_CLOSED;
    }
    return from_exception(NULL);
}

/* A host's methods have a timeout each: that they share the call's deadline is seen between them.
 */
static bool is_over(const mcx_call *call)
{
    return mc_clock_left(&call->clock, mc_clock_now()) == 0;
}

mc_status mcx_host_send(mcx_call *call, PyObject *host, struct iovec *pieces, int count, bool many)
{
    size_t length = 0;
    PyObject *bytes, *result;
    PyObject *method = call->module->host_hooks[many ? MCX_HOOK_SEND_CMDS : MCX_HOOK_SEND_CMD];
    char *at;

    if (is_over(call)) {
        return MC_TIMEOUT;
    }
    for (int i = 0; i < count; i++) {
        length += pieces[i].iov_len;
    }
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (bytes == NULL) {
        return MC_RAISED;
    }
    at = PyBytes_AS_STRING(bytes);
    for (int i = 0; i < count; i++) {
        memcpy(at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    if (!many && _PyBytes_Resize(&bytes, (Py_ssize_t)length - 2) < 0) { /* send_cmd adds CRLF */
        return MC_RAISED;
    }
    result = PyObject_CallMethodOneArg(host, method, bytes);
    Py_DECREF(bytes);
    if (result == NULL) {
        return mcx_host_exception(call);
    }
    Py_DECREF(result);
    return MC_OK;
}

/* object, from readline or recv, as bytes: a new reference or NULL without an exception. */
static PyObject *as_bytes(PyObject *object)
{
    PyObject *bytes = NULL;

    if (PyBytes_Check(object)) {
        return Py_NewRef(object);
    }
    if (PyUnicode_Check(object)) {
        bytes = PyUnicode_AsUTF8String(object);
    }
    else if (PyObject_CheckBuffer(object)) {
        bytes = PyBytes_FromObject(object);
    }
    if (bytes == NULL) {
        PyErr_Clear();
    }
    return bytes;
}

static mc_status receive_body(mcx_call *call, PyObject *host, mc_exchange *exchange)
{
    size_t wanted = exchange->missing + 2;
    PyObject *size = PyLong_FromSize_t(wanted);
    PyObject *object =
        size ? PyObject_CallMethodOneArg(host, call->module->host_hooks[MCX_HOOK_RECV], size)
             : NULL;
    PyObject *bytes;
    mc_status status = MC_MALFORMED;

    Py_XDECREF(size);
    if (object == NULL) {
        return mcx_host_exception(call);
    }
    bytes = as_bytes(object);
    Py_DECREF(object);
    if (bytes != NULL && (size_t)PyBytes_GET_SIZE(bytes) == wanted) {
        memcpy(exchange->room, PyBytes_AS_STRING(bytes), exchange->missing);
        mc_exchange_put(exchange, exchange->missing);
        status = mc_buffer_append(exchange->in, PyBytes_AS_STRING(bytes) + wanted - 2, 2)
                     ? MC_OK
                     : MC_NO_MEMORY;
    }
    Py_XDECREF(bytes);
    return status;
}

mc_status mcx_host_receive(mcx_call *call, PyObject *host, mc_exchange *exchange)
{
    PyObject *line, *bytes;
    mc_status status = MC_OK;

    if (is_over(call)) {
        return MC_TIMEOUT;
    }
    if (mc_exchange_is_in_body(exchange)) {
        return receive_body(call, host, exchange);
    }
    line = PyObject_CallMethodNoArgs(host, call->module->host_hooks[MCX_HOOK_READLINE]);
    if (line == NULL) {
        return mcx_host_exception(call);
    }
    bytes = as_bytes(line);
    if (bytes == NULL) {
        status = MC_MALFORMED;
    }
    else if (PyBytes_GET_SIZE(bytes) == 0) {
        status = MC_CLOSED;
    }
    else if (!mc_buffer_append(exchange->in, PyBytes_AS_STRING(bytes),
                               (size_t)PyBytes_GET_SIZE(bytes)) ||
             !mc_buffer_append(exchange->in, "\r\n", 2)) {
        status = MC_NO_MEMORY;
    }
    Py_XSETREF(call->last_line, line);
    Py_XDECREF(bytes);
    return status;
}
