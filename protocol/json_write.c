/* json_write.c - BSON to JSON, the hot path of rendering; see json.h.
 *
 * One walk over the raw bytes. Text is looked at a block at a time while it is copied. The writer
 * keeps its own place in the buffer's memory and hands it back at the end:
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
    SLACK = 64,           /* bytes behind what was asked for: the fixed text of any one value */
    OUT_CAP_FIRST = 512,  /* bytes */
    DATE_YEARS_MAX = 9999 /* beyond it a date is a number, says Extended JSON */
};

static const int64_t DATE_END_MS = 253402300800000; /* year DATE_YEARS_MAX + 1 */

struct writer {
    char *at;  /* the next byte; NULL where out has no memory yet */
    char *end; /* of the memory */
    tw_buf *out;
    const uint8_t *limit; /* end of the memory that the document stands in */
    tw_str without;       /* name at the top that is left out; "" = none */
};

/* ---- room ---- */

static void writer_begin(struct writer *w, tw_buf *out, const uint8_t *limit)
{
    *w = (struct writer){.out = out, .limit = limit};
    if (out->ptr != NULL && out->err == TW_OK) {
        w->at = out->ptr + out->len;
        w->end = out->ptr + out->cap;
    }
}

static void writer_end(struct writer *w)
{
    tw_buf *out = w->out;
    size_t len = w->at == NULL ? 0 : (size_t)(w->at - out->ptr);
    if (out->err == TW_OK && len > out->max) {
        out->err = TW_E_TOO_BIG;
    }
    if (out->err == TW_OK) {
        out->len = len;
    }
}

static bool fail(struct writer *w, tw_err err)
{
    if (w->out->err == TW_OK) {
        w->out->err = err;
    }
    w->end = w->at; /* no room any more */
    return false;
}

/* Makes room by growing the memory. */
static __attribute__((noinline)) bool grow(struct writer *w, size_t need)
{
    tw_buf *out = w->out;
    if (out->err != TW_OK) {
        return false;
    }
    size_t len = w->at == NULL ? out->len : (size_t)(w->at - out->ptr);
    size_t cap = w->at == NULL ? 0 : (size_t)(w->end - out->ptr);
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
    w->at = grown + len;
    w->end = grown + cap;
    return true;
}

static inline bool room(struct writer *w, size_t more)
{
    return (size_t)(w->end - w->at) >= more + SLACK || grow(w, more + SLACK);
}

/* For text of fixed length; the caller has asked for room. */
#define PUT(w, literal)                                                                            \
    do {                                                                                           \
        memcpy((w)->at, (literal), sizeof(literal) - 1);                                           \
        (w)->at += sizeof(literal) - 1;                                                            \
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
 * the next below. Returns the bytes of text it took; 0 = no room. */
static size_t put_special(struct writer *w, const uint8_t *text, size_t len)
{
    if (!room(w, len + JSON_BLOCK)) {
        return 0;
    }
    if (text[0] < 0x80) {
        w->at = put_escape(w->at, text[0]);
        return 1;
    }
    size_t i = 0;
    while (i < len && text[i] >= 0x80) {
        size_t one = tw_utf8_len(text + i, len - i);
        if (one == 0) {
            if (!room(w, len - i + JSON_BLOCK)) {
                return 0;
            }
            PUT(w, "\xef\xbf\xbd");
            i++;
            continue;
        }
        memcpy(w->at, text + i, one);
        w->at += one;
        i += one;
    }
    return i;
}

/* Text between quotes. Blocks are read beyond its end as long as they lie before the limit. */
static bool put_text(struct writer *w, const uint8_t *text, size_t len)
{
    if (!room(w, len + JSON_BLOCK)) {
        return false;
    }
    *w->at++ = '"';
    while (len > 0) {
        size_t run = 0;
        if (w->limit - text >= JSON_BLOCK) {
            run = json_copy_plain(w->at, (const char *)text);
            run = run < len ? run : len;
        } else {
            while (run < len && json_is_plain((char)text[run])) {
                w->at[run] = (char)text[run];
                run++;
            }
        }
        w->at += run;
        text += run;
        len -= run;
        if (run < JSON_BLOCK && len > 0) {
            size_t taken = put_special(w, text, len);
            if (taken == 0) {
                return false;
            }
            text += taken;
            len -= taken;
        }
    }
    *w->at++ = '"'; /* each step above left JSON_BLOCK bytes more than the text to come */
    return true;
}

/* "name": - the length is found while copying, as nearly all names are short and plain. Returns the
 * place behind the NUL; NULL: no NUL before end, or no room. */
static const uint8_t *put_name(struct writer *w, const uint8_t *name, const uint8_t *end)
{
    const uint8_t *at = name;
    size_t mark = (size_t)(w->at - w->out->ptr);
    *w->at++ = '"';
    while (w->limit - at >= JSON_BLOCK) {
        size_t run = json_copy_plain(w->at, (const char *)at);
        w->at += run;
        at += run;
        if (run < JSON_BLOCK || !room(w, JSON_BLOCK)) {
            break;
        }
    }
    if (at >= end || *at != 0) { /* odd, or near the end of memory: the slow way */
        const uint8_t *nul = memchr(name, 0, (size_t)(end - name));
        w->at = w->out->ptr + mark;
        if (nul == NULL || !put_text(w, name, (size_t)(nul - name))) {
            return NULL;
        }
        *w->at++ = ':';
        return nul + 1;
    }
    PUT(w, "\":");
    return at + 1;
}

/* ---- values of fixed size: room(SLACK) is there ---- */

static void put_i64(struct writer *w, int64_t value)
{
    if (value < 0) {
        *w->at++ = '-';
    }
    w->at = json_u64_write(w->at, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static void put_double(struct writer *w, double value)
{
    if (value != value) {
        PUT(w, "{\"$numberDouble\":\"NaN\"}");
    } else if (value - value == 0) {
        w->at = json_double_write(w->at, value);
    } else if (value > 0) {
        PUT(w, "{\"$numberDouble\":\"Infinity\"}");
    } else {
        PUT(w, "{\"$numberDouble\":\"-Infinity\"}");
    }
}

static void put_hex(struct writer *w, const uint8_t *at, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        w->at[2 * i] = digits[at[i] >> 4];
        w->at[2 * i + 1] = digits[at[i] & 15];
    }
    w->at += 2 * len;
}

static void put_oid(struct writer *w, const uint8_t *oid)
{
    PUT(w, "{\"$oid\":\"");
    put_hex(w, oid, 12);
    PUT(w, "\"}");
}

static void put_bool(struct writer *w, bool value)
{
    if (value) {
        PUT(w, "true");
    } else {
        PUT(w, "false");
    }
}

/* Two digits and what stands behind them. */
static inline void put_pair(struct writer *w, unsigned value, char behind)
{
    memcpy(w->at, json_pairs + 2 * value, 2);
    w->at[2] = behind;
    w->at += 3;
}

/* 2020-01-31T12:00:00.5Z. The year begins in March here, so that the leap day is its last.
 *      Source  the Gregorian calendar's cycle of 400 years, which are 146,097 days */
static void put_time(struct writer *w, uint64_t unix_ms)
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
    memcpy(w->at, json_pairs + 2 * (year / 100), 2);
    w->at += 2;
    put_pair(w, year % 100, '-');
    put_pair(w, month, '-');
    put_pair(w, of_month, 'T');
    put_pair(w, second / 3600, ':');
    put_pair(w, second / 60 % 60, ':');
    put_pair(w, second % 60, '.');
    if (ms != 0) {
        *w->at++ = (char)('0' + ms / 100);
        put_pair(w, ms % 100, 'Z');
    } else {
        w->at[-1] = 'Z';
    }
}

static void put_date(struct writer *w, int64_t unix_ms)
{
    if (unix_ms >= 0 && unix_ms < DATE_END_MS) {
        PUT(w, "{\"$date\":\"");
        put_time(w, (uint64_t)unix_ms);
        PUT(w, "\"}");
    } else {
        PUT(w, "{\"$date\":{\"$numberLong\":\"");
        put_i64(w, unix_ms);
        PUT(w, "\"}}");
    }
}

static void put_timestamp(struct writer *w, uint64_t both)
{
    PUT(w, "{\"$timestamp\":{\"t\":");
    put_i64(w, (int64_t)(both >> 32));
    PUT(w, ",\"i\":");
    put_i64(w, (int64_t)(both & UINT32_MAX));
    PUT(w, "}}");
}

static bool put_decimal(struct writer *w, const uint8_t *at)
{
    bson_decimal128_t decimal;
    char text[BSON_DECIMAL128_STRING];
    memcpy(&decimal.low, at, sizeof decimal.low);
    memcpy(&decimal.high, at + 8, sizeof decimal.high);
    bson_decimal128_to_string(&decimal, text);
    size_t len = strlen(text);
    if (!room(w, len)) {
        return false;
    }
    PUT(w, "{\"$numberDecimal\":\"");
    memcpy(w->at, text, len);
    w->at += len;
    PUT(w, "\"}");
    return true;
}

/* ---- values of any size ---- */

static bool put_base64(struct writer *w, const uint8_t *at, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!room(w, len / 3 * 4 + 4)) {
        return false;
    }
    char *out = w->at;
    for (size_t i = 0; i < len; i += 3, out += 4) {
        size_t left = len - i;
        uint32_t bits = (uint32_t)at[i] << 16 | (left > 1 ? (uint32_t)at[i + 1] << 8 : 0) |
                        (left > 2 ? at[i + 2] : 0);
        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
        out[3] = left > 2 ? digits[bits & 63] : '=';
    }
    w->at = out;
    return true;
}

/* value: length, subtype, bytes. The old subtype 2 has the length once more before the bytes. */
static bool put_binary(struct writer *w, const uint8_t *value, size_t len)
{
    size_t head = value[4] == 2 && len >= 9 ? 9 : 5;
    PUT(w, "{\"$binary\":{\"base64\":\"");
    if (!put_base64(w, value + head, len - head)) {
        return false;
    }
    PUT(w, "\",\"subType\":\"");
    put_hex(w, value + 4, 1);
    PUT(w, "\"}}");
    return true;
}

static bool put_regex(struct writer *w, const uint8_t *value)
{
    static const char known[] = "ilmsux"; /* in this order, each once */
    size_t pattern = strlen((const char *)value);
    const char *options = (const char *)value + pattern + 1;
    PUT(w, "{\"$regularExpression\":{\"pattern\":");
    if (!put_text(w, value, pattern) || !room(w, sizeof known)) {
        return false;
    }
    PUT(w, ",\"options\":\"");
    for (size_t i = 0; known[i] != '\0'; i++) {
        if (strchr(options, known[i]) != NULL) {
            *w->at++ = known[i];
        }
    }
    PUT(w, "\"}}");
    return true;
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

static bool put_doc(struct writer *w, tw_bson doc, bool is_array, int depth);

/* {"$code":text} and, where value is the longer form, its scope. */
static bool put_code(struct writer *w, tw_bson_value value, int depth)
{
    bool has_scope = value.type == TW_BSON_CODE_SCOPE;
    const uint8_t *at = value.ptr + (has_scope ? 4 : 0);
    int64_t len = text_len(at, (size_t)(value.ptr + value.len - at));
    PUT(w, "{\"$code\":");
    if (len < 0 || !put_text(w, at + 4, (size_t)len)) {
        return false;
    }
    if (has_scope) {
        const uint8_t *scope = at + 5 + len;
        PUT(w, ",\"$scope\":");
        if (!put_doc(w, (tw_bson){scope, (size_t)(value.ptr + value.len - scope)}, false, depth)) {
            return false;
        }
    }
    *w->at++ = '}';
    return true;
}

static bool put_symbol(struct writer *w, tw_bson_value value)
{
    PUT(w, "{\"$symbol\":");
    if (!put_text(w, value.ptr + 4, value.len - 5)) {
        return false;
    }
    *w->at++ = '}';
    return true;
}

static bool put_dbpointer(struct writer *w, tw_bson_value value)
{
    PUT(w, "{\"$dbPointer\":{\"$ref\":");
    if (!put_text(w, value.ptr + 4, value.len - 17)) {
        return false;
    }
    PUT(w, ",\"$id\":");
    put_oid(w, value.ptr + value.len - 12);
    PUT(w, "}}");
    return true;
}

/* All values but documents, by the views that the iterator gives. False: no room. */
static bool put_value(struct writer *w, tw_bson_value value, int depth)
{
    if (!room(w, SLACK)) {
        return false;
    }
    switch (value.type) {
    case 0:
    case TW_BSON_NULL:
        PUT(w, "null");
        return true;
    case TW_BSON_STRING:
        return put_text(w, value.ptr + 4, value.len - 5);
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        return put_doc(w, tw_bson_value_doc(value), value.type == TW_BSON_ARRAY, depth + 1);
    case TW_BSON_INT32:
        put_i64(w, load_i32(value.ptr));
        return true;
    case TW_BSON_INT64:
        put_i64(w, load_i64(value.ptr));
        return true;
    case TW_BSON_DOUBLE:
        put_double(w, tw_bson_value_double(value));
        return true;
    case TW_BSON_BOOL:
        put_bool(w, *value.ptr != 0);
        return true;
    case TW_BSON_OBJECT_ID:
        put_oid(w, value.ptr);
        return true;
    case TW_BSON_DATE:
        put_date(w, load_i64(value.ptr));
        return true;
    case TW_BSON_TIMESTAMP:
        put_timestamp(w, (uint64_t)load_i64(value.ptr));
        return true;
    case TW_BSON_DECIMAL128:
        return put_decimal(w, value.ptr);
    case TW_BSON_BINARY:
        return put_binary(w, value.ptr, value.len);
    case TW_BSON_REGEX:
        return put_regex(w, value.ptr);
    case TW_BSON_CODE:
    case TW_BSON_CODE_SCOPE:
        return put_code(w, value, depth + 1);
    case TW_BSON_SYMBOL:
        return put_symbol(w, value);
    case TW_BSON_DBPOINTER:
        return put_dbpointer(w, value);
    case TW_BSON_UNDEFINED:
        PUT(w, "{\"$undefined\":true}");
        return true;
    case TW_BSON_MIN_KEY:
        PUT(w, "{\"$minKey\":1}");
        return true;
    default:
        PUT(w, "{\"$maxKey\":1}");
        return true;
    }
}

/* ---- documents ---- */

/* Bytes of the common values of fixed size, in the order of their types; 0: another type. */
static const uint8_t fixed_sizes[256] = {
    [TW_BSON_DOUBLE] = 8, [TW_BSON_OBJECT_ID] = 12, [TW_BSON_BOOL] = 1,
    [TW_BSON_DATE] = 8,   [TW_BSON_INT32] = 4,      [TW_BSON_INT64] = 8};

static void put_fixed(struct writer *w, uint8_t type, const uint8_t *at)
{
    double real;
    switch (type) {
    case TW_BSON_DOUBLE:
        memcpy(&real, at, sizeof real);
        put_double(w, real);
        return;
    case TW_BSON_OBJECT_ID:
        put_oid(w, at);
        return;
    case TW_BSON_BOOL:
        put_bool(w, *at != 0);
        return;
    case TW_BSON_DATE:
        put_date(w, load_i64(at));
        return;
    case TW_BSON_INT32:
        put_i64(w, load_i32(at));
        return;
    default:
        put_i64(w, load_i64(at));
        return;
    }
}

/* The values of nearly all documents, read where they stand: no view is made and no type looked up
 * twice. Returns the place behind the value; NULL: another type, or damage, and nothing was written
 * (or no room, and out has an error). */
static inline const uint8_t *put_common(struct writer *w, uint8_t type, const uint8_t *at,
                                        const uint8_t *end, int depth)
{
    size_t left = (size_t)(end - at);
    size_t fixed = fixed_sizes[type];
    if (fixed != 0 && fixed <= left) {
        put_fixed(w, type, at);
        return at + fixed;
    }
    if (type == TW_BSON_STRING) {
        int64_t len = text_len(at, left);
        return len < 0 || !put_text(w, at + 4, (size_t)len) ? NULL : at + len + 5;
    }
    if ((type == TW_BSON_DOCUMENT || type == TW_BSON_ARRAY) && left >= 5) {
        int64_t len = load_i32(at);
        bool is_inside = len >= 5 && (uint64_t)len <= left;
        tw_bson doc = {at, (size_t)len};
        return is_inside && put_doc(w, doc, type == TW_BSON_ARRAY, depth + 1) ? at + len : NULL;
    }
    if (type == TW_BSON_NULL) {
        PUT(w, "null");
        return at;
    }
    return NULL;
}

/* An array's index, mostly of a digit or two. NULL: no end of it. */
static inline const uint8_t *skip_name(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at != 0) {
        at++;
    }
    return at < end ? at + 1 : NULL;
}

/* One element: name, value. Returns the place behind it; NULL: damage or an error. */
static inline const uint8_t *put_element(struct writer *w, const uint8_t *at, const uint8_t *end,
                                         bool is_array, int depth)
{
    if (!room(w, SLACK)) {
        return NULL;
    }
    const uint8_t *element = at;
    uint8_t type = *at++;
    if (is_array) {
        at = skip_name(at, end);
    } else {
        at = put_name(w, at, end);
    }
    if (at == NULL || !room(w, SLACK)) {
        return NULL;
    }
    const uint8_t *next = put_common(w, type, at, end, depth);
    if (next != NULL || w->out->err != TW_OK) {
        return next;
    }
    tw_bson_iter iter = {.at = element, .end = end};
    return tw_bson_iter_next(&iter) && put_value(w, iter.value, depth) ? iter.at : NULL;
}

/* Whether the element at `at` is one that is to be left out. */
static inline bool is_left_out(const struct writer *w, const uint8_t *at, const uint8_t *end)
{
    size_t len = w->without.len;
    return (size_t)(end - at) > len + 1 && at[1] == (uint8_t)w->without.ptr[0] &&
           at[len + 1] == 0 && memcmp(at + 1, w->without.ptr, len) == 0;
}

/* The elements of doc with a comma behind each; the caller takes the last one back. */
static bool put_elements(struct writer *w, tw_bson doc, bool is_array, int depth)
{
    const uint8_t *at = doc.ptr + 4;
    const uint8_t *end = doc.ptr + doc.len - 1; /* the closing 0 */
    while (at < end) {
        if (depth == 1 && w->without.len > 0 && is_left_out(w, at, end)) {
            tw_bson_iter iter = {.at = at, .end = end};
            at = tw_bson_iter_next(&iter) ? iter.at : end; /* damage: the document ends here */
            continue;
        }
        size_t mark = (size_t)(w->at - w->out->ptr);
        at = put_element(w, at, end, is_array, depth);
        if (at == NULL) {
            if (w->out->err == TW_OK) {
                w->at = w->out->ptr + mark; /* damage: the document ends here */
            }
            break;
        }
        *w->at++ = ','; /* of the room behind the value */
    }
    return w->out->err == TW_OK;
}

static bool put_doc(struct writer *w, tw_bson doc, bool is_array, int depth)
{
    if (depth > TW_DEPTH_MAX) {
        return fail(w, TW_E_DEPTH);
    }
    if (!room(w, 2)) {
        return false;
    }
    *w->at++ = is_array ? '[' : '{';
    size_t begin = (size_t)(w->at - w->out->ptr);
    if (doc.len >= 5 && !put_elements(w, doc, is_array, depth)) {
        return false;
    }
    const char *first = w->out->ptr + begin;
    w->at -= w->at > first ? 1 : 0; /* the last comma */
    *w->at++ = is_array ? ']' : '}';
    return room(w, 1);
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
    writer_begin(&w, out, behind(doc.ptr, doc.len));
    (void)put_doc(&w, doc, false, 1);
    writer_end(&w);
}

void tw_json_write_without(tw_buf *out, tw_bson doc, tw_str name)
{
    struct writer w;
    writer_begin(&w, out, behind(doc.ptr, doc.len));
    w.without = name;
    (void)put_doc(&w, doc, false, 1);
    writer_end(&w);
}

void tw_json_write_fields(tw_buf *out, tw_bson doc)
{
    struct writer w;
    writer_begin(&w, out, behind(doc.ptr, doc.len));
    if (doc.len >= 5 && room(&w, 1)) {
        size_t begin = (size_t)(w.at - out->ptr);
        if (put_elements(&w, doc, false, 1) && w.at > out->ptr + begin) {
            w.at--;
        }
    }
    writer_end(&w);
}

void tw_json_write_value(tw_buf *out, tw_bson_value value)
{
    struct writer w;
    writer_begin(&w, out, behind(value.ptr, value.len));
    (void)put_value(&w, value, 0);
    writer_end(&w);
}

void tw_json_write_key(tw_buf *out, tw_key key)
{
    tw_json_write_value(out, tw_key_value(key));
}

void tw_json_write_str(tw_buf *out, tw_str text)
{
    struct writer w;
    writer_begin(&w, out, behind(text.ptr, text.len));
    (void)put_text(&w, (const uint8_t *)text.ptr, text.len);
    writer_end(&w);
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
