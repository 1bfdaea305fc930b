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
    bool has_more;                                             /* housekeeping is to go on */
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
/* Commits what is prepared and publishes it. An error ends the actor; a full disk does not. */
tw_err store_commit(struct store *store);
