/* The promises of mcext/core/wire/exchange.h, but for what is about get and gets alone:
 * test_retrieval.c. */
#define _GNU_SOURCE
#include "story.h"

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
    tells(MANY(MC_SET, 2), "STORED\r\nSTORED\r\nSTORED\r\n", "r0:STORED r1:STORED done!");
    tells(MANY(MC_SET, 2), "STORED\r\nDELETED\r\n", "r0:STORED broken!");
    tells(MANY(MC_DELETE, 2), "DELETED\r\nCLIENT_ERROR x\r\n",
          "r0:DELETED r1:CLIENT_ERROR x done!");
    tells(MANY(MC_DELETE, 2), "CLIENT_ERROR x\r\nDELETED\r\n",
          "r0:CLIENT_ERROR x r1:DELETED done!");
}

static void stored_is_counted_in_one_look(void)
{
    for (size_t come = 0; come <= 4; come++) {
        mc_buffer in = {0};
        mc_exchange exchange;
        size_t first = 7;

        mc_exchange_init(&exchange, &in, MC_SET, NULL, 3, false);
        for (size_t i = 0; i < come; i++) {
            CHECK(mc_buffer_append(&in, "STORED\r\n", 8));
        }
        CHECK_NUMBER(mc_exchange_take_stored(&exchange, &first), come < 3 ? come : 3);
        CHECK(first == 0 && exchange.started == (come > 0));
        CHECK(mc_exchange_is_done(&exchange) == (come >= 3));
        CHECK(mc_exchange_take_stored(&exchange, &first) == 0);
        CHECK(first == (come < 3 ? come : 3));
        CHECK(mc_exchange_is_clean(&exchange) == (come == 3));
        mc_buffer_fini(&in);
    }
}

/* A line that was told as an event lies in the buffer until the next one. */
static void what_was_told_is_not_taken_again_in_one_look(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    mc_slice twice[] = {keys[0], keys[0]}, body;
    mc_value_run run;
    uint32_t flags;
    size_t first;

    CHECK(mc_buffer_append(&in, "STORED\r\nSTORED\r\nNOT_STORED\r\n", 28));
    mc_exchange_init(&exchange, &in, MC_SET, NULL, 3, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_REPLY && exchange.index == 0);
    CHECK(mc_exchange_take_stored(&exchange, &first) == 1 && first == 1);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_REPLY && exchange.index == 2);
    CHECK(exchange.reply.type == MC_REPLY_NOT_STORED);
    mc_buffer_clear(&in);
    CHECK(mc_buffer_append(&in, "VALUE k0 0 1\r\na\r\nVALUE k0 0 1\r\nb\r\nEND\r\n", 39));
    mc_exchange_init(&exchange, &in, MC_GET, twice, 2, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_VALUE && exchange.body[0] == 'a');
    mc_exchange_begin_run(&exchange, &run);
    CHECK(mc_value_run_next(&run, &flags, &body));
    CHECK_BYTES(body.bytes, body.length, "b");
    CHECK(!mc_value_run_next(&run, &flags, &body));
    mc_exchange_end_run(&exchange, &run);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && mc_exchange_is_clean(&exchange));
    mc_exchange_fini(&exchange);
    mc_buffer_fini(&in);
}

static void the_line_that_is_no_answer_is_told_once(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    CHECK(mc_buffer_append(&in, "HELLO\r\n", 7));
    mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_BROKEN);
    CHECK_BYTES(exchange.reply.line.bytes, exchange.reply.line.length, "HELLO");
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_BROKEN); /* the buffer may have moved */
    CHECK(exchange.reply.line.bytes == NULL && exchange.reply.line.length == 0);
    mc_buffer_clear(&in);
    CHECK(mc_buffer_append(&in, "STORED\nx", 8));
    mc_exchange_init(&exchange, &in, MC_SET, NULL, 1, false);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_BROKEN); /* it is no line */
    CHECK(exchange.reply.line.bytes == NULL && exchange.reply.line.length == 0);
    mc_buffer_fini(&in);
}

static void a_swallowed_block_keeps_the_stream(void)
{
    tells(MANY(MC_SET, 2), "SERVER_ERROR object too large for cache\r\nSTORED\r\n",
          "r0:SERVER_ERROR object too large for cache r1:STORED done");
    tells(ASK(MC_SET), "SERVER_ERROR out of memory storing object\r\n",
          "r0:SERVER_ERROR out of memory storing object done");
    tells(MANY(MC_SET, 2), "CLIENT_ERROR object too large for cache\r\nSTORED\r\n",
          "r0:CLIENT_ERROR object too large for cache broken!");
    tells(ASK(MC_SET), "CLIENT_ERROR bad data chunk\r\n", "r0:CLIENT_ERROR bad data chunk done!");
}

static void a_server_error_is_the_answer_to_one_storage_command(void)
{
    tells(MANY(MC_SET, 3), "STORED\r\nSERVER_ERROR backend failure\r\nSTORED\r\n",
          "r0:STORED r1:SERVER_ERROR backend failure r2:STORED done!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR Connection refused\r\nNOT_STORED\r\n",
          "r0:SERVER_ERROR Connection refused r1:NOT_STORED done!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR object too large\r\nSTORED\r\n",
          "r0:SERVER_ERROR object too large r1:STORED done!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR x\r\nSERVER_ERROR y\r\n",
          "r0:SERVER_ERROR x r1:SERVER_ERROR y done!");
    tells(MANY(MC_SET, 3), "SERVER_ERROR x\r\nERROR\r\nSTORED\r\n",
          "r0:SERVER_ERROR x r1:ERROR broken!");
    tells(MANY(MC_SET, 2), "SERVER_ERROR x\r\nHELLO\r\n", "r0:SERVER_ERROR x broken!");
    request asked = MANY(MC_SET, 2); /* behind a marker it may be about what went before that */
    asked.marker = true;
    tells(asked, "VERSION 1\r\nSERVER_ERROR x\r\nSTORED\r\n", "r0:SERVER_ERROR x broken!");
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
    CHECK(grow(&exchange, &in, MC_SET, "SERVER_ERROR backend failure\r\n") == MC_EVENT_REPLY);
    CHECK(mc_exchange_next(&exchange) == MC_EVENT_DONE && !mc_exchange_is_clean(&exchange));
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
    PROMISE(each_line_command_takes_its_own_answers_only);
    PROMISE(a_number_reply_is_exact);
    PROMISE(answers_to_many_commands_are_counted);
    PROMISE(stored_is_counted_in_one_look);
    PROMISE(what_was_told_is_not_taken_again_in_one_look);
    PROMISE(the_line_that_is_no_answer_is_told_once);
    PROMISE(a_swallowed_block_keeps_the_stream);
    PROMISE(a_server_error_is_the_answer_to_one_storage_command);
    PROMISE(commands_sent_later_are_answered_unless_the_stream_is_lost);
    PROMISE(a_listing_ends_with_end_reset_or_ok);
    PROMISE(bytes_behind_the_reply_are_not_clean);
    PROMISE(what_stands_before_the_marker_is_dropped);
    PROMISE(endless_rubbish_before_the_marker_breaks);
    PROMISE(an_endless_listing_breaks);
    PROMISE(many_short_rows_break_a_listing);
    PROMISE(started_means_a_byte_of_the_reply_has_come);
    PROMISE(nothing_asked_is_done_at_once);
    PROMISE(the_last_reply_is_off_the_buffer_where_nothing_stands_behind_it);
    PROMISE(it_says_whether_a_body_is_still_to_come);
    PROMISE(a_large_body_goes_past_the_buffer);
    return check_result();
}
