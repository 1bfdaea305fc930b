/* bson.h - BSON documents: reading without copies, building, keys, comparison, validation.
 *
 * BSON is the form in which documents are stored, matched and carried between actors. The iterator
 * and the builder are the project's own, because matching and rendering are its hot paths;
 * documents from outside are first validated (tw_bson_validate), so the iterator only guards
 * against running past the end.      Source  bsonspec.org, version 1.1 */
#pragma once

#include "protocol/arena.h"
#include "protocol/base.h"

enum {
    TW_BSON_DOUBLE = 0x01,
    TW_BSON_STRING = 0x02,
    TW_BSON_DOCUMENT = 0x03,
    TW_BSON_ARRAY = 0x04,
    TW_BSON_BINARY = 0x05,
    TW_BSON_UNDEFINED = 0x06,
    TW_BSON_OBJECT_ID = 0x07,
    TW_BSON_BOOL = 0x08,
    TW_BSON_DATE = 0x09,
    TW_BSON_NULL = 0x0a,
    TW_BSON_REGEX = 0x0b,
    TW_BSON_DBPOINTER = 0x0c,
    TW_BSON_CODE = 0x0d,
    TW_BSON_SYMBOL = 0x0e,
    TW_BSON_CODE_SCOPE = 0x0f,
    TW_BSON_INT32 = 0x10,
    TW_BSON_TIMESTAMP = 0x11,
    TW_BSON_INT64 = 0x12,
    TW_BSON_DECIMAL128 = 0x13,
    TW_BSON_MAX_KEY = 0x7f,
    TW_BSON_MIN_KEY = 0xff
};

/* One value inside a document; type 0 = none. The bytes are the value alone, without its name. */
typedef struct tw_bson_value {
    uint8_t type;
    const uint8_t *ptr;
    size_t len;
} tw_bson_value;

typedef struct tw_bson_iter {
    const uint8_t *at; /* the next element */
    const uint8_t *end;
    tw_str name;         /* of the current element */
    tw_bson_value value; /* of the current element */
} tw_bson_iter;

/* Walks: for (tw_bson_iter_init(&i, doc); tw_bson_iter_next(&i);) ... Damage is an end. */
void tw_bson_iter_init(tw_bson_iter *iter, tw_bson doc);
bool tw_bson_iter_next(tw_bson_iter *iter);

/* The value of a field by its plain name (no dots), or type 0. */
tw_bson_value tw_bson_get(tw_bson doc, tw_str name);
/* The same through dotted paths of documents (array indices too); arrays are not fanned out. */
tw_bson_value tw_bson_get_path(tw_bson doc, tw_str path);

/* Typed views of a value; *_or give the fallback when the value is of another type. */
tw_bson tw_bson_value_doc(tw_bson_value value);    /* document or array; len 0 otherwise */
tw_str tw_bson_value_str(tw_bson_value value);     /* string or symbol; ptr NULL otherwise */
bool tw_bson_value_is_number(tw_bson_value value); /* double, int32, int64 */
bool tw_bson_value_i64(tw_bson_value value, int64_t *out); /* any number that is whole and fits */
double tw_bson_value_double(tw_bson_value value);          /* any number; 0 otherwise */
bool tw_bson_value_bool_or(tw_bson_value value, bool fallback); /* truth of a bool or number */
tw_str tw_bson_get_str(tw_bson doc, tw_str name); /* ptr NULL when absent or not text */
int64_t tw_bson_get_i64_or(tw_bson doc, tw_str name, int64_t fallback);
bool tw_bson_get_bool_or(tw_bson doc, tw_str name, bool fallback);
tw_bson tw_bson_get_doc(tw_bson doc, tw_str name); /* document or array; len 0 otherwise */
size_t tw_bson_count(tw_bson doc);                 /* elements at the top level */

/* Order of values as MongoDB compares them: type brackets first; numbers by value across types,
 * exact for Decimal128 too, NaN below all; documents field by field (type bracket, name, value);
 * binary by length, subtype, bytes. Negative, 0, positive.
 *      Source  MongoDB manual, BSON comparison */
int tw_bson_compare(tw_bson_value a, tw_bson_value b);
/* Rank of a value's type bracket in that order: null 2, numbers 3, text 4, document 5, ... */
int tw_bson_bracket(uint8_t type);

/* ---- building: into a tw_buf; documents may be opened inside documents to TW_DEPTH_MAX ---- */
typedef struct tw_bson_builder {
    tw_buf *out;         /* borrow */
    size_t open[104];    /* offsets of the documents being built; TW_DEPTH_MAX + 4 */
    uint32_t index[104]; /* next array index of each */
    bool is_array[104];
    int depth;
} tw_bson_builder;

/* Begins a document at the end of out; tw_bson_end closes it and gives a view of it (valid
 * until out grows). Errors are in out->err. In an array the names given are ignored and indices
 * written. */
void tw_bson_begin(tw_bson_builder *b, tw_buf *out);
tw_bson tw_bson_end(tw_bson_builder *b);
void tw_bson_open_doc(tw_bson_builder *b, tw_str name);
void tw_bson_open_array(tw_bson_builder *b, tw_str name);
void tw_bson_close(tw_bson_builder *b);
void tw_bson_add_value(tw_bson_builder *b, tw_str name, tw_bson_value value);
void tw_bson_add_str(tw_bson_builder *b, tw_str name, tw_str text);
void tw_bson_add_i64(tw_bson_builder *b, tw_str name, int64_t value); /* int32 where it fits */
void tw_bson_add_double(tw_bson_builder *b, tw_str name, double value);
void tw_bson_add_bool(tw_bson_builder *b, tw_str name, bool value);
void tw_bson_add_null(tw_bson_builder *b, tw_str name);
void tw_bson_add_date(tw_bson_builder *b, tw_str name, int64_t unix_ms);
void tw_bson_add_oid(tw_bson_builder *b, tw_str name, const uint8_t oid[12]);
void tw_bson_add_bin(tw_bson_builder *b, tw_str name, uint8_t subtype, const void *p, size_t len);
/* An absent document (len 0) is added as an empty one. */
void tw_bson_add_doc(tw_bson_builder *b, tw_str name, tw_bson doc);
void tw_bson_add_array(tw_bson_builder *b, tw_str name, tw_bson array);
void tw_bson_add_key(tw_bson_builder *b, tw_str name, tw_key key);
void tw_bson_add_vector(tw_bson_builder *b, tw_str name, tw_vector vector); /* [[srv,seqno],...] */
void tw_bson_add_all(tw_bson_builder *b, tw_bson doc);                      /* each field of doc */

/* ---- keys and ids ---- */
/* The canonical key of a value: int64 for every number that is whole and fits (-0.0 is 0), one
 * form of NaN, a symbol is a string; the same inside a document, whose order of fields counts. A
 * Decimal128 that is not whole keeps its type and digits. TW_E_BAD_DOCUMENT: a type that cannot be
 * a key (array, undefined, regex, null, code), TW_E_TOO_BIG: over TW_KEY_MAX bytes. The key lives
 * in arena. */
tw_err tw_key_of_value(tw_arena *arena, tw_bson_value value, tw_key *out);
/* An id as a client spells it: {"$oid":hex} (already an ObjectId after JSON in), a bare 24-digit
 * hex string (an ObjectId first), any scalar. *also is the second reading of a hex string (the
 * string itself), len 0 where there is none. */
tw_err tw_key_of_id(tw_arena *arena, tw_bson_value id, tw_key *out, tw_key *also);
/* The value that a key stands for (a view into the key). */
tw_bson_value tw_key_value(tw_key key);
/* A new ObjectId: 4 bytes of unix seconds, 5 random, 3 counting. Thread: any. */
void tw_oid_new(uint8_t out[12]);

/* Checks raw bytes from outside: structure, lengths, UTF-8 of names and text, booleans, at most
 * depth_max levels (the outermost is one). A view of bytes. TW_E_BAD_DOCUMENT, TW_E_DEPTH,
 * TW_E_TOO_BIG (over TW_DOCUMENT_MAX); *out is then untouched. Never asserts. Thread: any. */
tw_err tw_bson_validate(const void *bytes, size_t len, int depth_max, tw_bson *out);
