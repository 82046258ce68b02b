#include "listing.h"

#include <string.h>

#include "core/flow/leg.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "call.h"
#include "compat.h"
#include "drive.h"
#include "faults.h"
#include "target.h"

static PyObject *text_of(mc_slice slice)
{
    return PyUnicode_DecodeUTF8(slice.bytes, (Py_ssize_t)slice.length, "replace");
}

/* dict[name][field] = value */
static int set_nested(PyObject *dict, PyObject *name, PyObject *field, PyObject *value)
{
    PyObject *inner = NULL;
    int result = -1;

    if (name == NULL || field == NULL || value == NULL) {
        return -1;
    }
    if (PyDict_GetItemRef(dict, name, &inner) < 0) {
        return -1;
    }
    if (inner == NULL || !PyDict_Check(inner)) {
        Py_XSETREF(inner, PyDict_New());
        if (inner == NULL || PyDict_SetItem(dict, name, inner) < 0) {
            goto done;
        }
    }
    result = PyDict_SetItem(inner, field, value);
done:
    Py_XDECREF(inner);
    return result;
}

static bool starts_with(mc_slice text, const char *prefix)
{
    return text.length >= strlen(prefix) && memcmp(text.bytes, prefix, strlen(prefix)) == 0;
}

int mcx_list_row(PyObject *dict, const mc_reply *reply, int shape)
{
    mc_slice name = reply->key;
    PyObject *value = text_of(reply->text);
    PyObject *outer = NULL, *field = NULL;
    int result = -1;

    if (value == NULL) {
        return -1;
    }
    if (shape == MCX_SHAPE_SLABS) { /* items:1:number */
        const char *colon = memchr(name.bytes, ':', name.length);

        if (colon != NULL) {
            name.length -= (size_t)(colon + 1 - name.bytes);
            name.bytes = colon + 1;
        }
    }
    const char *colon = name.length ? memchr(name.bytes, ':', name.length) : NULL;
    if (shape == MCX_SHAPE_STATS || colon == NULL || starts_with(name, "active_slabs") ||
        starts_with(name, "total_malloced")) {
        field = text_of(name);
        result = field ? PyDict_SetItem(dict, field, value) : -1;
    }
    else {
        mc_slice number = {name.bytes, (size_t)(colon - name.bytes)};
        mc_slice rest = {colon + 1, name.length - number.length - 1};

        outer = text_of(number);
        field = text_of(rest);
        result = set_nested(dict, outer, field, value);
    }
    Py_XDECREF(outer);
    Py_XDECREF(field);
    Py_DECREF(value);
    return result;
}

/* A row, or an error line, which a Cache tells of. */
static int take_row(mcx_call *call, mcx_target *target, const mc_leg *leg, PyObject *dict,
                    int shape)
{
    const mc_reply *reply = &leg->exchange.reply;

    if (mc_reply_is_error(reply->type)) {
        return call->cache != NULL ? mcx_fault_line(call, target->host, reply) : 0;
    }
    return mcx_list_row(dict, reply, shape);
}

PyObject *mcx_list_host(mcx_call *call, mcx_target *target, mc_slice argument, int shape)
{
    static const mc_slice none = {NULL, 0};
    PyObject *dict = PyDict_New();
    mc_leg leg;
    mc_leg_step step;

    if (dict == NULL) {
        mcx_target_end(call, target, false);
        return NULL;
    }
    mc_leg_init(&leg, MC_STATS, NULL, 1);
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    while ((step = mcx_drive(call, target, &leg)) != MC_LEG_OVER) {
        if (step == MC_LEG_PRODUCE && !(mc_leg_line(&leg, none, argument) && mc_leg_ready(&leg))) {
            mc_leg_fail(&leg, MC_NO_MEMORY);
        }
        else if (step == MC_LEG_REPLY && take_row(call, target, &leg, dict, shape) < 0) {
            mc_leg_fail(&leg, MC_RAISED);
        }
    }
    if (mcx_conclude(call, target, &leg, false) <= 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

int mcx_stats_argument(PyObject *object, const char *name, mc_slice *argument)
{
    Py_ssize_t length;

    *argument = (mc_slice){NULL, 0};
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", name,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    argument->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (argument->bytes == NULL) {
        return -1;
    }
    argument->length = (size_t)length;
    for (size_t i = 0; i < argument->length; i++) {
        unsigned char byte = (unsigned char)argument->bytes[i];

        if (byte < 0x20 || byte == 0x7f) {
            PyErr_Format(PyExc_ValueError, "%s must not hold control characters: %R", name, object);
            return -1;
        }
    }
    return 0;
}
