/* embedded_search_hits.c - what is kept of the documents found, their order, and how they are told:
 * _source, sort values, highlights, suggestions. */
#include <math.h>
#include <stdlib.h>

#include "protocol/json.h"

#include "broker/search_text.h"

#include "actors/search/embedded_search_priv.h"

enum {
    ROOM = 64,      /* hits kept beyond what is wanted, so that sorting is seldom */
    FRAGMENT = 100, /* bytes of a highlighted fragment, as engines have by default */
    FRAGMENTS = 5,
    SUGGESTIONS = 5,
};

/* ---- sort ---- */
static tw_err refuse_sort(embedded_job *job, tw_str name, const char *what)
{
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(&job->why, TW_E_BAD_QUERY, "sort: \"%s\" %s", broker_show(name, shown),
                         what);
}

static tw_err check_sort_field(embedded_job *job, tw_str name, bool unmapped)
{
    bool known = unmapped;
    for (size_t i = 0; i < job->targets_count; i++) {
        const search_field *field = search_mapping_find(&job->targets[i].collection->mapping, name);
        if (field != NULL && (field->type == SEARCH_TEXT || field->type == SEARCH_OPAQUE ||
                              field->type == SEARCH_COMPLETION)) {
            return refuse_sort(job, name, "is text, which has no order; use its keyword field.");
        }
        known = known || field != NULL;
    }
    return known ? TW_OK : refuse_sort(job, name, "is no field of it.");
}

static tw_err add_sort(embedded_job *job, tw_str name, tw_bson_value value)
{
    tw_bson params = tw_bson_value_doc(value);
    tw_str order = tw_bson_value_str(value);
    tw_bson_iter iter;
    if (job->sorts_count == EMBEDDED_SORTS_MAX) {
        return refuse_sort(job, name, "is one key too many; 8 are allowed.");
    }
    for (tw_bson_iter_init(&iter, params); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("order")) &&
            !tw_str_equal(iter.name, TW_STR("missing")) &&
            !tw_str_equal(iter.name, TW_STR("mode")) &&
            !tw_str_equal(iter.name, TW_STR("unmapped_type"))) {
            return refuse_sort(job, iter.name, "is not supported by the embedded search.");
        }
    }
    embedded_sort *sort = &job->sorts[job->sorts_count++];
    tw_str mode = tw_bson_get_str(params, TW_STR("mode"));
    order = order.ptr != NULL ? order : tw_bson_get_str(params, TW_STR("order"));
    *sort = (embedded_sort){.name = name,
                            .score = tw_str_equal(name, TW_STR("_score")),
                            .row = tw_str_equal(name, TW_STR("_doc"))};
    sort->down = order.ptr == NULL ? sort->score : tw_str_equal(order, TW_STR("desc"));
    sort->first = tw_str_equal(tw_bson_get_str(params, TW_STR("missing")), TW_STR("_first"));
    sort->low = mode.ptr == NULL ? !sort->down : tw_str_equal(mode, TW_STR("min"));
    if (mode.ptr != NULL && !sort->low && !tw_str_equal(mode, TW_STR("max"))) {
        return refuse_sort(job, mode, "is no mode here: min or max.");
    }
    bool own = sort->score || sort->row || tw_str_equal(name, TW_STR("_id"));
    return own ? TW_OK
               : check_sort_field(job, name,
                                  tw_bson_get(params, TW_STR("unmapped_type")).type != 0);
}

tw_err embedded_sort_read(embedded_job *job, tw_bson list)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    for (tw_bson_iter_init(&iter, list); err == TW_OK && tw_bson_iter_next(&iter);) {
        tw_bson_iter each;
        tw_str text = tw_bson_value_str(iter.value);
        if (text.ptr != NULL) {
            err = add_sort(job, text, (tw_bson_value){0});
            continue;
        }
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            err = add_sort(job, each.name, each.value);
        }
    }
    return err;
}

static int compare_value(const embedded_sort *sort, const embedded_value *a,
                         const embedded_value *b)
{
    if (a->missing || b->missing) {
        int order = (a->missing ? 1 : 0) - (b->missing ? 1 : 0);
        return sort->first ? -order : order;
    }
    int order = a->text.ptr != NULL && b->text.ptr != NULL
                    ? tw_str_compare(a->text, b->text)
                    : (a->number > b->number) - (a->number < b->number);
    return sort->down ? -order : order;
}

static int compare_hits(const void *left, const void *right, void *context)
{
    const embedded_job *job = context;
    const embedded_hit *a = left;
    const embedded_hit *b = right;
    for (size_t i = 0; i < job->sorts_count; i++) {
        int order = compare_value(&job->sorts[i], &a->values[i], &b->values[i]);
        if (order != 0) {
            return order;
        }
    }
    if (job->sorts_count == 0 && a->score != b->score) {
        return a->score < b->score ? 1 : -1;
    }
    return a->target != b->target ? (a->target > b->target) - (a->target < b->target)
                                  : (a->row > b->row) - (a->row < b->row);
}

void embedded_hits_sort(embedded_job *job)
{
    if (job->hits_count > 1) {
        qsort_r(job->hits, job->hits_count, sizeof *job->hits, compare_hits, job);
    }
}

typedef struct picker {
    embedded_job *job;
    const search_field *field;
    bool low;
    embedded_value value;
} picker;

static bool pick(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    picker *self = context;
    char scratch[64];
    embedded_value one = {.missing = false};
    if (value.type == TW_BSON_NULL) {
        return true;
    }
    if (self->field->type == SEARCH_KEYWORD) {
        one.text = search_keyword_of(value, scratch);
        if (one.text.ptr == NULL ||
            (self->field->ignore_above > 0 && one.text.len > self->field->ignore_above)) {
            return true;
        }
    } else if (!search_number_of(self->field->type, value, false, &one.number)) {
        return true;
    }
    embedded_sort up = {.down = !self->low};
    if (self->value.missing || compare_value(&up, &one, &self->value) < 0) {
        one.text = tw_arena_str(&self->job->arena, one.text);
        self->value = one;
    }
    return true;
}

static embedded_value value_of(embedded_job *job, const embedded_sort *sort,
                               const embedded_hit *hit, tw_bson doc, tw_str id)
{
    const embedded_collection *held = job->targets[hit->target].collection;
    if (sort->score) {
        return (embedded_value){.number = hit->score};
    }
    if (sort->row) {
        return (embedded_value){.number = (double)hit->row};
    }
    if (tw_str_equal(sort->name, TW_STR("_id"))) {
        return (embedded_value){.text = tw_arena_str(&job->arena, id)};
    }
    picker self = {
        job, search_mapping_find(&held->mapping, sort->name), sort->low, {.missing = true}};
    if (self.field != NULL) {
        search_walk(doc, self.field->path, pick, &self);
    }
    return self.value;
}

/* True where a hit comes behind what search_after names. */
static bool is_after(embedded_job *job, const embedded_hit *hit)
{
    tw_bson_iter iter;
    size_t i = 0;
    tw_bson_iter_init(&iter, job->after);
    for (; i < job->sorts_count && tw_bson_iter_next(&iter); i++) {
        embedded_value wanted = {.missing = iter.value.type == TW_BSON_NULL};
        wanted.text = tw_bson_value_str(iter.value);
        wanted.number = tw_bson_value_is_number(iter.value) ? tw_bson_value_double(iter.value)
                        : iter.value.type == TW_BSON_BOOL
                            ? (tw_bson_value_bool_or(iter.value, false) ? 1 : 0)
                            : 0;
        if (hit->values[i].text.ptr == NULL && wanted.text.ptr != NULL) {
            (void)search_number_of_text(SEARCH_DATE, wanted.text, false, &wanted.number);
        }
        int order = compare_value(&job->sorts[i], &hit->values[i], &wanted);
        if (order != 0) {
            return order > 0;
        }
    }
    return false;
}

tw_err embedded_hit_add(embedded_job *job, const embedded_hit *given, tw_bson doc)
{
    embedded_hit hit = *given;
    embedded_document held = {.doc = doc};
    if (job->size == 0) {
        return TW_OK;
    }
    tw_str id = {NULL, 0};
    for (size_t i = 0; i < job->sorts_count; i++) {
        if (tw_str_equal(job->sorts[i].name, TW_STR("_id")) &&
            embedded_table_document(embedded_search_table(job->search), hit.row, &held)) {
            id = held.id;
        }
    }
    for (size_t i = 0; i < job->sorts_count; i++) {
        hit.values[i] = value_of(job, &job->sorts[i], &hit, held.doc, id);
    }
    if (job->after.len > 0 && !is_after(job, &hit)) {
        return TW_OK;
    }
    size_t wanted = (size_t)(job->from + job->size);
    if (job->hits_count == job->hits_cap) {
        if (job->hits_cap >= 2 * wanted + ROOM) {
            embedded_hits_sort(job);
            job->hits_count = wanted;
        } else {
            size_t cap = job->hits_cap == 0 ? ROOM : job->hits_cap * 2;
            embedded_hit *more = tw_arena_alloc(&job->arena, cap * sizeof *more);
            if (more == NULL) {
                return TW_E_TOO_COSTLY;
            }
            if (job->hits_count > 0) {
                memcpy(more, job->hits, job->hits_count * sizeof *more);
            }
            job->hits = more;
            job->hits_cap = cap;
        }
    }
    job->hits[job->hits_count++] = hit;
    return TW_OK;
}

/* ---- _source ---- */
static bool fits_any(tw_bson_value names, tw_str path, bool above)
{
    tw_bson_iter iter;
    tw_str one = tw_bson_value_str(names);
    bool list = names.type == TW_BSON_ARRAY;
    tw_bson_iter_init(&iter, list ? tw_bson_value_doc(names) : (tw_bson){NULL, 0});
    while (!list || tw_bson_iter_next(&iter)) {
        one = list ? tw_bson_value_str(iter.value) : one;
        if (one.ptr != NULL && search_wild_fits(one, path)) {
            return true;
        }
        if (above && one.len > path.len && one.ptr[path.len] == '.' &&
            memcmp(one.ptr, path.ptr, path.len) == 0) {
            return true; /* something in it is wanted */
        }
        if (!list) {
            break;
        }
    }
    return false;
}

static void add_source(tw_bson_builder *b, tw_bson doc, tw_bson_value in, tw_bson_value out,
                       tw_str above, bool taken, int depth)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        char name[600];
        tw_str path = {name, tw_format(name, sizeof name, "%.*s%s%.*s", (int)above.len,
                                       above.len == 0 ? "" : above.ptr, above.len == 0 ? "" : ".",
                                       (int)iter.name.len, iter.name.ptr)};
        if (depth == 0 && tw_str_equal(iter.name, TW_STR("_tw"))) {
            continue; /* the server's own */
        }
        bool whole = taken || fits_any(in, path, false);
        if (fits_any(out, path, false) || (!whole && !fits_any(in, path, true))) {
            continue;
        }
        if (iter.value.type == TW_BSON_DOCUMENT && depth < SEARCH_LEVELS_MAX) {
            tw_bson_open_doc(b, iter.name);
            add_source(b, tw_bson_value_doc(iter.value), in, out, path, whole, depth + 1);
            tw_bson_close(b);
        } else if (whole) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
}

tw_bson embedded_source(embedded_job *job, const embedded_document *held, tw_bson_value told)
{
    tw_buf json;
    tw_buf cut;
    tw_bson_builder b;
    tw_bson whole = {NULL, 0};
    tw_bson_value in = tw_bson_get(tw_bson_value_doc(told), TW_STR("includes"));
    tw_bson_value out = tw_bson_get(tw_bson_value_doc(told), TW_STR("excludes"));
    tw_buf_init(&json, TW_DOCUMENT_MAX);
    tw_buf_init(&cut, TW_DOCUMENT_MAX);
    search_doc_write(&json, held->doc, held->id, held->version);
    if (json.err != TW_OK ||
        tw_json_read(&job->arena, tw_buf_str(&json), TW_DEPTH_MAX, &whole, NULL) != TW_OK) {
        whole = (tw_bson){NULL, 0};
    }
    tw_bson_begin(&b, &cut);
    add_source(&b, whole, in, out, (tw_str){NULL, 0}, in.type == 0, 0);
    tw_bson made = tw_bson_end(&b);
    made = whole.ptr != NULL && cut.err == TW_OK ? tw_arena_bson(&job->arena, made)
                                                 : (tw_bson){NULL, 0};
    tw_buf_fini(&json);
    tw_buf_fini(&cut);
    return made;
}

/* ---- highlight ---- */
typedef struct marker {
    embedded_job *job;
    const search_query *query;
    tw_bson_builder *b;
    tw_str field, open, close;
    bool any_field, opened;
    int64_t size, most, told;
} marker;

/* A value with its terms marked, from a sensible place on. */
static bool mark_value(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    marker *self = context;
    tw_str text = tw_bson_value_str(value);
    search_text *words = tw_arena_alloc(&self->job->arena, sizeof *words);
    size_t done = 0;
    size_t end = 0; /* of the fragment; 0: none is open */
    tw_buf out;
    if (text.ptr == NULL || words == NULL) {
        return true;
    }
    tw_buf_init(&out, TW_DOCUMENT_MAX);
    search_text_init(words, text, 0);
    bool whole = self->most == 0 || (int64_t)text.len <= self->size;
    size_t last = 0; /* where the fragment's next word may begin */
    while (search_text_next(words)) {
        bool asked =
            search_query_asks(self->query, self->field, self->any_field, search_text_term(words));
        if (end > 0 && !whole && words->upto > end) {
            tw_buf_add(&out, text.ptr + done, last - done);
            tw_bson_add_str(self->b, TW_STR(""), tw_buf_str(&out));
            tw_buf_clear(&out);
            end = 0;
            if (++self->told == self->most) {
                tw_buf_fini(&out);
                return false;
            }
        }
        if (asked) {
            if (!self->opened) {
                tw_bson_open_array(self->b, self->field);
                self->opened = true;
            }
            done = end > 0 ? done : whole ? 0 : words->from;
            end = end > 0 ? end : whole ? text.len : words->from + (size_t)self->size;
            tw_buf_add(&out, text.ptr + done, words->from - done);
            tw_buf_add_str(&out, self->open);
            tw_buf_add(&out, text.ptr + words->from, words->upto - words->from);
            tw_buf_add_str(&out, self->close);
            done = words->upto;
        }
        last = words->upto;
    }
    if (end > 0) {
        tw_buf_add(&out, text.ptr + done, text.len - done);
        tw_bson_add_str(self->b, TW_STR(""), tw_buf_str(&out));
        self->told++;
    }
    tw_buf_fini(&out);
    return self->most == 0 || self->told < self->most;
}

static tw_str first_tag(tw_bson params, tw_bson above, const char *name, tw_str fallback)
{
    tw_bson_value tags = tw_bson_get(params, tw_str_of(name));
    tags = tags.type != 0 ? tags : tw_bson_get(above, tw_str_of(name));
    tw_str text = tags.type == TW_BSON_ARRAY ? tw_bson_get_str(tw_bson_value_doc(tags), TW_STR("0"))
                                             : tw_bson_value_str(tags);
    return text.ptr == NULL ? fallback : text;
}

static void highlight(embedded_job *job, const embedded_hit *hit, tw_bson doc, tw_bson_builder *b)
{
    tw_bson spec = tw_bson_get_doc(job->body, TW_STR("highlight"));
    const embedded_target *target = &job->targets[hit->target];
    tw_bson_iter iter;
    bool begun = false;
    for (tw_bson_iter_init(&iter, tw_bson_get_doc(spec, TW_STR("fields")));
         tw_bson_iter_next(&iter);) {
        tw_bson params = tw_bson_value_doc(iter.value);
        for (size_t i = 0; i < target->collection->mapping.count; i++) {
            const search_field *field = &target->collection->mapping.at[i];
            if (field->type != SEARCH_TEXT || !search_wild_fits(iter.name, field->name)) {
                continue;
            }
            marker self = {.job = job, .query = target->query, .b = b, .field = field->name};
            self.open = first_tag(params, spec, "pre_tags", TW_STR("<em>"));
            self.close = first_tag(params, spec, "post_tags", TW_STR("</em>"));
            self.any_field = !tw_bson_get_bool_or(
                params, TW_STR("require_field_match"),
                tw_bson_get_bool_or(spec, TW_STR("require_field_match"), true));
            self.size =
                tw_bson_get_i64_or(params, TW_STR("fragment_size"),
                                   tw_bson_get_i64_or(spec, TW_STR("fragment_size"), FRAGMENT));
            self.most = tw_bson_get_i64_or(
                params, TW_STR("number_of_fragments"),
                tw_bson_get_i64_or(spec, TW_STR("number_of_fragments"), FRAGMENTS));
            if (!begun) {
                tw_bson_open_doc(b, TW_STR("highlight"));
                begun = true;
            }
            search_walk(doc, field->path, mark_value, &self);
            if (self.opened) {
                tw_bson_close(b);
            }
        }
    }
    if (begun) {
        tw_bson_close(b);
    }
}

/* ---- hits ---- */
static void add_sort_values(const embedded_job *job, const embedded_hit *hit, tw_bson_builder *b)
{
    tw_bson_open_array(b, TW_STR("sort"));
    for (size_t i = 0; i < job->sorts_count; i++) {
        const embedded_value *value = &hit->values[i];
        if (value->missing) {
            tw_bson_add_null(b, TW_STR(""));
        } else if (value->text.ptr != NULL) {
            tw_bson_add_str(b, TW_STR(""), value->text);
        } else if (value->number == floor(value->number) && fabs(value->number) < 9e15) {
            tw_bson_add_i64(b, TW_STR(""), (int64_t)value->number);
        } else {
            tw_bson_add_double(b, TW_STR(""), value->number);
        }
    }
    tw_bson_close(b);
}

static void add_hit(embedded_job *job, const embedded_hit *hit, tw_bson_builder *b)
{
    embedded_document held;
    tw_bson_value told = tw_bson_get(job->body, TW_STR("_source"));
    if (!embedded_table_document(embedded_search_table(job->search), hit->row, &held)) {
        return; /* gone meanwhile */
    }
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("_index"), job->targets[hit->target].collection->name);
    tw_bson_add_str(b, TW_STR("_id"), held.id);
    if (job->sorts_count == 0) {
        tw_bson_add_double(b, TW_STR("_score"), hit->score);
    } else {
        tw_bson_add_null(b, TW_STR("_score"));
    }
    if (told.type != TW_BSON_BOOL) {
        tw_bson_add_doc(b, TW_STR("_source"), embedded_source(job, &held, told));
    }
    highlight(job, hit, held.doc, b);
    if (job->sorts_count > 0) {
        add_sort_values(job, hit, b);
    }
    tw_bson_close(b);
}

void embedded_hits_write(embedded_job *job, tw_bson_builder *b)
{
    embedded_hits_sort(job);
    size_t end = (size_t)(job->from + job->size);
    for (size_t i = (size_t)job->from; i < job->hits_count && i < end; i++) {
        add_hit(job, &job->hits[i], b);
    }
}

/* ---- suggestions ---- */
typedef struct option {
    tw_str text;
    int64_t weight, row;
    size_t target;
} option;

typedef struct completer {
    embedded_job *job;
    tw_str prefix; /* in lower case */
    option found;
} completer;

static bool complete(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    completer *self = context;
    char lower[512];
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL) {
        return true;
    }
    size_t len = search_text_lower(text, lower, sizeof lower);
    if (len >= self->prefix.len && memcmp(lower, self->prefix.ptr, self->prefix.len) == 0) {
        self->found.text = tw_arena_str(&self->job->arena, text);
    }
    return self->found.text.ptr == NULL;
}

static int compare_options(const void *left, const void *right)
{
    const option *a = left;
    const option *b = right;
    if (a->weight != b->weight) {
        return a->weight < b->weight ? 1 : -1;
    }
    int order = tw_str_compare(a->text, b->text);
    return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

static tw_err find_options(embedded_job *job, size_t target, tw_str name, tw_str prefix,
                           option *out, size_t max, size_t *count)
{
    embedded_collection *held = job->targets[target].collection;
    const search_field *field = search_mapping_find(&held->mapping, name);
    char lower[512];
    int64_t *rows = NULL;
    size_t rows_count = 0;
    tw_buf sql;
    if (field == NULL || field->type != SEARCH_COMPLETION) {
        return TW_OK;
    }
    tw_str small = {lower, search_text_lower(prefix, lower, sizeof lower)};
    tw_buf_init(&sql, TW_SEARCH_BODY_MAX);
    search_prefix_sql(field, prefix, &sql);
    tw_err err = embedded_table_candidates(embedded_search_table(job->search), &job->arena, held,
                                           tw_buf_str(&sql), 0, &rows, &rows_count);
    tw_buf_fini(&sql);
    for (size_t i = 0; i < rows_count && err == TW_OK && *count < max; i++) {
        embedded_document doc;
        completer self = {.job = job, .prefix = small};
        if (!embedded_table_document(embedded_search_table(job->search), rows[i], &doc)) {
            continue;
        }
        const char *input =
            tw_arena_format(&job->arena, "%.*s.input", (int)field->path.len, field->path.ptr);
        search_walk(doc.doc, field->path, complete, &self);
        search_walk(doc.doc, tw_str_of(input), complete, &self);
        struct query *filter = job->targets[target].filter;
        if (self.found.text.ptr == NULL || (filter != NULL && !query_match(filter, doc.doc))) {
            continue;
        }
        tw_bson given = tw_bson_value_doc(tw_bson_get_path(doc.doc, field->path));
        self.found.weight = tw_bson_get_i64_or(given, TW_STR("weight"), 1);
        self.found.row = rows[i];
        self.found.target = target;
        out[(*count)++] = self.found;
    }
    return err;
}

static tw_err write_suggestion(embedded_job *job, tw_bson spec, tw_bson_builder *b)
{
    tw_bson params = tw_bson_get_doc(spec, TW_STR("completion"));
    tw_str prefix = tw_bson_get_str(spec, TW_STR("prefix"));
    prefix = prefix.ptr == NULL ? tw_bson_get_str(spec, TW_STR("text")) : prefix;
    int64_t size = tw_bson_get_i64_or(params, TW_STR("size"), SUGGESTIONS);
    size_t max = TW_SEARCH_WINDOW_MAX;
    size_t count = 0;
    option *options = tw_arena_alloc(&job->arena, max * sizeof *options);
    tw_err err = options == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; i < job->targets_count && err == TW_OK && prefix.len > 0; i++) {
        err = find_options(job, i, tw_bson_get_str(params, TW_STR("field")), prefix, options, max,
                           &count);
    }
    if (err != TW_OK) {
        return err;
    }
    qsort(options, count, sizeof *options, compare_options);
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("text"), prefix.ptr == NULL ? TW_STR("") : prefix);
    tw_bson_add_i64(b, TW_STR("offset"), 0);
    tw_bson_add_i64(b, TW_STR("length"), (int64_t)prefix.len);
    tw_bson_open_array(b, TW_STR("options"));
    bool once = tw_bson_get_bool_or(params, TW_STR("skip_duplicates"), false);
    for (size_t i = 0; i < count && size > 0; i++) {
        embedded_document held;
        if ((once && i > 0 && tw_str_equal(options[i].text, options[i - 1].text)) ||
            !embedded_table_document(embedded_search_table(job->search), options[i].row, &held)) {
            continue;
        }
        size--;
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_add_str(b, TW_STR("text"), options[i].text);
        tw_bson_add_str(b, TW_STR("_index"), job->targets[options[i].target].collection->name);
        tw_bson_add_str(b, TW_STR("_id"), held.id);
        tw_bson_add_double(b, TW_STR("_score"), (double)options[i].weight);
        tw_bson_add_doc(b, TW_STR("_source"),
                        embedded_source(job, &held, tw_bson_get(job->body, TW_STR("_source"))));
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
    return TW_OK;
}

tw_err embedded_suggest_write(embedded_job *job, tw_bson suggest, tw_bson_builder *b)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    tw_bson_open_doc(b, TW_STR("suggest"));
    for (tw_bson_iter_init(&iter, suggest); err == TW_OK && tw_bson_iter_next(&iter);) {
        tw_bson_open_array(b, iter.name);
        err = write_suggestion(job, tw_bson_value_doc(iter.value), b);
        tw_bson_close(b);
    }
    tw_bson_close(b);
    return err;
}
