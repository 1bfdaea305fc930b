/* log_table.c - see log_table.h; here the connection and the rows, in log_table_row.c what a row is
 * on disk, in log_table_beside.c the rest. What stands beside the rows has a column `sum` (NULL:
 * written before there was one). */
#include "actors/log/log_table.h"

#include <errno.h>

#include "actors/log/log_table_priv.h"

enum {
    PAGE_BYTES = 8192,
    CHECKPOINT_PAGES = 500, /* 4 MB: larger gave longer commits, smaller more of them (LOG.md 1) */
    CACHE_KIB = 16384,
    READER_CACHE_KIB = 4096,
    SCAN_GAP = 24,        /* rows that a scan steps over rather than seek anew */
    VERSION = 1,          /* of the tables */
    VERSION_LATER = 1000, /* a number above it is damage, which is repaired, and no version */
};

/* What is said of rows, for both forms (log_table_row.c). */
#define ROW_TEXTS(columns, marks)                                                                  \
    [SQL_INSERT] = "INSERT INTO log(" columns ", body) VALUES(" marks ",?)",                       \
    [SQL_READ] = "SELECT " columns ", body FROM log WHERE n = ?",                                  \
    [SQL_SCAN] = "SELECT " columns ", body FROM log WHERE n >= ? ORDER BY n",                      \
    [SQL_SCAN_HEAD] = "SELECT " columns " FROM log WHERE n >= ? AND n <= ? ORDER BY n",            \
    [SQL_LOAD] = "SELECT " columns ", CASE WHEN length(body) > 4096 THEN length(body)"             \
                 " ELSE body END FROM log ORDER BY n",                                             \
    [SQL_SALVAGE_UP] = "SELECT " columns ", body FROM log WHERE n >= ? ORDER BY n",                \
    [SQL_SALVAGE_DOWN] = "SELECT " columns ", body FROM log WHERE n > ? AND n < ? ORDER BY n DESC"

static const char *const texts_of_columns[SQL_COUNT] = {
    ROW_TEXTS("n, coll, flags, ver, scope, lscope, prev, srv, seqno, key", "?,?,?,?,?,?,?,?,?,?"),
};

static const char *const texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    ROW_TEXTS("n, head", "?,?"),
    [SQL_DELETE] = "DELETE FROM log WHERE n = ?",
    [SQL_INCARNATIONS] =
        "SELECT id, db, name, scope_field, dropped, base, sum FROM incarnation ORDER BY id",
    [SQL_INCARNATION_SAVE] =
        "REPLACE INTO incarnation(id, db, name, scope_field, dropped, base, sum)"
        " VALUES(?,?,?,?,?,?,?)",
    [SQL_INCARNATION_DELETE] = "DELETE FROM incarnation WHERE id = ?",
    [SQL_SCOPES] = "SELECT id, value, sum FROM scope ORDER BY id",
    [SQL_SCOPE_SAVE] = "REPLACE INTO scope(id, value, sum) VALUES(?,?,?)",
    [SQL_ORIGINS] =
        "SELECT id, srv, floor, floor_multi, token, applied, sum FROM origin ORDER BY id",
    [SQL_ORIGIN_SAVE] = "REPLACE INTO origin(id, srv, floor, floor_multi, token, applied, sum)"
                        " VALUES(?,?,?,?,?,?,?)",
    [SQL_MARKS] = "SELECT n, ts, bytes, sum FROM mark ORDER BY n",
    [SQL_MARK_SAVE] = "REPLACE INTO mark(n, ts, bytes, sum) VALUES(?,?,?,?)",
    [SQL_MARKS_FORGET] = "DELETE FROM mark WHERE n < ?",
    [SQL_NUMBER] = "SELECT v, sum FROM meta WHERE k = ?",
    [SQL_NUMBER_SAVE] = "REPLACE INTO meta(k, v, sum) VALUES(?,?,?)",
    [SQL_OPIDS] = "SELECT k, ts, body, sum FROM opids WHERE k >= ? AND k <= ? ORDER BY k",
    [SQL_OPIDS_SAVE] = "INSERT INTO opids(k, ts, body, sum) VALUES(?,?,?,?)",
    [SQL_OPIDS_FORGET] = "DELETE FROM opids WHERE k = ?",
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS log(n INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB);"
    "CREATE TABLE IF NOT EXISTS incarnation(id INTEGER PRIMARY KEY, db TEXT, name TEXT,"
    " scope_field TEXT, dropped INT NOT NULL DEFAULT 0, base INT NOT NULL DEFAULT 0);"
    "CREATE TABLE IF NOT EXISTS scope(id INTEGER PRIMARY KEY, value BLOB NOT NULL UNIQUE);"
    "CREATE TABLE IF NOT EXISTS origin(id INTEGER PRIMARY KEY, srv INT UNIQUE, floor INT,"
    " floor_multi INT, token BLOB, applied INT);"
    "CREATE TABLE IF NOT EXISTS mark(n INTEGER PRIMARY KEY, ts INT, bytes INT);"
    "CREATE TABLE IF NOT EXISTS meta(k TEXT PRIMARY KEY, v);"
    "CREATE TABLE IF NOT EXISTS opids(k INTEGER PRIMARY KEY, ts INT, body BLOB, sum INT);"
    "DROP TABLE IF EXISTS opid;"; /* an id a row, of earlier logs: forgotten */

/* Version 1: checksums beside the rows, and how many rows were swept. */
static const char schema_1[] =
    "ALTER TABLE incarnation ADD COLUMN sum INT; ALTER TABLE scope ADD COLUMN sum INT;"
    "ALTER TABLE origin ADD COLUMN sum INT; ALTER TABLE mark ADD COLUMN sum INT;"
    "ALTER TABLE meta ADD COLUMN sum INT;"
    "REPLACE INTO meta(k, v) SELECT 'swept', max(ifnull((SELECT max(n) FROM log), 0),"
    " ifnull((SELECT v FROM meta WHERE k = 'head'), 0),"
    " ifnull((SELECT v FROM meta WHERE k = 'floor'), 0)) - (SELECT count(*) FROM log);"
    "PRAGMA user_version = 1;";

/* ---- the connection ---- */

tw_err log_table_fail(log_table *table, int code)
{
    TW_ASSERT(table != NULL);
    int cause = sqlite3_system_errno(table->db);
    bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
    tw_format(table->why, sizeof table->why, "%s: %s", table->path, sqlite3_errmsg(table->db));
    switch (code & 0xff) {
    case SQLITE_FULL:
        return TW_E_DISK;
    case SQLITE_NOMEM:
        return TW_E_NO_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* "no such table": the first page was overwritten */
        return TW_E_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return TW_E_BUSY;
    default:
        return full ? TW_E_DISK : TW_E_INTERNAL;
    }
}

sqlite3_stmt *log_table_statement(log_table *table, log_sql which)
{
    TW_ASSERT(which < SQL_COUNT);
    bool is_other = table->has_columns && texts_of_columns[which] != NULL;
    const char *text = is_other ? texts_of_columns[which] : texts[which];
    if (table->prepared[which] == NULL &&
        sqlite3_prepare_v3(table->db, text, -1, SQLITE_PREPARE_PERSISTENT, &table->prepared[which],
                           NULL) != SQLITE_OK) {
        table->prepared[which] = NULL;
    }
    return table->prepared[which];
}

tw_err log_table_step(log_table *table, sqlite3_stmt *statement)
{
    if (statement == NULL) {
        return log_table_fail(table, sqlite3_errcode(table->db));
    }
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        return TW_OK;
    }
    tw_err err = code == SQLITE_DONE ? TW_E_END : log_table_fail(table, code);
    sqlite3_reset(statement);
    return err;
}

/* Runs a statement that gives no rows. */
static tw_err run(log_table *table, sqlite3_stmt *statement)
{
    tw_err err = log_table_step(table, statement);
    if (err == TW_OK) {
        sqlite3_reset(statement);
    }
    return err == TW_E_END ? TW_OK : err;
}

static int on_wal(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    log_table *table = context;
    table->wal_pages = pages;
    return SQLITE_OK;
}

static int on_version(void *context, int columns, char **values, char **names)
{
    (void)names;
    uint64_t *version = context;
    bool is_read = columns == 1 && values[0] != NULL &&
                   tw_parse_u64(tw_str_of(values[0]), INT32_MAX, version) == TW_OK;
    return is_read ? 0 : 1;
}

/* A file that a later program wrote is left as it is: what it means is not known here. */
static tw_err check_version(log_table *table)
{
    uint64_t version = 0;
    int code = sqlite3_exec(table->db, "PRAGMA user_version", on_version, &version, NULL);
    if (code != SQLITE_OK) {
        return log_table_fail(table, code);
    }
    if (version > VERSION && version <= VERSION_LATER) {
        tw_format(table->why, sizeof table->why,
                  "%s is of format %llu, of a later tidewire; this one knows formats up to %d",
                  table->path, (unsigned long long)version, VERSION);
        return TW_E_UNSUPPORTED;
    }
    return TW_OK;
}

static int create(sqlite3 *db)
{
    uint64_t version = 0;
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, schema, NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, "PRAGMA user_version", on_version, &version, NULL);
    }
    if (code == SQLITE_OK && version == 0) {
        code = sqlite3_exec(db, schema_1, NULL, NULL, NULL);
    }
    return code == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : code;
}

static tw_err set_up(log_table *table, log_table_use use)
{
    char pragmas[512];
    bool is_reader = !table->is_writer;
    if (is_reader) { /* first of all: also one that fails below must not checkpoint as it closes */
        sqlite3_db_config(table->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_busy_timeout(table->db, 1000);
    }
    tw_format(pragmas, sizeof pragmas,
              "%s%sPRAGMA synchronous=%s; PRAGMA cache_size=-%d; PRAGMA mmap_size=0;"
              "PRAGMA secure_delete=OFF; PRAGMA temp_store=MEMORY;%s",
              /* else SQLite refuses a file that is shorter than its header says */
              use == LOG_TABLE_SALVAGE ? "PRAGMA writable_schema=ON;" : "",
              is_reader ? "" : "PRAGMA page_size=8192; PRAGMA journal_mode=WAL;",
              use == LOG_TABLE_WRITER ? "FULL" : "OFF", is_reader ? READER_CACHE_KIB : CACHE_KIB,
              is_reader ? "PRAGMA query_only=ON;" : "");
    tw_err err = is_reader ? TW_OK : check_version(table); /* before anything is written */
    if (err != TW_OK) {
        return err;
    }
    int code = sqlite3_exec(table->db, pragmas, NULL, NULL, NULL);
    if (code == SQLITE_OK && !is_reader) {
        code = create(table->db);
    }
    if (code != SQLITE_OK) {
        return log_table_fail(table, code);
    }
    /* A file keeps the form with which it was created. */
    table->has_columns = sqlite3_table_column_metadata(table->db, NULL, "log", "coll", NULL, NULL,
                                                       NULL, NULL, NULL) == SQLITE_OK;
    if (!is_reader) {
        sqlite3_wal_hook(table->db, on_wal, table); /* in place of the automatic checkpoint */
    }
    return TW_OK;
}

void log_table_library_start(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* too late: it goes on counting */
}

tw_err log_table_open(log_table **out, const char *path, log_table_use use, char *why, size_t size)
{
    TW_ASSERT(out != NULL && path != NULL && why != NULL);
    *out = NULL;
    log_table *table = tw_alloc_zero(1, sizeof *table);
    if (table == NULL) {
        tw_format(why, size, "no memory");
        return TW_E_NO_MEMORY;
    }
    tw_format(table->path, sizeof table->path, "%s", path);
    tw_buf_init(&table->body, TW_DOCUMENT_MAX + 65536);
    tw_buf_init(&table->head, LOG_KEY_BYTES_MAX + 1024);
    table->is_writer = use == LOG_TABLE_WRITER || use == LOG_TABLE_VOLATILE;
    table->is_salvage = use == LOG_TABLE_SALVAGE;
    int flags =
        table->is_writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    int code = sqlite3_open_v2(path, &table->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    tw_err err = TW_E_NO_MEMORY;
    if (table->db != NULL) {
        sqlite3_extended_result_codes(table->db, 1);
        err = code == SQLITE_OK ? set_up(table, use) : log_table_fail(table, code);
    }
    if (err != TW_OK) {
        tw_format(why, size, "%s", table->why);
        log_table_close(&table);
        return err;
    }
    *out = table;
    return TW_OK;
}

void log_table_close(log_table **table)
{
    log_table *self = *table;
    *table = NULL;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(self->prepared[i]);
    }
    int code = sqlite3_close(self->db);
    TW_ASSERT(code == SQLITE_OK); /* every statement is finalized */
    tw_buf_fini(&self->body);
    tw_buf_fini(&self->head);
    tw_free(self);
}

const char *log_table_why(const log_table *table)
{
    return table->why;
}

void log_table_limit(log_table *table, uint64_t bytes_max)
{
    TW_ASSERT(table->is_writer);
    uint64_t pages = bytes_max == 0 ? INT32_MAX : bytes_max / PAGE_BYTES;
    char text[64];
    tw_format(text, sizeof text, "PRAGMA max_page_count=%llu",
              (unsigned long long)(pages > INT32_MAX ? INT32_MAX : pages));
    sqlite3_exec(table->db, text, NULL, NULL, NULL);
}

uint64_t log_table_bytes(log_table *table)
{
    uint64_t pages = 0;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(table->db, "PRAGMA page_count", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        pages = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return pages * PAGE_BYTES;
}

/* ---- transactions ---- */

tw_err log_table_hold(log_table *table)
{
    TW_ASSERT(table->is_writer);
    if (table->in_transaction || table->is_held) {
        return TW_OK;
    }
    tw_err err = run(table, log_table_statement(table, SQL_BEGIN));
    table->is_held = err == TW_OK;
    return err;
}

static tw_err let_go(log_table *table)
{
    if (!table->is_held) {
        return TW_OK;
    }
    table->is_held = false;
    log_table_scan_end(table);
    return run(table, log_table_statement(table, SQL_COMMIT));
}

tw_err log_table_begin(log_table *table)
{
    TW_ASSERT(!table->in_transaction);
    /* A look-up that still stands keeps a read transaction, and with it the WAL: that starts over
     * only in a transaction that finds all of it in the file, else it grows without end. */
    log_table_scan_end(table);
    tw_err err = table->is_held ? TW_OK : run(table, log_table_statement(table, SQL_BEGIN));
    table->is_held = false;
    table->in_transaction = err == TW_OK;
    return err;
}

tw_err log_table_commit(log_table *table)
{
    TW_ASSERT(table->in_transaction);
    tw_err err = run(table, log_table_statement(table, SQL_COMMIT));
    if (err != TW_OK) {
        log_table_rollback(table);
    }
    table->in_transaction = false;
    return err;
}

void log_table_rollback(log_table *table)
{
    log_table_scan_end(table);
    if (table->in_transaction && sqlite3_get_autocommit(table->db) == 0) {
        char why[sizeof table->why];
        memcpy(why, table->why, sizeof why);
        (void)run(table,
                  log_table_statement(table, SQL_ROLLBACK)); /* nothing to be done about it */
        memcpy(table->why, why, sizeof why);
    }
    table->in_transaction = false;
}

tw_err log_table_checkpoint(log_table *table, bool now)
{
    TW_ASSERT(table->is_writer && !table->in_transaction);
    tw_err err = let_go(table);
    if (err != TW_OK) {
        return err;
    }
    if (table->wal_pages < CHECKPOINT_PAGES && !now) {
        return TW_OK;
    }
    table->wal_pages = 0;
    int mode = now ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int code = sqlite3_wal_checkpoint_v2(table->db, NULL, mode, NULL, NULL);
    bool later = (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED;
    return code == SQLITE_OK || later ? TW_OK : log_table_fail(table, code);
}

/* ---- rows ---- */

tw_err log_table_insert(log_table *table, const log_row *row)
{
    TW_ASSERT(table->in_transaction && row->n > 0 && row->n <= TW_SEQNO_MAX);
    sqlite3_stmt *to = log_table_statement(table, SQL_INSERT);
    if (to == NULL) {
        return log_table_fail(table, sqlite3_errcode(table->db));
    }
    tw_err err = log_table_bind_row(table, to, row);
    return err == TW_OK ? run(table, to) : err;
}

tw_err log_table_delete(log_table *table, uint64_t n)
{
    TW_ASSERT(table->in_transaction);
    sqlite3_stmt *statement = log_table_statement(table, SQL_DELETE);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)n);
    return run(table, statement);
}

tw_err log_table_read(log_table *table, uint64_t n, log_row *out)
{
    sqlite3_stmt *from = log_table_statement(table, SQL_READ);
    if (from == NULL) {
        return log_table_fail(table, sqlite3_errcode(table->db));
    }
    sqlite3_reset(from); /* of the read before, whose views lived until now */
    sqlite3_bind_int64(from, 1, (sqlite3_int64)n);
    tw_err err = log_table_step(table, from);
    if (err != TW_OK) {
        return err == TW_E_END ? TW_E_NOT_FOUND : err;
    }
    return log_table_row(table, from, n, true, out);
}

/* Goes on where the last call stood when n is near, and seeks otherwise: a page of a whole
 * collection is one scan, a page of a few scattered rows is a few look-ups. */
tw_err log_table_scan(log_table *table, uint64_t n, log_row *out)
{
    TW_ASSERT(n > 0);
    sqlite3_stmt *from = log_table_statement(table, SQL_SCAN);
    if (table->scan_next == 0 || n < table->scan_next || n - table->scan_next > SCAN_GAP) {
        sqlite3_reset(from);
        sqlite3_bind_int64(from, 1, (sqlite3_int64)n);
    }
    for (;;) {
        tw_err err = log_table_step(table, from);
        if (err != TW_OK) {
            table->scan_next = 0;
            return err;
        }
        uint64_t at = (uint64_t)sqlite3_column_int64(from, 0);
        table->scan_next = at + 1;
        if (at >= n) {
            return log_table_row(table, from, at, true, out);
        }
    }
}

tw_err log_table_scan_head(log_table *table, uint64_t n, uint64_t upto, log_row *out)
{
    sqlite3_stmt *from = log_table_statement(table, SQL_SCAN_HEAD);
    if (n != 0) { /* a new scan; 0: the one under way goes on */
        sqlite3_reset(from);
        sqlite3_bind_int64(from, 1, (sqlite3_int64)n);
        sqlite3_bind_int64(from, 2, (sqlite3_int64)upto);
    }
    tw_err err = log_table_step(table, from);
    return err != TW_OK
               ? err
               : log_table_row(table, from, (uint64_t)sqlite3_column_int64(from, 0), false, out);
}

void log_table_scan_end(log_table *table)
{
    static const log_sql reads[] = {SQL_READ, SQL_SCAN, SQL_SCAN_HEAD};
    for (size_t i = 0; i < TW_COUNT(reads); i++) {
        if (table->prepared[reads[i]] != NULL) {
            sqlite3_reset(table->prepared[reads[i]]);
        }
    }
    table->scan_next = 0;
}

tw_err log_table_load(log_table *table, log_table_each each, void *context)
{
    sqlite3_stmt *from = log_table_statement(table, SQL_LOAD);
    tw_err err;
    while ((err = log_table_step(table, from)) == TW_OK) {
        log_row row;
        err = log_table_load_row(table, from, &row);
        if (err == TW_OK) {
            err = each(context, &row);
        }
        if (err != TW_OK) {
            sqlite3_reset(from);
            return err;
        }
    }
    return err == TW_E_END ? TW_OK : err;
}
