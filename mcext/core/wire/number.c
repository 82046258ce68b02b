#include "core/wire/number.h"

#include <string.h>

#include "core/wire/apart.h"

MC_APART bool mc_number_parse(const char *text, size_t length, uint64_t *value)
{
    uint64_t sum = 0;

    if (length == 0 || length > MC_NUMBER_MAX_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text[i] - '0';

        if (digit > 9 || (i == MC_NUMBER_MAX_DIGITS - 1 && sum > (UINT64_MAX - digit) / 10)) {
            return false; /* with fewer digits it is never too large */
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

const char mc_number_pairs[201] = "0001020304050607080910111213141516171819"
                                  "2021222324252627282930313233343536373839"
                                  "4041424344454647484950515253545556575859"
                                  "6061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

MC_APART size_t mc_number_format(char *to, uint64_t value)
{
    char digits[MC_NUMBER_MAX_DIGITS];
    size_t at = sizeof digits;

    while (value >= 100) {
        at -= 2;
        memcpy(digits + at, mc_number_pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, mc_number_pairs + 2 * value, 2);
    }
    else {
        digits[--at] = (char)('0' + value);
    }
    memcpy(to, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

size_t mc_number_format_signed(char *to, int64_t value)
{
    if (value >= 0) {
        return (size_t)(mc_number_put(to, (uint64_t)value) - to);
    }
    *to = '-';
    return 1 + mc_number_format(to + 1, 0 - (uint64_t)value);
}
