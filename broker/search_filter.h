/* search_filter.h - a collection's filter (broker/query.h's language) as a clause for an engine.
 *
 * Equality, $eq $ne $gt $gte $lt $lte $in $nin $exists, $and $or $nor $not; any other is refused by
 * name: what cannot be held against an index may not be left out. An engine compares exactly only
 * in fields that are not analysed; in others nothing matches, and nothing is shown. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

/* Adds the clause to an array or under a name; an empty filter adds match_all.
 * TW_E_UNSUPPORTED with why; TW_E_DEPTH. */
tw_err search_filter_add(tw_bson_builder *b, tw_str name, tw_bson filter, broker_why *why);
