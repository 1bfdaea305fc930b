/* network.h - addresses of peers, and networks in which they lie. IPv4 is held as IPv6 maps it. */
#pragma once

#include "protocol/base.h"

struct sockaddr; /* of the system */

typedef struct network_address {
    uint8_t bytes[16];
} network_address;

typedef struct network {
    network_address address;
    uint8_t bits; /* of address that count: 0 to 128 */
} network;

enum { NETWORK_TEXT_MAX = 46 }; /* INET6_ADDRSTRLEN: bytes of an address as text, with NUL */

/* Reads 192.0.2.0/24, 2001:db8::/32 or one address. False: it is none. */
bool network_read(const char *text, network *out);
bool network_has(const network *self, const network_address *address);
/* A name that the system gave to a socket's end. False: it is not of the Internet. */
bool network_of_socket(const struct sockaddr *name, network_address *out);
/* What is counted as one peer: an IPv4 address, or the 64 bits that an IPv6 site chooses below. */
network_address network_site(const network_address *address);
/* In any of these networks. */
bool network_has_any(const network *networks, size_t count, const network_address *address);
/* An address as people write it. */
void network_text(const network_address *address, char out[NETWORK_TEXT_MAX]);
/* Who asks, by an X-Forwarded-For that came from a proxy: the last of its addresses that is no
 * proxy's, as each proxy adds whom it was asked by; what stands before it anybody may have written.
 * False: it tells none. */
bool network_forwarded(tw_str list, const network *proxies, size_t count, network_address *out);
