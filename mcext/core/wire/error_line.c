#include "core/wire/error_line.h"

#include <stddef.h>
#include <string.h>

#include "core/wire/apart.h"

#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static MC_APART bool is_among(mc_slice text, const mc_slice *known, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text.length == known[i].length &&
            memcmp(text.bytes, known[i].bytes, text.length) == 0) {
            return true;
        }
    }
    return false;
}

bool mc_error_is_for_one_key(mc_slice text)
{
    static const mc_slice known[] = {
        TEXT("backend failure"), TEXT("lua failure"), TEXT("lua start failure"),
        TEXT("bad response"),    TEXT("bad request"), TEXT("active request limit reached"),
    };

    return is_among(text, known, sizeof known / sizeof *known);
}

bool mc_error_is_whole(mc_command command, const mc_reply *reply)
{
    static const struct {
        mc_family family;
        mc_reply_type type;
        mc_slice text;
    } known[] = {
        {MC_FAMILY_STORAGE, MC_REPLY_SERVER_ERROR, TEXT("object too large for cache")},
        {MC_FAMILY_STORAGE, MC_REPLY_SERVER_ERROR, TEXT("out of memory storing object")},
        {MC_FAMILY_NUMBER, MC_REPLY_CLIENT_ERROR,
         TEXT("cannot increment or decrement non-numeric value")},
        {MC_FAMILY_LINE, MC_REPLY_CLIENT_ERROR,
         TEXT("bad command line format.  Usage: delete <key> [noreply]")},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].family == mc_commands[command].family && known[i].type == reply->type &&
            is_among(reply->text, &known[i].text, 1)) {
            return true;
        }
    }
    return false;
}

bool mc_error_may_leave_block(mc_command command, const mc_reply *reply)
{
    return mc_commands[command].family == MC_FAMILY_STORAGE && reply->type != MC_REPLY_SERVER_ERROR;
}

bool mc_error_is_unauthenticated(const mc_reply *reply)
{
    static const mc_slice known[] = {
        TEXT("unauthenticated"), TEXT("authentication failure"), /* a storage command is taken */
        TEXT("bad authentication token format"), /* for an attempt to authenticate */
    };

    return reply->type == MC_REPLY_CLIENT_ERROR &&
           is_among(reply->text, known, sizeof known / sizeof *known);
}
