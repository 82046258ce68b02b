#include "core/fleet/server.h"

#include <stdlib.h>
#include <string.h>

#include "core/net/process.h"

int mc_server_init(mc_server *server, const mc_address *address)
{
    memset(server, 0, sizeof *server);
    server->host = mc_reallocate(NULL, address->host.length + 1);
    if (server->host == NULL) {
        return 0;
    }
    memcpy(server->host, address->host.bytes, address->host.length);
    server->host[address->host.length] = '\0';
    server->family = address->family;
    server->port = address->port;
    mc_pool_init(&server->pool);
    return 1;
}

void mc_server_fini(mc_server *server)
{
    if (server->host != NULL) {
        mc_pool_fini(&server->pool);
        free(server->host);
        server->host = NULL;
    }
}

mc_server_health mc_server_check(mc_server *server, int64_t now)
{
    int64_t until = atomic_load_explicit(&server->dead_until, memory_order_acquire);

    if (until == 0) {
        return MC_SERVER_ALIVE;
    }
    uint32_t prober = atomic_load_explicit(&server->probing, memory_order_acquire);
    uint32_t generation = mc_process_generation();

    /* A probe that was under way in the parent at a fork is nobody's here. */
    if (until > now || prober == generation ||
        !atomic_compare_exchange_strong(&server->probing, &prober, generation)) {
        return MC_SERVER_DEAD;
    }
    if (atomic_load_explicit(&server->dead_until, memory_order_acquire) != until) {
        /* Another call's probe ended in between. */
        mc_server_give_up_probe(server);
        return mc_server_check(server, now);
    }
    return MC_SERVER_PROBE;
}

void mc_server_give_up_probe(mc_server *server)
{
    atomic_store_explicit(&server->probing, 0, memory_order_release);
}

void mc_server_mark_alive(mc_server *server)
{
    atomic_store_explicit(&server->dead_until, 0, memory_order_release);
    mc_server_give_up_probe(server);
}

/* Level and time are one word, so that nobody sees half of a change. Nothing else is told with it,
 * so no order is needed. */
mc_meta_level mc_server_meta(mc_server *server, int64_t now)
{
    int64_t meta = atomic_load_explicit(&server->meta, memory_order_relaxed);

    if (meta <= 0) {
        return (mc_meta_level)-meta;
    }
    /* A clock that was set back does not prolong it. */
    return meta > now && meta - now <= MC_META_NONE_FOR ? MC_META_NONE : MC_META_UNKNOWN;
}

void mc_server_set_meta(mc_server *server, mc_meta_level level, int64_t now)
{
    int64_t meta = level == MC_META_NONE ? now + MC_META_NONE_FOR : -(int64_t)level;

    atomic_store_explicit(&server->meta, meta, memory_order_relaxed);
}

void mc_server_forget_meta(mc_server *server)
{
    mc_server_set_meta(server, MC_META_UNKNOWN, 0);
}

void mc_server_mark_dead(mc_server *server, int64_t until)
{
    atomic_store_explicit(&server->dead_until, until, memory_order_release);
    mc_server_give_up_probe(server);
    mc_server_forget_meta(server);
    mc_pool_disconnect(&server->pool);
}
