/* topic_query_fuzz.c - what a client subscribes to or watches: the input is the message, as JSON.
 *
 * Nothing may crash; what was accepted compiles, or is refused with a cause, has the same name when
 * it is read again, and can be held against a document. */
#include "broker/topic_query.h"

#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

static void hold(tw_bson canonical, tw_bson doc)
{
    topic_query *compiled = NULL;
    broker_why why = {0};
    char name[17], again[17];
    topic_query_name(canonical, name);
    if (topic_query_compile(&known, canonical, &compiled, &why) != TW_OK) {
        TW_ASSERT(why.text[0] != '\0');
        return;
    }
    topic_query_name(compiled->canonical, again);
    TW_ASSERT(strcmp(name, again) == 0);
    for (size_t i = 0; i < compiled->parts_count; i++) {
        unsigned meaning = topic_query_meaning(compiled, (int)i, TW_ROW_PUT | TW_ROW_LAST, doc, doc,
                                               (tw_position){1, 1}, true);
        TW_ASSERT(meaning == 0 ||
                  meaning == TW_MEANS_PUT); /* a document does not leave for itself */
    }
    topic_query_free(&compiled);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_bson asked;
    tw_bson canonical;
    broker_why why = {0};
    if (size > 65536) {
        return 0;
    }
    tw_arena_init(&arena, 16 << 20);
    if (tw_json_read(&arena, (tw_str){(const char *)data, size}, TW_DEPTH_CLIENT_MAX, &asked,
                     NULL) == TW_OK) {
        if (topic_query_of_subscribe(&known, NULL, &arena, asked, &canonical, &why) == TW_OK) {
            hold(canonical, asked);
        }
        if (topic_query_of_watch(&known, NULL, &arena, asked, &canonical, &why) == TW_OK) {
            hold(canonical, asked);
        }
    }
    tw_arena_fini(&arena);
    return 0;
}
