/* log_growth_test.c - a log that is written without a pause keeps its bounds: the WAL starts over,
 * superseded rows go as fast as they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

enum {
    NOW_MS = 1000000,
    KEYS = 100,
    GROUP_ROWS = 2048,
    KEPT_ROWS = 1000,
    GROUPS = 60,
    WAL_BYTES_MAX = 12582912, /* a checkpoint is due at a third of it */
};

static int set_up(void **state)
{
    const log_store_options options = {.memory = true};
    char why[512];
    log_store *log;
    assert_int_equal(log_store_new(&log), TW_OK);
    assert_int_equal(log_store_open(log, &options, NOW_MS, why, sizeof why), TW_OK);
    *state = log;
    return 0;
}

static int tear_down(void **state)
{
    log_store *log = *state;
    log_store_close(log);
    log_store_free(&log);
    return 0;
}

/* Prepares a version of a key, whose bytes are to live until the commit. */
static void prepare_of(log_store *log, uint32_t origin, uint64_t seqno, const uint8_t key[2],
                       tw_bson doc)
{
    log_row row = {.flags = TW_ROW_PUT | TW_ROW_LAST,
                   .origin = origin,
                   .seqno = seqno,
                   .key = {key, 2},
                   .doc = doc};
    assert_int_equal(
        log_store_collection(log, TW_STR("d"), TW_STR("c"), TW_STR(""), true, &row.coll), TW_OK);
    log_current current = log_store_current(log, row.coll, row.key);
    row.prev = current.n;
    row.ver = current.ver + 1;
    assert_int_equal(log_store_prepare(log, &row, (tw_bson){0}), TW_OK);
}

static void prepare(log_store *log, const uint8_t key[2], tw_bson doc)
{
    prepare_of(log, LOG_ORIGIN_OWN, 0, key, doc);
}

static void commit(log_store *log)
{
    assert_int_equal(log_store_commit(log, NOW_MS), TW_OK);
    log_store_clear(log);
    assert_int_equal(log_store_checkpoint(log), TW_OK);
}

static off_t wal_bytes(const log_store *log)
{
    char path[4200];
    struct stat found;
    tw_format(path, sizeof path, "%s-wal", log_store_path(log));
    assert_int_equal(stat(path, &found), 0);
    return found.st_size;
}

/* A row that the ring has forgotten is read from the table, as an update reads what it replaces. */
static void test_wal_starts_over_while_writes_read(void **state)
{
    log_store *log = *state;
    static uint8_t doc[65536];
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    off_t most = 0;
    for (int i = 0; i < 1000; i++) { /* 64 MB */
        uint8_t key[2] = {8, (uint8_t)(i % KEYS)};
        tw_bson old;
        prepare(log, key, (tw_bson){doc, sizeof doc});
        assert_int_equal(i == 0 ? TW_OK : log_store_document(log, &arena, 1, &old), TW_OK);
        commit(log);
        tw_arena_reset(&arena);
        off_t bytes = wal_bytes(log);
        most = bytes > most ? bytes : most;
    }
    tw_arena_fini(&arena);
    assert_true(most > 0);
    assert_true(most < WAL_BYTES_MAX);
}

/* As the store does in turns that each have a commit: no transaction is housekeeping's own. */
static void test_rows_go_as_fast_as_they_come(void **state)
{
    log_store *log = *state;
    static uint8_t doc[64], keys[KEYS][2];
    uint64_t most = 0;
    for (int group = 0; group < GROUPS; group++) {
        for (int i = 0; i < GROUP_ROWS; i++) {
            uint8_t *key = keys[i % KEYS];
            key[0] = 8;
            key[1] = (uint8_t)(i % KEYS);
            prepare(log, key, (tw_bson){doc, sizeof doc});
        }
        commit(log);
        assert_int_equal(log_store_raise_floor(log, NOW_MS, KEPT_ROWS), TW_OK);
        bool more = true;
        for (int i = 0; more && i < 4 + GROUP_ROWS / 256; i++) {
            assert_int_equal(log_store_step(log, false, &more), TW_OK);
        }
        log_index_stats stats = log_index_figures(log_store_index(log));
        most = stats.rows > most ? stats.rows : most;
        assert_int_equal(stats.records, KEYS);
        assert_int_equal(stats.rows + stats.swept, log_index_head(log_store_index(log)));
    }
    assert_true(most < (uint64_t)3 * GROUP_ROWS + KEPT_ROWS + KEYS);
}

/* Many chunks in one transaction: what is read of each key afterwards is its newest version, and
 * nothing is missing to the next start (log_store_load counts). */
static void test_sweep_of_many_chunks_keeps_the_newest(void **state)
{
    log_store *log = *state;
    static uint8_t docs[GROUP_ROWS][5], keys[KEYS][2];
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    for (int i = 0; i < GROUP_ROWS; i++) {
        uint8_t *key = keys[i % KEYS];
        key[0] = 8;
        key[1] = (uint8_t)(i % KEYS);
        docs[i][0] = (uint8_t)(i / KEYS);
        prepare(log, key, (tw_bson){docs[i], sizeof docs[i]});
    }
    commit(log);
    assert_int_equal(log_store_raise_floor(log, NOW_MS, 0), TW_OK);
    bool more = true;
    while (log->passed < log_index_floor(log->index)) {
        assert_int_equal(log_store_step(log, false, &more), TW_OK);
    }
    assert_int_equal(log_index_figures(log->index).swept, 0);
    assert_int_equal(log_store_step(log, true, &more), TW_OK);
    assert_true(log_index_figures(log->index).swept > 2 * LOG_CHUNK_ROWS);
    while (more) {
        assert_int_equal(log_store_step(log, true, &more), TW_OK);
    }
    assert_true(log_index_figures(log->index).rows < KEYS + LOG_CHUNK_ROWS);
    for (int i = 0; i < KEYS; i++) {
        int last = i + KEYS * ((GROUP_ROWS - 1 - i) / KEYS);
        tw_bson doc;
        assert_int_equal(log_store_document(log, &arena, (uint64_t)last + 1, &doc), TW_OK);
        assert_int_equal(doc.ptr[0], last / KEYS);
    }
    tw_arena_fini(&arena);
}

/* Positions of a source's rows below the floor are needed by nobody. */
static void test_samples_of_an_origin_go_with_the_floor(void **state)
{
    enum { ORIGIN_SRV = 77 };
    log_store *log = *state;
    static uint8_t doc[8], key[2] = {8, 1};
    uint32_t id;
    assert_int_equal(log_store_origin(log, ORIGIN_SRV, &id), TW_OK);
    uint64_t seqno = 0;
    for (int group = 0; group < GROUPS; group++) {
        for (int i = 0; i < GROUP_ROWS; i++) {
            prepare_of(log, id, ++seqno * 10, key, (tw_bson){doc, sizeof doc});
        }
        commit(log);
        assert_int_equal(log_store_raise_floor(log, NOW_MS, KEPT_ROWS), TW_OK);
        const log_origin *origin = log_index_origin(log->index, id);
        assert_true(origin->samples_count < 3 * (GROUP_ROWS + KEPT_ROWS) / LOG_SAMPLE_EVERY);
        uint64_t floor = log_index_floor(log->index);
        uint64_t below = log_origin_row_below(origin, floor * 10 + 1);
        assert_true(below <= floor && below + (uint64_t)2 * LOG_SAMPLE_EVERY > floor);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_wal_starts_over_while_writes_read),
        T(test_rows_go_as_fast_as_they_come),
        T(test_sweep_of_many_chunks_keeps_the_newest),
        T(test_samples_of_an_origin_go_with_the_floor),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
