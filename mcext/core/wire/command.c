#include "core/wire/command.h"

#define ROW(text, family, answers, repeatable, begin)                                              \
    {                                                                                              \
        {text, sizeof(text) - 1}, MC_FAMILY_##family, answers, repeatable, begin                   \
    }
#define BIT(type) (UINT32_C(1) << MC_REPLY_##type)
#define KEPT (BIT(STORED) | BIT(NOT_STORED))
#define CHANGED(type) (BIT(type) | BIT(NOT_FOUND))

const mc_command_info mc_commands[MC_COMMANDS] = {
    [MC_GET] = ROW("get", RETRIEVAL, 0, true, ""),
    [MC_GETS] = ROW("gets", RETRIEVAL, 0, true, ""),
    [MC_SET] = ROW("set", STORAGE, KEPT, true, "set "),
    [MC_ADD] = ROW("add", STORAGE, KEPT, false, "add "),
    [MC_REPLACE] = ROW("replace", STORAGE, KEPT, false, "replace "),
    [MC_APPEND] = ROW("append", STORAGE, KEPT, false, "append "),
    [MC_PREPEND] = ROW("prepend", STORAGE, KEPT, false, "prepend "),
    [MC_CAS] = ROW("cas", STORAGE, KEPT | CHANGED(EXISTS), false, "cas "),
    [MC_DELETE] = ROW("delete", LINE, CHANGED(DELETED), true, ""),
    [MC_TOUCH] = ROW("touch", LINE, CHANGED(TOUCHED), true, ""),
    [MC_INCR] = ROW("incr", NUMBER, CHANGED(NUMBER), false, ""),
    [MC_DECR] = ROW("decr", NUMBER, CHANGED(NUMBER), false, ""),
    [MC_FLUSH_ALL] = ROW("flush_all", LINE, BIT(OK), false, ""),
    [MC_STATS] = ROW("stats", LISTING, 0, true, ""),
    [MC_VERSION] = ROW("version", LINE, BIT(VERSION), true, ""),
    [MC_MG] = ROW("mg", META, BIT(VALUE) | BIT(HD) | BIT(EN), true, ""), /* but see mc_leg.once */
    [MC_MD] = ROW("md", META, BIT(HD) | BIT(NF) | BIT(EX), false, ""),
    [MC_META_PROBE] = ROW("mn\r\nmg AA== b k O1", PROBE, BIT(MN) | BIT(EN) | BIT(HD), true, ""),
};

size_t mc_keys_of_line(const mc_slice *keys, size_t count)
{
    size_t most = count < MC_KEYS_PER_GET ? count : MC_KEYS_PER_GET;
    size_t length = sizeof "gets\r\n" - 1, fit = 0;

    for (size_t i = 0; i < most; i++) { /* mostly all fit, and this has no branches */
        length += keys[i].length + 1;
    }
    if (length <= MC_GET_LINE || most == 1) {
        return most;
    }
    length = sizeof "gets\r\n" - 1;
    while (fit < most && (length += keys[fit].length + 1) <= MC_GET_LINE) {
        fit++;
    }
    return fit == 0 ? 1 : fit; /* a longer key is the server's to refuse */
}
