/* state: what a module has of its own: its types, names, and what an application assigned to it.
 *
 * Everything in this folder is called with the GIL held (free-threaded: with the thread attached)
 * unless its name ends in _nogil. No lock is held while Python code runs. */
#ifndef MCX_STATE_H
#define MCX_STATE_H

#include "client_attributes.h"
#include "compat.h"
#include "record.h"

/* What takes calls of a client to the way in Python (mcext/pure) where a subclass, a patch or an
 * instance replaces it: the methods through which python-memcached's own methods go. debuglog is
 * called from here. X(constant, "name"). */
#define MCX_CLIENT_INSIDES(X)                                                                      \
    X(CHECK_KEY, "check_key")                                                                      \
    X(STATLOG, "_statlog")                                                                         \
    X(GET_SERVER, "_get_server")                                                                   \
    X(SET, "_set")                                                                                 \
    X(GET, "_get")                                                                                 \
    X(DELETETOUCH, "_deletetouch")                                                                 \
    X(INCRDECR, "_incrdecr")                                                                       \
    X(VAL_TO_STORE_INFO, "_val_to_store_info")                                                     \
    X(RECV_VALUE, "_recv_value")                                                                   \
    X(EXPECTVALUE, "_expectvalue")                                                                 \
    X(EXPECT_CAS_VALUE, "_expect_cas_value")                                                       \
    X(ENCODE_KEY, "_encode_key")                                                                   \
    X(ENCODE_CMD, "_encode_cmd")                                                                   \
    X(MAP_AND_PREFIX_KEYS, "_map_and_prefix_keys")                                                 \
    X(DEBUGLOG, "debuglog")                                                                        \
    X(SETATTR, "__setattr__")                                                                      \
    X(SERVERS, "servers")                                                                          \
    X(BUCKETS, "buckets")                                                                          \
    X(KEY_ENCODER, "key_encoder")                                                                  \
    X(CHECK_KEYS, "do_check_key")

/* From here on attributes: of a class a replaced one counts, on an instance they are assigned. */
#define MCX_CLIENT_METHOD_COUNT MCX_INSIDE_SERVERS

#define MCX_HOST_INSIDES(X)                                                                        \
    X(CONNECT, "connect")                                                                          \
    X(GET_SOCKET, "_get_socket")                                                                   \
    X(CHECK_DEAD, "_check_dead")                                                                   \
    X(MARK_DEAD, "mark_dead")                                                                      \
    X(CLOSE_SOCKET, "close_socket")                                                                \
    X(SEND_CMD, "send_cmd")                                                                        \
    X(SEND_CMDS, "send_cmds")                                                                      \
    X(READLINE, "readline")                                                                        \
    X(EXPECT, "expect")                                                                            \
    X(RECV, "recv")                                                                                \
    X(FLUSH, "flush")                                                                              \
    X(QUIT, "quit")                                                                                \
    X(HOST_DEBUGLOG, "debuglog")                                                                   \
    X(SOCKET, "socket")                                                                            \
    X(BUFFER, "buffer")

enum {
#define X(constant, name) MCX_INSIDE_##constant,
    MCX_CLIENT_INSIDES(X)
#undef X
    MCX_CLIENT_INSIDE_COUNT
};
enum {
#define X(constant, name) MCX_INSIDE_##constant,
    MCX_HOST_INSIDES(X)
#undef X
    MCX_HOST_INSIDE_COUNT
};

/* Methods whose work is done in Python: for every client the first ones, for a client that replaces
 * something the others too. X(name): mcext.pure.client's function of that name. */
#define MCX_PURE_METHODS(X)                                                                        \
    X(set_servers)                                                                                 \
    X(refresh_servers)                                                                             \
    X(_init_buckets)                                                                               \
    X(disconnect_all)                                                                              \
    X(quit_all)                                                                                    \
    X(forget_dead_hosts)                                                                           \
    X(_get_server)                                                                                 \
    X(_get)                                                                                        \
    X(_set)                                                                                        \
    X(_deletetouch)                                                                                \
    X(_incrdecr)                                                                                   \
    X(_recv_value)                                                                                 \
    X(_expectvalue)                                                                                \
    X(_expect_cas_value)                                                                           \
    X(_encode_cmd)                                                                                 \
    X(_map_and_prefix_keys)                                                                        \
    X(get)                                                                                         \
    X(gets)                                                                                        \
    X(set)                                                                                         \
    X(add)                                                                                         \
    X(replace)                                                                                     \
    X(append)                                                                                      \
    X(prepend)                                                                                     \
    X(cas)                                                                                         \
    X(delete)                                                                                      \
    X(touch)                                                                                       \
    X(incr)                                                                                        \
    X(decr)                                                                                        \
    X(get_multi)                                                                                   \
    X(set_multi)                                                                                   \
    X(delete_multi)                                                                                \
    X(get_stats)                                                                                   \
    X(get_slab_stats)                                                                              \
    X(get_slabs)                                                                                   \
    X(flush_all)

enum {
#define X(name) MCX_PURE_##name,
    MCX_PURE_METHODS(X)
#undef X
    MCX_PURE_COUNT
};

/* What a TLS stream needs of ssl, found when first used, and names of attributes. */
enum {
    MCX_TLS_BIO,
    MCX_TLS_ERROR,
    MCX_TLS_WANT_READ,
    MCX_TLS_READ, /* from here on names */
    MCX_TLS_WRITE,
    MCX_TLS_PENDING,
    MCX_TLS_NAMES
};

struct mcx_module {
    PyTypeObject *client_type;
    PyTypeObject *shared_type;
    PyTypeObject *server_type;
    PyTypeObject *stream_type;
    PyTypeObject *record_type;
    PyTypeObject *owner_type;
    PyTypeObject *tls_type;
    PyTypeObject *cache_type;
    PyTypeObject *acache_type;
    PyTypeObject *astream_type;
    PyTypeObject *acall_type;
    PyTypeObject *item_type;
    PyTypeObject *table_type;
    PyTypeObject *secret_type;
    PyTypeObject *host_type;  /* mcext.pure.host._Host; NULL until that is imported */
    PyTypeObject *local_type; /* threading.local as found at import */
    bool local_is_native;     /* it is the interpreter's own: one dict a thread */
    Py_ssize_t shared_offset; /* of the slot in a client that holds its mcx_shared */
    PyObject *guard; /* whose critical section is that of the fields an application assigns */

    PyObject *client_insides[MCX_CLIENT_INSIDE_COUNT]; /* names, interned */
    PyObject *host_insides[MCX_HOST_INSIDE_COUNT];
    PyObject *client_originals[MCX_CLIENT_INSIDE_COUNT]; /* the type's own methods */
    PyObject *host_originals[MCX_HOST_INSIDE_COUNT];
    _Atomic uint32_t plain_host_version; /* host_type's, in the same way */
    _Atomic uint32_t host_changes;  /* moves on when an inside of any host is assigned or deleted */
    PyObject *pure[MCX_PURE_COUNT]; /* functions, once used */

    PyObject *str_record, *str_write, *str_socket, *str_socket_module, *str_class;
    PyObject *str_server_retries, *str_keys, *str_dict, *str_set_servers, *str_reset_cas;
    PyObject *str_recv, *str_sendall, *str_own, *str_greenlet;
    PyObject *count_names[MCX_COUNTS]; /* str */

    PyObject *key_error, *key_length_error, *key_character_error, *key_none_error, *key_type_error,
        *string_encoding_error;              /* nested in Client */
    PyObject *error, *connection_dead_error; /* memcache._Error, _ConnectionDeadError */

    PyObject *hash_function;   /* a caller's own, or NULL */
    _Atomic int hash_kind;     /* MC_HASH_*, MCX_HASH_PYTHON */
    PyObject *socket_override; /* what memcache.socket was set to, or NULL */
    PyObject *time_override;
    PyObject *socket_module; /* sys.modules["socket"] once seen */
    PyObject *socket_class;  /* socket.socket as Python brings it, once seen */
    PyObject *socket_dict;   /* where socket.socket was last looked for: borrowed, it lives on */
#if MCX_HAS_DICT_VERSION
    uint64_t socket_version; /* of that dict, then */
#endif
    PyObject *tls[MCX_TLS_NAMES];
    PyObject *pickle_dumps, *pickle_loads; /* once used */
    PyObject *same_key;                    /* the key_encoder where none was given */
    PyObject *defaults[2]; /* SERVER_MAX_KEY_LENGTH, SERVER_MAX_VALUE_LENGTH; ints */
    mcx_attribute attributes[MCX_ATTRIBUTE_COUNT];
    PyGetSetDef getset[MCX_ATTRIBUTE_COUNT];
};

/* Behind the core's hash functions: a caller's own. */
#define MCX_HASH_PYTHON (MC_HASH_CRC32 + 1)

/* A table without methods that is Client's own alone. */
extern PyMethodDef mcx_client_mark[];

/* The module that made this class, NULL where it is no Client. tp_methods, which nothing looks at
 * in a class that is ready, tells it: a class that derives from it has its own there. */
static inline mcx_module *mcx_module_of_class(PyTypeObject *type)
{
    return LIKELY(type->tp_methods == mcx_client_mark)
               ? PyModule_GetState(((PyHeapTypeObject *)type)->ht_module)
               : NULL;
}

mcx_module *mcx_module_of_subclass(PyTypeObject *type);

/* Methods of these tables as attributes of a type that is made already. -1 with an exception. */
int mcx_add_methods(PyTypeObject *type, PyMethodDef *const *tables, size_t count);

/* The module whose type with that tp_new is the class or one of its bases. */
mcx_module *mcx_module_by_new(PyTypeObject *type, newfunc made_by);

/* The module that a client's class comes from. (METH_METHOD would say it too, but the interpreter
 * has no quick way to call such methods.) */
static inline mcx_module *mcx_module_of(PyObject *client)
{
    mcx_module *module = mcx_module_of_class(Py_TYPE(client));

    return LIKELY(module != NULL) ? module : mcx_module_of_subclass(Py_TYPE(client));
}

/* The class that connections are to be made with: NULL in *found for Python's own socket.socket,
 * else a new reference. -1 with an exception. */
int mcx_find_socket_class(mcx_module *module, PyObject **found);

/* time.time() in microseconds, or memcache.time's where somebody set it; -1 with an exception. */
int mcx_wall_clock(mcx_module *module, int64_t *now);

/* What an application assigned to a name of the module, which it may assign again at any moment: a
 * new reference, or NULL without an exception. field is the module's own. */
PyObject *mcx_assigned(mcx_module *module, PyObject **field);

/* A new reference to module.attribute. */
PyObject *mcx_import(const char *module, const char *attribute);

/* The same where the module was imported before; NULL without an exception where it was not, or has
 * no such attribute. */
PyObject *mcx_imported(const char *module, const char *attribute);

/* A RuntimeWarning at the line of the application (mcext/warn.py); the format is
 * PyUnicode_FromFormat's. 0, or -1 with an exception, which may be the warning. */
int mcx_warn(const char *format, ...);

/* Client.name = value (stolen; NULL: with an exception). */
int mcx_add_to_client(mcx_module *module, const char *name, PyObject *value);

/* True where socket.socket is Python's own, as far as can be told at once. */
static inline bool mcx_socket_is_plain(mcx_module *module)
{
#if MCX_HAS_DICT_VERSION
    return module->socket_override == NULL && module->socket_dict != NULL &&
           ((PyDictObject *)module->socket_dict)->ma_version_tag == module->socket_version;
#else
    PyObject *dict = __atomic_load_n(&module->socket_dict, __ATOMIC_ACQUIRE);
    PyObject *override = __atomic_load_n(&module->socket_override, __ATOMIC_ACQUIRE);
    PyObject *found = NULL;
    bool plain = false;

    if (LIKELY(dict != NULL && override == NULL)) {
        plain = PyDict_GetItemRef(dict, module->str_socket, &found) > 0 &&
                found == __atomic_load_n(&module->socket_class, __ATOMIC_ACQUIRE);
    }
    else {
        plain = mcx_find_socket_class(module, &found) == 0 && found == NULL;
    }
    Py_XDECREF(found);
    if (UNLIKELY(!plain)) {
        PyErr_Clear(); /* the general way meets it again */
    }
    return plain;
#endif
}

#endif
