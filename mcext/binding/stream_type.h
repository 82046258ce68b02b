/* stream_type: the type `_Stream`, on which mcext.pure.stream stands. */
#ifndef MCX_STREAM_TYPE_H
#define MCX_STREAM_TYPE_H

#include "compat.h"

extern PyType_Spec mcx_stream_spec;
/* Methods of a host, on the caller's stream. */
PyObject *mcx_host_here(PyObject *self, PyObject *unused);
PyObject *mcx_host_ready_socket(PyObject *self, PyObject *unused);
PyObject *mcx_host_begin(PyObject *self, PyObject *start);
PyObject *mcx_host_send(PyObject *self, PyObject *data);
PyObject *mcx_host_read_line(PyObject *self, PyObject *unused);
PyObject *mcx_host_read(PyObject *self, PyObject *size);
PyObject *mcx_host_receive(PyObject *self, PyObject *size);

#endif
