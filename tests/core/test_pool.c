/* The promises of mcext/core/fleet/pool.h: connections follow concurrency, and each has one owner.
 */
#define _GNU_SOURCE
#include "core/fleet/pool.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"

static mc_pool pool;
static const char native = 'n', other = 'o'; /* kinds */

/* A connection with a stream, one end of a pair whose other end is *peer. */
static mc_connection *take_open(int *peer)
{
    mc_connection *connection = mc_pool_take(&pool, &native, 0);

    if (connection != NULL && !atomic_load(&connection->open)) {
        int ends[2];

        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        connection->fd = ends[0];
        connection->transport = &mc_native_transport;
        mc_pool_opened(connection);
        if (peer != NULL) {
            *peer = ends[1];
        }
    }
    return connection;
}

static bool is_closed(int peer)
{
    char byte;

    return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

static void a_connection_given_back_clean_is_taken_again(void)
{
    int peer = -1;

    CHECK(mc_pool_init(&pool));
    mc_connection *first = take_open(&peer);
    mc_pool_give(first, true, mc_clock_now());
    mc_connection *second = mc_pool_take(&pool, &native, 0);
    CHECK(second == first && atomic_load(&second->open));
    mc_pool_give(second, true, mc_clock_now());
    CHECK_NUMBER(mc_pool_open_count(&pool), 1);
    CHECK(!is_closed(peer));
    mc_pool_fini(&pool);
    CHECK(is_closed(peer));
    close(peer);
}

static void one_that_is_not_clean_is_closed(void)
{
    int peer = -1;

    CHECK(mc_pool_init(&pool));
    mc_connection *connection = take_open(&peer);
    CHECK(mc_buffer_append(&connection->in, "rest", 4));
    mc_pool_give(connection, false, mc_clock_now());
    CHECK(is_closed(peer));
    close(peer);
    CHECK_NUMBER(mc_pool_open_count(&pool), 0);
    connection = mc_pool_take(&pool, &native, 0);
    CHECK(connection != NULL && !atomic_load(&connection->open));
    CHECK_NUMBER(mc_buffer_length(&connection->in), 0);
    mc_pool_give(connection, true, mc_clock_now());
    mc_pool_fini(&pool);
}

static void calls_at_one_time_own_one_connection_each(void)
{
    mc_connection *owned[40];
    int peers[40];

    CHECK(mc_pool_init(&pool));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) {
            owned[i] = take_open(&peers[i]);
            CHECK(owned[i] != NULL);
            for (int j = 0; j < i; j++) {
                CHECK(owned[i] != owned[j]);
            }
        }
        for (int i = 0; i < 40; i++) {
            mc_pool_give(owned[(i * 7) % 40], true, mc_clock_now());
        }
        CHECK_NUMBER(mc_pool_open_count(&pool), 40);
    }
    CHECK_NUMBER(pool.count, 40);
    mc_pool_fini(&pool);
    for (int i = 0; i < 40; i++) {
        close(peers[i]);
    }
}

static void forget_all(void)
{
    memset(mc_pool_remembered(), 0, MC_REMEMBERED * sizeof(mc_remembered));
}

static void a_thread_that_remembers_none_takes_the_latest_if_it_is_free(void)
{
    int64_t now = mc_clock_now();
    int peer = -1;

    CHECK(mc_pool_init(&pool));
    CHECK(mc_pool_take_last(&pool, mc_pool_remembered(), now, MC_SECOND) == NULL);
    mc_connection *first = take_open(&peer);
    first->kind = NULL; /* native, as the straight way wants it */
    forget_all();
    CHECK(mc_pool_take_last(&pool, mc_pool_remembered(), now, MC_SECOND) == NULL); /* it is owned */
    mc_pool_give(first, true, now);
    forget_all();
    CHECK(mc_pool_take_last(&pool, mc_pool_remembered(), now, MC_SECOND) == first);
    CHECK(mc_pool_remembered()[pool.id % MC_REMEMBERED].connection == first);
    mc_pool_give(first, true, now);
    forget_all();
    CHECK(mc_pool_take_last(&pool, mc_pool_remembered(), now + MC_SECOND, MC_SECOND) == NULL);
    mc_pool_disconnect(&pool);
    forget_all();
    CHECK(mc_pool_take_last(&pool, mc_pool_remembered(), now, MC_SECOND) == NULL);
    CHECK(is_closed(peer)); /* whoever finds it old closes it */
    close(peer);
    mc_pool_fini(&pool);
}

static void another_kind_or_owner_does_not_get_it(void)
{
    int peer = -1;

    CHECK(mc_pool_init(&pool));
    mc_connection *first = take_open(&peer);
    mc_pool_give(first, true, mc_clock_now());
    mc_connection *second = mc_pool_take(&pool, &other, 0);
    mc_connection *third = mc_pool_take(&pool, &native, 77);
    CHECK(second != first && !atomic_load(&second->open));
    CHECK(third != first && third != second && !atomic_load(&third->open));
    mc_pool_give(second, true, mc_clock_now());
    mc_pool_give(third, true, mc_clock_now());
    CHECK(mc_pool_take(&pool, &native, 0) == first);
    mc_pool_give(first, true, mc_clock_now());
    mc_pool_fini(&pool);
    close(peer);
}

static void after_disconnect_none_from_before_is_used(void)
{
    int idle_peer = -1, busy_peer = -1;
    size_t steps = 100;

    CHECK(mc_pool_init(&pool));
    mc_connection *busy = take_open(&busy_peer);
    mc_connection *idle = take_open(&idle_peer);
    mc_pool_give(idle, true, mc_clock_now());
    mc_pool_disconnect(&pool);
    CHECK(mc_pool_take_idle(&pool, 0, INT64_MAX, &steps) == idle);
    mc_pool_give(idle, false, mc_clock_now());
    CHECK(is_closed(idle_peer));
    CHECK(!is_closed(busy_peer));
    mc_pool_give(busy, true, mc_clock_now()); /* clean, but from before */
    CHECK(is_closed(busy_peer));
    mc_connection *next = take_open(NULL);
    CHECK(next != NULL);
    mc_pool_give(next, true, mc_clock_now());
    mc_pool_fini(&pool);
    close(idle_peer);
    close(busy_peer);
}

static void the_reaper_takes_the_idle_ones_only(void)
{
    mc_connection *owned[4];
    int peers[4];
    size_t steps;

    CHECK(mc_pool_init(&pool));
    for (int i = 0; i < 4; i++) {
        owned[i] = take_open(&peers[i]);
    }
    mc_pool_give(owned[0], true, 100);
    mc_pool_give(owned[1], true, 200);
    mc_pool_give(owned[2], true, 300); /* owned[3] stays in use */
    steps = 2;
    CHECK(mc_pool_take_idle(&pool, 0, 50, &steps) == NULL && steps == 0);
    steps = 100;
    CHECK(mc_pool_take_idle(&pool, 0, 50, &steps) == NULL); /* the round ends */
    steps = 100;
    mc_connection *found = mc_pool_take_idle(&pool, 0, 250, &steps);
    CHECK(found == owned[0]);
    mc_pool_give(found, false, 400);
    found = mc_pool_take_idle(&pool, 0, 250, &steps);
    CHECK(found == owned[1]);
    mc_pool_give(found, false, 400);
    CHECK(mc_pool_take_idle(&pool, 0, 250, &steps) == NULL);
    CHECK(is_closed(peers[0]) && is_closed(peers[1]) && !is_closed(peers[2]));
    mc_pool_give(owned[3], true, 400);
    mc_pool_fini(&pool);
    for (int i = 0; i < 4; i++) {
        close(peers[i]);
    }
}

static void idle_connections_keep_little_memory(void)
{
    int peer = -1;

    CHECK(mc_pool_init(&pool));
    mc_connection *connection = take_open(&peer);
    CHECK(mc_buffer_reserve(&connection->in, 100000) != NULL);
    CHECK(mc_buffer_reserve(&connection->out, 100000) != NULL);
    mc_pool_give(connection, true, mc_clock_now());
    CHECK(connection->in.capacity <= 2048 && connection->out.capacity <= 1024);
    mc_pool_fini(&pool);
    close(peer);
}

static int closed_under_lock, closed_alone;

/* A transport may run Python code, which may use the pool or wait for who holds the GIL. */
static void close_and_look(mc_connection *connection)
{
    (void)connection;
    if (pthread_mutex_trylock(&pool.lock) == 0) {
        pthread_mutex_unlock(&pool.lock);
        closed_alone++;
    }
    else {
        closed_under_lock++;
    }
}

static const mc_transport looking = {NULL, NULL, close_and_look};

static void no_stream_is_closed_under_the_lock(void)
{
    mc_connection *owned[3];

    CHECK(mc_pool_init(&pool));
    for (uint64_t i = 0; i < 3; i++) {
        owned[i] = mc_pool_take(&pool, &other, i + 1);
        CHECK(owned[i] != NULL);
        owned[i]->transport = &looking;
        mc_pool_opened(owned[i]);
    }
    for (int i = 0; i < 3; i++) {
        mc_pool_give(owned[i], true, mc_clock_now());
    }
    mc_pool_disconnect(&pool);
    mc_connection *next = mc_pool_take(&pool, &native, 0); /* before the idle ones are closed */
    CHECK(next != NULL && !atomic_load(&next->open));
    mc_pool_give(next, true, mc_clock_now());
    size_t cursor = 0;
    while ((next = mc_pool_take_old(&pool, 0, &cursor)) != NULL) {
        mc_pool_give(next, false, mc_clock_now());
    }
    CHECK_NUMBER(pool.count, 3);
    mc_pool_fini(&pool);
    CHECK_NUMBER(closed_under_lock, 0);
    CHECK_NUMBER(closed_alone, 3);
}

static long allowed;

static void *limited(void *memory, size_t size)
{
    return allowed-- > 0 ? realloc(memory, size) : NULL;
}

static void out_of_memory_is_told_and_the_pool_goes_on(void)
{
    CHECK(mc_pool_init(&pool));
    mc_reallocate = limited;
    for (long limit = 0; limit < 2; limit++) {
        allowed = limit;
        CHECK(mc_pool_take(&pool, &native, 0) == NULL);
    }
    mc_reallocate = realloc;
    mc_connection *connection = mc_pool_take(&pool, &native, 0);
    CHECK(connection != NULL);
    mc_pool_give(connection, true, mc_clock_now());
    mc_pool_fini(&pool);
}

enum {
    THREADS = 8,
    ROUNDS = 20000
};

static _Atomic int wrong;

static void *use(void *argument)
{
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        mc_connection *connection = take_open(NULL);

        /* receive_timeout stands for what only the owner touches. */
        if (connection == NULL || connection->receive_timeout != 0) {
            atomic_fetch_add(&wrong, 1);
            continue;
        }
        connection->receive_timeout = 1;
        if (i % 64 == 0) {
            sched_yield();
        }
        connection->receive_timeout = 0;
        mc_pool_give(connection, true, i);
    }
    return NULL;
}

static void threads_never_share_and_open_no_more_than_run_at_once(void)
{
    pthread_t threads[THREADS];

    CHECK(mc_pool_init(&pool));
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, use, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK_NUMBER(atomic_load(&wrong), 0);
    CHECK(mc_pool_open_count(&pool) <= THREADS);
    mc_pool_fini(&pool);
}

static void after_a_fork_the_child_starts_over_and_sends_nothing(void)
{
    int idle_peer = -1, busy_peer = -1;

    CHECK(mc_process_init());
    CHECK(mc_pool_init(&pool));
    mc_connection *busy = take_open(&busy_peer);
    mc_connection *idle = take_open(&idle_peer);
    mc_pool_give(idle, true, mc_clock_now());
    fflush(stdout);
    if (!CHECK_THREADS) { /* which takes a mutex that is made anew for one that is still locked */
        pthread_mutex_lock(&pool.lock); /* as another thread may */
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* nothing of the parent's is waited for */
        bool right = mc_pool_take_last(&pool, mc_pool_remembered(), 0, MC_SECOND) == NULL;

        right = right && mc_pool_open_count(&pool) == 0;
        right = right && mc_pool_take_last(&pool, mc_pool_remembered(), 0, MC_SECOND) == NULL;
        mc_connection *mine = mc_pool_take(&pool, &native, 0);

        right = right && mine != NULL && mine != busy && !atomic_load(&mine->open);
        mc_pool_give(mine, true, mc_clock_now());
        mc_pool_give(busy, true, mc_clock_now()); /* the call that forked ends here, too */
        mc_pool_fini(&pool);
        _exit(right ? 0 : 1);
    }
    if (!CHECK_THREADS) {
        pthread_mutex_unlock(&pool.lock);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!is_closed(idle_peer) && !is_closed(busy_peer)); /* nothing read either */
    mc_pool_give(busy, true, mc_clock_now());
    CHECK_NUMBER(mc_pool_open_count(&pool), 2);
    mc_pool_fini(&pool);
    CHECK(is_closed(idle_peer) && is_closed(busy_peer));
    close(idle_peer);
    close(busy_peer);
}

int main(void)
{
    PROMISE(a_connection_given_back_clean_is_taken_again);
    PROMISE(one_that_is_not_clean_is_closed);
    PROMISE(calls_at_one_time_own_one_connection_each);
    PROMISE(a_thread_that_remembers_none_takes_the_latest_if_it_is_free);
    PROMISE(another_kind_or_owner_does_not_get_it);
    PROMISE(after_disconnect_none_from_before_is_used);
    PROMISE(the_reaper_takes_the_idle_ones_only);
    PROMISE(idle_connections_keep_little_memory);
    PROMISE(no_stream_is_closed_under_the_lock);
    PROMISE(out_of_memory_is_told_and_the_pool_goes_on);
    PROMISE(threads_never_share_and_open_no_more_than_run_at_once);
    PROMISE(after_a_fork_the_child_starts_over_and_sends_nothing);
    return check_result();
}
