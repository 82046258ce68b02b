/* async_lost: the end of a stream: what it had under way goes on elsewhere, or fails. */
#include <string.h>

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/wire/command.h"

#include "async.h"
#include "async_errand.h"
#include "async_stream.h"
#include "cache_call.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "target.h"

/* To so many other servers one call goes at most, one after the other. */
#define MOVES 10

/* ---- one errand ----------------------------------------------------------------------------- */

void mcx_errand_fail(mcx_async *client, mcx_errand *errand, const mcx_afault *fault)
{
    int64_t now = mc_clock_now();

    if (errand->owner != NULL) {
        mcx_many_settle(errand->owner, fault, now);
    }
    for (size_t i = 0; i < errand->count; i++) {
        mcx_acall *waiters = mcx_errand_take_waiters(errand, i);

        while (waiters != NULL) {
            mcx_acall *next = waiters->next;

            waiters->next = NULL;
            mcx_acall_fail(waiters, fault, now);
            Py_DECREF((PyObject *)waiters);
            waiters = next;
        }
    }
    mcx_errand_free(client, errand);
}

/* It goes to a stream of that lane, which may be opened for it. */
static void send_again(mcx_async *client, mcx_lane *lane, mcx_errand *errand,
                       const mcx_afault *fault)
{
    bool is_big = errand->value != NULL;
    mcx_astream *stream = lane != NULL ? mcx_lane_stream(client, lane, is_big) : NULL;

    mcx_unraisable(client);
    Py_CLEAR(errand->body);
    errand->is_written = false;
    errand->asking.is_dropped = false;
    if (stream == NULL) {
        mcx_errand_fail(client, errand, fault);
        return;
    }
    (void)mcx_astream_send(stream, errand);
    mcx_unraisable(client);
}

/* One key of an errand with all that is its own, as an errand. NULL with MemoryError. */
static mcx_errand *cut_out(mcx_async *client, mcx_errand *errand, size_t slot)
{
    mcx_slot *from = &errand->slots[slot];
    mcx_errand *made = mcx_errand_new(client, errand->command, errand->deadline);
    mcx_acall *waiters;

    if (made == NULL) {
        return NULL;
    }
    made->once = errand->once;
    made->is_repeated = errand->is_repeated;
    made->is_unwatched = errand->is_unwatched;
    if (!mc_buffer_append(&made->request, mc_buffer_bytes(&errand->request) + from->begin,
                          mcx_errand_reads(errand) ? 0 : from->end - from->begin) ||
        mcx_errand_add(made, errand->keys[slot], from->owner, 0, from->number) < 0 ||
        (errand->owner != NULL && mcx_errand_own(made, errand->owner) < 0)) {
        mcx_errand_free(client, made);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        return NULL;
    }
    made->value = Py_XNewRef(errand->value);
    waiters = mcx_errand_take_waiters(errand, slot);
    while (waiters != NULL) {
        mcx_acall *next = waiters->next;

        mcx_errand_wait(made, 0, waiters);
        Py_DECREF((PyObject *)waiters);
        waiters = next;
    }
    return made;
}

void mcx_acalls_ask_alone(mcx_astream *stream, mcx_errand *errand, size_t slot, mcx_acall *chain)
{
    mcx_async *client = stream->client;
    mcx_afault fault = {.name = "ConnectionLost", .host = stream->host};
    mcx_errand *made;

    errand->slots[slot].waiters = chain;
    for (mcx_acall *each = chain; each != NULL; each = each->next) {
        errand->waiting++;
    }
    made = cut_out(client, errand, slot);
    if (made == NULL) {
        mcx_unraisable(client);
        return; /* they are told with the others */
    }
    made->is_alone = true;
    /* This stream ends with the errand that has failed: from its queue it goes to another one. */
    send_again(client, mcx_lane_of(client, stream->host), made, &fault);
}

/* ---- other servers -------------------------------------------------------------------------- */

/* Whether all that wait for it may still be moved. */
static bool may_move(mcx_errand *errand, mcx_server *tried)
{
    mcx_acall *first = errand->owner != NULL ? errand->owner : errand->slots[0].waiters;
    bool may = first != NULL && errand->keys[0].length != 0;

    for (mcx_acall *each = first; each != NULL; each = errand->owner != NULL ? NULL : each->next) {
        may = may && each->moves++ < MOVES;
        Py_XSETREF(each->tried, (mcx_server *)Py_NewRef((PyObject *)tried));
        Py_XSETREF(each->host, (mcx_server *)Py_NewRef((PyObject *)tried));
    }
    return may;
}

/* An errand of one key, whose server cannot be reached, goes to the next one that there is. */
static void move_one(mcx_async *client, mcx_call *call, mcx_errand *errand,
                     const mcx_afault *fault)
{
    mcx_key key = {.text = errand->keys[0]};
    mcx_lane *lane = NULL;
    bool is_probe = false;
    int there = 0;

    if (may_move(errand, fault->host)) {
        there = mcx_lane_choose(client, call, &key, fault->host, &lane, &is_probe);
        Py_CLEAR(call->faults);
    }
    mcx_unraisable(client);
    if (there > 0) {
        for (mcx_acall *each = errand->slots[0].waiters; each != NULL; each = each->next) {
            Py_XSETREF(each->host, (mcx_server *)Py_NewRef((PyObject *)lane->host));
        }
    }
    send_again(client, there > 0 ? lane : NULL, errand, fault);
    if (there > 0 && is_probe && lane->streams[0] != NULL) {
        lane->streams[0]->is_probing = true;
    }
}

static void move(mcx_async *client, mcx_errand *errand, const mcx_afault *fault)
{
    mcx_call call;

    if (errand->waiting == 0 && !errand->is_unwatched) {
        mcx_errand_fail(client, errand, fault);
        return;
    }
    if (fault->host == NULL || mcx_cache_begin(&call, (PyObject *)client->cache,
                                               errand->command) < 0) {
        mcx_unraisable(client);
        mcx_errand_fail(client, errand, fault);
        return;
    }
    if (errand->count == 1) {
        move_one(client, &call, errand, fault);
    }
    else {
        for (size_t i = 0; i < errand->count; i++) {
            mcx_errand *one = errand->owner != NULL || errand->slots[i].waiters != NULL
                                  ? cut_out(client, errand, i)
                                  : NULL;

            mcx_unraisable(client);
            if (one != NULL) {
                move_one(client, &call, one, fault);
            }
        }
        if (errand->owner != NULL) {
            mcx_many_settle(errand->owner, NULL, mc_clock_now());
        }
        mcx_errand_free(client, errand);
    }
    Py_XDECREF(mcx_cache_end(&call, Py_NewRef(Py_None), NULL));
    mcx_unraisable(client);
}

/* ---- all of a stream ------------------------------------------------------------------------ */

static void count_lost(mcx_astream *stream, const mcx_errand *errand, mcx_lost how)
{
    if (how != MCX_LOST_RETIRED && errand->is_written) {
        mcx_errand_count(stream->host, errand, how == MCX_LOST_LATE ? MC_TIMEOUT : MC_CLOSED);
    }
}

/* What the end of the stream means for one of its errands. first: it is the one that it ended at. */
static void end_errand(mcx_astream *stream, mcx_errand *errand, mcx_lost how, bool first,
                       const mcx_afault *fault)
{
    mcx_async *client = stream->client;
    bool is_late = how == MCX_LOST_LATE && errand->deadline <= mc_clock_now();
    bool is_to_blame = first && how == MCX_LOST_BROKEN && errand->is_written;
    bool may_repeat = !errand->is_written ||
                      (!errand->is_repeated && !errand->once && how != MCX_LOST_LATE &&
                       mc_asking_may_be_repeated(&errand->asking));
    mcx_afault lost = {.host = stream->host, .may_have_run = errand->is_written};

    if (how == MCX_LOST_CONNECT) {
        move(client, errand, fault);
        return;
    }
    if (errand->waiting == 0 && !errand->is_unwatched) {
        count_lost(stream, errand, how);
        mcx_errand_fail(client, errand, &lost);
        return;
    }
    if (may_repeat && !is_late && !is_to_blame) {
        errand->is_repeated |= errand->is_written;
        if (how == MCX_LOST_LATE) { /* its server is marked dead */
            lost.name = "ServerUnavailable";
            lost.text = PyUnicode_FromString("marked dead after a failure, and not yet to be tried "
                                             "again");
            move(client, errand, &lost);
        }
        else {
            lost.name = "ConnectionLost";
            lost.text = PyUnicode_FromString("the server closed the connection");
            send_again(client, mcx_lane_of(client, stream->host), errand, &lost);
        }
        Py_XDECREF(lost.text);
        return;
    }
    count_lost(stream, errand, how);
    if (is_to_blame) {
        mcx_errand_fail(client, errand, fault);
        return;
    }
    lost.name = is_late ? "ServerTimeout" : "ConnectionLost";
    lost.text = PyUnicode_FromString(is_late ? "timed out" : "the server closed the connection");
    mcx_errand_fail(client, errand, &lost);
    Py_XDECREF(lost.text);
}

/* The server is marked dead, with what is told of that. */
static void blame(mcx_astream *stream, PyObject *reason)
{
    mcx_call call;

    if (reason != NULL && mcx_cache_begin(&call, (PyObject *)stream->client->cache, MC_GET) == 0) {
        if (mcx_mark_dead(&call, stream->host, reason) < 0) {
            mcx_unraisable(stream);
        }
        Py_XDECREF(mcx_cache_end(&call, Py_NewRef(Py_None), NULL));
    }
    mcx_unraisable(stream);
}

/* Its timer and its transport end. */
static void shut(mcx_astream *stream, bool in_order)
{
    PyObject *timer = stream->timer, *transport = stream->transport, *done;

    stream->timer = NULL;
    stream->transport = NULL;
    Py_CLEAR(stream->write);
    if (timer != NULL) {
        done = PyObject_CallMethod(timer, "cancel", NULL);
        Py_XDECREF(done);
        Py_DECREF(timer);
        mcx_unraisable(stream);
    }
    if (transport != NULL) {
        done = PyObject_CallMethod(transport, in_order ? "close" : "abort", NULL);
        Py_XDECREF(done);
        Py_DECREF(transport);
        mcx_unraisable(stream);
    }
}

static void leave_lane(mcx_astream *stream)
{
    mcx_lane *lane = stream->lane;

    stream->lane = NULL;
    if (lane != NULL && lane->streams[stream->number] == stream) {
        lane->streams[stream->number] = NULL;
        Py_DECREF((PyObject *)stream); /* the caller has another one */
    }
}

/* It was not open yet: who opens it is told, by what he has asked, and says what becomes of it. */
static void end_greeting(mcx_astream *stream, const mcx_afault *fault)
{
    mcx_afault lost = {.name = "ConnectionLost", .host = stream->host, .may_have_run = true};
    mc_asking *asking;

    lost.text = PyUnicode_FromString("the server closed the connection");
    while ((asking = mc_row_take(&stream->row)) != NULL) {
        mcx_errand_fail(stream->client, (mcx_errand *)asking, fault != NULL ? fault : &lost);
    }
    Py_XDECREF(lost.text);
    shut(stream, false);
}

void mcx_astream_lose(mcx_astream *stream, mcx_lost how, const mcx_afault *fault)
{
    mcx_errand *written = NULL, **end = &written, *queue = stream->first;
    mc_asking *asking;
    bool first = true;

    if (stream->state == MCX_STREAM_OVER) {
        return;
    }
    if (stream->state == MCX_STREAM_OPENING && how != MCX_LOST_CONNECT &&
        how != MCX_LOST_RETIRED) {
        end_greeting(stream, fault);
        return;
    }
    Py_INCREF((PyObject *)stream);
    stream->state = MCX_STREAM_OVER;
    leave_lane(stream);
    shut(stream, how == MCX_LOST_RETIRED);
    while ((asking = mc_row_take(&stream->row)) != NULL) {
        *end = (mcx_errand *)asking;
        end = &(*end)->next;
    }
    *end = NULL;
    stream->first = stream->last = NULL;
    stream->gets[0] = stream->gets[1] = NULL;
    if (how == MCX_LOST_CONNECT && fault->text != NULL) {
        blame(stream, fault->text);
    }
    else if (how == MCX_LOST_LATE) {
        PyObject *reason = PyUnicode_FromString("timed out");

        blame(stream, reason);
        Py_XDECREF(reason);
    }
    else if (stream->is_probing) {
        mc_server_give_up_probe(&stream->host->server);
    }
    stream->is_probing = false;
    for (int i = 0; i < 2; i++) {
        for (mcx_errand *each = i == 0 ? written : queue, *next; each != NULL; each = next) {
            next = each->next;
            each->next = NULL;
            end_errand(stream, each, how, first, fault);
            first = false;
        }
    }
    Py_DECREF((PyObject *)stream);
}
