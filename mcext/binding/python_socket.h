/* python_socket: bytes through sockets that are not Python's own. */
#ifndef MCX_PYTHON_SOCKET_H
#define MCX_PYTHON_SOCKET_H

#include "core/net/connection.h"
#include "server.h"

extern const mc_transport mcx_python_transport;
extern PyType_Spec mcx_owner_spec;

/* The calling thread's number, never used twice, unlike what the system calls it by. */
uint64_t mcx_thread_number(void);

/* Whose connections of this class are: the calling thread's number, or 0 where any thread may use
 * them, as sockets of Python's own class and of those that derive from it. */
uint64_t mcx_socket_owner(PyObject *socket_class);

/* 1 where a receive can end with the time it has, 0: it waits until something comes; -1 with an
 * exception. */
int mcx_python_has_timeout(const mc_connection *connection);

/* Lets the next receives take so many bytes that are there even when the deadline is over, where
 * they do not wait for them. -1 with an exception. */
int mcx_python_allow_overtime(mc_connection *connection, uint32_t bytes);

#endif
