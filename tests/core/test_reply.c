/* The promises of mcext/core/wire/reply.h. */
#define _GNU_SOURCE
#include "core/wire/reply.h"

#include "check.h"

static check_guard guard;
static mc_reply reply;
static size_t consumed;

static mc_status parse_bytes(const char *bytes, size_t length)
{
    consumed = 424242;
    memset(&reply, 0xee, sizeof reply);
    return mc_reply_parse(check_guard_copy(guard, bytes, length), length, &reply, &consumed);
}

static mc_status parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

static void is(const char *text, mc_reply_type type)
{
    CHECK_NUMBER(parse(text), MC_OK);
    CHECK_NUMBER(reply.type, type);
    CHECK_NUMBER(consumed, strlen(text));
    CHECK_NUMBER(reply.line.length, strlen(text) - 2);
    CHECK(memcmp(reply.line.bytes, text, reply.line.length) == 0);
}

static void malformed(const char *text)
{
    if (parse(text) != MC_MALFORMED) {
        fprintf(stderr, "taken: %s\n", text);
    }
    CHECK_NUMBER(parse(text), MC_MALFORMED);
}

static void every_reply_has_its_type(void)
{
    is("END\r\n", MC_REPLY_END);
    is("STORED\r\n", MC_REPLY_STORED);
    is("NOT_STORED\r\n", MC_REPLY_NOT_STORED);
    is("EXISTS\r\n", MC_REPLY_EXISTS);
    is("NOT_FOUND\r\n", MC_REPLY_NOT_FOUND);
    is("DELETED\r\n", MC_REPLY_DELETED);
    is("TOUCHED\r\n", MC_REPLY_TOUCHED);
    is("OK\r\n", MC_REPLY_OK);
    is("RESET\r\n", MC_REPLY_RESET);
    is("VERSION 1.6.18\r\n", MC_REPLY_VERSION);
    CHECK_BYTES(reply.text.bytes, reply.text.length, "1.6.18");
    is("ERROR\r\n", MC_REPLY_ERROR);
    CHECK_NUMBER(reply.text.length, 0);
    is("ERROR unknown command\r\n", MC_REPLY_ERROR);
    is("CLIENT_ERROR bad data chunk\r\n", MC_REPLY_CLIENT_ERROR);
    CHECK_BYTES(reply.text.bytes, reply.text.length, "bad data chunk");
    is("SERVER_ERROR out of memory storing object\r\n", MC_REPLY_SERVER_ERROR);
    CHECK_BYTES(reply.text.bytes, reply.text.length, "out of memory storing object");
}

static void a_row_of_a_listing_is_a_name_and_the_rest(void)
{
    is("STAT pid 42\r\n", MC_REPLY_STAT);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "pid");
    CHECK_BYTES(reply.text.bytes, reply.text.length, "42");
    is("STAT version 1.6 beta 2\r\n", MC_REPLY_STAT);
    CHECK_BYTES(reply.text.bytes, reply.text.length, "1.6 beta 2");
    is("ITEM key [5 b; 0 s]\r\n", MC_REPLY_STAT);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "key");
    CHECK_BYTES(reply.text.bytes, reply.text.length, "[5 b; 0 s]");
    is("PREFIX a get 1 hit 0 set 1 del 0\r\n", MC_REPLY_STAT);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "a");
    is("STAT name\r\n", MC_REPLY_STAT);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "name");
    CHECK_NUMBER(reply.text.length, 0);
}

static void a_value_line_is_taken_apart(void)
{
    is("VALUE k 0 0\r\n", MC_REPLY_VALUE);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "k");
    CHECK(reply.flags == 0 && reply.length == 0 && !reply.has_cas);
    is("VALUE \xff\t\r 4294967295 18446744073709551615 18446744073709551615\r\n", MC_REPLY_VALUE);
    CHECK_BYTES(reply.key.bytes, reply.key.length, "\xff\t\r");
    CHECK_NUMBER(reply.flags, UINT32_MAX);
    CHECK_NUMBER(reply.length, UINT64_MAX);
    CHECK(reply.has_cas);
    CHECK_NUMBER(reply.cas, UINT64_MAX);
}

static void a_value_line_with_anything_else_is_malformed(void)
{
    malformed("VALUE  \r\n");
    malformed("VALUE k\r\n");
    malformed("VALUE k \r\n");
    malformed("VALUE k 0\r\n");
    malformed("VALUE k 0 \r\n");
    malformed("VALUE k 0 1 \r\n");
    malformed("VALUE k 0 1 2 \r\n");
    malformed("VALUE k 0 1 2 3\r\n");
    malformed("VALUE k  0 1\r\n");
    malformed("VALUE k 0  1\r\n");
    malformed("VALUE k 0 1  2\r\n");
    malformed("VALUE  0 1\r\n");
    malformed("VALUE  k 0 1\r\n");
    malformed("VALUE k -1 1\r\n");
    malformed("VALUE k 0 -1\r\n");
    malformed("VALUE k 0 1 -1\r\n");
    malformed("VALUE k +0 1\r\n");
    malformed("VALUE k 0 +1\r\n");
    malformed("VALUE k 0x0 1\r\n");
    malformed("VALUE k 4294967296 1\r\n");
    malformed("VALUE k 0 18446744073709551616\r\n");
    malformed("VALUE k 0 1 18446744073709551616\r\n");
    malformed("VALUE k 0 1\r\r\n");
    malformed("VALUE k 0 1\t\r\n");
}

static void words_are_taken_whole_and_in_capitals(void)
{
    is("end\r\n", MC_REPLY_OTHER);
    is("ENDS\r\n", MC_REPLY_OTHER);
    is("END \r\n", MC_REPLY_OTHER);
    is(" END\r\n", MC_REPLY_OTHER);
    is("EN\r\n", MC_REPLY_OTHER);
    is("STORED STORED\r\n", MC_REPLY_OTHER);
    is("OK then\r\n", MC_REPLY_OTHER);
    is("VERSIONS 1\r\n", MC_REPLY_OTHER);
    is("SERVER_ERRORS\r\n", MC_REPLY_OTHER);
    is("VALUE\r\n", MC_REPLY_OTHER);
    is("VALUE \r\n", MC_REPLY_OTHER);
    is("STAT\r\n", MC_REPLY_OTHER);
    is("ITEM\r\n", MC_REPLY_OTHER);
    is("PREFIX\r\n", MC_REPLY_OTHER);
    is("VERSION\r\n", MC_REPLY_OTHER);
    is("VALUES k 0 1\r\n", MC_REPLY_OTHER);
    is("\r\n", MC_REPLY_OTHER);
    is("\r\r\n", MC_REPLY_OTHER);
    is("END\r\r\n", MC_REPLY_OTHER);
}

static void numbers_are_exact_and_strict(void)
{
    is("0\r\n", MC_REPLY_NUMBER);
    CHECK_NUMBER(reply.number, 0);
    is("18446744073709551615\r\n", MC_REPLY_NUMBER);
    CHECK_NUMBER(reply.number, UINT64_MAX);
    is("18446744073709551616\r\n", MC_REPLY_OTHER);
    is("-1\r\n", MC_REPLY_OTHER);
    is("+1\r\n", MC_REPLY_OTHER);
    is("1 \r\n", MC_REPLY_OTHER);
    is(" 1\r\n", MC_REPLY_OTHER);
    is("1 2\r\n", MC_REPLY_OTHER);
    is("1\r\r\n", MC_REPLY_OTHER);
}

static void a_line_ends_with_cr_lf_only(void)
{
    malformed("END\n");
    malformed("\n");
    malformed("END\n\r\n");
    malformed("STORED\n\r");
    CHECK_NUMBER(parse_bytes("END\0\r\n", 6), MC_OK);
    CHECK_NUMBER(reply.type, MC_REPLY_OTHER);
}

static void every_cut_asks_for_more_and_touches_nothing(void)
{
    static const char *const lines[] = {"VALUE key 4294967295 18446744073709551615 1\r\n",
                                        "SERVER_ERROR object too large for cache\r\n",
                                        "STAT pid 42\r\n",
                                        "END\r\n",
                                        "12345\r\n",
                                        "\r\n"};

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        size_t length = strlen(lines[i]);

        for (size_t cut = 0; cut < length; cut++) {
            CHECK_NUMBER(parse_bytes(lines[i], cut), MC_AGAIN);
            CHECK_NUMBER(consumed, 424242);
        }
        CHECK_NUMBER(parse_bytes(lines[i], length), MC_OK);
    }
    CHECK_NUMBER(mc_reply_parse(NULL, 0, &reply, &consumed), MC_AGAIN);
}

static void what_stands_behind_the_line_is_left_alone(void)
{
    CHECK_NUMBER(parse("END\r\nVALUE k -1 1\n"), MC_OK);
    CHECK_NUMBER(reply.type, MC_REPLY_END);
    CHECK_NUMBER(consumed, 5);
}

static void a_line_is_at_most_line_max_bytes(void)
{
    char *line = malloc(MC_LINE_MAX + 16);

    memset(line, 'x', MC_LINE_MAX + 16);
    CHECK_NUMBER(parse_bytes(line, MC_LINE_MAX - 1), MC_AGAIN);
    CHECK_NUMBER(parse_bytes(line, MC_LINE_MAX), MC_MALFORMED);
    CHECK_NUMBER(parse_bytes(line, MC_LINE_MAX + 16), MC_MALFORMED);
    memcpy(line + MC_LINE_MAX - 2, "\r\n", 2);
    CHECK_NUMBER(parse_bytes(line, MC_LINE_MAX + 16), MC_OK);
    CHECK_NUMBER(consumed, MC_LINE_MAX);
    line[MC_LINE_MAX - 2] = 'x';
    memcpy(line + MC_LINE_MAX - 1, "\r\n", 2);
    CHECK_NUMBER(parse_bytes(line, MC_LINE_MAX + 16), MC_MALFORMED);
    free(line);
}

static void any_byte_may_follow_an_error_word(void)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[32] = "SERVER_ERROR ?x\r\n";
        size_t length = strlen(text);

        text[13] = (char)byte;
        mc_status status = parse_bytes(text, length);
        if (byte == '\n') {
            CHECK_NUMBER(status, MC_MALFORMED);
        }
        else {
            CHECK_NUMBER(status, MC_OK);
            CHECK_NUMBER(reply.type, MC_REPLY_SERVER_ERROR);
            CHECK(mc_reply_is_error(reply.type));
            CHECK_NUMBER(reply.text.length, 2);
        }
    }
    CHECK(!mc_reply_is_error(MC_REPLY_STAT) && !mc_reply_is_error(MC_REPLY_VERSION));
}

static int match(const char *text, mc_slice *body)
{
    uint32_t flags = 4242;
    mc_slice key = {"key", 3};
    size_t length = strlen(text);
    int matched =
        mc_reply_match_get(check_guard_copy(guard, text, length), length, key, &flags, body);

    CHECK(matched != 1 || flags == 16);
    return matched;
}

static void a_whole_get_reply_is_taken_in_one_look(void)
{
    static const char *const others[] = {
        "",
        "E",
        "END",
        "END\r",
        "END\r\nEND\r\n",
        "ENDS\r\n",
        "VALUE",
        "VALUE key",
        "VALUE key 16 1\r\n",
        "VALUE key 16 1\r\nx\r\nEND\r",
        "VALUE key 16 1\r\nx\r\nEND\r\nE",
        "VALUE key 16 1\r\nx\r\nEND\n\n",
        "VALUE key 16 1\r\nx\r\nEND\r\r",
        "VALUE key 16 1\r\nx\r\nERR\r\n",
        "VALUE key 16 1\r\nxEND\r\n\r\n",
        "VALUE key 16 1\nx\r\nEND\r\nx",
        "VALUE key 16 1\r",
        "VALUE key 16 1\rx\r\nEND\r\nx",
        "VALUE key 16 2\r\nx\r\nEND\r\n",
        "VALUE key 16 0\r\nx\r\nEND\r\n",
        "VALUE kez 16 1\r\nx\r\nEND\r\n",
        "VALUE keys 16 1\r\nx\r\nEND\r\n",
        "VALUE key  16 1\r\nx\r\nEND\r\n",
        "VALUE key -1 1\r\nx\r\nEND\r\n",
        "VALUE key 16 -1\r\nx\r\nEND\r\n",
        "VALUE key 16  1\r\nx\r\nEND\r\n",
        "VALUE key 16 \r\nx\r\nEND\r\nxxxx",
        "VALUE key  1\r\nx\r\nEND\r\nxxxxx",
        "VALUE key 16 1 7\r\nx\r\nEND\r\n",
        "VALUE key 16 1\r\nx\r\nVALUE key 16 1\r\nx\r\nEND\r\n",
        "VALUE key 16 4294967297\r\nx\r\nEND\r\n", /* 1 in 32 bits */
        "VALUE key 4294967312 1\r\nx\r\nEND\r\n",  /* 16 in 32 bits */
        "VALUE key 16 18446744073709551617\r\nx\r\nEND\r\n",
        "VALUE key 16 18446744073709551610\r\nx\r\nEND\r\n",
        "value key 16 1\r\nx\r\nEND\r\n",
        "SERVER_ERROR out of memory\r\n",
    };
    mc_slice body = {NULL, 0};

    CHECK(match("END\r\n", &body) == 0);
    CHECK(match("VALUE key 16 5\r\nhello\r\nEND\r\n", &body) == 1);
    CHECK_BYTES(body.bytes, body.length, "hello");
    CHECK(match("VALUE key 16 0\r\n\r\nEND\r\n", &body) == 1);
    CHECK_NUMBER(body.length, 0);
    CHECK(match("VALUE key 16 7\r\n\r\nEND\r\n\r\nEND\r\n", &body) == 1);
    CHECK_BYTES(body.bytes, body.length, "\r\nEND\r\n");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (match(others[i], &body) != -1) {
            fprintf(stderr, "taken: %s\n", others[i]);
        }
        CHECK(match(others[i], &body) == -1);
    }
}

static size_t match_line(const char *text, size_t length, uint32_t *flags, uint32_t *size)
{
    return mc_reply_match_value(check_guard_copy(guard, text, length), length, (mc_slice){"key", 3},
                                flags, size);
}

static void a_value_line_known_at_one_look_is_exact_and_never_read_past(void)
{
    static const uint32_t sizes[] = {0, 9, 10, 99, 100, 999, 1000, 99999, 100000, 999999};
    static const char body[] = "0123456789";
    char text[128];
    uint32_t flags, size;

    for (uint32_t wanted = 0; wanted < 100; wanted++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int line = snprintf(text, sizeof text, "VALUE key %u %u\r\n", wanted, sizes[i]);
            size_t length = (size_t)line + (size_t)snprintf(text + line, 32, "%s", body);

            CHECK_NUMBER(match_line(text, length, &flags, &size), line);
            CHECK(flags == wanted && size == sizes[i]);
            for (size_t cut = 0; cut < length; cut++) { /* too little is never a line of its own */
                size_t matched = match_line(text, cut, &flags, &size);

                CHECK(matched == 0 || (matched == (size_t)line && size == sizes[i]));
            }
            /* Any other byte in the place of one of its own is another line or none. */
            for (size_t at = 0; at < (size_t)line; at++) {
                char own = text[at];
                bool number = own >= '0' && own <= '9';

                text[at] = number ? ':' : own == ' ' ? '/' : (char)(own + 1);
                CHECK_NUMBER(match_line(text, length, &flags, &size), 0);
                text[at] = own;
            }
        }
    }
    /* The longest of them may be all that there is; what is longer is for mc_reply_parse. */
    CHECK_NUMBER(match_line("VALUE key 99 999999\r\n", 21, &flags, &size), 21);
    CHECK_NUMBER(match_line("VALUE key 100 5\r\nhello\r\n", 24, &flags, &size), 0);
    CHECK_NUMBER(match_line("VALUE key 0 1234567\r\nhello\r\n", 28, &flags, &size), 0);
}

int main(void)
{
    guard = check_guard_new(2 * MC_LINE_MAX);
    PROMISE(every_reply_has_its_type);
    PROMISE(a_row_of_a_listing_is_a_name_and_the_rest);
    PROMISE(a_value_line_is_taken_apart);
    PROMISE(a_value_line_with_anything_else_is_malformed);
    PROMISE(words_are_taken_whole_and_in_capitals);
    PROMISE(numbers_are_exact_and_strict);
    PROMISE(a_line_ends_with_cr_lf_only);
    PROMISE(every_cut_asks_for_more_and_touches_nothing);
    PROMISE(what_stands_behind_the_line_is_left_alone);
    PROMISE(a_line_is_at_most_line_max_bytes);
    PROMISE(any_byte_may_follow_an_error_word);
    PROMISE(a_whole_get_reply_is_taken_in_one_look);
    PROMISE(a_value_line_known_at_one_look_is_exact_and_never_read_past);
    check_guard_free(guard);
    return check_result();
}
