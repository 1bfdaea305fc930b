/* aggregate_priv.h - for aggregate.c and aggregate_group.c alone. */
#pragma once

#include "protocol/arena.h"
#include "protocol/limits.h"

#include "broker/aggregate.h"
#include "broker/projection.h"
#include "broker/query.h"

enum { AGGREGATE_MAGIC = 0x0a66e6a7, AGGREGATE_SORT_MAX = 16 };

typedef enum aggregate_kind {
    STAGE_MATCH,
    STAGE_PROJECT,
    STAGE_SORT,
    STAGE_LIMIT,
    STAGE_SKIP,
    STAGE_COUNT,
    STAGE_GROUP,
} aggregate_kind;

/* Documents that are kept: copies in the arena. */
typedef struct aggregate_docs {
    tw_bson *at;
    size_t count, cap;
} aggregate_docs;

typedef struct aggregate_groups aggregate_groups;

typedef struct aggregate_stage {
    aggregate_kind kind;
    tw_bson_value spec; /* view into the arena's copy of the pipeline */
    query *match;       /* own */
    uint64_t left;      /* of $limit and $skip; counted by $count */
    bool leaves_out;    /* $project names what is not told */
    bool without_id;
    size_t tells;     /* names that $project tells */
    projection *told; /* in the arena */
    aggregate_docs held;
    aggregate_groups *groups; /* in the arena */
} aggregate_stage;

struct aggregate {
    uint32_t magic;
    bool ended;
    tw_arena arena;            /* own */
    tw_buf scratch, projected; /* own */
    tw_bson filter;            /* of a leading $match; view */
    aggregate_stage stages[TW_STAGES_MAX];
    size_t stages_count;
    aggregate_docs result;
};

/* A value as a stage gives it: refused where it is none that is offered. */
tw_err aggregate_check_value(tw_bson_value value, const char *where, broker_why *why);
/* What it means for a document; type 0: missing. A view into either. */
tw_bson_value aggregate_value(tw_bson doc, tw_bson_value value);

tw_err aggregate_group_compile(aggregate *self, aggregate_stage *stage, broker_why *why);
tw_err aggregate_group_add(aggregate *self, aggregate_stage *stage, tw_bson doc, broker_why *why);
/* Appends the document of a group to out; false: there is none of this number. */
bool aggregate_group_tell(const aggregate_stage *stage, size_t index, tw_buf *out);
