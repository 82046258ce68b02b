/* One computation for all callers: a model of mcext/fill.py and of what memcached does with its items, for spin.
 *
 * CALLERS processes make CALLS calls of get_or_set each. Meanwhile somebody sets, deletes and invalidates the key, WRITES
 * times in all, the server lets the item expire, and a caller may be killed while it computes. Every command is one step,
 * as it is on the server; all else interleaves.
 *
 * A value is the number of the state of the world that it was made of: each write changes the world (`now`), and a factory
 * reads it when it begins. Proved for every interleaving, by the asserts:
 *
 *   one lease, one fill      one caller computes with a token, and no two fills are stored with it
 *   later writes win         a fill never overwrites what was written after its factory began
 *   nothing is resurrected   what is served as fresh is never of a world before the last set, delete or invalidate
 *                            that had come back when the call began
 *   somebody computes        no caller waits for ever: the proof has no state without a next one
 *
 * Each of the macros WITHOUT_* takes one piece out; the proof then has to fail, which run.sh checks.
 *
 *   WITHOUT_CAS        a fill is a plain set
 *   WITHOUT_WON        whoever finds a stub computes, as if it had won
 *   WITHOUT_NEW_TOKEN  an invalidated item keeps its token
 *   WITHOUT_RELEASE    a factory that raises keeps the lease, which does not run out
 *   WITHOUT_GATE       a lease is given back by a plain delete
 *   WITHOUT_EXPIRY     a lease of a dead caller does not run out
 */

#ifndef CALLERS
#define CALLERS 2
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RAISES
#define RAISES 1
#endif
#ifndef EXPIRIES
#define EXPIRIES 1
#endif

#define TOKENS 24

mtype = { ABSENT, STUB, VALUE };

/* The item: a lease's stub, or a value, fresh or stale; `won`: somebody holds its lease. */
mtype item = ABSENT;
bit stale, won;
byte token;   /* its cas */
byte tokens;  /* the last that was given */
byte world;   /* of its value: made of what was true then */

byte now = 1; /* the state of the world: what writes change */
byte barrier; /* what is fresh is not older than that: the world after the last write that has come back */

/* Seen by the proof alone: */
byte leaders[TOKENS]; /* who won with that token */
byte fills[TOKENS];   /* stored with it */
byte deaths, raises, expiries;
byte running;

inline new_token() { tokens++; assert(tokens < TOKENS); token = tokens }
inline clear_item() { item = ABSENT; stale = 0; won = 0; world = 0; token = 0 }

/* mg k N R: what there is; W: the lease is this caller's. */
inline look() {
    atomic {
        has = 0;
        wins = 0;
        fresh = 0;
        if
        :: item == ABSENT -> item = STUB; new_token(); stale = 0; won = 1; wins = 1
        :: item == STUB && !won -> won = 1; wins = 1
        :: item == STUB && won
        :: item == VALUE ->
            has = 1;
            old = world;
            fresh = !stale;
            if
            :: (stale || refreshing) && !won -> won = 1; wins = 1
            :: else
            fi
        fi;
        my_token = token;
#ifdef WITHOUT_WON
        wins = wins || item == STUB;
#endif
        leaders[my_token] = leaders[my_token] + wins;
        assert(leaders[my_token] <= 1) /* one lease, one computation */
    }
}

/* cas k TOKEN. The value is stored where the item is the one that was leased. */
inline fill() {
    atomic {
#ifdef WITHOUT_CAS
        if
        :: true ->
#else
        if
        :: item != ABSENT && token == my_token ->
#endif
            fills[my_token]++;
            assert(fills[my_token] == 1);  /* one lease, one fill */
            assert(made_of == now);        /* later writes win */
            item = VALUE;
            stale = 0;
            won = 0;
            world = made_of;
            new_token()
        :: else /* EXISTS, NOT_FOUND: somebody was faster */
        fi
    }
}

/* md k C<token>, md k I C<token>: another is to compute at once. */
inline release() {
    atomic {
#ifdef WITHOUT_RELEASE
        skip
#else
        if
#ifdef WITHOUT_GATE
        :: item != ABSENT ->
#else
        :: item != ABSENT && token == my_token ->
#endif
            assert(token == my_token || item != VALUE); /* nobody's value is thrown away */
            if
            :: has && item == VALUE -> stale = 1; won = 0; new_token()
            :: else -> clear_item()
            fi
        :: else
        fi
#endif
    }
}

proctype caller() {
    byte made, my_token, made_of, old, floor;
    bit has, wins, fresh, refreshing;

    do
    :: made < CALLS ->
        atomic {
            floor = barrier;
            if
            :: refreshing = 0
            :: refreshing = 1 /* it has less than refresh seconds left */
            fi
        }
        do
        :: look();
           if
           :: wins ->
               made_of = now; /* the factory begins */
               if
               :: fill(); break
               :: atomic { raises < RAISES -> raises++ }
                  release();
                  break
               :: atomic { deaths < DEATHS -> deaths++ }
                  goto killed
               fi
           :: !wins && has ->
               assert(!fresh || old >= floor); /* nothing is resurrected */
               break
           :: !wins && !has -> /* waits: for a value, or for the lease */
               item != STUB || !won
           fi
        od;
        atomic { made++; my_token = 0; made_of = 0; old = 0; floor = 0; has = 0; wins = 0; fresh = 0; refreshing = 0 }
    :: else -> break
    od;
killed:
    atomic { running--; made = 0; my_token = 0; made_of = 0; old = 0; floor = 0; has = 0; wins = 0; fresh = 0; refreshing = 0 }
}

/* The application: the world changes, and then the cache is told, in one way or another. */
proctype writer() {
    byte writes;

    do
    :: writes < WRITES ->
        atomic {
            now++;
            if
            :: item = VALUE; stale = 0; won = 0; world = now; new_token() /* set */
            :: clear_item()                                              /* delete, flush_all, eviction */
            :: item != ABSENT ->                                         /* md k I */
                stale = 1;
                won = 0;
#ifndef WITHOUT_NEW_TOKEN
                new_token()
#endif
            fi;
            barrier = now
        }
        writes++
    :: else -> break
    od;
    running--
}

/* Time: an item's time is over, also that of a lease whose holder is slow or dead. */
proctype clock() {
end:
    do
    :: atomic { expiries < EXPIRIES && item != ABSENT -> expiries++; clear_item() }
#ifndef WITHOUT_EXPIRY
    :: atomic { item == STUB && won && (deaths > 0) && expiries == EXPIRIES && running > 0 -> clear_item() }
#endif
    :: running == 0 -> break
    od
}

init {
    byte n;

    atomic {
        running = CALLERS + 1;
        do
        :: n < CALLERS -> run caller(); n++
        :: else -> break
        od;
        run writer();
        run clock()
    }
}
