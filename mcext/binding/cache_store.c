/* cache_store: a Cache's set, add, replace, append, prepend. */
#include "core/net/clock.h"
#include "core/wire/command.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_remove.h"
#include "cache_store.h"
#include "cache_values.h"
#include "call.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"
#include "target.h"

static COLD int refuse(mcx_call *call, const mcx_key *key, const mcx_store_order *what)
{
    if (mcx_store_replaces(what->command) && mcx_cache_remove(call, key) < 0) {
        return -1;
    }
    return mcx_fault_too_large(call, NULL, what->key);
}

/* The answer of a storage command: a new reference, or NULL: a fault is noted, or an exception. */
static PyObject *store(mcx_call *call, const mcx_key *key, const mcx_store_order *what,
                       mc_slice exptime, const mcx_stored *stored)
{
    mcx_request request = {.command = what->command,
                           .key = key->text,
                           .argument = exptime,
                           .value = stored,
                           .cas = what->has_token ? &what->token : NULL,
                           .noreply = what->noreply};
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    int there = mcx_select(call, key, &target);
    PyObject *result = NULL;

    if (LIKELY(there > 0)) {
        there = mcx_ask(call, &target, &request, &answer);
    }
    if (LIKELY(there > 0)) {
        if (UNLIKELY(mc_reply_is_error(answer.type))) {
            /* memcached removes the old value itself, but of a set alone. */
            if (mcx_store_replaces(what->command)) {
                (void)mcx_cache_remove(call, key); /* what it raises goes with NULL */
            }
        }
        else {
            result =
                Py_NewRef(what->noreply || answer.type == MC_REPLY_STORED ? Py_True : Py_False);
        }
    }
    Py_XDECREF(answer.line);
    return result;
}

static PyObject *encode_and_store(mcx_call *call, PyObject *value, const mcx_store_order *what,
                                  mc_slice exptime, const mcx_key *key)
{
    mcx_stored stored;
    int64_t before = mc_clock_now();
    bool is_whole = what->command != MC_APPEND && what->command != MC_PREPEND;
    int kept = mcx_cache_store_info(call, value, is_whole, &stored);
    PyObject *result = NULL;

    if (UNLIKELY(stored.owner != NULL)) {
        mcx_leave_out(call, before);
    }
    if (UNLIKELY(kept == 0)) {
        (void)refuse(call, key, what);
    }
    else if (LIKELY(kept > 0)) {
        result = store(call, key, what, exptime, &stored);
    }
    mcx_stored_clear(&stored);
    return result;
}

int mcx_store_read(PyObject *cas, PyObject *noreply, mcx_store_order *what)
{
    PyObject *absent;
    bool is_absent;

    if (mcx_flag(noreply, &what->noreply) < 0) {
        return -1;
    }
    if (cas == NULL || cas == Py_None) {
        return 0;
    }
    absent = mcx_import("mcext.tokens", "ABSENT");
    if (absent == NULL) {
        return -1;
    }
    is_absent = cas == absent;
    Py_DECREF(absent);
    what->command = is_absent ? MC_ADD : MC_CAS;
    what->has_token = !is_absent;
    return is_absent ? 0 : mcx_cache_token(cas, &what->token);
}

static PyObject *run(PyObject *self, mcx_store_order *what, PyObject *value, PyObject *ttl)
{
    mcx_cache *cache = (mcx_cache *)self;
    mcx_call call;
    mcx_cache_key key;
    mcx_decimal exptime;
    PyObject *result = NULL;

    if (UNLIKELY(mcx_cache_ttl(cache->module, ttl, &exptime) < 0 ||
                 mcx_cache_begin(&call, self, what->command) < 0)) {
        return NULL;
    }
    call.raises |= what->raises;
    if (LIKELY(mcx_cache_key_of(&call, what->key, &key) == 0)) {
        result = encode_and_store(&call, value, what, exptime.text, &key.key);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_False);
}

static const mcx_signature set_signature = {
    .method = "set", .count = 5, .required = 2, .names = {"key", "value", "ttl", "cas", "noreply"}};

static WHOLE PyObject *cache_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    PyObject *values[5] = {NULL};
    mcx_store_order what = {.command = MC_SET};

    if (LIKELY(kwnames == NULL && (nargs == 2 || nargs == 3))) {
        values[0] = args[0];
        values[1] = args[1];
        values[2] = nargs == 3 ? args[2] : NULL;
    }
    else if (mcx_cache_bind(&set_signature, 3, args, nargs, kwnames, values) < 0 ||
             mcx_store_read(values[3], values[4], &what) < 0) {
        return NULL;
    }
    what.key = values[0];
    return run(self, &what, values[1], values[2]);
}

/* _swap(key, value, ttl, cas): set, which raises whatever errors says. */
static PyObject *cache_swap(PyObject *self, PyObject *args)
{
    PyObject *value, *ttl, *cas;
    mcx_store_order what = {.command = MC_SET, .raises = true};

    if (!PyArg_ParseTuple(args, "OOOO", &what.key, &value, &ttl, &cas) ||
        mcx_store_read(cas, NULL, &what) < 0) {
        return NULL;
    }
    return run(self, &what, value, ttl);
}

#define SIGNATURE(name)                                                                            \
    {                                                                                              \
        .method = (name), .count = 4, .required = 2, .names = { "key", "value", "ttl", "noreply" } \
    }

static const mcx_signature signatures[MC_COMMANDS] = {
    [MC_ADD] = SIGNATURE("add"),
    [MC_REPLACE] = SIGNATURE("replace"),
    [MC_APPEND] = SIGNATURE("append"),
    [MC_PREPEND] = SIGNATURE("prepend"),
};

static PyObject *storage_method(mc_command command, PyObject *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[4];
    mcx_store_order what = {.command = command};

    if (mcx_cache_bind(&signatures[command], 3, args, nargs, kwnames, values) < 0 ||
        mcx_flag(values[3], &what.noreply) < 0) {
        return NULL;
    }
    what.key = values[0];
    return run(self, &what, values[1], values[2]);
}

static PyObject *cache_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    return storage_method(MC_ADD, self, args, nargs, kwnames);
}

static PyObject *cache_replace(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return storage_method(MC_REPLACE, self, args, nargs, kwnames);
}

static PyObject *cache_append(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    return storage_method(MC_APPEND, self, args, nargs, kwnames);
}

static PyObject *cache_prepend(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return storage_method(MC_PREPEND, self, args, nargs, kwnames);
}

#define ARGUMENTS                                                                                  \
    "key: str or bytes. ttl: seconds, a timedelta, or None: until it is evicted.\n"                \
    "noreply: do not wait for the answer: True is returned, and what fails is not told.\n"

#define RAISES                                                                                     \
    "Raises ValueTooLarge, after which there is no old value either, or another MemcacheError,\n"  \
    "by errors; what encoding the value raises; TypeError or ValueError for a wrong argument,\n"   \
    "before anything is sent."

#define OTHER "($self, key, value, ttl=None, *, noreply=False)\n--\n\n"

PyMethodDef mcx_cache_store_methods[] = {
    MCX_DEF("set", cache_set,
            "set($self, key, value, ttl=None, *, cas=None, noreply=False)\n--\n\n"
            "Store value under key (protocol.txt, \"Storage commands\").\n\n" ARGUMENTS
            "cas: an Item's token: only where nobody has written since; ABSENT: only where there\n"
            "is no value.\n\n"
            "Returns True; False where the token is out of date or the item is gone.\n" RAISES),
    MCX_DEF("add", cache_add,
            "add" OTHER "Store value only where there is none (protocol.txt, \"Storage "
            "commands\").\n\n" ARGUMENTS "\nReturns True or False.\n" RAISES),
    MCX_DEF("replace", cache_replace,
            "replace" OTHER "Store value only where there is one (protocol.txt, \"Storage "
            "commands\").\n\n" ARGUMENTS "\nReturns True or False.\n" RAISES),
    MCX_DEF("append", cache_append,
            "append" OTHER "Add value behind the one that is there, which keeps its flags and its "
            "time\n(protocol.txt, \"Storage commands\").\n\n" ARGUMENTS
            "\nReturns True, or False where there is none.\n" RAISES),
    MCX_DEF("prepend", cache_prepend,
            "prepend" OTHER "Add value before the one that is there, which keeps its flags and its "
            "time\n(protocol.txt, \"Storage commands\").\n\n" ARGUMENTS
            "\nReturns True, or False where there is none.\n" RAISES),
    {"_swap", cache_swap, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
