/* faults: what fails in a Cache's call, as exceptions of mcext.errors that are kept with the call.
 *
 * Each returns 0, or -1 with an exception that is nobody's fault but memory's. */
#ifndef MCX_FAULTS_H
#define MCX_FAULTS_H

#include "core/flow/leg.h"

#include "call.h"
#include "server.h"

/* A server could not be connected. */
int mcx_fault_connect(mcx_call *call, mcx_server *host, mc_connection *connection,
                      mc_status status);
/* It could be connected, but did not let us in: text says why, the exception cause, where there is
 * one, is behind it. */
int mcx_fault_authentication(mcx_call *call, mcx_server *host, PyObject *text, PyObject *cause);
/* A server is passed by, for its dead mark stands. */
int mcx_fault_dead(mcx_call *call, mcx_server *host);
/* A leg ended without its answers. host: NULL where it could not be connected once more. */
int mcx_fault_leg(mcx_call *call, mcx_server *host, const mc_leg *leg);
/* A server answered with an error line. */
int mcx_fault_line(mcx_call *call, mcx_server *host, const mc_reply *reply);
int mcx_fault_too_large(mcx_call *call, mcx_server *host, PyObject *key);
/* What the last fault is of may have been carried out: a connect that failed is its last step
 * alone. */
int mcx_fault_has_run(mcx_call *call);
/* The exception that is set, taken, if it is a mcext.errors.name: a new reference, which knows its
 * traceback. NULL: it is another, and stays, or there is no memory to tell. */
PyObject *mcx_fault_take(const char *name);
/* The exception that is set, if it is a DecodeError: the fault of a server. */
int mcx_fault_keep(mcx_call *call, mcx_server *host);
/* What was asked for takes the meta protocol, which the server does not have. */
int mcx_fault_no_meta(mcx_call *call);
/* Others were faster at each try. */
int mcx_fault_conflict(mcx_call *call);

/* One that was kept apart from its call: see mcx_afault. */
typedef struct mcx_afault mcx_afault;
int mcx_fault_note(mcx_call *call, const mcx_afault *fault);

/* The class of mcext.errors for an error line, and whether the command may have been carried out.
 */
const char *mcx_line_fault(const mc_reply *reply, bool *has_run);
/* What is told of a line that is no answer, or of bytes that are none: a new str. */
PyObject *mcx_protocol_text(mc_slice line);
/* The same name as a text that lives on; NULL: it is none of those that a connect may have. */
const char *mcx_fault_class(const char *name);

/* There was no server at all to ask, and nothing else is noted. */
int mcx_fault_nobody(mcx_call *call);

/* An event for on_event, where there is one. error: borrowed or NULL. */
int mcx_event(mcx_call *call, const char *kind, mcx_server *host, PyObject *error, size_t keys);

#endif
