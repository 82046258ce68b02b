/* The promises of mcext/core/fleet/hash.h. The numbers are python-memcached's. */
#define _GNU_SOURCE
#include "core/fleet/hash.h"

#include "check.h"

static mc_slice text(const char *bytes)
{
    return (mc_slice){bytes, strlen(bytes)};
}

static void crc32_is_that_of_binascii(void)
{
    CHECK_NUMBER(mc_hash_crc32(text("")), 0);
    CHECK_NUMBER(mc_hash_crc32(text("a")), 0xe8b7be43);
    CHECK_NUMBER(mc_hash_crc32(text("123456789")), 0xcbf43926);
    CHECK_NUMBER(mc_hash_crc32(text("foo")), 0x8c736521);
}

static void the_default_is_cmemcache_hash(void)
{
    CHECK_NUMBER(mc_hash_default(text("a")), 26807);
    CHECK_NUMBER(mc_hash_default(text("123456789")), 19444);
    CHECK_NUMBER(mc_hash_default(text("foo")), 3187);
    CHECK_NUMBER(mc_hash_default(text("Foo")), 13374);
    CHECK_NUMBER(mc_hash_default(text("")), 0);
}

static void any_byte_and_any_length_is_hashed(void)
{
    check_guard guard = check_guard_new(256);
    char all[256];

    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    CHECK_NUMBER(mc_hash_crc32((mc_slice){check_guard_copy(guard, all, 256), 256}), 0x29058c73);
    memset(all, 'x', 250);
    CHECK_NUMBER(mc_hash_crc32((mc_slice){check_guard_copy(guard, all, 250), 250}), 0x89689892);
    CHECK_NUMBER(mc_hash_default((mc_slice){all, 250}), 2408);
    check_guard_free(guard);
}

static void walk_is(uint64_t hash, bool use_crc32, const uint64_t *wanted, unsigned count)
{
    for (unsigned i = 0; i + 1 < count; i++) {
        CHECK_NUMBER(hash, wanted[i]);
        hash = mc_hash_again(hash, i, use_crc32);
    }
    CHECK_NUMBER(hash, wanted[count - 1]);
}

/* The walks are python-memcached's, hash by hash. */
static void the_default_hash_walks_as_python_memcached(void)
{
    static const uint64_t foo[] = {3187,  29842, 32274, 24630, 16170,
                                   18372, 6092,  4376,  24728, 22879};
    static const uint64_t huge[] = {UINT64_MAX, 2310,  21612, 12671, 10476,
                                    10496,      21657, 19564, 13905, 15134};

    walk_is(foo[0], false, foo, 10);
    walk_is(huge[0], false, huge, 10);
}

static void plain_crc32_walks_as_python_memcached(void)
{
    static const uint64_t foo[] = {2356372769, 2165514877, 3087568280, 1996445716, 53144673,
                                   1829303643, 1284011752, 3969486495, 1566268410, 3273278046};
    static const uint64_t zero[] = {0,          3091600544, 427991794,  3123274662,
                                    2208259885, 1418081241, 3116143736, 1574915498,
                                    665008050,  249986631,  4149590162, 0};

    walk_is(foo[0], true, foo, 10);
    walk_is(zero[0], true, zero, 11); /* the eleventh needs a number of try of two digits */
}

static void the_largest_numbers_fit(void)
{
    mc_hash_again(UINT64_MAX, UINT32_MAX, true);
}

int main(void)
{
    PROMISE(crc32_is_that_of_binascii);
    PROMISE(the_default_is_cmemcache_hash);
    PROMISE(any_byte_and_any_length_is_hashed);
    PROMISE(the_default_hash_walks_as_python_memcached);
    PROMISE(plain_crc32_walks_as_python_memcached);
    PROMISE(the_largest_numbers_fit);
    return check_result();
}
