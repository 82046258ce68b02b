/* The promises of mcext/core/wire/exchange.h about get and gets: which values are taken, in which
 * order, and what an error line means. */
#define _GNU_SOURCE
#include "story.h"

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

/* A VALUE block of one byte. */
#define V(key, body) "VALUE " key " 0 1\r\n" body "\r\n"

static void values_of_many_keys_come_in_order_each_once(void)
{
    tells(GET(3), V("k0", "a") V("k1", "b") V("k2", "c") "END\r\n", "v0=a v1=b v2=c done");
    tells(GET(3), V("k2", "c") "END\r\n", "v2=c done");
    tells(GET(3), "END\r\n", "done");
    tells(GET(3), V("k1", "b") V("k1", "b") "END\r\n", "v1=b broken!");
    tells(GET(3), V("k9", "b") "END\r\n", "broken!");
    tells(GET(2), V("k0", "a") V("k1", "b") V("k2", "c") "END\r\n", "v0=a v1=b broken!");
}

static void values_may_come_in_any_order_each_once(void)
{
    tells(GET(3), V("k2", "c") V("k1", "b") "END\r\n", "v2=c v1=b done");
    tells(GET(3), V("k2", "c") V("k1", "b") V("k0", "a") "END\r\n", "v2=c v1=b v0=a done");
    tells(GET(4), V("k1", "b") V("k0", "a") V("k3", "d") V("k2", "c") "END\r\n",
          "v1=b v0=a v3=d v2=c done");
    tells(GET(4), V("k0", "a") V("k2", "c") V("k3", "d") V("k1", "b") "END\r\n",
          "v0=a v2=c v3=d v1=b done");
    tells(GETS(2), "VALUE k1 0 1 7\r\nb\r\nVALUE k0 0 1 8\r\na\r\nEND\r\n", "v1=b v0=a done");
    tells(GET(3), V("k1", "b") V("k0", "a") V("k1", "b") "END\r\n", "v1=b v0=a broken!");
    tells(GET(3), V("k1", "b") V("k0", "a") V("k0", "a") "END\r\n", "v1=b v0=a broken!");
    tells(GET(3), V("k0", "a") V("k2", "c") V("k0", "a") "END\r\n", "v0=a v2=c broken!");
    tells(GET(3), V("k2", "c") V("k2", "c") "END\r\n", "v2=c broken!");
    tells(GET(3), V("k1", "b") V("k9", "x") "END\r\n", "v1=b broken!");
    tells(GET(3), V("k1", "b") V("k0", "a") V("k9", "x") "END\r\n", "v1=b v0=a broken!");
    tells(GET(3), V("k1", "b") V("k0", "a") V("k", "x") "END\r\n", "v1=b v0=a broken!");
    tells(GET(3), V("k1", "b") V("k0", "a") "STORED\r\n", "v1=b v0=a broken!");
    tells(GET(12), V("k11", "l") V("k1", "b") V("k10", "k") V("k9", "j") "END\r\n",
          "v11=l v1=b v10=k v9=j done");
}

static void a_key_asked_for_twice_may_come_twice(void)
{
    mc_slice saved = keys[1];

    keys[1] = keys[0];
    tells(GET(2), V("k0", "a") V("k0", "a") "END\r\n", "v0=a v1=a done");
    tells(GET(2), V("k0", "a") V("k0", "a") V("k0", "a") "END\r\n", "v0=a v1=a broken!");
    tells(GET(3), V("k2", "c") V("k0", "a") V("k0", "a") "END\r\n", "v2=c v0=a v1=a done");
    tells(GET(3), V("k2", "c") V("k0", "a") "END\r\n", "v2=c v0=a done");
    tells(GET(3), V("k2", "c") V("k0", "a") V("k0", "a") V("k0", "a") "END\r\n",
          "v2=c v0=a v1=a broken!");
    keys[1] = saved;
    saved = keys[2];
    keys[2] = keys[0];
    tells(GET(3), V("k0", "a") V("k0", "a") V("k1", "b") "END\r\n", "v0=a v2=a v1=b done");
    tells(GET(3), V("k1", "b") V("k0", "a") V("k0", "a") "END\r\n", "v1=b v2=a v0=a done");
    keys[2] = saved;
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
    /* The order is free among the keys of one line, and each line begins anew. */
    tells(asked,
          V("k2", "a") V("k1", "b") "END\r\n" V("k1999", "c") V("k1001", "d")
              V("k1000", "e") "END\r\n" V("k2000", "f") "END\r\n",
          "v2=a v1=b v1999=c v1001=d v1000=e v2000=f done");
    tells(asked, V("k2", "a") V("k1", "b") V("k1000", "x") "END\r\n", "v2=a v1=b broken!");
    tells(asked, V("k2", "a") V("k1", "b") "END\r\n" V("k0", "x"), "v2=a v1=b broken!");
    tells(asked, V("k2", "a") "END\r\n" V("k1001", "b") V("k1", "x"), "v2=a v1001=b broken!");
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

#define MARKED(count) ((request){.command = MC_GET, .replies = count, .mark = count})
#define FAILED "SERVER_ERROR backend failure\r\n"
#define R(index) "r" index ":SERVER_ERROR backend failure mark "

static void a_marked_error_line_leaves_the_stream_in_step(void)
{
    tells(MARKED(1), "SERVER_ERROR busy\r\nVERSION 1\r\n", "r1:SERVER_ERROR busy mark done");
    tells(MARKED(1), "SERVER_ERROR busy\r\n", "r1:SERVER_ERROR busy mark again!");
    tells(MARKED(1), "SERVER_ERROR busy\r\nVERSION 1\r\nEND\r\n",
          "r1:SERVER_ERROR busy mark done!");
    /* One line more than the reply has, and the reply: what it names is taken. */
    tells(MARKED(1), FAILED V("k0", "a") "END\r\nVERSION 1\r\n", R("1") "v0=a done");
    tells(MARKED(1), FAILED "END\r\nVERSION 1\r\n", R("1") "done");
    tells(MARKED(1), FAILED V("k0", "a") V("k0", "b"), R("1") "v0=a broken!");
    tells(MARKED(1), FAILED V("k1", "a"), R("1") "broken!");
    tells(MARKED(2), V("k0", "a") "SERVER_ERROR x\r\nVERSION 1\r\n",
          "v0=a r2:SERVER_ERROR x mark done");
    request gets = GETS(2);
    gets.mark = 2;
    tells(gets, FAILED "VALUE k1 0 1 7\r\nb\r\nEND\r\nVERSION 1\r\n", R("2") "v1=b done");
    tells(gets, FAILED V("k1", "b"), R("2") "broken!");
}

static void behind_a_marked_error_line_values_are_taken_up_to_the_version(void)
{
    tells(MARKED(3), FAILED V("k1", "b") FAILED "END\r\nVERSION 1\r\n", R("3") "v1=b done");
    tells(MARKED(3), FAILED FAILED V("k2", "c") "END\r\nVERSION 1\r\n", R("3") "v2=c done");
    tells(MARKED(3), FAILED FAILED FAILED "END\r\nVERSION 1\r\n", R("3") "done");
    tells(MARKED(3), V("k0", "a") FAILED V("k2", "c") "END\r\nVERSION 1\r\n",
          "v0=a " R("3") "v2=c done");
    tells(MARKED(3), V("k1", "b") FAILED V("k2", "c") V("k0", "a") "END\r\nVERSION 1\r\n",
          "v1=b " R("3") "v2=c v0=a done");
    tells(MARKED(3), V("k1", "b") V("k0", "a") FAILED V("k2", "c") "END\r\nVERSION 1\r\n",
          "v1=b v0=a " R("3") "v2=c done");
    tells(MARKED(3), V("k1", "b") FAILED V("k1", "b"), "v1=b " R("3") "broken!");
    tells(MARKED(3), V("k1", "b") FAILED V("k9", "x"), "v1=b " R("3") "broken!");
    /* No answer is without end. */
    tells(MARKED(2), FAILED FAILED FAILED, R("2") "broken!");
    tells(MARKED(2), FAILED "END\r\nEND\r\n", R("2") "broken!");
}

static void an_error_line_too_many_is_the_answer_to_the_version(void)
{
    tells(MARKED(1), "SERVER_ERROR x\r\nSERVER_ERROR x\r\n", "r1:SERVER_ERROR x mark broken!");
    tells(MARKED(3), "SERVER_ERROR x\r\nSERVER_ERROR x\r\n", "r3:SERVER_ERROR x mark broken!");
    tells(MARKED(3), "SERVER_ERROR x\r\nERROR\r\n", "r3:SERVER_ERROR x mark broken!");
    tells(MARKED(3), "SERVER_ERROR x\r\nCLIENT_ERROR y\r\n", "r3:SERVER_ERROR x mark broken!");
    tells(MARKED(3), "SERVER_ERROR x\r\nSTORED\r\n", "r3:SERVER_ERROR x mark broken!");
    tells(MARKED(3), "SERVER_ERROR x\r\n\r\n", "r3:SERVER_ERROR x mark broken!");
}

static void only_a_server_error_is_marked(void)
{
    request asked = MARKED(2);

    tells(asked, "ERROR\r\n", "r2:ERROR done!");
    tells(asked, "CLIENT_ERROR x\r\n", "r2:CLIENT_ERROR x done!");
    tells(asked, "VERSION 1\r\n", "broken!");
    asked = MARKED(MC_KEYS_PER_GET + 1);
    tells(asked, "ERROR\r\nSERVER_ERROR x\r\n", "r1000:ERROR r1001:SERVER_ERROR x done!");
    asked = MARKED(1); /* behind another marker it may be about what went before that */
    asked.marker = true;
    tells(asked, "VERSION 1\r\nSERVER_ERROR x\r\n", "r1:SERVER_ERROR x done!");
    asked = ASK(MC_SET);
    asked.mark = 1;
    tells(asked, "SERVER_ERROR x\r\n", "r0:SERVER_ERROR x done!");
}

static void a_mark_is_behind_all_get_lines_that_were_sent(void)
{
    request asked = MARKED(2 * MC_KEYS_PER_GET + 1);

    /* Each line may have an error line in place of its END, or before it. */
    tells(asked, "SERVER_ERROR x\r\nSERVER_ERROR x\r\nSERVER_ERROR x\r\nVERSION 1\r\n",
          "r1000:SERVER_ERROR x mark done");
    tells(asked, "SERVER_ERROR x\r\nSERVER_ERROR x\r\nSERVER_ERROR x\r\nSERVER_ERROR x\r\n",
          "r1000:SERVER_ERROR x mark broken!");
    tells(asked, "SERVER_ERROR x\r\n" V("k1001", "a") "END\r\nEND\r\nVERSION 1\r\n",
          "r1000:SERVER_ERROR x mark v1001=a done");
    tells(asked,
          V("k1", "a") FAILED V("k3", "b") "END\r\n" V("k1001", "c") FAILED "END\r\n" FAILED
                                                                            "END\r\nVERSION 1\r\n",
          "v1=a " R("1000") "v3=b v1001=c done");
    tells(asked, FAILED "END\r\nEND\r\nEND\r\nEND\r\n", R("1000") "broken!");
    tells(asked,
          V("k3", "a") V("k1", "b") FAILED V("k2000", "c") V("k2", "d")
              V("k1500", "e") "VERSION 1\r\n",
          "v3=a v1=b " R("1000") "v2000=c v2=d v1500=e done");
    tells(asked, V("k3", "a") V("k1", "b") FAILED V("k2000", "c") V("k1", "d"),
          "v3=a v1=b " R("1000") "v2000=c broken!");
    tells(asked, "END\r\n" FAILED V("k1500", "a") "VERSION 1\r\n", R("2000") "v1500=a done");
    tells(asked, "END\r\n" FAILED V("k1", "a"), R("2000") "broken!"); /* it was a miss */
}

static void behind_a_mark_the_lines_sent_later_are_read_as_ever(void)
{
    request asked = GET(2 * MC_KEYS_PER_GET + 1);

    asked.mark = MC_KEYS_PER_GET;
    tells(asked, FAILED V("k3", "a") "END\r\nVERSION 1\r\n" V("k1001", "b") "END\r\nEND\r\n",
          R("1000") "v3=a v1001=b done");
    tells(asked, FAILED "VERSION 1\r\nEND\r\nVERSION 1\r\n", R("1000") "broken!");
    tells(asked, FAILED V("k1000", "x"), R("1000") "broken!"); /* it was not asked for yet */
    /* There a mark would be before the line that has the error. */
    tells(asked, "END\r\nSERVER_ERROR x\r\nEND\r\n", "r2000:SERVER_ERROR x done!");
    asked.mark = 2 * MC_KEYS_PER_GET + 1;
    tells(asked, FAILED "VERSION 1\r\n", R("1000") "done");
}

static void a_run_of_values_reads_nothing_that_has_not_come(void)
{
    static const char text[] = "VALUE k0 0 5\r\nhello\r\nVALUE k1 16 300000\r\n";
    size_t length = sizeof text - 1, first = strlen("VALUE k0 0 5\r\nhello\r\n");
    check_guard guard = check_guard_new(256);

    for (size_t come = 0; come <= length; come++) {
        mc_value_run run = {check_guard_copy(guard, text, come), come, keys, keys + 2, 5};
        mc_slice body;
        uint32_t flags;
        bool whole = mc_value_run_next(&run, &flags, &body);

        CHECK(whole == (come >= first));
        if (whole) {
            CHECK_BYTES(body.bytes, body.length, "hello");
            CHECK(flags == 0 && run.left == come - first);
            CHECK(!mc_value_run_next(&run, &flags, &body));
        }
        CHECK(run.key == keys + whole);
    }
    check_guard_free(guard);
}

static void a_run_takes_one_value_behind_the_other(void)
{
    static const char text[] = "VALUE k0 0 5\r\nhello\r\nVALUE k1 16 0\r\n\r\nVALUE k2 9 1\r\nx\r\n"
                               "END\r\n";
    static const char *const bodies[] = {"hello", "", "x"};
    static const uint32_t marks[] = {0, 16, 9};
    mc_value_run run = {text, sizeof text - 1, keys, keys + 4, 5};
    mc_slice body;
    uint32_t flags;

    for (size_t i = 0; i < 3; i++) {
        CHECK(mc_value_run_next(&run, &flags, &body) && run.key == keys + i + 1);
        CHECK_BYTES(body.bytes, body.length, bodies[i]);
        CHECK_NUMBER(flags, marks[i]);
    }
    CHECK(!mc_value_run_next(&run, &flags, &body));
    CHECK_BYTES(run.at, run.left, "END\r\n");
}

static mc_event name_a_key(mc_exchange *exchange, mc_buffer *in, mc_slice key)
{
    CHECK(mc_buffer_append(in, "VALUE ", 6));
    CHECK(mc_buffer_append(in, key.bytes, key.length));
    CHECK(mc_buffer_append(in, " 0 0\r\n\r\n", 8));
    return mc_exchange_next(exchange);
}

static void a_thousand_keys_may_come_in_any_order(void)
{
    static const size_t steps[] = {999, 1, 7, 501, 997}; /* without a factor in common with 1000 */

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        mc_buffer in = {0};
        mc_exchange exchange;

        mc_exchange_init(&exchange, &in, MC_GET, keys, MC_KEYS_PER_GET, false);
        for (size_t count = 0, at = 0; count < MC_KEYS_PER_GET; count++) {
            at = (at + steps[i]) % MC_KEYS_PER_GET;
            CHECK(name_a_key(&exchange, &in, keys[at]) == MC_EVENT_VALUE);
            CHECK_NUMBER(exchange.index, at);
        }
        CHECK(name_a_key(&exchange, &in, keys[0]) == MC_EVENT_BROKEN && !exchange.no_memory);
        mc_exchange_fini(&exchange);
        mc_buffer_fini(&in);
    }
}

/* With the line behind it. */
static void a_value_that_no_memory_could_hold_breaks(void)
{
    for (size_t i = 0; i < 3; i++) {
        mc_buffer in = {0};
        mc_exchange exchange;
        char text[64];

        snprintf(text, sizeof text, "VALUE k0 0 %zu\r\n", SIZE_MAX - 2 + i);
        mc_exchange_init(&exchange, &in, MC_GET, keys, 1, false);
        CHECK(mc_buffer_append(&in, text, strlen(text)));
        CHECK(mc_exchange_next(&exchange) == (i == 0 ? MC_EVENT_VALUE : MC_EVENT_BROKEN));
        CHECK(i > 0 || (exchange.body == NULL && exchange.reply.length == SIZE_MAX - 2));
        mc_exchange_fini(&exchange);
        mc_buffer_fini(&in);
    }
}

/* Of a thousand keys that have been answered none can come. */
static void the_index_is_of_the_keys_that_may_still_come(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    mc_exchange_init(&exchange, &in, MC_GET, keys, MC_KEYS_PER_GET + 3, false);
    CHECK(mc_buffer_append(&in, "END\r\n", 5));
    CHECK(name_a_key(&exchange, &in, keys[MC_KEYS_PER_GET + 2]) == MC_EVENT_VALUE);
    CHECK(name_a_key(&exchange, &in, keys[MC_KEYS_PER_GET]) == MC_EVENT_VALUE);
    CHECK_NUMBER(exchange.index, MC_KEYS_PER_GET);
    CHECK_NUMBER(exchange.index_of_keys.capacity, 3);
    mc_exchange_fini(&exchange);
    mc_buffer_fini(&in);
}

static void *no_memory(void *memory, size_t size)
{
    (void)memory, (void)size;
    return NULL;
}

static void where_memory_is_out_it_says_so(void)
{
    mc_buffer in = {0};
    mc_exchange exchange;

    mc_exchange_init(&exchange, &in, MC_GET, keys, 3, false);
    CHECK(name_a_key(&exchange, &in, keys[2]) == MC_EVENT_VALUE);
    mc_reallocate = no_memory; /* the buffer has room */
    CHECK(name_a_key(&exchange, &in, keys[1]) == MC_EVENT_BROKEN);
    mc_reallocate = realloc;
    CHECK(exchange.no_memory);
    mc_exchange_fini(&exchange);
    mc_buffer_fini(&in);
}

int main(void)
{
    name_keys();
    PROMISE(a_get_answers_or_misses);
    PROMISE(a_get_takes_only_what_a_get_can_be_answered);
    PROMISE(a_body_must_end_where_it_said);
    PROMISE(a_value_longer_than_the_limit_breaks);
    PROMISE(values_of_many_keys_come_in_order_each_once);
    PROMISE(values_may_come_in_any_order_each_once);
    PROMISE(a_key_asked_for_twice_may_come_twice);
    PROMISE(each_get_line_has_its_own_end);
    PROMISE(an_error_line_ends_its_get_and_the_trust);
    PROMISE(a_marked_error_line_leaves_the_stream_in_step);
    PROMISE(behind_a_marked_error_line_values_are_taken_up_to_the_version);
    PROMISE(an_error_line_too_many_is_the_answer_to_the_version);
    PROMISE(only_a_server_error_is_marked);
    PROMISE(a_mark_is_behind_all_get_lines_that_were_sent);
    PROMISE(behind_a_mark_the_lines_sent_later_are_read_as_ever);
    PROMISE(a_run_of_values_reads_nothing_that_has_not_come);
    PROMISE(a_run_takes_one_value_behind_the_other);
    PROMISE(a_thousand_keys_may_come_in_any_order);
    PROMISE(a_value_that_no_memory_could_hold_breaks);
    PROMISE(the_index_is_of_the_keys_that_may_still_come);
    PROMISE(where_memory_is_out_it_says_so);
    return check_result();
}
