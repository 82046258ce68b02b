/* meta: what is said to a meta command (protocol.txt, "Meta Commands"), and what a server's answers
 * to the probe say of it.
 *
 * A reply is a code of two letters, of a value its size, and flags in any order, each a letter with
 * what belongs to it. Servers before 1.6.18 put spaces where there is nothing between them; those
 * before 1.6.10 say OK for HD. Pure, any thread. */
#ifndef MC_META_H
#define MC_META_H

#include "core/wire/reply.h"

/* Parses the first line of data, as mc_reply_parse does. Of a meta code the type is MC_REPLY_VALUE
 * (VA), HD (which OK is, too), EN, NF, EX or MN; any other line is what mc_reply_parse says it is,
 * but no value. Of the flags c, f, h, k, l, s, t, W, X and Z are read; others are passed over.
 * MC_MALFORMED also where one of these comes twice or does not have what belongs to it. key: the
 * one that will mostly stand behind k, which is found faster; the caller compares. */
mc_status mc_meta_parse(const char *data, size_t length, mc_slice key, mc_reply *reply,
                        size_t *consumed);

/* A whole hit as it mostly comes, in one look, at half the cost: data is exactly "VA <size>
 * k<key>", with no more than f, c, W, X and Z behind it, one space before each, and its body.
 * *reply and *body are set; false where it is anything else, which mc_meta_parse then judges. */
bool mc_meta_match_hit(const char *data, size_t length, mc_slice key, mc_reply *reply,
                       mc_slice *body);

/* Whether that flag, of those that are read, came with a reply of mc_meta_parse. W: the caller has
 * won the lease; X: the value is stale; Z: another has won. */
static inline bool mc_meta_has(const mc_reply *reply, char letter)
{
    return (reply->letters >> (letter - 'A') & 1) != 0;
}

/* What of the meta protocol a server has. */
typedef enum {
    MC_META_UNKNOWN, /* it was not asked */
    MC_META_NONE,
    MC_META_LEASES, /* 1.6.0 to 1.6.9: mg with its leases, and md, but no key in base64 and no C */
    MC_META_STABLE
} mc_meta_level;

/* The verdict of MC_META_PROBE, by the types of its two answers; MC_REPLY_OTHER for one that did
 * not come. Neither request of the probe has a data block, so no server can take anything in it for
 * another command. */
mc_meta_level mc_meta_judge(mc_reply_type first, mc_reply_type second);

#endif
