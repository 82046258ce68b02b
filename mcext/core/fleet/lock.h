/* lock: a mutex of one word, for a few loads and stores.
 *
 * Not pthread_mutex_t, because taking and giving that costs 55 instructions, which a small call
 * does twice: 110 of its 1,300. Here it is 8 where nobody waits; who has to wait sleeps (futex).
 * Any thread may give it: in the child of a fork one that was held by a thread that is gone stays
 * held until the child gives it. tests/model/lock.pml shows that it is right. */
#ifndef MC_LOCK_H
#define MC_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    _Atomic uint32_t state; /* 0: free, 1: held, 2: held, and somebody may be waiting */
} mc_lock;

static inline void mc_lock_init(mc_lock *lock)
{
    atomic_init(&lock->state, 0);
}

void mc_lock_wait(mc_lock *lock);
void mc_lock_wake(mc_lock *lock);

static inline bool mc_lock_try(mc_lock *lock)
{
    uint32_t free = 0;

    return atomic_compare_exchange_strong_explicit(&lock->state, &free, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void mc_lock_take(mc_lock *lock)
{
    if (__builtin_expect(!mc_lock_try(lock), 0)) {
        mc_lock_wait(lock);
    }
}

static inline void mc_lock_give(mc_lock *lock)
{
    if (__builtin_expect(atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2, 0)) {
        mc_lock_wake(lock);
    }
}

#endif
