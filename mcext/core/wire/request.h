/* request: commands of the text protocol, encoded into a buffer (protocol.txt, "Commands").
 *
 * Every slice that goes on the line must already be safe (key.h): this file encodes, it does not
 * judge. Each function returns 0 where memory is out; the buffer then holds part of a command and
 * must not be sent. Not synchronised: the buffer belongs to one call. */
#ifndef MC_REQUEST_H
#define MC_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/buffer.h"
#include "core/wire/command.h"
#include "core/wire/key.h"
#include "core/wire/number.h"

/* "get key key ...\r\n" */
int mc_request_get(mc_buffer *to, mc_command command, const mc_slice *keys, size_t count);

/* "set key flags exptime length [cas] [noreply]\r\n"; the data block and its CRLF are the
 * caller's to append or to send from where they lie. exptime is decimal text. */
int mc_request_store(mc_buffer *to, mc_command command, mc_slice key, uint32_t flags,
                     mc_slice exptime, size_t length, const uint64_t *cas, bool noreply);

/* What a line may need beside its slices: numbers, spaces, noreply, CRLF. */
#define MC_LINE_ROOM (16 + 4 * (MC_NUMBER_MAX_DIGITS + 1) + sizeof " noreply\r\n")

/* The same with the data block and its CRLF, copied. In line: what a small set does is mostly this.
 */
static inline int mc_request_store_whole(mc_buffer *to, mc_command command, mc_slice key,
                                         uint32_t flags, mc_slice exptime, mc_slice value)
{
    char *room =
        mc_buffer_reserve(to, MC_LINE_ROOM + key.length + exptime.length + value.length + 2);

    if (room == NULL) {
        return 0;
    }
    memcpy(room, mc_commands[command].begin, 8); /* what is too much is written over */
    char *at = room + mc_commands[command].name.length + 1;

    at = mc_bytes_put(at, key.bytes, key.length);
    *at = ' ';
    at = mc_number_put(at + 1, flags);
    *at++ = ' ';
    if (exptime.length == 1) { /* 0, mostly */
        *at++ = exptime.bytes[0];
    }
    else {
        at = mc_bytes_put(at, exptime.bytes, exptime.length);
    }
    *at = ' ';
    at = mc_number_put(at + 1, value.length);
    memcpy(at, "\r\n", 2);
    at = mc_bytes_put(at + 2, value.bytes, value.length);
    memcpy(at, "\r\n", 2);
    mc_buffer_commit(to, (size_t)(at + 2 - room));
    return 1;
}

/* "name[ key][ argument][ noreply]\r\n"; a slice of length 0 is left out. */
int mc_request_line(mc_buffer *to, mc_command command, mc_slice key, mc_slice argument,
                    bool noreply);

#endif
