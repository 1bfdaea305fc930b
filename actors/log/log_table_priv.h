/* log_table_priv.h - for log_table.c and log_table_<part>.c alone. */
#pragma once

#include <sqlite3.h>

#include "actors/log/log_table.h"

typedef enum log_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_INSERT,
    SQL_DELETE,
    SQL_READ,
    SQL_SCAN,
    SQL_SCAN_HEAD,
    SQL_LOAD,
    SQL_INCARNATIONS,
    SQL_INCARNATION_SAVE,
    SQL_INCARNATION_DELETE,
    SQL_SCOPES,
    SQL_SCOPE_SAVE,
    SQL_ORIGINS,
    SQL_ORIGIN_SAVE,
    SQL_MARKS,
    SQL_MARK_SAVE,
    SQL_MARKS_FORGET,
    SQL_NUMBER,
    SQL_NUMBER_SAVE,
    SQL_OPIDS,
    SQL_OPIDS_SAVE,
    SQL_OPIDS_FORGET,
    SQL_SALVAGE_UP,
    SQL_SALVAGE_DOWN,
    SQL_COUNT
} log_sql;

struct log_table {
    sqlite3 *db;                       /* own */
    sqlite3_stmt *prepared[SQL_COUNT]; /* own; made when first needed */
    bool is_writer;
    bool is_salvage;  /* what is damaged beside the rows is left out */
    bool has_columns; /* rows are of the form before the packed one */
    bool in_transaction;
    bool is_held;       /* a transaction that only read so far; the next to write goes on in it */
    int wal_pages;      /* pages in the write-ahead log after the last commit */
    uint64_t scan_next; /* where SQL_SCAN stands; 0: nowhere */
    tw_buf body;        /* of the row being written */
    tw_buf head;        /* the same, where rows are packed */
    char path[4096];
    char why[512];
};

sqlite3_stmt *log_table_statement(log_table *table, log_sql which); /* NULL: why is set */
tw_err log_table_fail(log_table *table, int code); /* maps a result of SQLite's, sets why */
tw_err log_table_step(log_table *table, sqlite3_stmt *statement); /* OK: a row; END: none */
/* Binds a row to SQL_INSERT; what is bound lives in table until the next. */
tw_err log_table_bind_row(log_table *table, sqlite3_stmt *to, const log_row *row);
/* The row that a statement stands on, whose number is n. checked: with its body, whose checksum is
 * held against all. TW_E_CORRUPT: it is damaged; out then has its number at least. */
tw_err log_table_row(log_table *table, sqlite3_stmt *from, uint64_t n, bool checked, log_row *out);
/* The same for SQL_LOAD, which gives the length alone of a long body. */
tw_err log_table_load_row(log_table *table, sqlite3_stmt *from, log_row *out);
