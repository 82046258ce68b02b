#include "core/flow/fanout.h"

#include <errno.h>

/* Sends what goes out at once. True where something happened that the caller wants to know. */
static bool push(mc_leg *leg)
{
    mc_clock none = {.timeout = 0, .late = true}; /* no time to wait: EAGAIN is MC_TIMEOUT */
    size_t moved = 0;

    if (leg->count == 0) {
        return leg->more;
    }
    do {
        leg->status =
            mc_connection_send_some(leg->connection, leg->pieces, leg->count, &moved, &none);
        if (leg->status == MC_OK) {
            mc_pieces_advance(&leg->pieces, &leg->count, moved);
        }
    } while (leg->status == MC_INTERRUPTED || (leg->status == MC_OK && leg->count > 0));
    if (leg->status == MC_TIMEOUT) {
        leg->status = MC_OK;
        return false;
    }
    return leg->status != MC_OK || leg->more;
}

mc_status mc_fanout_step(mc_leg *const *legs, size_t count, struct pollfd *polls, mc_clock *clock)
{
    bool moved = false;
    size_t active = 0;
    mc_leg *last = NULL;

    for (size_t i = 0; i < count; i++) {
        mc_leg *leg = legs[i];

        leg->arrived = false;
        polls[i].fd = -1;
        if (leg->connection == NULL) {
            continue;
        }
        leg->status = MC_OK;
        if (mc_connection_is_lost(leg->connection)) { /* there is nothing to wait for */
            leg->status = MC_CLOSED;
            moved = true;
            continue;
        }
        moved |= push(leg);
        moved |= leg->count == 0 && mc_exchange_is_done(&leg->exchange); /* nothing to wait for */
        active++;
        last = leg;
        polls[i].fd = leg->connection->fd;
        polls[i].events = (short)(POLLIN | (leg->count > 0 ? POLLOUT : 0));
        polls[i].revents = 0;
    }
    if (moved || active == 0) {
        return MC_OK;
    }
    if (active == 1 && last->count == 0) {
        mc_status status = mc_connection_receive(last->connection, &last->exchange, clock);

        if (status == MC_INTERRUPTED || status == MC_TIMEOUT || status == MC_NO_MEMORY) {
            return status;
        }
        last->status = status;
        last->arrived = status == MC_OK;
        return MC_OK;
    }
    int64_t left = mc_clock_left(clock, mc_clock_now());

    clock->late = true;
    if (left == 0) {
        return MC_TIMEOUT;
    }
    int ready = poll(polls, (nfds_t)count, mc_clock_poll_timeout(left));
    if (ready < 0) {
        return errno == EINTR ? MC_INTERRUPTED : MC_NO_MEMORY;
    }
    if (ready == 0) {
        return MC_TIMEOUT;
    }
    for (size_t i = 0; i < count; i++) {
        mc_clock none = {.timeout = 0, .late = true};
        mc_leg *leg = legs[i];

        if (polls[i].fd < 0 || !(polls[i].revents & ~POLLOUT)) {
            continue;
        }
        leg->status = mc_connection_receive(leg->connection, &leg->exchange, &none);
        leg->arrived = leg->status == MC_OK;
        if (leg->status == MC_TIMEOUT || leg->status == MC_INTERRUPTED) {
            leg->status = MC_OK;
        }
    }
    return MC_OK;
}
