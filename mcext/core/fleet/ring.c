#include "core/fleet/ring.h"

static inline uint64_t hash_of(const mc_placement *placement, mc_slice key)
{
    return placement->table->hash(mc_placement_part(placement, key));
}

static inline size_t begin(const mc_table *table, size_t at, mc_walk *walk)
{
    walk->tries = 0;
    walk->start = walk->at = at;
    return table->owners[at];
}

size_t mc_ring_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    const mc_table *table = placement->table;
    uint64_t hash = hash_of(placement, key);
    const uint64_t *from = table->values;

    /* As many points are below the hash as are passed by here; no branch that could be foretold. */
    for (size_t left = table->count; left > 0;) {
        size_t half = (left + 1) / 2;

        from += from[half - 1] < hash ? half : 0;
        left -= half;
    }
    size_t at = (size_t)(from - table->values);

    return begin(table, at < table->count ? at : 0, walk);
}

size_t mc_slots_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    return begin(placement->table, hash_of(placement, key) % placement->table->count, walk);
}

static inline size_t behind(const mc_table *table, size_t at)
{
    return at + 1 < table->count ? at + 1 : 0;
}

static bool was_met(const mc_table *table, const mc_walk *walk)
{
    size_t at = walk->start;

    while (at != walk->at && table->owners[at] != table->owners[walk->at]) {
        at = behind(table, at);
    }
    return at != walk->at;
}

size_t mc_ring_next(const mc_placement *placement, mc_walk *walk)
{
    const mc_table *table = placement->table;

    if (walk->tries + 1 >= table->servers) {
        return MC_NOWHERE;
    }
    walk->tries++;
    do {
        walk->at = behind(table, walk->at);
    } while (was_met(table, walk));
    return table->owners[walk->at];
}
