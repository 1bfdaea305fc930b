/* request_search_bulk.c - bulk plans, and changes that the engine makes (store: search).
 *
 * Plan: [["insert",id,doc], ["upsert",id,doc], ["update",id,fields], ["delete",id]], each with a
 * result of its own; insert refuses an id that is there, upsert merges or inserts, update merges.
 * In the log an upsert is an update and, where nothing was there, an insert. */
#include "protocol/json.h"

#include "broker/update.h"

#include "gateways/request/request_search.h"

/* ---- the engine's changes ---- */
static void told_log(request *self)
{
    for (size_t i = 0; i < self->results_count; i++) { /* gone from the log before: no news */
        const request_result *result = &self->results[i];
        if (result->code != TW_OK && result->code != TW_E_NOT_FOUND && self->failed.code == TW_OK) {
            self->failed = *result;
        }
    }
    if (self->failed.code != TW_OK) {
        request_fail(self, self->failed.code,
                     "The engine holds the change; streams could not be told of it.", "Repeat it.",
                     (tw_bson){0});
        return;
    }
    self->searching->changed(self);
}

static tw_err op_of(request *self, const search_outcome *outcome, tw_item_write_op *op)
{
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_bson wrapped;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_add_str(&b, TW_STR("id"), outcome->id);
    wrapped = tw_bson_end(&b);
    tw_bson doc = tw_bson_get_doc(outcome->told, TW_STR("doc"));
    *op = request_op(self, &self->given, doc.len > 0 ? TW_OP_PUT : TW_OP_REMOVE);
    op->coll = self->targets.at[0].coll;
    op->if_version = -1; /* the engine has judged */
    op->opid = (tw_str){NULL, 0};
    if (scratch->err != TW_OK) {
        return scratch->err;
    }
    tw_err err = tw_key_of_value(&self->arena, tw_bson_get(wrapped, TW_STR("id")), &op->key);
    return err == TW_OK && doc.len > 0 ? request_search_doc(self, op->key, doc, &op->doc) : err;
}

static void tell_log(request *self)
{
    struct request_search *state = self->searching;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, state->outcomes_count * sizeof *ops);
    tw_err err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    size_t count = 0;
    for (size_t i = 0; i < state->outcomes_count && err == TW_OK; i++) {
        if (state->outcomes[i].code == TW_OK) {
            err = op_of(self, &state->outcomes[i], &ops[count++]);
        }
    }
    if (err == TW_OK && count == 0) {
        state->changed(self);
        return;
    }
    self->judged = true; /* request_search_place has looked */
    if (err == TW_OK) {
        err = request_write(self, ops, count, false, told_log);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}

static bool keep_outcome(request *self, tw_bson told, search_outcome *out)
{
    tw_bson own = tw_arena_bson(&self->arena, told);
    char code[64];
    tw_str name = tw_bson_get_str(own, TW_STR("code"));
    tw_format(code, sizeof code, "%.*s", (int)name.len, name.ptr == NULL ? "" : name.ptr);
    *out = (search_outcome){.code = name.ptr == NULL ? TW_OK : tw_err_by_code(code),
                            .why = tw_bson_get_str(own, TW_STR("message")),
                            .id = tw_bson_get_str(own, TW_STR("id")),
                            .told = own};
    return own.ptr != NULL;
}

static void on_changed(request *self, const tw_envelope *in)
{
    struct request_search *state = self->searching;
    const tw_list_search_item *items = &in->body->search_answer.items;
    if (state->outcomes_cap < items->count) {
        state->outcomes = tw_arena_alloc(&self->arena, items->count * sizeof *state->outcomes);
        state->outcomes_cap = state->outcomes == NULL ? 0 : items->count;
    }
    bool kept = state->outcomes_cap >= items->count;
    state->outcomes_count = items->count;
    for (size_t i = 0; i < items->count && kept; i++) {
        kept = keep_outcome(self, items->at[i].doc, &state->outcomes[i]);
    }
    if (!kept || items->count == 0) {
        request_fail(self, kept ? TW_E_INTERNAL : TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
        return;
    }
    tell_log(self);
}

void request_search_change(request *self, tw_bson plan, request_step changed)
{
    if (self->searching == NULL && !request_search_state(self)) {
        return;
    }
    self->searching->changed = changed;
    self->answered = on_changed;
    tw_msg_search_ask body = request_search_ask(self, TW_STR("bulk"), plan);
    body.cursor = (tw_str){NULL, 0}; /* that of the page belongs to the query */
    request_ask_search(self, &body, body.deadline_ms);
}

static void add_fields(tw_bson_builder *b, const search_outcome *outcome)
{
    tw_bson_value version = tw_bson_get(outcome->told, TW_STR("version"));
    if (version.type != 0) {
        tw_bson_add_value(b, TW_STR("version"), version);
    }
}

void request_search_add_outcome(tw_bson_builder *b, const search_outcome *outcome)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("id"), outcome->id);
    if (outcome->code != TW_OK) {
        tw_bson_add_str(b, TW_STR("code"), tw_str_of(tw_err_code(outcome->code)));
        tw_bson_add_str(b, TW_STR("message"),
                        outcome->why.len != 0 ? outcome->why
                                              : tw_str_of(tw_err_text(outcome->code)));
    }
    add_fields(b, outcome);
    tw_bson_close(b);
}

void request_search_reply_one(request *self, const search_outcome *outcome)
{
    tw_bson_builder b;
    if (outcome->code != TW_OK) {
        char message[TW_ERROR_TEXT_MAX + 1];
        tw_buf *scratch = &self->engine->scratch;
        tw_buf_clear(scratch);
        tw_bson_begin(&b, scratch);
        add_fields(&b, outcome);
        tw_bson extra = tw_bson_end(&b);
        tw_format(message, sizeof message, "%.*s", (int)outcome->why.len,
                  outcome->why.len != 0 ? outcome->why.ptr : "");
        request_fail(self, outcome->code, message, NULL,
                     scratch->err == TW_OK ? extra : (tw_bson){0});
        return;
    }
    request_reply_begin(self, &b, self->action->name);
    add_fields(&b, outcome);
    request_add_since(&b, &self->since);
    (void)request_reply_end(self, &b, true);
}

/* ---- bulk ---- */
void request_search_bulk_plan(request *self)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_open_array(&b, TW_STR("bulk_plan"));
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("limits"));
    tw_bson_add_i64(&b, TW_STR("operations"), TW_BULK_MAX);
    tw_bson_add_i64(&b, TW_STR("bytes"), TW_MESSAGE_MAX);
    tw_bson_close(&b);
    (void)request_reply_end(self, &b, true);
}

typedef struct planned {
    uint64_t op; /* enum tw_op; of an upsert TW_OP_UPDATE */
    bool upsert;
    tw_bson_value id;
    tw_bson doc;
} planned;

static tw_err plan_one(tw_bson_value value, planned *out)
{
    static const struct {
        const char *name;
        uint64_t op;
        size_t parts;
        bool upsert;
    } kinds[] = {{"insert", TW_OP_INSERT, 3, false},
                 {"upsert", TW_OP_UPDATE, 3, true},
                 {"update", TW_OP_UPDATE, 3, false},
                 {"delete", TW_OP_REMOVE, 2, false}};
    if (value.type != TW_BSON_ARRAY) {
        return TW_E_BAD_MESSAGE;
    }
    tw_bson list = tw_bson_value_doc(value);
    tw_str name = tw_bson_get_str(list, TW_STR("0"));
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        if (name.ptr == NULL || !tw_str_equal(name, tw_str_of(kinds[i].name))) {
            continue;
        }
        tw_bson_value doc = tw_bson_get(list, TW_STR("2"));
        *out = (planned){kinds[i].op, kinds[i].upsert, tw_bson_get(list, TW_STR("1")),
                         tw_bson_value_doc(doc)};
        bool shaped = tw_bson_count(list) == kinds[i].parts && out->id.type != 0 &&
                      out->id.type != TW_BSON_ARRAY &&
                      (kinds[i].parts == 2 || doc.type == TW_BSON_DOCUMENT);
        return shaped ? TW_OK : TW_E_BAD_MESSAGE;
    }
    return TW_E_BAD_MESSAGE;
}

static tw_err op_of_planned(request *self, const planned *one, tw_item_write_op *op,
                            request_why *why)
{
    request_id *ids;
    size_t count;
    tw_err err = request_ids_read(&self->arena, one->id, &ids, &count, why);
    if (err != TW_OK) {
        return err;
    }
    *op = request_op(self, &self->given, one->op);
    op->key = ids[0].key;
    if (one->op == TW_OP_INSERT) {
        return request_search_doc(self, op->key, one->doc, &op->doc);
    }
    return one->op == TW_OP_REMOVE ? TW_OK
                                   : update_of_fields(&self->arena, one->doc, &op->doc, &why->why);
}

static tw_err read_plan(request *self, planned **out, size_t *count, request_why *why)
{
    tw_bson list = tw_bson_value_doc(self->given.at[FIELD_bulk_plan]);
    tw_bson_iter iter;
    *count = 0;
    *out = tw_arena_alloc(&self->arena, (tw_bson_count(list) + 1) * sizeof **out);
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (tw_bson_iter_init(&iter, list); tw_bson_iter_next(&iter); ++*count) {
        if (plan_one(iter.value, &(*out)[*count]) != TW_OK) {
            tw_format(why->hint, sizeof why->hint,
                      "[\"insert\",id,doc] [\"upsert\",id,doc] [\"update\",id,fields] "
                      "[\"delete\",id]");
            return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                                 "bulk_plan[%zu] is no operation; nothing was done.", *count);
        }
        if ((*out)[*count].op == TW_OP_REMOVE && self->rules->remove_denied &&
            !self->engine->options.trusted) {
            return broker_refuse(&why->why, TW_E_FORBIDDEN,
                                 "Clients may not remove from \"%s\"; nothing was done.",
                                 request_show(self->coll).text);
        }
    }
    return TW_OK;
}

static void reply_items(request *self)
{
    size_t failed = 0;
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_open_array(&b, TW_STR("items"));
    for (size_t i = 0; i < self->searching->outcomes_count; i++) {
        request_search_add_outcome(&b, &self->searching->outcomes[i]);
        failed += self->searching->outcomes[i].code != TW_OK ? 1 : 0;
    }
    tw_bson_close(&b);
    tw_bson_add_bool(&b, TW_STR("errors"), failed > 0);
    request_add_since(&b, &self->since);
    (void)request_reply_end(self, &b, true);
}

/* ---- bulk in the log ---- */
static void keep_result(request *self, size_t at, const request_result *result)
{
    search_outcome *outcome = &self->searching->outcomes[at];
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    if (result->code == TW_OK || result->code == TW_E_CONFLICT) {
        tw_bson_add_i64(&b, TW_STR("version"), result->version);
    }
    (void)tw_bson_end(&b);
    outcome->code = result->code;
    outcome->why = result->why;
    if (request_keep(self, scratch, &outcome->told) != TW_OK) {
        outcome->told = (tw_bson){0}; /* a lost number is no lost outcome */
    }
}

static void upserted(request *self)
{
    size_t at = 0;
    for (size_t i = 0; i < self->results_count; i++) {
        while (self->searching->outcomes[at].code != TW_E_NOT_FOUND ||
               self->searching->docs[at].len == 0) {
            at++;
        }
        self->searching->docs[at].len = 0;
        keep_result(self, at, &self->results[i]);
    }
    reply_items(self);
}

/* Upserts of what was not there become inserts. */
static void written(request *self)
{
    struct request_search *state = self->searching;
    size_t count = 0;
    tw_err err = TW_OK;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, state->outcomes_count * sizeof *ops);
    for (size_t i = 0; i < state->outcomes_count && err == TW_OK; i++) {
        keep_result(self, i, &self->results[i]);
        if (ops == NULL || state->outcomes[i].code != TW_E_NOT_FOUND || state->docs[i].len == 0) {
            continue;
        }
        ops[count] = request_op(self, &self->given, TW_OP_INSERT);
        ops[count].doc = state->docs[i];
        ops[count].opid = (tw_str){NULL, 0};
        count++;
    }
    if (count == 0) {
        reply_items(self);
        return;
    }
    err = request_write(self, ops, count, false, upserted);
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}

static tw_err bulk_in_log(request *self, const planned *plan, size_t count, request_why *why)
{
    struct request_search *state = self->searching;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, count * sizeof *ops);
    state->outcomes = tw_arena_zero(&self->arena, count, sizeof *state->outcomes);
    state->docs = tw_arena_zero(&self->arena, count, sizeof *state->docs);
    if (ops == NULL || state->outcomes == NULL || state->docs == NULL) {
        return TW_E_NO_MEMORY;
    }
    state->outcomes_count = count;
    tw_str opid = tw_bson_value_str(self->given.at[FIELD_opid]);
    tw_err err = TW_OK;
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        state->outcomes[i].id = request_search_id(self, plan[i].id);
        err = op_of_planned(self, &plan[i], &ops[i], why);
        if (err == TW_OK && plan[i].upsert) {
            err = request_search_doc(self, ops[i].key, plan[i].doc, &state->docs[i]);
        }
        if (err == TW_OK) {
            err = request_opid_part(self, opid, i, &ops[i].opid, why);
        }
    }
    return err == TW_OK ? request_write(self, ops, count, false, written) : err;
}

void request_search_bulk(request *self)
{
    request_why why = {0};
    planned *plan = NULL;
    size_t count = 0;
    tw_err err = read_plan(self, &plan, &count, &why);
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    if (!request_search_state(self)) {
        return;
    }
    if (count == 0) {
        reply_items(self);
        return;
    }
    if (self->rules->search_store) {
        request_search_change(self, self->asked, reply_items);
        return;
    }
    err = bulk_in_log(self, plan, count, &why);
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
    }
}
