/* query.h - the filter language: compile once, match documents without allocation.
 *
 * A subset of MongoDB's with its semantics (arrays fan out on equality and comparison, missing
 * equals
 * null, comparison within a type bracket): implicit equality, $eq $ne $gt $gte $lt $lte $in $nin
 * $exists $type $size $all $elemMatch $and $or $nor $not $regex ($options i m s x). Any other $ key
 * is refused by name, with the path to it. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

typedef struct query query;

/* Compiles a filter; len 0 or {} matches everything. TW_E_BAD_FILTER with why; TW_E_NO_MEMORY.
 * *out is the caller's, query_free ends it. Thread: any. */
tw_err query_compile(tw_bson filter, query **out, broker_why *why);
/* The same with twice the bounds, for a filter that the server joined from several. */
tw_err query_compile_joined(tw_bson filter, query **out, broker_why *why);
void query_free(query **query);
/* True when the document matches. A $regex out of steps counts as no match and is counted in
 * query_costly. Thread: any number at once. */
bool query_match(const query *query, tw_bson doc);
bool query_matches_all(const query *query);
uint64_t query_costly(const query *query);

/* An equality that every matching document fulfils, for indexes: path and key of the value (scalars
 * only; the document's value at path, or an element of the array there, must equal it). Index 0,
 * 1, ...;
 * false when there is no further one. */
typedef struct query_equality {
    tw_str path;  /* view into the query */
    tw_key value; /* view into the query */
} query_equality;
bool query_equality_at(const query *query, size_t index, query_equality *out);
