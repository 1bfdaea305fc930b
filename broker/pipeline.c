/* pipeline.c - see pipeline.h. */
#include "broker/pipeline.h"

#include "protocol/limits.h"

typedef struct checker {
    pipeline_may_read may_read;
    void *context;
    size_t stages;
    broker_why *why;
} checker;

typedef tw_err (*stage_check)(checker *self, tw_bson_value spec);

static tw_err check_stages(checker *self, tw_bson pipeline);

/* ---- what no part of a pipeline may hold ---- */

static const char *const banned[] = {"$where", "$function", "$accumulator", "$_internalJsEmit",
                                     "$out",   "$merge",    "$currentOp",   "$collStats"};

static tw_err check_names(checker *self, tw_bson doc, int depth)
{
    tw_bson_iter i;
    if (depth > TW_DEPTH_CLIENT_MAX) {
        return broker_refuse(self->why, TW_E_DEPTH, "The pipeline is nested too deeply.");
    }
    for (tw_bson_iter_init(&i, doc); tw_bson_iter_next(&i);) {
        for (size_t k = 0; k < TW_COUNT(banned); k++) {
            if (tw_str_equal(i.name, tw_str_of(banned[k]))) {
                return broker_refuse(self->why, TW_E_BAD_QUERY, "%s is not allowed in a pipeline.",
                                     banned[k]);
            }
        }
        bool has_more = i.value.type == TW_BSON_DOCUMENT || i.value.type == TW_BSON_ARRAY;
        bool has_code = i.value.type == TW_BSON_CODE || i.value.type == TW_BSON_CODE_SCOPE;
        tw_err err = has_code   ? broker_refuse(self->why, TW_E_BAD_QUERY,
                                                "Code is not allowed in a pipeline.")
                     : has_more ? check_names(self, tw_bson_value_doc(i.value), depth + 1)
                                : TW_OK;
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

/* ---- stages that hold pipelines ---- */

static tw_err check_facet(checker *self, tw_bson_value spec)
{
    tw_bson_iter i;
    tw_err err = spec.type == TW_BSON_DOCUMENT
                     ? TW_OK
                     : broker_refuse(self->why, TW_E_BAD_QUERY, "$facet needs a document.");
    for (tw_bson_iter_init(&i, tw_bson_value_doc(spec)); err == TW_OK && tw_bson_iter_next(&i);) {
        err = i.value.type == TW_BSON_ARRAY
                  ? check_stages(self, tw_bson_value_doc(i.value))
                  : broker_refuse(self->why, TW_E_BAD_QUERY, "$facet needs lists of stages.");
    }
    return err;
}

static tw_err check_lookup(checker *self, tw_bson_value spec)
{
    char shown[BROKER_SHOWN_MAX];
    tw_bson doc = tw_bson_value_doc(spec);
    tw_str from = tw_bson_get_str(doc, TW_STR("from"));
    if (spec.type != TW_BSON_DOCUMENT || from.ptr == NULL) {
        return broker_refuse(self->why, TW_E_BAD_QUERY,
                             "$lookup needs \"from\", the name of a collection.");
    }
    if (!self->may_read(self->context, from)) {
        return broker_refuse(self->why, TW_E_FORBIDDEN, "$lookup: \"%s\" may not be read.",
                             broker_show(from, shown));
    }
    tw_bson_value inner = tw_bson_get(doc, TW_STR("pipeline"));
    if (inner.type == 0) {
        return TW_OK;
    }
    return inner.type == TW_BSON_ARRAY
               ? check_stages(self, tw_bson_value_doc(inner))
               : broker_refuse(self->why, TW_E_BAD_QUERY, "$lookup: pipeline is a list of stages.");
}

/* ---- the table ---- */

static const struct {
    const char *name;
    stage_check check; /* NULL: nothing to look into */
} stages[] = {
    {"$match", NULL},          {"$project", NULL},
    {"$addFields", NULL},      {"$set", NULL},
    {"$unset", NULL},          {"$group", NULL},
    {"$sort", NULL},           {"$limit", NULL},
    {"$skip", NULL},           {"$count", NULL},
    {"$unwind", NULL},         {"$sample", NULL},
    {"$bucket", NULL},         {"$bucketAuto", NULL},
    {"$facet", check_facet},   {"$replaceRoot", NULL},
    {"$replaceWith", NULL},    {"$sortByCount", NULL},
    {"$lookup", check_lookup},
};

static tw_err check_stage(checker *self, tw_bson_value stage)
{
    char shown[BROKER_SHOWN_MAX];
    tw_bson doc = tw_bson_value_doc(stage);
    tw_bson_iter i;
    if (stage.type != TW_BSON_DOCUMENT || tw_bson_count(doc) != 1) {
        return broker_refuse(self->why, TW_E_BAD_QUERY,
                             "A stage is an object with one name, as {\"$match\":{...}}.");
    }
    if (++self->stages > TW_PIPELINE_STAGES_MAX) {
        return broker_refuse(self->why, TW_E_TOO_MANY, "A pipeline has at most %d stages.",
                             TW_PIPELINE_STAGES_MAX);
    }
    tw_bson_iter_init(&i, doc);
    (void)tw_bson_iter_next(&i);
    for (size_t k = 0; k < TW_COUNT(stages); k++) {
        if (tw_str_equal(i.name, tw_str_of(stages[k].name))) {
            return stages[k].check == NULL ? TW_OK : stages[k].check(self, i.value);
        }
    }
    return broker_refuse(self->why, TW_E_BAD_QUERY, "The stage \"%s\" is not allowed.",
                         broker_show(i.name, shown));
}

static tw_err check_stages(checker *self, tw_bson pipeline)
{
    tw_bson_iter i;
    tw_err err = TW_OK;
    for (tw_bson_iter_init(&i, pipeline); err == TW_OK && tw_bson_iter_next(&i);) {
        err = check_stage(self, i.value);
    }
    return err;
}

tw_err pipeline_check(tw_bson pipeline, pipeline_may_read may_read, void *context, broker_why *why)
{
    TW_ASSERT(may_read != NULL);
    TW_ASSERT(pipeline.ptr != NULL || pipeline.len == 0);
    checker self = {.may_read = may_read, .context = context, .why = why};
    tw_err err = check_names(&self, pipeline, 1);
    return err == TW_OK ? check_stages(&self, pipeline) : err;
}
