#include "core/fleet/rendezvous.h"

typedef uint64_t score_of(const mc_table *table, const mc_walk *walk, size_t entry);

static inline uint64_t seed_score(const mc_table *table, const mc_walk *walk, size_t entry)
{
    return mc_mix64(walk->hash ^ table->values[entry]);
}

/* How many bytes of a text are a character: one where they are no UTF-8. */
static inline size_t character(const unsigned char *text, size_t left)
{
    size_t length = text[0] < 0xc0 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    for (size_t i = 1; i < length; i++) {
        if (i == left || (text[i] & 0xc0) != 0x80) {
            return 1;
        }
    }
    return length;
}

static uint64_t text_score(const mc_table *table, const mc_walk *walk, size_t entry)
{
    mc_murmur3 murmur = table->texts[entry];
    const unsigned char *at = (const unsigned char *)walk->key.bytes;
    const unsigned char *end = at + walk->key.length;

    while (at < end) {
        size_t length = character(at, (size_t)(end - at));
        unsigned last = at[length - 1];

        /* Of a character in several bytes each but the first brings six bits. */
        mc_murmur3_add(
            &murmur,
            (unsigned char)(length == 1 ? last : (unsigned)at[length - 2] << 6 | (last & 0x3f)));
        at += length;
    }
    return mc_murmur3_end(&murmur);
}

static inline __attribute__((always_inline)) size_t first(const mc_table *table, mc_walk *walk,
                                                          score_of *score)
{
    uint64_t best = 0;
    size_t at = 0;

    for (size_t i = 0; i < table->count; i++) {
        uint64_t one = score(table, walk, i);

        at = one >= best ? i : at;
        best = one >= best ? one : best;
    }
    walk->tries = 0;
    walk->score = best;
    walk->at = at;
    return table->owners[at];
}

/* Whether an entry's score is below that of the one that was given last. */
static inline bool is_below(const mc_walk *walk, uint64_t score, size_t entry)
{
    return score < walk->score || (score == walk->score && entry < walk->at);
}

/* The highest of the servers' scores that are below the last one. */
static size_t next(const mc_table *table, mc_walk *walk, score_of *score)
{
    uint64_t best = 0;
    size_t at = MC_NOWHERE;

    for (size_t i = 0; i < table->count;) {
        size_t entry = i; /* the server's best */
        uint64_t highest = score(table, walk, i);

        for (i++; i < table->count && table->owners[i] == table->owners[entry]; i++) {
            uint64_t one = score(table, walk, i);

            entry = one >= highest ? i : entry;
            highest = one >= highest ? one : highest;
        }
        if (is_below(walk, highest, entry) && (at == MC_NOWHERE || highest >= best)) {
            at = entry;
            best = highest;
        }
    }
    if (at == MC_NOWHERE) {
        return MC_NOWHERE;
    }
    walk->tries++;
    walk->score = best;
    walk->at = at;
    return table->owners[at];
}

size_t mc_seeds_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    walk->hash = placement->table->hash(mc_placement_part(placement, key));
    return first(placement->table, walk, seed_score);
}

size_t mc_seeds_next(const mc_placement *placement, mc_walk *walk)
{
    return next(placement->table, walk, seed_score);
}

size_t mc_texts_first(const mc_placement *placement, mc_slice key, mc_walk *walk)
{
    walk->key = mc_placement_part(placement, key);
    return first(placement->table, walk, text_score);
}

size_t mc_texts_next(const mc_placement *placement, mc_walk *walk)
{
    return next(placement->table, walk, text_score);
}
