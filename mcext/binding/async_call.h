/* async_call: the type `_AsyncCall`: one call of an AsyncCache as a coroutine object. */
#ifndef MCX_ASYNC_CALL_H
#define MCX_ASYNC_CALL_H

#include "async.h"

extern PyType_Spec mcx_acall_spec;

/* A call of a method, which begins when it is first run. arguments: count of them, borrowed, NULL
 * where not given. */
PyObject *mcx_acall_new(mcx_async *client, const mcx_verb *verb, PyObject *const *arguments,
                        int count);

/* What a call for many keys holds. */
mcx_many *mcx_many_new(void);
void mcx_many_free(mcx_many *many);

/* ---- for the verbs -------------------------------------------------------------------------- */

static inline PyObject *mcx_argument(const mcx_acall *self, int number)
{
    return self->arguments[number] != NULL ? self->arguments[number] : Py_None;
}

/* The errand, which is given up, goes to that lane, and the call waits for its only key. 1, or -1
 * with an exception. */
int mcx_acall_send(mcx_acall *self, mcx_errand *errand, mcx_lane *lane, bool is_probe, bool is_big);

/* A call of that verb with arguments in a tuple, three at most, by a format of objects. */
PyObject *mcx_acall_parse(PyObject *client, const mcx_verb *verb, const char *format,
                          PyObject *args);

/* Some of what a verb needs: when the call has to be over. */
static inline int64_t mcx_acall_deadline(const mcx_acall *self)
{
    return self->start + self->client->timeout;
}

#endif
