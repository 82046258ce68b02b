/* fuzz: what the targets share. A target is one function over bytes, LLVMFuzzerTestOneInput, which
 * aborts where a promise is broken. With clang it is driven by libFuzzer; replay.c drives it over
 * files with any compiler. Promises are judged by oracles written here and in the targets from
 * protocol.txt, with nothing of mcext/core in them. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROMISED(condition)                                                                        \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define FUZZ_GUARDED_MAX ((size_t)1 << 16) /* inputs are no longer */

/* A copy that ends right before a page that cannot be touched; which: one of two places. */
static inline char *fuzz_guarded(const void *bytes, size_t size, int which)
{
    static char *pages[2];

    if (pages[which] == NULL) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *both = mmap(NULL, FUZZ_GUARDED_MAX + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        PROMISED(both != MAP_FAILED);
        PROMISED(mprotect(both + FUZZ_GUARDED_MAX, page, PROT_NONE) == 0);
        pages[which] = both;
    }
    PROMISED(size <= FUZZ_GUARDED_MAX);
    char *copy = pages[which] + FUZZ_GUARDED_MAX - size;
    if (size != 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

/* The oracle for numbers: digits only, 1 to 20 of them, and as text not behind the largest. */
static inline bool fuzz_is_number(const char *text, size_t length, const char *largest)
{
    if (length < 1 || length > 20) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    while (length > 1 && *text == '0') {
        text++;
        length--;
    }
    size_t most = strlen(largest);
    for (size_t i = 0; length == most && i < most; i++) {
        if (text[i] != largest[i]) {
            return text[i] < largest[i];
        }
    }
    return length <= most;
}

#define FUZZ_U64_MAX "18446744073709551615"
#define FUZZ_U32_MAX "4294967295"

/* The value of what fuzz_is_number took. */
static inline uint64_t fuzz_number(const char *text, size_t length)
{
    uint64_t value = 0, place = 1;

    while (length > 0) { /* from the right, unlike the core */
        value += place * (uint64_t)(text[--length] & 15);
        place *= 10;
    }
    return value;
}

static inline bool fuzz_same(const char *bytes, size_t length, const char *text)
{
    return length == strlen(text) && memcmp(bytes, text, length) == 0;
}

/* The error lines that memcached's own proxy has for one key of many. */
static inline bool fuzz_is_of_one_key(const char *line, size_t length)
{
    static const char *const known[] = {"backend failure",   "lua failure",
                                        "lua start failure", "bad response",
                                        "bad request",       "active request limit reached"};
    size_t begin = strlen("SERVER_ERROR ");

    for (size_t i = 0; length >= begin && i < sizeof known / sizeof *known; i++) {
        if (fuzz_same(line + begin, length - begin, known[i])) {
            return true;
        }
    }
    return false;
}

/* What a server with authentication says to whoever has not passed it, once for many commands. */
static inline bool fuzz_is_unauthenticated(const char *line, size_t length)
{
    return fuzz_same(line, length, "CLIENT_ERROR unauthenticated") ||
           fuzz_same(line, length, "CLIENT_ERROR authentication failure") ||
           fuzz_same(line, length, "CLIENT_ERROR bad authentication token format");
}

#endif
