/* client: the `Client` type: made over threading.local as it is found at import, its constructor,
 * its attributes, and the small methods.
 *
 * The type is made by calling the metaclass of that threading.local with __slots__ for one object,
 * the core (core_object.c); the methods are added to it afterwards. So it works over the
 * interpreter's own class and over gevent's and eventlet's, and memory that is all zero is a
 * client not yet opened. */
#include "mcx.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

static const char class_doc[] =
    "A client of one or more memcached servers, python-memcached's Client.\n\n"
    "servers: a list of \"host:port\", \"[ipv6]:port\", \"unix:/path\" or (server, weight); a str\n"
    "    is one server.\n"
    "debug: write what goes wrong to sys.stderr.\n"
    "pickleProtocol, pickler, unpickler, pload, pid: how values other than bytes, str and int\n"
    "    are stored.\n"
    "compressor, decompressor: used for values of more than min_compress_len bytes.\n"
    "server_max_key_length, server_max_value_length: bytes; what is larger is not sent; 0: no\n"
    "    limit. Storage commands send no key of more than 250 bytes whatever this says: memcached\n"
    "    would take the value for commands.\n"
    "dead_retry: seconds for which a server that could not be reached is left alone.\n"
    "socket_timeout: seconds that a call may take in all; None: for ever.\n"
    "cache_cas: remember tokens in gets() for cas(); without cache_cas=True cas() is set().\n"
    "flush_on_reconnect: flush a server that comes back from the dead.\n"
    "check_keys: check the length and the characters of keys. With False keys of more than 250\n"
    "    bytes are sent in storage commands, too: never for keys that come from outside.\n"
    "key_encoder: a function that each key goes through.\n"
    "connect_timeout: seconds that all connects of a call may take together; default:\n"
    "    socket_timeout.\n"
    "max_value_length: bytes; a value that is larger, after decompression, is not taken.\n"
    "allow_pickle: False refuses pickles, in storing and in reading.\n\n"
    "A client may be shared by threads; each call works on a connection of its own.";

/* ---- the constructor ------------------------------------------------------------------------ */

enum {
    ARGUMENT_SERVERS,
    ARGUMENT_COUNT = 20,
    POSITIONAL = 17
};

static const mcx_signature init_signature = {.method = "Client",
                                             .count = ARGUMENT_COUNT,
                                             .required = 1,
                                             .names = {"servers",
                                                       "debug",
                                                       "pickleProtocol",
                                                       "pickler",
                                                       "unpickler",
                                                       "compressor",
                                                       "decompressor",
                                                       "pload",
                                                       "pid",
                                                       "server_max_key_length",
                                                       "server_max_value_length",
                                                       "dead_retry",
                                                       "socket_timeout",
                                                       "cache_cas",
                                                       "flush_on_reconnect",
                                                       "check_keys",
                                                       "key_encoder",
                                                       "connect_timeout",
                                                       "max_value_length",
                                                       "allow_pickle"}};

/* Which option each argument sets. */
static const int argument_options[ARGUMENT_COUNT] = {
    -1,
    MCX_OPT_DEBUG,
    MCX_OPT_PICKLE_PROTOCOL,
    MCX_OPT_PICKLER,
    MCX_OPT_UNPICKLER,
    MCX_OPT_COMPRESSOR,
    MCX_OPT_DECOMPRESSOR,
    MCX_OPT_PERSISTENT_LOAD,
    MCX_OPT_PERSISTENT_ID,
    MCX_OPT_MAX_KEY_LENGTH,
    MCX_OPT_MAX_VALUE_LENGTH,
    MCX_OPT_DEAD_RETRY,
    MCX_OPT_SOCKET_TIMEOUT,
    MCX_OPT_CACHE_CAS,
    MCX_OPT_FLUSH_ON_RECONNECT,
    MCX_OPT_CHECK_KEYS,
    MCX_OPT_KEY_ENCODER,
    MCX_OPT_CONNECT_TIMEOUT,
    MCX_OPT_MAX_LENGTH,
    MCX_OPT_ALLOW_PICKLE,
};

static PyObject **core_slot(mcx_module *module, PyObject *self)
{
    return (PyObject **)((char *)self + module->core_offset);
}

/* The options of a constructor's call, in place of what was in force. */
static int set_options(mcx_module *module, mcx_core *core, PyObject *const *values)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL) {
            return -1;
        }
        Py_CLEAR(snapshot->options[MCX_OPT_PICKLER_IS_KEYWORD]);
        snapshot->deleted = 0;
        for (int i = 1; i < ARGUMENT_COUNT; i++) {
            if (mcx_snapshot_set_option(module, snapshot, argument_options[i], values[i]) < 0) {
                mcx_snapshot_free(snapshot);
                return -1;
            }
        }
        if (mcx_snapshot_probe_pickler(snapshot) < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

/* What each thread begins with: python-memcached's constructor makes both anew. */
static int reset_thread(mcx_module *module, mcx_core *core, PyObject *self)
{
    mcx_record *record = mcx_record_of(module, core, self);

    if (record == NULL) {
        return -1;
    }
    memset(record->counts, 0, sizeof record->counts);
    Py_CLEAR(record->stats);
    record->stats_deleted = false;
    Py_DECREF(record);

    PyObject *result = PyObject_CallMethodNoArgs(self, module->str_reset_cas);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Hosts of the client carry some of its options themselves. */
static int hand_to_hosts(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value)
{
    static const char *const names[MCX_OPTION_COUNT] = {
        [MCX_OPT_DEBUG] = "debug",
        [MCX_OPT_DEAD_RETRY] = "dead_retry",
        [MCX_OPT_SOCKET_TIMEOUT] = "socket_timeout",
        [MCX_OPT_FLUSH_ON_RECONNECT] = "flush_on_reconnect",
        [MCX_OPT_CONNECT_TIMEOUT] = "connect_timeout",
    };

    for (size_t i = 0; names[option] != NULL && i < snapshot->server_count; i++) {
        if (option == MCX_OPT_CONNECT_TIMEOUT && !mcx_is_server(module, snapshot->server[i])) {
            continue; /* of python-memcached's hosts nobody expects it */
        }
        if (PyObject_SetAttrString(snapshot->server[i], names[option], value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Hosts that stay get what the constructor says, as new ones would. */
static int hand_all_to_hosts(mcx_module *module, mcx_core *core)
{
    static const int handed[] = {MCX_OPT_DEBUG, MCX_OPT_DEAD_RETRY, MCX_OPT_SOCKET_TIMEOUT,
                                 MCX_OPT_FLUSH_ON_RECONNECT, MCX_OPT_CONNECT_TIMEOUT};
    mcx_snapshot *snapshot = mcx_core_enter(core);
    int result = 0;

    for (size_t i = 0; result == 0 && i < sizeof handed / sizeof *handed; i++) {
        bool is_unset = handed[i] == MCX_OPT_CONNECT_TIMEOUT &&
                        snapshot->options[MCX_OPT_CONNECT_TIMEOUT] == NULL;
        PyObject *value = is_unset ? Py_NewRef(Py_None) : mcx_option_value(core, handed[i]);

        result = value ? hand_to_hosts(module, snapshot, handed[i], value) : -1;
        Py_XDECREF(value);
    }
    mcx_core_leave(snapshot);
    return result;
}

/* The options and servers of a constructor's call, for all threads. */
static int set_up(mcx_module *module, mcx_core *core, PyObject *self, PyObject *const *values)
{
    PyObject *result;

    result = PyObject_CallMethodOneArg(self, module->str_set_servers, values[ARGUMENT_SERVERS]);
    Py_XDECREF(result);
    return result == NULL ? -1 : reset_thread(module, core, self);
}

static int open_client(mcx_module *module, PyObject *self, PyObject *const *values)
{
    PyObject *module_object = ((PyHeapTypeObject *)module->client_type)->ht_module;
    mcx_core *core = mcx_core_new(module, module_object);

    if (core == NULL || set_options(module, core, values) < 0) {
        Py_XDECREF(core);
        return -1;
    }
    core->opened_with = Py_NewRef(values[ARGUMENT_SERVERS]);
    PyObject *none = NULL;
    if (!__atomic_compare_exchange_n(core_slot(module, self), &none, (PyObject *)core, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        Py_DECREF(core); /* opened in the meantime, by what an option's own methods called */
        return 0;
    }
    return mcx_record_first(module, core, self) < 0 ? -1 : set_up(module, core, self, values);
}

/* Whether threading.local runs __init__ once more, in a thread that meets the client first: there
 * is no record of the thread yet; or there is, and a subclass's __init__ has looked at an
 * attribute, or calls ours twice. 1, 0, -1 with an exception. */
static int is_rerun(mcx_module *module, mcx_core *core, PyObject *self, PyObject *servers)
{
    PyObject *record = NULL;
    int found = PyObject_GetOptionalAttr(self, module->str_record, &record);

    if (found > 0 && Py_IS_TYPE(record, module->record_type) &&
        (((mcx_record *)record)->is_first || servers != core->opened_with)) {
        Py_DECREF(record);
        return 0;
    }
    Py_XDECREF(record);
    return found < 0 ? -1 : 1;
}

static int init(mcx_module *module, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    PyObject *values[ARGUMENT_COUNT];

    if (nargs > POSITIONAL) {
        PyErr_Format(PyExc_TypeError, "Client() takes at most %d positional arguments (%zd given)",
                     POSITIONAL, nargs);
        return -1;
    }
    if (mcx_bind(&init_signature, args, nargs, kwnames, values) < 0) {
        return -1;
    }
    mcx_core *core = (mcx_core *)__atomic_load_n(core_slot(module, self), __ATOMIC_ACQUIRE);
    if (core == NULL) {
        return open_client(module, self, values);
    }
    int rerun = is_rerun(module, core, self, values[ARGUMENT_SERVERS]);
    if (rerun != 0) { /* what is shared is there already, and a thread's own begins empty */
        return rerun < 0 ? -1 : reset_thread(module, core, self);
    }
    return set_options(module, core, values) < 0 || set_up(module, core, self, values) < 0
               ? -1
               : hand_all_to_hosts(module, core);
}

/* __init__ is a slot wrapper, not a method: so inspect takes the class's own text signature. It
 * wraps the module's state, by which it finds its way. */
static PyObject *wrap_init(PyObject *self, PyObject *args, void *module, PyObject *keywords)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    Py_ssize_t named = keywords ? PyDict_GET_SIZE(keywords) : 0;
    PyObject *kwnames = keywords ? PyTuple_New(named) : NULL;
    PyObject **all = NULL;
    PyObject *name, *value;
    Py_ssize_t at = 0;
    int result = -1;

    if (keywords != NULL && kwnames == NULL) {
        return NULL;
    }
    all = PyMem_Malloc((size_t)(nargs + named + 1) * sizeof *all);
    if (all == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        all[i] = PyTuple_GET_ITEM(args, i);
    }
    for (Py_ssize_t i = 0; keywords != NULL && PyDict_Next(keywords, &at, &name, &value); i++) {
        if (!PyUnicode_Check(name)) { /* whoever calls a slot looks at that himself */
            PyErr_SetString(PyExc_TypeError, "keywords must be strings");
            goto done;
        }
        PyTuple_SET_ITEM(kwnames, i, Py_NewRef(name));
        all[nargs + i] = value;
    }
    result = init(module, self, all, nargs, kwnames);
done:
    PyMem_Free(all);
    Py_XDECREF(kwnames);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

#define INIT_PARAMETERS                                                                            \
    "servers, debug=0, pickleProtocol=0, pickler=None, unpickler=None, compressor=None, "          \
    "decompressor=None, pload=None, pid=None, server_max_key_length=None, "                        \
    "server_max_value_length=None, dead_retry=30, socket_timeout=3, cache_cas=False, "             \
    "flush_on_reconnect=0, check_keys=True, key_encoder=None, *, connect_timeout=None, "           \
    "max_value_length=134217728, allow_pickle=True)\n--\n\n"

static struct wrapperbase init_wrapper = {
    .name = "__init__",
    .wrapper = (wrapperfunc)(void (*)(void))wrap_init,
    .doc = "__init__($self, " INIT_PARAMETERS "Open the client; see the class.",
    .flags = PyWrapperFlag_KEYWORDS,
};

static int add_init(mcx_module *module)
{
    PyObject *descriptor = PyDescr_NewWrapper(module->client_type, &init_wrapper, module);
    int result =
        descriptor ? PyObject_SetAttrString((PyObject *)module->client_type, "__init__", descriptor)
                   : -1;

    Py_XDECREF(descriptor);
    return result;
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* What an attribute's descriptor is given: which one, and whose. Lives in the module's state. */
static mcx_core *core_of_attribute(PyObject *self, void *closure)
{
    return mcx_core_of(((mcx_attribute *)closure)->module, self);
}

static PyObject *get_option(PyObject *self, void *closure)
{
    mcx_core *core = core_of_attribute(self, closure);

    return core ? mcx_option_value(core, ((mcx_attribute *)closure)->option) : NULL;
}

/* Takes an attribute away until it is assigned again; calls go on with what it was. */
static int delete_attribute(mcx_core *core, int attribute)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL) {
            return -1;
        }
        snapshot->deleted |= UINT32_C(1) << attribute;
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

static bool is_about_pickler(int option)
{
    return option == MCX_OPT_PICKLER || option == MCX_OPT_PICKLE_PROTOCOL;
}

static int set_option(PyObject *self, PyObject *value, void *closure)
{
    mcx_attribute *attribute = closure;
    mcx_core *core = core_of_attribute(self, closure);
    mcx_snapshot *snapshot;

    if (core == NULL) {
        return -1;
    }
    if (value == NULL) {
        return delete_attribute(core, attribute->option);
    }
    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL ||
            mcx_snapshot_set_option(attribute->module, snapshot, attribute->option, value) < 0 ||
            (is_about_pickler(attribute->option) && mcx_snapshot_probe_pickler(snapshot) < 0) ||
            hand_to_hosts(attribute->module, snapshot, attribute->option, value) < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

static PyObject *get_list(PyObject *self, void *closure)
{
    int attribute = ((mcx_attribute *)closure)->option;
    mcx_core *core = core_of_attribute(self, closure);
    mcx_snapshot *snapshot;
    PyObject *list = NULL;

    if (core == NULL) {
        return NULL;
    }
    snapshot = mcx_core_enter(core);
    if ((snapshot->deleted >> attribute) & 1) {
        PyErr_SetString(PyExc_AttributeError, attribute == MCX_BUCKETS ? "buckets" : "servers");
    }
    else {
        list = Py_NewRef(attribute == MCX_BUCKETS ? snapshot->buckets : snapshot->servers);
    }
    mcx_core_leave(snapshot);
    return list;
}

static int set_list(PyObject *self, PyObject *value, void *closure)
{
    mcx_attribute *attribute = closure;
    mcx_core *core = core_of_attribute(self, closure);
    mcx_snapshot *snapshot;
    int result;

    if (core == NULL) {
        return -1;
    }
    if (value == NULL) {
        return delete_attribute(core, attribute->option);
    }
    bool of_buckets = attribute->option == MCX_BUCKETS;
    if (PyUnicode_Check(value) || PyBytes_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a list of hosts",
                     of_buckets ? "buckets" : "servers");
        return -1;
    }
    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL) {
            return -1;
        }
        result = of_buckets ? mcx_snapshot_set_buckets(attribute->module, snapshot, value)
                            : mcx_snapshot_set_servers(attribute->module, snapshot, value);
        if (result < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

static mcx_record *record_of_attribute(PyObject *self, void *closure)
{
    mcx_core *core = core_of_attribute(self, closure);

    return core ? mcx_record_of(((mcx_attribute *)closure)->module, core, self) : NULL;
}

static PyObject *get_stats(PyObject *self, void *closure)
{
    mcx_record *record = record_of_attribute(self, closure);
    PyObject *stats = NULL;

    if (record != NULL && record->stats_deleted) {
        PyErr_SetString(PyExc_AttributeError, "stats");
    }
    else if (record != NULL) {
        stats = mcx_record_stats(((mcx_attribute *)closure)->module, record);
    }
    Py_XDECREF(record);
    return stats;
}

static int set_stats(PyObject *self, PyObject *value, void *closure)
{
    mcx_record *record = record_of_attribute(self, closure);

    if (record == NULL) {
        return -1;
    }
    memset(record->counts, 0, sizeof record->counts);
    record->stats_deleted = value == NULL;
    Py_XSETREF(record->stats, Py_XNewRef(value));
    Py_DECREF(record);
    return 0;
}

static PyObject *get_cas_ids(PyObject *self, void *closure)
{
    mcx_record *record = record_of_attribute(self, closure);
    PyObject *cas_ids = NULL;

    if (record != NULL && record->cas_ids_deleted) {
        PyErr_SetString(PyExc_AttributeError, "cas_ids");
    }
    else if (record != NULL) {
        if (record->cas_ids == NULL) {
            record->cas_ids = PyDict_New();
        }
        cas_ids = Py_XNewRef(record->cas_ids);
    }
    Py_XDECREF(record);
    return cas_ids;
}

static int set_cas_ids(PyObject *self, PyObject *value, void *closure)
{
    mcx_record *record = record_of_attribute(self, closure);

    if (record == NULL) {
        return -1;
    }
    record->cas_ids_deleted = value == NULL;
    Py_XSETREF(record->cas_ids, Py_XNewRef(value));
    Py_DECREF(record);
    return 0;
}

/* ---- small methods -------------------------------------------------------------------------- */

static const mcx_signature setattr_signature = {
    .method = "__setattr__", .count = 2, .required = 2, .names = {"name", "value"}};

/* threading.local's own __setattr__. A class in Python (eventlet's) has only a slot that would find
 * ours again, so its method is called by name. */
static int set_by_base(mcx_module *module, PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *method, *result = NULL;

    if (module->local_is_native) {
        return module->local_type->tp_setattro(self, name, value);
    }
    method = PyObject_GetAttrString((PyObject *)module->local_type, "__setattr__");
    if (method != NULL) {
        result = PyObject_CallFunctionObjArgs(method, self, name, value, NULL);
    }
    Py_XDECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A method replaced on one client is noticed here; the rest is threading.local's. */
MCX_METHOD(client___setattr__)
{
    mcx_module *module = mcx_module_of(self);
    PyObject *values[2];

    if (mcx_bind(&setattr_signature, args, nargs, kwnames, values) < 0 ||
        set_by_base(module, self, values[0], values[1]) < 0) {
        return NULL;
    }
    PyObject *core = __atomic_load_n(core_slot(module, self), __ATOMIC_ACQUIRE);
    if (core != NULL) {
        mcx_note_client_attribute(module, (mcx_core *)core, values[0]);
    }
    Py_RETURN_NONE;
}

static const mcx_signature check_key_signature = {
    .method = "check_key", .count = 2, .required = 1, .names = {"key", "key_extra_len"}};

MCX_METHOD(client_check_key)
{
    PyObject *values[2], *key;
    mcx_call call;
    Py_ssize_t extra = 0;
    int result = -1;

    if (mcx_bind(&check_key_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    /* What does not fit is too long, too. */
    if (values[1] != NULL && mcx_int(values[1], "key_extra_len", &extra) < 0) {
        return NULL;
    }
    if (mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    key = PyTuple_Check(values[0]) && PyTuple_GET_SIZE(values[0]) == 2
              ? PyTuple_GET_ITEM(values[0], 1)
              : values[0];
    if (key == Py_None) {
        PyErr_SetString(call.module->key_none_error, "Key is None");
    }
    else if (PyUnicode_Check(key) && PyUnicode_GET_LENGTH(key) == 0) {
        result = mcx_key_check(call.module, call.snapshot, (mc_slice){"", 0},
                               extra < 0 ? 1 : (size_t)extra, key);
    }
    else if (!PyBytes_Check(key)) {
        PyErr_SetString(call.module->key_type_error, "Key must be a binary string");
    }
    else {
        mc_slice text = {PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};

        result =
            mcx_key_check(call.module, call.snapshot, text, extra < 0 ? 0 : (size_t)extra, key);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature debuglog_signature = {
    .method = "debuglog", .count = 1, .required = 1, .names = {"str"}};

MCX_METHOD(client_debuglog)
{
    PyObject *values[1], *line;
    mcx_call call;
    int result = 0;

    if (mcx_bind(&debuglog_signature, args, nargs, kwnames, values) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    if (call.snapshot->debug) {
        line = PyUnicode_FromFormat("MemCached: %S\n", values[0]);
        result = line ? mcx_write_stderr(call.module, line) : -1;
        Py_XDECREF(line);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature statlog_signature = {
    .method = "_statlog", .count = 1, .required = 1, .names = {"func"}};

MCX_METHOD(client__statlog)
{
    PyObject *values[1];
    mcx_call call;
    int result;

    if (mcx_bind(&statlog_signature, args, nargs, kwnames, values) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    result = mcx_record_count_name(call.module, call.record, values[0]);
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature reset_cas_signature = {.method = "reset_cas"};

MCX_METHOD(client_reset_cas)
{
    mcx_call call;

    if (mcx_bind(&reset_cas_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    Py_CLEAR(call.record->cas_ids);
    call.record->cas_ids_deleted = false;
    return mcx_call_end(&call, Py_NewRef(Py_None));
}

static const mcx_signature reduce_signature = {.method = "__reduce__"};

/* Behind object's __reduce_ex__, which calls a subclass's own __reduce__ instead. */
MCX_METHOD(client___reduce__)
{
    if (mcx_bind(&reduce_signature, args, nargs, kwnames, NULL) == 0) {
        PyErr_Format(PyExc_TypeError, "cannot pickle or copy '%.100s' object: it owns connections",
                     Py_TYPE(self)->tp_name);
    }
    return NULL;
}

/* ---- privates of which the way in Python makes use ------------------------------------------ */

static const mcx_signature val_to_store_info_signature = {.method = "_val_to_store_info",
                                                          .count = 2,
                                                          .required = 2,
                                                          .names = {"val", "min_compress_len"}};

MCX_METHOD(client__val_to_store_info)
{
    PyObject *values[2], *result = NULL;
    mcx_stored stored;
    mcx_call call;
    int kept;

    if (mcx_bind(&val_to_store_info_signature, args, nargs, kwnames, values) < 0 ||
        mcx_min_compress(values[1]) < 0 || mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    stored.owner = NULL;
    kept = mcx_store_info(&call, values[0], values[1], &stored);
    if (kept == 0) {
        result = PyLong_FromLong(0);
    }
    else if (kept > 0) {
        PyObject *text =
            stored.owner != NULL && PyBytes_CheckExact(stored.owner) &&
                    PyBytes_AS_STRING(stored.owner) == stored.text.bytes &&
                    PyBytes_GET_SIZE(stored.owner) == (Py_ssize_t)stored.text.length
                ? Py_NewRef(stored.owner)
                : PyBytes_FromStringAndSize(stored.text.bytes, (Py_ssize_t)stored.text.length);

        result = text ? Py_BuildValue("(knN)", (unsigned long)stored.flags,
                                      (Py_ssize_t)stored.text.length, text)
                      : NULL;
    }
    mcx_stored_clear(&stored);
    return mcx_call_end(&call, result);
}

static const mcx_signature encode_key_signature = {
    .method = "_encode_key", .count = 1, .required = 1, .names = {"key"}};

MCX_METHOD(client__encode_key)
{
    PyObject *values[1];

    (void)self;
    return mcx_bind(&encode_key_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_encode_key(values[0]);
}

PyMethodDef mcx_client_methods[] = {
    MCX_DEF("__setattr__", client___setattr__,
            "__setattr__($self, name, value, /)\n--\n\nImplement setattr(self, name, value)."),
    MCX_DEF("__reduce__", client___reduce__,
            "__reduce__($self, /)\n--\n\nRaise TypeError: a client owns connections."),
    MCX_DEF(
        "check_key", client_check_key,
        "check_key($self, key, key_extra_len=0)\n--\n\n"
        "Check an encoded key: bytes, not empty, without control characters or spaces, and with\n"
        "key_extra_len bytes not longer than server_max_key_length.\n\n"
        "Returns None. Raises a Client.MemcachedKeyError, or TypeError for a wrong key_extra_len."),
    MCX_DEF("debuglog", client_debuglog,
            "debuglog($self, str)\n--\n\nWrite a line to sys.stderr where debug is set.\n\nReturns "
            "None."),
    MCX_DEF("reset_cas", client_reset_cas,
            "reset_cas($self)\n--\n\n"
            "Forget the cas tokens that this thread's gets() remembered.\n\nReturns None."),
    MCX_DEF("_statlog", client__statlog, "_statlog($self, func)\n--\n\nCount func in stats."),
    MCX_DEF("_val_to_store_info", client__val_to_store_info,
            "_val_to_store_info($self, val, min_compress_len)\n--\n\n"
            "val as it is stored: (flags, length, bytes), or 0 where it is too large."),
    MCX_DEF("_encode_key", client__encode_key,
            "_encode_key($self, key)\n--\n\nkey with a str as UTF-8 bytes."),
    {NULL, NULL, 0, NULL},
};

/* ---- making the type ------------------------------------------------------------------------ */

static const struct {
    const char *name;
    getter get;
    setter set;
    const char *doc;
} thread_attributes[] = {
    {"stats", get_stats, set_stats, "How often this thread sent each command."},
    {"cas_ids", get_cas_ids, set_cas_ids, "This thread's cas tokens, by key, as bytes."},
};

static int add_attribute(mcx_module *module, size_t *used, const char *name, getter get, setter set,
                         const char *doc, int option)
{
    mcx_attribute *attribute = &module->attributes[*used];
    PyGetSetDef *definition = &module->getset[*used];
    PyObject *descriptor;
    int result;

    attribute->module = module;
    attribute->option = option;
    *definition = (PyGetSetDef){name, get, set, doc, attribute};
    (*used)++;
    descriptor = PyDescr_NewGetSet(module->client_type, definition);
    result =
        descriptor ? PyObject_SetAttrString((PyObject *)module->client_type, name, descriptor) : -1;
    Py_XDECREF(descriptor);
    return result;
}

static int add_attributes(mcx_module *module)
{
    size_t used = 0;

    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        if (add_attribute(module, &used, mcx_option_names[option], get_option, set_option, NULL,
                          option) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < sizeof thread_attributes / sizeof *thread_attributes; i++) {
        if (add_attribute(module, &used, thread_attributes[i].name, thread_attributes[i].get,
                          thread_attributes[i].set, thread_attributes[i].doc, 0) < 0) {
            return -1;
        }
    }
    return add_attribute(module, &used, "servers", get_list, set_list,
                         "The servers, a list of _Host; assign to change it.", MCX_SERVERS) < 0 ||
                   add_attribute(module, &used, "buckets", get_list, set_list,
                                 "Each server as often as its weight.", MCX_BUCKETS) < 0
               ? -1
               : 0;
}

static int add_methods(mcx_module *module, PyMethodDef *methods)
{
    for (; methods->ml_name != NULL; methods++) {
        PyObject *descriptor = PyDescr_NewMethod(module->client_type, methods);
        int result = descriptor ? PyObject_SetAttrString((PyObject *)module->client_type,
                                                         methods->ml_name, descriptor)
                                : -1;

        Py_XDECREF(descriptor);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_constant(PyTypeObject *type, const char *name, long value)
{
    PyObject *number = PyLong_FromLong(value);
    int result = number ? PyObject_SetAttrString((PyObject *)type, name, number) : -1;

    Py_XDECREF(number);
    return result;
}

/* An exception class nested in Client. */
static PyObject *add_exception(PyTypeObject *type, const char *name, PyObject *base,
                               const char *doc)
{
    PyObject *full = PyUnicode_FromFormat("memcache.%s", name);
    const char *text = full ? PyUnicode_AsUTF8(full) : NULL;
    PyObject *exception = text ? PyErr_NewExceptionWithDoc(text, doc, base, NULL) : NULL;
    PyObject *qualified = exception ? PyUnicode_FromFormat("Client.%s", name) : NULL;

    if (qualified == NULL || PyObject_SetAttrString(exception, "__qualname__", qualified) < 0 ||
        PyObject_SetAttrString((PyObject *)type, name, exception) < 0) {
        Py_CLEAR(exception);
    }
    Py_XDECREF(qualified);
    Py_XDECREF(full);
    return exception;
}

static int add_exceptions(mcx_module *module)
{
    PyTypeObject *type = module->client_type;

    module->key_error =
        add_exception(type, "MemcachedKeyError", NULL, "A key that cannot be used.");
    if (module->key_error == NULL) {
        return -1;
    }
    module->key_length_error = add_exception(type, "MemcachedKeyLengthError", module->key_error,
                                             "A key that is too long.");
    module->key_character_error =
        add_exception(type, "MemcachedKeyCharacterError", module->key_error,
                      "A key with a control character or a space.");
    module->key_none_error = add_exception(type, "MemcachedKeyNoneError", module->key_error,
                                           "A key that is None or empty.");
    module->key_type_error = add_exception(type, "MemcachedKeyTypeError", module->key_error,
                                           "A key that is neither str nor bytes.");
    module->string_encoding_error = add_exception(type, "MemcachedStringEncodingError", NULL,
                                                  "Kept for programs that name it.");
    return module->key_length_error && module->key_character_error && module->key_none_error &&
                   module->key_type_error && module->string_encoding_error
               ? 0
               : -1;
}

/* class Client(threading.local): __slots__ = ("_mcext_core",) */
static int make_type(mcx_module *module, PyObject *module_object)
{
    /* What has no dict of its own (object, say, in place of threading.local) gets one. */
    bool needs_dict = module->local_type->tp_dictoffset == 0 &&
                      module->local_type->tp_getattro == PyObject_GenericGetAttr &&
                      !PyType_HasFeature(module->local_type, MCX_MANAGED_DICT);
    PyObject *slots = needs_dict ? Py_BuildValue("(sss)", "_mcext_core", "__dict__", "__weakref__")
                                 : Py_BuildValue("(s)", "_mcext_core");
    PyObject *namespace =
        slots ? Py_BuildValue("{sNssssss}", "__slots__", slots, "__module__", "memcache",
                              "__qualname__", "Client", "__doc__", "Client(" INIT_PARAMETERS)
              : NULL;
    PyObject *type = NULL, *slot = NULL, *doc = NULL;
    int result = -1;

    if (namespace == NULL) {
        goto done;
    }
    type = PyObject_CallFunction((PyObject *)Py_TYPE(module->local_type), "s(O)O", "Client",
                                 module->local_type, namespace);
    if (type == NULL) {
        goto done;
    }
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "threading.local's metaclass did not make a class");
        goto done;
    }
    slot = PyObject_GetAttrString(type, "_mcext_core");
    if (slot == NULL || !Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
        PyErr_SetString(PyExc_TypeError, "threading.local's subclass has no slot");
        goto done;
    }
    /* The signature stays in the type; what help() shows is without it. */
    doc = PyUnicode_FromString(class_doc);
    if (doc == NULL || PyObject_SetAttrString(type, "__doc__", doc) < 0) {
        goto done;
    }
    module->core_offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    /* Calls borrow what the slot holds, so nothing but the client's end may empty it. */
    if (PyObject_DelAttrString(type, "_mcext_core") < 0) {
        goto done;
    }
    module->client_type = (PyTypeObject *)Py_NewRef(type);
    /* So that mcx_module_of finds the module by the class. */
    Py_XSETREF(((PyHeapTypeObject *)type)->ht_module, Py_NewRef(module_object));
    ((PyTypeObject *)type)->tp_methods = mcx_single_methods;
    result = 0;
done:
    Py_XDECREF(namespace);
    Py_XDECREF(type);
    Py_XDECREF(slot);
    Py_XDECREF(doc);
    return result;
}

int mcx_add_client_type(mcx_module *module, PyObject *module_object)
{
    if (make_type(module, module_object) < 0 || add_init(module) < 0 ||
        add_exceptions(module) < 0 || add_attributes(module) < 0 ||
        add_methods(module, mcx_single_methods) < 0 || add_methods(module, mcx_multi_methods) < 0 ||
        add_methods(module, mcx_server_methods) < 0 ||
        add_methods(module, mcx_client_methods) < 0 || add_methods(module, mcx_pure_methods) < 0) {
        return -1;
    }
    return add_constant(module->client_type, "_FLAG_PICKLE", MCX_FLAG_PICKLE) < 0 ||
                   add_constant(module->client_type, "_FLAG_INTEGER", MCX_FLAG_INTEGER) < 0 ||
                   add_constant(module->client_type, "_FLAG_LONG", MCX_FLAG_LONG) < 0 ||
                   add_constant(module->client_type, "_FLAG_COMPRESSED", MCX_FLAG_ZLIB) < 0 ||
                   add_constant(module->client_type, "_FLAG_TEXT", MCX_FLAG_TEXT) < 0 ||
                   add_constant(module->client_type, "_SERVER_RETRIES", 10) < 0
               ? -1
               : 0;
}
