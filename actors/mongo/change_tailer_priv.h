/* change_tailer_priv.h - for change_tailer.c and change_tailer_<part>.c alone. */
#pragma once

#include "broker/change_event.h"

#include "actors/mongo/change_tailer.h"
#include "actors/mongo/change_tailer_link.h"

enum {
    CHANGE_TAILER_MAGIC = 0x7c4a11e5,
    TAILER_BATCH_BYTES_MAX = 268435456, /* of one batch's events and what was looked up for it */
    TAILER_AWAIT_MS = 250,              /* a getMore that finds nothing comes back after it */
    TAILER_SAVE_MS = 1000,              /* between appends that only move the position */
    TAILER_FENCE_MS = 500,              /* the cluster went on and told nothing: a barrier is due */
    TAILER_BARRIER_MS = 30000,          /* for a barrier's event; then the stream is opened anew */
    TAILER_APPEND_MS = 30000,           /* for an append's answer */
    TAILER_TOUCHED_SLOTS = 16384,
    TAILER_RENAMES_MAX =
        64, /* collections that wait for a scan of their own; more: all are scanned */
};

/* Why the log is compared with the deployment, or copied. */
#define TAILER_REASONS(R)                                                                          \
    R(FIRST, "first") /* nothing was copied yet */                                                 \
    R(HISTORY, "history_lost")                                                                     \
    R(OVERSIZE, "oversize")                                                                        \
    R(TOKEN, "token_refused")                                                                      \
    R(NO_TOKEN, "token_missing") /* the log was rebuilt after damage */                            \
    R(RENAME, "rename")
typedef enum tailer_reason {
#define R(name, text) TAILER_##name,
    TAILER_REASONS(R)
#undef R
        TAILER_REASONS_COUNT
} tailer_reason;

typedef enum tailer_phase {
    PHASE_CONNECT,
    PHASE_OPEN,    /* the stream, from the own token */
    PHASE_BARRIER, /* the stream, from now on, and the barrier that gives a token */
    PHASE_TAIL,    /* and scan, where one is under way */
} tailer_phase;

/* What a barrier's event is waited for. */
typedef enum tailer_barrier {
    BARRIER_NONE,
    BARRIER_START, /* of a scan: its token and position */
    BARRIER_STEP,  /* of a scan: all that happened before what was read is in the log */
    BARRIER_END,   /* of a scan */
    BARRIER_FENCE, /* a position for idle streams */
} tailer_barrier;

typedef struct tailer_name {
    char db[TW_NAME_MAX + 1];
    char coll[TW_NAME_MAX + 1];
} tailer_name;

typedef enum tailer_stage {
    STAGE_READ,  /* records of the deployment, collection by collection */
    STAGE_IMAGE, /* records of the log that the deployment no longer has */
    STAGE_END,
} tailer_stage;

/* A copy of the deployment, or a comparison with it, while the stream runs. */
typedef struct tailer_scan {
    bool is_active;
    tailer_reason reason;
    tailer_stage stage;
    bool compare;  /* the log has records: differences are synthetic, deletes are looked for */
    uint64_t from; /* head of the log when it began */
    /* ---- which collection; kept in the state ---- */
    bool is_listed; /* all that were listed are done: only renamed ones are left */
    bool has_name;  /* name is under way, behind last_id */
    tailer_name name;
    tw_buf last_id; /* own; type byte and value; empty: from the first */
    tailer_name renamed[TAILER_RENAMES_MAX];
    size_t renamed_count;
    /* ---- of this life ---- */
    tailer_name *names; /* own; listed in order */
    size_t names_count, names_cap, names_next;
    bool is_loaded;     /* names are */
    tailer_name *image; /* own; collections of the log; NULL: not asked for yet */
    size_t image_count, image_next;
    uint64_t image_after, image_then; /* page in hand, and behind it */
    bool image_more;
    uint64_t done, documents;
    /* ---- read, and waiting for a barrier ---- */
    bool has_batch;
    bool is_void;  /* the collection was dropped since its cursor was opened */
    bool is_again; /* more was deleted since then than is remembered: read behind last_id again */
    bool is_last;  /* of its collection */
    bool is_drop;  /* the collection is gone as a whole */
    tw_bson docs;  /* array; view of the source's reply */
    tw_buf gone;   /* own; keys: deleted since the cursor was opened, or to be deleted (image) */
} tailer_scan;

/* Rows that are put together for an append; views of the batch. */
typedef struct tailer_rows {
    tw_item_append_row *at; /* in the batch's arena */
    size_t count;
    size_t bytes;
    uint64_t wall_ms;
} tailer_rows;

struct change_tailer {
    uint32_t magic;
    tw_actor *actor;
    const catalog *catalog;
    int store, reader; /* links */
    change_source source;
    tw_arena batch; /* own; of the batch in hand */
    tailer_phase phase;
    size_t asking;    /* answers without which nothing is done */
    bool want_source; /* what the store knows is to be asked for */
    bool want_scan;   /* a scan is to begin by a barrier */
    tailer_reason scan_reason;
    /* ---- where the log is ---- */
    uint64_t srv, node, life, number, at, head;
    uint64_t image_rows; /* of the source in the log, when it was asked */
    bool is_whole;
    tw_buf token; /* own; goes on behind at */
    bool is_after;
    bool is_dirty; /* token or at were not appended yet */
    uint64_t saved_ms;
    size_t in_flight;
    tw_buf state; /* own; scratch */
    tw_buf held;  /* own; events of a transaction whose end did not come yet */
    /* ---- the barrier that is waited for ---- */
    tailer_barrier barrier;
    uint64_t barrier_number, barrier_ms;
    uint64_t fence_ms; /* since when the cluster is ahead; 0: it is not */
    tailer_scan scan;
    /* ---- records whose newest version was told early ---- */
    uint64_t *touched; /* own; hashes */
    size_t touched_count;
    bool touched_all;
    uint64_t touched_until; /* position that the look-ups reflect */
    /* ---- trouble ---- */
    uint64_t not_before_ms;
    unsigned failures, hurried;
    uint64_t idle_ms; /* when an answer was empty that might have waited; 0: it was not */
    bool is_failed;
    bool is_draining;
    /* ---- figures ---- */
    uint64_t events, batches, appends, rows, resumes, repeats, unfit, nulls, barriers, refused,
        held_total, pieces, slowed;
    uint64_t rescans[TAILER_REASONS_COUNT];
    uint64_t lag_ms;
};

/* ---- change_tailer.c ---- */
/* What follows an error of the source: again from the token, a scan, or waiting for somebody. */
void tailer_trouble(struct change_tailer *self);
/* Begins a scan of all by a barrier. */
void tailer_want_scan(struct change_tailer *self, tailer_reason reason);
tw_err tailer_write_barrier(struct change_tailer *self, tailer_barrier purpose);
/* Hands rows to the store, with where it goes on behind them; count may be 0. */
void tailer_append(struct change_tailer *self, tailer_rows *rows);

/* ---- change_tailer_state.c: what is kept in the log ---- */
tw_str tailer_state_write(struct change_tailer *self);
tw_err tailer_state_read(struct change_tailer *self, tw_str state);
void tailer_set_token(struct change_tailer *self, tw_bson token, bool is_after);

/* ---- change_tailer_batch.c ---- */
/* Takes what a getMore brought into the log. An error is the source's. */
tw_err tailer_take(struct change_tailer *self, const change_batch *batch);
tw_err tailer_rows_init(struct change_tailer *self, tailer_rows *rows);
/* True where an event with so many bytes more does not fit. */
bool tailer_rows_are_full(const tailer_rows *rows, size_t bytes);
/* change_tailer_marks.c: the mark among the events of a transaction (len 0: none), and what it and
 * the writer of this node say of rows. */
tw_bson tailer_mark_of(const change_event *events, size_t count);
void tailer_mark_rows(struct change_tailer *self, tailer_rows *rows, size_t from, tw_bson mark);
/* Appends a part of the transaction at seqno, whose others follow. */
void tailer_append_piece(struct change_tailer *self, tailer_rows *rows, uint64_t seqno);
/* Adds a version of a record, where it can be told to anybody. */
void tailer_add_put(struct change_tailer *self, tailer_rows *rows, tw_str db, tw_str coll,
                    tw_bson stored, uint64_t seqno, unsigned flags, bool scan);
/* Adds a delete (key given) or a drop. */
void tailer_add_end(struct change_tailer *self, tailer_rows *rows, tw_str db, tw_str coll,
                    tw_key key, uint64_t seqno, unsigned flags, bool scan);

/* ---- change_tailer_scan.c ---- */
void tailer_scan_init(struct change_tailer *self);
void tailer_scan_fini(struct change_tailer *self);
void tailer_scan_begin(struct change_tailer *self, uint64_t from, bool compare);
void tailer_scan_forget_batch(struct change_tailer *self);
/* Does one step; ends in a barrier that is waited for, or a question, or nothing. */
tw_err tailer_scan_step(struct change_tailer *self);
/* Adds what the step found; rows stand at the barrier's position. */
void tailer_scan_take(struct change_tailer *self, tailer_rows *rows, uint64_t seqno);
/* Told of each change of the stream, as the step's reading may be older than it. */
void tailer_scan_note(struct change_tailer *self, const change_event *event);
void tailer_scan_rename(struct change_tailer *self, tw_str db, tw_str coll);
