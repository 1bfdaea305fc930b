/* search_query.h - a query of the search language, compiled, held against documents, and turned
 * into what an index can narrow.
 *
 * Clauses: match, match_phrase, match_phrase_prefix, multi_match (best_fields, most_fields, phrase,
 * phrase_prefix), term, terms, range, exists, prefix, ids, bool, constant_score, query_string and
 * simple_query_string (Lucene's syntax: fields, quotes with ~slop, AND OR NOT && || ! + -, ranges,
 * prefix* and wild?ards, grouping, ^boost), match_all, match_none. Every other clause, and every
 * parameter that would change the meaning and is not carried out, is refused by its name. What is
 * given has passed broker/search_body.h.
 *
 * Scores are BM25 as Lucene reckons it (k1 1.2, b 0.75, lengths kept in a byte), from the figures
 * that search_query_weigh is told; without them every score is the boost. Numbers, dates, ranges,
 * prefixes and filters give a constant. Pure; never asserts on input. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

#include "broker/search_mapping.h"
#include "broker/why.h"

typedef struct search_query search_query;

/* mapping NULL: no index (live search): types are judged by the values, and text without a field
 * is looked for in all of the document. TW_E_BAD_QUERY, TW_E_TOO_COSTLY, TW_E_DEPTH with why;
 * TW_E_NO_MEMORY. query, type 0: all. *out lives in arena; so must query and mapping. */
tw_err search_query_compile(tw_arena *arena, tw_bson_value query, const search_mapping *mapping,
                            search_query **out, broker_why *why);
/* A bool query of two: both must match, the scores are the first one's. */
search_query *search_query_narrow(tw_arena *arena, search_query *query, search_query *filter);
/* score may be NULL. id: the document's, for the clause ids. Thread: any number at once. */
bool search_query_match(const search_query *query, tw_bson doc, tw_str id, double *score);

/* True where a document alone does not tell: the query asks for ids. */
bool search_query_needs_id(const search_query *query);

/* Documents with this term in this field; 0: none. */
typedef uint64_t (*search_df)(void *context, const search_field *field, tw_str term);
void search_query_weigh(search_query *query, const search_mapping *mapping, search_df df,
                        void *context);

/* ---- what an index holds of a document: terms "NUMBER\x02TERM", each ended by \x01 ---- */
/* Appends all terms of a document, counting them in the mapping's fields: by +1 or -1. */
void search_terms_add(const search_mapping *mapping, tw_bson doc, int by, tw_buf *out);
/* Calls fn for each number of a document. */
typedef void (*search_number)(void *context, uint64_t field, double value);
void search_numbers(const search_mapping *mapping, tw_bson doc, search_number fn, void *context);
/* Appends SQL that selects a superset of the rows that match, from tables terms(rowid, FTS5) and
 * number(field, value, doc); false: it would be all rows, nothing is appended. */
bool search_query_sql(const search_query *query, tw_buf *out);
/* The same for the documents that complete a beginning, in a completion field. */
void search_prefix_sql(const search_field *field, tw_str prefix, tw_buf *out);

/* ---- highlighting ---- */
/* True where a term of a field was asked for by the query. */
bool search_query_asks(const search_query *query, tw_str field, bool any_field, tw_str term);
/* True where a text fits a pattern: * any run, ? a letter, \\ before a sign that is itself. */
bool search_wild_fits(tw_str pattern, tw_str text);
