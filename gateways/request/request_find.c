/* request_find.c - find and find_one: each document in its own reply, then done with count, and
 * more where the result was cut. Without sort it is read in pages that wait for the asker; with
 * sort it is read at once, as a second sorting of what changed meanwhile would repeat and omit. */
#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    bool sorted = self->sort.len != 0;
    tw_msg_find message = {
        .db = self->db,
        .coll = self->coll,
        .query = self->query,
        .match = self->grant.filter,
        .fields = self->told,
        .sort = self->sort,
        .skip = self->skip,
        .limit = self->limit - self->count,
        .after = self->after,
        .after_key = self->after_key,
        .bytes_max = sorted ? TW_DOCUMENT_MAX : TW_PAGE_BYTES,
    };
    request_ask(self, TW_MSG_find, &message);
}

static void finish(request *self, bool more)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, "done");
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    if (more) {
        tw_bson_add_bool(&b, TW_STR("more"), true);
    }
    (void)request_reply_end(self, &b, true);
}

static void go_on(request *self);

static void give_out(request *self, const tw_msg_records *page, size_t from, tw_str bytes)
{
    for (size_t i = from; i < page->items.count && self->count < self->limit; i++) {
        self->count++;
        bool on = request_reply_doc(self, page->items.at[i].doc);
        if (!request_item_given(self, on, i + 1, bytes, go_on)) {
            return;
        }
    }
    bool stuck = page->more && page->items.count == 0 && page->after <= self->after;
    if (!request_go_behind(self, page)) {
        return;
    }
    self->skip = 0; /* the first page has left them out */
    bool at_once = self->sort.len != 0 || self->action->start == request_aggregate;
    if (!page->more || self->count >= self->limit || at_once || stuck) {
        finish(self, page->more);
    } else {
        self->ask(self);
    }
}

void request_find_answered(request *self, const tw_envelope *in)
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

void request_find(request *self)
{
    request_why why = {0};
    const request_given *given = &self->given;
    tw_err err = request_coerce_query(self, given->at[FIELD_query], &self->query, &why);
    if (err == TW_OK) {
        err = request_coerce_told(self, given->at[FIELD_told], &self->told, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    int64_t number = 0;
    self->sort = tw_bson_value_doc(given->at[FIELD_sort]);
    if (tw_bson_count(self->sort) == 0) {
        self->sort = (tw_bson){0};
    }
    err = request_check_asked(self, self->query, &why);
    err = err == TW_OK ? request_check_asked(self, self->sort, &why) : err;
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    self->skip = tw_bson_value_i64(given->at[FIELD_skip], &number) ? (uint64_t)number : 0;
    self->limit =
        tw_bson_value_i64(given->at[FIELD_limit], &number) ? (uint64_t)number : TW_FIND_MAX;
    if (tw_str_equal(tw_str_of(self->action->name), TW_STR("find_one"))) {
        self->limit = 1;
    }
    self->ask = ask;
    self->answered = request_find_answered;
    self->ask(self);
}
