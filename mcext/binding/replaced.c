/* replaced: whether an application has replaced any of python-memcached's insides, on a client's
 * class, on the client, on _Host or on one of the client's hosts: then its calls go the way in
 * Python (mcext/pure).
 *
 * That nothing is replaced costs a call three comparisons (mcx_is_plain): the version of the
 * client's class, that of _Host, and a counter that moves on when an inside is assigned to any
 * host. A version stands for one state of one type. Anything else is looked at here; that is slow,
 * and exact. */
#include "replaced.h"

#include "compat.h"
#include "shared.h"
#include "state.h"

/* Bits of those that are not the original ones. */
static int compare(PyTypeObject *type, PyObject *const *names, PyObject *const *originals,
                   int count, uint32_t *replaced)
{
    *replaced = 0;
    for (int i = 0; i < count; i++) {
        PyObject *found = PyObject_GetAttr((PyObject *)type, names[i]);

        if (found == NULL) {
            return -1;
        }
        if (found != originals[i]) {
            *replaced |= UINT32_C(1) << i;
        }
        Py_DECREF(found);
    }
    return 0;
}

/* The same, and the version that goes with it, or 0 where the type changed meanwhile. */
static int compare_versioned(PyTypeObject *type, PyObject *const *names, PyObject *const *originals,
                             int count, uint32_t *replaced, uint32_t *version)
{
    uint32_t again;

    if (compare(type, names, originals, count, replaced) < 0) {
        return -1;
    }
    *version = mcx_type_version(type); /* given by these look-ups, at the latest */
    if (compare(type, names, originals, count, &again) < 0) {
        return -1;
    }
    if (*version != mcx_type_version(type) || again != *replaced) {
        *version = 0;
    }
    return 0;
}

static bool is_inside(PyObject *const *names, int count, PyObject *name)
{
    for (int i = 0; i < count; i++) {
        if (name == names[i] || (PyUnicode_Check(name) && PyUnicode_Compare(name, names[i]) == 0)) {
            return true;
        }
    }
    return false;
}

void mcx_note_client_attribute(mcx_module *module, mcx_shared *shared, PyObject *name)
{
    if (is_inside(module->client_insides, MCX_CLIENT_METHOD_COUNT, name)) {
        atomic_store(&shared->instance_replaces, 1);
        atomic_store(&shared->plain_version, MCX_NO_VERSION);
    }
}

void mcx_note_host_attribute(mcx_module *module, PyObject *name)
{
    /* socket and buffer are data descriptors: assigning them replaces nothing. */
    if (is_inside(module->host_insides, MCX_INSIDE_SOCKET, name) ||
        is_inside(&module->str_class, 1, name)) {
        atomic_fetch_add(&module->host_changes, 1);
    }
}

/* Bits of the names that an object's own dict has; an object without one has none. */
static int in_dict(mcx_module *module, PyObject *object, PyObject *const *names, int count,
                   uint32_t *replaced)
{
    PyObject *dict = PyObject_GetAttr(object, module->str_dict);
    int there = 0;

    *replaced = 0;
    if (dict == NULL || !PyDict_Check(dict)) {
        PyErr_Clear();
        Py_XDECREF(dict);
        return 0;
    }
    for (int i = 0; i < count && there >= 0; i++) {
        there = PyDict_Contains(dict, names[i]);
        *replaced |= (uint32_t)(there > 0) << i;
    }
    Py_DECREF(dict);
    return there < 0 ? -1 : 0;
}

/* ---- hosts ---------------------------------------------------------------------------------- */

/* Whether the class _Host is as it was made. */
static int is_host_class_plain(mcx_module *module)
{
    uint32_t replaced, version;

    if (module->host_type == NULL) {
        return 1; /* no client has a host yet */
    }
    if (mcx_type_version(module->host_type) != 0 &&
        mcx_type_version(module->host_type) == atomic_load(&module->plain_host_version)) {
        return 1;
    }
    atomic_store(&module->plain_host_version, MCX_NO_VERSION);
    if (compare_versioned(module->host_type, module->host_insides, module->host_originals,
                          MCX_HOST_INSIDE_COUNT, &replaced, &version) < 0) {
        return -1;
    }
    if (replaced == 0 && version != 0) {
        atomic_store(&module->plain_host_version, version);
    }
    return replaced == 0;
}

static int is_host_plain(mcx_module *module, PyObject *host)
{
    uint32_t replaced;

    if (!Py_IS_TYPE(host, module->host_type)) {
        return 0;
    }
    return in_dict(module, host, module->host_insides, MCX_HOST_INSIDE_COUNT, &replaced) < 0
               ? -1
               : replaced == 0;
}

/* Whether none of the snapshot's hosts replaces anything. */
static int are_hosts_plain(mcx_module *module, mcx_snapshot *snapshot)
{
    uint32_t changes = atomic_load(&module->host_changes);
    int plain = is_host_class_plain(module);

    if (plain <= 0 || module->host_type == NULL || atomic_load(&snapshot->plain_hosts) == changes) {
        return plain;
    }
    for (size_t i = 0; plain > 0 && i < snapshot->server_count; i++) {
        plain = is_host_plain(module, snapshot->server[i]);
    }
    for (size_t i = 0; plain > 0 && i < snapshot->bucket_count; i++) {
        if (i == 0 || snapshot->bucket[i] != snapshot->bucket[i - 1]) {
            plain = is_host_plain(module, snapshot->bucket[i]);
        }
    }
    if (plain > 0) {
        atomic_store(&snapshot->plain_hosts, changes);
    }
    return plain;
}

/* ---- a client ------------------------------------------------------------------------------- */

static int as_bits(uint32_t replaced)
{
    const uint32_t debuglog = UINT32_C(1) << MCX_INSIDE_DEBUGLOG;
    const uint32_t setattr = UINT32_C(1) << MCX_INSIDE_SETATTR;

    return (replaced & ~(debuglog | setattr) ? MCX_REPLACES_INSIDES : 0) |
           (replaced & debuglog ? MCX_REPLACES_DEBUGLOG : 0) |
           (replaced & setattr ? MCX_REPLACES_SETATTR : 0);
}

/* By the client's class; kept with the version of that. */
static int class_replaces(mcx_module *module, mcx_shared *shared, PyTypeObject *type)
{
    uint64_t check = atomic_load_explicit(&shared->type_check, memory_order_acquire);
    uint32_t version = mcx_type_version(type), replaced;

    if (version != 0 && check >> 32 == version) {
        return (int)(uint32_t)check;
    }
    PyObject *retries = PyObject_GetAttr((PyObject *)type, module->str_server_retries);
    long count = retries ? PyLong_AsLong(retries) : -1;

    Py_XDECREF(retries);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    atomic_store(&shared->server_retries, count < 0 ? 0 : count > 1000000 ? 1000000 : (int)count);
    if (compare_versioned(type, module->client_insides, module->client_originals,
                          MCX_CLIENT_INSIDE_COUNT, &replaced, &version) < 0) {
        return -1;
    }
    atomic_store_explicit(&shared->type_check,
                          (uint64_t)version << 32 | (uint32_t)as_bits(replaced),
                          memory_order_release);
    return as_bits(replaced);
}

int mcx_replaces_slow(mcx_module *module, mcx_shared *shared, mcx_snapshot *snapshot,
                      PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    int hosts, replaces;

    Py_INCREF(type); /* a descriptor of the class may give self another one */
    replaces = class_replaces(module, shared, type);
    uint32_t version = mcx_type_version(type);
    Py_DECREF(type);
    if (replaces < 0) {
        return -1;
    }
    /* Where a subclass sets attributes its own way, what it sets is not seen. */
    if (atomic_load(&shared->instance_replaces) || (replaces & MCX_REPLACES_SETATTR)) {
        uint32_t own;

        if (in_dict(module, self, module->client_insides, MCX_CLIENT_METHOD_COUNT, &own) < 0) {
            return -1;
        }
        replaces |= as_bits(own);
    }
    else if (replaces == 0 && version != 0 && version == atomic_load(&shared->type_check) >> 32) {
        atomic_store(&shared->plain_version, version);
        if (atomic_load(&shared->instance_replaces)) { /* by another thread, since it was asked */
            atomic_store(&shared->plain_version, MCX_NO_VERSION);
        }
    }
    hosts = are_hosts_plain(module, snapshot);
    if (hosts < 0) {
        return -1;
    }
    return hosts ? replaces : replaces | MCX_REPLACES_INSIDES;
}

/* ---- the originals -------------------------------------------------------------------------- */

static int find_originals(PyTypeObject *type, PyObject *const *names, PyObject **originals,
                          int count)
{
    for (int i = 0; i < count; i++) {
        Py_XSETREF(originals[i], PyObject_GetAttr((PyObject *)type, names[i]));
        if (originals[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

int mcx_find_client_originals(mcx_module *module)
{
    return find_originals(module->client_type, module->client_insides, module->client_originals,
                          MCX_CLIENT_INSIDE_COUNT);
}

int mcx_set_host_type(mcx_module *module, PyObject *type)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, module->server_type)) {
        PyErr_SetString(PyExc_TypeError, "a subclass of _Server is needed");
        return -1;
    }
    if (find_originals((PyTypeObject *)type, module->host_insides, module->host_originals,
                       MCX_HOST_INSIDE_COUNT) < 0) {
        return -1;
    }
    Py_XSETREF(module->host_type, (PyTypeObject *)Py_NewRef(type));
    return 0;
}
