/* The promises of mcext/core/fleet/placement.h, ring.h and rendezvous.h: keys go where
 * python-memcached, and what a table says, puts them. */
#define _GNU_SOURCE
#include "core/fleet/placement.h"

#include "check.h"
#include "core/fleet/hash.h"
#include "core/fleet/ring.h"

static const mc_slice foo = {"foo", 3};
static _Atomic int hash;

/* The hashes are those of test_hash.c. */
static void a_key_walks_by_the_hash_that_is_set(void)
{
    static const uint64_t walks[][5] = {
        [MC_HASH_DEFAULT] = {3187, 29842, 32274, 24630, 16170},
        [MC_HASH_CRC32] = {2356372769, 2165514877, 3087568280, 1996445716, 53144673},
    };

    for (size_t buckets = 2; buckets < 20; buckets++) {
        for (int i = 0; i < 2; i++) {
            mc_placement placement;
            mc_walk walk = {.hash = ~UINT64_C(0), .tries = 5}; /* of another key, over */

            mc_placement_init_modulo(&placement, buckets, &hash);
            atomic_store(&hash, i);
            CHECK_NUMBER(placement.first(&placement, foo, &walk), walks[i][0] % buckets);
            for (unsigned tries = 1; tries < 5; tries++) {
                CHECK_NUMBER(placement.next(&placement, &walk), walks[i][tries] % buckets);
                CHECK_NUMBER(walk.tries, tries);
            }
        }
    }
}

/* It is the client's, which may set it between two calls. */
static void the_hash_is_looked_up_each_time(void)
{
    mc_placement placement;
    mc_walk walk;

    mc_placement_init_modulo(&placement, 1000, &hash);
    atomic_store(&hash, MC_HASH_DEFAULT);
    CHECK_NUMBER(placement.first(&placement, foo, &walk), mc_hash_default(foo) % 1000);
    atomic_store(&hash, MC_HASH_CRC32);
    CHECK_NUMBER(placement.first(&placement, foo, &walk), mc_hash_crc32(foo) % 1000);
}

static void one_bucket_is_everybodys_and_no_key_is_hashed(void)
{
    mc_placement placement;
    mc_walk walk = {.hash = ~UINT64_C(0), .tries = 5};

    mc_placement_init_modulo(&placement, 1, &hash);
    CHECK_NUMBER(placement.first(&placement, (mc_slice){NULL, 7}, &walk), 0);
    CHECK(walk.hash == 0 && walk.tries == 0); /* the same for all keys */
    for (unsigned tries = 1; tries < 10; tries++) {
        CHECK_NUMBER(placement.next(&placement, &walk), 0);
        CHECK_NUMBER(walk.tries, tries);
    }
}

static void where_there_is_no_bucket_a_key_is_nowhere(void)
{
    mc_placement placement;
    mc_walk walk;

    mc_placement_init_nowhere(&placement);
    CHECK(placement.first(&placement, foo, &walk) == MC_NOWHERE);
    CHECK(placement.next(&placement, &walk) == MC_NOWHERE);
}

/* ---- by a table ----------------------------------------------------------------------------- */

/* A hash that a test can tell the result of: the key is a number. */
static uint64_t number(mc_slice key)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < key.length; i++) {
        sum = sum * 10 + (uint64_t)(key.bytes[i] - '0');
    }
    return sum;
}

#define KEY(text) ((mc_slice){text, sizeof text - 1})
#define COUNT(list) (sizeof(list) / sizeof *(list))
#define OWNERS ((uint16_t[]){3, 0, 3, 7, 0, 7})

/* The points of a ring. */
static void set_ring(mc_table *table, uint64_t *values, size_t count)
{
    static uint32_t starts[64];

    table->kind = MC_TABLE_RING;
    table->count = count;
    table->values = values;
    table->starts = starts;
    CHECK(mc_ring_cells(count) <= COUNT(starts));
    mc_ring_index(table);
    /* A search begins at the first point of its cell, or of the next one that has any: it is short.
     */
    for (uint64_t cell = 0; cell < mc_ring_cells(count); cell++) {
        size_t first = 0;

        while (first + 1 < count && values[first] >> table->shift < cell) {
            first++;
        }
        CHECK_NUMBER(starts[cell], first);
    }
}

static void a_ring_has_as_many_cells_as_a_power_of_two_that_is_not_above_its_points(void)
{
    static const size_t cells[] = {0, 2, 2, 2, 4, 4, 4, 4, 8, 8};

    for (size_t count = 1; count < COUNT(cells); count++) {
        CHECK_NUMBER(mc_ring_cells(count), cells[count]);
    }
    CHECK_NUMBER(mc_ring_cells(1600), 1024);
}

/* All of a key's walk, and that it stays at its end. */
static void walk_is(const mc_table *table, mc_slice key, const size_t *wanted, size_t count)
{
    mc_placement placement;
    mc_walk walk;

    mc_placement_init_table(&placement, table, 0);
    memset(&walk, 0xa5, sizeof walk); /* of another key, over */
    for (size_t i = 0; i < count; i++) {
        CHECK_NUMBER(i == 0 ? placement.first(&placement, key, &walk)
                            : placement.next(&placement, &walk),
                     wanted[i]);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(placement.next(&placement, &walk) == MC_NOWHERE);
    }
}

static void a_ring_gives_the_first_point_that_is_not_below_the_hash(void)
{
    uint64_t values[] = {10, 20, 20, 30, 40, UINT64_MAX};
    static const struct {
        uint64_t hash;
        size_t owner;
    } rows[] = {{0, 3},  {9, 3},  {10, 3}, {11, 0}, {20, 0},        {21, 7},
                {30, 7}, {31, 0}, {40, 0}, {41, 7}, {UINT64_MAX, 7}};

    for (size_t count = 1; count <= COUNT(values); count++) {
        mc_table table = {.hash = number, .servers = 3, .owners = OWNERS};

        set_ring(&table, values, count);
        for (size_t i = 0; i < COUNT(rows); i++) {
            char key[24];
            mc_placement placement;
            mc_walk walk;
            size_t wanted = rows[i].hash > values[count - 1] ? OWNERS[0] : rows[i].owner;
            int length = snprintf(key, sizeof key, "%" PRIu64, rows[i].hash);

            mc_placement_init_table(&placement, &table, 0);
            CHECK_NUMBER(placement.first(&placement, (mc_slice){key, (size_t)length}, &walk),
                         wanted);
        }
    }
}

/* Points that lie close, far apart, alike, at both ends; and each hash beside each of them. */
static void a_search_finds_what_a_look_at_each_point_finds(void)
{
    for (uint64_t round = 0; round < 300; round++) {
        uint64_t values[40];
        size_t count = 1 + round % COUNT(values);
        int shift = (int)(round % 64);
        mc_table table = {.hash = number, .servers = 40};
        uint16_t owners[COUNT(values)];
        mc_placement placement;

        for (size_t i = 0; i < count; i++) {
            uint64_t value = mc_mix64(round * 100 + i + 1) >> shift;
            size_t at = i;

            value = round % 7 == 0 && i % 3 == 0 ? (i % 2 ? UINT64_MAX : 0) : value;
            for (; at > 0 && values[at - 1] > value; at--) {
                values[at] = values[at - 1];
            }
            values[at] = value;
            owners[i] = (uint16_t)i;
        }
        table.owners = owners;
        set_ring(&table, values, count);
        mc_placement_init_table(&placement, &table, 0);
        for (size_t i = 0; i < 3 * count; i++) {
            uint64_t beside = values[i / 3] + i % 3 - 1;
            size_t wanted = 0;
            char key[24];
            int length = snprintf(key, sizeof key, "%" PRIu64, beside);
            mc_walk walk;

            while (wanted < count && values[wanted] < beside) {
                wanted++;
            }
            CHECK_NUMBER(placement.first(&placement, (mc_slice){key, (size_t)length}, &walk),
                         wanted % count);
        }
    }
}

/* Server 3 has the points 0 and 2, 0 has 1 and 4, 7 has 3 and 5. */
static void behind_a_point_of_a_ring_come_those_of_other_servers_each_once(void)
{
    mc_table table = {.hash = number, .servers = 3, .owners = OWNERS};

    set_ring(&table, (uint64_t[]){10, 20, 30, 40, 50, 60}, 6);
    walk_is(&table, KEY("5"), (size_t[]){3, 0, 7}, 3);
    walk_is(&table, KEY("15"), (size_t[]){0, 3, 7}, 3);
    walk_is(&table, KEY("25"), (size_t[]){3, 7, 0}, 3);
    walk_is(&table, KEY("35"), (size_t[]){7, 0, 3}, 3);
    walk_is(&table, KEY("45"), (size_t[]){0, 7, 3}, 3);
    walk_is(&table, KEY("55"), (size_t[]){7, 3, 0}, 3); /* around the end */
    walk_is(&table, KEY("61"), (size_t[]){3, 0, 7}, 3);
}

static void a_slot_is_the_hash_modulo_their_number(void)
{
    mc_table table = {
        .kind = MC_TABLE_SLOTS, .hash = number, .count = 6, .servers = 3, .owners = OWNERS};

    walk_is(&table, KEY("0"), (size_t[]){3, 0, 7}, 3);
    walk_is(&table, KEY("6"), (size_t[]){3, 0, 7}, 3);
    walk_is(&table, KEY("8"), (size_t[]){3, 7, 0}, 3);
    walk_is(&table, KEY("11"), (size_t[]){7, 3, 0}, 3);
}

/* The server of the one entry is 2. */
static void of_one_server_there_is_no_next(void)
{
    mc_table table = {.kind = MC_TABLE_SLOTS,
                      .hash = number,
                      .count = 2,
                      .servers = 1,
                      .owners = (uint16_t[]){2, 2}};

    walk_is(&table, KEY("1"), (size_t[]){2}, 1);
    set_ring(&table, (uint64_t[]){7, 8}, 2);
    walk_is(&table, KEY("9"), (size_t[]){2}, 1);
    table.kind = MC_TABLE_SEEDS;
    walk_is(&table, KEY("9"), (size_t[]){2}, 1);
}

/* Seeds by whose scores for the hash 1 the entries stand in this order from above: 4, 0, 5, 2,
 * 1, 3.
 */
static void the_highest_score_has_the_key_and_each_server_its_best(void)
{
    enum {
        COUNT = 6
    };
    uint64_t seeds[COUNT], scores[COUNT];
    size_t order[COUNT] = {0, 1, 2, 3, 4, 5};
    static uint16_t owners[COUNT] = {0, 0, 2, 2, 4, 5};
    mc_table table = {.kind = MC_TABLE_SEEDS,
                      .hash = number,
                      .count = COUNT,
                      .servers = 4,
                      .values = seeds,
                      .owners = owners};

    for (uint64_t round = 0; round < 200; round++) {
        size_t wanted[COUNT], count = 0;
        char key[24];
        int length = snprintf(key, sizeof key, "%" PRIu64, round * 77);

        for (size_t i = 0; i < COUNT; i++) {
            seeds[i] = mc_mix64(round * COUNT + i);
            scores[i] = mc_mix64(round * 77 ^ seeds[i]);
            order[i] = i;
        }
        for (size_t i = 0; i < COUNT; i++) { /* sorted, the highest first */
            for (size_t j = i + 1; j < COUNT; j++) {
                if (scores[order[j]] > scores[order[i]]) {
                    size_t other = order[i];

                    order[i] = order[j];
                    order[j] = other;
                }
            }
        }
        for (size_t i = 0; i < COUNT; i++) {
            bool met = false;

            for (size_t j = 0; j < count; j++) {
                met = met || wanted[j] == owners[order[i]];
            }
            if (!met) {
                wanted[count++] = owners[order[i]];
            }
        }
        walk_is(&table, (mc_slice){key, (size_t)length}, wanted, count);
    }
}

static void of_two_scores_that_are_alike_the_later_one_is_the_higher(void)
{
    mc_table table = {.kind = MC_TABLE_SEEDS,
                      .hash = number,
                      .count = 4,
                      .servers = 4,
                      .values = (uint64_t[]){5, 5, 5, 5},
                      .owners = (uint16_t[]){0, 1, 2, 3}};

    walk_is(&table, KEY("9"), (size_t[]){3, 2, 1, 0}, 4);
    table.servers = 2;
    table.owners = (uint16_t[]){0, 0, 2, 2};
    walk_is(&table, KEY("9"), (size_t[]){2, 0}, 2);
}

/* The scores of pymemcache 4.0.0: murmur3_32("10.0.0.1:11211-" + key), and so on. */
static mc_murmur3 text(const char *name)
{
    mc_murmur3 murmur = {.hash = 0};

    for (; *name != '\0'; name++) {
        mc_murmur3_add(&murmur, (unsigned char)*name);
    }
    return murmur;
}

static void texts_are_scored_as_in_pymemcache(void)
{
    mc_murmur3 texts[] = {text("10.0.0.1:11211-"), text("10.0.0.2:11211-"),
                          text("10.0.0.3:11212-")};
    mc_table table = {.kind = MC_TABLE_TEXTS,
                      .count = 3,
                      .servers = 3,
                      .texts = texts,
                      .owners = (uint16_t[]){0, 1, 2}};

    walk_is(&table, KEY("foo"), (size_t[]){0, 2, 1}, 3);
    walk_is(&table, KEY("user:42"), (size_t[]){2, 0, 1}, 3);
    walk_is(&table, KEY("x"), (size_t[]){0, 1, 2}, 3);
}

static void of_a_character_the_lower_eight_bits_are_scored(void)
{
    mc_murmur3 texts[] = {text("")};
    mc_table table = {
        .kind = MC_TABLE_TEXTS, .count = 1, .servers = 1, .texts = texts, .owners = OWNERS};
    const struct {
        mc_slice key, bytes;
    } rows[] = {
        {KEY("abc"), KEY("abc")},
        {KEY("\xc3\xa4"), KEY("\xe4")},               /* U+00E4 */
        {KEY("a\xe2\x82\xac z"), KEY("a\xac z")},     /* U+20AC */
        {KEY("\xf0\x9f\x98\x80!"), KEY("\x00!")},     /* U+1F600 */
        {KEY("\xdf\xbf"), KEY("\xff")},               /* U+07FF */
        {KEY("\xff\xfe"), KEY("\xff\xfe")},           /* no UTF-8: bytes */
        {KEY("\xc3"), KEY("\xc3")},                   /* cut */
        {KEY("\xe2\x82"), KEY("\xe2\x82")},           /* cut */
        {KEY("\xc3z"), KEY("\xc3z")},                 /* not gone on with */
        {KEY("\xa4\xc3\xa4"), KEY("\xa4\xe4")},       /* not begun */
        {KEY("\xf0\x9f\x98z"), KEY("\xf0\x9f\x98z")}, /* not gone on with */
    };
    check_guard guard = check_guard_new(64);

    for (size_t i = 0; i < COUNT(rows); i++) {
        mc_placement placement;
        mc_walk walk;
        mc_murmur3 wanted = {.hash = 0};
        mc_slice key = {check_guard_copy(guard, rows[i].key.bytes, rows[i].key.length),
                        rows[i].key.length};

        for (size_t at = 0; at < rows[i].bytes.length; at++) {
            mc_murmur3_add(&wanted, (unsigned char)rows[i].bytes.bytes[at]);
        }
        mc_placement_init_table(&placement, &table, 0);
        placement.first(&placement, key, &walk);
        CHECK_NUMBER(walk.score, mc_murmur3_end(&wanted));
    }
    check_guard_free(guard);
}

static void what_stands_before_a_key_is_not_hashed_where_that_is_said(void)
{
    mc_table table = {.kind = MC_TABLE_SLOTS,
                      .hash = number,
                      .count = 6,
                      .servers = 3,
                      .owners = (uint16_t[]){0, 1, 2, 3, 4, 5}};
    mc_placement placement;
    mc_walk walk;

    mc_placement_init_table(&placement, &table, 2);
    CHECK_NUMBER(placement.first(&placement, KEY("995"), &walk), 5);
    mc_placement_init_table(&placement, &table, 0);
    CHECK_NUMBER(placement.first(&placement, KEY("995"), &walk), 995 % 6);
}

static void what_stands_in_a_tag_is_hashed_alone(void)
{
    mc_table table = {.tag = "{}", .has_tag = true};
    mc_table same = {.tag = "||", .has_tag = true};
    const struct {
        mc_slice key;
        const char *part;
    } rows[] = {
        {KEY("a{bc}d"), "bc"}, {KEY("{b}"), "b"},     {KEY("{b}{c}"), "b"}, {KEY("}{b}"), "b"},
        {KEY("abc"), "abc"},   {KEY("a{}b"), "a{}b"}, {KEY("a{b"), "a{b"},  {KEY("a}b"), "a}b"},
        {KEY("a{"), "a{"},     {KEY("{{b}}"), "{b"},  {KEY("}a{"), "}a{"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        mc_slice part = mc_placement_tagged(&table, rows[i].key);

        CHECK_BYTES(part.bytes, part.length, rows[i].part);
    }
    mc_slice part = mc_placement_tagged(&same, KEY("a|bc|d"));

    CHECK_BYTES(part.bytes, part.length, "bc");
}

int main(void)
{
    PROMISE(where_there_is_no_bucket_a_key_is_nowhere);
    PROMISE(a_ring_has_as_many_cells_as_a_power_of_two_that_is_not_above_its_points);
    PROMISE(a_ring_gives_the_first_point_that_is_not_below_the_hash);
    PROMISE(a_search_finds_what_a_look_at_each_point_finds);
    PROMISE(behind_a_point_of_a_ring_come_those_of_other_servers_each_once);
    PROMISE(a_slot_is_the_hash_modulo_their_number);
    PROMISE(of_one_server_there_is_no_next);
    PROMISE(the_highest_score_has_the_key_and_each_server_its_best);
    PROMISE(of_two_scores_that_are_alike_the_later_one_is_the_higher);
    PROMISE(texts_are_scored_as_in_pymemcache);
    PROMISE(of_a_character_the_lower_eight_bits_are_scored);
    PROMISE(what_stands_before_a_key_is_not_hashed_where_that_is_said);
    PROMISE(what_stands_in_a_tag_is_hashed_alone);
    PROMISE(a_key_walks_by_the_hash_that_is_set);
    PROMISE(the_hash_is_looked_up_each_time);
    PROMISE(one_bucket_is_everybodys_and_no_key_is_hashed);
    return check_result();
}
