/* fuzz_placement: any table and any key: a walk gives each server that owns anything once, and then
 * none; the first of them is the one that a look at each entry finds. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/fleet/md5.h"
#include "core/fleet/placement.h"
#include "core/fleet/ring.h"

enum {
    MOST = 24 /* entries of a table */
};

static uint64_t values[MOST];
static uint32_t starts[MOST + 1];
static uint16_t owners[MOST];
static mc_murmur3 texts[MOST];

/* Entries from so many bytes each: a value of any size, and an owner; or, where the owners are to
 * stand together, whether it is another one. */
static void fill(mc_table *table, const uint8_t *data)
{
    bool together = table->kind == MC_TABLE_SEEDS || table->kind == MC_TABLE_TEXTS;

    for (size_t i = 0; i < table->count; i++, data += 3) {
        uint64_t value = (uint64_t)data[0] << (data[1] & 63);
        size_t at = i;

        for (; table->kind == MC_TABLE_RING && at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
        owners[i] = together && i > 0 && data[2] % 2 ? owners[i - 1]
                    : together                       ? (uint16_t)(2 * i)
                                                     : data[2] % 7;
        texts[i] = (mc_murmur3){.hash = 0};
        mc_murmur3_add(&texts[i], data[0]);
    }
    for (size_t i = 0; i < table->count; i++) {
        size_t before = 0;

        while (before < i && owners[before] != owners[i]) {
            before++;
        }
        table->servers += before == i;
    }
    table->values = values;
    table->starts = starts;
    table->owners = owners;
    table->texts = texts;
    if (table->kind == MC_TABLE_RING) {
        mc_ring_index(table);
    }
}

/* Where a hash belongs, entry by entry. */
static size_t look(const mc_table *table, uint64_t hash)
{
    size_t best = 0;

    for (size_t i = 0; i < table->count; i++) {
        if (table->kind == MC_TABLE_RING && values[i] >= hash) {
            return owners[i];
        }
        if (table->kind == MC_TABLE_SEEDS &&
            mc_mix64(hash ^ values[i]) >= mc_mix64(hash ^ values[best])) {
            best = i;
        }
    }
    return owners[table->kind == MC_TABLE_SLOTS ? hash % table->count : best];
}

static void walk(const mc_table *table, mc_slice key, size_t skip)
{
    mc_placement placement;
    mc_walk walk;
    size_t met[MOST], count = 0;

    mc_placement_init_table(&placement, table, skip);
    size_t bucket = placement.first(&placement, key, &walk);

    if (table->kind != MC_TABLE_TEXTS) {
        mc_slice part = mc_placement_part(&placement, key);

        PROMISED(part.length > 0 || key.length == skip);
        PROMISED(bucket == look(table, table->hash(part)));
    }
    for (; bucket != MC_NOWHERE; bucket = placement.next(&placement, &walk)) {
        for (size_t i = 0; i < count; i++) {
            PROMISED(met[i] != bucket);
        }
        PROMISED(count < table->servers);
        met[count++] = bucket;
    }
    PROMISED(count == table->servers);
    PROMISED(placement.next(&placement, &walk) == MC_NOWHERE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const hashes[] = {"default", "md5",    "md5_64", "crc",     "crc32",
                                         "fnv1_64", "murmur", "fnv1a",  "jenkins", "fnv1a_32"};
    uint32_t words[4];

    if (size < 3 || size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    size_t count = 1 + data[0] % MOST;

    if (size < 3 + 3 * count) {
        return 0;
    }
    size_t length = size - 3 - 3 * count;
    mc_slice key = {fuzz_guarded(data + 3 + 3 * count, length, 0), length};
    mc_table table = {.kind = data[1] % MC_TABLE_KINDS,
                      .hash = mc_key_hash_find(hashes[data[2] % 10]),
                      .tag = "{}",
                      .has_tag = data[1] & 128,
                      .count = count};

    fill(&table, data + 3);
    walk(&table, key, length > 0 && data[2] & 128 ? length / 2 : 0);
    mc_md5(key, words);
    PROMISED(mc_md5_first(key) == words[0]);
    return 0;
}
