#include "watch.h"

#include "core/net/process.h"

#include "compat.h"
#include "shared.h"

/* A new reference, or NULL. */
static PyObject *current(mcx_shared *shared)
{
    PyObject *watch;

    Py_BEGIN_CRITICAL_SECTION(shared);
    watch = Py_XNewRef(shared->watch);
    Py_END_CRITICAL_SECTION();
    return watch;
}

/* It was told in this process: no call needs to begin with it, unless it is another one by now. */
static void note_told(mcx_shared *shared, const PyObject *watch)
{
    Py_BEGIN_CRITICAL_SECTION(shared);
    if (shared->watch == watch) {
        atomic_store_explicit(&shared->watched_in, mc_process_generation(), memory_order_release);
    }
    Py_END_CRITICAL_SECTION();
}

int mcx_watch_ready(mcx_shared *shared, PyObject *client)
{
    PyObject *watch = current(shared);
    PyObject *told;

    if (watch == NULL) {
        return 0;
    }
    told = PyObject_CallMethod(watch, "ready", "O", client);
    if (told != NULL) {
        note_told(shared, watch);
        Py_DECREF(told);
    }
    Py_DECREF(watch);
    return told == NULL ? -1 : 0;
}

int mcx_watch_hint(mcx_shared *shared)
{
    PyObject *watch = current(shared);
    PyObject *told = watch ? PyObject_CallMethod(watch, "hint", NULL) : NULL;
    int result = watch != NULL && told == NULL ? -1 : 0;

    Py_XDECREF(told);
    Py_XDECREF(watch);
    return result;
}

PyObject *mcx_watch_why(mcx_shared *shared)
{
    PyObject *watch = current(shared);
    PyObject *why = watch ? PyObject_GetAttrString(watch, "why") : NULL;

    Py_XDECREF(watch);
    if (why != NULL && (!PyUnicode_Check(why) || PyUnicode_GET_LENGTH(why) == 0)) {
        Py_CLEAR(why);
    }
    return why;
}

static void swap(mcx_shared *shared, PyObject *watch, PyObject **old)
{
    Py_BEGIN_CRITICAL_SECTION(shared);
    *old = shared->watch;
    __atomic_store_n(&shared->watch, Py_XNewRef(watch), __ATOMIC_RELEASE);
    atomic_store(&shared->watched_in, 0);
    Py_END_CRITICAL_SECTION();
}

static int no_change(mcx_module *module, mcx_snapshot *snapshot, const void *unused)
{
    (void)module;
    (void)snapshot;
    (void)unused;
    return 0;
}

int mcx_watch_set(mcx_shared *shared, PyObject *watch, PyObject **old)
{
    PyObject *refused;

    swap(shared, watch, old);
    /* A call looks at it where its snapshot is a new one (judge in call.c). */
    if (mcx_shared_change(shared, no_change, NULL) == 0) {
        return 0;
    }
    swap(shared, *old, &refused);
    Py_XDECREF(refused);
    Py_CLEAR(*old);
    return -1;
}
