/* tls: the transport of TLS: a connection's plaintext through its TLS stream.
 *
 * With the GIL, which is released where bytes of a native socket are moved or waited for. */
#include "tls.h"

#include <string.h>

#include "core/net/clock.h"
#include "core/net/socket.h"

#include "python_socket.h"
#include "tls_connect.h"
#include "tls_stream.h"

/* What a look at an idle connection reads: tickets and key updates take less. */
#define LOOKS 8

/* ---- send ----------------------------------------------------------------------------------- */

/* Some of the pieces as ciphertext. No record has bytes of two pieces (leg.c, PIECE). */
static mc_status encrypt_pieces(mc_connection *connection, const struct iovec *pieces, int count)
{
    mcx_tls *tls = connection->handle;
    mc_status status = MC_OK;
    size_t before = 0; /* the bytes of the pieces that are encrypted whole */

    for (int i = 0; i < count && status == MC_OK && tls->accepted < MCX_TLS_STEP;) {
        size_t at = tls->accepted - before, left = pieces[i].iov_len - at;

        if (left == 0) {
            before += pieces[i++].iov_len;
            continue;
        }
        status =
            mcx_tls_write(connection, (const char *)pieces[i].iov_base + at, left, &tls->accepted);
    }
    return status;
}

/* A peer that closed before it read a command may have said why: it does so where it wants a
 * certificate that we do not have, of which a client of TLS 1.3 hears behind its handshake. */
static mc_status last_words(mc_connection *connection)
{
    PyObject *bytes = NULL;
    mc_status status = mcx_tls_look(connection);

    if (status == MC_OK) {
        status = mcx_tls_read(connection, 1, &bytes);
        Py_XDECREF(bytes);
    }
    return status == MC_FAILED                             ? MC_REFUSED
           : status == MC_RAISED || status == MC_NO_MEMORY ? status
                                                           : MC_CLOSED;
}

/* Bytes count as moved when their ciphertext has left: until then the caller comes again with the
 * same pieces. */
static mc_status tls_send(mc_connection *connection, struct iovec *pieces, int count, size_t *moved,
                          mc_clock *clock)
{
    mcx_tls *tls = connection->handle;
    mc_status status = MC_OK;

    if (tls->accepted == 0 && tls->sending == NULL) {
        status = encrypt_pieces(connection, pieces, count);
    }
    if (status != MC_OK && status != MC_AGAIN) {
        return status;
    }
    mc_status sent = mcx_tls_flush(connection, clock);

    if (sent == MC_CLOSED && tls->is_new) {
        sent = last_words(connection);
    }
    if (sent != MC_OK) {
        return sent;
    }
    *moved = tls->accepted;
    tls->accepted = 0;
    if (*moved != 0 || status == MC_OK) {
        return MC_OK;
    }
    /* The SSLObject has to hear something first, and has said what for. */
    status = mcx_tls_feed(connection, MCX_TLS_RECORD, clock);
    connection->more = status == MC_OK;
    return status;
}

/* ---- receive -------------------------------------------------------------------------------- */

/* A failure behind bytes that have been received is told by the next receive. */
static mc_status put_off(mc_connection *connection, mc_status status, size_t moved)
{
    if (status == MC_RAISED || status == MC_NO_MEMORY || moved == 0) {
        return status;
    }
    ((mcx_tls *)connection->handle)->ended = status;
    connection->more = true;
    return MC_OK;
}

/* Into one piece; *full: it is, and there may be more. */
static mc_status decrypt(mc_connection *connection, const struct iovec *piece, size_t *moved,
                         bool *full)
{
    for (size_t at = 0; at < piece->iov_len;) {
        PyObject *bytes = NULL;
        mc_status status = mcx_tls_read(connection, piece->iov_len - at, &bytes);

        if (status != MC_OK) {
            return status == MC_AGAIN ? MC_OK : put_off(connection, status, *moved);
        }
        size_t got = (size_t)PyBytes_GET_SIZE(bytes);

        memcpy((char *)piece->iov_base + at, PyBytes_AS_STRING(bytes), got);
        Py_DECREF(bytes);
        at += got;
        *moved += got;
    }
    *full = true;
    return MC_OK;
}

/* The first bytes show that the peer takes us, and tickets have come before them. */
static mc_status begin_reply(mc_connection *connection, mc_status status, size_t moved)
{
    mcx_tls *tls = connection->handle;

    if (status == MC_FAILED) {
        return MC_REFUSED;
    }
    if (status != MC_OK || moved == 0) {
        return status;
    }
    tls->is_new = false;
    return mcx_tls_keep_session(connection) < 0 ? MC_RAISED : MC_OK;
}

/* What has come, into the pieces. */
static mc_status take(mc_connection *connection, const struct iovec *pieces, int count,
                      size_t *moved)
{
    mcx_tls *tls = connection->handle;
    mc_status status = MC_OK;
    bool full = true;

    connection->more = false;
    for (int i = 0; i < count && status == MC_OK && full; i++) {
        full = false;
        status = decrypt(connection, &pieces[i], moved, &full);
    }
    if (status == MC_OK && full && tls->whole != 0) {
        int held = mcx_tls_holds(tls);

        connection->more = held > 0;
        status = held < 0 ? MC_RAISED : MC_OK;
    }
    return status;
}

static mc_status tls_receive(mc_connection *connection, struct iovec *pieces, int count,
                             size_t *moved, bool all, mc_clock *clock)
{
    mcx_tls *tls = connection->handle;
    size_t room = 0;
    mc_status status = tls->ended;

    (void)all; /* the caller comes again for the rest */
    for (int i = 0; i < count; i++) {
        room += pieces[i].iov_len;
    }
    if (status == MC_OK && !connection->more) {
        status =
            mcx_tls_feed(connection, room <= MCX_TLS_RECORD ? MCX_TLS_RECORD : MCX_TLS_STEP, clock);
    }
    if (status == MC_OK) {
        status = take(connection, pieces, count, moved);
    }
    return tls->is_new ? begin_reply(connection, status, *moved) : status;
}

/* ---- the rest ------------------------------------------------------------------------------- */

/* What stands in the socket of an idle connection may be TLS's own. An exception stays. */
static bool tls_is_quiet(mc_connection *connection)
{
    for (int looks = 0; looks < LOOKS; looks++) {
        PyObject *bytes = NULL;

        if (connection->transport->below->is_quiet(connection)) {
            return true;
        }
        if (mcx_tls_look(connection) != MC_OK || mcx_tls_read(connection, 1, &bytes) != MC_AGAIN) {
            Py_XDECREF(bytes);
            return false;
        }
    }
    return false;
}

/* Nothing is said: memcached does not wait for it, and in the child of a fork it would be the
 * parent's peer that hears it. */
static void tls_close(mc_connection *connection)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    mcx_tls_end_turn(connection);
    if (connection->fd >= 0 || connection->socket != NULL) {
        connection->transport->below->close(connection);
    }
    Py_DECREF((PyObject *)connection->handle);
    connection->handle = NULL;
    PyErr_Restore(type, value, traceback);
}

#define OVER(transport, can_be_polled)                                                             \
    {                                                                                              \
        .below = &(transport), .is_pollable = (can_be_polled), .connect = mcx_tls_connect,         \
        .send = tls_send, .receive = tls_receive, .is_quiet = tls_is_quiet, .close = tls_close     \
    }

static const mc_transport over_native = OVER(mc_native_transport, true);
static const mc_transport over_python = OVER(mcx_python_transport, false);

const mc_transport *mcx_tls_over(const mc_transport *below)
{
    return below == &mc_native_transport ? &over_native : &over_python;
}
