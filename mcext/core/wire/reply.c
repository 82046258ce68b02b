#include "core/wire/reply.h"

#include <string.h>

#include "core/wire/number.h"

enum {
    NO_MORE,
    MAY_FOLLOW,
    MUST_FOLLOW
};

typedef struct {
    const char *name;
    unsigned char length;
    unsigned char more; /* words behind it: NO_MORE, MAY_FOLLOW, MUST_FOLLOW */
    unsigned char type;
} line_form;

#define FORM(name, more, type)                                                                     \
    {                                                                                              \
        name, sizeof(name) - 1, more, type                                                         \
    }

static const line_form forms[] = {
    FORM("END", NO_MORE, MC_REPLY_END),
    FORM("STORED", NO_MORE, MC_REPLY_STORED),
    FORM("NOT_STORED", NO_MORE, MC_REPLY_NOT_STORED),
    FORM("EXISTS", NO_MORE, MC_REPLY_EXISTS),
    FORM("NOT_FOUND", NO_MORE, MC_REPLY_NOT_FOUND),
    FORM("DELETED", NO_MORE, MC_REPLY_DELETED),
    FORM("TOUCHED", NO_MORE, MC_REPLY_TOUCHED),
    FORM("OK", NO_MORE, MC_REPLY_OK),
    FORM("RESET", NO_MORE, MC_REPLY_RESET),
    FORM("VERSION", MUST_FOLLOW, MC_REPLY_VERSION),
    FORM("STAT", MUST_FOLLOW, MC_REPLY_STAT),
    FORM("ITEM", MUST_FOLLOW, MC_REPLY_STAT),
    FORM("PREFIX", MUST_FOLLOW, MC_REPLY_STAT),
    FORM("ERROR", MAY_FOLLOW, MC_REPLY_ERROR),
    FORM("CLIENT_ERROR", MAY_FOLLOW, MC_REPLY_CLIENT_ERROR),
    FORM("SERVER_ERROR", MAY_FOLLOW, MC_REPLY_SERVER_ERROR),
};

/* Cuts the word up to the next space off *rest. */
static mc_slice cut_word(mc_slice *rest)
{
    const char *space = rest->length ? memchr(rest->bytes, ' ', rest->length) : NULL;
    mc_slice word = *rest;

    if (space == NULL) {
        rest->bytes += rest->length;
        rest->length = 0;
    }
    else {
        word.length = (size_t)(space - word.bytes);
        rest->bytes += word.length + 1;
        rest->length -= word.length + 1;
    }
    return word;
}

bool mc_reply_parse_value(mc_slice rest, mc_reply *reply)
{
    reply->key = cut_word(&rest);
    mc_slice flags = cut_word(&rest);
    bool more = rest.length != 0 || rest.bytes[-1] == ' ';
    mc_slice length = cut_word(&rest);

    if (!more || reply->key.length == 0 ||
        !mc_number_parse_u32(flags.bytes, flags.length, &reply->flags) ||
        !mc_number_parse(length.bytes, length.length, &reply->length)) {
        return false;
    }
    reply->has_cas = rest.length != 0;
    if (reply->has_cas) {
        return mc_number_parse(rest.bytes, rest.length, &reply->cas);
    }
    return rest.bytes[-1] != ' ';
}

static void classify(mc_slice line, mc_reply *reply)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const line_form *form = &forms[i];

        if (line.length < form->length || memcmp(line.bytes, form->name, form->length) != 0) {
            continue;
        }
        if (line.length == form->length && form->more != MUST_FOLLOW) {
            reply->type = (mc_reply_type)form->type;
            return;
        }
        if (form->more != NO_MORE && line.length > form->length &&
            line.bytes[form->length] == ' ') {
            mc_slice rest = {line.bytes + form->length + 1, line.length - form->length - 1};

            reply->type = (mc_reply_type)form->type;
            if (form->type == MC_REPLY_STAT) {
                reply->key = cut_word(&rest);
            }
            reply->text = rest;
            return;
        }
    }
    if (mc_number_parse(line.bytes, line.length, &reply->number)) {
        reply->type = MC_REPLY_NUMBER;
    }
}

mc_status mc_reply_parse(const char *data, size_t length, mc_reply *reply, size_t *consumed)
{
    mc_slice line;
    mc_status status = mc_reply_cut_line(data, length, &line);

    if (status != MC_OK) {
        return status;
    }
    reply->type = MC_REPLY_OTHER;
    reply->line = line;
    *consumed = line.length + 2;
    if (line.length > 6 && memcmp(data, "VALUE ", 6) == 0) {
        mc_slice rest = {data + 6, line.length - 6};

        reply->type = MC_REPLY_VALUE;
        return mc_reply_parse_value(rest, reply) ? MC_OK : MC_MALFORMED;
    }
    reply->key = reply->text = (mc_slice){line.bytes + line.length, 0};
    classify(line, reply);
    return MC_OK;
}

int mc_reply_match_get(const char *data, size_t length, mc_slice key, uint32_t *flags,
                       mc_slice *body)
{
    static const char tail[] = "\r\nEND\r\n";
    uint32_t size;
    size_t line;

    if (length == 5 && memcmp(data, tail + 2, 5) == 0) {
        return 0;
    }
    line = mc_reply_match_value(data, length, key, flags, &size);
    if (line == 0 || length - line != (size_t)size + 7 ||
        memcmp(data + line + size, tail, 7) != 0) {
        return -1;
    }
    *body = (mc_slice){data + line, size};
    return 1;
}
