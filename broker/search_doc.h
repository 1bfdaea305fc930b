/* search_doc.h - documents and ids as a search engine has them: plain JSON, text ids.
 *
 * A record's key becomes an id by a mapping that can be turned round: text is itself, an ObjectId
 * its 24 hex digits, a whole number its digits, all else "~j" and its Extended JSON; a text that
 * would be taken for one of those gets "~s" before it. Of a `store: search` collection the id is
 * the text itself and nothing else.
 *
 * Values an engine has no type for: a date becomes ISO 8601 text, an ObjectId its hex digits, a
 * Decimal128 text, binary base64; NaN and what is no data (code, regex, min and max key) null. The
 * key field `_id` and `_version` are the engine's own names and left out; what they say stands in
 * the object `_tw`: {"id": id, "v": version}. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

enum { SEARCH_ID_MAX = 512 }; /* bytes, of every flavour */

/* id of a key; a view into arena. TW_E_TOO_BIG: over SEARCH_ID_MAX bytes. */
tw_err search_id_of_key(tw_arena *arena, tw_key key, tw_str *out);
/* Its reverse; what no key gives is taken for text. */
tw_err search_key_of_id(tw_arena *arena, tw_str id, tw_key *out);

/* Appends a document as plain JSON. Errors are in out->err. */
void search_json(tw_buf *out, tw_bson doc);
void search_json_value(tw_buf *out, tw_bson_value value);
/* Appends a record as the engine stores it: {fields, "_tw":{...}}. */
void search_doc_write(tw_buf *out, tw_bson doc, tw_str id, int64_t version);
/* Adds the fields of a stored document to a document being built, its key first. */
void search_doc_read(tw_bson_builder *b, tw_bson source, tw_str key_field, tw_bson_value key);
