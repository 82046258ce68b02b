/* table: the type `_Table`: what a placement looks keys up in, made by mcext.placement, immutable.
 */
#ifndef MCX_TABLE_H
#define MCX_TABLE_H

#include "core/fleet/placement.h"

#include "compat.h"

typedef struct {
    PyObject_HEAD
    mc_table table;
    size_t buckets;     /* its owners are below that */
    bool hashes_prefix; /* the prefix of a Cache's keys, too */
} mcx_table;

extern PyType_Spec mcx_table_spec;

/* Functions of `mcext._core` for mcext.placement: the hashes of the core. */
extern PyMethodDef mcx_table_functions[];

#endif
