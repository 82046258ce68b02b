/* cache_call: begins and ends one call of a Cache's method; its arguments as they are sent. */
#ifndef MCX_CACHE_CALL_H
#define MCX_CACHE_CALL_H

#include "core/flow/leg.h"

#include "arguments.h"
#include "cache.h"
#include "call.h"
#include "keys.h"

/* 0, or -1 with an exception: then mcx_cache_end is not due. command is what its faults name. */
int mcx_cache_begin(mcx_call *call, PyObject *self, mc_command command);

/* Ends it. result is passed through where it is not NULL. NULL with an exception goes up. NULL
 * without one: what was noted as a fault is raised, or, with errors="miss", missed (borrowed) is
 * returned. Then what on_event is to hear is told. */
PyObject *mcx_cache_end(mcx_call *call, PyObject *result, PyObject *missed);

/* A key with its prefix. */
typedef struct {
    mcx_key key;
    char room[MC_PROTOCOL_KEY_LENGTH];
} mcx_cache_key;

/* TypeError or ValueError that says what a key may be. mcx_key_clear is due after 0. */
int mcx_cache_key_of(mcx_call *call, PyObject *object, mcx_cache_key *key);
/* The bytes of a str or bytes; *owner is strong. -1 with TypeError. */
int mcx_cache_key_view(PyObject *object, mc_slice *text, PyObject **owner);
/* What holds of each key; without the prefix. */
int mcx_cache_key_check(mc_slice text, size_t prefix, PyObject *shown);

/* ttl as it is sent: None is 0; beyond 30 days the time of day. */
int mcx_cache_ttl(mcx_module *module, PyObject *object, mcx_decimal *ttl);

/* What incr adds: an int. */
int mcx_cache_delta(PyObject *object, mcx_decimal *delta);

/* What a missing number is made. */
int mcx_cache_initial(PyObject *object, uint64_t *initial);

/* A token of an Item. */
int mcx_cache_token(PyObject *object, uint64_t *token);

/* Binds arguments of which only the first `positional` may be given without their names. */
int mcx_cache_bind(const mcx_signature *signature, int positional, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames, PyObject **values);

/* Whether the call's cache has a codec of its own. */
static inline bool mcx_has_codec(const mcx_call *call)
{
    return call->cache != NULL && call->cache->decode != NULL;
}

#endif
