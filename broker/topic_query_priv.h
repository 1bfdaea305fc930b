/* topic_query_priv.h - for topic_query.c and topic_query_<part>.c alone. */
#pragma once

#include "broker/topic_query.h"

/* "r" where the whole joined filter is the rights'. */
enum { TOPIC_QUERY_WHOLE = -1 };
enum { TOPIC_QUERY_EMPTY = 5 /* bytes of {} */ };

/* Makes what streams of records are told of a part's collection. TW_E_NO_MEMORY. */
tw_err topic_query_tell_collection(const catalog *known, topic_query_part *part);
/* "srv_id":1,"seqno":5, and "last" in a transaction of several rows. */
void topic_query_add_position(tw_buf *out, const topic_change *change);
/* A document without what the part's rights hide: itself, or a copy in buf, which the caller has
 * initialised and ends. */
tw_bson topic_query_shown(const topic_query_part *part, tw_bson doc, tw_buf *buf);
/* What rights add to a part: its filter under a name, its hidden fields under another. */
void topic_query_add_hidden(tw_bson_builder *b, tw_str name, const rights_grant *grant);
/* Filters joined by $and under a name; those that are empty are left out. */
void topic_query_add_filters(tw_bson_builder *b, tw_str name, const tw_bson *filters, size_t count);
/* The collections that may be read, as parts of a canonical form: the declared ones, and others
 * that rules of the rights name. db empty: of all databases. */
tw_err topic_query_write_all(const catalog *known, const rights *rights, tw_arena *arena, tw_str db,
                             tw_bson_builder *b);
/* "any" and what limits it; db empty: of all databases. */
tw_err topic_query_write_any(const rights *rights, tw_arena *arena, tw_str default_database,
                             tw_str db, bool any, tw_bson_builder *b);
/* A document as JSON without the hidden field _content. */
void topic_query_add_document(tw_buf *out, tw_bson doc);
/* The tail of a change stream's event. */
void topic_query_render_change(const topic_query_part *part, unsigned meaning,
                               const topic_change *change, tw_buf *out);
/* The tail of a realtime database's event. */
void topic_query_render_event(const topic_query_part *part, unsigned meaning,
                              const topic_change *change, tw_buf *out);
