/* async_store: set, add, replace, append, prepend of an AsyncCache. */
#include "core/wire/command.h"
#include "core/wire/request.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "cache_call.h"
#include "cache_store.h"
#include "cache_values.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"

/* A value from which on small calls should not stand behind it. */
#define BIG ((size_t)65536)

enum {
    KEY,
    VALUE,
    TTL,
    CAS,
    NOREPLY
};

/* A value that is too large is not sent, and where it was to replace one, that goes. As start. */
static int refuse(mcx_acall *self, mcx_call *call, mc_command command)
{
    if (mcx_fault_too_large(call, NULL, self->arguments[KEY]) < 0) {
        return -1;
    }
    if (!mcx_store_replaces(command)) {
        return 0;
    }
    /* The fault is told when the old value is gone. */
    PyObject *noted = call->faults;
    int there;

    call->faults = NULL;
    self->fault =
        (mcx_afault){.name = "ValueTooLarge",
                     .text = PyObject_GetAttrString(PyList_GET_ITEM(noted, 0), "message")};
    there = self->fault.text != NULL ? mcx_async_line(self, call, MC_DELETE, MCX_NOTHING) : -1;
    if (there == 0) {
        Py_XSETREF(call->faults, Py_NewRef(noted));
    }
    Py_DECREF(noted);
    return there;
}

/* What noreply=True does not wait for. */
static int let_go(mcx_acall *self, mcx_errand *errand, const mcx_aplace *place, bool is_big)
{
    errand->is_unwatched = true;
    if (mcx_acall_send(self, errand, place->lane, place->is_probe, is_big) < 0) {
        return -1;
    }
    self->value = Py_NewRef(Py_True);
    return 0;
}

static int send(mcx_acall *self, mcx_call *call, const mcx_store_order *what, mc_slice exptime,
                mcx_stored *stored)
{
    const uint64_t *token = what->has_token ? &what->token : NULL;
    bool is_big = stored->text.length >= BIG, laid;
    mcx_errand *errand;
    mcx_aplace place;
    int there = mcx_async_place(self, call, &place);

    if (UNLIKELY(there <= 0)) {
        return there;
    }
    errand = mcx_errand_new(self->client, what->command, mcx_acall_deadline(self));
    laid = errand != NULL && mcx_errand_store(errand, place.key, exptime, token, stored) == 0 &&
           mcx_errand_add(errand, place.key, place.owner, 0, 0) == 0;
    Py_DECREF(place.owner);
    if (UNLIKELY(!laid)) {
        if (errand != NULL) {
            mcx_errand_free(self->client, errand);
        }
        return -1;
    }
    return what->noreply ? let_go(self, errand, &place, is_big)
                         : mcx_acall_send(self, errand, place.lane, place.is_probe, is_big);
}

static int start_store(mcx_acall *self, mcx_call *call)
{
    mcx_store_order what = {.command = self->verb->command};
    PyObject *value = self->arguments[VALUE];
    mcx_decimal exptime;
    mcx_stored stored;
    mcx_cache_key key;
    int kept;

    if (mcx_store_read(self->arguments[CAS], self->arguments[NOREPLY], &what) < 0 ||
        mcx_cache_ttl(call->module, self->arguments[TTL], &exptime) < 0 ||
        mcx_cache_key_of(call, self->arguments[KEY], &key) < 0) {
        return -1;
    }
    mcx_key_clear(&key.key);
    call->command = what.command;
    kept = mcx_cache_store_info(call, value,
                                what.command != MC_APPEND && what.command != MC_PREPEND, &stored);
    if (LIKELY(kept > 0)) {
        if (stored.owner == NULL && PyBytes_CheckExact(value) &&
            stored.text.bytes == PyBytes_AS_STRING(value)) {
            stored.owner = Py_NewRef(value); /* a large one is sent from where it is */
        }
        kept = send(self, call, &what, exptime.text, &stored);
    }
    else if (kept == 0) {
        kept = refuse(self, call, what.command);
    }
    mcx_stored_clear(&stored);
    return kept;
}

static PyObject *finish_store(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return PyBool_FromLong(self->types[0] == MC_REPLY_STORED);
}

#define VERB(method, what)                                                                         \
    {                                                                                              \
        .name = (method), .command = (what), .start = start_store, .finish = finish_store,         \
        .missed = mcx_missed_false                                                                 \
    }

static const mcx_verb set_verb = VERB("set", MC_SET), add_verb = VERB("add", MC_ADD),
                      replace_verb = VERB("replace", MC_REPLACE),
                      append_verb = VERB("append", MC_APPEND),
                      prepend_verb = VERB("prepend", MC_PREPEND);

static const mcx_verb swap_verb = {.name = "_swap",
                                   .command = MC_SET,
                                   .start = start_store,
                                   .finish = finish_store,
                                   .raises = true};

static const mcx_signature set_signature = {
    .method = "set", .count = 5, .required = 2, .names = {"key", "value", "ttl", "cas", "noreply"}};

static PyObject *async_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    PyObject *values[5];

    return mcx_cache_bind(&set_signature, 3, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_acall_new((mcx_async *)self, &set_verb, values, 5);
}

/* _swap(key, value, ttl, token or ABSENT). Raises whatever errors says. */
static PyObject *async_swap(PyObject *self, PyObject *args)
{
    PyObject *values[5] = {NULL};

    return PyArg_ParseTuple(args, "OOOO", &values[KEY], &values[VALUE], &values[TTL], &values[CAS])
               ? mcx_acall_new((mcx_async *)self, &swap_verb, values, 5)
               : NULL;
}

static PyObject *storage_method(PyObject *self, const mcx_verb *verb, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames)
{
    mcx_signature signature = {.method = verb->name,
                               .count = 4,
                               .required = 2,
                               .names = {"key", "value", "ttl", "noreply"}};
    PyObject *values[5] = {NULL};

    if (mcx_cache_bind(&signature, 3, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    values[NOREPLY] = values[3];
    values[CAS] = NULL;
    return mcx_acall_new((mcx_async *)self, verb, values, 5);
}

static PyObject *async_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    return storage_method(self, &add_verb, args, nargs, kwnames);
}

static PyObject *async_replace(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return storage_method(self, &replace_verb, args, nargs, kwnames);
}

static PyObject *async_append(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    return storage_method(self, &append_verb, args, nargs, kwnames);
}

static PyObject *async_prepend(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    return storage_method(self, &prepend_verb, args, nargs, kwnames);
}

#define OTHER "($self, key, value, ttl=None, *, noreply=False)\n--\n\n"

PyMethodDef mcx_async_store_methods[] = {
    MCX_DEF("set", async_set,
            "set($self, key, value, ttl=None, *, cas=None, noreply=False)\n--\n\n"
            "Awaitable: store value under key; see Cache.set.\n\n"
            "The value is encoded when the call is first run. A call that is cancelled may have "
            "been\ncarried out."),
    MCX_DEF("add", async_add,
            "add" OTHER "Awaitable: store value only where there is none; see Cache.add."),
    MCX_DEF("replace", async_replace,
            "replace" OTHER "Awaitable: store value only where there is one; see Cache.replace."),
    MCX_DEF("append", async_append,
            "append" OTHER "Awaitable: add value behind the one that is there; see Cache.append."),
    MCX_DEF("prepend", async_prepend,
            "prepend" OTHER
            "Awaitable: add value before the one that is there; see Cache.prepend."),
    {"_swap", async_swap, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
