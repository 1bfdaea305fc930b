/* request_reply.c - how replies and errors are built and given out. */
#include "protocol/codec.h"

#include "gateways/request/request_priv.h"

/* What every reply to a request repeats, so that the asker knows it again. Only what is harmless:
 * a reqID that is no scalar, or too long, was refused and is not given back. */
static void add_echo(tw_bson_builder *b, tw_bson asked)
{
    tw_bson_value id = tw_bson_get(asked, TW_STR("reqID"));
    if (id.type != 0 && id.type != TW_BSON_DOCUMENT && id.type != TW_BSON_ARRAY &&
        id.len <= TW_MUX_ID_MAX + 5) {
        tw_bson_add_value(b, TW_STR("reqID"), id);
    }
    tw_str names[] = {TW_STR("collection"), TW_STR("database"), TW_STR("index")};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        tw_str text = tw_bson_get_str(asked, names[i]);
        if (text.ptr != NULL && text.len <= TW_NAME_MAX) {
            tw_bson_add_str(b, names[i], text);
        }
    }
}

void request_error(tw_buf *out, tw_bson asked, tw_err code, tw_str message, tw_str hint,
                   tw_bson extra)
{
    tw_bson_builder b;
    tw_bson_begin(&b, out);
    tw_bson_add_str(&b, TW_STR("type"), TW_STR("error"));
    tw_str action = asked.len == 0 ? (tw_str){NULL, 0} : request_action_name(asked);
    if (action.ptr != NULL && action.len <= TW_MUX_ID_MAX) {
        tw_bson_add_str(&b, TW_STR("action"), action);
    }
    if (asked.len != 0) {
        add_echo(&b, asked);
    }
    tw_bson_add_str(&b, TW_STR("code"), tw_str_of(tw_err_code(code)));
    tw_bson_add_str(&b, TW_STR("message"),
                    message.ptr != NULL ? message : tw_str_of(tw_err_text(code)));
    if (hint.ptr != NULL && hint.len != 0) {
        tw_bson_add_str(&b, TW_STR("hint"), hint);
    }
    tw_bson_add_str(&b, TW_STR("retry"), tw_str_of(tw_err_retry(code)));
    if (extra.len != 0) {
        tw_bson_add_all(&b, extra);
    }
    (void)tw_bson_end(&b);
}

void request_reply_begin(request *self, tw_bson_builder *b, const char *action)
{
    tw_buf_clear(&self->engine->reply);
    tw_bson_begin(b, &self->engine->reply);
    tw_bson_add_str(b, TW_STR("action"), tw_str_of(action));
    if ((self->given.set & FIELD_BIT(req_id)) != 0) {
        tw_bson_add_value(b, TW_STR("reqID"), self->given.at[FIELD_req_id]);
    }
    if (self->action->search != SEARCH_NONE) {
        if ((self->given.set & FIELD_BIT(index)) != 0) {
            tw_bson_add_value(b, TW_STR("index"), self->given.at[FIELD_index]);
        }
    } else if (self->coll.len != 0) {
        tw_bson_add_str(b, TW_STR("collection"), self->coll);
    }
    if ((self->given.set & FIELD_BIT(database)) != 0) {
        tw_bson_add_str(b, TW_STR("database"), self->db);
    }
}

/* Gives out the bytes of engine->reply. */
static bool give(request *self, bool final)
{
    request_engine *engine = self->engine;
    TW_ASSERT(!self->finished && self->holds > 0);
    if (self->forgotten) {
        return true;
    }
    if (final) {
        self->finished = true;
    }
    tw_bson reply = {(const uint8_t *)engine->reply.ptr, engine->reply.len};
    TW_ASSERT(!engine->emitting);
    engine->emitting = true;
    bool on = self->emit(self->context, self->tag, reply, final);
    engine->emitting = false;
    return on;
}

bool request_reply_end(request *self, tw_bson_builder *b, bool final)
{
    (void)tw_bson_end(b);
    tw_err err = self->engine->reply.err;
    if (err != TW_OK) {
        if (!self->finished) {
            request_fail(self, err, "The reply is larger than allowed.", NULL, (tw_bson){0});
        }
        return true;
    }
    return give(self, final);
}

bool request_reply_doc(request *self, tw_bson doc)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    request_add_shown(self, &b, TW_STR("doc"), doc);
    return request_reply_end(self, &b, false);
}

void request_fail(request *self, tw_err code, const char *message, const char *hint, tw_bson extra)
{
    TW_ASSERT(code != TW_OK);
    if (self->finished) {
        return;
    }
    tw_buf *reply = &self->engine->reply;
    self->engine->figures.refused++;
    tw_buf_clear(reply);
    message = message != NULL && *message ? message : self->refusal;
    request_error(reply, self->asked, code, tw_str_of(message), tw_str_of(hint), extra);
    if (reply->err != TW_OK) { /* no memory for the words: the code alone, in what is reserved */
        tw_buf_clear(reply);
        request_error(reply, (tw_bson){0}, code, tw_str_of(NULL), tw_str_of(NULL), (tw_bson){0});
    }
    (void)give(self, true);
}

void request_fail_why(request *self, tw_err code, const request_why *why)
{
    request_fail(self, code, why->why.text, why->hint, (tw_bson){0});
}

void request_fail_result(request *self, const request_result *result, bool with_count)
{
    char message[TW_ERROR_TEXT_MAX + 1];
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    if (result->rule.len != 0) {
        tw_bson_add_str(&b, TW_STR("rule"), result->rule);
    }
    if (result->code == TW_E_CONFLICT && !self->restricted) {
        tw_bson_add_i64(&b, TW_STR("version"), result->version);
    }
    if (with_count) {
        tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->count);
        request_add_since(&b, &self->since);
    }
    if (result->code == TW_E_BUSY || result->code == TW_E_UNAVAILABLE) {
        tw_bson_add_i64(&b, TW_STR("after_ms"), REQUEST_BUSY_MS);
    }
    tw_bson extra = tw_bson_end(&b);
    tw_format(message, sizeof message, "%.*s", (int)result->why.len,
              result->why.len != 0 ? result->why.ptr : "");
    request_fail(self, result->code, message, NULL, scratch->err == TW_OK ? extra : (tw_bson){0});
}

void request_add_since(tw_bson_builder *b, const request_since *since)
{
    tw_bson_add_vector(b, TW_STR("since"), (tw_vector){since->at, since->count});
}

bool request_reply_result_begin(request *self, tw_bson_builder *b)
{
    const request_result *result = &self->results[0];
    if (result->code != TW_OK) {
        request_fail_result(self, result, false);
        return false;
    }
    request_reply_begin(self, b, self->action->name);
    return true;
}

void request_reply_result_end(request *self, tw_bson_builder *b)
{
    request_add_since(b, &self->since);
    (void)request_reply_end(self, b, true);
}

/* Keeps an answer over a pause; false: no memory. */
static bool page_keep(request *self, tw_str bytes)
{
    if (bytes.ptr == self->page.ptr) {
        return true; /* it is kept already, and paused a second time */
    }
    tw_buf_clear(&self->page);
    tw_buf_add_str(&self->page, bytes);
    return self->page.err == TW_OK;
}

bool request_item_given(request *self, bool on, size_t next, tw_str bytes, request_step go_on)
{
    if (self->forgotten || self->finished) {
        return false;
    }
    if (!on && page_keep(self, bytes)) {
        self->page_at = next;
        request_pause(self, go_on);
        return false;
    }
    return true; /* without memory to wait the asker gets the rest of this answer at once */
}

bool request_page_again(request *self, tw_body *out)
{
    tw_msg_id id;
    uint64_t number;
    tw_arena *arena = &self->engine->again;
    tw_arena_reset(arena);
    tw_err err = tw_message_decode(arena, tw_buf_str(&self->page), &id, &number, out);
    if (err != TW_OK) { /* it was decoded once before: only memory can be lacking */
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
    return err == TW_OK;
}

bool request_go_behind(request *self, const tw_msg_records *page)
{
    tw_key key = tw_arena_key(&self->arena, page->after_key);
    if (page->after_key.len > 0 && key.ptr == NULL) {
        request_fail(self, TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
        return false;
    }
    self->after = page->after;
    self->after_key = key;
    return true;
}
