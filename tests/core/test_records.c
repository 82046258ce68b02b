/* The promises of mcext/core/net/records.h: where records end, however the stream comes in pieces.
 */
#define _GNU_SOURCE
#include "core/net/records.h"

#include "check.h"

static char stream[100000];
static size_t ends[16], end_count, length;

static void add(size_t size)
{
    stream[length] = 23;
    stream[length + 1] = stream[length + 2] = 3;
    stream[length + 3] = (char)(size >> 8);
    stream[length + 4] = (char)size;
    memset(stream + length + 5, 0x17, size); /* which could be heads, too */
    length += 5 + size;
    ends[end_count++] = length;
}

static void make(const size_t *sizes, size_t count)
{
    length = end_count = 0;
    for (size_t i = 0; i < count; i++) {
        add(sizes[i]);
    }
}

/* How many records are whole in so many bytes. */
static size_t whole_in(size_t size)
{
    size_t whole = 0;

    while (whole < end_count && ends[whole] <= size) {
        whole++;
    }
    return whole;
}

static void in_pieces_of(size_t piece)
{
    mc_records records = {0};

    for (size_t at = 0; at < length;) {
        size_t size = length - at < piece ? length - at : piece;

        CHECK_NUMBER(mc_records_take(&records, stream + at, size),
                     whole_in(at + size) - whole_in(at));
        at += size;
    }
    CHECK(records.left == 0 && records.known == 0);
}

static void a_record_is_whole_with_its_last_byte(void)
{
    static const size_t sizes[] = {100, 1, 0, 0, 16384, 5, 16384 + 2048, 300, 0};

    make(sizes, sizeof sizes / sizeof *sizes);
    for (size_t piece = 1; piece < 40; piece++) {
        in_pieces_of(piece);
    }
    in_pieces_of(4096);
    in_pieces_of(16389);
    in_pieces_of(length);
}

static void nothing_is_nothing(void)
{
    mc_records records = {0};

    CHECK_NUMBER(mc_records_take(&records, stream, 0), 0);
}

/* Who reads it says what is wrong, at once. */
static void a_record_that_nobody_sends_is_not_waited_for(void)
{
    static const size_t sizes[] = {7, 16384 + 2049}, other[] = {65535};
    mc_records records = {0};

    make(sizes, 2);
    CHECK_NUMBER(mc_records_take(&records, stream, 12 + 5), 2);
    memset(&records, 0, sizeof records);
    CHECK_NUMBER(mc_records_take(&records, stream, 12), 1);
    CHECK_NUMBER(mc_records_take(&records, stream + 12, 4), 0);
    CHECK_NUMBER(mc_records_take(&records, stream + 16, 1), 1);
    memset(&records, 0, sizeof records);
    make(other, 1);
    CHECK_NUMBER(mc_records_take(&records, stream, 5), 1);
    memset(&records, 0, sizeof records);
    CHECK_NUMBER(mc_records_take(&records, "ERROR\r\n", 7), 1); /* of a server in the clear */
    memset(&records, 0, sizeof records);
    CHECK_NUMBER(mc_records_take(&records, "HTTP/1.1", 8), 1);
}

int main(void)
{
    PROMISE(a_record_is_whole_with_its_last_byte);
    PROMISE(nothing_is_nothing);
    PROMISE(a_record_that_nobody_sends_is_not_waited_for);
    return check_result();
}
