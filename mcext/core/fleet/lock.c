#include "core/fleet/lock.h"

#include "core/wire/apart.h"

#ifdef __linux__

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* errno is the caller's: a connection's may be looked at after the lock. */
static void futex(mc_lock *lock, int operation, uint32_t value)
{
    int error = errno;

    (void)syscall(SYS_futex, &lock->state, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
    errno = error;
}

#else

#include <errno.h>
#include <time.h>

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

/* Where the system has no such call, who waits looks again and again. */
static void futex(mc_lock *lock, int operation, uint32_t value)
{
    const struct timespec a_moment = {0, 50000};
    int error = errno;

    if (operation == FUTEX_WAIT && atomic_load(&lock->state) == value) {
        nanosleep(&a_moment, NULL);
    }
    errno = error;
}

#endif

/* Whoever has waited takes it as one that others may wait for, which costs one needless call of the
 * system at worst. The kernel lets only sleep who still finds a 2 there. */
MC_COLD void mc_lock_wait(mc_lock *lock)
{
    while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0) {
        futex(lock, FUTEX_WAIT, 2);
    }
}

MC_COLD void mc_lock_wake(mc_lock *lock)
{
    futex(lock, FUTEX_WAKE, 1);
}
