/* watch: what a client has whose servers are found by asking: an object of Python
 * (mcext.discovery.Watch), which is told of the client's calls. Of all others only cold paths meet
 * it.
 *
 * It is due where it has not been told of this process, or of this client, yet: then a call begins
 * with it, for there may be no servers before. */
#ifndef MCX_WATCH_H
#define MCX_WATCH_H

#include "core/net/process.h"

#include "shared.h"

static inline bool mcx_watch_is_due(const mcx_shared *shared)
{
    return __atomic_load_n(&shared->watch, __ATOMIC_RELAXED) != NULL &&
           atomic_load_explicit(&shared->watched_in, memory_order_acquire) !=
               mc_process_generation();
}

/* Whether it was told of the client, in this process or in the parent: not by the constructor. */
static inline bool mcx_watch_is_begun(const mcx_shared *shared)
{
    return atomic_load_explicit(&shared->watched_in, memory_order_acquire) != 0;
}

/* watch.ready(client): its thread runs, and it has looked once. No snapshot may be held: servers
 * may be other ones behind it. 0, also where there is no watch; -1 with what a signal handler
 * raised. */
int mcx_watch_ready(mcx_shared *shared, PyObject *client);

/* watch.hint(): a server was marked dead. 0 or -1, as above. */
int mcx_watch_hint(mcx_shared *shared);

/* Why there are no servers, a new str; NULL without an exception where nothing is known. */
PyObject *mcx_watch_why(mcx_shared *shared);

/* From now on this (NULL: none) is the watch of the client, whose next call begins with it. What it
 * was before is *old, a new reference or NULL. 0, or -1 with MemoryError: then nothing is changed.
 */
int mcx_watch_set(mcx_shared *shared, PyObject *watch, PyObject **old);

#endif
