/* topic_set.h - all open topics of a subscription manager, and which of them a change concerns.
 *
 * Cost grows with the topics that match, not with those that exist: per collection a hash on one
 * equality of each query (the rarest), a list of those without any; what is found is then tested by
 * the whole query. Both versions of a record are looked up, so that `left` is found too. */
#pragma once

#include "broker/topic_query.h"

typedef struct topic_set topic_set;

typedef struct topic_set_stats {
    uint64_t topics;
    uint64_t tested;  /* queries held against documents since the start */
    uint64_t matched; /* of them with a meaning */
} topic_set_stats;

tw_err topic_set_new(topic_set **out, const catalog *catalog, size_t topics_max);
void topic_set_free(topic_set **set);

/* Opens a topic or joins an equal one; gateway is remembered as a holder. TW_E_BUSY: no room,
 * TW_E_BAD_FILTER and others with why. Topic ids count up from a random start and are not
 * reused. */
tw_err topic_set_open(topic_set *set, uint64_t gateway, tw_bson canonical, uint64_t *topic,
                      broker_why *why);
/* Says which topics a gateway still holds; all others of it are left, and end without holders. */
void topic_set_keep(topic_set *set, uint64_t gateway, const uint64_t *topics, size_t count);
/* Leaves all topics of gateways that were not heard (open, keep) since before_ms. */
void topic_set_expire(topic_set *set, uint64_t before_ms);
void topic_set_clock(topic_set *set, uint64_t now_ms); /* time is data */

/* What a row means to all topics: appends to events (arena memory), each rendered once for all
 * topics of the same projection and meaning, with the topics as marks (prev = the topic's last
 * event's seqno of that origin). TW_E_NO_MEMORY. Silent rows give nothing. */
typedef struct topic_set_events {
    tw_item_event *at; /* arena */
    size_t count;
    size_t cap;
    size_t bytes; /* of tails and marks, for closing a batch */
} topic_set_events;
tw_err topic_set_apply(topic_set *set, tw_arena *arena, const tw_item_log_row *row,
                       topic_set_events *events);
/* The topics whose query names a collection (streams of records; others have no word for a message
 * that is not stored). *out and its items live in arena. TW_E_NO_MEMORY. */
tw_err topic_set_followers(topic_set *set, tw_arena *arena, tw_str db, tw_str coll,
                           tw_list_one_id *out);
topic_set_stats topic_set_figures(const topic_set *set);
