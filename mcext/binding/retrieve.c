#include "retrieve.h"

#include "core/flow/leg.h"
#include "core/wire/key.h"
#include "core/wire/number.h"

#include "cache_call.h"
#include "call.h"
#include "compat.h"
#include "drive.h"
#include "faults.h"
#include "move.h"
#include "target.h"
#include "values.h"

mc_status mcx_retrieved_take_body(mc_exchange *exchange, mcx_retrieved *got)
{
    got->body = PyBytes_FromStringAndSize(exchange->body, (Py_ssize_t)exchange->reply.length);
    if (got->body == NULL) {
        return MC_RAISED;
    }
    if (exchange->body == NULL) {
        mc_exchange_give_room(exchange, PyBytes_AS_STRING(got->body));
    }
    return MC_OK;
}

/* A VALUE header has come: makes the object that the body goes into, or at once the value. */
static mc_status take_body(mcx_call *call, mc_exchange *exchange, mcx_retrieved *got)
{
    mc_reply *reply = &exchange->reply;

    if (LIKELY(exchange->body != NULL) && call->cache == NULL &&
        (got->flags & (MCX_FLAG_ZLIB | MCX_FLAG_PICKLE)) == 0) {
        mc_slice text = {exchange->body, (size_t)reply->length};

        got->value = mcx_decode(call, got->flags, text, NULL);
        return got->value == NULL ? MC_RAISED : MC_OK;
    }
    return mcx_retrieved_take_body(exchange, got);
}

static mc_status take_value(mcx_call *call, mc_leg *leg, mcx_retrieved *got)
{
    const mc_reply *reply = &leg->exchange.reply;

    got->found = call->cache == NULL || !mcx_is_stub(reply->flags, (size_t)reply->length);
    got->flags = reply->flags;
    got->cas = reply->cas;
    leg->good = got->found;
    return take_body(call, &leg->exchange, got);
}

PyObject *mcx_retrieved_value(mcx_call *call, mcx_retrieved *got)
{
    PyObject *result;

    if (LIKELY(got->value != NULL)) {
        result = got->value;
        got->value = NULL;
        return result;
    }
    if (got->body == NULL) {
        return NULL; /* memory was out for it */
    }
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

INLINE void mcx_retrieved_take(mcx_call *call, mc_slice text, mcx_retrieved *got)
{
    if (LIKELY(!mcx_has_codec(call))) {
        got->value = plain_value_of(got->flags, text);
    }
    if (UNLIKELY(got->value == NULL) && !PyErr_Occurred()) {
        got->body = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    }
}

/* The reply in one look, where it is what comes mostly: true where that was all. */
static inline bool take_plain(mcx_call *call, mc_leg *leg, mcx_retrieved *got)
{
    mc_slice body;
    int found = mc_leg_take_value(leg, &got->flags, &body);

    if (LIKELY(found > 0)) {
        got->found = LIKELY(body.length != 0) || got->flags != 0 || call->cache == NULL;
        leg->good = got->found;
        mcx_retrieved_take(call, body, got);
    }
    return found >= 0;
}

static COLD void read_events(mcx_call *call, mcx_target *target, mc_leg *leg, mcx_retrieved *got)
{
    for (;;) {
        switch (mcx_drive(call, target, leg)) {
        case MC_LEG_VALUE:
            mc_leg_fail(leg, take_value(call, leg, got));
            break;
        case MC_LEG_REPLY:
            if (call->cache != NULL &&
                mcx_fault_line(call, target->host, &leg->exchange.reply) < 0) {
                mc_leg_fail(leg, MC_RAISED);
            }
            break;
        case MC_LEG_OVER:
            return;
        default:
            break;
        }
    }
}

int mcx_retrieve(mcx_call *call, mc_command command, const mcx_key *key, mcx_retrieved *got)
{
    mcx_target target;
    mc_leg leg;
    int there = mcx_select(call, key, &target);

    if (UNLIKELY(there <= 0)) {
        return there;
    }
    if (LIKELY(call->cache == NULL) && UNLIKELY(mcx_count(call, (int)command) < 0)) {
        mcx_target_end(call, &target, true);
        return -1;
    }
    mc_leg_init(&leg, command, &key->text, 1);
    leg.max_length = (uint64_t)call->snapshot->max_length;
    leg.probe = target.probe;
    mc_leg_begin(&leg, target.connection, &call->clock);
    if (LIKELY(mc_leg_next(&leg) == MC_LEG_MOVE)) {
        mcx_move(call, &leg);
    }
    if (UNLIKELY(!take_plain(call, &leg, got))) {
        read_events(call, &target, &leg, got);
    }
    return mcx_conclude(call, &target, &leg, false);
}
