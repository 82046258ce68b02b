/* The promises of mcext/core/flow/leg.h about meta commands and the probe: what is sent, what is
 * told, the short way, and how they end. */
#define _GNU_SOURCE
#include "leg_story.h"

#include "core/wire/meta.h"

#define ONE(what, ...) ((task){.command = what, .count = 1, __VA_ARGS__})
#define MANY_OF(what, number, ...) ((task){.command = what, .count = number, __VA_ARGS__})
#define LEASE "v k f c N30"

static void a_hit_and_a_miss(void)
{
    task asked = ONE(MC_MG, .argument = LEASE, .once = true);

    asked.said[0] = "VA 5 kk0 f7 c12\r\nhello\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> v0=hello OK keep");
    asked.said[0] = "VA 0 kk0 f0 c2 W\r\n\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> v0= OK keep");
    asked.said[0] = "VA 5 kk0  f7 c12 Z X\r\nhello\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> v0=hello OK keep");
    asked.said[0] = "EN\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> r0:EN OK keep");
    asked.said[0] = "EN kk0\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> r0:EN kk0 OK keep");
    asked.said[0] = "HD kk0\r\n";
    tells_leg(asked, "mg k0 v k f c N30\r\n", "> r0:HD kk0 OK keep");
    tells_leg(ONE(MC_MG, .said = {"HD\r\n"}), "mg k0\r\n", "> r0:HD OK keep");
}

static void what_is_not_the_answer_breaks(void)
{
    static const char *const wrong[] = {
        "VA 5 f7 c12\r\nhello\r\n",
        "VA 5 kk1 f7 c12\r\nhello\r\n",
        "VA 5 kk00 f7 c12\r\nhello\r\n",
        "VA 5 kk f7 c12\r\nhello\r\n",
        "VA 5 kk0 f7 c1x\r\nhello\r\n",
        "VA 5 kk0 f7 f7\r\nhello\r\n",
        "VALUE k0 7 5\r\nhello\r\nEND\r\n",
        "VA 5 kk0\r\nhello!\r\n",
        "VA 5 kk0\r\nhello\n\r",
        "EN kk1\r\n",
        "END\r\n",
        "NF\r\n",
        "MN\r\n",
        "VA 6 kk0\r\nhello!\r\n",
        "VA 18446744073709551615 kk0\r\n",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        task asked = ONE(MC_MG, .argument = LEASE, .said = {wrong[i]}, .max_length = 5);

        tells_whole(asked, text_of("mg k0 v k f c N30\r\n"), "> MALFORMED");
        asked.once = true;
        tells_leg(asked, "mg k0 v k f c N30\r\n", "> MALFORMED ran");
    }
}

static void md_has_its_answers(void)
{
    static const char *const answers[] = {"HD", "HD kk0 O1", "NF", "NF  O4", "EX", "OK "};

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        char said[32], wanted[64];

        snprintf(said, sizeof said, "%s\r\n", answers[i]);
        snprintf(wanted, sizeof wanted, "> r0:%s OK keep", answers[i]);
        tells_leg(ONE(MC_MD, .argument = "I T30", .said = {said}), "md k0 I T30\r\n", wanted);
    }
    tells_leg(ONE(MC_MD, .said = {"NF kk1\r\n"}), "md k0\r\n", "> MALFORMED ran");
    tells_leg(ONE(MC_MD, .said = {"EN\r\n"}), "md k0\r\n", "> MALFORMED ran");
    tells_leg(MANY_OF(MC_MD, 2, .argument = "C5", .said = {"EX\r\nHD\r\n"}),
              "md k0 C5\r\nmd k1 C5\r\n", "> r0:EX r1:HD OK keep");
}

static void several_go_out_together(void)
{
    task asked = MANY_OF(MC_MG, 3, .argument = "v k f",
                         .said = {"VA 1 kk0 f1\r\nx\r\nEN kk1\r\nVA 2 kk2 f0\r\nyz\r\n"});
    const char *sent = "mg k0 v k f\r\nmg k1 v k f\r\nmg k2 v k f\r\n";

    tells_leg(asked, sent, "> v0=x r1:EN kk1 v2=yz OK keep");
    asked.in_turn = true;
    tells_leg(asked, sent, "> v0=x r1:EN kk1 v2=yz OK keep");
    asked.said[0] = "VA 1 kk0 f1\r\nx\r\nVA 2 kk2 f0\r\nyz\r\n";
    tells_leg(asked, sent, "> v0=x MALFORMED");
    asked.said[0] = "EN\r\nSERVER_ERROR x\r\nVA 2 kk2 f0\r\nyz\r\n";
    tells_leg(asked, sent, "> r0:EN r1:SERVER_ERROR x v2=yz OK");
    asked.end = MC_CLOSED;
    asked.said[0] = "EN\r\nVA 2 kk1 f0\r\ny";
    tells_leg(asked, sent, "> r0:EN CLOSED");
}

static void an_error_line_is_told(void)
{
    tells_leg(ONE(MC_MG, .argument = LEASE, .said = {"ERROR\r\n"}), "mg k0 v k f c N30\r\n",
              "> r0:ERROR OK");
    tells_leg(ONE(MC_MG, .argument = LEASE, .said = {"CLIENT_ERROR invalid flag\r\n"}),
              "mg k0 v k f c N30\r\n", "> r0:CLIENT_ERROR invalid flag OK");
    tells_leg(ONE(MC_MD, .argument = "C1", .said = {"ERROR\r\n"}), "md k0 C1\r\n", "> r0:ERROR OK");
}

static void behind_the_answer_nothing_may_stand(void)
{
    task asked = ONE(MC_MG, .argument = LEASE, .said = {"VA 1 kk0 f0 c1\r\nx\r\nE"});

    tells_whole(asked, text_of("mg k0 v k f c N30\r\n"), "> v0=x OK");
    asked.said[0] = "VA 0 kk0 f0 c1 W\r\n\r\nVA 0 kk0 f0 c1 W\r\n\r\n";
    tells_whole(asked, text_of("mg k0 v k f c N30\r\n"), "> v0= OK");
    asked.said[0] = "EN\r\nEN\r\n";
    tells_whole(asked, text_of("mg k0 v k f c N30\r\n"), "> r0:EN OK");
}

static void only_what_reads_is_sent_once_more(void)
{
    task asked = ONE(MC_MG, .argument = "v k", .end = MC_CLOSED, .said_again = "VA 1 kk0\r\nx\r\n");

    tells_leg(asked, "mg k0 v k\r\nmg k0 v k\r\n", "> retry > v0=x OK keep");
    asked.owed_there = 2;
    asked.said_again = "VERSION 1\r\nEN\r\n";
    tells_leg(asked, "mg k0 v k\r\nversion\r\nmg k0 v k\r\n", "> retry > r0:EN OK keep");
    asked.alone = true;
    tells_leg(asked, "mg k0 v k\r\n", "> retry CLOSED");
    asked.once = true;
    tells_leg(asked, "mg k0 v k\r\n", "> CLOSED ran");
    asked.once = false;
    asked.said[0] = "V";
    tells_leg(asked, "mg k0 v k\r\n", "> CLOSED");
    asked.end = MC_TIMEOUT;
    tells_leg(asked, "mg k0 v k\r\n", "> TIMEOUT blame");
    asked.once = true;
    tells_leg(asked, "mg k0 v k\r\n", "> TIMEOUT blame ran");
    tells_leg(ONE(MC_MD, .end = MC_CLOSED), "md k0\r\n", "> CLOSED ran");
    tells_leg(ONE(MC_META_PROBE, .end = MC_CLOSED, .said_again = "MN\r\nEN\r\n"),
              "mn\r\nmg AA== b k O1\r\nmn\r\nmg AA== b k O1\r\n", "> retry > r0:MN r1:EN OK keep");
    tells_leg(ONE(MC_META_PROBE, .end = MC_CLOSED),
              "mn\r\nmg AA== b k O1\r\n"
              "mn\r\nmg AA== b k O1\r\n",
              "> retry > CLOSED");
}

static void a_marker_goes_before_them(void)
{
    task asked = ONE(MC_MG, .argument = "v k", .unanswered = 3,
                     .said = {"ERROR\r\nVERSION 1\r\nVA 1 kk0\r\nx\r\n"});

    tells_leg(asked, "version\r\nmg k0 v k\r\n", "> v0=x OK keep");
    asked.said[0] = "VERSION 1\r\nCLIENT_ERROR x\r\n";
    tells_leg(asked, "version\r\nmg k0 v k\r\n", "> r0:CLIENT_ERROR x OK");
    tells_leg(ONE(MC_META_PROBE, .unanswered = 1, .said = {"VERSION 1\r\nMN\r\nEN\r\n"}),
              "version\r\nmn\r\nmg AA== b k O1\r\n", "> r0:MN r1:EN OK keep");
}

static void the_probe_keeps_the_stream_of_any_server(void)
{
    static const struct {
        const char *said, *wanted;
    } servers[] = {
        {"ERROR\r\nERROR\r\n", "> r0:ERROR r1:ERROR OK keep"},
        {"EN\r\nCLIENT_ERROR bad command line format\r\n",
         "> r0:EN r1:CLIENT_ERROR bad command line format OK keep"},
        {"MN\r\nCLIENT_ERROR invalid flag\r\n", "> r0:MN r1:CLIENT_ERROR invalid flag OK keep"},
        {"MN\r\nEN\r\n", "> r0:MN r1:EN OK keep"},
        {"MN\r\nEN kAA== b O1\r\n", "> r0:MN r1:EN kAA== b O1 OK keep"},
    };
    const char *sent = "mn\r\nmg AA== b k O1\r\n";

    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        tells_leg(ONE(MC_META_PROBE, .said = {servers[i].said}), sent, servers[i].wanted);
    }
    tells_whole(ONE(MC_META_PROBE, .said = {"MN\r\nEN\r\nEN\r\n"}), text_of(sent),
                "> r0:MN r1:EN OK");
    tells_leg(ONE(MC_META_PROBE, .said = {"CLIENT_ERROR x\r\n"}, .end = MC_CLOSED), sent,
              "> r0:CLIENT_ERROR x CLOSED");
    tells_leg(ONE(MC_META_PROBE, .said = {"SSH-2.0\r\n"}), sent, "> MALFORMED");
}

/* ---- the short way, and large bodies ---- */

static mc_leg leg;
static mc_connection own;
static mc_reply reply;
static mc_slice body;

static void start(mc_command command, size_t count, uint32_t unanswered)
{
    mc_clock clock;

    mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    mc_buffer_clear(&own.in);
    own.transport = &free_transport;
    own.unanswered = unanswered;
    mc_leg_init(&leg, command, keys, count);
    mc_leg_begin(&leg, &own, &clock);
}

static int heard(const char *text)
{
    while (leg.next < leg.count) {
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        CHECK(mc_leg_line(&leg, keys[leg.next], text_of(LEASE)));
    }
    CHECK(mc_leg_ready(&leg));
    leg.piece_count = 0;
    CHECK(mc_buffer_append(&own.in, text, strlen(text)));
    memset(&reply, 0xee, sizeof reply);
    return mc_leg_take_meta(&leg, &reply, &body);
}

static void a_whole_answer_is_known_at_one_look(void)
{
    start(MC_MG, 1, 0);
    CHECK(heard("VA 5 kk0 f7 c12 Z X\r\nhello\r\n") == 1);
    CHECK_BYTES(body.bytes, body.length, "hello");
    CHECK(reply.flags == 7 && reply.has_cas && reply.cas == 12 && reply.length == 5);
    CHECK(mc_meta_has(&reply, 'Z') && mc_meta_has(&reply, 'X') && !mc_meta_has(&reply, 'W'));
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.status == MC_OK && leg.verdict.keep);
    CHECK(mc_buffer_length(&own.in) == 0);
    CHECK(mc_leg_take_meta(&leg, &reply, &body) == -1); /* it is over */
    mc_leg_fini(&leg);

    start(MC_MG, 1, 0);
    CHECK(heard("VA 0 f0 c2 kk0 W\r\n\r\n") == 1);
    CHECK(body.length == 0 && mc_meta_has(&reply, 'W') && reply.flags == 0 && reply.cas == 2);
    mc_leg_fini(&leg);

    static const char *const misses[] = {"EN\r\n", "EN kk0\r\n"};
    for (size_t i = 0; i < 2; i++) {
        start(MC_MG, 1, 0);
        CHECK(heard(misses[i]) == 0);
        CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep);
        mc_leg_fini(&leg);
    }
}

static void anything_else_is_not(void)
{
    static const char *const others[] = {
        "",
        "VA 5 kk0 f7\r\nhello\r\nx",
        "VA 5 kk0 f7\r\nhello\r",
        "VA 5 kk0 f7\r\nhello",
        "VA 5 kk0 f7\r\n",
        "VA 5 kk0 f7\r",
        "VA 5 kk0 f7\r\nhello\n\r",
        "VA 4 kk0 f7\r\nhello\r\n",
        "VA 6 kk0 f7\r\nhello\r\n",
        "VA 5 kk1 f7\r\nhello\r\n",
        "VA 5 f7\r\nhello\r\n",
        "VA 5 kk0 f7 f7\r\nhello\r\n",
        "VA 18446744073709551615 kk0\r\n\r\n",
        "VA 18446744073709551614 kk0\r\n",
        "VA 0 kk0 W\r\n\n",
        "VA 0 kk0 W\r\n",
        "VA 0 kk0 f1 c2\r\r\n\r\n",
        "VA 1 kk0 W W\r\nx\r\n",
        "VA 1 kk0 kk0\r\nx\r\n",
        "VA 1 kk0 c\r\nx\r\n",
        "VA 1 kk0 f4294967296\r\nx\r\n",
        "EN\r\nx",
        "EN\r",
        "EN kk1\r\n",
        "HD\r\n",
        "ERROR\r\n",
        "VALUE k0 0 1\r\nx\r\nEND\r\n",
    };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        start(MC_MG, 1, 0);
        if (heard(others[i]) != -1) {
            fprintf(stderr, "taken: %s\n", others[i]);
        }
        CHECK(mc_leg_is_running(&leg));
        CHECK_NUMBER(mc_buffer_length(&own.in), strlen(others[i]));
        CHECK(mc_leg_take_meta(&leg, &reply, &body) == -1);
        mc_leg_fini(&leg);
    }
}

static void it_is_for_one_mg_that_is_sent(void)
{
    const char *answer = "VA 1 kk0 f7\r\nx\r\n";

    start(MC_MG, 1, 0); /* not sent */
    CHECK(mc_buffer_append(&own.in, answer, strlen(answer)));
    CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
    CHECK(mc_leg_line(&leg, keys[0], text_of("v")) && mc_leg_ready(&leg));
    CHECK(mc_leg_take_meta(&leg, &reply, &body) == -1);
    mc_leg_fini(&leg);

    start(MC_MG, 1, 0);
    leg.max_length = leg.exchange.max_length = 0;
    CHECK(heard(answer) == -1);
    mc_leg_fini(&leg);
    start(MC_MG, 1, 0);
    leg.max_length = leg.exchange.max_length = 1;
    CHECK(heard(answer) == 1);
    mc_leg_fini(&leg);
    start(MC_MG, 2, 0);
    CHECK(heard(answer) == -1);
    mc_leg_fini(&leg);
    start(MC_MD, 1, 0);
    CHECK(heard(answer) == -1);
    mc_leg_fini(&leg);
    start(MC_MG, 1, 1); /* behind a marker */
    CHECK(heard(answer) == -1);
    mc_leg_fini(&leg);
    start(MC_MG, 1, 0); /* something was looked at before */
    CHECK(heard("V") == -1 && mc_leg_next(&leg) == MC_LEG_MOVE);
    CHECK(heard("A 1 kk0 f7\r\nx\r\n") == -1 && mc_leg_next(&leg) == MC_LEG_VALUE);
    mc_leg_fini(&leg);
}

/* The rest of the answer is known to the byte: the body and CRLF. */
static void a_large_body_is_waited_for_with_its_end(void)
{
    static char room[1 << 15];
    struct iovec pieces[2];
    bool all;

    for (size_t count = 1; count <= 2; count++) {
        start(MC_MG, count, 0);
        CHECK(heard("VA 20000 kk0 f7\r\nx") == -1);
        CHECK(mc_leg_next(&leg) == MC_LEG_VALUE && leg.exchange.body == NULL);
        CHECK_NUMBER(leg.exchange.reply.flags, 7);
        mc_exchange_give_room(&leg.exchange, room);
        CHECK(mc_leg_room(&leg, true, pieces, &all) == 2 && all == (count == 1));
        CHECK(pieces[0].iov_base == room + 1 && pieces[0].iov_len == 19999);
        CHECK(all ? pieces[1].iov_len == 2 : pieces[1].iov_len >= 2048);
        memset(pieces[0].iov_base, 'y', 19999);
        memcpy(pieces[1].iov_base, "\r\n", 2);
        mc_leg_received(&leg, 20001);
        CHECK(mc_leg_next(&leg) == MC_LEG_FILLED);
        if (count == 2) {
            CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && mc_buffer_append(&own.in, "EN\r\n", 4));
            CHECK(mc_leg_next(&leg) == MC_LEG_REPLY);
        }
        CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep);
        mc_leg_fini(&leg);
    }
}

/* A server that cannot send its values away reads no further: what is sent before any of them is
 * read has to fit on the way. */
static void what_moves_in_turn_is_sent_in_small_batches(void)
{
    static const mc_transport *const transports[] = {&free_transport, &turn_transport};
    static const size_t most[] = {262144, 16384};
    static mc_slice same[20000];

    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        same[i] = keys[0];
    }
    for (int i = 0; i < 2; i++) {
        mc_clock clock;
        size_t length;

        mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
        own.transport = transports[i];
        mc_leg_init(&leg, MC_MG, same, sizeof same / sizeof *same);
        mc_leg_begin(&leg, &own, &clock);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        while (mc_leg_has_room(&leg)) {
            CHECK(mc_leg_line(&leg, keys[0], text_of(LEASE)));
        }
        CHECK(mc_leg_ready(&leg) && leg.piece_count == 1);
        length = leg.pieces->iov_len;
        CHECK(length >= most[i] && length < most[i] + sizeof "mg k0 v k f c N30\r\n");
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
        leg.piece_count = 0;
        CHECK(mc_leg_wants_more(&leg) == (i == 0)); /* in turn, the replies come first */
        mc_leg_fini(&leg);
    }
}

int main(void)
{
    name_keys();
    PROMISE(a_hit_and_a_miss);
    PROMISE(what_is_not_the_answer_breaks);
    PROMISE(md_has_its_answers);
    PROMISE(several_go_out_together);
    PROMISE(an_error_line_is_told);
    PROMISE(behind_the_answer_nothing_may_stand);
    PROMISE(only_what_reads_is_sent_once_more);
    PROMISE(a_marker_goes_before_them);
    PROMISE(the_probe_keeps_the_stream_of_any_server);
    PROMISE(a_whole_answer_is_known_at_one_look);
    PROMISE(anything_else_is_not);
    PROMISE(it_is_for_one_mg_that_is_sent);
    PROMISE(a_large_body_is_waited_for_with_its_end);
    PROMISE(what_moves_in_turn_is_sent_in_small_batches);
    mc_buffer_fini(&own.in);
    mc_buffer_fini(&own.out);
    return check_result();
}
