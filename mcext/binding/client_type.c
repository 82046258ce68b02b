/* client_type: the `Client` type, made over threading.local as it is found at import.
 *
 * The type is made by calling the metaclass of that threading.local with __slots__ for one object,
 * the shared object (shared.c); the methods are added to it afterwards. So it works over the
 * interpreter's own class and over gevent's and eventlet's, and memory that is all zero is a client
 * not yet opened. */
#include "client_type.h"

#include <structmember.h>

#include "client.h"
#include "client_attributes.h"
#include "client_init.h"
#include "compat.h"
#include "methods.h"
#include "options.h"
#include "state.h"
#include "values.h"

static int add_methods(mcx_module *module, PyMethodDef *methods)
{
    int result = 0;

    for (; result == 0 && methods->ml_name != NULL; methods++) {
        result = mcx_add_to_client(module, methods->ml_name,
                                   PyDescr_NewMethod(module->client_type, methods));
    }
    return result;
}

static int add_constant(mcx_module *module, const char *name, long value)
{
    return mcx_add_to_client(module, name, PyLong_FromLong(value));
}

/* An exception class nested in Client. */
static PyObject *add_exception(PyTypeObject *type, const char *name, PyObject *base,
                               const char *doc)
{
    PyObject *full = PyUnicode_FromFormat("memcache.%s", name);
    const char *text = full ? PyUnicode_AsUTF8(full) : NULL;
    PyObject *exception = text ? PyErr_NewExceptionWithDoc(text, doc, base, NULL) : NULL;
    PyObject *qualified = exception ? PyUnicode_FromFormat("Client.%s", name) : NULL;

    if (qualified == NULL || PyObject_SetAttrString(exception, "__qualname__", qualified) < 0 ||
        PyObject_SetAttrString((PyObject *)type, name, exception) < 0) {
        Py_CLEAR(exception);
    }
    Py_XDECREF(qualified);
    Py_XDECREF(full);
    return exception;
}

static int add_exceptions(mcx_module *module)
{
    PyTypeObject *type = module->client_type;

    module->key_error =
        add_exception(type, "MemcachedKeyError", NULL, "A key that cannot be used.");
    if (module->key_error == NULL) {
        return -1;
    }
    module->key_length_error = add_exception(type, "MemcachedKeyLengthError", module->key_error,
                                             "A key that is too long.");
    module->key_character_error =
        add_exception(type, "MemcachedKeyCharacterError", module->key_error,
                      "A key with a control character or a space.");
    module->key_none_error = add_exception(type, "MemcachedKeyNoneError", module->key_error,
                                           "A key that is None or empty.");
    module->key_type_error = add_exception(type, "MemcachedKeyTypeError", module->key_error,
                                           "A key that is neither str nor bytes.");
    module->string_encoding_error = add_exception(type, "MemcachedStringEncodingError", NULL,
                                                  "Kept for programs that name it.");
    return module->key_length_error && module->key_character_error && module->key_none_error &&
                   module->key_type_error && module->string_encoding_error
               ? 0
               : -1;
}

/* class Client(threading.local): __slots__ = ("_mcext_shared",) */
static int make_type(mcx_module *module, PyObject *module_object)
{
    /* What has no dict of its own (object, say, in place of threading.local) gets one; and what
     * cannot be referred to weakly (gevent's) a place for that. */
    bool needs_dict = module->local_type->tp_dictoffset == 0 &&
                      module->local_type->tp_getattro == PyObject_GenericGetAttr &&
                      !PyType_HasFeature(module->local_type, MCX_MANAGED_DICT);
    bool needs_weakref = module->local_type->tp_weaklistoffset == 0;
    PyObject *slots =
        needs_dict && needs_weakref
            ? Py_BuildValue("(sss)", "_mcext_shared", "__dict__", "__weakref__")
        : needs_dict || needs_weakref
            ? Py_BuildValue("(ss)", "_mcext_shared", needs_dict ? "__dict__" : "__weakref__")
            : Py_BuildValue("(s)", "_mcext_shared");
    PyObject *namespace =
        slots ? Py_BuildValue("{sNssssss}", "__slots__", slots, "__module__", "memcache",
                              "__qualname__", "Client", "__doc__", mcx_client_signature)
              : NULL;
    PyObject *type = NULL, *slot = NULL, *doc = NULL;
    int result = -1;

    if (namespace == NULL) {
        goto done;
    }
    type = PyObject_CallFunction((PyObject *)Py_TYPE(module->local_type), "s(O)O", "Client",
                                 module->local_type, namespace);
    if (type == NULL) {
        goto done;
    }
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "threading.local's metaclass did not make a class");
        goto done;
    }
    slot = PyObject_GetAttrString(type, "_mcext_shared");
    if (slot == NULL || !Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
        PyErr_SetString(PyExc_TypeError, "threading.local's subclass has no slot");
        goto done;
    }
    /* The signature stays in the type; what help() shows is without it. */
    doc = PyUnicode_FromString(mcx_client_doc);
    if (doc == NULL || PyObject_SetAttrString(type, "__doc__", doc) < 0) {
        goto done;
    }
    module->shared_offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    /* Calls borrow what the slot holds, so nothing but the client's end may empty it. */
    if (PyObject_DelAttrString(type, "_mcext_shared") < 0) {
        goto done;
    }
    module->client_type = (PyTypeObject *)Py_NewRef(type);
    /* So that mcx_module_of finds the module by the class. */
    Py_XSETREF(((PyHeapTypeObject *)type)->ht_module, Py_NewRef(module_object));
    ((PyTypeObject *)type)->tp_methods = mcx_client_mark;
    result = 0;
done:
    Py_XDECREF(namespace);
    Py_XDECREF(type);
    Py_XDECREF(slot);
    Py_XDECREF(doc);
    return result;
}

int mcx_add_client_type(mcx_module *module, PyObject *module_object)
{
    if (make_type(module, module_object) < 0 || mcx_add_init(module) < 0 ||
        add_exceptions(module) < 0 || mcx_add_attributes(module) < 0 ||
        add_methods(module, mcx_get_methods) < 0 || add_methods(module, mcx_store_methods) < 0 ||
        add_methods(module, mcx_change_methods) < 0 || add_methods(module, mcx_multi_methods) < 0 ||
        add_methods(module, mcx_server_methods) < 0 ||
        add_methods(module, mcx_server_for_methods) < 0 ||
        add_methods(module, mcx_client_methods) < 0 || add_methods(module, mcx_pure_methods) < 0) {
        return -1;
    }
    return add_constant(module, "_FLAG_PICKLE", MCX_FLAG_PICKLE) < 0 ||
                   add_constant(module, "_FLAG_INTEGER", MCX_FLAG_INTEGER) < 0 ||
                   add_constant(module, "_FLAG_LONG", MCX_FLAG_LONG) < 0 ||
                   add_constant(module, "_FLAG_COMPRESSED", MCX_FLAG_ZLIB) < 0 ||
                   add_constant(module, "_FLAG_TEXT", MCX_FLAG_TEXT) < 0 ||
                   add_constant(module, "_SERVER_RETRIES", 10) < 0
               ? -1
               : 0;
}
