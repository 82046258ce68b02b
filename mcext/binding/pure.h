/* pure: methods whose work is done in Python: mcext.pure.client. */
#ifndef MCX_PURE_H
#define MCX_PURE_H

#include "state.h"

/* mcext.pure.client's function for a method, called with self before the arguments. */
PyObject *mcx_pure(PyObject *self, int method, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames);

#endif
