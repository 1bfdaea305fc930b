/* log_table.h - the log on disk: one SQLite connection, and all that is said to it.
 *
 * The writer's connection creates the schema, writes and checkpoints; nobody else ever checkpoints
 * (SQLite 3.7.0-3.51.2 has a race that needs two). Readers have connections of their own. Views in
 * a log_row that was read live until the next call on the same table.
 * Errors    TW_E_DISK (no room; the transaction is rolled back), TW_E_CORRUPT (log_table_why names
 *           file and row), TW_E_NO_MEMORY, TW_E_BUSY (another process), TW_E_INTERNAL (I/O failed:
 *           the table must be closed and opened again) */
#pragma once

#include "protocol/arena.h"

#include "actors/log/log_row.h"

typedef struct log_table log_table;

typedef enum log_table_use {
    LOG_TABLE_WRITER,
    LOG_TABLE_VOLATILE, /* a writer that does not sync */
    LOG_TABLE_READER,
    LOG_TABLE_SALVAGE, /* a reader of a damaged file, a cut one too */
} log_table_use;

/* Once, before the first table is opened: else SQLite counts its memory, which nobody reads, under
 * one lock for all threads. */
void log_table_library_start(void);
/* Opens and, for writers, creates. On an error *out is NULL
 * and why (size bytes) says what is wrong. Thread: the one that then uses it; blocks. */
tw_err log_table_open(log_table **out, const char *path, log_table_use use, char *why, size_t size);
void log_table_close(log_table **table);
const char *log_table_why(const log_table *table);          /* of the last error */
void log_table_limit(log_table *table, uint64_t bytes_max); /* the file's; 0: none */
uint64_t log_table_bytes(log_table *table);

/* Reads from here on stand in one transaction, which the next begin takes over and the next
 * checkpoint ends: without it each locks and unlocks the file. For the writer. */
tw_err log_table_hold(log_table *table);
tw_err log_table_begin(log_table *table);
tw_err log_table_commit(log_table *table); /* on an error it is rolled back */
void log_table_rollback(log_table *table);
/* Moves what was committed from the write-ahead log to the file when 4 MB are due. */
tw_err log_table_checkpoint(log_table *table, bool now);

/* ---- rows ---- */
tw_err log_table_insert(log_table *table, const log_row *row);
tw_err log_table_delete(log_table *table, uint64_t n);
/* One row by number; TW_E_NOT_FOUND. */
tw_err log_table_read(log_table *table, uint64_t n, log_row *out);
/* The first row at or above n, in a scan that goes on cheaply; TW_E_END: none. scan_head gives
 * numbers and key only, of rows up to upto, and goes on where n is 0. scan_end ends them (before
 * COMMIT). */
tw_err log_table_scan(log_table *table, uint64_t n, log_row *out);
tw_err log_table_scan_head(log_table *table, uint64_t n, uint64_t upto, log_row *out);
void log_table_scan_end(log_table *table);
/* All rows in order, for the start: rows with short bodies are wholly checked; of those with long
 * ones all but the body, which is left for when it is read. */
typedef tw_err (*log_table_each)(void *context, const log_row *row);
tw_err log_table_load(log_table *table, log_table_each each, void *context);

/* ---- what stands beside the rows: each with a checksum; one that does not fit is TW_E_CORRUPT, or
 * left out where the table was opened to salvage ---- */
typedef struct log_table_incarnation {
    uint32_t id;
    tw_str db, name, scope_field;
    uint64_t dropped;
    int64_t ver_base;
} log_table_incarnation;
typedef struct log_table_origin {
    uint32_t id;
    uint64_t srv, floor;
    bool floor_multi;
    tw_str token; /* where its source goes on; opaque */
    uint64_t applied_ms;
} log_table_origin;
typedef struct log_mark {
    uint64_t n;
    uint64_t time_ms;
    uint64_t bytes; /* of versions that were superseded up to n, since the log began */
} log_mark;

tw_err log_table_incarnations(log_table *table, void *context,
                              tw_err (*each)(void *, const log_table_incarnation *));
tw_err log_table_save_incarnation(log_table *table, const log_table_incarnation *incarnation);
tw_err log_table_delete_incarnation(log_table *table, uint32_t id);
tw_err log_table_scopes(log_table *table, void *context,
                        tw_err (*each)(void *, uint32_t code, tw_key value));
tw_err log_table_save_scope(log_table *table, uint32_t code, tw_key value);
tw_err log_table_origins(log_table *table, void *context,
                         tw_err (*each)(void *, const log_table_origin *));
tw_err log_table_save_origin(log_table *table, const log_table_origin *origin);
tw_err log_table_marks(log_table *table, void *context, tw_err (*each)(void *, const log_mark *));
tw_err log_table_save_mark(log_table *table, const log_mark *mark);
tw_err log_table_forget_marks(log_table *table, uint64_t below);
tw_err log_table_number(log_table *table, const char *name, uint64_t *out); /* 0 when absent */
tw_err log_table_save_number(log_table *table, const char *name, uint64_t value);

/* ---- operation ids: what one did; packed into groups (log_opids.h) ---- */
typedef struct log_opid {
    tw_str id;
    tw_key key;
    int64_t version;
    uint64_t seqno;
    uint64_t count;
} log_opid;
/* The groups of ids that are stored, in order; body is a view for the call. */
tw_err log_table_opids(log_table *table, uint64_t from, uint64_t upto,
                       tw_err (*each)(void *, uint64_t group, uint64_t time_ms, tw_str body),
                       void *context);
tw_err log_table_save_opids(log_table *table, uint64_t group, uint64_t time_ms, tw_str body);
tw_err log_table_forget_opids(log_table *table, uint64_t group);

/* ---- damage ---- */
/* Reads what can still be read of a damaged file, row by row, each once and wholly checked, in no
 * order; *bad counts what was skipped. The file is not changed. */
tw_err log_table_salvage(log_table *table, log_table_each each, void *context, uint64_t *bad);
