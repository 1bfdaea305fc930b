/* json.h - JSON text in and out, both by the project's own code.
 *
 * Out: relaxed Extended JSON v2 without white space, in content what libbson's
 * bson_as_relaxed_extended_json gives, at a multiple of its speed. Two differences: a double is
 * written in the fewest digits that read back as the same double (libbson writes up to 20), and a
 * date beyond the year 9999 as a number, as the specification has it.
 *
 * In: one object of JSON (RFC 8259), with the forms of Extended JSON ($oid, $date, ...). libbson's
 * reader was not fit for clients: it takes a whole number beyond int64 as another number, a name
 * that stands twice, a second document behind the first, an array in place of an object and a bare
 * NaN; it turns {"$regex":...} into a value and refuses {"$type":5}, which are query operators.
 * The two are compared over generated documents by json_test.c.
 *
 * Rules, one for each odd thing
 *   white space     before and behind the object alone; anything else behind it is refused
 *   nesting         objects and arrays, the outermost is level 1; a form is no level
 *   name twice      refused, at each level
 *   name with $     an operator, kept as it is; but an object within another that begins with the
 *                   name of a form must be that form exactly, or is refused. $regex,
 *                   $options, $type and $ref are never forms.
 *   NUL             refused in names and regular expressions, kept in strings
 *   bad UTF-8       refused in; out it becomes U+FFFD, one for each byte
 *   lone surrogate  \ud800 without its half is refused; out there is none
 *   1               int32 where it fits, then int64, beyond it the nearest double; -0 is 0
 *   1.0, 1e2        double; out with a point or an exponent, so it stays one; -0.0 stays -0.0
 *   1e999           refused; 1e-999 is 0.0
 *   2^53+1          int64, exact in and out; a client of JavaScript rounds it
 *   NaN, Infinity   {"$numberDouble":"NaN"} in and out; the bare words are no JSON, refused */
#pragma once

#include "protocol/bson.h"

/* Appends doc as a JSON object. Errors are in out->err: TW_E_TOO_BIG, TW_E_DEPTH (over TW_DEPTH_MAX
 * levels), TW_E_NO_MEMORY; out then holds what it held before. A document that is damaged ends at
 * the damage. Thread: any; never blocks.      Source  Extended JSON v2, relaxed mode */
void tw_json_write(tw_buf *out, tw_bson doc);
/* The same without the fields of this name at the top. */
void tw_json_write_without(tw_buf *out, tw_bson doc, tw_str name);
/* Appends the fields only, without the braces: "a":1,"b":2 */
void tw_json_write_fields(tw_buf *out, tw_bson doc);
void tw_json_write_value(tw_buf *out, tw_bson_value value);
void tw_json_write_key(tw_buf *out, tw_key key);
/* Appends text as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
void tw_json_write_str(tw_buf *out, tw_str text);
void tw_json_write_vector(tw_buf *out, tw_vector vector);

/* Reads one JSON object into BSON in arena. depth_max: at most TW_DEPTH_MAX. On an error *out is
 * untouched and *why (may be NULL) gives a short cause with its place, a view into arena.
 * TW_E_BAD_MESSAGE: not JSON, not an object, or refused by a rule above; TW_E_DEPTH: deeper than
 * depth_max; TW_E_TOO_BIG: over TW_DOCUMENT_MAX as BSON; TW_E_NO_MEMORY. Thread: any. */
tw_err tw_json_read(tw_arena *arena, tw_str text, int depth_max, tw_bson *out, tw_str *why);
