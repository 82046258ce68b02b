/* The promises of mcext/core/net/socket.h about the descriptor below a connection: its options, its
 * number, and what is left of it.
 *
 * This program has a setsockopt, a poll and a getaddrinfo of its own. */
#define _GNU_SOURCE
#include "core/net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "check.h"
#include "core/net/process.h"
#include "streams.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND) /* never reached */

/* ---- the system calls ---- */

/* The errno that the next call fails with, once. */
static int planned_option, planned_poll;
static int set_before;  /* options that can be set before the one that was planned */
static int send_buffer; /* by the last SO_SNDBUF */

static bool fails(int *plan)
{
    bool failing = *plan != 0;

    if (failing) {
        errno = *plan;
        *plan = 0;
    }
    return failing;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    if (planned_option != 0 && set_before-- == 0) {
        return fails(&planned_option) ? -1 : 0;
    }
    if (level == SOL_SOCKET && option == SO_SNDBUF) {
        memcpy(&send_buffer, value, sizeof send_buffer);
    }
    return (int)syscall(SYS_setsockopt, fd, level, option, value, size);
}

int poll(struct pollfd *polls, nfds_t count, int timeout)
{
    struct timespec limit = {timeout / 1000, timeout % 1000 * MILLISECOND};

    return fails(&planned_poll) ? -1 : ppoll(polls, count, timeout < 0 ? NULL : &limit, NULL);
}

static int looked_up; /* what was no number, for all that was known */

/* Every name is 127.0.0.1. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } *made = calloc(1, sizeof *made);

    looked_up += !(hints->ai_flags & AI_NUMERICHOST);
    if (hints->ai_flags & AI_NUMERICHOST && strcmp(host, "127.0.0.1") != 0) {
        free(made);
        return EAI_NONAME;
    }
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
    free(list);
}

/* ---- streams ---- */

static int listen_at(int family, struct sockaddr *address, socklen_t size)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, address, size) == 0 && listen(fd, 5) == 0);
    return fd;
}

/* Where a server listens, each of them in its family. */
static char folder[32];
static struct sockaddr_un place;
static int by_path, by_port;
static mc_endpoint path_of_one, port_of_one;

static void listen_in_both(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;

    strcpy(folder, "/tmp/mcext-test-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    place = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof place.sun_path, "%s/s", folder);
    by_path = listen_at(AF_UNIX, (struct sockaddr *)&place, sizeof place);
    path_of_one = (mc_endpoint){MC_FAMILY_UNIX, place.sun_path, 0};

    by_port = listen_at(AF_INET, (struct sockaddr *)&address, size);
    CHECK(getsockname(by_port, (struct sockaddr *)&address, &size) == 0);
    port_of_one = (mc_endpoint){MC_FAMILY_INET, "127.0.0.1", ntohs(address.sin_port)};
}

static void stop_listening(void)
{
    close(by_path);
    close(by_port);
    unlink(place.sun_path);
    rmdir(folder);
}

static mc_status connect_to(mc_connection *connection, mc_connecting *state, const mc_endpoint *to)
{
    mc_clock clock;

    begin_connection(connection);
    mc_clock_start(&clock, LONG, LONG);
    return mc_connection_connect(connection, state, to, &clock);
}

/* The number that the next descriptor gets: it moves on where one is left open. */
static int next_descriptor(void)
{
    int fd = dup(by_port);

    close(fd);
    return fd;
}

/* ---- connect ---- */

static void a_connect_by_path_asks_for_room_and_one_by_port_for_no_delay(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    int on;
    socklen_t size = sizeof on;

    listen_in_both();
    send_buffer = 0;
    CHECK(connect_to(&connection, &state, &port_of_one) == MC_OK);
    CHECK(send_buffer == 0); /* TCP finds its own measure */
    CHECK(getsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
    CHECK(getsockopt(connection.fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0 && on);
    mc_connection_close(&connection);
    CHECK(connect_to(&connection, &state, &path_of_one) == MC_OK);
    CHECK_NUMBER(send_buffer, 1048576);
    mc_connection_close(&connection);
    stop_listening();
}

static void what_is_connected_waits_in_its_calls_and_ends_with_an_exec(void)
{
    mc_connection connection;

    listen_in_both();
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;

        CHECK(connect_to(&connection, &state, i ? &path_of_one : &port_of_one) == MC_OK);
        CHECK(connection.open && connection.error == 0 && connection.resolver_error == 0);
        CHECK((fcntl(connection.fd, F_GETFL) & O_NONBLOCK) == 0);
        CHECK((fcntl(connection.fd, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(connection.receive_timeout == MC_NO_TIMEOUT);
        mc_connection_close(&connection);
    }
    stop_listening();
}

/* Also where the connect itself went well. True where there were that many options. */
static bool fails_without_option(int number, const mc_endpoint *to)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    int before = next_descriptor();

    planned_option = EIO;
    set_before = number;
    mc_status status = connect_to(&connection, &state, to);
    bool failed = planned_option == 0;
    CHECK(status == (failed ? MC_FAILED : MC_OK));
    CHECK(connection.open == !failed);
    CHECK(!failed || (connection.error == EIO && connection.fd == -1));
    CHECK(state.fd == -1 && state.list == NULL);
    mc_connection_close(&connection);
    planned_option = set_before = 0;
    CHECK(next_descriptor() == before);
    return failed;
}

static void a_connect_whose_options_cannot_be_set_fails(void)
{
    int options[2] = {0, 0};

    listen_in_both();
    while (fails_without_option(options[0], &port_of_one)) {
        options[0]++;
    }
    while (fails_without_option(options[1], &path_of_one)) {
        options[1]++;
    }
    CHECK(options[0] == 2 && options[1] == 1);
    stop_listening();
}

static void an_interrupted_connect_that_is_given_up_leaves_nothing(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;

    listen_in_both();
    int before = next_descriptor();
    looked_up = 0;
    planned_poll = EINTR;
    CHECK(connect_to(&connection, &state, &port_of_one) == MC_INTERRUPTED);
    CHECK(state.fd >= 0 && state.since != 0);
    mc_connecting_fini(&state);
    CHECK(state.fd == -1 && state.list == NULL && state.next == NULL && state.since == 0);
    CHECK(next_descriptor() == before);
    mc_connecting_fini(&state); /* twice is no harm */
    CHECK_NUMBER(looked_up, 0);
    stop_listening();
}

/* Numbers first: a look-up may ask another machine. */
static void a_name_is_looked_up_where_it_is_no_number(void)
{
    mc_connection connection;

    listen_in_both();
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_endpoint to = {MC_FAMILY_INET, i ? "a name" : "127.0.0.1", port_of_one.port};

        looked_up = 0;
        CHECK(connect_to(&connection, &state, &to) == MC_OK);
        CHECK_NUMBER(looked_up, i);
        mc_connection_close(&connection);
    }
    stop_listening();
}

/* Of a process whose standard input is closed. */
static void descriptor_0_is_one_like_any_other(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    int input = dup(0);

    listen_in_both();
    for (int i = 0; i < 2; i++) {
        const mc_endpoint *to = i ? &path_of_one : &port_of_one;

        close(0);
        CHECK(connect_to(&connection, &state, to) == MC_OK);
        int peer = accept(i ? by_path : by_port, NULL, NULL);
        CHECK(connection.fd == 0 && mc_connection_is_quiet(&connection));
        drop(&connection, peer);
        CHECK(dup(input) == 0); /* nothing has it any more */
    }
    stop_listening();
    for (int i = 0; i < 2; i++) {
        close(0);
        CHECK(connect_to(&connection, &state, i ? &path_of_one : &port_of_one) == MC_FAILED);
        CHECK(connection.error == (i ? ENOENT : ECONNREFUSED));
        CHECK(dup(input) == 0);
    }
    close(input);
}

/* What was sent was not read: there is neither a byte nor an end, but an error. */
static void a_stream_that_was_reset_is_not_quiet(void)
{
    mc_connection connection;
    int peer;

    pair(&connection, &peer);
    CHECK(send(connection.fd, "x", 1, 0) == 1);
    close(peer);
    CHECK(!mc_connection_is_quiet(&connection));
    drop(&connection, -1);
}

/* ---- close ---- */

static void a_closed_connection_is_as_new(void)
{
    mc_connection connection;
    int peer;

    pair(&connection, &peer);
    connection.unanswered = 3;
    CHECK(mc_buffer_append(&connection.in, "rest", 4));
    CHECK(mc_buffer_append(&connection.out, "rest", 4));
    mc_connection_close(&connection);
    CHECK(connection.fd == -1 && !connection.open);
    CHECK(connection.unanswered == 0);
    CHECK(connection.in.data == NULL && connection.out.data == NULL);
    drop(&connection, peer); /* twice is no harm */
}

/* The call that owns it still looks at them. */
static void a_connection_that_is_shut_keeps_its_buffers(void)
{
    mc_connection connection;
    char byte;
    int peer;

    pair(&connection, &peer);
    connection.unanswered = 3;
    CHECK(mc_buffer_append(&connection.in, "rest", 4));
    mc_connection_shut(&connection);
    CHECK(mc_connection_is_lost(&connection) && connection.fd == -1);
    CHECK(read(peer, &byte, 1) == 0);
    CHECK_BYTES(mc_buffer_bytes(&connection.in), mc_buffer_length(&connection.in), "rest");
    CHECK_NUMBER(connection.unanswered, 3);
    mc_connection_shut(&connection); /* twice is no harm */
    drop(&connection, peer);
}

int main(void)
{
    CHECK(mc_process_init());
    alarm(60); /* a wait that does not end ends all */
    PROMISE(a_connect_by_path_asks_for_room_and_one_by_port_for_no_delay);
    PROMISE(what_is_connected_waits_in_its_calls_and_ends_with_an_exec);
    PROMISE(a_connect_whose_options_cannot_be_set_fails);
    PROMISE(an_interrupted_connect_that_is_given_up_leaves_nothing);
    PROMISE(a_name_is_looked_up_where_it_is_no_number);
    PROMISE(descriptor_0_is_one_like_any_other);
    PROMISE(a_stream_that_was_reset_is_not_quiet);
    PROMISE(a_closed_connection_is_as_new);
    PROMISE(a_connection_that_is_shut_keeps_its_buffers);
    return check_result();
}
