/* record: what one thread has of a client. */
#ifndef MCX_RECORD_H
#define MCX_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/fleet/pool.h"
#include "core/wire/request.h"

#include "compat.h"
#include "shared.h"

/* What a client's `stats` counts: commands, and the multi calls. */
enum {
    MCX_COUNT_GET_MULTI = MC_COMMANDS,
    MCX_COUNT_SET_MULTI,
    MCX_COUNT_DELETE_MULTI,
    MCX_COUNTS
};

/* What is one thread's of a client. */
typedef struct mcx_record {
    PyObject_HEAD
    uint64_t shared_id;
    bool is_first;             /* of the thread that made the client */
    const void *remembered_by; /* what is the thread's own that does; another address: several */
    PyObject *stats;           /* NULL until somebody looks; counts are added to it at each look */
    PyObject *cas_ids;         /* dict or what was assigned */
    bool stats_deleted, cas_ids_deleted; /* no attribute until assigned or reset */
    uint32_t counts[MCX_COUNTS];
} mcx_record;

extern PyType_Spec mcx_record_spec;

/* This thread's record of the client, a new reference. */
mcx_record *mcx_record_of(mcx_module *module, mcx_shared *shared, PyObject *self);

/* That of the thread that makes the client. */
int mcx_record_first(mcx_module *module, mcx_shared *shared, PyObject *self);

PyObject *mcx_record_stats(mcx_module *module, mcx_record *record);
/* Nobody holds this thread's stats: counting can wait until somebody looks. */
static inline bool mcx_counts_alone(const mcx_record *record)
{
    return record->stats == NULL || Py_REFCNT(record->stats) == 1;
}
int mcx_record_count_name(mcx_module *module, mcx_record *record, PyObject *name);

#endif
