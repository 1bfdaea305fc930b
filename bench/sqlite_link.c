/* sqlite_link.c - see sqlite_link.h. */
#include "bench/sqlite_link.h"

#include <stdio.h>
#include <stdlib.h>

#include <sqlite3.h>

#include "protocol/base.h"

struct bare_log {
    sqlite3 *db; /* own */
    sqlite3_stmt *begin, *commit, *row_in;
    sqlite3_stmt *doc_in; /* NULL: no table of documents */
};

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "the bare loop: %s failed\n", what);
        exit(1);
    }
}

static sqlite3_stmt *prepared(sqlite3 *db, const char *text)
{
    sqlite3_stmt *out = NULL;
    must(sqlite3_prepare_v2(db, text, -1, &out, NULL) == SQLITE_OK, text);
    return out;
}

bare_log *bare_log_open(const char *directory, bool with_documents)
{
    static const char set_up[] =
        "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "PRAGMA wal_autocheckpoint=500; PRAGMA cache_size=-16384; PRAGMA mmap_size=0;"
        "PRAGMA secure_delete=OFF;"
        "CREATE TABLE log(n INTEGER PRIMARY KEY, coll INT NOT NULL, flags INT NOT NULL, ver INT NOT"
        " NULL, scope INT, lscope INT, prev INT NOT NULL, srv INT NOT NULL, seqno INT NOT NULL, key"
        " BLOB, body BLOB); CREATE TABLE doc(coll INT, key BLOB, ver INT, n INT, body BLOB,"
        " PRIMARY KEY(coll, key)) WITHOUT ROWID;";
    char path[256];
    bare_log *self = tw_alloc_zero(1, sizeof *self);
    must(self != NULL, "memory");
    tw_format(path, sizeof path, "%s/bare.db", directory);
    must(sqlite3_open(path, &self->db) == SQLITE_OK &&
             sqlite3_exec(self->db, set_up, NULL, NULL, NULL) == SQLITE_OK,
         "opening");
    self->begin = prepared(self->db, "BEGIN");
    self->commit = prepared(self->db, "COMMIT");
    self->row_in = prepared(self->db, "INSERT INTO log VALUES(?,1,9,1,0,0,?,1,?,?,?)");
    self->doc_in = with_documents ? prepared(self->db, "REPLACE INTO doc VALUES(1,?,1,?,?)") : NULL;
    return self;
}

static void step(sqlite3_stmt *statement)
{
    must(sqlite3_step(statement) == SQLITE_DONE, "a step");
    sqlite3_reset(statement);
}

void bare_log_begin(bare_log *self)
{
    step(self->begin);
}

void bare_log_add(bare_log *self, uint64_t n, uint64_t prev, const uint8_t *key, size_t key_len,
                  const uint8_t *body, size_t body_len)
{
    sqlite3_bind_int64(self->row_in, 1, (sqlite3_int64)n);
    sqlite3_bind_int64(self->row_in, 2, (sqlite3_int64)prev);
    sqlite3_bind_int64(self->row_in, 3, (sqlite3_int64)n);
    sqlite3_bind_blob(self->row_in, 4, key, (int)key_len, SQLITE_STATIC);
    sqlite3_bind_blob(self->row_in, 5, body, (int)body_len, SQLITE_STATIC);
    step(self->row_in);
    if (self->doc_in != NULL) {
        sqlite3_bind_blob(self->doc_in, 1, key, (int)key_len, SQLITE_STATIC);
        sqlite3_bind_int64(self->doc_in, 2, (sqlite3_int64)n);
        sqlite3_bind_blob(self->doc_in, 3, body, (int)body_len, SQLITE_STATIC);
        step(self->doc_in);
    }
}

void bare_log_commit(bare_log *self)
{
    step(self->commit);
}

void bare_log_close(bare_log **log)
{
    bare_log *self = *log;
    *log = NULL;
    sqlite3_finalize(self->begin);
    sqlite3_finalize(self->commit);
    sqlite3_finalize(self->row_in);
    sqlite3_finalize(self->doc_in);
    must(sqlite3_close(self->db) == SQLITE_OK, "closing");
    tw_free(self);
}
