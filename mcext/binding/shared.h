/* shared: what the threads of a client share: an object in the client's slot, and its snapshot. */
#ifndef MCX_SHARED_H
#define MCX_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/fleet/placement.h"
#include "core/net/process.h"

#include "client_attributes.h"
#include "compat.h"

/* What becomes of a key whose server is dead: by the option on_dead. */
typedef enum {
    MCX_ON_DEAD_WALK, /* python-memcached's probes */
    MCX_ON_DEAD_MISS,
    MCX_ON_DEAD_NEXT /* the next server of the placement */
} mcx_on_dead_way;

/* What a call works with, replaced whole. Reference-counted: a call holds one reference. */
struct mcx_snapshot {
#ifdef Py_GIL_DISABLED
    _Atomic size_t references;
#else
    size_t references;
#endif
    uint64_t version; /* one more than that of the one it was copied from */
    _Atomic uint32_t
        plain_hosts; /* the module's host_changes when none of the hosts replaced anything */
    /* From here on a copy has the same. */
    PyObject *options[MCX_OPTION_COUNT]; /* as assigned; NULL: the default, made when asked for */
    uint32_t deleted;  /* bits by option, MCX_SERVERS and MCX_BUCKETS: no attribute, but in force */
    PyObject *servers; /* lists, as users see them and change them in place */
    PyObject *buckets;
    PyObject **server; /* strong: what servers held when it was last looked at */
    size_t server_count;
    PyObject **bucket;       /* strong; of buckets */
    uint32_t *bucket_server; /* index into server, or server_count where it is not there */
    size_t bucket_count;
    mc_placement placement;  /* of buckets, where there are any */
    PyObject *table;         /* strong: the placement's; NULL: it has none */
    mcx_on_dead_way on_dead; /* where a dead server's keys go */
    size_t prefix_length;    /* bytes that stand before each key of a Cache */
    bool all_hosts;          /* every server and bucket is exactly a _Host */
    size_t plain_key_length; /* of str keys that need no more than a look; 0: all need more */
    bool debug, cache_cas, check_keys, allow_pickle, pickler_is_keyword;
    bool native_compressor, native_decompressor;
    Py_ssize_t max_key_length;   /* 0: no limit */
    Py_ssize_t max_value_length; /* 0: no limit; of sending */
    Py_ssize_t max_length;       /* of reading, after decompression */
};

/* What all threads of a client share: the object in the client's slot. */
struct mcx_shared {
    PyObject_HEAD
    mcx_module *module;
    PyObject *module_object; /* strong: keeps module alive */
    PyObject *opened_with;   /* strong: the servers that the constructor was given */
    PyObject *watch; /* strong or NULL: what finds the servers (watch.h); in the critical section */
    _Atomic uint32_t watched_in;      /* the process generation in which that knows of it, or 0 */
    uint64_t id;                      /* never used twice */
    _Atomic(mcx_snapshot *) snapshot; /* read and replaced in the object's critical section */
    _Atomic uint64_t type_check;      /* the client's type version << 32 | MCX_REPLACES_* */
    _Atomic uint32_t plain_version; /* the type's where nothing is replaced, else MCX_NO_VERSION */
    _Atomic int instance_replaces;  /* an inside was once assigned to the instance */
    _Atomic int server_retries;
    _Atomic uint32_t generation; /* of the process: of references */
    _Atomic int64_t next_reap;
    _Atomic size_t reap_server;
};

extern PyType_Spec mcx_shared_spec;

mcx_shared *mcx_shared_new(mcx_module *module, PyObject *module_object);

void mcx_snapshot_free(mcx_snapshot *snapshot);
/* Gives up a reference. */
static inline void mcx_snapshot_drop(mcx_snapshot *snapshot)
{
    if (UNLIKELY(--snapshot->references == 0)) {
        mcx_snapshot_free(snapshot);
    }
}

/* From lists of hosts; steals nothing. */
int mcx_snapshot_set_servers(mcx_module *module, mcx_snapshot *snapshot, PyObject *servers);
int mcx_snapshot_set_buckets(mcx_module *module, mcx_snapshot *snapshot, PyObject *buckets);

/* Makes a snapshot that differs from the current one by what change does, again where another
 * thread was faster, and then the current one; connections of servers that are in it no more are
 * closed as soon as they are idle. 0, or -1 with an exception, change's or MemoryError. */
typedef int (*mcx_change)(mcx_module *module, mcx_snapshot *snapshot, const void *context);
int mcx_shared_change(mcx_shared *shared, mcx_change change, const void *context);

/* The two lists have changed in place since the current snapshot was made: makes another one. */
int mcx_shared_take_lists(mcx_shared *shared);
/* Whether they have, as far as two lengths and the bucket in hand show. */
static inline bool mcx_bucket_is(const mcx_snapshot *snapshot, size_t index)
{
    PyObject *list = snapshot->buckets;

    if (UNLIKELY((size_t)PyList_GET_SIZE(list) != snapshot->bucket_count)) {
        return false;
    }
#ifdef Py_GIL_DISABLED
    PyObject *item = PyList_GetItemRef(list, (Py_ssize_t)index);

    if (item == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(item);
    return item == snapshot->bucket[index];
#else
    return PyList_GET_ITEM(list, index) == snapshot->bucket[index];
#endif
}
/* The same of all of both lists. */
bool mcx_lists_are_current(const mcx_snapshot *snapshot);

/* For the first call in the child of a fork. */
void mcx_shared_start_over(mcx_shared *shared);

/* A reference to the snapshot that is current, to be given up with mcx_snapshot_drop: as long as no
 * code runs that may fork. */
static inline mcx_snapshot *mcx_shared_take(mcx_shared *shared)
{
    mcx_snapshot *snapshot;

    if (UNLIKELY(atomic_load_explicit(&shared->generation, memory_order_relaxed) !=
                 mc_process_generation())) {
        mcx_shared_start_over(shared);
    }
    Py_BEGIN_CRITICAL_SECTION(shared);
    snapshot = atomic_load_explicit(&shared->snapshot, memory_order_relaxed);
    if (LIKELY(snapshot != NULL)) {
        snapshot->references++;
    }
    Py_END_CRITICAL_SECTION();
    return snapshot;
}

/* A snapshot is safe to use between these, whatever runs. */
static inline mcx_snapshot *mcx_shared_enter(mcx_shared *shared)
{
    mcx_snapshot *snapshot = mcx_shared_take(shared);

    if (LIKELY(snapshot != NULL)) {
        mc_process_add_calls(1);
    }
    return snapshot;
}

static inline void mcx_shared_leave(mcx_snapshot *snapshot)
{
    mc_process_add_calls(-1);
    mcx_snapshot_drop(snapshot);
}

/* Where a client holds it. */
PyObject **mcx_shared_slot(const mcx_module *module, PyObject *self);

/* The core of a client, borrowed; NULL with RuntimeError where __init__ has not run. */
mcx_shared *mcx_shared_of(mcx_module *module, PyObject *self);

#endif
