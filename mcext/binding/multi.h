/* multi: what get_multi, set_multi and delete_multi work with: many keys, many servers, one
 * deadline.
 *
 * Keys become items (items.c), each with its server; a server's items are a leg (legs.c): they are
 * laid out batch by batch, and their replies come in the same order. */
#ifndef MCX_MULTI_H
#define MCX_MULTI_H

#include "arguments.h"
#include "core/flow/leg.h"
#include "keys.h"
#include "target.h"
#include "values.h"

typedef struct {
    PyObject *object; /* the caller's key, strong */
    uint32_t leg;     /* one more than the leg's number; 0: no server */
    union {
        uint32_t
            found_by; /* get_multi, of the one that stands: whose value is in the result, or 0 */
        struct {
            bool stored;    /* set_multi: the server said so, or it was sent with noreply */
            bool too_large; /* and so it was not sent */
        };
    };
} mcx_item;

/* What only items have whose key is no plain str. */
typedef struct {
    PyObject *owner;   /* strong or NULL: what the text points into, else the object or the arena */
    PyObject *hash;    /* borrowed from a (hash, key) tuple, or NULL */
    uint32_t standing; /* the item whose object stands for this text: see merge_aliases */
} mcx_detail;

/* Values that a batch points to. */
#define MCX_BATCH_VALUES 64

/* An item whose mg was given a lease that nobody asked for. */
typedef struct {
    size_t number;
    uint64_t cas;
} mcx_won;

typedef struct {
    mc_leg io;
    mc_command command; /* the call's; gets in place of mg where the server has no meta protocol */
    mcx_target target;
    mc_slice *keys;  /* retrieval: the items' texts, count of them */
    uint32_t *items; /* which item each is; those sent stand first */
    size_t count;
    int64_t timeout; /* its host's, of the whole call */
    bool over;
    bool failed;    /* a Cache's: not all of it was answered, or with an error */
    PyObject *body; /* of a value that is on its way into it */
    mc_reply reply; /* and its header; the views are not valid */
    int value_count;
    PyObject *values[MCX_BATCH_VALUES]; /* strong: what pieces point into */
    struct iovec pieces[2 * MCX_BATCH_VALUES + 2];
} mcx_leg;

typedef struct mcx_arena {
    struct mcx_arena *next;
    size_t used;
    char bytes[];
} mcx_arena;

typedef struct {
    mcx_call *call;
    mc_command command;  /* MC_GET, MC_SET, MC_DELETE; MC_MG: Items */
    mc_slice meta_flags; /* of an mg */
    mc_slice *texts;     /* with the prefix: count of them, as of items, details and values */
    mcx_item *items;
    mcx_detail *details; /* NULL: every key is an ASCII str, sent as it is */
    size_t count;
    bool in_first_leg; /* all items are */
    mcx_leg **legs;
    size_t leg_count;
    uint32_t *leg_of_server; /* one more than the leg's number; UINT32_MAX: no connection */
    mcx_arena *memory;
    mcx_decimal time;
    bool noreply;
    bool failed;    /* delete_multi: a server failed */
    size_t deleted; /* and how many keys were there */
    mcx_won *won;   /* owned: won_count of them */
    size_t won_count;
    PyObject *undone;  /* a Cache's: strong; keys whose value cannot be decoded, or NULL */
    PyObject *result;  /* get_multi: dict */
    PyObject *mapping; /* set_multi; borrowed */
    PyObject **values; /* strong: its values, where it is a dict; else they are asked for */
    PyObject *min_compress;
    size_t plain_length; /* set_multi: a plain value up to this length goes out as it is */
} mcx_multi;

static inline bool mcx_multi_reads(const mcx_multi *all)
{
    return all->command == MC_GET || all->command == MC_MG;
}

/* The item whose object stands for the text of item number. */
static inline size_t mcx_standing_of(const mcx_multi *all, size_t number)
{
    return LIKELY(all->details == NULL) ? number : all->details[number].standing;
}

static inline PyObject *mcx_hash_of(const mcx_multi *all, size_t number)
{
    return all->details == NULL ? NULL : all->details[number].hash;
}

/* ---- multi.c -------------------------------------------------------------------------------- */

/* The whole of a multi call: count it, take the keys, choose, send, read. what: MCX_COUNT_*. keys:
 * an iterable, or NULL for those of the mapping. -1 with an exception. */
int mcx_multi_run(mcx_multi *all, int what, PyObject *keys, PyObject *prefix);
void mcx_multi_finish(mcx_multi *all);

/* ---- items.c -------------------------------------------------------------------------------- */

/* Takes the keys, and of a dict the values, all of one moment; checks them. keys: an iterable, or
 * NULL for those of the mapping, a dict. -1 with an exception. */
int mcx_items_collect(mcx_multi *all, PyObject *keys, PyObject *prefix);
void mcx_items_fini(mcx_multi *all);

/* ---- spread.c ------------------------------------------------------------------------------- */

/* Chooses each item's server, and makes a leg for each of these. -1 with an exception. */
int mcx_spread(mcx_multi *all);

/* ---- legs.c --------------------------------------------------------------------------------- */

/* Serves all of them. -1 with an exception. */
int mcx_legs_run(mcx_multi *all);
void mcx_legs_fini(mcx_multi *all);

/* ---- batches.c ------------------------------------------------------------------------------ */

/* Lays out a leg's next batch (MC_LEG_PRODUCE). -1 with an exception. */
int mcx_batch_produce(mcx_multi *all, mcx_leg *leg);
void mcx_batch_drop_values(mcx_leg *leg);

/* The values up to this length that need no more than a look; 0: none. */
size_t mcx_plain_length(const mcx_multi *all);

#endif
