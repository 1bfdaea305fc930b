/* search_body_fuzz.c - search bodies, queries and sorts from outside: nothing may crash, and what
 * passes is a sound document. */
#include "broker/search_body.h"

#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/search_doc.h"
#include "broker/search_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool rebuild(tw_bson body, tw_buf *out)
{
    tw_bson_builder b;
    search_body found;
    broker_why why = {.text = ""};
    tw_buf_clear(out);
    tw_bson_begin(&b, out);
    if (search_body_add(&b, body, &found, &why) != TW_OK) {
        TW_ASSERT(why.text[0] != '\0');
        return false;
    }
    if (found.query.type == TW_BSON_DOCUMENT &&
        search_body_add_query(&b, TW_STR("query"), found.query, &why) != TW_OK) {
        return false;
    }
    (void)tw_bson_end(&b);
    return out->err == TW_OK;
}

static void hold(tw_bson body)
{
    tw_buf first;
    tw_buf second;
    tw_buf json;
    tw_bson_builder b;
    broker_why why = {.text = ""};
    tw_buf_init(&first, 1 << 20);
    tw_buf_init(&second, 1 << 20);
    tw_buf_init(&json, 4 << 20);
    if (rebuild(body, &first)) {
        tw_bson passed = {(const uint8_t *)first.ptr, first.len};
        TW_ASSERT(tw_bson_validate(passed.ptr, passed.len, TW_DEPTH_MAX, &passed) == TW_OK);
        search_json(&json, passed);
    }
    tw_buf_clear(&second);
    tw_bson_begin(&b, &second);
    if (search_filter_add(&b, TW_STR("f"), body, &why) == TW_OK) {
        (void)tw_bson_end(&b);
    }
    tw_buf_fini(&first);
    tw_buf_fini(&second);
    tw_buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_bson body;
    if (size > TW_SEARCH_BODY_MAX) {
        return 0;
    }
    tw_arena_init(&arena, 16 << 20);
    if (tw_json_read(&arena, (tw_str){(const char *)data, size}, TW_DEPTH_CLIENT_MAX, &body,
                     NULL) == TW_OK ||
        tw_bson_validate(data, size, TW_DEPTH_CLIENT_MAX, &body) == TW_OK) {
        hold(body);
    }
    tw_arena_fini(&arena);
    return 0;
}
