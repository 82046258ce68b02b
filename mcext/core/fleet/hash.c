#include "core/fleet/hash.h"

#include <zlib.h>

#include "core/wire/number.h"

uint32_t mc_hash_crc32(mc_slice key)
{
    return (uint32_t)crc32_z(0, (const Bytef *)key.bytes, key.length);
}

uint32_t mc_hash_again(uint64_t hash, unsigned tries, bool use_crc32)
{
    char text[2 * MC_NUMBER_MAX_DIGITS];
    size_t length = mc_number_format(text, hash);

    length += mc_number_format(text + length, tries);
    mc_slice digits = {text, length};
    return use_crc32 ? mc_hash_crc32(digits) : mc_hash_default(digits);
}
