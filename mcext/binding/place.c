#include "place.h"

#include "core/fleet/placement.h"

#include "options.h"
#include "shared.h"
#include "state.h"
#include "table.h"

/* What was read of on_dead has to go with the placement. By default a dead server's keys walk on
 * where python-memcached's do, and else are missed, as other clients have it. */
static int place_the_dead(mcx_snapshot *snapshot)
{
    bool is_own = snapshot->options[MCX_OPT_PLACEMENT] != NULL;

    if (snapshot->options[MCX_OPT_ON_DEAD] == NULL) {
        snapshot->on_dead = is_own ? MCX_ON_DEAD_MISS : MCX_ON_DEAD_WALK;
    }
    else if (is_own && snapshot->on_dead == MCX_ON_DEAD_WALK) {
        PyErr_SetString(PyExc_ValueError,
                        "on_dead='walk' is for python-memcached's placement alone; another one "
                        "takes 'miss' or 'next'");
        return -1;
    }
    return 0;
}

/* mcext.placement's table for the buckets: a new reference. */
static PyObject *make_table(mcx_module *module, const mcx_snapshot *snapshot)
{
    PyObject *buckets = PyList_New((Py_ssize_t)snapshot->bucket_count);
    PyObject *table = NULL;

    for (size_t i = 0; buckets != NULL && i < snapshot->bucket_count; i++) {
        PyList_SET_ITEM(buckets, (Py_ssize_t)i, Py_NewRef(snapshot->bucket[i]));
    }
    if (buckets != NULL) {
        table = PyObject_CallMethod(snapshot->options[MCX_OPT_PLACEMENT], "_table", "O", buckets);
    }
    Py_XDECREF(buckets);
    if (table != NULL && (!Py_IS_TYPE(table, module->table_type) ||
                          ((mcx_table *)table)->buckets > snapshot->bucket_count)) {
        PyErr_SetString(PyExc_TypeError, "the placement has made no table for these servers");
        Py_CLEAR(table);
    }
    return table;
}

int mcx_place(mcx_module *module, mcx_snapshot *snapshot)
{
    PyObject *table = NULL;

    if (place_the_dead(snapshot) < 0) {
        return -1;
    }
    if (snapshot->bucket_count == 0) {
        mc_placement_init_nowhere(&snapshot->placement);
    }
    else if (snapshot->options[MCX_OPT_PLACEMENT] == NULL) {
        mc_placement_init_modulo(&snapshot->placement, snapshot->bucket_count, &module->hash_kind);
    }
    else {
        table = make_table(module, snapshot);
        if (table == NULL) {
            return -1;
        }
        mc_placement_init_table(&snapshot->placement, &((mcx_table *)table)->table,
                                ((mcx_table *)table)->hashes_prefix ? 0 : snapshot->prefix_length);
    }
    Py_XSETREF(snapshot->table, table);
    return 0;
}
