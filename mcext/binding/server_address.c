/* server_address: a server as applications give it, taken apart: its weight, and what is connected
 * to. */
#include "server_address.h"

#include "core/net/address.h"

#include "compat.h"
#include "state.h"

/* Whether a tuple is an mcext.Server, which has three items. -1 with an exception. */
static int is_named(PyObject *given)
{
    PyObject *class;
    int is_one;

    if (PyTuple_GET_SIZE(given) != 3) {
        return 0;
    }
    class = mcx_import("mcext.server", "Server");
    is_one = class ? PyObject_IsInstance(given, class) : -1;
    Py_XDECREF(class);
    return is_one;
}

static int check_name(PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "the name of a server must be a str, not %.100s",
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    if (PyUnicode_GET_LENGTH(name) == 0) {
        PyErr_SetString(PyExc_ValueError, "the name of a server must not be empty");
        return -1;
    }
    return 0;
}

int mcx_server_split(PyObject *given, PyObject **address, PyObject **weight, PyObject **name)
{
    PyObject *third = Py_None;

    if (!PyTuple_Check(given)) {
        *address = given;
        *name = NULL;
        *weight = PyLong_FromLong(1);
        return *weight == NULL ? -1 : 0;
    }
    int named = is_named(given);

    if (named > 0) {
        third = PyTuple_GET_ITEM(given, 2);
        if (third != Py_None && check_name(third) < 0) {
            return -1;
        }
    }
    else if (named < 0 || PyTuple_GET_SIZE(given) != 2) {
        if (named == 0) {
            PyErr_Format(PyExc_ValueError,
                         "a server must be an address, (address, weight) or an mcext.Server, "
                         "not %R",
                         given);
        }
        return -1;
    }
    PyObject *second = PyTuple_GET_ITEM(given, 1);
    if (!PyIndex_Check(second)) {
        PyErr_Format(PyExc_TypeError, "the weight of a server must be an int, not %.100s",
                     Py_TYPE(second)->tp_name);
        return -1;
    }
    if (PyNumber_AsSsize_t(second, PyExc_OverflowError) == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError,
                            "the weight of a server must be between -2**63 and 2**63-1");
        }
        return -1;
    }
    *address = PyTuple_GET_ITEM(given, 0);
    *name = third == Py_None ? NULL : third;
    *weight = Py_NewRef(second);
    return 0;
}

int mcx_server_parse(PyObject *given, mc_address *parsed, PyObject **owner)
{
    const char *wrong;

    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError, "the address of a server must be a str, not %.100s",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    *owner = PyUnicode_AsEncodedString(given, "utf-8", "surrogateescape");
    if (*owner == NULL) {
        return -1;
    }
    mc_slice text = {PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)};

    wrong = mc_address_parse(text, parsed);
    if (wrong != NULL) {
        PyErr_Format(PyExc_ValueError, "Unable to parse connection string: \"%U\": %s", given,
                     wrong);
        return -1;
    }
    return 0;
}

int mcx_server_find_remote(const mc_address *parsed, mc_address *remote, PyObject **name)
{
    PyObject *text;

    *remote = *parsed;
    if (parsed->family != MC_FAMILY_INET) {
        return 0;
    }
    text = PyUnicode_DecodeUTF8(parsed->host.bytes, (Py_ssize_t)parsed->host.length,
                                "surrogateescape");
    if (text != NULL && !PyUnicode_IS_ASCII(text)) {
        *name = PyUnicode_AsEncodedString(text, "idna", "strict");
        if (*name == NULL) {
            Py_CLEAR(text);
        }
        else {
            remote->host = (mc_slice){PyBytes_AS_STRING(*name), (size_t)PyBytes_GET_SIZE(*name)};
        }
    }
    Py_XDECREF(text);
    return text == NULL ? -1 : 0;
}
