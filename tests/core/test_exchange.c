/* The promises of mcext/core/exchange.h: each stream is told in one piece, cut at every byte, and
 * byte by byte, with bodies taken from the buffer and into room, and must tell the same story. */
#define _GNU_SOURCE
#include "../../mcext/core/exchange.h"

#include "check.h"

#define MOST 64 /* keys and pieces of a story that a test has */

typedef struct {
    mc_command command;
    size_t replies;
    bool marker;
    uint64_t max_length;
} request;

static mc_slice keys[2 * MC_KEYS_PER_GET + 2];
static char names[sizeof keys / sizeof *keys][8];

static void name_keys(void)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(names[i], sizeof names[i], "k%zu", i);
        keys[i] = (mc_slice){names[i], strlen(names[i])};
    }
}

/* The story of an exchange as text: "v0=body " for a value that came whole, "r0:line " for a
 * reply line, then "done", "broken" or "again"; "!" behind it where the stream is not clean. */
typedef struct {
    char text[1024];
    size_t length;
    bool clean;
    bool started;
} story;

static void tell(story *told, const char *form, size_t number, const char *bytes, size_t length)
{
    told->length += (size_t)snprintf(told->text + told->length, sizeof told->text - told->length,
                                     form, number, (int)length, bytes);
    if (told->length >= sizeof told->text) {
        abort();
    }
}

static bool plain; /* take what can be taken without an event: the story must be the same */

static void pull_plain(mc_exchange *exchange, story *told)
{
    mc_value_run run;
    mc_slice body;
    uint32_t flags;
    size_t at;

    mc_exchange_begin_run(exchange, &run);
    while (mc_value_run_next(&run, &flags, &body)) {
        size_t index = (size_t)(run.key - exchange->keys) - 1;

        tell(told, "v%zu=%.*s ", index, body.bytes, body.length);
        if (index % 2 == 0) { /* a run may end anywhere */
            mc_exchange_end_run(exchange, &run);
            CHECK_NUMBER(exchange->index, index);
            mc_exchange_begin_run(exchange, &run);
        }
    }
    mc_exchange_end_run(exchange, &run);
    for (size_t count = mc_exchange_take_stored(exchange, &at); count > 0; count--, at++) {
        tell(told, "r%zu:%.*s ", at, "STORED", 6);
    }
}

/* Takes events until the exchange asks for more or ends; true where it ended. */
static bool pull(mc_exchange *exchange, story *told, char *room)
{
    for (;;) {
        if (plain) {
            pull_plain(exchange, told);
        }

        size_t held = mc_buffer_length(exchange->in);
        mc_event event = mc_exchange_next(exchange);

        CHECK(mc_buffer_length(exchange->in) <= held);
        CHECK(exchange->consume <= mc_buffer_length(exchange->in));
        switch (event) {
        case MC_EVENT_AGAIN:
            return false;
        case MC_EVENT_VALUE:
            if (exchange->body != NULL) {
                tell(told, "v%zu=%.*s ", exchange->index, exchange->body,
                     (size_t)exchange->reply.length);
            }
            else {
                mc_exchange_give_room(exchange, room);
            }
            break;
        case MC_EVENT_FILLED:
            tell(told, "v%zu=%.*s ", exchange->index, room, (size_t)(exchange->room - room));
            break;
        case MC_EVENT_REPLY:
            tell(told, "r%zu:%.*s ", exchange->index, exchange->reply.line.bytes,
                 exchange->reply.line.length);
            break;
        case MC_EVENT_DONE:
            tell(told, "done", 0, "", 0);
            return true;
        case MC_EVENT_BROKEN:
            tell(told, "broken", 0, "", 0);
            return true;
        }
    }
}

/* Feeds text in pieces of `first` bytes, then `then` bytes each; straight past the buffer into
 * room where the exchange waits for a body, as a transport does. */
static void feed(request asked, const char *text, size_t length, size_t first, size_t then,
                 story *told)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    char room[256];
    bool ended;
    size_t piece = first;

    *told = (story){0};
    mc_exchange_init(&exchange, &in, asked.command, keys, asked.replies, asked.marker);
    exchange.max_length = asked.max_length ? asked.max_length : sizeof room;
    ended = pull(&exchange, told, room);
    for (size_t at = 0; !ended && at < length;) {
        size_t size = piece < length - at ? piece : length - at;

        if (exchange.state == 'B' && exchange.missing != 0) {
            size = size < exchange.missing ? size : exchange.missing;
            memcpy(exchange.room, text + at, size);
            mc_exchange_put(&exchange, size);
        }
        else {
            CHECK(mc_buffer_append(&in, text + at, size));
        }
        at += size;
        piece = then;
        ended = pull(&exchange, told, room);
        if (ended && at < length) {
            CHECK(mc_buffer_append(&in, text + at, length - at));
            at = length;
        }
    }
    if (!ended) {
        tell(told, "again", 0, "", 0);
    }
    told->clean = mc_exchange_is_clean(&exchange);
    told->started = exchange.started;
    if (!told->clean) {
        tell(told, "!", 0, "", 0);
    }
    /* The end is the end. */
    if (ended) {
        mc_event last = exchange.state == 'D' ? MC_EVENT_DONE : MC_EVENT_BROKEN;

        CHECK(mc_exchange_next(&exchange) == last);
        CHECK(mc_exchange_next(&exchange) == last);
    }
    mc_buffer_fini(&in);
}

static void tells_in_one_way(request asked, const char *text, const char *wanted)
{
    size_t length = strlen(text);
    story told;

    feed(asked, text, length, length + 1, 1, &told);
    if (strcmp(told.text, wanted) != 0) {
        fprintf(stderr, "of %s\n", text);
    }
    CHECK_BYTES(told.text, told.length, wanted);
    for (size_t cut = 1; cut < length; cut++) {
        feed(asked, text, length, cut, length, &told);
        CHECK_BYTES(told.text, told.length, wanted);
        feed(asked, text, length, cut, 1, &told);
        CHECK_BYTES(told.text, told.length, wanted);
    }
}

static void tells(request asked, const char *text, const char *wanted)
{
    plain = false;
    tells_in_one_way(asked, text, wanted);
    plain = true;
    tells_in_one_way(asked, text, wanted);
    plain = false;
}

#define GET(count) ((request){.command = MC_GET, .replies = count})
#define GETS(count) ((request){.command = MC_GETS, .replies = count})
#define ASK(what) ((request){.command = what, .replies = 1})
#define MANY(what, count) ((request){.command = what, .replies = count})

static void a_get_answers_or_misses(void)
{
    tells(GET(1), "VALUE k0 0 5\r\nhello\r\nEND\r\n", "v0=hello done");
    tells(GET(1), "VALUE k0 0 0\r\n\r\nEND\r\n", "v0= done");
    tells(GET(1), "END\r\n", "done");
    tells(GET(1), "VALUE k0 0 5\r\nEND\r\n\r\nEND\r\n", "v0=END\r\n done");
    tells(GETS(1), "VALUE k0 0 1 7\r\nx\r\nEND\r\n", "v0=x done");
}

static void a_get_takes_only_what_a_get_can_be_answered(void)
{
    tells(GET(1), "VALUE k1 0 1\r\nx\r\nEND\r\n", "broken!");   /* another key */
    tells(GET(1), "VALUE k 0 1\r\nx\r\nEND\r\n", "broken!");    /* a shorter one */
    tells(GET(1), "VALUE k00 0 1\r\nx\r\nEND\r\n", "broken!");  /* a longer one */
    tells(GET(1), "VALUE K0 0 1\r\nx\r\nEND\r\n", "broken!");   /* in capitals */
    tells(GET(1), "VALUE k0 0 1 7\r\nx\r\nEND\r\n", "broken!"); /* a cas nobody asked for */
    tells(GETS(1), "VALUE k0 0 1\r\nx\r\nEND\r\n", "broken!");  /* none where asked for */
    tells(GET(1), "VALUE k0 0 1\r\nx\r\nVALUE k0 0 1\r\ny\r\nEND\r\n", "v0=x broken!");
    tells(GET(1), "VALUE k0 0 1\r\nx\r\nSTORED\r\n", "v0=x broken!");
    tells(GET(1), "STORED\r\n", "broken!");
    tells(GET(1), "NOT_FOUND\r\n", "broken!");
    tells(GET(1), "12\r\n", "broken!");
    tells(GET(1), "OK\r\n", "broken!");
    tells(GET(1), "VERSION 1\r\n", "broken!");
    tells(GET(1), "STAT a b\r\n", "broken!");
    tells(GET(1), "\r\n", "broken!");
    tells(GET(1), "EN\r\nD\r\n", "broken!");
    tells(GET(1), "END\n", "broken!");
}

static void a_body_must_end_where_it_said(void)
{
    tells(GET(1), "VALUE k0 0 5\r\nhello!\r\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 5\r\nhell\r\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 5\r\nhello\n\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 5\r\nhello\r\rEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 0\r\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 -1\r\n\r\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 18446744073709551615\r\nx\r\nEND\r\n", "broken!");
    tells(GET(1), "VALUE k0 0 18446744073709551614\r\nx\r\nEND\r\n", "broken!");
}

static void a_value_longer_than_the_limit_breaks(void)
{
    request asked = GET(1);

    asked.max_length = 4;
    tells(asked, "VALUE k0 0 4\r\nxxxx\r\nEND\r\n", "v0=xxxx done");
    tells(asked, "VALUE k0 0 5\r\nxxxxx\r\nEND\r\n", "broken!");
    tells(asked, "VALUE k0 0 4294967296\r\n", "broken!");
}

static void values_of_many_keys_come_in_order_each_once(void)
{
    tells(GET(3), "VALUE k0 0 1\r\na\r\nVALUE k1 0 1\r\nb\r\nVALUE k2 0 1\r\nc\r\nEND\r\n",
          "v0=a v1=b v2=c done");
    tells(GET(3), "VALUE k2 0 1\r\nc\r\nEND\r\n", "v2=c done");
    tells(GET(3), "END\r\n", "done");
    tells(GET(3), "VALUE k2 0 1\r\nc\r\nVALUE k1 0 1\r\nb\r\nEND\r\n", "v2=c broken!");
    tells(GET(3), "VALUE k1 0 1\r\nb\r\nVALUE k1 0 1\r\nb\r\nEND\r\n", "v1=b broken!");
    tells(GET(3), "VALUE k9 0 1\r\nb\r\nEND\r\n", "broken!");
}

static void a_key_asked_for_twice_may_come_twice(void)
{
    mc_slice saved = keys[1];

    keys[1] = keys[0];
    tells(GET(2), "VALUE k0 0 1\r\na\r\nVALUE k0 0 1\r\na\r\nEND\r\n", "v0=a v1=a done");
    tells(GET(2), "VALUE k0 0 1\r\na\r\nVALUE k0 0 1\r\na\r\nVALUE k0 0 1\r\na\r\nEND\r\n",
          "v0=a v1=a broken!");
    keys[1] = saved;
}

static void each_get_line_has_its_own_end(void)
{
    request asked = GET(2 * MC_KEYS_PER_GET + 1);

    tells(asked, "END\r\nEND\r\nEND\r\n", "done");
    tells(asked, "END\r\nEND\r\n", "again!");
    tells(asked, "VALUE k999 0 1\r\na\r\nEND\r\nVALUE k1000 0 1\r\nb\r\nEND\r\nEND\r\n",
          "v999=a v1000=b done");
    tells(asked, "VALUE k1000 0 1\r\nb\r\nEND\r\nEND\r\nEND\r\n", "broken!"); /* too early */
    tells(asked, "END\r\nVALUE k999 0 1\r\nb\r\nEND\r\nEND\r\n", "broken!");  /* too late */
    tells(asked, "END\r\nEND\r\nVALUE k2000 0 1\r\nb\r\nEND\r\n", "v2000=b done");
    tells(GET(MC_KEYS_PER_GET), "END\r\n", "done");
    tells(GET(MC_KEYS_PER_GET), "VALUE k999 0 1\r\nb\r\nEND\r\n", "v999=b done");
    tells(GET(MC_KEYS_PER_GET + 1), "END\r\nEND\r\n", "done");
}

static void an_error_line_ends_its_get_and_the_trust(void)
{
    tells(GET(1), "SERVER_ERROR busy\r\n", "r1:SERVER_ERROR busy done!");
    tells(GET(1), "ERROR\r\n", "r1:ERROR done!");
    tells(GET(2), "VALUE k0 0 1\r\na\r\nSERVER_ERROR out of memory writing get response\r\n",
          "v0=a r2:SERVER_ERROR out of memory writing get response done!");
    tells(GET(MC_KEYS_PER_GET + 1), "CLIENT_ERROR line too long\r\nVALUE k1000 0 1\r\na\r\nEND\r\n",
          "r1000:CLIENT_ERROR line too long v1000=a done!");
}

static const struct {
    const char *line;
    char letter;
} lines[] = {{"END", 'e'},
             {"STORED", 's'},
             {"NOT_STORED", 'n'},
             {"EXISTS", 'x'},
             {"NOT_FOUND", 'f'},
             {"DELETED", 'd'},
             {"TOUCHED", 't'},
             {"OK", 'o'},
             {"RESET", 'r'},
             {"VERSION 1", 'v'},
             {"STAT a b", 'a'},
             {"VALUE k0 0 0", 'V'},
             {"12345", '1'},
             {"-1", '-'},
             {"1 ", '-'},
             {"", '-'},
             {"stored", '-'},
             {"STORED ", '-'},
             {"HELLO", '-'},
             {"ERROR", '!'},
             {"ERROR text", '!'},
             {"CLIENT_ERROR c", '!'},
             {"SERVER_ERROR s", '!'}};

static void each_line_command_takes_its_own_answers_only(void)
{
    static const struct {
        mc_command command;
        const char *taken;
    } table[] = {{MC_SET, "sn"},     {MC_ADD, "sn"},   {MC_REPLACE, "sn"},  {MC_APPEND, "sn"},
                 {MC_PREPEND, "sn"}, {MC_CAS, "snxf"}, {MC_DELETE, "df"},   {MC_TOUCH, "tf"},
                 {MC_INCR, "1f"},    {MC_DECR, "1f"},  {MC_FLUSH_ALL, "o"}, {MC_VERSION, "v"}};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (size_t j = 0; j < sizeof lines / sizeof *lines; j++) {
            char text[64], wanted[64];
            bool error = lines[j].letter == '!';

            snprintf(text, sizeof text, "%s\r\n", lines[j].line);
            if (error || strchr(table[i].taken, lines[j].letter)) {
                snprintf(wanted, sizeof wanted, "r0:%s done%s", lines[j].line, error ? "!" : "");
            }
            else {
                snprintf(wanted, sizeof wanted, "broken!");
            }
            tells(ASK(table[i].command), text, wanted);
        }
    }
}

static void a_number_reply_is_exact(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    CHECK(mc_buffer_append(&in, "18446744073709551615\r\n", 22));
    mc_exchange_init(&exchange, &in, MC_INCR, NULL, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_REPLY);
    CHECK_NUMBER(exchange.reply.number, UINT64_MAX);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && mc_exchange_is_clean(&exchange));
    mc_buffer_fini(&in);
    tells(ASK(MC_INCR), "18446744073709551616\r\n", "broken!");
    tells(ASK(MC_DECR), "99 \r\n", "broken!");
}

static void answers_to_many_commands_are_counted(void)
{
    tells(MANY(MC_SET, 3), "STORED\r\nNOT_STORED\r\nSTORED\r\n",
          "r0:STORED r1:NOT_STORED r2:STORED done");
    tells(MANY(MC_SET, 2), "STORED\r\n", "r0:STORED again!");
    tells(MANY(MC_SET, 2), "STORED\r\nDELETED\r\n", "r0:STORED broken!");
    tells(MANY(MC_DELETE, 2), "DELETED\r\nCLIENT_ERROR x\r\n",
          "r0:DELETED r1:CLIENT_ERROR x done!");
    tells(MANY(MC_DELETE, 2), "CLIENT_ERROR x\r\nDELETED\r\n",
          "r0:CLIENT_ERROR x r1:DELETED done!");
}

static void a_swallowed_block_keeps_the_stream(void)
{
    tells(MANY(MC_SET, 2), "SERVER_ERROR object too large for cache\r\nSTORED\r\n",
          "r0:SERVER_ERROR object too large for cache r1:STORED done");
    tells(ASK(MC_SET), "SERVER_ERROR out of memory storing object\r\n",
          "r0:SERVER_ERROR out of memory storing object done");
    tells(MANY(MC_SET, 2), "SERVER_ERROR object too large\r\nSTORED\r\n",
          "r0:SERVER_ERROR object too large broken!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR OBJECT TOO LARGE FOR CACHE\r\nSTORED\r\n",
          "r0:SERVER_ERROR OBJECT TOO LARGE FOR CACHE broken!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR out of memory STORING object\r\nSTORED\r\n",
          "r0:SERVER_ERROR out of memory STORING object broken!");
    tells(MANY(MC_SET, 2), "CLIENT_ERROR object too large for cache\r\nSTORED\r\n",
          "r0:CLIENT_ERROR object too large for cache broken!");
    tells(ASK(MC_SET), "CLIENT_ERROR bad data chunk\r\n", "r0:CLIENT_ERROR bad data chunk done!");
}

static mc_event grow(mc_exchange *exchange, mc_buffer *in, mc_command command, const char *answer)
{
    mc_buffer_clear(in);
    mc_exchange_init(exchange, in, command, NULL, 1, false);
    CHECK(mc_buffer_append(in, answer, strlen(answer)));
    CHECK(mc_exchange_next(exchange) == MC_EVENT_REPLY);
    CHECK(mc_exchange_next(exchange) == MC_EVENT_DONE);
    mc_exchange_expect(exchange, 0);
    CHECK(mc_exchange_next(exchange) == MC_EVENT_DONE);
    mc_exchange_expect(exchange, 1);
    CHECK(mc_buffer_append(in, "STORED\r\n", 8));
    return mc_exchange_next(exchange);
}

static void commands_sent_later_are_answered_unless_the_stream_is_lost(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    CHECK(grow(&exchange, &in, MC_SET, "STORED\r\n") == MC_EVENT_REPLY);
    CHECK_NUMBER(exchange.index, 1);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && mc_exchange_is_clean(&exchange));
    CHECK(grow(&exchange, &in, MC_SET, "SERVER_ERROR object too large for cache\r\n") ==
          MC_EVENT_REPLY);
    /* The data block may stand on the stream as commands: STORED may be the answer to one. */
    CHECK(grow(&exchange, &in, MC_SET, "CLIENT_ERROR bad data chunk\r\n") == MC_EVENT_BROKEN);
    mc_exchange_init(&exchange, &in, MC_SET, NULL, 1, false);
    mc_exchange_expect(&exchange, 2);
    CHECK_NUMBER(exchange.replies, 3);
    CHECK(exchange.state == 'L');
    mc_buffer_fini(&in);
}

static void a_listing_ends_with_end_reset_or_ok(void)
{
    tells(ASK(MC_STATS), "STAT a 1\r\nSTAT b 2\r\nEND\r\n", "r0:STAT a 1 r1:STAT b 2 done");
    tells(ASK(MC_STATS), "ITEM a [1 b; 0 s]\r\nEND\r\n", "r0:ITEM a [1 b; 0 s] done");
    tells(ASK(MC_STATS), "PREFIX a get 1\r\nEND\r\n", "r0:PREFIX a get 1 done");
    tells(ASK(MC_STATS), "END\r\n", "done");
    tells(ASK(MC_STATS), "RESET\r\n", "done");
    tells(ASK(MC_STATS), "OK\r\n", "done");
    tells(ASK(MC_STATS), "STAT a 1\r\nRESET\r\n", "r0:STAT a 1 broken!");
    tells(ASK(MC_STATS), "STAT a 1\r\nOK\r\n", "r0:STAT a 1 broken!");
    tells(ASK(MC_STATS), "STAT a 1\r\nSERVER_ERROR x\r\n", "r0:STAT a 1 r1:SERVER_ERROR x done!");
    tells(ASK(MC_STATS), "ERROR\r\n", "r0:ERROR done!");
    tells(ASK(MC_STATS), "STORED\r\n", "broken!");
    tells(ASK(MC_STATS), "STAT a 1\r\nVALUE k0 0 1\r\n", "r0:STAT a 1 broken!");
    tells(ASK(MC_STATS), "STAT a 1\r\n1\r\n", "r0:STAT a 1 broken!");
}

static void bytes_behind_the_reply_are_not_clean(void)
{
    tells(GET(1), "END\r\nE", "done!");
    tells(GET(1), "END\r\nEND\r\n", "done!");
    tells(GET(1), "VALUE k0 0 1\r\nx\r\nEND\r\nVALUE", "v0=x done!");
    tells(ASK(MC_SET), "STORED\r\nSTORED\r\n", "r0:STORED done!");
    tells(ASK(MC_STATS), "END\r\n\r\n", "done!");
    tells(ASK(MC_INCR), "1\r\n2\r\n", "r0:1 done!");
}

static void what_stands_before_the_marker_is_dropped(void)
{
    request asked = GET(1);

    asked.marker = true;
    tells(asked, "VERSION 1.6.18\r\nVALUE k0 0 1\r\nx\r\nEND\r\n", "v0=x done");
    tells(asked, "SERVER_ERROR x\r\nVERSION 1\r\nEND\r\n", "done");
    tells(asked, "NOT_STORED\r\nCLIENT_ERROR y\r\n12\r\n\r\nVERSION 1\r\nEND\r\n", "done");
    tells(asked, "END\r\n", "again!");
    tells(asked, "VALUE k0 0 1\r\nx\r\nEND\r\nVERSION 1\r\n", "broken!");
    tells(asked, "VERSION 1\r\nVERSION 1\r\nEND\r\n", "broken!");
    tells(asked, "VERSION 1\r\nEND\r\nEND\r\n", "done!");
    asked = ASK(MC_INCR);
    asked.marker = true;
    tells(asked, "VERSION 1\r\n5\r\n", "r0:5 done");
    tells(ASK(MC_INCR), "ERROR\r\n", "r0:ERROR done!");
    tells(ASK(MC_DELETE),
          "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
          "r0:CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply] done");
    tells(ASK(MC_INCR), "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
          "r0:CLIENT_ERROR cannot increment or decrement non-numeric value done");
    /* The error may belong to what went before: then the number is still to come. */
    tells(asked, "VERSION 1\r\nERROR\r\n", "r0:ERROR done!");
    asked = MANY(MC_DELETE, 2);
    asked.marker = true;
    tells(asked, "VERSION 1\r\nERROR\r\nDELETED\r\n", "r0:ERROR broken!");
    asked = (request){.command = MC_VERSION, .replies = 0, .marker = true};
    tells(asked, "VERSION 1\r\n", "done");
    tells(asked, "ERROR\r\nVERSION 1\r\n", "done");
    tells(asked, "VERSION 1\r\nERROR\r\n", "done!");
}

static void endless_rubbish_before_the_marker_breaks(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    char line[1024];
    mc_event event = MC_EVENT_AGAIN;
    size_t sent = 0;

    memset(line, 'x', sizeof line);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, true);
    while (event == MC_EVENT_AGAIN && sent < (size_t)64 << 20) {
        CHECK(mc_buffer_append(&in, line, sizeof line));
        sent += sizeof line;
        event = mc_exchange_next(&exchange);
    }
    CHECK(event == MC_EVENT_BROKEN);
    CHECK(sent <= (size_t)17 << 20);
    mc_buffer_fini(&in);
}

static void an_endless_listing_breaks(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    char row[1024];
    mc_event event = MC_EVENT_REPLY;
    size_t sent = 0;

    memset(row, 'x', sizeof row);
    memcpy(row, "STAT ", 5);
    memcpy(row + sizeof row - 2, "\r\n", 2);
    mc_exchange_init(&exchange, &in, MC_STATS, NULL, 1, false);
    while (event == MC_EVENT_REPLY && sent < (size_t)128 << 20) {
        CHECK(mc_buffer_append(&in, row, sizeof row));
        sent += sizeof row;
        event = mc_exchange_next(&exchange);
    }
    CHECK(event == MC_EVENT_BROKEN);
    CHECK(sent <= (size_t)65 << 20);
    mc_buffer_fini(&in);
}

static void many_short_rows_break_a_listing(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    mc_event event = MC_EVENT_REPLY;
    size_t rows = 0;

    mc_exchange_init(&exchange, &in, MC_STATS, NULL, 1, false);
    while (event == MC_EVENT_REPLY && rows < 1000000) {
        CHECK(mc_buffer_append(&in, "STAT a 1\r\n", 10));
        rows++;
        event = mc_exchange_next(&exchange);
    }
    CHECK(event == MC_EVENT_BROKEN);
    CHECK(rows > 200000 && rows < 300000);
    mc_buffer_fini(&in);
}

static void started_means_a_byte_of_the_reply_has_come(void)
{
    story told;
    request asked = GET(1);

    feed(asked, "", 0, 1, 1, &told);
    CHECK(!told.started);
    feed(asked, "E", 1, 1, 1, &told);
    CHECK(told.started);
    asked.marker = true;
    feed(asked, "ERROR\r\nVERSION 1\r\n", 18, 100, 1, &told);
    CHECK(!told.started);
    feed(asked, "VERSION 1\r\nE", 12, 100, 1, &told);
    CHECK(told.started);
    feed(asked, "VERSION 1\r\nE", 12, 1, 1, &told);
    CHECK(told.started);
}

static void nothing_asked_is_done_at_once(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    mc_exchange_init(&exchange, &in, MC_SET, NULL, 0, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE);
    CHECK(mc_exchange_is_clean(&exchange));
}

static void a_body_may_be_taken_off_by_somebody_else(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    /* The header alone has come: the host's own recv takes "hello\r\n" off the stream. */
    CHECK(mc_buffer_append(&in, "VALUE k0 0 5\r\n", 14));
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE && exchange.body == NULL);
    mc_exchange_skip_body(&exchange);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_AGAIN);
    CHECK(mc_buffer_append(&in, "END\r\n", 5));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE);
    CHECK(mc_exchange_is_clean(&exchange));
    mc_buffer_fini(&in);
}

static void a_body_in_the_buffer_may_be_taken_off_it(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    CHECK(mc_buffer_append(&in, "VALUE k0 0 5\r\nhello\r\nEND\r\n", 26));
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE && exchange.body != NULL);
    mc_exchange_skip_body(&exchange);
    CHECK_BYTES(mc_buffer_bytes(&in), mc_buffer_length(&in), "hello\r\nEND\r\n");
    mc_buffer_consume(&in, 7);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE);
    CHECK(mc_exchange_is_clean(&exchange) && mc_exchange_is_done(&exchange));
    mc_buffer_fini(&in);
}

static void the_last_reply_is_off_the_buffer_where_nothing_stands_behind_it(void)
{
    for (int more = 0; more < 2; more++) {
        mc_buffer in = {0};
        mc_exchange exchange;

        CHECK(mc_buffer_append(&in, "END\r\nx", (size_t)(5 + more)));
        mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
        CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE);
        CHECK(mc_exchange_end(&exchange) == (more == 0));
        CHECK_NUMBER(mc_buffer_length(&in), more == 0 ? 0 : 6);
        mc_buffer_fini(&in);
    }
}

static void it_says_whether_a_body_is_still_to_come(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    char room[5];

    CHECK(mc_buffer_append(&in, "VALUE k0 0 5\r\n", 14));
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
    CHECK(!mc_exchange_is_in_body(&exchange));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE);
    mc_exchange_give_room(&exchange, room);
    CHECK(mc_exchange_is_in_body(&exchange));
    memcpy(exchange.room, "hello", 5);
    mc_exchange_put(&exchange, 5);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_AGAIN && mc_exchange_is_in_body(&exchange));
    CHECK(mc_buffer_append(&in, "\r\n", 2));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_FILLED && !mc_exchange_is_in_body(&exchange));
    mc_buffer_fini(&in);
}

static void a_large_body_goes_past_the_buffer(void)
{
    size_t size = 1000000;
    char *room = malloc(size);
    mc_buffer in = {0};
    mc_exchange exchange;

    CHECK(mc_buffer_append(&in, "VALUE k0 0 1000000\r\nabc", 23));
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE && exchange.body == NULL);
    CHECK_NUMBER(exchange.reply.length, size);
    mc_exchange_give_room(&exchange, room);
    CHECK_NUMBER(exchange.missing, size - 3);
    CHECK(memcmp(room, "abc", 3) == 0 && exchange.room == room + 3);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_AGAIN);
    memset(exchange.room, 'y', size - 3);
    mc_exchange_put(&exchange, size - 3);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_AGAIN);
    CHECK(mc_buffer_append(&in, "\r\nEND\r\n", 7));
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_FILLED);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && mc_exchange_is_clean(&exchange));
    CHECK(in.capacity < 4096);
    mc_buffer_fini(&in);
    free(room);
}

int main(void)
{
    name_keys();
    PROMISE(a_get_answers_or_misses);
    PROMISE(a_get_takes_only_what_a_get_can_be_answered);
    PROMISE(a_body_must_end_where_it_said);
    PROMISE(a_value_longer_than_the_limit_breaks);
    PROMISE(values_of_many_keys_come_in_order_each_once);
    PROMISE(a_key_asked_for_twice_may_come_twice);
    PROMISE(each_get_line_has_its_own_end);
    PROMISE(an_error_line_ends_its_get_and_the_trust);
    PROMISE(each_line_command_takes_its_own_answers_only);
    PROMISE(a_number_reply_is_exact);
    PROMISE(answers_to_many_commands_are_counted);
    PROMISE(a_swallowed_block_keeps_the_stream);
    PROMISE(commands_sent_later_are_answered_unless_the_stream_is_lost);
    PROMISE(a_listing_ends_with_end_reset_or_ok);
    PROMISE(bytes_behind_the_reply_are_not_clean);
    PROMISE(what_stands_before_the_marker_is_dropped);
    PROMISE(endless_rubbish_before_the_marker_breaks);
    PROMISE(an_endless_listing_breaks);
    PROMISE(many_short_rows_break_a_listing);
    PROMISE(started_means_a_byte_of_the_reply_has_come);
    PROMISE(nothing_asked_is_done_at_once);
    PROMISE(a_body_may_be_taken_off_by_somebody_else);
    PROMISE(a_body_in_the_buffer_may_be_taken_off_it);
    PROMISE(the_last_reply_is_off_the_buffer_where_nothing_stands_behind_it);
    PROMISE(it_says_whether_a_body_is_still_to_come);
    PROMISE(a_large_body_goes_past_the_buffer);
    return check_result();
}
