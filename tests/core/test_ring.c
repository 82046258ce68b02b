/* The promises of mcext/core/fleet/ring.h. The walks are python-memcached's, hash by hash. */
#define _GNU_SOURCE
#include "core/fleet/ring.h"

#include "check.h"

static void walk_is(uint64_t hash, int use_crc32, const uint64_t *wanted, size_t count)
{
    mc_ring_walk walk = {hash, 0};

    for (size_t i = 0; i < count; i++) {
        CHECK_NUMBER(walk.hash, wanted[i]);
        CHECK_NUMBER(walk.tries, i);
        for (size_t buckets = 1; buckets < 20; buckets++) {
            CHECK_NUMBER(mc_ring_index(&walk, buckets), wanted[i] % buckets);
        }
        mc_ring_next(&walk, use_crc32);
    }
}

static void the_default_hash_walks_as_python_memcached(void)
{
    static const uint64_t foo[] = {3187,  29842, 32274, 24630, 16170,
                                   18372, 6092,  4376,  24728, 22879};
    static const uint64_t huge[] = {UINT64_MAX, 2310,  21612, 12671, 10476,
                                    10496,      21657, 19564, 13905, 15134};

    walk_is(foo[0], 0, foo, 10);
    walk_is(huge[0], 0, huge, 10);
}

static void plain_crc32_walks_as_python_memcached(void)
{
    static const uint64_t foo[] = {2356372769, 2165514877, 3087568280, 1996445716, 53144673,
                                   1829303643, 1284011752, 3969486495, 1566268410, 3273278046};
    static const uint64_t zero[] = {0,          3091600544, 427991794,  3123274662,
                                    2208259885, 1418081241, 3116143736, 1574915498,
                                    665008050,  249986631,  4149590162};

    walk_is(foo[0], 1, foo, 10);
    walk_is(zero[0], 1, zero, 11); /* the eleventh needs a number of try of two digits */
}

static void the_largest_numbers_fit(void)
{
    mc_ring_walk walk = {UINT64_MAX, UINT32_MAX};

    mc_ring_next(&walk, 1);
    CHECK(walk.hash <= UINT32_MAX);
}

int main(void)
{
    PROMISE(the_default_hash_walks_as_python_memcached);
    PROMISE(plain_crc32_walks_as_python_memcached);
    PROMISE(the_largest_numbers_fit);
    return check_result();
}
