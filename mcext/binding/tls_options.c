#include "tls_options.h"

#include "core/fleet/pool.h"

#include "server.h"
#include "state.h"

int mcx_tls_check_context(PyObject *context)
{
    PyObject *wrap;

    if (context == Py_None) {
        return 0;
    }
    wrap = PyObject_GetAttrString(context, "wrap_bio");
    if (wrap == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Format(PyExc_TypeError, "tls_context must be an ssl.SSLContext, not %.100s",
                         Py_TYPE(context)->tp_name);
        }
        return -1;
    }
    Py_DECREF(wrap);
    return 0;
}

int mcx_tls_check_name(PyObject *name)
{
    if (name != Py_None && !PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "tls_server_hostname must be a str, not %.100s",
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    if (name != Py_None && PyUnicode_GET_LENGTH(name) == 0) {
        PyErr_SetString(PyExc_ValueError, "tls_server_hostname must not be empty");
        return -1;
    }
    return 0;
}

int mcx_tls_warn(PyObject *context)
{
    PyObject *mode = PyObject_GetAttrString(context, "verify_mode"), *none;
    int verifies_nothing;

    if (mode == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear(); /* a context of another kind */
        return 0;
    }
    none = mcx_import("ssl", "CERT_NONE");
    verifies_nothing = none ? PyObject_RichCompareBool(mode, none, Py_EQ) : -1;
    Py_DECREF(mode);
    Py_XDECREF(none);
    if (verifies_nothing > 0) {
        return mcx_warn("tls_context verifies no certificate (verify_mode is CERT_NONE): whoever "
                        "stands between can read and change all");
    }
    return verifies_nothing;
}

int mcx_tls_check(PyObject *context, PyObject *name)
{
    if (mcx_tls_check_context(context) < 0 || mcx_tls_check_name(name) < 0) {
        return -1;
    }
    if (context == Py_None && name != Py_None) {
        PyErr_SetString(PyExc_ValueError, "tls_server_hostname is given without a tls_context");
        return -1;
    }
    return context == Py_None ? 0 : mcx_tls_warn(context);
}

static PyObject **field_at(mcx_server *host, void *offset)
{
    return (PyObject **)((char *)host + (size_t)offset);
}

PyObject *mcx_tls_get(PyObject *self, void *offset)
{
    mcx_server *host = (mcx_server *)self;
    PyObject *value;

    Py_BEGIN_CRITICAL_SECTION(self);
    value = Py_XNewRef(*field_at(host, offset));
    Py_END_CRITICAL_SECTION();
    return value != NULL ? value : Py_NewRef(Py_None);
}

/* Whoever is connected from now on is so by the new value: what was connected before is used no
 * more, nor what a handshake of then left behind. */
int mcx_tls_set(PyObject *self, PyObject *value, void *offset)
{
    mcx_server *host = (mcx_server *)self;
    PyObject *old, *session = NULL;

    value = value == NULL ? Py_None : value; /* deleted */
    if ((size_t)offset == offsetof(mcx_server, tls_context) ? mcx_tls_check_context(value) < 0
                                                            : mcx_tls_check_name(value) < 0) {
        return -1;
    }
    value = value == Py_None ? NULL : value;
    Py_BEGIN_CRITICAL_SECTION(self);
    old = *field_at(host, offset);
    *field_at(host, offset) = Py_XNewRef(value);
    if (old != value) {
        session = host->tls_session;
        host->tls_session = NULL;
        host->tls_kept = 0;
        if (host->initialised) {
            mc_pool_disconnect(&host->server.pool);
        }
    }
    Py_END_CRITICAL_SECTION();
    if (old != value && host->initialised) {
        mcx_server_close_idle(host, false);
    }
    Py_XDECREF(old);
    Py_XDECREF(session);
    return 0;
}
