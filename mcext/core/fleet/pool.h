/* pool: the connections of one server, and who owns each.
 *
 * Ownership: a connection's turn counts up; it is odd while a call owns it: the one that moved it
 * on from even, until that call moves it on again. A thread remembers the connection that it used
 * last and takes it again by one compare-and-swap; else any free one is taken; else one is added.
 * So there are never more connections than there were calls at one time. The structs live as long
 * as the pool.
 *
 * Any thread, no GIL needed; the mutex is held for a few loads and stores only, never while a
 * connection is opened or closed. After a fork the first call in the child finds a changed
 * generation and starts over: mc_pool_check_fork. */
#ifndef MC_POOL_H
#define MC_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/net/connection.h"

struct mc_pool {
    uint64_t id; /* never used twice: what threads remember connections by */
    _Atomic uint32_t generation;
    _Atomic uint32_t epoch;          /* moved on by mc_pool_disconnect */
    _Atomic(mc_connection *) latest; /* the last that some thread came to remember, or NULL */
    pthread_mutex_t lock;            /* guards the rest */
    mc_connection **list;            /* all structs, with and without a stream */
    size_t count;
    size_t capacity;
    size_t cursor; /* where the last free one was found */
    size_t reaped; /* where the reaper goes on */
};

int mc_pool_init(mc_pool *pool);

/* Closes and frees all; no call may be using the pool. */
void mc_pool_fini(mc_pool *pool);

/* Before the pool is used: in a child that a fork made, forgets what the parent owns. */
void mc_pool_check_fork_slow(mc_pool *pool);

/* A connection that this call now owns, with a stream if a free one of this kind and owner was
 * there (open is set), else without: the caller connects it. NULL where memory is out. */
mc_connection *mc_pool_take(mc_pool *pool, const void *kind, uint64_t owner);

/* Gives it back; clean: its stream is known to be in step. Closed where it is not clean or where
 * mc_pool_disconnect was called since it was opened. now: mc_clock_now(). */
void mc_pool_give(mc_connection *connection, bool clean, int64_t now);

/* The same as it is: nothing was done with it. */
void mc_pool_release(mc_connection *connection);

/* The stream that was just opened on connection belongs to this process and epoch. */
void mc_pool_opened(mc_connection *connection);

/* Takes some idle open connection for the caller, who is owner's thread, to close and give back, or
 * NULL: one that has been idle since before `before`, looking at `*steps` at most, which counts
 * down. What belongs to another thread is left to that. */
mc_connection *mc_pool_take_idle(mc_pool *pool, uint64_t owner, int64_t before, size_t *steps);

/* From now on no connection opened before is used for another call: those in use are closed as
 * they are given back, the idle ones by the caller, who takes them with mc_pool_take_old. */
void mc_pool_disconnect(mc_pool *pool);

/* The next idle connection from before the last mc_pool_disconnect, for the caller, who is owner's
 * thread, to close and give back, or NULL. *cursor is 0 at first. */
mc_connection *mc_pool_take_old(mc_pool *pool, uint64_t owner, size_t *cursor);

/* The same of all idle connections that belong to owner's thread, which ends. */
mc_connection *mc_pool_take_owned(mc_pool *pool, uint64_t owner, size_t *cursor);

/* ---- in line, because a small call does little more ------------------------------------------ */

/* What a thread remembers: the connection it used last, by pool. A struct lives as long as its
 * pool and ids are never used twice, so a remembered pointer whose id matches a pool in hand is
 * valid; whether the connection is free, its turn tells. */
#define MC_REMEMBERED 16

typedef struct {
    uint64_t id;
    mc_connection *connection;
} mc_remembered;

/* This thread's table of them, by pool->id % MC_REMEMBERED: there as long as the thread is. */
mc_remembered *mc_pool_remembered(void);

/* For a thread that remembers none of this pool: the latest, which it then remembers, or NULL. */
mc_connection *mc_pool_remember_latest(mc_pool *pool, mc_remembered *own);

static inline bool mc_pool_try_take(mc_connection *connection)
{
    uint32_t turn = atomic_load_explicit(&connection->turn, memory_order_acquire);

    return turn % 2 == 0 &&
           atomic_compare_exchange_strong_explicit(&connection->turn, &turn, turn + 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* From before a mc_pool_disconnect. */
static inline bool mc_pool_is_old(const mc_connection *connection)
{
    return connection->epoch !=
           atomic_load_explicit(&connection->pool->epoch, memory_order_seq_cst);
}

/* The native connection that this thread (remembered is its table) used last, if it is free, has a
 * stream and was used less than idle_limit nanoseconds before now; else NULL, and mc_pool_take is
 * the way. */
static inline mc_connection *mc_pool_take_last(mc_pool *pool, mc_remembered *remembered,
                                               int64_t now, int64_t idle_limit)
{
    /* Before the id, which goes with it. */
    if (atomic_load_explicit(&pool->generation, memory_order_acquire) != mc_process_generation()) {
        return NULL;
    }
    mc_remembered *own = &remembered[pool->id % MC_REMEMBERED];
    mc_connection *connection = __builtin_expect(own->id == pool->id, 1)
                                    ? own->connection
                                    : mc_pool_remember_latest(pool, own);

    if (connection == NULL || !mc_pool_try_take(connection)) {
        return NULL;
    }
    if (connection->kind == NULL && connection->owner == 0 && !mc_pool_is_old(connection) &&
        atomic_load_explicit(&connection->open, memory_order_relaxed) &&
        now - atomic_load_explicit(&connection->last_used, memory_order_relaxed) < idle_limit) {
        return connection;
    }
    mc_pool_release(connection);
    return NULL;
}

/* Open connections, busy or idle: for tests and debugging. */
size_t mc_pool_open_count(mc_pool *pool);

#endif
