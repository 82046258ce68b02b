#include "core/fleet/gate.h"

#include "core/net/process.h"

static bool is_of(uint64_t word, uint32_t generation)
{
    return word >> 32 == generation;
}

bool mc_gate_enter(mc_gate *gate, uint32_t most)
{
    uint32_t generation = mc_process_generation();
    uint64_t word = atomic_load_explicit(&gate->word, memory_order_relaxed), next;

    do {
        next = is_of(word, generation) ? word + 1 : ((uint64_t)generation << 32 | 1);
        if ((uint32_t)next > most) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&gate->word, &word, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void mc_gate_leave(mc_gate *gate, uint32_t generation)
{
    uint64_t word = atomic_load_explicit(&gate->word, memory_order_relaxed);

    while (is_of(word, generation) &&
           !atomic_compare_exchange_weak_explicit(&gate->word, &word, word - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}
