/* json_read.c - JSON text to BSON in one pass; see json.h for the rules.
 *
 * Each object is written as a plain document; when it closes and its first name is that of an
 * Extended JSON type ($oid, $date, ...), the document is replaced by the value it spells. All other
 * names with $ stay: they are query and update operators. */
#include <stdlib.h>

#include <bson/bson.h>

#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

enum { NUMBER_MAX = 64, DUPLICATES_BY_PAIRS = 12 };

struct reader {
    const char *at, *end, *begin;
    int depth_max;
    tw_arena *arena;
    tw_buf out;
    const char *why;
    const char *why_at; /* where in the text; NULL: not told */
};

static tw_err refuse(struct reader *r, tw_err err, const char *why)
{
    if (r->why == NULL) {
        r->why = why;
        r->why_at = r->at;
    }
    return err;
}

static tw_err bad(struct reader *r, const char *why)
{
    return refuse(r, TW_E_BAD_MESSAGE, why);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
}

static bool take(struct reader *r, char c)
{
    if (r->at < r->end && *r->at == c) {
        r->at++;
        return true;
    }
    return false;
}

/* ---- strings ---- */
static int hex4(struct reader *r)
{
    int value = 0;
    if (r->end - r->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
    }
    return value;
}

static void add_code_point(tw_buf *out, unsigned code)
{
    if (code < 0x80) {
        tw_buf_add_byte(out, (char)code);
        return;
    }
    unsigned len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (unsigned i = 0; i < len; i++) {
        unsigned bits = code >> (6 * (len - 1 - i));
        tw_buf_add_byte(out, (char)(i == 0 ? heads[len] | bits : 0x80 | (bits & 0x3f)));
    }
}

static tw_err read_escape(struct reader *r, bool name)
{
    static const char plain[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    char c = r->at < r->end ? *r->at++ : '\0';
    if (plain[(uint8_t)c] != 0) {
        tw_buf_add_byte(&r->out, plain[(uint8_t)c]);
        return TW_OK;
    }
    if (c != 'u') {
        return bad(r, "an escape that JSON does not have");
    }
    int code = hex4(r);
    if (code >= 0xd800 && code < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' &&
        r->at[1] == 'u') {
        r->at += 2;
        int low = hex4(r);
        if (low < 0xdc00 || low > 0xdfff) {
            return bad(r, "half of a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code < 0 || (code >= 0xd800 && code < 0xe000)) {
        return bad(r, code < 0 ? "an escape that is no \\uXXXX" : "half of a surrogate pair");
    }
    if (code == 0 && name) {
        return bad(r, "a NUL in a name");
    }
    add_code_point(&r->out, (unsigned)code);
    return TW_OK;
}

/* Appends the text of a string whose opening quote was taken. */
static tw_err read_text(struct reader *r, bool name)
{
    for (;;) {
        const char *from = r->at;
        while (r->at < r->end && (uint8_t)*r->at >= 0x20 && (uint8_t)*r->at < 0x80 &&
               *r->at != '"' && *r->at != '\\') {
            r->at++;
        }
        tw_buf_add(&r->out, from, (size_t)(r->at - from));
        if (r->at == r->end) {
            return bad(r, "the text ends inside a string");
        }
        uint8_t c = (uint8_t)*r->at;
        if (c == '"') {
            r->at++;
            return TW_OK;
        }
        if (c == '\\') {
            r->at++;
            tw_err err = read_escape(r, name);
            if (err != TW_OK) {
                return err;
            }
            continue;
        }
        size_t len = c < 0x20 ? 0 : tw_utf8_len((const uint8_t *)r->at, (size_t)(r->end - r->at));
        if (len == 0) {
            return bad(r, c < 0x20 ? "a control character in a string" : "bytes that are not UTF-8");
        }
        tw_buf_add(&r->out, r->at, len);
        r->at += len;
    }
}

/* ---- scalars: the type byte stands already, at type_at ---- */
static void set_type(struct reader *r, size_t type_at, uint8_t type)
{
    if (r->out.err == TW_OK) {
        r->out.ptr[type_at] = (char)type;
    }
}

static tw_err read_string_value(struct reader *r, size_t type_at)
{
    size_t size_at = r->out.len;
    uint32_t size = 0;
    set_type(r, type_at, TW_BSON_STRING);
    tw_buf_add(&r->out, &size, sizeof(size));
    tw_err err = read_text(r, false);
    tw_buf_add_byte(&r->out, 0);
    if (err == TW_OK && r->out.err == TW_OK) {
        size = (uint32_t)(r->out.len - size_at - sizeof(size));
        memcpy(r->out.ptr + size_at, &size, sizeof(size));
    }
    return err;
}

static void put_whole(struct reader *r, size_t type_at, int64_t value)
{
    int32_t small = (int32_t)value;
    set_type(r, type_at, small == value ? TW_BSON_INT32 : TW_BSON_INT64);
    tw_buf_add(&r->out, small == value ? (const void *)&small : (const void *)&value,
               small == value ? sizeof(small) : sizeof(value));
}

static void put_double(struct reader *r, size_t type_at, double value)
{
    set_type(r, type_at, TW_BSON_DOUBLE);
    tw_buf_add(&r->out, &value, sizeof(value));
}

/* Length of a JSON number at the beginning, 0 when it is none; *whole: no fraction, no exponent. */
static size_t number_len(const char *at, const char *end, bool *whole)
{
    const char *p = at;
    *whole = true;
    p += p < end && *p == '-';
    const char *digits = p;
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return 0;
    }
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        while (p < end && *p >= '0' && *p <= '9') {
            p++;
        }
        if (p == fraction) {
            return 0;
        }
        *whole = false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        const char *exponent = p;
        while (p < end && *p >= '0' && *p <= '9') {
            p++;
        }
        if (p == exponent) {
            return 0;
        }
        *whole = false;
    }
    return (size_t)(p - at);
}

static bool parse_whole(const char *at, size_t len, int64_t *out)
{
    bool negative = *at == '-';
    uint64_t value = 0;
    for (size_t i = negative; i < len; i++) {
        uint64_t digit = (uint64_t)(at[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

static bool parse_double(const char *at, size_t len, double *out)
{
    char small[NUMBER_MAX];
    char *text = len < sizeof(small) ? small : tw_alloc(len + 1);
    if (text == NULL) {
        return false;
    }
    memcpy(text, at, len);
    text[len] = '\0';
    *out = strtod(text, NULL);
    if (text != small) {
        tw_free(text);
    }
    return *out - *out == 0;
}

static tw_err read_number(struct reader *r, size_t type_at)
{
    bool whole;
    size_t len = number_len(r->at, r->end, &whole);
    int64_t value;
    double real;
    if (len == 0) {
        return bad(r, "a value was expected");
    }
    if (whole && parse_whole(r->at, len, &value)) {
        put_whole(r, type_at, value);
    } else if (parse_double(r->at, len, &real)) {
        put_double(r, type_at, real);
    } else {
        return bad(r, "a number beyond what a double holds");
    }
    r->at += len;
    return TW_OK;
}

static tw_err read_word(struct reader *r, size_t type_at)
{
    static const struct {
        const char *word;
        uint8_t type, len, byte;
    } words[] = {{"true", TW_BSON_BOOL, 1, 1}, {"false", TW_BSON_BOOL, 1, 0}, {"null", TW_BSON_NULL, 0, 0}};
    for (size_t i = 0; i < TW_COUNT(words); i++) {
        size_t len = strlen(words[i].word);
        if ((size_t)(r->end - r->at) >= len && memcmp(r->at, words[i].word, len) == 0) {
            r->at += len;
            set_type(r, type_at, words[i].type);
            tw_buf_add(&r->out, &words[i].byte, words[i].len);
            return TW_OK;
        }
    }
    return read_number(r, type_at);
}

/* ---- Extended JSON ---- */
static bool digits2(const char *at, int *out)
{
    if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9') {
        return false;
    }
    *out = (at[0] - '0') * 10 + (at[1] - '0');
    return true;
}

/* Days from 1970-01-01 to a civil date; the year begins in March (see json_write.c). */
static int64_t days_of(int year, int month, int day)
{
    year -= month <= 2;
    int era = (year >= 0 ? year : year - 399) / 400;
    int of_era = year - era * 400;
    int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t days = (int64_t)of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return (int64_t)era * 146097 + days - 719468;
}

/* 2020-01-31T12:00:00[.123][Z|+01:00|+0100] */
static bool parse_date(tw_str text, int64_t *unix_ms)
{
    int century, year, month, day, hour, minute, second, zone_hour, zone_minute;
    const char *p = text.ptr;
    const char *end = text.ptr + text.len;
    if (text.len < 20 || !digits2(p, &century) || !digits2(p + 2, &year) || p[4] != '-' ||
        !digits2(p + 5, &month) || p[7] != '-' || !digits2(p + 8, &day) || p[10] != 'T' ||
        !digits2(p + 11, &hour) || p[13] != ':' || !digits2(p + 14, &minute) || p[16] != ':' ||
        !digits2(p + 17, &second)) {
        return false;
    }
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    int64_t ms = 0;
    p += 19;
    if (*p == '.') {
        int scale = 100;
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, scale /= 10) {
            ms += (*p - '0') * scale;
        }
    }
    int64_t offset = 0;
    if (p < end && (*p == '+' || *p == '-')) {
        bool colon = end - p == 6 && p[3] == ':';
        if ((!colon && end - p != 5) || !digits2(p + 1, &zone_hour) ||
            !digits2(p + (colon ? 4 : 3), &zone_minute)) {
            return false;
        }
        offset = (zone_hour * 60 + zone_minute) * (*p == '-' ? -1 : 1);
    } else if (end - p != 1 || *p != 'Z') {
        return false;
    }
    int64_t seconds = days_of(century * 100 + year, month, day) * 86400 + hour * 3600 +
                      (minute - offset) * 60 + second;
    *unix_ms = seconds * 1000 + ms;
    return true;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

static bool add_base64(tw_buf *out, tw_str text)
{
    size_t len = text.len;
    if (len % 4 != 0) {
        return false;
    }
    while (len > 0 && text.len - len < 2 && text.ptr[len - 1] == '=') {
        len--;
    }
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text.ptr[i]);
        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 > 0) {
            tw_buf_add_byte(out, (char)(bits >> (6 - 2 * (i % 4))));
        }
    }
    return true;
}

/* Each writes the value's bytes to out, or says that the document does not spell one. */
static bool oid_of(tw_bson_value v, tw_buf *out)
{
    tw_str text = tw_bson_value_str(v);
    bson_oid_t oid;
    if (text.ptr == NULL || !bson_oid_is_valid(text.ptr, text.len)) {
        return false;
    }
    bson_oid_init_from_string(&oid, text.ptr);
    tw_buf_add(out, oid.bytes, sizeof(oid.bytes));
    return text.len == 24;
}

static bool whole_of_text(tw_bson_value v, int64_t *out)
{
    tw_str text = tw_bson_value_str(v);
    bool whole;
    return text.ptr != NULL && number_len(text.ptr, text.ptr + text.len, &whole) == text.len &&
           whole && text.len > 0 && parse_whole(text.ptr, text.len, out);
}

static bool long_of(tw_bson_value v, tw_buf *out)
{
    int64_t value;
    bool good = whole_of_text(v, &value);
    tw_buf_add(out, &value, good ? sizeof(value) : 0);
    return good;
}

static bool int_of(tw_bson_value v, tw_buf *out)
{
    int64_t value = 0;
    bool good = whole_of_text(v, &value) && value == (int32_t)value;
    int32_t small = (int32_t)value;
    tw_buf_add(out, &small, sizeof(small));
    return good;
}

static bool double_of(tw_bson_value v, tw_buf *out)
{
    tw_str text = tw_bson_value_str(v);
    double value = 0;
    bool whole;
    bool good = true;
    if (text.ptr == NULL) {
        return false;
    }
    if (tw_str_equal(text, TW_STR("NaN"))) {
        value = __builtin_nan("");
    } else if (tw_str_equal(text, TW_STR("Infinity"))) {
        value = __builtin_inf();
    } else if (tw_str_equal(text, TW_STR("-Infinity"))) {
        value = -__builtin_inf();
    } else {
        good = text.len > 0 && number_len(text.ptr, text.ptr + text.len, &whole) == text.len &&
               parse_double(text.ptr, text.len, &value);
    }
    tw_buf_add(out, &value, sizeof(value));
    return good;
}

static bool decimal_of(tw_bson_value v, tw_buf *out)
{
    tw_str text = tw_bson_value_str(v);
    bson_decimal128_t decimal;
    if (text.ptr == NULL || memchr(text.ptr, 0, text.len) != NULL ||
        !bson_decimal128_from_string_w_len(text.ptr, (int)text.len, &decimal)) {
        return false;
    }
    tw_buf_add(out, &decimal.low, sizeof(decimal.low));
    tw_buf_add(out, &decimal.high, sizeof(decimal.high));
    return true;
}

static bool date_of(tw_bson_value v, tw_buf *out)
{
    int64_t unix_ms = 0;
    tw_str text = tw_bson_value_str(v);
    bool good = text.ptr != NULL ? parse_date(text, &unix_ms) : tw_bson_value_i64(v, &unix_ms);
    tw_buf_add(out, &unix_ms, sizeof(unix_ms));
    return good;
}

static bool timestamp_of(tw_bson_value v, tw_buf *out)
{
    tw_bson doc = tw_bson_value_doc(v);
    int64_t t = tw_bson_get_i64_or(doc, TW_STR("t"), -1);
    int64_t i = tw_bson_get_i64_or(doc, TW_STR("i"), -1);
    uint64_t both = (uint64_t)t << 32 | (uint64_t)i;
    tw_buf_add(out, &both, sizeof(both));
    return t >= 0 && i >= 0 && t <= UINT32_MAX && i <= UINT32_MAX;
}

static bool binary_of(tw_bson_value v, tw_buf *out)
{
    tw_bson doc = tw_bson_value_doc(v);
    tw_str text = tw_bson_get_str(doc, TW_STR("base64"));
    tw_str type = tw_bson_get_str(doc, TW_STR("subType"));
    if (text.ptr == NULL || type.ptr == NULL || type.len < 1 || type.len > 2) {
        return false;
    }
    char hex[3] = {type.ptr[0], type.len > 1 ? type.ptr[1] : '\0', '\0'};
    char *end;
    uint8_t subtype = (uint8_t)strtoul(hex, &end, 16);
    size_t at = out->len;
    uint32_t size = 0;
    tw_buf_add(out, &size, sizeof(size));
    tw_buf_add_byte(out, (char)subtype);
    bool good = *end == '\0' && add_base64(out, text);
    if (out->err == TW_OK) {
        size = (uint32_t)(out->len - at - 5);
        memcpy(out->ptr + at, &size, sizeof(size));
    }
    return good;
}

static bool regex_of(tw_bson_value v, tw_buf *out)
{
    tw_bson doc = tw_bson_value_doc(v);
    tw_str pattern = tw_bson_get_str(doc, TW_STR("pattern"));
    tw_str options = tw_bson_get_str(doc, TW_STR("options"));
    if (pattern.ptr == NULL || options.ptr == NULL || memchr(pattern.ptr, 0, pattern.len) != NULL ||
        memchr(options.ptr, 0, options.len) != NULL) {
        return false;
    }
    tw_buf_add_str(out, pattern);
    tw_buf_add_byte(out, 0);
    tw_buf_add_str(out, options);
    tw_buf_add_byte(out, 0);
    return true;
}

static bool text_of(tw_bson_value v, tw_buf *out)
{
    tw_buf_add(out, v.ptr, v.type == TW_BSON_STRING ? v.len : 0);
    return v.type == TW_BSON_STRING;
}

static bool nothing_of(tw_bson_value v, tw_buf *out)
{
    int64_t one;
    (void)out;
    return v.type == TW_BSON_BOOL || tw_bson_value_i64(v, &one);
}

static const struct extended {
    const char *name;
    uint8_t type;
    bool (*write)(tw_bson_value, tw_buf *);
} extended[] = {
    {"$oid", TW_BSON_OBJECT_ID, oid_of},
    {"$date", TW_BSON_DATE, date_of},
    {"$numberLong", TW_BSON_INT64, long_of},
    {"$numberInt", TW_BSON_INT32, int_of},
    {"$numberDouble", TW_BSON_DOUBLE, double_of},
    {"$numberDecimal", TW_BSON_DECIMAL128, decimal_of},
    {"$binary", TW_BSON_BINARY, binary_of},
    {"$timestamp", TW_BSON_TIMESTAMP, timestamp_of},
    {"$regularExpression", TW_BSON_REGEX, regex_of},
    {"$symbol", TW_BSON_SYMBOL, text_of},
    {"$code", TW_BSON_CODE, text_of},
    {"$undefined", TW_BSON_UNDEFINED, nothing_of},
    {"$minKey", TW_BSON_MIN_KEY, nothing_of},
    {"$maxKey", TW_BSON_MAX_KEY, nothing_of},
};

/* Replaces the document that stands at doc_at by the value it spells, where it spells one. */
static tw_err extend(struct reader *r, size_t type_at, size_t doc_at)
{
    tw_bson_iter iter;
    tw_bson doc = {(const uint8_t *)r->out.ptr + doc_at, r->out.len - doc_at};
    tw_bson_iter_init(&iter, doc);
    if (!tw_bson_iter_next(&iter) || iter.name.len == 0 || iter.name.ptr[0] != '$') {
        return TW_OK;
    }
    for (size_t i = 0; i < TW_COUNT(extended); i++) {
        if (!tw_str_equal(iter.name, tw_str_of(extended[i].name))) {
            continue;
        }
        tw_bson_value value = iter.value;
        tw_buf bytes;
        tw_buf_init(&bytes, TW_DOCUMENT_MAX);
        bool good = !tw_bson_iter_next(&iter) && extended[i].write(value, &bytes);
        if (good && bytes.err == TW_OK) {
            r->out.len = doc_at;
            set_type(r, type_at, extended[i].type);
            tw_buf_add(&r->out, bytes.ptr, bytes.len);
        }
        tw_err err = bytes.err;
        tw_buf_fini(&bytes);
        return good ? err : bad(r, "a malformed Extended JSON value ($oid, $date, ...)");
    }
    return TW_OK;
}

/* ---- documents ---- */
static int by_name(const void *a, const void *b)
{
    const tw_str *x = a;
    const tw_str *y = b;
    size_t both = x->len < y->len ? x->len : y->len;
    int order = both == 0 ? 0 : memcmp(x->ptr, y->ptr, both);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static tw_err check_duplicates(struct reader *r, size_t doc_at, size_t count)
{
    tw_bson doc = {(const uint8_t *)r->out.ptr + doc_at, r->out.len - doc_at};
    tw_bson_iter iter;
    tw_str few[DUPLICATES_BY_PAIRS];
    tw_str *names = count <= TW_COUNT(few) ? few : tw_arena_alloc(r->arena, count * sizeof(*names));
    if (names == NULL) {
        return refuse(r, TW_E_NO_MEMORY, "no memory");
    }
    size_t at = 0;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && at < count;) {
        names[at++] = iter.name;
    }
    if (names != few) {
        qsort(names, at, sizeof(*names), by_name);
    }
    for (size_t i = 1; i < at; i++) {
        for (size_t k = names == few ? 0 : i - 1; k < i; k++) {
            if (tw_str_equal(names[i], names[k])) {
                return bad(r, "a name stands twice in an object");
            }
        }
    }
    return TW_OK;
}

static tw_err read_value(struct reader *r, size_t type_at, int depth);

static tw_err read_element(struct reader *r, bool array, size_t index, int depth)
{
    size_t type_at = r->out.len;
    tw_buf_add_byte(&r->out, 0);
    skip_space(r);
    if (array) {
        tw_buf_add_u64(&r->out, index);
    } else {
        if (!take(r, '"')) {
            return bad(r, "a name in quotes was expected");
        }
        tw_err err = read_text(r, true);
        if (err != TW_OK) {
            return err;
        }
        skip_space(r);
        if (!take(r, ':')) {
            return bad(r, "a colon was expected behind a name");
        }
        skip_space(r);
    }
    tw_buf_add_byte(&r->out, 0);
    return read_value(r, type_at, depth);
}

/* Reads what stands behind the opening brace or bracket. */
static tw_err read_container(struct reader *r, bool array, size_t type_at, int depth)
{
    static const uint8_t room[4];
    char close = array ? ']' : '}';
    if (depth > r->depth_max) {
        return refuse(r, TW_E_DEPTH, "nested too deeply");
    }
    size_t doc_at = r->out.len;
    size_t count = 0;
    tw_buf_add(&r->out, room, sizeof(room));
    skip_space(r);
    bool open = !take(r, close);
    while (open) {
        tw_err err = read_element(r, array, count++, depth);
        if (err != TW_OK || r->out.err != TW_OK) {
            return err != TW_OK ? err : refuse(r, r->out.err, "too big");
        }
        skip_space(r);
        open = take(r, ',');
        if (!open && !take(r, close)) {
            return bad(r, array ? "a comma or ] was expected" : "a comma or } was expected");
        }
    }
    tw_buf_add_byte(&r->out, 0);
    if (r->out.err != TW_OK) {
        return refuse(r, r->out.err, "too big");
    }
    uint32_t len = (uint32_t)(r->out.len - doc_at);
    memcpy(r->out.ptr + doc_at, &len, sizeof(len));
    tw_err err = array || count < 2 ? TW_OK : check_duplicates(r, doc_at, count);
    return err != TW_OK || array || depth == 1 ? err : extend(r, type_at, doc_at);
}

static tw_err read_value(struct reader *r, size_t type_at, int depth)
{
    if (take(r, '"')) {
        return read_string_value(r, type_at);
    }
    if (take(r, '{')) {
        set_type(r, type_at, TW_BSON_DOCUMENT);
        return read_container(r, false, type_at, depth + 1);
    }
    if (take(r, '[')) {
        set_type(r, type_at, TW_BSON_ARRAY);
        return read_container(r, true, type_at, depth + 1);
    }
    return read_word(r, type_at);
}

static tw_err read_all(struct reader *r)
{
    skip_space(r);
    if (!take(r, '{')) {
        return bad(r, "a JSON object was expected");
    }
    tw_err err = read_container(r, false, 0, 1);
    if (err != TW_OK) {
        return err;
    }
    skip_space(r);
    return r->at == r->end ? TW_OK : bad(r, "something stands behind the object");
}

tw_err tw_json_read(tw_arena *arena, tw_str text, int depth_max, tw_bson *out, tw_str *why)
{
    struct reader r = {.at = text.ptr,
                       .begin = text.ptr,
                       .end = text.ptr + text.len,
                       .depth_max = depth_max,
                       .arena = arena};
    TW_ASSERT(depth_max <= TW_DEPTH_MAX);
    tw_buf_init(&r.out, TW_DOCUMENT_MAX);
    tw_err err = read_all(&r);
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, (tw_bson){(const uint8_t *)r.out.ptr, r.out.len});
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    if (err != TW_OK && why != NULL) {
        const char *cause = tw_arena_format(arena, "%s, at byte %zu",
                                            r.why == NULL ? tw_err_text(err) : r.why,
                                            r.why_at == NULL ? 0 : (size_t)(r.why_at - r.begin));
        *why = tw_str_of(cause);
    }
    tw_buf_fini(&r.out);
    return err;
}
