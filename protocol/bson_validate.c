/* bson_validate.c - BSON from outside: is it what the iterator and the writer may trust?
 *
 * Walked by hand and not by libbson's bson_validate: that one recurses as deep as the bytes say (1
 * MiB of open documents ends the process) and does not look at the UTF-8 of code and regular
 * expressions. bson_fuzz.c compares the two. A name that stands twice is no error here: MongoDB
 * stores such documents; the first is the one that is found. Nor are the names of array elements
 * looked at. */
#include "protocol/bson.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

static tw_err check_doc(const uint8_t *at, size_t len, int levels);

static uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* A counted text that fills len bytes: its length, UTF-8, a NUL. */
static bool is_text(const uint8_t *at, size_t len)
{
    return len >= 5 && load_u32(at) == len - 4 && at[len - 1] == 0 &&
           tw_utf8_valid((tw_str){(const char *)at + 4, len - 5});
}

/* Its own length, a counted text, a document; the iterator has seen that it has 14 bytes. */
static tw_err check_code_scope(const uint8_t *at, size_t len, int levels)
{
    size_t size = load_u32(at + 4);
    if (size > len - 8 || len - 8 - size < 5 || !is_text(at + 4, 4 + size)) {
        return TW_E_BAD_DOCUMENT;
    }
    return check_doc(at + 8 + size, len - 8 - size, levels);
}

/* Subtype 2 has its length once more, before the bytes. */
static bool is_binary(const uint8_t *at, size_t len)
{
    return at[4] != 2 || (len >= 9 && load_u32(at + 5) == len - 9);
}

static bool is_regex(const uint8_t *at)
{
    tw_str pattern = tw_str_of((const char *)at);
    return tw_utf8_valid(pattern) && tw_utf8_valid(tw_str_of(pattern.ptr + pattern.len + 1));
}

static bool check_scalar(tw_bson_value value)
{
    switch (value.type) {
    case TW_BSON_STRING:
    case TW_BSON_CODE:
    case TW_BSON_SYMBOL:
        return is_text(value.ptr, value.len);
    case TW_BSON_BOOL:
        return *value.ptr <= 1;
    case TW_BSON_DBPOINTER:
        return is_text(value.ptr, value.len - 12);
    case TW_BSON_BINARY:
        return is_binary(value.ptr, value.len);
    case TW_BSON_REGEX:
        return is_regex(value.ptr);
    default:
        return true; /* any bytes of the right number */
    }
}

/* levels: how many may stand in each other, this one counted. */
static tw_err check_doc(const uint8_t *at, size_t len, int levels)
{
    if (levels <= 0) {
        return TW_E_DEPTH;
    }
    if (len < 5 || load_u32(at) != len || at[len - 1] != 0) {
        return TW_E_BAD_DOCUMENT;
    }
    const uint8_t *end = at + len - 1;
    const uint8_t *done = at + 4;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, (tw_bson){at, len}); tw_bson_iter_next(&iter); done = iter.at) {
        tw_bson_value value = iter.value;
        tw_err err = tw_utf8_valid(iter.name) ? TW_OK : TW_E_BAD_DOCUMENT;
        if (err == TW_OK && (value.type == TW_BSON_DOCUMENT || value.type == TW_BSON_ARRAY)) {
            err = check_doc(value.ptr, value.len, levels - 1);
        } else if (err == TW_OK && value.type == TW_BSON_CODE_SCOPE) {
            err = check_code_scope(value.ptr, value.len, levels - 1);
        } else if (err == TW_OK && !check_scalar(value)) {
            err = TW_E_BAD_DOCUMENT;
        }
        if (err != TW_OK) {
            return err;
        }
    }
    return done == end ? TW_OK : TW_E_BAD_DOCUMENT; /* the iterator stops at damage */
}

tw_err tw_bson_validate(const void *bytes, size_t len, int depth_max, tw_bson *out)
{
    if (len > TW_DOCUMENT_MAX) {
        return TW_E_TOO_BIG;
    }
    int levels = depth_max < TW_DEPTH_MAX ? depth_max : TW_DEPTH_MAX;
    tw_err err = check_doc(bytes, len, levels);
    if (err == TW_OK) {
        *out = (tw_bson){bytes, len};
    }
    return err;
}
