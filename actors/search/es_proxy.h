/* es_proxy.h - options and class of the actor that speaks to Elasticsearch or OpenSearch. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct es_proxy_options {
    const catalog *catalog;   /* borrow */
    const char *const *hosts; /* "http://127.0.0.1:9200"; borrow */
    size_t hosts_count;
    const char *user, *password, *api_key, *ca_file; /* NULL: none */
    const char *prefix;                              /* of the names of indices */
    size_t connections;
    int64_t shards, replicas; /* of collections that declare no others */
} es_proxy_options;

extern const tw_actor_class es_proxy_class;
