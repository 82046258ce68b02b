#include "core/fleet/placement.h"

#include "core/fleet/hash.h"
#include "core/fleet/rendezvous.h"
#include "core/fleet/ring.h"

/* ---- none ----------------------------------------------------------------------------------- */

static size_t nowhere_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    (void)placement;
    (void)key;
    (void)walk;
    return MC_NOWHERE;
}

static size_t nowhere_next(const mc_placement *placement, mc_walk *walk)
{
    (void)placement;
    (void)walk;
    return MC_NOWHERE;
}

void mc_placement_init_nowhere(mc_placement *placement)
{
    *placement = (mc_placement){.first = nowhere_first, .next = nowhere_next};
}

/* ---- python-memcached's --------------------------------------------------------------------- */

static bool is_crc32(const mc_placement *placement)
{
    return atomic_load_explicit(placement->hash, memory_order_relaxed) == MC_HASH_CRC32;
}

static size_t modulo_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    walk->tries = 0;
    walk->hash = 0;
    if (placement->buckets == 1) { /* whatever the hash, and all that come behind it */
        return 0;
    }
    walk->hash = is_crc32(placement) ? mc_hash_crc32(key) : mc_hash_default(key);
    return walk->hash % placement->buckets;
}

static size_t modulo_next(const mc_placement *placement, mc_walk *walk)
{
    walk->hash = mc_hash_again(walk->hash, walk->tries++, is_crc32(placement));
    return walk->hash % placement->buckets;
}

void mc_placement_init_modulo(mc_placement *placement, size_t buckets, const _Atomic int *hash)
{
    *placement = (mc_placement){
        .first = modulo_first, .next = modulo_next, .buckets = buckets, .hash = hash};
}

/* ---- by a table ----------------------------------------------------------------------------- */

void mc_placement_init_table(mc_placement *placement, const mc_table *table, size_t skip)
{
    static const mc_placement rows[MC_TABLE_KINDS] = {
        [MC_TABLE_RING] = {.first = mc_ring_first, .next = mc_ring_next},
        [MC_TABLE_SLOTS] = {.first = mc_slots_first, .next = mc_ring_next},
        [MC_TABLE_SEEDS] = {.first = mc_seeds_first, .next = mc_seeds_next},
        [MC_TABLE_TEXTS] = {.first = mc_texts_first, .next = mc_texts_next},
    };

    *placement = rows[table->kind];
    placement->table = table;
    placement->skip = skip;
}
