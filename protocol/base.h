/* base.h - the words every file uses: views, assertions, results, growable buffers.
 *
 * Views (tw_str, tw_bson, tw_key) never own: they die with the message, arena or buffer they point
 * into. A bug stops the process (TW_ASSERT, on in release); an operating error is a tw_err; raw
 * bytes from outside never reach an assertion, a decoder has refused them before. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "protocol/errors.h"

#define TW_COUNT(array)               (sizeof(array) / sizeof((array)[0]))
#define TW_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define TW_NORETURN                   __attribute__((noreturn))

TW_NORETURN void tw_assert_failed(const char *file, int line, const char *what);
#define TW_ASSERT(condition)                                                                       \
    ((condition) ? (void)0 : tw_assert_failed(__FILE__, __LINE__, #condition))

/* Casts a void * to the struct that it must be: asserts that it is there and carries its magic. */
#define TW_CAST(to, from, magic_is)                                                                \
    do {                                                                                           \
        (to) = (from);                                                                             \
        TW_ASSERT((to) != NULL && (to)->magic == (uint32_t)(magic_is));                            \
    } while (0)

/* A view of bytes or of UTF-8 text; not terminated. */
typedef struct tw_str {
    const char *ptr;
    size_t len;
} tw_str;

#define TW_STR(literal) ((tw_str){(literal), sizeof(literal) - 1})

static inline tw_str tw_str_of(const char *text)
{
    return (tw_str){text, text == NULL ? 0 : strlen(text)};
}

static inline bool tw_str_equal(tw_str a, tw_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* By bytes; of two where one begins the other, the shorter comes first. <0, 0, >0 as memcmp. */
static inline int tw_str_compare(tw_str a, tw_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* A view of one BSON document whose outer length was checked; len 0 = absent. */
typedef struct tw_bson {
    const uint8_t *ptr;
    size_t len;
} tw_bson;

/* The canonical form of a record's key: the BSON type byte, then the value's bytes. Whole numbers
 * of any BSON type become int64, so that equal ids are equal bytes (see protocol/bson.h). */
typedef struct tw_key {
    const uint8_t *ptr;
    size_t len;
} tw_key;

static inline bool tw_key_equal(tw_key a, tw_key b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* A position of an origin's log: srv names the origin, seqno grows with each of its changes. */
typedef struct tw_position {
    uint64_t srv;   /* below 2^53, never reused */
    uint64_t seqno; /* 1 .. 2^53-1; 0 = before the first */
} tw_position;

/* A client's knowledge: the highest seqno it has seen of each origin. Written [[srv, seqno], ...].
 * at is sorted by srv and each srv stands once (position.h makes and checks it). */
typedef struct tw_vector {
    const tw_position *at;
    size_t count; /* at most TW_ORIGINS_MAX */
} tw_vector;

/* Memory from the heap that is counted and can be made to fail (tests). NULL = none left.
 * tw_free accepts NULL. Thread: any. */
void *tw_alloc(size_t bytes);
void *tw_alloc_zero(size_t count, size_t bytes);
void *tw_realloc(void *old, size_t bytes);
void tw_free(void *ptr);
/* Makes the nth allocation from now on fail, and only that one; 0 = none (tests). */
void tw_alloc_fail_at(uint64_t nth);
uint64_t tw_alloc_count(void); /* allocations asked for so far, the failed ones too */

/* A growable byte buffer with a bound. A failed append leaves the bytes before it untouched and
 * sets err, which stays until tw_buf_clear: append freely, check err once at the end. */
typedef struct tw_buf {
    char *ptr; /* own */
    size_t len;
    size_t cap;
    size_t max; /* bytes; an append beyond it sets TW_E_TOO_BIG */
    tw_err err;
} tw_buf;

void tw_buf_init(tw_buf *buf, size_t max);
void tw_buf_fini(tw_buf *buf);
void tw_buf_clear(tw_buf *buf);                /* keeps the memory */
bool tw_buf_reserve(tw_buf *buf, size_t more); /* room for more bytes behind len */
void tw_buf_add_growing(tw_buf *buf, const void *bytes, size_t len); /* what tw_buf_add calls */

/* Inline, so that a text of fixed length is a few instructions where there is room. */
static inline void tw_buf_add(tw_buf *buf, const void *bytes, size_t len)
{
    if (len > 0 && len <= buf->cap - buf->len && buf->err == TW_OK) {
        memcpy(buf->ptr + buf->len, bytes, len);
        buf->len += len;
    } else {
        tw_buf_add_growing(buf, bytes, len);
    }
}

static inline void tw_buf_add_str(tw_buf *buf, tw_str text)
{
    tw_buf_add(buf, text.ptr, text.len);
}

static inline void tw_buf_add_byte(tw_buf *buf, char byte)
{
    tw_buf_add(buf, &byte, 1);
}

void tw_buf_add_u64(tw_buf *buf, uint64_t value); /* decimal */
void tw_buf_add_i64(tw_buf *buf, int64_t value);  /* decimal */
void tw_buf_format(tw_buf *buf, const char *format, ...) TW_PRINTF(2, 3);

static inline tw_str tw_buf_str(const tw_buf *buf)
{
    return (tw_str){buf->ptr, buf->len};
}

enum { TW_DIGITS_MAX = 20 /* bytes: 2^64 - 1 has as many */ };

/* The decimal digits of value, without end mark; returns the place behind them. out has room for
 * TW_DIGITS_MAX. */
char *tw_digits_write(char *out, uint64_t value);
/* "00", "01" .. "99": two digits at 2 * n. */
extern const char tw_digit_pairs[201];

/* Formats into a caller's array, always terminated; returns the bytes written, cut at size - 1. */
size_t tw_format(char *out, size_t size, const char *format, ...) TW_PRINTF(3, 4);
/* Parses a whole decimal number without sign, at most max. TW_E_BAD_MESSAGE otherwise. */
tw_err tw_parse_u64(tw_str text, uint64_t max, uint64_t *out);
/* True when word is one of a list with one separator between: "asc desc". "" is in none. */
bool tw_str_in_list(tw_str word, const char *list, char separator);
/* A fast 64-bit hash of bytes for tables in memory; not for adversaries without seed. */
uint64_t tw_hash(const void *bytes, size_t len, uint64_t seed);
