#include "tls_connect.h"

#include "core/fleet/gate.h"
#include "core/net/clock.h"
#include "core/net/process.h"
#include "core/net/socket.h"

#include "log.h"
#include "python_socket.h"
#include "server.h"
#include "tls_stream.h"

/* Handshakes with one server at once: each takes a millisecond of it that its other clients wait
 * for. */
#define AT_ONCE 4

/* SSLObject.session of CPython 3.10 to 3.13 loses six kilobytes each time: it is asked for behind
 * handshakes that were not shortened, of which a server that shortens any has few. */
#define KEPT_AT_MOST 8

/* Before a connect that waits for its turn looks again. */
#define PAUSE (MC_SECOND / 500)

/* What a step of the handshake receives at most: a flight of the server's, with its certificates.
 */
#define FLIGHT ((size_t)8192)

/* ---- options and sessions ------------------------------------------------------------------- */

/* What connections to the server are wrapped with: *context and *name are new references, and
 * *session is one or NULL. False where they are to be plain. */
static bool find_options(mcx_server *host, PyObject **context, PyObject **name, PyObject **session)
{
    Py_BEGIN_CRITICAL_SECTION(host);
    *context = Py_XNewRef(host->tls_context);
    *name = Py_XNewRef(host->tls_server_hostname != NULL ? host->tls_server_hostname : host->ip);
    *session = Py_XNewRef(host->tls_session);
    Py_END_CRITICAL_SECTION();
    if (*context != NULL && *name != NULL) {
        return true;
    }
    Py_CLEAR(*context);
    Py_CLEAR(*name);
    Py_CLEAR(*session);
    return false;
}

/* What is kept of a stream that may be of another context, if it is from before a disconnect. */
static bool is_current(const mc_connection *connection)
{
    return connection->epoch == atomic_load(&connection->pool->epoch);
}

/* Steals session, which may be NULL. */
static void put_session(mc_connection *connection, PyObject *session)
{
    mcx_server *host = mcx_server_of(connection);

    Py_BEGIN_CRITICAL_SECTION(host);
    if (is_current(connection)) {
        PyObject *old = host->tls_session;

        host->tls_session = session;
        session = old;
    }
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(session);
}

/* Whether this stream's session is worth asking for: where the one that there was did not shorten
 * its handshake, and nobody has kept another one since, but not for ever from a server that never
 * shortens one. */
static bool wants_session(mc_connection *connection, bool was_shortened)
{
    mcx_server *host = mcx_server_of(connection);
    bool wants = false;

    Py_BEGIN_CRITICAL_SECTION(host);
    if (was_shortened) {
        host->tls_kept = 0;
    }
    else if (host->tls_session == ((mcx_tls *)connection->handle)->offered &&
             is_current(connection) && host->tls_kept < KEPT_AT_MOST) {
        host->tls_kept++;
        wants = true;
    }
    Py_END_CRITICAL_SECTION();
    return wants;
}

/* An attribute of the SSLObject: a new reference. NULL where a context of another kind has none, or
 * with an exception. */
static PyObject *attribute(mcx_tls *tls, const char *name)
{
    PyObject *value = PyObject_GetAttrString(tls->object, name);

    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return value;
}

int mcx_tls_keep_session(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;
    PyObject *reused = attribute(tls, "session_reused"), *session;
    int was_shortened = reused ? PyObject_IsTrue(reused) : 0;

    Py_XDECREF(reused);
    if (was_shortened < 0 || PyErr_Occurred()) {
        return -1;
    }
    if (wants_session(connection, was_shortened)) {
        session = attribute(tls, "session");
        if (session != NULL && session != Py_None) {
            put_session(connection, session);
        }
        else {
            Py_XDECREF(session);
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- a turn --------------------------------------------------------------------------------- */

static bool has_turn(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;

    if (tls->entered == 0 &&
        mc_gate_enter(&mcx_server_of(connection)->server.handshakes, AT_ONCE)) {
        tls->entered = mc_process_generation();
    }
    return tls->entered != 0;
}

/* MC_OK: it is this connect's. */
static mc_status wait_for_turn(mc_connection *connection, mc_connecting *state, mc_clock *clock)
{
    if (has_turn(connection)) {
        return MC_OK;
    }
    mc_connecting_spend(state, clock);
    int64_t left = mc_clock_connect_left(clock);

    state->wait_fd = -1;
    state->wait_until = state->since + (left < PAUSE ? left : PAUSE);
    return left == 0 ? MC_CROWDED : MC_AGAIN;
}

/* The same over a Python socket, which is connected before: a receive on it waits as its class
 * does, so that other greenlets run, and a server of TLS that has heard nothing says nothing. A
 * greenlet that ends with its thread may never leave: who has waited for half of its time goes in
 * without a turn, and so does one whose receives cannot end. */
static mc_status wait_on_socket(mc_connection *connection, mc_connecting *state, mc_clock *clock)
{
    int64_t least = mc_clock_connect_left(clock) / 2;
    mc_status status = MC_TIMEOUT;

    while (status == MC_TIMEOUT && !has_turn(connection) && mc_clock_connect_left(clock) > least) {
        int has_timeout = mcx_python_has_timeout(connection);

        if (has_timeout <= 0) {
            return has_timeout < 0 ? MC_RAISED : MC_OK;
        }
        mc_clock pause;

        mc_clock_start(&pause, PAUSE, PAUSE);
        status = mcx_tls_feed(connection, FLIGHT, &pause);
        mc_connecting_spend(state, clock);
    }
    return status == MC_TIMEOUT ? MC_OK : status;
}

void mcx_tls_end_turn(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;

    if (tls->entered != 0) {
        mc_gate_leave(&mcx_server_of(connection)->server.handshakes, tls->entered);
        tls->entered = 0;
    }
}

/* ---- the handshake -------------------------------------------------------------------------- */

static PyObject *call_wrap(mcx_tls *tls, PyObject *context, PyObject *name, PyObject *session)
{
    PyObject *wrap = PyObject_GetAttrString(context, "wrap_bio");
    PyObject *bios = wrap ? PyTuple_Pack(2, tls->incoming, tls->outgoing) : NULL;
    PyObject *options = bios == NULL ? NULL
                        : session != NULL
                            ? Py_BuildValue("{sOsO}", "server_hostname", name, "session", session)
                            : Py_BuildValue("{sO}", "server_hostname", name);
    PyObject *object = options ? PyObject_Call(wrap, bios, options) : NULL;

    Py_XDECREF(wrap);
    Py_XDECREF(bios);
    Py_XDECREF(options);
    return object;
}

static mc_status wrap(mc_connection *connection)
{
    mcx_tls *tls = connection->handle;
    PyObject *context, *name, *session;

    if (!find_options(mcx_server_of(connection), &context, &name, &session)) {
        return mcx_set_problem(connection, "tls_context was taken away") < 0 ? MC_NO_MEMORY
                                                                             : MC_FAILED;
    }
    tls->object = call_wrap(tls, context, name, session);
    if (tls->object == NULL && session != NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear(); /* what stands behind the context is another one now */
        tls->object = call_wrap(tls, context, name, NULL);
    }
    tls->offered = session;
    Py_DECREF(context);
    Py_DECREF(name);
    return tls->object != NULL ? MC_OK : mcx_tls_judge(connection);
}

/* The socket under the stream. */
static mc_status connect_socket(mc_connection *connection, mc_connecting *state,
                                const mc_endpoint *to, mc_clock *clock)
{
    const mc_transport *below = connection->transport->below;
    mc_status status;

    if (below->is_free) {
        Py_BEGIN_ALLOW_THREADS
        status = below->connect(connection, state, to, clock);
        Py_END_ALLOW_THREADS
    }
    else {
        status = below->connect(connection, state, to, clock);
        status = status == MC_OK ? wait_on_socket(connection, state, clock) : status;
    }
    return status == MC_OK ? wrap(connection) : status;
}

/* What ended in moved has to wait, where that can be polled for. */
static mc_status wait_to(bool read, mc_status moved, mc_connection *connection,
                         mc_connecting *state, mc_clock *clock)
{
    int64_t left = mc_clock_connect_left(clock);

    if (moved != MC_TIMEOUT || !connection->transport->is_pollable) {
        return moved;
    }
    state->wait_fd = connection->fd;
    state->wait_to_read = read;
    state->wait_until = left == INT64_MAX ? INT64_MAX : state->since + left;
    return MC_AGAIN;
}

/* The time of a step: none, or where it cannot be polled for all that the connect has. */
static mc_clock clock_of_step(const mc_connection *connection, int64_t left)
{
    mc_clock step;

    left = connection->transport->is_pollable ? 0 : left == INT64_MAX ? MC_NO_TIMEOUT : left;
    mc_clock_start(&step, left, left);
    step.late = true;
    return step;
}

/* As far as the handshake goes without waiting for what can be polled for. What it has to say when
 * it fails is sent, too. */
static mc_status shake(mc_connection *connection, mc_connecting *state, mc_clock *clock)
{
    mcx_tls *tls = connection->handle;

    for (;;) {
        mc_connecting_spend(state, clock);
        int64_t left = mc_clock_connect_left(clock);
        mc_clock step = clock_of_step(connection, left);

        if (left == 0) {
            return MC_TIMEOUT;
        }
        PyObject *done = PyObject_CallMethod(tls->object, "do_handshake", NULL);
        mc_status status = done ? MC_OK : mcx_tls_judge(connection);

        Py_XDECREF(done);
        if (status == MC_RAISED || status == MC_NO_MEMORY) {
            return status;
        }
        mc_status moved = mcx_tls_flush(connection, &step);

        if (status == MC_FAILED) {
            return moved == MC_RAISED ? moved : status;
        }
        if (moved != MC_OK) {
            return wait_to(false, moved, connection, state, clock);
        }
        if (status == MC_OK) {
            return MC_OK;
        }
        moved = mcx_tls_feed(connection, FLIGHT, &step);
        if (moved != MC_OK) {
            return wait_to(true, moved, connection, state, clock);
        }
    }
}

/* ---- connect -------------------------------------------------------------------------------- */

static bool begin(mc_connection *connection)
{
    connection->handle = mcx_tls_new(mcx_server_of(connection)->module);
    if (connection->handle == NULL) {
        return false;
    }
    connection->fd = -1;
    connection->in_records = true;
    connection->generation = mc_process_generation();
    connection->open = true; /* closing it gives up what there is so far */
    return true;
}

mc_status mcx_tls_connect(mc_connection *connection, mc_connecting *state, const mc_endpoint *to,
                          mc_clock *clock)
{
    mc_status status = MC_OK;

    if (connection->handle == NULL && !begin(connection)) {
        return MC_RAISED;
    }
    mcx_tls *tls = connection->handle;

    if (connection->transport->is_pollable) {
        status = wait_for_turn(connection, state, clock);
    }
    if (status == MC_OK && tls->object == NULL) {
        status = connect_socket(connection, state, to, clock);
    }
    if (status == MC_OK) {
        status = shake(connection, state, clock);
    }
    if (status == MC_AGAIN || status == MC_INTERRUPTED) {
        return status;
    }
    mc_connecting_spend(state, clock);
    if (status == MC_TIMEOUT && tls->object != NULL && tls->entered == 0) {
        status = MC_CROWDED;
    }
    mcx_tls_end_turn(connection);
    if (status == MC_CLOSED) {
        status = mcx_set_problem(connection, "the server closed in the TLS handshake") < 0
                     ? MC_NO_MEMORY
                     : MC_FAILED;
    }
    return status;
}
