/* store_priv.h - for store.c and store_<part>.c alone. */
#pragma once

#include "broker/why.h"

#include "actors/store.h"

enum {
    STORE_MAGIC = 0x5704e1c7,
    STORE_ROWS_BYTES = 16777216,      /* prepared bytes that make a commit due */
    STORE_ROWS_BYTES_MAX = 268435456, /* of one transaction; beyond it too_big */
    STORE_ANSWERS_BYTES_MAX = 67108864,
};

/* A write whose operations were carried out; answered after the commit. */
typedef struct store_answer {
    tw_route route;
    tw_item_write_result *results; /* in answers */
    size_t count;
} store_answer;

/* An append whose rows are prepared or committed; answered after the commit. */
typedef struct store_append_answer {
    tw_route route;
    tw_err err;
    uint64_t number, at, rows;
} store_append_answer;

/* The source that this log is an image of. */
typedef struct store_source {
    uint32_t origin; /* id in the log; 0: not known yet */
    uint64_t srv;
    uint64_t life;       /* of the tailer that asked last: appends of another are refused */
    uint64_t number, at; /* of the last append that was prepared */
    uint64_t row_seqno;  /* of the last row that was prepared */
} store_source;

struct store {
    uint32_t magic;
    tw_actor *actor;
    log_store *log;
    const catalog *catalog;
    uint64_t srv;
    tw_arena rows;         /* own; what prepared rows point to; until they are published */
    tw_arena answers;      /* own; results; until they are answered */
    tw_buf scratch;        /* own; documents being built */
    store_answer *waiting; /* own */
    size_t waiting_count, waiting_cap;
    tw_item_write_result **open; /* own; results that the next commit decides on */
    size_t open_count, open_cap;
    bool image;
    store_source source;
    store_append_answer *appends; /* own */
    size_t appends_count, appends_cap;
    size_t appends_open; /* the first that the next commit decides on */
    uint64_t appended, append_rows, append_skipped, append_refused; /* gauges */
    bool tick_due, step_due; /* housekeeping, behind the commit of this turn */
    uint64_t written_before; /* `writes` at the end of the turn before */
    uint64_t commits, writes, refused, published, without_old; /* gauges */
};

/* One operation, and what it is done to. */
typedef struct store_op {
    struct store *store;
    const tw_item_write_op *op;
    const catalog_collection *rules;
    tw_str db;
    uint32_t coll;
    tw_key key;
    log_current current;
    tw_bson old;
    tw_item_write_result *result;
    broker_why why;
} store_op;

/* Carries out one transaction: count operations of a write. Refusals stand in the results; TW_OK
 * otherwise an error that ends the actor. */
tw_err store_transact(struct store *store, const tw_item_write_op *ops, size_t count,
                      tw_item_write_result *results);
/* The code of the scope that a document has; wild where it may equal several. */
tw_err store_scope_of(struct store *store, const catalog_collection *rules, tw_bson doc,
                      uint32_t *code);
/* Commits, answers and publishes what is due. */
tw_err store_flush(struct store *store);
/* Ends the actor. What was found damaged is told to the log: the start that follows sets it aside
 * and rebuilds it, where it would otherwise be found again by each write. */
void store_fail(struct store *store, tw_err err, const char *what);
/* Commits first what would not fit into one commit with so many rows more. */
tw_err store_make_room(struct store *store, size_t rows);

/* ---- appends: store_append.c ---- */
tw_err store_on_append(void *state, const tw_envelope *in);
tw_err store_on_source_ask(void *state, const tw_envelope *in);
/* Reads how far the log is with its source: at the start, and after a refused commit. */
tw_err store_load_source(struct store *store);
void store_refuse_appends(struct store *store, tw_err err); /* those the commit decided on */
void store_answer_appends(struct store *store);

/* Commits what is prepared and publishes it. An error ends the actor; a full disk does not. */
tw_err store_commit(struct store *store);
