/* async_loop: the event loop that an AsyncCache belongs to. */
#include "core/net/process.h"

#include "async.h"
#include "async_errand.h"
#include "async_stream.h"
#include "compat.h"
#include "state.h"

void mcx_async_leave(mcx_async *self)
{
    mcx_errand *errand;

    while ((errand = self->homeless) != NULL) {
        self->homeless = errand->next;
        mcx_errand_forget(self, errand);
    }
    self->is_rehome_due = false;
    mcx_lanes_end(self, false);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->future_type);
    Py_CLEAR(self->make_future);
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->call_later);
}

/* Whether futures of the loop are plain ones, which are made without a frame of Python's. */
static int find_future(mcx_async *self)
{
    PyObject *plain = mcx_import("asyncio", "Future"), *future = NULL;

    self->make_future = plain ? PyObject_GetAttrString(self->loop, "create_future") : NULL;
    future = self->make_future ? PyObject_CallNoArgs(self->make_future) : NULL;
    if (future != NULL && (PyObject *)Py_TYPE(future) == plain) {
        self->future_type = Py_NewRef(plain);
    }
    Py_XDECREF(plain);
    Py_XDECREF(future);
    return future == NULL ? -1 : 0;
}

/* Steals loop. */
static int enter_loop(mcx_async *self, PyObject *loop)
{
    mcx_async_leave(self);
    self->pending = 0;
    self->generation = mc_process_generation();
    self->loop = loop;
    self->call_soon = PyObject_GetAttrString(loop, "call_soon");
    self->call_later = PyObject_GetAttrString(loop, "call_later");
    if (self->call_soon == NULL || self->call_later == NULL || find_future(self) < 0) {
        mcx_async_leave(self);
        return -1;
    }
    return 0;
}

/* Another loop runs than that of the first use, or it is another process. Steals loop. */
static COLD int change_loop(mcx_async *self, PyObject *loop)
{
    PyObject *closed;
    int is_closed = 1;

    if (self->cache == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "AsyncCache.__init__ has not been called");
        Py_DECREF(loop);
        return -1;
    }
    if (self->loop != NULL && self->generation == mc_process_generation()) {
        closed = PyObject_CallMethod(self->loop, "is_closed", NULL);
        is_closed = closed ? PyObject_IsTrue(closed) : -1;
        Py_XDECREF(closed);
        if (is_closed == 0) {
            PyErr_Format(PyExc_RuntimeError,
                         "%R belongs to the event loop %R, and is used in %R: make one for each",
                         (PyObject *)self, self->loop, loop);
        }
    }
    if (is_closed <= 0) {
        Py_DECREF(loop);
        return -1;
    }
    return enter_loop(self, loop);
}

int mcx_async_enter(mcx_async *self)
{
    PyObject *loop = LIKELY(self->find_loop != NULL) ? PyObject_CallNoArgs(self->find_loop) : NULL;

    if (UNLIKELY(loop == NULL)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "AsyncCache.__init__ has not been called");
        }
        return -1;
    }
    if (LIKELY(loop == self->loop && self->generation == mc_process_generation())) {
        Py_DECREF(loop);
        return 0;
    }
    return change_loop(self, loop);
}

PyObject *mcx_async_future(mcx_async *self)
{
    PyObject *arguments[] = {self->loop};

    return LIKELY(self->future_type != NULL)
               ? PyObject_Vectorcall(self->future_type, arguments, 0, self->keywords)
               : PyObject_CallNoArgs(self->make_future);
}
