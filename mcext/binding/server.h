/* server: a server's data, in C: what `_Server` has, the base class of _Host. */
#ifndef MCX_SERVER_H
#define MCX_SERVER_H

#include <stddef.h>

#include "core/fleet/server.h"
#include "core/net/socket.h"
#include "state.h"

/* The data of a _Host: the base class of that, in C. */
typedef struct mcx_server {
    PyObject_HEAD
    mcx_module *module; /* borrowed: the type keeps it */
    mc_server server;
    bool initialised;
    PyObject *address; /* (host, port) or path */
    PyObject *ip;      /* str or NULL */
    PyObject *port;    /* int or NULL */
    PyObject *family, *weight, *debug, *dead_retry, *socket_timeout, *flush_on_reconnect;
    PyObject *connect_timeout;     /* NULL or None: socket_timeout */
    PyObject *username, *password; /* _Secret; NULL or None: none is said */
    _Atomic int64_t refused_at;    /* by mc_clock_now: when it did not take them, 0: never yet */
    _Atomic int64_t dead_retry_us, timeout, connect_within;
    _Atomic int is_debug, does_flush;
    PyObject *written;             /* its address as users wrote it; strong */
    PyObject *name;                /* what other clients call it (mcext.Server); strong or NULL */
    struct mcx_counters *counters; /* of a Cache: owned; NULL: nothing is counted */
    PyObject *tls_context, *tls_server_hostname; /* strong or NULL; with the session in the object's
                                                    critical section */
    PyObject *tls_session; /* strong or NULL: what the next handshake is shortened by */
    int tls_kept;          /* sessions that were kept since the last shortened handshake */
    struct mcx_lane *lane; /* borrowed: of an AsyncCache's streams, or NULL; its loop's thread's */
    _Atomic size_t open_streams; /* of those, which all threads may read */
    PyObject *streams;           /* mcext.pure.stream.Streams, or NULL: set once */
} mcx_server;

/* The server that a connection's pool belongs to. */
static inline mcx_server *mcx_server_of(const mc_connection *connection)
{
    return (mcx_server *)((char *)connection->pool - offsetof(mcx_server, server.pool));
}

/* What a stream of this server must carry to be used: of this process, and not from before the last
 * disconnect. The process generation stands in the upper half. */
uint64_t mcx_server_stamp(mcx_server *host);

/* A new reference, or NULL without an exception where it was deleted. */
PyObject *mcx_server_weight(mcx_server *host);
/* Its address as users wrote it; a new reference. */
PyObject *mcx_server_written(mcx_server *host);
/* Its name in get_stats; a new reference. */
PyObject *mcx_server_stats_name(mcx_server *host);
int mcx_server_mark_dead(mcx_server *host, PyObject *reason);
/* After mc_pool_disconnect: closes the host's idle connections, saying quit before. */
void mcx_server_close_idle(mcx_server *host, bool quit);
/* Opens a connection this call owns, whose transport is set: status as the transport's. */
mc_status mcx_server_open(mcx_server *host, mc_connection *connection, mc_clock *clock);

/* Whether connections to it are wrapped in TLS. */
static inline bool mcx_server_is_tls(const mcx_server *host)
{
    return __atomic_load_n(&host->tls_context, __ATOMIC_RELAXED) != NULL &&
           host->server.family != MC_FAMILY_UNIX;
}

static inline bool mcx_is_server(mcx_module *module, PyObject *object)
{
    return PyObject_TypeCheck(object, module->server_type);
}

#endif
