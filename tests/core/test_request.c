/* The promises of mcext/core/wire/request.h. */
#define _GNU_SOURCE
#include "core/wire/request.h"

#include "check.h"

#define TEXT(text) ((mc_slice){text, sizeof(text) - 1})
#define NONE ((mc_slice){NULL, 0})

static mc_buffer to;
static long allowed;

static void *limited(void *memory, size_t size)
{
    return allowed-- > 0 ? realloc(memory, size) : NULL;
}

static void wrote(const char *wanted)
{
    CHECK_BYTES(mc_buffer_bytes(&to), mc_buffer_length(&to), wanted);
    CHECK(to.end <= to.capacity);
    mc_buffer_fini(&to);
}

static void retrievals_name_all_keys_on_one_line(void)
{
    mc_slice keys[] = {TEXT("a"), TEXT("bb"), TEXT("\xff\x80")};

    CHECK(mc_request_get(&to, MC_GET, keys, 1));
    wrote("get a\r\n");
    CHECK(mc_request_get(&to, MC_GETS, keys, 3));
    wrote("gets a bb \xff\x80\r\n");
}

static void storage_lines_have_their_fields_in_order(void)
{
    uint64_t cas = UINT64_MAX;

    CHECK(mc_request_store(&to, MC_SET, TEXT("k"), 0, TEXT("0"), 0, NULL, false));
    wrote("set k 0 0 0\r\n");
    CHECK(mc_request_store(&to, MC_ADD, TEXT("k"), 16, TEXT("-1"), 5, NULL, true));
    wrote("add k 16 -1 5 noreply\r\n");
    CHECK(mc_request_store(&to, MC_REPLACE, TEXT("k"), UINT32_MAX, TEXT("60"), 5, NULL, false));
    wrote("replace k 4294967295 60 5\r\n");
    CHECK(mc_request_store(&to, MC_APPEND, TEXT("k"), 1, TEXT("60"), 5, NULL, false));
    wrote("append k 1 60 5\r\n");
    CHECK(mc_request_store(&to, MC_PREPEND, TEXT("k"), 1, TEXT("60"), 5, NULL, false));
    wrote("prepend k 1 60 5\r\n");
    CHECK(mc_request_store(&to, MC_CAS, TEXT("k"), 1, TEXT("60"), 5, &cas, true));
    wrote("cas k 1 60 5 18446744073709551615 noreply\r\n");
}

static void a_small_value_goes_with_its_line(void)
{
    CHECK(mc_request_store_whole(&to, MC_SET, TEXT("k"), 16, TEXT("60"), TEXT("hello")));
    wrote("set k 16 60 5\r\nhello\r\n");
    CHECK(mc_request_store_whole(&to, MC_ADD, TEXT("k"), 0, TEXT("0"), TEXT("hello")));
    wrote("add k 0 0 5\r\nhello\r\n");
    CHECK(mc_request_store_whole(&to, MC_PREPEND, TEXT("k"), UINT32_MAX, TEXT("-1"), TEXT("")));
    wrote("prepend k 4294967295 -1 0\r\n\r\n");
    char *value = malloc(100000);
    memset(value, 'v', 100000);
    for (size_t length = 1; length <= 100000; length = length * 2 + 1) {
        mc_slice slice = {value, length};

        CHECK(mc_request_store_whole(&to, MC_REPLACE, slice, UINT32_MAX,
                                     TEXT("-9223372036854775808"), slice));
        CHECK(to.end <= to.capacity);
        CHECK(memcmp(to.data + to.end - 2, "\r\n", 2) == 0);
        mc_buffer_fini(&to);
    }
    free(value);
}

static void line_commands_leave_empty_parts_out(void)
{
    CHECK(mc_request_line(&to, MC_DELETE, TEXT("k"), NONE, false));
    wrote("delete k\r\n");
    CHECK(mc_request_line(&to, MC_DELETE, TEXT("k"), TEXT("5"), true));
    wrote("delete k 5 noreply\r\n");
    CHECK(mc_request_line(&to, MC_TOUCH, TEXT("k"), TEXT("60"), false));
    wrote("touch k 60\r\n");
    CHECK(mc_request_line(&to, MC_INCR, TEXT("k"), TEXT("18446744073709551615"), false));
    wrote("incr k 18446744073709551615\r\n");
    CHECK(mc_request_line(&to, MC_DECR, TEXT("k"), TEXT("1"), true));
    wrote("decr k 1 noreply\r\n");
    CHECK(mc_request_line(&to, MC_FLUSH_ALL, NONE, NONE, false));
    wrote("flush_all\r\n");
    CHECK(mc_request_line(&to, MC_STATS, NONE, TEXT("cachedump 1 10"), false));
    wrote("stats cachedump 1 10\r\n");
    CHECK(mc_request_line(&to, MC_VERSION, NONE, NONE, false));
    wrote("version\r\n");
}

static void commands_follow_each_other_in_one_buffer(void)
{
    mc_slice key = TEXT("k");

    CHECK(mc_request_line(&to, MC_VERSION, NONE, NONE, false));
    CHECK(mc_request_store(&to, MC_SET, key, 0, TEXT("0"), 2, NULL, false));
    CHECK(mc_buffer_append(&to, "hi\r\n", 4));
    CHECK(mc_request_get(&to, MC_GET, &key, 1));
    wrote("version\r\nset k 0 0 2\r\nhi\r\nget k\r\n");
}

static void the_longest_line_stays_within_its_room(void)
{
    /* With the exact room reserved by the encoder and no slack, AddressSanitizer sees one byte
     * more; without it the capacity does. */
    uint64_t cas = UINT64_MAX;
    char *key = malloc(100000);

    memset(key, 'k', 100000);
    for (size_t length = 1; length <= 100000; length = length * 2 + 1) {
        mc_slice slice = {key, length};

        CHECK(mc_request_store(&to, MC_PREPEND, slice, UINT32_MAX, TEXT("-9223372036854775808"),
                               SIZE_MAX, &cas, true));
        CHECK_NUMBER(mc_buffer_length(&to), strlen("prepend  4294967295 -9223372036854775808 "
                                                   "18446744073709551615 18446744073709551615 "
                                                   "noreply\r\n") +
                                                length);
        CHECK(to.end <= to.capacity);
        mc_buffer_fini(&to);
        CHECK(mc_request_line(&to, MC_FLUSH_ALL, slice, slice, true));
        CHECK_NUMBER(mc_buffer_length(&to), strlen("flush_all   noreply\r\n") + 2 * length);
        mc_buffer_fini(&to);
        CHECK(mc_request_get(&to, MC_GETS, &slice, 1));
        CHECK_NUMBER(mc_buffer_length(&to), strlen("gets \r\n") + length);
        mc_buffer_fini(&to);
    }
    free(key);
}

/* ---- lines near the end of a buffer ---- */

#define LONGEST_KEY 260
#define MANY 200
#define BEHIND 64 /* bytes behind the buffer, which nobody may write to */
#define MARK '\xa5'

static char memory[2 * LONGEST_KEY + 1024];
static char long_key[LONGEST_KEY];

/* What a line is made of. */
typedef struct {
    mc_slice key;
    mc_slice exptime;
    uint64_t number;
    bool noreply;
} parts;

static int encode_get(mc_buffer *room, const parts *line)
{
    mc_slice keys[] = {line->key, line->key};

    return mc_request_get(room, MC_GETS, keys, line->noreply ? 2 : 1);
}

static int encode_many(mc_buffer *room, const parts *line)
{
    mc_slice keys[MANY];

    for (size_t i = 0; i < MANY; i++) {
        keys[i] = line->key;
    }
    return mc_request_get(room, MC_GET, keys, MANY);
}

static int encode_store(mc_buffer *room, const parts *line)
{
    return mc_request_store(room, MC_PREPEND, line->key, (uint32_t)line->number, line->exptime,
                            (size_t)line->number, NULL, line->noreply);
}

static int encode_cas(mc_buffer *room, const parts *line)
{
    return mc_request_store(room, MC_PREPEND, line->key, (uint32_t)line->number, line->exptime,
                            (size_t)line->number, &line->number, line->noreply);
}

static int encode_whole(mc_buffer *room, const parts *line)
{
    return mc_request_store_whole(room, line->noreply ? MC_PREPEND : MC_SET, line->key,
                                  (uint32_t)line->number, line->exptime, line->key);
}

static int encode_line(mc_buffer *room, const parts *line)
{
    return mc_request_line(room, MC_FLUSH_ALL, line->key, line->exptime, line->noreply);
}

typedef int (*encoder)(mc_buffer *room, const parts *line);

/* The same with all the room there can be: what must come out. */
static size_t reference(encoder encode, const parts *line, char *wanted)
{
    mc_buffer ample = {0};

    CHECK(encode(&ample, line));
    size_t length = mc_buffer_length(&ample);
    memcpy(wanted, mc_buffer_bytes(&ample), length);
    mc_buffer_fini(&ample);
    return length;
}

/* With room for so many bytes behind prefix bytes that are there, the first of them consumed: the
 * line is whole and nothing behind the buffer is written, or there is no line. */
static bool fits(encoder encode, const parts *line, size_t prefix, size_t gap, const char *wanted,
                 size_t length)
{
    size_t consumed = prefix / 2, capacity = prefix + gap;
    mc_buffer near = {.data = memory, .start = consumed, .end = prefix, .capacity = capacity};

    memset(memory, 'p', prefix);
    memset(memory + capacity, MARK, BEHIND);
    allowed = 0; /* it cannot grow */
    int taken = encode(&near, line);
    bool right = near.capacity == capacity && near.end <= capacity;

    for (size_t i = 0; i < BEHIND; i++) {
        right = right && memory[capacity + i] == MARK;
    }
    size_t held = prefix - consumed;
    for (size_t i = 0; i < held; i++) {
        right = right && near.data[near.start + i] == 'p';
    }
    right = right && mc_buffer_length(&near) == held + (taken ? length : 0);
    right = right && (!taken || memcmp(near.data + near.start + held, wanted, length) == 0);
    CHECK(right);
    return taken;
}

/* Around the place where the line would just fit, and where the encoder says that it does. */
static void lay_out(encoder encode, const parts *line, size_t prefix)
{
    char wanted[sizeof memory];
    size_t length = reference(encode, line, wanted);
    size_t enough = length + MC_LINE_ROOM;

    mc_reallocate = limited;
    for (size_t gap = length > 48 ? length - 48 : 0; gap <= length; gap++) {
        (void)fits(encode, line, prefix, gap, wanted, length);
    }
    while (enough > 0 && fits(encode, line, prefix, enough - 1, wanted, length)) {
        enough--; /* to the last one that is taken */
    }
    CHECK(fits(encode, line, prefix, enough, wanted, length));
    mc_reallocate = realloc;
}

static void lay_out_all(const parts *line, size_t prefix)
{
    static const encoder encoders[] = {encode_get, encode_store, encode_cas, encode_whole,
                                       encode_line};

    for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++) {
        lay_out(encoders[i], line, prefix);
    }
}

static void lines_of_every_length_of_key_stay_in_the_buffer(void)
{
    for (size_t length = 1; length <= LONGEST_KEY; length++) {
        for (int noreply = 0; noreply < 2; noreply++) {
            parts line = {{long_key, length}, TEXT("0"), 7, noreply};

            lay_out_all(&line, 0);
            line.exptime = TEXT("-9223372036854775808");
            line.number = UINT64_MAX;
            lay_out_all(&line, 0);
        }
    }
}

static void lines_of_every_length_of_argument_stay_in_the_buffer(void)
{
    for (size_t length = 1; length <= LONGEST_KEY; length++) {
        parts line = {{long_key, 3}, {long_key, length}, UINT64_MAX, length % 2 != 0};

        lay_out_all(&line, 0);
    }
}

/* What a key takes beside its own length adds up. */
static void lines_of_many_keys_stay_in_the_buffer(void)
{
    for (size_t length = 1; length <= 3; length++) {
        parts line = {.key = {long_key, length}};

        lay_out(encode_many, &line, 0);
    }
}

static void lines_of_every_length_of_number_stay_in_the_buffer(void)
{
    char digits[MC_NUMBER_MAX_DIGITS + 1];

    for (uint64_t power = 1;; power *= 10) {
        for (uint64_t near = power - 1; near <= power; near++) {
            parts line = {.key = {long_key, 3}, .number = near};

            line.exptime = (mc_slice){digits, mc_number_format(digits, near)};
            lay_out_all(&line, 0);
            line.noreply = true;
            lay_out_all(&line, 0);
        }
        if (power > UINT64_MAX / 10) {
            break;
        }
    }
}

static void lines_behind_what_is_there_already_stay_in_the_buffer(void)
{
    for (size_t prefix = 0; prefix <= 260; prefix++) {
        parts line = {{long_key, 1 + prefix % 9}, TEXT("2592000"), prefix, prefix % 2 != 0};

        lay_out_all(&line, prefix);
    }
}

static void out_of_memory_is_told(void)
{
    mc_slice key = TEXT("k");

    mc_reallocate = limited;
    allowed = 0;
    CHECK(!mc_request_get(&to, MC_GET, &key, 1));
    CHECK(!mc_request_store(&to, MC_SET, key, 0, TEXT("0"), 2, NULL, false));
    CHECK(!mc_request_line(&to, MC_VERSION, NONE, NONE, false));
    CHECK(!mc_request_store_whole(&to, MC_SET, key, 0, TEXT("0"), key));
    CHECK_NUMBER(mc_buffer_length(&to), 0);
    mc_reallocate = realloc;
    mc_buffer_fini(&to);
}

int main(void)
{
    memset(long_key, 'k', sizeof long_key);
    PROMISE(retrievals_name_all_keys_on_one_line);
    PROMISE(storage_lines_have_their_fields_in_order);
    PROMISE(a_small_value_goes_with_its_line);
    PROMISE(line_commands_leave_empty_parts_out);
    PROMISE(commands_follow_each_other_in_one_buffer);
    PROMISE(the_longest_line_stays_within_its_room);
    PROMISE(lines_of_every_length_of_key_stay_in_the_buffer);
    PROMISE(lines_of_every_length_of_argument_stay_in_the_buffer);
    PROMISE(lines_of_many_keys_stay_in_the_buffer);
    PROMISE(lines_of_every_length_of_number_stay_in_the_buffer);
    PROMISE(lines_behind_what_is_there_already_stay_in_the_buffer);
    PROMISE(out_of_memory_is_told);
    return check_result();
}
