/* cache_lease: what get_or_set and invalidate say to the server. The hit of a get_or_set ends here;
 * everything else of it is mcext.fill's, in Python, which comes back for each single step. */
#include <string.h>

#include "core/wire/command.h"
#include "core/wire/meta.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_lease.h"
#include "cache_meta.h"
#include "call.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "methods.h"
#include "retrieve.h"
#include "state.h"
#include "target.h"

/* ---- looking, with a lease ------------------------------------------------------------------ */

static size_t put_flag(char *to, char letter, uint64_t number)
{
    to[0] = ' ';
    to[1] = letter;
    return 2 + mc_number_format(to + 2, number);
}

INLINE mc_slice mcx_look_flags(char text[MCX_LOOK_FLAGS], uint64_t lease, uint64_t refresh)
{
    size_t length = 7;

    memcpy(text, "v k f c", length);
    length += put_flag(text + length, 'N', lease);
    if (refresh != 0) {
        length += put_flag(text + length, 'R', refresh);
    }
    return (mc_slice){text, length};
}

mc_slice mcx_release_flags(char text[MCX_RELEASE_FLAGS], bool has_value, uint64_t token)
{
    size_t length = has_value ? 2 : 0;

    memcpy(text, "I C", 3);
    text[length] = 'C';
    return (mc_slice){text, length + 1 + mc_number_format(text + length + 1, token)};
}

INLINE mcx_look mcx_judge_look(const mc_reply *reply, mcx_retrieved *got)
{
    bool is_stub = mcx_is_stub(got->flags, (size_t)reply->length);
    mcx_look found;

    if (LIKELY(got->found && !is_stub && !mc_meta_has(reply, 'W'))) {
        found = LIKELY(!mc_meta_has(reply, 'Z')) ? MCX_LOOK_HIT : MCX_LOOK_OLD;
    }
    else if (!got->found) {
        found = MCX_LOOK_NO_LEASE;
    }
    else if (mc_meta_has(reply, 'W') || !mc_meta_has(reply, 'Z')) {
        found = MCX_LOOK_WON; /* what others store as no bytes and no flags is nobody's lease */
    }
    else {
        found = MCX_LOOK_TAKEN;
    }
    if (UNLIKELY(is_stub)) {
        got->found = false;
        Py_CLEAR(got->value);
        Py_CLEAR(got->body);
    }
    return found;
}

/* Asks for the value, for a lease where there is none, and for the right to refresh one that has
 * less than refresh seconds. */
static mcx_meta_outcome look_up(mcx_call *call, const mcx_key *key, uint64_t lease,
                                uint64_t refresh, mcx_retrieved *got, mcx_look *found)
{
    char text[MCX_LOOK_FLAGS];
    mc_reply reply = {.letters = 0};
    mcx_meta_outcome outcome =
        mcx_meta_get(call, key, mcx_look_flags(text, lease, refresh), true, got, &reply);

    *found = LIKELY(outcome == MCX_META_ANSWERED) ? mcx_judge_look(&reply, got) : MCX_LOOK_NO_META;
    return outcome;
}

PyObject *mcx_look_tuple(mcx_call *call, mcx_look found, mcx_retrieved *got)
{
    PyObject *value = got->found ? mcx_retrieved_value(call, got) : Py_NewRef(Py_None);

    return value ? Py_BuildValue("(iNKO)", (int)found, value, (unsigned long long)got->cas,
                                 got->found ? Py_True : Py_False)
                 : NULL;
}

/* One call that looks. *looked is what it found, the result too; but a hit, where serves_hit, is
 * the result itself, and *looked NULL. Raises whatever errors says. */
static INLINE PyObject *look_once(PyObject *self, PyObject *object, uint64_t lease,
                                  uint64_t refresh, bool serves_hit, PyObject **looked)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_retrieved got = {0};
    mcx_look found;

    *looked = NULL;
    if (UNLIKELY(mcx_cache_begin(&call, self, MC_MG) < 0)) {
        return NULL;
    }
    call.raises = true;
    if (LIKELY(mcx_cache_key_of(&call, object, &key) == 0)) {
        mcx_meta_outcome outcome = look_up(&call, &key.key, lease, refresh, &got, &found);

        if (LIKELY(serves_hit && outcome == MCX_META_ANSWERED && found == MCX_LOOK_HIT)) {
            result = mcx_retrieved_value(&call, &got);
        }
        else if (outcome == MCX_META_ANSWERED || outcome == MCX_META_NONE) {
            *looked = result = mcx_look_tuple(&call, found, &got);
        }
        mcx_retrieved_clear(&got);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, NULL);
}

/* _look(key, lease, refresh): what there is, and perhaps the lease. */
static PyObject *cache_look(PyObject *self, PyObject *args)
{
    PyObject *object, *looked;
    unsigned int lease, refresh;

    return PyArg_ParseTuple(args, "OII", &object, &lease, &refresh)
               ? look_once(self, object, lease, refresh, false, &looked)
               : NULL;
}

/* ---- get_or_set ----------------------------------------------------------------------------- */

enum {
    KEY,
    FACTORY,
    TTL,
    REFRESH,
    LEASE,
    WAIT,
    STALE,
    FALLBACK,
    ARGUMENTS
};

static const mcx_signature get_or_set_signature = {
    .method = "get_or_set",
    .count = ARGUMENTS,
    .required = 2,
    .names = {"key", "factory", "ttl", "refresh", "lease", "wait", "stale", "fallback"}};

#define MOST_SECONDS (60L * 60 * 24 * 30) /* memcached takes more for a time of day */

/* A plain int of that range; false where the arguments are for Python to look at. */
static bool read_seconds(PyObject *object, long fallback, long least, long *seconds)
{
    int overflow = 0;

    *seconds = fallback;
    if (object == NULL) {
        return true;
    }
    if (!PyLong_CheckExact(object)) {
        return false;
    }
    *seconds = PyLong_AsLongAndOverflow(object, &overflow);
    return !overflow && *seconds >= least && *seconds <= MOST_SECONDS;
}

/* Whether the arguments are right at one look, and what is asked of the server by them. */
static bool read_plain(PyObject *const *values, uint64_t *lease, uint64_t *refresh)
{
    long ttl, before, leased, stale;

    if (!read_seconds(values[TTL] == Py_None ? NULL : values[TTL], LONG_MAX, 1, &ttl) ||
        !read_seconds(values[REFRESH], 0, 0, &before) ||
        !read_seconds(values[LEASE], 30, 2, &leased) ||
        !read_seconds(values[STALE], 0, 0, &stale)) {
        return false;
    }
    *lease = (uint64_t)leased;
    *refresh = (uint64_t)(before + stale);
    return before < ttl && before + stale <= MOST_SECONDS && values[WAIT] == NULL &&
           values[FALLBACK] == NULL && PyCallable_Check(values[FACTORY]);
}

/* mcext.fill.get_or_set(cache, *values, look): behind a look that was no hit, or without one. */
static COLD PyObject *go_on(PyObject *self, PyObject *const *values, PyObject *looked)
{
    PyObject *function = mcx_import("mcext.fill", "get_or_set");
    PyObject *all[ARGUMENTS + 2] = {self}, *result;

    if (function == NULL) {
        return NULL;
    }
    for (int i = 0; i < ARGUMENTS; i++) {
        all[i + 1] = values[i] != NULL ? values[i] : Py_None;
    }
    all[ARGUMENTS + 1] = looked != NULL ? looked : Py_None;
    result = PyObject_Vectorcall(function, all, ARGUMENTS + 2, NULL);
    Py_DECREF(function);
    return result;
}

static WHOLE PyObject *cache_get_or_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames)
{
    PyObject *values[ARGUMENTS], *looked, *result;
    uint64_t lease, refresh;

    if (UNLIKELY(mcx_cache_bind(&get_or_set_signature, 3, args, nargs, kwnames, values) < 0)) {
        return NULL;
    }
    if (UNLIKELY(!read_plain(values, &lease, &refresh))) {
        return go_on(self, values, NULL);
    }
    result = look_once(self, values[KEY], lease, refresh, true, &looked);
    if (LIKELY(result != NULL && looked == NULL)) {
        return result;
    }
    if (result == NULL) {
        looked = mcx_fault_take("MemcacheError");
    }
    if (looked == NULL) {
        return NULL;
    }
    result = go_on(self, values, looked);
    Py_DECREF(looked);
    return result;
}

/* ---- invalidate, release -------------------------------------------------------------------- */

/* md with these flags; True, False, or None where the server has no meta protocol. */
static PyObject *meta_delete(PyObject *self, PyObject *object, mc_slice flags,
                             mc_meta_level at_least)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mc_reply_type type = MC_REPLY_OTHER;

    if (mcx_cache_begin(&call, self, MC_MD) < 0) {
        return NULL;
    }
    if (mcx_cache_key_of(&call, object, &key) == 0) {
        switch (mcx_meta_delete(&call, &key.key, flags, at_least, &type)) {
        case MCX_META_ANSWERED:
            result = PyBool_FromLong(type == MC_REPLY_HD);
            break;
        case MCX_META_NONE:
            result = Py_NewRef(Py_None);
            break;
        default:
            break;
        }
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_False);
}

/* _invalidate(key, seconds or -1): marks the item stale. */
static PyObject *cache_invalidate(PyObject *self, PyObject *args)
{
    PyObject *object;
    long long seconds;
    char text[32] = "I";
    size_t length = 1;

    if (!PyArg_ParseTuple(args, "OL", &object, &seconds)) {
        return NULL;
    }
    if (seconds >= 0) {
        length += put_flag(text + length, 'T', (uint64_t)seconds);
    }
    return meta_delete(self, object, (mc_slice){text, length}, MC_META_LEASES);
}

/* _release(key, token, whether there is an old value): the lease that this caller holds. */
static PyObject *cache_release(PyObject *self, PyObject *args)
{
    PyObject *object;
    unsigned long long token;
    int has_value;
    char text[MCX_RELEASE_FLAGS];

    if (!PyArg_ParseTuple(args, "OKp", &object, &token, &has_value)) {
        return NULL;
    }
    return meta_delete(self, object, mcx_release_flags(text, has_value, token), MC_META_STABLE);
}

/* ---- a lease beside the key, where there is no meta protocol --------------------------------- */

/* "add" or "delete" of key + suffix on the key's own server. */
static PyObject *beside(PyObject *self, PyObject *object, mc_slice suffix, mc_command command,
                        mc_slice exptime)
{
    mcx_stored nothing = {.text = {"1", 1}, .owner = NULL, .flags = MCX_FLAG_INTEGER};
    char text[MC_PROTOCOL_KEY_LENGTH];
    PyObject *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    mcx_request request = {
        .command = command, .argument = exptime, .value = command == MC_ADD ? &nothing : NULL};

    if (mcx_cache_begin(&call, self, command) < 0) {
        return NULL;
    }
    call.raises = true;
    if (mcx_cache_key_of(&call, object, &key) == 0) {
        size_t length = key.key.text.length;

        if (length + suffix.length > sizeof text) {
            result = Py_NewRef(Py_None); /* no room for a lease */
        }
        else if (mcx_select(&call, &key.key, &target) > 0) {
            memcpy(text, key.key.text.bytes, length);
            memcpy(text + length, suffix.bytes, suffix.length);
            request.key = (mc_slice){text, length + suffix.length};
            if (mcx_ask(&call, &target, &request, &answer) > 0 && call.faults == NULL) {
                result = PyBool_FromLong(answer.type == MC_REPLY_STORED ||
                                         answer.type == MC_REPLY_DELETED);
            }
            Py_XDECREF(answer.line);
        }
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, NULL);
}

/* _add_beside(key, suffix, seconds), _delete_beside(key, suffix): True, False, or None where the
 * key is too long for that. */
static PyObject *cache_add_beside(PyObject *self, PyObject *args)
{
    PyObject *object;
    mc_slice suffix;
    Py_ssize_t length;
    unsigned int seconds;
    char digits[MC_NUMBER_MAX_DIGITS];

    if (!PyArg_ParseTuple(args, "Oy#I", &object, &suffix.bytes, &length, &seconds)) {
        return NULL;
    }
    suffix.length = (size_t)length;
    size_t digit_count = mc_number_format(digits, seconds);

    return beside(self, object, suffix, MC_ADD, (mc_slice){digits, digit_count});
}

static PyObject *cache_delete_beside(PyObject *self, PyObject *args)
{
    PyObject *object;
    mc_slice suffix;
    Py_ssize_t length;

    if (!PyArg_ParseTuple(args, "Oy#", &object, &suffix.bytes, &length)) {
        return NULL;
    }
    suffix.length = (size_t)length;
    return beside(self, object, suffix, MC_DELETE, (mc_slice){NULL, 0});
}

PyMethodDef mcx_cache_lease_methods[] = {
    MCX_DEF(
        "get_or_set", cache_get_or_set,
        "get_or_set($self, key, factory, ttl=None, *, refresh=0, lease=30, wait=None, stale=0, "
        "fallback='compute')\n--\n\n"
        "Fetch the value of key, or factory() once among all processes, which is then stored.\n\n"
        "Where there is none, one caller of all computes, and the others wait for its value. It "
        "is\nstored only if nobody has written, deleted or invalidated the key meanwhile.\n\n"
        "factory: called without arguments, with no lock and no connection held.\n"
        "ttl: seconds, a timedelta, or None: until it is evicted.\n"
        "refresh: in the last so many seconds of ttl one caller computes anew, and the others\n"
        "    are served the old value.\n"
        "lease: seconds, 2 at least, after which another takes over from one that died.\n"
        "wait: seconds to wait for another's value; None: twice the lease.\n"
        "stale: seconds beyond ttl for which the old value is kept, served while one caller\n"
        "    computes, and where factory raises.\n"
        "fallback: where the server fails, or wait is over: \"compute\": factory() without "
        "storing,\n    \"raise\": a MemcacheError.\n\n"
        "A key of get_or_set is read by get_or_set, get and their kind: to other clients the "
        "place\nof a value that is being computed is b\"\".\n\n"
        "Returns the value. Raises what factory raises; MemcacheError, LeaseTimeout by fallback;\n"
        "TypeError or ValueError for a wrong argument, before anything is sent."),
    {"_look", cache_look, METH_VARARGS, NULL},
    {"_invalidate", cache_invalidate, METH_VARARGS, NULL},
    {"_release", cache_release, METH_VARARGS, NULL},
    {"_add_beside", cache_add_beside, METH_VARARGS, NULL},
    {"_delete_beside", cache_delete_beside, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
