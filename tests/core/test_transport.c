/* The promises of mcext/core/net/connection.h and fanout.h about a transport, whatever it is: what
 * it is asked, when it is not asked, and what is made of its answers.
 *
 * The transport is a script, and this program has a poll of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "check.h"
#include "core/net/process.h"
#include "moves.h"

#define LONG (60 * MC_SECOND)
#define BODY 20000 /* is waited for in one receive */

/* ---- the script ---- */

/* What the next steps say; behind them it is MC_TIMEOUT. */
typedef struct {
    mc_status status;
    size_t moved;
} answer;

static struct {
    answer sends[8], receives[8];
    mc_status connects[8];
    int sent, received, connected; /* how often each was asked */
    int looks, closed;
    bool quiet;
    bool all;               /* the last receive's */
    int pieces;             /* the last send's or receive's */
    int64_t last_timeout;   /* of the clock they had, */
    bool last_late;         /* and whether it was late */
    mc_connecting waits;    /* what a connect waits for */
    int polled;             /* how often */
    struct pollfd polls[8]; /* what the last poll was asked */
    int poll_timeout;
    int poll_error;   /* errno that it fails with, once */
    short revents[8]; /* what it finds */
} script;

static mc_status fake_connect(mc_connection *connection, mc_connecting *state,
                              const mc_endpoint *to, mc_clock *clock)
{
    (void)connection, (void)to, (void)clock;
    state->wait_fd = script.waits.wait_fd;
    state->wait_until = script.waits.wait_until;
    state->wait_to_read = script.waits.wait_to_read;
    state->since = 1; /* it has begun */
    return script.connects[script.connected++];
}

static mc_status answered(const answer *given, int count, size_t *moved, const mc_clock *clock)
{
    script.pieces = count;
    script.last_timeout = clock->timeout;
    script.last_late = clock->late;
    *moved = given->moved;
    return given->status;
}

static mc_status fake_send(mc_connection *connection, struct iovec *pieces, int count,
                           size_t *moved, mc_clock *clock)
{
    (void)connection, (void)pieces;
    return answered(&script.sends[script.sent++], count, moved, clock);
}

static mc_status fake_receive(mc_connection *connection, struct iovec *pieces, int count,
                              size_t *moved, bool all, mc_clock *clock)
{
    static const char bytes[] = "\r\nEND\r\n";

    (void)connection;
    script.all = all;
    mc_status status = answered(&script.receives[script.received++], count, moved, clock);
    if (status == MC_OK) { /* a body of naughts, the end of a reply */
        size_t body = count == 2 ? pieces[0].iov_len : 0, first = body < *moved ? body : *moved;

        memset(pieces[0].iov_base, 0, first);
        memcpy(pieces[count - 1].iov_base, count == 2 ? bytes : bytes + 2, *moved - first);
    }
    return status;
}

static bool fake_is_quiet(mc_connection *connection)
{
    (void)connection;
    script.looks++;
    return script.quiet;
}

static void fake_close(mc_connection *connection)
{
    connection->fd = -1;
    script.closed++;
}

static const mc_transport fake = {
    .is_free = true,
    .is_pollable = true,
    .waits_for_all = true,
    .connect = fake_connect,
    .send = fake_send,
    .receive = fake_receive,
    .is_quiet = fake_is_quiet,
    .close = fake_close,
};

int own_poll(struct pollfd *polls, nfds_t count, int timeout) __asm__("poll");

int own_poll(struct pollfd *polls, nfds_t count, int timeout)
{
    int ready = 0;

    script.polled++;
    script.poll_timeout = timeout;
    if (script.poll_error != 0) {
        errno = script.poll_error;
        script.poll_error = 0;
        return -1;
    }
    for (nfds_t i = 0; i < count; i++) {
        script.polls[i] = polls[i];
        polls[i].revents = polls[i].fd < 0 ? 0 : script.revents[i];
        ready += polls[i].revents != 0;
    }
    return ready;
}

static void begin_script(void)
{
    memset(&script, 0, sizeof script);
    for (int i = 0; i < 8; i++) {
        script.sends[i].status = script.receives[i].status = MC_TIMEOUT;
    }
    script.quiet = true;
}

static void begin_connection(mc_connection *connection, int fd)
{
    memset(connection, 0, sizeof *connection);
    connection->transport = &fake;
    connection->generation = mc_process_generation();
    connection->open = true;
    connection->fd = fd;
}

/* ---- connect ---- */

static const mc_endpoint somewhere = {MC_FAMILY_INET, "name", 1};

static mc_status connect_now(mc_connection *connection, mc_connecting *state)
{
    mc_clock clock;

    mc_clock_start(&clock, LONG, LONG);
    begin_connection(connection, -1);
    connection->open = false;
    connection->error = connection->resolver_error = 77; /* of an earlier one */
    *state = (mc_connecting)MC_CONNECTING_INIT;
    mc_status status = mc_connection_connect(connection, state, &somewhere, &clock);
    CHECK(clock.late); /* it may have taken time */
    CHECK(connection->resolver_error == 0);
    return status;
}

static void a_connect_waits_for_what_its_transport_says(void)
{
    mc_connection connection;
    mc_connecting state;

    begin_script();
    script.connects[0] = MC_AGAIN;
    script.waits = (mc_connecting){.wait_fd = 17, .wait_until = INT64_MAX};
    CHECK(connect_now(&connection, &state) == MC_OK);
    CHECK(connection.open && connection.error == 0 && state.since == 0);
    CHECK(script.connected == 2 && script.polled == 1);
    CHECK(script.polls[0].fd == 17 && script.polls[0].events == POLLOUT);
    CHECK_NUMBER(script.poll_timeout, -1);

    begin_script();
    script.connects[0] = MC_AGAIN;
    script.waits = (mc_connecting){.wait_fd = 17, .wait_until = INT64_MAX, .wait_to_read = true};
    CHECK(connect_now(&connection, &state) == MC_OK);
    CHECK(script.polls[0].fd == 17 && script.polls[0].events == POLLIN);
    CHECK(!state.wait_to_read); /* the next one waits for its own */

    begin_script();
    script.connects[0] = MC_AGAIN;
    script.waits = (mc_connecting){.wait_fd = -1, .wait_until = mc_clock_now() + 5 * MC_SECOND};
    CHECK(connect_now(&connection, &state) == MC_OK);
    CHECK(script.polls[0].fd == -1);
    CHECK(script.poll_timeout > 4000 && script.poll_timeout <= 5000);

    begin_script(); /* a time that is over is the transport's to notice */
    script.connects[0] = MC_AGAIN;
    script.connects[1] = MC_TIMEOUT;
    script.waits = (mc_connecting){.wait_fd = 17, .wait_until = mc_clock_now() - 1};
    CHECK(connect_now(&connection, &state) == MC_TIMEOUT);
    CHECK(script.polled == 0 && script.connected == 2);
    CHECK(!connection.open);
}

static void a_connect_whose_wait_fails_says_so(void)
{
    static const struct {
        int error;
        mc_status status;
    } cases[] = {{EINTR, MC_INTERRUPTED}, {ENOMEM, MC_NO_MEMORY}, {EIO, MC_FAILED}};

    for (size_t i = 0; i < 3; i++) {
        mc_connection connection;
        mc_connecting state;

        begin_script();
        script.connects[0] = MC_AGAIN;
        script.waits = (mc_connecting){.wait_fd = 17, .wait_until = INT64_MAX};
        script.poll_error = cases[i].error;
        CHECK(connect_now(&connection, &state) == cases[i].status);
        CHECK_NUMBER(connection.error, cases[i].error);
        CHECK(script.connected == 1 && !connection.open);
        CHECK((state.since != 0) == (cases[i].error == EINTR)); /* it may go on there */
    }
}

/* Only what can go on is kept. */
static void a_connect_that_ends_holds_nothing(void)
{
    static const mc_status ends[] = {MC_OK,        MC_FAILED, MC_TIMEOUT,
                                     MC_NO_MEMORY, MC_CLOSED, MC_RAISED};
    mc_connection connection;
    mc_connecting state;

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        begin_script();
        script.connects[0] = ends[i];
        CHECK(connect_now(&connection, &state) == ends[i]);
        CHECK(state.since == 0 && connection.open == (ends[i] == MC_OK));
        CHECK(script.connected == 1 && script.polled == 0);
    }
    begin_script();
    script.connects[0] = MC_INTERRUPTED;
    CHECK(connect_now(&connection, &state) == MC_INTERRUPTED);
    CHECK(state.since != 0 && !connection.open);
}

/* ---- a stream that is lost ---- */

static void nothing_is_asked_of_a_stream_that_is_lost(void)
{
    for (int i = 0; i < 2; i++) {
        char byte;
        struct iovec piece = {&byte, 1};
        mc_connection connection;
        size_t moved;
        mc_clock clock = {.timeout = 1};

        begin_script();
        begin_connection(&connection, 5);
        CHECK(!mc_connection_is_lost(&connection) && mc_connection_is_quiet(&connection));
        script.quiet = false;
        CHECK(!mc_connection_is_quiet(&connection));
        script.quiet = true;
        CHECK_NUMBER(script.looks, 2);
        if (i) {
            connection.open = false;
        }
        else {
            connection.generation--; /* another process's */
        }
        CHECK(mc_connection_is_lost(&connection) && !mc_connection_is_quiet(&connection));
        CHECK(mc_connection_send(&connection, &piece, 1, &moved, &clock) == MC_CLOSED);
        CHECK(mc_connection_receive(&connection, &piece, 1, &moved, true, &clock) == MC_CLOSED);
        CHECK(script.looks == 2 && script.sent == 0 && script.received == 0);
        mc_connection_close(&connection);
        CHECK_NUMBER(script.closed, !i); /* the descriptor is this process's too */
        mc_connection_close(&connection);
        CHECK_NUMBER(script.closed, !i);
    }
}

/* ---- one leg ---- */

static void what_did_not_leave_is_sent_next(void)
{
    struct iovec both[2] = {{"abc", 3}, {"defgh", 5}};
    mc_connection connection;
    mc_clock clock = {.timeout = LONG};
    mc_leg leg;

    begin_script();
    begin_connection(&connection, 5);
    begin_get(&leg, &connection, &clock);
    leg.pieces = both;
    leg.piece_count = 2;
    script.sends[0] = (answer){MC_OK, 3}; /* the first, exactly */
    script.sends[1] = (answer){MC_OK, 2};
    script.sends[2] = (answer){MC_TIMEOUT, 0};
    CHECK(!leg.moved);
    CHECK(mc_leg_send(&leg, &clock) == MC_TIMEOUT);
    CHECK(script.sent == 3 && script.pieces == 1 && leg.moved);
    CHECK(leg.piece_count == 1);
    CHECK_BYTES(leg.pieces->iov_base, leg.pieces->iov_len, "fgh");
    script.sends[3] = (answer){MC_OK, 3};
    CHECK(mc_leg_send(&leg, &clock) == MC_OK);
    CHECK(script.sent == 4 && leg.piece_count == 0);
    CHECK(mc_leg_send(&leg, &clock) == MC_OK && script.sent == 4); /* there is nothing */
}

static void a_move_receives_where_something_is_to_come(void)
{
    mc_connection connection;
    mc_clock clock = {.timeout = LONG};
    mc_leg leg;

    begin_script(); /* what was not sent is not waited for */
    begin_connection(&connection, 5);
    ask_for_key(&leg, &connection, &clock);
    CHECK(mc_leg_move(&leg, &clock) == MC_TIMEOUT && script.received == 0);
    script.sends[1] = (answer){MC_OK, 7};
    script.receives[0] = (answer){MC_OK, 5};
    CHECK(mc_leg_move(&leg, &clock) == MC_OK && script.received == 1 && !script.all);
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep);
    mc_connection_close(&connection);

    begin_script(); /* nothing answers it */
    begin_connection(&connection, 5);
    mc_leg_init(&leg, MC_DELETE, NULL, 1);
    leg.noreply = true;
    mc_leg_begin(&leg, &connection, &clock);
    CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
    CHECK(mc_leg_line(&leg, key, (mc_slice){NULL, 0}) && mc_leg_ready(&leg));
    script.sends[0] = (answer){MC_OK, 18};
    CHECK(mc_leg_move(&leg, &clock) == MC_OK && script.sent == 1 && script.received == 0);
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep);
    mc_connection_close(&connection);
}

/* A body that is waited for, behind its first bytes; its room. */
static void await_body(mc_leg *leg, mc_connection *connection, const mc_clock *clock, char *room)
{
    begin_script();
    begin_connection(connection, 5);
    begin_get(leg, connection, clock);
    CHECK(mc_buffer_append(&connection->in, "VALUE k 0 20000\r\nx", 18));
    leg->next = 1;
    CHECK(mc_leg_next(leg) == MC_LEG_VALUE);
    mc_exchange_give_room(&leg->exchange, room);
    leg->piece_count = 0;
}

/* Where all came that was waited for, the peer may have said more than that. */
static void behind_the_whole_of_a_reply_the_stream_is_looked_at(void)
{
    static char room[BODY];
    static const struct {
        size_t moved;
        bool quiet;
        int looks;
    } cases[] = {
        {BODY - 1 + 7, true, 1},
        {BODY - 1 + 7, false, 1},
        {BODY - 1 + 6, false, 0},
        {BODY - 1, false, 0},
        {7, false, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mc_connection connection;
        mc_clock clock = {.timeout = LONG};
        mc_leg leg;

        await_body(&leg, &connection, &clock, room);
        script.quiet = cases[i].quiet;
        script.receives[0] = (answer){MC_OK, cases[i].moved};
        CHECK(mc_leg_receive(&leg, &clock) == MC_OK);
        CHECK(script.all && script.pieces == 2 && leg.moved);
        CHECK_NUMBER(script.looks, cases[i].looks);
        if (cases[i].looks) {
            CHECK(mc_leg_next(&leg) == MC_LEG_FILLED && mc_leg_next(&leg) == MC_LEG_OVER);
            CHECK(leg.verdict.status == MC_OK && leg.verdict.keep == cases[i].quiet);
        }
        mc_connection_close(&connection);
    }
}

/* A call that does not wait, and a transport that cannot. */
static void who_cannot_wait_for_all_does_not(void)
{
    static const mc_transport impatient = {.receive = fake_receive, .close = fake_close};
    static char room[BODY];

    for (int i = 0; i < 2; i++) {
        mc_connection connection;
        mc_clock clock = {.timeout = i ? 0 : LONG};
        mc_leg leg;

        await_body(&leg, &connection, &clock, room);
        connection.transport = i ? &fake : &impatient;
        script.receives[0] = (answer){MC_OK, BODY - 1 + 7};
        CHECK(mc_leg_receive(&leg, &clock) == MC_OK);
        CHECK(!script.all && script.looks == 0 && script.pieces == 2);
        mc_connection_close(&connection);
    }
}

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
    PROMISE(a_connect_waits_for_what_its_transport_says);
    PROMISE(a_connect_whose_wait_fails_says_so);
    PROMISE(a_connect_that_ends_holds_nothing);
    PROMISE(nothing_is_asked_of_a_stream_that_is_lost);
    PROMISE(what_did_not_leave_is_sent_next);
    PROMISE(a_move_receives_where_something_is_to_come);
    PROMISE(behind_the_whole_of_a_reply_the_stream_is_looked_at);
    PROMISE(who_cannot_wait_for_all_does_not);
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
