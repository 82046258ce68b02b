#include "core/flow/row.h"

/* What is asked of the system at once where no body is waited for. */
#define RECEIVE ((size_t)262144)

void mc_row_add(mc_row *row, mc_asking *asking)
{
    asking->next = NULL;
    if (row->first == NULL) {
        row->first = asking;
    }
    else {
        row->last->next = asking;
    }
    row->last = asking;
    row->count++;
}

mc_asking *mc_row_take(mc_row *row)
{
    mc_asking *asking = row->first;

    if (asking != NULL) {
        row->first = asking->next;
        row->count--;
        asking->next = NULL;
    }
    return asking;
}

/* ---- what comes ----------------------------------------------------------------------------- */

static bool wants_body(const mc_asking *asking)
{
    return mc_exchange_is_in_body(&asking->exchange) && asking->exchange.missing != 0;
}

bool mc_row_room(mc_row *row, struct iovec *piece)
{
    mc_asking *asking = row->first;

    row->is_filling = asking != NULL && !asking->is_dropped && wants_body(asking);
    if (row->is_filling) {
        *piece = (struct iovec){asking->exchange.room, asking->exchange.missing};
    }
    else {
        *piece = (struct iovec){mc_buffer_reserve(&row->in, RECEIVE), RECEIVE};
    }
    return piece->iov_base != NULL;
}

void mc_row_received(mc_row *row, size_t size)
{
    if (row->is_filling) {
        mc_exchange_put(&row->first->exchange, size);
    }
    else {
        mc_buffer_commit(&row->in, size);
    }
}

/* ---- events --------------------------------------------------------------------------------- */

/* The next event that is told. Of an asking that was dropped that is its end. */
static mc_event next_of(mc_asking *asking)
{
    for (;;) {
        if (asking->is_dropped) {
            mc_exchange_skip(&asking->exchange);
        }
        mc_event event = mc_exchange_next(&asking->exchange);
        bool is_told = event == MC_EVENT_AGAIN || event == MC_EVENT_DONE ||
                       event == MC_EVENT_BROKEN || !asking->is_dropped;

        if (is_told) {
            return event;
        }
    }
}

static mc_event broken(mc_row *row)
{
    row->is_broken = true;
    return MC_EVENT_BROKEN;
}

mc_event mc_row_next(mc_row *row, mc_asking **whose)
{
    mc_asking *asking = row->first;

    *whose = NULL;
    if (row->is_broken) {
        return MC_EVENT_BROKEN;
    }
    if (asking == NULL) {
        return mc_buffer_length(&row->in) == 0 ? MC_EVENT_AGAIN : broken(row);
    }
    mc_event event = next_of(asking);

    if (event == MC_EVENT_AGAIN) {
        return event;
    }
    *whose = asking;
    if (event == MC_EVENT_BROKEN) {
        return broken(row);
    }
    if (event == MC_EVENT_DONE) {
        (void)mc_row_take(row);
        mc_buffer_consume(&row->in, asking->exchange.consume);
        asking->exchange.consume = 0;
        row->is_broken = asking->exchange.suspect;
    }
    return event;
}
