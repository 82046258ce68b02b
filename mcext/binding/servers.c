/* servers: the methods that speak to servers rather than about a key: statistics, flush. */
#include "core/wire/key.h"

#include "arguments.h"
#include "ask.h"
#include "call.h"
#include "listing.h"
#include "log.h"
#include "methods.h"
#include "pure.h"
#include "server.h"
#include "target.h"
#include "values.h"

/* ---- statistics ----------------------------------------------------------------------------- */

static PyObject *list_all(mcx_call *call, mc_slice argument, int shape)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; list != NULL && i < call->snapshot->server_count; i++) {
        mcx_server *host = (mcx_server *)call->snapshot->server[i];
        PyObject *name = NULL, *dict = NULL, *row = NULL;
        mcx_target target;
        int there = mcx_connect_host(call, host, &target);

        if (there == 0) {
            continue;
        }
        if (there > 0) {
            dict = mcx_list_host(call, &target, argument, shape);
            if (dict == NULL && !PyErr_Occurred()) {
                continue;
            }
        }
        name = dict ? mcx_server_stats_name(host) : NULL;
        row = name ? PyTuple_Pack(2, name, dict) : NULL;
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
        Py_XDECREF(name);
        Py_XDECREF(dict);
    }
    return list;
}

static const mcx_signature get_stats_signature = {
    .method = "get_stats", .count = 1, .required = 0, .names = {"stat_args"}};

static PyObject *client_get_stats(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    PyObject *values[1];
    mc_slice argument;
    mcx_call call;

    if (mcx_bind(&get_stats_signature, args, nargs, kwnames, values) < 0 ||
        mcx_stats_argument(values[0], "stat_args", &argument) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_stats, args, nargs, kwnames);
    }
    return mcx_call_end(&call, list_all(&call, argument, MCX_SHAPE_STATS));
}

static const mcx_signature get_slab_stats_signature = {.method = "get_slab_stats"};

static PyObject *client_get_slab_stats(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *kwnames)
{
    mcx_call call;

    if (mcx_bind(&get_slab_stats_signature, args, nargs, kwnames, NULL) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_slab_stats, args, nargs, kwnames);
    }
    return mcx_call_end(&call, list_all(&call, (mc_slice){"slabs", 5}, MCX_SHAPE_SLAB_STATS));
}

static const mcx_signature get_slabs_signature = {.method = "get_slabs"};

static PyObject *client_get_slabs(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    mcx_call call;

    if (mcx_bind(&get_slabs_signature, args, nargs, kwnames, NULL) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_slabs, args, nargs, kwnames);
    }
    return mcx_call_end(&call, list_all(&call, (mc_slice){"items", 5}, MCX_SHAPE_SLABS));
}

/* ---- flush ---------------------------------------------------------------------------------- */

static int flush_host(mcx_call *call, mcx_server *host)
{
    mcx_request request = {.command = MC_FLUSH_ALL};
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    int there = mcx_connect_host(call, host, &target);

    if (there <= 0) {
        return there;
    }
    there = mcx_ask(call, &target, &request, &answer);
    if (there > 0 && answer.type != MC_REPLY_OK) {
        there = mcx_debuglog_line(host, "while expecting 'OK', got unexpected response %R",
                                  mcx_bytes_of(answer.line));
    }
    Py_XDECREF(answer.line);
    return there < 0 ? -1 : 0;
}

static const mcx_signature flush_all_signature = {.method = "flush_all"};

static PyObject *client_flush_all(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    mcx_call call;
    int result = 0;

    if (mcx_bind(&flush_all_signature, args, nargs, kwnames, NULL) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_flush_all, args, nargs, kwnames);
    }
    for (size_t i = 0; result == 0 && i < call.snapshot->server_count; i++) {
        result = flush_host(&call, (mcx_server *)call.snapshot->server[i]);
    }
    return mcx_call_end(&call, result < 0 ? NULL : Py_NewRef(Py_None));
}

PyMethodDef mcx_server_methods[] = {
    MCX_DEF(
        "get_stats", client_get_stats,
        "get_stats($self, stat_args=None)\n--\n\n"
        "Fetch the statistics of every server that answers (protocol.txt, \"Statistics\").\n\n"
        "stat_args: what follows \"stats \", such as \"slabs\" or \"cachedump 1 10\".\n\n"
        "Returns a list of (\"host:port (weight)\", {str: str}), without the servers that failed.\n"
        "Raises TypeError or ValueError for a wrong stat_args, before anything is sent."),
    MCX_DEF(
        "get_slab_stats", client_get_slab_stats,
        "get_slab_stats($self)\n--\n\n"
        "Fetch \"stats slabs\" of every server (protocol.txt, \"Slab statistics\").\n\n"
        "Returns a list of (\"host:port (weight)\", {slab: {str: str}, ...}), without the servers\n"
        "that failed."),
    MCX_DEF(
        "get_slabs", client_get_slabs,
        "get_slabs($self)\n--\n\n"
        "Fetch \"stats items\" of every server (protocol.txt, \"Item statistics\").\n\n"
        "Returns a list of (\"host:port (weight)\", {slab: {str: str}}), without the servers that\n"
        "failed."),
    MCX_DEF("flush_all", client_flush_all,
            "flush_all($self)\n--\n\n"
            "Expire all data in the servers that can be reached (protocol.txt, \"flush_all\").\n\n"
            "Returns None, also where a server failed."),
    {NULL, NULL, 0, NULL},
};
