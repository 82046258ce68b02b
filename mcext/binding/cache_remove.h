/* cache_remove: a value that is not stored for its size: no old one stays in its place. */
#ifndef MCX_CACHE_REMOVE_H
#define MCX_CACHE_REMOVE_H

#include "call.h"
#include "keys.h"

/* What fails here is not what the caller asked for, and is noted nowhere: 0, or -1 with an
 * exception. */
int mcx_cache_remove(mcx_call *call, const mcx_key *key);

#endif
