/* request_rights.c - what an asker's rights mean to its requests: one place for all actions.
 *
 * Reading: the grant's filter goes to whoever reads, as `match`; hidden fields are taken out of
 * what is told, and may not be asked about. Writing: every write of every action passes
 * request_allow_write, which refuses it or gives the store a guard, so that the stored version is
 * looked at in the very turn that changes it. The new version is as allowed as the old one, because
 * an update may not touch what the filter asks about. */
#include "broker/query.h"
#include "broker/search_mapping.h"

#include "gateways/request/request_priv.h"

enum { OPID_OWNER = 17 /* hex digits and a slash before an asker's opid */ };

static const char *name_of(unsigned verb)
{
    size_t bit = 0;
    while (bit < RIGHTS_VERBS && verb != 1U << bit) {
        bit++;
    }
    return bit < RIGHTS_VERBS ? rights_verb_names[bit] : "do this to";
}

static tw_err refuse_verb(tw_str coll, unsigned verb, request_why *why)
{
    tw_format(why->hint, sizeof why->hint, "Ask for a role whose rules name the verb %s.",
              name_of(verb));
    return broker_refuse(&why->why, TW_E_FORBIDDEN, "Your rights do not allow %s on \"%s\".",
                         name_of(verb), request_show(coll).text);
}

tw_err request_allow(request *self, request_why *why)
{
    tw_err err = rights_of(self->rights, &self->arena, self->db, self->coll, self->action->verb,
                           &self->grant);
    if (err == TW_OK && !self->grant.allowed) {
        return refuse_verb(self->coll, self->action->verb, why);
    }
    if (err == TW_OK && self->action->verb == RIGHTS_ADMIN && self->grant.filter.len > 0) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN,
                             "A right to some records does not reach the whole collection.");
    }
    return err;
}

tw_err request_allow_too(request *self, tw_str db, tw_str coll, unsigned verb, request_why *why)
{
    rights_grant other;
    tw_err err = rights_of(self->rights, &self->arena, db, coll, verb, &other);
    if (err != TW_OK) {
        return err;
    }
    if (!other.allowed) {
        return refuse_verb(coll.len > 0 ? coll : db, verb, why);
    }
    if (verb == RIGHTS_ADMIN && other.filter.len > 0) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN,
                             "A right to some records does not reach the whole database.");
    }
    if (other.filter.len > 0) {
        err = request_join(self, other.filter, &self->grant.filter);
    }
    size_t room = self->grant.hidden_count + other.hidden_count;
    if (err != TW_OK || other.hidden_count == 0) {
        return err;
    }
    tw_str *hidden = tw_arena_alloc(&self->arena, room * sizeof *hidden);
    if (hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (self->grant.hidden_count > 0) {
        memcpy(hidden, self->grant.hidden, self->grant.hidden_count * sizeof *hidden);
    }
    memcpy(hidden + self->grant.hidden_count, other.hidden, other.hidden_count * sizeof *hidden);
    self->grant.hidden = hidden;
    self->grant.hidden_count = room;
    return TW_OK;
}

/* Memory of its own: askers are told lists, one collection after the other. */
static bool may_read(const request *self, tw_str db, tw_str coll, bool whole)
{
    tw_arena arena;
    rights_grant grant = {0};
    tw_arena_init(&arena, 1 << 20);
    tw_err err = rights_of(self->rights, &arena, db, coll, RIGHTS_READ, &grant);
    bool part = grant.filter.len > 0 || grant.hidden_count > 0;
    tw_arena_fini(&arena);
    return err == TW_OK && grant.allowed && !(whole && part);
}

bool request_may_read(const request *self, tw_str db, tw_str coll)
{
    return may_read(self, db, coll, false);
}

bool request_may_read_all(const request *self, tw_str db, tw_str coll)
{
    return may_read(self, db, coll, true);
}

tw_err request_check_asked(const request *self, tw_bson paths, request_why *why)
{
    if (paths.len == 0 || !rights_filter_asks_hidden(&self->grant, paths)) {
        return TW_OK;
    }
    return broker_refuse(&why->why, TW_E_FORBIDDEN,
                         "The request asks about a field that your rights hide.");
}

tw_err request_join(request *self, tw_bson filter, tw_bson *out)
{
    if (filter.len <= 5 || self->grant.filter.len <= 5) { /* 5: {} */
        *out = filter.len > 5 ? filter : self->grant.filter;
        return TW_OK;
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_open_array(&b, TW_STR("$and"));
    tw_bson_add_doc(&b, TW_STR(""), filter);
    tw_bson_add_doc(&b, TW_STR(""), self->grant.filter);
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    return request_keep(self, scratch, out);
}

/* ---- what is told ---- */

tw_bson request_visible(request *self, tw_bson doc)
{
    if (self->grant.hidden_count == 0 || doc.len == 0) {
        return doc;
    }
    static const uint8_t empty[] = {5, 0, 0, 0, 0}; /* without memory nothing is shown */
    tw_buf *scratch = &self->engine->scratch;
    tw_buf_clear(scratch);
    rights_hide(&self->grant, doc, scratch);
    return scratch->err == TW_OK ? (tw_bson){(const uint8_t *)scratch->ptr, scratch->len}
                                 : (tw_bson){empty, sizeof empty};
}

void request_add_shown(request *self, tw_bson_builder *b, tw_str name, tw_bson doc)
{
    tw_bson_add_doc(b, name, request_visible(self, doc));
}

tw_err request_name_hidden(request *self, tw_bson *out)
{
    *out = (tw_bson){0};
    if (self->grant.hidden_count == 0) {
        return TW_OK;
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    for (size_t i = 0; i < self->grant.hidden_count; i++) {
        char index[24];
        size_t len = tw_format(index, sizeof index, "%zu", i);
        tw_bson_add_str(&b, (tw_str){index, len}, self->grant.hidden[i]);
    }
    (void)tw_bson_end(&b);
    return request_keep(self, scratch, out);
}

bool request_shows(const request *self, tw_bson doc)
{
    query *compiled = NULL;
    if (self->grant.filter.len == 0) {
        return true;
    }
    bool shows = query_compile_joined(self->grant.filter, &compiled, NULL) == TW_OK &&
                 query_match(compiled, doc);
    query_free(&compiled);
    return shows;
}

/* ---- writes ---- */

static tw_err refuse_write(request *self, const char *words)
{
    self->refusal = words;
    return TW_E_FORBIDDEN;
}

/* The verb of an operation, and whether the asker has it. */
static tw_err grant_write(request *self, const tw_item_write_op *op, unsigned verb,
                          rights_grant *out)
{
    tw_err err = rights_of(self->rights, &self->arena, op->db, op->coll, verb, out);
    if (err == TW_OK && !out->allowed) {
        const char *words = tw_arena_format(&self->arena, "Your rights do not allow %s on \"%s\".",
                                            name_of(verb), request_show(op->coll).text);
        return refuse_write(self, words);
    }
    return err;
}

/* A document that comes into being, or replaces another: all of it is looked at. */
static tw_err check_document(request *self, const tw_item_write_op *op, const rights_grant *grant)
{
    query *compiled = NULL;
    tw_buf *scratch = &self->engine->scratch;
    tw_buf_clear(scratch);
    rights_hide(grant, op->doc, scratch);
    if (scratch->err != TW_OK) {
        return scratch->err;
    }
    if (scratch->len != op->doc.len) {
        return refuse_write(self, "The document has a field that your rights hide.");
    }
    if (grant->filter.len == 0) {
        return TW_OK;
    }
    tw_err err = query_compile_joined(grant->filter, &compiled, NULL);
    bool matches = err == TW_OK && query_match(compiled, op->doc);
    query_free(&compiled);
    if (err == TW_E_NO_MEMORY) {
        return err;
    }
    return matches ? TW_OK : refuse_write(self, "The document is outside of your rights.");
}

/* The fields that reading hides may not be written either. */
static tw_err add_hidden_by_reading(request *self, const tw_item_write_op *op, rights_grant *grant)
{
    rights_grant read;
    tw_err err = rights_of(self->rights, &self->arena, op->db, op->coll, RIGHTS_READ, &read);
    if (err != TW_OK || read.hidden_count == 0) {
        return err;
    }
    size_t room = grant->hidden_count + read.hidden_count;
    tw_str *hidden = tw_arena_alloc(&self->arena, room * sizeof *hidden);
    if (hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (grant->hidden_count > 0) {
        memcpy(hidden, grant->hidden, grant->hidden_count * sizeof *hidden);
    }
    memcpy(hidden + grant->hidden_count, read.hidden, read.hidden_count * sizeof *hidden);
    grant->hidden = hidden;
    grant->hidden_count = room;
    return TW_OK;
}

/* An opid stands for one outcome of one asker, so nobody is told another's. */
static tw_err own_opid(request *self, tw_item_write_op *op)
{
    tw_str subject = rights_subject(self->rights);
    if (op->opid.len == 0) {
        return TW_OK;
    }
    if (op->opid.len > TW_OPID_MAX - OPID_OWNER) {
        self->refusal = "\"opid\" is at most 111 bytes where rights are checked.";
        return TW_E_BAD_MESSAGE;
    }
    const char *text = tw_arena_format(&self->arena, "%016llx/%.*s",
                                       (unsigned long long)tw_hash(subject.ptr, subject.len, 0),
                                       (int)op->opid.len, op->opid.ptr);
    op->opid = tw_str_of(text);
    return op->opid.len == 0 ? TW_E_NO_MEMORY : TW_OK;
}

static_assert((int)TW_OPID_MAX - (int)OPID_OWNER == 111, "what own_opid says");

static tw_err allow_document(request *self, tw_item_write_op *op)
{
    rights_grant insert;
    rights_grant update = {0};
    tw_err err = grant_write(self, op, RIGHTS_INSERT, &insert);
    err = err == TW_OK ? add_hidden_by_reading(self, op, &insert) : err;
    err = err == TW_OK ? check_document(self, op, &insert) : err;
    self->restricted = self->restricted || insert.filter.len > 0;
    if (err != TW_OK || op->op == TW_OP_INSERT) {
        return err;
    }
    err = grant_write(self, op, RIGHTS_UPDATE, &update);
    err = err == TW_OK ? add_hidden_by_reading(self, op, &update) : err;
    if (err == TW_OK && update.hidden_count > 0) {
        return refuse_write(self, "A put would lose the fields that your rights hide: update it.");
    }
    err = err == TW_OK ? check_document(self, op, &update) : err;
    op->guard = update.filter;
    self->restricted = self->restricted || update.filter.len > 0;
    return err;
}

static tw_err allow_update(request *self, tw_item_write_op *op)
{
    rights_grant grant;
    tw_err err = grant_write(self, op, RIGHTS_UPDATE, &grant);
    err = err == TW_OK ? add_hidden_by_reading(self, op, &grant) : err;
    if (err == TW_OK && rights_update_meets(&grant, op->doc)) {
        return refuse_write(self, "The update touches a field on which your rights depend.");
    }
    op->guard = grant.filter;
    self->restricted = self->restricted || grant.filter.len > 0;
    return err;
}

static tw_err allow_other(request *self, tw_item_write_op *op, unsigned verb)
{
    rights_grant grant;
    tw_err err = grant_write(self, op, verb, &grant);
    if (err == TW_OK && verb == RIGHTS_ADMIN && grant.filter.len > 0) {
        return refuse_write(self, "A right to some records does not reach all of them.");
    }
    op->guard = grant.filter;
    self->restricted = self->restricted || grant.filter.len > 0;
    return err;
}

tw_err request_allow_write(request *self, tw_item_write_op *op)
{
    if (self->rights == NULL || self->judged) {
        return TW_OK;
    }
    tw_err err = own_opid(self, op);
    if (err != TW_OK) {
        return err;
    }
    if (op->op == TW_OP_INSERT || op->op == TW_OP_PUT) {
        return op->doc.len == 0 ? TW_OK : allow_document(self, op); /* the store refuses none */
    }
    if (op->op == TW_OP_UPDATE) {
        return allow_update(self, op);
    }
    return allow_other(self, op, op->op == TW_OP_REMOVE ? RIGHTS_REMOVE : RIGHTS_ADMIN);
}

/* ---- searches ---- */

static bool is_exact(const search_mapping *mapping, tw_str name)
{
    const search_field *field = search_mapping_find(mapping, name);
    return field != NULL && field->type != SEARCH_TEXT && field->type != SEARCH_UNKNOWN &&
           field->type != SEARCH_COMPLETION && field->type != SEARCH_OPAQUE;
}

/* Every field that a filter names is declared, and its index holds its values as they are. */
static bool is_exact_in(const search_mapping *mapping, tw_bson filter)
{
    tw_bson_iter iter, parts;
    bool good = true;
    for (tw_bson_iter_init(&iter, filter); good && tw_bson_iter_next(&iter);) {
        if (iter.name.len == 0 || iter.name.ptr[0] != '$') {
            good = is_exact(mapping, iter.name);
            continue;
        }
        tw_bson_iter_init(&parts, tw_bson_value_doc(iter.value));
        while (good && tw_bson_iter_next(&parts)) {
            good = is_exact_in(mapping, tw_bson_value_doc(parts.value));
        }
    }
    return good;
}

/* A cluster compares terms: only where these are the values themselves is a filter what it says. */
static bool cluster_can(const catalog_collection *rules, tw_bson filter)
{
    tw_arena arena;
    search_mapping mapping;
    tw_arena_init(&arena, 4 << 20);
    bool good = rules->search_mapping.len > 0 && rights_filter_is_positive(filter) &&
                search_mapping_init(&mapping, &arena, rules->search_mapping) == TW_OK &&
                is_exact_in(&mapping, filter);
    tw_arena_fini(&arena);
    return good;
}

tw_err request_allow_search(request *self, const catalog_collection *rules, rights_grant grant,
                            tw_bson *filter, request_why *why)
{
    if (!grant.allowed) {
        return refuse_verb(tw_str_of(rules->name), RIGHTS_SEARCH, why);
    }
    if (grant.hidden_count > 0) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN,
                             "Your rights hide fields here, and a search would tell of them.");
    }
    *filter = rules->filter;
    if (grant.filter.len == 0) {
        return TW_OK;
    }
    if (strcmp(self->action->name, "fields") == 0) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN,
                             "Fields are told of all records, and your rights show some.");
    }
    if (!self->engine->options.catalog->embedded && !cluster_can(rules, grant.filter)) {
        tw_format(why->hint, sizeof why->hint,
                  "Declare the fields of the rule's filter as keyword, number, date or boolean.");
        return broker_refuse(&why->why, TW_E_UNSUPPORTED,
                             "The cluster cannot hold your rights against its index exactly.");
    }
    rights_grant before = self->grant;
    self->grant = grant;
    tw_err err = request_join(self, rules->filter, filter);
    self->grant = before;
    return err;
}
