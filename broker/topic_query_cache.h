/* topic_query_cache.h - compiled topic queries, kept for the next time; the one unused for longest
 * goes.
 *
 * Pure; one owner. */
#pragma once

#include "broker/topic_query.h"

enum { TOPIC_QUERY_CACHE = 256 };

typedef struct topic_query_cache {
    struct {
        uint64_t hash;
        uint64_t used;      /* count of the last use */
        topic_query *query; /* own */
    } at[TOPIC_QUERY_CACHE];
    size_t count;
    uint64_t uses;
} topic_query_cache; /* all zero: empty */

void topic_query_cache_fini(topic_query_cache *cache);
/* The compiled form, valid until another is asked for; errors as of topic_query_compile. */
tw_err topic_query_cache_get(topic_query_cache *cache, const catalog *catalog, tw_bson canonical,
                             topic_query **out, broker_why *why);
