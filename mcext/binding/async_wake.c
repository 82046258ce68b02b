/* async_wake: calls go on, with what has come or with what failed; and errands that have lost their
 * stream, until async_move finds them another one. */
#include "core/net/clock.h"
#include "core/wire/exchange.h"
#include "core/wire/meta.h"

#include "async.h"
#include "async_errand.h"
#include "async_stream.h"
#include "cache_lease.h"
#include "compat.h"
#include "counters.h"
#include "values.h"

/* ---- calls go on ---------------------------------------------------------------------------- */

void mcx_acall_wake(mcx_acall *self, int64_t now)
{
    PyObject *done, *name;

    if (self->state != MCX_ACALL_WAITS) {
        return;
    }
    self->state = MCX_ACALL_IS_ANSWERED;
    self->took = now - self->start;
    self->client->pending--;
    if (self->host != NULL && self->host->counters != NULL) {
        mcx_count_duration(self->host->counters, self->took);
    }
    if (self->future == NULL) { /* it has not waited yet */
        return;
    }
    name = self->client->set_result;
    PyObject *arguments[] = {self->future, Py_None};

    done = PyObject_VectorcallMethod(name, arguments, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (UNLIKELY(done == NULL)) {
        /* A future that was cancelled: its call is told by its task. */
        if (PyErr_ExceptionMatches(self->client->invalid_state)) {
            PyErr_Clear();
        }
        mcx_unraisable(self);
    }
    Py_XDECREF(done);
}

void mcx_acalls_wake(mcx_acall *chain, int64_t now)
{
    while (chain != NULL) {
        mcx_acall *next = chain->next;

        chain->next = NULL;
        mcx_acall_wake(chain, now);
        Py_DECREF((PyObject *)chain);
        chain = next;
    }
}

static void copy_fault(mcx_afault *to, const mcx_afault *from)
{
    *to = *from;
    Py_XINCREF(to->text);
    Py_XINCREF(to->cause);
    Py_XINCREF((PyObject *)to->host);
}

void mcx_acalls_fail(mcx_acall *chain, const mcx_afault *fault, int64_t now)
{
    for (mcx_acall *each = chain; each != NULL; each = each->next) {
        if (each->fault.name == NULL) {
            copy_fault(&each->fault, fault);
        }
    }
    mcx_acalls_wake(chain, now);
}

void mcx_many_settle(mcx_acall *self, const mcx_afault *fault, int64_t now)
{
    mcx_many *many = self->many;

    many->errands--;
    if (fault != NULL) {
        mcx_afault *faults = PyMem_Realloc(many->faults, (many->fault_count + 1) * sizeof *faults);

        if (faults == NULL) {
            PyErr_NoMemory();
            mcx_unraisable(self);
        }
        else {
            many->faults = faults;
            copy_fault(&faults[many->fault_count++], fault);
        }
    }
    if (many->errands == 0 && !many->is_placing) {
        mcx_acall_wake(self, now);
    }
}

/* ---- what is counted ------------------------------------------------------------------------ */

void mcx_errand_count(mcx_server *host, const mcx_errand *errand, mc_status status)
{
    if (host->counters != NULL) {
        mcx_tally tally = {.command = errand->command,
                           .family = mc_commands[errand->command].family,
                           .calls = errand->calls,
                           .keys = errand->count,
                           .good = errand->good,
                           .retried = errand->is_repeated,
                           .status = status};

        mcx_counters_add(host->counters, &tally);
        if (errand->owner != NULL) { /* of others each call counts its own */
            mcx_count_duration(host->counters, mc_clock_now() - errand->owner->start);
        }
    }
}

/* ---- calls for many keys --------------------------------------------------------------------- */

mcx_many *mcx_many_new(void)
{
    mcx_many *many = PyMem_Calloc(1, sizeof *many);

    if (many == NULL) {
        PyErr_NoMemory();
    }
    return many;
}

void mcx_many_free(mcx_many *many)
{
    for (size_t i = 0; i < many->count; i++) {
        mcx_akey *key = &many->keys[i];

        Py_XDECREF(key->object);
        Py_XDECREF(key->owner);
        Py_XDECREF((PyObject *)key->host);
        mcx_retrieved_clear(&key->got);
        PyMem_Free(key->reply);
    }
    for (size_t i = 0; i < many->fault_count; i++) {
        mcx_afault_clear(&many->faults[i]);
    }
    Py_XDECREF(many->noted);
    PyMem_Free(many->keys);
    PyMem_Free(many->faults);
    PyMem_Free(many->errand);
    PyMem_Free(many);
}

/* ---- errands -------------------------------------------------------------------------------- */

void mcx_errand_fail(mcx_async *client, mcx_errand *errand, const mcx_afault *fault)
{
    int64_t now = mc_clock_now();
    mcx_afault told = *fault; /* its references are the caller's */

    told.may_have_run |= errand->is_repeated; /* on the stream that was closed */
    if (errand->owner != NULL) {
        mcx_many_settle(errand->owner, &told, now);
    }
    for (size_t i = 0; i < errand->count; i++) {
        mcx_acalls_fail(mcx_errand_take_waiters(errand, i), &told, now);
    }
    mcx_errand_free(client, errand);
}

void mcx_errand_expire(mcx_errand *errand, const mcx_afault *fault, int64_t now)
{
    mcx_acall *owner = errand->owner, *first = owner != NULL ? owner : errand->slots[0].waiters;

    errand->gives_back |= first != NULL && first->verb->gives_back;
    if (!errand->gives_back) {
        mc_row_drop(&errand->asking);
    }
    if (owner != NULL) { /* which may still wait for others */
        owner->many->errand[errand->sibling] = NULL;
        errand->owner = NULL;
        errand->waiting = 0;
        mcx_many_settle(owner, fault, now);
        Py_DECREF((PyObject *)owner);
    }
    for (size_t i = 0; i < errand->count; i++) {
        mcx_acalls_fail(mcx_errand_take_waiters(errand, i), fault, now);
    }
}

/* Their turn comes soon. */
static int rehome_soon(mcx_async *client)
{
    PyObject *rehome = PyObject_GetAttrString((PyObject *)client, "_rehome");
    PyObject *handle = rehome ? PyObject_CallOneArg(client->call_soon, rehome) : NULL;

    Py_XDECREF(rehome);
    Py_XDECREF(handle);
    client->is_rehome_due = handle != NULL;
    return handle == NULL ? -1 : 0;
}

void mcx_lease_back(mcx_async *client, mcx_server *host, mc_slice key, PyObject *owner,
                    const mc_reply *reply)
{
    bool has_value = reply != NULL && !mcx_is_stub(reply->flags, (size_t)reply->length);
    mcx_afault nothing = {.name = "ConnectionLost"};
    char text[MCX_RELEASE_FLAGS];
    mc_slice flags = reply != NULL ? mcx_release_flags(text, has_value, reply->cas) : MCX_NOTHING;
    mcx_errand *errand = mcx_errand_line(client, reply != NULL ? MC_MD : MC_DELETE,
                                         mc_clock_now() + client->timeout, key, owner, flags);

    if (errand != NULL) {
        errand->once = errand->is_unwatched = true;
        mcx_errand_part(client, errand, host, false, &nothing);
    }
    mcx_unraisable(client);
}

void mcx_many_give_back(mcx_acall *self)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    for (size_t i = 0; i < self->many->count; i++) {
        const mcx_akey *key = &self->many->keys[i];

        if (key->got.found && key->reply != NULL && key->host != NULL &&
            mc_meta_has(key->reply, 'W')) {
            mcx_lease_back(self->client, key->host, key->text, key->owner, key->reply);
        }
    }
    PyErr_Restore(type, value, traceback);
}

void mcx_errand_part(mcx_async *client, mcx_errand *errand, mcx_server *from, bool moves,
                     const mcx_afault *why)
{
    mcx_errand **end = &client->homeless;

    mcx_afault_clear(&errand->why);
    copy_fault(&errand->why, why);
    Py_XSETREF(errand->from, (mcx_server *)Py_NewRef((PyObject *)from));
    errand->moves = moves;
    errand->next = NULL;
    errand->is_written = false;
    errand->asking.is_dropped = false;
    Py_CLEAR(errand->body);
    if (!client->is_rehome_due && rehome_soon(client) < 0) {
        mcx_unraisable(client);
        mcx_errand_fail(client, errand, why);
        return;
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = errand;
}
