/* log_reader_aggregate.c - pipelines over a collection (broker/aggregate.h); for log_reader.c.
 *
 * An aggregate runs in steps of some thousand records, between which the reader answers others. It
 * is named by the asker, who may end it at any time. It ends by itself at its deadline, and what
 * was made of it is forgotten when nobody fetches it. What it holds is bounded by the pipeline
 * (TW_AGGREGATE_BYTES_MAX), how many there are by TW_AGGREGATES_MAX. */
#include "actors/log_reader_priv.h"

static void forget(log_reader_aggregate *self)
{
    query_free(&self->filter);
    query_free(&self->guard);
    tw_free(self->grant.hidden);
    tw_free((void *)(uintptr_t)self->names.ptr);
    tw_buf_fini(&self->shown);
    aggregate_free(&self->made);
    *self = (log_reader_aggregate){0};
}

void log_reader_aggregates_fini(struct log_reader *self)
{
    for (size_t i = 0; i < TW_AGGREGATES_MAX; i++) {
        forget(&self->aggregates[i]);
    }
}

static log_reader_aggregate *named(struct log_reader *self, uint64_t id)
{
    for (size_t i = 0; i < TW_AGGREGATES_MAX; i++) {
        if (self->aggregates[i].id == id) {
            return &self->aggregates[i];
        }
    }
    return NULL;
}

/* ---- the result, by pages ---- */

static void on_idle(void *state, uint64_t tag)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    TW_ASSERT(tag < TW_AGGREGATES_MAX);
    log_reader_aggregate *self = &reader->aggregates[tag];
    if (self->id != 0 && self->is_made && tw_now_ms(reader->actor) >= self->until_ms) {
        reader->aggregates_ended++;
        forget(self);
    }
}

/* Answers the asker by what comes next; after the last page nothing is kept. */
static void tell_page(struct log_reader *reader, log_reader_aggregate *self)
{
    size_t count = aggregate_count(self->made);
    size_t most = count - self->told;
    most = most < TW_FIND_MAX ? most : TW_FIND_MAX;
    tw_arena_reset(&reader->memory);
    tw_item_record *items = tw_arena_zero(&reader->memory, most + 1, sizeof *items);
    TW_ASSERT(self->is_made && self->is_asked);
    if (items == NULL) {
        tw_reply_error(reader->actor, &self->route, TW_E_NO_MEMORY, "%s", "");
        forget(self);
        return;
    }
    size_t told = 0;
    for (size_t bytes = 0; told < most && bytes < TW_PAGE_BYTES; told++) {
        items[told].doc = aggregate_at(self->made, self->told + told);
        bytes += items[told].doc.len;
    }
    self->told += told;
    const tw_msg_aggregated answer = {.more = self->told < count, .items = {items, told}};
    self->is_asked = false;
    tw_reply(reader->actor, &self->route, TW_MSG_aggregated, &answer);
    if (!answer.more) {
        reader->aggregates_done++;
        forget(self);
        return;
    }
    self->until_ms = tw_now_ms(reader->actor) + reader->idle_ms;
    tw_timer_set(reader->actor, self->until_ms, on_idle, (uint64_t)(self - reader->aggregates));
}

/* ---- the run ---- */

static void fail(struct log_reader *reader, log_reader_aggregate *self, tw_err err, const char *why)
{
    TW_ASSERT(err != TW_OK && self->is_asked);
    tw_reply_error(reader->actor, &self->route, err, "%s", why);
    reader->aggregates_ended++;
    forget(self);
}

/* A record on its way into the pipeline; false: no further one is wanted. */
static bool take(void *context, tw_bson doc)
{
    log_reader_aggregate *self = context;
    if (self->guard != NULL && !query_match(self->guard, doc)) {
        return true; /* as if missing: not even counted */
    }
    if (self->grant.hidden_count > 0) {
        tw_buf_clear(&self->shown);
        rights_hide(&self->grant, doc, &self->shown);
        doc = (tw_bson){(const uint8_t *)self->shown.ptr, self->shown.len};
        self->err = self->shown.err;
        if (self->err != TW_OK) {
            return false;
        }
    }
    if (self->looked++ == TW_AGGREGATE_SCAN_MAX) {
        self->err = broker_refuse(&self->why, TW_E_TOO_COSTLY,
                                  "over %d documents to look at: begin with a narrower $match",
                                  TW_AGGREGATE_SCAN_MAX);
        return false;
    }
    self->err = aggregate_add(self->made, doc, &self->is_enough, &self->why);
    return self->err == TW_OK && !self->is_enough;
}

static void on_step(void *state, uint64_t tag)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    TW_ASSERT(tag < TW_AGGREGATES_MAX);
    log_reader_aggregate *self = &reader->aggregates[tag];
    if (self->id == 0 || self->is_made) {
        return; /* ended, or another has its place, which has run already */
    }
    if (tw_now_ms(reader->actor) >= self->until_ms) {
        tw_format(self->why.text, sizeof self->why.text,
                  "the pipeline takes longer than %llu ms: begin with a narrower $match",
                  (unsigned long long)self->time_ms);
        fail(reader, self, TW_E_TOO_COSTLY, self->why.text);
        return;
    }
    log_reader_scan scan = {.db = tw_str_of(self->db),
                            .coll = tw_str_of(self->coll),
                            .filter = self->filter,
                            .after = self->after,
                            .take = take,
                            .context = self};
    tw_err err = log_reader_scan_step(reader, &scan);
    self->after = scan.after;
    if (err != TW_OK) {
        fail(reader, self, err, reader->view.why);
        return;
    }
    if (self->err == TW_OK && !scan.at_head && !self->is_enough) {
        tw_timer_set(reader->actor, tw_now_ms(reader->actor), on_step, tag);
        return;
    }
    err = self->err != TW_OK ? self->err : aggregate_end(self->made, &self->why);
    if (err != TW_OK) {
        fail(reader, self, err, self->why.text);
        return;
    }
    self->is_made = true;
    tell_page(reader, self);
}

/* What the asker's rights keep from the pipeline. */
static tw_err begin_rights(log_reader_aggregate *self, const tw_msg_aggregate_run *ask,
                           broker_why *why)
{
    tw_bson_iter iter;
    size_t count = ask->hidden.len == 0 ? 0 : tw_bson_count(ask->hidden);
    tw_buf_init(&self->shown, TW_DOCUMENT_MAX + 4096);
    tw_err err = ask->guard.len > 0 ? query_compile_joined(ask->guard, &self->guard, why) : TW_OK;
    if (err != TW_OK || count == 0) {
        return err;
    }
    uint8_t *names = tw_alloc(ask->hidden.len);
    self->grant.hidden = tw_alloc(count * sizeof *self->grant.hidden);
    self->names = (tw_bson){names, names == NULL ? 0 : ask->hidden.len};
    if (names == NULL || self->grant.hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(names, ask->hidden.ptr, ask->hidden.len);
    for (tw_bson_iter_init(&iter, self->names); tw_bson_iter_next(&iter);) {
        tw_str name = tw_bson_value_str(iter.value);
        if (name.len == 0 || self->grant.hidden_count == TW_FIELDS_MAX) {
            return TW_E_BAD_MESSAGE;
        }
        self->grant.hidden[self->grant.hidden_count++] = name;
    }
    return TW_OK;
}

static tw_err begin(struct log_reader *reader, log_reader_aggregate *self,
                    const tw_msg_aggregate_run *ask, broker_why *why)
{
    tw_str db = ask->db.len > 0 ? ask->db : tw_str_of(reader->catalog->default_database);
    if (catalog_rules(reader->catalog, db, ask->coll) == NULL) {
        return broker_refuse(why, TW_E_FORBIDDEN, "The collection is not declared.");
    }
    tw_err err = query_compile(ask->match, &self->filter, why);
    err = err != TW_OK ? err : begin_rights(self, ask, why);
    err = err != TW_OK ? err : aggregate_new(&self->made, ask->pipeline, why);
    if (err != TW_OK) {
        return err;
    }
    tw_format(self->db, sizeof self->db, "%.*s", (int)db.len, db.ptr);
    tw_format(self->coll, sizeof self->coll, "%.*s", (int)ask->coll.len, ask->coll.ptr);
    self->time_ms = ask->time_ms == 0 ? TW_AGGREGATE_MS : ask->time_ms;
    self->until_ms = tw_now_ms(reader->actor) + self->time_ms;
    self->id = ask->id;
    return TW_OK;
}

tw_err log_reader_on_aggregate_run(void *state, const tw_envelope *in)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    const tw_msg_aggregate_run *ask = &in->body->aggregate_run;
    broker_why why = {0};
    log_reader_aggregate *self = named(reader, 0);
    if (ask->id == 0 || named(reader, ask->id) != NULL) {
        return TW_E_BAD_MESSAGE;
    }
    if (self == NULL) {
        tw_reply_error(in->actor, in->route, TW_E_BUSY, "%d pipelines run at once.",
                       TW_AGGREGATES_MAX);
        return TW_OK;
    }
    tw_err err = begin(reader, self, ask, &why);
    if (err != TW_OK) {
        forget(self);
        tw_reply_error(in->actor, in->route, err, "%s", why.text);
        return TW_OK;
    }
    self->route = *in->route;
    self->is_asked = true;
    tw_timer_set(in->actor, tw_now_ms(in->actor), on_step, (uint64_t)(self - reader->aggregates));
    return TW_OK;
}

tw_err log_reader_on_aggregate_next(void *state, const tw_envelope *in)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    const tw_msg_aggregate_next *ask = &in->body->aggregate_next;
    log_reader_aggregate *self = ask->id == 0 ? NULL : named(reader, ask->id);
    if (ask->end) {
        if (self != NULL && self->is_asked) {
            fail(reader, self, TW_E_END, "It was ended by its asker.");
        } else if (self != NULL) {
            reader->aggregates_ended++;
            forget(self);
        }
        const tw_msg_done done = {.count = self != NULL ? 1 : 0};
        tw_reply(in->actor, in->route, TW_MSG_done, &done);
        return TW_OK;
    }
    if (self == NULL) {
        tw_reply_error(in->actor, in->route, TW_E_GAP,
                       "The result was not fetched in time: ask again.");
        return TW_OK;
    }
    if (self->is_asked) {
        return TW_E_BAD_MESSAGE; /* it runs: its asker is answered by itself */
    }
    self->route = *in->route;
    self->is_asked = true;
    tell_page(reader, self);
    return TW_OK;
}
