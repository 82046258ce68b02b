/* fuzz_leg: any bytes as what a server says to any operation, while it is sent or behind it, in any
 * pieces; closed before a word, or silent at the end. A leg sends what protocol.txt says, written
 * here anew; it tells the events of an exchange that is given the same bytes, and no other; and its
 * verdict is what these say: a stream is kept only where all has left, every reply was read, and
 * nothing stands behind it.
 *
 * Input: command, count, two bytes of options, value, split, then the stream. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/flow/leg.h"

#define HEADER 6
#define MOST_KEYS 2001
#define MOST_SENT ((size_t)1 << 20)
#define MOST_PIECES 16

static const size_t counts[] = {1, 1, 1, 1, 2, 3, 5, 40, 1000, 1001, 2000, MOST_KEYS};
static const size_t lengths[] = {0, 1, 3, 10, 8192, 8193, 16385, 70000};
static const uint64_t limits[] = {10, 1000, 5000, 20000};
static const uint32_t owed[] = {0, 0, 1, 511, 512, 1000};

typedef struct {
    mc_command command;
    size_t count, length;
    bool noreply, probe, in_turn, late, stays, many_pieces, long_key, left_out, has_cas;
    bool closes; /* the first connection, before a word */
    bool quick;  /* the reply that comes mostly is taken in one look */
    bool early;  /* what is said may come before all has left */
    uint64_t max_length;
    uint32_t unanswered;
    mc_status end; /* what comes behind the stream */
} request;

static request asked;
static const char *stream;
static size_t stream_left;
static uint32_t split;

/* What the oracle knows. */
static struct {
    mc_exchange exchange; /* is given the same bytes */
    mc_buffer in;
    char *room;
    size_t next;      /* commands or keys laid out or left out */
    size_t laid, sum; /* laid out, and of them in batches that are ready */
    size_t replies;   /* that were told */
    size_t from, to;  /* of sent: what has to leave still */
    bool owes;        /* a "version" behind an error line */
    bool out_of_step; /* something was answered before it was sent */
    bool retried, ran, marker_last;
    mc_status failed;
    uint32_t unanswered;
} known;

static char sent[MOST_SENT];
static mc_slice keys[MOST_KEYS];
static char names[MOST_KEYS][8], long_name[251], value[70000];
static mc_connection connections[2], *connection;
static mc_leg leg;
static char *room;

static uint32_t chance(uint32_t below)
{
    split = split * 1103515245 + 12345;
    return (split >> 16) % below;
}

/* ---- what has to leave ---- */

static void write_text(const char *text, size_t length)
{
    PROMISED(known.to + length <= MOST_SENT);
    memcpy(sent + known.to, text, length);
    known.to += length;
}

static void write_word(const char *word)
{
    write_text(word, strlen(word));
}

static bool is_retrieval(void)
{
    return asked.command <= MC_GETS;
}

static bool is_storage(void)
{
    return asked.command >= MC_SET && asked.command <= MC_CAS;
}

static const char *const words[MC_MG] = {"get",    "gets",    "set",       "add",    "replace",
                                         "append", "prepend", "cas",       "delete", "touch",
                                         "incr",   "decr",    "flush_all", "stats",  "version"};

static void write_gets(void)
{
    do {
        size_t end = known.next + 1000 < asked.count ? known.next + 1000 : asked.count;

        write_word(words[asked.command]);
        for (; known.next < end; known.next++) {
            write_word(" ");
            write_text(keys[known.next].bytes, keys[known.next].length);
        }
        write_word("\r\n");
    } while (!asked.in_turn && known.next < asked.count);
}

static void write_command(mc_slice key, bool has_key, const char *argument)
{
    char text[64];

    write_word(words[asked.command]);
    if (has_key) {
        write_word(" ");
        write_text(key.bytes, key.length);
    }
    if (is_storage()) {
        snprintf(text, sizeof text, " 4294967295 0 %zu%s", asked.length,
                 asked.has_cas ? " 18446744073709551615" : "");
        write_word(text);
    }
    write_word(argument);
    write_word(asked.noreply ? " noreply\r\n" : "\r\n");
    if (is_storage()) {
        write_text(value, asked.length);
        write_word("\r\n");
    }
}

/* A batch is laid out: what it has to be. */
static void check_batch(bool first)
{
    size_t length = 0, marker = strlen("version\r\n");

    for (int i = 0; i < leg.piece_count; i++) {
        PROMISED(leg.pieces[i].iov_len != 0);
        length += leg.pieces[i].iov_len;
    }
    if (is_retrieval()) {
        known.from = known.to = 0;
        if (first ? known.exchange.marker : known.owes) {
            write_word("version\r\n");
        }
        known.owes = false;
        if (known.next < asked.count) {
            write_gets();
        }
    }
    else if (known.marker_last && known.next == asked.count) {
        write_word("version\r\n");
    }
    PROMISED(length == known.to - known.from);
    PROMISED(!known.marker_last || known.next < asked.count ||
             memcmp(sent + known.to - marker, "version\r\n", marker) == 0);
    known.ran |= known.to != known.from;
    if (asked.noreply) {
        known.unanswered += (uint32_t)(known.laid - known.sum);
    }
    else if (!is_retrieval() && asked.command != MC_STATS) {
        mc_exchange_expect(&known.exchange, known.laid - known.sum);
    }
    known.sum = known.laid;
}

static void lay_out(void)
{
    static const uint64_t cas = UINT64_MAX;
    static const mc_slice none = {"", 0}, never = {"0", 1}, ten = {"10", 2};
    mc_command command = asked.command;
    bool has_key = command < MC_FLUSH_ALL, has_argument = has_key && command != MC_DELETE;
    mc_slice key = asked.long_key ? (mc_slice){long_name, sizeof long_name} : keys[leg.next];

    PROMISED(leg.next == known.next);
    known.next++;
    if (asked.left_out && chance(3) == 0) {
        mc_leg_leave_out(&leg);
        return;
    }
    known.laid++;
    if (is_storage()) {
        mc_laid laid = mc_leg_store(&leg, key, UINT32_MAX, never, (mc_slice){value, asked.length},
                                    asked.has_cas ? &cas : NULL, asked.stays);

        PROMISED(laid == MC_LAID_COPIED || (laid == MC_LAID_POINTED_TO && asked.stays));
        write_command(key, true, "");
        return;
    }
    PROMISED(mc_leg_line(&leg, has_key ? key : none, has_argument ? ten : none));
    write_command(key, has_key, has_argument ? " 10" : "");
}

static void produce(void)
{
    bool first = known.next == 0;

    PROMISED(mc_leg_has_room(&leg) && !is_retrieval());
    known.from = known.to = 0;
    if (first && known.exchange.marker && !known.marker_last) {
        write_word("version\r\n");
    }
    while (mc_leg_has_room(&leg)) {
        lay_out();
    }
    PROMISED(mc_leg_ready(&leg));
    check_batch(false);
}

/* ---- bytes ---- */

static void begin(mc_connection *on, uint32_t unanswered)
{
    static const mc_transport ways[] = {{.is_free = true, .is_pollable = true}, {.is_free = false}};
    mc_clock clock = {.timeout = asked.late ? 0 : MC_NO_TIMEOUT, .late = true};

    connection = on;
    connection->transport = &ways[asked.in_turn];
    connection->unanswered = unanswered;
    mc_buffer_clear(&connection->in); /* the memory stays, as that of an idle connection */
    mc_buffer_clear(&connection->out);
    mc_leg_begin(&leg, connection, &clock);
    mc_exchange_fini(&known.exchange);
    mc_buffer_clear(&known.in);
    known.marker_last = asked.noreply && (asked.probe || unanswered + asked.count > 512);
    size_t replies = is_retrieval() ? asked.count : asked.command == MC_STATS ? 1 : 0;
    bool marker = known.marker_last || (!asked.noreply && unanswered != 0);
    mc_exchange_init(&known.exchange, &known.in, asked.noreply ? MC_VERSION : asked.command, keys,
                     asked.noreply ? 0 : replies, marker);
    known.exchange.max_length = asked.max_length;
    known.next = known.laid = known.sum = known.replies = known.from = known.to = 0;
    known.owes = known.out_of_step = known.ran = false;
    known.unanswered = unanswered;
}

static void take_some(void)
{
    size_t size = 1 + chance(split % 2 ? 40 : 1 << 15);

    if (size > leg.pieces->iov_len || split == 0) {
        size = leg.pieces->iov_len;
    }
    PROMISED(known.from + size <= known.to);
    PROMISED(memcmp(leg.pieces->iov_base, sent + known.from, size) == 0);
    known.from += size;
    leg.moved = true;
    mc_pieces_advance(&leg.pieces, &leg.piece_count, size);
    PROMISED(leg.piece_count != 0 || known.from == known.to);
}

static void hear(const char *bytes, size_t size)
{
    size_t into_room = known.exchange.missing < size ? known.exchange.missing : size;

    if (into_room != 0) {
        memcpy(known.exchange.room, bytes, into_room);
        mc_exchange_put(&known.exchange, into_room);
    }
    PROMISED(mc_buffer_append(&known.in, bytes + into_room, size - into_room));
}

static void receive(void)
{
    struct iovec pieces[2];
    bool all;
    int count = mc_leg_room(&leg, chance(2) == 0, pieces, &all);
    size_t size = 1 + chance(split % 2 ? 3 : 1 << 12), given = 0;

    PROMISED(count > 0 && count <= 2 && (count == 2 || !all));
    size = size < stream_left ? size : stream_left;
    for (int i = 0; i < count; i++) {
        size_t part = pieces[i].iov_len < size - given ? pieces[i].iov_len : size - given;

        memcpy(pieces[i].iov_base, stream + given, part);
        given += part;
    }
    leg.moved = true;
    mc_leg_received(&leg, given);
    hear(stream, given);
    stream += given;
    stream_left -= given;
}

/* ---- events ---- */

static void same_line(void)
{
    mc_slice told = leg.exchange.reply.line, line = known.exchange.reply.line;

    PROMISED(leg.exchange.index == known.exchange.index && told.length == line.length);
    PROMISED(memcmp(told.bytes, line.bytes, line.length) == 0);
}

static void take_value(mc_leg_step step)
{
    const mc_reply *reply = &leg.exchange.reply, *other = &known.exchange.reply;
    size_t length = (size_t)reply->length;

    PROMISED(reply->length == other->length && reply->flags == other->flags);
    PROMISED(reply->length <= asked.max_length && leg.exchange.index < asked.count);
    PROMISED(leg.exchange.index == known.exchange.index);
    PROMISED((leg.exchange.body == NULL) == (known.exchange.body == NULL));
    if (step == MC_LEG_VALUE && leg.exchange.body == NULL) {
        free(room);
        free(known.room);
        room = malloc(length); /* to the byte: the sanitizer sees what is past it */
        known.room = malloc(length);
        mc_exchange_give_room(&leg.exchange, room);
        mc_exchange_give_room(&known.exchange, known.room);
        return;
    }
    known.replies++;
    PROMISED(length == 0 ||
             memcmp(step == MC_LEG_VALUE ? leg.exchange.body : room,
                    step == MC_LEG_VALUE ? known.exchange.body : known.room, length) == 0);
}

static mc_event next_known(void)
{
    mc_event event = mc_exchange_next(&known.exchange);

    if (known.owes && known.exchange.marked == 0) {
        known.owes = false;
        known.out_of_step = true;
        known.exchange.suspect = true;
    }
    if (is_retrieval() && known.exchange.line_begin > known.next) {
        known.out_of_step = known.exchange.suspect = true;
    }
    return event;
}

/* The event that the exchange has; MC_LEG_PRODUCE for more to be laid out or moved. */
static void take_event(mc_leg_step step)
{
    mc_event event = next_known();

    switch (event) {
    case MC_EVENT_VALUE:
        PROMISED(step == MC_LEG_VALUE);
        take_value(step);
        return;
    case MC_EVENT_FILLED:
        PROMISED(step == MC_LEG_FILLED);
        take_value(step);
        return;
    case MC_EVENT_REPLY:
        if (!is_retrieval() && known.exchange.reply.type == MC_REPLY_NUMBER &&
            mc_buffer_length(&known.in) != known.exchange.consume) {
            PROMISED(step == MC_LEG_OVER && leg.verdict.status == MC_MALFORMED);
            PROMISED(leg.exchange.reply.line.length == 0);
            known.failed = MC_MALFORMED;
            return;
        }
        PROMISED(step == MC_LEG_REPLY);
        same_line();
        known.replies++;
        known.owes |= is_retrieval() && mc_exchange_mark(&known.exchange, known.next);
        return;
    case MC_EVENT_DONE:
        PROMISED(step == MC_LEG_OVER || step == MC_LEG_MOVE || step == MC_LEG_PRODUCE);
        if (known.from != known.to && leg.moved && !asked.noreply) {
            known.out_of_step = true;
        }
        return;
    case MC_EVENT_BROKEN:
        PROMISED(step == MC_LEG_OVER && leg.verdict.status == MC_MALFORMED);
        known.failed = MC_MALFORMED;
        return;
    default:
        PROMISED(step == MC_LEG_MOVE || step == MC_LEG_PRODUCE);
    }
}

static void check_verdict(void)
{
    const mc_verdict *verdict = &leg.verdict;
    mc_status status = known.failed;
    bool sends = !is_retrieval() && asked.command != MC_STATS;
    bool over = mc_exchange_is_done(&known.exchange);

    PROMISED(verdict->status == status && mc_leg_next(&leg) == MC_LEG_OVER);
    PROMISED(leg.piece_count == 0 && !mc_leg_is_running(&leg));
    PROMISED(verdict->blame == (status == MC_TIMEOUT && !asked.late));
    PROMISED(verdict->may_have_run == (status != MC_OK && known.ran && sends));
    PROMISED(verdict->answered ==
             (is_retrieval() && status != MC_OK && known.exchange.marked != 0));
    if (status == MC_OK) {
        size_t behind = mc_buffer_length(&known.in) - known.exchange.consume;

        PROMISED(over && known.next == asked.count && known.from == known.to && !known.owes);
        PROMISED(is_retrieval() || asked.noreply || asked.command == MC_STATS ||
                 known.replies == known.laid);
        PROMISED(verdict->keep == (behind == 0 && !known.exchange.suspect && !known.out_of_step &&
                                   !(asked.noreply && asked.long_key && known.laid != 0)));
        PROMISED(!verdict->keep || mc_buffer_length(&connection->in) == 0);
        PROMISED(connection->unanswered == (known.exchange.marker ? 0 : known.unanswered));
    }
    else {
        PROMISED(!verdict->keep && connection->unanswered == known.unanswered);
    }
}

/* In one look: what the events would have told, and nothing behind it. */
static bool take_quick(void)
{
    const char *bytes = mc_buffer_bytes(&known.in);
    size_t length = mc_buffer_length(&known.in);
    uint32_t flags = 0;
    uint64_t number = 0;
    mc_slice body = {NULL, 0};

    if (asked.command == MC_GET) {
        int found = mc_leg_take_value(&leg, &flags, &body);

        if (found < 0) {
            return false;
        }
        if (found == 1) {
            PROMISED(mc_exchange_next(&known.exchange) == MC_EVENT_VALUE);
            PROMISED(known.exchange.body != NULL && known.exchange.reply.flags == flags);
            PROMISED(known.exchange.reply.length == body.length);
            PROMISED(memcmp(known.exchange.body, body.bytes, body.length) == 0);
        }
    }
    else if (is_storage() ? !mc_leg_take_stored(&leg)
                          : (asked.command != MC_INCR && asked.command != MC_DECR) ||
                                !mc_leg_take_number(&leg, &number)) {
        return false;
    }
    else if (is_storage()) {
        PROMISED(fuzz_same(bytes, length, "STORED\r\n"));
    }
    else {
        PROMISED(length > 2 && fuzz_is_number(bytes, length - 2, FUZZ_U64_MAX));
        PROMISED(fuzz_number(bytes, length - 2) == number);
    }
    if (asked.command != MC_GET) {
        PROMISED(mc_exchange_next(&known.exchange) == MC_EVENT_REPLY);
        known.replies++;
    }
    PROMISED(mc_exchange_next(&known.exchange) == MC_EVENT_DONE);
    PROMISED(mc_exchange_is_clean(&known.exchange) && leg.verdict.keep && !known.owes);
    return true;
}

static void fail(mc_status status)
{
    static const bool repeatable[MC_MG] = {
        [MC_GET] = true,   [MC_GETS] = true,  [MC_SET] = true,    [MC_DELETE] = true,
        [MC_TOUCH] = true, [MC_STATS] = true, [MC_VERSION] = true};

    mc_leg_fail(&leg, status);
    if (status == MC_CLOSED && !known.exchange.started && !known.retried &&
        repeatable[asked.command]) {
        PROMISED(mc_leg_next(&leg) == MC_LEG_RETRY);
        known.retried = true;
        begin(&connections[1], asked.unanswered > 1 ? 1 : 0);
        return;
    }
    known.failed = status;
}

static void move(void)
{
    bool closing = asked.closes && connection == &connections[0];

    if (leg.piece_count > 0 && (!asked.early || closing || stream_left == 0 || chance(3) != 0)) {
        take_some();
    }
    else if (closing || stream_left == 0) {
        fail(closing ? MC_CLOSED : asked.end);
    }
    else {
        receive();
        if (asked.quick) {
            take_quick();
        }
    }
}

static void play(void)
{
    mc_leg_step step;

    for (;;) {
        bool over = !mc_leg_is_running(&leg);
        bool first = leg.next == 0, had = leg.piece_count > 0;
        size_t laid = leg.next;

        step = mc_leg_next(&leg);
        if (over) {
            break;
        }
        if (!(first && !had)) { /* else it lays out before it looks at any reply */
            take_event(step);
        }
        if (step == MC_LEG_PRODUCE) {
            produce();
        }
        else if (step == MC_LEG_MOVE) {
            if (!had && (leg.piece_count > 0 || leg.next != laid)) {
                check_batch(first);
            }
            move();
        }
    }
    PROMISED(step == MC_LEG_OVER);
    check_verdict();
}

/* ---- the input ---- */

static void make_keys(void)
{
    for (size_t i = 0; i < MOST_KEYS; i++) {
        keys[i].length = (size_t)snprintf(names[i], sizeof names[i], "k%zu", i == 3 ? 2 : i);
        keys[i].bytes = names[i];
    }
    memset(long_name, 'n', sizeof long_name);
    memset(value, 'x', sizeof value);
}

static void read_request(const uint8_t *data)
{
    static const mc_status ends[] = {MC_CLOSED, MC_TIMEOUT, MC_FAILED, MC_INTERRUPTED};

    asked = (request){.command = (mc_command)(data[0] % MC_MG),
                      .count = counts[data[1] % (sizeof counts / sizeof *counts)],
                      .unanswered = owed[data[1] / 16 % (sizeof owed / sizeof *owed)],
                      .noreply = data[2] & 1,
                      .probe = data[2] & 2,
                      .in_turn = data[2] & 4,
                      .late = data[2] & 8,
                      .stays = data[2] & 16,
                      .many_pieces = data[2] & 32,
                      .quick = data[2] & 64,
                      .closes = data[2] & 128,
                      .end = ends[data[3] % 4],
                      .max_length = limits[data[3] / 4 % 4],
                      .early = data[3] & 16,
                      .long_key = data[3] & 32,
                      .left_out = data[3] & 64,
                      .has_cas = data[3] & 128,
                      .length = lengths[data[4] % (sizeof lengths / sizeof *lengths)]};
    if (asked.end == MC_INTERRUPTED) {
        asked.end = MC_CLOSED;
    }
    asked.has_cas &= asked.command == MC_CAS;
    asked.noreply &= !is_retrieval() && asked.command != MC_STATS && asked.command != MC_VERSION;
    asked.long_key &= !is_retrieval() && asked.command < MC_FLUSH_ALL;
    asked.early &= !asked.in_turn;
    if (asked.command == MC_STATS || asked.command == MC_VERSION || asked.command == MC_FLUSH_ALL ||
        asked.command == MC_INCR || asked.command == MC_DECR) {
        asked.count = 1;
    }
    if (is_storage() && (asked.length > 10 || asked.count > 40)) {
        asked.count = asked.count > 5 ? 5 : asked.count;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct iovec pieces[MOST_PIECES];

    if (size < HEADER || size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    if (keys[0].bytes == NULL) {
        make_keys();
    }
    read_request(data);
    split = data[5];
    stream = fuzz_guarded(data + HEADER, size - HEADER, 0);
    stream_left = size - HEADER;
    memset(&leg, 0xee, sizeof leg); /* init and begin set all that is read */
    mc_leg_init(&leg, asked.command, keys, asked.count);
    leg.noreply = asked.noreply;
    leg.probe = asked.probe;
    leg.max_length = asked.max_length;
    if (asked.many_pieces) {
        mc_leg_use_room(&leg, pieces, MOST_PIECES);
    }
    known.retried = false;
    known.failed = MC_OK;
    begin(&connections[0], asked.unanswered);
    play();
    mc_leg_fini(&leg);
    mc_exchange_fini(&known.exchange);
    free(room);
    free(known.room);
    room = known.room = NULL;
    return 0;
}
