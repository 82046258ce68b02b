/* command: what is known of each command of the text protocol: one row a command (protocol.txt).
 *
 * Constant; any thread. */
#ifndef MC_COMMAND_H
#define MC_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/apart.h"
#include "core/wire/reply.h"

typedef enum {
    MC_GET,
    MC_GETS,
    MC_SET,
    MC_ADD,
    MC_REPLACE,
    MC_APPEND,
    MC_PREPEND,
    MC_CAS,
    MC_DELETE,
    MC_TOUCH,
    MC_INCR,
    MC_DECR,
    MC_FLUSH_ALL,
    MC_STATS,
    MC_VERSION,
    MC_MG, /* from here on: the meta commands, whose replies are read by meta.h */
    MC_MD,
    MC_META_PROBE, /* two requests in one (see mc_meta_judge) */
    MC_COMMANDS
} mc_command;

/* What a request and its reply look like. */
typedef enum {
    MC_FAMILY_RETRIEVAL, /* keys; VALUE blocks, then END */
    MC_FAMILY_STORAGE,   /* a data block, which an error may leave on the stream; one line */
    MC_FAMILY_LINE,      /* a key and an argument, each where there is one; one line */
    MC_FAMILY_NUMBER,    /* the same; one line, a number */
    MC_FAMILY_META,      /* a key, and flags as its argument; one line, of a hit with a body */
    MC_FAMILY_LISTING,   /* an argument; lines, then END */
    MC_FAMILY_PROBE      /* nothing more; two lines, and an error is as good as any */
} mc_family;

typedef struct {
    mc_slice name;
    mc_family family; /* which says how it is laid out, too (request.h) */
    uint32_t answers; /* bits by mc_reply_type: the lines, error lines aside, that answer it */
    bool repeatable;  /* may be sent once more where no reply byte came */
    char begin[9];    /* of a storage command: its name and a space, eight bytes at most */
} mc_command_info;

extern const mc_command_info mc_commands[MC_COMMANDS];

/* A "get" line of a multi call: so many keys at most, and bytes with the command and its CRLF. Some
 * hosted services take no more than 16 kB (ElastiCache Serverless). */
#define MC_KEYS_PER_GET 1000
#define MC_GET_LINE ((size_t)16000)

/* How many of the keys, of which there is one at least, the next "get" line has. Not for a single
 * get, whose way is not to be longer for this. */
MC_APART size_t mc_keys_of_line(const mc_slice *keys, size_t count);

static inline bool mc_command_is_meta(mc_command command)
{
    return command >= MC_MG;
}

/* Whether a line of that type, no error, is an answer to the command. */
static inline bool mc_command_is_answered_by(mc_command command, mc_reply_type type)
{
    return (mc_commands[command].answers >> type & 1) != 0;
}

#endif
