/* The promises of mcext/core/net/connection.h about a connect in steps: none of
 * them waits, each says what to wait for, and all their time is the connect's.
 */
#define _GNU_SOURCE
#include "core/net/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "check.h"
#include "core/net/socket.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND) /* never reached */
#define MOST_WAITING 8

/* A server that accepts nothing, and whose queue is full. */
typedef struct {
    int fd;
    int waiting[MOST_WAITING], count;
    mc_endpoint to;
    struct sockaddr_un path;
    struct sockaddr_in port;
} server;

static char folder[32];

static void listen_on(server *self, struct sockaddr *address, socklen_t size, int backlog)
{
    self->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    self->count = 0;
    CHECK(self->fd >= 0 && bind(self->fd, address, size) == 0 && listen(self->fd, backlog) == 0);
    CHECK(getsockname(self->fd, address, &size) == 0);
}

static void listen_at(server *self, mc_address_family family, int backlog)
{
    if (family == MC_FAMILY_UNIX) {
        strcpy(folder, "/tmp/mcext-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
        self->path = (struct sockaddr_un){.sun_family = AF_UNIX};
        snprintf(self->path.sun_path, sizeof self->path.sun_path, "%s/s", folder);
        listen_on(self, (struct sockaddr *)&self->path, sizeof self->path, backlog);
        self->to = (mc_endpoint){family, self->path.sun_path, 0};
        return;
    }
    self->port =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_on(self, (struct sockaddr *)&self->port, sizeof self->port, backlog);
    self->to = (mc_endpoint){family, "127.0.0.1", ntohs(self->port.sin_port)};
}

static void fill_queue(server *self)
{
    bool is_unix = self->to.family == MC_FAMILY_UNIX;
    const struct sockaddr *address =
        is_unix ? (struct sockaddr *)&self->path : (struct sockaddr *)&self->port;
    socklen_t size = is_unix ? sizeof self->path : sizeof self->port;
    struct pollfd done;
    int taken = 1;

    while (taken && self->count < MOST_WAITING) {
        int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        self->waiting[self->count++] = fd;
        taken = connect(fd, address, size) == 0;
        done = (struct pollfd){fd, POLLOUT, 0};
        taken = taken || (!is_unix && poll(&done, 1, 50) > 0);
    }
    CHECK(!taken);
}

static void stop(server *self)
{
    close(self->fd);
    while (self->count > 0) {
        close(self->waiting[--self->count]);
    }
    if (self->to.family == MC_FAMILY_UNIX) {
        unlink(self->path.sun_path);
        rmdir(folder);
    }
}

static void accept_all(server *self)
{
    struct pollfd ready = {self->fd, POLLIN, 0};

    while (poll(&ready, 1, 0) > 0) {
        close(accept(self->fd, NULL, NULL));
    }
}

static void nap(int64_t time)
{
    struct timespec wanted = {0, time};

    nanosleep(&wanted, NULL);
}

static void begin(mc_connection *connection)
{
    memset(connection, 0, sizeof *connection);
    connection->fd = -1;
    connection->generation = mc_process_generation();
    connection->transport = &mc_native_transport;
}

static void holds_nothing(const mc_connecting *state)
{
    CHECK(state->fd == -1 && state->list == NULL && state->next == NULL);
}

static const mc_address_family families[] = {MC_FAMILY_INET, MC_FAMILY_UNIX};

static void a_server_that_takes_it_is_connected_to_without_a_wait(void)
{
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        mc_clock clock;
        mc_status status;
        server self;

        listen_at(&self, families[i], 5);
        begin(&connection);
        mc_clock_start(&clock, LONG, LONG);
        while ((status = mc_connection_connect_step(&connection, &state, &self.to, &clock)) ==
               MC_AGAIN) {
            CHECK(i == 0 && state.wait_fd == state.fd && state.fd >= 0);
            nap(MILLISECOND);
        }
        CHECK(status == MC_OK && connection.fd >= 0 && connection.open);
        CHECK(connection.error == 0 && clock.late);
        holds_nothing(&state);
        CHECK(mc_connection_is_quiet(&connection));
        mc_connection_close(&connection);
        stop(&self);
    }
}

/* The wait is the caller's, for what the state names. */
static void a_tcp_connect_says_what_to_wait_for(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    mc_clock clock;
    server self;

    listen_at(&self, MC_FAMILY_INET, 0);
    fill_queue(&self);
    begin(&connection);
    mc_clock_start(&clock, LONG, 20 * MC_SECOND);
    int64_t before = mc_clock_now();
    CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_AGAIN);
    int begun = state.fd;
    for (int i = 0; i < 3; i++) {
        CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_AGAIN);
        CHECK(state.fd == begun && begun >= 0 && state.wait_fd == begun);
        CHECK(state.wait_until >= before + 19 * MC_SECOND);
        CHECK(state.wait_until <= mc_clock_now() + 20 * MC_SECOND);
        CHECK(connection.fd == -1 && !connection.open);
    }
    CHECK(mc_clock_now() - before < MC_SECOND * 9 / 10); /* none of them waited */
    struct pollfd wanted = {state.wait_fd, POLLOUT, 0};
    int ready = 0;
    for (int i = 0; i < 1000 && ready == 0; i++) { /* the system asks once more after a second */
        accept_all(&self);
        ready = poll(&wanted, 1, 15);
    }
    CHECK(ready == 1);
    CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_OK);
    CHECK(connection.fd == begun && (fcntl(begun, F_GETFL) & O_NONBLOCK) == 0);
    holds_nothing(&state);
    mc_connection_close(&connection);
    stop(&self);
}

static void a_unix_connect_to_a_full_server_has_nothing_to_wait_for_but_time(void)
{
    mc_connecting state = MC_CONNECTING_INIT;
    mc_connection connection;
    mc_clock clock;
    server self;

    listen_at(&self, MC_FAMILY_UNIX, 0);
    fill_queue(&self);
    begin(&connection);
    mc_clock_start(&clock, LONG, LONG);
    int64_t before = mc_clock_now();
    for (int i = 0; i < 20; i++) {
        int64_t now = mc_clock_now();

        CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_AGAIN);
        CHECK(state.wait_fd == -1 && state.wait_until > now);
        CHECK(state.wait_until <= mc_clock_now() + 10 * MILLISECOND);
        CHECK(connection.fd == -1 && !connection.open);
    }
    CHECK(mc_clock_now() - before < MC_SECOND * 9 / 10);
    accept_all(&self);
    CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_OK);
    CHECK((fcntl(connection.fd, F_GETFL) & O_NONBLOCK) == 0);
    holds_nothing(&state);
    mc_connection_close(&connection);
    stop(&self);
}

static void the_time_of_all_steps_is_the_connects_and_not_the_calls(void)
{
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        mc_clock clock;
        server self;

        listen_at(&self, families[i], 0);
        fill_queue(&self);
        begin(&connection);
        mc_clock_start(&clock, LONG, LONG);
        for (int step = 0; step < 4; step++) {
            int64_t had = clock.connecting;

            CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_AGAIN);
            CHECK(step == 0 || clock.connecting - had >= 10 * MILLISECOND);
            CHECK(clock.connecting <= mc_clock_now() - clock.start);
            nap(10 * MILLISECOND);
        }
        CHECK(clock.connecting >= 30 * MILLISECOND);
        /* What is left for the call has not become less but for what is not charged
         * yet. */
        CHECK(mc_clock_left(&clock, mc_clock_now()) >= LONG - 900 * MILLISECOND);
        CHECK(mc_clock_connect_left(&clock) <= LONG - 30 * MILLISECOND);
        mc_connecting_fini(&state);
        holds_nothing(&state);
        stop(&self);
    }
}

static void after_its_time_a_step_says_so_and_holds_nothing(void)
{
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        mc_clock clock;
        server self;
        int steps = 0;

        listen_at(&self, families[i], 0);
        fill_queue(&self);
        begin(&connection);
        mc_clock_start(&clock, LONG, 30 * MILLISECOND);
        int64_t before = mc_clock_now();
        int next = dup(0);
        close(next);
        mc_status status;
        while ((status = mc_connection_connect_step(&connection, &state, &self.to, &clock)) ==
               MC_AGAIN) {
            CHECK(state.wait_until <= mc_clock_now() + 30 * MILLISECOND);
            nap(5 * MILLISECOND);
            steps++;
        }
        CHECK(status == MC_TIMEOUT && steps > 0);
        CHECK(mc_clock_now() - before >= 30 * MILLISECOND);
        CHECK(mc_clock_connect_left(&clock) == 0);
        holds_nothing(&state);
        CHECK(connection.fd == -1 && !connection.open);
        int again = dup(0);
        close(again);
        CHECK(again == next);
        /* Nothing is left for another one. */
        CHECK(mc_connection_connect_step(&connection, &state, &self.to, &clock) == MC_TIMEOUT);
        holds_nothing(&state);
        stop(&self);
    }
}

static void what_lies_between_two_connects_is_not_charged(void)
{
    for (int i = 0; i < 2; i++) {
        mc_connecting state = MC_CONNECTING_INIT;
        mc_connection connection;
        mc_clock clock;
        server self;

        listen_at(&self, families[i], 5);
        begin(&connection);
        mc_clock_start(&clock, LONG, LONG);
        CHECK(mc_connection_connect(&connection, &state, &self.to, &clock) == MC_OK);
        mc_connection_close(&connection);
        nap(500 * MILLISECOND);
        CHECK(mc_connection_connect(&connection, &state, &self.to, &clock) == MC_OK);
        CHECK(clock.connecting < 500 * MILLISECOND);
        CHECK(mc_clock_now() - clock.start >= 500 * MILLISECOND); /* as a look-up would */
        mc_connection_close(&connection);
        stop(&self);
    }
}

int main(void)
{
    alarm(60); /* a wait that does not end ends all */
    PROMISE(a_server_that_takes_it_is_connected_to_without_a_wait);
    PROMISE(a_tcp_connect_says_what_to_wait_for);
    PROMISE(a_unix_connect_to_a_full_server_has_nothing_to_wait_for_but_time);
    PROMISE(the_time_of_all_steps_is_the_connects_and_not_the_calls);
    PROMISE(after_its_time_a_step_says_so_and_holds_nothing);
    PROMISE(what_lies_between_two_connects_is_not_charged);
    return check_result();
}
