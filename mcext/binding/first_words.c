#include "first_words.h"

#include <string.h>

#include "core/fleet/server.h"
#include "core/flow/leg.h"
#include "core/net/address.h"
#include "core/net/clock.h"
#include "core/wire/buffer.h"
#include "core/wire/error_line.h"
#include "core/wire/key.h"
#include "core/wire/request.h"

#include "compat.h"
#include "move.h"
#include "secret.h"
#include "state.h"
#include "stream.h"
#include "stream_type.h"

/* The key counts for nothing; and a server without -Y, which takes it for a value, keeps none that
 * has expired before it came. */
static const mc_slice KEY = {"auth", 4}, GONE_AT_ONCE = {"-1", 2};

/* What is said, and how the answer was judged. */
typedef struct {
    mc_command command;
    bool (*lay_out)(mc_leg *leg, mc_slice data);
    mc_slice data;
    const char *refused; /* of an authentication */
} saying;

/* ---- how the authentication is answered ----------------------------------------------------- */

static const char NO_ANSWER[] =
    "the server's answer to the username and the password is not one of memcached's";

/* The server's own words are not shown: they may repeat what it was told. NULL: it is STORED. */
const char *mcx_refused_words(const mc_reply *reply)
{
    if (reply->type == MC_REPLY_STORED) {
        return NULL;
    }
    if (mc_error_is_unauthenticated(reply)) {
        return "the server does not take the username and the password";
    }
    return mc_reply_is_error(reply->type)
               ? "the server has answered the username and the password with an error"
               : NO_ANSWER;
}

/* The same of a line that was read in Python. */
static const char *judge_line(mc_slice line)
{
    char text[256];
    mc_reply reply;
    size_t consumed;
    const char *refused = NO_ANSWER;

    if (line.length + 2 > sizeof text) {
        return refused;
    }
    memcpy(text, line.bytes, line.length);
    memcpy(text + line.length, "\r\n", 2);
    if (mc_reply_parse(text, line.length + 2, &reply, &consumed) == MC_OK &&
        consumed == line.length + 2) {
        refused = mcx_refused_words(&reply);
    }
    mc_wipe(text, sizeof text);
    return refused;
}

/* The exception that is set, taken, where it is what the function raised instead of a password.
 * NULL: it stays, and goes to the caller; so does a warning that somebody wants to be an error. */
static PyObject *take_cause(void)
{
    PyObject *type, *value, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
        PyErr_ExceptionMatches(PyExc_Warning)) {
        return NULL;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static mcx_first_words without_password(void)
{
    mcx_first_words words = {.status = MC_RAISED, .cause = take_cause()};

    if (words.cause != NULL) {
        words.status = MC_FAILED;
        words.refused = "the password cannot be had";
    }
    return words;
}

PyObject *mcx_refusal_text(const mcx_first_words *words)
{
    PyObject *text = NULL;

    if (words->cause == NULL) {
        return PyUnicode_FromString(words->refused);
    }
    text = PyUnicode_FromFormat("%s: %s: %.200S", words->refused, Py_TYPE(words->cause)->tp_name,
                                words->cause);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) { /* of its own __str__ */
        PyErr_Clear();
        text = PyUnicode_FromFormat("%s: %s", words->refused, Py_TYPE(words->cause)->tp_name);
    }
    return text;
}

/* ---- name and password ---------------------------------------------------------------------- */

/* New references to what the host was given: true where there are both. */
static bool take_secrets(mcx_server *host, PyObject **name, PyObject **password)
{
    Py_BEGIN_CRITICAL_SECTION(host);
    *name = host->username != Py_None ? Py_XNewRef(host->username) : NULL;
    *password = host->password != Py_None ? Py_XNewRef(host->password) : NULL;
    Py_END_CRITICAL_SECTION();
    if (*name != NULL && *password != NULL) {
        return true;
    }
    Py_CLEAR(*name);
    Py_CLEAR(*password);
    return false;
}

/* Once for each client, before the password leaves this machine. */
static int warn_in_clear(mcx_server *host, PyObject *password)
{
    if (mc_address_is_local(host->server.family, host->server.host) || mcx_server_is_tls(host) ||
        !mcx_secret_warns_now(password)) {
        return 0;
    }
    return mcx_warn("the password goes to %U in clear: without a tls_context everybody on the way "
                    "can read it",
                    host->ip);
}

/* "name password" in payload, which the caller wipes in every case: 0 or -1 with an exception.
 * Asks the function that gives the password. */
static int lay_out_secrets(mcx_server *host, char payload[MCX_PAYLOAD_AT_MOST], mc_slice *data)
{
    PyObject *name, *password;
    int result = 0;

    *data = (mc_slice){NULL, 0};
    if (take_secrets(host, &name, &password)) {
        result = warn_in_clear(host, password);
        if (result == 0) {
            data->bytes = payload;
            result = mcx_secret_lay_out(name, password, payload, &data->length);
            mc_wipe_registers();
        }
        Py_DECREF(name);
        Py_DECREF(password);
    }
    return result;
}

/* ---- for a stream of an event loop ----------------------------------------------------------- */

int mcx_words_begin(mcx_server *host, mcx_words *words)
{
    mcx_first_words said;

    *words = (mcx_words){.refused = NULL};
    if (lay_out_secrets(host, words->payload, &words->data) == 0) {
        return 0;
    }
    said = without_password();
    words->data = (mc_slice){NULL, 0};
    if (said.refused == NULL) {
        mcx_words_end(words);
        return -1;
    }
    words->refused = mcx_refusal_text(&said);
    words->cause = said.cause;
    if (words->refused == NULL) {
        mcx_words_end(words);
        return -1;
    }
    return 0;
}

PyObject *mcx_words_bytes(const mcx_words *words)
{
    mc_buffer request = {.data = NULL};
    PyObject *bytes = NULL;

    /* With room for all of it: nothing is moved, and left behind. */
    if (mc_buffer_reserve(&request, (size_t)2 * MCX_PAYLOAD_AT_MOST) != NULL &&
        mc_request_store(&request, MC_SET, KEY, 0, GONE_AT_ONCE, words->data.length, NULL, false) &&
        mc_buffer_append(&request, words->data.bytes, words->data.length) &&
        mc_buffer_append(&request, "\r\n", 2)) {
        bytes = PyBytes_FromStringAndSize(mc_buffer_bytes(&request),
                                          (Py_ssize_t)mc_buffer_length(&request));
    }
    else {
        PyErr_NoMemory();
    }
    mc_buffer_wipe(&request);
    mc_buffer_fini(&request);
    mc_wipe_registers();
    return bytes;
}

void mcx_words_end(mcx_words *words)
{
    mc_wipe(words->payload, sizeof words->payload);
    Py_CLEAR(words->refused);
    Py_CLEAR(words->cause);
}

/* ---- in C ----------------------------------------------------------------------------------- */

static bool lay_out_auth(mc_leg *leg, mc_slice data)
{
    mc_laid laid = mc_leg_store(leg, KEY, 0, GONE_AT_ONCE, data, NULL, false);

    mc_wipe_registers();
    return laid != MC_LAID_NO_MEMORY;
}

static bool lay_out_flush(mc_leg *leg, mc_slice none)
{
    return mc_leg_line(leg, none, none);
}

/* In the time that the call has left for connects. */
static mc_verdict say(mcx_call *call, mc_connection *connection, saying *said)
{
    mc_clock whole = call->clock;
    int64_t left = mc_clock_connect_left(&whole), before = mc_clock_now();
    mc_leg leg;
    mc_leg_step step;

    call->clock = (mc_clock){.start = before,
                             .timeout = left == INT64_MAX ? MC_NO_TIMEOUT : left,
                             .connect_timeout = MC_NO_TIMEOUT,
                             .late = true};
    mc_leg_init(&leg, said->command, NULL, 1);
    leg.once = true;
    mc_leg_begin(&leg, connection, &call->clock);
    if (left == 0) {
        mc_leg_fail(&leg, MC_TIMEOUT);
    }
    while ((step = mc_leg_next(&leg)) != MC_LEG_OVER) {
        if (step == MC_LEG_MOVE) {
            mcx_move(call, &leg);
        }
        else if (step == MC_LEG_PRODUCE &&
                 !(said->lay_out(&leg, said->data) && mc_leg_ready(&leg))) {
            mc_leg_fail(&leg, MC_NO_MEMORY);
        }
        else if (step == MC_LEG_REPLY) {
            said->refused = mcx_refused_words(&leg.exchange.reply);
        }
    }
    mc_leg_fini(&leg);
    whole.connecting += mc_clock_now() - before;
    whole.late = true;
    call->clock = whole;
    return leg.verdict;
}

/* Nothing of it is left in the connection's memory. */
static mcx_first_words say_secrets(mcx_call *call, mc_connection *connection, mc_slice data)
{
    saying said = {MC_SET, lay_out_auth, data, NO_ANSWER};
    mc_verdict verdict;

    connection->secret = true;
    verdict = say(call, connection, &said);
    connection->secret = false;
    mc_buffer_wipe(&connection->out);
    mc_buffer_wipe(&connection->in); /* a server may repeat it */
    if (verdict.status == MC_OK && said.refused == NULL && verdict.keep) {
        return (mcx_first_words){.status = MC_OK};
    }
    if (verdict.status == MC_OK || verdict.status == MC_MALFORMED) {
        return (mcx_first_words){.status = MC_MALFORMED,
                                 .refused = said.refused != NULL ? said.refused : NO_ANSWER};
    }
    return (mcx_first_words){.status = verdict.status};
}

/* In a round trip of its own: behind a refusal no server says what became of the rest. */
static mcx_first_words authenticate(mcx_call *call, mcx_server *host, mc_connection *connection)
{
    char payload[MCX_PAYLOAD_AT_MOST];
    mcx_first_words words = {.status = MC_OK};
    mc_slice data;
    int64_t before = mc_clock_now();
    int laid_out = lay_out_secrets(host, payload, &data);

    mcx_leave_out(call, before);
    if (laid_out < 0) {
        words = without_password();
    }
    else if (mc_connection_is_lost(connection)) {
        words.again = true; /* the function forked, and this is the child */
    }
    else if (data.length != 0) {
        words = say_secrets(call, connection, data);
    }
    mc_wipe(payload, sizeof payload);
    return words;
}

static mcx_first_words flush(mcx_call *call, mcx_server *host, mc_connection *connection)
{
    saying said = {.command = MC_FLUSH_ALL, .lay_out = lay_out_flush};
    mc_verdict verdict;

    if (!atomic_exchange(&host->server.flush_on_connect, 0)) {
        return (mcx_first_words){.status = MC_OK};
    }
    verdict = say(call, connection, &said);
    if (verdict.status != MC_OK) {
        atomic_store(&host->server.flush_on_connect, 1);
    }
    return (mcx_first_words){.status = verdict.status, .again = !verdict.keep};
}

mcx_first_words mcx_say_first_words(mcx_call *call, mcx_server *host, mc_connection *connection)
{
    mcx_first_words words = authenticate(call, host, connection);

    if (words.status == MC_OK && !words.again) {
        words = flush(call, host, connection);
    }
    if (words.status == MC_CLOSED && mc_connection_is_lost(connection)) {
        words =
            (mcx_first_words){.again = true}; /* a signal handler forked, and this is the child */
    }
    return words;
}

/* ---- on the way in Python ------------------------------------------------------------------- */

/* The request as bytes, to be dropped by mcx_secret_drop_bytes. */
static PyObject *request_of(mc_slice data)
{
    mc_buffer out = {0};
    PyObject *request = NULL;

    /* With room for all from the start, so that nothing is left of it in memory that was too small.
     */
    if (mc_buffer_reserve(&out, MCX_PAYLOAD_AT_MOST + 2 * MC_LINE_ROOM) != NULL &&
        mc_request_store(&out, MC_SET, KEY, 0, GONE_AT_ONCE, data.length, NULL, false) &&
        mc_buffer_append(&out, data.bytes, data.length) && mc_buffer_append(&out, "\r\n", 2)) {
        request =
            PyBytes_FromStringAndSize(mc_buffer_bytes(&out), (Py_ssize_t)mc_buffer_length(&out));
    }
    else {
        PyErr_NoMemory();
    }
    mc_buffer_wipe(&out);
    mc_buffer_fini(&out);
    mc_wipe_registers();
    return request;
}

static PyObject *refuse(const mcx_first_words *words)
{
    PyObject *text = mcx_refusal_text(words);

    if (text != NULL) {
        PyErr_SetObject(PyExc_ConnectionError, text);
        Py_DECREF(text);
    }
    return NULL;
}

/* Sends it and reads the answer. */
static PyObject *ask(mcx_stream *stream, mcx_server *host, mc_slice data)
{
    mcx_first_words words = {.status = MC_OK};
    PyObject *request = request_of(data), *line = NULL;
    int sent = request != NULL ? mcx_stream_send_secret(stream, host, request) : -1;

    mcx_secret_drop_bytes(request);
    if (sent == 0) {
        line = mcx_stream_read_line(stream, mcx_timeout_of(host));
    }
    if (line == Py_None) {
        PyErr_SetString(PyExc_ConnectionError, "connection closed in readline()");
    }
    if (line == NULL || line == Py_None) {
        Py_XDECREF(line);
        return NULL;
    }
    words.refused = judge_line((mc_slice){PyBytes_AS_STRING(line), (size_t)PyBytes_GET_SIZE(line)});
    if (words.refused == NULL && mcx_stream_unread(stream) != 0) {
        words.refused = NO_ANSWER;
    }
    Py_DECREF(line);
    return words.refused != NULL ? refuse(&words) : Py_NewRef(Py_None);
}

/* Whatever ends it, but for the server's STORED, leaves the stream out of step. */
static PyObject *authenticate_stream(mcx_stream *stream, mcx_server *host, double until)
{
    char payload[MCX_PAYLOAD_AT_MOST];
    mc_slice data;
    PyObject *socket = Py_XNewRef(stream->socket), *result = NULL;
    double before = mcx_monotonic(), deadline = stream->deadline;

    stream->in_step = false;
    if (lay_out_secrets(host, payload, &data) < 0) {
        mcx_first_words words = without_password();

        if (words.status != MC_RAISED) {
            result = refuse(&words);
            Py_DECREF(words.cause);
        }
    }
    else if (data.length != 0 && stream->socket != socket) {
        PyErr_SetString(PyExc_ConnectionError, "the connection was closed");
    }
    else if (data.length != 0) {
        stream->deadline = until < 0 ? MCX_NONE : until + mcx_monotonic() - before;
        result = ask(stream, host, data);
        stream->deadline = deadline;
    }
    else {
        result = Py_NewRef(Py_None);
    }
    mc_wipe(payload, sizeof payload);
    if (result != NULL) {
        mcx_stream_begin_anew(stream);
    }
    Py_XDECREF(socket);
    return result;
}

PyObject *mcx_host_authenticate(PyObject *self, PyObject *given)
{
    PyObject *stream, *result;
    double until;

    if (mcx_to_seconds(given, &until) < 0) {
        return NULL;
    }
    stream = mcx_host_here(self, NULL);
    result = stream ? authenticate_stream((mcx_stream *)stream, (mcx_server *)self, until) : NULL;
    Py_XDECREF(stream);
    return result;
}
