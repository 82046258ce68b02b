/* store: set, add, replace, append, prepend, cas. */
#include "core/net/clock.h"
#include "core/wire/key.h"

#include "arguments.h"
#include "ask.h"
#include "call.h"
#include "compat.h"
#include "keys.h"
#include "log.h"
#include "methods.h"
#include "pure.h"
#include "server.h"
#include "shared.h"
#include "target.h"
#include "values.h"

typedef struct {
    PyObject *value;
    PyObject *time;
    PyObject *min_compress;
    PyObject *noreply;
} store_arguments;

/* The token of key that a gets left: 1 with *cas, 0, -1. */
static int find_cas(mcx_call *call, mc_slice key, uint64_t *cas)
{
    PyObject *cas_ids = call->record->cas_ids;
    PyObject *name, *number;
    int there;

    if (cas_ids == NULL) {
        return 0;
    }
    name = PyBytes_FromStringAndSize(key.bytes, (Py_ssize_t)key.length);
    if (name == NULL) {
        return -1;
    }
    Py_INCREF(cas_ids);                         /* what it calls may forget it: reset_cas() */
    there = PySequence_Contains(cas_ids, name); /* a defaultdict has an item for any key */
    number = there > 0 ? PyObject_GetItem(cas_ids, name) : NULL;
    Py_DECREF(cas_ids);
    Py_DECREF(name);
    if (number == NULL) {
        if (there == 0) {
            return 0;
        }
        if (there < 0 || !PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    *cas = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (*cas == (uint64_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "a token in cas_ids must be between 0 and 2**64-1");
        }
        else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_SetString(PyExc_TypeError, "a token in cas_ids must be an int");
        }
        return -1;
    }
    return 1;
}

/* missing: what it is where no answer came that the protocol allows. */
static PyObject *store_result(mcx_server *host, const mcx_answer *answer, PyObject *missing)
{
    if (LIKELY(answer->type == MC_REPLY_STORED)) {
        Py_RETURN_TRUE;
    }
    if (answer->line != NULL &&
        mcx_debuglog_line(host, "while expecting 'STORED', got unexpected response %R",
                          mcx_bytes_of(answer->line)) < 0) {
        return NULL;
    }
    return Py_NewRef(missing);
}

/* The value as it is stored: 1, 0 where it is too large to send, -1. */
static inline int serialise(mcx_call *call, const store_arguments *given, mcx_stored *stored)
{
    const mcx_snapshot *snapshot = call->snapshot;
    int64_t before;
    int kept;

    if (LIKELY(given->min_compress == NULL && mcx_plain_value(given->value, stored))) {
        return mcx_may_be_sent(snapshot, stored->text.length) &&
               stored->text.length <= (size_t)snapshot->max_length;
    }
    before = mc_clock_now();
    kept = mcx_store_info(call, given->value, given->min_compress, stored);
    mcx_leave_out(call, before);
    return kept;
}

/* What a storage command returns for an answer (there > 0) or for none. */
static PyObject *result_of(mcx_server *host, const mcx_request *request, int there,
                           const mcx_answer *answer)
{
    PyObject *zero, *result;

    if (LIKELY(there > 0)) {
        return request->noreply ? Py_NewRef(Py_True) : store_result(host, answer, Py_False);
    }
    zero = there == 0 ? PyLong_FromLong(0) : NULL;
    result = zero ? store_result(host, answer, zero) : NULL;
    Py_XDECREF(zero);
    return result;
}

/* cas sends its token, where there is one; else it is a set. */
static APART int prepare_cas(mcx_call *call, mcx_request *request, uint64_t *token)
{
    int there = find_cas(call, request->key, token);

    if (there > 0) {
        request->cas = token;
    }
    else if (there == 0) {
        request->command = MC_SET;
        there = mcx_count(call, MC_SET);
    }
    return there < 0 ? -1 : 0;
}

/* On a connected target, which it ends. */
static PyObject *store_on(mcx_call *call, mcx_target *target, mcx_request request,
                          const store_arguments *given)
{
    mcx_stored stored = {.owner = NULL};
    mcx_answer answer = {.line = NULL};
    mcx_server *host;
    PyObject *result = NULL;
    uint64_t token;
    int there;

    if (UNLIKELY(mcx_count(call, (int)request.command) < 0) ||
        (request.command == MC_CAS && prepare_cas(call, &request, &token) < 0)) {
        mcx_target_end(call, target, true);
        return NULL;
    }
    there = serialise(call, given, &stored);
    if (UNLIKELY(there <= 0)) {
        mcx_target_end(call, target, true); /* nothing was sent */
        result = there == 0 ? PyLong_FromLong(0) : NULL;
    }
    else {
        request.value = &stored;
        host = (mcx_server *)Py_NewRef((PyObject *)target->host);
        there = mcx_ask(call, target, &request, &answer);
        result = result_of(host, &request, there, &answer);
        Py_DECREF((PyObject *)host);
    }
    Py_XDECREF(answer.line);
    mcx_stored_clear(&stored);
    return result;
}

static PyObject *store(mcx_call *call, mc_command command, const mcx_key *key,
                       const store_arguments *given)
{
    mcx_request request = {.command = command, .key = key->text};
    mcx_target target;
    mcx_decimal exptime;
    PyObject *result;

    if (UNLIKELY(mcx_min_compress(given->min_compress) < 0 ||
                 mcx_flag(given->noreply, &request.noreply) < 0 ||
                 mcx_time(given->time, "time", &exptime) < 0)) {
        return NULL;
    }
    int there = mcx_key_check_store(call->module, call->snapshot, key->text);

    there = there < 0 ? -1 : mcx_select(call, key, &target);
    if (LIKELY(there > 0)) {
        request.argument = exptime.text;
        result = store_on(call, &target, request, given);
    }
    else {
        result = there == 0 ? PyLong_FromLong(0) : NULL;
    }
    Py_XDECREF(exptime.owner);
    return result;
}

#define SIGNATURE(name)                                                                            \
    {                                                                                              \
        .method = (name), .count = 5, .required = 2, .names = {                                    \
            "key",                                                                                 \
            "val",                                                                                 \
            "time",                                                                                \
            "min_compress_len",                                                                    \
            "noreply"                                                                              \
        }                                                                                          \
    }

static const mcx_signature signatures[MC_COMMANDS] = {
    [MC_SET] = SIGNATURE("set"),         [MC_ADD] = SIGNATURE("add"),
    [MC_REPLACE] = SIGNATURE("replace"), [MC_APPEND] = SIGNATURE("append"),
    [MC_PREPEND] = SIGNATURE("prepend"), [MC_CAS] = SIGNATURE("cas"),
};

static PyObject *storage_method(mc_command command, PyObject *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[5];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (LIKELY(kwnames == NULL && (nargs == 2 || nargs == 3))) {
        values[0] = args[0];
        values[1] = args[1];
        values[2] = nargs == 3 ? args[2] : NULL;
        values[3] = values[4] = NULL;
    }
    else if (mcx_bind(&signatures[command], args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int way = MCX_PURE_set + (int)command - MC_SET;
    int begun = mcx_call_begin(&call, self);
    if (UNLIKELY(begun != 0)) {
        return begun < 0 ? NULL : mcx_pure(self, way, args, nargs, kwnames);
    }
    if (LIKELY(mcx_key_single(&call, values[0], &key) == 0)) {
        store_arguments given = {values[1], values[2], values[3], values[4]};

        result = store(&call, command, &key, &given);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, way, args, nargs, kwnames);
}

static WHOLE PyObject *client_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    return storage_method(MC_SET, self, args, nargs, kwnames);
}

static PyObject *client_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    return storage_method(MC_ADD, self, args, nargs, kwnames);
}

static PyObject *client_replace(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    return storage_method(MC_REPLACE, self, args, nargs, kwnames);
}

static PyObject *client_append(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return storage_method(MC_APPEND, self, args, nargs, kwnames);
}

static PyObject *client_prepend(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    return storage_method(MC_PREPEND, self, args, nargs, kwnames);
}

static PyObject *client_cas(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    return storage_method(MC_CAS, self, args, nargs, kwnames);
}

#define STORAGE_SIGNATURE "($self, key, val, time=0, min_compress_len=0, noreply=False)\n--\n\n"

#define STORAGE_ARGUMENTS                                                                          \
    "key: str, bytes, or a tuple (hash, key).\n"                                                   \
    "time: seconds until the value expires, an absolute Unix time, or a timedelta; 0: never.\n"    \
    "min_compress_len: a value of more bytes than this is compressed with zlib; 0: never.\n"       \
    "noreply: do not wait for the server's answer.\n\n"

#define STORAGE_RETURNS                                                                            \
    "Returns True or False by the server's word, True with noreply, 0 where no server could be\n"  \
    "reached or the value is too large. Raises what pickling a value raises.\n" MCX_RAISES

PyMethodDef mcx_store_methods[] = {
    MCX_DEF(
        "set", client_set,
        "set" STORAGE_SIGNATURE "Store val under key (protocol.txt, \"Storage commands\").\n"
        "A value too large for the client (server_max_value_length) leaves the old value there;\n"
        "one that memcached refuses removes the old value.\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("add", client_add,
            "add" STORAGE_SIGNATURE "Store val only where the key is not there yet (protocol.txt, "
            "\"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("replace", client_replace,
            "replace" STORAGE_SIGNATURE
            "Store val only where the key is there already (protocol.txt, \"Storage "
            "commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("append", client_append,
            "append" STORAGE_SIGNATURE
            "Add val behind the value that is there, which keeps its flags and its time\n"
            "(protocol.txt, \"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("prepend", client_prepend,
            "prepend" STORAGE_SIGNATURE
            "Add val before the value that is there, which keeps its flags and its time\n"
            "(protocol.txt, \"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("cas", client_cas,
            "cas" STORAGE_SIGNATURE
            "Store val only where the value has not changed since this thread's last gets(key)\n"
            "(protocol.txt, \"Storage commands\").\n"
            "This takes a client with cache_cas=True. Without it, or where no gets found the key,\n"
            "there is no token, and it is set, which overwrites, as in python-memcached; after a\n"
            "miss use add:\n\n"
            "    for attempt in range(100):\n"
            "        old = client.gets(key)\n"
            "        if client.add(key, first) if old is None else client.cas(key, change(old)):\n"
            "            break\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    {NULL, NULL, 0, NULL},
};
