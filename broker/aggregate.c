/* aggregate.c - compiling a pipeline, and sending documents through its stages.
 *
 * A document goes from stage to stage; $sort, $group and $count hold what they were given until the
 * end, and then send on. aggregate_group.c holds the groups. */
#include "broker/aggregate.h"

#include <stdlib.h>

#include "broker/aggregate_priv.h"

enum { DOCS_FIRST = 64 };

/* ---- small parts ---- */

static tw_err refuse_memory(broker_why *why)
{
    return broker_refuse(why, TW_E_TOO_COSTLY, "the pipeline holds more than %d bytes",
                         TW_AGGREGATE_BYTES_MAX);
}

static tw_err docs_add(aggregate *self, aggregate_docs *docs, tw_bson doc, broker_why *why)
{
    TW_ASSERT(doc.len >= 5);
    if (docs->count == docs->cap) {
        size_t cap = docs->cap == 0 ? DOCS_FIRST : docs->cap * 2;
        tw_bson *grown = tw_arena_alloc(&self->arena, cap * sizeof *grown);
        if (grown == NULL) {
            return refuse_memory(why);
        }
        if (docs->count > 0) {
            memcpy(grown, docs->at, docs->count * sizeof *grown);
        }
        docs->at = grown;
        docs->cap = cap;
    }
    tw_bson kept = tw_arena_bson(&self->arena, doc);
    if (kept.ptr == NULL) {
        return refuse_memory(why);
    }
    docs->at[docs->count++] = kept;
    return TW_OK;
}

static bool is_path(tw_str text)
{
    return text.ptr != NULL && text.len > 1 && text.ptr[0] == '$' && text.ptr[1] != '$';
}

tw_err aggregate_check_value(tw_bson_value value, const char *where, broker_why *why)
{
    tw_str text = tw_bson_value_str(value);
    tw_bson doc = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    bool variable = text.ptr != NULL && text.len > 0 && text.ptr[0] == '$' && !is_path(text);
    TW_ASSERT(where != NULL);
    if (variable || value.type == TW_BSON_ARRAY) {
        return broker_refuse(why, TW_E_UNSUPPORTED,
                             "%s: takes \"$field\", {$literal: ...} or a scalar", where);
    }
    if (doc.len > 0 &&
        (tw_bson_count(doc) != 1 || tw_bson_get(doc, TW_STR("$literal")).type == 0)) {
        return broker_refuse(why, TW_E_UNSUPPORTED,
                             "%s: of expressions only \"$field\" and {$literal: ...} are offered",
                             where);
    }
    return TW_OK;
}

tw_bson_value aggregate_value(tw_bson doc, tw_bson_value value)
{
    tw_str text = tw_bson_value_str(value);
    if (is_path(text)) {
        return tw_bson_get_path(doc, (tw_str){text.ptr + 1, text.len - 1});
    }
    if (value.type == TW_BSON_DOCUMENT) {
        return tw_bson_get(tw_bson_value_doc(value), TW_STR("$literal"));
    }
    return value;
}

/* ---- compiling ---- */

static tw_err compile_match(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    bool first = stage == self->stages;
    if (stage->spec.type != TW_BSON_DOCUMENT) {
        return broker_refuse(why, TW_E_BAD_QUERY, "$match takes a filter");
    }
    tw_err err = query_compile(tw_bson_value_doc(stage->spec), &stage->match, why);
    if (err == TW_OK && first) {
        self->filter = tw_bson_value_doc(stage->spec);
    }
    return err;
}

static tw_err compile_number(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    int64_t number = -1;
    (void)self;
    bool is_limit = stage->kind == STAGE_LIMIT;
    if (!tw_bson_value_i64(stage->spec, &number) || number < (is_limit ? 1 : 0)) {
        return broker_refuse(why, TW_E_BAD_QUERY, "%s takes a whole number, %d or more",
                             is_limit ? "$limit" : "$skip", is_limit ? 1 : 0);
    }
    stage->left = (uint64_t)number;
    return TW_OK;
}

static tw_err compile_count(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    (void)self;
    tw_str name = tw_bson_value_str(stage->spec);
    if (name.len == 0 || name.ptr[0] == '$' || memchr(name.ptr, '.', name.len) != NULL) {
        return broker_refuse(why, TW_E_BAD_QUERY, "$count takes a field's name");
    }
    return TW_OK;
}

static tw_err compile_sort(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    tw_bson spec =
        stage->spec.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(stage->spec) : (tw_bson){0};
    tw_bson_iter iter;
    size_t count = 0;
    (void)self;
    for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter); count++) {
        int64_t direction = 0;
        bool good = tw_bson_value_i64(iter.value, &direction) && iter.name.len > 0 &&
                    (direction == 1 || direction == -1);
        if (!good || count == AGGREGATE_SORT_MAX) {
            return broker_refuse(why, TW_E_BAD_QUERY, "$sort takes {field: 1 or -1}, up to %d",
                                 AGGREGATE_SORT_MAX);
        }
    }
    return count > 0 ? TW_OK : broker_refuse(why, TW_E_BAD_QUERY, "$sort takes {field: 1 or -1}");
}

/* True where the value says that a field is told or left out. */
static bool is_choice(tw_bson_value value, bool *in)
{
    *in = tw_bson_value_bool_or(value, false);
    return value.type == TW_BSON_BOOL || tw_bson_value_is_number(value);
}

static tw_err check_project(tw_bson spec, bool *leaves_out, broker_why *why)
{
    size_t in = 0;
    size_t out = 0;
    bool id = false; /* _id is told by name */
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter);) {
        bool chosen = false;
        bool choice = is_choice(iter.value, &chosen);
        bool dotted = memchr(iter.name.ptr, '.', iter.name.len) != NULL;
        if (iter.name.len == 0 || iter.name.ptr[0] == '$' || (dotted && !(choice && chosen))) {
            return broker_refuse(why, TW_E_BAD_QUERY,
                                 "$project: a dotted path can only be told, not left out or made");
        }
        tw_err err = choice ? TW_OK : aggregate_check_value(iter.value, "$project", why);
        if (err != TW_OK) {
            return err;
        }
        bool is_id = tw_str_equal(iter.name, TW_STR("_id"));
        id = id || (is_id && chosen);
        in += !choice || (chosen && !is_id) ? 1 : 0;
        out += choice && !chosen && !is_id ? 1 : 0;
    }
    if (in > 0 && out > 0) {
        return broker_refuse(why, TW_E_BAD_QUERY,
                             "$project either tells fields or leaves some out, but for _id");
    }
    *leaves_out = in == 0 && (out > 0 || !id);
    return TW_OK;
}

/* The names that are told, as a projection: a list of them in the arena. */
static tw_err compile_told(aggregate *self, aggregate_stage *stage, tw_bson spec, broker_why *why)
{
    tw_bson_builder b;
    tw_bson_iter iter;
    bool chosen = false;
    tw_buf_clear(&self->scratch);
    tw_bson_begin(&b, &self->scratch);
    for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter);) {
        if (is_choice(iter.value, &chosen) && chosen) {
            tw_bson_add_value(&b, iter.name, iter.value);
            stage->tells++;
        }
    }
    tw_bson list = tw_bson_end(&b);
    list = self->scratch.err == TW_OK ? tw_arena_bson(&self->arena, list) : (tw_bson){0};
    stage->told = tw_arena_zero(&self->arena, 1, sizeof *stage->told);
    if (list.ptr == NULL || stage->told == NULL) {
        return refuse_memory(why);
    }
    tw_err err = stage->tells == 0 ? TW_OK : projection_init(stage->told, list);
    return err == TW_OK
               ? TW_OK
               : broker_refuse(why, TW_E_BAD_QUERY, "$project: these names are not possible");
}

static tw_err compile_project(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    tw_bson spec =
        stage->spec.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(stage->spec) : (tw_bson){0};
    if (spec.len <= 5) { /* 5: {} */
        return broker_refuse(why, TW_E_BAD_QUERY, "$project takes {field: 1, ...}");
    }
    tw_err err = check_project(spec, &stage->leaves_out, why);
    bool with_id = true;
    tw_bson_value id = tw_bson_get(spec, TW_STR("_id"));
    stage->without_id = id.type != 0 && is_choice(id, &with_id) && !with_id;
    return err == TW_OK && !stage->leaves_out ? compile_told(self, stage, spec, why) : err;
}

/* ---- running ---- */

static tw_err send(aggregate *self, size_t from, tw_bson doc, bool *enough, broker_why *why);

static void project_out(const aggregate_stage *stage, tw_bson doc, tw_bson_builder *b)
{
    tw_bson spec = tw_bson_value_doc(stage->spec);
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        bool told = true;
        (void)is_choice(tw_bson_get(spec, iter.name), &told);
        if (told || tw_bson_get(spec, iter.name).type == 0) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
}

static tw_err project_in(aggregate *self, const aggregate_stage *stage, tw_bson doc,
                         tw_bson_builder *b)
{
    tw_bson_iter iter;
    bool chosen = false;
    if (stage->tells > 0 || !stage->without_id) {
        tw_buf_clear(&self->projected);
        if (stage->tells > 0) {
            projection_apply(stage->told, TW_STR("_id"), doc, &self->projected);
        }
        tw_bson part = {(const uint8_t *)self->projected.ptr, self->projected.len};
        tw_bson_value id = tw_bson_get(doc, TW_STR("_id"));
        bool made =
            tw_bson_value_str(tw_bson_get(tw_bson_value_doc(stage->spec), TW_STR("_id"))).ptr !=
            NULL;
        if (id.type != 0 && !stage->without_id && !made) {
            tw_bson_add_value(b, TW_STR("_id"), id);
        }
        for (tw_bson_iter_init(&iter, part); part.len > 0 && tw_bson_iter_next(&iter);) {
            if (!tw_str_equal(iter.name, TW_STR("_id"))) {
                tw_bson_add_value(b, iter.name, iter.value);
            }
        }
    }
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(stage->spec)); tw_bson_iter_next(&iter);) {
        tw_bson_value value =
            is_choice(iter.value, &chosen) ? (tw_bson_value){0} : aggregate_value(doc, iter.value);
        if (value.type != 0) {
            tw_bson_add_value(b, iter.name, value);
        }
    }
    return self->projected.err;
}

static tw_err run_project(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    const aggregate_stage *stage = &self->stages[at];
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &out);
    tw_err err = TW_OK;
    if (stage->leaves_out) {
        project_out(stage, doc, &b);
    } else {
        err = project_in(self, stage, doc, &b);
    }
    tw_bson told = tw_bson_end(&b);
    err = err == TW_OK ? out.err : err;
    if (err == TW_OK) {
        err = send(self, at + 1, told, enough, why);
    }
    tw_buf_fini(&out);
    return err;
}

static tw_err run_match(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    bool is_found = (at == 0 && self->filter.len > 0) || query_match(self->stages[at].match, doc);
    return is_found ? send(self, at + 1, doc, enough, why) : TW_OK;
}

static tw_err run_limit(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    aggregate_stage *stage = &self->stages[at];
    if (stage->left == 0) {
        *enough = true;
        return TW_OK;
    }
    stage->left--;
    *enough = stage->left == 0;
    return send(self, at + 1, doc, enough, why);
}

static tw_err run_skip(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    aggregate_stage *stage = &self->stages[at];
    if (stage->left > 0) {
        stage->left--;
        return TW_OK;
    }
    return send(self, at + 1, doc, enough, why);
}

static tw_err run_count(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    (void)doc;
    (void)enough;
    (void)why;
    self->stages[at].left++;
    return TW_OK;
}

static tw_err run_sort(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    aggregate_docs *held = &self->stages[at].held;
    (void)enough;
    if (held->count == TW_AGGREGATE_SORT_MAX) {
        return broker_refuse(why, TW_E_TOO_COSTLY, "over %d documents to sort",
                             TW_AGGREGATE_SORT_MAX);
    }
    return docs_add(self, held, doc, why);
}

static tw_err run_group(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why)
{
    (void)enough;
    tw_err err = aggregate_group_add(self, &self->stages[at], doc, why);
    return err == TW_E_NO_MEMORY ? refuse_memory(why) : err;
}

/* ---- ends of the stages that hold ---- */

static tw_err end_count(aggregate *self, size_t at, broker_why *why)
{
    const aggregate_stage *stage = &self->stages[at];
    tw_buf out;
    tw_bson_builder b;
    bool enough = false;
    if (stage->left == 0) {
        return TW_OK; /* as MongoDB: nothing counted is no document */
    }
    tw_buf_init(&out, 4096);
    tw_bson_begin(&b, &out);
    tw_bson_add_i64(&b, tw_bson_value_str(stage->spec), (int64_t)stage->left);
    tw_bson told = tw_bson_end(&b);
    tw_err err = out.err == TW_OK ? send(self, at + 1, told, &enough, why) : out.err;
    tw_buf_fini(&out);
    return err;
}

typedef struct sorted {
    tw_bson doc;
    size_t at; /* equal ones stay in their order */
    const tw_bson_value *values;
    const int *directions;
    size_t count;
} sorted;

static int compare_sorted(const void *a, const void *b)
{
    const sorted *left = a;
    const sorted *right = b;
    for (size_t i = 0; i < left->count; i++) {
        int order = tw_bson_compare(left->values[i], right->values[i]) * left->directions[i];
        if (order != 0) {
            return order;
        }
    }
    return (left->at > right->at) - (left->at < right->at);
}

/* What a document is sorted by: missing as null. */
static tw_bson_value sort_value(tw_bson doc, tw_str path)
{
    tw_bson_value value = tw_bson_get_path(doc, path);
    return value.type != 0 ? value : (tw_bson_value){.type = TW_BSON_NULL};
}

static tw_err end_sort(aggregate *self, size_t at, broker_why *why)
{
    aggregate_docs *held = &self->stages[at].held;
    tw_bson spec = tw_bson_value_doc(self->stages[at].spec);
    int directions[AGGREGATE_SORT_MAX];
    size_t fields = tw_bson_count(spec);
    sorted *rows = tw_arena_zero(&self->arena, held->count + 1, sizeof *rows);
    tw_bson_value *values = tw_arena_zero(&self->arena, (held->count + 1) * fields, sizeof *values);
    if (rows == NULL || values == NULL) {
        return refuse_memory(why);
    }
    for (size_t i = 0; i < held->count; i++) {
        tw_bson_iter iter;
        size_t field = 0;
        rows[i] = (sorted){held->at[i], i, &values[i * fields], directions, fields};
        for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter); field++) {
            int64_t direction = 1;
            (void)tw_bson_value_i64(iter.value, &direction);
            directions[field] = (int)direction;
            values[i * fields + field] = sort_value(held->at[i], iter.name);
        }
    }
    qsort(rows, held->count, sizeof *rows, compare_sorted);
    bool enough = false;
    tw_err err = TW_OK;
    for (size_t i = 0; i < held->count && err == TW_OK && !enough; i++) {
        err = send(self, at + 1, rows[i].doc, &enough, why);
    }
    return err;
}

static tw_err end_group(aggregate *self, size_t at, broker_why *why)
{
    bool enough = false;
    tw_err err = TW_OK;
    tw_buf out;
    tw_buf_init(&out, TW_DOCUMENT_MAX);
    for (size_t i = 0; err == TW_OK && !enough; i++) {
        tw_buf_clear(&out);
        if (!aggregate_group_tell(&self->stages[at], i, &out)) {
            break;
        }
        tw_bson told = {(const uint8_t *)out.ptr, out.len};
        err = out.err == TW_OK ? send(self, at + 1, told, &enough, why) : out.err;
    }
    tw_buf_fini(&out);
    return err;
}

/* ---- the table ---- */

static const struct {
    const char *name;
    tw_err (*compile)(aggregate *self, aggregate_stage *stage, broker_why *why);
    tw_err (*run)(aggregate *self, size_t at, tw_bson doc, bool *enough, broker_why *why);
    tw_err (*end)(aggregate *self, size_t at, broker_why *why); /* NULL: holds nothing */
} kinds[] = {
    [STAGE_MATCH] = {"$match", compile_match, run_match, NULL},
    [STAGE_PROJECT] = {"$project", compile_project, run_project, NULL},
    [STAGE_SORT] = {"$sort", compile_sort, run_sort, end_sort},
    [STAGE_LIMIT] = {"$limit", compile_number, run_limit, NULL},
    [STAGE_SKIP] = {"$skip", compile_number, run_skip, NULL},
    [STAGE_COUNT] = {"$count", compile_count, run_count, end_count},
    [STAGE_GROUP] = {"$group", aggregate_group_compile, run_group, end_group},
};

static tw_err send(aggregate *self, size_t from, tw_bson doc, bool *enough, broker_why *why)
{
    TW_ASSERT(from <= self->stages_count);
    if (from == self->stages_count) {
        if (self->result.count == TW_FIND_MAX) {
            return broker_refuse(why, TW_E_TOO_COSTLY,
                                 "over %d documents in the result; add $limit", TW_FIND_MAX);
        }
        return docs_add(self, &self->result, doc, why);
    }
    return kinds[self->stages[from].kind].run(self, from, doc, enough, why);
}

static tw_err compile_stage(aggregate *self, tw_bson_value given, broker_why *why)
{
    tw_bson_iter iter;
    char shown[BROKER_SHOWN_MAX];
    tw_bson stage = given.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(given) : (tw_bson){0};
    tw_bson_iter_init(&iter, stage);
    if (stage.len == 0 || tw_bson_count(stage) != 1 || !tw_bson_iter_next(&iter)) {
        return broker_refuse(why, TW_E_BAD_QUERY, "a stage is an object of one field, its name");
    }
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        if (tw_str_equal(iter.name, tw_str_of(kinds[i].name))) {
            aggregate_stage *made = &self->stages[self->stages_count++];
            *made = (aggregate_stage){.kind = (aggregate_kind)i, .spec = iter.value};
            return kinds[i].compile(self, made, why);
        }
    }
    broker_show(iter.name, shown);
    return broker_refuse(
        why, TW_E_UNSUPPORTED,
        "there is no stage %s on this store; offered are $match $project $sort $limit "
        "$skip $count $group",
        shown);
}

tw_err aggregate_new(aggregate **out, tw_bson pipeline, broker_why *why)
{
    TW_ASSERT(out != NULL);
    *out = NULL;
    if (tw_bson_count(pipeline) > TW_STAGES_MAX) {
        return broker_refuse(why, TW_E_TOO_MANY, "over %d stages", TW_STAGES_MAX);
    }
    aggregate *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = AGGREGATE_MAGIC;
    tw_arena_init(&self->arena, TW_AGGREGATE_BYTES_MAX);
    tw_buf_init(&self->scratch, TW_DOCUMENT_MAX);
    tw_buf_init(&self->projected, TW_DOCUMENT_MAX);
    tw_bson copy = tw_arena_bson(&self->arena, pipeline);
    tw_err err = copy.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, err == TW_OK ? copy : (tw_bson){0});
    while (err == TW_OK && tw_bson_iter_next(&iter)) {
        err = compile_stage(self, iter.value, why);
    }
    if (err != TW_OK) {
        aggregate_free(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void aggregate_free(aggregate **out)
{
    aggregate *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == AGGREGATE_MAGIC);
    for (size_t i = 0; i < self->stages_count; i++) {
        query_free(&self->stages[i].match);
    }
    tw_arena_fini(&self->arena);
    tw_buf_fini(&self->scratch);
    tw_buf_fini(&self->projected);
    tw_free(self);
}

tw_bson aggregate_filter(const aggregate *self)
{
    TW_ASSERT(self->magic == AGGREGATE_MAGIC);
    return self->filter;
}

tw_err aggregate_add(aggregate *self, tw_bson doc, bool *enough, broker_why *why)
{
    TW_ASSERT(self->magic == AGGREGATE_MAGIC);
    TW_ASSERT(!self->ended);
    *enough = false;
    return send(self, 0, doc, enough, why);
}

tw_err aggregate_end(aggregate *self, broker_why *why)
{
    TW_ASSERT(self->magic == AGGREGATE_MAGIC);
    TW_ASSERT(!self->ended);
    self->ended = true;
    tw_err err = TW_OK;
    for (size_t i = 0; i < self->stages_count && err == TW_OK; i++) {
        if (kinds[self->stages[i].kind].end != NULL) {
            err = kinds[self->stages[i].kind].end(self, i, why);
        }
    }
    return err;
}

size_t aggregate_count(const aggregate *self)
{
    TW_ASSERT(self->ended);
    return self->result.count;
}

tw_bson aggregate_at(const aggregate *self, size_t index)
{
    TW_ASSERT(index < self->result.count);
    return self->result.at[index];
}
