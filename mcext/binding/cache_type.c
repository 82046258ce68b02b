/* cache_type: the type `_Cache`: what a Cache holds, its servers, its counters. The options are
 * read by mcext.cache.Cache, which derives from it. */
#include "cache_type.h"

#include <stddef.h>
#include <structmember.h>

#include "core/fleet/pool.h"
#include "core/fleet/server.h"
#include "core/flow/leg.h"
#include "core/net/clock.h"

#include "arguments.h"
#include "cache.h"
#include "cache_call.h"
#include "cache_item.h"
#include "call.h"
#include "choose.h"
#include "compat.h"
#include "counters.h"
#include "faults.h"
#include "options.h"
#include "server.h"
#include "shared.h"
#include "state.h"

/* ---- making --------------------------------------------------------------------------------- */

static PyObject *cache_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (self != NULL) {
        ((mcx_cache *)self)->module = mcx_module_by_new(type, cache_new);
        atomic_init(&((mcx_cache *)self)->slow, -1);
    }
    return self;
}

typedef struct {
    PyObject *compressor; /* borrowed; NULL: zlib's, in C */
    Py_ssize_t max_value_length;
    int allow_pickle;
    size_t prefix_length;
    PyObject *placement, *on_dead; /* borrowed */
} given_options;

/* What the functions that Client's calls share find in a snapshot. */
static int set_options(mcx_module *module, mcx_snapshot *snapshot, const void *context)
{
    const given_options *given = context;

    snapshot->prefix_length = given->prefix_length;
    snapshot->check_keys = true;
    snapshot->allow_pickle = given->allow_pickle;
    snapshot->pickler_is_keyword = true;
    snapshot->native_compressor = given->compressor == NULL;
    snapshot->native_decompressor = true;
    snapshot->max_key_length = MC_PROTOCOL_KEY_LENGTH;
    snapshot->max_value_length = snapshot->max_length = given->max_value_length;
    Py_XSETREF(snapshot->options[MCX_OPT_COMPRESSOR], Py_XNewRef(given->compressor));
    if (snapshot->options[MCX_OPT_PICKLE_PROTOCOL] == NULL) {
        snapshot->options[MCX_OPT_PICKLE_PROTOCOL] = PyLong_FromLong(MCX_CACHE_PICKLE_PROTOCOL);
    }
    return snapshot->options[MCX_OPT_PICKLE_PROTOCOL] == NULL
               ? -1
               : mcx_options_place(module, snapshot, given->placement, given->on_dead);
}

static PyObject *none_is_null(PyObject *object)
{
    return object == Py_None ? NULL : Py_NewRef(object);
}

/* _Cache(prefix, encode, decode, min_compress, compressor, raises, max_value_length, allow_pickle,
 * placement, on_dead). */
static int cache_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    mcx_cache *cache = (mcx_cache *)self;
    PyObject *prefix, *encode, *decode, *min_compress, *compressor, *module_object;
    given_options given;
    int raises;

    if (cache->shared != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Cache.__init__ has been called before");
        return -1;
    }
    if (cache->module == NULL || keywords != NULL) {
        PyErr_SetString(PyExc_TypeError, "_Cache is made by mcext.Cache");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "SOOOOpnpOO", &prefix, &encode, &decode, &min_compress, &compressor,
                          &raises, &given.max_value_length, &given.allow_pickle, &given.placement,
                          &given.on_dead)) {
        return -1;
    }
    module_object = PyType_GetModule(cache->module->cache_type);
    mcx_shared *shared = module_object ? mcx_shared_new(cache->module, module_object) : NULL;

    given.compressor = compressor == Py_None ? NULL : compressor;
    given.prefix_length = (size_t)PyBytes_GET_SIZE(prefix);
    if (shared == NULL || mcx_shared_change(shared, set_options, &given) < 0) {
        Py_XDECREF(shared);
        return -1;
    }
    cache->prefix = PyBytes_GET_SIZE(prefix) != 0 ? Py_NewRef(prefix) : NULL;
    cache->encode = none_is_null(encode);
    cache->decode = none_is_null(decode);
    cache->min_compress = none_is_null(min_compress);
    cache->raises = raises;
    cache->shared = shared;
    atomic_store(&cache->open, shared);
    return 0;
}

static int cache_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_cache *cache = (mcx_cache *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)cache->shared);
    Py_VISIT(cache->encode);
    Py_VISIT(cache->decode);
    Py_VISIT(cache->min_compress);
    Py_VISIT(cache->on_event);
    return 0;
}

static int cache_clear(PyObject *self)
{
    mcx_cache *cache = (mcx_cache *)self;

    atomic_store(&cache->open, NULL);
    Py_CLEAR(cache->shared);
    Py_CLEAR(cache->encode);
    Py_CLEAR(cache->decode);
    Py_CLEAR(cache->min_compress);
    Py_CLEAR(cache->on_event);
    return 0;
}

static void cache_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_cache *cache = (mcx_cache *)self;

    PyObject_GC_UnTrack(self);
    if (cache->weak_references != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    cache_clear(self);
    Py_CLEAR(cache->prefix);
    type->tp_free(self);
    Py_DECREF(type);
}

static int check_ready(const mcx_cache *cache)
{
    if (cache->shared == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Cache.__init__ has not been called");
        return -1;
    }
    return 0;
}

/* ---- servers -------------------------------------------------------------------------------- */

/* A server of (server, weight): its counters. */
static int prepare_server(mcx_module *module, PyObject *row)
{
    PyObject *server;
    Py_ssize_t weight;

    if (!PyTuple_Check(row)) {
        PyErr_SetString(PyExc_TypeError, "_set_servers needs a list of tuples");
        return -1;
    }
    if (!PyArg_ParseTuple(row, "O!n", module->server_type, &server, &weight)) {
        return -1;
    }
    mcx_server *host = (mcx_server *)server;

    if (host->counters == NULL) {
        host->counters = PyMem_Calloc(1, sizeof *host->counters);
        if (host->counters == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

typedef struct {
    PyObject *servers;
    PyObject *buckets;
} lists;

static int set_lists(mcx_module *module, mcx_snapshot *snapshot, const void *context)
{
    const lists *given = context;

    return mcx_snapshot_set_servers(module, snapshot, given->servers) < 0 ||
                   mcx_snapshot_set_buckets(module, snapshot, given->buckets) < 0
               ? -1
               : 0;
}

/* Each server as often in the buckets as it has weight. */
static int add_row(PyObject *row, const lists *to)
{
    PyObject *server = PyTuple_GET_ITEM(row, 0);
    Py_ssize_t weight = PyNumber_AsSsize_t(PyTuple_GET_ITEM(row, 1), NULL);
    int result = PyList_Append(to->servers, server);

    for (Py_ssize_t i = 0; result == 0 && i < weight; i++) {
        result = PyList_Append(to->buckets, server);
    }
    return result;
}

/* _set_servers([(server, weight)]): from now on these. */
static PyObject *cache_set_servers(PyObject *self, PyObject *rows)
{
    mcx_cache *cache = (mcx_cache *)self;
    lists made = {PyList_New(0), PyList_New(0)};
    PyObject *fixed = PySequence_Tuple(rows);
    int result =
        fixed != NULL && made.servers != NULL && made.buckets != NULL ? check_ready(cache) : -1;

    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(fixed); i++) {
        PyObject *row = PyTuple_GET_ITEM(fixed, i);

        result = prepare_server(cache->module, row);
        if (result == 0) {
            result = add_row(row, &made);
        }
    }
    if (result == 0) {
        result = mcx_shared_change(cache->shared, set_lists, &made);
    }
    Py_XDECREF(made.servers);
    Py_XDECREF(made.buckets);
    Py_XDECREF(fixed);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* server_for(key): where it belongs, dead or not. */
static PyObject *cache_server_for(PyObject *self, PyObject *object)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_walk walk;
    size_t bucket;

    if (mcx_cache_begin(&call, self, MC_GET) < 0) {
        return NULL;
    }
    if (mcx_cache_key_of(&call, object, &key) == 0) {
        int there = mcx_walk_first(&call, &key.key, &walk, &bucket);

        if (there > 0) {
            result = mcx_server_written((mcx_server *)call.snapshot->bucket[bucket]);
        }
        else if (there == 0) {
            result = Py_NewRef(Py_None);
        }
        mcx_walk_end(&walk);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, Py_None);
}

/* ---- counters ------------------------------------------------------------------------------- */

/* _count_fill(key, 0 won, 1 lost, 2 waited), with key's server. */
static PyObject *cache_count_fill(PyObject *self, PyObject *args)
{
    PyObject *object, *result = NULL;
    mcx_call call;
    mcx_cache_key key;
    mcx_walk walk;
    size_t bucket;
    int which;

    if (!PyArg_ParseTuple(args, "Oi", &object, &which) || mcx_cache_begin(&call, self, MC_MG) < 0) {
        return NULL;
    }
    if (mcx_cache_key_of(&call, object, &key) == 0) {
        int there = mcx_walk_first(&call, &key.key, &walk, &bucket);

        if (there > 0) {
            mcx_counters *counters = ((mcx_server *)call.snapshot->bucket[bucket])->counters;

            mcx_count_up(which == 0   ? &counters->fills_won
                         : which == 1 ? &counters->fills_lost
                                      : &counters->fills_waited,
                         1);
        }
        mcx_walk_end(&walk);
        mcx_key_clear(&key.key);
        result = there < 0 ? NULL : Py_NewRef(Py_None);
    }
    return mcx_cache_end(&call, result, Py_None);
}

/* _idle(server): connections that are open and in nobody's use. */
static PyObject *cache_idle(PyObject *self, PyObject *server)
{
    mcx_cache *cache = (mcx_cache *)self;

    if (!mcx_is_server(cache->module, server)) {
        PyErr_SetString(PyExc_TypeError, "a _Server is needed");
        return NULL;
    }
    return PyLong_FromSize_t(mc_pool_idle_count(&((mcx_server *)server)->server.pool));
}

/* ---- attributes ----------------------------------------------------------------------------- */

static PyObject *get_on_event(PyObject *self, void *closure)
{
    mcx_cache *cache = (mcx_cache *)self;
    PyObject *hook;

    (void)closure;
    Py_BEGIN_CRITICAL_SECTION(self);
    hook = Py_NewRef(cache->on_event != NULL ? cache->on_event : Py_None);
    Py_END_CRITICAL_SECTION();
    return hook;
}

static int set_on_event(PyObject *self, PyObject *value, void *closure)
{
    mcx_cache *cache = (mcx_cache *)self;
    PyObject *old;

    (void)closure;
    if (value != NULL && value != Py_None && !PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "on_event must be callable or None, not %.200s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    old = cache->on_event;
    cache->on_event = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    return 0;
}

static PyObject *get_slow(PyObject *self, void *closure)
{
    int64_t slow = atomic_load(&((mcx_cache *)self)->slow);

    (void)closure;
    return slow < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)slow / 1e9);
}

static int set_slow(PyObject *self, PyObject *value, void *closure)
{
    int64_t slow = -1;
    PyObject *zero = PyLong_FromLong(0); /* every call, which is no time for mcx_seconds */
    int is_zero = zero && value ? PyObject_RichCompareBool(value, zero, Py_EQ) : 0;

    (void)closure;
    Py_XDECREF(zero);
    if (zero == NULL || is_zero < 0) {
        return -1;
    }
    if (is_zero && !PyBool_Check(value)) {
        slow = 0;
    }
    else if (value != NULL && value != Py_None && mcx_seconds(value, "slow", &slow) < 0) {
        return -1;
    }
    atomic_store(&((mcx_cache *)self)->slow, slow);
    return 0;
}

/* Of an option that cannot be changed. */
static PyObject *get_option(PyObject *self, void *option)
{
    mcx_cache *cache = (mcx_cache *)self;
    PyObject *value;

    if (check_ready(cache) < 0) {
        return NULL;
    }
    mcx_snapshot *snapshot = mcx_shared_enter(cache->shared);

    value = mcx_option_value(cache->module, snapshot, (int)(intptr_t)option);
    mcx_shared_leave(snapshot);
    return value;
}

static PyMemberDef cache_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mcx_cache, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef cache_getset[] = {
    {"on_event", get_on_event, set_on_event,
     "Called with an Event behind a call that failed or was slow, a dead mark, a connect; or None.",
     NULL},
    {"slow", get_slow, set_slow,
     "Seconds from which on a call is an event; 0: every call is; None: none is.", NULL},
    {"placement", get_option, NULL, "Which server a key goes to.",
     (void *)(intptr_t)MCX_OPT_PLACEMENT},
    {"on_dead", get_option, NULL,
     "What becomes of a key whose server is dead: \"walk\", \"miss\" or \"next\".",
     (void *)(intptr_t)MCX_OPT_ON_DEAD},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef type_methods[] = {
    {"server_for", cache_server_for, METH_O,
     "server_for($self, key, /)\n--\n\n"
     "The address, as it was written, of the server that key belongs to, dead or not; None where\n"
     "there are no servers. Raises TypeError or ValueError for a wrong key."},
    {"_set_servers", cache_set_servers, METH_O, NULL},
    {"_count_fill", cache_count_fill, METH_VARARGS, NULL},
    {"_idle", cache_idle, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef *const tables[] = {
    type_methods,
    mcx_cache_get_methods,
    mcx_cache_store_methods,
    mcx_cache_change_methods,
    mcx_cache_many_methods,
    mcx_cache_item_methods,
    mcx_cache_lease_methods,
    mcx_cache_server_methods,
};

/* The methods go once more into the class that derives from this one, mcext.cache.Cache: the
 * interpreter's short way to a method in C (3.11) is for instances of the very class that has it.
 */
static PyObject *init_subclass(PyObject *class, PyObject *unused)
{
    PyTypeObject *type = (PyTypeObject *)class;
    mcx_module *module = mcx_module_by_new(type, cache_new);

    (void)unused;
    if (module == NULL || type->tp_base != module->cache_type) {
        Py_RETURN_NONE; /* of a class that derives from that */
    }
    return mcx_add_methods(type, tables, sizeof tables / sizeof *tables) < 0 ? NULL
                                                                             : Py_NewRef(Py_None);
}

/* __class_getitem__: of the stubs' `Cache[T]`; at run time it is one class. */
static PyMethodDef class_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"__init_subclass__", init_subclass, METH_NOARGS | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_init, cache_init},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_traverse, cache_traverse},
    {Py_tp_clear, cache_clear},
    {Py_tp_methods, class_methods},
    {Py_tp_members, cache_members},
    {Py_tp_getset, cache_getset},
    {Py_tp_doc, "What mcext.Cache derives from."},
    {0, NULL},
};

static PyType_Spec cache_spec = {
    .name = "mcext._core._Cache",
    .basicsize = sizeof(mcx_cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = cache_slots,
};

int mcx_add_cache_type(mcx_module *module, PyObject *module_object)
{
    module->cache_type = (PyTypeObject *)PyType_FromModuleAndSpec(module_object, &cache_spec, NULL);
    if (module->cache_type == NULL ||
        mcx_add_methods(module->cache_type, tables, sizeof tables / sizeof *tables) < 0 ||
        mcx_add_item_type(module, module_object) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module_object, "_Cache", (PyObject *)module->cache_type);
}
