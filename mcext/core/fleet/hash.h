/* hash: the hashes by which python-memcached chooses a server. Pure functions, any thread. */
#ifndef MC_HASH_H
#define MC_HASH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/key.h"

/* binascii.crc32, python-memcached's "old server hash function". */
uint32_t mc_hash_crc32(mc_slice key);

/* cmemcache_hash: (crc32(key) >> 16) & 0x7fff. */
static inline uint32_t mc_hash_default(mc_slice key)
{
    return (mc_hash_crc32(key) >> 16) & 0x7fff;
}

/* The hash of the next try, behind so many: hash(str(hash) + str(tries)). use_crc32: plain crc32 in
 * place of the default. */
uint32_t mc_hash_again(uint64_t hash, unsigned tries, bool use_crc32);

#endif
