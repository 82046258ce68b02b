/* The promises of mcext/core/flow/leg.h about what is laid out, and what is told of its replies:
 * the same however the bytes come and go. How a leg ends: test_leg_ends.c. */
#define _GNU_SOURCE
#include "leg_story.h"

#define ONE(what, ...) ((task){.command = what, .count = 1, __VA_ARGS__})
#define MANY_OF(what, number, ...) ((task){.command = what, .count = number, __VA_ARGS__})
#define X .value = {"x", 1}

static void a_get_of_one_key(void)
{
    tells_leg(ONE(MC_GET, .said = {"VALUE k0 7 5\r\nhello\r\nEND\r\n"}), "get k0\r\n",
              "> v0=hello OK keep");
    tells_leg(ONE(MC_GET, .said = {"VALUE k0 0 0\r\n\r\nEND\r\n"}), "get k0\r\n", "> v0= OK keep");
    tells_leg(ONE(MC_GET, .said = {"END\r\n"}), "get k0\r\n", "> OK keep");
    tells_leg(ONE(MC_GETS, .said = {"VALUE k0 0 1 9\r\nx\r\nEND\r\n"}), "gets k0\r\n",
              "> v0=x OK keep");
    tells_leg(ONE(MC_GETS, .said = {"VALUE k0 0 1\r\nx\r\nEND\r\n"}), "gets k0\r\n", "> MALFORMED");
    tells_leg(ONE(MC_GET, .max_length = 4, .said = {"VALUE k0 0 4\r\nxxxx\r\nEND\r\n"}),
              "get k0\r\n", "> v0=xxxx OK keep");
    tells_leg(ONE(MC_GET, .max_length = 4, .said = {"VALUE k0 0 5\r\nxxxxx\r\nEND\r\n"}),
              "get k0\r\n", "> MALFORMED");
}

static void each_storage_command(void)
{
    static const char *const begins[] = {"set", "add", "replace", "append", "prepend", "cas"};
    static const uint64_t cas = UINT64_MAX;

    for (mc_command command = MC_SET; command <= MC_CAS; command++) {
        task asked = ONE(command, X, .said = {"STORED\r\n"});
        char sent[64];

        asked.cas = command == MC_CAS ? &cas : NULL;
        snprintf(sent, sizeof sent, "%s k0 7 0 1%s\r\nx\r\n", begins[command - MC_SET],
                 asked.cas != NULL ? " 18446744073709551615" : "");
        tells_leg(asked, sent, "> r0:STORED OK keep");
        asked.said[0] = "NOT_STORED\r\n";
        tells_leg(asked, sent, "> r0:NOT_STORED OK keep");
        asked.said[0] = "SERVER_ERROR out of memory storing object\r\n";
        tells_leg(asked, sent, "> r0:SERVER_ERROR out of memory storing object OK keep");
        asked.said[0] = "SERVER_ERROR x\r\n";
        tells_leg(asked, sent, "> r0:SERVER_ERROR x OK");
        asked.said[0] = "DELETED\r\n";
        tells_leg(asked, sent, "> MALFORMED ran");
    }
}

static void each_command_that_is_a_line(void)
{
    tells_leg(ONE(MC_INCR, .argument = "5", .said = {"12\r\n"}), "incr k0 5\r\n",
              "> r0:12 OK keep");
    tells_leg(ONE(MC_DECR, .argument = "5", .said = {"18446744073709551615\r\n"}), "decr k0 5\r\n",
              "> r0:18446744073709551615 OK keep");
    tells_leg(ONE(MC_INCR, .argument = "5", .said = {"NOT_FOUND\r\n"}), "incr k0 5\r\n",
              "> r0:NOT_FOUND OK keep");
    tells_leg(ONE(MC_INCR, .argument = "5", .said = {"18446744073709551616\r\n"}), "incr k0 5\r\n",
              "> MALFORMED ran");
    tells_leg(ONE(MC_DELETE, .said = {"DELETED\r\n"}), "delete k0\r\n", "> r0:DELETED OK keep");
    tells_leg(ONE(MC_TOUCH, .argument = "60", .said = {"TOUCHED\r\n"}), "touch k0 60\r\n",
              "> r0:TOUCHED OK keep");
    tells_leg(ONE(MC_FLUSH_ALL, .said = {"OK\r\n"}), "flush_all\r\n", "> r0:OK OK keep");
    tells_leg(ONE(MC_FLUSH_ALL, .argument = "9", .said = {"OK\r\n"}), "flush_all 9\r\n",
              "> r0:OK OK keep");
    tells_leg(ONE(MC_VERSION, .said = {"VERSION 1\r\n"}), "version\r\n", "> r0:VERSION 1 OK keep");
    tells_leg(ONE(MC_DELETE, .said = {"ERROR\r\n"}), "delete k0\r\n", "> r0:ERROR OK");
}

static void a_listing(void)
{
    tells_leg(ONE(MC_STATS, .said = {"STAT a 1\r\nSTAT b 2\r\nEND\r\n"}), "stats\r\n",
              "> r0:STAT a 1 r1:STAT b 2 OK keep");
    tells_leg(ONE(MC_STATS, .argument = "reset", .said = {"RESET\r\n"}), "stats reset\r\n",
              "> OK keep");
    tells_leg(ONE(MC_STATS, .said = {"STAT a 1\r\nERROR\r\n"}), "stats\r\n",
              "> r0:STAT a 1 r1:ERROR OK");
    tells_leg(ONE(MC_STATS, .said = {"STAT a 1\r\nSTORED\r\n"}), "stats\r\n",
              "> r0:STAT a 1 MALFORMED");
}

static void several_commands_and_those_left_out(void)
{
    tells_leg(MANY_OF(MC_SET, 3, X, .said = {"STORED\r\nNOT_STORED\r\nSTORED\r\n"}),
              "set k0 7 0 1\r\nx\r\nset k1 7 0 1\r\nx\r\nset k2 7 0 1\r\nx\r\n",
              "> r0:STORED r1:NOT_STORED r2:STORED OK keep");
    tells_leg(MANY_OF(MC_SET, 4, X, .left_out = 5, .said = {"STORED\r\nSTORED\r\n"}),
              "set k1 7 0 1\r\nx\r\nset k3 7 0 1\r\nx\r\n", "> r0:STORED r1:STORED OK keep");
    tells_leg(MANY_OF(MC_DELETE, 2, .left_out = 2, .said = {"NOT_FOUND\r\n"}), "delete k0\r\n",
              "> r0:NOT_FOUND OK keep");
    tells_leg(MANY_OF(MC_SET, 3, X, .left_out = 7), "", "OK keep");
    tells_leg(MANY_OF(MC_SET, 3, X, .left_out = 7, .unanswered = 2, .said = {"VERSION 1\r\n"}),
              "version\r\n", "> OK keep");
    tells_leg(MANY_OF(MC_SET, 2, X, .said = {"CLIENT_ERROR bad data chunk\r\nSTORED\r\n"}),
              "set k0 7 0 1\r\nx\r\nset k1 7 0 1\r\nx\r\n",
              "> r0:CLIENT_ERROR bad data chunk MALFORMED ran");
}

/* What a retrieval of all the keys sends. */
static char sent[MOST_SENT], said[MOST_SENT], wanted[1 << 16];
static size_t sent_length, said_length, wanted_length;

static void write_all(char *to, size_t *length, const char *text)
{
    memcpy(to + *length, text, strlen(text) + 1);
    *length += strlen(text);
}

static void write_gets(size_t count, const char *between)
{
    sent_length = 0;
    for (size_t i = 0; i < count; i++) {
        write_all(sent, &sent_length, i % MC_KEYS_PER_GET != 0 ? " " : i ? between : "get ");
        write_all(sent, &sent_length, names[i]);
    }
    write_all(sent, &sent_length, "\r\n");
}

static void a_retrieval_of_more_keys_than_a_line_has(void)
{
    write_gets(2002, "\r\nget ");
    tells_leg(MANY_OF(MC_GET, 2002,
                      .said = {"VALUE k5 0 1\r\na\r\nVALUE k999 0 1\r\nb\r\nEND\r\n"
                               "END\r\nVALUE k2001 0 1\r\nc\r\nVALUE k2000 0 1\r\nd\r\nEND\r\n"}),
              sent, "> v5=a v999=b v2001=c v2000=d OK keep");
    tells_leg(MANY_OF(MC_GET, 2002, .said = {"END\r\nVALUE k5 0 1\r\na\r\n"}), sent, "> MALFORMED");
    tells_leg(MANY_OF(MC_GET, 2002, .in_turn = true,
                      .said = {"VALUE k5 0 1\r\na\r\nEND\r\n", "VALUE k1000 0 1\r\nb\r\nEND\r\n",
                               "END\r\n"}),
              sent, "> v5=a > v1000=b > OK keep");
}

static void all_values_of_a_retrieval(void)
{
    said_length = wanted_length = 0;
    write_gets(1500, "\r\nget ");
    write_all(wanted, &wanted_length, "> ");
    for (size_t i = 0; i < 1500; i++) {
        char text[64];

        snprintf(text, sizeof text, "VALUE %.7s 0 %zu\r\n%.7s\r\n%s", names[i], strlen(names[i]),
                 names[i], i == 999 || i == 1499 ? "END\r\n" : "");
        write_all(said, &said_length, text);
        snprintf(text, sizeof text, "v%zu=%.7s ", i, names[i]);
        write_all(wanted, &wanted_length, text);
    }
    write_all(wanted, &wanted_length, "OK keep");

    task asked = MANY_OF(MC_GET, 1500, .said = {said});
    mc_slice all = {sent, sent_length};

    tells_whole(asked, all, wanted);
    for (size_t piece = 1; piece < 2000; piece = piece * 2 + 1) {
        tell_once(&asked, (telling){piece, piece, piece, piece & 2}, all, wanted);
    }
}

/* count commands "set" of so long a value, each with the batches' ends where it should be. */
static void write_sets(size_t count, size_t length, const char *more)
{
    sent_length = said_length = 0;
    for (size_t i = 0; i < count; i++) {
        sent_length += (size_t)snprintf(sent + sent_length, 64, "set %s 7 0 %zu%s\r\n", names[i],
                                        length, more);
        memset(sent + sent_length, 'x', length);
        memcpy(sent + sent_length + length, "\r\n", 2);
        sent_length += length + 2;
        if (*more == '\0') {
            write_all(said, &said_length, "STORED\r\n");
        }
    }
}

static void expect_stored(const char *batches, size_t count)
{
    wanted_length = 0;
    write_all(wanted, &wanted_length, batches);
    for (size_t i = 0; i < count; i++) {
        char text[32];

        snprintf(text, sizeof text, "r%zu:STORED ", i);
        write_all(wanted, &wanted_length, text);
    }
    write_all(wanted, &wanted_length, "OK keep");
}

static void many_values_go_out_in_batches_copied_or_from_where_they_lie(void)
{
    static char value[40000];
    static const struct {
        size_t length;
        bool stays, many_pieces;
        const char *batches;
    } table[] = {
        {5000, false, false, "> > "}, /* 262144 bytes each, and what the last one has more */
        {5000, true, true, "> > "},
        {8192, true, true, "> > > "},
        {8193, true, true, "> > > > "}, /* 31 values from where they lie are a batch */
        {8193, false, true, "> > > "},
        {40000, true, true, "> > > > > > > > "}, /* seven are 280000 bytes */
    };

    memset(value, 'x', sizeof value);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t count = table[i].length == 40000 ? 50 : 96;
        task asked = MANY_OF(MC_SET, count, .value = {value, table[i].length}, .said = {said});

        asked.stays = table[i].stays;
        asked.many_pieces = table[i].many_pieces;
        write_sets(count, table[i].length, "");
        expect_stored(table[i].batches, count);
        tells_whole(asked, (mc_slice){sent, sent_length}, wanted);
        for (size_t cut = 1; cut < said_length; cut += 5) {
            tell_once(&asked, (telling){cut, cut, 7001, cut & 1}, (mc_slice){sent, sent_length},
                      wanted);
        }
        tell_once(&asked, (telling){1, 1, 1, false}, (mc_slice){sent, sent_length}, wanted);
    }
}

/* From where it lies, with room of its own for one. */
static void large_values_one_by_one(void)
{
    static char value[20000];
    task asked = ONE(MC_SET, .value = {value, 16384}, .stays = true, .said = {said});

    memset(value, 'x', sizeof value);
    for (size_t length = 16383; length <= 16385; length++) {
        asked.value.length = length;
        write_sets(1, length, "");
        tells_bytes(asked, (mc_slice){sent, sent_length}, "> r0:STORED OK keep");
    }
    asked = MANY_OF(MC_SET, 3, .value = {value, 9000}, .stays = true, .said = {said});
    write_sets(3, 9000, "");
    tells_bytes(asked, (mc_slice){sent, sent_length},
                "> > > r0:STORED r1:STORED r2:STORED OK keep");
    asked.noreply = true;
    write_sets(3, 9000, " noreply");
    tells_bytes(asked, (mc_slice){sent, sent_length}, "> > > OK keep u3");
}

static void large_bodies_come_into_their_room(void)
{
    static const size_t lengths[] = {2000, 16383, 16384, 16385, 60000};

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        task asked = ONE(MC_GET, .said = {said});

        said_length = (size_t)sprintf(said, "VALUE k0 0 %zu\r\n", lengths[i]);
        memset(said + said_length, 'b', lengths[i]);
        strcpy(said + said_length + lengths[i], "\r\nEND\r\n");
        said_length += lengths[i] + 7;
        wanted_length = (size_t)sprintf(wanted, "> v0=");
        memset(wanted + wanted_length, 'b', lengths[i]);
        strcpy(wanted + wanted_length + lengths[i], " OK keep");
        tells_whole(asked, text_of("get k0\r\n"), wanted);
        for (size_t cut = 1; cut < said_length;
             cut += cut < 40 || cut + 40 > said_length ? 1 : 997) {
            tell_once(&asked, (telling){cut, MOST_SENT, 1, cut & 1}, text_of("get k0\r\n"), wanted);
            tell_once(&asked, (telling){cut, 333, 1, ~cut & 1}, text_of("get k0\r\n"), wanted);
        }
    }
}

static void in_turn_a_batch_waits_for_its_replies(void)
{
    static char value[9000];
    task asked = MANY_OF(MC_SET, 3, .value = {value, 9000}, .stays = true, .in_turn = true,
                         .said = {"STORED\r\n", "NOT_STORED\r\n", "STORED\r\n"});

    memset(value, 'x', sizeof value);
    write_sets(3, 9000, "");
    tells_bytes(asked, (mc_slice){sent, sent_length},
                "> r0:STORED > r1:NOT_STORED > r2:STORED OK keep");
    asked.left_out = 2;
    asked.said[1] = "STORED\r\n";
    memmove(sent + sent_length / 3, sent + 2 * (sent_length / 3), sent_length / 3);
    tells_bytes(asked, (mc_slice){sent, 2 * (sent_length / 3)}, "> r0:STORED > r1:STORED OK keep");
    asked.left_out = 0;
    asked.noreply = true; /* nothing to wait for */
    write_sets(3, 9000, " noreply");
    tells_bytes(asked, (mc_slice){sent, sent_length}, "> > > OK keep u3");
    tells_leg(MANY_OF(MC_DELETE, 2, .in_turn = true, .said = {"DELETED\r\nDELETED\r\n"}),
              "delete k0\r\ndelete k1\r\n", "> r0:DELETED r1:DELETED OK keep");
    tells_leg(ONE(MC_GET, .in_turn = true, .unanswered = 1, .said = {"VERSION 1\r\nEND\r\n"}),
              "version\r\nget k0\r\n", "> OK keep");
}

static void commands_without_a_reply(void)
{
    tells_leg(ONE(MC_SET, X, .noreply = true), "set k0 7 0 1 noreply\r\nx\r\n", "> OK keep u1");
    tells_leg(MANY_OF(MC_DELETE, 2, .noreply = true, .unanswered = 3),
              "delete k0 noreply\r\ndelete k1 noreply\r\n", "> OK keep u5");
    tells_leg(ONE(MC_INCR, .argument = "1", .noreply = true, .unanswered = 511),
              "incr k0 1 noreply\r\n", "> OK keep u512");
    tells_leg(ONE(MC_INCR, .argument = "1", .noreply = true, .unanswered = 512,
                  .said = {"VERSION 1\r\n"}),
              "incr k0 1 noreply\r\nversion\r\n", "> OK keep");
    tells_leg(ONE(MC_SET, X, .noreply = true, .probe = true,
                  .said = {"ERROR\r\nSTORED\r\nVERSION 1\r\n"}),
              "set k0 7 0 1 noreply\r\nx\r\nversion\r\n", "> OK keep");
    tells_leg(ONE(MC_SET, X, .noreply = true, .probe = true, .said = {"VALUE k0 0 1\r\n"}),
              "set k0 7 0 1 noreply\r\nx\r\nversion\r\n", "> MALFORMED ran u1");
    tells_leg(MANY_OF(MC_SET, 3, X, .noreply = true, .left_out = 2),
              "set k0 7 0 1 noreply\r\nx\r\nset k2 7 0 1 noreply\r\nx\r\n", "> OK keep u2");
}

static void behind_unanswered_commands_the_marker_goes_first(void)
{
    tells_leg(ONE(MC_GET, .unanswered = 9, .said = {"VERSION 1\r\nVALUE k0 0 1\r\nx\r\nEND\r\n"}),
              "version\r\nget k0\r\n", "> v0=x OK keep");
    tells_leg(ONE(MC_SET, X, .unanswered = 1, .said = {"ERROR\r\nOK\r\nVERSION 1\r\nSTORED\r\n"}),
              "version\r\nset k0 7 0 1\r\nx\r\n", "> r0:STORED OK keep");
    tells_leg(ONE(MC_INCR, .argument = "1", .unanswered = 1, .said = {"VERSION 1\r\n7\r\n"}),
              "version\r\nincr k0 1\r\n", "> r0:7 OK keep");
    tells_leg(ONE(MC_GET, .unanswered = 1, .said = {"END\r\n"}, .end = MC_TIMEOUT),
              "version\r\nget k0\r\n", "> TIMEOUT blame u1");
    tells_leg(ONE(MC_DELETE, .unanswered = 1, .said = {"VERSION 1\r\nSERVER_ERROR x\r\n"}),
              "version\r\ndelete k0\r\n", "> r0:SERVER_ERROR x OK");
    tells_leg(ONE(MC_STATS, .unanswered = 1, .said = {"VERSION 1\r\nEND\r\n"}),
              "version\r\nstats\r\n", "> OK keep");
}

static void behind_an_error_line_to_a_retrieval_a_marker_is_owed(void)
{
    tells_leg(ONE(MC_GET, .said = {"SERVER_ERROR x\r\n", "VERSION 1\r\n"}), "get k0\r\nversion\r\n",
              "> r1:SERVER_ERROR x > OK keep");
    tells_leg(ONE(MC_GET, .said = {"SERVER_ERROR x\r\nEND\r\n", "VERSION 1\r\n"}),
              "get k0\r\nversion\r\n", "> r1:SERVER_ERROR x > OK keep");
    tells_leg(MANY_OF(MC_GET, 3,
                      .said = {"VALUE k1 0 1\r\na\r\nSERVER_ERROR backend failure\r\n",
                               "VALUE k2 0 1\r\nb\r\nEND\r\nVERSION 1\r\n"}),
              "get k0 k1 k2\r\nversion\r\n",
              "> v1=a r3:SERVER_ERROR backend failure > v2=b OK keep");
    tells_leg(ONE(MC_GET, .said = {"SERVER_ERROR x\r\n", "ERROR\r\n"}), "get k0\r\nversion\r\n",
              "> r1:SERVER_ERROR x > MALFORMED answered");
    tells_leg(ONE(MC_GET, .said = {"CLIENT_ERROR x\r\n"}), "get k0\r\n", "> r1:CLIENT_ERROR x OK");
    tells_leg(ONE(MC_GET, .unanswered = 1, .said = {"VERSION 1\r\nSERVER_ERROR x\r\n"}),
              "version\r\nget k0\r\n", "> r1:SERVER_ERROR x OK");
    write_gets(1001, "\r\nget ");
    write_all(sent, &sent_length, "version\r\n");
    tells_leg(
        MANY_OF(MC_GET, 1001, .said = {"SERVER_ERROR x\r\nSERVER_ERROR x\r\n", "VERSION 1\r\n"}),
        sent, "> r1000:SERVER_ERROR x > OK keep");
    write_gets(1001, "\r\nversion\r\nget ");
    tells_leg(
        MANY_OF(MC_GET, 1001, .in_turn = true,
                .said = {"SERVER_ERROR x\r\n", "VERSION 1\r\nVALUE k1000 0 1\r\na\r\nEND\r\n"}),
        sent, "> r1000:SERVER_ERROR x > v1000=a OK keep");
}

int main(void)
{
    name_keys();
    PROMISE(a_get_of_one_key);
    PROMISE(each_storage_command);
    PROMISE(each_command_that_is_a_line);
    PROMISE(a_listing);
    PROMISE(several_commands_and_those_left_out);
    PROMISE(a_retrieval_of_more_keys_than_a_line_has);
    PROMISE(all_values_of_a_retrieval);
    PROMISE(many_values_go_out_in_batches_copied_or_from_where_they_lie);
    PROMISE(large_values_one_by_one);
    PROMISE(large_bodies_come_into_their_room);
    PROMISE(in_turn_a_batch_waits_for_its_replies);
    PROMISE(commands_without_a_reply);
    PROMISE(behind_unanswered_commands_the_marker_goes_first);
    PROMISE(behind_an_error_line_to_a_retrieval_a_marker_is_owed);
    return check_result();
}
