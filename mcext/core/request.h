/* request: commands of the text protocol, encoded into a buffer (protocol.txt, "Commands").
 *
 * Every slice that goes on the line must already be safe (key.h): this file encodes, it does not
 * judge. Each function returns 0 where memory is out; the buffer then holds part of a command and
 * must not be sent. Not synchronised: the buffer belongs to one call. */
#ifndef MC_REQUEST_H
#define MC_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "key.h"

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
    MC_COMMANDS
} mc_command;

/* What a reply to the command looks like; the exchange reads by it. */
typedef enum {
    MC_FAMILY_RETRIEVAL, /* VALUE blocks, then END */
    MC_FAMILY_STORAGE,   /* one line, after a data block that an error may leave on the stream */
    MC_FAMILY_LINE,      /* one line */
    MC_FAMILY_NUMBER,    /* one line, a number */
    MC_FAMILY_LISTING    /* lines, then END */
} mc_family;

typedef struct {
    mc_slice name;
    mc_family family;
    bool repeatable; /* may be sent once more where no reply byte came */
} mc_command_info;

extern const mc_command_info mc_commands[MC_COMMANDS];

/* The command of that name, or MC_COMMANDS. */
mc_command mc_command_find(mc_slice name);

/* Keys in one "get" line of a multi call. */
#define MC_KEYS_PER_GET 1000

/* "get key key ...\r\n" */
int mc_request_get(mc_buffer *to, mc_command command, const mc_slice *keys, size_t count);

/* "set key flags exptime length [cas] [noreply]\r\n"; the data block and its CRLF are the
 * caller's to append or to send from where they lie. exptime is decimal text. */
int mc_request_store(mc_buffer *to, mc_command command, mc_slice key, uint32_t flags,
                     mc_slice exptime, size_t length, const uint64_t *cas, bool noreply);

/* The same with the data block and its CRLF, copied. */
int mc_request_store_whole(mc_buffer *to, mc_command command, mc_slice key, uint32_t flags,
                           mc_slice exptime, mc_slice value);

/* "name[ key][ argument][ noreply]\r\n"; a slice of length 0 is left out. */
int mc_request_line(mc_buffer *to, mc_command command, mc_slice key, mc_slice argument,
                    bool noreply);

#endif
