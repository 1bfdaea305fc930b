/* search_query_lucene.c - Lucene's query syntax, and the forgiving one of simple_query_string.
 *
 * As engines do since they no longer split at white space: bare words that follow each other are
 * one text, analysed as a whole in each field; not behind an operator, a sign or a field's name.
 * Operators are reckoned as Lucene's classic parser does: AND makes both of its sides required, OR
 * leaves them as they are. */
#include <math.h>

#include "broker/search_query_priv.h"

enum { DEPTH = TW_SEARCH_DEPTH_MAX };

static tw_err parse_query(search_lucene *self, const search_targets *where, int depth,
                          search_node **out);

static tw_err wrong(search_lucene *self, const char *what)
{
    return broker_refuse(self->compiler->why, TW_E_BAD_QUERY, "%s: %s", self->clause, what);
}

static void skip_space(search_lucene *self)
{
    while (self->at < self->end && strchr(" \t\r\n", *self->at) != NULL && *self->at != '\0') {
        self->at++;
    }
}

static bool is_at(const search_lucene *self, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(self->end - self->at) >= len && memcmp(self->at, word, len) == 0;
}

/* A word that stands alone: AND, OR, NOT. */
static bool take_word(search_lucene *self, const char *word)
{
    const char *after = self->at + strlen(word);
    if (!is_at(self, word) || (after < self->end && strchr(" \t\r\n(", *after) == NULL)) {
        return false;
    }
    self->at = after;
    skip_space(self);
    return true;
}

static bool take(search_lucene *self, const char *sign)
{
    if (!is_at(self, sign)) {
        return false;
    }
    self->at += strlen(sign);
    skip_space(self);
    return true;
}

/* A run of letters up to a sign of the syntax, its escapes undone in *plain; in *wild signs that
 * were escaped stay so. */
typedef struct word {
    tw_str plain, wild;
    bool is_wild;
} word;

static tw_err read_word(search_lucene *self, const char *ends, word *out)
{
    size_t room = (size_t)(self->end - self->at) * 2 + 1;
    char *plain = tw_arena_alloc(self->compiler->arena, room);
    char *wild = tw_arena_alloc(self->compiler->arena, room);
    size_t plain_len = 0;
    size_t wild_len = 0;
    if (plain == NULL || wild == NULL) {
        return TW_E_NO_MEMORY;
    }
    out->is_wild = false;
    while (self->at < self->end && strchr(ends, *self->at) == NULL) {
        char c = *self->at++;
        if (c == '\\' && self->at < self->end) {
            c = *self->at++;
            if (strchr("*?\\", c) != NULL) {
                wild[wild_len++] = '\\';
            }
        } else {
            out->is_wild = out->is_wild || c == '*' || c == '?';
        }
        plain[plain_len++] = c;
        wild[wild_len++] = c;
    }
    out->plain = (tw_str){plain, plain_len};
    out->wild = (tw_str){wild, wild_len};
    return TW_OK;
}

/* "^2" and "~2" behind a term; what they may not stand behind is refused. */
static tw_err read_marks(search_lucene *self, search_asked *asked, bool phrase)
{
    while (self->at < self->end && (*self->at == '^' || *self->at == '~')) {
        char mark = *self->at++;
        word number;
        double value = 1;
        tw_err err = read_word(self, " \t\r\n()[]{}\"^~", &number);
        if (err != TW_OK) {
            return err;
        }
        if (mark == '~' && !phrase) {
            return wrong(self, "fuzzy terms (~) are not supported by the embedded search.");
        }
        if (!search_number_of_text(SEARCH_DOUBLE, number.plain, false, &value) || value < 0 ||
            value > 1e6) {
            return wrong(self, "a number is missing behind ^ or ~.");
        }
        if (mark == '~') {
            asked->slop = (uint32_t)value;
        } else {
            asked->boost *= value;
        }
    }
    return TW_OK;
}

static tw_err read_phrase(search_lucene *self, const search_targets *where, search_node **out)
{
    word text;
    search_asked asked = self->asked;
    self->at++;
    tw_err err = read_word(self, "\"", &text);
    if (err == TW_OK && self->at == self->end) {
        return wrong(self, "a quote (\") is not closed.");
    }
    self->at++;
    asked.text = text.plain;
    asked.kind = SEARCH_PHRASE;
    if (err == TW_OK) {
        err = read_marks(self, &asked, true);
    }
    return err == TW_OK ? search_text_node(self->compiler, where, &asked, out) : err;
}

static tw_err read_bound(search_lucene *self, word *out)
{
    skip_space(self);
    if (self->at < self->end && *self->at == '"') {
        self->at++;
        tw_err err = read_word(self, "\"", out);
        self->at += self->at < self->end ? 1 : 0;
        skip_space(self);
        return err;
    }
    tw_err err = read_word(self, " \t\r\n]}", out);
    skip_space(self);
    return err;
}

static void add_bound(tw_bson_builder *b, const char *name, tw_str text)
{
    if (!tw_str_equal(text, TW_STR("*")) && text.len > 0) {
        tw_bson_add_str(b, tw_str_of(name), text);
    }
}

static tw_err range_in(search_lucene *self, const search_targets *where, const char *low_name,
                       tw_str low, const char *high_name, tw_str high, search_node **out)
{
    tw_buf built;
    tw_bson_builder b;
    tw_err err;
    tw_buf_init(&built, TW_SEARCH_BODY_MAX * 2);
    tw_bson_begin(&b, &built);
    add_bound(&b, low_name, low);
    add_bound(&b, high_name, high);
    tw_bson bounds = tw_arena_bson(self->compiler->arena, tw_bson_end(&b));
    tw_buf_fini(&built);
    search_node *best = search_node_new(self->compiler, SEARCH_BEST, &err);
    if (best == NULL || bounds.ptr == NULL) {
        return best == NULL ? err : TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < where->count && err == TW_OK; i++) {
        search_node *node = NULL;
        err = tw_bson_count(bounds) == 0
                  ? search_exists_node(self->compiler, where->at[i].name, &node)
                  : search_range_node(self->compiler, where->at[i].name, bounds,
                                      where->all || self->asked.lenient, &node);
        if (node != NULL) {
            node->next = best->first;
            best->first = node;
        }
    }
    *out = best;
    return err;
}

static tw_err read_range(search_lucene *self, const search_targets *where, search_node **out)
{
    bool low_open = *self->at++ == '{';
    word low;
    word high;
    tw_err err = read_bound(self, &low);
    if (err == TW_OK && !take_word(self, "TO")) {
        return wrong(self, "a range is [LOW TO HIGH].");
    }
    if (err == TW_OK) {
        err = read_bound(self, &high);
    }
    if (err != TW_OK) {
        return err;
    }
    if (self->at == self->end || low.plain.len == 0 || high.plain.len == 0) {
        return wrong(self, "a range is [LOW TO HIGH], and is to be closed.");
    }
    bool high_open = *self->at++ == '}';
    return range_in(self, where, low_open ? "gt" : "gte", low.plain, high_open ? "lt" : "lte",
                    high.plain, out);
}

static tw_err read_compared(search_lucene *self, const search_targets *where, search_node **out)
{
    bool low = *self->at++ == '>';
    bool equal = self->at < self->end && *self->at == '=';
    const char *name = low ? (equal ? "gte" : "gt") : (equal ? "lte" : "lt");
    word text;
    self->at += equal ? 1 : 0;
    tw_err err = read_word(self, " \t\r\n()", &text);
    if (err == TW_OK && text.plain.len == 0) {
        return wrong(self, "a value is missing behind > or <.");
    }
    return err == TW_OK ? range_in(self, where, name, text.plain, name, TW_STR("*"), out) : err;
}

static tw_err read_wild(search_lucene *self, const search_targets *where, const word *text,
                        search_node **out)
{
    tw_err err = TW_OK;
    if (!tw_str_equal(text->wild, TW_STR("*"))) {
        if (text->wild.ptr[0] == '*' || text->wild.ptr[0] == '?') {
            return wrong(self, "a term may not begin with * or ?.");
        }
        return search_wild_node(self->compiler, where, text->wild, out);
    }
    if (where->all) {
        *out = search_node_new(self->compiler, SEARCH_ALL, &err);
        return err;
    }
    return range_in(self, where, "gte", TW_STR("*"), "lte", TW_STR("*"), out);
}

static const char stops[] = " \t\r\n()[]{}\"^~:";

/* True where the next word is a plain one, that no operator or field stands before. */
static bool word_follows(search_lucene *self, word *out)
{
    const char *here = self->at;
    skip_space(self);
    bool plain = self->at < self->end && strchr("+-!()[]{}\"^~:<>&|/", *self->at) == NULL;
    if (!plain || take_word(self, "AND") || take_word(self, "OR") || take_word(self, "NOT") ||
        read_word(self, stops, out) != TW_OK || out->plain.len == 0 || out->is_wild ||
        (self->at < self->end && strchr(":^~", *self->at) != NULL)) {
        self->at = here;
        return false;
    }
    return true;
}

static tw_err read_words(search_lucene *self, const search_targets *where, word *first,
                         search_node **out)
{
    search_asked asked = self->asked;
    tw_buf all;
    word next;
    tw_buf_init(&all, TW_SEARCH_BODY_MAX);
    tw_buf_add_str(&all, first->plain);
    tw_err err = TW_OK;
    if (self->at < self->end && strchr("^~", *self->at) != NULL) {
        err = read_marks(self, &asked, false);
    } else {
        while (self->merges && word_follows(self, &next)) {
            tw_buf_add_byte(&all, ' ');
            tw_buf_add_str(&all, next.plain);
        }
    }
    asked.text = tw_arena_str(self->compiler->arena, tw_buf_str(&all));
    err = err == TW_OK ? all.err : err;
    tw_buf_fini(&all);
    if (err == TW_OK && asked.text.ptr == NULL) {
        err = TW_E_NO_MEMORY;
    }
    return err == TW_OK ? search_text_node(self->compiler, where, &asked, out) : err;
}

static tw_err read_group(search_lucene *self, const search_targets *where, int depth,
                         search_node **out)
{
    search_asked marks = self->asked;
    self->at++;
    tw_err err = parse_query(self, where, depth + 1, out);
    skip_space(self);
    if (err == TW_OK && (self->at == self->end || *self->at != ')')) {
        return wrong(self, "a parenthesis is not closed.");
    }
    self->at++;
    marks.boost = 1;
    if (err == TW_OK) {
        err = read_marks(self, &marks, false);
    }
    if (err == TW_OK && *out != NULL) {
        (*out)->boost *= marks.boost;
    }
    return err;
}

static tw_err read_term(search_lucene *self, const search_targets *where, int depth,
                        search_node **out)
{
    char c = self->at < self->end ? *self->at : '\0';
    word text;
    switch (c) {
    case '(':
        return read_group(self, where, depth, out);
    case '"':
        return read_phrase(self, where, out);
    case '[':
    case '{':
        return read_range(self, where, out);
    case '>':
    case '<':
        return read_compared(self, where, out);
    default: /* a letter of a word */
        break;
    }
    tw_err err = read_word(self, stops, &text);
    if (err != TW_OK) {
        return err;
    }
    if (text.plain.len == 0) {
        return wrong(self, "a term is missing.");
    }
    if (self->at < self->end && *self->at == ':' && !text.is_wild) {
        search_target target = {text.plain, 1};
        search_targets named = {&target, 1, false};
        self->merges = false;
        self->at++;
        skip_space(self);
        if (self->at == self->end) {
            return wrong(self, "a term is missing behind a field's name.");
        }
        if (tw_str_equal(text.plain, TW_STR("_exists_"))) {
            err = read_word(self, stops, &text);
            return err == TW_OK ? search_exists_node(self->compiler, text.plain, out) : err;
        }
        if (depth > DEPTH) {
            return wrong(self, "nested too deeply.");
        }
        return tw_str_equal(text.plain, TW_STR("*")) ? wrong(self, "a field's name is missing.")
                                                     : read_term(self, &named, depth + 1, out);
    }
    return text.is_wild ? read_wild(self, where, &text, out) : read_words(self, where, &text, out);
}

typedef struct clauses {
    search_node *first, *last, **end;
    size_t should;
    bool other;
} clauses;

static tw_err add_clause(search_lucene *self, clauses *all, search_node *node, search_role role)
{
    tw_err err;
    search_node *around = search_node_new(self->compiler, SEARCH_BEST, &err);
    if (around == NULL) {
        return err;
    }
    around->first = node;
    around->role = role;
    *all->end = around;
    all->end = &around->next;
    all->last = around;
    return TW_OK;
}

static search_role role_of(const search_lucene *self, char sign, bool and, bool or)
{
    if (sign == '-') {
        return SEARCH_NOT;
    }
    if (self->asked.every) {
        return or ? SEARCH_SHOULD : SEARCH_MUST;
    }
    return and || sign == '+' ? SEARCH_MUST : SEARCH_SHOULD;
}

static tw_err finish(search_lucene *self, clauses *all, search_node **out)
{
    tw_err err;
    size_t should = 0;
    bool other = false;
    for (const search_node *each = all->first; each != NULL; each = each->next) {
        should += each->role == SEARCH_SHOULD ? 1 : 0;
        other = other || each->role == SEARCH_MUST;
    }
    if (all->first == NULL) {
        *out = NULL;
        return TW_OK;
    }
    search_node *node = search_node_new(self->compiler, SEARCH_BOOL, &err);
    if (node != NULL) {
        node->first = all->first;
        node->least = search_least(self->asked.least, should, should > 0 && !other ? 1 : 0);
    }
    *out = node;
    return err;
}

static tw_err parse_query(search_lucene *self, const search_targets *where, int depth,
                          search_node **out)
{
    clauses all = {.first = NULL};
    all.end = &all.first;
    if (depth > DEPTH) {
        return broker_refuse(self->compiler->why, TW_E_DEPTH, "The query is nested too deeply.");
    }
    for (skip_space(self); self->at < self->end && *self->at != ')'; skip_space(self)) {
        bool and = take_word(self, "AND") || take(self, "&&");
        bool or = !and&&(take_word(self, "OR") || take(self, "||"));
        char sign = take_word(self, "NOT") || take(self, "!") || take(self, "-") ? '-'
                    : take(self, "+")                                            ? '+'
                                                                                 : ' ';
        if ((and || or) && all.first == NULL) {
            return wrong(self, "AND and OR stand between terms.");
        }
        if (all.last != NULL && and&&all.last->role == SEARCH_SHOULD) {
            all.last->role = SEARCH_MUST;
        } else if (all.last != NULL && or &&self->asked.every && all.last->role == SEARCH_MUST) {
            all.last->role = SEARCH_SHOULD;
        }
        search_node *node = NULL;
        self->merges = sign == ' ' && !and&&! or ;
        tw_err err = read_term(self, where, depth, &node);
        if (err == TW_OK && node == NULL && sign != '-') {
            node = search_node_new(self->compiler, SEARCH_NONE, &err);
        }
        if (err == TW_OK && node != NULL) {
            err = add_clause(self, &all, node, role_of(self, sign, and, or));
        }
        if (err != TW_OK) {
            return err;
        }
    }
    return finish(self, &all, out);
}

tw_err search_lucene_parse(search_lucene *self, search_node **out)
{
    tw_err err = parse_query(self, self->where, 1, out);
    if (err == TW_OK && self->at < self->end) {
        return wrong(self, "a parenthesis is closed that was not opened.");
    }
    return err;
}

/* ---- simple_query_string: signs that make no sense are letters ---- */
static tw_err simple_term(search_lucene *self, search_node **out)
{
    word text;
    search_asked asked = self->asked;
    bool phrase =
        *self->at == '"' && memchr(self->at + 1, '"', (size_t)(self->end - self->at - 1)) != NULL;
    if (phrase) {
        tw_err err = read_phrase(self, self->where, out);
        return err;
    }
    const char *from = self->at;
    self->at += *self->at == '"' ? 1 : 0;
    tw_err err = read_word(self, " \t\r\n()|+\"", &text);
    if (err != TW_OK) {
        return err;
    }
    self->at += self->at == from ? 1 : 0;
    size_t len = text.wild.len;
    bool star =
        text.is_wild && len > 1 && text.wild.ptr[len - 1] == '*' && text.wild.ptr[len - 2] != '\\';
    if (memchr(text.plain.ptr, '~', text.plain.len) != NULL) {
        return wrong(self, "fuzzy terms (~) are not supported by the embedded search.");
    }
    if (star) {
        return search_wild_node(self->compiler, self->where, text.wild, out);
    }
    asked.text = text.plain;
    if (text.plain.len == 0) {
        return TW_OK; /* a sign that makes no sense here */
    }
    return search_text_node(self->compiler, self->where, &asked, out);
}

static tw_err simple_query(search_lucene *self, int depth, search_node **out)
{
    clauses all = {.first = NULL};
    all.end = &all.first;
    bool every = self->asked.every;
    if (depth > DEPTH) {
        return broker_refuse(self->compiler->why, TW_E_DEPTH, "The query is nested too deeply.");
    }
    for (skip_space(self); self->at < self->end; skip_space(self)) {
        search_node *node = NULL;
        tw_err err = TW_OK;
        bool and = every;
        if (take(self, ")")) {
            if (depth > 1) {
                break;
            }
            continue;
        }
        if (is_at(self, "+") || is_at(self, "|")) {
            and = *self->at == '+';
            self->at++;
            skip_space(self);
            if (self->at == self->end || *self->at == ')') {
                continue;
            }
            if (all.last != NULL && all.last->role != SEARCH_NOT) {
                all.last->role = and? SEARCH_MUST : SEARCH_SHOULD;
            }
        }
        bool not = self->at + 1 < self->end && take(self, "-");
        if (take(self, "(")) {
            err = simple_query(self, depth + 1, &node);
        } else if (self->at < self->end) {
            err = simple_term(self, &node);
        }
        if (err == TW_OK && node != NULL && not ) {
            clauses inner = {.first = NULL};
            inner.end = &inner.first;
            err = add_clause(self, &inner, node, SEARCH_NOT);
            node = err == TW_OK ? search_node_new(self->compiler, SEARCH_ALL, &err) : NULL;
            err = node != NULL ? add_clause(self, &inner, node, SEARCH_SHOULD) : err;
            err = err == TW_OK ? finish(self, &inner, &node) : err;
        }
        if (err == TW_OK && node != NULL) {
            err = add_clause(self, &all, node, and? SEARCH_MUST : SEARCH_SHOULD);
        }
        if (err != TW_OK) {
            return err;
        }
    }
    return finish(self, &all, out);
}

tw_err search_simple_parse(search_lucene *self, search_node **out)
{
    return simple_query(self, 1, out);
}
