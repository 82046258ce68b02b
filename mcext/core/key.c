#include "key.h"

#include <stdint.h>
#include <string.h>

#define ONES UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* The high bit of each byte of word that is below limit (limit at most 128). Exact where used as
 * "any": a borrow can only reach a byte above one that is itself below. */
static inline uint64_t any_below(uint64_t word, uint64_t limit)
{
    return (word - ONES * limit) & ~word & HIGHS;
}

static inline uint64_t bad_bytes(uint64_t word)
{
    return any_below(word, 0x21) | any_below(word ^ (ONES * 0x7f), 1);
}

/* Sixteen bytes at once, in what registers the machine has for that. */
typedef unsigned char block __attribute__((vector_size(16)));

static inline block bad_bytes_of(const char *at)
{
    block bytes;

    memcpy(&bytes, at, sizeof bytes);
    return (block)(bytes <= 0x20) | (block)(bytes == 0x7f);
}

static inline bool is_zero(block bytes)
{
    uint64_t halves[2];

    memcpy(halves, &bytes, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

bool mc_key_is_plain(mc_slice key)
{
    const char *at = key.bytes;
    size_t left = key.length;
    uint64_t bad = 0;
    uint64_t word;

    if (left >= 16) {
        block bad_block = {0};

        for (; left > 16; left -= 16, at += 16) {
            bad_block |= bad_bytes_of(at);
        }
        bad_block |= bad_bytes_of(key.bytes + key.length - 16); /* some bytes twice */
        return is_zero(bad_block);
    }
    if (left >= 8) {
        memcpy(&word, at, 8);
        bad = bad_bytes(word);
        memcpy(&word, at + left - 8, 8);
        return (bad | bad_bytes(word)) == 0;
    }
    if (left >= 4) {
        uint32_t first, last;

        memcpy(&first, at, 4);
        memcpy(&last, at + left - 4, 4);
        return bad_bytes((uint64_t)first << 32 | last) == 0;
    }
    for (; left > 0; left--, at++) {
        unsigned char byte = (unsigned char)*at;

        bad |= byte <= 0x20 || byte == 0x7f;
    }
    return bad == 0;
}

bool mc_key_is_safe(mc_slice key)
{
    for (size_t i = 0; i < key.length; i++) {
        char byte = key.bytes[i];

        if (byte == '\0' || byte == '\n' || byte == ' ') {
            return false;
        }
    }
    return key.length != 0;
}
