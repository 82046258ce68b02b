/* change: delete, touch, incr, decr. */
#include "core/wire/command.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "arguments.h"
#include "ask.h"
#include "call.h"
#include "compat.h"
#include "keys.h"
#include "log.h"
#include "methods.h"
#include "pure.h"
#include "target.h"

/* Sends "delete key [time]" or "touch key time". argument: decimal text or empty. */
static PyObject *delete_or_touch(mcx_call *call, mc_command command, const mcx_key *key,
                                 mc_slice argument, bool noreply)
{
    mcx_request request = {.command = command, .argument = argument, .noreply = noreply};
    mc_reply_type good = command == MC_DELETE ? MC_REPLY_DELETED : MC_REPLY_TOUCHED;
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    int there = mcx_select(call, key, &target);
    int result = -1;

    if (there <= 0) {
        return there < 0 ? NULL : PyLong_FromLong(0);
    }
    if (mcx_count(call, (int)command) < 0) {
        mcx_target_end(call, &target, true);
        return NULL;
    }
    request.key = key->text;
    there = mcx_ask(call, &target, &request, &answer);
    if (there < 0) {
        return NULL;
    }
    result = noreply ? there : there > 0 && answer.type == good;
    if (result == 0 && answer.line != NULL &&
        mcx_debuglog(call, "%s expected %s, got: %R", mc_commands[command].name.bytes,
                     command == MC_DELETE ? "DELETED" : "TOUCHED", answer.line) < 0) {
        result = -1;
    }
    Py_XDECREF(answer.line);
    return result < 0 ? NULL : PyLong_FromLong(result);
}

/* The same with the method's arguments; time NULL or 0 is left out of a delete. */
static PyObject *delete_or_touch_object(mcx_call *call, mc_command command, PyObject *object,
                                        PyObject *time, PyObject *noreply)
{
    mcx_decimal decimal;
    mcx_key key;
    bool quiet;
    PyObject *result = NULL;

    if (mcx_flag(noreply, &quiet) < 0) {
        return NULL;
    }
    if (command == MC_TOUCH ? mcx_touch_time(time, "time", &decimal) < 0
                            : mcx_time(time == Py_None ? NULL : time, "time", &decimal) < 0) {
        return NULL;
    }
    if (command == MC_DELETE && decimal.text.length == 1 && decimal.text.bytes[0] == '0') {
        decimal.text.length = 0;
    }
    if (mcx_key_single(call, object, &key) == 0) {
        result = delete_or_touch(call, command, &key, decimal.text, quiet);
        mcx_key_clear(&key);
    }
    Py_XDECREF(decimal.owner);
    return result;
}

static const mcx_signature delete_signature = {
    .method = "delete", .count = 3, .required = 1, .names = {"key", "noreply", "time"}};

static PyObject *client_delete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    PyObject *values[3], *result;
    mcx_call call;

    if (mcx_bind(&delete_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_delete, args, nargs, kwnames);
    }
    result = delete_or_touch_object(&call, MC_DELETE, values[0], values[2], values[1]);
    return mcx_call_finish(&call, result, MCX_PURE_delete, args, nargs, kwnames);
}

static const mcx_signature touch_signature = {
    .method = "touch", .count = 3, .required = 1, .names = {"key", "time", "noreply"}};

static PyObject *client_touch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    PyObject *values[3], *result;
    mcx_call call;

    if (mcx_bind(&touch_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_touch, args, nargs, kwnames);
    }
    result = delete_or_touch_object(&call, MC_TOUCH, values[0], values[1], values[2]);
    return mcx_call_finish(&call, result, MCX_PURE_touch, args, nargs, kwnames);
}

/* What incr and decr return for an answer (there > 0) or for none. */
static PyObject *number_result(mcx_call *call, const mcx_request *request, int there,
                               const mcx_answer *answer)
{
    if (there > 0 && !request->noreply && answer->type == MC_REPLY_NUMBER) {
        return PyLong_FromUnsignedLongLong(answer->number);
    }
    if (there > 0 && answer->type == MC_REPLY_CLIENT_ERROR) {
        PyObject *words = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(answer->line),
                                               PyBytes_GET_SIZE(answer->line), "replace");

        if (words != NULL) {
            PyErr_SetObject(PyExc_ValueError, words);
            Py_DECREF(words);
        }
        return NULL;
    }
    if (there == 0 && answer->line != NULL &&
        mcx_debuglog(call, "%s expected a number, got: %R",
                     mc_commands[request->command].name.bytes, answer->line) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* On the server of a checked key. */
static PyObject *arithmetic_on(mcx_call *call, mcx_request *request, const mcx_key *key)
{
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    PyObject *result = NULL;
    int there = mcx_select(call, key, &target);

    if (there > 0 && UNLIKELY(mcx_count(call, (int)request->command) < 0)) {
        mcx_target_end(call, &target, true);
        there = -1;
    }
    if (there > 0) {
        request->key = key->text;
        there = mcx_ask(call, &target, request, &answer);
    }
    if (there >= 0) {
        result = number_result(call, request, there, &answer);
    }
    Py_XDECREF(answer.line);
    return result;
}

static PyObject *arithmetic(mcx_call *call, mc_command command, PyObject *object, PyObject *delta,
                            PyObject *noreply)
{
    mcx_request request = {.command = command};
    mcx_decimal decimal = {.owner = NULL, .text = {"1", 1}};
    mcx_key key;
    PyObject *result = NULL;

    if (mcx_flag(noreply, &request.noreply) < 0 ||
        (delta != NULL && mcx_delta(delta, &decimal) < 0)) {
        return NULL;
    }
    if (mcx_key_single(call, object, &key) == 0) {
        request.argument = decimal.text;
        result = arithmetic_on(call, &request, &key);
        mcx_key_clear(&key);
    }
    Py_XDECREF(decimal.owner);
    return result;
}

#define SIGNATURE(name)                                                                            \
    {                                                                                              \
        .method = (name), .count = 3, .required = 1, .names = { "key", "delta", "noreply" }        \
    }

static PyObject *arithmetic_method(mc_command command, PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames)
{
    static const mcx_signature signatures[MC_COMMANDS] = {
        [MC_INCR] = SIGNATURE("incr"), [MC_DECR] = SIGNATURE("decr")};
    int way = command == MC_INCR ? MCX_PURE_incr : MCX_PURE_decr;
    PyObject *values[3], *result;
    mcx_call call;

    if (LIKELY(kwnames == NULL && (nargs == 1 || nargs == 2))) {
        values[0] = args[0];
        values[1] = nargs == 2 ? args[1] : NULL;
        values[2] = NULL;
    }
    else if (mcx_bind(&signatures[command], args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);

    if (UNLIKELY(begun != 0)) {
        return begun < 0 ? NULL : mcx_pure(self, way, args, nargs, kwnames);
    }
    result = arithmetic(&call, command, values[0], values[1], values[2]);
    return mcx_call_finish(&call, result, way, args, nargs, kwnames);
}

static WHOLE PyObject *client_incr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    return arithmetic_method(MC_INCR, self, args, nargs, kwnames);
}

static PyObject *client_decr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    return arithmetic_method(MC_DECR, self, args, nargs, kwnames);
}

PyMethodDef mcx_change_methods[] = {
    MCX_DEF("delete", client_delete,
            "delete($self, key, noreply=False, time=0)\n--\n\n"
            "Delete key (protocol.txt, \"Deletion\"). time is sent only where it is not 0: an\n"
            "argument of old servers, kept for old callers.\n\n"
            "Returns 1 where the key was there (or with noreply), else 0.\n" MCX_RAISES),
    MCX_DEF("touch", client_touch,
            "touch($self, key, time=0, noreply=False)\n--\n\n"
            "Set a new expiry for key (protocol.txt, \"Touch\").\n\n"
            "time: seconds until the value expires, an absolute Unix time, or a timedelta; 0: "
            "never.\nA str of digits is taken too.\n\n"
            "Returns 1 where the key was there (or with noreply), else 0.\n" MCX_RAISES),
    MCX_DEF(
        "incr", client_incr,
        "incr($self, key, delta=1, noreply=False)\n--\n\n"
        "Add delta, 0 to 2**64-1, to the decimal number stored under key (protocol.txt,\n"
        "\"Increment/Decrement\"); it wraps at 2**64.\n\n"
        "Returns the new int, None for a missing key, no server, or noreply. Raises ValueError\n"
        "with the server's words where the value is no number.\n" MCX_RAISES),
    MCX_DEF("decr", client_decr,
            "decr($self, key, delta=1, noreply=False)\n--\n\n"
            "Subtract delta from the decimal number stored under key (protocol.txt,\n"
            "\"Increment/Decrement\"); never below 0.\n\n"
            "Returns and raises as incr."),
    {NULL, NULL, 0, NULL},
};
