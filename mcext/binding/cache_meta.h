/* cache_meta: the meta commands (protocol.txt, "Meta Commands") to the server of a key: asked for
 * only where the server is known to have them. */
#ifndef MCX_CACHE_META_H
#define MCX_CACHE_META_H

#include "core/wire/meta.h"

#include "call.h"
#include "keys.h"
#include "retrieve.h"
#include "target.h"

typedef enum {
    MCX_META_RAISED = -1,
    MCX_META_FAILED = 0, /* a fault is noted */
    MCX_META_ANSWERED,
    MCX_META_NONE /* the server has no meta protocol: the caller goes the classic way */
} mcx_meta_outcome;

/* What "mg key flags" brought: v and k are among the flags. once: it changes something, and is
 * never sent twice. got and reply are all 0 before; mcx_retrieved_clear is due in any case.
 * got.found: there is an item, be it a stub. Of the reply the views are not valid. */
mcx_meta_outcome mcx_meta_get(mcx_call *call, const mcx_key *key, mc_slice flags, bool once,
                              mcx_retrieved *got, mc_reply *reply);

/* "md key flags": *type is HD, NF or EX. A flag C is for servers alone of which at_least is
 * MC_META_STABLE. */
mcx_meta_outcome mcx_meta_delete(mcx_call *call, const mcx_key *key, mc_slice flags,
                                 mc_meta_level at_least, mc_reply_type *type);

/* What is known of the meta protocol of the target's server, which is asked where nothing is. The
 * target may have another connection then, or none: MC_META_UNKNOWN with a fault or an
 * exception. */
mc_meta_level mcx_meta_level(mcx_call *call, mcx_target *target);

#endif
