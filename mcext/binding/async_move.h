/* async_move: errands that have lost their stream. */
#ifndef MCX_ASYNC_MOVE_H
#define MCX_ASYNC_MOVE_H

#include "compat.h"

/* _rehome(): of _AsyncCache: they all go on. */
PyObject *mcx_async_rehome(PyObject *client, PyObject *unused);

#endif
