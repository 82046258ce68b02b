/* log: the client's and the hosts' debug lines, and how the core's results read in them. */
#ifndef MCX_LOG_H
#define MCX_LOG_H

#include "call.h"
#include "server.h"

/* self.debuglog(text), text a format of PyUnicode_FromFormat; nothing without debug. An exception
 * that is set stays. */
int mcx_debuglog(mcx_call *call, const char *format, ...);

/* The same of a host, on sys.stderr. */
int mcx_server_debuglog(mcx_server *host, const char *format, ...);

/* Of a host, a line that a server said: `format` has one %R for it. */
int mcx_debuglog_line(mcx_server *host, const char *format, mc_slice line);

int mcx_write_stderr(mcx_module *module, PyObject *text);

/* What ended a call, in the words of Python's own exceptions; a new reference. */
PyObject *mcx_status_text(const mc_connection *connection, mc_status status);

/* What it then says of a failure in place of errno: this, or the words of the exception that is
 * set, which is cleared. -1, without an exception, where memory is out. */
int mcx_set_problem(mc_connection *connection, const char *words);
int mcx_keep_problem(mc_connection *connection);

#endif
