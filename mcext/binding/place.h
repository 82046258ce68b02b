/* place: the placement of a snapshot: what the option says, over the buckets. */
#ifndef MCX_PLACE_H
#define MCX_PLACE_H

#include "compat.h"
#include "shared.h"

/* For a snapshot in the making, whose buckets or whose options of placement are other ones than
 * those before. 0, or -1 with an exception that says what does not fit. */
int mcx_place(mcx_module *module, mcx_snapshot *snapshot);

#endif
