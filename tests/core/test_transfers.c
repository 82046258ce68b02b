/* The promises of mcext/core/net/socket.h and fanout.h about how bytes move: what the system is
 * asked, what comes of its refusal, and of memory's.
 *
 * This program has a setsockopt and a poll of its own. */
#define _GNU_SOURCE
#include "core/net/socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"
#include "moves.h"
#include "streams.h"

#define LONG (60 * MC_SECOND) /* never reached */
#define BODY 100000           /* is waited for in one receive */

static int planned_option;         /* the errno that the next setsockopt fails with, once */
static int options_set;            /* in all */
static struct timeval timeout_set; /* by the last one */

int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    if (planned_option != 0) {
        errno = planned_option;
        planned_option = 0;
        return -1;
    }
    options_set++;
    if (level == SOL_SOCKET && option == SO_RCVTIMEO) {
        memcpy(&timeout_set, value, sizeof timeout_set);
    }
    return (int)syscall(SYS_setsockopt, fd, level, option, value, size);
}

static int polls; /* in all */

int own_poll(struct pollfd *wanted, nfds_t count, int timeout) __asm__("poll");

int own_poll(struct pollfd *wanted, nfds_t count, int timeout)
{
    struct timespec limit = {timeout / 1000, timeout % 1000 * (MC_SECOND / 1000)};

    polls++;
    return ppoll(wanted, count, timeout < 0 ? NULL : &limit, NULL);
}

static void *no_memory(void *memory, size_t size)
{
    (void)memory, (void)size;
    return NULL;
}

/* ---- streams ---- */

/* ---- promises ---- */

static const struct {
    int error;
    mc_status status;
} meanings[] = {
    {EINTR, MC_INTERRUPTED}, {EPIPE, MC_CLOSED},     {ECONNRESET, MC_CLOSED},
    {ENOTCONN, MC_CLOSED},   {ENOMEM, MC_NO_MEMORY}, {ECONNABORTED, MC_CLOSED},
    {ETIMEDOUT, MC_TIMEOUT}, {EIO, MC_FAILED},       {EBADF, MC_FAILED},
};

#define MEANINGS (sizeof meanings / sizeof *meanings)

/* Of the first bytes of a reply, and of the whole of a body. Nothing is waited for without one. */
static void a_timeout_that_cannot_be_set_fails_the_receive(void)
{
    static char room[BODY];

    for (size_t i = 0; i < 2 * MEANINGS; i++) {
        mc_connection connection;
        mc_clock clock;
        mc_leg leg;
        int peer;

        pair(&connection, &peer);
        mc_clock_start(&clock, LONG, LONG);
        begin_get(&leg, &connection, &clock);
        if (i % 2) {
            say(peer, "VALUE k 0 100000\r\nx");
            CHECK(mc_leg_receive(&leg, &clock) == MC_OK);
            CHECK(mc_exchange_next(&leg.exchange) == MC_EVENT_VALUE);
            mc_exchange_give_room(&leg.exchange, room);
        }
        planned_option = meanings[i / 2].error;
        CHECK(mc_leg_receive(&leg, &clock) == meanings[i / 2].status);
        CHECK_NUMBER(connection.error, meanings[i / 2].error);
        CHECK(planned_option == 0);
        drop(&connection, peer);
    }
}

static void a_timeout_is_set_to_the_microsecond_and_once(void)
{
    static const struct {
        int64_t timeout;
        struct timeval set;
    } cases[] = {
        {1, {0, 1}}, /* none at all would wait for ever */
        {999, {0, 1}},       {1000, {0, 1}},          {1999, {0, 1}},
        {2000, {0, 2}},      {MC_SECOND, {1, 0}},     {MC_SECOND - 1, {0, 999999}},
        {LONG, {60, 0}},     {MC_SECOND + 2, {1, 0}}, {MC_SECOND * 3 / 2, {1, 500000}},
        {INT64_MAX, {0, 0}}, {MC_NO_TIMEOUT, {0, 0}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mc_connection connection;
        char bytes[8];
        int peer;

        pair(&connection, &peer);
        connection.receive_timeout = 1234567; /* another one than that */
        say(peer, "abcdef");
        for (int again = 0; again < 2; again++) {
            mc_clock clock = {.timeout = cases[i].timeout}; /* not late: the socket's own waits */
            struct iovec piece = {bytes, 3};
            size_t moved;

            timeout_set = (struct timeval){7, 7};
            options_set = 0;
            CHECK(mc_connection_receive(&connection, &piece, 1, &moved, false, &clock) == MC_OK);
            CHECK_NUMBER(moved, 3);
            CHECK(clock.late); /* time may have gone */
            CHECK_NUMBER(options_set, !again);
            CHECK(again || (timeout_set.tv_sec == cases[i].set.tv_sec &&
                            timeout_set.tv_usec == cases[i].set.tv_usec));
        }
        drop(&connection, peer);
    }
}

static void all_pieces_leave_and_come_in_one_call(void)
{
    mc_connection connection;
    int peer;

    pair(&connection, &peer);
    for (int count = 1; count <= 3; count++) {
        char got[3][4] = {"", "", ""};
        struct iovec sent[] = {{"a", 1}, {"bc", 2}, {"def", 3}};
        struct iovec room[] = {{got[0], 1}, {got[1], 2}, {got[2], 3}};
        size_t size = count == 1 ? 1 : count == 2 ? 3 : 6, moved = 0;
        mc_clock clock = {.timeout = MC_NO_TIMEOUT};

        CHECK(mc_connection_send(&connection, sent, count, &moved, &clock) == MC_OK);
        CHECK(moved == size && !clock.late);
        say(peer, "uvwxyz");
        CHECK(mc_connection_receive(&connection, room, count, &moved, count == 3, &clock) == MC_OK);
        CHECK(moved == size && clock.late);
        CHECK(got[0][0] == 'u' && strcmp(got[1], count > 1 ? "vw" : "") == 0);
        CHECK(strcmp(got[2], count > 2 ? "xyz" : "") == 0);
        while (size < 6) { /* the rest */
            room[0].iov_len = 1;
            CHECK(mc_connection_receive(&connection, room, 1, &moved, false, &clock) == MC_OK);
            size += moved;
        }
    }
    drop(&connection, peer);
}

/* Nothing is waited for where there is no time, but what is there is taken. */
static void without_time_what_is_there_moves_and_nothing_else(void)
{
    static char much[1 << 20];
    mc_connection connection;
    char byte;
    struct iovec room = {&byte, 1}, large = {much, sizeof much};
    size_t moved = 0;
    int peer;

    pair(&connection, &peer);
    mc_clock clock = {.timeout = 0, .late = true};
    int64_t before = mc_clock_now();
    CHECK(mc_connection_receive(&connection, &room, 1, &moved, false, &clock) == MC_TIMEOUT);
    say(peer, "xy");
    CHECK(mc_connection_receive(&connection, &room, 1, &moved, false, &clock) == MC_OK);
    CHECK(moved == 1 && byte == 'x');
    /* With a deadline, bytes that come in time and again do not move it. */
    clock = (mc_clock){.start = before - MC_SECOND, .timeout = 1, .late = true};
    CHECK(mc_connection_receive(&connection, &room, 1, &moved, false, &clock) == MC_TIMEOUT);
    clock = (mc_clock){.start = before - MC_SECOND, .timeout = 1};
    CHECK(mc_connection_receive(&connection, &room, 1, &moved, true, &clock) == MC_TIMEOUT);
    clock = (mc_clock){.timeout = MC_NO_TIMEOUT, .late = true};
    CHECK(mc_connection_receive(&connection, &room, 1, &moved, false, &clock) == MC_OK);
    CHECK(byte == 'y');

    clock = (mc_clock){.timeout = 0};
    polls = 0;
    mc_status status = MC_OK;
    for (int sends = 0; status == MC_OK && sends < 100; sends++) {
        status = mc_connection_send(&connection, &large, 1, &moved, &clock);
        CHECK(status == MC_TIMEOUT || !clock.late);
    }
    CHECK(status == MC_TIMEOUT && clock.late); /* it was full: time may have gone */
    CHECK_NUMBER(polls, 0);
    CHECK(mc_clock_now() - before < 5 * MC_SECOND);
    drop(&connection, peer);
}

static void a_receive_without_memory_says_so_and_can_be_made_again(void)
{
    mc_connection connection;
    mc_clock clock;
    mc_leg leg;
    int peer;

    pair(&connection, &peer);
    mc_clock_start(&clock, LONG, LONG);
    ask_for_key(&leg, &connection, &clock);
    say(peer, "END\r\n");
    mc_reallocate = no_memory;
    CHECK(mc_leg_move(&leg, &clock) == MC_NO_MEMORY);
    CHECK(mc_leg_move(&leg, &clock) == MC_NO_MEMORY);
    mc_reallocate = realloc;
    CHECK(leg.piece_count == 0); /* it was asked, once */
    CHECK(mc_leg_move(&leg, &clock) == MC_OK);
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep && leg.verdict.status == MC_OK);
    char asked[16];
    CHECK_NUMBER(read(peer, asked, sizeof asked), 7);
    drop(&connection, peer);
}

/* Where nothing is laid out, nothing is sent either. */
static void a_request_without_memory_is_not_sent(void)
{
    mc_connection connection;
    mc_clock clock;
    mc_leg leg;
    char byte;
    int peer;

    pair(&connection, &peer);
    mc_clock_start(&clock, LONG, LONG);
    begin_get(&leg, &connection, &clock);
    mc_reallocate = no_memory;
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER);
    mc_reallocate = realloc;
    CHECK(leg.verdict.status == MC_NO_MEMORY && !leg.verdict.keep && !leg.verdict.may_have_run);
    CHECK(leg.piece_count == 0);
    CHECK(recv(peer, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    drop(&connection, peer);
}

/* Receives until there is something to say. */
static mc_leg_step receive_step(mc_leg *leg, mc_clock *clock)
{
    mc_leg_step step = mc_leg_next(leg);

    while (step == MC_LEG_MOVE) {
        if (mc_leg_move(leg, clock) != MC_OK) {
            CHECK(false);
            return MC_LEG_RETRY;
        }
        step = mc_leg_next(leg);
    }
    return step;
}

/* What stands behind its body belongs to the same reply. */
static void a_large_value_before_another_leaves_the_stream_in_step(void)
{
    static char body[20000], room[sizeof body];
    static const mc_slice both[] = {{"k", 1}, {"l", 1}};
    mc_connection connection;
    mc_clock clock;
    mc_leg leg;
    int peer;

    pair(&connection, &peer);
    memset(body, 'b', sizeof body);
    mc_clock_start(&clock, LONG, LONG);
    mc_leg_init(&leg, MC_GET, both, 2);
    mc_leg_begin(&leg, &connection, &clock);
    say(peer, "VALUE k 0 20000\r\nbbb");
    CHECK(receive_step(&leg, &clock) == MC_LEG_VALUE);
    mc_exchange_give_room(&leg.exchange, room);
    CHECK(send(peer, body, sizeof body - 3, 0) == sizeof body - 3);
    say(peer, "\r\nVALUE l 0 1\r\nx\r\nEND\r\n");
    CHECK(receive_step(&leg, &clock) == MC_LEG_FILLED);
    CHECK(memcmp(room, body, sizeof body) == 0);
    CHECK(receive_step(&leg, &clock) == MC_LEG_VALUE);
    CHECK(receive_step(&leg, &clock) == MC_LEG_OVER);
    CHECK(leg.verdict.status == MC_OK && leg.verdict.keep);
    mc_leg_fini(&leg);
    drop(&connection, peer);
}

/* ---- a fork ---- */

static void after_a_fork_no_bytes_of_the_childs_leg_move(void)
{
    mc_connection connection;
    mc_clock clock;
    mc_leg leg;
    char byte;
    int peer, ended;

    pair(&connection, &peer);
    mc_clock_start(&clock, LONG, LONG);
    ask_for_key(&leg, &connection, &clock);
    pid_t child = fork();
    if (child == 0) {
        bool right = mc_leg_send(&leg, &clock) == MC_CLOSED && leg.piece_count == 1;

        right = right && mc_leg_receive(&leg, &clock) == MC_CLOSED;
        right = right && mc_leg_move(&leg, &clock) == MC_CLOSED;
        right = right && !mc_connection_is_quiet(&connection);
        _exit(right ? 0 : 1);
    }
    CHECK(waitpid(child, &ended, 0) == child && ended == 0);
    CHECK(recv(peer, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    CHECK(mc_connection_is_quiet(&connection)); /* it is the parent's as before */
    drop(&connection, peer);
}

int main(void)
{
    CHECK(mc_process_init());
    alarm(60); /* a wait that does not end ends all */
    PROMISE(a_timeout_that_cannot_be_set_fails_the_receive);
    PROMISE(a_timeout_is_set_to_the_microsecond_and_once);
    PROMISE(all_pieces_leave_and_come_in_one_call);
    PROMISE(without_time_what_is_there_moves_and_nothing_else);
    PROMISE(a_receive_without_memory_says_so_and_can_be_made_again);
    PROMISE(a_request_without_memory_is_not_sent);
    PROMISE(a_large_value_before_another_leaves_the_stream_in_step);
    PROMISE(after_a_fork_no_bytes_of_the_childs_leg_move);
    return check_result();
}
