/* The promises of mcext/core/wire/error_line.h: which error lines are known, and that nothing is
 * waited for behind the one with which a server asks for authentication. */
#define _GNU_SOURCE
#include "core/wire/error_line.h"

#include "leg_story.h"

static const char *const refusals[] = {"CLIENT_ERROR unauthenticated",
                                       "CLIENT_ERROR authentication failure",
                                       "CLIENT_ERROR bad authentication token format"};

#define REFUSALS (sizeof refusals / sizeof *refusals)
#define ASKED "CLIENT_ERROR unauthenticated\r\n"

/* As the line is parsed; its text lies before a page that cannot be read. */
static bool is_unauthenticated(check_guard guard, const char *line)
{
    char text[128];
    mc_reply reply;
    size_t consumed, length = (size_t)snprintf(text, sizeof text, "%s\r\n", line);

    CHECK(mc_reply_parse(check_guard_copy(guard, text, length), length, &reply, &consumed) ==
          MC_OK);
    return mc_error_is_unauthenticated(&reply);
}

static void a_server_that_asks_for_authentication_is_known_by_three_lines(void)
{
    static const char *const others[] = {
        "CLIENT_ERROR",
        "CLIENT_ERROR unauthenticate",
        "CLIENT_ERROR unauthenticated ",
        "CLIENT_ERROR unauthenticatee",
        "CLIENT_ERROR Unauthenticated",
        "CLIENT_ERROR authentication",
        "SERVER_ERROR unauthenticated",
        "SERVER_ERROR authentication failure",
        "ERROR unauthenticated",
        "unauthenticated",
        "STORED",
    };

    check_guard guard = check_guard_new(128);

    for (size_t i = 0; i < REFUSALS; i++) {
        CHECK(is_unauthenticated(guard, refusals[i]));
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK(!is_unauthenticated(guard, others[i]));
    }
    check_guard_free(guard);
}

/* One such line may be all that comes, whatever was asked for and however many. */
static void nothing_is_waited_for_behind_it(void)
{
    for (mc_command command = MC_GET; command < MC_COMMANDS; command++) {
        mc_family family = mc_commands[command].family;
        size_t index = family == MC_FAMILY_RETRIEVAL ? 1 : 0;

        for (size_t i = 0; i < REFUSALS; i++) {
            char said[64], wanted[80];

            snprintf(said, sizeof said, "%s\r\n", refusals[i]);
            snprintf(wanted, sizeof wanted, "r%zu:%s done!", index, refusals[i]);
            if (family != MC_FAMILY_PROBE) {
                tells(ASK(command), said, wanted);
            }
            snprintf(wanted, sizeof wanted, "r0:%s broken!", refusals[i]);
            if (family != MC_FAMILY_RETRIEVAL && family != MC_FAMILY_LISTING) {
                tells(MANY(command, 2), said, wanted);
            }
        }
    }
    tells(GET(2), ASKED, "r2:CLIENT_ERROR unauthenticated done!");
    tells(GET(MC_KEYS_PER_GET + 1), ASKED, "r1000:CLIENT_ERROR unauthenticated broken!");
    tells(GET(MC_KEYS_PER_GET + 1), "END\r\n" ASKED, "r1001:CLIENT_ERROR unauthenticated done!");
    tells(MANY(MC_DELETE, 3), "DELETED\r\n" ASKED "DELETED\r\n",
          "r0:DELETED r1:CLIENT_ERROR unauthenticated broken!");
    tells(MANY(MC_META_PROBE, 2), "MN\r\n" ASKED, "r0:MN r1:CLIENT_ERROR unauthenticated done!");
}

/* The marker would be answered in the same way, so its reply never comes. */
static void it_stands_for_the_markers_reply(void)
{
    request asked = {.command = MC_GET, .replies = 1, .marker = true};

    tells(asked, ASKED, "broken!");
    tells(asked, "STORED\r\n" ASKED "VERSION 1\r\nEND\r\n", "broken!");
    tells(asked, "VERSION 1\r\n" ASKED, "r1:CLIENT_ERROR unauthenticated done!");
    asked.command = MC_DELETE;
    tells(asked, "VERSION 1\r\n" ASKED, "r0:CLIENT_ERROR unauthenticated done!");
}

static void a_marked_retrieval_breaks_with_it(void)
{
    request asked = {.command = MC_GET, .replies = 2, .mark = 2};

    tells(asked, "SERVER_ERROR x\r\n" ASKED, "r2:SERVER_ERROR x mark broken!");
    tells(asked, ASKED "VERSION 1\r\n", "r2:CLIENT_ERROR unauthenticated done!");
}

static void the_connection_is_closed_behind_it(void)
{
    tells_leg((task){.command = MC_GET, .count = 1, .said = {ASKED}}, "get k0\r\n",
              "> r1:CLIENT_ERROR unauthenticated OK");
    tells_leg((task){.command = MC_DELETE, .count = 2, .said = {ASKED}},
              "delete k0\r\ndelete k1\r\n", "> r0:CLIENT_ERROR unauthenticated MALFORMED ran");
    tells_leg((task){.command = MC_META_PROBE, .count = 1, .said = {ASKED}},
              "mn\r\nmg AA== b k O1\r\n", "> r0:CLIENT_ERROR unauthenticated MALFORMED");
    tells_leg((task){.command = MC_MG, .count = 1, .argument = "v k", .said = {ASKED}},
              "mg k0 v k\r\n", "> r0:CLIENT_ERROR unauthenticated OK");
    tells_leg(
        (task){.command = MC_INCR, .count = 1, .argument = "1", .unanswered = 1, .said = {ASKED}},
        "version\r\nincr k0 1\r\n", "> MALFORMED ran u1");
}

/* The leg of an authentication: a set that is sent once. */
static void what_is_sent_once_is_not_repeated(void)
{
    task asked = {
        .command = MC_SET, .count = 1, .value = {"name word", 9}, .once = true, .end = MC_CLOSED};
    const char *sent = "set k0 7 0 9\r\nname word\r\n";

    tells_leg(asked, sent, "> CLOSED ran");
    asked.end = MC_TIMEOUT;
    tells_leg(asked, sent, "> TIMEOUT blame ran");
    asked.said[0] = "STORED\r\n";
    tells_leg(asked, sent, "> r0:STORED OK keep");
    asked.said[0] = "STORED\r\nx";
    tells_whole(asked, text_of(sent), "> r0:STORED OK");
    asked.said[0] = "CLIENT_ERROR authentication failure\r\n";
    tells_leg(asked, sent, "> r0:CLIENT_ERROR authentication failure OK");
    asked.said[0] = "VALUE k0 0 1\r\nx\r\nEND\r\n";
    tells_leg(asked, sent, "> MALFORMED ran");
}

int main(void)
{
    name_keys();
    PROMISE(a_server_that_asks_for_authentication_is_known_by_three_lines);
    PROMISE(nothing_is_waited_for_behind_it);
    PROMISE(it_stands_for_the_markers_reply);
    PROMISE(a_marked_retrieval_breaks_with_it);
    PROMISE(the_connection_is_closed_behind_it);
    PROMISE(what_is_sent_once_is_not_repeated);
    return check_result();
}
