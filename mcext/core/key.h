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

/* True where no byte is a control byte (0x00-0x1f, 0x7f) or a space: python-memcached's rule. */
bool mc_key_is_plain(mc_slice key);

/* True where the bytes cannot end or split a command line: no NUL, LF, space, and not empty.
 * What check_keys=False still has to keep. */
bool mc_key_is_safe(mc_slice key);

#endif
