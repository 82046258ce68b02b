/* batches: a leg's next commands: keys, and values serialised as they are sent. */
#include "core/flow/leg.h"
#include "core/wire/key.h"

#include "cache_values.h"
#include "compat.h"
#include "multi.h"
#include "shared.h"
#include "values.h"

void mcx_batch_drop_values(mcx_leg *leg)
{
    while (leg->value_count > 0) {
        PyObject *value = leg->values[--leg->value_count];

        leg->values[leg->value_count] = NULL;
        Py_DECREF(value);
    }
}

/* The value of an item's key, a new reference. */
static PyObject *value_of(mcx_multi *all, size_t standing)
{
    if (LIKELY(all->values != NULL)) {
        return Py_NewRef(all->values[standing]);
    }
    return PyObject_GetItem(all->mapping, all->items[standing].object);
}

size_t mcx_plain_length(const mcx_multi *all)
{
    const mcx_snapshot *snapshot = all->call->snapshot;
    size_t length = MC_COPY_UP_TO_OF_MANY;

    if (all->noreply || all->min_compress != NULL ||
        (all->call->cache != NULL &&
         (all->call->cache->encode != NULL || all->call->cache->min_compress != NULL))) {
        return 0;
    }
    if (snapshot->max_value_length != 0 && (size_t)snapshot->max_value_length < length) {
        length = (size_t)snapshot->max_value_length;
    }
    return (size_t)snapshot->max_length < length ? (size_t)snapshot->max_length : length;
}

/* The next item's value, laid out behind its command; a large one as a piece of its own. */
static int produce_set(mcx_multi *all, mcx_leg *leg)
{
    uint32_t number = leg->items[leg->io.next];
    size_t standing = mcx_standing_of(all, number);
    mc_slice text = all->texts[number];
    PyObject *value;
    mcx_stored stored;
    mc_laid laid;
    int kept;

    stored.owner = NULL;
    if (LIKELY(all->plain_length != 0 && mcx_plain_value(all->values[standing], &stored) &&
               stored.text.length - 1 < all->plain_length)) {
        laid = mc_leg_store(&leg->io, text, stored.flags, all->time.text, stored.text, NULL, false);
    }
    else {
        value = value_of(all, standing);
        if (value == NULL) {
            return -1;
        }
        kept = all->call->cache != NULL
                   ? mcx_cache_store_info(all->call, value, true, &stored)
                   : mcx_store_info(all->call, value, all->min_compress, &stored);
        Py_DECREF(value);
        if (kept <= 0) {
            mc_leg_leave_out(&leg->io); /* too large: it is not stored, and nothing is sent */
            all->items[number].too_large = kept == 0;
            mcx_stored_clear(&stored);
            return kept;
        }
        laid = mc_leg_store(&leg->io, text, stored.flags, all->time.text, stored.text, NULL,
                            stored.owner != NULL);
        if (laid == MC_LAID_POINTED_TO) {
            leg->values[leg->value_count++] = stored.owner;
            stored.owner = NULL;
        }
        mcx_stored_clear(&stored);
    }
    if (UNLIKELY(laid == MC_LAID_NO_MEMORY)) {
        PyErr_NoMemory();
        return -1;
    }
    leg->items[leg->io.sent - 1] = number;
    return 0;
}

static int produce_delete(mcx_multi *all, mcx_leg *leg)
{
    if (!mc_leg_line(&leg->io, all->texts[leg->items[leg->io.next]], all->time.text)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int produce_meta(mcx_multi *all, mcx_leg *leg)
{
    if (!mc_leg_line(&leg->io, all->texts[leg->items[leg->io.next]], all->meta_flags)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int produce_one(mcx_multi *all, mcx_leg *leg)
{
    return all->command == MC_SET  ? produce_set(all, leg)
           : all->command == MC_MG ? produce_meta(all, leg)
                                   : produce_delete(all, leg);
}

WHOLE int mcx_batch_produce(mcx_multi *all, mcx_leg *leg)
{
    mcx_batch_drop_values(leg);
    while (mc_leg_has_room(&leg->io)) {
        if (produce_one(all, leg) < 0) {
            return -1;
        }
    }
    if (!mc_leg_ready(&leg->io)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
