/* The promises of mcext/core/fleet/key_hash.h and md5.h. The numbers of the hashes that
 * libmemcached has are libhashkit's 1.1.4, of x86-64; those of md5 are RFC 1321's. */
#define _GNU_SOURCE
#include "core/fleet/key_hash.h"

#include "check.h"
#include "core/fleet/md5.h"

static mc_slice text(const char *bytes)
{
    return (mc_slice){bytes, strlen(bytes)};
}

static void a_hash_is_found_by_its_name(void)
{
    static const struct {
        const char *name;
        uint64_t foo, umlaut, long_one; /* "foo", "k\u00e4se", 40 bytes of "0123456789" */
    } rows[] = {
        {"default", UINT64_C(0x238678dd), UINT64_C(0x61df10ec), UINT64_C(0x345f720c)},
        {"md5", UINT64_C(0xdb18bdac), UINT64_C(0x51e59c47), UINT64_C(0x38e00a9f)},
        {"md5_64", UINT64_C(0xacbd18db4cc2f85c), UINT64_C(0x479ce55152efba4b),
         UINT64_C(0x9f0ae0380ed27dbf)},
        {"crc", UINT64_C(0xc73), UINT64_C(0x2b83), UINT64_C(0x2646)},
        {"crc32", UINT64_C(0x8c736521), UINT64_C(0xab83baf7), UINT64_C(0xa6463c49)},
        {"fnv1_64", UINT64_C(0x6ba13533), UINT64_C(0xc1d76c4d), UINT64_C(0x725fe395)},
        {"fnv1a_64", UINT64_C(0xfed9d577), UINT64_C(0x65f003d), UINT64_C(0xb66277f5)},
        {"fnv1_32", UINT64_C(0x408f5e13), UINT64_C(0x5b8c8a0d), UINT64_C(0xeb34d4b5)},
        {"fnv1a_32", UINT64_C(0xa9f37ed7), UINT64_C(0x7c99343d), UINT64_C(0x21036095)},
        {"unsigned_fnv1_32", UINT64_C(0x408f5e13), UINT64_C(0x47d1e20d), UINT64_C(0xeb34d4b5)},
        {"unsigned_fnv1a_32", UINT64_C(0xa9f37ed7), UINT64_C(0x96b2ee3d), UINT64_C(0x21036095)},
        {"murmur", UINT64_C(0xc4e0338f), UINT64_C(0xeb9725d8), UINT64_C(0xcdcad2c6)},
        {"jenkins", UINT64_C(0x99f84f99), UINT64_C(0x84778c38), UINT64_C(0x6adce56a)},
        {"fnv1a", UINT64_C(0xdcb27518fed9d577), UINT64_C(0xda0c3a8c7756c23d),
         UINT64_C(0x4b192fe5b66277f5)},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mc_key_hash *hash = mc_key_hash_find(rows[i].name);

        CHECK(hash != NULL);
        if (hash != NULL) {
            CHECK_NUMBER(hash(text("foo")), rows[i].foo);
            CHECK_NUMBER(hash(text("k\xc3\xa4se")), rows[i].umlaut);
            CHECK_NUMBER(hash(text("0123456789012345678901234567890123456789")), rows[i].long_one);
        }
    }
    CHECK(mc_key_hash_find("hsieh") == NULL);
    CHECK(mc_key_hash_find("") == NULL);
}

/* Each length of a text once, in a row: where a hash takes four bytes, or twelve, at a time. */
static void a_text_of_any_length_is_hashed(void)
{
    static const struct {
        const char *name;
        uint64_t sum; /* of hash * (length + 1) over the lengths from 0 to 39 */
    } rows[] = {
        {"default", UINT64_C(0x157d11f55b5)},
        {"md5", UINT64_C(0x1f8ccc961dd)},
        {"md5_64", UINT64_C(0x80641e658eaf5bbf)},
        {"crc", UINT64_C(0xf0d9bf)},
        {"crc32", UINT64_C(0x195dbb59ccc)},
        {"fnv1_64", UINT64_C(0x19a53867bc6)},
        {"fnv1a_64", UINT64_C(0x1c0375d34fa)},
        {"fnv1_32", UINT64_C(0x19a81f0e386)},
        {"fnv1a_32", UINT64_C(0x191771a517a)},
        {"unsigned_fnv1_32", UINT64_C(0x1e367a2f186)},
        {"unsigned_fnv1a_32", UINT64_C(0x1cac568337a)},
        {"murmur", UINT64_C(0x1a3687710da)},
        {"jenkins", UINT64_C(0x18169d9a64a)},
        {"fnv1a", UINT64_C(0xb20416b7e7f430fa)},
    };
    check_guard guard = check_guard_new(64);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mc_key_hash *hash = mc_key_hash_find(rows[i].name);
        uint64_t sum = 0;

        for (size_t length = 0; length < 40; length++) {
            char *room = check_guard_room(guard, length);

            for (size_t at = 0; at < length; at++) {
                room[at] = (char)(250 - 7 * at);
            }
            sum += hash((mc_slice){room, length}) * (length + 1);
        }
        CHECK_NUMBER(sum, rows[i].sum);
    }
    check_guard_free(guard);
}

static void digest_is(mc_slice of, const char *wanted)
{
    char got[33];
    uint32_t words[4];

    mc_md5(of, words);
    for (int i = 0; i < 16; i++) {
        snprintf(got + 2 * i, 3, "%02x", words[i / 4] >> (8 * (i % 4)) & 0xff);
    }
    CHECK_BYTES(got, 32, wanted);
    CHECK_NUMBER(mc_md5_first(of), words[0]);
}

static void md5_is_that_of_the_rfc(void)
{
    digest_is(text(""), "d41d8cd98f00b204e9800998ecf8427e");
    digest_is(text("a"), "0cc175b9c0f1b6a831c399e269772661");
    digest_is(text("abc"), "900150983cd24fb0d6963f7d28e17f72");
    digest_is(text("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    digest_is(text("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
    digest_is(text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
              "d174ab98d277d9f5a5611c2c9f419d9f");
    digest_is(text("1234567890123456789012345678901234567890"
                   "1234567890123456789012345678901234567890"),
              "57edf4a22be3c955ac49da2e2107b67a");
}

/* Around the ends of blocks: where the end of the text and its length stand in one of their own. */
static void md5_of_texts_around_a_block_is_right(void)
{
    static const struct {
        size_t length;
        const char *digest;
    } rows[] = {
        {54, "61ea0974c662328da964d977a8253873"},  {55, "04364420e25c512fd958a70738aa8f72"},
        {56, "668a72d5ba17f08e62dabcafad6db14b"},  {57, "693037871c4a9d3d8685018905cb530a"},
        {63, "7dc2ca208106a2f703567bdff99d8981"},  {64, "c1bb4f81d892b2d57947682aeb252456"},
        {65, "1bc932052302d074bdec39795fe00cf6"},  {119, "ab347a5f68c8a443cfcddc633f12c24f"},
        {120, "fb98667f98096de92620b64f46e1c5b5"}, {127, "a0b28c1da68705c2ff883fe279b72753"},
        {128, "d69cb61a6ee87200676eb0d4b90edbcb"}, {129, "3926841d393c00c3f36260e5ace10dc1"},
        {183, "f5b8d6a7b4d7200a499f3a3035dedc94"}, {184, "a473eda9461f29a9a3f7729f5e29dd2f"},
        {250, "79c1514b2407bf4708dfb8ef4b6827d5"},
    };
    check_guard guard = check_guard_new(256);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *room = check_guard_room(guard, rows[i].length);

        memset(room, 'x', rows[i].length);
        digest_is((mc_slice){room, rows[i].length}, rows[i].digest);
    }
    check_guard_free(guard);
}

/* Of splitmix64, seed 0: the numbers that everybody has. */
static void mix64_is_the_last_step_of_splitmix64(void)
{
    CHECK_NUMBER(mc_mix64(0), 0);
    CHECK_NUMBER(mc_mix64(UINT64_C(0x9e3779b97f4a7c15)), UINT64_C(0xe220a8397b1dcdaf));
    CHECK_NUMBER(mc_mix64(UINT64_C(0x9e3779b97f4a7c15) * 2), UINT64_C(0x6e789e6aa1b965f4));
}

static void murmur3_is_that_of_pymemcache(void)
{
    static const struct {
        const char *text;
        uint32_t hash;
    } rows[] = {
        {"", 0x00000000},    {"a", 0x3c2569b2},    {"ab", 0x9bbfd75f},
        {"abc", 0xb3dd93fa}, {"abcd", 0x43ed676a}, {"10.0.0.1:11211-foo", 0xa84b1a5f},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mc_murmur3 murmur = {.hash = 0};

        for (const char *at = rows[i].text; *at != '\0'; at++) {
            mc_murmur3_add(&murmur, (unsigned char)*at);
        }
        CHECK_NUMBER(mc_murmur3_end(&murmur), rows[i].hash);
    }
}

int main(void)
{
    PROMISE(a_hash_is_found_by_its_name);
    PROMISE(a_text_of_any_length_is_hashed);
    PROMISE(md5_is_that_of_the_rfc);
    PROMISE(md5_of_texts_around_a_block_is_right);
    PROMISE(mix64_is_the_last_step_of_splitmix64);
    PROMISE(murmur3_is_that_of_pymemcache);
    return check_result();
}
