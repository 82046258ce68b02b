/* async_send: the queue of a stream, and how it is written: the requests of one turn of the loop at
 * once, and the single gets among them as one line. */
#include <string.h>

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/wire/command.h"
#include "core/wire/request.h"

#include "async.h"
#include "async_errand.h"
#include "async_stream.h"
#include "compat.h"
#include "counters.h"
#include "state.h"

/* Over TLS; see leg.c. */
#define PIECE ((size_t)8192)

/* ---- time ----------------------------------------------------------------------------------- */

int mcx_astream_wake_at(mcx_astream *stream, int64_t at)
{
    PyObject *seconds, *tick, *timer = NULL;
    int64_t left = at - mc_clock_now();

    if (LIKELY(stream->timer != NULL && stream->timer_at <= at)) {
        return 0;
    }
    if (stream->timer != NULL) {
        PyObject *done = PyObject_CallMethod(stream->timer, "cancel", NULL);

        Py_CLEAR(stream->timer);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    seconds = PyFloat_FromDouble(left > 0 ? (double)left / 1e9 : 0);
    tick = seconds ? PyObject_GetAttrString((PyObject *)stream, "_tick") : NULL;
    if (tick != NULL) {
        PyObject *arguments[] = {seconds, tick, stream->client->context};

        timer = PyObject_Vectorcall(stream->client->call_later, arguments, 2,
                                    stream->client->context_keyword);
        Py_DECREF(tick);
    }
    Py_XDECREF(seconds);
    stream->timer = timer;
    stream->timer_at = at;
    return timer == NULL ? -1 : 0;
}

/* ---- writing -------------------------------------------------------------------------------- */

int mcx_astream_write(mcx_astream *stream, PyObject *bytes)
{
    PyObject *result;

    if (stream->host->counters != NULL) {
        mcx_count_up(&stream->host->counters->bytes_out, (uint64_t)PyBytes_GET_SIZE(bytes));
    }
    result = PyObject_CallOneArg(stream->write, bytes);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int write_out(mcx_astream *stream)
{
    size_t length = mc_buffer_length(&stream->out);
    PyObject *bytes;
    int result;

    if (length == 0) {
        return 0;
    }
    bytes = PyBytes_FromStringAndSize(mc_buffer_bytes(&stream->out), (Py_ssize_t)length);
    if (bytes == NULL) {
        return -1;
    }
    mc_buffer_clear(&stream->out);
    mc_buffer_trim(&stream->out, (size_t)1 << 20);
    result = mcx_astream_write(stream, bytes);
    Py_DECREF(bytes);
    return result;
}

/* Keys for which nobody waits any more are not asked for. */
static void drop_slots(mcx_errand *errand)
{
    size_t kept = 0;

    for (size_t i = 0; i < errand->count; i++) {
        if (errand->slots[i].waiters == NULL) {
            Py_CLEAR(errand->slots[i].owner);
            continue;
        }
        for (mcx_acall *each = errand->slots[i].waiters; kept != i && each != NULL;
             each = each->next) {
            each->slot = kept;
        }
        errand->slots[kept] = errand->slots[i];
        errand->keys[kept++] = errand->keys[i];
    }
    errand->count = kept;
}

static bool lay_out_keys(mcx_errand *errand)
{
    size_t at = 0;

    if (errand->owner == NULL) {
        drop_slots(errand);
    }
    mc_buffer_clear(&errand->request);
    while (at < errand->count) {
        size_t line =
            errand->count == 1 ? 1 : mc_keys_of_line(errand->keys + at, errand->count - at);

        if (!mc_request_get(&errand->request, errand->command, errand->keys + at, line)) {
            return false;
        }
        at += line;
    }
    return true;
}

/* What goes out, and a large value with the end of its line behind it, at once. (CPython 3.12's
 * writelines, which would not copy it, never pauses the protocol.) */
static int write_with(mcx_astream *stream, PyObject *value)
{
    size_t length = mc_buffer_length(&stream->out), size = (size_t)PyBytes_GET_SIZE(value);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(length + size + 2));
    int result;

    if (bytes == NULL) {
        return -1;
    }
    char *at = PyBytes_AS_STRING(bytes);

    memcpy(at, mc_buffer_bytes(&stream->out), length);
    memcpy(at + length, PyBytes_AS_STRING(value), size);
    memcpy(at + length + size, "\r\n", 2);
    mc_buffer_clear(&stream->out);
    result = mcx_astream_write(stream, bytes);
    Py_DECREF(bytes);
    return result;
}

/* The same over TLS, where each is a piece of its own. */
static int write_in_records(mcx_astream *stream, PyObject *value)
{
    if (write_out(stream) < 0 || mcx_astream_write(stream, value) < 0) {
        return -1;
    }
    if (!mc_buffer_append(&stream->out, "\r\n", 2)) {
        PyErr_NoMemory();
        return -1;
    }
    return write_out(stream);
}

/* The errand's request, behind what else goes out. -1 with an exception. */
static int put_out(mcx_astream *stream, mcx_errand *errand)
{
    const mc_buffer *request = &errand->request;

    if (!mc_buffer_append(&stream->out, mc_buffer_bytes(request), mc_buffer_length(request))) {
        PyErr_NoMemory();
        return -1;
    }
    if (LIKELY(errand->value == NULL)) {
        return stream->in_records && mc_buffer_length(&stream->out) >= PIECE ? write_out(stream)
                                                                             : 0;
    }
    return stream->in_records ? write_in_records(stream, errand->value)
                              : write_with(stream, errand->value);
}

static size_t replies_of(const mcx_errand *errand)
{
    return errand->command == MC_META_PROBE ? 2 : errand->count;
}

void mcx_astream_expect(mcx_astream *stream, mcx_errand *errand)
{
    mc_exchange *exchange = &errand->asking.exchange;
    mc_family family = mc_commands[errand->command].family;
    bool has_keys = family == MC_FAMILY_RETRIEVAL || errand->command == MC_MG;

    mc_exchange_init(exchange, &stream->row.in, errand->command, has_keys ? errand->keys : NULL,
                     replies_of(errand), false);
    exchange->max_length = stream->client->max_length;
    errand->is_written = true;
    errand->calls = errand->owner != NULL || errand->waiting == 0 ? 1 : errand->waiting;
    errand->asking.is_dropped = errand->waiting == 0;
    mc_row_add(&stream->row, &errand->asking);
}

static mcx_errand *take_first(mcx_astream *stream)
{
    mcx_errand *errand = stream->first;

    stream->first = errand->next;
    if (stream->first == NULL) {
        stream->last = NULL;
    }
    errand->next = NULL;
    for (int i = 0; i < 2; i++) {
        if (stream->gets[i] == errand) {
            stream->gets[i] = NULL;
        }
    }
    return errand;
}

void mcx_astream_rest(mcx_astream *stream)
{
    if (LIKELY(stream->row.first != NULL) || stream->first != NULL ||
        stream->state != MCX_STREAM_OPEN) {
        return;
    }
    if (stream->is_probing) { /* who wanted to try the server is gone */
        stream->is_probing = false;
        mc_server_give_up_probe(&stream->host->server);
    }
    if (stream->lane == NULL) {
        mcx_astream_lose(stream, MCX_LOST_RETIRED, NULL);
    }
}

int mcx_astream_flush(mcx_astream *stream)
{
    size_t batch = 0;
    int result = 0;

    stream->is_flush_due = false;
    while (result == 0 && stream->first != NULL && !stream->is_paused &&
           stream->state == MCX_STREAM_OPEN) {
        mcx_errand *errand = take_first(stream);

        if (errand->waiting == 0 && !errand->is_unwatched) { /* all were cancelled */
            mcx_errand_free(stream->client, errand);
            continue;
        }
        batch += errand->waiting;
        if (mcx_errand_reads(errand) && !lay_out_keys(errand)) {
            PyErr_NoMemory();
            result = -1;
        }
        mcx_astream_expect(stream, errand);
        result = result == 0 ? put_out(stream, errand) : result;
    }
    if (batch != 0) {
        stream->last_batch = batch;
    }
    if (result == 0 && stream->state == MCX_STREAM_OPEN) {
        result = write_out(stream);
    }
    if (UNLIKELY(result < 0)) { /* a part of a request may be out */
        mcx_unraisable(stream);
        mcx_astream_lose(stream, MCX_LOST_CLOSED, NULL);
        return 0;
    }
    mcx_astream_rest(stream);
    return 0;
}

/* ---- the queue ------------------------------------------------------------------------------ */

static int flush_soon(mcx_astream *stream)
{
    PyObject *flush = PyObject_GetAttrString((PyObject *)stream, "_flush");
    PyObject *handle = flush ? PyObject_CallOneArg(stream->client->call_soon, flush) : NULL;

    stream->is_flush_due = handle != NULL;
    Py_XDECREF(flush);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

mcx_errand *mcx_astream_gets(mcx_astream *stream, mc_command command, int64_t deadline)
{
    mcx_errand *errand = stream->gets[command == MC_GETS];
    /* Where memory was out for that, nothing is to write it yet. */
    bool is_lost = stream->state == MCX_STREAM_OPEN && !stream->is_paused && !stream->is_flush_due;
    bool may_join = !is_lost && errand != NULL && errand->count < MC_KEYS_PER_GET &&
                    deadline >= errand->deadline &&
                    deadline - errand->deadline <= stream->client->timeout / 16 &&
                    (!stream->in_records || errand->bytes <= PIECE);

    return may_join ? errand : NULL;
}

int mcx_astream_send(mcx_astream *stream, mcx_errand *errand)
{
    /* One call after the other does not wait for the end of the turn. */
    bool is_quiet = stream->first == NULL && stream->row.first == NULL && stream->last_batch <= 1;

    if (stream->first == NULL) {
        stream->first = errand;
    }
    else {
        stream->last->next = errand;
    }
    stream->last = errand;
    /* One that goes out again takes no keys: those that come now have a repeat of their own. */
    if (mcx_errand_reads(errand) && !errand->is_alone && !errand->is_repeated &&
        errand->owner == NULL) {
        stream->gets[errand->command == MC_GETS] = errand;
    }
    if (mcx_astream_wake_at(stream, errand->deadline) < 0) {
        return -1;
    }
    if (stream->state != MCX_STREAM_OPEN || stream->is_paused || stream->is_flush_due) {
        return 0;
    }
    stream->last_used = mc_clock_now();
    if (is_quiet) {
        /* No other turn's calls are put to it. */
        return mcx_astream_flush(stream);
    }
    return flush_soon(stream);
}
