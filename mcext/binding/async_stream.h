/* async_stream: one connection of an AsyncCache: what is sent on it, what comes, and its end. The
 * type `_AsyncStream` (async_protocol.c) is the protocol of an asyncio transport. */
#ifndef MCX_ASYNC_STREAM_H
#define MCX_ASYNC_STREAM_H

#include "async.h"

/* ---- async_lane.c: which stream ------------------------------------------------------------- */

/* One of a lane's streams for an errand, borrowed; it may have to be opened first: also in place of
 * one on which much of a value is coming that nobody waits for any more. NULL with an exception.
 * is_big: much goes or comes, and small ones should not stand behind it. */
mcx_astream *mcx_lane_stream(mcx_async *client, mcx_lane *lane, bool is_big);

/* The server for key: 1 and *lane (borrowed); 0 where there is none, with call->faults; -1 with an
 * exception. *probe: what is sent to it decides about a dead mark that has run out. tried: borrowed
 * or NULL: a server that this call has not reached. */
int mcx_lane_choose(mcx_async *client, mcx_call *call, const mcx_key *key, mcx_server *tried,
                    mcx_lane **lane, bool *probe);

/* Whether a server may be asked: 1; 0 where its dead mark stands, with call->faults; -1 with an
 * exception. *probe: as above. */
int mcx_lane_check(mcx_call *call, mcx_server *host, bool *probe);

/* Where its first stream is idle and has ended, that is noticed now. lane: NULL: it has none. */
void mcx_lane_look(mcx_lane *lane);

/* How many of its streams are open is another number now, perhaps, which all threads may read. */
static inline void mcx_lane_count(const mcx_async *client, mcx_lane *lane)
{
    size_t count = 0;

    for (Py_ssize_t i = 0; i < client->connections; i++) {
        count += lane->streams[i] != NULL && lane->streams[i]->state == MCX_STREAM_OPEN;
    }
    atomic_store_explicit(&lane->host->open_streams, count, memory_order_relaxed);
}

/* All lanes: in order, when what is under way on their streams is answered, also where the cache is
 * closed; or forgotten, with all that waits, as are the streams that were to end in order: the loop
 * has ended, or it is another process's. */
void mcx_lanes_end(mcx_async *client, bool in_order);

/* The same in order, of servers that are not the cache's any more. -1 with an exception. */
int mcx_lanes_retire(mcx_async *client);

/* ---- async_send.c: the queue ---------------------------------------------------------------- */

/* The errand, which is the stream's from then on, goes out with what else this turn of the loop
 * sends. -1 with an exception: it is in the queue all the same. */
int mcx_astream_send(mcx_astream *stream, mcx_errand *errand);

/* The errand of this turn that takes keys of other calls, too: borrowed; NULL: there is none, or it
 * has waited so long for the stream that it ends well before that deadline. */
mcx_errand *mcx_astream_gets(mcx_astream *stream, mc_command command, int64_t deadline);

/* From now on it waits for its reply. */
void mcx_astream_expect(mcx_astream *stream, mcx_errand *errand);

/* Writes what is in the queue. -1 with an exception. */
int mcx_astream_flush(mcx_astream *stream);

/* Where nothing is under way on an open stream any more: a server that it was to try is left to the
 * next one, and it ends where it takes no more. */
void mcx_astream_rest(mcx_astream *stream);

/* Bytes that are no errand's: the caller's, who wipes what has to be. */
int mcx_astream_write(mcx_astream *stream, PyObject *bytes);

/* The timer is set for then, at the latest. -1 with an exception. */
int mcx_astream_wake_at(mcx_astream *stream, int64_t at);

/* ---- async_read.c: what comes --------------------------------------------------------------- */

/* What was received is read. -1 with an exception that is nobody's. */
int mcx_astream_read(mcx_astream *stream);

/* ---- async_lost.c: its end ------------------------------------------------------------------ */

typedef enum {
    MCX_LOST_CLOSED,   /* by the server, or on the way */
    MCX_LOST_BROKEN,   /* by what the server said */
    MCX_LOST_LATE,     /* the server did not answer in time */
    MCX_LOST_CONNECT,  /* it could not be opened */
    MCX_LOST_GIVEN_UP, /* nobody opens it any more, which says nothing about the server */
    MCX_LOST_RETIRED   /* it was to be closed, and nothing that anybody waits for was under way */
} mcx_lost;

/* The stream is over. What it had under way fails, or goes on elsewhere: what was not written, and
 * what may be repeated. fault: of the one that it happened to; of a connect, of all. */
void mcx_astream_lose(mcx_astream *stream, mcx_lost how, const mcx_afault *fault);

/* ---- async_wake.c: what becomes of calls and errands ------------------------------------------
 */

/* The call goes on. */
void mcx_acall_wake(mcx_acall *self, int64_t now);
void mcx_acalls_wake(mcx_acall *chain, int64_t now); /* gives up the references */

/* One of a call for many keys is over. fault: NULL: it was answered. */
void mcx_many_settle(mcx_acall *self, const mcx_afault *fault, int64_t now);

/* The same with a fault, of which each call gets references of its own. Where one has a fault
 * already, that stays. */
void mcx_acalls_fail(mcx_acall *chain, const mcx_afault *fault, int64_t now);

/* The errand, which is in no queue, goes to another stream of that server, or moves on to other
 * servers, when it is its turn. why: what it fails with where it cannot. */
void mcx_errand_part(mcx_async *client, mcx_errand *errand, mcx_server *from, bool moves,
                     const mcx_afault *why);

/* A lease came with that reply, and nobody wants it: it goes back. NULL: it is an item of that key.
 */
void mcx_lease_back(mcx_async *client, mcx_server *host, mc_slice key, PyObject *owner,
                    const mc_reply *reply);

/* The same for the leases that have come with some of a call's many keys. */
void mcx_many_give_back(mcx_acall *self);

/* An errand that is in no queue fails. */
void mcx_errand_fail(mcx_async *client, mcx_errand *errand, const mcx_afault *fault);

/* The calls that wait for it fail, and it stays where it is: what comes for it is dropped, but for
 * a lease, which goes back. */
void mcx_errand_expire(mcx_errand *errand, const mcx_afault *fault, int64_t now);

/* What is counted when an errand is over. */
void mcx_errand_count(mcx_server *host, const mcx_errand *errand, mc_status status);

/* An exception that is nobody's, set: it is told of, and gone. */
static inline void mcx_unraisable(void *object)
{
    if (UNLIKELY(PyErr_Occurred() != NULL)) {
        PyErr_WriteUnraisable((PyObject *)object);
    }
}

void mcx_afault_clear(mcx_afault *fault);

#endif
