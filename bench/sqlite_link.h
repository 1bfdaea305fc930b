/* sqlite_link.h - what the log is measured against: a bare loop that inserts the same rows in the
 * same batches into SQLite with the same pragmas, and the usual two tables. No message, look-up,
 * index, check, answer or sweep. A failure ends the program, with a word about it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bare_log bare_log;

/* directory  where its file is made
 * with_documents  also a second table of current documents: the usual two tables */
bare_log *bare_log_open(const char *directory, bool with_documents);
void bare_log_begin(bare_log *log);
/* n: the row's number, from 1; prev: of the row that it replaces. key and body: borrow. */
void bare_log_add(bare_log *log, uint64_t n, uint64_t prev, const uint8_t *key, size_t key_len,
                  const uint8_t *body, size_t body_len);
void bare_log_commit(bare_log *log); /* on disk when it returns */
void bare_log_close(bare_log **log);
