/* topic_match.c - what does a change cost where many topics stand, with the index and without it?
 *
 * usage: topic_match [topics (100000)] [rows (20000)] [percent that no index finds (0)]
 * Each topic asks for one owner and something more; each row changes one owner's record. The scan
 * tests the same rows against every topic (fewer rows), in the same run, so trust the ratio. Those
 * that no index finds ask for a range of numbers. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/topic_set.h"

static double now_us(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "topic_match: %s\n", what);
    exit(1);
}

static tw_bson document(tw_arena *arena, const char *json)
{
    tw_bson doc;
    if (tw_json_read(arena, tw_str_of(json), TW_DEPTH_MAX, &doc, NULL) != TW_OK) {
        die("bad JSON");
    }
    return doc;
}

static tw_bson canonical_of(const catalog *known, tw_arena *arena, unsigned i, bool indexed)
{
    tw_bson canonical;
    const char *json =
        indexed ? tw_arena_format(arena,
                                  "{\"tasks\":{\"filter\":{\"kind\":\"k%u\",\"owner\":\"user%u\","
                                  "\"n\":{\"$gte\":%u}}}}",
                                  i % 7, i, i % 5)
                : tw_arena_format(arena, "{\"tasks\":{\"filter\":{\"n\":{\"$gte\":%u}}}}", 100 + i);
    if (topic_query_of_subscribe(known, NULL, arena, document(arena, json), &canonical, NULL) !=
        TW_OK) {
        die("bad subscribe");
    }
    return canonical;
}

static tw_item_log_row row_of(tw_arena *arena, unsigned n, unsigned topics)
{
    tw_item_log_row row = {.n = n, .srv = 1, .seqno = n, .flags = TW_ROW_PUT | TW_ROW_LAST};
    unsigned owner = n * 7919U % topics;
    row.db = TW_STR("main");
    row.coll = TW_STR("tasks");
    static const char form[] = "{\"_id\":%u,\"kind\":\"k%u\",\"owner\":\"user%u\",\"n\":%u,"
                               "\"title\":\"something to do\",\"tags\":[\"a\",\"b\"]}";
    row.doc = document(arena, tw_arena_format(arena, form, n, owner % 7, owner, n % 9));
    row.old = document(arena, tw_arena_format(arena, form, n, owner % 7, owner, n % 4));
    if (tw_key_of_value(arena, tw_bson_get(row.doc, TW_STR("_id")), &row.key) != TW_OK) {
        die("bad key");
    }
    return row;
}

/* Returns the microseconds per row, and how many topics were told. */
static double with_index(topic_set *set, const tw_item_log_row *rows, unsigned count)
{
    tw_arena events_memory;
    tw_arena_init(&events_memory, 256 << 20);
    double begin = now_us();
    for (unsigned i = 0; i < count; i++) {
        topic_set_events events = {0};
        if (topic_set_apply(set, &events_memory, &rows[i], &events) != TW_OK) {
            die("apply failed");
        }
        tw_arena_reset(&events_memory);
    }
    double each = (now_us() - begin) / count;
    tw_arena_fini(&events_memory);
    return each;
}

static double by_scan(topic_query *const *queries, unsigned topics, const tw_item_log_row *rows,
                      unsigned count, uint64_t *matched)
{
    double begin = now_us();
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < topics; k++) {
            *matched += topic_query_meaning(queries[k], 0, rows[i].flags, rows[i].doc, rows[i].old,
                                            (tw_position){1, rows[i].n}, true) != 0;
        }
    }
    return (now_us() - begin) / count;
}

int main(int argc, char **argv)
{
    uint64_t topics = 100000;
    uint64_t rows_count = 20000, percent = 0;
    if ((argc > 1 && tw_parse_u64(tw_str_of(argv[1]), TW_TOPICS_MAX, &topics) != TW_OK) ||
        (argc > 2 && tw_parse_u64(tw_str_of(argv[2]), 1000000, &rows_count) != TW_OK) ||
        (argc > 3 && tw_parse_u64(tw_str_of(argv[3]), 100, &percent) != TW_OK) || topics == 0 ||
        rows_count == 0) {
        die("usage: topic_match [topics] [rows] [percent that no index finds]");
    }
    catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};
    tw_arena arena;
    topic_set *set = NULL;
    tw_arena_init(&arena, 1 << 30);
    topic_query **queries = calloc(topics, sizeof *queries);
    tw_item_log_row *rows = calloc(rows_count, sizeof *rows);
    if (queries == NULL || rows == NULL || topic_set_new(&set, &known, TW_TOPICS_MAX) != TW_OK) {
        die("no memory");
    }
    double begin = now_us();
    for (unsigned i = 0; i < topics; i++) {
        uint64_t topic;
        tw_bson canonical = canonical_of(&known, &arena, i, i % 100 >= percent);
        if (topic_set_open(set, 1, canonical, &topic, NULL) != TW_OK ||
            topic_query_compile(&known, canonical, &queries[i], NULL) != TW_OK) {
            die("a topic was refused");
        }
    }
    double opening = (now_us() - begin) / (double)topics;
    for (unsigned i = 0; i < rows_count; i++) {
        rows[i] = row_of(&arena, i + 1, (unsigned)topics);
    }
    unsigned scanned = rows_count < 100 ? (unsigned)rows_count : 100;
    uint64_t matched = 0;
    double indexed = with_index(set, rows, (unsigned)rows_count);
    topic_set_stats stats = topic_set_figures(set);
    double scan = by_scan(queries, (unsigned)topics, rows, scanned, &matched);
    printf("topics %llu, opened in %.2f us each (twice compiled)\n", (unsigned long long)topics,
           opening);
    printf("index  %.3f us a row; %.2f topics tested, %.2f told a row, rendering included\n",
           indexed, (double)stats.tested / (double)rows_count,
           (double)stats.matched / (double)rows_count);
    printf("scan   %.1f us a row; %.2f told a row\n", scan, (double)matched / scanned);
    printf("ratio  %.0f\n", scan / indexed);
    for (unsigned i = 0; i < topics; i++) {
        topic_query_free(&queries[i]);
    }
    topic_set_free(&set);
    tw_arena_fini(&arena);
    free(queries);
    free(rows);
    return 0;
}
