#include "codec.h"

#include "core/wire/key.h"

#include "cache.h"
#include "call.h"
#include "compat.h"
#include "forgive.h"
#include "values.h"

static int take_encoded(PyObject *made, mcx_stored *stored)
{
    PyObject *bytes = NULL, *flags = NULL;
    unsigned long number;

    if (PyTuple_Check(made) && PyTuple_GET_SIZE(made) == 2) {
        bytes = PyTuple_GET_ITEM(made, 0);
        flags = PyTuple_GET_ITEM(made, 1);
    }
    if (bytes == NULL || !PyBytes_Check(bytes) || !PyLong_Check(flags)) {
        PyErr_Format(PyExc_TypeError, "the codec's encode must return (bytes, flags), not %.200R",
                     made);
        return -1;
    }
    number = PyLong_AsUnsignedLong(flags);
    if ((number == (unsigned long)-1 && PyErr_Occurred()) || number > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "the codec's flags must be between 0 and 2**32-1, not %R",
                     flags);
        return -1;
    }
    stored->owner = Py_NewRef(bytes);
    stored->text = mcx_bytes_of(bytes);
    stored->flags = (uint32_t)number;
    return 0;
}

int mcx_codec_encode(mcx_call *call, PyObject *value, mcx_stored *stored)
{
    PyObject *made;
    int result;

    stored->owner = NULL;
    if (Py_EnterRecursiveCall(" in a codec")) {
        return -1;
    }
    made = PyObject_CallOneArg(call->cache->encode, value);
    Py_LeaveRecursiveCall();
    if (made == NULL) {
        return -1;
    }
    result = take_encoded(made, stored);
    Py_DECREF(made);
    return result;
}

PyObject *mcx_codec_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    PyObject *bytes = mcx_view_bytes(text, body);
    PyObject *number = bytes ? PyLong_FromUnsignedLong(flags) : NULL;
    PyObject *result = NULL;

    if (number != NULL && !Py_EnterRecursiveCall(" in a codec")) {
        PyObject *arguments[] = {bytes, number};

        result = PyObject_Vectorcall(call->cache->decode, arguments, 2, NULL);
        Py_LeaveRecursiveCall();
    }
    Py_XDECREF(bytes);
    Py_XDECREF(number);
    return LIKELY(result != NULL) ? result : mcx_forgive(call, "");
}
