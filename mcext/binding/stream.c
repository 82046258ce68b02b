/* stream: the type `_Stream`: what one thread has of a server on the way in Python: a socket
 * object, bytes that were read of it and not used, and whether it is in step.
 * mcext.pure.stream.Stream derives from it: here is what every call does, there what is rare.
 *
 * Belongs to one thread. Each call of the socket's methods may run any code, and change the stream.
 */
#include "mcx.h"

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* A socket's timeout is set anew where it is off by more than this part of what is left. */
#define SLACK 0.02
#define LOOK_AFTER                                                                                 \
    1.0             /* seconds: a stream that was idle for longer is looked at before it is used */
#define NONE (-1.0) /* no timeout, no deadline */
#define UNKNOWN (-2.0)                     /* the timeout of a socket that somebody else made */
#define LEAST_READ 4096                    /* bytes */
#define LONGEST_LINE ((Py_ssize_t)1 << 20) /* bytes without an end of line */
#define SEND_AT_ONCE                                                                               \
    ((Py_ssize_t)1 << 16) /* bytes that a socket which is not Python's own is given */

typedef struct {
    PyObject_HEAD
    mcx_module *module; /* its type's, which keeps it */
    PyObject *socket;   /* None: there is no connection; here and below NULL is None */
    PyObject *kind;     /* the class of the socket below one that tells what is sent, or None */
    PyObject *flags;    /* of kind's sendall, where there is a kind */
    PyObject *buffer;   /* bytes that were read, */
    Py_ssize_t at;      /* and how many of them were used */
    PyObject *command;  /* the first request since it was in step, where it is one command */
    PyObject *line;     /* the last that was read of the replies */
    PyObject *below; /* the stream of an outer call of this thread that waits for the inner one */
    PyObject *spare; /* an inner call's, to come into the place of this one, which is old */
    uint64_t stamp;  /* the host's when the socket came: it moves with each disconnect and fork */
    double deadline; /* of the call that uses it, by the monotonic clock */
    double timeout;  /* as the socket has it */
    double most;     /* seconds that whoever made the socket gave it, where fewer than ours */
    double connect_within; /* seconds that the next connect may take */
    double used;           /* when it was last in step */
    int sends;             /* requests since the stream was last in step */
    int lines;             /* of replies, read since then */
    int unanswered;        /* noreply commands since then */
    int owed;              /* of these, when a marker was sent behind them that is not yet read */
    char in_step;          /* all replies have been read whole */
    char busy;             /* a call of a client is between its request and the end of the reply */
    char is_parked;        /* it is below an inner call's */
    char started;          /* a byte of the reply has come */
    char in_pieces; /* the socket is not Python's own: it may give each step the time of all */
    char late;      /* the deadline had passed before the request went out */
} mcx_stream;

static double monotonic(void)
{
    return (double)mc_clock_now() / (double)MC_SECOND;
}

static PyObject *no_bytes(void)
{
    return PyBytes_FromStringAndSize(NULL, 0);
}

static bool is_absent(const PyObject *object)
{
    return object == NULL || object == Py_None;
}

/* Seconds of a Python number; NONE of None. */
static int to_seconds(PyObject *object, double *seconds)
{
    double value = object == Py_None ? NONE : PyFloat_AsDouble(object);

    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *seconds = value;
    return 0;
}

static PyObject *from_seconds(double seconds)
{
    return seconds < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(seconds);
}

static mcx_server *host_of(mcx_stream *stream, PyObject *object)
{
    if (!mcx_is_server(stream->module, object)) {
        PyErr_Format(PyExc_TypeError, "a host is needed, not %.100s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    return (mcx_server *)object;
}

static double timeout_of(const mcx_server *host)
{
    int64_t timeout = atomic_load_explicit(&host->timeout, memory_order_relaxed);

    return timeout == MC_NO_TIMEOUT ? NONE : (double)timeout / (double)MC_SECOND;
}

/* ---- bytes read ---------------------------------------------------------------------------- */

/* How many bytes were read and are not used. */
static Py_ssize_t unread(const mcx_stream *stream)
{
    return PyBytes_GET_SIZE(stream->buffer) - stream->at;
}

/* Sets the buffer; steals the reference, NULL of an error too. */
static int set_unread(mcx_stream *stream, PyObject *bytes)
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
        if (unread(stream) == 0) {
            (void)set_unread(stream, no_bytes());
        }
    }
    return taken;
}

/* ---- state ---------------------------------------------------------------------------------- */

static PyObject *stream_sent(PyObject *self, PyObject *command)
{
    mcx_stream *stream = (mcx_stream *)self;

    if (stream->in_step || stream->sends == 0) {
        Py_XSETREF(stream->command, Py_NewRef(command));
        Py_CLEAR(stream->line);
        stream->lines = stream->sends = 0;
        stream->started = stream->in_step = false;
    }
    stream->sends++;
    Py_RETURN_NONE;
}

static PyObject *stream_step(PyObject *self, PyObject *unused)
{
    mcx_stream *stream = (mcx_stream *)self;

    (void)unused;
    stream->in_step = true;
    stream->sends = 0;
    stream->used = monotonic();
    Py_RETURN_NONE;
}

static bool is_in_step(mcx_stream *stream, mcx_server *host)
{
    return !is_absent(stream->socket) && stream->in_step && stream->stamp == mcx_server_stamp(host);
}

static void begin(mcx_stream *stream, mcx_server *host, double start)
{
    double now = monotonic(), seconds = timeout_of(host);

    if (stream->most >= 0 && (seconds < 0 || stream->most < seconds)) {
        seconds = stream->most;
    }
    stream->deadline = seconds < 0 ? NONE : (start < 0 ? now : start) + seconds;
    stream->late = (char)(stream->deadline >= 0 && now >= stream->deadline);
    stream->busy = true;
    stream->in_step = stream->started = false;
    stream->sends = stream->lines = stream->owed = 0;
    Py_CLEAR(stream->command);
    Py_CLEAR(stream->line);
}

static PyObject *stream_begin(PyObject *self, PyObject *args)
{
    PyObject *object, *given;
    double start;

    if (!PyArg_ParseTuple(args, "OO:begin", &object, &given)) {
        return NULL;
    }
    mcx_server *host = host_of((mcx_stream *)self, object);

    if (host == NULL || to_seconds(given, &start) < 0) {
        return NULL;
    }
    begin((mcx_stream *)self, host, start);
    Py_RETURN_NONE;
}

static PyObject *stream_end(PyObject *self, PyObject *unused)
{
    mcx_stream *stream = (mcx_stream *)self;

    if (unread(stream) == 0 && stream->sends <= 1) {
        return stream_step(self, unused);
    }
    Py_RETURN_NONE;
}

static PyObject *stream_settle(PyObject *self, PyObject *host)
{
    mcx_stream *stream = (mcx_stream *)self;
    int owed = stream->owed;

    stream->owed = 0;
    return owed ? PyObject_CallMethod(host, "_read_to_marker", "i", owed) : Py_NewRef(Py_None);
}

static PyObject *stream_resume(PyObject *self, PyObject *host)
{
    return ((mcx_stream *)self)->is_parked ? PyObject_CallMethod(host, "_restore", "O", self)
                                           : Py_NewRef(Py_None);
}

static PyObject *stream_leave(PyObject *self, PyObject *object)
{
    mcx_stream *stream = (mcx_stream *)self;
    mcx_server *host = host_of(stream, object);

    if (host == NULL) {
        return NULL;
    }
    if (!stream->busy) {
        Py_RETURN_NONE;
    }
    stream->busy = false;
    stream->deadline = NONE;
    if (is_in_step(stream, host) && !stream->is_parked && is_absent(stream->below) &&
        is_absent(stream->spare)) {
        Py_RETURN_NONE;
    }
    return PyObject_CallMethod(object, "_leave", "O", self);
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
    PyObject *object = from_seconds(seconds);
    PyObject *result = object ? PyObject_CallMethod((PyObject *)stream, name, "O", object) : NULL;

    Py_XDECREF(object);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Sets the socket's timeout, where that is not what it has already. */
static int limit(mcx_stream *stream, double seconds)
{
    if (stream->timeout == UNKNOWN && call_with_seconds(stream, "_ask_timeout", seconds) < 0) {
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

    return is_absent(stream->kind)
               ? PyObject_CallMethodOneArg(socket, stream->module->str_sendall, data)
               : PyObject_VectorcallMethod(stream->module->str_sendall, arguments, 4, NULL);
}

/* What is sent next of data, in pieces: bytes from start on. */
static int send_piece(mcx_stream *stream, PyObject *socket, PyObject *data, Py_ssize_t start,
                      double seconds)
{
    PyObject *piece, *result;

    if (stream->deadline >= 0) {
        seconds = stream->deadline - monotonic();
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

static int send(mcx_stream *stream, mcx_server *host, PyObject *data)
{
    PyObject *socket, *done;
    Py_ssize_t size = PyObject_Size(data), start = 0;
    int failed;

    if (is_absent(stream->socket)) {
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
    socket = Py_NewRef(stream->socket);
    do {
        failed = send_piece(stream, socket, data, start, timeout_of(host));
        start += SEND_AT_ONCE;
    } while (!failed && stream->in_pieces && start < size);
    if (!failed && stream->socket != socket) {
        PyErr_SetString(PyExc_ConnectionError, "the connection was closed");
        failed = -1;
    }
    Py_DECREF(socket);
    return failed;
}

/* What the socket gives next: a new reference to bytes, which are empty where the server has
 * closed. Within the deadline of the call that uses the stream, else within the host's timeout;
 * behind the deadline only what is there already, else TimeoutError. */
static PyObject *receive(mcx_stream *stream, Py_ssize_t size, double seconds)
{
    PyObject *socket, *wanted, *data = NULL;

    if (is_absent(stream->socket)) {
        return no_bytes();
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
        seconds = stream->deadline - monotonic();
    }
    if (stream->deadline >= 0 && seconds <= 0) {
        data = PyObject_CallMethod((PyObject *)stream, "_receive_at_once", "O", wanted);
    }
    else if (limit(stream, seconds) == 0) {
        data = PyObject_CallMethodOneArg(socket, stream->module->str_recv, wanted);
        if (data == NULL && stream->socket != socket && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* a signal handler has closed it, or the socket's own method */
            data = no_bytes();
        }
    }
    Py_DECREF(socket);
    Py_DECREF(wanted);
    if (data != NULL && !PyBytes_CheckExact(data)) {
        Py_SETREF(data, PyObject_IsTrue(data) ? PyBytes_FromObject(data) : no_bytes());
    }
    if (data != NULL && PyBytes_GET_SIZE(data) != 0) {
        stream->started = true;
    }
    return data;
}

/* The next line without its end; None where the server has closed. */
static PyObject *read_line(mcx_stream *stream, double seconds)
{
    Py_ssize_t searched = 0;

    for (;;) {
        const char *bytes = PyBytes_AS_STRING(stream->buffer) + stream->at;
        Py_ssize_t length = unread(stream);
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
        PyObject *more = receive(stream, LEAST_READ, seconds);

        if (more != NULL && PyBytes_GET_SIZE(more) == 0) {
            Py_DECREF(more);
            Py_RETURN_NONE;
        }
        /* The socket's own method may have read by this host: then the buffer is another. */
        searched = unread(stream) == length && length > 0 ? length - 1 : 0;
        if (more != NULL && unread(stream) > 0) {
            PyObject *whole = take(stream, unread(stream), 0);

            PyBytes_ConcatAndDel(&whole, more);
            more = whole;
        }
        if (set_unread(stream, more) < 0) {
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

/* Exactly so many bytes. */
static PyObject *read_bytes(mcx_stream *stream, Py_ssize_t size, double seconds)
{
    PyObject *parts, *empty, *joined;
    Py_ssize_t have = unread(stream), got;

    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "rlen must not be negative");
        return NULL;
    }
    if (size <= have) {
        return take(stream, size, 0);
    }
    if (is_absent(stream->socket)) {
        (void)not_connected();
        return NULL;
    }
    parts = PyList_New(0);
    if (have > 0 && append(parts, take(stream, have, 0)) < 0) {
        Py_CLEAR(parts);
    }
    while (parts != NULL && have < size) {
        got = append(parts,
                     receive(stream, size - have > LEAST_READ ? size - have : LEAST_READ, seconds));
        if (got == 0) {
            PyErr_Format(stream->module->error,
                         "Read %zd bytes, expecting %zd, read returned 0 length bytes", have, size);
        }
        if (got <= 0) {
            Py_CLEAR(parts);
        }
        have += got;
    }
    empty = parts ? no_bytes() : NULL;
    joined = empty ? PyObject_CallMethod(empty, "join", "O", parts) : NULL;
    Py_XDECREF(empty);
    Py_XDECREF(parts);
    return set_unread(stream, joined) < 0 ? NULL : take(stream, size, 0);
}

/* ---- a host's ------------------------------------------------------------------------------- */

/* The caller's stream to a host: a new reference. */
static mcx_stream *find_stream(PyObject *self)
{
    mcx_server *host = (mcx_server *)self;
    mcx_module *module = host->module;
    PyObject *streams = __atomic_load_n(&host->streams, __ATOMIC_ACQUIRE);
    PyObject *found = NULL;
    int greenlets = PyDict_Contains(PyImport_GetModuleDict(), module->str_greenlet);

    if (greenlets == 0 && streams != NULL) {
        found = PyObject_GetAttr(streams, module->str_own);
    }
    if (found == Py_None) {
        Py_CLEAR(found);
    }
    if (found == NULL && !PyErr_Occurred()) {
        found = PyObject_CallMethod(self, "_find_here", NULL);
    }
    if (found != NULL && !PyObject_TypeCheck(found, module->stream_type)) {
        PyErr_SetString(PyExc_TypeError, "not a stream");
        Py_CLEAR(found);
    }
    return (mcx_stream *)found;
}

PyObject *mcx_host_here(PyObject *self, PyObject *unused)
{
    (void)unused;
    return (PyObject *)find_stream(self);
}

PyObject *mcx_host_ready_socket(PyObject *self, PyObject *unused)
{
    mcx_stream *stream = find_stream(self);
    PyObject *socket = Py_None;

    (void)unused;
    if (stream == NULL) {
        return NULL;
    }
    if (is_in_step(stream, (mcx_server *)self) && monotonic() - stream->used < LOOK_AFTER) {
        socket = stream->socket;
    }
    Py_INCREF(socket);
    Py_DECREF(stream);
    return socket;
}

PyObject *mcx_host_begin(PyObject *self, PyObject *given)
{
    mcx_stream *stream = find_stream(self);
    double start;

    if (stream == NULL || to_seconds(given, &start) < 0) {
        Py_CLEAR(stream);
    }
    else if (is_in_step(stream, (mcx_server *)self)) {
        begin(stream, (mcx_server *)self, start);
    }
    else {
        Py_DECREF(stream);
        Py_RETURN_NONE;
    }
    return (PyObject *)stream;
}

PyObject *mcx_host_send(PyObject *self, PyObject *data)
{
    mcx_stream *stream = find_stream(self);
    PyObject *result = NULL;

    if (stream == NULL) {
        return NULL;
    }
    if (stream->unanswered && !stream->busy) {
        result = PyObject_CallMethod(self, "_bring_in_step", "O", stream);
    }
    if (!PyErr_Occurred() && send(stream, (mcx_server *)self, data) == 0) {
        Py_XSETREF(result, Py_NewRef(Py_None));
    }
    else {
        Py_CLEAR(result);
    }
    Py_DECREF(stream);
    return result;
}

PyObject *mcx_host_read_line(PyObject *self, PyObject *unused)
{
    mcx_stream *stream = find_stream(self);
    PyObject *line = stream ? read_line(stream, timeout_of((mcx_server *)self)) : NULL;

    (void)unused;
    Py_XDECREF(stream);
    return line;
}

/* By size, of read and receive. */
static PyObject *with_size(PyObject *self, PyObject *given,
                           PyObject *(*function)(mcx_stream *, Py_ssize_t, double))
{
    Py_ssize_t size = PyNumber_AsSsize_t(given, PyExc_OverflowError);
    mcx_stream *stream = size == -1 && PyErr_Occurred() ? NULL : find_stream(self);
    PyObject *data = stream ? function(stream, size, timeout_of((mcx_server *)self)) : NULL;

    Py_XDECREF(stream);
    return data;
}

PyObject *mcx_host_read(PyObject *self, PyObject *size)
{
    return with_size(self, size, read_bytes);
}

PyObject *mcx_host_receive(PyObject *self, PyObject *size)
{
    return with_size(self, size, receive);
}

/* ---- the type ------------------------------------------------------------------------------- */

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    mcx_stream *stream = (mcx_stream *)type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (stream != NULL) {
        stream->module = mcx_module_by_new(type, stream_new);
        stream->buffer = no_bytes();
        stream->deadline = stream->most = stream->connect_within = NONE;
        stream->timeout = UNKNOWN;
        stream->in_step = true;
        if (stream->buffer == NULL) {
            Py_CLEAR(stream);
        }
    }
    return (PyObject *)stream;
}

static int stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_stream *stream = (mcx_stream *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(stream->socket);
    Py_VISIT(stream->kind);
    Py_VISIT(stream->command);
    Py_VISIT(stream->below);
    Py_VISIT(stream->spare);
    return 0;
}

static int stream_clear(PyObject *self)
{
    mcx_stream *stream = (mcx_stream *)self;

    Py_CLEAR(stream->socket);
    Py_CLEAR(stream->kind);
    Py_CLEAR(stream->command);
    Py_CLEAR(stream->below);
    Py_CLEAR(stream->spare);
    return 0;
}

static void stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_stream *stream = (mcx_stream *)self;

    PyObject_GC_UnTrack(self);
    (void)stream_clear(self);
    Py_CLEAR(stream->flags);
    Py_CLEAR(stream->buffer);
    Py_CLEAR(stream->line);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The field of the struct whose offset an attribute's descriptor has. */
static double *seconds_at(PyObject *self, void *offset)
{
    void *field = (char *)self + (size_t)offset;

    return field;
}

static PyObject *get_seconds(PyObject *self, void *offset)
{
    return from_seconds(*seconds_at(self, offset));
}

static int set_seconds(PyObject *self, PyObject *value, void *offset)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the attribute cannot be deleted");
        return -1;
    }
    return to_seconds(value, seconds_at(self, offset));
}

static PyObject *get_buffer(PyObject *self, void *closure)
{
    mcx_stream *stream = (mcx_stream *)self;

    (void)closure;
    return PySequence_GetSlice(stream->buffer, stream->at, PY_SSIZE_T_MAX);
}

static int set_buffer(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    if (value == NULL || !PyBytes_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "the buffer must be bytes");
        return -1;
    }
    return set_unread((mcx_stream *)self, Py_NewRef(value));
}

/* A new socket, or None: what it has as its timeout is not known. */
static PyObject *stream_forget_timeout(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((mcx_stream *)self)->timeout = UNKNOWN;
    Py_RETURN_NONE;
}

#define SECONDS(name)                                                                              \
    {                                                                                              \
#name, get_seconds, set_seconds, NULL, (void *)offsetof(mcx_stream, name)                  \
    }

static PyGetSetDef stream_getset[] = {
    SECONDS(deadline),
    SECONDS(timeout),
    SECONDS(most),
    SECONDS(connect_within),
    {"buffer", get_buffer, set_buffer, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
    {"socket", T_OBJECT, offsetof(mcx_stream, socket), 0, NULL},
    {"kind", T_OBJECT, offsetof(mcx_stream, kind), 0, NULL},
    {"flags", T_OBJECT, offsetof(mcx_stream, flags), 0, NULL},
    {"command", T_OBJECT, offsetof(mcx_stream, command), 0, NULL},
    {"line", T_OBJECT, offsetof(mcx_stream, line), 0, NULL},
    {"below", T_OBJECT, offsetof(mcx_stream, below), 0, NULL},
    {"spare", T_OBJECT, offsetof(mcx_stream, spare), 0, NULL},
    {"stamp", T_ULONGLONG, offsetof(mcx_stream, stamp), 0, NULL},
    {"used", T_DOUBLE, offsetof(mcx_stream, used), 0, NULL},
    {"sends", T_INT, offsetof(mcx_stream, sends), 0, NULL},
    {"lines", T_INT, offsetof(mcx_stream, lines), 0, NULL},
    {"unanswered", T_INT, offsetof(mcx_stream, unanswered), 0, NULL},
    {"owed", T_INT, offsetof(mcx_stream, owed), 0, NULL},
    {"in_step", T_BOOL, offsetof(mcx_stream, in_step), 0, NULL},
    {"busy", T_BOOL, offsetof(mcx_stream, busy), 0, NULL},
    {"is_parked", T_BOOL, offsetof(mcx_stream, is_parked), 0, NULL},
    {"started", T_BOOL, offsetof(mcx_stream, started), 0, NULL},
    {"in_pieces", T_BOOL, offsetof(mcx_stream, in_pieces), 0, NULL},
    {"late", T_BOOL, offsetof(mcx_stream, late), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    {"sent", stream_sent, METH_O,
     "sent($self, command, /)\n--\n\n"
     "Before the first byte of a request leaves. command: its line; None where it is not one."},
    {"step", stream_step, METH_NOARGS, "step($self, /)\n--\n\nThe reply has been read whole."},
    {"begin", stream_begin, METH_VARARGS,
     "begin($self, host, start, /)\n--\n\n"
     "Mark it out of step, for a request of a call that began at start (None: now): whatever\n"
     "moves the bytes, from here on it is not to be trusted."},
    {"end", stream_end, METH_NOARGS,
     "end($self, /)\n--\n\nstep(), where one request was sent and nothing is behind its reply."},
    {"settle", stream_settle, METH_O,
     "settle($self, host, /)\n--\n\n"
     "Before the reply is read: what the server said to noreply commands that came before goes."},
    {"resume", stream_resume, METH_O,
     "resume($self, host, /)\n--\n\n"
     "The caller's own code has run, which may have used the host: this stream comes back."},
    {"leave", stream_leave, METH_O,
     "leave($self, host, /)\n--\n\nThe call is over: what is not in step is closed."},
    {"forget_timeout", stream_forget_timeout, METH_NOARGS,
     "forget_timeout($self, /)\n--\n\nAsk the socket for its timeout before it is used next."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_new, stream_new},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {Py_tp_members, stream_members},
    {Py_tp_doc, "What every call does with a thread's connection on the way in Python."},
    {0, NULL},
};

PyType_Spec mcx_stream_spec = {
    .name = "mcext._core._Stream",
    .basicsize = sizeof(mcx_stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = stream_slots,
};
