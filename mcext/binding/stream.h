/* stream: what one thread has of a server on the way in Python: its bytes, its step, its deadline.
 */
#ifndef MCX_STREAM_H
#define MCX_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "compat.h"
#include "server.h"
#include "state.h"

#define MCX_NONE (-1.0)    /* no timeout, no deadline */
#define MCX_UNKNOWN (-2.0) /* the timeout of a socket that somebody else made */

typedef struct {
    PyObject_HEAD
    mcx_module *module; /* its type's, which keeps it */
    PyObject *socket;   /* None: there is no connection; here and below NULL is None */
    PyObject *kind;     /* the class of the socket below one that tells what is sent, or None */
    PyObject *flags;    /* of kind's sendall, where there is a kind */
    PyObject *buffer;   /* bytes that were read, */
    Py_ssize_t at;      /* and how many of them were used */
    PyObject *command;  /* the first request since it was in step, where it is one command */
    PyObject *line;     /* the last that was read of the replies */
    PyObject *below; /* the stream of an outer call of this thread that waits for the inner one */
    PyObject *spare; /* an inner call's, to come into the place of this one, which is old */
    uint64_t stamp;  /* the host's when the socket came: it moves with each disconnect and fork */
    double deadline; /* of the call that uses it, by the monotonic clock */
    double timeout;  /* as the socket has it */
    double most;     /* seconds that whoever made the socket gave it, where fewer than ours */
    double connect_within; /* seconds that the next connect may take */
    double used;           /* when it was last in step */
    int sends;             /* requests since the stream was last in step */
    int lines;             /* of replies, read since then */
    int unanswered;        /* noreply commands since then */
    int owed;              /* of these, when a marker was sent behind them that is not yet read */
    char in_step;          /* all replies have been read whole */
    char busy;             /* a call of a client is between its request and the end of the reply */
    char is_parked;        /* it is below an inner call's */
    char started;          /* a byte of the reply has come */
    char in_pieces; /* the socket is not Python's own: it may give each step the time of all */
    char late;      /* the deadline had passed before the request went out */
} mcx_stream;

double mcx_monotonic(void);

PyObject *mcx_no_bytes(void);

bool mcx_is_absent(const PyObject *object);

/* Seconds of a Python number; MCX_NONE of None. */
int mcx_to_seconds(PyObject *object, double *seconds);

PyObject *mcx_from_seconds(double seconds);

mcx_server *mcx_stream_host(mcx_stream *stream, PyObject *object);

double mcx_timeout_of(const mcx_server *host);

/* How many bytes were read and are not used. */
Py_ssize_t mcx_stream_unread(const mcx_stream *stream);

/* Sets the buffer; steals the reference, NULL of an error too. */
int mcx_stream_set_unread(mcx_stream *stream, PyObject *bytes);

bool mcx_stream_is_in_step(mcx_stream *stream, mcx_server *host);

void mcx_stream_begin(mcx_stream *stream, mcx_server *host, double start);

int mcx_stream_send(mcx_stream *stream, mcx_server *host, PyObject *data);

/* The same of bytes that nobody is told of; the stream is out of step. */
int mcx_stream_send_secret(mcx_stream *stream, mcx_server *host, PyObject *data);

/* All replies have been read whole, and nothing is known of them any more. */
void mcx_stream_begin_anew(mcx_stream *stream);

/* What the socket gives next: a new reference to bytes, which are empty where the server has
 * closed. Within the deadline of the call that uses the stream, else within the host's timeout;
 * behind the deadline only what is there already, else TimeoutError. */
PyObject *mcx_stream_receive(mcx_stream *stream, Py_ssize_t size, double seconds);

/* The next line without its end; None where the server has closed. */
PyObject *mcx_stream_read_line(mcx_stream *stream, double seconds);

/* Exactly so many bytes. */
PyObject *mcx_stream_read(mcx_stream *stream, Py_ssize_t size, double seconds);

#endif
