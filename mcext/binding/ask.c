/* ask: a request and its answer on a target: the single calls' way over the wire.
 *
 * Encodes into the connection's buffer, sends, reads the answer line, and decides what may be
 * tried once more. noreply commands leave the connection unanswered: the next request goes out
 * behind a `version` whose reply is the sign that all before it has been said. */
#include "mcx.h"

#include <string.h>

/* A value up to this size is copied behind its command; a larger one goes out from where it is. */
#define COPY_UP_TO ((size_t)16384)

static const mc_slice CRLF = {"\r\n", 2};

static int encode(mc_buffer *out, const mcx_request *request, const mc_slice *keys)
{
    switch (mc_commands[request->command].family) {
    case MC_FAMILY_RETRIEVAL:
        return mc_request_get(out, request->command, keys, 1);
    case MC_FAMILY_STORAGE:
        return mc_request_store(out, request->command, request->key, request->value->flags,
                                request->argument, request->value->text.length, request->cas,
                                request->noreply);
    default:
        return mc_request_line(out, request->command, request->key, request->argument,
                               request->noreply);
    }
}

/* The request in pieces: the line and what can be copied, else the value from its own memory. */
static int lay_out(mc_buffer *out, const mcx_request *request, struct iovec pieces[3])
{
    const mcx_stored *value = request->value;

    if (value != NULL && value->text.length <= COPY_UP_TO) {
        if (!mc_buffer_append(out, value->text.bytes, value->text.length) ||
            !mc_buffer_append(out, CRLF.bytes, CRLF.length)) {
            return 0;
        }
        value = NULL;
    }
    pieces[0] = (struct iovec){(void *)mc_buffer_bytes(out), mc_buffer_length(out)};
    if (value == NULL) {
        return 1;
    }
    pieces[1] = (struct iovec){(void *)value->text.bytes, value->text.length};
    pieces[2] = (struct iovec){(void *)CRLF.bytes, CRLF.length};
    return 3;
}

mc_status mcx_begin_exchange(mcx_call *call, mcx_target *target, const mcx_request *request,
                             mc_exchange *exchange, const mc_slice *keys)
{
    mc_connection *connection = target->connection;
    mc_buffer *out = &connection->out;
    bool marker = connection->unanswered != 0;
    struct iovec pieces[3];
    int count;

    mc_buffer_clear(out);
    if ((marker && !mc_buffer_append(out, MCX_MARKER, sizeof MCX_MARKER - 1)) ||
        !encode(out, request, keys) || (count = lay_out(out, request, pieces)) == 0) {
        return MC_NO_MEMORY;
    }
    mcx_target_note_time(call, target);
    target->asked = true;
    mc_exchange_init(exchange, &connection->in, request->command, keys, 1, marker);
    exchange->max_length = (uint64_t)call->snapshot->max_length;
    mc_status status = mcx_roundtrip(call, target, pieces, count, exchange);
    if (LIKELY(status == MC_OK) && marker) {
        connection->unanswered = 0;
    }
    return status;
}

int mcx_try_again(mcx_call *call, mcx_target *target, mc_command command, bool started,
                  mc_status status, int *attempt)
{
    if (status != MC_CLOSED || started || *attempt > 0 || !mc_commands[command].repeatable) {
        return 0;
    }
    (*attempt)++;
    return mcx_reconnect(call, target);
}

/* The whole of a noreply request. */
static mc_status send_only(mcx_call *call, mcx_target *target, const mcx_request *request)
{
    mc_connection *connection = target->connection;
    mc_buffer *out = &connection->out;
    struct iovec pieces[4];
    int count;

    mcx_target_note_time(call, target);
    target->asked = true;
    mc_buffer_clear(out);
    if (!encode(out, request, NULL) || (count = lay_out(out, request, pieces)) == 0) {
        return MC_NO_MEMORY;
    }
    if (++connection->unanswered > MCX_UNANSWERED_AT_MOST || target->probe) {
        mc_exchange exchange;
        mc_event event;

        pieces[count++] = (struct iovec){(void *)MCX_MARKER, sizeof MCX_MARKER - 1};
        mc_exchange_init(&exchange, &connection->in, MC_VERSION, NULL, 0, true);
        mc_status status = mcx_roundtrip(call, target, pieces, count, &exchange);
        while (status == MC_OK && (event = mc_exchange_next(&exchange)) != MC_EVENT_DONE) {
            status = event == MC_EVENT_BROKEN ? MC_MALFORMED : mcx_receive(call, target, &exchange);
        }
        connection->unanswered = 0;
        (void)mc_exchange_end(&exchange); /* else the caller finds bytes behind it */
        return status;
    }
    return mcx_send(call, target, pieces, count);
}

static int keep_line(mcx_answer *answer, mc_slice line)
{
    if (answer->line == NULL) {
        answer->line =
            PyBytes_FromStringAndSize(line.bytes ? line.bytes : "", (Py_ssize_t)line.length);
    }
    return answer->line == NULL ? -1 : 0;
}

static bool is_good(mc_reply_type type)
{
    return type == MC_REPLY_STORED || type == MC_REPLY_DELETED || type == MC_REPLY_TOUCHED ||
           type == MC_REPLY_NUMBER || type == MC_REPLY_OK;
}

static mc_status read_answer(mcx_call *call, mcx_target *target, mc_exchange *exchange,
                             mcx_answer *answer)
{
    mc_status status = MC_OK;

    for (;;) {
        switch (mc_exchange_next(exchange)) {
        case MC_EVENT_AGAIN:
            status = mcx_receive(call, target, exchange);
            if (status != MC_OK) {
                return status;
            }
            break;
        case MC_EVENT_REPLY:
            answer->type = exchange->reply.type;
            answer->number = exchange->reply.number;
            /* A value names its key, and no piece of a word is a word. But a number names nothing,
             * and half of one is a number too: with bytes behind it, it may be the reply to another
             * request, or one that was broken in two. */
            if (answer->type == MC_REPLY_NUMBER && !mc_exchange_is_clean(exchange)) {
                return MC_MALFORMED;
            }
            if (!is_good(answer->type) && keep_line(answer, exchange->reply.line) < 0) {
                return MC_RAISED;
            }
            return MC_OK;
        default:
            if (exchange->reply.line.length != 0 && keep_line(answer, exchange->reply.line) < 0) {
                return MC_RAISED;
            }
            return MC_MALFORMED;
        }
    }
}

/* begun: the first attempt has been sent and received already, with *begun. */
static int ask(mcx_call *call, mcx_target *target, const mcx_request *request, mcx_answer *answer,
               const mc_status *begun)
{
    int attempt = 0;
    int result = -1;

    answer->type = MC_REPLY_OTHER;
    answer->line = NULL;
    for (;;) {
        mc_exchange exchange;
        mc_status status;
        bool started = false;

        if (UNLIKELY(request->noreply)) {
            status = send_only(call, target, request);
            if (status == MC_OK) {
                mcx_target_end(call, target,
                               mcx_noreply_is_clean(request->key) &&
                                   mc_buffer_length(&target->connection->in) == 0);
                return 1;
            }
        }
        else {
            if (begun != NULL) {
                mc_exchange_init(&exchange, &target->connection->in, request->command, NULL, 1,
                                 false);
                status = *begun;
                begun = NULL;
            }
            else {
                status = mcx_begin_exchange(call, target, request, &exchange, NULL);
            }
            if (LIKELY(status == MC_OK)) {
                status = read_answer(call, target, &exchange, answer);
                started = exchange.started;
            }
            if (LIKELY(status == MC_OK)) {
                mcx_target_end(call, target, mc_exchange_end(&exchange));
                return 1;
            }
        }
        int again = mcx_try_again(call, target, request->command, started, status, &attempt);
        if (again < 0) {
            goto done;
        }
        if (again == 0) {
            /* Of a line that is no answer to this command the caller says what it is. */
            bool told = status == MC_MALFORMED && answer->line != NULL;

            result = target->host == NULL || told ? 0 : mcx_fail(call, target, status);
            break;
        }
    }
done:
    mcx_target_end(call, target, false);
    if (result < 0) {
        Py_CLEAR(answer->line);
    }
    return result;
}

int mcx_ask(mcx_call *call, mcx_target *target, const mcx_request *request, mcx_answer *answer)
{
    return ask(call, target, request, answer, NULL);
}

int mcx_ask_begun(mcx_call *call, mcx_target *target, const mcx_request *request,
                  mcx_answer *answer, mc_status status)
{
    return ask(call, target, request, answer, &status);
}
