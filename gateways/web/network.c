/* network.c - see network.h. */
#include "gateways/web/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static network_address of_ipv4(const void *bytes)
{
    network_address out;
    memcpy(out.bytes, mapped, sizeof mapped);
    memcpy(out.bytes + sizeof mapped, bytes, 4);
    return out;
}

bool network_read(const char *text, network *out)
{
    char address[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    const char *slash = strchr(text, '/');
    size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
    if (len >= sizeof address) {
        return false;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    bool four = inet_pton(AF_INET, address, bytes) == 1;
    if (!four && inet_pton(AF_INET6, address, bytes) != 1) {
        return false;
    }
    uint64_t bits = four ? 32 : 128;
    if (slash != NULL && tw_parse_u64(tw_str_of(slash + 1), bits, &bits) != TW_OK) {
        return false;
    }
    out->bits = (uint8_t)(bits + (four ? 96 : 0));
    if (four) {
        out->address = of_ipv4(bytes);
    } else {
        memcpy(out->address.bytes, bytes, sizeof bytes);
    }
    return true;
}

bool network_has(const network *self, const network_address *address)
{
    size_t whole = self->bits / 8;
    unsigned rest = self->bits % 8;
    if (memcmp(self->address.bytes, address->bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || (self->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0;
}

bool network_of_socket(const struct sockaddr *name, network_address *out)
{
    if (name->sa_family == AF_INET) {
        *out = of_ipv4(&((const struct sockaddr_in *)(const void *)name)->sin_addr);
        return true;
    }
    if (name->sa_family == AF_INET6) {
        memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)name)->sin6_addr, 16);
        return true;
    }
    return false;
}

network_address network_site(const network_address *address)
{
    network_address out = *address;
    if (memcmp(out.bytes, mapped, sizeof mapped) != 0) {
        memset(out.bytes + 8, 0, 8);
    }
    return out;
}

bool network_has_any(const network *networks, size_t count, const network_address *address)
{
    for (size_t i = 0; i < count; i++) {
        if (network_has(&networks[i], address)) {
            return true;
        }
    }
    return false;
}

void network_text(const network_address *address, char out[NETWORK_TEXT_MAX])
{
    bool four = memcmp(address->bytes, mapped, sizeof mapped) == 0;
    const uint8_t *bytes = address->bytes + (four ? sizeof mapped : 0);
    out[0] = '\0';
    (void)inet_ntop(four ? AF_INET : AF_INET6, bytes, out, NETWORK_TEXT_MAX);
}

/* One address of the list, without space, brackets and a port. */
static bool read_hop(tw_str hop, network_address *out)
{
    char text[NETWORK_TEXT_MAX];
    while (hop.len > 0 && (hop.ptr[0] == ' ' || hop.ptr[0] == '\t' || hop.ptr[0] == '[')) {
        hop = (tw_str){hop.ptr + 1, hop.len - 1};
    }
    const char *end = hop.len == 0 ? NULL : memchr(hop.ptr, ']', hop.len);
    const char *colon = hop.len == 0 ? NULL : memchr(hop.ptr, ':', hop.len);
    bool has_port = colon != NULL && memchr(hop.ptr, '.', (size_t)(colon - hop.ptr)) != NULL;
    end = end == NULL && has_port ? colon : end;
    hop.len = end == NULL ? hop.len : (size_t)(end - hop.ptr);
    while (hop.len > 0 && (hop.ptr[hop.len - 1] == ' ' || hop.ptr[hop.len - 1] == '\t')) {
        hop.len--;
    }
    network read;
    if (hop.len == 0 || hop.len >= sizeof text || memchr(hop.ptr, '/', hop.len) != NULL) {
        return false;
    }
    memcpy(text, hop.ptr, hop.len);
    text[hop.len] = '\0';
    bool good = network_read(text, &read);
    *out = good ? read.address : *out;
    return good;
}

bool network_forwarded(tw_str list, const network *proxies, size_t count, network_address *out)
{
    bool found = false;
    while (list.len > 0) {
        size_t begin = list.len;
        while (begin > 0 && list.ptr[begin - 1] != ',') {
            begin--;
        }
        if (!read_hop((tw_str){list.ptr + begin, list.len - begin}, out)) {
            return found; /* what stands before is no better */
        }
        found = true;
        if (!network_has_any(proxies, count, out)) {
            return true;
        }
        list.len = begin == 0 ? 0 : begin - 1;
    }
    return found;
}
