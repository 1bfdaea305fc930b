/* request_batch.c - batch: many writes in one request, each like a single one; `atomic` makes them
 * one transaction. The way for services: an operation costs a look at its fields and no reply of
 * its own. A bare text of 24 hex digits is an ObjectId here; {"op":"put"} of a document looks
 * nothing up. */
#include "gateways/request/request_priv.h"

static const request_action batch_ops[] = {
    {.name = "put",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELD_BIT(if_version) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_PUT},
    {.name = "insert",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_INSERT},
    {.name = "create",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_INSERT},
    {.name = "update",
     .verb = RIGHTS_UPDATE,
     .allowed = FIELD_BIT(id) | FIELDS_CHANGE | FIELD_BIT(if_version) | FIELDS_WRITE,
     .required = FIELD_BIT(id),
     .one_of = {FIELDS_CHANGE},
     .right = RIGHT_WRITE,
     .op = TW_OP_UPDATE},
    {.name = "remove",
     .verb = RIGHTS_REMOVE,
     .allowed = FIELD_BIT(id) | FIELD_BIT(if_version) | FIELDS_WRITE,
     .required = FIELD_BIT(id),
     .right = RIGHT_REMOVE,
     .op = TW_OP_REMOVE},
};

/* Where the operation before belonged: most of a batch go to one collection. */
typedef struct batch_place {
    tw_str db, coll;
    const catalog_collection *rules;
    request_right right;
} batch_place;

static const request_action *op_row(tw_bson asked)
{
    tw_str name = request_action_name(asked);
    for (size_t i = 0; name.ptr != NULL && i < TW_COUNT(batch_ops); i++) {
        if (tw_str_equal(name, tw_str_of(batch_ops[i].name))) {
            return &batch_ops[i];
        }
    }
    return NULL;
}

/* An operation without collection or database goes to the batch's own. */
static tw_err place(request *self, const request_action *row, request_given *given,
                    batch_place *last, request_why *why)
{
    static const request_field shared[] = {FIELD_collection, FIELD_database};
    for (size_t i = 0; i < TW_COUNT(shared); i++) {
        uint64_t bit = 1ULL << shared[i];
        if ((given->set & bit) == 0 && (self->given.set & bit) != 0) {
            given->at[shared[i]] = self->given.at[shared[i]];
            given->set |= bit;
        }
    }
    tw_str coll = tw_bson_value_str(given->at[FIELD_collection]);
    tw_str db = tw_bson_value_str(given->at[FIELD_database]);
    db = db.ptr != NULL ? db : self->db;
    if (last->rules != NULL && last->right == row->right && tw_str_equal(coll, last->coll) &&
        tw_str_equal(db, last->db)) {
        return TW_OK;
    }
    last->right = row->right;
    return request_place(self->engine, given, row, &last->db, &last->coll, &last->rules, why);
}

static tw_err one_op(request *self, tw_bson_value value, batch_place *last, tw_item_write_op *out,
                     request_why *why)
{
    tw_bson asked = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    const request_action *row = asked.len == 0 ? NULL : op_row(asked);
    if (row == NULL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"op\" is to be put, insert, update or remove.");
    }
    request_given given;
    tw_err err = request_fields_read(row, asked, &given, why);
    if (err == TW_OK) {
        err = place(self, row, &given, last, why);
    }
    if (err != TW_OK) {
        return err;
    }
    *out = request_op(self, &given, row->op);
    out->db = last->db;
    out->coll = last->coll;
    out->silent = out->silent || !tw_bson_value_bool_or(self->given.at[FIELD_dispatch], true);
    if ((row->required & FIELD_BIT(doc)) != 0) {
        out->doc = tw_bson_value_doc(given.at[FIELD_doc]);
        return TW_OK;
    }
    request_id *ids;
    size_t count;
    err = request_ids_read(&self->arena, given.at[FIELD_id], &ids, &count, why);
    if (err == TW_OK && count != 1) {
        err = broker_refuse(&why->why, TW_E_BAD_MESSAGE, "An operation takes one id.");
    }
    if (err == TW_OK && row->op == TW_OP_UPDATE) {
        err = request_update_of(self, &given, &out->doc, why);
    }
    if (err == TW_OK) {
        out->key = ids[0].key;
    }
    return err;
}

static void add_result(tw_bson_builder *b, const request_result *result, bool restricted)
{
    tw_bson_open_doc(b, TW_STR(""));
    if (result->code != TW_OK) {
        tw_bson_add_str(b, TW_STR("code"), tw_str_of(tw_err_code(result->code)));
        tw_bson_add_str(b, TW_STR("message"),
                        result->why.len != 0 ? result->why : tw_str_of(tw_err_text(result->code)));
        if (result->rule.len != 0) {
            tw_bson_add_str(b, TW_STR("rule"), result->rule);
        }
    }
    if (result->key.len != 0) {
        tw_bson_add_key(b, TW_STR("key"), result->key);
    }
    if (result->code == TW_OK || (result->code == TW_E_CONFLICT && !restricted)) {
        tw_bson_add_i64(b, TW_STR("version"), result->version);
    }
    tw_bson_close(b);
}

/* All or nothing: it was nothing. Told is the operation that was refused itself, with its number;
 * the others of its transaction carry its code and the store's words for that. */
static void fail_whole(request *self)
{
    static const char others[] = "Another operation of the transaction was refused.";
    size_t cause = self->results_count;
    for (size_t i = 0; i < self->results_count; i++) {
        bool is_other = tw_str_equal(self->results[i].why, tw_str_of(others));
        if (self->results[i].code != TW_OK && (cause == self->results_count || !is_other)) {
            cause = i;
            if (!is_other) {
                break;
            }
        }
    }
    TW_ASSERT(cause < self->results_count);
    request_result told = self->results[cause];
    tw_str why = told.why.len != 0 ? told.why : tw_str_of(tw_err_text(told.code));
    told.why =
        tw_str_of(tw_arena_format(&self->arena, "ops[%zu]: %.*s", cause, (int)why.len, why.ptr));
    request_fail_result(self, &told, false);
}

static void written(request *self)
{
    size_t failed = 0;
    for (size_t i = 0; i < self->results_count; i++) {
        failed += self->results[i].code != TW_OK ? 1 : 0;
    }
    bool atomic = tw_bson_value_bool_or(self->given.at[FIELD_atomic], false);
    if (atomic && failed != 0) {
        fail_whole(self);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)(self->results_count - failed));
    if (failed != 0) {
        tw_bson_add_i64(&b, TW_STR("failed"), (int64_t)failed);
    }
    request_add_since(&b, &self->since);
    tw_bson_open_array(&b, TW_STR("results"));
    for (size_t i = 0; i < self->results_count; i++) {
        add_result(&b, &self->results[i], self->restricted);
    }
    tw_bson_close(&b);
    (void)request_reply_end(self, &b, true);
}

static void fail_at(request *self, tw_err err, size_t index, const request_why *why)
{
    char message[TW_ERROR_TEXT_MAX];
    tw_format(message, sizeof message, "ops[%zu]: %s", index,
              why->why.text[0] != '\0' ? why->why.text : tw_err_text(err));
    request_fail(self, err, message, why->hint, (tw_bson){0});
}

void request_run_batch(request *self)
{
    request_why why = {0};
    batch_place last = {0};
    tw_bson list = tw_bson_value_doc(self->given.at[FIELD_ops]);
    size_t count = tw_bson_count(list);
    size_t at = 0;
    tw_bson_iter iter;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, count * sizeof *ops);
    tw_err err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    tw_str opid = tw_bson_value_str(self->given.at[FIELD_opid]);
    self->coll = tw_bson_value_str(self->given.at[FIELD_collection]);
    self->db = tw_str_of(self->engine->options.catalog->default_database);
    tw_bson_iter_init(&iter, list);
    for (; err == TW_OK && at < count && tw_bson_iter_next(&iter); at++) {
        err = one_op(self, iter.value, &last, &ops[at], &why);
        if (err == TW_OK && opid.len != 0 && ops[at].opid.len == 0) {
            err = request_opid_part(self, opid, at, &ops[at].opid, &why);
        }
        if (err != TW_OK) { /* nothing of a batch with a wrong operation is done */
            fail_at(self, err, at, &why);
            return;
        }
    }
    if (err == TW_OK) {
        bool atomic = tw_bson_value_bool_or(self->given.at[FIELD_atomic], false);
        err = request_write(self, ops, at, atomic, written);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}
