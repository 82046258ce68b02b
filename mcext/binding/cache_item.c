#include "cache_item.h"

#include <stddef.h>
#include <structmember.h>

#include "core/wire/meta.h"

#include "compat.h"
#include "state.h"

/* A tuple with names for its places. PyStructSequence would be that, too: to make one and to free
 * it takes 900 instructions more, for it looks its own length up in a dict. */
enum {
    VALUE,
    FLAGS,
    CAS,
    TTL,
    AGE,
    SIZE,
    HIT,
    STALE,
    FIELDS
};

#define PLACE(field) (Py_ssize_t)(offsetof(PyTupleObject, ob_item) + (field) * sizeof(PyObject *))
#define FIELD(name, field, doc)                                                                    \
    {                                                                                              \
        name, T_OBJECT_EX, PLACE(field), READONLY, doc                                             \
    }

static PyMemberDef item_members[] = {
    FIELD("value", VALUE, "the value"),
    FIELD("flags", FLAGS, "memcached's flags, as the format or the codec uses them"),
    FIELD("cas", CAS, "the token, for set(cas=) and delete(cas=)"),
    FIELD("ttl", TTL, "seconds until it expires; None: it does not, or the server does not say"),
    FIELD("age", AGE, "seconds since it was last read or written; None: the server does not say"),
    FIELD("size", SIZE, "bytes of the value as it is stored; None: the server does not say"),
    FIELD("hit", HIT, "whether it was read before; None: the server does not say"),
    FIELD("stale", STALE, "whether it was invalidated; None: the server does not say"),
    {NULL, 0, 0, 0, NULL},
};

/* Item(sequence of all fields): for copies and pickles. */
static PyObject *item_make(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *given, *fields, *item = NULL;

    if (keywords != NULL && PyDict_GET_SIZE(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "Item() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:Item", &given)) {
        return NULL;
    }
    fields = PySequence_Tuple(given);
    if (fields != NULL && PyTuple_GET_SIZE(fields) != FIELDS) {
        PyErr_Format(PyExc_TypeError, "Item() takes a sequence of %d fields, not of %zd",
                     (int)FIELDS, PyTuple_GET_SIZE(fields));
    }
    else if (fields != NULL) {
        item = type->tp_alloc(type, FIELDS);
    }
    for (int i = 0; item != NULL && i < FIELDS; i++) {
        PyTuple_SET_ITEM(item, i, Py_NewRef(PyTuple_GET_ITEM(fields, i)));
    }
    Py_XDECREF(fields);
    return item;
}

static PyObject *item_reduce(PyObject *self, PyObject *unused)
{
    PyObject *fields = PyTuple_GetSlice(self, 0, FIELDS);

    (void)unused;
    return fields ? Py_BuildValue("(O(N))", (PyObject *)Py_TYPE(self), fields) : NULL;
}

static PyObject *item_repr(PyObject *self)
{
    PyObject *const *field = &PyTuple_GET_ITEM(self, 0);
    int entered = Py_ReprEnter(self);
    PyObject *text;

    if (entered != 0) {
        return entered > 0 ? PyUnicode_FromString("mcext.Item(...)") : NULL;
    }
    text = PyUnicode_FromFormat(
        "mcext.Item(value=%R, flags=%R, cas=%R, ttl=%R, age=%R, size=%R, hit=%R, stale=%R)",
        field[VALUE], field[FLAGS], field[CAS], field[TTL], field[AGE], field[SIZE], field[HIT],
        field[STALE]);
    Py_ReprLeave(self);
    return text;
}

static PyMethodDef item_methods[] = {
    {"__reduce__", item_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot item_slots[] = {
    {Py_tp_new, item_make},
    {Py_tp_repr, item_repr},
    {Py_tp_members, item_members},
    {Py_tp_methods, item_methods},
    {Py_tp_doc, "A value with what the server knows of it: Cache.get_item."},
    {0, NULL},
};

static PyType_Spec item_spec = {
    .name = "mcext.Item",
    .flags = Py_TPFLAGS_DEFAULT, /* with the garbage collection of a tuple */
    .slots = item_slots,
};

int mcx_add_item_type(mcx_module *module, PyObject *module_object)
{
    PyObject *bases = PyTuple_Pack(1, (PyObject *)&PyTuple_Type);
    PyObject *names =
        Py_BuildValue("(ssssssss)", "value", "flags", "cas", "ttl", "age", "size", "hit", "stale");
    int result = -1;

    if (bases != NULL && names != NULL) {
        module->item_type = (PyTypeObject *)PyType_FromSpecWithBases(&item_spec, bases);
    }
    if (module->item_type != NULL &&
        PyObject_SetAttrString((PyObject *)module->item_type, "__match_args__", names) == 0) {
        result = PyModule_AddObjectRef(module_object, "Item", (PyObject *)module->item_type);
    }
    Py_XDECREF(bases);
    Py_XDECREF(names);
    return result;
}

PyObject *mcx_item_new(mcx_module *module, const mc_reply *reply, uint32_t flags, uint64_t cas,
                       PyObject *value)
{
    PyObject *item = value ? module->item_type->tp_alloc(module->item_type, FIELDS) : NULL;

    if (item == NULL) {
        Py_XDECREF(value);
        return NULL;
    }
    bool is_known = mc_meta_has(reply, 's'), failed = false;
    PyObject *fields[FIELDS] = {
        [VALUE] = value,
        [FLAGS] = PyLong_FromUnsignedLong(flags),
        [CAS] = PyLong_FromUnsignedLongLong(cas),
        [TTL] = is_known && reply->ttl >= 0 ? PyLong_FromLongLong(reply->ttl) : Py_NewRef(Py_None),
        [AGE] = is_known ? PyLong_FromUnsignedLongLong(reply->age) : Py_NewRef(Py_None),
        [SIZE] = is_known ? PyLong_FromUnsignedLongLong(reply->size) : Py_NewRef(Py_None),
        [HIT] = is_known ? PyBool_FromLong(reply->was_hit) : Py_NewRef(Py_None),
        [STALE] = is_known ? PyBool_FromLong(mc_meta_has(reply, 'X')) : Py_NewRef(Py_None),
    };

    for (int i = 0; i < FIELDS; i++) {
        failed |= fields[i] == NULL;
        PyTuple_SET_ITEM(item, i, fields[i]); /* steals, also NULL */
    }
    if (failed) {
        Py_CLEAR(item);
    }
    return item;
}

PyObject *mcx_item_renewed(mcx_module *module, PyObject *item, uint32_t flags, uint64_t cas,
                           PyObject *value)
{
    PyObject *renewed = value ? module->item_type->tp_alloc(module->item_type, FIELDS) : NULL;
    bool failed = false;

    if (renewed == NULL) {
        Py_XDECREF(value);
        return NULL;
    }
    for (int i = 0; i < FIELDS; i++) {
        PyObject *field = i == VALUE   ? value
                          : i == FLAGS ? PyLong_FromUnsignedLong(flags)
                          : i == CAS   ? PyLong_FromUnsignedLongLong(cas)
                                       : Py_NewRef(PyTuple_GET_ITEM(item, i));

        failed |= field == NULL;
        PyTuple_SET_ITEM(renewed, i, field); /* steals, also NULL */
    }
    if (failed) {
        Py_CLEAR(renewed);
    }
    return renewed;
}
