/* module: `mcext._core`: its state, its types, and the names of python-memcached's module that
 * reach into the client (server hash, socket and time modules, default limits).
 *
 * All state is the module object's: no process-wide state here, so that interpreters with a GIL of
 * their own, and reloads, do not meet. */
#include <poll.h>
#include <string.h>
#include <zlib.h>

#include "core/fleet/hash.h"
#include "core/net/process.h"
#include "core/wire/command.h"
#include "core/wire/key.h"

#include "arguments.h"
#include "async_client.h"
#include "cache_type.h"
#include "call.h"
#include "choose.h"
#include "client_type.h"
#include "compat.h"
#include "keys.h"
#include "methods.h"
#include "options.h"
#include "python_socket.h"
#include "record.h"
#include "replaced.h"
#include "secret.h"
#include "server_type.h"
#include "shared.h"
#include "state.h"
#include "stream_type.h"
#include "support.h"
#include "table.h"
#include "tls_stream.h"
#include "values.h"

static const mcx_signature hash_signature = {
    .method = "cmemcache_hash", .count = 1, .required = 1, .names = {"key"}};

static PyObject *module_hash(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
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
    int kind = function == own     ? MC_HASH_DEFAULT
               : function == crc32 ? MC_HASH_CRC32
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

static PyMethodDef module_functions[] = {
    MCX_DEF("cmemcache_hash", module_hash,
            "cmemcache_hash($module, key)\n--\n\n(crc32(key) >> 16) & 0x7fff: the default server "
            "hash."),
    {"_set_hash_function", module_set_hash_function, METH_O, NULL},
    {"_set_socket", module_set_socket, METH_O, NULL},
    {"_set_time", module_set_time, METH_O, NULL},
    {"_set_limit", module_set_limit, METH_VARARGS, NULL},
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
    if (PyModule_AddFunctions(module_object, mcx_support_functions) < 0 ||
        PyModule_AddFunctions(module_object, mcx_placing_functions) < 0 ||
        PyModule_AddFunctions(module_object, mcx_table_functions) < 0) {
        return -1;
    }
    atomic_init(&module->host_changes, 1);
    atomic_init(&module->plain_host_version, MCX_NO_VERSION);
    module->guard = PyDict_New();
    module->error = PyErr_NewException("memcache._Error", NULL, NULL);
    module->connection_dead_error = PyErr_NewException("memcache._ConnectionDeadError", NULL, NULL);
    module->same_key = PyObject_GetAttrString(module_object, "_same_key");
    if (module->guard == NULL || module->same_key == NULL || module->error == NULL ||
        module->connection_dead_error == NULL || intern_names(module) < 0 ||
        find_local(module) < 0 ||
        add_type(module_object, &mcx_shared_spec, &module->shared_type) < 0 ||
        add_type(module_object, &mcx_record_spec, &module->record_type) < 0 ||
        add_type(module_object, &mcx_owner_spec, &module->owner_type) < 0 ||
        add_type(module_object, &mcx_tls_spec, &module->tls_type) < 0 ||
        add_type(module_object, &mcx_server_spec, &module->server_type) < 0 ||
        add_type(module_object, &mcx_stream_spec, &module->stream_type) < 0 ||
        add_type(module_object, &mcx_table_spec, &module->table_type) < 0 ||
        add_type(module_object, &mcx_secret_spec, &module->secret_type) < 0 ||
        mcx_add_cache_type(module, module_object) < 0 ||
        mcx_add_async_types(module, module_object) < 0 ||
        mcx_add_client_type(module, module_object) < 0 || mcx_find_client_originals(module) < 0) {
        return -1;
    }
    if (PyModule_AddObjectRef(module_object, "Client", (PyObject *)module->client_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Server", (PyObject *)module->server_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Stream", (PyObject *)module->stream_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Table", (PyObject *)module->table_type) < 0 ||
        PyModule_AddObjectRef(module_object, "_Secret", (PyObject *)module->secret_type) < 0 ||
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
        CALL(module->shared_type);                                                                 \
        CALL(module->server_type);                                                                 \
        CALL(module->stream_type);                                                                 \
        CALL(module->record_type);                                                                 \
        CALL(module->cache_type);                                                                  \
        CALL(module->acache_type);                                                                 \
        CALL(module->astream_type);                                                                \
        CALL(module->acall_type);                                                                  \
        CALL(module->item_type);                                                                   \
        CALL(module->table_type);                                                                  \
        CALL(module->secret_type);                                                                 \
        CALL(module->owner_type);                                                                  \
        CALL(module->tls_type);                                                                    \
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
        for (int i = 0; i < MCX_TLS_NAMES; i++) {                                                  \
            CALL(module->tls[i]);                                                                  \
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

static struct PyModuleDef module_definition = {
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
    return PyModuleDef_Init(&module_definition);
}
