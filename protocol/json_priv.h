/* json_priv.h - what json_write.c, json_read.c, json_extended.c and json_double.c share. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

#if defined(__SSE2__) && !defined(TW_JSON_PORTABLE)
#include <emmintrin.h>
#endif

enum {
    JSON_DOUBLE_MAX = 32, /* bytes that json_double_write may touch */
};

/* The first left bytes of a word, left at most 8: what stands behind them is not read, but 0. */
static inline uint64_t json_load_left(const char *from, size_t left)
{
    uint64_t word = 0;
    if (left >= 8) {
        memcpy(&word, from, 8);
    } else if (left >= 4) { /* two halves that overlap: their common bytes are the same */
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + left - 4, 4);
        word = first | (uint64_t)last << (8 * (left - 4));
    } else {
        for (size_t i = 0; i < left; i++) {
            word |= (uint64_t)(uint8_t)from[i] << (8 * i);
        }
    }
    return word;
}

/* A block is plain as far as a JSON string holds its bytes as they are: ASCII from 0x20 on without
 * quote and backslash. json_copy_plain copies a whole block, and returns how many of its first
 * bytes are plain. json_copy_plain_left reads no more than left bytes, fewer than a block; it
 * writes a whole block all the same, in which 0 stands behind them. */
enum { JSON_WORD = 8 /* bytes: a block where there is nothing wider */ };

/* The tests for zero below are exact for the lowest byte that they find; borrows only reach higher
 * ones.      Source  the well-known test for a zero byte in a word */
static inline size_t json_store_word(char *to, uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    memcpy(to, &word, sizeof word);
    uint64_t quote = word ^ ones * '"';
    uint64_t slash = word ^ ones * '\\';
    uint64_t low = (word - ones * 0x20) & ~word;
    uint64_t found = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | low | word;
    found &= tops;
    return found == 0 ? sizeof word : (size_t)__builtin_ctzll(found) / 8;
}

#if defined(__SSE2__) && !defined(TW_JSON_PORTABLE)
enum { JSON_BLOCK = 16 };

static inline size_t json_store_plain(char *to, __m128i bytes)
{
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
    __m128i below = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)); /* signed: 0x80 and up too */
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i all = _mm_or_si128(below, _mm_or_si128(quote, slash));
    unsigned mask = (unsigned)_mm_movemask_epi8(all);
    return (size_t)__builtin_ctz(mask | 1u << JSON_BLOCK);
}

static inline size_t json_copy_plain(char *to, const char *from)
{
    return json_store_plain(to, _mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline size_t json_copy_plain_left(char *to, const char *from, size_t left)
{
    uint64_t low = json_load_left(from, left);
    uint64_t high = left > JSON_WORD ? json_load_left(from + JSON_WORD, left - JSON_WORD) : 0;
    return json_store_plain(to, _mm_set_epi64x((int64_t)high, (int64_t)low));
}
#else
enum { JSON_BLOCK = JSON_WORD };

static inline size_t json_copy_plain(char *to, const char *from)
{
    return json_store_word(to, json_load_left(from, JSON_WORD));
}

static inline size_t json_copy_plain_left(char *to, const char *from, size_t left)
{
    return json_store_word(to, json_load_left(from, left));
}
#endif

static inline bool json_is_plain(char byte)
{
    uint8_t c = (uint8_t)byte;
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Value of a hexadecimal digit, -1 for none. */
static inline int json_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- json_double.c: numbers as text ---- */
/* A finite double in the fewest digits that read back as it, always with a point or an exponent. */
char *json_double_write(char *out, double value);
/* Length of the JSON number at the begin of text, 0 when there is none. */
size_t json_number_len(tw_str text, bool *is_whole);
/* A whole number, as json_number_len found it. False: beyond int64. */
bool json_number_i64(tw_str number, int64_t *out);
/* Any number. TW_E_BAD_MESSAGE: beyond what a double holds; TW_E_NO_MEMORY. */
tw_err json_number_double(tw_str number, double *out);

/* ---- json_extended.c: the forms of Extended JSON ---- */
/* Is an object whose first name this is a form, and no document? */
bool json_extended_is_form(tw_str first_name);
/* The value that the form doc spells; its bytes lie in doc or arena. TW_E_BAD_MESSAGE: the form is
 * malformed; TW_E_NO_MEMORY. */
tw_err json_extended_read(tw_arena *arena, tw_bson doc, tw_bson_value *out);
