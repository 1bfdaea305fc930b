/* log_reader_priv.h - for log_reader.c and log_reader_<part>.c alone. */
#pragma once

#include "broker/aggregate.h"
#include "broker/query.h"
#include "broker/topic_query_cache.h"
#include "broker/why.h"

#include "actors/log/log_cut.h"
#include "actors/log_reader.h"

enum {
    LOG_READER_MAGIC = 0x10654ead,
    LOG_READER_CUTS = 4,              /* cuts kept; another one looks through the rows again */
    LOG_READER_BYTES_MAX = 268435456, /* of one answer's making */
};

/* A way through a collection, in steps. */
typedef struct log_reader_scan {
    tw_str db, coll;
    query *filter; /* borrow */
    uint64_t after;
    /* Takes a record that matches; false: that was enough of this step. */
    bool (*take)(void *context, tw_bson doc);
    void *context;
    bool at_head; /* out: those were all */
} log_reader_scan;

/* An aggregate that runs, or whose result is being fetched. */
typedef struct log_reader_aggregate {
    uint64_t id; /* as the asker named it; 0: free */
    tw_route route;
    bool is_asked; /* route waits for an answer */
    bool is_made;  /* the result is complete */
    bool is_enough;
    uint64_t until_ms; /* running: its deadline; then: when it is forgotten */
    uint64_t time_ms;
    char db[TW_NAME_MAX + 1], coll[TW_NAME_MAX + 1];
    uint64_t after, looked;
    size_t told;
    query *filter;      /* own */
    query *guard;       /* own; NULL: no record is as if missing */
    rights_grant grant; /* what is hidden; names are views into names */
    tw_bson names;      /* own; len 0: nothing is hidden */
    tw_buf shown;       /* own; a record without that */
    aggregate *made;    /* own */
    tw_err err;         /* of the pipeline */
    broker_why why;
} log_reader_aggregate;

struct log_reader {
    uint32_t magic;
    tw_actor *actor;
    const catalog *catalog;
    log_view view;
    tw_arena memory; /* own; of the answer being made */
    tw_buf text;     /* own; rendered tails, or projected documents */
    topic_query_cache queries;
    uint64_t uses;                                                 /* of cuts */
    log_cut cuts[LOG_READER_CUTS];                                 /* own */
    uint32_t idle_ms;                                              /* of aggregates */
    log_reader_aggregate aggregates[TW_AGGREGATES_MAX];            /* own */
    uint64_t pages, events, records, rows, scanned, manifest_keys; /* gauges */
    uint64_t aggregates_done, aggregates_ended;                    /* gauges */
};

/* Answers with the view's cause. */
tw_err log_reader_refuse(struct log_reader *self, const tw_envelope *in, tw_err err);
/* The log's own origin; 0: it is closed. */
uint64_t log_reader_srv(struct log_reader *self);
/* Positions at the head, for records. TW_E_UNAVAILABLE. */
tw_err log_reader_positions(struct log_reader *self, tw_arena *arena, tw_vector *out);
/* What to scan for a query: a part each, in arena. TW_E_NO_MEMORY. */
tw_err log_reader_parts(const topic_query *asked, tw_arena *arena, log_part **out);

tw_err log_reader_on_get(void *state, const tw_envelope *in);
tw_err log_reader_on_find(void *state, const tw_envelope *in);
tw_err log_reader_on_count(void *state, const tw_envelope *in);
tw_err log_reader_on_manifest_read(void *state, const tw_envelope *in);
tw_err log_reader_on_manifest_docs(void *state, const tw_envelope *in);
tw_err log_reader_on_aggregate_run(void *state, const tw_envelope *in);
tw_err log_reader_on_aggregate_next(void *state, const tw_envelope *in);
void log_reader_aggregates_fini(struct log_reader *self);

/* Hands in what comes next, at most as much as keeps nobody waiting for long. TW_E_UNAVAILABLE
 * (view.why), TW_E_NO_MEMORY, TW_E_CORRUPT, TW_E_DISK. */
tw_err log_reader_scan_step(struct log_reader *reader, log_reader_scan *scan);
