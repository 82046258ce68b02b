/* cache_store: what a storage command of a Cache is to do, by its arguments. */
#ifndef MCX_CACHE_STORE_H
#define MCX_CACHE_STORE_H

#include "core/wire/command.h"

#include "compat.h"

typedef struct {
    PyObject *key; /* the caller's; borrowed */
    mc_command command;
    bool noreply;
    bool has_token;
    bool raises; /* whatever errors says */
    uint64_t token;
} mcx_store_order;

/* Whether an old value is to be gone where the new one cannot be stored. */
static inline bool mcx_store_replaces(mc_command command)
{
    return command == MC_SET || command == MC_REPLACE || command == MC_CAS;
}

/* Sets command and token by the argument cas of set, and noreply; either may be NULL. -1 with an
 * exception. */
int mcx_store_read(PyObject *cas, PyObject *noreply, mcx_store_order *what);

#endif
