/* The promises of mcext/core/flow/row.h. Each stream is told in one piece, cut at every byte and
 * byte by byte, and tells the same story each time. */
#define _GNU_SOURCE
#include "core/flow/row.h"

#include "story.h"

#define AT_MOST 8

typedef struct {
    request asked[AT_MOST];
    size_t count;
    unsigned dropped; /* bits by number: from the start; */
    unsigned leaves;  /* or at its first event, from the middle of a body on */
} row_of;

typedef struct {
    mc_row row;
    mc_asking asking[AT_MOST];
    char room[AT_MOST][64];
    unsigned leaves;
    story told;
} teller;

static void begin(teller *to, const row_of *asked)
{
    *to = (teller){.leaves = asked->leaves};
    for (size_t i = 0; i < asked->count; i++) {
        mc_asking *asking = &to->asking[i];

        mc_exchange_init(&asking->exchange, &to->row.in, asked->asked[i].command, keys,
                         asked->asked[i].replies, false);
        asking->exchange.max_length = sizeof to->room[0];
        mc_row_add(&to->row, asking);
        if (asked->dropped >> i & 1) {
            mc_row_drop(asking);
        }
    }
    CHECK_NUMBER(to->row.count, asked->count);
}

/* Whose event it is, and its memory for a body. */
static size_t number_of(teller *to, const mc_asking *whose)
{
    CHECK(whose != NULL);
    return (size_t)(whose - to->asking);
}

static void tell_event(teller *to, size_t number, mc_event event)
{
    const mc_exchange *exchange = &to->asking[number].exchange;

    tell(&to->told, "%zu.", number, "", 0);
    if (event == MC_EVENT_REPLY) {
        tell(&to->told, "r%zu:%.*s ", exchange->index, exchange->reply.line.bytes,
             exchange->reply.line.length);
    }
    else if (event == MC_EVENT_FILLED) {
        tell(&to->told, "v%zu=%.*s ", exchange->index, to->room[number],
             (size_t)(exchange->room - to->room[number]));
    }
    else {
        tell(&to->told, "v%zu=%.*s ", exchange->index, exchange->body,
             (size_t)exchange->reply.length);
    }
}

static void take_events(teller *to)
{
    mc_asking *whose;
    mc_event event;

    while ((event = mc_row_next(&to->row, &whose)) != MC_EVENT_AGAIN) {
        if (event == MC_EVENT_BROKEN) {
            CHECK(mc_row_next(&to->row, &whose) == MC_EVENT_BROKEN && whose == NULL);
            return;
        }
        size_t number = number_of(to, whose);

        if (event == MC_EVENT_DONE) {
            CHECK(whose->next == NULL && whose->exchange.consume == 0);
            tell(&to->told, "%zu.done ", number, "", 0);
            continue;
        }
        CHECK(!whose->is_dropped);
        if (to->leaves >> number & 1) {
            if (event == MC_EVENT_VALUE && whose->exchange.body == NULL) {
                mc_exchange_give_room(&whose->exchange, to->room[number]);
            }
            mc_row_drop(whose);
        }
        else if (event == MC_EVENT_VALUE && whose->exchange.body == NULL) {
            mc_exchange_give_room(&whose->exchange, to->room[number]);
        }
        else {
            tell_event(to, number, event);
        }
    }
}

static void receive(teller *to, const char *text, size_t size)
{
    while (size != 0 && !to->row.is_broken) {
        struct iovec piece = {NULL, 0};

        CHECK(mc_row_room(&to->row, &piece));
        size_t part = size < piece.iov_len ? size : piece.iov_len;

        memcpy(piece.iov_base, text, part);
        mc_row_received(&to->row, part);
        text += part;
        size -= part;
        take_events(to);
    }
}

static void end(teller *to)
{
    mc_asking *left;

    if (to->row.is_broken) {
        tell(&to->told, "broken ", 0, "", 0);
    }
    while ((left = mc_row_take(&to->row)) != NULL) {
        tell(&to->told, "%zu%.*s ", number_of(to, left),
             mc_asking_may_be_repeated(left) ? "?" : "!", 1);
    }
    CHECK_NUMBER(to->row.count, 0);
    for (size_t i = 0; i < AT_MOST; i++) {
        mc_exchange_fini(&to->asking[i].exchange);
    }
    mc_row_fini(&to->row);
}

static void feed_row(const row_of *asked, const char *text, size_t first, size_t then,
                     const char *wanted)
{
    size_t length = strlen(text);
    teller to;

    begin(&to, asked);
    take_events(&to);
    for (size_t at = 0, piece = first; at < length; piece = then) {
        size_t size = piece < length - at ? piece : length - at;

        receive(&to, text + at, size);
        at += size;
    }
    end(&to);
    CHECK_BYTES(to.told.text, to.told.length, wanted);
}

static void row_tells(row_of asked, const char *text, const char *wanted)
{
    size_t length = strlen(text);

    feed_row(&asked, text, length + 1, 1, wanted);
    for (size_t cut = 1; cut < length; cut++) {
        feed_row(&asked, text, cut, length, wanted);
        feed_row(&asked, text, cut, 1, wanted);
    }
}

#define ROW(...) .asked = {__VA_ARGS__}, .count = sizeof((request[]){__VA_ARGS__}) / sizeof(request)

#define THREE ROW(GET(2), ASK(MC_SET), GET(1))
static const char THREE_REPLIES[] = "VALUE k0 0 3\r\nabc\r\nVALUE k1 0 1\r\nx\r\nEND\r\n"
                                    "STORED\r\n"
                                    "VALUE k0 0 2\r\nzz\r\nEND\r\n";

static void each_gets_his_own_in_turn(void)
{
    row_tells((row_of){THREE}, THREE_REPLIES,
              "0.v0=abc 0.v1=x 0.done 1.r0:STORED 1.done 2.v0=zz 2.done ");
    row_tells((row_of){ROW(GET(1), GET(1), GET(1))}, "END\r\nVALUE k0 0 0\r\n\r\nEND\r\nEND\r\n",
              "0.done 1.v0= 1.done 2.done ");
    row_tells((row_of){ROW(ASK(MC_INCR), ASK(MC_DELETE), ASK(MC_TOUCH), ASK(MC_VERSION))},
              "12\r\nNOT_FOUND\r\nTOUCHED\r\nVERSION 1.6\r\n",
              "0.r0:12 0.done 1.r0:NOT_FOUND 1.done 2.r0:TOUCHED 2.done 3.r0:VERSION 1.6 3.done ");
    row_tells((row_of){ROW(MANY(MC_SET, 2), ASK(MC_STATS), ASK(MC_SET))},
              "STORED\r\nNOT_STORED\r\nSTAT a 1\r\nEND\r\nSTORED\r\n",
              "0.r0:STORED 0.r1:NOT_STORED 0.done 1.r0:STAT a 1 1.done 2.r0:STORED 2.done ");
}

static void what_comes_for_one_who_left_is_nobodys(void)
{
    static const char *const of_each[] = {"0.v0=abc 0.v1=x ", "1.r0:STORED ", "2.v0=zz "};

    for (unsigned dropped = 0; dropped < 8; dropped++) {
        char wanted[128];
        int length = 0;

        for (unsigned i = 0; i < 3; i++) {
            length += snprintf(wanted + length, sizeof wanted - (size_t)length, "%s%u.done ",
                               dropped >> i & 1 ? "" : of_each[i], i);
        }
        row_tells((row_of){THREE, .dropped = dropped}, THREE_REPLIES, wanted);
    }
}

static void one_may_leave_in_the_middle_of_his_reply(void)
{
    row_tells((row_of){THREE, .leaves = 1}, THREE_REPLIES,
              "0.done 1.r0:STORED 1.done 2.v0=zz 2.done ");
    row_tells((row_of){THREE, .leaves = 5}, THREE_REPLIES, "0.done 1.r0:STORED 1.done 2.done ");
    row_tells((row_of){ROW(MANY(MC_SET, 3), GET(1)), .leaves = 1},
              "STORED\r\nSTORED\r\nEXISTS\r\nEND\r\n", "broken 0! 1? ");
    row_tells((row_of){ROW(MANY(MC_SET, 3), GET(1)), .leaves = 1},
              "STORED\r\nSTORED\r\nSTORED\r\nEND\r\n", "0.done 1.done ");
}

static void a_reply_that_cannot_be_trusted_ends_it_for_all(void)
{
    row_tells((row_of){THREE}, "VALUE other 0 1\r\nx\r\nEND\r\n", "broken 0! 1? 2? ");
    row_tells((row_of){THREE}, "END\r\nDELETED\r\nEND\r\n", "0.done broken 1! 2? ");
    row_tells((row_of){THREE, .dropped = 2}, "END\r\nDELETED\r\nEND\r\n", "0.done broken 1! 2? ");
    row_tells((row_of){THREE, .dropped = 1}, "VALUE k0 0 3\r\nabcdVALUE k1", "broken 0! 1? 2? ");
    row_tells((row_of){ROW(ASK(MC_SET), ASK(MC_ADD), ASK(MC_INCR))}, "DELETED\r\n",
              "broken 0! 1! 2! ");
}

/* An error that leaves the end of a reply unknown: the one who got it has his answer. */
static void behind_an_error_of_unknown_end_nobody_is_answered(void)
{
    row_tells((row_of){ROW(GET(1), ASK(MC_SET))}, "SERVER_ERROR busy\r\nSTORED\r\n",
              "0.r1:SERVER_ERROR busy 0.done broken 1? ");
    row_tells((row_of){ROW(ASK(MC_INCR), ASK(MC_SET))},
              "CLIENT_ERROR cannot increment or decrement non-numeric value\r\nSTORED\r\n",
              "0.r0:CLIENT_ERROR cannot increment or decrement non-numeric value 0.done "
              "1.r0:STORED 1.done ");
}

static void bytes_that_nobody_asked_for_end_it(void)
{
    row_tells((row_of){.count = 0}, "S", "broken ");
    row_tells((row_of){ROW(ASK(MC_SET))}, "STORED\r\nSTORED\r\n", "0.r0:STORED 0.done broken ");
}

static void where_the_peer_closes_who_has_heard_nothing_may_ask_again(void)
{
    row_tells((row_of){THREE}, "", "0? 1? 2? ");
    row_tells((row_of){ROW(GET(1), ASK(MC_ADD), ASK(MC_SET))}, "VA", "0! 1! 2? ");
    row_tells((row_of){ROW(GET(1), ASK(MC_ADD), ASK(MC_SET))}, "END\r\n", "0.done 1! 2? ");
    row_tells((row_of){ROW(GET(1), GET(1))}, "VALUE k0 0 5\r\nab", "0! 1? ");
}

static void more_can_be_asked_while_it_is_answered(void)
{
    mc_row row = {0};
    mc_asking one, *whose;
    struct iovec piece;

    for (int turn = 0; turn < 3; turn++) {
        one = (mc_asking){.is_dropped = false};
        mc_exchange_init(&one.exchange, &row.in, MC_GET, keys, 1, false);
        mc_row_add(&row, &one);
        CHECK(mc_row_next(&row, &whose) == MC_EVENT_AGAIN && whose == NULL);
        CHECK(mc_row_room(&row, &piece) && piece.iov_len >= 5);
        memcpy(piece.iov_base, "END\r\n", 5);
        mc_row_received(&row, 5);
        CHECK(mc_row_next(&row, &whose) == MC_EVENT_DONE && whose == &one);
        CHECK(row.count == 0 && mc_row_take(&row) == NULL);
        CHECK(mc_row_next(&row, &whose) == MC_EVENT_AGAIN);
    }
    mc_row_fini(&row);
}

/* A body goes straight where its caller wants it; of one that is dropped nothing is kept. */
static void a_large_body_takes_no_room_of_the_input(void)
{
    static char room[1 << 20];

    for (int dropped = 0; dropped < 2; dropped++) {
        mc_row row = {0};
        mc_asking one = {.is_dropped = false}, *whose;
        struct iovec piece;
        size_t come = 0;

        mc_exchange_init(&one.exchange, &row.in, MC_GET, keys, 1, false);
        mc_row_add(&row, &one);
        CHECK(mc_row_room(&row, &piece));
        memcpy(piece.iov_base, "VALUE k0 0 1048576\r\n", 20);
        mc_row_received(&row, 20);
        CHECK(mc_row_next(&row, &whose) == MC_EVENT_VALUE && whose == &one);
        mc_exchange_give_room(&one.exchange, room);
        if (dropped) {
            mc_row_drop(&one);
        }
        while (come < sizeof room) {
            CHECK(mc_row_room(&row, &piece));
            CHECK((char *)piece.iov_base == room + come || dropped);
            size_t part = piece.iov_len < sizeof room - come ? piece.iov_len : sizeof room - come;

            memset(piece.iov_base, 'x', part);
            mc_row_received(&row, part);
            come += part;
            CHECK(mc_row_next(&row, &whose) == MC_EVENT_AGAIN);
        }
        CHECK(mc_row_room(&row, &piece));
        memcpy(piece.iov_base, "\r\nEND\r\n", 7);
        mc_row_received(&row, 7);
        if (!dropped) {
            CHECK(mc_row_next(&row, &whose) == MC_EVENT_FILLED && whose == &one);
            CHECK(room[0] == 'x' && room[sizeof room - 1] == 'x');
        }
        CHECK(mc_row_next(&row, &whose) == MC_EVENT_DONE && whose == &one);
        CHECK(row.in.capacity < sizeof room);
        memset(room, 0, sizeof room);
        mc_exchange_fini(&one.exchange);
        mc_row_fini(&row);
    }
}

static void *fail(void *memory, size_t size)
{
    (void)memory;
    (void)size;
    return NULL;
}

static void where_memory_is_out_there_is_no_room(void)
{
    void *(*before)(void *, size_t) = mc_reallocate;
    mc_row row = {0};
    struct iovec piece;

    mc_reallocate = fail;
    CHECK(!mc_row_room(&row, &piece));
    mc_reallocate = before;
    CHECK(mc_row_room(&row, &piece));
    mc_row_fini(&row);
}

int main(void)
{
    name_keys();
    PROMISE(each_gets_his_own_in_turn);
    PROMISE(what_comes_for_one_who_left_is_nobodys);
    PROMISE(one_may_leave_in_the_middle_of_his_reply);
    PROMISE(a_reply_that_cannot_be_trusted_ends_it_for_all);
    PROMISE(behind_an_error_of_unknown_end_nobody_is_answered);
    PROMISE(bytes_that_nobody_asked_for_end_it);
    PROMISE(where_the_peer_closes_who_has_heard_nothing_may_ask_again);
    PROMISE(more_can_be_asked_while_it_is_answered);
    PROMISE(a_large_body_takes_no_room_of_the_input);
    PROMISE(where_memory_is_out_there_is_no_room);
    return check_result();
}
