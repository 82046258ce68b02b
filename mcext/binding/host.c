/* host: the `_Host` type, one server of a client, as python-memcached's users see it.
 *
 * A client's calls use the core's server inside directly. Code that calls a host's methods works
 * on a connection that its thread (or its greenlet) holds for the host: in the dict that
 * mcx_held_dict gives, until close_socket or an error, or for the length of the call in whose
 * middle it runs. */
#include "mcx.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

/* ---- held connections ----------------------------------------------------------------------- */

PyObject *mcx_held_home(mcx_module *module)
{
    PyObject *getcurrent = module->local_is_native ? mcx_imported("greenlet", "getcurrent") : NULL;
    PyObject *current, *parent = NULL;

    if (getcurrent == NULL) {
        return Py_NewRef(module->local);
    }
    current = PyObject_CallNoArgs(getcurrent);
    Py_DECREF(getcurrent);
    if (current != NULL) {
        parent = PyObject_GetAttrString(current, "parent");
    }
    if (parent == NULL) {
        Py_CLEAR(current);
    }
    else if (parent == Py_None) { /* the thread itself */
        Py_SETREF(current, Py_NewRef(module->local));
    }
    Py_XDECREF(parent);
    return current;
}

PyObject *mcx_held_dict(mcx_module *module)
{
    PyObject *home = mcx_held_home(module), *held = NULL;

    if (home != NULL && PyObject_GetOptionalAttr(home, module->str_held, &held) == 0) {
        held = PyDict_New();
        if (held != NULL && PyObject_SetAttr(home, module->str_held, held) < 0) {
            Py_CLEAR(held);
        }
    }
    Py_XDECREF(home);
    return held;
}

mcx_held *mcx_held_find(mcx_module *module, PyObject *host)
{
    PyObject *home = mcx_held_home(module), *dict = NULL, *held = NULL;

    if (home == NULL || PyObject_GetOptionalAttr(home, module->str_held, &dict) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(home);
    if (dict != NULL && PyDict_GetItemRef(dict, host, &held) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(dict);
    return (mcx_held *)held;
}

int mcx_held_put(mcx_module *module, mcx_host *host, mc_connection *connection)
{
    PyObject *dict = mcx_held_dict(module);
    mcx_held *held = NULL;
    int result = -1;

    if (dict != NULL) {
        held = PyObject_GC_New(mcx_held, module->held_type);
    }
    if (held != NULL) {
        held->host = (mcx_host *)Py_NewRef((PyObject *)host);
        held->connection = NULL;
        held->socket = NULL;
        held->broken = held->dropped = held->was_cut = false;
        PyObject_GC_Track(held);
        result = PyDict_SetItem(dict, (PyObject *)host, (PyObject *)held);
        if (result == 0) {
            held->connection = connection;
        }
        Py_DECREF(held);
    }
    Py_XDECREF(dict);
    return result;
}

int mcx_held_drop(mcx_module *module, PyObject *host)
{
    PyObject *dict = mcx_held_dict(module);
    mcx_held *held = dict ? mcx_held_find(module, host) : NULL;
    int result = dict ? 0 : -1;

    if (held != NULL) {
        held->dropped = true;
        result = PyDict_DelItem(dict, host);
        if (held->connection != NULL && !held->connection->moving) {
            mc_connection_shut(held->connection); /* given back with the last reference to held */
        }
        Py_DECREF(held);
    }
    Py_XDECREF(dict);
    return result;
}

static int held_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((mcx_held *)self)->host);
    Py_VISIT(((mcx_held *)self)->socket);
    return 0;
}

/* Dropped, or the thread is over, or its dict was emptied. */
static void held_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_held *held = (mcx_held *)self;

    PyObject_GC_UnTrack(self);
    if (held->connection != NULL) {
        mc_pool_give(held->connection, false, 0);
    }
    Py_XDECREF(held->socket);
    Py_XDECREF(held->host);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot held_slots[] = {
    {Py_tp_dealloc, held_dealloc},
    {Py_tp_traverse, held_traverse},
    {Py_tp_doc, "A connection that a thread holds for a host."},
    {0, NULL},
};

PyType_Spec mcx_held_spec = {
    .name = "mcext._core._Held",
    .basicsize = sizeof(mcx_held),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = held_slots,
};

/* ---- making --------------------------------------------------------------------------------- */

static mcx_module *module_of(PyObject *self)
{
    return ((mcx_host *)self)->module;
}

static PyObject *host_alloc(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (self != NULL) {
        /* The class that this file made is somewhere among the bases. */
        for (PyTypeObject *each = type; each != NULL; each = each->tp_base) {
            if (each->tp_new == host_alloc && (each->tp_flags & Py_TPFLAGS_HEAPTYPE) &&
                ((PyHeapTypeObject *)each)->ht_module != NULL) {
                ((mcx_host *)self)->module =
                    PyModule_GetState(((PyHeapTypeObject *)each)->ht_module);
            }
        }
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

int mcx_host_set_option(mcx_host *host, int option, PyObject *value)
{
    int64_t timeout;
    double retry;
    int flag;

    switch (option) {
    case MCX_OPT_DEBUG:
    case MCX_OPT_FLUSH_ON_RECONNECT:
        flag = PyObject_IsTrue(value);
        if (flag < 0) {
            return -1;
        }
        atomic_store(option == MCX_OPT_DEBUG ? &host->is_debug : &host->does_flush, flag);
        return set_object(option == MCX_OPT_DEBUG ? &host->debug : &host->flush_on_reconnect,
                          value);
    case MCX_OPT_SOCKET_TIMEOUT:
        if (mcx_seconds(value, "socket_timeout", &timeout) < 0) {
            return -1;
        }
        atomic_store(&host->timeout, timeout);
        return set_object(&host->socket_timeout, value);
    default:
        retry = PyFloat_AsDouble(value);
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
        atomic_store(&host->dead_retry_us, retry > 1e12 ? INT64_C(1000000000000000000)
                                           : retry > 0  ? (int64_t)(retry * 1e6)
                                                        : 0);
        return set_object(&host->dead_retry, value);
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

static int set_address(mcx_host *host, const mc_address *parsed)
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

static int host_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    mcx_host *host = (mcx_host *)self;
    PyObject *given[5] = {NULL}, *address, *weight = NULL, *fallback = NULL;
    PyObject *owner = NULL, *name = NULL;
    mc_address parsed, remote;
    int result = -1;
    static char *names[] = {"host", "debug", "dead_retry", "socket_timeout", "flush_on_reconnect",
                            NULL};
    static const int options[] = {-1, MCX_OPT_DEBUG, MCX_OPT_DEAD_RETRY, MCX_OPT_SOCKET_TIMEOUT,
                                  MCX_OPT_FLUSH_ON_RECONNECT};
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
        if (mcx_host_set_option(host, options[i], value) < 0) {
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

PyObject *mcx_host_new(mcx_module *module, PyObject *address, const mcx_snapshot *snapshot)
{
    static const struct {
        int option;
        const char *name;
    } handed[] = {{MCX_OPT_DEBUG, "debug"},
                  {MCX_OPT_DEAD_RETRY, "dead_retry"},
                  {MCX_OPT_SOCKET_TIMEOUT, "socket_timeout"},
                  {MCX_OPT_FLUSH_ON_RECONNECT, "flush_on_reconnect"}};
    PyObject *args = PyTuple_Pack(1, address);
    PyObject *keywords = args ? PyDict_New() : NULL;
    PyObject *host = NULL;

    if (keywords == NULL) {
        goto done;
    }
    for (size_t i = 0; i < sizeof handed / sizeof *handed; i++) {
        PyObject *value = snapshot->options[handed[i].option];

        if (value != NULL && PyDict_SetItemString(keywords, handed[i].name, value) < 0) {
            goto done;
        }
    }
    host = PyObject_Call((PyObject *)module->host_type, args, keywords);
done:
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    return host;
}

bool mcx_host_equals(mcx_host *host, PyObject *given)
{
    PyObject *own = Py_XNewRef(host->weight); /* what compares it may assign another one */
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

static int host_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_host *host = (mcx_host *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(host->dict);
    Py_VISIT(host->weight);
    Py_VISIT(host->debug);
    Py_VISIT(host->dead_retry);
    Py_VISIT(host->socket_timeout);
    Py_VISIT(host->flush_on_reconnect);
    return 0;
}

static int host_clear(PyObject *self)
{
    mcx_host *host = (mcx_host *)self;

    Py_CLEAR(host->dict);
    Py_CLEAR(host->weight);
    Py_CLEAR(host->debug);
    Py_CLEAR(host->dead_retry);
    Py_CLEAR(host->socket_timeout);
    Py_CLEAR(host->flush_on_reconnect);
    return 0;
}

/* A host may hang on another one's attribute, and that one on the next one's. */
static void host_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_host *host = (mcx_host *)self;

    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, host_dealloc);
    if (host->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    if (host->initialised) {
        mc_pool_check_fork_slow(&host->server.pool);
        mc_server_fini(&host->server);
    }
    host_clear(self);
    Py_CLEAR(host->address);
    Py_CLEAR(host->ip);
    Py_CLEAR(host->port);
    Py_CLEAR(host->family);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END;
}

/* A method replaced on one host is noticed here. */
static int host_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    mcx_host *host = (mcx_host *)self;
    int result = PyObject_GenericSetAttr(self, name, value);

    if (result == 0 && host->module != NULL) {
        for (int hook = 0; hook < MCX_HOST_HOOK_COUNT; hook++) {
            if (PyUnicode_Compare(name, host->module->host_hooks[hook]) == 0) {
                atomic_fetch_or(&host->instance_hooks, UINT32_C(1) << hook);
            }
        }
    }
    return result;
}

/* ---- the dead mark -------------------------------------------------------------------------- */

PyObject *mcx_host_text(mcx_host *host)
{
    int64_t until = host->initialised ? atomic_load(&host->server.dead_until) : 0;
    PyObject *dead, *text;

    if (!host->initialised) {
        return PyUnicode_FromString("_Host without an address");
    }
    dead = until ? PyUnicode_FromFormat(" (dead until %lld)", (long long)(until / 1000000))
                 : PyUnicode_FromString("");
    if (dead == NULL) {
        return NULL;
    }
    if (host->server.family == MC_FAMILY_UNIX) {
        text = PyUnicode_FromFormat("unix:%U%U", host->address, dead);
    }
    else if (host->server.family == MC_FAMILY_INET6) {
        text = PyUnicode_FromFormat("inet6:[%U]:%S%U", host->ip, host->port, dead);
    }
    else {
        text = PyUnicode_FromFormat("inet:%U:%S%U", host->ip, host->port, dead);
    }
    Py_DECREF(dead);
    return text;
}

PyObject *mcx_host_stats_name(mcx_host *host)
{
    if (host->weight == NULL) { /* deleted */
        PyErr_SetString(PyExc_AttributeError, "weight");
        return NULL;
    }
    switch (host->server.family) {
    case MC_FAMILY_UNIX:
        return PyUnicode_FromFormat("unix:%U (%S)", host->address, host->weight);
    case MC_FAMILY_INET6:
        return PyUnicode_FromFormat("[%U]:%S (%S)", host->ip, host->port, host->weight);
    default:
        return PyUnicode_FromFormat("%U:%S (%S)", host->ip, host->port, host->weight);
    }
}

/* "quit" has no reply; the close that follows says the same. */
static void say_quit(mcx_host *host, mc_connection *connection)
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

void mcx_host_close_idle(mcx_host *host, bool quit)
{
    mc_connection *connection;
    size_t cursor = 0;

    while ((connection = mc_pool_take_old(&host->server.pool, &cursor)) != NULL) {
        if (quit) {
            say_quit(host, connection);
        }
        mc_pool_give(connection, false, 0);
    }
}

int mcx_host_mark_dead(mcx_module *module, mcx_host *host, PyObject *reason)
{
    PyObject *name = PyObject_Str((PyObject *)host);
    int64_t now;
    int result = -1;

    if (name != NULL && mcx_wall_clock(module, &now) == 0) {
        result = mcx_host_debuglog(module, (PyObject *)host, "MemCache: %U: %S.  Marking dead.",
                                   name, reason);
        if (atomic_load(&host->does_flush)) {
            atomic_store(&host->server.flush_on_connect, 1);
        }
        int64_t retry = atomic_load(&host->dead_retry_us);

        if (retry > 0) {
            mc_server_mark_dead(&host->server, now + retry);
            mcx_host_close_idle(host, false);
        }
        else {
            mc_server_mark_alive(&host->server); /* dead for no time: the next call tries it */
        }
    }
    Py_XDECREF(name);
    return result;
}

mc_status mcx_host_open(mcx_module *module, mcx_host *host, mc_connection *connection,
                        PyObject *socket_class, mc_clock *clock)
{
    mc_connecting state = MC_CONNECTING_INIT;
    uint32_t generation = mc_process_generation();
    mc_status status;

    do {
        if (UNLIKELY(socket_class != NULL)) {
            status = mcx_python_connect(module, connection, socket_class, host, clock);
        }
        else {
            Py_BEGIN_ALLOW_THREADS status =
                mc_connection_connect(connection, &state, host->server.family, host->server.host,
                                      host->server.port, clock);
            Py_END_ALLOW_THREADS if (status == MC_INTERRUPTED && mcx_check_signals() < 0)
            {
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

/* ---- methods: bytes on the held connection -------------------------------------------------- */

static bool is_there(const mcx_held *held)
{
    return held != NULL && held->connection != NULL && !held->dropped;
}

/* What a Python socket's own methods call while bytes move must not move any of that connection. */
static int check_not_moving(const mcx_held *held)
{
    if (is_there(held) && held->connection->moving) {
        PyErr_SetString(PyExc_RuntimeError, "the host's connection is in use");
        return -1;
    }
    return 0;
}

/* The connection that this thread holds: a new reference, or NULL with an exception. */
static mcx_held *need_held(PyObject *self)
{
    mcx_held *held = mcx_held_find(module_of(self), self);

    if (!is_there(held)) {
        Py_CLEAR(held);
        PyErr_SetString(PyExc_ConnectionError, "the host is not connected: call connect() first");
    }
    else if (check_not_moving(held) < 0) {
        Py_CLEAR(held);
    }
    return held;
}

static void start_clock(PyObject *self, mc_clock *clock)
{
    int64_t timeout = atomic_load(&((mcx_host *)self)->timeout);

    mc_clock_start(clock, timeout, timeout);
    clock->late = true;
}

static void raise_status(const mc_connection *connection, mc_status status)
{
    PyObject *text;

    if (status == MC_RAISED) {
        return;
    }
    if (status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return;
    }
    text = mcx_status_text(connection, status);
    if (text != NULL) {
        PyErr_SetObject(status == MC_TIMEOUT  ? PyExc_TimeoutError
                        : status == MC_CLOSED ? PyExc_ConnectionResetError
                                              : PyExc_OSError,
                        text);
        Py_DECREF(text);
    }
}

/* Drops the held connection; the exception that is set stays. */
static void drop(PyObject *self)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (mcx_held_drop(module_of(self), self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    PyErr_Restore(type, value, traceback);
}

/* What becomes of MC_INTERRUPTED: a handler may raise, and may close the connection. */
static mc_status handle_signals(const mcx_held *held)
{
    if (mcx_check_signals() < 0) {
        return MC_RAISED;
    }
    return is_there(held) ? MC_INTERRUPTED : MC_CLOSED;
}

/* Sends all of the pieces on the held connection. */
static mc_status push(mcx_held *held, struct iovec *pieces, int count, mc_clock *clock)
{
    mc_status status;

    do {
        if (held->connection->transport == &mc_native_transport) {
            Py_BEGIN_ALLOW_THREADS status =
                mc_connection_send(held->connection, &pieces, &count, clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_send(held->connection, &pieces, &count, clock);
        }
        if (status == MC_INTERRUPTED) {
            status = handle_signals(held);
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

/* Receives something into the held connection's buffer. */
static mc_status fill(mcx_held *held, mc_clock *clock)
{
    mc_exchange none;
    mc_status status;

    if (!is_there(held)) {
        return MC_CLOSED;
    }
    mc_exchange_init(&none, &held->connection->in, MC_VERSION, NULL, 0, false);
    do {
        if (held->connection->transport == &mc_native_transport) {
            Py_BEGIN_ALLOW_THREADS status = mc_connection_receive(held->connection, &none, clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_receive(held->connection, &none, clock);
        }
        if (status == MC_INTERRUPTED) {
            status = handle_signals(held);
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

/* After noreply commands of a client: what the server says to them is read up to the marker, so
 * that nobody takes it for the answer to what is sent next. */
static mc_status bring_in_step(mcx_held *held, mc_clock *clock)
{
    struct iovec piece = {(void *)MCX_MARKER, sizeof MCX_MARKER - 1};
    mc_status status = push(held, &piece, 1, clock);
    mc_exchange exchange;
    mc_event event;

    mc_exchange_init(&exchange, &held->connection->in, MC_VERSION, NULL, 0, true);
    while (status == MC_OK && (event = mc_exchange_next(&exchange)) != MC_EVENT_DONE) {
        status = event == MC_EVENT_BROKEN ? MC_MALFORMED : fill(held, clock);
    }
    if (status == MC_OK && !mc_exchange_end(&exchange)) {
        status = MC_MALFORMED;
    }
    held->connection->unanswered = 0;
    return status;
}

static PyObject *send_bytes(PyObject *self, PyObject *command, bool add_crlf)
{
    mcx_held *held = NULL;
    PyObject *bytes = NULL;
    mc_status status = MC_OK;
    mc_clock clock;

    if (PyUnicode_Check(command)) {
        bytes = PyUnicode_AsUTF8String(command);
    }
    else if (PyObject_CheckBuffer(command)) {
        bytes = PyBytes_FromObject(command);
    }
    else {
        PyErr_Format(PyExc_TypeError, "cmd must be bytes or str, not %.100s",
                     Py_TYPE(command)->tp_name);
    }
    held = bytes ? need_held(self) : NULL;
    if (held == NULL) {
        Py_XDECREF(bytes);
        return NULL;
    }
    struct iovec pieces[2] = {{PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)},
                              {"\r\n", 2}};

    held->broken = true; /* until its reply is known to be read */
    start_clock(self, &clock);
    if (held->connection->unanswered != 0) {
        status = bring_in_step(held, &clock);
    }
    if (status == MC_OK) {
        status = push(held, pieces, add_crlf ? 2 : 1, &clock);
    }
    if (status != MC_OK) {
        raise_status(held->connection, status);
        drop(self);
    }
    Py_DECREF(bytes);
    Py_DECREF(held);
    return status == MC_OK ? Py_NewRef(Py_None) : NULL;
}

static const mcx_signature send_cmd_signature = {
    .method = "send_cmd", .count = 1, .required = 1, .names = {"cmd"}};

MCX_METHOD(host_send_cmd)
{
    PyObject *values[1];

    return mcx_bind(&send_cmd_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : send_bytes(self, values[0], true);
}

static const mcx_signature send_cmds_signature = {
    .method = "send_cmds", .count = 1, .required = 1, .names = {"cmds"}};

MCX_METHOD(host_send_cmds)
{
    PyObject *values[1];

    return mcx_bind(&send_cmds_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : send_bytes(self, values[0], false);
}

static PyObject *host_readline(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"raise_exception", NULL};
    int raise_exception = 0;
    mcx_held *held;
    mc_clock clock;
    mc_status status = MC_OK;
    PyObject *line = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|p:readline", names, &raise_exception)) {
        return NULL;
    }
    held = mcx_held_find(module_of(self), self);
    if (check_not_moving(held) < 0) {
        Py_DECREF(held);
        return NULL;
    }
    start_clock(self, &clock);
    while (is_there(held)) {
        mc_buffer *in = &held->connection->in;
        size_t length = mc_buffer_length(in);
        const char *end = length ? memmem(mc_buffer_bytes(in), length, "\r\n", 2) : NULL;

        if (end != NULL) {
            line = PyBytes_FromStringAndSize(mc_buffer_bytes(in),
                                             (Py_ssize_t)(end - mc_buffer_bytes(in)));
            if (line != NULL) {
                mc_buffer_consume(in, (size_t)PyBytes_GET_SIZE(line) + 2);
            }
            Py_DECREF(held);
            return line;
        }
        status = length > ((size_t)1 << 20) ? MC_MALFORMED : fill(held, &clock);
        if (status != MC_OK) {
            break;
        }
    }
    if (status != MC_OK && status != MC_CLOSED) {
        raise_status(held->connection, status);
        drop(self);
    }
    else {
        PyObject *name = PyObject_Str(self);

        if (is_there(held)) {
            held->was_cut = mc_buffer_length(&held->connection->in) != 0;
        }
        drop(self);
        if (name != NULL && mcx_host_debuglog(module_of(self), self,
                                              "MemCache: %U: connection closed in readline().  "
                                              "Closing the connection.",
                                              name) == 0) {
            if (raise_exception) {
                PyErr_SetNone(module_of(self)->connection_dead_error);
            }
            else {
                line = PyUnicode_FromString("");
            }
        }
        Py_XDECREF(name);
    }
    Py_XDECREF(held);
    return line;
}

static const mcx_signature recv_signature = {
    .method = "recv", .count = 1, .required = 1, .names = {"rlen"}};

MCX_METHOD(host_recv)
{
    PyObject *values[1], *data = NULL;
    Py_ssize_t wanted;
    mcx_held *held;
    mc_clock clock;
    mc_status status = MC_OK;

    if (mcx_bind(&recv_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    wanted = PyNumber_AsSsize_t(values[0], PyExc_OverflowError);
    if (wanted == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (wanted < 0) {
        PyErr_SetString(PyExc_ValueError, "rlen must not be negative");
        return NULL;
    }
    held = need_held(self);
    if (held == NULL) {
        return NULL;
    }
    start_clock(self, &clock);
    while (status == MC_OK && is_there(held) &&
           mc_buffer_length(&held->connection->in) < (size_t)wanted) {
        status = fill(held, &clock);
    }
    if (status == MC_OK && is_there(held)) {
        mc_buffer *in = &held->connection->in;

        data = PyBytes_FromStringAndSize(in->data ? mc_buffer_bytes(in) : NULL, wanted);
        if (data != NULL) {
            mc_buffer_consume(in, (size_t)wanted);
        }
    }
    else {
        size_t have = mc_buffer_length(&held->connection->in);

        if (status == MC_CLOSED || status == MC_OK) {
            PyErr_Format(module_of(self)->error,
                         "Read %zu bytes, expecting %zd, read returned 0 length bytes", have,
                         wanted);
        }
        else {
            raise_status(held->connection, status);
        }
        drop(self);
    }
    Py_DECREF(held);
    return data;
}

static PyObject *host_expect(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"text", "raise_exception", NULL};
    PyObject *expected, *raise_exception = Py_False;
    PyObject *line = NULL, *shown = NULL, *wanted = NULL;
    mcx_module *module = module_of(self);

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:expect", names, &expected,
                                     &raise_exception)) {
        return NULL;
    }
    line = PyObject_CallMethodOneArg(self, module->host_hooks[MCX_HOOK_READLINE], raise_exception);
    if (line == NULL || !atomic_load(&((mcx_host *)self)->is_debug)) {
        return line;
    }
    int same = PyObject_RichCompareBool(line, expected, Py_EQ);
    if (same == 0) {
        wanted = PyObject_CheckBuffer(expected)
                     ? PyUnicode_FromEncodedObject(expected, "utf-8", "replace")
                     : Py_NewRef(expected);
        shown = PyBytes_Check(line) ? PyUnicode_DecodeUTF8(PyBytes_AS_STRING(line),
                                                           PyBytes_GET_SIZE(line), "replace")
                                    : Py_NewRef(line);
        same =
            wanted == NULL || shown == NULL
                ? -1
                : mcx_host_debuglog(module, self, "while expecting %R, got unexpected response %R",
                                    wanted, shown);
    }
    Py_XDECREF(wanted);
    Py_XDECREF(shown);
    if (same < 0) {
        Py_CLEAR(line);
    }
    return line;
}

static PyObject *host_connect(PyObject *self, PyObject *unused)
{
    mcx_module *module = module_of(self);
    mcx_host *host = (mcx_host *)self;
    mcx_held *held;
    int connected;

    (void)unused;
    if (!host->initialised) {
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has not been called");
        return NULL;
    }
    held = mcx_held_find(module, self);
    if (is_there(held) && !mc_connection_is_lost(held->connection)) {
        connected = 1;
    }
    else {
        connected = mcx_connect_direct(module, host);
    }
    Py_XDECREF(held);
    return connected < 0 ? NULL : PyLong_FromLong(connected);
}

/* A socket object of its own over the same stream: closing it leaves ours open. It waits as long as
 * the host's timeout says; the stream, whose mode it shares, stays one that blocks. */
static PyObject *make_socket(mcx_host *host, int fd)
{
    int64_t timeout = atomic_load(&host->timeout);
    PyObject *from = mcx_import("socket", "fromfd");
    PyObject *socket =
        from ? PyObject_CallFunction(from, "iOi", fd, host->family, (int)SOCK_STREAM) : NULL;
    PyObject *set = NULL;

    if (socket != NULL) {
        set = timeout == MC_NO_TIMEOUT ? PyObject_CallMethod(socket, "settimeout", "O", Py_None)
                                       : PyObject_CallMethod(socket, "settimeout", "d",
                                                             (double)timeout / (double)MC_SECOND);
    }
    int flags = set ? fcntl(fd, F_GETFL) : -1;
    if (set != NULL && (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(set);
    }
    if (set == NULL) {
        Py_CLEAR(socket);
    }
    Py_XDECREF(set);
    Py_XDECREF(from);
    return socket;
}

static PyObject *get_socket(PyObject *self, void *closure)
{
    mcx_held *held = mcx_held_find(module_of(self), self);
    PyObject *socket = NULL;

    (void)closure;
    if (held == NULL || held->connection == NULL) {
        Py_XDECREF(held);
        Py_RETURN_NONE;
    }
    if (held->connection->handle != NULL) {
        socket = Py_NewRef((PyObject *)held->connection->handle);
    }
    else if (held->socket != NULL) {
        socket = Py_NewRef(held->socket);
    }
    else {
        socket = make_socket((mcx_host *)self, held->connection->fd);
        held->socket = Py_XNewRef(socket);
    }
    Py_DECREF(held);
    return socket;
}

/* None closes it, as close_socket does; there is no other stream to put in its place. */
static int set_socket(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "a host's socket can be set to None only");
        return -1;
    }
    return mcx_held_drop(module_of(self), self);
}

static PyObject *host_get_socket(PyObject *self, PyObject *unused)
{
    PyObject *connected = host_connect(self, unused);
    int is_connected = connected ? PyObject_IsTrue(connected) : -1;

    Py_XDECREF(connected);
    if (is_connected < 0) {
        return NULL;
    }
    return is_connected ? get_socket(self, NULL) : Py_NewRef(Py_None);
}

static PyObject *host_close_socket(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (mcx_held_drop(module_of(self), self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *host_check_dead(PyObject *self, PyObject *unused)
{
    mc_server *server = &((mcx_host *)self)->server;
    int64_t until = atomic_load(&server->dead_until);
    int64_t now;

    (void)unused;
    if (until == 0) {
        return PyLong_FromLong(0);
    }
    if (mcx_wall_clock(module_of(self), &now) < 0) {
        return NULL;
    }
    if (until > now) {
        return PyLong_FromLong(1);
    }
    atomic_store(&server->dead_until, 0);
    return PyLong_FromLong(0);
}

static const mcx_signature mark_dead_signature = {
    .method = "mark_dead", .count = 1, .required = 1, .names = {"reason"}};

MCX_METHOD(host_mark_dead)
{
    PyObject *values[1];

    if (mcx_bind(&mark_dead_signature, args, nargs, kwnames, values) < 0 ||
        mcx_host_mark_dead(module_of(self), (mcx_host *)self, values[0]) < 0) {
        return NULL;
    }
    return host_close_socket(self, NULL);
}

static const mcx_signature debuglog_signature = {
    .method = "debuglog", .count = 1, .required = 1, .names = {"str"}};

MCX_METHOD(host_debuglog)
{
    PyObject *values[1], *line = NULL;
    int result = 0;

    if (mcx_bind(&debuglog_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (atomic_load(&((mcx_host *)self)->is_debug)) {
        line = PyUnicode_FromFormat("MemCached: %S\n", values[0]);
        result = line == NULL ? -1 : mcx_write_stderr(module_of(self), line);
        Py_XDECREF(line);
    }
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *host_flush(PyObject *self, PyObject *unused)
{
    mcx_module *module = module_of(self);
    PyObject *sent, *line = NULL;

    (void)unused;
    sent = PyObject_CallMethod(self, "send_cmd", "s", "flush_all");
    if (sent != NULL) {
        line = PyObject_CallMethod(self, "expect", "y", "OK");
    }
    (void)module;
    Py_XDECREF(sent);
    if (line == NULL) {
        return NULL;
    }
    Py_DECREF(line);
    Py_RETURN_NONE;
}

static PyObject *host_quit(PyObject *self, PyObject *unused)
{
    mcx_held *held = mcx_held_find(module_of(self), self);
    PyObject *sent;
    mc_clock clock;
    mc_status status;

    (void)unused;
    if (held == NULL || held->connection == NULL) {
        Py_XDECREF(held);
        Py_RETURN_NONE;
    }
    sent = PyObject_CallMethod(self, "send_cmd", "s", "quit");
    if (sent == NULL) {
        Py_DECREF(held);
        return NULL;
    }
    Py_DECREF(sent);
    /* The server's close is waited for, so that its side keeps TIME_WAIT. */
    start_clock(self, &clock);
    while ((status = fill(held, &clock)) == MC_OK) {
        mc_buffer_clear(&held->connection->in); /* nobody reads what it still has to say */
    }
    Py_DECREF(held);
    if (status == MC_RAISED) {
        drop(self);
        return NULL;
    }
    return host_close_socket(self, NULL);
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

static int set_option(PyObject *self, PyObject *value, int option)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = mcx_host_set_option((mcx_host *)self, option, value);
    Py_END_CRITICAL_SECTION();
    return result;
}

/* NULL: there is no such attribute until it is assigned again, and what it was stays in force. */
static int set_field(PyObject *self, PyObject *value, void *offset)
{
    switch (value != NULL ? (size_t)offset : 0) {
    case offsetof(mcx_host, debug):
        return set_option(self, value, MCX_OPT_DEBUG);
    case offsetof(mcx_host, dead_retry):
        return set_option(self, value, MCX_OPT_DEAD_RETRY);
    case offsetof(mcx_host, socket_timeout):
        return set_option(self, value, MCX_OPT_SOCKET_TIMEOUT);
    case offsetof(mcx_host, flush_on_reconnect):
        return set_option(self, value, MCX_OPT_FLUSH_ON_RECONNECT);
    default:
        break;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    set_object((PyObject **)((char *)self + (size_t)offset), value);
    Py_END_CRITICAL_SECTION();
    return 0;
}

static PyObject *get_deaduntil(PyObject *self, void *closure)
{
    int64_t until = atomic_load(&((mcx_host *)self)->server.dead_until);

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
    atomic_store(&((mcx_host *)self)->server.dead_until, seconds > 1e12
                                                             ? INT64_C(1000000000000000000)
                                                         : seconds > 0 ? (int64_t)(seconds * 1e6)
                                                                       : 0);
    return 0;
}

static PyObject *get_flush_on_next_connect(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLong((long)atomic_load(&((mcx_host *)self)->server.flush_on_connect));
}

static int set_flush_on_next_connect(PyObject *self, PyObject *value, void *closure)
{
    int flag = value ? PyObject_IsTrue(value) : 0;

    (void)closure;
    if (flag < 0) {
        return -1;
    }
    atomic_store(&((mcx_host *)self)->server.flush_on_connect, (uint32_t)flag);
    return 0;
}

static PyObject *get_buffer(PyObject *self, void *closure)
{
    mcx_held *held = mcx_held_find(module_of(self), self);
    PyObject *bytes;

    (void)closure;
    if (held == NULL || held->connection == NULL || mc_buffer_length(&held->connection->in) == 0) {
        bytes = PyBytes_FromStringAndSize(NULL, 0);
    }
    else {
        bytes = PyBytes_FromStringAndSize(mc_buffer_bytes(&held->connection->in),
                                          (Py_ssize_t)mc_buffer_length(&held->connection->in));
    }
    Py_XDECREF(held);
    return bytes;
}

/* What a readline or recv of another's has read from the socket and not used. */
static int set_buffer(PyObject *self, PyObject *value, void *closure)
{
    mcx_held *held = NULL;
    Py_buffer view;
    int result = -1;

    (void)closure;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the attribute cannot be deleted");
        return -1;
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    held = mcx_held_find(module_of(self), self);
    if (!is_there(held) && view.len == 0) { /* as it is */
        result = 0;
        goto done;
    }
    Py_XSETREF(held, need_held(self));
    if (held == NULL) {
        goto done;
    }
    held->broken = true; /* unless a call reads by the host's methods alone, and all of it */
    mc_buffer_clear(&held->connection->in);
    if (mc_buffer_append(&held->connection->in, view.buf, (size_t)view.len)) {
        result = 0;
    }
    else {
        PyErr_NoMemory();
    }
done:
    Py_XDECREF(held);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *host_str(PyObject *self)
{
    return mcx_host_text((mcx_host *)self);
}

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, get_field, set_field, NULL, (void *)offsetof(mcx_host, name)                        \
    }
#define CONSTANT(name)                                                                             \
    {                                                                                              \
#name, get_field, NULL, NULL, (void *)offsetof(mcx_host, name)                             \
    }

static PyGetSetDef host_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
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
    {"socket", get_socket, set_socket, "The socket that this thread holds for the host, or None.",
     NULL},
    {"buffer", get_buffer, set_buffer, "Bytes received on that socket and not yet read.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef host_methods[] = {
    {"connect", host_connect, METH_NOARGS,
     "connect($self)\n--\n\nHold a connection to the server for this thread; 1, or 0 where it is "
     "dead."},
    {"_get_socket", host_get_socket, METH_NOARGS,
     "_get_socket($self)\n--\n\nConnect; the socket, or None where the server is dead."},
    {"_check_dead", host_check_dead, METH_NOARGS,
     "_check_dead($self)\n--\n\n1 while the dead mark holds, else 0."},
    MCX_DEF("mark_dead", host_mark_dead,
            "mark_dead($self, reason)\n--\n\nTake the server as dead for dead_retry seconds and "
            "close its connections."),
    {"close_socket", host_close_socket, METH_NOARGS,
     "close_socket($self)\n--\n\nClose the connection that this thread holds."},
    MCX_DEF("send_cmd", host_send_cmd,
            "send_cmd($self, cmd)\n--\n\nSend a command, bytes or str, and CRLF on the held "
            "connection."),
    MCX_DEF("send_cmds", host_send_cmds,
            "send_cmds($self, cmds)\n--\n\nSend commands that end in CRLF already."),
    {"readline", (PyCFunction)(void (*)(void))host_readline, METH_VARARGS | METH_KEYWORDS,
     "readline($self, raise_exception=False)\n--\n\nThe next line without CRLF, as bytes; '' where "
     "the server closed, or _ConnectionDeadError with raise_exception. TimeoutError after "
     "socket_timeout seconds."},
    {"expect", (PyCFunction)(void (*)(void))host_expect, METH_VARARGS | METH_KEYWORDS,
     "expect($self, text, raise_exception=False)\n--\n\nreadline(), with a debug line where it is "
     "not text."},
    MCX_DEF("recv", host_recv,
            "recv($self, rlen)\n--\n\nExactly rlen bytes; memcache._Error where the server closed "
            "before."),
    {"flush", host_flush, METH_NOARGS, "flush($self)\n--\n\nSend flush_all and read its answer."},
    {"quit", host_quit, METH_NOARGS,
     "quit($self)\n--\n\nSend quit and wait until the server has closed."},
    MCX_DEF("debuglog", host_debuglog,
            "debuglog($self, str)\n--\n\nWrite a line to sys.stderr where debug is set."),
    {NULL, NULL, 0, NULL},
};

static struct PyMemberDef host_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(mcx_host, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mcx_host, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot host_slots[] = {
    {Py_tp_new, host_alloc},
    {Py_tp_init, host_init},
    {Py_tp_dealloc, host_dealloc},
    {Py_tp_traverse, host_traverse},
    {Py_tp_clear, host_clear},
    {Py_tp_setattro, host_setattro},
    {Py_tp_str, host_str},
    {Py_tp_methods, host_methods},
    {Py_tp_getset, host_getset},
    {Py_tp_members, host_members},
    {Py_tp_doc,
     "_Host(host, debug=0, dead_retry=30, socket_timeout=3, flush_on_reconnect=0)\n--\n\n"
     "One server: its address, its health and its connections."},
    {0, NULL},
};

PyType_Spec mcx_host_spec = {
    .name = "memcache._Host",
    .basicsize = sizeof(mcx_host),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = host_slots,
};
