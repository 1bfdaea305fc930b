/* log_reader_priv.h - for log_reader.c and log_reader_<part>.c alone. */
#pragma once

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
    uint64_t pages, events, records, rows, scanned, manifest_keys; /* gauges */
};

/* Answers with the view's cause. */
tw_err log_reader_refuse(struct log_reader *self, const tw_envelope *in, tw_err err);
/* Positions at the head, for records. TW_E_UNAVAILABLE. */
tw_err log_reader_positions(struct log_reader *self, tw_arena *arena, tw_vector *out);
/* What to scan for a query: a part each, in arena. TW_E_NO_MEMORY. */
tw_err log_reader_parts(const topic_query *asked, tw_arena *arena, log_part **out);

tw_err log_reader_on_get(void *state, const tw_envelope *in);
tw_err log_reader_on_find(void *state, const tw_envelope *in);
tw_err log_reader_on_count(void *state, const tw_envelope *in);
tw_err log_reader_on_manifest_read(void *state, const tw_envelope *in);
tw_err log_reader_on_manifest_docs(void *state, const tw_envelope *in);
