/* store_write.c - what each operation of a write does; for store.c.
 *
 * An operation looks up its record, checks what the writer asked for (if_version, match, the rules
 * of the collection), makes the new version and prepares its row. Nothing is on disk until the
 * commit; a transaction that is refused half way forgets its rows. */
#include "broker/query.h"
#include "broker/record.h"
#include "broker/rules.h"
#include "broker/update.h"

#include "actors/store_priv.h"

static tw_err refuse(store_op *self, tw_err err, const char *text)
{
    return broker_refuse(&self->why, err, "%s", text);
}

/* ---- documents ---- */

/* The document with its key and this version in it. */
static tw_err with_version(store_op *self, tw_bson doc, int64_t version, tw_bson *out)
{
    return record_with_version(self->rules, &self->store->scratch, &self->store->rows, doc,
                               self->key, version, out, &self->why);
}

/* ---- scopes ---- */

/* Types whose values equal each other only as equal keys do. */
static bool is_plain(tw_bson_value value)
{
    switch (value.type) {
    case TW_BSON_STRING:
    case TW_BSON_BINARY:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_TIMESTAMP:
        return true;
    case TW_BSON_DOUBLE:
        return tw_bson_value_double(value) == tw_bson_value_double(value); /* no NaN */
    default:
        return false;
    }
}

tw_err store_scope_of(struct store *store, const catalog_collection *rules, tw_bson doc,
                      uint32_t *code)
{
    *code = LOG_SCOPE_NONE;
    if (rules->scope_field == NULL) {
        return TW_OK;
    }
    tw_str path = tw_str_of(rules->scope_field);
    bool is_deep = memchr(path.ptr, '.', path.len) != NULL;
    tw_bson_value value = is_deep ? tw_bson_get_path(doc, path) : tw_bson_get(doc, path);
    if (value.type == 0 || value.type == TW_BSON_NULL) {
        *code = is_deep ? LOG_SCOPE_WILD : LOG_SCOPE_NONE; /* an array may lie on a deep path */
        return TW_OK;
    }
    tw_key key;
    if (!is_plain(value) || tw_key_of_value(&store->rows, value, &key) != TW_OK) {
        *code = LOG_SCOPE_WILD;
        return TW_OK;
    }
    return log_store_scope(store->log, key, code);
}

/* ---- rows ---- */

static tw_err prepare(store_op *self, uint32_t kind, int64_t version, tw_bson doc)
{
    uint32_t scope = self->current.scope;
    tw_err err = kind == TW_ROW_PUT ? store_scope_of(self->store, self->rules, doc, &scope) : TW_OK;
    if (err != TW_OK) {
        return err;
    }
    bool has_old = self->current.n != 0;
    log_row row = {
        .coll = self->coll,
        .flags = kind | (self->op->silent ? TW_ROW_SILENT : 0u),
        .ver = version,
        .scope = scope,
        .lscope = has_old && self->current.scope != scope ? self->current.scope : LOG_SCOPE_NONE,
        .prev = self->current.n,
        .origin = LOG_ORIGIN_OWN,
        .key = tw_arena_key(&self->store->rows, self->key),
        .doc = doc,
        .by = tw_arena_str(&self->store->rows, self->op->origin),
    };
    if (row.key.ptr == NULL || (row.by.len > 0 && row.by.ptr == NULL)) {
        return TW_E_NO_MEMORY;
    }
    err = log_store_prepare(self->store->log, &row, self->old);
    if (err == TW_OK) {
        size_t last = log_store_prepared(self->store->log) - 1;
        self->result->seqno = log_store_prepared_at(self->store->log, last)->row.seqno;
        self->result->version = version;
        self->result->count = 1;
    }
    return err;
}

/* ---- looking at the record ---- */

/* The record that the operation names, and its document. */
static tw_err look_up(store_op *self)
{
    self->current = log_store_current(self->store->log, self->coll, self->key);
    self->result->key = tw_arena_key(&self->store->answers, self->key);
    self->result->version = self->current.n == 0 || self->current.deleted ? 0 : self->current.ver;
    if (self->result->key.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (self->current.n == 0 || self->current.deleted) {
        return TW_OK;
    }
    self->result->seqno = self->current.n;
    return log_store_document(self->store->log, &self->store->rows, self->current.n, &self->old);
}

static bool is_there(const store_op *self)
{
    return self->current.n != 0 && !self->current.deleted;
}

/* Holds a stored version against a filter: what does not match is as if missing. */
static tw_err check_filter(store_op *self, tw_bson filter, bool joined)
{
    if (filter.len == 0 || !is_there(self)) {
        return TW_OK;
    }
    query *match = NULL;
    tw_err err = joined ? query_compile_joined(filter, &match, &self->why)
                        : query_compile(filter, &match, &self->why);
    if (err != TW_OK) {
        return err;
    }
    bool matches = query_match(match, self->old);
    query_free(&match);
    return matches ? TW_OK : refuse(self, TW_E_NOT_FOUND, "No record matches.");
}

/* guard, if_version and match. Whom the guard keeps out is told no version either. */
static tw_err check_conditions(store_op *self)
{
    int64_t wanted = self->op->if_version;
    tw_err guarded = check_filter(self, self->op->guard, true);
    if (guarded != TW_OK) {
        self->result->version = 0;
        self->result->seqno = 0;
        return guarded;
    }
    if (wanted == 0 && is_there(self)) {
        return refuse(self, TW_E_CONFLICT, "The record exists.");
    }
    if (wanted > 0 && (!is_there(self) || self->current.ver != wanted)) {
        return refuse(self, TW_E_CONFLICT, "The record has another version.");
    }
    return check_filter(self, self->op->match, false);
}

/* The collection and its declaration. */
static tw_err find_collection(store_op *self, bool create)
{
    self->rules = catalog_rules(self->store->catalog, self->db, self->op->coll);
    if (self->rules == NULL) {
        return refuse(self, TW_E_FORBIDDEN, "The collection is not declared.");
    }
    tw_err err = catalog_check_name(self->op->coll);
    if (err == TW_OK) {
        err = catalog_check_name(self->db);
    }
    if (err != TW_OK) {
        return refuse(self, err, "The name of the collection is not allowed.");
    }
    tw_str scope =
        self->rules->scope_field == NULL ? TW_STR("") : tw_str_of(self->rules->scope_field);
    err = log_store_collection(self->store->log, self->db, self->op->coll, scope, create,
                               &self->coll);
    if (err == TW_E_TOO_MANY) {
        return refuse(self, err, "There are too many collections.");
    }
    return err == TW_E_NOT_FOUND ? refuse(self, err, "There is no such collection.") : err;
}

/* The key of a document that is written: given, in the document, or made. */
static tw_err find_key(store_op *self)
{
    return record_key(self->rules, &self->store->rows, self->op->doc, self->op->key, &self->key,
                      &self->why);
}

/* ---- rules of declared collections ---- */

typedef struct lookup_context {
    store_op *op;
} lookup_context;

static bool look_up_other(void *context, tw_key key, tw_arena *arena, tw_bson *out)
{
    const store_op *self = ((lookup_context *)context)->op;
    log_current found = log_store_current(self->store->log, self->coll, key);
    return found.n != 0 && !found.deleted &&
           log_store_document(self->store->log, arena, found.n, out) == TW_OK;
}

static tw_err apply_rules(store_op *self, tw_bson *doc)
{
    if (self->rules->rule == CATALOG_FREE) {
        return TW_OK;
    }
    lookup_context context = {self};
    tw_position old_at = {self->store->srv, self->old.len == 0 ? 0 : self->current.n};
    return rules_check(self->rules, &self->store->rows, *doc, self->old, old_at,
                       tw_unix_ms(self->store->actor), look_up_other, &context, doc, &self->why);
}

/* ---- the operations ---- */

static tw_err write_document(store_op *self, bool may_replace)
{
    tw_err err = self->op->doc.len == 0 ? refuse(self, TW_E_BAD_DOCUMENT, "There is no document.")
                                        : find_collection(self, true);
    if (err == TW_OK) {
        err = find_key(self);
    }
    if (err == TW_OK) {
        err = look_up(self);
    }
    if (err == TW_OK && !may_replace && is_there(self)) {
        err = refuse(self, TW_E_CONFLICT, "The record exists.");
    }
    if (err == TW_OK) {
        err = check_conditions(self);
    }
    tw_bson doc = self->op->doc;
    if (err == TW_OK && self->rules->rule != CATALOG_FREE) {
        err = with_version(self, doc, self->current.ver + 1, &doc); /* rules see the key */
    }
    if (err == TW_OK) {
        err = apply_rules(self, &doc);
    }
    if (err == TW_OK) {
        err = with_version(self, doc, self->current.ver + 1, &doc);
    }
    return err == TW_OK ? prepare(self, TW_ROW_PUT, self->current.ver + 1, doc) : err;
}

static tw_err op_insert(store_op *self)
{
    return write_document(self, false);
}

static tw_err op_put(store_op *self)
{
    return write_document(self, true);
}

/* The record of an update or remove, which must be there. */
static tw_err find_existing(store_op *self)
{
    if (self->op->key.len == 0) {
        return refuse(self, TW_E_BAD_MESSAGE, "The record is not named.");
    }
    self->key = self->op->key;
    tw_err err = find_collection(self, false);
    if (err == TW_OK) {
        err = look_up(self);
    }
    if (err == TW_OK) {
        err = check_conditions(self);
    }
    if (err == TW_OK && !is_there(self)) {
        err = refuse(self, TW_E_NOT_FOUND, "There is no such record.");
    }
    return err;
}

static tw_err op_update(store_op *self)
{
    tw_err err = find_existing(self);
    tw_bson doc;
    if (err == TW_OK) {
        err =
            update_apply(&self->store->rows, self->old, self->op->doc, tw_str_of(self->rules->key),
                         tw_unix_ms(self->store->actor), &doc, &self->why);
    }
    tw_bson same = {0};
    if (err == TW_OK) {
        err = with_version(self, doc, self->current.ver, &same);
    }
    if (err == TW_OK && same.len == self->old.len &&
        memcmp(same.ptr, self->old.ptr, same.len) == 0) {
        self->result->count = 0;
        return TW_OK; /* nothing changed: no row, the version stays */
    }
    if (err == TW_OK) {
        err = apply_rules(self, &doc);
    }
    if (err == TW_OK) {
        err = with_version(self, doc, self->current.ver + 1, &doc);
    }
    return err == TW_OK ? prepare(self, TW_ROW_PUT, self->current.ver + 1, doc) : err;
}

static tw_err op_remove(store_op *self)
{
    tw_err err = find_existing(self);
    return err == TW_OK ? prepare(self, TW_ROW_DELETE, self->current.ver + 1, (tw_bson){0}) : err;
}

static tw_err prepare_drop(store_op *self, uint32_t coll, uint32_t more)
{
    log_row row = {.coll = coll,
                   .flags = TW_ROW_DROP | more | (self->op->silent ? TW_ROW_SILENT : 0u),
                   .origin = LOG_ORIGIN_OWN,
                   .by = tw_arena_str(&self->store->rows, self->op->origin)};
    tw_err err = log_store_prepare(self->store->log, &row, (tw_bson){0});
    if (err == TW_OK) {
        size_t last = log_store_prepared(self->store->log) - 1;
        self->result->seqno = log_store_prepared_at(self->store->log, last)->row.seqno;
        self->result->count++;
    }
    return err;
}

static tw_err op_drop(store_op *self)
{
    tw_err err = find_collection(self, false);
    return err == TW_OK ? prepare_drop(self, self->coll, 0) : err;
}

static tw_err op_drop_db(store_op *self)
{
    log_index *index = log_store_index(self->store->log);
    tw_err err = TW_OK;
    bool is_none = true;
    uint32_t last = 0; /* stays until the others are prepared: its row says what ended */
    for (size_t i = 0; err == TW_OK && i < log_index_incarnations(index); i++) {
        const log_incarnation *incarnation = log_index_slot(index, i);
        if (incarnation->is_void || incarnation->dropping != 0 || incarnation->dropped != 0 ||
            !tw_str_equal(tw_str_of(incarnation->db), self->db)) {
            continue;
        }
        err = is_none ? TW_OK : prepare_drop(self, last, 0);
        last = incarnation->id;
        is_none = false;
    }
    if (err == TW_OK && !is_none) {
        err = prepare_drop(self, last, TW_ROW_DROP_DB);
    }
    return is_none ? refuse(self, TW_E_NOT_FOUND, "There is no such database.") : err;
}

typedef tw_err (*op_function)(store_op *self);
static const op_function functions[] = {
    [TW_OP_INSERT] = op_insert, [TW_OP_PUT] = op_put,   [TW_OP_UPDATE] = op_update,
    [TW_OP_REMOVE] = op_remove, [TW_OP_DROP] = op_drop, [TW_OP_DROP_DB] = op_drop_db,
};

/* ---- transactions ---- */

/* The id under which the i-th result of a transaction is remembered: its own, or made of the
 * first's. */
static tw_str opid_of(struct store *store, const tw_item_write_op *ops, size_t i)
{
    if (ops[i].opid.len > 0) {
        return tw_arena_str(&store->rows, ops[i].opid);
    }
    const char *made =
        tw_arena_format(&store->rows, "%.*s\t%zu", (int)ops[0].opid.len, ops[0].opid.ptr, i);
    return tw_str_of(made);
}

/* Fills in the results of a transaction that was carried out before. */
static tw_err repeat_results(struct store *store, const tw_item_write_op *ops, size_t count,
                             tw_item_write_result *results, bool *found)
{
    *found = false;
    for (size_t i = 0; i < count && (i == 0 || *found); i++) {
        tw_str id = opid_of(store, ops, i);
        tw_err err = TW_OK;
        const log_opid *known =
            id.len == 0 ? NULL : log_store_find_opid(store->log, &store->rows, id, &err);
        if (err != TW_OK || id.len == 0) {
            return id.len == 0 ? TW_E_NO_MEMORY : err;
        }
        *found = i == 0 ? known != NULL : *found;
        if (known != NULL) {
            results[i] = (tw_item_write_result){.key = tw_arena_key(&store->answers, known->key),
                                                .version = known->version,
                                                .srv = store->srv,
                                                .seqno = known->seqno,
                                                .count = known->count};
        }
    }
    return TW_OK;
}

static tw_err remember_results(struct store *store, const tw_item_write_op *ops, size_t count,
                               const tw_item_write_result *results)
{
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        if (ops[0].opid.len == 0 && ops[i].opid.len == 0) {
            continue;
        }
        const log_opid opid = {.id = opid_of(store, ops, i),
                               .key = tw_arena_key(&store->rows, results[i].key),
                               .version = results[i].version,
                               .seqno = results[i].seqno,
                               .count = results[i].count};
        err = opid.id.len == 0 ? TW_E_NO_MEMORY : log_store_remember(store->log, &opid);
    }
    return err;
}

static tw_err run_op(struct store *store, const tw_item_write_op *op, tw_item_write_result *result)
{
    store_op self = {.store = store, .op = op, .result = result};
    self.db = op->db.len > 0 ? op->db : tw_str_of(store->catalog->default_database);
    *result = (tw_item_write_result){.srv = store->srv};
    bool is_known = op->op < TW_COUNT(functions) && functions[op->op] != NULL;
    tw_err err =
        is_known ? functions[op->op](&self) : refuse(&self, TW_E_UNKNOWN, "No such operation.");
    if (err != TW_OK) {
        const char *text = self.why.text[0] != '\0' ? self.why.text : tw_err_text(err);
        result->code = err;
        result->why = tw_arena_str(&store->answers, tw_str_of(text));
        result->rule = tw_arena_str(&store->answers, tw_str_of(self.why.rule));
        result->count = 0;
        result->seqno = 0;
    }
    return err;
}

/* The others of a transaction are refused with the one that was. */
static void refuse_others(tw_item_write_result *results, size_t count, size_t refused, tw_err err)
{
    for (size_t i = 0; i < count; i++) {
        if (i != refused) {
            results[i].code = err;
            results[i].why = TW_STR("Another operation of the transaction was refused.");
            results[i].seqno = 0;
            results[i].count = 0;
        }
    }
}

tw_err store_transact(struct store *store, const tw_item_write_op *ops, size_t count,
                      tw_item_write_result *results)
{
    TW_ASSERT(count > 0);
    size_t rows = log_store_prepared(store->log);
    size_t opids = log_store_remembered(store->log);
    tw_err err = TW_OK;
    if (ops[0].opid.len > 0) {
        bool found;
        err = repeat_results(store, ops, count, results, &found);
        if (err == TW_OK && found) {
            return TW_OK;
        }
    }
    size_t at = 0;
    for (; err == TW_OK && at < count; at++) {
        err = run_op(store, &ops[at], &results[at]);
    }
    if (err == TW_OK) {
        err = remember_results(store, ops, count, results);
        if (err == TW_OK) {
            log_store_seal(store->log, rows);
            return TW_OK;
        }
        results[0].code = err;
    } else if (at == 0) {
        results[0] = (tw_item_write_result){.code = err, .why = tw_str_of(tw_err_text(err))};
    }
    log_store_undo(store->log, rows);
    log_store_forget(store->log, opids);
    refuse_others(results, count, at == 0 ? 0 : at - 1, err);
    return err == TW_E_CORRUPT || err == TW_E_INTERNAL ? err : TW_OK;
}
