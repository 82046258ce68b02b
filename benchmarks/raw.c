/* raw: the limit that every client is compared with. It sends prepared requests and receives the
 * known number of reply bytes on blocking sockets, and does nothing else.
 *
 * Usage: raw PLAN. The plan (written by workload.py) lists the connections and, for each call, its
 * parts: connection, request bytes, number of reply bytes. A call with several parts sends all of
 * them before it receives any. After the plan is read, each line "N" on standard input runs N
 * calls, one after the other, and answers with "[time, CPU time]" in nanoseconds.
 *
 * Standard C and POSIX only; one thread.
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct part {
    int fd;
    char *request;
    size_t request_size;
    size_t reply_size;
};

struct call {
    struct part *parts;
    size_t count;
};

static void die(const char *what)
{
    fprintf(stderr, "raw: %s: %s\n", what, errno != 0 ? strerror(errno) : "bad input");
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count != 0 ? count : 1, size);
    if (memory == NULL) {
        die("calloc");
    }
    return memory;
}

static int open_tcp(const char *host, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) {
        die(host);
    }
    return fd;
}

static int open_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || strlen(path) >= sizeof address.sun_path) {
        die(path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die(path);
    }
    return fd;
}

static int *read_connections(FILE *plan, size_t *count)
{
    if (fscanf(plan, "connections %zu\n", count) != 1) {
        die("connections");
    }
    int *fds = allocate(*count, sizeof *fds);
    for (size_t i = 0; i < *count; i++) {
        char text[256];
        unsigned port;
        if (fscanf(plan, "tcp %255s %u\n", text, &port) == 2) {
            fds[i] = open_tcp(text, port);
        }
        else if (fscanf(plan, "unix %255s\n", text) == 1) {
            fds[i] = open_unix(text);
        }
        else {
            die("connection");
        }
    }
    return fds;
}

/* Returns the calls; *largest is the largest reply. */
static struct call *read_calls(FILE *plan, const int *fds, size_t fd_count, size_t *count,
                               size_t *largest)
{
    *largest = 0;
    if (fscanf(plan, "calls %zu\n", count) != 1 || *count == 0) {
        die("calls");
    }
    struct call *calls = allocate(*count, sizeof *calls);
    for (size_t i = 0; i < *count; i++) {
        if (fscanf(plan, "call %zu\n", &calls[i].count) != 1) {
            die("call");
        }
        calls[i].parts = allocate(calls[i].count, sizeof *calls[i].parts);
        for (size_t j = 0; j < calls[i].count; j++) {
            struct part *part = &calls[i].parts[j];
            size_t connection;
            /* One newline ends the header; fscanf would eat the first bytes of a request that
             * begins with white space if the format ended with one. */
            if (fscanf(plan, "part %zu %zu %zu", &connection, &part->request_size,
                       &part->reply_size) != 3 ||
                connection >= fd_count || fgetc(plan) != '\n') {
                die("part");
            }
            part->fd = fds[connection];
            part->request = allocate(part->request_size, 1);
            if (fread(part->request, 1, part->request_size, plan) != part->request_size ||
                fgetc(plan) != '\n') {
                die("request");
            }
            if (part->reply_size > *largest) {
                *largest = part->reply_size;
            }
        }
    }
    return calls;
}

static void run_call(const struct call *call, char *reply)
{
    for (size_t i = 0; i < call->count; i++) {
        const struct part *part = &call->parts[i];
        size_t sent = 0;
        while (sent < part->request_size) {
            ssize_t n = send(part->fd, part->request + sent, part->request_size - sent, 0);
            if (n <= 0) {
                die("send");
            }
            sent += (size_t)n;
        }
    }
    for (size_t i = 0; i < call->count; i++) {
        const struct part *part = &call->parts[i];
        size_t received = 0;
        while (received < part->reply_size) {
            ssize_t n = recv(part->fd, reply + received, part->reply_size - received, 0);
            if (n <= 0) {
                die("recv");
            }
            received += (size_t)n;
        }
    }
}

/* A plan whose reply sizes are wrong would measure something else: the last reply must end with a
 * line end, and nothing may follow it. */
static void check_in_step(const struct call *call, const char *reply)
{
    char byte;
    const struct part *last = &call->parts[call->count - 1];
    if (memcmp(reply + last->reply_size - 2, "\r\n", 2) != 0) {
        errno = 0;
        die("a reply does not end where the plan says");
    }
    for (size_t i = 0; i < call->count; i++) {
        if (recv(call->parts[i].fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 ||
            (errno != EAGAIN && errno != EWOULDBLOCK)) {
            die("a reply is longer than the plan says");
        }
    }
}

static long long now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (long long)time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    size_t fd_count;
    size_t call_count;
    size_t largest;
    unsigned long count;
    size_t next = 0;

    FILE *plan = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (plan == NULL) {
        die("cannot read the plan; usage: raw PLAN");
    }
    int *fds = read_connections(plan, &fd_count);
    struct call *calls = read_calls(plan, fds, fd_count, &call_count, &largest);
    fclose(plan);
    char *reply = allocate(largest, 1);

    while (scanf("%lu", &count) == 1 && count != 0) {
        const struct call *call = calls;
        long long wall = now(CLOCK_MONOTONIC);
        long long cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        for (unsigned long i = 0; i < count; i++) {
            call = &calls[next];
            run_call(call, reply);
            next = next + 1 == call_count ? 0 : next + 1;
        }
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wall = now(CLOCK_MONOTONIC) - wall;
        check_in_step(call, reply);
        printf("[%lld, %lld]\n", wall, cpu);
        fflush(stdout);
    }

    for (size_t i = 0; i < fd_count; i++) {
        close(fds[i]);
    }
    for (size_t i = 0; i < call_count; i++) {
        for (size_t j = 0; j < calls[i].count; j++) {
            free(calls[i].parts[j].request);
        }
        free(calls[i].parts);
    }
    free(calls);
    free(fds);
    free(reply);
    return 0;
}
