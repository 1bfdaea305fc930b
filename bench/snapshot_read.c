/* snapshot_read.c - G10: reading a whole collection page by page, rendered, as a log_reader does,
 * beside a bare SQLite scan of the same rows with the same JSON writer, interleaved in one run.
 *
 * snapshot_read [documents] [rounds] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <sqlite3.h>

#include "protocol/json.h"

#include "broker/topic_query.h"

#include "actors/log/log_cursor.h"
#include "bench/bench.h"

enum { ROUNDS_MAX = 15, BATCH = 1000 };

static const catalog catalog_of_bench = {.magic = CATALOG_MAGIC, .default_database = "main"};

static tw_bson make_document(tw_arena *arena, tw_buf *text, uint64_t id)
{
    tw_bson_builder b;
    tw_buf_clear(text);
    tw_bson_begin(&b, text);
    tw_bson_add_i64(&b, TW_STR("_id"), (int64_t)id);
    tw_bson_add_i64(&b, TW_STR("proj_id"), (int64_t)(id % 100));
    tw_bson_add_str(&b, TW_STR("title"), TW_STR("A document of the usual size"));
    tw_bson_add_str(&b, TW_STR("text"),
                    TW_STR("The quick brown fox jumps over the lazy dog, and "
                           "again, and again, until the line is long enough."));
    tw_bson_add_double(&b, TW_STR("score"), (double)id * 0.25);
    tw_bson_add_date(&b, TW_STR("changed"), 1700000000000 + (int64_t)id);
    tw_bson_add_bool(&b, TW_STR("done"), id % 2 == 0);
    tw_bson_add_i64(&b, TW_STR("_version"), 1);
    return tw_arena_bson(arena, tw_bson_end(&b));
}

static void fill(log_store *log, uint64_t documents)
{
    tw_arena arena;
    tw_buf text;
    tw_arena_init(&arena, 1 << 26);
    tw_buf_init(&text, 65536);
    for (uint64_t id = 0; id < documents;) {
        for (int i = 0; i < BATCH && id < documents; i++, id++) {
            log_row row = {.flags = TW_ROW_PUT | TW_ROW_LAST,
                           .origin = LOG_ORIGIN_OWN,
                           .ver = 1,
                           .doc = make_document(&arena, &text, id)};
            must(tw_key_of_value(&arena, tw_bson_get(row.doc, TW_STR("_id")), &row.key) == TW_OK &&
                     log_store_collection(log, TW_STR("main"), TW_STR("c"), TW_STR(""), true,
                                          &row.coll) == TW_OK &&
                     log_store_prepare(log, &row, (tw_bson){0}) == TW_OK,
                 "writing");
        }
        must(log_store_commit(log, 1) == TW_OK, "commit");
        log_store_clear(log);
        must(log_store_checkpoint(log) == TW_OK, "checkpoint");
        tw_arena_reset(&arena);
    }
    tw_arena_fini(&arena);
    tw_buf_fini(&text);
}

typedef struct reading {
    topic_query *asked;
    tw_buf text;
    size_t rows;
    uint64_t total;
} reading;

static unsigned meaning(void *context, size_t part, const log_row *row, tw_bson old, uint64_t srv,
                        bool live)
{
    const reading *self = context;
    return topic_query_meaning(self->asked, (int)part, row->flags, row->doc, old,
                               (tw_position){srv, row->seqno}, live);
}

static bool take(void *context, size_t part, unsigned means, const log_row *row, uint64_t srv)
{
    reading *self = context;
    if (self->rows == TW_PAGE_ROWS_MAX || self->text.len >= TW_PAGE_BYTES) {
        return false;
    }
    const topic_change change = {.at = {srv, row->seqno},
                                 .flags = row->flags,
                                 .key = row->key,
                                 .version = row->ver,
                                 .doc = row->doc};
    topic_query_render(&catalog_of_bench, &self->asked->parts[part], means, &change, &self->text);
    self->rows++;
    self->total++;
    return true;
}

static double read_pages(log_store *log, reading *self, uint64_t documents)
{
    log_view view;
    tw_arena arena;
    tw_arena_init(&arena, 1 << 22);
    log_view_init(&view, log);
    log_page page = {.fresh = true};
    const log_part part = {.db = TW_STR("main"), .name = TW_STR("c")};
    const log_page_taker taker = {.context = self, .meaning = meaning, .take = take};
    self->total = 0;
    double start = now_s();
    must(log_view_sync(&view) == TW_OK, "opening");
    do {
        self->rows = 0;
        tw_buf_clear(&self->text);
        tw_arena_reset(&arena);
        must(log_page_read(&view, &arena, &part, 1, &taker, &page) == TW_OK, "page");
        page.fresh = false;
    } while (!page.caught_up);
    double took = now_s() - start;
    must(self->total == documents, "reading all");
    log_view_fini(&view);
    tw_arena_fini(&arena);
    return took;
}

static double read_bare(const char *path, uint64_t documents)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *rows = NULL;
    tw_buf text;
    tw_buf_init(&text, 1 << 20);
    uint64_t total = 0;
    double start = now_s();
    must(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK, "bare open");
    must(sqlite3_prepare_v2(db, "SELECT n, head, body FROM log ORDER BY n", -1, &rows, NULL) ==
             SQLITE_OK,
         "bare prepare");
    while (sqlite3_step(rows) == SQLITE_ROW) {
        const uint8_t *body = sqlite3_column_blob(rows, 2);
        if (text.len >= TW_PAGE_BYTES) {
            tw_buf_clear(&text);
        }
        uint32_t len;
        memcpy(&len, body, sizeof len);
        tw_json_write(&text, (tw_bson){body, len});
        total++;
    }
    double took = now_s() - start;
    must(total == documents, "bare reading");
    sqlite3_finalize(rows);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db);
    tw_buf_fini(&text);
    return took;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

static tw_bson all_of_c(tw_arena *arena)
{
    tw_bson_builder b;
    tw_buf text;
    tw_bson canonical;
    broker_why why;
    tw_buf_init(&text, 4096);
    tw_bson_begin(&b, &text);
    tw_bson_add_str(&b, TW_STR("type"), TW_STR("subscribe"));
    tw_bson_add_str(&b, TW_STR("c"), TW_STR("*"));
    must(topic_query_of_subscribe(&catalog_of_bench, NULL, arena, tw_bson_end(&b), &canonical,
                                  &why) == TW_OK,
         "the query");
    tw_buf_fini(&text);
    return canonical;
}

int main(int argc, char **argv)
{
    uint64_t documents = 200000;
    uint64_t rounds = 5;
    must(argc < 2 || tw_parse_u64(tw_str_of(argv[1]), 100000000, &documents) == TW_OK, "documents");
    must(argc < 3 || (tw_parse_u64(tw_str_of(argv[2]), ROUNDS_MAX, &rounds) == TW_OK && rounds > 0),
         "rounds");
    log_store *log;
    char why[512];
    const log_store_options options = {.memory = true};
    must(log_store_new(&log) == TW_OK, "new");
    must(log_store_open(log, &options, 1, why, sizeof why) == TW_OK, "open");
    fill(log, documents);
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    reading self = {0};
    tw_buf_init(&self.text, 1 << 24);
    broker_why cause;
    must(topic_query_compile(&catalog_of_bench, all_of_c(&arena), &self.asked, &cause) == TW_OK,
         "compile");
    double pages[ROUNDS_MAX], bare[ROUNDS_MAX];
    for (uint64_t r = 0; r < rounds; r++) {
        pages[r] = read_pages(log, &self, documents);
        bare[r] = read_bare(log_store_path(log), documents);
    }
    qsort(pages, rounds, sizeof *pages, compare_doubles);
    qsort(bare, rounds, sizeof *bare, compare_doubles);
    double rate = (double)documents / pages[rounds / 2];
    double bare_rate = (double)documents / bare[rounds / 2];
    printf("%llu documents, median of %llu interleaved rounds\n", (unsigned long long)documents,
           (unsigned long long)rounds);
    printf("pages %.0f documents/s, bare scan and JSON %.0f: %.2f (goal >= 0.3, great 0.6)\n", rate,
           bare_rate, rate / bare_rate);
    topic_query_free(&self.asked);
    tw_buf_fini(&self.text);
    tw_arena_fini(&arena);
    log_store_close(log);
    log_store_free(&log);
    return 0;
}
