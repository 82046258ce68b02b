#include "ask.h"

#include "core/flow/leg.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "call.h"
#include "compat.h"
#include "drive.h"
#include "faults.h"
#include "move.h"
#include "target.h"
#include "values.h"

static bool lay_out(mc_leg *leg, const mcx_request *request)
{
    const mcx_stored *value = request->value;
    bool laid;

    if (value != NULL) {
        laid = mc_leg_store(leg, request->key, value->flags, request->argument, value->text,
                            request->cas, true) != MC_LAID_NO_MEMORY;
    }
    else {
        laid = mc_leg_line(leg, request->key, request->argument);
    }
    return laid && mc_leg_ready(leg);
}

static COLD int keep_line(mcx_answer *answer, mc_slice line)
{
    if (answer->line == NULL) {
        answer->line =
            PyBytes_FromStringAndSize(line.bytes ? line.bytes : "", (Py_ssize_t)line.length);
    }
    return answer->line == NULL ? -1 : 0;
}

static bool is_good(mc_reply_type type)
{
    return type == MC_REPLY_STORED || type == MC_REPLY_DELETED || type == MC_REPLY_TOUCHED ||
           type == MC_REPLY_NUMBER || type == MC_REPLY_OK;
}

/* The request goes out, and something comes: the whole answer, mostly. */
static inline void begin(mcx_call *call, mc_leg *leg, const mcx_request *request,
                         mcx_answer *answer)
{
    if (UNLIKELY(!lay_out(leg, request))) {
        mc_leg_fail(leg, MC_NO_MEMORY);
        return;
    }
    mcx_move(call, leg);
    if (mc_leg_take_stored(leg)) {
        answer->type = MC_REPLY_STORED;
        leg->good = 1;
    }
    else if (mc_leg_take_number(leg, &answer->number)) {
        answer->type = MC_REPLY_NUMBER;
    }
}

static void take_reply(mcx_call *call, mcx_target *target, mc_leg *leg, mcx_answer *answer)
{
    const mc_reply *reply = &leg->exchange.reply;
    int kept = 0;

    answer->type = reply->type;
    answer->number = reply->number;
    leg->good = reply->type == MC_REPLY_STORED;
    if (call->cache != NULL) {
        kept = mc_reply_is_error(reply->type) ? mcx_fault_line(call, target->host, reply) : 0;
    }
    else if (!is_good(reply->type)) {
        kept = keep_line(answer, reply->line);
    }
    if (kept < 0) {
        mc_leg_fail(leg, MC_RAISED);
    }
}

/* What did not end at once: another answer, a piece of one, a failure. */
static APART void go_on(mcx_call *call, mcx_target *target, mc_leg *leg, const mcx_request *request,
                        mcx_answer *answer)
{
    mc_leg_step step;

    while ((step = mcx_drive(call, target, leg)) != MC_LEG_OVER) {
        if (step == MC_LEG_PRODUCE) { /* once more, on a new connection */
            begin(call, leg, request, answer);
        }
        else if (step == MC_LEG_REPLY) {
            take_reply(call, target, leg, answer);
        }
    }
}

int mcx_ask(mcx_call *call, mcx_target *target, const mcx_request *request, mcx_answer *answer)
{
    mc_leg leg;
    bool told = false;

    answer->type = MC_REPLY_OTHER;
    answer->line = NULL;
    mc_leg_init(&leg, request->command, NULL, 1);
    leg.noreply = request->noreply;
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    if (LIKELY(mc_leg_next(&leg) == MC_LEG_PRODUCE)) {
        begin(call, &leg, request, answer);
    }
    if (UNLIKELY(!mc_leg_is_over(&leg))) {
        go_on(call, target, &leg, request, answer);
    }
    /* Of a line that is no answer to this command the caller says what it is. */
    if (UNLIKELY(leg.verdict.status == MC_MALFORMED) && call->cache == NULL &&
        leg.exchange.reply.line.length != 0) {
        told = keep_line(answer, leg.exchange.reply.line) == 0;
        leg.verdict.status = told ? MC_MALFORMED : MC_RAISED;
    }
    int result = mcx_conclude(call, target, &leg, told);

    if (UNLIKELY(result < 0)) {
        Py_CLEAR(answer->line);
    }
    return result;
}
