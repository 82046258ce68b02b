/* async_many: get_many, set_many, delete_many of an AsyncCache, and get_items by mg or gets: the
 * keys of each server as errands of their own, all under way at once. */
#include <string.h>

#include "core/fleet/server.h"
#include "core/wire/command.h"
#include "core/wire/meta.h"
#include "core/wire/request.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "cache_call.h"
#include "cache_item.h"
#include "cache_partial.h"
#include "cache_values.h"
#include "compat.h"
#include "faults.h"
#include "methods.h"
#include "values.h"

/* What one errand has at most; many of them go out together. Over TLS each is a piece of its own,
 * which older servers need (PIECE in leg.c). */
#define KEYS_AT_MOST ((size_t)256)
#define BYTES_AT_MOST ((size_t)8000)

/* A call for more keys goes where no small one stands behind it. */
#define BIG_COUNT ((size_t)256)

/* An errand that was made, and where it goes. */
typedef struct {
    mcx_errand *errand;
    mcx_lane *lane;
    bool is_probe;
} gathered;

/* The errand that takes the next key of a server, for one call while it begins. */
typedef struct {
    mcx_acall *self;
    mcx_call *call;
    gathered *made; /* in the order they were made */
    size_t count;
    mc_slice exptime;
} placing;

/* ---- the keys ------------------------------------------------------------------------------- */

static int add_key(mcx_acall *self, mcx_call *call, PyObject *object, size_t *room)
{
    mcx_many *many = self->many;
    mcx_akey *key;

    if (many->count + 1 >= *room) { /* one more, which stands for no key */
        size_t more = *room == 0 ? 16 : 2 * *room;
        mcx_akey *keys = PyMem_Realloc(many->keys, more * sizeof *keys);

        if (keys == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memset(keys + many->count, 0, (more - many->count) * sizeof *keys);
        many->keys = keys;
        *room = more;
    }
    key = &many->keys[many->count];
    if (mcx_async_key(call, object, &key->text, &key->owner) < 0) {
        return -1;
    }
    key->object = Py_NewRef(object);
    many->count++;
    return 0;
}

/* Of an iterable, or of a mapping. */
static int take_keys(mcx_acall *self, mcx_call *call)
{
    PyObject *given = self->arguments[0], *iterator, *object;
    size_t room = 0;
    int result = 0;

    if (self->verb->command == MC_SET && !PyDict_Check(given) &&
        !PyObject_HasAttrString(given, "keys")) {
        PyErr_Format(PyExc_TypeError, "mapping must be a dict, not %.200s",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    iterator = PyObject_GetIter(given);
    if (iterator == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "keys must be iterable, not %.200s",
                         Py_TYPE(given)->tp_name);
        }
        return -1;
    }
    while (result == 0 && (object = PyIter_Next(iterator)) != NULL) {
        result = add_key(self, call, object, &room);
        Py_DECREF(object);
    }
    Py_DECREF(iterator);
    return result < 0 || PyErr_Occurred() ? -1 : 0;
}

/* ---- errands -------------------------------------------------------------------------------- */

static bool is_full(const mcx_errand *errand)
{
    return errand->count >= KEYS_AT_MOST || errand->bytes >= BYTES_AT_MOST;
}

/* The errand for one more key of that lane; NULL with an exception. */
static mcx_errand *errand_for(placing *all, mcx_lane *lane, bool is_probe, mc_command command)
{
    mcx_errand *errand = lane->gathering;
    gathered *made;

    if (errand != NULL && errand->command == command && !is_full(errand)) {
        return errand;
    }
    made = PyMem_Realloc(all->made, (all->count + 1) * sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    all->made = made;
    errand = mcx_errand_new(all->self->client, command, mcx_acall_deadline(all->self));
    if (errand == NULL || mcx_errand_own(errand, all->self) < 0) {
        if (errand != NULL) {
            mcx_errand_free(all->self->client, errand);
        }
        return NULL;
    }
    made[all->count++] = (gathered){errand, lane, is_probe};
    if (command == all->self->verb->command) {
        lane->gathering = errand;
    }
    return errand;
}

/* There is no server for a key: what is known of why is kept, once for each server. */
static int keep_faults(mcx_acall *self, mcx_call *call)
{
    PyObject *found = call->faults, *noted = self->many->noted;
    int result = 0;

    call->faults = NULL;
    if (noted == NULL) {
        self->many->noted = found;
        return 0;
    }
    for (Py_ssize_t i = 0; found != NULL && result == 0 && i < PyList_GET_SIZE(found); i++) {
        PyObject *each = PyList_GET_ITEM(found, i);
        PyObject *server = PyObject_GetAttrString(each, "server");
        bool is_known = false;

        for (Py_ssize_t j = 0; server != NULL && j < PyList_GET_SIZE(noted); j++) {
            PyObject *other = PyObject_GetAttrString(PyList_GET_ITEM(noted, j), "server");

            is_known |= other != NULL && PyObject_RichCompareBool(server, other, Py_EQ) > 0;
            Py_XDECREF(other);
        }
        result = server == NULL ? -1 : is_known ? 0 : PyList_Append(noted, each);
        Py_XDECREF(server);
    }
    Py_XDECREF(found);
    return result;
}

/* Lays out the command of a key. number: of the key, or their count. */
static int put_key(placing *all, mcx_errand *errand, size_t number, mcx_akey *key,
                   const mcx_stored *stored)
{
    size_t begin = mc_buffer_length(&errand->request);
    bool laid = true;

    if (stored != NULL) {
        if (mcx_errand_store(errand, key->text, all->exptime, NULL, stored) < 0) {
            return -1;
        }
    }
    else if (!mcx_errand_reads(errand)) {
        mc_slice flags = errand->command == MC_MG ? MCX_ITEM_FLAGS : MCX_NOTHING;

        laid = mc_request_line(&errand->request, errand->command, key->text, flags, false);
    }
    if (!laid) {
        PyErr_NoMemory();
        return -1;
    }
    if (mcx_errand_add(errand, key->text, key->owner, begin, number) < 0) {
        return -1;
    }
    errand->bytes = mcx_errand_reads(errand) ? errand->bytes + key->text.length + 1
                                             : mc_buffer_length(&errand->request);
    return 0;
}

/* One key goes to its server's errand. 0 or -1. */
static int place(placing *all, size_t number, mc_command command, const mcx_stored *stored)
{
    mcx_many *many = all->self->many;
    mcx_akey *key = &many->keys[number];
    mcx_key text = {.text = key->text};
    mcx_errand *errand;
    mcx_lane *lane = NULL;
    bool is_probe = false;
    int there = mcx_lane_choose(all->self->client, all->call, &text, NULL, &lane, &is_probe);

    if (there <= 0) {
        return there < 0 ? -1 : keep_faults(all->self, all->call);
    }
    errand = errand_for(all, lane, is_probe, command);
    if (errand == NULL) {
        return -1;
    }
    return put_key(all, errand, command == all->self->verb->command ? number : many->count, key,
                   stored);
}

/* A value as it is stored; one that is too large goes to nobody, and what stands there is deleted.
 */
static int place_value(placing *all, size_t number)
{
    PyObject *value =
        PyObject_GetItem(all->self->arguments[0], all->self->many->keys[number].object);
    mcx_stored stored = {.owner = NULL};
    int kept = value != NULL ? mcx_cache_store_info(all->call, value, true, &stored) : -1;

    if (kept > 0) {
        kept = place(all, number, MC_SET, &stored);
    }
    else if (kept == 0) {
        kept = mcx_fault_too_large(all->call, NULL, all->self->many->keys[number].object) < 0 ||
                       keep_faults(all->self, all->call) < 0
                   ? -1
                   : place(all, number, MC_DELETE, NULL);
    }
    mcx_stored_clear(&stored);
    Py_XDECREF(value);
    return kept;
}

/* All that were made go on their way; or none, after an exception. */
static int send_all(placing *all, bool is_good)
{
    mcx_acall *self = all->self;
    bool is_big = self->many->count > BIG_COUNT;

    for (size_t i = 0; i < all->count; i++) {
        all->made[i].lane->gathering = NULL;
    }
    for (size_t i = 0; i < all->count; i++) {
        gathered *each = &all->made[i];
        mcx_astream *stream = is_good ? mcx_lane_stream(self->client, each->lane, is_big) : NULL;

        if (stream == NULL) {
            is_good = false;
            if (each->is_probe) {
                mc_server_give_up_probe(&each->lane->host->server);
            }
            self->many->errands--;
            mcx_errand_free(self->client, each->errand);
            continue;
        }
        stream->is_probing |= each->is_probe;
        is_good = mcx_astream_send(stream, each->errand) == 0;
    }
    PyMem_Free(all->made);
    return is_good ? 0 : -1;
}

static int place_all(placing *all)
{
    mcx_many *many = all->self->many;
    int result = 0;

    for (size_t i = 0; result == 0 && i < many->count; i++) {
        if (all->self->verb->command == MC_MG) {
            many->keys[i].reply = PyMem_Calloc(1, sizeof(mc_reply));
            if (many->keys[i].reply == NULL) {
                PyErr_NoMemory();
                return -1;
            }
        }
        result = all->self->verb->command == MC_SET ? place_value(all, i)
                                                    : place(all, i, all->self->verb->command, NULL);
    }
    return result;
}

static int start_many(mcx_acall *self, mcx_call *call)
{
    placing all = {.self = self, .call = call};
    mcx_decimal exptime;
    int result;

    self->many = mcx_many_new();
    if (self->many == NULL || mcx_cache_ttl(call->module, self->arguments[1], &exptime) < 0 ||
        take_keys(self, call) < 0) {
        return -1;
    }
    all.exptime = exptime.text;
    self->many->is_placing = true;
    result = call->faults == NULL ? place_all(&all) : 0; /* it may be refused already */
    result = send_all(&all, result == 0) < 0 ? -1 : result;
    self->many->is_placing = false;
    call->host = NULL;
    if (result < 0 || self->many->errands != 0) {
        return result < 0 ? -1 : 1;
    }
    if (self->many->noted != NULL) {
        call->faults = self->many->noted;
        self->many->noted = NULL;
    }
    self->value = self->verb->finish(self, call);
    return self->value == NULL ? -1 : 0;
}

/* ---- results -------------------------------------------------------------------------------- */

/* A value that cannot be decoded is a fault: 1; -1 with another exception. */
static int keep_undecoded(mcx_call *call, mcx_akey *key)
{
    return mcx_fault_keep(call, key->host) < 0 ? -1 : 1;
}

typedef PyObject *(*making)(mcx_call *call, mcx_akey *key);

/* {key: what make makes of its value}; keys that were not done are appended to undone. */
static PyObject *collect(mcx_acall *self, mcx_call *call, making make, PyObject *undone)
{
    PyObject *result = mcx_dict_for((Py_ssize_t)self->many->count);
    int failed = result == NULL ? -1 : 0;

    for (size_t i = 0; failed == 0 && i < self->many->count; i++) {
        mcx_akey *key = &self->many->keys[i];
        PyObject *value = NULL;

        if (!key->is_done) {
            failed = PyList_Append(undone, key->object);
        }
        else if (key->got.found) {
            call->host = key->host;
            value = make(call, key);
            failed = value == NULL && !PyErr_Occurred() ? 0
                     : value != NULL                    ? PyDict_SetItem(result, key->object, value)
                                                        : keep_undecoded(call, key);
            if (failed > 0) {
                failed = PyList_Append(undone, key->object);
            }
            Py_XDECREF(value);
        }
    }
    call->host = NULL;
    if (failed < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *make_value(mcx_call *call, mcx_akey *key)
{
    return mcx_retrieved_value(call, &key->got);
}

static bool is_stub(const mcx_akey *key)
{
    return key->got.body != NULL &&
           mcx_is_stub(key->got.flags, (size_t)PyBytes_GET_SIZE(key->got.body));
}

static PyObject *make_item(mcx_call *call, mcx_akey *key)
{
    static const mc_reply nothing = {.letters = 0};
    const mc_reply *reply = key->reply != NULL ? key->reply : &nothing;

    return is_stub(key) ? NULL
                        : mcx_item_new(call->module, reply, key->got.flags, key->got.cas,
                                       mcx_retrieved_value(call, &key->got));
}

/* Steals undone. */
static PyObject *judge(mcx_call *call, PyObject *result, PyObject *undone)
{
    if (result != NULL) {
        result = mcx_partial_judge(call, result, undone);
    }
    Py_XDECREF(undone);
    return result;
}

static PyObject *finish_get_many(mcx_acall *self, mcx_call *call)
{
    PyObject *undone = PyList_New(0);

    return judge(call, undone ? collect(self, call, make_value, undone) : NULL, undone);
}

/* [(key, token)] of the stale items whose leases were given to this call. */
static PyObject *list_won(const mcx_many *many)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; list != NULL && i < many->count; i++) {
        const mcx_akey *key = &many->keys[i];

        if (key->got.found && key->reply != NULL && mc_meta_has(key->reply, 'W')) {
            PyObject *pair = Py_BuildValue("(OK)", key->object, (unsigned long long)key->got.cas);

            if (pair == NULL || PyList_Append(list, pair) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(pair);
        }
    }
    return list;
}

/* ({key: Item}, list_won's, [keys not done]). Nothing is raised: the caller judges. */
static PyObject *finish_items(mcx_acall *self, mcx_call *call)
{
    PyObject *undone = PyList_New(0), *items = NULL, *won = NULL, *result = NULL;

    if (self->is_refused) {
        mcx_many_give_back(self);
        Py_XDECREF(undone);
        return Py_NewRef(Py_NotImplemented);
    }
    items = undone ? collect(self, call, make_item, undone) : NULL;
    won = items ? list_won(self->many) : NULL;
    if (won != NULL && (items = mcx_partial_judge(call, items, undone)) != NULL) {
        result = PyTuple_Pack(2, items, won);
    }
    Py_XDECREF(undone);
    Py_XDECREF(items);
    Py_XDECREF(won);
    return result;
}

static PyObject *finish_set_many(mcx_acall *self, mcx_call *call)
{
    PyObject *undone = PyList_New(0);

    for (size_t i = 0; undone != NULL && i < self->many->count; i++) {
        if (self->many->keys[i].said != MC_REPLY_STORED &&
            PyList_Append(undone, self->many->keys[i].object) < 0) {
            Py_CLEAR(undone);
        }
    }
    return judge(call, Py_XNewRef(undone), undone);
}

static PyObject *finish_delete_many(mcx_acall *self, mcx_call *call)
{
    PyObject *undone = PyList_New(0);
    size_t deleted = 0;

    for (size_t i = 0; undone != NULL && i < self->many->count; i++) {
        const mcx_akey *key = &self->many->keys[i];

        deleted += key->is_done && key->said == MC_REPLY_DELETED;
        if (!key->is_done && PyList_Append(undone, key->object) < 0) {
            Py_CLEAR(undone);
        }
    }
    return judge(call, undone ? PyLong_FromSize_t(deleted) : NULL, undone);
}

/* ---- the methods ---------------------------------------------------------------------------- */

static const mcx_verb get_many_verb = {.name = "get_many",
                                       .command = MC_GET,
                                       .start = start_many,
                                       .finish = finish_get_many},
                      set_many_verb = {.name = "set_many",
                                       .command = MC_SET,
                                       .start = start_many,
                                       .finish = finish_set_many},
                      delete_many_verb = {.name = "delete_many",
                                          .command = MC_DELETE,
                                          .start = start_many,
                                          .finish = finish_delete_many},
                      items_verb = {.name = "_items",
                                    .command = MC_MG,
                                    .start = start_many,
                                    .finish = finish_items,
                                    .gives_back = true},
                      gets_items_verb = {.name = "_gets_items",
                                         .command = MC_GETS,
                                         .start = start_many,
                                         .finish = finish_items};

static const mcx_signature get_many_signature = {
    .method = "get_many", .count = 1, .required = 1, .names = {"keys"}};
static const mcx_signature set_many_signature = {
    .method = "set_many", .count = 2, .required = 1, .names = {"mapping", "ttl"}};
static const mcx_signature delete_many_signature = {
    .method = "delete_many", .count = 1, .required = 1, .names = {"keys"}};

static PyObject *many_method(PyObject *self, const mcx_verb *verb, const mcx_signature *signature,
                             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2] = {NULL, NULL};

    return mcx_bind(signature, args, nargs, kwnames, values) < 0
               ? NULL
               : mcx_acall_new((mcx_async *)self, verb, values, 2);
}

static PyObject *async_get_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    return many_method(self, &get_many_verb, &get_many_signature, args, nargs, kwnames);
}

static PyObject *async_set_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    return many_method(self, &set_many_verb, &set_many_signature, args, nargs, kwnames);
}

static PyObject *async_delete_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    return many_method(self, &delete_many_verb, &delete_many_signature, args, nargs, kwnames);
}

static PyObject *async_items(PyObject *self, PyObject *keys)
{
    return mcx_acall_new((mcx_async *)self, &items_verb, &keys, 1);
}

static PyObject *async_gets_items(PyObject *self, PyObject *keys)
{
    return mcx_acall_new((mcx_async *)self, &gets_items_verb, &keys, 1);
}

PyMethodDef mcx_async_many_methods[] = {
    MCX_DEF("get_many", async_get_many,
            "get_many($self, keys)\n--\n\n"
            "Awaitable: fetch many keys, from all their servers at once; see Cache.get_many."),
    MCX_DEF("set_many", async_set_many,
            "set_many($self, mapping, ttl=None)\n--\n\n"
            "Awaitable: store many values, on all their servers at once; see Cache.set_many.\n\n"
            "All values are encoded before anything is sent. A call that is cancelled may have "
            "been\ncarried out, in part or whole."),
    MCX_DEF("delete_many", async_delete_many,
            "delete_many($self, keys)\n--\n\n"
            "Awaitable: delete many keys, on all their servers at once; see Cache.delete_many."),
    {"_items", async_items, METH_O, NULL},
    {"_gets_items", async_gets_items, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
