#include "async_protocol.h"

#include <structmember.h>

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/net/socket.h"

#include "async_errand.h"
#include "async_stream.h"
#include "cache_call.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "state.h"

/* A stream with nothing under way is closed after that. */
#define IDLE_FOR (60 * MC_SECOND)

/* What has come, but was not read while the loop was busy, is waited for so long. */
#define GRACE (MC_SECOND / 20)

/* ---- making --------------------------------------------------------------------------------- */

mcx_astream *mcx_astream_new(mcx_async *client, mcx_lane *lane, Py_ssize_t number)
{
    PyObject *class = PyObject_GetAttrString((PyObject *)client, "_stream_class");
    mcx_astream *stream = class ? (mcx_astream *)PyObject_CallNoArgs(class) : NULL;

    Py_XDECREF(class);
    if (stream == NULL) {
        return NULL;
    }
    if (!PyObject_TypeCheck((PyObject *)stream, client->module->astream_type)) {
        PyErr_SetString(PyExc_TypeError, "a class of streams must derive from _AsyncStream");
        Py_DECREF((PyObject *)stream);
        return NULL;
    }
    stream->client = (mcx_async *)Py_NewRef((PyObject *)client);
    stream->host = (mcx_server *)Py_NewRef((PyObject *)lane->host);
    stream->lane = lane;
    stream->number = number;
    stream->last_used = mc_clock_now();
    return stream;
}

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    mcx_astream *stream = (mcx_astream *)type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (stream != NULL) {
        stream->fd = -1;
    }
    return (PyObject *)stream;
}

static int stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_astream *stream = (mcx_astream *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)stream->client);
    Py_VISIT((PyObject *)stream->host);
    Py_VISIT(stream->transport);
    Py_VISIT(stream->write);
    Py_VISIT(stream->timer);
    for (mcx_errand *each = stream->first; each != NULL; each = each->next) {
        int result = mcx_errand_traverse(each, visit, arg);

        if (result != 0) {
            return result;
        }
    }
    for (mc_asking *each = stream->row.first; each != NULL; each = each->next) {
        int result = mcx_errand_traverse((mcx_errand *)each, visit, arg);

        if (result != 0) {
            return result;
        }
    }
    return 0;
}

void mcx_astream_drop(mcx_astream *stream)
{
    mc_asking *asking;
    mcx_errand *errand;

    stream->state = MCX_STREAM_OVER;
    stream->lane = NULL;
    if (stream->is_probing) {
        stream->is_probing = false;
        mc_server_give_up_probe(&stream->host->server);
    }
    stream->gets[0] = stream->gets[1] = NULL;
    while ((asking = mc_row_take(&stream->row)) != NULL) {
        mcx_errand_forget(stream->client, (mcx_errand *)asking);
    }
    while ((errand = stream->first) != NULL) {
        stream->first = errand->next;
        mcx_errand_forget(stream->client, errand);
    }
    Py_CLEAR(stream->timer);
    Py_CLEAR(stream->write);
    Py_CLEAR(stream->transport);
}

static int stream_clear(PyObject *self)
{
    mcx_astream *stream = (mcx_astream *)self;

    if (stream->client != NULL) {
        mcx_astream_drop(stream);
    }
    Py_CLEAR(stream->client);
    Py_CLEAR(stream->host);
    return 0;
}

static void stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_astream *stream = (mcx_astream *)self;

    PyObject_GC_UnTrack(self);
    (void)stream_clear(self);
    mc_row_fini(&stream->row);
    mc_buffer_fini(&stream->out);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- what the transport says ---------------------------------------------------------------- */

static PyObject *extra_info(PyObject *transport, const char *name)
{
    return PyObject_CallMethod(transport, "get_extra_info", "s", name);
}

static int tell_of_connect(mcx_astream *stream)
{
    mcx_call call;
    int result;

    if (stream->host->counters != NULL) {
        mcx_count_up(&stream->host->counters->connects, 1);
    }
    if (mcx_cache_begin(&call, (PyObject *)stream->client->cache, MC_VERSION) < 0) {
        return -1;
    }
    result = mcx_event(&call, "connect", stream->host, NULL, 0);
    Py_XDECREF(mcx_cache_end(&call, Py_NewRef(Py_None), NULL));
    return result;
}

static PyObject *connection_made(PyObject *self, PyObject *transport)
{
    mcx_astream *stream = (mcx_astream *)self;
    PyObject *context, *socket = NULL, *done;

    if (stream->state == MCX_STREAM_OVER) { /* nobody wants it any more */
        done = PyObject_CallMethod(transport, "abort", NULL);
        return done;
    }
    context = extra_info(transport, "ssl_object");

    stream->in_records = context != NULL && context != Py_None;
    if (context != NULL) {
        socket = extra_info(transport, "socket");
        if (socket != NULL && socket != Py_None) {
            stream->fd = PyObject_AsFileDescriptor(socket);
        }
    }
    Py_XDECREF(context);
    Py_XDECREF(socket);
    PyErr_Clear(); /* there is none to look at */
    Py_XSETREF(stream->transport, Py_NewRef(transport));
    Py_XSETREF(stream->write, PyObject_GetAttrString(transport, "write"));
    if (stream->write == NULL) {
        return NULL;
    }
    if (tell_of_connect(stream) < 0) { /* also of one that will not be let in */
        mcx_unraisable(self);
    }
    Py_RETURN_NONE;
}

static PyObject *get_buffer(PyObject *self, PyObject *hint)
{
    mcx_astream *stream = (mcx_astream *)self;
    struct iovec piece;

    (void)hint;
    if (UNLIKELY(!mc_row_room(&stream->row, &piece))) {
        return PyErr_NoMemory();
    }
    return PyMemoryView_FromMemory(piece.iov_base, (Py_ssize_t)piece.iov_len, PyBUF_WRITE);
}

static PyObject *buffer_updated(PyObject *self, PyObject *count)
{
    mcx_astream *stream = (mcx_astream *)self;
    Py_ssize_t size = PyLong_AsSsize_t(count);

    if (size < 0) {
        return NULL;
    }
    if (UNLIKELY(stream->state == MCX_STREAM_OVER || stream->transport == NULL)) {
        Py_RETURN_NONE;
    }
    mc_row_received(&stream->row, (size_t)size);
    if (stream->host->counters != NULL && stream->state == MCX_STREAM_OPEN) {
        mcx_count_up(&stream->host->counters->bytes_in, (uint64_t)size);
    }
    Py_INCREF(self);
    int result = mcx_astream_read(stream);

    Py_DECREF(self);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *eof_received(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE; /* the transport closes itself */
}

static PyObject *connection_lost(PyObject *self, PyObject *error)
{
    (void)error; /* what was under way says as much as is known */
    mcx_astream_lose((mcx_astream *)self, MCX_LOST_CLOSED, NULL);
    Py_RETURN_NONE;
}

static PyObject *pause_writing(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((mcx_astream *)self)->is_paused = true;
    Py_RETURN_NONE;
}

static PyObject *resume_writing(PyObject *self, PyObject *unused)
{
    mcx_astream *stream = (mcx_astream *)self;

    (void)unused;
    stream->is_paused = false;
    return mcx_astream_flush(stream) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- what mcext.async_cache says ------------------------------------------------------------ */

/* _opened(): everything that comes before requests is done. */
static PyObject *stream_opened(PyObject *self, PyObject *unused)
{
    mcx_astream *stream = (mcx_astream *)self;

    (void)unused;
    if (stream->state != MCX_STREAM_OPENING) {
        Py_RETURN_NONE;
    }
    if (stream->transport == NULL) { /* it was lost meanwhile */
        Py_RETURN_FALSE;
    }
    stream->state = MCX_STREAM_OPEN;
    if (stream->lane != NULL) {
        mcx_lane_count(stream->client, stream->lane);
    }
    stream->last_used = mc_clock_now();
    if (mcx_astream_wake_at(stream, stream->last_used + IDLE_FOR) < 0) {
        mcx_unraisable(self);
    }
    return mcx_astream_flush(stream) < 0 ? NULL : Py_NewRef(Py_True);
}

/* _failed(name, text, cause): it could not be opened. cause: None or what was raised. */
static PyObject *stream_failed(PyObject *self, PyObject *args)
{
    mcx_astream *stream = (mcx_astream *)self;
    const char *name;
    PyObject *text, *cause;

    if (!PyArg_ParseTuple(args, "sUO:_failed", &name, &text, &cause)) {
        return NULL;
    }
    mcx_afault fault = {.name = mcx_fault_class(name),
                        .text = text,
                        .cause = cause == Py_None ? NULL : cause,
                        .host = stream->host};

    mcx_astream_lose(stream, MCX_LOST_CONNECT, &fault);
    Py_RETURN_NONE;
}

/* _given_up(): it is not opened after all. */
static PyObject *stream_given_up(PyObject *self, PyObject *unused)
{
    mcx_astream *stream = (mcx_astream *)self;
    mcx_afault fault = {.name = "ServerUnavailable",
                        .text = PyUnicode_FromString("the connect was cancelled"),
                        .host = stream->host};

    (void)unused;
    if (fault.text == NULL) {
        return NULL;
    }
    mcx_astream_lose(stream, MCX_LOST_GIVEN_UP, &fault);
    Py_DECREF(fault.text);
    Py_RETURN_NONE;
}

static PyObject *stream_flush(PyObject *self, PyObject *unused)
{
    (void)unused;
    return mcx_astream_flush((mcx_astream *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Those of the queue whose time is over fail. */
static void expire_queue(mcx_astream *stream, int64_t now)
{
    mcx_errand **at = &stream->first, *expired = NULL, **end = &expired;
    bool is_opening = stream->state == MCX_STREAM_OPENING;
    mcx_afault fault = {.name = "ServerTimeout", .host = stream->host};

    stream->last = NULL;
    while (*at != NULL) { /* one that has lost another stream may stand behind newer ones */
        mcx_errand *errand = *at;

        if (errand->deadline > now) {
            stream->last = errand;
            at = &errand->next;
            continue;
        }
        *at = errand->next;
        errand->next = NULL;
        *end = errand;
        end = &errand->next;
        for (int i = 0; i < 2; i++) {
            stream->gets[i] = stream->gets[i] == errand ? NULL : stream->gets[i];
        }
    }
    while (expired != NULL) {
        mcx_errand *errand = expired;

        expired = errand->next;
        errand->next = NULL;
        Py_XSETREF(fault.text,
                   PyUnicode_FromString(is_opening ? "the connect timed out" : "timed out"));
        mcx_errand_fail(stream->client, errand, &fault);
    }
    Py_XDECREF(fault.text);
}

/* Those of the row that stand behind one with more time. */
static void expire_row(mcx_astream *stream, int64_t now)
{
    mcx_afault fault = {.name = "ServerTimeout", .host = stream->host, .may_have_run = true};
    mc_asking *asking = stream->row.first != NULL ? stream->row.first->next : NULL;

    while (asking != NULL && stream->state == MCX_STREAM_OPEN) {
        mcx_errand *errand = (mcx_errand *)asking;

        asking = asking->next;
        if (errand->deadline > now || errand->waiting == 0) {
            continue;
        }
        Py_XSETREF(fault.text, PyUnicode_FromString("timed out"));
        mcx_errand_expire(errand, &fault, now);
    }
    Py_XDECREF(fault.text);
}

/* When the timer is next due; INT64_MAX: never. */
static int64_t next_deadline(const mcx_astream *stream)
{
    const mcx_errand *front = (const mcx_errand *)stream->row.first;
    int64_t at = INT64_MAX;

    for (const mc_asking *each = stream->row.first;
         each != NULL && stream->state == MCX_STREAM_OPEN; each = each->next) {
        const mcx_errand *errand = (const mcx_errand *)each;

        if (errand == front || errand->waiting != 0) {
            at = errand->deadline < at ? errand->deadline : at;
        }
    }
    for (const mcx_errand *each = stream->first; each != NULL; each = each->next) {
        at = each->deadline < at ? each->deadline : at;
    }
    if (at == INT64_MAX && stream->state == MCX_STREAM_OPEN) {
        at = stream->last_used + IDLE_FOR;
    }
    return at;
}

/* Whether a loop that was busy has not yet read what is there. */
static bool is_unread(const mcx_astream *stream)
{
    return stream->fd >= 0 && !mc_socket_is_quiet(stream->fd);
}

static PyObject *stream_tick(PyObject *self, PyObject *unused)
{
    mcx_astream *stream = (mcx_astream *)self;
    const mcx_errand *front = (const mcx_errand *)stream->row.first;
    int64_t now = mc_clock_now(), at;
    bool is_late = front != NULL && front->deadline <= now && stream->state == MCX_STREAM_OPEN;

    (void)unused;
    Py_CLEAR(stream->timer);
    if (stream->state == MCX_STREAM_OVER) {
        Py_RETURN_NONE;
    }
    if (is_late && !stream->had_grace && is_unread(stream)) {
        stream->had_grace = true;
        return mcx_astream_wake_at(stream, now + GRACE) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (is_late) {
        mcx_astream_lose(stream, MCX_LOST_LATE, NULL);
        Py_RETURN_NONE;
    }
    expire_queue(stream, now);
    expire_row(stream, now);
    mcx_astream_rest(stream);
    if (stream->state == MCX_STREAM_OVER) {
        Py_RETURN_NONE;
    }
    at = next_deadline(stream);
    if (stream->state == MCX_STREAM_OPEN && stream->row.first == NULL && stream->first == NULL) {
        mc_buffer_trim(&stream->row.in, 0);
        mc_buffer_trim(&stream->out, 0);
        if (at <= now) {
            mcx_astream_lose(stream, MCX_LOST_RETIRED, NULL);
            Py_RETURN_NONE;
        }
    }
    if (at != INT64_MAX && mcx_astream_wake_at(stream, at) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef stream_methods[] = {
    {"connection_made", connection_made, METH_O, NULL},
    {"connection_lost", connection_lost, METH_O, NULL},
    {"get_buffer", get_buffer, METH_O, NULL},
    {"buffer_updated", buffer_updated, METH_O, NULL},
    {"eof_received", eof_received, METH_NOARGS, NULL},
    {"pause_writing", pause_writing, METH_NOARGS, NULL},
    {"resume_writing", resume_writing, METH_NOARGS, NULL},
    {"_opened", stream_opened, METH_NOARGS, NULL},
    {"_failed", stream_failed, METH_VARARGS, NULL},
    {"_given_up", stream_given_up, METH_NOARGS, NULL},
    {"_flush", stream_flush, METH_NOARGS, NULL},
    {"_tick", stream_tick, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_new, stream_new},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_methods, stream_methods},
    {Py_tp_doc, "A connection of mcext.AsyncCache: the protocol of an asyncio transport."},
    {0, NULL},
};

PyType_Spec mcx_astream_spec = {
    .name = "mcext._core._AsyncStream",
    .basicsize = sizeof(mcx_astream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = stream_slots,
};
