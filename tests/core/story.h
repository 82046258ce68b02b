/* story: what an exchange tells of a stream, as text. Each stream is told in one piece, cut at
 * every byte, and byte by byte, with bodies taken from the buffer and into room, and must tell the
 * same story. */
#ifndef STORY_H
#define STORY_H

#include "core/wire/exchange.h"

#include "check.h"

typedef struct {
    mc_command command;
    size_t replies;
    bool marker;
    uint64_t max_length;
    size_t mark; /* an error line is marked, with so many keys asked for; 0: none is */
} request;

#define CLASSIC_COMMANDS MC_MG /* the meta commands, which come last, have tests of their own */

static mc_slice keys[2 * MC_KEYS_PER_GET + 2];
static char names[sizeof keys / sizeof *keys][8];

static inline void name_keys(void)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(names[i], sizeof names[i], "k%zu", i);
        keys[i] = (mc_slice){names[i], strlen(names[i])};
    }
}

/* The story of an exchange as text: "v0=body " for a value that came whole, "r0:line " for a
 * reply line, "mark " where it was marked, then "done", "broken" or "again"; "!" behind it where
 * the stream is not clean. */
typedef struct {
    char text[1024];
    size_t length;
    bool clean;
    bool started;
} story;

static inline void tell(story *told, const char *form, size_t number, const char *bytes,
                        size_t length)
{
    told->length += (size_t)snprintf(told->text + told->length, sizeof told->text - told->length,
                                     form, number, (int)length, bytes);
    if (told->length >= sizeof told->text) {
        abort();
    }
}

static bool plain; /* take what can be taken without an event: the story must be the same */

static inline void pull_plain(mc_exchange *exchange, story *told)
{
    mc_value_run run;
    mc_slice body;
    uint32_t flags;
    size_t at;

    mc_exchange_begin_run(exchange, &run);
    while (mc_value_run_next(&run, &flags, &body)) {
        size_t index = (size_t)(run.key - exchange->keys) - 1;

        tell(told, "v%zu=%.*s ", index, body.bytes, body.length);
        if (index % 2 == 0) { /* a run may end anywhere */
            mc_exchange_end_run(exchange, &run);
            CHECK_NUMBER(exchange->index, index);
            mc_exchange_begin_run(exchange, &run);
        }
    }
    mc_exchange_end_run(exchange, &run);
    for (size_t count = mc_exchange_take_stored(exchange, &at); count > 0; count--, at++) {
        tell(told, "r%zu:%.*s ", at, "STORED", 6);
    }
}

/* Takes events until the exchange asks for more or ends; true where it ended. */
static inline bool pull(mc_exchange *exchange, story *told, char *room, size_t mark)
{
    for (;;) {
        if (plain) {
            pull_plain(exchange, told);
        }

        size_t held = mc_buffer_length(exchange->in);
        mc_event event = mc_exchange_next(exchange);

        CHECK(mc_buffer_length(exchange->in) <= held);
        CHECK(exchange->consume <= mc_buffer_length(exchange->in));
        switch (event) {
        case MC_EVENT_AGAIN:
            return false;
        case MC_EVENT_VALUE:
            if (exchange->body != NULL) {
                tell(told, "v%zu=%.*s ", exchange->index, exchange->body,
                     (size_t)exchange->reply.length);
            }
            else {
                mc_exchange_give_room(exchange, room);
            }
            break;
        case MC_EVENT_FILLED:
            tell(told, "v%zu=%.*s ", exchange->index, room, (size_t)(exchange->room - room));
            break;
        case MC_EVENT_REPLY:
            tell(told, "r%zu:%.*s ", exchange->index, exchange->reply.line.bytes,
                 exchange->reply.line.length);
            if (mark != 0 && mc_exchange_mark(exchange, mark)) {
                tell(told, "mark ", 0, "", 0);
            }
            break;
        case MC_EVENT_DONE:
            tell(told, "done", 0, "", 0);
            return true;
        case MC_EVENT_BROKEN:
            tell(told, "broken", 0, "", 0);
            return true;
        }
    }
}

/* Feeds text in pieces of `first` bytes, then `then` bytes each; straight past the buffer into
 * room where the exchange waits for a body, as a transport does. */
static inline void feed(request asked, const char *text, size_t length, size_t first, size_t then,
                        story *told)
{
    mc_buffer in = {0};
    mc_exchange exchange;
    char room[256];
    bool ended;
    size_t piece = first;

    *told = (story){0};
    mc_exchange_init(&exchange, &in, asked.command, keys, asked.replies, asked.marker);
    exchange.max_length = asked.max_length ? asked.max_length : sizeof room;
    ended = pull(&exchange, told, room, asked.mark);
    for (size_t at = 0; !ended && at < length;) {
        size_t size = piece < length - at ? piece : length - at;

        if (exchange.state == 'B' && exchange.missing != 0) {
            size = size < exchange.missing ? size : exchange.missing;
            memcpy(exchange.room, text + at, size);
            mc_exchange_put(&exchange, size);
        }
        else {
            CHECK(mc_buffer_append(&in, text + at, size));
        }
        at += size;
        piece = then;
        ended = pull(&exchange, told, room, asked.mark);
        if (ended && at < length) {
            CHECK(mc_buffer_append(&in, text + at, length - at));
            at = length;
        }
    }
    if (!ended) {
        tell(told, "again", 0, "", 0);
    }
    told->clean = mc_exchange_is_clean(&exchange);
    told->started = exchange.started;
    if (!told->clean) {
        tell(told, "!", 0, "", 0);
    }
    /* The end is the end. */
    if (ended) {
        mc_event last = exchange.state == 'D' ? MC_EVENT_DONE : MC_EVENT_BROKEN;

        CHECK(mc_exchange_next(&exchange) == last);
        CHECK(mc_exchange_next(&exchange) == last);
    }
    mc_exchange_fini(&exchange);
    mc_buffer_fini(&in);
}

static inline void tells_in_one_way(request asked, const char *text, const char *wanted)
{
    size_t length = strlen(text);
    story told;

    feed(asked, text, length, length + 1, 1, &told);
    if (strcmp(told.text, wanted) != 0) {
        fprintf(stderr, "of %s\n", text);
    }
    CHECK_BYTES(told.text, told.length, wanted);
    for (size_t cut = 1; cut < length; cut++) {
        feed(asked, text, length, cut, length, &told);
        CHECK_BYTES(told.text, told.length, wanted);
        feed(asked, text, length, cut, 1, &told);
        CHECK_BYTES(told.text, told.length, wanted);
    }
}

static inline void tells(request asked, const char *text, const char *wanted)
{
    plain = false;
    tells_in_one_way(asked, text, wanted);
    plain = true;
    tells_in_one_way(asked, text, wanted);
    plain = false;
}

#define GET(count) ((request){.command = MC_GET, .replies = count})
#define GETS(count) ((request){.command = MC_GETS, .replies = count})
#define ASK(what) ((request){.command = what, .replies = 1})
#define MANY(what, count) ((request){.command = what, .replies = count})

#endif
