/* arguments: the arguments of methods: bound to their names, read, checked. */
#ifndef MCX_ARGUMENTS_H
#define MCX_ARGUMENTS_H

#include "compat.h"
#include "core/wire/key.h"

/* A method's parameters: names in order, the first `required` of which have no default. */
typedef struct {
    const char *method;
    int count;
    int required;
    const char *names[32];
} mcx_signature;

/* Binds positional and keyword arguments to values[count], NULL where not given; borrowed.
 * TypeError that names the method and the argument. */
int mcx_bind(const mcx_signature *signature, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **values);

/* A time argument as decimal text (protocol.txt, "exptime"): text points into digits or into
 * owner. NULL object: 0. */
typedef struct {
    mc_slice text;
    PyObject *owner;
    char digits[24];
} mcx_decimal;
int mcx_time(PyObject *object, const char *name, mcx_decimal *decimal);
/* The same of `touch`, which takes a str of digits as well: python-memcached sent it as it was. */
int mcx_touch_time(PyObject *object, const char *name, mcx_decimal *decimal);
int mcx_delta(PyObject *object, mcx_decimal *decimal);

/* Refuses a min_compress_len that a length cannot be compared with; NULL: none was given. */
int mcx_min_compress(PyObject *object);

/* An int; one that a Py_ssize_t cannot hold is the nearest that it can. */
int mcx_int(PyObject *object, const char *name, Py_ssize_t *number);

/* Whether an optional argument is true; NULL: it is not. */
int mcx_flag(PyObject *object, bool *flag);

/* Seconds as nanoseconds; None: MC_NO_TIMEOUT. */
int mcx_seconds(PyObject *object, const char *name, int64_t *nanoseconds);

/* Seconds as microseconds. What lies beyond 31,000 years is the nearest that does not, NaN is 0,
 * and two of these can be added: of any other double the conversion is undefined. */
int64_t mcx_microseconds(double seconds);

#endif
