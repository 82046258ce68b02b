#include "async_errand.h"

#include <string.h>

#include "core/wire/request.h"

#include "async_stream.h"
#include "cache_call.h"
#include "compat.h"

/* A value up to this is copied behind its command. */
#define COPY_UP_TO ((size_t)16384)

/* What an errand that is kept for the next one may hold. */
#define KEEP ((size_t)4096)
#define KEEP_SLOTS ((size_t)256)

mcx_errand *mcx_errand_new(mcx_async *client, mc_command command, int64_t deadline)
{
    mcx_errand *errand = client->spare;

    if (LIKELY(errand != NULL)) {
        client->spare = errand->next;
        client->spare_count--;
        errand->next = NULL;
    }
    else {
        errand = PyMem_Calloc(1, sizeof *errand);
        if (errand == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    errand->command = command;
    errand->deadline = deadline;
    return errand;
}

void mcx_afault_clear(mcx_afault *fault)
{
    Py_CLEAR(fault->text);
    Py_CLEAR(fault->cause);
    Py_CLEAR(fault->host);
    fault->name = NULL;
}

static void clear_slots(mcx_errand *errand)
{
    for (size_t i = 0; i < errand->count; i++) {
        Py_CLEAR(errand->slots[i].owner);
    }
    errand->count = 0;
}

void mcx_errand_free(mcx_async *client, mcx_errand *errand)
{
    mcx_slot *slots = errand->slots;
    mc_slice *keys = errand->keys;
    mc_buffer request = errand->request;
    uint16_t *index = errand->index;
    size_t room = errand->room;

    clear_slots(errand);
    if (errand->owner != NULL) {
        errand->owner->many->errand[errand->sibling] = NULL;
    }
    mc_exchange_fini(&errand->asking.exchange);
    Py_CLEAR(errand->owner);
    Py_CLEAR(errand->value);
    Py_CLEAR(errand->body);
    Py_CLEAR(errand->from);
    mcx_afault_clear(&errand->why);
    mc_buffer_clear(&request);
    if (client->spare_count < MCX_SPARE_ERRANDS && room <= KEEP_SLOTS && request.capacity <= KEEP) {
        memset(errand, 0, sizeof *errand);
        errand->slots = slots;
        errand->keys = keys;
        errand->room = room;
        errand->request = request;
        errand->index = index;
        errand->next = client->spare;
        client->spare = errand;
        client->spare_count++;
        return;
    }
    errand->request = request;
    mcx_errand_delete(errand);
}

void mcx_errand_delete(mcx_errand *errand)
{
    PyMem_Free(errand->slots);
    PyMem_Free(errand->keys);
    PyMem_Free(errand->index);
    mc_buffer_fini(&errand->request);
    PyMem_Free(errand);
}

/* ---- keys ----------------------------------------------------------------------------------- */

int mcx_async_key(mcx_call *call, PyObject *object, mc_slice *text, PyObject **owner)
{
    mcx_cache_key key;

    if (UNLIKELY(mcx_cache_key_of(call, object, &key) < 0)) {
        *owner = NULL;
        return -1;
    }
    *text = key.key.text;
    *owner = key.key.owner;
    if (text->bytes == key.room) { /* with its prefix */
        Py_SETREF(*owner, PyBytes_FromStringAndSize(text->bytes, (Py_ssize_t)text->length));
        if (*owner == NULL) {
            return -1;
        }
        text->bytes = PyBytes_AS_STRING(*owner);
    }
    return 0;
}

static int grow(mcx_errand *errand)
{
    size_t room = errand->room == 0 ? 1 : errand->room < 8 ? 16 : 2 * errand->room;
    mcx_slot *slots = PyMem_Realloc(errand->slots, room * sizeof *slots);
    mc_slice *keys = NULL;

    if (slots != NULL) {
        errand->slots = slots;
        keys = PyMem_Realloc(errand->keys, room * sizeof *keys);
    }
    if (keys == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    errand->keys = keys;
    errand->room = room;
    return 0;
}

static Py_hash_t hash_of(PyObject *owner);
static void put_in_index(mcx_errand *errand, size_t slot);

int mcx_errand_own(mcx_errand *errand, mcx_acall *owner)
{
    mcx_many *many = owner->many;
    mcx_errand **all = PyMem_Realloc(many->errand, (many->errand_count + 1) * sizeof *all);

    if (all == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    many->errand = all;
    errand->sibling = many->errand_count;
    all[many->errand_count++] = errand;
    errand->owner = (mcx_acall *)Py_NewRef((PyObject *)owner);
    errand->waiting = 1;
    many->errands++;
    return 0;
}

int mcx_errand_add(mcx_errand *errand, mc_slice key, PyObject *owner, size_t begin, size_t number)
{
    if (UNLIKELY(errand->count == errand->room) && grow(errand) < 0) {
        return -1;
    }
    errand->keys[errand->count] = key;
    errand->slots[errand->count] = (mcx_slot){.owner = Py_XNewRef(owner),
                                              .number = number,
                                              .begin = begin,
                                              .end = mc_buffer_length(&errand->request)};
    if (mcx_errand_reads(errand) && errand->owner == NULL && owner != NULL) {
        errand->slots[errand->count].hash = hash_of(owner);
    }
    errand->count++;
    if (errand->is_indexed) {
        put_in_index(errand, errand->count - 1);
    }
    return 0;
}

/* ---- equal keys ----------------------------------------------------------------------------- */

/* Up to so many keys are compared one after the other. */
#define FEW 8

/* A power of two, twice as many as a line has keys. */
#define PLACES ((size_t)2048)

_Static_assert(PLACES >= (size_t)2 * MC_KEYS_PER_GET, "there are always free places");

/* Of its bytes: a str and a bytes object with the same ones have the same hash. No code of a
 * class that derives from these is run. */
static Py_hash_t hash_of(PyObject *owner)
{
    return (PyUnicode_Check(owner) ? &PyUnicode_Type : &PyBytes_Type)->tp_hash(owner);
}

static bool is_key(const mcx_errand *errand, size_t slot, mc_slice key, Py_hash_t hash)
{
    return errand->slots[slot].hash == hash && errand->keys[slot].length == key.length &&
           memcmp(errand->keys[slot].bytes, key.bytes, key.length) == 0;
}

static void put_in_index(mcx_errand *errand, size_t slot)
{
    size_t at = (size_t)errand->slots[slot].hash % PLACES;

    while (errand->index[at] != 0) {
        at = (at + 1) % PLACES;
    }
    errand->index[at] = (uint16_t)(slot + 1);
}

static int make_index(mcx_errand *errand)
{
    if (errand->index == NULL) {
        errand->index = PyMem_Malloc(PLACES * sizeof *errand->index);
        if (errand->index == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    memset(errand->index, 0, PLACES * sizeof *errand->index);
    for (size_t i = 0; i < errand->count; i++) {
        put_in_index(errand, i);
    }
    errand->is_indexed = true;
    return 0;
}

Py_ssize_t mcx_errand_find(mcx_errand *errand, mc_slice key, PyObject *owner)
{
    Py_hash_t hash = hash_of(owner);

    if (errand->count < FEW) {
        for (size_t i = 0; i < errand->count; i++) {
            if (is_key(errand, i, key, hash)) {
                return (Py_ssize_t)i;
            }
        }
        return (Py_ssize_t)errand->count;
    }
    if (!errand->is_indexed && make_index(errand) < 0) {
        return -1;
    }
    for (size_t at = (size_t)hash % PLACES; errand->index[at] != 0; at = (at + 1) % PLACES) {
        if (is_key(errand, errand->index[at] - 1U, key, hash)) {
            return errand->index[at] - 1;
        }
    }
    return (Py_ssize_t)errand->count;
}

/* ---- who waits ------------------------------------------------------------------------------ */

void mcx_errand_wait(mcx_errand *errand, size_t slot, mcx_acall *call)
{
    call->errand = errand;
    call->slot = slot;
    call->next = errand->slots[slot].waiters;
    errand->slots[slot].waiters = (mcx_acall *)Py_NewRef((PyObject *)call);
    errand->waiting++;
}

static void leave_all(const mcx_acall *call)
{
    const mcx_many *many = call->many;

    for (size_t i = 0; i < many->errand_count; i++) {
        mcx_errand *errand = many->errand[i];

        if (errand != NULL) {
            errand->waiting = 0;
            errand->gives_back = call->verb->gives_back;
            if (errand->is_written && !errand->gives_back) {
                mc_row_drop(&errand->asking);
            }
        }
    }
}

void mcx_errand_leave(mcx_acall *call)
{
    mcx_errand *errand = call->errand;
    mcx_acall **at;

    if (call->many != NULL) {
        leave_all(call);
    }
    if (errand == NULL) {
        return;
    }
    for (at = &errand->slots[call->slot].waiters; *at != call; at = &(*at)->next) {
    }
    *at = call->next;
    call->next = NULL;
    call->errand = NULL;
    errand->waiting--;
    errand->gives_back = call->verb->gives_back;
    if (errand->waiting == 0 && errand->is_written && !errand->gives_back) {
        mc_row_drop(&errand->asking);
    }
    Py_DECREF((PyObject *)call); /* the caller has another one */
}

mcx_acall *mcx_errand_take_waiters(mcx_errand *errand, size_t slot)
{
    mcx_acall *waiters = errand->slots[slot].waiters;

    errand->slots[slot].waiters = NULL;
    for (mcx_acall *each = waiters; each != NULL; each = each->next) {
        each->errand = NULL;
        errand->waiting--;
    }
    return waiters;
}

static void forget_call(mcx_async *client, mcx_acall *call)
{
    if (call->state == MCX_ACALL_WAITS) {
        call->state = MCX_ACALL_IS_FORGOTTEN;
        client->pending--;
    }
}

void mcx_errand_forget(mcx_async *client, mcx_errand *errand)
{
    if (errand->owner != NULL) {
        errand->owner->many->errands--;
        forget_call(client, errand->owner);
    }
    for (size_t i = 0; i < errand->count; i++) {
        mcx_acall *waiters = mcx_errand_take_waiters(errand, i);

        while (waiters != NULL) {
            mcx_acall *next = waiters->next;

            waiters->next = NULL;
            forget_call(client, waiters);
            Py_DECREF((PyObject *)waiters);
            waiters = next;
        }
    }
    mcx_errand_free(client, errand);
}

/* ---- one of several keys -------------------------------------------------------------------- */

mcx_errand *mcx_errand_cut_out(mcx_async *client, mcx_errand *errand, size_t slot)
{
    mcx_slot *from = &errand->slots[slot];
    mcx_errand *made = mcx_errand_new(client, errand->command, errand->deadline);
    mcx_acall *waiters;

    if (made == NULL) {
        return NULL;
    }
    made->once = errand->once;
    made->tries = errand->tries;
    made->is_repeated = errand->is_repeated;
    made->is_unwatched = errand->is_unwatched;
    if (!mc_buffer_append(&made->request, mc_buffer_bytes(&errand->request) + from->begin,
                          mcx_errand_reads(errand) ? 0 : from->end - from->begin) ||
        mcx_errand_add(made, errand->keys[slot], from->owner, 0, from->number) < 0 ||
        (errand->owner != NULL && mcx_errand_own(made, errand->owner) < 0)) {
        mcx_errand_free(client, made);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        return NULL;
    }
    made->value = Py_XNewRef(errand->value);
    waiters = mcx_errand_take_waiters(errand, slot);
    while (waiters != NULL) {
        mcx_acall *next = waiters->next;

        mcx_errand_wait(made, 0, waiters);
        Py_DECREF((PyObject *)waiters);
        waiters = next;
    }
    return made;
}

/* ---- requests ------------------------------------------------------------------------------- */

int mcx_errand_store(mcx_errand *errand, mc_slice key, mc_slice exptime, const uint64_t *cas,
                     const mcx_stored *stored)
{
    mc_buffer *to = &errand->request;
    mc_slice text = stored->text;

    if (UNLIKELY(!mc_request_store(to, errand->command, key, stored->flags, exptime, text.length,
                                   cas, false))) {
        PyErr_NoMemory();
        return -1;
    }
    if (LIKELY(text.length <= COPY_UP_TO) || errand->owner != NULL) {
        if (UNLIKELY(!mc_buffer_append(to, text.bytes, text.length) ||
                     !mc_buffer_append(to, "\r\n", 2))) {
            PyErr_NoMemory();
            return -1;
        }
        return 0;
    }
    bool is_whole_object = stored->owner != NULL && PyBytes_CheckExact(stored->owner) &&
                           PyBytes_AS_STRING(stored->owner) == text.bytes &&
                           (size_t)PyBytes_GET_SIZE(stored->owner) == text.length;

    errand->value = is_whole_object
                        ? Py_NewRef(stored->owner)
                        : PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    return errand->value == NULL ? -1 : 0;
}

mcx_errand *mcx_errand_line(mcx_async *client, mc_command command, int64_t deadline, mc_slice key,
                            PyObject *owner, mc_slice argument)
{
    mcx_errand *errand = mcx_errand_new(client, command, deadline);

    if (errand == NULL) {
        return NULL;
    }
    if (!mc_request_line(&errand->request, command, key, argument, false)) {
        PyErr_NoMemory();
    }
    else if (mcx_errand_add(errand, key, owner, 0, 0) == 0) {
        return errand;
    }
    mcx_errand_free(client, errand);
    return NULL;
}

/* ---- the garbage collector ------------------------------------------------------------------ */

int mcx_errand_traverse(mcx_errand *errand, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)errand->owner);
    Py_VISIT(errand->why.cause);
    for (size_t i = 0; i < errand->count; i++) {
        /* Of the chain each is visited by the one before it. */
        Py_VISIT((PyObject *)errand->slots[i].waiters);
    }
    return 0;
}
