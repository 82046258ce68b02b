/* options: how each option of a client is read and checked, and what comes from the table of them.
 *
 * A reader is called with the value when an option is set. It checks it and fills the field of the
 * snapshot that calls look at, where there is one. */
#include "options.h"
#include "core/flow/leg.h"

#include <stddef.h>
#include <string.h>

#include "arguments.h"
#include "place.h"
#include "secret.h"
#include "server.h"
#include "shared.h"
#include "state.h"
#include "tls_options.h"

/* ---- a row ---------------------------------------------------------------------------------- */

typedef struct row row;

/* An option that is set, or, with value NULL, left to its default. */
typedef struct {
    mcx_module *module;
    mcx_snapshot *snapshot;
    const row *row;
    PyObject *value;
} setting;

struct row {
    const char *name;
    const char *shown;       /* the default in the signature; in force is it, or, where not NULL: */
    const char *original[2]; /* of this module this attribute */
    PyObject *(*value)(setting *); /* what this makes */
    const char *attribute;         /* NULL: as the name */
    int (*read)(setting *);        /* NULL: any value will do */
    size_t field;                  /* of the snapshot, for the reader */
    enum {
        NOBODY,
        HOSTS,
        OWN_HOSTS /* of python-memcached's hosts nobody expects it */
    } handed_to;
    bool original_is_default; /* assigned, it is the same as None */
    bool is_about_pickler;    /* how the pickler takes the protocol is to be looked at again */
    bool is_about_placement;  /* the table of servers is to be made again */
};

static const row rows[MCX_OPTION_COUNT];

static void *field_of(setting *set)
{
    return (char *)set->snapshot + set->row->field;
}

/* True where value is what the original is, without importing it. */
static bool is_original(PyObject *value, const row *row)
{
    PyObject *original = mcx_imported(row->original[0], row->original[1]);

    Py_XDECREF(original);
    return original == value;
}

static PyObject *default_of(const row *row)
{
    if (strcmp(row->shown, "None") == 0) {
        Py_RETURN_NONE;
    }
    bool is_true = strcmp(row->shown, "True") == 0;

    return is_true || strcmp(row->shown, "False") == 0 ? PyBool_FromLong(is_true)
                                                       : PyLong_FromString(row->shown, NULL, 10);
}

/* ---- readers -------------------------------------------------------------------------------- */

static int read_truth(setting *set)
{
    int is_true =
        set->value == NULL ? strcmp(set->row->shown, "True") == 0 : PyObject_IsTrue(set->value);

    *(bool *)field_of(set) = is_true > 0;
    return is_true < 0 ? -1 : 0;
}

static int read_callable(setting *set)
{
    const row *row = set->row;

    if (set->value == NULL || PyCallable_Check(set->value)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 row->attribute ? "%s (%s) must be callable, not %.100s"
                                : "%s%s must be callable, not %.100s",
                 row->name, row->attribute ? row->attribute : "", Py_TYPE(set->value)->tp_name);
    return -1;
}

/* The field: whether it is the original, which calls do without Python. */
static int read_replaced(setting *set)
{
    *(bool *)field_of(set) = set->value == NULL || is_original(set->value, set->row);
    return read_callable(set);
}

static int read_size(PyObject *value, const char *name, Py_ssize_t unset, Py_ssize_t *size)
{
    *size = unset;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of bytes, not %.100s", name,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    *size = PyNumber_AsSsize_t(value, NULL);
    if (*size == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*size < 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative", name);
        return -1;
    }
    return 0;
}

/* Unset it is what an application assigned to the name of the module. */
static int read_limit(setting *set, PyObject **assigned, const char *name, Py_ssize_t fallback)
{
    PyObject *value = set->value ? Py_NewRef(set->value) : mcx_assigned(set->module, assigned);
    int result = read_size(value, set->value ? set->row->name : name, fallback, field_of(set));

    Py_XDECREF(value);
    return result;
}

static int read_max_key_length(setting *set)
{
    return read_limit(set, &set->module->defaults[0], "SERVER_MAX_KEY_LENGTH",
                      MC_PROTOCOL_KEY_LENGTH);
}

static int read_max_value_length(setting *set)
{
    return read_limit(set, &set->module->defaults[1], "SERVER_MAX_VALUE_LENGTH", 1 << 20);
}

static int read_max_length(setting *set)
{
    Py_ssize_t *length = field_of(set);

    if (read_size(set->value, set->row->name, (Py_ssize_t)128 << 20, length) < 0) {
        return -1;
    }
    if (*length == 0) {
        PyErr_Format(PyExc_ValueError, "%s must be at least 1", set->row->name);
        return -1;
    }
    return 0;
}

/* The hosts have it ready (server_type.c). */
static int read_seconds(setting *set)
{
    return set->value ? mcx_seconds(set->value, set->row->name, &(int64_t){0}) : 0;
}

static int read_number(setting *set)
{
    if (set->value != NULL && !PyNumber_Check(set->value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of seconds, not %.100s", set->row->name,
                     Py_TYPE(set->value)->tp_name);
        return -1;
    }
    return 0;
}

/* python-memcached's is the default, and stands as such. */
static int read_placement(setting *set)
{
    PyObject *class = set->value ? mcx_import("mcext.placement", "Placement") : NULL;
    int is_one = class ? PyObject_IsInstance(set->value, class) : 0;
    PyObject *scheme = NULL;

    Py_XDECREF(class);
    if (set->value == NULL) {
        return 0;
    }
    if (is_one > 0) {
        scheme = PyObject_GetAttrString(set->value, "_scheme");
    }
    else if (is_one == 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "placement must be one of mcext.placement, not %.100s",
                     Py_TYPE(set->value)->tp_name);
    }
    if (scheme == Py_None) {
        Py_CLEAR(set->snapshot->options[MCX_OPT_PLACEMENT]);
    }
    Py_XDECREF(scheme);
    return scheme == NULL ? -1 : 0;
}

static const char *const on_dead_words[] = {
    [MCX_ON_DEAD_WALK] = "walk",
    [MCX_ON_DEAD_MISS] = "miss",
    [MCX_ON_DEAD_NEXT] = "next",
};

static int read_on_dead(setting *set)
{
    PyObject *word = set->value;

    for (int i = 0; word != NULL && PyUnicode_Check(word) && i <= MCX_ON_DEAD_NEXT; i++) {
        if (PyUnicode_CompareWithASCIIString(word, on_dead_words[i]) == 0) {
            set->snapshot->on_dead = (mcx_on_dead_way)i;
            return 0;
        }
    }
    if (word != NULL) {
        PyErr_Format(PyExc_ValueError, "on_dead must be 'walk', 'miss' or 'next', not %R", word);
        return -1;
    }
    return 0;
}

/* What was assigned is kept as a secret in its place. */
static int keep_secret(setting *set, PyObject *secret)
{
    if (secret == NULL) {
        return -1;
    }
    Py_SETREF(set->snapshot->options[set->row - rows], secret);
    return 0;
}

static int read_username(setting *set)
{
    return set->value == NULL ? 0 : keep_secret(set, mcx_secret_name(set->module, set->value));
}

/* Read behind the username. */
static int read_password(setting *set)
{
    PyObject *name = set->snapshot->options[MCX_OPT_USERNAME];

    if (set->value == NULL && name != NULL) {
        PyErr_SetString(PyExc_ValueError, "username needs a password");
        return -1;
    }
    return set->value == NULL
               ? 0
               : keep_secret(set, mcx_secret_password(set->module, set->value, name));
}

static int read_tls_context(setting *set)
{
    return set->value == NULL                      ? 0
           : mcx_tls_check_context(set->value) < 0 ? -1
                                                   : mcx_tls_warn(set->value);
}

static int read_tls_server_hostname(setting *set)
{
    return set->value == NULL ? 0 : mcx_tls_check_name(set->value);
}

/* ---- what is in force where nothing was assigned -------------------------------------------- */

static PyObject *value_of_size(setting *set)
{
    return PyLong_FromSsize_t(*(Py_ssize_t *)field_of(set));
}

static PyObject *value_of_truth(setting *set)
{
    return PyBool_FromLong(*(bool *)field_of(set));
}

static PyObject *value_of_key_encoder(setting *set)
{
    return Py_NewRef(set->module->same_key);
}

static PyObject *value_of_placement(setting *set)
{
    PyObject *function = mcx_import("mcext.placement", "python_memcached");
    PyObject *value = function ? PyObject_CallNoArgs(function) : NULL;

    (void)set;
    Py_XDECREF(function);
    return value;
}

static PyObject *value_of_on_dead(setting *set)
{
    return PyUnicode_FromString(on_dead_words[set->snapshot->on_dead]);
}

static PyObject *value_of_connect_timeout(setting *set)
{
    return mcx_option_value(set->module, set->snapshot, MCX_OPT_SOCKET_TIMEOUT);
}

/* ---- the table ------------------------------------------------------------------------------ */

#define FIELD(name) offsetof(mcx_snapshot, name)
#define ROW(constant, name_, shown_, doc, ...)                                                     \
    [MCX_OPT_##constant] = {.name = (name_), .shown = (shown_), __VA_ARGS__},
#define NAME(constant, name, ...) name,
#define PARAMETER(constant, name, shown, ...) ", " name "=" shown
#define DOC(constant, name, shown, doc, ...) doc
#define PARAMETERS                                                                                 \
    "servers" MCX_POSITIONAL_OPTIONS(PARAMETER) ", *" MCX_KEYWORD_OPTIONS(PARAMETER) ")\n--\n\n"

static const row rows[MCX_OPTION_COUNT] = {MCX_OPTIONS(ROW)};

static const mcx_signature signature = {
    .method = "Client",
    .count = MCX_ARGUMENT_COUNT,
    .required = 1,
    .names = {"servers", MCX_POSITIONAL_OPTIONS(NAME) MCX_KEYWORD_OPTIONS(NAME)}};

const char mcx_client_signature[] = "Client(" PARAMETERS;
const char mcx_init_doc[] = "__init__($self, " PARAMETERS "Open the client; see the class.";
const char mcx_client_doc[] =
    "A client of one or more memcached servers, python-memcached's Client.\n\n"
    "servers: a list of \"host:port\", \"[ipv6]:port\", \"unix:/path\", (server, weight) or\n"
    "    mcext.Server; a str is one server.\n" MCX_OPTIONS(
        DOC) "\nA client may be shared by threads; each call works "
             "on a connection of its own.";

int mcx_options_bind(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **values)
{
    if (nargs > MCX_POSITIONAL_COUNT) {
        PyErr_Format(PyExc_TypeError, "Client() takes at most %d positional arguments (%zd given)",
                     MCX_POSITIONAL_COUNT, nargs);
        return -1;
    }
    return mcx_bind(&signature, args, nargs, kwnames, values);
}

const char *mcx_option_attribute(int option)
{
    return rows[option].attribute ? rows[option].attribute : rows[option].name;
}

/* ---- setting -------------------------------------------------------------------------------- */

/* An int that every pickle knows. */
static bool is_usual_protocol(PyObject *protocol)
{
    int overflow;
    long number = PyLong_CheckExact(protocol) ? PyLong_AsLongAndOverflow(protocol, &overflow) : -1;

    return number >= 0 && number <= 4;
}

/* Finds how the snapshot's pickler takes the protocol, as python-memcached does: a caller's own is
 * called once. */
static int probe_pickler(mcx_snapshot *snapshot)
{
    PyObject *protocol = snapshot->options[MCX_OPT_PICKLE_PROTOCOL];
    bool own = snapshot->options[MCX_OPT_PICKLER] == NULL; /* pickle's */

    if (snapshot->options[MCX_OPT_PICKLER_IS_KEYWORD] != NULL) {
        return 0; /* as it was assigned */
    }
    if (own && protocol != NULL && protocol != Py_None && !PyIndex_Check(protocol)) {
        PyErr_Format(PyExc_TypeError, "pickleProtocol must be an int, not %.200s",
                     Py_TYPE(protocol)->tp_name);
        return -1;
    }
    if (own && (protocol == NULL || is_usual_protocol(protocol))) {
        snapshot->pickler_is_keyword = true;
        return 0;
    }
    PyObject *pickler =
        own ? mcx_import("pickle", "Pickler") : Py_NewRef(snapshot->options[MCX_OPT_PICKLER]);
    PyObject *bytes_io = pickler ? mcx_import("io", "BytesIO") : NULL;
    PyObject *args = bytes_io ? Py_BuildValue("(N)", PyObject_CallNoArgs(bytes_io)) : NULL;
    PyObject *keywords = args == NULL       ? NULL
                         : protocol != NULL ? Py_BuildValue("{sO}", "protocol", protocol)
                                            : Py_BuildValue("{si}", "protocol", 0);
    PyObject *probe = keywords ? PyObject_Call(pickler, args, keywords) : NULL;

    snapshot->pickler_is_keyword = probe != NULL;
    if (probe == NULL && keywords != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
    }
    else if (probe == NULL && keywords != NULL && own &&
             (PyErr_ExceptionMatches(PyExc_ValueError) ||
              PyErr_ExceptionMatches(PyExc_OverflowError))) {
        PyErr_Format(PyExc_ValueError, "pickleProtocol must be one that pickle knows, not %R",
                     protocol);
    }
    Py_XDECREF(pickler);
    Py_XDECREF(bytes_io);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_XDECREF(probe);
    return PyErr_Occurred() ? -1 : 0;
}

static int set_one(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value)
{
    setting set = {module, snapshot, &rows[option], value};
    PyObject *old = snapshot->options[option];

    if ((value == Py_None && strcmp(set.row->shown, "None") == 0) ||
        (set.row->original_is_default && value != NULL && is_original(value, set.row))) {
        set.value = NULL;
    }
    snapshot->options[option] = Py_XNewRef(set.value);
    snapshot->deleted &= ~(UINT32_C(1) << option);
    Py_XDECREF(old);
    return set.row->read ? set.row->read(&set) : 0;
}

int mcx_options_set(mcx_module *module, mcx_snapshot *snapshot, const void *context)
{
    PyObject *const *values = context;

    Py_CLEAR(snapshot->options[MCX_OPT_PICKLER_IS_KEYWORD]);
    snapshot->deleted = 0;
    for (int i = 1; i < MCX_ARGUMENT_COUNT; i++) {
        if (set_one(module, snapshot, i - 1, values[i]) < 0) {
            return -1;
        }
    }
    if (snapshot->options[MCX_OPT_TLS_SERVER_HOSTNAME] != NULL &&
        snapshot->options[MCX_OPT_TLS_CONTEXT] == NULL) {
        PyErr_SetString(PyExc_ValueError, "tls_server_hostname is given without a tls_context");
        return -1;
    }
    return probe_pickler(snapshot) < 0 ? -1 : mcx_place(module, snapshot);
}

int mcx_options_place(mcx_module *module, mcx_snapshot *snapshot, PyObject *placement,
                      PyObject *on_dead)
{
    return set_one(module, snapshot, MCX_OPT_PLACEMENT, placement) < 0 ||
                   set_one(module, snapshot, MCX_OPT_ON_DEAD, on_dead) < 0
               ? -1
               : mcx_place(module, snapshot);
}

PyObject *mcx_option_value(mcx_module *module, mcx_snapshot *snapshot, int option)
{
    setting set = {module, snapshot, &rows[option], snapshot->options[option]};

    if (set.value != NULL) {
        return Py_NewRef(set.value);
    }
    if (set.row->original[0] != NULL) {
        return mcx_import(set.row->original[0], set.row->original[1]);
    }
    return set.row->value ? set.row->value(&set) : default_of(set.row);
}

/* ---- handing down --------------------------------------------------------------------------- */

static int hand_down(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value)
{
    const row *row = &rows[option];

    for (size_t i = 0; row->handed_to != NOBODY && i < snapshot->server_count; i++) {
        if (row->handed_to == OWN_HOSTS && !mcx_is_server(module, snapshot->server[i])) {
            continue;
        }
        if (PyObject_SetAttrString(snapshot->server[i], row->name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

int mcx_option_set(mcx_module *module, mcx_snapshot *snapshot, int option, PyObject *value)
{
    PyObject *kept;

    if (set_one(module, snapshot, option, value) < 0 ||
        (rows[option].is_about_pickler && probe_pickler(snapshot) < 0) ||
        (rows[option].is_about_placement && mcx_place(module, snapshot) < 0)) {
        return -1;
    }
    kept = snapshot->options[option];
    return hand_down(module, snapshot, option, kept != NULL ? kept : value);
}

int mcx_options_hand_down(mcx_module *module, mcx_shared *shared)
{
    mcx_snapshot *snapshot = mcx_shared_enter(shared);
    int result = 0;

    for (int option = 0; result == 0 && option < MCX_OPTION_COUNT; option++) {
        PyObject *value = snapshot->options[option];

        value = value ? Py_NewRef(value) : default_of(&rows[option]);
        result = value ? hand_down(module, snapshot, option, value) : -1;
        Py_XDECREF(value);
    }
    mcx_shared_leave(snapshot);
    return result;
}

PyObject *mcx_options_for_hosts(mcx_shared *shared, PyObject *client)
{
    PyObject *given[] = {[HOSTS] = PyDict_New(), [OWN_HOSTS] = PyDict_New()};
    mcx_snapshot *snapshot = mcx_shared_enter(shared);
    bool failed = given[HOSTS] == NULL || given[OWN_HOSTS] == NULL;

    for (const row *row = rows; !failed && row < rows + MCX_OPTION_COUNT; row++) {
        PyObject *value = row->handed_to == HOSTS       ? PyObject_GetAttrString(client, row->name)
                          : row->handed_to == OWN_HOSTS ? Py_XNewRef(snapshot->options[row - rows])
                                                        : NULL;

        failed = value ? PyDict_SetItemString(given[row->handed_to], row->name, value) < 0
                       : row->handed_to == HOSTS;
        Py_XDECREF(value);
    }
    mcx_shared_leave(snapshot);
    PyObject *both = failed ? NULL : PyTuple_Pack(2, given[HOSTS], given[OWN_HOSTS]);

    Py_XDECREF(given[HOSTS]);
    Py_XDECREF(given[OWN_HOSTS]);
    return both;
}
