/* request_detail.c - detail and get_field: one record by its id, whole or one value of it;
 * get_field also of the first record that matches a query. */
#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    const request_id *id = &self->ids[0];
    tw_item_one_key keys[2] = {{id->key}, {id->also}};
    tw_msg_get message = {.db = self->db,
                          .coll = self->coll,
                          .fields = self->told,
                          .match = self->grant.filter,
                          .keys = {keys, id->also.len != 0 ? 2 : 1}};
    request_ask(self, TW_MSG_get, &message);
}

static void ask_query(request *self)
{
    tw_msg_find message = {.db = self->db,
                           .coll = self->coll,
                           .query = self->query,
                           .match = self->grant.filter,
                           .fields = self->told,
                           .limit = 1,
                           .after = self->after,
                           .bytes_max = TW_PAGE_BYTES};
    request_ask(self, TW_MSG_find, &message);
}

static void answered(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_records *page = &in->body->records;
    bool by_id = self->ids_count != 0;
    if (!by_id && page->items.count == 0 && page->more && page->after > self->after) {
        self->after = page->after; /* a reader looks at so many records at a time */
        self->ask(self);
        return;
    }
    const tw_item_record *first = page->items.count == 0 ? NULL : &page->items.at[0];
    const tw_item_record *record = by_id ? request_record_of(page, &self->ids[0]) : first;
    if (record == NULL) {
        request_fail(self, TW_E_NOT_FOUND, NULL, NULL, (tw_bson){0});
        return;
    }
    tw_bson_builder b;
    tw_bson doc = request_visible(self, record->doc);
    request_reply_begin(self, &b, self->action->name);
    if ((self->given.set & FIELD_BIT(field)) != 0) {
        tw_str field = tw_bson_value_str(self->given.at[FIELD_field]);
        tw_bson_value value = tw_bson_get_path(doc, field);
        if (value.type == 0) {
            tw_bson_add_null(&b, TW_STR("value"));
        } else {
            tw_bson_add_value(&b, TW_STR("value"), value);
        }
    } else {
        tw_bson_add_doc(&b, TW_STR("doc"), doc);
    }
    if (record->version > 0) { /* a document of MongoDB may have none */
        tw_bson_add_i64(&b, TW_STR("version"), record->version);
    }
    (void)request_reply_end(self, &b, true);
}

void request_detail(request *self)
{
    request_why why = {0};
    bool by_query = (self->given.set & FIELD_BIT(query)) != 0;
    tw_err err = by_query
                     ? request_coerce_query(self, self->given.at[FIELD_query], &self->query, &why)
                     : request_ids_read(&self->arena, self->given.at[FIELD_id], &self->ids,
                                        &self->ids_count, &why);
    if (err == TW_OK && by_query) {
        err = request_check_asked(self, self->query, &why);
    }
    if (err == TW_OK && !by_query && self->ids_count != 1) {
        err = broker_refuse(&why.why, TW_E_BAD_MESSAGE, "%s takes one id.", self->action->name);
    }
    if (err == TW_OK && (self->given.set & FIELD_BIT(field)) != 0) {
        err = request_told_one(self, tw_bson_value_str(self->given.at[FIELD_field]), &self->told);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = by_query ? ask_query : ask;
    self->answered = answered;
    self->ask(self);
}
