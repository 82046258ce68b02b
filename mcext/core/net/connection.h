/* connection: one stream to one server: how bytes move, until when, and its death.
 *
 * A connection belongs to one call at a time (pool.h), which alone touches it. Bytes move through a
 * transport, a table: native sockets in socket.c; objects with a socket's methods in
 * mcext/binding/python_socket.c; TLS over either in mcext/binding/tls.c. */
#ifndef MC_CONNECTION_H
#define MC_CONNECTION_H

#include <sys/uio.h>

#include "core/net/address.h"
#include "core/net/clock.h"
#include "core/net/process.h"
#include "core/wire/buffer.h"
#include "core/wire/status.h"

typedef struct mc_connection mc_connection;
typedef struct mc_pool mc_pool;

/* Where a server is. */
typedef struct {
    mc_address_family family;
    const char *host; /* a name, an address, or the path of a Unix socket; NUL-terminated */
    uint16_t port;
} mc_endpoint;

/* A connect that is under way. */
typedef struct {
    void *list;         /* struct addrinfo, owned */
    void *next;         /* the one being tried */
    int fd;             /* being connected, or -1 */
    int wait_fd;        /* after MC_AGAIN: wait until this can be written to, or -1: only */
    int64_t wait_until; /* till then; INT64_MAX: there is no end */
    int64_t since;      /* when the clock was last charged */
    bool wait_to_read;  /* wait_fd is waited for until it can be read */
} mc_connecting;

#define MC_CONNECTING_INIT                                                                         \
    {                                                                                              \
        NULL, NULL, -1, -1, INT64_MAX, 0, false                                                    \
    }

/* How the bytes of a stream move, and what it can do. */
typedef struct mc_transport {
    /* What carries its bytes, on the same connection, or NULL. */
    const struct mc_transport *below;
    bool is_free;       /* runs no Python code: it needs no GIL */
    bool is_pollable;   /* its fd tells poll the truth, but for what mc_connection.more says */
    bool waits_for_all; /* a receive can wait until its pieces are full */
    /* One step of opening the stream: MC_OK; MC_AGAIN: state says what to wait for. */
    mc_status (*connect)(mc_connection *connection, mc_connecting *state, const mc_endpoint *to,
                         mc_clock *clock);
    /* Sends some of the pieces; *moved is what went out. Waits as long as clock allows. */
    mc_status (*send)(mc_connection *connection, struct iovec *pieces, int count, size_t *moved,
                      mc_clock *clock);
    /* Receives something into the pieces, in order. all: the pieces are all that is still to come.
     * MC_OK with *moved 0: what came was the transport's own. */
    mc_status (*receive)(mc_connection *connection, struct iovec *pieces, int count, size_t *moved,
                         bool all, mc_clock *clock);
    /* Whether the peer has neither closed nor said anything, as far as it can be told. */
    bool (*is_quiet)(mc_connection *connection);
    void (*close)(mc_connection *connection);
} mc_transport;

struct mc_connection {
    mc_pool *pool; /* borrowed; the pool outlives it */
    const mc_transport *transport;
    void *handle;        /* the transport's own: a TLS stream, owned, or NULL */
    void *socket;        /* a Python socket, owned; NULL where it is native, which is fd */
    const void *kind;    /* what made the stream: only a call that asks for the same takes it */
    uint64_t owner;      /* the thread that alone may use it, or 0 */
    int fd;              /* -1 where there is none */
    int error;           /* errno of the last MC_FAILED */
    char *problem;       /* what the transport says of that in place of errno: owned, or NULL */
    int resolver_error;  /* getaddrinfo's, or 0 */
    uint32_t generation; /* of the process that opened it (process.h) */
    uint32_t epoch;      /* of the pool when it was opened */
    uint32_t unanswered; /* noreply commands sent since the stream was last known in step */
    uint32_t overtime;   /* bytes that socket may receive, without waiting, past the deadline */
    bool open;           /* has a stream, or the beginnings of one */
    bool in_records;     /* the peer gets each piece as records of its own (leg.c, PIECE) */
    bool more;           /* the transport holds bytes that have come: no poll tells of them */
    bool secret;         /* a copy of what is sent is to be wiped when it has left */
    int64_t last_used;
    int64_t receive_timeout; /* as set on the socket, nanoseconds */
    mc_buffer in;
    mc_buffer out;
};

/* Opens a stream to that address with the connection's transport, within what the clock has left
 * for connects. After MC_INTERRUPTED it can be called again and goes on where it was; else, and
 * where the caller gives up, state holds nothing, or mc_connecting_fini is due. */
mc_status mc_connection_connect(mc_connection *connection, mc_connecting *state,
                                const mc_endpoint *to, mc_clock *clock);
/* The same without waiting, but for the look-up of a name: MC_AGAIN where state says what to wait
 * for before the next step. */
mc_status mc_connection_connect_step(mc_connection *connection, mc_connecting *state,
                                     const mc_endpoint *to, mc_clock *clock);
/* After MC_AGAIN: waits for that. MC_OK: the next step is due; else as a connect that failed. */
mc_status mc_connecting_wait(mc_connection *connection, mc_connecting *state);
void mc_connecting_fini(mc_connecting *state);

/* As the transport's; MC_CLOSED where there is no stream, or another process's. */
mc_status mc_connection_send(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, mc_clock *clock);
mc_status mc_connection_receive(mc_connection *connection, struct iovec *pieces, int count,
                                size_t *moved, bool all, mc_clock *clock);

/* True where the peer has neither closed nor sent anything: an idle connection is still good. */
bool mc_connection_is_quiet(mc_connection *connection);

/* True where there is no stream, or another process's: a fork has happened since it was opened. */
static inline bool mc_connection_is_lost(const mc_connection *connection)
{
    return connection->generation != mc_process_generation() || !connection->open;
}

/* Closes the stream; the struct stays. Nothing is sent. */
void mc_connection_close(mc_connection *connection);

/* The same in the middle of the call that owns it, which still uses the buffers: it goes on to find
 * the stream lost. */
void mc_connection_shut(mc_connection *connection);

/* Moves the pieces on by moved bytes, dropping the empty ones. */
void mc_pieces_advance(struct iovec **pieces, int *count, size_t moved);

#endif
