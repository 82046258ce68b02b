/* server: one server: its address, whether it is thought dead, and its pool.
 *
 * The dead mark is shared by all threads of a client. Any thread, no lock. */
#ifndef MC_SERVER_H
#define MC_SERVER_H

#include "core/fleet/gate.h"
#include "core/fleet/pool.h"
#include "core/net/address.h"
#include "core/wire/meta.h"

typedef struct {
    mc_address_family family;
    char *host; /* owned, NUL-terminated */
    uint16_t port;
    _Atomic int64_t dead_until; /* CLOCK_REALTIME, microseconds; 0: alive */
    _Atomic uint32_t probing;   /* 0, or the process generation of the one call that tries a server
                                   whose mark has run out */
    _Atomic int64_t meta;       /* see mc_server_meta: 0: not known; below 0: minus the level;
                                   else until when it is MC_META_NONE, as dead_until */
    _Atomic uint32_t flush_on_connect; /* the next connect sends flush_all first */
    mc_gate handshakes;                /* connects that are in a TLS handshake */
    mc_pool pool;
} mc_server;

typedef enum {
    MC_SERVER_ALIVE,
    MC_SERVER_DEAD,
    MC_SERVER_PROBE
} mc_server_health;

/* 0 where memory is out. */
int mc_server_init(mc_server *server, const mc_address *address);
void mc_server_fini(mc_server *server);

/* PROBE: the mark has run out and this call alone tries the server; it must end in
 * mc_server_mark_alive, mc_server_mark_dead or mc_server_give_up_probe. now: as dead_until. */
mc_server_health mc_server_check(mc_server *server, int64_t now);

/* What of the meta protocol the server has, as far as it is known: MC_META_UNKNOWN where it is to
 * be asked. That it has none is believed for a minute: somebody may put a newer server there. now:
 * as dead_until. */
#define MC_META_NONE_FOR INT64_C(60000000)
mc_meta_level mc_server_meta(mc_server *server, int64_t now);
void mc_server_set_meta(mc_server *server, mc_meta_level level, int64_t now);
/* An answer was not what that server gives: another one stands there. A dead mark forgets, too. */
void mc_server_forget_meta(mc_server *server);

void mc_server_mark_alive(mc_server *server);
void mc_server_mark_dead(mc_server *server, int64_t until);
void mc_server_give_up_probe(mc_server *server);

#endif
