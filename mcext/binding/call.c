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

#define ALL_HOOKS UINT32_MAX

/* Replaced methods of a client that see a host in the middle of a call. */
#define HOOKS_WITH_HOST                                                                            \
    ((UINT32_C(1) << MCX_HOOK_GET_SERVER) | (UINT32_C(1) << MCX_HOOK_RECV_VALUE) |                 \
     (UINT32_C(1) << MCX_HOOK_MAP_AND_PREFIX_KEYS))

/* ---- which methods are replaced ------------------------------------------------------------- */

static int compare_hooks(PyTypeObject *type, PyObject *const *names, PyObject *const *originals,
                         int count, uint32_t *hooks)
{
    *hooks = 0;
    for (int hook = 0; hook < count; hook++) {
        PyObject *found = PyObject_GetAttr((PyObject *)type, names[hook]);

        if (found == NULL) {
            return -1;
        }
        if (found != originals[hook]) {
            *hooks |= UINT32_C(1) << hook;
        }
        Py_DECREF(found);
    }
    return 0;
}

/* A type's version and hooks as they are kept: version << 32 | hooks. A version belongs to one
 * state of one type. */
static int find_hooks(PyTypeObject *type, PyObject *const *names, PyObject *const *originals,
                      int count, _Atomic uint64_t *check, uint32_t *hooks)
{
    for (int again = 0; again < 3; again++) {
        if (compare_hooks(type, names, originals, count, hooks) < 0) {
            return -1;
        }
        uint32_t version = mcx_type_version(type);
        uint32_t seen;

        /* The version was given by the look-ups above, unless the type changed among them. */
        if (compare_hooks(type, names, originals, count, &seen) < 0) {
            return -1;
        }
        if (version == mcx_type_version(type) && seen == *hooks) {
            atomic_store_explicit(check, (uint64_t)version << 32 | *hooks, memory_order_release);
            return 0;
        }
    }
    return 0;
}

static int find_client_hooks(mcx_module *module, mcx_core *core, PyTypeObject *type,
                             uint32_t *hooks)
{
    PyObject *retries = PyObject_GetAttr((PyObject *)type, module->str_server_retries);
    long count = retries ? PyLong_AsLong(retries) : -1;

    Py_XDECREF(retries);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    atomic_store(&core->server_retries, count < 0 ? 0 : count > 1000000 ? 1000000 : (int)count);
    atomic_store(&core->plain_version, 0);
    if (find_hooks(type, module->client_hooks, module->client_originals, MCX_CLIENT_HOOK_COUNT,
                   &core->type_check, hooks) < 0) {
        return -1;
    }
    if (*hooks == 0 && module->local_is_native &&
        type->tp_getattro == module->client_type->tp_getattro) {
        atomic_store(&core->plain_version, (uint32_t)(atomic_load(&core->type_check) >> 32));
    }
    if (atomic_load(&core->instance_hooks) != 0) {
        atomic_store(&core->plain_version, 0);
    }
    return 0;
}

/* A subclass with a __setattr__ of its own, or object's, may set what ours does not see. */
static int instance_dict_hooks(mcx_module *module, PyObject *self, uint32_t *hooks)
{
    PyObject *dict = PyObject_GetAttr(self, module->str_dict);

    if (dict == NULL || !PyDict_Check(dict)) {
        PyErr_Clear();
        Py_XDECREF(dict);
        return 0;
    }
    for (int hook = 0; hook < MCX_CLIENT_HOOK_COUNT; hook++) {
        int there = PyDict_Contains(dict, module->client_hooks[hook]);

        if (there < 0) {
            Py_DECREF(dict);
            return -1;
        }
        *hooks |= (uint32_t)there << hook;
    }
    Py_DECREF(dict);
    return 0;
}

static inline int client_hooks(mcx_module *module, mcx_core *core, PyObject *self, uint32_t *hooks)
{
    PyTypeObject *type = Py_TYPE(self);
    uint64_t check = atomic_load_explicit(&core->type_check, memory_order_acquire);
    uint32_t version = mcx_type_version(type);

    *hooks = (uint32_t)check;
    if (UNLIKELY(version == 0 || check >> 32 != version)) {
        Py_INCREF(type); /* a descriptor of the class may give self another one */
        int found = find_client_hooks(module, core, type, hooks);
        Py_DECREF(type);
        if (found < 0) {
            return -1;
        }
    }
    *hooks |= atomic_load_explicit(&core->instance_hooks, memory_order_relaxed);
    if (UNLIKELY(MCX_IS_SET(*hooks, SETATTR))) {
        return instance_dict_hooks(module, self, hooks);
    }
    return 0;
}

static inline int host_class_hooks(mcx_module *module, uint32_t *hooks)
{
    uint64_t check = atomic_load_explicit(&module->host_check, memory_order_acquire);
    uint32_t version = mcx_type_version(module->host_type);

    *hooks = (uint32_t)check;
    if (UNLIKELY(version == 0 || check >> 32 != version)) {
        atomic_store(&module->plain_host_version, 0);
        if (find_hooks(module->host_type, module->host_hooks, module->host_originals,
                       MCX_HOST_HOOK_COUNT, &module->host_check, hooks) < 0) {
            return -1;
        }
        if (*hooks == 0) {
            atomic_store(&module->plain_host_version,
                         (uint32_t)(atomic_load(&module->host_check) >> 32));
        }
    }
    return 0;
}

bool mcx_is_host(mcx_module *module, PyObject *object)
{
    return PyObject_TypeCheck(object, module->host_type);
}

uint32_t mcx_host_hooks(mcx_module *module, PyObject *host)
{
    uint32_t hooks = ALL_HOOKS;

    if (!mcx_is_host(module, host)) {
        return hooks;
    }
    if (Py_IS_TYPE(host, module->host_type)) {
        if (host_class_hooks(module, &hooks) < 0) {
            PyErr_Clear();
            return ALL_HOOKS;
        }
    }
    else if (compare_hooks(Py_TYPE(host), module->host_hooks, module->host_originals,
                           MCX_HOST_HOOK_COUNT, &hooks) < 0) {
        PyErr_Clear();
        return ALL_HOOKS;
    }
    return hooks | atomic_load_explicit(&((mcx_host *)host)->instance_hooks, memory_order_relaxed);
}

/* ---- begin and end -------------------------------------------------------------------------- */

/* From here on connections of this call are found by hosts' methods. */
static int make_slow(mcx_call *call)
{
    mcx_module *module = call->module;
    PyObject *before = NULL;
    PyObject *home;

    if (call->slow) {
        return 0;
    }
    home = mcx_held_home(module);
    if (home == NULL || PyObject_GetOptionalAttr(home, module->str_held, &before) < 0) {
        Py_XDECREF(home);
        return -1;
    }
    call->held = PyDict_New();
    if (call->held == NULL || PyObject_SetAttr(home, module->str_held, call->held) < 0) {
        Py_CLEAR(call->held);
        Py_XDECREF(before);
        Py_DECREF(home);
        return -1;
    }
    call->held_before = before;
    call->held_home = home;
    call->lines = call->output = (mc_buffer){0};
    call->last_line = NULL;
    call->slow = true;
    return 0;
}

static int begin(mcx_call *call, PyObject *self, bool inner)
{
    mcx_module *module = mcx_module_of(self);

    call->self = self;
    call->module = module;
    call->core = mcx_core_of(module, self);
    if (UNLIKELY(call->core == NULL)) {
        return -1;
    }
    call->slow = call->inner = false;
    call->held = call->held_before = call->held_home = NULL;
    call->kind = NULL;
    call->owner = 0;
    call->socket_class = NULL;
    call->record = mcx_record_of(module, call->core, self);
    if (UNLIKELY(call->record == NULL)) {
        return -1;
    }
    if (UNLIKELY(client_hooks(module, call->core, self, &call->hooks) < 0 ||
                 host_class_hooks(module, &call->host_hooks) < 0 ||
                 mcx_find_socket_class(module, &call->socket_class) < 0)) {
        Py_DECREF(call->record);
        return -1;
    }
    if (UNLIKELY(call->socket_class != NULL)) {
        call->kind = call->socket_class;
        call->owner = PyThread_get_thread_ident();
    }
    if (UNLIKELY(inner)) {
        call->hooks &= ~HOOKS_WITH_HOST;
        call->held = mcx_held_dict(module);
        call->lines = call->output = (mc_buffer){0};
        call->last_line = NULL;
        call->slow = call->inner = true;
    }
    if (UNLIKELY((inner && call->held == NULL) ||
                 (((call->hooks & HOOKS_WITH_HOST) || call->host_hooks) && make_slow(call) < 0))) {
        Py_XDECREF(call->socket_class);
        Py_DECREF(call->record);
        return -1;
    }
    call->shard = mcx_shard();
    call->snapshot = mcx_core_enter(call->core, call->shard);
    mcx_calls_add(1);
    mc_clock_start(&call->clock, call->snapshot->socket_timeout, call->snapshot->connect_timeout);
    return 0;
}

int mcx_call_begin(mcx_call *call, PyObject *self)
{
    return begin(call, self, false);
}

int mcx_call_begin_inner(mcx_call *call, PyObject *self)
{
    return begin(call, self, true);
}

PyObject *mcx_call_hook(mcx_call *call, int hook, PyObject *const *args, size_t nargs)
{
    PyObject *method = PyObject_GetAttr(call->self, call->module->client_hooks[hook]);
    PyObject *result = method ? PyObject_Vectorcall(method, args, nargs, NULL) : NULL;

    Py_XDECREF(method);
    return result;
}

/* Gives back what a slow call holds, and what was held before is in force again. */
static void end_slow(mcx_call *call)
{
    PyObject *type, *value, *traceback;
    PyObject *key, *each;
    Py_ssize_t at = 0;
    mcx_module *module = call->module;

    PyErr_Fetch(&type, &value, &traceback);
    while (!call->inner && PyDict_Next(call->held, &at, &key, &each)) {
        mcx_held *held = (mcx_held *)each;
        mc_connection *connection = held->connection;

        held->connection = NULL;
        if (connection != NULL) {
            bool clean = !held->broken && !held->dropped && mc_buffer_length(&connection->in) == 0;

            mc_pool_give(connection, clean, mc_clock_now());
        }
    }
    Py_CLEAR(call->held);
    if (!call->inner &&
        (call->held_before != NULL
             ? PyObject_SetAttr(call->held_home, module->str_held, call->held_before)
             : PyObject_DelAttr(call->held_home, module->str_held)) < 0) {
        PyErr_WriteUnraisable(call->held_home);
    }
    Py_CLEAR(call->held_before);
    Py_CLEAR(call->held_home);
    Py_CLEAR(call->last_line);
    mc_buffer_fini(&call->lines);
    mc_buffer_fini(&call->output);
    PyErr_Restore(type, value, traceback);
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
        if (mcx_is_host(module, snapshot->server[at])) {
            mcx_host *host = (mcx_host *)snapshot->server[at];

            idle = mc_pool_take_idle(&host->server.pool, now - IDLE_LIMIT, &steps);
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
    if (UNLIKELY(call->slow)) {
        end_slow(call);
    }
    if (UNLIKELY(call->clock.start >=
                 atomic_load_explicit(&call->core->next_reap, memory_order_relaxed))) {
        PyObject *type, *value, *traceback;

        PyErr_Fetch(&type, &value, &traceback);
        mcx_reap(call->module, call->core, call->snapshot, call->clock.start);
        PyErr_Restore(type, value, traceback);
    }
    mcx_calls_add(-1);
    mcx_core_leave(call->core, call->shard);
    if (UNLIKELY(atomic_load_explicit(&call->core->has_retired, memory_order_relaxed))) {
        PyObject *type, *value, *traceback;

        PyErr_Fetch(&type, &value, &traceback);
        mcx_core_collect(call->core);
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(call->socket_class);
    Py_DECREF(call->record);
    return result;
}

/* ---- words ---------------------------------------------------------------------------------- */

int mcx_write_stderr(mcx_module *module, PyObject *text)
{
    PyObject *stream = Py_XNewRef(PySys_GetObject("stderr"));
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

static int write_line(mcx_module *module, PyObject *text)
{
    PyObject *line = PyUnicode_FromFormat("MemCached: %U\n", text);
    int result = line == NULL ? -1 : mcx_write_stderr(module, line);

    Py_XDECREF(line);
    return result;
}

/* A debug line must not eat the exception that it stands beside. */
static int say(mcx_module *module, PyObject *method_of, PyObject *method, const char *format,
               va_list words)
{
    PyObject *type, *value, *traceback, *text, *result = NULL;
    int failed = -1;

    PyErr_Fetch(&type, &value, &traceback);
    text = PyUnicode_FromFormatV(format, words);
    if (text != NULL) {
        if (method != NULL) {
            result = PyObject_CallMethodOneArg(method_of, method, text);
            failed = result == NULL ? -1 : 0;
        }
        else {
            failed = write_line(module, text);
        }
    }
    Py_XDECREF(text);
    Py_XDECREF(result);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return failed;
}

int mcx_debuglog(mcx_call *call, const char *format, ...)
{
    bool replaced = MCX_IS_SET(call->hooks, DEBUGLOG);
    va_list words;
    int result;

    if (!call->snapshot->debug && !replaced) {
        return 0;
    }
    va_start(words, format);
    result = say(call->module, call->self,
                 replaced ? call->module->client_hooks[MCX_HOOK_DEBUGLOG] : NULL, format, words);
    va_end(words);
    return result;
}

int mcx_host_debuglog(mcx_module *module, PyObject *host, const char *format, ...)
{
    bool own = mcx_is_host(module, host);
    bool replaced = !own || MCX_IS_SET(mcx_host_hooks(module, host), HOST_DEBUGLOG);
    va_list words;
    int result;

    if (own && !replaced && !atomic_load(&((mcx_host *)host)->is_debug)) {
        return 0;
    }
    if (!own) {
        return 0;
    }
    va_start(words, format);
    result = say(module, host, replaced ? module->host_hooks[MCX_HOOK_HOST_DEBUGLOG] : NULL, format,
                 words);
    va_end(words);
    return result;
}

int mcx_statlog(mcx_call *call, int what)
{
    if (UNLIKELY(MCX_IS_SET(call->hooks, STATLOG))) {
        int64_t before = mc_clock_now();
        PyObject *result =
            PyObject_CallMethodOneArg(call->self, call->module->client_hooks[MCX_HOOK_STATLOG],
                                      call->module->count_names[what]);

        mcx_leave_out(call, before);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    return mcx_record_count(call->module, call->record, what);
}

int mcx_check_signals(void)
{
    return PyErr_CheckSignals();
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

    if (mcx_goes_through_host(target)) {
        status = mcx_host_send(call, target->host, pieces, count, false);
        return status != MC_OK ? status : mcx_host_receive(call, target->host, exchange);
    }
    do {
        if (LIKELY(is_native(connection))) {
            Py_BEGIN_ALLOW_THREADS status =
                mc_connection_send(connection, &pieces, &count, &call->clock);
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
        if (UNLIKELY(status == MC_INTERRUPTED) && mcx_check_signals() < 0) {
            return MC_RAISED;
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

mc_status mcx_send(mcx_call *call, mcx_target *target, struct iovec *pieces, int count)
{
    mc_connection *connection = target->connection;
    mc_status status;

    if (mcx_goes_through_host(target)) {
        return mcx_host_send(call, target->host, pieces, count, false);
    }
    do {
        if (is_native(connection)) {
            Py_BEGIN_ALLOW_THREADS status =
                mc_connection_send(connection, &pieces, &count, &call->clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_send(connection, &pieces, &count, &call->clock);
        }
        if (status == MC_INTERRUPTED && mcx_check_signals() < 0) {
            return MC_RAISED;
        }
    } while (status == MC_INTERRUPTED);
    return status;
}

mc_status mcx_receive(mcx_call *call, mcx_target *target, mc_exchange *exchange)
{
    mc_connection *connection = target->connection;
    mc_status status;

    if (mcx_goes_through_host(target)) {
        return mcx_host_receive(call, target->host, exchange);
    }
    do {
        if (is_native(connection)) {
            Py_BEGIN_ALLOW_THREADS status =
                mc_connection_receive(connection, exchange, &call->clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = mc_connection_receive(connection, exchange, &call->clock);
        }
        /* A long receive returns early with what it has when a signal comes. */
        if (mcx_check_signals() < 0) {
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

    if (status == MC_RAISED) {
        return -1;
    }
    if (status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    if (!mcx_is_host(call->module, target->host)) {
        return 0;
    }
    reason = mcx_status_text(target->connection, status);
    if (reason == NULL) {
        return -1;
    }
    if (status == MC_TIMEOUT && !target->late) {
        if (MCX_IS_SET(target->host_hooks, MARK_DEAD)) {
            PyObject *done = PyObject_CallMethodOneArg(
                target->host, call->module->host_hooks[MCX_HOOK_MARK_DEAD], reason);

            result = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        }
        else {
            result = mcx_host_mark_dead(call->module, (mcx_host *)target->host, reason);
        }
    }
    else if (atomic_load(&((mcx_host *)target->host)->is_debug)) {
        PyObject *name = PyObject_Str(target->host);

        if (name == NULL) {
            result = -1;
        }
        else {
            result = mcx_host_debuglog(call->module, target->host,
                                       "MemCache: %U: %U.  Closing the connection.", name, reason);
        }
        Py_XDECREF(name);
    }
    Py_DECREF(reason);
    return result;
}

/* ---- connections ---------------------------------------------------------------------------- */

/* The first thing on a new connection where the host asked for it: flush_all, once. */
static mc_status flush_first(mcx_call *call, mcx_host *host, mc_connection *connection, bool *clean)
{
    mcx_target target = {.host = (PyObject *)host, .connection = connection};
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

static int connect_failed(mcx_call *call, mcx_host *host, mc_connection *connection,
                          mc_status status)
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
        if (MCX_IS_SET(mcx_host_hooks(call->module, (PyObject *)host), MARK_DEAD)) {
            PyObject *done = PyObject_CallMethodOneArg(
                (PyObject *)host, call->module->host_hooks[MCX_HOOK_MARK_DEAD], reason);

            result = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        }
        else {
            result = mcx_host_mark_dead(call->module, host, reason);
        }
    }
    Py_XDECREF(text);
    Py_XDECREF(reason);
    return result;
}

/* Opens connection, which the call owns. 1, or 0 and -1: then it has been given back. */
static int open_connection(mcx_call *call, mcx_host *host, mc_connection *connection)
{
    mc_status status;

    if (mc_clock_connect_left(&call->clock) == 0) {
        mc_pool_give(connection, false, 0);
        return 0; /* the call's budget is spent, which says nothing about this server */
    }
    connection->kind = call->kind;
    connection->owner = call->owner;
    status = mcx_host_open(call->module, host, connection, call->socket_class, &call->clock);
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
    int result = connect_failed(call, host, connection, status);
    mc_pool_give(connection, false, 0);
    return result;
}

/* A connection to host that this call owns: 1, 0, -1. fresh: newly opened. *probe: the server's
 * dead mark has run out and this call alone tries it; how it ends decides about the mark. */
static int acquire(mcx_call *call, mcx_host *host, bool fresh, mc_connection **found, bool *probe)
{
    *probe = false;
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
        *probe = false; /* whatever the mark is now: a replaced mark_dead may have left it */
        mc_server_give_up_probe(&host->server);
    }
    return opened;
}

int mcx_connect_direct(mcx_module *module, mcx_host *host)
{
    mcx_call call = {.module = module};
    int64_t timeout = atomic_load(&host->timeout);
    mc_connection *connection = NULL;
    bool probe;
    int connected;

    if (mcx_find_socket_class(module, &call.socket_class) < 0) {
        return -1;
    }
    if (call.socket_class != NULL) {
        call.kind = call.socket_class;
        call.owner = PyThread_get_thread_ident();
    }
    mc_clock_start(&call.clock, timeout, timeout);
    connected = acquire(&call, host, false, &connection, &probe);
    if (probe) {
        mc_server_mark_alive(&host->server); /* it took the connection: all that is known here */
    }
    if (connected > 0 && mcx_held_put(module, host, connection) < 0) {
        mc_pool_give(connection, false, 0);
        connected = -1;
    }
    Py_XDECREF(call.socket_class);
    return connected;
}

/* Where Python code may look for this call's connection, it is held for the host. */
static int connect_slow(mcx_call *call, mcx_host *host, bool fresh, mcx_target *target)
{
    mcx_module *module = call->module;
    mcx_held *held = fresh ? NULL : mcx_held_find(module, (PyObject *)host);

    if (held == NULL && MCX_IS_SET(target->host_hooks, CONNECT)) {
        int64_t before = mc_clock_now();

        if (mc_clock_connect_left(&call->clock) == 0) {
            return 0;
        }
        PyObject *answer =
            PyObject_CallMethodNoArgs((PyObject *)host, module->host_hooks[MCX_HOOK_CONNECT]);
        int connected = answer == NULL ? -1 : PyObject_IsTrue(answer);

        call->clock.connecting += mc_clock_now() - before;
        Py_XDECREF(answer);
        if (connected <= 0) {
            return connected;
        }
        held = mcx_held_find(module, (PyObject *)host);
        if (held == NULL && (target->host_hooks & MCX_IO_HOOKS)) {
            return 1; /* all of its I/O is somebody else's */
        }
    }
    if (held == NULL) {
        mc_connection *connection = NULL;
        int connected = acquire(call, host, fresh, &connection, &target->probe);

        if (connected <= 0) {
            return connected;
        }
        if (mcx_held_put(module, host, connection) < 0) {
            mc_pool_give(connection, false, 0);
        }
        else {
            held = mcx_held_find(module, (PyObject *)host);
            if (held == NULL) {
                PyErr_SetString(PyExc_RuntimeError, "the host's connection was taken away");
            }
        }
        if (held == NULL) {
            if (target->probe) {
                target->probe = false;
                mc_server_give_up_probe(&host->server);
            }
            return -1;
        }
    }
    target->held = held;
    target->connection = held->connection;
    return 1;
}

static int connect_host(mcx_call *call, PyObject *object, bool fresh, mcx_target *target)
{
    mcx_module *module = call->module;
    mcx_host *host = (mcx_host *)object;
    int connected;

    target->host = NULL;
    target->connection = NULL;
    target->held = NULL;
    target->probe = false;
    target->asked = false;
    target->late = false;
    target->host_hooks = call->host_hooks;
    if (UNLIKELY(!Py_IS_TYPE(object, module->host_type))) {
        target->host_hooks = mcx_host_hooks(module, object);
    }
    else {
        target->host_hooks |= atomic_load_explicit(&host->instance_hooks, memory_order_relaxed);
    }
    if (UNLIKELY(target->host_hooks != 0) && make_slow(call) < 0) {
        return -1;
    }
    if (UNLIKELY(!mcx_is_host(module, object))) {
        PyObject *answer = PyObject_CallMethodNoArgs(object, module->host_hooks[MCX_HOOK_CONNECT]);

        connected = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        target->host = connected > 0 ? Py_NewRef(object) : NULL;
        return connected;
    }
    if (UNLIKELY(!host->initialised)) {
        PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has not been called");
        return -1;
    }
    connected = UNLIKELY(call->slow)
                    ? connect_slow(call, host, fresh, target)
                    : acquire(call, host, fresh, &target->connection, &target->probe);
    if (connected > 0) {
        target->host = Py_NewRef(object);
    }
    return connected;
}

int mcx_connect_host(mcx_call *call, PyObject *host, mcx_target *target)
{
    return connect_host(call, host, false, target);
}

int mcx_reconnect(mcx_call *call, mcx_target *target)
{
    PyObject *host = Py_NewRef(target->host);
    int connected;

    mcx_target_end(call, target, false);
    connected = connect_host(call, host, true, target);
    Py_DECREF(host);
    return connected;
}

void mcx_target_end(mcx_call *call, mcx_target *target, bool clean)
{
    if (UNLIKELY(target->probe)) {
        mc_server *server = &((mcx_host *)target->host)->server;

        target->probe = false;
        /* An inner call connects for others to ask: that it could is all that is known here. */
        if (clean && (target->asked || call->inner)) {
            mc_server_mark_alive(server);
        }
        else {
            mc_server_give_up_probe(server); /* after a dead mark of this call: no change */
        }
    }
    if (target->held != NULL) {
        /* Python code may have used it in the middle of this call; what it sent, nobody knows. */
        target->held->broken = !clean || (target->held->broken && !mcx_goes_through_host(target));
        if (!clean && !target->held->dropped) {
            PyObject *type, *value, *traceback;

            PyErr_Fetch(&type, &value, &traceback);
            if (mcx_held_drop(call->module, target->host) < 0) {
                PyErr_WriteUnraisable(target->host);
            }
            PyErr_Restore(type, value, traceback);
        }
        Py_CLEAR(target->held);
    }
    else if (target->connection != NULL) {
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

    Py_BEGIN_CRITICAL_SECTION(module->local);
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

PyObject *mcx_key_object(const mcx_key *key)
{
    PyObject *text = PyBytes_FromStringAndSize(key->text.bytes, (Py_ssize_t)key->text.length);

    if (text == NULL || key->hash == NULL) {
        return text;
    }
    PyObject *pair = PyTuple_Pack(2, key->hash, text);
    Py_DECREF(text);
    return pair;
}

/* By way of a replaced _get_server: *server is a new reference: 1, 0 for none, -1. */
int mcx_get_server_hook(mcx_call *call, mcx_key *key, PyObject **found)
{
    mcx_module *module = call->module;
    PyObject *object = mcx_key_object(key), *answer = NULL, *server, *changed;
    mcx_key new_key = {.owner = NULL};
    int64_t before = mc_clock_now();
    int result = -1;

    if (object == NULL) {
        return -1;
    }
    answer =
        PyObject_CallMethodOneArg(call->self, module->client_hooks[MCX_HOOK_GET_SERVER], object);
    mcx_leave_out(call, before); /* where it connects, that has a deadline of its own */
    Py_DECREF(object);
    if (answer == NULL) {
        return -1;
    }
    if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2) {
        PyErr_Format(PyExc_TypeError, "_get_server must return (server, key), not %.100s",
                     Py_TYPE(answer)->tp_name);
        goto done;
    }
    server = PyTuple_GET_ITEM(answer, 0);
    changed = PyTuple_GET_ITEM(answer, 1);
    int there = PyObject_IsTrue(server);
    if (there <= 0) {
        result = there;
        goto done;
    }
    if (mcx_key_view(call, changed, &new_key) < 0) {
        goto done;
    }
    mcx_key_clear(key);
    *key = new_key;
    if (!mc_key_is_safe(key->text)) {
        PyErr_Format(module->key_character_error, "_get_server returned a key that cannot be sent");
        goto done;
    }
    *found = Py_NewRef(server);
    result = 1;
done:
    Py_DECREF(answer);
    return result;
}

static int select_replaced(mcx_call *call, mcx_key *key, mcx_target *target)
{
    PyObject *server = NULL;
    int result = mcx_get_server_hook(call, key, &server);

    if (result > 0) {
        result = mcx_connect_chosen(call, server, target);
    }
    Py_XDECREF(server);
    return result;
}

int mcx_connect_chosen(mcx_call *call, PyObject *server, mcx_target *target)
{
    if (mcx_is_host(call->module, server)) {
        return mcx_connect_host(call, server, target);
    }
    *target = (mcx_target){.host = Py_NewRef(server), .host_hooks = ALL_HOOKS};
    return 1;
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

static int connect_bucket(mcx_call *call, size_t bucket, void *target)
{
    return mcx_connect_host(call, call->snapshot->bucket[bucket], target);
}

int mcx_select(mcx_call *call, mcx_key *key, mcx_target *target)
{
    target->probe = false;
    target->host = NULL;
    target->connection = NULL;
    target->held = NULL;
    if (UNLIKELY(MCX_IS_SET(call->hooks, GET_SERVER))) {
        return select_replaced(call, key, target);
    }
    return mcx_choose(call, key, connect_bucket, target);
}
