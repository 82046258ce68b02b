/* exchange: one request's reply as a machine without I/O: bytes go into a buffer, events come out.
 *
 * It knows what was asked (command, keys, how many replies) and lets through only what the
 * protocol allows as an answer to that; anything else breaks it for good, and with it the
 * connection. Calls request-independent parts only (reply, error_line, number, key, buffer); never
 * a socket, never Python. Not synchronised: it belongs to one call. */
#ifndef MC_EXCHANGE_H
#define MC_EXCHANGE_H

#include "core/wire/buffer.h"
#include "core/wire/command.h"
#include "core/wire/key_index.h"
#include "core/wire/reply.h"

typedef enum {
    MC_EVENT_AGAIN,  /* more input is needed */
    MC_EVENT_VALUE,  /* a header: reply, index; body is set where it came whole, else give room */
    MC_EVENT_FILLED, /* the room given for the last VALUE is full and its end was right */
    MC_EVENT_REPLY,  /* a line: the answer to a command; of a listing a row */
    MC_EVENT_DONE,   /* everything that was asked for is answered */
    MC_EVENT_BROKEN  /* the stream can no longer be trusted */
} mc_event;

typedef struct {
    mc_buffer *in;
    const mc_slice *keys; /* of a retrieval, or of meta commands, in the order they were asked for;
                             borrowed */
    size_t replies;       /* retrieval: keys; else answers to come, which may grow (multi) */
    size_t line_end;      /* retrieval: where the keys of the current "get" line end */
    uint64_t max_length;  /* a longer VALUE breaks */
    mc_reply reply;       /* of the last event; views valid until the next call */
    mc_command command;
    unsigned char state;
    bool marker; /* a "version" went first: what stands before its reply is dropped */
    /* From here on all is 0 at first. */
    bool started;      /* a byte of this request's reply has been seen */
    bool suspect;      /* answered, but the connection must not be used again */
    bool lost_count;   /* nobody knows any more which answer belongs to which command */
    bool has_passed;   /* the bits are set */
    bool is_indexed;   /* keys are looked for in the index alone */
    bool no_memory;    /* it broke for that */
    size_t cursor;     /* retrieval: behind the last key met in order; else lines that have come */
    size_t line_begin; /* retrieval: where the keys of the current "get" line begin */
    size_t marked;     /* retrieval: keys asked for before the "version"; 0: none is under way */
    size_t missing;    /* body bytes still to come into room */
    size_t consume;    /* bytes of the buffer to drop at the next call */
    size_t dropped;    /* bytes passed over before the marker */
    size_t listed;     /* what the rows of a listing take */
    /* Up to here. */
    size_t index;     /* of the last VALUE or REPLY event */
    const char *body; /* of the last VALUE, in the buffer, or NULL: give room */
    char *room;       /* where the rest of a body goes */
    size_t errors;    /* since marked is set: error lines, and how often END came */
    size_t ends;
    mc_key_index index_of_keys; /* of those not answered, once one came out of order */
    uint64_t passed[(MC_KEYS_PER_GET + 63) / 64]; /* keys of the line passed over, as bits */
} mc_exchange;

/* replies: keys asked for (retrieval), else the number of commands sent. keys: of a retrieval; of
 * meta commands one for each, which its answer may not contradict and a value has to name; of md
 * they may be left out. marker: see above;
 * a marker alone is command MC_VERSION with replies 0. */
void mc_exchange_init(mc_exchange *exchange, mc_buffer *in, mc_command command,
                      const mc_slice *keys, size_t replies, bool marker);

/* Of a retrieval of more than one key; any other exchange owns nothing. */
static inline void mc_exchange_fini(mc_exchange *exchange)
{
    if (exchange->index_of_keys.list != NULL) { /* mostly not */
        mc_key_index_fini(&exchange->index_of_keys);
    }
}

/* more commands of the same kind have been sent (of no retrieval and no listing). */
void mc_exchange_expect(mc_exchange *exchange, size_t more);

/* The next event. After DONE and BROKEN the same again. At the first BROKEN reply.line is the line
 * that no answer has, or empty where the bytes were no line. */
mc_event mc_exchange_next(mc_exchange *exchange);

/* After a REPLY of a retrieval, which is an error line. asked: how many keys were asked for so far.
 * True where the caller has to send a "version" now: up to its reply the values of all these keys
 * are taken, and with it the stream is in step. For no error line tells where its reply ends: with
 * it, mostly; but memcached's own proxy has one for each key that it could not get, between the
 * values, and then an END. False, or not called: the reply ends with it, and the connection must
 * not be used again. */
bool mc_exchange_mark(mc_exchange *exchange, size_t asked);

/* What mostly comes next, at less cost than events: whole values of the next keys, in order and
 * with no cas. Between begin and end nothing else may be done with the exchange or its buffer. */
typedef struct {
    const char *at; /* the input that is not yet taken */
    size_t left;
    const mc_slice *key; /* the next one, and where those of this "get" line end */
    const mc_slice *last;
    uint64_t max_length;
} mc_value_run;

void mc_exchange_begin_run(mc_exchange *exchange, mc_value_run *run);

/* The value of run->key, which moves on; body is valid until more is received. False where anything
 * else is next, or not all of it, which mc_exchange_next then judges. */
static inline bool mc_value_run_next(mc_value_run *run, uint32_t *flags, mc_slice *body)
{
    uint32_t size;

    if (run->key == run->last) {
        return false;
    }
    size_t line = mc_reply_match_value(run->at, run->left, *run->key, flags, &size);

    if (line == 0 || size > run->max_length || run->left - line < (size_t)size + 2) {
        return false;
    }
    const char *tail = run->at + line + size;

    if (memcmp(tail, "\r\n", 2) != 0) {
        return false;
    }
    *body = (mc_slice){run->at + line, size};
    run->at = tail + 2;
    run->left -= line + size + 2;
    run->key++;
    return true;
}

/* What was taken is off the buffer; index is that of the last value. */
void mc_exchange_end_run(mc_exchange *exchange, const mc_value_run *run);

/* Answers of storage commands that are STORED, as far as they have come: how many, in place of as
 * many REPLY events; *first is the index of the first. */
size_t mc_exchange_take_stored(mc_exchange *exchange, size_t *first);

/* After VALUE with body NULL: room has reply.length bytes and takes the body; what has come of it
 * is copied at once. mc_connection_receive fills the rest, past the buffer. */
void mc_exchange_give_room(mc_exchange *exchange, char *room);

/* In place of room, before each look for the next event: what is there of a body that is not whole
 * is dropped. FILLED follows all the same. */
void mc_exchange_skip(mc_exchange *exchange);

/* size bytes were put into room by the transport. */
static inline void mc_exchange_put(mc_exchange *exchange, size_t size)
{
    exchange->room += size;
    exchange->missing -= size;
}

/* True once every reply that is expected so far has come. */
static inline bool mc_exchange_is_done(const mc_exchange *exchange)
{
    return exchange->state == 'D';
}

/* True where what comes next belongs to a body: the rest of it, or the CRLF behind it. */
static inline bool mc_exchange_is_in_body(const mc_exchange *exchange)
{
    return exchange->state == 'B' || exchange->state == 'T';
}

/* True once every reply has come and nothing stands behind it: the connection may be used again. */
static inline bool mc_exchange_is_clean(const mc_exchange *exchange)
{
    return exchange->state == 'D' && !exchange->suspect &&
           mc_buffer_length(exchange->in) == exchange->consume;
}

/* The same at the end of an exchange: where it is true, the last reply is off the buffer. Views of
 * it are valid until something is received. */
static inline bool mc_exchange_end(mc_exchange *exchange)
{
    if (!mc_exchange_is_clean(exchange)) {
        return false;
    }
    mc_buffer_consume(exchange->in, exchange->consume);
    exchange->consume = 0;
    return true;
}

#endif
