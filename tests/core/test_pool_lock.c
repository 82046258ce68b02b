/* The promises of mcext/core/fleet/pool.h about its lock: nobody looks at the stack without it,
 * everybody gives it back, and in a child nobody waits for the parent's. */
#define _GNU_SOURCE
#include "core/fleet/pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"
#include "core/net/socket.h"

static mc_pool pool;
static const char native = 'n'; /* a kind */

/* A connection with a stream to *peer. */
static mc_connection *take_open(int *peer)
{
    mc_connection *connection = mc_pool_take(&pool, &native, 0);
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    connection->fd = ends[0];
    connection->transport = &mc_native_transport;
    mc_pool_opened(connection);
    *peer = ends[1];
    return connection;
}

/* Everything that looks at the stack, each by its number. */
static mc_connection *given;
static _Atomic int looks; /* that have ended */

static void *look(void *number)
{
    mc_connection *found = NULL;

    switch (*(int *)number) {
    case 0:
        found = mc_pool_take_newest(&pool, &native, 0);
        break;
    case 1:
        found = mc_pool_take(&pool, &native, 0);
        break;
    case 2:
        found = mc_pool_take_owned(&pool, 0);
        break;
    case 3:
        found = mc_pool_take_idle(&pool, 0, INT64_MAX);
        break;
    case 4:
        (void)mc_pool_idle_count(&pool);
        break;
    case 5:
        mc_pool_give(given, true, mc_clock_now());
        break;
    case 6:
        mc_pool_disconnect(&pool);
        break;
    default:
        found = mc_pool_take_old(&pool, 0);
    }
    looks++;
    if (found != NULL) {
        mc_pool_give(found, true, mc_clock_now());
    }
    return NULL;
}

static void nobody_looks_at_the_stack_while_the_lock_is_held(void)
{
    int peers[2];

    mc_pool_init(&pool);
    mc_connection *idle = take_open(&peers[0]);
    given = take_open(&peers[1]);
    mc_pool_give(idle, true, mc_clock_now());
    for (int number = 0; number < 8; number++) {
        pthread_t thread;

        looks = 0;
        mc_lock_take(&pool.lock);
        CHECK(pthread_create(&thread, NULL, look, &number) == 0);
        while (atomic_load(&pool.lock.state) != 2 && looks == 0) { /* until it waits */
            sched_yield();
        }
        CHECK_NUMBER(looks, 0);
        mc_lock_give(&pool.lock);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(looks == 1 && mc_lock_try(&pool.lock)); /* and gives it back */
        mc_lock_give(&pool.lock);
        CHECK_NUMBER(pool.count, number < 5 ? 1 : number < 7 ? 2 : 1);
    }
    mc_pool_fini(&pool);
    close(peers[0]);
    close(peers[1]);
}

/* In the child, where the parent's lock is held: what comes first starts the pool over. */
static bool starts_over(int number)
{
    mc_connection *found = NULL;

    switch (number) {
    case 0:
        found = mc_pool_take_old(&pool, 0);
        break;
    case 1:
        found = mc_pool_take_owned(&pool, 0);
        break;
    case 2:
        found = mc_pool_take_idle(&pool, 0, INT64_MAX);
        break;
    case 3:
        mc_pool_disconnect(&pool);
        break;
    default:
        return mc_pool_idle_count(&pool) == 0;
    }
    return found == NULL && pool.count == 0 && atomic_load(&pool.lock.state) == 0;
}

static void whatever_comes_first_in_a_child_starts_over(void)
{
    int peer;

    CHECK(mc_process_init());
    mc_pool_init(&pool);
    mc_connection *idle = take_open(&peer);
    mc_pool_give(idle, true, mc_clock_now());
    fflush(stdout);
    for (int number = 0; number < 5; number++) {
        int status = -1;

        mc_lock_take(&pool.lock); /* as another thread may */
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(starts_over(number) ? 0 : 1);
        }
        mc_lock_give(&pool.lock);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK_NUMBER(mc_pool_idle_count(&pool), 1);
    mc_pool_fini(&pool);
    close(peer);
}

int main(void)
{
    alarm(60); /* a wait that does not end ends all */
    PROMISE(whatever_comes_first_in_a_child_starts_over);
    PROMISE(nobody_looks_at_the_stack_while_the_lock_is_held);
    return check_result();
}
