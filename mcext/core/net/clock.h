/* clock: the time that one call may take.
 *
 * A call has one deadline, socket_timeout after its start; time spent in connects is added to it
 * and has a budget of its own. Nanoseconds of CLOCK_MONOTONIC. Not synchronised. */
#ifndef MC_CLOCK_H
#define MC_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define MC_SECOND INT64_C(1000000000)
#define MC_NO_TIMEOUT INT64_C(-1)

typedef struct {
    int64_t start;
    int64_t timeout;         /* of the call, or MC_NO_TIMEOUT */
    int64_t connect_timeout; /* of all its connects together, or MC_NO_TIMEOUT */
    int64_t connecting;      /* spent in connects so far */
    bool late;               /* time may be lost: ask the clock before waiting */
} mc_clock;

int64_t mc_clock_now(void);

static inline void mc_clock_start(mc_clock *clock, int64_t timeout, int64_t connect_timeout)
{
    *clock = (mc_clock){mc_clock_now(), timeout, connect_timeout, 0, false};
}

/* Nanoseconds left at now, 0 where the deadline has passed, INT64_MAX where there is none. */
int64_t mc_clock_left(const mc_clock *clock, int64_t now);
int64_t mc_clock_connect_left(const mc_clock *clock);

/* For poll: milliseconds, rounded up; -1 for ever. */
int mc_clock_poll_timeout(int64_t left);

#endif
