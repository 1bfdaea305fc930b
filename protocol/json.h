/* json.h - JSON text in (through libbson's reader) and out (the project's own writer).
 *
 * Out: relaxed Extended JSON v2, as libbson's bson_as_relaxed_extended_json gives it, but an order of
 * magnitude faster; numbers that are whole and beyond 2^53 follow the same rules as libbson's.
 * The two are compared over generated documents by json_test.c. */
#pragma once

#include "protocol/bson.h"

/* Appends doc as a JSON object. Errors are in out->err: TW_E_TOO_BIG, TW_E_DEPTH.
 * Thread: any; never blocks.      Source  Extended JSON v2, relaxed mode */
void tw_json_write(tw_buf *out, tw_bson doc);
/* Appends the fields only, without the braces: "a":1,"b":2 */
void tw_json_write_fields(tw_buf *out, tw_bson doc);
void tw_json_write_value(tw_buf *out, tw_bson_value value);
void tw_json_write_key(tw_buf *out, tw_key key);
/* Appends text as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
void tw_json_write_str(tw_buf *out, tw_str text);
void tw_json_write_vector(tw_buf *out, tw_vector vector);

/* Reads one JSON object (Extended JSON accepted) into BSON in arena. The depth is checked before
 * libbson sees the text. On an error *why (may be NULL) gives a short cause, view into arena.
 * TW_E_BAD_MESSAGE: not JSON, not an object, duplicate or NUL-holding names; TW_E_DEPTH: deeper than
 * depth_max; TW_E_NO_MEMORY. */
tw_err tw_json_read(tw_arena *arena, tw_str text, int depth_max, tw_bson *out, tw_str *why);
