/* The promises of mcext/core/wire/key.h. */
#define _GNU_SOURCE
#include "core/wire/key.h"

#include "check.h"

static check_guard guard;

static mc_slice guarded(const char *bytes, size_t length)
{
    return (mc_slice){check_guard_copy(guard, bytes, length), length};
}

static void each_byte_value_is_judged_alike_at_every_place(void)
{
    char key[41];

    for (size_t length = 1; length <= sizeof key; length++) {
        for (size_t at = 0; at < length; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memset(key, 'k', sizeof key);
                key[at] = (char)byte;
                mc_slice slice = guarded(key, length);

                CHECK(mc_key_is_plain(slice) == (byte > 0x20 && byte != 0x7f));
                CHECK(mc_key_is_safe(slice) == (byte != 0 && byte != '\n' && byte != ' '));
            }
        }
    }
}

static void a_bad_byte_is_seen_among_any_neighbours(void)
{
    for (int left = 0; left < 256; left++) {
        for (int right = 0; right < 256; right++) {
            char key[8] = {'k', 'k', 'k', (char)left, (char)right, 'k', 'k', 'k'};
            bool plain = left > 0x20 && left != 0x7f && right > 0x20 && right != 0x7f;

            CHECK(mc_key_is_plain(guarded(key, 8)) == plain);
        }
    }
}

static void an_empty_key_is_plain_but_never_safe(void)
{
    CHECK(mc_key_is_plain((mc_slice){NULL, 0}));
    CHECK(!mc_key_is_safe((mc_slice){NULL, 0}));
    CHECK(mc_key_is_plain(guarded("", 0)));
    CHECK(!mc_key_is_safe(guarded("", 0)));
}

static void long_keys_are_read_to_their_last_byte(void)
{
    for (size_t length = 240; length <= 3000; length += 5) {
        char *bytes = check_guard_room(guard, length);

        memset(bytes, 0xff, length);
        mc_slice key = {bytes, length};
        CHECK(mc_key_is_plain(key) && mc_key_is_safe(key));
        bytes[length - 1] = ' ';
        CHECK(!mc_key_is_plain(key) && !mc_key_is_safe(key));
    }
}

static void bytes_are_equal_where_each_of_them_is(void)
{
    check_guard other = check_guard_new(4096);
    char bytes[40];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)('a' + i);
    }
    for (size_t length = 0; length <= sizeof bytes; length++) {
        char *left = check_guard_copy(guard, bytes, length);
        char *right = check_guard_copy(other, bytes, length);

        CHECK(mc_bytes_equal(left, right, length));
        for (size_t at = 0; at < length; at++) {
            right[at] ^= 1;
            CHECK(!mc_bytes_equal(left, right, length));
            right[at] ^= 1;
        }
    }
    check_guard_free(other);
}

static void bytes_are_put_where_there_is_just_room_for_them(void)
{
    check_guard other = check_guard_new(4096);
    char bytes[40];

    memset(bytes, 'b', sizeof bytes);
    for (size_t length = 0; length <= sizeof bytes; length++) {
        char *from = check_guard_copy(guard, bytes, length);
        char *to = check_guard_room(other, length);

        CHECK(mc_bytes_put(to, from, length) == to + length);
        CHECK(memcmp(to, bytes, length) == 0);
        memset(to, 0, length);
    }
    check_guard_free(other);
}

int main(void)
{
    guard = check_guard_new(4096);
    PROMISE(bytes_are_equal_where_each_of_them_is);
    PROMISE(bytes_are_put_where_there_is_just_room_for_them);
    PROMISE(each_byte_value_is_judged_alike_at_every_place);
    PROMISE(a_bad_byte_is_seen_among_any_neighbours);
    PROMISE(an_empty_key_is_plain_but_never_safe);
    PROMISE(long_keys_are_read_to_their_last_byte);
    check_guard_free(guard);
    return check_result();
}
