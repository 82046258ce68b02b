/* async_lane: the streams to each server: which one takes an errand, and when they end. */
#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/net/socket.h"

#include "async.h"
#include "async_errand.h"
#include "async_protocol.h"
#include "async_stream.h"
#include "cache_call.h"
#include "choose.h"
#include "compat.h"
#include "faults.h"
#include "shared.h"
#include "state.h"
#include "target.h"

/* What is still to come of a value, from which on others do not wait behind it. */
#define LARGE ((size_t)65536)

/* The same of one that nobody waits for any more, from which on its stream takes nothing new. */
#define CLOGS ((size_t)8 << 20)

mcx_lane *mcx_lane_of(mcx_async *client, mcx_server *host)
{
    mcx_lane *lane = host->lane;

    if (LIKELY(lane != NULL)) {
        return lane;
    }
    lane = PyMem_Calloc(1, sizeof *lane + (size_t)client->connections * sizeof *lane->streams);
    if (lane == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    lane->host = (mcx_server *)Py_NewRef((PyObject *)host);
    lane->next = client->lanes;
    client->lanes = lane;
    host->lane = lane;
    return lane;
}

/* ---- one of its streams --------------------------------------------------------------------- */

/* Whether a large value is coming on it. */
static bool is_busy(const mcx_astream *stream)
{
    const mc_asking *asking = stream->row.first;

    return asking != NULL && mc_exchange_is_in_body(&asking->exchange) &&
           asking->exchange.missing >= LARGE;
}

/* An idle stream that the server has closed is found so before anything is sent on it. Not over
 * TLS, where what lies there may be a ticket. */
static void look_at(mcx_astream *stream, int64_t after)
{
    bool is_idle = stream->state == MCX_STREAM_OPEN && stream->row.first == NULL &&
                   stream->first == NULL && stream->fd >= 0 && !stream->in_records &&
                   mc_clock_now() - stream->last_used >= after;

    if (UNLIKELY(is_idle) && !mc_socket_is_quiet(stream->fd)) {
        mcx_astream_lose(stream, MCX_LOST_CLOSED, NULL);
    }
}

void mcx_lane_look(mcx_lane *lane)
{
    if (lane != NULL && lane->streams[0] != NULL) {
        look_at(lane->streams[0], 0);
    }
}

/* Whether it is a value that nobody waits for any more, of which much is still to come. */
static bool is_clogged(const mcx_astream *stream)
{
    const mcx_errand *errand = (const mcx_errand *)stream->row.first;

    return errand != NULL && mc_exchange_is_in_body(&errand->asking.exchange) &&
           errand->asking.exchange.missing > CLOGS &&
           (errand->waiting == 0 || (errand->owner == NULL &&
                                     errand->slots[errand->asking.exchange.index].waiters == NULL));
}

/* Whether something that is under way on it is of use to somebody. */
static bool is_wanted(const mcx_astream *stream)
{
    for (const mc_asking *each = stream->row.first; each != NULL; each = each->next) {
        const mcx_errand *errand = (const mcx_errand *)each;

        if (errand->waiting != 0 || errand->is_unwatched || errand->gives_back) {
            return true;
        }
    }
    return false;
}

static void retire_stream(mcx_async *client, mcx_astream *stream);

/* Nothing new stands behind such a value: the stream gives its place to another one, and ends;
 * where that is still to be answered, behind what is under way. */
static void clear_place(mcx_async *client, mcx_lane *lane, Py_ssize_t number)
{
    mcx_astream *stream = lane->streams[number];

    if (LIKELY(stream == NULL) || LIKELY(!is_clogged(stream))) {
        return;
    }
    if (!is_wanted(stream)) {
        mcx_astream_lose(stream, MCX_LOST_RETIRED, NULL);
        return;
    }
    lane->streams[number] = NULL;
    stream->lane = NULL;
    mcx_lane_count(client, lane);
    retire_stream(client, stream);
    Py_DECREF((PyObject *)stream);
}

static Py_ssize_t choose_number(const mcx_async *client, const mcx_lane *lane, bool is_big)
{
    Py_ssize_t best = 0;

    if (client->connections > 1 &&
        (is_big || (lane->streams[0] != NULL && is_busy(lane->streams[0])))) {
        best = 1;
        for (Py_ssize_t i = 1; i < client->connections; i++) {
            size_t under_way = lane->streams[i] != NULL ? lane->streams[i]->row.count : 0;
            size_t least = lane->streams[best] != NULL ? lane->streams[best]->row.count : 0;

            best = under_way < least ? i : best;
        }
    }
    return best;
}

mcx_astream *mcx_lane_stream(mcx_async *client, mcx_lane *lane, bool is_big)
{
    mcx_astream *stream;
    PyObject *result;
    Py_ssize_t number;

    if (UNLIKELY(lane == NULL)) {
        return NULL;
    }
    for (number = 0; number < client->connections; number++) {
        clear_place(client, lane, number);
    }
    number = choose_number(client, lane, is_big);
    if (LIKELY(lane->streams[number] != NULL)) {
        look_at(lane->streams[number], MCX_LOOK_AFTER);
    }
    if (LIKELY(lane->streams[number] != NULL)) {
        return lane->streams[number];
    }
    stream = mcx_astream_new(client, lane, number);
    if (stream == NULL) {
        return NULL;
    }
    lane->streams[number] = stream;
    result = PyObject_CallMethod((PyObject *)client, "_open", "OO", stream, lane->host);
    if (result == NULL) {
        stream->lane = NULL;
        Py_CLEAR(lane->streams[number]);
        return NULL;
    }
    Py_DECREF(result);
    return lane->streams[number];
}

/* ---- the server of a key -------------------------------------------------------------------- */

int mcx_lane_check(mcx_call *call, mcx_server *host, bool *probe)
{
    int64_t now;

    *probe = false;
    if (LIKELY(atomic_load_explicit(&host->server.dead_until, memory_order_relaxed) == 0)) {
        return 1;
    }
    if (mcx_wall_clock(call->module, &now) < 0) {
        return -1;
    }
    mc_server_health health = mc_server_check(&host->server, now);

    *probe = health == MC_SERVER_PROBE;
    if (health == MC_SERVER_DEAD && mcx_fault_dead(call, host) < 0) {
        return -1;
    }
    return health != MC_SERVER_DEAD;
}

int mcx_lane_choose(mcx_async *client, mcx_call *call, const mcx_key *key, mcx_server *tried,
                    mcx_lane **lane, bool *probe)
{
    const mcx_snapshot *snapshot = call->snapshot;
    mcx_walk walk;
    size_t bucket;
    int there = mcx_walk_first(call, key, &walk, &bucket);

    *lane = NULL;
    *probe = false;
    while (there > 0) {
        mcx_server *host = (mcx_server *)snapshot->bucket[bucket];
        /* A call for many keys asks once for all of a server's. */
        bool is_known = host->lane != NULL && host->lane->gathering != NULL;
        int usable = host == tried ? 0 : is_known ? 1 : mcx_lane_check(call, host, probe);

        if (LIKELY(usable != 0)) {
            there = usable;
            *lane = usable > 0 ? mcx_lane_of(client, host) : NULL;
            break;
        }
        there = mcx_walk_next(call, &walk, &bucket);
    }
    mcx_walk_end(&walk);
    if (there > 0 && *lane == NULL) {
        there = -1;
    }
    if (LIKELY(there > 0)) {
        Py_CLEAR(call->faults); /* of servers that were passed by */
        call->host = (*lane)->host;
    }
    return there;
}

/* ---- their end ------------------------------------------------------------------------------ */

static bool is_current(mcx_call *call, const mcx_lane *lane)
{
    const mcx_snapshot *snapshot = call->snapshot;

    for (size_t i = 0; i < snapshot->server_count; i++) {
        if (snapshot->server[i] == (PyObject *)lane->host) {
            return true;
        }
    }
    return false;
}

/* One that has left its lane. */
static void retire_stream(mcx_async *client, mcx_astream *stream)
{
    bool is_idle = stream->row.first == NULL && stream->first == NULL;

    if (is_idle) {
        mcx_astream_lose(stream, MCX_LOST_RETIRED, NULL);
    }
    else { /* it ends when all of it is answered, or with its loop */
        stream->next = client->retired;
        client->retired = (mcx_astream *)Py_NewRef((PyObject *)stream);
    }
}

static void free_lane(mcx_async *client, mcx_lane *lane, bool in_order)
{
    lane->host->lane = NULL;
    for (Py_ssize_t i = 0; i < client->connections; i++) {
        mcx_astream *stream = lane->streams[i];

        lane->streams[i] = NULL;
        if (stream != NULL) {
            stream->lane = NULL;
            if (in_order) {
                retire_stream(client, stream);
            }
            else {
                mcx_astream_drop(stream);
            }
            Py_DECREF((PyObject *)stream);
        }
    }
    mcx_lane_count(client, lane);
    Py_DECREF((PyObject *)lane->host);
    PyMem_Free(lane);
}

void mcx_lanes_end(mcx_async *client, bool in_order)
{
    while (client->lanes != NULL) {
        mcx_lane *lane = client->lanes;

        client->lanes = lane->next;
        free_lane(client, lane, in_order);
    }
    while (!in_order && client->retired != NULL) {
        mcx_astream *stream = client->retired;

        client->retired = stream->next;
        stream->next = NULL;
        mcx_astream_drop(stream);
        Py_DECREF((PyObject *)stream);
    }
}

int mcx_lanes_retire(mcx_async *client)
{
    mcx_call call;
    mcx_lane **at = &client->lanes;
    PyObject *result;

    if (mcx_cache_begin(&call, (PyObject *)client->cache, MC_VERSION) < 0) {
        return -1;
    }
    while (*at != NULL) {
        mcx_lane *lane = *at;

        if (is_current(&call, lane)) {
            at = &lane->next;
            continue;
        }
        *at = lane->next;
        free_lane(client, lane, true);
    }
    result = mcx_cache_end(&call, Py_NewRef(Py_None), NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
