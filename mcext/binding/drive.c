#include "drive.h"

#include "core/flow/leg.h"

#include "cache.h"
#include "call.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "log.h"
#include "move.h"
#include "server.h"
#include "target.h"

COLD void mcx_begin_again(mcx_call *call, mcx_target *target, mc_leg *leg)
{
    int connected = mcx_reconnect(call, target);

    if (connected > 0) {
        leg->probe = target->probe;
        mc_leg_begin(leg, target->connection, &call->clock);
    }
    else if (connected == 0) {
        mc_leg_give_up(leg);
    }
    else {
        mc_leg_fail(leg, MC_RAISED);
    }
}

APART mc_leg_step mcx_drive(mcx_call *call, mcx_target *target, mc_leg *leg)
{
    for (;;) {
        mc_leg_step step = mc_leg_next(leg);

        if (step == MC_LEG_MOVE) {
            mcx_move(call, leg);
        }
        else if (step == MC_LEG_RETRY) {
            mcx_begin_again(call, target, leg);
        }
        else {
            return step;
        }
    }
}

/* What a failure asks for: a dead mark after a timeout, a debug line else. 0, or -1 with an
 * exception. */
static int report(mcx_target *target, const mc_verdict *verdict)
{
    PyObject *reason = mcx_status_text(target->connection, verdict->status);
    PyObject *name;
    int result = 0;

    if (reason == NULL) {
        return -1;
    }
    if (verdict->blame) {
        result = mcx_server_mark_dead(target->host, reason);
    }
    else if (atomic_load(&target->host->is_debug)) {
        name = PyObject_Str((PyObject *)target->host);
        result = name == NULL ? -1
                              : mcx_server_debuglog(target->host,
                                                    "MemCache: %U: %U.  Closing the connection.",
                                                    name, reason);
        Py_XDECREF(name);
    }
    Py_DECREF(reason);
    return result;
}

/* The same of a Cache's call: a fault, whose caller says more. */
static COLD int report_to_cache(mcx_call *call, mcx_target *target, const mc_leg *leg)
{
    PyObject *reason;
    int result = mcx_fault_leg(call, target->host, leg);

    if (result == 0 && leg->verdict.blame && target->host != NULL) {
        reason = mcx_status_text(target->connection, leg->verdict.status);
        result = reason ? mcx_mark_dead(call, target->host, reason) : -1;
        Py_XDECREF(reason);
    }
    return result;
}

static COLD int conclude_failed(mcx_call *call, mcx_target *target, mc_leg *leg, bool told)
{
    const mc_verdict *verdict = &leg->verdict;

    if (verdict->status == MC_RAISED) {
        return -1;
    }
    if (verdict->status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    if (call->cache != NULL) {
        return report_to_cache(call, target, leg);
    }
    /* Without a host it could not be connected once more, which has been told. */
    return told || verdict->answered || target->host == NULL ? 0 : report(target, verdict);
}

int mcx_conclude(mcx_call *call, mcx_target *target, mc_leg *leg, bool told)
{
    int result = 1;

    target->asked = leg->asked;
    if (UNLIKELY(leg->verdict.status != MC_OK)) {
        result = conclude_failed(call, target, leg, told);
    }
    if (UNLIKELY(call->cache != NULL) && target->host != NULL) {
        int64_t took = mcx_counters_note(call, target->host, leg);

        if (UNLIKELY(mcx_is_slow(call->cache, took)) && result > 0 &&
            mcx_event(call, "slow", target->host, NULL, leg->count) < 0) {
            result = -1;
        }
    }
    mcx_target_end(call, target, leg->verdict.keep);
    mc_leg_fini(leg);
    return result;
}
