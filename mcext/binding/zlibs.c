/* zlibs: values that are compressed: by zlib, or by the caller's own compressor. The GIL is held,
 * but not while zlib works on much; what it reads then is an immutable object that this call holds
 * or the buffer of a connection that this call owns. */
#include "zlibs.h"

#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#include "core/wire/key.h"

#include "call.h"
#include "compat.h"
#include "forgive.h"
#include "shared.h"
#include "state.h"
#include "values.h"

#define MAX_CHUNK ((size_t)1 << 30) /* of what zlib gets at once: its counts have 32 bits */
#define KEEP_GIL 1024               /* bytes: releasing it costs more than working on fewer */

/* ---- storing -------------------------------------------------------------------------------- */

int mcx_wants_compression(PyObject *min_compress, size_t length)
{
    PyObject *number;
    int result;

    if (LIKELY(PyLong_CheckExact(min_compress))) {
        int overflow;
        long long least = PyLong_AsLongLongAndOverflow(min_compress, &overflow);

        return overflow != 0 ? overflow < 0 : least != 0 && (long long)length > least;
    }
    result = PyObject_IsTrue(min_compress);
    if (result <= 0) {
        return result;
    }
    number = PyLong_FromSize_t(length);
    if (number == NULL) {
        return -1;
    }
    result = PyObject_RichCompareBool(number, min_compress, Py_GT);
    Py_DECREF(number);
    return result;
}

/* Runs text through stream into room bytes at stream->next_out: Z_STREAM_END, Z_OK where the room
 * is too small, or what went wrong. */
static int deflate_nogil(z_stream *stream, mc_slice text, size_t room)
{
    size_t left = text.length;
    int status;

    stream->next_in = (const Bytef *)text.bytes;
    do {
        if (stream->avail_in == 0) {
            stream->avail_in = (uInt)Py_MIN(left, MAX_CHUNK);
            left -= stream->avail_in;
        }
        if (stream->avail_out == 0) {
            if (room == 0) {
                return Z_OK;
            }
            stream->avail_out = (uInt)Py_MIN(room, MAX_CHUNK);
            room -= stream->avail_out;
        }
        status = deflate(stream, left == 0 ? Z_FINISH : Z_NO_FLUSH);
    } while (status == Z_OK);
    return status;
}

/* zlib.compress(text) in *result where it is shorter than text, else NULL; -1 with an exception.
 * One that is not shorter is not kept, so no room for it is needed. */
static int compress_native(mc_slice text, PyObject **result)
{
    z_stream stream = {0};
    PyThreadState *thread;
    PyObject *output = NULL;
    bool opened = false;
    int returned = -1;
    int status;

    *result = NULL;
    if (text.length < 2) {
        return 0;
    }
    output = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)text.length - 1);
    if (output == NULL) {
        goto done;
    }
    status = deflateInit(&stream, Z_DEFAULT_COMPRESSION);
    if (status != Z_OK) {
        PyErr_NoMemory();
        goto done;
    }
    opened = true;
    stream.next_out = (Bytef *)PyBytes_AS_STRING(output);
    thread = text.length > KEEP_GIL ? PyEval_SaveThread() : NULL;
    status = deflate_nogil(&stream, text, text.length - 1);
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    if (status == Z_STREAM_END) {
        Py_ssize_t length = (char *)stream.next_out - PyBytes_AS_STRING(output);

        if (_PyBytes_Resize(&output, length) < 0) {
            goto done;
        }
        *result = output;
        output = NULL;
    }
    else if (status != Z_OK) {
        PyErr_Format(PyExc_RuntimeError, "zlib failed to compress (%d)", status);
        goto done;
    }
    returned = 0;
done:
    if (opened) {
        (void)deflateEnd(&stream);
    }
    Py_XDECREF(output);
    return returned;
}

/* As compress_native, by the caller's own compressor. */
static int compress_by(PyObject *compressor, const mcx_stored *stored, PyObject **result)
{
    PyObject *plain = NULL;
    PyObject *answer = NULL;
    int returned = -1;

    *result = NULL;
    plain = mcx_view_bytes(stored->text, PyBytes_CheckExact(stored->owner) ? stored->owner : NULL);
    if (plain == NULL) {
        goto done;
    }
    answer = PyObject_CallOneArg(compressor, plain);
    if (answer == NULL) {
        goto done;
    }
    if (!PyBytes_Check(answer)) {
        PyObject *bytes;

        if (!PyObject_CheckBuffer(answer)) {
            PyErr_Format(PyExc_TypeError, "compressor must return bytes, not %.200s",
                         Py_TYPE(answer)->tp_name);
            goto done;
        }
        bytes = PyBytes_FromObject(answer);
        if (bytes == NULL) {
            goto done;
        }
        Py_SETREF(answer, bytes);
    }
    if ((size_t)PyBytes_GET_SIZE(answer) < stored->text.length) {
        *result = answer;
        answer = NULL;
    }
    returned = 0;
done:
    Py_XDECREF(answer);
    Py_XDECREF(plain);
    return returned;
}

APART int mcx_compress(const mcx_snapshot *snapshot, mcx_stored *stored)
{
    PyObject *shorter;

    if (snapshot->native_compressor) {
        if (compress_native(stored->text, &shorter) < 0) {
            return -1;
        }
    }
    else if (compress_by(snapshot->options[MCX_OPT_COMPRESSOR], stored, &shorter) < 0) {
        return -1;
    }
    if (shorter != NULL) {
        Py_SETREF(stored->owner, shorter);
        stored->text = mcx_bytes_of(shorter);
        stored->flags |= MCX_FLAG_ZLIB;
    }
    return 0;
}

#define DECOMPRESSION_ERROR "Decompression error: %s\n"

/* ---- reading -------------------------------------------------------------------------------- */

/* Runs left bytes more of input through stream into room bytes at stream->next_out: Z_OK where the
 * room is full, Z_BUF_ERROR where the input ended too soon, Z_STREAM_END, or what went wrong. */
static int inflate_nogil(z_stream *stream, size_t *left, size_t room)
{
    int status;

    do {
        if (stream->avail_in == 0) {
            stream->avail_in = (uInt)Py_MIN(*left, MAX_CHUNK);
            *left -= stream->avail_in;
        }
        if (stream->avail_out == 0) {
            if (room == 0) {
                return Z_OK;
            }
            stream->avail_out = (uInt)Py_MIN(room, MAX_CHUNK);
            room -= stream->avail_out;
        }
        status = inflate(stream, Z_NO_FLUSH);
    } while (status == Z_OK);
    return status;
}

/* zlib.decompress(text); what stands behind the end of the stream is left alone, as there. NULL
 * with *why, static text, or with an exception and *why NULL. Takes one byte more than the limit
 * at most. */
static PyObject *decompress_native(mc_slice text, Py_ssize_t limit, const char **why)
{
    z_stream stream = {0};
    PyThreadState *thread;
    size_t most = (size_t)Py_MIN(limit, PY_SSIZE_T_MAX / 2) + 1;
    size_t capacity = text.length < most / 4 ? text.length * 4 : most;
    size_t left = text.length;
    size_t used = 0;
    PyObject *output = NULL;
    PyObject *result = NULL;
    bool opened = false;
    int status;

    *why = NULL;
    if (capacity < 64 && capacity < most) {
        capacity = Py_MIN(64, most);
    }
    output = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
    if (output == NULL) {
        goto done;
    }
    status = inflateInit(&stream);
    if (status != Z_OK) {
        PyErr_NoMemory();
        goto done;
    }
    opened = true;
    stream.next_in = (const Bytef *)text.bytes;
    for (;;) {
        stream.next_out = (Bytef *)PyBytes_AS_STRING(output) + used;
        thread = capacity - used > KEEP_GIL ? PyEval_SaveThread() : NULL;
        status = inflate_nogil(&stream, &left, capacity - used);
        if (thread != NULL) {
            PyEval_RestoreThread(thread);
        }
        used = (size_t)((char *)stream.next_out - PyBytes_AS_STRING(output));
        if (status != Z_OK || capacity == most) {
            break;
        }
        capacity = capacity < most / 2 ? capacity * 2 : most;
        if (_PyBytes_Resize(&output, (Py_ssize_t)capacity) < 0) {
            goto done;
        }
    }
    if (used == most) {
        *why = MCX_TOO_LARGE;
    }
    else if (status == Z_STREAM_END) {
        if (_PyBytes_Resize(&output, (Py_ssize_t)used) == 0) {
            result = output;
            output = NULL;
        }
    }
    else if (status == Z_MEM_ERROR) {
        PyErr_NoMemory();
    }
    else if (status == Z_BUF_ERROR) {
        *why = "incomplete or truncated stream";
    }
    else {
        *why = stream.msg != NULL ? stream.msg : "invalid stream";
    }
done:
    if (opened) {
        (void)inflateEnd(&stream);
    }
    Py_XDECREF(output);
    return result;
}

static bool is_zstd(mc_slice text)
{
    return text.length >= 4 && memcmp(text.bytes, "\x28\xb5\x2f\xfd", 4) == 0;
}

/* As mcx_decompress, by mcext.compress.decompress(bytes, limit). */
static COLD PyObject *decompress_zstd(mcx_call *call, mc_slice text, PyObject *body,
                                      PyObject **plain)
{
    PyObject *function = mcx_import("mcext.compress", "decompress");
    PyObject *bytes = function ? mcx_view_bytes(text, body) : NULL;

    *plain =
        bytes ? PyObject_CallFunction(function, "On", bytes, call->snapshot->max_length) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(bytes);
    if (*plain != NULL && !PyBytes_Check(*plain)) {
        PyErr_SetString(PyExc_TypeError, "mcext.compress.decompress did not return bytes");
        Py_CLEAR(*plain);
    }
    return *plain == NULL ? mcx_forgive(call, "") : NULL;
}

APART PyObject *mcx_decompress(mcx_call *call, mc_slice text, PyObject *body, PyObject **plain)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *bytes;
    PyObject *answer;
    const char *why;

    if (UNLIKELY(call->cache != NULL) && is_zstd(text)) {
        return decompress_zstd(call, text, body, plain);
    }
    if (LIKELY(snapshot->native_decompressor)) {
        *plain = decompress_native(text, snapshot->max_length, &why);
        return why != NULL ? mcx_give_up(call, DECOMPRESSION_ERROR, why) : NULL;
    }
    *plain = NULL;
    bytes = mcx_view_bytes(text, body);
    if (bytes == NULL) {
        return NULL;
    }
    answer = PyObject_CallOneArg(snapshot->options[MCX_OPT_DECOMPRESSOR], bytes);
    Py_DECREF(bytes);
    if (answer == NULL) {
        return mcx_forgive(call, "Decompression error: %S\n");
    }
    if (!PyBytes_Check(answer)) {
        if (!PyObject_CheckBuffer(answer)) {
            Py_DECREF(answer);
            return mcx_give_up(call, DECOMPRESSION_ERROR, "the decompressor did not return bytes");
        }
        Py_SETREF(answer, PyBytes_FromObject(answer));
        if (answer == NULL) {
            return mcx_forgive(call, "Decompression error: %S\n");
        }
    }
    *plain = answer;
    return NULL;
}
