/* commands_server: the methods that speak to servers rather than about a key: statistics, flush,
 * quit, disconnect, the servers themselves. */
#include "mcx.h"

#include <string.h>

/* ---- statistics ----------------------------------------------------------------------------- */

enum {
    SHAPE_STATS,
    SHAPE_SLAB_STATS,
    SHAPE_SLABS
};

static PyObject *text_of(mc_slice slice)
{
    return PyUnicode_DecodeUTF8(slice.bytes, (Py_ssize_t)slice.length, "replace");
}

/* dict[name][field] = value */
static int set_nested(PyObject *dict, PyObject *name, PyObject *field, PyObject *value)
{
    PyObject *inner = NULL;
    int result = -1;

    if (name == NULL || field == NULL || value == NULL) {
        return -1;
    }
    if (PyDict_GetItemRef(dict, name, &inner) < 0) {
        return -1;
    }
    if (inner == NULL || !PyDict_Check(inner)) {
        Py_XSETREF(inner, PyDict_New());
        if (inner == NULL || PyDict_SetItem(dict, name, inner) < 0) {
            goto done;
        }
    }
    result = PyDict_SetItem(inner, field, value);
done:
    Py_XDECREF(inner);
    return result;
}

static bool starts_with(mc_slice text, const char *prefix)
{
    return text.length >= strlen(prefix) && memcmp(text.bytes, prefix, strlen(prefix)) == 0;
}

/* One row of a listing into the dict, in python-memcached's shape for that method. */
static int add_row(PyObject *dict, const mc_reply *reply, int shape)
{
    mc_slice name = reply->key;
    PyObject *value = text_of(reply->text);
    PyObject *outer = NULL, *field = NULL;
    int result = -1;

    if (value == NULL) {
        return -1;
    }
    if (shape == SHAPE_SLABS) { /* items:1:number */
        const char *colon = memchr(name.bytes, ':', name.length);

        if (colon != NULL) {
            name.length -= (size_t)(colon + 1 - name.bytes);
            name.bytes = colon + 1;
        }
    }
    const char *colon = name.length ? memchr(name.bytes, ':', name.length) : NULL;
    if (shape == SHAPE_STATS || colon == NULL || starts_with(name, "active_slabs") ||
        starts_with(name, "total_malloced")) {
        field = text_of(name);
        result = field ? PyDict_SetItem(dict, field, value) : -1;
    }
    else {
        mc_slice number = {name.bytes, (size_t)(colon - name.bytes)};
        mc_slice rest = {colon + 1, name.length - number.length - 1};

        outer = text_of(number);
        field = text_of(rest);
        result = set_nested(dict, outer, field, value);
    }
    Py_XDECREF(outer);
    Py_XDECREF(field);
    Py_DECREF(value);
    return result;
}

static mc_status read_listing(mcx_call *call, mcx_target *target, mc_exchange *exchange,
                              PyObject *dict, int shape)
{
    mc_status status = MC_OK;

    while (status == MC_OK) {
        switch (mc_exchange_next(exchange)) {
        case MC_EVENT_AGAIN:
            status = mcx_receive(call, target, exchange);
            break;
        case MC_EVENT_REPLY:
            if (!mc_reply_is_error(exchange->reply.type) &&
                add_row(dict, &exchange->reply, shape) < 0) {
                return MC_RAISED;
            }
            break;
        case MC_EVENT_DONE:
            return MC_OK;
        default:
            return MC_MALFORMED;
        }
    }
    return status;
}

/* The statistics of one connected host: a dict, or NULL without an exception where it failed. */
static PyObject *list_host(mcx_call *call, mcx_target *target, mc_slice argument, int shape)
{
    mcx_request request = {.command = MC_STATS, .argument = argument};
    PyObject *dict = NULL;
    int attempt = 0;

    for (;;) {
        mc_exchange exchange;
        bool started = false;
        mc_status status;

        Py_XSETREF(dict, PyDict_New());
        if (dict == NULL) {
            break;
        }
        status = mcx_begin_exchange(call, target, &request, &exchange, NULL);
        if (status == MC_OK) {
            status = read_listing(call, target, &exchange, dict, shape);
            started = exchange.started;
        }
        if (status == MC_OK) {
            mcx_target_end(call, target, mc_exchange_end(&exchange));
            return dict;
        }
        int again = mcx_try_again(call, target, MC_STATS, started, status, &attempt);
        if (again > 0) {
            continue;
        }
        if (again == 0 && target->host != NULL) {
            (void)mcx_fail(call, target, status);
        }
        break;
    }
    mcx_target_end(call, target, false);
    Py_XDECREF(dict);
    return NULL;
}

static PyObject *stats_name(mcx_call *call, PyObject *host)
{
    return mcx_is_host(call->module, host) ? mcx_host_stats_name((mcx_host *)host)
                                           : PyObject_Str(host);
}

static PyObject *list_all(mcx_call *call, mc_slice argument, int shape)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; list != NULL && i < call->snapshot->server_count; i++) {
        PyObject *host = call->snapshot->server[i];
        PyObject *name = NULL, *dict = NULL, *row = NULL;
        mcx_target target;
        int there = mcx_connect_host(call, host, &target);

        if (there == 0) {
            continue;
        }
        if (there > 0) {
            dict = list_host(call, &target, argument, shape);
            if (dict == NULL && !PyErr_Occurred()) {
                continue;
            }
        }
        name = dict ? stats_name(call, host) : NULL;
        row = name ? PyTuple_Pack(2, name, dict) : NULL;
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
        Py_XDECREF(name);
        Py_XDECREF(dict);
    }
    return list;
}

/* The argument of stats: text without anything that ends or hides a line. */
static int stats_argument(PyObject *object, mc_slice *argument)
{
    Py_ssize_t length;

    *argument = (mc_slice){NULL, 0};
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "stat_args must be a str, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    argument->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (argument->bytes == NULL) {
        return -1;
    }
    argument->length = (size_t)length;
    for (size_t i = 0; i < argument->length; i++) {
        unsigned char byte = (unsigned char)argument->bytes[i];

        if (byte < 0x20 || byte == 0x7f) {
            PyErr_Format(PyExc_ValueError, "stat_args must not hold control characters: %R",
                         object);
            return -1;
        }
    }
    return 0;
}

static const mcx_signature get_stats_signature = {
    .method = "get_stats", .count = 1, .required = 0, .names = {"stat_args"}};

MCX_METHOD(client_get_stats)
{
    PyObject *values[1];
    mc_slice argument;
    mcx_call call;

    if (mcx_bind(&get_stats_signature, args, nargs, kwnames, values) < 0 ||
        stats_argument(values[0], &argument) < 0 || mcx_call_begin(&call, self) < 0) {
        return NULL;
    }
    return mcx_call_end(&call, list_all(&call, argument, SHAPE_STATS));
}

static const mcx_signature get_slab_stats_signature = {.method = "get_slab_stats"};

MCX_METHOD(client_get_slab_stats)
{
    mcx_call call;

    if (mcx_bind(&get_slab_stats_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin(&call, self) < 0) {
        return NULL;
    }
    return mcx_call_end(&call, list_all(&call, (mc_slice){"slabs", 5}, SHAPE_SLAB_STATS));
}

static const mcx_signature get_slabs_signature = {.method = "get_slabs"};

MCX_METHOD(client_get_slabs)
{
    mcx_call call;

    if (mcx_bind(&get_slabs_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin(&call, self) < 0) {
        return NULL;
    }
    return mcx_call_end(&call, list_all(&call, (mc_slice){"items", 5}, SHAPE_SLABS));
}

/* ---- flush, quit, disconnect ---------------------------------------------------------------- */

static int flush_host(mcx_call *call, PyObject *host)
{
    mcx_request request = {.command = MC_FLUSH_ALL};
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    int there = mcx_connect_host(call, host, &target);

    if (there <= 0) {
        return there;
    }
    if (MCX_IS_SET(target.host_hooks, FLUSH)) {
        PyObject *done = PyObject_CallMethodNoArgs(host, call->module->host_hooks[MCX_HOOK_FLUSH]);

        there = done == NULL ? mcx_fail(call, &target, mcx_host_exception(call)) : 0;
        mcx_target_end(call, &target, false);
        Py_XDECREF(done);
        return there;
    }
    there = mcx_ask(call, &target, &request, &answer);
    if (there > 0 && answer.type != MC_REPLY_OK) {
        PyObject *shown = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(answer.line),
                                               PyBytes_GET_SIZE(answer.line), "replace");

        there = shown ? mcx_host_debuglog(call->module, host,
                                          "while expecting 'OK', got unexpected response %R", shown)
                      : -1;
        Py_XDECREF(shown);
    }
    Py_XDECREF(answer.line);
    return there < 0 ? -1 : 0;
}

static const mcx_signature flush_all_signature = {.method = "flush_all"};

MCX_METHOD(client_flush_all)
{
    mcx_call call;
    int result = 0;

    if (mcx_bind(&flush_all_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin(&call, self) < 0) {
        return NULL;
    }
    for (size_t i = 0; result == 0 && i < call.snapshot->server_count; i++) {
        result = flush_host(&call, call.snapshot->server[i]);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

/* Closes the host's idle connections, lets the busy ones be closed as their calls end, and closes
 * what this thread holds for it. */
static int disconnect_host(mcx_call *call, PyObject *object, bool quit)
{
    mcx_module *module = call->module;
    int hook = quit ? MCX_HOOK_QUIT : MCX_HOOK_CLOSE_SOCKET;
    uint32_t hooks = mcx_host_hooks(module, object);

    if ((hooks >> hook) & 1) {
        PyObject *done = PyObject_CallMethodNoArgs(object, module->host_hooks[hook]);

        Py_XDECREF(done);
        if (done == NULL && mcx_host_exception(call) == MC_RAISED) {
            return -1;
        }
    }
    if (!mcx_is_host(module, object) || !((mcx_host *)object)->initialised) {
        return 0;
    }
    mc_pool_disconnect(&((mcx_host *)object)->server.pool);
    mcx_host_close_idle((mcx_host *)object, quit);
    return mcx_held_drop(module, object);
}

static PyObject *disconnect_all(PyObject *self, bool quit)
{
    mcx_call call;
    int result = 0;

    if (mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    for (size_t i = 0; result == 0 && i < call.snapshot->server_count; i++) {
        result = disconnect_host(&call, call.snapshot->server[i], quit);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature quit_all_signature = {.method = "quit_all"};

MCX_METHOD(client_quit_all)
{
    return mcx_bind(&quit_all_signature, args, nargs, kwnames, NULL) < 0
               ? NULL
               : disconnect_all(self, true);
}

static const mcx_signature disconnect_all_signature = {.method = "disconnect_all"};

MCX_METHOD(client_disconnect_all)
{
    return mcx_bind(&disconnect_all_signature, args, nargs, kwnames, NULL) < 0
               ? NULL
               : disconnect_all(self, false);
}

static const mcx_signature forget_signature = {.method = "forget_dead_hosts"};

MCX_METHOD(client_forget_dead_hosts)
{
    mcx_call call;
    int result = 0;

    if (mcx_bind(&forget_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    for (size_t i = 0; result == 0 && i < call.snapshot->server_count; i++) {
        PyObject *host = call.snapshot->server[i];
        PyObject *zero = PyLong_FromLong(0);

        result = zero ? PyObject_SetAttrString(host, "deaduntil", zero) : -1;
        Py_XDECREF(zero);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

/* ---- the servers ---------------------------------------------------------------------------- */

/* The two lists as they stand now: an override of _init_buckets may have filled them in place. */
static int take_lists(mcx_module *module, mcx_core *core)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL || mcx_snapshot_set_servers(module, snapshot, snapshot->servers) < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

/* Each server as often as its weight says: a new list. */
static PyObject *list_buckets(const mcx_snapshot *snapshot)
{
    PyObject *buckets = PyList_New(0);

    for (size_t i = 0; buckets != NULL && i < snapshot->server_count; i++) {
        PyObject *weight = PyObject_GetAttrString(snapshot->server[i], "weight");
        Py_ssize_t times = weight ? PyNumber_AsSsize_t(weight, PyExc_OverflowError) : -1;

        Py_XDECREF(weight);
        if (times == -1 && PyErr_Occurred()) {
            Py_CLEAR(buckets);
        }
        for (; buckets != NULL && times > 0; times--) {
            if (PyList_Append(buckets, snapshot->server[i]) < 0) {
                Py_CLEAR(buckets);
            }
        }
    }
    return buckets;
}

int mcx_init_buckets(mcx_module *module, mcx_core *core)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = mcx_snapshot_copy(core);
        /* The list as it stands now: hosts may have been appended to it. */
        bool taken = snapshot && mcx_snapshot_set_servers(module, snapshot, snapshot->servers) == 0;
        PyObject *buckets = taken ? list_buckets(snapshot) : NULL;
        int result = buckets ? mcx_snapshot_set_buckets(module, snapshot, buckets) : -1;

        Py_XDECREF(buckets);
        if (result < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

static bool are_the_same(mcx_module *module, const mcx_snapshot *snapshot, PyObject *list)
{
    if ((size_t)PyList_GET_SIZE(list) != snapshot->server_count) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (!mcx_is_host(module, snapshot->server[i]) ||
            !mcx_host_equals((mcx_host *)snapshot->server[i], PyList_GET_ITEM(list, i))) {
            return false;
        }
    }
    return true;
}

/* A new list of hosts for the servers that were given. */
static PyObject *list_hosts(mcx_module *module, PyObject *given, const mcx_snapshot *snapshot)
{
    PyObject *hosts = PyList_New(0);

    for (Py_ssize_t i = 0; hosts != NULL && i < PyList_GET_SIZE(given); i++) {
        PyObject *host = mcx_host_new(module, PyList_GET_ITEM(given, i), snapshot);

        if (host == NULL || PyList_Append(hosts, host) < 0) {
            Py_CLEAR(hosts);
        }
        Py_XDECREF(host);
    }
    return hosts;
}

int mcx_set_servers(mcx_module *module, mcx_core *core, PyObject *self, PyObject *servers)
{
    PyObject *given, *hosts;
    mcx_snapshot *snapshot;
    PyObject *result;

    if (PyUnicode_Check(servers) || PyBytes_Check(servers)) {
        PyErr_Format(PyExc_TypeError, "servers must be a list of servers, not %.100s",
                     Py_TYPE(servers)->tp_name);
        return -1;
    }
    given = PySequence_List(servers);
    if (given == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_TypeError, "servers must be a list of servers, not %.100s",
                         Py_TYPE(servers)->tp_name);
        }
        return -1;
    }
    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot != NULL && snapshot->server_count > 0 && snapshot->deleted == 0 &&
            are_the_same(module, snapshot, given)) {
            mcx_snapshot_free(snapshot);
            break; /* the hosts stay; buckets may have been assigned since */
        }
        hosts = snapshot ? list_hosts(module, given, snapshot) : NULL;
        int set = hosts ? mcx_snapshot_set_servers(module, snapshot, hosts) : -1;

        Py_XDECREF(hosts);
        if (set < 0) {
            mcx_snapshot_free(snapshot);
            Py_DECREF(given);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    Py_DECREF(given);
    result = PyObject_CallMethodNoArgs(self, module->client_hooks[MCX_HOOK_INIT_BUCKETS]);
    Py_XDECREF(result);
    return result == NULL ? -1 : take_lists(module, core);
}

static const mcx_signature set_servers_signature = {
    .method = "set_servers", .count = 1, .required = 1, .names = {"servers"}};

MCX_METHOD(client_set_servers)
{
    PyObject *values[1];
    mcx_module *module = mcx_module_of(self);
    mcx_core *core;

    if (mcx_bind(&set_servers_signature, args, nargs, kwnames, values) < 0 ||
        (core = mcx_core_of(module, self)) == NULL ||
        mcx_set_servers(module, core, self, values[0]) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static const mcx_signature init_buckets_signature = {.method = "_init_buckets"};

MCX_METHOD(client__init_buckets)
{
    mcx_module *module = mcx_module_of(self);
    mcx_core *core;

    if (mcx_bind(&init_buckets_signature, args, nargs, kwnames, NULL) < 0 ||
        (core = mcx_core_of(module, self)) == NULL || mcx_init_buckets(module, core) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static const mcx_signature get_server_signature = {
    .method = "_get_server", .count = 1, .required = 1, .names = {"key"}};

MCX_METHOD(client__get_server)
{
    PyObject *values[1], *result = NULL, *key_part;
    mcx_call call;
    mcx_target target;
    mcx_key key = {.owner = NULL};
    int there;

    if (mcx_bind(&get_server_signature, args, nargs, kwnames, values) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    if (mcx_key_view(&call, values[0], &key) < 0) {
        return mcx_call_end(&call, NULL);
    }
    there = mcx_select(&call, &key, &target);
    if (there == 0) {
        result = PyTuple_Pack(2, Py_None, Py_None);
    }
    else if (there > 0) {
        key_part = PyTuple_Check(values[0]) ? PyTuple_GET_ITEM(values[0], 1) : values[0];
        result = PyTuple_Pack(2, target.host, key_part);
        mcx_target_end(&call, &target, true); /* it stays held for the host */
    }
    mcx_key_clear(&key);
    return mcx_call_end(&call, result);
}

PyMethodDef mcx_server_methods[] = {
    MCX_DEF(
        "get_stats", client_get_stats,
        "get_stats($self, stat_args=None)\n--\n\n"
        "Fetch the statistics of every server that answers (protocol.txt, \"Statistics\").\n\n"
        "stat_args: what follows \"stats \", such as \"slabs\" or \"cachedump 1 10\".\n\n"
        "Returns a list of (\"host:port (weight)\", {str: str}), without the servers that failed.\n"
        "Raises TypeError or ValueError for a wrong stat_args, before anything is sent."),
    MCX_DEF(
        "get_slab_stats", client_get_slab_stats,
        "get_slab_stats($self)\n--\n\n"
        "Fetch \"stats slabs\" of every server (protocol.txt, \"Slab statistics\").\n\n"
        "Returns a list of (\"host:port (weight)\", {slab: {str: str}, ...}), without the servers\n"
        "that failed."),
    MCX_DEF(
        "get_slabs", client_get_slabs,
        "get_slabs($self)\n--\n\n"
        "Fetch \"stats items\" of every server (protocol.txt, \"Item statistics\").\n\n"
        "Returns a list of (\"host:port (weight)\", {slab: {str: str}}), without the servers that\n"
        "failed."),
    MCX_DEF("flush_all", client_flush_all,
            "flush_all($self)\n--\n\n"
            "Expire all data in the servers that can be reached (protocol.txt, \"flush_all\").\n\n"
            "Returns None, also where a server failed."),
    MCX_DEF("quit_all", client_quit_all,
            "quit_all($self)\n--\n\n"
            "Send \"quit\" on all idle connections and close them; those in use by other threads\n"
            "are closed when their calls end. The next call connects anew.\n\n"
            "Returns None, also where a server failed."),
    MCX_DEF("disconnect_all", client_disconnect_all,
            "disconnect_all($self)\n--\n\n"
            "Close all connections: the idle ones now, those in use by other threads when their\n"
            "calls end. The next call connects anew; no dead mark is cleared.\n\n"
            "Returns None."),
    MCX_DEF("forget_dead_hosts", client_forget_dead_hosts,
            "forget_dead_hosts($self)\n--\n\nTake every server as alive.\n\nReturns None."),
    MCX_DEF(
        "set_servers", client_set_servers,
        "set_servers($self, servers)\n--\n\n"
        "Set the servers, for all threads: an iterable of \"host:port\", \"[ipv6]:port\",\n"
        "\"unix:/path\" or (server, weight). With an equal list, hosts and connections stay.\n\n"
        "Returns None. Raises TypeError or ValueError for what is no server; then nothing has\n"
        "changed."),
    MCX_DEF("_init_buckets", client__init_buckets,
            "_init_buckets($self)\n--\n\n"
            "Make buckets from servers, as that list stands now: each as often as its weight."),
    MCX_DEF("_get_server", client__get_server,
            "_get_server($self, key)\n--\n\n"
            "Choose and connect the server for key, bytes or (hash, bytes).\n\n"
            "Returns (server, key), or (None, None) where none could be reached."),
    {NULL, NULL, 0, NULL},
};
