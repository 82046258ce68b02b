/* reply: one line of a reply, from bytes to a flat struct (protocol.txt, the reply of each
 * command).
 *
 * The parser keeps no state: it takes what has come and either finds a whole line or asks for
 * more, so it can be resumed at any byte. It never reads past data[0..length). Pure, any thread. */
#ifndef MC_REPLY_H
#define MC_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/key.h"
#include "core/wire/status.h"

/* No line of a reply that we ask for is longer, its CRLF included. */
#define MC_LINE_MAX 8192

typedef enum {
    MC_REPLY_OTHER, /* none of the known ones */
    MC_REPLY_NUMBER,
    MC_REPLY_VALUE, /* key, flags, length and, from gets, cas are set */
    MC_REPLY_END,
    MC_REPLY_STORED,
    MC_REPLY_NOT_STORED,
    MC_REPLY_EXISTS,
    MC_REPLY_NOT_FOUND,
    MC_REPLY_DELETED,
    MC_REPLY_TOUCHED,
    MC_REPLY_OK,
    MC_REPLY_RESET,
    MC_REPLY_VERSION,
    MC_REPLY_HD, /* these of meta commands alone (meta.h), whose VA is a VALUE */
    MC_REPLY_EN,
    MC_REPLY_NF,
    MC_REPLY_EX,
    MC_REPLY_MN,
    MC_REPLY_STAT, /* STAT, ITEM or PREFIX: key is the name, text the rest */
    MC_REPLY_ERROR,
    MC_REPLY_CLIENT_ERROR,
    MC_REPLY_SERVER_ERROR
} mc_reply_type;

typedef struct {
    mc_reply_type type;
    mc_slice line; /* without CRLF; a view into the caller's data, as key and text */
    mc_slice key;
    mc_slice text;
    uint32_t flags;
    bool has_cas;
    uint64_t length;
    uint64_t cas;
    uint64_t number;
    /* Of a meta command, as key, flags, has_cas and cas: 0 where the letter is not there. */
    uint64_t letters; /* the flags that came: see mc_meta_has */
    uint64_t size;    /* s */
    uint64_t age;     /* l: seconds since it was last read */
    int64_t ttl;      /* t: seconds, -1: it does not expire */
    bool was_hit;     /* h: it was read before */
} mc_reply;

/* The first line of data, without its CRLF: MC_OK, MC_AGAIN and MC_MALFORMED as of
 * mc_reply_parse. */
static inline mc_status mc_reply_cut_line(const char *data, size_t length, mc_slice *line)
{
    size_t window = length < MC_LINE_MAX ? length : MC_LINE_MAX;
    const char *end = window ? memchr(data, '\n', window) : NULL;

    if (end == NULL) {
        return window == MC_LINE_MAX ? MC_MALFORMED : MC_AGAIN;
    }
    if (end == data || end[-1] != '\r') {
        return MC_MALFORMED;
    }
    *line = (mc_slice){data, (size_t)(end - 1 - data)};
    return MC_OK;
}

/* Parses the first line of data. MC_OK: *reply is set and *consumed is the line's length with its
 * CRLF. MC_AGAIN: no whole line yet. MC_MALFORMED: a line too long, without CR, or a VALUE line
 * whose fields are not what the protocol says. */
mc_status mc_reply_parse(const char *data, size_t length, mc_reply *reply, size_t *consumed);

/* "<key> <flags> <bytes> [<cas unique>]", what stands behind "VALUE " in such a line, with nothing
 * before, between or behind: false where it is anything else. It is read at rest.bytes[-1] too. */
bool mc_reply_parse_value(mc_slice rest, mc_reply *reply);

/* What a VALUE line that is known at one look has behind its key at most: " 16 123456\r\n". */
#define MC_VALUE_REST 12

/* A VALUE line with exactly that key and no cas, as a retrieval mostly meets it next: flags of one
 * or two digits, a size of up to six. Its length with CRLF, and *flags and *size are set; 0 where
 * data begins with anything else, or is shorter than such a line can be, which mc_reply_parse then
 * judges. */
static inline size_t mc_reply_match_value(const char *data, size_t length, mc_slice key,
                                          uint32_t *flags, uint32_t *size)
{
    if (length < 6 + key.length + MC_VALUE_REST || memcmp(data, "VALUE ", 6) != 0 ||
        !mc_bytes_equal(data + 6, key.bytes, key.length)) {
        return 0;
    }
    const unsigned char *at = (const unsigned char *)data + 6 + key.length;
    uint32_t sum = (uint32_t)at[1] - '0', digit;

    if (at[0] != ' ' || sum > 9) {
        return 0;
    }
    at += 2;
    if (at[0] != ' ') {
        digit = (uint32_t)at[0] - '0';
        if (digit > 9 || at[1] != ' ') {
            return 0;
        }
        sum = sum * 10 + digit;
        at++;
    }
    *flags = sum;
    sum = (uint32_t)at[1] - '0';
    if (sum > 9) {
        return 0;
    }
    at += 2;
    for (int more = 5; more > 0 && (digit = (uint32_t)at[0] - '0') <= 9; more--) {
        sum = sum * 10 + digit;
        at++;
    }
    *size = sum;
    return at[0] == '\r' && at[1] == '\n' ? (size_t)((const char *)at + 2 - data) : 0;
}

/* A whole reply to a "get" of one key in one look: 1 where data is exactly VALUE with that key, its
 * body and END, and *flags and *body are set; 0 where it is exactly END; -1 where it is anything
 * else, which mc_reply_parse and the exchange then judge. */
int mc_reply_match_get(const char *data, size_t length, mc_slice key, uint32_t *flags,
                       mc_slice *body);

static inline bool mc_reply_is_error(mc_reply_type type)
{
    return type >= MC_REPLY_ERROR;
}

#endif
