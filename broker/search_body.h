/* search_body.h - search bodies from outside, parsed and rebuilt from an allow-list.
 *
 * Nothing passes unread: a body that is rebuilt holds only clauses, parameters and aggregations of
 * the tables in search_body.c, each in its form. All else is refused by its name: scripts, runtime
 * fields, look-ups into other indices from inside a body (terms with an object, more_like_this,
 * percolate, indexed shapes), regexp, wildcard and fuzzy, joins, pit, scroll.
 *
 * Bounds: TW_SEARCH_DEPTH_MAX levels, TW_SEARCH_CLAUSES_MAX clauses, TW_SEARCH_SIZE_MAX hits,
 * TW_SEARCH_WINDOW_MAX for from + size, TW_SEARCH_BUCKETS_MAX buckets, aggregations to
 * TW_SEARCH_AGGS_DEPTH_MAX levels; a query string has at most SEARCH_STRING_TERMS terms, no regular
 * expression and no leading wildcard. Errors: TW_E_BAD_QUERY, TW_E_DEPTH, TW_E_TOO_COSTLY, each
 * with the clause's name in why. Pure; never asserts on input. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

enum { SEARCH_STRING_TERMS = 50 };

/* What a body holds beside its query. */
typedef struct search_body {
    tw_bson_value query; /* as it came, read; type 0: none */
    int64_t size, from;  /* -1: not given */
} search_body;

/* Reads the body and adds all of it but the query to a document being built. */
tw_err search_body_add(tw_bson_builder *b, tw_bson body, search_body *out, broker_why *why);
/* Adds a query under name: {"bool":...}, or text in Lucene's syntax. */
tw_err search_body_add_query(tw_bson_builder *b, tw_str name, tw_bson_value query, broker_why *why);
/* Adds "sort": a name, "name asc", a list of those, or the engine's form. */
tw_err search_body_add_sort(tw_bson_builder *b, tw_bson_value sort, broker_why *why);
