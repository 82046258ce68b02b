/* placement: which bucket a key goes to, and which are tried behind it: an object of a snapshot.
 *
 * first() and next() are the row of one kind of placement; what a walk needs is in the walk, so one
 * placement serves all threads. No lock, no allocation. */
#ifndef MC_PLACEMENT_H
#define MC_PLACEMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/fleet/key_hash.h"
#include "core/wire/key.h"

/* In place of a bucket: there is none, or none any more. */
#define MC_NOWHERE SIZE_MAX

typedef struct {
    uint64_t hash;  /* modulo: that of the last try; rendezvous: the key's */
    uint64_t score; /* rendezvous: of the entry that was given last */
    mc_slice key;   /* rendezvous of texts: a view of the caller's */
    size_t start;   /* ring, slots: the point that was given first */
    size_t at;      /* the point or entry that was given last */
    unsigned tries; /* buckets given behind the first */
} mc_walk;

/* What a placement looks a key up in: made once, never changed. A point, slot or entry belongs to a
 * server, which is told by the first of its buckets; those that a server has stand in a row where
 * the kind is SEEDS or TEXTS. */
typedef struct {
    enum {
        MC_TABLE_RING,  /* the first value that is not below the key's hash, around */
        MC_TABLE_SLOTS, /* the slot with the number hash % count */
        MC_TABLE_SEEDS, /* the highest mix64(hash ^ value) */
        MC_TABLE_TEXTS, /* the highest murmur3 of a text and the characters of the key */
        MC_TABLE_KINDS
    } kind;
    mc_key_hash *hash; /* of keys; NULL: TEXTS */
    char tag[2];       /* what stands between these two characters of a key is hashed alone */
    bool has_tag;
    size_t count;     /* not 0 */
    size_t servers;   /* that own any of them */
    uint64_t *values; /* RING: ascending; SEEDS */
    uint64_t highest; /* RING: the last value */
    uint32_t *starts; /* RING: by value >> shift, where a search begins (mc_ring_index) */
    unsigned shift;
    mc_murmur3 *texts;
    uint16_t *owners;
} mc_table;

typedef struct mc_placement mc_placement;

struct mc_placement {
    /* The first bucket of a key's walk, or MC_NOWHERE. */
    size_t (*first)(const mc_placement *placement, mc_slice key, mc_walk *walk);
    /* The one behind it: of a table, the next one of another server. */
    size_t (*next)(const mc_placement *placement, mc_walk *walk);
    size_t buckets;          /* modulo: not 0 */
    const _Atomic int *hash; /* modulo, python-memcached's: MC_HASH_*, as it is at the moment */
    const mc_table *table;   /* the others'; borrowed */
    size_t skip;             /* of a key's bytes the first ones that are not hashed */
};

enum {
    MC_HASH_DEFAULT, /* python-memcached's cmemcache_hash */
    MC_HASH_CRC32
};

/* No bucket for any key. */
void mc_placement_init_nowhere(mc_placement *placement);

/* python-memcached's: hash modulo buckets, then the hash of the hash's digits and the try's. */
void mc_placement_init_modulo(mc_placement *placement, size_t buckets, const _Atomic int *hash);

/* By a table. Each key has `skip` bytes or more. */
void mc_placement_init_table(mc_placement *placement, const mc_table *table, size_t skip);

/* What stands between the tag's two characters, where that is anything; else all of the key. */
static __attribute__((cold, noinline, unused)) mc_slice mc_placement_tagged(const mc_table *table,
                                                                            mc_slice key)
{
    const char *open = memchr(key.bytes, table->tag[0], key.length);
    size_t left = open != NULL ? key.length - (size_t)(open + 1 - key.bytes) : 0;
    const char *close = left > 0 ? memchr(open + 1, table->tag[1], left) : NULL;

    return close != NULL && close > open + 1 ? (mc_slice){open + 1, (size_t)(close - open - 1)}
                                             : key;
}

/* What of a key is hashed. */
static inline mc_slice mc_placement_part(const mc_placement *placement, mc_slice key)
{
    key.bytes += placement->skip;
    key.length -= placement->skip;
    return placement->table->has_tag ? mc_placement_tagged(placement->table, key) : key;
}

#endif
