/* bson_key.c - keys and ids, the order of values, new ObjectIds; see bson.h. */
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>

#include "protocol/bson.h"
#include "protocol/limits.h"

enum { OID_LEN = 12, OID_HEX = 24, SORT_DEPTH_MAX = 128 };

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
    memcpy(at + 1, bytes, len);
    *out = (tw_key){at, len + 1};
    return TW_OK;
}

tw_err tw_key_of_value(tw_arena *arena, tw_bson_value value, tw_key *out)
{
    int64_t number;
    double fraction;
    switch (value.type) {
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        if (tw_bson_value_i64(value, &number)) {
            return key_make(arena, TW_BSON_INT64, &number, sizeof(number), out);
        }
        fraction = tw_bson_value_double(value);
        if (fraction != fraction) {
            fraction = __builtin_nan(""); /* one form for all NaNs */
        }
        return key_make(arena, TW_BSON_DOUBLE, &fraction, sizeof(fraction), out);
    case TW_BSON_SYMBOL:
        return key_make(arena, TW_BSON_STRING, value.ptr, value.len, out);
    case TW_BSON_STRING:
    case TW_BSON_DOCUMENT:
    case TW_BSON_BINARY:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_TIMESTAMP:
    case TW_BSON_DECIMAL128:
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

void tw_oid_new(uint8_t out[OID_LEN])
{
    static _Atomic uint64_t process; /* 5 random bytes and a mark that they were drawn */
    static atomic_uint count;
    uint64_t mine = atomic_load(&process);
    if (mine == 0) {
        uint64_t drawn = 0;
        uint64_t none = 0;
        if (getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn)) {
            drawn = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u; /* tidy: an ObjectId holds the time */
        }
        drawn |= 1ULL << 63;
        mine = atomic_compare_exchange_strong(&process, &none, drawn) ? drawn : none;
        atomic_fetch_add(&count, (unsigned)(drawn >> 40 & 0xffff));
    }
    uint32_t seconds = (uint32_t)time(NULL); /* tidy: an ObjectId holds the time */
    uint32_t number = atomic_fetch_add(&count, 1);
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(seconds >> (24 - 8 * i));
    }
    memcpy(out + 4, &mine, 5);
    for (int i = 0; i < 3; i++) {
        out[9 + i] = (uint8_t)(number >> (16 - 8 * i));
    }
}

/* ---- order ---- */
int tw_bson_bracket(uint8_t type)
{
    switch (type) {
    case TW_BSON_MIN_KEY:
        return 0;
    case 0:
    case TW_BSON_UNDEFINED:
        return 1;
    case TW_BSON_NULL:
        return 2;
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
        return 3;
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
        return 4;
    case TW_BSON_DOCUMENT:
        return 5;
    case TW_BSON_ARRAY:
        return 6;
    case TW_BSON_BINARY:
        return 7;
    case TW_BSON_OBJECT_ID:
        return 8;
    case TW_BSON_BOOL:
        return 9;
    case TW_BSON_DATE:
        return 10;
    case TW_BSON_TIMESTAMP:
        return 11;
    case TW_BSON_REGEX:
        return 12;
    case TW_BSON_DBPOINTER:
        return 13;
    case TW_BSON_CODE:
        return 14;
    case TW_BSON_CODE_SCOPE:
        return 15;
    default:
        return 127;
    }
}

static int sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t both = a_len < b_len ? a_len : b_len;
    int order = both == 0 ? 0 : memcmp(a, b, both);
    return order != 0 ? order : sign((int64_t)a_len, (int64_t)b_len);
}

/* A whole number against a double, exactly: a double of that size holds no fraction of use. */
static int compare_mixed(int64_t whole, double real)
{
    if (real != real) {
        return 1; /* NaN is below all numbers */
    }
    if (real >= 9223372036854775808.0) {
        return -1;
    }
    if (real < -9223372036854775808.0) {
        return 1;
    }
    int64_t truncated = (int64_t)real;
    if (whole != truncated) {
        return sign(whole, truncated);
    }
    double fraction = real - (double)truncated;
    return (fraction < 0) - (fraction > 0);
}

static int compare_doubles(double a, double b)
{
    bool a_nan = a != a;
    bool b_nan = b != b;
    if (a_nan || b_nan) {
        return (int)b_nan - (int)a_nan;
    }
    return (a > b) - (a < b);
}

/* Decimal128 to double: its 17 leading digits, which orders all but near-equal values. */
static double decimal_double(const uint8_t *at)
{
    uint64_t low, high;
    memcpy(&low, at, sizeof(low));
    memcpy(&high, at + 8, sizeof(high));
    double signed_one = high >> 63 ? -1.0 : 1.0;
    unsigned top = (unsigned)(high >> 58) & 0x1f;
    if (top == 0x1f) {
        return __builtin_nan("");
    }
    if (top == 0x1e) {
        return signed_one * __builtin_inf();
    }
    bool large = (high >> 61 & 3) == 3;
    int exponent = (int)(large ? high >> 47 & 0x3fff : high >> 49 & 0x3fff) - 6176;
    double digits = large ? 0 : (double)(high & 0x1ffffffffffffULL) * 18446744073709551616.0 +
                                    (double)low;
    for (; exponent > 0 && digits != 0 && digits < 1e300; exponent--) {
        digits *= 10;
    }
    if (exponent > 0 && digits != 0) {
        return signed_one * __builtin_inf();
    }
    for (; exponent < 0 && digits != 0; exponent++) {
        digits /= 10;
    }
    return signed_one * digits;
}

static double any_double(tw_bson_value value)
{
    return value.type == TW_BSON_DECIMAL128 ? decimal_double(value.ptr)
                                            : tw_bson_value_double(value);
}

static int compare_numbers(tw_bson_value a, tw_bson_value b)
{
    int64_t whole;
    bool a_real = a.type == TW_BSON_DOUBLE || a.type == TW_BSON_DECIMAL128;
    bool b_real = b.type == TW_BSON_DOUBLE || b.type == TW_BSON_DECIMAL128;
    if (!a_real && !b_real) {
        int64_t other;
        (void)tw_bson_value_i64(a, &whole);
        (void)tw_bson_value_i64(b, &other);
        return sign(whole, other);
    }
    if (!a_real) {
        (void)tw_bson_value_i64(a, &whole);
        return compare_mixed(whole, any_double(b));
    }
    if (!b_real) {
        (void)tw_bson_value_i64(b, &whole);
        return -compare_mixed(whole, any_double(a));
    }
    if (a.type == b.type && a.type == TW_BSON_DECIMAL128 && memcmp(a.ptr, b.ptr, 16) == 0) {
        return 0;
    }
    return compare_doubles(any_double(a), any_double(b));
}

static int compare_at(tw_bson_value a, tw_bson_value b, int depth);

static int compare_docs(tw_bson_value a, tw_bson_value b, bool names, int depth)
{
    tw_bson_iter i, k;
    if (depth > SORT_DEPTH_MAX) {
        return compare_bytes(a.ptr, a.len, b.ptr, b.len);
    }
    tw_bson_iter_init(&i, tw_bson_value_doc(a));
    tw_bson_iter_init(&k, tw_bson_value_doc(b));
    for (;;) {
        bool more_a = tw_bson_iter_next(&i);
        bool more_b = tw_bson_iter_next(&k);
        if (!more_a || !more_b) {
            return (int)more_a - (int)more_b;
        }
        int order = tw_bson_bracket(i.value.type) - tw_bson_bracket(k.value.type);
        if (order == 0 && names) {
            order = compare_bytes((const uint8_t *)i.name.ptr, i.name.len,
                                  (const uint8_t *)k.name.ptr, k.name.len);
        }
        order = order != 0 ? order : compare_at(i.value, k.value, depth + 1);
        if (order != 0) {
            return order;
        }
    }
}

static int compare_binaries(tw_bson_value a, tw_bson_value b)
{
    int order = sign((int64_t)a.len, (int64_t)b.len);
    if (order == 0) {
        order = (int)a.ptr[4] - (int)b.ptr[4];
    }
    return order != 0 ? order : memcmp(a.ptr + 5, b.ptr + 5, a.len - 5);
}

static int compare_at(tw_bson_value a, tw_bson_value b, int depth)
{
    int bracket = tw_bson_bracket(a.type);
    int order = bracket - tw_bson_bracket(b.type);
    if (order != 0) {
        return order;
    }
    int64_t x, y;
    switch (bracket) {
    case 3:
        return compare_numbers(a, b);
    case 4: {
        tw_str s = tw_bson_value_str(a);
        tw_str t = tw_bson_value_str(b);
        return compare_bytes((const uint8_t *)s.ptr, s.len, (const uint8_t *)t.ptr, t.len);
    }
    case 5:
        return compare_docs(a, b, true, depth);
    case 6:
        return compare_docs(a, b, false, depth);
    case 7:
        return compare_binaries(a, b);
    case 9:
        return (int)(*a.ptr != 0) - (int)(*b.ptr != 0);
    case 10:
        memcpy(&x, a.ptr, sizeof(x));
        memcpy(&y, b.ptr, sizeof(y));
        return sign(x, y);
    case 11: {
        uint64_t s, t;
        memcpy(&s, a.ptr, sizeof(s));
        memcpy(&t, b.ptr, sizeof(t));
        return (s > t) - (s < t);
    }
    default:
        return compare_bytes(a.ptr, a.len, b.ptr, b.len);
    }
}

int tw_bson_compare(tw_bson_value a, tw_bson_value b)
{
    return compare_at(a, b, 0);
}
