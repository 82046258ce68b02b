/* server_for: where a key of a Client belongs, and what mcext.pure asks of a placement. No server
 * is spoken to. */
#include "core/wire/key.h"

#include "arguments.h"
#include "call.h"
#include "choose.h"
#include "keys.h"
#include "methods.h"
#include "options.h"
#include "server.h"
#include "shared.h"
#include "state.h"
#include "support.h"
#include "watch.h"

/* Begins a call of any client, with its lists as they stand now, and its servers where they have to
 * be found. 0, or -1 with an exception. */
static int begin(mcx_call *call, PyObject *self)
{
    int taken = 0;

    if (mcx_call_begin_inner(call, self) < 0) {
        return -1;
    }
    bool is_watched = mcx_watch_is_due(call->shared);

    if (!is_watched && mcx_lists_are_current(call->snapshot)) {
        return 0;
    }
    if (is_watched) {
        taken = mcx_watch_ready(call->shared, self);
    }
    if (taken == 0) {
        taken = mcx_shared_take_lists(call->shared);
    }
    (void)mcx_call_end(call, NULL);
    return taken < 0 ? -1 : mcx_call_begin_inner(call, self);
}

/* What is tried for a key in place `number`, 0 for the first: a new reference, None where there is
 * none. */
static PyObject *find(mcx_call *call, const mcx_key *key, Py_ssize_t number)
{
    mcx_walk walk;
    size_t bucket = 0;
    int there = mcx_walk_first(call, key, &walk, &bucket);

    while (there > 0 && number-- > 0) {
        there = mcx_walk_next(call, &walk, &bucket);
    }
    mcx_walk_end(&walk);
    return there < 0 ? NULL : Py_NewRef(there > 0 ? call->snapshot->bucket[bucket] : Py_None);
}

static const mcx_signature server_for_signature = {
    .method = "server_for", .count = 1, .required = 1, .names = {"key"}};

static PyObject *client_server_for(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    PyObject *values[1], *host = NULL;
    mcx_call call;
    mcx_key key;

    if (mcx_bind(&server_for_signature, args, nargs, kwnames, values) < 0 ||
        begin(&call, self) < 0) {
        return NULL;
    }
    if (mcx_key_single(&call, values[0], &key) == 0) {
        host = find(&call, &key, 0);
        mcx_key_clear(&key);
    }
    if (host != NULL && host != Py_None) {
        Py_SETREF(host, mcx_is_server(call.module, host) ? mcx_server_written((mcx_server *)host)
                                                         : PyObject_Str(host));
    }
    return mcx_call_end(&call, host);
}

PyMethodDef mcx_server_for_methods[] = {
    MCX_DEF(
        "server_for", client_server_for,
        "server_for($self, key)\n--\n\n"
        "The address, as it was written, of the server that key belongs to, dead or not: by the\n"
        "option placement. No server is asked.\n\n"
        "Returns None where there are no servers. Raises Client.MemcachedKeyError or TypeError\n"
        "for a wrong key."),
    {NULL, NULL, 0, NULL},
};

/* ---- for the way in Python ------------------------------------------------------------------ */

/* _placing(client): (the placement or None, on_dead). */
static PyObject *module_placing(PyObject *self, PyObject *client)
{
    mcx_module *module = mcx_module_of(client);
    mcx_shared *shared = module ? mcx_shared_of(module, client) : NULL;
    PyObject *placement, *on_dead;

    (void)self;
    if (module == NULL) {
        PyErr_SetString(PyExc_TypeError, "a Client is needed");
    }
    if (shared == NULL) {
        return NULL;
    }
    mcx_snapshot *snapshot = mcx_shared_enter(shared);

    placement = snapshot->options[MCX_OPT_PLACEMENT];
    placement = Py_NewRef(placement != NULL ? placement : Py_None);
    on_dead = mcx_option_value(module, snapshot, MCX_OPT_ON_DEAD);
    mcx_shared_leave(snapshot);
    if (on_dead == NULL) {
        Py_DECREF(placement);
        return NULL;
    }
    return Py_BuildValue("(NN)", placement, on_dead);
}

/* _candidate(client, key, number): key as _get_server takes it. */
static PyObject *module_candidate(PyObject *self, PyObject *args)
{
    PyObject *client, *object, *text, *host = NULL;
    Py_ssize_t number;
    Py_buffer view;
    mcx_call call;

    (void)self;
    if (!PyArg_ParseTuple(args, "OOn:_candidate", &client, &object, &number)) {
        return NULL;
    }
    bool is_pair = PyTuple_Check(object) && PyTuple_GET_SIZE(object) == 2;
    mcx_key key = {.hash = is_pair ? PyTuple_GET_ITEM(object, 0) : NULL}; /* args keep it */

    text = is_pair ? PyTuple_GET_ITEM(object, 1) : object;
    text = PyUnicode_Check(text) ? PyUnicode_AsUTF8String(text) : Py_NewRef(text);
    if (text != NULL && PyObject_GetBuffer(text, &view, PyBUF_SIMPLE) == 0) {
        key.text = (mc_slice){view.buf, (size_t)view.len};
        if (mcx_module_of(client) == NULL) {
            PyErr_SetString(PyExc_TypeError, "a Client is needed");
        }
        else if (begin(&call, client) == 0) {
            host = mcx_call_end(&call, find(&call, &key, number));
        }
        PyBuffer_Release(&view);
    }
    Py_XDECREF(text);
    return host;
}

PyMethodDef mcx_placing_functions[] = {
    {"_placing", module_placing, METH_O,
     "_placing($module, client, /)\n--\n\n"
     "(the placement, None where it is python-memcached's; on_dead as it is in force)."},
    {"_candidate", module_candidate, METH_VARARGS,
     "_candidate($module, client, key, number, /)\n--\n\n"
     "The server that is tried for key in that place, 0 for the first; None: none is."},
    {NULL, NULL, 0, NULL},
};
