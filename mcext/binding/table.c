#include "table.h"

#include <string.h>

#include "core/fleet/key_hash.h"
#include "core/fleet/md5.h"
#include "core/fleet/ring.h"

#include "compat.h"

/* ---- hashes for Python ---------------------------------------------------------------------- */

/* _key_hash(name, data) */
static PyObject *module_key_hash(PyObject *self, PyObject *args)
{
    const char *name, *data;
    Py_ssize_t length;

    (void)self;
    if (!PyArg_ParseTuple(args, "sy#:_key_hash", &name, &data, &length)) {
        return NULL;
    }
    mc_key_hash *hash = mc_key_hash_find(name);

    if (hash == NULL) {
        PyErr_Format(PyExc_ValueError, "there is no hash %s", name);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(hash((mc_slice){data, (size_t)length}));
}

/* _md5(data) */
static PyObject *module_md5(PyObject *self, PyObject *data)
{
    unsigned char digest[16];
    uint32_t words[4];

    (void)self;
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "bytes are needed, not %.100s", Py_TYPE(data)->tp_name);
        return NULL;
    }
    mc_md5((mc_slice){PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)}, words);
    for (int i = 0; i < 16; i++) {
        digest[i] = (unsigned char)(words[i / 4] >> (8 * (i % 4)));
    }
    return PyBytes_FromStringAndSize((const char *)digest, sizeof digest);
}

PyMethodDef mcx_table_functions[] = {
    {"_key_hash", module_key_hash, METH_VARARGS,
     "_key_hash($module, name, data, /)\n--\n\nThe hash of that name (core/fleet/key_hash.h)."},
    {"_md5", module_md5, METH_O,
     "_md5($module, data, /)\n--\n\nThe md5 digest, also where the system has none."},
    {NULL, NULL, 0, NULL},
};

/* ---- making --------------------------------------------------------------------------------- */

static int find_kind(const char *name)
{
    static const char *const names[MC_TABLE_KINDS] = {
        [MC_TABLE_RING] = "ring",
        [MC_TABLE_SLOTS] = "slots",
        [MC_TABLE_SEEDS] = "seeds",
        [MC_TABLE_TEXTS] = "texts",
    };
    int kind = 0;

    while (kind < MC_TABLE_KINDS && strcmp(names[kind], name) != 0) {
        kind++;
    }
    return kind;
}

/* The owners, and how many servers there are among them. owners: a list. */
static int take_owners(mcx_table *self, PyObject *owners)
{
    mc_table *table = &self->table;
    unsigned char *met = PyMem_Calloc(UINT16_MAX + 1, 1);
    int result = met != NULL ? 0 : -1;

    table->owners = PyMem_New(uint16_t, table->count);
    if (met == NULL || table->owners == NULL) {
        PyErr_NoMemory();
        result = -1;
    }
    for (size_t i = 0; result == 0 && i < table->count; i++) {
        size_t owner = PyLong_AsSize_t(PyList_GET_ITEM(owners, i));

        if (owner > UINT16_MAX) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "a bucket has a number above 65,535");
            }
            result = -1;
            break;
        }
        table->owners[i] = (uint16_t)owner;
        table->servers += met[owner] == 0;
        met[owner] = 1;
        self->buckets = owner < self->buckets ? self->buckets : owner + 1;
    }
    PyMem_Free(met);
    return result;
}

static int take_numbers(mc_table *table, PyObject *values)
{
    table->values = PyMem_New(uint64_t, table->count);
    if (table->values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->count; i++) {
        table->values[i] = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(values, i));
        if (table->values[i] == UINT64_MAX && PyErr_Occurred()) {
            return -1;
        }
        if (table->kind == MC_TABLE_RING && i > 0 && table->values[i] < table->values[i - 1]) {
            PyErr_SetString(PyExc_ValueError, "the points of a ring ascend");
            return -1;
        }
    }
    return 0;
}

static int take_ring(mc_table *table, PyObject *values)
{
    if (take_numbers(table, values) < 0) {
        return -1;
    }
    table->starts = PyMem_New(uint32_t, mc_ring_cells(table->count));
    if (table->starts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    mc_ring_index(table);
    return 0;
}

/* The murmur3 of each text, to be gone on with. */
static int take_texts(mc_table *table, PyObject *values)
{
    table->texts = PyMem_New(mc_murmur3, table->count);
    if (table->texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->count; i++) {
        PyObject *text = PyList_GET_ITEM(values, i);

        if (!PyBytes_Check(text)) {
            PyErr_SetString(PyExc_TypeError, "texts are bytes");
            return -1;
        }
        table->texts[i] = (mc_murmur3){.hash = 0};
        for (Py_ssize_t at = 0; at < PyBytes_GET_SIZE(text); at++) {
            mc_murmur3_add(&table->texts[i], (unsigned char)PyBytes_AS_STRING(text)[at]);
        }
    }
    return 0;
}

static int take(mcx_table *self, PyObject *values, PyObject *owners)
{
    mc_table *table = &self->table;
    bool has_values = table->kind != MC_TABLE_SLOTS;

    table->count = (size_t)PyList_GET_SIZE(owners);
    if (table->count == 0 || (has_values && (!PyList_CheckExact(values) ||
                                             (size_t)PyList_GET_SIZE(values) != table->count))) {
        PyErr_SetString(PyExc_ValueError, "as many values as owners are needed, and not none");
        return -1;
    }
    if (take_owners(self, owners) < 0) {
        return -1;
    }
    switch (table->kind) {
    case MC_TABLE_SLOTS:
        return 0;
    case MC_TABLE_RING:
        return take_ring(table, values);
    case MC_TABLE_TEXTS:
        return take_texts(table, values);
    default:
        return take_numbers(table, values);
    }
}

/* _Table(kind, hash, tag, values, owners, hashes_prefix): lists that nobody changes meanwhile. */
static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    const char *kind_name, *hash_name, *tag;
    Py_ssize_t tag_length;
    PyObject *values, *owners;
    int hashes_prefix;

    if (keywords != NULL ||
        !PyArg_ParseTuple(args, "szs#OO!p:_Table", &kind_name, &hash_name, &tag, &tag_length,
                          &values, &PyList_Type, &owners, &hashes_prefix)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "_Table() takes no keyword arguments");
        }
        return NULL;
    }
    int kind = find_kind(kind_name);
    mc_key_hash *hash = hash_name != NULL ? mc_key_hash_find(hash_name) : NULL;

    if (kind == MC_TABLE_KINDS || (hash == NULL) != (kind == MC_TABLE_TEXTS) ||
        (tag_length != 0 && tag_length != 2)) {
        PyErr_SetString(PyExc_ValueError, "there is no table of that kind, hash or tag");
        return NULL;
    }
    mcx_table *self = (mcx_table *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->table.kind = kind;
    self->table.hash = hash;
    self->table.has_tag = tag_length != 0;
    memcpy(self->table.tag, tag, (size_t)tag_length);
    self->hashes_prefix = hashes_prefix;
    if (take(self, values, owners) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void table_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mc_table *table = &((mcx_table *)self)->table;

    PyMem_Free(table->values);
    PyMem_Free(table->starts);
    PyMem_Free(table->texts);
    PyMem_Free(table->owners);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot table_slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_doc, "What a placement looks keys up in."},
    {0, NULL},
};

PyType_Spec mcx_table_spec = {
    .name = "mcext._core._Table",
    .basicsize = sizeof(mcx_table),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};
