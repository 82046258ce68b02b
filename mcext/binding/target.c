

#include "target.h"

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/wire/key.h"

#include "call.h"
#include "choose.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "first_words.h"
#include "keys.h"
#include "log.h"
#include "server.h"
#include "shared.h"
#include "state.h"
#include "tls.h"
#include "watch.h"

int mcx_mark_dead(mcx_call *call, mcx_server *host, PyObject *reason)
{
    if (call->cache != NULL) {
        if (host->counters != NULL) {
            mcx_count_up(&host->counters->dead_marks, 1);
        }
        if (mcx_event(call, "dead", host, NULL, 0) < 0) {
            return -1;
        }
    }
    return mcx_server_mark_dead(host, reason) < 0 ? -1 : mcx_watch_hint(call->shared);
}

/* The fault of a Cache's call, which says in its own words what a timeout is. */
static int note_failure(mcx_call *call, mcx_server *host, mc_connection *connection,
                        const mcx_first_words *words, PyObject *text)
{
    return words->refused != NULL ? mcx_fault_authentication(call, host, text, words->cause)
                                  : mcx_fault_connect(call, host, connection, words->status);
}

static int connect_failed(mcx_call *call, mcx_server *host, mc_connection *connection,
                          const mcx_first_words *words)
{
    PyObject *text, *reason = NULL;
    int result = -1;

    if (words->status == MC_RAISED || words->status == MC_NO_MEMORY) {
        if (words->status == MC_NO_MEMORY) {
            PyErr_NoMemory();
        }
        return -1;
    }
    if (words->refused != NULL) {
        atomic_store(&host->refused_at, mc_clock_now());
    }
    text = words->refused != NULL ? mcx_refusal_text(words)
                                  : mcx_status_text(connection, words->status);
    if (text != NULL &&
        (call->cache == NULL || note_failure(call, host, connection, words, text) == 0)) {
        reason = PyUnicode_FromFormat("connect: %U", text);
    }
    if (reason != NULL && words->status == MC_CROWDED) { /* which says nothing about the server */
        result = mcx_server_debuglog(host, "MemCache: %U", reason);
    }
    else if (reason != NULL) {
        result = mcx_mark_dead(call, host, reason);
    }
    Py_XDECREF(text);
    Py_XDECREF(reason);
    return result;
}

static int note_connect(mcx_call *call, mcx_server *host)
{
    if (host->counters != NULL) {
        mcx_count_up(&host->counters->connects, 1);
    }
    return mcx_event(call, "connect", host, NULL, 0);
}

/* Opens connection, which the call owns. 1, or 0 and -1: then it has been given back. */
static int open_connection(mcx_call *call, mcx_server *host, mc_connection *connection)
{
    mcx_first_words words = {.status = MC_OK};

    if (mc_clock_connect_left(&call->clock) == 0) {
        mc_pool_give(connection, false, 0);
        return 0; /* the call's budget is spent, which says nothing about this server */
    }
    /* Once in a call, also where a dead mark does not hold for as long. */
    if (atomic_load(&host->refused_at) > call->began) {
        mc_pool_give(connection, false, 0);
        return call->cache != NULL ? mcx_fault_dead(call, host) : 0;
    }
    connection->transport =
        mcx_server_is_tls(host) ? mcx_tls_over(call->transport) : call->transport;
    connection->kind = call->socket_class;
    connection->owner = call->owner;
    words.status = mcx_server_open(host, connection, &call->clock);
    if (words.status == MC_OK) {
        mc_pool_opened(connection);
        if (call->cache != NULL && note_connect(call, host) < 0) {
            mc_pool_give(connection, false, 0);
            return -1;
        }
        words = mcx_say_first_words(call, host, connection);
    }
    if (words.status == MC_OK && words.again) {
        mc_connection_close(connection);
        return open_connection(call, host, connection);
    }
    if (words.status == MC_OK) {
        return 1;
    }
    int result = connect_failed(call, host, connection, &words);

    Py_XDECREF(words.cause);
    mc_pool_give(connection, false, 0);
    return result;
}

/* A dead mark stands: 0 while it holds, -1, or 1 and *probe: it has run out, and this call alone
 * tries the server; how that ends decides about the mark. */
static COLD int check_mark(mcx_call *call, mcx_server *host, bool *probe)
{
    int64_t now;

    if (mcx_wall_clock(call->module, &now) < 0) {
        return -1;
    }
    mc_server_health health = mc_server_check(&host->server, now);

    *probe = health == MC_SERVER_PROBE;
    if (health == MC_SERVER_DEAD && call->cache != NULL && mcx_fault_dead(call, host) < 0) {
        return -1;
    }
    return health != MC_SERVER_DEAD;
}

/* There is none that can be used as it is, *connection is NULL, or it was idle for long. fresh: a
 * new one in any case. 1, or 0 and -1: then it has been given back. */
static COLD int make_ready(mcx_call *call, mcx_server *host, bool fresh, mc_connection **connection)
{
    if (*connection == NULL) {
        *connection = mc_pool_take(&host->server.pool, call->socket_class, call->owner);
    }
    if (*connection == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if ((*connection)->open) {
        if (!fresh && (call->clock.start - (*connection)->last_used < MCX_LOOK_AFTER ||
                       mc_connection_is_quiet(*connection))) {
            return 1;
        }
        mc_connection_close(*connection);
        if (UNLIKELY(PyErr_Occurred() != NULL)) { /* the look has raised */
            mc_pool_give(*connection, false, 0);
            return -1;
        }
    }
    return open_connection(call, host, *connection);
}

static COLD int not_initialised(void)
{
    PyErr_SetString(PyExc_RuntimeError, "_Host.__init__ has not been called");
    return -1;
}

/* As mcx_connect_host. fresh: newly opened. */
static INLINE int connect_host(mcx_call *call, mcx_server *host, bool fresh, mcx_target *target)
{
    mc_connection *connection;
    int there = 1;

    target->host = NULL;
    target->connection = NULL;
    target->probe = target->asked = false;
    if (UNLIKELY(!host->initialised)) {
        return not_initialised();
    }
    call->clock.timeout = atomic_load_explicit(&host->timeout, memory_order_relaxed);
    call->clock.connect_timeout = atomic_load_explicit(&host->connect_within, memory_order_relaxed);
    if (UNLIKELY(atomic_load_explicit(&host->server.dead_until, memory_order_relaxed) != 0)) {
        there = check_mark(call, host, &target->probe);
        if (there <= 0) {
            return there;
        }
    }
    connection = mc_pool_take_newest(&host->server.pool, call->socket_class, call->owner);
    if (UNLIKELY(connection == NULL || fresh ||
                 call->clock.start - connection->last_used >= MCX_LOOK_AFTER)) {
        there = make_ready(call, host, fresh, &connection);
        if (there <= 0) {
            if (target->probe) {
                target->probe = false;
                mc_server_give_up_probe(&host->server);
            }
            return there;
        }
    }
    target->connection = connection;
    target->host = (mcx_server *)Py_NewRef((PyObject *)host);
    return 1;
}

int mcx_connect_host(mcx_call *call, mcx_server *host, mcx_target *target)
{
    return connect_host(call, host, false, target);
}

int mcx_reconnect(mcx_call *call, mcx_target *target)
{
    mcx_server *host = (mcx_server *)Py_NewRef((PyObject *)target->host);
    int connected;

    mcx_target_end(call, target, false);
    connected = connect_host(call, host, true, target);
    Py_DECREF((PyObject *)host);
    return connected;
}

/* How a server that was tried behind its dead mark has done. */
static COLD void end_probe(mcx_target *target, bool clean)
{
    mc_server *server = &target->host->server;

    target->probe = false;
    if (clean && target->asked) {
        mc_server_mark_alive(server);
    }
    else {
        mc_server_give_up_probe(server); /* after a dead mark of this call: no change */
    }
}

/* Closing a connection whose transport is not free runs Python code. */
static COLD void give_unclean(mcx_call *call, mcx_target *target)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    mc_pool_give(target->connection, false, call->clock.start);
    PyErr_Restore(type, value, traceback);
}

void mcx_target_end(mcx_call *call, mcx_target *target, bool clean)
{
    mcx_server *host = target->host;

    if (UNLIKELY(target->probe)) {
        end_probe(target, clean);
    }
    if (LIKELY(clean && target->connection != NULL)) {
        mc_pool_give(target->connection, true, call->clock.start);
    }
    else if (target->connection != NULL) {
        give_unclean(call, target);
    }
    target->connection = NULL;
    target->host = NULL;
    Py_XDECREF((PyObject *)host);
}

/* The bucket's list was changed in place: the call goes on with what it holds now. As mcx_select.
 */
static COLD int take_lists(mcx_call *call)
{
    int entered;

    if (mcx_shared_take_lists(call->shared) < 0) {
        return -1;
    }
    mcx_snapshot *before = call->snapshot;

    entered = mcx_call_enter(call);
    if (entered != 0) {
        call->snapshot = before;
        call->is_customised = entered > 0;
        return -1;
    }
    mcx_shared_leave(before);
    return 0;
}

/* By the lists as the snapshot has them. *is_stale: they were changed in place. */
static inline int select_once(mcx_call *call, const mcx_key *key, mcx_target *target,
                              bool *is_stale)
{
    const mcx_snapshot *snapshot = call->snapshot;
    mcx_walk walk;
    size_t bucket;
    int connected = 0;

    *is_stale = (size_t)PyList_GET_SIZE(snapshot->buckets) != snapshot->bucket_count;
    if (UNLIKELY(*is_stale)) {
        return -1;
    }
    int there = mcx_walk_first(call, key, &walk, &bucket);

    while (LIKELY(there > 0)) {
        if (UNLIKELY(!mcx_bucket_is(snapshot, bucket))) {
            *is_stale = true;
            connected = -1;
            break;
        }
        connected = connect_host(call, (mcx_server *)snapshot->bucket[bucket], false, target);
        if (LIKELY(connected != 0)) {
            break;
        }
        there = mcx_walk_next(call, &walk, &bucket);
    }
    mcx_walk_end(&walk);
    return there < 0 ? -1 : connected;
}

int mcx_select(mcx_call *call, const mcx_key *key, mcx_target *target)
{
    for (int again = 0;; again++) {
        bool is_stale;

        target->host = NULL;
        target->connection = NULL;
        int found = select_once(call, key, target, &is_stale);

        if (LIKELY(!is_stale)) {
            if (UNLIKELY(call->cache != NULL) && found > 0) {
                Py_CLEAR(call->faults); /* of servers that were passed by */
                call->host = target->host;
            }
            return found;
        }
        if (again == 10) { /* somebody changes it all the time */
            return 0;
        }
        if (take_lists(call) < 0) {
            return -1;
        }
    }
}
