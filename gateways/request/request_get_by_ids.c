/* request_get_by_ids.c - getByIds: each document found in its own reply, then done, which names the
 * ids that nothing has. Documents are asked for in chunks, so that a slow asker pauses the
 * reading. */
#include "gateways/request/request_priv.h"

/* Asks for the next ids that are neither found nor missing. */
static void ask(request *self)
{
    tw_item_one_key keys[2 * REQUEST_CHUNK];
    size_t count = request_chunk_keys(self, keys);
    tw_msg_get message = {.db = self->db,
                          .coll = self->coll,
                          .fields = self->told,
                          .match = self->grant.filter,
                          .keys = {keys, count}};
    request_ask(self, TW_MSG_get, &message);
}

static void finish(request *self)
{
    tw_bson_builder b;
    if (self->count == 0) {
        request_fail(self, TW_E_NOT_FOUND, "None of these ids is there.", NULL, (tw_bson){0});
        return;
    }
    request_reply_begin(self, &b, "done");
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    request_add_missing(self, &b);
    (void)request_reply_end(self, &b, true);
}

static void next_chunk(request *self)
{
    if (request_next_chunk(self)) {
        self->ask(self);
    } else {
        finish(self);
    }
}

static void go_on(request *self);

/* Gives out the documents of an answer from the chunk's id number `from` on. */
static void give_out(request *self, const tw_msg_records *records, size_t from, tw_str bytes)
{
    for (size_t i = from; i < self->chunk_count; i++) {
        request_id *id = &self->ids[self->chunk[i]];
        const tw_item_record *record = request_record_of(records, id);
        if (record == NULL) {
            id->missing = !records->more; /* cut short: asked for again */
            continue;
        }
        id->found = true;
        self->count++;
        bool on = request_reply_doc(self, record->doc);
        if (!request_item_given(self, on, i + 1, bytes, go_on)) {
            return;
        }
    }
    if (records->more && records->items.count == 0) {
        request_fail(self, TW_E_TOO_BIG, "A document is too large to be read.", NULL, (tw_bson){0});
        return;
    }
    next_chunk(self);
}

static void answered(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    give_out(self, &in->body->records, 0, in->bytes);
}

static void go_on(request *self)
{
    tw_body body;
    if (request_page_again(self, &body)) {
        give_out(self, &body.records, self->page_at, tw_buf_str(&self->page));
    }
}

void request_get_by_ids(request *self)
{
    request_why why = {0};
    tw_bson_value ids =
        self->given.at[FIELD_ids].type != 0 ? self->given.at[FIELD_ids] : self->given.at[FIELD_id];
    tw_err err = request_ids_read(&self->arena, ids, &self->ids, &self->ids_count, &why);
    if (err == TW_OK) {
        err = request_coerce_told(self, self->given.at[FIELD_told], &self->told, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = answered;
    next_chunk(self);
}
