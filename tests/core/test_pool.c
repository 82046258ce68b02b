/* The promises of mcext/core/fleet/pool.h: connections follow concurrency, and each has one owner.
 */
#define _GNU_SOURCE
#include "core/fleet/pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"
#include "core/net/socket.h"

static mc_pool pool;
static const char native = 'n', other = 'o'; /* kinds */

/* A connection with a stream, one end of a pair whose other end is *peer. */
static mc_connection *take_open(int *peer)
{
    mc_connection *connection = mc_pool_take(&pool, &native, 0);

    if (connection != NULL && !connection->open) {
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

    mc_pool_init(&pool);
    mc_connection *first = take_open(&peer);
    mc_pool_give(first, true, mc_clock_now());
    mc_connection *second = mc_pool_take(&pool, &native, 0);
    CHECK(second == first && second->open);
    mc_pool_give(second, true, mc_clock_now());
    CHECK_NUMBER(mc_pool_idle_count(&pool), 1);
    CHECK(!is_closed(peer));
    mc_pool_fini(&pool);
    CHECK(is_closed(peer));
    close(peer);
}

static void one_that_is_not_clean_is_closed(void)
{
    int peer = -1;

    mc_pool_init(&pool);
    mc_connection *connection = take_open(&peer);
    CHECK(mc_buffer_append(&connection->in, "rest", 4));
    mc_pool_give(connection, false, mc_clock_now());
    CHECK(is_closed(peer));
    close(peer);
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    connection = mc_pool_take(&pool, &native, 0);
    CHECK(connection != NULL && !connection->open);
    CHECK_NUMBER(mc_buffer_length(&connection->in), 0);
    mc_pool_give(connection, true, mc_clock_now());
    mc_pool_fini(&pool);
}

/* Bytes that its transport holds would be taken for the next reply. */
static void one_whose_transport_holds_bytes_is_closed(void)
{
    int peer = -1;

    mc_pool_init(&pool);
    mc_connection *connection = take_open(&peer);
    connection->more = true;
    mc_pool_give(connection, true, mc_clock_now());
    CHECK(is_closed(peer));
    close(peer);
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    mc_pool_fini(&pool);
}

static void calls_at_one_time_own_one_connection_each(void)
{
    mc_connection *owned[40];
    int peers[40];

    mc_pool_init(&pool);
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
        CHECK_NUMBER(mc_pool_idle_count(&pool), 40);
    }
    CHECK_NUMBER(pool.count, 40);
    mc_pool_fini(&pool);
    for (int i = 0; i < 40; i++) {
        close(peers[i]);
    }
}

static void the_one_given_back_last_is_taken_first(void)
{
    mc_connection *owned[3];
    int peers[3];

    mc_pool_init(&pool);
    for (int i = 0; i < 3; i++) {
        owned[i] = take_open(&peers[i]);
    }
    mc_pool_give(owned[1], true, mc_clock_now());
    mc_pool_give(owned[2], true, mc_clock_now());
    mc_pool_give(owned[0], true, mc_clock_now());
    CHECK(mc_pool_take_newest(&pool, &native, 0) == owned[0]);
    CHECK(mc_pool_take(&pool, &native, 0) == owned[2]);
    CHECK(mc_pool_take_newest(&pool, &native, 0) == owned[1]);
    CHECK(mc_pool_take_newest(&pool, &native, 0) == NULL); /* all are in use */
    for (int i = 0; i < 3; i++) {
        mc_pool_give(owned[i], false, mc_clock_now());
        close(peers[i]);
    }
    mc_pool_fini(&pool);
}

static void the_newest_is_not_for_who_it_does_not_fit(void)
{
    int peer = -1;

    mc_pool_init(&pool);
    mc_connection *first = take_open(&peer);
    mc_pool_give(first, true, mc_clock_now());
    CHECK(mc_pool_take_newest(&pool, &other, 0) == NULL);
    CHECK(mc_pool_take_newest(&pool, &native, 77) == NULL);
    CHECK(mc_pool_take_newest(&pool, &native, 0) == first);
    mc_pool_give(first, true, mc_clock_now());
    mc_pool_disconnect(&pool);
    CHECK(mc_pool_take_newest(&pool, &native, 0) == NULL);
    CHECK_NUMBER(mc_pool_idle_count(&pool), 1); /* it is left where it was */
    mc_connection *next = mc_pool_take(&pool, &native, 0);
    CHECK(!next->open && is_closed(peer)); /* whoever finds it old closes it */
    mc_pool_give(next, false, mc_clock_now());
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    close(peer);
    mc_pool_fini(&pool);
}

/* Of a stack without room for another one. */
static void from_the_middle_of_the_stack_one_is_taken_and_the_order_stays(void)
{
    mc_connection *owned[4];
    int peers[4];

    mc_pool_init(&pool);
    for (int i = 0; i < 4; i++) {
        owned[i] = take_open(&peers[i]);
        owned[i]->kind = i == 1 ? &other : &native;
    }
    for (int i = 0; i < 4; i++) {
        mc_pool_give(owned[i], true, mc_clock_now());
    }
    CHECK_NUMBER(pool.capacity, 4);
    CHECK(mc_pool_take(&pool, &other, 0) == owned[1]);
    for (int i = 3; i >= 0; i--) {
        CHECK(i == 1 || mc_pool_take(&pool, &native, 0) == owned[i]);
    }
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    for (int i = 0; i < 4; i++) {
        mc_pool_give(owned[i], false, mc_clock_now());
        close(peers[i]);
    }
    mc_pool_fini(&pool);
}

static void a_pool_begins_and_ends_empty(void)
{
    int peer = -1;

    memset(&pool, 0xff, sizeof pool); /* it may lie anywhere */
    mc_pool_init(&pool);
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    CHECK_NUMBER(atomic_load(&pool.epoch), 0);
    mc_connection *connection = take_open(&peer);
    CHECK(connection->pool == &pool && connection->kind == &native && connection->owner == 0);
    CHECK(connection->epoch == 0 && connection->unanswered == 0);
    connection->unanswered = 5;
    mc_pool_opened(connection); /* anew: nothing was sent on this stream yet */
    CHECK(connection->unanswered == 0);
    mc_pool_give(connection, true, 1234);
    CHECK(connection->last_used == 1234);
    mc_pool_fini(&pool);
    CHECK(pool.idle == NULL && pool.count == 0 && pool.capacity == 0);
    mc_pool_fini(&pool); /* twice is no harm */
    close(peer);
}

static void another_kind_or_owner_does_not_get_it(void)
{
    int peer = -1;

    mc_pool_init(&pool);
    mc_connection *first = take_open(&peer);
    mc_pool_give(first, true, mc_clock_now());
    mc_connection *second = mc_pool_take(&pool, &other, 0);
    mc_connection *third = mc_pool_take(&pool, &native, 77);
    CHECK(second != first && !second->open);
    CHECK(third != first && third != second && !third->open);
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

    mc_pool_init(&pool);
    mc_connection *busy = take_open(&busy_peer);
    mc_connection *idle = take_open(&idle_peer);
    mc_pool_give(idle, true, mc_clock_now());
    mc_pool_disconnect(&pool);
    CHECK(mc_pool_take_old(&pool, 0) == idle);
    CHECK(mc_pool_take_old(&pool, 0) == NULL);
    mc_pool_give(idle, true, mc_clock_now());
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

static int silently_closed;

static void count_closed(mc_connection *connection)
{
    (void)connection;
    silently_closed++;
}

static const mc_transport silent = {.close = count_closed};

static void the_reaper_takes_the_oldest_first_and_idle_ones_only(void)
{
    mc_connection *owned[4];
    int peers[4];

    mc_pool_init(&pool);
    for (int i = 0; i < 4; i++) {
        owned[i] = take_open(&peers[i]);
    }
    mc_pool_give(owned[0], true, 100);
    mc_pool_give(owned[1], true, 200);
    mc_pool_give(owned[2], true, 300); /* owned[3] stays in use */
    CHECK(mc_pool_take_idle(&pool, 0, 100) == NULL);
    mc_connection *found = mc_pool_take_idle(&pool, 0, 250);
    CHECK(found == owned[0]);
    mc_pool_give(found, false, 400);
    found = mc_pool_take_idle(&pool, 0, 250);
    CHECK(found == owned[1]);
    mc_pool_give(found, false, 400);
    CHECK(mc_pool_take_idle(&pool, 0, 250) == NULL);
    CHECK(is_closed(peers[0]) && is_closed(peers[1]) && !is_closed(peers[2]));
    mc_pool_give(owned[3], true, 400);
    mc_pool_fini(&pool);
    for (int i = 0; i < 4; i++) {
        close(peers[i]);
    }
}

static void what_belongs_to_another_thread_is_left_to_that(void)
{
    mc_connection *owned[3];

    mc_pool_init(&pool);
    for (uint64_t i = 0; i < 3; i++) { /* of nobody, of 1, of 2 */
        owned[i] = mc_pool_take(&pool, &other, i);
        owned[i]->transport = &silent;
        mc_pool_opened(owned[i]);
    }
    mc_pool_give(owned[1], true, 100);
    mc_pool_give(owned[2], true, 200);
    mc_pool_give(owned[0], true, 300);
    CHECK(mc_pool_take_idle(&pool, 0, 250) == NULL);
    CHECK(mc_pool_take_idle(&pool, 2, 250) == owned[2]);
    mc_pool_give(owned[2], true, 400);
    CHECK(mc_pool_take_owned(&pool, 2) == owned[2]);
    CHECK(mc_pool_take_owned(&pool, 2) == NULL);
    mc_pool_give(owned[2], true, 400);
    mc_pool_disconnect(&pool);
    CHECK(mc_pool_take_old(&pool, 3) == owned[0]);
    mc_pool_give(owned[0], false, 500);
    CHECK(mc_pool_take_old(&pool, 3) == NULL);
    CHECK(mc_pool_take_idle(&pool, 1, 0) == owned[1]); /* not idle for long, but old */
    mc_pool_give(owned[1], false, 500);
    CHECK(mc_pool_take_old(&pool, 1) == NULL);
    CHECK(mc_pool_take_old(&pool, 2) == owned[2]);
    mc_pool_give(owned[2], false, 500);
    mc_pool_fini(&pool);
    CHECK_NUMBER(silently_closed, 3);
}

static void idle_connections_keep_little_memory(void)
{
    int peer = -1;

    mc_pool_init(&pool);
    mc_connection *connection = take_open(&peer);
    CHECK(mc_buffer_reserve(&connection->in, 100000) != NULL);
    CHECK(mc_buffer_reserve(&connection->out, 100000) != NULL);
    mc_buffer_commit(&connection->out, 50000); /* what was sent last lies there */
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
    if (mc_lock_try(&pool.lock)) {
        mc_lock_give(&pool.lock);
        closed_alone++;
    }
    else {
        closed_under_lock++;
    }
}

static const mc_transport looking = {.close = close_and_look};

static void no_stream_is_closed_under_the_lock(void)
{
    mc_connection *owned[3];

    mc_pool_init(&pool);
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
    CHECK(next != NULL && !next->open);
    mc_pool_give(next, true, mc_clock_now());
    next = mc_pool_take(&pool, &other, 1); /* its own old one it closes itself */
    CHECK(next != NULL && !next->open);
    mc_pool_give(next, true, mc_clock_now());
    CHECK_NUMBER(closed_alone, 1);
    next = mc_pool_take_old(&pool, 2);
    CHECK(next == owned[1]);
    mc_pool_give(next, false, mc_clock_now());
    CHECK_NUMBER(mc_pool_idle_count(&pool), 1);
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
    mc_pool_init(&pool);
    int peer = -1;

    mc_reallocate = limited;
    allowed = 0;
    CHECK(mc_pool_take(&pool, &native, 0) == NULL);
    allowed = 1;
    mc_connection *connection = take_open(&peer);
    CHECK(connection != NULL);
    mc_pool_give(connection, true, mc_clock_now()); /* for which the stack has no room */
    mc_reallocate = realloc;
    CHECK(is_closed(peer));
    close(peer);
    CHECK_NUMBER(mc_pool_idle_count(&pool), 0);
    connection = take_open(&peer);
    mc_pool_give(connection, true, mc_clock_now());
    CHECK_NUMBER(mc_pool_idle_count(&pool), 1);
    mc_pool_fini(&pool);
    CHECK(is_closed(peer));
    close(peer);
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
        mc_connection *connection = mc_pool_take_newest(&pool, &native, 0);

        if (connection == NULL) {
            connection = take_open(NULL);
        }
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

    mc_pool_init(&pool);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, use, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK_NUMBER(atomic_load(&wrong), 0);
    CHECK(mc_pool_idle_count(&pool) <= THREADS);
    mc_pool_fini(&pool);
}

/* In the child: whether it starts over. held: the lock was, at the fork, by a thread that is gone;
 * what is idle may then be half changed and is forgotten unseen. */
static bool starts_over(mc_connection *busy, mc_connection *unopened, int idle_fd, bool held)
{
    bool right = mc_pool_take_newest(&pool, &native, 0) == NULL;

    right = right && mc_pool_idle_count(&pool) == 0;
    right = right && (fcntl(idle_fd, F_GETFD) < 0) == !held;
    mc_connection *mine = mc_pool_take(&pool, &native, 0);

    right = right && mine != NULL && mine != busy && !mine->open;
    mc_pool_give(mine, true, mc_clock_now());
    mc_pool_give(busy, true, mc_clock_now()); /* the call that forked ends here, too */
    right = right && mc_pool_idle_count(&pool) == 0;
    unopened->fd = dup(0);
    unopened->transport = &mc_native_transport;
    mc_pool_opened(unopened); /* in the child, so it is the child's */
    mc_pool_give(unopened, true, mc_clock_now());
    right = right && mc_pool_take(&pool, &native, 0) == unopened;
    mc_pool_give(unopened, false, mc_clock_now());
    mc_pool_fini(&pool);
    return right;
}

static void fork_in_the_middle(bool held)
{
    int idle_peer = -1, busy_peer = -1;

    CHECK(mc_process_init());
    mc_pool_init(&pool);
    mc_connection *busy = take_open(&busy_peer);
    mc_connection *idle = take_open(&idle_peer);
    mc_connection *unopened = mc_pool_take(&pool, &native, 0);
    mc_pool_give(idle, true, mc_clock_now());
    fflush(stdout);
    if (held) {
        mc_lock_take(&pool.lock); /* as another thread may */
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* nothing of the parent's is waited for */
        _exit(starts_over(busy, unopened, idle->fd, held) ? 0 : 1);
    }
    if (held) {
        mc_lock_give(&pool.lock);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!is_closed(idle_peer) && !is_closed(busy_peer)); /* nothing read either */
    mc_pool_give(unopened, true, mc_clock_now());
    mc_pool_give(busy, true, mc_clock_now());
    CHECK_NUMBER(mc_pool_idle_count(&pool), 2);
    mc_pool_fini(&pool);
    CHECK(is_closed(idle_peer) && is_closed(busy_peer));
    close(idle_peer);
    close(busy_peer);
}

static void after_a_fork_the_child_starts_over_and_sends_nothing(void)
{
    fork_in_the_middle(false);
}

static void nor_does_it_wait_for_a_lock_whose_thread_is_gone(void)
{
    fork_in_the_middle(true);
}

static void what_forked_before_its_pool_was_used_gives_back_without_waiting(void)
{
    mc_pool_init(&pool);
    mc_connection *connection = mc_pool_take(&pool, &native, 0);
    mc_lock_take(&pool.lock);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        connection->fd = dup(0);
        connection->transport = &mc_native_transport;
        mc_pool_opened(connection);
        mc_pool_give(connection, true, mc_clock_now()); /* the first use of the pool here */
        bool right = mc_pool_idle_count(&pool) == 1;
        mc_pool_fini(&pool);
        _exit(right ? 0 : 1);
    }
    mc_lock_give(&pool.lock);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    mc_pool_give(connection, false, mc_clock_now());
    mc_pool_fini(&pool);
}

int main(void)
{
    PROMISE(a_connection_given_back_clean_is_taken_again);
    PROMISE(one_that_is_not_clean_is_closed);
    PROMISE(one_whose_transport_holds_bytes_is_closed);
    PROMISE(calls_at_one_time_own_one_connection_each);
    PROMISE(the_one_given_back_last_is_taken_first);
    PROMISE(the_newest_is_not_for_who_it_does_not_fit);
    PROMISE(from_the_middle_of_the_stack_one_is_taken_and_the_order_stays);
    PROMISE(a_pool_begins_and_ends_empty);
    PROMISE(another_kind_or_owner_does_not_get_it);
    PROMISE(after_disconnect_none_from_before_is_used);
    PROMISE(the_reaper_takes_the_oldest_first_and_idle_ones_only);
    PROMISE(what_belongs_to_another_thread_is_left_to_that);
    PROMISE(idle_connections_keep_little_memory);
    PROMISE(no_stream_is_closed_under_the_lock);
    PROMISE(out_of_memory_is_told_and_the_pool_goes_on);
    PROMISE(threads_never_share_and_open_no_more_than_run_at_once);
    PROMISE(after_a_fork_the_child_starts_over_and_sends_nothing);
    PROMISE(nor_does_it_wait_for_a_lock_whose_thread_is_gone);
    PROMISE(what_forked_before_its_pool_was_used_gives_back_without_waiting);
    return check_result();
}
