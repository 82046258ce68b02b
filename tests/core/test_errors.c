/* The promises of mcext/core/net/connection.h and fanout.h about what the system reports: each
 * errno has its status, a signal loses nothing, and the shortest time is a time.
 *
 * This program has system calls of its own, which fail where a test planned it. */
#define _GNU_SOURCE
#include "core/net/connection.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "check.h"
#include "core/flow/fanout.h"
#include "core/net/process.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND) /* never reached */
#define BODY 100000           /* is waited for in one receive */

static const mc_slice key = {"k", 1};

/* ---- the system calls ---- */

/* The errno that the next call fails with, once; of the resolver what it returns. */
static struct {
    int receive, send, poll, connect, resolver;
} planned;

/* With an error planned: takes it and sets errno. */
static bool fails(int *plan)
{
    bool failing = *plan != 0;

    if (failing) {
        errno = *plan;
        *plan = 0;
    }
    return failing;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    return fails(&planned.receive) ? -1 : recvfrom(fd, bytes, size, flags, NULL, NULL);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails(&planned.receive) ? -1 : syscall(SYS_recvmsg, fd, message, flags);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    return fails(&planned.send) ? -1 : sendto(fd, bytes, size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fails(&planned.send) ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

int poll(struct pollfd *polls, nfds_t count, int timeout)
{
    struct timespec limit = {timeout / 1000, timeout % 1000 * MILLISECOND};

    return fails(&planned.poll) ? -1 : ppoll(polls, count, timeout < 0 ? NULL : &limit, NULL);
}

/* Interrupted by a signal, TCP's goes on by itself; that of a Unix socket has to be made anew. */
int own_connect(int fd, const struct sockaddr *address, socklen_t size) __asm__("connect");

int own_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    bool goes_on = planned.connect == EINTR && address->sa_family == AF_INET;
    int result = planned.connect == 0 || goes_on ? (int)syscall(SYS_connect, fd, address, size) : 0;

    return fails(&planned.connect) ? -1 : result;
}

/* Every name is 127.0.0.1. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } * made;

    (void)host;
    (void)hints;
    if (planned.resolver != 0) {
        return planned.resolver;
    }
    made = calloc(1, sizeof *made);
    made->address.sin_family = AF_INET;
    made->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    made->address.sin_port = htons((uint16_t)atoi(service));
    made->info.ai_family = AF_INET;
    made->info.ai_addr = (struct sockaddr *)&made->address;
    made->info.ai_addrlen = sizeof made->address;
    *list = &made->info;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;

        free(list);
        list = next;
    }
}

/* ---- streams ---- */

static void adopted(mc_connection *connection)
{
    connection->generation = mc_process_generation();
    atomic_store(&connection->open, 1);
}

/* A connection to *peer. */
static void pair(mc_connection *connection, int *peer)
{
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    memset(connection, 0, sizeof *connection);
    connection->fd = ends[0];
    connection->transport = &mc_native_transport;
    connection->receive_timeout = connection->send_timeout = MC_NO_TIMEOUT;
    adopted(connection);
    *peer = ends[1];
}

static void drop(mc_connection *connection, int peer)
{
    mc_connection_close(connection);
    close(peer);
}

static void say(int peer, const char *text)
{
    CHECK(write(peer, text, strlen(text)) == (ssize_t)strlen(text));
}

static int listen_at(int family, struct sockaddr *address, socklen_t size, int backlog)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, address, size) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = listen_at(AF_INET, (struct sockaddr *)&address, size, 5);

    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* A Unix socket in a folder of its own. */
static char folder[32];
static struct sockaddr_un place;

static int listen_at_a_path(int backlog)
{
    strcpy(folder, "/tmp/mcext-test-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    place = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof place.sun_path, "%s/s", folder);
    return listen_at(AF_UNIX, (struct sockaddr *)&place, sizeof place, backlog);
}

static int waiting[8], waiting_count;

/* With connects that wait to be accepted. */
static void fill_backlog(void)
{
    int result;

    do {
        waiting[waiting_count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        result = connect(waiting[waiting_count++], (struct sockaddr *)&place, sizeof place);
    } while (result == 0 && waiting_count < 8);
    CHECK(result < 0 && errno == EAGAIN);
}

static void stop_listening(int fd)
{
    close(fd);
    while (waiting_count > 0) {
        close(waiting[--waiting_count]);
    }
    unlink(place.sun_path);
    rmdir(folder);
}

static mc_status connect_by(mc_connection *connection, mc_connecting *state,
                            mc_address_family family, uint16_t port, int64_t timeout)
{
    mc_clock clock;

    mc_clock_start(&clock, LONG, timeout);
    memset(connection, 0, sizeof *connection);
    connection->fd = -1;
    mc_status status =
        mc_connection_connect(connection, state, family,
                              family == MC_FAMILY_UNIX ? place.sun_path : "name", port, &clock);
    if (status == MC_OK) {
        adopted(connection);
    }
    return status;
}

/* The number that the next descriptor gets: it moves on where one is left open. */
static int next_descriptor(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

/* ---- errno ---- */

static const struct {
    int error;
    mc_status status;
} meanings[] = {
    {EINTR, MC_INTERRUPTED}, {EPIPE, MC_CLOSED},     {ECONNRESET, MC_CLOSED},
    {ENOTCONN, MC_CLOSED},   {ENOMEM, MC_NO_MEMORY}, {ECONNABORTED, MC_CLOSED},
    {ETIMEDOUT, MC_TIMEOUT}, {EIO, MC_FAILED},       {EHOSTUNREACH, MC_FAILED},
    {ENOBUFS, MC_FAILED},    {EBADF, MC_FAILED},     {ENETDOWN, MC_FAILED},
};

#define MEANINGS (sizeof meanings / sizeof *meanings)

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
        CHECK(mc_connection_send(&connection, &at, &count, &clock) == meanings[i / 2].status);
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
    mc_exchange exchange;
    mc_clock clock;
    char header[32];
    int peer;

    pair(&connection, &peer);
    mc_exchange_init(&exchange, &connection.in, MC_GET, &key, 1, false);
    mc_clock_start(&clock, LONG, LONG);
    if (way > 0) {
        snprintf(header, sizeof header, "VALUE k 0 %d\r\nx", way == 1 ? 100 : BODY);
        say(peer, header);
        CHECK(mc_connection_receive(&connection, &exchange, &clock) == MC_OK);
        CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE);
        mc_exchange_give_room(&exchange, room);
    }
    planned.receive = error;
    mc_status status = mc_connection_receive(&connection, &exchange, &clock);

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
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        mc_clock_start(&clock, MC_NO_TIMEOUT, LONG); /* as set on the socket: the plain way */
        CHECK(mc_buffer_append(&connection.out, "get k\r\n", 7));
        *(i % 2 ? &planned.receive : &planned.send) = meanings[i / 2].error;
        CHECK(mc_connection_roundtrip(&connection, &clock) == meanings[i / 2].status);
        CHECK_NUMBER(connection.error, meanings[i / 2].error);
        CHECK_NUMBER(mc_buffer_length(&connection.out), i % 2 ? 0 : 7);
        CHECK(planned.send == 0 && planned.receive == 0);
        drop(&connection, peer);
    }
}

/* A wait fails as what it waited for does. */
static void each_errno_of_a_wait_has_its_status(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_connection connection;
        mc_exchange exchange;
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        mc_exchange_init(&exchange, &connection.in, MC_GET, &key, 1, false);
        mc_clock_start(&clock, LONG, LONG);
        clock.late = true; /* nothing is there: it waits */
        planned.poll = meanings[i].error;
        CHECK(mc_connection_receive(&connection, &exchange, &clock) == meanings[i].status);
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
        int error = i < MEANINGS ? meanings[i].error : EAGAIN; /* the backlog is full */
        mc_status wanted = error == EINTR    ? MC_INTERRUPTED
                           : error == EAGAIN ? MC_TIMEOUT
                                             : MC_FAILED; /* also where it is ETIMEDOUT */

        planned.connect = error;
        CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == wanted);
        CHECK(error == EAGAIN || connection.error == error);
        CHECK(state.fd == -1 && connection.fd == -1 && next_descriptor() == before);
        mc_connecting_fini(&state);
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

static _Atomic int signals;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static pthread_t caller;
static _Atomic bool heard;

static void *ring(void *unused)
{
    struct timespec nap = {0, 20 * MILLISECOND};

    (void)unused;
    while (!atomic_load(&heard)) { /* the first may come too early on a busy machine */
        nanosleep(&nap, NULL);
        pthread_kill(caller, SIGUSR1);
    }
    return NULL;
}

/* Signals for this thread, soon, whose handler returns. */
static pthread_t ring_soon(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t bell;

    caller = pthread_self();
    atomic_store(&signals, 0);
    atomic_store(&heard, false);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pthread_create(&bell, NULL, ring, NULL) == 0);
    return bell;
}

static void has_rung(pthread_t bell)
{
    atomic_store(&heard, true);
    CHECK(pthread_join(bell, NULL) == 0);
    CHECK(atomic_load(&signals) > 0);
}

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

static void a_signal_in_a_unix_connect_lets_it_be_made_anew(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    int server = listen_at_a_path(0);

    fill_backlog();
    int before = next_descriptor();
    pthread_t bell = ring_soon();
    CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == MC_INTERRUPTED);
    has_rung(bell);
    CHECK(state.fd == -1 && connection.fd == -1 && next_descriptor() == before);
    int peer = accept(server, NULL, NULL);
    CHECK(connect_by(&connection, &state, MC_FAMILY_UNIX, 0, LONG) == MC_OK);
    drop(&connection, peer);
    stop_listening(server);
}

/* ---- many servers ---- */

#define LEGS 3

typedef struct {
    mc_connection connections[LEGS];
    int peers[LEGS];
    mc_leg legs[LEGS];
    mc_leg *list[LEGS];
    struct iovec pieces[LEGS];
    struct pollfd polls[LEGS];
    mc_clock clock;
} servers;

static void fan_out(servers *all)
{
    memset(all, 0, sizeof *all);
    for (int i = 0; i < LEGS; i++) {
        pair(&all->connections[i], &all->peers[i]);
        all->pieces[i] = (struct iovec){"get k\r\n", 7};
        all->legs[i].connection = &all->connections[i];
        all->legs[i].pieces = &all->pieces[i];
        all->legs[i].count = 1;
        mc_exchange_init(&all->legs[i].exchange, &all->connections[i].in, MC_GET, &key, 1, false);
        all->list[i] = &all->legs[i];
    }
    mc_clock_start(&all->clock, LONG, LONG);
}

static mc_status step(servers *all)
{
    return mc_fanout_step(all->list, LEGS, all->polls, &all->clock);
}

static void drop_all(servers *all)
{
    for (int i = 0; i < LEGS; i++) {
        drop(&all->connections[i], all->peers[i]);
    }
}

/* All servers answer now, and each answer arrives. */
static void all_answer(servers *all)
{
    int answered = 0;

    for (int i = 0; i < LEGS; i++) {
        char asked[8];

        CHECK(read(all->peers[i], asked, sizeof asked) == 7); /* once, and once only */
        say(all->peers[i], "END\r\n");
    }
    for (int steps = 0; answered < LEGS && steps < 20; steps++) {
        CHECK(step(all) == MC_OK);
        for (int i = 0; i < LEGS; i++) {
            if (all->legs[i].connection != NULL && all->legs[i].arrived) {
                CHECK(mc_exchange_next(&all->legs[i].exchange) == MC_EVENT_DONE);
                all->legs[i].connection = NULL;
                answered++;
            }
        }
    }
    CHECK_NUMBER(answered, LEGS);
}

static void a_signal_in_the_wait_for_many_servers_loses_nothing(void)
{
    servers all;

    fan_out(&all);
    pthread_t bell = ring_soon();
    CHECK(step(&all) == MC_INTERRUPTED);
    has_rung(bell);
    planned.poll = EINTR;
    CHECK(step(&all) == MC_INTERRUPTED);
    all_answer(&all);
    drop_all(&all);
}

static void a_signal_in_a_send_or_a_receive_among_many_is_nobodys_failure(void)
{
    servers all;

    fan_out(&all);
    planned.send = EINTR;
    planned.receive = EINTR;
    say(all.peers[1], "E");
    CHECK(step(&all) == MC_OK);
    CHECK(planned.send == 0 && planned.receive == 0);
    for (int i = 0; i < LEGS; i++) {
        CHECK(all.legs[i].status == MC_OK && all.legs[i].count == 0 && !all.legs[i].arrived);
    }
    CHECK(step(&all) == MC_OK);
    CHECK(all.legs[1].arrived && mc_exchange_next(&all.legs[1].exchange) == MC_EVENT_AGAIN);
    say(all.peers[1], "ND\r\n");
    CHECK(step(&all) == MC_OK);
    CHECK(all.legs[1].arrived && mc_exchange_next(&all.legs[1].exchange) == MC_EVENT_DONE);
    drop_all(&all);
}

static void an_error_among_many_is_that_of_its_server(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_status own = meanings[i].status;
        servers all;

        if (own == MC_INTERRUPTED || own == MC_TIMEOUT) { /* nothing has come, after all */
            own = MC_OK;
        }
        fan_out(&all);
        say(all.peers[1], "E");
        planned.receive = meanings[i].error;
        CHECK(step(&all) == MC_OK);
        for (int leg = 0; leg < LEGS; leg++) {
            CHECK(all.legs[leg].status == (leg == 1 ? own : MC_OK) && !all.legs[leg].arrived);
        }
        drop_all(&all);
    }
}

static void the_last_of_many_servers_is_waited_for_alone(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_status own = meanings[i].status;
        bool of_the_call = own == MC_INTERRUPTED || own == MC_TIMEOUT || own == MC_NO_MEMORY;
        servers all;

        fan_out(&all);
        all.legs[0].connection = all.legs[2].connection = NULL;
        planned.receive = meanings[i].error;
        CHECK(step(&all) == (of_the_call ? own : MC_OK));
        CHECK(of_the_call || (all.legs[1].status == own && !all.legs[1].arrived));
        say(all.peers[1], "END\r\n");
        CHECK(step(&all) == MC_OK);
        CHECK(all.legs[1].arrived && mc_exchange_next(&all.legs[1].exchange) == MC_EVENT_DONE);
        drop_all(&all);
    }
}

/* Where something can be done at once nothing is waited for. */
static void a_server_that_is_lost_or_done_or_has_more_to_be_sent_ends_the_wait(void)
{
    servers all;

    fan_out(&all);
    say(all.peers[2], "END\r\n");
    CHECK(step(&all) == MC_OK && all.legs[2].arrived);
    mc_connection_shut(&all.connections[1]); /* all was sent to it */
    CHECK(step(&all) == MC_OK);
    CHECK(all.legs[0].status == MC_OK && all.legs[2].status == MC_OK);
    CHECK(all.legs[1].status == MC_CLOSED && !all.legs[1].arrived);
    all.legs[1].connection = NULL;

    CHECK(mc_exchange_next(&all.legs[2].exchange) == MC_EVENT_DONE);
    CHECK(step(&all) == MC_OK);
    CHECK(!all.legs[2].arrived && all.legs[2].status == MC_OK);
    all.legs[2].connection = NULL;

    all.legs[0].more = true; /* all that it had has left */
    CHECK(step(&all) == MC_OK && !all.legs[0].arrived);
    all.pieces[0] = (struct iovec){"get k\r\n", 7};
    all.legs[0].pieces = &all.pieces[0];
    all.legs[0].count = 1;
    CHECK(step(&all) == MC_OK && !all.legs[0].arrived && all.legs[0].count == 0);
    drop_all(&all);
}

#define MUCH ((size_t)4 << 20)

static void *take_all(void *peer)
{
    static char bytes[BODY];
    size_t left = MUCH;

    while (left > 0) {
        ssize_t got = read(*(int *)peer, bytes, sizeof bytes);

        if (got <= 0) {
            break;
        }
        left -= (size_t)got;
    }
    say(*(int *)peer, "END\r\n");
    return NULL;
}

static void a_slow_server_is_sent_the_rest_when_it_takes_it(void)
{
    char *bytes = calloc(1, MUCH);
    pthread_t taker;
    servers all;

    fan_out(&all);
    all.pieces[1] = (struct iovec){bytes, MUCH};
    mc_clock_start(&all.clock, 20 * MILLISECOND, LONG);
    CHECK(step(&all) == MC_TIMEOUT);
    CHECK(all.legs[1].status == MC_OK && all.legs[1].count == 1 && all.pieces[1].iov_len < MUCH);
    CHECK(pthread_create(&taker, NULL, take_all, &all.peers[1]) == 0);
    mc_clock_start(&all.clock, LONG, LONG);
    for (int steps = 0; !all.legs[1].arrived && steps < 100000; steps++) {
        CHECK(step(&all) == MC_OK && all.legs[1].status == MC_OK);
    }
    CHECK(all.legs[1].count == 0);
    CHECK(mc_exchange_next(&all.legs[1].exchange) == MC_EVENT_DONE);
    CHECK(pthread_join(taker, NULL) == 0);
    drop_all(&all);
    free(bytes);
}

static void a_wait_for_many_servers_without_memory_says_so(void)
{
    servers all;

    fan_out(&all);
    planned.poll = ENOMEM;
    CHECK(step(&all) == MC_NO_MEMORY);
    all_answer(&all);
    drop_all(&all);
}

/* ---- short times ---- */

static const int64_t short_times[] = {1, 999, 1000, MILLISECOND, 20 * MILLISECOND};

#define SHORT_TIMES (sizeof short_times / sizeof *short_times)

/* What began then ends in its time (ticks of the system's clock are milliseconds), far below a
 * second. */
static void in_time(int64_t before, int64_t timeout)
{
    int64_t took = mc_clock_now() - before;

    CHECK(took >= timeout / 2 && took < MC_SECOND * 9 / 10);
}

static void the_shortest_receive_ends(void)
{
    for (size_t i = 0; i < 4 * SHORT_TIMES; i++) {
        static char room[BODY];
        mc_connection connection;
        mc_exchange exchange;
        mc_clock clock;
        char header[32];
        int peer, way = (int)(i % 4);

        pair(&connection, &peer);
        mc_exchange_init(&exchange, &connection.in, MC_GET, &key, 1, false);
        mc_clock_start(&clock, LONG, LONG);
        if (way >= 2) { /* the rest of a body, and of one that is waited for in one receive */
            snprintf(header, sizeof header, "VALUE k 0 %d\r\nx", way == 2 ? 100 : BODY);
            say(peer, header);
            CHECK(mc_connection_receive(&connection, &exchange, &clock) == MC_OK);
            CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE);
            mc_exchange_give_room(&exchange, room);
        }
        int64_t before = mc_clock_now();

        mc_clock_start(&clock, short_times[i / 4], LONG);
        clock.late = way == 1; /* by poll, else by the socket's own timeout */
        CHECK(mc_connection_receive(&connection, &exchange, &clock) == MC_TIMEOUT);
        in_time(before, short_times[i / 4]);
        drop(&connection, peer);
    }
}

static void the_shortest_round_trip_ends(void)
{
    for (size_t i = 0; i < SHORT_TIMES; i++) {
        mc_connection connection;
        mc_clock clock;
        int peer;

        pair(&connection, &peer);
        for (int trip = 0; trip < 2; trip++) { /* the second time the timeout is set already */
            int64_t before = mc_clock_now();

            CHECK(mc_buffer_append(&connection.out, "get k\r\n", 7));
            mc_clock_start(&clock, short_times[i], LONG);
            CHECK(mc_connection_roundtrip(&connection, &clock) == MC_TIMEOUT);
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
        CHECK(mc_connection_send(&connection, &at, &count, &clock) == MC_TIMEOUT);
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

static void the_shortest_wait_for_many_servers_ends(void)
{
    for (size_t i = 0; i < SHORT_TIMES; i++) {
        int64_t before = mc_clock_now();
        servers all;

        fan_out(&all);
        mc_clock_start(&all.clock, short_times[i], LONG);
        CHECK(step(&all) == MC_TIMEOUT);
        in_time(before, short_times[i]);
        drop_all(&all);
    }
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
    PROMISE(a_signal_in_a_unix_connect_lets_it_be_made_anew);
    PROMISE(a_signal_in_the_wait_for_many_servers_loses_nothing);
    PROMISE(a_signal_in_a_send_or_a_receive_among_many_is_nobodys_failure);
    PROMISE(an_error_among_many_is_that_of_its_server);
    PROMISE(the_last_of_many_servers_is_waited_for_alone);
    PROMISE(a_server_that_is_lost_or_done_or_has_more_to_be_sent_ends_the_wait);
    PROMISE(a_slow_server_is_sent_the_rest_when_it_takes_it);
    PROMISE(a_wait_for_many_servers_without_memory_says_so);
    PROMISE(the_shortest_receive_ends);
    PROMISE(the_shortest_round_trip_ends);
    PROMISE(the_shortest_send_ends);
    PROMISE(the_shortest_connect_ends);
    PROMISE(the_shortest_wait_for_many_servers_ends);
    return check_result();
}
