/* core_object: what stands behind a client: its snapshot of options and servers, and the records
 * of its threads.
 *
 * The core is shared by all threads of a client and is held in a slot of the client. A call takes a
 * reference to the snapshot that is current and works with it to its end; whoever changes something
 * replaces the snapshot whole. The GIL, or without one the core's critical section, guards both. */
#include "mcx.h"

#include <stddef.h>
#include <string.h>

/* ---- snapshot ------------------------------------------------------------------------------- */

static void drop_references(PyObject **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Py_XDECREF(list[i]);
    }
    PyMem_Free(list);
}

void mcx_snapshot_free(mcx_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        Py_XDECREF(snapshot->options[option]);
    }
    Py_XDECREF(snapshot->servers);
    Py_XDECREF(snapshot->buckets);
    drop_references(snapshot->server, snapshot->server_count);
    drop_references(snapshot->bucket, snapshot->bucket_count);
    PyMem_Free(snapshot->bucket_server);
    PyMem_Free(snapshot);
}

static PyObject **copy_references(PyObject *const *list, size_t count)
{
    PyObject **copy = PyMem_Calloc(count + 1, sizeof *copy);

    if (copy != NULL) {
        for (size_t i = 0; i < count; i++) {
            copy[i] = Py_NewRef(list[i]);
        }
    }
    return copy;
}

static mcx_snapshot *current(mcx_core *core)
{
    return atomic_load_explicit(&core->snapshot, memory_order_relaxed);
}

mcx_snapshot *mcx_snapshot_copy(mcx_core *core)
{
    mcx_snapshot *copy = PyMem_Calloc(1, sizeof *copy);
    mcx_snapshot *old;

    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    copy->references = 1;
    old = mcx_core_enter(core);
    if (old == NULL) {
        copy->allow_pickle = copy->check_keys = copy->pickler_is_keyword = true;
        copy->native_compressor = copy->native_decompressor = true;
        copy->servers = PyList_New(0);
        copy->buckets = PyList_New(0);
        copy->server = PyMem_Calloc(1, sizeof *copy->server);
        copy->bucket = PyMem_Calloc(1, sizeof *copy->bucket);
        copy->bucket_server = PyMem_Calloc(1, sizeof *copy->bucket_server);
        copy->all_hosts = true;
    }
    else {
        memcpy(copy->options, old->options, sizeof *copy - offsetof(mcx_snapshot, options));
        copy->version = old->version + 1;
        copy->plain_hosts = 0;
        for (int option = 0; option < MCX_OPTION_COUNT; option++) {
            Py_XINCREF(copy->options[option]);
        }
        Py_INCREF(copy->servers);
        Py_INCREF(copy->buckets);
        copy->server = copy_references(old->server, old->server_count);
        copy->bucket = copy_references(old->bucket, old->bucket_count);
        copy->bucket_server = PyMem_Calloc(copy->bucket_count + 1, sizeof *copy->bucket_server);
        if (copy->bucket_server != NULL) {
            memcpy(copy->bucket_server, old->bucket_server,
                   copy->bucket_count * sizeof *copy->bucket_server);
        }
    }
    if (old != NULL) {
        mcx_core_leave(old);
    }
    if (copy->servers == NULL || copy->buckets == NULL || copy->server == NULL ||
        copy->bucket == NULL || copy->bucket_server == NULL) {
        copy->server_count = copy->server == NULL ? 0 : copy->server_count;
        copy->bucket_count = copy->bucket == NULL ? 0 : copy->bucket_count;
        mcx_snapshot_drop(copy);
        PyErr_NoMemory();
        return NULL;
    }
    return copy;
}

const char *const mcx_option_names[MCX_OPTION_COUNT] = {
#define X(constant, name) name,
    MCX_OPTIONS(X)
#undef X
};

static int set_length(PyObject *value, const char *name, Py_ssize_t unset, Py_ssize_t *length)
{
    *length = unset;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of bytes, not %.100s", name,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    *length = PyNumber_AsSsize_t(value, NULL);
    if (*length == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*length < 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative", name);
        return -1;
    }
    return 0;
}

static int set_callable(PyObject *value, const char *name)
{
    if (value != NULL && value != Py_None && !PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable, not %.100s", name,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    return 0;
}

/* True where value is what module.attribute is, without importing it. */
static int is_attribute_of(PyObject *value, const char *module, const char *attribute)
{
    PyObject *original = mcx_imported(module, attribute);

    Py_XDECREF(original);
    return original == value;
}

int mcx_snapshot_probe_pickler(mcx_snapshot *snapshot)
{
    PyObject *pickler = snapshot->options[MCX_OPT_PICKLER];
    PyObject *protocol = snapshot->options[MCX_OPT_PICKLE_PROTOCOL];
    PyObject *bytes_io = NULL, *file = NULL, *zero = NULL, *args = NULL, *keywords = NULL;
    PyObject *probe = NULL;
    bool own = pickler == NULL; /* pickle's */
    int result = -1;

    if (snapshot->options[MCX_OPT_PICKLER_IS_KEYWORD] != NULL) {
        return 0; /* as it was assigned */
    }
    if (own && protocol != NULL && protocol != Py_None && !PyIndex_Check(protocol)) {
        PyErr_Format(PyExc_TypeError, "pickleProtocol must be an int, not %.200s",
                     Py_TYPE(protocol)->tp_name);
        return -1;
    }
    if (own && protocol != NULL && PyLong_CheckExact(protocol)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(protocol, &overflow);

        if (!overflow && number >= 0 && number <= 4) {
            protocol = NULL;
        }
    }
    if (own && protocol == NULL) {
        snapshot->pickler_is_keyword = true;
        return 0;
    }
    pickler = own ? mcx_import("pickle", "Pickler") : Py_NewRef(pickler);
    bytes_io = mcx_import("io", "BytesIO");
    zero = PyLong_FromLong(0);
    if (pickler == NULL || bytes_io == NULL || zero == NULL) {
        goto done;
    }
    file = PyObject_CallNoArgs(bytes_io);
    keywords = Py_BuildValue("{sO}", "protocol", protocol != NULL ? protocol : zero);
    args = file != NULL ? PyTuple_Pack(1, file) : NULL;
    if (keywords == NULL || args == NULL) {
        goto done;
    }
    probe = PyObject_Call(pickler, args, keywords);
    snapshot->pickler_is_keyword = probe != NULL;
    if (probe == NULL) {
        if (own && (PyErr_ExceptionMatches(PyExc_ValueError) ||
                    PyErr_ExceptionMatches(PyExc_OverflowError))) {
            PyErr_Format(PyExc_ValueError, "pickleProtocol must be one that pickle knows, not %R",
                         protocol);
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            goto done;
        }
        PyErr_Clear();
    }
    result = 0;
done:
    Py_XDECREF(pickler);
    Py_XDECREF(bytes_io);
    Py_XDECREF(zero);
    Py_XDECREF(file);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_XDECREF(probe);
    return result;
}

static int truth(PyObject *value, bool unset, bool *flag)
{
    int is_true = value == NULL ? unset : PyObject_IsTrue(value);

    *flag = is_true > 0;
    return is_true < 0 ? -1 : 0;
}

static int default_length(mcx_module *module, int which, Py_ssize_t fallback, Py_ssize_t *length)
{
    static const char *const names[] = {"SERVER_MAX_KEY_LENGTH", "SERVER_MAX_VALUE_LENGTH"};
    PyObject *value = mcx_assigned(module, &module->defaults[which]);
    int result = set_length(value, names[which], fallback, length);

    Py_XDECREF(value);
    return result;
}

/* What follows from the options, in the form that calls use. */
static int derive(mcx_module *module, mcx_snapshot *snapshot, int option)
{
    PyObject *value = snapshot->options[option];
    const char *name = mcx_option_names[option];

    switch (option) {
    case MCX_OPT_DEBUG:
        return truth(value, false, &snapshot->debug);
    case MCX_OPT_CACHE_CAS:
        return truth(value, false, &snapshot->cache_cas);
    case MCX_OPT_CHECK_KEYS:
        return truth(value, true, &snapshot->check_keys);
    case MCX_OPT_ALLOW_PICKLE:
        return truth(value, true, &snapshot->allow_pickle);
    case MCX_OPT_PICKLER_IS_KEYWORD:
        return truth(value, true, &snapshot->pickler_is_keyword);
    case MCX_OPT_MAX_KEY_LENGTH:
        return value == NULL ? default_length(module, 0, 250, &snapshot->max_key_length)
                             : set_length(value, name, 250, &snapshot->max_key_length);
    case MCX_OPT_MAX_VALUE_LENGTH:
        return value == NULL ? default_length(module, 1, 1 << 20, &snapshot->max_value_length)
                             : set_length(value, name, 1 << 20, &snapshot->max_value_length);
    case MCX_OPT_MAX_LENGTH:
        if (set_length(value, name, (Py_ssize_t)128 << 20, &snapshot->max_length) < 0) {
            return -1;
        }
        if (snapshot->max_length == 0) {
            PyErr_SetString(PyExc_ValueError, "max_value_length must be at least 1");
            return -1;
        }
        return 0;
    case MCX_OPT_SOCKET_TIMEOUT:
    case MCX_OPT_CONNECT_TIMEOUT: /* the hosts have them (server_type.c) */
        return value == NULL ? 0 : mcx_seconds(value, name, &(int64_t){0});
    case MCX_OPT_DEAD_RETRY:
        if (value != NULL && !PyNumber_Check(value)) {
            PyErr_Format(PyExc_TypeError, "dead_retry must be a number of seconds, not %.100s",
                         Py_TYPE(value)->tp_name);
            return -1;
        }
        return 0;
    case MCX_OPT_PICKLE_PROTOCOL:
    case MCX_OPT_FLUSH_ON_RECONNECT:
        return 0;
    case MCX_OPT_COMPRESSOR:
        snapshot->native_compressor = value == NULL || is_attribute_of(value, "zlib", "compress");
        return set_callable(value, name);
    case MCX_OPT_DECOMPRESSOR:
        snapshot->native_decompressor =
            value == NULL || is_attribute_of(value, "zlib", "decompress");
        return set_callable(value, name);
    case MCX_OPT_PERSISTENT_LOAD:
        return set_callable(value, "pload (persistent_load)");
    case MCX_OPT_PERSISTENT_ID:
        return set_callable(value, "pid (persistent_id)");
    default:
        return set_callable(value, name);
    }
}

int mcx_snapshot_set_option(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value)
{
    /* None stands for the default where the constructor's signature says so. */
    switch (option) {
    case MCX_OPT_CONNECT_TIMEOUT:
    case MCX_OPT_KEY_ENCODER:
    case MCX_OPT_MAX_KEY_LENGTH:
    case MCX_OPT_MAX_VALUE_LENGTH:
    case MCX_OPT_COMPRESSOR:
    case MCX_OPT_DECOMPRESSOR:
    case MCX_OPT_PERSISTENT_LOAD:
    case MCX_OPT_PERSISTENT_ID:
        value = value == Py_None ? NULL : value;
        break;
    case MCX_OPT_PICKLER:
        value = value == Py_None || is_attribute_of(value, "pickle", "Pickler") ? NULL : value;
        break;
    case MCX_OPT_UNPICKLER:
        value = value == Py_None || is_attribute_of(value, "pickle", "Unpickler") ? NULL : value;
        break;
    default:
        break;
    }
    PyObject *old = snapshot->options[option];

    snapshot->options[option] = Py_XNewRef(value);
    snapshot->deleted &= ~(UINT32_C(1) << option);
    Py_XDECREF(old);
    return derive(module, snapshot, option);
}

/* list(sequence). Of a list it is a slice: before 3.13, list() keeps a reference to it where memory
 * is out. */
static PyObject *copy_list(PyObject *sequence)
{
    return PyList_CheckExact(sequence) ? PyList_GetSlice(sequence, 0, PY_SSIZE_T_MAX)
                                       : PySequence_List(sequence);
}

int mcx_snapshot_set_servers(mcx_module *module, mcx_snapshot *snapshot, PyObject *servers)
{
    PyObject *list = copy_list(servers);
    PyObject **copy;

    (void)module;
    if (list == NULL) {
        return -1;
    }
    copy = copy_references(&PyList_GET_ITEM(list, 0), (size_t)PyList_GET_SIZE(list));
    if (copy == NULL) {
        Py_DECREF(list);
        PyErr_NoMemory();
        return -1;
    }
    drop_references(snapshot->server, snapshot->server_count);
    snapshot->server = copy;
    snapshot->server_count = (size_t)PyList_GET_SIZE(list);
    Py_SETREF(snapshot->servers, PyList_CheckExact(servers) ? Py_NewRef(servers) : Py_NewRef(list));
    snapshot->deleted &= ~(UINT32_C(1) << MCX_SERVERS);
    Py_DECREF(list);
    return mcx_snapshot_set_buckets(module, snapshot, snapshot->buckets);
}

int mcx_snapshot_set_buckets(mcx_module *module, mcx_snapshot *snapshot, PyObject *buckets)
{
    PyObject *list = copy_list(buckets);
    PyObject **copy = NULL;
    uint32_t *numbers = NULL;
    size_t count;

    if (list == NULL) {
        return -1;
    }
    count = (size_t)PyList_GET_SIZE(list);
    copy = copy_references(&PyList_GET_ITEM(list, 0), count);
    numbers = PyMem_Calloc(count + 1, sizeof *numbers);
    if (copy == NULL || numbers == NULL) {
        if (copy != NULL) {
            drop_references(copy, count);
        }
        PyMem_Free(numbers);
        Py_DECREF(list);
        PyErr_NoMemory();
        return -1;
    }
    drop_references(snapshot->bucket, snapshot->bucket_count);
    PyMem_Free(snapshot->bucket_server);
    snapshot->bucket = copy;
    snapshot->bucket_server = numbers;
    snapshot->bucket_count = count;
    snapshot->all_hosts = true;

    size_t at = 0; /* buckets of one server stand together, so look near the last one first */
    for (size_t i = 0; i < count; i++) {
        size_t looked = 0;

        while (looked < snapshot->server_count && snapshot->server[at] != copy[i]) {
            at = (at + 1) % snapshot->server_count;
            looked++;
        }
        numbers[i] = (uint32_t)(looked < snapshot->server_count ? at : snapshot->server_count);
        if (!Py_IS_TYPE(copy[i], module->host_type)) {
            snapshot->all_hosts = false;
        }
    }
    Py_SETREF(snapshot->buckets, PyList_CheckExact(buckets) ? Py_NewRef(buckets) : Py_NewRef(list));
    snapshot->deleted &= ~(UINT32_C(1) << MCX_BUCKETS);
    Py_DECREF(list);
    return 0;
}

/* ---- threads -------------------------------------------------------------------------------- */

/* What a thread remembers: its records of the clients it used last, by the core's id, which is
 * never used twice. A record is the thread's own dict's, so it is there as long as the thread and
 * the client are, unless that dict is emptied; then the record's end is noticed: by the thread
 * itself, or, where another one empties it, by `lost`, which then differs. */
#define REMEMBERED 4

static _Thread_local struct {
    uint64_t lost; /* of all threads, when the first of these was remembered */
    mc_remembered *connections;
    struct {
        uint64_t core_id;
        mcx_record *record;
    } last[REMEMBERED];
} own;

/* How many remembered records ended in another thread. */
static _Atomic uint64_t lost;

/* ---- replacing ------------------------------------------------------------------------------ */

/* In the child of a fork: calls of the parent's other threads never end here, and what they hold is
 * nobody's; a call of the thread that forked goes on and drops its own. */
void mcx_core_start_over(mcx_core *core)
{
    uint32_t now = mc_process_generation();

    Py_BEGIN_CRITICAL_SECTION(core);
    if (atomic_load_explicit(&core->generation, memory_order_relaxed) != now) {
        mcx_snapshot *snapshot = current(core);

        if (snapshot != NULL && !mc_process_forked_in_call()) {
            snapshot->references = 1;
        }
        atomic_store_explicit(&core->generation, now, memory_order_relaxed);
    }
    Py_END_CRITICAL_SECTION();
}

/* The longest key of the straight way; 0 where options or servers ask for more than that has. */
static size_t straight_key_length(const mcx_snapshot *snapshot)
{
    size_t limit = (size_t)snapshot->max_key_length;

    if (!snapshot->check_keys || !snapshot->all_hosts || snapshot->bucket_count == 0 ||
        snapshot->options[MCX_OPT_KEY_ENCODER] != NULL) {
        return 0;
    }
    return limit == 0 || limit > MCX_PROTOCOL_KEY_LENGTH ? MCX_PROTOCOL_KEY_LENGTH : limit;
}

static bool is_among(PyObject *host, PyObject *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == host) {
            return true;
        }
    }
    return false;
}

/* What is in the old list and in neither of the new ones is used no more: its connections are
 * closed as soon as they are idle. */
static void drop_servers(mcx_module *module, PyObject *const *list, size_t count,
                         const mcx_snapshot *now)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *host = list[i];

        if ((i > 0 && host == list[i - 1]) || !mcx_is_server(module, host) ||
            (i < now->server_count && now->server[i] == host) ||
            is_among(host, now->server, now->server_count) ||
            is_among(host, now->bucket, now->bucket_count)) {
            continue;
        }
        mcx_server *server = (mcx_server *)host;

        if (server->initialised) {
            mc_pool_disconnect(&server->server.pool);
            mcx_server_close_idle(server, false);
        }
    }
}

bool mcx_core_replace(mcx_core *core, mcx_snapshot *snapshot)
{
    mcx_snapshot *old;
    bool fits;

    snapshot->straight_key_length = straight_key_length(snapshot);
    if (atomic_load_explicit(&core->generation, memory_order_relaxed) != mc_process_generation()) {
        mcx_core_start_over(core);
    }
    Py_BEGIN_CRITICAL_SECTION(core);
    old = current(core);
    fits = old == NULL || old->version + 1 == snapshot->version;
    if (fits) {
        snapshot->references++; /* for the look at both below, which may run Python code */
        mc_process_add_calls(1);
        atomic_store_explicit(&core->snapshot, snapshot, memory_order_relaxed);
    }
    Py_END_CRITICAL_SECTION();
    if (!fits) {
        mcx_snapshot_drop(snapshot);
        return false;
    }
    if (old != NULL) {
        drop_servers(core->module, old->server, old->server_count, snapshot);
        drop_servers(core->module, old->bucket, old->bucket_count, snapshot);
        mcx_snapshot_drop(old);
    }
    mcx_core_leave(snapshot);
    return true;
}

/* Whether a list that users change in place holds what was copied from it. */
static bool is_as_copied(PyObject *list, PyObject *const *copy, size_t count)
{
    bool same;

    Py_BEGIN_CRITICAL_SECTION(list);
    same = (size_t)PyList_GET_SIZE(list) == count &&
           (count == 0 || memcmp(((PyListObject *)list)->ob_item, copy, count * sizeof *copy) == 0);
    Py_END_CRITICAL_SECTION();
    return same;
}

bool mcx_lists_are_current(const mcx_snapshot *snapshot)
{
    return is_as_copied(snapshot->servers, snapshot->server, snapshot->server_count) &&
           is_as_copied(snapshot->buckets, snapshot->bucket, snapshot->bucket_count);
}

int mcx_core_take_lists(mcx_core *core)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = mcx_snapshot_copy(core);
        if (snapshot == NULL) {
            return -1;
        }
        uint32_t deleted = snapshot->deleted;

        if (mcx_snapshot_set_servers(core->module, snapshot, snapshot->servers) < 0) {
            mcx_snapshot_drop(snapshot);
            return -1;
        }
        snapshot->deleted = deleted;
    } while (!mcx_core_replace(core, snapshot));
    return 0;
}

mcx_record *mcx_last_record(const mcx_core *core, mc_remembered **connections)
{
    *connections = own.connections;
    return own.last[core->id % REMEMBERED].core_id == core->id &&
                   own.lost == atomic_load_explicit(&lost, memory_order_relaxed)
               ? own.last[core->id % REMEMBERED].record
               : NULL;
}

static void remember(const mcx_core *core, mcx_record *record)
{
    uint64_t now = atomic_load_explicit(&lost, memory_order_relaxed);

    if (own.lost != now) {
        memset(own.last, 0, sizeof own.last);
        own.lost = now;
    }
    own.connections = mc_pool_remembered();
    own.last[core->id % REMEMBERED].core_id = core->id;
    own.last[core->id % REMEMBERED].record = record;
    record->remembered_by =
        record->remembered_by == NULL || record->remembered_by == &own ? (void *)&own : &lost;
}

/* ---- the core object ------------------------------------------------------------------------ */

static _Atomic uint64_t next_core_id = 1;

mcx_core *mcx_core_new(mcx_module *module, PyObject *module_object)
{
    mcx_core *core = PyObject_GC_New(mcx_core, module->core_type);

    if (core == NULL) {
        return NULL;
    }
    memset((char *)core + offsetof(mcx_core, module), 0, sizeof *core - offsetof(mcx_core, module));
    core->module = module;
    core->module_object = Py_NewRef(module_object);
    core->id = atomic_fetch_add_explicit(&next_core_id, 1, memory_order_relaxed);
    atomic_init(&core->plain_version, MCX_NO_VERSION);
    atomic_init(&core->server_retries, 10);
    atomic_init(&core->generation, mc_process_generation());
    PyObject_GC_Track(core);
    return core;
}

static int traverse_snapshot(mcx_snapshot *snapshot, visitproc visit, void *arg)
{
    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        Py_VISIT(snapshot->options[option]);
    }
    Py_VISIT(snapshot->servers);
    Py_VISIT(snapshot->buckets);
    for (size_t i = 0; i < snapshot->server_count; i++) {
        Py_VISIT(snapshot->server[i]);
    }
    for (size_t i = 0; i < snapshot->bucket_count; i++) {
        Py_VISIT(snapshot->bucket[i]);
    }
    return 0;
}

static int core_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_core *core = (mcx_core *)self;
    mcx_snapshot *snapshot = current(core);

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(core->module_object);
    Py_VISIT(core->opened_with);
    if (snapshot != NULL) {
        int result = traverse_snapshot(snapshot, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int core_clear(PyObject *self)
{
    mcx_core *core = (mcx_core *)self;
    mcx_snapshot *snapshot = atomic_exchange(&core->snapshot, NULL);

    Py_CLEAR(core->opened_with);
    if (snapshot != NULL) {
        mcx_snapshot_drop(snapshot);
    }
    return 0;
}

static void core_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_core *core = (mcx_core *)self;

    PyObject_GC_UnTrack(self);
    core_clear(self);
    Py_XDECREF(core->module_object);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot core_slots[] = {
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_doc, "What the threads of a client share."},
    {0, NULL},
};

PyType_Spec mcx_core_spec = {
    .name = "mcext._core._Core",
    .basicsize = sizeof(mcx_core),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = core_slots,
};

mcx_core *mcx_core_of(mcx_module *module, PyObject *self)
{
    PyObject *core =
        __atomic_load_n((PyObject **)((char *)self + module->core_offset), __ATOMIC_ACQUIRE);

    if (UNLIKELY(core == NULL || !Py_IS_TYPE(core, module->core_type) ||
                 current((mcx_core *)core) == NULL)) {
        PyErr_Format(PyExc_RuntimeError, "%.100s.__init__ has not been called",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    return (mcx_core *)core;
}

/* The key_encoder where none was given: a new reference. */
static PyObject *same_key(mcx_module *module)
{
    PyObject *found = __atomic_load_n(&module->same_key, __ATOMIC_ACQUIRE);
    PyObject *none = NULL;

    if (found == NULL) {
        found = mcx_import("mcext._core", "_same_key");
        if (found != NULL && __atomic_compare_exchange_n(&module->same_key, &none, found, false,
                                                         __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            return Py_NewRef(found);
        }
        return found;
    }
    return Py_NewRef(found);
}

static PyObject *option_value(mcx_module *module, mcx_snapshot *snapshot, int option)
{
    static const struct {
        int option;
        const char *module, *attribute;
    } imported[] = {
        {MCX_OPT_PICKLER, "pickle", "Pickler"},
        {MCX_OPT_UNPICKLER, "pickle", "Unpickler"},
        {MCX_OPT_COMPRESSOR, "zlib", "compress"},
        {MCX_OPT_DECOMPRESSOR, "zlib", "decompress"},
    };
    PyObject *value = snapshot->options[option];

    if ((snapshot->deleted >> option) & 1) {
        PyErr_SetString(PyExc_AttributeError, mcx_option_names[option]);
        return NULL;
    }
    if (value != NULL) {
        return Py_NewRef(value);
    }
    for (size_t i = 0; i < sizeof imported / sizeof *imported; i++) {
        if (imported[i].option == option) {
            return mcx_import(imported[i].module, imported[i].attribute);
        }
    }
    switch (option) {
    case MCX_OPT_DEBUG:
    case MCX_OPT_PICKLE_PROTOCOL:
    case MCX_OPT_FLUSH_ON_RECONNECT:
        return PyLong_FromLong(0);
    case MCX_OPT_MAX_KEY_LENGTH:
        return PyLong_FromSsize_t(snapshot->max_key_length);
    case MCX_OPT_MAX_VALUE_LENGTH:
        return PyLong_FromSsize_t(snapshot->max_value_length);
    case MCX_OPT_MAX_LENGTH:
        return PyLong_FromSsize_t(snapshot->max_length);
    case MCX_OPT_DEAD_RETRY:
        return PyLong_FromLong(30);
    case MCX_OPT_SOCKET_TIMEOUT:
        return PyLong_FromLong(3);
    case MCX_OPT_CACHE_CAS:
        Py_RETURN_FALSE;
    case MCX_OPT_CHECK_KEYS:
    case MCX_OPT_ALLOW_PICKLE:
        Py_RETURN_TRUE;
    case MCX_OPT_PICKLER_IS_KEYWORD:
        return PyBool_FromLong(snapshot->pickler_is_keyword);
    case MCX_OPT_CONNECT_TIMEOUT:
        return snapshot->options[MCX_OPT_SOCKET_TIMEOUT]
                   ? Py_NewRef(snapshot->options[MCX_OPT_SOCKET_TIMEOUT])
                   : PyLong_FromLong(3);
    case MCX_OPT_KEY_ENCODER:
        return same_key(module);
    default:
        Py_RETURN_NONE;
    }
}

PyObject *mcx_option_value(mcx_core *core, int option)
{
    mcx_snapshot *snapshot = mcx_core_enter(core);
    PyObject *value = option_value(core->module, snapshot, option);

    mcx_core_leave(snapshot);
    return value;
}

/* ---- records -------------------------------------------------------------------------------- */

static mcx_record *record_new(mcx_module *module, mcx_core *core)
{
    mcx_record *record = PyObject_GC_New(mcx_record, module->record_type);

    if (record != NULL) {
        record->core_id = core->id;
        record->is_first = false;
        record->remembered_by = NULL;
        record->stats = record->cas_ids = NULL;
        record->stats_deleted = record->cas_ids_deleted = false;
        memset(record->counts, 0, sizeof record->counts);
        PyObject_GC_Track(record);
    }
    return record;
}

static int record_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_record *record = (mcx_record *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(record->stats);
    Py_VISIT(record->cas_ids);
    return 0;
}

static int record_clear(PyObject *self)
{
    mcx_record *record = (mcx_record *)self;

    Py_CLEAR(record->stats);
    Py_CLEAR(record->cas_ids);
    return 0;
}

static void record_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_record *record = (mcx_record *)self;

    PyObject_GC_UnTrack(self);
    if (record->remembered_by != NULL && record->remembered_by != &own) {
        atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
    }
    else if (own.last[record->core_id % REMEMBERED].record == record) {
        own.last[record->core_id % REMEMBERED].core_id = 0;
    }
    record_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot record_slots[] = {
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_traverse, record_traverse},
    {Py_tp_clear, record_clear},
    {Py_tp_doc, "What one thread has of a client."},
    {0, NULL},
};

PyType_Spec mcx_record_spec = {
    .name = "mcext._core._Record",
    .basicsize = sizeof(mcx_record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = record_slots,
};

/* A new record as the client's attribute. *kept: it is where it was found, and not where a
 * subclass's own __setattr__ puts what it is given. */
static mcx_record *put_record(mcx_module *module, mcx_core *core, PyObject *self, bool *kept)
{
    mcx_record *record = record_new(module, core);
    PyObject *found = NULL;

    if (record != NULL && (PyObject_SetAttr(self, module->str_record, (PyObject *)record) < 0 ||
                           PyObject_GetOptionalAttr(self, module->str_record, &found) < 0)) {
        Py_CLEAR(record);
    }
    else {
        *kept = found == (PyObject *)record;
        Py_XDECREF(found);
    }
    return record;
}

int mcx_record_first(mcx_module *module, mcx_core *core, PyObject *self)
{
    bool kept;
    mcx_record *record = put_record(module, core, self, &kept);

    if (record == NULL) {
        return -1;
    }
    record->is_first = true;
    Py_DECREF((PyObject *)record);
    return 0;
}

/* The record by way of the client's attributes: threading.local makes them this thread's, and runs
 * __init__ where the thread is new to the client. */
static mcx_record *look_up_record(mcx_module *module, mcx_core *core, PyObject *self, bool *kept)
{
    PyObject *found = NULL;

    *kept = true;
    if (PyObject_GetOptionalAttr(self, module->str_record, &found) < 0) {
        return NULL;
    }
    if (found != NULL && Py_IS_TYPE(found, module->record_type) &&
        ((mcx_record *)found)->core_id == core->id) {
        return (mcx_record *)found;
    }
    Py_CLEAR(found);
    return put_record(module, core, self, kept);
}

mcx_record *mcx_record_of(mcx_module *module, mcx_core *core, PyObject *self)
{
    bool own_thread =
        module->local_is_native && Py_TYPE(self)->tp_getattro == module->client_type->tp_getattro;

    mc_remembered *connections;
    mcx_record *record = own_thread ? mcx_last_record(core, &connections) : NULL;

    if (LIKELY(record != NULL)) {
        return (mcx_record *)Py_NewRef((PyObject *)record);
    }
    bool kept;
    record = look_up_record(module, core, self, &kept);
    if (record != NULL && own_thread && kept) {
        remember(core, record);
    }
    return record;
}

/* stats[name] += by */
static int add_count(PyObject *stats, PyObject *name, unsigned long by)
{
    PyObject *number = PyLong_FromUnsignedLong(by);
    PyObject *old = number ? PyObject_GetItem(stats, name) : NULL;
    int result = -1;

    if (old != NULL) {
        Py_SETREF(number, PyNumber_Add(old, number));
    }
    else if (number == NULL || !PyErr_ExceptionMatches(PyExc_KeyError)) {
        goto done;
    }
    else {
        PyErr_Clear();
    }
    if (number != NULL) {
        result = PyObject_SetItem(stats, name, number);
    }
done:
    Py_XDECREF(number);
    Py_XDECREF(old);
    return result;
}

PyObject *mcx_record_stats(mcx_module *module, mcx_record *record)
{
    if (record->stats == NULL && (record->stats = PyDict_New()) == NULL) {
        return NULL;
    }
    PyObject *stats = Py_NewRef(record->stats);

    for (int what = 0; what < MCX_COUNTS; what++) {
        uint32_t count = record->counts[what];

        record->counts[what] = 0;
        if (count != 0 && add_count(stats, module->count_names[what], count) < 0) {
            Py_DECREF(stats);
            return NULL;
        }
    }
    return stats;
}

int mcx_record_count_name(mcx_module *module, mcx_record *record, PyObject *name)
{
    PyObject *stats = mcx_record_stats(module, record);
    int result = stats ? add_count(stats, name, 1) : -1;

    Py_XDECREF(stats);
    return result;
}

int mcx_record_count(mcx_module *module, mcx_record *record, int what)
{
    if (LIKELY(mcx_counts_alone(record))) {
        record->counts[what]++;
        return 0;
    }
    return mcx_record_count_name(module, record, module->count_names[what]);
}
