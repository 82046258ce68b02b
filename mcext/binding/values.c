/* values: Python values as memcached keeps them, and back: flags, text, int, pickle, zlib.
 *
 * Calls zlib, and Python: pickle, and the caller's own picklers and compressors. The GIL is held,
 * but not while zlib works on much; what it reads then is an immutable object that this call holds
 * or the buffer of a connection that this call owns. */
#define ZLIB_CONST
#include "mcx.h"

#include <zlib.h>

#define MAX_CHUNK                                                                                  \
    ((size_t)1 << 30) /* memcached reads the length of a data block, with its CRLF, into 32 bits   \
                         with a sign. */
#define LENGTH_THAT_SERVERS_READ ((size_t)INT32_MAX - 2)

/* of what zlib gets at once: its counts have 32 bits */
#define KEEP_GIL 1024      /* bytes: releasing it costs more than working on fewer */
#define MAX_FAST_DIGITS 18 /* any so long fits an int64_t */

static mc_slice bytes_view(PyObject *bytes)
{
    mc_slice text = {PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};

    return text;
}

static PyObject *view_bytes(mc_slice text, PyObject *bytes)
{
    return bytes != NULL ? Py_NewRef(bytes)
                         : PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
}

static int is_truthy(PyObject *option)
{
    return option == NULL || option == Py_None ? 0 : PyObject_IsTrue(option);
}

/* pickle's function of that name, found at its first use: borrowed, the module keeps it. */
static PyObject *pickle_function(PyObject **slot, const char *name)
{
    PyObject *found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    PyObject *imported;

    if (LIKELY(found != NULL)) {
        return found;
    }
    imported = mcx_import("pickle", name);
    if (imported == NULL || __atomic_compare_exchange_n(slot, &found, imported, false,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return imported;
    }
    Py_DECREF(imported); /* another thread was first */
    return found;
}

/* ---- storing: pickle ------------------------------------------------------------------------ */

/* pickler(file, protocol=protocol), or positional; a new reference. */
static PyObject *make_pickler(PyObject *class, PyObject *file, PyObject *protocol, bool is_keyword)
{
    PyObject *arguments[] = {file, protocol};
    PyObject *names = NULL;
    PyObject *pickler;

    if (!is_keyword) {
        return PyObject_Vectorcall(class, arguments, 2, NULL);
    }
    names = Py_BuildValue("(s)", "protocol");
    if (names == NULL) {
        return NULL;
    }
    pickler = PyObject_Vectorcall(class, arguments, 1, names);
    Py_DECREF(names);
    return pickler;
}

/* The value through a pickler object: a caller's own, or one with a persistent_id. */
static PyObject *dump_value(const mcx_snapshot *snapshot, PyObject *value, PyObject *protocol,
                            bool has_id)
{
    PyObject *class = NULL;
    PyObject *file = NULL;
    PyObject *pickler = NULL;
    PyObject *answer = NULL;
    PyObject *result = NULL;

    class = snapshot->options[MCX_OPT_PICKLER] != NULL
                ? Py_NewRef(snapshot->options[MCX_OPT_PICKLER])
                : mcx_import("pickle", "Pickler");
    if (class == NULL) {
        goto done;
    }
    answer = mcx_import("io", "BytesIO");
    if (answer == NULL) {
        goto done;
    }
    file = PyObject_CallNoArgs(answer);
    Py_CLEAR(answer);
    if (file == NULL) {
        goto done;
    }
    pickler = make_pickler(class, file, protocol, snapshot->pickler_is_keyword);
    if (pickler == NULL) {
        goto done;
    }
    if (has_id && PyObject_SetAttrString(pickler, "persistent_id",
                                         snapshot->options[MCX_OPT_PERSISTENT_ID]) < 0) {
        goto done;
    }
    answer = PyObject_CallMethod(pickler, "dump", "(O)", value);
    if (answer == NULL) {
        goto done;
    }
    result = PyObject_CallMethod(file, "getvalue", NULL);
done:
    Py_XDECREF(answer);
    Py_XDECREF(pickler);
    Py_XDECREF(file);
    Py_XDECREF(class);
    return result;
}

/* The value's pickle, a bytes object. */
static PyObject *pickle_value(mcx_call *call, PyObject *value)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *protocol = NULL;
    PyObject *dumps;
    PyObject *result = NULL;
    int has_id;

    if (!snapshot->allow_pickle) {
        PyErr_Format(PyExc_TypeError, "%.200s cannot be stored without pickle (allow_pickle=False)",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    has_id = is_truthy(snapshot->options[MCX_OPT_PERSISTENT_ID]);
    if (has_id < 0) {
        return NULL;
    }
    protocol = snapshot->options[MCX_OPT_PICKLE_PROTOCOL] != NULL
                   ? Py_NewRef(snapshot->options[MCX_OPT_PICKLE_PROTOCOL])
                   : PyLong_FromLong(0);
    if (protocol == NULL) {
        return NULL;
    }
    if (LIKELY(!has_id && snapshot->options[MCX_OPT_PICKLER] == NULL)) {
        PyObject *arguments[] = {value, protocol};

        dumps = pickle_function(&call->module->pickle_dumps, "dumps");
        if (dumps != NULL) {
            result = PyObject_Vectorcall(dumps, arguments, 2, NULL);
        }
    }
    else {
        result = dump_value(snapshot, value, protocol, has_id);
    }
    Py_DECREF(protocol);
    if (result != NULL && !PyBytes_Check(result)) {
        PyErr_Format(PyExc_TypeError, "a pickle must be bytes, not %.200s",
                     Py_TYPE(result)->tp_name);
        Py_CLEAR(result);
    }
    return result;
}

/* ---- storing: zlib -------------------------------------------------------------------------- */

/* Whether length is over min_compress, a number of the caller's that is not NULL; -1 with an
 * exception. As `min_compress and length > min_compress` in Python. */
static int wants_compression(PyObject *min_compress, size_t length)
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
    plain = view_bytes(stored->text, PyBytes_CheckExact(stored->owner) ? stored->owner : NULL);
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

static int compress_stored(const mcx_snapshot *snapshot, mcx_stored *stored)
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
        stored->text = bytes_view(shorter);
        stored->flags |= MCX_FLAG_ZLIB;
    }
    return 0;
}

/* ---- storing -------------------------------------------------------------------------------- */

/* Takes the reference: a bytes object, or NULL with an exception. */
static int own_bytes(mcx_stored *stored, PyObject *bytes)
{
    stored->owner = bytes;
    if (bytes == NULL) {
        return -1;
    }
    stored->text = bytes_view(bytes);
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
        result = own_bytes(stored, pickle_value(call, value));
    }
    if (UNLIKELY(result < 0)) {
        goto failed;
    }
    if (UNLIKELY((Py_ssize_t)stored->text.length > snapshot->max_length)) {
        goto too_large;
    }
    if (UNLIKELY(min_compress != NULL)) {
        result = wants_compression(min_compress, stored->text.length);
        if (result < 0 || (result > 0 && compress_stored(snapshot, stored) < 0)) {
            goto failed;
        }
    }
    if (UNLIKELY((snapshot->max_value_length != 0 &&
                  (Py_ssize_t)stored->text.length > snapshot->max_value_length) ||
                 stored->text.length > LENGTH_THAT_SERVERS_READ)) {
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

/* ---- reading: what does not decode ---------------------------------------------------------- */

/* The exception that is set becomes a debug line and the answer None, unless it is nobody's data.
 * format has one %S, for the exception. */
static PyObject *forgive(mcx_call *call, const char *format)
{
    PyObject *error;
    int result;

    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030C0000
    error = PyErr_GetRaisedException();
#else
    {
        PyObject *type, *traceback;

        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
#endif
    result = mcx_debuglog(call, format, error);
    Py_DECREF(error);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *give_up(mcx_call *call, const char *format, const char *why)
{
    return mcx_debuglog(call, format, why) < 0 ? NULL : Py_NewRef(Py_None);
}

#define DECOMPRESSION_ERROR "Decompression error: %s\n"
#define TOO_LARGE "value is larger than max_value_length"

/* ---- reading: zlib -------------------------------------------------------------------------- */

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
        *why = TOO_LARGE;
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

/* The decompressed bytes in *plain and NULL, or the answer that stands for them: None, or NULL
 * with an exception and *plain NULL. */
static PyObject *decompress(mcx_call *call, mc_slice text, PyObject *body, PyObject **plain)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *bytes;
    PyObject *answer;
    const char *why;

    if (LIKELY(snapshot->native_decompressor)) {
        *plain = decompress_native(text, snapshot->max_length, &why);
        return why != NULL ? give_up(call, DECOMPRESSION_ERROR, why) : NULL;
    }
    *plain = NULL;
    bytes = view_bytes(text, body);
    if (bytes == NULL) {
        return NULL;
    }
    answer = PyObject_CallOneArg(snapshot->options[MCX_OPT_DECOMPRESSOR], bytes);
    Py_DECREF(bytes);
    if (answer == NULL) {
        return forgive(call, "Decompression error: %S\n");
    }
    if (!PyBytes_Check(answer)) {
        if (!PyObject_CheckBuffer(answer)) {
            Py_DECREF(answer);
            return give_up(call, DECOMPRESSION_ERROR, "the decompressor did not return bytes");
        }
        Py_SETREF(answer, PyBytes_FromObject(answer));
        if (answer == NULL) {
            return forgive(call, "Decompression error: %S\n");
        }
    }
    *plain = answer;
    return NULL;
}

/* ---- reading: pickle, int ------------------------------------------------------------------- */

/* Through an unpickler object: a caller's own, or one with a persistent_load. */
static PyObject *load_value(const mcx_snapshot *snapshot, PyObject *bytes, bool has_load)
{
    PyObject *class = NULL;
    PyObject *file_type = NULL;
    PyObject *file = NULL;
    PyObject *unpickler = NULL;
    PyObject *result = NULL;

    class = snapshot->options[MCX_OPT_UNPICKLER] != NULL
                ? Py_NewRef(snapshot->options[MCX_OPT_UNPICKLER])
                : mcx_import("pickle", "Unpickler");
    if (class == NULL) {
        goto done;
    }
    file_type = mcx_import("io", "BytesIO");
    if (file_type == NULL) {
        goto done;
    }
    file = PyObject_CallOneArg(file_type, bytes);
    if (file == NULL) {
        goto done;
    }
    unpickler = PyObject_CallOneArg(class, file);
    if (unpickler == NULL) {
        goto done;
    }
    if (has_load && PyObject_SetAttrString(unpickler, "persistent_load",
                                           snapshot->options[MCX_OPT_PERSISTENT_LOAD]) < 0) {
        goto done;
    }
    result = PyObject_CallMethod(unpickler, "load", NULL);
done:
    Py_XDECREF(unpickler);
    Py_XDECREF(file);
    Py_XDECREF(file_type);
    Py_XDECREF(class);
    return result;
}

static PyObject *decode_pickle(mcx_call *call, mc_slice text, PyObject *body)
{
    const mcx_snapshot *snapshot = call->snapshot;
    PyObject *bytes = NULL;
    PyObject *loads;
    PyObject *result = NULL;
    int has_load;

    if (!snapshot->allow_pickle) {
        return give_up(call, "Pickle error: %s\n", "allow_pickle is False");
    }
    bytes = view_bytes(text, body);
    if (bytes == NULL) {
        goto done;
    }
    has_load = is_truthy(snapshot->options[MCX_OPT_PERSISTENT_LOAD]);
    if (has_load < 0) {
        goto done;
    }
    /* What it calls may call this client, without a frame of Python's in between. */
    if (Py_EnterRecursiveCall(" while unpickling a value")) {
        goto done;
    }
    if (LIKELY(!has_load && snapshot->options[MCX_OPT_UNPICKLER] == NULL)) {
        loads = pickle_function(&call->module->pickle_loads, "loads");
        if (loads != NULL) {
            result = PyObject_CallOneArg(loads, bytes);
        }
    }
    else {
        result = load_value(snapshot, bytes, has_load);
    }
    Py_LeaveRecursiveCall();
done:
    Py_XDECREF(bytes);
    if (UNLIKELY(result == NULL) && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        /* A pickle can ask for any amount of memory: that is its fault, not this process's. */
        PyErr_SetString(PyExc_ValueError, "the pickle asks for more memory than there is");
    }
    return LIKELY(result != NULL) ? result : forgive(call, "Pickle error: %S\n");
}

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
    bytes = view_bytes(text, body);
    if (bytes == NULL) {
        return NULL;
    }
    result = PyNumber_Long(bytes);
    Py_DECREF(bytes);
    return result != NULL ? result : forgive(call, "Decode error: %S\n");
}

/* ---- reading -------------------------------------------------------------------------------- */

/* flags without the zlib bit */
static PyObject *decode_plain(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    PyObject *result;

    if (UNLIKELY((Py_ssize_t)text.length > call->snapshot->max_length)) {
        return give_up(call, "Decode error: %s\n", TOO_LARGE);
    }
    if (flags == 0) {
        return view_bytes(text, body);
    }
    if (flags & MCX_FLAG_TEXT) {
        result = PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, NULL);
        return LIKELY(result != NULL) ? result : forgive(call, "Decode error: %S\n");
    }
    if (flags & (MCX_FLAG_INTEGER | MCX_FLAG_LONG)) {
        return decode_int(call, text, body);
    }
    if (flags & MCX_FLAG_PICKLE) {
        return decode_pickle(call, text, body);
    }
    return mcx_debuglog(call, "unknown flags on get: %x\n", flags) < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *mcx_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body)
{
    PyObject *plain;
    PyObject *result;

    if (body != NULL) {
        text = bytes_view(body);
    }
    if (LIKELY(!(flags & MCX_FLAG_ZLIB))) {
        return decode_plain(call, flags, text, body);
    }
    result = decompress(call, text, body, &plain);
    if (plain != NULL) {
        result = decode_plain(call, flags & ~(uint32_t)MCX_FLAG_ZLIB, bytes_view(plain), plain);
        Py_DECREF(plain);
    }
    return result;
}
