#include "core/wire/key_index.h"

#include <stdlib.h>

#include "core/wire/buffer.h"

int mc_key_index_clear(mc_key_index *index, size_t size)
{
    index->count = 0;
    if (size > index->capacity) {
        mc_indexed_key *list = size <= SIZE_MAX / sizeof *list
                                   ? mc_reallocate(index->list, size * sizeof *list)
                                   : NULL;

        if (list == NULL) {
            return 0;
        }
        index->list = list;
        index->capacity = size;
    }
    return 1;
}

/* Shorter ones first: most comparisons need no look at the bytes. */
static int compare(const mc_slice *one, const mc_slice *other)
{
    if (one->length != other->length) {
        return one->length < other->length ? -1 : 1;
    }
    return memcmp(one->bytes, other->bytes, one->length);
}

/* Equal ones by their place among the keys. */
static int compare_places(const void *one, const void *other)
{
    const mc_slice *first = ((const mc_indexed_key *)one)->key;
    const mc_slice *second = ((const mc_indexed_key *)other)->key;
    int order = compare(first, second);

    return order != 0 ? order : (first > second) - (first < second);
}

void mc_key_index_sort(mc_key_index *index)
{
    if (index->count > 1) {
        qsort(index->list, index->count, sizeof *index->list, compare_places);
    }
}

const mc_slice *mc_key_index_take(mc_key_index *index, mc_slice key)
{
    size_t low = 0, high = index->count;

    /* Of equal ones the taken ones stand first, for they are taken in order. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const mc_indexed_key *at = &index->list[middle];
        int order = compare(at->key, &key);

        if (order < 0 || (order == 0 && at->taken)) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == index->count || compare(index->list[low].key, &key) != 0) {
        return NULL;
    }
    index->list[low].taken = true;
    return index->list[low].key;
}

void mc_key_index_fini(mc_key_index *index)
{
    free(index->list);
    *index = (mc_key_index){NULL, 0, 0};
}
