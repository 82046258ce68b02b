/* client: the small methods of Client, and those privates of which the way in Python makes use. */
#include "client.h"

#include "core/wire/key.h"

#include "arguments.h"
#include "call.h"
#include "keys.h"
#include "log.h"
#include "methods.h"
#include "record.h"
#include "replaced.h"
#include "shared.h"
#include "state.h"
#include "values.h"

static const mcx_signature setattr_signature = {
    .method = "__setattr__", .count = 2, .required = 2, .names = {"name", "value"}};

/* threading.local's own __setattr__. A class in Python (eventlet's) has only a slot that would find
 * ours again, so its method is called by name. */
static int set_by_base(mcx_module *module, PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *method, *result = NULL;

    if (module->local_is_native) {
        return module->local_type->tp_setattro(self, name, value);
    }
    method = PyObject_GetAttrString((PyObject *)module->local_type, "__setattr__");
    if (method != NULL) {
        result = PyObject_CallFunctionObjArgs(method, self, name, value, NULL);
    }
    Py_XDECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A method replaced on one client is noticed here; the rest is threading.local's. */
static PyObject *client___setattr__(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    mcx_module *module = mcx_module_of(self);
    PyObject *values[2];

    if (mcx_bind(&setattr_signature, args, nargs, kwnames, values) < 0 ||
        set_by_base(module, self, values[0], values[1]) < 0) {
        return NULL;
    }
    PyObject *shared = __atomic_load_n(mcx_shared_slot(module, self), __ATOMIC_ACQUIRE);
    if (shared != NULL) {
        mcx_note_client_attribute(module, (mcx_shared *)shared, values[0]);
    }
    Py_RETURN_NONE;
}

static const mcx_signature check_key_signature = {
    .method = "check_key", .count = 2, .required = 1, .names = {"key", "key_extra_len"}};

static PyObject *client_check_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    PyObject *values[2], *key;
    mcx_call call;
    Py_ssize_t extra = 0;
    int result = -1;

    if (mcx_bind(&check_key_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    /* What does not fit is too long, too. */
    if (values[1] != NULL && mcx_int(values[1], "key_extra_len", &extra) < 0) {
        return NULL;
    }
    if (mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    key = PyTuple_Check(values[0]) && PyTuple_GET_SIZE(values[0]) == 2
              ? PyTuple_GET_ITEM(values[0], 1)
              : values[0];
    if (key == Py_None) {
        PyErr_SetString(call.module->key_none_error, "Key is None");
    }
    else if (PyUnicode_Check(key) && PyUnicode_GET_LENGTH(key) == 0) {
        result = mcx_key_check(call.module, call.snapshot, (mc_slice){"", 0},
                               extra < 0 ? 1 : (size_t)extra, key);
    }
    else if (!PyBytes_Check(key)) {
        PyErr_SetString(call.module->key_type_error, "Key must be a binary string");
    }
    else {
        mc_slice text = {PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};

        result =
            mcx_key_check(call.module, call.snapshot, text, extra < 0 ? 0 : (size_t)extra, key);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature debuglog_signature = {
    .method = "debuglog", .count = 1, .required = 1, .names = {"str"}};

static PyObject *client_debuglog(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    PyObject *values[1], *line;
    mcx_call call;
    int result = 0;

    if (mcx_bind(&debuglog_signature, args, nargs, kwnames, values) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    if (call.snapshot->debug) {
        line = PyUnicode_FromFormat("MemCached: %S\n", values[0]);
        result = line ? mcx_write_stderr(call.module, line) : -1;
        Py_XDECREF(line);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature statlog_signature = {
    .method = "_statlog", .count = 1, .required = 1, .names = {"func"}};

static PyObject *client__statlog(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    PyObject *values[1];
    mcx_call call;
    int result;

    if (mcx_bind(&statlog_signature, args, nargs, kwnames, values) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    result = mcx_record_count_name(call.module, call.record, values[0]);
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

static const mcx_signature reset_cas_signature = {.method = "reset_cas"};

static PyObject *client_reset_cas(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    mcx_call call;

    if (mcx_bind(&reset_cas_signature, args, nargs, kwnames, NULL) < 0 ||
        mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    Py_CLEAR(call.record->cas_ids);
    call.record->cas_ids_deleted = false;
    return mcx_call_end(&call, Py_NewRef(Py_None));
}

static const mcx_signature reduce_signature = {.method = "__reduce__"};

/* Behind object's __reduce_ex__, which calls a subclass's own __reduce__ instead. */
static PyObject *client___reduce__(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    if (mcx_bind(&reduce_signature, args, nargs, kwnames, NULL) == 0) {
        PyErr_Format(PyExc_TypeError, "cannot pickle or copy '%.100s' object: it owns connections",
                     Py_TYPE(self)->tp_name);
    }
    return NULL;
}

/* ---- privates of which the way in Python makes use ------------------------------------------ */

static const mcx_signature val_to_store_info_signature = {.method = "_val_to_store_info",
                                                          .count = 2,
                                                          .required = 2,
                                                          .names = {"val", "min_compress_len"}};

static PyObject *client__val_to_store_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames)
{
    PyObject *values[2], *result = NULL;
    mcx_stored stored;
    mcx_call call;
    int kept;

    if (mcx_bind(&val_to_store_info_signature, args, nargs, kwnames, values) < 0 ||
        mcx_min_compress(values[1]) < 0 || mcx_call_begin_inner(&call, self) < 0) {
        return NULL;
    }
    stored.owner = NULL;
    kept = mcx_store_info(&call, values[0], values[1], &stored);
    if (kept == 0) {
        result = PyLong_FromLong(0);
    }
    else if (kept > 0) {
        PyObject *text =
            stored.owner != NULL && PyBytes_CheckExact(stored.owner) &&
                    PyBytes_AS_STRING(stored.owner) == stored.text.bytes &&
                    PyBytes_GET_SIZE(stored.owner) == (Py_ssize_t)stored.text.length
                ? Py_NewRef(stored.owner)
                : PyBytes_FromStringAndSize(stored.text.bytes, (Py_ssize_t)stored.text.length);

        result = text ? Py_BuildValue("(knN)", (unsigned long)stored.flags,
                                      (Py_ssize_t)stored.text.length, text)
                      : NULL;
    }
    mcx_stored_clear(&stored);
    return mcx_call_end(&call, result);
}

static const mcx_signature encode_key_signature = {
    .method = "_encode_key", .count = 1, .required = 1, .names = {"key"}};

static PyObject *client__encode_key(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    PyObject *values[1];

    (void)self;
    return mcx_bind(&encode_key_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_encode_key(values[0]);
}

PyMethodDef mcx_client_methods[] = {
    MCX_DEF("__setattr__", client___setattr__,
            "__setattr__($self, name, value, /)\n--\n\nImplement setattr(self, name, value)."),
    MCX_DEF("__reduce__", client___reduce__,
            "__reduce__($self, /)\n--\n\nRaise TypeError: a client owns connections."),
    MCX_DEF(
        "check_key", client_check_key,
        "check_key($self, key, key_extra_len=0)\n--\n\n"
        "Check an encoded key: bytes, not empty, without control characters or spaces, and with\n"
        "key_extra_len bytes not longer than server_max_key_length.\n\n"
        "Returns None. Raises a Client.MemcachedKeyError, or TypeError for a wrong key_extra_len."),
    MCX_DEF("debuglog", client_debuglog,
            "debuglog($self, str)\n--\n\nWrite a line to sys.stderr where debug is set.\n\nReturns "
            "None."),
    MCX_DEF("reset_cas", client_reset_cas,
            "reset_cas($self)\n--\n\n"
            "Forget the cas tokens that this thread's gets() remembered.\n\nReturns None."),
    MCX_DEF("_statlog", client__statlog, "_statlog($self, func)\n--\n\nCount func in stats."),
    MCX_DEF("_val_to_store_info", client__val_to_store_info,
            "_val_to_store_info($self, val, min_compress_len)\n--\n\n"
            "val as it is stored: (flags, length, bytes), or 0 where it is too large."),
    MCX_DEF("_encode_key", client__encode_key,
            "_encode_key($self, key)\n--\n\nkey with a str as UTF-8 bytes."),
    {NULL, NULL, 0, NULL},
};
