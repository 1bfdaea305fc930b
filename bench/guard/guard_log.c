/* guard_log.c - the log: a commit of rows, and pages of them read again. */
#include <string.h>

#include "protocol/limits.h"

#include "broker/topic_query.h"

#include "actors/log/log_cursor.h"
#include "bench/guard/guard.h"

enum { KEYS = 2048, BATCH = 32, PAGE = 128 };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};
static log_store *store;
static uint32_t coll;
static tw_key keys[KEYS];
static tw_bson documents[KEYS];
static unsigned written;
static log_view view;
static log_page page;
static topic_query *asked;
static tw_buf text;
static size_t taken;

/* Updates in order of the keys, as the store does: look up, read, prepare, remember, commit. */
static void append(void)
{
    tw_arena_reset(&guard_temporary);
    for (unsigned i = 0; i < BATCH; i++, written++) {
        unsigned id = written % KEYS;
        log_current current = log_store_current(store, coll, keys[id]);
        tw_bson old = {0};
        guard_must(current.n == 0 ||
                       log_store_document(store, &guard_temporary, current.n, &old) == TW_OK,
                   "reading the version before");
        const log_row row = {.coll = coll,
                             .flags = TW_ROW_PUT | TW_ROW_LAST,
                             .origin = LOG_ORIGIN_OWN,
                             .ver = current.ver + 1,
                             .prev = current.n,
                             .key = keys[id],
                             .doc = documents[id]};
        guard_must(log_store_prepare(store, &row, old) == TW_OK, "preparing");
        const char *opid = tw_arena_format(&guard_temporary, "operation%08u", written);
        const log_opid done = {.id = tw_str_of(opid),
                               .key = keys[id],
                               .version = row.ver,
                               .seqno = written + 1,
                               .count = 1};
        guard_must(log_store_remember(store, &done) == TW_OK, "remembering");
    }
    guard_must(log_store_commit(store, 1700000000000) == TW_OK, "committing");
    log_store_clear(store);
}

static void set_up_log(void)
{
    static const log_store_options options = {.memory = true, .srv_id = 1234567};
    char why[512];
    guard_must(log_store_new(&store) == TW_OK &&
                   log_store_open(store, &options, 1700000000000, why, sizeof why) == TW_OK,
               "opening the log");
    log_view_init(&view, store);
    guard_must(log_store_collection(store, TW_STR("main"), TW_STR("offers"), TW_STR(""), true,
                                    &coll) == TW_OK,
               "the collection");
    for (unsigned i = 0; i < KEYS; i++) {
        documents[i] = guard_document(i);
        guard_must(tw_key_of_value(&guard_kept, tw_bson_get(documents[i], TW_STR("_id")),
                                   &keys[i]) == TW_OK,
                   "the key");
    }
    while (written < KEYS) {
        append();
    }
    guard_must(log_store_checkpoint(store) == TW_OK, "checkpoint");
}

/* ---- pages, rendered as a log_reader does ---- */

static unsigned meaning(void *context, size_t part, const log_row *row, tw_bson old, uint64_t srv,
                        bool live)
{
    (void)context;
    return topic_query_meaning(asked, (int)part, row->flags, row->doc, old,
                               (tw_position){srv, row->seqno}, live);
}

static bool take(void *context, size_t part, unsigned means, const log_row *row, uint64_t srv)
{
    (void)context;
    if (taken == PAGE) {
        return false;
    }
    const topic_change change = {.at = {srv, row->seqno},
                                 .flags = row->flags,
                                 .key = row->key,
                                 .version = row->ver,
                                 .doc = row->doc};
    topic_query_render(&known, &asked->parts[part], means, &change, &text);
    taken++;
    return true;
}

static void set_up_page(void)
{
    broker_why why;
    set_up_log();
    tw_buf_init(&text, 1 << 24);
    guard_must(topic_query_compile(&known, guard_query(&known, "{\"offers\":\"*\"}"), &asked,
                                   &why) == TW_OK,
               "the query");
    guard_must(log_view_sync(&view) == TW_OK, "the view");
}

/* The same page each time: rows in the middle of the log. */
static void read_page(void)
{
    const log_part part = {.db = TW_STR("main"), .name = TW_STR("offers")};
    const log_page_taker taker = {.meaning = meaning, .take = take};
    page = (log_page){.after = KEYS / 2, .w0 = KEYS};
    taken = 0;
    tw_buf_clear(&text);
    tw_arena_reset(&guard_temporary);
    guard_must(log_page_read(&view, &guard_temporary, &part, 1, &taker, &page) == TW_OK &&
                   taken == PAGE && text.err == TW_OK,
               "reading a page");
}

static void close_log(void)
{
    log_view_fini(&view);
    log_store_close(store);
    log_store_free(&store); /* removes its folder */
}

const guard_path guard_log_paths[] = {
    {"log_append", set_up_log, append, close_log},
    {"log_page", set_up_page, read_page, close_log},
    {0},
};
