/* msgpack_bson_fuzz.c - any bytes are refused or become a document, which goes back and forth. */
#include "protocol/bson.h"
#include "protocol/codec.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_BYTES_MAX = 64 << 20 };

/* Writes doc as a map and reads it again, where it is not too large for that. */
static void pass_through(tw_arena *arena, tw_bson doc)
{
    tw_buf packed;
    tw_buf_init(&packed, FUZZ_BYTES_MAX);
    tw_msgpack_from_bson(&packed, doc);
    TW_ASSERT(packed.err == TW_OK);
    tw_bson again;
    tw_err err = tw_msgpack_to_bson(arena, tw_buf_str(&packed), TW_DEPTH_MAX, &again);
    if (err == TW_OK) { /* else: a $ name at the top went one level of forms down */
        tw_buf twice;
        tw_buf_init(&twice, FUZZ_BYTES_MAX);
        tw_msgpack_from_bson(&twice, again);
        TW_ASSERT(tw_str_equal(tw_buf_str(&packed), tw_buf_str(&twice)));
        tw_buf_fini(&twice);
    }
    tw_buf_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_arena_init(&arena, FUZZ_BYTES_MAX);
    tw_bson doc;
    tw_str bytes = {(const char *)data, size};
    if (tw_msgpack_to_bson(&arena, bytes, TW_DEPTH_CLIENT_MAX, &doc) == TW_OK) {
        tw_bson checked;
        tw_err err = tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &checked);
        TW_ASSERT(err == TW_OK);
        pass_through(&arena, doc);
    }
    tw_arena_fini(&arena);
    return 0;
}
