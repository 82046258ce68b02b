/* async_protocol: the type `_AsyncStream`: the protocol of an asyncio transport, in C. */
#ifndef MCX_ASYNC_PROTOCOL_H
#define MCX_ASYNC_PROTOCOL_H

#include "async.h"

extern PyType_Spec mcx_astream_spec;

/* One that is to be opened: a new reference. */
mcx_astream *mcx_astream_new(mcx_async *client, mcx_lane *lane, Py_ssize_t number);

/* Its loop has ended, or it is another process's: all is let go, and nobody is told. */
void mcx_astream_drop(mcx_astream *stream);

#endif
