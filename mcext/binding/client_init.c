/* client_init: the constructor of Client. */
#include "client_init.h"

#include <string.h>

#include "options.h"
#include "record.h"
#include "shared.h"
#include "state.h"

/* What each thread begins with: python-memcached's constructor makes both anew. */
static int reset_thread(mcx_module *module, mcx_shared *shared, PyObject *self)
{
    mcx_record *record = mcx_record_of(module, shared, self);

    if (record == NULL) {
        return -1;
    }
    memset(record->counts, 0, sizeof record->counts);
    Py_CLEAR(record->stats);
    record->stats_deleted = false;
    Py_DECREF(record);

    PyObject *result = PyObject_CallMethodNoArgs(self, module->str_reset_cas);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The options and servers of a constructor's call, for all threads. */
static int set_up(mcx_module *module, mcx_shared *shared, PyObject *self, PyObject *const *values)
{
    PyObject *result =
        PyObject_CallMethodOneArg(self, module->str_set_servers, values[MCX_ARG_SERVERS]);

    Py_XDECREF(result);
    return result == NULL ? -1 : reset_thread(module, shared, self);
}

static int open_client(mcx_module *module, PyObject *self, PyObject *const *values)
{
    PyObject *module_object = ((PyHeapTypeObject *)module->client_type)->ht_module;
    mcx_shared *shared = mcx_shared_new(module, module_object);

    if (shared == NULL || mcx_shared_change(shared, mcx_options_set, values) < 0) {
        Py_XDECREF(shared);
        return -1;
    }
    shared->opened_with = Py_NewRef(values[MCX_ARG_SERVERS]);
    PyObject *none = NULL;
    if (!__atomic_compare_exchange_n(mcx_shared_slot(module, self), &none, (PyObject *)shared,
                                     false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        Py_DECREF(shared); /* opened in the meantime, by what an option's own methods called */
        return 0;
    }
    return mcx_record_first(module, shared, self) < 0 ? -1 : set_up(module, shared, self, values);
}

/* Whether threading.local runs __init__ once more, in a thread that meets the client first: there
 * is no record of the thread yet; or there is, and a subclass's __init__ has looked at an
 * attribute, or calls ours twice. 1, 0, -1 with an exception. */
static int is_rerun(mcx_module *module, mcx_shared *shared, PyObject *self, PyObject *servers)
{
    PyObject *record = NULL;
    int found = PyObject_GetOptionalAttr(self, module->str_record, &record);

    if (found > 0 && Py_IS_TYPE(record, module->record_type) &&
        (((mcx_record *)record)->is_first || servers != shared->opened_with)) {
        Py_DECREF(record);
        return 0;
    }
    Py_XDECREF(record);
    return found < 0 ? -1 : 1;
}

static int init(mcx_module *module, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    PyObject *values[MCX_ARGUMENT_COUNT];

    if (mcx_options_bind(args, nargs, kwnames, values) < 0) {
        return -1;
    }
    mcx_shared *shared =
        (mcx_shared *)__atomic_load_n(mcx_shared_slot(module, self), __ATOMIC_ACQUIRE);
    if (shared == NULL) {
        return open_client(module, self, values);
    }
    int rerun = is_rerun(module, shared, self, values[MCX_ARG_SERVERS]);
    if (rerun != 0) { /* what is shared is there already, and a thread's own begins empty */
        return rerun < 0 ? -1 : reset_thread(module, shared, self);
    }
    return mcx_shared_change(shared, mcx_options_set, values) < 0 ||
                   set_up(module, shared, self, values) < 0
               ? -1
               : mcx_options_hand_down(module, shared);
}

/* __init__ is a slot wrapper, not a method: so inspect takes the class's own text signature. It
 * wraps the module's state, by which it finds its way. */
static PyObject *wrap_init(PyObject *self, PyObject *args, void *module, PyObject *keywords)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    Py_ssize_t named = keywords ? PyDict_GET_SIZE(keywords) : 0;
    PyObject *kwnames = keywords ? PyTuple_New(named) : NULL;
    PyObject **all = NULL;
    PyObject *name, *value;
    Py_ssize_t at = 0;
    int result = -1;

    if (keywords != NULL && kwnames == NULL) {
        return NULL;
    }
    all = PyMem_Malloc((size_t)(nargs + named + 1) * sizeof *all);
    if (all == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        all[i] = PyTuple_GET_ITEM(args, i);
    }
    for (Py_ssize_t i = 0; keywords != NULL && PyDict_Next(keywords, &at, &name, &value); i++) {
        if (!PyUnicode_Check(name)) { /* whoever calls a slot looks at that himself */
            PyErr_SetString(PyExc_TypeError, "keywords must be strings");
            goto done;
        }
        PyTuple_SET_ITEM(kwnames, i, Py_NewRef(name));
        all[nargs + i] = value;
    }
    result = init(module, self, all, nargs, kwnames);
done:
    PyMem_Free(all);
    Py_XDECREF(kwnames);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static struct wrapperbase init_wrapper = {
    .name = "__init__",
    .wrapper = (wrapperfunc)(void (*)(void))wrap_init,
    .doc = mcx_init_doc,
    .flags = PyWrapperFlag_KEYWORDS,
};

int mcx_add_init(mcx_module *module)
{
    return mcx_add_to_client(module, "__init__",
                             PyDescr_NewWrapper(module->client_type, &init_wrapper, module));
}
