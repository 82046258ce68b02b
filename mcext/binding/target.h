/* target: a server that a call has chosen, and the connection to it that the call owns. */
#ifndef MCX_TARGET_H
#define MCX_TARGET_H

#include "keys.h"
#include "server.h"

/* A server that was chosen, and this call's connection to it. */
typedef struct {
    mcx_server *host;          /* strong */
    mc_connection *connection; /* owned by the call */
    bool probe;                /* this call alone tries a server whose dead mark has run out */
    bool asked;                /* a request went out whose answer tells whether the server lives */
} mcx_target;

/* An idle connection younger than this is used without a look. */
#define MCX_LOOK_AFTER MC_SECOND

/* The server for key and a connection to it: 1, 0 where there is none, -1 with an exception, or
 * without one where the call turned out to be customised. */
int mcx_select(mcx_call *call, const mcx_key *key, mcx_target *target);

/* A connection to this host: 1, 0 where it cannot be reached, -1 with an exception. */
int mcx_connect_host(mcx_call *call, mcx_server *host, mcx_target *target);

/* A new connection to the target's host in place of one that the server closed. As above; where it
 * is not 1 the target has no host any more. */
int mcx_reconnect(mcx_call *call, mcx_target *target);

/* The server is marked dead, with what a Cache's call tells of that. 0, or -1 with an exception. */
int mcx_mark_dead(mcx_call *call, mcx_server *host, PyObject *reason);

/* Gives the target's connection back; clean: its stream is in step. An exception stays. */
void mcx_target_end(mcx_call *call, mcx_target *target, bool clean);

#endif
