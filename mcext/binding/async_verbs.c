/* async_verbs: get, delete, touch, incr, decr, and what is asked of one server. */
#include "async_verbs.h"

#include "core/wire/command.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "cache_call.h"
#include "compat.h"
#include "faults.h"
#include "first_words.h"
#include "methods.h"
#include "retrieve.h"
#include "secret.h"
#include "state.h"

PyObject *mcx_missed_none(const mcx_acall *self)
{
    (void)self;
    return Py_None;
}

PyObject *mcx_missed_false(const mcx_acall *self)
{
    (void)self;
    return Py_False;
}

int mcx_async_place(mcx_acall *self, mcx_call *call, mcx_aplace *place)
{
    mcx_key key = {.hash = NULL};
    int there = mcx_async_key(call, self->arguments[0], &place->key, &place->owner);

    place->lane = NULL;
    place->is_probe = false;
    if (UNLIKELY(there < 0)) {
        return there;
    }
    key.text = place->key;
    there = mcx_lane_choose(self->client, call, &key, NULL, &place->lane, &place->is_probe);
    if (UNLIKELY(there <= 0)) {
        Py_CLEAR(place->owner);
    }
    return there;
}

/* ---- get ------------------------------------------------------------------------------------ */

static int send_get(mcx_acall *self, const mcx_aplace *place)
{
    mc_command command = self->verb->command;
    int64_t deadline = mcx_acall_deadline(self);
    mcx_astream *stream = mcx_lane_stream(self->client, place->lane, false);
    mcx_errand *errand = stream != NULL ? mcx_astream_gets(stream, command, deadline) : NULL;

    if (UNLIKELY(stream == NULL)) {
        return -1;
    }
    if (LIKELY(errand != NULL)) {
        Py_ssize_t slot = mcx_errand_find(errand, place->key, place->owner);

        if (slot < 0 || ((size_t)slot == errand->count &&
                         mcx_errand_add(errand, place->key, place->owner, 0, 0) < 0)) {
            return -1;
        }
        errand->bytes += place->key.length + 1;
        mcx_errand_wait(errand, (size_t)slot, self);
        stream->is_probing |= place->is_probe;
        return 1;
    }
    errand = mcx_errand_new(self->client, command, deadline);
    if (errand == NULL || mcx_errand_add(errand, place->key, place->owner, 0, 0) < 0) {
        if (errand != NULL) {
            mcx_errand_free(self->client, errand);
        }
        return -1;
    }
    return mcx_acall_send(self, errand, place->lane, place->is_probe, false);
}

int mcx_async_start_get(mcx_acall *self, mcx_call *call)
{
    mcx_aplace place;
    int there = mcx_async_place(self, call, &place);

    if (LIKELY(there > 0)) {
        there = send_get(self, &place);
        Py_DECREF(place.owner);
    }
    return there;
}

static PyObject *missed_default(const mcx_acall *self)
{
    return mcx_argument(self, 1);
}

static PyObject *finish_get(mcx_acall *self, mcx_call *call)
{
    return self->got.found ? mcx_retrieved_value(call, &self->got)
                           : Py_NewRef(mcx_argument(self, 1));
}

static const mcx_verb get_verb = {.name = "get",
                                  .command = MC_GET,
                                  .start = mcx_async_start_get,
                                  .finish = finish_get,
                                  .missed = missed_default};

static const mcx_signature get_signature = {
    .method = "get", .count = 2, .required = 1, .names = {"key", "default"}};

static PyObject *async_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    PyObject *values[2];

    return mcx_bind(&get_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_acall_new((mcx_async *)self, &get_verb, values, 2);
}

/* _gets(key): (value, token, whether it is no stub), or None. */
static PyObject *finish_gets(mcx_acall *self, mcx_call *call)
{
    mcx_retrieved *got = &self->got;
    bool is_stub;
    PyObject *value;

    if (!got->found) {
        Py_RETURN_NONE;
    }
    is_stub = got->body != NULL && mcx_is_stub(got->flags, (size_t)PyBytes_GET_SIZE(got->body));
    value = is_stub ? Py_NewRef(Py_None) : mcx_retrieved_value(call, got);
    return value ? Py_BuildValue("(NKO)", value, (unsigned long long)got->cas,
                                 is_stub ? Py_False : Py_True)
                 : NULL;
}

static const mcx_verb gets_verb = {.name = "_gets",
                                   .command = MC_GETS,
                                   .start = mcx_async_start_get,
                                   .finish = finish_gets,
                                   .raises = true};

static PyObject *async_gets(PyObject *self, PyObject *key)
{
    return mcx_acall_new((mcx_async *)self, &gets_verb, &key, 1);
}

/* ---- lines ---------------------------------------------------------------------------------- */

int mcx_async_line(mcx_acall *self, mcx_call *call, mc_command command, mc_slice argument)
{
    mcx_aplace place;
    mcx_errand *errand;
    int there = mcx_async_place(self, call, &place);

    if (UNLIKELY(there <= 0)) {
        return there;
    }
    errand = mcx_errand_line(self->client, command, mcx_acall_deadline(self), place.key,
                             place.owner, argument);
    Py_DECREF(place.owner);
    if (UNLIKELY(errand == NULL)) {
        return -1;
    }
    errand->once = self->verb->once;
    return mcx_acall_send(self, errand, place.lane, place.is_probe, false);
}

static int start_delete(mcx_acall *self, mcx_call *call)
{
    return mcx_async_line(self, call, MC_DELETE, MCX_NOTHING);
}

static int start_touch(mcx_acall *self, mcx_call *call)
{
    mcx_decimal exptime;

    return mcx_cache_ttl(call->module, self->arguments[1], &exptime) < 0
               ? -1
               : mcx_async_line(self, call, MC_TOUCH, exptime.text);
}

static PyObject *finish_found(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return PyBool_FromLong(self->types[0] != MC_REPLY_NOT_FOUND);
}

static const mcx_verb delete_verb = {.name = "delete",
                                     .command = MC_DELETE,
                                     .start = start_delete,
                                     .finish = finish_found,
                                     .missed = mcx_missed_false};
static const mcx_verb touch_verb = {.name = "touch",
                                    .command = MC_TOUCH,
                                    .start = start_touch,
                                    .finish = finish_found,
                                    .missed = mcx_missed_false};

static const mcx_signature delete_signature = {
    .method = "delete", .count = 2, .required = 1, .names = {"key", "cas"}};
static const mcx_signature touch_signature = {
    .method = "touch", .count = 2, .required = 2, .names = {"key", "ttl"}};

static PyObject *async_delete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    PyObject *values[2];

    if (mcx_cache_bind(&delete_signature, 1, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return values[1] == NULL || values[1] == Py_None
               ? mcx_acall_new((mcx_async *)self, &delete_verb, values, 1)
               : PyObject_CallMethod(self, "_delete_by_token", "OO", values[0], values[1]);
}

static PyObject *async_touch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    PyObject *values[2];

    return mcx_bind(&touch_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_acall_new((mcx_async *)self, &touch_verb, values, 2);
}

/* ---- incr, decr ----------------------------------------------------------------------------- */

static int start_arithmetic(mcx_acall *self, mcx_call *call)
{
    mcx_decimal delta = {.owner = NULL, .text = {"1", 1}};
    int there = self->arguments[1] != NULL ? mcx_cache_delta(self->arguments[1], &delta) : 0;

    if (there == 0) {
        there = mcx_async_line(self, call, self->verb->command, delta.text);
    }
    Py_XDECREF(delta.owner);
    return there;
}

static PyObject *finish_arithmetic(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return self->types[0] == MC_REPLY_NUMBER ? PyLong_FromUnsignedLongLong(self->number)
                                             : Py_NewRef(Py_None);
}

static const mcx_verb incr_verb = {.name = "incr",
                                   .command = MC_INCR,
                                   .start = start_arithmetic,
                                   .finish = finish_arithmetic,
                                   .missed = mcx_missed_none};
static const mcx_verb decr_verb = {.name = "decr",
                                   .command = MC_DECR,
                                   .start = start_arithmetic,
                                   .finish = finish_arithmetic,
                                   .missed = mcx_missed_none};

#define SIGNATURE(name)                                                                            \
    {                                                                                              \
        .method = (name), .count = 4, .required = 1, .names = { "key", "delta", "initial", "ttl" } \
    }

static const mcx_signature incr_signature = SIGNATURE("incr"), decr_signature = SIGNATURE("decr");

static PyObject *arithmetic_method(PyObject *self, const mcx_verb *verb,
                                   const mcx_signature *signature, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[4];

    if (mcx_cache_bind(signature, 2, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    for (int i = 2; i < 4; i++) { /* ttl is looked at, too */
        if (values[i] != NULL && values[i] != Py_None) {
            return PyObject_CallMethod(self, "_count", "sOOOO", verb->name, values[0],
                                       values[1] != NULL ? values[1] : Py_None,
                                       values[2] != NULL ? values[2] : Py_None,
                                       values[3] != NULL ? values[3] : Py_None);
        }
    }
    return mcx_acall_new((mcx_async *)self, verb, values, 2);
}

static PyObject *async_incr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    return arithmetic_method(self, &incr_verb, &incr_signature, args, nargs, kwnames);
}

static PyObject *async_decr(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    return arithmetic_method(self, &decr_verb, &decr_signature, args, nargs, kwnames);
}

/* ---- one server ----------------------------------------------------------------------------- */

/* arguments: the server, and what stands behind the command: str, or None. */
int mcx_async_start_server(mcx_acall *self, mcx_call *call)
{
    mc_command command = self->verb->command;
    PyObject *text = mcx_argument(self, 1);
    mc_slice argument = MCX_NOTHING;
    mcx_errand *errand;
    Py_ssize_t length;
    bool is_probe;
    int there;

    if (!mcx_is_server(call->module, self->arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "a _Server is needed");
        return -1;
    }
    if (text != Py_None) {
        argument.bytes = PyUnicode_AsUTF8AndSize(text, &length);
        if (argument.bytes == NULL) {
            return -1;
        }
        argument.length = (size_t)length;
    }
    call->host = (mcx_server *)self->arguments[0];
    there = mcx_lane_check(call, call->host, &is_probe);
    if (there <= 0) {
        return there;
    }
    errand = mcx_errand_line(self->client, command, mcx_acall_deadline(self), MCX_NOTHING, NULL,
                             argument);
    if (errand == NULL) {
        return -1;
    }
    errand->once = self->verb->once;
    return mcx_acall_send(self, errand, mcx_lane_of(self->client, call->host), is_probe, false);
}

static PyObject *finish_stats(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return self->value != NULL ? Py_NewRef(self->value) : PyDict_New();
}

static PyObject *finish_server(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return self->value != NULL ? Py_NewRef(self->value) : Py_NewRef(Py_None);
}

static const mcx_verb version_verb = {.name = "_version",
                                      .command = MC_VERSION,
                                      .start = mcx_async_start_server,
                                      .finish = finish_server,
                                      .raises = true};
static const mcx_verb flush_verb = {.name = "_flush_all",
                                    .command = MC_FLUSH_ALL,
                                    .start = mcx_async_start_server,
                                    .finish = finish_server,
                                    .raises = true};
static const mcx_verb stats_verb = {.name = "_stats",
                                    .command = MC_STATS,
                                    .start = mcx_async_start_server,
                                    .finish = finish_stats,
                                    .raises = true};

static PyObject *async_version(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &version_verb, "O|O", args);
}

static PyObject *async_flush_all(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &flush_verb, "O|O", args);
}

static PyObject *async_stats(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &stats_verb, "O|O", args);
}

/* ---- the first words ------------------------------------------------------------------------ */

/* arguments: the stream. */
static int start_greeting(mcx_acall *self, mcx_call *call)
{
    static const mc_slice key = {"auth", 4};
    mcx_astream *stream = (mcx_astream *)self->arguments[0];
    mcx_words words;
    mcx_errand *errand;
    PyObject *bytes;

    call->host = stream->host;
    if (mcx_words_begin(stream->host, &words) < 0) {
        return -1;
    }
    if (words.data.length == 0 || words.refused != NULL) {
        self->value = words.refused == NULL
                          ? Py_NewRef(Py_None)
                          : PyTuple_Pack(2, words.refused, words.cause ? words.cause : Py_None);
        mcx_words_end(&words);
        return self->value == NULL ? -1 : 0;
    }
    if (stream->write == NULL) { /* it has ended meanwhile, which who opens it finds */
        mcx_words_end(&words);
        self->value = Py_NewRef(Py_None);
        return 0;
    }
    errand = mcx_errand_new(self->client, MC_SET, mcx_acall_deadline(self));
    if (errand == NULL || mcx_errand_add(errand, key, NULL, 0, 0) < 0) {
        if (errand != NULL) {
            mcx_errand_free(self->client, errand);
        }
        mcx_words_end(&words);
        return -1;
    }
    errand->once = errand->is_greeting = true;
    bytes = mcx_words_bytes(&words);
    mcx_words_end(&words);
    if (bytes == NULL) {
        mcx_errand_free(self->client, errand);
        return -1;
    }
    mcx_errand_wait(errand, 0, self);
    mcx_astream_expect(stream, errand);
    PyObject *written = PyObject_CallOneArg(stream->write, bytes);

    mcx_secret_drop_bytes(bytes);
    Py_XDECREF(written);
    return written == NULL ? -1 : 1;
}

static PyObject *finish_greeting(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return self->words != NULL ? Py_BuildValue("(sO)", self->words, Py_None) : Py_NewRef(Py_None);
}

static const mcx_verb greeting_verb = {.name = "_greet",
                                       .command = MC_SET,
                                       .greets = true,
                                       .start = start_greeting,
                                       .finish = finish_greeting,
                                       .raises = true,
                                       .missed = mcx_missed_none};

/* _greet(stream): says name and password on one that is being opened, where there are any. None; or
 * (why not, the exception behind that or None). */
static PyObject *async_greet(PyObject *object, PyObject *stream)
{
    mcx_async *self = (mcx_async *)object;

    if (!PyObject_TypeCheck(stream, self->module->astream_type) ||
        ((mcx_astream *)stream)->host == NULL) {
        PyErr_SetString(PyExc_TypeError, "a stream is needed");
        return NULL;
    }
    return mcx_acall_new(self, &greeting_verb, &stream, 1);
}

PyMethodDef mcx_async_methods[] = {
    MCX_DEF("get", async_get,
            "get($self, key, default=None)\n--\n\n"
            "Awaitable: fetch the value of key; see Cache.get.\n\n"
            "All single gets of one turn of the loop go to a server in one line."),
    MCX_DEF("delete", async_delete,
            "delete($self, key, *, cas=None)\n--\n\nAwaitable: delete key; see Cache.delete."),
    MCX_DEF("touch", async_touch,
            "touch($self, key, ttl)\n--\n\n"
            "Awaitable: set a new time to live for key; see Cache.touch."),
    MCX_DEF("incr", async_incr,
            "incr($self, key, delta=1, *, initial=None, ttl=None)\n--\n\n"
            "Awaitable: add delta to the number stored under key; see Cache.incr.\n\n"
            "A call that is cancelled may have been carried out."),
    MCX_DEF("decr", async_decr,
            "decr($self, key, delta=1, *, initial=None, ttl=None)\n--\n\n"
            "Awaitable: subtract delta from the number stored under key; see Cache.decr.\n\n"
            "A call that is cancelled may have been carried out."),
    {"_gets", async_gets, METH_O, NULL},
    {"_greet", async_greet, METH_O, NULL},
    {"_version", async_version, METH_VARARGS, NULL},
    {"_flush_all", async_flush_all, METH_VARARGS, NULL},
    {"_stats", async_stats, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
