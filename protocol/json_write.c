/* json_write.c - BSON to JSON, the hot path of rendering; see json.h.
 *
 * One walk over the raw bytes. Text is looked at a block at a time while it is copied. The place of
 * the next byte goes from function to function by value, so that it stays in a register: in a
 * struct it would be stored and loaded again for each byte that is written, which might be a part
 * of it.
 *
 * Invariants
 * 1. Nothing is written without room() before it; room() leaves SLACK bytes more than it was asked.
 * 2. Memory may be larger than the buffer's max for the time of the walk, so that room can be asked
 *    for generously; the length is compared with max when memory grows and at the end.
 * 3. On an error the buffer has the bytes that it had before, and err. */
#include <bson/bson.h>

#include "protocol/json.h"
#include "protocol/json_priv.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

enum {
    SLACK = 64,         /* bytes behind what was asked for: the fixed text of any one value */
    NAME_BYTES = 32,    /* longer names are written as texts are */
    VALUE_ROOM = SLACK, /* bytes asked for before a value of fixed size */
    ELEMENT_ROOM = VALUE_ROOM + NAME_BYTES + JSON_BLOCK + 4, /* the same before a name */
    OUT_CAP_FIRST = 512,                                     /* bytes */
    DATE_YEARS_MAX = 9999 /* beyond it a date is a number, says Extended JSON */
};

static const int64_t DATE_END_MS = 253402300800000; /* year DATE_YEARS_MAX + 1 */

struct writer {
    char *end; /* of the memory */
    tw_buf *out;
    const uint8_t *limit; /* end of the memory that the document stands in */
    tw_str without;       /* name at the top that is left out; "" = none */
};

/* Where the writer stands, in what is written and in what is read. Given by value. */
struct place {
    char *at; /* NULL: an error, which out has; or damage */
    const uint8_t *from;
};

/* ---- room ---- */

/* The place of the next byte; NULL where out has no memory yet. */
static char *writer_begin(struct writer *w, tw_buf *out, const uint8_t *limit)
{
    *w = (struct writer){.out = out, .limit = limit};
    if (out->ptr == NULL || out->err != TW_OK) {
        return NULL;
    }
    w->end = out->ptr + out->cap;
    return out->ptr + out->len;
}

static void writer_end(struct writer *w, const char *at)
{
    tw_buf *out = w->out;
    size_t len = at == NULL ? out->len : (size_t)(at - out->ptr);
    if (out->err == TW_OK && len > out->max) {
        out->err = TW_E_TOO_BIG;
    }
    if (out->err == TW_OK) {
        out->len = len;
    }
}

static char *fail(struct writer *w, tw_err err)
{
    if (w->out->err == TW_OK) {
        w->out->err = err;
    }
    return NULL;
}

/* Makes room by growing the memory. */
static __attribute__((noinline)) char *grow(struct writer *w, const char *at, size_t need)
{
    tw_buf *out = w->out;
    if (out->err != TW_OK) {
        return NULL;
    }
    size_t len = at == NULL ? out->len : (size_t)(at - out->ptr);
    size_t cap = at == NULL ? 0 : (size_t)(w->end - out->ptr);
    if (len > out->max || need > SIZE_MAX / 4 - len) {
        return fail(w, TW_E_TOO_BIG);
    }
    cap = cap * 2 < OUT_CAP_FIRST ? OUT_CAP_FIRST : cap * 2;
    cap = cap < len + need ? len + need : cap;
    char *grown = tw_realloc(out->ptr, cap + 1); /* the spare byte of every tw_buf */
    if (grown == NULL) {
        return fail(w, TW_E_NO_MEMORY);
    }
    out->ptr = grown;
    out->cap = cap < out->max ? cap : out->max;
    w->end = grown + cap;
    return grown + len;
}

/* The place of the next byte, with room for more behind it; NULL: none, and out has an error. */
static inline char *room(struct writer *w, char *at, size_t more)
{
    return (size_t)(w->end - at) >= more + SLACK ? at : grow(w, at, more + SLACK);
}

/* For text of fixed length; the caller has asked for room. */
#define PUT(at, literal)                                                                           \
    do {                                                                                           \
        memcpy((at), (literal), sizeof(literal) - 1);                                              \
        (at) += sizeof(literal) - 1;                                                               \
    } while (0)

/* ---- text ---- */

static char *put_escape(char *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_form[128] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                         ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    *out++ = '\\';
    if (short_form[c] != 0) {
        *out++ = short_form[c];
        return out;
    }
    const char five[5] = {'u', '0', '0', hex[c >> 4], hex[c & 15]};
    memcpy(out, five, sizeof five);
    return out + sizeof five;
}

/* Writes what is not plain at the begin of text: one escape, or all of the bytes above ASCII until
 * the next below. *taken: the bytes of text it took. NULL: no room. */
static char *put_special(struct writer *w, char *at, const uint8_t *text, size_t len, size_t *taken)
{
    at = room(w, at, len + JSON_BLOCK);
    if (at == NULL) {
        return NULL;
    }
    if (text[0] < 0x80) {
        *taken = 1;
        return put_escape(at, text[0]);
    }
    size_t i = 0;
    while (i < len && text[i] >= 0x80) {
        size_t one = tw_utf8_len(text + i, len - i);
        if (one == 0) {
            at = room(w, at, len - i + JSON_BLOCK);
            if (at == NULL) {
                return NULL;
            }
            PUT(at, "\xef\xbf\xbd");
            i++;
            continue;
        }
        memcpy(at, text + i, one);
        at += one;
        i += one;
    }
    *taken = i;
    return at;
}

/* A function of its own, as are others below that are seldom called: inline they would take the
 * registers of the loop over the elements. */
static __attribute__((noinline)) size_t copy_last_block(char *to, const uint8_t *from, size_t left)
{
    return json_copy_plain_left(to, (const char *)from, left);
}

/* Copies one block to `to`, as much of it as lies before the limit. Returns how many of its first
 * bytes are plain. */
static inline size_t copy_block(const struct writer *w, char *to, const uint8_t *from)
{
    size_t left = (size_t)(w->limit - from);
    return left >= JSON_BLOCK ? json_copy_plain(to, (const char *)from)
                              : copy_last_block(to, from, left);
}

/* Text between quotes. Blocks are read beyond its end as long as they lie before the limit. Returns
 * the place behind it; NULL: no room. */
static char *put_text(struct writer *w, char *at, const uint8_t *text, size_t len)
{
    at = room(w, at, len + JSON_BLOCK);
    if (at == NULL) {
        return NULL;
    }
    *at++ = '"';
    for (;;) {
        size_t run = JSON_BLOCK;
        for (; len >= JSON_BLOCK; at += JSON_BLOCK, text += JSON_BLOCK, len -= JSON_BLOCK) {
            run = json_copy_plain(at, (const char *)text);
            if (run < JSON_BLOCK) {
                break;
            }
        }
        if (len < JSON_BLOCK) {
            run = len == 0 ? 0 : copy_block(w, at, text);
            if (run >= len) {
                break;
            }
        }
        size_t taken;
        at = put_special(w, at + run, text + run, len - run, &taken);
        if (at == NULL) {
            return NULL;
        }
        text += run + taken;
        len -= run + taken;
    }
    at += len;
    *at++ = '"'; /* each step above left JSON_BLOCK bytes more than the text to come */
    return at;
}

/* Text of at most a block, for which room is there. NULL: it is not plain. */
static inline char *put_short_text(struct writer *w, char *at, const uint8_t *text, size_t len)
{
    if (copy_block(w, at + 1, text) < len) {
        return NULL;
    }
    at[0] = '"';
    at[len + 1] = '"';
    return at + len + 2;
}

/* A name that is long, not plain, or has no end. */
static __attribute__((noinline)) struct place put_odd_name(struct writer *w, char *at,
                                                           const uint8_t *name, const uint8_t *end)
{
    const uint8_t *nul = name < end ? memchr(name, 0, (size_t)(end - name)) : NULL;
    at = nul == NULL ? NULL : put_text(w, at, name, (size_t)(nul - name));
    if (at == NULL) {
        return (struct place){NULL, name};
    }
    *at++ = ':';
    return (struct place){room(w, at, VALUE_ROOM), nul + 1};
}

/* "name": - the length is found while copying, as nearly all names are short and plain. Ends behind
 * the NUL; none before end is damage. The caller has asked for ELEMENT_ROOM; VALUE_ROOM is left. */
static inline struct place put_name(struct writer *w, char *at, const uint8_t *name,
                                    const uint8_t *end)
{
    size_t len = copy_block(w, at + 1, name);
    for (size_t run = len; run == JSON_BLOCK && len < NAME_BYTES && name + len < end; len += run) {
        run = copy_block(w, at + 1 + len, name + len);
    }
    if (name + len >= end || name[len] != 0) {
        return put_odd_name(w, at, name, end);
    }
    at[0] = '"';
    at += len + 1;
    PUT(at, "\":");
    return (struct place){at, name + len + 1};
}

/* ---- values of fixed size: room(VALUE_ROOM) is there ---- */

static inline char *put_i64(char *at, int64_t value)
{
    if (value < 0) {
        *at++ = '-';
    }
    return tw_digits_write(at, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static char *put_double(char *at, double value)
{
    if (value != value) {
        PUT(at, "{\"$numberDouble\":\"NaN\"}");
    } else if (value - value == 0) {
        at = json_double_write(at, value);
    } else if (value > 0) {
        PUT(at, "{\"$numberDouble\":\"Infinity\"}");
    } else {
        PUT(at, "{\"$numberDouble\":\"-Infinity\"}");
    }
    return at;
}

static inline char *put_hex(char *out, const uint8_t *at, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[at[i] >> 4];
        out[2 * i + 1] = digits[at[i] & 15];
    }
    return out + 2 * len;
}

static char *put_oid(char *at, const uint8_t *oid)
{
    PUT(at, "{\"$oid\":\"");
    at = put_hex(at, oid, 12);
    PUT(at, "\"}");
    return at;
}

static inline char *put_bool(char *at, bool value)
{
    if (value) {
        PUT(at, "true");
    } else {
        PUT(at, "false");
    }
    return at;
}

/* Two digits and what stands behind them. */
static inline char *put_pair(char *at, unsigned value, char behind)
{
    memcpy(at, tw_digit_pairs + 2 * value, 2);
    at[2] = behind;
    return at + 3;
}

/* 2020-01-31T12:00:00.5Z. The year begins in March here, so that the leap day is its last.
 *      Source  the Gregorian calendar's cycle of 400 years, which are 146,097 days */
static char *put_time(char *at, uint64_t unix_ms)
{
    unsigned ms = (unsigned)(unix_ms % 1000);
    unsigned second = (unsigned)(unix_ms / 1000 % 86400);
    unsigned days = (unsigned)(unix_ms / 86400000) + 719468; /* since 0000-03-01 */
    unsigned era = days / 146097;
    unsigned day = days % 146097;
    unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    unsigned of_year = day - (365 * year + year / 4 - year / 100);
    unsigned month = (5 * of_year + 2) / 153;
    unsigned of_month = of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    year += era * 400 + (month <= 2 ? 1 : 0);
    TW_ASSERT(year <= DATE_YEARS_MAX);
    memcpy(at, tw_digit_pairs + 2 * (year / 100), 2);
    at = put_pair(at + 2, year % 100, '-');
    at = put_pair(at, month, '-');
    at = put_pair(at, of_month, 'T');
    at = put_pair(at, second / 3600, ':');
    at = put_pair(at, second / 60 % 60, ':');
    at = put_pair(at, second % 60, '.');
    if (ms == 0) {
        at[-1] = 'Z';
        return at;
    }
    *at = (char)('0' + ms / 100);
    return put_pair(at + 1, ms % 100, 'Z');
}

static char *put_date(char *at, int64_t unix_ms)
{
    if (unix_ms >= 0 && unix_ms < DATE_END_MS) {
        PUT(at, "{\"$date\":\"");
        at = put_time(at, (uint64_t)unix_ms);
        PUT(at, "\"}");
    } else {
        PUT(at, "{\"$date\":{\"$numberLong\":\"");
        at = put_i64(at, unix_ms);
        PUT(at, "\"}}");
    }
    return at;
}

static char *put_timestamp(char *at, uint64_t both)
{
    PUT(at, "{\"$timestamp\":{\"t\":");
    at = put_i64(at, (int64_t)(both >> 32));
    PUT(at, ",\"i\":");
    at = put_i64(at, (int64_t)(both & UINT32_MAX));
    PUT(at, "}}");
    return at;
}

static char *put_decimal(struct writer *w, char *at, const uint8_t *value)
{
    bson_decimal128_t decimal;
    char text[BSON_DECIMAL128_STRING];
    memcpy(&decimal.low, value, sizeof decimal.low);
    memcpy(&decimal.high, value + 8, sizeof decimal.high);
    bson_decimal128_to_string(&decimal, text);
    size_t len = strlen(text);
    at = room(w, at, len);
    if (at == NULL) {
        return NULL;
    }
    PUT(at, "{\"$numberDecimal\":\"");
    memcpy(at, text, len);
    at += len;
    PUT(at, "\"}");
    return at;
}

/* ---- values of any size ---- */

static char *put_base64(struct writer *w, char *at, const uint8_t *from, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    at = room(w, at, len / 3 * 4 + 4);
    if (at == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < len; i += 3, at += 4) {
        size_t left = len - i;
        uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);
        at[0] = digits[bits >> 18];
        at[1] = digits[bits >> 12 & 63];
        at[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
        at[3] = left > 2 ? digits[bits & 63] : '=';
    }
    return at;
}

/* value: length, subtype, bytes. The old subtype 2 has the length once more before the bytes. */
static char *put_binary(struct writer *w, char *at, const uint8_t *value, size_t len)
{
    size_t head = value[4] == 2 && len >= 9 ? 9 : 5;
    PUT(at, "{\"$binary\":{\"base64\":\"");
    at = put_base64(w, at, value + head, len - head);
    if (at == NULL) {
        return NULL;
    }
    PUT(at, "\",\"subType\":\"");
    at = put_hex(at, value + 4, 1);
    PUT(at, "\"}}");
    return at;
}

static char *put_regex(struct writer *w, char *at, const uint8_t *value)
{
    static const char known[] = "ilmsux"; /* in this order, each once */
    size_t pattern = strlen((const char *)value);
    const char *options = (const char *)value + pattern + 1;
    PUT(at, "{\"$regularExpression\":{\"pattern\":");
    at = put_text(w, at, value, pattern);
    at = at == NULL ? NULL : room(w, at, sizeof known);
    if (at == NULL) {
        return NULL;
    }
    PUT(at, ",\"options\":\"");
    for (size_t i = 0; known[i] != '\0'; i++) {
        if (strchr(options, known[i]) != NULL) {
            *at++ = known[i];
        }
    }
    PUT(at, "\"}}");
    return at;
}

static int32_t load_i32(const uint8_t *at)
{
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static int64_t load_i64(const uint8_t *at)
{
    int64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Length of the text that a counted string holds, -1 when it does not fit into left bytes. */
static int64_t text_len(const uint8_t *at, size_t left)
{
    int64_t size = left < 5 ? 0 : load_i32(at); /* with the NUL */
    return size < 1 || (uint64_t)size > left - 4 ? -1 : size - 1;
}

static char *put_doc(struct writer *w, char *at, tw_bson doc, bool is_array, int depth);

/* {"$code":text} and, where value is the longer form, its scope. */
static char *put_code(struct writer *w, char *at, tw_bson_value value, int depth)
{
    bool has_scope = value.type == TW_BSON_CODE_SCOPE;
    const uint8_t *from = value.ptr + (has_scope ? 4 : 0);
    int64_t len = text_len(from, (size_t)(value.ptr + value.len - from));
    PUT(at, "{\"$code\":");
    at = len < 0 ? NULL : put_text(w, at, from + 4, (size_t)len);
    if (at != NULL && has_scope) {
        const uint8_t *scope = from + 5 + len;
        PUT(at, ",\"$scope\":");
        at =
            put_doc(w, at, (tw_bson){scope, (size_t)(value.ptr + value.len - scope)}, false, depth);
    }
    if (at != NULL) {
        *at++ = '}';
    }
    return at;
}

static char *put_symbol(struct writer *w, char *at, tw_bson_value value)
{
    PUT(at, "{\"$symbol\":");
    at = put_text(w, at, value.ptr + 4, value.len - 5);
    if (at != NULL) {
        *at++ = '}';
    }
    return at;
}

static char *put_dbpointer(struct writer *w, char *at, tw_bson_value value)
{
    PUT(at, "{\"$dbPointer\":{\"$ref\":");
    at = put_text(w, at, value.ptr + 4, value.len - 17);
    at = at == NULL ? NULL : room(w, at, VALUE_ROOM);
    if (at == NULL) {
        return NULL;
    }
    PUT(at, ",\"$id\":");
    at = put_oid(at, value.ptr + value.len - 12);
    PUT(at, "}}");
    return at;
}

/* All values but documents, by the views that the iterator gives. NULL: no room. */
static char *put_value(struct writer *w, char *at, tw_bson_value value, int depth)
{
    at = room(w, at, VALUE_ROOM);
    if (at == NULL) {
        return NULL;
    }
    switch (value.type) {
    case 0:
    case TW_BSON_NULL:
        PUT(at, "null");
        return at;
    case TW_BSON_STRING:
        return put_text(w, at, value.ptr + 4, value.len - 5);
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        return put_doc(w, at, tw_bson_value_doc(value), value.type == TW_BSON_ARRAY, depth + 1);
    case TW_BSON_INT32:
        return put_i64(at, load_i32(value.ptr));
    case TW_BSON_INT64:
        return put_i64(at, load_i64(value.ptr));
    case TW_BSON_DOUBLE:
        return put_double(at, tw_bson_value_double(value));
    case TW_BSON_BOOL:
        return put_bool(at, *value.ptr != 0);
    case TW_BSON_OBJECT_ID:
        return put_oid(at, value.ptr);
    case TW_BSON_DATE:
        return put_date(at, load_i64(value.ptr));
    case TW_BSON_TIMESTAMP:
        return put_timestamp(at, (uint64_t)load_i64(value.ptr));
    case TW_BSON_DECIMAL128:
        return put_decimal(w, at, value.ptr);
    case TW_BSON_BINARY:
        return put_binary(w, at, value.ptr, value.len);
    case TW_BSON_REGEX:
        return put_regex(w, at, value.ptr);
    case TW_BSON_CODE:
    case TW_BSON_CODE_SCOPE:
        return put_code(w, at, value, depth + 1);
    case TW_BSON_SYMBOL:
        return put_symbol(w, at, value);
    case TW_BSON_DBPOINTER:
        return put_dbpointer(w, at, value);
    case TW_BSON_UNDEFINED:
        PUT(at, "{\"$undefined\":true}");
        return at;
    case TW_BSON_MIN_KEY:
        PUT(at, "{\"$minKey\":1}");
        return at;
    default:
        PUT(at, "{\"$maxKey\":1}");
        return at;
    }
}

/* ---- documents ---- */

/* Bytes of the common values of fixed size, in the order of their types; 0: another type. */
static const uint8_t fixed_sizes[256] = {
    [TW_BSON_DOUBLE] = 8, [TW_BSON_OBJECT_ID] = 12, [TW_BSON_BOOL] = 1,
    [TW_BSON_DATE] = 8,   [TW_BSON_INT32] = 4,      [TW_BSON_INT64] = 8};

static inline char *put_fixed(char *at, uint8_t type, const uint8_t *value)
{
    double real;
    switch (type) {
    case TW_BSON_DOUBLE:
        memcpy(&real, value, sizeof real);
        return put_double(at, real);
    case TW_BSON_OBJECT_ID:
        return put_oid(at, value);
    case TW_BSON_BOOL:
        return put_bool(at, *value != 0);
    case TW_BSON_DATE:
        return put_date(at, load_i64(value));
    case TW_BSON_INT32:
        return put_i64(at, load_i32(value));
    default:
        return put_i64(at, load_i64(value));
    }
}

/* The values of nearly all documents, read where they stand: no view is made and no type looked up
 * twice. Ends behind the value; also where at is NULL and out has no error: another type, or
 * damage. */
static inline struct place put_common(struct writer *w, char *at, uint8_t type,
                                      const uint8_t *value, const uint8_t *end, int depth)
{
    size_t left = (size_t)(end - value);
    size_t fixed = fixed_sizes[type];
    if (fixed != 0 && fixed <= left) {
        return (struct place){put_fixed(at, type, value), value + fixed};
    }
    int64_t len = type == TW_BSON_STRING ? text_len(value, left) : -1;
    if (len >= 0) {
        char *next = len <= JSON_BLOCK ? put_short_text(w, at, value + 4, (size_t)len) : NULL;
        next = next != NULL ? next : put_text(w, at, value + 4, (size_t)len);
        return (struct place){next, value + len + 5};
    }
    if ((type == TW_BSON_DOCUMENT || type == TW_BSON_ARRAY) && left >= 5) {
        len = load_i32(value);
        bool is_inside = len >= 5 && (uint64_t)len <= left;
        tw_bson doc = {value, (size_t)len};
        at = is_inside ? put_doc(w, at, doc, type == TW_BSON_ARRAY, depth + 1) : NULL;
        return (struct place){at, value + len};
    }
    if (type == TW_BSON_NULL) {
        PUT(at, "null");
        return (struct place){at, value};
    }
    return (struct place){NULL, value};
}

/* Behind an array's index, which is mostly of a digit or two. NULL: no end of it. */
static inline const uint8_t *skip_name(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at != 0) {
        at++;
    }
    return at < end ? at + 1 : NULL;
}

/* An element whose name is written and whose value is none of the common ones. */
static __attribute__((noinline)) struct place put_rare(struct writer *w, char *at,
                                                       const uint8_t *element, const uint8_t *end,
                                                       int depth)
{
    tw_bson_iter iter = {.at = element, .end = end};
    at = tw_bson_iter_next(&iter) ? put_value(w, at, iter.value, depth) : NULL;
    return (struct place){at, iter.at};
}

/* One element: name, value. Ends behind it. */
static inline __attribute__((always_inline)) struct place put_element(struct writer *w, char *at,
                                                                      const uint8_t *element,
                                                                      const uint8_t *end,
                                                                      bool is_array, int depth)
{
    struct place place = {room(w, at, ELEMENT_ROOM), element + 1};
    if (place.at == NULL) {
        return place;
    }
    if (is_array) {
        place.from = skip_name(place.from, end);
        place.at = place.from == NULL ? NULL : place.at;
    } else {
        place = put_name(w, place.at, place.from, end);
    }
    if (place.at == NULL) {
        return place;
    }
    struct place next = put_common(w, place.at, *element, place.from, end, depth);
    return next.at != NULL || w->out->err != TW_OK ? next
                                                   : put_rare(w, place.at, element, end, depth);
}

/* The place behind the element if its name, which begins as one that is to be left out, is that
 * one; NULL: it is another. */
static __attribute__((noinline)) const uint8_t *skip_left_out(const struct writer *w,
                                                              const uint8_t *element,
                                                              const uint8_t *end)
{
    size_t len = w->without.len;
    if ((size_t)(end - element) <= len + 1 || element[len + 1] != 0 ||
        memcmp(element + 1, w->without.ptr, len) != 0) {
        return NULL;
    }
    tw_bson_iter iter = {.at = element, .end = end};
    return tw_bson_iter_next(&iter) ? iter.at : end; /* damage: the document ends here */
}

/* The elements of doc with a comma behind each; the caller takes the last one back. */
static char *put_elements(struct writer *w, char *at, tw_bson doc, bool is_array, int depth)
{
    const uint8_t *end = doc.ptr + doc.len - 1; /* the closing 0 */
    const bool leaves_out = depth == 1 && w->without.len > 0;
    const int first = leaves_out ? (uint8_t)w->without.ptr[0] : -1; /* of its name */
    const int second = leaves_out && w->without.len > 1 ? (uint8_t)w->without.ptr[1] : 0;
    struct place place = {at, doc.ptr + 4};
    while (place.from < end) {
        bool begins_so = place.from[1] == first && place.from[2] == second;
        const uint8_t *skipped = begins_so ? skip_left_out(w, place.from, end) : NULL;
        if (skipped != NULL) {
            place.from = skipped;
            continue;
        }
        size_t mark = (size_t)(place.at - w->out->ptr);
        place = put_element(w, place.at, place.from, end, is_array, depth);
        if (place.at == NULL) { /* damage: the document ends here */
            return w->out->err == TW_OK ? w->out->ptr + mark : NULL;
        }
        *place.at++ = ','; /* of the room behind the value */
    }
    return place.at;
}

static char *put_doc(struct writer *w, char *at, tw_bson doc, bool is_array, int depth)
{
    if (depth > TW_DEPTH_MAX) {
        return fail(w, TW_E_DEPTH);
    }
    at = room(w, at, 2);
    if (at == NULL) {
        return NULL;
    }
    *at++ = is_array ? '[' : '{';
    size_t begin = (size_t)(at - w->out->ptr);
    at = doc.len < 5 ? at : put_elements(w, at, doc, is_array, depth);
    if (at == NULL) {
        return NULL;
    }
    at -= at > w->out->ptr + begin ? 1 : 0; /* the last comma */
    *at++ = is_array ? ']' : '}';
    return room(w, at, 1);
}

/* ---- for all ---- */

/* The place behind len bytes, also where there are none. */
static const uint8_t *behind(const void *ptr, size_t len)
{
    return len == 0 ? ptr : (const uint8_t *)ptr + len;
}

void tw_json_write(tw_buf *out, tw_bson doc)
{
    struct writer w;
    char *at = writer_begin(&w, out, behind(doc.ptr, doc.len));
    writer_end(&w, put_doc(&w, at, doc, false, 1));
}

void tw_json_write_without(tw_buf *out, tw_bson doc, tw_str name)
{
    struct writer w;
    char *at = writer_begin(&w, out, behind(doc.ptr, doc.len));
    w.without = name;
    writer_end(&w, put_doc(&w, at, doc, false, 1));
}

void tw_json_write_fields(tw_buf *out, tw_bson doc)
{
    struct writer w;
    char *at = writer_begin(&w, out, behind(doc.ptr, doc.len));
    at = doc.len < 5 ? at : room(&w, at, 1);
    if (doc.len >= 5 && at != NULL) {
        size_t begin = (size_t)(at - out->ptr);
        at = put_elements(&w, at, doc, false, 1);
        at -= at != NULL && at > out->ptr + begin ? 1 : 0; /* the last comma */
    }
    writer_end(&w, at);
}

void tw_json_write_value(tw_buf *out, tw_bson_value value)
{
    struct writer w;
    char *at = writer_begin(&w, out, behind(value.ptr, value.len));
    writer_end(&w, put_value(&w, at, value, 0));
}

void tw_json_write_key(tw_buf *out, tw_key key)
{
    tw_bson_value value = tw_key_value(key);
    if (value.type == TW_BSON_INT64) { /* as all whole numbers are in a key */
        tw_buf_add_i64(out, load_i64(value.ptr));
    } else {
        tw_json_write_value(out, value);
    }
}

void tw_json_write_str(tw_buf *out, tw_str text)
{
    struct writer w;
    char *at = writer_begin(&w, out, behind(text.ptr, text.len));
    writer_end(&w, put_text(&w, at, (const uint8_t *)text.ptr, text.len));
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
