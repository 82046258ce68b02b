/* connection: one stream to one server: how bytes move, until when, and its death.
 *
 * A connection belongs to one call at a time (pool.h); only that call touches anything but the
 * atomic fields. Bytes move through a transport: native sockets here, without any Python; objects
 * with a socket's methods in mcext/binding/python_socket.c. Native functions may be called without
 * the GIL. */
#ifndef MC_CONNECTION_H
#define MC_CONNECTION_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "core/net/address.h"
#include "core/net/clock.h"
#include "core/net/process.h"
#include "core/wire/buffer.h"
#include "core/wire/exchange.h"
#include "core/wire/status.h"

typedef struct mc_connection mc_connection;
typedef struct mc_pool mc_pool;

typedef struct mc_transport {
    /* Sends some of the pieces; *moved is what went out. Waits as long as clock allows. */
    mc_status (*send)(mc_connection *connection, struct iovec *pieces, int count, size_t *moved,
                      mc_clock *clock);
    /* Receives something into the pieces, in order; *moved > 0 where MC_OK. */
    mc_status (*receive)(mc_connection *connection, struct iovec *pieces, int count, size_t *moved,
                         bool all, mc_clock *clock);
    void (*close)(mc_connection *connection);
} mc_transport;

extern const mc_transport mc_native_transport;

struct mc_connection {
    _Atomic uint32_t turn; /* odd: a call owns it, the one that moved it on from even */
    _Atomic uint32_t open; /* has a stream */
    mc_pool *pool;         /* borrowed; the pool outlives it */
    const mc_transport *transport;
    void *handle;        /* the transport's own: a Python socket, owned; NULL for native */
    const void *kind;    /* what made the stream: only a call that asks for the same takes it */
    uint64_t owner;      /* the thread that alone may use it, or 0 */
    int fd;              /* -1 where there is none */
    int error;           /* errno of the last MC_FAILED */
    int resolver_error;  /* getaddrinfo's, or 0 */
    uint32_t generation; /* of the process that opened it (process.h) */
    uint32_t epoch;      /* of the pool when it was opened */
    uint32_t unanswered; /* noreply commands sent since the stream was last known in step */
    uint32_t overtime;   /* bytes that handle may receive, without waiting, past the deadline */
    bool orphan;         /* forgotten by the pool after a fork: freed when given back */
    bool moving;         /* the transport sends or receives, and may run any code */
    _Atomic int64_t last_used;
    int64_t receive_timeout; /* as set on the socket, nanoseconds */
    int64_t send_timeout;
    mc_buffer in;
    mc_buffer out;
};

/* Opens a native stream to address: resolves the name, tries each of its addresses within what the
 * clock has left for connects. A signal in between is MC_INTERRUPTED: nothing is kept but the time
 * spent, unless resume is given, which then goes on where it was. */
typedef struct {
    void *list;            /* struct addrinfo, owned */
    void *next;            /* the one being tried */
    int fd;                /* being connected, or -1 */
    int64_t attempt_until; /* when to give up this address */
} mc_connecting;

#define MC_CONNECTING_INIT                                                                         \
    {                                                                                              \
        NULL, NULL, -1, 0                                                                          \
    }

mc_status mc_connection_connect(mc_connection *connection, mc_connecting *state,
                                mc_address_family family, const char *host, uint16_t port,
                                mc_clock *clock);
void mc_connecting_fini(mc_connecting *state);

/* Sends all of *pieces, which move on as bytes leave, so that it can be called again after
 * MC_INTERRUPTED. */
mc_status mc_connection_send(mc_connection *connection, struct iovec **pieces, int *count,
                             mc_clock *clock);

/* Sends what it can at one go; *moved is how much. */
mc_status mc_connection_send_some(mc_connection *connection, struct iovec *pieces, int count,
                                  size_t *moved, mc_clock *clock);

/* Receives once into the exchange's room and, behind it, the input buffer. */
mc_status mc_connection_receive(mc_connection *connection, mc_exchange *exchange, mc_clock *clock);

/* The plain way of a small call on a native connection: sends what is in its output buffer and
 * receives once into its input buffer. After MC_INTERRUPTED it can be called again: what has left
 * is no longer in the output buffer. */
mc_status mc_connection_roundtrip(mc_connection *connection, mc_clock *clock);

/* True where the peer has neither closed nor sent anything: an idle connection is still good. */
bool mc_connection_is_quiet(mc_connection *connection);

/* True where there is no stream, or another process's: a fork has happened since it was opened. */
static inline bool mc_connection_is_lost(const mc_connection *connection)
{
    return connection->generation != mc_process_generation() ||
           !atomic_load_explicit(&connection->open, memory_order_relaxed);
}

/* Closes the stream; the struct stays. Nothing is sent. */
void mc_connection_close(mc_connection *connection);

/* The same in the middle of the call that owns it, which still uses the buffers: it goes on to find
 * the stream lost. */
void mc_connection_shut(mc_connection *connection);

/* Moves the pieces on by moved bytes, dropping the empty ones. */
void mc_pieces_advance(struct iovec **pieces, int *count, size_t moved);

#endif
