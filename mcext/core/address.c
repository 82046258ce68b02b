#include "address.h"

#include <string.h>
#include <sys/un.h>

#include "number.h"

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
        return "an IPv6 address must stand in brackets, as in [::1]:11211";
    }
    address->family = MC_FAMILY_INET6;
    address->host = (mc_slice){text.bytes, (size_t)(close - text.bytes)};
    address->port = MC_DEFAULT_PORT;
    mc_slice rest = {close + 1, text.length - address->host.length - 1};

    if (memchr(address->host.bytes, '[', address->host.length) != NULL) {
        return "an IPv6 address must stand in brackets, as in [::1]:11211";
    }
    if (rest.length == 0) {
        return NULL;
    }
    if (!cut_prefix(&rest, ":")) {
        return "only :port may follow an IPv6 address";
    }
    return parse_port(rest, &address->port);
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
    (void)cut_prefix(&text, "inet:");
    const char *colon = text.length ? memchr(text.bytes, ':', text.length) : NULL;

    address->family = MC_FAMILY_INET;
    address->host = text;
    address->port = MC_DEFAULT_PORT;
    if (colon != NULL) {
        mc_slice digits = {colon + 1, text.length - (size_t)(colon - text.bytes) - 1};

        address->host.length = (size_t)(colon - text.bytes);
        if (memchr(digits.bytes, ':', digits.length) != NULL) {
            return "an IPv6 address must stand in brackets, as in [::1]:11211";
        }
        const char *wrong = parse_port(digits, &address->port);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return address->host.length == 0 ? "the host is empty" : NULL;
}
