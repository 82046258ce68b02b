/* server: what calls and streams need of a server: its connections opened, and the idle ones
 * closed; its dead mark, its stamp, its name in get_stats. */
#include "server.h"

#include <sys/uio.h>

#include "core/fleet/server.h"
#include "core/net/clock.h"
#include "core/net/connection.h"
#include "core/net/process.h"

#include "compat.h"
#include "log.h"
#include "python_socket.h"
#include "state.h"

PyObject *mcx_server_weight(mcx_server *host)
{
    PyObject *weight;

    Py_BEGIN_CRITICAL_SECTION(host);
    weight = Py_XNewRef(host->weight);
    Py_END_CRITICAL_SECTION();
    return weight;
}

PyObject *mcx_server_written(mcx_server *host)
{
    return host->written != NULL ? Py_NewRef(host->written) : PyObject_Str((PyObject *)host);
}

PyObject *mcx_server_stats_name(mcx_server *host)
{
    PyObject *weight = mcx_server_weight(host), *name;

    if (weight == NULL) {
        PyErr_SetString(PyExc_AttributeError, "weight");
        return NULL;
    }
    switch (host->server.family) {
    case MC_FAMILY_UNIX:
        name = PyUnicode_FromFormat("unix:%U (%S)", host->address, weight);
        break;
    case MC_FAMILY_INET6:
        name = PyUnicode_FromFormat("[%U]:%S (%S)", host->ip, host->port, weight);
        break;
    default:
        name = PyUnicode_FromFormat("%U:%S (%S)", host->ip, host->port, weight);
        break;
    }
    Py_DECREF(weight);
    return name;
}

uint64_t mcx_server_stamp(mcx_server *host)
{
    uint64_t epoch = host->initialised ? atomic_load(&host->server.pool.epoch) : 0;

    return (uint64_t)mc_process_generation() << 32 | epoch;
}

/* "quit" has no reply; the close that follows says the same. */
static void say_quit(mcx_server *host, mc_connection *connection)
{
    char command[] = "quit\r\n";
    struct iovec piece = {command, sizeof command - 1};
    mc_clock clock = {.timeout = 0, .late = true};
    size_t moved;

    if (!connection->transport->is_pollable) {
        /* A Python socket asks for some time, and takes none: nothing waits to be sent before. */
        int64_t timeout = atomic_load(&host->timeout);

        mc_clock_start(&clock, timeout, timeout);
    }
    if (mc_connection_send(connection, &piece, 1, &moved, &clock) == MC_RAISED) {
        PyErr_WriteUnraisable((PyObject *)host);
    }
}

COLD void mcx_server_close_idle(mcx_server *host, bool quit)
{
    mc_connection *connection;

    while ((connection = mc_pool_take_old(&host->server.pool, mcx_thread_number())) != NULL) {
        if (quit) {
            say_quit(host, connection);
        }
        mc_pool_give(connection, false, 0);
    }
}

int mcx_server_mark_dead(mcx_server *host, PyObject *reason)
{
    PyObject *name = PyObject_Str((PyObject *)host);
    int64_t now;
    int result = -1;

    if (name != NULL && mcx_wall_clock(host->module, &now) == 0) {
        result = mcx_server_debuglog(host, "MemCache: %U: %S.  Marking dead.", name, reason);
        if (atomic_load(&host->does_flush)) {
            atomic_store(&host->server.flush_on_connect, 1);
        }
        int64_t retry = atomic_load(&host->dead_retry_us);

        if (retry > 0) {
            mc_server_mark_dead(&host->server, now + retry);
            mcx_server_close_idle(host, false);
        }
        else {
            mc_server_mark_alive(&host->server); /* dead for no time: the next call tries it */
        }
    }
    Py_XDECREF(name);
    return result;
}

/* As far as the connect goes without what the caller has to see to. */
static mc_status connect_on(mc_connection *connection, mc_connecting *state, const mc_endpoint *to,
                            mc_clock *clock)
{
    mc_status status;

    if (LIKELY(connection->transport->is_free)) {
        Py_BEGIN_ALLOW_THREADS
        status = mc_connection_connect(connection, state, to, clock);
        Py_END_ALLOW_THREADS
        return status;
    }
    status = mc_connection_connect_step(connection, state, to, clock);
    if (status == MC_AGAIN) {
        Py_BEGIN_ALLOW_THREADS
        status = mc_connecting_wait(connection, state);
        Py_END_ALLOW_THREADS
        status = status == MC_OK ? MC_AGAIN : status;
    }
    return status;
}

mc_status mcx_server_open(mcx_server *host, mc_connection *connection, mc_clock *clock)
{
    mc_connecting state = MC_CONNECTING_INIT;
    const mc_endpoint to = {host->server.family, host->server.host, host->server.port};
    uint32_t generation = mc_process_generation();
    mc_status status;

    do {
        status = connect_on(connection, &state, &to, clock);
        if (status == MC_INTERRUPTED && PyErr_CheckSignals() < 0) {
            status = MC_RAISED;
        }
        if (UNLIKELY(generation != mc_process_generation())) {
            /* A signal handler, or the socket's own connect, forked: in this process, the child,
             * the stream is the parent's, however far it has come. */
            generation = mc_process_generation();
            mc_connecting_fini(&state);
            mc_connection_shut(connection);
            status = status == MC_RAISED ? status : MC_INTERRUPTED;
        }
    } while (status == MC_INTERRUPTED || status == MC_AGAIN);
    mc_connecting_fini(&state);
    return status;
}
