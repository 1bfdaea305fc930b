/* json_double.c - numbers as JSON text: the shortest doubles, and reading them back.
 *
 * Writing a double asks for the shortest decimal inside its rounding interval, the nearest one
 * where several are as short. The interval's ends and the value are multiplied by a power of ten
 * of 126 bits; one multiplication each decides exactly, without big numbers and without trial and
 * error. No function here looks at the locale but strtod, and nobody sets one.
 *      Source  R. Giulietti, "The Schubfach way to render doubles" */
#include <stdlib.h>

#include "protocol/json_powers.h"
#include "protocol/json_priv.h"

enum {
    FRACTION_BITS = 52,
    EXPONENT_BIAS = 1075, /* of the significand taken as a whole number */
    FIXED_MIN = -5,       /* powers of the first digit that are written without exponent */
    FIXED_MAX = 16,
    NUMBER_STACK = 64, /* bytes; longer numbers are copied to the heap */
};

/* digits * 10^power */
struct decimal {
    uint64_t digits;
    int power;
};

/* ---- the shortest decimal ---- */

/* floor(log2(10^k)) and floor(log10(2^q)), exact for all powers that doubles have. */
static int log2_of_power10(int k)
{
    return k * 1741647 >> 19;
}

/* The upper part of power * value, its lowest bit set where anything below is not zero. */
static uint64_t round_to_odd(const uint64_t power[2], uint64_t value)
{
    unsigned __int128 low = (unsigned __int128)power[1] * value;
    unsigned __int128 high = (unsigned __int128)power[0] * value + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1 ? 1 : 0);
}

/* value = significand * 2^exponent. is_edge: the neighbour below is only half as far away. */
static struct decimal shortest(uint64_t significand, int exponent, bool is_edge)
{
    bool is_even = (significand & 1) == 0; /* the ends then belong to the interval */
    int k = (exponent * 1262611 - (is_edge ? 524031 : 0)) >> 22;
    int shift = exponent + log2_of_power10(-k) + 1;
    const uint64_t *power = tw_json_powers[-k - JSON_POWER_MIN];
    uint64_t value = round_to_odd(power, (4 * significand) << shift);
    uint64_t lower = round_to_odd(power, (4 * significand - (is_edge ? 1 : 2)) << shift);
    uint64_t upper = round_to_odd(power, (4 * significand + 2) << shift);
    lower += is_even ? 0 : 1;
    upper -= is_even ? 0 : 1;
    uint64_t digits = value / 4;
    if (digits >= 10) { /* one digit less, if just one such number is inside */
        uint64_t fewer = digits / 10;
        bool is_down = lower <= 40 * fewer;
        bool is_up = 40 * fewer + 40 <= upper;
        if (is_down != is_up) {
            return (struct decimal){fewer + (is_up ? 1 : 0), k + 1};
        }
    }
    bool is_down = lower <= 4 * digits;
    bool is_up = 4 * digits + 4 <= upper;
    if (is_down == is_up) { /* both or none: the nearer; from the middle to the even one */
        uint64_t middle = 4 * digits + 2;
        is_up = value > middle || (value == middle && (digits & 1) == 1);
    }
    return (struct decimal){digits + (is_up ? 1 : 0), k};
}

/* Numbers like 12.5 and 1249.99, without the table: of at most 15 digits no two are the same
 * double, so one that divides back to value is the only one as short.
 *      Source  C17 5.2.4.2.2, DBL_DIG */
static bool is_hundredths(double value, uint64_t *digits)
{
    double scaled = value * 100;
    if (!(scaled < 1e15)) {
        return false;
    }
    *digits = (uint64_t)scaled;
    return (double)*digits == scaled && scaled / 100 == value;
}

/* value is positive and finite. */
static struct decimal decimal_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & (((uint64_t)1 << FRACTION_BITS) - 1);
    int exponent = (int)(bits >> FRACTION_BITS);
    uint64_t significand = fraction | (exponent == 0 ? 0 : (uint64_t)1 << FRACTION_BITS);
    struct decimal found = shortest(significand, (exponent == 0 ? 1 : exponent) - EXPONENT_BIAS,
                                    fraction == 0 && exponent > 1);
    while (found.digits % 10 == 0) {
        found.digits /= 10;
        found.power++;
    }
    return found;
}

static char *put_zeros(char *out, int count)
{
    memset(out, '0', (size_t)count);
    return out + count;
}

/* 1249.5: what stands before the point and one or two digits behind it. */
static char *put_hundredths(char *out, uint64_t digits)
{
    out = tw_digits_write(out, digits / 100);
    *out++ = '.';
    memcpy(out, tw_digit_pairs + digits % 100 * 2, 2);
    return out + (out[1] == '0' ? 1 : 2);
}

/* first = power of ten of the first digit. */
static char *put_exponent(char *out, struct decimal number, int first)
{
    char *end = tw_digits_write(out + 1, number.digits);
    out[0] = out[1]; /* the first digit goes before the point */
    out[1] = '.';
    end = end == out + 2 ? out + 1 : end;
    *end++ = 'e';
    *end++ = first < 0 ? '-' : '+';
    return tw_digits_write(end, (uint64_t)(first < 0 ? -first : first));
}

char *json_double_write(char *out, double value)
{
    if (__builtin_signbit(value)) {
        *out++ = '-';
        value = -value;
    }
    if (value < 9007199254740992.0 && (double)(uint64_t)value == value) {
        out = tw_digits_write(out, (uint64_t)value);
        memcpy(out, ".0", 2);
        return out + 2;
    }
    uint64_t hundredths;
    if (is_hundredths(value, &hundredths)) {
        return put_hundredths(out, hundredths);
    }
    struct decimal number = decimal_of(value);
    char *end = tw_digits_write(out + 1, number.digits); /* where it stays if it is ddd.ddd */
    int first = (int)(end - out - 1) + number.power - 1;
    if (first < FIXED_MIN || first > FIXED_MAX) {
        return put_exponent(out, number, first);
    }
    if (number.power >= 0) {
        out = put_zeros(tw_digits_write(out, number.digits), number.power);
        memcpy(out, ".0", 2);
        return out + 2;
    }
    if (first < 0) { /* 0.00ddd */
        memcpy(out, "0.", 2);
        return tw_digits_write(put_zeros(out + 2, -first - 1), number.digits);
    }
    memmove(out, out + 1, (size_t)first + 1);
    out[first + 1] = '.';
    return end;
}

/* ---- reading ---- */

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}

size_t json_number_len(tw_str text, bool *is_whole)
{
    const char *at = text.ptr;
    const char *end = text.ptr + text.len;
    *is_whole = true;
    at += at < end && *at == '-';
    const char *digits = at;
    at = skip_digits(at, end);
    if (at == digits || (*digits == '0' && at - digits > 1)) {
        return 0;
    }
    if (at < end && *at == '.') {
        const char *fraction = at + 1;
        at = skip_digits(fraction, end);
        *is_whole = false;
        if (at == fraction) {
            return 0;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        const char *exponent = at;
        at = skip_digits(exponent, end);
        *is_whole = false;
        if (at == exponent) {
            return 0;
        }
    }
    return (size_t)(at - text.ptr);
}

bool json_number_i64(tw_str number, int64_t *out)
{
    bool is_negative = number.ptr[0] == '-';
    uint64_t value = 0;
    for (size_t i = is_negative; i < number.len; i++) {
        uint64_t digit = (uint64_t)(number.ptr[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (value > (uint64_t)INT64_MAX + (is_negative ? 1 : 0)) {
        return false;
    }
    *out = is_negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* Numbers like 12.75: up to 15 digits, and at most 22 of them behind the point. Both parts are then
 * exact doubles, and one division rounds once, so the result is right.
 *      Source  W. Clinger, "How to read floating point numbers accurately" */
static bool read_short(tw_str number, double *out)
{
    static const double divisors[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    bool is_negative = number.ptr[0] == '-';
    uint64_t digits = 0;
    size_t behind = 0; /* digits behind the point */
    bool is_behind = false;
    if (number.len > 16) {
        return false;
    }
    for (size_t i = is_negative; i < number.len; i++) {
        char c = number.ptr[i];
        if (c == '.') {
            is_behind = true;
        } else if (c < '0' || c > '9') {
            return false; /* an exponent */
        } else {
            digits = digits * 10 + (uint64_t)(c - '0');
            behind += is_behind;
        }
    }
    if (digits >= (uint64_t)1 << 53 || behind >= TW_COUNT(divisors)) {
        return false;
    }
    double value = (double)digits / divisors[behind];
    *out = is_negative ? -value : value;
    return true;
}

tw_err json_number_double(tw_str number, double *out)
{
    if (read_short(number, out)) {
        return TW_OK;
    }
    char small[NUMBER_STACK];
    char *text = number.len < sizeof small ? small : tw_alloc(number.len + 1);
    if (text == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(text, number.ptr, number.len);
    text[number.len] = '\0';
    double value = strtod(text, NULL);
    if (text != small) {
        tw_free(text);
    }
    *out = value;
    return value - value == 0 ? TW_OK : TW_E_BAD_MESSAGE; /* infinity minus itself is NaN */
}
