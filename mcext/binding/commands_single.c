/* commands_single: the methods that ask one server about one key.
 *
 * Each goes: arguments, key, server, request, answer; or the way in Python, where the client
 * replaces something (mcx_pure). */
#include "straight.h"

#include <string.h>

/* ---- get, gets ------------------------------------------------------------------------------ */

/* What a retrieval brought: one of value (ready) and body (to be decoded). */
typedef struct {
    PyObject *value;
    PyObject *body;
    uint32_t flags;
    bool found;
} retrieved;

static int remember_cas(mcx_call *call, mc_slice key, uint64_t cas)
{
    mcx_record *record = call->record;
    PyObject *cas_ids, *name, *number;
    int result = -1;

    if (record->cas_ids == NULL && (record->cas_ids = PyDict_New()) == NULL) {
        return -1;
    }
    cas_ids = Py_NewRef(record->cas_ids); /* what it calls may forget it: reset_cas() */
    name = PyBytes_FromStringAndSize(key.bytes, (Py_ssize_t)key.length);
    number = PyLong_FromUnsignedLongLong(cas);
    if (name != NULL && number != NULL) {
        result = PyObject_SetItem(cas_ids, name, number);
    }
    Py_DECREF(cas_ids);
    Py_XDECREF(name);
    Py_XDECREF(number);
    return result;
}

/* A VALUE header has come: makes the object that the body goes into, or at once the value. */
static mc_status take_body(mcx_call *call, mc_exchange *exchange, retrieved *got)
{
    mc_reply *reply = &exchange->reply;

    if (LIKELY(exchange->body != NULL) && (got->flags & (MCX_FLAG_ZLIB | MCX_FLAG_PICKLE)) == 0) {
        mc_slice text = {exchange->body, (size_t)reply->length};

        got->value = mcx_decode(call, got->flags, text, NULL);
        return got->value == NULL ? MC_RAISED : MC_OK;
    }
    got->body = PyBytes_FromStringAndSize(exchange->body, (Py_ssize_t)reply->length);
    if (got->body == NULL) {
        return MC_RAISED;
    }
    if (exchange->body == NULL) {
        mc_exchange_give_room(exchange, PyBytes_AS_STRING(got->body));
    }
    return MC_OK;
}

static mc_status take_value(mcx_call *call, mc_exchange *exchange, retrieved *got)
{
    uint64_t cas = exchange->reply.cas;
    bool remembers = exchange->reply.has_cas && call->snapshot->cache_cas;
    mc_status status;

    got->found = true;
    got->flags = exchange->reply.flags;
    status = take_body(call, exchange, got);
    /* Behind that: it may run Python code, by which what the reply's views point to may move. */
    if (status == MC_OK && remembers && remember_cas(call, *exchange->keys, cas) < 0) {
        status = MC_RAISED;
    }
    return status;
}

/* An error line: a miss. What the server may say behind it is read up to a marker, so that the
 * connection can be used again: a proxy whose server is down has one for each get. */
static mc_status take_error(mcx_call *call, mcx_target *target, mc_exchange *exchange)
{
    struct iovec marker = {(void *)MCX_MARKER, sizeof MCX_MARKER - 1};

    if (!mc_exchange_mark(exchange, 1)) {
        return MC_OK;
    }
    return mcx_send(call, target, &marker, 1);
}

static mc_status read_value(mcx_call *call, mcx_target *target, mc_exchange *exchange,
                            retrieved *got)
{
    mc_status status = MC_OK;

    while (LIKELY(status == MC_OK)) {
        switch (mc_exchange_next(exchange)) {
        case MC_EVENT_AGAIN:
            status = mcx_receive(call, target, exchange);
            break;
        case MC_EVENT_VALUE:
            status = take_value(call, exchange, got);
            break;
        case MC_EVENT_REPLY:
            status = take_error(call, target, exchange);
            break;
        case MC_EVENT_FILLED:
            break;
        case MC_EVENT_DONE:
            return MC_OK;
        default:
            return MC_MALFORMED;
        }
    }
    return status;
}

/* The value of a retrieval that has ended well; got's references are given up. */
static PyObject *value_of(mcx_call *call, retrieved *got, PyObject *default_value)
{
    PyObject *result;

    if (!got->found) {
        return Py_NewRef(default_value);
    }
    if (got->value != NULL) {
        result = got->value;
        got->value = NULL;
        return result;
    }
    /* The connection is given back: what decoding runs may use this client again. */
    mc_slice text = {PyBytes_AS_STRING(got->body), (size_t)PyBytes_GET_SIZE(got->body)};

    result = mcx_decode(call, got->flags, text, got->body);
    Py_CLEAR(got->body);
    return result;
}

/* From a connected target on. begun: the request has been sent already and something received,
 * with that status. Ends target. default_value is borrowed. */
static PyObject *retrieve_from(mcx_call *call, mc_command command, mcx_target *target, mc_slice key,
                               PyObject *default_value, const mc_status *begun)
{
    mcx_request request = {.command = command};
    retrieved got = {0};
    PyObject *result = NULL;
    int attempt = 0, again;

    do {
        mc_exchange exchange;
        bool started = false, answered = false;
        mc_status status;

        if (begun != NULL) {
            mc_exchange_init(&exchange, &target->connection->in, command, &key, 1, false);
            exchange.max_length = (uint64_t)call->snapshot->max_length;
            status = *begun;
            begun = NULL;
        }
        else {
            status = mcx_begin_exchange(call, target, &request, &exchange, &key);
        }
        if (LIKELY(status == MC_OK)) {
            status = read_value(call, target, &exchange, &got);
            started = exchange.started;
            answered = mcx_is_answered(&exchange, status);
        }
        if (LIKELY(status == MC_OK)) {
            mcx_target_end(call, target, mc_exchange_end(&exchange));
            result = value_of(call, &got, default_value);
            break;
        }
        Py_CLEAR(got.value);
        Py_CLEAR(got.body);
        got.found = false;
        again = mcx_try_again(call, target, command, started, status, &attempt);
        if (again == 0 &&
            (target->host == NULL || answered || mcx_fail(call, target, status) == 0)) {
            result = Py_NewRef(default_value);
        }
    } while (again > 0);
    mcx_target_end(call, target, false);
    Py_XDECREF(got.value);
    Py_XDECREF(got.body);
    return result;
}

/* get and gets behind key_encoder. default_value is borrowed. */
static PyObject *retrieve(mcx_call *call, mc_command command, const mcx_key *key,
                          PyObject *default_value)
{
    mcx_target target;
    int there = mcx_select(call, key, &target);

    if (UNLIKELY(there <= 0)) {
        return there < 0 ? NULL : Py_NewRef(default_value);
    }
    if (UNLIKELY(mcx_record_count(call->module, call->record, (int)command) < 0)) {
        mcx_target_end(call, &target, true);
        return NULL;
    }
    return retrieve_from(call, command, &target, key->text, default_value, NULL);
}

/* A reply that was not the plain one. */
static PyObject *get_handed_over(mcx_straight *straight, PyObject *self, PyObject *default_value,
                                 mc_status status)
{
    mcx_call call;
    mcx_target target;
    PyObject *result = NULL;

    if (mcx_straight_hand_over(straight, self, &call, &target) < 0) {
        return NULL;
    }
    result = retrieve_from(&call, MC_GET, &target, straight->key, default_value, &status);
    mcx_target_end(&call, &target, false);
    return mcx_call_end(&call, result);
}

/* A value that takes no Python code to decode; NULL, perhaps without an exception, for any other.
 */
static inline PyObject *plain_value_of(uint32_t flags, mc_slice text)
{
    PyObject *value = NULL;
    uint64_t number;

    if (LIKELY(flags == 0)) {
        value = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
    }
    else if (flags == MCX_FLAG_TEXT) {
        value = PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, NULL);
        if (UNLIKELY(value == NULL) && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
        }
    }
    else if (flags == MCX_FLAG_INTEGER && mc_number_parse(text.bytes, text.length, &number)) {
        value = PyLong_FromUnsignedLongLong(number);
    }
    return value;
}

/* Any other: what decodes it may call this client, so it begins when the straight way has ended.
 * Steals bytes. */
static PyObject *decode_behind(PyObject *self, uint32_t flags, PyObject *bytes)
{
    mc_slice text = {PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
    PyObject *result = NULL;
    mcx_call call;

    if (mcx_call_begin(&call, self) == 0) {
        result = mcx_call_end(&call, mcx_decode(&call, flags, text, bytes));
    }
    Py_DECREF(bytes);
    return result;
}

/* get on the straight way: 1 and *result, which is NULL with an exception; 0: not plain. */
static int get_straight(PyObject *self, PyObject *key, PyObject *default_value, PyObject **result)
{
    mcx_straight straight;
    mc_slice body;
    uint32_t flags;
    int found;

    if (UNLIKELY(!mcx_straight_begin(&straight, self, key))) {
        return 0;
    }
    mc_connection *connection = straight.connection;
    size_t length = straight.key.length;
    char *room = mc_buffer_reserve(&connection->out, length + 6);

    if (UNLIKELY(room == NULL)) {
        *result = get_handed_over(&straight, self, default_value, MC_NO_MEMORY);
        return 1;
    }
    char *at = mc_bytes_put(room, "get ", 4);
    at = mc_bytes_put(at, straight.key.bytes, length);
    (void)mc_bytes_put(at, "\r\n", 2);
    mc_buffer_commit(&connection->out, length + 6);

    mc_status status = mcx_straight_roundtrip(&straight, MC_GET);
    mc_buffer *in = &connection->in;

    found = LIKELY(status == MC_OK) ? mc_reply_match_get(mc_buffer_bytes(in), mc_buffer_length(in),
                                                         straight.key, &flags, &body)
                                    : -1;
    if (UNLIKELY(found < 0 || (found > 0 && body.length > (size_t)straight.snapshot->max_length))) {
        *result = get_handed_over(&straight, self, default_value, status);
        return 1;
    }
    *result = found > 0 ? plain_value_of(flags, body) : Py_NewRef(default_value);
    if (LIKELY(*result != NULL || PyErr_Occurred())) {
        mcx_straight_end(&straight);
        return 1;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(body.bytes, (Py_ssize_t)body.length);
    mcx_straight_end(&straight);
    *result = bytes != NULL ? decode_behind(self, flags, bytes) : NULL;
    return 1;
}

static const mcx_signature get_signature = {
    .method = "get", .count = 2, .required = 1, .names = {"key", "default"}};

MCX_METHOD(client_get)
{
    PyObject *values[2];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (LIKELY(kwnames == NULL && (nargs == 1 || nargs == 2))) {
        values[0] = args[0];
        values[1] = nargs == 2 ? args[1] : NULL;
    }
    else if (mcx_bind(&get_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *default_value = values[1] != NULL ? values[1] : Py_None;

    if (LIKELY(get_straight(self, values[0], default_value, &result))) {
        return result;
    }
    int begun = mcx_call_begin(&call, self);
    if (UNLIKELY(begun != 0)) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_get, args, nargs, kwnames);
    }
    if (LIKELY(mcx_key_single(&call, values[0], &key) == 0)) {
        result = retrieve(&call, MC_GET, &key, default_value);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, MCX_PURE_get, args, nargs, kwnames);
}

static const mcx_signature gets_signature = {
    .method = "gets", .count = 1, .required = 1, .names = {"key"}};

MCX_METHOD(client_gets)
{
    PyObject *values[1];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (mcx_bind(&gets_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_gets, args, nargs, kwnames);
    }
    if (mcx_key_single(&call, values[0], &key) == 0) {
        result = retrieve(&call, MC_GETS, &key, Py_None);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, MCX_PURE_gets, args, nargs, kwnames);
}

/* ---- storage -------------------------------------------------------------------------------- */

typedef struct {
    PyObject *value;
    PyObject *time;
    PyObject *min_compress;
    PyObject *noreply;
} store_arguments;

/* The token of key that a gets left: 1 with *cas, 0, -1. */
static int find_cas(mcx_call *call, mc_slice key, uint64_t *cas)
{
    PyObject *cas_ids = call->record->cas_ids;
    PyObject *name, *number;
    int there;

    if (cas_ids == NULL) {
        return 0;
    }
    name = PyBytes_FromStringAndSize(key.bytes, (Py_ssize_t)key.length);
    if (name == NULL) {
        return -1;
    }
    Py_INCREF(cas_ids);                         /* what it calls may forget it: reset_cas() */
    there = PySequence_Contains(cas_ids, name); /* a defaultdict has an item for any key */
    number = there > 0 ? PyObject_GetItem(cas_ids, name) : NULL;
    Py_DECREF(cas_ids);
    Py_DECREF(name);
    if (number == NULL) {
        if (there == 0) {
            return 0;
        }
        if (there < 0 || !PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    *cas = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (*cas == (uint64_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "a token in cas_ids must be between 0 and 2**64-1");
        }
        else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_SetString(PyExc_TypeError, "a token in cas_ids must be an int");
        }
        return -1;
    }
    return 1;
}

/* missing: what it is where no answer came that the protocol allows. */
static PyObject *store_result(mcx_server *host, const mcx_answer *answer, PyObject *missing)
{
    if (LIKELY(answer->type == MC_REPLY_STORED)) {
        Py_RETURN_TRUE;
    }
    if (answer->line != NULL && atomic_load(&host->is_debug)) {
        PyObject *shown = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(answer->line),
                                               PyBytes_GET_SIZE(answer->line), "replace");
        int failed = shown == NULL
                         ? -1
                         : mcx_server_debuglog(
                               host, "while expecting 'STORED', got unexpected response %R", shown);

        Py_XDECREF(shown);
        if (failed < 0) {
            return NULL;
        }
    }
    return Py_NewRef(missing);
}

static PyObject *store(mcx_call *call, mc_command command, const mcx_key *key,
                       const store_arguments *given)
{
    mcx_request request = {.command = command};
    mcx_target target = {.host = NULL};
    mcx_stored stored;
    mcx_answer answer = {.line = NULL};
    mcx_decimal exptime;
    PyObject *result = NULL;
    mcx_server *host = NULL;
    uint64_t cas;
    int there;

    stored.owner = NULL;
    if (UNLIKELY(mcx_min_compress(given->min_compress) < 0 ||
                 mcx_flag(given->noreply, &request.noreply) < 0 ||
                 mcx_time(given->time, "time", &exptime) < 0 ||
                 mcx_key_check_store(call->module, call->snapshot, key->text) < 0)) {
        return NULL;
    }
    there = mcx_select(call, key, &target);
    if (UNLIKELY(there <= 0)) {
        result = there == 0 ? PyLong_FromLong(0) : NULL;
        goto done;
    }
    if (UNLIKELY(mcx_record_count(call->module, call->record, command) < 0)) {
        goto done;
    }
    if (command == MC_CAS) {
        there = find_cas(call, key->text, &cas);
        if (there < 0) {
            goto done;
        }
        if (there > 0) {
            request.cas = &cas;
        }
        else if (mcx_record_count(call->module, call->record, request.command = MC_SET) < 0) {
            goto done;
        }
    }
    int64_t before = mc_clock_now();

    there = mcx_store_info(call, given->value, given->min_compress, &stored);
    mcx_leave_out(call, before);
    if (UNLIKELY(there <= 0)) {
        if (there == 0) {
            mcx_target_end(call, &target, true); /* nothing was sent */
            result = PyLong_FromLong(0);
        }
        goto done;
    }
    request.key = key->text;
    request.argument = exptime.text;
    request.value = &stored;
    host = (mcx_server *)Py_NewRef((PyObject *)target.host);
    there = mcx_ask(call, &target, &request, &answer);
    if (LIKELY(there > 0)) {
        result = request.noreply ? Py_NewRef(Py_True) : store_result(host, &answer, Py_False);
    }
    else if (there == 0) {
        PyObject *zero = PyLong_FromLong(0);

        result = zero ? store_result(host, &answer, zero) : NULL;
        Py_XDECREF(zero);
    }
done:
    mcx_target_end(call, &target, true);
    Py_XDECREF((PyObject *)host);
    Py_XDECREF(answer.line);
    Py_XDECREF(exptime.owner);
    mcx_stored_clear(&stored);
    return result;
}

/* A larger value is not a small call's. */
#define STRAIGHT_VALUE ((size_t)16384)

/* A storage command on the straight way, with no other argument but a time: as get_straight. */
static int store_straight(mc_command command, PyObject *self, PyObject *const *values,
                          PyObject **result)
{
    mcx_straight straight;
    mcx_stored stored;
    mc_slice time = {"0", 1};
    mcx_decimal exptime;
    mcx_answer answer;
    mcx_call call;
    mcx_target target;
    int there;

    if (command == MC_CAS || (values[2] != NULL && !PyLong_CheckExact(values[2])) ||
        !mcx_plain_value(values[1], &stored) || stored.text.length > STRAIGHT_VALUE) {
        return 0;
    }
    if (values[2] != NULL) {
        if (mcx_time(values[2], "time", &exptime) < 0) {
            *result = NULL;
            return 1;
        }
        time = exptime.text; /* of an int it needs no owner */
    }
    if (UNLIKELY(!mcx_straight_begin(&straight, self, values[0]))) {
        return 0;
    }
    mcx_snapshot *snapshot = straight.snapshot;
    mc_connection *connection = straight.connection;
    mc_status status = MC_NO_MEMORY;

    if (UNLIKELY((snapshot->max_value_length != 0 &&
                  stored.text.length > (size_t)snapshot->max_value_length) ||
                 stored.text.length > (size_t)snapshot->max_length)) {
        straight.record->counts[command]++; /* too large: nothing is sent */
        mcx_straight_end(&straight);
        *result = PyLong_FromLong(0);
        return 1;
    }
    if (LIKELY(mc_request_store_whole(&connection->out, command, straight.key, stored.flags, time,
                                      stored.text))) {
        status = mcx_straight_roundtrip(&straight, command);
    }
    if (LIKELY(status == MC_OK && mc_buffer_length(&connection->in) == 8 &&
               memcmp(mc_buffer_bytes(&connection->in), "STORED\r\n", 8) == 0)) {
        mcx_straight_end(&straight);
        *result = Py_NewRef(Py_True);
        return 1;
    }
    *result = NULL;
    if (mcx_straight_hand_over(&straight, self, &call, &target) < 0) {
        return 1;
    }
    mcx_server *host = (mcx_server *)Py_NewRef((PyObject *)target.host);
    stored.owner = NULL;
    mcx_request request = {
        .command = command, .key = straight.key, .argument = time, .value = &stored};

    there = mcx_ask_begun(&call, &target, &request, &answer, status);
    if (there >= 0) {
        PyObject *missing = there > 0 ? Py_NewRef(Py_False) : PyLong_FromLong(0);

        *result = missing ? store_result(host, &answer, missing) : NULL;
        Py_XDECREF(missing);
        Py_XDECREF(answer.line);
    }
    mcx_target_end(&call, &target, false);
    Py_DECREF((PyObject *)host);
    *result = mcx_call_end(&call, *result);
    return 1;
}

static PyObject *storage_method(mc_command command, const mcx_signature *signature, PyObject *self,
                                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[5];
    mcx_call call;
    mcx_key key;
    PyObject *result = NULL;

    if (LIKELY(kwnames == NULL && (nargs == 2 || nargs == 3))) {
        values[0] = args[0];
        values[1] = args[1];
        values[2] = nargs == 3 ? args[2] : NULL;
        values[3] = values[4] = NULL;
    }
    else if (mcx_bind(signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (LIKELY(values[3] == NULL && (values[4] == NULL || values[4] == Py_False) &&
               store_straight(command, self, values, &result))) {
        return result;
    }
    int way = MCX_PURE_set + (int)command - MC_SET;
    int begun = mcx_call_begin(&call, self);
    if (UNLIKELY(begun != 0)) {
        return begun < 0 ? NULL : mcx_pure(self, way, args, nargs, kwnames);
    }
    if (LIKELY(mcx_key_single(&call, values[0], &key) == 0)) {
        store_arguments given = {values[1], values[2], values[3], values[4]};

        result = store(&call, command, &key, &given);
        mcx_key_clear(&key);
    }
    return mcx_call_finish(&call, result, way, args, nargs, kwnames);
}

#define STORAGE_METHOD(name, COMMAND)                                                              \
    static const mcx_signature name##_signature = {                                                \
        .method = #name,                                                                           \
        .count = 5,                                                                                \
        .required = 2,                                                                             \
        .names = {"key", "val", "time", "min_compress_len", "noreply"}};                           \
    MCX_METHOD(client_##name)                                                                      \
    {                                                                                              \
        return storage_method(COMMAND, &name##_signature, self, args, nargs, kwnames);             \
    }

STORAGE_METHOD(set, MC_SET)
STORAGE_METHOD(add, MC_ADD)
STORAGE_METHOD(replace, MC_REPLACE)
STORAGE_METHOD(append, MC_APPEND)
STORAGE_METHOD(prepend, MC_PREPEND)
STORAGE_METHOD(cas, MC_CAS)

/* ---- delete, touch -------------------------------------------------------------------------- */

/* Sends "delete key [time]" or "touch key time". argument: decimal text or empty. */
static PyObject *delete_or_touch(mcx_call *call, mc_command command, const mcx_key *key,
                                 mc_slice argument, bool noreply)
{
    mcx_request request = {.command = command, .argument = argument, .noreply = noreply};
    mc_reply_type good = command == MC_DELETE ? MC_REPLY_DELETED : MC_REPLY_TOUCHED;
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    int there = mcx_select(call, key, &target);
    int result = -1;

    if (there <= 0) {
        return there < 0 ? NULL : PyLong_FromLong(0);
    }
    if (mcx_record_count(call->module, call->record, (int)command) < 0) {
        mcx_target_end(call, &target, true);
        return NULL;
    }
    request.key = key->text;
    there = mcx_ask(call, &target, &request, &answer);
    if (there < 0) {
        return NULL;
    }
    result = noreply ? there : there > 0 && answer.type == good;
    if (result == 0 && answer.line != NULL &&
        mcx_debuglog(call, "%s expected %s, got: %R", mc_commands[command].name.bytes,
                     command == MC_DELETE ? "DELETED" : "TOUCHED", answer.line) < 0) {
        result = -1;
    }
    Py_XDECREF(answer.line);
    return result < 0 ? NULL : PyLong_FromLong(result);
}

/* The same with the method's arguments; time NULL or 0 is left out of a delete. */
static PyObject *delete_or_touch_object(mcx_call *call, mc_command command, PyObject *object,
                                        PyObject *time, PyObject *noreply)
{
    mcx_decimal decimal;
    mcx_key key;
    bool quiet;
    PyObject *result = NULL;

    if (mcx_flag(noreply, &quiet) < 0) {
        return NULL;
    }
    if (command == MC_TOUCH ? mcx_touch_time(time, "time", &decimal) < 0
                            : mcx_time(time == Py_None ? NULL : time, "time", &decimal) < 0) {
        return NULL;
    }
    if (command == MC_DELETE && decimal.text.length == 1 && decimal.text.bytes[0] == '0') {
        decimal.text.length = 0;
    }
    if (mcx_key_single(call, object, &key) == 0) {
        result = delete_or_touch(call, command, &key, decimal.text, quiet);
        mcx_key_clear(&key);
    }
    Py_XDECREF(decimal.owner);
    return result;
}

static const mcx_signature delete_signature = {
    .method = "delete", .count = 3, .required = 1, .names = {"key", "noreply", "time"}};

MCX_METHOD(client_delete)
{
    PyObject *values[3], *result;
    mcx_call call;

    if (mcx_bind(&delete_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_delete, args, nargs, kwnames);
    }
    result = delete_or_touch_object(&call, MC_DELETE, values[0], values[2], values[1]);
    return mcx_call_finish(&call, result, MCX_PURE_delete, args, nargs, kwnames);
}

static const mcx_signature touch_signature = {
    .method = "touch", .count = 3, .required = 1, .names = {"key", "time", "noreply"}};

MCX_METHOD(client_touch)
{
    PyObject *values[3], *result;
    mcx_call call;

    if (mcx_bind(&touch_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, MCX_PURE_touch, args, nargs, kwnames);
    }
    result = delete_or_touch_object(&call, MC_TOUCH, values[0], values[1], values[2]);
    return mcx_call_finish(&call, result, MCX_PURE_touch, args, nargs, kwnames);
}

/* ---- incr, decr ----------------------------------------------------------------------------- */

/* What incr and decr return for an answer (there > 0) or for none. */
static PyObject *number_result(mcx_call *call, const mcx_request *request, int there,
                               const mcx_answer *answer)
{
    if (there > 0 && !request->noreply && answer->type == MC_REPLY_NUMBER) {
        return PyLong_FromUnsignedLongLong(answer->number);
    }
    if (there > 0 && answer->type == MC_REPLY_CLIENT_ERROR) {
        PyObject *words = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(answer->line),
                                               PyBytes_GET_SIZE(answer->line), "replace");

        if (words != NULL) {
            PyErr_SetObject(PyExc_ValueError, words);
            Py_DECREF(words);
        }
        return NULL;
    }
    if (there == 0 && answer->line != NULL &&
        mcx_debuglog(call, "%s expected a number, got: %R",
                     mc_commands[request->command].name.bytes, answer->line) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *arithmetic(mcx_call *call, mc_command command, PyObject *object, PyObject *delta,
                            PyObject *noreply)
{
    mcx_request request = {.command = command};
    mcx_decimal decimal = {.owner = NULL, .text = {"1", 1}};
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    mcx_key key;
    PyObject *result = NULL;
    int there;

    if (mcx_flag(noreply, &request.noreply) < 0 ||
        (delta != NULL && mcx_delta(delta, &decimal) < 0)) {
        return NULL;
    }
    if (mcx_key_single(call, object, &key) < 0) {
        goto done;
    }
    there = mcx_select(call, &key, &target);
    if (there > 0 && mcx_record_count(call->module, call->record, (int)command) < 0) {
        mcx_target_end(call, &target, true);
        there = -1;
    }
    if (there > 0) {
        request.key = key.text;
        request.argument = decimal.text;
        there = mcx_ask(call, &target, &request, &answer);
    }
    if (there >= 0) {
        result = number_result(call, &request, there, &answer);
    }
    mcx_key_clear(&key);
done:
    Py_XDECREF(answer.line);
    Py_XDECREF(decimal.owner);
    return result;
}

/* incr or decr on the straight way: as get_straight. */
static int arithmetic_straight(mc_command command, PyObject *self, PyObject *key, mc_slice delta,
                               PyObject **result)
{
    mcx_straight straight;
    mcx_call call;
    mcx_target target;
    uint64_t number;
    mc_status status = MC_NO_MEMORY;

    if (UNLIKELY(!mcx_straight_begin(&straight, self, key))) {
        return 0;
    }
    mc_buffer *in = &straight.connection->in;

    if (LIKELY(mc_request_line(&straight.connection->out, command, straight.key, delta, false))) {
        status = mcx_straight_roundtrip(&straight, command);
    }
    size_t length = mc_buffer_length(in);
    if (LIKELY(status == MC_OK && length > 2 &&
               memcmp(mc_buffer_bytes(in) + length - 2, "\r\n", 2) == 0 &&
               mc_number_parse(mc_buffer_bytes(in), length - 2, &number))) {
        *result = PyLong_FromUnsignedLongLong(number);
        mcx_straight_end(&straight);
        return 1;
    }
    *result = NULL;
    if (mcx_straight_hand_over(&straight, self, &call, &target) < 0) {
        return 1;
    }
    mcx_request request = {.command = command, .key = straight.key, .argument = delta};
    mcx_answer answer;
    int there = mcx_ask_begun(&call, &target, &request, &answer, status);

    *result = there < 0 ? NULL : number_result(&call, &request, there, &answer);
    Py_XDECREF(there < 0 ? NULL : answer.line);
    mcx_target_end(&call, &target, false);
    *result = mcx_call_end(&call, *result);
    return 1;
}

static PyObject *arithmetic_method(mc_command command, const mcx_signature *signature,
                                   PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    PyObject *values[3], *result = NULL;
    mcx_call call;

    if (LIKELY(kwnames == NULL && (nargs == 1 || (nargs == 2 && PyLong_CheckExact(args[1]))))) {
        mcx_decimal delta; /* of an int it needs no owner */

        if (mcx_delta(nargs == 2 ? args[1] : NULL, &delta) < 0) {
            return NULL;
        }
        if (LIKELY(arithmetic_straight(command, self, args[0], delta.text, &result))) {
            return result;
        }
    }
    if (mcx_bind(signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int way = command == MC_INCR ? MCX_PURE_incr : MCX_PURE_decr;
    int begun = mcx_call_begin(&call, self);
    if (begun != 0) {
        return begun < 0 ? NULL : mcx_pure(self, way, args, nargs, kwnames);
    }
    result = arithmetic(&call, command, values[0], values[1], values[2]);
    return mcx_call_finish(&call, result, way, args, nargs, kwnames);
}

#define ARITHMETIC_METHOD(name, COMMAND)                                                           \
    static const mcx_signature name##_signature = {                                                \
        .method = #name, .count = 3, .required = 1, .names = {"key", "delta", "noreply"}};         \
    MCX_METHOD(client_##name)                                                                      \
    {                                                                                              \
        return arithmetic_method(COMMAND, &name##_signature, self, args, nargs, kwnames);          \
    }

ARITHMETIC_METHOD(incr, MC_INCR)
ARITHMETIC_METHOD(decr, MC_DECR)

/* ---- tables --------------------------------------------------------------------------------- */

#define STORAGE_SIGNATURE "($self, key, val, time=0, min_compress_len=0, noreply=False)\n--\n\n"

#define STORAGE_ARGUMENTS                                                                          \
    "key: str, bytes, or a tuple (hash, key).\n"                                                   \
    "time: seconds until the value expires, an absolute Unix time, or a timedelta; 0: never.\n"    \
    "min_compress_len: a value of more bytes than this is compressed with zlib; 0: never.\n"       \
    "noreply: do not wait for the server's answer.\n\n"

#define STORAGE_RETURNS                                                                            \
    "Returns True or False by the server's word, True with noreply, 0 where no server could be\n"  \
    "reached or the value is too large. Raises what pickling a value raises.\n" MCX_RAISES

PyMethodDef mcx_single_methods[] = {
    MCX_DEF("get", client_get,
            "get($self, key, default=None)\n--\n\n"
            "Fetch the value of key (protocol.txt, \"Retrieval command\").\n\n"
            "Returns the value, or default where the key is not there or no server answers within\n"
            "socket_timeout seconds. A value that cannot be decoded is None.\n" MCX_RAISES),
    MCX_DEF(
        "gets", client_gets,
        "gets($self, key)\n--\n\n"
        "Like get, and where the client was made with cache_cas=True, remember the value's token\n"
        "(protocol.txt, \"cas unique\") for this thread's cas(). Without cache_cas nothing is\n"
        "remembered, and cas() overwrites.\n\n"
        "Returns the value or None.\n" MCX_RAISES),
    MCX_DEF(
        "set", client_set,
        "set" STORAGE_SIGNATURE "Store val under key (protocol.txt, \"Storage commands\").\n"
        "A value too large for the client (server_max_value_length) leaves the old value there;\n"
        "one that memcached refuses removes the old value.\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("add", client_add,
            "add" STORAGE_SIGNATURE "Store val only where the key is not there yet (protocol.txt, "
            "\"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("replace", client_replace,
            "replace" STORAGE_SIGNATURE
            "Store val only where the key is there already (protocol.txt, \"Storage "
            "commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("append", client_append,
            "append" STORAGE_SIGNATURE
            "Add val behind the value that is there, which keeps its flags and its time\n"
            "(protocol.txt, \"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("prepend", client_prepend,
            "prepend" STORAGE_SIGNATURE
            "Add val before the value that is there, which keeps its flags and its time\n"
            "(protocol.txt, \"Storage commands\").\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("cas", client_cas,
            "cas" STORAGE_SIGNATURE
            "Store val only where the value has not changed since this thread's last gets(key)\n"
            "(protocol.txt, \"Storage commands\").\n"
            "This takes a client with cache_cas=True. Without it, or where no gets found the key,\n"
            "there is no token, and it is set, which overwrites, as in python-memcached; after a\n"
            "miss use add:\n\n"
            "    for attempt in range(100):\n"
            "        old = client.gets(key)\n"
            "        if client.add(key, first) if old is None else client.cas(key, change(old)):\n"
            "            break\n\n" STORAGE_ARGUMENTS STORAGE_RETURNS),
    MCX_DEF("delete", client_delete,
            "delete($self, key, noreply=False, time=0)\n--\n\n"
            "Delete key (protocol.txt, \"Deletion\"). time is sent only where it is not 0: an\n"
            "argument of old servers, kept for old callers.\n\n"
            "Returns 1 where the key was there (or with noreply), else 0.\n" MCX_RAISES),
    MCX_DEF("touch", client_touch,
            "touch($self, key, time=0, noreply=False)\n--\n\n"
            "Set a new expiry for key (protocol.txt, \"Touch\").\n\n"
            "time: seconds until the value expires, an absolute Unix time, or a timedelta; 0: "
            "never.\nA str of digits is taken too.\n\n"
            "Returns 1 where the key was there (or with noreply), else 0.\n" MCX_RAISES),
    MCX_DEF(
        "incr", client_incr,
        "incr($self, key, delta=1, noreply=False)\n--\n\n"
        "Add delta, 0 to 2**64-1, to the decimal number stored under key (protocol.txt,\n"
        "\"Increment/Decrement\"); it wraps at 2**64.\n\n"
        "Returns the new int, None for a missing key, no server, or noreply. Raises ValueError\n"
        "with the server's words where the value is no number.\n" MCX_RAISES),
    MCX_DEF("decr", client_decr,
            "decr($self, key, delta=1, noreply=False)\n--\n\n"
            "Subtract delta from the decimal number stored under key (protocol.txt,\n"
            "\"Increment/Decrement\"); never below 0.\n\n"
            "Returns and raises as incr."),
    {NULL, NULL, 0, NULL},
};
