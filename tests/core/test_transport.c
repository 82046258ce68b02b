/* The promises of mcext/core/net/connection.h about a transport, whatever it is, and of one leg
 * that moves through it. */
#include "scripted_transport.h"

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
    return check_result();
}
