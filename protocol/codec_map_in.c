/* codec_map_in.c - documents of the service socket: a msgpack map becomes BSON.
 *
 *   nil bool int float str array map   the BSON type of that name; an int is an int32 where it fits
 *   bin            binary of subtype 0
 *   ext -1         date: msgpack's timestamp, 32, 64 or 96 bits; finer than a millisecond is cut
 *   {"$oid": hex}  ObjectId
 *   other types    in their Extended JSON form ({"$numberDecimal": "1.5"}); a map is one when its
 *                  first name is of typed_names below
 * Refused: an int over INT64_MAX, other ext types, names that are no text, hold NUL or stand twice,
 * text that is not UTF-8, forms that the JSON reader refuses. A form that it does not know stays a
 * document, and so is the outermost map always.
 *
 * Reading is recursive, to depth_max levels at most. Each value is checked against the bytes left
 * before memory is asked for.      Source  msgpack specification, Extended JSON v2 */
#include <stdlib.h>

#include "protocol/bson.h"
#include "protocol/codec.h"
#include "protocol/codec_priv.h"
#include "protocol/json.h"
#include "protocol/limits.h"

enum {
    FEW_NAMES = 8,      /* up to here names are compared each with each, above they are sorted */
    PAIR_BYTES_MIN = 2, /* a name and a value */
};

/* Names that begin a value in its Extended JSON form. $oid is not among them: it is common. */
static const char *const typed_names[] = {
    "$numberDecimal", "$numberLong", "$numberInt", "$numberDouble", "$date",
    "$binary",        "$uuid",       "$timestamp", "$code",         "$regularExpression",
    "$symbol",        "$dbPointer",  "$minKey",    "$maxKey",       "$undefined",
};

/* ---- reading: one token after the other ---- */

enum token_kind {
    TOKEN_BAD = 0, /* 0xc1, and what is not in the table of heads */
    TOKEN_NIL,
    TOKEN_FALSE,
    TOKEN_TRUE,
    TOKEN_UNSIGNED,
    TOKEN_SIGNED,
    TOKEN_FLOAT,
    TOKEN_STR,
    TOKEN_BIN,
    TOKEN_EXT,
    TOKEN_FIXEXT,
    TOKEN_ARRAY,
    TOKEN_MAP,
};

struct token {
    enum token_kind kind;
    size_t width;    /* of number, in bytes */
    uint64_t number; /* the number's bits, or how many elements */
    int8_t ext_type;
    tw_str span; /* str, bin, ext: the bytes */
};

/* Heads 0xc0 to 0xdf. bytes: of the number or length behind the head; of the body for FIXEXT. */
static const struct {
    uint8_t kind;
    uint8_t bytes;
} heads[32] = {
    {TOKEN_NIL, 0},      {TOKEN_BAD, 0},      {TOKEN_FALSE, 0},    {TOKEN_TRUE, 0},
    {TOKEN_BIN, 1},      {TOKEN_BIN, 2},      {TOKEN_BIN, 4},      {TOKEN_EXT, 1},
    {TOKEN_EXT, 2},      {TOKEN_EXT, 4},      {TOKEN_FLOAT, 4},    {TOKEN_FLOAT, 8},
    {TOKEN_UNSIGNED, 1}, {TOKEN_UNSIGNED, 2}, {TOKEN_UNSIGNED, 4}, {TOKEN_UNSIGNED, 8},
    {TOKEN_SIGNED, 1},   {TOKEN_SIGNED, 2},   {TOKEN_SIGNED, 4},   {TOKEN_SIGNED, 8},
    {TOKEN_FIXEXT, 1},   {TOKEN_FIXEXT, 2},   {TOKEN_FIXEXT, 4},   {TOKEN_FIXEXT, 8},
    {TOKEN_FIXEXT, 16},  {TOKEN_STR, 1},      {TOKEN_STR, 2},      {TOKEN_STR, 4},
    {TOKEN_ARRAY, 2},    {TOKEN_ARRAY, 4},    {TOKEN_MAP, 2},      {TOKEN_MAP, 4},
};

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    tw_arena *arena;          /* borrow; for the names of a map, and the result */
    tw_bson_builder *builder; /* borrow; where values go */
    int depth_max;
    tw_err err;
};

static bool fail(struct reader *in, tw_err err)
{
    in->err = err;
    return false;
}

static size_t left(const struct reader *in)
{
    return (size_t)(in->end - in->at);
}

/* Reads a number of bytes bytes; false when there are not so many. */
static bool read_number(struct reader *in, size_t bytes, uint64_t *out)
{
    if (left(in) < bytes) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    *out = codec_load(in->at, bytes);
    in->at += bytes;
    return true;
}

/* Reads the body of a str, bin or ext, whose length is token->number. */
static bool read_span(struct reader *in, struct token *token)
{
    if (token->kind == TOKEN_EXT) {
        uint64_t type;
        if (!read_number(in, 1, &type)) {
            return false;
        }
        token->ext_type = (int8_t)type;
    }
    if (left(in) < token->number) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    token->span = (tw_str){(const char *)in->at, (size_t)token->number};
    in->at += token->number;
    return true;
}

/* Reads the head of a value, its number, and the body where it is of bytes. */
static bool read_token(struct reader *in, struct token *out)
{
    uint64_t head;
    if (!read_number(in, 1, &head)) {
        return false;
    }
    *out = (struct token){.kind = TOKEN_BAD};
    if (head < 0x80) {
        *out = (struct token){.kind = TOKEN_UNSIGNED, .number = head};
    } else if (head < 0x90) {
        *out = (struct token){.kind = TOKEN_MAP, .number = head & 0x0f};
    } else if (head < 0xa0) {
        *out = (struct token){.kind = TOKEN_ARRAY, .number = head & 0x0f};
    } else if (head < 0xc0) {
        *out = (struct token){.kind = TOKEN_STR, .number = head & 0x1f};
    } else if (head >= 0xe0) {
        *out = (struct token){.kind = TOKEN_SIGNED, .width = 1, .number = head};
    } else {
        out->kind = (enum token_kind)heads[head - 0xc0].kind;
        out->width = heads[head - 0xc0].bytes;
        if (out->kind == TOKEN_FIXEXT) {
            out->kind = TOKEN_EXT;
            out->number = out->width;
        } else if (!read_number(in, out->width, &out->number)) {
            return false;
        }
    }
    bool has_span = out->kind == TOKEN_STR || out->kind == TOKEN_BIN || out->kind == TOKEN_EXT;
    return has_span ? read_span(in, out) : out->kind != TOKEN_BAD || fail(in, TW_E_BAD_MESSAGE);
}

/* ---- reading: values ---- */

static bool read_value(struct reader *in, tw_str name, int depth);

/* Extends the sign of a number of width bytes. */
static int64_t signed_of(uint64_t bits, size_t width)
{
    uint64_t sign = (uint64_t)1 << (8 * width - 1);
    return (int64_t)((bits ^ sign) - sign);
}

static double float_of(uint64_t bits, size_t width)
{
    if (width == sizeof(float)) {
        uint32_t narrow = (uint32_t)bits;
        float value;
        memcpy(&value, &narrow, sizeof value);
        return (double)value;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Adds a timestamp: 32 bits of seconds; 30 of ns, 34 of seconds; or 32 of ns, 64 of seconds. */
static bool add_date(struct reader *in, tw_str name, const struct token *token)
{
    const uint8_t *at = (const uint8_t *)token->span.ptr;
    uint64_t ns = 0;
    int64_t s;
    if (token->ext_type != EXT_TIMESTAMP) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    if (token->span.len == 4) {
        s = (int64_t)codec_load(at, 4);
    } else if (token->span.len == 8) {
        ns = codec_load(at, 8) >> 34;
        s = (int64_t)(codec_load(at, 8) & (((uint64_t)1 << 34) - 1));
    } else if (token->span.len == 12) {
        ns = codec_load(at, 4);
        s = signed_of(codec_load(at + 4, 8), 8);
    } else {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    if (ns >= (uint64_t)NS_PER_MS * MS_PER_S || s < INT64_MIN / MS_PER_S + 1 ||
        s > INT64_MAX / MS_PER_S - 1) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    tw_bson_add_date(in->builder, name, s * MS_PER_S + (int64_t)(ns / NS_PER_MS));
    return true;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Adds the ObjectId of a map whose only name, which was read, is $oid. */
static bool add_oid(struct reader *in, tw_str name, uint64_t pairs)
{
    struct token hex;
    if (!read_token(in, &hex)) {
        return false;
    }
    if (pairs != 1 || hex.kind != TOKEN_STR || hex.span.len != OID_DIGITS) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    uint8_t oid[OID_BYTES];
    for (size_t i = 0; i < OID_BYTES; i++) {
        int high = digit_of(hex.span.ptr[2 * i]);
        int low = digit_of(hex.span.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return fail(in, TW_E_BAD_MESSAGE);
        }
        oid[i] = (uint8_t)(high << 4 | low);
    }
    tw_bson_add_oid(in->builder, name, oid);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const tw_str *left_name = a;
    const tw_str *right_name = b;
    if (left_name->len != right_name->len) {
        return left_name->len < right_name->len ? -1 : 1;
    }
    return left_name->len == 0 ? 0 : memcmp(left_name->ptr, right_name->ptr, left_name->len);
}

/* Many names are sorted, so that no choice of names costs the square of their number. */
static bool has_duplicate(tw_str *names, size_t count)
{
    if (count > FEW_NAMES) {
        qsort(names, count, sizeof *names, compare_names);
        for (size_t i = 1; i < count; i++) {
            if (tw_str_equal(names[i - 1], names[i])) {
                return true;
            }
        }
        return false;
    }
    for (size_t i = 1; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (tw_str_equal(names[i], names[k])) {
                return true;
            }
        }
    }
    return false;
}

static bool read_name(struct reader *in, tw_str *out)
{
    struct token token;
    if (!read_token(in, &token)) {
        return false;
    }
    *out = token.span;
    bool is_name = token.kind == TOKEN_STR && memchr(out->ptr, '\0', out->len) == NULL;
    return is_name || fail(in, TW_E_BAD_MESSAGE);
}

/* Reads the pairs of a map into the document that is open. */
static bool read_pairs(struct reader *in, uint64_t pairs, int depth)
{
    if (pairs > left(in) / PAIR_BYTES_MIN) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    size_t count = (size_t)pairs;
    tw_str *names = tw_arena_alloc(in->arena, count * sizeof *names);
    if (names == NULL) {
        return fail(in, TW_E_NO_MEMORY);
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_name(in, &names[i]) || !read_value(in, names[i], depth)) {
            return false;
        }
    }
    return !has_duplicate(names, count) || fail(in, TW_E_BAD_MESSAGE);
}

/* Reads a map that is a value in its Extended JSON form: as a plain document first, then as JSON
 * text, whose reader knows the forms. */
static bool read_typed(struct reader *in, tw_str name, uint64_t pairs, int depth)
{
    static const tw_str wrapper = {"v", 1};
    tw_buf plain;
    tw_buf_init(&plain, TW_DOCUMENT_MAX);
    tw_buf text;
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson_builder builder;
    tw_bson_builder *outer = in->builder;
    in->builder = &builder;
    tw_bson_begin(&builder, &plain);
    tw_bson_open_doc(&builder, wrapper);
    bool is_read = read_pairs(in, pairs, depth);
    in->builder = outer;
    if (!is_read) {
        goto out;
    }
    tw_bson_close(&builder);
    tw_bson doc = tw_bson_end(&builder);
    if (plain.err != TW_OK) {
        is_read = fail(in, plain.err);
        goto out;
    }
    tw_json_write(&text, doc);
    tw_bson typed;
    tw_err err = text.err;
    if (err == TW_OK) {
        err = tw_json_read(in->arena, tw_buf_str(&text), TW_DEPTH_MAX, &typed, NULL);
    }
    if (err != TW_OK) {
        is_read = fail(in, err);
        goto out;
    }
    tw_bson_add_value(in->builder, name, tw_bson_get(typed, wrapper));
out:
    tw_buf_fini(&text);
    tw_buf_fini(&plain);
    return is_read;
}

static bool is_typed_name(tw_str name)
{
    for (size_t i = 0; i < TW_COUNT(typed_names); i++) {
        if (tw_str_equal(name, tw_str_of(typed_names[i]))) {
            return true;
        }
    }
    return false;
}

/* Reads a map inside the outermost one. */
static bool read_map(struct reader *in, tw_str name, uint64_t pairs, int depth)
{
    const uint8_t *first = in->at;
    tw_str first_name = {NULL, 0};
    if (pairs > 0 && !read_name(in, &first_name)) {
        return false;
    }
    if (first_name.len > 0 && first_name.ptr[0] == '$') {
        if (tw_str_equal(first_name, TW_STR("$oid"))) {
            return add_oid(in, name, pairs);
        }
        if (is_typed_name(first_name)) {
            in->at = first;
            return read_typed(in, name, pairs, depth);
        }
    }
    in->at = first;
    tw_bson_open_doc(in->builder, name);
    bool is_read = read_pairs(in, pairs, depth);
    tw_bson_close(in->builder);
    return is_read;
}

static bool read_array(struct reader *in, tw_str name, uint64_t count, int depth)
{
    if (count > left(in)) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    tw_bson_open_array(in->builder, name);
    bool is_read = true;
    for (uint64_t i = 0; is_read && i < count; i++) {
        is_read = read_value(in, TW_STR(""), depth);
    }
    tw_bson_close(in->builder);
    return is_read;
}

/* Reads one value into the document that is open, which is depth levels deep. */
static bool read_value(struct reader *in, tw_str name, int depth)
{
    struct token token;
    if (!read_token(in, &token)) {
        return false;
    }
    switch (token.kind) {
    case TOKEN_NIL:
        tw_bson_add_null(in->builder, name);
        return true;
    case TOKEN_FALSE:
    case TOKEN_TRUE:
        tw_bson_add_bool(in->builder, name, token.kind == TOKEN_TRUE);
        return true;
    case TOKEN_UNSIGNED:
        if (token.number > INT64_MAX) {
            return fail(in, TW_E_BAD_MESSAGE);
        }
        tw_bson_add_i64(in->builder, name, (int64_t)token.number);
        return true;
    case TOKEN_SIGNED:
        tw_bson_add_i64(in->builder, name, signed_of(token.number, token.width));
        return true;
    case TOKEN_FLOAT:
        tw_bson_add_double(in->builder, name, float_of(token.number, token.width));
        return true;
    case TOKEN_STR:
        tw_bson_add_str(in->builder, name, token.span);
        return true;
    case TOKEN_BIN:
        tw_bson_add_bin(in->builder, name, 0, token.span.ptr, token.span.len);
        return true;
    case TOKEN_EXT:
        return add_date(in, name, &token);
    case TOKEN_ARRAY:
    case TOKEN_MAP:
        if (depth == in->depth_max) {
            return fail(in, TW_E_DEPTH);
        }
        return token.kind == TOKEN_MAP ? read_map(in, name, token.number, depth + 1)
                                       : read_array(in, name, token.number, depth + 1);
    case TOKEN_FIXEXT: /* read_token gives TOKEN_EXT for it */
    case TOKEN_BAD:
        break;
    }
    return fail(in, TW_E_BAD_MESSAGE);
}

/* Text was copied as it came: the check of the whole document refuses what is not UTF-8. */
static tw_err take_document(struct reader *in, const tw_buf *built, tw_bson doc, tw_bson *out)
{
    if (built->err != TW_OK) {
        return built->err;
    }
    tw_bson checked;
    if (tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &checked) != TW_OK) {
        return TW_E_BAD_MESSAGE;
    }
    tw_bson copied = tw_arena_bson(in->arena, checked);
    if (copied.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    *out = copied;
    return TW_OK;
}

tw_err tw_msgpack_to_bson(tw_arena *arena, tw_str bytes, int depth_max, tw_bson *out)
{
    TW_ASSERT(depth_max >= 1);
    TW_ASSERT(depth_max <= TW_DEPTH_MAX);
    if (bytes.len == 0) {
        return TW_E_BAD_MESSAGE;
    }
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    tw_buf built;
    tw_buf_init(&built, TW_DOCUMENT_MAX);
    tw_bson_builder builder;
    tw_bson_begin(&builder, &built);
    struct reader in = {.at = at,
                        .end = at + bytes.len,
                        .arena = arena,
                        .builder = &builder,
                        .depth_max = depth_max};
    struct token root;
    if (read_token(&in, &root)) {
        bool is_map = root.kind == TOKEN_MAP || fail(&in, TW_E_BAD_MESSAGE);
        if (is_map && read_pairs(&in, root.number, 1) && in.at != in.end) {
            in.err = TW_E_BAD_MESSAGE;
        }
    }
    tw_err err = in.err;
    if (err == TW_OK) {
        err = take_document(&in, &built, tw_bson_end(&builder), out);
    }
    tw_buf_fini(&built);
    return err;
}
