/* request_aggregate.c - aggregate: a log_reader runs the pipeline (actors/log_reader_aggregate.c),
 * or MongoDB does (request_aggregate_mongo.c). Here the result's pages are given out, a document a
 * reply, then done with count: the next one is asked for when the asker has taken this one. */
#include "broker/aggregate.h"

#include "gateways/request/request_priv.h"

enum { TRAVEL_MS = 2000 }; /* the reader's own deadline is to be heard first */

uint64_t request_aggregate_time(const request *self)
{
    int64_t number = 0;
    return tw_bson_value_i64(self->given.at[FIELD_max_time_ms], &number) ? (uint64_t)number : 0;
}

static void ask_run(request *self)
{
    tw_bson pipeline = tw_bson_value_doc(self->given.at[FIELD_pipeline]);
    tw_actor *actor = self->engine->options.actor;
    int link = request_log_reader(self);
    if (link < 0) {
        return;
    }
    self->reader = link;
    self->aggregate = 1 + tw_random(actor) % (TW_SEQNO_MAX - 1);
    tw_msg_aggregate_run message = {.id = self->aggregate,
                                    .db = self->db,
                                    .coll = self->coll,
                                    .match = self->query,
                                    .guard = self->grant.filter,
                                    .hidden = self->hidden,
                                    .pipeline = pipeline,
                                    .time_ms = request_aggregate_time(self)};
    request_ask_patiently(self, link, TW_MSG_aggregate_run, &message, TW_AGGREGATE_MS + TRAVEL_MS);
}

/* A reader that went away took the result with it; before its first page another one begins. */
static void ask(request *self)
{
    if (self->aggregate == 0 || (self->retried && self->count == 0)) {
        ask_run(self);
    } else if (self->retried) {
        request_fail(self, TW_E_UNAVAILABLE, "The result was lost with the reader that held it.",
                     NULL, (tw_bson){0});
    } else {
        const tw_msg_aggregate_next message = {.id = self->aggregate};
        request_ask_link(self, self->reader, TW_MSG_aggregate_next, &message);
    }
}

static void on_closed(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)state, (void)context, (void)tag, (void)in;
    (void)(err == TW_OK); /* a reader that does not hear it forgets the result by itself */
}

void request_aggregate_close(request *self)
{
    if (self->aggregate != 0) {
        const tw_msg_aggregate_next message = {.id = self->aggregate, .end = true};
        tw_ask(self->engine->options.actor, self->reader, TW_MSG_aggregate_next, &message,
               TW_ASK_TIMEOUT_MS, on_closed, NULL, 0);
        self->aggregate = 0;
    }
}

static void go_on(request *self);

static void give_out(request *self, const tw_msg_aggregated *page, size_t from, tw_str bytes)
{
    for (size_t i = from; i < page->items.count; i++) {
        self->count++;
        bool on = request_reply_doc(self, page->items.at[i].doc);
        if (!request_item_given(self, on, i + 1, bytes, go_on)) {
            return;
        }
    }
    if (page->more) {
        self->ask(self);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, "done");
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
    (void)request_reply_end(self, &b, true);
}

static void answered(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_aggregated) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_aggregated *page = &in->body->aggregated;
    self->aggregate = page->more ? self->aggregate : 0; /* the reader keeps nothing more of it */
    give_out(self, page, 0, in->bytes);
}

static void go_on(request *self)
{
    tw_body body;
    if (request_page_again(self, &body)) {
        give_out(self, &body.aggregated, self->page_at, tw_buf_str(&self->page));
    }
}

/* The pipeline is read here for its errors, and for the filter of a leading $match, whose ids are
 * coerced as in every query. */
static tw_err check(request *self, request_why *why)
{
    aggregate *compiled = NULL;
    tw_err err =
        aggregate_new(&compiled, tw_bson_value_doc(self->given.at[FIELD_pipeline]), &why->why);
    if (err == TW_OK && aggregate_filter(compiled).len > 0) {
        tw_bson filter = aggregate_filter(compiled);
        tw_bson_value query = {.type = TW_BSON_DOCUMENT, .ptr = filter.ptr, .len = filter.len};
        err = request_coerce_query(self, query, &self->query, why);
    }
    if (err == TW_E_UNSUPPORTED) {
        tw_format(why->hint, sizeof why->hint, "A MongoDB server has the whole pipeline.");
    }
    aggregate_free(&compiled);
    return err;
}

void request_aggregate(request *self)
{
    request_why why = {0};
    if (self->engine->options.mongo) {
        request_aggregate_mongo(self);
        return;
    }
    if ((self->given.set & FIELD_BIT(limit)) != 0) {
        request_fail(self, TW_E_UNSUPPORTED, "aggregate takes a limit on MongoDB alone.",
                     "End the pipeline with a $limit.", (tw_bson){0});
        return;
    }
    tw_err err = check(self, &why);
    err = err == TW_OK ? request_check_asked(self, self->query, &why) : err;
    err = err == TW_OK ? request_name_hidden(self, &self->hidden) : err;
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = answered;
    self->ask(self);
}
