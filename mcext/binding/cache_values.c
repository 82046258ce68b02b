#include "cache_values.h"

#include "core/wire/key.h"

#include "cache.h"
#include "call.h"
#include "codec.h"
#include "compat.h"
#include "shared.h"
#include "values.h"

int mcx_cache_store_info(mcx_call *call, PyObject *value, bool is_whole, mcx_stored *stored)
{
    const mcx_snapshot *snapshot = call->snapshot;
    mcx_cache *cache = call->cache;
    PyObject *min_compress = is_whole ? cache->min_compress : NULL;
    int kept;

    stored->owner = NULL;
    if (UNLIKELY(cache->encode != NULL)) {
        if (mcx_codec_encode(call, value, stored) < 0) {
            return -1;
        }
        kept = mcx_may_be_sent(snapshot, stored->text.length);
    }
    else if (LIKELY(mcx_plain_value(value, stored) && min_compress == NULL)) {
        kept = mcx_may_be_sent(snapshot, stored->text.length);
    }
    else {
        kept = mcx_store_info(call, value, min_compress, stored);
    }
    if (UNLIKELY(kept == 0)) {
        mcx_stored_clear(stored);
    }
    else if (UNLIKELY(is_whole && mcx_is_stub(stored->flags, stored->text.length))) {
        mcx_stored_clear(stored);
        stored->text = MCX_EMPTY;
        stored->flags = MCX_FLAG_PICKLE;
    }
    return kept;
}
