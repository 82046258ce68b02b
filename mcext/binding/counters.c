#include "counters.h"

#include "core/flow/leg.h"
#include "core/net/clock.h"
#include "core/wire/command.h"

#include "call.h"
#include "compat.h"
#include "server.h"

/* The number of the smallest power of two microseconds that is more than the time. */
static size_t duration_of(int64_t nanoseconds)
{
    uint64_t microseconds = nanoseconds > 0 ? (uint64_t)nanoseconds / 1000 : 0;
    size_t bucket = microseconds == 0 ? 0 : 64 - (size_t)__builtin_clzll(microseconds);

    return bucket < MCX_DURATIONS ? bucket : MCX_DURATIONS - 1;
}

static COLD void note_failure(mcx_counters *counters, mc_status status)
{
    switch (status) {
    case MC_TIMEOUT:
        mcx_count_up(&counters->timeouts, 1);
        break;
    case MC_RAISED:
    case MC_NO_MEMORY:
        break;
    default:
        mcx_count_up(&counters->lost, 1);
    }
}

static inline void add(mcx_counters *counters, const mcx_tally *tally)
{
    bool reads = tally->family == MC_FAMILY_RETRIEVAL || tally->command == MC_MG;

    mcx_count_up(&counters->calls[tally->command], tally->calls);
    mcx_count_up(&counters->keys, tally->keys);
    if (reads) {
        mcx_count_up(&counters->hits, tally->good);
    }
    else if (tally->family == MC_FAMILY_STORAGE) {
        mcx_count_up(&counters->stored, tally->good);
    }
    if (UNLIKELY(tally->retried)) {
        mcx_count_up(&counters->retries, 1);
    }
    if (UNLIKELY(tally->status != MC_OK)) {
        note_failure(counters, tally->status);
    }
    else if (reads) {
        mcx_count_up(&counters->misses, tally->keys - tally->good);
    }
}

void mcx_counters_add(mcx_counters *counters, const mcx_tally *tally)
{
    add(counters, tally);
}

void mcx_count_duration(mcx_counters *counters, int64_t took)
{
    mcx_count_up(&counters->durations[duration_of(took)], 1);
}

int64_t mcx_counters_note(mcx_call *call, mcx_server *host, const mc_leg *leg)
{
    mcx_counters *counters = host->counters;
    int64_t took = mc_clock_now() - call->clock.start;
    mcx_tally tally = {.command = leg->command,
                       .family = leg->family,
                       .calls = 1,
                       .keys = leg->count,
                       .good = leg->good,
                       .retried = leg->retried,
                       .status = leg->verdict.status};

    if (UNLIKELY(counters == NULL)) {
        return took;
    }
    add(counters, &tally);
    mcx_count_up(&counters->bytes_in, leg->bytes_in);
    mcx_count_up(&counters->bytes_out, leg->bytes_out);
    mcx_count_up(&counters->durations[duration_of(took)], 1);
    return took;
}

/* What a counter holds; reset: and it is 0 from then on. */
static PyObject *take(mcx_counter *counter, bool reset)
{
#ifdef Py_GIL_DISABLED
    uint64_t value = reset ? atomic_exchange_explicit(counter, 0, memory_order_relaxed)
                           : atomic_load_explicit(counter, memory_order_relaxed);
#else
    uint64_t value = *counter;

    *counter = reset ? 0 : value;
#endif
    return PyLong_FromUnsignedLongLong(value);
}

/* dict[name] = value, which is stolen and may be NULL. */
static int put(PyObject *dict, const char *name, PyObject *value)
{
    int result = value ? PyDict_SetItemString(dict, name, value) : -1;

    Py_XDECREF(value);
    return result;
}

static PyObject *calls_dict(mcx_counters *counters, bool reset)
{
    PyObject *dict = PyDict_New();

    for (int command = 0; dict != NULL && command < MC_COMMANDS; command++) {
        PyObject *count = take(&counters->calls[command], reset);
        int is_any = count ? PyObject_IsTrue(count) : -1;

        if (is_any <= 0) {
            Py_XDECREF(count);
        }
        else {
            is_any = put(dict, mcx_command_name(command), count);
        }
        if (is_any < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static PyObject *durations_list(mcx_counters *counters, bool reset)
{
    PyObject *list = PyList_New(MCX_DURATIONS);

    for (int i = 0; list != NULL && i < MCX_DURATIONS; i++) {
        PyObject *count = take(&counters->durations[i], reset);

        if (count == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, count);
    }
    return list;
}

PyObject *mcx_counter_names(void)
{
#define X(name) "s"
#define Y(name) , #name
    return Py_BuildValue("(" MCX_COUNTERS(X) ")" MCX_COUNTERS(Y));
#undef X
#undef Y
}

PyObject *mcx_counters_dict(mcx_counters *counters, bool reset)
{
    PyObject *dict = PyDict_New();
    int failed = dict == NULL || put(dict, "calls", calls_dict(counters, reset)) < 0;

#define X(name) failed = failed || put(dict, #name, take(&counters->name, reset)) < 0;
    MCX_COUNTERS(X)
#undef X
    if (failed || put(dict, "durations", durations_list(counters, reset)) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}
