/* es_proxy_search.c - the functions that search: bodies go through broker/search_body.h, and every
 * query stands beside the filter of its collection, which the asker cannot see or change. */
#include "broker/search_body.h"
#include "broker/search_filter.h"

#include "actors/search/es_proxy_priv.h"

enum { ROWS = 25, FACETS = 10, ENGINE_MARGIN_MS = 200, ENGINE_LEAST_MS = 100 };

/* Whether a work has failed is told by `false`: it is gone then. */
static bool refused(es_work *work, tw_err err, const broker_why *why)
{
    if (err == TW_OK) {
        return false;
    }
    es_fail(work, err, "%s", why->text);
    return true;
}

/* ---- queries ---- */
static void add_term(tw_bson_builder *b, const char *field, const char *value)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("term"));
    tw_bson_add_str(b, tw_str_of(field), tw_str_of(value));
    tw_bson_close(b);
    tw_bson_close(b);
}

/* Each target with its own filter; one without a filter among several is named too. */
static tw_err add_filters(es_work *work, tw_bson_builder *b, broker_why *why)
{
    const tw_list_search_target *targets = &work->asked.search_ask.targets;
    bool any = false;
    for (size_t i = 0; i < targets->count; i++) {
        any = any || targets->at[i].filter.len > 0;
    }
    if (!any) {
        return TW_OK;
    }
    if (targets->count == 1) {
        return search_filter_add(b, TW_STR(""), targets->at[0].filter, why);
    }
    tw_err err = TW_OK;
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("bool"));
    tw_bson_add_i64(b, TW_STR("minimum_should_match"), 1);
    tw_bson_open_array(b, TW_STR("should"));
    for (size_t i = 0; i < targets->count && err == TW_OK; i++) {
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_open_doc(b, TW_STR("bool"));
        tw_bson_open_array(b, TW_STR("filter"));
        add_term(b, "_index", work->indices[i]->alias);
        err = search_filter_add(b, TW_STR(""), targets->at[i].filter, why);
        tw_bson_close(b);
        tw_bson_close(b);
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson_close(b);
    return err;
}

static void add_exists(tw_bson_builder *b, tw_str field)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("exists"));
    tw_bson_add_str(b, TW_STR("field"), field);
    tw_bson_close(b);
    tw_bson_close(b);
}

/* What a function adds to the filters of its query. */
typedef struct narrowed {
    tw_str exists;          /* ptr NULL: nothing */
    tw_bson_value from, to; /* with exists: a range */
} narrowed;

static void add_range(tw_bson_builder *b, const narrowed *more)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("range"));
    tw_bson_open_doc(b, more->exists);
    tw_bson_add_value(b, TW_STR("gte"), more->from);
    tw_bson_add_value(b, TW_STR("lte"), more->to);
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson_close(b);
}

/* "query": what was asked, filters, the collection's own, and never the server's own document. */
static tw_err add_query(es_work *work, tw_bson_builder *b, tw_bson_value query,
                        const narrowed *more, broker_why *why)
{
    tw_bson_value filters = tw_bson_get(work->asked.search_ask.args, TW_STR("filters"));
    tw_err err = TW_OK;
    tw_bson_open_doc(b, TW_STR("query"));
    tw_bson_open_doc(b, TW_STR("bool"));
    if (query.type != 0) {
        tw_bson_open_array(b, TW_STR("must"));
        err = search_body_add_query(b, TW_STR(""), query, why);
        tw_bson_close(b);
    }
    tw_bson_open_array(b, TW_STR("filter"));
    if (err == TW_OK && filters.type != 0 && filters.type != TW_BSON_ARRAY) {
        err = search_body_add_query(b, TW_STR(""), filters, why);
    }
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, filters.type == TW_BSON_ARRAY ? tw_bson_value_doc(filters)
                                                           : (tw_bson){NULL, 0});
    while (err == TW_OK && tw_bson_iter_next(&iter)) {
        err = search_body_add_query(b, TW_STR(""), iter.value, why);
    }
    if (err == TW_OK && more != NULL && more->from.type != 0) {
        add_range(b, more);
    } else if (err == TW_OK && more != NULL && more->exists.ptr != NULL) {
        add_exists(b, more->exists);
    }
    if (err == TW_OK) {
        err = add_filters(work, b, why);
    }
    tw_bson_close(b);
    tw_bson_open_array(b, TW_STR("must_not"));
    add_exists(b, TW_STR("_tw.state"));
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson_close(b);
    return err;
}

static void add_timeout(es_work *work, tw_bson_builder *b)
{
    uint64_t now_ms = tw_now_ms(work->proxy->actor);
    uint64_t left_ms = work->deadline_ms > now_ms ? work->deadline_ms - now_ms : 0;
    left_ms =
        left_ms > ENGINE_MARGIN_MS + ENGINE_LEAST_MS ? left_ms - ENGINE_MARGIN_MS : ENGINE_LEAST_MS;
    tw_bson_add_str(b, TW_STR("timeout"),
                    tw_str_of(es_text(work, "%llums", (unsigned long long)left_ms)));
}

/* A list of names, or one; without them all. The server's own field is left out of what comes back
 * anyhow: an engine that is to do so reads each document anew. */
static void add_fields_told(tw_bson_builder *b, tw_bson_value told)
{
    if (told.type == 0) {
        return;
    }
    tw_bson_open_doc(b, TW_STR("_source"));
    if (told.type == TW_BSON_STRING) {
        tw_bson_add_value(b, TW_STR("includes"), told);
    } else if (told.type == TW_BSON_DOCUMENT) {
        tw_bson_iter iter;
        tw_bson_open_array(b, TW_STR("includes"));
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(told)); tw_bson_iter_next(&iter);) {
            tw_bson_add_str(b, TW_STR(""), iter.name);
        }
        tw_bson_close(b);
    } else if (told.type == TW_BSON_ARRAY) {
        tw_bson_add_value(b, TW_STR("includes"), told);
    }
    tw_bson_add_str(b, TW_STR("excludes"), TW_STR("_tw"));
    tw_bson_close(b);
}

static void post_search(es_work *work, tw_bson_builder *b, const char *path, es_answered answered)
{
    const es_call call = {
        .method = "POST", .path = path, .body = es_json(work, b), .idempotent = true};
    es_call_send(work, &call, answered);
}

static bool timed_out(es_work *work, const es_reply *reply)
{
    if (!tw_bson_get_bool_or(reply->body, TW_STR("timed_out"), false)) {
        return false;
    }
    es_fail(work, TW_E_TIMEOUT, "The engine did not finish the search in time.");
    return true;
}

/* ---- hits ---- */
static const es_index *index_of_hit(const es_work *work, tw_str name)
{
    for (size_t i = 0; i < work->indices_count; i++) {
        tw_str alias = tw_str_of(work->indices[i]->alias);
        bool begins = name.len >= alias.len && memcmp(name.ptr, alias.ptr, alias.len) == 0;
        if (begins &&
            (name.len == alias.len || (name.len == alias.len + 7 && name.ptr[alias.len] == '-'))) {
            return work->indices[i];
        }
    }
    return NULL;
}

/* A document without what is the server's own. */
static void copy_source(tw_bson_builder *b, tw_str name, tw_bson source)
{
    tw_bson_iter iter;
    tw_bson_open_doc(b, name);
    for (tw_bson_iter_init(&iter, source); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("_tw"))) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
    tw_bson_close(b);
}

/* Copies a reply; names of indices become those of collections, shards are the engine's matter. */
static void copy_reply(const es_work *work, tw_bson_builder *b, tw_bson doc, int depth)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        bool nested = iter.value.type == TW_BSON_DOCUMENT || iter.value.type == TW_BSON_ARRAY;
        bool underscored = iter.name.len > 0 && iter.name.ptr[0] == '_';
        if (underscored && depth == 0 && tw_str_equal(iter.name, TW_STR("_shards"))) {
            continue;
        }
        if (underscored && tw_str_equal(iter.name, TW_STR("_index"))) {
            const es_index *index = index_of_hit(work, tw_bson_value_str(iter.value));
            tw_bson_add_str(b, iter.name, tw_str_of(index == NULL ? "" : index->rules->name));
        } else if (iter.value.type == TW_BSON_DOCUMENT &&
                   tw_str_equal(iter.name, TW_STR("_source"))) {
            copy_source(b, iter.name, tw_bson_value_doc(iter.value));
        } else if (!nested || depth >= TW_DEPTH_MAX) {
            tw_bson_add_value(b, iter.name, iter.value);
        } else {
            if (iter.value.type == TW_BSON_ARRAY) {
                tw_bson_open_array(b, iter.name);
            } else {
                tw_bson_open_doc(b, iter.name);
            }
            copy_reply(work, b, tw_bson_value_doc(iter.value), depth + 1);
            tw_bson_close(b);
        }
    }
}

static void add_hits(es_work *work, tw_bson_builder *b, tw_bson hits)
{
    tw_bson_iter iter;
    tw_bson_open_array(b, TW_STR("items"));
    for (tw_bson_iter_init(&iter, hits); tw_bson_iter_next(&iter);) {
        tw_bson hit = tw_bson_value_doc(iter.value);
        const es_index *index = index_of_hit(work, tw_bson_get_str(hit, TW_STR("_index")));
        tw_str id = tw_bson_get_str(hit, TW_STR("_id"));
        if (index == NULL || id.ptr == NULL) {
            continue;
        }
        tw_bson_open_doc(b, TW_STR(""));
        search_doc_read(b, tw_bson_get_doc(hit, TW_STR("_source")), tw_str_of(index->rules->key),
                        es_document_key(work, index, id));
        tw_bson_close(b);
    }
    tw_bson_close(b);
}

static int64_t total_of(tw_bson hits)
{
    tw_bson_value total = tw_bson_get(hits, TW_STR("total")); /* a number before Elasticsearch 7 */
    int64_t value = 0;
    (void)(tw_bson_value_i64(total, &value) ||
           tw_bson_value_i64(tw_bson_get(tw_bson_value_doc(total), TW_STR("value")), &value));
    return value;
}

/* ---- search ---- */
static void on_raw(es_work *work, const es_reply *reply)
{
    tw_bson_builder b;
    if (timed_out(work, reply)) {
        return;
    }
    es_result_begin(work, &b);
    tw_bson_open_doc(&b, TW_STR("result"));
    copy_reply(work, &b, reply->body, 0);
    tw_bson_close(&b);
    es_answer_result(work, &b);
}

static void on_page(es_work *work, const es_reply *reply)
{
    tw_bson args = work->asked.search_ask.args;
    tw_bson hits = tw_bson_get_doc(reply->body, TW_STR("hits"));
    tw_bson_builder b;
    if (timed_out(work, reply)) {
        return;
    }
    es_result_begin(work, &b);
    add_hits(work, &b, tw_bson_get_doc(hits, TW_STR("hits")));
    tw_bson_add_i64(&b, TW_STR("total"), total_of(hits));
    tw_bson_add_i64(&b, TW_STR("offset"), tw_bson_get_i64_or(args, TW_STR("offset"), 0));
    tw_bson_add_i64(&b, TW_STR("rows"), tw_bson_get_i64_or(args, TW_STR("rows"), ROWS));
    es_answer_result(work, &b);
}

/* offset, rows, sort, fields: of search and grouped_search. */
static tw_err add_paging(es_work *work, tw_bson_builder *b, broker_why *why)
{
    tw_bson args = work->asked.search_ask.args;
    tw_bson_value sort = tw_bson_get(args, TW_STR("sort"));
    int64_t rows = tw_bson_get_i64_or(args, TW_STR("rows"), ROWS);
    int64_t offset = tw_bson_get_i64_or(args, TW_STR("offset"), 0);
    if (rows + offset > TW_SEARCH_WINDOW_MAX) {
        return broker_refuse(why, TW_E_BAD_QUERY, "offset + rows is over %d; use stream_search.",
                             TW_SEARCH_WINDOW_MAX);
    }
    tw_bson_add_i64(b, TW_STR("size"), rows);
    tw_bson_add_i64(b, TW_STR("from"), offset);
    tw_bson_add_bool(b, TW_STR("track_total_hits"), true);
    return sort.type == 0 ? TW_OK : search_body_add_sort(b, sort, why);
}

void es_search(es_work *work)
{
    tw_bson args = work->asked.search_ask.args;
    tw_bson_value body = tw_bson_get(args, TW_STR("body"));
    const char *path = es_path(work, "/_search?allow_partial_search_results=false");
    broker_why why = {.text = ""};
    tw_bson_builder b;
    tw_err err;
    es_begin(work, &b);
    add_timeout(work, &b);
    if (body.type != 0) {
        search_body found;
        err = search_body_add(&b, tw_bson_value_doc(body), &found, &why);
        if (err == TW_OK) {
            err = add_query(work, &b, found.query, NULL, &why);
        }
        if (!refused(work, err, &why)) {
            post_search(work, &b, path, on_raw);
        }
        return;
    }
    err = add_paging(work, &b, &why);
    add_fields_told(&b, tw_bson_get(args, TW_STR("fields")));
    if (err == TW_OK) {
        err = add_query(work, &b, tw_bson_get(args, TW_STR("query")), NULL, &why);
    }
    if (!refused(work, err, &why)) {
        post_search(work, &b, path, on_page);
    }
}

/* ---- facet, stats, histogram ---- */
static bool begin_aggregation(es_work *work, tw_bson_builder *b, const narrowed *more)
{
    broker_why why = {.text = ""};
    es_begin(work, b);
    add_timeout(work, b);
    tw_bson_add_i64(b, TW_STR("size"), 0);
    tw_err err =
        add_query(work, b, tw_bson_get(work->asked.search_ask.args, TW_STR("query")), more, &why);
    if (refused(work, err, &why)) {
        return false;
    }
    tw_bson_open_doc(b, TW_STR("aggs"));
    tw_bson_open_doc(b, TW_STR("all"));
    return true;
}

static void send_aggregation(es_work *work, tw_bson_builder *b, es_answered answered)
{
    tw_bson_close(b);
    tw_bson_close(b);
    post_search(work, b, es_path(work, "/_search?allow_partial_search_results=false"), answered);
}

static tw_bson aggregation_of(const es_reply *reply)
{
    tw_bson all = tw_bson_get_doc(reply->body, TW_STR("aggregations"));
    return tw_bson_get_doc(all, TW_STR("all"));
}

/* The name of a bucket: as the engine spells it where it has a spelling, else its value. */
static tw_str bucket_name(es_work *work, tw_bson bucket)
{
    tw_str text = tw_bson_get_str(bucket, TW_STR("key_as_string"));
    tw_bson_value key = tw_bson_get(bucket, TW_STR("key"));
    text = text.ptr != NULL ? text : tw_bson_value_str(key);
    if (text.ptr != NULL) {
        return text;
    }
    int64_t whole;
    if (tw_bson_value_i64(key, &whole)) {
        return tw_str_of(es_text(work, "%lld", (long long)whole));
    }
    tw_buf number;
    tw_buf_init(&number, 64);
    search_json_value(&number, key);
    text = tw_arena_str(&work->arena, tw_buf_str(&number));
    tw_buf_fini(&number);
    return text;
}

static void on_buckets(es_work *work, const es_reply *reply)
{
    tw_bson_builder b;
    tw_bson_iter iter;
    if (timed_out(work, reply)) {
        return;
    }
    es_result_begin(work, &b);
    tw_bson_open_doc(&b, TW_STR("counts"));
    tw_bson_iter_init(&iter, tw_bson_get_doc(aggregation_of(reply), TW_STR("buckets")));
    while (tw_bson_iter_next(&iter)) {
        tw_bson bucket = tw_bson_value_doc(iter.value);
        tw_bson_add_i64(&b, bucket_name(work, bucket),
                        tw_bson_get_i64_or(bucket, TW_STR("doc_count"), 0));
    }
    tw_bson_close(&b);
    es_answer_result(work, &b);
}

void es_facet(es_work *work)
{
    tw_bson args = work->asked.search_ask.args;
    tw_bson_builder b;
    if (!begin_aggregation(work, &b, NULL)) {
        return;
    }
    int64_t rows = tw_bson_get_i64_or(args, TW_STR("rows"), FACETS);
    tw_bson_open_doc(&b, TW_STR("terms"));
    tw_bson_add_str(&b, TW_STR("field"), tw_bson_get_str(args, TW_STR("field")));
    tw_bson_add_i64(&b, TW_STR("size"), rows < 1 ? FACETS : rows);
    tw_bson_add_i64(&b, TW_STR("min_doc_count"), tw_bson_get_i64_or(args, TW_STR("mincount"), 1));
    tw_bson_close(&b);
    send_aggregation(work, &b, on_buckets);
}

static void on_stats(es_work *work, const es_reply *reply)
{
    static const char *const names[] = {"min", "max", "avg", "count", "sum"};
    tw_bson_builder b;
    if (timed_out(work, reply)) {
        return;
    }
    es_result_begin(work, &b);
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        tw_bson_value value = tw_bson_get(aggregation_of(reply), tw_str_of(names[i]));
        if (value.type != 0) {
            tw_bson_add_value(&b, tw_str_of(names[i]), value);
        } else {
            tw_bson_add_null(&b, tw_str_of(names[i]));
        }
    }
    es_answer_result(work, &b);
}

void es_stats(es_work *work)
{
    tw_bson_builder b;
    if (!begin_aggregation(work, &b, NULL)) {
        return;
    }
    tw_bson_open_doc(&b, TW_STR("stats"));
    tw_bson_add_str(&b, TW_STR("field"),
                    tw_bson_get_str(work->asked.search_ask.args, TW_STR("field")));
    tw_bson_close(&b);
    send_aggregation(work, &b, on_stats);
}

/* "+1d", "12h" -> the engine's unit; milliseconds in *ms, 0: by the calendar (month, year). */
static bool read_gap(tw_str text, char out[24], bool *calendar, uint64_t *ms)
{
    static const struct {
        const char *name, *engine;
        uint64_t ms;
    } units[] = {{"ms", "ms", 1},        {"s", "s", 1000},
                 {"m", "m", 60000},      {"h", "h", 3600000},
                 {"H", "h", 3600000},    {"d", "d", 86400000},
                 {"D", "d", 86400000},   {"w", "w", 604800000},
                 {"M", "M", 0},          {"y", "y", 0},
                 {"month", "M", 0},      {"year", "y", 0},
                 {"day", "d", 86400000}, {"hour", "h", 3600000},
                 {"minute", "m", 60000}, {"week", "w", 604800000},
                 {"second", "s", 1000}};
    if (text.len > 0 && (text.ptr[0] == '+' || text.ptr[0] == '-')) {
        text = (tw_str){text.ptr + 1, text.len - 1};
    }
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') {
        digits++;
    }
    uint64_t count = 1;
    if (digits > 0 && tw_parse_u64((tw_str){text.ptr, digits}, 1000000, &count) != TW_OK) {
        return false;
    }
    tw_str unit = {text.ptr + digits, text.len - digits};
    for (size_t i = 0; i < TW_COUNT(units) && count > 0; i++) {
        if (!tw_str_equal(unit, tw_str_of(units[i].name))) {
            continue;
        }
        *ms = units[i].ms * count;
        *calendar = units[i].ms == 0;
        bool week = units[i].engine[0] == 'w'; /* fixed intervals know days at most */
        tw_format(out, 24, "%llu%s", (unsigned long long)(week ? count * 7 : count),
                  week ? "d" : units[i].engine);
        return !*calendar || count == 1;
    }
    return false;
}

static bool is_number(tw_bson_value value)
{
    return tw_bson_value_is_number(value);
}

static tw_err check_steps(double start, double last, double gap, broker_why *why)
{
    if (!(gap > 0) || !(last >= start)) {
        return broker_refuse(why, TW_E_BAD_QUERY,
                             "histogram: \"gap\" is to be above 0, \"end\" not below \"start\".");
    }
    if ((last - start) / gap > (double)TW_SEARCH_BUCKETS_MAX) {
        return broker_refuse(why, TW_E_TOO_COSTLY, "histogram: over %d gaps from start to end.",
                             TW_SEARCH_BUCKETS_MAX);
    }
    return TW_OK;
}

static void add_bounds(tw_bson_builder *b, tw_bson args)
{
    tw_bson_add_i64(b, TW_STR("min_doc_count"), tw_bson_get_i64_or(args, TW_STR("mincount"), 1));
    if (tw_bson_get_i64_or(args, TW_STR("mincount"), 1) == 0) {
        tw_bson_open_doc(b, TW_STR("extended_bounds"));
        tw_bson_add_value(b, TW_STR("min"), tw_bson_get(args, TW_STR("start")));
        tw_bson_add_value(b, TW_STR("max"), tw_bson_get(args, TW_STR("end")));
        tw_bson_close(b);
    }
}

void es_histogram(es_work *work)
{
    tw_bson args = work->asked.search_ask.args;
    tw_bson_value gap = tw_bson_get(args, TW_STR("gap"));
    narrowed more = {.exists = tw_bson_get_str(args, TW_STR("field")),
                     .from = tw_bson_get(args, TW_STR("start")),
                     .to = tw_bson_get(args, TW_STR("end"))};
    bool numbers = is_number(more.from) && is_number(more.to) && is_number(gap);
    bool dates = tw_bson_value_str(gap).ptr != NULL;
    char interval[24] = "";
    bool calendar = false;
    uint64_t gap_ms = 0;
    broker_why why = {.text = ""};
    tw_err err = TW_OK;
    if (numbers) {
        err = check_steps(tw_bson_value_double(more.from), tw_bson_value_double(more.to),
                          tw_bson_value_double(gap), &why);
    } else if (!dates || !read_gap(tw_bson_value_str(gap), interval, &calendar, &gap_ms)) {
        err = broker_refuse(&why, TW_E_BAD_QUERY,
                            "histogram: give three numbers, or dates and a gap like \"1d\", "
                            "\"12h\", \"month\".");
    }
    tw_bson_builder b;
    if (refused(work, err, &why) || !begin_aggregation(work, &b, &more)) {
        return;
    }
    tw_bson_open_doc(&b, numbers ? TW_STR("histogram") : TW_STR("date_histogram"));
    tw_bson_add_str(&b, TW_STR("field"), more.exists);
    if (numbers) {
        tw_bson_add_value(&b, TW_STR("interval"), gap);
        tw_bson_add_value(&b, TW_STR("offset"), more.from); /* the first gap begins at start */
    } else {
        tw_bson_add_str(&b, calendar ? TW_STR("calendar_interval") : TW_STR("fixed_interval"),
                        tw_str_of(interval));
    }
    add_bounds(&b, args);
    tw_bson_close(&b);
    send_aggregation(work, &b, on_buckets);
}

/* ---- grouped_search ---- */
static void on_groups(es_work *work, const es_reply *reply)
{
    tw_bson args = work->asked.search_ask.args;
    tw_str field = tw_bson_get_str(args, TW_STR("group_field"));
    tw_bson hits = tw_bson_get_doc(reply->body, TW_STR("hits"));
    tw_bson_builder b;
    tw_bson_iter iter;
    if (timed_out(work, reply)) {
        return;
    }
    es_result_begin(work, &b);
    tw_bson_open_array(&b, TW_STR("groups"));
    for (tw_bson_iter_init(&iter, tw_bson_get_doc(hits, TW_STR("hits")));
         tw_bson_iter_next(&iter);) {
        tw_bson hit = tw_bson_value_doc(iter.value);
        tw_bson values = tw_bson_get_doc(tw_bson_get_doc(hit, TW_STR("fields")), field);
        tw_bson group = tw_bson_get_doc(
            tw_bson_get_doc(tw_bson_get_doc(hit, TW_STR("inner_hits")), TW_STR("group")),
            TW_STR("hits"));
        tw_bson_open_doc(&b, TW_STR(""));
        tw_bson_value value = tw_bson_get(values, TW_STR("0"));
        if (value.type != 0) {
            tw_bson_add_value(&b, TW_STR("value"), value);
        }
        tw_bson_add_i64(&b, TW_STR("total"), total_of(group));
        add_hits(work, &b, tw_bson_get_doc(group, TW_STR("hits")));
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    tw_bson_add_i64(&b, TW_STR("total"), total_of(hits));
    tw_bson_add_i64(&b, TW_STR("offset"), tw_bson_get_i64_or(args, TW_STR("offset"), 0));
    tw_bson_add_i64(&b, TW_STR("rows"), tw_bson_get_i64_or(args, TW_STR("rows"), ROWS));
    es_answer_result(work, &b);
}

void es_grouped(es_work *work)
{
    tw_bson args = work->asked.search_ask.args;
    narrowed more = {.exists = tw_bson_get_str(args, TW_STR("group_field"))};
    broker_why why = {.text = ""};
    tw_bson_builder b;
    es_begin(work, &b);
    add_timeout(work, &b);
    tw_err err = add_paging(work, &b, &why);
    tw_bson_add_bool(&b, TW_STR("_source"), false);
    tw_bson_open_doc(&b, TW_STR("collapse"));
    tw_bson_add_str(&b, TW_STR("field"), more.exists);
    tw_bson_open_doc(&b, TW_STR("inner_hits"));
    tw_bson_add_str(&b, TW_STR("name"), TW_STR("group"));
    tw_bson_add_i64(&b, TW_STR("size"), tw_bson_get_i64_or(args, TW_STR("limit"), 1));
    add_fields_told(&b, tw_bson_get(args, TW_STR("fields")));
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (err == TW_OK) {
        err = add_query(work, &b, tw_bson_get(args, TW_STR("query")), &more, &why);
    }
    if (!refused(work, err, &why)) {
        post_search(work, &b, es_path(work, "/_search?allow_partial_search_results=false"),
                    on_groups);
    }
}

/* ---- stream_search and keys ---- */
typedef struct stream {
    tw_str pit;    /* ptr NULL: none */
    tw_bson after; /* sort values of the last document; len 0: from the start */
    int64_t count, size;
    bool keys;
    const tw_item_search_item *items; /* of the last page, while its point in time is closed */
    size_t items_count;
} stream;

static void read_cursor(es_work *work, stream *self)
{
    tw_str bytes = work->asked.search_ask.cursor;
    tw_bson cursor = {NULL, 0};
    *self = (stream){.size = ES_PAGE};
    self->keys = tw_str_equal(work->asked.search_ask.function, TW_STR("keys"));
    if (bytes.len == 0 ||
        tw_bson_validate(bytes.ptr, bytes.len, TW_DEPTH_CLIENT_MAX, &cursor) != TW_OK) {
        return;
    }
    self->pit = tw_bson_get_str(cursor, TW_STR("pit"));
    self->after = tw_bson_get_doc(cursor, TW_STR("after"));
    self->count = tw_bson_get_i64_or(cursor, TW_STR("count"), 0);
    self->size = tw_bson_get_i64_or(cursor, TW_STR("size"), ES_PAGE);
}

static tw_str write_cursor(es_work *work, const stream *self, tw_bson_value after)
{
    tw_bson_builder b;
    es_begin(work, &b);
    if (self->pit.ptr != NULL) {
        tw_bson_add_str(&b, TW_STR("pit"), self->pit);
    }
    tw_bson_add_value(&b, TW_STR("after"), after);
    tw_bson_add_i64(&b, TW_STR("count"), self->count);
    tw_bson_add_i64(&b, TW_STR("size"), self->size);
    tw_bson cursor = tw_bson_end(&b);
    return (tw_str){(const char *)cursor.ptr, cursor.len};
}

static void closed(es_work *work, const es_reply *reply)
{
    (void)reply;
    es_answer(work, TW_MSG_done, &(tw_msg_done){0});
}

/* A point in time that nobody reads on: a cluster has room for some hundreds only. */
static void close_pit(es_work *work, const stream *self, es_answered answered)
{
    const es_flavour *flavour = work->proxy->flavour;
    if (self->pit.ptr == NULL || flavour == NULL || !flavour->pit) {
        answered(work, NULL);
        return;
    }
    tw_bson_builder b;
    es_begin(work, &b);
    if (flavour->pit_list) {
        tw_bson_open_array(&b, tw_str_of(flavour->pit_id));
        tw_bson_add_str(&b, TW_STR(""), self->pit);
        tw_bson_close(&b);
    } else {
        tw_bson_add_str(&b, tw_str_of(flavour->pit_id), self->pit);
    }
    const es_call call = {.method = "DELETE",
                          .path = flavour->pit_close,
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .tolerant = true,
                          .wait_ms = ES_FLAVOUR_MS};
    es_call_send(work, &call, answered);
}

void es_close_cursor(es_work *work)
{
    stream self;
    read_cursor(work, &self);
    close_pit(work, &self, closed);
}

static void on_last(es_work *work, const es_reply *reply)
{
    (void)reply; /* what is not closed ends by itself, within a minute */
    const stream *self = work->state;
    es_answer_items(work, self->items, self->items_count, (tw_str){NULL, 0}, (uint64_t)self->count);
}

static bool add_item(es_work *work, const stream *self, tw_bson hit, tw_item_search_item *out)
{
    const es_index *index = work->indices[0];
    tw_str id = tw_bson_get_str(hit, TW_STR("_id"));
    tw_bson_builder b;
    tw_buf_clear(&work->reply);
    tw_bson_begin(&b, &work->reply);
    if (self->keys) {
        tw_bson_add_value(&b, TW_STR("key"), es_document_key(work, index, id));
    } else {
        tw_bson_open_doc(&b, TW_STR("doc"));
        search_doc_read(&b, tw_bson_get_doc(hit, TW_STR("_source")), tw_str_of(index->rules->key),
                        es_document_key(work, index, id));
        tw_bson_close(&b);
    }
    tw_bson built = tw_bson_end(&b);
    out->doc = work->reply.err == TW_OK ? tw_arena_bson(&work->arena, built) : (tw_bson){NULL, 0};
    return out->doc.ptr != NULL;
}

static void page_ask(es_work *work);

static void on_stream_page(es_work *work, const es_reply *reply)
{
    stream *self = work->state;
    tw_bson hits = tw_bson_get_doc(tw_bson_get_doc(reply->body, TW_STR("hits")), TW_STR("hits"));
    size_t count = tw_bson_count(hits);
    tw_item_search_item *items = tw_arena_zero(&work->arena, count + 1, sizeof *items);
    tw_bson_value after = {0};
    tw_bson_iter iter;
    if (timed_out(work, reply)) {
        return;
    }
    size_t at = 0;
    for (tw_bson_iter_init(&iter, hits); items != NULL && tw_bson_iter_next(&iter); at++) {
        tw_bson hit = tw_bson_value_doc(iter.value);
        after = tw_bson_get(hit, TW_STR("sort"));
        if (at >= count || !add_item(work, self, hit, &items[at])) {
            break;
        }
    }
    if (items == NULL || at != count) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this page.");
        return;
    }
    tw_str renewed = tw_bson_get_str(reply->body, TW_STR("pit_id"));
    self->pit = self->pit.ptr != NULL && renewed.ptr != NULL ? renewed : self->pit;
    self->count += (int64_t)count;
    bool more = (int64_t)count == self->size && after.type != 0;
    if (more) {
        es_answer_items(work, items, count, write_cursor(work, self, after), (uint64_t)self->count);
        return;
    }
    self->items = items;
    self->items_count = count;
    self->pit = tw_arena_str(&work->arena, self->pit);
    close_pit(work, self, on_last);
}

static void page_ask(es_work *work)
{
    stream *self = work->state;
    const es_flavour *flavour = work->proxy->flavour;
    tw_bson args = work->asked.search_ask.args;
    broker_why why = {.text = ""};
    tw_bson_builder b;
    es_begin(work, &b);
    add_timeout(work, &b);
    tw_bson_add_i64(&b, TW_STR("size"), self->size);
    if (self->keys) {
        tw_bson_add_bool(&b, TW_STR("_source"), false);
    } else {
        add_fields_told(&b, tw_bson_get(args, TW_STR("fields")));
    }
    if (self->pit.ptr != NULL) {
        tw_bson_open_doc(&b, TW_STR("pit"));
        tw_bson_add_str(&b, TW_STR("id"), self->pit);
        tw_bson_add_str(&b, TW_STR("keep_alive"), tw_str_of(es_text(work, "%ds", ES_PIT_KEEP)));
        tw_bson_close(&b);
    }
    tw_bson_add_bool(&b, TW_STR("track_total_hits"), false);
    tw_bson_open_array(&b, TW_STR("sort"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_add_str(&b, self->pit.ptr != NULL ? tw_str_of(flavour->tie) : TW_STR("_id"),
                    TW_STR("asc"));
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (self->after.len > 0) {
        tw_bson_add_array(&b, TW_STR("search_after"), self->after);
    }
    tw_err err = add_query(work, &b, tw_bson_get(args, TW_STR("query")), NULL, &why);
    if (refused(work, err, &why)) {
        return;
    }
    const char *path = self->pit.ptr != NULL
                           ? "/_search"
                           : es_path(work, "/_search?allow_partial_search_results=false");
    post_search(work, &b, path, on_stream_page);
}

static void on_pit(es_work *work, const es_reply *reply)
{
    stream *self = work->state;
    tw_str pit = tw_bson_get_str(reply->body, tw_str_of(work->proxy->flavour->pit_id));
    if (reply->status >= 500 || reply->status == 429 || reply->status == 404) {
        es_fail_reply(work, reply);
        return;
    }
    if (reply->status < 400 && pit.ptr != NULL) {
        self->pit = pit;
    } /* otherwise without one: documents that come meanwhile may be among them */
    page_ask(work);
}

void es_stream(es_work *work)
{
    stream *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    if (self == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this search.");
        return;
    }
    read_cursor(work, self);
    work->state = self;
    if (work->asked.search_ask.cursor.len > 0 || !work->proxy->flavour->pit) {
        page_ask(work);
        return;
    }
    es_begin(work, &(tw_bson_builder){0});
    const char *path =
        es_path(work, es_text(work, "%s%ds", work->proxy->flavour->pit_open, ES_PIT_KEEP));
    const es_call call = {.method = "POST", .path = path, .idempotent = true, .tolerant = true};
    es_call_send(work, &call, on_pit);
}
