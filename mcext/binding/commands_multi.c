/* commands_multi: get_multi, set_multi, delete_multi: many keys, many servers, one deadline.
 *
 * Keys become items, each with its server; a server's items are a leg: a connection, a run of
 * commands produced piece by piece, and an exchange that reads their replies in the same order.
 * Native legs are served together by the core's fan-out; those over Python sockets in turn, a batch
 * at a time, so that no side waits for the other's buffers; their first batches go out together. */
#include "mcx.h"

#include <string.h>

/* What is produced before it has to be sent. */
#define BATCH_BYTES ((size_t)262144)
#define BATCH_VALUES 64

/* A value up to this size is copied behind its command; a larger one goes out from where it is. */
#define COPY_UP_TO ((size_t)8192)

/* What a socket's buffer may hold: what a Python socket gives past the deadline without waiting. */
#define OVERTIME (UINT32_C(4) << 20)

#define ARENA_CHUNK ((size_t)65536)

typedef struct {
    PyObject *object; /* the caller's key, strong */
    uint32_t leg;     /* one more than the leg's number; 0: no server */
    union {
        uint32_t
            found_by; /* get_multi, of the one that stands: whose value is in the result, or 0 */
        bool stored;  /* set_multi: the server said so, or it was sent with noreply */
    };
} item;

/* What only items have whose key is no plain str. */
typedef struct {
    PyObject *owner;   /* strong or NULL: what the text points into, else the object or the arena */
    PyObject *hash;    /* borrowed from a (hash, key) tuple, or NULL */
    uint32_t standing; /* the item whose object stands for this text: see merge_aliases */
} detail;

typedef struct {
    mc_leg io;
    mcx_target target;
    mc_slice *keys;  /* retrieval: the items' texts, count of them */
    uint32_t *items; /* which item each is; those sent stand first */
    size_t count;
    size_t next;     /* the next one to be produced */
    size_t sent;     /* commands produced (storage, deletion) */
    int64_t timeout; /* its host's, of the whole call */
    int attempt;
    bool over;
    bool marker_last; /* noreply: the exchange is for the marker behind the last command */
    bool is_ahead;    /* its first batch is sent already: see send_ahead */
    bool owes_marker; /* get_multi: a marker is the next to be sent, see mc_exchange_mark */
    PyObject *body;   /* of a value that is on its way into it */
    uint32_t flags;
    int value_count;
    PyObject *values[BATCH_VALUES]; /* strong: what pieces point into */
    struct iovec pieces[2 * BATCH_VALUES + 1];
} leg;

typedef struct arena {
    struct arena *next;
    size_t used;
    char bytes[];
} arena;

typedef struct {
    mcx_call *call;
    mc_command command; /* MC_GET, MC_SET, MC_DELETE */
    mc_slice *texts;    /* with the prefix: count of them, as of items, details and values */
    item *items;
    detail *details; /* NULL: every key is an ASCII str, sent as it is */
    size_t count;
    bool in_first_leg; /* all items are */
    leg **legs;
    size_t leg_count;
    uint32_t *leg_of_server; /* one more than the leg's number; UINT32_MAX: no connection */
    arena *memory;
    mcx_decimal time;
    bool noreply;
    bool failed;       /* delete_multi: a server failed */
    PyObject *result;  /* get_multi: dict */
    PyObject *mapping; /* set_multi; borrowed */
    PyObject **values; /* strong: its values, where it is a dict; else they are asked for */
    PyObject *min_compress;
    size_t plain_length; /* set_multi: a plain value up to this length goes out as it is */
} multi;

/* ---- items ---------------------------------------------------------------------------------- */

/* The item whose object stands for the text of item number. */
static inline size_t standing_of(const multi *all, size_t number)
{
    return LIKELY(all->details == NULL) ? number : all->details[number].standing;
}

static inline PyObject *hash_of(const multi *all, size_t number)
{
    return all->details == NULL ? NULL : all->details[number].hash;
}

static char *reserve_text(multi *all, size_t size)
{
    if (all->memory == NULL || ARENA_CHUNK - all->memory->used < size) {
        size_t room = size > ARENA_CHUNK ? size : ARENA_CHUNK;
        arena *chunk = PyMem_Malloc(sizeof *chunk + room);

        if (chunk == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        chunk->next = all->memory;
        chunk->used = 0;
        all->memory = chunk;
    }
    char *at = all->memory->bytes + all->memory->used;
    all->memory->used += size <= ARENA_CHUNK ? size : ARENA_CHUNK;
    return at;
}

/* The text of one key part: str, bytes, or anything by its str(). *owner is strong or NULL; without
 * one the text is the object's own. */
static int text_of_key(mcx_module *module, PyObject *object, mc_slice *text, PyObject **owner)
{
    PyObject *shown = NULL;

    *owner = NULL;
    if (LIKELY(PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
        *text = (mc_slice){PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};
        return 0;
    }
    if (PyBytes_Check(object)) {
        *text = (mc_slice){PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object)};
        return 0;
    }
    if (object == Py_None) {
        PyErr_SetString(module->key_none_error, "Key is None");
        return -1;
    }
    shown = PyUnicode_Check(object) ? Py_NewRef(object) : PyObject_Str(object);
    *owner = shown ? PyUnicode_AsUTF8String(shown) : NULL;
    Py_XDECREF(shown);
    if (*owner == NULL) {
        return -1;
    }
    *text = (mc_slice){PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)};
    return 0;
}

static int check_item(multi *all, mc_slice text, size_t prefix)
{
    mcx_call *call = all->call;
    mcx_snapshot *snapshot = call->snapshot;

    if (LIKELY(snapshot->check_keys)) {
        return mcx_key_check(call->module, snapshot, text, prefix, NULL);
    }
    if (text.length == 0 && prefix != 0) {
        return 0;
    }
    return mcx_key_check_safe(call->module, text);
}

/* A text as it is to be sent, prefix and all. */
static int check_sent(const multi *all, mc_slice text)
{
    return all->command == MC_SET
               ? mcx_key_check_store(all->call->module, all->call->snapshot, text)
               : 0;
}

/* get_multi: a key that cannot stand in the result is refused before anything is sent. */
static int check_hashable(PyObject *object)
{
    if (LIKELY(PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) ||
               PyLong_CheckExact(object)) ||
        PyObject_Hash(object) != -1) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "keys must be hashable, not %.200s",
                     Py_TYPE(object)->tp_name);
    }
    return -1;
}

static int add_item(multi *all, size_t number, PyObject *object, mc_slice prefix)
{
    mcx_call *call = all->call;
    PyObject *encoder = call->snapshot->options[MCX_OPT_KEY_ENCODER];
    PyObject *part = object, *encoded = NULL, *owner = NULL;
    mc_slice text;

    if (all->command == MC_GET && check_hashable(object) < 0) {
        return -1;
    }
    if (UNLIKELY(PyTuple_Check(object))) {
        if (PyTuple_GET_SIZE(object) != 2) {
            PyErr_Format(call->module->key_type_error,
                         "a key that is a tuple must be (hash, key), not %R", object);
            return -1;
        }
        all->details[number].hash = PyTuple_GET_ITEM(object, 0);
        part = PyTuple_GET_ITEM(object, 1);
    }
    if (UNLIKELY(encoder != NULL)) {
        encoded = mcx_call_encoder(encoder, part);
        if (encoded == NULL) {
            return -1;
        }
        part = encoded;
    }
    if (text_of_key(call->module, part, &text, &owner) < 0) {
        Py_XDECREF(encoded);
        return -1;
    }
    if (owner == NULL && encoded != NULL) {
        owner = Py_NewRef(encoded);
    }
    Py_XDECREF(encoded);
    if (check_item(all, text, prefix.length) < 0) {
        Py_XDECREF(owner);
        return -1;
    }
    if (prefix.length != 0) {
        char *room = reserve_text(all, prefix.length + text.length);

        if (room == NULL) {
            Py_XDECREF(owner);
            return -1;
        }
        memcpy(room, prefix.bytes, prefix.length);
        memcpy(room + prefix.length, text.bytes, text.length);
        text = (mc_slice){room, prefix.length + text.length};
        Py_CLEAR(owner);
    }
    if (check_sent(all, text) < 0) {
        Py_XDECREF(owner);
        return -1;
    }
    all->texts[number] = text;
    all->details[number].owner = owner;
    return 0;
}

/* key_prefix as text; *owner is strong or NULL. */
static int read_prefix(multi *all, PyObject *object, mc_slice *prefix, PyObject **owner)
{
    mcx_call *call = all->call;

    *prefix = (mc_slice){"", 0};
    *owner = NULL;
    if (object == NULL) {
        return 0;
    }
    if (!PyUnicode_Check(object) && !PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "key_prefix must be a str or bytes, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (text_of_key(call->module, object, prefix, owner) < 0) {
        return -1;
    }
    if (prefix->length != 0 && check_item(all, *prefix, 0) < 0) {
        Py_CLEAR(*owner);
        return -1;
    }
    return 0;
}

/* Keys of different kinds, or behind an encoder, may have one text: as in python-memcached, the
 * last of them stands for all, and of several servers' values the last server's for all. */
static int merge_aliases(multi *all)
{
    PyObject *last = NULL;
    PyTypeObject *kind = all->count ? Py_TYPE(all->items[0].object) : NULL;
    bool mixed = all->call->snapshot->options[MCX_OPT_KEY_ENCODER] != NULL ||
                 (kind != &PyUnicode_Type && kind != &PyBytes_Type && kind != &PyLong_Type);

    for (size_t i = 0; !mixed && i < all->count; i++) {
        mixed = !Py_IS_TYPE(all->items[i].object, kind);
    }
    if (LIKELY(!mixed)) {
        return 0;
    }
    last = PyDict_New(); /* {text: the number of the last item that has it} */
    for (size_t i = all->count; last != NULL && i > 0; i--) {
        mc_slice view = all->texts[i - 1];
        PyObject *text = PyBytes_FromStringAndSize(view.bytes, (Py_ssize_t)view.length);
        PyObject *number = text ? PyLong_FromSize_t(i - 1) : NULL;
        PyObject *standing = number ? PyDict_SetDefault(last, text, number) : NULL; /* borrowed */

        if (standing != NULL) {
            all->details[i - 1].standing = (uint32_t)PyLong_AsSize_t(standing);
        }
        Py_XDECREF(text);
        Py_XDECREF(number);
        if (standing == NULL) {
            Py_CLEAR(last);
        }
    }
    Py_XDECREF(last);
    return last == NULL ? -1 : 0;
}

/* Room for count items; -1 with MemoryError. No Python code runs. */
static int make_items(multi *all, size_t count)
{
    if (count < UINT32_MAX) {
        all->items = PyMem_New(item, count + 1);
        all->texts = PyMem_New(mc_slice, count + 1);
    }
    if (all->items == NULL || all->texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int make_details(multi *all, size_t count)
{
    all->details = PyMem_Calloc(count + 1, sizeof *all->details);
    if (all->details == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        all->details[i].standing = (uint32_t)i;
    }
    return 0;
}

/* In the first leg, until choose_servers says otherwise. */
static inline item new_item(PyObject *object)
{
    return (item){.object = Py_NewRef(object), .leg = 1};
}

/* The keys and values of a dict, all of one moment: what is serialised may change it. */
static int list_dict(multi *all, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    size_t count = 0;
    int result;

    Py_BEGIN_CRITICAL_SECTION(dict);
    size_t size = (size_t)PyDict_GET_SIZE(dict);

    result = make_items(all, size);
    if (result == 0 && (all->values = PyMem_New(PyObject *, size + 1)) == NULL) {
        PyErr_NoMemory();
        result = -1;
    }
    if (result == 0) {
        item *items = all->items;
        PyObject **values = all->values;

        for (; PyDict_Next(dict, &at, &key, &value); count++) {
            items[count] = new_item(key);
            values[count] = Py_NewRef(value);
        }
    }
    all->count = count;
    Py_END_CRITICAL_SECTION();
    return result;
}

/* The keys of a list or tuple, all of one moment. */
static int list_sequence(multi *all, PyObject *keys)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(keys);
    size_t size = (size_t)PySequence_Fast_GET_SIZE(keys);
    PyObject **objects = PySequence_Fast_ITEMS(keys);

    result = make_items(all, size);
    if (result == 0) {
        item *items = all->items;

        for (size_t i = 0; i < size; i++) {
            items[i] = new_item(objects[i]);
        }
        all->count = size;
    }
    Py_END_CRITICAL_SECTION();
    return result;
}

/* list(keys). */
static PyObject *list_of(PyObject *keys)
{
    PyObject *list = PySequence_List(keys);

    if (list == NULL && PyErr_ExceptionMatches(PyExc_TypeError) && Py_TYPE(keys)->tp_iter == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "keys must be an iterable of keys, not %.100s",
                     Py_TYPE(keys)->tp_name);
    }
    return list;
}

/* What get_multi and delete_multi are given, and the keys of set_multi's mapping. */
static int list_keys(multi *all, PyObject *keys)
{
    PyObject *list;
    int result;

    if (PyList_CheckExact(keys) || PyTuple_CheckExact(keys)) {
        return list_sequence(all, keys);
    }
    list = list_of(keys);
    result = list ? list_sequence(all, list) : -1;
    Py_XDECREF(list);
    return result;
}

static int collect(multi *all, PyObject *prefix_object)
{
    mc_slice prefix;
    PyObject *owner;
    int result;

    if (read_prefix(all, prefix_object, &prefix, &owner) < 0) {
        return -1;
    }
    bool plain = prefix.length == 0 && all->call->snapshot->straight_key_length != 0;
    size_t limit = (size_t)all->call->snapshot->max_key_length;
    size_t most = all->command == MC_SET ? MCX_PROTOCOL_KEY_LENGTH : SIZE_MAX;
    size_t longest = limit == 0 || limit > most ? most : limit;
    size_t count = all->count;

    result = 0;
    for (size_t i = 0; i < count; i++) {
        PyObject *object = all->items[i].object;

        if (LIKELY(plain && PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
            mc_slice text = {PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};

            all->texts[i] = text;
            if (LIKELY(text.length - 1 < longest && mc_key_is_plain(text))) {
                continue;
            }
        }
        if ((all->details == NULL && make_details(all, count) < 0) ||
            add_item(all, i, object, prefix) < 0) {
            result = -1;
            goto done;
        }
    }
    if (all->details != NULL) { /* each plain str is another text */
        result = merge_aliases(all);
    }
done:
    Py_XDECREF(owner);
    return result;
}

/* ---- legs ----------------------------------------------------------------------------------- */

/* A leg for a connected target (stolen): its number plus one, 0 with MemoryError. */
static uint32_t add_leg(multi *all, mcx_target *target)
{
    leg **legs = PyMem_Realloc(all->legs, (all->leg_count + 1) * sizeof *legs);
    leg *each = legs ? PyMem_Malloc(sizeof *each) : NULL;

    if (legs != NULL) {
        all->legs = legs;
    }
    if (each == NULL) {
        mcx_target_end(all->call, target, true);
        PyErr_NoMemory();
        return 0;
    }
    memset(each, 0, offsetof(leg, values)); /* the arrays have counts */
    each->target = *target;
    each->timeout = atomic_load_explicit(&target->host->timeout, memory_order_relaxed);
    legs[all->leg_count++] = each;
    return (uint32_t)all->leg_count;
}

typedef struct {
    multi *all;
    uint32_t found;
} leg_search;

static int connect_leg(mcx_call *call, size_t bucket, void *context)
{
    leg_search *search = context;
    multi *all = search->all;
    uint32_t server = call->snapshot->bucket_server[bucket];
    uint32_t *known = &all->leg_of_server[server];

    if (server == call->snapshot->server_count) {
        known = NULL; /* a bucket that is not among the servers: found by its host */
        for (size_t i = 0; i < all->leg_count; i++) {
            if ((PyObject *)all->legs[i]->target.host == call->snapshot->bucket[bucket]) {
                search->found = (uint32_t)i + 1;
                return 1;
            }
        }
    }
    else if (LIKELY(*known != 0)) {
        search->found = *known;
        return *known == UINT32_MAX ? 0 : 1;
    }
    mcx_target target;
    int connected = mcx_connect_host(call, (mcx_server *)call->snapshot->bucket[bucket], &target);

    if (connected > 0) {
        search->found = add_leg(all, &target);
        connected = search->found == 0 ? -1 : 1;
    }
    if (known != NULL && connected >= 0) {
        *known = connected ? search->found : UINT32_MAX;
    }
    return connected;
}

static int choose_servers(multi *all)
{
    mcx_call *call = all->call;
    leg_search search = {all, 0};

    all->leg_of_server = PyMem_Calloc(call->snapshot->server_count + 1, sizeof(uint32_t));
    if (all->leg_of_server == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    bool one = call->snapshot->bucket_count == 1 &&
               atomic_load(&call->module->hash_kind) != MCX_HASH_PYTHON;

    for (size_t i = 0; i < all->count; i++) {
        mcx_key key = {.text = all->texts[i], .hash = hash_of(all, i)};
        int found = mcx_choose(call, &key, connect_leg, &search);

        if (UNLIKELY(found < 0)) {
            return -1;
        }
        if (found == 0) {
            search.found = 0;
        }
        all->items[i].leg = search.found;
        if (LIKELY(one)) { /* the only server, found for the first */
            if (LIKELY(search.found == 1 && all->details == NULL)) {
                all->in_first_leg = true;
                return 0;
            }
            while (i + 1 < all->count && hash_of(all, i + 1) == NULL) {
                all->items[++i].leg = search.found;
            }
        }
    }
    return 0;
}

/* Gives each leg its items, in order. */
static int distribute(multi *all)
{
    for (size_t i = 0; i < all->count && !all->in_first_leg; i++) {
        if (all->items[i].leg != 0) {
            all->legs[all->items[i].leg - 1]->count++;
        }
    }
    if (all->in_first_leg) {
        all->legs[0]->count = all->count;
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];
        bool all_of_them = each->count == all->count;

        each->items = PyMem_New(uint32_t, each->count + 1);
        if (all->command == MC_GET) {
            each->keys = all_of_them ? all->texts : PyMem_New(mc_slice, each->count + 1);
        }
        if (each->items == NULL || (all->command == MC_GET && each->keys == NULL)) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t at = 0; all_of_them && at < all->count; at++) {
            each->items[at] = (uint32_t)at;
        }
        if (all_of_them) {
            return 0; /* the others have none */
        }
        each->count = 0;
    }
    for (size_t i = 0; i < all->count; i++) {
        if (all->items[i].leg != 0) {
            leg *each = all->legs[all->items[i].leg - 1];

            if (each->keys != NULL) {
                each->keys[each->count] = all->texts[i];
            }
            each->items[each->count++] = (uint32_t)i;
        }
    }
    return 0;
}

/* ---- producing ------------------------------------------------------------------------------ */

static void drop_values(leg *each)
{
    while (each->value_count > 0) {
        PyObject *value = each->values[--each->value_count];

        each->values[each->value_count] = NULL;
        Py_DECREF(value);
    }
}

static int produce_get(multi *all, leg *each, mc_buffer *out, bool whole)
{
    while (each->next < each->count && (whole || each->next == 0 || mc_buffer_length(out) == 0) &&
           mc_buffer_length(out) < BATCH_BYTES) {
        size_t count = each->count - each->next;

        count = count > MC_KEYS_PER_GET ? MC_KEYS_PER_GET : count;
        if (!mc_request_get(out, all->command, each->keys + each->next, count)) {
            PyErr_NoMemory();
            return -1;
        }
        each->next += count;
        if (!whole) {
            break;
        }
    }
    return 0;
}

static int produce_delete(multi *all, leg *each, mc_buffer *out)
{
    while (each->next < each->count && mc_buffer_length(out) < BATCH_BYTES) {
        if (!mc_request_line(out, MC_DELETE, all->texts[each->items[each->next]], all->time.text,
                             all->noreply)) {
            PyErr_NoMemory();
            return -1;
        }
        each->next++;
        each->sent++;
    }
    return 0;
}

/* The value of an item's key, a new reference. */
static PyObject *value_of(multi *all, size_t standing)
{
    if (LIKELY(all->values != NULL)) {
        return Py_NewRef(all->values[standing]);
    }
    return PyObject_GetItem(all->mapping, all->items[standing].object);
}

/* See there; 0 where values need more than a look. */
static size_t plain_length(const multi *all)
{
    const mcx_snapshot *snapshot = all->call->snapshot;
    size_t length = COPY_UP_TO;

    if (all->noreply || all->min_compress != NULL) {
        return 0;
    }
    if (snapshot->max_value_length != 0 && (size_t)snapshot->max_value_length < length) {
        length = (size_t)snapshot->max_value_length;
    }
    return (size_t)snapshot->max_length < length ? (size_t)snapshot->max_length : length;
}

/* The next item's command and value: into out, or the value as a piece of its own. *run is where
 * in out the piece begins that is not yet closed. */
static int produce_one_set(multi *all, leg *each, mc_buffer *out, int *pieces, size_t *run)
{
    mcx_call *call = all->call;
    size_t number = each->items[each->next], standing = standing_of(all, number);
    mc_slice text = all->texts[number];
    PyObject *value;
    mcx_stored stored;
    int kept, encoded;

    if (LIKELY(all->plain_length != 0 && mcx_plain_value(all->values[standing], &stored) &&
               stored.text.length <= all->plain_length)) {
        if (!mc_request_store_whole(out, MC_SET, text, stored.flags, all->time.text, stored.text)) {
            PyErr_NoMemory();
            return -1;
        }
        each->items[each->sent++] = (uint32_t)number;
        each->next++;
        return 0;
    }
    value = value_of(all, standing);
    if (value == NULL) {
        return -1;
    }
    stored.owner = NULL;
    kept = mcx_store_info(call, value, all->min_compress, &stored);
    Py_DECREF(value);
    if (kept <= 0) {
        each->next++; /* too large: it is not stored, and nothing is sent for it */
        mcx_stored_clear(&stored);
        return kept;
    }
    if (LIKELY(!all->noreply && (stored.text.length <= COPY_UP_TO || stored.owner == NULL))) {
        encoded =
            mc_request_store_whole(out, MC_SET, text, stored.flags, all->time.text, stored.text);
    }
    else {
        encoded = mc_request_store(out, MC_SET, text, stored.flags, all->time.text,
                                   stored.text.length, NULL, all->noreply);
        if (encoded && stored.text.length > COPY_UP_TO && stored.owner != NULL) {
            each->pieces[(*pieces)++] = (struct iovec){NULL, mc_buffer_length(out) - *run};
            each->pieces[(*pieces)++] =
                (struct iovec){(void *)stored.text.bytes, stored.text.length};
            *run = mc_buffer_length(out);
            each->values[each->value_count++] = stored.owner;
            stored.owner = NULL;
        }
        else if (encoded) {
            encoded = mc_buffer_append(out, stored.text.bytes, stored.text.length);
        }
        encoded = encoded && mc_buffer_append(out, "\r\n", 2);
    }
    mcx_stored_clear(&stored);
    if (!encoded) {
        PyErr_NoMemory();
        return -1;
    }
    each->items[each->sent++] = each->items[each->next++];
    return 0;
}

/* Room for the batch as far as its other commands are like the first one: a buffer that grows by
 * doubling may have to copy all that it holds each time. */
static bool reserve_batch(const leg *each, mc_buffer *out)
{
    size_t first = mc_buffer_length(out), left = each->count - each->next;

    return first == 0 || first >= BATCH_BYTES ||
           mc_buffer_reserve(out, left < (BATCH_BYTES - first) / first ? left * first
                                                                       : BATCH_BYTES - first);
}

static int produce_set(multi *all, leg *each, mc_buffer *out, int *pieces, size_t *run)
{
    size_t outside = 0; /* of what is produced, values that go out from where they are */
    bool first = each->next == 0;

    while (each->next < each->count && mc_buffer_length(out) + outside < BATCH_BYTES &&
           each->value_count < BATCH_VALUES) {
        int before = each->value_count;

        if (produce_one_set(all, each, out, pieces, run) < 0) {
            return -1;
        }
        if (each->value_count > before) {
            outside += each->pieces[*pieces - 1].iov_len;
        }
        if (first && !reserve_batch(each, out)) {
            PyErr_NoMemory();
            return -1;
        }
        first = false;
    }
    return 0;
}

/* The next batch of a leg's commands, as pieces to send. whole: as many get lines as fit. */
static int produce(multi *all, leg *each, bool whole)
{
    mcx_call *call = all->call;
    mc_connection *connection = each->target.connection;
    mc_buffer *out = &connection->out;
    size_t sent_before = each->sent, run = 0;
    bool first = each->next == 0;
    bool marker = first ? connection->unanswered != 0 && !all->noreply : each->owes_marker;
    int pieces = 0, result;

    drop_values(each);
    mc_buffer_clear(out);
    each->owes_marker = false;
    if (first) {
        each->marker_last =
            all->noreply &&
            (connection->unanswered + each->count > MCX_UNANSWERED_AT_MOST || each->target.probe);
        mc_exchange_init(&each->io.exchange, &connection->in,
                         all->noreply ? MC_VERSION : all->command, each->keys,
                         all->command == MC_GET ? each->count : 0, marker || each->marker_last);
        each->io.exchange.max_length = (uint64_t)call->snapshot->max_length;
    }
    if (marker && !mc_buffer_append(out, MCX_MARKER, sizeof MCX_MARKER - 1)) {
        PyErr_NoMemory();
        return -1;
    }
    result = all->command == MC_GET      ? produce_get(all, each, out, whole)
             : all->command == MC_DELETE ? produce_delete(all, each, out)
                                         : produce_set(all, each, out, &pieces, &run);
    if (result < 0) {
        return -1;
    }
    each->io.more = each->next < each->count;
    if (each->marker_last && !each->io.more &&
        !mc_buffer_append(out, MCX_MARKER, sizeof MCX_MARKER - 1)) {
        PyErr_NoMemory();
        return -1;
    }
    if (mc_buffer_length(out) > run) {
        each->pieces[pieces++] = (struct iovec){NULL, mc_buffer_length(out) - run};
    }
    char *at = out->data + out->start;
    for (int i = 0; i < pieces; i++) {
        if (each->pieces[i].iov_base == NULL) {
            each->pieces[i].iov_base = at;
            at += each->pieces[i].iov_len;
        }
    }
    each->io.pieces = each->pieces;
    each->io.count = pieces;
    each->target.asked |= pieces > 0;
    if (all->noreply) {
        connection->unanswered += (uint32_t)(each->sent - sent_before);
    }
    else if (all->command != MC_GET) {
        mc_exchange_expect(&each->io.exchange, each->sent - sent_before);
    }
    return 0;
}

/* ---- events --------------------------------------------------------------------------------- */

/* Steals value, of the leg's key number index; NULL: there is an exception. */
static inline int keep_value(multi *all, leg *each, size_t index, PyObject *value)
{
    int result = -1;

    if (LIKELY(value != NULL)) {
        size_t number = each->items[index];
        item *of = &all->items[number], *standing = &all->items[standing_of(all, number)];

        result = 0;
        if (LIKELY(standing->found_by <= of->leg)) {
            standing->found_by = of->leg;
            result = mcx_dict_put(all->result, standing->object, value);
        }
        Py_DECREF(value);
    }
    return result;
}

static int take_value(multi *all, leg *each)
{
    mcx_call *call = all->call;
    mc_exchange *exchange = &each->io.exchange;
    size_t length = (size_t)exchange->reply.length;

    if (exchange->body != NULL) {
        return keep_value(
            all, each, exchange->index,
            mcx_decode(call, exchange->reply.flags, (mc_slice){exchange->body, length}, NULL));
    }
    each->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (each->body == NULL) {
        return -1;
    }
    each->flags = exchange->reply.flags;
    mc_exchange_give_room(exchange, PyBytes_AS_STRING(each->body));
    return 0;
}

static int take_filled(multi *all, leg *each)
{
    PyObject *body = each->body;
    mc_slice text = {PyBytes_AS_STRING(body), (size_t)PyBytes_GET_SIZE(body)};
    PyObject *value;

    each->body = NULL;
    value = mcx_decode(all->call, each->flags, text, body);
    Py_DECREF(body);
    return keep_value(all, each, each->io.exchange.index, value);
}

static int take_answer(multi *all, leg *each)
{
    mc_exchange *exchange = &each->io.exchange;
    mc_reply *reply = &exchange->reply;
    mcx_server *host = each->target.host;
    int result = 0;

    if (all->command == MC_GET && mc_exchange_mark(exchange, each->next)) {
        each->owes_marker = each->io.more = true;
    }
    else if (all->command == MC_SET) {
        all->items[each->items[exchange->index]].stored = reply->type == MC_REPLY_STORED;
    }
    else if (all->command == MC_DELETE && reply->type != MC_REPLY_DELETED) {
        all->failed |= mc_reply_is_error(reply->type);
        if (atomic_load(&host->is_debug)) {
            PyObject *shown =
                PyUnicode_DecodeUTF8(reply->line.bytes, (Py_ssize_t)reply->line.length, "replace");

            result = shown
                         ? mcx_server_debuglog(
                               host, "while expecting 'DELETED', got unexpected response %R", shown)
                         : -1;
            Py_XDECREF(shown);
        }
    }
    return result;
}

static void end_leg(multi *all, leg *each, bool clean)
{
    if (!each->over) {
        each->over = true;
        each->io.connection = NULL;
        drop_values(each);
        Py_CLEAR(each->body);
        if (each->target.connection != NULL) {
            each->target.connection->overtime = 0;
        }
        mcx_target_end(all->call, &each->target, clean);
    }
}

/* The leg ended in status, or is begun once more on a new connection. -1 with an exception. */
static int fail_leg(multi *all, leg *each, mc_status status)
{
    int again = mcx_try_again(all->call, &each->target, all->command, each->io.exchange.started,
                              status, &each->attempt);

    drop_values(each);
    Py_CLEAR(each->body);
    if (again > 0) {
        /* What was sent stands first in items, what was too large is gone from them. */
        if (all->command != MC_GET) {
            memmove(each->items + each->sent, each->items + each->next,
                    (each->count - each->next) * sizeof *each->items);
            each->count = each->sent + (each->count - each->next);
        }
        mc_exchange_fini(&each->io.exchange);
        each->next = each->sent = 0;
        each->io.count = 0;
        each->io.more = true;
        each->io.connection = each->target.connection;
        if (each->count == 0) {
            end_leg(all, each, true); /* all were too large, and only a marker was sent */
        }
        return 0;
    }
    all->failed = true;
    if (again == 0 && each->target.host != NULL && !mcx_is_answered(&each->io.exchange, status)) {
        again = mcx_fail(all->call, &each->target, status);
    }
    end_leg(all, each, false);
    return again;
}

/* Values that come in a row. */
static int take_values(multi *all, leg *each)
{
    mc_exchange *exchange = &each->io.exchange;
    mc_value_run run;
    mc_slice text;
    uint32_t flags;
    int result = 0;
    /* What decodes a value or compares a key may be Python code, which must not find a run open. */
    bool plain = all->details == NULL;

    mc_exchange_begin_run(exchange, &run);
    while (result == 0 && mc_value_run_next(&run, &flags, &text)) {
        size_t index = (size_t)(run.key - exchange->keys) - 1;

        if (LIKELY(flags == 0 && plain)) {
            result = keep_value(all, each, index,
                                PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length));
            continue;
        }
        mc_exchange_end_run(exchange, &run);
        result = keep_value(all, each, index, mcx_decode(all->call, flags, text, NULL));
        mc_exchange_begin_run(exchange, &run);
    }
    mc_exchange_end_run(exchange, &run);
    return result;
}

/* The events that come most, as far as they come in a row. */
static int take_plain(multi *all, leg *each)
{
    if (all->command == MC_SET) {
        size_t at, count = mc_exchange_take_stored(&each->io.exchange, &at);

        for (size_t end = at + count; at < end; at++) {
            all->items[each->items[at]].stored = true;
        }
    }
    else if (all->command == MC_GET) {
        return take_values(all, each);
    }
    return 0;
}

/* noreply: see mcx_noreply_is_clean. */
static bool is_clean_unread(const multi *all, const leg *each)
{
    bool clean = true;

    for (size_t i = 0; i < each->count; i++) {
        clean &= mcx_noreply_is_clean(all->texts[each->items[i]]);
    }
    return clean;
}

/* True where nothing is left to do but to read. */
static bool is_sent(const leg *each)
{
    return each->next == each->count && each->io.count == 0 && !each->owes_marker;
}

/* All events that the leg's input holds. */
static int process(multi *all, leg *each)
{
    mc_exchange *exchange = &each->io.exchange;

    for (;;) {
        int result = 0;

        if (take_plain(all, each) < 0) {
            return -1;
        }
        switch (mc_exchange_next(exchange)) {
        case MC_EVENT_AGAIN:
            return 0;
        case MC_EVENT_VALUE:
            result = take_value(all, each);
            break;
        case MC_EVENT_FILLED:
            result = take_filled(all, each);
            break;
        case MC_EVENT_REPLY:
            result = take_answer(all, each);
            break;
        case MC_EVENT_DONE:
            if (is_sent(each)) {
                if (exchange->marker) {
                    each->target.connection->unanswered = 0;
                }
                end_leg(all, each,
                        mc_exchange_end(exchange) && (!all->noreply || is_clean_unread(all, each)));
            }
            return 0;
        default:
            return fail_leg(all, each, exchange->no_memory ? MC_NO_MEMORY : MC_MALFORMED);
        }
        if (result < 0) {
            return -1;
        }
    }
}

/* The same, outside the servers' time. */
static int decode(multi *all, leg *each)
{
    int64_t before = mc_clock_now();
    int result = process(all, each);

    mcx_leave_out(all->call, before);
    return result;
}

/* noreply: everything is sent and nothing is to be read. */
static bool is_done_unread(const multi *all, const leg *each)
{
    return all->noreply && !each->marker_last && is_sent(each);
}

/* ---- running -------------------------------------------------------------------------------- */

static bool is_native(const leg *each)
{
    return each->target.connection->transport == &mc_native_transport;
}

/* A batch, outside the servers' time. */
static int produce_outside(multi *all, leg *each)
{
    int64_t before = mc_clock_now();
    int produced = produce(all, each, false);

    mcx_leave_out(all->call, before);
    return produced;
}

/* A leg whose bytes move through Python: a batch, its replies, the next batch. */
static int run_leg_in_turn(multi *all, leg *each)
{
    all->call->clock.timeout = each->timeout;
    mcx_target_note_time(all->call, &each->target);
    while (!each->over) {
        mc_status status = MC_OK;
        bool begun = each->io.count > 0 || each->is_ahead;

        each->is_ahead = false;
        if (!begun && (each->next < each->count || each->owes_marker) &&
            produce_outside(all, each) < 0) {
            return -1;
        }
        if (each->io.count > 0) {
            status = mcx_send(all->call, &each->target, each->io.pieces, each->io.count);
            each->io.count = 0;
        }
        if (status == MC_OK && is_done_unread(all, each)) {
            end_leg(all, each, is_clean_unread(all, each));
            return 0;
        }
        if (status == MC_OK && each->marker_last && each->next < each->count) {
            continue; /* there is nothing to read before the marker is sent */
        }
        /* Read until all that was asked for in this batch is answered. */
        while (status == MC_OK && !each->over) {
            mc_exchange *exchange = &each->io.exchange;
            int attempt = each->attempt;

            if (decode(all, each) < 0) {
                return -1;
            }
            if (each->over || each->attempt != attempt || each->owes_marker ||
                (all->command == MC_GET
                     ? exchange->cursor == each->next && exchange->line_end > each->next
                     : exchange->cursor >= exchange->replies && !exchange->marker)) {
                break;
            }
            if (all->command != MC_GET && exchange->cursor >= exchange->replies &&
                exchange->replies > 0) {
                break;
            }
            status = mcx_receive(all->call, &each->target, exchange);
        }
        if (status != MC_OK && fail_leg(all, each, status) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The first batch of each leg through a Python socket goes out before any of them is read: the
 * answers come while a slow server is waited for, and are there even if that takes all the time. */
static int send_ahead(multi *all)
{
    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];
        mc_status status;

        if (each->over || is_native(each)) {
            continue;
        }
        all->call->clock.timeout = each->timeout;
        mcx_target_note_time(all->call, &each->target);
        if (produce_outside(all, each) < 0) {
            return -1;
        }
        status = mcx_send(all->call, &each->target, each->io.pieces, each->io.count);
        each->io.count = 0;
        each->is_ahead = status == MC_OK;
        if (status == MC_OK) {
            if (mcx_python_allow_overtime(each->target.connection, OVERTIME) < 0) {
                return -1;
            }
        }
        else if (fail_leg(all, each, status) < 0) {
            return -1;
        }
    }
    return 0;
}

/* All that is still going on; after a timeout, what had no more time than that. */
static int fail_all(multi *all, mc_status status)
{
    int64_t timeout = all->call->clock.timeout;

    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        if (!each->over && (status != MC_TIMEOUT || each->timeout == timeout) &&
            fail_leg(all, each, status) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The clock runs until the time of the first host is over: each has its own. */
static void set_shortest_time(multi *all)
{
    int64_t shortest = MC_NO_TIMEOUT;

    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        if (!each->over && each->timeout != MC_NO_TIMEOUT &&
            (shortest == MC_NO_TIMEOUT || each->timeout < shortest)) {
            shortest = each->timeout;
        }
    }
    all->call->clock.timeout = shortest;
}

/* One turn of the native legs: produce where all is sent, move bytes, take events. */
static int step(multi *all, mc_leg **ios, struct pollfd *polls)
{
    mcx_call *call = all->call;
    mc_status status;
    int64_t before = mc_clock_now();

    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        if (!each->over && each->io.count == 0 && (each->next < each->count || each->owes_marker)) {
            if (produce(all, each, true) < 0) {
                return -1;
            }
        }
    }
    mcx_leave_out(call, before);
    set_shortest_time(all);
    Py_BEGIN_ALLOW_THREADS
    status = mc_fanout_step(ios, all->leg_count, polls, &call->clock);
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (status == MC_INTERRUPTED) {
        return 0;
    }
    if (status == MC_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    if (status != MC_OK) {
        return fail_all(all, status);
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        if (each->over) {
            continue;
        }
        if (each->io.arrived && decode(all, each) < 0) {
            return -1;
        }
        if (!each->over && each->io.status != MC_OK) {
            if (fail_leg(all, each, each->io.status) < 0) {
                return -1;
            }
        }
        else if (!each->over && is_done_unread(all, each)) {
            end_leg(all, each, is_clean_unread(all, each));
        }
        else if (!each->over && is_sent(each) && mc_exchange_is_done(&each->io.exchange)) {
            /* Every value was too large, or the server answered what it had not been sent yet. */
            end_leg(all, each,
                    each->sent == 0 && all->command == MC_SET && !each->io.exchange.marker);
        }
    }
    return 0;
}

static int run(multi *all)
{
    mc_leg **ios = PyMem_Calloc(all->leg_count + 1, sizeof *ios);
    struct pollfd *polls = PyMem_Calloc(all->leg_count + 1, sizeof *polls);
    int result = -1;

    if (ios == NULL || polls == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        ios[i] = &each->io;
        all->call->clock.timeout = each->timeout;
        mcx_target_note_time(all->call, &each->target);
        each->io.connection = is_native(each) ? each->target.connection : NULL;
        if (each->count == 0) {
            end_leg(all, each, true);
        }
    }
    if (send_ahead(all) < 0) {
        goto done;
    }
    for (;;) {
        bool active = false;

        /* Before each step: a leg that is begun once more may find methods of its host replaced. */
        for (size_t i = 0; i < all->leg_count; i++) {
            leg *each = all->legs[i];

            if (!each->over && !is_native(each) && run_leg_in_turn(all, each) < 0) {
                goto done;
            }
            active |= !each->over;
        }
        if (!active) {
            break;
        }
        if (step(all, ios, polls) < 0) {
            goto done;
        }
    }
    result = 0;
done:
    PyMem_Free(ios);
    PyMem_Free(polls);
    return result;
}

static void finish(multi *all)
{
    for (size_t i = 0; i < all->leg_count; i++) {
        leg *each = all->legs[i];

        end_leg(all, each, each->next == 0 && each->io.count == 0 && !each->attempt);
        mc_exchange_fini(&each->io.exchange);
        PyMem_Free(each->keys != all->texts ? each->keys : NULL);
        PyMem_Free(each->items);
        PyMem_Free(each);
    }
    PyMem_Free(all->legs);
    PyMem_Free(all->leg_of_server);
    for (size_t i = 0; i < all->count; i++) {
        Py_DECREF(all->items[i].object);
    }
    PyObject **values = all->values;
    for (size_t i = values != NULL ? all->count : 0; i > 0; i--) {
        Py_DECREF(values[i - 1]);
    }
    for (size_t i = 0; all->details != NULL && i < all->count; i++) {
        Py_XDECREF(all->details[i].owner);
    }
    PyMem_Free(all->items);
    PyMem_Free(all->texts);
    PyMem_Free(all->details);
    PyMem_Free(all->values);
    Py_XDECREF(all->time.owner);
    Py_XDECREF(all->result);
    while (all->memory != NULL) {
        arena *next = all->memory->next;

        PyMem_Free(all->memory);
        all->memory = next;
    }
}

/* By an interned name: one that is made for the call takes a place in the cache of the mapping's
 * type, and stays there. */
static PyObject *keys_of(mcx_module *module, PyObject *mapping)
{
    PyObject *keys = PyObject_CallMethodNoArgs(mapping, module->str_keys);

    if (keys == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "mapping must be a mapping, not %.100s",
                     Py_TYPE(mapping)->tp_name);
    }
    return keys;
}

/* The whole of a multi call: count it, take the keys, choose, send, read. keys: an iterable, or
 * NULL for those of the mapping. */
static int run_multi(multi *all, int what, PyObject *keys, PyObject *prefix)
{
    PyObject *asked_for = NULL;
    int result = -1;

    assert(keys != NULL || all->mapping != NULL);

    if (mcx_record_count(all->call->module, all->call->record, what) < 0) {
        return -1;
    }
    if (keys == NULL && !PyDict_CheckExact(all->mapping)) {
        keys = asked_for = keys_of(all->call->module, all->mapping);
        if (keys == NULL) {
            return -1;
        }
    }
    if ((keys != NULL ? list_keys(all, keys) : list_dict(all, all->mapping)) == 0 &&
        collect(all, prefix) == 0) {
        all->call->clock.start = mc_clock_now(); /* nothing so far was the servers' time */
        result = choose_servers(all);
    }
    Py_XDECREF(asked_for);
    if (all->values == NULL) {
        all->plain_length = 0; /* to ask for a value may run any code */
    }
    if (result == 0 && all->command == MC_GET) {
        all->result = mcx_dict_for((Py_ssize_t)all->count);
        result = all->result != NULL ? 0 : -1;
    }
    return result < 0 || distribute(all) < 0 ? -1 : run(all);
}

/* ---- methods -------------------------------------------------------------------------------- */

static const mcx_signature get_multi_signature = {
    .method = "get_multi", .count = 2, .required = 1, .names = {"keys", "key_prefix"}};

MCX_METHOD(client_get_multi)
{
    PyObject *values[2], *result = NULL;
    mcx_call call;
    multi all = {.call = &call, .command = MC_GET};

    if (mcx_bind(&get_multi_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get_multi, args, nargs, kwnames);
    }
    if (run_multi(&all, MCX_COUNT_GET_MULTI, values[0], values[1]) == 0) {
        result = Py_NewRef(all.result);
    }
    finish(&all);
    return mcx_call_end(&call, result);
}

/* The caller's keys that were not stored. */
static PyObject *not_stored(multi *all)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; all->noreply && i < all->leg_count; i++) {
        leg *each = all->legs[i];

        /* Known not to have been sent: too large, no server, or a connection that failed. */
        for (size_t sent = 0; sent < each->sent && sent < each->count; sent++) {
            all->items[each->items[sent]].stored = each->attempt == 0 || each->over;
        }
    }
    for (size_t i = 0; list != NULL && i < all->count; i++) {
        if (!all->items[i].stored && PyList_Append(list, all->items[i].object) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static const mcx_signature set_multi_signature = {
    .method = "set_multi",
    .count = 5,
    .required = 1,
    .names = {"mapping", "time", "key_prefix", "min_compress_len", "noreply"}};

MCX_METHOD(client_set_multi)
{
    PyObject *values[5], *result = NULL;
    mcx_call call;
    multi all = {.call = &call, .command = MC_SET};

    if (mcx_bind(&set_multi_signature, args, nargs, kwnames, values) < 0 ||
        mcx_min_compress(values[3]) < 0 || mcx_flag(values[4], &all.noreply) < 0 ||
        mcx_time(values[1], "time", &all.time) < 0) {
        return NULL;
    }
    all.mapping = values[0];
    all.min_compress = values[3];
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        Py_XDECREF(all.time.owner);
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_set_multi, args, nargs, kwnames);
    }
    all.plain_length = plain_length(&all);
    if (run_multi(&all, MCX_COUNT_SET_MULTI, NULL, values[2]) == 0) {
        result = not_stored(&all);
    }
    finish(&all);
    return mcx_call_end(&call, result);
}

static const mcx_signature delete_multi_signature = {
    .method = "delete_multi",
    .count = 4,
    .required = 1,
    .names = {"keys", "time", "key_prefix", "noreply"}};

MCX_METHOD(client_delete_multi)
{
    PyObject *values[4], *result = NULL;
    mcx_call call;
    multi all = {.call = &call, .command = MC_DELETE};

    if (mcx_bind(&delete_multi_signature, args, nargs, kwnames, values) < 0 ||
        mcx_flag(values[3], &all.noreply) < 0 ||
        mcx_time(values[1] == Py_None ? NULL : values[1], "time", &all.time) < 0) {
        return NULL;
    }
    if (all.time.text.length == 1 && all.time.text.bytes[0] == '0') {
        all.time.text.length = 0; /* the same, and newer servers want it so */
    }
    int begun = mcx_call_begin_listed(&call, self);
    if (begun != 0) {
        Py_XDECREF(all.time.owner);
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_delete_multi, args, nargs, kwnames);
    }
    if (run_multi(&all, MCX_COUNT_DELETE_MULTI, values[0], values[2]) == 0) {
        for (size_t i = 0; i < all.count; i++) {
            all.failed |= all.items[i].leg == 0;
        }
        result = PyLong_FromLong(!all.failed);
    }
    finish(&all);
    return mcx_call_end(&call, result);
}

PyMethodDef mcx_multi_methods[] = {
    MCX_DEF(
        "get_multi", client_get_multi,
        "get_multi($self, keys, key_prefix='')\n--\n\n"
        "Fetch many keys, from all their servers at once (protocol.txt, \"Retrieval command\").\n\n"
        "keys: an iterable of str, bytes, (hash, key) or anything with a str(), such as int.\n"
        "key_prefix: stands before each key on the server, not in the result.\n\n"
        "Returns a dict of those found, under the caller's own key objects; None stands for a\n"
        "value that cannot be decoded.\n" MCX_RAISES),
    MCX_DEF(
        "set_multi", client_set_multi,
        "set_multi($self, mapping, time=0, key_prefix='', min_compress_len=0, "
        "noreply=False)\n--\n\n"
        "Store many values, on all their servers at once (protocol.txt, \"Storage commands\").\n\n"
        "mapping: keys as in get_multi, with their values; the other arguments as in set.\n"
        "Keys are checked before anything is sent; values are serialised as they are sent.\n\n"
        "Returns the list of keys that were not stored; with noreply, those known not to have\n"
        "been sent. Raises what pickling a value raises: other values may be stored by "
        "then.\n" MCX_RAISES),
    MCX_DEF("delete_multi", client_delete_multi,
            "delete_multi($self, keys, time=None, key_prefix='', noreply=False)\n--\n\n"
            "Delete many keys, on all their servers at once (protocol.txt, \"Deletion\").\n\n"
            "keys, key_prefix: as in get_multi; time: as in delete.\n\n"
            "Returns 1, or 0 where a server failed; a key that was not there is no "
            "failure.\n" MCX_RAISES),
    {NULL, NULL, 0, NULL},
};
