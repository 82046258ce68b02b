/* status: the one result enum of the core.
 *
 * Every function of the core that can fail returns one of these; 0 is success. The binding turns
 * them into exceptions or misses in one place (mcext/binding/errors.c). No dependency, no state. */
#ifndef MC_STATUS_H
#define MC_STATUS_H

typedef enum {
    MC_OK = 0,
    MC_AGAIN,       /* more input is needed; nothing is lost, call again */
    MC_INTERRUPTED, /* a system call met EINTR: let signal handlers run, then call again */
    MC_TIMEOUT,     /* the deadline has passed */
    MC_CLOSED,      /* the peer closed or reset the connection */
    MC_FAILED,      /* a system call failed; errno is kept in the connection */
    MC_MALFORMED,   /* bytes that the protocol does not allow here */
    MC_REFUSED,     /* the peer did not take us, as the first words of a new stream show */
    MC_CROWDED,     /* of a connect: the time went by while others had their turn */
    MC_NO_MEMORY,
    MC_RAISED /* a transport of the caller's raised an exception of its own */
} mc_status;

#endif
