/* topic_query_cache.c - see topic_query_cache.h. */
#include "broker/topic_query_cache.h"

void topic_query_cache_fini(topic_query_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++) {
        topic_query_free(&cache->at[i].query);
    }
    cache->count = 0;
}

tw_err topic_query_cache_get(topic_query_cache *cache, const catalog *known, tw_bson canonical,
                             topic_query **out, broker_why *why)
{
    TW_ASSERT(cache->count <= TOPIC_QUERY_CACHE);
    uint64_t hash = tw_hash(canonical.ptr, canonical.len, 6);
    size_t oldest = 0;
    for (size_t i = 0; i < cache->count; i++) {
        const topic_query *held = cache->at[i].query;
        if (cache->at[i].hash == hash && held->canonical.len == canonical.len &&
            memcmp(held->canonical.ptr, canonical.ptr, canonical.len) == 0) {
            cache->at[i].used = ++cache->uses;
            *out = cache->at[i].query;
            return TW_OK;
        }
        oldest = cache->at[i].used < cache->at[oldest].used ? i : oldest;
    }
    topic_query *made = NULL;
    tw_err err = topic_query_compile(known, canonical, &made, why);
    if (err != TW_OK) {
        return err;
    }
    if (cache->count < TOPIC_QUERY_CACHE) {
        oldest = cache->count++;
        cache->at[oldest].query = NULL;
    }
    topic_query_free(&cache->at[oldest].query);
    cache->at[oldest].hash = hash;
    cache->at[oldest].used = ++cache->uses;
    cache->at[oldest].query = made;
    *out = made;
    return TW_OK;
}
