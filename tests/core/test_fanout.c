/* The promises of mcext/core/flow/fanout.h about what the system reports among many servers. */
#define _GNU_SOURCE
#include "planned.h"

/* ---- many servers ---- */

#define LEGS 3

typedef struct {
    mc_connection connections[LEGS];
    int peers[LEGS];
    mc_leg legs[LEGS];
    mc_leg *list[LEGS];
    bool arrived[LEGS];
    struct pollfd polls[LEGS];
    mc_clock clock;
} servers;

static void fan_out(servers *all)
{
    memset(all, 0, sizeof *all);
    mc_clock_start(&all->clock, LONG, LONG);
    for (int i = 0; i < LEGS; i++) {
        pair(&all->connections[i], &all->peers[i]);
        ask_for_key(&all->legs[i], &all->connections[i], &all->clock);
        all->list[i] = &all->legs[i];
    }
}

static mc_status step(servers *all)
{
    return mc_fanout_step(all->list, LEGS, all->polls, all->arrived, &all->clock);
}

static void drop_all(servers *all)
{
    for (int i = 0; i < LEGS; i++) {
        drop(&all->connections[i], all->peers[i]);
    }
}

/* All servers answer now, and each answer arrives. */
static void all_answer(servers *all)
{
    int answered = 0;

    for (int i = 0; i < LEGS; i++) {
        char asked[8];

        CHECK(read(all->peers[i], asked, sizeof asked) == 7); /* once, and once only */
        say(all->peers[i], "END\r\n");
    }
    for (int steps = 0; answered < LEGS && steps < 20; steps++) {
        CHECK(step(all) == MC_OK);
        for (int i = 0; i < LEGS; i++) {
            if (all->arrived[i]) {
                CHECK(mc_leg_next(&all->legs[i]) == MC_LEG_OVER && all->legs[i].verdict.keep);
                answered++;
            }
        }
    }
    CHECK_NUMBER(answered, LEGS);
}

static void a_signal_in_the_wait_for_many_servers_loses_nothing(void)
{
    servers all;

    fan_out(&all);
    pthread_t bell = ring_soon();
    CHECK(step(&all) == MC_INTERRUPTED);
    has_rung(bell);
    planned.poll = EINTR;
    CHECK(step(&all) == MC_INTERRUPTED);
    all_answer(&all);
    drop_all(&all);
}

static void a_signal_in_a_send_or_a_receive_among_many_is_nobodys_failure(void)
{
    servers all;

    fan_out(&all);
    planned.send = EINTR;
    planned.receive = EINTR;
    say(all.peers[1], "E");
    CHECK(step(&all) == MC_OK);
    CHECK(planned.send == 0 && planned.receive == 0);
    for (int i = 0; i < LEGS; i++) {
        CHECK(mc_leg_is_running(&all.legs[i]) && all.legs[i].piece_count == 0 && !all.arrived[i]);
    }
    CHECK(step(&all) == MC_OK);
    CHECK(all.arrived[1] && mc_leg_next(&all.legs[1]) == MC_LEG_MOVE);
    say(all.peers[1], "ND\r\n");
    CHECK(step(&all) == MC_OK);
    CHECK(all.arrived[1] && mc_leg_next(&all.legs[1]) == MC_LEG_OVER && all.legs[1].verdict.keep);
    drop_all(&all);
}

static void an_error_among_many_is_that_of_its_server(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_status own = meanings[i].status;
        servers all;

        if (own == MC_INTERRUPTED || own == MC_TIMEOUT) { /* nothing has come, after all */
            own = MC_OK;
        }
        fan_out(&all);
        say(all.peers[1], "E");
        planned.receive = meanings[i].error;
        CHECK(step(&all) == MC_OK);
        for (int leg = 0; leg < LEGS; leg++) {
            CHECK(ended_in(&all.legs[leg]) == (leg == 1 ? own : MC_OK) && !all.arrived[leg]);
        }
        drop_all(&all);
    }
}

static void the_last_of_many_servers_is_waited_for_alone(void)
{
    for (size_t i = 0; i < MEANINGS; i++) {
        mc_status own = meanings[i].status;
        bool of_the_call = own == MC_INTERRUPTED || own == MC_TIMEOUT || own == MC_NO_MEMORY;
        servers all;

        fan_out(&all);
        mc_leg_fail(&all.legs[0], MC_FAILED);
        mc_leg_fail(&all.legs[2], MC_FAILED);
        planned.receive = meanings[i].error;
        CHECK(step(&all) == (of_the_call ? own : MC_OK));
        CHECK(ended_in(&all.legs[1]) == (of_the_call ? MC_OK : own) && !all.arrived[1]);
        say(all.peers[1], "END\r\n");
        CHECK(step(&all) == MC_OK);
        CHECK(all.arrived[1] == of_the_call);
        CHECK(!of_the_call ||
              (mc_leg_next(&all.legs[1]) == MC_LEG_OVER && all.legs[1].verdict.keep));
        drop_all(&all);
    }
}

/* Where something can be done at once nothing is waited for. */
static void a_server_that_is_lost_or_done_or_has_more_to_be_sent_ends_the_wait(void)
{
    servers all;

    fan_out(&all);
    say(all.peers[2], "END\r\n");
    CHECK(step(&all) == MC_OK && all.arrived[2]);
    mc_connection_shut(&all.connections[1]); /* all was sent to it */
    CHECK(step(&all) == MC_OK);
    CHECK(mc_leg_is_running(&all.legs[0]) && mc_leg_is_running(&all.legs[2]));
    CHECK(ended_in(&all.legs[1]) == MC_CLOSED && !all.arrived[1]);

    CHECK(mc_exchange_next(&all.legs[2].exchange) == MC_EVENT_DONE);
    CHECK(step(&all) == MC_OK);
    CHECK(!all.arrived[2] && mc_leg_is_running(&all.legs[2]));
    CHECK(mc_leg_next(&all.legs[2]) == MC_LEG_OVER);

    mc_leg_init(&all.legs[0], MC_DELETE, NULL, 3);
    mc_leg_begin(&all.legs[0], &all.connections[0], &all.clock);
    CHECK(mc_leg_next(&all.legs[0]) == MC_LEG_PRODUCE);
    for (int batch = 0; batch < 2; batch++) {
        CHECK(mc_leg_line(&all.legs[0], key, (mc_slice){NULL, 0}) && mc_leg_ready(&all.legs[0]));
        CHECK(step(&all) == MC_OK && !all.arrived[0] && all.legs[0].piece_count == 0);
        CHECK(step(&all) == MC_OK && !all.arrived[0]); /* all that it had has left */
        CHECK(mc_leg_next(&all.legs[0]) == MC_LEG_PRODUCE);
    }
    drop_all(&all);
}

#define MUCH ((size_t)4 << 20)
#define MUCH_LINE "set k 0 0 4194304\r\n"

static void *take_all(void *peer)
{
    static char bytes[BODY];
    size_t left = strlen(MUCH_LINE) + MUCH + 2;

    while (left > 0) {
        ssize_t got = read(*(int *)peer, bytes, sizeof bytes);

        if (got <= 0) {
            break;
        }
        left -= (size_t)got;
    }
    say(*(int *)peer, "STORED\r\n");
    return NULL;
}

static void a_slow_server_is_sent_the_rest_when_it_takes_it(void)
{
    char *bytes = calloc(1, MUCH);
    pthread_t taker;
    servers all;

    fan_out(&all);
    mc_leg *slow = &all.legs[1];
    mc_leg_init(slow, MC_SET, NULL, 1);
    mc_leg_begin(slow, &all.connections[1], &all.clock);
    CHECK(mc_leg_next(slow) == MC_LEG_PRODUCE);
    CHECK(mc_leg_store(slow, key, 0, (mc_slice){"0", 1}, (mc_slice){bytes, MUCH}, NULL, true) ==
          MC_LAID_POINTED_TO);
    CHECK(mc_leg_ready(slow));
    mc_clock_start(&all.clock, 20 * MILLISECOND, LONG);
    CHECK(step(&all) == MC_TIMEOUT);
    CHECK(mc_leg_is_running(slow) && slow->piece_count == 2 && slow->pieces->iov_len < MUCH);
    CHECK(pthread_create(&taker, NULL, take_all, &all.peers[1]) == 0);
    mc_clock_start(&all.clock, LONG, LONG);
    for (int steps = 0; !all.arrived[1] && steps < 100000; steps++) {
        CHECK(step(&all) == MC_OK && mc_leg_is_running(slow));
    }
    CHECK(slow->piece_count == 0);
    CHECK(mc_leg_next(slow) == MC_LEG_REPLY && slow->exchange.reply.type == MC_REPLY_STORED);
    CHECK(mc_leg_next(slow) == MC_LEG_OVER && slow->verdict.keep);
    CHECK(pthread_join(taker, NULL) == 0);
    drop_all(&all);
    free(bytes);
}

static void a_wait_for_many_servers_without_memory_says_so(void)
{
    servers all;

    fan_out(&all);
    planned.poll = ENOMEM;
    CHECK(step(&all) == MC_NO_MEMORY);
    all_answer(&all);
    drop_all(&all);
}

static void the_shortest_wait_for_many_servers_ends(void)
{
    for (size_t i = 0; i < SHORT_TIMES; i++) {
        int64_t before = mc_clock_now();
        servers all;

        fan_out(&all);
        mc_clock_start(&all.clock, short_times[i], LONG);
        CHECK(step(&all) == MC_TIMEOUT);
        in_time(before, short_times[i]);
        drop_all(&all);
    }
}

static void pieces_move_on_by_what_left(void)
{
    struct iovec all[] = {{"abc", 3}, {"", 0}, {"de", 2}, {"f", 1}}, *at = all;
    int count = 4;

    mc_pieces_advance(&at, &count, 0);
    CHECK(count == 4 && at->iov_len == 3);
    mc_pieces_advance(&at, &count, 2);
    CHECK(count == 4 && at->iov_len == 1 && *(char *)at->iov_base == 'c');
    mc_pieces_advance(&at, &count, 1);
    CHECK(count == 2 && at == all + 2 && at->iov_len == 2);
    mc_pieces_advance(&at, &count, 3);
    CHECK(count == 0);
}

int main(void)
{
    alarm(60); /* a wait that does not end ends all */
    PROMISE(pieces_move_on_by_what_left);
    PROMISE(a_signal_in_the_wait_for_many_servers_loses_nothing);
    PROMISE(a_signal_in_a_send_or_a_receive_among_many_is_nobodys_failure);
    PROMISE(an_error_among_many_is_that_of_its_server);
    PROMISE(the_last_of_many_servers_is_waited_for_alone);
    PROMISE(a_server_that_is_lost_or_done_or_has_more_to_be_sent_ends_the_wait);
    PROMISE(a_slow_server_is_sent_the_rest_when_it_takes_it);
    PROMISE(a_wait_for_many_servers_without_memory_says_so);
    PROMISE(the_shortest_wait_for_many_servers_ends);
    return check_result();
}
