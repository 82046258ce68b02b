/* fuzz_exchange: any bytes as the reply to any request. The same bytes in one piece and in any
 * split, event by event or with what can be taken without one, tell the same story; it is the story
 * that an independent reader of the whole stream tells by protocol.txt; nothing is consumed past
 * the input.
 *
 * Input: command, number of replies, options, split, then the stream. The story is kept as a hash
 * of what happened; a value that came whole and one that was filled into room are the same. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/wire/exchange.h"

#define HEADER 4
#define ROOM ((size_t)1 << 16)

static const size_t reply_counts[] = {0,
                                      1,
                                      1,
                                      2,
                                      3,
                                      5,
                                      MC_KEYS_PER_GET,
                                      MC_KEYS_PER_GET + 1,
                                      2 * MC_KEYS_PER_GET,
                                      2 * MC_KEYS_PER_GET + 1};
#define MOST_KEYS (2 * MC_KEYS_PER_GET + 1)

typedef struct {
    mc_command command;
    size_t replies;
    bool marker;
    bool grow; /* the commands are sent one by one, each when the one before is answered */
    bool mark; /* an error line is marked */
    bool mark_each_line; /* the "get" lines are sent one by one, so the mark is behind each */
    uint64_t max_length;
    const char *stream;
    size_t size;
} request;

typedef struct {
    uint64_t hash;
    size_t events;
    char end; /* 'a'gain, 'd'one, 'b'roken */
    bool clean;
} story;

/* Keys repeat and begin with each other: k0 k1 k2 k2 k10 k11 ... */
static mc_slice keys[MOST_KEYS];

static void make_keys(void)
{
    static char names[MOST_KEYS][8];

    for (size_t i = 0; i < MOST_KEYS; i++) {
        size_t number = i == 3 ? 2 : i;

        keys[i].bytes = names[i];
        keys[i].length = (size_t)snprintf(names[i], sizeof names[i], "k%zu", number);
    }
}

static bool show_story; /* FUZZ_STORY is set: print what happens, to look at a finding */

static void mix(story *told, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < length; i++) {
        told->hash = (told->hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
}

static void happened(story *told, char what, size_t index, const char *bytes, size_t length)
{
    uint64_t numbers[2] = {index, length};

    told->events++;
    mix(told, &what, 1);
    mix(told, numbers, sizeof numbers);
    mix(told, bytes, length);
    if (show_story) {
        fprintf(stderr, "%c%zu:%.*s\n", what, index, (int)length, bytes);
    }
}

/* ---- The story as the exchange tells it ---- */

typedef struct {
    mc_exchange exchange;
    mc_buffer in;
    story told;
    size_t growing; /* commands still to be sent */
    uint32_t flags;
    uint64_t cas;
    bool ended;
    bool plain; /* takes what it can without an event: the story is the same */
    bool mark;
    bool mark_each_line;
    bool answered[MOST_KEYS];
    char room[ROOM];
} player;

/* Of the key that is there twice either may be answered first. */
static size_t number_of(size_t index)
{
    return index == 3 ? 2 : index;
}

static void value(player *self, const char *body, size_t length)
{
    size_t index = self->exchange.index;

    PROMISED(index < self->exchange.replies && !self->answered[index]);
    self->answered[index] = true;
    happened(&self->told, 'v', number_of(index), body, length);
    mix(&self->told, &self->flags, sizeof self->flags);
    mix(&self->told, &self->cas, sizeof self->cas);
}

/* What can be taken without an event. */
static void pull_plain(player *self)
{
    mc_exchange *exchange = &self->exchange;
    size_t held = mc_buffer_length(&self->in);
    mc_value_run run;
    mc_slice body;
    size_t first;

    mc_exchange_begin_run(exchange, &run);
    while (mc_value_run_next(&run, &self->flags, &body)) {
        size_t index = (size_t)(run.key - exchange->keys) - 1;

        PROMISED(run.left + body.length + 2 < held);
        held = run.left;
        self->cas = 0;
        if (exchange->cursor % 2 == 0) { /* some runs are of one value */
            mc_exchange_end_run(exchange, &run);
            PROMISED(mc_buffer_length(&self->in) == held && exchange->index == index);
            mc_exchange_begin_run(exchange, &run);
        }
        exchange->index = index;
        value(self, body.bytes, body.length);
    }
    mc_exchange_end_run(exchange, &run);
    for (size_t count = mc_exchange_take_stored(exchange, &first); count > 0; count--, first++) {
        PROMISED(first < exchange->replies);
        happened(&self->told, 'r', first, "STORED", 6);
    }
}

static void pull(player *self)
{
    mc_exchange *exchange = &self->exchange;

    while (!self->ended) {
        if (self->plain) {
            pull_plain(self);
        }

        size_t held = mc_buffer_length(&self->in);
        mc_event event = mc_exchange_next(exchange);
        const mc_reply *reply = &exchange->reply;

        PROMISED(mc_buffer_length(&self->in) <= held);
        PROMISED(exchange->consume <= mc_buffer_length(&self->in));
        switch (event) {
        case MC_EVENT_AGAIN:
            PROMISED(exchange->consume == 0);
            return;
        case MC_EVENT_VALUE:
            self->flags = reply->flags;
            self->cas = reply->has_cas ? reply->cas : 0;
            if (exchange->body != NULL) {
                value(self, exchange->body, (size_t)reply->length);
            }
            else if (reply->length > ROOM) {
                /* No stream here is that long: it can only wait. */
                self->told.end = 'a';
                self->ended = true;
            }
            else {
                mc_exchange_give_room(exchange, self->room + ROOM - reply->length);
            }
            break;
        case MC_EVENT_FILLED:
            PROMISED(exchange->room == self->room + ROOM && exchange->missing == 0);
            value(self, exchange->room - reply->length, (size_t)reply->length);
            break;
        case MC_EVENT_REPLY:
            happened(&self->told, 'r', exchange->index, reply->line.bytes, reply->line.length);
            if (self->mark &&
                mc_exchange_mark(exchange,
                                 self->mark_each_line ? exchange->line_end : exchange->replies)) {
                happened(&self->told, 'm', 0, "", 0);
            }
            break;
        case MC_EVENT_DONE:
        case MC_EVENT_BROKEN:
            if (event == MC_EVENT_BROKEN && reply->line.length != 0) {
                const char *held_bytes = mc_buffer_bytes(&self->in);

                PROMISED(reply->line.bytes >= held_bytes);
                PROMISED(reply->line.bytes + reply->line.length <=
                         held_bytes + mc_buffer_length(&self->in));
            }
            PROMISED(mc_exchange_next(exchange) == event);
            if (event == MC_EVENT_DONE && self->growing != 0) {
                self->growing--;
                mc_exchange_expect(exchange, 1);
                break;
            }
            self->told.end = event == MC_EVENT_DONE ? 'd' : 'b';
            self->ended = true;
            break;
        }
    }
}

/* Gives size bytes as a transport would: first into room, the rest into the buffer. */
static void give(player *self, const char *bytes, size_t size)
{
    size_t missing = self->ended ? 0 : self->exchange.missing;
    size_t into_room = missing < size ? missing : size;

    if (into_room != 0) {
        memcpy(self->exchange.room, bytes, into_room);
        mc_exchange_put(&self->exchange, into_room);
    }
    PROMISED(mc_buffer_append(&self->in, bytes + into_room, size - into_room));
}

static story play(const request *asked, unsigned split)
{
    static player self;
    size_t at = 0;

    mc_buffer_clear(&self.in);
    self.told = (story){.hash = UINT64_C(0xcbf29ce484222325), .end = 'a'};
    self.ended = false;
    self.plain = split % 2 == 0;
    self.mark = asked->mark;
    self.mark_each_line = asked->mark_each_line;
    memset(self.answered, 0, sizeof self.answered);
    self.growing = asked->grow && asked->replies > 1 ? asked->replies - 1 : 0;
    memset(&self.exchange, 0xee, sizeof self.exchange); /* init sets all that is read */
    mc_exchange_init(&self.exchange, &self.in, asked->command, keys, asked->replies - self.growing,
                     asked->marker);
    self.exchange.max_length = asked->max_length;
    pull(&self);
    while (at < asked->size && !(self.ended && self.told.end == 'a')) {
        size_t left = asked->size - at;
        size_t piece = left;

        if (split == 1) {
            piece = 1;
        }
        else if (split > 1) {
            split = split * 1103515245 + 12345;
            piece = 1 + (split >> 16) % 23;
        }
        piece = piece < left ? piece : left;
        give(&self, asked->stream + at, piece);
        at += piece;
        pull(&self);
    }
    if (self.told.end != 'a') {
        self.told.clean = mc_exchange_is_clean(&self.exchange);
        if (self.told.end == 'd') {
            /* What is left in the buffer is the end of the input, untouched. */
            size_t rest = mc_buffer_length(&self.in) - self.exchange.consume;

            PROMISED(rest <= asked->size);
            PROMISED(rest == 0 || memcmp(mc_buffer_bytes(&self.in) + self.exchange.consume,
                                         asked->stream + asked->size - rest, rest) == 0);
        }
    }
    else {
        PROMISED(!mc_exchange_is_clean(&self.exchange));
    }
    PROMISED(!self.exchange.no_memory);
    mc_exchange_fini(&self.exchange);
    return self.told;
}

/* ---- The story as the protocol tells it ---- */

typedef struct {
    const request *asked;
    story told;
    size_t at; /* in the stream */
    bool suspect;
    bool answered[MOST_KEYS];
} reader;

/* The next line; false where the story ends, told why. */
static bool read_line(reader *self, const char **line, size_t *length)
{
    const char *from = self->asked->stream + self->at;
    size_t left = self->asked->size - self->at;
    const char *end = left ? memchr(from, '\n', left) : NULL;

    if (end == NULL ? left >= MC_LINE_MAX : (size_t)(end - from) >= MC_LINE_MAX) {
        self->told.end = 'b';
        return false;
    }
    if (end == NULL) {
        self->told.end = 'a';
        return false;
    }
    if (end == from || end[-1] != '\r') {
        self->told.end = 'b';
        return false;
    }
    *line = from;
    *length = (size_t)(end - 1 - from);
    self->at += *length + 2;
    return true;
}

static bool begins(const char *line, size_t length, const char *with)
{
    return length >= strlen(with) && memcmp(line, with, strlen(with)) == 0;
}

static bool is_error(const char *line, size_t length)
{
    return fuzz_same(line, length, "ERROR") || begins(line, length, "ERROR ") ||
           fuzz_same(line, length, "CLIENT_ERROR") || begins(line, length, "CLIENT_ERROR ") ||
           fuzz_same(line, length, "SERVER_ERROR") || begins(line, length, "SERVER_ERROR ");
}

/* "VALUE key flags bytes [cas]": taken apart from the right places, or false. */
static bool read_header(const char *line, size_t length, bool with_cas, mc_slice *key,
                        uint32_t *flags, uint64_t *bytes, uint64_t *cas)
{
    const char *word[5];
    size_t size[5];
    size_t wanted = with_cas ? 5 : 4;
    const char *end = line + length;

    for (size_t i = 0; i < wanted; i++) {
        const char *space = i + 1 == wanted ? end : memchr(line, ' ', (size_t)(end - line));

        if (space == NULL) {
            return false;
        }
        word[i] = line;
        size[i] = (size_t)(space - line);
        line = space == end ? end : space + 1;
    }
    if (size[1] == 0 || !fuzz_is_number(word[2], size[2], FUZZ_U32_MAX) ||
        !fuzz_is_number(word[3], size[3], FUZZ_U64_MAX) ||
        (with_cas && !fuzz_is_number(word[4], size[4], FUZZ_U64_MAX))) {
        return false;
    }
    *key = (mc_slice){word[1], size[1]};
    *flags = (uint32_t)fuzz_number(word[2], size[2]);
    *bytes = fuzz_number(word[3], size[3]);
    *cas = with_cas ? fuzz_number(word[4], size[4]) : 0;
    return true;
}

/* One VALUE block for one of keys[from..to) that has none yet; false where the story ends. */
static bool read_value(reader *self, const char *line, size_t length, size_t from, size_t to)
{
    mc_slice key;
    uint32_t flags;
    uint64_t bytes, cas;

    self->told.end = 'b';
    if (!read_header(line, length, self->asked->command == MC_GETS, &key, &flags, &bytes, &cas) ||
        bytes > self->asked->max_length || bytes > SIZE_MAX - 2) {
        return false;
    }
    while (from < to && (self->answered[from] || keys[from].length != key.length ||
                         memcmp(keys[from].bytes, key.bytes, key.length) != 0)) {
        from++;
    }
    if (from == to) {
        return false;
    }
    self->answered[from] = true;

    const char *body = self->asked->stream + self->at;
    size_t left = self->asked->size - self->at;
    for (size_t i = 0; i < 2; i++) {
        if (left <= bytes + i) {
            self->told.end = 'a';
            return false;
        }
        if (body[bytes + i] != "\r\n"[i]) {
            return false;
        }
    }
    self->at += (size_t)bytes + 2;
    happened(&self->told, 'v', number_of(from), body, (size_t)bytes);
    mix(&self->told, &flags, sizeof flags);
    mix(&self->told, &cas, sizeof cas);
    return true;
}

/* What comes behind a marked error line, up to VERSION; false where the story ends before. */
static bool read_marked(reader *self, size_t from, size_t to)
{
    size_t lines = (to - from + MC_KEYS_PER_GET - 1) / MC_KEYS_PER_GET;
    size_t errors = 1, ends = 0;
    const char *line;
    size_t length;

    while (read_line(self, &line, &length)) {
        if (begins(line, length, "VERSION ")) {
            return true;
        }
        if (length > 6 && begins(line, length, "VALUE ")) {
            if (!read_value(self, line, length, from, to)) {
                return false;
            }
            continue;
        }
        bool error = is_error(line, length) && line[0] == 'S';

        errors += error;
        ends += fuzz_same(line, length, "END");
        if ((!error && !fuzz_same(line, length, "END")) || ends > lines ||
            (error && errors > (fuzz_is_of_one_key(line, length) ? to - from : lines))) {
            self->told.end = 'b';
            return false;
        }
    }
    return false;
}

/* The reply to the "get" line of keys[from..to): 'e' where it has an END, '!' where it has an error
 * line, 's' for SERVER_ERROR, 'u' where it may be all that comes; 0 where the story ends. */
static char read_get_line(reader *self, size_t from, size_t to)
{
    const char *line;
    size_t length;

    while (read_line(self, &line, &length)) {
        if (fuzz_same(line, length, "END")) {
            return 'e';
        }
        if (is_error(line, length)) {
            happened(&self->told, 'r', to, line, length);
            return line[0] == 'S' ? 's' : fuzz_is_unauthenticated(line, length) ? 'u' : '!';
        }
        if (!begins(line, length, "VALUE ")) {
            self->told.end = 'b';
            return 0;
        }
        if (!read_value(self, line, length, from, to)) {
            return 0;
        }
    }
    return 0;
}

static void read_retrieval(reader *self)
{
    const request *asked = self->asked;
    size_t to;

    for (size_t from = 0; from < asked->replies; from = to) {
        to = asked->replies - from > MC_KEYS_PER_GET ? from + MC_KEYS_PER_GET : asked->replies;

        char end = read_get_line(self, from, to);
        if (end == 0) {
            return;
        }
        if (end == 's' && asked->mark && !asked->marker && !self->suspect) {
            happened(&self->told, 'm', 0, "", 0);
            to = asked->mark_each_line ? to : asked->replies;
            if (!read_marked(self, from, to)) {
                return;
            }
        }
        else if (end != 'e') {
            self->suspect = true;
        }
        if (end == 'u' && to < asked->replies) {
            self->told.end = 'b';
            return;
        }
    }
    self->told.end = 'd';
}

static void read_listing(reader *self)
{
    const char *line;
    size_t length;

    for (size_t row = 0; read_line(self, &line, &length); row++) {
        if (fuzz_same(line, length, "END") ||
            (row == 0 && (fuzz_same(line, length, "RESET") || fuzz_same(line, length, "OK")))) {
            self->told.end = 'd';
            return;
        }
        if (is_error(line, length)) {
            happened(&self->told, 'r', row, line, length);
            self->suspect = true;
            self->told.end = 'd';
            return;
        }
        if (!begins(line, length, "STAT ") && !begins(line, length, "ITEM ") &&
            !begins(line, length, "PREFIX ")) {
            self->told.end = 'b';
            return;
        }
        happened(&self->told, 'r', row, line, length);
    }
}

/* Answers by command, in the words of protocol.txt; "#" is a number, "VERSION " begins a line. */
static const char *const answers[MC_MG][5] = {
    [MC_SET] = {"STORED", "NOT_STORED"},
    [MC_ADD] = {"STORED", "NOT_STORED"},
    [MC_REPLACE] = {"STORED", "NOT_STORED"},
    [MC_APPEND] = {"STORED", "NOT_STORED"},
    [MC_PREPEND] = {"STORED", "NOT_STORED"},
    [MC_CAS] = {"STORED", "NOT_STORED", "EXISTS", "NOT_FOUND"},
    [MC_DELETE] = {"DELETED", "NOT_FOUND"},
    [MC_TOUCH] = {"TOUCHED", "NOT_FOUND"},
    [MC_INCR] = {"#", "NOT_FOUND"},
    [MC_DECR] = {"#", "NOT_FOUND"},
    [MC_FLUSH_ALL] = {"OK"},
    [MC_VERSION] = {"VERSION "},
};

static bool is_answer(mc_command command, const char *line, size_t length)
{
    for (const char *const *answer = answers[command]; *answer != NULL; answer++) {
        if (**answer == '#' ? fuzz_is_number(line, length, FUZZ_U64_MAX)
                            : fuzz_same(line, length, *answer)) {
            return true;
        }
    }
    return command == MC_VERSION && begins(line, length, "VERSION ");
}

/* The errors after which the stream is known to stand at the next answer. */
static bool is_whole_answer(mc_command command, const char *line, size_t length)
{
    if (command >= MC_SET && command <= MC_CAS) {
        return fuzz_same(line, length, "SERVER_ERROR object too large for cache") ||
               fuzz_same(line, length, "SERVER_ERROR out of memory storing object");
    }
    if (command == MC_DELETE || command == MC_TOUCH || command == MC_FLUSH_ALL ||
        command == MC_VERSION) {
        return fuzz_same(line, length,
                         "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]");
    }
    return (command == MC_INCR || command == MC_DECR) &&
           fuzz_same(line, length, "CLIENT_ERROR cannot increment or decrement non-numeric value");
}

static void read_answers(reader *self)
{
    mc_command command = self->asked->command;
    bool storage = command >= MC_SET && command <= MC_CAS;
    bool lost = false; /* which answer belongs to which command */

    for (size_t i = 0; i < self->asked->replies; i++) {
        const char *line;
        size_t length;

        if (!read_line(self, &line, &length)) {
            return;
        }
        bool error = is_error(line, length);
        if (!error && !is_answer(command, line, length)) {
            self->told.end = 'b';
            return;
        }
        happened(&self->told, 'r', i, line, length);
        if (error && (self->asked->marker || !is_whole_answer(command, line, length))) {
            self->suspect = true;
            /* With a SERVER_ERROR no data block is taken for commands. */
            lost |= self->asked->marker || (storage && line[0] != 'S') ||
                    fuzz_is_unauthenticated(line, length);
            if (i + 1 < self->asked->replies && lost) {
                self->told.end = 'b';
                return;
            }
        }
    }
    self->told.end = 'd';
}

/* True once the marker has come. */
static bool read_marker(reader *self)
{
    const char *line;
    size_t length;

    while (read_line(self, &line, &length)) {
        if (begins(line, length, "VERSION ")) {
            return true;
        }
        if ((length > 6 && begins(line, length, "VALUE ")) ||
            fuzz_is_unauthenticated(line, length)) {
            self->told.end = 'b';
            return false;
        }
    }
    return false;
}

static story read_whole(const request *asked)
{
    reader self = {.asked = asked, .told = {.hash = UINT64_C(0xcbf29ce484222325), .end = 'a'}};

    if (!asked->marker || read_marker(&self)) {
        if (asked->replies == 0) {
            self.told.end = 'd';
        }
        else if (asked->command <= MC_GETS) {
            read_retrieval(&self);
        }
        else if (asked->command == MC_STATS) {
            read_listing(&self);
        }
        else {
            read_answers(&self);
        }
    }
    self.told.clean = self.told.end == 'd' && !self.suspect && self.at == asked->size;
    return self.told;
}

static void same(story one, story other)
{
    PROMISED(one.end == other.end);
    PROMISED(one.events == other.events && one.hash == other.hash);
    PROMISED(one.clean == other.clean);
}

/* The look at a whole reply to a get of one key takes nothing that the exchange does not, and tells
 * the same. */
static void match_whole(const request *asked, story whole)
{
    uint32_t flags = 4242;
    mc_slice body = {NULL, 0};
    int matched = mc_reply_match_get(asked->stream, asked->size, keys[0], &flags, &body);
    story told = {.hash = UINT64_C(0xcbf29ce484222325), .end = 'd', .clean = true};

    if (matched < 0) {
        return;
    }
    if (matched == 1) {
        uint64_t cas = 0;

        happened(&told, 'v', 0, body.bytes, body.length);
        mix(&told, &flags, sizeof flags);
        mix(&told, &cas, sizeof cas);
    }
    same(told, whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (keys[0].bytes == NULL) {
        make_keys();
        show_story = getenv("FUZZ_STORY") != NULL;
    }
    if (size < HEADER || size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    request asked = {
        .command = (mc_command)(data[0] % MC_MG),
        .replies = reply_counts[data[1] % (sizeof reply_counts / sizeof *reply_counts)],
        .marker = data[2] & 1,
        .max_length = data[2] & 2 ? (uint64_t)(data[2] >> 2) : UINT64_MAX,
        .stream = fuzz_guarded(data + HEADER, size - HEADER, 0),
        .size = size - HEADER,
    };

    asked.grow = (data[1] & 128) && asked.command > MC_GETS && asked.command != MC_STATS;
    asked.mark = (data[1] & 128) && asked.command <= MC_GETS;
    asked.mark_each_line = data[1] & 64;
    story whole = play(&asked, 0);
    same(whole, read_whole(&asked));
    same(play(&asked, 1), whole);
    if (asked.command == MC_GET && asked.replies == 1 && !asked.marker &&
        asked.max_length == UINT64_MAX) {
        match_whole(&asked, whole);
    }
    same(play(&asked, 2u + data[3]), whole);
    return 0;
}
