/* pure: methods of Client whose work is done in Python: mcext.pure.client has a function for each.
 *
 * That is imported at the first use. */
#include "pure.h"

#include "compat.h"
#include "methods.h"
#include "options.h"
#include "shared.h"
#include "state.h"

static const char *const names[MCX_PURE_COUNT] = {
#define X(name) #name,
    MCX_PURE_METHODS(X)
#undef X
};

/* Borrowed: the module keeps it. */
static PyObject *find(mcx_module *module, int method)
{
    PyObject **slot = &module->pure[method];
    PyObject *found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    PyObject *imported;

    if (LIKELY(found != NULL)) {
        return found;
    }
    imported = mcx_import("mcext.pure.client", names[method]);
    if (imported == NULL || __atomic_compare_exchange_n(slot, &found, imported, false,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return imported;
    }
    Py_DECREF(imported); /* another thread was first */
    return found;
}

COLD PyObject *mcx_pure(PyObject *self, int method, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    enum {
        AT_MOST = 24
    }; /* no method has more parameters; who gives more is told */
    Py_ssize_t count = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *all[AT_MOST + 1] = {self};
    PyObject *function;
    mcx_module *module = mcx_module_of(self);

    if (module == NULL) {
        PyErr_SetString(PyExc_TypeError, "not a Client");
        return NULL;
    }
    if (mcx_shared_of(module, self) == NULL) {
        return NULL;
    }
    function = find(module, method);
    if (function == NULL) {
        return NULL;
    }
    if (count > AT_MOST) {
        PyErr_Format(PyExc_TypeError, "%s() takes fewer than %zd arguments", names[method], count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    return PyObject_Vectorcall(function, all, (size_t)nargs + 1, kwnames);
}

#define PURE_METHOD(name)                                                                          \
    static PyObject *client_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs,        \
                                   PyObject *kwnames)                                              \
    {                                                                                              \
        return mcx_pure(self, MCX_PURE_##name, args, nargs, kwnames);                              \
    }

PURE_METHOD(set_servers)
PURE_METHOD(refresh_servers)
PURE_METHOD(_init_buckets)
PURE_METHOD(disconnect_all)
PURE_METHOD(quit_all)
PURE_METHOD(forget_dead_hosts)
PURE_METHOD(_get_server)
PURE_METHOD(_get)
PURE_METHOD(_set)
PURE_METHOD(_deletetouch)
PURE_METHOD(_incrdecr)
PURE_METHOD(_recv_value)
PURE_METHOD(_expectvalue)
PURE_METHOD(_expect_cas_value)
PURE_METHOD(_encode_cmd)
PURE_METHOD(_map_and_prefix_keys)

PyMethodDef mcx_pure_methods[] = {
    MCX_DEF("quit_all", client_quit_all,
            "quit_all($self)\n--\n\n"
            "Send \"quit\" on all idle connections and close them; those in use by other threads\n"
            "are closed when their calls end. The next call connects anew.\n\n"
            "Returns None, also where a server failed."),
    MCX_DEF("disconnect_all", client_disconnect_all,
            "disconnect_all($self)\n--\n\n"
            "Close all connections: the idle ones now, those in use by other threads when their\n"
            "calls end. The next call connects anew; no dead mark is cleared.\n\n"
            "Returns None."),
    MCX_DEF("forget_dead_hosts", client_forget_dead_hosts,
            "forget_dead_hosts($self)\n--\n\nTake every server as alive.\n\nReturns None."),
    MCX_DEF(
        "set_servers", client_set_servers,
        "set_servers($self, servers)\n--\n\n"
        "Set the servers, for all threads: an iterable of \"host:port\", \"[ipv6]:port\",\n"
        "\"unix:/path\", (server, weight) or mcext.Server, or a single str. Hosts at the same\n"
        "address stay, with their connections and dead marks; a call under way ends where it\n"
        "began.\n\n"
        "Returns None. Raises TypeError or ValueError for what is no server, or cannot be placed\n"
        "by the option placement; then nothing has changed."),
    MCX_DEF(
        "refresh_servers", client_refresh_servers,
        "refresh_servers($self)\n--\n\n"
        "Ask now which servers there are, where they are found by asking (\"elasticache://...\",\n"
        "\"dns+...\"), for connect_timeout at most; else do nothing.\n\n"
        "Returns None, also where nobody answered; then the servers stay as they are, and there\n"
        "is a debug line."),
    MCX_DEF("_init_buckets", client__init_buckets,
            "_init_buckets($self)\n--\n\n"
            "Make buckets from servers, as that list stands now: each as often as its weight."),
    MCX_DEF("_get_server", client__get_server,
            "_get_server($self, key)\n--\n\n"
            "Choose and connect the server for key, bytes or (hash, bytes).\n\n"
            "Returns (server, key), or (None, None) where none could be reached."),
    MCX_DEF("_get", client__get,
            "_get($self, cmd, key, default=None)\n--\n\nget and gets, behind key_encoder."),
    MCX_DEF("_set", client__set,
            "_set($self, cmd, key, val, time, min_compress_len=0, noreply=False)\n--\n\n"
            "set, add, replace, append, prepend and cas, behind key_encoder."),
    MCX_DEF("_deletetouch", client__deletetouch,
            "_deletetouch($self, expected, cmd, key, time=0, noreply=False)\n--\n\n"
            "delete and touch, behind key_encoder; expected: the lines that mean 1."),
    MCX_DEF("_incrdecr", client__incrdecr,
            "_incrdecr($self, cmd, key, delta, noreply=False)\n--\n\n"
            "incr and decr, behind key_encoder."),
    MCX_DEF("_recv_value", client__recv_value,
            "_recv_value($self, server, flags, rlen)\n--\n\n"
            "Receive a value of rlen bytes from server and decode it by its flags."),
    MCX_DEF(
        "_encode_cmd", client__encode_cmd,
        "_encode_cmd($self, cmd, key, headers, noreply, *args)\n--\n\nA command line as bytes."),
    MCX_DEF("_expectvalue", client__expectvalue,
            "_expectvalue($self, server, line=None, raise_exception=False)\n--\n\n"
            "A VALUE line as (key, flags, length), or three times None."),
    MCX_DEF("_expect_cas_value", client__expect_cas_value,
            "_expect_cas_value($self, server, line=None, raise_exception=False)\n--\n\n"
            "A VALUE line as (key, flags, length, cas), or four times None."),
    MCX_DEF("_map_and_prefix_keys", client__map_and_prefix_keys,
            "_map_and_prefix_keys($self, key_iterable, key_prefix)\n--\n\n"
            "Choose servers: ({server: [key, ...]}, {key: the caller's key}), keys as bytes."),
    {NULL, NULL, 0, NULL},
};
