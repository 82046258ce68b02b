/* client_attributes: the attributes of Client: its options, its lists of servers, and what is each
 * thread's own. */
#include "client_attributes.h"

#include <string.h>

#include "options.h"
#include "record.h"
#include "shared.h"
#include "state.h"

/* ---- of all threads ------------------------------------------------------------------------- */

static PyObject *get_shared(PyObject *self, void *closure)
{
    mcx_attribute *attribute = closure;
    mcx_shared *shared = mcx_shared_of(attribute->module, self);
    PyObject *value = NULL;

    if (shared == NULL) {
        return NULL;
    }
    mcx_snapshot *snapshot = mcx_shared_enter(shared);

    if ((snapshot->deleted >> attribute->number) & 1) {
        PyErr_SetString(PyExc_AttributeError, attribute->name);
    }
    else if (attribute->number < MCX_OPTION_COUNT) {
        value = mcx_option_value(attribute->module, snapshot, attribute->number);
    }
    else {
        value = Py_NewRef(attribute->number == MCX_SERVERS ? snapshot->servers : snapshot->buckets);
    }
    mcx_shared_leave(snapshot);
    return value;
}

typedef struct {
    const mcx_attribute *attribute;
    PyObject *value;
} assignment;

/* value NULL: there is no such attribute until it is assigned again; calls go on with what it was.
 */
static int assign(mcx_module *module, mcx_snapshot *snapshot, const void *context)
{
    const assignment *given = context;
    int number = given->attribute->number;

    if (given->value == NULL) {
        snapshot->deleted |= UINT32_C(1) << number;
        return 0;
    }
    switch (number) {
    case MCX_SERVERS:
        return mcx_snapshot_set_servers(module, snapshot, given->value);
    case MCX_BUCKETS:
        return mcx_snapshot_set_buckets(module, snapshot, given->value);
    default:
        return mcx_option_set(module, snapshot, number, given->value);
    }
}

static int set_shared(PyObject *self, PyObject *value, void *closure)
{
    assignment given = {closure, value};
    mcx_shared *shared = mcx_shared_of(given.attribute->module, self);

    if (shared != NULL && given.attribute->number >= MCX_OPTION_COUNT && value != NULL &&
        (PyUnicode_Check(value) || PyBytes_Check(value))) {
        PyErr_Format(PyExc_TypeError, "%s must be a list of hosts", given.attribute->name);
        return -1;
    }
    return shared ? mcx_shared_change(shared, assign, &given) : -1;
}

/* ---- of each thread ------------------------------------------------------------------------- */

static PyObject *get_own(PyObject *self, void *closure)
{
    mcx_attribute *attribute = closure;
    mcx_shared *shared = mcx_shared_of(attribute->module, self);
    mcx_record *record = shared ? mcx_record_of(attribute->module, shared, self) : NULL;
    PyObject *value = NULL;

    if (record == NULL) {
        return NULL;
    }
    if (attribute->number == MCX_STATS ? record->stats_deleted : record->cas_ids_deleted) {
        PyErr_SetString(PyExc_AttributeError, attribute->name);
    }
    else if (attribute->number == MCX_STATS) {
        value = mcx_record_stats(attribute->module, record);
    }
    else {
        record->cas_ids = record->cas_ids ? record->cas_ids : PyDict_New();
        value = Py_XNewRef(record->cas_ids);
    }
    Py_DECREF(record);
    return value;
}

static int set_own(PyObject *self, PyObject *value, void *closure)
{
    mcx_attribute *attribute = closure;
    mcx_shared *shared = mcx_shared_of(attribute->module, self);
    mcx_record *record = shared ? mcx_record_of(attribute->module, shared, self) : NULL;

    if (record == NULL) {
        return -1;
    }
    if (attribute->number == MCX_STATS) {
        memset(record->counts, 0, sizeof record->counts);
        record->stats_deleted = value == NULL;
        Py_XSETREF(record->stats, Py_XNewRef(value));
    }
    else {
        record->cas_ids_deleted = value == NULL;
        Py_XSETREF(record->cas_ids, Py_XNewRef(value));
    }
    Py_DECREF(record);
    return 0;
}

/* ---- adding them ---------------------------------------------------------------------------- */

/* Behind the options, from MCX_STATS on. */
static const PyGetSetDef others[] = {
    {"stats", get_own, set_own, "How often this thread sent each command.", NULL},
    {"cas_ids", get_own, set_own, "This thread's cas tokens, by key, as bytes.", NULL},
    {"servers", get_shared, set_shared, "The servers, a list of _Host; assign to change it.", NULL},
    {"buckets", get_shared, set_shared, "Each server as often as its weight.", NULL},
};

int mcx_add_attributes(mcx_module *module)
{
    int result = 0;

    for (int i = 0; result == 0 && i < MCX_ATTRIBUTE_COUNT; i++) {
        mcx_attribute *attribute = &module->attributes[i];
        PyGetSetDef *definition = &module->getset[i];

        *definition = i < MCX_OPTION_COUNT ? (PyGetSetDef){mcx_option_attribute(i), get_shared,
                                                           set_shared, NULL, NULL}
                                           : others[i - MCX_STATS];
        *attribute = (mcx_attribute){module, definition->name, i};
        definition->closure = attribute;
        result = mcx_add_to_client(module, definition->name,
                                   PyDescr_NewGetSet(module->client_type, definition));
    }
    return result;
}
