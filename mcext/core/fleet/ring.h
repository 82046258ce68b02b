/* ring: from a key's hash to the buckets to try, in python-memcached's order.
 *
 * A walk yields indexes into the list of buckets: hash % buckets first, then, from the digits of
 * the hash before and the number of the try, nine more. Pure, no connection, no state but the
 * walk's own. A hash that does not fit 64 bits (a caller's own) is walked by the binding. */
#ifndef MC_RING_H
#define MC_RING_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t hash;
    unsigned tries; /* indexes given so far */
} mc_ring_walk;

/* The next bucket of the walk, 0 <= index < buckets; buckets is not 0. */
static inline size_t mc_ring_index(const mc_ring_walk *walk, size_t buckets)
{
    return (size_t)(walk->hash % buckets);
}

/* Moves on to the next hash: hash(str(hash) + str(tries)). crc32 chooses plain crc32 in place of
 * the default hash. */
void mc_ring_next(mc_ring_walk *walk, int use_crc32);

#endif
