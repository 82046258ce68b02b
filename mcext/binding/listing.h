/* listing: the statistics of a server (protocol.txt, "Statistics"). */
#ifndef MCX_LISTING_H
#define MCX_LISTING_H

#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "call.h"
#include "target.h"

/* A row as python-memcached's get_stats, get_slab_stats and get_slabs give it. */
enum {
    MCX_SHAPE_STATS,
    MCX_SHAPE_SLAB_STATS,
    MCX_SHAPE_SLABS
};

/* One row of a listing into the dict, in that shape. -1 with an exception. */
int mcx_list_row(PyObject *dict, const mc_reply *reply, int shape);

/* The statistics of one connected host: a dict, or NULL without an exception where it failed. */
PyObject *mcx_list_host(mcx_call *call, mcx_target *target, mc_slice argument, int shape);

/* The argument of stats: text without anything that ends or hides a line; None: empty. */
int mcx_stats_argument(PyObject *object, const char *name, mc_slice *argument);

#endif
