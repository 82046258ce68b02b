/* record: what one thread has of a client: its stats, its cas tokens, and by way of a record of
 * which clients the thread knows its connections. */
#include "record.h"

#include <string.h>

#include "core/fleet/pool.h"

#include "call.h"
#include "compat.h"
#include "shared.h"
#include "state.h"

/* ---- what a thread remembers ---------------------------------------------------------------- */

/* What a thread remembers: its records of the clients it used last, by the shared object's id,
 * which is never used twice. A record is the thread's own dict's, so it is there as long as the
 * thread and the client are, unless that dict is emptied; then the record's end is noticed: by the
 * thread itself, or, where another one empties it, by `lost`, which then differs. */
#define REMEMBERED 4

static _Thread_local struct {
    uint64_t lost; /* of all threads, when the first of these was remembered */
    struct {
        uint64_t shared_id;
        mcx_record *record;
    } last[REMEMBERED];
} own;

/* How many remembered records ended in another thread. */
static _Atomic uint64_t lost;

static mcx_record *last_record(const mcx_shared *shared)
{
    return own.last[shared->id % REMEMBERED].shared_id == shared->id &&
                   own.lost == atomic_load_explicit(&lost, memory_order_relaxed)
               ? own.last[shared->id % REMEMBERED].record
               : NULL;
}

static COLD void remember(const mcx_shared *shared, mcx_record *record)
{
    uint64_t now = atomic_load_explicit(&lost, memory_order_relaxed);

    if (own.lost != now) {
        memset(own.last, 0, sizeof own.last);
        own.lost = now;
    }
    own.last[shared->id % REMEMBERED].shared_id = shared->id;
    own.last[shared->id % REMEMBERED].record = record;
    record->remembered_by =
        record->remembered_by == NULL || record->remembered_by == &own ? (void *)&own : &lost;
}

/* ---- the record object ---------------------------------------------------------------------- */

static mcx_record *record_new(mcx_module *module, mcx_shared *shared)
{
    mcx_record *record = PyObject_GC_New(mcx_record, module->record_type);

    if (record != NULL) {
        memset((char *)record + sizeof(PyObject), 0, sizeof *record - sizeof(PyObject));
        record->shared_id = shared->id;
        PyObject_GC_Track(record);
    }
    return record;
}

static int record_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_record *record = (mcx_record *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(record->stats);
    Py_VISIT(record->cas_ids);
    return 0;
}

static int record_clear(PyObject *self)
{
    mcx_record *record = (mcx_record *)self;

    Py_CLEAR(record->stats);
    Py_CLEAR(record->cas_ids);
    return 0;
}

static void record_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_record *record = (mcx_record *)self;

    PyObject_GC_UnTrack(self);
    if (record->remembered_by != NULL && record->remembered_by != &own) {
        atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
    }
    else if (own.last[record->shared_id % REMEMBERED].record == record) {
        own.last[record->shared_id % REMEMBERED].shared_id = 0;
    }
    record_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot record_slots[] = {
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_traverse, record_traverse},
    {Py_tp_clear, record_clear},
    {Py_tp_doc, "What one thread has of a client."},
    {0, NULL},
};

PyType_Spec mcx_record_spec = {
    .name = "mcext._core._Record",
    .basicsize = sizeof(mcx_record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = record_slots,
};

/* A new record as the client's attribute. *kept: it is where it was found, and not where a
 * subclass's own __setattr__ puts what it is given. */
static mcx_record *put_record(mcx_module *module, mcx_shared *shared, PyObject *self, bool *kept)
{
    mcx_record *record = record_new(module, shared);
    PyObject *found = NULL;

    if (record != NULL && (PyObject_SetAttr(self, module->str_record, (PyObject *)record) < 0 ||
                           PyObject_GetOptionalAttr(self, module->str_record, &found) < 0)) {
        Py_CLEAR(record);
    }
    else {
        *kept = found == (PyObject *)record;
        Py_XDECREF(found);
    }
    return record;
}

int mcx_record_first(mcx_module *module, mcx_shared *shared, PyObject *self)
{
    bool kept;
    mcx_record *record = put_record(module, shared, self, &kept);

    if (record == NULL) {
        return -1;
    }
    record->is_first = true;
    Py_DECREF((PyObject *)record);
    return 0;
}

/* The record by way of the client's attributes: threading.local makes them this thread's, and runs
 * __init__ where the thread is new to the client. */
static mcx_record *look_up_record(mcx_module *module, mcx_shared *shared, PyObject *self,
                                  bool *kept)
{
    PyObject *found = NULL;

    *kept = true;
    if (PyObject_GetOptionalAttr(self, module->str_record, &found) < 0) {
        return NULL;
    }
    if (found != NULL && Py_IS_TYPE(found, module->record_type) &&
        ((mcx_record *)found)->shared_id == shared->id) {
        return (mcx_record *)found;
    }
    Py_CLEAR(found);
    return put_record(module, shared, self, kept);
}

mcx_record *mcx_record_of(mcx_module *module, mcx_shared *shared, PyObject *self)
{
    bool own_thread =
        module->local_is_native && Py_TYPE(self)->tp_getattro == module->client_type->tp_getattro;

    mcx_record *record = own_thread ? last_record(shared) : NULL;

    if (LIKELY(record != NULL)) {
        return (mcx_record *)Py_NewRef((PyObject *)record);
    }
    bool kept;
    record = look_up_record(module, shared, self, &kept);
    if (record != NULL && own_thread && kept) {
        remember(shared, record);
    }
    return record;
}

/* stats[name] += by */
static COLD int add_count(PyObject *stats, PyObject *name, unsigned long by)
{
    PyObject *number = PyLong_FromUnsignedLong(by);
    PyObject *old = number ? PyObject_GetItem(stats, name) : NULL;
    int result = -1;

    if (old != NULL) {
        Py_SETREF(number, PyNumber_Add(old, number));
    }
    else if (number == NULL || !PyErr_ExceptionMatches(PyExc_KeyError)) {
        goto done;
    }
    else {
        PyErr_Clear();
    }
    if (number != NULL) {
        result = PyObject_SetItem(stats, name, number);
    }
done:
    Py_XDECREF(number);
    Py_XDECREF(old);
    return result;
}

PyObject *mcx_record_stats(mcx_module *module, mcx_record *record)
{
    if (record->stats == NULL && (record->stats = PyDict_New()) == NULL) {
        return NULL;
    }
    PyObject *stats = Py_NewRef(record->stats);

    for (int what = 0; what < MCX_COUNTS; what++) {
        uint32_t count = record->counts[what];

        record->counts[what] = 0;
        if (count != 0 && add_count(stats, module->count_names[what], count) < 0) {
            Py_DECREF(stats);
            return NULL;
        }
    }
    return stats;
}

int mcx_record_count_name(mcx_module *module, mcx_record *record, PyObject *name)
{
    PyObject *stats = mcx_record_stats(module, record);
    int result = stats ? add_count(stats, name, 1) : -1;

    Py_XDECREF(stats);
    return result;
}
