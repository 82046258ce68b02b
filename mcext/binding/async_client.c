/* async_client: the type `_AsyncCache`: its loop, its streams, and its methods' table. */
#include "async_client.h"

#include <stddef.h>
#include <structmember.h>

#include "core/net/process.h"

#include "async.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_move.h"
#include "async_protocol.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "compat.h"
#include "state.h"

/* ---- making --------------------------------------------------------------------------------- */

static PyObject *async_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = type->tp_alloc(type, 0);

    (void)args;
    (void)keywords;
    if (self != NULL) {
        ((mcx_async *)self)->module = mcx_module_by_new(type, async_new);
    }
    return self;
}

/* _AsyncCache(cache, timeout, max_value_length, connections, max_pending). */
static int async_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    mcx_async *self = (mcx_async *)object;
    PyObject *cache;
    double timeout;
    Py_ssize_t max_length;

    if (self->cache != NULL || self->module == NULL || keywords != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "AsyncCache.__init__ has been called before");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "O!dnnn", self->module->cache_type, &cache, &timeout, &max_length,
                          &self->connections, &self->max_pending)) {
        return -1;
    }
    self->timeout = (int64_t)((timeout < 1e9 ? timeout : 1e9) * 1e9); /* as Cache's */
    self->max_length = (uint64_t)max_length;
    self->find_loop = mcx_import("asyncio", "get_running_loop");
    self->invalid_state = mcx_import("asyncio", "InvalidStateError");
    self->set_result = PyUnicode_InternFromString("set_result");
    self->keywords = Py_BuildValue("(s)", "loop");
    self->context = PyContext_New();
    self->context_keyword = Py_BuildValue("(s)", "context");
    if (self->find_loop == NULL || self->invalid_state == NULL || self->set_result == NULL ||
        self->keywords == NULL || self->context == NULL || self->context_keyword == NULL) {
        return -1;
    }
    self->cache = (mcx_cache *)Py_NewRef(cache);
    return 0;
}

static int async_traverse(PyObject *object, visitproc visit, void *arg)
{
    mcx_async *self = (mcx_async *)object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->cache);
    Py_VISIT(self->loop);
    Py_VISIT(self->find_loop);
    Py_VISIT(self->future_type);
    Py_VISIT(self->make_future);
    Py_VISIT(self->call_soon);
    Py_VISIT(self->call_later);
    Py_VISIT(self->context);
    for (mcx_errand *each = self->homeless; each != NULL; each = each->next) {
        int result = mcx_errand_traverse(each, visit, arg);

        if (result != 0) {
            return result;
        }
    }
    /* Of the chain each is visited here alone. */
    for (mcx_astream *stream = self->retired; stream != NULL; stream = stream->next) {
        Py_VISIT((PyObject *)stream);
    }
    for (mcx_lane *lane = self->lanes; lane != NULL; lane = lane->next) {
        Py_VISIT((PyObject *)lane->host);
        for (Py_ssize_t i = 0; i < self->connections; i++) {
            Py_VISIT((PyObject *)lane->streams[i]);
        }
    }
    return 0;
}

static int async_clear(PyObject *object)
{
    mcx_async *self = (mcx_async *)object;

    mcx_async_leave(self);
    Py_CLEAR(self->cache);
    Py_CLEAR(self->find_loop);
    return 0;
}

static void async_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    mcx_async *self = (mcx_async *)object;

    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    (void)async_clear(object);
    Py_CLEAR(self->invalid_state);
    Py_CLEAR(self->set_result);
    Py_CLEAR(self->keywords);
    Py_CLEAR(self->context);
    Py_CLEAR(self->context_keyword);
    while (self->spare != NULL) {
        mcx_errand *errand = self->spare;

        self->spare = errand->next;
        mcx_errand_delete(errand);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- streams -------------------------------------------------------------------------------- */

/* _connections(server): how many are open. For any thread. */
static PyObject *async_connections(PyObject *object, PyObject *server)
{
    mcx_async *self = (mcx_async *)object;

    if (!mcx_is_server(self->module, server)) {
        PyErr_SetString(PyExc_TypeError, "a _Server is needed");
        return NULL;
    }
    return PyLong_FromSize_t(
        atomic_load_explicit(&((mcx_server *)server)->open_streams, memory_order_relaxed));
}

/* _retire(all): the streams end when what is under way on them is answered: all, or those of
 * servers that are not the cache's any more. */
static PyObject *async_retire(PyObject *object, PyObject *all)
{
    mcx_async *self = (mcx_async *)object;
    int is_all = PyObject_IsTrue(all);

    if (is_all < 0 || (self->loop != NULL && mcx_async_enter(self) < 0)) {
        return NULL;
    }
    if (is_all) {
        mcx_lanes_end(self, true);
    }
    else if (mcx_lanes_retire(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMemberDef async_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mcx_async, weak_references), READONLY, NULL},
    {"_pending", T_PYSSIZET, offsetof(mcx_async, pending), READONLY, NULL},
    {"_loop", T_OBJECT, offsetof(mcx_async, loop), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef type_methods[] = {
    {"_connections", async_connections, METH_O, NULL},
    {"_retire", async_retire, METH_O, NULL},
    {"_rehome", mcx_async_rehome, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef *const tables[] = {
    mcx_async_methods,      mcx_async_store_methods,  mcx_async_meta_methods,
    mcx_async_many_methods, mcx_async_beside_methods,
};

static PyType_Slot async_slots[] = {
    {Py_tp_new, async_new},
    {Py_tp_init, async_init},
    {Py_tp_dealloc, async_dealloc},
    {Py_tp_traverse, async_traverse},
    {Py_tp_clear, async_clear},
    {Py_tp_methods, type_methods},
    {Py_tp_members, async_members},
    {Py_tp_doc, "What mcext.AsyncCache derives from."},
    {0, NULL},
};

static PyType_Spec async_spec = {
    .name = "mcext._core._AsyncCache",
    .basicsize = sizeof(mcx_async),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = async_slots,
};

static PyTypeObject *add_type(PyObject *module_object, PyType_Spec *spec, const char *name)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module_object, spec, NULL);

    if (type != NULL && PyModule_AddObjectRef(module_object, name, (PyObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

int mcx_add_async_types(mcx_module *module, PyObject *module_object)
{
    module->acache_type = add_type(module_object, &async_spec, "_AsyncCache");
    module->astream_type = add_type(module_object, &mcx_astream_spec, "_AsyncStream");
    module->acall_type = add_type(module_object, &mcx_acall_spec, "_AsyncCall");
    return module->acache_type == NULL || module->astream_type == NULL || module->acall_type == NULL
               ? -1
               : mcx_add_methods(module->acache_type, tables, sizeof tables / sizeof *tables);
}
