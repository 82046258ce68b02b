/* cache_change: a Cache's delete, touch, incr, decr. */
#include "core/wire/command.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_meta.h"
#include "cache_values.h"
#include "call.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"
#include "target.h"

/* The answer of key's server: 1; 0: a fault is noted; -1 with an exception. */
static int ask(mcx_call *call, const mcx_request *request, const mcx_key *key, mcx_answer *answer)
{
    mcx_target target;
    int there = mcx_select(call, key, &target);

    if (LIKELY(there > 0)) {
        there = mcx_ask(call, &target, request, answer);
    }
    Py_CLEAR(answer->line);
    return there > 0 && mc_reply_is_error(answer->type) ? 0 : there;
}

/* ---- delete, touch -------------------------------------------------------------------------- */

static PyObject *delete_or_touch(mcx_call *call, mc_command command, const mcx_key *key,
                                 mc_slice argument)
{
    mcx_request request = {.command = command, .key = key->text, .argument = argument};
    mcx_answer answer = {.line = NULL};

    return ask(call, &request, key, &answer) > 0
               ? PyBool_FromLong(answer.type != MC_REPLY_NOT_FOUND)
               : NULL;
}

/* By its token, which takes the meta protocol. */
static PyObject *delete_by_token(mcx_call *call, const mcx_key *key, uint64_t token)
{
    char text[1 + MC_NUMBER_MAX_DIGITS] = "C";
    mc_slice flags = {text, 1 + mc_number_format(text + 1, token)};
    mc_reply_type type = MC_REPLY_OTHER;
    mcx_meta_outcome outcome = mcx_meta_delete(call, key, flags, MC_META_STABLE, &type);

    if (outcome == MCX_META_NONE && mcx_fault_no_meta(call) == 0) {
        outcome = MCX_META_FAILED;
    }
    return outcome == MCX_META_ANSWERED ? PyBool_FromLong(type == MC_REPLY_HD) : NULL;
}

static const mcx_signature delete_signature = {
    .method = "delete", .count = 2, .required = 1, .names = {"key", "cas"}};

static PyObject *cache_delete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    static const mc_slice none = {NULL, 0};
    PyObject *values[2], *result = NULL;
    uint64_t token = 0;
    mcx_call call;
    mcx_cache_key key;

    if (mcx_cache_bind(&delete_signature, 1, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    bool has_token = values[1] != NULL && values[1] != Py_None;

    if ((has_token && mcx_cache_token(values[1], &token) < 0) ||
        mcx_cache_begin(&call, self, has_token ? MC_MD : MC_DELETE) < 0) {
        return NULL;
    }
    if (mcx_cache_key_of(&call, values[0], &key) == 0) {
        result = has_token ? delete_by_token(&call, &key.key, token)
                           : delete_or_touch(&call, MC_DELETE, &key.key, none);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_False);
}

static const mcx_signature touch_signature = {
    .method = "touch", .count = 2, .required = 2, .names = {"key", "ttl"}};

static PyObject *cache_touch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    PyObject *values[2], *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_decimal exptime;

    if (mcx_bind(&touch_signature, args, nargs, kwnames, values) < 0 ||
        mcx_cache_ttl(((mcx_cache *)self)->module, values[1], &exptime) < 0 ||
        mcx_cache_begin(&call, self, MC_TOUCH) < 0) {
        return NULL;
    }
    if (mcx_cache_key_of(&call, values[0], &key) == 0) {
        result = delete_or_touch(&call, MC_TOUCH, &key.key, exptime.text);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_False);
}

/* ---- incr, decr ----------------------------------------------------------------------------- */

/* A number may go while it is made, and be made while it is asked for. */
#define ROUNDS 16

typedef struct {
    mc_command command;
    mc_slice delta;
    PyObject *initial; /* int, borrowed; NULL: a missing number stays missing */
    mc_slice exptime;  /* of one that is made */
} order;

/* Makes the missing number: 1 where this call did, 0 where another was faster, -1 where a fault is
 * noted or with an exception. */
static COLD int make_number(mcx_call *call, const mcx_key *key, const order *what, uint64_t initial)
{
    mcx_stored stored = {.owner = NULL, .flags = MCX_FLAG_INTEGER};
    mcx_request request = {
        .command = MC_ADD, .key = key->text, .argument = what->exptime, .value = &stored};
    mcx_answer answer = {.line = NULL};
    int there;

    stored.text = (mc_slice){stored.digits, mc_number_format(stored.digits, initial)};
    there = ask(call, &request, key, &answer);
    return there <= 0 ? -1 : answer.type == MC_REPLY_STORED;
}

static PyObject *arithmetic(mcx_call *call, const mcx_key *key, const order *what, uint64_t initial)
{
    mcx_request request = {.command = what->command, .key = key->text, .argument = what->delta};

    for (int round = 0; round < ROUNDS; round++) {
        mcx_answer answer = {.line = NULL};
        int there = ask(call, &request, key, &answer);

        if (there <= 0) {
            return NULL;
        }
        if (LIKELY(answer.type == MC_REPLY_NUMBER)) {
            return PyLong_FromUnsignedLongLong(answer.number);
        }
        if (what->initial == NULL) {
            Py_RETURN_NONE;
        }
        there = make_number(call, key, what, initial);
        if (there != 0) {
            return there < 0 ? NULL : PyLong_FromUnsignedLongLong(initial);
        }
    }
    (void)mcx_fault_conflict(call);
    return NULL;
}

int mcx_cache_delta(PyObject *object, mcx_decimal *delta)
{
    if (!PyLong_Check(object)) { /* Client takes digits, too */
        PyErr_Format(PyExc_TypeError, "delta must be an int, not %.200s", Py_TYPE(object)->tp_name);
        return -1;
    }
    return mcx_delta(object, delta);
}

int mcx_cache_initial(PyObject *object, uint64_t *initial)
{
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "initial must be an int, not %.200s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    *initial = PyLong_AsUnsignedLongLong(object);
    if (*initial == (uint64_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "initial must be between 0 and 2**64-1");
        }
        return -1;
    }
    return 0;
}

#define SIGNATURE(name)                                                                            \
    {                                                                                              \
        .method = (name), .count = 4, .required = 1, .names = { "key", "delta", "initial", "ttl" } \
    }

static PyObject *arithmetic_method(mc_command command, PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames)
{
    static const mcx_signature signatures[MC_COMMANDS] = {
        [MC_INCR] = SIGNATURE("incr"), [MC_DECR] = SIGNATURE("decr")};
    PyObject *values[4], *result = NULL;
    order what = {.command = command};
    mcx_decimal delta = {.owner = NULL, .text = {"1", 1}}, exptime;
    uint64_t initial = 0;
    mcx_call call;
    mcx_cache_key key;

    if (mcx_cache_bind(&signatures[command], 2, args, nargs, kwnames, values) < 0 ||
        (values[1] != NULL && mcx_cache_delta(values[1], &delta) < 0)) {
        return NULL;
    }
    what.delta = delta.text;
    what.initial = values[2] == Py_None ? NULL : values[2];
    if ((what.initial != NULL && mcx_cache_initial(what.initial, &initial) < 0) ||
        mcx_cache_ttl(((mcx_cache *)self)->module, values[3], &exptime) < 0 ||
        mcx_cache_begin(&call, self, command) < 0) {
        Py_XDECREF(delta.owner);
        return NULL;
    }
    what.exptime = exptime.text;
    if (mcx_cache_key_of(&call, values[0], &key) == 0) {
        result = arithmetic(&call, &key.key, &what, initial);
        mcx_key_clear(&key.key);
    }
    Py_XDECREF(delta.owner);
    return mcx_cache_end(&call, result, Py_None);
}

static WHOLE PyObject *cache_incr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    return arithmetic_method(MC_INCR, self, args, nargs, kwnames);
}

static PyObject *cache_decr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    return arithmetic_method(MC_DECR, self, args, nargs, kwnames);
}

#define INITIAL                                                                                    \
    "initial: where there is no number, it is made so, once however many callers race, and\n"      \
    "initial is returned; ttl is that of a number that is made: seconds or a timedelta.\n\n"

#define RAISES                                                                                     \
    "Raises MemcacheError, by errors: ServerError where the value is no number; TypeError or\n"    \
    "ValueError for a wrong argument, before anything is sent."

PyMethodDef mcx_cache_change_methods[] = {
    MCX_DEF("delete", cache_delete,
            "delete($self, key, *, cas=None)\n--\n\n"
            "Delete key (protocol.txt, \"Deletion\").\n\n"
            "cas: an Item's token: only where nobody has written since; this takes a server with\n"
            "the meta protocol (memcached 1.6.10).\n\n"
            "Returns True if it was there (and, with cas, as the token says). Raises "
            "MemcacheError,\nby errors; TypeError or ValueError for a wrong argument, before "
            "anything is sent."),
    MCX_DEF(
        "touch", cache_touch,
        "touch($self, key, ttl)\n--\n\n"
        "Set a new time to live for key (protocol.txt, \"Touch\").\n\n"
        "ttl: seconds, a timedelta, or None: until it is evicted.\n\n"
        "Returns True if it was there. Raises MemcacheError, by errors; TypeError or ValueError\n"
        "for a wrong argument, before anything is sent."),
    MCX_DEF("incr", cache_incr,
            "incr($self, key, delta=1, *, initial=None, ttl=None)\n--\n\n"
            "Add delta, 0 to 2**64-1, to the number stored under key (protocol.txt,\n"
            "\"Increment/Decrement\"); it wraps at 2**64.\n\n" INITIAL
            "Returns the new int; None where there is none and no initial.\n" RAISES),
    MCX_DEF("decr", cache_decr,
            "decr($self, key, delta=1, *, initial=None, ttl=None)\n--\n\n"
            "Subtract delta from the number stored under key (protocol.txt,\n"
            "\"Increment/Decrement\"); never below 0.\n\n" INITIAL "Returns and raises as incr."),
    {NULL, NULL, 0, NULL},
};
