/* ring: points around a ring, or slots in a row, each of a server: rows of a placement. */
#ifndef MC_RING_H
#define MC_RING_H

#include "core/fleet/placement.h"

/* How many cells a ring of so many points is cut into: the highest power of two not above that, but
 * two of one point: no number is shifted by all its bits. */
size_t mc_ring_cells(size_t count);

/* What is found by: shift, highest and starts, which has room for the cells. The values are there.
 */
void mc_ring_index(mc_table *table);

size_t mc_ring_first(const mc_placement *placement, mc_slice key, mc_walk *walk);
size_t mc_slots_first(const mc_placement *placement, mc_slice key, mc_walk *walk);

/* Of both: the next point, or slot, of a server that has none between the walk's start and here. */
size_t mc_ring_next(const mc_placement *placement, mc_walk *walk);

#endif
