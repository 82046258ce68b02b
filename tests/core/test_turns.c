/* The promises of mcext/core/flow/fanout.h about legs that are served together, whatever their
 * transport is: what a turn sends, waits for and receives. */
#include "scripted_transport.h"

/* ---- many legs ---- */

#define LEGS 3

static struct {
    mc_connection connections[LEGS];
    mc_leg legs[LEGS];
    mc_leg *list[LEGS];
    struct pollfd polls[LEGS];
    bool arrived[LEGS];
    mc_clock clock;
} all;

/* All sent, but for those whose bit is set. */
static void fan_out(int unsent)
{
    begin_script();
    mc_clock_start(&all.clock, LONG, LONG);
    for (int i = 0; i < LEGS; i++) {
        begin_connection(&all.connections[i], i); /* 0 is one like any other */
        ask_for_key(&all.legs[i], &all.connections[i], &all.clock);
        if (!(unsent >> i & 1)) {
            all.legs[i].piece_count = 0;
        }
        all.list[i] = &all.legs[i];
        all.polls[i] = (struct pollfd){99, -1, -1};
        all.arrived[i] = true;
    }
}

static mc_status step(void)
{
    return mc_fanout_step(all.list, LEGS, all.polls, all.arrived, &all.clock);
}

static void end_fan(void)
{
    for (int i = 0; i < LEGS; i++) {
        mc_connection_close(&all.connections[i]);
    }
}

static void one_poll_waits_for_all_and_for_room_to_send(void)
{
    fan_out(2);
    script.revents[0] = POLLIN;
    script.revents[1] = POLLOUT; /* nothing has come from it */
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(step() == MC_OK);
    CHECK(script.polled == 1 && script.sent == 1 && script.received == 1);
    CHECK(script.poll_timeout > 59000 && script.poll_timeout <= 60000);
    for (int i = 0; i < LEGS; i++) {
        CHECK(script.polls[i].fd == i);
        CHECK(script.polls[i].events == (i == 1 ? POLLIN | POLLOUT : POLLIN));
        CHECK(all.arrived[i] == (i == 0));
    }
    CHECK(all.clock.late);
    CHECK(script.last_timeout == 0 && script.last_late); /* a receive among many does not wait */
    end_fan();
}

static void a_send_among_many_does_not_wait(void)
{
    fan_out(1);
    script.revents[2] = POLLOUT;
    CHECK(step() == MC_OK);
    CHECK(script.sent == 1 && script.received == 0 && script.polled == 1);
    CHECK(script.last_timeout == 0 && script.last_late);
    CHECK(!all.arrived[0] && !all.arrived[1] && !all.arrived[2]);
    end_fan();

    fan_out(1);
    script.sends[0].status = script.sends[1].status = MC_INTERRUPTED; /* is nobody's failure */
    script.sends[2] = (answer){MC_OK, 7};
    script.revents[2] = POLLIN;
    CHECK(step() == MC_OK);
    CHECK(script.sent == 3 && script.polled == 1 && script.received == 1);
    CHECK(mc_leg_is_running(&all.legs[0]) && all.legs[0].piece_count == 0);
    end_fan();
}

static void who_fails_to_send_ends_the_step_before_a_wait(void)
{
    fan_out(4);
    script.sends[0].status = MC_FAILED;
    CHECK(step() == MC_OK);
    CHECK(script.polled == 0 && script.received == 0);
    CHECK(ended_in(&all.legs[2]) == MC_FAILED && mc_leg_is_running(&all.legs[0]));
    end_fan();
}

static void who_does_not_run_is_left_out(void)
{
    fan_out(0);
    mc_leg_fail(&all.legs[0], MC_FAILED);
    all.legs[1].in_turn = true; /* its transport is not polled */
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(step() == MC_OK); /* the last one waits in its own receive */
    CHECK(script.polled == 0 && script.received == 1);
    CHECK_NUMBER(script.last_timeout, LONG);
    CHECK(!all.arrived[0] && !all.arrived[1] && all.arrived[2]);
    CHECK(all.polls[0].fd == -1 && all.polls[1].fd == -1);

    mc_leg_fail(&all.legs[2], MC_FAILED);
    CHECK(step() == MC_OK && script.polled == 0 && script.received == 1);
    CHECK(!all.arrived[2]);
    end_fan();
}

static void the_last_one_with_more_to_be_sent_is_polled(void)
{
    fan_out(2);
    mc_leg_fail(&all.legs[0], MC_FAILED);
    mc_leg_fail(&all.legs[2], MC_FAILED);
    script.revents[1] = POLLOUT;
    CHECK(step() == MC_OK);
    CHECK(script.polled == 1 && script.received == 0);
    CHECK(script.polls[0].fd == -1 && script.polls[1].fd == 1 && script.polls[2].fd == -1);
    end_fan();
}

static void a_wait_for_many_has_its_status(void)
{
    static const struct {
        int error;
        mc_status status;
    } cases[] = {{EINTR, MC_INTERRUPTED}, {ENOMEM, MC_NO_MEMORY}, {0, MC_TIMEOUT}};

    for (size_t i = 0; i < 3; i++) {
        fan_out(0);
        script.poll_error = cases[i].error;
        CHECK(step() == cases[i].status);
        CHECK(script.polled == 1 && script.received == 0 && all.clock.late);
        end_fan();
    }
    fan_out(0);
    all.clock.start -= 2 * LONG; /* the time is over */
    CHECK(step() == MC_TIMEOUT && script.polled == 0);
    end_fan();
}

/* What a transport holds no poll tells of. */
static void what_is_held_is_taken_before_a_wait(void)
{
    fan_out(0);
    all.connections[1].more = true;
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(step() == MC_OK);
    CHECK(script.polled == 0 && script.received == 1);
    CHECK(!all.arrived[0] && all.arrived[1] && !all.arrived[2]);
    end_fan();

    fan_out(0); /* of one that is alone, too */
    mc_leg_fail(&all.legs[0], MC_FAILED);
    mc_leg_fail(&all.legs[2], MC_FAILED);
    all.connections[1].more = true;
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(step() == MC_OK);
    CHECK(script.polled == 0 && script.received == 1 && all.arrived[1]);
    CHECK(script.last_timeout == 0 && script.last_late);
    end_fan();

    fan_out(2); /* not of one that fails before */
    all.connections[1].more = true;
    script.sends[0].status = MC_FAILED;
    CHECK(step() == MC_OK);
    CHECK(script.received == 0 && !all.arrived[1] && ended_in(&all.legs[1]) == MC_FAILED);
    end_fan();
}

/* In three steps, of which one waits. */
static void a_turn_can_be_made_in_steps(void)
{
    fan_out(0);
    script.revents[2] = POLLIN;
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(mc_fanout_begin(all.list, LEGS, all.polls, all.arrived) == MC_AGAIN);
    CHECK(script.polled == 0 && script.received == 0);
    CHECK(mc_fanout_wait(all.polls, LEGS, &all.clock) == MC_OK);
    CHECK(script.polled == 1 && script.received == 0);
    CHECK(mc_fanout_end(all.list, LEGS, all.polls, all.arrived) == MC_OK);
    CHECK(script.received == 1 && all.arrived[2] && !all.arrived[0]);
    end_fan();

    fan_out(0); /* one that is alone is polled, too: its receive might wait */
    mc_leg_fail(&all.legs[0], MC_FAILED);
    mc_leg_fail(&all.legs[1], MC_FAILED);
    CHECK(mc_fanout_begin(all.list, LEGS, all.polls, all.arrived) == MC_AGAIN);
    CHECK(script.received == 0);
    mc_leg_fail(&all.legs[2], MC_FAILED);
    CHECK(mc_fanout_begin(all.list, LEGS, all.polls, all.arrived) == MC_OK);
    end_fan();
}

/* An exception stands: nothing may run that could raise another. */
static void behind_one_that_has_raised_nothing_is_done(void)
{
    fan_out(7);
    script.sends[0] = (answer){MC_OK, 7};
    script.sends[1].status = MC_RAISED;
    CHECK(mc_fanout_begin(all.list, LEGS, all.polls, all.arrived) == MC_RAISED);
    CHECK_NUMBER(script.sent, 2);
    CHECK(ended_in(&all.legs[1]) == MC_RAISED && mc_leg_is_running(&all.legs[2]));
    end_fan();

    fan_out(0);
    all.connections[0].more = true;
    script.receives[0].status = MC_RAISED;
    CHECK(mc_fanout_begin(all.list, LEGS, all.polls, all.arrived) == MC_RAISED);
    CHECK(!all.arrived[0]);
    end_fan();

    fan_out(0);
    for (int i = 0; i < LEGS; i++) {
        all.polls[i] = (struct pollfd){i, POLLIN, POLLIN};
    }
    script.receives[0].status = MC_RAISED;
    CHECK(mc_fanout_end(all.list, LEGS, all.polls, all.arrived) == MC_RAISED);
    CHECK_NUMBER(script.received, 1);
    end_fan();
}

int main(void)
{
    PROMISE(one_poll_waits_for_all_and_for_room_to_send);
    PROMISE(a_send_among_many_does_not_wait);
    PROMISE(who_fails_to_send_ends_the_step_before_a_wait);
    PROMISE(who_does_not_run_is_left_out);
    PROMISE(the_last_one_with_more_to_be_sent_is_polled);
    PROMISE(a_wait_for_many_has_its_status);
    PROMISE(what_is_held_is_taken_before_a_wait);
    PROMISE(a_turn_can_be_made_in_steps);
    PROMISE(behind_one_that_has_raised_nothing_is_done);
    return check_result();
}
