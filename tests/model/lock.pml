/* A mutex of one word whose waiters sleep: a model of mcext/core/fleet/lock.c, for spin.
 *
 * The kernel's part: a thread falls asleep only if the word is still 2 at that moment, and a wake-up lets one of those
 * that sleep go on. Proved: one holds it at a time, and nobody sleeps for ever (spin finds a deadlock).
 *
 *   WITHOUT_TWO    who has waited takes the lock as one that nobody else waits for
 *   WITHOUT_SWAP   that the word is 0 and that it becomes 1 are two steps
 *   WITHOUT_CHECK  a thread falls asleep whatever the word is by then
 */

#ifndef THREADS
#define THREADS 3
#endif
#define ROUNDS 2

byte state;    /* 0: free, 1: held, 2: held, and somebody may be waiting */
byte sleeping, woken; /* threads that sleep; of those, that were told to go on */
byte holders;

#ifdef WITHOUT_TWO
#define TAKEN_AFTER_WAITING (seen == 0 -> 1 : 2)
#else
#define TAKEN_AFTER_WAITING 2
#endif
#ifdef WITHOUT_CHECK
#define STILL_HELD true
#else
#define STILL_HELD (state == 2)
#endif

inline try(got) {
#ifdef WITHOUT_SWAP
    got = (state == 0);
    if
    :: got -> state = 1
    :: else
    fi
#else
    atomic { got = (state == 0); if :: got -> state = 1 :: else fi }
#endif
}

inline futex_wait() {
    if
    :: atomic { STILL_HELD -> sleeping++ };
       atomic { woken > 0 -> woken--; sleeping-- }
    :: !STILL_HELD
    fi
}

inline futex_wake() {
    atomic {
        if
        :: sleeping > woken -> woken++
        :: else
        fi
    }
}

inline take() {
    try(got);
    if
    :: !got ->
        do
        :: atomic { seen = state; state = TAKEN_AFTER_WAITING };
           if
           :: seen == 0 -> break
           :: else -> futex_wait()
           fi
        od
    :: else
    fi;
    atomic { got = 0; seen = 0 }
}

inline give() {
    atomic { seen = state; state = 0 };
    if
    :: seen == 2 -> futex_wake()
    :: else
    fi;
    seen = 0
}

active [THREADS] proctype thread() {
    byte round, seen;
    bit got;

    do
    :: round < ROUNDS ->
        take();
        atomic { holders++; assert(holders == 1) };
        holders--;
        give();
        round++
    :: else -> break
    od
}
