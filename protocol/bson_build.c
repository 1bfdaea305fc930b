/* bson_build.c - building BSON documents into a buffer; see bson.h. */
#include "protocol/bson.h"
#include "protocol/limits.h"

static_assert(TW_COUNT(((tw_bson_builder *)0)->open) >= (size_t)TW_DEPTH_MAX + 4, "depth fits");

static void begin(tw_bson_builder *b, bool is_array)
{
    static const uint8_t room[4];
    if (b->depth >= (int)TW_COUNT(b->open) - 1) {
        if (b->out->err == TW_OK) {
            b->out->err = TW_E_DEPTH;
        }
        b->depth++;
        return;
    }
    b->open[b->depth] = b->out->len;
    b->index[b->depth] = 0;
    b->is_array[b->depth] = is_array;
    b->depth++;
    tw_buf_add(b->out, room, sizeof(room));
}

static void end(tw_bson_builder *b)
{
    TW_ASSERT(b->depth > 0);
    b->depth--;
    tw_buf_add_byte(b->out, 0);
    if (b->out->err == TW_OK) {
        uint32_t len = (uint32_t)(b->out->len - b->open[b->depth]);
        memcpy(b->out->ptr + b->open[b->depth], &len, sizeof(len));
    }
}

static void add_head(tw_bson_builder *b, uint8_t type, tw_str name)
{
    TW_ASSERT(b->depth > 0);
    int at = b->depth - 1;
    tw_buf_add_byte(b->out, (char)type);
    if (at < (int)TW_COUNT(b->open) - 1 && b->is_array[at]) {
        tw_buf_add_u64(b->out, b->index[at]++);
    } else {
        tw_buf_add_str(b->out, name);
    }
    tw_buf_add_byte(b->out, 0);
}

void tw_bson_begin(tw_bson_builder *b, tw_buf *out)
{
    b->out = out;
    b->depth = 0;
    begin(b, false);
}

tw_bson tw_bson_end(tw_bson_builder *b)
{
    TW_ASSERT(b->depth == 1); /* every open_* has its close */
    end(b);
    if (b->out->err != TW_OK) {
        return (tw_bson){0};
    }
    const uint8_t *at = (const uint8_t *)b->out->ptr + b->open[0];
    return (tw_bson){at, b->out->len - b->open[0]};
}

void tw_bson_open_doc(tw_bson_builder *b, tw_str name)
{
    add_head(b, TW_BSON_DOCUMENT, name);
    begin(b, false);
}

void tw_bson_open_array(tw_bson_builder *b, tw_str name)
{
    add_head(b, TW_BSON_ARRAY, name);
    begin(b, true);
}

void tw_bson_close(tw_bson_builder *b)
{
    TW_ASSERT(b->depth > 1);
    end(b);
}

static void add_fixed(tw_bson_builder *b, uint8_t type, tw_str name, const void *p, size_t len)
{
    add_head(b, type, name);
    tw_buf_add(b->out, p, len);
}

void tw_bson_add_value(tw_bson_builder *b, tw_str name, tw_bson_value value)
{
    TW_ASSERT(value.type != 0);
    add_fixed(b, value.type, name, value.ptr, value.len);
}

void tw_bson_add_str(tw_bson_builder *b, tw_str name, tw_str text)
{
    uint32_t size = (uint32_t)text.len + 1;
    add_fixed(b, TW_BSON_STRING, name, &size, sizeof(size));
    tw_buf_add_str(b->out, text);
    tw_buf_add_byte(b->out, 0);
}

void tw_bson_add_i64(tw_bson_builder *b, tw_str name, int64_t value)
{
    int32_t small = (int32_t)value;
    if (small == value) {
        add_fixed(b, TW_BSON_INT32, name, &small, sizeof(small));
    } else {
        add_fixed(b, TW_BSON_INT64, name, &value, sizeof(value));
    }
}

void tw_bson_add_double(tw_bson_builder *b, tw_str name, double value)
{
    add_fixed(b, TW_BSON_DOUBLE, name, &value, sizeof(value));
}

void tw_bson_add_bool(tw_bson_builder *b, tw_str name, bool value)
{
    uint8_t byte = value ? 1 : 0;
    add_fixed(b, TW_BSON_BOOL, name, &byte, 1);
}

void tw_bson_add_null(tw_bson_builder *b, tw_str name)
{
    add_head(b, TW_BSON_NULL, name);
}

void tw_bson_add_date(tw_bson_builder *b, tw_str name, int64_t unix_ms)
{
    add_fixed(b, TW_BSON_DATE, name, &unix_ms, sizeof(unix_ms));
}

void tw_bson_add_oid(tw_bson_builder *b, tw_str name, const uint8_t oid[12])
{
    add_fixed(b, TW_BSON_OBJECT_ID, name, oid, 12);
}

void tw_bson_add_bin(tw_bson_builder *b, tw_str name, uint8_t subtype, const void *p, size_t len)
{
    uint32_t inner = (uint32_t)len;
    uint32_t size = inner + (subtype == 2 ? 4 : 0); /* the old subtype has its length twice */
    add_fixed(b, TW_BSON_BINARY, name, &size, sizeof(size));
    tw_buf_add_byte(b->out, (char)subtype);
    tw_buf_add(b->out, &inner, subtype == 2 ? sizeof(inner) : 0);
    tw_buf_add(b->out, p, len);
}

static void add_nested(tw_bson_builder *b, uint8_t type, tw_str name, tw_bson doc)
{
    static const uint8_t empty[5] = {sizeof(empty)};
    add_fixed(b, type, name, doc.len == 0 ? empty : doc.ptr,
              doc.len == 0 ? sizeof(empty) : doc.len);
}

void tw_bson_add_doc(tw_bson_builder *b, tw_str name, tw_bson doc)
{
    add_nested(b, TW_BSON_DOCUMENT, name, doc);
}

void tw_bson_add_array(tw_bson_builder *b, tw_str name, tw_bson array)
{
    add_nested(b, TW_BSON_ARRAY, name, array);
}

void tw_bson_add_key(tw_bson_builder *b, tw_str name, tw_key key)
{
    tw_bson_value value = tw_key_value(key);
    if (value.type == TW_BSON_INT64) {
        int64_t number;
        memcpy(&number, value.ptr, sizeof(number));
        tw_bson_add_i64(b, name, number);
    } else {
        tw_bson_add_value(b, name, value);
    }
}

void tw_bson_add_vector(tw_bson_builder *b, tw_str name, tw_vector vector)
{
    tw_bson_open_array(b, name);
    for (size_t i = 0; i < vector.count; i++) {
        tw_bson_open_array(b, TW_STR(""));
        tw_bson_add_i64(b, TW_STR(""), (int64_t)vector.at[i].srv);
        tw_bson_add_i64(b, TW_STR(""), (int64_t)vector.at[i].seqno);
        tw_bson_close(b);
    }
    tw_bson_close(b);
}

void tw_bson_add_all(tw_bson_builder *b, tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        tw_bson_add_value(b, iter.name, iter.value);
    }
}
