/* replay: runs a target over files and over the files of folders, without libFuzzer.
 *
 *     replay FILE_OR_FOLDER...
 *     replay --random COUNT FILE_OR_FOLDER...   then over COUNT inputs made of them by blind
 * chance: no guidance, but several times as many executions, and any compiler */
#define _GNU_SOURCE
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

#define MOST_KEPT 4096
#define LONGEST_KEPT 64

static long replayed;
static struct {
    uint8_t data[LONGEST_KEPT];
    size_t size;
} kept[MOST_KEPT]; /* the short ones, to make others of */
static size_t kept_count;

static int replay_file(const char *path)
{
    uint8_t *data = malloc(FUZZ_GUARDED_MAX);
    FILE *file = fopen(path, "rb");

    if (data == NULL || file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = fread(data, 1, FUZZ_GUARDED_MAX, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    if (size <= LONGEST_KEPT && kept_count < MOST_KEPT) {
        memcpy(kept[kept_count].data, data, size);
        kept[kept_count++].size = size;
    }
    free(data);
    replayed++;
    return 0;
}

static int replay(const char *path)
{
    struct stat about;
    int failed = 0;

    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        return replay_file(path);
    }
    DIR *folder = opendir(path);
    if (folder == NULL) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char inner[4096];

        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (stat(inner, &about) == 0 && S_ISREG(about.st_mode)) {
            failed |= replay_file(inner);
        }
    }
    closedir(folder);
    return failed;
}

static uint64_t state = UINT64_C(88172645463325252);

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(((state >> 32) * below) >> 32);
}

/* A kept input with one to four changes; room for LONGEST_KEPT bytes. */
static size_t change(uint8_t *data)
{
    static const char bytes[] = "0123456789999  \r\n\0:[]/-+kAE";
    size_t which = chance((uint32_t)kept_count), size = kept[which].size;

    memcpy(data, kept[which].data, size);
    for (uint32_t changes = 1 + chance(4); changes > 0; changes--) {
        size_t at = chance((uint32_t)size + 1);

        switch (chance(4)) {
        case 0: /* another byte */
            if (at < size) {
                data[at] =
                    chance(2) ? (uint8_t)bytes[chance(sizeof bytes - 1)] : (uint8_t)chance(256);
            }
            break;
        case 1: /* one more */
            if (size < LONGEST_KEPT) {
                memmove(data + at + 1, data + at, size - at);
                data[at] = (uint8_t)bytes[chance(sizeof bytes - 1)];
                size++;
            }
            break;
        case 2: /* one less */
            if (at < size) {
                memmove(data + at, data + at + 1, size - at - 1);
                size--;
            }
            break;
        default: /* the rest of another */
            which = chance((uint32_t)kept_count);
            if (kept[which].size > at) {
                memcpy(data + at, kept[which].data + at, kept[which].size - at);
                size = kept[which].size;
            }
        }
    }
    return size;
}

int main(int count, char **arguments)
{
    int failed = count < 2, first = 1;
    long wanted = 0;

    if (count > 3 && strcmp(arguments[1], "--random") == 0) {
        wanted = atol(arguments[2]);
        state += getenv("FUZZ_SEED") ? strtoull(getenv("FUZZ_SEED"), NULL, 10) * 7919 : 0;
        first = 3;
    }
    for (int i = first; i < count; i++) {
        failed |= replay(arguments[i]);
    }
    printf("%ld inputs\n", replayed);
    for (long i = 0; i < wanted && kept_count != 0; i++) {
        uint8_t data[LONGEST_KEPT];

        LLVMFuzzerTestOneInput(data, change(data));
    }
    if (wanted != 0) {
        printf("%ld by chance\n", wanted);
    }
    return failed || replayed == 0;
}
