#include "core/fleet/ring.h"

#include "core/fleet/hash.h"
#include "core/wire/number.h"

void mc_ring_next(mc_ring_walk *walk, int use_crc32)
{
    char text[2 * MC_NUMBER_MAX_DIGITS];
    size_t length = mc_number_format(text, walk->hash);

    length += mc_number_format(text + length, walk->tries);
    mc_slice digits = {text, length};
    walk->hash = use_crc32 ? mc_hash_crc32(digits) : mc_hash_default(digits);
    walk->tries++;
}
