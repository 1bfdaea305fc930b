/* json_extended.c - the forms of Extended JSON, read from the plain document that spells them.
 *
 * json_read.c writes each object as a document. One whose first name stands in the table below is
 * no document but a value: it must then have exactly the fields of its form, each of its type. All
 * other names with $ stay as they are, since they are operators of queries and updates; $regex,
 * $options and $type are operators too, never the old forms of a regular expression or binary.
 *      Source  MongoDB specifications, Extended JSON 2.1 */
#include <bson/bson.h>

#include "protocol/json_priv.h"

enum { FIELDS_MAX = 2, OID_LEN = 12, UUID_LEN = 16, UUID_TEXT = 36 };

/* What a form's function is given: up to two fields, in the order in which the table names them. */
struct form {
    tw_bson_value at[FIELDS_MAX]; /* type 0: absent */
    tw_arena *arena;
};

/* ---- small readers ---- */

/* Bytes of a value that has no place in the document. NULL: no memory. */
static uint8_t *take(struct form *form, size_t len, tw_bson_value *out)
{
    uint8_t *bytes = tw_arena_alloc(form->arena, len);
    out->ptr = bytes;
    out->len = len;
    return bytes;
}

static tw_err give(struct form *form, const void *bytes, size_t len, tw_bson_value *out)
{
    uint8_t *copy = take(form, len, out);
    if (copy == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(copy, bytes, len);
    return TW_OK;
}

static bool has_nul(tw_str text)
{
    return text.len > 0 && memchr(text.ptr, 0, text.len) != NULL;
}

static tw_str text_of(tw_bson_value value)
{
    return value.type == TW_BSON_STRING ? tw_bson_value_str(value) : (tw_str){0};
}

/* Exactly two fields with these names, in either order? */
static bool two_fields(tw_bson_value value, const char *first, const char *second,
                       tw_bson_value out[2])
{
    tw_bson doc = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    out[0] = tw_bson_get(doc, tw_str_of(first));
    out[1] = tw_bson_get(doc, tw_str_of(second));
    return out[0].type != 0 && out[1].type != 0 && tw_bson_count(doc) == 2;
}

/* Bytes from hexadecimal digits; the text has 2 * len of them. */
static bool hex_read(const char *text, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = json_hex_digit(text[2 * i]);
        int low = json_hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool whole_of(tw_bson_value value, int64_t *out)
{
    tw_str text = text_of(value);
    bool is_whole;
    return text.len > 0 && json_number_len(text, &is_whole) == text.len && is_whole &&
           json_number_i64(text, out);
}

/* ---- the forms ---- */

static tw_err read_oid(struct form *form, tw_bson_value *out)
{
    uint8_t oid[OID_LEN];
    tw_str text = text_of(form->at[0]);
    if (text.len != sizeof oid * 2 || !hex_read(text.ptr, oid, sizeof oid)) {
        return TW_E_BAD_MESSAGE;
    }
    return give(form, oid, sizeof oid, out);
}

static tw_err read_long(struct form *form, tw_bson_value *out)
{
    int64_t value;
    return whole_of(form->at[0], &value) ? give(form, &value, sizeof value, out) : TW_E_BAD_MESSAGE;
}

static tw_err read_int(struct form *form, tw_bson_value *out)
{
    int64_t value;
    if (!whole_of(form->at[0], &value) || value != (int32_t)value) {
        return TW_E_BAD_MESSAGE;
    }
    int32_t small = (int32_t)value;
    return give(form, &small, sizeof small, out);
}

static tw_err read_double(struct form *form, tw_bson_value *out)
{
    static const struct {
        const char *text;
        double value;
    } words[] = {
        {"NaN", __builtin_nan("")}, {"Infinity", __builtin_inf()}, {"-Infinity", -__builtin_inf()}};
    tw_str text = text_of(form->at[0]);
    for (size_t i = 0; i < TW_COUNT(words); i++) {
        if (tw_str_equal(text, tw_str_of(words[i].text))) {
            return give(form, &words[i].value, sizeof words[i].value, out);
        }
    }
    double value;
    bool is_whole;
    if (text.len == 0 || json_number_len(text, &is_whole) != text.len) {
        return TW_E_BAD_MESSAGE;
    }
    tw_err err = json_number_double(text, &value);
    return err != TW_OK ? err : give(form, &value, sizeof value, out);
}

static tw_err read_decimal(struct form *form, tw_bson_value *out)
{
    tw_str text = text_of(form->at[0]);
    bson_decimal128_t decimal;
    if (text.len == 0 || text.len > INT16_MAX || has_nul(text) ||
        !bson_decimal128_from_string_w_len(text.ptr, (int)text.len, &decimal)) {
        return TW_E_BAD_MESSAGE;
    }
    const uint64_t words[2] = {decimal.low, decimal.high};
    return give(form, words, sizeof words, out);
}

/* A number of exactly count digits; false: other bytes, or the text ends. */
static bool digits_read(tw_str *text, size_t count, int *out)
{
    int value = 0;
    for (size_t i = 0; i < count; i++) {
        char c = i < text->len ? text->ptr[i] : '\0';
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    *out = value;
    *text = (tw_str){text->ptr + count, text->len - count};
    return true;
}

static bool byte_read(tw_str *text, char c)
{
    if (text->len == 0 || *text->ptr != c) {
        return false;
    }
    *text = (tw_str){text->ptr + 1, text->len - 1};
    return true;
}

/* Days from 1970-01-01, false where there is no such day; the year begins in March, as in
 * json_write.c. */
static bool days_of(int year, int month, int day, int64_t *out)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] + (month == 2 && is_leap ? 1 : 0)) {
        return false;
    }
    int from_march = year + 399 + (month > 2 ? 1 : 0); /* years since March -400 */
    int era = from_march / 400;
    int of_era = from_march % 400;
    int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    *out = ((int64_t)era - 1) * 146097 + days - 719468;
    return true;
}

/* Z, +01:00 or +0100, to minutes. */
static bool zone_read(tw_str *text, int *minutes)
{
    int hour = 0;
    int minute = 0;
    bool is_west = text->len > 0 && *text->ptr == '-';
    *minutes = 0;
    if (byte_read(text, 'Z')) {
        return true;
    }
    if (!byte_read(text, is_west ? '-' : '+') || !digits_read(text, 2, &hour)) {
        return false;
    }
    (void)byte_read(text, ':');
    if (!digits_read(text, 2, &minute) || hour > 23 || minute > 59) {
        return false;
    }
    *minutes = (hour * 60 + minute) * (is_west ? -1 : 1);
    return true;
}

/* 2020-01-31T12:00[:00[.123]]Z: seconds may be missing; of a fraction milliseconds count. */
static bool time_read(tw_str text, int64_t *unix_ms)
{
    int year, month, day, hour, minute, second = 0, zone;
    int64_t ms = 0;
    int64_t days;
    if (!digits_read(&text, 4, &year) || !byte_read(&text, '-') || !digits_read(&text, 2, &month) ||
        !byte_read(&text, '-') || !digits_read(&text, 2, &day) || !byte_read(&text, 'T') ||
        !digits_read(&text, 2, &hour) || !byte_read(&text, ':') ||
        !digits_read(&text, 2, &minute) || !days_of(year, month, day, &days)) {
        return false;
    }
    if (byte_read(&text, ':')) {
        if (!digits_read(&text, 2, &second)) {
            return false;
        }
        if (byte_read(&text, '.')) {
            int digit;
            if (text.len == 0 || *text.ptr < '0' || *text.ptr > '9') {
                return false;
            }
            for (int scale = 100; digits_read(&text, 1, &digit); scale /= 10) {
                ms += digit * scale;
            }
        }
    }
    if (!zone_read(&text, &zone) || text.len > 0 || hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    *unix_ms = ((days * 86400) + hour * 3600 + (minute - zone) * 60 + second) * 1000 + ms;
    return true;
}

/* A time as text, {"$numberLong":text}, or a whole number. */
static tw_err read_date(struct form *form, tw_bson_value *out)
{
    int64_t unix_ms;
    tw_bson_value value = form->at[0];
    bool is_right = value.type == TW_BSON_INT32 || value.type == TW_BSON_INT64
                        ? tw_bson_value_i64(value, &unix_ms)
                        : time_read(text_of(value), &unix_ms);
    return is_right ? give(form, &unix_ms, sizeof unix_ms, out) : TW_E_BAD_MESSAGE;
}

static tw_err read_timestamp(struct form *form, tw_bson_value *out)
{
    tw_bson_value parts[2];
    int64_t t, i;
    if (!two_fields(form->at[0], "t", "i", parts) || parts[0].type == TW_BSON_DOUBLE ||
        parts[1].type == TW_BSON_DOUBLE || !tw_bson_value_i64(parts[0], &t) ||
        !tw_bson_value_i64(parts[1], &i) || t < 0 || i < 0 || t > UINT32_MAX || i > UINT32_MAX) {
        return TW_E_BAD_MESSAGE;
    }
    uint64_t both = (uint64_t)t << 32 | (uint64_t)i;
    return give(form, &both, sizeof both, out);
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

/* Reads whole groups of four; the last may end with one or two =, and its unused bits are 0.
 * Returns the bytes written, -1 when it is no base64. */
static int64_t base64_read(tw_str text, uint8_t *out)
{
    size_t len = text.len;
    if (len % 4 != 0) {
        return -1;
    }
    while (len > 0 && text.len - len < 2 && text.ptr[len - 1] == '=') {
        len--;
    }
    uint8_t *at = out;
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text.ptr[i]);
        if (digit < 0) {
            return -1;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 > 0) {
            *at++ = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    uint32_t unused = len % 4 == 2 ? 0xf : len % 4 == 3 ? 0x3 : 0;
    return (bits & unused) != 0 ? -1 : at - out;
}

/* {"base64":text,"subType":one or two digits}, or the older "$binary":text with "$type". */
static tw_err read_binary(struct form *form, tw_bson_value *out)
{
    tw_bson_value parts[2] = {form->at[0], form->at[1]};
    bool is_old = form->at[1].type != 0;
    if (!is_old && !two_fields(form->at[0], "base64", "subType", parts)) {
        return TW_E_BAD_MESSAGE;
    }
    tw_str text = text_of(parts[0]);
    tw_str type = text_of(parts[1]);
    uint8_t subtype;
    char digits[2] = {'0', '0'};
    if (text.ptr == NULL || type.len < 1 || type.len > 2) {
        return TW_E_BAD_MESSAGE;
    }
    memcpy(digits + 2 - type.len, type.ptr, type.len);
    if (!hex_read(digits, &subtype, 1)) {
        return TW_E_BAD_MESSAGE;
    }
    size_t head = subtype == 2 ? 9 : 5; /* subtype 2 has the length twice */
    uint8_t *bytes = take(form, head + text.len / 4 * 3, out);
    if (bytes == NULL) {
        return TW_E_NO_MEMORY;
    }
    int64_t len = base64_read(text, bytes + head);
    if (len < 0) {
        return TW_E_BAD_MESSAGE;
    }
    uint32_t inner = (uint32_t)len;
    uint32_t size = inner + (uint32_t)head - 5;
    memcpy(bytes + head - 4, &inner, sizeof inner);
    memcpy(bytes, &size, sizeof size);
    bytes[4] = subtype;
    out->len = head + (size_t)len;
    return TW_OK;
}

/* xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx to binary of subtype 4. */
static tw_err read_uuid(struct form *form, tw_bson_value *out)
{
    tw_str text = text_of(form->at[0]);
    char digits[2 * UUID_LEN];
    uint8_t bytes[5 + UUID_LEN] = {UUID_LEN, 0, 0, 0, 4};
    size_t count = 0;
    if (text.len != UUID_TEXT) {
        return TW_E_BAD_MESSAGE;
    }
    for (size_t i = 0; i < text.len; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_dash != (text.ptr[i] == '-')) {
            return TW_E_BAD_MESSAGE;
        }
        if (!is_dash) {
            digits[count++] = text.ptr[i];
        }
    }
    if (!hex_read(digits, bytes + 5, UUID_LEN)) {
        return TW_E_BAD_MESSAGE;
    }
    return give(form, bytes, sizeof bytes, out);
}

/* Options are sorted, as BSON wants them; each is a letter that MongoDB knows, and stands once. */
static tw_err read_regex(struct form *form, tw_bson_value *out)
{
    static const char known[] = "ilmsux";
    tw_bson_value parts[2];
    if (!two_fields(form->at[0], "pattern", "options", parts)) {
        return TW_E_BAD_MESSAGE;
    }
    tw_str pattern = text_of(parts[0]);
    tw_str options = text_of(parts[1]);
    if (pattern.ptr == NULL || options.ptr == NULL || has_nul(pattern)) {
        return TW_E_BAD_MESSAGE;
    }
    uint8_t *bytes = take(form, pattern.len + 1 + sizeof known, out);
    if (bytes == NULL) {
        return TW_E_NO_MEMORY;
    }
    size_t len = pattern.len;
    size_t found = 0;
    memcpy(bytes, pattern.ptr, len);
    bytes[len++] = 0;
    for (size_t i = 0; known[i] != '\0'; i++) {
        if (options.len > 0 && memchr(options.ptr, known[i], options.len) != NULL) {
            bytes[len++] = (uint8_t)known[i];
            found++;
        }
    }
    bytes[len++] = 0;
    out->len = len;
    return found == options.len ? TW_OK : TW_E_BAD_MESSAGE;
}

static tw_err read_symbol(struct form *form, tw_bson_value *out)
{
    *out = (tw_bson_value){out->type, form->at[0].ptr, form->at[0].len};
    return form->at[0].type == TW_BSON_STRING ? TW_OK : TW_E_BAD_MESSAGE;
}

/* $code alone, or with $scope: then its own length, the text, the document. */
static tw_err read_code(struct form *form, tw_bson_value *out)
{
    tw_bson_value code = form->at[0];
    tw_bson_value scope = form->at[1];
    if (code.type != TW_BSON_STRING || (scope.type != 0 && scope.type != TW_BSON_DOCUMENT)) {
        return TW_E_BAD_MESSAGE;
    }
    if (scope.type == 0) {
        return read_symbol(form, out);
    }
    uint8_t *bytes = take(form, 4 + code.len + scope.len, out);
    if (bytes == NULL) {
        return TW_E_NO_MEMORY;
    }
    uint32_t size = (uint32_t)out->len;
    memcpy(bytes, &size, sizeof size);
    memcpy(bytes + 4, code.ptr, code.len);
    memcpy(bytes + 4 + code.len, scope.ptr, scope.len);
    out->type = TW_BSON_CODE_SCOPE;
    return TW_OK;
}

static tw_err read_dbpointer(struct form *form, tw_bson_value *out)
{
    tw_bson_value parts[2];
    if (!two_fields(form->at[0], "$ref", "$id", parts) || parts[0].type != TW_BSON_STRING ||
        parts[1].type != TW_BSON_OBJECT_ID) {
        return TW_E_BAD_MESSAGE;
    }
    uint8_t *bytes = take(form, parts[0].len + OID_LEN, out);
    if (bytes == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(bytes, parts[0].ptr, parts[0].len);
    memcpy(bytes + parts[0].len, parts[1].ptr, OID_LEN);
    return TW_OK;
}

static tw_err read_undefined(struct form *form, tw_bson_value *out)
{
    out->len = 0;
    return form->at[0].type == TW_BSON_BOOL && *form->at[0].ptr != 0 ? TW_OK : TW_E_BAD_MESSAGE;
}

static tw_err read_end_key(struct form *form, tw_bson_value *out)
{
    int64_t one;
    out->len = 0;
    return form->at[0].type == TW_BSON_INT32 && tw_bson_value_i64(form->at[0], &one) && one == 1
               ? TW_OK
               : TW_E_BAD_MESSAGE;
}

/* ---- the table ---- */

static const struct {
    const char *name;
    const char *second; /* a field that may stand beside it; NULL: none */
    uint8_t type;
    tw_err (*read)(struct form *form, tw_bson_value *out);
} forms[] = {
    {"$oid", NULL, TW_BSON_OBJECT_ID, read_oid},
    {"$date", NULL, TW_BSON_DATE, read_date},
    {"$numberLong", NULL, TW_BSON_INT64, read_long},
    {"$numberInt", NULL, TW_BSON_INT32, read_int},
    {"$numberDouble", NULL, TW_BSON_DOUBLE, read_double},
    {"$numberDecimal", NULL, TW_BSON_DECIMAL128, read_decimal},
    {"$binary", "$type", TW_BSON_BINARY, read_binary},
    {"$uuid", NULL, TW_BSON_BINARY, read_uuid},
    {"$timestamp", NULL, TW_BSON_TIMESTAMP, read_timestamp},
    {"$regularExpression", NULL, TW_BSON_REGEX, read_regex},
    {"$symbol", NULL, TW_BSON_SYMBOL, read_symbol},
    {"$code", "$scope", TW_BSON_CODE, read_code},
    {"$dbPointer", NULL, TW_BSON_DBPOINTER, read_dbpointer},
    {"$undefined", NULL, TW_BSON_UNDEFINED, read_undefined},
    {"$minKey", NULL, TW_BSON_MIN_KEY, read_end_key},
    {"$maxKey", NULL, TW_BSON_MAX_KEY, read_end_key},
};

/* Row of forms, TW_COUNT(forms) when there is none. */
static size_t form_find(tw_str name)
{
    size_t at = 0;
    while (at < TW_COUNT(forms) && !tw_str_equal(name, tw_str_of(forms[at].name))) {
        at++;
    }
    return at;
}

bool json_extended_is_form(tw_str first_name)
{
    return first_name.len > 0 && *first_name.ptr == '$' && form_find(first_name) < TW_COUNT(forms);
}

tw_err json_extended_read(tw_arena *arena, tw_bson doc, tw_bson_value *out)
{
    struct form form = {.arena = arena};
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, doc);
    if (!tw_bson_iter_next(&iter)) {
        return TW_E_BAD_MESSAGE;
    }
    size_t row = form_find(iter.name);
    if (row == TW_COUNT(forms)) {
        return TW_E_BAD_MESSAGE;
    }
    form.at[0] = iter.value;
    if (tw_bson_iter_next(&iter)) {
        form.at[1] = iter.value;
        if (forms[row].second == NULL || !tw_str_equal(iter.name, tw_str_of(forms[row].second)) ||
            tw_bson_iter_next(&iter)) {
            return TW_E_BAD_MESSAGE;
        }
    }
    *out = (tw_bson_value){.type = forms[row].type, .ptr = doc.ptr};
    return forms[row].read(&form, out);
}
