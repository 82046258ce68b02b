/* pool: the idle connections of one server: a mutex and a stack.
 *
 * Ownership: a connection is on the stack, or it belongs to the call that took it off, until that
 * call gives it back; while it is in use the pool knows nothing of it. The one that was given back
 * last is taken first, and a new one is made only where none is idle that fits: so there are never
 * more connections than there were calls at one time, and the oldest lie at the bottom. All on the
 * stack have a stream; one without is freed when it is given back.
 *
 * Any thread, no GIL needed; the mutex is held for a few loads and stores only, never while a
 * connection is opened or closed, which may run Python code. After a fork the first use in the
 * child finds a changed generation and starts over: mc_pool_check_fork. */
#ifndef MC_POOL_H
#define MC_POOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/fleet/lock.h"
#include "core/net/connection.h"

struct mc_pool {
    _Atomic uint32_t generation; /* of the process whose connections these are */
    _Atomic uint32_t epoch;      /* moved on, with the lock held, by mc_pool_disconnect */
    mc_lock lock;                /* guards the rest */
    mc_connection **idle;        /* the stack, oldest first */
    size_t count;
    size_t capacity;
};

void mc_pool_init(mc_pool *pool);

/* Closes and frees what is idle; no call may be using the pool. */
void mc_pool_fini(mc_pool *pool);

/* Before the pool is used: in a child that a fork made, forgets what the parent owns. */
void mc_pool_check_fork_slow(mc_pool *pool);

/* A connection that this call now owns: an idle one of this kind and owner, else a new one without
 * a stream (open is not set), for the caller to connect. NULL where memory is out. */
mc_connection *mc_pool_take(mc_pool *pool, const void *kind, uint64_t owner);

/* Gives it back, and frees it unless it stays: clean: its stream is known to be in step. Closed
 * where it is not clean or where mc_pool_disconnect was called since it was taken to be opened.
 * now: mc_clock_now(). */
void mc_pool_give(mc_connection *connection, bool clean, int64_t now);

/* The stream that was just opened on connection belongs to this process. */
void mc_pool_opened(mc_connection *connection);

/* From now on no connection opened before is used for another call: those in use are closed as
 * they are given back, the idle ones by the caller, who takes them with mc_pool_take_old. */
void mc_pool_disconnect(mc_pool *pool);

/* The following take an idle connection for the caller, who is owner's thread, to close and give
 * back, or NULL. What belongs to another thread is left to that. */

/* One from before the last mc_pool_disconnect. */
mc_connection *mc_pool_take_old(mc_pool *pool, uint64_t owner);

/* One that belongs to owner's thread, which ends. */
mc_connection *mc_pool_take_owned(mc_pool *pool, uint64_t owner);

/* The one that has been idle for longest, if that is since before `before`. */
mc_connection *mc_pool_take_idle(mc_pool *pool, uint64_t owner, int64_t before);

/* How many are idle: for tests and debugging. */
size_t mc_pool_idle_count(mc_pool *pool);

/* ---- in line, because a small call does little more ------------------------------------------ */

/* From before a mc_pool_disconnect. lock is held. */
static inline bool mc_pool_is_old(const mc_pool *pool, const mc_connection *connection)
{
    return connection->epoch != atomic_load_explicit(&pool->epoch, memory_order_relaxed);
}

/* The connection that was given back last, if it is of this kind and owner; else NULL, and
 * mc_pool_take is the way. */
static inline mc_connection *mc_pool_take_newest(mc_pool *pool, const void *kind, uint64_t owner)
{
    mc_connection *newest = NULL;

    if (atomic_load_explicit(&pool->generation, memory_order_acquire) != mc_process_generation()) {
        return NULL;
    }
    mc_lock_take(&pool->lock);
    if (pool->count != 0) {
        newest = pool->idle[pool->count - 1];
        if (newest->kind == kind && newest->owner == owner && !mc_pool_is_old(pool, newest)) {
            pool->count--;
        }
        else {
            newest = NULL;
        }
    }
    mc_lock_give(&pool->lock);
    return newest;
}

#endif
