/* server_type: the `_Server` type: the data of a server, the base class of mcext.pure.host._Host.
 *
 * Its address, weight, timeouts and dead mark, and the pool of connections that calls of the way in
 * C use. What python-memcached's users call is the subclass's, in Python. */
#include "mcx.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

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

static int set_object(PyObject **field, PyObject *value)
{
    PyObject *old = *field;

    *field = Py_XNewRef(value);
    Py_XDECREF(old);
    return 0;
}

static int set_dead_retry(mcx_server *host, PyObject *value)
{
    double retry = PyFloat_AsDouble(value);

    if (retry == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "dead_retry is too large a number of seconds");
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "dead_retry must be a number of seconds, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    int64_t microseconds = mcx_microseconds(retry);

    atomic_store(&host->dead_retry_us, microseconds > 0 ? microseconds : 0);
    return set_object(&host->dead_retry, value);
}

/* None of connect_timeout: it is socket_timeout. */
static int set_timeout(mcx_server *host, size_t field, PyObject *value)
{
    bool connect = field == offsetof(mcx_server, connect_timeout);
    int64_t timeout;

    if (connect && value == Py_None) {
        atomic_store(&host->connect_within, atomic_load(&host->timeout));
        return set_object(&host->connect_timeout, NULL);
    }
    if (mcx_seconds(value, connect ? "connect_timeout" : "socket_timeout", &timeout) < 0) {
        return -1;
    }
    if (connect || host->connect_timeout == NULL) {
        atomic_store(&host->connect_within, timeout);
    }
    if (!connect) {
        atomic_store(&host->timeout, timeout);
    }
    return set_object(connect ? &host->connect_timeout : &host->socket_timeout, value);
}

static int set_truth(_Atomic int *field, PyObject **object, PyObject *value)
{
    int flag = PyObject_IsTrue(value);

    if (flag < 0) {
        return -1;
    }
    atomic_store(field, flag);
    return set_object(object, value);
}

/* Sets the attribute whose object is at this offset. */
static int set_option(mcx_server *host, size_t field, PyObject *value)
{
    switch (field) {
    case offsetof(mcx_server, debug):
        return set_truth(&host->is_debug, &host->debug, value);
    case offsetof(mcx_server, flush_on_reconnect):
        return set_truth(&host->does_flush, &host->flush_on_reconnect, value);
    case offsetof(mcx_server, dead_retry):
        return set_dead_retry(host, value);
    case offsetof(mcx_server, socket_timeout):
    case offsetof(mcx_server, connect_timeout):
        return set_timeout(host, field, value);
    default:
        return set_object((PyObject **)((char *)host + field), value);
    }
}

/* (address, weight) taken apart: 0 or -1; *address is borrowed, *weight new, untouched after -1. */
static int split_weight(PyObject *given, PyObject **address, PyObject **weight)
{
    if (!PyTuple_Check(given)) {
        *address = given;
        *weight = PyLong_FromLong(1);
        return *weight == NULL ? -1 : 0;
    }
    if (PyTuple_GET_SIZE(given) != 2) {
        PyErr_Format(PyExc_ValueError, "a server must be an address or (address, weight), not %R",
                     given);
        return -1;
    }
    PyObject *second = PyTuple_GET_ITEM(given, 1);
    if (!PyIndex_Check(second)) {
        PyErr_Format(PyExc_TypeError, "the weight of a server must be an int, not %.100s",
                     Py_TYPE(second)->tp_name);
        return -1;
    }
    if (PyNumber_AsSsize_t(second, PyExc_OverflowError) == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError,
                            "the weight of a server must be between -2**63 and 2**63-1");
        }
        return -1;
    }
    *address = PyTuple_GET_ITEM(given, 0);
    *weight = Py_NewRef(second);
    return 0;
}

/* What parsed points into is *owner, strong. A path need not be UTF-8: as os.fsdecode gives it. */
static int parse(PyObject *given, mc_address *parsed, PyObject **owner)
{
    const char *wrong;

    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError, "the address of a server must be a str, not %.100s",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    *owner = PyUnicode_AsEncodedString(given, "utf-8", "surrogateescape");
    if (*owner == NULL) {
        return -1;
    }
    mc_slice text = {PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)};

    wrong = mc_address_parse(text, parsed);
    if (wrong != NULL) {
        PyErr_Format(PyExc_ValueError, "Unable to parse connection string: \"%U\": %s", given,
                     wrong);
        return -1;
    }
    return 0;
}

/* What is connected to: parsed, a name that is not ASCII in its IDNA form, as Python's own sockets
 * look it up. *name is strong or NULL. */
static int find_remote(const mc_address *parsed, mc_address *remote, PyObject **name)
{
    PyObject *text;

    *remote = *parsed;
    if (parsed->family != MC_FAMILY_INET) {
        return 0;
    }
    text = PyUnicode_DecodeUTF8(parsed->host.bytes, (Py_ssize_t)parsed->host.length,
                                "surrogateescape");
    if (text != NULL && !PyUnicode_IS_ASCII(text)) {
        *name = PyUnicode_AsEncodedString(text, "idna", "strict");
        if (*name == NULL) {
            Py_CLEAR(text);
        }
        else {
            remote->host = (mc_slice){PyBytes_AS_STRING(*name), (size_t)PyBytes_GET_SIZE(*name)};
        }
    }
    Py_XDECREF(text);
    return text == NULL ? -1 : 0;
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

static int server_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    mcx_server *host = (mcx_server *)self;
    PyObject *given[5] = {NULL}, *address, *weight = NULL, *fallback = NULL;
    PyObject *owner = NULL, *name = NULL;
    mc_address parsed, remote;
    int result = -1;
    static char *names[] = {"host", "debug", "dead_retry", "socket_timeout", "flush_on_reconnect",
                            NULL};
    static const size_t options[] = {
        0, offsetof(mcx_server, debug), offsetof(mcx_server, dead_retry),
        offsetof(mcx_server, socket_timeout), offsetof(mcx_server, flush_on_reconnect)};
    static const long defaults[] = {0, 0, 30, 3, 0};

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
    if (split_weight(given[0], &address, &weight) < 0 || parse(address, &parsed, &owner) < 0 ||
        find_remote(&parsed, &remote, &name) < 0) {
        goto done;
    }
    for (int i = 1; i < 5; i++) {
        PyObject *value = given[i];

        if (value == NULL) {
            fallback = PyLong_FromLong(defaults[i]);
            if (fallback == NULL) {
                goto done;
            }
            value = fallback;
        }
        if (set_option(host, options[i], value) < 0) {
            goto done;
        }
        Py_CLEAR(fallback);
    }
    if (host->initialised) { /* by what an option's own methods called */
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has been called before");
        goto done;
    }
    if (set_address(host, &parsed) < 0) {
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
    Py_XDECREF(fallback);
    Py_XDECREF(weight);
    return result;
}

/* A new reference, or NULL without an exception where it was deleted. */
static PyObject *weight_of(mcx_server *host)
{
    PyObject *weight;

    Py_BEGIN_CRITICAL_SECTION(host);
    weight = Py_XNewRef(host->weight);
    Py_END_CRITICAL_SECTION();
    return weight;
}

/* Whether a server given so is this one. */
static bool is_at(mcx_server *host, PyObject *given)
{
    PyObject *own = weight_of(host); /* what compares it may assign another one */
    PyObject *address, *weight = NULL, *owner = NULL, *name = NULL;
    mc_address parsed, remote;
    bool same = false;

    if (split_weight(given, &address, &weight) == 0 && parse(address, &parsed, &owner) == 0 &&
        find_remote(&parsed, &remote, &name) == 0 && host->initialised && own != NULL) {
        same = remote.family == host->server.family && remote.port == host->server.port &&
               remote.host.length == strlen(host->server.host) &&
               memcmp(remote.host.bytes, host->server.host, remote.host.length) == 0 &&
               PyObject_RichCompareBool(weight, own, Py_EQ) == 1;
    }
    Py_XDECREF(own);
    Py_XDECREF(weight);
    Py_XDECREF(owner);
    Py_XDECREF(name);
    PyErr_Clear(); /* what is wrong with it is said when the host is made */
    return same;
}

static int server_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_server *host = (mcx_server *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(host->weight);
    Py_VISIT(host->debug);
    Py_VISIT(host->dead_retry);
    Py_VISIT(host->socket_timeout);
    Py_VISIT(host->flush_on_reconnect);
    Py_VISIT(host->connect_timeout);
    Py_VISIT(host->streams);
    /* Python sockets of the pool: one of them may refer to the host. No pool changes meanwhile:
     * that is done with the GIL, or without one by a thread that is stopped for this. */
    for (size_t i = 0; host->initialised && i < host->server.pool.count; i++) {
        mc_connection *connection = host->server.pool.list[i];

        if (connection->handle != NULL) {
            Py_VISIT((PyObject *)connection->handle);
            Py_VISIT((PyObject *)connection->kind);
        }
    }
    return 0;
}

static int server_clear(PyObject *self)
{
    mcx_server *host = (mcx_server *)self;

    Py_CLEAR(host->weight);
    Py_CLEAR(host->debug);
    Py_CLEAR(host->dead_retry);
    Py_CLEAR(host->socket_timeout);
    Py_CLEAR(host->flush_on_reconnect);
    Py_CLEAR(host->connect_timeout);
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

/* ---- the dead mark -------------------------------------------------------------------------- */

PyObject *mcx_server_stats_name(mcx_server *host)
{
    PyObject *weight = weight_of(host), *name;

    if (weight == NULL) {
        PyErr_SetString(PyExc_AttributeError, "weight");
        return NULL;
    }
    switch (host->server.family) {
    case MC_FAMILY_UNIX:
        name = PyUnicode_FromFormat("unix:%U (%S)", host->address, weight);
        break;
    case MC_FAMILY_INET6:
        name = PyUnicode_FromFormat("[%U]:%S (%S)", host->ip, host->port, weight);
        break;
    default:
        name = PyUnicode_FromFormat("%U:%S (%S)", host->ip, host->port, weight);
        break;
    }
    Py_DECREF(weight);
    return name;
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

/* "quit" has no reply; the close that follows says the same. */
static void say_quit(mcx_server *host, mc_connection *connection)
{
    char command[] = "quit\r\n";
    struct iovec piece = {command, sizeof command - 1};
    mc_clock clock = {.timeout = 0, .late = true};
    size_t moved;

    if (connection->transport != &mc_native_transport) {
        /* A Python socket asks for some time, and takes none: nothing waits to be sent before. */
        int64_t timeout = atomic_load(&host->timeout);

        mc_clock_start(&clock, timeout, timeout);
    }
    if (mc_connection_send_some(connection, &piece, 1, &moved, &clock) == MC_RAISED) {
        PyErr_WriteUnraisable((PyObject *)host);
    }
}

void mcx_server_close_idle(mcx_server *host, bool quit)
{
    mc_connection *connection;
    size_t cursor = 0;

    while ((connection = mc_pool_take_old(&host->server.pool, mcx_thread_number(), &cursor)) !=
           NULL) {
        if (quit) {
            say_quit(host, connection);
        }
        mc_pool_give(connection, false, 0);
    }
}

int mcx_server_mark_dead(mcx_server *host, PyObject *reason)
{
    PyObject *name = PyObject_Str((PyObject *)host);
    int64_t now;
    int result = -1;

    if (name != NULL && mcx_wall_clock(host->module, &now) == 0) {
        result = mcx_server_debuglog(host, "MemCache: %U: %S.  Marking dead.", name, reason);
        if (atomic_load(&host->does_flush)) {
            atomic_store(&host->server.flush_on_connect, 1);
        }
        int64_t retry = atomic_load(&host->dead_retry_us);

        if (retry > 0) {
            mc_server_mark_dead(&host->server, now + retry);
            mcx_server_close_idle(host, false);
        }
        else {
            mc_server_mark_alive(&host->server); /* dead for no time: the next call tries it */
        }
    }
    Py_XDECREF(name);
    return result;
}

mc_status mcx_server_open(mcx_server *host, mc_connection *connection, PyObject *socket_class,
                          mc_clock *clock)
{
    mc_connecting state = MC_CONNECTING_INIT;
    uint32_t generation = mc_process_generation();
    mc_status status;

    do {
        if (UNLIKELY(socket_class != NULL)) {
            status = mcx_python_connect(host->module, connection, socket_class, host, clock);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            status = mc_connection_connect(connection, &state, host->server.family,
                                           host->server.host, host->server.port, clock);
            Py_END_ALLOW_THREADS
            if (status == MC_INTERRUPTED && PyErr_CheckSignals() < 0) {
                status = MC_RAISED;
            }
        }
        if (UNLIKELY(generation != mc_process_generation())) {
            /* A signal handler, or the socket's own connect, forked: in this process, the child,
             * the stream is the parent's, however far it has come. */
            generation = mc_process_generation();
            mc_connecting_fini(&state);
            mc_connection_shut(connection);
            status = status == MC_RAISED ? status : MC_INTERRUPTED;
        }
    } while (status == MC_INTERRUPTED);
    mc_connecting_fini(&state);
    return status;
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

static PyObject *server_is_at(PyObject *self, PyObject *given)
{
    return PyBool_FromLong(is_at((mcx_server *)self, given));
}

/* ---- attributes ----------------------------------------------------------------------------- */

static PyObject *get_field(PyObject *self, void *offset)
{
    PyObject *value;

    Py_BEGIN_CRITICAL_SECTION(self);
    value = Py_XNewRef(*(PyObject **)((char *)self + (size_t)offset));
    Py_END_CRITICAL_SECTION();
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "this host has no such attribute");
    }
    return value;
}

/* NULL: there is no such attribute until it is assigned again, and what it was stays in force. */
static int set_field(PyObject *self, PyObject *value, void *offset)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = value == NULL ? set_object((PyObject **)((char *)self + (size_t)offset), NULL)
                           : set_option((mcx_server *)self, (size_t)offset, value);
    Py_END_CRITICAL_SECTION();
    return result;
}

static PyObject *get_connect_timeout(PyObject *self, void *offset)
{
    PyObject *value;

    Py_BEGIN_CRITICAL_SECTION(self);
    value = Py_XNewRef(*(PyObject **)((char *)self + (size_t)offset));
    Py_END_CRITICAL_SECTION();
    return value != NULL ? value : get_field(self, (void *)offsetof(mcx_server, socket_timeout));
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

uint64_t mcx_server_stamp(mcx_server *host)
{
    uint64_t epoch = host->initialised ? atomic_load(&host->server.pool.epoch) : 0;

    return (uint64_t)mc_process_generation() << 32 | epoch;
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
    {"deaduntil", get_deaduntil, set_deaduntil,
     "Until when the server is taken as dead, as time.time() tells it; 0: it is not.", NULL},
    {"flush_on_next_connect", get_flush_on_next_connect, set_flush_on_next_connect, NULL, NULL},
    {"connect_timeout", get_connect_timeout, set_field,
     "Seconds that a connect may take; None, as which it is assigned: socket_timeout.",
     (void *)offsetof(mcx_server, connect_timeout)},
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
    {"_is_at", server_is_at, METH_O,
     "_is_at($self, server, /)\n--\n\nWhether an address or (address, weight) is this server's."},
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
