/* values: Python's values as bytes and flags, and back. */
#ifndef MCX_VALUES_H
#define MCX_VALUES_H

#include <string.h>

#include "call.h"
#include "core/wire/number.h"

enum {
    MCX_FLAG_PICKLE = 1,
    MCX_FLAG_INTEGER = 2,
    MCX_FLAG_LONG = 4,
    MCX_FLAG_ZLIB = 8,
    MCX_FLAG_TEXT = 16,
    MCX_FLAGS = 31 /* all of them */
};

typedef struct {
    mc_slice text;
    PyObject *owner; /* strong or NULL */
    uint32_t flags;
    char digits[32]; /* of a small int: text may point here, so do not copy the struct */
} mcx_stored;

/* memcached reads the length of a data block, with its CRLF, into 32 bits with a sign; of a longer
 * one it takes the bytes for commands. */
#define MCX_LENGTH_THAT_SERVERS_READ ((size_t)INT32_MAX - 2)

/* Whether a data block so long is sent at all. */
static inline bool mcx_may_be_sent(const mcx_snapshot *snapshot, size_t length)
{
    return (snapshot->max_value_length == 0 || length <= (size_t)snapshot->max_value_length) &&
           length <= MCX_LENGTH_THAT_SERVERS_READ;
}

/* A value that goes out as it is, without Python code and without an owner. */
static inline bool mcx_plain_value(PyObject *value, mcx_stored *stored)
{
    if (PyBytes_CheckExact(value)) {
        stored->flags = 0;
        stored->text = (mc_slice){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
        return true;
    }
    if (PyUnicode_CheckExact(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
        stored->flags = MCX_FLAG_TEXT;
        stored->text = (mc_slice){PyUnicode_DATA(value), (size_t)PyUnicode_GET_LENGTH(value)};
        return true;
    }
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

        stored->flags = MCX_FLAG_INTEGER;
        stored->text = (mc_slice){stored->digits, 0};
        if (!overflow) {
            stored->text.length = mc_number_format_signed(stored->digits, number);
        }
        return !overflow;
    }
    return false;
}

static inline mc_slice mcx_bytes_of(PyObject *bytes)
{
    return (mc_slice){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/* A bytes object of text; bytes itself where that is what text is a view of. */
static inline PyObject *mcx_view_bytes(mc_slice text, PyObject *bytes)
{
    return bytes != NULL ? Py_NewRef(bytes)
                         : PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
}

/* pickle.dumps(b"", 3): what a Cache stores for b"": an item of no bytes and no flags is the place
 * that a lease holds. Every client reads it; zlib.compress(b"") ends a process with pylibmc 1.6.3.
 * Nothing is unpickled for it here. */
#define MCX_EMPTY ((mc_slice){"\x80\x03" "C\0.", 5})
static inline bool mcx_begins_empty(mc_slice text)
{
    return text.length >= 5 && memcmp(text.bytes, MCX_EMPTY.bytes, 5) == 0;
}

/* Whether that is such a place, and no value. */
static inline bool mcx_is_stub(uint32_t flags, size_t length)
{
    return length == 0 && flags == 0;
}

#define MCX_TOO_LARGE "value is larger than max_value_length"

/* value as it is stored: 1, 0 where it is too large to send, -1 with an exception. min_compress:
 * the caller's object or NULL. The default of _val_to_store_info. */
int mcx_store_info(mcx_call *call, PyObject *value, PyObject *min_compress, mcx_stored *stored);
void mcx_stored_clear(mcx_stored *stored);

/* The value that flags and bytes mean. body is a bytes object (owner) or NULL, then text is a view.
 * What does not decode is None, with a debug line. NULL with an exception only for what is nobody's
 * data: MemoryError, KeyboardInterrupt and the like. The default of _recv_value, behind recv. */
PyObject *mcx_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body);

#endif
