/* json_write.c - BSON to JSON, the hot path of rendering; see json.h. */
#include <stdlib.h>

#include <bson/bson.h>

#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

enum { NUMBER_LEN = 40, DATE_LEN = 32 };

/* Bytes that a JSON string cannot hold as they are: 1 = below 32, quote, backslash; 2 = not ASCII. */
static const uint8_t class_of[256] = {
    [0 ... 31] = 1, ['"'] = 1, ['\\'] = 1, [0x7f] = 0, [0x80 ... 0xff] = 2};

static bool has_special(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    uint64_t quote = word ^ ones * '"';
    uint64_t slash = word ^ ones * '\\';
    uint64_t low = (word - ones * 0x20) & ~word;
    return ((((quote - ones) & ~quote) | ((slash - ones) & ~slash) | low | word) & tops) != 0;
}

/* Bytes from at that need no attention, eight at a time. */
static size_t plain_run(const char *at, size_t len)
{
    size_t i = 0;
    uint64_t word;
    for (; i + 8 <= len; i += 8) {
        memcpy(&word, at + i, sizeof(word));
        if (has_special(word)) {
            break;
        }
    }
    while (i < len && class_of[(uint8_t)at[i]] == 0) {
        i++;
    }
    return i;
}

static void write_escape(tw_buf *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_form[256] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                         ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    if (short_form[c] != 0) {
        const char two[2] = {'\\', short_form[c]};
        tw_buf_add(out, two, sizeof(two));
    } else {
        const char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        tw_buf_add(out, six, sizeof(six));
    }
}

void tw_json_write_str(tw_buf *out, tw_str text)
{
    tw_buf_add_byte(out, '"');
    for (size_t i = 0; i < text.len;) {
        size_t run = plain_run(text.ptr + i, text.len - i);
        tw_buf_add(out, text.ptr + i, run);
        i += run;
        if (i == text.len) {
            break;
        }
        const uint8_t *at = (const uint8_t *)text.ptr + i;
        if (class_of[*at] == 1) {
            write_escape(out, *at);
            i++;
            continue;
        }
        size_t len = tw_utf8_len(at, text.len - i);
        tw_buf_add_str(out, len == 0 ? TW_STR("\xef\xbf\xbd") : (tw_str){(const char *)at, len});
        i += len == 0 ? 1 : len;
    }
    tw_buf_add_byte(out, '"');
}

/* The shortest of 15, 16 and 17 digits that reads back as the same number; always with a point or an
 * exponent, as libbson writes doubles. */
static void write_double(tw_buf *out, double value)
{
    char text[NUMBER_LEN];
    if (value != value) {
        tw_buf_add_str(out, TW_STR("{\"$numberDouble\":\"NaN\"}"));
        return;
    }
    if (value - value != 0) {
        tw_buf_add_str(out, value > 0 ? TW_STR("{\"$numberDouble\":\"Infinity\"}")
                                      : TW_STR("{\"$numberDouble\":\"-Infinity\"}"));
        return;
    }
    if (value >= -1e15 && value <= 1e15 && (double)(int64_t)value == value &&
        !(value == 0 && __builtin_signbit(value))) {
        tw_buf_add_i64(out, (int64_t)value);
        tw_buf_add_str(out, TW_STR(".0"));
        return;
    }
    size_t len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = tw_format(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    tw_buf_add(out, text, len);
    if (strpbrk(text, ".e") == NULL) {
        tw_buf_add_str(out, TW_STR(".0"));
    }
}

static void write_hex(tw_buf *out, const uint8_t *at, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        const char two[2] = {digits[at[i] >> 4], digits[at[i] & 15]};
        tw_buf_add(out, two, sizeof(two));
    }
}

static void write_base64(tw_buf *out, const uint8_t *at, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t bits = (uint32_t)at[i] << 16 | (left > 1 ? (uint32_t)at[i + 1] << 8 : 0) |
                        (left > 2 ? at[i + 2] : 0);
        const char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                              left > 1 ? digits[bits >> 6 & 63] : '=',
                              left > 2 ? digits[bits & 63] : '='};
        tw_buf_add(out, four, sizeof(four));
    }
}

/* Civil date of days since 1970-01-01, for years 1970 to 9999. The year begins in March, so that the
 * leap day is its last.      Source  the Gregorian calendar's 400-year cycle of 146,097 days */
static void write_date(tw_buf *out, int64_t unix_ms)
{
    if (unix_ms < 0 || unix_ms >= 253402300800000) {
        tw_buf_add_str(out, TW_STR("{\"$date\":{\"$numberLong\":\""));
        tw_buf_add_i64(out, unix_ms);
        tw_buf_add_str(out, TW_STR("\"}}"));
        return;
    }
    unsigned ms = (unsigned)(unix_ms % 1000);
    unsigned second = (unsigned)(unix_ms / 1000 % 86400);
    unsigned days = (unsigned)(unix_ms / 86400000) + 719468; /* since 0000-03-01 */
    unsigned era = days / 146097;
    unsigned day = days % 146097;
    unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    unsigned day_of_year = day - (365 * year + year / 4 - year / 100);
    unsigned month = (5 * day_of_year + 2) / 153;
    unsigned mday = day_of_year - (153 * month + 2) / 5 + 1;
    unsigned civil_month = month < 10 ? month + 3 : month - 9;
    unsigned civil_year = year + era * 400 + (civil_month <= 2 ? 1 : 0);
    char text[2 * DATE_LEN];
    size_t len = tw_format(text, sizeof(text), "{\"$date\":\"%04u-%02u-%02uT%02u:%02u:%02u",
                           civil_year, civil_month, mday, second / 3600, second / 60 % 60,
                           second % 60);
    tw_buf_add(out, text, len);
    if (ms != 0) {
        len = tw_format(text, sizeof(text), ".%03u", ms);
        tw_buf_add(out, text, len);
    }
    tw_buf_add_str(out, TW_STR("Z\"}"));
}

static int64_t int_of(tw_bson_value value)
{
    int64_t number = 0;
    memcpy(&number, value.ptr, sizeof(number));
    return number;
}

static tw_str cstring_at(const uint8_t *at)
{
    return tw_str_of((const char *)at);
}

static void write_regex(tw_buf *out, tw_bson_value value)
{
    tw_str pattern = cstring_at(value.ptr);
    tw_buf_add_str(out, TW_STR("{\"$regularExpression\":{\"pattern\":"));
    tw_json_write_str(out, pattern);
    tw_buf_add_str(out, TW_STR(",\"options\":"));
    tw_json_write_str(out, cstring_at(value.ptr + pattern.len + 1));
    tw_buf_add_str(out, TW_STR("}}"));
}

static void write_binary(tw_buf *out, tw_bson_value value)
{
    tw_buf_add_str(out, TW_STR("{\"$binary\":{\"base64\":\""));
    write_base64(out, value.ptr + 5, value.len - 5);
    tw_buf_add_str(out, TW_STR("\",\"subType\":\""));
    write_hex(out, value.ptr + 4, 1);
    tw_buf_add_str(out, TW_STR("\"}}"));
}

static void write_decimal(tw_buf *out, tw_bson_value value)
{
    bson_decimal128_t decimal;
    char text[BSON_DECIMAL128_STRING];
    memcpy(&decimal.low, value.ptr, sizeof(decimal.low));
    memcpy(&decimal.high, value.ptr + 8, sizeof(decimal.high));
    bson_decimal128_to_string(&decimal, text);
    tw_buf_add_str(out, TW_STR("{\"$numberDecimal\":\""));
    tw_buf_add_str(out, tw_str_of(text));
    tw_buf_add_str(out, TW_STR("\"}"));
}

/* A string value: 4 bytes of length, the text, a NUL. */
static tw_str counted_text(const uint8_t *at)
{
    uint32_t size;
    memcpy(&size, at, sizeof(size));
    return (tw_str){(const char *)at + 4, size == 0 ? 0 : size - 1};
}

static void write_fields(tw_buf *out, tw_bson doc, int depth);
static void write_value(tw_buf *out, tw_bson_value value, int depth);

static void write_array(tw_buf *out, tw_bson array, int depth)
{
    tw_bson_iter iter;
    bool first = true;
    tw_buf_add_byte(out, '[');
    for (tw_bson_iter_init(&iter, array); tw_bson_iter_next(&iter); first = false) {
        if (!first) {
            tw_buf_add_byte(out, ',');
        }
        write_value(out, iter.value, depth);
    }
    tw_buf_add_byte(out, ']');
}

static void write_nested(tw_buf *out, tw_bson_value value, int depth)
{
    if (depth > TW_DEPTH_MAX) {
        out->err = out->err == TW_OK ? TW_E_DEPTH : out->err;
        return;
    }
    if (value.type == TW_BSON_ARRAY) {
        write_array(out, tw_bson_value_doc(value), depth);
        return;
    }
    tw_buf_add_byte(out, '{');
    write_fields(out, tw_bson_value_doc(value), depth);
    tw_buf_add_byte(out, '}');
}

/* The types that old MongoDB servers wrote and nobody should write any more. */
static void write_rare(tw_buf *out, tw_bson_value value, int depth)
{
    switch (value.type) {
    case TW_BSON_UNDEFINED:
        tw_buf_add_str(out, TW_STR("{\"$undefined\":true}"));
        return;
    case TW_BSON_DBPOINTER: {
        tw_str name = counted_text(value.ptr);
        tw_buf_add_str(out, TW_STR("{\"$dbPointer\":{\"$ref\":"));
        tw_json_write_str(out, name);
        tw_buf_add_str(out, TW_STR(",\"$id\":{\"$oid\":\""));
        write_hex(out, value.ptr + value.len - 12, 12);
        tw_buf_add_str(out, TW_STR("\"}}}"));
        return;
    }
    case TW_BSON_CODE:
    case TW_BSON_SYMBOL:
        tw_buf_add_str(out, value.type == TW_BSON_CODE ? TW_STR("{\"$code\":")
                                                       : TW_STR("{\"$symbol\":"));
        tw_json_write_str(out, counted_text(value.ptr));
        tw_buf_add_byte(out, '}');
        return;
    case TW_BSON_CODE_SCOPE: {
        tw_str code = counted_text(value.ptr + 4);
        const uint8_t *scope = value.ptr + 8 + code.len + 1;
        tw_buf_add_str(out, TW_STR("{\"$code\":"));
        tw_json_write_str(out, code);
        tw_buf_add_str(out, TW_STR(",\"$scope\":"));
        write_nested(out,
                     (tw_bson_value){.type = TW_BSON_DOCUMENT,
                                     .ptr = scope,
                                     .len = value.len - 8 - code.len - 1},
                     depth + 1);
        tw_buf_add_byte(out, '}');
        return;
    }
    default:
        tw_buf_add_str(out, value.type == TW_BSON_MIN_KEY ? TW_STR("{\"$minKey\":1}")
                                                          : TW_STR("{\"$maxKey\":1}"));
        return;
    }
}

static void write_value(tw_buf *out, tw_bson_value value, int depth)
{
    int64_t number;
    switch (value.type) {
    case TW_BSON_STRING:
        tw_json_write_str(out, tw_bson_value_str(value));
        return;
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        (void)tw_bson_value_i64(value, &number);
        tw_buf_add_i64(out, number);
        return;
    case TW_BSON_DOUBLE:
        write_double(out, tw_bson_value_double(value));
        return;
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        write_nested(out, value, depth + 1);
        return;
    case TW_BSON_BOOL:
        tw_buf_add_str(out, *value.ptr != 0 ? TW_STR("true") : TW_STR("false"));
        return;
    case TW_BSON_NULL:
    case 0:
        tw_buf_add_str(out, TW_STR("null"));
        return;
    case TW_BSON_OBJECT_ID:
        tw_buf_add_str(out, TW_STR("{\"$oid\":\""));
        write_hex(out, value.ptr, 12);
        tw_buf_add_str(out, TW_STR("\"}"));
        return;
    case TW_BSON_DATE:
        write_date(out, int_of(value));
        return;
    case TW_BSON_TIMESTAMP:
        tw_buf_format(out, "{\"$timestamp\":{\"t\":%u,\"i\":%u}}",
                      (unsigned)((uint64_t)int_of(value) >> 32), (unsigned)int_of(value));
        return;
    case TW_BSON_BINARY:
        write_binary(out, value);
        return;
    case TW_BSON_REGEX:
        write_regex(out, value);
        return;
    case TW_BSON_DECIMAL128:
        write_decimal(out, value);
        return;
    default:
        write_rare(out, value, depth);
        return;
    }
}

static void write_fields(tw_buf *out, tw_bson doc, int depth)
{
    tw_bson_iter iter;
    bool first = true;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter); first = false) {
        if (!first) {
            tw_buf_add_byte(out, ',');
        }
        tw_json_write_str(out, iter.name);
        tw_buf_add_byte(out, ':');
        write_value(out, iter.value, depth);
    }
}

void tw_json_write(tw_buf *out, tw_bson doc)
{
    tw_buf_add_byte(out, '{');
    write_fields(out, doc, 0);
    tw_buf_add_byte(out, '}');
}

void tw_json_write_fields(tw_buf *out, tw_bson doc)
{
    write_fields(out, doc, 0);
}

void tw_json_write_value(tw_buf *out, tw_bson_value value)
{
    write_value(out, value, 0);
}

void tw_json_write_key(tw_buf *out, tw_key key)
{
    write_value(out, tw_key_value(key), 0);
}

void tw_json_write_vector(tw_buf *out, tw_vector vector)
{
    tw_buf_add_byte(out, '[');
    for (size_t i = 0; i < vector.count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("[") : TW_STR(",["));
        tw_buf_add_u64(out, vector.at[i].srv);
        tw_buf_add_byte(out, ',');
        tw_buf_add_u64(out, vector.at[i].seqno);
        tw_buf_add_byte(out, ']');
    }
    tw_buf_add_byte(out, ']');
}
