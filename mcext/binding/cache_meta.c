#include "cache_meta.h"

#include <string.h>

#include "core/fleet/server.h"
#include "core/flow/leg.h"
#include "core/wire/command.h"
#include "core/wire/error_line.h"
#include "core/wire/reply.h"

#include "cache.h"
#include "call.h"
#include "compat.h"
#include "counters.h"
#include "drive.h"
#include "faults.h"
#include "move.h"
#include "retrieve.h"
#include "server.h"
#include "state.h"
#include "target.h"
#include "values.h"

/* ---- what a server has ---------------------------------------------------------------------- */

/* The probe, on the target's connection, which stays the call's where its stream is in step. */
static COLD mc_status probe(mcx_call *call, mcx_target *target, mc_meta_level *level)
{
    static const mc_slice none = {NULL, 0};
    mc_reply_type said[2] = {MC_REPLY_OTHER, MC_REPLY_OTHER};
    mc_leg leg;
    mc_leg_step step;
    bool is_let_in = true;

    mc_leg_init(&leg, MC_META_PROBE, NULL, 1);
    leg.once = true; /* a proxy that closes is not asked again */
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    while ((step = mcx_drive(call, target, &leg)) != MC_LEG_OVER) {
        if (step == MC_LEG_PRODUCE && !(mc_leg_line(&leg, none, none) && mc_leg_ready(&leg))) {
            mc_leg_fail(&leg, MC_NO_MEMORY);
        }
        else if (step == MC_LEG_REPLY && mc_error_is_unauthenticated(&leg.exchange.reply)) {
            is_let_in = false;
            if (mcx_fault_line(call, target->host, &leg.exchange.reply) < 0) {
                mc_leg_fail(&leg, MC_RAISED);
            }
        }
        else if (step == MC_LEG_REPLY && leg.exchange.index < 2) {
            said[leg.exchange.index] = leg.exchange.reply.type;
        }
    }
    if (!is_let_in) { /* which tells nothing of what the server has */
        (void)mcx_conclude(call, target, &leg, true);
        return MC_FAILED;
    }
    mc_status status = leg.verdict.status;

    *level = mc_meta_judge(said[0], said[1]);
    if (status == MC_OK && leg.verdict.keep) {
        mcx_counters_note(call, target->host, &leg);
        mc_leg_fini(&leg);
        return MC_OK;
    }
    if (status == MC_CLOSED || status == MC_MALFORMED || status == MC_OK) {
        /* twemproxy and mcrouter close; what says something else has no meta protocol either. */
        *level = status == MC_OK ? *level : MC_META_NONE;
        mcx_target_end(call, target, false);
        mc_leg_fini(&leg);
        return MC_CLOSED;
    }
    if (mcx_conclude(call, target, &leg, false) > 0) {
        return MC_FAILED;
    }
    return status;
}

mc_meta_level mcx_meta_level(mcx_call *call, mcx_target *target)
{
    mcx_server *host = (mcx_server *)Py_NewRef((PyObject *)target->host);
    mc_meta_level level = MC_META_UNKNOWN;
    mc_status status = MC_OK;
    int64_t now = 0;

    if (mcx_wall_clock(call->module, &now) < 0) {
        mcx_target_end(call, target, true);
        goto done;
    }
    level = mc_server_meta(&host->server, now);
    if (level == MC_META_UNKNOWN) {
        /* A connection that has ended while it was idle is no server that closes at the probe. */
        if (!mc_connection_is_quiet(target->connection) && mcx_reconnect(call, target) <= 0) {
            goto done;
        }
        status = probe(call, target, &level);
        if (status != MC_OK && status != MC_CLOSED) {
            level = MC_META_UNKNOWN; /* the target has ended */
            goto done;
        }
        mc_server_set_meta(&host->server, level, now);
        if (status == MC_CLOSED && mcx_connect_host(call, host, target) <= 0) {
            level = MC_META_UNKNOWN;
        }
    }
done:
    Py_DECREF((PyObject *)host);
    return level;
}

/* A target for key and its level, MC_META_UNKNOWN: there is none, by a fault or an exception. */
static INLINE mc_meta_level select_meta(mcx_call *call, const mcx_key *key, mcx_target *target)
{
    if (UNLIKELY(mcx_select(call, key, target) <= 0)) {
        return MC_META_UNKNOWN;
    }
    /* A level that is good is kept without a time. */
    mc_meta_level level = mc_server_meta(&target->host->server, INT64_MAX);

    return LIKELY(level >= MC_META_LEASES) ? level : mcx_meta_level(call, target);
}

static mcx_meta_outcome without_target(void)
{
    return PyErr_Occurred() ? MCX_META_RAISED : MCX_META_FAILED;
}

/* Whether the server has said that it does not know the command: another one stands there now. */
static bool is_refused(mcx_target *target, const mc_reply *reply)
{
    bool refused = (reply->type == MC_REPLY_ERROR || reply->type == MC_REPLY_CLIENT_ERROR) &&
                   !mc_error_is_unauthenticated(reply);

    if (refused) {
        mc_server_forget_meta(&target->host->server);
    }
    return refused;
}

static inline void lay_out(mc_leg *leg, mc_slice key, mc_slice flags)
{
    if (UNLIKELY(!mc_leg_line(leg, key, flags) || !mc_leg_ready(leg))) {
        mc_leg_fail(leg, MC_NO_MEMORY);
    }
}

/* ---- mg ------------------------------------------------------------------------------------- */

static mc_status take_item(mc_leg *leg, mcx_retrieved *got, mc_reply *reply)
{
    *reply = leg->exchange.reply;
    got->found = true;
    got->flags = reply->flags;
    got->cas = reply->cas;
    return mcx_retrieved_take_body(&leg->exchange, got);
}

/* *refused: the server does not know the command, and is asked again what it knows. */
static COLD void read_item(mcx_call *call, mcx_target *target, mc_leg *leg, mcx_retrieved *got,
                           mc_reply *reply, mc_slice key, mc_slice flags, bool *refused)
{
    for (;;) {
        mc_reply *said = &leg->exchange.reply;

        switch (mcx_drive(call, target, leg)) {
        case MC_LEG_PRODUCE: /* once more, on a new connection */
            lay_out(leg, key, flags);
            break;
        case MC_LEG_VALUE:
            mc_leg_fail(leg, take_item(leg, got, reply));
            break;
        case MC_LEG_REPLY:
            if (!mc_reply_is_error(said->type)) {
                break; /* EN */
            }
            *refused = is_refused(target, said);
            if (!*refused && mcx_fault_line(call, target->host, said) < 0) {
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

/* One attempt; as mcx_meta_get, or MCX_META_NONE where it was refused. */
static mcx_meta_outcome ask_item(mcx_call *call, mcx_target *target, const mcx_key *key,
                                 mc_slice flags, bool once, mcx_retrieved *got, mc_reply *reply)
{
    mc_leg leg;
    mc_slice body = {NULL, 0};
    bool refused = false;
    int found = -1;

    mc_leg_init(&leg, MC_MG, &key->text, 1);
    leg.max_length = (uint64_t)call->snapshot->max_length;
    leg.once = once;
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    if (LIKELY(mc_leg_next(&leg) == MC_LEG_PRODUCE)) {
        lay_out(&leg, key->text, flags);
    }
    if (LIKELY(mc_leg_is_running(&leg))) {
        mcx_move(call, &leg);
        found = mc_leg_take_meta(&leg, reply, &body);
    }
    if (LIKELY(found > 0)) {
        got->found = true;
        got->flags = reply->flags;
        got->cas = reply->cas;
        mcx_retrieved_take(call, body, got);
    }
    else if (UNLIKELY(found < 0)) {
        read_item(call, target, &leg, got, reply, key->text, flags, &refused);
    }
    leg.good = got->found && !mcx_is_stub(got->flags, (size_t)reply->length);
    found = mcx_conclude(call, target, &leg, false);
    if (UNLIKELY(refused && found > 0)) {
        return MCX_META_NONE;
    }
    return found > 0 && call->faults == NULL ? MCX_META_ANSWERED : without_target();
}

mcx_meta_outcome mcx_meta_get(mcx_call *call, const mcx_key *key, mc_slice flags, bool once,
                              mcx_retrieved *got, mc_reply *reply)
{
    mcx_meta_outcome outcome = MCX_META_NONE;

    /* Twice: a server that proves to be another one is asked what it is. */
    for (int attempt = 0; attempt < 2 && outcome == MCX_META_NONE; attempt++) {
        mcx_target target;
        mc_meta_level level = select_meta(call, key, &target);

        if (UNLIKELY(level == MC_META_UNKNOWN)) {
            return without_target();
        }
        if (UNLIKELY(level == MC_META_NONE)) {
            mcx_target_end(call, &target, true);
            return MCX_META_NONE;
        }
        outcome = ask_item(call, &target, key, flags, once, got, reply);
    }
    return outcome;
}

/* ---- md ------------------------------------------------------------------------------------- */

static mcx_meta_outcome ask_delete(mcx_call *call, mcx_target *target, const mcx_key *key,
                                   mc_slice flags, mc_reply_type *type)
{
    mc_leg leg;
    mc_leg_step step;
    bool refused = false;

    mc_leg_init(&leg, MC_MD, NULL, 1);
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    while ((step = mcx_drive(call, target, &leg)) != MC_LEG_OVER) {
        const mc_reply *said = &leg.exchange.reply;

        if (step == MC_LEG_PRODUCE) {
            lay_out(&leg, key->text, flags);
        }
        else if (step == MC_LEG_REPLY) {
            *type = said->type;
            refused = is_refused(target, said);
            if (!refused && mc_reply_is_error(said->type) &&
                mcx_fault_line(call, target->host, said) < 0) {
                mc_leg_fail(&leg, MC_RAISED);
            }
        }
    }
    int there = mcx_conclude(call, target, &leg, false);

    if (refused && there > 0) {
        return MCX_META_NONE;
    }
    return there > 0 && call->faults == NULL ? MCX_META_ANSWERED : without_target();
}

mcx_meta_outcome mcx_meta_delete(mcx_call *call, const mcx_key *key, mc_slice flags,
                                 mc_meta_level at_least, mc_reply_type *type)
{
    mcx_meta_outcome outcome = MCX_META_NONE;

    for (int attempt = 0; attempt < 2 && outcome == MCX_META_NONE; attempt++) {
        mcx_target target;
        mc_meta_level level = select_meta(call, key, &target);

        if (level == MC_META_UNKNOWN) {
            return without_target();
        }
        if (level < at_least) {
            mcx_target_end(call, &target, true);
            return MCX_META_NONE;
        }
        outcome = ask_delete(call, &target, key, flags, type);
    }
    return outcome;
}
