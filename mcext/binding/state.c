/* state: what calls ask of the module: whose client it is, the classes and clocks that an
 * application may have replaced. */
#include "state.h"
#include "arguments.h"

#include <string.h>

PyMethodDef mcx_client_mark[] = {{NULL, NULL, 0, NULL}};

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

COLD PyObject *mcx_import(const char *module, const char *attribute)
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

int mcx_warn(const char *format, ...)
{
    PyObject *text, *warn, *done;
    va_list values;

    va_start(values, format);
    text = PyUnicode_FromFormatV(format, values);
    va_end(values);
    warn = text ? mcx_import("mcext.warn", "warn") : NULL;
    done = warn ? PyObject_CallOneArg(warn, text) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(warn);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int mcx_add_to_client(mcx_module *module, const char *name, PyObject *value)
{
    int result = value ? PyObject_SetAttrString((PyObject *)module->client_type, name, value) : -1;

    Py_XDECREF(value);
    return result;
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

int mcx_add_methods(PyTypeObject *type, PyMethodDef *const *tables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (PyMethodDef *each = tables[i]; each->ml_name != NULL; each++) {
            PyObject *method = PyDescr_NewMethod(type, each);
            int added =
                method ? PyObject_SetAttrString((PyObject *)type, each->ml_name, method) : -1;

            Py_XDECREF(method);
            if (added < 0) {
                return -1;
            }
        }
    }
    return 0;
}
