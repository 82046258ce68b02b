/* retrieve: one value of one server, as a get brings it; Client's and Cache's. */
#ifndef MCX_RETRIEVE_H
#define MCX_RETRIEVE_H

#include "core/wire/command.h"
#include "core/wire/exchange.h"

#include "call.h"
#include "keys.h"

/* What a retrieval brought: one of value (ready) and body (to be decoded). */
typedef struct {
    PyObject *value; /* strong or NULL */
    PyObject *body;  /* strong or NULL */
    uint64_t cas;    /* of a gets */
    uint32_t flags;
    bool found;
} mcx_retrieved;

/* Asks key's server: 1: answered; 0: no server, or no answer; -1 with an exception. got is all 0
 * before, and mcx_retrieved_clear is due in any case. */
int mcx_retrieve(mcx_call *call, mc_command command, const mcx_key *key, mcx_retrieved *got);

/* The value, where one was found: got's references are given up. The connection is given back: what
 * decoding runs may use the client again. NULL with an exception. */
PyObject *mcx_retrieved_value(mcx_call *call, mcx_retrieved *got);

/* A value that has come whole, and is a view: made at once where that takes no Python code. Where
 * neither value nor body is set then, memory was out. */
void mcx_retrieved_take(mcx_call *call, mc_slice text, mcx_retrieved *got);

/* A header has come: body is what came with it, or room for what is still to come. */
mc_status mcx_retrieved_take_body(mc_exchange *exchange, mcx_retrieved *got);

static inline void mcx_retrieved_clear(mcx_retrieved *got)
{
    Py_XDECREF(got->value);
    Py_XDECREF(got->body);
}

#endif
