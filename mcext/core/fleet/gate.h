/* gate: lets a few in at once, of one process.
 *
 * One word: who is inside, and of which process generation. In the child of a fork nobody is: the
 * threads of the parent that were do not exist there. Any thread, no lock; who finds it full comes
 * again. All 0 is a gate with nobody inside. */
#ifndef MC_GATE_H
#define MC_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    _Atomic uint64_t word; /* the generation in the upper half, how many in the lower */
} mc_gate;

/* True where fewer than most were inside: then mc_gate_leave is due. */
bool mc_gate_enter(mc_gate *gate, uint32_t most);

/* generation: of the process (process.h) that entered. */
void mc_gate_leave(mc_gate *gate, uint32_t generation);

#endif
