/* The promises of mcext/core/net/socket.h about a connect's attempts: what is looked up, which
 * address has how much time, and what is said where the system refuses.
 *
 * This program has a getaddrinfo, a connect, a getsockopt and a poll of its own: a connect is under
 * way until the poll says that it is not. */
#define _GNU_SOURCE
#include "core/net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "check.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND) /* never reached */

/* ---- the system ---- */

static struct {
    int results[3], asked; /* of the resolver, one a call */
    struct addrinfo hints[3];
    char host[3][16], service[3][8];
    int addresses, freed; /* of a name; how many lists were given back */
    int64_t nap;          /* that the look-up takes */
    int64_t connect_nap;  /* that a connect takes */
    int connects, connect_error[8];
    int family;           /* of the last connect, */
    size_t path_length;   /* and its path */
    int polls, ready;     /* what a poll finds */
    short events;         /* that the last one waited for, */
    int poll_timeout;     /* and how long */
    int getsockopt_error; /* that it fails with, once */
    int attempt_error;    /* what an attempt has ended in */
} system_;

static void reset(void)
{
    memset(&system_, 0, sizeof system_);
    system_.addresses = 1;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    int call = system_.asked++;

    system_.hints[call] = *hints;
    snprintf(system_.host[call], sizeof system_.host[call], "%s", host);
    snprintf(system_.service[call], sizeof system_.service[call], "%s", service);
    nanosleep(&(struct timespec){0, system_.nap}, NULL);
    if (system_.results[call] != 0) {
        errno = EDOM;
        return system_.results[call];
    }
    struct addrinfo *all = calloc((size_t)system_.addresses, sizeof *all);
    static struct sockaddr_in address = {.sin_family = AF_INET};
    for (int i = 0; i < system_.addresses; i++) {
        all[i].ai_family = AF_INET;
        all[i].ai_addr = (struct sockaddr *)&address;
        all[i].ai_addrlen = sizeof address;
        all[i].ai_next = i + 1 < system_.addresses ? &all[i + 1] : NULL;
    }
    *list = all;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    system_.freed++;
    free(list);
}

int own_connect(int fd, const struct sockaddr *address, socklen_t size) __asm__("connect");

int own_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    (void)fd;
    system_.family = address->sa_family;
    if (address->sa_family == AF_UNIX) {
        system_.path_length = strnlen(((const struct sockaddr_un *)address)->sun_path,
                                      size - offsetof(struct sockaddr_un, sun_path));
    }
    nanosleep(&(struct timespec){0, system_.connect_nap}, NULL);
    errno = system_.connect_error[system_.connects++];
    return errno == 0 ? 0 : -1;
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    (void)fd, (void)size;
    CHECK(level == SOL_SOCKET && option == SO_ERROR);
    if (system_.getsockopt_error != 0) {
        errno = system_.getsockopt_error;
        return -1;
    }
    memcpy(value, &system_.attempt_error, sizeof system_.attempt_error);
    return 0;
}

int own_poll(struct pollfd *polls, nfds_t count, int timeout) __asm__("poll");

int own_poll(struct pollfd *polls, nfds_t count, int timeout)
{
    (void)count;
    system_.polls++;
    system_.events = polls->events;
    system_.poll_timeout = timeout;
    return system_.ready;
}

/* ---- a connect ---- */

static mc_connection connection;
static mc_connecting state;
static mc_clock now;
static mc_endpoint to = {MC_FAMILY_INET, "a name", 11211};

static void begin(int64_t timeout)
{
    memset(&connection, 0, sizeof connection);
    connection.fd = -1;
    connection.transport = &mc_native_transport;
    state = (mc_connecting)MC_CONNECTING_INIT;
    mc_clock_start(&now, LONG, timeout);
}

static mc_status step(void)
{
    return mc_connection_connect_step(&connection, &state, &to, &now);
}

static void end(void)
{
    mc_connecting_fini(&state);
    mc_connection_close(&connection);
    CHECK(system_.freed <= 1);
}

/* Numbers are no names, and a name that is none is looked up in both families but where it is
 * known which one it is. */
static void a_name_is_looked_up_behind_a_number(void)
{
    for (int i = 0; i < 4; i++) {
        int family = i & 2 ? AF_INET6 : AF_UNSPEC;

        reset();
        to.family = i & 2 ? MC_FAMILY_INET6 : MC_FAMILY_INET;
        system_.results[0] = i & 1 ? EAI_NONAME : 0;
        begin(LONG);
        CHECK(step() == MC_AGAIN);
        CHECK(connection.resolver_error == 0);
        CHECK_NUMBER(system_.asked, i & 1 ? 2 : 1);
        for (int call = 0; call < system_.asked; call++) {
            CHECK_NUMBER(system_.hints[call].ai_flags,
                         call == 0 ? AI_NUMERICHOST | AI_NUMERICSERV : AI_NUMERICSERV);
            CHECK(system_.hints[call].ai_family == family);
            CHECK(system_.hints[call].ai_socktype == SOCK_STREAM);
            CHECK(strcmp(system_.host[call], "a name") == 0);
            CHECK(strcmp(system_.service[call], "11211") == 0);
        }
        CHECK(step() == MC_AGAIN && system_.asked <= 2); /* once */
        CHECK(system_.freed == 0);
        end();
        CHECK(system_.freed == 1);
    }
    to.family = MC_FAMILY_INET;
}

static void what_the_resolver_says_is_kept(void)
{
    static const int errors[] = {EAI_MEMORY, EAI_NONAME, EAI_SYSTEM};

    for (int i = 0; i < 3; i++) {
        reset();
        system_.results[0] = EAI_NONAME;
        system_.results[1] = errors[i];
        begin(LONG);
        CHECK(step() == (errors[i] == EAI_MEMORY ? MC_NO_MEMORY : MC_FAILED));
        CHECK(connection.resolver_error == errors[i] && connection.error == EDOM);
        CHECK(system_.asked == 2 && system_.connects == 0 && system_.freed == 0);
        end();
    }
}

/* It stands outside the deadline of the call, and is no time of the connect. */
static void a_look_up_is_not_charged(void)
{
    reset();
    system_.nap = 50 * MILLISECOND;
    begin(LONG);
    int64_t start = now.start;
    CHECK(step() == MC_AGAIN);
    CHECK(now.start - start >= 50 * MILLISECOND && now.start - start < 5 * MC_SECOND);
    CHECK(now.start <= mc_clock_now());
    CHECK(now.connecting < now.start - start);
    CHECK(state.since >= now.start);
    end();
}

static void the_time_of_an_attempt_is_charged_when_it_is_over(void)
{
    for (int i = 0; i < 2; i++) {
        reset();
        to.family = i ? MC_FAMILY_UNIX : MC_FAMILY_INET;
        system_.ready = 1;
        system_.connect_nap = 50 * MILLISECOND;
        begin(LONG);
        CHECK(step() == MC_OK);
        CHECK(now.connecting >= 50 * MILLISECOND && now.connecting < 5 * MC_SECOND);
        end();
    }
    to.family = MC_FAMILY_INET;
}

static void addresses_share_what_is_left(void)
{
    reset();
    system_.addresses = 4;
    begin(20 * MC_SECOND);
    int64_t before = mc_clock_now();
    for (int left = 4; left > 0; left--) { /* the first ones have had their time */
        /* Attempts are charged in this step: the one before, and a part of this one. */
        int64_t most = (20 * MC_SECOND - now.connecting) / left;

        CHECK(step() == MC_AGAIN);
        CHECK_NUMBER(system_.connects, 5 - left);
        int64_t least = (20 * MC_SECOND - now.connecting) / left;
        CHECK(state.wait_until >= before + least);
        CHECK(state.wait_until <= mc_clock_now() + most);
        CHECK(state.wait_fd == state.fd && state.fd >= 0);
        CHECK(system_.events == POLLOUT && system_.poll_timeout == 0);
        state.wait_until = mc_clock_now();
        before = mc_clock_now();
    }
    CHECK(step() == MC_TIMEOUT);
    CHECK(state.fd == -1 && system_.freed == 1);
    end();
    reset();
    begin(MC_NO_TIMEOUT);
    CHECK(step() == MC_AGAIN);
    CHECK(state.wait_until == INT64_MAX);
    end();
}

static void without_time_nothing_is_tried(void)
{
    reset();
    begin(1);
    now.connecting = 1;
    CHECK(step() == MC_TIMEOUT && system_.connects == 0);
    end();
    to = (mc_endpoint){MC_FAMILY_UNIX, "/path", 0};
    begin(1);
    now.connecting = 1;
    CHECK(step() == MC_TIMEOUT && system_.connects == 0);
    end();
    to = (mc_endpoint){MC_FAMILY_INET, "a name", 11211};
}

static void what_an_address_refuses_the_next_may_take(void)
{
    static const int errors[] = {0, EINPROGRESS, EINTR, ECONNREFUSED, ENETUNREACH, ENOMEM};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        bool goes_on = i < 3; /* where it was interrupted, too */

        reset();
        system_.addresses = 2;
        system_.connect_error[0] = errors[i];
        begin(LONG);
        CHECK(step() == MC_AGAIN); /* nothing is known yet */
        CHECK_NUMBER(system_.connects, goes_on ? 1 : 2);
        CHECK(connection.error == (goes_on ? 0 : errors[i]));
        end();
    }
    reset();
    system_.addresses = 2;
    system_.ready = 1;
    system_.attempt_error = ECONNREFUSED; /* of both */
    begin(LONG);
    CHECK(step() == MC_FAILED && system_.connects == 2 && system_.freed == 1);
    CHECK_NUMBER(connection.error, ECONNREFUSED);
    end();
    reset();
    system_.ready = 1;
    system_.getsockopt_error = ENOBUFS;
    begin(LONG);
    CHECK(step() == MC_FAILED);
    CHECK_NUMBER(connection.error, ENOBUFS);
    end();
}

/* Which is the limit of the process, not the server's fault: the errno tells. */
static void without_a_descriptor_it_fails(void)
{
    struct rlimit limit, none;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = (struct rlimit){0, limit.rlim_max};
    for (int i = 0; i < 2; i++) {
        reset();
        to.family = i ? MC_FAMILY_UNIX : MC_FAMILY_INET;
        begin(LONG);
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        CHECK(step() == MC_FAILED);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK_NUMBER(connection.error, EMFILE);
        CHECK(system_.connects == 0 && state.fd == -1 && connection.fd == -1);
        end();
    }
    to.family = MC_FAMILY_INET;
}

static void a_connect_by_path_waits_a_moment_for_a_server_that_is_busy(void)
{
    static const struct {
        int error;
        int64_t timeout, wait;
    } cases[] = {
        {EAGAIN, LONG, MILLISECOND},
        {EINPROGRESS, LONG, MILLISECOND},
        {EAGAIN, MC_NO_TIMEOUT, MILLISECOND},
        {EAGAIN, MILLISECOND / 2, MILLISECOND / 2},
    };

    to = (mc_endpoint){MC_FAMILY_UNIX, "/path", 0};
    for (size_t i = 0; i < 4; i++) {
        reset();
        begin(cases[i].timeout);
        system_.connect_error[0] = cases[i].error;
        state.wait_fd = 5; /* of before */
        int64_t before = mc_clock_now();
        CHECK(step() == MC_AGAIN);
        CHECK(system_.connects == 1 && system_.family == AF_UNIX && state.wait_fd == -1);
        CHECK(state.wait_until >= before + cases[i].wait);
        CHECK(state.wait_until <= mc_clock_now() + cases[i].wait);
        int begun = state.fd;
        CHECK(begun >= 0 && (fcntl(begun, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK((fcntl(begun, F_GETFL) & O_NONBLOCK) != 0);
        if (cases[i].timeout == LONG) { /* the same socket connects */
            CHECK(step() == MC_OK && connection.fd == begun && state.fd == -1);
        }
        end();
    }
    to = (mc_endpoint){MC_FAMILY_INET, "a name", 11211};
}

static void the_longest_path_is_whole(void)
{
    static char path[108];

    memset(path, 'p', 107);
    reset();
    to = (mc_endpoint){MC_FAMILY_UNIX, path, 0};
    begin(LONG);
    CHECK(step() == MC_OK);
    CHECK_NUMBER(system_.path_length, 107);
    end();
    to = (mc_endpoint){MC_FAMILY_INET, "a name", 11211};
}

int main(void)
{
    PROMISE(a_name_is_looked_up_behind_a_number);
    PROMISE(what_the_resolver_says_is_kept);
    PROMISE(a_look_up_is_not_charged);
    PROMISE(the_time_of_an_attempt_is_charged_when_it_is_over);
    PROMISE(addresses_share_what_is_left);
    PROMISE(without_time_nothing_is_tried);
    PROMISE(what_an_address_refuses_the_next_may_take);
    PROMISE(without_a_descriptor_it_fails);
    PROMISE(a_connect_by_path_waits_a_moment_for_a_server_that_is_busy);
    PROMISE(the_longest_path_is_whole);
    return check_result();
}
