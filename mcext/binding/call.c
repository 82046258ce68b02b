/* call: one call of a client's method from begin to end: its thread's record, the snapshot that it
 * works with, whether it goes the way in Python.
 *
 * Everything here belongs to the calling thread. */
#include "call.h"

#include "core/fleet/pool.h"
#include "core/net/clock.h"
#include "core/net/connection.h"
#include "core/net/socket.h"

#include "compat.h"
#include "pure.h"
#include "python_socket.h"
#include "record.h"
#include "replaced.h"
#include "server.h"
#include "shared.h"
#include "state.h"
#include "watch.h"

/* An idle connection older than this is closed by some later call. */
#define IDLE_LIMIT (60 * MC_SECOND)
#define REAP_STEPS 16
#define REAP_AT_MOST 2

/* Something may be replaced: as mcx_call_enter. */
static COLD int judge(mcx_call *call)
{
    if (mcx_watch_is_due(call->shared)) {
        mcx_shared_leave(call->snapshot);
        if (mcx_watch_ready(call->shared, call->self) < 0) {
            return -1;
        }
        call->snapshot = mcx_shared_enter(call->shared);
    }
    int replaces = mcx_replaces_slow(call->module, call->shared, call->snapshot, call->self);

    call->debuglog_is_replaced = replaces > 0 && (replaces & MCX_REPLACES_DEBUGLOG);
    if (replaces < 0 || (replaces & MCX_REPLACES_INSIDES)) {
        mcx_shared_leave(call->snapshot);
        return replaces < 0 ? -1 : 1;
    }
    return 0;
}

static INLINE int enter(mcx_call *call)
{
    call->snapshot = mcx_shared_enter(call->shared);
    call->debuglog_is_replaced = false;
    return LIKELY(mcx_is_plain(call->module, call->shared, call->snapshot, call->self))
               ? 0
               : judge(call);
}

int mcx_call_enter(mcx_call *call)
{
    return enter(call);
}

static COLD int has_no_module(void)
{
    PyErr_SetString(PyExc_TypeError, "the class of this client is no Client any more");
    return -1;
}

/* Bytes move through objects of a class of an application's own, perhaps. */
COLD int mcx_call_find_transport(mcx_call *call)
{
    if (mcx_find_socket_class(call->module, &call->socket_class) < 0) {
        return -1;
    }
    if (call->socket_class != NULL) {
        call->transport = &mcx_python_transport;
        call->owner = mcx_socket_owner(call->socket_class);
    }
    return 0;
}

/* It has not begun: what it held is given up. */
static COLD int give_up(mcx_call *call, int begun)
{
    Py_XDECREF(call->socket_class);
    Py_XDECREF((PyObject *)call->record);
    Py_LeaveRecursiveCall();
    return begun;
}

static INLINE int begin(mcx_call *call, PyObject *self, bool inner)
{
    mcx_module *module = mcx_module_of(self);
    int begun = 0;

    if (UNLIKELY(module == NULL)) {
        return has_no_module();
    }
    /* What a call runs of its caller's may call the client again, without a frame of Python's. */
    if (UNLIKELY(Py_EnterRecursiveCall(" in a call of a Client"))) {
        return -1;
    }
    call->self = self;
    call->cache = NULL;
    call->module = module;
    call->transport = &mc_native_transport;
    call->owner = 0;
    call->socket_class = NULL;
    call->is_customised = false;
    call->record = NULL;
    call->shared = mcx_shared_of(module, self);
    if (LIKELY(call->shared != NULL)) {
        call->record = mcx_record_of(module, call->shared, self);
    }
    if (UNLIKELY(call->record == NULL) ||
        (UNLIKELY(!mcx_socket_is_plain(module)) && mcx_call_find_transport(call) < 0)) {
        return give_up(call, -1);
    }
    if (UNLIKELY(inner)) {
        call->snapshot = mcx_shared_enter(call->shared);
        call->debuglog_is_replaced = true; /* whether or not: the method is called */
    }
    else {
        begun = enter(call);
        if (UNLIKELY(begun != 0)) {
            return give_up(call, begun);
        }
    }
    mc_clock_start(&call->clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT); /* until a server is chosen */
    call->began = call->clock.start;
    return 0;
}

int mcx_call_begin(mcx_call *call, PyObject *self)
{
    return begin(call, self, false);
}

int mcx_call_begin_inner(mcx_call *call, PyObject *self)
{
    return begin(call, self, true);
}

int mcx_call_begin_listed(mcx_call *call, PyObject *self)
{
    int begun = mcx_call_begin(call, self);

    if (begun == 0 && UNLIKELY(!mcx_lists_are_current(call->snapshot))) {
        begun = mcx_shared_take_lists(call->shared);
        (void)mcx_call_end(call, NULL);
        return begun < 0 ? -1 : mcx_call_begin(call, self);
    }
    return begun;
}

/* Closes connections that have been idle for long: a few looks, at most two closed. */
static void reap_idle(mcx_call *call)
{
    mcx_module *module = call->module;
    mcx_shared *shared = call->shared;
    mcx_snapshot *snapshot = call->snapshot;
    int64_t now = call->clock.start;
    size_t steps = REAP_STEPS;
    int closed = 0;
    bool round_done = false;

    while (steps > 0 && closed < REAP_AT_MOST && snapshot->server_count > 0) {
        size_t at = atomic_load_explicit(&shared->reap_server, memory_order_relaxed);

        if (at >= snapshot->server_count) {
            atomic_store_explicit(&shared->reap_server, 0, memory_order_relaxed);
            round_done = true;
            break;
        }
        mc_connection *idle = NULL;
        mcx_server *host = (mcx_server *)snapshot->server[at];
        steps--;
        if (mcx_is_server(module, snapshot->server[at]) && host->initialised) {
            idle = mc_pool_take_idle(&host->server.pool, mcx_thread_number(), now - IDLE_LIMIT);
        }
        if (idle != NULL) {
            mc_pool_give(idle, false, now);
            closed++;
        }
        else {
            atomic_store_explicit(&shared->reap_server, at + 1, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&shared->next_reap, round_done ? now + MC_SECOND : now,
                          memory_order_relaxed);
}

COLD PyObject *mcx_call_reap(mcx_call *call, PyObject *result)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    reap_idle(call);
    if (type == NULL && mcx_watch_is_begun(call->shared) &&
        mcx_watch_ready(call->shared, call->self) < 0) {
        Py_CLEAR(result);
        return NULL;
    }
    PyErr_Restore(type, value, traceback);
    return result;
}

PyObject *mcx_call_end(mcx_call *call, PyObject *result)
{
    if (UNLIKELY(mcx_call_is_to_reap(call))) {
        result = mcx_call_reap(call, result);
    }
    mcx_shared_leave(call->snapshot);
    if (UNLIKELY(call->socket_class != NULL)) {
        Py_DECREF(call->socket_class);
    }
    Py_DECREF(call->record);
    Py_LeaveRecursiveCall();
    return result;
}

PyObject *mcx_call_finish(mcx_call *call, PyObject *result, int method, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    bool is_customised = call->is_customised;
    PyObject *self = call->self;

    result = mcx_call_end(call, result);
    return UNLIKELY(is_customised) && !PyErr_Occurred()
               ? mcx_pure(self, method, args, nargs, kwnames)
               : result;
}
