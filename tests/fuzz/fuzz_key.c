/* fuzz_key: keys are judged byte by byte; one that is safe, put into any command, is one command
 * on the wire, whatever the bytes; hashes and walks are those of a bit-by-bit crc32. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/fleet/hash.h"
#include "core/wire/key.h"
#include "core/wire/request.h"

static uint32_t slow_crc32(const char *bytes, size_t size)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return ~crc;
}

static void judge(mc_slice key)
{
    bool plain = true, safe = key.length > 0;

    for (size_t i = 0; i < key.length; i++) {
        int byte = key.bytes[i] & 0xff;

        plain = plain && byte >= 0x21 && byte != 0x7f;
        safe = safe && byte != 0x00 && byte != 0x0a && byte != 0x20;
    }
    PROMISED(mc_key_is_plain(key) == plain);
    PROMISED(mc_key_is_safe(key) == safe);
    PROMISED(!plain || safe || key.length == 0);
}

/* What stands in the buffer is "before key after", once, and no other line end than the last. */
static void is_one_line(mc_buffer *to, const char *before, mc_slice key, const char *after)
{
    const char *line = mc_buffer_bytes(to);
    size_t length = mc_buffer_length(to);
    size_t front = strlen(before), back = strlen(after);

    PROMISED(length == front + key.length + back);
    PROMISED(memcmp(line, before, front) == 0);
    PROMISED(memcmp(line + front, key.bytes, key.length) == 0);
    PROMISED(memcmp(line + front + key.length, after, back) == 0);
    PROMISED(memchr(line, '\n', length) == line + length - 1);
    PROMISED(memchr(line, '\0', length) == NULL);
    mc_buffer_clear(to);
}

static void encode(mc_slice key)
{
    static mc_buffer to;
    mc_slice none = {NULL, 0}, one = {"1", 1};
    mc_slice two[2] = {key, key};
    uint64_t cas = UINT64_MAX;

    PROMISED(mc_request_get(&to, MC_GET, &key, 1));
    is_one_line(&to, "get ", key, "\r\n");
    PROMISED(mc_request_get(&to, MC_GETS, two, 2));
    PROMISED(mc_buffer_length(&to) == 5 + 2 * key.length + 1 + 2);
    mc_buffer_clear(&to);
    PROMISED(mc_request_store(&to, MC_SET, key, 16, one, key.length, NULL, false));
    char after[128];
    snprintf(after, sizeof after, " 16 1 %zu\r\n", key.length);
    is_one_line(&to, "set ", key, after);
    PROMISED(mc_request_store(&to, MC_CAS, key, UINT32_MAX, one, SIZE_MAX, &cas, true));
    snprintf(after, sizeof after, " 4294967295 1 %zu 18446744073709551615 noreply\r\n", SIZE_MAX);
    is_one_line(&to, "cas ", key, after);
    PROMISED(mc_request_line(&to, MC_DELETE, key, none, false));
    is_one_line(&to, "delete ", key, "\r\n");
    PROMISED(mc_request_line(&to, MC_DECR, key, one, true));
    is_one_line(&to, "decr ", key, " 1 noreply\r\n");
}

static void hash(mc_slice key)
{
    uint32_t crc = slow_crc32(key.bytes, key.length);
    char text[64];

    PROMISED(mc_hash_crc32(key) == crc);
    PROMISED(mc_hash_default(key) == ((crc >> 16) & 0x7fff));
    for (int use_crc32 = 0; use_crc32 < 2; use_crc32++) {
        uint64_t got = use_crc32 ? crc : mc_hash_default(key);
        uint64_t wanted = got;

        for (unsigned i = 0; i < 3; i++) {
            snprintf(text, sizeof text, "%llu%u", (unsigned long long)wanted, i);
            wanted = slow_crc32(text, strlen(text));
            wanted = use_crc32 ? wanted : (wanted >> 16) & 0x7fff;
            got = mc_hash_again(got, i, use_crc32);
            PROMISED(got == wanted);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    mc_slice key = {fuzz_guarded(data, size, 0), size};

    judge(key);
    if (mc_key_is_safe(key)) {
        encode(key);
    }
    hash(key);
    return 0;
}
