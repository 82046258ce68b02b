/* support: functions of `mcext._core` for mcext.pure. */
#include "support.h"

#include <string.h>

#include "core/net/process.h"
#include "core/net/system.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "arguments.h"
#include "cache.h"
#include "cache_call.h"
#include "call.h"
#include "choose.h"
#include "counters.h"
#include "keys.h"
#include "listing.h"
#include "options.h"
#include "replaced.h"
#include "secret.h"
#include "server.h"
#include "server_address.h"
#include "shared.h"
#include "state.h"
#include "tls_options.h"
#include "values.h"
#include "watch.h"

static PyObject *module_same_key(PyObject *self, PyObject *key)
{
    (void)self;
    return Py_NewRef(key);
}

/* ---- for the way in Python ------------------------------------------------------------------ */

static PyObject *module_set_host_type(PyObject *self, PyObject *type)
{
    return mcx_set_host_type(PyModule_GetState(self), type) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_generation(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLong(mc_process_generation());
}

static PyObject *module_wall_clock(PyObject *self, PyObject *unused)
{
    int64_t now;

    (void)unused;
    return mcx_wall_clock(PyModule_GetState(self), &now) < 0
               ? NULL
               : PyFloat_FromDouble((double)now / 1e6);
}

/* The class to make sockets with, None for Python's own. */
static PyObject *module_socket_class(PyObject *self, PyObject *unused)
{
    PyObject *class;

    (void)unused;
    if (mcx_find_socket_class(PyModule_GetState(self), &class) < 0) {
        return NULL;
    }
    return class != NULL ? class : Py_NewRef(Py_None);
}

static PyObject *module_is_quiet(PyObject *self, PyObject *number)
{
    long fd = PyLong_AsLong(number);

    (void)self;
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct pollfd look = {.fd = (int)fd, .events = POLLIN | POLLRDHUP};

    return PyBool_FromLong(fd >= 0 && poll(&look, 1, 0) == 0);
}

static PyObject *module_server_hash(PyObject *self, PyObject *key)
{
    Py_buffer view;
    PyObject *hash;

    if (PyObject_GetBuffer(key, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    hash = mcx_server_hash(PyModule_GetState(self), (mc_slice){view.buf, (size_t)view.len});
    PyBuffer_Release(&view);
    return hash;
}

static PyObject *module_check_safe(PyObject *self, PyObject *key)
{
    mcx_module *module = PyModule_GetState(self);

    if (!PyBytes_Check(key)) {
        PyErr_SetString(key == Py_None ? module->key_none_error : module->key_type_error,
                        key == Py_None ? "Key is None" : "Key must be a binary string");
        return NULL;
    }
    mc_slice text = {PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};

    return mcx_key_check_safe(module, text) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *decimal_text(mcx_decimal *decimal)
{
    PyObject *text =
        PyUnicode_FromStringAndSize(decimal->text.bytes, (Py_ssize_t)decimal->text.length);

    Py_XDECREF(decimal->owner);
    return text;
}

static PyObject *module_exptime(PyObject *self, PyObject *time)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_time(time, "time", &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_touch_time(PyObject *self, PyObject *time)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_touch_time(time, "time", &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_delta(PyObject *self, PyObject *delta)
{
    mcx_decimal decimal;

    (void)self;
    return mcx_delta(delta, &decimal) < 0 ? NULL : decimal_text(&decimal);
}

static PyObject *module_check_min_compress(PyObject *self, PyObject *length)
{
    (void)self;
    return mcx_min_compress(length) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_for_hosts(PyObject *self, PyObject *client)
{
    mcx_module *module = mcx_module_of(client);
    mcx_shared *shared = module ? mcx_shared_of(module, client) : NULL;

    (void)self;
    if (module == NULL) {
        PyErr_SetString(PyExc_TypeError, "a Client is needed");
    }
    return shared ? mcx_options_for_hosts(shared, client) : NULL;
}

static PyObject *module_server_key(PyObject *self, PyObject *given)
{
    (void)self;
    return mcx_server_key_of(given);
}

/* _value_fields(line, count): of a VALUE line (key, flags, length) or (key, flags, length, cas). */
static PyObject *module_value_fields(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *line;
    mc_reply reply;
    int count;

    if (!PyArg_ParseTuple(args, "Si:_value_fields", &line, &count)) {
        return NULL;
    }
    mc_slice rest = {PyBytes_AS_STRING(line) + 6, (size_t)PyBytes_GET_SIZE(line) - 6};

    if (PyBytes_GET_SIZE(line) <= 6 || rest.bytes[-1] != ' ' ||
        !mc_reply_parse_value(rest, &reply) || reply.has_cas != (count == 4) ||
        reply.length > PY_SSIZE_T_MAX - 2) {
        PyErr_Format(module->error, "not a VALUE line of %d fields: %R", count, line);
        return NULL;
    }
    return reply.has_cas ? Py_BuildValue("y#IKK", reply.key.bytes, (Py_ssize_t)reply.key.length,
                                         reply.flags, reply.length, reply.cas)
                         : Py_BuildValue("y#IK", reply.key.bytes, (Py_ssize_t)reply.key.length,
                                         reply.flags, reply.length);
}

/* _decode(client, flags, block): of a data block with its end of line. */
static PyObject *module_decode(PyObject *self, PyObject *args)
{
    PyObject *client, *block, *result;
    unsigned long flags;
    mcx_call call;

    (void)self;
    if (!PyArg_ParseTuple(args, "OkS:_decode", &client, &flags, &block)) {
        return NULL;
    }
    if (mcx_module_of(client) == NULL || PyBytes_GET_SIZE(block) < 2) {
        PyErr_SetString(PyExc_TypeError, "a Client and a data block are needed");
        return NULL;
    }
    if (mcx_call_begin_inner(&call, client) < 0) {
        return NULL;
    }
    result =
        mcx_decode(&call, (uint32_t)flags,
                   (mc_slice){PyBytes_AS_STRING(block), (size_t)PyBytes_GET_SIZE(block) - 2}, NULL);
    return mcx_call_end(&call, result);
}

static PyObject *module_counter_names(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return mcx_counter_names();
}

static PyObject *module_check_tls(PyObject *self, PyObject *args)
{
    PyObject *context, *name;

    (void)self;
    if (!PyArg_ParseTuple(args, "OO:_check_tls", &context, &name) ||
        mcx_tls_check(context, name) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- for mcext.async_cache
 * ----------------------------------------------------------------------- */

/* _check_token(cas), _check_initial(initial), _check_ttl(ttl), _check_stats_argument(argument):
 * TypeError or ValueError where they are wrong. */
static PyObject *module_check_token(PyObject *self, PyObject *given)
{
    uint64_t token;

    (void)self;
    return mcx_cache_token(given, &token) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_check_initial(PyObject *self, PyObject *given)
{
    uint64_t initial;

    (void)self;
    return mcx_cache_initial(given, &initial) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_check_ttl(PyObject *self, PyObject *given)
{
    mcx_decimal ttl;

    return mcx_cache_ttl(PyModule_GetState(self), given, &ttl) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_check_stats_argument(PyObject *self, PyObject *given)
{
    mc_slice argument;

    (void)self;
    return mcx_stats_argument(given, "argument", &argument) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- servers -------------------------------------------------------------------------------- */

static PyObject *module_is_source(PyObject *self, PyObject *given)
{
    (void)self;
    return PyBool_FromLong(mcx_server_is_source(given));
}

static PyObject *module_is_main_interpreter(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyBool_FromLong(PyInterpreterState_Get() == PyInterpreterState_Main());
}

/* What a Client or a Cache shares; NULL with TypeError or RuntimeError. */
static mcx_shared *shared_of(mcx_module *module, PyObject *client)
{
    if (!PyObject_TypeCheck(client, module->cache_type)) {
        if (mcx_module_of(client) == NULL) {
            PyErr_SetString(PyExc_TypeError, "a Client or a Cache is needed");
            return NULL;
        }
        return mcx_shared_of(module, client);
    }
    if (((mcx_cache *)client)->shared == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Cache.__init__ has not been called");
    }
    return ((mcx_cache *)client)->shared;
}

/* _watch(client): its mcext.discovery.Watch, or None. */
static PyObject *module_watch(PyObject *self, PyObject *client)
{
    mcx_shared *shared = shared_of(PyModule_GetState(self), client);
    PyObject *watch;

    if (shared == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(shared);
    watch = Py_NewRef(shared->watch != NULL ? shared->watch : Py_None);
    Py_END_CRITICAL_SECTION();
    return watch;
}

/* _set_watch(client, watch): None for none. The client's next call begins with it. */
static PyObject *module_set_watch(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *client, *watch, *old = NULL;

    if (!PyArg_ParseTuple(args, "OO:_set_watch", &client, &watch)) {
        return NULL;
    }
    mcx_shared *shared = shared_of(module, client);

    if (shared == NULL || mcx_watch_set(shared, watch == Py_None ? NULL : watch, &old) < 0) {
        return NULL;
    }
    if (PyObject_TypeCheck(client, module->cache_type)) {
        atomic_store(&((mcx_cache *)client)->open, NULL);
    }
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* _counters(server, reset): a dict; what a server of a Cache has counted. */
static PyObject *module_counters(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *server;
    int reset;

    if (!PyArg_ParseTuple(args, "O!p:_counters", module->server_type, &server, &reset)) {
        return NULL;
    }
    if (((mcx_server *)server)->counters == NULL) {
        PyErr_SetString(PyExc_ValueError, "the server is no Cache's");
        return NULL;
    }
    return mcx_counters_dict(((mcx_server *)server)->counters, reset);
}

PyMethodDef mcx_support_functions[] = {
    {"_counters", module_counters, METH_VARARGS,
     "_counters($module, server, reset, /)\n--\n\n"
     "What a server of a Cache has counted, as Cache.metrics() gives it."},
    {"_counter_names", module_counter_names, METH_NOARGS, NULL},
    {"_secrets", mcx_secret_pair, METH_VARARGS,
     "_secrets($module, username, password, /)\n--\n\n"
     "Both as objects that show nothing of them; None where both are None."},
    {"_same_key", module_same_key, METH_O,
     "_same_key($module, key, /)\n--\n\nThe key_encoder where none was given: key itself."},
    {"_set_host_type", module_set_host_type, METH_O,
     "_set_host_type($module, type, /)\n--\n\nThe class _Host has been made."},
    {"_generation", module_generation, METH_NOARGS,
     "_generation($module, /)\n--\n\nA number that is another one in the child of a fork."},
    {"_wall_clock", module_wall_clock, METH_NOARGS,
     "_wall_clock($module, /)\n--\n\ntime.time(), or what memcache.time was set to says."},
    {"_socket_class", module_socket_class, METH_NOARGS,
     "_socket_class($module, /)\n--\n\nWhat makes sockets; None: Python's own class."},
    {"_check_token", module_check_token, METH_O, NULL},
    {"_check_initial", module_check_initial, METH_O, NULL},
    {"_check_ttl", module_check_ttl, METH_O, NULL},
    {"_check_stats_argument", module_check_stats_argument, METH_O, NULL},
    {"_is_quiet", module_is_quiet, METH_O,
     "_is_quiet($module, fd, /)\n--\n\nWhether the peer has neither closed nor sent anything."},
    {"_server_hash", module_server_hash, METH_O,
     "_server_hash($module, key, /)\n--\n\nserverHashFunction(key)."},
    {"_check_safe", module_check_safe, METH_O,
     "_check_safe($module, key, /)\n--\n\nRaise where key could end or split a command line."},
    {"_exptime", module_exptime, METH_O,
     "_exptime($module, time, /)\n--\n\nA time argument as decimal text."},
    {"_touch_time", module_touch_time, METH_O,
     "_touch_time($module, time, /)\n--\n\nThe same of touch, which takes a str of digits too."},
    {"_delta", module_delta, METH_O, "_delta($module, delta, /)\n--\n\nA delta as decimal text."},
    {"_check_tls", module_check_tls, METH_VARARGS,
     "_check_tls($module, context, name, /)\n--\n\n"
     "Raise where tls_context or tls_server_hostname is wrong; warn where the first verifies "
     "nothing."},
    {"_check_min_compress", module_check_min_compress, METH_O,
     "_check_min_compress($module, length, /)\n--\n\nRaise where it is no number."},
    {"_for_hosts", module_for_hosts, METH_O,
     "_for_hosts($module, client, /)\n--\n\n"
     "The options that new hosts are given: as arguments, and as attributes."},
    {"_server_key", module_server_key, METH_O,
     "_server_key($module, server, /)\n--\n\n"
     "(the _key of a server at that address, its weight) of an address or (address, weight); None\n"
     "for what is no server."},
    {"_is_source", module_is_source, METH_O,
     "_is_source($module, server, /)\n--\n\n"
     "Whether it is no server, but what mcext.discovery asks for servers."},
    {"_is_main_interpreter", module_is_main_interpreter, METH_NOARGS,
     "_is_main_interpreter($module, /)\n--\n\nWhether this is no sub-interpreter."},
    {"_watch", module_watch, METH_O,
     "_watch($module, client, /)\n--\n\nThe mcext.discovery.Watch of a Client or Cache, or None."},
    {"_set_watch", module_set_watch, METH_VARARGS,
     "_set_watch($module, client, watch, /)\n--\n\n"
     "From now on that is its watch, with which its next call begins; None: it has none."},
    {"_value_fields", module_value_fields, METH_VARARGS,
     "_value_fields($module, line, count, /)\n--\n\n"
     "A VALUE line as (key, flags, length) or, with count 4, (key, flags, length, cas)."},
    {"_decode", module_decode, METH_VARARGS,
     "_decode($module, client, flags, block, /)\n--\n\n"
     "The value that flags and a data block, with its end of line, mean."},
    {NULL, NULL, 0, NULL},
};
