/* cache_items: a Cache's get_item, get_items, get_and_touch: values with what the server knows of
 * them, by the meta protocol where the server has it. */
#include <string.h>

#include "core/wire/command.h"
#include "core/wire/meta.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_item.h"
#include "cache_lease.h"
#include "cache_meta.h"
#include "cache_partial.h"
#include "call.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"
#include "multi.h"
#include "record.h"
#include "retrieve.h"
#include "state.h"
#include "target.h"

/* An mg of a stale item is given the lease on it, which nobody asked for: it goes back, so that
 * get_or_set recomputes. Where that fails, the item is recomputed when it has expired. */
static int give_lease_back(mcx_call *call, const mcx_key *key, uint64_t cas)
{
    char text[MCX_RELEASE_FLAGS];
    mc_slice flags = mcx_release_flags(text, true, cas);
    mc_reply_type type;
    PyObject *noted = call->faults;
    mcx_meta_outcome outcome;

    call->faults = NULL;
    outcome = mcx_meta_delete(call, key, flags, MC_META_STABLE, &type);
    Py_XSETREF(call->faults, noted);
    return outcome == MCX_META_RAISED ? -1 : 0;
}

/* The token of an item whose lease went back is another one now: reads value, flags and token once
 * more. Where that fails the token is out of date, which harms nobody. */
static int renew_token(mcx_call *call, const mcx_key *key, PyObject **item)
{
    mcx_retrieved got = {0};
    PyObject *again = NULL, *noted = call->faults;
    int result;

    call->faults = NULL;
    result = mcx_retrieve(call, MC_GETS, key, &got);
    bool is_there = result > 0 && call->faults == NULL && got.found;
    Py_XSETREF(call->faults, noted);
    if (is_there) {
        again = mcx_item_renewed(call->module, *item, got.flags, got.cas,
                                 mcx_retrieved_value(call, &got));
        result = again != NULL ? 1 : -1;
    }
    if (again != NULL) {
        Py_SETREF(*item, again);
    }
    mcx_retrieved_clear(&got);
    return result < 0 ? -1 : 0;
}

/* ---- one ------------------------------------------------------------------------------------ */

static PyObject *get_item(mcx_call *call, const mcx_key *key)
{
    mcx_retrieved got = {0};
    mc_reply reply = {.letters = 0};
    mcx_meta_outcome outcome = mcx_meta_get(call, key, MCX_ITEM_FLAGS, false, &got, &reply);
    PyObject *result = NULL;

    if (outcome == MCX_META_NONE) {
        reply.letters = 0;
        outcome = (mcx_meta_outcome)mcx_retrieve(call, MC_GETS, key, &got);
        outcome = outcome == MCX_META_ANSWERED && call->faults != NULL ? MCX_META_FAILED : outcome;
    }
    if (outcome == MCX_META_ANSWERED && mc_meta_has(&reply, 'W') &&
        give_lease_back(call, key, got.cas) < 0) {
        outcome = MCX_META_RAISED;
    }
    if (outcome == MCX_META_ANSWERED) {
        bool is_there =
            got.found && !(reply.letters != 0 && mcx_is_stub(got.flags, (size_t)reply.length));

        result = is_there ? mcx_item_new(call->module, &reply, got.flags, got.cas,
                                         mcx_retrieved_value(call, &got))
                          : Py_NewRef(Py_None);
        if (is_there && result != NULL && mc_meta_has(&reply, 'W') &&
            renew_token(call, key, &result) < 0) {
            Py_CLEAR(result);
        }
    }
    mcx_retrieved_clear(&got);
    return result;
}

static PyObject *cache_get_item(PyObject *self, PyObject *object)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_cache_key key;

    if (mcx_cache_begin(&call, self, MC_MG) < 0) {
        return NULL;
    }
    if (LIKELY(mcx_cache_key_of(&call, object, &key) == 0)) {
        result = get_item(&call, &key.key);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_None);
}

/* ---- get_and_touch -------------------------------------------------------------------------- */

/* Without the meta protocol: a touch, and a get. */
static int touch_and_get(mcx_call *call, const mcx_key *key, mc_slice exptime, mcx_retrieved *got)
{
    mcx_request request = {.command = MC_TOUCH, .key = key->text, .argument = exptime};
    mcx_answer answer = {.line = NULL};
    mcx_target target;
    int there = mcx_select(call, key, &target);

    if (there > 0) {
        there = mcx_ask(call, &target, &request, &answer);
        Py_CLEAR(answer.line);
    }
    if (there <= 0 || answer.type != MC_REPLY_TOUCHED) {
        return there < 0 ? -1 : there > 0 && call->faults == NULL;
    }
    there = mcx_retrieve(call, MC_GET, key, got);
    if (there < 0 || (there > 0 && call->faults == NULL)) {
        return there;
    }
    /* The first of the faults is raised, which may be another server's. */
    return mcx_fault_has_run(call) < 0 || PyObject_SetAttrString(PyList_GET_ITEM(call->faults, 0),
                                                                 "may_have_run", Py_True) < 0
               ? -1
               : 0;
}

static PyObject *get_and_touch(mcx_call *call, const mcx_key *key, mc_slice exptime,
                               PyObject *default_value)
{
    char text[32] = "v k f c T";
    mc_slice flags = {text, 9 + exptime.length};
    mcx_retrieved got = {0};
    mc_reply reply = {.letters = 0};
    PyObject *result = NULL;
    mcx_meta_outcome outcome;

    memcpy(text + 9, exptime.bytes, exptime.length);
    outcome = mcx_meta_get(call, key, flags, true, &got, &reply);
    if (outcome == MCX_META_NONE) {
        reply.letters = 0;
        outcome = (mcx_meta_outcome)touch_and_get(call, key, exptime, &got);
    }
    else if (outcome == MCX_META_ANSWERED) {
        got.found = got.found && !mcx_is_stub(got.flags, (size_t)reply.length);
        if (mc_meta_has(&reply, 'W') && give_lease_back(call, key, got.cas) < 0) {
            outcome = MCX_META_RAISED;
        }
    }
    if (outcome == MCX_META_ANSWERED) {
        result = got.found ? mcx_retrieved_value(call, &got) : Py_NewRef(default_value);
    }
    mcx_retrieved_clear(&got);
    return result;
}

static const mcx_signature get_and_touch_signature = {
    .method = "get_and_touch", .count = 3, .required = 2, .names = {"key", "ttl", "default"}};

static PyObject *cache_get_and_touch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames)
{
    PyObject *values[3], *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_decimal exptime;

    if (mcx_bind(&get_and_touch_signature, args, nargs, kwnames, values) < 0 ||
        mcx_cache_ttl(((mcx_cache *)self)->module, values[1], &exptime) < 0 ||
        mcx_cache_begin(&call, self, MC_MG) < 0) {
        return NULL;
    }
    PyObject *default_value = values[2] != NULL ? values[2] : Py_None;

    if (mcx_cache_key_of(&call, values[0], &key) == 0) {
        result = get_and_touch(&call, &key.key, exptime.text, default_value);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, default_value);
}

/* ---- many ----------------------------------------------------------------------------------- */

/* A value that came meanwhile and cannot be decoded leaves the one that was read. */
static int renew_in_result(mcx_multi *all, PyObject *object, const mcx_key *key)
{
    PyObject *item = Py_XNewRef(PyDict_GetItemWithError(all->result, object));
    int result = item != NULL ? renew_token(all->call, key, &item) : PyErr_Occurred() ? -1 : 0;

    if (item != NULL && result < 0) {
        result = mcx_fault_keep(all->call, all->call->host);
    }
    else if (item != NULL) {
        result = PyDict_SetItem(all->result, object, item);
    }
    Py_XDECREF(item);
    return result;
}

/* The leases that came with stale items go back. */
static int give_leases_back(mcx_multi *all)
{
    for (size_t i = 0; i < all->won_count; i++) {
        mcx_key key = {.text = all->texts[all->won[i].number]};

        if (give_lease_back(all->call, &key, all->won[i].cas) < 0 ||
            renew_in_result(all, all->items[all->won[i].number].object, &key) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *cache_get_items(PyObject *self, PyObject *keys)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_multi all = {.call = &call, .command = MC_MG, .meta_flags = MCX_ITEM_FLAGS};

    if (mcx_cache_begin(&call, self, MC_MG) < 0) {
        return NULL;
    }
    if (mcx_multi_run(&all, MCX_COUNT_GET_MULTI, keys, call.cache->prefix) == 0 &&
        give_leases_back(&all) == 0) {
        result = mcx_multi_judge(&all, Py_NewRef(all.result));
    }
    mcx_multi_finish(&all);
    return mcx_cache_end(&call, result, NULL);
}

#define RAISES                                                                                     \
    "Raises MemcacheError, by errors; TypeError or ValueError for a wrong argument, before\n"      \
    "anything is sent."

PyMethodDef mcx_cache_item_methods[] = {
    {"get_item", cache_get_item, METH_O,
     "get_item($self, key, /)\n--\n\n"
     "Fetch an Item: the value with its flags, its token (cas), ttl and age in seconds, its size\n"
     "in bytes, whether it was read before (hit) and whether it was invalidated (stale), by one\n"
     "mg (protocol.txt, \"Meta Commands\"). Where the server has no meta protocol: the value, its\n"
     "flags and token by gets, and None for the others.\n\n"
     "key: str or bytes, at most 250 bytes with the prefix.\n\n"
     "Returns an Item, or None where there is none.\n" RAISES},
    {"get_items", cache_get_items, METH_O,
     "get_items($self, keys, /)\n--\n\n"
     "Fetch many Items, from all their servers at once; see get_item.\n\n"
     "Returns a dict of those found, under the caller's own key objects. Raises PartialFailure,\n"
     "with what was found, where a server failed, unless errors=\"miss\"; TypeError or ValueError\n"
     "for a wrong key, before anything is sent."},
    MCX_DEF(
        "get_and_touch", cache_get_and_touch,
        "get_and_touch($self, key, ttl, default=None)\n--\n\n"
        "Fetch the value of key, and set a new time to live, in one step; where the server has\n"
        "no meta protocol, in two.\n\n"
        "ttl: seconds, a timedelta, or None: until it is evicted.\n\n"
        "Returns the value, or default where there is none.\n" RAISES),
    {NULL, NULL, 0, NULL},
};
