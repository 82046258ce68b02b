#include "core/wire/exchange.h"

#include <string.h>

#include "core/wire/apart.h"
#include "core/wire/error_line.h"
#include "core/wire/meta.h"

/* States, as letters so that a debugger shows them. */
enum {
    STATE_MARKER = 'M', /* waiting for VERSION */
    STATE_LINE = 'L',   /* at the start of a line */
    STATE_BODY = 'B',   /* body goes into room */
    STATE_TAIL = 'T',   /* the CRLF behind a body in room */
    STATE_ERROR = 'E',  /* an error line to a "get" line was told, and may be marked */
    STATE_DONE = 'D',
    STATE_BROKEN = 'X'
};

/* What a server may say between a noreply command and the marker. */
#define MAX_DROPPED ((size_t)16 << 20)

/* All rows of a listing, each with what it takes where it is kept, at least. memcached's longest, a
 * cachedump, is cut at 2 MiB of bytes. */
#define MAX_LISTING ((size_t)64 << 20)
#define ROW_KEPT ((size_t)256)

/* The "get" line whose first key is number at: its reply is what comes next. */
static void begin_get_line(mc_exchange *exchange, size_t at)
{
    exchange->cursor = exchange->line_begin = at;
    if (at < exchange->replies) {
        exchange->line_end = at + mc_keys_of_line(exchange->keys + at, exchange->replies - at);
    }
    exchange->has_passed = false;
    exchange->is_indexed = false;
}

void mc_exchange_init(mc_exchange *exchange, mc_buffer *in, mc_command command,
                      const mc_slice *keys, size_t replies, bool marker)
{
    memset(&exchange->started, 0, offsetof(mc_exchange, index) - offsetof(mc_exchange, started));
    exchange->index = 0;
    exchange->index_of_keys = (mc_key_index){NULL, 0, 0};
    exchange->in = in;
    exchange->keys = keys;
    exchange->replies = replies;
    exchange->line_end = replies;
    exchange->max_length = UINT64_MAX;
    exchange->reply.line = (mc_slice){NULL, 0};
    exchange->command = command;
    exchange->marker = marker;
    exchange->state = marker ? STATE_MARKER : replies == 0 ? STATE_DONE : STATE_LINE;
    if (replies > 1 && mc_commands[command].family == MC_FAMILY_RETRIEVAL) {
        exchange->line_end = mc_keys_of_line(keys, replies);
    }
}

void mc_exchange_expect(mc_exchange *exchange, size_t more)
{
    exchange->replies += more;
    if (exchange->state == STATE_DONE && more != 0) {
        exchange->state = exchange->lost_count ? STATE_BROKEN : STATE_LINE;
    }
}

/* Drops what the last event was about. */
static void drop_consumed(mc_exchange *exchange)
{
    mc_buffer_consume(exchange->in, exchange->consume);
    exchange->consume = 0;
}

static mc_event broken(mc_exchange *exchange)
{
    exchange->state = STATE_BROKEN;
    return MC_EVENT_BROKEN;
}

static mc_event done(mc_exchange *exchange)
{
    exchange->state = STATE_DONE;
    return MC_EVENT_DONE;
}

/* A VALUE line for key number at has been read. */
static mc_event accept_value(mc_exchange *exchange, size_t at)
{
    mc_buffer *in = exchange->in;

    if (exchange->reply.length > exchange->max_length || exchange->reply.length > SIZE_MAX - 2) {
        return broken(exchange);
    }
    exchange->index = at;

    size_t length = (size_t)exchange->reply.length;
    size_t held = mc_buffer_length(in) - exchange->consume;
    const char *body = mc_buffer_bytes(in) + exchange->consume;

    if (held >= length + 2) {
        if (body[length] != '\r' || body[length + 1] != '\n') {
            return broken(exchange);
        }
        exchange->body = body;
        exchange->consume += length + 2;
    }
    else {
        exchange->body = NULL;
        exchange->missing = length;
        exchange->state = STATE_BODY;
    }
    return MC_EVENT_VALUE;
}

#define NO_KEY SIZE_MAX

/* Where the keys end that a value may name. */
static size_t end_of_asked(const mc_exchange *exchange)
{
    return exchange->marked != 0 ? exchange->marked : exchange->line_end;
}

/* The keys from the cursor to number at were asked for before it: they may still come, or not. */
static void pass_over(mc_exchange *exchange, size_t at)
{
    if (!exchange->has_passed && at > exchange->cursor) {
        memset(exchange->passed, 0, sizeof exchange->passed);
        exchange->has_passed = true;
    }
    for (size_t i = exchange->cursor - exchange->line_begin; i < at - exchange->line_begin; i++) {
        exchange->passed[i / 64] |= UINT64_C(1) << i % 64;
    }
    exchange->cursor = at;
}

/* Of all that may still come. */
static bool make_index(mc_exchange *exchange)
{
    mc_key_index *index = &exchange->index_of_keys;
    size_t end = end_of_asked(exchange), begin = exchange->line_begin;

    if (!mc_key_index_clear(index, end - begin)) {
        exchange->no_memory = true;
        return false;
    }
    for (size_t i = 0; exchange->has_passed && i < exchange->cursor - begin; i++) {
        if (exchange->passed[i / 64] >> i % 64 & 1) {
            mc_key_index_add(index, &exchange->keys[begin + i]);
        }
    }
    for (size_t at = exchange->cursor; at < end; at++) {
        mc_key_index_add(index, &exchange->keys[at]);
    }
    mc_key_index_sort(index);
    exchange->is_indexed = true;
    return true;
}

/* The number of the key that a VALUE line names, which is answered by that; or NO_KEY: it was not
 * asked for, or is answered already. memcached answers in the order asked, with gaps: to go forward
 * finds each. Proxies mix the answers of their servers. */
static size_t take_key(mc_exchange *exchange)
{
    mc_slice key = exchange->reply.key;
    const mc_slice *found;

    if (!exchange->is_indexed) {
        for (size_t at = exchange->cursor; at < exchange->line_end; at++) {
            if (exchange->keys[at].length == key.length &&
                memcmp(exchange->keys[at].bytes, key.bytes, key.length) == 0) {
                pass_over(exchange, at);
                return exchange->cursor++;
            }
        }
        if ((!exchange->has_passed && exchange->line_end == end_of_asked(exchange)) ||
            !make_index(exchange)) {
            return NO_KEY;
        }
    }
    found = mc_key_index_take(&exchange->index_of_keys, key);
    return found != NULL ? (size_t)(found - exchange->keys) : NO_KEY;
}

static mc_event begin_value(mc_exchange *exchange)
{
    size_t at = NO_KEY;

    if (exchange->reply.has_cas == (exchange->command == MC_GETS)) {
        at = take_key(exchange);
    }
    return at != NO_KEY ? accept_value(exchange, at) : broken(exchange);
}

static bool is_text(mc_slice text, mc_slice wanted)
{
    return text.length == wanted.length && memcmp(text.bytes, wanted.bytes, text.length) == 0;
}

static mc_event next_get_line(mc_exchange *exchange, size_t at)
{
    begin_get_line(exchange, at);
    return at == exchange->replies ? done(exchange) : MC_EVENT_AGAIN;
}

/* How many "get" lines there are up to the mark. */
static size_t lines_marked(const mc_exchange *exchange)
{
    size_t lines = 0;

    for (size_t at = exchange->line_begin; at < exchange->marked; lines++) {
        at += mc_keys_of_line(exchange->keys + at, exchange->marked - at);
    }
    return lines;
}

/* Behind an error line, up to the reply to the "version". A "get" line has one END, and one error
 * line in its place; one too many is the answer to the "version". */
static mc_event marked_line(mc_exchange *exchange)
{
    size_t keys = exchange->marked - exchange->line_begin;
    bool expected = false;

    if (exchange->reply.type == MC_REPLY_VERSION) {
        size_t at = exchange->marked;

        exchange->marked = 0;
        return next_get_line(exchange, at);
    }
    if (exchange->reply.type == MC_REPLY_END) {
        expected = ++exchange->ends <= lines_marked(exchange);
    }
    else if (exchange->reply.type == MC_REPLY_SERVER_ERROR) {
        expected = ++exchange->errors <=
                   (mc_error_is_for_one_key(exchange->reply.text) ? keys : lines_marked(exchange));
    }
    return expected ? MC_EVENT_AGAIN : broken(exchange);
}

static mc_event retrieval_line(mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    if (type == MC_REPLY_VALUE) {
        return begin_value(exchange);
    }
    if (exchange->marked != 0) {
        return marked_line(exchange);
    }
    if (mc_reply_is_error(type)) {
        exchange->index = exchange->line_end;
        exchange->lost_count = mc_error_is_unauthenticated(&exchange->reply);
        exchange->state = STATE_ERROR;
        return MC_EVENT_REPLY;
    }
    return type == MC_REPLY_END ? next_get_line(exchange, exchange->line_end) : broken(exchange);
}

/* Keys that an index still has are passed over again: it is to be made of more. */
static void drop_index(mc_exchange *exchange)
{
    const mc_key_index *index = &exchange->index_of_keys;

    memset(exchange->passed, 0, sizeof exchange->passed);
    for (size_t i = 0; i < index->count; i++) {
        if (!index->list[i].taken) {
            size_t bit = (size_t)(index->list[i].key - exchange->keys) - exchange->line_begin;

            exchange->passed[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    }
    exchange->has_passed = true;
    exchange->is_indexed = false;
    exchange->cursor = exchange->line_end;
}

bool mc_exchange_mark(mc_exchange *exchange, size_t asked)
{
    /* An ERROR or CLIENT_ERROR is the client's: nobody knows what the server took for what. Behind
     * a marker the line may be about what went before that. */
    if (exchange->state != STATE_ERROR || exchange->reply.type != MC_REPLY_SERVER_ERROR ||
        exchange->marker || exchange->suspect || asked < exchange->line_end) {
        return false;
    }
    if (exchange->is_indexed && asked > exchange->line_end) {
        drop_index(exchange);
    }
    exchange->marked = asked;
    exchange->errors = 1;
    exchange->ends = 0;
    exchange->state = STATE_LINE;
    return true;
}

static inline void count_answer(mc_exchange *exchange)
{
    exchange->index = exchange->cursor++;
    if (exchange->cursor == exchange->replies) {
        exchange->state = STATE_DONE;
    }
}

static mc_event answer_line(mc_exchange *exchange)
{
    mc_reply *reply = &exchange->reply;

    count_answer(exchange);
    if (mc_reply_is_error(reply->type)) {
        /* Behind a marker it may be about what went before that. */
        if (exchange->marker || !mc_error_is_whole(exchange->command, reply)) {
            exchange->suspect = true;
            exchange->lost_count |= exchange->marker ||
                                    mc_error_may_leave_block(exchange->command, reply) ||
                                    mc_error_is_unauthenticated(reply);
            if (exchange->state != STATE_DONE && exchange->lost_count) {
                exchange->state = STATE_BROKEN;
            }
        }
        return MC_EVENT_REPLY;
    }
    return mc_command_is_answered_by(exchange->command, reply->type) ? MC_EVENT_REPLY
                                                                     : broken(exchange);
}

/* Whether the line is not about another command than the one whose turn it is: a hit has to name
 * its key. Other lines name theirs or not, by the server's version: of those the order tells. */
static bool is_about_its_key(const mc_exchange *exchange)
{
    const mc_reply *reply = &exchange->reply;

    return reply->key.length == 0 || exchange->keys == NULL
               ? reply->type != MC_REPLY_VALUE
               : is_text(reply->key, exchange->keys[exchange->cursor]);
}

static mc_event meta_line(mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    if (!mc_reply_is_error(type) && !is_about_its_key(exchange)) {
        return broken(exchange);
    }
    if (type != MC_REPLY_VALUE || exchange->command != MC_MG) {
        return answer_line(exchange);
    }
    mc_event event = accept_value(exchange, exchange->cursor++);

    if (exchange->state == STATE_LINE && exchange->cursor == exchange->replies) {
        exchange->state = STATE_DONE;
    }
    return event;
}

/* What a server makes of commands that it may not know is what is asked here. */
static mc_event probe_line(mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    if (!mc_reply_is_error(type) && !mc_command_is_answered_by(exchange->command, type)) {
        return broken(exchange);
    }
    exchange->lost_count = mc_error_is_unauthenticated(&exchange->reply);
    exchange->suspect |= exchange->lost_count || (exchange->marker && mc_reply_is_error(type));
    count_answer(exchange);
    if (exchange->state != STATE_DONE && exchange->lost_count) {
        exchange->state = STATE_BROKEN;
    }
    return MC_EVENT_REPLY;
}

static mc_event listing_line(mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    if (type == MC_REPLY_STAT) {
        exchange->listed += exchange->consume + ROW_KEPT;
        if (exchange->listed > MAX_LISTING) {
            return broken(exchange);
        }
        exchange->index = exchange->cursor++;
        return MC_EVENT_REPLY;
    }
    if (type == MC_REPLY_END ||
        (exchange->cursor == 0 && (type == MC_REPLY_RESET || type == MC_REPLY_OK))) {
        return done(exchange);
    }
    if (mc_reply_is_error(type)) {
        exchange->suspect = true;
        exchange->index = exchange->cursor;
        exchange->state = STATE_DONE;
        return MC_EVENT_REPLY;
    }
    return broken(exchange);
}

void mc_exchange_begin_run(mc_exchange *exchange, mc_value_run *run)
{
    bool fits =
        exchange->state == STATE_LINE && exchange->command == MC_GET && !exchange->is_indexed;

    if (fits && exchange->consume != 0) {
        drop_consumed(exchange);
    }
    if (!fits || mc_buffer_length(exchange->in) == 0) {
        *run = (mc_value_run){.key = NULL};
        return;
    }
    *run = (mc_value_run){.at = mc_buffer_bytes(exchange->in),
                          .left = mc_buffer_length(exchange->in),
                          .key = exchange->keys + exchange->cursor,
                          .last = exchange->keys + exchange->line_end,
                          .max_length = exchange->max_length};
}

void mc_exchange_end_run(mc_exchange *exchange, const mc_value_run *run)
{
    if (run->key == NULL || run->key == exchange->keys + exchange->cursor) {
        return;
    }
    exchange->started = true;
    exchange->cursor = (size_t)(run->key - exchange->keys);
    exchange->index = exchange->cursor - 1;
    mc_buffer_consume(exchange->in, mc_buffer_length(exchange->in) - run->left);
}

size_t mc_exchange_take_stored(mc_exchange *exchange, size_t *first)
{
    mc_buffer *in = exchange->in;

    *first = exchange->cursor;
    if (exchange->state != STATE_LINE ||
        mc_commands[exchange->command].family != MC_FAMILY_STORAGE) {
        return 0;
    }
    drop_consumed(exchange);

    size_t lines = mc_buffer_length(in) / 8, count = 0;

    if (lines > exchange->replies - exchange->cursor) {
        lines = exchange->replies - exchange->cursor;
    }
    while (count < lines && memcmp(mc_buffer_bytes(in) + 8 * count, "STORED\r\n", 8) == 0) {
        count++;
    }
    if (count != 0) {
        mc_buffer_consume(in, 8 * count);
        exchange->started = true;
        exchange->cursor += count;
        if (exchange->cursor == exchange->replies) {
            exchange->state = STATE_DONE;
        }
    }
    return count;
}

static inline mc_status parse_line(mc_exchange *exchange, size_t *consumed)
{
    const char *bytes = mc_buffer_bytes(exchange->in);
    size_t length = mc_buffer_length(exchange->in);

    if (mc_command_is_meta(exchange->command) && exchange->state == STATE_LINE) {
        mc_slice key =
            exchange->keys != NULL ? exchange->keys[exchange->cursor] : (mc_slice){NULL, 0};

        return mc_meta_parse(bytes, length, key, &exchange->reply, consumed);
    }
    return mc_reply_parse(bytes, length, &exchange->reply, consumed);
}

static mc_event next_line(mc_exchange *exchange)
{
    mc_buffer *in = exchange->in;
    size_t consumed = 0;

    exchange->reply.line = (mc_slice){NULL, 0}; /* that of a marker's reply is nobody's answer */
    if (mc_buffer_length(in) == 0) {
        return MC_EVENT_AGAIN;
    }
    mc_status status = parse_line(exchange, &consumed);

    if (status == MC_AGAIN) {
        exchange->started |= exchange->state == STATE_LINE;
        return MC_EVENT_AGAIN;
    }
    if (status != MC_OK) {
        return broken(exchange);
    }
    exchange->consume = consumed;
    if (exchange->state == STATE_MARKER) {
        if (exchange->reply.type == MC_REPLY_VERSION) {
            exchange->state = exchange->replies == 0 ? STATE_DONE : STATE_LINE;
        }
        else if ((exchange->dropped += consumed) > MAX_DROPPED ||
                 exchange->reply.type == MC_REPLY_VALUE ||
                 mc_error_is_unauthenticated(&exchange->reply)) {
            return broken(exchange);
        }
        return MC_EVENT_AGAIN;
    }
    exchange->started = true;
    switch (mc_commands[exchange->command].family) {
    case MC_FAMILY_RETRIEVAL:
        return retrieval_line(exchange);
    case MC_FAMILY_LISTING:
        return listing_line(exchange);
    case MC_FAMILY_META:
        return meta_line(exchange);
    case MC_FAMILY_PROBE:
        return probe_line(exchange);
    default:
        return answer_line(exchange);
    }
}

MC_APART mc_event mc_exchange_next(mc_exchange *exchange)
{
    for (;;) {
        mc_buffer *in = exchange->in;

        if (exchange->state == STATE_DONE) {
            return MC_EVENT_DONE;
        }
        if (exchange->state == STATE_BROKEN) {
            exchange->reply.line = (mc_slice){NULL, 0}; /* the buffer may have moved */
            return MC_EVENT_BROKEN;
        }
        if (exchange->consume != 0) {
            drop_consumed(exchange);
        }
        if (exchange->state == STATE_BODY) {
            if (exchange->missing != 0) {
                return MC_EVENT_AGAIN;
            }
            exchange->state = STATE_TAIL;
        }
        if (exchange->state == STATE_TAIL) {
            size_t held = mc_buffer_length(in);

            if (held == 0) {
                return MC_EVENT_AGAIN;
            }
            const char *tail = mc_buffer_bytes(in);

            if (tail[0] != '\r' || (held > 1 && tail[1] != '\n')) {
                exchange->reply.line = (mc_slice){NULL, 0};
                return broken(exchange);
            }
            if (held < 2) {
                return MC_EVENT_AGAIN;
            }
            exchange->consume = 2;
            exchange->state =
                mc_command_is_meta(exchange->command) && exchange->cursor == exchange->replies
                    ? STATE_DONE
                    : STATE_LINE;
            return MC_EVENT_FILLED;
        }
        if (exchange->state == STATE_ERROR) { /* and was not: it ends its "get" line */
            exchange->suspect = true;
            exchange->state = STATE_LINE;
            if (next_get_line(exchange, exchange->line_end) == MC_EVENT_DONE) {
                return MC_EVENT_DONE;
            }
            if (exchange->lost_count) {
                exchange->reply.line = (mc_slice){NULL, 0};
                return broken(exchange);
            }
        }
        mc_event event = next_line(exchange);

        if (event != MC_EVENT_AGAIN || exchange->consume == 0) {
            return event;
        }
    }
}

/* As much of a body as the buffer holds. */
static size_t held_of_body(const mc_exchange *exchange)
{
    size_t held = mc_buffer_length(exchange->in);

    return held < exchange->missing ? held : exchange->missing;
}

void mc_exchange_give_room(mc_exchange *exchange, char *room)
{
    size_t held;

    drop_consumed(exchange);
    held = held_of_body(exchange);
    exchange->room = room;
    if (held != 0) {
        memcpy(room, mc_buffer_bytes(exchange->in), held);
        mc_buffer_consume(exchange->in, held);
        mc_exchange_put(exchange, held);
    }
}

void mc_exchange_skip(mc_exchange *exchange)
{
    size_t held;

    drop_consumed(exchange);
    held = held_of_body(exchange);
    mc_buffer_consume(exchange->in, held);
    exchange->missing -= held;
}
