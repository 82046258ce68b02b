/* keys: the caller's key as a checked view of bytes, and what keeps it alive. */
#ifndef MCX_KEYS_H
#define MCX_KEYS_H

#include "call.h"

/* A key on its way: a view and what keeps it alive. */
typedef struct {
    mc_slice text;
    PyObject *owner; /* strong or NULL */
    PyObject *hash;  /* of a (hash, key) tuple: strong or NULL */
} mcx_key;

/* The key of a single call: encoded, checked. owner and hash are strong after
 * 0; nothing is held after -1. The caller's key_encoder is applied where encode. */
int mcx_key_single(mcx_call *call, PyObject *object, mcx_key *key);

/* key_encoder(key). */
PyObject *mcx_call_encoder(PyObject *encoder, PyObject *key);
int mcx_key_check(mcx_module *module, const mcx_snapshot *snapshot, mc_slice text, size_t extra,
                  PyObject *shown);
/* The key of a storage command as it is to be sent, whatever limit the client has: memcached
 * refuses a longer one than its own, and takes the value behind it for commands. Not where
 * check_keys is False, which says so. */
int mcx_key_check_store(mcx_module *module, const mcx_snapshot *snapshot, mc_slice text);
void mcx_key_clear(mcx_key *key);
PyObject *mcx_encode_key(PyObject *key);
/* What holds whatever the options say: the bytes cannot end or split a command line. */
int mcx_key_check_safe(mcx_module *module, mc_slice text);

#endif
