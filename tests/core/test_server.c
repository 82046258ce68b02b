/* The promises of mcext/core/fleet/server.h: one finds out that a server is dead, one tries it
 * again. */
#define _GNU_SOURCE
#include "core/fleet/server.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"

#include "core/net/clock.h"
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
    CHECK(server.host == NULL);
    mc_address address;
    CHECK(mc_address_parse(ADDRESS("unix:/run/m"), &address) == NULL);
    CHECK(mc_server_init(&server, &address));
    CHECK(strcmp(server.host, "/run/m") == 0);
    CHECK(server.port == 0 && server.family == MC_FAMILY_UNIX);
    mc_server_fini(&server);
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

static void what_a_server_has_of_meta_is_known_until_it_proves_wrong(void)
{
    static const mc_meta_level proven[] = {MC_META_LEASES, MC_META_STABLE};

    make();
    CHECK(mc_server_meta(&server, 1000) == MC_META_UNKNOWN);
    for (size_t i = 0; i < 2; i++) {
        mc_server_set_meta(&server, proven[i], 1000);
        CHECK(mc_server_meta(&server, 0) == proven[i]);
        CHECK(mc_server_meta(&server, INT64_MAX) == proven[i]);
        mc_server_forget_meta(&server);
        CHECK(mc_server_meta(&server, 1000) == MC_META_UNKNOWN);
    }
    mc_server_set_meta(&server, MC_META_STABLE, 1000);
    mc_server_mark_dead(&server, 5000); /* another one may stand there when it is back */
    CHECK(mc_server_meta(&server, 1000) == MC_META_UNKNOWN);
    mc_server_set_meta(&server, MC_META_STABLE, 1000);
    mc_server_set_meta(&server, MC_META_UNKNOWN, 1000);
    CHECK(mc_server_meta(&server, 1000) == MC_META_UNKNOWN);
    mc_server_fini(&server);
}

static void that_it_has_none_is_believed_for_a_minute(void)
{
    const int64_t now = INT64_C(1700000000000000), minute = 60 * INT64_C(1000000);

    make();
    mc_server_set_meta(&server, MC_META_NONE, now);
    CHECK(mc_server_meta(&server, now) == MC_META_NONE);
    CHECK(mc_server_meta(&server, now + minute - 1) == MC_META_NONE);
    CHECK(mc_server_meta(&server, now + minute) == MC_META_UNKNOWN);
    CHECK(mc_server_meta(&server, now - 1) == MC_META_UNKNOWN); /* the clock was set back */
    mc_server_set_meta(&server, MC_META_STABLE, now);
    CHECK(mc_server_meta(&server, now) == MC_META_STABLE);
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

/* A call that tries the server again, and finds it well, in the middle of another one's look. */
static _Atomic int calls_between;

static void probe_with_success(int number)
{
    (void)number;
    if (mc_server_check(&server, 6000) == MC_SERVER_PROBE) {
        mc_server_mark_alive(&server);
        calls_between++;
    }
}

static pthread_t caller;
static _Atomic bool over;

static void *interrupt(void *unused)
{
    (void)unused;
    while (!over) {
        pthread_kill(caller, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

/* A look at the mark, and the turn to probe, are two steps. */
static void a_probe_that_ends_between_a_look_and_the_next_probe_is_seen(void)
{
    struct sigaction action = {.sa_handler = probe_with_success};
    int64_t begin = mc_clock_now();
    pthread_t bell;

    make();
    caller = pthread_self();
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pthread_create(&bell, NULL, interrupt, NULL) == 0);
    while (calls_between < 100 && mc_clock_now() - begin < 10 * MC_SECOND) {
        switch (mc_server_check(&server, 6000)) {
        case MC_SERVER_PROBE: /* nobody else has it, and it can be given up */
            CHECK(atomic_load(&server.probing) != 0);
            mc_server_give_up_probe(&server);
            break;
        case MC_SERVER_ALIVE:
            CHECK(atomic_load(&server.probing) == 0);
            mc_server_mark_dead(&server, 5000);
            break;
        case MC_SERVER_DEAD:
            CHECK(false);
        }
    }
    over = true;
    CHECK(pthread_join(bell, NULL) == 0);
    CHECK(calls_between > 0);
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
    PROMISE(what_a_server_has_of_meta_is_known_until_it_proves_wrong);
    PROMISE(that_it_has_none_is_believed_for_a_minute);
    PROMISE(a_probe_of_the_parent_is_nobodys_in_the_child);
    PROMISE(a_probe_that_ends_between_a_look_and_the_next_probe_is_seen);
    PROMISE(out_of_memory_is_told);
    return check_result();
}
