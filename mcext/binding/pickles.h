/* pickles: values that are pickled, and what pickles mean. */
#ifndef MCX_PICKLES_H
#define MCX_PICKLES_H

#include "call.h"
#include "core/wire/key.h"

/* The value's pickle, a bytes object. */
PyObject *mcx_pickle(mcx_call *call, PyObject *value);

/* The value of a pickle, text or, where that is not NULL, body. What does not decode is None, with
 * a debug line; NULL with an exception only for what is nobody's data. */
PyObject *mcx_unpickle(mcx_call *call, mc_slice text, PyObject *body);

#endif
