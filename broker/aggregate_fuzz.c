/* aggregate_fuzz.c - a pipeline and documents from one input, {"pipeline": [...], "docs": [...]}.
 *
 * Nothing may crash, and what a pipeline gives must be documents. The pipeline is judged, too, as
 * one that goes to a MongoDB server. */
#include "broker/aggregate.h"

#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/pipeline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool may_read(void *context, tw_str coll)
{
    (void)context;
    return coll.len > 1;
}

static void run(tw_bson pipeline, tw_bson docs)
{
    aggregate *self = NULL;
    broker_why why = {0};
    bool enough = false;
    tw_bson_iter iter;
    TW_ASSERT(pipeline_check(pipeline, may_read, NULL, &why) == TW_OK || why.text[0] != '\0');
    tw_err err = aggregate_new(&self, pipeline, &why);
    tw_bson_iter_init(&iter, docs);
    while (err == TW_OK && !enough && tw_bson_iter_next(&iter)) {
        tw_bson doc =
            iter.value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(iter.value) : (tw_bson){0};
        err = doc.len == 0 ? TW_OK : aggregate_add(self, doc, &enough, &why);
    }
    err = err == TW_OK ? aggregate_end(self, &why) : err;
    for (size_t i = 0; err == TW_OK && i < aggregate_count(self); i++) {
        tw_bson told = aggregate_at(self, i);
        TW_ASSERT(tw_bson_validate(told.ptr, told.len, 3 * TW_DEPTH_MAX, &told) == TW_OK);
    }
    aggregate_free(&self);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_bson all;
    if (size > 65536) {
        return 0;
    }
    tw_arena_init(&arena, 16 << 20);
    if (tw_json_read(&arena, (tw_str){(const char *)data, size}, TW_DEPTH_CLIENT_MAX, &all, NULL) ==
        TW_OK) {
        run(tw_bson_get_doc(all, TW_STR("pipeline")), tw_bson_get_doc(all, TW_STR("docs")));
    }
    tw_arena_fini(&arena);
    return 0;
}
