/* get: get, gets: one value of one server. */
#include "core/wire/command.h"
#include "core/wire/key.h"

#include "arguments.h"
#include "call.h"
#include "compat.h"
#include "keys.h"
#include "methods.h"
#include "pure.h"
#include "record.h"
#include "retrieve.h"

static int remember_cas(mcx_call *call, mc_slice key, uint64_t cas)
{
    mcx_record *record = call->record;
    PyObject *cas_ids, *name, *number;
    int result = -1;

    if (record->cas_ids == NULL && (record->cas_ids = PyDict_New()) == NULL) {
        return -1;
    }
    cas_ids = Py_NewRef(record->cas_ids); /* what it calls may forget it: reset_cas() */
    name = PyBytes_FromStringAndSize(key.bytes, (Py_ssize_t)key.length);
    number = PyLong_FromUnsignedLongLong(cas);
    if (name != NULL && number != NULL) {
        result = PyObject_SetItem(cas_ids, name, number);
    }
    Py_DECREF(cas_ids);
    Py_XDECREF(name);
    Py_XDECREF(number);
    return result;
}

/* get and gets behind key_encoder. default_value is borrowed. */
static PyObject *retrieve(mcx_call *call, mc_command command, const mcx_key *key,
                          PyObject *default_value)
{
    mcx_retrieved got = {0};
    PyObject *result = NULL;
    int there = mcx_retrieve(call, command, key, &got);

    if (LIKELY(there >= 0)) {
        if (UNLIKELY(there == 0 || !got.found)) {
            result = Py_NewRef(default_value);
        }
        else if (command == MC_GET || !call->snapshot->cache_cas ||
                 remember_cas(call, key->text, got.cas) == 0) {
            result = mcx_retrieved_value(call, &got);
        }
    }
    mcx_retrieved_clear(&got);
    return result;
}

static const mcx_signature get_signature = {
    .method = "get", .count = 2, .required = 1, .names = {"key", "default"}};

static WHOLE PyObject *client_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    PyObject *values[2];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (LIKELY(kwnames == NULL && (nargs == 1 || nargs == 2))) {
        values[0] = args[0];
        values[1] = nargs == 2 ? args[1] : NULL;
    }
    else if (mcx_bind(&get_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *default_value = values[1] != NULL ? values[1] : Py_None;

    int begun = mcx_call_begin(&call, self);
    if (UNLIKELY(begun != 0)) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get, args, nargs, kwnames);
    }
    if (LIKELY(mcx_key_single(&call, values[0], &key) == 0)) {
        result = retrieve(&call, MC_GET, &key, default_value);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, MCX_PURE_get, args, nargs, kwnames);
}

static const mcx_signature gets_signature = {
    .method = "gets", .count = 1, .required = 1, .names = {"key"}};

static PyObject *client_gets(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    PyObject *values[1];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (mcx_bind(&gets_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_gets, args, nargs, kwnames);
    }
    if (mcx_key_single(&call, values[0], &key) == 0) {
        result = retrieve(&call, MC_GETS, &key, Py_None);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, MCX_PURE_gets, args, nargs, kwnames);
}

PyMethodDef mcx_get_methods[] = {
    MCX_DEF("get", client_get,
            "get($self, key, default=None)\n--\n\n"
            "Fetch the value of key (protocol.txt, \"Retrieval command\").\n\n"
            "Returns the value, or default where the key is not there or no server answers within\n"
            "socket_timeout seconds. A value that cannot be decoded is None.\n" MCX_RAISES),
    MCX_DEF(
        "gets", client_gets,
        "gets($self, key)\n--\n\n"
        "Like get, and where the client was made with cache_cas=True, remember the value's token\n"
        "(protocol.txt, \"cas unique\") for this thread's cas(). Without cache_cas nothing is\n"
        "remembered, and cas() overwrites.\n\n"
        "Returns the value or None.\n" MCX_RAISES),
    {NULL, NULL, 0, NULL},
};
