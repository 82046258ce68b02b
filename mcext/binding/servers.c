/* servers: the methods that speak to servers rather than about a key: statistics, flush. */
#include <string.h>

#include "core/flow/leg.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "arguments.h"
#include "ask.h"
#include "call.h"
#include "drive.h"
#include "log.h"
#include "methods.h"
#include "pure.h"
#include "server.h"
#include "target.h"
#include "values.h"

/* ---- statistics ----------------------------------------------------------------------------- */

enum {
    SHAPE_STATS,
    SHAPE_SLAB_STATS,
    SHAPE_SLABS
};

static PyObject *text_of(mc_slice slice)
{
    return PyUnicode_DecodeUTF8(slice.bytes, (Py_ssize_t)slice.length, "replace");
}

/* dict[name][field] = value */
static int set_nested(PyObject *dict, PyObject *name, PyObject *field, PyObject *value)
{
    PyObject *inner = NULL;
    int result = -1;

    if (name == NULL || field == NULL || value == NULL) {
        return -1;
    }
    if (PyDict_GetItemRef(dict, name, &inner) < 0) {
        return -1;
    }
    if (inner == NULL || !PyDict_Check(inner)) {
        Py_XSETREF(inner, PyDict_New());
        if (inner == NULL || PyDict_SetItem(dict, name, inner) < 0) {
            goto done;
        }
    }
    result = PyDict_SetItem(inner, field, value);
done:
    Py_XDECREF(inner);
    return result;
}

static bool starts_with(mc_slice text, const char *prefix)
{
    return text.length >= strlen(prefix) && memcmp(text.bytes, prefix, strlen(prefix)) == 0;
}

/* One row of a listing into the dict, in python-memcached's shape for that method. */
static int add_row(PyObject *dict, const mc_reply *reply, int shape)
{
    mc_slice name = reply->key;
    PyObject *value = text_of(reply->text);
    PyObject *outer = NULL, *field = NULL;
    int result = -1;

    if (value == NULL) {
        return -1;
    }
    if (shape == SHAPE_SLABS) { /* items:1:number */
        const char *colon = memchr(name.bytes, ':', name.length);

        if (colon != NULL) {
            name.length -= (size_t)(colon + 1 - name.bytes);
            name.bytes = colon + 1;
        }
    }
    const char *colon = name.length ? memchr(name.bytes, ':', name.length) : NULL;
    if (shape == SHAPE_STATS || colon == NULL || starts_with(name, "active_slabs") ||
        starts_with(name, "total_malloced")) {
        field = text_of(name);
        result = field ? PyDict_SetItem(dict, field, value) : -1;
    }
    else {
        mc_slice number = {name.bytes, (size_t)(colon - name.bytes)};
        mc_slice rest = {colon + 1, name.length - number.length - 1};

        outer = text_of(number);
        field = text_of(rest);
        result = set_nested(dict, outer, field, value);
    }
    Py_XDECREF(outer);
    Py_XDECREF(field);
    Py_DECREF(value);
    return result;
}

/* The statistics of one connected host: a dict, or NULL without an exception where it failed. */
static PyObject *list_host(mcx_call *call, mcx_target *target, mc_slice argument, int shape)
{
    static const mc_slice none = {NULL, 0};
    PyObject *dict = PyDict_New();
    mc_leg leg;
    mc_leg_step step;

    if (dict == NULL) {
        mcx_target_end(call, target, false);
        return NULL;
    }
    mc_leg_init(&leg, MC_STATS, NULL, 1);
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    while ((step = mcx_drive(call, target, &leg)) != MC_LEG_OVER) {
        if (step == MC_LEG_PRODUCE && !(mc_leg_line(&leg, none, argument) && mc_leg_ready(&leg))) {
            mc_leg_fail(&leg, MC_NO_MEMORY);
        }
        else if (step == MC_LEG_REPLY && !mc_reply_is_error(leg.exchange.reply.type) &&
                 add_row(dict, &leg.exchange.reply, shape) < 0) {
            mc_leg_fail(&leg, MC_RAISED);
        }
    }
    if (mcx_conclude(call, target, &leg, false) <= 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

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
            dict = list_host(call, &target, argument, shape);
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

/* The argument of stats: text without anything that ends or hides a line. */
static int stats_argument(PyObject *object, mc_slice *argument)
{
    Py_ssize_t length;

    *argument = (mc_slice){NULL, 0};
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "stat_args must be a str, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    argument->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (argument->bytes == NULL) {
        return -1;
    }
    argument->length = (size_t)length;
    for (size_t i = 0; i < argument->length; i++) {
        unsigned char byte = (unsigned char)argument->bytes[i];

        if (byte < 0x20 || byte == 0x7f) {
            PyErr_Format(PyExc_ValueError, "stat_args must not hold control characters: %R",
                         object);
            return -1;
        }
    }
    return 0;
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
        stats_argument(values[0], &argument) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_stats, args, nargs, kwnames);
    }
    return mcx_call_end(&call, list_all(&call, argument, SHAPE_STATS));
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
    return mcx_call_end(&call, list_all(&call, (mc_slice){"slabs", 5}, SHAPE_SLAB_STATS));
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
    return mcx_call_end(&call, list_all(&call, (mc_slice){"items", 5}, SHAPE_SLABS));
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
