/* update.h - update documents: what $set, $inc and their kin do to a document, as MongoDB does it.
 *
 * $set $unset $inc $mul $min $max $rename $push ($each $position $slice $sort: plain values only)
 * $addToSet ($each) $pull (value or filter) $pop $currentDate $setOnInsert (ignored: no upsert).
 * Any other is refused by name. The nine operations of the datastore become such a document, so
 * that a MongoDB server can be given the same. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

/* {"fields":{...}} form: $set of each field. [["INC","views",1], ...] form: SET INC DEC MAX MIN
 * APPEND ($push) APPEND_IF_MISSING ($addToSet) REMOVE ($pull) DELETE ($unset). TW_E_BAD_UPDATE. */
tw_err update_of_fields(tw_arena *arena, tw_bson fields, tw_bson *out, broker_why *why);
tw_err update_of_operations(tw_arena *arena, tw_bson operations, tw_bson *out, broker_why *why);
/* Applies; out is in arena. Order of the fields is kept, new ones come last. A document that would
 * pass TW_DOCUMENT_MAX or change its key field is refused. now_ms is for $currentDate. */
tw_err update_apply(tw_arena *arena, tw_bson doc, tw_bson update, tw_str key_field, uint64_t now_ms,
                    tw_bson *out, broker_why *why);
/* The same change for a MongoDB server: update without what it says of the version field, and that
 * field set to version; out is in arena. False: the two would not mean the same (a rename of the
 * version field, or nothing is left); the caller replaces the document by what update_apply made.
 * update has passed update_apply. */
bool update_for_server(tw_arena *arena, tw_bson update, tw_str version_field, int64_t version,
                       tw_bson *out);
