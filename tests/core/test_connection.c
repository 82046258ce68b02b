/* The promises of mcext/core/net/connection.h and fanout.h: bytes move whole or the call knows why
 * not, and nothing waits past its time. */
#define _GNU_SOURCE
#include "core/net/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "check.h"
#include "core/fleet/pool.h"
#include "core/net/process.h"
#include "moves.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND)    /* never reached */
#define SHORT (50 * MILLISECOND) /* always reached */
#define MEGABYTE ((size_t)1 << 20)

static mc_pool pool;

typedef struct {
    int fd;
    uint16_t port;
} listener;

static listener listen_on_loopback(int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener made = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 0};

    CHECK(made.fd >= 0 && bind(made.fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(made.fd, backlog) == 0);
    CHECK(getsockname(made.fd, (struct sockaddr *)&address, &size) == 0);
    made.port = ntohs(address.sin_port);
    return made;
}

static mc_status connect_to(mc_connection *connection, mc_address_family family, const char *host,
                            uint16_t port, int64_t timeout)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_clock clock;
    mc_status status;

    mc_clock_start(&clock, timeout, timeout);
    connection->transport = &mc_native_transport;
    status = mc_connection_connect(connection, &state, &(mc_endpoint){family, host, port}, &clock);
    if (status == MC_OK) {
        mc_pool_opened(connection);
    }
    mc_connecting_fini(&state);
    return status;
}

/* A connection of the pool and the server's end of it. */
static mc_connection *pair(int *peer)
{
    mc_connection *connection = mc_pool_take(&pool, NULL, 0);
    int ends[2];

    CHECK(connection != NULL && !connection->open);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    connection->fd = ends[0];
    connection->transport = &mc_native_transport;
    connection->receive_timeout = MC_NO_TIMEOUT;
    mc_pool_opened(connection);
    *peer = ends[1];
    return connection;
}

static void drop(mc_connection *connection, int peer)
{
    mc_pool_give(connection, false, 0);
    if (peer >= 0) {
        close(peer);
    }
}

static void tcp_connects_to_a_name_and_to_a_number(void)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};

    for (size_t i = 0; i < 2; i++) {
        listener server = listen_on_loopback(5);
        mc_connection *connection = mc_pool_take(&pool, NULL, 0);

        CHECK(connect_to(connection, MC_FAMILY_INET, hosts[i], server.port, LONG) == MC_OK);
        int peer = accept(server.fd, NULL, NULL);
        int on = 0;
        socklen_t size = sizeof on;
        CHECK(getsockopt(connection->fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, &size) == 0 && on);
        CHECK(getsockopt(connection->fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0 && on);
        CHECK(mc_connection_is_quiet(connection));
        drop(connection, peer);
        close(server.fd);
    }
}

static void a_refused_connect_fails_with_its_errno(void)
{
    listener server = listen_on_loopback(5);
    mc_connection *connection = mc_pool_take(&pool, NULL, 0);

    close(server.fd);
    CHECK(connect_to(connection, MC_FAMILY_INET, "127.0.0.1", server.port, LONG) == MC_FAILED);
    CHECK_NUMBER(connection->error, ECONNREFUSED);
    CHECK(!connection->open && connection->fd == -1);
    drop(connection, -1);
}

static void a_name_that_is_none_fails_with_the_resolvers_error(void)
{
    mc_connection *connection = mc_pool_take(&pool, NULL, 0);

    CHECK(connect_to(connection, MC_FAMILY_INET6, "no address at all", 1, LONG) == MC_FAILED);
    CHECK(connection->resolver_error != 0);
    drop(connection, -1);
}

static void a_full_backlog_ends_with_the_connect_budget(void)
{
    /* Nobody accepts and the backlog is full: the handshake is not answered. */
    listener server = listen_on_loopback(0);
    mc_connection *held[8];
    mc_status status = MC_OK;
    size_t count = 0;

    while (status == MC_OK && count < 8) {
        held[count] = mc_pool_take(&pool, NULL, 0);
        status = connect_to(held[count++], MC_FAMILY_INET, "127.0.0.1", server.port, SHORT);
    }
    CHECK(status == MC_TIMEOUT);
    while (count > 0) {
        drop(held[--count], -1);
    }
    close(server.fd);
}

/* Not looked at where the addresses are there already. */
static const mc_endpoint nowhere = {MC_FAMILY_INET, "", 0};

/* A name with so many addresses, each of them the listener's. */
static struct addrinfo *addresses_of(listener server, int count)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    char service[8];

    snprintf(service, sizeof service, "%u", server.port);
    while (count-- > 0) {
        struct addrinfo *one = NULL;

        CHECK(getaddrinfo("127.0.0.1", service, &hints, &one) == 0 && one->ai_next == NULL);
        one->ai_next = all;
        all = one;
    }
    return all;
}

static void all_addresses_of_a_name_share_one_connect_budget(void)
{
    const int64_t budget = 4 * SHORT;
    listener server = listen_on_loopback(0);
    mc_connection *held[8];
    mc_status status = MC_OK;
    size_t count = 0;

    while (status == MC_OK && count < 8) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_clock clock;
        int64_t before = mc_clock_now();

        held[count] = mc_pool_take(&pool, NULL, 0);
        held[count]->transport = &mc_native_transport;
        state.list = state.next = addresses_of(server, 4);
        mc_clock_start(&clock, LONG, budget);
        status = mc_connection_connect(held[count], &state, &nowhere, &clock);
        if (status == MC_OK) {
            mc_pool_opened(held[count]);
        }
        else { /* the last one was to be given up when the budget was spent, not later */
            CHECK(state.wait_until - before < budget * 3 / 2);
        }
        mc_connecting_fini(&state);
        count++;
    }
    CHECK(status == MC_TIMEOUT);
    while (count > 0) {
        drop(held[--count], -1);
    }
    close(server.fd);
}

static void an_address_that_takes_no_connect_leaves_time_for_the_next(void)
{
    listener hole = listen_on_loopback(0), server = listen_on_loopback(8);
    struct addrinfo *first = addresses_of(hole, 1);
    mc_connection *connection = mc_pool_take(&pool, NULL, 0);
    mc_connecting state = MC_CONNECTING_INIT;
    mc_clock clock;
    int waiting[4];

    for (int i = 0; i < 4; i++) { /* its queue is full then */
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(waiting[i], first->ai_addr, first->ai_addrlen);
    }
    first->ai_next = addresses_of(server, 1);
    state.list = state.next = first;
    connection->transport = &mc_native_transport;
    mc_clock_start(&clock, LONG, 20 * SHORT);
    CHECK(mc_connection_connect(connection, &state, &nowhere, &clock) == MC_OK);
    mc_pool_opened(connection);
    drop(connection, -1);
    for (int i = 0; i < 4; i++) {
        close(waiting[i]);
    }
    close(hole.fd);
    close(server.fd);
}

static void unix_sockets_connect_by_path(void)
{
    char folder[] = "/tmp/mcext-test-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mc_connection *connection = mc_pool_take(&pool, NULL, 0);

    CHECK(mkdtemp(folder) != NULL);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    CHECK(connect_to(connection, MC_FAMILY_UNIX, address.sun_path, 0, LONG) == MC_FAILED);
    CHECK_NUMBER(connection->error, ENOENT);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(connect_to(connection, MC_FAMILY_UNIX, address.sun_path, 0, LONG) == MC_FAILED);
    CHECK_NUMBER(connection->error, ECONNREFUSED);
    CHECK(listen(server, 0) == 0);
    CHECK(connect_to(connection, MC_FAMILY_UNIX, address.sun_path, 0, LONG) == MC_OK);
    mc_connection *second = mc_pool_take(&pool, NULL, 0);
    mc_connection *third = mc_pool_take(&pool, NULL, 0);
    mc_status status = connect_to(second, MC_FAMILY_UNIX, address.sun_path, 0, SHORT);
    if (status == MC_OK) { /* one more fits the backlog */
        status = connect_to(third, MC_FAMILY_UNIX, address.sun_path, 0, SHORT);
    }
    CHECK(status == MC_TIMEOUT);
    drop(third, -1);
    drop(second, -1);
    drop(connection, -1);
    close(server);
    unlink(address.sun_path);
    rmdir(folder);
}

typedef struct {
    int fd;
    size_t wanted;
    size_t got;
    uint32_t sum;
} drain;

static void *drain_all(void *argument)
{
    drain *self = argument;
    unsigned char bytes[5000];

    while (self->got < self->wanted) {
        ssize_t got = recv(self->fd, bytes, sizeof bytes, 0);

        if (got <= 0) {
            break;
        }
        for (ssize_t i = 0; i < got; i++) {
            self->sum = self->sum * 31 + bytes[i];
        }
        self->got += (size_t)got;
    }
    return NULL;
}

static void many_pieces_leave_whole_and_in_order(void)
{
    enum {
        PIECES = 3000
    }; /* more than one system call takes */
    static struct iovec pieces[PIECES];
    char *bytes = malloc(4 * MEGABYTE);
    mc_clock clock;
    int peer;
    mc_connection *connection = pair(&peer);
    drain self = {.fd = peer};
    pthread_t thread;
    uint32_t sum = 0;

    for (size_t i = 0; i < 4 * MEGABYTE; i++) {
        bytes[i] = (char)(i * 7 + i / 1000);
    }
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i] = (struct iovec){bytes + i * 1000, i % 5 ? 1000 : 0};
        for (size_t j = 0; j < pieces[i].iov_len; j++) {
            sum = sum * 31 + (unsigned char)bytes[i * 1000 + j];
        }
        self.wanted += pieces[i].iov_len;
    }
    CHECK(pthread_create(&thread, NULL, drain_all, &self) == 0);
    mc_clock_start(&clock, LONG, LONG);
    struct iovec *at = pieces;
    int count = PIECES;
    CHECK(send_all(connection, &at, &count, &clock) == MC_OK);
    CHECK(count == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(self.got == self.wanted && self.sum == sum);
    drop(connection, peer);
    free(bytes);
}

static void a_send_that_nobody_reads_ends_in_time(void)
{
    char *bytes = calloc(16, MEGABYTE);
    struct iovec piece = {bytes, 16 * MEGABYTE}, *at = &piece;
    int count = 1, peer;
    mc_clock clock;
    mc_connection *connection = pair(&peer);

    mc_clock_start(&clock, SHORT, SHORT);
    CHECK(send_all(connection, &at, &count, &clock) == MC_TIMEOUT);
    CHECK(count == 1 && piece.iov_len < 16 * MEGABYTE && piece.iov_len > 0);
    drop(connection, peer);
    free(bytes);
}

static void a_send_to_a_closed_peer_raises_no_signal(void)
{
    struct iovec piece = {"x", 1}, *at = &piece;
    int count = 1, peer;
    mc_clock clock;
    mc_connection *connection = pair(&peer);

    close(peer);
    mc_clock_start(&clock, LONG, LONG);
    CHECK(send_all(connection, &at, &count, &clock) == MC_CLOSED);
    CHECK(!mc_connection_is_quiet(connection));
    drop(connection, -1);
}

/* Receives until the exchange has an event, or what went wrong. */
static mc_event receive_event(mc_leg *leg, mc_clock *clock, mc_status *status)
{
    mc_event event;

    *status = MC_OK;
    while ((event = mc_exchange_next(&leg->exchange)) == MC_EVENT_AGAIN && *status == MC_OK) {
        *status = mc_leg_receive(leg, clock);
    }
    return event;
}

static void silence_ends_in_time_and_eof_at_once(void)
{
    mc_leg leg;
    mc_clock clock;
    mc_status status;
    int peer;
    mc_connection *connection = pair(&peer);

    mc_clock_start(&clock, SHORT, SHORT);
    begin_get(&leg, connection, &clock);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_AGAIN);
    CHECK(status == MC_TIMEOUT && !leg.exchange.started);
    CHECK(send(peer, "VALUE k 0 1\r\n", 13, 0) == 13);
    mc_clock_start(&clock, SHORT, SHORT);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_VALUE);
    char room;
    mc_exchange_give_room(&leg.exchange, &room);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_AGAIN);
    CHECK(status == MC_TIMEOUT);
    close(peer);
    mc_clock_start(&clock, LONG, LONG);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_AGAIN);
    CHECK(status == MC_CLOSED && leg.exchange.started);
    drop(connection, -1);
}

static void bytes_that_trickle_in_do_not_move_the_deadline(void)
{
    mc_leg leg;
    mc_clock clock;
    mc_status status = MC_OK;
    int peer, sent = 0;
    mc_connection *connection = pair(&peer);

    mc_clock_start(&clock, SHORT, SHORT);
    begin_get(&leg, connection, &clock);
    while (status == MC_OK && sent < 8000) {
        struct timespec nap = {0, 5 * MILLISECOND};

        CHECK(send(peer, "x", 1, 0) == 1);
        sent++;
        status = mc_leg_receive(&leg, &clock);
        CHECK(mc_exchange_next(&leg.exchange) == MC_EVENT_AGAIN);
        nanosleep(&nap, NULL);
    }
    CHECK(status == MC_TIMEOUT);
    CHECK(sent < 100); /* ten or so in the time; more only if naps were cut short */
    drop(connection, peer);
}

typedef struct {
    int fd;
    size_t size;
} source;

static void *pour(void *argument)
{
    source *self = argument;
    char header[64];
    char *body = malloc(self->size);

    memset(body, 'b', self->size);
    int length = snprintf(header, sizeof header, "VALUE k 0 %zu\r\n", self->size);
    if (send(self->fd, header, (size_t)length, MSG_NOSIGNAL) == length &&
        send(self->fd, body, self->size, MSG_NOSIGNAL) == (ssize_t)self->size) {
        self->size = (size_t)send(self->fd, "\r\nEND\r\n", 7, MSG_NOSIGNAL);
    }
    free(body);
    return NULL;
}

static void values_of_every_size_come_whole(void)
{
    static const size_t sizes[] = {
        0, 1, 2000, 2047, 2048, 2049, 16383, 16384, 16385, 65536, 3 * MEGABYTE + 1};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mc_leg leg;
        mc_clock clock;
        mc_status status;
        int peer;
        mc_connection *connection = pair(&peer);
        source self = {peer, sizes[i]};
        pthread_t thread;
        char *room = malloc(sizes[i] + 1);
        bool right = true;

        CHECK(pthread_create(&thread, NULL, pour, &self) == 0);
        mc_clock_start(&clock, LONG, LONG);
        begin_get(&leg, connection, &clock);
        CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_VALUE);
        CHECK_NUMBER(leg.exchange.reply.length, sizes[i]);
        if (leg.exchange.body == NULL) {
            mc_exchange_give_room(&leg.exchange, room);
            CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_FILLED);
        }
        else {
            memcpy(room, leg.exchange.body, sizes[i]);
        }
        for (size_t j = 0; j < sizes[i]; j++) {
            right = right && room[j] == 'b';
        }
        CHECK(right);
        CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_DONE);
        CHECK(mc_exchange_is_clean(&leg.exchange));
        CHECK(connection->in.capacity <= 4 * 65536);
        CHECK(pthread_join(thread, NULL) == 0);
        free(room);
        drop(connection, peer);
    }
}

static void unasked_bytes_and_closes_are_not_quiet(void)
{
    int peer;
    mc_connection *connection = pair(&peer);

    CHECK(mc_connection_is_quiet(connection));
    CHECK(send(peer, "x", 1, 0) == 1);
    CHECK(!mc_connection_is_quiet(connection));
    drop(connection, peer);
    connection = pair(&peer);
    close(peer);
    CHECK(!mc_connection_is_quiet(connection));
    drop(connection, -1);
}

static void after_a_fork_the_childs_call_moves_no_bytes(void)
{
    struct iovec piece = {"x", 1}, *at = &piece;
    int count = 1, peer;
    mc_clock clock;
    mc_leg leg;
    mc_connection *connection = pair(&peer);
    int status = -1;

    CHECK(mc_process_init());
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        mc_clock_start(&clock, LONG, LONG);
        begin_get(&leg, connection, &clock);
        bool right = send_all(connection, &at, &count, &clock) == MC_CLOSED;

        right = right && mc_leg_receive(&leg, &clock) == MC_CLOSED;
        right = right && !mc_connection_is_quiet(connection);
        _exit(right ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char byte;
    CHECK(recv(peer, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    CHECK(mc_connection_is_quiet(connection));
    drop(connection, peer);
}

static _Atomic int alarms;

static void on_alarm(int number)
{
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

static void a_signal_interrupts_and_nothing_is_lost(void)
{
    struct sigaction action = {.sa_handler = on_alarm}, before;
    struct itimerval soon = {{0, 0}, {0, 20000}};
    mc_leg leg;
    mc_clock clock;
    mc_status status;
    int peer;
    mc_connection *connection = pair(&peer);

    CHECK(sigaction(SIGALRM, &action, &before) == 0);
    mc_clock_start(&clock, LONG, LONG);
    begin_get(&leg, connection, &clock);
    CHECK(send(peer, "EN", 2, 0) == 2);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_AGAIN);
    CHECK(status == MC_INTERRUPTED && atomic_load(&alarms) == 1);
    CHECK(send(peer, "D\r\n", 3, 0) == 3);
    CHECK(receive_event(&leg, &clock, &status) == MC_EVENT_DONE);
    CHECK(mc_exchange_is_clean(&leg.exchange));
    CHECK(sigaction(SIGALRM, &before, NULL) == 0);
    drop(connection, peer);
}

static void a_fanout_reads_who_answers_and_waits_for_the_rest(void)
{
    mc_leg legs[3];
    mc_leg *list[3];
    struct pollfd polls[3];
    bool arrived[3];
    mc_connection *connections[3];
    int peers[3];
    mc_clock clock;
    mc_status status = MC_OK;

    mc_clock_start(&clock, SHORT, SHORT);
    for (int i = 0; i < 3; i++) {
        connections[i] = pair(&peers[i]);
        ask_for_key(&legs[i], connections[i], &clock);
        list[i] = &legs[i];
    }
    CHECK(send(peers[2], "END\r\n", 5, 0) == 5); /* 0 is silent, 1 closes, 2 answers */
    close(peers[1]);
    int answered = 0, ended = 0;
    while (status == MC_OK) {
        status = mc_fanout_step(list, 3, polls, arrived, &clock);
        for (int i = 0; i < 3 && status == MC_OK; i++) {
            if (arrived[i]) {
                CHECK(i == 2 && mc_leg_next(&legs[i]) == MC_LEG_OVER && legs[i].verdict.keep);
                answered++;
            }
            else if (mc_leg_next(&legs[i]) == MC_LEG_RETRY) {
                mc_leg_give_up(&legs[i]);
                CHECK(i == 1 && legs[i].verdict.status == MC_CLOSED);
                ended++;
            }
        }
    }
    CHECK(status == MC_TIMEOUT && answered == 1 && ended == 1);
    CHECK(mc_leg_is_running(&legs[0]) && legs[0].piece_count == 0);
    for (int i = 0; i < 3; i++) {
        drop(connections[i], i == 1 ? -1 : peers[i]);
    }
}

int main(void)
{
    mc_pool_init(&pool);
    PROMISE(tcp_connects_to_a_name_and_to_a_number);
    PROMISE(a_refused_connect_fails_with_its_errno);
    PROMISE(a_name_that_is_none_fails_with_the_resolvers_error);
    PROMISE(a_full_backlog_ends_with_the_connect_budget);
    PROMISE(all_addresses_of_a_name_share_one_connect_budget);
    PROMISE(an_address_that_takes_no_connect_leaves_time_for_the_next);
    PROMISE(unix_sockets_connect_by_path);
    PROMISE(many_pieces_leave_whole_and_in_order);
    PROMISE(a_send_that_nobody_reads_ends_in_time);
    PROMISE(a_send_to_a_closed_peer_raises_no_signal);
    PROMISE(silence_ends_in_time_and_eof_at_once);
    PROMISE(bytes_that_trickle_in_do_not_move_the_deadline);
    PROMISE(values_of_every_size_come_whole);
    PROMISE(unasked_bytes_and_closes_are_not_quiet);
    PROMISE(after_a_fork_the_childs_call_moves_no_bytes);
    PROMISE(a_signal_interrupts_and_nothing_is_lost);
    PROMISE(a_fanout_reads_who_answers_and_waits_for_the_rest);
    mc_pool_fini(&pool);
    return check_result();
}
