/* json_read.c - JSON text to BSON in one pass; see json.h for the rules.
 *
 * Each object is written as a document as it is read. When it closes and its first name is that of
 * a form of Extended JSON ($oid, $date, ...), the value that it spells takes its place.
 *
 * Invariants
 * 1. r->at never passes r->end, and each byte is looked at once, but for names that may be forms.
 * 2. The recursion is bounded: a form costs no level of depth, as it stands for a scalar, but at
 *    most FORM_LEVELS of them follow each other, and whatever else is inside costs a level. */
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/json_priv.h"
#include "protocol/limits.h"
#include "protocol/utf8.h"

enum {
    PAIRS_MAX = 12,  /* names of an object that are compared each with each; more are sorted */
    FORM_LEVELS = 2, /* a form, and an object that belongs to it: {"$date":{"$numberLong":"1"}} */
    SMALL_MAX = 64,  /* bytes; any fixed value and array index fits */
};

struct reader {
    const char *at;
    const char *end;
    const char *begin;
    int depth_max;
    tw_arena *arena;
    tw_buf out;
    const char *why; /* what is wrong at r->at; NULL: nothing yet */
};

/* Where a value is and what is around it. */
struct place {
    size_t type_at; /* the byte in out that is to tell its type */
    int depth;      /* documents and arrays around it */
    int forms;      /* forms directly around it */
};

static tw_err refuse(struct reader *r, tw_err err, const char *why)
{
    r->why = r->why == NULL ? why : r->why;
    return err;
}

static tw_err bad(struct reader *r, const char *why)
{
    return refuse(r, TW_E_BAD_MESSAGE, why);
}

static tw_err refuse_size(struct reader *r)
{
    bool is_memory = r->out.err == TW_E_NO_MEMORY;
    return refuse(r, r->out.err, is_memory ? "no memory is left" : "too big as a document");
}

static inline bool room(struct reader *r, size_t more)
{
    return r->out.cap - r->out.len >= more || tw_buf_reserve(&r->out, more);
}

static inline tw_err put(struct reader *r, const void *bytes, size_t len)
{
    if (!room(r, len)) {
        return refuse_size(r);
    }
    memcpy(r->out.ptr + r->out.len, bytes, len);
    r->out.len += len;
    return TW_OK;
}

static inline void skip_space(struct reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
}

static inline bool take(struct reader *r, char c)
{
    if (r->at < r->end && *r->at == c) {
        r->at++;
        return true;
    }
    return false;
}

/* ---- strings ---- */

/* Four hexadecimal digits, -1 where there are none. */
static int read_hex4(struct reader *r)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = r->at < r->end ? json_hex_digit(*r->at) : -1;
        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
        r->at++;
    }
    return value;
}

static tw_err put_code_point(struct reader *r, unsigned code)
{
    static const uint8_t heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    unsigned len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    uint8_t bytes[4] = {(uint8_t)code};
    for (unsigned i = 0; i < len && len > 1; i++) {
        unsigned bits = code >> (6 * (len - 1 - i));
        bytes[i] = (uint8_t)(i == 0 ? heads[len] | bits : 0x80 | (bits & 0x3f));
    }
    return put(r, bytes, len);
}

/* \uXXXX, of which the u was taken; a character beyond 16 bits is a pair of them. */
static tw_err read_unicode(struct reader *r, bool is_name)
{
    int code = read_hex4(r);
    if (code < 0) {
        return bad(r, "\\u without four hexadecimal digits");
    }
    if (code >= 0xd800 && code < 0xdc00 && take(r, '\\') && take(r, 'u')) {
        int low = read_hex4(r);
        if (low < 0xdc00 || low > 0xdfff) {
            return bad(r, "half of a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code < 0xe000) {
        return bad(r, "half of a surrogate pair");
    }
    if (code == 0 && is_name) {
        return bad(r, "a NUL in a name");
    }
    return put_code_point(r, (unsigned)code);
}

static tw_err read_escape(struct reader *r, bool is_name)
{
    static const char plain[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    r->at++; /* the backslash */
    if (take(r, 'u')) {
        return read_unicode(r, is_name);
    }
    char c = r->at < r->end ? plain[(uint8_t)*r->at] : '\0';
    if (c == '\0') {
        return bad(r, "an escape that JSON does not have");
    }
    r->at++;
    return put(r, &c, 1);
}

/* What is not plain and no quote: an escape, or a character beyond ASCII. */
static tw_err read_special(struct reader *r, bool is_name)
{
    uint8_t c = (uint8_t)*r->at;
    if (c == '\\') {
        return read_escape(r, is_name);
    }
    if (c < 0x20) {
        return bad(r, "a control character in a string");
    }
    size_t len = tw_utf8_len((const uint8_t *)r->at, (size_t)(r->end - r->at));
    if (len == 0) {
        return bad(r, "bytes that are not UTF-8");
    }
    tw_err err = put(r, r->at, len);
    r->at += len;
    return err;
}

/* Appends the text of a string of which the opening quote was taken. */
static tw_err read_text(struct reader *r, bool is_name)
{
    for (;;) {
        size_t run = 0;
        size_t left = (size_t)(r->end - r->at);
        if (left >= JSON_BLOCK && r->out.cap - r->out.len >= JSON_BLOCK) {
            run = json_copy_plain(r->out.ptr + r->out.len, r->at);
            r->out.len += run;
        } else {
            while (run < left && json_is_plain(r->at[run])) {
                run++;
            }
            if (put(r, r->at, run) != TW_OK) {
                return r->out.err;
            }
        }
        r->at += run;
        if (run == left) {
            return bad(r, "the text ends inside a string");
        }
        if (json_is_plain(*r->at)) {
            continue;
        }
        if (take(r, '"')) {
            return TW_OK;
        }
        tw_err err = read_special(r, is_name);
        if (err != TW_OK) {
            return err;
        }
    }
}

/* ---- scalars ---- */

static inline void set_type(struct reader *r, struct place place, uint8_t type)
{
    r->out.ptr[place.type_at] = (char)type;
}

static tw_err read_string(struct reader *r, struct place place)
{
    uint32_t size = 0;
    set_type(r, place, TW_BSON_STRING);
    tw_err err = put(r, &size, sizeof size);
    size_t text_at = r->out.len;
    if (err == TW_OK) {
        err = read_text(r, false);
    }
    if (err == TW_OK) {
        err = put(r, "", 1);
    }
    if (err == TW_OK) {
        size = (uint32_t)(r->out.len - text_at);
        memcpy(r->out.ptr + text_at - sizeof size, &size, sizeof size);
    }
    return err;
}

static tw_err put_scalar(struct reader *r, struct place place, uint8_t type, const void *bytes,
                         size_t len)
{
    set_type(r, place, type);
    return put(r, bytes, len);
}

/* A whole number becomes int32, int64 or, beyond both, the nearest double; others are doubles. */
static tw_err read_number(struct reader *r, struct place place)
{
    bool is_whole;
    tw_str number = {r->at, (size_t)(r->end - r->at)};
    number.len = json_number_len(number, &is_whole);
    if (number.len == 0) {
        return bad(r, "no JSON value");
    }
    int64_t whole;
    if (is_whole && json_number_i64(number, &whole)) {
        r->at += number.len;
        int32_t small = (int32_t)whole;
        return small == whole ? put_scalar(r, place, TW_BSON_INT32, &small, sizeof small)
                              : put_scalar(r, place, TW_BSON_INT64, &whole, sizeof whole);
    }
    double value;
    tw_err err = json_number_double(number, &value);
    if (err != TW_OK) {
        return refuse(r, err, err == TW_E_NO_MEMORY ? "no memory is left" : "too large a number");
    }
    r->at += number.len;
    return put_scalar(r, place, TW_BSON_DOUBLE, &value, sizeof value);
}

static tw_err read_scalar(struct reader *r, struct place place)
{
    static const struct {
        const char *word;
        uint8_t len, type, size, byte;
    } words[] = {{"true", 4, TW_BSON_BOOL, 1, 1},
                 {"false", 5, TW_BSON_BOOL, 1, 0},
                 {"null", 4, TW_BSON_NULL, 0, 0}};
    for (size_t i = 0; i < TW_COUNT(words); i++) {
        if (r->at < r->end && *r->at == *words[i].word && r->end - r->at >= words[i].len &&
            memcmp(r->at, words[i].word, words[i].len) == 0) {
            r->at += words[i].len;
            return put_scalar(r, place, words[i].type, &words[i].byte, words[i].size);
        }
    }
    return read_number(r, place);
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
    const tw_str *x = a;
    const tw_str *y = b;
    if (x->len != y->len) {
        return x->len < y->len ? -1 : 1;
    }
    return x->len == 0 ? 0 : memcmp(x->ptr, y->ptr, x->len);
}

/* Refuses a name that stands twice. Sorting bounds the work, whatever names a client invents. */
static tw_err check_names(struct reader *r, tw_bson doc, size_t count)
{
    tw_str few[PAIRS_MAX];
    bool is_few = count <= PAIRS_MAX;
    tw_str *names = is_few ? few : tw_alloc(count * sizeof *names);
    if (names == NULL) {
        return refuse(r, TW_E_NO_MEMORY, "no memory is left");
    }
    bool is_twice = false;
    size_t at = 0;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); at < count && tw_bson_iter_next(&iter); at++) {
        names[at] = iter.name;
        for (size_t i = 0; is_few && i < at; i++) {
            is_twice |= tw_str_equal(names[i], iter.name);
        }
    }
    if (!is_few) {
        qsort(names, at, sizeof *names, compare_names);
        for (size_t i = 1; i < at; i++) {
            is_twice |= compare_names(&names[i - 1], &names[i]) == 0;
        }
        tw_free(names);
    }
    return is_twice ? bad(r, "a name stands twice in an object") : TW_OK;
}

/* Does the object begin with a form's name? It was opened, and its white space skipped. */
static bool starts_form(const struct reader *r)
{
    size_t left = (size_t)(r->end - r->at);
    if (left < 3 || r->at[0] != '"' || r->at[1] != '$') {
        return false;
    }
    const char *quote = memchr(r->at + 1, '"', left - 1 < SMALL_MAX ? left - 1 : SMALL_MAX);
    return quote != NULL && json_extended_is_form((tw_str){r->at + 1, (size_t)(quote - r->at) - 1});
}

/* ---- documents ---- */

static tw_err read_value(struct reader *r, struct place place);

/* Type, name, value; the type is set when the value is known. */
static tw_err read_element(struct reader *r, bool is_array, size_t index, struct place inside)
{
    inside.type_at = r->out.len;
    if (is_array) {
        char head[SMALL_MAX];
        head[0] = 0;
        char *end = tw_digits_write(head + 1, index);
        *end++ = '\0';
        tw_err err = put(r, head, (size_t)(end - head));
        return err != TW_OK ? err : read_value(r, inside);
    }
    if (!take(r, '"')) {
        return bad(r, "no name in quotes");
    }
    tw_err err = put(r, "", 1);
    if (err == TW_OK) {
        err = read_text(r, true);
    }
    if (err == TW_OK) {
        err = put(r, "", 1);
    }
    if (err != TW_OK) {
        return err;
    }
    skip_space(r);
    if (!take(r, ':')) {
        return bad(r, "no colon behind a name");
    }
    skip_space(r);
    return read_value(r, inside);
}

/* The elements up to the closing bracket, and it; then the length in front. */
static tw_err read_elements(struct reader *r, bool is_array, struct place inside, size_t *count)
{
    char close = is_array ? ']' : '}';
    size_t doc_at = r->out.len;
    uint32_t len = 0;
    *count = 0;
    tw_err err = put(r, &len, sizeof len);
    bool is_open = !take(r, close);
    while (err == TW_OK && is_open) {
        err = read_element(r, is_array, (*count)++, inside);
        if (err != TW_OK) {
            return err;
        }
        skip_space(r);
        is_open = !take(r, close);
        if (is_open && !take(r, ',')) {
            return bad(r,
                       is_array ? "no comma or ] behind a value" : "no comma or } behind a value");
        }
        skip_space(r);
    }
    if (err == TW_OK) {
        err = put(r, "", 1);
    }
    if (err == TW_OK) {
        len = (uint32_t)(r->out.len - doc_at);
        memcpy(r->out.ptr + doc_at, &len, sizeof len);
    }
    return err;
}

/* Puts the value that the document at doc_at spells into its place. */
static tw_err replace_form(struct reader *r, struct place place, tw_bson doc)
{
    tw_bson_value value;
    tw_err err = json_extended_read(r->arena, doc, &value);
    if (err != TW_OK) {
        return refuse(r, err, "a malformed value of Extended JSON ($oid, $date, ...)");
    }
    if (value.type == TW_BSON_CODE_SCOPE && place.depth + 1 > r->depth_max) {
        return refuse(r, TW_E_DEPTH, "nested too deeply");
    }
    size_t doc_at = (size_t)(doc.ptr - (const uint8_t *)r->out.ptr);
    r->out.len = doc_at;
    set_type(r, place, value.type);
    if (value.len > 0 && !room(r, value.len)) {
        return refuse_size(r);
    }
    memmove(r->out.ptr + doc_at, value.ptr, value.len); /* it may be a part of the document */
    r->out.len += value.len;
    return TW_OK;
}

static tw_err read_object(struct reader *r, struct place place, bool is_outermost)
{
    skip_space(r);
    bool is_form = !is_outermost && starts_form(r);
    struct place inside = {.depth = place.depth + (is_form ? 0 : 1),
                           .forms = is_form ? place.forms + 1 : 0};
    /* An object that belongs to a form is no level of its own; a scope is, see replace_form. */
    if (!is_form && inside.depth > r->depth_max + (place.forms > 0 ? 1 : 0)) {
        return refuse(r, TW_E_DEPTH, "nested too deeply");
    }
    if (inside.forms > FORM_LEVELS) {
        return bad(r, "a malformed value of Extended JSON ($oid, $date, ...)");
    }
    size_t doc_at = r->out.len;
    size_t count;
    tw_err err = read_elements(r, false, inside, &count);
    if (err != TW_OK) {
        return err;
    }
    tw_bson doc = {(const uint8_t *)r->out.ptr + doc_at, r->out.len - doc_at};
    err = count > 1 ? check_names(r, doc, count) : TW_OK;
    if (err != TW_OK || is_outermost) {
        return err;
    }
    set_type(r, place, TW_BSON_DOCUMENT);
    return is_form ? replace_form(r, place, doc) : TW_OK;
}

static tw_err read_array(struct reader *r, struct place place)
{
    size_t count;
    set_type(r, place, TW_BSON_ARRAY);
    if (place.depth + 1 > r->depth_max) {
        return refuse(r, TW_E_DEPTH, "nested too deeply");
    }
    skip_space(r);
    return read_elements(r, true, (struct place){.depth = place.depth + 1}, &count);
}

static tw_err read_value(struct reader *r, struct place place)
{
    char c = r->at < r->end ? *r->at : '\0';
    switch (c) {
    case '"':
        r->at++;
        return read_string(r, place);
    case '{':
        r->at++;
        return read_object(r, place, false);
    case '[':
        r->at++;
        return read_array(r, place);
    default:
        return read_scalar(r, place);
    }
}

static tw_err read_all(struct reader *r)
{
    skip_space(r);
    if (!take(r, '{')) {
        return bad(r, "no JSON object");
    }
    tw_err err = read_object(r, (struct place){0}, true);
    if (err != TW_OK) {
        return err;
    }
    skip_space(r);
    return r->at == r->end ? TW_OK : bad(r, "something behind the object");
}

tw_err tw_json_read(tw_arena *arena, tw_str text, int depth_max, tw_bson *out, tw_str *why)
{
    TW_ASSERT(depth_max > 0 && depth_max <= TW_DEPTH_MAX);
    static const char none[] = "";
    const char *begin = text.len == 0 ? none : text.ptr;
    struct reader r = {.at = begin,
                       .begin = begin,
                       .end = begin + text.len,
                       .depth_max = depth_max,
                       .arena = arena};
    tw_buf_init(&r.out, TW_DOCUMENT_MAX);
    size_t guess = text.len + text.len / 4 + SMALL_MAX; /* BSON is mostly about as long */
    tw_err err = tw_buf_reserve(&r.out, guess < TW_DOCUMENT_MAX ? guess : TW_DOCUMENT_MAX)
                     ? read_all(&r)
                     : refuse_size(&r);
    if (err == TW_OK) {
        tw_bson doc = tw_arena_bson(arena, (tw_bson){(const uint8_t *)r.out.ptr, r.out.len});
        if (doc.ptr != NULL) {
            *out = doc;
        } else {
            err = refuse(&r, TW_E_NO_MEMORY, "no memory is left");
        }
    }
    if (err != TW_OK && why != NULL) {
        size_t at = (size_t)(r.at - r.begin);
        *why = tw_str_of(tw_arena_format(arena, "%s, at byte %zu", r.why, at));
    }
    tw_buf_fini(&r.out);
    return err;
}
