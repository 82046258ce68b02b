/* leg_story: what a leg tells without a socket, as text, and what it sends. Each is told in one
 * piece, cut at every byte, and byte by byte, with its output taken whole and in bits, through the
 * general steps and through the short ways, and must be the same. */
#ifndef LEG_STORY_H
#define LEG_STORY_H

#include "core/flow/leg.h"

#include "story.h"

#define MOST_SENT ((size_t)1 << 21)
#define MOST_PIECES 64

typedef struct {
    mc_command command;
    size_t count;         /* commands, or keys */
    const char *argument; /* of a line or a listing */
    mc_slice value;       /* of storage commands */
    const uint64_t *cas;
    uint64_t left_out; /* bits: commands that are not sent */
    mc_slice key;      /* of all commands, in place of k0, k1 ... */
    bool stays, noreply, once, probe, in_turn, late, many_pieces;
    uint64_t max_length;
    uint32_t unanswered;    /* of the connection, before */
    const char *said[4];    /* by the server: [i] once i + 1 batches have left */
    mc_status end;          /* what comes when all is said */
    bool alone;             /* there is no other connection */
    const char *said_again; /* on the other one, */
    uint32_t owed_there;    /* which has so many unanswered */
} task;

/* How it is told: the input comes in pieces of first bytes, then of then; the output leaves in
 * pieces of taken. quick: by the short ways, and with bodies waited for. */
typedef struct {
    size_t first, then, taken;
    bool quick;
} telling;

/* "> " for a batch that has left, "v0=body ", "r0:line ", "retry ", then the verdict. */
typedef struct {
    char text[1 << 16];
    size_t length;
    char *sent;
    size_t sent_length;
    mc_verdict verdict;
    uint32_t unanswered;
} leg_story;

static inline void add_bytes(leg_story *told, const char *bytes, size_t length)
{
    if (told->length + length >= sizeof told->text) {
        abort();
    }
    if (length != 0) {
        memcpy(told->text + told->length, bytes, length);
    }
    told->length += length;
    told->text[told->length] = '\0';
}

static inline void add_word(leg_story *told, const char *word)
{
    add_bytes(told, word, strlen(word));
}

/* "v0=body " and its like. */
static inline void add(leg_story *told, char what, size_t index, char between, const char *bytes,
                       size_t length)
{
    char head[32];

    snprintf(head, sizeof head, "%c%zu%c", what, index, between);
    add_word(told, head);
    add_bytes(told, bytes, length);
    add_word(told, " ");
}

static const mc_transport free_transport = {
    .is_free = true, .is_pollable = true, .waits_for_all = true};
static const mc_transport turn_transport = {.is_free = false};

static inline mc_slice text_of(const char *text)
{
    return (mc_slice){text, text != NULL ? strlen(text) : 0};
}

static inline bool lay_out(const task *asked, mc_leg *leg)
{
    static const mc_slice none = {"", 0}, never = {"0", 1};
    mc_family family = mc_commands[asked->command].family;
    bool has_key = asked->command != MC_FLUSH_ALL && asked->command != MC_VERSION &&
                   asked->command != MC_META_PROBE;
    mc_slice key = asked->key.length != 0 ? asked->key : keys[leg->next];

    if (leg->next < 64 && (asked->left_out >> leg->next & 1)) {
        mc_leg_leave_out(leg);
        return true;
    }
    if (family == MC_FAMILY_STORAGE) {
        mc_laid laid = mc_leg_store(leg, key, 7, never, asked->value, asked->cas, asked->stays);
        size_t most = asked->count > 1 ? 8192 : 16384;

        CHECK(laid == MC_LAID_NO_MEMORY ||
              (laid == MC_LAID_POINTED_TO) == (asked->stays && asked->value.length > most));
        return laid != MC_LAID_NO_MEMORY;
    }
    return mc_leg_line(leg, has_key && family != MC_FAMILY_LISTING ? key : none,
                       text_of(asked->argument));
}

static inline void produce(const task *asked, mc_leg *leg)
{
    bool laid = true;

    CHECK(mc_leg_wants_more(leg) && mc_leg_has_room(leg));
    while (laid && mc_leg_has_room(leg)) {
        laid = lay_out(asked, leg);
    }
    if (!laid || !mc_leg_ready(leg)) {
        mc_leg_fail(leg, MC_NO_MEMORY);
    }
}

/* Takes up to so many bytes of what is laid out. True where the batch has left. */
static inline bool take_pieces(mc_leg *leg, size_t most, leg_story *told)
{
    size_t size = leg->pieces->iov_len < most ? leg->pieces->iov_len : most;

    if (told->sent_length + size > MOST_SENT) {
        abort();
    }
    memcpy(told->sent + told->sent_length, leg->pieces->iov_base, size);
    told->sent_length += size;
    leg->moved = true;
    mc_pieces_advance(&leg->pieces, &leg->piece_count, size);
    if (leg->piece_count == 0) {
        add_word(told, "> ");
    }
    return leg->piece_count == 0;
}

/* Gives up to so many bytes of what was said, as a transport does; how many. */
static inline size_t receive(mc_leg *leg, const char *said, size_t most, bool may_wait)
{
    struct iovec pieces[2];
    size_t length = strlen(said), given = 0;
    bool all;
    int count = mc_leg_room(leg, may_wait, pieces, &all);

    if (count == 0) {
        mc_leg_fail(leg, MC_NO_MEMORY);
        return 0;
    }
    CHECK(may_wait || !all);
    CHECK(count == 2 || !all);
    most = most < length ? most : length;
    for (int i = 0; i < count; i++) {
        size_t size = pieces[i].iov_len < most - given ? pieces[i].iov_len : most - given;

        CHECK(pieces[i].iov_len > 0);
        memcpy(pieces[i].iov_base, said + given, size);
        given += size;
    }
    leg->moved = true;
    mc_leg_received(leg, given);
    return given;
}

/* The reply that comes mostly, in one look: the story is the same. */
static inline void take_quick(const task *asked, mc_leg *leg, leg_story *told)
{
    mc_family family = mc_commands[asked->command].family;
    uint64_t number;
    uint32_t flags;
    mc_reply reply;
    mc_slice body;
    int found;

    if (asked->command == MC_GET && mc_leg_take_value(leg, &flags, &body) > 0) {
        add(told, 'v', 0, '=', body.bytes, body.length);
    }
    else if (family == MC_FAMILY_STORAGE && mc_leg_take_stored(leg)) {
        add(told, 'r', 0, ':', "STORED", 6);
    }
    else if (family == MC_FAMILY_META && (found = mc_leg_take_meta(leg, &reply, &body)) >= 0) {
        if (found > 0) {
            add(told, 'v', 0, '=', body.bytes, body.length);
        }
        else {
            add(told, 'r', 0, ':', reply.line.bytes, reply.line.length);
        }
    }
    else if (family == MC_FAMILY_NUMBER && mc_leg_take_number(leg, &number)) {
        char digits[32];

        add(told, 'r', 0, ':', digits, (size_t)snprintf(digits, sizeof digits, "%" PRIu64, number));
    }
}

static inline void add_verdict(leg_story *told)
{
    const mc_verdict *verdict = &told->verdict;
    static const char *const statuses[] = {"OK",      "AGAIN",     "INTERRUPTED", "TIMEOUT",
                                           "CLOSED",  "FAILED",    "MALFORMED",   "REFUSED",
                                           "CROWDED", "NO_MEMORY", "RAISED"};

    add_word(told, statuses[verdict->status]);
    add_word(told, verdict->keep ? " keep" : "");
    add_word(told, verdict->blame ? " blame" : "");
    add_word(told, verdict->answered ? " answered" : "");
    add_word(told, verdict->may_have_run ? " ran" : "");
    if (told->unanswered != 0) {
        char number[16];

        snprintf(number, sizeof number, " u%" PRIu32, told->unanswered);
        add_word(told, number);
    }
}

/* A leg with all that it needs, and what is said to it. */
typedef struct {
    const task *asked;
    telling how;
    leg_story *told;
    mc_leg leg;
    mc_connection connections[2], *connection;
    struct iovec pieces[MOST_PIECES];
    const char *said; /* what is still to come of what can come by now */
    size_t batches;   /* that have left on this connection, */
    size_t heard;     /* and what was said to them */
    char *room;       /* of a body, exactly */
} teller;

static inline void begin(teller *self, mc_connection *connection, uint32_t unanswered)
{
    mc_clock clock;

    mc_clock_start(&clock, self->asked->late ? 0 : MC_NO_TIMEOUT, MC_NO_TIMEOUT);
    clock.late = true;
    connection->transport = self->asked->in_turn ? &turn_transport : &free_transport;
    connection->unanswered = unanswered;
    self->connection = connection;
    self->said = "";
    self->batches = self->heard = 0;
    mc_leg_begin(&self->leg, connection, &clock);
}

/* What comes next of what is said to the batches that have left; false where that is all. */
static inline bool listen_on(teller *self)
{
    const task *asked = self->asked;
    bool again = self->connection == &self->connections[1];
    size_t most = again ? 1 : sizeof asked->said / sizeof *asked->said;

    while (*self->said == '\0' && self->heard < self->batches && self->heard < most) {
        const char *next = again ? asked->said_again : asked->said[self->heard];

        self->said = next != NULL ? next : "";
        self->heard++;
    }
    return *self->said != '\0';
}

static inline void move(teller *self)
{
    mc_leg *leg = &self->leg;

    if (leg->piece_count > 0) {
        if (take_pieces(leg, self->how.taken, self->told)) {
            CHECK(*self->said == '\0' || !self->asked->in_turn);
            self->batches++;
        }
    }
    else if (listen_on(self)) {
        self->said += receive(leg, self->said, self->how.first, self->how.quick);
        self->how.first = self->how.then;
        if (self->how.quick) {
            take_quick(self->asked, leg, self->told);
        }
    }
    else {
        CHECK(self->asked->end != MC_OK);
        mc_leg_fail(leg, self->asked->end);
    }
}

static inline void take_reply(teller *self, mc_leg_step step)
{
    mc_exchange *exchange = &self->leg.exchange;
    size_t length = (size_t)exchange->reply.length;

    if (step == MC_LEG_REPLY) {
        add(self->told, 'r', exchange->index, ':', exchange->reply.line.bytes,
            exchange->reply.line.length);
    }
    else if (step == MC_LEG_VALUE && exchange->body == NULL) {
        free(self->room);
        self->room = malloc(length + 1);
        mc_exchange_give_room(exchange, self->room + 1);
    }
    else {
        add(self->told, 'v', exchange->index, '=',
            step == MC_LEG_VALUE ? exchange->body : self->room + 1, length);
    }
}

static inline void try_again(teller *self)
{
    add_word(self->told, "retry ");
    if (self->asked->alone) {
        mc_leg_give_up(&self->leg);
    }
    else {
        begin(self, &self->connections[1], self->asked->owed_there);
    }
}

/* The end is the end, and nothing is left of a stream that is to be used again. */
static inline void end(teller *self)
{
    mc_leg *leg = &self->leg;

    self->told->verdict = leg->verdict;
    self->told->unanswered = self->connection->unanswered;
    mc_leg_fail(leg, MC_FAILED);
    CHECK(mc_leg_next(leg) == MC_LEG_OVER && leg->verdict.status == self->told->verdict.status);
    CHECK(!mc_leg_is_running(leg) && leg->piece_count == 0);
    CHECK(!leg->verdict.keep || mc_buffer_length(&self->connection->in) == 0);
    CHECK(!leg->verdict.keep || leg->verdict.status == MC_OK);
    CHECK(leg->verdict.status != MC_OK || (*self->said == '\0') || !leg->verdict.keep);
    add_verdict(self->told);
}

static inline void play(const task *asked, telling how, leg_story *told)
{
    static char sent[MOST_SENT];
    teller self = {.asked = asked, .how = how, .told = told};
    mc_leg *leg = &self.leg;
    mc_leg_step step;

    *told = (leg_story){.sent = sent};
    memset(leg, 0xee, sizeof *leg); /* init and begin set all that is read */
    mc_leg_init(leg, asked->command, asked->key.length != 0 ? &asked->key : keys, asked->count);
    leg->noreply = asked->noreply;
    leg->once = asked->once;
    leg->probe = asked->probe;
    if (asked->max_length != 0) {
        leg->max_length = asked->max_length;
    }
    if (asked->many_pieces) {
        mc_leg_use_room(leg, self.pieces, MOST_PIECES);
    }
    begin(&self, &self.connections[0], asked->unanswered);
    while ((step = mc_leg_next(leg)) != MC_LEG_OVER) {
        switch (step) {
        case MC_LEG_PRODUCE:
            produce(asked, leg);
            break;
        case MC_LEG_MOVE:
            move(&self);
            break;
        case MC_LEG_RETRY:
            try_again(&self);
            break;
        default:
            take_reply(&self, step);
        }
    }
    end(&self);
    mc_leg_fini(leg);
    for (int i = 0; i < 2; i++) {
        mc_buffer_fini(&self.connections[i].in);
        mc_buffer_fini(&self.connections[i].out);
    }
    free(self.room);
}

static inline void tell_once(const task *asked, telling how, mc_slice sent, const char *wanted)
{
    static leg_story told;

    play(asked, how, &told);
    CHECK_BYTES(told.text, told.length, wanted);
    CHECK(told.sent_length == sent.length && memcmp(told.sent, sent.bytes, sent.length) == 0);
    if (strcmp(told.text, wanted) != 0 || told.sent_length != sent.length) {
        fprintf(stderr, "pieces of %zu, then %zu; sent %.*s\n", how.first, how.then,
                (int)(told.sent_length < 200 ? told.sent_length : 200), told.sent);
    }
}

/* What is said at once, in one piece. */
static inline void tells_whole(task asked, mc_slice sent, const char *wanted)
{
    for (int quick = 0; quick < 2; quick++) {
        tell_once(&asked, (telling){MOST_SENT, MOST_SENT, MOST_SENT, quick != 0}, sent, wanted);
    }
}

static inline void tells_bytes(task asked, mc_slice sent, const char *wanted)
{
    size_t length = asked.said_again != NULL ? strlen(asked.said_again) : 0;
    int failed = check_failed;

    for (int i = 0; i < 4; i++) {
        length += asked.said[i] != NULL ? strlen(asked.said[i]) : 0;
    }
    tells_whole(asked, sent, wanted);
    for (size_t i = 0; i < 4 * length + 4 && check_failed == failed; i++) {
        size_t cut = 1 + i / 4, then = i & 1 ? 1 : MOST_SENT;

        tell_once(&asked, (telling){cut, then, MOST_SENT, (i & 2) != 0}, sent, wanted);
    }
    for (size_t taken = 1; taken < 8; taken += 3) {
        tell_once(&asked, (telling){MOST_SENT, 1, taken, false}, sent, wanted);
        tell_once(&asked, (telling){1, 1, taken, true}, sent, wanted);
    }
}

static inline void tells_leg(task asked, const char *sent, const char *wanted)
{
    tells_bytes(asked, text_of(sent), wanted);
}

#endif
