/* topic_match.c - what does a change cost where many topics stand, with the index and without it?
 *
 * usage: topic_match [topics (100000)] [rows (20000)] [percent of hard filters (0)] [kind]
 * Each topic asks for one owner and something more; each row changes one owner's record. The scan
 * tests the same rows against every topic (fewer rows), in the same run, so trust the ratio. Some
 * topics have a hard filter instead, of one kind, which matches no row:
 *   ranges       a bound of a number                               found by an interval
 *   literals     a regular expression with plain letters in it     found by three letters
 *   negations    $ne, $nin, $nor of equalities                     in no index: they are excluded
 *   classes      a regular expression without plain letters        in no index
 *   unindexable  the last two by turns (the default)
 * The clock is that of the thread's CPU. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/topic_set.h"

enum { SCANNED = 20 }; /* rows, each held against every topic */

static double now_us(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

TW_NORETURN static void die(const char *what)
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

static const char *range(tw_arena *arena, unsigned i)
{
    return tw_arena_format(arena, "{\"n\":{\"$gte\":%u}}", 100 + i);
}

static const char *literal(tw_arena *arena, unsigned i)
{
    return tw_arena_format(arena, "{\"owner\":{\"$regex\":\"^user%u!\"}}", i);
}

static const char *negation(tw_arena *arena, unsigned i)
{
    static const char *const forms[] = {
        "{\"kind\":{\"$nin\":[\"k0\",\"k1\",\"k2\",\"k3\",\"k4\",\"k5\",\"k6\",\"x%u\"]}}",
        "{\"tags\":{\"$ne\":\"a\"},\"owner\":{\"$ne\":\"user%u\"}}",
        "{\"$nor\":[{\"tags\":\"b\"},{\"owner\":{\"$in\":[\"user%u\"]}}]}",
    };
    char text[256];
    const char *form = forms[i / 2 % TW_COUNT(forms)];
    const char *number = strstr(form, "%u");
    tw_format(text, sizeof text, "%.*s%u%s", (int)(number - form), form, i, number + 2);
    return tw_arena_format(arena, "%s", text);
}

static const char *class(tw_arena *arena, unsigned i)
{
    return tw_arena_format(arena, "{\"title\":{\"$regex\":\"[0-9]{2}[x-z]{%u}[p-r]{%u}\"}}",
                           i % 300 + 1, i / 300 + 1);
}

static const char *unindexable(tw_arena *arena, unsigned i)
{
    return i % 2 == 0 ? negation(arena, i) : class(arena, i);
}

static const struct kind {
    const char *name;
    const char *(*filter)(tw_arena *arena, unsigned i);
} kinds[] = {{"unindexable", unindexable},
             {"ranges", range},
             {"literals", literal},
             {"negations", negation},
             {"classes", class}};

static tw_bson canonical_of(const catalog *known, tw_arena *arena, unsigned i,
                            const struct kind *hard)
{
    tw_bson canonical;
    const char *filter =
        hard != NULL
            ? hard->filter(arena, i)
            : tw_arena_format(arena, "{\"kind\":\"k%u\",\"owner\":\"user%u\",\"n\":{\"$gte\":%u}}",
                              i % 7, i, i % 5);
    const char *json = tw_arena_format(arena, "{\"tasks\":{\"filter\":%s}}", filter);
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

static const struct kind *kind_of(const char *name)
{
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    die("the kinds are unindexable, ranges, literals, negations and classes");
}

int main(int argc, char **argv)
{
    uint64_t topics = 100000;
    uint64_t rows_count = 20000, percent = 0;
    if ((argc > 1 && tw_parse_u64(tw_str_of(argv[1]), TW_TOPICS_MAX, &topics) != TW_OK) ||
        (argc > 2 && tw_parse_u64(tw_str_of(argv[2]), 1000000, &rows_count) != TW_OK) ||
        (argc > 3 && tw_parse_u64(tw_str_of(argv[3]), 100, &percent) != TW_OK) || topics == 0 ||
        rows_count == 0) {
        die("usage: topic_match [topics] [rows] [percent of hard filters] [kind]");
    }
    const struct kind *hard = kind_of(argc > 4 ? argv[4] : kinds[0].name);
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
        tw_bson canonical = canonical_of(&known, &arena, i, i % 100 < percent ? hard : NULL);
        if (topic_set_open(set, 1, canonical, &topic, NULL) != TW_OK ||
            topic_query_compile(&known, canonical, &queries[i], NULL) != TW_OK) {
            die("a topic was refused");
        }
    }
    double opening = (now_us() - begin) / (double)topics;
    for (unsigned i = 0; i < rows_count; i++) {
        rows[i] = row_of(&arena, i + 1, (unsigned)topics);
    }
    unsigned scanned = rows_count < SCANNED ? (unsigned)rows_count : SCANNED;
    uint64_t matched = 0;
    double indexed = with_index(set, rows, (unsigned)rows_count);
    topic_set_stats stats = topic_set_figures(set);
    double scan = by_scan(queries, (unsigned)topics, rows, scanned, &matched);
    printf("topics %llu, opened in %.2f us each (twice compiled)\n", (unsigned long long)topics,
           opening);
    if (percent > 0) {
        printf("hard filters: %llu %%, %s\n", (unsigned long long)percent, hard->name);
    }
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
