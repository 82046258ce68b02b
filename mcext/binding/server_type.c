/* server_type: the `_Server` type: the data of a server, the base class of mcext.pure.host._Host.
 *
 * Its address, weight, timeouts and dead mark, and the pool of connections that calls of the way in
 * C use. What python-memcached's users call is the subclass's, in Python. */
#include "server_type.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

#include "core/fleet/server.h"
#include "core/net/address.h"
#include "core/net/clock.h"
#include "core/net/connection.h"
#include "core/wire/key.h"

#include "arguments.h"
#include "compat.h"
#include "first_words.h"
#include "replaced.h"
#include "server.h"
#include "server_address.h"
#include "state.h"
#include "stream_type.h"
#include "tls_options.h"

/* ---- options -------------------------------------------------------------------------------- */

/* Readers: they check what is assigned and fill what calls look at. */

static int read_dead_retry(mcx_server *host, PyObject *value)
{
    double retry = PyFloat_AsDouble(value);

    if (retry == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "dead_retry is too large a number of seconds");
        }
        else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "dead_retry must be a number of seconds, not %.100s",
                         Py_TYPE(value)->tp_name);
        }
        return -1;
    }
    int64_t microseconds = mcx_microseconds(retry);

    atomic_store(&host->dead_retry_us, microseconds > 0 ? microseconds : 0);
    return 0;
}

static int read_socket_timeout(mcx_server *host, PyObject *value)
{
    int64_t timeout;

    if (mcx_seconds(value, "socket_timeout", &timeout) < 0) {
        return -1;
    }
    if (host->connect_timeout == NULL || host->connect_timeout == Py_None) {
        atomic_store(&host->connect_within, timeout);
    }
    atomic_store(&host->timeout, timeout);
    return 0;
}

/* None: it is socket_timeout. */
static int read_connect_timeout(mcx_server *host, PyObject *value)
{
    int64_t timeout = atomic_load(&host->timeout);

    if (value != Py_None && mcx_seconds(value, "connect_timeout", &timeout) < 0) {
        return -1;
    }
    atomic_store(&host->connect_within, timeout);
    return 0;
}

static int read_truth(_Atomic int *field, PyObject *value)
{
    int flag = PyObject_IsTrue(value);

    if (flag >= 0) {
        atomic_store(field, flag);
    }
    return flag < 0 ? -1 : 0;
}

static int read_debug(mcx_server *host, PyObject *value)
{
    return read_truth(&host->is_debug, value);
}

static int read_flush_on_reconnect(mcx_server *host, PyObject *value)
{
    return read_truth(&host->does_flush, value);
}

/* Of a client, which has looked at them. */
static int read_secret(mcx_server *host, PyObject *value)
{
    if (value == Py_None || Py_IS_TYPE(value, host->module->secret_type)) {
        return 0;
    }
    PyErr_SetString(PyExc_TypeError, "username and password are set on the client");
    return -1;
}

/* The first ones are arguments, too. */
static const struct {
    size_t field; /* the object, as assigned */
    int (*read)(mcx_server *host, PyObject *value);
    long fallback;
} options[] = {
    {offsetof(mcx_server, debug), read_debug, 0},
    {offsetof(mcx_server, dead_retry), read_dead_retry, 30},
    {offsetof(mcx_server, socket_timeout), read_socket_timeout, 3},
    {offsetof(mcx_server, flush_on_reconnect), read_flush_on_reconnect, 0},
    {offsetof(mcx_server, connect_timeout), read_connect_timeout, 0},
    {offsetof(mcx_server, username), read_secret, 0},
    {offsetof(mcx_server, password), read_secret, 0},
};

enum {
    ARGUMENT_COUNT = 4,
    OPTION_COUNT = sizeof options / sizeof *options
};

static PyObject **field_at(mcx_server *host, size_t offset)
{
    return (PyObject **)((char *)host + offset);
}

/* Assigns what stands at the offset: an option or the weight. NULL: there is no such attribute
 * until it is assigned again, and what it was stays in force. */
static int assign(mcx_server *host, size_t offset, PyObject *value)
{
    for (int i = 0; value != NULL && i < OPTION_COUNT; i++) {
        if (options[i].field == offset && options[i].read(host, value) < 0) {
            return -1;
        }
    }
    Py_XSETREF(*field_at(host, offset), Py_XNewRef(value));
    return 0;
}

/* ---- making --------------------------------------------------------------------------------- */

static PyObject *server_alloc(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (self != NULL) {
        /* Until it has an address no call may take it. */
        atomic_init(&((mcx_server *)self)->server.dead_until, INT64_MAX);
        ((mcx_server *)self)->module = mcx_module_by_new(type, server_alloc);
    }
    return self;
}

static int set_address(mcx_server *host, const mc_address *parsed)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    PyObject *text = PyUnicode_DecodeUTF8(parsed->host.bytes, (Py_ssize_t)parsed->host.length,
                                          "surrogateescape");

    host->family = PyLong_FromLong(families[parsed->family]);
    if (text == NULL || host->family == NULL) {
        Py_XDECREF(text);
        return -1;
    }
    if (parsed->family == MC_FAMILY_UNIX) {
        host->address = text;
        return 0;
    }
    host->ip = text;
    host->port = PyLong_FromLong(parsed->port);
    host->address = host->port ? PyTuple_Pack(2, host->ip, host->port) : NULL;
    return host->address == NULL ? -1 : 0;
}

/* What it is called: of what is a str and more, the str. called: NULL where it has no name. */
static int set_names(mcx_server *host, PyObject *written, PyObject *called)
{
    host->written = PyUnicode_FromObject(written);
    host->name = called != NULL ? PyUnicode_FromObject(called) : NULL;
    return host->written == NULL || (host->name == NULL && called != NULL) ? -1 : 0;
}

static int server_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    mcx_server *host = (mcx_server *)self;
    PyObject *address, *weight = NULL, *called, *given[1 + ARGUMENT_COUNT] = {NULL};
    PyObject *owner = NULL, *name = NULL;
    mc_address parsed, remote;
    int result = -1;
    static char *names[] = {"host", "debug", "dead_retry", "socket_timeout", "flush_on_reconnect",
                            NULL};

    if (host->initialised) {
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has been called before");
        return -1;
    }
    if (host->module == NULL) {
        PyErr_SetString(PyExc_TypeError, "_Host was not made by its own __new__");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|OOOO:_Host", names, &given[0], &given[1],
                                     &given[2], &given[3], &given[4])) {
        return -1;
    }
    if (mcx_server_split(given[0], &address, &weight, &called) < 0 ||
        mcx_server_parse(address, &parsed, &owner) < 0 ||
        mcx_server_find_remote(&parsed, &remote, &name) < 0) {
        goto done;
    }
    for (int i = 0; i < ARGUMENT_COUNT; i++) {
        PyObject *value =
            given[i + 1] ? Py_NewRef(given[i + 1]) : PyLong_FromLong(options[i].fallback);
        int assigned = value ? assign(host, options[i].field, value) : -1;

        Py_XDECREF(value);
        if (assigned < 0) {
            goto done;
        }
    }
    if (host->initialised) { /* by what an option's own methods called */
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has been called before");
        goto done;
    }
    if (set_address(host, &parsed) < 0 || set_names(host, address, called) < 0) {
        goto done;
    }
    if (!mc_server_init(&host->server, &remote)) {
        PyErr_NoMemory();
        goto done;
    }
    host->weight = Py_NewRef(weight);
    host->initialised = true;
    result = 0;
done:
    Py_XDECREF(owner);
    Py_XDECREF(name);
    Py_XDECREF(weight);
    return result;
}

/* _key: what a server of a list is known by; None where there is no address. */
static PyObject *get_key(PyObject *self, void *closure)
{
    mcx_server *host = (mcx_server *)self;
    mc_address remote;

    (void)closure;
    if (!host->initialised) {
        Py_RETURN_NONE;
    }
    remote.family = host->server.family;
    remote.host = (mc_slice){host->server.host, strlen(host->server.host)};
    remote.port = host->server.port;
    return mcx_server_key(&remote, host->name);
}

static int server_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_server *host = (mcx_server *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(host->weight);
    for (int i = 0; i < OPTION_COUNT; i++) {
        Py_VISIT(*field_at(host, options[i].field));
    }
    Py_VISIT(host->tls_context);
    Py_VISIT(host->tls_session);
    Py_VISIT(host->streams);
    /* Idle Python sockets and TLS streams: one of them may refer to the host. No pool changes
     * meanwhile: that is done with the GIL, or without one by a thread that is stopped for this. */
    for (size_t i = 0; host->initialised && i < host->server.pool.count; i++) {
        mc_connection *connection = host->server.pool.idle[i];

        Py_VISIT((PyObject *)connection->handle);
        if (connection->socket != NULL) {
            Py_VISIT((PyObject *)connection->socket);
            Py_VISIT((PyObject *)connection->kind);
        }
    }
    return 0;
}

static int server_clear(PyObject *self)
{
    mcx_server *host = (mcx_server *)self;

    Py_CLEAR(host->weight);
    for (int i = 0; i < OPTION_COUNT; i++) {
        Py_CLEAR(*field_at(host, options[i].field));
    }
    Py_CLEAR(host->tls_context);
    Py_CLEAR(host->tls_server_hostname);
    Py_CLEAR(host->tls_session);
    Py_CLEAR(host->streams);
    if (host->initialised) {
        mc_pool_disconnect(&host->server.pool);
        mcx_server_close_idle(host, false);
    }
    return 0;
}

/* A host may hang on another one's attribute, and that one on the next one's. */
static void server_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_server *host = (mcx_server *)self;

    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, server_dealloc);
    server_clear(self);
    if (host->initialised) {
        mc_pool_check_fork_slow(&host->server.pool);
        mc_server_fini(&host->server);
    }
    PyMem_Free(host->counters);
    Py_CLEAR(host->written);
    Py_CLEAR(host->name);
    Py_CLEAR(host->address);
    Py_CLEAR(host->ip);
    Py_CLEAR(host->port);
    Py_CLEAR(host->family);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END;
}

/* A method replaced on one host is noticed here. */
static int server_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    mcx_server *host = (mcx_server *)self;
    int result = PyObject_GenericSetAttr(self, name, value);

    if (result == 0 && host->module != NULL) {
        mcx_note_host_attribute(host->module, name);
    }
    return result;
}

/* ---- methods -------------------------------------------------------------------------------- */

/* _disconnect(quit): every connection that was made so far is closed: the idle ones now, those in
 * use when they are given back. */
static PyObject *server_disconnect(PyObject *self, PyObject *quit)
{
    mcx_server *host = (mcx_server *)self;
    int says_quit = PyObject_IsTrue(quit);

    if (says_quit < 0) {
        return NULL;
    }
    if (host->initialised) {
        mc_pool_disconnect(&host->server.pool);
        mcx_server_close_idle(host, says_quit);
    }
    Py_RETURN_NONE;
}

/* _mark(): the dead mark, for dead_retry from now. */
static PyObject *server_mark(PyObject *self, PyObject *unused)
{
    mcx_server *host = (mcx_server *)self;
    int64_t now, retry = atomic_load(&host->dead_retry_us);

    (void)unused;
    if (mcx_wall_clock(host->module, &now) < 0) {
        return NULL;
    }
    if (host->initialised) {
        atomic_store(&host->server.dead_until, retry > 0 ? now + retry : 0);
    }
    Py_RETURN_NONE;
}

/* _take_flush(): whether flush_all is to be sent on this new connection; True once for each time.
 */
static PyObject *server_take_flush(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_exchange(&((mcx_server *)self)->server.flush_on_connect, 0) != 0);
}

/* ---- attributes ----------------------------------------------------------------------------- */

static PyObject *get_field(PyObject *self, void *offset)
{
    mcx_server *host = (mcx_server *)self;
    PyObject **field = field_at(host, (size_t)offset), *value;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (field == &host->connect_timeout && (*field == NULL || *field == Py_None)) {
        field = &host->socket_timeout;
    }
    value = Py_XNewRef(*field);
    Py_END_CRITICAL_SECTION();
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "this host has no such attribute");
    }
    return value;
}

static int set_field(PyObject *self, PyObject *value, void *offset)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = assign((mcx_server *)self, (size_t)offset, value);
    Py_END_CRITICAL_SECTION();
    return result;
}

static PyObject *get_deaduntil(PyObject *self, void *closure)
{
    mcx_server *host = (mcx_server *)self;
    int64_t until = host->initialised ? atomic_load(&host->server.dead_until) : 0;

    (void)closure;
    return until == 0 ? PyLong_FromLong(0) : PyFloat_FromDouble((double)until / 1e6);
}

static int set_deaduntil(PyObject *self, PyObject *value, void *closure)
{
    double seconds = value ? PyFloat_AsDouble(value) : 0;

    (void)closure;
    if (seconds == -1 && PyErr_Occurred()) {
        return -1;
    }
    int64_t until = mcx_microseconds(seconds);

    if (((mcx_server *)self)->initialised) { /* before, it is the sign of that */
        atomic_store(&((mcx_server *)self)->server.dead_until, until > 0 ? until : 0);
    }
    return 0;
}

static PyObject *get_flush_on_next_connect(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLong((long)atomic_load(&((mcx_server *)self)->server.flush_on_connect));
}

static int set_flush_on_next_connect(PyObject *self, PyObject *value, void *closure)
{
    int flag = value ? PyObject_IsTrue(value) : 0;

    (void)closure;
    if (flag < 0) {
        return -1;
    }
    atomic_store(&((mcx_server *)self)->server.flush_on_connect, (uint32_t)flag);
    return 0;
}

/* What a placement goes by: as it was written, nothing looked up. */
static PyObject *get_identity(PyObject *self, void *closure)
{
    mcx_server *host = (mcx_server *)self;

    (void)closure;
    if (!host->initialised) {
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has not been called");
        return NULL;
    }
    return PyTuple_Pack(3, host->ip != NULL ? host->ip : host->address,
                        host->port != NULL ? host->port : Py_None,
                        host->name != NULL ? host->name : Py_None);
}

static PyObject *get_stamp(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(mcx_server_stamp((mcx_server *)self));
}

static PyObject *get_streams(PyObject *self, void *closure)
{
    PyObject *streams = __atomic_load_n(&((mcx_server *)self)->streams, __ATOMIC_ACQUIRE);

    (void)closure;
    return Py_NewRef(streams != NULL ? streams : Py_None);
}

/* Set once: of two threads the first one's stands. */
static int set_streams(PyObject *self, PyObject *value, void *closure)
{
    PyObject *none = NULL;

    (void)closure;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_streams cannot be deleted");
        return -1;
    }
    if (__atomic_compare_exchange_n(&((mcx_server *)self)->streams, &none, value, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        Py_INCREF(value);
    }
    return 0;
}

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, get_field, set_field, NULL, (void *)offsetof(mcx_server, name)                      \
    }
#define CONSTANT(name)                                                                             \
    {                                                                                              \
#name, get_field, NULL, NULL, (void *)offsetof(mcx_server, name)                           \
    }

static PyGetSetDef server_getset[] = {
    CONSTANT(address),
    CONSTANT(ip),
    CONSTANT(port),
    CONSTANT(family),
    FIELD(weight),
    FIELD(debug),
    FIELD(dead_retry),
    FIELD(socket_timeout),
    FIELD(flush_on_reconnect),
    FIELD(username),
    FIELD(password),
    {"deaduntil", get_deaduntil, set_deaduntil,
     "Until when the server is taken as dead, as time.time() tells it; 0: it is not.", NULL},
    {"flush_on_next_connect", get_flush_on_next_connect, set_flush_on_next_connect, NULL, NULL},
    {"connect_timeout", get_field, set_field,
     "Seconds that a connect may take; None, as which it is assigned: socket_timeout.",
     (void *)offsetof(mcx_server, connect_timeout)},
    {"_identity", get_identity, NULL,
     "(host or path, port or None, name or None), as they were written.", NULL},
    {"tls_context", mcx_tls_get, mcx_tls_set,
     "An ssl.SSLContext by which connections to the server are encrypted, or None.",
     (void *)offsetof(mcx_server, tls_context)},
    {"tls_server_hostname", mcx_tls_get, mcx_tls_set,
     "The name that the server's certificate must have; None: the host as it was given.",
     (void *)offsetof(mcx_server, tls_server_hostname)},
    {"_key", get_key, NULL, NULL, NULL},
    {"_stamp", get_stamp, NULL, NULL, NULL},
    {"_streams", get_streams, set_streams, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef server_methods[] = {
    {"_here", mcx_host_here, METH_NOARGS, "_here($self, /)\n--\n\nThe caller's stream."},
    {"_ready_socket", mcx_host_ready_socket, METH_NOARGS,
     "_ready_socket($self, /)\n--\n\n"
     "The caller's socket, if it is in step and was used a short time ago; else None."},
    {"_begin", mcx_host_begin, METH_O,
     "_begin($self, start, /)\n--\n\nThe caller's stream, begun; None where it is not in step."},
    {"_send", mcx_host_send, METH_O,
     "_send($self, data, /)\n--\n\n"
     "Send all of data, within the deadline of the call, else within socket_timeout."},
    {"_read_line", mcx_host_read_line, METH_NOARGS,
     "_read_line($self, /)\n--\n\nThe next line without its end; None at the end."},
    {"_read", mcx_host_read, METH_O,
     "_read($self, size, /)\n--\n\nExactly so many bytes; _Error at the end."},
    {"_receive", mcx_host_receive, METH_O,
     "_receive($self, size, /)\n--\n\nWhat comes next, so many bytes at most; b'' at the end."},
    {"_disconnect", server_disconnect, METH_O,
     "_disconnect($self, quit, /)\n--\n\nClose the pool's connections, those in use when they are "
     "given back."},
    {"_mark", server_mark, METH_NOARGS,
     "_mark($self, /)\n--\n\nTake the server as dead for dead_retry seconds."},
    {"_take_flush", server_take_flush, METH_NOARGS,
     "_take_flush($self, /)\n--\n\nWhether flush_on_next_connect was set, which it is no more."},
    {"_authenticate", mcx_host_authenticate, METH_O,
     "_authenticate($self, until, /)\n--\n\n"
     "Say username and password, where there are any, on the caller's new connection."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_new, server_alloc},
    {Py_tp_init, server_init},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_setattro, server_setattro},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},
    {Py_tp_doc,
     "_Server(host, debug=0, dead_retry=30, socket_timeout=3, flush_on_reconnect=0)\n--\n\n"
     "A server's address, its health and its connections: what _Host derives from."},
    {0, NULL},
};

PyType_Spec mcx_server_spec = {
    .name = "mcext._core._Server",
    .basicsize = sizeof(mcx_server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = server_slots,
};
