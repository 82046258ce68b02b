#include "core/flow/leg.h"

#include <string.h>

#include "core/wire/apart.h"
#include "core/wire/meta.h"
#include "core/wire/number.h"
#include "core/wire/request.h"

enum {
    STATE_RUNNING,
    STATE_RETRY,
    STATE_OVER
};

/* What is laid out before it has to be sent. */
#define BATCH_BYTES ((size_t)262144)
/* The same of meta commands where the replies are read behind the batch: a server that waits until
 * somebody takes a value reads no further, and the rest has to find room on the way. */
#define BATCH_IN_TURN ((size_t)16384)

/* What goes out in records (TLS), memcached before 1.6.40 looks for in its socket alone: the rest
 * of a record of which it has taken a part it never reads, if nothing comes behind. It takes a
 * record whole where that ends with a command, or where no other command begins in it behind a
 * large one. So a run of commands is cut when it is so long; what makes it longer than a record of
 * 16 kB is only its last command. For the same reason a new run begins behind a value that is a
 * piece of its own. */
#define PIECE ((size_t)8192)

/* The same as MC_COPY_UP_TO_OF_MANY, of one command. */
#define COPY_UP_TO ((size_t)16384)

/* What one receive asks for at least. */
#define SMALL_INPUT ((size_t)2048)
#define LARGE_INPUT ((size_t)65536) /* where so many replies are awaited: */
#define MANY_REPLIES 8

/* From this size on a body is worth a receive of its own that waits for all of it. */
#define WHOLE_BODY ((size_t)16384)

/* What brings a stream in step after noreply commands: its reply comes behind all of theirs. */
static const mc_slice MARKER = {"version\r\n", 9};

/* ---- begin and end -------------------------------------------------------------------------- */

static inline bool is_retrieval(const mc_leg *leg)
{
    return leg->family == MC_FAMILY_RETRIEVAL;
}

void mc_leg_init(mc_leg *leg, mc_command command, const mc_slice *keys, size_t count)
{
    leg->connection = NULL;
    leg->exchange.index_of_keys.list = NULL;
    leg->keys = keys;
    leg->count = count;
    leg->first = leg->own;
    leg->room = sizeof leg->own / sizeof *leg->own;
    leg->max_length = UINT64_MAX;
    leg->command = command;
    leg->family = mc_commands[command].family;
    leg->noreply = leg->once = leg->probe = leg->retried = leg->moved = false;
    leg->state = STATE_RUNNING;
    leg->good = 0;
    leg->bytes_in = leg->bytes_out = 0;
}

void mc_leg_note_time(mc_leg *leg, const mc_clock *clock)
{
    leg->late = clock->late && mc_clock_left(clock, mc_clock_now()) == 0;
}

void mc_leg_begin(mc_leg *leg, mc_connection *connection, const mc_clock *clock)
{
    bool marker = connection->unanswered != 0 && !leg->noreply && leg->count != 0;
    /* The probe is one command more than is counted. */
    size_t replies = is_retrieval(leg) ? leg->count : leg->family >= MC_FAMILY_LISTING;

    leg->connection = connection;
    leg->state = STATE_RUNNING;
    leg->in_turn = !connection->transport->is_pollable;
    leg->next = leg->sent = leg->counted = 0;
    leg->piece_count = 0;
    leg->asked = leg->owes_marker = leg->unclean = false;
    leg->marker_last = leg->noreply && leg->count != 0 &&
                       (leg->probe || connection->unanswered + leg->count > MC_UNANSWERED_AT_MOST);
    mc_exchange_fini(&leg->exchange);
    mc_exchange_init(&leg->exchange, &connection->in, leg->noreply ? MC_VERSION : leg->command,
                     leg->keys, replies, marker || leg->marker_last);
    leg->exchange.max_length = leg->max_length;
    mc_leg_note_time(leg, clock);
}

static mc_leg_step end(mc_leg *leg, mc_verdict verdict)
{
    leg->verdict = verdict;
    leg->state = STATE_OVER;
    leg->piece_count = 0;
    return MC_LEG_OVER;
}

static bool may_be_repeated(const mc_leg *leg, mc_status status)
{
    return status == MC_CLOSED && !leg->exchange.started && !leg->retried && !leg->once &&
           mc_commands[leg->command].repeatable;
}

/* Nothing is changed on the server by it. */
static bool only_reads(const mc_leg *leg)
{
    return is_retrieval(leg) || leg->family >= MC_FAMILY_LISTING ||
           (leg->command == MC_MG && !leg->once);
}

static MC_COLD void end_failed(mc_leg *leg, mc_status status)
{
    bool answered = is_retrieval(leg) && leg->exchange.marked != 0 && status != MC_RAISED &&
                    status != MC_NO_MEMORY;

    (void)end(leg,
              (mc_verdict){.status = status,
                           .blame = (status == MC_TIMEOUT && !leg->late) || status == MC_REFUSED,
                           .answered = answered,
                           .may_have_run = leg->asked && !only_reads(leg)});
}

MC_APART void mc_leg_fail(mc_leg *leg, mc_status status)
{
    if (status == MC_OK || leg->state == STATE_OVER) {
        return;
    }
    leg->piece_count = 0;
    if (may_be_repeated(leg, status)) {
        leg->retried = true;
        leg->state = STATE_RETRY;
        return;
    }
    end_failed(leg, status);
}

void mc_leg_give_up(mc_leg *leg)
{
    end_failed(leg, MC_CLOSED);
}

/* ---- laying out ----------------------------------------------------------------------------- */

static inline mc_buffer *output_of(const mc_leg *leg)
{
    return &leg->connection->out;
}

/* A new batch, with the marker that goes before it where one is due. */
static bool open_batch(mc_leg *leg)
{
    mc_buffer *out = output_of(leg);
    bool first = leg->next == 0;
    bool marker = first ? leg->exchange.marker && !leg->marker_last : leg->owes_marker;

    mc_buffer_clear(out);
    leg->made = 0;
    leg->run = leg->outside = 0;
    leg->owes_marker = false;
    return !marker || mc_buffer_append(out, MARKER.bytes, MARKER.length);
}

bool mc_leg_has_room(const mc_leg *leg)
{
    size_t most = leg->family == MC_FAMILY_META && leg->in_turn ? BATCH_IN_TURN : BATCH_BYTES;

    return leg->next < leg->count && mc_buffer_length(output_of(leg)) + leg->outside < most &&
           leg->made + 3 < leg->room; /* cut_run, and point_to */
}

static void note_command(mc_leg *leg, mc_slice key)
{
    leg->unclean |= leg->noreply && key.length > MC_PROTOCOL_KEY_LENGTH;
    leg->next++;
    leg->sent++;
}

/* Room for the batch as far as its other commands are like the first one: a buffer that grows by
 * doubling may have to copy all that it holds each time. */
static MC_APART bool reserve_batch(mc_leg *leg)
{
    mc_buffer *out = output_of(leg);
    size_t size = mc_buffer_length(out), left = leg->count - leg->next;

    return left == 0 || size == 0 || size >= BATCH_BYTES ||
           mc_buffer_reserve(out, left < (BATCH_BYTES - size) / size ? left * size
                                                                     : BATCH_BYTES - size) != NULL;
}

/* The value as a piece of its own. */
static void point_to(mc_leg *leg, mc_slice value)
{
    size_t length = mc_buffer_length(output_of(leg));

    leg->first[leg->made++] = (struct iovec){NULL, length - leg->run};
    leg->first[leg->made++] = (struct iovec){(void *)value.bytes, value.length};
    leg->run = length;
    leg->outside += value.length;
}

static MC_COLD void cut_records(mc_leg *leg)
{
    size_t length = mc_buffer_length(output_of(leg));
    bool behind_value = leg->made > 0 && leg->first[leg->made - 1].iov_base != NULL;

    if (behind_value || length - leg->run >= PIECE) {
        leg->first[leg->made++] = (struct iovec){NULL, length - leg->run};
        leg->run = length;
    }
}

/* Before another command. See PIECE. */
static inline void cut_run(mc_leg *leg)
{
    if (leg->connection->in_records) {
        cut_records(leg);
    }
}

mc_laid mc_leg_store(mc_leg *leg, mc_slice key, uint32_t flags, mc_slice exptime, mc_slice value,
                     const uint64_t *cas, bool stays)
{
    mc_buffer *out = output_of(leg);
    bool first = leg->next == 0;
    bool copies = !stays || value.length <= (leg->count > 1 ? MC_COPY_UP_TO_OF_MANY : COPY_UP_TO);
    int laid;

    if (!first) {
        cut_run(leg);
    }
    if (copies && cas == NULL && !leg->noreply) {
        laid = mc_request_store_whole(out, leg->command, key, flags, exptime, value);
    }
    else {
        laid = mc_request_store(out, leg->command, key, flags, exptime, value.length, cas,
                                leg->noreply);
        if (laid && copies) {
            laid = mc_buffer_append(out, value.bytes, value.length);
        }
        else if (laid) {
            point_to(leg, value);
        }
        laid = laid && mc_buffer_append(out, "\r\n", 2);
    }
    note_command(leg, key);
    if (!laid || (first && !reserve_batch(leg))) {
        return MC_LAID_NO_MEMORY;
    }
    return copies ? MC_LAID_COPIED : MC_LAID_POINTED_TO;
}

bool mc_leg_line(mc_leg *leg, mc_slice key, mc_slice argument)
{
    if (leg->next != 0) {
        cut_run(leg);
    }
    note_command(leg, key);
    return mc_request_line(output_of(leg), leg->command, key, argument, leg->noreply);
}

/* The "get" lines of a batch: all that fit, or the next one where each waits for its reply. */
static bool lay_out_keys(mc_leg *leg)
{
    do {
        cut_run(leg);

        const mc_slice *first = leg->keys + leg->next;
        size_t left = leg->count - leg->next;
        size_t count = left == 1 ? 1 : mc_keys_of_line(first, left);

        if (!(count == 1 ? mc_request_line(output_of(leg), leg->command, *first,
                                           (mc_slice){NULL, 0}, false)
                         : mc_request_get(output_of(leg), leg->command, first, count))) {
            return false;
        }
        leg->next += count;
    } while (!leg->in_turn && leg->next < leg->count && leg->made + 1 < leg->room &&
             mc_buffer_length(output_of(leg)) < BATCH_BYTES);
    return true;
}

/* The pieces of the output get their addresses, which do not move any more. */
static MC_APART void place_pieces(mc_leg *leg)
{
    mc_buffer *out = output_of(leg);
    char *at = out->data; /* nothing is consumed of it */

    if (mc_buffer_length(out) > leg->run) {
        leg->first[leg->made++] = (struct iovec){NULL, mc_buffer_length(out) - leg->run};
    }
    for (int i = 0; i < leg->made; i++) {
        if (leg->first[i].iov_base == NULL) {
            leg->first[i].iov_base = at;
            at += leg->first[i].iov_len;
        }
    }
}

bool mc_leg_ready(mc_leg *leg)
{
    mc_buffer *out = output_of(leg);

    if (leg->marker_last && leg->next == leg->count &&
        !mc_buffer_append(out, MARKER.bytes, MARKER.length)) {
        return false;
    }
    if (leg->made != 0) {
        place_pieces(leg);
    }
    else if (mc_buffer_length(out) != 0) {
        leg->first[leg->made++] = (struct iovec){out->data, mc_buffer_length(out)};
    }
    leg->pieces = leg->first;
    leg->piece_count = leg->made;
    leg->asked |= leg->made > 0;
    if (leg->noreply) {
        leg->connection->unanswered += (uint32_t)(leg->sent - leg->counted);
    }
    else if (!is_retrieval(leg) && leg->family != MC_FAMILY_LISTING) {
        mc_exchange_expect(&leg->exchange, leg->sent - leg->counted);
    }
    leg->counted = leg->sent;
    return true;
}

/* ---- moving --------------------------------------------------------------------------------- */

/* A body's room comes first. */
static MC_APART int room_of_body(mc_leg *leg, bool may_wait, struct iovec pieces[2], bool *all)
{
    mc_exchange *exchange = &leg->exchange;
    mc_buffer *in = exchange->in;
    size_t tail = SMALL_INPUT;
    char *room;

    if (may_wait && exchange->missing >= WHOLE_BODY && exchange->replies == 1) {
        *all = true; /* the rest of the reply is known to the byte: CRLF, and of a get END CRLF */
        tail = leg->family == MC_FAMILY_META ? 2 : 7;
    }
    room = mc_buffer_reserve(in, tail);
    if (room == NULL) {
        return 0;
    }
    pieces[0] = (struct iovec){exchange->room, exchange->missing};
    pieces[1] = (struct iovec){room, *all ? tail : in->capacity - in->end};
    return 2;
}

int mc_leg_room(mc_leg *leg, bool may_wait, struct iovec pieces[2], bool *all)
{
    mc_exchange *exchange = &leg->exchange;
    mc_buffer *in = exchange->in;
    char *room;

    *all = false;
    if (exchange->missing != 0) {
        return room_of_body(leg, may_wait, pieces, all);
    }
    room = mc_buffer_reserve(in, exchange->replies > MANY_REPLIES ? LARGE_INPUT : SMALL_INPUT);
    pieces[0] = (struct iovec){room, in->capacity - in->end};
    return room != NULL;
}

void mc_leg_received(mc_leg *leg, size_t size)
{
    mc_exchange *exchange = &leg->exchange;

    leg->bytes_in += size;
    if (exchange->missing != 0) {
        size_t into_body = size < exchange->missing ? size : exchange->missing;

        mc_exchange_put(exchange, into_body);
        size -= into_body;
    }
    mc_buffer_commit(exchange->in, size);
}

/* ---- the reply that comes mostly ------------------------------------------------------------ */

/* Whether the reply of one command, which is of that family, is what the input begins with. */
static inline bool is_at_reply(const mc_leg *leg, mc_family family)
{
    return leg->family == family && leg->count == 1 && !leg->exchange.marker &&
           !leg->exchange.started && leg->piece_count == 0 && leg->state == STATE_RUNNING &&
           !leg->noreply;
}

static inline void end_whole(mc_leg *leg)
{
    mc_buffer_clear(&leg->connection->in);
    (void)end(leg, (mc_verdict){.keep = true});
}

int mc_leg_take_value(mc_leg *leg, uint32_t *flags, mc_slice *body)
{
    mc_buffer *in = &leg->connection->in;

    if (leg->command != MC_GET || !is_at_reply(leg, MC_FAMILY_RETRIEVAL)) {
        return -1;
    }
    int found =
        mc_reply_match_get(mc_buffer_bytes(in), mc_buffer_length(in), *leg->keys, flags, body);

    if (found > 0 && body->length > leg->max_length) {
        return -1;
    }
    if (found >= 0) {
        end_whole(leg);
    }
    return found;
}

/* The rest of what mc_leg_take_meta takes: other flags, and EN. */
static int take_other_meta(const mc_leg *leg, mc_reply *reply, mc_slice *body)
{
    const char *bytes = mc_buffer_bytes(leg->exchange.in);
    size_t held = mc_buffer_length(leg->exchange.in), line;
    mc_slice key = *leg->keys;

    if (held == 0 || mc_meta_parse(bytes, held, key, reply, &line) != MC_OK) {
        return -1;
    }
    if (reply->key.length == 0 ? reply->type != MC_REPLY_EN
                               : reply->key.length != key.length ||
                                     !mc_bytes_equal(reply->key.bytes, key.bytes, key.length)) {
        return -1;
    }
    bytes += line;
    held -= line;
    if (reply->type == MC_REPLY_EN) {
        return held == 0 ? 0 : -1;
    }
    if (reply->type != MC_REPLY_VALUE || held < 2 || reply->length != held - 2 ||
        memcmp(bytes + held - 2, "\r\n", 2) != 0) {
        return -1;
    }
    *body = (mc_slice){bytes, held - 2};
    return 1;
}

int mc_leg_take_meta(mc_leg *leg, mc_reply *reply, mc_slice *body)
{
    mc_buffer *in = &leg->connection->in;
    int found = 1;

    if (leg->command != MC_MG || !is_at_reply(leg, MC_FAMILY_META)) {
        return -1;
    }
    if (!mc_meta_match_hit(mc_buffer_bytes(in), mc_buffer_length(in), *leg->keys, reply, body)) {
        found = take_other_meta(leg, reply, body);
    }
    if (found > 0 && body->length > leg->max_length) {
        return -1;
    }
    if (found >= 0) {
        end_whole(leg);
    }
    return found;
}

bool mc_leg_take_stored(mc_leg *leg)
{
    mc_buffer *in = &leg->connection->in;

    if (!is_at_reply(leg, MC_FAMILY_STORAGE) || mc_buffer_length(in) != 8 ||
        memcmp(mc_buffer_bytes(in), "STORED\r\n", 8) != 0) {
        return false;
    }
    end_whole(leg);
    return true;
}

bool mc_leg_take_number(mc_leg *leg, uint64_t *number)
{
    mc_buffer *in = &leg->connection->in;
    const char *bytes = mc_buffer_bytes(in);
    size_t length = mc_buffer_length(in);

    if (!is_at_reply(leg, MC_FAMILY_NUMBER) || length <= 2 ||
        memcmp(bytes + length - 2, "\r\n", 2) != 0 ||
        mc_number_take(bytes, number) != bytes + length - 2) {
        return false;
    }
    end_whole(leg);
    return true;
}

/* ---- steps ---------------------------------------------------------------------------------- */

bool mc_leg_is_running(const mc_leg *leg)
{
    return leg->state == STATE_RUNNING;
}

bool mc_leg_is_over(const mc_leg *leg)
{
    return leg->state == STATE_OVER;
}

bool mc_leg_is_to_be_retried(const mc_leg *leg)
{
    return leg->state == STATE_RETRY;
}

/* Whether more may be laid out now: what moves in turn waits for its replies first, so that no side
 * waits for the other's full buffers. */
bool mc_leg_wants_more(const mc_leg *leg)
{
    const mc_exchange *exchange = &leg->exchange;

    if (leg->piece_count > 0) {
        return false;
    }
    if (leg->owes_marker) {
        return true;
    }
    if (leg->next == leg->count) {
        return false;
    }
    return !leg->in_turn || leg->next == 0 || leg->noreply || mc_exchange_is_done(exchange) ||
           (is_retrieval(leg) && exchange->line_begin == leg->next && exchange->marked == 0);
}

/* The next batch: laid out here where it needs nobody's data. */
static mc_leg_step produce(mc_leg *leg)
{
    bool laid = open_batch(leg);

    if (laid && leg->next < leg->count && !is_retrieval(leg)) {
        return MC_LEG_PRODUCE;
    }
    if (laid && leg->next < leg->count) {
        laid = lay_out_keys(leg);
    }
    if (!laid || !mc_leg_ready(leg)) {
        end_failed(leg, MC_NO_MEMORY);
        return MC_LEG_OVER;
    }
    return MC_LEG_MOVE;
}

/* Everything that was expected has been answered. */
static mc_leg_step take_end(mc_leg *leg)
{
    mc_exchange *exchange = &leg->exchange;

    if (leg->piece_count > 0) {
        exchange->suspect |= leg->moved && !leg->noreply; /* it answered what it was not sent yet */
        return MC_LEG_MOVE;
    }
    if (mc_leg_wants_more(leg)) {
        return produce(leg);
    }
    if (exchange->marker) {
        leg->connection->unanswered = 0;
    }
    return end(leg, (mc_verdict){.keep = mc_exchange_end(exchange) && !leg->unclean});
}

/* An error line to a retrieval is a miss. What the server may say behind it is read up to a marker,
 * so that the stream can be used again: a proxy whose server is down has one for each get. */
static mc_leg_step take_reply(mc_leg *leg)
{
    mc_exchange *exchange = &leg->exchange;

    if (is_retrieval(leg)) {
        leg->owes_marker = mc_exchange_mark(exchange, leg->next);
    }
    /* A value names its key, and no piece of a word is a word. But a number names nothing, and half
     * of one is a number too: with bytes behind it, it may be the reply to another request, or one
     * that was broken in two. */
    else if (exchange->reply.type == MC_REPLY_NUMBER && !mc_exchange_is_clean(exchange)) {
        exchange->reply.line.length = 0;
        mc_leg_fail(leg, MC_MALFORMED);
        return MC_LEG_OVER;
    }
    return MC_LEG_REPLY;
}

mc_leg_step mc_leg_next(mc_leg *leg)
{
    mc_exchange *exchange = &leg->exchange;

    if (leg->state != STATE_RUNNING) {
        return leg->state == STATE_RETRY ? MC_LEG_RETRY : MC_LEG_OVER;
    }
    if (leg->next == 0 && leg->count != 0 && leg->piece_count == 0) {
        return produce(leg);
    }
    mc_event event = mc_exchange_next(exchange);

    if (leg->owes_marker && exchange->marked == 0) { /* answered before it was sent */
        leg->owes_marker = false;
        exchange->suspect = true;
    }
    exchange->suspect |= exchange->line_begin > leg->next; /* the same of a "get" line */
    switch (event) {
    case MC_EVENT_AGAIN:
        return mc_leg_wants_more(leg) ? produce(leg) : MC_LEG_MOVE;
    case MC_EVENT_VALUE:
        return MC_LEG_VALUE;
    case MC_EVENT_FILLED:
        return MC_LEG_FILLED;
    case MC_EVENT_REPLY:
        return take_reply(leg);
    case MC_EVENT_DONE:
        return take_end(leg);
    default:
        mc_leg_fail(leg, exchange->no_memory ? MC_NO_MEMORY : MC_MALFORMED);
        return MC_LEG_OVER;
    }
}
