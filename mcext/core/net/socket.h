/* socket: bytes over the system's own sockets, TCP and Unix: the native transport.
 *
 * No Python: all of it may be called without the GIL. */
#ifndef MC_SOCKET_H
#define MC_SOCKET_H

#include "core/net/connection.h"

extern const mc_transport mc_native_transport;

/* The time since the last look at the clock went into the connect. */
void mc_connecting_spend(mc_connecting *state, mc_clock *clock);

/* Whether a socket's peer has neither closed nor said anything. */
bool mc_socket_is_quiet(int fd);

#endif
