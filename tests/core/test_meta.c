/* The promises of mcext/core/wire/meta.h, and of the exchange about meta commands. */
#define _GNU_SOURCE
#include "core/wire/meta.h"

#include "story.h"

static check_guard guard;
static mc_reply reply;
static size_t consumed;

static mc_status parse_for(const char *text, const char *key)
{
    size_t length = strlen(text);

    consumed = 424242;
    memset(&reply, 0xee, sizeof reply);
    return mc_meta_parse(check_guard_copy(guard, text, length), length,
                         (mc_slice){key, strlen(key)}, &reply, &consumed);
}

/* With a key to look for, with another, and with none, it is the same. */
static mc_status parse(const char *text)
{
    mc_status status = parse_for(text, "k0");
    mc_reply first = reply;

    CHECK(parse_for(text, "k") == status && reply.letters == first.letters);
    CHECK(status != MC_OK || reply.key.length == first.key.length);
    CHECK(parse_for(text, "k0, and longer than the line") == status);
    CHECK(status != MC_OK || reply.key.length == first.key.length);
    CHECK(parse_for(text, "") == status && reply.letters == first.letters);
    CHECK(status != MC_OK || reply.key.length == first.key.length);
    return status;
}

static void is(const char *text, mc_reply_type type)
{
    CHECK_NUMBER(parse(text), MC_OK);
    CHECK_NUMBER(reply.type, type);
    CHECK_NUMBER(consumed, strlen(text));
    CHECK_NUMBER(reply.line.length, strlen(text) - 2);
    CHECK(memcmp(reply.line.bytes, text, reply.line.length) == 0);
}

static void has(const char *text, const char *letters)
{
    uint64_t bits = 0;

    CHECK_NUMBER(parse(text), MC_OK);
    for (const char *letter = letters; *letter != '\0'; letter++) {
        CHECK(mc_meta_has(&reply, *letter));
        bits |= UINT64_C(1) << (*letter - 'A');
    }
    if (reply.letters != bits) {
        fprintf(stderr, "of %s\n", text);
    }
    CHECK_NUMBER(reply.letters, bits);
}

static void malformed(const char *text)
{
    if (parse(text) != MC_MALFORMED) {
        fprintf(stderr, "taken: %s\n", text);
    }
    CHECK_NUMBER(parse(text), MC_MALFORMED);
}

static void each_code_has_its_type(void)
{
    is("HD\r\n", MC_REPLY_HD);
    is("OK\r\n", MC_REPLY_HD);
    is("OK \r\n", MC_REPLY_HD);
    is("EN\r\n", MC_REPLY_EN);
    is("EN kk0 O7\r\n", MC_REPLY_EN);
    is("NF\r\n", MC_REPLY_NF);
    is("NF  O4\r\n", MC_REPLY_NF);
    is("EX c0\r\n", MC_REPLY_EX);
    is("MN\r\n", MC_REPLY_MN);
    is("VA 0\r\n", MC_REPLY_VALUE);
    CHECK_NUMBER(reply.length, 0);
    is("VA 18446744073709551615 f1\r\n", MC_REPLY_VALUE);
    CHECK_NUMBER(reply.length, UINT64_MAX);
    is("VA   12   f1 \r\n", MC_REPLY_VALUE);
    CHECK_NUMBER(reply.length, 12);
}

static void other_lines_are_what_they_are_elsewhere(void)
{
    is("ERROR\r\n", MC_REPLY_ERROR);
    is("CLIENT_ERROR invalid flag\r\n", MC_REPLY_CLIENT_ERROR);
    CHECK_BYTES(reply.text.bytes, reply.text.length, "invalid flag");
    CHECK_NUMBER(reply.letters, 0);
    is("SERVER_ERROR x\r\n", MC_REPLY_SERVER_ERROR);
    is("END\r\n", MC_REPLY_END);
    is("ENDS\r\n", MC_REPLY_OTHER);
    is("HDX\r\n", MC_REPLY_OTHER);
    is("HD\t\r\n", MC_REPLY_OTHER);
    is("hd\r\n", MC_REPLY_OTHER);
    is("NS\r\n", MC_REPLY_OTHER); /* of ms, which is not sent */
    is("H\r\n", MC_REPLY_OTHER);
    is("\r\n", MC_REPLY_OTHER);
    is("VALUE k0 1 2\r\n", MC_REPLY_OTHER);
    malformed("VALUE k0 1\r\n");
    is("17\r\n", MC_REPLY_NUMBER);
}

static void flags_are_read_by_letter(void)
{
    has("VA 5 kk0 f7 c18446744073709551615 t100 s5 h1 l9\r\n", "kfctshl");
    CHECK_BYTES(reply.key.bytes, reply.key.length, "k0");
    CHECK(reply.has_cas && reply.cas == UINT64_MAX && reply.flags == 7 && reply.ttl == 100);
    CHECK(reply.size == 5 && reply.was_hit && reply.age == 9 && reply.length == 5);
    has("VA 5  l9   h0 s5 t-1 c1 f4294967295 kk00  \r\n", "kfctshl");
    CHECK_BYTES(reply.key.bytes, reply.key.length, "k00");
    CHECK(reply.cas == 1 && reply.flags == UINT32_MAX && reply.ttl == -1);
    CHECK(reply.size == 5 && !reply.was_hit && reply.age == 9);
    has("HD c0 t9223372036854775807\r\n", "ct");
    CHECK(reply.has_cas && reply.ttl == INT64_MAX);
    has("HD\r\n", "");
    CHECK(!reply.has_cas && reply.cas == 0 && reply.flags == 0 && reply.ttl == 0);
    CHECK(reply.size == 0 && reply.age == 0 && !reply.was_hit && reply.key.length == 0);
    has("VA 0 kk0 f0 c2 W\r\n", "kfcW");
    has("VA 0 kk0 f0 c2 Z\r\n", "kfcZ");
    has("VA 1 X W kk0 f0 c2\r\n", "kfcXW");
    has("VA 1 kk0 f0 c2 Z X\r\n", "kfcZX");
    has("VA 1 Z X W\r\n", "ZXW");
}

static void letters_that_nobody_asked_for_are_passed_over(void)
{
    has("VA 5 Oxyz b q kk0 N30 R5 Obla Obla w x z ? ~1 \x80\xff f1 @ [ i\r\n", "kf");
    has("NF  O4\r\n", "");
    has("HD O1 kx=y,z\r\n", "k");
    CHECK_BYTES(reply.key.bytes, reply.key.length, "x=y,z");
}

static void what_is_no_flag_is_malformed(void)
{
    static const char *const wrong[] = {
        "c",
        "cx",
        "c1x",
        "c-1",
        "c18446744073709551616",
        "c000000000000000000001",
        "f",
        "fx",
        "f-1",
        "f4294967296",
        "h",
        "h2",
        "hx",
        "h1 h1",
        "l",
        "l-1",
        "s",
        "s5x",
        "t",
        "t-",
        "t-2",
        "t-10",
        "t9223372036854775808",
        "tx",
        "k",
        "k ",
        "kk0 kk0",
        "c1 c1",
        "f1 c1 f1",
        "W W",
        "X X",
        "Z Z",
        "W1",
        "XW",
        "c1:",
        "c:",
        "c1/",
        "Z0",
        "c1\tf1",
        "s1 O1 s1",
        "t1 t1",
        "l1 l1",
        "c1\r",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[80];

        snprintf(line, sizeof line, "VA 5 %s\r\n", wrong[i]);
        malformed(line);
        snprintf(line, sizeof line, "EN %s f7\r\n", wrong[i]);
        if (strncmp(wrong[i], "f1", 2) != 0) {
            malformed(line);
        }
    }
    malformed("VA\r\n");
    malformed("VA \r\n");
    malformed("VA x\r\n");
    malformed("VA kk0 5\r\n");
    malformed("VA -1\r\n");
    malformed("VA 5x\r\n");
    malformed("VA 18446744073709551616\r\n");
    malformed("HD\n");
    malformed("\n");
    CHECK(parse("HD\r") == MC_AGAIN && parse("VA 5 f") == MC_AGAIN && parse("") == MC_AGAIN);
}

static void a_line_has_an_end(void)
{
    static char line[MC_LINE_MAX + 2];

    memset(line, ' ', sizeof line - 1);
    memcpy(line, "VA 1", 4);
    CHECK(parse(line) == MC_MALFORMED);
    memcpy(line + MC_LINE_MAX - 2, "\r\n", 3);
    CHECK(parse(line) == MC_OK && consumed == MC_LINE_MAX);
}

/* What is known at one look is what the line says, and its body; nothing is read past the bytes. */
static void a_hit_is_known_at_one_look(void)
{
    static const struct {
        const char *line;
        const char *letters; /* NULL: it is not for this way */
    } cases[] = {
        {"VA 2 kk0", "k"},
        {"VA 2 kk0 f7 c18446744073709551615", "kfc"},
        {"VA 2 kk0 c0 f4294967295 W", "kfcW"},
        {"VA 2 kk0 Z X", "kZX"},
        {"VA 02 kk0 X W f1", "kXWf"},
        {"VA 2 kk0 ", NULL},
        {"VA 2 kk0  f7", NULL},
        {"VA  2 kk0 f7", NULL},
        {"VA 2 f7 kk0", NULL},
        {"VA 2 kk1", NULL},
        {"VA 2 kk00", NULL},
        {"VA 2 kk", NULL},
        {"VA 2 k", NULL},
        {"VA 2", NULL},
        {"VA  kk0", NULL},
        {"VA 2 kk0 t1", NULL},
        {"VA 2 kk0 f7x", NULL},
        {"VA 2 kk0 c18446744073709551616", NULL},
        {"VA 2 kk0 f4294967296", NULL},
        {"VA 2 kk0 W W", NULL},
        {"VA 2 kk0 W1", NULL},
        {"VA 3 kk0", NULL},
        {"VA 1 kk0", NULL},
        {"HD 2 kk0", NULL},
        {"VA 2 kk0\r", NULL},
    };
    const mc_slice key = {"k0", 2};
    mc_slice body;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[80];
        size_t length = (size_t)snprintf(text, sizeof text, "%s\r\nhi\r\n", cases[i].line);
        const char *bytes = check_guard_copy(guard, text, length);
        mc_reply quick;

        memset(&quick, 0xee, sizeof quick);
        CHECK(mc_meta_match_hit(bytes, length, key, &quick, &body) == (cases[i].letters != NULL));
        if (cases[i].letters != NULL) {
            has(text, cases[i].letters);
            CHECK(quick.letters == reply.letters && quick.cas == reply.cas);
            CHECK(quick.has_cas == reply.has_cas && quick.flags == reply.flags);
            CHECK(quick.length == 2 && quick.ttl == 0 && quick.size == 0 && quick.age == 0);
            CHECK(!quick.was_hit && quick.type == MC_REPLY_VALUE && quick.text.length == 0);
            CHECK_BYTES(quick.key.bytes, quick.key.length, "k0");
            CHECK_BYTES(quick.line.bytes, quick.line.length, cases[i].line);
            CHECK_BYTES(body.bytes, body.length, "hi");
        }
        for (size_t cut = 0; cut < length; cut++) {
            bytes = check_guard_copy(guard, text, cut);
            CHECK(!mc_meta_match_hit(bytes, cut, key, &quick, &body));
        }
    }
    CHECK(!mc_meta_match_hit(NULL, 0, key, &reply, &body));

    static const char empty[] = "VA 0 kk0\r\n\r\n";
    size_t length = sizeof empty - 1;
    const char *bytes = check_guard_copy(guard, empty, length);

    CHECK(mc_meta_match_hit(bytes, length, key, &reply, &body) && body.length == 0);
    CHECK(!mc_meta_match_hit(bytes, length, (mc_slice){"k0, and longer than all of it", 29}, &reply,
                             &body));
}

static void the_probe_tells_what_a_server_has(void)
{
    static const mc_reply_type types[] = {
        MC_REPLY_OTHER, MC_REPLY_MN,           MC_REPLY_EN,           MC_REPLY_HD,
        MC_REPLY_ERROR, MC_REPLY_CLIENT_ERROR, MC_REPLY_SERVER_ERROR, MC_REPLY_VALUE};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        bool stable = types[i] == MC_REPLY_EN || types[i] == MC_REPLY_HD;

        CHECK(mc_meta_judge(MC_REPLY_MN, types[i]) == (stable ? MC_META_STABLE
                                                       : types[i] == MC_REPLY_CLIENT_ERROR
                                                           ? MC_META_LEASES
                                                           : MC_META_NONE));
        for (size_t j = 0; types[i] != MC_REPLY_MN && j < sizeof types / sizeof *types; j++) {
            CHECK(mc_meta_judge(types[i], types[j]) == MC_META_NONE);
        }
    }
}

/* ---- the exchange ---- */

static void a_hit_has_to_name_its_key(void)
{
    tells(ASK(MC_MG), "VA 5 kk0 f7 c1\r\nhello\r\n", "v0=hello done");
    tells(ASK(MC_MG), "VA 5 f7   kk0  c1 W X\r\nhello\r\n", "v0=hello done");
    tells(ASK(MC_MG), "VA 0 kk0 W\r\n\r\n", "v0= done");
    tells(ASK(MC_MG), "VA 5 f7 c1\r\nhello\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk1 f7 c1\r\nhello\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk f7 c1\r\nhello\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk00 f7 c1\r\nhello\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk0\r\nhello!\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk0 kk0\r\nhello\r\n", "broken!");
    tells(ASK(MC_MG), "VALUE k0 0 5\r\nhello\r\nEND\r\n", "broken!");
    tells(ASK(MC_MG), "VA 5 kk0\r\nhello\r\nEND\r\n", "v0=hello done!");
    tells(ASK(MC_MG), "VA 5 kk0\r\nhel", "again!");
    tells(ASK(MC_MG), "VA 5 kk0\r\nhello\r", "again!");
    request limited = ASK(MC_MG);
    limited.max_length = 5;
    tells(limited, "VA 5 kk0\r\nhello\r\n", "v0=hello done");
    tells(limited, "VA 6 kk0\r\nhello!\r\n", "broken!");
}

static void other_answers_may_name_it(void)
{
    tells(ASK(MC_MG), "EN\r\n", "r0:EN done");
    tells(ASK(MC_MG), "EN kk0 O1\r\n", "r0:EN kk0 O1 done");
    tells(ASK(MC_MG), "EN kk1\r\n", "broken!");
    tells(ASK(MC_MG), "HD\r\n", "r0:HD done"); /* nobody asked for v, or there is no need */
    tells(ASK(MC_MG), "HD kk1\r\n", "broken!");
    tells(ASK(MC_MG), "OK kk0 f1 \r\n", "r0:OK kk0 f1  done");
    tells(ASK(MC_MG), "EN\r\nEN\r\n", "r0:EN done!");
    tells(ASK(MC_MD), "HD\r\n", "r0:HD done");
    tells(ASK(MC_MD), "OK \r\n", "r0:OK  done");
    tells(ASK(MC_MD), "NF  O4\r\n", "r0:NF  O4 done");
    tells(ASK(MC_MD), "EX kk0\r\n", "r0:EX kk0 done");
    tells(ASK(MC_MD), "NF kk1\r\n", "broken!");
}

static void another_commands_answer_breaks(void)
{
    static const char *const none[] = {"STORED\r\n",  "END\r\n", "MN\r\n",        "NS\r\n",
                                       "DELETED\r\n", "5\r\n",   "VERSION 1\r\n", "hello\r\n"};

    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        tells(ASK(MC_MG), none[i], "broken!");
        tells(ASK(MC_MD), none[i], "broken!");
        if (strcmp(none[i], "MN\r\n") != 0) {
            tells(ASK(MC_META_PROBE), none[i], "broken!");
        }
    }
    tells(ASK(MC_MG), "NF\r\n", "broken!");
    tells(ASK(MC_MG), "EX\r\n", "broken!");
    tells(ASK(MC_MD), "EN\r\n", "broken!");
    tells(ASK(MC_MD), "VA 1 kk0\r\nx\r\n", "broken!");
    tells(ASK(MC_GET), "EN\r\n", "broken!");
    tells(ASK(MC_DELETE), "HD\r\n", "broken!");
    tells(ASK(MC_DELETE), "NF\r\n", "broken!");
    tells(ASK(MC_FLUSH_ALL), "OK \r\n", "broken!");
    tells(MANY(MC_META_PROBE, 2), "MN\r\nVA 1 kAA==\r\nx\r\n", "r0:MN broken!");
}

static void answers_to_many_come_in_order(void)
{
    tells(MANY(MC_MG, 3), "VA 1 kk0 f0\r\nx\r\nEN\r\nVA 2 kk2 f0\r\nyz\r\n",
          "v0=x r1:EN v2=yz done");
    tells(MANY(MC_MG, 3), "EN kk0\r\nEN kk1\r\nEN kk2\r\n", "r0:EN kk0 r1:EN kk1 r2:EN kk2 done");
    tells(MANY(MC_MG, 3), "VA 1 kk0 f0\r\nx\r\nVA 2 kk2 f0\r\nyz\r\n", "v0=x broken!");
    tells(MANY(MC_MG, 2), "VA 1 kk1 f0\r\nx\r\nVA 2 kk0 f0\r\nyz\r\n", "broken!");
    tells(MANY(MC_MG, 2), "VA 1 kk0 f0\r\nx\r\nVA 1 kk0 f0\r\nx\r\n", "v0=x broken!");
    tells(MANY(MC_MG, 2), "VA 1 kk0 f0\r\nx\r\nVA 1 kk1 f0\r\ny\r\nz", "v0=x v1=y done!");
    tells(MANY(MC_MG, 2), "VA 1 kk0 f0\r\nx\r\n", "v0=x again!");
    tells(MANY(MC_MD, 3), "HD\r\nNF\r\nEX\r\n", "r0:HD r1:NF r2:EX done");
    tells(MANY(MC_MD, 2), "HD kk1\r\nNF\r\n", "broken!");
}

static void an_error_line_is_an_answer_and_costs_the_stream(void)
{
    tells(ASK(MC_MG), "ERROR\r\n", "r0:ERROR done!");
    tells(ASK(MC_MG), "CLIENT_ERROR invalid flag\r\n", "r0:CLIENT_ERROR invalid flag done!");
    tells(ASK(MC_MD), "CLIENT_ERROR bad command line format\r\n",
          "r0:CLIENT_ERROR bad command line format done!");
    tells(MANY(MC_MG, 3), "EN\r\nSERVER_ERROR out of memory\r\nVA 1 kk2\r\nx\r\n",
          "r0:EN r1:SERVER_ERROR out of memory v2=x done!");
    request asked = MANY(MC_MG, 2); /* behind a marker it may be about what went before that */
    asked.marker = true;
    tells(asked, "VERSION 1\r\nERROR\r\nEN\r\n", "r0:ERROR broken!");
}

static void behind_a_marker_what_went_before_is_dropped(void)
{
    request asked = MANY(MC_MG, 2);

    asked.marker = true;
    tells(asked, "HD\r\nEN\r\nERROR\r\nVERSION 1\r\nVA 1 kk0\r\nx\r\nEN\r\n", "v0=x r1:EN done");
    tells(asked, "VERSION 1\r\nEN kk0\r\nEN kk1\r\n", "r0:EN kk0 r1:EN kk1 done");
    asked.command = MC_META_PROBE;
    tells(asked, "STORED\r\nVERSION 1\r\nMN\r\nEN\r\n", "r0:MN r1:EN done");
    tells(asked, "VERSION 1\r\nERROR\r\nMN\r\nEN\r\n", "r0:ERROR r1:MN done!");
}

/* As the servers of these years say it. */
static void each_server_answers_the_probe(void)
{
    request probe = MANY(MC_META_PROBE, 2);

    tells(probe, "ERROR\r\nERROR\r\n", "r0:ERROR r1:ERROR done"); /* 1.4.39 */
    tells(probe, "EN\r\nCLIENT_ERROR bad command line format\r\n",
          "r0:EN r1:CLIENT_ERROR bad command line format done"); /* 1.5.22 */
    tells(probe, "MN\r\nCLIENT_ERROR invalid flag\r\n",
          "r0:MN r1:CLIENT_ERROR invalid flag done");                       /* 1.6.6 */
    tells(probe, "MN\r\nEN\r\n", "r0:MN r1:EN done");                       /* 1.6.12 */
    tells(probe, "MN\r\nEN kAA== b O1\r\n", "r0:MN r1:EN kAA== b O1 done"); /* 1.6.18 */
    tells(probe, "MN\r\nHD kAA== b O1\r\n", "r0:MN r1:HD kAA== b O1 done"); /* it is there */
    tells(probe, "MN\r\nEN\r\nEN\r\n", "r0:MN r1:EN done!");
    tells(probe, "CLIENT_ERROR malformed request\r\n",
          "r0:CLIENT_ERROR malformed request again!"); /* mcrouter, which closes then */
}

static void a_value_needs_a_key_to_compare(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    mc_exchange_init(&exchange, &in, MC_MG, NULL, 2, false);
    CHECK(mc_buffer_append(&in, "EN kany\r\n", 9) && mc_buffer_append(&in, "VA 0 kk0\r\n\r\n", 12));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_REPLY);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_BROKEN);
    mc_buffer_fini(&in);
}

static void an_event_carries_the_flags(void)
{
    static const char text[] = "VA 2 kk0 f5 c9 t-1 h1 l3 s2 Z X\r\nhi\r\nEN\r\n";
    mc_buffer in = {0};
    mc_exchange exchange;
    const mc_reply *said = &exchange.reply;

    mc_exchange_init(&exchange, &in, MC_MG, keys, 2, false);
    CHECK(mc_buffer_append(&in, text, sizeof text - 1));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE);
    CHECK(said->length == 2 && said->flags == 5 && said->cas == 9 && said->ttl == -1);
    CHECK(said->was_hit && said->age == 3 && said->size == 2);
    CHECK(mc_meta_has(said, 'Z') && mc_meta_has(said, 'X') && !mc_meta_has(said, 'W'));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_REPLY); /* and nothing is left of them */
    CHECK(said->letters == 0 && said->flags == 0 && !said->has_cas && said->ttl == 0);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && mc_exchange_is_clean(&exchange));
    mc_buffer_fini(&in);
}

int main(void)
{
    guard = check_guard_new(MC_LINE_MAX + 2);
    name_keys();
    PROMISE(each_code_has_its_type);
    PROMISE(other_lines_are_what_they_are_elsewhere);
    PROMISE(flags_are_read_by_letter);
    PROMISE(letters_that_nobody_asked_for_are_passed_over);
    PROMISE(what_is_no_flag_is_malformed);
    PROMISE(a_line_has_an_end);
    PROMISE(a_hit_is_known_at_one_look);
    PROMISE(the_probe_tells_what_a_server_has);
    PROMISE(a_hit_has_to_name_its_key);
    PROMISE(other_answers_may_name_it);
    PROMISE(another_commands_answer_breaks);
    PROMISE(answers_to_many_come_in_order);
    PROMISE(an_error_line_is_an_answer_and_costs_the_stream);
    PROMISE(behind_a_marker_what_went_before_is_dropped);
    PROMISE(each_server_answers_the_probe);
    PROMISE(a_value_needs_a_key_to_compare);
    PROMISE(an_event_carries_the_flags);
    check_guard_free(guard);
    return check_result();
}
