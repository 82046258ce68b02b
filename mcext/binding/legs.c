/* legs: the legs of a multi call served together; those over Python sockets in turn, a batch at a
 * time, so that no side waits for the other's buffers. spread.c gives each leg its items. */
#include <string.h>

#include "core/flow/fanout.h"
#include "core/net/clock.h"
#include "core/wire/meta.h"
#include "core/wire/reply.h"

#include "cache_call.h"
#include "cache_item.h"
#include "cache_meta.h"
#include "call.h"
#include "compat.h"
#include "drive.h"
#include "faults.h"
#include "log.h"
#include "move.h"
#include "multi.h"
#include "python_socket.h"
#include "server.h"
#include "state.h"
#include "target.h"
#include "values.h"

/* What a socket's buffer may hold: what a Python socket gives past the deadline without waiting. */
#define OVERTIME (UINT32_C(4) << 20)

/* ---- events --------------------------------------------------------------------------------- */

/* What cannot be decoded of a Cache's values is its own key's failure alone. */
static COLD int keep_fault(mcx_multi *all, mcx_leg *each, size_t index)
{
    PyObject *key = all->items[each->items[index]].object;

    if (mcx_fault_keep(all->call, each->target.host) < 0 ||
        (all->undone == NULL && (all->undone = PyList_New(0)) == NULL)) {
        return -1;
    }
    return PyList_Append(all->undone, key);
}

/* Steals value, of the leg's key number index; NULL: there is an exception. */
static inline int keep_value(mcx_multi *all, mcx_leg *each, size_t index, PyObject *value)
{
    int result = -1;

    if (UNLIKELY(value == NULL) && all->call->cache != NULL) {
        result = keep_fault(all, each, index);
    }
    else if (LIKELY(value != NULL)) {
        size_t number = each->items[index];
        mcx_item *of = &all->items[number], *standing = &all->items[mcx_standing_of(all, number)];

        result = 0;
        if (LIKELY(standing->found_by <= of->leg)) {
            standing->found_by = of->leg;
            result = mcx_dict_put(all->result, standing->object, value);
        }
        each->io.good++;
        Py_DECREF(value);
    }
    return result;
}

/* A lease came with a stale item: it is noted, to be given back. */
static int note_won(mcx_multi *all, mcx_leg *each, size_t number)
{
    mcx_won *won = PyMem_Realloc(all->won, (all->won_count + 1) * sizeof *won);

    if (won == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    all->won = won;
    won[all->won_count++] = (mcx_won){number, each->reply.cas};
    return 0;
}

/* The place of a lease is no value; the lease itself comes where the key was invalidated. */
static int take_stub(mcx_multi *all, mcx_leg *each)
{
    return all->command == MC_MG && mc_meta_has(&each->reply, 'W')
               ? note_won(all, each, each->items[each->io.exchange.index])
               : 0;
}

/* The value of the header each->reply, or the Item. body: as of mcx_decode. */
static int keep_decoded(mcx_multi *all, mcx_leg *each, mc_slice text, PyObject *body)
{
    size_t index = each->io.exchange.index;
    const mc_reply *reply = &each->reply;
    PyObject *value = mcx_decode(all->call, reply->flags, text, body);

    if (UNLIKELY(all->command == MC_MG)) {
        if (mc_meta_has(reply, 'W') && note_won(all, each, each->items[index]) < 0) {
            Py_XDECREF(value);
            return -1;
        }
        value = mcx_item_new(all->call->module, reply, reply->flags, reply->cas, value);
    }
    return keep_value(all, each, index, value);
}

static int take_value(mcx_multi *all, mcx_leg *each)
{
    mcx_call *call = all->call;
    mc_exchange *exchange = &each->io.exchange;
    size_t length = (size_t)exchange->reply.length;

    each->reply = exchange->reply;
    if (call->cache != NULL && mcx_is_stub(exchange->reply.flags, length) &&
        exchange->body != NULL) {
        return take_stub(all, each);
    }
    if (exchange->body != NULL) {
        return keep_decoded(all, each, (mc_slice){exchange->body, length}, NULL);
    }
    each->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (each->body == NULL) {
        return -1;
    }
    mc_exchange_give_room(exchange, PyBytes_AS_STRING(each->body));
    return 0;
}

static int take_filled(mcx_multi *all, mcx_leg *each)
{
    PyObject *body = each->body;
    int result;

    each->body = NULL;
    result = all->call->cache != NULL && mcx_is_stub(each->reply.flags, (size_t)each->reply.length)
                 ? take_stub(all, each)
                 : keep_decoded(all, each, mcx_bytes_of(body), body);
    Py_DECREF(body);
    return result;
}

/* The same of a Cache. */
static int take_cache_answer(mcx_multi *all, mcx_leg *each)
{
    mc_exchange *exchange = &each->io.exchange;
    mc_reply *reply = &exchange->reply;

    if (mc_reply_is_error(reply->type)) {
        each->failed = true;
        if (each->command == MC_MG) { /* another server stands there now */
            mc_server_forget_meta(&each->target.host->server);
        }
        return mcx_fault_line(all->call, each->target.host, reply);
    }
    if (all->command == MC_SET) {
        all->items[each->items[exchange->index]].stored = reply->type == MC_REPLY_STORED;
        each->io.good += reply->type == MC_REPLY_STORED;
    }
    all->deleted += reply->type == MC_REPLY_DELETED;
    return 0;
}

static int take_answer(mcx_multi *all, mcx_leg *each)
{
    mc_exchange *exchange = &each->io.exchange;
    mc_reply *reply = &exchange->reply;

    if (UNLIKELY(all->call->cache != NULL)) {
        return take_cache_answer(all, each);
    }
    if (all->command == MC_SET) {
        all->items[each->items[exchange->index]].stored = reply->type == MC_REPLY_STORED;
    }
    else if (all->command == MC_DELETE && reply->type != MC_REPLY_DELETED) {
        all->failed |= mc_reply_is_error(reply->type);
        return mcx_debuglog_line(each->target.host,
                                 "while expecting 'DELETED', got unexpected response %R",
                                 reply->line);
    }
    return 0;
}

/* Values that come in a row. */
static int take_values(mcx_multi *all, mcx_leg *each)
{
    mc_exchange *exchange = &each->io.exchange;
    mc_value_run run;
    mc_slice text;
    uint32_t flags;
    int result = 0;
    /* What decodes a value or compares a key may be Python code, which must not find a run open. */
    bool plain = all->details == NULL && !mcx_has_codec(all->call);
    bool has_stubs = all->call->cache != NULL;

    mc_exchange_begin_run(exchange, &run);
    while (result == 0 && mc_value_run_next(&run, &flags, &text)) {
        size_t index = (size_t)(run.key - exchange->keys) - 1;

        if (UNLIKELY(text.length == 0) && flags == 0 && has_stubs) {
            continue;
        }
        if (LIKELY(flags == 0 && plain)) {
            result = keep_value(all, each, index,
                                PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length));
            continue;
        }
        mc_exchange_end_run(exchange, &run);
        result = keep_value(all, each, index, mcx_decode(all->call, flags, text, NULL));
        mc_exchange_begin_run(exchange, &run);
    }
    mc_exchange_end_run(exchange, &run);
    return result;
}

/* The events that come most, as far as they come in a row. */
static int take_plain(mcx_multi *all, mcx_leg *each)
{
    if (all->command == MC_SET) {
        size_t at, count = mc_exchange_take_stored(&each->io.exchange, &at);

        for (size_t end = at + count; at < end; at++) {
            all->items[each->items[at]].stored = true;
        }
        each->io.good += count;
    }
    else if (each->command == MC_GET) {
        return take_values(all, each);
    }
    return 0;
}

static int end_leg(mcx_multi *all, mcx_leg *each)
{
    each->over = true;
    mcx_batch_drop_values(each);
    Py_CLEAR(each->body);
    each->failed |= each->io.verdict.status != MC_OK;
    all->failed |= each->failed;
    if (each->target.connection != NULL) {
        each->target.connection->overtime = 0;
    }
    return mcx_conclude(all->call, &each->target, &each->io, false) < 0 ? -1 : 0;
}

/* Once more on a new connection. What was sent stands first in items, what was too large is gone
 * from them. */
static void begin_again(mcx_multi *all, mcx_leg *each)
{
    mc_leg *io = &each->io;

    mcx_batch_drop_values(each);
    Py_CLEAR(each->body);
    if (!mcx_multi_reads(all)) {
        memmove(each->items + io->sent, each->items + io->next,
                (io->count - io->next) * sizeof *each->items);
        io->count = io->sent + (io->count - io->next);
    }
    mcx_begin_again(all->call, &each->target, io);
}

/* All that the leg can do without moving bytes. */
static int process(mcx_multi *all, mcx_leg *each)
{
    for (;;) {
        /* One that could not be begun once more has no connection. */
        int result = mc_leg_is_running(&each->io) ? take_plain(all, each) : 0;

        switch (result < 0 ? MC_LEG_OVER : mc_leg_next(&each->io)) {
        case MC_LEG_MOVE:
            return 0;
        case MC_LEG_PRODUCE:
            result = mcx_batch_produce(all, each);
            break;
        case MC_LEG_VALUE:
            result = take_value(all, each);
            break;
        case MC_LEG_FILLED:
            result = take_filled(all, each);
            break;
        case MC_LEG_REPLY:
            result = take_answer(all, each);
            break;
        case MC_LEG_RETRY: /* which is the servers' time: see take_on */
            return 0;
        case MC_LEG_OVER:
            return result < 0 ? -1 : end_leg(all, each);
        }
        if (result < 0) {
            return -1;
        }
    }
}

/* The same, outside the servers' time; and the leg is begun once more where that is right. */
static int take_on(mcx_multi *all, mcx_leg *each)
{
    int result;

    do {
        if (mc_leg_is_to_be_retried(&each->io)) {
            begin_again(all, each);
        }
        int64_t before = mc_clock_now();

        result = process(all, each);
        mcx_leave_out(all->call, before);
    } while (result == 0 && !each->over && mc_leg_is_to_be_retried(&each->io));
    return result;
}

/* ---- running -------------------------------------------------------------------------------- */

/* A leg whose bytes move through Python: a batch, its replies, the next batch. */
static int run_leg_in_turn(mcx_multi *all, mcx_leg *each)
{
    all->call->clock.timeout = each->timeout;
    mc_leg_note_time(&each->io, &all->call->clock);
    while (!each->over) {
        mcx_move(all->call, &each->io);
        if (take_on(all, each) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The first batch of each leg through a Python socket goes out before any of them is read: the
 * answers come while a slow server is waited for, and are there even if that takes all the time. */
static int send_ahead(mcx_multi *all, mcx_leg *each)
{
    all->call->clock.timeout = each->timeout;
    mc_leg_note_time(&each->io, &all->call->clock); /* those before it may have taken it all */
    mcx_send(all->call, &each->io);
    return mc_leg_is_running(&each->io)
               ? mcx_python_allow_overtime(each->target.connection, OVERTIME)
               : take_on(all, each);
}

/* The clock runs until the time of the first host is over: each has its own. */
static void set_shortest_time(mcx_multi *all)
{
    int64_t shortest = MC_NO_TIMEOUT;

    for (size_t i = 0; i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];

        if (!each->over && each->timeout != MC_NO_TIMEOUT &&
            (shortest == MC_NO_TIMEOUT || each->timeout < shortest)) {
            shortest = each->timeout;
        }
    }
    all->call->clock.timeout = shortest;
}

/* Behind a step that ended in status: whether the leg has something to do. */
static bool has_moved(const mcx_multi *all, mcx_leg *each, mc_status status, bool arrived)
{
    if (each->over || each->io.in_turn) {
        return false;
    }
    if (status == MC_TIMEOUT && each->timeout == all->call->clock.timeout) {
        mc_leg_fail(&each->io, MC_TIMEOUT); /* the others have more time than that */
    }
    return arrived || !mc_leg_is_running(&each->io) || mc_leg_wants_more(&each->io) ||
           mc_exchange_is_done(&each->io.exchange);
}

static bool all_are_free(const mcx_multi *all)
{
    for (size_t i = 0; i < all->leg_count; i++) {
        const mcx_leg *each = all->legs[i];

        if (!each->over && !each->io.in_turn && !each->io.connection->transport->is_free) {
            return false;
        }
    }
    return true;
}

/* The bytes of one turn: no wait has the GIL. */
static mc_status move_bytes(mcx_multi *all, mc_leg **ios, struct pollfd *polls, bool *arrived)
{
    mc_clock *clock = &all->call->clock;
    size_t count = all->leg_count;
    mc_status status;

    if (LIKELY(all_are_free(all))) {
        Py_BEGIN_ALLOW_THREADS
        status = mc_fanout_step(ios, count, polls, arrived, clock);
        Py_END_ALLOW_THREADS
        return status;
    }
    status = mc_fanout_begin(ios, count, polls, arrived);
    if (status != MC_AGAIN) {
        return status;
    }
    Py_BEGIN_ALLOW_THREADS
    status = mc_fanout_wait(polls, count, clock);
    Py_END_ALLOW_THREADS
    return status == MC_OK ? mc_fanout_end(ios, count, polls, arrived) : status;
}

/* One turn of the legs that are served together. */
static int step(mcx_multi *all, mc_leg **ios, struct pollfd *polls, bool *arrived)
{
    set_shortest_time(all);
    mc_status status = move_bytes(all, ios, polls, arrived);

    if (status == MC_RAISED || PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        if (has_moved(all, all->legs[i], status, arrived[i]) && take_on(all, all->legs[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* An mg is for servers that have it. 1; 0: the leg has no connection any more; -1. */
static int choose_command(mcx_multi *all, mcx_leg *each)
{
    mc_meta_level level;

    each->command = all->command;
    if (LIKELY(all->command != MC_MG)) {
        return 1;
    }
    level = mcx_meta_level(all->call, &each->target);
    each->command = level == MC_META_NONE ? MC_GETS : MC_MG;
    return level != MC_META_UNKNOWN ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* Each leg's first batch is laid out. */
static int begin(mcx_multi *all, mc_leg **ios)
{
    for (size_t i = 0; i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];
        mc_leg *io = ios[i] = &each->io;

        all->call->clock.timeout = each->timeout;
        int chosen = choose_command(all, each);

        if (UNLIKELY(chosen <= 0)) {
            each->over = each->failed = all->failed = true;
            if (chosen < 0) {
                return -1;
            }
            mc_leg_init(io, MC_GET, NULL, 0);
            mc_leg_fail(io, MC_CLOSED);
            continue;
        }
        mc_leg_init(io, each->command, each->keys, each->count);
        mc_leg_use_room(io, each->pieces, sizeof each->pieces / sizeof *each->pieces);
        io->noreply = all->noreply;
        io->probe = each->target.probe;
        io->max_length = (uint64_t)all->call->snapshot->max_length;
        mc_leg_begin(io, each->target.connection, &all->call->clock);
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];

        if ((!each->over && take_on(all, each) < 0) ||
            (!each->over && each->io.in_turn && send_ahead(all, each) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* Until all are over: whoever has been begun once more may have another kind of connection. */
static int serve(mcx_multi *all, mc_leg **ios, struct pollfd *polls, bool *arrived)
{
    for (;;) {
        bool active = false;

        for (size_t i = 0; i < all->leg_count; i++) {
            mcx_leg *each = all->legs[i];

            if (!each->over && each->io.in_turn && run_leg_in_turn(all, each) < 0) {
                return -1;
            }
            active |= !each->over;
        }
        if (!active) {
            return 0;
        }
        if (step(all, ios, polls, arrived) < 0) {
            return -1;
        }
    }
}

int mcx_legs_run(mcx_multi *all)
{
    mc_leg **ios = PyMem_Calloc(all->leg_count + 1, sizeof *ios);
    struct pollfd *polls = PyMem_Calloc(all->leg_count + 1, sizeof *polls);
    bool *arrived = PyMem_Calloc(all->leg_count + 1, sizeof *arrived);
    int result = -1;

    if (ios == NULL || polls == NULL || arrived == NULL) {
        PyErr_NoMemory();
    }
    else if (begin(all, ios) == 0) {
        result = serve(all, ios, polls, arrived);
    }
    PyMem_Free(ios);
    PyMem_Free(polls);
    PyMem_Free(arrived);
    return result;
}

void mcx_legs_fini(mcx_multi *all)
{
    for (size_t i = 0; i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];

        if (!each->over) { /* an exception ended the call */
            mcx_batch_drop_values(each);
            Py_CLEAR(each->body);
            each->target.asked = each->io.asked;
            mcx_target_end(all->call, &each->target, !each->io.asked); /* nothing was sent */
            mc_leg_fini(&each->io);
        }
        PyMem_Free(each->keys != all->texts ? each->keys : NULL);
        PyMem_Free(each->items);
        PyMem_Free(each);
    }
    PyMem_Free(all->legs);
    PyMem_Free(all->leg_of_server);
}
