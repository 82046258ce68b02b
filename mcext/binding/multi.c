/* multi: get_multi, set_multi, delete_multi. */
#include "multi.h"

#include "core/net/clock.h"

#include "arguments.h"
#include "call.h"
#include "compat.h"
#include "methods.h"
#include "pure.h"
#include "record.h"
#include "state.h"

/* By an interned name: one that is made for the call takes a place in the cache of the mapping's
 * type, and stays there. */
static PyObject *keys_of(mcx_module *module, PyObject *mapping)
{
    PyObject *keys = PyObject_CallMethodNoArgs(mapping, module->str_keys);

    if (keys == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "mapping must be a mapping, not %.100s",
                     Py_TYPE(mapping)->tp_name);
    }
    return keys;
}

int mcx_multi_run(mcx_multi *all, int what, PyObject *keys, PyObject *prefix)
{
    mcx_call *call = all->call;
    PyObject *asked_for = NULL;
    int result;

    assert(keys != NULL || all->mapping != NULL);

    if (call->cache == NULL && mcx_count(call, what) < 0) {
        return -1;
    }
    if (keys == NULL && !PyDict_CheckExact(all->mapping)) {
        keys = asked_for = keys_of(call->module, all->mapping);
        if (keys == NULL) {
            return -1;
        }
    }
    result = mcx_items_collect(all, keys, prefix);
    if (result == 0) {
        call->began = call->clock.start = mc_clock_now(); /* nothing so far was the servers' time */
        result = mcx_spread(all);
    }
    Py_XDECREF(asked_for);
    if (all->values == NULL) {
        all->plain_length = 0; /* to ask for a value may run any code */
    }
    if (result == 0 && mcx_multi_reads(all)) {
        all->result = mcx_dict_for((Py_ssize_t)all->count);
        result = all->result != NULL ? 0 : -1;
    }
    return result < 0 ? -1 : mcx_legs_run(all);
}

void mcx_multi_finish(mcx_multi *all)
{
    mcx_legs_fini(all);
    mcx_items_fini(all);
    Py_XDECREF(all->time.owner);
    Py_XDECREF(all->result);
    Py_XDECREF(all->undone);
    PyMem_Free(all->won);
}

static const mcx_signature get_multi_signature = {
    .method = "get_multi", .count = 2, .required = 1, .names = {"keys", "key_prefix"}};

static PyObject *client_get_multi(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    PyObject *values[2], *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call, .command = MC_GET};

    if (mcx_bind(&get_multi_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_multi, args, nargs, kwnames);
    }
    if (mcx_multi_run(&all, MCX_COUNT_GET_MULTI, values[0], values[1]) == 0) {
        result = Py_NewRef(all.result);
    }
    mcx_multi_finish(&all);
    return mcx_call_end(&call, result);
}

/* The caller's keys that were not stored. */
static PyObject *not_stored(mcx_multi *all)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; all->noreply && i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];

        /* Known not to have been sent: too large, no server, or a connection that failed. */
        for (size_t sent = 0; sent < each->io.sent && sent < each->io.count; sent++) {
            all->items[each->items[sent]].stored = true;
        }
    }
    for (size_t i = 0; list != NULL && i < all->count; i++) {
        if (!all->items[i].stored && PyList_Append(list, all->items[i].object) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static const mcx_signature set_multi_signature = {
    .method = "set_multi",
    .count = 5,
    .required = 1,
    .names = {"mapping", "time", "key_prefix", "min_compress_len", "noreply"}};

static PyObject *client_set_multi(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    PyObject *values[5], *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call, .command = MC_SET};

    if (mcx_bind(&set_multi_signature, args, nargs, kwnames, values) < 0 ||
        mcx_min_compress(values[3]) < 0 || mcx_flag(values[4], &all.noreply) < 0 ||
        mcx_time(values[1], "time", &all.time) < 0) {
        return NULL;
    }
    all.mapping = values[0];
    all.min_compress = values[3];
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        Py_XDECREF(all.time.owner);
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_set_multi, args, nargs, kwnames);
    }
    all.plain_length = mcx_plain_length(&all);
    if (mcx_multi_run(&all, MCX_COUNT_SET_MULTI, NULL, values[2]) == 0) {
        result = not_stored(&all);
    }
    mcx_multi_finish(&all);
    return mcx_call_end(&call, result);
}

static const mcx_signature delete_multi_signature = {
    .method = "delete_multi",
    .count = 4,
    .required = 1,
    .names = {"keys", "time", "key_prefix", "noreply"}};

static PyObject *client_delete_multi(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames)
{
    PyObject *values[4], *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call, .command = MC_DELETE};

    if (mcx_bind(&delete_multi_signature, args, nargs, kwnames, values) < 0 ||
        mcx_flag(values[3], &all.noreply) < 0 ||
        mcx_time(values[1] == Py_None ? NULL : values[1], "time", &all.time) < 0) {
        return NULL;
    }
    if (all.time.text.length == 1 && all.time.text.bytes[0] == '0') {
        all.time.text.length = 0; /* the same, and newer servers want it so */
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        Py_XDECREF(all.time.owner);
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_delete_multi, args, nargs, kwnames);
    }
    if (mcx_multi_run(&all, MCX_COUNT_DELETE_MULTI, values[0], values[2]) == 0) {
        for (size_t i = 0; i < all.count; i++) {
            all.failed |= all.items[i].leg == 0;
        }
        result = PyLong_FromLong(!all.failed);
    }
    mcx_multi_finish(&all);
    return mcx_call_end(&call, result);
}

PyMethodDef mcx_multi_methods[] = {
    MCX_DEF(
        "get_multi", client_get_multi,
        "get_multi($self, keys, key_prefix='')\n--\n\n"
        "Fetch many keys, from all their servers at once (protocol.txt, \"Retrieval command\").\n\n"
        "keys: an iterable of str, bytes, (hash, key) or anything with a str(), such as int.\n"
        "key_prefix: stands before each key on the server, not in the result.\n\n"
        "Returns a dict of those found, under the caller's own key objects; None stands for a\n"
        "value that cannot be decoded.\n" MCX_RAISES),
    MCX_DEF(
        "set_multi", client_set_multi,
        "set_multi($self, mapping, time=0, key_prefix='', min_compress_len=0, "
        "noreply=False)\n--\n\n"
        "Store many values, on all their servers at once (protocol.txt, \"Storage commands\").\n\n"
        "mapping: keys as in get_multi, with their values; the other arguments as in set.\n"
        "Keys are checked before anything is sent; values are serialised as they are sent.\n\n"
        "Returns the list of keys that were not stored; with noreply, those known not to have\n"
        "been sent. Raises what pickling a value raises: other values may be stored by "
        "then.\n" MCX_RAISES),
    MCX_DEF("delete_multi", client_delete_multi,
            "delete_multi($self, keys, time=None, key_prefix='', noreply=False)\n--\n\n"
            "Delete many keys, on all their servers at once (protocol.txt, \"Deletion\").\n\n"
            "keys, key_prefix: as in get_multi; time: as in delete.\n\n"
            "Returns 1, or 0 where a server failed; a key that was not there is no "
            "failure.\n" MCX_RAISES),
    {NULL, NULL, 0, NULL},
};
