/* error_line: the error lines whose words are known, and what follows from them (protocol.txt,
 * "Error strings", and memcached's source).
 *
 * Of any other line nobody knows what it is about. Pure, any thread. */
#ifndef MC_ERROR_LINE_H
#define MC_ERROR_LINE_H

#include <stdbool.h>

#include "core/wire/command.h"
#include "core/wire/reply.h"

/* What memcached's own proxy says for one key among the values of others; text is that of a
 * SERVER_ERROR. */
bool mc_error_is_for_one_key(mc_slice text);

/* Whether it is the whole answer to the command, as memcached has it: of a storage command one with
 * which it swallows the data block. Of any other the answer may still be to come. */
bool mc_error_is_whole(mc_command command, const mc_reply *reply);

/* Whether the data block of a command may have been taken for commands, whose answers come next.
 * With a SERVER_ERROR memcached and the proxies pass over it, or close. */
bool mc_error_may_leave_block(mc_command command, const mc_reply *reply);

/* The server wants a name and a password before anything else, or has refused those that it was
 * given. It may stand for the answers to all that was sent: memcached 1.6.18 has one such line for
 * what it read at once. */
bool mc_error_is_unauthenticated(const mc_reply *reply);

#endif
