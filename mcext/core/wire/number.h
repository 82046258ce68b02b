/* number: strict bounded decimals, to and from text.
 *
 * The protocol's numbers are ASCII digits and nothing else: no sign, no space, no overflow.
 * Pure functions, any thread. */
#ifndef MC_NUMBER_H
#define MC_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MC_NUMBER_MAX_DIGITS 20 /* of 2^64-1 */

/* True where text[0..length) is a decimal of 1 to 20 digits that fits; *value is set only then.
 * Leading zeros are taken (memcached pads a decremented value on the right, never on the left). */
bool mc_number_parse(const char *text, size_t length, uint64_t *value);
bool mc_number_parse_u32(const char *text, size_t length, uint32_t *value);

/* The number that stands at at; where it ends, or NULL: there is none that fits. What ends it is
 * there to be read: a line's CR, which is no digit. */
static inline const char *mc_number_take(const char *at, uint64_t *number)
{
    const char *begin = at;
    uint64_t sum = 0, digit;

    while ((digit = (uint64_t)(unsigned char)*at - '0') <= 9) {
        sum = sum * 10 + digit;
        at++;
    }
    size_t length = (size_t)(at - begin);

    if (length == 0 || length >= MC_NUMBER_MAX_DIGITS) {
        return mc_number_parse(begin, length, number) ? at : NULL;
    }
    *number = sum; /* with fewer digits it always fits */
    return at;
}

/* Writes value's digits, no terminator; to has room for MC_NUMBER_MAX_DIGITS. Returns the count. */
size_t mc_number_format(char *to, uint64_t value);

extern const char mc_number_pairs[201]; /* "00" to "99" */

/* The same for what is mostly a small number; returns where it ends. */
static inline char *mc_number_put(char *to, uint64_t value)
{
    if (value >= 10000) {
        return to + mc_number_format(to, value);
    }
    uint32_t low = (uint32_t)value;

    if (low < 10) {
        *to = (char)('0' + low);
        return to + 1;
    }
    if (low >= 100) {
        uint32_t high = low / 100;

        low -= 100 * high;
        if (high < 10) {
            *to++ = (char)('0' + high);
        }
        else {
            memcpy(to, mc_number_pairs + (size_t)2 * high, 2);
            to += 2;
        }
    }
    memcpy(to, mc_number_pairs + (size_t)2 * low, 2);
    return to + 2;
}
size_t mc_number_format_signed(char *to, int64_t value); /* one more byte for the sign */

#endif
