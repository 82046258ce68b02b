/* choose: the buckets to try for a key, in order: the snapshot's placement, and, where a hash is a
 * Python int (a caller's own serverHashFunction, a (hash, key) tuple), the same walk over that. */
#ifndef MCX_CHOOSE_H
#define MCX_CHOOSE_H

#include "call.h"
#include "keys.h"

typedef struct {
    mc_walk walk;
    PyObject *big; /* strong or NULL: the hash where walk.hash cannot hold it */
    int tries;     /* buckets that were given beside the first */
    size_t in_order;
    size_t start;   /* the first bucket, where the next ones are of other servers */
    bool is_python; /* the hash is a Python int */
} mcx_walk;

int mcx_walk_first_python(mcx_call *call, const mcx_key *key, mcx_walk *walk, size_t *index);

/* The bucket behind the ones that were given, of which *index is the last, by what becomes of a
 * dead server's keys. As mcx_walk_first. */
int mcx_walk_next(mcx_call *call, mcx_walk *walk, size_t *index);

/* The first bucket for key: 1, 0 where there is none, -1 with an exception. mcx_walk_end is due. */
static inline int mcx_walk_first(mcx_call *call, const mcx_key *key, mcx_walk *walk, size_t *index)
{
    const mcx_snapshot *snapshot = call->snapshot;

    walk->big = NULL;
    walk->tries = 0;
    walk->in_order = 0;
    walk->is_python = false;
    if (UNLIKELY(atomic_load_explicit(&call->shared->server_retries, memory_order_relaxed) <= 0) &&
        snapshot->on_dead == MCX_ON_DEAD_WALK) {
        return mcx_walk_next(call, walk, index); /* none by its hash: in order */
    }
    if (UNLIKELY(key->hash != NULL ||
                 atomic_load_explicit(&call->module->hash_kind, memory_order_relaxed) ==
                     MCX_HASH_PYTHON) &&
        (key->hash != NULL || snapshot->table == NULL)) {
        return mcx_walk_first_python(call, key, walk, index);
    }
    *index = snapshot->placement.first(&snapshot->placement, key->text, &walk->walk);
    return LIKELY(*index != MC_NOWHERE);
}

static inline void mcx_walk_end(mcx_walk *walk)
{
    Py_CLEAR(walk->big);
}

/* The hash of a key by serverHashFunction: a new int. */
PyObject *mcx_server_hash(mcx_module *module, mc_slice text);

#endif
