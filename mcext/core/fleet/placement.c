#include "core/fleet/placement.h"

#include "core/fleet/hash.h"

static bool is_crc32(const mc_placement *placement)
{
    return atomic_load_explicit(placement->hash, memory_order_relaxed) == MC_HASH_CRC32;
}

static size_t modulo_first(const mc_placement *placement, mc_slice key, mc_ring_walk *walk)
{
    walk->tries = 0;
    walk->hash = 0;
    if (placement->buckets == 1) { /* whatever the hash, and all that come behind it */
        return 0;
    }
    walk->hash = is_crc32(placement) ? mc_hash_crc32(key) : mc_hash_default(key);
    return mc_ring_index(walk, placement->buckets);
}

static size_t modulo_next(const mc_placement *placement, mc_ring_walk *walk)
{
    mc_ring_next(walk, is_crc32(placement));
    return mc_ring_index(walk, placement->buckets);
}

void mc_placement_init_modulo(mc_placement *placement, size_t buckets, const _Atomic int *hash)
{
    *placement = (mc_placement){modulo_first, modulo_next, buckets, hash};
}
