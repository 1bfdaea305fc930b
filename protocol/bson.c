/* bson.c - reading BSON without copies; see bson.h. */
#include "protocol/bson.h"

#include "protocol/limits.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "BSON's byte order is read as it stands");

enum { BSON_SMALLEST = 5 /* bytes: the length and the closing 0 */ };

static int32_t read_i32(const uint8_t *at)
{
    int32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static int64_t read_i64(const uint8_t *at)
{
    int64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static double read_double(const uint8_t *at)
{
    double value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* Length of a text that a NUL ends, with the NUL; 0: none within left. Most names are short: their
 * NUL is found in one word, as the lowest byte from which 1 cannot be taken without a borrow. */
static size_t cstring_size(const uint8_t *at, size_t left)
{
    if (left >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t zeros = (word - 0x0101010101010101) & ~word & 0x8080808080808080;
        if (zeros != 0) {
            return (size_t)__builtin_ctzll(zeros) / 8 + 1;
        }
    }
    const uint8_t *end = left == 0 ? NULL : memchr(at, 0, left);
    return end == NULL ? 0 : (size_t)(end - at) + 1;
}

/* Size of a value that begins with its own length; extra = bytes that the length does not count. */
static size_t counted_size(const uint8_t *at, size_t left, size_t extra, size_t least)
{
    if (left < 4) {
        return 0;
    }
    int32_t len = read_i32(at);
    if (len < 0 || (size_t)len + extra > left || (size_t)len + extra < least) {
        return 0;
    }
    return (size_t)len + extra;
}

static size_t regex_size(const uint8_t *at, size_t left)
{
    size_t pattern = cstring_size(at, left);
    size_t options = pattern == 0 ? 0 : cstring_size(at + pattern, left - pattern);
    return options == 0 ? 0 : pattern + options;
}

/* Bytes of the value; SIZE_MAX where the type is unknown or the bytes end before it. */
static size_t value_size(uint8_t type, const uint8_t *at, size_t left)
{
    size_t size = 0;
    switch (type) {
    case TW_BSON_UNDEFINED:
    case TW_BSON_NULL:
    case TW_BSON_MAX_KEY:
    case TW_BSON_MIN_KEY:
        return 0;
    case TW_BSON_BOOL:
        size = 1;
        break;
    case TW_BSON_INT32:
        size = 4;
        break;
    case TW_BSON_DOUBLE:
    case TW_BSON_DATE:
    case TW_BSON_TIMESTAMP:
    case TW_BSON_INT64:
        size = 8;
        break;
    case TW_BSON_OBJECT_ID:
        size = 12;
        break;
    case TW_BSON_DECIMAL128:
        size = 16;
        break;
    case TW_BSON_STRING:
    case TW_BSON_CODE:
    case TW_BSON_SYMBOL:
        size = counted_size(at, left, 4, 5);
        break;
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        size = counted_size(at, left, 0, BSON_SMALLEST);
        break;
    case TW_BSON_CODE_SCOPE:
        size = counted_size(at, left, 0, 14);
        break;
    case TW_BSON_BINARY:
        size = counted_size(at, left, 5, 5);
        break;
    case TW_BSON_DBPOINTER:
        size = counted_size(at, left, 16, 17);
        break;
    case TW_BSON_REGEX:
        size = regex_size(at, left);
        break;
    default:
        return SIZE_MAX;
    }
    return size == 0 || size > left ? SIZE_MAX : size;
}

void tw_bson_iter_init(tw_bson_iter *iter, tw_bson doc)
{
    *iter = (tw_bson_iter){0};
    if (doc.len >= BSON_SMALLEST) {
        iter->at = doc.ptr + 4;
        iter->end = doc.ptr + doc.len - 1; /* the closing 0 */
    }
}

bool tw_bson_iter_next(tw_bson_iter *iter)
{
    if (iter->at >= iter->end) {
        return false;
    }
    uint8_t type = *iter->at;
    const uint8_t *name = iter->at + 1;
    size_t name_size = cstring_size(name, (size_t)(iter->end - name));
    if (name_size == 0) {
        iter->at = iter->end;
        return false;
    }
    const uint8_t *value = name + name_size;
    size_t size = value_size(type, value, (size_t)(iter->end - value));
    if (size == SIZE_MAX) {
        iter->at = iter->end;
        return false;
    }
    iter->name = (tw_str){(const char *)name, name_size - 1};
    iter->value = (tw_bson_value){.type = type, .ptr = value, .len = size};
    iter->at = value + size;
    return true;
}

tw_bson_value tw_bson_get(tw_bson doc, tw_str name)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, name)) {
            return iter.value;
        }
    }
    return (tw_bson_value){0};
}

tw_bson_value tw_bson_get_path(tw_bson doc, tw_str path)
{
    for (;;) {
        const char *dot = path.len == 0 ? NULL : memchr(path.ptr, '.', path.len);
        if (dot == NULL) {
            return tw_bson_get(doc, path);
        }
        size_t len = (size_t)(dot - path.ptr);
        doc = tw_bson_value_doc(tw_bson_get(doc, (tw_str){path.ptr, len}));
        if (doc.len == 0) {
            return (tw_bson_value){0};
        }
        path = (tw_str){dot + 1, path.len - len - 1};
    }
}

tw_bson tw_bson_value_doc(tw_bson_value value)
{
    if (value.type != TW_BSON_DOCUMENT && value.type != TW_BSON_ARRAY) {
        return (tw_bson){0};
    }
    return (tw_bson){value.ptr, value.len};
}

tw_str tw_bson_value_str(tw_bson_value value)
{
    if (value.type != TW_BSON_STRING && value.type != TW_BSON_SYMBOL) {
        return (tw_str){0};
    }
    return (tw_str){(const char *)value.ptr + 4, value.len - 5};
}

bool tw_bson_value_is_number(tw_bson_value value)
{
    return value.type == TW_BSON_DOUBLE || value.type == TW_BSON_INT32 ||
           value.type == TW_BSON_INT64;
}

bool tw_bson_value_i64(tw_bson_value value, int64_t *out)
{
    switch (value.type) {
    case TW_BSON_INT32:
        *out = read_i32(value.ptr);
        return true;
    case TW_BSON_INT64:
        *out = read_i64(value.ptr);
        return true;
    case TW_BSON_DOUBLE: {
        double number = read_double(value.ptr);
        if (!(number >= -9223372036854775808.0 && number < 9223372036854775808.0)) {
            return false;
        }
        int64_t whole = (int64_t)number;
        *out = whole;
        return (double)whole == number;
    }
    default:
        return false;
    }
}

double tw_bson_value_double(tw_bson_value value)
{
    switch (value.type) {
    case TW_BSON_INT32:
        return read_i32(value.ptr);
    case TW_BSON_INT64:
        return (double)read_i64(value.ptr);
    case TW_BSON_DOUBLE:
        return read_double(value.ptr);
    default:
        return 0;
    }
}

bool tw_bson_value_bool_or(tw_bson_value value, bool fallback)
{
    if (value.type == TW_BSON_BOOL) {
        return *value.ptr != 0;
    }
    return tw_bson_value_is_number(value) ? tw_bson_value_double(value) != 0 : fallback;
}

tw_str tw_bson_get_str(tw_bson doc, tw_str name)
{
    return tw_bson_value_str(tw_bson_get(doc, name));
}

int64_t tw_bson_get_i64_or(tw_bson doc, tw_str name, int64_t fallback)
{
    int64_t number;
    return tw_bson_value_i64(tw_bson_get(doc, name), &number) ? number : fallback;
}

bool tw_bson_get_bool_or(tw_bson doc, tw_str name, bool fallback)
{
    return tw_bson_value_bool_or(tw_bson_get(doc, name), fallback);
}

tw_bson tw_bson_get_doc(tw_bson doc, tw_str name)
{
    return tw_bson_value_doc(tw_bson_get(doc, name));
}

size_t tw_bson_count(tw_bson doc)
{
    tw_bson_iter iter;
    size_t count = 0;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        count++;
    }
    return count;
}
