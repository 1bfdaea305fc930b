/* rights.c - rules to rights: claims are put into filters once, for each token. */
#include "broker/rights.h"

#include "protocol/limits.h"

#include "broker/catalog.h"
#include "broker/query.h"

enum { RIGHTS_MAGIC = 0x41907501, RIGHTS_MEMORY_MAX = 4194304 /* bytes of one token's rules */ };

const char *const rights_verb_names[RIGHTS_VERBS] = {"read",   "search",   "insert", "update",
                                                     "remove", "dispatch", "admin"};

struct rights {
    uint32_t magic;
    uint32_t holders;
    tw_arena arena; /* own */
    tw_str subject;
    const char *default_database;
    size_t count;
    rights_rule *at; /* those that hold, with claims in their filters */
};

/* ---- claims in filters ---- */

/* What stands for "$claims.x": a claim, or anything (rules are checked without a token). */
typedef struct substitution {
    tw_bson claims;
    bool probe;
    bool lacks; /* a claim is missing, or is of no use there */
} substitution;

static bool is_list_operator(tw_str name)
{
    return tw_str_equal(name, TW_STR("$in")) || tw_str_equal(name, TW_STR("$nin")) ||
           tw_str_equal(name, TW_STR("$all"));
}

static bool is_plain(tw_bson_value value)
{
    return value.type != 0 && value.type != TW_BSON_NULL && value.type != TW_BSON_DOCUMENT &&
           value.type != TW_BSON_ARRAY && value.type != TW_BSON_REGEX;
}

static bool is_plain_list(tw_bson_value value)
{
    tw_bson_iter iter;
    if (value.type != TW_BSON_ARRAY) {
        return false;
    }
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        if (!is_plain(iter.value)) {
            return false;
        }
    }
    return true;
}

static bool names_claim(tw_bson_value value, tw_str *path)
{
    static const char prefix[] = "$claims.";
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL || text.len < sizeof prefix ||
        memcmp(text.ptr, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    *path = (tw_str){text.ptr + sizeof prefix - 1, text.len - (sizeof prefix - 1)};
    return true;
}

static void add_claim(substitution *self, tw_bson_builder *b, tw_str name, tw_str path)
{
    bool list = is_list_operator(name);
    if (self->probe && list) {
        tw_bson_open_array(b, name);
        tw_bson_close(b);
        return;
    }
    if (self->probe) {
        tw_bson_add_str(b, name, path);
        return;
    }
    tw_bson_value claim = tw_bson_get_path(self->claims, path);
    if (list ? !is_plain_list(claim) : !is_plain(claim)) {
        self->lacks = true;
        return;
    }
    tw_bson_add_value(b, name, claim);
}

static void substitute(substitution *self, tw_bson_builder *b, tw_bson doc, int depth)
{
    tw_bson_iter iter;
    tw_str path;
    TW_ASSERT(b->out != NULL);
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && depth > 0;) {
        if (names_claim(iter.value, &path)) {
            add_claim(self, b, iter.name, path);
        } else if (iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(b, iter.name);
            substitute(self, b, tw_bson_value_doc(iter.value), depth - 1);
            tw_bson_close(b);
        } else if (iter.value.type == TW_BSON_ARRAY) {
            tw_bson_open_array(b, iter.name);
            substitute(self, b, tw_bson_value_doc(iter.value), depth - 1);
            tw_bson_close(b);
        } else {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
    self->lacks = self->lacks || depth <= 0;
}

/* The filter with its claims, in out. */
static tw_err filter_with_claims(substitution *self, tw_bson filter, tw_buf *out)
{
    tw_bson_builder b;
    tw_bson_begin(&b, out);
    substitute(self, &b, filter, TW_DEPTH_CLIENT_MAX);
    (void)tw_bson_end(&b);
    return out->err;
}

/* The next name of a path that is no number; false: there is none. */
static bool next_name(tw_str *path, tw_str *name)
{
    while (path->len > 0) {
        const char *dot = memchr(path->ptr, '.', path->len);
        size_t len = dot == NULL ? path->len : (size_t)(dot - path->ptr);
        *name = (tw_str){path->ptr, len};
        size_t taken = len + (dot == NULL ? 0 : 1);
        *path = (tw_str){path->ptr + taken, path->len - taken};
        bool number = len > 0;
        for (size_t i = 0; i < len && number; i++) {
            number = name->ptr[i] >= '0' && name->ptr[i] <= '9';
        }
        bool operator_of_array = len > 0 && name->ptr[0] == '$'; /* "a.$[].b" of an update */
        if (!number && !operator_of_array) {
            return true;
        }
    }
    return false;
}

tw_err rights_rule_check(const rights_rule *rule, broker_why *why)
{
    TW_ASSERT(rule->role != NULL && rule->collection != NULL);
    bool named = strcmp(rule->collection, "*") == 0 ||
                 catalog_check_name(tw_str_of(rule->collection)) == TW_OK;
    if (rule->role[0] == '\0' || !named || rule->verbs == 0) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "a rule needs role, collection and verbs");
    }
    for (size_t i = 0; i < rule->hidden_count; i++) {
        tw_str name = tw_str_of(rule->hidden[i]);
        tw_str rest = name;
        tw_str first;
        if (!next_name(&rest, &first) || name.ptr[0] == '$' || name.ptr[0] == '.' ||
            name.ptr[name.len - 1] == '.') {
            return broker_refuse(why, TW_E_BAD_CONFIG, "hidden holds '%.60s', which is no field",
                                 rule->hidden[i]);
        }
    }
    if (rule->filter.len == 0) {
        return TW_OK;
    }
    substitution probe = {.probe = true};
    query *compiled = NULL;
    broker_why cause = {0};
    tw_buf text;
    tw_buf_init(&text, TW_QUERY_MAX);
    tw_err err = filter_with_claims(&probe, rule->filter, &text);
    if (err == TW_OK) {
        tw_bson filter = {(const uint8_t *)text.ptr, text.len};
        err = query_compile(filter, &compiled, &cause);
    }
    query_free(&compiled);
    tw_buf_fini(&text);
    return err == TW_OK || err == TW_E_NO_MEMORY
               ? err
               : broker_refuse(why, TW_E_BAD_CONFIG, "the filter: %s",
                               cause.text[0] != '\0' ? cause.text : tw_err_text(err));
}

/* ---- making ---- */

static bool has_role(tw_bson claims, tw_str roles, const char *role)
{
    tw_bson_iter iter;
    if (strcmp(role, "anonymous") == 0 || claims.len == 0) {
        return strcmp(role, "anonymous") == 0 && claims.len == 0;
    }
    if (strcmp(role, "*") == 0) {
        return true;
    }
    tw_bson_value held = tw_bson_get_path(claims, roles);
    tw_str text = tw_bson_value_str(held);
    if (text.ptr != NULL) {
        return tw_str_equal(text, tw_str_of(role));
    }
    bool found = false;
    tw_bson list = held.type == TW_BSON_ARRAY ? tw_bson_value_doc(held) : (tw_bson){0};
    for (tw_bson_iter_init(&iter, list); tw_bson_iter_next(&iter) && !found;) {
        text = tw_bson_value_str(iter.value);
        found = text.ptr != NULL && tw_str_equal(text, tw_str_of(role));
    }
    return found;
}

static const char *keep(rights *self, const char *text)
{
    return text == NULL ? NULL : tw_arena_format(&self->arena, "%s", text);
}

/* A rule's names, which may be replaced while its rights are still held. */
static tw_err copy_rule(rights *self, const rights_rule *rule, rights_rule *to)
{
    *to = *rule;
    const char **hidden = tw_arena_zero(&self->arena, rule->hidden_count + 1, sizeof *hidden);
    bool kept = hidden != NULL;
    for (size_t i = 0; i < rule->hidden_count && kept; i++) {
        hidden[i] = keep(self, rule->hidden[i]);
        kept = hidden[i] != NULL;
    }
    to->hidden = hidden;
    to->role = keep(self, rule->role);
    to->database = keep(self, rule->database);
    to->collection = keep(self, rule->collection);
    kept = kept && to->role != NULL && to->collection != NULL &&
           (to->database != NULL) == (rule->database != NULL);
    return kept ? TW_OK : TW_E_NO_MEMORY;
}

static tw_err add_rule(rights *self, const rights_rule *rule, tw_bson claims)
{
    rights_rule *to = &self->at[self->count];
    tw_err copied = copy_rule(self, rule, to);
    if (copied != TW_OK) {
        return copied;
    }
    if (rule->filter.len == 0) {
        self->count++;
        return TW_OK;
    }
    substitution with = {.claims = claims};
    tw_buf text;
    tw_buf_init(&text, TW_QUERY_MAX);
    tw_err err = filter_with_claims(&with, rule->filter, &text);
    if (err == TW_OK && !with.lacks) {
        to->filter = tw_arena_bson(&self->arena, (tw_bson){(const uint8_t *)text.ptr, text.len});
        err = to->filter.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    query *compiled = NULL; /* a list of claims may be longer than a filter may have */
    if (err == TW_OK && !with.lacks) {
        err = query_compile(to->filter, &compiled, NULL);
    }
    self->count += err == TW_OK && !with.lacks ? 1 : 0;
    query_free(&compiled);
    tw_buf_fini(&text);
    return err == TW_E_NO_MEMORY ? err : TW_OK; /* a rule that cannot hold does not hold */
}

tw_err rights_new(rights **out, const rights_table *table, tw_bson claims, tw_str roles)
{
    *out = NULL;
    TW_ASSERT(table->count == 0 || table->at != NULL);
    rights *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = RIGHTS_MAGIC;
    self->holders = 1;
    tw_arena_init(&self->arena, RIGHTS_MEMORY_MAX);
    self->default_database = keep(self, table->default_database);
    self->at = tw_arena_zero(&self->arena, table->count + 1, sizeof *self->at);
    bool kept = (self->default_database != NULL) == (table->default_database != NULL);
    tw_err err = self->at == NULL || !kept ? TW_E_NO_MEMORY : TW_OK;
    tw_str subject = tw_bson_get_str(claims, TW_STR("sub"));
    if (err == TW_OK && subject.len > 0) {
        self->subject = tw_arena_str(&self->arena, subject);
        err = self->subject.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    for (size_t i = 0; i < table->count && err == TW_OK; i++) {
        if (has_role(claims, roles, table->at[i].role)) {
            err = add_rule(self, &table->at[i], claims);
        }
    }
    if (err != TW_OK) {
        rights_drop(&self);
    }
    *out = self;
    return err;
}

rights *rights_hold(rights *self)
{
    if (self != NULL) {
        TW_ASSERT(self->magic == RIGHTS_MAGIC && self->holders > 0);
        self->holders++;
    }
    return self;
}

void rights_drop(rights **out)
{
    rights *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == RIGHTS_MAGIC && self->holders > 0);
    if (--self->holders == 0) {
        self->magic = 0;
        tw_arena_fini(&self->arena);
        tw_free(self);
    }
}

static bool same_doc(tw_bson a, tw_bson b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_rule(const rights_rule *a, const rights_rule *b)
{
    bool same = same_text(a->database, b->database) && same_text(a->collection, b->collection) &&
                a->verbs == b->verbs && a->hidden_count == b->hidden_count &&
                same_doc(a->filter, b->filter);
    for (size_t i = 0; same && i < a->hidden_count; i++) {
        same = same_text(a->hidden[i], b->hidden[i]);
    }
    return same;
}

/* Rules stand in the order of their table, so equal rights are equal lists. */
bool rights_equal(const rights *a, const rights *b)
{
    if (a == b) {
        return true;
    }
    bool same = a != NULL && b != NULL && a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = same_rule(&a->at[i], &b->at[i]);
    }
    return same;
}

bool rights_any(const rights *self)
{
    return self == NULL || self->count > 0;
}

tw_str rights_subject(const rights *self)
{
    return self == NULL ? (tw_str){NULL, 0} : self->subject;
}

/* ---- asking ---- */

static bool is_about(const rights *self, const rights_rule *rule, tw_str db, tw_str coll)
{
    bool all = strcmp(rule->collection, "*") == 0;
    if (!all && (coll.len == 0 || !tw_str_equal(coll, tw_str_of(rule->collection)))) {
        return false;
    }
    if (rule->database != NULL && strcmp(rule->database, "*") == 0) {
        return true;
    }
    const char *own = rule->database != NULL ? rule->database : self->default_database;
    return db.len > 0 && tw_str_equal(db, tw_str_of(own));
}

static bool hides(const rights_rule *rule, const char *name)
{
    for (size_t i = 0; i < rule->hidden_count; i++) {
        if (strcmp(rule->hidden[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* All that b gives a gives too: all rows, and no field fewer. Of two alike the first stays. */
static bool includes(const rights_rule *a, const rights_rule *b)
{
    if (a->filter.len > 0) {
        return false;
    }
    for (size_t i = 0; i < a->hidden_count; i++) {
        if (!hides(b, a->hidden[i])) {
            return false;
        }
    }
    bool alike = b->filter.len == 0 && a->hidden_count == b->hidden_count;
    return !alike || a < b;
}

static tw_err join_filters(tw_arena *arena, const rights_rule **held, size_t count, tw_bson *out)
{
    for (size_t i = 0; i < count; i++) {
        if (held[i]->filter.len == 0 || count == 1) {
            *out = held[i]->filter;
            return TW_OK;
        }
    }
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("$or"));
    for (size_t i = 0; i < count; i++) {
        tw_bson_add_doc(&b, TW_STR(""), held[i]->filter);
    }
    tw_bson_close(&b);
    tw_bson joined = tw_bson_end(&b);
    tw_err err = text.err;
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, joined);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&text);
    return err;
}

static tw_err join_hidden(tw_arena *arena, const rights_rule **held, size_t count,
                          rights_grant *out)
{
    size_t room = 0;
    for (size_t i = 0; i < count; i++) {
        room += held[i]->hidden_count;
    }
    if (room == 0) {
        return TW_OK;
    }
    out->hidden = tw_arena_alloc(arena, room * sizeof *out->hidden);
    if (out->hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < held[i]->hidden_count; k++) {
            tw_str name = tw_str_of(held[i]->hidden[k]);
            bool known = false;
            for (size_t j = 0; j < out->hidden_count && !known; j++) {
                known = tw_str_equal(out->hidden[j], name);
            }
            if (!known) {
                out->hidden[out->hidden_count++] = name;
            }
        }
    }
    return TW_OK;
}

tw_err rights_of(const rights *self, tw_arena *arena, tw_str db, tw_str coll, unsigned verb,
                 rights_grant *out)
{
    *out = (rights_grant){.allowed = self == NULL || verb >= RIGHTS_OPEN};
    if (out->allowed) {
        return TW_OK;
    }
    TW_ASSERT(self->magic == RIGHTS_MAGIC);
    const rights_rule **held = tw_arena_alloc(arena, (self->count + 1) * sizeof(*held));
    size_t count = 0;
    if (held == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < self->count; i++) {
        const rights_rule *rule = &self->at[i];
        if ((rule->verbs & verb) == 0 || !is_about(self, rule, db, coll)) {
            continue;
        }
        bool included = false;
        for (size_t k = 0; k < self->count && !included; k++) {
            const rights_rule *other = &self->at[k];
            included = k != i && (other->verbs & verb) != 0 && is_about(self, other, db, coll) &&
                       includes(other, rule);
        }
        if (!included) {
            held[count++] = rule;
        }
    }
    if (count == 0) {
        return TW_OK;
    }
    tw_err err = join_filters(arena, held, count, &out->filter);
    err = err == TW_OK ? join_hidden(arena, held, count, out) : err;
    out->allowed = err == TW_OK;
    return err == TW_E_NO_MEMORY ? err : TW_OK; /* rules too long to be joined: nothing allowed */
}

bool rights_named(const rights *self, size_t index, tw_str *db, tw_str *coll)
{
    size_t at = 0;
    for (size_t i = 0; self != NULL && i < self->count; i++) {
        const rights_rule *rule = &self->at[i];
        bool whole = rule->database != NULL && strcmp(rule->database, "*") == 0;
        if (strcmp(rule->collection, "*") == 0 || whole || at++ != index) {
            continue;
        }
        *db = tw_str_of(rule->database != NULL ? rule->database : self->default_database);
        *coll = tw_str_of(rule->collection);
        return true;
    }
    return false;
}

/* ---- paths ---- */

bool rights_paths_meet(tw_str a, tw_str b)
{
    tw_str left, right;
    for (;;) {
        bool more_a = next_name(&a, &left);
        bool more_b = next_name(&b, &right);
        if (!more_a || !more_b) {
            return true;
        }
        if (!tw_str_equal(left, right)) {
            return false;
        }
    }
}

/* What is left of path below head, where head is above it; ptr NULL: head is not above it. */
static tw_str below(tw_str head, tw_str path)
{
    tw_str left, right;
    while (next_name(&head, &left)) {
        if (!next_name(&path, &right) || !tw_str_equal(left, right)) {
            return (tw_str){NULL, 0};
        }
    }
    return path;
}

static bool asks_within(tw_bson_value value, tw_str rest, int depth);

static bool asks(tw_bson filter, tw_str path, int depth)
{
    tw_bson_iter iter;
    if (depth <= 0) {
        return true; /* not looked at: it may */
    }
    for (tw_bson_iter_init(&iter, filter); tw_bson_iter_next(&iter);) {
        if (iter.name.len > 0 && iter.name.ptr[0] == '$') {
            bool nested = iter.value.type == TW_BSON_DOCUMENT || iter.value.type == TW_BSON_ARRAY;
            if (nested && asks(tw_bson_value_doc(iter.value), path, depth - 1)) {
                return true;
            }
            continue;
        }
        tw_str unused = {NULL, 0};
        tw_str number = iter.name;
        if (!next_name(&number, &unused)) { /* an element of $and and its kin */
            if (asks(tw_bson_value_doc(iter.value), path, depth - 1)) {
                return true;
            }
            continue;
        }
        if (!rights_paths_meet(iter.name, path)) {
            continue;
        }
        tw_str rest = below(iter.name, path);
        if (rest.ptr == NULL || rest.len == 0 || asks_within(iter.value, rest, depth - 1)) {
            return true;
        }
    }
    return false;
}

/* A value at a path above the hidden one: only an $elemMatch of other fields tells nothing. */
static bool asks_within(tw_bson_value value, tw_str rest, int depth)
{
    tw_bson_iter iter;
    tw_bson doc = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    bool harmless = tw_bson_count(doc) > 0;
    for (tw_bson_iter_init(&iter, doc); harmless && tw_bson_iter_next(&iter);) {
        harmless = tw_str_equal(iter.name, TW_STR("$elemMatch")) &&
                   iter.value.type == TW_BSON_DOCUMENT &&
                   !asks(tw_bson_value_doc(iter.value), rest, depth);
    }
    return !harmless;
}

bool rights_filter_asks(tw_bson filter, tw_str path)
{
    return filter.len > 0 && asks(filter, path, TW_DEPTH_CLIENT_MAX);
}

bool rights_filter_asks_hidden(const rights_grant *grant, tw_bson filter)
{
    for (size_t i = 0; i < grant->hidden_count; i++) {
        if (rights_filter_asks(filter, grant->hidden[i])) {
            return true;
        }
    }
    return false;
}

static bool write_meets(const rights_grant *grant, tw_str path)
{
    bool meets = rights_filter_asks(grant->filter, path);
    for (size_t i = 0; i < grant->hidden_count && !meets; i++) {
        meets = rights_paths_meet(path, grant->hidden[i]);
    }
    return meets;
}

bool rights_update_meets(const rights_grant *grant, tw_bson update)
{
    tw_bson_iter operators, fields;
    for (tw_bson_iter_init(&operators, update); tw_bson_iter_next(&operators);) {
        if (operators.value.type != TW_BSON_DOCUMENT) {
            return true; /* no update document: whoever applies it refuses it */
        }
        tw_bson_iter_init(&fields, tw_bson_value_doc(operators.value));
        while (tw_bson_iter_next(&fields)) {
            tw_str target = tw_str_equal(operators.name, TW_STR("$rename"))
                                ? tw_bson_value_str(fields.value)
                                : (tw_str){NULL, 0};
            if (write_meets(grant, fields.name) ||
                (target.ptr != NULL && write_meets(grant, target))) {
                return true;
            }
        }
    }
    return false;
}

/* ---- hiding ---- */

/* Names hidden below a place: the rest of each path that goes through it. */
static size_t narrow(const tw_str *paths, size_t count, tw_str name, tw_str *out, bool *whole)
{
    size_t left = 0;
    *whole = false;
    for (size_t i = 0; i < count; i++) {
        tw_str rest = paths[i];
        tw_str first;
        if (!next_name(&rest, &first) || !tw_str_equal(first, name)) {
            continue;
        }
        if (rest.len == 0) {
            *whole = true;
        }
        out[left++] = rest;
    }
    return left;
}

static void hide_in(tw_bson_builder *b, tw_bson doc, const tw_str *paths, size_t count, bool array)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && b->out->err == TW_OK;) {
        tw_str rest[TW_FIELDS_MAX];
        bool whole = false;
        const tw_str *within = paths;
        size_t left = count;
        if (!array) {
            left = narrow(paths, count, iter.name, rest, &whole);
            within = rest;
        }
        if (whole) {
            continue;
        }
        if (left > 0 && iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(b, iter.name);
            hide_in(b, tw_bson_value_doc(iter.value), within, left, false);
            tw_bson_close(b);
        } else if (left > 0 && iter.value.type == TW_BSON_ARRAY) {
            tw_bson_open_array(b, iter.name);
            hide_in(b, tw_bson_value_doc(iter.value), within, left, true);
            tw_bson_close(b);
        } else {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
}

void rights_hide(const rights_grant *grant, tw_bson doc, tw_buf *out)
{
    tw_bson_builder b;
    TW_ASSERT(grant->hidden_count <= TW_FIELDS_MAX);
    tw_bson_begin(&b, out);
    hide_in(&b, doc, grant->hidden, grant->hidden_count, false);
    (void)tw_bson_end(&b);
}

/* ---- against an index ---- */

static bool is_positive_value(tw_bson_value value)
{
    static const char *const ranges[] = {"$gt", "$gte", "$lt", "$lte"};
    tw_bson_iter iter;
    if (is_plain(value)) {
        return true;
    }
    tw_bson doc = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    bool good = tw_bson_count(doc) > 0;
    for (tw_bson_iter_init(&iter, doc); good && tw_bson_iter_next(&iter);) {
        bool range = false;
        for (size_t i = 0; i < TW_COUNT(ranges); i++) {
            range = range || tw_str_equal(iter.name, tw_str_of(ranges[i]));
        }
        if (range) {
            good = tw_bson_value_is_number(iter.value) || iter.value.type == TW_BSON_DATE;
        } else if (tw_str_equal(iter.name, TW_STR("$in"))) {
            good = is_plain_list(iter.value);
        } else {
            good = tw_str_equal(iter.name, TW_STR("$eq")) && is_plain(iter.value);
        }
    }
    return good;
}

static bool is_positive(tw_bson filter, int depth)
{
    tw_bson_iter iter, parts;
    bool good = depth > 0;
    for (tw_bson_iter_init(&iter, filter); good && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("$and")) || tw_str_equal(iter.name, TW_STR("$or"))) {
            tw_bson_iter_init(&parts, tw_bson_value_doc(iter.value));
            while (good && tw_bson_iter_next(&parts)) {
                good = is_positive(tw_bson_value_doc(parts.value), depth - 1);
            }
        } else {
            good = iter.name.len > 0 && iter.name.ptr[0] != '$' && is_positive_value(iter.value);
        }
    }
    return good;
}

bool rights_filter_is_positive(tw_bson filter)
{
    return is_positive(filter, TW_DEPTH_CLIENT_MAX);
}
