/* bson_fuzz.c - any bytes are refused, or all that works on documents works on them: walking,
 * comparing, keys, JSON out and in again. libbson is asked too: what it finds damaged must not
 * be accepted here, and its JSON is ours but for the spelling of numbers. Damaged bytes are
 * written and compared all the same: they must be no crash. */
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

/* The text without numbers and white space outside strings: libbson spells doubles otherwise. */
static void keep_letters(const char *text, size_t len, tw_buf *out)
{
    bool is_inside = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (is_inside && c == '\\') {
            tw_buf_add(out, text + i, 2);
            i++;
            continue;
        }
        is_inside ^= c == '"';
        bool is_number = strchr("0123456789+-.eE", c) != NULL;
        bool is_space = !is_inside && strchr(" \n\t", c) != NULL;
        if (c != '\0' && (is_space || (!is_inside && is_number))) {
            continue;
        }
        tw_buf_add_byte(out, c);
    }
}

/* Dates beyond the year 9999 differ; libbson cuts the name of a DBPointer at a NUL. Both may
 * stand in a scope too. */
static bool has_difference(tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        uint8_t type = iter.value.type;
        if (type == TW_BSON_DATE || type == TW_BSON_CODE_SCOPE || type == TW_BSON_DBPOINTER ||
            has_difference(tw_bson_value_doc(iter.value))) {
            return true;
        }
    }
    return false;
}

static void compare_with_libbson(tw_bson doc)
{
    bson_t same;
    tw_buf ours, theirs, text;
    tw_buf_init(&ours, FUZZ_BYTES_MAX);
    tw_buf_init(&theirs, FUZZ_BYTES_MAX);
    tw_buf_init(&text, FUZZ_BYTES_MAX);
    TW_ASSERT(bson_init_static(&same, doc.ptr, doc.len));
    size_t len = 0;
    char *json = bson_as_relaxed_extended_json(&same, &len);
    tw_json_write(&text, doc);
    TW_ASSERT(text.err == TW_OK);
    if (json != NULL && !has_difference(doc)) {
        keep_letters(text.ptr, text.len, &ours);
        keep_letters(json, len, &theirs);
        TW_ASSERT(tw_str_equal(tw_buf_str(&ours), tw_buf_str(&theirs)));
    }
    bson_free(json);
    tw_buf_fini(&ours);
    tw_buf_fini(&theirs);
    tw_buf_fini(&text);
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
        compare_with_libbson(doc);
    } else {
        TW_ASSERT(err == TW_E_BAD_DOCUMENT || err == TW_E_DEPTH || err == TW_E_TOO_BIG);
        tw_bson_iter iter; /* damaged: the iterator still stays inside */
        for (tw_bson_iter_init(&iter, (tw_bson){data, size}); tw_bson_iter_next(&iter);) {
            TW_ASSERT(iter.at <= data + size);
            TW_ASSERT(tw_bson_compare(iter.value, iter.value) == 0);
        }
        tw_buf text;
        tw_buf_init(&text, FUZZ_BYTES_MAX);
        tw_json_write(&text, (tw_bson){data, size});
        tw_buf_fini(&text);
    }
    tw_arena_fini(&arena);
    return 0;
}
