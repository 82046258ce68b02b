#include "exchange.h"

#include <string.h>

/* States, as letters so that a debugger shows them. */
enum {
    STATE_MARKER = 'M', /* waiting for VERSION */
    STATE_LINE = 'L',   /* at the start of a line */
    STATE_BODY = 'B',   /* body goes into room */
    STATE_TAIL = 'T',   /* the CRLF behind a body in room */
    STATE_DONE = 'D',
    STATE_BROKEN = 'X'
};

/* What a server may say between a noreply command and the marker. */
#define MAX_DROPPED ((size_t)16 << 20)

/* All rows of a listing, each with what it takes where it is kept, at least. memcached's longest, a
 * cachedump, is cut at 2 MiB of bytes. */
#define MAX_LISTING ((size_t)64 << 20)
#define ROW_KEPT ((size_t)256)

void mc_exchange_init(mc_exchange *exchange, mc_buffer *in, mc_command command,
                      const mc_slice *keys, size_t replies, bool marker)
{
    exchange->in = in;
    exchange->reply.line = (mc_slice){NULL, 0};
    exchange->keys = keys;
    exchange->replies = replies;
    exchange->cursor = 0;
    exchange->line_end = replies < MC_KEYS_PER_GET ? replies : MC_KEYS_PER_GET;
    exchange->index = 0;
    exchange->body = NULL;
    exchange->room = NULL;
    exchange->max_length = UINT64_MAX;
    exchange->missing = 0;
    exchange->consume = 0;
    exchange->dropped = 0;
    exchange->listed = 0;
    exchange->reply.line = (mc_slice){NULL, 0};
    exchange->command = command;
    exchange->marker = marker;
    exchange->started = false;
    exchange->suspect = false;
    exchange->state = marker ? STATE_MARKER : STATE_LINE;
    if (!marker && replies == 0) {
        exchange->state = STATE_DONE;
    }
}

/* True behind an error line where nobody knows any more which answer belongs to which command: it
 * may be about what went before a marker, or about a data block taken for commands. */
static bool has_lost_count(const mc_exchange *exchange)
{
    return exchange->suspect &&
           (exchange->marker || mc_commands[exchange->command].family == MC_FAMILY_STORAGE);
}

void mc_exchange_expect(mc_exchange *exchange, size_t more)
{
    exchange->replies += more;
    if (exchange->state == STATE_DONE && more != 0) {
        exchange->state = has_lost_count(exchange) ? STATE_BROKEN : STATE_LINE;
    }
}

/* Drops what the last event was about. Whoever was told of it may have read on by other means (a
 * host's own recv), so it may be gone already. */
static void drop_consumed(mc_exchange *exchange)
{
    size_t held = mc_buffer_length(exchange->in);

    mc_buffer_consume(exchange->in, exchange->consume < held ? exchange->consume : held);
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
    exchange->cursor = at + 1;

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

static mc_event begin_value(mc_exchange *exchange)
{
    const mc_reply *reply = &exchange->reply;
    size_t end = exchange->line_end;
    size_t at = exchange->cursor;

    if (reply->has_cas != (exchange->command == MC_GETS)) {
        return broken(exchange);
    }
    for (; at < end; at++) {
        if (exchange->keys[at].length == reply->key.length &&
            memcmp(exchange->keys[at].bytes, reply->key.bytes, reply->key.length) == 0) {
            return accept_value(exchange, at);
        }
    }
    return broken(exchange); /* a key that was not asked for, or one too many times */
}

static mc_event retrieval_line(mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    if (type == MC_REPLY_VALUE) {
        return begin_value(exchange);
    }
    if (type != MC_REPLY_END && !mc_reply_is_error(type)) {
        return broken(exchange);
    }
    exchange->cursor = exchange->line_end;
    exchange->line_end = exchange->replies - exchange->cursor < MC_KEYS_PER_GET
                             ? exchange->replies
                             : exchange->cursor + MC_KEYS_PER_GET;
    if (mc_reply_is_error(type)) {
        exchange->suspect = true;
        exchange->index = exchange->cursor;
        if (exchange->cursor == exchange->replies) {
            exchange->state = STATE_DONE;
        }
        return MC_EVENT_REPLY;
    }
    return exchange->cursor == exchange->replies ? done(exchange) : MC_EVENT_AGAIN;
}

#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* The errors that are the whole answer to a command, as memcached has them: of a storage command
 * those with which it swallows the data block. Of any other nobody knows what it is about, and so
 * whether the answer is still to come. */
static bool ends_exchange(mc_command command, const mc_reply *reply)
{
    static const struct {
        mc_family family;
        mc_reply_type type;
        mc_slice text;
    } known[] = {
        {MC_FAMILY_STORAGE, MC_REPLY_SERVER_ERROR, TEXT("object too large for cache")},
        {MC_FAMILY_STORAGE, MC_REPLY_SERVER_ERROR, TEXT("out of memory storing object")},
        {MC_FAMILY_NUMBER, MC_REPLY_CLIENT_ERROR,
         TEXT("cannot increment or decrement non-numeric value")},
        {MC_FAMILY_LINE, MC_REPLY_CLIENT_ERROR,
         TEXT("bad command line format.  Usage: delete <key> [noreply]")},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].family == mc_commands[command].family && known[i].type == reply->type &&
            known[i].text.length == reply->text.length &&
            memcmp(known[i].text.bytes, reply->text.bytes, reply->text.length) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_answer(const mc_exchange *exchange)
{
    mc_reply_type type = exchange->reply.type;

    switch (exchange->command) {
    case MC_SET:
    case MC_ADD:
    case MC_REPLACE:
    case MC_APPEND:
    case MC_PREPEND:
        return type == MC_REPLY_STORED || type == MC_REPLY_NOT_STORED;
    case MC_CAS:
        return type == MC_REPLY_STORED || type == MC_REPLY_NOT_STORED || type == MC_REPLY_EXISTS ||
               type == MC_REPLY_NOT_FOUND;
    case MC_DELETE:
        return type == MC_REPLY_DELETED || type == MC_REPLY_NOT_FOUND;
    case MC_TOUCH:
        return type == MC_REPLY_TOUCHED || type == MC_REPLY_NOT_FOUND;
    case MC_INCR:
    case MC_DECR:
        return type == MC_REPLY_NUMBER || type == MC_REPLY_NOT_FOUND;
    case MC_FLUSH_ALL:
        return type == MC_REPLY_OK;
    case MC_VERSION:
        return type == MC_REPLY_VERSION;
    default:
        return false;
    }
}

static mc_event answer_line(mc_exchange *exchange)
{
    mc_reply *reply = &exchange->reply;

    exchange->index = exchange->cursor++;
    if (exchange->cursor == exchange->replies) {
        exchange->state = STATE_DONE;
    }
    if (mc_reply_is_error(reply->type)) {
        /* Behind a marker it may be about what went before that. */
        if (exchange->marker || !ends_exchange(exchange->command, reply)) {
            exchange->suspect = true;
            if (exchange->state != STATE_DONE && has_lost_count(exchange)) {
                exchange->state = STATE_BROKEN;
            }
        }
        return MC_EVENT_REPLY;
    }
    return is_answer(exchange) ? MC_EVENT_REPLY : broken(exchange);
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
    bool fits = exchange->state == STATE_LINE && exchange->command == MC_GET;

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

static mc_event next_line(mc_exchange *exchange)
{
    mc_buffer *in = exchange->in;
    size_t consumed = 0;

    if (mc_buffer_length(in) == 0) {
        return MC_EVENT_AGAIN;
    }
    exchange->reply.line = (mc_slice){NULL, 0};
    mc_status status =
        mc_reply_parse(mc_buffer_bytes(in), mc_buffer_length(in), &exchange->reply, &consumed);

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
                 exchange->reply.type == MC_REPLY_VALUE) {
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
    default:
        return answer_line(exchange);
    }
}

mc_event mc_exchange_next(mc_exchange *exchange)
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
            exchange->state = STATE_LINE;
            return MC_EVENT_FILLED;
        }
        mc_event event = next_line(exchange);

        if (event != MC_EVENT_AGAIN || exchange->consume == 0) {
            return event;
        }
    }
}

void mc_exchange_give_room(mc_exchange *exchange, char *room)
{
    mc_buffer *in = exchange->in;
    size_t held;

    drop_consumed(exchange);
    held = mc_buffer_length(in);
    if (held > exchange->missing) {
        held = exchange->missing;
    }
    exchange->room = room;
    if (held != 0) {
        memcpy(room, mc_buffer_bytes(in), held);
        mc_buffer_consume(in, held);
        mc_exchange_put(exchange, held);
    }
}

void mc_exchange_skip_body(mc_exchange *exchange)
{
    if (exchange->body != NULL) {
        exchange->consume -= (size_t)exchange->reply.length + 2;
        exchange->body = NULL;
    }
    drop_consumed(exchange);
    exchange->missing = 0;
    exchange->state = STATE_LINE;
}
