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
