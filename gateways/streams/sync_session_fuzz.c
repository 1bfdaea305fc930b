/* sync_session_fuzz.c - what a client may say in a sync: each line of the input is a message, read
 * in turn; readers answer with three records. Nothing may crash, and what is told must be within
 * its bounds. */
#include "gateways/streams/sync_session.h"

#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

static void answer_keys(sync_session *self)
{
    static const uint8_t keys[3][4 + 5] = {{TW_BSON_STRING, 2, 0, 0, 0, 'a', 0},
                                           {TW_BSON_STRING, 2, 0, 0, 0, 'b', 0},
                                           {TW_BSON_INT64, 7, 0, 0, 0, 0, 0, 0, 0}};
    const tw_item_manifest_entry entries[] = {{.n = 1, .version = 1, .key = {keys[0], 7}},
                                              {.n = 2, .version = 2, .key = {keys[1], 7}},
                                              {.n = 3, .version = 3, .key = {keys[2], 9}}};
    tw_msg_manifest_read ask = sync_session_ask_keys(self);
    const tw_msg_manifest answer = {
        .cut = 5, .after = 5, .complete = true, .records = 3, .entries = {entries, 3}};
    TW_ASSERT(ask.query.len > 0);
    (void)(sync_session_take_keys(self, &answer) == TW_OK);
}

/* Does what is due until it is the client's turn, or the end. */
static void advance(sync_session *self)
{
    for (;;) {
        sync_told told;
        size_t part;
        tw_bson_value id;
        switch (sync_session_next(self)) {
        case SYNC_INPUT:
        case SYNC_DONE:
            return;
        case SYNC_KEYS:
            answer_keys(self);
            break;
        case SYNC_TELL:
            while (sync_session_next_told(self, &told)) {
                TW_ASSERT(told.count > 0 && told.count <= SYNC_TOLD_MAX);
                TW_ASSERT(told.ranges[told.count - 1] >> told.bits == 0);
            }
            break;
        case SYNC_DOCS: {
            tw_msg_manifest_docs ask = sync_session_ask_docs(self);
            TW_ASSERT(ask.rows.count > 0 && ask.rows.count <= 3);
            sync_session_docs_told(self, ask.rows.count);
            break;
        }
        case SYNC_REMOVES:
            while (sync_session_next_removed(self, &part, &id)) {
                TW_ASSERT(sync_session_collection(self, part).len > 0 && id.type != 0);
            }
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    sync_session *self = NULL;
    bool is_good = true;
    if (size > 65536) {
        return 0;
    }
    tw_arena_init(&arena, 64 << 20);
    for (size_t at = 0; is_good && at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t len = end == NULL ? size - at : (size_t)(end - data) - at;
        tw_bson message;
        broker_why why = {0};
        const char *hint = NULL;
        tw_str line = {(const char *)data + at, len};
        at += len + 1;
        is_good = tw_json_read(&arena, line, TW_DEPTH_CLIENT_MAX, &message, NULL) == TW_OK;
        if (is_good && self == NULL) {
            is_good = sync_session_new(&self, &known, NULL, message, TW_STR("main")) == TW_OK;
        }
        if (is_good && sync_session_next(self) == SYNC_INPUT) {
            bool more = tw_bson_get_bool_or(message, TW_STR("more"), false);
            is_good = sync_session_feed(self, message, more, &why, &hint) == TW_OK;
        }
        if (is_good) {
            advance(self);
        }
    }
    sync_session_free(&self);
    tw_arena_fini(&arena);
    return 0;
}
