/* bson_text.c - documents for tests, written as JSON. */
#include "tests/support/bson_text.h"

#include <stdio.h>
#include <stdlib.h>

#include "protocol/limits.h"

tw_bson bson_text(tw_arena *arena, const char *json)
{
    tw_str text = tw_arena_str(arena, tw_str_of(json));
    tw_str why = {0};
    tw_bson out = {0};
    TW_ASSERT(text.ptr != NULL);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\'') {
            ((char *)(uintptr_t)text.ptr)[i] = '"';
        }
    }
    tw_err err = tw_json_read(arena, text, TW_DEPTH_MAX, &out, &why);
    if (err != TW_OK) {
        fprintf(stderr, "bad JSON in a test: %s (%.*s)\n", json, (int)why.len, why.ptr);
        exit(2);
    }
    return out;
}

const char *bson_shown(tw_arena *arena, tw_bson doc)
{
    tw_buf buf;
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    tw_json_write(&buf, doc);
    const char *shown = tw_arena_format(arena, "%.*s", (int)buf.len, buf.ptr);
    tw_buf_fini(&buf);
    return shown;
}
