/* request_search_save.c - save, update and delete of one document by id, and wipe.
 *
 * A version is what get, save and update told: a number of a `log` collection (0: nothing may be
 * there yet), a text of the engine's for `store: search`. A stale one gets conflict. */
#include "gateways/request/request_search.h"

tw_err request_search_doc(request *self, tw_key key, tw_bson doc, tw_bson *out)
{
    tw_str field = tw_str_of(self->rules->key);
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_add_key(&b, field, key);
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, field)) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    (void)tw_bson_end(&b);
    return request_keep(self, scratch, out);
}

/* ---- of the log ---- */
static void saved(request *self)
{
    tw_bson_builder b;
    if (request_reply_result_begin(self, &b)) {
        tw_bson_add_i64(&b, TW_STR("version"), self->results[0].version);
        request_reply_result_end(self, &b);
    }
}

static tw_err save_in_log(request *self, request_why *why)
{
    tw_err err =
        request_ids_read(&self->arena, self->given.at[FIELD_id], &self->ids, &self->ids_count, why);
    if (err == TW_OK && self->ids_count != 1) {
        err = broker_refuse(&why->why, TW_E_BAD_MESSAGE, "save takes one id.");
    }
    tw_item_write_op op = request_op(self, &self->given, TW_OP_PUT);
    if (err == TW_OK) {
        err = request_search_doc(self, self->ids[0].key,
                                 tw_bson_value_doc(self->given.at[FIELD_doc]), &op.doc);
    }
    return err == TW_OK ? request_write(self, &op, 1, false, saved) : err;
}

static tw_err take_version(request *self, request_why *why)
{
    tw_bson_value version = self->given.at[FIELD_version];
    int64_t number;
    if (version.type == 0) {
        return TW_OK;
    }
    if (!tw_bson_value_i64(version, &number) || number < 0) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"version\" is to be a whole number, as get told it.");
    }
    self->given.at[FIELD_if_version] = version;
    self->given.set |= FIELD_BIT(if_version);
    return TW_OK;
}

/* ---- of the engine ---- */
static void changed(request *self)
{
    request_search_reply_one(self, &self->searching->outcomes[0]);
}

static tw_err change_in_engine(request *self, request_why *why)
{
    bool saves = (self->given.set & FIELD_BIT(doc)) != 0;
    bool updates = self->action->op == TW_OP_UPDATE;
    tw_bson_value version = self->given.at[FIELD_version];
    tw_bson_value id = self->given.at[FIELD_id];
    if (id.type == TW_BSON_ARRAY) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s takes one id.", self->action->name);
    }
    tw_str name = request_search_id(self, id);
    tw_buf *scratch = &self->engine->scratch;
    tw_bson plan = {0};
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_open_array(&b, TW_STR("bulk_plan"));
    tw_bson_open_array(&b, TW_STR(""));
    tw_bson_add_str(&b, TW_STR(""),
                    saves     ? TW_STR("save")
                    : updates ? TW_STR("modify")
                              : TW_STR("delete"));
    tw_bson_add_str(&b, TW_STR(""), name);
    if (saves || updates) {
        tw_bson_add_value(&b, TW_STR(""), self->given.at[saves ? FIELD_doc : FIELD_operations]);
    }
    if (version.type != 0) {
        tw_bson_add_value(&b, TW_STR(""), version);
    }
    tw_bson_close(&b);
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    tw_err err = request_keep(self, scratch, &plan);
    if (err == TW_OK) {
        request_search_change(self, plan, changed);
    }
    return err;
}

void request_search_save(request *self)
{
    request_why why = {0};
    tw_err err;
    if (self->rules->search_store) {
        err = change_in_engine(self, &why);
    } else {
        err = take_version(self, &why);
        if (err == TW_OK && (self->given.set & FIELD_BIT(doc)) != 0) {
            err = save_in_log(self, &why);
        } else if (err == TW_OK && self->action->op == TW_OP_UPDATE) {
            request_update(self);
        } else if (err == TW_OK) {
            request_change(self);
        }
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
    }
}

/* ---- wipe ---- */
static void dropped(request *self)
{
    tw_bson_builder b;
    if (request_reply_result_begin(self, &b)) {
        tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
        request_reply_result_end(self, &b);
    }
}

static void drop(request *self)
{
    tw_item_write_op op = request_op(self, &self->given, TW_OP_DROP);
    tw_err err = request_write(self, &op, 1, false, dropped);
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}

static void counted(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_counted) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    self->count = in->body->counted.count;
    if (!tw_bson_value_bool_or(self->given.at[FIELD_dry_run], false)) {
        drop(self);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    (void)request_reply_end(self, &b, true);
}

static void ask_count(request *self)
{
    request_ask(self, TW_MSG_count, &(tw_msg_count){.db = self->db, .coll = self->coll});
}

/* The engine has begun the collection anew; its streams are told by the log. */
static void engine_wiped(request *self, const tw_envelope *in)
{
    int64_t count = tw_bson_get_i64_or(in->body->search_answer.result, TW_STR("count"), 0);
    self->count = count < 0 ? 0 : (uint64_t)count;
    drop(self);
}

static void ask_wipe(request *self)
{
    tw_msg_search_ask body = request_search_ask(self, TW_STR("wipe"), self->asked);
    request_ask_search(self, &body, body.deadline_ms);
}

/* A log collection is dropped, and its index follows; dry_run counts. */
void request_search_wipe(request *self)
{
    bool dry = tw_bson_value_bool_or(self->given.at[FIELD_dry_run], false);
    if (self->rules->search_store && dry) {
        request_search_run(self);
    } else if (self->rules->search_store) {
        self->ask = ask_wipe;
        self->answered = engine_wiped;
        self->ask(self);
    } else {
        self->ask = ask_count;
        self->answered = counted;
        self->ask(self);
    }
}
