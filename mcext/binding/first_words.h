/* first_words: what is said on a new connection before any call's request: the authentication, and
 * flush_all where the server comes back from the dead and the client wants it so.
 *
 * Each waits for its answer, within what the call has left for connects. A new subject is a
 * function beside the others in first_words.c. */
#ifndef MCX_FIRST_WORDS_H
#define MCX_FIRST_WORDS_H

#include "core/net/connection.h"

#include "call.h"
#include "secret.h"
#include "server.h"

/* What they ended in. */
typedef struct {
    mc_status status;    /* MC_OK; MC_RAISED: with an exception; else the connect has failed */
    bool again;          /* MC_OK, but nobody knows what comes next on this stream: close it, and
                            open another one */
    const char *refused; /* the authentication failed, in these words, static; else NULL */
    PyObject *cause;     /* strong: the exception that kept the password from us, or NULL */
} mcx_first_words;

/* On a connection that the call owns and has just opened; where it fails, the caller closes it. */
mcx_first_words mcx_say_first_words(mcx_call *call, mcx_server *host, mc_connection *connection);

/* How the authentication failed, without name and password: a new reference. */
PyObject *mcx_refusal_text(const mcx_first_words *words);

/* The same for a stream of an event loop, which sends them itself. */
typedef struct {
    char payload[MCX_PAYLOAD_AT_MOST];
    mc_slice data;     /* of length 0: nothing is to be said */
    PyObject *refused; /* strong: why the password cannot be had, or NULL */
    PyObject *cause;   /* strong: the exception behind that, or NULL */
} mcx_words;

/* Asks the function that gives the password. -1 with an exception that is the caller's; else
 * mcx_words_end is due, which wipes them. */
int mcx_words_begin(mcx_server *host, mcx_words *words);
void mcx_words_end(mcx_words *words);

/* The request, to be dropped by mcx_secret_drop_bytes. */
PyObject *mcx_words_bytes(const mcx_words *words);

/* Why a server refuses them, by its answer, a static text; NULL: it takes them. */
const char *mcx_refused_words(const mc_reply *reply);

/* _authenticate(until) of a host, on the caller's stream of the way in Python, before that time of
 * the monotonic clock (None: for ever). ConnectionError where the server does not take them. */
PyObject *mcx_host_authenticate(PyObject *self, PyObject *until);

#endif
