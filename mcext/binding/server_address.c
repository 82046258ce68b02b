/* server_address: a server as applications give it, taken apart: its weight, and what is connected
 * to. */
#include "server_address.h"

#include <string.h>

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

bool mcx_server_is_source(PyObject *given)
{
    static const char *const beginnings[] = {"elasticache://", "dns+"};
    PyObject *text =
        PyTuple_Check(given) && PyTuple_GET_SIZE(given) != 0 ? PyTuple_GET_ITEM(given, 0) : given;

    for (size_t i = 0; PyUnicode_Check(text) && i < sizeof beginnings / sizeof *beginnings; i++) {
        Py_ssize_t length = (Py_ssize_t)strlen(beginnings[i]), at = 0;

        while (at < length && at < PyUnicode_GET_LENGTH(text) &&
               PyUnicode_READ_CHAR(text, at) == (Py_UCS4)beginnings[i][at]) {
            at++;
        }
        if (at == length) {
            return true;
        }
    }
    return false;
}

PyObject *mcx_server_key(const mc_address *remote, PyObject *name)
{
    return Py_BuildValue(
        "(iy#iO)", (int)remote->family, remote->host.bytes, (Py_ssize_t)remote->host.length,
        remote->family == MC_FAMILY_UNIX ? 0 : (int)remote->port, name != NULL ? name : Py_None);
}

PyObject *mcx_server_key_of(PyObject *given)
{
    PyObject *address, *weight = NULL, *called, *owner = NULL, *name = NULL, *result = NULL;
    mc_address parsed, remote;

    if (mcx_server_split(given, &address, &weight, &called) == 0 &&
        mcx_server_parse(address, &parsed, &owner) == 0 &&
        mcx_server_find_remote(&parsed, &remote, &name) == 0) {
        result = Py_BuildValue("(NO)", mcx_server_key(&remote, called), weight);
    }
    else if (PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        result = Py_NewRef(Py_None);
    }
    Py_XDECREF(weight);
    Py_XDECREF(owner);
    Py_XDECREF(name);
    return result;
}
