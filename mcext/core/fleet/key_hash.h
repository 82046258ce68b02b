/* key_hash: the hashes by which other clients choose a server, by name.
 *
 * Each gives the same number on every machine. Where the C of those clients takes a byte of a key
 * as char, it counts here as on x86, with a sign; so does that of most fleets. Pure functions, any
 * thread. */
#ifndef MC_KEY_HASH_H
#define MC_KEY_HASH_H

#include <stdint.h>

#include "core/wire/key.h"

typedef uint64_t mc_key_hash(mc_slice key);

/* NULL where there is none of that name:
 *
 *   default            one-at-a-time, which is libmemcached's default
 *   md5                the first four bytes of the digest, little-endian
 *   md5_64             the first eight, big-endian
 *   crc                the upper half of crc32 without its first bit, as python-memcached has it
 *   crc32              the whole of it
 *   fnv1_64, fnv1a_64  of these two the lower 32 bits
 *   fnv1_32, fnv1a_32
 *   unsigned_fnv1_32, unsigned_fnv1a_32   with bytes without a sign: libmc's
 *   murmur             MurmurHash2, seed 0xdeadbeef * length
 *   jenkins            lookup3 (hashlittle), initval 13
 *   fnv1a              FNV-1a of 64 bits, all of them, with bytes without a sign */
mc_key_hash *mc_key_hash_find(const char *name);

/* The last step of splitmix64: each bit of a number acts on all bits of the result, and no two
 * numbers give the same one. */
static inline uint64_t mc_mix64(uint64_t number)
{
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
    number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
    return number ^ (number >> 31);
}

/* MurmurHash3 of 32 bits, seed 0, byte by byte: {0} is that of no byte. */
typedef struct {
    uint32_t hash;
    uint32_t tail;   /* of the bytes that are not yet four */
    uint32_t length; /* in all */
} mc_murmur3;

static inline uint32_t mc_murmur3_scrambled(uint32_t four)
{
    four *= 0xcc9e2d51;
    four = four << 15 | four >> 17;
    return four * 0x1b873593;
}

static inline void mc_murmur3_add(mc_murmur3 *of, unsigned char byte)
{
    of->tail |= (uint32_t)byte << (8 * (of->length & 3));
    if ((++of->length & 3) == 0) {
        of->hash ^= mc_murmur3_scrambled(of->tail);
        of->hash = (of->hash << 13 | of->hash >> 19) * 5 + 0xe6546b64;
        of->tail = 0;
    }
}

static inline uint32_t mc_murmur3_end(const mc_murmur3 *of)
{
    uint32_t hash = of->hash ^ mc_murmur3_scrambled(of->tail) ^ of->length;

    hash = (hash ^ (hash >> 16)) * 0x85ebca6b;
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35;
    return hash ^ (hash >> 16);
}

#endif
