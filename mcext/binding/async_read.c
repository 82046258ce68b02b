/* async_read: what comes on a stream, and the calls that it is for. */
#include <string.h>

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/wire/command.h"
#include "core/wire/error_line.h"
#include "core/wire/exchange.h"
#include "core/wire/meta.h"

#include "async.h"
#include "async_errand.h"
#include "async_stream.h"
#include "cache_store.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "first_words.h"
#include "listing.h"
#include "values.h"

/* ---- values --------------------------------------------------------------------------------- */

/* A value for one call: text, or body (borrowed; NULL: text is a view). */
static void give_value(mcx_acall *call, const mc_reply *reply, mc_slice text, PyObject *body,
                       mcx_retrieved *got, bool as_bytes)
{
    mcx_call light = {.cache = call->client->cache};

    got->found = as_bytes || !mcx_is_stub(reply->flags, (size_t)reply->length);
    got->flags = reply->flags;
    got->cas = reply->cas;
    if (!got->found) { /* a stub is no value */
        return;
    }
    if (body != NULL) {
        got->body = Py_NewRef(body);
    }
    else if (as_bytes) {
        got->body = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    }
    else {
        mcx_retrieved_take(&light, text, got);
    }
    mcx_unraisable(call); /* without memory there is neither, which the call finds */
}

/* The value of key number index has come whole. */
static void deliver_value(mcx_astream *stream, mcx_errand *errand, size_t index, mc_slice text,
                          PyObject *body, int64_t now)
{
    const mc_reply *reply = &errand->asking.exchange.reply;
    bool as_bytes = errand->command != MC_GET;
    mcx_acall *waiters;

    errand->good += !mcx_is_stub(reply->flags, (size_t)reply->length);
    if (UNLIKELY(errand->waiting == 0) && errand->gives_back && mc_meta_has(reply, 'W')) {
        mcx_lease_back(stream->client, stream->host, errand->keys[index],
                       errand->slots[index].owner, reply);
    }
    if (errand->owner != NULL) {
        if (UNLIKELY(errand->waiting == 0)) {
            return;
        }
        mcx_akey *key = &errand->owner->many->keys[errand->slots[index].number];

        give_value(errand->owner, reply, text, body, &key->got, as_bytes);
        if (key->reply != NULL) {
            *key->reply = *reply;
        }
        Py_XSETREF(key->host, (mcx_server *)Py_NewRef((PyObject *)stream->host));
        key->said = MC_REPLY_VALUE;
        key->is_done = true;
        return;
    }
    waiters = mcx_errand_take_waiters(errand, index);
    for (mcx_acall *each = waiters; each != NULL; each = each->next) {
        if (each != waiters && waiters->got.value != NULL) { /* what is plain never changes */
            each->got = waiters->got;
            Py_INCREF(each->got.value);
        }
        else {
            give_value(each, reply, text, body, &each->got, as_bytes);
        }
        each->reply = *reply;
        each->types[0] = MC_REPLY_VALUE;
    }
    mcx_acalls_wake(waiters, now);
}

/* A value begins. -1: memory is out. */
static int begin_value(mcx_astream *stream, mcx_errand *errand, int64_t now)
{
    mc_exchange *exchange = &errand->asking.exchange;
    size_t length = (size_t)exchange->reply.length;

    if (LIKELY(exchange->body != NULL)) {
        deliver_value(stream, errand, exchange->index, (mc_slice){exchange->body, length}, NULL,
                      now);
        return 0;
    }
    Py_XSETREF(errand->body, PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length));
    if (errand->body == NULL) {
        return -1;
    }
    mc_exchange_give_room(exchange, PyBytes_AS_STRING(errand->body));
    return 0;
}

static void end_value(mcx_astream *stream, mcx_errand *errand, int64_t now)
{
    PyObject *body = errand->body;

    errand->body = NULL;
    deliver_value(stream, errand, errand->asking.exchange.index, mcx_bytes_of(body), body, now);
    Py_DECREF(body);
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* An error line as a fault: its text is a new reference. */
static void fault_of_line(mcx_astream *stream, const mcx_errand *errand, mcx_afault *fault)
{
    const mc_reply *reply = &errand->asking.exchange.reply;

    stream->is_kept_out |= mc_error_is_unauthenticated(reply);
    fault->name = mcx_line_fault(reply, &fault->may_have_run);
    fault->may_have_run |= errand->is_repeated; /* on the stream that was closed */
    fault->text =
        PyUnicode_DecodeUTF8(reply->line.bytes, (Py_ssize_t)reply->line.length, "replace");
    fault->host = stream->host;
    mcx_unraisable(stream);
}

/* Whether the server does not know the command, and so is another one than was thought. */
static bool is_refused(mcx_astream *stream, const mcx_errand *errand, const mc_reply *reply)
{
    bool refused = mc_command_is_meta(errand->command) && errand->command != MC_META_PROBE &&
                   (reply->type == MC_REPLY_ERROR || reply->type == MC_REPLY_CLIENT_ERROR) &&
                   !mc_error_is_unauthenticated(reply);

    if (refused) {
        mc_server_forget_meta(&stream->host->server);
    }
    return refused;
}

/* A value that was refused leaves no old one: its key is deleted before the call goes on. True
 * where that is under way. */
static bool remove_old(mcx_astream *stream, mcx_errand *errand, size_t index, mcx_acall *call)
{
    mcx_errand *removal =
        mcx_errand_line(stream->client, MC_DELETE, errand->deadline, errand->keys[index],
                        errand->slots[index].owner, MCX_NOTHING);

    if (removal != NULL) {
        mcx_errand_wait(removal, 0, call);
        mcx_errand_part(stream->client, removal, stream->host, false, &call->fault);
    }
    mcx_unraisable(call);
    return removal != NULL;
}

static void take_stat(mcx_acall *call, const mc_reply *reply)
{
    if (call->value == NULL) {
        call->value = PyDict_New();
    }
    if (call->value != NULL) {
        (void)mcx_list_row(call->value, reply, MCX_SHAPE_STATS);
    }
    mcx_unraisable(call);
}

/* A line for the one call that waits for it. True: it is all that it waits for. */
static bool answer_call(mcx_astream *stream, mcx_errand *errand, size_t index, mcx_acall *call)
{
    const mc_reply *reply = &errand->asking.exchange.reply;

    if (call->fault.name != NULL) { /* this was about the old value */
        return true;
    }
    if (errand->command == MC_META_PROBE) {
        if (index < 2) {
            call->types[index] = reply->type;
        }
        return mc_error_is_unauthenticated(reply) || index >= 1;
    }
    call->types[0] = reply->type;
    call->number = reply->number;
    if (call->verb->greets) {
        call->words = mcx_refused_words(reply);
        return true;
    }
    if (reply->type == MC_REPLY_STAT) {
        take_stat(call, reply);
        return false;
    }
    if (reply->type == MC_REPLY_VERSION || reply->type == MC_REPLY_OK) {
        mc_slice text = reply->type == MC_REPLY_VERSION ? reply->text : reply->line;

        Py_XSETREF(call->value,
                   PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, "replace"));
        mcx_unraisable(call);
    }
    if (UNLIKELY(mc_reply_is_error(reply->type))) {
        call->is_refused = is_refused(stream, errand, reply);
        if (!call->is_refused) {
            fault_of_line(stream, errand, &call->fault);
            Py_INCREF((PyObject *)stream->host);
        }
    }
    return true;
}

/* An error line in place of the values of a get: each call that shares it asks once more, alone,
 * for behind a proxy it may be about another one's key. */
static void fail_retrieval(mcx_astream *stream, mcx_errand *errand, int64_t now)
{
    mcx_afault fault = {0};

    fault_of_line(stream, errand, &fault);
    errand->has_failed = true;
    for (size_t i = 0; i < errand->count; i++) {
        bool asks_again = errand->owner == NULL && !errand->is_alone && errand->count > 1 &&
                          errand->slots[i].waiters != NULL;
        mcx_errand *alone = asks_again ? mcx_errand_cut_out(stream->client, errand, i) : NULL;

        mcx_unraisable(stream);
        if (alone != NULL) {
            alone->is_alone = true;
            mcx_errand_part(stream->client, alone, stream->host, false, &fault);
        }
        else if (errand->owner == NULL) {
            mcx_acalls_fail(mcx_errand_take_waiters(errand, i), &fault, now);
        }
    }
    if (errand->owner != NULL) {
        errand->owner->many->errands++; /* the end of the errand settles it */
        mcx_many_settle(errand->owner, &fault, now);
    }
    Py_XDECREF(fault.text);
}

static void answer_many(mcx_astream *stream, mcx_errand *errand, size_t index, int64_t now)
{
    const mc_reply *reply = &errand->asking.exchange.reply;
    mcx_many *many = errand->owner->many;
    mcx_akey *key = &many->keys[errand->slots[index].number];

    key->said = reply->type;
    if (!mc_reply_is_error(reply->type)) {
        key->is_done = true;
        return;
    }
    if (is_refused(stream, errand, reply)) {
        errand->owner->is_refused = true;
        return;
    }
    mcx_afault fault = {0};

    fault_of_line(stream, errand, &fault);
    many->errands++;
    mcx_many_settle(errand->owner, &fault, now);
    Py_XDECREF(fault.text);
}

static void take_line(mcx_astream *stream, mcx_errand *errand, int64_t now)
{
    mc_exchange *exchange = &errand->asking.exchange;
    size_t slot = exchange->index < errand->count ? exchange->index : 0;

    if (mcx_errand_reads(errand)) { /* its only lines are errors */
        fail_retrieval(stream, errand, now);
        return;
    }
    errand->good += exchange->reply.type == MC_REPLY_STORED;
    if (errand->owner != NULL) {
        answer_many(stream, errand, slot, now);
        return;
    }
    mcx_acall *call = errand->slots[slot].waiters;

    if (UNLIKELY(call == NULL) && errand->gives_back && exchange->reply.type == MC_REPLY_STORED) {
        mcx_lease_back(stream->client, stream->host, errand->keys[slot], errand->slots[slot].owner,
                       NULL);
    }
    if (call == NULL || !answer_call(stream, errand, exchange->index, call)) {
        return;
    }
    call = mcx_errand_take_waiters(errand, slot);
    if (UNLIKELY(call->fault.name != NULL) && mcx_store_replaces(errand->command) &&
        remove_old(stream, errand, slot, call)) {
        Py_DECREF((PyObject *)call);
        return;
    }
    mcx_acalls_wake(call, now);
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* Everything that an errand asked for is answered. */
static void settle(mcx_astream *stream, mcx_errand *errand, int64_t now)
{
    if (!errand->is_greeting) {
        mcx_errand_count(stream->host, errand, MC_OK);
    }
    if (errand->owner != NULL) {
        mcx_many *many = errand->owner->many;

        for (size_t i = 0; mcx_errand_reads(errand) && i < errand->count; i++) {
            many->keys[errand->slots[i].number].is_done |= !errand->has_failed;
        }
        mcx_many_settle(errand->owner, NULL, now);
    }
    else {
        for (size_t i = 0; i < errand->count; i++) { /* what is left are misses */
            mcx_acalls_wake(mcx_errand_take_waiters(errand, i), now);
        }
    }
    mcx_errand_free(stream->client, errand);
}

/* Values as they mostly come, at less cost than events. */
static void read_run(mcx_astream *stream, int64_t now)
{
    mcx_errand *errand = (mcx_errand *)stream->row.first;
    mc_exchange *exchange;
    mc_value_run run;
    mc_slice body;

    if (errand == NULL || errand->command != MC_GET || errand->asking.is_dropped) {
        return;
    }
    exchange = &errand->asking.exchange;
    mc_exchange_begin_run(exchange, &run);
    while (run.key != NULL && mc_value_run_next(&run, &exchange->reply.flags, &body)) {
        exchange->reply.length = body.length;
        exchange->reply.cas = 0;
        deliver_value(stream, errand, (size_t)(run.key - exchange->keys) - 1, body, NULL, now);
    }
    mc_exchange_end_run(exchange, &run);
}

static void said_something(mcx_astream *stream)
{
    stream->had_grace = false;
    if (UNLIKELY(stream->is_probing)) {
        stream->is_probing = false;
        mc_server_mark_alive(&stream->host->server);
    }
}

static void lose_broken(mcx_astream *stream, const mcx_errand *errand)
{
    mcx_afault fault = {.name = "ProtocolError", .host = stream->host, .may_have_run = true};

    if (errand != NULL && errand->asking.exchange.no_memory) {
        PyErr_NoMemory();
        mcx_unraisable(stream);
    }
    if (errand != NULL && errand->asking.exchange.reply.line.length != 0) {
        stream->is_kept_out |= mc_error_is_unauthenticated(&errand->asking.exchange.reply);
    }
    /* A server that sends name and password back does not get them into a text. */
    bool shows = errand != NULL && stream->state == MCX_STREAM_OPEN;

    fault.text = mcx_protocol_text(shows ? errand->asking.exchange.reply.line : MCX_NOTHING);
    mcx_unraisable(stream);
    mcx_astream_lose(stream, MCX_LOST_BROKEN, &fault);
    Py_XDECREF(fault.text);
}

int mcx_astream_read(mcx_astream *stream)
{
    int64_t now = mc_clock_now();

    stream->last_used = now;
    said_something(stream);
    /* One that ends before it is open has no transport any more, but is not over yet. */
    while (stream->state != MCX_STREAM_OVER && stream->transport != NULL) {
        mc_asking *whose;

        read_run(stream, now);
        mc_event event = mc_row_next(&stream->row, &whose);
        mcx_errand *errand = (mcx_errand *)whose;

        switch (event) {
        case MC_EVENT_VALUE:
            if (begin_value(stream, errand, now) < 0) {
                mcx_unraisable(stream);
                mcx_astream_lose(stream, MCX_LOST_CLOSED, NULL);
            }
            break;
        case MC_EVENT_FILLED:
            end_value(stream, errand, now);
            break;
        case MC_EVENT_REPLY:
            take_line(stream, errand, now);
            break;
        case MC_EVENT_DONE:
            settle(stream, errand, now);
            if (UNLIKELY(stream->row.is_broken)) { /* its answer was the last to be believed */
                mcx_astream_lose(stream, MCX_LOST_CLOSED, NULL);
            }
            break;
        case MC_EVENT_BROKEN:
            lose_broken(stream, errand);
            break;
        default:
            mcx_astream_rest(stream);
            return 0;
        }
    }
    return 0;
}
