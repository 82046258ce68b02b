/* shared: what the threads of a client share: its snapshot of options and servers.
 *
 * The core is held in a slot of the client. A call takes a reference to the snapshot that is
 * current and works with it to its end; whoever changes something replaces the snapshot whole. The
 * GIL, or without one the shared object's critical section, guards both. */
#include "shared.h"
#include "core/flow/leg.h"

#include <stddef.h>
#include <string.h>

#include "core/fleet/placement.h"
#include "core/fleet/pool.h"
#include "core/net/process.h"

#include "client_attributes.h"
#include "compat.h"
#include "options.h"
#include "place.h"
#include "replaced.h"
#include "server.h"
#include "state.h"

/* ---- snapshot ------------------------------------------------------------------------------- */

static void drop_references(PyObject **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Py_XDECREF(list[i]);
    }
    PyMem_Free(list);
}

void mcx_snapshot_free(mcx_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        Py_XDECREF(snapshot->options[option]);
    }
    Py_XDECREF(snapshot->servers);
    Py_XDECREF(snapshot->buckets);
    Py_XDECREF(snapshot->table);
    drop_references(snapshot->server, snapshot->server_count);
    drop_references(snapshot->bucket, snapshot->bucket_count);
    PyMem_Free(snapshot->bucket_server);
    PyMem_Free(snapshot);
}

static PyObject **copy_references(PyObject *const *list, size_t count)
{
    PyObject **copy = PyMem_Calloc(count + 1, sizeof *copy);

    if (copy != NULL) {
        for (size_t i = 0; i < count; i++) {
            copy[i] = Py_NewRef(list[i]);
        }
    }
    return copy;
}

static mcx_snapshot *current(mcx_shared *shared)
{
    return atomic_load_explicit(&shared->snapshot, memory_order_relaxed);
}

/* A new snapshot like the current one; NULL with MemoryError. */
static mcx_snapshot *snapshot_copy(mcx_shared *shared)
{
    static const mcx_snapshot empty = {.all_hosts = true};
    mcx_snapshot *copy = PyMem_Calloc(1, sizeof *copy);
    mcx_snapshot *old;

    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    old = mcx_shared_enter(shared);
    memcpy(copy->options, (old != NULL ? old : &empty)->options,
           sizeof *copy - offsetof(mcx_snapshot, options));
    if (old == NULL) {
        mc_placement_init_nowhere(&copy->placement);
    }
    copy->references = 1;
    copy->version = old != NULL ? old->version + 1 : 0;
    copy->plain_hosts = 0;
    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        Py_XINCREF(copy->options[option]);
    }
    Py_XINCREF(copy->table);
    copy->servers = copy->servers ? Py_NewRef(copy->servers) : PyList_New(0);
    copy->buckets = copy->buckets ? Py_NewRef(copy->buckets) : PyList_New(0);
    copy->server = copy_references(copy->server, copy->server_count);
    copy->bucket = copy_references(copy->bucket, copy->bucket_count);
    copy->bucket_server = PyMem_Calloc(copy->bucket_count + 1, sizeof *copy->bucket_server);
    if (old != NULL && copy->bucket_server != NULL) {
        memcpy(copy->bucket_server, old->bucket_server,
               copy->bucket_count * sizeof *copy->bucket_server);
    }
    if (old != NULL) {
        mcx_shared_leave(old);
    }
    if (copy->servers == NULL || copy->buckets == NULL || copy->server == NULL ||
        copy->bucket == NULL || copy->bucket_server == NULL) {
        copy->server_count = copy->server == NULL ? 0 : copy->server_count;
        copy->bucket_count = copy->bucket == NULL ? 0 : copy->bucket_count;
        mcx_snapshot_free(copy);
        PyErr_NoMemory();
        return NULL;
    }
    return copy;
}

/* list(sequence). Of a list it is a slice: before 3.13, list() keeps a reference to it where memory
 * is out. */
static PyObject *copy_list(PyObject *sequence)
{
    return PyList_CheckExact(sequence) ? PyList_GetSlice(sequence, 0, PY_SSIZE_T_MAX)
                                       : PySequence_List(sequence);
}

/* A list as it was given, and what is in it now, in place of what a snapshot holds: 1 where that is
 * other than before, 0, or -1 with an exception. */
static int take_list(PyObject *given, PyObject **list, PyObject ***items, size_t *count)
{
    PyObject *now = copy_list(given);
    PyObject **copy;

    if (now == NULL) {
        return -1;
    }
    copy = copy_references(&PyList_GET_ITEM(now, 0), (size_t)PyList_GET_SIZE(now));
    if (copy == NULL) {
        Py_DECREF(now);
        PyErr_NoMemory();
        return -1;
    }
    size_t length = (size_t)PyList_GET_SIZE(now);
    bool same =
        length == *count && (length == 0 || memcmp(copy, *items, length * sizeof *copy) == 0);

    drop_references(*items, *count);
    *items = copy;
    *count = length;
    Py_SETREF(*list, Py_NewRef(PyList_CheckExact(given) ? given : now));
    Py_DECREF(now);
    return !same;
}

int mcx_snapshot_set_servers(mcx_module *module, mcx_snapshot *snapshot, PyObject *servers)
{
    if (take_list(servers, &snapshot->servers, &snapshot->server, &snapshot->server_count) < 0) {
        return -1;
    }
    snapshot->deleted &= ~(UINT32_C(1) << MCX_SERVERS);
    return mcx_snapshot_set_buckets(module, snapshot, snapshot->buckets);
}

int mcx_snapshot_set_buckets(mcx_module *module, mcx_snapshot *snapshot, PyObject *buckets)
{
    int changed =
        take_list(buckets, &snapshot->buckets, &snapshot->bucket, &snapshot->bucket_count);

    if (changed < 0 || (changed && mcx_place(module, snapshot) < 0)) {
        return -1;
    }
    uint32_t *numbers = PyMem_Calloc(snapshot->bucket_count + 1, sizeof *numbers);

    if (numbers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyMem_Free(snapshot->bucket_server);
    snapshot->bucket_server = numbers;
    snapshot->all_hosts = true;

    size_t at = 0; /* buckets of one server stand together, so look near the last one first */
    for (size_t i = 0; i < snapshot->bucket_count; i++) {
        size_t looked = 0;

        while (looked < snapshot->server_count && snapshot->server[at] != snapshot->bucket[i]) {
            at = (at + 1) % snapshot->server_count;
            looked++;
        }
        numbers[i] = (uint32_t)(looked < snapshot->server_count ? at : snapshot->server_count);
        if (!Py_IS_TYPE(snapshot->bucket[i], module->host_type)) {
            snapshot->all_hosts = false;
        }
    }
    snapshot->deleted &= ~(UINT32_C(1) << MCX_BUCKETS);
    return 0;
}

/* ---- replacing ------------------------------------------------------------------------------ */

/* In the child of a fork: calls of the parent's other threads never end here, and what they hold is
 * nobody's; a call of the thread that forked goes on and drops its own. */
void mcx_shared_start_over(mcx_shared *shared)
{
    uint32_t now = mc_process_generation();

    Py_BEGIN_CRITICAL_SECTION(shared);
    if (atomic_load_explicit(&shared->generation, memory_order_relaxed) != now) {
        mcx_snapshot *snapshot = current(shared);

        if (snapshot != NULL && !mc_process_forked_in_call()) {
            snapshot->references = 1;
        }
        /* The first call's end tells the watch, if there is one, of the new process. */
        atomic_store_explicit(&shared->next_reap, 0, memory_order_relaxed);
        atomic_store_explicit(&shared->generation, now, memory_order_relaxed);
    }
    Py_END_CRITICAL_SECTION();
}

/* The longest key that needs no more than a look; 0 where options or servers ask for more. */
static size_t plain_key_length(const mcx_snapshot *snapshot)
{
    size_t limit = (size_t)snapshot->max_key_length;

    if (!snapshot->check_keys || !snapshot->all_hosts || snapshot->bucket_count == 0 ||
        snapshot->options[MCX_OPT_KEY_ENCODER] != NULL) {
        return 0;
    }
    return limit == 0 || limit > MC_PROTOCOL_KEY_LENGTH ? MC_PROTOCOL_KEY_LENGTH : limit;
}

static bool is_among(PyObject *host, PyObject *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == host) {
            return true;
        }
    }
    return false;
}

/* What is in the old list and in neither of the new ones is used no more: its connections are
 * closed as soon as they are idle. */
static void drop_servers(mcx_module *module, PyObject *const *list, size_t count,
                         const mcx_snapshot *now)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *host = list[i];

        if ((i > 0 && host == list[i - 1]) || !mcx_is_server(module, host) ||
            (i < now->server_count && now->server[i] == host) ||
            is_among(host, now->server, now->server_count) ||
            is_among(host, now->bucket, now->bucket_count)) {
            continue;
        }
        mcx_server *server = (mcx_server *)host;

        if (server->initialised) {
            mc_pool_disconnect(&server->server.pool);
            mcx_server_close_idle(server, false);
        }
    }
}

/* Makes snapshot (stolen) the current one. False where another thread has replaced what it was
 * copied from. */
static bool core_replace(mcx_shared *shared, mcx_snapshot *snapshot)
{
    mcx_snapshot *old;
    bool fits;

    snapshot->plain_key_length = plain_key_length(snapshot);
    if (atomic_load_explicit(&shared->generation, memory_order_relaxed) !=
        mc_process_generation()) {
        mcx_shared_start_over(shared);
    }
    Py_BEGIN_CRITICAL_SECTION(shared);
    old = current(shared);
    fits = old == NULL || old->version + 1 == snapshot->version;
    if (fits) {
        snapshot->references++; /* for the look at both below, which may run Python code */
        mc_process_add_calls(1);
        atomic_store_explicit(&shared->snapshot, snapshot, memory_order_relaxed);
    }
    Py_END_CRITICAL_SECTION();
    if (!fits) {
        mcx_snapshot_drop(snapshot);
        return false;
    }
    if (old != NULL) {
        drop_servers(shared->module, old->server, old->server_count, snapshot);
        drop_servers(shared->module, old->bucket, old->bucket_count, snapshot);
        mcx_snapshot_drop(old);
    }
    mcx_shared_leave(snapshot);
    return true;
}

COLD int mcx_shared_change(mcx_shared *shared, mcx_change change, const void *context)
{
    mcx_snapshot *snapshot;

    do {
        snapshot = snapshot_copy(shared);
        if (snapshot == NULL || change(shared->module, snapshot, context) < 0) {
            mcx_snapshot_free(snapshot);
            return -1;
        }
    } while (!core_replace(shared, snapshot));
    return 0;
}

/* Whether a list that users change in place holds what was copied from it. */
static bool is_as_copied(PyObject *list, PyObject *const *copy, size_t count)
{
    bool same;

    Py_BEGIN_CRITICAL_SECTION(list);
    same = (size_t)PyList_GET_SIZE(list) == count &&
           (count == 0 || memcmp(((PyListObject *)list)->ob_item, copy, count * sizeof *copy) == 0);
    Py_END_CRITICAL_SECTION();
    return same;
}

bool mcx_lists_are_current(const mcx_snapshot *snapshot)
{
    return is_as_copied(snapshot->servers, snapshot->server, snapshot->server_count) &&
           is_as_copied(snapshot->buckets, snapshot->bucket, snapshot->bucket_count);
}

/* What is deleted stays so. */
static int take_lists(mcx_module *module, mcx_snapshot *snapshot, const void *unused)
{
    uint32_t deleted = snapshot->deleted;
    int result = mcx_snapshot_set_servers(module, snapshot, snapshot->servers);

    (void)unused;
    snapshot->deleted = deleted;
    return result;
}

int mcx_shared_take_lists(mcx_shared *shared)
{
    return mcx_shared_change(shared, take_lists, NULL);
}

/* ---- the shared object ---------------------------------------------------------------------- */

static _Atomic uint64_t next_core_id = 1;

mcx_shared *mcx_shared_new(mcx_module *module, PyObject *module_object)
{
    mcx_shared *shared = PyObject_GC_New(mcx_shared, module->shared_type);

    if (shared == NULL) {
        return NULL;
    }
    memset((char *)shared + offsetof(mcx_shared, module), 0,
           sizeof *shared - offsetof(mcx_shared, module));
    shared->module = module;
    shared->module_object = Py_NewRef(module_object);
    shared->id = atomic_fetch_add_explicit(&next_core_id, 1, memory_order_relaxed);
    atomic_init(&shared->plain_version, MCX_NO_VERSION);
    atomic_init(&shared->server_retries, 10);
    atomic_init(&shared->generation, mc_process_generation());
    PyObject_GC_Track(shared);
    return shared;
}

static int traverse_snapshot(mcx_snapshot *snapshot, visitproc visit, void *arg)
{
    for (int option = 0; option < MCX_OPTION_COUNT; option++) {
        Py_VISIT(snapshot->options[option]);
    }
    Py_VISIT(snapshot->servers);
    Py_VISIT(snapshot->buckets);
    for (size_t i = 0; i < snapshot->server_count; i++) {
        Py_VISIT(snapshot->server[i]);
    }
    for (size_t i = 0; i < snapshot->bucket_count; i++) {
        Py_VISIT(snapshot->bucket[i]);
    }
    return 0;
}

static int core_traverse(PyObject *self, visitproc visit, void *arg)
{
    mcx_shared *shared = (mcx_shared *)self;
    mcx_snapshot *snapshot = current(shared);

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(shared->module_object);
    Py_VISIT(shared->opened_with);
    Py_VISIT(shared->watch);
    if (snapshot != NULL) {
        int result = traverse_snapshot(snapshot, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int core_clear(PyObject *self)
{
    mcx_shared *shared = (mcx_shared *)self;
    mcx_snapshot *snapshot = atomic_exchange(&shared->snapshot, NULL);

    Py_CLEAR(shared->opened_with);
    Py_CLEAR(shared->watch);
    if (snapshot != NULL) {
        mcx_snapshot_drop(snapshot);
    }
    return 0;
}

static void core_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_shared *shared = (mcx_shared *)self;

    PyObject_GC_UnTrack(self);
    core_clear(self);
    Py_XDECREF(shared->module_object);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot core_slots[] = {
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_doc, "What the threads of a client share."},
    {0, NULL},
};

PyType_Spec mcx_shared_spec = {
    .name = "mcext._core._Shared",
    .basicsize = sizeof(mcx_shared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = core_slots,
};

PyObject **mcx_shared_slot(const mcx_module *module, PyObject *self)
{
    return (PyObject **)((char *)self + module->shared_offset);
}

mcx_shared *mcx_shared_of(mcx_module *module, PyObject *self)
{
    PyObject *shared = __atomic_load_n(mcx_shared_slot(module, self), __ATOMIC_ACQUIRE);

    if (UNLIKELY(shared == NULL || !Py_IS_TYPE(shared, module->shared_type) ||
                 current((mcx_shared *)shared) == NULL)) {
        PyErr_Format(PyExc_RuntimeError, "%.100s.__init__ has not been called",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    return (mcx_shared *)shared;
}
