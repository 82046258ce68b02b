/* tls: the transport of TLS. */
#ifndef MCX_TLS_H
#define MCX_TLS_H

#include "core/net/connection.h"

extern const mc_transport mcx_tls_transport;

#endif
