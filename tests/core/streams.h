/* streams: connections of the native transport for the tests, without a connect. */
#ifndef STREAMS_H
#define STREAMS_H

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "core/net/process.h"
#include "core/net/socket.h"

/* As a pool makes one: without a stream. */
static inline void begin_connection(mc_connection *connection)
{
    memset(connection, 0, sizeof *connection);
    connection->fd = -1;
    connection->generation = mc_process_generation();
    connection->transport = &mc_native_transport;
    connection->receive_timeout = MC_NO_TIMEOUT;
}

/* A connection to *peer. */
static inline void pair(mc_connection *connection, int *peer)
{
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    begin_connection(connection);
    connection->fd = ends[0];
    connection->open = true;
    *peer = ends[1];
}

static inline void drop(mc_connection *connection, int peer)
{
    mc_connection_close(connection);
    close(peer);
}

static inline void say(int peer, const char *text)
{
    CHECK(write(peer, text, strlen(text)) == (ssize_t)strlen(text));
}

#endif
