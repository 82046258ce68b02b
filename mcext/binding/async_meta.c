/* async_meta: meta commands of an AsyncCache, each for itself: mcext.async_cache puts them
 * together, and asks before whether the server has them. Where it turns out that it has not, the
 * result is NotImplemented. */
#include <string.h>

#include "core/fleet/server.h"
#include "core/wire/command.h"
#include "core/wire/meta.h"
#include "core/wire/number.h"

#include "arguments.h"
#include "async_call.h"
#include "async_errand.h"
#include "async_stream.h"
#include "async_verbs.h"
#include "cache_call.h"
#include "cache_item.h"
#include "cache_lease.h"
#include "compat.h"
#include "state.h"
#include "values.h"

/* ---- what a server has ---------------------------------------------------------------------- */

/* _meta_level(key): (what is known of key's server, the server), or None: there is none. */
static PyObject *async_meta_level(PyObject *object, PyObject *given)
{
    mcx_async *self = (mcx_async *)object;
    PyObject *owner, *result = NULL;
    mcx_call call;
    mcx_key key = {.hash = NULL};
    mcx_lane *lane = NULL;
    bool is_probe = false;
    int64_t now;

    if (mcx_async_enter(self) < 0 || mcx_cache_begin(&call, (PyObject *)self->cache, MC_MG) < 0) {
        return NULL;
    }
    if (mcx_async_key(&call, given, &key.text, &owner) == 0) {
        int there = mcx_wall_clock(call.module, &now) < 0
                        ? -1
                        : mcx_lane_choose(self, &call, &key, NULL, &lane, &is_probe);

        if (there > 0) {
            if (is_probe) { /* the call behind this decides */
                mc_server_give_up_probe(&lane->host->server);
            }
            result = Py_BuildValue("(iO)", (int)mc_server_meta(&lane->host->server, now),
                                   (PyObject *)lane->host);
        }
        else if (there == 0) {
            Py_CLEAR(call.faults); /* which the call behind this finds, too */
            result = Py_NewRef(Py_None);
        }
        Py_DECREF(owner);
    }
    return mcx_cache_end(&call, result, NULL);
}

/* _set_meta(server, level) */
static PyObject *async_set_meta(PyObject *object, PyObject *args)
{
    mcx_module *module = ((mcx_async *)object)->module;
    PyObject *server;
    int64_t now;
    int level;

    if (!PyArg_ParseTuple(args, "O!i", module->server_type, &server, &level) ||
        mcx_wall_clock(module, &now) < 0) {
        return NULL;
    }
    mc_server_set_meta(&((mcx_server *)server)->server, (mc_meta_level)level, now);
    Py_RETURN_NONE;
}

/* arguments: the server, None, and whether it is md that is to be asked behind it, not mg: of that
 * command is told what fails. */
static int start_probe(mcx_acall *self, mcx_call *call)
{
    call->command = self->arguments[2] == Py_True ? MC_MD : MC_MG;
    if (mcx_is_server(call->module, self->arguments[0])) {
        /* One that has ended while it was idle is no server that closes at the probe. */
        mcx_lane_look(((mcx_server *)self->arguments[0])->lane);
    }
    return mcx_async_start_server(self, call);
}

/* The level that a probe's answers say. */
static PyObject *finish_probe(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return PyLong_FromLong((long)mc_meta_judge(self->types[0], self->types[1]));
}

/* ---- one key -------------------------------------------------------------------------------- */

/* arguments: the key, and the flags as bytes. */
static int start_meta(mcx_acall *self, mcx_call *call)
{
    return mcx_async_line(self, call, self->verb->command, mcx_bytes_of(self->arguments[1]));
}

/* arguments: the key, the token of the lease, and whether there is an old value. */
static int start_release(mcx_acall *self, mcx_call *call)
{
    char text[MCX_RELEASE_FLAGS];
    unsigned long long token = PyLong_AsUnsignedLongLong(self->arguments[1]);
    int has_value = PyObject_IsTrue(self->arguments[2]);

    if (has_value < 0 || PyErr_Occurred()) {
        return -1;
    }
    return mcx_async_line(self, call, MC_MD, mcx_release_flags(text, has_value, token));
}

/* arguments: the key, the lease and what is refreshed, in seconds. */
static int start_look(mcx_acall *self, mcx_call *call)
{
    char text[MCX_LOOK_FLAGS];
    unsigned long lease = PyLong_AsUnsignedLong(self->arguments[1]);
    unsigned long refresh = PyLong_AsUnsignedLong(self->arguments[2]);

    return PyErr_Occurred()
               ? -1
               : mcx_async_line(self, call, MC_MG, mcx_look_flags(text, lease, refresh));
}

static int start_item(mcx_acall *self, mcx_call *call)
{
    return mcx_async_line(self, call, MC_MG, MCX_ITEM_FLAGS);
}

/* arguments: the key, the ttl. */
static int start_touched(mcx_acall *self, mcx_call *call)
{
    char text[32] = "v k f c T";
    mcx_decimal exptime;

    if (mcx_cache_ttl(call->module, self->arguments[1], &exptime) < 0) {
        return -1;
    }
    memcpy(text + 9, exptime.text.bytes, exptime.text.length);
    return mcx_async_line(self, call, MC_MG, (mc_slice){text, 9 + exptime.text.length});
}

static PyObject *finish_look(mcx_acall *self, mcx_call *call)
{
    if (self->is_refused) {
        return Py_NewRef(Py_NotImplemented);
    }
    return mcx_look_tuple(call, mcx_judge_look(&self->reply, &self->got), &self->got);
}

static bool is_value(const mcx_acall *self)
{
    return self->got.found && !mcx_is_stub(self->got.flags, (size_t)self->reply.length);
}

/* Whether the lease on a stale item was given to this call, which goes back. */
static PyObject *won(const mcx_acall *self)
{
    return self->got.found && mc_meta_has(&self->reply, 'W') ? Py_True : Py_False;
}

/* (Item or None, whether the lease was won, token). */
static PyObject *finish_item(mcx_acall *self, mcx_call *call)
{
    PyObject *item;

    if (self->is_refused) {
        return Py_NewRef(Py_NotImplemented);
    }
    item = is_value(self) ? mcx_item_new(call->module, &self->reply, self->got.flags, self->got.cas,
                                         mcx_retrieved_value(call, &self->got))
                          : Py_NewRef(Py_None);
    return item ? Py_BuildValue("(NOK)", item, won(self), (unsigned long long)self->got.cas) : NULL;
}

/* An Item of what gets says, or None. */
static PyObject *finish_plain_item(mcx_acall *self, mcx_call *call)
{
    mc_reply nothing = {.letters = 0};

    return is_value(self) ? mcx_item_new(call->module, &nothing, self->got.flags, self->got.cas,
                                         mcx_retrieved_value(call, &self->got))
                          : Py_NewRef(Py_None);
}

/* (whether there is one, value, whether the lease was won, token). */
static PyObject *finish_touched(mcx_acall *self, mcx_call *call)
{
    PyObject *value;
    bool found = is_value(self);

    if (self->is_refused) {
        return Py_NewRef(Py_NotImplemented);
    }
    value = found ? mcx_retrieved_value(call, &self->got) : Py_NewRef(Py_None);
    return value ? Py_BuildValue("(ONOK)", found ? Py_True : Py_False, value, won(self),
                                 (unsigned long long)self->got.cas)
                 : NULL;
}

static PyObject *finish_md(mcx_acall *self, mcx_call *call)
{
    (void)call;
    return self->is_refused ? Py_NewRef(Py_NotImplemented)
                            : PyBool_FromLong(self->types[0] == MC_REPLY_HD);
}

static const mcx_verb probe_verb = {.name = "_probe",
                                    .command = MC_META_PROBE,
                                    .start = start_probe,
                                    .finish = finish_probe,
                                    .raises = true,
                                    .once = true,
                                    .is_ahead = true},
                      look_verb = {.name = "_look",
                                   .command = MC_MG,
                                   .start = start_look,
                                   .finish = finish_look,
                                   .raises = true,
                                   .once = true,
                                   .gives_back = true},
                      item_verb = {.name = "_item",
                                   .command = MC_MG,
                                   .start = start_item,
                                   .finish = finish_item,
                                   .missed = mcx_missed_none,
                                   .gives_back = true},
                      gets_item_verb = {.name = "_gets_item",
                                        .command = MC_GETS,
                                        .start = mcx_async_start_get,
                                        .finish = finish_plain_item,
                                        .missed = mcx_missed_none},
                      touched_verb = {.name = "_touched",
                                      .command = MC_MG,
                                      .start = start_touched,
                                      .finish = finish_touched,
                                      .missed = mcx_missed_none,
                                      .once = true,
                                      .gives_back = true},
                      md_verb = {.name = "_md",
                                 .command = MC_MD,
                                 .start = start_meta,
                                 .finish = finish_md,
                                 .missed = mcx_missed_false,
                                 .once = true},
                      release_verb = {.name = "_release",
                                      .command = MC_MD,
                                      .start = start_release,
                                      .finish = finish_md,
                                      .missed = mcx_missed_false,
                                      .ends_lease = true,
                                      .once = true};

static PyObject *async_probe(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &probe_verb, "OOO", args);
}

static PyObject *async_look(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &look_verb, "OOO", args);
}

static PyObject *async_item(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &item_verb, "O", args);
}

static PyObject *async_gets_item(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &gets_item_verb, "O", args);
}

static PyObject *async_touched(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &touched_verb, "OO", args);
}

static PyObject *async_md(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &md_verb, "OS", args);
}

static PyObject *async_release(PyObject *self, PyObject *args)
{
    return mcx_acall_parse(self, &release_verb, "OOO", args);
}

PyMethodDef mcx_async_meta_methods[] = {
    {"_meta_level", async_meta_level, METH_O, NULL},
    {"_set_meta", async_set_meta, METH_VARARGS, NULL},
    {"_probe", async_probe, METH_VARARGS, NULL},
    {"_look", async_look, METH_VARARGS, NULL},
    {"_item", async_item, METH_VARARGS, NULL},
    {"_gets_item", async_gets_item, METH_VARARGS, NULL},
    {"_touched", async_touched, METH_VARARGS, NULL},
    {"_md", async_md, METH_VARARGS, NULL},
    {"_release", async_release, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
