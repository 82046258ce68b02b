/* The promises of mcext/core/flow/leg.h about room: what a batch holds, what its memory costs, and
 * what a receive asks for. */
#define _GNU_SOURCE
#include "core/flow/leg.h"

#include "check.h"

#define BATCH ((size_t)262144)
#define BODY 16384 /* is waited for in one receive from this size on */

static const mc_slice key = {"k", 1}, never = {"0", 1};
static const mc_transport transport = {.is_free = true, .is_pollable = true, .waits_for_all = true};
static char bytes[2 * BATCH];
static mc_connection connection;
static mc_leg leg;
static int grown; /* how often there was not enough memory */

static void *counting(void *memory, size_t size)
{
    grown++;
    return realloc(memory, size);
}

static void start(mc_command command, const mc_slice *keys, size_t count)
{
    mc_clock clock;

    mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    memset(&connection, 0, sizeof connection);
    connection.transport = &transport;
    mc_leg_init(&leg, command, keys, count);
    mc_leg_begin(&leg, &connection, &clock);
    grown = 0;
    mc_reallocate = counting;
}

static void stop(void)
{
    mc_reallocate = realloc;
    mc_leg_fini(&leg);
    mc_buffer_fini(&connection.in);
    mc_buffer_fini(&connection.out);
}

static mc_laid store(size_t length, bool stays)
{
    return mc_leg_store(&leg, key, 0, never, (mc_slice){bytes, length}, NULL, stays);
}

/* ---- a batch ---- */

/* The first command tells how much memory the others want. */
static void memory_for_a_batch_is_asked_for_once(void)
{
    static const size_t lengths[] = {1, 100, 1000, 5000}, counts[] = {2, 7, 100, 100000};

    for (size_t i = 0; i < 16; i++) {
        size_t length = lengths[i / 4], count = counts[i % 4];

        start(MC_SET, NULL, count);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        CHECK(store(length, false) == MC_LAID_COPIED);
        size_t size = mc_buffer_length(&connection.out);
        size_t all = count * size < BATCH ? count * size : BATCH;
        CHECK(connection.out.capacity >= all);
        CHECK(connection.out.capacity <= 512 || connection.out.capacity < 2 * all);
        int before = grown;
        CHECK(before <= 2);
        while (mc_leg_has_room(&leg) && mc_buffer_length(&connection.out) + size <= BATCH) {
            CHECK(store(length, false) == MC_LAID_COPIED);
        }
        CHECK(grown <= before + 1); /* a command is laid out in more room than it takes */
        stop();
    }
}

/* Where the first one is all, or more than a batch, nothing is asked for the others. */
static void a_command_as_large_as_a_batch_is_one(void)
{
    static const size_t lengths[] = {BATCH - 100, BATCH, BATCH + 100};

    for (size_t i = 0; i < 3; i++) {
        start(MC_SET, NULL, 3);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        CHECK(store(lengths[i], false) == MC_LAID_COPIED);
        CHECK(mc_leg_has_room(&leg) == (i == 0));
        CHECK(connection.out.capacity <= 2 * BATCH);
        stop();
    }
    start(MC_SET, NULL, 1);
    CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
    CHECK(store(300, false) == MC_LAID_COPIED);
    CHECK(connection.out.capacity == 512 && grown == 1);
    CHECK(!mc_leg_has_room(&leg)); /* it was the only one */
    stop();
}

/* What goes out from where it lies is a part of it. */
static void a_batch_ends_with_its_bytes_or_its_pieces(void)
{
    size_t head = strlen("set k 0 0 100000\r\n\r\n");

    for (int room = 4; room < 10; room++) {
        struct iovec pieces[10];
        int laid = 0;

        start(MC_SET, NULL, 100);
        mc_leg_use_room(&leg, pieces, room);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        while (mc_leg_has_room(&leg)) {
            CHECK(store(100000, true) == MC_LAID_POINTED_TO);
            laid++;
        }
        int by_pieces = (room - 2) / 2, by_bytes = 3; /* two pieces each, a cut, and the rest */
        CHECK_NUMBER(laid, by_pieces < by_bytes ? by_pieces : by_bytes);
        CHECK(mc_leg_ready(&leg));
        CHECK_NUMBER(leg.piece_count, 2 * laid + 1);
        CHECK(leg.piece_count <= room);
        CHECK_NUMBER(mc_buffer_length(&connection.out), (size_t)laid * head);
        stop();
    }
    for (int more = 0; more < 2; more++) { /* to the byte */
        struct iovec pieces[9];

        start(MC_SET, NULL, 100);
        mc_leg_use_room(&leg, pieces, 9);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        CHECK(store(BATCH - head - 1 + (size_t)more, true) == MC_LAID_POINTED_TO);
        CHECK(mc_buffer_length(&connection.out) == head);
        CHECK(mc_leg_has_room(&leg) == !more);
        stop();
    }
}

/* What a peer that gets records finds in them: a piece has whole commands, and ends with the one
 * that makes it longer than 8 kB; behind a value that is a piece of its own begins another one. */
static void in_records_a_piece_ends_with_a_command(void)
{
    static const struct {
        size_t length, commands;
    } cases[] = {{1, 512}, {1000, 9}, {4000, 3}, {8192, 1}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct iovec pieces[40];

        start(MC_SET, NULL, 2 * cases[i].commands + 1);
        connection.in_records = true;
        mc_leg_use_room(&leg, pieces, 40);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        while (mc_leg_has_room(&leg)) {
            CHECK(store(cases[i].length, true) == MC_LAID_COPIED);
        }
        CHECK(mc_leg_ready(&leg));
        size_t size = mc_buffer_length(&connection.out) / (2 * cases[i].commands + 1);
        CHECK_NUMBER(leg.piece_count, 3);
        CHECK_NUMBER(leg.pieces[0].iov_len, cases[i].commands * size);
        CHECK_NUMBER(leg.pieces[1].iov_len, cases[i].commands * size);
        CHECK_NUMBER(leg.pieces[2].iov_len, size);
        CHECK(leg.pieces[0].iov_len >= 8192 && leg.pieces[0].iov_len - size < 8192);
        CHECK((char *)leg.pieces[0].iov_base + leg.pieces[0].iov_len == leg.pieces[1].iov_base);
        stop();
    }
}

static void in_records_nothing_stands_behind_a_large_value(void)
{
    struct iovec pieces[9];

    start(MC_SET, NULL, 2);
    connection.in_records = true;
    mc_leg_use_room(&leg, pieces, 9);
    CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
    CHECK(store(10000, true) == MC_LAID_POINTED_TO);
    CHECK(store(10000, true) == MC_LAID_POINTED_TO);
    CHECK(mc_leg_ready(&leg));
    CHECK_NUMBER(leg.piece_count, 6);
    for (int i = 0; i < 6; i += 3) {
        CHECK_BYTES(pieces[i].iov_base, pieces[i].iov_len, "set k 0 0 10000\r\n");
        CHECK(pieces[i + 1].iov_base == bytes && pieces[i + 1].iov_len == 10000);
        CHECK_BYTES(pieces[i + 2].iov_base, pieces[i + 2].iov_len, "\r\n");
    }
    stop();
}

static void in_records_a_get_line_begins_a_piece(void)
{
    static mc_slice keys[3000];
    struct iovec pieces[9];

    for (size_t i = 0; i < 3000; i++) {
        keys[i] = (mc_slice){"0123456789", 10};
    }
    start(MC_GET, keys, 3000);
    connection.in_records = true;
    mc_leg_use_room(&leg, pieces, 9);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    CHECK_NUMBER(leg.piece_count, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_NUMBER(pieces[i].iov_len, 3 + 1000 * 11 + 2);
        CHECK(memcmp(pieces[i].iov_base, "get ", 4) == 0);
    }
    stop();
    for (size_t i = 0; i < 3000; i++) {
        keys[i] = (mc_slice){"k", 1};
    }
    start(MC_GET, keys, 3000); /* small ones share one */
    connection.in_records = true;
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && leg.piece_count == 1);
    stop();
    start(MC_GET, keys, 3000); /* without room for more pieces the batch ends */
    connection.in_records = true;
    keys[0] = keys[1000] = (mc_slice){bytes, 9000};
    mc_leg_use_room(&leg, pieces, 2);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    CHECK_NUMBER(leg.piece_count, 2);
    CHECK_NUMBER(leg.next, 2000);
    stop();
}

static void the_keys_of_a_batch_go_out_in_order(void)
{
    static mc_slice keys[2500];
    static char names[2500][8];
    static const size_t counts[] = {1, 2, 999, 1000, 1001, 1999, 2000, 2001, 2500};
    static char wanted[40000];

    for (size_t i = 0; i < 2500; i++) {
        snprintf(names[i], sizeof names[i], "k%zu", i);
        keys[i] = (mc_slice){names[i], strlen(names[i])};
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t length = 0;

        for (size_t at = 0; at < counts[i]; at++) {
            length += (size_t)snprintf(wanted + length, sizeof wanted - length, "%s%s %s",
                                       at == 0          ? ""
                                       : at % 1000 == 0 ? "\r\n"
                                                        : "",
                                       at % 1000 == 0 ? "get" : "", names[at]);
        }
        strcpy(wanted + length, "\r\n");
        start(MC_GET, keys, counts[i]);
        CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && leg.piece_count == 1);
        CHECK_BYTES(leg.pieces->iov_base, leg.pieces->iov_len, wanted);
        CHECK(leg.asked);
        stop();
    }
}

static void as_many_replies_are_awaited_as_commands_were_laid_out(void)
{
    for (mc_command command = 0; command < MC_COMMANDS; command++) {
        mc_family family = mc_commands[command].family;
        size_t count = family >= MC_FAMILY_LISTING ? 1 : 2;
        mc_slice keys[2] = {key, key};

        start(command, keys, count);
        CHECK_NUMBER(leg.exchange.replies, family == MC_FAMILY_RETRIEVAL ? 2
                                           : family >= MC_FAMILY_LISTING ? 1
                                                                         : 0);
        if (mc_leg_next(&leg) == MC_LEG_PRODUCE) {
            for (size_t i = 0; i < count; i++) {
                CHECK(mc_leg_line(&leg, key, (mc_slice){NULL, 0}));
            }
            CHECK(mc_leg_ready(&leg));
        }
        CHECK_NUMBER(leg.exchange.replies, family == MC_FAMILY_PROBE ? 2 : count);
        stop();
    }
}

static void what_is_to_be_tried_again_has_nothing_to_be_sent(void)
{
    start(MC_GET, &key, 1);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE && leg.piece_count == 1);
    mc_leg_fail(&leg, MC_CLOSED);
    CHECK(mc_leg_is_to_be_retried(&leg) && !mc_leg_is_running(&leg));
    CHECK(leg.piece_count == 0);
    mc_leg_give_up(&leg);
    CHECK(!mc_leg_is_to_be_retried(&leg) && leg.verdict.status == MC_CLOSED);
    stop();
}

/* ---- a receive ---- */

static struct iovec pieces[2];

static int room_for(bool may_wait, bool *all)
{
    memset(pieces, 0, sizeof pieces);
    return mc_leg_room(&leg, may_wait, pieces, all);
}

static void many_replies_are_worth_a_large_receive(void)
{
    for (size_t count = 7; count < 11; count++) {
        bool all = true;

        start(MC_DELETE, NULL, count);
        CHECK(mc_leg_next(&leg) == MC_LEG_PRODUCE);
        while (mc_leg_has_room(&leg)) {
            CHECK(mc_leg_line(&leg, key, (mc_slice){NULL, 0}));
        }
        CHECK(mc_leg_ready(&leg));
        CHECK(room_for(true, &all) == 1 && !all);
        CHECK_NUMBER(pieces[0].iov_len, count > 8 ? 65536 : 2048);
        CHECK(pieces[0].iov_base == connection.in.data);
        stop();
    }
}

/* The leg's value, of so many bytes, of which one has come; its room. */
static void await_body(const mc_slice *keys, size_t count, size_t length)
{
    char header[32];

    start(MC_GET, keys, count);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    leg.piece_count = 0;
    snprintf(header, sizeof header, "VALUE k 0 %zu\r\nx", length);
    CHECK(mc_buffer_append(&connection.in, header, strlen(header)));
    CHECK(mc_leg_next(&leg) == MC_LEG_VALUE);
    mc_exchange_give_room(&leg.exchange, bytes);
}

static void a_body_is_waited_for_with_the_end_of_its_reply(void)
{
    static const mc_slice both[] = {{"k", 1}, {"l", 1}};
    static const struct {
        size_t count, length;
        bool may_wait, all;
    } cases[] = {
        {1, BODY + 1, true, true},   {1, BODY, true, false},     {1, 100, true, false},
        {1, BODY + 1, false, false}, {2, BODY + 1, true, false}, {1, BODY + 2, true, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool all = !cases[i].all;

        await_body(both, cases[i].count, cases[i].length);
        CHECK(room_for(cases[i].may_wait, &all) == 2 && all == cases[i].all);
        CHECK(pieces[0].iov_base == bytes + 1 && pieces[0].iov_len == cases[i].length - 1);
        CHECK(pieces[1].iov_base == connection.in.data + connection.in.end);
        CHECK(all ? pieces[1].iov_len == 7 : pieces[1].iov_len >= 2048);
        stop();
    }
}

/* The body first, and what is left behind it. */
static void what_was_received_is_the_bodys_and_then_the_inputs(void)
{
    static const char rest[] = "bcdefghi\r\nEND\r\n";

    for (size_t cut = 1; cut <= 15; cut++) {
        size_t body = cut < 8 ? cut : 8, left = cut - body;
        bool all;

        await_body(&key, 1, 9);
        CHECK(room_for(true, &all) == 2);
        memcpy(pieces[0].iov_base, rest, body);
        memcpy(pieces[1].iov_base, rest + 8, left);
        mc_leg_received(&leg, cut);
        CHECK_NUMBER(leg.exchange.missing, 8 - body);
        CHECK_NUMBER(mc_buffer_length(&connection.in), left);
        CHECK(memcmp(bytes, "xbcdefghi", 1 + body) == 0);
        CHECK((mc_leg_next(&leg) == MC_LEG_FILLED) == (cut >= 10));
        stop();
    }
}

static void *refusing(void *memory, size_t size)
{
    (void)memory, (void)size;
    return NULL;
}

static void without_memory_there_is_no_room(void)
{
    bool all;

    await_body(&key, 1, 100);
    mc_reallocate = refusing;
    CHECK(room_for(true, &all) == 0);
    stop();
    start(MC_GET, &key, 1);
    CHECK(mc_leg_next(&leg) == MC_LEG_MOVE);
    mc_reallocate = refusing;
    CHECK(room_for(true, &all) == 0);
    stop();
}

int main(void)
{
    PROMISE(memory_for_a_batch_is_asked_for_once);
    PROMISE(a_command_as_large_as_a_batch_is_one);
    PROMISE(a_batch_ends_with_its_bytes_or_its_pieces);
    PROMISE(in_records_a_piece_ends_with_a_command);
    PROMISE(in_records_nothing_stands_behind_a_large_value);
    PROMISE(in_records_a_get_line_begins_a_piece);
    PROMISE(the_keys_of_a_batch_go_out_in_order);
    PROMISE(as_many_replies_are_awaited_as_commands_were_laid_out);
    PROMISE(what_is_to_be_tried_again_has_nothing_to_be_sent);
    PROMISE(many_replies_are_worth_a_large_receive);
    PROMISE(a_body_is_waited_for_with_the_end_of_its_reply);
    PROMISE(what_was_received_is_the_bodys_and_then_the_inputs);
    PROMISE(without_memory_there_is_no_room);
    return check_result();
}
