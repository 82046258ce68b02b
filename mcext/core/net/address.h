/* address: a server as a user writes it, taken apart.
 *
 * "host:port", "host", "inet:host:port", "inet6:[addr]:port", "[addr]:port", "unix:/path", "/path":
 * python-memcached's forms and the two that it refuses. One newline behind it, as a line of a file
 * has it, is none of it. Pure, any thread. */
#ifndef MC_ADDRESS_H
#define MC_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/key.h"

#define MC_DEFAULT_PORT 11211

typedef enum {
    MC_FAMILY_INET,
    MC_FAMILY_INET6,
    MC_FAMILY_UNIX
} mc_address_family;

typedef struct {
    mc_address_family family; /* as written: a host name is MC_FAMILY_INET */
    mc_slice host; /* a view into the text: host name, address without brackets, or path */
    uint16_t port; /* 0 for Unix sockets */
} mc_address;

/* NULL where text is an address, and *address is set; else what is wrong with it, a static text. */
const char *mc_address_parse(mc_slice text, mc_address *address);

/* Whether what is sent there stays on this machine, as far as the text tells: a Unix socket, a
 * loopback address, "localhost" (RFC 6761). A name that is looked up counts for another machine. */
bool mc_address_is_local(mc_address_family family, const char *host);

#endif
