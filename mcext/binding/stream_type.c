/* stream_type: the type `_Stream`, and what hosts do on the caller's stream.
 * mcext.pure.stream.Stream derives from it: here is what every call does, there what is rare. */
#include "stream_type.h"

#include <stddef.h>
#include <structmember.h>

#include "server.h"
#include "state.h"
#include "stream.h"

/* seconds: a stream that was idle for longer is looked at before it is used */
#define LOOK_AFTER 1.0

/* ---- state -------------------------------------------------------------------------------------
 */

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
    stream->used = mcx_monotonic();
    Py_RETURN_NONE;
}

static PyObject *stream_begin(PyObject *self, PyObject *args)
{
    PyObject *object, *given;
    double start;

    if (!PyArg_ParseTuple(args, "OO:begin", &object, &given)) {
        return NULL;
    }
    mcx_server *host = mcx_stream_host((mcx_stream *)self, object);

    if (host == NULL || mcx_to_seconds(given, &start) < 0) {
        return NULL;
    }
    mcx_stream_begin((mcx_stream *)self, host, start);
    Py_RETURN_NONE;
}

static PyObject *stream_end(PyObject *self, PyObject *unused)
{
    mcx_stream *stream = (mcx_stream *)self;

    if (mcx_stream_unread(stream) == 0 && stream->sends <= 1) {
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
    mcx_server *host = mcx_stream_host(stream, object);

    if (host == NULL) {
        return NULL;
    }
    if (!stream->busy) {
        Py_RETURN_NONE;
    }
    stream->busy = false;
    stream->deadline = MCX_NONE;
    if (mcx_stream_is_in_step(stream, host) && !stream->is_parked && mcx_is_absent(stream->below) &&
        mcx_is_absent(stream->spare)) {
        Py_RETURN_NONE;
    }
    return PyObject_CallMethod(object, "_leave", "O", self);
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
    if (mcx_stream_is_in_step(stream, (mcx_server *)self) &&
        mcx_monotonic() - stream->used < LOOK_AFTER) {
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

    if (stream == NULL || mcx_to_seconds(given, &start) < 0) {
        Py_CLEAR(stream);
    }
    else if (mcx_stream_is_in_step(stream, (mcx_server *)self)) {
        mcx_stream_begin(stream, (mcx_server *)self, start);
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
    if (!PyErr_Occurred() && mcx_stream_send(stream, (mcx_server *)self, data) == 0) {
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
    PyObject *line =
        stream ? mcx_stream_read_line(stream, mcx_timeout_of((mcx_server *)self)) : NULL;

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
    PyObject *data = stream ? function(stream, size, mcx_timeout_of((mcx_server *)self)) : NULL;

    Py_XDECREF(stream);
    return data;
}

PyObject *mcx_host_read(PyObject *self, PyObject *size)
{
    return with_size(self, size, mcx_stream_read);
}

PyObject *mcx_host_receive(PyObject *self, PyObject *size)
{
    return with_size(self, size, mcx_stream_receive);
}

/* ---- the type ------------------------------------------------------------------------------- */

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    mcx_stream *stream = (mcx_stream *)type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (stream != NULL) {
        stream->module = mcx_module_by_new(type, stream_new);
        stream->buffer = mcx_no_bytes();
        stream->deadline = stream->most = stream->connect_within = MCX_NONE;
        stream->timeout = MCX_UNKNOWN;
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
    return mcx_from_seconds(*seconds_at(self, offset));
}

static int set_seconds(PyObject *self, PyObject *value, void *offset)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the attribute cannot be deleted");
        return -1;
    }
    return mcx_to_seconds(value, seconds_at(self, offset));
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
    return mcx_stream_set_unread((mcx_stream *)self, Py_NewRef(value));
}

/* A new socket, or None: what it has as its timeout is not known. */
static PyObject *stream_forget_timeout(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((mcx_stream *)self)->timeout = MCX_UNKNOWN;
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
     "mcx_stream_begin($self, host, start, /)\n--\n\n"
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
