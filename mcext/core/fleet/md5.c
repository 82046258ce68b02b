#include "core/fleet/md5.h"

#include <string.h>

enum {
    BLOCK = 64,
    WORDS = 16,
    LENGTH =
        14 /* the word of a last block with the length of the text in bits; one more is behind it */
};

static const uint32_t begin[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

static inline uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static inline void load(uint32_t *words, const unsigned char *bytes, int count)
{
    for (int i = 0; i < count; i++, bytes += 4) {
        words[i] = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                   (uint32_t)bytes[3] << 24;
    }
}

/* The four functions of RFC 1321, 3.4; the first two with one operation less. */
#define F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z) ((x) ^ (y) ^ (z))
#define I(x, y, z) ((y) ^ ((x) | ~(z)))

#define STEP(f, a, b, c, d, word, bits, constant)                                                  \
    (a) += f(b, c, d) + block[word] + (constant);                                                  \
    (a) = (b) + rotate(a, bits);
#define FOUR(f, s1, s2, s3, s4, w1, w2, w3, w4, k1, k2, k3, k4)                                    \
    STEP(f, a, b, c, d, w1, s1, k1)                                                                \
    STEP(f, d, a, b, c, w2, s2, k2)                                                                \
    STEP(f, c, d, a, b, w3, s3, k3)                                                                \
    STEP(f, b, c, d, a, w4, s4, k4)

/* One block. Always inlined: words that are known to be 0, and steps for words that nobody asks
 * for, are left out by the compiler. */
static inline __attribute__((always_inline)) void add_block(uint32_t words[4],
                                                            const uint32_t block[WORDS])
{
    uint32_t a = words[0], b = words[1], c = words[2], d = words[3];

    FOUR(F, 7, 12, 17, 22, 0, 1, 2, 3, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee)
    FOUR(F, 7, 12, 17, 22, 4, 5, 6, 7, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501)
    FOUR(F, 7, 12, 17, 22, 8, 9, 10, 11, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be)
    FOUR(F, 7, 12, 17, 22, 12, 13, 14, 15, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821)
    FOUR(G, 5, 9, 14, 20, 1, 6, 11, 0, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa)
    FOUR(G, 5, 9, 14, 20, 5, 10, 15, 4, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8)
    FOUR(G, 5, 9, 14, 20, 9, 14, 3, 8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed)
    FOUR(G, 5, 9, 14, 20, 13, 2, 7, 12, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a)
    FOUR(H, 4, 11, 16, 23, 5, 8, 11, 14, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c)
    FOUR(H, 4, 11, 16, 23, 1, 4, 7, 10, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70)
    FOUR(H, 4, 11, 16, 23, 13, 0, 3, 6, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05)
    FOUR(H, 4, 11, 16, 23, 9, 12, 15, 2, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665)
    FOUR(I, 6, 10, 15, 21, 0, 7, 14, 5, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039)
    FOUR(I, 6, 10, 15, 21, 12, 3, 10, 1, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1)
    FOUR(I, 6, 10, 15, 21, 8, 15, 6, 13, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1)
    FOUR(I, 6, 10, 15, 21, 4, 11, 2, 9, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391)
    words[0] += a;
    words[1] += b;
    words[2] += c;
    words[3] += d;
}

/* What is left of a text, less than a block, its end and its length: a block or two. */
static void add_rest(uint32_t words[4], const char *rest, size_t left, uint64_t length)
{
    unsigned char bytes[2 * BLOCK] = {0};
    size_t blocks = left < 4 * (size_t)LENGTH ? 1 : 2;

    if (left != 0) {
        memcpy(bytes, rest, left);
    }
    bytes[left] = 0x80;
    for (size_t i = 0; i < blocks; i++) {
        uint32_t block[WORDS];

        load(block, bytes + i * (size_t)BLOCK, WORDS);
        if (i + 1 == blocks) {
            block[LENGTH] = (uint32_t)(length << 3);
            block[LENGTH + 1] = (uint32_t)(length >> 29);
        }
        add_block(words, block);
    }
}

void mc_md5(mc_slice text, uint32_t words[4])
{
    size_t at = 0;

    memcpy(words, begin, sizeof begin);
    for (; text.length - at >= BLOCK; at += BLOCK) {
        uint32_t block[WORDS];

        load(block, (const unsigned char *)text.bytes + at, WORDS);
        add_block(words, block);
    }
    add_rest(words, text.bytes + at, text.length - at, text.length);
}

/* Of a text that, with its end, fits so many words of one block. */
static inline __attribute__((always_inline)) uint32_t first_of_short(mc_slice text, int count)
{
    unsigned char bytes[4 * LENGTH];
    uint32_t block[WORDS] = {0}, words[4];

    memset(bytes, 0, 4 * (size_t)count);
    if (text.length != 0) {
        memcpy(bytes, text.bytes, text.length);
    }
    bytes[text.length] = 0x80;
    load(block, bytes, count);
    block[LENGTH] = (uint32_t)text.length * 8;
    memcpy(words, begin, sizeof begin);
    add_block(words, block);
    return words[0];
}

/* A key's, in one block: @@ instructions in place of @@, and @@ for one of less than 32 bytes. */
uint32_t mc_md5_first(mc_slice text)
{
    uint32_t words[4];

    if (text.length < 32) {
        return first_of_short(text, 8);
    }
    if (text.length < 4 * (size_t)LENGTH) {
        return first_of_short(text, LENGTH);
    }
    mc_md5(text, words);
    return words[0];
}
