/* json_fuzz.c - any text is refused or read; what was read is valid BSON, and written as JSON it is
 * read as the same again. */
#include "protocol/json.h"

#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_BYTES_MAX = 64 << 20 };

static tw_err read_valid(tw_arena *arena, tw_str text, int depth_max, tw_bson *out)
{
    tw_str why = {0};
    tw_bson same;
    tw_err err = tw_json_read(arena, text, depth_max, out, &why);
    if (err == TW_OK) {
        tw_err valid = tw_bson_validate(out->ptr, out->len, TW_DEPTH_MAX, &same);
        TW_ASSERT(valid == TW_OK);
    } else {
        TW_ASSERT(why.len > 0);
        TW_ASSERT(err == TW_E_BAD_MESSAGE || err == TW_E_DEPTH);
    }
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_buf once, twice;
    tw_bson first, again;
    tw_arena_init(&arena, FUZZ_BYTES_MAX);
    tw_buf_init(&once, FUZZ_BYTES_MAX);
    tw_buf_init(&twice, FUZZ_BYTES_MAX);
    tw_str text = {(const char *)data, size};
    if (read_valid(&arena, text, TW_DEPTH_CLIENT_MAX, &first) == TW_OK) {
        tw_json_write(&once, first);
        TW_ASSERT(once.err == TW_OK);
        tw_err err = read_valid(&arena, tw_buf_str(&once), TW_DEPTH_CLIENT_MAX, &again);
        TW_ASSERT(err == TW_OK);
        tw_bson_value a = {TW_BSON_DOCUMENT, first.ptr, first.len};
        tw_bson_value b = {TW_BSON_DOCUMENT, again.ptr, again.len};
        TW_ASSERT(tw_bson_compare(a, b) == 0);
        tw_json_write(&twice, again);
        TW_ASSERT(tw_str_equal(tw_buf_str(&once), tw_buf_str(&twice)));
    }
    tw_buf_fini(&once);
    tw_buf_fini(&twice);
    tw_arena_fini(&arena);
    return 0;
}
