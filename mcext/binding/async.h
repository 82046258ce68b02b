/* async: what an AsyncCache holds: its streams, what is under way on them, and its calls.
 *
 * All of it belongs to one event loop and is touched by that loop's thread alone. A call is a
 * coroutine object (async_call). What it asks of a server is an errand: a request with its reply,
 * which it may share with others that want the same server in the same turn of the loop. An errand
 * waits in a stream's queue until it is written, and then stands in the stream's row until it is
 * answered. */
#ifndef MCX_ASYNC_H
#define MCX_ASYNC_H

#include "core/flow/row.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "cache.h"
#include "call.h"
#include "retrieve.h"
#include "server.h"

typedef struct mcx_async mcx_async;
typedef struct mcx_acall mcx_acall;
typedef struct mcx_astream mcx_astream;
typedef struct mcx_errand mcx_errand;
typedef struct mcx_many mcx_many;

/* What failed, as it is kept until the call that it happened to goes on. */
typedef struct mcx_afault {
    const char *name;  /* of the class in mcext.errors; NULL: nothing */
    PyObject *text;    /* strong */
    PyObject *cause;   /* strong or NULL */
    mcx_server *host;  /* strong or NULL */
    bool may_have_run; /* the server may have carried it out */
} mcx_afault;

/* ---- what is under way ---------------------------------------------------------------------- */

/* One key of an errand, and who waits for what becomes of it. */
typedef struct {
    PyObject *owner;    /* strong or NULL: keeps the key's bytes */
    mcx_acall *waiters; /* strong, and so each next one; of one call for many keys: NULL */
    size_t number;      /* which of that call's keys */
    Py_hash_t hash;     /* of the owner, where it is looked for */
    size_t begin, end;  /* where its command is in the request; of a retrieval it has none */
} mcx_slot;

struct mcx_errand {
    mc_asking asking; /* the first: the row knows it by this */
    mcx_errand *next; /* in the queue */
    mc_command command;
    mcx_acall *owner; /* strong: of all its keys; NULL: the slots say whose */
    mcx_slot *slots;
    mc_slice *keys; /* as many; of a request without a key it is empty */
    size_t count, room;
    uint16_t *index; /* owned or NULL: slots by their hashes: number + 1, 0: none */
    bool is_indexed;
    size_t waiting;      /* calls */
    size_t calls;        /* that were waiting when it was written */
    size_t bytes;        /* of its request, while keys are put to it */
    size_t sibling;      /* its number among those of the owner */
    mc_buffer request;   /* of a retrieval: laid out when it is written */
    PyObject *value;     /* strong or NULL: bytes that follow the request, and a CRLF */
    PyObject *body;      /* strong or NULL: of a value that is coming */
    int64_t deadline;    /* by mc_clock_now */
    size_t good;         /* values found, or stored */
    mcx_server *from;    /* strong or NULL: it has lost its stream */
    mcx_afault why;      /* what it then fails with, if it finds no other */
    bool moves;          /* to another server */
    unsigned char tries; /* of other servers */
    bool is_written;
    bool is_repeated;  /* on a second stream, since the first one was closed */
    bool once;         /* it changes something: it is never repeated */
    bool is_alone;     /* no other call's keys are put to it */
    bool is_unwatched; /* it goes out though nobody waits */
    bool gives_back;   /* a lease that comes when nobody waits for it any more */
    bool is_greeting;  /* it is no request of a caller's, and not counted */
    bool has_failed;   /* an error line stood in place of its values */
};

/* The streams to one server, as many as the option connections says. */
typedef struct mcx_lane {
    struct mcx_lane *next;
    mcx_server *host;        /* strong */
    mcx_errand *gathering;   /* borrowed: of a call for many keys while it begins */
    mcx_astream *streams[1]; /* strong or NULL */
} mcx_lane;

typedef enum {
    MCX_STREAM_OPENING,
    MCX_STREAM_OPEN,
    MCX_STREAM_OVER
} mcx_stream_state;

/* The type `_AsyncStream`: one connection, the protocol of an asyncio transport. */
struct mcx_astream {
    PyObject_HEAD
    mcx_async *client; /* strong until it is over */
    mcx_server *host;  /* strong */
    mcx_lane *lane;    /* borrowed; NULL: it takes no more */
    Py_ssize_t number; /* in the lane */
    mcx_astream *next; /* strong: where it is retired */
    mc_row row;
    mcx_errand *first, *last; /* the queue: owned */
    mcx_errand *gets[2];      /* borrowed: those of the queue that take more keys: get, gets */
    mc_buffer out;
    PyObject *transport, *write; /* strong or NULL */
    PyObject *timer;             /* strong or NULL: the handle of the next _tick */
    int64_t timer_at;
    int64_t last_used;
    size_t last_batch; /* calls whose requests went out at once the last time */
    mcx_stream_state state;
    int fd; /* of a socket that tells what has come: not over TLS; -1: none does */
    bool is_paused;
    bool is_flush_due;
    bool is_probing;  /* it decides about a dead mark that has run out */
    bool in_records;  /* see PIECE in leg.c */
    bool is_kept_out; /* the server wants a password that it was not told */
    bool had_grace;   /* the reply is late, but something has come that the loop has not read yet */
};

/* ---- calls ---------------------------------------------------------------------------------- */

/* What a method does: it is set going, and what has come becomes its result. */
typedef struct {
    const char *name;
    mc_command command;
    /* The errand is on its way: 1. 0: it never will be: the result is mcx_acall.value, where that
     * is set, else a miss or what call->faults says. -1 with an exception. */
    int (*start)(mcx_acall *self, mcx_call *call);
    PyObject *(*finish)(mcx_acall *self, mcx_call *call); /* NULL: by a fault or an exception */
    PyObject *(*missed)(const mcx_acall *self); /* borrowed: what errors="miss" gives, or NULL */
    bool raises;                                /* whatever errors says */
    bool greets;                                /* it is the first thing that is said on a stream */
    bool gives_back;                            /* a lease that comes when nobody waits any more */
    bool ends_lease; /* others wait for that: it goes out also where its caller is gone before, and
                      * where max_pending calls are under way */
    bool once;       /* it changes something that is not to be changed twice */
    bool is_ahead;   /* a question ahead of what the caller asked for, which has not run then */
} mcx_verb;

#define MCX_ACALL_ARGUMENTS 5

/* The type `_AsyncCall`: a coroutine object. */
struct mcx_acall {
    PyObject_HEAD
    const mcx_verb *verb;
    mcx_async *client;                        /* strong */
    PyObject *arguments[MCX_ACALL_ARGUMENTS]; /* strong or NULL */
    PyObject *future, *iterator;              /* strong or NULL */
    mcx_acall *next;                          /* strong: behind it in a slot */
    mcx_errand *errand;                       /* borrowed: where it waits for one key */
    size_t slot;
    mcx_many *many;    /* owned: of a call for many keys */
    mcx_server *host;  /* strong or NULL: that was asked */
    mcx_server *tried; /* strong or NULL: that could not be connected */
    int64_t start, took;
    PyObject *value; /* strong or NULL: the result */
    mcx_retrieved got;
    mc_reply reply; /* whose views are not valid */
    uint64_t number;
    mc_reply_type types[2];
    mcx_afault fault;
    const char *words;  /* why a server refused the password */
    mc_command command; /* what is asked, which the verb alone does not say of a store */
    unsigned char state;
    bool is_running;
    bool is_told;    /* its caller has what came */
    bool is_refused; /* the server does not know the command */
};

enum {
    MCX_ACALL_NEW,
    MCX_ACALL_READIES, /* it waits until there are servers */
    MCX_ACALL_WAITS,
    MCX_ACALL_IS_FORGOTTEN, /* its loop has ended, and nobody counts it as pending any more */
    MCX_ACALL_IS_ANSWERED,
    MCX_ACALL_IS_OVER
};

/* One key of a call for many. */
typedef struct {
    PyObject *object; /* strong: the caller's own */
    PyObject *owner;  /* strong: as it is sent */
    mc_slice text;
    mcx_retrieved got;
    mc_reply *reply;  /* owned or NULL: of a meta command */
    mcx_server *host; /* strong or NULL */
    mc_reply_type said;
    bool is_done; /* the server has answered for it */
} mcx_akey;

struct mcx_many {
    mcx_akey *keys;
    size_t count;
    mcx_errand **errand; /* borrowed; NULL: it is over */
    size_t errand_count;
    size_t errands;  /* under way */
    PyObject *noted; /* strong or NULL: list of exceptions from the beginning */
    mcx_afault *faults;
    size_t fault_count;
    bool is_placing; /* errands are still being made */
};

/* ---- the client ----------------------------------------------------------------------------- */

#define MCX_SPARE_ERRANDS 256

/* The type `_AsyncCache`, from which mcext.async_cache.AsyncCache derives. */
struct mcx_async {
    PyObject_HEAD
    mcx_module *module;        /* borrowed: the type keeps it */
    mcx_cache *cache;          /* strong: options, servers, counters */
    PyObject *loop;            /* strong or NULL: that of the first use */
    PyObject *find_loop;       /* strong: asyncio.get_running_loop */
    PyObject *future_type;     /* strong or NULL: where the loop's futures are plain ones */
    PyObject *make_future;     /* strong or NULL: the loop's create_future, where they are not */
    PyObject *keywords;        /* ("loop",) */
    PyObject *context;         /* strong: an empty one, for what outlives its caller's */
    PyObject *context_keyword; /* ("context",) */
    PyObject *set_result;      /* strong: the name */
    PyObject *invalid_state;   /* strong: asyncio.InvalidStateError */
    PyObject *call_soon, *call_later; /* strong or NULL */
    PyObject *weak_references;
    uint32_t generation; /* of the process */
    Py_ssize_t connections, max_pending;
    uint64_t max_length;  /* of a value */
    int64_t timeout;      /* of a call, nanoseconds */
    Py_ssize_t pending;   /* calls that wait */
    mcx_lane *lanes;      /* owned */
    mcx_astream *retired; /* strong: that end when what is under way on them is answered */
    mcx_errand *homeless; /* owned: those that have lost their stream */
    bool is_rehome_due;
    mcx_errand *spare; /* owned */
    int spare_count;
};

#define MCX_NOTHING ((mc_slice){NULL, 0})

/* The running loop is the client's, which begins anew where that has ended: 0, or -1 with
 * RuntimeError. */
int mcx_async_enter(mcx_async *client);

/* All that belongs to the loop is let go. */
void mcx_async_leave(mcx_async *client);

/* A new pending future of the loop. */
PyObject *mcx_async_future(mcx_async *client);

/* The lane of a server, borrowed; NULL with MemoryError. */
mcx_lane *mcx_lane_of(mcx_async *client, mcx_server *host);

#endif
