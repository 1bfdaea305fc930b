/* search_query_index.c - what an index holds of a document, and how a query narrows it.
 *
 * A term is "NUMBER\x02TERM"; bytes 0 to 2 of a keyword become 0x1f, so two may share a term: the
 * document itself decides. Numbers, dates and booleans stand in a table of their own. */
#include <math.h>

#include "broker/search_query_priv.h"

#define TERM_SIGN '\x02'
#define TERM_END  '\x01'

enum { KEYWORD_KEPT = 512 /* bytes of a keyword in its term */ };

typedef struct collector {
    search_field *field;
    tw_buf *out;
    search_number fn;
    void *context;
    uint64_t terms;
    search_text words;
} collector;

static void add_keyword(tw_buf *out, tw_str text)
{
    size_t len = text.len < KEYWORD_KEPT ? text.len : KEYWORD_KEPT;
    for (size_t i = 0; i < len; i++) {
        tw_buf_add_byte(out, (uint8_t)text.ptr[i] < 3 ? '\x1f' : text.ptr[i]);
    }
}

static bool take_terms(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    collector *self = context;
    char scratch[64];
    tw_str text = search_keyword_of(value, scratch);
    if (text.ptr == NULL) {
        return true;
    }
    if (self->field->type == SEARCH_COMPLETION) {
        char lower[KEYWORD_KEPT];
        tw_str kept = {lower, search_text_lower(text, lower, sizeof lower)};
        tw_buf_format(self->out, "%llu%c", (unsigned long long)self->field->number, TERM_SIGN);
        add_keyword(self->out, kept);
        tw_buf_add_byte(self->out, TERM_END);
        return true;
    }
    if (self->field->type == SEARCH_KEYWORD) {
        if (self->field->ignore_above > 0 && text.len > self->field->ignore_above) {
            return true;
        }
        tw_buf_format(self->out, "%llu%c", (unsigned long long)self->field->number, TERM_SIGN);
        add_keyword(self->out, text);
        tw_buf_add_byte(self->out, TERM_END);
        self->terms++;
        return true;
    }
    search_text_init(&self->words, text, 0);
    while (search_text_next(&self->words)) {
        tw_buf_format(self->out, "%llu%c", (unsigned long long)self->field->number, TERM_SIGN);
        tw_buf_add_str(self->out, search_text_term(&self->words));
        tw_buf_add_byte(self->out, TERM_END);
        self->terms++;
    }
    return true;
}

/* Each value goes to its field and to the multi-fields beside it. */
void search_terms_add(const search_mapping *mapping, tw_bson doc, int by, tw_buf *out)
{
    for (size_t i = 0; i < mapping->count; i++) {
        search_field *field = &mapping->at[i];
        bool completes = field->type == SEARCH_COMPLETION;
        if (field->type != SEARCH_TEXT && field->type != SEARCH_KEYWORD && !completes) {
            continue;
        }
        collector self = {.field = field, .out = out};
        search_walk(doc, field->path, take_terms, &self);
        if (completes) { /* {"input": ...} too */
            char path[600];
            size_t len =
                tw_format(path, sizeof path, "%.*s.input", (int)field->path.len, field->path.ptr);
            search_walk(doc, (tw_str){path, len}, take_terms, &self);
        }
        if (self.terms > 0) {
            field->docs += (uint64_t)(int64_t)by;
            field->terms += self.terms * (uint64_t)(int64_t)by;
            field->changed = true;
        }
    }
}

static bool take_number(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    collector *self = context;
    double number;
    if (search_number_of(self->field->type, value, false, &number)) {
        self->fn(self->context, self->field->number, number);
    }
    return true;
}

void search_numbers(const search_mapping *mapping, tw_bson doc, search_number fn, void *context)
{
    for (size_t i = 0; i < mapping->count; i++) {
        search_field *field = &mapping->at[i];
        if (field->type >= SEARCH_LONG && field->type <= SEARCH_BOOLEAN) {
            collector self = {.field = field, .fn = fn, .context = context};
            search_walk(doc, field->path, take_number, &self);
        }
    }
}

/* ---- SQL ---- */
static bool add_sql(const search_node *node, tw_buf *out);

/* A term for FTS5: in double quotes, within SQL's single ones. */
static void add_quoted(tw_buf *out, const search_node *node, tw_str term, bool keyword)
{
    tw_buf text;
    tw_buf_init(&text, 4096);
    if (keyword) {
        add_keyword(&text, term);
    } else {
        tw_buf_add_str(&text, term);
    }
    tw_buf_format(out, "\"%llu%c", (unsigned long long)node->number, TERM_SIGN);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        tw_buf_add_byte(out, c);
        if (c == '"' || c == '\'') {
            tw_buf_add_byte(out, c);
        }
    }
    tw_buf_add_byte(out, '"');
    out->err = out->err == TW_OK ? text.err : out->err;
    tw_buf_fini(&text);
}

static bool add_terms_sql(const search_node *node, tw_buf *out)
{
    bool every = node->kind == SEARCH_PHRASE || node->least >= (int)node->terms_count;
    if (node->number == 0 || node->terms_count == 0) {
        return false;
    }
    tw_buf_add_str(out, TW_STR("SELECT rowid FROM terms WHERE terms MATCH '"));
    for (size_t i = 0; i < node->terms_count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("") : every ? TW_STR(" AND ") : TW_STR(" OR "));
        add_quoted(out, node, node->terms[i], node->kind == SEARCH_TERM);
        if (node->last_prefix && i + 1 == node->terms_count) {
            tw_buf_add_str(out, TW_STR(" *"));
        }
    }
    tw_buf_add_byte(out, '\'');
    return true;
}

static void add_number(tw_buf *out, double number)
{
    if (isinf(number)) {
        tw_buf_add_str(out, number < 0 ? TW_STR("-9e999") : TW_STR("9e999"));
    } else {
        tw_buf_format(out, "%.17g", number);
    }
}

static bool add_numbers_sql(const search_node *node, tw_buf *out)
{
    if (node->number == 0 || node->low_text.ptr != NULL || node->high_text.ptr != NULL ||
        node->type < SEARCH_LONG || node->type > SEARCH_BOOLEAN) {
        return false;
    }
    tw_buf_format(out, "SELECT doc FROM number WHERE field = %llu AND value ",
                  (unsigned long long)node->number);
    if (node->kind == SEARCH_RANGE) {
        tw_buf_add_str(out, TW_STR("BETWEEN "));
        add_number(out, node->low);
        tw_buf_add_str(out, TW_STR(" AND "));
        add_number(out, node->high);
        return true;
    }
    tw_buf_add_str(out, TW_STR("IN ("));
    for (size_t i = 0; i < node->numbers_count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("") : TW_STR(","));
        add_number(out, node->numbers[i]);
    }
    tw_buf_add_byte(out, ')');
    return true;
}

/* The letters before the first * or ?. */
static bool add_wild_sql(const search_node *node, tw_buf *out)
{
    char plain[SEARCH_TERM_MAX];
    size_t len = 0;
    for (size_t i = 0; i < node->pattern.len && len < sizeof plain; i++) {
        char c = node->pattern.ptr[i];
        if (c == '*' || c == '?') {
            break;
        }
        i += c == '\\' ? 1 : 0;
        plain[len++] = i < node->pattern.len ? node->pattern.ptr[i] : '\\';
    }
    if (node->number == 0 || len == 0) {
        return false;
    }
    tw_buf_add_str(out, TW_STR("SELECT rowid FROM terms WHERE terms MATCH '"));
    add_quoted(out, node, (tw_str){plain, len}, node->type == SEARCH_KEYWORD);
    tw_buf_add_str(out, TW_STR(" *'"));
    return true;
}

static bool add_ids_sql(const search_node *node, tw_buf *out)
{
    tw_buf_add_str(out, TW_STR("SELECT rowid FROM doc WHERE id IN ("));
    for (size_t i = 0; i < node->terms_count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("x'") : TW_STR(",x'"));
        for (size_t k = 0; k < node->terms[i].len; k++) {
            tw_buf_format(out, "%02x", (unsigned)(uint8_t)node->terms[i].ptr[k]);
        }
        tw_buf_add_byte(out, '\'');
    }
    tw_buf_add_byte(out, ')');
    return true;
}

/* Children joined by a word; all: each has to narrow, else some are enough. */
static bool add_joined_sql(const search_node *node, unsigned roles, bool all, tw_buf *out)
{
    bool any = false;
    size_t before = out->len;
    for (const search_node *each = node->first; each != NULL; each = each->next) {
        if ((roles & 1U << each->role) == 0) {
            continue;
        }
        size_t here = out->len;
        tw_buf_add_str(out, !any  ? TW_STR("SELECT * FROM (")
                            : all ? TW_STR(" UNION SELECT * FROM (")
                                  : TW_STR(" INTERSECT SELECT * FROM ("));
        if (add_sql(each, out)) {
            tw_buf_add_byte(out, ')');
            any = true;
        } else if (all) {
            out->len = out->err == TW_OK ? before : out->len;
            return false;
        } else {
            out->len = out->err == TW_OK ? here : out->len;
        }
    }
    return any;
}

static bool add_bool_sql(const search_node *node, tw_buf *out)
{
    unsigned needed = 1U << SEARCH_MUST | 1U << SEARCH_FILTER;
    if (add_joined_sql(node, needed, false, out)) {
        return true;
    }
    return node->least > 0 && add_joined_sql(node, 1U << SEARCH_SHOULD, true, out);
}

static bool add_sql(const search_node *node, tw_buf *out)
{
    switch (node->kind) {
    case SEARCH_ALL:
    case SEARCH_EXISTS:
        return false;
    case SEARCH_NONE:
        tw_buf_add_str(out, TW_STR("SELECT rowid FROM doc WHERE 0"));
        return true;
    case SEARCH_IDS:
        return add_ids_sql(node, out);
    case SEARCH_MATCH:
    case SEARCH_PHRASE:
        return add_terms_sql(node, out);
    case SEARCH_TERM:
        return node->terms_count > 0 ? add_terms_sql(node, out) : add_numbers_sql(node, out);
    case SEARCH_RANGE:
        return add_numbers_sql(node, out);
    case SEARCH_WILD:
        return add_wild_sql(node, out);
    case SEARCH_BOOL:
        return add_bool_sql(node, out);
    case SEARCH_BEST:
        return add_joined_sql(node, ~0U, true, out);
    case SEARCH_CONST:
        return add_sql(node->first, out);
    }
    return false;
}

bool search_query_sql(const search_query *query, tw_buf *out)
{
    return add_sql(query->root, out) && out->err == TW_OK;
}

void search_prefix_sql(const search_field *field, tw_str prefix, tw_buf *out)
{
    char lower[KEYWORD_KEPT];
    const search_node node = {.number = field->number};
    tw_str kept = {lower, search_text_lower(prefix, lower, sizeof lower)};
    tw_buf_add_str(out, TW_STR("SELECT rowid FROM terms WHERE terms MATCH '"));
    add_quoted(out, &node, kept, true);
    tw_buf_add_str(out, TW_STR(" *'"));
}
