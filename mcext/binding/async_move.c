/* async_move: errands that have lost their stream go to another one: of the same server, or, where
 * that cannot be reached, of the next one that there is for their keys. */
#include "core/fleet/server.h"
#include "core/net/clock.h"

#include "async.h"
#include "async_errand.h"
#include "async_move.h"
#include "async_stream.h"
#include "cache_call.h"
#include "compat.h"

/* To so many other servers a key goes at most, one after the other. */
#define MOVES 10

/* It goes to a stream of that lane, which may be opened for it. */
static void send_again(mcx_async *client, mcx_lane *lane, bool is_probe, mcx_errand *errand,
                       const mcx_afault *fault)
{
    bool is_big = errand->value != NULL;
    mcx_astream *stream = lane != NULL ? mcx_lane_stream(client, lane, is_big) : NULL;

    mcx_unraisable(client);
    if (stream == NULL) {
        if (is_probe && lane != NULL) {
            mc_server_give_up_probe(&lane->host->server);
        }
        mcx_errand_fail(client, errand, fault);
        return;
    }
    stream->is_probing |= is_probe;
    (void)mcx_astream_send(stream, errand);
    mcx_unraisable(client);
}

/* ---- other servers -------------------------------------------------------------------------- */

/* Whether all that wait for it may still be moved. */
static bool may_move(mcx_errand *errand, mcx_server *tried)
{
    mcx_acall *first = errand->owner != NULL ? errand->owner : errand->slots[0].waiters;
    bool may = first != NULL && errand->keys[0].length != 0 && errand->tries++ < MOVES;

    for (mcx_acall *each = first; each != NULL; each = errand->owner != NULL ? NULL : each->next) {
        Py_XSETREF(each->tried, (mcx_server *)Py_NewRef((PyObject *)tried));
        Py_XSETREF(each->host, (mcx_server *)Py_NewRef((PyObject *)tried));
    }
    return may;
}

/* An errand of one key, whose server cannot be reached, goes to the next one that there is. */
static void move_one(mcx_async *client, mcx_call *call, mcx_errand *errand, const mcx_afault *fault)
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
    send_again(client, there > 0 ? lane : NULL, there > 0 && is_probe, errand, fault);
}

static void move(mcx_async *client, mcx_errand *errand, const mcx_afault *fault)
{
    mcx_call call;

    if (errand->waiting == 0 && !errand->is_unwatched) {
        mcx_errand_fail(client, errand, fault);
        return;
    }
    if (fault->host == NULL ||
        mcx_cache_begin(&call, (PyObject *)client->cache, errand->command) < 0) {
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
                                  ? mcx_errand_cut_out(client, errand, i)
                                  : NULL;

            mcx_unraisable(client);
            if (one != NULL) {
                move_one(client, &call, one, fault);
            }
            else if (errand->owner == NULL) { /* memory is out */
                mcx_acalls_fail(mcx_errand_take_waiters(errand, i), fault, mc_clock_now());
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

/* ---- all of them ---------------------------------------------------------------------------- */

static void rehome(mcx_async *client, mcx_errand *errand)
{
    mcx_afault why = errand->why;

    errand->why = (mcx_afault){.name = NULL};
    if (errand->waiting == 0 && !errand->is_unwatched) { /* cancelled meanwhile */
        mcx_errand_fail(client, errand, &why);
    }
    else if (errand->moves) {
        move(client, errand, &why);
    }
    else {
        send_again(client, mcx_lane_of(client, errand->from), false, errand, &why);
    }
    mcx_afault_clear(&why);
}

PyObject *mcx_async_rehome(PyObject *object, PyObject *unused)
{
    mcx_async *client = (mcx_async *)object;
    mcx_errand *list = client->homeless;

    (void)unused;
    client->homeless = NULL;
    client->is_rehome_due = false;
    while (list != NULL) {
        mcx_errand *errand = list;

        list = errand->next;
        errand->next = NULL;
        rehome(client, errand);
    }
    Py_RETURN_NONE;
}
