/* cache_many: a Cache's get_many, set_many, delete_many. */
#include "core/wire/command.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_partial.h"
#include "cache_remove.h"
#include "call.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"
#include "multi.h"
#include "record.h"
#include "state.h"

/* ---- the methods ---------------------------------------------------------------------------- */

static int begin(mcx_multi *all, PyObject *self, mc_command command)
{
    all->command = command;
    return mcx_cache_begin(all->call, self, command);
}

static const mcx_signature get_many_signature = {
    .method = "get_many", .count = 1, .required = 1, .names = {"keys"}};

static PyObject *cache_get_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    PyObject *values[1], *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call};

    if (mcx_bind(&get_many_signature, args, nargs, kwnames, values) < 0 ||
        begin(&all, self, MC_GET) < 0) {
        return NULL;
    }
    if (mcx_multi_run(&all, MCX_COUNT_GET_MULTI, values[0], call.cache->prefix) == 0) {
        result = mcx_multi_judge(&all, Py_NewRef(all.result));
    }
    mcx_multi_finish(&all);
    return mcx_cache_end(&call, result, NULL);
}

/* Values that were too large were not sent: what stood under their keys goes. */
static int remove_too_large(mcx_multi *all)
{
    mcx_call *call = all->call;

    for (size_t i = 0; i < all->count; i++) {
        mcx_key key = {.text = all->texts[i]};

        if (all->items[i].too_large &&
            (mcx_cache_remove(call, &key) < 0 ||
             mcx_fault_too_large(call, NULL, all->items[i].object) < 0)) {
            return -1;
        }
    }
    return 0;
}

static const mcx_signature set_many_signature = {
    .method = "set_many", .count = 2, .required = 1, .names = {"mapping", "ttl"}};

static PyObject *cache_set_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    PyObject *values[2], *undone = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call};

    if (mcx_bind(&set_many_signature, args, nargs, kwnames, values) < 0 ||
        mcx_cache_ttl(((mcx_cache *)self)->module, values[1], &all.time) < 0 ||
        begin(&all, self, MC_SET) < 0) {
        return NULL;
    }
    all.mapping = values[0];
    all.plain_length = mcx_plain_length(&all);
    if (mcx_multi_run(&all, MCX_COUNT_SET_MULTI, NULL, call.cache->prefix) == 0 &&
        remove_too_large(&all) == 0) {
        undone = mcx_multi_judge(&all, NULL);
    }
    mcx_multi_finish(&all);
    return mcx_cache_end(&call, undone, NULL);
}

static const mcx_signature delete_many_signature = {
    .method = "delete_many", .count = 1, .required = 1, .names = {"keys"}};

static PyObject *cache_delete_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    PyObject *values[1], *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call};

    if (mcx_bind(&delete_many_signature, args, nargs, kwnames, values) < 0 ||
        begin(&all, self, MC_DELETE) < 0) {
        return NULL;
    }
    if (mcx_multi_run(&all, MCX_COUNT_DELETE_MULTI, values[0], call.cache->prefix) == 0) {
        result = mcx_multi_judge(&all, PyLong_FromSize_t(all.deleted));
    }
    mcx_multi_finish(&all);
    return mcx_cache_end(&call, result, NULL);
}

#define RAISES                                                                                     \
    "Raises PartialFailure, with what was done, where a server failed, unless errors=\"miss\";\n"  \
    "TypeError or ValueError for a wrong argument, before anything is sent."

PyMethodDef mcx_cache_many_methods[] = {
    MCX_DEF("get_many", cache_get_many,
            "get_many($self, keys)\n--\n\n"
            "Fetch many keys, from all their servers at once (protocol.txt, \"Retrieval "
            "command\").\n\n"
            "keys: an iterable of str or bytes.\n\n"
            "Returns a dict of those found, under the caller's own key objects.\n" RAISES),
    MCX_DEF("set_many", cache_set_many,
            "set_many($self, mapping, ttl=None)\n--\n\n"
            "Store many values, on all their servers at once (protocol.txt, \"Storage "
            "commands\").\n\n"
            "ttl: seconds, a timedelta, or None: until they are evicted. Keys are checked before\n"
            "anything is sent; values are encoded as they are sent, and what that raises leaves\n"
            "other values stored.\n\n"
            "Returns the list of keys that were not stored: none.\n" RAISES),
    MCX_DEF("delete_many", cache_delete_many,
            "delete_many($self, keys)\n--\n\n"
            "Delete many keys, on all their servers at once (protocol.txt, \"Deletion\").\n\n"
            "keys: an iterable of str or bytes.\n\n"
            "Returns how many of them there were.\n" RAISES),
    {NULL, NULL, 0, NULL},
};
