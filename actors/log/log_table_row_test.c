/* log_table_row_test.c - rows come back as they were written, in files of both forms, and a flipped
 * bit of any column is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/log/log_table_priv.h"

enum { ROWS = 12, LONG_BYTES = 6000 };

static const char old_schema[] =
    "CREATE TABLE log(n INTEGER PRIMARY KEY, coll INT NOT NULL, flags INT NOT NULL,"
    " ver INT NOT NULL, scope INT, lscope INT, prev INT NOT NULL, srv INT NOT NULL,"
    " seqno INT NOT NULL, key BLOB, body BLOB)";

typedef struct place {
    char directory[40];
    char path[96];
    log_table *table;
} place;

static uint8_t document[LONG_BYTES];

static void open_table(place *self)
{
    char why[512];
    assert_int_equal(log_table_open(&self->table, self->path, LOG_TABLE_WRITER, why, sizeof why),
                     TW_OK);
}

static void place_init(place *self, bool has_columns)
{
    tw_format(self->directory, sizeof self->directory, "./log_table_row_test_XXXXXX");
    assert_non_null(mkdtemp(self->directory));
    tw_format(self->path, sizeof self->path, "%s/log.db", self->directory);
    if (has_columns) {
        sqlite3 *db;
        assert_int_equal(sqlite3_open(self->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, old_schema, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
    }
    open_table(self);
    assert_int_equal(self->table->has_columns, has_columns);
}

static void place_fini(place *self)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    log_table_close(&self->table);
    for (size_t i = 0; i < TW_COUNT(ends); i++) {
        char path[128];
        tw_format(path, sizeof path, "%s%s", self->path, ends[i]);
        unlink(path);
    }
    rmdir(self->directory);
}

/* Each field small and at its largest in turn; every third body is long, the last row is a drop. */
static log_row row_of(uint64_t n)
{
    static const uint8_t key[9] = {0x12, 1, 2, 3, 4, 5, 6, 7, 8};
    bool is_large = n % 2 == 0;
    log_row row = {.n = n * 10,
                   .coll = is_large ? UINT32_MAX : 1,
                   .flags = TW_ROW_PUT | TW_ROW_LAST,
                   .ver = is_large ? INT64_MAX : (int64_t)n,
                   .scope = is_large ? UINT32_MAX : 0,
                   .lscope = is_large ? 1 << 20 : 0,
                   .prev = is_large ? TW_SEQNO_MAX : n - 1,
                   .origin = is_large ? 128 : LOG_ORIGIN_OWN,
                   .seqno = is_large ? TW_SEQNO_MAX : n,
                   .key = {key, sizeof key},
                   .doc = {document, n % 3 == 0 ? LONG_BYTES : 40 + n},
                   .by = n % 4 == 0 ? TW_STR("somebody") : TW_STR(""),
                   .time_ms = 1700000000000 + n};
    if (n == ROWS) {
        row.flags = TW_ROW_DROP;
        row.key = (tw_key){NULL, 0};
        row.doc = (tw_bson){NULL, 0};
    }
    return row;
}

static void write_rows(place *self)
{
    assert_int_equal(log_table_begin(self->table), TW_OK);
    for (uint64_t n = 1; n <= ROWS; n++) {
        log_row row = row_of(n);
        assert_int_equal(log_table_insert(self->table, &row), TW_OK);
    }
    assert_int_equal(log_table_commit(self->table), TW_OK);
}

static void check_head(const log_row *got, const log_row *wanted)
{
    assert_int_equal(got->n, wanted->n);
    assert_int_equal(got->coll, wanted->coll);
    assert_int_equal(got->flags, wanted->flags);
    assert_int_equal(got->ver, wanted->ver);
    assert_int_equal(got->scope, wanted->scope);
    assert_int_equal(got->lscope, wanted->lscope);
    assert_int_equal(got->prev, wanted->prev);
    assert_int_equal(got->origin, wanted->origin);
    assert_int_equal(got->seqno, wanted->seqno);
    assert_int_equal(got->key.len, wanted->key.len);
    if (wanted->key.len > 0) {
        assert_memory_equal(got->key.ptr, wanted->key.ptr, wanted->key.len);
    }
}

static void check_row(const log_row *got, const log_row *wanted)
{
    check_head(got, wanted);
    assert_int_equal(got->doc.len, wanted->doc.len);
    if (wanted->doc.len > 0) {
        assert_memory_equal(got->doc.ptr, wanted->doc.ptr, wanted->doc.len);
    }
    assert_true(tw_str_equal(got->by, wanted->by));
    assert_int_equal(got->time_ms, wanted->time_ms);
}

static tw_err take_loaded(void *context, const log_row *row)
{
    uint64_t *n = context;
    log_row wanted = row_of(++*n);
    check_head(row, &wanted);
    return TW_OK;
}

static tw_err take_salvaged(void *context, const log_row *row)
{
    uint64_t *n = context;
    log_row wanted = row_of(++*n);
    check_row(row, &wanted);
    return TW_OK;
}

static void check_all(place *self)
{
    for (uint64_t n = 1; n <= ROWS; n++) {
        log_row row;
        log_row wanted = row_of(n);
        assert_int_equal(log_table_read(self->table, wanted.n, &row), TW_OK);
        check_row(&row, &wanted);
        assert_int_equal(log_table_scan(self->table, wanted.n - 3, &row), TW_OK);
        check_row(&row, &wanted);
        assert_int_equal(log_table_scan_head(self->table, n == 1, 1000, &row), TW_OK);
        check_head(&row, &wanted);
    }
    log_table_scan_end(self->table);
    uint64_t loaded = 0;
    assert_int_equal(log_table_load(self->table, take_loaded, &loaded), TW_OK);
    assert_int_equal(loaded, ROWS);
    uint64_t salvaged = 0, bad = 0;
    assert_int_equal(log_table_salvage(self->table, take_salvaged, &salvaged, &bad), TW_OK);
    assert_int_equal(salvaged, ROWS);
    assert_int_equal(bad, 0);
}

static void write_and_read(bool has_columns)
{
    place self;
    place_init(&self, has_columns);
    write_rows(&self);
    check_all(&self);
    log_table_close(&self.table);
    open_table(&self);
    assert_int_equal(self.table->has_columns, has_columns); /* a file keeps its form */
    check_all(&self);
    place_fini(&self);
}

static void test_rows_packed_come_back(void **state)
{
    (void)state;
    write_and_read(false);
}

static void test_rows_in_columns_come_back(void **state)
{
    (void)state;
    write_and_read(true);
}

static void put_head_of(place *self, uint64_t n, const uint8_t *head, size_t len)
{
    sqlite3_stmt *update;
    assert_int_equal(sqlite3_prepare_v2(self->table->db, "UPDATE log SET head = ? WHERE n = ?", -1,
                                        &update, NULL),
                     SQLITE_OK);
    sqlite3_bind_blob(update, 1, len == 0 ? (const void *)"" : head, (int)len, SQLITE_STATIC);
    sqlite3_bind_int64(update, 2, (sqlite3_int64)n);
    assert_int_equal(sqlite3_step(update), SQLITE_DONE);
    sqlite3_finalize(update);
}

static tw_err take_any(void *context, const log_row *row)
{
    (void)context;
    (void)row;
    return TW_OK;
}

/* The head as it stands in the file. */
static size_t head_of(place *self, uint64_t n, uint8_t *out, size_t size)
{
    sqlite3_stmt *ask;
    assert_int_equal(
        sqlite3_prepare_v2(self->table->db, "SELECT head FROM log WHERE n = ?", -1, &ask, NULL),
        SQLITE_OK);
    sqlite3_bind_int64(ask, 1, (sqlite3_int64)n);
    assert_int_equal(sqlite3_step(ask), SQLITE_ROW);
    size_t len = (size_t)sqlite3_column_bytes(ask, 0);
    assert_in_range(len, 1, size);
    memcpy(out, sqlite3_column_blob(ask, 0), len);
    sqlite3_finalize(ask);
    return len;
}

static void test_a_damaged_head_is_seen(void **state)
{
    (void)state;
    place self;
    log_row row;
    place_init(&self, false);
    write_rows(&self);
    assert_int_equal(log_table_begin(self.table), TW_OK); /* thousands of updates, not synced */
    for (uint64_t n = 10; n <= 10 * ROWS; n += 10) {
        uint8_t sound[256], bad[256];
        size_t len = head_of(&self, n, sound, sizeof sound);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            memcpy(bad, sound, len);
            bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
            put_head_of(&self, n, bad, len);
            assert_int_equal(log_table_read(self.table, n, &row), TW_E_CORRUPT);
            log_table_scan_end(self.table);
            assert_int_equal(log_table_load(self.table, take_any, NULL), TW_E_CORRUPT);
        }
        for (size_t cut = 0; cut < len; cut++) {
            put_head_of(&self, n, sound, cut);
            assert_int_equal(log_table_read(self.table, n, &row), TW_E_CORRUPT);
            log_table_scan_end(self.table);
        }
        put_head_of(&self, n, sound, len);
        assert_int_equal(log_table_read(self.table, n, &row), TW_OK);
        log_table_scan_end(self.table);
    }
    log_table_rollback(self.table);
    place_fini(&self);
}

/* Held reads stand in one transaction, which a write takes over and a checkpoint ends. */
static void test_held_reads_are_of_one_transaction(void **state)
{
    (void)state;
    place self;
    log_row row;
    place_init(&self, false);
    write_rows(&self);
    sqlite3 *db = self.table->db;
    assert_int_equal(log_table_read(self.table, 10, &row), TW_OK);
    log_table_scan_end(self.table);
    assert_int_equal(sqlite3_txn_state(db, NULL), SQLITE_TXN_NONE);
    assert_int_equal(log_table_hold(self.table), TW_OK);
    assert_int_equal(log_table_hold(self.table), TW_OK);
    assert_int_equal(log_table_read(self.table, 10, &row), TW_OK);
    log_table_scan_end(self.table);
    assert_int_equal(sqlite3_txn_state(db, NULL), SQLITE_TXN_READ);
    assert_int_equal(log_table_begin(self.table), TW_OK);
    assert_int_equal(log_table_delete(self.table, 10), TW_OK);
    assert_int_equal(sqlite3_txn_state(db, NULL), SQLITE_TXN_WRITE);
    assert_int_equal(log_table_commit(self.table), TW_OK);
    assert_int_equal(sqlite3_txn_state(db, NULL), SQLITE_TXN_NONE);
    assert_int_equal(log_table_read(self.table, 10, &row), TW_E_NOT_FOUND);
    assert_int_equal(log_table_hold(self.table), TW_OK);
    assert_int_equal(log_table_read(self.table, 20, &row), TW_OK);
    assert_int_equal(log_table_checkpoint(self.table, false), TW_OK);
    assert_int_equal(sqlite3_txn_state(db, NULL), SQLITE_TXN_NONE);
    assert_int_equal(log_table_hold(self.table), TW_OK);
    place_fini(&self); /* closes while it is held */
}

int main(void)
{
    for (size_t i = 0; i < sizeof document; i++) {
        document[i] = (uint8_t)(i * 7);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_packed_come_back),
        cmocka_unit_test(test_rows_in_columns_come_back),
        cmocka_unit_test(test_a_damaged_head_is_seen),
        cmocka_unit_test(test_held_reads_are_of_one_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
