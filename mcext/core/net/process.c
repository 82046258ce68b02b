#include "core/net/process.h"

#include <pthread.h>

_Atomic uint32_t mc_process_counter = 1;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int registered;

/* Calls of this thread in whose middle the process may fork. */
static _Thread_local int calls;

/* In the child: whether the thread that forked was in the middle of a call. */
static _Atomic bool forked_in_call;

static void in_child(void)
{
    atomic_store_explicit(&forked_in_call, calls != 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&mc_process_counter, 1, memory_order_relaxed);
}

void mc_process_add_calls(int count)
{
    calls += count;
}

bool mc_process_forked_in_call(void)
{
    return atomic_load_explicit(&forked_in_call, memory_order_relaxed);
}

static void init(void)
{
    registered = pthread_atfork(NULL, NULL, in_child) == 0;
}

int mc_process_init(void)
{
    pthread_once(&once, init);
    return registered;
}
