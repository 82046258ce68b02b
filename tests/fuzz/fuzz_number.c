/* fuzz_number: numbers are exact to the last value and refuse signs, spaces and overflow. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <inttypes.h>

#include "core/wire/number.h"

static void parse(const char *text, size_t size)
{
    uint64_t value = 4242;
    uint32_t narrow = 4242;
    bool taken = mc_number_parse(text, size, &value);
    bool narrow_taken = mc_number_parse_u32(text, size, &narrow);

    PROMISED(taken == fuzz_is_number(text, size, FUZZ_U64_MAX));
    PROMISED(narrow_taken == fuzz_is_number(text, size, FUZZ_U32_MAX));
    PROMISED(value == (taken ? fuzz_number(text, size) : 4242));
    PROMISED(narrow == (narrow_taken ? fuzz_number(text, size) : 4242));
}

/* As printf writes it. */
static void format(uint64_t number)
{
    char text[MC_NUMBER_MAX_DIGITS + 2];
    char wanted[MC_NUMBER_MAX_DIGITS + 2];
    uint64_t again = 0;

    memset(text, '#', sizeof text);
    size_t length = mc_number_format(text, number);
    PROMISED(length <= MC_NUMBER_MAX_DIGITS && text[length] == '#');
    PROMISED((size_t)snprintf(wanted, sizeof wanted, "%" PRIu64, number) == length);
    PROMISED(memcmp(text, wanted, length) == 0);
    PROMISED(mc_number_parse(fuzz_guarded(text, length, 1), length, &again) && again == number);

    memset(text, '#', sizeof text);
    length = mc_number_format_signed(text, (int64_t)number);
    PROMISED(length <= MC_NUMBER_MAX_DIGITS + 1 && text[length] == '#');
    PROMISED((size_t)snprintf(wanted, sizeof wanted, "%" PRId64, (int64_t)number) == length);
    PROMISED(memcmp(text, wanted, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t number = 0;

    if (size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    parse(fuzz_guarded(data, size, 0), size);
    memcpy(&number, data, size < sizeof number ? size : sizeof number);
    if (size % 4 == 1) { /* printf is slow */
        format(number >> (size % 64));
    }
    return 0;
}
