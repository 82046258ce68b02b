/* straight: the straight way of a small call.
 *
 * Almost every call is of the plainest kind: one ASCII key, nothing replaced, the connection that
 * this thread used last is free and fresh, the reply comes whole with the first receive. Such a
 * call goes this way, with the same steps as any other (check, choose, own, send, receive, give
 * back) and none of what the others may need. Whatever is not plain before anything is sent takes
 * the general way from the start (call.c); a reply that is not the plain one is handed over to it
 * with the connection, for the exchange to judge.
 *
 * Of commands_single.c alone, and a header so that each command has it in line. */
#ifndef MCX_STRAIGHT_H
#define MCX_STRAIGHT_H

#include "mcx.h"

typedef struct {
    mcx_module *module;
    mcx_core *core;
    mcx_snapshot *snapshot;
    mcx_record *record; /* borrowed: valid as long as no other code runs */
    mcx_server *host;   /* borrowed from the snapshot */
    mc_connection *connection;
    mc_slice key;
    mc_clock clock;
} mcx_straight;

static inline bool mcx_straight_view(PyObject *key, mc_slice *text)
{
    if (LIKELY(PyUnicode_CheckExact(key))) {
        if (UNLIKELY(!PyUnicode_IS_COMPACT_ASCII(key))) {
            return false;
        }
        *text = (mc_slice){PyUnicode_DATA(key), (size_t)PyUnicode_GET_LENGTH(key)};
        return true;
    }
    if (PyBytes_CheckExact(key)) {
        *text = (mc_slice){PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};
        return true;
    }
    return false;
}

/* The host for key, borrowed, where it is a plain one. */
static inline mcx_server *mcx_straight_choose(mcx_module *module, const mcx_snapshot *snapshot,
                                              mc_slice key)
{
    int kind = atomic_load_explicit(&module->hash_kind, memory_order_relaxed);
    size_t index = 0;

    if (UNLIKELY(kind == MCX_HASH_PYTHON)) {
        return NULL;
    }
    if (snapshot->bucket_count > 1) {
        uint32_t hash = kind == MCX_HASH_CRC32 ? mc_hash_crc32(key) : mc_hash_default(key);

        index = hash % snapshot->bucket_count;
    }
    mcx_server *host = (mcx_server *)snapshot->bucket[index];

    return LIKELY(mcx_bucket_is(snapshot, index) &&
                  /* which a host without an address is not */
                  atomic_load_explicit(&host->server.dead_until, memory_order_relaxed) == 0)
               ? host
               : NULL;
}

/* Begins a small call of the plainest kind: 1, and the connection is this call's; 0 where anything
 * is not plain, and nothing has happened. Never an exception. */
static inline __attribute__((always_inline)) int mcx_straight_begin(mcx_straight *straight,
                                                                    PyObject *self, PyObject *key)
{
    mcx_module *module = mcx_module_of(self);

    if (UNLIKELY(module == NULL)) {
        return 0;
    }
    mcx_core *core = (mcx_core *)__atomic_load_n((PyObject **)((char *)self + module->core_offset),
                                                 __ATOMIC_ACQUIRE);
    mcx_snapshot *snapshot;
    mc_remembered *connections;

    if (UNLIKELY(core == NULL || !mcx_socket_is_plain(module) ||
                 !mcx_straight_view(key, &straight->key))) {
        return 0;
    }
    straight->record = mcx_last_record(core, &connections);
    if (UNLIKELY(straight->record == NULL || !mcx_counts_alone(straight->record))) {
        return 0;
    }
    straight->module = module;
    straight->core = core;
    straight->snapshot = snapshot = mcx_core_take(core);

    if (UNLIKELY(snapshot == NULL)) {
        return 0;
    }
    if (UNLIKELY(straight->key.length - 1 >= snapshot->straight_key_length ||
                 !mcx_is_plain(module, core, snapshot, self) || !mc_key_is_plain(straight->key))) {
        goto not_plain;
    }
    straight->host = mcx_straight_choose(module, snapshot, straight->key);
    if (UNLIKELY(straight->host == NULL)) {
        goto not_plain;
    }
    mc_clock_start(&straight->clock,
                   atomic_load_explicit(&straight->host->timeout, memory_order_relaxed),
                   atomic_load_explicit(&straight->host->connect_within, memory_order_relaxed));
    straight->connection = mc_pool_take_last(&straight->host->server.pool, connections,
                                             straight->clock.start, MCX_LOOK_AFTER);
    if (UNLIKELY(straight->connection == NULL)) {
        goto not_plain;
    }
    if (UNLIKELY(straight->connection->unanswered != 0)) {
        mc_pool_give(straight->connection, true, straight->clock.start);
        goto not_plain;
    }
    return 1;
not_plain:
    mcx_snapshot_drop(snapshot);
    return 0;
}

/* Counts the command, sends the connection's output buffer and receives once. MC_RAISED: an
 * exception is set. */
static inline mc_status mcx_straight_roundtrip(mcx_straight *straight, mc_command command)
{
    mc_status status;

    straight->record->counts[command]++;
    do {
        Py_BEGIN_ALLOW_THREADS
        status = mc_connection_roundtrip(straight->connection, &straight->clock);
        Py_END_ALLOW_THREADS
        if (UNLIKELY(status == MC_INTERRUPTED)) {
            mc_process_add_calls(1);
            int handled = PyErr_CheckSignals();
            mc_process_add_calls(-1);
            if (handled < 0) {
                return MC_RAISED;
            }
        }
    } while (UNLIKELY(status == MC_INTERRUPTED));
    return status;
}

/* The reply was read whole. */
static inline void mcx_straight_end(mcx_straight *straight)
{
    mcx_core *core = straight->core;
    int64_t now = straight->clock.start;

    mc_pool_give(straight->connection, true, now);
    /* With an exception set (no memory for the result), what runs Python code is left to others. */
    if (UNLIKELY(now >= atomic_load_explicit(&core->next_reap, memory_order_relaxed)) &&
        !PyErr_Occurred()) {
        mc_process_add_calls(1); /* a Python socket's close may fork */
        mcx_reap(straight->module, core, straight->snapshot, now);
        mc_process_add_calls(-1);
    }
    mcx_snapshot_drop(straight->snapshot);
}

/* The reply was not read whole: the general way takes over with call and target, which then own
 * what the straight way had. -1 with an exception: all is given up. */
static int mcx_straight_hand_over(mcx_straight *straight, PyObject *self, mcx_call *call,
                                  mcx_target *target)
{
    /* What begin does, without its look at what is replaced: that was nothing when it began. */
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback); /* what a signal handler raised, perhaps */
    mc_process_add_calls(1); /* as mcx_core_enter does: from here on any code may run */
    *call = (mcx_call){.self = self,
                       .module = straight->module,
                       .core = straight->core,
                       .snapshot = straight->snapshot, /* its reference goes with it */
                       .record = mcx_record_of(straight->module, straight->core, self),
                       .clock = straight->clock,
                       .debuglog_is_replaced = false};
    if (call->record == NULL || mcx_find_socket_class(straight->module, &call->socket_class) < 0 ||
        Py_EnterRecursiveCall(" in a call of a Client")) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        Py_XDECREF((PyObject *)call->record);
        Py_XDECREF(call->socket_class);
        mc_pool_give(straight->connection, false, 0);
        mcx_core_leave(straight->snapshot);
        return -1;
    }
    if (UNLIKELY(call->socket_class != NULL)) {
        call->kind = call->socket_class;
        call->owner = mcx_socket_owner(call->socket_class);
    }
    PyErr_Restore(type, value, traceback);
    *target = (mcx_target){.host = (mcx_server *)Py_NewRef((PyObject *)straight->host),
                           .connection = straight->connection,
                           .asked = true};
    return 0;
}

#endif
