#include "core/net/records.h"

#include <stdbool.h>

/* What a record may hold, of any version of TLS. Behind a longer one the stream is not followed:
 * its reader says what is wrong with it. */
#define RECORD_AT_MOST ((size_t)16384 + 2048)

/* The next byte of a head. True with the last one. */
static bool take_head(mc_records *records, char byte)
{
    records->head[records->known++] = (unsigned char)byte;
    if (records->known < sizeof records->head) {
        return false;
    }
    records->known = 0;
    records->left = (size_t)records->head[3] << 8 | records->head[4];
    return true;
}

size_t mc_records_take(mc_records *records, const char *bytes, size_t size)
{
    size_t at = 0, whole = 0;

    while (at < size) {
        if (records->left == 0 && !take_head(records, bytes[at++])) {
            continue;
        }
        if (records->left > RECORD_AT_MOST) {
            records->left = 0;
            return whole + 1;
        }
        size_t part = size - at < records->left ? size - at : records->left;

        at += part;
        records->left -= part;
        whole += records->left == 0;
    }
    return whole;
}
