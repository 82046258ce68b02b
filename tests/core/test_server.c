/* The promises of mcext/core/fleet/server.h: one finds out that a server is dead, one tries it
 * again. */
#define _GNU_SOURCE
#include "core/fleet/server.h"

#include <sys/wait.h>

#include "check.h"
#include "core/net/process.h"

#define ADDRESS(text) ((mc_slice){text, sizeof(text) - 1})

static mc_server server;

static void make(void)
{
    mc_address address;

    CHECK(mc_address_parse(ADDRESS("inet:some.host:11212"), &address) == NULL);
    CHECK(mc_server_init(&server, &address));
}

static void a_server_keeps_its_address(void)
{
    make();
    CHECK(strcmp(server.host, "some.host") == 0);
    CHECK(server.port == 11212 && server.family == MC_FAMILY_INET);
    CHECK(mc_server_check(&server, 1000) == MC_SERVER_ALIVE);
    mc_server_fini(&server);
    mc_server_fini(&server); /* twice is no harm */
}

static void a_mark_holds_until_its_time_and_then_one_call_probes(void)
{
    make();
    mc_server_mark_dead(&server, 5000);
    CHECK(mc_server_check(&server, 1) == MC_SERVER_DEAD);
    CHECK(mc_server_check(&server, 4999) == MC_SERVER_DEAD);
    CHECK(mc_server_check(&server, 5000) == MC_SERVER_PROBE);
    CHECK(mc_server_check(&server, 5000) == MC_SERVER_DEAD);
    CHECK(mc_server_check(&server, 9999) == MC_SERVER_DEAD);
    mc_server_mark_alive(&server);
    CHECK(mc_server_check(&server, 5000) == MC_SERVER_ALIVE);
    mc_server_fini(&server);
}

static void a_probe_that_fails_marks_anew(void)
{
    make();
    mc_server_mark_dead(&server, 5000);
    CHECK(mc_server_check(&server, 6000) == MC_SERVER_PROBE);
    mc_server_mark_dead(&server, 9000);
    CHECK(mc_server_check(&server, 8999) == MC_SERVER_DEAD);
    CHECK(mc_server_check(&server, 9000) == MC_SERVER_PROBE);
    mc_server_fini(&server);
}

static void a_probe_given_up_is_for_the_next_call(void)
{
    make();
    mc_server_mark_dead(&server, 5000);
    CHECK(mc_server_check(&server, 6000) == MC_SERVER_PROBE);
    mc_server_give_up_probe(&server);
    CHECK(mc_server_check(&server, 6000) == MC_SERVER_PROBE);
    mc_server_fini(&server);
}

static void a_dead_mark_disconnects(void)
{
    make();
    uint32_t epoch = atomic_load(&server.pool.epoch);

    mc_server_mark_dead(&server, 5000);
    CHECK(atomic_load(&server.pool.epoch) != epoch);
    mc_server_fini(&server);
}

static void a_probe_of_the_parent_is_nobodys_in_the_child(void)
{
    make();
    CHECK(mc_process_init());
    mc_server_mark_dead(&server, 5000);
    CHECK(mc_server_check(&server, 6000) == MC_SERVER_PROBE);
    pid_t child = fork();
    if (child == 0) {
        bool probes = mc_server_check(&server, 6000) == MC_SERVER_PROBE;
        bool once = mc_server_check(&server, 6000) == MC_SERVER_DEAD;

        _exit(probes && once ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(mc_server_check(&server, 6000) == MC_SERVER_DEAD); /* the parent's is still under way */
    mc_server_fini(&server);
}

static void *no_memory(void *memory, size_t size)
{
    (void)memory;
    (void)size;
    return NULL;
}

static void out_of_memory_is_told(void)
{
    mc_address address;

    CHECK(mc_address_parse(ADDRESS("host"), &address) == NULL);
    mc_reallocate = no_memory;
    CHECK(!mc_server_init(&server, &address));
    mc_reallocate = realloc;
    mc_server_fini(&server);
}

int main(void)
{
    PROMISE(a_server_keeps_its_address);
    PROMISE(a_mark_holds_until_its_time_and_then_one_call_probes);
    PROMISE(a_probe_that_fails_marks_anew);
    PROMISE(a_probe_given_up_is_for_the_next_call);
    PROMISE(a_dead_mark_disconnects);
    PROMISE(a_probe_of_the_parent_is_nobodys_in_the_child);
    PROMISE(out_of_memory_is_told);
    return check_result();
}
