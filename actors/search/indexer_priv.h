/* indexer_priv.h - for indexer.c and indexer_compare.c.
 *
 * Life of a collection's index, as the indexer sees it
 *   ASK      how far is it? asked again after errors, with back-off
 *   COMPARE  it is another log's, or the log no longer has the rows that it lacks: what it holds is
 *            listed, held against every record, and put right (indexer_compare.c)
 *   FOLLOW   the log is read once for all that follow, from the least advanced on; a change that an
 *            index has already does no harm
 *   VERIFY   it has come to the head for the first time since it was ASKed: its documents are
 *            counted; another number leads to COMPARE */
#pragma once

#include "broker/catalog.h"
#include "broker/position.h"
#include "broker/search_doc.h"

#include "actors/search/indexer.h"
#include "actors/search/log_link.h"

enum {
    INDEXER_MAGIC = 0x1d3e7a01,
    INDEXER_READ_BYTES = 1048576, /* of rows in one log_read */
    INDEXER_READ_ROWS = 1000,
    INDEXER_RETRY_MS = 250, /* doubled to the most */
    INDEXER_RETRY_MAX_MS = 5000,
    INDEXER_BROKEN_MS = 30000,     /* for what only the operator can put right */
    INDEXER_ENTRIES_MAX = 1 << 25, /* documents of one index that are compared: 512 MiB of table */
};
static_assert((int)INDEXER_READ_ROWS <= (int)TW_INDEX_OPS_MAX, "a read is one index_write");

typedef enum feed_phase { FEED_ASK, FEED_WAIT, FEED_COMPARE, FEED_FOLLOW } feed_phase;

typedef struct index_feed {
    const catalog_collection *rules;
    feed_phase phase;
    uint64_t n;        /* rows up to here are in the index */
    uint64_t retry_ms; /* at which a waiting one asks again */
    uint64_t backoff_ms;
    uint64_t set_aside; /* documents that the engine cannot hold */
    bool verify;        /* its documents are to be counted at the head */
    bool verifying;
    bool foreign;       /* what it holds is of another log: it is emptied before COMPARE */
    uint64_t documents; /* counted by VERIFY */
} index_feed;

/* What an index holds: an open-addressing table of hashes of ids. */
typedef struct entry {
    uint64_t hash;  /* 0: free */
    uint64_t seqno; /* the highest bit: a record has it */
} entry;

typedef struct comparison {
    index_feed *feed; /* NULL: none runs */
    uint64_t head;
    tw_position at[TW_ORIGINS_MAX]; /* positions at head */
    size_t at_count;
    entry *table; /* own */
    size_t cap, count;
    char after_id[TW_KEY_MAX + 1]; /* where the listing goes on */
    size_t after_id_len;
    uint64_t after; /* where the records go on */
    bool more;      /* there are further records */
    uint64_t put, removed;
} comparison;

struct indexer {
    uint32_t magic;
    tw_actor *actor;
    const indexer_options *options;
    log_link log;
    int engine;        /* link */
    index_feed *feeds; /* own */
    size_t feeds_count;
    uint64_t srv;  /* of the log that is followed; 0: not known yet */
    uint64_t read; /* the rows on their way are those behind it */
    size_t writes; /* unanswered, of one read: nothing is read until they are answered */
    uint64_t upto; /* of the rows on their way */
    comparison comparison;
    uint64_t rows, puts, removes, repairs, refused;
};
typedef struct indexer indexer;

/* ---- indexer.c ---- */
indexer *indexer_of(void *state);
/* An index that did not take what it was given: asked again later, how far it is. */
void indexer_lost(indexer *self, index_feed *feed, tw_err err, const tw_envelope *in);
void indexer_note_refused(indexer *self, index_feed *feed, const tw_msg_index_written *told);
void indexer_join(indexer *self, index_feed *feed,
                  uint64_t n); /* from now on it follows, behind n */

/* ---- indexer_compare.c ---- */
void indexer_compare_next(indexer *self); /* begins one, where none runs and one is due */
void indexer_compare_end(indexer *self);
