/* request_change.c - update and remove: of one record, of a list, of all that match a query.
 *
 * By query the keys are collected first and changed then, each only if it still matches: a change
 * made while reading would be met again further on. What more than REQUEST_MATCH_MAX records match
 * is refused before anything is changed. An id with two readings is looked up first. */
#include "gateways/request/request_priv.h"

enum { CHANGES_AT_ONCE = 1024, FIND_BYTES = 262144 };

static void apply(request *self);

static bool by_query(const request *self)
{
    return (self->given.set & FIELD_BIT(query)) != 0;
}

static void finish(request *self)
{
    bool one = !by_query(self) && self->keys.count == 1;
    if (self->failed.code != TW_OK) {
        request_fail_result(self, &self->failed, !one);
        return;
    }
    if (one && self->results[0].code == TW_E_NOT_FOUND) {
        request_fail(self, TW_E_NOT_FOUND, NULL, NULL, (tw_bson){0});
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    if (one) {
        tw_bson_add_key(&b, TW_STR("key"), self->keys.at[0]);
        tw_bson_add_i64(&b, TW_STR("version"), self->results[0].version);
    }
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    request_add_since(&b, &self->since);
    (void)request_reply_end(self, &b, true);
}

static void written(request *self)
{
    for (size_t i = 0; i < self->results_count; i++) {
        const request_result *result = &self->results[i];
        bool gone =
            result->code == TW_E_NOT_FOUND || (by_query(self) && result->code == TW_E_CONFLICT);
        if (result->code == TW_OK) {
            self->count += result->count;
        } else if (!gone && self->failed.code == TW_OK) {
            self->failed = *result;
        }
    }
    apply(self);
}

/* Changes the next keys; finishes when there are none left, or at the first refusal. */
static void apply(request *self)
{
    request_why why = {0};
    size_t count = self->keys.count - self->keys_at;
    if (count == 0 || self->failed.code != TW_OK) {
        finish(self);
        return;
    }
    count = count < CHANGES_AT_ONCE ? count : CHANGES_AT_ONCE;
    tw_item_write_op *ops = tw_arena_alloc(&self->arena, count * sizeof *ops);
    tw_err err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        tw_key key = self->keys.at[self->keys_at + i];
        ops[i] = request_op(self, &self->given, self->action->op);
        ops[i].key = key;
        ops[i].doc = self->update;
        ops[i].match = self->query;
        if (by_query(self) || self->keys.count > 1) {
            err = request_opid_part(self, ops[i].opid, tw_hash(key.ptr, key.len, 0), &ops[i].opid,
                                    &why);
        }
    }
    self->keys_at += count;
    if (err == TW_OK) {
        err = request_write(self, ops, count, false, written);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
    }
}

/* ---- by query ---- */
static void ask_matching(request *self)
{
    tw_msg_find message = {.db = self->db,
                           .coll = self->coll,
                           .query = self->query,
                           .match = self->grant.filter,
                           .fields = self->told,
                           .limit = TW_FIND_MAX,
                           .after = self->after,
                           .after_key = self->after_key,
                           .bytes_max = FIND_BYTES};
    request_ask(self, TW_MSG_find, &message);
}

static void on_matching(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_records *page = &in->body->records;
    tw_err err = TW_OK;
    for (size_t i = 0; i < page->items.count && err == TW_OK; i++) {
        err = request_keys_add(&self->arena, &self->keys, page->items.at[i].key);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    } else if (self->keys.count > REQUEST_MATCH_MAX) {
        request_fail(self, TW_E_TOO_MANY,
                     "The query matches too many records; nothing was changed.",
                     "Narrow the query and repeat it for each part.", (tw_bson){0});
    } else if (page->more && (page->items.count != 0 || page->after > self->after)) {
        if (request_go_behind(self, page)) {
            self->ask(self);
        }
    } else {
        apply(self);
    }
}

/* ---- ids with two readings ---- */
static void ask_readings(request *self)
{
    tw_item_one_key *keys = tw_arena_alloc(&self->arena, self->ids_count * 2 * sizeof *keys);
    size_t count = 0;
    if (keys == NULL) {
        request_fail(self, TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
        return;
    }
    for (size_t i = 0; i < self->ids_count; i++) {
        if (self->ids[i].also.len != 0) {
            keys[count++] = (tw_item_one_key){self->ids[i].key};
            keys[count++] = (tw_item_one_key){self->ids[i].also};
        }
    }
    tw_msg_get message = {.db = self->db,
                          .coll = self->coll,
                          .fields = self->told,
                          .match = self->grant.filter,
                          .keys = {keys, count}};
    request_ask(self, TW_MSG_get, &message);
}

static void on_readings(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    tw_err err = TW_OK;
    for (size_t i = 0; i < self->ids_count && err == TW_OK; i++) {
        const tw_item_record *record = request_record_of(&in->body->records, &self->ids[i]);
        bool chosen = self->ids[i].also.len != 0 && record != NULL;
        err = request_keys_add(&self->arena, &self->keys, chosen ? record->key : self->ids[i].key);
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
        return;
    }
    apply(self);
}

/* A key stands for itself: a text of 24 hex digits is no ObjectId. */
static tw_err take_key(request *self, request_why *why)
{
    tw_key key;
    tw_err err = tw_key_of_value(&self->arena, self->given.at[FIELD_key], &key);
    if (err == TW_E_BAD_DOCUMENT || err == TW_E_TOO_BIG) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "This cannot be a key.");
    }
    return err == TW_OK ? request_keys_add(&self->arena, &self->keys, key) : err;
}

static tw_err take_ids(request *self, bool *two_readings, request_why *why)
{
    *two_readings = false;
    if ((self->given.set & FIELD_BIT(key)) != 0) {
        return take_key(self, why);
    }
    tw_bson_value ids =
        self->given.at[FIELD_ids].type != 0 ? self->given.at[FIELD_ids] : self->given.at[FIELD_id];
    tw_err err = request_ids_read(&self->arena, ids, &self->ids, &self->ids_count, why);
    for (size_t i = 0; i < self->ids_count && err == TW_OK; i++) {
        *two_readings = *two_readings || self->ids[i].also.len != 0;
    }
    for (size_t i = 0; i < self->ids_count && err == TW_OK && !*two_readings; i++) {
        err = request_keys_add(&self->arena, &self->keys, self->ids[i].key);
    }
    return err;
}

void request_change(request *self)
{
    request_why why = {0};
    bool two_readings = false;
    tw_err err = request_told_one(self, tw_str_of(self->rules->key), &self->told);
    if (err == TW_OK && by_query(self)) {
        err = request_coerce_query(self, self->given.at[FIELD_query], &self->query, &why);
        /* how many match tells of records, so they must be there to be read */
        err = err == TW_OK ? request_allow_too(self, self->db, self->coll, RIGHTS_READ, &why) : err;
        err = err == TW_OK ? request_check_asked(self, self->query, &why) : err;
    } else if (err == TW_OK) {
        err = take_ids(self, &two_readings, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    if (!by_query(self) && !two_readings) {
        apply(self);
        return;
    }
    self->ask = two_readings ? ask_readings : ask_matching;
    self->answered = two_readings ? on_readings : on_matching;
    self->ask(self);
}
