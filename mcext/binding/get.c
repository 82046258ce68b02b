/* get: get, gets: one value of one server. */
#include "core/flow/leg.h"
#include "core/wire/key.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "call.h"
#include "compat.h"
#include "drive.h"
#include "keys.h"
#include "methods.h"
#include "move.h"
#include "pure.h"
#include "record.h"
#include "target.h"
#include "values.h"

/* What a retrieval brought: one of value (ready) and body (to be decoded). */
typedef struct {
    PyObject *value;
    PyObject *body;
    uint32_t flags;
    bool found;
} retrieved;

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

/* A VALUE header has come: makes the object that the body goes into, or at once the value. */
static mc_status take_body(mcx_call *call, mc_exchange *exchange, retrieved *got)
{
    mc_reply *reply = &exchange->reply;

    if (LIKELY(exchange->body != NULL) && (got->flags & (MCX_FLAG_ZLIB | MCX_FLAG_PICKLE)) == 0) {
        mc_slice text = {exchange->body, (size_t)reply->length};

        got->value = mcx_decode(call, got->flags, text, NULL);
        return got->value == NULL ? MC_RAISED : MC_OK;
    }
    got->body = PyBytes_FromStringAndSize(exchange->body, (Py_ssize_t)reply->length);
    if (got->body == NULL) {
        return MC_RAISED;
    }
    if (exchange->body == NULL) {
        mc_exchange_give_room(exchange, PyBytes_AS_STRING(got->body));
    }
    return MC_OK;
}

static mc_status take_value(mcx_call *call, mc_exchange *exchange, retrieved *got)
{
    uint64_t cas = exchange->reply.cas;
    bool remembers = exchange->reply.has_cas && call->snapshot->cache_cas;
    mc_status status;

    got->found = true;
    got->flags = exchange->reply.flags;
    status = take_body(call, exchange, got);
    /* Behind that: it may run Python code, by which what the reply's views point to may move. */
    if (status == MC_OK && remembers && remember_cas(call, *exchange->keys, cas) < 0) {
        status = MC_RAISED;
    }
    return status;
}

/* The value of a retrieval that has ended well; got's references are given up. */
static PyObject *value_of(mcx_call *call, retrieved *got, PyObject *default_value)
{
    PyObject *result;

    if (!got->found) {
        return Py_NewRef(default_value);
    }
    if (LIKELY(got->value != NULL)) {
        result = got->value;
        got->value = NULL;
        return result;
    }
    if (got->body == NULL) {
        return NULL; /* memory was out for it */
    }
    /* The connection is given back: what decoding runs may use this client again. */
    mc_slice text = {PyBytes_AS_STRING(got->body), (size_t)PyBytes_GET_SIZE(got->body)};

    result = mcx_decode(call, got->flags, text, got->body);
    Py_CLEAR(got->body);
    return result;
}

/* A value that takes no Python code to decode; NULL, perhaps without an exception, for any other.
 */
static inline PyObject *plain_value_of(uint32_t flags, mc_slice text)
{
    PyObject *value = NULL;
    uint64_t number;

    if (LIKELY(flags == 0)) {
        value = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    }
    else if (flags == MCX_FLAG_TEXT) {
        value = PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, NULL);
        if (UNLIKELY(value == NULL) && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
        }
    }
    else if (flags == MCX_FLAG_INTEGER && mc_number_parse(text.bytes, text.length, &number)) {
        value = PyLong_FromUnsignedLongLong(number);
    }
    return value;
}

/* The reply in one look, where it is what comes mostly: true where that was all. */
static inline bool take_plain(mc_leg *leg, retrieved *got)
{
    mc_slice body;
    int found = mc_leg_take_value(leg, &got->flags, &body);

    if (LIKELY(found > 0)) {
        got->found = true;
        got->value = plain_value_of(got->flags, body);
        if (UNLIKELY(got->value == NULL) && !PyErr_Occurred()) {
            got->body = PyBytes_FromStringAndSize(body.bytes, (Py_ssize_t)body.length);
        }
    }
    return found >= 0;
}

static void read_events(mcx_call *call, mcx_target *target, mc_leg *leg, retrieved *got)
{
    for (;;) {
        switch (mcx_drive(call, target, leg)) {
        case MC_LEG_VALUE:
            mc_leg_fail(leg, take_value(call, &leg->exchange, got));
            break;
        case MC_LEG_OVER:
            return;
        default:
            break;
        }
    }
}

/* get and gets behind key_encoder. default_value is borrowed. */
static PyObject *retrieve(mcx_call *call, mc_command command, const mcx_key *key,
                          PyObject *default_value)
{
    mcx_target target;
    mc_leg leg;
    retrieved got = {0};
    PyObject *result = NULL;
    int there = mcx_select(call, key, &target);

    if (UNLIKELY(there <= 0)) {
        return there < 0 ? NULL : Py_NewRef(default_value);
    }
    if (UNLIKELY(mcx_count(call, (int)command) < 0)) {
        mcx_target_end(call, &target, true);
        return NULL;
    }
    mc_leg_init(&leg, command, &key->text, 1);
    leg.max_length = (uint64_t)call->snapshot->max_length;
    leg.probe = target.probe;
    mc_leg_begin(&leg, target.connection, &call->clock);
    if (LIKELY(mc_leg_next(&leg) == MC_LEG_MOVE)) {
        mcx_move(call, &leg);
    }
    if (UNLIKELY(!take_plain(&leg, &got))) {
        read_events(call, &target, &leg, &got);
    }
    there = mcx_conclude(call, &target, &leg, false);
    if (LIKELY(there > 0)) {
        result = value_of(call, &got, default_value);
    }
    else if (there == 0) {
        result = Py_NewRef(default_value);
    }
    Py_XDECREF(got.value);
    Py_XDECREF(got.body);
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
