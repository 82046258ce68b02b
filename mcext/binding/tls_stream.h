/* tls_stream: one TLS stream: an ssl.SSLObject between two ssl.MemoryBIO, over another transport.
 *
 * Ciphertext moves by the transport below, on the same connection: without the GIL where that is
 * free. Everything else here is called with it and may run any code. Only what Python's ssl
 * documents is used. Belongs to one call, as its connection. */
#ifndef MCX_TLS_STREAM_H
#define MCX_TLS_STREAM_H

#include "core/net/connection.h"
#include "core/net/records.h"

#include "state.h"

/* Bytes of ciphertext or plaintext that are held at a time. */
#define MCX_TLS_STEP ((size_t)65536)
/* Bytes of plaintext in a record (RFC 8446, 5.1): OpenSSL takes and gives no more at once. */
#define MCX_TLS_RECORD ((size_t)16384)

/* The handle of a connection. */
typedef struct {
    PyObject_HEAD
    mcx_module *module; /* borrowed: the type keeps it */
    PyObject *object;   /* strong: the SSLObject; NULL until there is a socket */
    PyObject *offered;  /* strong: the session that its handshake was to be shortened by, or NULL */
    PyObject *incoming; /* strong: ciphertext, each a MemoryBIO */
    PyObject *outgoing; /* strong */
    PyObject *sending;  /* strong: bytes that came of outgoing, or NULL: */
    size_t sent;        /* so many of them have left */
    mc_records records; /* of what was fed: */
    size_t whole;       /* so many at most have come to their end and were not read to it */
    size_t fresh;       /* the bytes fed since the last read */
    size_t accepted;    /* plaintext that was encrypted, and has not all left */
    uint32_t entered;   /* the generation in which its connect entered the gate; 0: it is outside */
    mc_status ended;    /* what the next receive is to say; MC_OK */
    bool is_new;        /* no byte has come on it yet */
} mcx_tls;

extern PyType_Spec mcx_tls_spec;

/* A new one without an SSLObject; imports ssl where nobody has. NULL with an exception. */
mcx_tls *mcx_tls_new(mcx_module *module);

/* Receives ciphertext once, at most so many bytes, for the SSLObject to read. */
mc_status mcx_tls_feed(mc_connection *connection, size_t most, mc_clock *clock);

/* The same of a record, without waiting. */
mc_status mcx_tls_look(mc_connection *connection);

/* Sends the ciphertext that the SSLObject has written, all of it. */
mc_status mcx_tls_flush(mc_connection *connection, mc_clock *clock);

/* Plaintext of what was fed, at most so many bytes, of one record: MC_OK and a new reference to
 * bytes, which are not empty; MC_AGAIN: there is none; MC_CLOSED: the peer has said that it closes.
 */
mc_status mcx_tls_read(mc_connection *connection, size_t most, PyObject **bytes);

/* Encrypts bytes, a record of them at most: so many more are *accepted. MC_AGAIN: none. */
mc_status mcx_tls_write(mc_connection *connection, const char *at, size_t length, size_t *accepted);

/* Whether anything was fed that has not been read; -1 with an exception. */
int mcx_tls_holds(mcx_tls *tls);

/* The exception that is set as a status. MC_AGAIN: the SSLObject needs more ciphertext. Of an
 * SSLError the connection keeps the words; any other is the caller's and stays: MC_RAISED. */
mc_status mcx_tls_judge(mc_connection *connection);

#endif
