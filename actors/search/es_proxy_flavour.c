/* es_proxy_flavour.c - the one table of what differs between the engines, and GET / that finds the
 * row. OpenSearch names itself in version.distribution; Elasticsearch from 7.14 on sends the header
 * X-elastic-product with every answer.
 *
 * Where the rows come from: the scenarios of searching, run against servers
 * (tests/support/search.sh starts each of them): OpenSearch 2.19.1, Elasticsearch 7.10.2 OSS,
 * 7.17.29, 8.19.21 and 9.1.0. From their documentation alone: policies (lifecycle), _reindex and
 * GET / of Elasticsearch 8 and 9, and that of 7.10 the default build has points in time. */
#include "actors/runtime/log.h"

#include "actors/search/es_proxy_priv.h"

static const es_flavour flavours[] = {
    {.name = "OpenSearch 2",
     .pit = true,
     .pit_open = "/_search/point_in_time?keep_alive=",
     .pit_id = "pit_id",
     .pit_close = "/_search/point_in_time",
     .pit_list = true,
     .tie = "_id",
     .lifecycle = "index.plugins.index_state_management.policy_id"},
    {.name = "Elasticsearch 7",
     .pit = true,
     .pit_open = "/_pit?keep_alive=",
     .pit_id = "id",
     .pit_close = "/_pit",
     .tie = "_id",
     .lifecycle = "index.lifecycle.name"},
    {.name = "Elasticsearch 7 OSS, or before 7.10", .tie = "_id"},
    {.name = "Elasticsearch 8 or 9",
     .pit = true,
     .pit_open = "/_pit?keep_alive=",
     .pit_id = "id",
     .pit_close = "/_pit",
     .tie = "_shard_doc",
     .lifecycle = "index.lifecycle.name"},
};
enum { OPENSEARCH, ELASTICSEARCH_7, ELASTICSEARCH_7_OLD, ELASTICSEARCH_8_9 };

/* Points in time came with 7.10 to all but its OSS build, the last one that there was. */
static const es_flavour *flavour_of_7(tw_bson version, tw_str number)
{
    enum { FIRST_MINOR = 10 };
    unsigned minor = 0;
    for (size_t i = 2; i < number.len && number.ptr[i] >= '0' && number.ptr[i] <= '9'; i++) {
        minor = minor * 10 + (unsigned)(number.ptr[i] - '0');
    }
    bool oss = tw_str_equal(tw_bson_get_str(version, TW_STR("build_flavor")), TW_STR("oss"));
    bool has = minor > FIRST_MINOR || (minor == FIRST_MINOR && !oss);
    return &flavours[has ? ELASTICSEARCH_7 : ELASTICSEARCH_7_OLD];
}

static const es_flavour *flavour_of(const es_reply *reply)
{
    tw_bson version = tw_bson_get_doc(reply->body, TW_STR("version"));
    tw_str distribution = tw_bson_get_str(version, TW_STR("distribution"));
    tw_str number = tw_bson_get_str(version, TW_STR("number"));
    if (tw_str_equal(distribution, TW_STR("opensearch"))) {
        return &flavours[OPENSEARCH];
    }
    if (reply->status == 405 && reply->elastic) {
        return &flavours[ELASTICSEARCH_8_9]; /* a bare one has no handler for GET / */
    }
    if (number.ptr == NULL || number.len == 0) {
        return NULL;
    }
    switch (number.ptr[0]) {
    case '7':
        return flavour_of_7(version, number);
    case '8':
    case '9':
        return &flavours[ELASTICSEARCH_8_9];
    default: /* a byte of the cluster's */
        return NULL;
    }
}

void es_flavour_found(es_proxy *self, const es_reply *reply)
{
    const es_flavour *found = flavour_of(reply);
    if (found == NULL && (reply->status == 401 || reply->status == 403)) {
        tw_log(TW_LOG_ERROR, tw_actor_name(self->actor),
               "the search cluster refuses the credentials (status %d)", reply->status);
    } else if (found == NULL) {
        tw_log(TW_LOG_ERROR, tw_actor_name(self->actor),
               "what answers at %s is no engine that is known: Elasticsearch 7, 8, 9, OpenSearch 2",
               self->options->hosts[0]);
    } else if (found != self->flavour) {
        tw_bson version = tw_bson_get_doc(reply->body, TW_STR("version"));
        tw_str number = tw_bson_get_str(version, TW_STR("number"));
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "the search cluster is %s (%.*s)",
               found->name, (int)number.len, number.len == 0 ? "" : number.ptr);
        self->flavour = found;
    }
}
