/* fuzz_address: what is taken as an address is what the forms say, no more and no less, and reads
 * the same when it is written in full. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <sys/un.h>

#include "core/net/address.h"

static bool has(const char *text, size_t size, char byte)
{
    return size != 0 && memchr(text, byte, size) != NULL;
}

static bool begins(const char *text, size_t size, const char *with)
{
    return size >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* "" or ":port" to the end. */
static bool port_follows(const char *text, size_t size, unsigned *port)
{
    *port = 11211;
    if (size == 0) {
        return true;
    }
    if (*text != ':' || !fuzz_is_number(text + 1, size - 1, "65535")) {
        return false;
    }
    *port = (unsigned)fuzz_number(text + 1, size - 1);
    return true;
}

/* The oracle: family 'i', '6' or 'u', or 0 where text is no address. */
static char expect(const char *text, size_t size, size_t *start, size_t *length, unsigned *port)
{
    *start = 0;
    *port = 0;
    if (has(text, size, '\0')) {
        return 0;
    }
    size -= size > 0 && text[size - 1] == '\n';
    if (begins(text, size, "/") || begins(text, size, "unix:")) {
        *start = *text == '/' ? 0 : 5;
        *length = size - *start;
        return *length > 0 && *length < sizeof((struct sockaddr_un *)0)->sun_path &&
                       !has(text + *start, *length, '\n')
                   ? 'u'
                   : 0;
    }
    if (begins(text, size, "inet6:[") || begins(text, size, "[")) {
        *start = *text == '[' ? 1 : 7;
        for (*length = 0; *start + *length < size; ++*length) {
            char byte = text[*start + *length];

            if (byte == '[') {
                return 0;
            }
            if (byte == ']') {
                size_t end = *start + *length + 1;

                return *length > 0 && port_follows(text + end, size - end, port) ? '6' : 0;
            }
        }
        return 0;
    }
    if (begins(text, size, "inet://")) { /* a URL; of other schemes the port is none */
        return 0;
    }
    *start = begins(text, size, "inet:") ? 5 : 0;
    for (*length = 0; *start + *length < size && text[*start + *length] != ':'; ++*length) {
    }
    size_t end = *start + *length;
    return *length > 0 && port_follows(text + end, size - end, port) ? 'i' : 0;
}

static void written_in_full(const mc_address *address)
{
    static const char *const forms[] = {"inet:%.*s:%u", "inet6:[%.*s]:%u", "unix:%.*s"};
    char text[512];
    mc_address again = {0};

    if (address->host.length > 400) {
        return;
    }
    int length = snprintf(text, sizeof text, forms[address->family], (int)address->host.length,
                          address->host.bytes, address->port);
    mc_slice slice = {fuzz_guarded(text, (size_t)length, 1), (size_t)length};
    PROMISED(mc_address_parse(slice, &again) == NULL);
    PROMISED(again.family == address->family && again.port == address->port);
    PROMISED(again.host.length == address->host.length);
    PROMISED(memcmp(again.host.bytes, address->host.bytes, again.host.length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mc_address address = {0};
    size_t start = 0, length = 0;
    unsigned port = 0;

    if (size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    mc_slice text = {fuzz_guarded(data, size, 0), size};
    const char *wrong = mc_address_parse(text, &address);
    char family = expect(text.bytes, size, &start, &length, &port);

    PROMISED((wrong == NULL) == (family != 0));
    if (wrong != NULL) {
        PROMISED(strlen(wrong) > 0);
        return 0;
    }
    PROMISED("i6u"[address.family] == family);
    PROMISED(address.host.bytes == text.bytes + start && address.host.length == length);
    PROMISED(address.port == port);
    written_in_full(&address);
    return 0;
}
