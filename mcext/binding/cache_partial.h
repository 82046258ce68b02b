/* cache_partial: what a multi call of a Cache could not do. */
#ifndef MCX_CACHE_PARTIAL_H
#define MCX_CACHE_PARTIAL_H

#include "multi.h"

/* At the end of the call: result (stolen; NULL: the list of the keys that were not done) where all
 * was done, or where errors are misses; else NULL with PartialFailure. */
PyObject *mcx_multi_judge(mcx_multi *all, PyObject *result);

/* The same of the caller's keys that were not done, a list (borrowed). result: stolen. */
PyObject *mcx_partial_judge(mcx_call *call, PyObject *result, PyObject *undone);

#endif
