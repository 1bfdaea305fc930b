/* search_query_node.c - what the clauses of a query are made of: nodes, the fields that they look
 * at, texts in them. */
#include <math.h>

#include "broker/search_query_priv.h"

tw_str search_keep(search_compiler *self, tw_str text)
{
    return text.len == 0 ? TW_STR("") : tw_arena_str(self->arena, text);
}

search_node *search_node_new(search_compiler *self, search_kind kind, tw_err *err)
{
    search_node *node = NULL;
    if (++self->nodes > SEARCH_NODES_MAX) {
        *err = broker_refuse(self->why, TW_E_TOO_COSTLY,
                             "The query has over %d clauses, a text in many fields is many.",
                             SEARCH_NODES_MAX);
        return NULL;
    }
    node = tw_arena_zero(self->arena, 1, sizeof *node);
    *err = node == NULL ? TW_E_NO_MEMORY : TW_OK;
    if (node != NULL) {
        node->kind = kind;
        node->boost = 1;
    }
    return node;
}

tw_err search_refuse_param(search_compiler *self, const char *clause, tw_str name)
{
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(self->why, TW_E_BAD_QUERY,
                         "%s: \"%s\" is not supported by the embedded search.", clause,
                         broker_show(name, shown));
}

bool search_node_field(search_compiler *self, search_node *node, tw_str name)
{
    static const char keyword[] = ".keyword";
    node->field = node->path = name;
    if (self->mapping == NULL) {
        size_t tail = sizeof keyword - 1;
        if (name.len > tail && memcmp(name.ptr + name.len - tail, keyword, tail) == 0) {
            node->path.len -= tail;
            node->type = SEARCH_KEYWORD;
        }
        return true;
    }
    const search_field *field = search_mapping_find(self->mapping, name);
    if (field == NULL || field->type == SEARCH_OPAQUE) {
        return false;
    }
    node->path = field->path;
    node->type = field->type;
    node->number = field->number;
    node->ignore_above = field->ignore_above;
    return true;
}

int search_least(tw_bson_value given, size_t of, int fallback)
{
    tw_str text = tw_bson_value_str(given);
    int64_t number = 0;
    if (given.type == 0) {
        return fallback;
    }
    if (text.ptr != NULL) {
        bool percent = text.len > 0 && text.ptr[text.len - 1] == '%';
        double value = 0;
        if (!search_number_of_text(SEARCH_LONG, (tw_str){text.ptr, text.len - (percent ? 1 : 0)},
                                   false, &value) ||
            fabs(value) > 1e6) {
            return fallback;
        }
        number = (int64_t)(percent ? trunc(value * (double)of / 100) : value);
    } else if (!tw_bson_value_i64(given, &number) || number > 1000000 || number < -1000000) {
        return fallback;
    }
    number = number < 0 ? (int64_t)of + number : number;
    return number < 0 ? 0 : (int)number;
}

static tw_err add_terms(search_compiler *self, search_node *node, tw_str text)
{
    search_text *words = tw_arena_alloc(self->arena, sizeof *words);
    size_t count = 0;
    if (words == NULL) {
        return TW_E_NO_MEMORY;
    }
    search_text_init(words, text, 0);
    while (search_text_next(words)) {
        count++;
    }
    if (count > SEARCH_TERMS_MAX) {
        return broker_refuse(self->why, TW_E_TOO_COSTLY, "A text has %zu terms, allowed are %d.",
                             count, SEARCH_TERMS_MAX);
    }
    node->terms = tw_arena_zero(self->arena, count + 1, sizeof *node->terms);
    node->weights = tw_arena_zero(self->arena, count + 1, sizeof *node->weights);
    node->places = tw_arena_zero(self->arena, count + 1, sizeof *node->places);
    if (node->terms == NULL || node->weights == NULL || node->places == NULL) {
        return TW_E_NO_MEMORY;
    }
    search_text_init(words, text, 0);
    while (search_text_next(words)) {
        tw_str term = search_keep(self, search_text_term(words));
        if (term.ptr == NULL) {
            return TW_E_NO_MEMORY;
        }
        node->places[node->terms_count] = words->position;
        node->terms[node->terms_count++] = term;
    }
    return TW_OK;
}

static tw_err one_term(search_compiler *self, search_node *node, tw_str term)
{
    node->terms = tw_arena_zero(self->arena, 1, sizeof *node->terms);
    node->weights = tw_arena_zero(self->arena, 1, sizeof *node->weights);
    if (node->terms == NULL || node->weights == NULL) {
        return TW_E_NO_MEMORY;
    }
    node->terms[0] = search_keep(self, term);
    node->terms_count = 1;
    node->least = 1;
    return node->terms[0].ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static tw_err one_number(search_compiler *self, search_node *node, double number)
{
    node->kind = SEARCH_TERM;
    node->numbers = tw_arena_alloc(self->arena, sizeof *node->numbers);
    if (node->numbers == NULL) {
        return TW_E_NO_MEMORY;
    }
    node->numbers[0] = number;
    node->numbers_count = 1;
    return TW_OK;
}

tw_err search_date_node(search_node *node, tw_bson_value value, tw_str text)
{
    bool fits = text.ptr != NULL ? search_number_of_text(SEARCH_DATE, text, false, &node->low) &&
                                       search_number_of_text(SEARCH_DATE, text, true, &node->high)
                                 : search_number_of(SEARCH_DATE, value, false, &node->low) &&
                                       search_number_of(SEARCH_DATE, value, true, &node->high);
    node->kind = fits ? SEARCH_RANGE : SEARCH_NONE;
    return fits ? TW_OK : TW_E_BAD_QUERY;
}

tw_err search_wrong_value(search_compiler *self, const search_node *node, tw_str text)
{
    char field[BROKER_SHOWN_MAX];
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(self->why, TW_E_BAD_QUERY, "\"%s\" is no value for the field \"%s\".",
                         broker_show(text, shown), broker_show(node->field, field));
}

/* One text in one field. *out NULL: nothing is left of it, or it can never be in this field. */
static tw_err text_in_field(search_compiler *self, tw_str name, double boost,
                            const search_asked *asked, search_node **out)
{
    tw_err err;
    double number;
    search_node *node = search_node_new(self, asked->kind, &err);
    *out = NULL;
    if (node == NULL || !search_node_field(self, node, name)) {
        return err;
    }
    node->boost = boost * asked->boost;
    node->raw = asked->text;
    node->slop = asked->slop;
    node->last_prefix = asked->prefix;
    if (node->type == SEARCH_DATE) {
        err = search_date_node(node, (tw_bson_value){0}, asked->text);
    } else if (node->type == SEARCH_LONG || node->type == SEARCH_DOUBLE ||
               node->type == SEARCH_BOOLEAN) {
        err = search_number_of_text(node->type, asked->text, false, &number)
                  ? one_number(self, node, number)
                  : TW_E_BAD_QUERY;
    } else if (node->type == SEARCH_COMPLETION) {
        return TW_OK; /* for suggestions alone */
    } else if (node->type == SEARCH_KEYWORD) {
        node->kind = SEARCH_TERM;
        err = one_term(self, node, asked->text);
    } else {
        err = add_terms(self, node, asked->text);
        if (err == TW_OK && node->terms_count == 0) {
            return TW_OK;
        }
        int fallback = asked->every ? (int)node->terms_count : 1;
        node->least = search_least(asked->least, node->terms_count, fallback);
        node->kind = node->terms_count == 1 && !asked->prefix ? SEARCH_MATCH : node->kind;
    }
    if (err == TW_E_BAD_QUERY) {
        return asked->lenient ? TW_OK : search_wrong_value(self, node, asked->text);
    }
    *out = node;
    return err;
}

tw_err search_text_node(search_compiler *self, const search_targets *where,
                        const search_asked *asked, search_node **out)
{
    tw_err err;
    search_node *best = search_node_new(self, asked->sum ? SEARCH_BOOL : SEARCH_BEST, &err);
    *out = NULL;
    if (best == NULL) {
        return err;
    }
    best->tie = asked->tie;
    best->least = 1;
    search_asked each = *asked;
    each.lenient = asked->lenient || where->all;
    search_node **last = &best->first;
    for (size_t i = 0; i < where->count; i++) {
        search_node *node = NULL;
        err = text_in_field(self, where->at[i].name, where->at[i].boost, &each, &node);
        if (err != TW_OK) {
            return err;
        }
        if (node != NULL) {
            *last = node;
            last = &node->next;
        }
    }
    *out = best->first != NULL && best->first->next == NULL ? best->first : best;
    *out = best->first == NULL ? NULL : *out;
    return TW_OK;
}

/* ---- fields: "title^2", "na*" ---- */
static tw_err add_target(search_compiler *self, tw_str name, double boost, search_targets *out)
{
    if (memchr(name.ptr, '*', name.len) == NULL || self->mapping == NULL) {
        out->at[out->count++] = (search_target){name, boost};
        return TW_OK;
    }
    for (size_t i = 0; i < self->mapping->count && out->count < SEARCH_FIELDS_MAX; i++) {
        if (search_wild_fits(name, self->mapping->at[i].name)) {
            out->at[out->count++] = (search_target){self->mapping->at[i].name, boost};
        }
    }
    return TW_OK;
}

static tw_err add_named(search_compiler *self, tw_str name, search_targets *out)
{
    const char *mark = name.len == 0 ? NULL : memchr(name.ptr, '^', name.len);
    double boost = 1;
    if (mark != NULL) {
        tw_str after = {mark + 1, (size_t)(name.ptr + name.len - mark - 1)};
        if (!search_number_of_text(SEARCH_DOUBLE, after, false, &boost) || boost < 0) {
            return search_refuse_param(self, "fields", name);
        }
        name.len = (size_t)(mark - name.ptr);
    }
    return name.len == 0 ? search_refuse_param(self, "fields", name)
                         : add_target(self, name, boost, out);
}

tw_err search_targets_read(search_compiler *self, tw_bson_value names, search_targets *out)
{
    tw_str text = tw_bson_value_str(names);
    tw_bson list = names.type == TW_BSON_ARRAY ? tw_bson_value_doc(names) : (tw_bson){NULL, 0};
    size_t count = tw_bson_count(list);
    tw_bson_iter iter;
    out->all = text.ptr == NULL && count == 0;
    out->count = 0;
    out->at = tw_arena_alloc(self->arena, (SEARCH_FIELDS_MAX + count + 1) * sizeof *out->at);
    if (out->at == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (out->all && self->mapping == NULL) {
        out->at[out->count++] = (search_target){TW_STR(""), 1};
        return TW_OK;
    }
    if (out->all) {
        return add_target(self, TW_STR("*"), 1, out);
    }
    tw_err err = text.ptr != NULL ? add_named(self, text, out) : TW_OK;
    for (tw_bson_iter_init(&iter, list); err == TW_OK && tw_bson_iter_next(&iter);) {
        err = out->count < SEARCH_FIELDS_MAX ? add_named(self, tw_bson_value_str(iter.value), out)
                                             : TW_E_TOO_COSTLY;
    }
    return err;
}
