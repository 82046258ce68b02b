/* cache: what a Cache holds: the type `_Cache` from which mcext.cache.Cache derives. */
#ifndef MCX_CACHE_H
#define MCX_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared.h"
#include "state.h"

typedef struct mcx_cache {
    PyObject_HEAD
    mcx_module *module;         /* borrowed: the type keeps it */
    mcx_shared *shared;         /* strong; NULL until __init__ has run */
    _Atomic(mcx_shared *) open; /* the same; NULL: a call begins with what finds its servers */
    PyObject *prefix;           /* bytes, strong; NULL: none */
    PyObject *encode, *decode;  /* strong; of the codec; NULL: the default format */
    PyObject *min_compress;     /* int, strong; NULL: nothing is compressed */
    PyObject *on_event;         /* strong or NULL; in the object's critical section */
    PyObject *weak_references;
    _Atomic int64_t slow; /* nanoseconds; a call that takes so long is an event; -1: none is */
    bool raises;          /* errors="raise" */
} mcx_cache;

/* Whether a call that took so many nanoseconds is an event. */
static inline bool mcx_is_slow(const mcx_cache *cache, int64_t took)
{
    int64_t slow = atomic_load_explicit(&cache->slow, memory_order_relaxed);

    return slow >= 0 && took >= slow;
}

/* The tables of its methods, a file each. */
extern PyMethodDef mcx_cache_get_methods[], mcx_cache_store_methods[], mcx_cache_change_methods[],
    mcx_cache_many_methods[], mcx_cache_item_methods[], mcx_cache_lease_methods[],
    mcx_cache_server_methods[];

#endif
