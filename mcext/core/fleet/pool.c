#include "core/fleet/pool.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/net/process.h"

static _Thread_local mc_remembered remembered[MC_REMEMBERED];

mc_remembered *mc_pool_remembered(void)
{
    return remembered;
}

static _Atomic uint64_t next_id = 1;

/* Memory kept for an idle connection's buffers, each. */
#define IDLE_BUFFER ((size_t)1024)

int mc_pool_init(mc_pool *pool)
{
    memset(pool, 0, sizeof *pool);
    pool->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    atomic_init(&pool->generation, mc_process_generation());
    atomic_init(&pool->epoch, 0);
    atomic_init(&pool->latest, NULL);
    return pthread_mutex_init(&pool->lock, NULL) == 0;
}

static void free_connection(mc_connection *connection)
{
    mc_connection_close(connection);
    free(connection);
}

void mc_pool_fini(mc_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        free_connection(pool->list[i]);
    }
    free(pool->list);
    pool->list = NULL;
    pool->count = pool->capacity = 0;
    pthread_mutex_destroy(&pool->lock);
}

/* In the child: the mutex may have been held by a thread that is gone, and connections may be owned
 * by such threads. The streams are closed, which sends nothing, once the pool is usable again, for
 * a transport may run Python code; a struct in use is left to its call (the one that forked) or to
 * nobody. */
static void start_over(mc_pool *pool, uint32_t generation)
{
    mc_connection **list = pool->list;
    size_t count = pool->count;

    pthread_mutex_init(&pool->lock, NULL);
    pool->count = pool->capacity = pool->cursor = pool->reaped = 0;
    pool->list = NULL; /* last: another fork may come at any moment */
    atomic_store_explicit(&pool->latest, NULL, memory_order_relaxed);
    pool->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    atomic_store_explicit(&pool->generation, generation, memory_order_release);
    for (size_t i = 0; i < count; i++) {
        mc_connection *connection = list[i];

        if (atomic_load_explicit(&connection->turn, memory_order_relaxed) % 2 != 0) {
            connection->orphan = true;
            mc_connection_shut(connection);
        }
        else {
            free_connection(connection);
        }
    }
    free(list);
}

void mc_pool_check_fork_slow(mc_pool *pool)
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

static inline uint32_t turn_of(mc_connection *connection)
{
    return atomic_load_explicit(&connection->turn, memory_order_acquire);
}

/* Gives up ownership. mc_pool_disconnect may have passed while the connection was still owned: then
 * nobody else closes it, so it is looked at once more. True where it is owned again, open and old,
 * for the caller to close: not under the lock, because a transport may run Python code, which may
 * come back to this pool, or wait for a thread that does. */
static inline bool give_up(mc_connection *connection)
{
    mc_pool *pool = connection->pool;

    for (;;) {
        uint32_t epoch = connection->epoch;
        bool open = atomic_load_explicit(&connection->open, memory_order_relaxed) != 0;

        atomic_store_explicit(&connection->turn, turn_of(connection) + 1, memory_order_seq_cst);
        if (!open || epoch == atomic_load_explicit(&pool->epoch, memory_order_seq_cst) ||
            !mc_pool_try_take(connection)) {
            return false;
        }
        if (atomic_load_explicit(&connection->open, memory_order_relaxed) &&
            mc_pool_is_old(connection)) {
            return true;
        }
    }
}

void mc_pool_release(mc_connection *connection)
{
    while (give_up(connection)) {
        mc_connection_close(connection);
    }
}

/* Whether a thread, by its number or 0, may touch the stream; the caller owns the connection. */
static inline bool is_touchable(const mc_connection *connection, uint64_t owner)
{
    return connection->owner == 0 || connection->owner == owner;
}

/* Gives up ownership of what another thread alone may close: that will see whether it is old. */
static inline void put_back(mc_connection *connection)
{
    atomic_store_explicit(&connection->turn, turn_of(connection) + 1, memory_order_seq_cst);
}

/* What a call that owns the connection may do with it. */
static inline bool is_fitting(const mc_connection *connection, const void *kind, uint64_t owner)
{
    return connection->kind == kind && connection->owner == owner;
}

static uint32_t sum_of_turns(mc_pool *pool)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < pool->count; i++) {
        sum += turn_of(pool->list[i]);
    }
    return sum;
}

/* A free connection that fits, or one from before a disconnect, for the caller to close. One pass
 * can miss one that is given back behind it while another is taken before it; but where no
 * turn has moved from the first look to the last, all were owned at one moment, and only then is
 * one more needed. lock is held. */
static mc_connection *find_free_lock_held(mc_pool *pool, const void *kind, uint64_t owner)
{
    uint32_t moved_by_us;
    uint32_t before;

    do {
        before = sum_of_turns(pool);
        moved_by_us = 0;
        for (size_t i = 0; i < pool->count; i++) {
            size_t at = (pool->cursor + i) % pool->count;
            mc_connection *connection = pool->list[at];

            if (!atomic_load_explicit(&connection->open, memory_order_relaxed) ||
                !mc_pool_try_take(connection)) {
                continue;
            }
            if (is_fitting(connection, kind, owner)) {
                pool->cursor = at;
                return connection;
            }
            if (!is_touchable(connection, owner)) {
                put_back(connection);
            }
            else if (give_up(connection)) {
                pool->cursor = at;
                return connection;
            }
            moved_by_us += 2;
        }
    } while (sum_of_turns(pool) != before + moved_by_us);
    return NULL;
}

/* A struct without a stream, newly added where all have one. lock is held. */
static mc_connection *find_vacant_lock_held(mc_pool *pool, uint64_t owner)
{
    for (size_t i = 0; i < pool->count; i++) {
        mc_connection *connection = pool->list[i];

        if (!atomic_load_explicit(&connection->open, memory_order_relaxed) &&
            mc_pool_try_take(connection)) {
            if (!atomic_load_explicit(&connection->open, memory_order_relaxed)) {
                return connection;
            }
            if (!is_touchable(connection, owner)) {
                put_back(connection);
            }
            else if (mc_pool_is_old(connection) || give_up(connection)) {
                return connection;
            }
        }
    }
    if (pool->count == pool->capacity) {
        size_t capacity = pool->capacity ? 2 * pool->capacity : 4;
        mc_connection **list = mc_reallocate(pool->list, capacity * sizeof *list);

        if (list == NULL) {
            return NULL;
        }
        pool->list = list;
        pool->capacity = capacity;
    }
    mc_connection *connection = mc_reallocate(NULL, sizeof *connection);
    if (connection == NULL) {
        return NULL;
    }
    memset(connection, 0, sizeof *connection);
    atomic_init(&connection->turn, 1);
    connection->pool = pool;
    connection->fd = -1;
    pool->list[pool->count++] = connection;
    return connection;
}

mc_connection *mc_pool_remember_latest(mc_pool *pool, mc_remembered *own)
{
    mc_connection *connection = atomic_load_explicit(&pool->latest, memory_order_acquire);

    if (connection != NULL) {
        *own = (mc_remembered){pool->id, connection};
    }
    return connection;
}

mc_connection *mc_pool_take(mc_pool *pool, const void *kind, uint64_t owner)
{
    check_fork(pool);

    mc_remembered *own = &remembered[pool->id % MC_REMEMBERED];
    mc_connection *connection = own->connection;

    if (own->id != pool->id || !mc_pool_try_take(connection)) {
        connection = NULL;
    }
    else if (!is_fitting(connection, kind, owner) ||
             !atomic_load_explicit(&connection->open, memory_order_relaxed)) {
        mc_pool_release(connection);
        connection = NULL;
    }
    while (connection == NULL) {
        pthread_mutex_lock(&pool->lock);
        connection = find_free_lock_held(pool, kind, owner);
        if (connection == NULL) {
            connection = find_vacant_lock_held(pool, owner);
        }
        pthread_mutex_unlock(&pool->lock);
        if (connection == NULL) {
            return NULL;
        }
        if (atomic_load_explicit(&connection->open, memory_order_relaxed) &&
            !is_fitting(connection, kind, owner)) { /* an old one; one that fits may be there */
            mc_connection_close(connection);
            mc_pool_release(connection);
            connection = NULL;
            continue;
        }
        *own = (mc_remembered){pool->id, connection};
        atomic_store_explicit(&pool->latest, connection, memory_order_release);
    }
    bool open = atomic_load_explicit(&connection->open, memory_order_relaxed) != 0;

    if (open && mc_pool_is_old(connection)) {
        mc_connection_close(connection);
        open = false;
    }
    if (!open) {
        connection->kind = kind;
        connection->owner = owner;
        connection->epoch = atomic_load_explicit(&pool->epoch, memory_order_seq_cst);
    }
    return connection;
}

void mc_pool_opened(mc_connection *connection)
{
    connection->generation = mc_process_generation();
    connection->unanswered = 0;
    atomic_store_explicit(&connection->open, 1, memory_order_relaxed);
}

void mc_pool_give(mc_connection *connection, bool clean, int64_t now)
{
    if (connection->orphan) {
        free_connection(connection);
        return;
    }
    if (!clean || !atomic_load_explicit(&connection->open, memory_order_relaxed) ||
        connection->generation != mc_process_generation() || mc_pool_is_old(connection)) {
        mc_connection_close(connection);
    }
    else {
        atomic_store_explicit(&connection->last_used, now, memory_order_relaxed);
        mc_buffer_clear(&connection->in);
        mc_buffer_clear(&connection->out);
        mc_buffer_trim(&connection->in, 2 * IDLE_BUFFER);
        mc_buffer_trim(&connection->out, IDLE_BUFFER);
    }
    mc_pool_release(connection);
}

mc_connection *mc_pool_take_idle(mc_pool *pool, uint64_t owner, int64_t before, size_t *steps)
{
    mc_connection *found = NULL;

    check_fork(pool);
    pthread_mutex_lock(&pool->lock);
    while (*steps > 0 && pool->reaped < pool->count && found == NULL) {
        mc_connection *connection = pool->list[pool->reaped++];

        (*steps)--;
        if (!atomic_load_explicit(&connection->open, memory_order_relaxed) ||
            atomic_load_explicit(&connection->last_used, memory_order_relaxed) >= before ||
            !mc_pool_try_take(connection)) {
            continue;
        }
        if (!is_touchable(connection, owner)) {
            put_back(connection);
        }
        else if (atomic_load_explicit(&connection->open, memory_order_relaxed) &&
                 (mc_pool_is_old(connection) ||
                  atomic_load_explicit(&connection->last_used, memory_order_relaxed) < before)) {
            found = connection;
        }
        else if (give_up(connection)) {
            found = connection;
        }
    }
    if (found == NULL && pool->reaped >= pool->count) {
        pool->reaped = 0; /* the round is over; the caller goes on to the next pool */
        if (*steps > 0) {
            (*steps)--;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

void mc_pool_disconnect(mc_pool *pool)
{
    check_fork(pool);
    atomic_fetch_add_explicit(&pool->epoch, 1, memory_order_seq_cst);
    /* Before any turn is read by mc_pool_take_old: give_up() does the two in the other order. */
    atomic_thread_fence(memory_order_seq_cst);
}

/* Idle ones in turn: those that are old, or all that belong to owner. */
static mc_connection *take_next(mc_pool *pool, uint64_t owner, bool all_of_owner, size_t *cursor)
{
    mc_connection *found = NULL;

    pthread_mutex_lock(&pool->lock);
    while (found == NULL && *cursor < pool->count) {
        mc_connection *connection = pool->list[(*cursor)++];

        if (!mc_pool_try_take(connection)) {
            continue; /* its owner will see that it is old */
        }
        bool open = atomic_load_explicit(&connection->open, memory_order_relaxed) != 0;

        if (!is_touchable(connection, owner)) {
            put_back(connection);
        }
        else if (open && (mc_pool_is_old(connection) ||
                          (all_of_owner && owner != 0 && connection->owner == owner))) {
            found = connection;
        }
        else if (give_up(connection)) {
            found = connection;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

mc_connection *mc_pool_take_old(mc_pool *pool, uint64_t owner, size_t *cursor)
{
    return take_next(pool, owner, false, cursor);
}

mc_connection *mc_pool_take_owned(mc_pool *pool, uint64_t owner, size_t *cursor)
{
    check_fork(pool);
    return take_next(pool, owner, true, cursor);
}

size_t mc_pool_open_count(mc_pool *pool)
{
    size_t open = 0;

    check_fork(pool);
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < pool->count; i++) {
        open += atomic_load_explicit(&pool->list[i]->open, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pool->lock);
    return open;
}
