/* The promises of mcext/core/wire/number.h. */
#define _GNU_SOURCE
#include "core/wire/number.h"

#include "check.h"

static check_guard guard;

/* Parses from bytes that end at the guard page; *value keeps 4242 where it is refused. */
static bool parse(const char *text, size_t length, uint64_t *value)
{
    *value = 4242;
    return mc_number_parse(check_guard_copy(guard, text, length), length, value);
}

static bool parses_to(const char *text, uint64_t wanted)
{
    uint64_t value;

    return parse(text, strlen(text), &value) && value == wanted;
}

static bool refused(const char *text, size_t length)
{
    uint64_t value;
    uint32_t narrow = 4242;
    bool taken = parse(text, length, &value);

    return !taken && value == 4242 && !mc_number_parse_u32(text, length, &narrow) && narrow == 4242;
}

static void round_trip(uint64_t number)
{
    char text[MC_NUMBER_MAX_DIGITS + 1];
    char wanted[MC_NUMBER_MAX_DIGITS + 1];
    uint64_t value;

    memset(text, '#', sizeof text);
    size_t length = mc_number_format(text, number);
    int printed = snprintf(wanted, sizeof wanted, "%" PRIu64, number);

    CHECK_NUMBER(length, printed);
    CHECK(memcmp(text, wanted, length) == 0);
    CHECK(text[length] == '#');
    CHECK(parse(text, length, &value));
    CHECK_NUMBER(value, number);
}

static void every_value_is_exact_up_to_the_last(void)
{
    for (uint64_t number = 0; number < 100000; number++) {
        round_trip(number);
        round_trip(UINT64_MAX - number);
    }
    for (uint64_t power = 1;; power *= 10) {
        round_trip(power - 1);
        round_trip(power);
        round_trip(power + 1);
        if (power > UINT64_MAX / 10) {
            break;
        }
    }
    for (int bit = 0; bit < 64; bit++) {
        round_trip(UINT64_C(1) << bit);
        round_trip((UINT64_C(1) << bit) - 1);
    }
    CHECK(parses_to("18446744073709551615", UINT64_MAX));
}

/* As request lines lay it out: just the digits, in no more room than they take. */
static void put(uint64_t number)
{
    char wanted[MC_NUMBER_MAX_DIGITS + 2];
    size_t length = (size_t)snprintf(wanted, sizeof wanted, "%" PRIu64, number);
    char *room = check_guard_room(guard, length);

    room[-1] = '#';
    CHECK(mc_number_put(room, number) == room + length);
    CHECK(memcmp(room, wanted, length) == 0 && room[-1] == '#');
    memset(room, '?', length);
    CHECK_NUMBER(mc_number_format(room, number), length);
    CHECK(memcmp(room, wanted, length) == 0 && room[-1] == '#');
}

static void put_signed(int64_t number)
{
    char wanted[MC_NUMBER_MAX_DIGITS + 2];
    size_t length = (size_t)snprintf(wanted, sizeof wanted, "%" PRId64, number);
    char *room = check_guard_room(guard, length);

    room[-1] = '#';
    CHECK_NUMBER(mc_number_format_signed(room, number), length);
    CHECK(memcmp(room, wanted, length) == 0 && room[-1] == '#');
}

/* 9, 10, 99, 100, ... and 2^64-1, each with its neighbours. */
static void numbers_are_laid_out_exactly_at_every_border_of_digits(void)
{
    for (uint64_t power = 1;; power *= 10) {
        for (uint64_t near = power - 1; near <= power + 1; near++) {
            put(near);
            if (near <= INT64_MAX) {
                put_signed((int64_t)near);
                put_signed(-(int64_t)near);
            }
        }
        if (power > UINT64_MAX / 10) {
            break;
        }
    }
    for (int bit = 0; bit < 64; bit++) {
        put(UINT64_C(1) << bit);
        put((UINT64_C(1) << bit) - 1);
    }
    put(UINT64_MAX);
    put_signed(INT64_MAX);
    put_signed(INT64_MIN);
    put_signed(INT64_MIN + 1);
}

static void every_small_number_is_laid_out_exactly(void)
{
    for (uint64_t number = 0; number <= 100000; number++) {
        put(number);
    }
}

static void overflow_is_refused(void)
{
    CHECK(refused("18446744073709551616", 20)); /* 2^64 */
    CHECK(refused("18446744073709551617", 20));
    CHECK(refused("18446744073709551620", 20));
    CHECK(refused("28446744073709551615", 20));
    CHECK(refused("99999999999999999999", 20));
    CHECK(refused("184467440737095516150", 21));
    CHECK(refused("000000000000000000000", 21));
    CHECK(refused("100000000000000000000", 21));
}

static void leading_zeros_are_taken_within_twenty_digits(void)
{
    CHECK(parses_to("0", 0));
    CHECK(parses_to("00", 0));
    CHECK(parses_to("007", 7));
    CHECK(parses_to("00000000000000000000", 0));
    CHECK(parses_to("00000000000000000001", 1));
}

static void only_digits_are_taken_at_any_place(void)
{
    for (size_t length = 1; length <= MC_NUMBER_MAX_DIGITS; length++) {
        for (size_t at = 0; at < length; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char text[MC_NUMBER_MAX_DIGITS];
                uint64_t value;

                memset(text, '1', sizeof text);
                text[at] = (char)byte;
                if (byte >= '0' && byte <= (length < 20 ? '9' : '1')) {
                    CHECK(parse(text, length, &value));
                }
                else if (byte < '0' || byte > '9') {
                    CHECK(refused(text, length));
                }
            }
        }
    }
    CHECK(refused("", 0));
    CHECK(refused("-1", 2));
    CHECK(refused("+1", 2));
    CHECK(refused(" 1", 2));
    CHECK(refused("1 ", 2));
    CHECK(refused("0x1", 3));
    CHECK(refused("1e3", 3));
    CHECK(refused("1_0", 3));
    CHECK(refused("\xef\xbc\x91", 3)); /* a full-width 1 */
}

static void thirty_two_bits_end_at_their_last_value(void)
{
    uint32_t value = 7;

    CHECK(mc_number_parse_u32("4294967295", 10, &value) && value == UINT32_MAX);
    CHECK(mc_number_parse_u32("0", 1, &value) && value == 0);
    value = 7;
    CHECK(!mc_number_parse_u32("4294967296", 10, &value) && value == 7);
    CHECK(!mc_number_parse_u32("18446744073709551615", 20, &value) && value == 7);
    CHECK(!mc_number_parse_u32("-1", 2, &value) && value == 7);
}

static void signed_values_keep_their_sign(void)
{
    static const int64_t numbers[] = {
        0, 1, -1, 9, -9, 10, -10, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, INT64_MIN + 1};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[MC_NUMBER_MAX_DIGITS + 2];
        char wanted[MC_NUMBER_MAX_DIGITS + 2];

        memset(text, '#', sizeof text);
        size_t length = mc_number_format_signed(text, numbers[i]);
        CHECK_NUMBER(length, snprintf(wanted, sizeof wanted, "%" PRId64, numbers[i]));
        CHECK(memcmp(text, wanted, length) == 0 && text[length] == '#');
    }
}

int main(void)
{
    guard = check_guard_new(64);
    PROMISE(every_value_is_exact_up_to_the_last);
    PROMISE(numbers_are_laid_out_exactly_at_every_border_of_digits);
    PROMISE(every_small_number_is_laid_out_exactly);
    PROMISE(overflow_is_refused);
    PROMISE(leading_zeros_are_taken_within_twenty_digits);
    PROMISE(only_digits_are_taken_at_any_place);
    PROMISE(thirty_two_bits_end_at_their_last_value);
    PROMISE(signed_values_keep_their_sign);
    check_guard_free(guard);
    return check_result();
}
