/* methods: the tables of Client's methods, a file each, and what their texts share. */
#ifndef MCX_METHODS_H
#define MCX_METHODS_H

#include "compat.h"

extern PyMethodDef mcx_get_methods[], mcx_store_methods[], mcx_change_methods[],
    mcx_multi_methods[], mcx_server_methods[], mcx_server_for_methods[], mcx_client_methods[],
    mcx_pure_methods[];

/* The last sentence of the text of a method that takes keys. */
#define MCX_RAISES                                                                                 \
    "Raises Client.MemcachedKeyError, TypeError or ValueError for a wrong argument, before\n"      \
    "anything is sent."

/* A row of such a table. */
#define MCX_DEF(name, function, doc)                                                               \
    {                                                                                              \
        name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, doc          \
    }

#endif
