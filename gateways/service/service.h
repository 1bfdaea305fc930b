/* service.h - options and class of the service gateway: other programs over nng, in msgpack.
 *
 * url       where requests are answered (REP): ipc:///path (mode 0600, peers of this user only),
 *           inproc://name, or tcp://127.0.0.1:port (loopback only, port + 1 is the feed's)
 * feed      published (PUB) at url + ".feed", for tcp at port + 1 */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

#include "gateways/auth/auth.h"

typedef struct service_options {
    const catalog *catalog;     /* borrow */
    const char *url;            /* borrow */
    size_t readers_count;       /* actors log_reader.0 .. */
    size_t mongo_readers_count; /* as gateway_options has it */
    const char *search;         /* "es_proxy" or "embedded_search"; NULL: no search engine */
    uint32_t search_ms;         /* deadline of a search that asks for no other */
    auth *auth;                 /* borrow; NULL: there is no auth, and every service may all */
    size_t running_max;         /* requests at once; 0: a default */
} service_options;

extern const tw_actor_class service_class;
