#include "core/net/connection.h"

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

#include "core/wire/number.h"

/* What one receive asks for at least. */
#define SMALL_INPUT ((size_t)2048)
#define LARGE_INPUT ((size_t)65536) /* where so many replies are awaited: */
#define MANY_REPLIES 8

/* From this size on a body is worth a receive of its own that waits for all of it. */
#define WHOLE_BODY ((size_t)16384)

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

void mc_connecting_fini(mc_connecting *state)
{
    if (state->fd >= 0) {
        close(state->fd);
        state->fd = -1;
    }
    if (state->list != NULL) {
        freeaddrinfo(state->list);
        state->list = state->next = NULL;
    }
}

/* A stream that just came to be: options, blocking mode, a clean state. */
static mc_status adopt(mc_connection *connection, mc_connecting *state, int family)
{
    int on = 1, room = UNIX_SEND_BUFFER;
    int fd = state->fd;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        set_timeout(fd, SO_SNDTIMEO, MC_NO_TIMEOUT) < 0) {
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
    connection->transport = &mc_native_transport;
    connection->receive_timeout = connection->send_timeout = MC_NO_TIMEOUT;
    return MC_OK;
}

static mc_status connect_unix(mc_connection *connection, mc_connecting *state, const char *path,
                              mc_clock *clock)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int64_t left = mc_clock_connect_left(clock);

    if (left == 0) {
        return MC_TIMEOUT;
    }
    /* Unix sockets connect at once or, where the backlog is full, after SO_SNDTIMEO; a
     * non-blocking connect could not be waited for. */
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    state->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (state->fd < 0 || set_timeout(state->fd, SO_SNDTIMEO, left) < 0 ||
        connect(state->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno == EAGAIN || errno == EINPROGRESS) {
            return MC_TIMEOUT;
        }
        mc_status status = from_errno(connection);
        return status == MC_INTERRUPTED ? status : MC_FAILED;
    }
    return adopt(connection, state, AF_UNIX);
}

static mc_status resolve(mc_connection *connection, mc_connecting *state, int family,
                         const char *host, uint16_t port)
{
    char service[MC_NUMBER_MAX_DIGITS + 1];
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    service[mc_number_format(service, port)] = '\0';
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    int wrong = getaddrinfo(host, service, &hints, &list);
    if (wrong != 0) {
        hints.ai_flags = AI_NUMERICSERV;
        wrong = getaddrinfo(host, service, &hints, &list);
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
    state->attempt_until = share == INT64_MAX ? INT64_MAX : mc_clock_now() + share / addresses;
    state->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

static mc_status finish_attempt(mc_connection *connection, mc_connecting *state)
{
    struct pollfd wanted = {state->fd, POLLOUT, 0};
    int64_t left = INT64_MAX;
    int error = 0;
    socklen_t size = sizeof error;

    if (state->attempt_until != INT64_MAX) {
        left = state->attempt_until - mc_clock_now();
        if (left <= 0) {
            return MC_TIMEOUT;
        }
    }
    int ready = poll(&wanted, 1, mc_clock_poll_timeout(left));
    if (ready < 0) {
        return from_errno(connection);
    }
    if (ready == 0) {
        return MC_TIMEOUT;
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
        struct addrinfo *address = state->next;
        int64_t before = mc_clock_now();

        status = state->fd >= 0 ? MC_OK : begin_attempt(connection, state, clock);
        if (status == MC_OK) {
            status = finish_attempt(connection, state);
        }
        clock->connecting += mc_clock_now() - before; /* the next one shares what is left */
        if (status == MC_OK) {
            return adopt(connection, state, address->ai_family);
        }
        if (status == MC_INTERRUPTED || status == MC_NO_MEMORY) {
            return status;
        }
        if (state->fd >= 0) {
            close(state->fd);
            state->fd = -1;
        }
        state->next = address->ai_next;
    }
    return status;
}

mc_status mc_connection_connect(mc_connection *connection, mc_connecting *state,
                                mc_address_family family, const char *host, uint16_t port,
                                mc_clock *clock)
{
    mc_status status = MC_OK;

    connection->resolver_error = 0;
    connection->error = 0;
    clock->late = true;
    if (state->list == NULL && family != MC_FAMILY_UNIX) {
        /* A look-up cannot be interrupted and stands outside the deadline. */
        int64_t before = mc_clock_now();

        status = resolve(connection, state, family == MC_FAMILY_INET6 ? AF_INET6 : AF_UNSPEC, host,
                         port);
        clock->start += mc_clock_now() - before;
        if (status != MC_OK) {
            return status;
        }
    }
    if (family == MC_FAMILY_UNIX) {
        int64_t before = mc_clock_now();

        status = connect_unix(connection, state, host, clock);
        clock->connecting += mc_clock_now() - before;
        if (status != MC_OK && state->fd >= 0) {
            close(state->fd);
            state->fd = -1;
        }
    }
    else {
        status = try_addresses(connection, state, clock);
    }
    if (status != MC_INTERRUPTED) {
        mc_connecting_fini(state);
    }
    if (status == MC_OK) {
        atomic_store_explicit(&connection->open, 1, memory_order_relaxed);
    }
    return status;
}

/* ---- bytes -------------------------------------------------------------------------------- */

void mc_pieces_advance(struct iovec **pieces, int *count, size_t moved)
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

static mc_status native_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock)
{
    ssize_t sent;

    for (;;) {
        if (count == 1) {
            sent = send(connection->fd, pieces->iov_base, pieces->iov_len,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        else {
            struct msghdr message = {.msg_iov = pieces,
                                     .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX)};
            sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        if (sent >= 0) {
            *moved = (size_t)sent;
            return MC_OK;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            return from_errno(connection);
        }
        clock->late = true;
        mc_status status = wait_for(connection, POLLOUT, clock);
        if (status != MC_OK) {
            return status;
        }
    }
}

static mc_status native_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock)
{
    for (;;) {
        ssize_t got;
        int flags = 0;

        if (all) {
            int64_t left = mc_clock_left(clock, mc_clock_now());

            if (left == 0) {
                return MC_TIMEOUT;
            }
            mc_status status = set_receive_timeout(connection, left);
            if (status != MC_OK) {
                return status;
            }
            flags = MSG_WAITALL;
        }
        else if (clock->late) {
            /* A peer that always has a byte more would never let us wait, nor look at the clock. */
            if (clock->timeout > 0 && mc_clock_left(clock, mc_clock_now()) == 0) {
                return MC_TIMEOUT;
            }
            flags = MSG_DONTWAIT;
        }
        else {
            mc_status status = set_receive_timeout(connection, clock->timeout);
            if (status != MC_OK) {
                return status;
            }
        }
        if (count == 1) {
            got = recv(connection->fd, pieces->iov_base, pieces->iov_len, flags);
        }
        else {
            struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
            got = recvmsg(connection->fd, &message, flags);
        }
        bool waited = !clock->late || all;
        clock->late = true;
        if (got > 0) {
            *moved = (size_t)got;
            return MC_OK;
        }
        if (got == 0) {
            return MC_CLOSED;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            return from_errno(connection);
        }
        if (waited) {
            return MC_TIMEOUT;
        }
        mc_status status = wait_for(connection, POLLIN, clock);
        if (status != MC_OK) {
            return status;
        }
    }
}

static void native_close(mc_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
}

const mc_transport mc_native_transport = {native_send, native_receive, native_close};

mc_status mc_connection_send_some(mc_connection *connection, struct iovec *pieces, int count,
                                  size_t *moved, mc_clock *clock)
{
    if (mc_connection_is_lost(connection)) {
        return MC_CLOSED;
    }
    return connection->transport->send(connection, pieces, count, moved, clock);
}

mc_status mc_connection_send(mc_connection *connection, struct iovec **pieces, int *count,
                             mc_clock *clock)
{
    while (*count > 0) {
        size_t moved = 0;
        mc_status status = mc_connection_send_some(connection, *pieces, *count, &moved, clock);

        if (status != MC_OK) {
            return status;
        }
        mc_pieces_advance(pieces, count, moved);
    }
    return MC_OK;
}

mc_status mc_connection_receive(mc_connection *connection, mc_exchange *exchange, mc_clock *clock)
{
    struct iovec pieces[2];
    int count = 0;
    size_t moved = 0;
    size_t body = exchange->missing;
    size_t small = exchange->replies > MANY_REPLIES ? LARGE_INPUT : SMALL_INPUT;
    bool all = false;

    if (mc_connection_is_lost(connection)) {
        return MC_CLOSED;
    }
    if (body != 0) {
        pieces[count].iov_base = exchange->room;
        pieces[count++].iov_len = body;
        if (body >= WHOLE_BODY && exchange->replies == 1 && clock->timeout != 0 &&
            connection->transport == &mc_native_transport) {
            /* The rest of the reply is known to the byte: CRLF END CRLF. */
            all = true;
            small = 7;
        }
    }
    char *room = mc_buffer_reserve(&connection->in, small);
    if (room == NULL) {
        return MC_NO_MEMORY;
    }
    pieces[count].iov_base = room;
    pieces[count++].iov_len = all ? small : connection->in.capacity - connection->in.end;

    mc_status status =
        connection->transport->receive(connection, pieces, count, &moved, all, clock);
    if (status != MC_OK) {
        return status;
    }
    if (body != 0) {
        size_t into_body = moved < body ? moved : body;

        mc_exchange_put(exchange, into_body);
        moved -= into_body;
    }
    mc_buffer_commit(&connection->in, moved);
    if (all && moved == small) { /* what stands behind it was not asked for */
        exchange->suspect |= !mc_connection_is_quiet(connection);
    }
    return MC_OK;
}

/* The rest of a round trip that was not plain. */
static mc_status finish_roundtrip(mc_connection *connection, mc_clock *clock)
{
    mc_buffer *out = &connection->out;
    mc_exchange none;

    while (mc_buffer_length(out) != 0) {
        struct iovec piece = {(void *)mc_buffer_bytes(out), mc_buffer_length(out)};
        size_t moved = 0;
        mc_status status = native_send(connection, &piece, 1, &moved, clock);

        if (status != MC_OK) {
            return status;
        }
        mc_buffer_consume(out, moved);
    }
    mc_exchange_init(&none, &connection->in, MC_VERSION, NULL, 0, false);
    return mc_connection_receive(connection, &none, clock);
}

mc_status mc_connection_roundtrip(mc_connection *connection, mc_clock *clock)
{
    mc_buffer *out = &connection->out;
    size_t length = mc_buffer_length(out);
    ssize_t moved;

    if (mc_connection_is_lost(connection)) {
        return MC_CLOSED;
    }
    char *room = mc_buffer_reserve(&connection->in, SMALL_INPUT);
    if (room == NULL) {
        return MC_NO_MEMORY;
    }
    if (clock->late || connection->receive_timeout != clock->timeout || length == 0) {
        return finish_roundtrip(connection, clock);
    }
    moved = send(connection->fd, mc_buffer_bytes(out), length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (moved != (ssize_t)length) {
        if (moved < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            return from_errno(connection);
        }
        mc_buffer_consume(out, moved > 0 ? (size_t)moved : 0);
        clock->late = true;
        return finish_roundtrip(connection, clock);
    }
    mc_buffer_clear(out);
    moved = recv(connection->fd, room, connection->in.capacity - connection->in.end, 0);
    clock->late = true;
    if (moved > 0) {
        mc_buffer_commit(&connection->in, (size_t)moved);
        return MC_OK;
    }
    if (moved == 0) {
        return MC_CLOSED;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? MC_TIMEOUT : from_errno(connection);
}

bool mc_connection_is_quiet(mc_connection *connection)
{
    char byte;

    if (mc_connection_is_lost(connection)) {
        return false;
    }
    if (connection->fd < 0) {
        return true;
    }
    return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

void mc_connection_shut(mc_connection *connection)
{
    if (atomic_load_explicit(&connection->open, memory_order_relaxed)) {
        atomic_store_explicit(&connection->open, 0, memory_order_relaxed);
        connection->transport->close(connection);
    }
}

void mc_connection_close(mc_connection *connection)
{
    mc_connection_shut(connection);
    mc_buffer_fini(&connection->in);
    mc_buffer_fini(&connection->out);
    connection->unanswered = 0;
}
