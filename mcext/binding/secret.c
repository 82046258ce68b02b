#include "secret.h"

#include <stdatomic.h>
#include <string.h>

#include "core/wire/buffer.h"
#include "core/wire/key.h"

#include "compat.h"
#include "state.h"

struct mcx_secret {
    PyObject_HEAD
    PyObject *ask; /* strong: the function that gives it; NULL: it is the bytes */
    bool is_name;
    _Atomic int has_warned_of_space, has_warned;
    size_t length;
    char bytes[MCX_PAYLOAD_AT_MOST];
};

/* The shortest of the other one, and the space between them. */
#define LENGTH_AT_MOST (MCX_PAYLOAD_AT_MOST - 2)

static const char *word_for(bool is_name)
{
    return is_name ? "username" : "password";
}

/* ---- what it may be ------------------------------------------------------------------------- */

static int too_long(void)
{
    PyErr_Format(PyExc_ValueError,
                 "username and password must not be longer than %d bytes together",
                 MCX_PAYLOAD_AT_MOST - 1);
    return -1;
}

/* What would end or split the data block, or the line of memcached's file. */
static int check_bytes(mc_slice text, bool is_name)
{
    if (text.length == 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be empty", word_for(is_name));
        return -1;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (memchr("\n\r\0 ", text.bytes[i], is_name ? 4 : 3) != NULL) {
            PyErr_Format(PyExc_ValueError, "%s must not hold %sa newline, a carriage return or NUL",
                         word_for(is_name), is_name ? "a space, " : "");
            return -1;
        }
    }
    return text.length > LENGTH_AT_MOST ? too_long() : 0;
}

/* memcached 1.6.18 cuts what it is sent at every space: nobody gets in with such a password. */
static int warn_of_space(mcx_secret *secret, mc_slice text)
{
    if (secret->is_name || memchr(text.bytes, ' ', text.length) == NULL ||
        atomic_exchange(&secret->has_warned_of_space, 1) != 0) {
        return 0;
    }
    return mcx_warn("password holds a space: memcached up to at least 1.6.18 lets nobody in with "
                    "such a one");
}

void mcx_secret_drop_bytes(PyObject *bytes)
{
    if (bytes != NULL && Py_REFCNT(bytes) == 1) {
        mc_wipe(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    }
    Py_XDECREF(bytes);
}

/* The bytes of a str or bytes: *owner is strong where they had to be made, and is to be dropped by
 * mcx_secret_drop_bytes. What an encoder would say shows the text. */
static int view(PyObject *value, bool is_name, mc_slice *text, PyObject **owner)
{
    *owner = NULL;
    if (PyUnicode_Check(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
        *text = (mc_slice){PyUnicode_DATA(value), (size_t)PyUnicode_GET_LENGTH(value)};
        return 0;
    }
    if (PyUnicode_Check(value)) {
        *owner = value = PyUnicode_AsUTF8String(value);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s must be text that UTF-8 has", word_for(is_name));
        }
        if (value == NULL) {
            return -1;
        }
    }
    *text = (mc_slice){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
    return 0;
}

/* Checked, and copied to room; its length or -1. */
static Py_ssize_t take(mcx_secret *secret, PyObject *value, char room[MCX_PAYLOAD_AT_MOST])
{
    mc_slice text;
    PyObject *owner;
    Py_ssize_t length = -1;

    if (view(value, secret->is_name, &text, &owner) < 0) {
        return -1;
    }
    if (check_bytes(text, secret->is_name) == 0 && warn_of_space(secret, text) == 0) {
        memcpy(room, text.bytes, text.length);
        length = (Py_ssize_t)text.length;
    }
    mcx_secret_drop_bytes(owner);
    return length;
}

/* ---- making --------------------------------------------------------------------------------- */

static int fill(mcx_secret *secret, PyObject *value)
{
    Py_ssize_t length;

    if (!PyUnicode_Check(value) && !PyBytes_Check(value)) {
        if (!secret->is_name && PyCallable_Check(value)) {
            secret->ask = Py_NewRef(value);
            return 0;
        }
        PyErr_Format(PyExc_TypeError, "%s must be str%s, not %.100s", word_for(secret->is_name),
                     secret->is_name ? " or bytes" : ", bytes or a function that returns one",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    length = take(secret, value, secret->bytes);
    secret->length = length > 0 ? (size_t)length : 0;
    return length < 0 ? -1 : 0;
}

static PyObject *make(mcx_module *module, PyObject *value, bool is_name)
{
    mcx_secret *secret;

    if (Py_IS_TYPE(value, module->secret_type) && ((mcx_secret *)value)->is_name == is_name) {
        return Py_NewRef(value); /* another client's */
    }
    secret = (mcx_secret *)module->secret_type->tp_alloc(module->secret_type, 0);
    if (secret != NULL) {
        secret->is_name = is_name;
        if (fill(secret, value) < 0) {
            Py_CLEAR(secret);
        }
    }
    return (PyObject *)secret;
}

PyObject *mcx_secret_name(mcx_module *module, PyObject *value)
{
    return make(module, value, true);
}

PyObject *mcx_secret_password(mcx_module *module, PyObject *value, PyObject *name)
{
    PyObject *password;

    if (name == NULL) {
        PyErr_SetString(PyExc_ValueError, "password needs a username");
        return NULL;
    }
    password = make(module, value, false);
    if (password != NULL &&
        ((mcx_secret *)password)->length + ((mcx_secret *)name)->length >= MCX_PAYLOAD_AT_MOST) {
        Py_CLEAR(password);
        (void)too_long();
    }
    return password;
}

PyObject *mcx_secret_pair(PyObject *self, PyObject *args)
{
    mcx_module *module = PyModule_GetState(self);
    PyObject *username, *password, *name;

    if (!PyArg_ParseTuple(args, "OO:_secrets", &username, &password)) {
        return NULL;
    }
    if (username == Py_None && password == Py_None) {
        Py_RETURN_NONE;
    }
    if (password == Py_None) {
        PyErr_SetString(PyExc_ValueError, "username needs a password");
        return NULL;
    }
    name = username != Py_None ? mcx_secret_name(module, username) : NULL;
    if (name == NULL && username != Py_None) {
        return NULL;
    }
    password = mcx_secret_password(module, password, name);
    if (password == NULL) {
        Py_XDECREF(name);
        return NULL;
    }
    return Py_BuildValue("(NN)", name, password);
}

/* ---- using ---------------------------------------------------------------------------------- */

/* What the function gives now. */
static Py_ssize_t ask(mcx_secret *secret, char room[MCX_PAYLOAD_AT_MOST])
{
    PyObject *function = Py_NewRef(secret->ask);
    PyObject *given = PyObject_CallNoArgs(function);
    Py_ssize_t length = -1;

    Py_DECREF(function);
    if (given == NULL) {
        return -1;
    }
    if (PyUnicode_Check(given) || PyBytes_Check(given)) {
        length = take(secret, given, room);
    }
    else {
        PyErr_Format(PyExc_TypeError, "password() must return str or bytes, not %.100s",
                     Py_TYPE(given)->tp_name);
    }
    Py_DECREF(given);
    return length;
}

int mcx_secret_lay_out(PyObject *name, PyObject *password, char payload[MCX_PAYLOAD_AT_MOST],
                       size_t *length)
{
    const mcx_secret *user = (const mcx_secret *)name;
    mcx_secret *secret = (mcx_secret *)password;
    char asked[MCX_PAYLOAD_AT_MOST];
    const char *bytes = secret->bytes;
    Py_ssize_t size = (Py_ssize_t)secret->length;
    int result = -1;

    if (secret->ask != NULL) {
        size = ask(secret, asked);
        bytes = asked;
    }
    if (size >= 0 && user->length + (size_t)size >= MCX_PAYLOAD_AT_MOST) {
        (void)too_long();
    }
    else if (size >= 0) {
        memcpy(payload, user->bytes, user->length);
        payload[user->length] = ' ';
        memcpy(payload + user->length + 1, bytes, (size_t)size);
        *length = user->length + 1 + (size_t)size;
        result = 0;
    }
    mc_wipe(asked, sizeof asked);
    return result;
}

bool mcx_secret_warns_now(PyObject *password)
{
    return atomic_exchange(&((mcx_secret *)password)->has_warned, 1) == 0;
}

/* ---- the type ------------------------------------------------------------------------------- */

static PyObject *secret_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s>", word_for(((mcx_secret *)self)->is_name));
}

/* Of no use without its bytes, and with them no secret. */
static PyObject *secret_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "a %s cannot be pickled or copied",
                        word_for(((mcx_secret *)self)->is_name));
}

static PyMethodDef secret_methods[] = {
    {"__reduce__", secret_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int secret_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((mcx_secret *)self)->ask);
    return 0;
}

static int secret_clear(PyObject *self)
{
    Py_CLEAR(((mcx_secret *)self)->ask);
    return 0;
}

static void secret_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mcx_secret *secret = (mcx_secret *)self;

    PyObject_GC_UnTrack(self);
    (void)secret_clear(self);
    mc_wipe(secret->bytes, sizeof secret->bytes);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot secret_slots[] = {
    {Py_tp_repr, secret_repr},
    {Py_tp_methods, secret_methods},
    {Py_tp_dealloc, secret_dealloc},
    {Py_tp_traverse, secret_traverse},
    {Py_tp_clear, secret_clear},
    {Py_tp_doc, "A name or a password; nobody can read it here."},
    {0, NULL},
};

PyType_Spec mcx_secret_spec = {
    .name = "mcext._core._Secret",
    .basicsize = sizeof(mcx_secret),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = secret_slots,
};
