#include "core/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "core/wire/number.h"

static const char NEEDS_BRACKETS[] = "an IPv6 address must stand in brackets, as in [::1]:11211";

static bool cut_prefix(mc_slice *text, const char *prefix)
{
    size_t length = strlen(prefix);

    if (text->length < length || memcmp(text->bytes, prefix, length) != 0) {
        return false;
    }
    text->bytes += length;
    text->length -= length;
    return true;
}

static const char *parse_port(mc_slice digits, uint16_t *port)
{
    uint64_t number;

    if (!mc_number_parse(digits.bytes, digits.length, &number) || number > UINT16_MAX) {
        return "the port must be a number from 0 to 65535";
    }
    *port = (uint16_t)number;
    return NULL;
}

/* What follows a host. Other clients take "host:port:weight". */
static const char *parse_port_or_more(mc_slice text, uint16_t *port)
{
    const char *colon = text.length ? memchr(text.bytes, ':', text.length) : NULL;

    if (colon == NULL) {
        return parse_port(text, port);
    }
    text.length = (size_t)(colon - text.bytes);

    const char *wrong = parse_port(text, port);
    return wrong != NULL ? wrong
                         : "only host and port may stand in an address; a weight stands beside it, "
                           "as in (\"127.0.0.1:11211\", 1)";
}

/* "scheme://...": two slashes behind the first colon. */
static bool is_url(mc_slice text)
{
    const char *colon = text.length ? memchr(text.bytes, ':', text.length) : NULL;

    return colon != NULL && colon != text.bytes &&
           text.length - (size_t)(colon - text.bytes) >= 3 && memcmp(colon, "://", 3) == 0;
}

/* An IPv6 address has "::" in it or eight parts; three parts are none. */
static bool is_bare_inet6(mc_slice text)
{
    bool named = cut_prefix(&text, "inet6:");
    size_t colons = 0;

    for (size_t i = 0; i < text.length; i++) {
        if (text.bytes[i] == ':') {
            colons++;
            if (i > 0 && text.bytes[i - 1] == ':') {
                return true;
            }
        }
    }
    return colons > 2 || (named && colons > 0);
}

static const char *parse_unix(mc_slice path, mc_address *address)
{
    if (path.length == 0) {
        return "the path of a Unix socket is empty";
    }
    if (path.length >= sizeof((struct sockaddr_un *)0)->sun_path) {
        return "the path of a Unix socket is too long";
    }
    if (memchr(path.bytes, '\n', path.length) != NULL) {
        return "the path of a Unix socket holds a newline";
    }
    address->family = MC_FAMILY_UNIX;
    address->host = path;
    address->port = 0;
    return NULL;
}

static const char *parse_bracketed(mc_slice text, mc_address *address)
{
    const char *close = memchr(text.bytes, ']', text.length);

    if (close == NULL || close == text.bytes) {
        return NEEDS_BRACKETS;
    }
    address->family = MC_FAMILY_INET6;
    address->host = (mc_slice){text.bytes, (size_t)(close - text.bytes)};
    address->port = MC_DEFAULT_PORT;
    mc_slice rest = {close + 1, text.length - address->host.length - 1};

    if (memchr(address->host.bytes, '[', address->host.length) != NULL) {
        return NEEDS_BRACKETS;
    }
    if (rest.length == 0) {
        return NULL;
    }
    if (!cut_prefix(&rest, ":")) {
        return "only :port may follow an IPv6 address";
    }
    return parse_port_or_more(rest, &address->port);
}

static const char *parse_named(mc_slice text, mc_address *address)
{
    const char *colon = text.length ? memchr(text.bytes, ':', text.length) : NULL;
    const char *wrong = NULL;

    address->family = MC_FAMILY_INET;
    address->host = text;
    address->port = MC_DEFAULT_PORT;
    if (colon != NULL) {
        address->host.length = (size_t)(colon - text.bytes);
        wrong = parse_port_or_more((mc_slice){colon + 1, text.length - address->host.length - 1},
                                   &address->port);
    }
    if (wrong == NULL && address->host.length == 0) {
        wrong = "the host is empty";
    }
    return wrong;
}

const char *mc_address_parse(mc_slice text, mc_address *address)
{
    if (memchr(text.bytes, '\0', text.length) != NULL) {
        return "it holds a NUL";
    }
    if (text.length > 0 && text.bytes[text.length - 1] == '\n') {
        text.length--;
    }
    if (text.length > 0 && text.bytes[0] == '/') {
        return parse_unix(text, address);
    }
    if (cut_prefix(&text, "unix:")) {
        return parse_unix(text, address);
    }
    if (cut_prefix(&text, "inet6:[") || cut_prefix(&text, "[")) {
        return parse_bracketed(text, address);
    }
    bool url = is_url(text);

    if (cut_prefix(&text, "inet:")) {
        url = url || is_url(text);
    }
    if (url) {
        return "it is a URL; write host and port alone: \"127.0.0.1:11211\"";
    }
    if (is_bare_inet6(text)) {
        return NEEDS_BRACKETS;
    }
    return parse_named(text, address);
}

/* Whether the last name in a host name is localhost, with or without the dot of the root. */
static bool is_named_localhost(const char *host)
{
    static const char name[] = "localhost";
    const size_t size = sizeof name - 1;
    size_t length = strlen(host);

    length -= length != 0 && host[length - 1] == '.';
    return length >= size && strncasecmp(host + length - size, name, size) == 0 &&
           (length == size || host[length - size - 1] == '.');
}

bool mc_address_is_local(mc_address_family family, const char *host)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    unsigned char bytes[16];

    if (family == MC_FAMILY_UNIX || is_named_localhost(host)) {
        return true;
    }
    if (inet_pton(AF_INET, host, bytes) == 1) {
        return bytes[0] == 127;
    }
    return inet_pton(AF_INET6, host, bytes) == 1 &&
           (memcmp(bytes, &in6addr_loopback, sizeof bytes) == 0 ||
            (memcmp(bytes, mapped, sizeof mapped) == 0 && bytes[12] == 127));
}
