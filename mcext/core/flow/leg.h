/* leg: one operation on one server, from its connection to the verdict, as a machine without I/O.
 *
 * A leg is a run of commands of one kind: one get, the storage commands of a set_multi, a listing.
 * It lays them out, a batch at a time, knows what must have been answered before what, reads the
 * replies (exchange), tries once more where that is right, and ends in a verdict. It asks for what
 * it needs: the next command, bytes to move, a new connection. Whoever drives it gives that, and
 * takes the events:
 *
 *     mc_leg_init(&leg, MC_SET, NULL, 1);
 *     mc_leg_begin(&leg, connection, &clock);
 *     for (;;) {
 *         switch (mc_leg_next(&leg)) {
 *         case MC_LEG_PRODUCE: mc_leg_store(&leg, ...); mc_leg_ready(&leg); break;
 *         case MC_LEG_MOVE:    status = mc_leg_move(&leg, &clock); ... mc_leg_fail(&leg, status)
 *         case MC_LEG_REPLY:   ... leg.exchange.reply
 *         case MC_LEG_RETRY:   mc_leg_begin(&leg, another connection), or mc_leg_give_up(&leg);
 *         case MC_LEG_OVER:    return leg.verdict;
 *         ...
 *
 * No Python, no GIL needed. Belongs to one call, as its connection. */
#ifndef MC_LEG_H
#define MC_LEG_H

#include "core/net/connection.h"
#include "core/wire/exchange.h"

typedef enum {
    MC_LEG_PRODUCE, /* lay out the next commands, as many as there is room for, then mc_leg_ready */
    MC_LEG_MOVE,    /* send what is laid out, receive what comes */
    MC_LEG_VALUE,   /* as the exchange's event: exchange.reply, index; body, or give room */
    MC_LEG_FILLED,
    MC_LEG_REPLY,
    MC_LEG_RETRY, /* the server closed before it said a word, and all may be sent once more */
    MC_LEG_OVER   /* see the verdict; the connection is the caller's to give back */
} mc_leg_step;

/* What an operation ended in, said once for all callers. */
typedef struct {
    mc_status status;  /* MC_OK: everything was answered, or sent where no answer is wanted */
    bool keep;         /* the stream is in step: it may be used again */
    bool blame;        /* the server had its time and said nothing in it, or does not take us */
    bool answered;     /* it failed behind an error line, which is an answer */
    bool may_have_run; /* no answer came, and the server may have executed it all the same */
} mc_verdict;

/* noreply commands on one stream before the server is made to say that it has read them. */
#define MC_UNANSWERED_AT_MOST 512

/* memcached's limit (protocol.txt, "Keys"). Behind a longer key it takes a data block for commands,
 * and what these answer could look like a marker's reply. */
#define MC_PROTOCOL_KEY_LENGTH 250

typedef struct mc_leg {
    mc_connection *connection; /* NULL: none */
    mc_exchange exchange;
    mc_verdict verdict;
    const mc_slice *keys; /* of a retrieval or of meta commands; borrowed, until it is over */
    size_t count;         /* commands, or keys of a retrieval */
    size_t next;          /* of these, laid out or left out */
    size_t sent;          /* laid out, */
    size_t counted;       /* and of these, in batches that are ready */
    struct iovec *pieces; /* what is still to be sent of the batch; */
    int piece_count;
    int made;            /* while it is made: pieces so far, */
    size_t run;          /* and where in the output the one begins that is not yet closed */
    size_t outside;      /* bytes of the batch that go out from where they lie */
    struct iovec *first; /* where the pieces are made */
    int room;            /* how many */
    uint64_t max_length; /* of a value; a longer one breaks the stream */
    struct iovec own[4];
    mc_command command;
    mc_family family;
    unsigned char state;
    bool noreply; /* not of meta commands */
    bool once;    /* an mg that changes something (N, R, T): never sent twice */
    bool probe;   /* the answer decides whether the server lives: there must be one */
    bool retried;
    bool moved;       /* bytes have been moved for it */
    bool in_turn;     /* the transport is not polled: a batch, its replies, the next batch */
    bool late;        /* the deadline had passed before it was sent: a timeout says nothing */
    bool asked;       /* something was laid out that has an answer, or goes without one */
    bool marker_last; /* noreply: the exchange is for the marker behind the last command */
    bool owes_marker; /* a retrieval's: see mc_exchange_mark */
    bool unclean;     /* noreply: see MC_PROTOCOL_KEY_LENGTH */
    size_t good; /* answers that were hoped for, values and STORED: counted by who takes them */
    uint64_t bytes_in, bytes_out; /* received and sent for it, also for what was retried */
} mc_leg;

/* keys: of a retrieval; of mg, and of md where its answers are to be compared, those that are laid
 * out, one each: none is left out. Set noreply, once, probe, max_length behind it where they are
 * not the default. */
void mc_leg_init(mc_leg *leg, mc_command command, const mc_slice *keys, size_t count);

/* Room for the pieces of a batch in place of its own, which are for one command. */
static inline void mc_leg_use_room(mc_leg *leg, struct iovec *pieces, int room)
{
    leg->first = pieces;
    leg->room = room;
}

static inline void mc_leg_fini(mc_leg *leg)
{
    mc_exchange_fini(&leg->exchange);
}

/* On a connection that the call owns, from the start: also after MC_LEG_RETRY, on another one. */
void mc_leg_begin(mc_leg *leg, mc_connection *connection, const mc_clock *clock);

/* Whether there is time for an answer: told by begin, and anew where a leg had to wait for its
 * turn. */
void mc_leg_note_time(mc_leg *leg, const mc_clock *clock);

mc_leg_step mc_leg_next(mc_leg *leg);

/* Whether more is to be laid out before there is a reply to wait for. */
bool mc_leg_wants_more(const mc_leg *leg);

/* Neither over nor to be tried once more. */
bool mc_leg_is_running(const mc_leg *leg);
bool mc_leg_is_over(const mc_leg *leg);
bool mc_leg_is_to_be_retried(const mc_leg *leg);

/* The leg ends in status, or is to be tried once more: what mc_leg_next says from here on. MC_OK is
 * none. */
void mc_leg_fail(mc_leg *leg, mc_status status);

/* After MC_LEG_RETRY: there is no other connection. */
void mc_leg_give_up(mc_leg *leg);

/* ---- laying out ----------------------------------------------------------------------------- */

/* Room for one more command in this batch. */
bool mc_leg_has_room(const mc_leg *leg);

/* Of a run of commands a value up to this size is copied behind its command, so that one batch
 * shares the caches; a larger one goes out from where it is. */
#define MC_COPY_UP_TO_OF_MANY ((size_t)8192)

typedef enum {
    MC_LAID_NO_MEMORY,
    MC_LAID_COPIED,
    MC_LAID_POINTED_TO /* the value must stay where it is until the batch is sent */
} mc_laid;

/* A storage command. stays: the value may be pointed to. cas: NULL where there is none. */
mc_laid mc_leg_store(mc_leg *leg, mc_slice key, uint32_t flags, mc_slice exptime, mc_slice value,
                     const uint64_t *cas, bool stays);

/* A command that is one line; a slice of length 0 is left out. The argument of a meta command is
 * its flags, with k among those of an mg that asks for the value. False where memory is out. */
bool mc_leg_line(mc_leg *leg, mc_slice key, mc_slice argument);

/* A command that is not sent. */
static inline void mc_leg_leave_out(mc_leg *leg)
{
    leg->next++;
}

/* The batch is laid out. False where memory is out. */
bool mc_leg_ready(mc_leg *leg);

/* ---- moving --------------------------------------------------------------------------------- */

/* What the driver is to receive into: a body's room, then the input buffer. Returns how many
 * pieces, 0 where memory is out. *all: they are all that is still to come, where may_wait. */
int mc_leg_room(mc_leg *leg, bool may_wait, struct iovec pieces[2], bool *all);
/* So many bytes were received into these. */
void mc_leg_received(mc_leg *leg, size_t size);

/* ---- the reply that comes mostly, in one look ----------------------------------------------- */

/* Of a get of one key: 1 where the reply is exactly its value and END, and *flags and *body are set
 * until something is received; 0 where it is END. Then the leg is over and its stream in step. -1:
 * mc_leg_next tells. */
int mc_leg_take_value(mc_leg *leg, uint32_t *flags, mc_slice *body);

/* The same of one mg: 1 where the reply is exactly a value with its key, and *reply and *body are
 * set until something is received; 0 where it is EN. */
int mc_leg_take_meta(mc_leg *leg, mc_reply *reply, mc_slice *body);

/* The same of one storage command: true where the reply is exactly STORED. */
bool mc_leg_take_stored(mc_leg *leg);

/* The same of one incr or decr: true where the reply is exactly a number. */
bool mc_leg_take_number(mc_leg *leg, uint64_t *number);

#endif
