/* embedded_search.c - what a search of the embedded engine costs beside bare FTS5 (unicode61, the
 * best ten by bm25) over the same texts, interleaved in one run.
 *
 * embedded_search [documents] [rounds] */
#include "actors/search/embedded_search.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <sqlite3.h>

#include "protocol/bson.h"
#include "protocol/messages.h"

#include "actors/log_reader.h"
#include "actors/store.h"
#include "bench/bench.h"

enum { BATCH = 250, ROUNDS_MAX = 2000, WAIT_MS = 30000, WORDS = 5000 };

typedef struct bench {
    catalog catalog;
    tw_system *system;
    log_store *log;
    tw_caller *store, *search;
    sqlite3 *bare;
    sqlite3_stmt *find;
    tw_buf text;
} bench;

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Twelve words, the lower numbers more often. */
static void make_text(uint64_t id, char out[256])
{
    size_t len = 0;
    for (uint64_t i = 0; i < 12; i++) {
        uint64_t seed = id * 12 + i;
        uint64_t draw = tw_hash(&seed, sizeof seed, 1) % (WORDS * WORDS);
        uint64_t word = draw % WORDS * (draw / WORDS) / WORDS;
        len += tw_format(out + len, 256 - len, "w%llu ", (unsigned long long)word);
    }
}

static void start(bench *self)
{
    static store_options store;
    static log_reader_options reader;
    static embedded_search_options search;
    self->catalog = (catalog){.magic = CATALOG_MAGIC, .default_database = "main", .embedded = true};
    must(log_store_new(&self->log) == TW_OK, "the log");
    store = (store_options){.log = self->log, .catalog = &self->catalog, .memory = true};
    reader = (log_reader_options){.log = self->log, .catalog = &self->catalog};
    search =
        (embedded_search_options){.catalog = &self->catalog, .directory = "/tmp", .memory = true};
    must(tw_system_new(&self->system, &(tw_system_options){0}) == TW_OK, "the system");
    must(tw_system_add(self->system, &store_class, -1, &store) == TW_OK &&
             tw_system_add(self->system, &log_reader_class, 0, &reader) == TW_OK &&
             tw_system_add(self->system, &embedded_search_class, -1, &search) == TW_OK,
         "adding actors");
    const char *why = "";
    must(tw_system_start(self->system, &why) == TW_OK, why);
    const char *base = tw_system_base(self->system);
    must(tw_caller_open(&self->store, base, "store", WAIT_MS) == TW_OK &&
             tw_caller_open(&self->search, base, "embedded_search", WAIT_MS) == TW_OK,
         "connecting");
    must(sqlite3_open(":memory:", &self->bare) == SQLITE_OK, "sqlite");
    must(sqlite3_exec(self->bare, "CREATE VIRTUAL TABLE t USING fts5(text)", NULL, NULL, NULL) ==
             SQLITE_OK,
         "fts5");
}

static tw_vector fill(bench *self, uint64_t documents, tw_arena *arena)
{
    tw_vector since = {NULL, 0};
    sqlite3_stmt *insert = NULL;
    sqlite3_prepare_v2(self->bare, "INSERT INTO t(text) VALUES(?1)", -1, &insert, NULL);
    for (uint64_t id = 0; id < documents;) {
        tw_item_write_op ops[BATCH];
        tw_arena page;
        size_t count = 0;
        tw_arena_init(&page, 1 << 24);
        sqlite3_exec(self->bare, "BEGIN", NULL, NULL, NULL);
        for (; count < BATCH && id < documents; count++, id++) {
            char text[256];
            tw_bson_builder b;
            make_text(id, text);
            tw_buf_clear(&self->text);
            tw_bson_begin(&b, &self->text);
            tw_bson_add_i64(&b, TW_STR("_id"), (int64_t)id);
            tw_bson_add_str(&b, TW_STR("text"), tw_str_of(text));
            ops[count] = (tw_item_write_op){.op = TW_OP_PUT,
                                            .db = TW_STR("main"),
                                            .coll = TW_STR("docs"),
                                            .if_version = -1,
                                            .doc = tw_arena_bson(&page, tw_bson_end(&b))};
            sqlite3_reset(insert);
            sqlite3_bind_text(insert, 1, text, -1, SQLITE_TRANSIENT);
            must(sqlite3_step(insert) == SQLITE_DONE, "a bare insert");
        }
        sqlite3_exec(self->bare, "COMMIT", NULL, NULL, NULL);
        const tw_envelope *in;
        tw_msg_write write = {.ops = {ops, count}};
        must(tw_caller_ask(self->store, TW_MSG_write, &write, WAIT_MS, &in) == TW_OK, "a write");
        const tw_item_write_result *last = &in->body->written.results.at[count - 1];
        tw_position at = {last->srv, last->seqno};
        since = tw_arena_vector(arena, (tw_vector){&at, 1});
        tw_arena_fini(&page);
    }
    sqlite3_finalize(insert);
    return since;
}

static double ours(bench *self, const char *query, tw_vector since, uint64_t *total)
{
    tw_bson_builder b;
    const tw_envelope *in;
    tw_item_search_target target = {.db = TW_STR("main"), .coll = TW_STR("docs")};
    tw_buf_clear(&self->text);
    tw_bson_begin(&b, &self->text);
    tw_bson_open_doc(&b, TW_STR("query"));
    tw_bson_open_doc(&b, TW_STR("match"));
    tw_bson_add_str(&b, TW_STR("text"), tw_str_of(query));
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_add_i64(&b, TW_STR("rows"), 10);
    tw_msg_search_ask ask = {.function = TW_STR("search"),
                             .targets = {&target, 1},
                             .args = tw_bson_end(&b),
                             .min_since = since,
                             .deadline_ms = WAIT_MS};
    double from = now_us();
    must(tw_caller_ask(self->search, TW_MSG_search_ask, &ask, WAIT_MS, &in) == TW_OK &&
             in->id == TW_MSG_search_answer,
         "a search");
    double took = now_us() - from;
    *total = (uint64_t)tw_bson_get_i64_or(in->body->search_answer.result, TW_STR("total"), 0);
    return took;
}

static double bare(bench *self, const char *query)
{
    char or [128];
    double from = now_us();
    const char *space = strchr(query, ' ');
    tw_format(or, sizeof or, "%.*s OR %s", (int)(space - query), query, space + 1);
    sqlite3_reset(self->find);
    sqlite3_bind_text(self->find, 1, or, -1, SQLITE_TRANSIENT);
    while (sqlite3_step(self->find) == SQLITE_ROW) {
        (void)sqlite3_column_text(self->find, 1);
    }
    return now_us() - from;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    static double times[2][ROUNDS_MAX];
    uint64_t documents = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    size_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 500;
    rounds = rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    bench *self = calloc(1, sizeof *self);
    must(self != NULL, "memory");
    tw_arena arena;
    tw_arena_init(&arena, 1 << 24);
    tw_buf_init(&self->text, 1 << 20);
    start(self);
    tw_vector since = fill(self, documents, &arena);
    uint64_t total;
    uint64_t found = 0;
    double from = now_us();
    (void)ours(self, "w1 w2", since, &total);
    printf("the index had caught up %.0f ms after the last write\n", (now_us() - from) / 1e3);
    must(sqlite3_prepare_v2(self->bare,
                            "SELECT rowid, text FROM t WHERE t MATCH ?1 ORDER BY rank LIMIT 10", -1,
                            &self->find, NULL) == SQLITE_OK,
         "the bare query");
    for (size_t i = 0; i < rounds; i++) {
        char query[64];
        tw_format(query, sizeof query, "w%zu w%zu", 20 + i * 7 % 3000, 40 + i * 13 % 3000);
        times[0][i] = ours(self, query, since, &total);
        found += total;
        times[1][i] = bare(self, query);
    }
    qsort(times[0], rounds, sizeof(double), compare);
    qsort(times[1], rounds, sizeof(double), compare);
    printf("%llu documents, %zu searches of 2 words, %.1f hits each\n",
           (unsigned long long)documents, rounds, (double)found / (double)rounds);
    printf("embedded  p50 %8.1f us   p99 %8.1f us\n", times[0][rounds / 2],
           times[0][rounds * 99 / 100]);
    printf("bare FTS5 p50 %8.1f us   p99 %8.1f us   ratio at p50 %.2f\n", times[1][rounds / 2],
           times[1][rounds * 99 / 100], times[0][rounds / 2] / times[1][rounds / 2]);
    sqlite3_finalize(self->find);
    sqlite3_close(self->bare);
    tw_caller_close(&self->store);
    tw_caller_close(&self->search);
    tw_system_stop(self->system, 1000);
    tw_system_free(&self->system);
    log_store_free(&self->log);
    tw_arena_fini(&arena);
    tw_buf_fini(&self->text);
    free(self);
    return 0;
}
