/* The promises of mcext/core/net/clock.h. */
#define _GNU_SOURCE
#include "core/net/clock.h"

#include <limits.h>

#include "check.h"

static void a_call_has_what_its_timeout_leaves(void)
{
    mc_clock clock;

    mc_clock_start(&clock, 3 * MC_SECOND, MC_SECOND);
    CHECK(!clock.late);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start), 3 * MC_SECOND);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start + MC_SECOND), 2 * MC_SECOND);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start + 3 * MC_SECOND - 1), 1);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start + 3 * MC_SECOND), 0);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start + 100 * MC_SECOND), 0);
}

static void connects_have_a_budget_of_their_own(void)
{
    mc_clock clock;

    mc_clock_start(&clock, 3 * MC_SECOND, MC_SECOND);
    CHECK_NUMBER(mc_clock_connect_left(&clock), MC_SECOND);
    clock.connecting = MC_SECOND - 5;
    CHECK_NUMBER(mc_clock_connect_left(&clock), 5);
    CHECK_NUMBER(mc_clock_left(&clock, clock.start + MC_SECOND), 3 * MC_SECOND - 5);
    clock.connecting = 2 * MC_SECOND;
    CHECK_NUMBER(mc_clock_connect_left(&clock), 0);
}

static void no_timeout_is_for_ever(void)
{
    mc_clock clock;

    mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    CHECK(mc_clock_left(&clock, INT64_MAX) == INT64_MAX);
    clock.connecting = 1000 * MC_SECOND;
    CHECK(mc_clock_connect_left(&clock) == INT64_MAX);
    CHECK(mc_clock_poll_timeout(INT64_MAX) == -1);
}

static void poll_waits_a_little_too_long_rather_than_too_short(void)
{
    CHECK_NUMBER(mc_clock_poll_timeout(0), 0);
    CHECK_NUMBER(mc_clock_poll_timeout(1), 1);
    CHECK_NUMBER(mc_clock_poll_timeout(1000000), 1);
    CHECK_NUMBER(mc_clock_poll_timeout(1000001), 2);
    CHECK_NUMBER(mc_clock_poll_timeout(3 * MC_SECOND), 3000);
    CHECK_NUMBER(mc_clock_poll_timeout((int64_t)1000000000 * MC_SECOND), INT_MAX);
}

static void now_goes_forward(void)
{
    int64_t before = mc_clock_now();

    for (int i = 0; i < 1000; i++) {
        int64_t now = mc_clock_now();

        CHECK(now >= before);
        before = now;
    }
}

int main(void)
{
    PROMISE(a_call_has_what_its_timeout_leaves);
    PROMISE(connects_have_a_budget_of_their_own);
    PROMISE(no_timeout_is_for_ever);
    PROMISE(poll_waits_a_little_too_long_rather_than_too_short);
    PROMISE(now_goes_forward);
    return check_result();
}
