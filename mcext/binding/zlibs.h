/* zlibs: values that are compressed. */
#ifndef MCX_ZLIBS_H
#define MCX_ZLIBS_H

#include "call.h"
#include "values.h"

/* Whether length is over min_compress, a number of the caller's that is not NULL; -1 with an
 * exception. As `min_compress and length > min_compress` in Python. */
int mcx_wants_compression(PyObject *min_compress, size_t length);

/* stored by the client's compressor, where that makes it shorter; -1 with an exception. */
int mcx_compress(const mcx_snapshot *snapshot, mcx_stored *stored);

/* The decompressed bytes in *plain and NULL, or the answer that stands for them: None, or NULL
 * with an exception and *plain NULL. */
PyObject *mcx_decompress(mcx_call *call, mc_slice text, PyObject *body, PyObject **plain);

#endif
