/* async_errand: requests on their way: made, given keys, taken back, and freed. */
#ifndef MCX_ASYNC_ERRAND_H
#define MCX_ASYNC_ERRAND_H

#include "async.h"
#include "values.h"

/* An empty one, or NULL with MemoryError. */
mcx_errand *mcx_errand_new(mcx_async *client, mc_command command, int64_t deadline);
/* Nobody waits for it any more, and it is in no queue and no row. */
void mcx_errand_free(mcx_async *client, mcx_errand *errand);

/* Its memory, too: of one that is not used again. */
void mcx_errand_delete(mcx_errand *errand);

/* A key with its prefix as an object that keeps its bytes: a new reference in *owner. */
int mcx_async_key(mcx_call *call, PyObject *object, mc_slice *text, PyObject **owner);

/* One more key; owner (strong from then on; NULL: none is needed) keeps its bytes. Its command is
 * what the request has from begin on. -1 with MemoryError. */
int mcx_errand_add(mcx_errand *errand, mc_slice key, PyObject *owner, size_t begin, size_t number);

/* The slot of a key that is in the errand of another call already, or the errand's count: then it
 * is to be added by that owner next, or -1 with MemoryError. */
Py_ssize_t mcx_errand_find(mcx_errand *errand, mc_slice key, PyObject *owner);

/* All its keys are of one call, which waits until all its errands are over. -1 with MemoryError. */
int mcx_errand_own(mcx_errand *errand, mcx_acall *owner);

/* One of a line, whose only key is this; its owner as above. NULL with MemoryError. */
mcx_errand *mcx_errand_line(mcx_async *client, mc_command command, int64_t deadline, mc_slice key,
                            PyObject *owner, mc_slice argument);

/* The call waits for the answer to that key. */
void mcx_errand_wait(mcx_errand *errand, size_t slot, mcx_acall *call);

/* It does not any more: what was not written is not sent, and what comes for it is dropped. Gives
 * up the errand's reference. */
void mcx_errand_leave(mcx_acall *call);

/* Who waits for it waits no more, and it is freed: nobody is told. */
void mcx_errand_forget(mcx_async *client, mcx_errand *errand);

/* The calls that wait for that key, in a chain of strong references, which are the caller's now. */
mcx_acall *mcx_errand_take_waiters(mcx_errand *errand, size_t slot);

/* "set key flags exptime length [cas]", and the value: a large one stays where it is, and follows
 * as an object of its own. -1 with MemoryError. */
int mcx_errand_store(mcx_errand *errand, mc_slice key, mc_slice exptime, const uint64_t *cas,
                     const mcx_stored *stored);

/* One key of an errand with all that is its own, and those who wait for it, as an errand. NULL with
 * MemoryError. */
mcx_errand *mcx_errand_cut_out(mcx_async *client, mcx_errand *errand, size_t slot);

/* What refers to Python's objects, for the garbage collector. */
int mcx_errand_traverse(mcx_errand *errand, visitproc visit, void *arg);

static inline bool mcx_errand_reads(const mcx_errand *errand)
{
    return errand->command == MC_GET || errand->command == MC_GETS;
}

#endif
