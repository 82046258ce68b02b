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

static const char CLOSED[] = "the server closed the connection",
                  GIVEN_UP[] = "the connection was given up: the server was late with another call",
                  DEAD[] = "marked dead after a failure, and not yet to be tried again";

/* ---- all of a stream ------------------------------------------------------------------------ */

static void count_lost(mcx_astream *stream, const mcx_errand *errand, mcx_lost how)
{
    if (how != MCX_LOST_RETIRED && errand->is_written) {
        mcx_errand_count(stream->host, errand, how == MCX_LOST_LATE ? MC_TIMEOUT : MC_CLOSED);
    }
}

/* It fails with these words, and is counted. */
static void fail(mcx_astream *stream, mcx_errand *errand, mcx_lost how, const char *name,
                 const char *words, bool may_have_run)
{
    mcx_afault fault = {.name = name, .host = stream->host, .may_have_run = may_have_run};

    count_lost(stream, errand, how);
    fault.text = PyUnicode_FromString(words);
    mcx_errand_fail(stream->client, errand, &fault);
    Py_XDECREF(fault.text);
}

/* It goes on elsewhere: on another stream, or, where the server was late, and so is marked dead, to
 * another server. */
static void go_on(mcx_astream *stream, mcx_errand *errand, bool moves)
{
    mcx_afault why = {.name = moves ? "ServerUnavailable" : "ConnectionLost",
                      .host = stream->host,
                      .may_have_run = errand->is_written};

    errand->is_repeated |= errand->is_written;
    why.text = PyUnicode_FromString(moves ? DEAD : CLOSED);
    mcx_errand_part(stream->client, errand, stream->host, moves, &why);
    Py_XDECREF(why.text);
}

/* The name of what a call fails with that the end of a stream took along. */
static const char *lost_name(const mcx_errand *errand, bool first, bool is_late, mcx_lost how)
{
    /* What another's failure took along says nothing of what the server has. */
    bool is_bystander = errand->command == MC_META_PROBE && (!first || how == MCX_LOST_LATE);

    return is_late ? "ServerTimeout" : is_bystander ? "ServerUnavailable" : "ConnectionLost";
}

/* What the end of the stream means for one of its errands. first: it is the one that it ended at.
 */
static void end_errand(mcx_astream *stream, mcx_errand *errand, mcx_lost how, bool first,
                       const mcx_afault *fault)
{
    bool was_written = errand->is_written;
    bool was_late = how == MCX_LOST_LATE;
    bool is_late = was_late && errand->deadline <= mc_clock_now();
    bool is_to_blame = first && how == MCX_LOST_BROKEN && was_written;
    bool may_repeat = !was_written || (!errand->is_repeated && !errand->once && !was_late &&
                                       mc_asking_may_be_repeated(&errand->asking));

    if (how == MCX_LOST_GIVEN_UP || (how == MCX_LOST_CONNECT && errand->is_repeated)) {
        mcx_errand_fail(stream->client, errand, fault); /* it may have run where it was before */
    }
    else if (how == MCX_LOST_CONNECT) {
        mcx_errand_part(stream->client, errand, stream->host, true, fault);
    }
    else if (errand->waiting == 0 && !errand->is_unwatched) {
        fail(stream, errand, how, NULL, "", was_written);
    }
    else if (stream->is_kept_out && was_written) { /* it takes no request of this stream */
        fail(stream, errand, how, "AuthenticationError", "CLIENT_ERROR unauthenticated", false);
    }
    else if (may_repeat && !is_late && !is_to_blame && !(was_late && errand->is_repeated)) {
        go_on(stream, errand, was_late);
    }
    else if (is_to_blame) {
        count_lost(stream, errand, how);
        mcx_errand_fail(stream->client, errand, fault);
    }
    else {
        fail(stream, errand, how, lost_name(errand, first, is_late, how),
             is_late    ? "timed out"
             : was_late ? GIVEN_UP
                        : CLOSED,
             was_written);
    }
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

/* Or those that are retired. */
static void leave_lane(mcx_astream *stream)
{
    mcx_lane *lane = stream->lane;
    mcx_astream **at = &stream->client->retired;

    while (*at != NULL && *at != stream) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = stream->next;
        stream->next = NULL;
        Py_DECREF((PyObject *)stream); /* the caller has another one */
    }
    stream->lane = NULL;
    if (lane != NULL && lane->streams[stream->number] == stream) {
        lane->streams[stream->number] = NULL;
        mcx_lane_count(stream->client, lane);
        Py_DECREF((PyObject *)stream); /* the caller has another one */
    }
}

/* It was not open yet: who opens it is told, by what he has asked, and says what becomes of it. */
static void end_greeting(mcx_astream *stream, const mcx_afault *fault)
{
    mcx_afault lost = {.name = "ConnectionLost", .host = stream->host, .may_have_run = true};
    mc_asking *asking;

    lost.text = PyUnicode_FromString(CLOSED);
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
    /* A server that is sending may not read what is still to be written. */
    bool in_order = how == MCX_LOST_RETIRED && stream->row.first == NULL;

    if (stream->state == MCX_STREAM_OVER) {
        return;
    }
    if (stream->state == MCX_STREAM_OPENING && how != MCX_LOST_CONNECT &&
        how != MCX_LOST_GIVEN_UP && how != MCX_LOST_RETIRED) {
        end_greeting(stream, fault);
        return;
    }
    Py_INCREF((PyObject *)stream);
    stream->state = MCX_STREAM_OVER;
    leave_lane(stream);
    shut(stream, in_order);
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
