#include "cache_call.h"

#include <math.h>
#include <string.h>

#include "core/flow/leg.h"
#include "core/net/clock.h"
#include "core/net/socket.h"
#include "core/wire/key.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "cache.h"
#include "call.h"
#include "compat.h"
#include "faults.h"
#include "keys.h"
#include "shared.h"
#include "state.h"
#include "watch.h"

/* ---- begin and end -------------------------------------------------------------------------- */

/* The first call, and the first one behind close or set_servers: its servers may have to be found.
 * Borrowed; NULL with an exception. */
static COLD mcx_shared *open_cache(mcx_cache *cache)
{
    mcx_shared *shared = cache->shared;

    if (shared == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%.100s.__init__ has not been called",
                     Py_TYPE(cache)->tp_name);
        return NULL;
    }
    if (mcx_watch_ready(shared, (PyObject *)cache) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(shared);
    if (!mcx_watch_is_due(shared)) {
        atomic_store(&cache->open, shared);
    }
    Py_END_CRITICAL_SECTION();
    return shared;
}

int mcx_cache_begin(mcx_call *call, PyObject *self, mc_command command)
{
    mcx_cache *cache = (mcx_cache *)self;
    mcx_shared *shared = atomic_load_explicit(&cache->open, memory_order_relaxed);

    if (UNLIKELY(shared == NULL)) {
        shared = open_cache(cache);
        if (shared == NULL) {
            return -1;
        }
    }
    /* What a call runs of its caller's may call the cache again, without a frame of Python's. */
    if (UNLIKELY(Py_EnterRecursiveCall(" in a call of a Cache"))) {
        return -1;
    }
    call->self = self;
    call->cache = cache;
    call->module = cache->module;
    call->shared = shared;
    call->record = NULL;
    call->transport = &mc_native_transport;
    call->socket_class = NULL;
    call->owner = 0;
    call->debuglog_is_replaced = call->is_customised = false;
    call->command = command;
    call->raises = cache->raises;
    call->faults = call->events = NULL;
    call->host = NULL;
    if (UNLIKELY(!mcx_socket_is_plain(call->module)) && mcx_call_find_transport(call) < 0) {
        Py_LeaveRecursiveCall();
        return -1;
    }
    call->snapshot = mcx_shared_enter(call->shared);
    mc_clock_start(&call->clock, MC_NO_TIMEOUT, MC_NO_TIMEOUT); /* until a server is chosen */
    call->began = call->clock.start;
    return 0;
}

/* mcext.events.tell(hook, events): it may do what it likes, and nothing of it reaches the caller.
 */
static COLD void tell(PyObject *hook, PyObject *events)
{
    PyObject *type, *value, *traceback, *function, *told = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    function = mcx_import("mcext.events", "tell");
    if (function != NULL) {
        told = PyObject_CallFunctionObjArgs(function, hook, events, NULL);
        Py_DECREF(function);
    }
    if (told == NULL) {
        PyErr_WriteUnraisable(hook);
    }
    Py_XDECREF(told);
    PyErr_Restore(type, value, traceback);
}

/* What the call failed with: raised, or a miss. */
static COLD PyObject *fail(mcx_call *call, PyObject *missed)
{
    PyObject *error;

    if (mcx_fault_nobody(call) < 0) {
        return NULL;
    }
    error = PyList_GET_ITEM(call->faults, 0); /* others followed from it */
    if (mcx_event(call, "error", NULL, error, 1) < 0) {
        return NULL;
    }
    if (call->raises) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        return NULL;
    }
    return Py_NewRef(missed);
}

/* A value that cannot be decoded is a miss where nothing is raised. Of a call without a miss
 * (missed is NULL) the exception is the caller's own: it comes out. */
static COLD PyObject *forgive_decoding(mcx_call *call, PyObject *missed)
{
    PyObject *error = mcx_fault_take("DecodeError");
    PyObject *result = NULL;

    if (error == NULL || mcx_event(call, "error", NULL, error, 1) < 0) {
        Py_XDECREF(error);
        return NULL;
    }
    if (call->raises || missed == NULL) {
        PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error,
                      PyException_GetTraceback(error));
    }
    else {
        Py_DECREF(error);
        result = Py_NewRef(missed);
    }
    return result;
}

static COLD PyObject *conclude(mcx_call *call, PyObject *result, PyObject *missed)
{
    if (result != NULL) {
        return result;
    }
    return PyErr_Occurred() ? forgive_decoding(call, missed) : fail(call, missed);
}

PyObject *mcx_cache_end(mcx_call *call, PyObject *result, PyObject *missed)
{
    mcx_cache *cache = call->cache;
    PyObject *hook;

    if (UNLIKELY(result == NULL)) {
        result = conclude(call, result, missed);
    }
    if (UNLIKELY(mcx_call_is_to_reap(call))) {
        result = mcx_call_reap(call, result);
    }
    mcx_shared_leave(call->snapshot);
    Py_LeaveRecursiveCall();
    Py_XDECREF(call->socket_class);
    Py_XDECREF(call->faults);
    if (UNLIKELY(call->events != NULL)) {
        Py_BEGIN_CRITICAL_SECTION(cache);
        hook = Py_XNewRef(cache->on_event);
        Py_END_CRITICAL_SECTION();
        if (hook != NULL) {
            tell(hook, call->events);
            Py_DECREF(hook);
        }
        Py_DECREF(call->events);
    }
    return result;
}

/* ---- arguments ------------------------------------------------------------------------------ */

int mcx_cache_bind(const mcx_signature *signature, int positional, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames, PyObject **values)
{
    if (UNLIKELY(nargs > positional)) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     signature->method, positional, nargs);
        return -1;
    }
    return mcx_bind(signature, args, nargs, kwnames, values);
}

int mcx_cache_key_check(mc_slice text, size_t prefix, PyObject *shown)
{
    if (LIKELY(text.length - 1 < MC_PROTOCOL_KEY_LENGTH - prefix && mc_key_is_plain(text))) {
        return 0;
    }
    if (text.length == 0) {
        PyErr_SetString(PyExc_ValueError, "key must not be empty");
    }
    else if (text.length > MC_PROTOCOL_KEY_LENGTH - prefix) {
        PyErr_Format(PyExc_ValueError,
                     "key must not be longer than %d bytes with its prefix, and is %zd: %.200R",
                     MC_PROTOCOL_KEY_LENGTH, (Py_ssize_t)(text.length + prefix), shown);
    }
    else {
        PyErr_Format(PyExc_ValueError, "key must not hold control characters or spaces: %R", shown);
    }
    return -1;
}

int mcx_cache_key_view(PyObject *object, mc_slice *text, PyObject **owner)
{
    if (LIKELY(PyUnicode_Check(object) && PyUnicode_IS_COMPACT_ASCII(object))) {
        *text = (mc_slice){PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};
        *owner = Py_NewRef(object);
        return 0;
    }
    if (PyUnicode_Check(object)) {
        *owner = PyUnicode_AsUTF8String(object);
    }
    else if (PyBytes_Check(object)) {
        *owner = Py_NewRef(object);
    }
    else {
        PyErr_Format(PyExc_TypeError, "key must be str or bytes, not %.200s",
                     Py_TYPE(object)->tp_name);
        *owner = NULL;
    }
    if (*owner == NULL) {
        return -1;
    }
    *text = (mc_slice){PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)};
    return 0;
}

int mcx_cache_key_of(mcx_call *call, PyObject *object, mcx_cache_key *key)
{
    PyObject *prefix = call->cache->prefix;
    size_t length = prefix != NULL ? (size_t)PyBytes_GET_SIZE(prefix) : 0;
    mc_slice text;

    key->key.hash = NULL;
    if (UNLIKELY(mcx_cache_key_view(object, &text, &key->key.owner) < 0)) {
        return -1;
    }
    if (UNLIKELY(mcx_cache_key_check(text, length, object) < 0)) {
        Py_CLEAR(key->key.owner);
        return -1;
    }
    if (length != 0) {
        memcpy(key->room, PyBytes_AS_STRING(prefix), length);
        memcpy(key->room + length, text.bytes, text.length);
        text = (mc_slice){key->room, length + text.length};
    }
    key->key.text = text;
    return 0;
}

/* Longer times are sent as the time of day (protocol.txt, "Expiration times"). */
#define RELATIVE_AT_MOST (60 * 60 * 24 * 30)

/* Whole seconds of a number or timedelta, rounded up; -1 with an exception. */
static COLD double ttl_seconds(PyObject *object)
{
    PyObject *number = NULL, *method = NULL;
    double seconds = -1;

    if (!PyLong_CheckExact(object) && !PyFloat_CheckExact(object)) {
        method = PyObject_GetAttrString(object, "total_seconds");
        if (method == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    if (method != NULL) {
        number = PyObject_CallNoArgs(method);
        Py_DECREF(method);
    }
    else if (PyBool_Check(object) || !PyNumber_Check(object) || PyComplex_Check(object)) {
        PyErr_Format(PyExc_TypeError,
                     "ttl must be a number of seconds, a timedelta or None, not "
                     "%.200s",
                     Py_TYPE(object)->tp_name);
    }
    else {
        number = PyNumber_Float(object);
    }
    if (number != NULL) {
        seconds = PyFloat_AsDouble(number);
        Py_DECREF(number);
    }
    if (seconds == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "ttl is more than memcached can hold");
        }
        return -1;
    }
    if (!(seconds > 0)) { /* NaN, too */
        PyErr_Format(PyExc_ValueError, "ttl must be more than 0, or None, not %R", object);
        return -1;
    }
    return ceil(seconds);
}

int mcx_cache_ttl(mcx_module *module, PyObject *object, mcx_decimal *ttl)
{
    int64_t now;
    double seconds;

    ttl->owner = NULL;
    ttl->text = (mc_slice){ttl->digits, 1};
    if (LIKELY(object == NULL || object == Py_None)) {
        ttl->digits[0] = '0';
        return 0;
    }
    seconds = ttl_seconds(object);
    if (seconds < 0) {
        return -1;
    }
    if (seconds > RELATIVE_AT_MOST) {
        if (mcx_wall_clock(module, &now) < 0) {
            return -1;
        }
        now /= 1000000; /* memcached knows whole seconds */
        seconds += (double)now;
    }
    if (seconds > INT32_MAX) { /* what memcached reads it into */
        PyErr_Format(PyExc_ValueError, "ttl is more than memcached can hold: %R", object);
        return -1;
    }
    ttl->text.length = mc_number_format_signed(ttl->digits, (long long)seconds);
    return 0;
}

int mcx_cache_token(PyObject *object, uint64_t *token)
{
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "cas must be the token of an Item, not %.200s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    *token = PyLong_AsUnsignedLongLong(object);
    if (*token == (uint64_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "cas must be between 0 and 2**64-1");
        }
        return -1;
    }
    return 0;
}
