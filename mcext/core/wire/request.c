#include "core/wire/request.h"

#include <string.h>

#include "core/wire/apart.h"
#include "core/wire/number.h"

static inline char *put(char *at, mc_slice text)
{
    return mc_bytes_put(at, text.bytes, text.length);
}

static inline char *put_word(char *at, mc_slice text)
{
    *at = ' ';
    return put(at + 1, text);
}

static inline char *put_end(char *at)
{
    memcpy(at, "\r\n", 2);
    return at + 2;
}

static inline char *put_number(char *at, uint64_t number)
{
    *at = ' ';
    return mc_number_put(at + 1, number);
}

static const mc_slice NOREPLY = {"noreply", 7};

static void finish(mc_buffer *to, char *room, char *at, bool noreply)
{
    if (noreply) {
        at = put_word(at, NOREPLY);
    }
    at = put_end(at);
    mc_buffer_commit(to, (size_t)(at - room));
}

MC_APART int mc_request_get(mc_buffer *to, mc_command command, const mc_slice *keys, size_t count)
{
    size_t length = MC_LINE_ROOM;

    for (size_t i = 0; i < count; i++) {
        length += keys[i].length + 1;
    }
    char *room = mc_buffer_reserve(to, length);
    if (room == NULL) {
        return 0;
    }
    char *at = put(room, mc_commands[command].name);
    for (size_t i = 0; i < count; i++) {
        at = put_word(at, keys[i]);
    }
    finish(to, room, at, false);
    return 1;
}

MC_APART int mc_request_store(mc_buffer *to, mc_command command, mc_slice key, uint32_t flags,
                              mc_slice exptime, size_t length, const uint64_t *cas, bool noreply)
{
    char *room = mc_buffer_reserve(to, MC_LINE_ROOM + key.length + exptime.length);

    if (room == NULL) {
        return 0;
    }
    char *at = put(room, mc_commands[command].name);
    at = put_word(at, key);
    at = put_number(at, flags);
    at = put_word(at, exptime);
    at = put_number(at, length);
    if (cas != NULL) {
        at = put_number(at, *cas);
    }
    finish(to, room, at, noreply);
    return 1;
}

int mc_request_line(mc_buffer *to, mc_command command, mc_slice key, mc_slice argument,
                    bool noreply)
{
    char *room = mc_buffer_reserve(to, MC_LINE_ROOM + key.length + argument.length);

    if (room == NULL) {
        return 0;
    }
    char *at = put(room, mc_commands[command].name);
    if (key.length != 0) {
        at = put_word(at, key);
    }
    if (argument.length != 0) {
        at = put_word(at, argument);
    }
    finish(to, room, at, noreply);
    return 1;
}
