/* bson_validate.c - BSON from outside: is it what the iterator may trust? See bson.h.
 *
 * Walked by hand and not by libbson's bson_validate: that one leaves names with bad UTF-8, booleans
 * that are neither 0 nor 1 and the depth unchecked; bson_fuzz.c compares the two. */
#include "protocol/bson.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

static tw_err check_doc(const uint8_t *at, size_t len, int depth);

/* A counted string: its length fits its value, its last byte is the NUL, the rest is UTF-8. */
static bool is_text(const uint8_t *at, size_t len)
{
    uint32_t size;
    if (len < 5) {
        return false;
    }
    memcpy(&size, at, sizeof(size));
    return size >= 1 && size == len - 4 && at[len - 1] == 0 &&
           tw_utf8_valid((tw_str){(const char *)at + 4, size - 1});
}

static tw_err check_code_scope(const uint8_t *at, size_t len, int depth)
{
    uint32_t size;
    memcpy(&size, at + 4, sizeof(size)); /* the iterator has seen 14 bytes at least */
    if (size > len - 8 || len - 8 - size < 5 || !is_text(at + 4, 4 + (size_t)size)) {
        return TW_E_BAD_DOCUMENT;
    }
    return check_doc(at + 8 + size, len - 8 - size, depth - 1);
}

static tw_err check_value(tw_bson_value value, int depth)
{
    bool good = true;
    switch (value.type) {
    case TW_BSON_STRING:
    case TW_BSON_CODE:
    case TW_BSON_SYMBOL:
        good = is_text(value.ptr, value.len);
        break;
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        return check_doc(value.ptr, value.len, depth - 1);
    case TW_BSON_BOOL:
        good = *value.ptr <= 1;
        break;
    case TW_BSON_DBPOINTER:
        good = is_text(value.ptr, value.len - 12);
        break;
    case TW_BSON_REGEX:
        good = tw_utf8_valid(tw_str_of((const char *)value.ptr));
        break;
    case TW_BSON_CODE_SCOPE:
        return check_code_scope(value.ptr, value.len, depth);
    default:
        break;
    }
    return good ? TW_OK : TW_E_BAD_DOCUMENT;
}

static tw_err check_doc(const uint8_t *at, size_t len, int depth)
{
    int32_t own;
    if (depth <= 0) {
        return TW_E_DEPTH;
    }
    if (len < 5) {
        return TW_E_BAD_DOCUMENT;
    }
    memcpy(&own, at, sizeof(own));
    if (own < 5 || (size_t)own != len || at[len - 1] != 0) {
        return TW_E_BAD_DOCUMENT;
    }
    tw_bson_iter iter;
    const uint8_t *read_to = at + 4;
    tw_bson_iter_init(&iter, (tw_bson){at, len});
    while (tw_bson_iter_next(&iter)) {
        tw_err err = tw_utf8_valid(iter.name) ? check_value(iter.value, depth) : TW_E_BAD_DOCUMENT;
        if (err != TW_OK) {
            return err;
        }
        read_to = iter.at;
    }
    return read_to == at + len - 1 ? TW_OK : TW_E_BAD_DOCUMENT; /* stopped before its end: damage */
}

tw_err tw_bson_validate(const void *bytes, size_t len, int depth_max, tw_bson *out)
{
    if (len > TW_DOCUMENT_MAX) {
        return TW_E_TOO_BIG;
    }
    tw_err err = check_doc(bytes, len, depth_max);
    if (err == TW_OK) {
        *out = (tw_bson){bytes, len};
    }
    return err;
}
