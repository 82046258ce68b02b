/* key_index: the keys of a retrieval by their bytes, for values that come in another order than
 * asked. Each is taken once; one that is there twice can be taken twice.
 *
 * A look-up is a binary search, so that neither a server by its order nor anybody by a choice of
 * keys can make it slow. Not synchronised: it belongs to one exchange. */
#ifndef MC_KEY_INDEX_H
#define MC_KEY_INDEX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/wire/key.h"

typedef struct {
    const mc_slice *key; /* borrowed */
    bool taken;
} mc_indexed_key;

typedef struct {
    mc_indexed_key *list; /* owned; NULL while nothing was ever asked for */
    size_t count;
    size_t capacity;
} mc_key_index;

/* Makes it empty, with room for size keys. 0 where memory is out. */
int mc_key_index_clear(mc_key_index *index, size_t size);

/* Adds a key, for which there is room. */
static inline void mc_key_index_add(mc_key_index *index, const mc_slice *key)
{
    index->list[index->count++] = (mc_indexed_key){key, false};
}

/* All are added: before any is taken. */
void mc_key_index_sort(mc_key_index *index);

/* The first of the keys with these bytes that is not taken yet, which it is from now on; NULL where
 * there is none. */
const mc_slice *mc_key_index_take(mc_key_index *index, mc_slice key);

void mc_key_index_fini(mc_key_index *index);

#endif
