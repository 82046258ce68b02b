/* The promises of mcext/core/wire/key_index.h. */
#define _GNU_SOURCE
#include "core/wire/key_index.h"

#include "check.h"
#include "core/wire/buffer.h"

#define KEY(text) ((mc_slice){text, sizeof(text) - 1})

static mc_key_index made;

static void make(const mc_slice *keys, size_t count)
{
    CHECK(mc_key_index_clear(&made, count));
    for (size_t i = 0; i < count; i++) {
        mc_key_index_add(&made, &keys[i]);
    }
    mc_key_index_sort(&made);
}

static void each_key_is_found_once_in_any_order(void)
{
    const mc_slice keys[] = {KEY("b"), KEY("a"), KEY("ab"), KEY("ba"), KEY(""), KEY("abc")};
    const size_t order[] = {3, 0, 5, 4, 1, 2};

    make(keys, 6);
    for (size_t i = 0; i < 6; i++) {
        CHECK(mc_key_index_take(&made, keys[order[i]]) == &keys[order[i]]);
        CHECK(mc_key_index_take(&made, keys[order[i]]) == NULL);
    }
}

static void what_was_not_added_is_not_found(void)
{
    const mc_slice keys[] = {KEY("k1"), KEY("k10"), KEY("k2")};

    make(keys, 3);
    CHECK(mc_key_index_take(&made, KEY("k")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("k0")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("k3")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("k11")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("k100")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("")) == NULL);
}

static void a_key_that_is_there_three_times_is_found_three_times_in_order(void)
{
    const mc_slice keys[] = {KEY("x"), KEY("k"), KEY("y"), KEY("k"), KEY("k")};

    make(keys, 5);
    CHECK(mc_key_index_take(&made, KEY("k")) == &keys[1]);
    CHECK(mc_key_index_take(&made, KEY("k")) == &keys[3]);
    CHECK(mc_key_index_take(&made, KEY("y")) == &keys[2]);
    CHECK(mc_key_index_take(&made, KEY("k")) == &keys[4]);
    CHECK(mc_key_index_take(&made, KEY("k")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("x")) == &keys[0]);
}

static void two_keys_are_found_in_either_order(void)
{
    const mc_slice keys[] = {KEY("b"), KEY("a"), KEY("b")};

    for (size_t first = 0; first < 2; first++) {
        make(keys + first, 2);
        CHECK(mc_key_index_take(&made, KEY("a")) == &keys[1]);
        CHECK(mc_key_index_take(&made, KEY("b")) == &keys[2 * first]);
        CHECK(mc_key_index_take(&made, KEY("a")) == NULL);
        CHECK(mc_key_index_take(&made, KEY("b")) == NULL);
    }
}

static void keys_differ_by_any_byte(void)
{
    const mc_slice keys[] = {KEY("a\0b"), KEY("a\0c"), KEY("\xff"), KEY("\x7f")};

    make(keys, 4);
    CHECK(mc_key_index_take(&made, KEY("a\0c")) == &keys[1]);
    CHECK(mc_key_index_take(&made, KEY("a\0d")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("\xff")) == &keys[2]);
    CHECK(mc_key_index_take(&made, KEY("\x7f")) == &keys[3]);
    CHECK(mc_key_index_take(&made, KEY("a\0b")) == &keys[0]);
}

static void it_can_be_made_anew(void)
{
    const mc_slice keys[] = {KEY("a"), KEY("b"), KEY("c")};

    make(keys, 3);
    make(keys, 0);
    CHECK(mc_key_index_take(&made, KEY("a")) == NULL);
    make(keys + 1, 2);
    CHECK(mc_key_index_take(&made, KEY("a")) == NULL);
    CHECK(mc_key_index_take(&made, KEY("b")) == &keys[1]);
}

static void *no_memory(void *memory, size_t size)
{
    (void)memory, (void)size;
    return NULL;
}

static void where_memory_is_out_nothing_is_lost(void)
{
    mc_key_index index = {NULL, 0, 0};

    mc_reallocate = no_memory;
    CHECK(!mc_key_index_clear(&index, 1) && index.list == NULL);
    CHECK(!mc_key_index_clear(&made, made.capacity + 1));
    CHECK(mc_key_index_clear(&made, made.capacity)); /* what it has is enough */
    mc_reallocate = realloc;
    CHECK(!mc_key_index_clear(&index, SIZE_MAX));
    mc_key_index_fini(&index);
    mc_key_index_fini(&made);
    CHECK(made.list == NULL && made.count == 0 && made.capacity == 0);
}

int main(void)
{
    PROMISE(each_key_is_found_once_in_any_order);
    PROMISE(what_was_not_added_is_not_found);
    PROMISE(a_key_that_is_there_three_times_is_found_three_times_in_order);
    PROMISE(two_keys_are_found_in_either_order);
    PROMISE(keys_differ_by_any_byte);
    PROMISE(it_can_be_made_anew);
    PROMISE(where_memory_is_out_nothing_is_lost);
    return check_result();
}
