/* What a forked child does with the pool it inherits: a model of mc_pool_check_fork_slow in mcext/core/fleet/pool.c, for spin.
 *
 * A process has a generation that a fork moves on in the child. The child's threads find the pool's generation to be
 * another one; the first that marks it starts the pool over, the others wait for it, which is the only wait there is. A
 * fork copies everything at whatever instant it comes, a half-done start over included, and only the thread that forked
 * lives on in the child.
 *
 * Proved: no child ever uses a connection that another process opened, no child waits for a thread or a lock of its
 * parent (spin finds a deadlock), a pool is started over by one thread.
 *
 *   WITHOUT_OWNED_MARK  the mark of a start says only that someone is at it, not in which process
 */

#define PROCESSES 3 /* the parent, its child, the child's child */
#define THREADS 2
#define NOBODY 255

/* Of each process, since a fork copies: */
byte generation[PROCESSES];      /* of the process */
byte pool_generation[PROCESSES]; /* of the pool: whose connections it holds */
byte mark[PROCESSES];            /* 0, or that a start over is under way: 1 + generation of whose thread */
byte connection[PROCESSES];      /* the process that opened the one connection, or NOBODY */
bit locked[PROCESSES];
byte starting[PROCESSES];        /* threads that start over now: seen by the proof alone */
byte forks;

#ifdef WITHOUT_OWNED_MARK
#define MARK(p) 1
#define MARKED_HERE(p) (mark[p] != 0)
#else
#define MARK(p) (1 + generation[p])
#define MARKED_HERE(p) (mark[p] == MARK(p))
#endif
#define READY(p) (mark[p] == 0 && pool_generation[p] == generation[p])

inline fork_here() {
    atomic {
        p == forks -> /* this process is there */
        forks++;
        generation[forks] = generation[p] + 1;
        pool_generation[forks] = pool_generation[p];
        mark[forks] = mark[p];
        connection[forks] = connection[p];
        locked[forks] = locked[p];
        run thread(forks);
        run thread(forks) /* one that the child starts before the pool was used */
    }
}

inline check_fork() {
    do
    :: READY(p) -> break
    :: else ->
        if
        :: MARKED_HERE(p) -> !MARKED_HERE(p) /* another thread of this process is at it */
        :: atomic {
               !MARKED_HERE(p) && !READY(p) ->
               mark[p] = MARK(p);
               starting[p]++;
               assert(starting[p] == 1)
           };
           locked[p] = 0;
           connection[p] = NOBODY;
           pool_generation[p] = generation[p];
           atomic { starting[p]--; mark[p] = 0 };
           break
        :: !MARKED_HERE(p) && READY(p) /* it has just been done: the compare-and-swap fails */
        fi
    od
}

proctype thread(byte p) {
    check_fork();
    /* A call: takes the connection under the lock, opens one where there is none. */
    atomic { !locked[p] -> locked[p] = 1 };
    if
    :: connection[p] == NOBODY -> connection[p] = generation[p]
    :: else
    fi;
    assert(connection[p] == generation[p]);
    locked[p] = 0
}

/* A thread that forks at any instant of the others, in the parent and in the child. */
proctype forker(byte p) {
    fork_here()
}

init {
    atomic {
        byte n = 0;
        do
        :: n < PROCESSES -> connection[n] = NOBODY; n++
        :: else -> break
        od;
        run thread(0);
        run thread(0);
        run forker(0);
        run forker(1)
    }
}
