/* store_append.c - taking the changes of a foreign source into the log; for store.c.
 *
 * The log is then the image of the source: all its rows have one foreign origin, and what the
 * source goes on from (opaque: a resume token, the state of a copy) is committed with the rows.
 *
 * Invariants
 * 1. Appends of one life of a tailer are numbered without holes; those of a life before the last
 *    that asked (source_ask) are refused: TW_E_GAP. A repeat is answered and has no effect; behind
 *    a hole (an append before it was refused) TW_E_GAP: the source begins again from what is
 *    stored.
 * 2. Positions never go back: neither at nor a row's. TW_E_CONFLICT, nothing is changed.
 * 3. An append is in one commit as a whole, with others that are due. */
#include "protocol/fault.h"

#include "broker/change_event.h"
#include "broker/update.h"

#include "actors/store_priv.h"

/* ---- rows ---- */

typedef struct append_op {
    struct store *store;
    const tw_item_append_row *row;
    uint64_t scan_from;
    uint32_t coll;
    log_current current;
    tw_bson old;
    tw_bson doc; /* of a put: the version that is told */
    int64_t version;
} append_op;

static bool is_there(const append_op *self)
{
    return self->current.n != 0 && !self->current.deleted;
}

/* What a scan saw is older than what the source told since the scan began. */
static bool is_outdated(const append_op *self)
{
    return self->row->scan && self->current.n > self->scan_from;
}

static bool is_same(const append_op *self)
{
    return is_there(self) && self->old.len == self->doc.len &&
           memcmp(self->old.ptr, self->doc.ptr, self->old.len) == 0;
}

/* Whether a name has a dot: then a path may mean that name. */
static bool has_dots(tw_bson doc, unsigned depth)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, doc); tw_bson_iter_next(&i);) {
        tw_bson inner = tw_bson_value_doc(i.value);
        bool is_deep = inner.len > 0 && (depth == 0 || has_dots(inner, depth - 1));
        if (is_deep || memchr(i.name.ptr, '.', i.name.len) != NULL) {
            return true;
        }
    }
    return false;
}

/* The version of a put: that of the log with the change, as it is the one before; else what came
 * with the row, which may be none. */
static void choose_version(append_op *self, const catalog_collection *rules)
{
    const tw_item_append_row *row = self->row;
    broker_why why = {0};
    self->doc = row->doc;
    self->version = row->version;
    if (row->change.len > 0 && is_there(self) && !has_dots(self->old, TW_DEPTH_MAX) &&
        !has_dots(row->doc, TW_DEPTH_MAX) &&
        update_apply(&self->store->rows, self->old, row->change, TW_STR("_id"), 0, &self->doc,
                     &why) != TW_OK) {
        self->doc = row->doc;
    }
    if (row->change.len > 0) {
        self->version = change_version(self->doc, tw_str_of(rules->version_field), row->seqno);
    }
}

/* One rule: the document's own number where it is above what was told of the record before; else
 * (none, a record that comes back, a writer who does not count) the position of the change. So a
 * number is of one document, on every node. */
static int64_t version_of(const append_op *self)
{
    int64_t given = self->version;
    int64_t told = self->current.n == 0 ? 0 : self->current.ver;
    if (given > told) {
        return given;
    }
    if (is_same(self)) {
        return told;
    }
    int64_t position = (int64_t)self->row->seqno;
    return position > told ? position : told + 1;
}

static tw_err prepare(append_op *self, uint32_t kind, int64_t version, uint32_t scope)
{
    struct store *store = self->store;
    bool has_old = self->current.n != 0;
    log_row row = {
        .coll = self->coll,
        .flags =
            kind | (uint32_t)(self->row->flags & (TW_ROW_SYNTHETIC | TW_ROW_MULTI | TW_ROW_SILENT)),
        .ver = version,
        .scope = scope,
        .lscope = has_old && self->current.scope != scope ? self->current.scope : LOG_SCOPE_NONE,
        .prev = self->current.n,
        .origin = store->source.origin,
        .seqno = self->row->seqno,
        .key = (kind & TW_ROW_DROP) != 0 ? (tw_key){0} : tw_arena_key(&store->rows, self->row->key),
        .doc = kind == TW_ROW_PUT ? tw_arena_bson(&store->rows, self->doc) : (tw_bson){0},
        .by = tw_arena_str(&store->rows, self->row->origin),
    };
    if (((kind & TW_ROW_DROP) == 0 && row.key.ptr == NULL) ||
        (kind == TW_ROW_PUT && row.doc.ptr == NULL)) {
        return TW_E_NO_MEMORY;
    }
    return log_store_prepare(store->log, &row, self->old);
}

static tw_err look_up(append_op *self)
{
    self->current = log_store_current(self->store->log, self->coll, self->row->key);
    if (!is_there(self)) {
        return TW_OK;
    }
    return log_store_document(self->store->log, &self->store->rows, self->current.n, &self->old);
}

static tw_err append_put(append_op *self)
{
    struct store *store = self->store;
    const tw_item_append_row *row = self->row;
    const catalog_collection *rules = catalog_rules(store->catalog, row->db, row->coll);
    if (rules == NULL || catalog_check_name(row->coll) != TW_OK ||
        catalog_check_name(row->db) != TW_OK || row->key.len == 0 ||
        (row->doc.len == 0 && row->change.len == 0)) {
        return TW_OK; /* not told to anybody: not declared, or with a name that nobody can use */
    }
    tw_str scope_field = rules->scope_field == NULL ? TW_STR("") : tw_str_of(rules->scope_field);
    tw_err err =
        log_store_collection(store->log, row->db, row->coll, scope_field, true, &self->coll);
    if (err == TW_OK) {
        err = look_up(self);
    }
    if (err != TW_OK || is_outdated(self)) {
        return err;
    }
    choose_version(self, rules);
    if (self->doc.len == 0 || (row->scan && is_same(self))) {
        return TW_OK; /* no version: the record is gone, its delete follows */
    }
    uint32_t scope = LOG_SCOPE_NONE;
    err = store_scope_of(store, rules, self->doc, &scope);
    return err == TW_OK ? prepare(self, TW_ROW_PUT, version_of(self), scope) : err;
}

static tw_err append_delete(append_op *self)
{
    const tw_item_append_row *row = self->row;
    tw_err err = row->key.len == 0 ? TW_E_NOT_FOUND
                                   : log_store_collection(self->store->log, row->db, row->coll,
                                                          TW_STR(""), false, &self->coll);
    if (err == TW_OK) {
        err = look_up(self);
    } else if (err == TW_E_NOT_FOUND) {
        return TW_OK; /* nobody was told of it */
    }
    if (err != TW_OK || !is_there(self) || is_outdated(self)) {
        return err;
    }
    return prepare(self, TW_ROW_DELETE, self->current.ver + 1, self->current.scope);
}

/* Whether the drop ends this life of a collection. */
static bool is_ended(const append_op *self, const log_incarnation *incarnation)
{
    const tw_item_append_row *row = self->row;
    const log_list *all = &incarnation->all;
    bool is_it = tw_str_equal(tw_str_of(incarnation->db), row->db) &&
                 (row->coll.len == 0 || tw_str_equal(tw_str_of(incarnation->name), row->coll));
    bool is_outdated_drop =
        row->scan && all->count > 0 && all->at[all->count - 1] > self->scan_from;
    return is_it && !incarnation->is_void && incarnation->dropping == 0 && !is_outdated_drop;
}

static tw_err append_drop(append_op *self)
{
    log_index *index = log_store_index(self->store->log);
    tw_err err = TW_OK;
    self->coll = 0; /* stays until the others are prepared: its row says what ended */
    for (size_t i = 0; err == TW_OK && i < log_index_incarnations(index); i++) {
        const log_incarnation *incarnation = log_index_slot(index, i);
        if (is_ended(self, incarnation)) {
            err = self->coll == 0 ? TW_OK : prepare(self, TW_ROW_DROP, 0, LOG_SCOPE_NONE);
            self->coll = incarnation->id;
        }
    }
    bool is_database = self->row->coll.len == 0 || (self->row->flags & TW_ROW_DROP_DB) != 0;
    if (err == TW_OK && self->coll != 0) {
        uint32_t kind = TW_ROW_DROP | (is_database ? (uint32_t)TW_ROW_DROP_DB : 0u);
        err = prepare(self, kind, 0, LOG_SCOPE_NONE);
    }
    return err;
}

static tw_err append_row(struct store *store, const tw_item_append_row *row, uint64_t scan_from)
{
    append_op self = {.store = store, .row = row, .scan_from = scan_from};
    switch (row->flags & (TW_ROW_PUT | TW_ROW_DELETE | TW_ROW_DROP)) {
    case TW_ROW_PUT:
        return append_put(&self);
    case TW_ROW_DELETE:
        return append_delete(&self);
    case TW_ROW_DROP:
        return append_drop(&self);
    default:
        return TW_E_BAD_MESSAGE;
    }
}

/* Marks the rows from first on as one transaction. One that is not at its end goes on in the next
 * append. */
static void seal(struct store *store, size_t first, bool is_open)
{
    if (!is_open) {
        log_store_seal(store->log, first);
    }
}

/* ---- an append ---- */

/* Invariant 2, and what the log relies on. */
static tw_err check(const struct store *store, const tw_msg_append *append)
{
    uint64_t seqno = store->source.row_seqno;
    uint64_t at = store->source.at;
    if (append->at < at || append->state.len == 0) {
        return TW_E_CONFLICT;
    }
    for (size_t i = 0; i < append->rows.count; i++) {
        const tw_item_append_row *row = &append->rows.at[i];
        if (row->seqno < seqno || row->seqno <= at) {
            return TW_E_CONFLICT;
        }
        seqno = row->seqno;
    }
    return TW_OK;
}

static tw_err prepare_rows(struct store *store, const tw_msg_append *append)
{
    tw_err err = TW_OK;
    size_t first = log_store_prepared(store->log);
    for (size_t i = 0; err == TW_OK && i < append->rows.count; i++) {
        const tw_item_append_row *row = &append->rows.at[i];
        size_t before = log_store_prepared(store->log);
        err = append_row(store, row, append->scan_from);
        store->append_skipped += err == TW_OK && log_store_prepared(store->log) == before;
        bool is_open = row->more && i + 1 == append->rows.count;
        if (err == TW_OK && (!row->more || is_open)) {
            seal(store, first, is_open);
            first = log_store_prepared(store->log);
        }
    }
    return err;
}

static tw_err take(struct store *store, const tw_msg_append *append, uint64_t *rows)
{
    tw_err err = check(store, append);
    if (err == TW_OK) {
        err = store_make_room(store, append->rows.count);
    }
    size_t before = log_store_prepared(store->log);
    if (err == TW_OK) {
        err = prepare_rows(store, append);
    }
    tw_str state = err == TW_OK ? tw_arena_str(&store->rows, append->state) : (tw_str){0};
    if (err == TW_OK && state.ptr == NULL) {
        err = TW_E_NO_MEMORY;
    }
    if (err != TW_OK) {
        log_store_undo(store->log, before);
        return err;
    }
    *rows = log_store_prepared(store->log) - before;
    const log_source source = {.origin = store->source.origin,
                               .number = append->number,
                               .at = append->at,
                               .applied_ms = append->applied_ms,
                               .whole = append->whole || log_store_source_is_whole(store->log),
                               .state = state};
    log_store_source(store->log, &source);
    store->source.number = append->number;
    store->source.at = append->at;
    size_t count = append->rows.count;
    if (count > 0) {
        store->source.row_seqno = append->rows.at[count - 1].seqno;
    }
    store->appended++;
    store->append_rows += *rows;
    tw_fault("store_append_prepared");
    return TW_OK;
}

/* Answered at the end of the turn, when it is on disk. */
static tw_err keep_answer(struct store *store, const store_append_answer *answer)
{
    if (store->appends_count == store->appends_cap) {
        size_t cap = store->appends_cap == 0 ? 16 : store->appends_cap * 2;
        store_append_answer *bigger = tw_realloc(store->appends, cap * sizeof *bigger);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        store->appends = bigger;
        store->appends_cap = cap;
    }
    store->appends[store->appends_count++] = *answer;
    return TW_OK;
}

tw_err store_on_append(void *state, const tw_envelope *in)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    const tw_msg_append *append = &in->body->append;
    store_append_answer answer = {.route = *in->route, .number = append->number};
    if (!self->image || self->source.origin == 0 || self->source.srv != append->srv) {
        tw_reply_error(in->actor, in->route, TW_E_UNSUPPORTED, "%s",
                       self->image ? "the log knows no such source"
                                   : "this log has records of its own");
        return TW_OK;
    }
    if (append->life != self->source.life || append->life == 0) {
        self->append_refused++;
        tw_reply_error(in->actor, in->route, TW_E_GAP, "ask where the source goes on");
        return TW_OK;
    }
    if (append->number <= self->source.number) { /* a repeat */
        answer.number = self->source.number;
        answer.at = self->source.at;
        return keep_answer(self, &answer);
    }
    tw_err err = append->number > self->source.number + 1 ? TW_E_GAP : TW_OK;
    if (err == TW_OK) {
        err = take(self, append, &answer.rows);
    }
    if (err != TW_OK) {
        self->append_refused++;
        if (err == TW_E_CORRUPT || err == TW_E_INTERNAL) {
            store_fail(self, err, "read");
            return TW_OK;
        }
        tw_reply_error(in->actor, in->route, err, "%s", tw_err_text(err));
        return TW_OK;
    }
    answer.at = append->at;
    return keep_answer(self, &answer);
}

void store_refuse_appends(struct store *store, tw_err err)
{
    for (size_t i = store->appends_open; i < store->appends_count; i++) {
        store->appends[i].err = err;
    }
    store->append_refused += store->appends_count - store->appends_open;
    store->appends_open = store->appends_count;
}

void store_answer_appends(struct store *store)
{
    if (store->appends_count > 0) {
        tw_fault("store_append_committed");
    }
    for (size_t i = 0; i < store->appends_count; i++) {
        const store_append_answer *answer = &store->appends[i];
        if (answer->err != TW_OK) {
            tw_reply_error(store->actor, &answer->route, answer->err, "%s",
                           tw_err_text(answer->err));
            continue;
        }
        const tw_msg_appended appended = {.number = answer->number,
                                          .at = answer->at,
                                          .head = log_index_head(log_store_index(store->log)),
                                          .rows = answer->rows};
        tw_reply(store->actor, &answer->route, TW_MSG_appended, &appended);
    }
}

/* ---- what is known of the source ---- */

tw_err store_load_source(struct store *store)
{
    log_index *index = log_store_index(store->log);
    uint64_t life = store->source.life;
    store->source = (store_source){.life = life};
    for (size_t i = 0; store->image && i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        if (origin->id != LOG_ORIGIN_OWN) {
            store->source = (store_source){
                .origin = origin->id, .srv = origin->srv, .life = life, .row_seqno = origin->head};
        }
    }
    if (store->source.origin == 0) {
        return TW_OK;
    }
    tw_arena arena;
    tw_arena_init(&arena, (size_t)TW_SOURCE_STATE_MAX * 2);
    log_source source;
    tw_err err = log_store_source_of(store->log, &arena, store->source.origin, &source);
    if (err == TW_OK || err == TW_E_NOT_FOUND) {
        store->source.number = source.number;
        store->source.at = source.at;
        err = TW_OK;
    }
    tw_arena_fini(&arena);
    return err;
}

/* Rows of another origin: they and those of the source would be two stores in one log. */
static bool has_foreign(const struct store *store, uint64_t srv)
{
    log_index *index = log_store_index(store->log);
    for (size_t i = 0; i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        if (origin->srv != srv && origin->rows > 0) {
            return true;
        }
    }
    return store->source.srv != 0 && store->source.srv != srv;
}

tw_err store_on_source_ask(void *state, const tw_envelope *in)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    uint64_t srv = in->body->source_ask.srv;
    if (!self->image || srv == 0) {
        tw_reply_error(in->actor, in->route, TW_E_UNSUPPORTED, "this log is no image");
        return TW_OK;
    }
    tw_err err = store_flush(self); /* what was appended before goes first */
    tw_msg_source answer = {.own = self->srv, .foreign = has_foreign(self, srv)};
    if (err != TW_OK) {
        return TW_OK; /* the actor ends */
    }
    if (!answer.foreign && self->source.origin == 0) {
        uint32_t id;
        err = log_store_origin(self->log, srv, &id);
        if (err == TW_OK) {
            err = store_load_source(self);
        }
    }
    log_source source = {0};
    if (err == TW_OK && !answer.foreign) {
        err = log_store_source_of(self->log, in->arena, self->source.origin, &source);
        err = err == TW_E_NOT_FOUND ? TW_OK : err;
    }
    if (err != TW_OK) {
        return err;
    }
    log_index *index = log_store_index(self->log);
    const log_origin *origin = log_index_origin_of_srv(index, srv);
    self->source.life = in->body->source_ask.life;
    answer.number = source.number;
    answer.at = source.at;
    answer.whole = log_store_is_whole(self->log);
    answer.head = log_index_head(index);
    answer.rows = origin == NULL || answer.foreign ? 0 : origin->rows;
    answer.state = source.state;
    tw_reply(in->actor, in->route, TW_MSG_source, &answer);
    return TW_OK;
}
