#include "tls_stream.h"

#include <string.h>

#include "log.h"
#include "python_socket.h"
#include "secret.h"

/* A record, of which most replies are one, goes over the stack, so that its bytes object is made in
 * its own size. That saves 1,500 instructions of malloc's. Not where greenlets may be switched
 * meanwhile, which keep a copy of what is on the stack. */
#define SMALL (MCX_TLS_RECORD + 512)

/* ---- names ---------------------------------------------------------------------------------- */

/* In the order of MCX_TLS_*: of ssl, then of attributes. */
static const char *const names[MCX_TLS_NAMES] = {
    "MemoryBIO", "SSLError", "SSLWantReadError", "read", "write", "pending",
};

/* Once a module; of two threads the first one's stand. */
static int find_names(mcx_module *module)
{
    for (int i = 0; i < MCX_TLS_NAMES; i++) {
        PyObject *none = NULL, *found;

        if (__atomic_load_n(&module->tls[i], __ATOMIC_ACQUIRE) != NULL) {
            continue;
        }
        found =
            i < MCX_TLS_READ ? mcx_import("ssl", names[i]) : PyUnicode_InternFromString(names[i]);
        if (found == NULL) {
            return -1;
        }
        if (!__atomic_compare_exchange_n(&module->tls[i], &none, found, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            Py_DECREF(found);
        }
    }
    return 0;
}

/* ---- the type ------------------------------------------------------------------------------- */

static int tls_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((mcx_tls *)self)->object);
    Py_VISIT(((mcx_tls *)self)->offered);
    return 0;
}

static int tls_clear(PyObject *self)
{
    Py_CLEAR(((mcx_tls *)self)->object);
    Py_CLEAR(((mcx_tls *)self)->offered);
    return 0;
}

static void tls_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_tls *tls = (mcx_tls *)self;

    PyObject_GC_UnTrack(self);
    (void)tls_clear(self);
    Py_CLEAR(tls->incoming);
    Py_CLEAR(tls->outgoing);
    Py_CLEAR(tls->sending);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot tls_slots[] = {
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_traverse, tls_traverse},
    {Py_tp_clear, tls_clear},
    {Py_tp_doc, "The TLS stream of one connection."},
    {0, NULL},
};

PyType_Spec mcx_tls_spec = {
    .name = "mcext._core._Tls",
    .basicsize = sizeof(mcx_tls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tls_slots,
};

mcx_tls *mcx_tls_new(mcx_module *module)
{
    mcx_tls *tls;

    if (find_names(module) < 0) {
        return NULL;
    }
    tls = (mcx_tls *)module->tls_type->tp_alloc(module->tls_type, 0);
    if (tls == NULL) {
        return NULL;
    }
    tls->module = module;
    tls->is_new = true;
    tls->incoming = PyObject_CallNoArgs(module->tls[MCX_TLS_BIO]);
    tls->outgoing = tls->incoming ? PyObject_CallNoArgs(module->tls[MCX_TLS_BIO]) : NULL;
    if (tls->outgoing == NULL) {
        Py_CLEAR(tls);
    }
    return tls;
}

/* ---- what went wrong ------------------------------------------------------------------------ */

mc_status mcx_tls_judge(mc_connection *connection)
{
    mcx_module *module = ((mcx_tls *)connection->handle)->module;

    if (PyErr_ExceptionMatches(module->tls[MCX_TLS_WANT_READ])) {
        PyErr_Clear();
        return MC_AGAIN;
    }
    /* What a signal handler raises may be an OSError, too. */
    if (!PyErr_ExceptionMatches(module->tls[MCX_TLS_ERROR])) {
        return MC_RAISED;
    }
    return mcx_keep_problem(connection) < 0 ? MC_NO_MEMORY : MC_FAILED;
}

static mc_status wrong_answer(const char *method, PyObject *answer)
{
    PyErr_Format(PyExc_TypeError, "%s() of what tls_context.wrap_bio() made returned %.100R",
                 method, answer);
    return MC_RAISED;
}

static Py_ssize_t pending(mcx_tls *tls, PyObject *bio)
{
    PyObject *number = PyObject_GetAttr(bio, tls->module->tls[MCX_TLS_PENDING]);
    Py_ssize_t count = number ? PyNumber_AsSsize_t(number, NULL) : -1;

    Py_XDECREF(number);
    return count;
}

int mcx_tls_holds(mcx_tls *tls)
{
    PyObject *number = PyObject_CallMethodNoArgs(tls->object, tls->module->tls[MCX_TLS_PENDING]);
    Py_ssize_t held = number ? PyNumber_AsSsize_t(number, NULL) : -1;

    Py_XDECREF(number);
    if (held == 0) {
        held = pending(tls, tls->incoming);
    }
    return held == 0 ? 0 : PyErr_Occurred() ? -1 : 1;
}

/* ---- ciphertext ----------------------------------------------------------------------------- */

static mc_status receive_into(mc_connection *connection, char *room, size_t most, size_t *got,
                              mc_clock *clock)
{
    const mc_transport *below = connection->transport->below;
    struct iovec piece = {room, most};
    mc_status status;

    if (below->is_free) {
        Py_BEGIN_ALLOW_THREADS
        status = below->receive(connection, &piece, 1, got, false, clock);
        Py_END_ALLOW_THREADS
    }
    else {
        status = below->receive(connection, &piece, 1, got, false, clock);
    }
    return status;
}

static __attribute__((noinline)) mc_status receive_small(mc_connection *connection, size_t most,
                                                         PyObject **bytes, mc_clock *clock)
{
    char room[SMALL];
    size_t got = 0;
    mc_status status = receive_into(connection, room, most, &got, clock);

    if (status != MC_OK) {
        return status;
    }
    *bytes = PyBytes_FromStringAndSize(room, (Py_ssize_t)got);
    return *bytes != NULL ? MC_OK : MC_RAISED;
}

static mc_status receive(mc_connection *connection, size_t most, PyObject **bytes, mc_clock *clock)
{
    size_t got = 0;
    mc_status status;

    *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)most);
    if (*bytes == NULL) {
        return MC_RAISED;
    }
    status = receive_into(connection, PyBytes_AS_STRING(*bytes), most, &got, clock);
    if (status != MC_OK) {
        Py_CLEAR(*bytes);
        return status;
    }
    return _PyBytes_Resize(bytes, (Py_ssize_t)got) == 0 ? MC_OK : MC_RAISED;
}

mc_status mcx_tls_feed(mc_connection *connection, size_t most, mc_clock *clock)
{
    mcx_tls *tls = connection->handle;
    bool is_small = most <= SMALL && connection->transport->below->is_free;
    PyObject *bytes, *written;
    mc_status status;

    if (mc_connection_is_lost(connection)) { /* what ran before may have forked */
        return MC_CLOSED;
    }
    status = is_small ? receive_small(connection, most, &bytes, clock)
                      : receive(connection, most, &bytes, clock);
    if (status == MC_OK) {
        tls->fresh = (size_t)PyBytes_GET_SIZE(bytes);
        tls->whole += mc_records_take(&tls->records, PyBytes_AS_STRING(bytes), tls->fresh);
        written = PyObject_CallMethodOneArg(tls->incoming, tls->module->tls[MCX_TLS_WRITE], bytes);
        Py_DECREF(bytes);
        status = written != NULL ? MC_OK : mcx_tls_judge(connection); /* memory is out */
        Py_XDECREF(written);
    }
    return status;
}

mc_status mcx_tls_look(mc_connection *connection)
{
    mc_clock none = {.timeout = 0, .late = true};
    uint32_t overtime = connection->overtime;

    if (connection->socket != NULL && mcx_python_allow_overtime(connection, MCX_TLS_RECORD) < 0) {
        return MC_RAISED;
    }
    mc_status status = mcx_tls_feed(connection, MCX_TLS_RECORD, &none);

    connection->overtime = overtime;
    return status;
}

/* What is to be sent next, or NULL in tls->sending: nothing. */
static mc_status take_outgoing(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;
    PyObject *bytes = PyObject_CallMethodNoArgs(tls->outgoing, tls->module->tls[MCX_TLS_READ]);

    if (bytes == NULL) {
        return mcx_tls_judge(connection);
    }
    if (!PyBytes_Check(bytes)) {
        mc_status status = wrong_answer("read", bytes);

        Py_DECREF(bytes);
        return status;
    }
    tls->sent = 0;
    if (PyBytes_GET_SIZE(bytes) != 0) {
        tls->sending = bytes;
    }
    else {
        Py_DECREF(bytes);
    }
    return MC_OK;
}

mc_status mcx_tls_flush(mc_connection *connection, mc_clock *clock)
{
    const mc_transport *below = connection->transport->below;
    mcx_tls *tls = connection->handle;
    mc_status status = MC_OK;

    if (tls->sending == NULL) {
        status = take_outgoing(connection);
    }
    while (status == MC_OK && tls->sending != NULL) {
        struct iovec piece = {PyBytes_AS_STRING(tls->sending) + tls->sent,
                              (size_t)PyBytes_GET_SIZE(tls->sending) - tls->sent};
        size_t moved = 0;

        if (mc_connection_is_lost(connection)) { /* what ran before may have forked */
            return MC_CLOSED;
        }
        if (below->is_free) {
            Py_BEGIN_ALLOW_THREADS
            status = below->send(connection, &piece, 1, &moved, clock);
            Py_END_ALLOW_THREADS
        }
        else {
            status = below->send(connection, &piece, 1, &moved, clock);
        }
        tls->sent += moved;
        if (moved == piece.iov_len) {
            Py_CLEAR(tls->sending);
        }
    }
    return status;
}

/* ---- plaintext ------------------------------------------------------------------------------ */

static bool is_tls_1_3(mcx_tls *tls)
{
    PyObject *version = PyObject_CallMethod(tls->object, "version", NULL);
    bool is = version != NULL && PyUnicode_Check(version) &&
              PyUnicode_CompareWithASCIIString(version, "TLSv1.3") == 0;

    Py_XDECREF(version);
    return is;
}

/* The SSLObject has read all there is. What it has written meanwhile, the answer to a key update,
 * goes out before the next plaintext (RFC 8446, 4.6.3). Before TLS 1.3 it can only be a
 * renegotiation, which is refused: memcached begins none. */
static mc_status check_own_words(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;
    Py_ssize_t written = pending(tls, tls->outgoing);

    if (written == 0) {
        return MC_AGAIN;
    }
    bool is_1_3 = written > 0 && is_tls_1_3(tls);

    if (PyErr_Occurred()) {
        return MC_RAISED;
    }
    if (is_1_3 && (size_t)written <= MCX_TLS_STEP) {
        return MC_AGAIN;
    }
    return mcx_set_problem(connection, is_1_3 ? "the server asks for new keys without an end"
                                              : "the server asks for a renegotiation of TLS") < 0
               ? MC_NO_MEMORY
               : MC_FAILED;
}

/* Asks for no more than can have come since, so that the bytes are made in about their size. */
static PyObject *read_once(mcx_tls *tls, size_t *most)
{
    if (*most > MCX_TLS_RECORD) {
        *most = MCX_TLS_RECORD;
    }
    if (tls->fresh != 0 && *most > tls->fresh) {
        *most = tls->fresh;
    }
    tls->fresh = 0; /* what is read next may have come before */

    PyObject *size = PyLong_FromSize_t(*most);
    PyObject *read =
        size ? PyObject_CallMethodOneArg(tls->object, tls->module->tls[MCX_TLS_READ], size) : NULL;

    Py_XDECREF(size);
    return read;
}

mc_status mcx_tls_read(mc_connection *connection, size_t most, PyObject **bytes)
{
    mcx_tls *tls = connection->handle;

    if (tls->whole == 0) {
        return MC_AGAIN;
    }
    PyObject *read = read_once(tls, &most);
    mc_status status = MC_OK;

    if (read == NULL) {
        status = mcx_tls_judge(connection);
        if (status == MC_AGAIN) {
            tls->whole = 0;
            status = check_own_words(connection);
        }
        return status;
    }
    if (!PyBytes_Check(read) || (size_t)PyBytes_GET_SIZE(read) > most) {
        status = wrong_answer("read", read);
    }
    else if (PyBytes_GET_SIZE(read) == 0) {
        status = MC_CLOSED;
    }
    else if ((size_t)PyBytes_GET_SIZE(read) < most) {
        tls->whole--; /* to its end */
    }
    if (status != MC_OK) {
        Py_CLEAR(read);
    }
    *bytes = read;
    return status;
}

mc_status mcx_tls_write(mc_connection *connection, const char *at, size_t length, size_t *accepted)
{
    mcx_tls *tls = connection->handle;
    PyObject *bytes = mcx_copy_to_send(connection, at, Py_MIN(length, MCX_TLS_RECORD));
    PyObject *written =
        bytes ? PyObject_CallMethodOneArg(tls->object, tls->module->tls[MCX_TLS_WRITE], bytes)
              : NULL;
    mc_status status = written != NULL ? MC_OK : mcx_tls_judge(connection);

    mcx_drop_sent(connection, bytes);
    if (written == NULL) {
        return status;
    }
    Py_ssize_t count = PyLong_Check(written) ? PyLong_AsSsize_t(written) : -1;

    if (count <= 0 || (size_t)count > length) {
        PyErr_Clear();
        status = wrong_answer("write", written);
    }
    else {
        *accepted += (size_t)count;
    }
    Py_DECREF(written);
    return status;
}
