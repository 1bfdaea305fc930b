/* store_writes.c - G7: durable writes of the log beside a bare loop that inserts the same rows in
 * the same batches with the same pragmas, and beside the usual two tables, interleaved in one run.
 *
 * store_writes [rows] [batch] [rounds]: 100,000 keys, 90 % updates, 300-byte documents; the log
 * reads the replaced document, keeps 100,000 rows and sweeps the others; the bare loop does none
 * of that. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "actors/log/log_store.h"
#include "actors/log/log_table.h"
#include "bench/sqlite_link.h"

enum { KEYS = 100000, BODY = 300, ROUNDS_MAX = 15, KEPT_ROWS = 100000 };

typedef struct write_plan {
    uint64_t rows, batch;
    uint64_t random;
} write_plan;

static uint64_t next_key(write_plan *plan, uint64_t row)
{
    plan->random ^= plan->random << 13;
    plan->random ^= plan->random >> 7;
    plan->random ^= plan->random << 17;
    uint64_t known = row / 10 + 1; /* one in ten is new */
    known = known > KEYS ? KEYS : known;
    return row % 10 == 0 ? row / 10 % KEYS : plan->random % known;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "store_writes: %s failed\n", what);
        exit(1);
    }
}

static void make_body(uint8_t body[BODY], uint64_t row)
{
    memset(body, (int)(row & 0x7f), BODY);
    memcpy(body + 4, &row, sizeof row);
}

/* The log: prepared rows with the documents they replace, floor and sweeping included. */
static double run_log(const char *directory, write_plan plan)
{
    log_store *log;
    char why[512];
    const log_store_options options = {.directory = directory};
    must(log_store_new(&log) == TW_OK, "new");
    must(log_store_open(log, &options, 1, why, sizeof why) == TW_OK, "open");
    tw_arena arena;
    tw_arena_init(&arena, 1 << 26);
    double start = now_s();
    for (uint64_t row = 0; row < plan.rows;) {
        for (uint64_t i = 0; i < plan.batch && row < plan.rows; i++, row++) {
            uint8_t *key = tw_arena_alloc(&arena, 9);
            uint8_t *body = tw_arena_alloc(&arena, BODY);
            uint64_t id = next_key(&plan, row);
            key[0] = 0x12;
            memcpy(key + 1, &id, sizeof id);
            make_body(body, row);
            log_row made = {.flags = TW_ROW_PUT | TW_ROW_LAST,
                            .origin = LOG_ORIGIN_OWN,
                            .key = {key, 9},
                            .doc = {body, BODY}};
            must(log_store_collection(log, TW_STR("d"), TW_STR("c"), TW_STR(""), true,
                                      &made.coll) == TW_OK,
                 "collection");
            log_current current = log_store_current(log, made.coll, made.key);
            made.prev = current.n;
            made.ver = current.ver + 1;
            tw_bson old = {0};
            must(current.n == 0 || log_store_document(log, &arena, current.n, &old) == TW_OK,
                 "read");
            must(log_store_prepare(log, &made, old) == TW_OK, "prepare");
        }
        must(log_store_commit(log, 1000 + row / 100) == TW_OK, "commit");
        log_store_clear(log);
        must(log_store_checkpoint(log) == TW_OK, "checkpoint");
        tw_arena_reset(&arena);
        bool more;
        if (row % 16384 < plan.batch) {
            must(log_store_raise_floor(log, 0, KEPT_ROWS) == TW_OK, "floor");
        }
        must(row % 512 >= plan.batch || log_store_step(log, false, &more) == TW_OK, "step");
    }
    double took = now_s() - start;
    log_store_close(log);
    log_store_free(&log);
    tw_arena_fini(&arena);
    return took;
}

/* Bare inserts of the same rows; with_documents: the usual second table of current documents too.
 * */
static double run_bare(const char *directory, write_plan plan, bool with_documents)
{
    bare_log *log = bare_log_open(directory, with_documents);
    double start = now_s();
    for (uint64_t row = 0; row < plan.rows;) {
        bare_log_begin(log);
        for (uint64_t i = 0; i < plan.batch && row < plan.rows; i++, row++) {
            uint8_t key[9] = {0x12};
            uint8_t body[BODY + 11] = {0};
            uint64_t id = next_key(&plan, row);
            memcpy(key + 1, &id, sizeof id);
            make_body(body, row);
            bare_log_add(log, row + 1, row / 2, key, sizeof key, body, sizeof body);
        }
        bare_log_commit(log);
    }
    double took = now_s() - start;
    bare_log_close(&log);
    return took;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return values[count / 2];
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise, uint64_t max)
{
    uint64_t value = otherwise;
    must(i >= argc || (tw_parse_u64(tw_str_of(argv[i]), max, &value) == TW_OK && value > 0),
         "reading the arguments");
    return value;
}

int main(int argc, char **argv)
{
    write_plan plan = {.rows = argument(argc, argv, 1, 300000, 1000000000),
                       .batch = argument(argc, argv, 2, 64, TW_BATCH_ROWS_MAX),
                       .random = 88172645463325252};
    size_t rounds = (size_t)argument(argc, argv, 3, 3, ROUNDS_MAX);
    double took[3][ROUNDS_MAX];
    log_table_library_start();
    for (size_t r = 0; r < rounds; r++) {
        for (int form = 0; form < 3; form++) {
            char directory[] = "./store_writes_XXXXXX", command[64];
            must(mkdtemp(directory) != NULL, "mkdtemp");
            took[form][r] =
                form == 0 ? run_log(directory, plan) : run_bare(directory, plan, form == 2);
            tw_format(command, sizeof command, "rm -r %s", directory);
            must(system(command) == 0, "cleaning up");
        }
    }
    static const char *const names[] = {"log", "bare inserts", "two tables"};
    double rates[3];
    printf("%llu rows, groups of %llu, median of %zu interleaved rounds\n",
           (unsigned long long)plan.rows, (unsigned long long)plan.batch, rounds);
    for (int form = 0; form < 3; form++) {
        rates[form] = (double)plan.rows / median(took[form], rounds);
        printf("%-14s %9.0f durable writes/s\n", names[form], rates[form]);
    }
    printf("log / bare inserts %.2f (goal >= 0.5, great 0.8); log / two tables %.2f (goal >= 2, "
           "great 4)\n",
           rates[0] / rates[1], rates[0] / rates[2]);
    return 0;
}
