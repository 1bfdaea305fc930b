/* embedded_search_ask.c - the functions of search_ask: what each asks of the documents, and how its
 * answer is made. Bodies pass broker/search_body.h as those for a cluster do. */
#include <math.h>

#include "protocol/json.h"

#include "broker/search_body.h"

#include "actors/search/embedded_search_priv.h"

enum { ROWS = 25, FACETS = 10, HITS = 10 };

static tw_bson args_of(const embedded_job *job)
{
    return job->asked.search_ask.args;
}

/* ---- reading ---- */
typedef struct narrowed {
    tw_str exists;          /* ptr NULL: nothing */
    tw_bson_value from, to; /* with exists: a range */
} narrowed;

static tw_err add_filters(embedded_job *job, tw_bson_builder *b, const narrowed *more)
{
    tw_bson_value filters = tw_bson_get(args_of(job), TW_STR("filters"));
    bool list = filters.type == TW_BSON_ARRAY;
    tw_bson_iter iter;
    tw_err err = TW_OK;
    if (filters.type != 0 && !list) {
        err = search_body_add_query(b, TW_STR(""), filters, &job->why);
    }
    tw_bson_iter_init(&iter, list ? tw_bson_value_doc(filters) : (tw_bson){NULL, 0});
    while (err == TW_OK && tw_bson_iter_next(&iter)) {
        err = search_body_add_query(b, TW_STR(""), iter.value, &job->why);
    }
    if (more == NULL || more->exists.ptr == NULL) {
        return err;
    }
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, more->from.type != 0 ? TW_STR("range") : TW_STR("exists"));
    if (more->from.type != 0) {
        tw_bson_open_doc(b, more->exists);
        tw_bson_add_value(b, TW_STR("gte"), more->from);
        tw_bson_add_value(b, TW_STR("lte"), more->to);
        tw_bson_close(b);
    } else {
        tw_bson_add_str(b, TW_STR("field"), more->exists);
    }
    tw_bson_close(b);
    tw_bson_close(b);
    return err;
}

/* The query of the body, with what the function adds, for each collection; and what narrows it. */
static tw_err compile_query(embedded_job *job, tw_bson_value asked, const narrowed *more)
{
    tw_bson_builder b;
    tw_err err = TW_OK;
    tw_buf_clear(&job->built);
    tw_bson_begin(&b, &job->built);
    tw_bson_open_doc(&b, TW_STR("q"));
    tw_bson_open_doc(&b, TW_STR("bool"));
    if (asked.type != 0) {
        tw_bson_open_array(&b, TW_STR("must"));
        err = search_body_add_query(&b, TW_STR(""), asked, &job->why);
        tw_bson_close(&b);
    }
    tw_bson_open_array(&b, TW_STR("filter"));
    err = err == TW_OK ? add_filters(job, &b, more) : err;
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (err != TW_OK) {
        return err;
    }
    tw_bson whole = tw_arena_bson(&job->arena, tw_bson_end(&b));
    if (job->built.err != TW_OK || whole.ptr == NULL) {
        return TW_E_TOO_BIG;
    }
    tw_bson_value compiled = tw_bson_get(whole, TW_STR("q"));
    compiled =
        asked.type == 0 && more == NULL && tw_bson_get(args_of(job), TW_STR("filters")).type == 0
            ? (tw_bson_value){0}
            : compiled;
    for (size_t i = 0; i < job->targets_count && err == TW_OK; i++) {
        err = search_query_compile(&job->arena, compiled, &job->targets[i].collection->mapping,
                                   &job->targets[i].query, &job->why);
    }
    return err;
}

static tw_err compile_aggs(embedded_job *job, tw_bson aggs)
{
    const search_mapping **mappings =
        tw_arena_zero(&job->arena, job->targets_count + 1, sizeof(search_mapping *));
    for (size_t i = 0; mappings != NULL && i < job->targets_count; i++) {
        mappings[i] = &job->targets[i].collection->mapping;
    }
    return mappings == NULL ? TW_E_NO_MEMORY
                            : search_aggs_compile(&job->arena, aggs, mappings, job->targets_count,
                                                  &job->aggs, &job->why);
}

static uint64_t df(void *context, const search_field *field, tw_str term)
{
    return embedded_table_df(context, field->number, term);
}

/* Finds the candidates, from row `after` on. */
static tw_err find_candidates(embedded_job *job, int64_t after)
{
    embedded_table *table = embedded_search_table(job->search);
    tw_err err = TW_OK;
    for (size_t i = 0; i < job->targets_count && err == TW_OK; i++) {
        embedded_target *target = &job->targets[i];
        tw_buf sql;
        tw_buf_init(&sql, TW_DOCUMENT_MAX);
        bool narrow = search_query_sql(target->query, &sql);
        if (!narrow && sql.err == TW_OK) {
            tw_buf_clear(&sql);
        }
        err = sql.err != TW_OK ? sql.err
                               : embedded_table_candidates(table, &job->arena, target->collection,
                                                           tw_buf_str(&sql), after, &target->rows,
                                                           &target->rows_count);
        tw_buf_fini(&sql);
        if (err == TW_OK && job->sorts_count == 0 && !job->no_hits) {
            search_query_weigh(target->query, &target->collection->mapping, df, table);
        }
    }
    return err;
}

static tw_err begin_body(embedded_job *job, tw_bson_value given)
{
    search_body found;
    tw_bson_builder b;
    tw_buf_clear(&job->built);
    tw_bson_begin(&b, &job->built);
    tw_err err = search_body_add(&b, tw_bson_value_doc(given), &found, &job->why);
    if (err != TW_OK) {
        return err;
    }
    job->body = tw_arena_bson(&job->arena, tw_bson_end(&b));
    if (job->built.err != TW_OK || job->body.ptr == NULL) {
        return TW_E_TOO_BIG;
    }
    if (tw_bson_get(job->body, TW_STR("collapse")).type != 0) {
        return broker_refuse(&job->why, TW_E_BAD_QUERY,
                             "body: \"collapse\" is not supported by the embedded search; use "
                             "grouped_search.");
    }
    job->size = found.size < 0 ? HITS : found.size;
    job->from = found.from < 0 ? 0 : found.from;
    job->after = tw_bson_get_doc(job->body, TW_STR("search_after"));
    tw_bson aggs = tw_bson_get_doc(job->body, TW_STR("aggs"));
    err = embedded_sort_read(job, tw_bson_get_doc(job->body, TW_STR("sort")));
    if (err == TW_OK && job->after.len > 0 &&
        (job->sorts_count == 0 || tw_bson_count(job->after) != job->sorts_count || job->from > 0)) {
        return broker_refuse(
            &job->why, TW_E_BAD_QUERY,
            "search_after: is to hold a value for each key of sort, without from.");
    }
    err = err == TW_OK && aggs.len > 0 ? compile_aggs(job, aggs) : err;
    bool suggests = tw_bson_get(job->body, TW_STR("suggest")).type != 0 && found.query.type == 0;
    err = err == TW_OK ? compile_query(job, found.query, NULL) : err;
    if (err == TW_OK && suggests) {
        return TW_OK; /* without a query nothing but suggestions is wanted */
    }
    return err == TW_OK ? find_candidates(job, 0) : err;
}

/* offset, rows, sort, fields. */
static tw_err begin_page(embedded_job *job, const narrowed *more)
{
    tw_bson args = args_of(job);
    tw_bson_value sort = tw_bson_get(args, TW_STR("sort"));
    tw_bson_value told = tw_bson_get(args, TW_STR("fields"));
    tw_bson_builder b;
    tw_err err = TW_OK;
    job->size = tw_bson_get_i64_or(args, TW_STR("rows"), ROWS);
    job->from = tw_bson_get_i64_or(args, TW_STR("offset"), 0);
    if (job->size + job->from > TW_SEARCH_WINDOW_MAX) {
        return broker_refuse(&job->why, TW_E_BAD_QUERY,
                             "offset + rows is over %d; use stream_search.", TW_SEARCH_WINDOW_MAX);
    }
    tw_buf_clear(&job->built);
    tw_bson_begin(&b, &job->built);
    if (sort.type != 0) {
        err = search_body_add_sort(&b, sort, &job->why);
    }
    if (err != TW_OK) {
        return err;
    }
    tw_bson_open_doc(&b, TW_STR("_source"));
    if (told.type == TW_BSON_DOCUMENT) {
        tw_bson_iter iter;
        tw_bson_open_array(&b, TW_STR("includes"));
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(told)); tw_bson_iter_next(&iter);) {
            tw_bson_add_str(&b, TW_STR(""), iter.name);
        }
        tw_bson_close(&b);
    } else if (told.type != 0) {
        tw_bson_add_value(&b, TW_STR("includes"), told);
    }
    tw_bson_close(&b);
    job->body = tw_arena_bson(&job->arena, tw_bson_end(&b));
    err = job->body.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    if (err == TW_OK) {
        err = embedded_sort_read(job, tw_bson_get_doc(job->body, TW_STR("sort")));
    }
    return err == TW_OK ? compile_query(job, tw_bson_get(args, TW_STR("query")), more) : err;
}

static tw_err begin_search(embedded_job *job)
{
    tw_bson_value body = tw_bson_get(args_of(job), TW_STR("body"));
    if (body.type != 0) {
        return begin_body(job, body);
    }
    tw_err err = begin_page(job, NULL);
    return err == TW_OK ? find_candidates(job, 0) : err;
}

/* ---- the documents ---- */
static tw_err look_at(embedded_job *job, int64_t row)
{
    embedded_target *target = &job->targets[job->target_at];
    embedded_document held;
    double score = 0;
    if (!embedded_table_document(embedded_search_table(job->search), row, &held) ||
        !search_query_match(target->query, held.doc, held.id, &score) ||
        (target->filter != NULL && !query_match(target->filter, held.doc))) {
        return TW_OK;
    }
    job->total++;
    job->max_score = score > job->max_score ? score : job->max_score;
    tw_err err = job->aggs != NULL ? search_aggs_take(job->aggs, held.doc, held.id) : TW_OK;
    embedded_hit hit = {.row = row, .target = job->target_at, .score = score};
    return err == TW_OK && !job->no_hits ? embedded_hit_add(job, &hit, held.doc) : err;
}

tw_err embedded_job_step(embedded_job *job, bool *done)
{
    tw_err err = TW_OK;
    for (size_t i = 0; i < EMBEDDED_STEP && err == TW_OK && !job->full; i++) {
        while (job->target_at < job->targets_count &&
               job->row_at == job->targets[job->target_at].rows_count) {
            job->target_at++;
            job->row_at = 0;
        }
        if (job->target_at == job->targets_count) {
            *done = true;
            return TW_OK;
        }
        err = look_at(job, job->targets[job->target_at].rows[job->row_at++]);
        job->full = job->function->pages && job->hits_count == EMBEDDED_PAGE;
    }
    *done = job->full;
    return err;
}

/* ---- answers ---- */
static void begin_result(embedded_job *job, tw_bson_builder *b)
{
    tw_buf_clear(&job->built);
    tw_bson_begin(b, &job->built);
}

static tw_err answer_result(embedded_job *job, tw_bson_builder *b)
{
    tw_msg_search_answer answer = {.result = tw_bson_end(b)};
    if (job->built.err != TW_OK) {
        return TW_E_TOO_BIG;
    }
    embedded_job_answer(job, &answer);
    return TW_OK;
}

static void add_key(embedded_job *job, tw_bson_builder *b, const char *name, tw_str id)
{
    tw_key key;
    if (search_key_of_id(&job->arena, id, &key) == TW_OK) {
        tw_bson_add_key(b, tw_str_of(name), key);
    }
}

/* The document of a row under a name, or as the next of an array. */
static void add_document(embedded_job *job, const embedded_hit *hit, tw_bson_builder *b,
                         const char *name)
{
    const embedded_target *target = &job->targets[hit->target];
    embedded_document held;
    tw_key key;
    if (!embedded_table_document(embedded_search_table(job->search), hit->row, &held) ||
        search_key_of_id(&job->arena, held.id, &key) != TW_OK) {
        return;
    }
    tw_bson source = embedded_source(job, &held, tw_bson_get(job->body, TW_STR("_source")));
    tw_bson_open_doc(b, tw_str_of(name));
    search_doc_read(b, source, tw_str_of(target->collection->rules->key), tw_key_value(key));
    tw_bson_close(b);
}

static void add_page(embedded_job *job, tw_bson_builder *b)
{
    tw_bson args = args_of(job);
    tw_bson_add_i64(b, TW_STR("total"), (int64_t)job->total);
    tw_bson_add_i64(b, TW_STR("offset"), tw_bson_get_i64_or(args, TW_STR("offset"), 0));
    tw_bson_add_i64(b, TW_STR("rows"), tw_bson_get_i64_or(args, TW_STR("rows"), ROWS));
}

static tw_err end_body(embedded_job *job)
{
    tw_bson_builder b;
    tw_bson suggest = tw_bson_get_doc(job->body, TW_STR("suggest"));
    tw_err err = TW_OK;
    begin_result(job, &b);
    tw_bson_open_doc(&b, TW_STR("result"));
    tw_bson_add_bool(&b, TW_STR("timed_out"), false);
    tw_bson_open_doc(&b, TW_STR("hits"));
    tw_bson_open_doc(&b, TW_STR("total"));
    tw_bson_add_i64(&b, TW_STR("value"), (int64_t)job->total);
    tw_bson_add_str(&b, TW_STR("relation"), TW_STR("eq"));
    tw_bson_close(&b);
    if (job->total == 0 || job->sorts_count > 0 || job->size == 0) {
        tw_bson_add_null(&b, TW_STR("max_score"));
    } else {
        tw_bson_add_double(&b, TW_STR("max_score"), job->max_score);
    }
    tw_bson_open_array(&b, TW_STR("hits"));
    embedded_hits_write(job, &b);
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (job->aggs != NULL) {
        tw_bson_open_doc(&b, TW_STR("aggregations"));
        err = search_aggs_write(job->aggs, &b);
        tw_bson_close(&b);
    }
    if (err == TW_OK && suggest.len > 0) {
        err = embedded_suggest_write(job, suggest, &b);
    }
    tw_bson_close(&b);
    return err == TW_OK ? answer_result(job, &b) : err;
}

static tw_err end_search(embedded_job *job)
{
    tw_bson_builder b;
    if (tw_bson_get(args_of(job), TW_STR("body")).type != 0) {
        return end_body(job);
    }
    embedded_hits_sort(job);
    begin_result(job, &b);
    tw_bson_open_array(&b, TW_STR("items"));
    for (size_t i = (size_t)job->from; i < job->hits_count && i < (size_t)(job->from + job->size);
         i++) {
        add_document(job, &job->hits[i], &b, "");
    }
    tw_bson_close(&b);
    add_page(job, &b);
    return answer_result(job, &b);
}

/* ---- facet, stats, histogram: an aggregation named "all" ---- */
static tw_err begin_aggregation(embedded_job *job, tw_bson_builder *b, const narrowed *more)
{
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson aggs = tw_arena_bson(&job->arena, tw_bson_end(b));
    job->no_hits = true;
    if (job->built.err != TW_OK || aggs.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_err err = compile_aggs(job, aggs);
    if (err == TW_OK) {
        err = compile_query(job, tw_bson_get(args_of(job), TW_STR("query")), more);
    }
    return err == TW_OK ? find_candidates(job, 0) : err;
}

static void open_aggregation(embedded_job *job, tw_bson_builder *b, const char *kind)
{
    begin_result(job, b);
    tw_bson_open_doc(b, TW_STR("all"));
    tw_bson_open_doc(b, tw_str_of(kind));
    tw_bson_add_value(b, TW_STR("field"), tw_bson_get(args_of(job), TW_STR("field")));
}

/* What the aggregation gave; len 0: no memory. */
static tw_bson aggregated(embedded_job *job, tw_err *err)
{
    tw_bson_builder b;
    begin_result(job, &b);
    *err = search_aggs_write(job->aggs, &b);
    tw_bson made = tw_arena_bson(&job->arena, tw_bson_end(&b));
    *err = *err == TW_OK && (job->built.err != TW_OK || made.ptr == NULL) ? TW_E_TOO_BIG : *err;
    return tw_bson_get_doc(made, TW_STR("all"));
}

static tw_err begin_facet(embedded_job *job)
{
    tw_bson args = args_of(job);
    tw_bson_builder b;
    int64_t rows = tw_bson_get_i64_or(args, TW_STR("rows"), FACETS);
    open_aggregation(job, &b, "terms");
    tw_bson_add_i64(&b, TW_STR("size"), rows < 1 ? FACETS : rows);
    tw_bson_add_i64(&b, TW_STR("min_doc_count"), tw_bson_get_i64_or(args, TW_STR("mincount"), 1));
    return begin_aggregation(job, &b, NULL);
}

static tw_err begin_stats(embedded_job *job)
{
    tw_bson_builder b;
    open_aggregation(job, &b, "stats");
    return begin_aggregation(job, &b, NULL);
}

static tw_err check_steps(embedded_job *job, double start, double last, double gap)
{
    if (!(gap > 0) || !(last >= start)) {
        return broker_refuse(&job->why, TW_E_BAD_QUERY,
                             "histogram: \"gap\" is to be above 0, \"end\" not below \"start\".");
    }
    if ((last - start) / gap > (double)TW_SEARCH_BUCKETS_MAX) {
        return broker_refuse(&job->why, TW_E_TOO_COSTLY, "histogram: over %d gaps.",
                             TW_SEARCH_BUCKETS_MAX);
    }
    return TW_OK;
}

/* "+2d" and "2D" as "2d". */
static tw_str gap_of(embedded_job *job, tw_str gap)
{
    if (gap.len > 0 && (gap.ptr[0] == '+' || gap.ptr[0] == '-')) {
        gap = (tw_str){gap.ptr + 1, gap.len - 1};
    }
    char *text = tw_arena_alloc(&job->arena, gap.len + 1);
    if (text == NULL || gap.len == 0) {
        return TW_STR("");
    }
    memcpy(text, gap.ptr, gap.len);
    char *last = &text[gap.len - 1];
    *last = *last == 'H' ? 'h' : *last == 'D' ? 'd' : *last;
    return (tw_str){text, gap.len};
}

static tw_err begin_histogram(embedded_job *job)
{
    tw_bson args = args_of(job);
    tw_bson_value gap = tw_bson_get(args, TW_STR("gap"));
    tw_str text = tw_bson_value_str(gap);
    narrowed more = {.exists = tw_bson_get_str(args, TW_STR("field")),
                     .from = tw_bson_get(args, TW_STR("start")),
                     .to = tw_bson_get(args, TW_STR("end"))};
    bool numbers = tw_bson_value_is_number(more.from) && tw_bson_value_is_number(more.to) &&
                   tw_bson_value_is_number(gap);
    tw_bson_builder b;
    tw_err err = TW_OK;
    if (numbers) {
        err = check_steps(job, tw_bson_value_double(more.from), tw_bson_value_double(more.to),
                          tw_bson_value_double(gap));
    } else if (text.ptr == NULL) {
        err = broker_refuse(&job->why, TW_E_BAD_QUERY,
                            "histogram: give three numbers, or dates and a gap like \"1d\", "
                            "\"12h\", \"month\".");
    }
    if (err != TW_OK) {
        return err;
    }
    open_aggregation(job, &b, numbers ? "histogram" : "date_histogram");
    if (numbers) {
        tw_bson_add_value(&b, TW_STR("interval"), gap);
        tw_bson_add_value(&b, TW_STR("offset"), more.from);
    } else {
        tw_bson_add_str(&b, TW_STR("fixed_interval"), gap_of(job, text));
    }
    int64_t least = tw_bson_get_i64_or(args, TW_STR("mincount"), 1);
    tw_bson_add_i64(&b, TW_STR("min_doc_count"), least);
    if (least == 0) {
        tw_bson_open_doc(&b, TW_STR("extended_bounds"));
        tw_bson_add_value(&b, TW_STR("min"), more.from);
        tw_bson_add_value(&b, TW_STR("max"), more.to);
        tw_bson_close(&b);
    }
    return begin_aggregation(job, &b, &more);
}

static tw_str bucket_name(embedded_job *job, tw_bson bucket)
{
    tw_str text = tw_bson_get_str(bucket, TW_STR("key_as_string"));
    tw_bson_value key = tw_bson_get(bucket, TW_STR("key"));
    char scratch[64];
    text = text.ptr != NULL ? text : search_keyword_of(key, scratch);
    return tw_arena_str(&job->arena, text);
}

static tw_err end_buckets(embedded_job *job)
{
    tw_err err;
    tw_bson_iter iter;
    tw_bson_builder b;
    tw_bson all = aggregated(job, &err);
    if (err != TW_OK) {
        return err;
    }
    begin_result(job, &b);
    tw_bson_open_doc(&b, TW_STR("counts"));
    tw_bson_iter_init(&iter, tw_bson_get_doc(all, TW_STR("buckets")));
    while (tw_bson_iter_next(&iter)) {
        tw_bson bucket = tw_bson_value_doc(iter.value);
        tw_bson_add_i64(&b, bucket_name(job, bucket),
                        tw_bson_get_i64_or(bucket, TW_STR("doc_count"), 0));
    }
    tw_bson_close(&b);
    return answer_result(job, &b);
}

static tw_err end_stats(embedded_job *job)
{
    static const char *const names[] = {"min", "max", "avg", "count", "sum"};
    tw_err err;
    tw_bson_builder b;
    tw_bson all = aggregated(job, &err);
    if (err != TW_OK) {
        return err;
    }
    begin_result(job, &b);
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        tw_bson_add_value(&b, tw_str_of(names[i]), tw_bson_get(all, tw_str_of(names[i])));
    }
    return answer_result(job, &b);
}

/* ---- grouped_search: hits in order, gathered by their value ---- */
static tw_err begin_grouped(embedded_job *job)
{
    narrowed more = {.exists = tw_bson_get_str(args_of(job), TW_STR("group_field"))};
    tw_err err = begin_page(job, &more);
    for (size_t i = 0; i < job->targets_count && err == TW_OK; i++) {
        const search_field *field =
            search_mapping_find(&job->targets[i].collection->mapping, more.exists);
        if (field != NULL && field->type == SEARCH_TEXT) {
            return broker_refuse(&job->why, TW_E_BAD_QUERY,
                                 "grouped_search: a text field has no values; use its keyword "
                                 "field.");
        }
    }
    job->from = 0;
    job->size = TW_SEARCH_WINDOW_MAX; /* the best; more of them: it is told */
    return err == TW_OK ? find_candidates(job, 0) : err;
}

typedef struct group {
    tw_bson_value value;
    size_t first, count;
    tw_str text;
} group;

static bool first_value(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    if (value.type == TW_BSON_NULL) {
        return true;
    }
    *(tw_bson_value *)context = value;
    return false;
}

/* The group that each hit is in; values are kept, as the document goes with the next. */
static tw_err gather(embedded_job *job, group *groups, size_t *of, size_t *count)
{
    tw_str name = tw_bson_get_str(args_of(job), TW_STR("group_field"));
    for (size_t i = 0; i < job->hits_count; i++) {
        const embedded_collection *held = job->targets[job->hits[i].target].collection;
        const search_field *field = search_mapping_find(&held->mapping, name);
        embedded_document doc;
        tw_bson_value value = {0};
        char scratch[64];
        of[i] = SIZE_MAX;
        if (field == NULL ||
            !embedded_table_document(embedded_search_table(job->search), job->hits[i].row, &doc)) {
            continue;
        }
        search_walk(doc.doc, field->path, first_value, &value);
        tw_str text = search_keyword_of(value, scratch);
        size_t at = 0;
        while (at < *count && !tw_str_equal(groups[at].text, text)) {
            at++;
        }
        if (text.ptr == NULL) {
            continue;
        }
        if (at == *count) {
            if (*count == TW_SEARCH_ITEMS_MAX) {
                return broker_refuse(&job->why, TW_E_TOO_COSTLY, "grouped_search: over %d groups.",
                                     TW_SEARCH_ITEMS_MAX);
            }
            tw_str bytes = tw_arena_str(&job->arena, (tw_str){(const char *)value.ptr, value.len});
            groups[at] = (group){.value = {value.type, (const uint8_t *)bytes.ptr, bytes.len},
                                 .text = tw_arena_str(&job->arena, text)};
            (*count)++;
            if (groups[at].text.ptr == NULL || bytes.ptr == NULL) {
                return TW_E_NO_MEMORY;
            }
        }
        groups[at].count++;
        of[i] = at;
    }
    return TW_OK;
}

static tw_err end_grouped(embedded_job *job)
{
    tw_bson args = args_of(job);
    int64_t limit = tw_bson_get_i64_or(args, TW_STR("limit"), 1);
    int64_t rows = tw_bson_get_i64_or(args, TW_STR("rows"), ROWS);
    int64_t offset = tw_bson_get_i64_or(args, TW_STR("offset"), 0);
    group *groups = tw_arena_zero(&job->arena, TW_SEARCH_ITEMS_MAX, sizeof *groups);
    size_t *of = tw_arena_zero(&job->arena, job->hits_count + 1, sizeof *of);
    size_t count = 0;
    tw_bson_builder b;
    embedded_hits_sort(job);
    job->hits_count =
        job->hits_count > TW_SEARCH_WINDOW_MAX ? TW_SEARCH_WINDOW_MAX : job->hits_count;
    tw_err err = groups == NULL || of == NULL ? TW_E_NO_MEMORY : gather(job, groups, of, &count);
    if (err != TW_OK) {
        return err;
    }
    begin_result(job, &b);
    tw_bson_open_array(&b, TW_STR("groups"));
    for (size_t i = (size_t)offset; i < count && i < (size_t)(offset + rows); i++) {
        int64_t told = 0;
        tw_bson_open_doc(&b, TW_STR(""));
        tw_bson_add_value(&b, TW_STR("value"), groups[i].value);
        tw_bson_add_i64(&b, TW_STR("total"), (int64_t)groups[i].count);
        tw_bson_open_array(&b, TW_STR("items"));
        for (size_t k = 0; k < job->hits_count && told < limit; k++) {
            if (of[k] == i) {
                add_document(job, &job->hits[k], &b, "");
                told++;
            }
        }
        tw_bson_close(&b);
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    if (job->total > job->hits_count) { /* groups, and members of them, may be among the rest */
        tw_bson_add_bool(&b, TW_STR("truncated"), true);
    }
    add_page(job, &b);
    return answer_result(job, &b);
}

/* ---- stream_search and keys: in order of rows, so that changes meanwhile repeat nothing ---- */
static tw_err begin_stream(embedded_job *job)
{
    tw_str bytes = job->asked.search_ask.cursor;
    tw_bson cursor = {NULL, 0};
    if (bytes.len > 0 &&
        tw_bson_validate(bytes.ptr, bytes.len, TW_DEPTH_CLIENT_MAX, &cursor) != TW_OK) {
        return TW_E_BAD_MESSAGE;
    }
    job->last_row = tw_bson_get_i64_or(cursor, TW_STR("row"), 0);
    job->counted = (uint64_t)tw_bson_get_i64_or(cursor, TW_STR("count"), 0);
    int64_t end = tw_bson_get_i64_or(cursor, TW_STR("end"), INT64_MAX);
    tw_err err = begin_page(job, NULL);
    job->from = 0;
    job->size = EMBEDDED_PAGE;
    if (err == TW_OK && job->sorts_count == 0) { /* by row, without scores */
        job->sorts[job->sorts_count++] = (embedded_sort){.name = TW_STR("_doc"), .row = true};
        err = find_candidates(job, job->last_row);
    }
    embedded_target *target = &job->targets[0];
    while (err == TW_OK && target->rows_count > 0 && target->rows[target->rows_count - 1] > end) {
        target->rows_count--; /* documents that came after the first page */
    }
    return err;
}

static tw_err end_stream(embedded_job *job)
{
    bool keys = job->function->name[0] == 'k';
    const embedded_target *target = &job->targets[0];
    tw_item_search_item *items = tw_arena_zero(&job->arena, job->hits_count + 1, sizeof *items);
    size_t count = 0;
    tw_bson_builder b;
    for (size_t i = 0; items != NULL && i < job->hits_count; i++) {
        embedded_document held;
        begin_result(job, &b);
        if (!keys) {
            add_document(job, &job->hits[i], &b, "doc");
        } else if (embedded_table_document(embedded_search_table(job->search), job->hits[i].row,
                                           &held)) {
            add_key(job, &b, "key", held.id);
        }
        tw_bson built = tw_bson_end(&b);
        items[count++].doc =
            job->built.err == TW_OK ? tw_arena_bson(&job->arena, built) : (tw_bson){NULL, 0};
        if (items[count - 1].doc.ptr == NULL) {
            return TW_E_TOO_BIG;
        }
    }
    tw_msg_search_answer answer = {.count = job->counted + count, .items = {items, count}};
    bool more = job->full && job->row_at < target->rows_count;
    if (more) {
        begin_result(job, &b);
        tw_bson_add_i64(&b, TW_STR("row"), job->hits[job->hits_count - 1].row);
        tw_bson_add_i64(&b, TW_STR("count"), (int64_t)answer.count);
        tw_bson_add_i64(&b, TW_STR("end"), target->rows[target->rows_count - 1]);
        tw_bson cursor = tw_bson_end(&b);
        answer.cursor = (tw_str){(const char *)cursor.ptr, cursor.len};
    }
    embedded_job_answer(job, &answer);
    return TW_OK;
}

/* ---- what has no cluster to be done at ---- */
static tw_err end_fields(embedded_job *job)
{
    tw_bson_builder b;
    const search_mapping *mapping = &job->targets[0].collection->mapping;
    begin_result(job, &b);
    tw_bson_open_doc(&b, TW_STR("fields"));
    for (size_t i = 0; i < mapping->count; i++) {
        const search_field *field = &mapping->at[i];
        tw_bson_open_doc(&b, field->name);
        tw_bson_add_str(&b, TW_STR("type"), field->told);
        tw_bson_add_bool(&b, TW_STR("indexed"), field->type != SEARCH_OPAQUE);
        tw_bson_add_bool(&b, TW_STR("stored"), false);
        tw_bson_add_bool(&b, TW_STR("list"), field->list);
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    return answer_result(job, &b);
}

static bool is_dry(const embedded_job *job)
{
    return tw_bson_get_bool_or(args_of(job), TW_STR("dry_run"), false);
}

/* What was written is searched at once, and lies in the file. */
static tw_err end_commit(embedded_job *job)
{
    tw_bson_builder b;
    begin_result(job, &b);
    tw_bson_add_bool(&b, TW_STR("committed"), !is_dry(job));
    if (is_dry(job)) {
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    } else {
        tw_bson_add_i64(&b, TW_STR("shards"), 1);
    }
    return answer_result(job, &b);
}

/* The whole index is made anew from the log, behind this answer. */
static tw_err end_reindex(embedded_job *job)
{
    tw_bson_builder b;
    begin_result(job, &b);
    if (is_dry(job)) {
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    }
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)job->targets[0].collection->docs);
    if (!is_dry(job)) {
        embedded_search_rebuild(job->search);
    }
    return answer_result(job, &b);
}

static tw_err end_fix(embedded_job *job)
{
    static const struct {
        const char *function, *setting, *value;
    } rows[] = {{"fix_replicas", "index.number_of_replicas", "0"},
                {"fix_shards", "index.number_of_shards", "1"},
                {"fix_ilm", "index.lifecycle.name", NULL}};
    tw_bson_builder b;
    begin_result(job, &b);
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        if (strcmp(rows[i].function, job->function->name) != 0) {
            continue;
        }
        tw_bson_add_str(&b, TW_STR("setting"), tw_str_of(rows[i].setting));
        if (rows[i].value == NULL) {
            tw_bson_add_null(&b, TW_STR("was"));
            tw_bson_add_null(&b, TW_STR("wanted"));
        } else {
            tw_bson_add_str(&b, TW_STR("was"), tw_str_of(rows[i].value));
            tw_bson_add_str(&b, TW_STR("wanted"), tw_str_of(rows[i].value));
        }
    }
    tw_bson_add_bool(&b, TW_STR("changed"), false);
    tw_bson_add_str(&b, TW_STR("why"),
                    TW_STR("The embedded search has no cluster: there is nothing to fix."));
    if (is_dry(job)) {
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    }
    return answer_result(job, &b);
}

static const embedded_function functions[] = {
    {"search", begin_search, end_search, false},
    {"stream_search", begin_stream, end_stream, true},
    {"keys", begin_stream, end_stream, true},
    {"facet", begin_facet, end_buckets, false},
    {"stats", begin_stats, end_stats, false},
    {"histogram", begin_histogram, end_buckets, false},
    {"grouped_search", begin_grouped, end_grouped, false},
    {"fields", NULL, end_fields, false},
    {"commit", NULL, end_commit, false},
    {"reindex", NULL, end_reindex, false},
    {"fix_ilm", NULL, end_fix, false},
    {"fix_replicas", NULL, end_fix, false},
    {"fix_shards", NULL, end_fix, false},
};

const embedded_function *embedded_function_of(tw_str name)
{
    for (size_t i = 0; i < TW_COUNT(functions); i++) {
        if (tw_str_equal(name, tw_str_of(functions[i].name))) {
            return &functions[i];
        }
    }
    return NULL;
}
