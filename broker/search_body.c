/* search_body.c - see search_body.h: the tables of what may stand in a body, and one reader for
 * each form. To allow a clause: a row. */
#include "broker/search_body.h"

#include "protocol/limits.h"

typedef struct reader {
    tw_bson_builder *b;
    broker_why *why;
    size_t clauses;
    int64_t buckets;
} reader;

static tw_err add_query(reader *self, tw_str name, tw_bson_value query, int depth);

/* ---- refusals ---- */
static tw_err refuse(reader *self, const char *where, tw_str name)
{
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(self->why, TW_E_BAD_QUERY, "%s: \"%s\" is not allowed.", where,
                         broker_show(name, shown));
}

static tw_err wrong_form(reader *self, tw_str name, const char *wanted)
{
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(self->why, TW_E_BAD_QUERY, "\"%s\" is to be %s.", broker_show(name, shown),
                         wanted);
}

static bool is_scalar(tw_bson_value value)
{
    return value.type != 0 && value.type != TW_BSON_DOCUMENT && value.type != TW_BSON_ARRAY &&
           value.type != TW_BSON_REGEX && value.type != TW_BSON_CODE &&
           value.type != TW_BSON_CODE_SCOPE;
}

static bool is_scalars(tw_bson_value value)
{
    tw_bson_iter iter;
    if (value.type != TW_BSON_ARRAY) {
        return false;
    }
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        if (!is_scalar(iter.value)) {
            return false;
        }
    }
    return true;
}

/* ---- parameters ---- */
/* An object of parameters: scalars and lists of scalars under allowed names; the others of
 * `objects` may be objects of scalars too, or lists of those. */
static tw_err add_param(reader *self, tw_str name, tw_bson_value value, const char *objects)
{
    tw_bson_iter iter;
    if (is_scalar(value) || is_scalars(value)) {
        tw_bson_add_value(self->b, name, value);
        return TW_OK;
    }
    if (!tw_str_in_list(name, objects, ' ')) {
        return wrong_form(self, name, "a value or a list of values");
    }
    if (value.type == TW_BSON_ARRAY) {
        tw_bson_open_array(self->b, name);
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
            tw_err err = iter.value.type == TW_BSON_DOCUMENT
                             ? add_param(self, name, iter.value, objects)
                             : wrong_form(self, name, "a list of objects");
            if (err != TW_OK) {
                return err;
            }
        }
        tw_bson_close(self->b);
        return TW_OK;
    }
    tw_bson_open_doc(self->b, name);
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        if (!is_scalar(iter.value)) {
            return wrong_form(self, name, "an object of values");
        }
        tw_bson_add_value(self->b, iter.name, iter.value);
    }
    tw_bson_close(self->b);
    return TW_OK;
}

static tw_err add_params(reader *self, const char *where, tw_bson params, const char *allowed,
                         const char *objects)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, params); tw_bson_iter_next(&iter);) {
        if (!tw_str_in_list(iter.name, allowed, ' ') && !tw_str_in_list(iter.name, objects, ' ')) {
            return refuse(self, where, iter.name);
        }
        tw_err err = add_param(self, iter.name, iter.value, objects);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

/* ---- query strings ---- */
/* Terms, regular expressions and leading wildcards of a text in Lucene's syntax. */
static tw_err check_lucene(reader *self, const char *clause, tw_bson_value value)
{
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL) {
        return wrong_form(self, tw_str_of(clause), "given a text as query");
    }
    size_t terms = 0;
    bool quoted = false;
    bool inside = false; /* of a term */
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\\' && i + 1 < text.len) {
            i++;
            inside = true;
            continue;
        }
        if (c == '"') {
            terms += quoted || inside ? 0 : 1;
            quoted = !quoted;
            inside = false;
            continue;
        }
        if (quoted) {
            continue;
        }
        if (c == '/') {
            return broker_refuse(self->why, TW_E_BAD_QUERY,
                                 "%s: regular expressions (/) are not allowed; write \\/ for the "
                                 "sign itself.",
                                 clause);
        }
        bool breaks = strchr(" \t\r\n()[]{}+-!", c) != NULL;
        terms += !breaks && !inside ? 1 : 0;
        inside = !breaks;
    }
    if (terms > SEARCH_STRING_TERMS) {
        return broker_refuse(self->why, TW_E_TOO_COSTLY, "%s: %zu terms, allowed are %d.", clause,
                             terms, SEARCH_STRING_TERMS);
    }
    return TW_OK;
}

static void add_lucene(reader *self, tw_str name, tw_bson_value text)
{
    tw_bson_open_doc(self->b, name);
    tw_bson_open_doc(self->b, TW_STR("query_string"));
    tw_bson_add_value(self->b, TW_STR("query"), text);
    tw_bson_add_bool(self->b, TW_STR("allow_leading_wildcard"), false);
    tw_bson_close(self->b);
    tw_bson_close(self->b);
}

/* ---- clauses ---- */
typedef struct clause {
    const char *name;
    tw_err (*add)(reader *self, const struct clause *row, tw_bson_value value, int depth);
    const char *allowed; /* names of parameters */
} clause;

/* {field: value} or {field: {parameters}}. */
static tw_err add_on_field(reader *self, const clause *row, tw_bson_value value, int depth)
{
    (void)depth;
    tw_bson doc = tw_bson_value_doc(value);
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, doc);
    if (value.type != TW_BSON_DOCUMENT || tw_bson_count(doc) != 1 || !tw_bson_iter_next(&iter)) {
        return wrong_form(self, tw_str_of(row->name), "{field: value}");
    }
    bool prefix = strcmp(row->name, "prefix") == 0;
    tw_bson_value text = iter.value;
    if (text.type == TW_BSON_DOCUMENT) {
        text = tw_bson_get(tw_bson_value_doc(text), TW_STR("value"));
    }
    if (prefix && tw_bson_value_str(text).len < 2) {
        return wrong_form(self, TW_STR("prefix"), "at least two characters");
    }
    tw_bson_open_doc(self->b, tw_str_of(row->name));
    tw_err err = TW_OK;
    if (iter.value.type == TW_BSON_DOCUMENT) {
        tw_bson_open_doc(self->b, iter.name);
        err = add_params(self, row->name, tw_bson_value_doc(iter.value), row->allowed, "");
        tw_bson_close(self->b);
    } else if (is_scalar(iter.value) && strcmp(row->name, "range") != 0) {
        tw_bson_add_value(self->b, iter.name, iter.value);
    } else {
        err = wrong_form(self, tw_str_of(row->name), "{field: value}");
    }
    tw_bson_close(self->b);
    return err;
}

/* {parameters} */
static tw_err add_plain(reader *self, const clause *row, tw_bson_value value, int depth)
{
    (void)depth;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, tw_str_of(row->name), "an object");
    }
    tw_bson_open_doc(self->b, tw_str_of(row->name));
    tw_err err = add_params(self, row->name, tw_bson_value_doc(value), row->allowed, "");
    tw_bson_close(self->b);
    return err;
}

/* {field: [values]}: a look-up ({field: {index, id, path}}) would read another index. */
static tw_err add_terms(reader *self, const clause *row, tw_bson_value value, int depth)
{
    (void)depth;
    tw_bson_iter iter;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, tw_str_of(row->name), "an object");
    }
    tw_bson_open_doc(self->b, tw_str_of(row->name));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        bool boost = tw_str_equal(iter.name, TW_STR("boost")) && is_scalar(iter.value);
        if (!boost && !is_scalars(iter.value)) {
            return wrong_form(self, TW_STR("terms"), "{field: [values]}; look-ups are not allowed");
        }
        size_t count = tw_bson_count(tw_bson_value_doc(iter.value));
        if (count > TW_SEARCH_CLAUSES_MAX) {
            return broker_refuse(self->why, TW_E_TOO_COSTLY, "terms: %zu values, allowed are %d.",
                                 count, TW_SEARCH_CLAUSES_MAX);
        }
        tw_bson_add_value(self->b, iter.name, iter.value);
    }
    tw_bson_close(self->b);
    return TW_OK;
}

static tw_err add_string(reader *self, const clause *row, tw_bson_value value, int depth)
{
    (void)depth;
    tw_bson doc = tw_bson_value_doc(value);
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, tw_str_of(row->name), "an object");
    }
    tw_err err = check_lucene(self, row->name, tw_bson_get(doc, TW_STR("query")));
    if (err == TW_OK) {
        tw_bson_open_doc(self->b, tw_str_of(row->name));
        err = add_params(self, row->name, doc, row->allowed, "");
        if (strcmp(row->name, "query_string") == 0) {
            tw_bson_add_bool(self->b, TW_STR("allow_leading_wildcard"), false);
        }
        tw_bson_close(self->b);
    }
    return err;
}

static tw_err add_bool(reader *self, const clause *row, tw_bson_value value, int depth)
{
    tw_bson_iter iter;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, TW_STR("bool"), "an object");
    }
    tw_err err = TW_OK;
    tw_bson_open_doc(self->b, TW_STR("bool"));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_in_list(iter.name, row->allowed, ' ')) {
            err = add_param(self, iter.name, iter.value, "");
        } else if (!tw_str_in_list(iter.name, "must filter should must_not", ' ')) {
            err = refuse(self, "bool", iter.name);
        } else if (iter.value.type == TW_BSON_ARRAY) {
            tw_bson_iter each;
            tw_bson_open_array(self->b, iter.name);
            for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
                 err == TW_OK && tw_bson_iter_next(&each);) {
                err = add_query(self, TW_STR(""), each.value, depth + 1);
            }
            tw_bson_close(self->b);
        } else {
            err = add_query(self, iter.name, iter.value, depth + 1);
        }
    }
    tw_bson_close(self->b);
    return err;
}

/* A query within parameters: nested, constant_score. */
static tw_err add_around(reader *self, const clause *row, tw_bson_value value, int depth)
{
    bool constant = strcmp(row->name, "constant_score") == 0;
    tw_str inner = constant ? TW_STR("filter") : TW_STR("query");
    tw_bson_iter iter;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, tw_str_of(row->name), "an object");
    }
    tw_err err = TW_OK;
    tw_bson_open_doc(self->b, tw_str_of(row->name));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, inner)) {
            err = add_query(self, inner, iter.value, depth + 1);
        } else if (tw_str_in_list(iter.name, row->allowed, ' ')) {
            err = add_param(self, iter.name, iter.value, "");
        } else {
            err = refuse(self, row->name, iter.name);
        }
    }
    tw_bson_close(self->b);
    return err;
}

static const clause clauses[] = {
    {"match", add_on_field,
     "query operator minimum_should_match zero_terms_query lenient boost "
     "auto_generate_synonyms_phrase_query"},
    {"match_phrase", add_on_field, "query slop zero_terms_query boost"},
    {"match_phrase_prefix", add_on_field, "query slop max_expansions boost"},
    {"match_bool_prefix", add_on_field, "query operator minimum_should_match boost"},
    {"multi_match", add_plain,
     "query fields type operator minimum_should_match tie_breaker slop lenient boost "
     "zero_terms_query max_expansions"},
    {"term", add_on_field, "value boost case_insensitive"},
    {"terms", add_terms, ""},
    {"range", add_on_field, "gt gte lt lte format time_zone relation boost"},
    {"exists", add_plain, "field boost"},
    {"ids", add_plain, "values boost"},
    {"prefix", add_on_field, "value boost case_insensitive"},
    {"bool", add_bool, "minimum_should_match boost"},
    {"nested", add_around, "path score_mode ignore_unmapped boost"},
    {"constant_score", add_around, "boost"},
    {"query_string", add_string,
     "query fields default_field default_operator minimum_should_match lenient boost "
     "analyze_wildcard phrase_slop tie_breaker type time_zone"},
    {"simple_query_string", add_string,
     "query fields default_operator minimum_should_match lenient boost analyze_wildcard flags"},
    {"match_all", add_plain, "boost"},
    {"match_none", add_plain, "boost"},
};

static tw_err add_query(reader *self, tw_str name, tw_bson_value query, int depth)
{
    tw_bson doc = tw_bson_value_doc(query);
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, doc);
    if (query.type != TW_BSON_DOCUMENT || tw_bson_count(doc) != 1 || !tw_bson_iter_next(&iter)) {
        return broker_refuse(self->why, TW_E_BAD_QUERY,
                             "A query is to be an object with one clause.");
    }
    if (depth > TW_SEARCH_DEPTH_MAX) {
        return broker_refuse(self->why, TW_E_DEPTH, "The query is nested over %d levels.",
                             TW_SEARCH_DEPTH_MAX);
    }
    if (++self->clauses > TW_SEARCH_CLAUSES_MAX) {
        return broker_refuse(self->why, TW_E_TOO_COSTLY, "The query has over %d clauses.",
                             TW_SEARCH_CLAUSES_MAX);
    }
    for (size_t i = 0; i < TW_COUNT(clauses); i++) {
        if (tw_str_equal(iter.name, tw_str_of(clauses[i].name))) {
            tw_bson_open_doc(self->b, name);
            tw_err err = clauses[i].add(self, &clauses[i], iter.value, depth);
            tw_bson_close(self->b);
            return err;
        }
    }
    return refuse(self, "query", iter.name);
}

/* ---- aggregations ---- */
typedef struct aggregation {
    const char *name;
    const char *allowed;
    const char *objects;
} aggregation;

static const aggregation aggregations[] = {
    {"terms", "field size order missing min_doc_count shard_size", "include exclude order"},
    {"histogram", "field interval min_doc_count offset keyed missing",
     "extended_bounds hard_bounds order"},
    {"date_histogram",
     "field calendar_interval fixed_interval time_zone offset format min_doc_count keyed missing",
     "extended_bounds hard_bounds order"},
    {"range", "field keyed missing", "ranges"},
    {"missing", "field missing", ""},
    {"nested", "path", ""},
    {"cardinality", "field precision_threshold missing", ""},
    {"min", "field missing format", ""},
    {"max", "field missing format", ""},
    {"avg", "field missing format", ""},
    {"sum", "field missing format", ""},
    {"stats", "field missing format", ""},
    {"value_count", "field format", ""},
};

static tw_err add_filters(reader *self, tw_bson_value value)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, TW_STR("filters"), "an object");
    }
    tw_bson_open_doc(self->b, TW_STR("filters"));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("filters"))) {
            err = tw_str_in_list(iter.name, "other_bucket other_bucket_key keyed", ' ')
                      ? add_param(self, iter.name, iter.value, "")
                      : refuse(self, "filters", iter.name);
            continue;
        }
        bool list = iter.value.type == TW_BSON_ARRAY;
        tw_bson_iter each;
        if (list) {
            tw_bson_open_array(self->b, iter.name);
        } else {
            tw_bson_open_doc(self->b, iter.name);
        }
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            err = add_query(self, each.name, each.value, 1);
        }
        tw_bson_close(self->b);
    }
    tw_bson_close(self->b);
    return err;
}

/* Lists of words may be named; a text would be a regular expression. */
static tw_err check_terms(reader *self, tw_bson params)
{
    static const char *const lists[] = {"include", "exclude"};
    for (size_t i = 0; i < TW_COUNT(lists); i++) {
        tw_bson_value value = tw_bson_get(params, tw_str_of(lists[i]));
        if (value.type != 0 && !is_scalars(value)) {
            return wrong_form(self, tw_str_of(lists[i]), "a list of values");
        }
    }
    int64_t size = tw_bson_get_i64_or(params, TW_STR("size"), 10);
    if (size < 1 || size > TW_SEARCH_BUCKETS_MAX) {
        return broker_refuse(self->why, TW_E_TOO_COSTLY, "terms: size is to be 1 to %d.",
                             TW_SEARCH_BUCKETS_MAX);
    }
    return TW_OK;
}

static tw_err add_aggregation(reader *self, tw_str kind, tw_bson_value value)
{
    if (tw_str_equal(kind, TW_STR("filter"))) {
        return add_query(self, kind, value, 1);
    }
    if (tw_str_equal(kind, TW_STR("filters"))) {
        return add_filters(self, value);
    }
    for (size_t i = 0; i < TW_COUNT(aggregations); i++) {
        const aggregation *row = &aggregations[i];
        if (!tw_str_equal(kind, tw_str_of(row->name))) {
            continue;
        }
        tw_bson params = tw_bson_value_doc(value);
        if (value.type != TW_BSON_DOCUMENT) {
            return wrong_form(self, kind, "an object");
        }
        tw_err err = i == 0 ? check_terms(self, params) : TW_OK;
        tw_bson_open_doc(self->b, kind);
        if (err == TW_OK) {
            err = add_params(self, row->name, params, row->allowed, row->objects);
        }
        tw_bson_close(self->b);
        return err;
    }
    return refuse(self, "aggs", kind);
}

static tw_err add_aggregations(reader *self, tw_str name, tw_bson_value value, int depth)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, name, "an object");
    }
    if (depth > TW_SEARCH_AGGS_DEPTH_MAX) {
        return broker_refuse(self->why, TW_E_DEPTH, "Aggregations are nested over %d levels.",
                             TW_SEARCH_AGGS_DEPTH_MAX);
    }
    tw_bson_open_doc(self->b, TW_STR("aggs"));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        tw_bson_iter each;
        if (iter.value.type != TW_BSON_DOCUMENT) {
            return wrong_form(self, iter.name, "an object");
        }
        if (++self->clauses > TW_SEARCH_CLAUSES_MAX) {
            return broker_refuse(self->why, TW_E_TOO_COSTLY, "The body has over %d clauses.",
                                 TW_SEARCH_CLAUSES_MAX);
        }
        tw_bson_open_doc(self->b, iter.name);
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            err = tw_str_in_list(each.name, "aggs aggregations", ' ')
                      ? add_aggregations(self, each.name, each.value, depth + 1)
                      : add_aggregation(self, each.name, each.value);
        }
        tw_bson_close(self->b);
    }
    tw_bson_close(self->b);
    return err;
}

/* ---- the other parts of a body ---- */
static tw_err add_sort_one(reader *self, tw_bson_value value)
{
    tw_bson_iter iter;
    tw_str text = tw_bson_value_str(value);
    if (text.ptr != NULL) { /* "name", "name desc" */
        const char *space = memchr(text.ptr, ' ', text.len);
        tw_str name = {text.ptr, space == NULL ? text.len : (size_t)(space - text.ptr)};
        tw_str order = {text.ptr + name.len + (space == NULL ? 0 : 1),
                        text.len - name.len - (space == NULL ? 0 : 1)};
        bool named = name.len > 0 && (name.ptr[0] != '_' ||
                                      tw_str_in_list(name, "_score _id _doc _index _tw.id", ' '));
        if (!named || (space != NULL && !tw_str_in_list(order, "asc desc", ' '))) {
            return refuse(self, "sort", text);
        }
        if (space == NULL) {
            tw_bson_add_str(self->b, TW_STR(""), name);
            return TW_OK;
        }
        tw_bson_open_doc(self->b, TW_STR(""));
        tw_bson_add_str(self->b, name, order);
        tw_bson_close(self->b);
        return TW_OK;
    }
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, TW_STR("sort"), "names, or objects of names");
    }
    tw_err err = TW_OK;
    tw_bson_open_doc(self->b, TW_STR(""));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        bool reserved = iter.name.len > 0 && iter.name.ptr[0] == '_' &&
                        !tw_str_in_list(iter.name, "_score _id _doc _index", ' ');
        if (reserved) {
            err = refuse(self, "sort", iter.name);
        } else if (iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(self->b, iter.name);
            err = add_params(self, "sort", tw_bson_value_doc(iter.value),
                             "order missing mode unmapped_type format numeric_type", "");
            tw_bson_close(self->b);
        } else {
            err = add_param(self, iter.name, iter.value, "");
        }
    }
    tw_bson_close(self->b);
    return err;
}

static tw_err add_sort(reader *self, tw_bson_value value)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    tw_bson_open_array(self->b, TW_STR("sort"));
    if (value.type != TW_BSON_ARRAY) {
        err = add_sort_one(self, value);
    }
    for (tw_bson_iter_init(&iter, value.type == TW_BSON_ARRAY ? tw_bson_value_doc(value)
                                                              : (tw_bson){NULL, 0});
         err == TW_OK && tw_bson_iter_next(&iter);) {
        err = add_sort_one(self, iter.value);
    }
    tw_bson_close(self->b);
    return err;
}

/* `_tw` is the server's: es_proxy takes it out of what comes back, as an engine that filters reads
 * each document anew. Where it is to filter anyhow, it leaves that out too. */
static tw_err add_source(reader *self, tw_bson_value value)
{
    tw_bson doc = tw_bson_value_doc(value);
    tw_err err = TW_OK;
    if (value.type == 0 || value.type == TW_BSON_BOOL) {
        if (!tw_bson_value_bool_or(value, true)) {
            tw_bson_add_value(self->b, TW_STR("_source"), value);
        }
        return TW_OK;
    }
    tw_bson_open_doc(self->b, TW_STR("_source"));
    if (value.type == TW_BSON_STRING || is_scalars(value)) {
        tw_bson_add_value(self->b, TW_STR("includes"), value);
    } else if (value.type == TW_BSON_DOCUMENT) {
        tw_bson_value includes = tw_bson_get(doc, TW_STR("includes"));
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
            err = tw_str_in_list(iter.name, "includes excludes", ' ')
                      ? TW_OK
                      : refuse(self, "_source", iter.name);
        }
        if (err == TW_OK && includes.type != 0) {
            err = add_param(self, TW_STR("includes"), includes, "");
        }
    } else {
        err = wrong_form(self, TW_STR("_source"), "true, false, names or an object");
    }
    tw_bson_value excludes = tw_bson_get(doc, TW_STR("excludes"));
    tw_bson_open_array(self->b, TW_STR("excludes"));
    tw_bson_add_str(self->b, TW_STR(""), TW_STR("_tw"));
    if (excludes.type == TW_BSON_STRING) {
        tw_bson_add_value(self->b, TW_STR(""), excludes);
    } else if (is_scalars(excludes)) {
        tw_bson_add_all(self->b, tw_bson_value_doc(excludes));
    } else if (err == TW_OK && excludes.type != 0 && value.type == TW_BSON_DOCUMENT) {
        err = wrong_form(self, TW_STR("excludes"), "names");
    }
    tw_bson_close(self->b);
    tw_bson_close(self->b);
    return err;
}

static const char highlight_words[] =
    "type number_of_fragments fragment_size pre_tags post_tags order require_field_match encoder "
    "no_match_size boundary_scanner boundary_max_scan tags_schema fragmenter";

static tw_err add_highlight(reader *self, tw_bson_value value)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, TW_STR("highlight"), "an object");
    }
    tw_bson_open_doc(self->b, TW_STR("highlight"));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("fields"))) {
            err = tw_str_in_list(iter.name, highlight_words, ' ')
                      ? add_param(self, iter.name, iter.value, "")
                      : refuse(self, "highlight", iter.name);
            continue;
        }
        tw_bson_iter each;
        tw_bson_open_doc(self->b, iter.name);
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            tw_bson_open_doc(self->b, each.name);
            err = add_params(self, "highlight", tw_bson_value_doc(each.value), highlight_words, "");
            tw_bson_close(self->b);
        }
        tw_bson_close(self->b);
    }
    tw_bson_close(self->b);
    return err;
}

/* {name: {"prefix": text, "completion": {...}}}: no other suggester. */
static tw_err add_suggest(reader *self, tw_bson_value value)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    if (value.type != TW_BSON_DOCUMENT) {
        return wrong_form(self, TW_STR("suggest"), "an object");
    }
    tw_bson_open_doc(self->b, TW_STR("suggest"));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (iter.value.type != TW_BSON_DOCUMENT) {
            return wrong_form(self, iter.name, "an object");
        }
        tw_bson_iter each;
        tw_bson_open_doc(self->b, iter.name);
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            if (tw_str_in_list(each.name, "prefix text", ' ') && is_scalar(each.value)) {
                tw_bson_add_value(self->b, each.name, each.value);
            } else if (tw_str_equal(each.name, TW_STR("completion"))) {
                tw_bson params = tw_bson_value_doc(each.value);
                tw_bson_open_doc(self->b, each.name);
                err =
                    tw_bson_get_i64_or(params, TW_STR("size"), 5) > TW_SEARCH_SIZE_MAX
                        ? wrong_form(self, TW_STR("size"), "100 at most")
                        : add_params(self, "completion", params, "field size skip_duplicates", "");
                tw_bson_close(self->b);
            } else {
                err = refuse(self, "suggest", each.name);
            }
        }
        tw_bson_close(self->b);
    }
    tw_bson_close(self->b);
    return err;
}

static tw_err add_collapse(reader *self, tw_bson_value value)
{
    tw_bson doc = tw_bson_value_doc(value);
    tw_bson_iter iter;
    tw_err err = TW_OK;
    tw_bson_open_doc(self->b, TW_STR("collapse"));
    for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("field"))) {
            err = add_param(self, iter.name, iter.value, "");
        } else if (!tw_str_equal(iter.name, TW_STR("inner_hits")) ||
                   iter.value.type != TW_BSON_DOCUMENT) {
            err = refuse(self, "collapse", iter.name);
        } else {
            tw_bson params = tw_bson_value_doc(iter.value);
            int64_t size = tw_bson_get_i64_or(params, TW_STR("size"), 3);
            tw_bson_iter each;
            tw_bson_open_doc(self->b, iter.name);
            for (tw_bson_iter_init(&each, params); err == TW_OK && tw_bson_iter_next(&each);) {
                if (tw_str_equal(each.name, TW_STR("sort"))) {
                    err = add_sort(self, each.value);
                } else if (tw_str_equal(each.name, TW_STR("_source"))) {
                    continue; /* below */
                } else {
                    err = tw_str_in_list(each.name, "name size from", ' ') && size >= 0 &&
                                  size <= TW_SEARCH_GROUPS_MAX
                              ? add_param(self, each.name, each.value, "")
                              : refuse(self, "inner_hits", each.name);
                }
            }
            if (err == TW_OK) {
                err = add_source(self, tw_bson_get(params, TW_STR("_source")));
            }
            tw_bson_close(self->b);
        }
    }
    tw_bson_close(self->b);
    return err;
}

static tw_err add_search_after(reader *self, tw_bson_value value)
{
    if (!is_scalars(value)) {
        return wrong_form(self, TW_STR("search_after"), "a list of values");
    }
    tw_bson_add_value(self->b, TW_STR("search_after"), value);
    return TW_OK;
}

static tw_err add_track(reader *self, tw_bson_value value)
{
    int64_t most = 0;
    bool fits = value.type == TW_BSON_BOOL ||
                (tw_bson_value_i64(value, &most) && most >= 0 && most <= INT32_MAX);
    if (!fits) {
        return wrong_form(self, TW_STR("track_total_hits"), "true, false or a number");
    }
    tw_bson_add_value(self->b, TW_STR("track_total_hits"), value);
    return TW_OK;
}

static tw_err add_aggs(reader *self, tw_bson_value value)
{
    return add_aggregations(self, TW_STR("aggs"), value, 1);
}

static const struct part {
    const char *name;
    tw_err (*add)(reader *self, tw_bson_value value); /* NULL: read by search_body_add */
} parts[] = {
    {"query", NULL},
    {"size", NULL},
    {"from", NULL},
    {"_source", NULL},
    {"sort", add_sort},
    {"search_after", add_search_after},
    {"highlight", add_highlight},
    {"aggs", add_aggs},
    {"aggregations", add_aggs},
    {"track_total_hits", add_track},
    {"collapse", add_collapse},
    {"suggest", add_suggest},
};

static tw_err read_number(reader *self, tw_bson body, const char *name, int64_t max, int64_t *out)
{
    tw_bson_value value = tw_bson_get(body, tw_str_of(name));
    *out = -1;
    if (value.type == 0) {
        return TW_OK;
    }
    if (!tw_bson_value_i64(value, out) || *out < 0 || *out > max) {
        return broker_refuse(self->why, TW_E_BAD_QUERY, "\"%s\" is to be 0 to %lld.", name,
                             (long long)max);
    }
    tw_bson_add_i64(self->b, tw_str_of(name), *out);
    return TW_OK;
}

tw_err search_body_add(tw_bson_builder *b, tw_bson body, search_body *out, broker_why *why)
{
    reader self = {.b = b, .why = why};
    tw_bson_iter iter;
    *out = (search_body){.query = tw_bson_get(body, TW_STR("query"))};
    tw_err err = read_number(&self, body, "size", TW_SEARCH_SIZE_MAX, &out->size);
    if (err == TW_OK) {
        err = read_number(&self, body, "from", TW_SEARCH_WINDOW_MAX, &out->from);
    }
    int64_t last = (out->from < 0 ? 0 : out->from) + (out->size < 0 ? 10 : out->size);
    if (err == TW_OK && last > TW_SEARCH_WINDOW_MAX) {
        return broker_refuse(why, TW_E_BAD_QUERY, "from + size is over %d; use stream_search.",
                             TW_SEARCH_WINDOW_MAX);
    }
    if (err == TW_OK) {
        err = add_source(&self, tw_bson_get(body, TW_STR("_source")));
    }
    for (tw_bson_iter_init(&iter, body); err == TW_OK && tw_bson_iter_next(&iter);) {
        size_t i = 0;
        while (i < TW_COUNT(parts) && !tw_str_equal(iter.name, tw_str_of(parts[i].name))) {
            i++;
        }
        if (i == TW_COUNT(parts)) {
            err = refuse(&self, "body", iter.name);
        } else if (parts[i].add != NULL) {
            err = parts[i].add(&self, iter.value);
        }
    }
    return err;
}

tw_err search_body_add_query(tw_bson_builder *b, tw_str name, tw_bson_value query, broker_why *why)
{
    reader self = {.b = b, .why = why};
    if (query.type != TW_BSON_STRING) {
        return add_query(&self, name, query, 1);
    }
    tw_err err = check_lucene(&self, "query", query);
    if (err == TW_OK) {
        add_lucene(&self, name, query);
    }
    return err;
}

tw_err search_body_add_sort(tw_bson_builder *b, tw_bson_value sort, broker_why *why)
{
    reader self = {.b = b, .why = why};
    return add_sort(&self, sort);
}
