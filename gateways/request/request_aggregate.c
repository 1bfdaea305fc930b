/* request_aggregate.c - aggregate: documents are found page by page and sent through the pipeline
 * (broker/aggregate.h); the result comes a document a reply, then done with count. */
#include "broker/aggregate.h"

#include "gateways/request/request_priv.h"

enum { AGGREGATE_PAGE = 262144 }; /* bytes of one find */

static void ask(request *self)
{
    tw_msg_find message = {.db = self->db,
                           .coll = self->coll,
                           .query = self->query,
                           .limit = TW_FIND_MAX,
                           .after = self->after,
                           .bytes_max = AGGREGATE_PAGE};
    request_ask(self, TW_MSG_find, &message);
}

static void give_out(request *self)
{
    while (self->page_at < aggregate_count(self->aggregate)) {
        bool on = request_reply_doc(self, aggregate_at(self->aggregate, self->page_at++));
        if (self->forgotten || self->finished) {
            return;
        }
        if (!on) {
            request_pause(self, give_out);
            return;
        }
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, "done");
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->page_at);
    (void)request_reply_end(self, &b, true);
}

static tw_err take_page(request *self, const tw_msg_records *page, bool *enough, request_why *why)
{
    tw_err err = TW_OK;
    for (size_t i = 0; i < page->items.count && err == TW_OK && !*enough; i++) {
        if (self->count++ == TW_AGGREGATE_SCAN_MAX) {
            tw_format(why->hint, sizeof why->hint, "Begin with a narrower $match.");
            return broker_refuse(&why->why, TW_E_TOO_COSTLY, "over %d documents to look at",
                                 TW_AGGREGATE_SCAN_MAX);
        }
        err = aggregate_add(self->aggregate, page->items.at[i].doc, enough, &why->why);
    }
    return err;
}

static void answered(request *self, const tw_envelope *in)
{
    request_why why = {0};
    bool enough = false;
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_records *page = &in->body->records;
    tw_err err = take_page(self, page, &enough, &why);
    bool more = page->more && (page->items.count != 0 || page->after > self->after);
    if (err == TW_OK && more && !enough) {
        self->after = page->after;
        self->ask(self);
        return;
    }
    if (err == TW_OK) {
        err = aggregate_end(self->aggregate, &why.why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    give_out(self);
}

void request_aggregate(request *self)
{
    request_why why = {0};
    tw_bson pipeline = tw_bson_value_doc(self->given.at[FIELD_pipeline]);
    tw_err err = aggregate_new(&self->aggregate, pipeline, &why.why);
    if (err == TW_OK && aggregate_filter(self->aggregate).len > 0) {
        tw_bson filter = aggregate_filter(self->aggregate);
        tw_bson_value query = {.type = TW_BSON_DOCUMENT, .ptr = filter.ptr, .len = filter.len};
        err = request_coerce_query(self, query, &self->query, &why);
    }
    if (err != TW_OK) {
        if (err == TW_E_UNSUPPORTED) {
            tw_format(why.hint, sizeof why.hint, "A MongoDB server has the whole pipeline.");
        }
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = answered;
    self->ask(self);
}
