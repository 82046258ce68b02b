/* values: Python values as memcached keeps them, and back: flags, text, int, pickle, zlib. */
#include "values.h"

#include "core/wire/key.h"
#include "core/wire/number.h"

#include "cache_call.h"
#include "call.h"
#include "codec.h"
#include "compat.h"
#include "forgive.h"
#include "log.h"
#include "pickles.h"
#include "shared.h"
#include "zlibs.h"

#define MAX_FAST_DIGITS 18 /* any so long fits an int64_t */

/* ---- storing -------------------------------------------------------------------------------- */

/* Takes the reference: a bytes object, or NULL with an exception. */
static int own_bytes(mcx_stored *stored, PyObject *bytes)
{
    stored->owner = bytes;
    if (bytes == NULL) {
        return -1;
    }
    stored->text = mcx_bytes_of(bytes);
    return 0;
}

static int store_text(mcx_stored *stored, PyObject *value)
{
    if (LIKELY(PyUnicode_IS_COMPACT_ASCII(value))) {
        stored->text.bytes = (const char *)PyUnicode_1BYTE_DATA(value);
        stored->text.length = (size_t)PyUnicode_GET_LENGTH(value);
        stored->owner = Py_NewRef(value);
        return 0;
    }
    return own_bytes(stored, PyUnicode_AsUTF8String(value));
}

static int store_int(mcx_stored *stored, PyObject *value)
{
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(value, &overflow);
    PyObject *digits;

    if (LIKELY(overflow == 0)) {
        stored->text.bytes = stored->digits;
        stored->text.length = mc_number_format_signed(stored->digits, small);
        return 0;
    }
    digits = PyObject_Str(value); /* ValueError beyond Python's digit limit */
    if (digits == NULL) {
        return -1;
    }
    stored->text.bytes = (const char *)PyUnicode_1BYTE_DATA(digits);
    stored->text.length = (size_t)PyUnicode_GET_LENGTH(digits);
    stored->owner = digits;
    return 0;
}

int mcx_store_info(mcx_call *call, PyObject *value, PyObject *min_compress, mcx_stored *stored)
{
    const mcx_snapshot *snapshot = call->snapshot;
    int result;

    /* by the exact type: an instance of a subclass has to come back as what it is */
    stored->owner = NULL;
    if (Py_IS_TYPE(value, &PyUnicode_Type)) {
        stored->flags = MCX_FLAG_TEXT;
        result = store_text(stored, value);
    }
    else if (Py_IS_TYPE(value, &PyBytes_Type)) {
        stored->flags = 0;
        result = own_bytes(stored, Py_NewRef(value));
    }
    else if (Py_IS_TYPE(value, &PyLong_Type)) {
        stored->flags = MCX_FLAG_INTEGER;
        result = store_int(stored, value);
        min_compress = NULL; /* incr and decr have to read it */
    }
    else {
        stored->flags = MCX_FLAG_PICKLE;
        result = own_bytes(stored, mcx_pickle(call, value));
    }
    if (UNLIKELY(result < 0)) {
        goto failed;
    }
    if (UNLIKELY((Py_ssize_t)stored->text.length > snapshot->max_length)) {
        goto too_large;
    }
    if (UNLIKELY(min_compress != NULL)) {
        result = mcx_wants_compression(min_compress, stored->text.length);
        if (result < 0 || (result > 0 && mcx_compress(snapshot, stored) < 0)) {
            goto failed;
        }
    }
    if (UNLIKELY(!mcx_may_be_sent(snapshot, stored->text.length))) {
        goto too_large;
    }
    return 1;
too_large:
    mcx_stored_clear(stored);
    return 0;
failed:
    mcx_stored_clear(stored);
    return -1;
}

void mcx_stored_clear(mcx_stored *stored)
{
    Py_CLEAR(stored->owner);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* int(bytes), which takes spaces, a sign and underscores too. */
static PyObject *decode_int(mcx_call *call, mc_slice text, PyObject *body)
{
    bool negative = text.length > 0 && text.bytes[0] == '-';
    size_t at = negative;
    long long sum = 0;
    PyObject *bytes;
    PyObject *result;

    if (LIKELY(text.length > at && text.length - at <= MAX_FAST_DIGITS)) {
        while (at < text.length) {
            unsigned next = (unsigned)(unsigned char)text.bytes[at] - '0';

            if (UNLIKELY(next > 9)) {
                break;
            }
            sum = sum * 10 + next;
            at++;
        }
        if (LIKELY(at == text.length)) {
            return PyLong_FromLongLong(negative ? -sum : sum);
        }
    }
    bytes = mcx_view_bytes(text, body);
    if (bytes == NULL) {
        return NULL;
    }
    result = PyNumber_Long(bytes);
    Py_DECREF(bytes);
    return result != NULL ? result : mcx_forgive(call, "Decode error: %S\n");
}

/* flags without the zlib bit */
static PyObject *decode_plain(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    PyObject *result;

    if (UNLIKELY((Py_ssize_t)text.length > call->snapshot->max_length)) {
        return mcx_give_up(call, "Decode error: %s\n", MCX_TOO_LARGE);
    }
    if (flags == 0) {
        return mcx_view_bytes(text, body);
    }
    if (flags & MCX_FLAG_TEXT) {
        result = PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, NULL);
        return LIKELY(result != NULL) ? result : mcx_forgive(call, "Decode error: %S\n");
    }
    if (flags & (MCX_FLAG_INTEGER | MCX_FLAG_LONG)) {
        return decode_int(call, text, body);
    }
    if (flags & MCX_FLAG_PICKLE) {
        return mcx_unpickle(call, text, body);
    }
    if (call->cache != NULL) {
        return mcx_give_up(call, "%s", "unknown flags");
    }
    return mcx_debuglog(call, "unknown flags on get: %x\n", flags) < 0 ? NULL : Py_NewRef(Py_None);
}

/* What a Cache's own codec decodes, or nobody. */
static COLD PyObject *decode_uncommon(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    if (!mcx_has_codec(call)) {
        return mcx_give_up(call, "%s", "unknown flags");
    }
    return mcx_codec_decode(call, flags, text, body);
}

/* b"", and what was added behind it: no pickle goes on behind its end. */
static COLD PyObject *decode_empty(mcx_call *call, mc_slice text)
{
    text.bytes += MCX_EMPTY.length;
    text.length -= MCX_EMPTY.length;
    return mcx_has_codec(call) ? mcx_codec_decode(call, 0, text, NULL)
                               : decode_plain(call, 0, text, NULL);
}

APART PyObject *mcx_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    PyObject *plain;
    PyObject *result;

    if (body != NULL) {
        text = mcx_bytes_of(body);
    }
    if (UNLIKELY(call->cache != NULL)) {
        call->flags = flags;
        if (flags == MCX_FLAG_PICKLE && mcx_begins_empty(text)) {
            return decode_empty(call, text);
        }
        if (flags > MCX_FLAGS || mcx_has_codec(call)) {
            return decode_uncommon(call, flags, text, body);
        }
    }
    if (LIKELY(!(flags & MCX_FLAG_ZLIB))) {
        return decode_plain(call, flags, text, body);
    }
    result = mcx_decompress(call, text, body, &plain);
    if (plain != NULL) {
        result = decode_plain(call, flags & ~(uint32_t)MCX_FLAG_ZLIB, mcx_bytes_of(plain), plain);
        Py_DECREF(plain);
    }
    return result;
}
