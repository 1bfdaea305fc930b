/* search_query_compile.c - from the clauses of search_query.h to a tree. One row, one clause. */
#include <math.h>

#include "broker/search_query_priv.h"

static tw_err compile(search_compiler *self, tw_bson_value query, int depth, search_node **out);

/* ---- parameters ---- */
/* A parameter that is not carried out is refused. */
static tw_err check_params(search_compiler *self, const char *clause, tw_bson params,
                           const char *known)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, params); tw_bson_iter_next(&iter);) {
        if (!tw_str_in_list(iter.name, known, ' ')) {
            return search_refuse_param(self, clause, iter.name);
        }
    }
    return TW_OK;
}

static double number_or(tw_bson doc, const char *name, double fallback)
{
    tw_bson_value value = tw_bson_get(doc, tw_str_of(name));
    return tw_bson_value_is_number(value) ? tw_bson_value_double(value) : fallback;
}

/* ---- clauses ---- */
typedef struct clause {
    const char *name;
    tw_err (*compile)(search_compiler *self, const struct clause *row, tw_bson params, tw_str field,
                      int depth, search_node **out);
    const char *known; /* parameters that are carried out, or that change nothing here */
    const char *value; /* of {field: value}: the parameter that the value stands for */
} clause;

static tw_err none_if_null(search_compiler *self, tw_err err, search_node **out)
{
    if (err == TW_OK && *out == NULL) {
        *out = search_node_new(self, SEARCH_NONE, &err);
    }
    return err;
}

static tw_err text_of(search_compiler *self, tw_bson_value value, tw_str *out)
{
    char scratch[64];
    tw_str text = search_keyword_of(value, scratch);
    *out = search_keep(self, text);
    return text.ptr == NULL ? broker_refuse(self->why, TW_E_BAD_QUERY, "\"query\" is to be a text.")
           : out->ptr == NULL && text.len > 0 ? TW_E_NO_MEMORY
                                              : TW_OK;
}

static tw_err read_asked(search_compiler *self, const char *name, tw_bson params,
                         search_asked *asked)
{
    tw_str operator= tw_bson_get_str(params, TW_STR("operator"));
    operator= operator.ptr == NULL ? tw_bson_get_str(params, TW_STR("default_operator")) : operator;
    bool both = operator.ptr != NULL && operator.len == 3;
    int64_t slop = tw_bson_get_i64_or(params, TW_STR("slop"),
                                      tw_bson_get_i64_or(params, TW_STR("phrase_slop"), 0));
    tw_str zero = tw_bson_get_str(params, TW_STR("zero_terms_query"));
    *asked = (search_asked){
        .kind = strstr(name, "phrase") != NULL ? SEARCH_PHRASE : SEARCH_MATCH,
        .prefix = strstr(name, "prefix") != NULL,
        .every = both,
        .least = tw_bson_get(params, TW_STR("minimum_should_match")),
        .slop = slop < 0 || slop > 1000 ? 1000 : (uint32_t)slop,
        .lenient = tw_bson_get_bool_or(params, TW_STR("lenient"), false),
        .boost = number_or(params, "boost", 1),
        .tie = number_or(params, "tie_breaker", 0),
    };
    if (zero.ptr != NULL && !tw_str_equal(zero, TW_STR("none"))) {
        return search_refuse_param(self, name, TW_STR("zero_terms_query"));
    }
    return text_of(self, tw_bson_get(params, TW_STR("query")), &asked->text);
}

static tw_err compile_match(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                            int depth, search_node **out)
{
    (void)depth;
    search_asked asked;
    search_target target = {field, 1};
    tw_err err = read_asked(self, row->name, params, &asked);
    if (err == TW_OK) {
        err = search_text_node(self, &(search_targets){&target, 1, false}, &asked, out);
    }
    return none_if_null(self, err, out);
}

static tw_err compile_multi(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                            int depth, search_node **out)
{
    (void)field;
    (void)depth;
    tw_str type = tw_bson_get_str(params, TW_STR("type"));
    type = type.ptr == NULL ? TW_STR("best_fields") : type;
    search_targets where;
    search_asked asked;
    if (!tw_str_in_list(type, "best_fields most_fields phrase phrase_prefix", ' ')) {
        char name[64];
        tw_format(name, sizeof name, "type %.*s", (int)(type.len < 40 ? type.len : 40), type.ptr);
        return search_refuse_param(self, row->name, tw_str_of(name));
    }
    char kind[32];
    tw_format(kind, sizeof kind, "%.*s", (int)type.len, type.ptr);
    tw_err err = read_asked(self, kind, params, &asked);
    asked.sum = tw_str_equal(type, TW_STR("most_fields"));
    if (err == TW_OK) {
        err = search_targets_read(self, tw_bson_get(params, TW_STR("fields")), &where);
    }
    if (err == TW_OK) {
        err = search_text_node(self, &where, &asked, out);
    }
    return none_if_null(self, err, out);
}

static tw_err compile_string(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                             int depth, search_node **out)
{
    (void)field;
    (void)depth;
    bool simple = row->name[0] == 's';
    tw_bson_value names = tw_bson_get(params, TW_STR("fields"));
    names = names.type == 0 ? tw_bson_get(params, TW_STR("default_field")) : names;
    tw_str only = tw_bson_value_str(names);
    names = only.ptr != NULL && tw_str_equal(only, TW_STR("*")) ? (tw_bson_value){0} : names;
    search_targets where;
    search_lucene parser = {.compiler = self, .where = &where, .clause = row->name};
    tw_err err = read_asked(self, row->name, params, &parser.asked);
    parser.asked.kind = SEARCH_MATCH;
    parser.asked.lenient = parser.asked.lenient || simple;
    parser.asked.sum = simple;
    parser.asked.slop = (uint32_t)tw_bson_get_i64_or(params, TW_STR("phrase_slop"), 0);
    if (err == TW_OK) {
        err = search_targets_read(self, names, &where);
    }
    if (err == TW_OK) {
        parser.at = parser.asked.text.ptr;
        parser.end = parser.at + parser.asked.text.len;
        err = simple ? search_simple_parse(&parser, out) : search_lucene_parse(&parser, out);
    }
    return none_if_null(self, err, out);
}

static tw_err add_value(search_compiler *self, search_node *node, tw_bson_value value)
{
    char scratch[64];
    double number;
    if (node->type == SEARCH_LONG || node->type == SEARCH_DOUBLE || node->type == SEARCH_BOOLEAN ||
        node->type == SEARCH_DATE) {
        if (!search_number_of(node->type, value, false, &number)) {
            return search_wrong_value(self, node, search_keyword_of(value, scratch));
        }
        node->numbers[node->numbers_count++] = number;
        return TW_OK;
    }
    node->terms[node->terms_count] = search_keep(self, search_keyword_of(value, scratch));
    return node->terms[node->terms_count++].ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static tw_err compile_values(search_compiler *self, tw_str field, tw_bson values, bool scored,
                             search_node **out)
{
    tw_err err;
    size_t count = tw_bson_count(values);
    tw_bson_iter iter;
    search_node *node = search_node_new(self, SEARCH_TERM, &err);
    *out = node;
    if (node == NULL) {
        return err;
    }
    if (tw_str_equal(field, TW_STR("_id"))) {
        node->kind = SEARCH_IDS;
    } else if (!search_node_field(self, node, field)) {
        node->kind = SEARCH_NONE;
        return TW_OK;
    }
    node->terms = tw_arena_zero(self->arena, count + 1, sizeof *node->terms);
    node->weights = scored ? tw_arena_zero(self->arena, count + 1, sizeof(double)) : NULL;
    node->numbers = tw_arena_zero(self->arena, count + 1, sizeof *node->numbers);
    node->least = 1;
    if (node->terms == NULL || node->numbers == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (tw_bson_iter_init(&iter, values); err == TW_OK && tw_bson_iter_next(&iter);) {
        err = add_value(self, node, iter.value);
    }
    if (node->type == SEARCH_TEXT && node->kind == SEARCH_TERM) {
        node->kind = SEARCH_MATCH; /* its terms as they stand */
    }
    return err;
}

static tw_err compile_term(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                           int depth, search_node **out)
{
    (void)row;
    (void)depth;
    tw_err err;
    tw_bson_value value = tw_bson_get(params, TW_STR("value"));
    tw_buf built;
    tw_bson_builder b;
    search_node *node = search_node_new(self, SEARCH_RANGE, &err);
    if (node != NULL && search_node_field(self, node, field) && node->type == SEARCH_DATE) {
        *out = node;
        char scratch[64];
        return search_date_node(node, value, (tw_str){NULL, 0}) == TW_OK
                   ? TW_OK
                   : search_wrong_value(self, node, search_keyword_of(value, scratch));
    }
    tw_buf_init(&built, TW_SEARCH_BODY_MAX);
    tw_bson_begin(&b, &built);
    tw_bson_add_value(&b, TW_STR("0"), value);
    tw_bson list = tw_arena_bson(self->arena, tw_bson_end(&b));
    tw_buf_fini(&built);
    err = list.ptr == NULL ? TW_E_NO_MEMORY : compile_values(self, field, list, true, out);
    if (err == TW_OK) {
        (*out)->boost = number_or(params, "boost", 1);
    }
    return err;
}

static tw_err compile_terms(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                            int depth, search_node **out)
{
    (void)field;
    (void)depth;
    tw_bson_iter iter;
    tw_err err = TW_OK;
    *out = NULL;
    for (tw_bson_iter_init(&iter, params); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("boost"))) {
            continue;
        }
        if (*out != NULL) {
            return search_refuse_param(self, row->name, iter.name);
        }
        err = compile_values(self, iter.name, tw_bson_value_doc(iter.value), false, out);
        if (err == TW_OK) {
            (*out)->boost = number_or(params, "boost", 1);
        }
    }
    return none_if_null(self, err, out);
}

static tw_err compile_range(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                            int depth, search_node **out)
{
    (void)row;
    (void)depth;
    return search_range_node(self, field, params, false, out);
}

static tw_err bound(search_compiler *self, search_node *node, tw_bson_value value, bool upper,
                    double *out, tw_str *words)
{
    char scratch[64];
    tw_str text = tw_bson_value_str(value);
    if (node->type == SEARCH_UNKNOWN && search_number_of(SEARCH_DOUBLE, value, false, out)) {
        return TW_OK;
    }
    if (node->type == SEARCH_UNKNOWN && search_number_of(SEARCH_DATE, value, upper, out)) {
        return TW_OK;
    }
    if (node->type == SEARCH_KEYWORD || node->type == SEARCH_TEXT || node->type == SEARCH_UNKNOWN) {
        *words = search_keep(self, search_keyword_of(value, scratch));
        return words->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    if (node->type == SEARCH_DATE && text.ptr != NULL &&
        (memmem(text.ptr, text.len, "now", 3) != NULL ||
         memmem(text.ptr, text.len, "||", 2) != NULL)) {
        return search_refuse_param(self, "range", TW_STR("date math"));
    }
    if (!search_number_of(node->type, value, upper, out)) {
        return search_wrong_value(self, node, search_keyword_of(value, scratch));
    }
    return TW_OK;
}

tw_err search_range_node(search_compiler *self, tw_str field, tw_bson bounds, bool lenient,
                         search_node **out)
{
    static const struct {
        const char *name;
        bool high, open;
    } rows[] = {
        {"gt", false, true}, {"gte", false, false}, {"lt", true, true}, {"lte", true, false}};
    tw_err err;
    search_node *node = search_node_new(self, SEARCH_RANGE, &err);
    *out = node;
    if (node == NULL) {
        return err;
    }
    if (!search_node_field(self, node, field)) {
        node->kind = SEARCH_NONE;
        return TW_OK;
    }
    node->low = -INFINITY;
    node->high = INFINITY;
    node->boost = number_or(bounds, "boost", 1);
    for (size_t i = 0; i < TW_COUNT(rows) && err == TW_OK; i++) {
        tw_bson_value value = tw_bson_get(bounds, tw_str_of(rows[i].name));
        if (value.type == 0 || value.type == TW_BSON_NULL) {
            continue;
        }
        double number = rows[i].high ? INFINITY : -INFINITY;
        /* A day is all of it: above it, and up to it, reckon from its end. */
        bool upper = rows[i].high != rows[i].open;
        err = bound(self, node, value, upper, &number,
                    rows[i].high ? &node->high_text : &node->low_text);
        *(rows[i].high ? &node->high : &node->low) = number;
        *(rows[i].high ? &node->high_open : &node->low_open) = rows[i].open;
    }
    if (err == TW_E_BAD_QUERY && lenient) {
        node->kind = SEARCH_NONE;
        err = TW_OK;
    }
    return err;
}

static tw_err compile_exists(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                             int depth, search_node **out)
{
    (void)row;
    (void)depth;
    (void)field;
    return search_exists_node(self, tw_bson_get_str(params, TW_STR("field")), out);
}

tw_err search_exists_node(search_compiler *self, tw_str field, search_node **out)
{
    tw_err err;
    search_node *node = search_node_new(self, SEARCH_EXISTS, &err);
    *out = node;
    if (node != NULL && (field.ptr == NULL || field.len == 0)) {
        return search_refuse_param(self, "exists", TW_STR("field"));
    }
    if (node != NULL && !search_node_field(self, node, field)) {
        node->path = field; /* an object: any of its fields */
        node->kind = SEARCH_EXISTS;
    }
    return err;
}

static tw_err compile_prefix(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                             int depth, search_node **out)
{
    (void)row;
    (void)depth;
    tw_str text = tw_bson_get_str(params, TW_STR("value"));
    char *pattern = tw_arena_alloc(self->arena, text.len * 2 + 1);
    search_target target = {field, number_or(params, "boost", 1)};
    size_t len = 0;
    if (pattern == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("*?\\", text.ptr[i]) != NULL) {
            pattern[len++] = '\\';
        }
        pattern[len++] = text.ptr[i];
    }
    pattern[len++] = '*';
    tw_err err =
        search_wild_node(self, &(search_targets){&target, 1, false}, (tw_str){pattern, len}, out);
    return none_if_null(self, err, out);
}

tw_err search_wild_node(search_compiler *self, const search_targets *where, tw_str pattern,
                        search_node **out)
{
    tw_err err;
    search_node *best = search_node_new(self, SEARCH_BEST, &err);
    *out = NULL;
    if (best == NULL) {
        return err;
    }
    for (size_t i = where->count; i > 0; i--) {
        search_node *node = search_node_new(self, SEARCH_WILD, &err);
        if (node == NULL) {
            return err;
        }
        bool known = search_node_field(self, node, where->at[i - 1].name);
        if (!known || (node->type != SEARCH_TEXT && node->type != SEARCH_KEYWORD &&
                       node->type != SEARCH_UNKNOWN)) {
            continue;
        }
        node->pattern = search_keep(self, pattern);
        node->boost = where->at[i - 1].boost;
        node->next = best->first;
        best->first = node;
        if (node->pattern.ptr == NULL) {
            return TW_E_NO_MEMORY;
        }
    }
    *out = best->first == NULL ? NULL : best;
    return TW_OK;
}

static tw_err compile_ids(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                          int depth, search_node **out)
{
    (void)row;
    (void)depth;
    (void)field;
    tw_bson_value values = tw_bson_get(params, TW_STR("values"));
    if (values.type != TW_BSON_ARRAY) {
        return broker_refuse(self->why, TW_E_BAD_QUERY, "ids: \"values\" is to be a list.");
    }
    return compile_values(self, TW_STR("_id"), tw_bson_value_doc(values), false, out);
}

static tw_err compile_list(search_compiler *self, tw_bson_value value, search_role role, int depth,
                           search_node ***last)
{
    tw_bson_iter iter;
    bool list = value.type == TW_BSON_ARRAY;
    tw_err err = TW_OK;
    tw_bson_iter_init(&iter, list ? tw_bson_value_doc(value) : (tw_bson){NULL, 0});
    while (err == TW_OK && (!list || tw_bson_iter_next(&iter))) {
        search_node *node = NULL;
        err = compile(self, list ? iter.value : value, depth + 1, &node);
        if (err == TW_OK) {
            if (node->role != SEARCH_SHOULD || node->next != NULL) { /* a shared one: wrap it */
                search_node *around = search_node_new(self, SEARCH_BEST, &err);
                if (around == NULL) {
                    return err;
                }
                around->first = node;
                node = around;
            }
            node->role = role;
            **last = node;
            *last = &node->next;
        }
        if (!list) {
            break;
        }
    }
    return err;
}

static tw_err compile_bool(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                           int depth, search_node **out)
{
    (void)row;
    (void)field;
    static const struct {
        const char *name;
        search_role role;
    } roles[] = {{"must", SEARCH_MUST},
                 {"filter", SEARCH_FILTER},
                 {"should", SEARCH_SHOULD},
                 {"must_not", SEARCH_NOT}};
    tw_err err;
    search_node *node = search_node_new(self, SEARCH_BOOL, &err);
    *out = node;
    if (node == NULL) {
        return err;
    }
    search_node **last = &node->first;
    for (size_t i = 0; i < TW_COUNT(roles) && err == TW_OK; i++) {
        tw_bson_value value = tw_bson_get(params, tw_str_of(roles[i].name));
        err = value.type == 0 ? TW_OK : compile_list(self, value, roles[i].role, depth, &last);
    }
    size_t should = 0;
    bool other = false;
    for (const search_node *each = node->first; each != NULL; each = each->next) {
        should += each->role == SEARCH_SHOULD ? 1 : 0;
        other = other || each->role == SEARCH_MUST || each->role == SEARCH_FILTER;
    }
    node->least = search_least(tw_bson_get(params, TW_STR("minimum_should_match")), should,
                               should > 0 && !other ? 1 : 0);
    node->boost = number_or(params, "boost", 1);
    return err;
}

static tw_err compile_constant(search_compiler *self, const clause *row, tw_bson params,
                               tw_str field, int depth, search_node **out)
{
    (void)row;
    (void)field;
    tw_err err;
    search_node *node = search_node_new(self, SEARCH_CONST, &err);
    *out = node;
    if (node != NULL) {
        node->boost = number_or(params, "boost", 1);
        err = compile(self, tw_bson_get(params, TW_STR("filter")), depth + 1, &node->first);
    }
    return err;
}

static tw_err compile_all(search_compiler *self, const clause *row, tw_bson params, tw_str field,
                          int depth, search_node **out)
{
    (void)depth;
    (void)field;
    tw_err err;
    *out =
        search_node_new(self, strcmp(row->name, "match_all") == 0 ? SEARCH_ALL : SEARCH_NONE, &err);
    if (*out != NULL) {
        (*out)->boost = number_or(params, "boost", 1);
    }
    return err;
}

#define TEXT_PARAMS                                                                                \
    "query operator minimum_should_match lenient boost zero_terms_query "                          \
    "auto_generate_synonyms_phrase_query"

static const clause clauses[] = {
    {"match", compile_match, TEXT_PARAMS, "query"},
    {"match_phrase", compile_match, "query slop boost zero_terms_query", "query"},
    {"match_phrase_prefix", compile_match, "query slop boost max_expansions", "query"},
    {"multi_match", compile_multi, TEXT_PARAMS " fields type tie_breaker slop max_expansions",
     NULL},
    {"term", compile_term, "value boost", "value"},
    {"terms", compile_terms, NULL, NULL},
    {"range", compile_range, "gt gte lt lte boost", "gte"},
    {"exists", compile_exists, "field boost", NULL},
    {"prefix", compile_prefix, "value boost", "value"},
    {"ids", compile_ids, "values boost", NULL},
    {"bool", compile_bool, NULL, NULL},
    {"constant_score", compile_constant, "filter boost", NULL},
    {"query_string", compile_string,
     "query fields default_field default_operator lenient boost phrase_slop tie_breaker "
     "allow_leading_wildcard minimum_should_match analyze_wildcard",
     NULL},
    {"simple_query_string", compile_string,
     "query fields default_operator lenient boost minimum_should_match analyze_wildcard", NULL},
    {"match_all", compile_all, "boost", NULL},
    {"match_none", compile_all, "boost", NULL},
};

/* {field: value} or {field: {parameters}} as parameters. */
static tw_err params_of(search_compiler *self, const clause *row, tw_bson_value value,
                        tw_bson *params, tw_str *field)
{
    tw_bson_iter iter;
    *params = tw_bson_value_doc(value);
    if (row->value == NULL) {
        return TW_OK;
    }
    tw_bson_iter_init(&iter, *params);
    if (!tw_bson_iter_next(&iter)) {
        return broker_refuse(self->why, TW_E_BAD_QUERY, "%s: names no field.", row->name);
    }
    *field = iter.name;
    *params = tw_bson_value_doc(iter.value);
    if (iter.value.type == TW_BSON_DOCUMENT) {
        return TW_OK;
    }
    tw_buf built;
    tw_bson_builder b;
    tw_buf_init(&built, TW_SEARCH_BODY_MAX * 2);
    tw_bson_begin(&b, &built);
    tw_bson_add_value(&b, tw_str_of(row->value), iter.value);
    *params = tw_arena_bson(self->arena, tw_bson_end(&b));
    tw_err err = built.err != TW_OK ? built.err : params->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    tw_buf_fini(&built);
    return err;
}

static tw_err compile(search_compiler *self, tw_bson_value query, int depth, search_node **out)
{
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, tw_bson_value_doc(query));
    *out = NULL;
    if (query.type != TW_BSON_DOCUMENT || !tw_bson_iter_next(&iter)) {
        return broker_refuse(self->why, TW_E_BAD_QUERY,
                             "A query is to be an object with one clause.");
    }
    if (depth > TW_SEARCH_DEPTH_MAX) {
        return broker_refuse(self->why, TW_E_DEPTH, "The query is nested over %d levels.",
                             TW_SEARCH_DEPTH_MAX);
    }
    for (size_t i = 0; i < TW_COUNT(clauses); i++) {
        const clause *row = &clauses[i];
        tw_bson params;
        tw_str field = {NULL, 0};
        if (!tw_str_equal(iter.name, tw_str_of(row->name))) {
            continue;
        }
        tw_err err = params_of(self, row, iter.value, &params, &field);
        if (err == TW_OK && row->known != NULL) {
            err = check_params(self, row->name, params, row->known);
        }
        return err == TW_OK ? row->compile(self, row, params, field, depth, out) : err;
    }
    return search_refuse_param(self, "query", iter.name);
}

tw_err search_query_compile(tw_arena *arena, tw_bson_value query, const search_mapping *mapping,
                            search_query **out, broker_why *why)
{
    search_compiler self = {.arena = arena, .mapping = mapping, .why = why};
    search_query *made = tw_arena_zero(arena, 1, sizeof *made);
    tw_err err = TW_OK;
    if (made == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (query.type == 0) {
        made->root = search_node_new(&self, SEARCH_ALL, &err);
    } else {
        err = compile(&self, query, 1, &made->root);
    }
    *out = err == TW_OK ? made : NULL;
    return err;
}

search_query *search_query_narrow(tw_arena *arena, search_query *query, search_query *filter)
{
    search_compiler self = {.arena = arena};
    tw_err err;
    search_query *made = tw_arena_zero(arena, 1, sizeof *made);
    search_node *around = search_node_new(&self, SEARCH_BOOL, &err);
    search_node *must = search_node_new(&self, SEARCH_BEST, &err);
    search_node *also = search_node_new(&self, SEARCH_BEST, &err);
    if (made == NULL || around == NULL || must == NULL || also == NULL) {
        return NULL;
    }
    must->first = query->root;
    must->role = SEARCH_MUST;
    must->next = also;
    also->first = filter->root;
    also->role = SEARCH_FILTER;
    around->first = must;
    made->root = around;
    return made;
}
