/* cache_servers: a Cache's methods that speak to servers rather than about a key: one at a time,
 * for mcext.cache, which asks each of them. */
#include "core/flow/leg.h"
#include "core/wire/command.h"
#include "core/wire/key.h"
#include "core/wire/reply.h"

#include "arguments.h"
#include "ask.h"
#include "cache.h"
#include "cache_call.h"
#include "call.h"
#include "compat.h"
#include "drive.h"
#include "faults.h"
#include "listing.h"
#include "server.h"
#include "state.h"
#include "target.h"

static int read_server(PyObject *self, PyObject *args, const char *format, PyObject **server,
                       PyObject **text)
{
    return PyArg_ParseTuple(args, format, ((mcx_cache *)self)->module->server_type, server, text)
               ? 0
               : -1;
}

/* _stats(server, argument): {name: value}. */
static PyObject *cache_stats(PyObject *self, PyObject *args)
{
    PyObject *server, *text, *result = NULL;
    mcx_call call;
    mcx_target target;
    mc_slice argument;

    if (read_server(self, args, "O!O:_stats", &server, &text) < 0 ||
        mcx_stats_argument(text, "argument", &argument) < 0 ||
        mcx_cache_begin(&call, self, MC_STATS) < 0) {
        return NULL;
    }
    call.raises = true;
    if (mcx_connect_host(&call, (mcx_server *)server, &target) > 0) {
        result = mcx_list_host(&call, &target, argument, MCX_SHAPE_STATS);
        if (call.faults != NULL) {
            Py_CLEAR(result);
        }
    }
    return mcx_cache_end(&call, result, NULL);
}

/* Words that a server answered: a str. */
static PyObject *ask_line(mcx_call *call, mcx_target *target, const mcx_request *request)
{
    mc_leg leg;
    mc_leg_step step;
    PyObject *result = NULL;

    mc_leg_init(&leg, request->command, NULL, 1);
    leg.probe = target->probe;
    mc_leg_begin(&leg, target->connection, &call->clock);
    while ((step = mcx_drive(call, target, &leg)) != MC_LEG_OVER) {
        const mc_reply *said = &leg.exchange.reply;
        int failed = 0;

        if (step == MC_LEG_PRODUCE) {
            if (!mc_leg_line(&leg, request->key, request->argument) || !mc_leg_ready(&leg)) {
                mc_leg_fail(&leg, MC_NO_MEMORY);
            }
        }
        else if (step == MC_LEG_REPLY && mc_reply_is_error(said->type)) {
            failed = mcx_fault_line(call, target->host, said);
        }
        else if (step == MC_LEG_REPLY) {
            mc_slice text = said->type == MC_REPLY_VERSION ? said->text : said->line;

            result = PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, "replace");
            failed = result == NULL ? -1 : 0;
        }
        if (failed < 0) {
            mc_leg_fail(&leg, MC_RAISED);
        }
    }
    if (mcx_conclude(call, target, &leg, false) <= 0 || call->faults != NULL) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *ask_server(PyObject *self, PyObject *server, const mcx_request *request)
{
    PyObject *result = NULL;
    mcx_call call;
    mcx_target target;

    if (mcx_cache_begin(&call, self, request->command) < 0) {
        return NULL;
    }
    call.raises = true;
    if (mcx_connect_host(&call, (mcx_server *)server, &target) > 0) {
        result = ask_line(&call, &target, request);
    }
    return mcx_cache_end(&call, result, NULL);
}

/* _version(server): a str. */
static PyObject *cache_version(PyObject *self, PyObject *server)
{
    mcx_request request = {.command = MC_VERSION};

    if (!mcx_is_server(((mcx_cache *)self)->module, server)) {
        PyErr_SetString(PyExc_TypeError, "a _Server is needed");
        return NULL;
    }
    return ask_server(self, server, &request);
}

/* _flush_all(server, delay): 'OK'. delay: seconds in decimal, or ''. */
static PyObject *cache_flush_all(PyObject *self, PyObject *args)
{
    PyObject *server, *delay;
    mcx_request request = {.command = MC_FLUSH_ALL};
    Py_ssize_t length;

    if (read_server(self, args, "O!U:_flush_all", &server, &delay) < 0) {
        return NULL;
    }
    request.argument.bytes = PyUnicode_AsUTF8AndSize(delay, &length);
    if (request.argument.bytes == NULL) {
        return NULL;
    }
    request.argument.length = (size_t)length;
    return ask_server(self, server, &request);
}

PyMethodDef mcx_cache_server_methods[] = {
    {"_stats", cache_stats, METH_VARARGS, NULL},
    {"_version", cache_version, METH_O, NULL},
    {"_flush_all", cache_flush_all, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
