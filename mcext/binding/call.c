/* call: one call of a client's method from begin to end: its snapshot, the server it chooses, the
 * connection it owns, the bytes it moves, and what happens when that fails.
 *
 * Everything here belongs to the calling thread. The GIL is released around native I/O only. */
#include "mcx.h"

#include <string.h>

/* An idle connection older than this is closed by some later call. */
#define IDLE_LIMIT (60 * MC_SECOND)
#define REAP_STEPS 16
#define REAP_AT_MOST 2

/* ---- begin and end -------------------------------------------------------------------------- */

/* Enters the snapshot that is current; see mcx_call_begin. */
static int enter(mcx_call *call)
{
    int replaces = 0;

    call->snapshot = mcx_core_enter(call->core);
    if (!mcx_is_plain(call->module, call->core, call->snapshot, call->self)) {
        replaces = mcx_replaces_slow(call->module, call->core, call->snapshot, call->self);
    }
    call->debuglog_is_replaced = replaces > 0 && (replaces & MCX_REPLACES_DEBUGLOG);
    if (UNLIKELY(replaces < 0 || (replaces & MCX_REPLACES_INSIDES))) {
        mcx_core_leave(call->snapshot);
        return replaces < 0 ? -1 : 1;
    }
    return 0;
}

static int begin_entered(mcx_call *call, mcx_module *module, PyObject *self, bool inner)
{
    int begun = 0;

    call->self = self;
    call->module = module;
    call->core = mcx_core_of(module, self);
    if (UNLIKELY(call->core == NULL)) {
        return -1;
    }
    call->kind = NULL;
    call->owner = 0;
    call->socket_class = NULL;
    call->is_customised = false;
    call->record = mcx_record_of(module, call->core, self);
    if (UNLIKELY(call->record == NULL)) {
        return -1;
    }
    if (UNLIKELY(mcx_find_socket_class(module, &call->socket_class) < 0)) {
        begun = -1;
    }
    else if (UNLIKELY(inner)) {
        call->snapshot = mcx_core_enter(call->core);
        call->debuglog_is_replaced = true; /* whether or not: the method is called */
    }
    else {
        begun = enter(call);
    }
    if (UNLIKELY(begun != 0)) {
        Py_XDECREF(call->socket_class);
        Py_DECREF(call->record);
        return begun;
    }
    if (UNLIKELY(call->socket_class != NULL)) {
        call->kind = call->socket_class;
        call->owner = mcx_socket_owner(call->socket_class);
    }
    mc_clock_start(&call->clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT); /* until a server is chosen */
    return 0;
}

static int begin(mcx_call *call, PyObject *self, bool inner)
{
    mcx_module *module = mcx_module_of(self);
    int begun = 0;

    if (UNLIKELY(module == NULL)) {
        PyErr_SetString(PyExc_TypeError, "the class of this client is no Client any more");
        return -1;
    }
    /* What a call runs of its caller's may call the client again, without a frame of Python's. */
    if (UNLIKELY(Py_EnterRecursiveCall(" in a call of a Client"))) {
        return -1;
    }
    begun = begin_entered(call, module, self, inner);
    if (UNLIKELY(begun != 0)) {
        Py_LeaveRecursiveCall();
    }
    return begun;
}

int mcx_call_begin(mcx_call *call, PyObject *self)
{
    return begin(call, self, false);
}

int mcx_call_begin_inner(mcx_call *call, PyObject *self)
{
    return begin(call, self, true);
}

int mcx_call_begin_listed(mcx_call *call, PyObject *self)
{
    int begun = mcx_call_begin(call, self);

    if (begun == 0 && UNLIKELY(!mcx_lists_are_current(call->snapshot))) {
        begun = mcx_core_take_lists(call->core);
        (void)mcx_call_end(call, NULL);
        return begun < 0 ? -1 : mcx_call_begin(call, self);
    }
    return begun;
}

/* Closes connections that have been idle for long: a few looks, at most two closed. */
void mcx_reap(mcx_module *module, mcx_core *core, mcx_snapshot *snapshot, int64_t now)
{
    size_t steps = REAP_STEPS;
    int closed = 0;
    bool round_done = false;

    while (steps > 0 && closed < REAP_AT_MOST && snapshot->server_count > 0) {
        size_t at = atomic_load_explicit(&core->reap_server, memory_order_relaxed);

        if (at >= snapshot->server_count) {
            atomic_store_explicit(&core->reap_server, 0, memory_order_relaxed);
            round_done = true;
            break;
        }
        mc_connection *idle = NULL;
        mcx_server *host = (mcx_server *)snapshot->server[at];
        if (mcx_is_server(module, snapshot->server[at]) && host->initialised) {
            idle = mc_pool_take_idle(&host->server.pool, mcx_thread_number(), now - IDLE_LIMIT,
                                     &steps);
        }
        if (idle != NULL) {
            mc_pool_give(idle, false, now);
            closed++;
        }
        else {
            atomic_store_explicit(&core->reap_server, at + 1, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&core->next_reap, round_done ? now + MC_SECOND : now,
                          memory_order_relaxed);
}

PyObject *mcx_call_end(mcx_call *call, PyObject *result)
{
    if (UNLIKELY(call->clock.start >=
                 atomic_load_explicit(&call->core->next_reap, memory_order_relaxed))) {
        PyObject *type, *value, *traceback;

        PyErr_Fetch(&type, &value, &traceback);
        mcx_reap(call->module, call->core, call->snapshot, call->clock.start);
        PyErr_Restore(type, value, traceback);
    }
    mcx_core_leave(call->snapshot);
    Py_XDECREF(call->socket_class);
    Py_DECREF(call->record);
    Py_LeaveRecursiveCall();
    return result;
}

PyObject *mcx_call_finish(mcx_call *call, PyObject *result, int method, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    bool is_customised = call->is_customised;
    PyObject *self = call->self;

    result = mcx_call_end(call, result);
    return UNLIKELY(is_customised) ? mcx_pure(self, method, args, nargs, kwnames) : result;
}

/* ---- words ---------------------------------------------------------------------------------- */

/* sys.stderr of this moment: a new reference, or NULL without an exception. */
static PyObject *find_stderr(void)
{
    PyObject *stream = NULL;

#if PY_VERSION_HEX >= 0x030D0000
    PyObject *sys = PyImport_ImportModule("sys");

    if (sys == NULL || PyObject_GetOptionalAttrString(sys, "stderr", &stream) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(sys);
#else
    stream = Py_XNewRef(PySys_GetObject("stderr"));
#endif
    return stream;
}

int mcx_write_stderr(mcx_module *module, PyObject *text)
{
    PyObject *stream = find_stderr();
    PyObject *result;

    if (stream == NULL || stream == Py_None) {
        Py_XDECREF(stream);
        return 0;
    }
    result = PyObject_CallMethodOneArg(stream, module->str_write, text);
    Py_DECREF(stream);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int mcx_debuglog(mcx_call *call, const char *format, ...)
{
    PyObject *type, *value, *traceback, *text, *result = NULL;
    va_list words;

    if (!call->snapshot->debug && !call->debuglog_is_replaced) {
        return 0;
    }
    PyErr_Fetch(&type, &value, &traceback); /* a debug line must not eat what it stands beside */
    va_start(words, format);
    text = PyUnicode_FromFormatV(format, words);
    va_end(words);
    if (text != NULL) {
        result = PyObject_CallMethodOneArg(call->self,
                                           call->module->client_insides[MCX_INSIDE_DEBUGLOG], text);
    }
    int failed = result == NULL ? -1 : 0;

    Py_XDECREF(text);
    Py_XDECREF(result);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return failed;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static inline bool is_native(const mc_connection *connection)
{
    return connection->transport == &mc_native_transport;
}

mc_status mcx_roundtrip(mcx_call *call, mcx_target *target, struct iovec *pieces, int count,
                        mc_exchange *exchange)
{
    mc_connection *connection = target->connection;
    mc_status status;

    do {
        if (LIKELY(is_native(connection))) {
            Py_BEGIN_ALLOW_THREADS
            status = mc_connection_send(connection, &pieces, &count, &call->clock);
            if (status == MC_OK) {
                status = mc_connection_receive(connection, exchange, &call->clock);
            }
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_send(connection, &pieces, &count, &call->clock);
            if (status == MC_OK) {
                status = mc_connection_receive(connection, exchange, &call->clock);
            }
        }
        if (UNLIKELY(status == MC_INTERRUPTED) && PyErr_CheckSignals() < 0) {
            return MC_RAISED;
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

mc_status mcx_send(mcx_call *call, mcx_target *target, struct iovec *pieces, int count)
{
    mc_connection *connection = target->connection;
    mc_status status;

    do {
        if (is_native(connection)) {
            Py_BEGIN_ALLOW_THREADS
            status = mc_connection_send(connection, &pieces, &count, &call->clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_send(connection, &pieces, &count, &call->clock);
        }
        if (status == MC_INTERRUPTED && PyErr_CheckSignals() < 0) {
            return MC_RAISED;
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

mc_status mcx_receive(mcx_call *call, mcx_target *target, mc_exchange *exchange)
{
    mc_connection *connection = target->connection;
    mc_status status;

    do {
        if (is_native(connection)) {
            Py_BEGIN_ALLOW_THREADS
            status = mc_connection_receive(connection, exchange, &call->clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_receive(connection, exchange, &call->clock);
        }
        /* A long receive returns early with what it has when a signal comes. */
        if (PyErr_CheckSignals() < 0) {
            return MC_RAISED;
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

void mcx_target_note_time(mcx_call *call, mcx_target *target)
{
    target->late = call->clock.late && mc_clock_left(&call->clock, mc_clock_now()) == 0;
}

int mcx_fail(mcx_call *call, mcx_target *target, mc_status status)
{
    PyObject *reason;
    int result = 0;

    (void)call;
    if (status == MC_RAISED) {
        return -1;
    }
    if (status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    reason = mcx_status_text(target->connection, status);
    if (reason == NULL) {
        return -1;
    }
    if (status == MC_TIMEOUT && !target->late) {
        result = mcx_server_mark_dead(target->host, reason);
    }
    else if (atomic_load(&target->host->is_debug)) {
        PyObject *name = PyObject_Str((PyObject *)target->host);

        result = name == NULL ? -1
                              : mcx_server_debuglog(target->host,
                                                    "MemCache: %U: %U.  Closing the connection.",
                                                    name, reason);
        Py_XDECREF(name);
    }
    Py_DECREF(reason);
    return result;
}

/* ---- connections ---------------------------------------------------------------------------- */

/* The first thing on a new connection where the host asked for it: flush_all, once. */
static mc_status flush_first(mcx_call *call, mcx_server *host, mc_connection *connection,
                             bool *clean)
{
    mcx_target target = {.host = host, .connection = connection};
    mc_exchange exchange;
    char command[] = "flush_all\r\n";
    struct iovec piece = {command, sizeof command - 1};
    mc_status status;
    mc_event event;

    mc_exchange_init(&exchange, &connection->in, MC_FLUSH_ALL, NULL, 1, false);
    status = mcx_roundtrip(call, &target, &piece, 1, &exchange);
    while (status == MC_OK && (event = mc_exchange_next(&exchange)) != MC_EVENT_DONE) {
        if (event == MC_EVENT_BROKEN) {
            status = MC_MALFORMED;
        }
        else if (event == MC_EVENT_AGAIN) {
            status = mcx_receive(call, &target, &exchange);
        }
    }
    *clean = status == MC_OK && mc_exchange_end(&exchange);
    return status;
}

static int connect_failed(mcx_server *host, mc_connection *connection, mc_status status)
{
    PyObject *text, *reason = NULL;
    int result = -1;

    if (status == MC_RAISED || status == MC_NO_MEMORY) {
        if (status == MC_NO_MEMORY) {
            PyErr_NoMemory();
        }
        return -1;
    }
    text = mcx_status_text(connection, status);
    if (text != NULL) {
        reason = PyUnicode_FromFormat("connect: %U", text);
    }
    if (reason != NULL) {
        result = mcx_server_mark_dead(host, reason);
    }
    Py_XDECREF(text);
    Py_XDECREF(reason);
    return result;
}

/* Opens connection, which the call owns. 1, or 0 and -1: then it has been given back. */
static int open_connection(mcx_call *call, mcx_server *host, mc_connection *connection)
{
    mc_status status;

    if (mc_clock_connect_left(&call->clock) == 0) {
        mc_pool_give(connection, false, 0);
        return 0; /* the call's budget is spent, which says nothing about this server */
    }
    connection->kind = call->kind;
    connection->owner = call->owner;
    status = mcx_server_open(host, connection, call->socket_class, &call->clock);
    if (status == MC_OK) {
        mc_pool_opened(connection);
        if (atomic_exchange(&host->server.flush_on_connect, 0)) {
            bool clean;

            status = flush_first(call, host, connection, &clean);
            if (status != MC_OK) {
                atomic_store(&host->server.flush_on_connect, 1);
            }
            else if (!clean) {
                mc_connection_close(connection);
                return open_connection(call, host, connection);
            }
        }
    }
    if (status == MC_OK) {
        return 1;
    }
    int result = connect_failed(host, connection, status);
    mc_pool_give(connection, false, 0);
    return result;
}

/* A connection to host that this call owns: 1, 0, -1. fresh: newly opened. *probe: the server's
 * dead mark has run out and this call alone tries it; how it ends decides about the mark. */
static int acquire(mcx_call *call, mcx_server *host, bool fresh, mc_connection **found, bool *probe)
{
    *probe = false;
    call->clock.timeout = atomic_load_explicit(&host->timeout, memory_order_relaxed);
    call->clock.connect_timeout = atomic_load_explicit(&host->connect_within, memory_order_relaxed);
    if (UNLIKELY(atomic_load_explicit(&host->server.dead_until, memory_order_relaxed) != 0)) {
        int64_t now;

        if (mcx_wall_clock(call->module, &now) < 0) {
            return -1;
        }
        mc_server_health health = mc_server_check(&host->server, now);
        if (health == MC_SERVER_DEAD) {
            return 0;
        }
        *probe = health == MC_SERVER_PROBE;
    }
    mc_connection *connection = mc_pool_take(&host->server.pool, call->kind, call->owner);
    int opened = -1;

    if (UNLIKELY(connection == NULL)) {
        PyErr_NoMemory();
        goto settle;
    }
    if (LIKELY(atomic_load_explicit(&connection->open, memory_order_relaxed))) {
        int64_t idle =
            call->clock.start - atomic_load_explicit(&connection->last_used, memory_order_relaxed);

        if (LIKELY(!fresh && (idle < MCX_LOOK_AFTER || mc_connection_is_quiet(connection)))) {
            *found = connection;
            return 1;
        }
        mc_connection_close(connection);
    }
    opened = open_connection(call, host, connection);
settle:
    *found = opened > 0 ? connection : NULL;
    if (UNLIKELY(*probe && opened <= 0)) {
        *probe = false;
        mc_server_give_up_probe(&host->server);
    }
    return opened;
}

static int connect_host(mcx_call *call, mcx_server *host, bool fresh, mcx_target *target)
{
    int connected;

    target->host = NULL;
    target->connection = NULL;
    target->probe = target->asked = target->late = false;
    if (UNLIKELY(!host->initialised)) {
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has not been called");
        return -1;
    }
    connected = acquire(call, host, fresh, &target->connection, &target->probe);
    if (connected > 0) {
        target->host = (mcx_server *)Py_NewRef((PyObject *)host);
    }
    return connected;
}

int mcx_connect_host(mcx_call *call, mcx_server *host, mcx_target *target)
{
    return connect_host(call, host, false, target);
}

int mcx_reconnect(mcx_call *call, mcx_target *target)
{
    mcx_server *host = (mcx_server *)Py_NewRef((PyObject *)target->host);
    int connected;

    mcx_target_end(call, target, false);
    connected = connect_host(call, host, true, target);
    Py_DECREF((PyObject *)host);
    return connected;
}

void mcx_target_end(mcx_call *call, mcx_target *target, bool clean)
{
    if (UNLIKELY(target->probe)) {
        mc_server *server = &target->host->server;

        target->probe = false;
        if (clean && target->asked) {
            mc_server_mark_alive(server);
        }
        else {
            mc_server_give_up_probe(server); /* after a dead mark of this call: no change */
        }
    }
    if (target->connection != NULL) {
        if (LIKELY(clean || is_native(target->connection))) {
            mc_pool_give(target->connection, clean, call->clock.start);
        }
        else {
            PyObject *type, *value, *traceback;

            PyErr_Fetch(&type, &value, &traceback); /* closing runs Python code */
            mc_pool_give(target->connection, false, call->clock.start);
            PyErr_Restore(type, value, traceback);
        }
    }
    target->connection = NULL;
    Py_CLEAR(target->host);
}

/* ---- server choice -------------------------------------------------------------------------- */

/* serverHashFunction(bytes), a caller's own: a new int. */
static PyObject *call_hash(mcx_module *module, mc_slice text)
{
    PyObject *function = NULL, *key, *hash = NULL;

    Py_BEGIN_CRITICAL_SECTION(module->guard);
    function = Py_XNewRef(module->hash_function);
    Py_END_CRITICAL_SECTION();
    key = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    if (function != NULL && key != NULL) {
        hash = PyObject_CallOneArg(function, key);
    }
    else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "serverHashFunction was changed during the call");
    }
    Py_XDECREF(function);
    Py_XDECREF(key);
    return hash;
}

/* A walk over buckets whose hash is a Python int: a caller's own function, or a tuple's. */
typedef struct {
    mc_ring_walk walk;
    PyObject *big; /* strong: the hash where walk.hash cannot hold it */
    int kind;
} ring_walk;

static int set_hash(ring_walk *walk, PyObject *hash)
{
    Py_CLEAR(walk->big);
    if (!PyLong_Check(hash)) {
        PyObject *index = PyNumber_Index(hash);

        if (index == NULL && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        if (index == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "the hash of a (hash, key) tuple, and what "
                         "serverHashFunction returns, must be an int, not %.100s",
                         Py_TYPE(hash)->tp_name);
            return -1;
        }
        walk->big = index;
    }
    else {
        walk->big = Py_NewRef(hash);
        if (!PyLong_CheckExact(hash)) {
            return 0; /* its str() counts for the next hash: that of True is no number */
        }
    }
    unsigned long long small = PyLong_AsUnsignedLongLong(walk->big);
    if (small == (unsigned long long)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear(); /* negative or huge: big stays */
        return 0;
    }
    walk->walk.hash = small;
    Py_CLEAR(walk->big);
    return 0;
}

static int walk_begin(mcx_call *call, const mcx_key *key, ring_walk *walk)
{
    walk->walk.tries = 0;
    walk->big = NULL;
    walk->kind = atomic_load_explicit(&call->module->hash_kind, memory_order_acquire);
    if (UNLIKELY(key->hash != NULL)) {
        return set_hash(walk, key->hash);
    }
    if (UNLIKELY(walk->kind == MCX_HASH_PYTHON)) {
        PyObject *hash = call_hash(call->module, key->text);
        int result = hash == NULL ? -1 : set_hash(walk, hash);

        Py_XDECREF(hash);
        return result;
    }
    walk->walk.hash =
        walk->kind == MCX_HASH_CRC32 ? mc_hash_crc32(key->text) : mc_hash_default(key->text);
    return 0;
}

static int walk_index(const ring_walk *walk, size_t buckets, size_t *index)
{
    if (LIKELY(walk->big == NULL)) {
        *index = mc_ring_index(&walk->walk, buckets);
        return 0;
    }
    PyObject *count = PyLong_FromSize_t(buckets);
    PyObject *rest = count ? PyNumber_Remainder(walk->big, count) : NULL;

    *index = rest ? PyLong_AsSize_t(rest) : SIZE_MAX;
    Py_XDECREF(count);
    Py_XDECREF(rest);
    if (*index >= buckets && !PyErr_Occurred()) { /* a subclass of int may say what it likes */
        PyErr_SetString(PyExc_IndexError, "the remainder of a hash is beyond the buckets");
    }
    return *index < buckets ? 0 : -1;
}

static int walk_next(mcx_call *call, ring_walk *walk)
{
    if (LIKELY(walk->big == NULL && walk->kind != MCX_HASH_PYTHON)) {
        mc_ring_next(&walk->walk, walk->kind == MCX_HASH_CRC32);
        return 0;
    }
    PyObject *hash =
        walk->big ? Py_NewRef(walk->big) : PyLong_FromUnsignedLongLong(walk->walk.hash);
    PyObject *text = hash ? PyUnicode_FromFormat("%S%u", hash, walk->walk.tries) : NULL;
    PyObject *next = NULL;
    Py_ssize_t length;
    const char *bytes = text ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;
    int result = -1;

    if (bytes != NULL) {
        mc_slice digits = {bytes, (size_t)length};

        next = walk->kind == MCX_HASH_PYTHON  ? call_hash(call->module, digits)
               : walk->kind == MCX_HASH_CRC32 ? PyLong_FromUnsignedLong(mc_hash_crc32(digits))
                                              : PyLong_FromUnsignedLong(mc_hash_default(digits));
    }
    if (next != NULL) {
        result = set_hash(walk, next);
        walk->walk.tries++;
    }
    Py_XDECREF(hash);
    Py_XDECREF(text);
    Py_XDECREF(next);
    return result;
}

PyObject *mcx_server_hash(mcx_module *module, mc_slice text)
{
    switch (atomic_load_explicit(&module->hash_kind, memory_order_acquire)) {
    case MCX_HASH_PYTHON:
        return call_hash(module, text);
    case MCX_HASH_CRC32:
        return PyLong_FromUnsignedLong(mc_hash_crc32(text));
    default:
        return PyLong_FromUnsignedLong(mc_hash_default(text));
    }
}

/* After the walk's tries: any server that lives, in order. */
static int choose_remaining(mcx_call *call, mcx_connector connect, void *context)
{
    mcx_snapshot *snapshot = call->snapshot;

    int connected = 0;

    for (size_t i = 0; i < snapshot->bucket_count && connected == 0; i++) {
        if (i == 0 || snapshot->bucket[i] != snapshot->bucket[i - 1]) {
            connected = connect(call, i, context);
        }
    }
    return connected;
}

int mcx_choose(mcx_call *call, const mcx_key *key, mcx_connector connect, void *context)
{
    size_t buckets = call->snapshot->bucket_count;
    ring_walk walk = {.big = NULL};
    int connected = -1;

    if (UNLIKELY(buckets == 0)) {
        return 0;
    }
    if (LIKELY(buckets == 1 && key->hash == NULL &&
               atomic_load_explicit(&call->module->hash_kind, memory_order_relaxed) !=
                   MCX_HASH_PYTHON)) {
        return connect(call, 0, context);
    }
    if (walk_begin(call, key, &walk) < 0) {
        goto done;
    }
    int retries = atomic_load_explicit(&call->core->server_retries, memory_order_relaxed);
    for (int i = 0; i < retries; i++) {
        size_t index;

        connected = walk_index(&walk, buckets, &index) < 0 ? -1 : connect(call, index, context);
        if (LIKELY(connected != 0)) {
            goto done;
        }
        if (walk_next(call, &walk) < 0) {
            connected = -1;
            goto done;
        }
    }
    connected = choose_remaining(call, connect, context);
done:
    Py_XDECREF(walk.big);
    return connected;
}

/* The bucket's list was changed in place: the call goes on with what it holds now. As mcx_select.
 */
static int take_lists(mcx_call *call)
{
    int entered;

    if (mcx_core_take_lists(call->core) < 0) {
        return -1;
    }
    mcx_snapshot *before = call->snapshot;

    entered = enter(call);
    if (entered != 0) {
        call->snapshot = before;
        call->is_customised = entered > 0;
        return -1;
    }
    mcx_core_leave(before);
    return 0;
}

typedef struct {
    mcx_target *target;
    bool is_stale;
} selection;

static int connect_bucket(mcx_call *call, size_t bucket, void *context)
{
    selection *selected = context;

    if (UNLIKELY(!mcx_bucket_is(call->snapshot, bucket))) {
        selected->is_stale = true;
        return -1;
    }
    return mcx_connect_host(call, (mcx_server *)call->snapshot->bucket[bucket], selected->target);
}

int mcx_select(mcx_call *call, const mcx_key *key, mcx_target *target)
{
    for (int again = 0;; again++) {
        selection selected = {target, false};
        int found = -1;

        *target = (mcx_target){.host = NULL};
        if (LIKELY((size_t)PyList_GET_SIZE(call->snapshot->buckets) ==
                   call->snapshot->bucket_count)) {
            found = mcx_choose(call, key, connect_bucket, &selected);
        }
        else {
            selected.is_stale = true;
        }
        if (LIKELY(!selected.is_stale)) {
            return found;
        }
        if (again == 10) { /* somebody changes it all the time */
            return 0;
        }
        if (take_lists(call) < 0) {
            return -1;
        }
    }
}
