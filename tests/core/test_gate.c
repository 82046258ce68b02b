/* The promises of mcext/core/fleet/gate.h: so many at once, in each process anew. */
#define _GNU_SOURCE
#include "core/fleet/gate.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"

enum {
    MOST = 4,
    THREADS = 16,
    ROUNDS = 5000
};

static mc_gate gate;

static void so_many_get_in_and_no_more(void)
{
    uint32_t here = mc_process_generation();

    for (uint32_t most = 1; most <= MOST; most++) {
        for (uint32_t i = 0; i < most; i++) {
            CHECK(mc_gate_enter(&gate, most));
        }
        CHECK(!mc_gate_enter(&gate, most));
        CHECK(!mc_gate_enter(&gate, most));
        mc_gate_leave(&gate, here);
        CHECK(mc_gate_enter(&gate, most)); /* a place that was left is free */
        CHECK(!mc_gate_enter(&gate, most));
        for (uint32_t i = 0; i < most; i++) {
            mc_gate_leave(&gate, here);
        }
    }
    CHECK_NUMBER((uint32_t)atomic_load(&gate.word), 0);
}

static _Atomic int inside, most_inside;
static _Atomic long entered;

static void *go_in_and_out(void *unused)
{
    uint32_t here = mc_process_generation();

    for (int round = 0; round < ROUNDS;) {
        if (!mc_gate_enter(&gate, MOST)) {
            sched_yield();
            continue;
        }
        int now = atomic_fetch_add(&inside, 1) + 1, seen = atomic_load(&most_inside);

        while (now > seen && !atomic_compare_exchange_weak(&most_inside, &seen, now)) {
        }
        if (round % 64 == 0) {
            sched_yield(); /* the others come to the gate */
        }
        atomic_fetch_sub(&inside, 1);
        mc_gate_leave(&gate, here);
        atomic_fetch_add(&entered, 1);
        round++;
    }
    return unused;
}

static void among_threads_too(void)
{
    pthread_t threads[THREADS];

    alarm(60);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, go_in_and_out, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    alarm(0);
    CHECK_NUMBER(atomic_load(&entered), THREADS * ROUNDS);
    CHECK(atomic_load(&most_inside) >= 1 && atomic_load(&most_inside) <= MOST);
    CHECK(mc_gate_enter(&gate, 1)); /* all have left */
    mc_gate_leave(&gate, mc_process_generation());
}

static void in_the_child_of_a_fork_nobody_is_inside(void)
{
    uint32_t parents = mc_process_generation();
    int status = -1;

    for (int i = 0; i < MOST; i++) {
        CHECK(mc_gate_enter(&gate, MOST));
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        bool right = true;

        mc_gate_leave(&gate, parents); /* what the parent's entered with is nobody's here */
        for (int i = 0; i < MOST; i++) {
            right &= mc_gate_enter(&gate, MOST);
        }
        mc_gate_leave(&gate, parents);
        right &= !mc_gate_enter(&gate, MOST);
        mc_gate_leave(&gate, mc_process_generation());
        right &= mc_gate_enter(&gate, MOST);
        _exit(right ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!mc_gate_enter(&gate, MOST)); /* which the parent does not notice */
    for (int i = 0; i < MOST; i++) {
        mc_gate_leave(&gate, parents);
    }
    CHECK(mc_gate_enter(&gate, 1));
    mc_gate_leave(&gate, parents);
}

int main(void)
{
    CHECK(mc_process_init() == 1);
    PROMISE(so_many_get_in_and_no_more);
    PROMISE(among_threads_too);
    PROMISE(in_the_child_of_a_fork_nobody_is_inside);
    return check_result();
}
