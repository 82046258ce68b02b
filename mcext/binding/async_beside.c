/* async_beside: what an AsyncCache stores for itself: the number that incr makes, and the item that
 * stands for a lease where a server has no meta protocol. */
#include "core/wire/command.h"
#include "core/wire/number.h"
#include "core/wire/request.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "cache_call.h"
#include "compat.h"
#include "values.h"

/* An add of an int to key + suffix, on the key's own server, or, without one, its delete. As start;
 * None where that is too long. */
static int send_beside(mcx_acall *self, mcx_call *call, mc_slice suffix, mc_slice exptime,
                       const mcx_stored *number)
{
    mc_command command = self->verb->command;
    mcx_errand *errand = NULL;
    PyObject *owner, *name = NULL;
    mc_slice text;
    mcx_lane *lane = NULL;
    bool is_probe = false;
    int there = mcx_async_key(call, self->arguments[0], &text, &owner);

    if (there < 0) {
        return there;
    }
    if (text.length + suffix.length > MC_PROTOCOL_KEY_LENGTH) {
        Py_DECREF(owner);
        self->value = Py_NewRef(Py_None);
        return 0;
    }
    mcx_key key = {.text = text};

    there = mcx_lane_choose(self->client, call, &key, NULL, &lane, &is_probe);
    if (there > 0) {
        name = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(text.length + suffix.length));
        errand = name ? mcx_errand_new(self->client, command, mcx_acall_deadline(self)) : NULL;
        there = errand != NULL ? 1 : -1;
    }
    if (there > 0) {
        char *at = PyBytes_AS_STRING(name);

        memcpy(at, text.bytes, text.length);
        memcpy(at + text.length, suffix.bytes, suffix.length);
        text = mcx_bytes_of(name);
        if (number != NULL) {
            there = mcx_errand_store(errand, text, exptime, NULL, number);
        }
        else if (!mc_request_line(&errand->request, command, text, MCX_NOTHING, false)) {
            PyErr_NoMemory();
            there = -1;
        }
        there = there < 0 || mcx_errand_add(errand, text, name, 0, 0) < 0 ? -1 : 1;
        if (there < 0) {
            mcx_errand_free(self->client, errand);
        }
    }
    Py_DECREF(owner);
    Py_XDECREF(name);
    return there > 0 ? mcx_acall_send(self, errand, lane, is_probe, false) : there;
}

static int start_number(mcx_acall *self, mcx_call *call)
{
    mcx_stored stored = {.owner = NULL, .flags = MCX_FLAG_INTEGER};
    mcx_decimal exptime;
    uint64_t initial;

    if (mcx_cache_initial(self->arguments[1], &initial) < 0 ||
        mcx_cache_ttl(call->module, self->arguments[2], &exptime) < 0) {
        return -1;
    }
    stored.text = (mc_slice){stored.digits, mc_number_format(stored.digits, initial)};
    return send_beside(self, call, (mc_slice){"", 0}, exptime.text, &stored);
}

static int start_lease(mcx_acall *self, mcx_call *call)
{
    mcx_stored nothing = {.text = {"1", 1}, .owner = NULL, .flags = MCX_FLAG_INTEGER};
    mc_slice suffix = mcx_bytes_of(self->arguments[1]);
    char digits[MC_NUMBER_MAX_DIGITS];
    unsigned long seconds = 0;

    if (self->verb->command == MC_ADD) {
        seconds = PyLong_AsUnsignedLong(self->arguments[2]);
        if (seconds == (unsigned long)-1 && PyErr_Occurred()) {
            return -1;
        }
    }
    size_t length = mc_number_format(digits, seconds);

    return send_beside(self, call, suffix, (mc_slice){digits, length},
                       self->verb->command == MC_ADD ? &nothing : NULL);
}

static PyObject *finish(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return PyBool_FromLong(self->types[0] == MC_REPLY_STORED || self->types[0] == MC_REPLY_DELETED);
}

static const mcx_verb number_verb = {.name = "_add_number",
                                     .command = MC_ADD,
                                     .start = start_number,
                                     .finish = finish,
                                     .missed = mcx_missed_none},
                      add_verb = {.name = "_add_beside",
                                  .command = MC_ADD,
                                  .start = start_lease,
                                  .finish = finish,
                                  .raises = true},
                      delete_verb = {.name = "_delete_beside",
                                     .command = MC_DELETE,
                                     .start = start_lease,
                                     .finish = finish,
                                     .raises = true};

static PyObject *method(PyObject *self, const mcx_verb *verb, const char *format, PyObject *args)
{
    PyObject *values[3] = {NULL};

    return PyArg_ParseTuple(args, format, &values[0], &values[1], &values[2])
               ? mcx_acall_new((mcx_async *)self, verb, values, 3)
               : NULL;
}

/* _add_number(key, initial, ttl): whether it was made; None: errors="miss". */
static PyObject *async_add_number(PyObject *self, PyObject *args)
{
    return method(self, &number_verb, "OOO", args);
}

/* _add_beside(key, suffix, seconds), _delete_beside(key, suffix). */
static PyObject *async_add_beside(PyObject *self, PyObject *args)
{
    return method(self, &add_verb, "OSO", args);
}

static PyObject *async_delete_beside(PyObject *self, PyObject *args)
{
    return method(self, &delete_verb, "OS", args);
}

PyMethodDef mcx_async_beside_methods[] = {
    {"_add_number", async_add_number, METH_VARARGS, NULL},
    {"_add_beside", async_add_beside, METH_VARARGS, NULL},
    {"_delete_beside", async_delete_beside, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
