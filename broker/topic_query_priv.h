/* topic_query_priv.h - for topic_query.c and topic_query_<part>.c alone. */
#pragma once

#include "broker/topic_query.h"

/* Makes what streams of records are told of a part's collection. TW_E_NO_MEMORY. */
tw_err topic_query_tell_collection(const catalog *known, topic_query_part *part);
/* "srv_id":1,"seqno":5, and "last" in a transaction of several rows. */
void topic_query_add_position(tw_buf *out, const topic_change *change);
/* A document as JSON without the hidden field _content. */
void topic_query_add_document(tw_buf *out, tw_bson doc);
/* The tail of a change stream's event. */
void topic_query_render_change(const topic_query_part *part, unsigned meaning,
                               const topic_change *change, tw_buf *out);
/* The tail of a realtime database's event. */
void topic_query_render_event(const topic_query_part *part, unsigned meaning,
                              const topic_change *change, tw_buf *out);
