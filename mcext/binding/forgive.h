/* forgive: a value that cannot be decoded: for a Client it is None, with a debug line, for a Cache
 * a DecodeError. */
#ifndef MCX_FORGIVE_H
#define MCX_FORGIVE_H

#include "call.h"

/* The exception that is set becomes a debug line and the answer None, or a DecodeError, unless it
 * is nobody's data. format has one %S, for the exception. */
PyObject *mcx_forgive(mcx_call *call, const char *format);
/* The same for a reason in words, for which format has one %s. */
PyObject *mcx_give_up(mcx_call *call, const char *format, const char *why);

#endif
