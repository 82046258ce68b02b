/* stream: what one thread has of a server on the way in Python: a socket
 * object, bytes that were read of it and not used, and whether it is in step.
 * The type stands in stream_type.c.
 *
 * Belongs to one thread. Each call of the socket's methods may run any code, and change the stream.
 */
#include "stream.h"

#include <math.h>
#include <string.h>

#include "core/net/clock.h"
#include "core/net/process.h"

#include "server.h"
#include "state.h"

/* A socket's timeout is set anew where it is off by more than this part of what is left. */
#define SLACK 0.02
#define LEAST_READ 4096                    /* bytes */
#define LONGEST_LINE ((Py_ssize_t)1 << 20) /* bytes without an end of line */
/* bytes that a socket which is not Python's own is given */
#define SEND_AT_ONCE ((Py_ssize_t)1 << 16)

double mcx_monotonic(void)
{
    return (double)mc_clock_now() / (double)MC_SECOND;
}

PyObject *mcx_no_bytes(void)
{
    return PyBytes_FromStringAndSize(NULL, 0);
}

bool mcx_is_absent(const PyObject *object)
{
    return object == NULL || object == Py_None;
}

int mcx_to_seconds(PyObject *object, double *seconds)
{
    double value = object == Py_None ? MCX_NONE : PyFloat_AsDouble(object);

    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *seconds = value;
    return 0;
}

PyObject *mcx_from_seconds(double seconds)
{
    return seconds < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(seconds);
}

mcx_server *mcx_stream_host(mcx_stream *stream, PyObject *object)
{
    if (!mcx_is_server(stream->module, object)) {
        PyErr_Format(PyExc_TypeError, "a host is needed, not %.100s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    return (mcx_server *)object;
}

double mcx_timeout_of(const mcx_server *host)
{
    int64_t timeout = atomic_load_explicit(&host->timeout, memory_order_relaxed);

    return timeout == MC_NO_TIMEOUT ? MCX_NONE : (double)timeout / (double)MC_SECOND;
}

/* ---- bytes read ---------------------------------------------------------------------------- */

Py_ssize_t mcx_stream_unread(const mcx_stream *stream)
{
    return PyBytes_GET_SIZE(stream->buffer) - stream->at;
}

int mcx_stream_set_unread(mcx_stream *stream, PyObject *bytes)
{
    if (bytes == NULL) {
        return -1;
    }
    Py_SETREF(stream->buffer, bytes);
    stream->at = 0;
    return 0;
}

/* The next bytes of the buffer, of which some more are skipped: a new reference. */
static PyObject *take(mcx_stream *stream, Py_ssize_t size, Py_ssize_t skipped)
{
    PyObject *taken;

    if (stream->at == 0 && size == PyBytes_GET_SIZE(stream->buffer)) {
        taken = Py_NewRef(stream->buffer);
    }
    else {
        taken = PyBytes_FromStringAndSize(PyBytes_AS_STRING(stream->buffer) + stream->at, size);
    }
    if (taken != NULL) {
        stream->at += size + skipped;
        if (mcx_stream_unread(stream) == 0) {
            (void)mcx_stream_set_unread(stream, mcx_no_bytes());
        }
    }
    return taken;
}

/* ---- state ---------------------------------------------------------------------------------- */

bool mcx_stream_is_in_step(mcx_stream *stream, mcx_server *host)
{
    return !mcx_is_absent(stream->socket) && stream->in_step &&
           stream->stamp == mcx_server_stamp(host);
}

void mcx_stream_begin(mcx_stream *stream, mcx_server *host, double start)
{
    double now = mcx_monotonic(), seconds = mcx_timeout_of(host);

    if (stream->most >= 0 && (seconds < 0 || stream->most < seconds)) {
        seconds = stream->most;
    }
    stream->deadline = seconds < 0 ? MCX_NONE : (start < 0 ? now : start) + seconds;
    stream->late = (char)(stream->deadline >= 0 && now >= stream->deadline);
    stream->busy = true;
    stream->in_step = stream->started = false;
    stream->sends = stream->lines = stream->owed = 0;
    Py_CLEAR(stream->command);
    Py_CLEAR(stream->line);
}

void mcx_stream_begin_anew(mcx_stream *stream)
{
    stream->in_step = true;
    stream->started = false;
    stream->sends = stream->lines = 0;
    Py_CLEAR(stream->command);
    Py_CLEAR(stream->line);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

/* Raises where a call forked in its middle, and this is the child: the stream is the parent's. */
static int check_process(const mcx_stream *stream)
{
    if (stream->stamp >> 32 == mc_process_generation()) {
        return 0;
    }
    PyErr_SetString(PyExc_ConnectionError, "the connection is another process's");
    return -1;
}

/* Calls a method of the Python class that takes seconds. */
static int call_with_seconds(mcx_stream *stream, const char *name, double seconds)
{
    PyObject *object = mcx_from_seconds(seconds);
    PyObject *result = object ? PyObject_CallMethod((PyObject *)stream, name, "O", object) : NULL;

    Py_XDECREF(object);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Sets the socket's timeout, where that is not what it has already. */
static int limit(mcx_stream *stream, double seconds)
{
    if (stream->timeout == MCX_UNKNOWN && call_with_seconds(stream, "_ask_timeout", seconds) < 0) {
        return -1;
    }
    if (stream->most >= 0 && (seconds < 0 || seconds > stream->most)) {
        seconds = stream->most;
    }
    if (stream->timeout == seconds || (stream->timeout >= 0 && seconds >= 0 &&
                                       fabs(stream->timeout - seconds) <= seconds * SLACK)) {
        return 0;
    }
    return call_with_seconds(stream, "_set_timeout", seconds);
}

static int not_connected(void)
{
    PyErr_SetString(PyExc_ConnectionError, "the host is not connected: call connect() first");
    return -1;
}

static PyObject *send_all(mcx_stream *stream, PyObject *socket, PyObject *data)
{
    PyObject *arguments[] = {stream->kind, socket, data, stream->flags};
    size_t count = mcx_is_absent(stream->flags) ? 3 : 4;

    return mcx_is_absent(stream->kind)
               ? PyObject_CallMethodOneArg(socket, stream->module->str_sendall, data)
               : PyObject_VectorcallMethod(stream->module->str_sendall, arguments, count, NULL);
}

/* What is sent next of data, in pieces: bytes from start on. */
static int send_piece(mcx_stream *stream, PyObject *socket, PyObject *data, Py_ssize_t start,
                      double seconds)
{
    PyObject *piece, *result;

    if (stream->deadline >= 0) {
        seconds = stream->deadline - mcx_monotonic();
        if (seconds <= 0 && start > 0) {
            PyErr_SetString(PyExc_TimeoutError, "timed out");
            return -1;
        }
        seconds = seconds > 0.001 ? seconds : 0.001;
    }
    if (limit(stream, seconds) < 0) {
        return -1;
    }
    piece = stream->in_pieces ? PySequence_GetSlice(data, start, start + SEND_AT_ONCE)
                              : Py_NewRef(data);
    result = piece ? send_all(stream, socket, piece) : NULL;
    Py_XDECREF(piece);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int send_pieces(mcx_stream *stream, mcx_server *host, PyObject *data, Py_ssize_t size)
{
    PyObject *socket = Py_NewRef(stream->socket);
    Py_ssize_t start = 0;
    int failed;

    do {
        failed = send_piece(stream, socket, data, start, mcx_timeout_of(host));
        start += SEND_AT_ONCE;
    } while (!failed && stream->in_pieces && start < size);
    if (!failed && stream->socket != socket) {
        PyErr_SetString(PyExc_ConnectionError, "the connection was closed");
        failed = -1;
    }
    Py_DECREF(socket);
    return failed;
}

int mcx_stream_send_secret(mcx_stream *stream, mcx_server *host, PyObject *data)
{
    if (mcx_is_absent(stream->socket)) {
        return not_connected();
    }
    stream->in_step = false;
    return check_process(stream) < 0 ? -1 : send_pieces(stream, host, data, PyBytes_GET_SIZE(data));
}

int mcx_stream_send(mcx_stream *stream, mcx_server *host, PyObject *data)
{
    PyObject *done;
    Py_ssize_t size = PyObject_Size(data);

    if (mcx_is_absent(stream->socket)) {
        return not_connected();
    }
    if (size < 0 || check_process(stream) < 0) {
        return -1;
    }
    if (stream->busy) { /* what the call has sent is counted: it knows its reply */
        stream->in_step = false;
        stream->sends++;
    }
    else {
        done = PyObject_CallMethod((PyObject *)stream, "_note", "O", data);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    return send_pieces(stream, host, data, size);
}

PyObject *mcx_stream_receive(mcx_stream *stream, Py_ssize_t size, double seconds)
{
    PyObject *socket, *wanted, *data = NULL;

    if (mcx_is_absent(stream->socket)) {
        return mcx_no_bytes();
    }
    if (check_process(stream) < 0) {
        return NULL;
    }
    wanted = PyLong_FromSsize_t(size);
    if (wanted == NULL) {
        return NULL;
    }
    socket = Py_NewRef(stream->socket);
    if (stream->deadline >= 0) {
        seconds = stream->deadline - mcx_monotonic();
    }
    if (stream->deadline >= 0 && seconds <= 0) {
        data = PyObject_CallMethod((PyObject *)stream, "_receive_at_once", "O", wanted);
    }
    else if (limit(stream, seconds) == 0) {
        data = PyObject_CallMethodOneArg(socket, stream->module->str_recv, wanted);
        if (data == NULL && stream->socket != socket && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* a signal handler has closed it, or the socket's own method */
            data = mcx_no_bytes();
        }
    }
    Py_DECREF(socket);
    Py_DECREF(wanted);
    if (data != NULL && !PyBytes_CheckExact(data)) {
        Py_SETREF(data, PyObject_IsTrue(data) ? PyBytes_FromObject(data) : mcx_no_bytes());
    }
    if (data != NULL && PyBytes_GET_SIZE(data) != 0) {
        stream->started = true;
    }
    return data;
}

PyObject *mcx_stream_read_line(mcx_stream *stream, double seconds)
{
    Py_ssize_t searched = 0;

    for (;;) {
        const char *bytes = PyBytes_AS_STRING(stream->buffer) + stream->at;
        Py_ssize_t length = mcx_stream_unread(stream);
        const char *end = searched < length
                              ? memmem(bytes + searched, (size_t)(length - searched), "\r\n", 2)
                              : NULL;

        if (end != NULL) {
            PyObject *line = take(stream, end - bytes, 2);

            if (line != NULL) {
                Py_XSETREF(stream->line, Py_NewRef(line));
                stream->lines++;
            }
            return line;
        }
        if (length > LONGEST_LINE) {
            PyErr_Format(stream->module->error, "a line of more than %zd bytes", LONGEST_LINE);
            return NULL;
        }
        PyObject *more = mcx_stream_receive(stream, LEAST_READ, seconds);

        if (more != NULL && PyBytes_GET_SIZE(more) == 0) {
            Py_DECREF(more);
            Py_RETURN_NONE;
        }
        /* The socket's own method may have read by this host: then the buffer is another. */
        searched = mcx_stream_unread(stream) == length && length > 0 ? length - 1 : 0;
        if (more != NULL && mcx_stream_unread(stream) > 0) {
            PyObject *whole = take(stream, mcx_stream_unread(stream), 0);

            PyBytes_ConcatAndDel(&whole, more);
            more = whole;
        }
        if (mcx_stream_set_unread(stream, more) < 0) {
            return NULL;
        }
    }
}

/* How long the bytes are, which it steals, and which may be NULL of an error; or -1. */
static Py_ssize_t append(PyObject *list, PyObject *bytes)
{
    Py_ssize_t length = bytes ? PyBytes_GET_SIZE(bytes) : -1;

    if (list == NULL || bytes == NULL || PyList_Append(list, bytes) < 0) {
        length = -1;
    }
    Py_XDECREF(bytes);
    return length;
}

PyObject *mcx_stream_read(mcx_stream *stream, Py_ssize_t size, double seconds)
{
    PyObject *parts, *empty, *joined;
    Py_ssize_t have = mcx_stream_unread(stream), got;

    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "rlen must not be negative");
        return NULL;
    }
    if (size <= have) {
        return take(stream, size, 0);
    }
    if (mcx_is_absent(stream->socket)) {
        (void)not_connected();
        return NULL;
    }
    parts = PyList_New(0);
    if (have > 0 && append(parts, take(stream, have, 0)) < 0) {
        Py_CLEAR(parts);
    }
    while (parts != NULL && have < size) {
        got = append(parts,
                     mcx_stream_receive(stream, size - have > LEAST_READ ? size - have : LEAST_READ,
                                        seconds));
        if (got == 0) {
            PyErr_Format(stream->module->error,
                         "Read %zd bytes, expecting %zd, read returned 0 length bytes", have, size);
        }
        if (got <= 0) {
            Py_CLEAR(parts);
        }
        have += got;
    }
    empty = parts ? mcx_no_bytes() : NULL;
    joined = empty ? PyObject_CallMethod(empty, "join", "O", parts) : NULL;
    Py_XDECREF(empty);
    Py_XDECREF(parts);
    return mcx_stream_set_unread(stream, joined) < 0 ? NULL : take(stream, size, 0);
}
