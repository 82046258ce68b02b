/* ring: points around a ring, or slots in a row, each of a server: rows of a placement. */
#ifndef MC_RING_H
#define MC_RING_H

#include "core/fleet/placement.h"

size_t mc_ring_first(const mc_placement *placement, mc_slice key, mc_walk *walk);
size_t mc_slots_first(const mc_placement *placement, mc_slice key, mc_walk *walk);

/* Of both: the next point, or slot, of a server that has none between the walk's start and here. */
size_t mc_ring_next(const mc_placement *placement, mc_walk *walk);

#endif
