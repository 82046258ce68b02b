#include "core/wire/request.h"

#include <string.h>

#include "core/wire/number.h"

#define NAME(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

#define STORAGE(text, repeatable)                                                                  \
    {                                                                                              \
        NAME(text), MC_FAMILY_STORAGE, repeatable, text " "                                        \
    }

const mc_command_info mc_commands[MC_COMMANDS] = {
    [MC_GET] = {NAME("get"), MC_FAMILY_RETRIEVAL, true, ""},
    [MC_GETS] = {NAME("gets"), MC_FAMILY_RETRIEVAL, true, ""},
    [MC_SET] = STORAGE("set", true),
    [MC_ADD] = STORAGE("add", false),
    [MC_REPLACE] = STORAGE("replace", false),
    [MC_APPEND] = STORAGE("append", false),
    [MC_PREPEND] = STORAGE("prepend", false),
    [MC_CAS] = STORAGE("cas", false),
    [MC_DELETE] = {NAME("delete"), MC_FAMILY_LINE, true, ""},
    [MC_TOUCH] = {NAME("touch"), MC_FAMILY_LINE, true, ""},
    [MC_INCR] = {NAME("incr"), MC_FAMILY_NUMBER, false, ""},
    [MC_DECR] = {NAME("decr"), MC_FAMILY_NUMBER, false, ""},
    [MC_FLUSH_ALL] = {NAME("flush_all"), MC_FAMILY_LINE, false, ""},
    [MC_STATS] = {NAME("stats"), MC_FAMILY_LISTING, true, ""},
    [MC_VERSION] = {NAME("version"), MC_FAMILY_LINE, true, ""},
};

mc_command mc_command_find(mc_slice name)
{
    for (int command = 0; command < MC_COMMANDS; command++) {
        mc_slice known = mc_commands[command].name;

        if (known.length == name.length && memcmp(known.bytes, name.bytes, name.length) == 0) {
            return (mc_command)command;
        }
    }
    return MC_COMMANDS;
}

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

static const mc_slice NOREPLY = NAME("noreply");

static void finish(mc_buffer *to, char *room, char *at, bool noreply)
{
    if (noreply) {
        at = put_word(at, NOREPLY);
    }
    at = put_end(at);
    mc_buffer_commit(to, (size_t)(at - room));
}

int mc_request_get(mc_buffer *to, mc_command command, const mc_slice *keys, size_t count)
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

int mc_request_store(mc_buffer *to, mc_command command, mc_slice key, uint32_t flags,
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
