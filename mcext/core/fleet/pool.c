#include "core/fleet/pool.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/net/process.h"
#include "core/wire/apart.h"

/* Memory kept for an idle connection's buffers, each. */
#define IDLE_BUFFER ((size_t)1024)

void mc_pool_init(mc_pool *pool)
{
    memset(pool, 0, sizeof *pool);
    atomic_init(&pool->generation, mc_process_generation());
    mc_lock_init(&pool->lock);
}

static void free_connection(mc_connection *connection)
{
    mc_connection_close(connection);
    free(connection);
}

static void free_all(mc_connection **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free_connection(list[i]);
    }
    free(list);
}

void mc_pool_fini(mc_pool *pool)
{
    mc_connection **idle = pool->idle;
    size_t count = pool->count;

    pool->idle = NULL;
    pool->count = pool->capacity = 0;
    free_all(idle, count);
}

/* In the child: the idle connections' streams are closed, which sends nothing, once the pool is
 * usable again, for a transport may run Python code. One in use is left to its call (the one that
 * forked) or to nobody. Where the lock was held at the fork, by a thread that is gone, the stack
 * may be half changed: then it is forgotten unseen. The others of this process wait for the
 * generation, so the lock is this thread's either way; another fork may come at any moment. */
static void start_over(mc_pool *pool, uint32_t generation)
{
    mc_connection **idle = NULL;
    size_t count = 0;

    if (mc_lock_try(&pool->lock)) {
        idle = pool->idle;
        count = pool->count;
    }
    pool->count = pool->capacity = 0;
    pool->idle = NULL;
    mc_lock_give(&pool->lock);
    atomic_store_explicit(&pool->generation, generation, memory_order_release);
    free_all(idle, count);
}

MC_COLD void mc_pool_check_fork_slow(mc_pool *pool)
{
    uint32_t generation = mc_process_generation();
    uint32_t seen = atomic_load_explicit(&pool->generation, memory_order_acquire);

    while (seen != generation) {
        if (seen == (generation | MC_STARTING_OVER)) {
            sched_yield(); /* another thread of this process is at it, for a few stores */
            seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        }
        else if (atomic_compare_exchange_strong(&pool->generation, &seen,
                                                generation | MC_STARTING_OVER)) {
            start_over(pool, generation);
            return;
        }
    }
}

static inline void check_fork(mc_pool *pool)
{
    if (atomic_load_explicit(&pool->generation, memory_order_acquire) != mc_process_generation()) {
        mc_pool_check_fork_slow(pool);
    }
}

/* Whether a thread, by its number or 0, may touch the stream. */
static inline bool is_touchable(const mc_connection *connection, uint64_t owner)
{
    return connection->owner == 0 || connection->owner == owner;
}

/* lock is held. */
static mc_connection *remove_at(mc_pool *pool, size_t at)
{
    mc_connection *connection = pool->idle[at];

    pool->count--;
    memmove(&pool->idle[at], &pool->idle[at + 1], (pool->count - at) * sizeof *pool->idle);
    return connection;
}

/* The newest that fits, or one from before a disconnect that is to be closed. lock is held. */
static mc_connection *remove_fitting(mc_pool *pool, const void *kind, uint64_t owner, bool *old)
{
    for (size_t at = pool->count; at-- > 0;) {
        const mc_connection *connection = pool->idle[at];

        *old = mc_pool_is_old(pool, connection);
        if (*old ? is_touchable(connection, owner)
                 : connection->kind == kind && connection->owner == owner) {
            return remove_at(pool, at);
        }
    }
    return NULL;
}

/* epoch: the pool's when none was found, which is before it is opened. */
static mc_connection *new_connection(mc_pool *pool, const void *kind, uint64_t owner,
                                     uint32_t epoch)
{
    mc_connection *connection = mc_reallocate(NULL, sizeof *connection);

    if (connection != NULL) {
        memset(connection, 0, sizeof *connection);
        connection->pool = pool;
        connection->fd = -1;
        connection->kind = kind;
        connection->owner = owner;
        connection->epoch = epoch;
    }
    return connection;
}

mc_connection *mc_pool_take(mc_pool *pool, const void *kind, uint64_t owner)
{
    for (;;) {
        bool old = false;

        check_fork(pool);
        mc_lock_take(&pool->lock);
        uint32_t epoch = atomic_load_explicit(&pool->epoch, memory_order_relaxed);
        mc_connection *connection = remove_fitting(pool, kind, owner, &old);
        mc_lock_give(&pool->lock);
        if (connection == NULL) {
            return new_connection(pool, kind, owner, epoch);
        }
        if (!old) {
            return connection;
        }
        free_connection(connection);
    }
}

void mc_pool_opened(mc_connection *connection)
{
    connection->generation = mc_process_generation();
    connection->unanswered = 0;
    connection->open = true;
}

/* Room for one more; lock is held. */
static MC_APART bool grow(mc_pool *pool)
{
    size_t capacity = pool->capacity ? 2 * pool->capacity : 4;
    mc_connection **idle = mc_reallocate(pool->idle, capacity * sizeof *idle);

    if (idle != NULL) {
        pool->idle = idle;
        pool->capacity = capacity;
    }
    return idle != NULL;
}

void mc_pool_give(mc_connection *connection, bool clean, int64_t now)
{
    mc_pool *pool = connection->pool;
    /* What the transport still holds nobody asked for. */
    bool stays = clean && !mc_connection_is_lost(connection) && !connection->more;

    if (stays) {
        check_fork(pool);
        connection->last_used = now;
        mc_buffer_clear(&connection->in);
        mc_buffer_clear(&connection->out);
        mc_buffer_trim(&connection->in, 2 * IDLE_BUFFER);
        mc_buffer_trim(&connection->out, IDLE_BUFFER);
        mc_lock_take(&pool->lock);
        /* One for which there is no memory goes the way of an old one. */
        stays = !mc_pool_is_old(pool, connection) && (pool->count < pool->capacity || grow(pool));
        if (stays) {
            pool->idle[pool->count++] = connection;
        }
        mc_lock_give(&pool->lock);
    }
    if (!stays) {
        free_connection(connection);
    }
}

void mc_pool_disconnect(mc_pool *pool)
{
    check_fork(pool);
    mc_lock_take(&pool->lock);
    atomic_fetch_add_explicit(&pool->epoch, 1, memory_order_relaxed);
    mc_lock_give(&pool->lock);
}

/* The newest that is old, or the newest of owner's. */
static mc_connection *take_newest_that(mc_pool *pool, uint64_t owner, bool is_old)
{
    mc_connection *found = NULL;

    check_fork(pool);
    mc_lock_take(&pool->lock);
    for (size_t at = pool->count; found == NULL && at-- > 0;) {
        const mc_connection *connection = pool->idle[at];

        if (is_old ? mc_pool_is_old(pool, connection) && is_touchable(connection, owner)
                   : connection->owner == owner) {
            found = remove_at(pool, at);
        }
    }
    mc_lock_give(&pool->lock);
    return found;
}

mc_connection *mc_pool_take_old(mc_pool *pool, uint64_t owner)
{
    return take_newest_that(pool, owner, true);
}

mc_connection *mc_pool_take_owned(mc_pool *pool, uint64_t owner)
{
    return take_newest_that(pool, owner, false);
}

mc_connection *mc_pool_take_idle(mc_pool *pool, uint64_t owner, int64_t before)
{
    mc_connection *found = NULL;
    size_t at = 0;

    check_fork(pool);
    mc_lock_take(&pool->lock);
    while (at < pool->count && !is_touchable(pool->idle[at], owner)) {
        at++;
    }
    if (at < pool->count &&
        (pool->idle[at]->last_used < before || mc_pool_is_old(pool, pool->idle[at]))) {
        found = remove_at(pool, at);
    }
    mc_lock_give(&pool->lock);
    return found;
}

size_t mc_pool_idle_count(mc_pool *pool)
{
    check_fork(pool);
    mc_lock_take(&pool->lock);
    size_t count = pool->count;
    mc_lock_give(&pool->lock);
    return count;
}
