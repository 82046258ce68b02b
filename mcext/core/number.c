#include "number.h"

#include <string.h>

bool mc_number_parse(const char *text, size_t length, uint64_t *value)
{
    uint64_t sum = 0;

    if (length == 0 || length > MC_NUMBER_MAX_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';

        if (digit > 9 || sum > UINT64_MAX / 10 || (sum == UINT64_MAX / 10 && digit > 5)) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool mc_number_parse_u32(const char *text, size_t length, uint32_t *value)
{
    uint64_t wide;

    if (!mc_number_parse(text, length, &wide) || wide > UINT32_MAX) {
        return false;
    }
    *value = (uint32_t)wide;
    return true;
}

size_t mc_number_format(char *to, uint64_t value)
{
    char digits[MC_NUMBER_MAX_DIGITS];
    size_t at = sizeof digits;

    if (value < 10) {
        *to = (char)('0' + value);
        return 1;
    }
    if (value < 1000) { /* most lengths */
        uint32_t small = (uint32_t)value;
        uint32_t tens = small / 10;

        if (small >= 100) {
            *to++ = (char)('0' + tens / 10);
        }
        to[0] = (char)('0' + tens % 10);
        to[1] = (char)('0' + small % 10);
        return small >= 100 ? 3 : 2;
    }
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    memcpy(to, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

size_t mc_number_format_signed(char *to, int64_t value)
{
    if (value >= 0) {
        return mc_number_format(to, (uint64_t)value);
    }
    *to = '-';
    return 1 + mc_number_format(to + 1, 0 - (uint64_t)value);
}
