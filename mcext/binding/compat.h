/* compat: the differences between CPython 3.10 and 3.15 that the binding meets.
 *
 * What it uses that is not public, tried on 3.10 to 3.13 and on free-threaded 3.13, and in earlier
 * versions of this file on 3.14 and 3.15:
 *
 * - tp_version_tag (mcx_type_version): that no inside is replaced costs one comparison; a wrong
 *   answer is only slow (replaced.c).
 *
 * - ma_version_tag, up to 3.11 (state.h): that socket.socket is Python's own.
 *
 * - ht_module and tp_methods (client_type.c, state.h): whose client it is. Client is made by its
 *   metaclass, which takes no module, so that PyType_GetModuleByDef finds none.
 *
 * - _PyDict_NewPresized, up to 3.12 (mcx_dict_for): a dict that grows takes 9,400 instructions more
 *   for 100 keys. _PyDict_SetItem_KnownHash, up to 3.11 (mcx_dict_put).
 *
 * - ob_item of a list (shared.c): lists are compared with their copies at one look. */
#ifndef MCX_COMPAT_H
#define MCX_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "core/wire/apart.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* What almost every call goes through is put into its callers; what almost none does stays out of
 * their way. WHOLE: all that a function calls is put into it, across files, but for what is COLD or
 * APART: that is one way of a call at the cost of one function. Without these a get takes 900
 * instructions more. */
#define INLINE inline __attribute__((always_inline))
#define COLD MC_COLD
#define APART MC_APART
#define WHOLE __attribute__((flatten))

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#if PY_VERSION_HEX < 0x030D0000
/* A new reference in *result and 1; 0 and NULL where missing; -1 with an exception. */
static inline int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result)
{
    *result = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *result != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

static inline int PyObject_GetOptionalAttr(PyObject *object, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(object, name);
    if (*result != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}
#endif

/* A dict with room for so many items, where there is a way to make one. */
static inline PyObject *mcx_dict_for(Py_ssize_t items)
{
#if PY_VERSION_HEX < 0x030D0000
    return _PyDict_NewPresized(items < 0 || items > 100000 ? 0 : items);
#else
    (void)items;
    return PyDict_New();
#endif
}

/* dict[key] = value; no Python code runs where both are str. Up to 3.11 a hash that is known
 * already saves a look at the dict and the key. */
static inline int mcx_dict_put(PyObject *dict, PyObject *key, PyObject *value)
{
#if PY_VERSION_HEX < 0x030C0000
    Py_hash_t hash = PyUnicode_CheckExact(key) ? ((PyASCIIObject *)key)->hash : -1;

    if (hash != -1) {
        return _PyDict_SetItem_KnownHash(dict, key, value, hash);
    }
#endif
    return PyDict_SetItem(dict, key, value);
}

/* A dict's version changes with every change of the dict; later it is gone. */
#define MCX_HAS_DICT_VERSION (PY_VERSION_HEX < 0x030C0000)

/* A type whose instances have a dict that no offset tells. */
#ifdef Py_TPFLAGS_MANAGED_DICT
#define MCX_MANAGED_DICT Py_TPFLAGS_MANAGED_DICT
#else
#define MCX_MANAGED_DICT 0
#endif

/* The version of a type's attributes: changes when any of them does; 0 where there is none. */
static inline uint32_t mcx_type_version(PyTypeObject *type)
{
#ifdef Py_GIL_DISABLED
    return __atomic_load_n(&type->tp_version_tag, __ATOMIC_ACQUIRE);
#elif PY_VERSION_HEX < 0x030D0000
    return type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG ? type->tp_version_tag : 0;
#else
    return type->tp_version_tag;
#endif
}

#endif
