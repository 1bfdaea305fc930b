/* es_proxy_feed.c - the indexer's messages: an index is kept equal to a collection of the log.
 *
 * A document carries the position of its version as the engine's external version, so an older
 * change has no effect, and any stretch of the log may be written again. How far an index has come
 * is a document of the index itself (id "~~state", out of every search): whatever becomes of the
 * index - wiped, copied, brought back from a snapshot - it says what is in it. It is written some
 * time after the changes; what it does not know yet is written again.
 *
 * Written is not yet visible: a search sees what was refreshed. The proxy refreshes what it wrote
 * each ES_REFRESH_MS, or at once where a search waits for it, and so knows what a search
 * reflects. */
#include "protocol/json.h"

#include "actors/search/es_proxy_priv.h"

#define STATE_ID "~~state"

enum { WAIT_MS = 50, SAVE_MS = 1000 };

/* ---- positions ---- */
static void raise_all(position_set *set, tw_vector at)
{
    for (size_t i = 0; i < at.count; i++) {
        (void)(position_set_raise(set, at.at[i]) == TW_OK); /* a 65th origin: as_of says less */
    }
}

static bool covers(const position_set *set, tw_vector wanted)
{
    for (size_t i = 0; i < wanted.count; i++) {
        if (!position_vector_covers(position_set_view(set), wanted.at[i])) {
            return false;
        }
    }
    return true;
}

/* ---- index_ask ---- */
static void answer_state(es_work *work, uint64_t documents)
{
    const es_index *index = work->indices[0];
    es_answer(work, TW_MSG_index_state,
              &(tw_msg_index_state){.srv = index->srv, .n = index->n, .documents = documents});
}

static void on_counted(es_work *work, const es_reply *reply)
{
    answer_state(work, (uint64_t)tw_bson_get_i64_or(reply->body, TW_STR("count"), 0));
}

void es_add_documents(tw_bson_builder *b, bool stray)
{
    static const char *const names[] = {"_tw.state", "_tw.id"};
    tw_bson_open_doc(b, TW_STR("query"));
    tw_bson_open_doc(b, TW_STR("bool"));
    tw_bson_open_array(b, TW_STR("must_not"));
    for (size_t i = 0; i < (stray ? 2U : 1U); i++) {
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_open_doc(b, TW_STR("exists"));
        tw_bson_add_str(b, TW_STR("field"), tw_str_of(names[i]));
        tw_bson_close(b);
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson_close(b);
}

static void on_fresh(es_work *work, const es_reply *reply)
{
    (void)reply;
    tw_bson_builder b;
    es_begin(work, &b);
    es_add_documents(&b, false);
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_count"),
                          .body = es_json(work, &b),
                          .idempotent = true};
    es_call_send(work, &call, on_counted);
}

static void tell_state(es_work *work)
{
    if (!work->asked.index_ask.count) {
        answer_state(work, 0);
        return;
    }
    const es_call call = {.method = "POST", .path = es_path(work, "/_refresh"), .idempotent = true};
    es_call_send(work, &call, on_fresh);
}

static void on_state(es_work *work, const es_reply *reply)
{
    es_index *index = work->indices[0];
    tw_bson source = tw_bson_get_doc(reply->body, TW_STR("_source"));
    tw_bson told = tw_bson_get_doc(source, TW_STR("_tw"));
    if (reply->status >= 400 && reply->status != 404) {
        es_fail_reply(work, reply);
        return;
    }
    tw_vector at = {NULL, 0};
    const char *why;
    index->srv = (uint64_t)tw_bson_get_i64_or(told, TW_STR("srv"), 0);
    index->n = (uint64_t)tw_bson_get_i64_or(told, TW_STR("n"), 0);
    index->written = index->visible = (position_set){.count = 0};
    if (position_vector_parse(&work->arena, tw_bson_get(told, TW_STR("at")), &at, &why) == TW_OK) {
        raise_all(&index->written, at);
    }
    index->told = true;
    index->unsaved = false;
    tell_state(work);
}

void es_index_ask(es_work *work)
{
    if (work->indices[0]->told) {
        tell_state(work);
        return;
    }
    const es_call call = {.method = "GET",
                          .path = es_path(work, "/_doc/" STATE_ID "?realtime=true"),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_state);
}

/* ---- index_write ---- */
typedef struct feed {
    tw_item_index_refusal *refused;
    size_t refused_count;
    uint64_t count;
} feed;

static void write_done(es_work *work)
{
    const feed *self = work->state;
    const tw_msg_index_write *asked = &work->asked.index_write;
    es_index *index = work->indices[0];
    if (asked->n > 0) {
        index->srv = asked->srv;
        index->n = asked->n;
        index->unsaved = true;
        raise_all(&index->written, asked->at);
    }
    tw_msg_index_written done = {.count = self->count,
                                 .refused = {self->refused, self->refused_count}};
    es_answer(work, TW_MSG_index_written, &done);
}

/* One item of the answer; false: it is to be sent again, with all others. */
static bool take_item(es_work *work, const tw_item_index_op *op, tw_bson told)
{
    feed *self = work->state;
    int status = (int)tw_bson_get_i64_or(told, TW_STR("status"), 500);
    if (status < 300) {
        self->count++;
        return true;
    }
    tw_str type = tw_bson_get_str(tw_bson_get_doc(told, TW_STR("error")), TW_STR("type"));
    if (tw_str_equal(type, TW_STR("index_not_found_exception"))) {
        work->indices[0]->ready = work->indices[0]->told = false; /* it has gone: made anew */
        return false;
    }
    if (status == 409 || status == 404) {
        return true; /* what is there is newer; or there was nothing to delete */
    }
    tw_str why = {NULL, 0};
    tw_err err = es_error_of(status, tw_bson_get_doc(told, TW_STR("error")), &why);
    if (err == TW_E_BUSY || err == TW_E_SEARCH_UNAVAILABLE) {
        return false;
    }
    size_t len = why.len < TW_ERROR_TEXT_MAX ? why.len : TW_ERROR_TEXT_MAX;
    self->refused[self->refused_count++] =
        (tw_item_index_refusal){op->id, tw_arena_str(&work->arena, (tw_str){why.ptr, len})};
    return true;
}

static void on_written(es_work *work, const es_reply *reply)
{
    const tw_msg_index_write *asked = &work->asked.index_write;
    size_t at = 0;
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, tw_bson_get_doc(reply->body, TW_STR("items")));
    for (; at < asked->ops.count && tw_bson_iter_next(&iter); at++) {
        tw_bson_iter inner; /* {"index": {...}} */
        tw_bson_iter_init(&inner, tw_bson_value_doc(iter.value));
        bool taken = tw_bson_iter_next(&inner) &&
                     take_item(work, &asked->ops.at[at], tw_bson_value_doc(inner.value));
        if (!taken) {
            es_fail(work, TW_E_BUSY, "The engine has no room for more changes at the moment.");
            return;
        }
    }
    if (at < asked->ops.count) {
        es_fail(work, TW_E_SEARCH_UNAVAILABLE, "The engine answered for fewer changes than sent.");
        return;
    }
    write_done(work);
}

static void add_id(es_work *work, tw_str id)
{
    tw_json_write_str(&work->out, id);
}

static void send_ops(es_work *work)
{
    const tw_msg_index_write *asked = &work->asked.index_write;
    if (asked->ops.count == 0) {
        write_done(work);
        return;
    }
    tw_buf_clear(&work->out);
    tw_buf_clear(&work->built);
    for (size_t i = 0; i < asked->ops.count; i++) {
        const tw_item_index_op *op = &asked->ops.at[i];
        bool puts = op->op == TW_OP_PUT;
        tw_buf_format(&work->out, "{\"%s\":{\"_id\":", puts ? "index" : "delete");
        add_id(work, op->id);
        if (op->seqno > 0) {
            tw_buf_format(&work->out, ",\"version\":%llu,\"version_type\":\"external_gte\"",
                          (unsigned long long)op->seqno);
        }
        tw_buf_add_str(&work->out, TW_STR("}}\n"));
        if (puts) {
            search_doc_write(&work->out, op->doc, op->id, op->version);
            tw_buf_add_byte(&work->out, '\n');
        }
    }
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_bulk?require_alias=true"),
                          .body = tw_buf_str(&work->out),
                          .lines = true,
                          .idempotent = true, /* by the positions */
                          .large = true};
    es_call_send(work, &call, on_written);
}

static void on_begun(es_work *work, const es_reply *reply)
{
    (void)reply;
    send_ops(work);
}

static void add_state(es_work *work, tw_bson_builder *b, const es_index *index)
{
    es_begin(work, b);
    tw_bson_open_doc(b, TW_STR("_tw"));
    tw_bson_add_str(b, TW_STR("state"), TW_STR("indexed"));
    tw_bson_add_i64(b, TW_STR("srv"), (int64_t)index->srv);
    tw_bson_add_i64(b, TW_STR("n"), (int64_t)index->n);
    tw_bson_add_vector(b, TW_STR("at"), position_set_view(&index->written));
    tw_bson_close(b);
}

/* An empty index says whose it is before it holds a document: none is ever of an unknown log. */
static void begin_filling(es_work *work)
{
    es_index *index = work->indices[0];
    tw_bson_builder b;
    index->srv = work->asked.index_write.srv;
    index->n = 0;
    index->unsaved = false;
    index->written = index->visible = (position_set){.count = 0};
    add_state(work, &b, index);
    const es_call call = {.method = "PUT",
                          .path = es_path(work, "/_doc/" STATE_ID),
                          .body = es_json(work, &b),
                          .idempotent = true};
    es_call_send(work, &call, on_begun);
}

void es_index_write(es_work *work)
{
    const tw_msg_index_write *asked = &work->asked.index_write;
    feed *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    if (self != NULL) {
        self->refused = tw_arena_zero(&work->arena, asked->ops.count + 1, sizeof *self->refused);
    }
    if (self == NULL || self->refused == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for these changes.");
        return;
    }
    work->state = self;
    if (!work->indices[0]->told) { /* made anew: what was in it is no longer */
        es_fail(work, TW_E_GAP, "It is not known what is in the index; index_ask tells.");
    } else if (work->indices[0]->busy) {
        es_fail(work, TW_E_BUSY, "The index is being copied; writes wait.");
    } else if (asked->empty) {
        es_empty(work, begin_filling);
    } else {
        send_ops(work);
    }
}

/* ---- index_list ---- */
typedef struct listing {
    tw_item_index_entry *at;
    size_t count;
    bool more;
} listing;

static void answer_list(es_work *work)
{
    const listing *self = work->state;
    es_answer(work, TW_MSG_index_listed,
              &(tw_msg_index_listed){.more = self->more, .entries = {self->at, self->count}});
}

static void take_entries(es_work *work, const es_reply *reply)
{
    listing *self = work->state;
    tw_bson hits = tw_bson_get_doc(tw_bson_get_doc(reply->body, TW_STR("hits")), TW_STR("hits"));
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, hits);
         self->count < TW_INDEX_OPS_MAX && tw_bson_iter_next(&iter);) {
        tw_bson hit = tw_bson_value_doc(iter.value);
        int64_t version = tw_bson_get_i64_or(hit, TW_STR("_version"), 0);
        self->at[self->count++] =
            (tw_item_index_entry){.id = tw_bson_get_str(hit, TW_STR("_id")),
                                  .seqno = version < 0 ? 0 : (uint64_t)version};
    }
}

static void on_entries(es_work *work, const es_reply *reply)
{
    listing *self = work->state;
    size_t before = self->count;
    take_entries(work, reply);
    self->more = self->count - before == TW_INDEX_OPS_MAX / 2;
    answer_list(work);
}

static void ask_entries(es_work *work)
{
    tw_str after = work->asked.index_list.after;
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_i64(&b, TW_STR("size"), TW_INDEX_OPS_MAX / 2); /* the rest is for strays */
    tw_bson_add_bool(&b, TW_STR("_source"), false);
    tw_bson_add_bool(&b, TW_STR("version"), true);
    tw_bson_open_array(&b, TW_STR("sort"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_add_str(&b, TW_STR("_tw.id"), TW_STR("asc"));
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (after.len > 0) {
        tw_bson_open_array(&b, TW_STR("search_after"));
        tw_bson_add_str(&b, TW_STR(""), after);
        tw_bson_close(&b);
    }
    tw_bson_open_doc(&b, TW_STR("query"));
    tw_bson_open_doc(&b, TW_STR("exists"));
    tw_bson_add_str(&b, TW_STR("field"), TW_STR("_tw.id"));
    tw_bson_close(&b);
    tw_bson_close(&b);
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_search?allow_partial_search_results=false"),
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .large = true};
    es_call_send(work, &call, on_entries);
}

static void on_strays(es_work *work, const es_reply *reply)
{
    take_entries(work, reply);
    listing *self = work->state;
    for (size_t i = 0; i < self->count; i++) {
        self->at[i].id = tw_arena_str(&work->arena, self->at[i].id);
        self->at[i].seqno = 0; /* nobody knows what they are of */
    }
    ask_entries(work);
}

/* Documents that came into the index by another way: they have no id of ours to be sorted by. */
static void ask_strays(es_work *work, const es_reply *reply)
{
    (void)reply;
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_i64(&b, TW_STR("size"), TW_INDEX_OPS_MAX / 2);
    tw_bson_add_bool(&b, TW_STR("_source"), false);
    es_add_documents(&b, true);
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_search?allow_partial_search_results=false"),
                          .body = es_json(work, &b),
                          .idempotent = true};
    es_call_send(work, &call, on_strays);
}

void es_index_list(es_work *work)
{
    listing *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    if (self != NULL) {
        self->at = tw_arena_zero(&work->arena, TW_INDEX_OPS_MAX, sizeof *self->at);
    }
    if (self == NULL || self->at == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this page.");
        return;
    }
    work->state = self;
    if (work->asked.index_list.after.len > 0) {
        ask_entries(work);
        return;
    }
    const es_call call = {.method = "POST", .path = es_path(work, "/_refresh"), .idempotent = true};
    es_call_send(work, &call, ask_strays);
}

/* ---- what a search reflects ---- */
static void set_as_of(es_work *work)
{
    position_set least = {.count = 0};
    bool first = true;
    for (size_t i = 0; i < work->indices_count; i++) {
        const es_index *index = work->indices[i];
        if (index->rules->search_store) {
            continue;
        }
        if (first) {
            least = index->visible;
            first = false;
            continue;
        }
        for (size_t k = 0; k < least.count;
             k++) { /* an origin that one does not know stands at 0 */
            uint64_t other =
                position_vector_get(position_set_view(&index->visible), least.at[k].srv);
            least.at[k].seqno = other < least.at[k].seqno ? other : least.at[k].seqno;
        }
    }
    work->as_of = tw_arena_vector(&work->arena, position_set_view(&least));
    work->as_of.count = work->as_of.at == NULL ? 0 : work->as_of.count;
}

static void look_at_position(es_work *work);

static void on_visible(es_work *work, const es_reply *reply)
{
    (void)reply;
    es_index *index = work->indices[work->index_at];
    index->visible = work->sent;
    look_at_position(work);
}

static void refresh_now(es_work *work)
{
    es_index *index = work->indices[work->index_at];
    work->sent = index->written;
    const es_call call = {
        .method = "POST", .path = es_text(work, "/%s/_refresh", index->alias), .idempotent = true};
    es_call_send(work, &call, on_visible);
}

static void look_at_position(es_work *work)
{
    tw_vector wanted = work->asked.search_ask.min_since;
    for (work->index_at = 0; work->index_at < work->indices_count; work->index_at++) {
        es_index *index = work->indices[work->index_at];
        if (index->rules->search_store || covers(&index->visible, wanted)) {
            continue;
        }
        if (covers(&index->written, wanted)) {
            refresh_now(work);
            return;
        }
        if (tw_now_ms(work->proxy->actor) + WAIT_MS >= work->deadline_ms) {
            es_fail_hint(work, TW_E_TIMEOUT, "The index has not reached min_since yet.",
                         "Ask again, or with a longer deadline_ms.");
            return;
        }
        es_wait(work, WAIT_MS, look_at_position);
        return;
    }
    set_as_of(work);
    work->after_position(work);
}

static void on_seen(es_work *work, const es_reply *reply)
{
    (void)reply;
    set_as_of(work);
    work->after_position(work);
}

void es_need_position(es_work *work, es_step ready)
{
    bool engine_only = true;
    work->after_position = ready;
    for (size_t i = 0; i < work->indices_count; i++) {
        engine_only = engine_only && work->indices[i]->rules->search_store;
    }
    if (work->asked.search_ask.min_since.count == 0) {
        set_as_of(work);
        ready(work);
    } else if (engine_only) { /* its writes are in it: they only have to be seen */
        const es_call call = {
            .method = "POST", .path = es_path(work, "/_refresh"), .idempotent = true};
        es_call_send(work, &call, on_seen);
    } else {
        look_at_position(work);
    }
}

/* ---- in the background ---- */
static void on_refreshed(es_work *work, const es_reply *reply)
{
    es_index *index = work->indices[0];
    index->refreshing = false;
    if (reply != NULL && reply->status < 400) {
        index->visible = index->sent;
    }
    es_answer(work, TW_MSG_done, &(tw_msg_done){0});
}

static void refresh_lost(es_work *work)
{
    on_refreshed(work, NULL);
}

static void refresh(es_proxy *self, es_index *index)
{
    es_work *work = es_own_work(self, &index, 1, refresh_lost);
    if (work == NULL) {
        return;
    }
    index->refreshing = true;
    index->sent = index->written;
    const es_call call = {.method = "POST",
                          .path = es_text(work, "/%s/_refresh", index->alias),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_refreshed);
}

static void on_saved(es_work *work, const es_reply *reply)
{
    es_index *index = work->indices[0];
    index->saving = false;
    index->unsaved = index->unsaved || reply == NULL || reply->status >= 400;
    es_answer(work, TW_MSG_done, &(tw_msg_done){0});
}

static void save_lost(es_work *work)
{
    on_saved(work, NULL);
}

static void save(es_proxy *self, es_index *index)
{
    es_work *work = es_own_work(self, &index, 1, save_lost);
    tw_bson_builder b;
    if (work == NULL) {
        return;
    }
    index->saving = true;
    index->unsaved = false;
    index->saved_ms = tw_now_ms(self->actor);
    add_state(work, &b, index);
    const es_call call = {
        .method = "PUT",
        .path = es_text(work, "/%s/_doc/" STATE_ID "?require_alias=true", index->alias),
        .body = es_json(work, &b),
        .idempotent = true,
        .tolerant = true};
    es_call_send(work, &call, on_saved);
}

static bool is_seen(const es_index *index)
{
    return covers(&index->visible, position_set_view(&index->written));
}

void es_feed_tick(es_proxy *self)
{
    uint64_t now_ms = tw_now_ms(self->actor);
    for (size_t i = 0; i < self->indices_count; i++) {
        es_index *index = &self->indices[i];
        if (!index->told || !index->ready || index->busy) {
            continue;
        }
        if (!index->refreshing && !is_seen(index)) {
            refresh(self, index);
        }
        if (index->unsaved && !index->saving && now_ms - index->saved_ms >= SAVE_MS) {
            save(self, index);
        }
    }
}
