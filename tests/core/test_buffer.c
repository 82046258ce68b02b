/* The promises of mcext/core/wire/buffer.h. */
#define _GNU_SOURCE
#include "core/wire/buffer.h"

#include "check.h"

static long allowed; /* allocations that still succeed; negative: all */

static void *limited(void *memory, size_t size)
{
    if (allowed == 0) {
        return NULL;
    }
    if (allowed > 0) {
        allowed--;
    }
    return realloc(memory, size);
}

static void bytes_come_out_in_the_order_they_went_in(void)
{
    mc_buffer buffer = {0};
    unsigned char in = 0, out = 0;
    unsigned seed = 1;

    for (int round = 0; round < 20000; round++) {
        seed = seed * 1103515245 + 12345;
        size_t add = (seed >> 16) % 900;
        char *room = mc_buffer_reserve(&buffer, add);

        CHECK(room != NULL);
        for (size_t i = 0; i < add; i++) {
            room[i] = (char)in++;
        }
        mc_buffer_commit(&buffer, add);
        size_t take = (seed >> 8) % (mc_buffer_length(&buffer) + 1);
        const char *bytes = mc_buffer_bytes(&buffer);
        bool right = true;
        for (size_t i = 0; i < take; i++) {
            right = right && (unsigned char)bytes[i] == out++;
        }
        CHECK(right);
        mc_buffer_consume(&buffer, take);
        CHECK(buffer.start <= buffer.end && buffer.end <= buffer.capacity);
    }
    mc_buffer_fini(&buffer);
    CHECK(buffer.data == NULL && buffer.capacity == 0);
}

/* Sizes that the system's memory comes in. */
static void the_memory_is_512_bytes_or_doubles_of_that(void)
{
    mc_buffer buffer = {0};

    for (size_t size = 1, wanted = 512; size <= 70000; size++) {
        CHECK(mc_buffer_append(&buffer, "x", 1));
        wanted *= size > wanted ? 2 : 1;
        CHECK_NUMBER(buffer.capacity, wanted);
    }
    mc_buffer_fini(&buffer);
}

static void what_is_held_survives_growth_and_moves(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_append(&buffer, "abcdef", 6));
    mc_buffer_consume(&buffer, 2);
    CHECK(mc_buffer_reserve(&buffer, 100000) != NULL);
    CHECK_BYTES(mc_buffer_bytes(&buffer), mc_buffer_length(&buffer), "cdef");
    CHECK(buffer.start == 0 && buffer.capacity >= 100004);
    /* Moved to the front where that makes room enough: no allocation. */
    mc_buffer_commit(&buffer, buffer.capacity - buffer.end);
    mc_buffer_consume(&buffer, buffer.capacity - 3);
    size_t capacity = buffer.capacity;
    allowed = 0;
    mc_reallocate = limited;
    CHECK(mc_buffer_reserve(&buffer, capacity - 3) == buffer.data + 3);
    mc_reallocate = realloc;
    CHECK_NUMBER(buffer.capacity, capacity);
    CHECK_NUMBER(mc_buffer_length(&buffer), 3);
    mc_buffer_fini(&buffer);
}

static void a_byte_off_the_front_makes_room_for_one_at_the_end(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_reserve(&buffer, 1) != NULL);
    mc_buffer_commit(&buffer, buffer.capacity);
    buffer.data[1] = 'b';
    mc_buffer_consume(&buffer, 1);
    size_t capacity = buffer.capacity;
    CHECK(mc_buffer_reserve(&buffer, 1) == buffer.data + capacity - 1);
    CHECK(buffer.capacity == capacity && *mc_buffer_bytes(&buffer) == 'b');
    mc_buffer_fini(&buffer);
}

static void an_emptied_buffer_starts_at_its_front_again(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_append(&buffer, "abc", 3));
    mc_buffer_consume(&buffer, 1);
    CHECK(buffer.start == 1);
    mc_buffer_consume(&buffer, 2);
    CHECK(buffer.start == 0 && buffer.end == 0);
    CHECK(mc_buffer_append(&buffer, "xyz", 3));
    mc_buffer_clear(&buffer);
    CHECK_NUMBER(mc_buffer_length(&buffer), 0);
    mc_buffer_fini(&buffer);
}

static void out_of_memory_leaves_the_buffer_as_it_was(void)
{
    mc_buffer buffer = {0};
    static const char big[4096];

    mc_reallocate = limited;
    allowed = 0;
    CHECK(mc_buffer_reserve(&buffer, 1) == NULL);
    CHECK(!mc_buffer_append(&buffer, "a", 1));
    CHECK(buffer.data == NULL && buffer.capacity == 0);
    allowed = 1;
    CHECK(mc_buffer_append(&buffer, "abc", 3));
    CHECK(!mc_buffer_append(&buffer, big, sizeof big));
    CHECK_BYTES(mc_buffer_bytes(&buffer), mc_buffer_length(&buffer), "abc");
    allowed = -1;
    CHECK(mc_buffer_append(&buffer, big, sizeof big));
    CHECK_NUMBER(mc_buffer_length(&buffer), 3 + sizeof big);
    mc_reallocate = realloc;
    mc_buffer_fini(&buffer);
}

static void absurd_sizes_are_refused(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX) == NULL);
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX / 2 + 1) == NULL);
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX / 4 * 3) == NULL); /* no double of 512 is so large */
    CHECK(mc_buffer_append(&buffer, "abc", 3));
    allowed = 3; /* memory is not even asked for */
    mc_reallocate = limited;
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX) == NULL);
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX - 3) == NULL);
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX / 2 - 2) == NULL);
    CHECK(mc_buffer_reserve(&buffer, SIZE_MAX / 4 * 3) == NULL);
    mc_reallocate = realloc;
    CHECK_NUMBER(allowed, 3);
    CHECK_BYTES(mc_buffer_bytes(&buffer), mc_buffer_length(&buffer), "abc");
    mc_buffer_fini(&buffer);
}

static void nothing_can_be_reserved_and_appended(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_append(&buffer, NULL, 0));
    CHECK(mc_buffer_reserve(&buffer, 0) != NULL);
    CHECK_NUMBER(mc_buffer_length(&buffer), 0);
    mc_buffer_fini(&buffer);
}

static void trim_gives_back_only_large_and_empty_ones(void)
{
    mc_buffer buffer = {0};

    CHECK(mc_buffer_reserve(&buffer, 5000) != NULL);
    mc_buffer_commit(&buffer, 1);
    mc_buffer_trim(&buffer, 1000);
    CHECK(buffer.data != NULL);
    mc_buffer_consume(&buffer, 1);
    mc_buffer_trim(&buffer, buffer.capacity);
    CHECK(buffer.data != NULL);
    mc_buffer_trim(&buffer, 1000);
    CHECK(buffer.data == NULL && buffer.capacity == 0);
    mc_buffer_trim(&buffer, 0);
    mc_buffer_fini(&buffer);
}

static void nothing_is_left_of_what_was_wiped(void)
{
    mc_buffer buffer = {0};
    size_t left = 0;

    mc_buffer_wipe(&buffer); /* there is nothing */
    CHECK(buffer.data == NULL);
    CHECK(mc_buffer_append(&buffer, "a secret", 8));
    mc_buffer_consume(&buffer, 8);
    CHECK(mc_buffer_append(&buffer, "and", 3));
    mc_buffer_wipe(&buffer);
    CHECK(buffer.start == 0 && buffer.end == 0);
    for (size_t i = 0; i < buffer.capacity; i++) {
        left += buffer.data[i] != 0;
    }
    CHECK_NUMBER(left, 0);
    CHECK(mc_buffer_append(&buffer, "more", 4));
    CHECK_BYTES(mc_buffer_bytes(&buffer), mc_buffer_length(&buffer), "more");
    mc_buffer_fini(&buffer);
}

int main(void)
{
    PROMISE(bytes_come_out_in_the_order_they_went_in);
    PROMISE(the_memory_is_512_bytes_or_doubles_of_that);
    PROMISE(what_is_held_survives_growth_and_moves);
    PROMISE(a_byte_off_the_front_makes_room_for_one_at_the_end);
    PROMISE(an_emptied_buffer_starts_at_its_front_again);
    PROMISE(out_of_memory_leaves_the_buffer_as_it_was);
    PROMISE(absurd_sizes_are_refused);
    PROMISE(nothing_can_be_reserved_and_appended);
    PROMISE(trim_gives_back_only_large_and_empty_ones);
    PROMISE(nothing_is_left_of_what_was_wiped);
    return check_result();
}
