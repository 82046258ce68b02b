/* The promises of mcext/core/net/address.h. */
#define _GNU_SOURCE
#include "core/net/address.h"

#include <sys/un.h>

#include "check.h"

static check_guard guard;

static const char *parse(const char *text, size_t length, mc_address *address)
{
    *address = (mc_address){0};
    mc_slice slice = {check_guard_copy(guard, text, length), length};
    const char *wrong = mc_address_parse(slice, address);

    if (wrong == NULL) {
        CHECK(address->host.bytes >= slice.bytes &&
              address->host.bytes + address->host.length <= slice.bytes + length);
    }
    return wrong;
}

static void is(const char *text, mc_address_family family, const char *host, unsigned port)
{
    mc_address address;
    const char *wrong = parse(text, strlen(text), &address);

    if (wrong != NULL) {
        fprintf(stderr, "\"%s\": %s\n", text, wrong);
    }
    CHECK(wrong == NULL);
    if (wrong == NULL) {
        CHECK_NUMBER(address.family, family);
        CHECK_BYTES(address.host.bytes, address.host.length, host);
        CHECK_NUMBER(address.port, port);
    }
}

static void is_wrong(const char *text, const char *about)
{
    mc_address address;
    const char *wrong = parse(text, strlen(text), &address);

    if (wrong == NULL || strstr(wrong, about) == NULL) {
        fprintf(stderr, "\"%s\": %s, nothing about \"%s\"\n", text, wrong ? wrong : "taken", about);
    }
    CHECK(wrong != NULL && strstr(wrong, about) != NULL);
}

static void hosts_and_ports_as_python_memcached_takes_them(void)
{
    is("localhost:11211", MC_FAMILY_INET, "localhost", 11211);
    is("localhost", MC_FAMILY_INET, "localhost", 11211);
    is("127.0.0.1:1", MC_FAMILY_INET, "127.0.0.1", 1);
    is("inet:127.0.0.1:65535", MC_FAMILY_INET, "127.0.0.1", 65535);
    is("inet:localhost", MC_FAMILY_INET, "localhost", 11211);
    is("inet6:[::1]:11212", MC_FAMILY_INET6, "::1", 11212);
    is("inet6:[::1]", MC_FAMILY_INET6, "::1", 11211);
    is("inet6:[fe80::1%eth0]:1", MC_FAMILY_INET6, "fe80::1%eth0", 1);
    is("unix:/run/m.sock", MC_FAMILY_UNIX, "/run/m.sock", 0);
    is("unix:relative", MC_FAMILY_UNIX, "relative", 0);
    is("unix:/a:b", MC_FAMILY_UNIX, "/a:b", 0);
}

static void the_two_forms_it_refuses_are_taken(void)
{
    is("[::1]:11211", MC_FAMILY_INET6, "::1", 11211);
    is("[::1]", MC_FAMILY_INET6, "::1", 11211);
    is("/run/memcached.sock", MC_FAMILY_UNIX, "/run/memcached.sock", 0);
}

static void ports_end_at_65535(void)
{
    is("h:0", MC_FAMILY_INET, "h", 0);
    is("h:65535", MC_FAMILY_INET, "h", 65535);
    is_wrong("h:65536", "port");
    is_wrong("h:18446744073709551616", "port");
    is_wrong("h:18446744073709551617", "port");
    is_wrong("h:-1", "port");
    is_wrong("h:+1", "port");
    is_wrong("h: 1", "port");
    is_wrong("h:1 ", "port");
    is_wrong("h:", "port");
    is_wrong("h:x", "port");
    is_wrong("[::1]:", "port");
    is_wrong("[::1]:65536", "port");
    is_wrong("h:x:1", "port");
    is_wrong("h:65536:1", "port");
}

static void what_is_no_address_is_said_plainly(void)
{
    is_wrong("", "host is empty");
    is_wrong("inet:", "host is empty");
    is_wrong(":11211", "host is empty");
    is_wrong("inet::11211", "host is empty");
    is_wrong("unix:", "path");
    is_wrong("::1", "brackets");
    is_wrong("::1:11211", "brackets");
    is_wrong("inet:::1", "brackets");
    is_wrong("[::1", "brackets");
    is_wrong("inet6:[::1", "brackets");
    is_wrong("[]", "brackets");
    is_wrong("[]:1", "brackets");
    is_wrong("[", "brackets");
    is_wrong("inet6:[", "brackets");
    is_wrong("inet6:localhost:11211", "brackets");
    is_wrong("[[::1]]", "brackets");
    is_wrong("[::1]x", "only :port");
    is_wrong("[::1]11211", "only :port");
}

/* As libmemcached and others write it. Three parts are never an IPv6 address. */
static void a_weight_behind_the_port_is_told_where_it_goes(void)
{
    static const char *const where = "a weight stands beside it, as in (\"127.0.0.1:11211\", 1)";

    is_wrong("127.0.0.1:11211:1", where);
    is_wrong("cache.example.com:11211:50", where);
    is_wrong("inet:localhost:1:2", where);
    is_wrong("localhost:11211:1\n", where);
    is_wrong("h:1:x", where);
    is_wrong("h:1:", where);
    is_wrong("[::1]:11211:1", where);
    is_wrong("inet6:[::1]:11211:1", where);
    is_wrong("::1:1", "brackets");
    is_wrong("1::1", "brackets");
    is_wrong("1::", "brackets");
    is_wrong("1:2:3:4", "brackets");
    is_wrong("fe80:0:0:0:0:0:0:1", "brackets");
}

static void a_url_is_told_to_be_written_without_its_scheme(void)
{
    static const char *const what = "it is a URL; write host and port alone: \"127.0.0.1:11211\"";

    is_wrong("memcached://127.0.0.1:11211", what);
    is_wrong("memcached://127.0.0.1", what);
    is_wrong("memcached://user:word@host:11211/0?weight=1", what);
    is_wrong("tcp://localhost:11211", what);
    is_wrong("http://[::1]:11211", what);
    is_wrong("x://", what);
    is_wrong("inet://127.0.0.1:11211", what);
    is_wrong("inet:tcp://127.0.0.1:11211", what);
    is_wrong("inet6://[::1]:11211", what);
    is("unix:///run/m.sock", MC_FAMILY_UNIX, "///run/m.sock", 0); /* a path like any other */
    is("/", MC_FAMILY_UNIX, "/", 0);
    is("//run/m.sock", MC_FAMILY_UNIX, "//run/m.sock", 0);
    is_wrong("://h", "port");
    is_wrong("h:/", "port");
    is_wrong("h:/1", "port");
}

static void one_newline_at_the_end_is_left_out(void)
{
    is("127.0.0.1:11212\n", MC_FAMILY_INET, "127.0.0.1", 11212);
    is("localhost\n", MC_FAMILY_INET, "localhost", 11211);
    is("inet6:[::1]:11212\n", MC_FAMILY_INET6, "::1", 11212);
    is("[::1]\n", MC_FAMILY_INET6, "::1", 11211);
    is("unix:/run/m.sock\n", MC_FAMILY_UNIX, "/run/m.sock", 0);
    is("/run/m.sock\n", MC_FAMILY_UNIX, "/run/m.sock", 0);
    is_wrong("\n", "host is empty");
    is_wrong("unix:\n", "path");
    is_wrong("localhost:11211\n\n", "port");
    is_wrong("unix:/run/m.sock\n\n", "newline");
    is_wrong("/run/m\n.sock", "newline");
}

static void a_nul_is_refused_anywhere(void)
{
    static const char *const texts[] = {"localhost:11211", "unix:/run/m.sock", "[::1]:11211",
                                        "/run/m.sock"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t length = strlen(texts[i]);

        for (size_t at = 0; at < length; at++) {
            char text[32];
            mc_address address;

            memcpy(text, texts[i], length);
            text[at] = '\0';
            const char *wrong = parse(text, length, &address);
            CHECK(wrong != NULL && strstr(wrong, "NUL") != NULL);
        }
    }
}

static void a_path_must_fit_the_socket_address(void)
{
    size_t limit = sizeof((struct sockaddr_un *)0)->sun_path;
    char text[256];
    mc_address address;

    memset(text, 'p', sizeof text);
    text[0] = '/';
    CHECK(parse(text, limit - 1, &address) == NULL);
    CHECK_NUMBER(address.host.length, limit - 1);
    const char *wrong = parse(text, limit, &address);
    CHECK(wrong != NULL && strstr(wrong, "too long") != NULL);
    memcpy(text, "unix:", 5);
    CHECK(parse(text, limit + 4, &address) == NULL);
    CHECK(parse(text, limit + 5, &address) != NULL);
}

static void what_stays_on_this_machine_is_told_by_its_text(void)
{
    static const char *const local[] = {"127.0.0.1",       "127.255.255.255", "::1",
                                        "0:0:0:0:0:0:0:1", "localhost",       "LocalHost",
                                        "localhost.",      "db.localhost",    "::ffff:127.0.0.1"};
    static const char *const others[] = {
        "126.255.255.255", "128.0.0.1",         "10.0.0.1", "0.0.0.0",     "::",       "::2",
        "::ffff:10.0.0.1", "fe80::1",           "127.1",    "memcached",   "",         ".",
        "mylocalhost",     "localhost.example", "localhos", "localhost..", "1.0.0.127"};

    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        CHECK(mc_address_is_local(MC_FAMILY_INET, local[i]));
        CHECK(mc_address_is_local(MC_FAMILY_INET6, local[i]));
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK(!mc_address_is_local(MC_FAMILY_INET, others[i]));
        CHECK(!mc_address_is_local(MC_FAMILY_INET6, others[i]));
        CHECK(mc_address_is_local(MC_FAMILY_UNIX, others[i]));
    }
}

int main(void)
{
    guard = check_guard_new(256);
    PROMISE(hosts_and_ports_as_python_memcached_takes_them);
    PROMISE(the_two_forms_it_refuses_are_taken);
    PROMISE(ports_end_at_65535);
    PROMISE(what_is_no_address_is_said_plainly);
    PROMISE(a_weight_behind_the_port_is_told_where_it_goes);
    PROMISE(a_url_is_told_to_be_written_without_its_scheme);
    PROMISE(one_newline_at_the_end_is_left_out);
    PROMISE(a_nul_is_refused_anywhere);
    PROMISE(a_path_must_fit_the_socket_address);
    PROMISE(what_stays_on_this_machine_is_told_by_its_text);
    check_guard_free(guard);
    return check_result();
}
