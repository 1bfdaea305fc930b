/* search_aggs.h - aggregations over the documents that a search has found, one after the other.
 *
 * terms, histogram, date_histogram, stats, min, max, avg, sum, value_count, cardinality (exact),
 * filter, missing, in one another to TW_SEARCH_AGGS_DEPTH_MAX levels; others are refused by name.
 * A text field cannot be aggregated on, as its terms are no values. Pure. */
#pragma once

#include "broker/search_query.h"

typedef struct search_aggs search_aggs;

/* mappings: of each collection that is searched; the first that knows a field says its type.
 * TW_E_BAD_QUERY, TW_E_NO_MEMORY. All lives in arena. */
tw_err search_aggs_compile(tw_arena *arena, tw_bson aggs, const search_mapping *const *mappings,
                           size_t count, search_aggs **out, broker_why *why);
/* Counts a document. TW_E_TOO_COSTLY: over TW_SEARCH_BUCKETS_MAX buckets. */
tw_err search_aggs_take(search_aggs *self, tw_bson doc, tw_str id);
/* Adds a field for each aggregation, in the engine's form. */
tw_err search_aggs_write(search_aggs *self, tw_bson_builder *b);
