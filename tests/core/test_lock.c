/* The promises of mcext/core/fleet/lock.h: one at a time, and nobody sleeps for ever. */
#include "core/fleet/lock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "check.h"

enum {
    THREADS = 8,
    ROUNDS = 20000
};

static mc_lock lock;
static long plain; /* only who holds the lock touches it */

static void a_lock_that_is_held_is_not_taken(void)
{
    atomic_store(&lock.state, 77);
    mc_lock_init(&lock);
    CHECK(mc_lock_try(&lock));
    CHECK_NUMBER(atomic_load(&lock.state), 1); /* nobody waits */
    CHECK(!mc_lock_try(&lock));
    CHECK_NUMBER(atomic_load(&lock.state), 1);
    mc_lock_give(&lock);
    CHECK(mc_lock_try(&lock));
    mc_lock_give(&lock);
    CHECK_NUMBER(atomic_load(&lock.state), 0);
}

static void *count(void *argument)
{
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        mc_lock_take(&lock);
        long seen = plain;

        if (i % 64 == 0) {
            sched_yield(); /* the others come to wait */
        }
        plain = seen + 1;
        mc_lock_give(&lock);
    }
    return NULL;
}

static void threads_hold_it_one_at_a_time_and_all_get_it(void)
{
    pthread_t threads[THREADS];

    mc_lock_init(&lock);
    plain = 0;
    alarm(60); /* a wake-up that is lost ends here */
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, count, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    alarm(0);
    CHECK_NUMBER(plain, THREADS * ROUNDS);
    CHECK(mc_lock_try(&lock));
    mc_lock_give(&lock);
}

static void *give(void *argument)
{
    (void)argument;
    while (atomic_load(&lock.state) != 2) { /* until somebody waits */
        sched_yield();
    }
    mc_lock_give(&lock);
    return NULL;
}

static void waiting_leaves_errno_as_it_was(void)
{
    pthread_t thread;

    mc_lock_init(&lock);
    mc_lock_take(&lock);
    errno = EDOM;
    CHECK(pthread_create(&thread, NULL, give, NULL) == 0);
    mc_lock_take(&lock);
    CHECK(errno == EDOM);
    CHECK(pthread_join(thread, NULL) == 0);
    mc_lock_give(&lock);
    CHECK(errno == EDOM);
}

static _Atomic int sleepers;  /* that have got it */
static _Atomic int64_t spent; /* of the processor's time, nanoseconds */

static void *take(void *argument)
{
    struct timespec used;

    (void)argument;
    mc_lock_take(&lock);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    spent += used.tv_sec * 1000000000 + used.tv_nsec;
    sleepers++;
    return NULL;
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 100000000}, NULL);
}

/* And sleeps meanwhile; one that is given wakes one. */
static void who_waits_gets_it_when_it_is_given(void)
{
    pthread_t threads[2];

    mc_lock_init(&lock);
    mc_lock_take(&lock);
    sleepers = 0;
    spent = 0;
    alarm(60);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, take, NULL) == 0);
    }
    nap();
    CHECK(sleepers == 0 && atomic_load(&lock.state) == 2);
    mc_lock_give(&lock);
    while (sleepers < 1) {
        sched_yield();
    }
    nap();
    CHECK_NUMBER(sleepers, 1);
    CHECK_NUMBER(atomic_load(&lock.state), 2); /* another one may wait */
    mc_lock_give(&lock);                       /* any thread may */
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    alarm(0);
    CHECK_NUMBER(sleepers, 2);
    CHECK(spent < 50000000);
    mc_lock_give(&lock);
}

int main(void)
{
    PROMISE(a_lock_that_is_held_is_not_taken);
    PROMISE(threads_hold_it_one_at_a_time_and_all_get_it);
    PROMISE(waiting_leaves_errno_as_it_was);
    PROMISE(who_waits_gets_it_when_it_is_given);
    return check_result();
}
