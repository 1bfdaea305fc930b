/* base.c - counted memory, growable buffers, formatting, numbers, hashing, the end on a bug. */
#include "protocol/base.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUF_CAP_FIRST = 64 }; /* bytes; the first growth of a buffer */

/* The only mutable globals of protocol/: the counter of allocations, and the one that is to fail.
 * Relaxed order is enough, as nothing is published through them. */
static atomic_uint_fast64_t alloc_count;
static atomic_uint_fast64_t alloc_fails; /* number of the allocation that fails; 0 = none */

void tw_assert_failed(const char *file, int line, const char *what)
{
    char text[512]; /* no stdio: it may be what is broken */
    size_t len = tw_format(text, sizeof text, "%s:%d: assertion failed: %s\n", file, line, what);
    ssize_t written = write(STDERR_FILENO, text, len);
    (void)written; /* nothing is left to be done about it */
    abort();
}

/* ---- memory ---- */

/* Counts an allocation; true when it is the one to fail. */
static bool alloc_is_to_fail(void)
{
    uint64_t number = atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed) + 1;
    return number == atomic_load_explicit(&alloc_fails, memory_order_relaxed);
}

void *tw_alloc(size_t bytes)
{
    return alloc_is_to_fail() ? NULL : malloc(bytes == 0 ? 1 : bytes);
}

void *tw_alloc_zero(size_t count, size_t bytes)
{
    bool is_empty = count == 0 || bytes == 0;
    bool wraps = !is_empty && count > SIZE_MAX / bytes;
    if (alloc_is_to_fail() || wraps) {
        return NULL;
    }
    return is_empty ? calloc(1, 1) : calloc(count, bytes);
}

void *tw_realloc(void *old, size_t bytes)
{
    return alloc_is_to_fail() ? NULL : realloc(old, bytes == 0 ? 1 : bytes);
}

void tw_free(void *ptr)
{
    free(ptr);
}

void tw_alloc_fail_at(uint64_t nth)
{
    uint64_t number = nth == 0 ? 0 : atomic_load(&alloc_count) + nth;
    atomic_store(&alloc_fails, number);
}

uint64_t tw_alloc_count(void)
{
    return atomic_load(&alloc_count);
}

/* ---- digits ---- */

const char tw_digit_pairs[201] = "00010203040506070809101112131415161718192021222324"
                                 "25262728293031323334353637383940414243444546474849"
                                 "50515253545556575859606162636465666768697071727374"
                                 "75767778798081828384858687888990919293949596979899";

static const uint64_t tens[] = {1,
                                10,
                                100,
                                1000,
                                10000,
                                100000,
                                1000000,
                                10000000,
                                100000000,
                                1000000000,
                                10000000000,
                                100000000000,
                                1000000000000,
                                10000000000000,
                                100000000000000,
                                1000000000000000,
                                10000000000000000,
                                100000000000000000,
                                1000000000000000000,
                                10000000000000000000u};

/* 1233 / 4096 is a little above log10(2): the estimate is right or one too high. */
static unsigned digits_count(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned count = bits * 1233 >> 12;
    return count + (value >= tens[count] || count == 0 ? 1 : 0);
}

char *tw_digits_write(char *out, uint64_t value)
{
    if (value < 10) { /* very often */
        *out = (char)('0' + value);
        return out + 1;
    }
    unsigned count = digits_count(value);
    char *at = out + count;
    while (value >= 10000) { /* the division of 64 bits is what each step waits for */
        unsigned four = (unsigned)(value % 10000);
        at -= 4;
        memcpy(at, tw_digit_pairs + four / 100 * 2, 2);
        memcpy(at + 2, tw_digit_pairs + four % 100 * 2, 2);
        value /= 10000;
    }
    unsigned rest = (unsigned)value;
    if (rest >= 100) {
        at -= 2;
        memcpy(at, tw_digit_pairs + rest % 100 * 2, 2);
        rest /= 100;
    }
    if (rest >= 10) {
        memcpy(at - 2, tw_digit_pairs + rest * 2, 2);
    } else {
        at[-1] = (char)('0' + rest);
    }
    return out + count;
}

/* ---- buffers ---- */

void tw_buf_init(tw_buf *buf, size_t max)
{
    TW_ASSERT(max < SIZE_MAX / 2); /* so that sums of lengths do not wrap */
    *buf = (tw_buf){.max = max};
}

void tw_buf_fini(tw_buf *buf)
{
    tw_free(buf->ptr);
    *buf = (tw_buf){.max = buf->max};
}

void tw_buf_clear(tw_buf *buf)
{
    buf->len = 0;
    buf->err = TW_OK;
}

bool tw_buf_reserve(tw_buf *buf, size_t more)
{
    if (buf->err != TW_OK) {
        return false;
    }
    if (more <= buf->cap - buf->len) {
        return true;
    }
    if (more > buf->max - buf->len) {
        buf->err = TW_E_TOO_BIG;
        return false;
    }
    size_t cap = buf->cap < BUF_CAP_FIRST / 2 ? BUF_CAP_FIRST : buf->cap * 2;
    cap = cap < buf->len + more ? buf->len + more : cap;
    cap = cap > buf->max ? buf->max : cap;
    char *grown = tw_realloc(buf->ptr, cap + 1); /* one spare byte: see tw_buf_format */
    if (grown == NULL) {
        buf->err = TW_E_NO_MEMORY;
        return false;
    }
    buf->ptr = grown;
    buf->cap = cap;
    return true;
}

void tw_buf_add_growing(tw_buf *buf, const void *bytes, size_t len)
{
    if (len > 0 && tw_buf_reserve(buf, len)) {
        memcpy(buf->ptr + buf->len, bytes, len);
        buf->len += len;
    }
}

/* Where there may not be room for as many digits as a number can have. */
static __attribute__((noinline)) void add_u64_growing(tw_buf *buf, uint64_t value)
{
    char digits[TW_DIGITS_MAX];
    tw_buf_add_growing(buf, digits, (size_t)(tw_digits_write(digits, value) - digits));
}

void tw_buf_add_u64(tw_buf *buf, uint64_t value)
{
    if (buf->cap - buf->len >= TW_DIGITS_MAX && buf->err == TW_OK) {
        buf->len = (size_t)(tw_digits_write(buf->ptr + buf->len, value) - buf->ptr);
    } else {
        add_u64_growing(buf, value);
    }
}

void tw_buf_add_i64(tw_buf *buf, int64_t value)
{
    if (value >= 0) {
        tw_buf_add_u64(buf, (uint64_t)value);
        return;
    }
    size_t before = buf->len;
    tw_buf_add_byte(buf, '-');
    tw_buf_add_u64(buf, 0 - (uint64_t)value);
    if (buf->err != TW_OK) {
        buf->len = before; /* no lonely sign */
    }
}

/* vsnprintf ends with a NUL: it falls into the spare byte that every allocation has. */
void tw_buf_format(tw_buf *buf, const char *format, ...)
{
    if (buf->err != TW_OK) {
        return;
    }
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    TW_ASSERT(len >= 0); /* only a wrong format fails, and the compiler checks formats */
    if (len > 0 && tw_buf_reserve(buf, (size_t)len)) {
        (void)vsnprintf(buf->ptr + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

/* ---- text and numbers ---- */

size_t tw_format(char *out, size_t size, const char *format, ...)
{
    if (size == 0) {
        return 0;
    }
    va_list args;
    va_start(args, format);
    int len = vsnprintf(out, size, format, args);
    va_end(args);
    if (len < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)len < size ? (size_t)len : size - 1;
}

bool tw_str_in_list(tw_str word, const char *list, char separator)
{
    for (const char *at = list; at != NULL && word.len > 0;) {
        const char *end = strchr(at, separator);
        size_t len = end != NULL ? (size_t)(end - at) : strlen(at);
        if (tw_str_equal(word, (tw_str){at, len})) {
            return true;
        }
        at = end != NULL ? end + 1 : NULL;
    }
    return false;
}

tw_err tw_parse_u64(tw_str text, uint64_t max, uint64_t *out)
{
    if (text.len == 0) {
        return TW_E_BAD_MESSAGE;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(unsigned char)text.ptr[i] - '0';
        if (digit > 9 || value > max / 10 || value * 10 > max - digit || digit > max) {
            return TW_E_BAD_MESSAGE;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return TW_OK;
}

/* ---- hashing ----
 * The folded product: two 64-bit words are multiplied to 128 bits and the halves are combined by
 * exclusive or, so that each input bit reaches each output bit in one instruction or two. 16 bytes
 * are folded at a time, each word first masked by a constant or by the state; short inputs are read
 * as two words that overlap, so that no byte is read one by one.
 * Source  the construction of wyhash (Wang Yi); the constants are digits of pi, made odd */
static const uint64_t HASH_A = 0x243f6a8885a308d3;
static const uint64_t HASH_B = 0x13198a2e03707345;
static const uint64_t HASH_C = 0xa4093822299f31d1;

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_word(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint64_t hash_half(const unsigned char *at)
{
    uint32_t half;
    memcpy(&half, at, sizeof half);
    return half;
}

uint64_t tw_hash(const void *bytes, size_t len, uint64_t seed)
{
    const unsigned char *at = bytes;
    uint64_t a = 0;
    uint64_t b = 0;
    seed ^= hash_fold(seed ^ HASH_A, HASH_B);
    if (len > 16) {
        size_t left = len;
        for (; left > 16; left -= 16, at += 16) {
            seed = hash_fold(hash_word(at) ^ HASH_B, hash_word(at + 8) ^ seed);
        }
        a = hash_word(at + left - 16); /* the last 16 bytes, some of them again */
        b = hash_word(at + left - 8);
    } else if (len >= 8) {
        a = hash_word(at);
        b = hash_word(at + len - 8);
    } else if (len >= 4) {
        a = hash_half(at);
        b = hash_half(at + len - 4);
    } else if (len > 0) { /* first, middle and last: each of 1, 2 or 3 bytes */
        a = (uint64_t)at[0] << 16 | (uint64_t)at[len / 2] << 8 | at[len - 1];
    }
    uint64_t mixed = hash_fold(a ^ HASH_B, b ^ seed);
    return hash_fold(mixed ^ HASH_C ^ len, seed ^ HASH_B);
}
