/* options: the table of a client's options, a row each, and what comes from it: the constructor's
 * signature, arguments and docstring, the attributes, and what is handed down to the hosts. */
#ifndef MCX_OPTIONS_H
#define MCX_OPTIONS_H

#include "compat.h"

typedef struct mcx_module mcx_module;
typedef struct mcx_snapshot mcx_snapshot;
typedef struct mcx_shared mcx_shared;

/* X(constant, name, default, doc, ...), in the order of the constructor's arguments.
 *
 * constant  snapshot->options[MCX_OPT_constant] is what was assigned, NULL the default.
 * name      of the argument, and of the attribute where .attribute does not say another one.
 * default   as the signature shows it. Where that is None, None given stands for the default too.
 * doc       its lines in the class's docstring: behind "servers", in this order; "" where a row
 *           above speaks of it.
 * ...       what else is not as usual: fields of `row` in options.c, where the readers are. */
#define MCX_POSITIONAL_OPTIONS(X)                                                                  \
    X(DEBUG, "debug", "0", "debug: write what goes wrong to sys.stderr.\n", .read = read_truth,    \
      .field = FIELD(debug), .handed_to = HOSTS)                                                   \
    X(PICKLE_PROTOCOL, "pickleProtocol", "0",                                                      \
      "pickleProtocol, pickler, unpickler, pload, pid: how values other than bytes, str and int\n" \
      "    are stored.\n",                                                                         \
      .is_about_pickler = true)                                                                    \
    X(PICKLER, "pickler", "None", "", .read = read_callable, .original = {"pickle", "Pickler"},    \
      .original_is_default = true, .is_about_pickler = true)                                       \
    X(UNPICKLER, "unpickler", "None", "", .read = read_callable,                                   \
      .original = {"pickle", "Unpickler"}, .original_is_default = true)                            \
    X(COMPRESSOR, "compressor", "None",                                                            \
      "compressor, decompressor: used for values of more than min_compress_len bytes.\n",          \
      .read = read_replaced, .field = FIELD(native_compressor), .original = {"zlib", "compress"})  \
    X(DECOMPRESSOR, "decompressor", "None", "", .read = read_replaced,                             \
      .field = FIELD(native_decompressor), .original = {"zlib", "decompress"})                     \
    X(PERSISTENT_LOAD, "pload", "None", "", .attribute = "persistent_load", .read = read_callable) \
    X(PERSISTENT_ID, "pid", "None", "", .attribute = "persistent_id", .read = read_callable)       \
    X(MAX_KEY_LENGTH, "server_max_key_length", "None",                                             \
      "server_max_key_length, server_max_value_length: bytes; what is larger is not sent; 0: no\n" \
      "    limit. Storage commands send no key of more than 250 bytes whatever this says: "        \
      "memcached\n    would take the value for commands.\n",                                       \
      .read = read_max_key_length, .field = FIELD(max_key_length), .value = value_of_size)         \
    X(MAX_VALUE_LENGTH, "server_max_value_length", "None", "", .read = read_max_value_length,      \
      .field = FIELD(max_value_length), .value = value_of_size)                                    \
    X(DEAD_RETRY, "dead_retry", "30",                                                              \
      "dead_retry: seconds for which a server that could not be reached is left alone.\n",         \
      .read = read_number, .handed_to = HOSTS)                                                     \
    X(SOCKET_TIMEOUT, "socket_timeout", "3",                                                       \
      "socket_timeout: seconds that a call may take in all; None: for ever.\n",                    \
      .read = read_seconds, .handed_to = HOSTS)                                                    \
    X(CACHE_CAS, "cache_cas", "False",                                                             \
      "cache_cas: remember tokens in gets() for cas(); without cache_cas=True cas() is set().\n",  \
      .read = read_truth, .field = FIELD(cache_cas))                                               \
    X(FLUSH_ON_RECONNECT, "flush_on_reconnect", "0",                                               \
      "flush_on_reconnect: flush a server that comes back from the dead.\n", .handed_to = HOSTS)   \
    X(CHECK_KEYS, "check_keys", "True",                                                            \
      "check_keys: check the length and the characters of keys. With False keys of more than "     \
      "250\n    bytes are sent in storage commands, too: never for keys that come from "           \
      "outside.\n",                                                                                \
      .attribute = "do_check_key", .read = read_truth, .field = FIELD(check_keys))                 \
    X(KEY_ENCODER, "key_encoder", "None", "key_encoder: a function that each key goes through.\n", \
      .read = read_callable, .value = value_of_key_encoder)

/* Arguments that must be given by name. */
#define MCX_KEYWORD_OPTIONS(X)                                                                     \
    X(CONNECT_TIMEOUT, "connect_timeout", "None",                                                  \
      "connect_timeout: seconds that all connects of a call may take together; default:\n"         \
      "    socket_timeout.\n",                                                                     \
      .read = read_seconds, .value = value_of_connect_timeout, .handed_to = OWN_HOSTS)             \
    X(MAX_LENGTH, "max_value_length", "134217728",                                                 \
      "max_value_length: bytes; a value that is larger, after decompression, is not taken.\n",     \
      .read = read_max_length, .field = FIELD(max_length))                                         \
    X(ALLOW_PICKLE, "allow_pickle", "True",                                                        \
      "allow_pickle: False refuses pickles, in storing and in reading.\n", .read = read_truth,     \
      .field = FIELD(allow_pickle))                                                                \
    X(PLACEMENT, "placement", "None",                                                              \
      "placement: which server a key goes to: one of mcext.placement; default: as in\n"            \
      "    python-memcached.\n",                                                                   \
      .read = read_placement, .value = value_of_placement, .is_about_placement = true)             \
    X(ON_DEAD, "on_dead", "None",                                                                  \
      "on_dead: what becomes of a key whose server is dead: 'walk' (python-memcached's probes),\n" \
      "    'miss', 'next' (the placement's next server); default: 'walk', with another "           \
      "placement\n"                                                                                \
      "    'miss'.\n",                                                                             \
      .read = read_on_dead, .value = value_of_on_dead, .is_about_placement = true)                 \
    X(TLS_CONTEXT, "tls_context", "None",                                                          \
      "tls_context: an ssl.SSLContext: connections over TCP are encrypted, and servers "           \
      "verified,\n"                                                                                \
      "    as it says.\n",                                                                         \
      .read = read_tls_context, .handed_to = OWN_HOSTS)                                            \
    X(TLS_SERVER_HOSTNAME, "tls_server_hostname", "None",                                          \
      "tls_server_hostname: the name that the servers' certificates must have; default: each\n"    \
      "    server's host as it is given.\n",                                                       \
      .read = read_tls_server_hostname, .handed_to = OWN_HOSTS)                                    \
    X(USERNAME, "username", "None",                                                                \
      "username, password: said to each server on each new connection (memcached -Y), str or\n"    \
      "    bytes; password may be a function, which is asked at each connect.\n",                  \
      .read = read_username, .handed_to = OWN_HOSTS)                                               \
    X(PASSWORD, "password", "None", "", .read = read_password, .handed_to = OWN_HOSTS)

/* Attributes that are no arguments. */
#define MCX_OTHER_OPTIONS(X)                                                                       \
    X(PICKLER_IS_KEYWORD, "picklerIsKeyword", "True", "", .read = read_truth,                      \
      .field = FIELD(pickler_is_keyword), .value = value_of_truth)

#define MCX_OPTIONS(X) MCX_POSITIONAL_OPTIONS(X) MCX_KEYWORD_OPTIONS(X) MCX_OTHER_OPTIONS(X)

enum {
#define X(constant, ...) MCX_OPT_##constant,
    MCX_OPTIONS(X)
#undef X
    MCX_OPTION_COUNT
};

/* The constructor's arguments: servers, and behind it one for each option that is an argument. */
enum {
#define X(constant, ...) MCX_ARG_##constant,
    MCX_ARG_SERVERS,
    MCX_POSITIONAL_OPTIONS(X) MCX_POSITIONAL_COUNT,
    MCX_LAST_POSITIONAL = MCX_POSITIONAL_COUNT - 1,
    MCX_KEYWORD_OPTIONS(X) MCX_ARGUMENT_COUNT
#undef X
};

/* "Client(...)\n--\n\n", the same of __init__, and the class's docstring. */
extern const char mcx_client_signature[], mcx_init_doc[], mcx_client_doc[];

/* Binds a constructor's call to values[MCX_ARGUMENT_COUNT]: see mcx_bind. */
int mcx_options_bind(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **values);

/* Sets options of a snapshot in the making: all of them, from what mcx_options_bind gave, or one,
 * which goes to the hosts, too. 0, or -1 with an exception that names what is wrong. */
int mcx_options_set(mcx_module *module, mcx_snapshot *snapshot, const void *values);
int mcx_option_set(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value);

/* The two options of placement, of a Cache's snapshot in the making. As above. */
int mcx_options_place(mcx_module *module, mcx_snapshot *snapshot, PyObject *placement,
                      PyObject *on_dead);

const char *mcx_option_attribute(int option);

/* The value that is in force, as users see it: a new reference. */
PyObject *mcx_option_value(mcx_module *module, mcx_snapshot *snapshot, int option);

/* Hosts carry some of the options themselves: those that stay get them as new ones would. */
int mcx_options_hand_down(mcx_module *module, mcx_shared *shared);

/* What a new host is given: (a dict of arguments, a dict of attributes to be assigned). */
PyObject *mcx_options_for_hosts(mcx_shared *shared, PyObject *client);

#endif
