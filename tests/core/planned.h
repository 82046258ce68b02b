/* planned: system calls that fail as a test has planned, and streams, signals and times for that.
 */
#ifndef PLANNED_H
#define PLANNED_H

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
#include "core/net/process.h"
#include "moves.h"
#include "streams.h"

#define MILLISECOND (MC_SECOND / 1000)
#define LONG (60 * MC_SECOND) /* never reached */
#define BODY 100000           /* is waited for in one receive */

/* ---- the system calls ---- */

/* The errno that the next call fails with, once; of the resolver what it returns. */
static struct {
    int receive, send, poll, connect, resolver;
} planned;

/* With an error planned: takes it and sets errno. */
static inline bool fails(int *plan)
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

static inline void adopted(mc_connection *connection)
{
    connection->generation = mc_process_generation();
    connection->open = true;
}

static inline int listen_at(int family, struct sockaddr *address, socklen_t size, int backlog)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, address, size) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static inline int listen_on_loopback(uint16_t *port)
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

static inline int listen_at_a_path(int backlog)
{
    strcpy(folder, "/tmp/mcext-test-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    place = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof place.sun_path, "%s/s", folder);
    return listen_at(AF_UNIX, (struct sockaddr *)&place, sizeof place, backlog);
}

static int waiting[8], waiting_count;

/* With connects that wait to be accepted. */
static inline void fill_backlog(void)
{
    int result;

    do {
        waiting[waiting_count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        result = connect(waiting[waiting_count++], (struct sockaddr *)&place, sizeof place);
    } while (result == 0 && waiting_count < 8);
    CHECK(result < 0 && errno == EAGAIN);
}

static inline void stop_listening(int fd)
{
    close(fd);
    while (waiting_count > 0) {
        close(waiting[--waiting_count]);
    }
    unlink(place.sun_path);
    rmdir(folder);
}

static inline mc_status connect_by(mc_connection *connection, mc_connecting *state,
                                   mc_address_family family, uint16_t port, int64_t timeout)
{
    mc_clock clock;

    mc_clock_start(&clock, LONG, timeout);
    memset(connection, 0, sizeof *connection);
    connection->fd = -1;
    connection->transport = &mc_native_transport;
    mc_endpoint to = {family, family == MC_FAMILY_UNIX ? place.sun_path : "name", port};
    mc_status status = mc_connection_connect(connection, state, &to, &clock);
    if (status == MC_OK) {
        adopted(connection);
    }
    return status;
}

/* The number that the next descriptor gets: it moves on where one is left open. */
static inline int next_descriptor(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

/* ---- signals ---- */

static _Atomic int signals;

static inline void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static pthread_t caller;
static _Atomic bool heard;

static inline void *ring(void *unused)
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
static inline pthread_t ring_soon(void)
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

static inline void has_rung(pthread_t bell)
{
    atomic_store(&heard, true);
    CHECK(pthread_join(bell, NULL) == 0);
    CHECK(atomic_load(&signals) > 0);
}

/* ---- short times ---- */

static const int64_t short_times[] = {1, 999, 1000, MILLISECOND, 20 * MILLISECOND};

#define SHORT_TIMES (sizeof short_times / sizeof *short_times)

/* What began then ends in its time (ticks of the system's clock are milliseconds), far below a
 * second. */
static inline void in_time(int64_t before, int64_t timeout)
{
    int64_t took = mc_clock_now() - before;

    CHECK(took >= timeout / 2 && took < MC_SECOND * 9 / 10);
}

/* What each errno means. */
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

#endif
