/* cache_values: Python's values as a Cache stores and finds them. */
#ifndef MCX_CACHE_VALUES_H
#define MCX_CACHE_VALUES_H

#include "cache_call.h"
#include "values.h"

/* value as it is stored: 1, 0 where it is too large, -1 with an exception. is_whole: it is all of
 * the item, and so it may be compressed, and is no stub (mcx_is_stub). */
int mcx_cache_store_info(mcx_call *call, PyObject *value, bool is_whole, mcx_stored *stored);

#endif
