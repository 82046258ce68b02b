/* The promises of mcext/core/net/connection.h and socket.h about what the system reports: each
 * errno has its status, a signal loses nothing, the shortest times end. */
#define _GNU_SOURCE
#include "planned.h"

/* ---- errno ---- */

static void each_errno_of_a_send_has_its_status(void)
{
    for (size_t i = 0; i < 2 * MEANINGS; i++) {
        struct iovec pieces[] = {{"get", 3}, {" k\r\n", 4}}, *at = pieces;
        int count = i % 2 ? 2 : 1, peer;
        mc_connection connection;
        mc_clock clock;

        pair(&connection, &peer);
        mc_clock_start(&clock, LONG, LONG);
        planned.send = meanings[i / 2].error;
        CHECK(send_all(&connection, &at, &count, &clock) == meanings[i / 2].status);
        CHECK_NUMBER(connection.error, meanings[i / 2].error);
        CHECK(at == pieces && at->iov_len == 3 && planned.send == 0); /* nothing has left */
        drop(&connection, peer);
    }
}

/* In the three ways that bytes are received: once, with the body, and the whole of a body. */
static mc_status receive_with(int error, int way, int *kept)
{
    static char room[BODY];
    mc_connection connection;
    mc_leg leg;
    mc_clock clock;
    char header[32];
    int peer;

    pair(&connection, &peer);
    mc_clock_start(&clock, LONG, LONG);
    begin_get(&leg, &connection, &clock);
    if (way > 0) {
        snprintf(header, sizeof header, "VALUE k 0 %d\r\nx", way == 1 ? 100 : BODY);
        say(peer, header);
        CHECK(mc_leg_receive(&leg, &clock) == MC_OK);
        CHECK(mc_exchange_next(&leg.exchange) == MC_EVENT_VALUE);
        mc_exchange_give_room(&leg.exchange, room);
    }
    planned.receive = error;
    mc_status status = mc_leg_receive(&leg, &clock);

    *kept = connection.error;
    CHECK(planned.receive == 0);
    drop(&connection, peer);
    return status;
}

static void each_errno_of_a_receive_has_its_status(void)
{
    for (size_t i = 0; i < 3 * MEANINGS; i++) {
        int kept;

        CHECK(receive_with(meanings[i / 3].error, (int)(i % 3), &kept) == meanings[i / 3].status);
        CHECK_NUMBER(kept, meanings[i / 3].error);
    }
}

static void each_errno_of_a_round_trip_has_its_status(void)
{
    for (size_t i = 0; i < 2 * MEANINGS; i++) {
        mc_connection connection;
        mc_leg leg;
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        mc_clock_start(&clock, MC_NO_TIMEOUT, LONG); /* as set on the socket: the plain way */
        ask_for_key(&leg, &connection, &clock);
        *(i % 2 ? &planned.receive : &planned.send) = meanings[i / 2].error;
        CHECK(mc_leg_move(&leg, &clock) == meanings[i / 2].status);
        CHECK_NUMBER(connection.error, meanings[i / 2].error);
        CHECK_NUMBER(leg.piece_count > 0 ? leg.pieces->iov_len : 0, i % 2 ? 0 : 7);
        CHECK(planned.send == 0 && planned.receive == 0);
        drop(&connection, peer);
    }
}

/* A wait fails as what it waited for does. */
static void each_errno_of_a_wait_has_its_status(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_connection connection;
        mc_leg leg;
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        mc_clock_start(&clock, LONG, LONG);
        begin_get(&leg, &connection, &clock);
        clock.late = true; /* nothing is there: it waits */
        planned.poll = meanings[i].error;
        CHECK(mc_leg_receive(&leg, &clock) == meanings[i].status);
        CHECK(planned.poll == 0);
        drop(&connection, peer);
    }
}

static void what_cannot_be_looked_up_fails_and_without_memory_says_so(void)
{
    static const int errors[] = {EAI_MEMORY, EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_SYSTEM};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;

        planned.resolver = errors[i];
        CHECK(connect_by(&connection, &state, MC_FAMILY_INET, 1, LONG) ==
              (errors[i] == EAI_MEMORY ? MC_NO_MEMORY : MC_FAILED));
        CHECK_NUMBER(connection.resolver_error, errors[i]);
        CHECK(state.list == NULL && connection.fd == -1);
        mc_connecting_fini(&state);
    }
    planned.resolver = 0;
}

static void each_errno_of_a_unix_connect_has_its_status(void)
{
    int server = listen_at_a_path(5);

    for (size_t i = 0; i <= MEANINGS; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        int before = next_descriptor();
        int error = i < MEANINGS ? meanings[i].error : EAGAIN; /* the backlog is full, once */
        mc_status wanted = error == EINTR    ? MC_INTERRUPTED
                           : error == EAGAIN ? MC_OK
                                             : MC_FAILED; /* also where it is ETIMEDOUT */

        planned.connect = error;
        CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == wanted);
        CHECK(error == EAGAIN ? connection.fd >= 0 : connection.error == error);
        CHECK((state.fd == -1 || error == EINTR) && (connection.fd == -1 || error == EAGAIN));
        mc_connecting_fini(&state);
        mc_connection_close(&connection);
        CHECK(state.fd == -1 && next_descriptor() == before);
    }
    stop_listening(server);
}

static void each_errno_of_a_tcp_connect_fails_it(void)
{
    uint16_t port;
    int server = listen_on_loopback(&port);

    for (size_t i = 0; i < MEANINGS; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        int before = next_descriptor();

        if (meanings[i].error == EINTR) { /* below */
            continue;
        }
        planned.connect = meanings[i].error;
        CHECK(connect_by(&connection, &state, MC_FAMILY_INET, port, LONG) == MC_FAILED);
        CHECK_NUMBER(connection.error, meanings[i].error);
        CHECK(connection.fd == -1 && next_descriptor() == before);
        mc_connecting_fini(&state);
    }
    close(server);
}

/* ---- signals ---- */

static void a_signal_in_a_tcp_connect_lets_it_go_on_where_it_was(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    uint16_t port;
    int server = listen_on_loopback(&port);

    planned.connect = EINTR;
    CHECK(connect_by(&connection, &state, MC_FAMILY_INET, port, LONG) == MC_OK);
    mc_connection_close(&connection);
    planned.poll = EINTR;
    CHECK(connect_by(&connection, &state, MC_FAMILY_INET, port, LONG) == MC_INTERRUPTED);
    int begun = state.fd;
    CHECK(begun >= 0 && state.list != NULL && connection.fd == -1);
    planned.resolver = EAI_FAIL; /* the name is not looked up again */
    CHECK(connect_by(&connection, &state, MC_FAMILY_INET, port, LONG) == MC_OK);
    CHECK(connection.fd == begun && state.fd == -1 && state.list == NULL);
    planned.resolver = 0;
    mc_connection_close(&connection);
    close(server);
}

static void a_signal_in_a_unix_connect_lets_it_go_on_and_leaves_nothing_open(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    int server = listen_at_a_path(0);

    fill_backlog();
    int before = next_descriptor();
    pthread_t bell = ring_soon();
    CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == MC_INTERRUPTED);
    CHECK(connection.fd == -1);
    mc_connecting_fini(&state); /* the caller may give up there */
    CHECK(state.fd == -1 && next_descriptor() == before);
    CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == MC_INTERRUPTED);
    has_rung(bell);
    int peer = accept(server, NULL, NULL);
    CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == MC_OK);
    CHECK(connection.fd == before && state.fd == -1);
    drop(&connection, peer);
    CHECK(next_descriptor() == before);
    stop_listening(server);
}

/* ---- short times ---- */

static void the_shortest_receive_ends(void)
{
    for (size_t i = 0; i < 4 * SHORT_TIMES; i++) {
        static char room[BODY];
        mc_connection connection;
        mc_leg leg;
        mc_clock clock;
        char header[32];
        int peer, way = (int)(i % 4);

        pair(&connection, &peer);
        mc_clock_start(&clock, LONG, LONG);
        begin_get(&leg, &connection, &clock);
        if (way >= 2) { /* the rest of a body, and of one that is waited for in one receive */
            snprintf(header, sizeof header, "VALUE k 0 %d\r\nx", way == 2 ? 100 : BODY);
            say(peer, header);
            CHECK(mc_leg_receive(&leg, &clock) == MC_OK);
            CHECK(mc_exchange_next(&leg.exchange) == MC_EVENT_VALUE);
            mc_exchange_give_room(&leg.exchange, room);
        }
        int64_t before = mc_clock_now();

        mc_clock_start(&clock, short_times[i / 4], LONG);
        clock.late = way == 1; /* by poll, else by the socket's own timeout */
        CHECK(mc_leg_receive(&leg, &clock) == MC_TIMEOUT);
        in_time(before, short_times[i / 4]);
        drop(&connection, peer);
    }
}

static void the_shortest_round_trip_ends(void)
{
    for (size_t i = 0; i < SHORT_TIMES; i++) {
        mc_connection connection;
        mc_leg leg;
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        for (int trip = 0; trip < 2; trip++) { /* the second time the timeout is set already */
            int64_t before = mc_clock_now();

            mc_clock_start(&clock, short_times[i], LONG);
            ask_for_key(&leg, &connection, &clock);
            CHECK(mc_leg_move(&leg, &clock) == MC_TIMEOUT);
            in_time(before, short_times[i]);
        }
        drop(&connection, peer);
    }
}

static void the_shortest_send_ends(void)
{
    char *bytes = calloc(8, BODY);

    for (size_t i = 0; i < SHORT_TIMES; i++) {
        struct iovec piece = {bytes, 8 * BODY}, *at = &piece;
        int count = 1, peer;
        mc_connection connection;
        mc_clock clock;
        int64_t before = mc_clock_now();

        pair(&connection, &peer);
        mc_clock_start(&clock, short_times[i], LONG);
        CHECK(send_all(&connection, &at, &count, &clock) == MC_TIMEOUT);
        CHECK(count == 1);
        in_time(before, short_times[i]);
        drop(&connection, peer);
    }
    free(bytes);
}

static void the_shortest_connect_ends(void)
{
    int server = listen_at_a_path(0);

    fill_backlog();
    for (size_t i = 0; i < SHORT_TIMES; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        int64_t before = mc_clock_now();

        CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, short_times[i]) == MC_TIMEOUT);
        in_time(before, short_times[i]);
        mc_connecting_fini(&state);
    }
    stop_listening(server);
}

int main(void)
{
    alarm(60); /* a wait that does not end ends all */
    PROMISE(each_errno_of_a_send_has_its_status);
    PROMISE(each_errno_of_a_receive_has_its_status);
    PROMISE(each_errno_of_a_round_trip_has_its_status);
    PROMISE(each_errno_of_a_wait_has_its_status);
    PROMISE(what_cannot_be_looked_up_fails_and_without_memory_says_so);
    PROMISE(each_errno_of_a_unix_connect_has_its_status);
    PROMISE(each_errno_of_a_tcp_connect_fails_it);
    PROMISE(a_signal_in_a_tcp_connect_lets_it_go_on_where_it_was);
    PROMISE(a_signal_in_a_unix_connect_lets_it_go_on_and_leaves_nothing_open);
    PROMISE(the_shortest_receive_ends);
    PROMISE(the_shortest_round_trip_ends);
    PROMISE(the_shortest_send_ends);
    PROMISE(the_shortest_connect_ends);
    return check_result();
}
