#include "core/wire/meta.h"

#include <string.h>

#include "core/wire/apart.h"
#include "core/wire/number.h"

#define BIT(letter) (UINT64_C(1) << ((letter) - 'A'))

/* The flags that are read. */
#define KNOWN                                                                                      \
    (BIT('c') | BIT('f') | BIT('h') | BIT('k') | BIT('l') | BIT('s') | BIT('t') | BIT('W') |       \
     BIT('X') | BIT('Z'))

#define CODE(first, second) ((unsigned)(first) << 8 | (unsigned)(second))

/* MC_REPLY_OTHER where the line does not begin with a code. */
static mc_reply_type type_of(mc_slice line)
{
    if (line.length < 2 || (line.length > 2 && line.bytes[2] != ' ')) {
        return MC_REPLY_OTHER;
    }
    switch (CODE((unsigned char)line.bytes[0], (unsigned char)line.bytes[1])) {
    case CODE('V', 'A'):
        return MC_REPLY_VALUE;
    case CODE('H', 'D'):
    case CODE('O', 'K'):
        return MC_REPLY_HD;
    case CODE('E', 'N'):
        return MC_REPLY_EN;
    case CODE('N', 'F'):
        return MC_REPLY_NF;
    case CODE('E', 'X'):
        return MC_REPLY_EX;
    case CODE('M', 'N'):
        return MC_REPLY_MN;
    default:
        return MC_REPLY_OTHER;
    }
}

static const char *end_of_word(const char *at, const char *end)
{
    const char *space = memchr(at, ' ', (size_t)(end - at));

    return space != NULL ? space : end;
}

static const char *take_key(const char *at, const char *end, mc_slice key, mc_reply *reply)
{
    if (key.length == 0 || (size_t)(end - at) < key.length ||
        !mc_bytes_equal(at, key.bytes, key.length) ||
        (at + key.length != end && at[key.length] != ' ')) {
        key.length = (size_t)(end_of_word(at, end) - at);
    }
    reply->key = (mc_slice){at, key.length};
    return key.length != 0 ? at + key.length : NULL;
}

static const char *take_ttl(const char *at, mc_reply *reply)
{
    uint64_t number;

    if (at[0] == '-' && at[1] == '1') {
        reply->ttl = -1;
        return at + 2;
    }
    at = mc_number_take(at, &number);
    if (at == NULL || number > INT64_MAX) {
        return NULL;
    }
    reply->ttl = (int64_t)number;
    return at;
}

/* What belongs to the flag, at at; where it ends, or NULL: it is not as it has to be. */
static inline const char *take_flag(char letter, const char *at, const char *end, mc_slice key,
                                    mc_reply *reply)
{
    uint64_t number;

    switch (letter) {
    case 'c':
        reply->has_cas = true;
        return mc_number_take(at, &reply->cas);
    case 'f':
        at = mc_number_take(at, &number);
        if (at == NULL || number > UINT32_MAX) {
            return NULL;
        }
        reply->flags = (uint32_t)number;
        return at;
    case 'h':
        at = mc_number_take(at, &number);
        if (at == NULL || number > 1) {
            return NULL;
        }
        reply->was_hit = number != 0;
        return at;
    case 'k':
        return take_key(at, end, key, reply);
    case 'l':
        return mc_number_take(at, &reply->age);
    case 's':
        return mc_number_take(at, &reply->size);
    case 't':
        return take_ttl(at, reply);
    default: /* W, X and Z are there or not */
        return at;
    }
}

static bool take_flags(const char *at, const char *end, mc_slice key, mc_reply *reply)
{
    while (at < end) {
        unsigned which = (unsigned)(unsigned char)*at - 'A';

        if (*at == ' ') {
            at++;
            continue;
        }
        if (which >= 64 || (KNOWN >> which & 1) == 0) {
            at = end_of_word(at, end);
            continue;
        }
        if (reply->letters >> which & 1) {
            return false;
        }
        reply->letters |= UINT64_C(1) << which;
        at = take_flag(*at, at + 1, end, key, reply);
        if (at == NULL || (at < end && *at != ' ')) {
            return false;
        }
    }
    return true;
}

MC_APART mc_status mc_meta_parse(const char *data, size_t length, mc_slice key, mc_reply *reply,
                                 size_t *consumed)
{
    mc_slice line;
    mc_status status = mc_reply_cut_line(data, length, &line);

    if (status != MC_OK) {
        return status;
    }
    const char *at = line.bytes + 2, *end = line.bytes + line.length;

    reply->letters = reply->size = reply->age = 0;
    reply->flags = 0;
    reply->cas = 0;
    reply->ttl = 0;
    reply->has_cas = reply->was_hit = false;
    reply->type = type_of(line);
    if (reply->type == MC_REPLY_OTHER) {
        status = mc_reply_parse(data, length, reply, consumed);
        if (reply->type == MC_REPLY_VALUE) {
            reply->type = MC_REPLY_OTHER; /* of a retrieval: VA alone is a value here */
        }
        return status;
    }
    reply->line = line;
    reply->key = reply->text = (mc_slice){end, 0};
    *consumed = line.length + 2;
    if (reply->type == MC_REPLY_VALUE) {
        while (at < end && *at == ' ') {
            at++;
        }
        at = mc_number_take(at, &reply->length);
        if (at == NULL || (at < end && *at != ' ')) {
            return MC_MALFORMED;
        }
    }
    return take_flags(at, end, key, reply) ? MC_OK : MC_MALFORMED;
}

/* The flags behind the key, up to the CR; NULL: others, or not as they have to be. */
static inline const char *match_flags(const char *at, mc_reply *reply)
{
    uint64_t letters = BIT('k'), number = 0;

    reply->cas = 0;
    while (*at == ' ') {
        char letter = at[1];

        at += 2;
        if (letter == 'f') {
            at = mc_number_take(at, &number);
            if (at == NULL || number > UINT32_MAX) {
                return NULL;
            }
        }
        else if (letter == 'c') {
            at = mc_number_take(at, &reply->cas);
            if (at == NULL) {
                return NULL;
            }
        }
        else if (letter != 'W' && letter != 'X' && letter != 'Z') {
            return NULL;
        }
        if (letters & BIT(letter)) {
            return NULL;
        }
        letters |= BIT(letter);
    }
    reply->flags = (uint32_t)number;
    reply->has_cas = (letters & BIT('c')) != 0;
    reply->letters = letters;
    return at;
}

bool mc_meta_match_hit(const char *data, size_t length, mc_slice key, mc_reply *reply,
                       mc_slice *body)
{
    /* With a CRLF at its end, nothing below can read past it. */
    if (length < sizeof "VA 0 k\r\n\r\n" - 1 || memcmp(data, "VA ", 3) != 0 ||
        memcmp(data + length - 2, "\r\n", 2) != 0) {
        return false;
    }
    const char *at, *end = data + length;

    at = mc_number_take(data + 3, &reply->length);
    if (at == NULL || at[0] != ' ' || at[1] != 'k' ||
        (size_t)(end - at) < sizeof " k\r\n\r\n" - 1 + key.length ||
        !mc_bytes_equal(at + 2, key.bytes, key.length)) {
        return false;
    }
    reply->key = (mc_slice){at + 2, key.length};
    at = match_flags(at + 2 + key.length, reply);
    if (at == NULL || at[0] != '\r' || at[1] != '\n' || end - at < 4 ||
        (size_t)(end - at) - 4 != reply->length) {
        return false;
    }
    reply->type = MC_REPLY_VALUE;
    reply->line = (mc_slice){data, (size_t)(at - data)};
    reply->text = (mc_slice){at, 0};
    reply->size = reply->age = 0;
    reply->ttl = 0;
    reply->was_hit = false;
    *body = (mc_slice){at + 2, (size_t)reply->length};
    return true;
}

mc_meta_level mc_meta_judge(mc_reply_type first, mc_reply_type second)
{
    if (first != MC_REPLY_MN) { /* before 1.6.0 "mn" is unknown, or says EN */
        return MC_META_NONE;
    }
    if (second == MC_REPLY_EN || second == MC_REPLY_HD) {
        return MC_META_STABLE;
    }
    return second == MC_REPLY_CLIENT_ERROR ? MC_META_LEASES : MC_META_NONE; /* b is invalid there */
}
