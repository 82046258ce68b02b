#include "process.h"

#include <pthread.h>

_Atomic uint32_t mc_process_counter = 1;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int registered;

/* The generation that this thread came into this process with. */
static _Thread_local uint32_t forked;

static void in_child(void)
{
    forked = atomic_fetch_add_explicit(&mc_process_counter, 1, memory_order_relaxed) + 1;
}

bool mc_process_is_forked_thread(void)
{
    return forked == mc_process_generation();
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
