#include "cache_item.h"

#include "core/wire/meta.h"

#include "compat.h"
#include "state.h"

static PyStructSequence_Field item_fields[] = {
    {"value", "the value"},
    {"flags", "memcached's flags, as the format or the codec uses them"},
    {"cas", "the token, for set(cas=) and delete(cas=)"},
    {"ttl", "seconds until it expires; None: it does not, or the server does not say"},
    {"age", "seconds since it was last read or written; None: the server does not say"},
    {"size", "bytes of the value as it is stored; None: the server does not say"},
    {"hit", "whether it was read before; None: the server does not say"},
    {"stale", "whether it was invalidated; None: the server does not say"},
    {NULL, NULL},
};

PyStructSequence_Desc mcx_item_description = {
    .name = "mcext.Item",
    .doc = "A value with what the server knows of it: Cache.get_item.",
    .fields = item_fields,
    .n_in_sequence = 8,
};

PyObject *mcx_item_new(mcx_module *module, const mc_reply *reply, uint32_t flags, uint64_t cas,
                       PyObject *value)
{
    PyObject *item = value ? PyStructSequence_New(module->item_type) : NULL;

    if (item == NULL) {
        Py_XDECREF(value);
        return NULL;
    }
    bool is_known = mc_meta_has(reply, 's');
    PyObject *fields[] = {
        value,
        PyLong_FromUnsignedLong(flags),
        PyLong_FromUnsignedLongLong(cas),
        is_known && reply->ttl >= 0 ? PyLong_FromLongLong(reply->ttl) : Py_NewRef(Py_None),
        is_known ? PyLong_FromUnsignedLongLong(reply->age) : Py_NewRef(Py_None),
        is_known ? PyLong_FromUnsignedLongLong(reply->size) : Py_NewRef(Py_None),
        is_known ? PyBool_FromLong(reply->was_hit) : Py_NewRef(Py_None),
        is_known ? PyBool_FromLong(mc_meta_has(reply, 'X')) : Py_NewRef(Py_None),
    };
    bool failed = false;

    for (int i = 0; i < 8; i++) {
        failed |= fields[i] == NULL;
        PyStructSequence_SetItem(item, i, fields[i]); /* steals, also NULL */
    }
    if (failed) {
        Py_CLEAR(item);
    }
    return item;
}

PyObject *mcx_item_renewed(mcx_module *module, PyObject *item, uint32_t flags, uint64_t cas,
                           PyObject *value)
{
    PyObject *renewed = value ? PyStructSequence_New(module->item_type) : NULL;
    PyObject *fields[3] = {value, NULL, NULL};

    if (renewed == NULL) {
        Py_XDECREF(value);
        return NULL;
    }
    fields[1] = PyLong_FromUnsignedLong(flags);
    fields[2] = PyLong_FromUnsignedLongLong(cas);
    for (int i = 0; i < 8; i++) {
        PyStructSequence_SetItem(renewed, i,
                                 i < 3 ? fields[i] : Py_NewRef(PyStructSequence_GetItem(item, i)));
    }
    if (fields[1] == NULL || fields[2] == NULL) {
        Py_CLEAR(renewed);
    }
    return renewed;
}
