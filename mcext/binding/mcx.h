/* The binding's own header: its structs, and what each of its files offers the others.
 *
 * Only files of this folder include Python.h; the core is included from here. Everything below is
 * called with the GIL held (free-threaded: with the thread attached) unless its name ends in
 * _nogil. No lock is held while Python code runs. */
#ifndef MCX_H
#define MCX_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/fleet/hash.h"
#include "core/fleet/ring.h"
#include "core/fleet/server.h"
#include "core/flow/fanout.h"
#include "core/net/process.h"
#include "core/wire/exchange.h"
#include "core/wire/number.h"

#include "compat.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* ---- names ---------------------------------------------------------------------------------- */

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

/* Options of a client, shared by its threads: attributes, in the order of the constructor.
 * X(constant, "attribute"). */
#define MCX_OPTIONS(X)                                                                             \
    X(DEBUG, "debug")                                                                              \
    X(PICKLE_PROTOCOL, "pickleProtocol")                                                           \
    X(PICKLER, "pickler")                                                                          \
    X(UNPICKLER, "unpickler")                                                                      \
    X(COMPRESSOR, "compressor")                                                                    \
    X(DECOMPRESSOR, "decompressor")                                                                \
    X(PERSISTENT_LOAD, "persistent_load")                                                          \
    X(PERSISTENT_ID, "persistent_id")                                                              \
    X(MAX_KEY_LENGTH, "server_max_key_length")                                                     \
    X(MAX_VALUE_LENGTH, "server_max_value_length")                                                 \
    X(DEAD_RETRY, "dead_retry")                                                                    \
    X(SOCKET_TIMEOUT, "socket_timeout")                                                            \
    X(CACHE_CAS, "cache_cas")                                                                      \
    X(FLUSH_ON_RECONNECT, "flush_on_reconnect")                                                    \
    X(CHECK_KEYS, "do_check_key")                                                                  \
    X(KEY_ENCODER, "key_encoder")                                                                  \
    X(CONNECT_TIMEOUT, "connect_timeout")                                                          \
    X(MAX_LENGTH, "max_value_length")                                                              \
    X(ALLOW_PICKLE, "allow_pickle")                                                                \
    X(PICKLER_IS_KEYWORD, "picklerIsKeyword")

enum {
#define X(constant, name) MCX_OPT_##constant,
    MCX_OPTIONS(X)
#undef X
    MCX_OPTION_COUNT,
    MCX_SERVERS = MCX_OPTION_COUNT, /* the lists: attributes like options, not among them */
    MCX_BUCKETS
};

enum {
    MCX_FLAG_PICKLE = 1,
    MCX_FLAG_INTEGER = 2,
    MCX_FLAG_LONG = 4,
    MCX_FLAG_ZLIB = 8,
    MCX_FLAG_TEXT = 16
};

/* What a client's `stats` counts: commands, and the multi calls. */
enum {
    MCX_COUNT_GET_MULTI = MC_COMMANDS,
    MCX_COUNT_SET_MULTI,
    MCX_COUNT_DELETE_MULTI,
    MCX_COUNTS
};

/* ---- structs -------------------------------------------------------------------------------- */

/* What the descriptor of an attribute is given. */
typedef struct {
    struct mcx_module *module;
    int option;
} mcx_attribute;

#define MCX_ATTRIBUTES (MCX_OPTION_COUNT + 4)

typedef struct mcx_module {
    PyTypeObject *client_type;
    PyTypeObject *core_type;
    PyTypeObject *server_type;
    PyTypeObject *stream_type;
    PyTypeObject *record_type;
    PyTypeObject *owner_type;
    PyTypeObject *host_type;  /* mcext.pure.host._Host; NULL until that is imported */
    PyTypeObject *local_type; /* threading.local as found at import */
    bool local_is_native;     /* it is the interpreter's own: one dict a thread */
    Py_ssize_t core_offset;   /* of the slot in a client that holds its mcx_core */
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
    _Atomic int hash_kind;     /* MCX_HASH_* */
    PyObject *socket_override; /* what memcache.socket was set to, or NULL */
    PyObject *time_override;
    PyObject *socket_module; /* sys.modules["socket"] once seen */
    PyObject *socket_class;  /* socket.socket as Python brings it, once seen */
    PyObject *socket_dict;   /* where socket.socket was last looked for: borrowed, it lives on */
#if MCX_HAS_DICT_VERSION
    uint64_t socket_version; /* of that dict, then */
#endif
    PyObject *pickle_dumps, *pickle_loads, *same_key; /* once used */
    PyObject *defaults[2]; /* SERVER_MAX_KEY_LENGTH, SERVER_MAX_VALUE_LENGTH; ints */
    mcx_attribute attributes[MCX_ATTRIBUTES];
    PyGetSetDef getset[MCX_ATTRIBUTES];
} mcx_module;

enum {
    MCX_HASH_DEFAULT,
    MCX_HASH_CRC32,
    MCX_HASH_PYTHON
};

/* What a call works with, replaced whole. Reference-counted: a call holds one reference. */
typedef struct mcx_snapshot {
#ifdef Py_GIL_DISABLED
    _Atomic size_t references;
#else
    size_t references;
#endif
    uint64_t version;                    /* one more than that of the one it was copied from */
    PyObject *options[MCX_OPTION_COUNT]; /* as assigned; NULL: the default, made when asked for */
    uint32_t deleted;  /* bits by option, MCX_SERVERS and MCX_BUCKETS: no attribute, but in force */
    PyObject *servers; /* lists, as users see them and change them in place */
    PyObject *buckets;
    PyObject **server; /* strong: what servers held when it was last looked at */
    size_t server_count;
    PyObject **bucket;       /* strong; of buckets */
    uint32_t *bucket_server; /* index into server, or server_count where it is not there */
    size_t bucket_count;
    bool all_hosts; /* every server and bucket is exactly a _Host */
    _Atomic uint32_t
        plain_hosts;            /* the module's host_changes when none of them replaced anything */
    size_t straight_key_length; /* of the straight way (straight.h); 0: it is not to be tried */
    bool debug, cache_cas, check_keys, allow_pickle, pickler_is_keyword;
    bool native_compressor, native_decompressor;
    Py_ssize_t max_key_length;   /* 0: no limit */
    Py_ssize_t max_value_length; /* 0: no limit; of sending */
    Py_ssize_t max_length;       /* of reading, after decompression */
} mcx_snapshot;

/* What all threads of a client share: the object in the client's slot. */
typedef struct {
    PyObject_HEAD
    mcx_module *module;
    PyObject *module_object;          /* strong: keeps module alive */
    PyObject *opened_with;            /* strong: the servers that the constructor was given */
    uint64_t id;                      /* never used twice */
    _Atomic(mcx_snapshot *) snapshot; /* read and replaced in the object's critical section */
    _Atomic uint64_t type_check;      /* the client's type version << 32 | MCX_REPLACES_* */
    _Atomic uint32_t plain_version; /* the type's where nothing is replaced, else MCX_NO_VERSION */
    _Atomic int instance_replaces;  /* an inside was once assigned to the instance */
    _Atomic int server_retries;
    _Atomic uint32_t generation; /* of the process: of references */
    _Atomic int64_t next_reap;
    _Atomic size_t reap_server;
} mcx_core;

/* What is one thread's of a client. */
typedef struct {
    PyObject_HEAD
    uint64_t core_id;
    bool is_first;             /* of the thread that made the client */
    const void *remembered_by; /* what is the thread's own that does; another address: several */
    PyObject *stats;           /* NULL until somebody looks; counts are added to it at each look */
    PyObject *cas_ids;         /* dict or what was assigned */
    bool stats_deleted, cas_ids_deleted; /* no attribute until assigned or reset */
    uint32_t counts[MCX_COUNTS];
} mcx_record;

/* The data of a _Host: the base class of that, in C. */
typedef struct {
    PyObject_HEAD
    mcx_module *module; /* borrowed: the type keeps it */
    mc_server server;
    bool initialised;
    PyObject *address; /* (host, port) or path */
    PyObject *ip;      /* str or NULL */
    PyObject *port;    /* int or NULL */
    PyObject *family, *weight, *debug, *dead_retry, *socket_timeout, *flush_on_reconnect;
    PyObject *connect_timeout; /* NULL: socket_timeout */
    _Atomic int64_t dead_retry_us, timeout, connect_within;
    _Atomic int is_debug, does_flush;
    PyObject *streams; /* mcext.pure.stream.Streams, or NULL: set once */
} mcx_server;

/* A key on its way: a view and what keeps it alive. */
typedef struct {
    mc_slice text;
    PyObject *owner; /* strong or NULL */
    PyObject *hash;  /* of a (hash, key) tuple: strong or NULL */
} mcx_key;

/* One call of a client's method. */
typedef struct {
    PyObject *self; /* borrowed: the caller's */
    mcx_module *module;
    mcx_core *core;
    mcx_snapshot *snapshot; /* valid until mcx_call_end */
    mcx_record *record;     /* strong */
    mc_clock clock;
    const void *kind;       /* of connections: NULL native, else a socket class, borrowed */
    PyObject *socket_class; /* strong or NULL */
    uint64_t owner;
    bool debuglog_is_replaced;
    bool is_customised; /* found in its middle, before anything was sent: mcx_pure is the way */
} mcx_call;

/* A server that was chosen, and this call's connection to it. */
typedef struct {
    mcx_server *host;          /* strong */
    mc_connection *connection; /* owned by the call */
    bool probe;                /* this call alone tries a server whose dead mark has run out */
    bool asked;                /* a request went out whose answer tells whether the server lives */
    bool late; /* the deadline had passed before it was asked: a timeout says nothing about it */
} mcx_target;

/* An idle connection younger than this is used without a look. */
#define MCX_LOOK_AFTER MC_SECOND

/* memcached's limit (protocol.txt, "Keys"). */
#define MCX_PROTOCOL_KEY_LENGTH 250

/* After a noreply command: whether the connection can be brought in step by a marker. Not where the
 * key is one that memcached refuses: it then takes a data block for commands, and what these answer
 * could look like the marker's reply. */
static inline bool mcx_noreply_is_clean(mc_slice key)
{
    return key.length <= MCX_PROTOCOL_KEY_LENGTH;
}

/* ---- module.c ------------------------------------------------------------------------------- */

extern struct PyModuleDef mcx_module_definition;
extern PyMethodDef mcx_single_methods[];

/* The module that made this class, NULL where it is no Client. tp_methods, which nothing looks at
 * in a class that is ready, tells it: a class that derives from it has its own there. */
static inline mcx_module *mcx_module_of_class(PyTypeObject *type)
{
    return LIKELY(type->tp_methods == mcx_single_methods)
               ? PyModule_GetState(((PyHeapTypeObject *)type)->ht_module)
               : NULL;
}

mcx_module *mcx_module_of_subclass(PyTypeObject *type);

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

/* ---- core_object.c -------------------------------------------------------------------------- */

extern PyType_Spec mcx_core_spec, mcx_record_spec;

mcx_core *mcx_core_new(mcx_module *module, PyObject *module_object);

/* Attributes by option. */
extern const char *const mcx_option_names[MCX_OPTION_COUNT];

/* A new snapshot like the current one, for the caller to change; NULL with MemoryError. */
mcx_snapshot *mcx_snapshot_copy(mcx_core *core);
void mcx_snapshot_free(mcx_snapshot *snapshot);
/* Gives up a reference. */
static inline void mcx_snapshot_drop(mcx_snapshot *snapshot)
{
    if (UNLIKELY(--snapshot->references == 0)) {
        mcx_snapshot_free(snapshot);
    }
}

/* Sets option number option of a snapshot in the making; value NULL: the default. 0, or -1 with an
 * exception that names it. */
int mcx_snapshot_set_option(mcx_module *module, mcx_snapshot *snapshot, int option,
                            PyObject *value);

/* Finds how the snapshot's pickler takes the protocol, as python-memcached does: a caller's own is
 * called once. -1 with an exception. */
int mcx_snapshot_probe_pickler(mcx_snapshot *snapshot);

/* From lists of hosts; steals nothing. */
int mcx_snapshot_set_servers(mcx_module *module, mcx_snapshot *snapshot, PyObject *servers);
int mcx_snapshot_set_buckets(mcx_module *module, mcx_snapshot *snapshot, PyObject *buckets);

/* Makes snapshot (stolen) the current one; connections of servers that are in it no more are closed
 * as soon as they are idle. False where another thread has replaced what snapshot was copied from:
 * the caller begins again. */
bool mcx_core_replace(mcx_core *core, mcx_snapshot *snapshot);

/* The two lists have changed in place since the current snapshot was made: makes another one. */
int mcx_core_take_lists(mcx_core *core);
/* Whether they have, as far as two lengths and the bucket in hand show. */
static inline bool mcx_bucket_is(const mcx_snapshot *snapshot, size_t index)
{
    PyObject *list = snapshot->buckets;

    if (UNLIKELY((size_t)PyList_GET_SIZE(list) != snapshot->bucket_count)) {
        return false;
    }
#ifdef Py_GIL_DISABLED
    PyObject *item = PyList_GetItemRef(list, (Py_ssize_t)index);

    if (item == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(item);
    return item == snapshot->bucket[index];
#else
    return PyList_GET_ITEM(list, index) == snapshot->bucket[index];
#endif
}
/* The same of all of both lists. */
bool mcx_lists_are_current(const mcx_snapshot *snapshot);

/* The value of an option as users see it, a new reference. */
PyObject *mcx_option_value(mcx_core *core, int option);

/* For the first call in the child of a fork. */
void mcx_core_start_over(mcx_core *core);

/* A reference to the snapshot that is current, to be given up with mcx_snapshot_drop: as long as no
 * code runs that may fork. */
static inline mcx_snapshot *mcx_core_take(mcx_core *core)
{
    mcx_snapshot *snapshot;

    if (UNLIKELY(atomic_load_explicit(&core->generation, memory_order_relaxed) !=
                 mc_process_generation())) {
        mcx_core_start_over(core);
    }
    Py_BEGIN_CRITICAL_SECTION(core);
    snapshot = atomic_load_explicit(&core->snapshot, memory_order_relaxed);
    if (LIKELY(snapshot != NULL)) {
        snapshot->references++;
    }
    Py_END_CRITICAL_SECTION();
    return snapshot;
}

/* A snapshot is safe to use between these, whatever runs. */
static inline mcx_snapshot *mcx_core_enter(mcx_core *core)
{
    mcx_snapshot *snapshot = mcx_core_take(core);

    if (LIKELY(snapshot != NULL)) {
        mc_process_add_calls(1);
    }
    return snapshot;
}

static inline void mcx_core_leave(mcx_snapshot *snapshot)
{
    mc_process_add_calls(-1);
    mcx_snapshot_drop(snapshot);
}

/* The core of a client, borrowed; NULL with RuntimeError where __init__ has not run. */
mcx_core *mcx_core_of(mcx_module *module, PyObject *self);

/* This thread's record of the client, a new reference. */
mcx_record *mcx_record_of(mcx_module *module, mcx_core *core, PyObject *self);

/* That of the thread that makes the client. */
int mcx_record_first(mcx_module *module, mcx_core *core, PyObject *self);

PyObject *mcx_record_stats(mcx_module *module, mcx_record *record);
int mcx_record_count(mcx_module *module, mcx_record *record, int what);
/* Nobody holds this thread's stats: counting can wait until somebody looks. */
static inline bool mcx_counts_alone(const mcx_record *record)
{
    return record->stats == NULL || Py_REFCNT(record->stats) == 1;
}
int mcx_record_count_name(mcx_module *module, mcx_record *record, PyObject *name);

/* ---- call.c --------------------------------------------------------------------------------- */

/* Begins a call of a client's method: 0; -1 with an exception, or 1 where the client replaces one
 * of its insides and mcx_pure is the way: then mcx_call_end is not due. */
int mcx_call_begin(mcx_call *call, PyObject *self);
/* The same for calls that meet all servers, whose lists may have been changed in place. */
int mcx_call_begin_listed(mcx_call *call, PyObject *self);
/* The same for what takes part in a call in Python: never 1. */
int mcx_call_begin_inner(mcx_call *call, PyObject *self);
/* The time since before went into the caller's own code (a key_encoder, a generator of keys, a
 * pickler): it is not the servers', and counts for no deadline. */
static inline void mcx_leave_out(mcx_call *call, int64_t before)
{
    call->clock.start += mc_clock_now() - before;
}
/* Ends it; result (may be NULL) is passed through. */
PyObject *mcx_call_end(mcx_call *call, PyObject *result);
/* The same for a method of mcx_pure's, which goes that way where that turned out to be right. */
PyObject *mcx_call_finish(mcx_call *call, PyObject *result, int method, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);

/* The server for key and a connection to it: 1, 0 where there is none, -1 with an exception, or
 * without one where the call turned out to be customised. */
int mcx_select(mcx_call *call, const mcx_key *key, mcx_target *target);

/* Walks the buckets in key's order and calls connect for each until it says 1 (or -1). */
typedef int (*mcx_connector)(mcx_call *call, size_t bucket, void *context);
int mcx_choose(mcx_call *call, const mcx_key *key, mcx_connector connect, void *context);

/* A connection to this host: 1, 0 where it cannot be reached, -1 with an exception. */
int mcx_connect_host(mcx_call *call, mcx_server *host, mcx_target *target);

/* Before the target is asked: whether there is time for it to answer. */
void mcx_target_note_time(mcx_call *call, mcx_target *target);

/* A new connection to the target's host in place of one that the server closed. As above. */
int mcx_reconnect(mcx_call *call, mcx_target *target);

/* Gives the target's connection back; clean: its stream is in step. */
void mcx_target_end(mcx_call *call, mcx_target *target, bool clean);

/* Sends the pieces and receives once; releases the GIL where the transport is native.
 * MC_RAISED: an exception is set. */
mc_status mcx_roundtrip(mcx_call *call, mcx_target *target, struct iovec *pieces, int count,
                        mc_exchange *exchange);
mc_status mcx_send(mcx_call *call, mcx_target *target, struct iovec *pieces, int count);
mc_status mcx_receive(mcx_call *call, mcx_target *target, mc_exchange *exchange);

/* What to do when a call on target ended in status: a debug line, a dead mark after a timeout.
 * 0; -1 where an exception is to go to the caller (MC_RAISED, MC_NO_MEMORY). */
int mcx_fail(mcx_call *call, mcx_target *target, mc_status status);

/* self.debuglog(text), text a printf format of PyUnicode_FromFormat; nothing without debug. */
int mcx_debuglog(mcx_call *call, const char *format, ...);
int mcx_write_stderr(mcx_module *module, PyObject *text);

/* The hash of a key by serverHashFunction: a new int. */
PyObject *mcx_server_hash(mcx_module *module, mc_slice text);

/* ---- replaced.c ----------------------------------------------------------------------------- */

enum {
    MCX_REPLACES_INSIDES = 1, /* the way of a call is the one in Python */
    MCX_REPLACES_DEBUGLOG = 2,
    MCX_REPLACES_SETATTR = 4 /* what is assigned to the instance is not seen */
};

/* What the client's class, the instance and its hosts replace, MCX_REPLACES_*; -1 with an
 * exception. */
int mcx_replaces_slow(mcx_module *module, mcx_core *core, mcx_snapshot *snapshot, PyObject *self);

/* No type's version, not even that of a type that has none (0). */
#define MCX_NO_VERSION UINT32_MAX

/* True where nothing is replaced, as far as can be told at once. */
static inline bool mcx_is_plain(const mcx_module *module, const mcx_core *core,
                                const mcx_snapshot *snapshot, PyObject *self)
{
    uint32_t version = mcx_type_version(Py_TYPE(self));

    return LIKELY(version == atomic_load_explicit(&core->plain_version, memory_order_acquire) &&
                  atomic_load_explicit(&snapshot->plain_hosts, memory_order_acquire) ==
                      atomic_load_explicit(&module->host_changes, memory_order_acquire) &&
                  mcx_type_version(module->host_type) ==
                      atomic_load_explicit(&module->plain_host_version, memory_order_acquire));
}

/* An attribute of that name was assigned to, or deleted from, a client or a host. */
void mcx_note_client_attribute(mcx_module *module, mcx_core *core, PyObject *name);
void mcx_note_host_attribute(mcx_module *module, PyObject *name);

int mcx_find_client_originals(mcx_module *module);
/* mcext.pure.host's class, as it was made. */
int mcx_set_host_type(mcx_module *module, PyObject *type);

/* ---- pure.c --------------------------------------------------------------------------------- */

/* mcext.pure.client's function for a method, called with self before the arguments. */
PyObject *mcx_pure(PyObject *self, int method, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames);

/* ---- keys.c --------------------------------------------------------------------------------- */

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

/* ---- values.c ------------------------------------------------------------------------------- */

typedef struct {
    mc_slice text;
    PyObject *owner; /* strong or NULL */
    uint32_t flags;
    char digits[32]; /* of a small int: text may point here, so do not copy the struct */
} mcx_stored;

/* A value that goes out as it is, without Python code and without an owner. */
static inline bool mcx_plain_value(PyObject *value, mcx_stored *stored)
{
    if (PyBytes_CheckExact(value)) {
        stored->flags = 0;
        stored->text = (mc_slice){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
        return true;
    }
    if (PyUnicode_CheckExact(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
        stored->flags = MCX_FLAG_TEXT;
        stored->text = (mc_slice){PyUnicode_DATA(value), (size_t)PyUnicode_GET_LENGTH(value)};
        return true;
    }
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

        stored->flags = MCX_FLAG_INTEGER;
        stored->text = (mc_slice){stored->digits, 0};
        if (!overflow) {
            stored->text.length = mc_number_format_signed(stored->digits, number);
        }
        return !overflow;
    }
    return false;
}

/* value as it is stored: 1, 0 where it is too large to send, -1 with an exception. min_compress:
 * the caller's object or NULL. The default of _val_to_store_info. */
int mcx_store_info(mcx_call *call, PyObject *value, PyObject *min_compress, mcx_stored *stored);
void mcx_stored_clear(mcx_stored *stored);

/* The value that flags and bytes mean. body is a bytes object (owner) or NULL, then text is a view.
 * What does not decode is None, with a debug line. NULL with an exception only for what is nobody's
 * data: MemoryError, KeyboardInterrupt and the like. The default of _recv_value, behind recv. */
PyObject *mcx_decode(mcx_call *call, uint32_t flags, mc_slice text, PyObject *body);

/* ---- arguments.c ---------------------------------------------------------------------------- */

/* A method's parameters: names in order, the first `required` of which have no default. */
typedef struct {
    const char *method;
    int count;
    int required;
    const char *names[24];
} mcx_signature;

/* Binds positional and keyword arguments to values[count], NULL where not given; borrowed.
 * TypeError that names the method and the argument. */
int mcx_bind(const mcx_signature *signature, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **values);

/* A time argument as decimal text (protocol.txt, "exptime"): text points into digits or into
 * owner. NULL object: 0. */
typedef struct {
    mc_slice text;
    PyObject *owner;
    char digits[24];
} mcx_decimal;
int mcx_time(PyObject *object, const char *name, mcx_decimal *decimal);
/* The same of `touch`, which takes a str of digits as well: python-memcached sent it as it was. */
int mcx_touch_time(PyObject *object, const char *name, mcx_decimal *decimal);
int mcx_delta(PyObject *object, mcx_decimal *decimal);

/* Refuses a min_compress_len that a length cannot be compared with; NULL: none was given. */
int mcx_min_compress(PyObject *object);

/* An int; one that a Py_ssize_t cannot hold is the nearest that it can. */
int mcx_int(PyObject *object, const char *name, Py_ssize_t *number);

/* Whether an optional argument is true; NULL: it is not. */
int mcx_flag(PyObject *object, bool *flag);

/* Seconds as nanoseconds; None: MC_NO_TIMEOUT. */
int mcx_seconds(PyObject *object, const char *name, int64_t *nanoseconds);

/* Seconds as microseconds. What lies beyond 31,000 years is the nearest that does not, NaN is 0,
 * and two of these can be added: of any other double the conversion is undefined. */
int64_t mcx_microseconds(double seconds);

/* ---- server_type.c -------------------------------------------------------------------------- */

extern PyType_Spec mcx_server_spec;
/* What a stream of this server must carry to be used: of this process, and not from before the last
 * disconnect. The process generation stands in the upper half. */
uint64_t mcx_server_stamp(mcx_server *host);

/* str(host), its name in get_stats; new references. */
int mcx_server_mark_dead(mcx_server *host, PyObject *reason);
PyObject *mcx_server_stats_name(mcx_server *host);
int mcx_server_debuglog(mcx_server *host, const char *format, ...);
/* After mc_pool_disconnect: closes the host's idle connections, saying quit before. */
void mcx_server_close_idle(mcx_server *host, bool quit);
/* Opens the native or Python stream of a connection this call owns: status as the transport's. */
mc_status mcx_server_open(mcx_server *host, mc_connection *connection, PyObject *socket_class,
                          mc_clock *clock);

static inline bool mcx_is_server(mcx_module *module, PyObject *object)
{
    return PyObject_TypeCheck(object, module->server_type);
}

/* ---- stream.c ------------------------------------------------------------------------------- */

extern PyType_Spec mcx_stream_spec;
/* Methods of a host, on the caller's stream. */
PyObject *mcx_host_here(PyObject *self, PyObject *unused);
PyObject *mcx_host_ready_socket(PyObject *self, PyObject *unused);
PyObject *mcx_host_begin(PyObject *self, PyObject *start);
PyObject *mcx_host_send(PyObject *self, PyObject *data);
PyObject *mcx_host_read_line(PyObject *self, PyObject *unused);
PyObject *mcx_host_read(PyObject *self, PyObject *size);
PyObject *mcx_host_receive(PyObject *self, PyObject *size);

/* ---- python_socket.c ------------------------------------------------------------------------ */

extern const mc_transport mcx_python_transport;
extern PyType_Spec mcx_owner_spec;
mc_status mcx_python_connect(mcx_module *module, mc_connection *connection, PyObject *socket_class,
                             mcx_server *host, mc_clock *clock);

/* The calling thread's number, never used twice, unlike what the system calls it by. */
uint64_t mcx_thread_number(void);

/* Whose connections of this class are: the calling thread's number, or 0 where any thread may use
 * them, as sockets of Python's own class and of those that derive from it. */
uint64_t mcx_socket_owner(PyObject *socket_class);

/* Lets the next receives take so many bytes that are there even when the deadline is over. */
/* -1 with an exception. */
int mcx_python_allow_overtime(mc_connection *connection, uint32_t bytes);

/* ---- errors.c ------------------------------------------------------------------------------- */

/* The debug line's words for what ended a call; a new reference. */
PyObject *mcx_status_text(const mc_connection *connection, mc_status status);

/* ---- call.c and core_object.c, for straight.h ------------------------------------------------ */

/* Closes connections that have been idle for long, at most two. */
void mcx_reap(mcx_module *module, mcx_core *core, mcx_snapshot *snapshot, int64_t now);

/* This thread's record, and with it the connections that it remembers, where it is known without a
 * look-up; borrowed. Else NULL. */
mcx_record *mcx_last_record(const mcx_core *core, mc_remembered **connections);

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

/* What brings a connection in step after noreply commands: its reply comes behind all of theirs. So
 * many of them are sent before the server is made to say that it has read them. */
#define MCX_MARKER "version\r\n"
#define MCX_UNANSWERED_AT_MOST 512

/* True where a retrieval that ended in status was answered by an error line, and what failed was to
 * bring the stream in step behind it. */
static inline bool mcx_is_answered(const mc_exchange *exchange, mc_status status)
{
    return exchange->marked != 0 && status != MC_RAISED && status != MC_NO_MEMORY;
}

/* ---- ask.c ---------------------------------------------------------------------------------- */

/* A command with one answer line, as it goes out. */
typedef struct {
    mc_command command;
    mc_slice key;
    mc_slice argument; /* exptime, delta or nothing */
    const uint64_t *cas;
    const mcx_stored *value; /* of a storage command */
    bool noreply;
} mcx_request;

typedef struct {
    mc_reply_type type;
    uint64_t number;
    PyObject *line; /* bytes; strong; where the answer is none of the good ones */
} mcx_answer;

/* Sends request to target and reads the answer; once more on a new connection where the command
 * may be repeated and the server closed before it answered. Ends target in every case. 1: answered
 * (noreply: sent); 0: no answer; -1 with an exception. */
int mcx_ask(mcx_call *call, mcx_target *target, const mcx_request *request, mcx_answer *answer);

/* The same where the straight way has sent the request already and received with that status. */
int mcx_ask_begun(mcx_call *call, mcx_target *target, const mcx_request *request,
                  mcx_answer *answer, mc_status status);

/* For commands that read more than one line: encodes, sends, receives once. The first event is
 * mc_exchange_next's. */
mc_status mcx_begin_exchange(mcx_call *call, mcx_target *target, const mcx_request *request,
                             mc_exchange *exchange, const mc_slice *keys);

/* True where it is right to try once more; then the target is connected anew. 0: no; -1. */
int mcx_try_again(mcx_call *call, mcx_target *target, mc_command command, bool started,
                  mc_status status, int *attempt);

/* ---- client.c, commands_single.c, commands_multi.c, commands_server.c ----------------------- */

extern PyMethodDef mcx_multi_methods[], mcx_server_methods[], mcx_client_methods[],
    mcx_pure_methods[];

int mcx_add_client_type(mcx_module *module, PyObject *module_object);

/* The last sentence of the text of a method that takes keys. */
#define MCX_RAISES                                                                                 \
    "Raises Client.MemcachedKeyError, TypeError or ValueError for a wrong argument, before\n"      \
    "anything is sent."

/* For PyMethodDef tables. */
#define MCX_METHOD(name)                                                                           \
    static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t nargs,                 \
                          PyObject *kwnames)
#define MCX_DEF(name, function, doc)                                                               \
    {                                                                                              \
        name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, doc          \
    }

#endif
