#include "choose.h"

#include "core/fleet/hash.h"
#include "core/fleet/placement.h"
#include "core/wire/key.h"

#include "call.h"
#include "compat.h"
#include "keys.h"
#include "shared.h"
#include "state.h"

/* serverHashFunction(bytes), a caller's own: a new int. */
static PyObject *call_hash(mcx_module *module, mc_slice text)
{
    PyObject *function = NULL, *key, *hash = NULL;

    Py_BEGIN_CRITICAL_SECTION(module->guard);
    function = Py_XNewRef(module->hash_function);
    Py_END_CRITICAL_SECTION();
    key = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    if (function != NULL && key != NULL) {
        hash = PyObject_CallOneArg(function, key);
    }
    else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "serverHashFunction was changed during the call");
    }
    Py_XDECREF(function);
    Py_XDECREF(key);
    return hash;
}

static int set_hash(mcx_walk *walk, PyObject *hash)
{
    Py_CLEAR(walk->big);
    if (!PyLong_Check(hash)) {
        PyObject *index = PyNumber_Index(hash);

        if (index == NULL && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        if (index == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "the hash of a (hash, key) tuple, and what "
                         "serverHashFunction returns, must be an int, not %.100s",
                         Py_TYPE(hash)->tp_name);
            return -1;
        }
        walk->big = index;
    }
    else {
        walk->big = Py_NewRef(hash);
        if (!PyLong_CheckExact(hash)) {
            return 0; /* its str() counts for the next hash: that of True is no number */
        }
    }
    unsigned long long small = PyLong_AsUnsignedLongLong(walk->big);
    if (small == (unsigned long long)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear(); /* negative or huge: big stays */
        return 0;
    }
    walk->walk.hash = small;
    Py_CLEAR(walk->big);
    return 0;
}

PyObject *mcx_server_hash(mcx_module *module, mc_slice text)
{
    switch (atomic_load_explicit(&module->hash_kind, memory_order_acquire)) {
    case MCX_HASH_PYTHON:
        return call_hash(module, text);
    case MC_HASH_CRC32:
        return PyLong_FromUnsignedLong(mc_hash_crc32(text));
    default:
        return PyLong_FromUnsignedLong(mc_hash_default(text));
    }
}

static int index_of(const mcx_walk *walk, size_t buckets, size_t *index)
{
    if (walk->big == NULL) {
        *index = (size_t)(walk->walk.hash % buckets);
        return 1;
    }
    PyObject *count = PyLong_FromSize_t(buckets);
    PyObject *rest = count ? PyNumber_Remainder(walk->big, count) : NULL;

    *index = rest ? PyLong_AsSize_t(rest) : SIZE_MAX;
    Py_XDECREF(count);
    Py_XDECREF(rest);
    if (*index >= buckets && !PyErr_Occurred()) { /* a subclass of int may say what it likes */
        PyErr_SetString(PyExc_IndexError, "the remainder of a hash is beyond the buckets");
    }
    return *index < buckets ? 1 : -1;
}

/* A hash that is a Python int: a caller's own function's, or a tuple's. */
int mcx_walk_first_python(mcx_call *call, const mcx_key *key, mcx_walk *walk, size_t *index)
{
    if (call->snapshot->bucket_count == 0) {
        return 0;
    }
    PyObject *hash = key->hash ? Py_NewRef(key->hash) : call_hash(call->module, key->text);
    int found = hash == NULL || set_hash(walk, hash) < 0
                    ? -1
                    : index_of(walk, call->snapshot->bucket_count, index);

    Py_XDECREF(hash);
    walk->is_python = true;
    return found;
}

/* The next hash: that of the digits of the one before and of the number of the try. */
static int rehash(mcx_call *call, mcx_walk *walk)
{
    PyObject *hash =
        walk->big ? Py_NewRef(walk->big) : PyLong_FromUnsignedLongLong(walk->walk.hash);
    PyObject *text = hash ? PyUnicode_FromFormat("%S%u", hash, walk->walk.tries) : NULL;
    PyObject *next = NULL;
    Py_ssize_t length;
    const char *bytes = text ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;
    int result = -1;

    if (bytes != NULL) {
        next = mcx_server_hash(call->module, (mc_slice){bytes, (size_t)length});
    }
    if (next != NULL) {
        result = set_hash(walk, next);
        walk->walk.tries++;
    }
    Py_XDECREF(hash);
    Py_XDECREF(text);
    Py_XDECREF(next);
    return result;
}

/* Behind the walk's tries: all buckets in order, each server that stands in a row once. */
static int next_in_order(const mcx_snapshot *snapshot, mcx_walk *walk, size_t *index)
{
    size_t at = walk->in_order;

    while (at > 0 && at < snapshot->bucket_count &&
           snapshot->bucket[at] == snapshot->bucket[at - 1]) {
        at++;
    }
    walk->in_order = at + 1;
    *index = at;
    return at < snapshot->bucket_count;
}

/* Around the buckets: the next one of a server that has none between the walk's start and there. */
static int next_bucket(const mcx_snapshot *snapshot, mcx_walk *walk, size_t *index)
{
    size_t at = *index, seen;

    walk->start = walk->tries == 1 ? at : walk->start;
    do {
        at = at + 1 < snapshot->bucket_count ? at + 1 : 0;
        seen = walk->start;
        while (seen != at && snapshot->bucket[seen] != snapshot->bucket[at]) {
            seen = seen + 1 < snapshot->bucket_count ? seen + 1 : 0;
        }
    } while (seen != at);
    *index = at;
    return at != walk->start;
}

int mcx_walk_next(mcx_call *call, mcx_walk *walk, size_t *index)
{
    const mcx_snapshot *snapshot = call->snapshot;
    int retries = atomic_load_explicit(&call->shared->server_retries, memory_order_relaxed);

    if (snapshot->on_dead == MCX_ON_DEAD_MISS) {
        return 0;
    }
    walk->tries++;
    if (snapshot->on_dead == MCX_ON_DEAD_NEXT && (walk->is_python || snapshot->table == NULL)) {
        return next_bucket(snapshot, walk, index);
    }
    if (snapshot->on_dead == MCX_ON_DEAD_WALK && walk->tries >= retries) {
        return next_in_order(snapshot, walk, index);
    }
    if (!walk->is_python) {
        *index = snapshot->placement.next(&snapshot->placement, &walk->walk);
        return *index != MC_NOWHERE;
    }
    return rehash(call, walk) < 0 ? -1 : index_of(walk, snapshot->bucket_count, index);
}
