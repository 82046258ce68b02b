/* ask: a command with one answer line on a target: a storage command, delete, touch, incr, flush.
 */
#ifndef MCX_ASK_H
#define MCX_ASK_H

#include "target.h"
#include "values.h"

/* As it goes out. */
typedef struct {
    mc_command command;
    mc_slice key;
    mc_slice argument; /* exptime, delta or nothing */
    const uint64_t *cas;
    const mcx_stored *value; /* of a storage command */
    bool noreply;
} mcx_request;

typedef struct {
    mc_reply_type type;
    uint64_t number;
    PyObject *line; /* bytes; strong; of a Client, where the answer is none of the good ones */
} mcx_answer;

/* Sends request to target and reads the answer. Ends target in every case. 1: answered (noreply:
 * sent); 0: no answer; -1 with an exception. */
int mcx_ask(mcx_call *call, mcx_target *target, const mcx_request *request, mcx_answer *answer);

#endif
