/* check: what the C tests share: assertions that say where and what, promises that are counted,
 * and bytes that end at a page nobody may touch.
 *
 * A test is a program: PROMISE functions run one by one from main, check_result() is its exit
 * status. A check that fails is printed and the program goes on, so that one run shows all. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic int check_failed;   /* checks that failed, in all */
static _Atomic long check_counted; /* checks made, in all */

/* Whether this runs under ThreadSanitizer. */
#if defined(__has_feature)
#define CHECK_THREADS __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define CHECK_THREADS 1
#else
#define CHECK_THREADS 0
#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        check_counted++;                                                                           \
        if (!(condition)) {                                                                        \
            check_failed++;                                                                        \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__,             \
                    #condition);                                                                   \
        }                                                                                          \
    } while (0)

#define CHECK_NUMBER(got, wanted)                                                                  \
    do {                                                                                           \
        uint64_t check_got = (uint64_t)(got), check_wanted = (uint64_t)(wanted);                   \
        check_counted++;                                                                           \
        if (check_got != check_wanted) {                                                           \
            check_failed++;                                                                        \
            fprintf(stderr, "%s:%d: %s: %s is %" PRIu64 ", not %" PRIu64 "\n", __FILE__, __LINE__, \
                    __func__, #got, check_got, check_wanted);                                      \
        }                                                                                          \
    } while (0)

#define CHECK_BYTES(got, got_length, wanted)                                                       \
    check_bytes(__FILE__, __LINE__, got, got_length, wanted, strlen(wanted))

static inline void check_bytes(const char *file, int line, const char *got, size_t got_length,
                               const char *wanted, size_t wanted_length)
{
    check_counted++;
    if (got_length != wanted_length || (got_length && memcmp(got, wanted, got_length) != 0)) {
        check_failed++;
        fprintf(stderr, "%s:%d: \"%.*s\" (%zu bytes), not \"%s\"\n", file, line, (int)got_length,
                got ? got : "", got_length, wanted);
    }
}

/* Runs a test function; its name, spelled out, is the promise that is printed as kept. */
#define PROMISE(function) check_promise(#function, function)

static inline void check_promise(const char *name, void (*function)(void))
{
    int failed = check_failed;
    long counted = check_counted;

    function();
    printf("%s ", check_failed == failed ? "ok  " : "FAIL");
    for (; *name; name++) {
        putchar(*name == '_' ? ' ' : *name);
    }
    printf(" (%ld checks)\n", check_counted - counted);
    fflush(stdout);
}

static inline int check_result(void)
{
    return check_failed == 0 ? 0 : 1;
}

/* Room whose last byte lies right before a page that cannot be read or written. */
typedef struct {
    char *pages;
    size_t size;
} check_guard;

static inline check_guard check_guard_new(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = (size + page - 1) / page * page + (size == 0 ? page : 0);
    char *pages =
        mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED || mprotect(pages + usable, page, PROT_NONE) != 0) {
        perror("guard page");
        exit(2);
    }
    return (check_guard){pages, usable};
}

/* Where size bytes start so that they end at the guard; the guard is at least that large. */
static inline char *check_guard_room(check_guard guard, size_t size)
{
    return guard.pages + guard.size - size;
}

static inline char *check_guard_copy(check_guard guard, const char *bytes, size_t size)
{
    char *room = check_guard_room(guard, size);

    if (size != 0) {
        memcpy(room, bytes, size);
    }
    return room;
}

static inline void check_guard_free(check_guard guard)
{
    munmap(guard.pages, guard.size + (size_t)sysconf(_SC_PAGESIZE));
}

#endif
