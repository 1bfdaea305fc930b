/* es_proxy_flavour.c - the one table of what differs between the engines, and GET / that finds the
 * row. OpenSearch names itself in version.distribution; Elasticsearch from 7.14 on sends the header
 * X-elastic-product with every answer; before, build_flavor tells whether it has more than the open
 * parts (points in time are not among those). */
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
     .reindex = true,
     .lifecycle = "index.plugins.index_state_management.policy_id"},
    {.name = "Elasticsearch 7",
     .pit = true,
     .pit_open = "/_pit?keep_alive=",
     .pit_id = "id",
     .pit_close = "/_pit",
     .tie = "_id",
     .reindex = true,
     .lifecycle = "index.lifecycle.name"},
    {.name = "Elasticsearch 7 OSS", .tie = "_id", .reindex = true},
    {.name = "Elasticsearch 8",
     .pit = true,
     .pit_open = "/_pit?keep_alive=",
     .pit_id = "id",
     .pit_close = "/_pit",
     .tie = "_shard_doc",
     .reindex = true,
     .lifecycle = "index.lifecycle.name"},
    {.name = "Elasticsearch 9",
     .pit = true,
     .pit_open = "/_pit?keep_alive=",
     .pit_id = "id",
     .pit_close = "/_pit",
     .tie = "_shard_doc",
     .reindex = true,
     .lifecycle = "index.lifecycle.name"},
};
enum { OPENSEARCH, ELASTICSEARCH_7, ELASTICSEARCH_7_OSS, ELASTICSEARCH_8, ELASTICSEARCH_9 };

static const es_flavour *flavour_of(const es_reply *reply)
{
    tw_bson version = tw_bson_get_doc(reply->body, TW_STR("version"));
    tw_str distribution = tw_bson_get_str(version, TW_STR("distribution"));
    tw_str number = tw_bson_get_str(version, TW_STR("number"));
    if (tw_str_equal(distribution, TW_STR("opensearch"))) {
        return &flavours[OPENSEARCH];
    }
    if (reply->status == 405 && reply->elastic) {
        return &flavours[ELASTICSEARCH_8]; /* a bare one has no handler for GET / */
    }
    if (number.ptr == NULL || number.len == 0) {
        return NULL;
    }
    bool oss = tw_str_equal(tw_bson_get_str(version, TW_STR("build_flavor")), TW_STR("oss"));
    switch (number.ptr[0]) {
    case '7':
        return &flavours[oss ? ELASTICSEARCH_7_OSS : ELASTICSEARCH_7];
    case '8':
        return &flavours[ELASTICSEARCH_8];
    case '9':
        return &flavours[ELASTICSEARCH_9];
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
