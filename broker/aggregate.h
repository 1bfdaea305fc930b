/* aggregate.h - a subset of MongoDB's aggregation pipeline, over documents given one by one.
 *
 * Stages    $match $project $sort $limit $skip $count $group; anything else is refused by its name
 * Values    "$field" and "$a.b" (the field of the document in hand), {$literal: any}, and any other
 *           scalar for itself
 * $project  {a: 1, "b.c": 1, x: "$y", _id: 0}, or fields that are left out: {a: 0}
 * $group    _id: a value, or an object of values; $sum $avg $min $max $push $addToSet $first $last
 * Meanings are MongoDB's, with these differences: a dotted path does not fan out into arrays, but
 * in $match; groups come in the order of their first document; $addToSet keeps that order.
 *
 * Pure: what it holds is bounded (TW_AGGREGATE_BYTES_MAX, then too_costly). */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

typedef struct aggregate aggregate;

/* Reads a pipeline (BSON array), which is copied. TW_E_BAD_QUERY, TW_E_BAD_FILTER,
 * TW_E_UNSUPPORTED (a stage or operator that is not offered), TW_E_TOO_MANY, with why;
 * TW_E_NO_MEMORY. Thread: any. */
tw_err aggregate_new(aggregate **out, tw_bson pipeline, broker_why *why);
void aggregate_free(aggregate **self); /* nulls; accepts NULL */

/* The filter of a leading $match, for whoever finds the documents; len 0: none. It need not be
 * applied by aggregate_add then, which goes on behind it. */
tw_bson aggregate_filter(const aggregate *self);

/* Takes the next document. *enough: no further one can change the result. */
tw_err aggregate_add(aggregate *self, tw_bson doc, bool *enough, broker_why *why);
/* There are no more documents: the result is complete. Once. */
tw_err aggregate_end(aggregate *self, broker_why *why);
/* The documents of the result; views until aggregate_free. */
size_t aggregate_count(const aggregate *self);
tw_bson aggregate_at(const aggregate *self, size_t index);
