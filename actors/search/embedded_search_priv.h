/* embedded_search_priv.h - what the files of the embedded search share; nobody else includes it. */
#pragma once

#include "broker/catalog.h"
#include "broker/position.h"
#include "broker/query.h"
#include "broker/search_aggs.h"
#include "broker/search_doc.h"
#include "broker/search_query.h"

#include "actors/search/embedded_search.h"
#include "actors/search/log_link.h"

enum {
    EMBEDDED_MAGIC = 0x2e6bd3f1,
    EMBEDDED_JOB_MAGIC = 0x2e6bd3f2,
    EMBEDDED_TABLE_MAGIC = 0x2e6bd3f3,
    EMBEDDED_JOB_MEMORY_MAX = 67108864, /* bytes: candidates, buckets, the answer */
    EMBEDDED_STEP = 256,                /* documents of one search in one turn */
    EMBEDDED_PAGE = 500,                /* documents of a page of stream_search and keys */
    EMBEDDED_SORTS_MAX = 8,             /* keys of a sort; error bad_query */
};

/* ---- embedded_search_table.c: the file ---- */
typedef struct embedded_collection {
    struct embedded_collection *next;
    uint64_t number;
    tw_str db, name;
    const catalog_collection *rules;
    search_mapping mapping;
    tw_arena arena; /* own */
    uint64_t docs;
} embedded_collection;

typedef struct embedded_table embedded_table;
typedef struct embedded_document {
    tw_str id;
    int64_t version;
    tw_bson doc;
} embedded_document; /* views, until the next call */

/* How far the log was followed; stands in the file. */
typedef struct embedded_reached {
    uint64_t srv, n;
    uint64_t floor; /* the log's, when that was */
    bool doubted;   /* what was deleted may be held: each document is to be asked for */
} embedded_reached;

typedef struct embedded_held {
    int64_t row;
    tw_str id;
} embedded_held;

/* Opens or makes the file; one that is damaged, of another version or of other mappings is begun
 * anew. path NULL: in memory. */
tw_err embedded_table_open(embedded_table **out, const catalog *catalog, const char *path);
void embedded_table_close(embedded_table **table);
const char *embedded_table_why(const embedded_table *table);
const embedded_reached *embedded_table_reached(const embedded_table *table);
const position_set *embedded_table_at(const embedded_table *table);
uint64_t embedded_table_docs(const embedded_table *table);
/* The collection, made where create is set and it is one that is indexed; NULL: it is not there. */
embedded_collection *embedded_table_collection(embedded_table *table, tw_str db, tw_str name,
                                               bool create);
embedded_collection *embedded_table_collections(embedded_table *table); /* by next */
/* One transaction: begin, changes, and end with how far they go (at: positions, none: as before); a
 * failed one changes nothing but what is known in memory: reload. */
tw_err embedded_table_begin(embedded_table *table);
tw_err embedded_table_put(embedded_table *table, embedded_collection *collection, tw_str id,
                          int64_t version, tw_bson doc);
tw_err embedded_table_remove(embedded_table *table, embedded_collection *collection, tw_str id);
tw_err embedded_table_empty(embedded_table *table, embedded_collection *collection);
tw_err embedded_table_end(embedded_table *table, const embedded_reached *reached, tw_vector at);
/* Undoes what is open and reads again what is known in memory. Collections are others then: nothing
 * may hold one. On an error close it. */
tw_err embedded_table_reload(embedded_table *table);
/* Forgets everything, in a transaction of its own; the log is then read from its first row. */
tw_err embedded_table_forget(embedded_table *table);
/* Row ids of a collection above `after`, those that sql selects (len 0: all), in order; an array
 * in arena. */
tw_err embedded_table_candidates(embedded_table *table, tw_arena *arena,
                                 const embedded_collection *collection, tw_str sql, int64_t after,
                                 int64_t **out, size_t *count);
/* false: it is not there any more. */
bool embedded_table_document(embedded_table *table, int64_t row, embedded_document *out);
/* The next documents of a collection, max at most, above row `after`; ids are in arena. *count 0:
 * there are no more. */
tw_err embedded_table_ids(embedded_table *table, tw_arena *arena,
                          const embedded_collection *collection, int64_t after, embedded_held *out,
                          size_t max, size_t *count);
uint64_t embedded_table_df(embedded_table *table, uint64_t field, tw_str term);

/* ---- embedded_search.c ---- */
typedef struct embedded_job embedded_job;
/* Each document is asked for, in steps, where deletes may have been missed. Where it is: at the
 * collection of this number, behind this row; kept in memory alone, a new life begins it anew. */
enum { EMBEDDED_CHECK_DOCUMENTS = 256 };
typedef struct embedded_check {
    uint64_t number;
    int64_t row;
    bool asking;
    bool again;    /* deletes were missed since it began */
    bool was_last; /* of the steps: the next one reads */
    uint64_t removed;
    tw_arena arena; /* own */
    embedded_held asked[EMBEDDED_CHECK_DOCUMENTS];
    size_t asked_count;
} embedded_check;

typedef struct embedded_search {
    uint32_t magic;
    tw_actor *actor;
    const embedded_search_options *options;
    log_link log;
    embedded_table *table; /* own */
    embedded_job *first;   /* own; in turn */
    size_t running;
    bool rebuild;
    bool resting; /* a step is due by a timer */
    bool waiting; /* a step is due when a core is free */
    uint64_t full_ms,
        full_wait_ms; /* no room: nothing is written before; waits grow. 0: there is */
    embedded_check check;
    uint64_t answered, failed, rows, rebuilds, checks, refused;
} embedded_search;

typedef struct embedded_value {
    double number;
    tw_str text;
    bool missing;
} embedded_value;

typedef struct embedded_sort {
    tw_str name;
    bool down, score, first; /* first: missing ones come first */
    bool row;                /* _doc */
    bool low;                /* of a list, the smallest counts */
} embedded_sort;

typedef struct embedded_hit {
    int64_t row;
    size_t target;
    double score;
    embedded_value values[EMBEDDED_SORTS_MAX];
} embedded_hit;

typedef struct embedded_target {
    embedded_collection *collection;
    search_query *query;
    struct query *filter; /* own; NULL: none */
    int64_t *rows;
    size_t rows_count;
} embedded_target;

typedef tw_err (*embedded_begin)(embedded_job *job);
typedef struct embedded_function {
    const char *name;
    embedded_begin begin;             /* reads what was asked */
    tw_err (*end)(embedded_job *job); /* answers */
    bool pages;                       /* by cursors */
} embedded_function;

struct embedded_job {
    uint32_t magic;
    embedded_search *search;
    embedded_job *next;
    tw_arena arena; /* own */
    tw_buf built;   /* own; BSON of the answer */
    tw_route route;
    tw_body asked; /* views into arena */
    const embedded_function *function;
    uint64_t deadline_ms;
    uint64_t wanted;   /* the row that the index is to have reached before it begins, */
    uint64_t fresh_ms; /* until then */
    bool begun;
    broker_why why;
    embedded_target *targets;
    size_t targets_count, target_at, row_at;
    tw_bson body; /* what was asked, in the engine's form */
    search_aggs *aggs;
    embedded_sort sorts[EMBEDDED_SORTS_MAX];
    size_t sorts_count;
    tw_bson after; /* search_after; len 0: none */
    int64_t from, size;
    bool no_hits; /* nothing but counting */
    embedded_hit *hits;
    size_t hits_count, hits_cap;
    int64_t last_row; /* of a cursor */
    uint64_t total, counted;
    double max_score;
    bool full; /* a page is */
};

embedded_search *embedded_search_of(void *state);
embedded_table *embedded_search_table(embedded_search *self);
void embedded_search_rebuild(embedded_search *self);
/* Ends searches that look at collections, which are about to be others: TW_E_UNAVAILABLE. */
void embedded_search_interrupt(embedded_search *self);
/* Ends the actor with what the file says; it begins anew. */
void embedded_search_broken(embedded_search *self, tw_err err);
/* Goes on with each search that can. */
void embedded_search_work(embedded_search *self);
/* ---- embedded_search_follow.c ---- */
tw_err embedded_follow_init(embedded_search *self);
void embedded_follow_fini(embedded_search *self);
tw_err embedded_follow_on_batch(void *state, const tw_envelope *in);
void embedded_follow_on_gap(void *state, const char *source);
/* Sees to it that what is behind is read: at once where a search waits, else in time. */
void embedded_follow(embedded_search *self);
/* Rows of the log that were heard of and not taken yet. */
uint64_t embedded_follow_behind(const embedded_search *self);
/* ---- embedded_search_ask.c ---- */
const embedded_function *embedded_function_of(tw_str name);
/* Looks at the next documents; *done when there are no more. */
tw_err embedded_job_step(embedded_job *job, bool *done);
void embedded_job_answer(embedded_job *job, const tw_msg_search_answer *answer);
/* ---- embedded_search_hits.c ---- */
tw_err embedded_sort_read(embedded_job *job, tw_bson sort);
tw_err embedded_hit_add(embedded_job *job, const embedded_hit *hit, tw_bson doc);
void embedded_hits_sort(embedded_job *job);
/* The document as an engine would give it, less what _source leaves out; len 0: no memory. */
tw_bson embedded_source(embedded_job *job, const embedded_document *held, tw_bson_value source);
void embedded_hits_write(embedded_job *job, tw_bson_builder *b);
tw_err embedded_suggest_write(embedded_job *job, tw_bson suggest, tw_bson_builder *b);
