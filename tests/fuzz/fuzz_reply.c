/* fuzz_reply: a line is taken for what protocol.txt says it is; a cut line asks for more; what
 * stands behind a line changes nothing; nothing is read or consumed past the input. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/wire/reply.h"

#define MOST_WORDS 8

typedef struct {
    const char *at[MOST_WORDS];
    size_t length[MOST_WORDS];
    size_t count; /* MOST_WORDS: that many or more */
} words;

/* Cut at each single space; empty words count. */
static words cut(const char *line, size_t length)
{
    words found = {.count = 0};
    size_t start = 0;

    for (size_t i = 0; i <= length && found.count < MOST_WORDS; i++) {
        if (i == length || line[i] == ' ') {
            found.at[found.count] = line + start;
            found.length[found.count++] = i - start;
            start = i + 1;
        }
    }
    return found;
}

static bool word_is(const words *all, size_t which, const char *text)
{
    return which < all->count && fuzz_same(all->at[which], all->length[which], text);
}

/* The oracle: the type of a line without its CRLF; -1 where it is malformed. */
static int expect(const char *line, size_t length, const words *all)
{
    static const struct {
        const char *word;
        mc_reply_type type;
        size_t least, most; /* words on the line */
    } table[] = {
        {"END", MC_REPLY_END, 1, 1},
        {"STORED", MC_REPLY_STORED, 1, 1},
        {"NOT_STORED", MC_REPLY_NOT_STORED, 1, 1},
        {"EXISTS", MC_REPLY_EXISTS, 1, 1},
        {"NOT_FOUND", MC_REPLY_NOT_FOUND, 1, 1},
        {"DELETED", MC_REPLY_DELETED, 1, 1},
        {"TOUCHED", MC_REPLY_TOUCHED, 1, 1},
        {"OK", MC_REPLY_OK, 1, 1},
        {"RESET", MC_REPLY_RESET, 1, 1},
        {"VERSION", MC_REPLY_VERSION, 2, MOST_WORDS},
        {"STAT", MC_REPLY_STAT, 2, MOST_WORDS},
        {"ITEM", MC_REPLY_STAT, 2, MOST_WORDS},
        {"PREFIX", MC_REPLY_STAT, 2, MOST_WORDS},
        {"ERROR", MC_REPLY_ERROR, 1, MOST_WORDS},
        {"CLIENT_ERROR", MC_REPLY_CLIENT_ERROR, 1, MOST_WORDS},
        {"SERVER_ERROR", MC_REPLY_SERVER_ERROR, 1, MOST_WORDS},
    };

    if (length > 6 && word_is(all, 0, "VALUE")) {
        bool right = all->count == 4 || all->count == 5;

        right = right && all->length[1] > 0;
        right = right && fuzz_is_number(all->at[2], all->length[2], FUZZ_U32_MAX);
        right = right && fuzz_is_number(all->at[3], all->length[3], FUZZ_U64_MAX);
        right =
            right && (all->count == 4 || fuzz_is_number(all->at[4], all->length[4], FUZZ_U64_MAX));
        return right ? (int)MC_REPLY_VALUE : -1;
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (word_is(all, 0, table[i].word) && all->count >= table[i].least &&
            all->count <= table[i].most) {
            return (int)table[i].type;
        }
    }
    return fuzz_is_number(line, length, FUZZ_U64_MAX) ? MC_REPLY_NUMBER : MC_REPLY_OTHER;
}

static void fields_are(const mc_reply *reply, const words *all)
{
    const char *end = reply->line.bytes + reply->line.length;

    switch (reply->type) {
    case MC_REPLY_VALUE:
        PROMISED(reply->key.bytes == all->at[1] && reply->key.length == all->length[1]);
        PROMISED(reply->flags == fuzz_number(all->at[2], all->length[2]));
        PROMISED(reply->length == fuzz_number(all->at[3], all->length[3]));
        PROMISED(reply->has_cas == (all->count == 5));
        PROMISED(!reply->has_cas || reply->cas == fuzz_number(all->at[4], all->length[4]));
        break;
    case MC_REPLY_STAT:
        PROMISED(reply->key.bytes == all->at[1] && reply->key.length == all->length[1]);
        if (all->count > 2) {
            PROMISED(reply->text.bytes == all->at[2]);
        }
        PROMISED(reply->text.bytes + reply->text.length == end);
        break;
    case MC_REPLY_VERSION:
    case MC_REPLY_ERROR:
    case MC_REPLY_CLIENT_ERROR:
    case MC_REPLY_SERVER_ERROR:
        if (all->count > 1) {
            PROMISED(reply->text.bytes == all->at[1]);
        }
        PROMISED(reply->text.bytes + reply->text.length == end);
        break;
    case MC_REPLY_NUMBER:
        PROMISED(reply->number == fuzz_number(reply->line.bytes, reply->line.length));
        break;
    default:
        PROMISED(reply->key.length == 0 && reply->text.length == 0);
    }
}

/* Each way to cut the line short of its line feed asks for more; long lines at some places only. */
static void cuts_ask_for_more(const char *line, size_t length)
{
    size_t step = length < 16 ? 1 : length / 8;

    for (size_t cut_at = 0; cut_at < length; cut_at += step) {
        mc_reply reply;
        size_t consumed = 4242;

        PROMISED(mc_reply_parse(fuzz_guarded(line, cut_at, 1), cut_at, &reply, &consumed) ==
                 MC_AGAIN);
        PROMISED(consumed == 4242);
    }
}

/* The first line of data; how much it took, 0 where nothing more can be taken. */
static size_t one_line(const char *data, size_t size)
{
    size_t end = 0;
    mc_reply reply;
    size_t consumed = 4242;
    mc_status status = mc_reply_parse(data, size, &reply, &consumed);

    while (end < size && data[end] != '\n') {
        end++;
    }
    if (end >= MC_LINE_MAX) {
        PROMISED(status == MC_MALFORMED);
        return 0;
    }
    if (end == size) {
        PROMISED(status == MC_AGAIN && consumed == 4242);
        return 0;
    }
    if (end == 0 || data[end - 1] != '\r') {
        PROMISED(status == MC_MALFORMED);
        return 0;
    }
    cuts_ask_for_more(data, end);
    words all = cut(data, end - 1);
    int type = expect(data, end - 1, &all);
    if (type < 0) {
        PROMISED(status == MC_MALFORMED);
        return 0;
    }
    PROMISED(status == MC_OK && (int)reply.type == type);
    PROMISED(consumed == end + 1 && consumed <= size);
    PROMISED(reply.line.bytes == data && reply.line.length == end - 1);
    fields_are(&reply, &all);

    mc_reply alone;
    size_t alone_consumed = 0;
    PROMISED(mc_reply_parse(fuzz_guarded(data, end + 1, 1), end + 1, &alone, &alone_consumed) ==
             MC_OK);
    PROMISED(alone.type == reply.type && alone_consumed == consumed);
    return consumed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    const char *at = fuzz_guarded(data, size, 0);

    for (size_t taken; (taken = one_line(at, size)) != 0;) {
        at += taken;
        size -= taken;
    }
    return 0;
}
