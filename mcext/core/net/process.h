/* process: whether this is still the process that something was made in.
 *
 * A counter that every fork moves on in the child; the only process-wide state there is. Any
 * thread; no lock. */
#ifndef MC_PROCESS_H
#define MC_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern _Atomic uint32_t mc_process_counter;

/* Added to the generation of what a thread of that process is starting over. */
#define MC_STARTING_OVER UINT32_C(0x80000000)

/* Once before the first use, from any thread; 0 where pthread_atfork failed. */
int mc_process_init(void);

static inline uint32_t mc_process_generation(void)
{
    return atomic_load_explicit(&mc_process_counter, memory_order_relaxed);
}

/* Around a call in whose middle this thread may fork: what such a call holds is still its own in
 * the child, while calls of the parent's other threads never end there. */
void mc_process_add_calls(int count);
bool mc_process_forked_in_call(void);

#endif
