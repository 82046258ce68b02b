/* A transport that does what a script says, and a poll that does: for tests of what stands above
 * it.
 */
#ifndef SCRIPTED_TRANSPORT_H
#define SCRIPTED_TRANSPORT_H

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

#endif
