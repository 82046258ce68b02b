#include "core/flow/fanout.h"

#include <errno.h>

#include "core/wire/apart.h"

mc_status mc_leg_send(mc_leg *leg, mc_clock *clock)
{
    while (leg->piece_count > 0) {
        size_t moved = 0;
        mc_status status =
            mc_connection_send(leg->connection, leg->pieces, leg->piece_count, &moved, clock);

        leg->moved = true;
        leg->bytes_out += moved;
        if (status != MC_OK) {
            return status;
        }
        if (leg->piece_count == 1 && moved == leg->pieces->iov_len) {
            leg->piece_count = 0;
        }
        else {
            mc_pieces_advance(&leg->pieces, &leg->piece_count, moved);
        }
    }
    return MC_OK;
}

static mc_status receive(mc_leg *leg, bool may_wait, mc_clock *clock)
{
    mc_connection *connection = leg->connection;
    struct iovec pieces[2];
    size_t moved = 0;
    bool all;
    int count = mc_leg_room(leg, may_wait, pieces, &all);

    if (count == 0) {
        return MC_NO_MEMORY;
    }
    mc_status status = mc_connection_receive(connection, pieces, count, &moved, all, clock);

    leg->moved = true;
    if (status != MC_OK) {
        return status;
    }
    if (all && moved == pieces[0].iov_len + pieces[1].iov_len) {
        leg->exchange.suspect |= !mc_connection_is_quiet(connection); /* that was not asked for */
    }
    mc_leg_received(leg, moved);
    return MC_OK;
}

/* The rest of a body: mostly it is there already, and what stands behind it is seen at once; else
 * one receive waits for all of it. */
static MC_APART mc_status receive_body(mc_leg *leg, mc_clock *clock)
{
    mc_clock none = {.timeout = 0, .late = true};
    mc_status status = MC_TIMEOUT;

    leg->connection->error = 0;
    if (clock->timeout == MC_NO_TIMEOUT || mc_clock_left(clock, mc_clock_now()) != 0) {
        status = receive(leg, false, &none);
    }
    /* Else, or where nothing was there: a timeout of the stream's own is an error. */
    return status == MC_TIMEOUT && leg->connection->error == 0 ? receive(leg, true, clock) : status;
}

mc_status mc_leg_receive(mc_leg *leg, mc_clock *clock)
{
    bool may_wait = clock->timeout != 0 && leg->connection->transport->waits_for_all;

    return may_wait && leg->exchange.missing != 0 ? receive_body(leg, clock)
                                                  : receive(leg, may_wait, clock);
}

mc_status mc_leg_move(mc_leg *leg, mc_clock *clock)
{
    mc_status status = mc_leg_send(leg, clock);

    if (status != MC_OK || mc_exchange_is_done(&leg->exchange) || mc_leg_wants_more(leg)) {
        return status;
    }
    return mc_leg_receive(leg, clock);
}

/* Sends what goes out at once. True where something happened that the caller wants to know. */
static bool push(mc_leg *leg)
{
    mc_clock none = {.timeout = 0, .late = true}; /* no time to wait: EAGAIN is MC_TIMEOUT */
    mc_status status;

    do {
        status = mc_leg_send(leg, &none);
    } while (status == MC_INTERRUPTED);
    if (status == MC_TIMEOUT) {
        return false;
    }
    mc_leg_fail(leg, status);
    /* Where nothing is to come, there is nothing to wait for. */
    return status != MC_OK || mc_leg_wants_more(leg) || mc_exchange_is_done(&leg->exchange);
}

/* Receives what has come. */
static bool pull(mc_leg *leg)
{
    mc_clock none = {.timeout = 0, .late = true};
    mc_status status = mc_leg_receive(leg, &none);

    if (status != MC_TIMEOUT && status != MC_INTERRUPTED) {
        mc_leg_fail(leg, status);
    }
    return status == MC_OK;
}

/* The only one that runs, and all is sent: it waits in its receive. */
static mc_status wait_alone(mc_leg *leg, bool *arrived, mc_clock *clock)
{
    mc_status status = mc_leg_receive(leg, clock);

    if (status == MC_INTERRUPTED || status == MC_TIMEOUT || status == MC_NO_MEMORY) {
        return status;
    }
    mc_leg_fail(leg, status);
    *arrived = status == MC_OK;
    return MC_OK;
}

mc_status mc_fanout_wait(struct pollfd *polls, size_t count, mc_clock *clock)
{
    int64_t left = mc_clock_left(clock, mc_clock_now());

    clock->late = true;
    if (left == 0) {
        return MC_TIMEOUT;
    }
    int ready = poll(polls, (nfds_t)count, mc_clock_poll_timeout(left));

    if (ready < 0) {
        return errno == EINTR ? MC_INTERRUPTED : MC_NO_MEMORY;
    }
    return ready == 0 ? MC_TIMEOUT : MC_OK;
}

static bool has_raised(const mc_leg *leg)
{
    return mc_leg_is_over(leg) && leg->verdict.status == MC_RAISED;
}

/* What of a leg can be done without waiting. True where that is something; else *entry is what it
 * waits for. */
static bool begin_one(mc_leg *leg, struct pollfd *entry, bool *arrived)
{
    if (mc_connection_is_lost(leg->connection)) { /* there is nothing to wait for */
        mc_leg_fail(leg, MC_CLOSED);
        return true;
    }
    bool moved = push(leg);

    if (mc_leg_is_running(leg) && leg->connection->more) {
        *arrived = pull(leg);
        moved = true;
    }
    *entry = (struct pollfd){leg->connection->fd,
                             (short)(POLLIN | (leg->piece_count > 0 ? POLLOUT : 0)), 0};
    return moved;
}

mc_status mc_fanout_begin(mc_leg *const *legs, size_t count, struct pollfd *polls, bool *arrived)
{
    mc_status status = MC_OK; /* nobody runs */
    bool moved = false;

    for (size_t i = 0; i < count; i++) {
        arrived[i] = false;
        polls[i].fd = -1;
        if (mc_leg_is_running(legs[i]) && !legs[i]->in_turn) {
            moved |= begin_one(legs[i], &polls[i], &arrived[i]);
            if (has_raised(legs[i])) {
                return MC_RAISED;
            }
            status = MC_AGAIN;
        }
    }
    return moved ? MC_OK : status;
}

mc_status mc_fanout_end(mc_leg *const *legs, size_t count, const struct pollfd *polls,
                        bool *arrived)
{
    for (size_t i = 0; i < count; i++) {
        if (polls[i].fd >= 0 && (polls[i].revents & ~POLLOUT)) {
            arrived[i] = pull(legs[i]);
            if (has_raised(legs[i])) {
                return MC_RAISED;
            }
        }
    }
    return MC_OK;
}

/* The only leg that is waited for, if all of it is sent; else count. */
static size_t find_alone(mc_leg *const *legs, size_t count, const struct pollfd *polls)
{
    size_t alone = count;

    for (size_t i = 0; i < count; i++) {
        if (polls[i].fd >= 0) {
            if (alone != count || legs[i]->piece_count > 0) {
                return count;
            }
            alone = i;
        }
    }
    return alone;
}

mc_status mc_fanout_step(mc_leg *const *legs, size_t count, struct pollfd *polls, bool *arrived,
                         mc_clock *clock)
{
    mc_status status = mc_fanout_begin(legs, count, polls, arrived);

    if (status != MC_AGAIN) {
        return status;
    }
    size_t alone = find_alone(legs, count, polls);

    if (alone != count) {
        return wait_alone(legs[alone], &arrived[alone], clock);
    }
    status = mc_fanout_wait(polls, count, clock);
    return status == MC_OK ? mc_fanout_end(legs, count, polls, arrived) : status;
}
