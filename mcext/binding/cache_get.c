/* cache_get: a Cache's get. */
#include "core/wire/command.h"

#include "arguments.h"
#include "cache.h"
#include "cache_call.h"
#include "call.h"
#include "compat.h"
#include "methods.h"
#include "retrieve.h"

static const mcx_signature get_signature = {
    .method = "get", .count = 2, .required = 1, .names = {"key", "default"}};

static PyObject *get(mcx_call *call, const mcx_key *key, PyObject *default_value)
{
    mcx_retrieved got = {0};
    PyObject *result = NULL;
    int there = mcx_retrieve(call, MC_GET, key, &got);

    if (LIKELY(there > 0 && call->faults == NULL)) {
        result = LIKELY(got.found) ? mcx_retrieved_value(call, &got) : Py_NewRef(default_value);
    }
    mcx_retrieved_clear(&got);
    return result;
}

static WHOLE PyObject *cache_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    PyObject *values[2], *result = NULL;
    mcx_call call;
    mcx_cache_key key;

    if (LIKELY(kwnames == NULL && (nargs == 1 || nargs == 2))) {
        values[0] = args[0];
        values[1] = nargs == 2 ? args[1] : NULL;
    }
    else if (mcx_bind(&get_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *default_value = values[1] != NULL ? values[1] : Py_None;

    if (UNLIKELY(mcx_cache_begin(&call, self, MC_GET) < 0)) {
        return NULL;
    }
    if (LIKELY(mcx_cache_key_of(&call, values[0], &key) == 0)) {
        result = get(&call, &key.key, default_value);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, default_value);
}

/* _gets(key): (value, token, whether it is no stub), or None. Raises whatever errors says. */
static PyObject *cache_gets(PyObject *self, PyObject *object)
{
    PyObject *result = NULL, *value;
    mcx_call call;
    mcx_cache_key key;
    mcx_retrieved got = {0};

    if (mcx_cache_begin(&call, self, MC_GETS) < 0) {
        return NULL;
    }
    call.raises = true;
    if (mcx_cache_key_of(&call, object, &key) == 0) {
        if (mcx_retrieve(&call, MC_GETS, &key.key, &got) > 0 && call.faults == NULL) {
            bool is_stub = !got.found && got.body != NULL;

            value = got.found ? mcx_retrieved_value(&call, &got) : Py_NewRef(Py_None);
            if (value != NULL && (got.found || is_stub)) {
                result = Py_BuildValue("(NKO)", value, (unsigned long long)got.cas,
                                       is_stub ? Py_False : Py_True);
            }
            else {
                result = value;
            }
        }
        mcx_retrieved_clear(&got);
        mcx_key_clear(&key.key);
    }
    return mcx_cache_end(&call, result, NULL);
}

PyMethodDef mcx_cache_get_methods[] = {
    MCX_DEF(
        "get", cache_get,
        "get($self, key, default=None)\n--\n\n"
        "Fetch the value of key (protocol.txt, \"Retrieval command\").\n\n"
        "key: str or bytes, at most 250 bytes with the prefix.\n\n"
        "Returns the value, or default where there is none; with errors=\"miss\" also where it\n"
        "could not be fetched or decoded. Raises MemcacheError, by errors; TypeError or\n"
        "ValueError for a wrong key, before anything is sent."),
    {"_gets", cache_gets, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
