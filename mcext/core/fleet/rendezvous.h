/* rendezvous: every server has a score for a key, and the highest one has the key: rows of a
 * placement. Where two are alike, the later entry's is the higher. */
#ifndef MC_RENDEZVOUS_H
#define MC_RENDEZVOUS_H

#include "core/fleet/placement.h"

/* A server's score is the highest of its entries': mix64(hash of the key ^ seed). */
size_t mc_seeds_first(const mc_placement *placement, mc_slice key, mc_walk *walk);
size_t mc_seeds_next(const mc_placement *placement, mc_walk *walk);

/* pymemcache's: MurmurHash3 of the server's text, and behind it the lower eight bits of each
 * character of the key, which is UTF-8; a byte that is not counts as a character. */
size_t mc_texts_first(const mc_placement *placement, mc_slice key, mc_walk *walk);
size_t mc_texts_next(const mc_placement *placement, mc_walk *walk);

#endif
