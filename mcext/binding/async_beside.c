/* async_beside: what an AsyncCache stores for itself: the number that incr makes, and the item that
 * stands for a lease where a server has no meta protocol. */
#include "core/fleet/server.h"
#include "core/wire/command.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "cache_call.h"
#include "compat.h"
#include "values.h"

/* The add of an int, or, without one, a delete. NULL with MemoryError. */
static mcx_errand *lay_out(mcx_acall *self, mc_slice key, PyObject *owner, mc_slice exptime,
                           const mcx_stored *number)
{
    mc_command command = self->verb->command;
    int64_t deadline = mcx_acall_deadline(self);
    mcx_errand *errand;

    if (number == NULL) {
        return mcx_errand_line(self->client, command, deadline, key, owner, MCX_NOTHING);
    }
    errand = mcx_errand_new(self->client, command, deadline);
    if (errand != NULL && (mcx_errand_store(errand, key, exptime, NULL, number) < 0 ||
                           mcx_errand_add(errand, key, owner, 0, 0) < 0)) {
        mcx_errand_free(self->client, errand);
        errand = NULL;
    }
    return errand;
}

/* The same to key + suffix, which self->value then is, on the key's own server. As start; None
 * where that is too long. */
static int send_beside(mcx_acall *self, mcx_call *call, mc_slice suffix, mc_slice exptime,
                       const mcx_stored *number)
{
    mcx_errand *errand = NULL;
    PyObject *name = NULL;
    mcx_aplace place;
    int there = mcx_async_place(self, call, &place);

    if (there <= 0) {
        return there;
    }
    if (place.key.length + suffix.length > MC_PROTOCOL_KEY_LENGTH) {
        if (place.is_probe) {
            mc_server_give_up_probe(&place.lane->host->server);
        }
        Py_DECREF(place.owner);
        self->value = Py_NewRef(Py_None);
        return 0;
    }
    name = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(place.key.length + suffix.length));
    if (name != NULL) {
        char *at = PyBytes_AS_STRING(name);

        memcpy(at, place.key.bytes, place.key.length);
        memcpy(at + place.key.length, suffix.bytes, suffix.length);
        errand = lay_out(self, mcx_bytes_of(name), name, exptime, number);
        self->value = name;
    }
    Py_DECREF(place.owner);
    return errand != NULL ? mcx_acall_send(self, errand, place.lane, place.is_probe, false) : -1;
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
                                  .raises = true,
                                  .gives_back = true},
                      delete_verb = {.name = "_delete_beside",
                                     .command = MC_DELETE,
                                     .start = start_lease,
                                     .finish = finish,
                                     .raises = true,
                                     .ends_lease = true};

/* _add_number(key, initial, ttl): whether it was made; None: errors="miss". */
static PyObject *async_add_number(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &number_verb, "OOO", args);
}

/* _add_beside(key, suffix, seconds), _delete_beside(key, suffix). */
static PyObject *async_add_beside(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &add_verb, "OSO", args);
}

static PyObject *async_delete_beside(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &delete_verb, "OS", args);
}

PyMethodDef mcx_async_beside_methods[] = {
    {"_add_number", async_add_number, METH_VARARGS, NULL},
    {"_add_beside", async_add_beside, METH_VARARGS, NULL},
    {"_delete_beside", async_delete_beside, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
