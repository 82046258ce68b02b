/* tls: the transport of TLS. */
#ifndef MCX_TLS_H
#define MCX_TLS_H

#include "core/net/connection.h"

/* TLS over that one: the native, or Python's sockets. */
const mc_transport *mcx_tls_over(const mc_transport *below);

#endif
