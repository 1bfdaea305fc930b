/* search_doc.c - see search_doc.h. */
#include "broker/search_doc.h"

#include "protocol/json.h"
#include "protocol/limits.h"

/* Names that engines keep for themselves at the top level of a document. */
static const char *const reserved[] = {
    "_id",
    "_version",
    "_index",
    "_type",
    "_source",
    "_size",
    "_routing",
    "_seq_no",
    "_primary_term",
    "_tier",
    "_field_names",
    "_ignored",
    "_tw",
    "_doc_count",
    "_feature",
    "_nested_path",
    "_data_stream_timestamp",
};

static bool is_reserved(tw_str name)
{
    for (size_t i = 0; name.len > 0 && name.ptr[0] == '_' && i < TW_COUNT(reserved); i++) {
        if (tw_str_equal(name, tw_str_of(reserved[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- ids ---- */
static bool is_hex_id(tw_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return text.len == 24;
}

/* A whole number as tw_buf_add_i64 writes it. */
static bool is_number(tw_str text, int64_t *out)
{
    bool minus = text.len > 1 && text.ptr[0] == '-';
    tw_str digits = {text.ptr + (minus ? 1 : 0), text.len - (minus ? 1 : 0)};
    uint64_t number;
    bool padded = digits.len > 1 && digits.ptr[0] == '0';
    if (digits.len == 0 || padded || tw_parse_u64(digits, INT64_MAX, &number) != TW_OK ||
        (minus && number == 0)) {
        return false;
    }
    *out = minus ? -(int64_t)number : (int64_t)number;
    return true;
}

static void add_hex(tw_buf *out, tw_bson_value value)
{
    for (size_t i = 0; i < value.len; i++) {
        tw_buf_format(out, "%02x", value.ptr[i]);
    }
}

tw_err search_id_of_key(tw_arena *arena, tw_key key, tw_str *out)
{
    TW_ASSERT(key.len > 0);
    tw_bson_value value = tw_key_value(key);
    tw_str text = tw_bson_value_str(value);
    int64_t number = 0;
    tw_buf id;
    tw_buf_init(&id, SEARCH_ID_MAX);
    if (text.ptr != NULL) {
        bool other = is_hex_id(text) || is_number(text, &number);
        bool marked = other || text.len == 0 || text.ptr[0] == '~';
        tw_buf_add_str(&id, marked ? TW_STR("~s") : TW_STR(""));
        tw_buf_add_str(&id, text);
    } else if (value.type == TW_BSON_OBJECT_ID) {
        add_hex(&id, value);
    } else if (tw_bson_value_i64(value, &number) && number != INT64_MIN) {
        tw_buf_add_i64(&id, number);
    } else {
        tw_buf_add_str(&id, TW_STR("~j"));
        tw_json_write_key(&id, key);
    }
    tw_err err = id.err;
    if (err == TW_OK) {
        *out = tw_arena_str(arena, tw_buf_str(&id));
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&id);
    return err;
}

static tw_err key_of_json(tw_arena *arena, tw_str json, tw_key *out)
{
    tw_bson doc;
    const char *text = tw_arena_format(arena, "{\"k\":%.*s}", (int)json.len, json.ptr);
    tw_err err = tw_json_read(arena, tw_str_of(text), TW_DEPTH_MAX, &doc, NULL);
    return err == TW_OK ? tw_key_of_value(arena, tw_bson_get(doc, TW_STR("k")), out) : err;
}

static tw_err key_of_built(tw_arena *arena, tw_buf *text, tw_bson doc, tw_key *out)
{
    return text->err == TW_OK ? tw_key_of_value(arena, tw_bson_get(doc, TW_STR("k")), out)
                              : text->err;
}

tw_err search_key_of_id(tw_arena *arena, tw_str id, tw_key *out)
{
    bool marked = id.len >= 2 && id.ptr[0] == '~';
    if (marked && id.ptr[1] == 'j') {
        tw_err err = key_of_json(arena, (tw_str){id.ptr + 2, id.len - 2}, out);
        if (err == TW_OK || err == TW_E_NO_MEMORY) {
            return err;
        }
    }
    bool text = marked && id.ptr[1] == 's';
    int64_t number = 0;
    uint8_t oid[12];
    tw_buf built;
    tw_bson_builder b;
    tw_buf_init(&built, TW_KEY_MAX * 2);
    tw_bson_begin(&b, &built);
    if (text) {
        tw_bson_add_str(&b, TW_STR("k"), (tw_str){id.ptr + 2, id.len - 2});
    } else if (is_hex_id(id)) {
        for (size_t i = 0; i < sizeof oid; i++) {
            unsigned high = (unsigned)(id.ptr[2 * i] - (id.ptr[2 * i] >= 'a' ? 'a' - 10 : '0'));
            unsigned low =
                (unsigned)(id.ptr[2 * i + 1] - (id.ptr[2 * i + 1] >= 'a' ? 'a' - 10 : '0'));
            oid[i] = (uint8_t)(high << 4 | low);
        }
        tw_bson_add_oid(&b, TW_STR("k"), oid);
    } else if (is_number(id, &number)) {
        tw_bson_add_i64(&b, TW_STR("k"), number);
    } else {
        tw_bson_add_str(&b, TW_STR("k"), id);
    }
    tw_err err = key_of_built(arena, &built, tw_bson_end(&b), out);
    tw_buf_fini(&built);
    return err;
}

/* ---- plain JSON ---- */
static void add_base64(tw_buf *out, tw_bson_value value)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (value.len < 5) { /* int32 length, subtype */
        tw_buf_add_str(out, TW_STR("null"));
        return;
    }
    const uint8_t *at = value.ptr + 5;
    size_t left = value.len - 5;
    tw_buf_add_byte(out, '"');
    for (; left > 0; at += left < 3 ? left : 3, left -= left < 3 ? left : 3) {
        uint32_t three =
            (uint32_t)at[0] << 16 | (left > 1 ? (uint32_t)at[1] << 8 : 0) | (left > 2 ? at[2] : 0U);
        tw_buf_add_byte(out, digits[three >> 18]);
        tw_buf_add_byte(out, digits[three >> 12 & 63]);
        tw_buf_add_byte(out, left > 1 ? digits[three >> 6 & 63] : '=');
        tw_buf_add_byte(out, left > 2 ? digits[three & 63] : '=');
    }
    tw_buf_add_byte(out, '"');
}

/* The text within {"$name":"text"}; what is not of that form stays as null. */
static void add_wrapped(tw_buf *out, tw_bson_value value)
{
    size_t before = out->len;
    tw_json_write_value(out, value);
    if (out->err != TW_OK) {
        return;
    }
    char *text = out->ptr + before;
    size_t len = out->len - before;
    char *inner = memchr(text, ':', len);
    bool wrapped = inner != NULL && text[len - 1] == '}' && inner[1] == '"';
    if (!wrapped) {
        out->len = before;
        tw_buf_add_str(out, TW_STR("null"));
        return;
    }
    size_t inner_len = (size_t)(text + len - 1 - (inner + 1));
    memmove(text, inner + 1, inner_len);
    out->len = before + inner_len;
}

static void add_date(tw_buf *out, tw_bson_value value)
{
    int64_t ms = 0;
    size_t before = out->len;
    add_wrapped(out, value);
    if (out->err == TW_OK && out->ptr[before] == 'n') { /* beyond the year 9999: a number */
        memcpy(&ms, value.ptr, sizeof ms);
        out->len = before;
        tw_buf_add_i64(out, ms);
    }
}

static void add_doc(tw_buf *out, tw_bson doc, bool array, int depth);

static void add_value(tw_buf *out, tw_bson_value value, int depth)
{
    double number;
    switch (value.type) {
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        add_doc(out, tw_bson_value_doc(value), value.type == TW_BSON_ARRAY, depth + 1);
        return;
    case TW_BSON_DOUBLE:
        number = tw_bson_value_double(value);
        if (number != number || number - number != 0) { /* NaN, infinite */
            tw_buf_add_str(out, TW_STR("null"));
            return;
        }
        tw_json_write_value(out, value);
        return;
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
        tw_json_write_str(out, tw_bson_value_str(value));
        return;
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_BOOL:
        tw_json_write_value(out, value);
        return;
    case TW_BSON_OBJECT_ID:
        tw_buf_add_byte(out, '"');
        add_hex(out, value);
        tw_buf_add_byte(out, '"');
        return;
    case TW_BSON_DATE:
        add_date(out, value);
        return;
    case TW_BSON_DECIMAL128:
        add_wrapped(out, value);
        return;
    case TW_BSON_BINARY:
        add_base64(out, value);
        return;
    default: /* a byte from outside, not an enum */
        tw_buf_add_str(out, TW_STR("null"));
        return;
    }
}

static void add_doc(tw_buf *out, tw_bson doc, bool array, int depth)
{
    if (depth > TW_DEPTH_MAX) {
        out->err = TW_E_DEPTH;
        return;
    }
    tw_bson_iter iter;
    bool first = true;
    tw_buf_add_byte(out, array ? '[' : '{');
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter); first = false) {
        tw_buf_add(out, ",", first ? 0 : 1);
        if (!array) {
            tw_json_write_str(out, iter.name);
            tw_buf_add_byte(out, ':');
        }
        add_value(out, iter.value, depth);
    }
    tw_buf_add_byte(out, array ? ']' : '}');
}

void search_json(tw_buf *out, tw_bson doc)
{
    add_doc(out, doc, false, 1);
}

void search_json_value(tw_buf *out, tw_bson_value value)
{
    add_value(out, value, 0);
}

/* ---- stored documents ---- */
void search_doc_write(tw_buf *out, tw_bson doc, tw_str id, int64_t version)
{
    tw_bson_iter iter;
    tw_buf_add_byte(out, '{');
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (!is_reserved(iter.name) && iter.name.len > 0) { /* engines refuse an empty name */
            tw_json_write_str(out, iter.name);
            tw_buf_add_byte(out, ':');
            add_value(out, iter.value, 1);
            tw_buf_add_byte(out, ',');
        }
    }
    tw_buf_add_str(out, TW_STR("\"_tw\":{\"id\":"));
    tw_json_write_str(out, id);
    tw_buf_format(out, ",\"v\":%lld}}", (long long)version);
}

void search_doc_read(tw_bson_builder *b, tw_bson source, tw_str key_field, tw_bson_value key)
{
    tw_bson_iter iter;
    tw_bson_add_value(b, key_field, key);
    for (tw_bson_iter_init(&iter, source); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("_tw")) && !tw_str_equal(iter.name, key_field)) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
}
