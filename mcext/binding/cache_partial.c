#include "cache_partial.h"

#include "core/wire/command.h"

#include "call.h"
#include "compat.h"
#include "faults.h"
#include "multi.h"
#include "state.h"

static bool is_done(const mcx_multi *all, size_t number)
{
    const mcx_item *item = &all->items[number];

    if (all->command == MC_SET) {
        return item->stored;
    }
    if (mcx_multi_reads(all) && all->items[mcx_standing_of(all, number)].found_by != 0) {
        return true;
    }
    return item->leg != 0 && !all->legs[item->leg - 1]->failed;
}

/* The caller's keys that were not done: a new list. */
static PyObject *list_undone(mcx_multi *all)
{
    PyObject *list = all->undone != NULL ? Py_NewRef(all->undone) : PyList_New(0);

    for (size_t i = 0; list != NULL && i < all->count; i++) {
        if (!is_done(all, i) && PyList_Append(list, all->items[i].object) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static int may_have_run(PyObject *error)
{
    PyObject *value = PyObject_GetAttrString(error, "may_have_run");
    int result = value != NULL ? PyObject_IsTrue(value) : -1;

    Py_XDECREF(value);
    return result;
}

/* Whether errors has one of that server that may have run, where this one has not: it stays, for it
 * is of other keys. -1 with an exception. */
static int says_more(PyObject *errors, PyObject *server, PyObject *error)
{
    PyObject *other = PyDict_GetItemWithError(errors, server); /* borrowed */
    int other_may;

    if (other == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(other);
    other_may = may_have_run(other);
    Py_DECREF(other);
    if (other_may <= 0) {
        return other_may;
    }
    int may = may_have_run(error);

    return may < 0 ? -1 : !may;
}

/* {server: the last that failed there} */
static PyObject *errors_by_server(PyObject *faults)
{
    PyObject *errors = PyDict_New();

    for (Py_ssize_t i = 0; errors != NULL && i < PyList_GET_SIZE(faults); i++) {
        PyObject *error = PyList_GET_ITEM(faults, i);
        PyObject *server = PyObject_GetAttrString(error, "server");

        int stays = server != NULL ? says_more(errors, server, error) : -1;

        if (stays < 0 || (stays == 0 && PyDict_SetItem(errors, server, error) < 0)) {
            Py_CLEAR(errors);
        }
        Py_XDECREF(server);
    }
    return errors;
}

static int tell_events(mcx_call *call, size_t keys)
{
    int result = 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(call->faults); i++) {
        result = mcx_event(call, "error", NULL, PyList_GET_ITEM(call->faults, i), keys);
    }
    return result;
}

/* PartialFailure with the result, by the undone keys: always -1. */
static int raise_partial(mcx_call *call, PyObject *result, PyObject *undone)
{
    PyObject *errors = errors_by_server(call->faults);
    PyObject *function = errors ? mcx_import("mcext.errors", "partial_failure") : NULL;
    PyObject *error = function
                          ? PyObject_CallFunction(function, "sOOO", mcx_command_name(call->command),
                                                  result, errors, undone)
                          : NULL;

    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(errors);
    Py_XDECREF(function);
    Py_XDECREF(error);
    return -1;
}

PyObject *mcx_partial_judge(mcx_call *call, PyObject *result, PyObject *undone)
{
    size_t keys = (size_t)PyList_GET_SIZE(undone);

    if (UNLIKELY(keys != 0) && (mcx_fault_nobody(call) < 0 || tell_events(call, keys) < 0 ||
                                (call->raises && raise_partial(call, result, undone) < 0))) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *mcx_multi_judge(mcx_multi *all, PyObject *result)
{
    mcx_call *call = all->call;
    bool may_have_failed = all->command == MC_SET || call->faults != NULL || all->failed ||
                           call->snapshot->bucket_count == 0;
    PyObject *undone;

    if (LIKELY(!may_have_failed) || (result == NULL && PyErr_Occurred())) {
        return result;
    }
    undone = list_undone(all);
    if (undone == NULL) {
        Py_XDECREF(result);
        return NULL;
    }
    if (result == NULL) {
        result = Py_NewRef(undone);
    }
    result = mcx_partial_judge(call, result, undone);
    Py_DECREF(undone);
    return result;
}
