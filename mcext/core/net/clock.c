#include "core/net/clock.h"

#include <limits.h>
#include <time.h>

int64_t mc_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * MC_SECOND + now.tv_nsec;
}

int64_t mc_clock_left(const mc_clock *clock, int64_t now)
{
    if (clock->timeout == MC_NO_TIMEOUT) {
        return INT64_MAX;
    }
    int64_t left = clock->start + clock->timeout + clock->connecting - now;

    return left > 0 ? left : 0;
}

int64_t mc_clock_connect_left(const mc_clock *clock)
{
    if (clock->connect_timeout == MC_NO_TIMEOUT) {
        return INT64_MAX;
    }
    int64_t left = clock->connect_timeout - clock->connecting;

    return left > 0 ? left : 0;
}

int mc_clock_poll_timeout(int64_t left)
{
    if (left == INT64_MAX) {
        return -1;
    }
    int64_t milliseconds = (left + 999999) / 1000000;

    return milliseconds > INT_MAX ? INT_MAX : (int)milliseconds;
}
