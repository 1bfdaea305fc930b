/* log_index.h - what of the log lives in memory: where the newest row of each key stands, which
 * rows a collection or a scope has, which of them are superseded or dead, and how far each origin
 * is.
 *
 * One thread writes it (the store); others may read it under the log's lock. It is rebuilt at the
 * start from the table. It holds only rows that are committed. */
#pragma once

#include "actors/log/log_row.h"

typedef struct log_index log_index;

/* The newest row of a key. */
typedef struct log_entry {
    uint64_t n_op; /* n * 2 + 1 for a tombstone, n * 2 for a version; 0: an empty slot */
    int64_t ver;
    uint32_t scope;
    uint32_t coll;
    uint32_t key_at; /* where the key's bytes stand in the shard's own memory */
    uint32_t hash;
} log_entry;

static inline uint64_t log_entry_n(const log_entry *entry)
{
    return entry->n_op >> 1;
}

static inline bool log_entry_deleted(const log_entry *entry)
{
    return (entry->n_op & 1) != 0;
}

/* Ascending row numbers; rows that were swept stay until half of them are gone. */
typedef struct log_list {
    uint64_t *at; /* own */
    size_t count;
    size_t cap;
    size_t gone;
} log_list;

/* One life of a collection: it begins with its first write and ends with a drop. */
typedef struct log_incarnation {
    uint32_t id;
    uint32_t older;    /* slot + 1 of the incarnation of the same name before; 0: none */
    char *db;          /* own, terminated */
    char *name;        /* own, terminated */
    char *scope_field; /* own; the field its scopes were taken from; "" = none */
    uint64_t dropped;  /* n of the drop; 0: it lives */
    uint64_t dropping; /* n of a drop that is not committed yet; the writer's own */
    bool is_void;      /* its creation was undone, or all of it is swept */
    bool is_stored;    /* has its row in the table of incarnations */
    int64_t ver_max;   /* highest version of any of its records */
    int64_t ver_base;  /* versions of unknown keys begin above it */
    uint64_t records;  /* live */
    log_list all;
} log_incarnation;

enum {
    LOG_SAMPLE_EVERY = 128, /* rows of an origin between two samples of its positions */
    /* The newest rows of an origin, each with its position: 256 KiB. Streams are told positions
     * only where they have caught up, a few commits below the head; further back a sample is
     * enough. */
    LOG_RECENT_ROWS = 16384,
};

typedef struct log_sample {
    uint64_t seqno;
    uint64_t n;
} log_sample;

typedef struct log_origin {
    uint32_t id;
    uint64_t srv;
    uint64_t head;    /* highest seqno */
    uint64_t floor;   /* positions below it are refused */
    bool floor_multi; /* the floor itself too: its transaction had several rows */
    uint64_t rows;
    log_sample *samples; /* own; one in LOG_SAMPLE_EVERY rows; none for the own origin */
    size_t samples_count, samples_cap;
    /* Own; a ring, at [i % LOG_RECENT_ROWS]: what was told completely when the log ended at row n.
     * NULL for the own origin. */
    log_sample *recent;
    size_t recent_count; /* of all time */
} log_origin;

typedef struct log_index_stats {
    uint64_t rows, records, superseded, dead, swept;
} log_index_stats;

tw_err log_index_new(log_index **out);
void log_index_free(log_index **index);

/* ---- collections ---- */
/* The newest incarnation of a name whose slot is below or equal; NULL: none. Follow `older`. */
log_incarnation *log_index_named(log_index *index, tw_str db, tw_str name);
log_incarnation *log_index_older(log_index *index, const log_incarnation *incarnation);
log_incarnation *log_index_incarnation(log_index *index, uint32_t id); /* NULL: none */
size_t log_index_incarnations(const log_index *index);                 /* slots, for the next */
log_incarnation *log_index_slot(log_index *index, size_t slot);
/* Adds one; id 0 gives the next free. TW_E_TOO_MANY: TW_COLLECTIONS_MAX live ones. */
tw_err log_index_add_incarnation(log_index *index, uint32_t id, tw_str db, tw_str name,
                                 tw_str scope_field, log_incarnation **out);

/* ---- scopes: a code for each value, both ways ---- */
uint32_t log_index_scope(const log_index *index, tw_key value); /* 0: unknown */
tw_err log_index_add_scope(log_index *index, uint32_t code, tw_key value, uint32_t *out);

/* ---- origins ---- */
log_origin *log_index_origin(log_index *index, uint32_t id); /* NULL: none */
log_origin *log_index_origin_of_srv(log_index *index, uint64_t srv);
size_t log_index_origins(const log_index *index);
log_origin *log_index_origin_at(log_index *index, size_t i);
tw_err log_index_add_origin(log_index *index, uint32_t id, uint64_t srv, log_origin **out);
/* A row number at or below which every row of the origin has a seqno <= the given one. */
uint64_t log_origin_row_below(const log_origin *origin, uint64_t seqno);
/* The position of the origin at row n: all that it told up to there stands at or below n. Exact for
 * the newest LOG_RECENT_ROWS rows, at the head too where it moved without rows; further back up to
 * LOG_SAMPLE_EVERY rows low. */
uint64_t log_origin_seqno_at(const log_origin *origin, uint64_t n);
/* The origin has told all up to seqno, and it stands at or below its newest row. */
void log_origin_reach(log_origin *origin, uint64_t seqno);

/* ---- rows ---- */
const log_entry *log_index_find(const log_index *index, uint32_t coll, tw_key key);
/* Takes a committed row: rows come in ascending order of n. TW_E_NO_MEMORY: the index is then
 * incomplete and must be built anew. */
tw_err log_index_add(log_index *index, const log_row *row);
/* What a row at or below the floor makes dead: the version it superseded, and itself if a
 * tombstone. */
void log_index_pass_floor(log_index *index, const log_row *row);
/* A drop at or below the floor: rows of its incarnation are dead, those up to n at most. Marks at
 * most steps rows from *at on; true when done. */
bool log_index_kill(log_index *index, uint32_t coll, uint64_t upto, size_t *at, size_t steps);
/* Forgets a row that was swept. */
void log_index_remove(log_index *index, const log_row *row);
bool log_index_present(const log_index *index, uint64_t n);
bool log_index_superseded(const log_index *index, uint64_t n);
/* Both at once, for scans of many rows. */
typedef struct log_row_state {
    bool is_present;
    bool is_superseded;
} log_row_state;
log_row_state log_index_state(const log_index *index, uint64_t n);
/* Superseded by a row that streams are told of: by the next one, or over silent ones
 * (TW_ROW_SILENT). */
bool log_index_covered(const log_index *index, uint64_t n);
bool log_index_silent(const log_index *index, uint64_t n); /* row n was not told */
/* The silent row that supersedes row n; 0: none, or what supersedes it is told. */
uint64_t log_index_silent_after(const log_index *index, uint64_t n);
bool log_index_dead(const log_index *index, uint64_t n);
/* The first row above n that is there; UINT64_MAX: none. */
uint64_t log_index_next(const log_index *index, uint64_t n);

/* The next chunk, from *chunk on (wrapping), that is worth sweeping; looks at `steps` of them. */
bool log_index_next_sweep(log_index *index, uint64_t *chunk, size_t steps);
/* So many of the chunk's dead rows cannot go yet: they are not counted until the floor rises.
 * */
void log_index_blocked(log_index *index, uint64_t chunk, unsigned rows);

/* Lists for scanning: rows of an incarnation, and of one scope in it; NULL: none. */
const log_list *log_index_all(const log_index *index, const log_incarnation *incarnation);
const log_list *log_index_scoped(const log_index *index, uint32_t coll, uint32_t scope);
size_t log_list_after(const log_list *list, uint64_t n); /* index of the first above n */
/* Drop rows of all collections, ascending. */
const log_list *log_index_drops(const log_index *index);
uint32_t log_index_drop_coll(const log_index *index, size_t i); /* incarnation of drops->at[i] */

uint64_t log_index_head(const log_index *index); /* highest n; set by add and by set_head */
void log_index_set_head(log_index *index, uint64_t head);
uint64_t log_index_floor(const log_index *index);
void log_index_set_floor(log_index *index, uint64_t floor);
log_index_stats log_index_figures(const log_index *index);
