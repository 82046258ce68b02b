/* arguments: keyword binding, and the numbers that callers pass, as the protocol's decimals.
 *
 * Calls the core's number and Python's number protocol. The GIL is held; no state of its own. */
#include "arguments.h"

#include <math.h>
#include <string.h>

#include "core/net/clock.h"
#include "core/wire/number.h"

#include "compat.h"

#define MAX_SECONDS 1000000000 /* 31 years; as nanoseconds well inside int64_t */
#define FAR_SECONDS 1e12       /* 31,000 years; two of them as microseconds well inside int64_t */

/* ---- binding -------------------------------------------------------------------------------- */

static bool is_name(PyObject *keyword, const char *name)
{
    if (LIKELY(PyUnicode_IS_COMPACT_ASCII(keyword))) {
        const char *text = (const char *)PyUnicode_1BYTE_DATA(keyword);

        return text[0] == name[0] && strcmp(text, name) == 0 &&
               (size_t)PyUnicode_GET_LENGTH(keyword) == strlen(name);
    }
    return PyUnicode_CompareWithASCIIString(keyword, name) == 0;
}

static int bind_keywords(const mcx_signature *signature, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames, PyObject **values)
{
    Py_ssize_t given = PyTuple_GET_SIZE(kwnames);

    for (Py_ssize_t i = 0; i < given; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        int at = 0;

        while (at < signature->count && !is_name(keyword, signature->names[at])) {
            at++;
        }
        if (at == signature->count) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         signature->method, keyword);
            return -1;
        }
        if (values[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         signature->method, signature->names[at]);
            return -1;
        }
        values[at] = args[nargs + i];
    }
    return 0;
}

int mcx_bind(const mcx_signature *signature, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **values)
{
    if (UNLIKELY(nargs > signature->count)) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional argument%s (%zd given)",
                     signature->method, signature->count, signature->count == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t i = nargs; i < signature->count; i++) {
        values[i] = NULL;
    }
    if (kwnames != NULL && bind_keywords(signature, args, nargs, kwnames, values) < 0) {
        return -1;
    }
    for (Py_ssize_t i = nargs; i < signature->required; i++) {
        if (UNLIKELY(values[i] == NULL)) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s' (pos %zd)",
                         signature->method, signature->names[i], i + 1);
            return -1;
        }
    }
    return 0;
}

/* The number that a str of ASCII digits is, behind leading zeros: 1; 0 where it is none that fits
 * 64 bits; -1 with an exception. */
static int parse_digits(PyObject *object, uint64_t *value)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(object, &length);

    if (text == NULL) { /* a lone surrogate is no digit */
        if (!PyErr_ExceptionMatches(PyExc_UnicodeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    for (; length > 1 && *text == '0'; length--) {
        text++;
    }
    return mc_number_parse(text, (size_t)length, value) ? 1 : 0;
}

/* ---- time ----------------------------------------------------------------------------------- */

static int set_small(mcx_decimal *decimal, int64_t value)
{
    decimal->text.bytes = decimal->digits;
    decimal->text.length = mc_number_format_signed(decimal->digits, value);
    return 0;
}

/* An int or an instance of a subclass, by its value. What memcached cannot read as a time makes it
 * take a data block for commands, so nothing beyond 64 bits is let through. */
static int set_int(mcx_decimal *decimal, PyObject *number, const char *name)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);

    if (UNLIKELY(overflow != 0)) {
        PyErr_Format(PyExc_ValueError, "%s must be between -2**63 and 2**63-1", name);
        return -1;
    }
    return value == -1 && PyErr_Occurred() ? -1 : set_small(decimal, value);
}

/* What int(object) is, for objects that "%d" takes; errors name the argument. */
static int set_number(mcx_decimal *decimal, PyObject *object, const char *name)
{
    PyObject *number = NULL;
    int result;

    if (PyNumber_Check(object)) {
        number = PyNumber_Long(object);
        if (number != NULL) {
            result = set_int(decimal, number, name);
            Py_DECREF(number);
            return result;
        }
        if (PyErr_ExceptionMatches(PyExc_OverflowError) ||
            PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Format(PyExc_ValueError, "%s must be a finite number, not %R", name, object);
            return -1;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or a timedelta, not %.200s", name,
                 Py_TYPE(object)->tp_name);
    return -1;
}

/* 1 for a datetime.timedelta, 0, or -1 with an exception. Where datetime was never imported there
 * is none. */
static int is_timedelta(PyObject *object)
{
    PyObject *name = NULL;
    PyObject *module = NULL;
    PyObject *type = NULL;
    int result = -1;

    name = PyUnicode_FromString("datetime");
    if (name == NULL) {
        goto done;
    }
    module = PyImport_GetModule(name);
    if (module == NULL) {
        result = PyErr_Occurred() ? -1 : 0;
        goto done;
    }
    type = PyObject_GetAttrString(module, "timedelta");
    if (type == NULL) {
        goto done;
    }
    result = PyObject_IsInstance(object, type);
done:
    Py_XDECREF(type);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return result;
}

static int set_timedelta(mcx_decimal *decimal, PyObject *object, const char *name)
{
    PyObject *seconds = PyObject_CallMethod(object, "total_seconds", NULL);
    double value;
    int result = -1;

    if (seconds == NULL) {
        goto done;
    }
    value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred()) {
        goto done;
    }
    /* 0 would mean for ever */
    result = value > 0 && value < 1 ? set_small(decimal, 1) : set_number(decimal, seconds, name);
done:
    Py_XDECREF(seconds);
    return result;
}

int mcx_time(PyObject *object, const char *name, mcx_decimal *decimal)
{
    int answer;

    decimal->owner = NULL;
    if (LIKELY(object == NULL)) {
        return set_small(decimal, 0);
    }
    if (LIKELY(PyLong_Check(object))) { /* bool too: "%d" gives 0 and 1 */
        return set_int(decimal, object, name);
    }
    if (!PyFloat_CheckExact(object)) {
        answer = is_timedelta(object);
        if (answer < 0) {
            return -1;
        }
        if (answer) {
            return set_timedelta(decimal, object, name);
        }
    }
    return set_number(decimal, object, name);
}

int mcx_touch_time(PyObject *object, const char *name, mcx_decimal *decimal)
{
    uint64_t value;
    int parsed;

    if (LIKELY(object == NULL || !PyUnicode_Check(object))) {
        return mcx_time(object, name, decimal);
    }
    decimal->owner = NULL;
    parsed = parse_digits(object, &value);
    if (parsed < 0) {
        return -1;
    }
    if (parsed == 0 || value > INT64_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "%s must be a number of seconds, a str of digits only (up to 2**63-1), or a "
                     "timedelta, not %R",
                     name, object);
        return -1;
    }
    return set_small(decimal, (int64_t)value);
}

/* ---- delta and timeouts --------------------------------------------------------------------- */

static int set_unsigned(mcx_decimal *decimal, uint64_t value)
{
    decimal->text.bytes = decimal->digits;
    decimal->text.length = mc_number_format(decimal->digits, value);
    return 0;
}

int mcx_delta(PyObject *object, mcx_decimal *decimal)
{
    decimal->owner = NULL;
    if (LIKELY(object == NULL)) {
        return set_unsigned(decimal, 1);
    }
    if (LIKELY(PyLong_Check(object))) {
        unsigned long long value = PyLong_AsUnsignedLongLong(object);

        if (LIKELY(value != (unsigned long long)-1 || !PyErr_Occurred())) {
            return set_unsigned(decimal, value);
        }
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
    }
    else if (PyUnicode_Check(object)) {
        uint64_t value;
        int parsed = parse_digits(object, &value);

        if (parsed != 0) {
            return parsed < 0 ? -1 : set_unsigned(decimal, value);
        }
    }
    else {
        PyErr_Format(PyExc_TypeError, "delta must be an int, not %.200s", Py_TYPE(object)->tp_name);
        return -1;
    }
    PyErr_Format(PyExc_ValueError, "delta must be between 0 and 2**64-1, not %R", object);
    return -1;
}

int mcx_seconds(PyObject *object, const char *name, int64_t *nanoseconds)
{
    double seconds;

    if (object == Py_None) {
        *nanoseconds = MC_NO_TIMEOUT;
        return 0;
    }
    if (PyLong_Check(object)) { /* a huge one does not fit a double */
        int overflow;
        long long whole = PyLong_AsLongLongAndOverflow(object, &overflow);

        if (whole == -1 && overflow == 0 && PyErr_Occurred()) {
            return -1;
        }
        seconds = overflow != 0 ? (double)overflow * 2 * MAX_SECONDS : (double)whole;
    }
    else {
        seconds = PyFloat_AsDouble(object);
        if (seconds == -1.0 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or None, not %.200s",
                             name, Py_TYPE(object)->tp_name);
            }
            return -1;
        }
    }
    if (!(seconds > 0) || !isfinite(seconds)) { /* NaN is not greater either */
        PyErr_Format(PyExc_ValueError, "%s must be a positive number of seconds or None, not %R",
                     name, object);
        return -1;
    }
    if (seconds >= MAX_SECONDS) {
        seconds = MAX_SECONDS;
    }
    *nanoseconds = (int64_t)(seconds * (double)MC_SECOND);
    if (*nanoseconds == 0) {
        *nanoseconds = 1;
    }
    return 0;
}

int64_t mcx_microseconds(double seconds)
{
    if (seconds >= FAR_SECONDS) {
        return (int64_t)(FAR_SECONDS * 1e6);
    }
    if (seconds <= -FAR_SECONDS) {
        return -(int64_t)(FAR_SECONDS * 1e6);
    }
    return isnan(seconds) ? 0 : (int64_t)(seconds * 1e6);
}

/* ---- other numbers -------------------------------------------------------------------------- */

int mcx_min_compress(PyObject *object)
{
    PyObject *zero;
    int wanted;

    if (LIKELY(object == NULL || PyLong_CheckExact(object))) {
        return 0;
    }
    wanted = PyObject_IsTrue(object);
    if (wanted <= 0) {
        return wanted;
    }
    zero = PyLong_FromLong(0);
    wanted = zero ? PyObject_RichCompareBool(zero, object, Py_GT) : -1;
    Py_XDECREF(zero);
    if (wanted < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "min_compress_len must be a number, not %.200s",
                     Py_TYPE(object)->tp_name);
    }
    else if (wanted < 0 && PyErr_ExceptionMatches(PyExc_ArithmeticError)) {
        PyErr_Format(PyExc_ValueError, "min_compress_len must be a number, not %R", object);
    }
    return wanted < 0 ? -1 : 0;
}

int mcx_int(PyObject *object, const char *name, Py_ssize_t *number)
{
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.200s", name,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    *number = PyNumber_AsSsize_t(object, NULL);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

int mcx_flag(PyObject *object, bool *flag)
{
    int is_true = object == NULL ? 0 : PyObject_IsTrue(object);

    *flag = is_true > 0;
    return is_true < 0 ? -1 : 0;
}
