/* codec: values through a Cache's own codec: its encode and decode, in Python. */
#ifndef MCX_CODEC_H
#define MCX_CODEC_H

#include "cache_call.h"
#include "values.h"

/* encode(value) as it is stored: 0, or -1 with an exception, encode's or TypeError. */
int mcx_codec_encode(mcx_call *call, PyObject *value, mcx_stored *stored);

/* decode(body, flags); body is a bytes object or NULL, then it is made of text. What it raises is
 * a DecodeError. */
PyObject *mcx_codec_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body);

#endif
