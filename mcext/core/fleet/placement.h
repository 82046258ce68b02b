/* placement: which bucket a key goes to, and which are tried behind it: an object of a snapshot.
 *
 * first() and next() are the row of one kind of placement; what a walk needs is in the walk, so one
 * placement serves all threads. No lock, no allocation. */
#ifndef MC_PLACEMENT_H
#define MC_PLACEMENT_H

#include <stdatomic.h>

#include "core/fleet/ring.h"
#include "core/wire/key.h"

typedef struct mc_placement mc_placement;

struct mc_placement {
    /* The first bucket of a key's walk. */
    size_t (*first)(const mc_placement *placement, mc_slice key, mc_ring_walk *walk);
    /* The one behind it. */
    size_t (*next)(const mc_placement *placement, mc_ring_walk *walk);
    size_t buckets;          /* not 0 */
    const _Atomic int *hash; /* python-memcached's: MC_HASH_*, as it is at the moment */
};

enum {
    MC_HASH_DEFAULT, /* python-memcached's cmemcache_hash */
    MC_HASH_CRC32
};

/* python-memcached's: hash modulo buckets, then the hash of the hash's digits and the try's. */
void mc_placement_init_modulo(mc_placement *placement, size_t buckets, const _Atomic int *hash);

#endif
