/* guard_codec.c - JSON, BSON and msgpack, in and out. */
#include "protocol/codec.h"
#include "protocol/json.h"
#include "protocol/limits.h"

#include "bench/guard/guard.h"

enum { DOCUMENTS = 16, ROWS = 16 };

static tw_bson documents[DOCUMENTS];
static tw_str texts[DOCUMENTS];
static tw_buf out;
static tw_item_log_row rows[ROWS];
static tw_msg_log_batch batch;
static tw_position at = {1, ROWS};
static tw_str encoded;

static void set_up_documents(void)
{
    tw_buf_init(&out, 1 << 24);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        documents[i] = guard_document(i);
    }
}

static void set_up_json(void)
{
    set_up_documents();
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_buf_clear(&out);
        tw_json_write(&out, documents[i]);
        texts[i] = tw_arena_str(&guard_kept, tw_buf_str(&out));
    }
}

static void set_up_msgpack(void)
{
    set_up_documents();
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_buf_clear(&out);
        tw_msgpack_from_bson(&out, documents[i]);
        texts[i] = tw_arena_str(&guard_kept, tw_buf_str(&out));
    }
}

static void write_json(void)
{
    tw_buf_clear(&out);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_json_write(&out, documents[i]);
    }
    guard_must(out.err == TW_OK && out.len > DOCUMENTS * 100, "writing JSON");
}

static void read_json(void)
{
    tw_arena_reset(&guard_temporary);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_bson doc;
        guard_must(tw_json_read(&guard_temporary, texts[i], TW_DEPTH_MAX, &doc, NULL) == TW_OK,
                   "reading JSON");
    }
}

static void write_msgpack(void)
{
    tw_buf_clear(&out);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_msgpack_from_bson(&out, documents[i]);
    }
    guard_must(out.err == TW_OK && out.len > DOCUMENTS * 100, "writing msgpack");
}

static void read_msgpack(void)
{
    tw_arena_reset(&guard_temporary);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_bson doc;
        guard_must(tw_msgpack_to_bson(&guard_temporary, texts[i], TW_DEPTH_MAX, &doc) == TW_OK,
                   "reading msgpack");
    }
}

static void validate_bson(void)
{
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_bson doc;
        guard_must(tw_bson_validate(documents[i].ptr, documents[i].len, TW_DEPTH_MAX, &doc) ==
                           TW_OK &&
                       tw_bson_get_path(doc, TW_STR("address.city")).type == TW_BSON_STRING &&
                       tw_bson_get_i64_or(doc, TW_STR("_version"), 0) == 3,
                   "validating BSON");
    }
}

static void build_bson(void)
{
    tw_buf_clear(&out);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        tw_bson_builder b;
        tw_bson_begin(&b, &out);
        tw_bson_add_all(&b, documents[i]);
        tw_bson_open_doc(&b, TW_STR("more"));
        tw_bson_add_i64(&b, TW_STR("n"), i);
        tw_bson_add_str(&b, TW_STR("s"), TW_STR("some text"));
        tw_bson_close(&b);
        guard_must(tw_bson_end(&b).len > documents[i].len, "building BSON");
    }
}

static void encode_message(void)
{
    tw_buf_clear(&out);
    tw_message_encode(&out, TW_MSG_log_batch, 7, &batch);
    guard_must(out.err == TW_OK, "encoding");
}

static void set_up_message(void)
{
    tw_buf_init(&out, 1 << 24);
    for (unsigned i = 0; i < ROWS; i++) {
        rows[i] = guard_row(i + 1, i);
    }
    batch = (tw_msg_log_batch){.head = ROWS, .at = {&at, 1}, .rows = {rows, ROWS}};
    encode_message();
    encoded = tw_arena_str(&guard_kept, tw_buf_str(&out));
}

static void decode_message(void)
{
    tw_msg_id id;
    uint64_t request;
    tw_body body;
    tw_arena_reset(&guard_temporary);
    guard_must(tw_message_decode(&guard_temporary, encoded, &id, &request, &body) == TW_OK &&
                   body.log_batch.rows.count == ROWS,
               "decoding");
}

const guard_path guard_codec_paths[] = {
    {"json_write", set_up_json, write_json, NULL},
    {"json_read", set_up_json, read_json, NULL},
    {"msgpack_write", set_up_msgpack, write_msgpack, NULL},
    {"msgpack_read", set_up_msgpack, read_msgpack, NULL},
    {"bson_read", set_up_documents, validate_bson, NULL},
    {"bson_build", set_up_documents, build_bson, NULL},
    {"message_encode", set_up_message, encode_message, NULL},
    {"message_decode", set_up_message, decode_message, NULL},
    {0},
};
