/* raw_tls: what raw is, over TLS: the limit that a client with TLS is compared with. One request,
 * prepared, goes out by SSL_write; SSL_read takes as many bytes as the reply is known to have.
 *
 * Usage: raw_tls HOST PORT AUTHORITY REPLY_SIZE, where AUTHORITY is a PEM file. On standard input a
 * line "SIZE", then the request of so many bytes; then each line "N" runs N calls and answers with
 * "[time, CPU time]" in nanoseconds, as raw does.
 *
 * The system's OpenSSL, linked; POSIX; one thread.
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static void die(const char *what)
{
    fprintf(stderr, "raw_tls: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
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

static SSL *open_tls(int fd, const char *host, const char *authority)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_load_verify_locations(context, authority, NULL) != 1) {
        die(authority);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL *tls = SSL_new(context);
    if (tls == NULL || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host) != 1 ||
        SSL_set_fd(tls, fd) != 1 || SSL_connect(tls) != 1) {
        die("no TLS");
    }
    SSL_CTX_free(context);
    return tls;
}

static void run_call(SSL *tls, const char *request, size_t size, char *reply, size_t reply_size)
{
    for (size_t sent = 0, n; sent < size; sent += n) {
        if (SSL_write_ex(tls, request + sent, size - sent, &n) != 1) {
            die("SSL_write_ex");
        }
    }
    for (size_t received = 0, n; received < reply_size; received += n) {
        if (SSL_read_ex(tls, reply + received, reply_size - received, &n) != 1) {
            die("SSL_read_ex");
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
    size_t size;
    unsigned long count;

    if (argc != 5 || scanf("%zu", &size) != 1 || getchar() != '\n') {
        die("usage: raw_tls HOST PORT AUTHORITY REPLY_SIZE, and a request on standard input");
    }
    size_t reply_size = strtoul(argv[4], NULL, 10);
    char *request = malloc(size), *reply = malloc(reply_size);
    if (request == NULL || reply == NULL || fread(request, 1, size, stdin) != size) {
        die("no request");
    }
    SSL *tls = open_tls(open_tcp(argv[1], (unsigned)strtoul(argv[2], NULL, 10)), argv[1], argv[3]);

    while (scanf("%lu", &count) == 1 && count != 0) {
        long long wall = now(CLOCK_MONOTONIC);
        long long cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        for (unsigned long i = 0; i < count; i++) {
            run_call(tls, request, size, reply, reply_size);
        }
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wall = now(CLOCK_MONOTONIC) - wall;
        if (memcmp(reply + reply_size - 2, "\r\n", 2) != 0 || SSL_has_pending(tls)) {
            die("a reply has another length");
        }
        printf("[%lld, %lld]\n", wall, cpu);
        fflush(stdout);
    }
    SSL_free(tls);
    free(request);
    free(reply);
    return 0;
}
