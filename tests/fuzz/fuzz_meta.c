/* fuzz_meta: any bytes as what a server says to mg, md or the probe. A line is taken for what
 * protocol.txt says it is, by an oracle that reads it from its end; the same bytes in one piece and
 * in any split tell the same story; a value names the key that was asked for, in order; what is
 * known at one look is what the events tell.
 *
 * Input: command and marker, number of commands, split, then the stream. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/flow/leg.h"
#include "core/wire/meta.h"

#define HEADER 3
#define ROOM ((size_t)1 << 16)
#define MOST_KEYS 5

static const mc_slice keys[MOST_KEYS] = {{"k0", 2}, {"k1", 2}, {"k10", 3}, {"k1", 2}, {"a=b", 3}};
static const char letters[] = "cfhklstWXZ";

/* ---- a line ---- */

typedef struct {
    mc_reply_type type; /* MC_REPLY_OTHER: no meta line */
    bool malformed;
    const char *value[sizeof letters - 1]; /* of each letter, where it is there */
    size_t length[sizeof letters - 1];
    uint64_t size;
} meaning;

static bool is_value_of(char letter, const char *text, size_t length)
{
    switch (letter) {
    case 'c':
    case 'l':
    case 's':
        return fuzz_is_number(text, length, FUZZ_U64_MAX);
    case 'f':
        return fuzz_is_number(text, length, FUZZ_U32_MAX);
    case 'h':
        return fuzz_is_number(text, length, "1");
    case 't':
        return fuzz_same(text, length, "-1") || fuzz_is_number(text, length, "9223372036854775807");
    case 'k':
        return length != 0;
    default:
        return length == 0;
    }
}

/* The words of the line, the last one first; the first one is its code. */
static meaning read_line(const char *line, size_t length)
{
    static const struct {
        const char *code;
        mc_reply_type type;
    } codes[] = {{"VA", MC_REPLY_VALUE}, {"HD", MC_REPLY_HD}, {"OK", MC_REPLY_HD},
                 {"EN", MC_REPLY_EN},    {"NF", MC_REPLY_NF}, {"EX", MC_REPLY_EX},
                 {"MN", MC_REPLY_MN}};
    meaning found = {.type = MC_REPLY_OTHER};
    size_t end = length, words = 0, first = 0;
    const char *size = NULL;
    size_t size_length = 0;

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (length >= 2 && memcmp(line, codes[i].code, 2) == 0 && (length == 2 || line[2] == ' ')) {
            found.type = codes[i].type;
        }
    }
    if (found.type == MC_REPLY_OTHER) {
        return found;
    }
    if (found.type == MC_REPLY_VALUE) { /* its first word behind the code is the size */
        for (first = 2; first < length && line[first] == ' '; first++) {
        }
        for (size = line + first; first < length && line[first] != ' '; first++) {
        }
        size_length = (size_t)(line + first - size);
        found.malformed = !fuzz_is_number(size, size_length, FUZZ_U64_MAX);
        found.size = found.malformed ? 0 : fuzz_number(size, size_length);
    }
    for (size_t begin = length; begin > (first > 2 ? first : 2); begin--) {
        if (line[begin - 1] != ' ') {
            continue;
        }
        const char *word = line + begin;
        size_t rest = end - begin;
        const char *letter = rest != 0 ? memchr(letters, *word, sizeof letters - 1) : NULL;

        end = begin - 1;
        words++;
        if (letter != NULL) {
            found.malformed |= found.value[letter - letters] != NULL;
            found.value[letter - letters] = word + 1;
            found.length[letter - letters] = rest - 1;
            found.malformed |= !is_value_of(*letter, word + 1, rest - 1);
        }
    }
    PROMISED(words <= length);
    return found;
}

static size_t index_of(char letter)
{
    return (size_t)(strchr(letters, letter) - letters);
}

static uint64_t number_of(const meaning *found, char letter)
{
    size_t i = index_of(letter);

    return found->value[i] == NULL ? 0 : fuzz_number(found->value[i], found->length[i]);
}

static void same_meaning(const mc_reply *reply, const meaning *found)
{
    size_t k = index_of('k'), t = index_of('t');
    uint64_t bits = 0;

    PROMISED(reply->type == found->type);
    for (size_t i = 0; i < sizeof letters - 1; i++) {
        PROMISED(mc_meta_has(reply, letters[i]) == (found->value[i] != NULL));
        bits |= (uint64_t)(found->value[i] != NULL) << (letters[i] - 'A');
    }
    PROMISED(reply->letters == bits);
    PROMISED(reply->has_cas == mc_meta_has(reply, 'c') && reply->cas == number_of(found, 'c'));
    PROMISED(reply->flags == number_of(found, 'f') && reply->size == number_of(found, 's'));
    PROMISED(reply->age == number_of(found, 'l') && reply->was_hit == (number_of(found, 'h') != 0));
    if (found->value[t] != NULL && found->value[t][0] == '-') {
        PROMISED(reply->ttl == -1);
    }
    else {
        PROMISED(reply->ttl >= 0 && (uint64_t)reply->ttl == number_of(found, 't'));
    }
    PROMISED(reply->key.length == found->length[k]);
    PROMISED(found->value[k] == NULL || reply->key.bytes == found->value[k]);
    PROMISED(found->type != MC_REPLY_VALUE || reply->length == found->size);
}

static void judge_line(const char *bytes, size_t size)
{
    const char *text = fuzz_guarded(bytes, size, 1);
    const char *feed =
        size != 0 ? memchr(text, '\n', size < MC_LINE_MAX ? size : MC_LINE_MAX) : NULL;
    mc_slice hints[] = {{NULL, 0}, {"k0", 2}, {"k", 1}};

    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        mc_reply reply;
        size_t consumed = 0;
        memset(&reply, 0xee, sizeof reply);
        mc_status status = mc_meta_parse(text, size, hints[i], &reply, &consumed);

        if (feed == NULL) {
            PROMISED(status == (size < MC_LINE_MAX ? MC_AGAIN : MC_MALFORMED));
            continue;
        }
        if (feed == text || feed[-1] != '\r') {
            PROMISED(status == MC_MALFORMED);
            continue;
        }
        size_t length = (size_t)(feed - 1 - text);
        meaning found = read_line(text, length);

        if (found.type == MC_REPLY_OTHER) {
            mc_reply other;
            mc_status known = mc_reply_parse(text, size, &other, &consumed);

            PROMISED(status == known);
            PROMISED(other.type == MC_REPLY_VALUE ? reply.type == MC_REPLY_OTHER
                                                  : reply.type == other.type);
            PROMISED(status != MC_OK || reply.letters == 0);
            continue;
        }
        PROMISED((status == MC_MALFORMED) == found.malformed);
        if (status == MC_OK) {
            PROMISED(consumed == length + 2);
            PROMISED(reply.line.bytes == text && reply.line.length == length);
            same_meaning(&reply, &found);
        }
    }
}

/* Of a hit in one look: what the line says, and the rest is its body. */
static void judge_hit(const char *bytes, size_t size)
{
    const char *text = fuzz_guarded(bytes, size, 1);
    mc_reply reply;
    mc_slice body;

    for (size_t i = 0; i < MOST_KEYS; i++) {
        if (!mc_meta_match_hit(text, size, keys[i], &reply, &body)) {
            continue;
        }
        meaning found = read_line(text, reply.line.length);

        PROMISED(!found.malformed && text[reply.line.length] == '\r');
        same_meaning(&reply, &found);
        PROMISED(body.bytes == text + reply.line.length + 2 && body.length == found.size);
        PROMISED(body.bytes + body.length + 2 == text + size);
        PROMISED(memcmp(text + size - 2, "\r\n", 2) == 0);
    }
}

/* ---- a stream ---- */

typedef struct {
    mc_command command;
    size_t count;
    bool marker;
    const char *stream;
    size_t size;
} request;

typedef struct {
    uint64_t hash;
    size_t answers;
    bool ended, done, clean;
} story;

static void mix(story *told, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < length; i++) {
        told->hash = (told->hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
}

/* While the views of the reply are valid: it is about the command whose turn it is. */
static void check_answer(const story *told, const request *asked, const mc_exchange *exchange)
{
    const mc_reply *reply = &exchange->reply;
    mc_slice key = keys[exchange->index];
    bool is_error = mc_reply_is_error(reply->type);

    PROMISED(exchange->index == told->answers && told->answers < asked->count);
    PROMISED(asked->command == MC_MG || reply->type != MC_REPLY_VALUE);
    if (!is_error && asked->command != MC_META_PROBE) {
        PROMISED(reply->key.length != 0 || reply->type != MC_REPLY_VALUE);
        PROMISED(reply->key.length == 0 || (reply->key.length == key.length &&
                                            memcmp(reply->key.bytes, key.bytes, key.length) == 0));
    }
}

/* Of a value that is filled into room, once it is whole. */
static void answered(story *told, const mc_reply *reply, const char *bytes, size_t length)
{
    told->answers++;
    mix(told, &reply->type, sizeof reply->type);
    if (!mc_reply_is_error(reply->type)) {
        mix(told, &reply->letters, sizeof reply->letters);
        mix(told, &reply->cas, sizeof reply->cas);
        mix(told, &reply->flags, sizeof reply->flags);
    }
    mix(told, bytes, length);
}

static char room[ROOM];

/* Takes events until there are no more; true where the exchange has ended. */
static bool pull(story *told, const request *asked, mc_exchange *exchange)
{
    for (;;) {
        mc_event event = mc_exchange_next(exchange);
        const mc_reply *reply = &exchange->reply;

        switch (event) {
        case MC_EVENT_AGAIN:
            return false;
        case MC_EVENT_VALUE:
            check_answer(told, asked, exchange);
            if (exchange->body != NULL) {
                answered(told, reply, exchange->body, (size_t)reply->length);
            }
            else {
                mc_exchange_give_room(exchange, room);
            }
            break;
        case MC_EVENT_FILLED:
            answered(told, reply, room, (size_t)reply->length);
            break;
        case MC_EVENT_REPLY:
            check_answer(told, asked, exchange);
            answered(told, reply, reply->line.bytes, reply->line.length);
            break;
        default:
            told->done = event == MC_EVENT_DONE;
            PROMISED(mc_exchange_next(exchange) == event);
            PROMISED(!told->done || told->answers == asked->count);
            return true;
        }
    }
}

/* In pieces that split makes; 0: in one. */
static story tell(const request *asked, uint32_t split)
{
    story told = {.hash = 1};
    mc_buffer in = {0};
    mc_exchange exchange;

    mc_exchange_init(&exchange, &in, asked->command, keys, asked->count, asked->marker);
    exchange.max_length = ROOM;
    told.ended = pull(&told, asked, &exchange);
    for (size_t at = 0; at < asked->size;) {
        size_t left = asked->size - at, size = left;

        if (split != 0) {
            split = split * 1103515245 + 12345;
            size = 1 + (split >> 16) % 7;
            size = size < left ? size : left;
        }
        if (!told.ended && exchange.missing != 0) {
            size = size < exchange.missing ? size : exchange.missing;
            memcpy(exchange.room, asked->stream + at, size);
            mc_exchange_put(&exchange, size);
        }
        else {
            PROMISED(mc_buffer_append(&in, asked->stream + at, size));
        }
        at += size;
        told.ended = told.ended || pull(&told, asked, &exchange);
    }
    told.clean = mc_exchange_is_clean(&exchange);
    PROMISED(!told.clean || told.done);
    mc_exchange_fini(&exchange);
    mc_buffer_fini(&in);
    return told;
}

static void same(story a, story b)
{
    PROMISED(a.answers == b.answers && a.ended == b.ended && a.done == b.done);
    PROMISED(a.clean == b.clean && a.hash == b.hash);
}

/* ---- one look ---- */

static const mc_transport transport = {.is_free = true, .is_pollable = true};

static void look_once(const request *asked, story whole)
{
    static mc_connection connection;
    mc_clock clock;
    mc_leg leg;
    mc_reply reply;
    mc_slice body;
    story told = {.hash = 1};

    mc_clock_start(&clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    connection.transport = &transport;
    connection.unanswered = asked->marker;
    mc_buffer_clear(&connection.in);
    mc_leg_init(&leg, asked->command, keys, asked->count);
    leg.max_length = ROOM;
    mc_leg_begin(&leg, &connection, &clock);
    PROMISED(mc_leg_next(&leg) == MC_LEG_PRODUCE);
    for (size_t i = 0; i < asked->count; i++) {
        PROMISED(mc_leg_line(&leg, keys[i], (mc_slice){"v k", 3}));
    }
    PROMISED(mc_leg_ready(&leg));
    leg.piece_count = 0;
    PROMISED(mc_buffer_append(&connection.in, asked->stream, asked->size));

    int found = mc_leg_take_meta(&leg, &reply, &body);

    if (found >= 0) {
        PROMISED(asked->command == MC_MG && asked->count == 1 && !asked->marker);
        PROMISED(whole.done && whole.clean && whole.answers == 1);
        PROMISED(reply.type == (found == 1 ? MC_REPLY_VALUE : MC_REPLY_EN));
        body = found == 1 ? body : reply.line;
        answered(&told, &reply, body.bytes, body.length);
        PROMISED(told.hash == whole.hash);
        PROMISED(mc_leg_next(&leg) == MC_LEG_OVER && leg.verdict.keep);
        PROMISED(mc_buffer_length(&connection.in) == 0);
    }
    else if (asked->command == MC_MG && asked->count == 1 && !asked->marker) {
        /* Then it was an answer of another kind, or not all of one and no more. */
        PROMISED(!whole.clean || asked->stream[0] == 'H' || asked->stream[0] == 'O');
        PROMISED(mc_leg_is_running(&leg));
    }
    mc_leg_fini(&leg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mc_command commands[] = {MC_MG, MC_MD, MC_META_PROBE, MC_MG};

    if (size < HEADER || size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    request asked = {.command = commands[data[0] % 4],
                     .marker = data[0] & 4,
                     .count = 1 + data[1] % MOST_KEYS,
                     .stream = fuzz_guarded(data + HEADER, size - HEADER, 0),
                     .size = size - HEADER};

    if (asked.command == MC_META_PROBE) {
        asked.count = 2;
    }
    judge_line(asked.stream, asked.size);
    judge_hit(asked.stream, asked.size);
    story whole = tell(&asked, 0);
    same(tell(&asked, 1u + data[2]), whole);
    if (asked.command != MC_META_PROBE && asked.size != 0) {
        look_once(&asked, whole);
    }
    return 0;
}
