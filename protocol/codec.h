/* codec.h - messages between actors as msgpack, strictly read. Expansions of messages.h. */
#pragma once

#include "protocol/messages.h"

/* Appends [version, id, request, fields...] to out. body points to the tw_msg_<name> of id. Errors
 * are in out->err (TW_E_TOO_BIG), and out is then as before; a field beyond its bound is a bug and
 * asserts. Thread: any. */
void tw_message_encode(tw_buf *out, tw_msg_id id, uint64_t request, const void *body);

/* Reads one message: every field within its bound, counts checked against the bytes left before
 * anything is allocated, bson fields with a right outer length, nothing behind the last field.
 * Views point into bytes, lists into arena. TW_E_BAD_MESSAGE, TW_E_TOO_MANY, TW_E_NO_MEMORY; *id is
 * then TW_MSG_none, and *request what was read of it, or 0. Raw bytes never reach an assertion. */
tw_err tw_message_decode(tw_arena *arena, tw_str bytes, tw_msg_id *id, uint64_t *request,
                         tw_body *body);

const char *tw_message_name(tw_msg_id id); /* "topic_open"; "?" for an unknown one */

/* ---- maps of the service socket: msgpack map <-> BSON document ---- */
/* Strict: one map, string keys, depth and counts bounded, read to its last byte. Types: nil, bool,
 * int, float, str, bin, array, map; ext -1 (timestamp) becomes a date; {"$oid": hex} an ObjectId;
 * other Extended JSON forms what they spell. TW_E_BAD_MESSAGE, TW_E_DEPTH (over depth_max levels,
 * the map itself is the first), TW_E_TOO_BIG, TW_E_NO_MEMORY; *out is then untouched. */
tw_err tw_msgpack_to_bson(tw_arena *arena, tw_str bytes, int depth_max, tw_bson *out);
/* Appends doc as a msgpack map: ObjectId as {"$oid":hex}, date as ext -1, other rare types in their
 * Extended JSON form. Errors are in out->err. */
void tw_msgpack_from_bson(tw_buf *out, tw_bson doc);
