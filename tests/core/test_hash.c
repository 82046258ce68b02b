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

int main(void)
{
    PROMISE(crc32_is_that_of_binascii);
    PROMISE(the_default_is_cmemcache_hash);
    PROMISE(any_byte_and_any_length_is_hashed);
    return check_result();
}
