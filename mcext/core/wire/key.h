/* key: which bytes may stand as a key on a command line (protocol.txt, "Keys").
 *
 * Pure functions, any thread. */
#ifndef MC_KEY_H
#define MC_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes that somebody else owns. */
typedef struct {
    const char *bytes;
    size_t length;
} mc_slice;

/* memcmp(a, b, length) == 0 and memcpy, for the few bytes of a key: in words that may overlap,
 * where a call would cost more than the work. */
static inline bool mc_bytes_equal(const char *a, const char *b, size_t length)
{
    uint64_t x, y;
    uint32_t first_x, first_y, last_x, last_y;

    if (length >= 8) {
        size_t at = 0;

        for (; at + 8 < length; at += 8) {
            memcpy(&x, a + at, 8);
            memcpy(&y, b + at, 8);
            if (x != y) {
                return false;
            }
        }
        memcpy(&x, a + (length - 8), 8);
        memcpy(&y, b + (length - 8), 8);
        return x == y;
    }
    if (length >= 4) {
        memcpy(&first_x, a, 4);
        memcpy(&first_y, b, 4);
        memcpy(&last_x, a + (length - 4), 4);
        memcpy(&last_y, b + (length - 4), 4);
        return first_x == first_y && last_x == last_y;
    }
    while (length > 0 && a[length - 1] == b[length - 1]) {
        length--;
    }
    return length == 0;
}

static inline char *mc_bytes_put(char *to, const char *from, size_t length)
{
    uint64_t first, last;
    uint32_t half_first, half_last;
    uint16_t pair_first, pair_last;

    if (length > 32) {
        memcpy(to, from, length);
    }
    else if (length >= 16) {
        char head[16], tail[16];

        memcpy(head, from, 16);
        memcpy(tail, from + (length - 16), 16);
        memcpy(to, head, 16);
        memcpy(to + (length - 16), tail, 16);
    }
    else if (length >= 8) {
        memcpy(&first, from, 8);
        memcpy(&last, from + (length - 8), 8);
        memcpy(to, &first, 8);
        memcpy(to + (length - 8), &last, 8);
    }
    else if (length >= 4) {
        memcpy(&half_first, from, 4);
        memcpy(&half_last, from + (length - 4), 4);
        memcpy(to, &half_first, 4);
        memcpy(to + (length - 4), &half_last, 4);
    }
    else if (length >= 2) {
        memcpy(&pair_first, from, 2);
        memcpy(&pair_last, from + (length - 2), 2);
        memcpy(to, &pair_first, 2);
        memcpy(to + (length - 2), &pair_last, 2);
    }
    else if (length == 1) {
        *to = *from;
    }
    return to + length;
}

#define MC_ONES UINT64_C(0x0101010101010101)
#define MC_HIGHS UINT64_C(0x8080808080808080)

/* The high bit of each byte of word that is below limit (limit at most 128). Exact where used as
 * "any": a borrow can only reach a byte above one that is itself below. */
static inline uint64_t mc_any_below(uint64_t word, uint64_t limit)
{
    return (word - MC_ONES * limit) & ~word & MC_HIGHS;
}

static inline uint64_t mc_bad_of_word(uint64_t word)
{
    return mc_any_below(word, 0x21) | mc_any_below(word ^ (MC_ONES * 0x7f), 1);
}

/* Sixteen bytes at once, in what registers the machine has for that. */
typedef unsigned char mc_block __attribute__((vector_size(16)));

static inline mc_block mc_bad_of_block(const char *at)
{
    mc_block bytes;

    memcpy(&bytes, at, sizeof bytes);
    return (mc_block)(bytes <= 0x20) | (mc_block)(bytes == 0x7f);
}

static inline bool mc_is_zero(mc_block bytes)
{
    uint64_t halves[2];

    memcpy(halves, &bytes, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

/* True where no byte is a control byte (0x00-0x1f, 0x7f) or a space: python-memcached's rule. */
static inline bool mc_key_is_plain(mc_slice key)
{
    const char *at = key.bytes;
    size_t left = key.length;
    uint64_t bad = 0;
    uint64_t word;

    if (left >= 16) {
        mc_block bad_block = {0};

        for (; left > 16; left -= 16, at += 16) {
            bad_block |= mc_bad_of_block(at);
        }
        bad_block |= mc_bad_of_block(key.bytes + key.length - 16); /* some bytes twice */
        return mc_is_zero(bad_block);
    }
    if (left >= 8) {
        memcpy(&word, at, 8);
        bad = mc_bad_of_word(word);
        memcpy(&word, at + left - 8, 8);
        return (bad | mc_bad_of_word(word)) == 0;
    }
    if (left >= 4) {
        uint32_t first, last;

        memcpy(&first, at, 4);
        memcpy(&last, at + left - 4, 4);
        return mc_bad_of_word((uint64_t)first << 32 | last) == 0;
    }
    for (; left > 0; left--, at++) {
        unsigned char byte = (unsigned char)*at;

        bad |= byte <= 0x20 || byte == 0x7f;
    }
    return bad == 0;
}

/* True where the bytes cannot end or split a command line: no NUL, LF, space, and not empty.
 * What check_keys=False still has to keep. */
bool mc_key_is_safe(mc_slice key);

#endif
