/* replaced: whether a client replaces one of python-memcached's insides. */
#ifndef MCX_REPLACED_H
#define MCX_REPLACED_H

#include "shared.h"
#include "state.h"

enum {
    MCX_REPLACES_INSIDES = 1, /* the way of a call is the one in Python */
    MCX_REPLACES_DEBUGLOG = 2,
    MCX_REPLACES_SETATTR = 4 /* what is assigned to the instance is not seen */
};

/* What the client's class, the instance and its hosts replace, MCX_REPLACES_*; -1 with an
 * exception. */
int mcx_replaces_slow(mcx_module *module, mcx_shared *shared, mcx_snapshot *snapshot,
                      PyObject *self);

/* No type's version, not even that of a type that has none (0). */
#define MCX_NO_VERSION UINT32_MAX

/* True where nothing is replaced, as far as can be told at once. */
static inline bool mcx_is_plain(const mcx_module *module, const mcx_shared *shared,
                                const mcx_snapshot *snapshot, PyObject *self)
{
    uint32_t version = mcx_type_version(Py_TYPE(self));

    return LIKELY(version == atomic_load_explicit(&shared->plain_version, memory_order_acquire) &&
                  atomic_load_explicit(&snapshot->plain_hosts, memory_order_acquire) ==
                      atomic_load_explicit(&module->host_changes, memory_order_acquire) &&
                  mcx_type_version(module->host_type) ==
                      atomic_load_explicit(&module->plain_host_version, memory_order_acquire));
}

/* An attribute of that name was assigned to, or deleted from, a client or a host. */
void mcx_note_client_attribute(mcx_module *module, mcx_shared *shared, PyObject *name);
void mcx_note_host_attribute(mcx_module *module, PyObject *name);

int mcx_find_client_originals(mcx_module *module);
/* mcext.pure.host's class, as it was made. */
int mcx_set_host_type(mcx_module *module, PyObject *type);

#endif
