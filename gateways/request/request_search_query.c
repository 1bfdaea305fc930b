/* request_search_query.c - update_by_query, delete_by_query, archive: the engine finds ids, page
 * by page of one point in time, and each document is changed by its id, where it is stored.
 *
 * So a change is judged by what is stored, not by what the index held when it was found: it is an
 * ordinary write, with its version and its place in the streams. What is gone meanwhile is not
 * counted. After each page a progress message; a slow asker pauses the work, one that goes away
 * ends it. Archive moves: it writes into the archive first, then deletes here; of the log both are
 * one transaction. */
#include "gateways/request/request_search.h"

static void next_page(request *self);
static void apply(request *self);

static bool archives(const request *self)
{
    return self->action->op == 0;
}

/* ---- replies ---- */
static void finish(request *self)
{
    if (self->failed.code != TW_OK) {
        request_fail_result(self, &self->failed, true);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_str(&b, TW_STR("task"), self->searching->task);
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    if (self->searching->more) {
        tw_bson_add_bool(&b, TW_STR("more"), true);
    }
    request_add_since(&b, &self->since);
    (void)request_reply_end(self, &b, true);
}

static void page_done(request *self)
{
    struct request_search *state = self->searching;
    state->more = !state->last && self->count >= TW_BY_QUERY_MAX;
    if (state->last || state->more || self->failed.code != TW_OK) {
        finish(self);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_str(&b, TW_STR("task"), state->task);
    tw_bson_add_i64(&b, TW_STR("progress"), (int64_t)self->count);
    bool on = request_reply_end(self, &b, false);
    if (self->forgotten || self->finished) {
        return;
    }
    if (on) {
        next_page(self);
    } else {
        request_pause(self, next_page);
    }
}

/* ---- in the log ---- */
static void note(request *self, const request_result *result)
{
    if (result->code == TW_OK) {
        self->count += result->count;
    } else if (result->code != TW_E_NOT_FOUND && self->failed.code == TW_OK) {
        self->failed = *result;
    }
}

static void written(request *self)
{
    for (size_t i = 0; i < self->results_count; i++) {
        if (!archives(self) || i % 2 == 0) { /* of a move the put counts */
            note(self, &self->results[i]);
        }
    }
    apply(self);
}

static tw_err write_some(request *self, tw_item_write_op *ops, size_t count)
{
    if (count == 0) {
        apply(self);
        return TW_OK;
    }
    return request_write(self, ops, count, archives(self), written);
}

static tw_item_write_op op_on(request *self, uint64_t op, tw_key key)
{
    tw_item_write_op out = request_op(self, &self->given, op);
    out.key = key;
    out.opid = (tw_str){NULL, 0}; /* drawn: the query would find others when it is repeated */
    return out;
}

/* The whole documents of the next keys, from the log: each is moved. */
static void on_records(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_records *records = &in->body->records;
    size_t asked = self->keys.count - self->keys_at;
    asked = asked < REQUEST_CHUNK ? asked : REQUEST_CHUNK;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, 2 * REQUEST_CHUNK * sizeof *ops);
    size_t count = 0;
    tw_err err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    size_t taken = 0;
    for (; taken < asked && err == TW_OK; taken++) {
        const request_id wanted = {.key = self->keys.at[self->keys_at + taken]};
        const tw_item_record *record = request_record_of(records, &wanted);
        if (record == NULL && records->more) {
            break; /* cut short: asked for again */
        }
        if (record == NULL) {
            continue;
        }
        ops[count] = op_on(self, TW_OP_PUT, wanted.key);
        ops[count].coll = tw_str_of(self->rules->search_archive);
        ops[count].doc = tw_arena_bson(&self->arena, record->doc);
        err = ops[count].doc.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
        ops[count + 1] = op_on(self, TW_OP_REMOVE, wanted.key);
        count += 2;
    }
    self->keys_at += taken;
    if (err == TW_OK && taken == 0) {
        err = TW_E_TOO_BIG;
    }
    if (err == TW_OK) {
        err = write_some(self, ops, count);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}

static void ask_records(request *self)
{
    tw_item_one_key keys[REQUEST_CHUNK];
    size_t count = 0;
    for (size_t i = self->keys_at; i < self->keys.count && count < REQUEST_CHUNK; i++) {
        keys[count++] = (tw_item_one_key){self->keys.at[i]};
    }
    tw_msg_get message = {
        .db = self->db, .coll = self->coll, .match = self->grant.filter, .keys = {keys, count}};
    request_ask(self, TW_MSG_get, &message);
}

static void apply_in_log(request *self)
{
    if (archives(self)) {
        self->ask = ask_records;
        self->answered = on_records;
        self->ask(self);
        return;
    }
    size_t count = self->keys.count - self->keys_at;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, count * sizeof *ops);
    tw_err err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        ops[i] = op_on(self, self->action->op, self->keys.at[self->keys_at + i]);
        ops[i].doc = self->update;
    }
    self->keys_at = self->keys.count;
    if (err == TW_OK) {
        err = write_some(self, ops, count);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}

/* ---- at the engine ---- */
static void note_outcomes(request *self, bool counts)
{
    const struct request_search *state = self->searching;
    for (size_t i = 0; i < state->outcomes_count; i++) {
        const search_outcome *one = &state->outcomes[i];
        if (one->code == TW_OK) {
            self->count += counts ? 1 : 0;
        } else if (one->code != TW_E_NOT_FOUND && self->failed.code == TW_OK) {
            self->failed = (request_result){.code = one->code, .why = one->why};
        }
    }
}

static void changed(request *self)
{
    note_outcomes(self, true);
    self->targets = self->searching->here;
    apply(self);
}

/* A plan of one kind for ids; docs: their new documents. NULL in *out: no memory. */
static tw_err plan_of(request *self, const char *kind, const tw_str *ids, size_t count,
                      const tw_msg_search_answer *docs, tw_bson *out)
{
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_open_array(&b, TW_STR("bulk_plan"));
    for (size_t i = 0; i < count; i++) {
        tw_bson_open_array(&b, TW_STR(""));
        tw_bson_add_str(&b, TW_STR(""), tw_str_of(kind));
        tw_bson_add_str(&b, TW_STR(""), ids[i]);
        if (docs != NULL) {
            tw_bson_add_doc(&b, TW_STR(""), tw_bson_get_doc(docs->items.at[i].doc, TW_STR("doc")));
        } else if (self->action->op == TW_OP_UPDATE) {
            tw_bson_add_value(&b, TW_STR(""), self->given.at[FIELD_operations]);
        }
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    return request_keep(self, scratch, out);
}

static void delete_here(request *self)
{
    struct request_search *state = self->searching;
    tw_bson plan = {0};
    note_outcomes(self, false);
    self->targets = state->here;
    if (self->failed.code != TW_OK) {
        finish(self);
        return;
    }
    tw_err err = plan_of(self, "delete", state->ids, state->ids_at, NULL, &plan);
    state->ids += state->ids_at;
    state->ids_count -= state->ids_at;
    state->ids_at = 0;
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    } else {
        request_search_change(self, plan, changed);
    }
}

/* Whole documents of the next ids: they are written into the archive, then deleted here. */
static void on_documents(request *self, const tw_envelope *in)
{
    const tw_msg_search_answer *answer = &in->body->search_answer;
    tw_bson plan = {0};
    tw_err err = TW_OK;
    size_t count = answer->items.count;
    tw_str *ids = tw_arena_alloc(&self->arena, (count + 1) * sizeof *ids);
    for (size_t i = 0; ids != NULL && i < count; i++) {
        ids[i] = tw_bson_get_str(answer->items.at[i].doc, TW_STR("id"));
    }
    err = ids == NULL ? TW_E_NO_MEMORY : plan_of(self, "save", ids, count, answer, &plan);
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    } else if (count == 0) { /* all gone meanwhile */
        self->searching->ids += self->searching->ids_at;
        self->searching->ids_count -= self->searching->ids_at;
        self->searching->ids_at = 0;
        apply(self);
    } else {
        self->targets = self->searching->archive;
        request_search_change(self, plan, delete_here);
    }
}

static void ask_documents(request *self)
{
    struct request_search *state = self->searching;
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    state->ids_at = state->ids_count < REQUEST_CHUNK ? state->ids_count : REQUEST_CHUNK;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_open_array(&b, TW_STR("ids"));
    for (size_t i = 0; i < state->ids_at; i++) {
        tw_bson_add_str(&b, TW_STR(""), state->ids[i]);
    }
    tw_bson_close(&b);
    tw_bson args = tw_bson_end(&b);
    if (scratch->err != TW_OK) {
        request_fail(self, scratch->err, NULL, NULL, (tw_bson){0});
        return;
    }
    tw_msg_search_ask body = request_search_ask(self, TW_STR("multiget"), args);
    body.cursor = (tw_str){NULL, 0};
    self->answered = on_documents;
    request_ask_search(self, &body, body.deadline_ms);
}

static void apply_in_engine(request *self)
{
    struct request_search *state = self->searching;
    tw_bson plan = {0};
    if (archives(self)) {
        ask_documents(self);
        return;
    }
    const char *kind = self->action->op == TW_OP_UPDATE ? "modify" : "delete";
    tw_err err = plan_of(self, kind, state->ids, state->ids_count, NULL, &plan);
    state->ids_count = 0;
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    } else {
        request_search_change(self, plan, changed);
    }
}

/* ---- pages ---- */
/* Changes what is left of the page. */
static void apply(request *self)
{
    bool engine = self->rules->search_store;
    size_t left = engine ? self->searching->ids_count : self->keys.count - self->keys_at;
    request_search_next_step(self);
    if (left == 0 || self->failed.code != TW_OK) {
        page_done(self);
    } else if (engine) {
        apply_in_engine(self);
    } else {
        apply_in_log(self);
    }
}

static void on_keys(request *self, const tw_envelope *in)
{
    const tw_msg_search_answer *answer = &in->body->search_answer;
    struct request_search *state = self->searching;
    if (!request_search_cursor_keep(self, answer->cursor)) {
        return;
    }
    state->last = answer->cursor.len == 0;
    self->keys = (request_keys){0};
    self->keys_at = 0;
    state->ids = tw_arena_alloc(&self->arena, (answer->items.count + 1) * sizeof *state->ids);
    state->ids_count = 0;
    state->ids_at = 0;
    tw_err err = state->ids == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; i < answer->items.count && err == TW_OK; i++) {
        tw_bson_value value = tw_bson_get(answer->items.at[i].doc, TW_STR("key"));
        if (self->rules->search_store) {
            tw_str id = tw_arena_str(&self->arena, request_search_id(self, value));
            state->ids[state->ids_count++] = id;
            err = id.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
            continue;
        }
        tw_key key;
        err = tw_key_of_value(&self->arena, value, &key);
        err = err == TW_OK ? request_keys_add(&self->arena, &self->keys, key) : err;
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
        return;
    }
    apply(self);
}

static void next_page(request *self)
{
    request_search_next_step(self);
    self->answered = on_keys;
    tw_msg_search_ask body = request_search_ask(self, TW_STR("keys"), self->asked);
    request_ask_search(self, &body, body.deadline_ms);
}

/* ---- the start ---- */
static tw_err place_archive(request *self, request_why *why)
{
    if (self->rules->search_archive == NULL) {
        tw_format(why->hint, sizeof why->hint, "Declare where to: search: {archive: NAME}.");
        return broker_refuse(&why->why, TW_E_UNSUPPORTED, "\"%s\" has no archive.",
                             request_show(self->coll).text);
    }
    tw_item_search_target *at = tw_arena_zero(&self->arena, 1, sizeof *at);
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    *at = (tw_item_search_target){.db = self->db, .coll = tw_str_of(self->rules->search_archive)};
    self->searching->archive = (tw_list_search_target){at, 1};
    return TW_OK;
}

void request_search_by_query(request *self)
{
    request_why why = {0};
    if (!request_search_state(self)) {
        return;
    }
    struct request_search *state = self->searching;
    state->here = self->targets;
    state->task = tw_str_of(tw_arena_format(
        &self->arena, "%016llx", (unsigned long long)tw_random(self->engine->options.actor)));
    tw_err err = archives(self) ? place_archive(self, &why) : TW_OK;
    if (err == TW_OK && self->action->op == TW_OP_UPDATE) { /* a wrong one is told before */
        err = request_update_of(self, &self->given, &self->update, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    next_page(self);
}
