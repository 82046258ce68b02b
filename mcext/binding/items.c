/* items: the keys of a multi call: taken from the caller, checked, as bytes. */
#include <string.h>

#include "core/wire/key.h"

#include "cache_call.h"
#include "call.h"
#include "compat.h"
#include "keys.h"
#include "multi.h"
#include "shared.h"
#include "state.h"

#define ARENA_CHUNK ((size_t)65536)

static char *reserve_text(mcx_multi *all, size_t size)
{
    if (all->memory == NULL || ARENA_CHUNK - all->memory->used < size) {
        size_t room = size > ARENA_CHUNK ? size : ARENA_CHUNK;
        mcx_arena *chunk = PyMem_Malloc(sizeof *chunk + room);

        if (chunk == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        chunk->next = all->memory;
        chunk->used = 0;
        all->memory = chunk;
    }
    char *at = all->memory->bytes + all->memory->used;
    all->memory->used += size <= ARENA_CHUNK ? size : ARENA_CHUNK;
    return at;
}

/* The text of one key part: str, bytes, or anything by its str(). *owner is strong or NULL; without
 * one the text is the object's own. */
static int text_of_key(mcx_module *module, PyObject *object, mc_slice *text, PyObject **owner)
{
    PyObject *shown = NULL;

    *owner = NULL;
    if (LIKELY(PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
        *text = (mc_slice){PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};
        return 0;
    }
    if (PyBytes_Check(object)) {
        *text = (mc_slice){PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object)};
        return 0;
    }
    if (object == Py_None) {
        PyErr_SetString(module->key_none_error, "Key is None");
        return -1;
    }
    shown = PyUnicode_Check(object) ? Py_NewRef(object) : PyObject_Str(object);
    *owner = shown ? PyUnicode_AsUTF8String(shown) : NULL;
    Py_XDECREF(shown);
    if (*owner == NULL) {
        return -1;
    }
    *text = (mc_slice){PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)};
    return 0;
}

static int check_item(mcx_multi *all, mc_slice text, size_t prefix)
{
    mcx_call *call = all->call;
    mcx_snapshot *snapshot = call->snapshot;

    if (LIKELY(snapshot->check_keys)) {
        return mcx_key_check(call->module, snapshot, text, prefix, NULL);
    }
    if (text.length == 0 && prefix != 0) {
        return 0;
    }
    return mcx_key_check_safe(call->module, text);
}

/* A text as it is to be sent, prefix and all. */
static int check_sent(const mcx_multi *all, mc_slice text)
{
    return all->command == MC_SET
               ? mcx_key_check_store(all->call->module, all->call->snapshot, text)
               : 0;
}

/* get_multi: a key that cannot stand in the result is refused before anything is sent. */
static int check_hashable(PyObject *object)
{
    if (LIKELY(PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) ||
               PyLong_CheckExact(object)) ||
        PyObject_Hash(object) != -1) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "keys must be hashable, not %.200s",
                     Py_TYPE(object)->tp_name);
    }
    return -1;
}

/* Puts the prefix before the text, which owner keeps alive until then; both may be without. */
static int prepend(mcx_multi *all, mc_slice prefix, mc_slice *text, PyObject **owner)
{
    char *room;

    if (prefix.length == 0) {
        return 0;
    }
    room = reserve_text(all, prefix.length + text->length);
    if (room == NULL) {
        return -1;
    }
    memcpy(room, prefix.bytes, prefix.length);
    memcpy(room + prefix.length, text->bytes, text->length);
    *text = (mc_slice){room, prefix.length + text->length};
    Py_CLEAR(*owner);
    return 0;
}

/* A key of a Cache's call. */
static int add_cache_item(mcx_multi *all, size_t number, PyObject *object, mc_slice prefix)
{
    PyObject *owner;
    mc_slice text;

    if (check_hashable(object) < 0 || mcx_cache_key_view(object, &text, &owner) < 0) {
        return -1;
    }
    if (mcx_cache_key_check(text, prefix.length, object) < 0 ||
        prepend(all, prefix, &text, &owner) < 0) {
        Py_DECREF(owner);
        return -1;
    }
    all->texts[number] = text;
    all->details[number].owner = owner;
    return 0;
}

static int add_item(mcx_multi *all, size_t number, PyObject *object, mc_slice prefix)
{
    mcx_call *call = all->call;
    PyObject *encoder = call->snapshot->options[MCX_OPT_KEY_ENCODER];
    PyObject *part = object, *encoded = NULL, *owner = NULL;
    mc_slice text;

    if (all->command == MC_GET && check_hashable(object) < 0) {
        return -1;
    }
    if (UNLIKELY(PyTuple_Check(object))) {
        if (PyTuple_GET_SIZE(object) != 2) {
            PyErr_Format(call->module->key_type_error,
                         "a key that is a tuple must be (hash, key), not %R", object);
            return -1;
        }
        all->details[number].hash = PyTuple_GET_ITEM(object, 0);
        part = PyTuple_GET_ITEM(object, 1);
    }
    if (UNLIKELY(encoder != NULL)) {
        encoded = mcx_call_encoder(encoder, part);
        if (encoded == NULL) {
            return -1;
        }
        part = encoded;
    }
    if (text_of_key(call->module, part, &text, &owner) < 0) {
        Py_XDECREF(encoded);
        return -1;
    }
    if (owner == NULL && encoded != NULL) {
        owner = Py_NewRef(encoded);
    }
    Py_XDECREF(encoded);
    if (check_item(all, text, prefix.length) < 0) {
        Py_XDECREF(owner);
        return -1;
    }
    if (prepend(all, prefix, &text, &owner) < 0 || check_sent(all, text) < 0) {
        Py_XDECREF(owner);
        return -1;
    }
    all->texts[number] = text;
    all->details[number].owner = owner;
    return 0;
}

/* key_prefix as text; *owner is strong or NULL. */
static int read_prefix(mcx_multi *all, PyObject *object, mc_slice *prefix, PyObject **owner)
{
    mcx_call *call = all->call;

    *prefix = (mc_slice){"", 0};
    *owner = NULL;
    if (object == NULL) {
        return 0;
    }
    if (!PyUnicode_Check(object) && !PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "key_prefix must be a str or bytes, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (text_of_key(call->module, object, prefix, owner) < 0) {
        return -1;
    }
    if (prefix->length != 0 && check_item(all, *prefix, 0) < 0) {
        Py_CLEAR(*owner);
        return -1;
    }
    return 0;
}

/* Keys of different kinds, or behind an encoder, may have one text: as in python-memcached, the
 * last of them stands for all, and of several servers' values the last server's for all. */
static int merge_aliases(mcx_multi *all)
{
    PyObject *last = NULL;
    PyTypeObject *kind = all->count ? Py_TYPE(all->items[0].object) : NULL;
    bool mixed = all->call->snapshot->options[MCX_OPT_KEY_ENCODER] != NULL ||
                 (kind != &PyUnicode_Type && kind != &PyBytes_Type && kind != &PyLong_Type);

    for (size_t i = 0; !mixed && i < all->count; i++) {
        mixed = !Py_IS_TYPE(all->items[i].object, kind);
    }
    if (LIKELY(!mixed)) {
        return 0;
    }
    last = PyDict_New(); /* {text: the number of the last item that has it} */
    for (size_t i = all->count; last != NULL && i > 0; i--) {
        mc_slice view = all->texts[i - 1];
        PyObject *text = PyBytes_FromStringAndSize(view.bytes, (Py_ssize_t)view.length);
        PyObject *number = text ? PyLong_FromSize_t(i - 1) : NULL;
        PyObject *standing = number ? PyDict_SetDefault(last, text, number) : NULL; /* borrowed */

        if (standing != NULL) {
            all->details[i - 1].standing = (uint32_t)PyLong_AsSize_t(standing);
        }
        Py_XDECREF(text);
        Py_XDECREF(number);
        if (standing == NULL) {
            Py_CLEAR(last);
        }
    }
    Py_XDECREF(last);
    return last == NULL ? -1 : 0;
}

/* Room for count items; -1 with MemoryError. No Python code runs. */
static int make_items(mcx_multi *all, size_t count)
{
    if (count < UINT32_MAX) {
        all->items = PyMem_New(mcx_item, count + 1);
        all->texts = PyMem_New(mc_slice, count + 1);
    }
    if (all->items == NULL || all->texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int make_details(mcx_multi *all, size_t count)
{
    all->details = PyMem_Calloc(count + 1, sizeof *all->details);
    if (all->details == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        all->details[i].standing = (uint32_t)i;
    }
    return 0;
}

/* In the first leg, until choose_servers says otherwise. */
static inline mcx_item new_item(PyObject *object)
{
    return (mcx_item){.object = Py_NewRef(object), .leg = 1};
}

/* The keys and values of a dict, all of one moment: what is serialised may change it. */
static int list_dict(mcx_multi *all, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    size_t count = 0;
    int result;

    Py_BEGIN_CRITICAL_SECTION(dict);
    size_t size = (size_t)PyDict_GET_SIZE(dict);

    result = make_items(all, size);
    if (result == 0 && (all->values = PyMem_New(PyObject *, size + 1)) == NULL) {
        PyErr_NoMemory();
        result = -1;
    }
    if (result == 0) {
        mcx_item *items = all->items;
        PyObject **values = all->values;

        for (; PyDict_Next(dict, &at, &key, &value); count++) {
            items[count] = new_item(key);
            values[count] = Py_NewRef(value);
        }
    }
    all->count = count;
    Py_END_CRITICAL_SECTION();
    return result;
}

/* The keys of a list or tuple, all of one moment. */
static int list_sequence(mcx_multi *all, PyObject *keys)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(keys);
    size_t size = (size_t)PySequence_Fast_GET_SIZE(keys);
    PyObject **objects = PySequence_Fast_ITEMS(keys);

    result = make_items(all, size);
    if (result == 0) {
        mcx_item *items = all->items;

        for (size_t i = 0; i < size; i++) {
            items[i] = new_item(objects[i]);
        }
        all->count = size;
    }
    Py_END_CRITICAL_SECTION();
    return result;
}

/* list(keys). */
static PyObject *list_of(PyObject *keys)
{
    PyObject *list = PySequence_List(keys);

    if (list == NULL && PyErr_ExceptionMatches(PyExc_TypeError) && Py_TYPE(keys)->tp_iter == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "keys must be an iterable of keys, not %.100s",
                     Py_TYPE(keys)->tp_name);
    }
    return list;
}

/* What get_multi and delete_multi are given, and the keys of set_multi's mapping. */
static int list_keys(mcx_multi *all, PyObject *keys)
{
    PyObject *list;
    int result;

    if (PyList_CheckExact(keys) || PyTuple_CheckExact(keys)) {
        return list_sequence(all, keys);
    }
    list = list_of(keys);
    result = list ? list_sequence(all, list) : -1;
    Py_XDECREF(list);
    return result;
}

static int check_keys(mcx_multi *all, PyObject *prefix_object)
{
    mc_slice prefix;
    PyObject *owner;
    int result;

    if (read_prefix(all, prefix_object, &prefix, &owner) < 0) {
        return -1;
    }
    bool plain = prefix.length == 0 &&
                 (all->call->snapshot->plain_key_length != 0 || all->call->cache != NULL);
    size_t limit = (size_t)all->call->snapshot->max_key_length;
    size_t most = all->command == MC_SET ? MC_PROTOCOL_KEY_LENGTH : SIZE_MAX;
    size_t longest = limit == 0 || limit > most ? most : limit;
    size_t count = all->count;

    result = 0;
    for (size_t i = 0; i < count; i++) {
        PyObject *object = all->items[i].object;

        if (LIKELY(plain && PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
            mc_slice text = {PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};

            all->texts[i] = text;
            if (LIKELY(text.length - 1 < longest && mc_key_is_plain(text))) {
                continue;
            }
        }
        if ((all->details == NULL && make_details(all, count) < 0) ||
            (all->call->cache != NULL ? add_cache_item(all, i, object, prefix)
                                      : add_item(all, i, object, prefix)) < 0) {
            result = -1;
            goto done;
        }
    }
    if (all->details != NULL) { /* each plain str is another text */
        result = merge_aliases(all);
    }
done:
    Py_XDECREF(owner);
    return result;
}

int mcx_items_collect(mcx_multi *all, PyObject *keys, PyObject *prefix)
{
    int listed = keys != NULL ? list_keys(all, keys) : list_dict(all, all->mapping);

    return listed < 0 ? -1 : check_keys(all, prefix);
}

void mcx_items_fini(mcx_multi *all)
{
    for (size_t i = 0; i < all->count; i++) {
        Py_DECREF(all->items[i].object);
    }
    PyObject **values = all->values;
    for (size_t i = values != NULL ? all->count : 0; i > 0; i--) {
        Py_DECREF(values[i - 1]);
    }
    for (size_t i = 0; all->details != NULL && i < all->count; i++) {
        Py_XDECREF(all->details[i].owner);
    }
    PyMem_Free(all->items);
    PyMem_Free(all->texts);
    PyMem_Free(all->details);
    PyMem_Free(all->values);
    while (all->memory != NULL) {
        mcx_arena *next = all->memory->next;

        PyMem_Free(all->memory);
        all->memory = next;
    }
}
