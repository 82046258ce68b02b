/* row: the requests under way on one stream, answered first in, first out, as a machine without
 * I/O.
 *
 * Where many callers share a stream, as those of one event loop do, each request is an asking with
 * an exchange of its own. The first one reads what comes until it is done, then the next one. A
 * caller who waits no longer leaves his asking behind: what comes for it is read and dropped, so
 * that nobody else gets it. A reply that cannot be trusted ends the stream for all of them.
 *
 *     mc_row_add(&row, &asking);                    its request goes out, behind the others'
 *     mc_row_room(&row, &piece); ... mc_row_received(&row, size);
 *     for (;;) {
 *         switch (mc_row_next(&row, &whose)) {
 *         case MC_EVENT_VALUE: ... of whose->exchange, as any exchange's event
 *         case MC_EVENT_DONE:  whose is out of the row
 *         case MC_EVENT_AGAIN: return;
 *         case MC_EVENT_BROKEN: while ((whose = mc_row_take(&row)) != NULL) ... no answer
 *
 * No Python. Not synchronised: it belongs to who reads the stream. */
#ifndef MC_ROW_H
#define MC_ROW_H

#include <sys/uio.h>

#include "core/wire/exchange.h"

/* One request. Its exchange is made by mc_exchange_init, with the row's input. */
typedef struct mc_asking {
    mc_exchange exchange;
    struct mc_asking *next; /* in the row */
    bool is_dropped;        /* nobody waits for it */
} mc_asking;

typedef struct {
    mc_buffer in;     /* what has come and is not read */
    mc_asking *first; /* borrowed, as all in the row, until they are out of it */
    mc_asking *last;
    size_t count;
    bool is_filling; /* the room that was given is that of a body */
    bool is_broken;  /* the stream can no longer be trusted */
} mc_row;

/* All 0 is an empty row. Nobody may be in it any more. */
static inline void mc_row_fini(mc_row *row)
{
    mc_buffer_fini(&row->in);
}

/* Behind those that are in it, as its request is behind theirs on the stream. It may not move. */
void mc_row_add(mc_row *row, mc_asking *asking);

/* Nobody waits for it any more: its events are not told, but for its end. Memory that was given for
 * a body is left alone from the next mc_row_room on. */
static inline void mc_row_drop(mc_asking *asking)
{
    asking->is_dropped = true;
}

/* Where what comes next is to be received: the room of a body, or the input. False where memory is
 * out. */
bool mc_row_room(mc_row *row, struct iovec *piece);

/* So many bytes were received into it. */
void mc_row_received(mc_row *row, size_t size);

/* What has come, event by event. VALUE, FILLED, REPLY: of the first in the row, who is *whose, and
 * gives room as with any exchange. DONE: *whose is answered, and out of the row. AGAIN: more has to
 * come. BROKEN: from now on nothing is told; *whose is the one whose reply it was, still in the
 * row, or NULL: bytes that nobody asked for, or that stand behind a reply which nobody can tell the
 * end of. */
mc_event mc_row_next(mc_row *row, mc_asking **whose);

/* The first one out of the row, where the stream has ended: it is not answered. NULL: there is
 * none. */
mc_asking *mc_row_take(mc_row *row);

/* Of one that was taken where the peer has closed: whether its request may be sent once more. */
static inline bool mc_asking_may_be_repeated(const mc_asking *asking)
{
    return !asking->exchange.started && mc_commands[asking->exchange.command].repeatable;
}

#endif
