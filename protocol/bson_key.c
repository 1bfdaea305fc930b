/* bson_key.c - keys, ids and new ObjectIds; see bson.h. */
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>

#include "protocol/bson_priv.h"
#include "protocol/limits.h"

enum { OID_LEN = 12, OID_HEX = 24 };

/* ---- keys ---- */
static tw_err key_make(tw_arena *arena, uint8_t type, const void *bytes, size_t len, tw_key *out)
{
    if (len + 1 > TW_KEY_MAX) {
        return TW_E_TOO_BIG;
    }
    uint8_t *at = tw_arena_alloc(arena, len + 1);
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    at[0] = type;
    if (len > 0) {
        memcpy(at + 1, bytes, len);
    }
    *out = (tw_key){at, len + 1};
    return TW_OK;
}

/* The one form of a value that is no document; scratch may hold its bytes. */
static tw_bson_value canonical(tw_bson_value value, uint8_t scratch[8])
{
    int64_t whole;
    double real = tw_bson_value_double(value);
    bool is_whole = value.type == TW_BSON_DECIMAL128 ? bson_decimal_i64(value.ptr, &whole)
                                                     : tw_bson_value_i64(value, &whole);
    if (is_whole) {
        memcpy(scratch, &whole, sizeof whole);
        return (tw_bson_value){TW_BSON_INT64, scratch, sizeof whole};
    }
    if (value.type == TW_BSON_DOUBLE && real != real) {
        real = __builtin_nan(""); /* there are many */
        memcpy(scratch, &real, sizeof real);
        return (tw_bson_value){TW_BSON_DOUBLE, scratch, sizeof real};
    }
    value.type = value.type == TW_BSON_SYMBOL ? TW_BSON_STRING : value.type;
    return value;
}

/* Adds the fields of doc, each in its canonical form, to the document that is open. */
static void add_canonical(tw_bson_builder *b, tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        uint8_t scratch[8];
        if (iter.value.type == TW_BSON_DOCUMENT || iter.value.type == TW_BSON_ARRAY) {
            if (iter.value.type == TW_BSON_ARRAY) {
                tw_bson_open_array(b, iter.name);
            } else {
                tw_bson_open_doc(b, iter.name);
            }
            add_canonical(b, tw_bson_value_doc(iter.value));
            tw_bson_close(b);
        } else {
            tw_bson_add_value(b, iter.name, canonical(iter.value, scratch));
        }
    }
}

static tw_err key_of_document(tw_arena *arena, tw_bson doc, tw_key *out)
{
    tw_buf bytes;
    tw_bson_builder builder;
    if (doc.len > TW_KEY_MAX) { /* bounds the recursion too; the form is never shorter */
        return TW_E_TOO_BIG;
    }
    tw_buf_init(&bytes, 4 * (size_t)TW_KEY_MAX);
    tw_bson_begin(&builder, &bytes);
    add_canonical(&builder, doc);
    tw_bson same = tw_bson_end(&builder);
    tw_err err = bytes.err == TW_E_DEPTH ? TW_E_BAD_DOCUMENT : bytes.err;
    if (err == TW_OK) {
        err = key_make(arena, TW_BSON_DOCUMENT, same.ptr, same.len, out);
    }
    tw_buf_fini(&bytes);
    return err;
}

tw_err tw_key_of_value(tw_arena *arena, tw_bson_value value, tw_key *out)
{
    uint8_t scratch[8];
    switch (value.type) {
    case TW_BSON_DOCUMENT:
        return key_of_document(arena, tw_bson_value_doc(value), out);
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
    case TW_BSON_SYMBOL:
        value = canonical(value, scratch);
        return key_make(arena, value.type, value.ptr, value.len, out);
    case TW_BSON_STRING:
    case TW_BSON_BINARY:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_TIMESTAMP:
    case TW_BSON_MIN_KEY:
    case TW_BSON_MAX_KEY:
        return key_make(arena, value.type, value.ptr, value.len, out);
    default:
        return TW_E_BAD_DOCUMENT;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool oid_of_hex(tw_str text, uint8_t out[OID_LEN])
{
    if (text.len != OID_HEX) {
        return false;
    }
    for (size_t i = 0; i < OID_LEN; i++) {
        int high = hex_digit(text.ptr[2 * i]);
        int low = hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

tw_err tw_key_of_id(tw_arena *arena, tw_bson_value id, tw_key *out, tw_key *also)
{
    uint8_t oid[OID_LEN];
    *also = (tw_key){0};
    tw_str text = tw_bson_value_str(id);
    if (text.ptr == NULL || !oid_of_hex(text, oid)) {
        return tw_key_of_value(arena, id, out);
    }
    tw_err err = tw_key_of_value(arena, id, also);
    return err != TW_OK ? err : key_make(arena, TW_BSON_OBJECT_ID, oid, sizeof(oid), out);
}

tw_bson_value tw_key_value(tw_key key)
{
    if (key.len == 0) {
        return (tw_bson_value){0};
    }
    return (tw_bson_value){.type = key.ptr[0], .ptr = key.ptr + 1, .len = key.len - 1};
}

/* 5 bytes that no other process is likely to have, drawn once. */
static uint64_t process_bytes(void)
{
    static _Atomic uint64_t process; /* bit 63: they were drawn */
    uint64_t mine = atomic_load(&process);
    if (mine != 0) {
        return mine;
    }
    uint64_t drawn = 0;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
        drawn =
            tw_hash(&(int64_t){time(NULL)}, sizeof(int64_t), 0); /* tidy: an ObjectId holds time */
    }
    drawn |= (uint64_t)1 << 63;
    return atomic_compare_exchange_strong(&process, &mine, drawn) ? drawn : mine;
}

/* The count begins at a random number too, as the specification asks for, and is unique to the
 * process, so that two threads never make the same id.      Source  BSON ObjectId specification */
void tw_oid_new(uint8_t out[OID_LEN])
{
    static atomic_uint count;
    uint64_t process = process_bytes();
    uint32_t seconds = (uint32_t)time(NULL); /* tidy: an ObjectId holds time */
    uint32_t number = atomic_fetch_add(&count, 1) + (uint32_t)(process >> 40 & 0x7fffff);
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(seconds >> (24 - 8 * i));
    }
    memcpy(out + 4, &process, 5); /* the low five bytes */
    for (int i = 0; i < 3; i++) {
        out[9 + i] = (uint8_t)(number >> (16 - 8 * i));
    }
}
