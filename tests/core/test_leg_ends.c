/* The promises of leg.h about how a leg ends, and of its short ways; the rest is in test_leg.c. */
#define _GNU_SOURCE
#include "leg_story.h"

#define ONE(what, ...) ((task){.command = what, .count = 1, __VA_ARGS__})
#define MANY_OF(what, number, ...) ((task){.command = what, .count = number, __VA_ARGS__})
#define X .value = {"x", 1}

/* What one command of each kind sends. */
static const char *line_of(mc_command command)
{
    static const char *const lines[] = {"get k0\r\n",
                                        "gets k0\r\n",
                                        "set k0 7 0 1\r\nx\r\n",
                                        "add k0 7 0 1\r\nx\r\n",
                                        "replace k0 7 0 1\r\nx\r\n",
                                        "append k0 7 0 1\r\nx\r\n",
                                        "prepend k0 7 0 1\r\nx\r\n",
                                        "cas k0 7 0 1\r\nx\r\n",
                                        "delete k0\r\n",
                                        "touch k0\r\n",
                                        "incr k0\r\n",
                                        "decr k0\r\n",
                                        "flush_all\r\n",
                                        "stats\r\n",
                                        "version\r\n"};

    return lines[command];
}

static const char *answer_of(mc_command command)
{
    static const char *const answers[CLASSIC_COMMANDS] = {
        "END\r\n",    "END\r\n",    "STORED\r\n", "STORED\r\n",  "STORED\r\n",
        "STORED\r\n", "STORED\r\n", "STORED\r\n", "DELETED\r\n", "TOUCHED\r\n",
        "7\r\n",      "7\r\n",      "OK\r\n",     "END\r\n",     "VERSION 1\r\n"};

    return answers[command];
}

static bool reads_only(mc_command command)
{
    return command == MC_GET || command == MC_GETS || command == MC_STATS;
}

static bool may_be_sent_twice(mc_command command)
{
    return reads_only(command) || command == MC_SET || command == MC_DELETE ||
           command == MC_TOUCH || command == MC_VERSION;
}

static void closed_before_a_word_what_may_is_sent_once_more(void)
{
    for (mc_command command = 0; command < CLASSIC_COMMANDS; command++) {
        const char *ran = reads_only(command) ? "" : " ran";
        const char *answer = answer_of(command);
        bool twice = may_be_sent_twice(command);
        task asked = ONE(command, X, .end = MC_CLOSED, .said_again = answer);
        char sent[64], wanted[64], line[32];

        snprintf(line, sizeof line, "r0:%.*s ", (int)strlen(answer) - 2, answer);
        snprintf(wanted, sizeof wanted, "> retry > %sOK keep", *answer == 'E' ? "" : line);
        snprintf(sent, sizeof sent, "%s%s", line_of(command), twice ? line_of(command) : "");
        if (!twice) {
            snprintf(wanted, sizeof wanted, "> CLOSED ran");
        }
        tells_leg(asked, sent, wanted);

        asked.said_again = NULL; /* and the other one closes, too: once only */
        snprintf(wanted, sizeof wanted, "> %sCLOSED%s", twice ? "retry > " : "", ran);
        tells_leg(asked, sent, wanted);

        asked.alone = true;
        snprintf(wanted, sizeof wanted, "> %sCLOSED%s", twice ? "retry " : "", ran);
        tells_leg(asked, line_of(command), wanted);

        asked.alone = false;
        asked.said[0] = "V"; /* a byte of a reply */
        snprintf(wanted, sizeof wanted, "> CLOSED%s", ran);
        tells_leg(asked, line_of(command), wanted);

        asked.said[0] = NULL;
        asked.end = MC_TIMEOUT;
        snprintf(wanted, sizeof wanted, "> TIMEOUT blame%s", ran);
        tells_leg(asked, line_of(command), wanted);
    }
}

static void another_try_is_whole(void)
{
    tells_leg(
        MANY_OF(MC_SET, 2, X, .end = MC_CLOSED, .said_again = "STORED\r\nSTORED\r\n"),
        "set k0 7 0 1\r\nx\r\nset k1 7 0 1\r\nx\r\nset k0 7 0 1\r\nx\r\nset k1 7 0 1\r\nx\r\n",
        "> retry > r0:STORED r1:STORED OK keep");
    /* The reply to a marker is no word of the reply. */
    tells_leg(ONE(MC_GET, .unanswered = 1, .said = {"VERSION 1\r\n"}, .end = MC_CLOSED,
                  .said_again = "VALUE k0 0 1\r\nx\r\nEND\r\n"),
              "version\r\nget k0\r\nget k0\r\n", "> retry > v0=x OK keep");
    tells_leg(ONE(MC_GET, .end = MC_CLOSED, .owed_there = 4, .said_again = "VERSION 1\r\nEND\r\n"),
              "get k0\r\nversion\r\nget k0\r\n", "> retry > OK keep");
    tells_leg(ONE(MC_SET, X, .noreply = true, .probe = true, .end = MC_CLOSED,
                  .said_again = "VERSION 1\r\n"),
              "set k0 7 0 1 noreply\r\nx\r\nversion\r\nset k0 7 0 1 noreply\r\nx\r\nversion\r\n",
              "> retry > OK keep");
    tells_leg(ONE(MC_GET, .said = {"SERVER_ERROR x\r\n"}, .end = MC_CLOSED),
              "get k0\r\nversion\r\n", "> r1:SERVER_ERROR x > CLOSED answered");
}

/* As it fails with each status, in the middle of its reply. */
static void each_end_has_its_verdict(void)
{
    static const struct {
        mc_status status;
        const char *name, *blame;
    } ends[] = {{MC_TIMEOUT, "TIMEOUT", " blame"}, {MC_CLOSED, "CLOSED", ""},
                {MC_FAILED, "FAILED", ""},         {MC_MALFORMED, "MALFORMED", ""},
                {MC_NO_MEMORY, "NO_MEMORY", ""},   {MC_RAISED, "RAISED", ""},
                {MC_REFUSED, "REFUSED", " blame"}};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        for (int late = 0; late < 2; late++) {
            const char *blame = late && ends[i].status == MC_TIMEOUT ? "" : ends[i].blame;
            bool is_answer = ends[i].status != MC_NO_MEMORY && ends[i].status != MC_RAISED;
            task asked = ONE(MC_GET, .said = {"V"}, .end = ends[i].status, .late = late);
            char wanted[64];

            snprintf(wanted, sizeof wanted, "> %s%s", ends[i].name, blame);
            tells_leg(asked, "get k0\r\n", wanted);
            asked.command = MC_STATS;
            tells_leg(asked, "stats\r\n", wanted);
            asked.command = MC_INCR;
            snprintf(wanted, sizeof wanted, "> %s%s ran", ends[i].name, blame);
            tells_leg(asked, "incr k0\r\n", wanted);
            asked =
                MANY_OF(MC_SET, 2, X, .said = {"STORED\r\n"}, .end = ends[i].status, .late = late);
            snprintf(wanted, sizeof wanted, "> r0:STORED %s%s ran", ends[i].name, blame);
            tells_leg(asked, "set k0 7 0 1\r\nx\r\nset k1 7 0 1\r\nx\r\n", wanted);
            asked =
                ONE(MC_GET, .said = {"SERVER_ERROR x\r\n"}, .end = ends[i].status, .late = late);
            snprintf(wanted, sizeof wanted, "> r1:SERVER_ERROR x > %s%s%s", ends[i].name, blame,
                     is_answer ? " answered" : "");
            tells_leg(asked, "get k0\r\nversion\r\n", wanted);
        }
    }
}

/* A leg without a story, on a connection of its own. */
static mc_connection own;
static mc_leg leg;

static void start(mc_command command, size_t count)
{
    mc_clock clock;

    mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    mc_buffer_clear(&own.in);
    own.transport = &free_transport;
    own.unanswered = 0;
    mc_leg_init(&leg, command, keys, count);
    mc_leg_begin(&leg, &own, &clock);
}

static void lay_out_one(void)
{
    task asked = ONE(leg.command, X);

    while (leg.next < leg.count && mc_leg_next(&leg) == MC_LEG_PRODUCE) {
        CHECK(lay_out(&asked, &leg) && mc_leg_ready(&leg));
        if (leg.next < leg.count) {
            leg.piece_count = 0;
        }
    }
}

static void hear(const char *text)
{
    CHECK(receive(&leg, text, strlen(text), false) == strlen(text));
}

static void what_was_not_laid_out_has_not_run(void)
{
    for (mc_command command = 0; command < MC_COMMANDS; command++) {
        start(command, 1);
        mc_leg_fail(&leg, MC_OK); /* is none */
        CHECK(mc_leg_is_running(&leg));
        mc_leg_fail(&leg, MC_FAILED);
        CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.status == MC_FAILED);
        CHECK(!leg.verdict.may_have_run && !leg.verdict.keep && !leg.verdict.blame);
        mc_leg_fini(&leg);
    }
}

static void an_answer_before_its_request_is_taken_and_the_stream_is_not_kept(void)
{
    for (mc_command command = 0; command < CLASSIC_COMMANDS; command++) {
        int replies = 0;
        mc_leg_step step;

        start(command, 1);
        lay_out_one();
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && leg.piece_count > 0);
        hear(answer_of(command));
        while ((step = mc_leg_next(&leg)) == MC_LEG_REPLY) {
            replies++;
        }
        CHECK(step == MC_LEG_MOVE && leg.piece_count > 0); /* it is sent all the same */
        CHECK(replies == (answer_of(command)[0] != 'E'));
        leg.piece_count = 0;
        CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.status == MC_OK);
        CHECK(!leg.verdict.keep);
        mc_leg_fini(&leg);
    }
}

/* Nobody has asked yet. */
static void before_anything_is_laid_out_no_reply_is_told(void)
{
    start(MC_GET, 1);
    hear("VALUE k0 0 1\r\nx\r\nEND\r\n");
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && leg.piece_count == 1);
    CHECK(mc_leg_next(&leg) == MC_LEG_VALUE && mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && !leg.verdict.keep);
    mc_leg_fini(&leg);
}

/* Of a reply that came with the error line nobody knows what it is: the marker's is to come. */
static void a_version_that_comes_with_the_error_line_is_not_the_markers(void)
{
    for (size_t count = 1; count < 3; count++) {
        start(MC_GET, count);
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
        leg.piece_count = 0;
        hear("SERVER_ERROR x\r\nVERSION 1\r\n");
        CHECK(mc_leg_next(&leg) == MC_LEG_REPLY);
        while (mc_leg_next(&leg) == MC_LEG_MOVE) {
            leg.piece_count = 0;
        }
        CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.status == MC_OK);
        CHECK(!leg.verdict.keep);
        mc_leg_fini(&leg);
    }
}

/* The "get" lines of 1001 keys. */
static char gets_in_turn[8000];

static void write_gets_in_turn(void)
{
    size_t length = 0;

    for (size_t i = 0; i < 1001; i++) {
        length += (size_t)sprintf(gets_in_turn + length, "%s %s%s", i % 1000 == 0 ? "get" : "",
                                  names[i], i % 1000 == 999 || i == 1000 ? "\r\n" : "");
    }
}

static void in_turn_what_answers_the_next_batch_already_costs_the_stream(void)
{
    static char large[9000];
    char sent[30000];
    size_t length = 0;

    tells_whole(
        MANY_OF(MC_GET, 1001, .in_turn = true, .said = {"END\r\nVALUE k1000 0 1\r\na\r\nEND\r\n"}),
        (mc_slice){gets_in_turn, strlen(gets_in_turn)}, "> v1000=a > OK");
    memset(large, 'x', sizeof large);
    for (int i = 0; i < 2; i++) {
        length += (size_t)sprintf(sent + length, "set k%d 7 0 9000\r\n", i);
        memcpy(sent + length, large, sizeof large);
        memcpy(sent + length + sizeof large, "\r\n", 2);
        length += sizeof large + 2;
    }
    tells_whole(MANY_OF(MC_SET, 2, .value = {large, sizeof large}, .stays = true, .in_turn = true,
                        .said = {"STORED\r\nSTORED\r\n"}),
                (mc_slice){sent, length}, "> r0:STORED r1:STORED > OK");
}

static void behind_the_reply_nothing_may_stand(void)
{
    for (mc_command command = 0; command < CLASSIC_COMMANDS; command++) {
        char said[64], wanted[64] = "> OK";
        const char *answer = answer_of(command);

        snprintf(said, sizeof said, "%sx", answer);
        if (*answer == '7') {
            strcpy(wanted, "> MALFORMED ran"); /* a number names nothing */
        }
        else if (*answer != 'E') {
            snprintf(wanted, sizeof wanted, "> r0:%.*s OK", (int)strlen(answer) - 2, answer);
        }
        tells_whole(ONE(command, X, .said = {said}), text_of(line_of(command)), wanted);
    }
    start(MC_INCR, 1);
    lay_out_one();
    leg.piece_count = 0;
    hear("12\r\n13\r\n");
    CHECK(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.status == MC_MALFORMED);
    CHECK(leg.exchange.reply.line.length == 0);
    mc_leg_fini(&leg);
}

/* With a reply it does not: the error line that it is answered by tells. */
static void a_key_that_is_too_long_for_noreply_costs_the_stream(void)
{
    static char name[300];
    static const char *const tails[] = {" noreply\r\n", "\r\n"};

    memset(name, 'n', sizeof name);
    for (size_t length = 249; length < 253; length++) {
        for (int quiet = 0; quiet < 2; quiet++) {
            task asked =
                ONE(MC_DELETE, .key = {name, length}, .noreply = quiet, .said = {"DELETED\r\n"});
            char sent[300], wanted[64];

            snprintf(sent, sizeof sent, "delete %.*s%s", (int)length, name, tails[!quiet]);
            snprintf(wanted, sizeof wanted, "> %sOK%s%s", quiet ? "" : "r0:DELETED ",
                     length > 250 && quiet ? "" : " keep", quiet ? " u1" : "");
            tells_leg(asked, sent, wanted);
        }
    }
}

/* ---- the short ways ---- */

static bool any_short_way(void)
{
    uint64_t number;
    uint32_t flags;
    mc_slice body;

    switch (mc_commands[leg.command].family) {
    case MC_FAMILY_RETRIEVAL:
        return mc_leg_take_value(&leg, &flags, &body) >= 0;
    case MC_FAMILY_STORAGE:
        return mc_leg_take_stored(&leg);
    default:
        return mc_leg_take_number(&leg, &number);
    }
}

/* Sent and answered; whether it is taken in one look. */
static bool is_taken(mc_command command, const char *said)
{
    start(command, 1);
    lay_out_one();
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    if (*said != '\0') {
        hear(said);
    }

    size_t held = mc_buffer_length(&own.in);
    bool taken = any_short_way();

    CHECK(taken == !mc_leg_is_running(&leg));
    CHECK_NUMBER(mc_buffer_length(&own.in), taken ? 0 : held);
    CHECK(!taken || (leg.verdict.keep && leg.verdict.status == MC_OK && !leg.verdict.blame &&
                     !leg.verdict.answered && !leg.verdict.may_have_run));
    mc_leg_fini(&leg);
    return taken;
}

static void the_short_ways_take_the_usual_reply_and_no_other(void)
{
    static const char *const values[] = {"",
                                         "E",
                                         "END\r",
                                         "END\r\nx",
                                         "VALUE k0 0 1\r\nx\r\n",
                                         "VALUE k0 0 1\r\nx\r\nEND\r\nx",
                                         "VALUE k1 0 1\r\nx\r\nEND\r\n",
                                         "VALUE k0 0 1 1\r\nx\r\nEND\r\n",
                                         "VALUE k0 0 2\r\nx\r\nEND\r\n",
                                         "SERVER_ERROR x\r\n",
                                         "VALUE k0 0 1\r\nx\r\nEND\r\nEND\r\n",
                                         "STORED\r\n"};
    static const char *const stored[] = {
        "",           "STORED\r",  "STORED\r\nx", "NOT_STORED\r\n",       "stored\r\n",
        "STORED\n\n", "STORED\rx", "EXISTS\r\n",  "STORED\r\nSTORED\r\n", "SERVER_ERROR x\r\n"};
    static const char *const numbers[] = {"",
                                          "1",
                                          "1\r",
                                          "\r\n",
                                          "x\r\n",
                                          "-1\r\n",
                                          "1 \r\n",
                                          "1\n",
                                          "NOT_FOUND\r\n",
                                          "1\r\n2\r\n",
                                          "1\r\nx",
                                          "1x\r\n",
                                          "18446744073709551616\r\n"};

    CHECK(is_taken(MC_GET, "END\r\n") && is_taken(MC_GET, "VALUE k0 3 1\r\nx\r\nEND\r\n"));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CHECK(!is_taken(MC_GET, values[i]));
    }
    for (mc_command command = MC_SET; command <= MC_CAS; command++) {
        CHECK(is_taken(command, "STORED\r\n"));
        for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) {
            CHECK(!is_taken(command, stored[i]));
        }
    }
    for (mc_command command = MC_INCR; command <= MC_DECR; command++) {
        CHECK(is_taken(command, "0\r\n") && is_taken(command, "18446744073709551615\r\n"));
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            CHECK(!is_taken(command, numbers[i]));
        }
    }
}

static void the_short_ways_tell_what_they_took(void)
{
    uint64_t number = 0;
    uint32_t flags = 0;
    mc_slice body = {NULL, 0};

    start(MC_GET, 1);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    hear("VALUE k0 31 5\r\nhello\r\nEND\r\n");
    CHECK(mc_leg_take_value(&leg, &flags, &body) == 1 && flags == 31);
    CHECK_BYTES(body.bytes, body.length, "hello");
    CHECK(mc_leg_take_value(&leg, &flags, &body) == -1); /* it is over */
    mc_leg_fini(&leg);
    start(MC_GET, 1);
    leg.max_length = 4; /* of a value: there is none */
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    hear("END\r\n");
    CHECK(body.length == 5 && mc_leg_take_value(&leg, &flags, &body) == 0 && leg.verdict.keep);
    mc_leg_fini(&leg);
    start(MC_INCR, 1);
    lay_out_one();
    leg.piece_count = 0;
    hear("18446744073709551615\r\n");
    CHECK(mc_leg_take_number(&leg, &number) && number == UINT64_MAX);
    mc_leg_fini(&leg);
}

/* Another command's usual reply is no answer to this one, whichever way is tried. */
static void no_short_way_takes_another_commands_reply(void)
{
    static const char *const said[] = {"STORED\r\n", "42\r\n", "END\r\n", "VA 1 kk0\r\nx\r\n",
                                       "VALUE k0 0 1\r\nx\r\nEND\r\n"};

    for (int command = 0; command < MC_COMMANDS; command++) {
        mc_family family = mc_commands[command].family;

        for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
            uint64_t number;
            uint32_t flags;
            mc_slice body;

            start((mc_command)command, 1);
            if (family != MC_FAMILY_RETRIEVAL) {
                lay_out_one();
            }
            CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
            leg.piece_count = 0;
            hear(said[i]);
            CHECK(family == MC_FAMILY_STORAGE || !mc_leg_take_stored(&leg));
            CHECK(family == MC_FAMILY_NUMBER || !mc_leg_take_number(&leg, &number));
            CHECK(command == MC_GET || mc_leg_take_value(&leg, &flags, &body) < 0);
            CHECK(command == MC_MG || mc_leg_take_meta(&leg, &leg.exchange.reply, &body) < 0);
            mc_leg_fini(&leg);
        }
    }
}

/* What is not one command, sent and answered without anything else, is no case for them. */
static void the_short_ways_are_for_one_command_that_is_sent(void)
{
    static const mc_command commands[] = {MC_GET, MC_SET, MC_INCR};

    for (size_t i = 0; i < 3; i++) {
        const char *answer = answer_of(commands[i]);
        mc_clock clock;

        start(commands[i], 1); /* not sent */
        lay_out_one();
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
        hear(answer);
        CHECK(!any_short_way());
        leg.piece_count = 0;
        CHECK(any_short_way());
        mc_leg_fini(&leg);

        start(commands[i], 2); /* two */
        lay_out_one();
        leg.piece_count = 0;
        hear(answer);
        CHECK(!any_short_way());
        mc_leg_fini(&leg);

        start(commands[i], 1); /* a part has been looked at */
        lay_out_one();
        leg.piece_count = 0;
        hear("7");
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
        mc_buffer_clear(&own.in);
        hear(answer);
        CHECK(!any_short_way());
        mc_leg_fini(&leg);

        for (int quiet = 0; quiet < 2; quiet++) { /* without a reply; behind a marker */
            mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
            start(commands[i], 1);
            leg.noreply = quiet && commands[i] != MC_GET;
            own.unanswered = 1;
            mc_leg_begin(&leg, &own, &clock);
            lay_out_one();
            CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
            leg.piece_count = 0;
            hear(answer);
            CHECK(!any_short_way());
            mc_leg_fini(&leg);
        }
    }
    start(MC_GET, 1);
    leg.max_length = 4;
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    hear("VALUE k0 0 5\r\nhello\r\nEND\r\n");
    CHECK(!any_short_way());
    mc_leg_fini(&leg);
}

/* ---- no memory ---- */

static long allowed;

static void *limited(void *memory, size_t size)
{
    return allowed-- > 0 ? realloc(memory, size) : NULL;
}

/* How many allocations it takes; where one less is allowed it says so. */
static long runs_out(task asked, telling how)
{
    static leg_story told;
    mc_status status = MC_NO_MEMORY;
    long limit = 0;

    for (; status == MC_NO_MEMORY && limit < 100; limit++) {
        allowed = limit;
        mc_reallocate = limited;
        play(&asked, how, &told);
        mc_reallocate = realloc;
        status = told.verdict.status;
        CHECK(status == MC_NO_MEMORY ? !told.verdict.keep && !told.verdict.blame
                                     : told.verdict.keep);
        CHECK(!told.verdict.may_have_run || !reads_only(asked.command));
    }
    CHECK(status == MC_OK);
    return limit - 1;
}

static void out_of_memory_at_each_allocation_is_told(void)
{
    static char value[9000];
    task asked;

    for (size_t piece = 1; piece < 4096; piece *= 8) {
        for (int quick = 0; quick < 2; quick++) {
            telling how = {piece, piece, piece, quick != 0};

            CHECK(runs_out(ONE(MC_GET, .said = {"END\r\n"}), how) >= 2);
            CHECK(runs_out(ONE(MC_SET, X, .said = {"STORED\r\n"}), how) >= 2);
            CHECK(runs_out(ONE(MC_INCR, .said = {"7\r\n"}), how) >= 2);
            CHECK(runs_out(ONE(MC_STATS, .said = {"STAT a 1\r\nEND\r\n"}), how) >= 2);
            CHECK(runs_out(ONE(MC_SET, X, .noreply = true), how) == 1);
            CHECK(runs_out(ONE(MC_GET, .unanswered = 1, .said = {"VERSION 1\r\nEND\r\n"}), how) >=
                  2);
            CHECK(runs_out(ONE(MC_GET, .said = {"SERVER_ERROR x\r\n", "VERSION 1\r\n"}), how) >= 2);
            /* Out of order: the keys get an index. */
            CHECK(runs_out(MANY_OF(MC_GET, 3,
                                   .said = {"VALUE k1 0 1\r\na\r\nVALUE k0 0 1\r\nb\r\nEND\r\n"}),
                           how) >= 3);
            CHECK(runs_out(MANY_OF(MC_GET, 2002, .said = {"END\r\nEND\r\nEND\r\n"}), how) > 2);
            /* The batch grows as its first command tells, and with a copy. */
            asked = MANY_OF(MC_SET, 4, .value = {value, 1000},
                            .said = {"STORED\r\nSTORED\r\nSTORED\r\nSTORED\r\n"});
            CHECK(runs_out(asked, how) > 2);
            asked.value.length = sizeof value;
            asked.stays = asked.many_pieces = true;
            CHECK(runs_out(asked, how) >= 2);
            asked.count = 1;
            asked.noreply = asked.probe = true;
            asked.said[0] = "VERSION 1\r\n";
            CHECK(runs_out(asked, how) >= 2);
            CHECK(runs_out(ONE(MC_GET, .end = MC_CLOSED, .said_again = "END\r\n"), how) >= 3);
        }
    }
}

int main(void)
{
    name_keys();
    write_gets_in_turn();
    PROMISE(closed_before_a_word_what_may_is_sent_once_more);
    PROMISE(another_try_is_whole);
    PROMISE(each_end_has_its_verdict);
    PROMISE(what_was_not_laid_out_has_not_run);
    PROMISE(an_answer_before_its_request_is_taken_and_the_stream_is_not_kept);
    PROMISE(before_anything_is_laid_out_no_reply_is_told);
    PROMISE(a_version_that_comes_with_the_error_line_is_not_the_markers);
    PROMISE(in_turn_what_answers_the_next_batch_already_costs_the_stream);
    PROMISE(behind_the_reply_nothing_may_stand);
    PROMISE(a_key_that_is_too_long_for_noreply_costs_the_stream);
    PROMISE(the_short_ways_take_the_usual_reply_and_no_other);
    PROMISE(the_short_ways_tell_what_they_took);
    PROMISE(no_short_way_takes_another_commands_reply);
    PROMISE(the_short_ways_are_for_one_command_that_is_sent);
    PROMISE(out_of_memory_at_each_allocation_is_told);
    mc_buffer_fini(&own.in);
    mc_buffer_fini(&own.out);
    return check_result();
}
