/* spread: which items of a multi call go to which server: a leg for each server, connected, with
 * its items in the caller's order. legs.c serves them. */
#include <stddef.h>
#include <string.h>

#include "core/wire/key.h"

#include "call.h"
#include "choose.h"
#include "compat.h"
#include "keys.h"
#include "multi.h"
#include "server.h"
#include "state.h"
#include "target.h"

/* A leg for a connected target (stolen): its number plus one, 0 with MemoryError. */
static uint32_t add_leg(mcx_multi *all, mcx_target *target)
{
    mcx_leg **legs = PyMem_Realloc(all->legs, (all->leg_count + 1) * sizeof *legs);
    mcx_leg *each = legs ? PyMem_Malloc(sizeof *each) : NULL;

    if (legs != NULL) {
        all->legs = legs;
    }
    if (each == NULL) {
        mcx_target_end(all->call, target, true);
        PyErr_NoMemory();
        return 0;
    }
    memset(each, 0, offsetof(mcx_leg, values)); /* the arrays have counts */
    each->target = *target;
    each->timeout = atomic_load_explicit(&target->host->timeout, memory_order_relaxed);
    legs[all->leg_count++] = each;
    return (uint32_t)all->leg_count;
}

/* The leg of a bucket's server, one more than its number, connected where it was not: 1 and *found,
 * 0, -1. */
static int find_leg(mcx_multi *all, size_t bucket, uint32_t *found)
{
    mcx_call *call = all->call;
    uint32_t server = call->snapshot->bucket_server[bucket];
    uint32_t *known = &all->leg_of_server[server];

    if (server == call->snapshot->server_count) {
        known = NULL; /* a bucket that is not among the servers: found by its host */
        for (size_t i = 0; i < all->leg_count; i++) {
            if ((PyObject *)all->legs[i]->target.host == call->snapshot->bucket[bucket]) {
                *found = (uint32_t)i + 1;
                return 1;
            }
        }
    }
    else if (LIKELY(*known != 0)) {
        *found = *known;
        return *known == UINT32_MAX ? 0 : 1;
    }
    mcx_target target;
    int connected = mcx_connect_host(call, (mcx_server *)call->snapshot->bucket[bucket], &target);

    if (connected > 0) {
        *found = add_leg(all, &target);
        connected = *found == 0 ? -1 : 1;
    }
    if (known != NULL && connected >= 0) {
        *known = connected ? *found : UINT32_MAX;
    }
    return connected;
}

/* The leg of an item's key; *found is 0 where no server can be had. -1 with an exception. */
static int choose_leg(mcx_multi *all, size_t number, uint32_t *found)
{
    mcx_key key = {.text = all->texts[number], .hash = mcx_hash_of(all, number)};
    mcx_walk walk;
    size_t bucket;
    int there = mcx_walk_first(all->call, &key, &walk, &bucket), connected = 0;

    while (there > 0 && (connected = find_leg(all, bucket, found)) == 0) {
        there = mcx_walk_next(all->call, &walk, &bucket);
    }
    mcx_walk_end(&walk);
    if (there == 0) {
        *found = 0;
    }
    return there < 0 || connected < 0 ? -1 : 0;
}

static int choose_servers(mcx_multi *all)
{
    mcx_call *call = all->call;
    uint32_t found = 0;

    all->leg_of_server = PyMem_Calloc(call->snapshot->server_count + 1, sizeof(uint32_t));
    if (all->leg_of_server == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    bool one = call->snapshot->bucket_count == 1 &&
               atomic_load(&call->module->hash_kind) != MCX_HASH_PYTHON;

    for (size_t i = 0; i < all->count; i++) {
        if (UNLIKELY(choose_leg(all, i, &found) < 0)) {
            return -1;
        }
        all->items[i].leg = found;
        if (LIKELY(one)) { /* the only server, found for the first */
            if (LIKELY(found == 1 && all->details == NULL)) {
                all->in_first_leg = true;
                return 0;
            }
            while (i + 1 < all->count && mcx_hash_of(all, i + 1) == NULL) {
                all->items[++i].leg = found;
            }
        }
    }
    return 0;
}

/* Gives each leg its items, in order. */
static int distribute(mcx_multi *all)
{
    for (size_t i = 0; i < all->count && !all->in_first_leg; i++) {
        if (all->items[i].leg != 0) {
            all->legs[all->items[i].leg - 1]->count++;
        }
    }
    if (all->in_first_leg) {
        all->legs[0]->count = all->count;
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        mcx_leg *each = all->legs[i];
        bool all_of_them = each->count == all->count;

        each->items = PyMem_New(uint32_t, each->count + 1);
        if (mcx_multi_reads(all)) {
            each->keys = all_of_them ? all->texts : PyMem_New(mc_slice, each->count + 1);
        }
        if (each->items == NULL || (mcx_multi_reads(all) && each->keys == NULL)) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t at = 0; all_of_them && at < all->count; at++) {
            each->items[at] = (uint32_t)at;
        }
        if (all_of_them) {
            return 0; /* the others have none */
        }
        each->count = 0;
    }
    for (size_t i = 0; i < all->count; i++) {
        if (all->items[i].leg != 0) {
            mcx_leg *each = all->legs[all->items[i].leg - 1];

            if (each->keys != NULL) {
                each->keys[each->count] = all->texts[i];
            }
            each->items[each->count++] = (uint32_t)i;
        }
    }
    return 0;
}

int mcx_spread(mcx_multi *all)
{
    return choose_servers(all) < 0 ? -1 : distribute(all);
}
