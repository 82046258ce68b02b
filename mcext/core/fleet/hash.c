#include "core/fleet/hash.h"

#include <zlib.h>

uint32_t mc_hash_crc32(mc_slice key)
{
    return (uint32_t)crc32_z(0, (const Bytef *)key.bytes, key.length);
}
