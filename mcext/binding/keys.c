/* keys: from the caller's key object to a checked view of bytes and what keeps it alive.
 *
 * Calls the core's key rules, and Python where a key_encoder asks for it.
 * The GIL is held; no state of its own. */
#include "keys.h"
#include "core/flow/leg.h"

#include "core/net/clock.h"
#include "core/wire/key.h"

#include "call.h"
#include "compat.h"
#include "shared.h"
#include "state.h"

static int raise_unless_bytes(mcx_module *module, PyObject *object)
{
    if (object == Py_None) {
        PyErr_SetString(module->key_none_error, "Key is None");
    }
    else {
        PyErr_SetString(module->key_type_error, "Key must be a binary string");
    }
    return -1;
}

static int raise_tuple_length(mcx_module *module, PyObject *tuple)
{
    PyErr_Format(module->key_type_error, "A key tuple must be (hash, key), not of length %zd",
                 PyTuple_GET_SIZE(tuple));
    return -1;
}

static int raise_empty(mcx_module *module)
{
    PyErr_SetString(module->key_none_error, "Key is empty");
    return -1;
}

static int raise_character(mcx_module *module, mc_slice text, PyObject *shown)
{
    PyObject *bytes = shown != NULL
                          ? Py_NewRef(shown)
                          : PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);

    if (bytes != NULL) {
        PyErr_Format(module->key_character_error, "Control/space characters not allowed (key=%R)",
                     bytes);
        Py_DECREF(bytes);
    }
    return -1;
}

/* The view of a str or bytes; key->owner is set after 0 only. */
static inline int view_inner(mcx_module *module, PyObject *object, mcx_key *key)
{
    PyObject *owner;

    if (LIKELY(PyUnicode_Check(object))) {
        if (LIKELY(PyUnicode_IS_COMPACT_ASCII(object))) {
            key->text.bytes = (const char *)PyUnicode_1BYTE_DATA(object);
            key->text.length = (size_t)PyUnicode_GET_LENGTH(object);
            key->owner = Py_NewRef(object);
            return 0;
        }
        owner = PyUnicode_AsUTF8String(object);
        if (owner == NULL) {
            return -1;
        }
    }
    else if (LIKELY(PyBytes_Check(object))) {
        owner = Py_NewRef(object);
    }
    else {
        return raise_unless_bytes(module, object);
    }
    key->text.bytes = PyBytes_AS_STRING(owner);
    key->text.length = (size_t)PyBytes_GET_SIZE(owner);
    key->owner = owner;
    return 0;
}

/* As view_inner, a (hash, key) tuple taken apart; owner and hash are NULL after -1. */
static inline int view(mcx_module *module, PyObject *object, mcx_key *key)
{
    key->owner = NULL;
    key->hash = NULL;
    if (LIKELY(!PyTuple_Check(object))) {
        return view_inner(module, object, key);
    }
    if (PyTuple_GET_SIZE(object) != 2) {
        return raise_tuple_length(module, object);
    }
    if (view_inner(module, PyTuple_GET_ITEM(object, 1), key) < 0) {
        return -1;
    }
    key->hash = Py_NewRef(PyTuple_GET_ITEM(object, 0));
    return 0;
}

void mcx_key_clear(mcx_key *key)
{
    Py_CLEAR(key->owner);
    Py_CLEAR(key->hash);
}

/* (hash, str) with the str encoded; any other tuple as it is. */
static PyObject *encode_tuple(PyObject *key)
{
    PyObject *inner;
    PyObject *bytes;
    PyObject *result;

    if (PyTuple_GET_SIZE(key) < 2) {
        PyErr_SetString(PyExc_IndexError, "tuple index out of range");
        return NULL;
    }
    inner = PyTuple_GET_ITEM(key, 1);
    if (!PyUnicode_Check(inner)) {
        return Py_NewRef(key);
    }
    bytes = PyUnicode_AsUTF8String(inner);
    if (bytes == NULL) {
        return NULL;
    }
    result = PyTuple_Pack(2, PyTuple_GET_ITEM(key, 0), bytes);
    Py_DECREF(bytes);
    return result;
}

PyObject *mcx_encode_key(PyObject *key)
{
    if (PyUnicode_Check(key)) {
        return PyUnicode_AsUTF8String(key);
    }
    return PyTuple_Check(key) ? encode_tuple(key) : Py_NewRef(key);
}

int mcx_key_check(mcx_module *module, const mcx_snapshot *snapshot, mc_slice text, size_t extra,
                  PyObject *shown)
{
    if (UNLIKELY(text.length + extra == 0)) {
        return raise_empty(module);
    }
    if (UNLIKELY(snapshot->max_key_length != 0 &&
                 text.length + extra > (size_t)snapshot->max_key_length)) {
        PyErr_Format(module->key_length_error, "Key length is > %zd", snapshot->max_key_length);
        return -1;
    }
    if (UNLIKELY(!mc_key_is_plain(text))) {
        return raise_character(module, text, shown);
    }
    return 0;
}

int mcx_key_check_store(mcx_module *module, const mcx_snapshot *snapshot, mc_slice text)
{
    if (LIKELY(text.length <= MC_PROTOCOL_KEY_LENGTH || !snapshot->check_keys)) {
        return 0;
    }
    PyErr_Format(module->key_length_error, "Key length is > %d", MC_PROTOCOL_KEY_LENGTH);
    return -1;
}

int mcx_key_check_safe(mcx_module *module, mc_slice text)
{
    if (LIKELY(mc_key_is_safe(text))) {
        return 0;
    }
    return text.length == 0 ? raise_empty(module) : raise_character(module, text, NULL);
}

PyObject *mcx_call_encoder(PyObject *encoder, PyObject *key)
{
    PyObject *result;

    /* It may call this client, without a frame of Python's in between. */
    if (Py_EnterRecursiveCall(" in a key_encoder")) {
        return NULL;
    }
    result = PyObject_CallOneArg(encoder, key);
    Py_LeaveRecursiveCall();
    return result;
}

/* As mcx_key_single, of any key and option. */
static COLD int check_any(mcx_call *call, PyObject *object, mcx_key *key)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *encoder = snapshot->options[MCX_OPT_KEY_ENCODER];
    PyObject *made = NULL; /* by the encoder */
    int result;

    key->owner = NULL;
    key->hash = NULL;
    if (UNLIKELY(encoder != NULL && encoder != Py_None)) {
        int64_t before = mc_clock_now();

        made = mcx_call_encoder(encoder, object);
        if (made == NULL) {
            return -1;
        }
        object = made;
        mcx_leave_out(call, before);
    }
    result = view(call->module, object, key);
    if (LIKELY(result == 0)) {
        result = LIKELY(snapshot->check_keys)
                     ? mcx_key_check(call->module, snapshot, key->text, 0, NULL)
                     : mcx_key_check_safe(call->module, key->text);
        if (UNLIKELY(result < 0)) {
            mcx_key_clear(key);
        }
    }
    Py_XDECREF(made);
    return result;
}

int mcx_key_single(mcx_call *call, PyObject *object, mcx_key *key)
{
    if (LIKELY(PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
        mc_slice text = {PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};

        if (LIKELY(text.length - 1 < call->snapshot->plain_key_length && mc_key_is_plain(text))) {
            key->text = text;
            key->hash = NULL;
            key->owner = Py_NewRef(object);
            return 0;
        }
    }
    return check_any(call, object, key);
}
