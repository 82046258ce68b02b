/* Who owns a connection: a model of mcext/core/fleet/pool.c, for spin.
 *
 * CALLERS threads make CALLS calls each; DISCONNECTS threads call disconnect_all once, REAPERS close
 * one idle connection. Each line that the code does in one atomic step, or under a lock that all
 * others take too, is one step here; all others interleave. Memory is sequentially consistent, as
 * the code's atomics make it where two of them have to be seen in one order.
 *
 * Proved for every interleaving: see the asserts, and `at_rest` at the end. Each of the macros
 * WITHOUT_* takes one piece out of the protocol; the proof then has to fail, which run.sh checks.
 *
 *   WITHOUT_ATOMIC_TAKE  the turn is read and written, not compared and swapped
 *   WITHOUT_SECOND_LOOK  a connection is added after one look that found none free
 *   WITHOUT_EPOCH        a taken connection's epoch is not looked at
 *   WITHOUT_RECHECK      a call that gives a connection back does not look at the epoch once more
 *   WITHOUT_EARLY_EPOCH  a connection has the epoch of when it was open, not of when it was taken
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
#define OPEN 0 /* free connections that are there at the beginning, opened by calls at one time before */
#endif
#define SLOTS 4
#define NONE 255

byte turn[SLOTS];  /* odd: owned */
bit open[SLOTS];   /* has a stream */
byte epoch[SLOTS]; /* of the pool, when it was taken to be opened */
byte count;        /* structs in the list */
byte pool_epoch;
bit locked;
byte last[CALLERS];
byte latest; /* what some caller came to remember last; tried by those that remember none */

/* Seen by the proof alone: */
byte owners[SLOTS];
byte born[SLOTS];  /* the pool's epoch when it was taken to be opened */
byte streams, in_flight, most_in_flight;
byte gone;         /* the epoch that the latest finished disconnect_all has begun */
byte running;

inline lock() { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

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

inline own(c) { d_step { owners[c]++; assert(owners[c] == 1) } }
inline disown(c) { owners[c]-- }

inline open_stream(c) {
    d_step { assert(!open[c]); open[c] = 1; streams++; assert(streams <= most_in_flight) }
}
inline close_stream(c) { d_step { assert(open[c]); open[c] = 0; streams-- } }

/* got: whether c is ours now. */
inline try_take(c, got) {
    seen = turn[c];
    got = 0;
#ifdef WITHOUT_ATOMIC_TAKE
    if
    :: seen % 2 == 0 -> turn[c] = seen + 1; got = 1; own(c)
    :: else
    fi;
#else
    if
    :: seen % 2 == 0 ->
        atomic {
            if
            :: turn[c] == seen -> turn[c] = seen + 1; got = 1; own(c)
            :: else
            fi
        }
    :: else
    fi;
#endif
    seen = 0
}
inline give_up(c) { atomic { disown(c); turn[c]++ } }

/* Gives c back. disconnect_all may have begun after the owner looked at the epoch, and have passed c by while it was
 * owned: so whoever gives back an open one looks once more, and closes it. */
inline release(c) {
    do
    :: atomic { had = open[c]; had_epoch = epoch[c] }; /* its owner's to read */
       give_up(c);
#ifdef WITHOUT_RECHECK
       break
#else
       again = 0;
       if
       :: had && had_epoch != pool_epoch -> try_take(c, again)
       :: else
       fi;
       if
       :: again && open[c] && epoch[c] != pool_epoch -> close_stream(c)
       :: again && !(open[c] && epoch[c] != pool_epoch)
       :: !again -> break
       fi
#endif
    od;
    atomic { had = 0; had_epoch = 0; again = 0 }
}

inline sum_turns(result) {
    result = 0;
    i = 0;
    do
    :: i < count -> result = result + turn[i]; i++
    :: else -> break
    od;
    i = 0
}

#ifdef WITHOUT_EPOCH
#define FITS(c) open[c]
#else
#define FITS(c) (open[c] && epoch[c] == pool_epoch)
#endif

/* A free connection that fits, or NONE; the lock is held. */
inline find_free(c) {
    do
    :: sum_turns(before);
       moved = 0;
       c = 0;
       do
       :: c < count ->
            got = 0;
            if
            :: open[c] -> try_take(c, got)
            :: else
            fi;
            if
            :: got && FITS(c) -> break
            :: got && open[c] && !FITS(c) -> break /* take closes it */
            :: got && !open[c] -> release(c); moved = moved + 2; c++
            :: !got -> c++
            fi
       :: else -> c = NONE; break
       od;
       if
       :: c != NONE -> break
       :: else
       fi;
#ifdef WITHOUT_SECOND_LOOK
       break
#else
       sum_turns(after);
       if
       :: after == before + moved -> break
       :: else
       fi
#endif
    od;
    atomic { before = 0; after = 0; moved = 0; got = 0 }
}

/* A struct without a stream, added where all have one; the lock is held. */
inline find_vacant(c) {
    c = 0;
    do
    :: c < count ->
        got = 0;
        if
        :: !open[c] -> try_take(c, got)
        :: else
        fi;
        if
        :: got && !(open[c] && epoch[c] == pool_epoch) -> break
        :: got && open[c] && epoch[c] == pool_epoch -> release(c); c++
        :: !got -> c++
        fi
    :: else ->
        atomic { assert(count < SLOTS); c = count; turn[c] = 1; count++; own(c) };
        break
    od;
    got = 0
}

inline begin_epoch(c) {
#ifndef WITHOUT_EARLY_EPOCH
    atomic { epoch[c] = pool_epoch; born[c] = pool_epoch }
#else
    born[c] = pool_epoch
#endif
}

inline take(c) {
    c = last[me];
    if
    :: c == NONE -> atomic { c = latest; last[me] = c }
    :: else
    fi;
    got = 0;
    if
    :: c != NONE -> try_take(c, got)
    :: else
    fi;
    if
    :: got && FITS(c) -> got = 0
    :: got && open[c] && !FITS(c) -> got = 0
    :: else ->
        if
        :: got -> release(c); got = 0
        :: else
        fi;
        lock();
        find_free(c);
        if
        :: c == NONE ->
            find_vacant(c)
        :: else
        fi;
        unlock();
        last[me] = c;
        latest = c
    fi;
    /* A stream of an old epoch goes, the call opens its own. */
    if
    :: open[c] && FITS(c)
    :: open[c] && !FITS(c) -> close_stream(c); begin_epoch(c)
    :: !open[c] -> begin_epoch(c)
    fi
}

inline give(c, clean) {
    if
    :: open[c] && (!clean || epoch[c] != pool_epoch) -> close_stream(c)
    :: else
    fi;
    release(c)
}

proctype caller(byte me) {
    byte made, c, seen, before, after, moved, i, floor;
    byte had_epoch;
    bit got, clean, had, again;

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
    byte c, seen, target, had_epoch;
    bit got, had, again;

    begin_call();
    atomic { pool_epoch++; target = pool_epoch };
    do
    :: c < count ->
        lock();
        try_take(c, got);
        unlock();
        if
        :: got && open[c] && epoch[c] != pool_epoch -> close_stream(c); release(c)
        :: got && !(open[c] && epoch[c] != pool_epoch) -> release(c)
        :: !got
        fi;
        c++
    :: else -> break
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

/* A call that finds a connection idle for long: takes it like any other, closes it, gives it back. */
proctype reaper() {
    byte c, seen, had_epoch;
    bit got, had, again;

    begin_call();
    lock();
    do
    :: c < count ->
        if
        :: open[c] -> try_take(c, got)
        :: else
        fi;
        if
        :: got -> break
        :: else -> c++
        fi
    :: else -> break
    od;
    unlock();
    if
    :: got ->
        if
        :: open[c] -> close_stream(c)
        :: else
        fi;
        release(c)
    :: else
    fi;
    end_call();
    running--
}

/* When all calls are over: nobody owns, nothing is locked, and what disconnect_all should have closed is closed. */
proctype at_rest() {
    byte c;

    running == 0;
    assert(!locked && in_flight == 0);
    c = 0;
    do
    :: c < count ->
        assert(owners[c] == 0 && turn[c] % 2 == 0);
        assert(!open[c] || (epoch[c] == pool_epoch && born[c] == pool_epoch));
        c++
    :: else -> break
    od
}

init {
    byte n;

    atomic {
        running = CALLERS + DISCONNECTS + REAPERS;
        do
        :: n < OPEN -> open[n] = 1; turn[n] = 2; count++; streams++; most_in_flight++; n++
        :: else -> break
        od;
        n = 0;
        latest = (OPEN == 0 -> NONE : OPEN - 1);
        do
        :: n < CALLERS ->
            /* The first two remember the same one. */
            if
            :: OPEN == 0 -> last[n] = NONE
            :: OPEN != 0 && n < 2 -> last[n] = 0
            :: else -> last[n] = OPEN - 1
            fi;
            run caller(n);
            n++
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
