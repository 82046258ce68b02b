#include "core/net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/net/system.h"
#include "core/wire/apart.h"
#include "core/wire/number.h"

/* Between two attempts at a Unix socket whose server has too many callers waiting already. */
#define PAUSE (MC_SECOND / 1000)

/* A Unix socket takes 208 kB by default, whatever is on its way; TCP finds its own measure. */
#define UNIX_SEND_BUFFER (1 << 20)

static mc_status from_errno(mc_connection *connection)
{
    int error = errno;

    connection->error = error;
    switch (error) {
    case EINTR:
        return MC_INTERRUPTED;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
        return MC_CLOSED;
    case ENOMEM:
        return MC_NO_MEMORY;
    case ETIMEDOUT:
        return MC_TIMEOUT;
    default:
        return MC_FAILED;
    }
}

static mc_status wait_for(mc_connection *connection, short events, mc_clock *clock)
{
    struct pollfd wanted = {connection->fd, events, 0};
    int64_t left = mc_clock_left(clock, mc_clock_now());

    if (left == 0) {
        return MC_TIMEOUT;
    }
    int ready = poll(&wanted, 1, mc_clock_poll_timeout(left));

    if (ready < 0) {
        return from_errno(connection);
    }
    return ready == 0 ? MC_TIMEOUT : MC_OK;
}

static int set_timeout(int fd, int option, int64_t timeout)
{
    struct timeval value = {0, 0};

    if (timeout != MC_NO_TIMEOUT && timeout != INT64_MAX) {
        value.tv_sec = (time_t)(timeout / MC_SECOND);
        value.tv_usec = (suseconds_t)(timeout % MC_SECOND / 1000);
        if (value.tv_sec == 0 && value.tv_usec == 0) {
            value.tv_usec = 1;
        }
    }
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
}

static mc_status set_receive_timeout(mc_connection *connection, int64_t timeout)
{
    if (connection->receive_timeout == timeout) {
        return MC_OK;
    }
    if (set_timeout(connection->fd, SO_RCVTIMEO, timeout) < 0) {
        return from_errno(connection);
    }
    connection->receive_timeout = timeout;
    return MC_OK;
}

/* ---- connect ------------------------------------------------------------------------------ */

static void close_attempt(mc_connecting *state)
{
    if (state->fd >= 0) {
        close(state->fd);
        state->fd = -1;
    }
}

void mc_connecting_fini(mc_connecting *state)
{
    close_attempt(state);
    state->since = 0; /* what comes before another connect is not its time */
    state->wait_to_read = false;
    if (state->list != NULL) {
        freeaddrinfo(state->list);
        state->list = state->next = NULL;
    }
}

void mc_connecting_spend(mc_connecting *state, mc_clock *clock)
{
    int64_t now = mc_clock_now();

    if (state->since != 0) {
        clock->connecting += now - state->since;
    }
    state->since = now;
}

/* A stream that just came to be: options, blocking mode, a clean state. */
static mc_status adopt(mc_connection *connection, mc_connecting *state, int family)
{
    int on = 1, room = UNIX_SEND_BUFFER;
    int fd = state->fd;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        return from_errno(connection);
    }
    /* A wish: the system may have a smaller limit. */
    if (family == AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0) {
        return from_errno(connection);
    }
    if (family != AF_UNIX && (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
                              setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) < 0)) {
        return from_errno(connection);
    }
    state->fd = -1;
    connection->fd = fd;
    connection->receive_timeout = MC_NO_TIMEOUT;
    return MC_OK;
}

/* A Unix socket connects at once; where its server has too many callers waiting already there is no
 * event to wait for. */
static mc_status connect_unix(mc_connection *connection, mc_connecting *state, const char *path,
                              mc_clock *clock)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int64_t left = mc_clock_connect_left(clock);

    if (left == 0) {
        return MC_TIMEOUT;
    }
    if (state->fd < 0) {
        state->fd = mc_stream_socket(AF_UNIX);
    }
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (state->fd < 0 || connect(state->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno == EAGAIN || errno == EINPROGRESS) {
            state->wait_fd = -1;
            state->wait_until = state->since + (left < PAUSE ? left : PAUSE);
            return MC_AGAIN;
        }
        mc_status status = from_errno(connection);
        return status == MC_INTERRUPTED ? status : MC_FAILED;
    }
    return adopt(connection, state, AF_UNIX);
}

static mc_status resolve(mc_connection *connection, mc_connecting *state, const mc_endpoint *to)
{
    char service[MC_NUMBER_MAX_DIGITS + 1];
    struct addrinfo hints = {.ai_family = to->family == MC_FAMILY_INET6 ? AF_INET6 : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    service[mc_number_format(service, to->port)] = '\0';
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    int wrong = getaddrinfo(to->host, service, &hints, &list);
    if (wrong != 0) {
        hints.ai_flags = AI_NUMERICSERV;
        wrong = getaddrinfo(to->host, service, &hints, &list);
    }
    connection->resolver_error = wrong;
    if (wrong != 0) {
        connection->error = errno;
        return wrong == EAI_MEMORY ? MC_NO_MEMORY : MC_FAILED;
    }
    state->list = state->next = list;
    return MC_OK;
}

/* Begins to connect to state->next. MC_OK: connected or under way. */
static mc_status begin_attempt(mc_connection *connection, mc_connecting *state, mc_clock *clock)
{
    const struct addrinfo *address = state->next;
    int64_t share = mc_clock_connect_left(clock);
    int addresses = 0;

    for (const struct addrinfo *each = address; each != NULL; each = each->ai_next) {
        addresses++;
    }
    if (share == 0) {
        return MC_TIMEOUT;
    }
    state->wait_until = share == INT64_MAX ? INT64_MAX : mc_clock_now() + share / addresses;
    state->fd = mc_stream_socket(address->ai_family);
    if (state->fd < 0) {
        connection->error = errno;
        return MC_FAILED;
    }
    if (connect(state->fd, address->ai_addr, address->ai_addrlen) < 0 && errno != EINPROGRESS &&
        errno != EINTR) {
        connection->error = errno;
        return MC_FAILED;
    }
    return MC_OK;
}

/* MC_AGAIN: it is still under way. */
static mc_status finish_attempt(mc_connection *connection, mc_connecting *state)
{
    struct pollfd wanted = {state->fd, POLLOUT, 0};
    int error = 0;
    socklen_t size = sizeof error;
    int ready = poll(&wanted, 1, 0);

    if (ready < 0) {
        return from_errno(connection);
    }
    if (ready == 0) {
        state->wait_fd = state->fd;
        return state->wait_until <= mc_clock_now() ? MC_TIMEOUT : MC_AGAIN;
    }
    if (getsockopt(state->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        error = errno;
    }
    connection->error = error;
    return error == 0 ? MC_OK : MC_FAILED;
}

static mc_status try_addresses(mc_connection *connection, mc_connecting *state, mc_clock *clock)
{
    mc_status status = MC_FAILED;

    while (state->next != NULL) {
        const struct addrinfo *address = state->next;

        status = state->fd >= 0 ? MC_OK : begin_attempt(connection, state, clock);
        if (status == MC_OK) {
            status = finish_attempt(connection, state);
        }
        mc_connecting_spend(state, clock); /* the next one shares what is left */
        if (status == MC_OK) {
            return adopt(connection, state, address->ai_family);
        }
        if (status == MC_AGAIN || status == MC_INTERRUPTED || status == MC_NO_MEMORY) {
            return status;
        }
        close_attempt(state);
        state->next = address->ai_next;
    }
    return status;
}

static mc_status native_connect(mc_connection *connection, mc_connecting *state,
                                const mc_endpoint *to, mc_clock *clock)
{
    mc_status status = MC_OK;

    mc_connecting_spend(state, clock);
    if (to->family == MC_FAMILY_UNIX) {
        status = connect_unix(connection, state, to->host, clock);
        mc_connecting_spend(state, clock);
        return status;
    }
    if (state->list == NULL) {
        /* A look-up cannot be interrupted and stands outside the deadline. */
        status = resolve(connection, state, to);
        int64_t now = mc_clock_now();

        clock->start += now - state->since;
        state->since = now;
    }
    return status == MC_OK ? try_addresses(connection, state, clock) : status;
}

/* ---- bytes -------------------------------------------------------------------------------- */

static MC_APART ssize_t send_pieces(int fd, struct iovec *pieces, int count)
{
    struct msghdr message = {.msg_iov = pieces,
                             .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX)};

    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What a send or receive that moved nothing means: MC_OK where it is to be tried again, since what
 * it had to wait for is there now. */
static MC_APART mc_status wait_after(mc_connection *connection, short events, mc_clock *clock)
{
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
        return from_errno(connection);
    }
    clock->late = true;
    return wait_for(connection, events, clock);
}

static mc_status native_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock)
{
    for (;;) {
        ssize_t sent = count == 1 ? send(connection->fd, pieces->iov_base, pieces->iov_len,
                                         MSG_NOSIGNAL | MSG_DONTWAIT)
                                  : send_pieces(connection->fd, pieces, count);

        if (sent >= 0) {
            *moved = (size_t)sent;
            return MC_OK;
        }
        mc_status status = wait_after(connection, POLLOUT, clock);
        if (status != MC_OK) {
            return status;
        }
    }
}

static MC_APART ssize_t receive_pieces(int fd, struct iovec *pieces, int count, int flags)
{
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};

    return recvmsg(fd, &message, flags);
}

/* How the next receive waits: in the system's own time limit, at first and for all that is to come;
 * else, where time may have been lost, it does not, and the caller polls. */
static mc_status prepare_receive(mc_connection *connection, bool all, mc_clock *clock, int *flags)
{
    int64_t left;

    if (!all && !clock->late) {
        *flags = 0;
        return set_receive_timeout(connection, clock->timeout);
    }
    left = all || clock->timeout > 0 ? mc_clock_left(clock, mc_clock_now()) : INT64_MAX;
    /* A peer that always has a byte more would never let us wait, nor look at the clock. */
    if (left == 0) {
        return MC_TIMEOUT;
    }
    *flags = all ? MSG_WAITALL : MSG_DONTWAIT;
    return all ? set_receive_timeout(connection, left) : MC_OK;
}

static mc_status native_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock)
{
    for (;;) {
        int flags;
        bool waits = !clock->late || all;
        mc_status status = prepare_receive(connection, all, clock, &flags);

        if (status != MC_OK) {
            return status;
        }
        ssize_t got = count == 1 ? recv(connection->fd, pieces->iov_base, pieces->iov_len, flags)
                                 : receive_pieces(connection->fd, pieces, count, flags);

        clock->late = true;
        if (got > 0) {
            *moved = (size_t)got;
            return MC_OK;
        }
        if (got == 0) {
            return MC_CLOSED;
        }
        if (waits && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return MC_TIMEOUT;
        }
        status = wait_after(connection, POLLIN, clock);
        if (status != MC_OK) {
            return status;
        }
    }
}

bool mc_socket_is_quiet(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

static bool native_is_quiet(mc_connection *connection)
{
    return mc_socket_is_quiet(connection->fd);
}

static void native_close(mc_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
}

const mc_transport mc_native_transport = {
    .is_free = true,
    .is_pollable = true,
    .waits_for_all = true,
    .connect = native_connect,
    .send = native_send,
    .receive = native_receive,
    .is_quiet = native_is_quiet,
    .close = native_close,
};
