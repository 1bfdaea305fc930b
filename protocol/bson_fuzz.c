/* bson_fuzz.c - any bytes are refused, or all that works on documents works on them: walking,
 * comparing, keys, JSON out and in again. libbson is asked too: what it finds damaged must not be
 * accepted here. */
#include <bson/bson.h>

#include "protocol/json.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_BYTES_MAX = 64 << 20 };

/* libbson's opinion. It recurses as deep as the bytes say: only asked about what has passed
 * here. */
static bool libbson_accepts(tw_bson doc)
{
    bson_t view;
    return bson_init_static(&view, doc.ptr, doc.len) &&
           bson_validate(&view, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL);
}

/* Every field is found, equals itself, and has a key that stands for an equal value, or none. */
static void walk(tw_arena *arena, tw_bson doc)
{
    tw_bson_iter iter;
    size_t count = 0;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter); count++) {
        tw_key key;
        TW_ASSERT(tw_bson_get(doc, iter.name).type != 0);
        TW_ASSERT(tw_bson_compare(iter.value, iter.value) == 0);
        tw_err err = tw_key_of_value(arena, iter.value, &key);
        if (err == TW_OK) {
            TW_ASSERT(tw_bson_compare(tw_key_value(key), iter.value) == 0);
        } else {
            TW_ASSERT(err == TW_E_BAD_DOCUMENT || err == TW_E_TOO_BIG);
        }
    }
    TW_ASSERT(tw_bson_count(doc) == count);
}

/* JSON out of any valid document; where it is read (names may stand twice in BSON, an object may
 * look like a form), it gives the same JSON again. */
static void write_and_read(tw_arena *arena, tw_bson doc)
{
    tw_buf once, twice;
    tw_bson again, same;
    tw_buf_init(&once, FUZZ_BYTES_MAX);
    tw_buf_init(&twice, FUZZ_BYTES_MAX);
    tw_json_write(&once, doc);
    TW_ASSERT(once.err == TW_OK);
    if (tw_json_read(arena, tw_buf_str(&once), TW_DEPTH_MAX, &again, NULL) == TW_OK) {
        tw_err err = tw_bson_validate(again.ptr, again.len, TW_DEPTH_MAX, &same);
        TW_ASSERT(err == TW_OK);
        tw_json_write(&twice, again);
        TW_ASSERT(twice.err == TW_OK);
    }
    tw_buf_fini(&once);
    tw_buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_bson doc;
    tw_arena_init(&arena, FUZZ_BYTES_MAX);
    tw_err err = tw_bson_validate(data, size, TW_DEPTH_MAX, &doc);
    if (err == TW_OK) {
        TW_ASSERT(libbson_accepts(doc));
        walk(&arena, doc);
        write_and_read(&arena, doc);
    } else {
        TW_ASSERT(err == TW_E_BAD_DOCUMENT || err == TW_E_DEPTH || err == TW_E_TOO_BIG);
        tw_bson_iter iter; /* damaged: the iterator still stays inside */
        for (tw_bson_iter_init(&iter, (tw_bson){data, size}); tw_bson_iter_next(&iter);) {
            TW_ASSERT(iter.at <= data + size);
        }
    }
    tw_arena_fini(&arena);
    return 0;
}
