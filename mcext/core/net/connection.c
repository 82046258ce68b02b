#include "core/net/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "core/wire/apart.h"

/* A time that is over is the transport's to notice. */
mc_status mc_connecting_wait(mc_connection *connection, mc_connecting *state)
{
    struct pollfd wanted = {state->wait_fd, state->wait_to_read ? POLLIN : POLLOUT, 0};
    int64_t left = INT64_MAX;

    if (state->wait_until != INT64_MAX) {
        left = state->wait_until - mc_clock_now();
    }
    if (left > 0 && poll(&wanted, 1, mc_clock_poll_timeout(left)) < 0) {
        connection->error = errno;
        if (errno == EINTR) {
            return MC_INTERRUPTED;
        }
        mc_connecting_fini(state);
        return connection->error == ENOMEM ? MC_NO_MEMORY : MC_FAILED;
    }
    return MC_OK;
}

mc_status mc_connection_connect_step(mc_connection *connection, mc_connecting *state,
                                     const mc_endpoint *to, mc_clock *clock)
{
    connection->resolver_error = 0;
    connection->error = 0;
    clock->late = true;

    mc_status status = connection->transport->connect(connection, state, to, clock);

    if (status != MC_AGAIN && status != MC_INTERRUPTED) {
        mc_connecting_fini(state);
    }
    if (status == MC_OK) {
        connection->open = true;
    }
    return status;
}

mc_status mc_connection_connect(mc_connection *connection, mc_connecting *state,
                                const mc_endpoint *to, mc_clock *clock)
{
    for (;;) {
        mc_status status = mc_connection_connect_step(connection, state, to, clock);

        if (status != MC_AGAIN) {
            return status;
        }
        status = mc_connecting_wait(connection, state);
        if (status != MC_OK) {
            return status;
        }
    }
}

MC_APART void mc_pieces_advance(struct iovec **pieces, int *count, size_t moved)
{
    while (*count > 0 && moved >= (*pieces)->iov_len) {
        moved -= (*pieces)->iov_len;
        (*pieces)++;
        (*count)--;
    }
    if (moved > 0) {
        (*pieces)->iov_base = (char *)(*pieces)->iov_base + moved;
        (*pieces)->iov_len -= moved;
    }
}

mc_status mc_connection_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock)
{
    if (mc_connection_is_lost(connection)) {
        return MC_CLOSED;
    }
    return connection->transport->send(connection, pieces, count, moved, clock);
}

mc_status mc_connection_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock)
{
    if (mc_connection_is_lost(connection)) {
        return MC_CLOSED;
    }
    return connection->transport->receive(connection, pieces, count, moved, all, clock);
}

bool mc_connection_is_quiet(mc_connection *connection)
{
    return !mc_connection_is_lost(connection) && connection->transport->is_quiet(connection);
}

void mc_connection_shut(mc_connection *connection)
{
    if (connection->open) {
        connection->open = connection->more = connection->in_records = false;
        connection->transport->close(connection);
    }
}

void mc_connection_close(mc_connection *connection)
{
    mc_connection_shut(connection);
    mc_buffer_fini(&connection->in);
    mc_buffer_fini(&connection->out);
    free(connection->problem);
    connection->problem = NULL;
    connection->unanswered = 0;
}
