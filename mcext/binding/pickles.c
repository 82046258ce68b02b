/* pickles: values that are pickled, and what pickles mean. Runs Python code: pickle, and the
 * caller's own picklers. */
#include "pickles.h"

#include "core/wire/key.h"

#include "call.h"
#include "compat.h"
#include "forgive.h"
#include "shared.h"
#include "state.h"
#include "values.h"

static int is_truthy(PyObject *option)
{
    return option == NULL || option == Py_None ? 0 : PyObject_IsTrue(option);
}

/* pickle's function of that name, found at its first use: borrowed, the module keeps it. */
static PyObject *pickle_function(PyObject **slot, const char *name)
{
    PyObject *found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    PyObject *imported;

    if (LIKELY(found != NULL)) {
        return found;
    }
    imported = mcx_import("pickle", name);
    if (imported == NULL || __atomic_compare_exchange_n(slot, &found, imported, false,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return imported;
    }
    Py_DECREF(imported); /* another thread was first */
    return found;
}

/* ---- storing -------------------------------------------------------------------------------- */

/* pickler(file, protocol=protocol), or positional; a new reference. */
static PyObject *make_pickler(PyObject *class, PyObject *file, PyObject *protocol, bool is_keyword)
{
    PyObject *arguments[] = {file, protocol};
    PyObject *names = NULL;
    PyObject *pickler;

    if (!is_keyword) {
        return PyObject_Vectorcall(class, arguments, 2, NULL);
    }
    names = Py_BuildValue("(s)", "protocol");
    if (names == NULL) {
        return NULL;
    }
    pickler = PyObject_Vectorcall(class, arguments, 1, names);
    Py_DECREF(names);
    return pickler;
}

/* The value through a pickler object: a caller's own, or one with a persistent_id. */
static COLD PyObject *dump_value(const mcx_snapshot *snapshot, PyObject *value, PyObject *protocol,
                                 bool has_id)
{
    PyObject *class = NULL;
    PyObject *file = NULL;
    PyObject *pickler = NULL;
    PyObject *answer = NULL;
    PyObject *result = NULL;

    class = snapshot->options[MCX_OPT_PICKLER] != NULL
                ? Py_NewRef(snapshot->options[MCX_OPT_PICKLER])
                : mcx_import("pickle", "Pickler");
    if (class == NULL) {
        goto done;
    }
    answer = mcx_import("io", "BytesIO");
    if (answer == NULL) {
        goto done;
    }
    file = PyObject_CallNoArgs(answer);
    Py_CLEAR(answer);
    if (file == NULL) {
        goto done;
    }
    pickler = make_pickler(class, file, protocol, snapshot->pickler_is_keyword);
    if (pickler == NULL) {
        goto done;
    }
    if (has_id && PyObject_SetAttrString(pickler, "persistent_id",
                                         snapshot->options[MCX_OPT_PERSISTENT_ID]) < 0) {
        goto done;
    }
    answer = PyObject_CallMethod(pickler, "dump", "(O)", value);
    if (answer == NULL) {
        goto done;
    }
    result = PyObject_CallMethod(file, "getvalue", NULL);
done:
    Py_XDECREF(answer);
    Py_XDECREF(pickler);
    Py_XDECREF(file);
    Py_XDECREF(class);
    return result;
}

APART PyObject *mcx_pickle(mcx_call *call, PyObject *value)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *protocol = NULL;
    PyObject *dumps;
    PyObject *result = NULL;
    int has_id;

    if (!snapshot->allow_pickle) {
        PyErr_Format(PyExc_TypeError, "%.200s cannot be stored without pickle (allow_pickle=False)",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    has_id = is_truthy(snapshot->options[MCX_OPT_PERSISTENT_ID]);
    if (has_id < 0) {
        return NULL;
    }
    protocol = snapshot->options[MCX_OPT_PICKLE_PROTOCOL] != NULL
                   ? Py_NewRef(snapshot->options[MCX_OPT_PICKLE_PROTOCOL])
                   : PyLong_FromLong(0);
    if (protocol == NULL) {
        return NULL;
    }
    if (LIKELY(!has_id && snapshot->options[MCX_OPT_PICKLER] == NULL)) {
        PyObject *arguments[] = {value, protocol};

        dumps = pickle_function(&call->module->pickle_dumps, "dumps");
        if (dumps != NULL) {
            result = PyObject_Vectorcall(dumps, arguments, 2, NULL);
        }
    }
    else {
        result = dump_value(snapshot, value, protocol, has_id);
    }
    Py_DECREF(protocol);
    if (result != NULL && !PyBytes_Check(result)) {
        PyErr_Format(PyExc_TypeError, "a pickle must be bytes, not %.200s",
                     Py_TYPE(result)->tp_name);
        Py_CLEAR(result);
    }
    return result;
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Through an unpickler object: a caller's own, or one with a persistent_load. */
static COLD PyObject *load_value(const mcx_snapshot *snapshot, PyObject *bytes, bool has_load)
{
    PyObject *class = NULL;
    PyObject *file_type = NULL;
    PyObject *file = NULL;
    PyObject *unpickler = NULL;
    PyObject *result = NULL;

    class = snapshot->options[MCX_OPT_UNPICKLER] != NULL
                ? Py_NewRef(snapshot->options[MCX_OPT_UNPICKLER])
                : mcx_import("pickle", "Unpickler");
    if (class == NULL) {
        goto done;
    }
    file_type = mcx_import("io", "BytesIO");
    if (file_type == NULL) {
        goto done;
    }
    file = PyObject_CallOneArg(file_type, bytes);
    if (file == NULL) {
        goto done;
    }
    unpickler = PyObject_CallOneArg(class, file);
    if (unpickler == NULL) {
        goto done;
    }
    if (has_load && PyObject_SetAttrString(unpickler, "persistent_load",
                                           snapshot->options[MCX_OPT_PERSISTENT_LOAD]) < 0) {
        goto done;
    }
    result = PyObject_CallMethod(unpickler, "load", NULL);
done:
    Py_XDECREF(unpickler);
    Py_XDECREF(file);
    Py_XDECREF(file_type);
    Py_XDECREF(class);
    return result;
}

APART PyObject *mcx_unpickle(mcx_call *call, mc_slice text, PyObject *body)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *bytes = NULL;
    PyObject *loads;
    PyObject *result = NULL;
    int has_load;

    if (text.length == MCX_EMPTY.length && mcx_begins_empty(text)) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    if (!snapshot->allow_pickle) {
        return mcx_give_up(call, "Pickle error: %s\n", "allow_pickle is False");
    }
    bytes = mcx_view_bytes(text, body);
    if (bytes == NULL) {
        goto done;
    }
    has_load = is_truthy(snapshot->options[MCX_OPT_PERSISTENT_LOAD]);
    if (has_load < 0) {
        goto done;
    }
    /* What it calls may call this client, without a frame of Python's in between. */
    if (Py_EnterRecursiveCall(" while unpickling a value")) {
        goto done;
    }
    if (LIKELY(!has_load && snapshot->options[MCX_OPT_UNPICKLER] == NULL)) {
        loads = pickle_function(&call->module->pickle_loads, "loads");
        if (loads != NULL) {
            result = PyObject_CallOneArg(loads, bytes);
        }
    }
    else {
        result = load_value(snapshot, bytes, has_load);
    }
    Py_LeaveRecursiveCall();
done:
    Py_XDECREF(bytes);
    if (UNLIKELY(result == NULL) && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        /* A pickle can ask for any amount of memory: that is its fault, not this process's. */
        PyErr_SetString(PyExc_ValueError, "the pickle asks for more memory than there is");
    }
    return LIKELY(result != NULL) ? result : mcx_forgive(call, "Pickle error: %S\n");
}
