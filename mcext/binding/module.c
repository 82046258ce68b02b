/* module: `mcext._core`: its state, its types, and the names of python-memcached's module that
 * reach into the client (server hash, socket and time modules, default limits).
 *
 * All state is the module object's: no process-wide state here, so that interpreters with a GIL of
 * their own, and reloads, do not meet. */
#include "mcx.h"

#include <poll.h>
#include <string.h>
#include <zlib.h>

mcx_module *mcx_module_of_subclass(PyTypeObject *type)
{
    PyObject *bases = type->tp_mro;
    mcx_module *module = NULL;

    for (Py_ssize_t i = 1; module == NULL && i < PyTuple_GET_SIZE(bases); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(bases, i);

        module = PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE) ? mcx_module_of_class(base) : NULL;
    }
    return module;
}

mcx_module *mcx_module_by_new(PyTypeObject *type, newfunc made_by)
{
    mcx_module *module = NULL;

    for (; module == NULL && type != NULL; type = type->tp_base) {
        if (type->tp_new == made_by && PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) &&
            ((PyHeapTypeObject *)type)->ht_module != NULL) {
            module = PyModule_GetState(((PyHeapTypeObject *)type)->ht_module);
        }
    }
    return module;
}

PyObject *mcx_import(const char *module, const char *attribute)
{
    PyObject *imported = PyImport_ImportModule(module);
    PyObject *found = imported ? PyObject_GetAttrString(imported, attribute) : NULL;

    Py_XDECREF(imported);
    return found;
}

PyObject *mcx_imported(const char *module, const char *attribute)
{
    PyObject *name = PyUnicode_FromString(module);
    PyObject *imported = name ? PyImport_GetModule(name) : NULL;
    PyObject *found = imported ? PyObject_GetAttrString(imported, attribute) : NULL;

    Py_XDECREF(imported);
    Py_XDECREF(name);
    if (found == NULL) {
        PyErr_Clear();
    }
    return found;
}

/* ---- what applications replace -------------------------------------------------------------- */

/* True for socket.socket as Python brings it, whoever patched whatever before. */
static bool is_own_socket(PyObject *class)
{
    PyObject *module;
    bool own;

    if (!PyType_Check(class) || ((PyTypeObject *)class)->tp_base == NULL ||
        strcmp(((PyTypeObject *)class)->tp_base->tp_name, "_socket.socket") != 0) {
        return false;
    }
    module = PyObject_GetAttrString(class, "__module__");
    own = module != NULL && PyUnicode_Check(module) &&
          PyUnicode_CompareWithASCIIString(module, "socket") == 0 &&
          strcmp(((PyTypeObject *)class)->tp_name, "socket") == 0;
    Py_XDECREF(module);
    PyErr_Clear();
    return own;
}

static int find_socket_module(mcx_module *module)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *found = NULL;

    if (PyDict_GetItemRef(modules, module->str_socket_module, &found) < 0) {
        return -1;
    }
    if (found != NULL && PyModule_Check(found)) {
        PyObject *none = NULL;

        /* Kept once and for all; another thread may have been first. */
        if (!__atomic_compare_exchange_n(&module->socket_module, &none, found, false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            Py_DECREF(found);
        }
    }
    else {
        Py_XDECREF(found);
    }
    return 0;
}

PyObject *mcx_assigned(mcx_module *module, PyObject **field)
{
    PyObject *value;

    (void)module; /* where there is a GIL */
    Py_BEGIN_CRITICAL_SECTION(module->guard);
    value = Py_XNewRef(*field);
    Py_END_CRITICAL_SECTION();
    return value;
}

/* All is plain as long as this dict does not change; where dicts have no version, as long as it has
 * the same socket class. */
static void watch(mcx_module *module, PyObject *dict)
{
#if MCX_HAS_DICT_VERSION
    module->socket_version = ((PyDictObject *)dict)->ma_version_tag;
#endif
    __atomic_store_n(&module->socket_dict, dict, __ATOMIC_RELEASE);
}

int mcx_find_socket_class(mcx_module *module, PyObject **found)
{
    bool is_overridden = __atomic_load_n(&module->socket_override, __ATOMIC_ACQUIRE) != NULL;
    PyObject *override =
        UNLIKELY(is_overridden) ? mcx_assigned(module, &module->socket_override) : NULL;
    PyObject *class = NULL;

    *found = NULL;
    if (UNLIKELY(override != NULL)) {
        class = PyObject_GetAttr(override, module->str_socket);
        Py_DECREF(override);
        if (class == NULL) {
            return -1;
        }
    }
    else {
        PyObject *socket = __atomic_load_n(&module->socket_module, __ATOMIC_ACQUIRE);

        if (UNLIKELY(socket == NULL)) {
            if (find_socket_module(module) < 0) {
                return -1;
            }
            socket = __atomic_load_n(&module->socket_module, __ATOMIC_ACQUIRE);
            if (socket == NULL) {
#if MCX_HAS_DICT_VERSION
                watch(module, PyImport_GetModuleDict());
#endif
                return 0; /* never imported, so never replaced */
            }
        }
        if (PyDict_GetItemRef(PyModule_GetDict(socket), module->str_socket, &class) < 0) {
            return -1;
        }
    }
    PyObject *own = __atomic_load_n(&module->socket_class, __ATOMIC_ACQUIRE);
    if (LIKELY(class == own && own != NULL)) {
        if (override == NULL) {
            watch(module, PyModule_GetDict(module->socket_module));
        }
        Py_DECREF(class);
        return 0;
    }
    if (class == NULL || class == Py_None) {
        Py_XDECREF(class);
        return 0;
    }
    if (own == NULL && is_own_socket(class)) {
        PyObject *none = NULL;

        if (!__atomic_compare_exchange_n(&module->socket_class, &none, class, false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            Py_DECREF(class);
        }
        return 0;
    }
    *found = class;
    return 0;
}

int mcx_wall_clock(mcx_module *module, int64_t *now)
{
    PyObject *override = mcx_assigned(module, &module->time_override);
    PyObject *function = override ? PyObject_GetAttrString(override, "time")
                                  : mcx_import("time", "time"); /* which tests replace */
    PyObject *seconds = function ? PyObject_CallNoArgs(function) : NULL;
    double value = seconds ? PyFloat_AsDouble(seconds) : -1;

    Py_XDECREF(override);
    Py_XDECREF(function);
    Py_XDECREF(seconds);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    *now = mcx_microseconds(value);
    return 0;
}

/* ---- functions of the module ---------------------------------------------------------------- */

static const mcx_signature hash_signature = {
    .method = "cmemcache_hash", .count = 1, .required = 1, .names = {"key"}};

MCX_METHOD(module_hash)
{
    PyObject *values[1];
    Py_buffer view;
    uint32_t hash;

    (void)self;
    if (mcx_bind(&hash_signature, args, nargs, kwnames, values) < 0 ||
        PyObject_GetBuffer(values[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    hash = mc_hash_default((mc_slice){view.buf, (size_t)view.len});
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(hash);
}

/* _set_hash_function(function): memcache.serverHashFunction was assigned. */
static PyObject *module_set_hash_function(PyObject *self, PyObject *function)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *own = PyObject_GetAttrString(self, "cmemcache_hash");
    PyObject *crc32 = own ? mcx_imported("binascii", "crc32") : NULL;
    int kind = function == own     ? MCX_HASH_DEFAULT
               : function == crc32 ? MCX_HASH_CRC32
                                   : MCX_HASH_PYTHON;
    PyObject *old;

    Py_XDECREF(own);
    Py_XDECREF(crc32);
    PyErr_Clear();
    if (!PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError, "serverHashFunction must be callable, not %.100s",
                     Py_TYPE(function)->tp_name);
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(module->guard);
    old = module->hash_function;
    module->hash_function = Py_NewRef(function);
    atomic_store_explicit(&module->hash_kind, kind, memory_order_release);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* See mcx_assigned. value may be NULL. */
static PyObject *assign(mcx_module *module, PyObject **field, PyObject *value)
{
    PyObject *old;

    (void)module; /* where there is a GIL */
    Py_BEGIN_CRITICAL_SECTION(module->guard);
    old = __atomic_exchange_n(field, Py_XNewRef(value), __ATOMIC_ACQ_REL);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* _set_socket(module or None), _set_time(module or None): memcache.socket, memcache.time. */
static PyObject *module_set_socket(PyObject *self, PyObject *value)
{
    mcx_module *module = PyModule_GetState(self);

    return assign(module, &module->socket_override, value == Py_None ? NULL : value);
}

static PyObject *module_set_time(PyObject *self, PyObject *value)
{
    mcx_module *module = PyModule_GetState(self);

    return assign(module, &module->time_override, value == Py_None ? NULL : value);
}

/* _set_limit(0 or 1, value): memcache.SERVER_MAX_KEY_LENGTH, SERVER_MAX_VALUE_LENGTH. */
static PyObject *module_set_limit(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *value;
    int which;

    if (!PyArg_ParseTuple(args, "iO", &which, &value)) {
        return NULL;
    }
    if (which < 0 || which > 1 || !PyLong_Check(value)) {
        PyErr_SetString(PyExc_TypeError, which == 0 ? "SERVER_MAX_KEY_LENGTH must be an int"
                                                    : "SERVER_MAX_VALUE_LENGTH must be an int");
        return NULL;
    }
    return assign(module, &module->defaults[which], value);
}

static PyObject *module_same_key(PyObject *self, PyObject *key)
{
    (void)self;
    return Py_NewRef(key);
}

/* ---- for the way in Python ------------------------------------------------------------------ */

static PyObject *module_set_host_type(PyObject *self, PyObject *type)
{
    return mcx_set_host_type(PyModule_GetState(self), type) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_generation(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLong(mc_process_generation());
}

static PyObject *module_wall_clock(PyObject *self, PyObject *unused)
{
    int64_t now;

    (void)unused;
    return mcx_wall_clock(PyModule_GetState(self), &now) < 0
               ? NULL
               : PyFloat_FromDouble((double)now / 1e6);
}

/* The class to make sockets with, None for Python's own. */
static PyObject *module_socket_class(PyObject *self, PyObject *unused)
{
    PyObject *class;

    (void)unused;
    if (mcx_find_socket_class(PyModule_GetState(self), &class) < 0) {
        return NULL;
    }
    return class != NULL ? class : Py_NewRef(Py_None);
}

static PyObject *module_is_quiet(PyObject *self, PyObject *number)
{
    long fd = PyLong_AsLong(number);

    (void)self;
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct pollfd look = {.fd = (int)fd, .events = POLLIN | POLLRDHUP};

    return PyBool_FromLong(fd >= 0 && poll(&look, 1, 0) == 0);
}

static PyObject *module_server_hash(PyObject *self, PyObject *key)
{
    Py_buffer view;
    PyObject *hash;

    if (PyObject_GetBuffer(key, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    hash = mcx_server_hash(PyModule_GetState(self), (mc_slice){view.buf, (size_t)view.len});
    PyBuffer_Release(&view);
    return hash;
}

static PyObject *module_check_safe(PyObject *self, PyObject *key)
{
    mcx_module *module = PyModule_GetState(self);

    if (!PyBytes_Check(key)) {
        PyErr_SetString(key == Py_None ? module->key_none_error : module->key_type_error,
                        key == Py_None ? "Key is None" : "Key must be a binary string");
        return NULL;
    }
    mc_slice text = {PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};

    return mcx_key_check_safe(module, text) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *decimal_text(mcx_decimal *decimal)
{
    PyObject *text =
        PyUnicode_FromStringAndSize(decimal->text.bytes, (Py_ssize_t)decimal->text.length);

    Py_XDECREF(decimal->owner);
    return text;
}

static PyObject *module_exptime(PyObject *self, PyObject *time)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_time(time, "time", &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_touch_time(PyObject *self, PyObject *time)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_touch_time(time, "time", &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_delta(PyObject *self, PyObject *delta)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_delta(delta, &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_check_min_compress(PyObject *self, PyObject *length)
{
    (void)self;
    return mcx_min_compress(length) < 0 ? NULL : Py_NewRef(Py_None);
}

/* What the client's connect_timeout was set to, None where it was not. */
static PyObject *module_given_connect_timeout(PyObject *self, PyObject *client)
{
    mcx_module *module = mcx_module_of(client);
    mcx_core *core = module ? mcx_core_of(module, client) : NULL;

    (void)self;
    if (core == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    mcx_snapshot *snapshot = mcx_core_enter(core);
    PyObject *value = snapshot->options[MCX_OPT_CONNECT_TIMEOUT];

    value = Py_NewRef(value != NULL ? value : Py_None);
    mcx_core_leave(snapshot);
    return value;
}

/* _value_fields(line, count): of a VALUE line (key, flags, length) or (key, flags, length, cas). */
static PyObject *module_value_fields(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *line;
    mc_reply reply;
    int count;

    if (!PyArg_ParseTuple(args, "Si:_value_fields", &line, &count)) {
        return NULL;
    }
    mc_slice rest = {PyBytes_AS_STRING(line) + 6, (size_t)PyBytes_GET_SIZE(line) - 6};

    if (PyBytes_GET_SIZE(line) <= 6 || rest.bytes[-1] != ' ' ||
        !mc_reply_parse_value(rest, &reply) || reply.has_cas != (count == 4) ||
        reply.length > PY_SSIZE_T_MAX - 2) {
        PyErr_Format(module->error, "not a VALUE line of %d fields: %R", count, line);
        return NULL;
    }
    return reply.has_cas ? Py_BuildValue("y#IKK", reply.key.bytes, (Py_ssize_t)reply.key.length,
                                         reply.flags, reply.length, reply.cas)
                         : Py_BuildValue("y#IK", reply.key.bytes, (Py_ssize_t)reply.key.length,
                                         reply.flags, reply.length);
}

/* _decode(client, flags, block): of a data block with its end of line. */
static PyObject *module_decode(PyObject *self, PyObject *args)
{
    PyObject *client, *block, *result;
    unsigned long flags;
    mcx_call call;

    (void)self;
    if (!PyArg_ParseTuple(args, "OkS:_decode", &client, &flags, &block)) {
        return NULL;
    }
    if (mcx_module_of(client) == NULL || PyBytes_GET_SIZE(block) < 2) {
        PyErr_SetString(PyExc_TypeError, "a Client and a data block are needed");
        return NULL;
    }
    if (mcx_call_begin_inner(&call, client) < 0) {
        return NULL;
    }
    result =
        mcx_decode(&call, (uint32_t)flags,
                   (mc_slice){PyBytes_AS_STRING(block), (size_t)PyBytes_GET_SIZE(block) - 2}, NULL);
    return mcx_call_end(&call, result);
}

static PyMethodDef module_functions[] = {
    MCX_DEF("cmemcache_hash", module_hash,
            "cmemcache_hash($module, key)\n--\n\n(crc32(key) >> 16) & 0x7fff: the default server "
            "hash."),
    {"_set_hash_function", module_set_hash_function, METH_O, NULL},
    {"_set_socket", module_set_socket, METH_O, NULL},
    {"_set_time", module_set_time, METH_O, NULL},
    {"_set_limit", module_set_limit, METH_VARARGS, NULL},
    {"_same_key", module_same_key, METH_O,
     "_same_key($module, key, /)\n--\n\nThe key_encoder where none was given: key itself."},
    {"_set_host_type", module_set_host_type, METH_O,
     "_set_host_type($module, type, /)\n--\n\nThe class _Host has been made."},
    {"_generation", module_generation, METH_NOARGS,
     "_generation($module, /)\n--\n\nA number that is another one in the child of a fork."},
    {"_wall_clock", module_wall_clock, METH_NOARGS,
     "_wall_clock($module, /)\n--\n\ntime.time(), or what memcache.time was set to says."},
    {"_socket_class", module_socket_class, METH_NOARGS,
     "_socket_class($module, /)\n--\n\nWhat makes sockets; None: Python's own class."},
    {"_is_quiet", module_is_quiet, METH_O,
     "_is_quiet($module, fd, /)\n--\n\nWhether the peer has neither closed nor sent anything."},
    {"_server_hash", module_server_hash, METH_O,
     "_server_hash($module, key, /)\n--\n\nserverHashFunction(key)."},
    {"_check_safe", module_check_safe, METH_O,
     "_check_safe($module, key, /)\n--\n\nRaise where key could end or split a command line."},
    {"_exptime", module_exptime, METH_O,
     "_exptime($module, time, /)\n--\n\nA time argument as decimal text."},
    {"_touch_time", module_touch_time, METH_O,
     "_touch_time($module, time, /)\n--\n\nThe same of touch, which takes a str of digits too."},
    {"_delta", module_delta, METH_O, "_delta($module, delta, /)\n--\n\nA delta as decimal text."},
    {"_check_min_compress", module_check_min_compress, METH_O,
     "_check_min_compress($module, length, /)\n--\n\nRaise where it is no number."},
    {"_given_connect_timeout", module_given_connect_timeout, METH_O,
     "_given_connect_timeout($module, client, /)\n--\n\nIts connect_timeout, None: not given."},
    {"_value_fields", module_value_fields, METH_VARARGS,
     "_value_fields($module, line, count, /)\n--\n\n"
     "A VALUE line as (key, flags, length) or, with count 4, (key, flags, length, cas)."},
    {"_decode", module_decode, METH_VARARGS,
     "_decode($module, client, flags, block, /)\n--\n\n"
     "The value that flags and a data block, with its end of line, mean."},
    {NULL, NULL, 0, NULL},
};

/* ---- making and unmaking -------------------------------------------------------------------- */

static int intern_names(mcx_module *module)
{
    static const char *const client_insides[] = {
#define X(constant, name) name,
        MCX_CLIENT_INSIDES(X)
#undef X
    };
    static const char *const host_insides[] = {
#define X(constant, name) name,
        MCX_HOST_INSIDES(X)
#undef X
    };
    struct {
        PyObject **to;
        const char *text;
    } names[] = {
        {&module->str_record, "_mcext_record"},
        {&module->str_write, "write"},
        {&module->str_keys, "keys"},
        {&module->str_dict, "__dict__"},
        {&module->str_socket, "socket"},
        {&module->str_socket_module, "socket"},
        {&module->str_server_retries, "_SERVER_RETRIES"},
        {&module->str_class, "__class__"},
        {&module->str_set_servers, "set_servers"},
        {&module->str_reset_cas, "reset_cas"},
        {&module->str_recv, "recv"},
        {&module->str_sendall, "sendall"},
        {&module->str_own, "own"},
        {&module->str_greenlet, "greenlet"},
        {&module->count_names[MCX_COUNT_GET_MULTI], "get_multi"},
        {&module->count_names[MCX_COUNT_SET_MULTI], "set_multi"},
        {&module->count_names[MCX_COUNT_DELETE_MULTI], "delete_multi"},
    };
    bool failed = false;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        failed |= (*names[i].to = PyUnicode_InternFromString(names[i].text)) == NULL;
    }
    for (int command = 0; command < MC_COMMANDS; command++) {
        failed |= (module->count_names[command] =
                       PyUnicode_InternFromString(mc_commands[command].name.bytes)) == NULL;
    }
    for (int i = 0; i < MCX_CLIENT_INSIDE_COUNT; i++) {
        failed |=
            (module->client_insides[i] = PyUnicode_InternFromString(client_insides[i])) == NULL;
    }
    for (int i = 0; i < MCX_HOST_INSIDE_COUNT; i++) {
        failed |= (module->host_insides[i] = PyUnicode_InternFromString(host_insides[i])) == NULL;
    }
    return failed ? -1 : 0;
}

static int add_type(PyObject *module_object, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module_object, spec, NULL);
    return *type == NULL ? -1 : 0;
}

static int find_local(mcx_module *module)
{
    PyObject *local = mcx_import("threading", "local");

    if (local == NULL || !PyType_Check(local)) {
        Py_XDECREF(local);
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "threading.local is not a class");
        }
        return -1;
    }
    module->local_type = (PyTypeObject *)local;
    /* By its name: who replaces threading.local replaces _thread._local as well. */
    module->local_is_native = strcmp(module->local_type->tp_name, "_thread._local") == 0;
    return 0;
}

static int module_exec(PyObject *module_object)
{
    mcx_module *module = PyModule_GetState(module_object);

    if (!mc_process_init()) {
        PyErr_NoMemory();
        return -1;
    }
    atomic_init(&module->host_changes, 1);
    atomic_init(&module->plain_host_version, MCX_NO_VERSION);
    module->guard = PyDict_New();
    module->error = PyErr_NewException("memcache._Error", NULL, NULL);
    module->connection_dead_error = PyErr_NewException("memcache._ConnectionDeadError", NULL, NULL);
    if (module->guard == NULL || module->error == NULL || module->connection_dead_error == NULL ||
        intern_names(module) < 0 || find_local(module) < 0 ||
        add_type(module_object, &mcx_core_spec, &module->core_type) < 0 ||
        add_type(module_object, &mcx_record_spec, &module->record_type) < 0 ||
        add_type(module_object, &mcx_owner_spec, &module->owner_type) < 0 ||
        add_type(module_object, &mcx_server_spec, &module->server_type) < 0 ||
        add_type(module_object, &mcx_stream_spec, &module->stream_type) < 0 ||
        mcx_add_client_type(module, module_object) < 0 || mcx_find_client_originals(module) < 0) {
        return -1;
    }
    if (PyModule_AddObjectRef(module_object, "Client", (PyObject *)module->client_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Server", (PyObject *)module->server_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Stream", (PyObject *)module->stream_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Local", (PyObject *)module->local_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_local_is_native",
                              module->local_is_native ? Py_True : Py_False) < 0 ||
        PyModule_AddObjectRef(module_object, "_Error", module->error) < 0 ||
        PyModule_AddObjectRef(module_object, "_ConnectionDeadError",
                              module->connection_dead_error) < 0 ||
        PyModule_AddStringConstant(module_object, "zlib_version", zlibVersion()) < 0) {
        return -1;
    }
    return 0;
}

/* Every object of the state that can be part of a cycle; CALL is Py_VISIT or Py_CLEAR. */
#define FOR_EACH_REFERENCE(CALL)                                                                   \
    do {                                                                                           \
        CALL(module->client_type);                                                                 \
        CALL(module->core_type);                                                                   \
        CALL(module->server_type);                                                                 \
        CALL(module->stream_type);                                                                 \
        CALL(module->record_type);                                                                 \
        CALL(module->owner_type);                                                                  \
        CALL(module->host_type);                                                                   \
        CALL(module->local_type);                                                                  \
        CALL(module->guard);                                                                       \
        for (int i = 0; i < MCX_CLIENT_INSIDE_COUNT; i++) {                                        \
            CALL(module->client_insides[i]);                                                       \
            CALL(module->client_originals[i]);                                                     \
        }                                                                                          \
        for (int i = 0; i < MCX_HOST_INSIDE_COUNT; i++) {                                          \
            CALL(module->host_insides[i]);                                                         \
            CALL(module->host_originals[i]);                                                       \
        }                                                                                          \
        for (int i = 0; i < MCX_PURE_COUNT; i++) {                                                 \
            CALL(module->pure[i]);                                                                 \
        }                                                                                          \
        for (int i = 0; i < MCX_COUNTS; i++) {                                                     \
            CALL(module->count_names[i]);                                                          \
        }                                                                                          \
        CALL(module->str_record);                                                                  \
        CALL(module->str_write);                                                                   \
        CALL(module->str_keys);                                                                    \
        CALL(module->str_dict);                                                                    \
        CALL(module->str_socket);                                                                  \
        CALL(module->str_socket_module);                                                           \
        CALL(module->str_server_retries);                                                          \
        CALL(module->str_class);                                                                   \
        CALL(module->str_set_servers);                                                             \
        CALL(module->str_reset_cas);                                                               \
        CALL(module->str_recv);                                                                    \
        CALL(module->str_sendall);                                                                 \
        CALL(module->str_own);                                                                     \
        CALL(module->str_greenlet);                                                                \
        CALL(module->key_error);                                                                   \
        CALL(module->key_length_error);                                                            \
        CALL(module->key_character_error);                                                         \
        CALL(module->key_none_error);                                                              \
        CALL(module->key_type_error);                                                              \
        CALL(module->string_encoding_error);                                                       \
        CALL(module->error);                                                                       \
        CALL(module->connection_dead_error);                                                       \
        CALL(module->hash_function);                                                               \
        CALL(module->socket_override);                                                             \
        CALL(module->time_override);                                                               \
        CALL(module->socket_module);                                                               \
        CALL(module->socket_class);                                                                \
        CALL(module->pickle_dumps);                                                                \
        CALL(module->pickle_loads);                                                                \
        CALL(module->same_key);                                                                    \
        CALL(module->defaults[0]);                                                                 \
        CALL(module->defaults[1]);                                                                 \
    } while (0)

static int module_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_module *module = PyModule_GetState(self);

    if (module != NULL) {
        FOR_EACH_REFERENCE(Py_VISIT);
    }
    return 0;
}

static int module_clear(PyObject *self)
{
    mcx_module *module = PyModule_GetState(self);

    if (module != NULL) {
        FOR_EACH_REFERENCE(Py_CLEAR);
    }
    return 0;
}

static void module_free(void *self)
{
    (void)module_clear(self);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef mcx_module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mcext._core",
    .m_doc = "The memcached client in C; import mcext or memcache.",
    .m_size = sizeof(mcx_module),
    .m_methods = module_functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&mcx_module_definition);
}
