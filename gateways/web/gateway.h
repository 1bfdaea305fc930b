/* gateway.h - the actor through which clients come: websocket and HTTP on one port, figures and
 * health on a second one for the operator.
 *
 * Its loop is libwebsockets' (see lws_link.h). State of clients stands in streams.h, their
 * connections in connection.h, the words they speak in websocket.c and http.c. */
#pragma once

#include <stdatomic.h>

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

#include "gateways/auth/auth.h"
#include "gateways/web/network.h"
#include "gateways/web/tls_link.h"
#include "gateways/wire/bucket.h"

/* What the gateways tell others of this process: the ports that they have bound. */
typedef struct gateway_ports {
    atomic_int listen; /* 0: not yet */
    atomic_int admin;
} gateway_ports;

/* What each peer may do at most; 0: no limit. */
typedef struct gateway_limits {
    uint32_t connections; /* of all; 0: as many as descriptors allow */
    uint32_t address_connections, user_connections;
    bucket_rate accepts;                        /* of all */
    bucket_rate messages, subscribes, searches; /* of one connection */
    uint32_t searches_at_once;                  /* of one connection */
    const network *exempt;                      /* borrow; where address_connections do not count */
    size_t exempt_count;
    const network *proxies; /* borrow; whose X-Forwarded-For is believed */
    size_t proxies_count;
} gateway_limits;

/* TLS of the public listener. */
typedef struct gateway_tls {
    tls_link_options files;
    atomic_uint reloads; /* raised by who wants the files read again */
} gateway_tls;

typedef struct gateway_options {
    const catalog *catalog;     /* borrow */
    const char *listen_address; /* "127.0.0.1" */
    int listen_port;            /* 0: any; see ports */
    const gateway_tls *tls;     /* borrow; NULL: the public listener is plain */
    size_t gateways_count;      /* that listen at the same address, with this one */
    const char *admin_address;  /* NULL: no admin listener */
    int admin_port;
    const char *const *origins; /* allowed Origins; "*" allows all */
    size_t origins_count;       /* 0: same host and loopback */
    auth *auth;                 /* borrow; NULL: there is no auth, and everybody may all */
    uint64_t hello_ms;          /* time for a hello, where there is auth; 0: TW_HELLO_MS */
    size_t readers_count;       /* log_reader.0 to log_reader.N-1 */
    size_t mongo_readers_count; /* mongo_reader.0 to N-1 and mongo_writer hold the records; 0: the
                                   log does */
    const char *search;         /* "es_proxy" or "embedded_search"; NULL: no search engine */
    uint32_t search_ms;         /* deadline of a search that asks for no other */
    gateway_limits limits;
    bool demo;                 /* /demo/ is served, and / leads there */
    const char *configuration; /* JSON for /configz, without secrets; NULL: null; borrow */
    gateway_ports *ports;      /* filled in by the gateway; may be NULL */
    const char *const *actors; /* whose state /metrics tells; ends with NULL; may be NULL */
    const tw_system *system;   /* for its health; NULL: always green */
} gateway_options;

extern const tw_actor_class gateway_class;
