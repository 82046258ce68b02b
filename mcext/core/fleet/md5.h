/* md5: RFC 1321, of short texts: keys and names of servers, whose bytes choose a server. Of our
 * own, for a system that refuses md5 as cryptography has it chosen by other clients all the same.
 * Pure functions, any thread. */
#ifndef MC_MD5_H
#define MC_MD5_H

#include <stdint.h>

#include "core/wire/key.h"

/* The digest: bytes 4i to 4i + 3, little-endian, are words[i]. */
void mc_md5(mc_slice text, uint32_t words[4]);

/* words[0] alone, which is what a key needs. */
uint32_t mc_md5_first(mc_slice text);

#endif
