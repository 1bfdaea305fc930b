/* request_ask.c - questions of a request to readers, to the search engine and to other actors; an
 * answer goes on with it, an error ends it. */
#include "gateways/request/request_priv.h"

/* ---- asking readers ---- */
/* The next in turn whose link is up; where none is, the ask itself says so. */
static int next_of(request_engine *engine, const int *links, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        at = engine->reader_next++ % count;
        if (tw_link_up(engine->options.actor, links[at])) {
            break;
        }
    }
    return links[at];
}

static void fail_of_reader(request *self, tw_err err, const tw_envelope *in)
{
    char message[TW_ERROR_TEXT_MAX + 1] = "";
    char hint[TW_ERROR_TEXT_MAX + 1] = "";
    tw_bson extra = {0};
    bool may_pass = err == TW_E_BUSY || err == TW_E_UNAVAILABLE || err == TW_E_TIMEOUT;
    uint64_t after_ms = may_pass ? REQUEST_BUSY_MS : 0;
    if (in != NULL && in->id == TW_MSG_error) {
        const tw_msg_error *error = &in->body->error;
        tw_format(message, sizeof message, "%.*s", (int)error->why.len,
                  error->why.len != 0 ? error->why.ptr : "");
        tw_format(hint, sizeof hint, "%.*s", (int)error->hint.len,
                  error->hint.len != 0 ? error->hint.ptr : "");
        after_ms = error->after_ms != 0 ? error->after_ms : after_ms;
    }
    if (after_ms != 0) {
        tw_buf *scratch = &self->engine->scratch;
        tw_bson_builder b;
        tw_buf_clear(scratch);
        tw_bson_begin(&b, scratch);
        tw_bson_add_i64(&b, TW_STR("after_ms"), (int64_t)after_ms);
        extra = tw_bson_end(&b);
        extra = scratch->err == TW_OK ? extra : (tw_bson){0};
    }
    request_fail(self, err, message, hint, extra);
}

/* The request that an answer is for; request_leave ends what it does with it. */
static request *enter_answered(void *context)
{
    request *self;
    TW_CAST(self, context, REQUEST_MAGIC);
    TW_ASSERT(self->asks > 0);
    request_enter(self);
    self->asks--;
    return self;
}

static void on_reader_answer(void *state, void *context, uint64_t tag, tw_err err,
                             const tw_envelope *in)
{
    (void)state;
    (void)tag;
    request *self = enter_answered(context);
    if (self->forgotten) {
        /* nobody waits for it */
    } else if (err == TW_E_UNAVAILABLE && !self->retried &&
               (in == NULL || !self->engine->options.mongo)) { /* MongoDB is away for all readers */
        self->retried = true;
        self->ask(self);
    } else if (err != TW_OK) {
        fail_of_reader(self, err, in);
    } else {
        self->retried = false;
        self->answered(self, in);
    }
    request_leave(self);
}

void request_ask_patiently(request *self, int link, tw_msg_id id, const void *body,
                           uint32_t timeout_ms)
{
    self->asks++;
    tw_ask(self->engine->options.actor, link, id, body, timeout_ms, on_reader_answer, self, 0);
}

void request_ask_link(request *self, int link, tw_msg_id id, const void *body)
{
    request_ask_patiently(self, link, id, body, TW_ASK_TIMEOUT_MS);
}

static int one_of(request *self, const int *links, size_t count)
{
    if (count == 0) {
        request_fail(self, TW_E_UNAVAILABLE, "There is no reader of the log.", NULL, (tw_bson){0});
        return -1;
    }
    return next_of(self->engine, links, count);
}

int request_log_reader(request *self)
{
    return one_of(self, self->engine->log_readers, self->engine->options.log_readers_count);
}

void request_ask(request *self, tw_msg_id id, const void *body)
{
    int link = one_of(self, self->engine->readers, self->engine->options.readers_count);
    if (link >= 0) {
        request_ask_link(self, link, id, body);
    }
}

void request_ask_log(request *self, tw_msg_id id, const void *body)
{
    int link = request_log_reader(self);
    if (link >= 0) {
        request_ask_link(self, link, id, body);
    }
}

/* ---- asking the search engine ---- */
static void on_search_answer(void *state, void *context, uint64_t tag, tw_err err,
                             const tw_envelope *in)
{
    (void)state;
    (void)tag;
    request *self = enter_answered(context);
    bool away = err == TW_E_UNAVAILABLE || (err == TW_E_TIMEOUT && in == NULL);
    if (self->forgotten) {
        /* nobody waits for it */
    } else if (err != TW_OK) {
        fail_of_reader(self, away ? TW_E_SEARCH_UNAVAILABLE : err, in);
    } else if (in->id != TW_MSG_search_answer) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
    } else {
        self->answered(self, in);
    }
    request_leave(self);
}

void request_ask_search(request *self, const tw_msg_search_ask *body, uint64_t timeout_ms)
{
    enum { TRAVEL_MS = 500 }; /* the engine's own deadline is to be heard first */
    request_engine *engine = self->engine;
    if (engine->options.search < 0) {
        request_fail(self, TW_E_UNSUPPORTED, "No search engine is connected to this server.",
                     "Use find, find_one and count, or start the server with --search URL.",
                     (tw_bson){0});
        return;
    }
    self->asks++;
    tw_ask(engine->options.actor, engine->options.search, TW_MSG_search_ask, body,
           (uint32_t)timeout_ms + TRAVEL_MS, on_search_answer, self, 0);
}
