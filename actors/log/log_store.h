/* log_store.h - the log: one writer, readers in other threads of the same process.
 *
 * The handle is made by main and given to the store, which opens it, and to the log_readers. The
 * writer prepares rows (nothing is seen of them), commits them all in one transaction, and then
 * makes them seen under the lock. Readers take the lock only to look into the index.
 *
 * Invariants
 * 1. What the index shows is committed. What was refused or failed leaves no trace but unused
 * names.
 * 2. n counts without holes and is never given twice; head never falls.
 * 3. floor <= head; a cursor below the floor is refused before anything it needs is swept. */
#pragma once

#include <stdatomic.h>

#include "actors/runtime/shared.h"

#include "actors/log/log_index.h"
#include "actors/log/log_row.h"
#include "actors/log/log_table.h"

typedef struct log_store log_store;

typedef struct log_store_options {
    const char *directory;     /* borrow; exists, or its parent does */
    bool memory;               /* in a directory of its own, without syncs, removed at the end */
    uint64_t srv_id;           /* of a log that is created now; 0: drawn at random */
    uint64_t age_ms;           /* superseded rows are kept so long; 0: TW_LOG_AGE_S */
    uint64_t superseded_bytes; /* and at most so many bytes; 0: TW_LOG_SUPERSEDED_BYTES */
    uint64_t bytes_max;        /* of the file; 0: as the disk allows */
    bool is_image;             /* of a foreign source: not whole before the first copy is */
} log_store_options;

/* Thread: main's. */
tw_err log_store_new(log_store **out);
void log_store_free(log_store **store); /* closed by then; removes a memory log's directory */

/* ---- the writer: all functions below on the store's thread; those that touch the disk block ----
 * */

/* Opens or creates the log and loads its index. A damaged log is set aside under another name and
 * rebuilt from its good rows under a new srv_id; one that was copied or restored gets a new srv_id.
 * why (size bytes): what is wrong, and on success what was done about it ("" = nothing).
 * Errors  TW_E_BUSY (another process holds it: its pid is told), TW_E_DISK, TW_E_INTERNAL */
tw_err log_store_open(log_store *store, const log_store_options *options, uint64_t unix_ms,
                      char *why, size_t size);
void log_store_close(log_store *store); /* what is prepared is forgotten */
bool log_store_is_open(const log_store *store);

/* The newest row of a key, prepared rows included. */
typedef struct log_current {
    uint64_t n;  /* 0: the key is unknown */
    int64_t ver; /* of the tombstone too; of an unknown key: what its first version goes on from */
    uint32_t scope;
    bool deleted;
} log_current;
/* The living incarnation of a collection, made when create is set. TW_E_NOT_FOUND, TW_E_TOO_MANY.
 * */
tw_err log_store_collection(log_store *store, tw_str db, tw_str name, tw_str scope_field,
                            bool create, uint32_t *coll);
log_current log_store_current(log_store *store, uint32_t coll, tw_key key);
/* The document of a row, prepared or stored: a view until log_store_clear, or a copy in arena. */
tw_err log_store_document(log_store *store, tw_arena *arena, uint64_t n, tw_bson *out);
/* The code of a scope's value, made when it is new. */
tw_err log_store_scope(log_store *store, tw_key value, uint32_t *code);

/* A prepared row: what it points to must live until log_store_clear. */
typedef struct log_pending {
    log_row row;
    tw_bson old;      /* document of row.prev; len 0: none */
    bool old_silent;  /* row.prev was not told to streams (TW_ROW_SILENT) */
    uint32_t shadows; /* index + 1 of the prepared row of the same key before */
} log_pending;
/* Prepares a row: n, and seqno for the own origin, are given here; prev and lscope are the
 * caller's. A drop (key empty) closes its incarnation. TW_E_BUSY: commit first. */
tw_err log_store_prepare(log_store *store, const log_row *row, tw_bson old);
size_t log_store_prepared(const log_store *store);
const log_pending *log_store_prepared_at(const log_store *store, size_t i);
/* Forgets the prepared rows from the count-th on: a refused transaction. */
void log_store_undo(log_store *store, size_t count);
/* Marks the rows from the count-th on as one transaction. */
void log_store_seal(log_store *store, size_t count);
/* Prepared opids and the state of a foreign origin's source go with the next commit. */
tw_err log_store_remember(log_store *store, const log_opid *opid);
size_t log_store_remembered(const log_store *store); /* for undoing */
void log_store_forget(log_store *store, size_t count);
/* An id that is looked up soon: what finds it is fetched from memory meanwhile. */
void log_store_expect_opid(const log_store *store, tw_str id);
const log_opid *log_store_find_opid(log_store *store, tw_arena *arena, tw_str id, tw_err *err);

/* Foreign origins: makes one known. TW_E_TOO_MANY. */
tw_err log_store_origin(log_store *store, uint64_t srv, uint32_t *id);
/* How far the log is with the source of a foreign origin. */
typedef struct log_source {
    uint32_t origin;
    uint64_t number;     /* of the append that said so */
    uint64_t at;         /* position: all changes up to here are in the log */
    uint64_t applied_ms; /* when the newest of them happened */
    bool whole;          /* the log is, or was, a complete image of the source */
    tw_str state;        /* where the source goes on; opaque */
} log_source;
/* Prepares it (state: view until the commit); the last one before a commit counts. at raises the
 * origin's position. The first that is whole raises the floor to the head that it makes, and the
 * origin's to at: what was deleted before was never in this log. */
void log_store_source(log_store *store, const log_source *source);
bool log_store_has_source(const log_store *store);
bool log_store_source_is_whole(const log_store *store); /* what is prepared says so */
void log_store_forget_source(log_store *store);         /* of a refused commit */
/* What the last commit stored; state is copied into arena. TW_E_NOT_FOUND: none. */
tw_err log_store_source_of(log_store *store, tw_arena *arena, uint32_t origin, log_source *out);

/* Commits all that is prepared. On success the rows stay readable by prepared_at until clear. On an
 * error nothing of it was done, and it is still prepared: undo it. TW_E_DISK: may be tried again;
 * TW_E_INTERNAL, TW_E_NO_MEMORY, TW_E_CORRUPT: close and open again. */
tw_err log_store_commit(log_store *store, uint64_t unix_ms);
void log_store_clear(log_store *store);
/* Housekeeping between commits; *more: there is more of it to do now. */
tw_err log_store_checkpoint(log_store *store);
/* Raises the floor as age and size allow, and to head - keep_rows at least (UINT64_MAX: as they
 * allow). */
tw_err log_store_raise_floor(log_store *store, uint64_t unix_ms, uint64_t keep_rows);
/* may_sweep: in a transaction of its own; else sweeping is left to the next commits, which sweep
 * twice what they write. */
tw_err log_store_step(log_store *store, bool may_sweep, bool *more);
/* Writes what tells a restored copy from this log; forgets old opids. Once a second. */
tw_err log_store_tick(log_store *store, uint64_t unix_ms);
const char *log_store_why(const log_store *store); /* of the last error */

/* ---- both ---- */
tw_rwlock *log_store_lock(log_store *store);
/* Under the lock: NULL when closed. Readers only read. */
log_index *log_store_index(log_store *store);
uint64_t log_store_generation(const log_store *store); /* under the lock; grows with each opening */
const char *log_store_path(const log_store *store);    /* under the lock; of the database */
/* Whether readers may rely on it: false while it is to be the image of a source and was never
 * complete. Any thread. */
bool log_store_is_whole(const log_store *store);
bool log_store_sweeping(const log_store *store,
                        uint64_t n); /* under the lock: n is being deleted */
/* Tells the writer that a stored row was found damaged; any thread. */
void log_store_report_damage(log_store *store);
bool log_store_is_damaged(const log_store *store);
uint64_t log_store_bytes(log_store *store); /* writer */
