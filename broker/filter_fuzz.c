/* filter_fuzz.c - a filter and a document from one input: compiled, matched, used as an update.
 *
 * The input is JSON {"filter", "doc", "update", "operations": [["INC", "n", 1], ...]}, so that a
 * mutation stays near the language; what is no JSON is tried as BSON bytes. Nothing may crash, a
 * filter that was accepted must answer twice the same, and the index of topics must tell of a
 * document that it matches. */
#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/query.h"
#include "broker/topic_index.h"
#include "broker/update.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static tw_err count_told(void *context, topic_index_member *member)
{
    (void)member;
    ++*(int *)context;
    return TW_OK;
}

/* Beside a part that shares its paths. */
static void find_again(query *filter, tw_bson doc)
{
    topic_index index;
    topic_query_part part = {.db = "main", .name = "x", .filter = filter};
    topic_index_member members[2];
    int told = 0;
    tw_str db = TW_STR("main");
    TW_ASSERT(topic_index_init(&index, 1) == TW_OK);
    for (size_t i = 0; i < TW_COUNT(members); i++) {
        members[i] = (topic_index_member){.topic = &part, .part = &part};
        TW_ASSERT(topic_index_add(&index, &members[i]) == TW_OK);
    }
    topic_index_remove(&index, &members[0]);
    TW_ASSERT(topic_index_find(&index, db, TW_STR("x"), doc, (tw_bson){0}, count_told, &told) ==
              TW_OK);
    TW_ASSERT(told <= 1 && (told == 1 || !query_match(filter, doc)));
    topic_index_remove(&index, &members[1]);
    topic_index_fini(&index);
}

static void hold(tw_arena *arena, tw_bson filter, tw_bson update, tw_bson operations, tw_bson doc)
{
    query *compiled = NULL;
    broker_why why = {0};
    tw_bson changed;
    if (query_compile(filter, &compiled, &why) == TW_OK) {
        TW_ASSERT(query_match(compiled, doc) == query_match(compiled, doc));
        find_again(compiled, doc);
    }
    query_free(&compiled);
    tw_bson made;
    if (update_of_operations(arena, operations, &made, &why) == TW_OK) {
        TW_ASSERT(tw_bson_validate(made.ptr, made.len, 3 * TW_DEPTH_MAX, &made) == TW_OK);
        if (update_apply(arena, doc, made, TW_STR("_id"), 1, &changed, &why) == TW_OK) {
            doc = changed;
        }
    }
    if (update_apply(arena, doc, update, TW_STR("_id"), 1, &changed, &why) == TW_OK) {
        TW_ASSERT(tw_bson_validate(changed.ptr, changed.len, 3 * TW_DEPTH_MAX, &changed) == TW_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t empty[5] = {5, 0, 0, 0, 0};
    tw_arena arena;
    tw_bson all;
    if (size > 65536) {
        return 0;
    }
    tw_arena_init(&arena, 16 << 20);
    if (tw_json_read(&arena, (tw_str){(const char *)data, size}, TW_DEPTH_CLIENT_MAX, &all, NULL) ==
        TW_OK) {
        tw_bson doc = tw_bson_get_doc(all, TW_STR("doc"));
        hold(&arena, tw_bson_get_doc(all, TW_STR("filter")), tw_bson_get_doc(all, TW_STR("update")),
             tw_bson_get_doc(all, TW_STR("operations")),
             doc.len > 0 ? doc : (tw_bson){empty, sizeof empty});
    } else if (tw_bson_validate(data, size, TW_DEPTH_MAX, &all) == TW_OK) {
        hold(&arena, all, all, all, all);
    }
    tw_arena_fini(&arena);
    return 0;
}
