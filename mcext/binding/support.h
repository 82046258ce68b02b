/* support: what mcext.pure asks of C: functions of `mcext._core`. */
#ifndef MCX_SUPPORT_H
#define MCX_SUPPORT_H

#include "compat.h"

extern PyMethodDef mcx_support_functions[];
/* Those that are about where a key goes: in server_for.c. */
extern PyMethodDef mcx_placing_functions[];

#endif
