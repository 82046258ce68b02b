#include "cache_remove.h"

#include "core/wire/command.h"

#include "ask.h"
#include "call.h"
#include "compat.h"
#include "target.h"

COLD int mcx_cache_remove(mcx_call *call, const mcx_key *key)
{
    mcx_request request = {.command = MC_DELETE, .key = key->text};
    mcx_target target;
    mcx_answer answer = {.line = NULL};
    PyObject *noted = call->faults;
    int there;

    call->faults = NULL;
    there = mcx_select(call, key, &target);
    if (there > 0) {
        there = mcx_ask(call, &target, &request, &answer);
    }
    Py_XDECREF(answer.line);
    Py_XSETREF(call->faults, noted);
    return there < 0 ? -1 : 0;
}
