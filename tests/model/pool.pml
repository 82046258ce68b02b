/* Who owns a connection: a model of mcext/core/fleet/pool.c, for spin.
 *
 * CALLERS threads make CALLS calls each; DISCONNECTS threads call disconnect_all once, REAPERS close
 * one idle connection. What the code does under the pool's lock is one step for whoever takes the
 * lock too, and is modelled as several, with the lock; all else interleaves.
 *
 * Proved for every interleaving: see the asserts, and `at_rest` at the end. Each of the macros
 * WITHOUT_* takes one piece out of the protocol; the proof then has to fail, which run.sh checks.
 *
 *   WITHOUT_LOCK         whoever wants the lock goes on as if it were free
 *   WITHOUT_EPOCH        a taken connection's epoch is not looked at
 *   WITHOUT_LOCKED_EPOCH a call that gives a connection back looks at the epoch before it has the lock
 *   WITHOUT_EARLY_EPOCH  a connection has the epoch of when it was open, not of when none was found
 *   WITHOUT_REMOVAL      a connection that is taken stays on the stack
 *   WITHOUT_OWNER        disconnect_all closes what another thread alone may touch
 */

#ifndef CALLERS
#define CALLERS 3
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef DISCONNECTS
#define DISCONNECTS 1
#endif
#ifndef REAPERS
#define REAPERS 0
#endif
#ifndef OPEN
#define OPEN 0 /* idle connections that are there at the beginning, opened by calls at one time before */
#endif
#define SLOTS 5
#define NONE 255
#ifdef BOUND
#define BOUND_TO(thread) thread /* each connection is its thread's, which alone may touch it */
#define AT_MOST CALLERS         /* for a thread is in one call at a time */
#else
#define BOUND_TO(thread) NONE
#define AT_MOST most_in_flight
#endif

byte idle[SLOTS];  /* the stack, oldest first */
byte count;
byte pool_epoch;
bit locked;

/* Of each connection; one is there from when it is made until it is freed. */
bit there[SLOTS];
bit open[SLOTS];   /* has a stream */
byte epoch[SLOTS]; /* of the pool, when none was found that could be taken */
byte owner[SLOTS]; /* the thread that alone may touch it, or NONE */

/* Seen by the proof alone: */
byte owners[SLOTS];
byte born[SLOTS];  /* the pool's epoch when it was made */
byte streams, in_flight, most_in_flight;
byte gone;         /* the epoch that the latest finished disconnect_all has begun */
byte running;

#ifdef WITHOUT_LOCK
inline lock() { skip }
#else
inline lock() { atomic { !locked -> locked = 1 } }
#endif
inline unlock() { locked = 0 }

#ifdef WITHOUT_OWNER
#define TOUCHABLE(c) true
#else
#define TOUCHABLE(c) (owner[c] == NONE)
#endif

inline begin_call() {
    d_step {
        in_flight++;
        if
        :: in_flight > most_in_flight -> most_in_flight = in_flight
        :: else
        fi
    }
}
inline end_call() { in_flight-- }

inline own(c) { d_step { assert(there[c]); owners[c]++; assert(owners[c] == 1) } }

inline open_stream(c) {
    d_step { assert(!open[c]); open[c] = 1; streams++; assert(streams <= AT_MOST) }
}

/* By its owner: the stream is closed, and the connection is nobody's any more. */
inline free_connection(c) {
    d_step {
        assert(there[c] && owners[c] == 1 && (owner[c] == NONE || owner[c] == me));
        streams = streams - open[c];
        open[c] = 0;
        epoch[c] = 0;
        born[c] = 0;
        owner[c] = 0;
        owners[c] = 0;
        there[c] = 0
    }
}

inline new_connection(c) {
    d_step {
        c = 0;
        do
        :: there[c] -> c++
        :: else -> break
        od;
        assert(c < SLOTS);
        there[c] = 1;
        owners[c] = 1;
        owner[c] = BOUND_TO(me);
        epoch[c] = seen_epoch;
        born[c] = seen_epoch
    }
}

/* c = idle[at], which is taken off the stack; the lock is held. */
inline remove(at, c) {
    c = idle[at];
    own(c);
#ifndef WITHOUT_REMOVAL
    count--;
    i = at;
    do
    :: i < count -> idle[i] = idle[i + 1]; i++
    :: else -> break
    od;
    idle[count] = 0;
    i = 0
#endif
}

inline take(c) {
    do
    :: lock();
       seen_epoch = pool_epoch;
       c = NONE;
       old = 0;
       at = count;
       do
       :: at > 0 && owner[idle[at - 1]] != BOUND_TO(me) -> at--
       :: else -> break
       od;
       if
       :: at > 0 -> at--; remove(at, c)
#ifndef WITHOUT_EPOCH
          ; old = (epoch[c] != pool_epoch)
#endif
       :: else
       fi;
       unlock();
       if
       :: c == NONE -> new_connection(c); break
       :: c != NONE && old -> free_connection(c) /* and looks again */
       :: c != NONE && !old -> break
       fi
    od;
    atomic { seen_epoch = 0; old = 0; at = 0 }
}

inline give(c, clean) {
    stays = 0;
    if
    :: clean && open[c] ->
#ifdef WITHOUT_LOCKED_EPOCH
        stays = (epoch[c] == pool_epoch);
        lock();
#else
        lock();
        stays = (epoch[c] == pool_epoch);
#endif
        if
        :: stays -> assert(count < SLOTS); owners[c]--; idle[count] = c; count++
        :: else
        fi;
        unlock()
    :: else
    fi;
    if
    :: stays
    :: !stays -> free_connection(c)
    fi;
    stays = 0
}

proctype caller(byte me) {
    byte made, c, at, i, seen_epoch, floor;
    bit clean, old, stays;

    do
    :: made < CALLS ->
        begin_call();
        floor = gone;
        take(c);
        if
        :: !open[c] ->
            if
            :: open_stream(c);
#ifdef WITHOUT_EARLY_EPOCH
               epoch[c] = pool_epoch
#endif
#ifndef GOOD_WEATHER
            :: skip /* no server: nothing was opened */
#endif
            fi
        :: else
        fi;
        /* The I/O of the call. */
        if
        :: open[c] -> atomic { assert(owners[c] == 1); assert(epoch[c] >= floor) }
        :: else
        fi;
        if
        :: clean = 1 /* its reply was fully read */
#ifndef GOOD_WEATHER
        :: clean = 0
#endif
        fi;
        give(c, clean);
        end_call();
        atomic { made++; c = 0; floor = 0; clean = 0 }
    :: else -> break
    od;
    running--
}

/* disconnect_all: the epoch moves on, then the idle ones are closed. It counts as a call in flight. */
proctype disconnecter() {
    byte c, at, i, target, me;

    me = CALLERS; /* a thread that has no connections of its own */

    begin_call();
    lock();
    atomic { pool_epoch++; target = pool_epoch };
    unlock();
    do
    :: lock();
       at = count;
       do
       :: at > 0 && (epoch[idle[at - 1]] == pool_epoch || !TOUCHABLE(idle[at - 1])) -> at--
       :: else -> break
       od;
       c = NONE;
       if
       :: at > 0 -> at--; remove(at, c)
       :: else
       fi;
       unlock();
       if
       :: c != NONE -> free_connection(c)
       :: else -> break
       fi
    od;
    atomic {
        if
        :: target > gone -> gone = target
        :: else
        fi
    }
    end_call();
    running--
}

/* A call that finds a connection idle for long: takes the oldest, closes it. */
proctype reaper() {
    byte c, at, i, me;

    me = CALLERS;
    begin_call();
    lock();
    c = NONE;
    do
    :: at < count && !TOUCHABLE(idle[at]) -> at++
    :: else -> break
    od;
    if
    :: at < count -> remove(at, c)
    :: else
    fi;
    unlock();
    if
    :: c != NONE -> free_connection(c)
    :: else
    fi;
    end_call();
    running--
}

/* When all calls are over: nobody owns, nothing is locked, what is there is on the stack, and what disconnect_all should
 * have closed is closed, but for what its thread will close when it meets it again. */
proctype at_rest() {
    byte c, found;

    running == 0;
    assert(!locked && in_flight == 0);
    do
    :: c < SLOTS ->
        assert(owners[c] == 0);
        found = found + there[c];
        c++
    :: else -> break
    od;
    assert(found == count && streams == count);
    c = 0;
    do
    :: c < count ->
        assert(open[idle[c]] && born[idle[c]] == epoch[idle[c]]);
        assert(epoch[idle[c]] == pool_epoch || owner[idle[c]] != NONE);
        c++
    :: else -> break
    od
}

init {
    byte n;

    atomic {
        running = CALLERS + DISCONNECTS + REAPERS;
        do
        :: n < OPEN -> there[n] = 1; open[n] = 1; owner[n] = BOUND_TO(n); idle[n] = n; count++; streams++; most_in_flight++; n++
        :: else -> break
        od;
        n = 0;
        do
        :: n < CALLERS -> run caller(n); n++
        :: else -> break
        od;
        n = 0;
        do
        :: n < DISCONNECTS -> run disconnecter(); n++
        :: else -> break
        od;
        n = 0;
        do
        :: n < REAPERS -> run reaper(); n++
        :: else -> break
        od;
        run at_rest()
    }
}
