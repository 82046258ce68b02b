/* The promises of mcext/core/fleet/placement.h: keys go where python-memcached puts them. */
#define _GNU_SOURCE
#include "core/fleet/placement.h"

#include "check.h"
#include "core/fleet/hash.h"

static const mc_slice foo = {"foo", 3};
static _Atomic int hash;

/* The hashes are those of test_ring.c. */
static void a_key_walks_by_the_hash_that_is_set(void)
{
    static const uint64_t walks[][5] = {
        [MC_HASH_DEFAULT] = {3187, 29842, 32274, 24630, 16170},
        [MC_HASH_CRC32] = {2356372769, 2165514877, 3087568280, 1996445716, 53144673},
    };

    for (size_t buckets = 2; buckets < 20; buckets++) {
        for (int i = 0; i < 2; i++) {
            mc_placement placement;
            mc_ring_walk walk = {~UINT64_C(0), 5}; /* of another key, over */

            mc_placement_init_modulo(&placement, buckets, &hash);
            atomic_store(&hash, i);
            CHECK_NUMBER(placement.first(&placement, foo, &walk), walks[i][0] % buckets);
            for (unsigned tries = 1; tries < 5; tries++) {
                CHECK_NUMBER(placement.next(&placement, &walk), walks[i][tries] % buckets);
                CHECK_NUMBER(walk.tries, tries);
            }
        }
    }
}

/* It is the client's, which may set it between two calls. */
static void the_hash_is_looked_up_each_time(void)
{
    mc_placement placement;
    mc_ring_walk walk;

    mc_placement_init_modulo(&placement, 1000, &hash);
    atomic_store(&hash, MC_HASH_DEFAULT);
    CHECK_NUMBER(placement.first(&placement, foo, &walk), mc_hash_default(foo) % 1000);
    atomic_store(&hash, MC_HASH_CRC32);
    CHECK_NUMBER(placement.first(&placement, foo, &walk), mc_hash_crc32(foo) % 1000);
}

static void one_bucket_is_everybodys_and_no_key_is_hashed(void)
{
    mc_placement placement;
    mc_ring_walk walk = {~UINT64_C(0), 5};

    mc_placement_init_modulo(&placement, 1, &hash);
    CHECK_NUMBER(placement.first(&placement, (mc_slice){NULL, 7}, &walk), 0);
    CHECK(walk.hash == 0 && walk.tries == 0); /* the same for all keys */
    for (unsigned tries = 1; tries < 10; tries++) {
        CHECK_NUMBER(placement.next(&placement, &walk), 0);
        CHECK_NUMBER(walk.tries, tries);
    }
}

int main(void)
{
    PROMISE(a_key_walks_by_the_hash_that_is_set);
    PROMISE(the_hash_is_looked_up_each_time);
    PROMISE(one_bucket_is_everybodys_and_no_key_is_hashed);
    return check_result();
}
