/* tls_connect: how a TLS stream comes to be: a turn, a socket, a handshake, a session. */
#ifndef MCX_TLS_CONNECT_H
#define MCX_TLS_CONNECT_H

#include "core/net/connection.h"

/* As mc_transport's connect. MC_CROWDED: the time went by while others were in the handshake. */
mc_status mcx_tls_connect(mc_connection *connection, mc_connecting *state, const mc_endpoint *to,
                          mc_clock *clock);

/* Its connect is over, however it ended: another one has its turn. */
void mcx_tls_end_turn(mc_connection *connection);

/* The first reply has begun, and with it has come what a later handshake is shortened by. 0, or -1
 * with an exception. */
int mcx_tls_keep_session(mc_connection *connection);

#endif
