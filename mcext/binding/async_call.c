#include "async_call.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#include "core/net/clock.h"
#include "core/wire/meta.h"

#include "async_errand.h"
#include "async_stream.h"
#include "cache_call.h"
#include "cache_partial.h"
#include "compat.h"
#include "faults.h"
#include "state.h"
#include "watch.h"

/* ---- making and ending ---------------------------------------------------------------------- */

PyObject *mcx_acall_new(mcx_async *client, const mcx_verb *verb, PyObject *const *arguments,
                        int count)
{
    PyTypeObject *type = client->module->acall_type;
    mcx_acall *self = (mcx_acall *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->verb = verb;
        self->client = (mcx_async *)Py_NewRef((PyObject *)client);
        self->command = verb->command;
        for (int i = 0; i < count; i++) {
            self->arguments[i] = Py_XNewRef(arguments[i]);
        }
    }
    return (PyObject *)self;
}

PyObject *mcx_acall_parse(PyObject *client, const mcx_verb *verb, const char *format,
                          PyObject *args)
{
    PyObject *values[3] = {NULL};

    return PyArg_ParseTuple(args, format, &values[0], &values[1], &values[2])
               ? mcx_acall_new((mcx_async *)client, verb, values, 3)
               : NULL;
}

/* Whether it came with the answer, or is an item of its own that was added. */
static bool has_lease(const mcx_acall *self)
{
    return self->types[0] == MC_REPLY_STORED || mc_meta_has(&self->reply, 'W');
}

/* The lease, of which nobody has heard. */
static COLD void give_back(mcx_acall *self)
{
    PyObject *type, *value, *traceback, *owner;
    mcx_call call;
    mc_slice key;

    PyErr_Fetch(&type, &value, &traceback);
    if (self->types[0] == MC_REPLY_STORED) {
        mcx_lease_back(self->client, self->host, mcx_bytes_of(self->value), self->value, NULL);
    }
    else if (mcx_cache_begin(&call, (PyObject *)self->client->cache, MC_MD) == 0) {
        if (mcx_async_key(&call, self->arguments[0], &key, &owner) == 0) {
            mcx_lease_back(self->client, self->host, key, owner, &self->reply);
            Py_DECREF(owner);
        }
        Py_XDECREF(mcx_cache_end(&call, Py_NewRef(Py_None), NULL));
    }
    mcx_unraisable(self);
    PyErr_Restore(type, value, traceback);
}

/* It waits for nothing any more. */
static void leave(mcx_acall *self)
{
    if (UNLIKELY(self->many != NULL) && self->verb->gives_back && !self->is_told &&
        (self->state == MCX_ACALL_WAITS || self->state == MCX_ACALL_IS_ANSWERED)) {
        mcx_many_give_back(self);
    }
    if (self->state == MCX_ACALL_WAITS) {
        self->client->pending--;
        mcx_errand_leave(self);
    }
    else if (self->state == MCX_ACALL_IS_ANSWERED && self->verb->gives_back && !self->is_told &&
             has_lease(self)) {
        give_back(self);
    }
    self->state = MCX_ACALL_IS_OVER;
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->future);
}

static void clear_arguments(mcx_acall *self)
{
    for (int i = 0; i < MCX_ACALL_ARGUMENTS; i++) {
        Py_CLEAR(self->arguments[i]);
    }
}

static int visit_many(mcx_many *many, visitproc visit, void *arg)
{
    for (size_t i = 0; i < many->count; i++) {
        Py_VISIT(many->keys[i].object);
    }
    return 0;
}

static int acall_traverse(PyObject *object, visitproc visit, void *arg)
{
    mcx_acall *self = (mcx_acall *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->client);
    for (int i = 0; i < MCX_ACALL_ARGUMENTS; i++) {
        Py_VISIT(self->arguments[i]);
    }
    Py_VISIT(self->future);
    Py_VISIT(self->iterator);
    Py_VISIT((PyObject *)self->next);
    Py_VISIT((PyObject *)self->host);
    Py_VISIT((PyObject *)self->tried);
    Py_VISIT(self->value);
    Py_VISIT(self->fault.cause);
    return self->many != NULL ? visit_many(self->many, visit, arg) : 0;
}

static int acall_clear(PyObject *object)
{
    mcx_acall *self = (mcx_acall *)object;

    clear_arguments(self);
    Py_CLEAR(self->future);
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->value);
    Py_CLEAR(self->fault.cause);
    return 0;
}

/* One that was never run is a mistake, mostly. */
static void acall_finalize(PyObject *object)
{
    mcx_acall *self = (mcx_acall *)object;
    PyObject *type, *value, *traceback;

    if (self->state != MCX_ACALL_NEW || self->verb == NULL || self->verb->greets) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine 'AsyncCache.%s' was never awaited",
                         self->verb->name) < 0) {
        PyErr_WriteUnraisable(object);
    }
    PyErr_Restore(type, value, traceback);
}

static void acall_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    mcx_acall *self = (mcx_acall *)object;

    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;
    }
    PyObject_GC_UnTrack(object);
    if (self->state == MCX_ACALL_WAITS) { /* what it waited for is gone */
        self->client->pending--;
    }
    (void)acall_clear(object);
    mcx_retrieved_clear(&self->got);
    mcx_afault_clear(&self->fault);
    if (self->many != NULL) {
        mcx_many_free(self->many);
    }
    Py_XDECREF((PyObject *)self->host);
    Py_XDECREF((PyObject *)self->tried);
    Py_XDECREF((PyObject *)self->next);
    Py_XDECREF((PyObject *)self->client);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- the beginning -------------------------------------------------------------------------- */

/* The call waits for that future (stolen), which the loop is given. */
static int wait_for(mcx_acall *self, PyObject *future)
{
    PyAsyncMethods *methods;

    Py_XSETREF(self->future, future);
    if (future == NULL) {
        return -1;
    }
    methods = Py_TYPE(self->future)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_SetString(PyExc_TypeError, "the loop's future cannot be awaited");
        return -1;
    }
    Py_XSETREF(self->iterator, methods->am_await(self->future));
    return self->iterator == NULL ? -1 : 0;
}

int mcx_acall_send(mcx_acall *self, mcx_errand *errand, mcx_lane *lane, bool is_probe, bool is_big)
{
    mcx_astream *stream = mcx_lane_stream(self->client, lane, is_big);

    if (UNLIKELY(stream == NULL)) {
        mcx_errand_free(self->client, errand);
        return -1;
    }
    if (UNLIKELY(is_probe)) {
        stream->is_probing = true;
    }
    if (!errand->is_unwatched) {
        mcx_errand_wait(errand, 0, self);
    }
    errand->is_unwatched |= self->verb->ends_lease;
    return mcx_astream_send(stream, errand) < 0 ? -1 : 1;
}

static int overloaded(mcx_acall *self, mcx_call *call)
{
    mcx_afault fault = {.name = "Overloaded"};

    fault.text = PyUnicode_FromFormat("%zd calls are under way, which is max_pending",
                                      self->client->pending);
    int result = fault.text != NULL ? mcx_fault_note(call, &fault) : -1;

    Py_XDECREF(fault.text);
    return result < 0 ? -1 : 0;
}

static PyObject *missed_by(const mcx_acall *self)
{
    return self->verb->missed != NULL ? self->verb->missed(self) : NULL;
}

/* Where servers are found by asking, the first call waits until they are: 1, 0 where it need not,
 * -1 with an exception. */
static COLD int make_ready(mcx_acall *self)
{
    mcx_async *client = self->client;

    if (client->cache == NULL || client->cache->shared == NULL ||
        !mcx_watch_is_due(client->cache->shared)) {
        return 0;
    }
    self->state = MCX_ACALL_READIES;
    return mcx_async_enter(client) < 0 ||
                   wait_for(self, PyObject_CallMethod((PyObject *)client, "_make_ready", NULL)) < 0
               ? -1
               : 1;
}

static bool is_open(const mcx_acall *self)
{
    const mcx_cache *cache = self->client->cache;

    return cache != NULL && atomic_load_explicit(&cache->open, memory_order_relaxed) != NULL;
}

/* The call is set going: 1; 0: *result is what it ends in, or NULL with an exception. */
static int begin(mcx_acall *self, PyObject **result)
{
    mcx_async *client = self->client;
    mcx_call call;
    int started = -1;

    *result = NULL;
    self->state = MCX_ACALL_IS_OVER;
    if (UNLIKELY(mcx_async_enter(client) < 0) ||
        UNLIKELY(mcx_cache_begin(&call, (PyObject *)client->cache, self->verb->command) < 0)) {
        return 0;
    }
    call.raises |= self->verb->raises;
    if (self->start == 0) { /* else it is a step of a longer one */
        self->start = call.clock.start;
    }
    if (UNLIKELY(client->pending >= client->max_pending) && !self->verb->greets &&
        !self->verb->ends_lease) {
        started = overloaded(self, &call);
        if (started == 0 && !call.raises && self->verb->missed == NULL) {
            started = self->verb->start(self, &call); /* of many keys: the miss is made of them */
        }
    }
    else if (LIKELY(wait_for(self, mcx_async_future(client)) == 0)) {
        self->state = MCX_ACALL_WAITS;
        client->pending++;
        started = self->verb->start(self, &call);
        self->command = call.command;
        if (started > 0 && call.host != NULL && self->host == NULL) {
            self->host = (mcx_server *)Py_NewRef((PyObject *)call.host);
        }
    }
    if (LIKELY(started > 0)) {
        *result = mcx_cache_end(&call, Py_NewRef(Py_None), NULL);
        Py_CLEAR(*result);
        return PyErr_Occurred() ? 0 : 1;
    }
    if (started == 0) {
        *result = Py_XNewRef(self->value);
    }
    *result = mcx_cache_end(&call, *result, missed_by(self));
    return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

static int note_fault(mcx_acall *self, mcx_call *call)
{
    if (self->many != NULL) {
        call->faults = self->many->noted;
        self->many->noted = NULL;
        for (size_t i = 0; i < self->many->fault_count; i++) {
            if (mcx_fault_note(call, &self->many->faults[i]) < 0) {
                return -1;
            }
        }
        return 0;
    }
    self->fault.may_have_run &= !self->verb->is_ahead;
    return self->fault.name != NULL ? mcx_fault_note(call, &self->fault) : 0;
}

/* What has come becomes the result, or an exception. What a miss stands for its caller is not told.
 */
static PyObject *finish(mcx_acall *self)
{
    mcx_cache *cache = self->client->cache;
    bool is_slow = mcx_is_slow(cache, self->took);
    PyObject *result = NULL;
    mcx_call call;

    if (LIKELY(self->got.value != NULL && !is_slow && self->fault.name == NULL)) {
        result = self->got.value; /* of a get, ready */
        self->got.value = NULL;
        return result;
    }
    if (mcx_cache_begin(&call, (PyObject *)cache, self->command) < 0) {
        return NULL;
    }
    call.raises |= self->verb->raises;
    call.clock.start = self->start;
    call.host = self->host;
    if (LIKELY(note_fault(self, &call) == 0) && LIKELY(self->fault.name == NULL)) {
        result = self->verb->finish(self, &call);
    }
    if (UNLIKELY(is_slow) && result != NULL && call.faults == NULL &&
        mcx_event(&call, "slow", self->host, NULL, self->many != NULL ? self->many->count : 1) <
            0) {
        Py_CLEAR(result);
    }
    self->is_told = result != NULL;
    result = mcx_cache_end(&call, result, missed_by(self));
    self->is_told &= result != NULL;
    return result;
}

/* ---- a coroutine ---------------------------------------------------------------------------- */

static PySendResult over(mcx_acall *self, PySendResult sent)
{
    leave(self);
    clear_arguments(self);
    return sent;
}

/* It goes on: PYGEN_NEXT with what is to be waited for, or its end. */
static PySendResult go_on(mcx_acall *self, PyObject **result)
{
    PySendResult sent;

    *result = NULL;
    if (self->state == MCX_ACALL_IS_OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (self->state == MCX_ACALL_NEW && UNLIKELY(!is_open(self)) && make_ready(self) < 0) {
        return over(self, PYGEN_ERROR);
    }
    if (self->state == MCX_ACALL_READIES) {
        sent = PyIter_Send(self->iterator, Py_None, result);
        if (sent != PYGEN_RETURN) {
            return sent == PYGEN_NEXT ? sent : over(self, sent);
        }
        Py_CLEAR(*result);
        self->state = MCX_ACALL_NEW;
    }
    if (self->state == MCX_ACALL_NEW && !begin(self, result)) {
        return over(self, *result != NULL ? PYGEN_RETURN : PYGEN_ERROR);
    }
    sent = PyIter_Send(self->iterator, Py_None, result);
    if (LIKELY(sent == PYGEN_NEXT)) {
        return sent;
    }
    if (LIKELY(sent == PYGEN_RETURN)) {
        Py_CLEAR(*result);
        if (UNLIKELY(self->state < MCX_ACALL_IS_ANSWERED)) {
            PyErr_SetString(PyExc_RuntimeError, "the future of a call was set by somebody else");
        }
        else {
            *result = finish(self);
        }
        sent = *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
    }
    return over(self, sent);
}

static PySendResult acall_am_send(PyObject *object, PyObject *value, PyObject **result)
{
    mcx_acall *self = (mcx_acall *)object;
    PySendResult sent;

    (void)value;
    if (UNLIKELY(self->is_running)) {
        *result = NULL;
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    }
    self->is_running = true;
    Py_INCREF(object);
    sent = go_on(self, result);
    self->is_running = false;
    Py_DECREF(object);
    return sent;
}

/* The result as an exception, as iterators have it. */
static PyObject *as_iterator(PySendResult sent, PyObject *result)
{
    if (sent == PYGEN_RETURN) {
        PyObject *stop = result == Py_None ? PyObject_CallNoArgs(PyExc_StopIteration)
                                           : PyObject_CallOneArg(PyExc_StopIteration, result);

        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *acall_send(PyObject *object, PyObject *value)
{
    PyObject *result;
    PySendResult sent = acall_am_send(object, value, &result);

    return as_iterator(sent, result);
}

static PyObject *acall_next(PyObject *object)
{
    return acall_send(object, Py_None);
}

/* throw(exception), or throw(type, value=None, traceback=None): it ends with that. */
static PyObject *acall_throw(PyObject *object, PyObject *args)
{
    mcx_acall *self = (mcx_acall *)object;
    PyObject *type, *value = NULL, *traceback = NULL;

    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback)) {
        return NULL;
    }
    if (self->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    leave(self);
    clear_arguments(self);
    traceback = traceback == Py_None ? NULL : traceback;
    if (traceback != NULL && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
    }
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from BaseException, not "
                     "%.100s",
                     Py_TYPE(type)->tp_name);
        return NULL;
    }
    traceback = value != NULL && traceback == NULL && PyExceptionInstance_Check(value)
                    ? PyException_GetTraceback(value)
                    : Py_XNewRef(traceback);
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value == Py_None ? NULL : value), traceback);
    return NULL;
}

static PyObject *acall_close(PyObject *object, PyObject *unused)
{
    mcx_acall *self = (mcx_acall *)object;

    (void)unused;
    if (self->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    leave(self);
    clear_arguments(self);
    Py_RETURN_NONE;
}

/* As a coroutine: one at a time awaits it. */
static PyObject *acall_await(PyObject *object)
{
    mcx_acall *self = (mcx_acall *)object;

    if (UNLIKELY(self->iterator != NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(object);
}

static PyObject *acall_repr(PyObject *object)
{
    mcx_acall *self = (mcx_acall *)object;

    return PyUnicode_FromFormat("<coroutine object AsyncCache.%s at %p>", self->verb->name, object);
}

/* ---- what debuggers and asyncio's debug mode ask -------------------------------------------- */

static PyObject *get_name(PyObject *object, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(((mcx_acall *)object)->verb->name);
}

static PyObject *get_qualname(PyObject *object, void *closure)
{
    (void)closure;
    return PyUnicode_FromFormat("AsyncCache.%s", ((mcx_acall *)object)->verb->name);
}

/* As inspect.getcoroutinestate has it, which asks for cr_state from CPython 3.15 on; closure:
 * whether it is this one. */
static PyObject *get_state(PyObject *object, void *closure)
{
    mcx_acall *self = (mcx_acall *)object;
    const char *state = self->is_running               ? "CORO_RUNNING"
                        : self->iterator != NULL       ? "CORO_SUSPENDED"
                        : self->state == MCX_ACALL_NEW ? "CORO_CREATED"
                                                       : "CORO_CLOSED";

    return closure != NULL ? PyBool_FromLong(strcmp(state, closure) == 0)
                           : PyUnicode_FromString(state);
}

static PyObject *get_await(PyObject *object, void *closure)
{
    PyObject *future = ((mcx_acall *)object)->future;

    (void)closure;
    return Py_NewRef(future != NULL ? future : Py_None);
}

static PyObject *get_none(PyObject *object, void *closure)
{
    (void)object;
    (void)closure;
    Py_RETURN_NONE;
}

static PyMethodDef acall_methods[] = {
    {"send", acall_send, METH_O, "send(value): start it, or go on."},
    {"throw", acall_throw, METH_VARARGS, "throw(exception): end it by that."},
    {"close", acall_close, METH_NOARGS, "close(): end it; what was sent may be carried out."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef acall_getset[] = {
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_qualname, NULL, NULL, NULL},
    {"cr_running", get_state, NULL, NULL, "CORO_RUNNING"},
    {"cr_suspended", get_state, NULL, NULL, "CORO_SUSPENDED"},
    {"cr_state", get_state, NULL, NULL, NULL},
    {"cr_await", get_await, NULL, NULL, NULL},
    {"cr_frame", get_none, NULL, NULL, NULL},
    {"cr_code", get_none, NULL, NULL, NULL},
    {"cr_origin", get_none, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef acall_members[] = {
    {"_start", T_LONGLONG, offsetof(mcx_acall, start), 0, NULL}, /* by time.monotonic_ns() */
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot acall_slots[] = {
    {Py_tp_dealloc, acall_dealloc},
    {Py_tp_traverse, acall_traverse},
    {Py_tp_clear, acall_clear},
    {Py_tp_finalize, acall_finalize},
    {Py_tp_repr, acall_repr},
    {Py_tp_methods, acall_methods},
    {Py_tp_getset, acall_getset},
    {Py_tp_members, acall_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, acall_next},
    {Py_am_await, acall_await},
    {Py_am_send, acall_am_send},
    {Py_tp_doc, "A call of mcext.AsyncCache: awaitable, once."},
    {0, NULL},
};

PyType_Spec mcx_acall_spec = {
    .name = "mcext._core._AsyncCall",
    .basicsize = sizeof(mcx_acall),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = acall_slots,
};
