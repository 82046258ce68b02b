#include "core/fleet/key_hash.h"

#include <string.h>

#include "core/fleet/hash.h"
#include "core/fleet/md5.h"

/* A byte as C's char on x86, which has a sign, grown to a word. */
static inline uint32_t with_sign(char byte)
{
    return (uint32_t)(int32_t)(signed char)byte;
}

static inline uint32_t without_sign(char byte)
{
    return (unsigned char)byte;
}

static uint64_t one_at_a_time(mc_slice key)
{
    uint32_t hash = 0;

    for (size_t i = 0; i < key.length; i++) {
        hash += with_sign(key.bytes[i]);
        hash += hash << 10;
        hash ^= hash >> 6;
    }
    hash += hash << 3;
    hash ^= hash >> 11;
    return hash + (hash << 15);
}

static uint64_t md5(mc_slice key)
{
    return mc_md5_first(key);
}

static uint32_t swapped(uint32_t word)
{
    return word >> 24 | (word >> 8 & 0xff00) | (word << 8 & 0xff0000) | word << 24;
}

static uint64_t md5_64(mc_slice key)
{
    uint32_t words[4];

    mc_md5(key, words);
    return (uint64_t)swapped(words[0]) << 32 | swapped(words[1]);
}

static uint64_t crc(mc_slice key)
{
    return mc_hash_default(key);
}

static uint64_t crc32(mc_slice key)
{
    return mc_hash_crc32(key);
}

/* Fowler, Noll and Vo: version 1 multiplies first, 1a adds first. That of 64 bits, cut to 32, is
 * the same with the lower halves of its two numbers. */
#define FNV(name, byte_of, start, prime, first, then)                                              \
    static uint64_t name(mc_slice key)                                                             \
    {                                                                                              \
        uint32_t hash = (start);                                                                   \
                                                                                                   \
        for (size_t i = 0; i < key.length; i++) {                                                  \
            uint32_t byte = byte_of(key.bytes[i]);                                                 \
                                                                                                   \
            first;                                                                                 \
            then;                                                                                  \
        }                                                                                          \
        return hash;                                                                               \
    }
#define ADD hash ^= byte
#define TIMES(prime) hash *= (prime)
#define FNV1(name, byte_of, start, prime) FNV(name, byte_of, start, prime, TIMES(prime), ADD)
#define FNV1A(name, byte_of, start, prime) FNV(name, byte_of, start, prime, ADD, TIMES(prime))

FNV1(fnv1_64, with_sign, 0x84222325, 0x1b3)
FNV1A(fnv1a_64, with_sign, 0x84222325, 0x1b3)
FNV1(fnv1_32, with_sign, 2166136261, 16777619)
FNV1A(fnv1a_32, with_sign, 2166136261, 16777619)
FNV1(unsigned_fnv1_32, without_sign, 2166136261, 16777619)
FNV1A(unsigned_fnv1a_32, without_sign, 2166136261, 16777619)

static uint64_t fnv1a(mc_slice key)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < key.length; i++) {
        hash = (hash ^ (unsigned char)key.bytes[i]) * 0x100000001b3;
    }
    return hash;
}

/* Up to four bytes, little-endian; what is missing counts as 0. */
static uint32_t word_at(mc_slice key, size_t at)
{
    uint32_t word = 0;

    for (size_t i = 0; i < 4 && at + i < key.length; i++) {
        word |= (uint32_t)(unsigned char)key.bytes[at + i] << (8 * i);
    }
    return word;
}

static uint64_t murmur(mc_slice key)
{
    const uint32_t by = 0x5bd1e995;
    uint32_t length = (uint32_t)key.length;
    uint32_t hash = (0xdeadbeef * length) ^ length;
    size_t at = 0;

    for (; key.length - at >= 4; at += 4) {
        uint32_t word = word_at(key, at) * by;

        hash = (hash * by) ^ ((word ^ (word >> 24)) * by);
    }
    if (at < key.length) {
        hash = (hash ^ word_at(key, at)) * by;
    }
    hash = (hash ^ (hash >> 13)) * by;
    return hash ^ (hash >> 15);
}

static inline uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

/* One line of lookup3's mix(), which has six, and of its final(), which has seven. */
static inline void mix(uint32_t *x, uint32_t *y, uint32_t *z, int bits)
{
    *x -= *z;
    *x ^= rotate(*z, bits);
    *z += *y;
}

static inline void finish(uint32_t *x, uint32_t *y, int bits)
{
    *x ^= *y;
    *x -= rotate(*y, bits);
}

static uint64_t jenkins(mc_slice key)
{
    uint32_t a = 0xdeadbeef + (uint32_t)key.length + 13, b = a, c = a;
    size_t at = 0;

    for (; key.length - at > 12; at += 12) {
        a += word_at(key, at);
        b += word_at(key, at + 4);
        c += word_at(key, at + 8);
        mix(&a, &b, &c, 4);
        mix(&b, &c, &a, 6);
        mix(&c, &a, &b, 8);
        mix(&a, &b, &c, 16);
        mix(&b, &c, &a, 19);
        mix(&c, &a, &b, 4);
    }
    if (at == key.length) {
        return c;
    }
    a += word_at(key, at);
    b += word_at(key, at + 4);
    c += word_at(key, at + 8);
    finish(&c, &b, 14);
    finish(&a, &c, 11);
    finish(&b, &a, 25);
    finish(&c, &b, 16);
    finish(&a, &c, 4);
    finish(&b, &a, 14);
    finish(&c, &b, 24);
    return c;
}

mc_key_hash *mc_key_hash_find(const char *name)
{
    static const struct {
        const char *name;
        mc_key_hash *hash;
    } rows[] = {
        {"default", one_at_a_time},
        {"md5", md5},
        {"md5_64", md5_64},
        {"crc", crc},
        {"crc32", crc32},
        {"fnv1_64", fnv1_64},
        {"fnv1a_64", fnv1a_64},
        {"fnv1_32", fnv1_32},
        {"fnv1a_32", fnv1a_32},
        {"unsigned_fnv1_32", unsigned_fnv1_32},
        {"unsigned_fnv1a_32", unsigned_fnv1a_32},
        {"murmur", murmur},
        {"jenkins", jenkins},
        {"fnv1a", fnv1a},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return rows[i].hash;
        }
    }
    return NULL;
}
