/* log_store_priv.h - for log_store.c and log_store_<part>.c alone. */
#pragma once

#include "actors/log/log_guard.h"
#include "actors/log/log_opids.h"
#include "actors/log/log_ring.h"
#include "actors/log/log_store.h"

enum {
    LOG_STORE_MAGIC = 0x10657042,
    LOG_PREPARED_MAX = 2 * TW_BATCH_ROWS_MAX, /* a full batch, and a drop of all collections */
    LOG_OVERLAY_SLOTS = 4 * LOG_PREPARED_MAX,
    LOG_OVERLAY_SLOTS_FIRST = 1024, /* 4 KiB: what few rows touch stays in the nearest cache */
    LOG_MARK_MS = 1000,
    LOG_MARK_ROWS = 4096,
    LOG_OPID_CHAINS = 2 * LOG_PREPARED_MAX,  /* a power of two */
    LOG_OPID_GROUPS_GONE = LOG_PREPARED_MAX, /* forgotten in one transaction: an id each */
    LOG_OPID_GROUP_BYTES = 67108864,         /* of a full commit whose ids and keys are long */
    LOG_FLOOR_ROWS = 512,                    /* rows below the floor that are looked at in one go */
    LOG_SWEEP_CHUNKS = 32, /* swept in one transaction at most: some 8 ms of deletes */
    LOG_SWEEP_ROWS = 64,  /* swept by a commit beside twice what it writes, where so much is dead */
    LOG_STEP_ROWS = 1024, /* swept by a transaction of its own: a millisecond */
};

static_assert((LOG_OPID_CHAINS & (LOG_OPID_CHAINS - 1)) == 0, "a mask picks the chain");

typedef struct log_pending_opid {
    log_opid opid;
    uint32_t hash;
    uint32_t before; /* index + 1 of the one before in its chain */
} log_pending_opid;

typedef struct log_new_scope {
    uint32_t code;
    tw_key value; /* own */
} log_new_scope;

struct log_store {
    uint32_t magic;
    tw_rwlock lock;
    /* under the lock for readers; the writer changes them holding it, and reads them freely */
    log_index *index; /* own; NULL: closed */
    uint64_t generation;
    char path[4096];
    uint64_t sweeping[LOG_SWEEP_CHUNKS]; /* chunks whose rows are being deleted */
    size_t sweeping_count;
    atomic_bool damaged;
    atomic_bool whole;

    /* the writer's own */
    log_table *table; /* own */
    log_guard guard;
    log_ring ring;
    log_store_options options;
    char directory[4000];
    char memory_directory[64]; /* "" = none was made */
    char why[512];
    uint64_t own_srv;

    log_pending *prepared; /* own; LOG_PREPARED_MAX */
    size_t prepared_count;
    bool is_committed;       /* what is prepared is on disk: only clear is left */
    uint32_t *overlay;       /* own; hash of (coll, key): index + 1 of the newest prepared row */
    size_t overlay_slots;    /* of it in use; a power of two */
    log_pending_opid *opids; /* own; LOG_PREPARED_MAX */
    size_t opids_count;
    uint32_t *opid_chains; /* own; LOG_OPID_CHAINS; index + 1 of the newest prepared */
    log_opids known;
    uint64_t opid_group_first, opid_group; /* oldest and newest; the first is above: none */
    tw_buf opids_packed;                   /* the group being made */
    tw_buf opids_gone;                     /* hashes of the ids that the open transaction forgets */
    uint32_t *opid_gone_sizes; /* own; LOG_OPID_GROUPS_GONE; ids of each of these groups */
    size_t opid_groups_gone;
    log_new_scope *scopes; /* own; not stored yet */
    size_t scopes_count, scopes_cap;
    bool incarnations_unstored;
    log_source source; /* prepared; origin 0: none is */
    bool is_cutting;   /* the source becomes whole with this commit: the floor rises */

    log_mark *marks; /* own; ascending */
    size_t marks_count, marks_cap;
    uint64_t bytes;      /* of superseded versions since the log began */
    uint64_t swept_rows; /* since the log began: rows and these are all numbers up to the head */
    uint64_t passed;     /* rows up to here were looked at for what the floor made dead */
    uint32_t kill_coll;  /* incarnation whose rows are being marked; 0: none */
    uint64_t kill_upto;
    size_t kill_at;
    uint64_t sweep_at;      /* chunk to look at next */
    log_row *swept;         /* own; LOG_SWEEP_CHUNKS chunks: being deleted; keys in swept_keys */
    uint32_t *swept_key_at; /* own; of each, its key's place there */
    size_t swept_count;
    uint64_t swept_bits[LOG_SWEEP_CHUNKS][LOG_CHUNK_ROWS / 64]; /* the same, by chunk and row */
    tw_buf swept_keys;
};

void log_store_overlay_clear(log_store *store);
/* Deletes dead rows inside the open transaction, chunk by chunk until there are as many as asked
 * for; fewer where no chunk is worth it, or LOG_SWEEP_CHUNKS were. */
tw_err log_store_sweep(log_store *store, size_t rows);
void log_store_swept(log_store *store, bool committed); /* after the transaction; takes the lock */
/* Operation ids: saved in the open transaction, then known (or, not committed, as before). */
tw_err log_store_save_opids(log_store *store, uint64_t unix_ms);
void log_store_opids_saved(log_store *store, bool committed);
tw_err log_store_load_opids(log_store *store);
tw_err log_store_forget_old_opids(log_store *store, uint64_t unix_ms); /* its own transaction */
tw_err log_store_load(log_store *store, uint64_t unix_ms);
tw_err log_store_rebuild(log_store *store, uint64_t unix_ms, char *why, size_t size);
/* Goes on with a rebuild that a kill broke off once the new file was whole. TW_E_DISK. */
tw_err log_store_finish_rebuild(log_store *store);
/* False: a row that we could not have written, under these names. */
bool log_store_may_be_row(log_index *names, const log_row *row);
uint64_t log_store_draw_srv(void);
/* number, at and whole of a source, as stored; 0 where they are not. */
tw_err log_store_source_numbers(log_store *store, uint32_t origin, log_source *out);
/* Stores the prepared source inside the open transaction. */
tw_err log_store_save_source(log_store *store, uint64_t head);
/* Shows what save_source stored. Under the lock, after the commit. */
void log_store_show_source(log_store *store, uint64_t head);
