/* records: where the records of a TLS stream end, by their heads (RFC 8446, 5.1) alone.
 *
 * What reads them finds nothing in a part of one, at the cost of an exception: so it is asked as
 * often as there are whole ones. Not synchronised: a stream's own. All 0 is the beginning of a
 * stream. */
#ifndef MC_RECORDS_H
#define MC_RECORDS_H

#include <stddef.h>

typedef struct {
    size_t left;           /* bytes of the present record that are still to come */
    unsigned char head[5]; /* of a record: type, version, length */
    unsigned char known;   /* bytes of its head that have come, while they are not all */
} mc_records;

/* More of the stream: how many records end in it. One that begins as nobody sends any counts, too.
 */
size_t mc_records_take(mc_records *records, const char *bytes, size_t size);

#endif
