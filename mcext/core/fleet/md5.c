#include "core/fleet/md5.h"

#include <string.h>

enum {
    BLOCK = 64,
    SHORT = BLOCK - 9 /* bytes of a text whose end, and whose length, stand in its first block */
};

static const uint32_t begin[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

static inline uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static inline uint32_t load(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* The four functions of RFC 1321, 3.4; the first two with one operation less. */
#define F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z) ((x) ^ (y) ^ (z))
#define I(x, y, z) ((y) ^ ((x) | ~(z)))

#define STEP(f, a, b, c, d, word, bits, constant)                                                  \
    (a) += f(b, c, d) + load(block + 4 * (word)) + (constant);                                     \
    (a) = (b) + rotate(a, bits);
#define FOUR(f, s1, s2, s3, s4, w1, w2, w3, w4, k1, k2, k3, k4)                                    \
    STEP(f, a, b, c, d, w1, s1, k1)                                                                \
    STEP(f, d, a, b, c, w2, s2, k2)                                                                \
    STEP(f, c, d, a, b, w3, s3, k3)                                                                \
    STEP(f, b, c, d, a, w4, s4, k4)

/* One block, always inlined: of whoever needs one word alone, the compiler leaves the last steps
 * out. */
static inline __attribute__((always_inline)) void add_block(uint32_t words[4],
                                                            const unsigned char *block)
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

/* The last block or two: what is left of a text of so many bytes, its end, its length in bits.
 * Returns the bytes of it. */
static inline size_t last_blocks(unsigned char blocks[2 * BLOCK], const char *rest, size_t left,
                                 uint64_t length)
{
    size_t size = left <= SHORT ? BLOCK : 2 * BLOCK;
    uint64_t bits = length * 8;

    memset(blocks, 0, size);
    if (left != 0) {
        memcpy(blocks, rest, left);
    }
    blocks[left] = 0x80;
    for (size_t i = 0; i < 8; i++) {
        blocks[size - 8 + i] = (unsigned char)(bits >> (8 * i));
    }
    return size;
}

void mc_md5(mc_slice text, uint32_t words[4])
{
    unsigned char blocks[2 * BLOCK];
    size_t at = 0;

    memcpy(words, begin, sizeof begin);
    for (; text.length - at >= BLOCK; at += BLOCK) {
        add_block(words, (const unsigned char *)text.bytes + at);
    }
    size_t size = last_blocks(blocks, text.bytes + at, text.length - at, text.length);

    for (size_t i = 0; i < size; i += BLOCK) {
        add_block(words, blocks + i);
    }
}

/* Of a short text in one block, without the steps that it does not need: 60 instructions less. */
uint32_t mc_md5_first(mc_slice text)
{
    unsigned char blocks[2 * BLOCK];
    uint32_t words[4];

    if (text.length > SHORT) {
        mc_md5(text, words);
        return words[0];
    }
    last_blocks(blocks, text.bytes, text.length, text.length);
    memcpy(words, begin, sizeof begin);
    add_block(words, blocks);
    return words[0];
}
