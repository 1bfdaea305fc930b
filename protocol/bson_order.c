/* bson_order.c - the order of values, as MongoDB compares them; see bson.h.
 *
 * int32, int64 and double are compared in a few instructions. A Decimal128 holds what no double
 * can, so both sides are then written as decimal digits, which is exact for each of the four
 * types. */
#include "protocol/bson_priv.h"
#include "protocol/limits.h"

enum {
    ORDER_DEPTH_MAX = 128, /* beyond it bytes are compared: more than any valid document has */
    DECIMAL_EXPONENT_BIAS = 6176,
    DOUBLE_DIGITS = 767, /* that a double can have */
};

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

/* A whole number against a double, exactly: neither is rounded to the other's type. */
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

/* A number as sign * 0.ddd * 10^power. */
struct digits {
    enum { IS_NAN, IS_BELOW, IS_FINITE, IS_ABOVE } rank; /* BELOW and ABOVE: the infinities */
    int sign;                                            /* 0: zero */
    int power;
    int count;
    char at[DOUBLE_DIGITS + 1]; /* the first and the last are not '0' */
};

static void digits_trim(struct digits *d)
{
    while (d->count > 0 && d->at[d->count - 1] == '0') {
        d->count--;
    }
}

/* coefficient * 10^exponent */
static void digits_of_whole(struct digits *d, unsigned __int128 coefficient, int exponent)
{
    char reversed[40]; /* 2^128 has 39 */
    int count = 0;
    for (; coefficient > 0; coefficient /= 10) {
        reversed[count++] = (char)('0' + (int)(coefficient % 10));
    }
    for (int i = 0; i < count; i++) {
        d->at[i] = reversed[count - 1 - i];
    }
    d->count = count;
    d->power = exponent + count;
    d->sign = count == 0 ? 0 : d->sign;
    digits_trim(d);
}

static void digits_of_double(struct digits *d, double value)
{
    char text[DOUBLE_DIGITS + 16];
    d->sign = (value > 0) - (value < 0);
    d->rank = value != value       ? IS_NAN
              : value - value == 0 ? IS_FINITE
              : value < 0          ? IS_BELOW
                                   : IS_ABOVE;
    if (d->rank != IS_FINITE || d->sign == 0) {
        return;
    }
    size_t len =
        tw_format(text, sizeof text, "%.*e", DOUBLE_DIGITS - 1, value < 0 ? -value : value);
    const char *exponent = memchr(text, 'e', len);
    d->at[0] = text[0];
    memcpy(d->at + 1, text + 2, DOUBLE_DIGITS - 1);
    d->count = DOUBLE_DIGITS;
    uint64_t power = 0;
    tw_str power_text = {exponent + 2, len - (size_t)(exponent + 2 - text)};
    (void)tw_parse_u64(power_text, UINT32_MAX, &power);
    d->power = (exponent[1] == '-' ? -(int)power : (int)power) + 1;
    digits_trim(d);
}

/* Sign, 14 bits of exponent and 113 of coefficient; other encodings of the same width have too
 * large a coefficient and mean 0.
 *      Source  IEEE 754-2008, decimal128, binary integer encoding */
struct decimal {
    enum { DECIMAL_NAN, DECIMAL_INFINITE, DECIMAL_FINITE } kind;
    bool is_negative;
    int exponent;
    unsigned __int128 coefficient;
};

static struct decimal decimal_of(const uint8_t *at)
{
    uint64_t low, high;
    memcpy(&low, at, sizeof low);
    memcpy(&high, at + 8, sizeof high);
    unsigned top = (unsigned)(high >> 58) & 0x1f;
    bool is_wide = (high >> 61 & 3) == 3;
    const unsigned __int128 most = (unsigned __int128)10000000000000000u * 1000000000000000000u;
    struct decimal d = {.is_negative = high >> 63 != 0};
    d.kind = top == 0x1f ? DECIMAL_NAN : top == 0x1e ? DECIMAL_INFINITE : DECIMAL_FINITE;
    d.exponent = (int)(high >> (is_wide ? 47 : 49) & 0x3fff) - DECIMAL_EXPONENT_BIAS;
    d.coefficient = (unsigned __int128)(high & 0x1ffffffffffffu) << 64 | low;
    if (is_wide || d.coefficient >= most) {
        d.coefficient = 0;
    }
    return d;
}

bool bson_decimal_i64(const uint8_t *decimal, int64_t *out)
{
    struct decimal d = decimal_of(decimal);
    if (d.kind != DECIMAL_FINITE) {
        return false;
    }
    for (; d.exponent < 0 && d.coefficient != 0; d.exponent++) {
        if (d.coefficient % 10 != 0) {
            return false;
        }
        d.coefficient /= 10;
    }
    for (; d.exponent > 0 && d.coefficient != 0 && d.coefficient <= INT64_MAX; d.exponent--) {
        d.coefficient *= 10;
    }
    if (d.coefficient > (uint64_t)INT64_MAX + (d.is_negative ? 1 : 0)) {
        return false;
    }
    uint64_t whole = (uint64_t)d.coefficient;
    *out = (int64_t)(d.is_negative ? 0 - whole : whole);
    return true;
}

static void digits_of(struct digits *d, tw_bson_value value)
{
    int64_t whole;
    *d = (struct digits){.rank = IS_FINITE};
    if (value.type == TW_BSON_DOUBLE) {
        digits_of_double(d, tw_bson_value_double(value));
    } else if (value.type == TW_BSON_DECIMAL128) {
        struct decimal decimal = decimal_of(value.ptr);
        d->sign = decimal.is_negative ? -1 : 1;
        d->rank = decimal.kind == DECIMAL_NAN      ? IS_NAN
                  : decimal.kind == DECIMAL_FINITE ? IS_FINITE
                  : decimal.is_negative            ? IS_BELOW
                                                   : IS_ABOVE;
        digits_of_whole(d, decimal.coefficient, decimal.exponent);
    } else if (tw_bson_value_i64(value, &whole)) {
        d->sign = whole < 0 ? -1 : 1;
        digits_of_whole(d, whole < 0 ? 0 - (uint64_t)whole : (uint64_t)whole, 0);
    }
}

static int compare_digits(tw_bson_value a, tw_bson_value b)
{
    struct digits x, y;
    digits_of(&x, a);
    digits_of(&y, b);
    if (x.rank != y.rank || x.rank != IS_FINITE) {
        return (int)x.rank - (int)y.rank;
    }
    if (x.sign != y.sign || x.sign == 0) {
        return x.sign - y.sign;
    }
    int order = sign(x.power, y.power);
    if (order == 0) {
        order = compare_bytes((const uint8_t *)x.at, (size_t)x.count, (const uint8_t *)y.at,
                              (size_t)y.count);
    }
    return order * x.sign;
}

static int compare_numbers(tw_bson_value a, tw_bson_value b)
{
    int64_t x, y;
    if (a.type == TW_BSON_DECIMAL128 || b.type == TW_BSON_DECIMAL128) {
        return compare_digits(a, b);
    }
    if (a.type == TW_BSON_DOUBLE) {
        double real = tw_bson_value_double(a);
        return b.type == TW_BSON_DOUBLE   ? compare_doubles(real, tw_bson_value_double(b))
               : tw_bson_value_i64(b, &y) ? -compare_mixed(y, real)
                                          : 0;
    }
    (void)tw_bson_value_i64(a, &x);
    if (b.type == TW_BSON_DOUBLE) {
        return compare_mixed(x, tw_bson_value_double(b));
    }
    (void)tw_bson_value_i64(b, &y);
    return sign(x, y);
}

static int compare_at(tw_bson_value a, tw_bson_value b, int depth);

static int compare_docs(tw_bson_value a, tw_bson_value b, bool names, int depth)
{
    tw_bson_iter i, k;
    if (depth > ORDER_DEPTH_MAX) {
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

/* A string, symbol or code: a length, the text, a NUL. */
static int compare_texts(tw_bson_value a, tw_bson_value b)
{
    return compare_bytes(a.ptr + 4, a.len - 5, b.ptr + 4, b.len - 5);
}

/* Code, then scope. Values that are damaged inside are compared as bytes. */
static int compare_scoped(tw_bson_value a, tw_bson_value b, int depth)
{
    uint32_t x, y;
    memcpy(&x, a.ptr + 4, sizeof x);
    memcpy(&y, b.ptr + 4, sizeof y);
    if (x < 1 || y < 1 || x > a.len - 8 || y > b.len - 8) {
        return compare_bytes(a.ptr, a.len, b.ptr, b.len);
    }
    int order = compare_bytes(a.ptr + 8, x - 1, b.ptr + 8, y - 1);
    tw_bson_value scope_a = {TW_BSON_DOCUMENT, a.ptr + 8 + x, a.len - 8 - x};
    tw_bson_value scope_b = {TW_BSON_DOCUMENT, b.ptr + 8 + y, b.len - 8 - y};
    return order != 0 ? order : compare_docs(scope_a, scope_b, true, depth);
}

static int64_t load_i64(tw_bson_value value)
{
    int64_t number;
    memcpy(&number, value.ptr, sizeof number);
    return number;
}

static int compare_at(tw_bson_value a, tw_bson_value b, int depth)
{
    int bracket = tw_bson_bracket(a.type);
    int order = bracket - tw_bson_bracket(b.type);
    if (order != 0) {
        return order;
    }
    switch (a.type) {
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
        return compare_numbers(a, b);
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
    case TW_BSON_CODE:
        return compare_texts(a, b);
    case TW_BSON_DOCUMENT:
        return compare_docs(a, b, true, depth);
    case TW_BSON_ARRAY:
        return compare_docs(a, b, false, depth);
    case TW_BSON_BINARY:
        return compare_binaries(a, b);
    case TW_BSON_BOOL:
        return (int)(*a.ptr != 0) - (int)(*b.ptr != 0);
    case TW_BSON_DATE:
        return sign(load_i64(a), load_i64(b));
    case TW_BSON_TIMESTAMP:
        order = ((uint64_t)load_i64(a) > (uint64_t)load_i64(b)) ? 1 : -1;
        return load_i64(a) == load_i64(b) ? 0 : order;
    case TW_BSON_DBPOINTER:
        order = sign((int64_t)a.len, (int64_t)b.len);
        return order != 0 ? order : memcmp(a.ptr, b.ptr, a.len);
    case TW_BSON_CODE_SCOPE:
        return compare_scoped(a, b, depth);
    default: /* the bytes of an ObjectId or regular expression are in its order; others have none */
        return compare_bytes(a.ptr, a.len, b.ptr, b.len);
    }
}

int tw_bson_compare(tw_bson_value a, tw_bson_value b)
{
    return compare_at(a, b, 0);
}
