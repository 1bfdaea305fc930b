/* es_proxy.c - the actor that answers searches from an Elasticsearch or OpenSearch cluster.
 * Receives  search_ask, index_ask, index_write, index_list      Sends  their answers
 * Owns      the connections to the cluster (curl_link), what is known of each index
 * Limit     TW_SEARCH_RUNNING_MAX works, then TW_E_BUSY
 * Never     lets a body pass that broker/search_body.c has not rebuilt, waits for the cluster */
#include "actors/search/es_proxy.h"

#include <stdarg.h>
#include <stdio.h>

#include "protocol/codec.h"
#include "protocol/json.h"

#include "actors/search/es_proxy_priv.h"

enum { TICK_MS = 50, SLOW_TICKS = 5, PREPARE_MS = 1000 };

static es_proxy *proxy_of(void *state)
{
    es_proxy *self;
    TW_CAST(self, state, ES_PROXY_MAGIC);
    return self;
}

/* ---- the life of a work ---- */
static void release(es_work **at)
{
    es_work *work = *at;
    *at = NULL;
    tw_arena_fini(&work->arena);
    tw_buf_fini(&work->out);
    tw_buf_fini(&work->built);
    tw_buf_fini(&work->reply);
    tw_free(work);
}

static void end(es_work *work)
{
    es_proxy *self = work->proxy;
    TW_ASSERT(self->running_count > 0);
    *work->link = work->next;
    if (work->next != NULL) {
        work->next->link = work->link;
    }
    self->running_count--;
    release(&work);
}

void es_answer(es_work *work, tw_msg_id id, const void *body)
{
    TW_ASSERT(work->magic == ES_WORK_MAGIC);
    if (!work->own) {
        work->proxy->answered++;
        tw_reply(work->proxy->actor, &work->route, id, body);
    }
    end(work);
}

void es_fail_hint(es_work *work, tw_err err, const char *why, const char *hint)
{
    TW_ASSERT(work->magic == ES_WORK_MAGIC && err != TW_OK);
    bool away = err == TW_E_SEARCH_UNAVAILABLE || err == TW_E_BUSY || err == TW_E_TIMEOUT;
    char text[TW_ERROR_TEXT_MAX + 1];
    tw_format(text, sizeof text, "%s", why);
    tw_msg_error error = {.code = (uint64_t)err,
                          .why = tw_str_of(text),
                          .hint = tw_str_of(hint),
                          .after_ms = away ? 1000 : 0};
    if (!work->own) {
        work->proxy->failed++;
        tw_reply(work->proxy->actor, &work->route, TW_MSG_error, &error);
    }
    end(work);
}

void es_fail(es_work *work, tw_err err, const char *format, ...)
{
    char text[TW_ERROR_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    es_fail_hint(work, err, text, "");
}

const char *es_text(es_work *work, const char *format, ...)
{
    char text[TW_MESSAGE_MAX / 4];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tw_arena_format(&work->arena, "%s", text);
}

/* ---- what the cluster says went wrong ---- */
static const struct told_error {
    int status;       /* 0: any */
    const char *type; /* NULL: any */
    tw_err err;
} told_errors[] = {
    {0, "version_conflict_engine_exception", TW_E_CONFLICT},
    {0, "index_not_found_exception", TW_E_NOT_FOUND},
    {0, "document_missing_exception", TW_E_NOT_FOUND},
    {0, "too_many_buckets_exception", TW_E_TOO_COSTLY},
    {0, "circuit_breaking_exception", TW_E_BUSY},
    {0, "cluster_block_exception", TW_E_BUSY},
    {0, "mapper_parsing_exception", TW_E_BAD_DOCUMENT},
    {0, "document_parsing_exception", TW_E_BAD_DOCUMENT},
    {0, "strict_dynamic_mapping_exception", TW_E_BAD_DOCUMENT},
    {500, "search_phase_execution_exception", TW_E_BAD_QUERY}, /* the query fails on its data */
    {401, NULL, TW_E_SEARCH_UNAVAILABLE},
    {403, NULL, TW_E_SEARCH_UNAVAILABLE},
    {404, NULL, TW_E_NOT_FOUND},
    {409, NULL, TW_E_CONFLICT},
    {413, NULL, TW_E_TOO_BIG},
    {429, NULL, TW_E_BUSY},
};

tw_err es_error_of(int status, tw_bson error, tw_str *why)
{
    tw_str type = tw_bson_get_str(error, TW_STR("type"));
    tw_bson causes = tw_bson_get_doc(error, TW_STR("root_cause"));
    tw_bson first = tw_bson_get_doc(causes, TW_STR("0"));
    tw_str root = tw_bson_get_str(first, TW_STR("type"));
    tw_str deeper = tw_bson_get_str(tw_bson_get_doc(error, TW_STR("caused_by")), TW_STR("reason"));
    *why = tw_bson_get_str(first, TW_STR("reason"));
    *why = why->ptr != NULL && why->len > 0 ? *why : tw_bson_get_str(error, TW_STR("reason"));
    for (size_t i = 0; i < TW_COUNT(told_errors); i++) {
        const struct told_error *row = &told_errors[i];
        bool typed = row->type == NULL || tw_str_equal(type, tw_str_of(row->type)) ||
                     tw_str_equal(root, tw_str_of(row->type));
        if (typed && (row->status == 0 || row->status == status)) {
            if (row->err == TW_E_BAD_DOCUMENT && deeper.ptr != NULL && deeper.len > 0) {
                *why = deeper;
            }
            return row->err;
        }
    }
    return status >= 500 ? TW_E_SEARCH_UNAVAILABLE : TW_E_BAD_QUERY;
}

void es_fail_reply(es_work *work, const es_reply *reply)
{
    tw_str why = {NULL, 0};
    tw_err err = es_error_of(reply->status, tw_bson_get_doc(reply->body, TW_STR("error")), &why);
    if (why.ptr == NULL) { /* an unknown path has the text alone */
        why = tw_bson_get_str(reply->body, TW_STR("error"));
    }
    if (reply->status == 401 || reply->status == 403) {
        es_fail_hint(work, err, "The search cluster refuses the server's credentials.",
                     "Ask the server's operator.");
        return;
    }
    es_fail(work, err, "The engine says (%d): %.*s", reply->status, (int)why.len,
            why.len == 0 ? "" : why.ptr);
}

/* ---- calls ---- */
/* An index that has gone is made again, and the work begun anew, once. */
static bool begins_anew(es_work *work, const es_reply *reply)
{
    tw_str why = {NULL, 0};
    tw_bson error = tw_bson_get_doc(reply->body, TW_STR("error"));
    bool gone =
        reply->status == 404 && work->start != NULL && !work->ensuring && !work->restarted &&
        es_error_of(reply->status, error, &why) == TW_E_NOT_FOUND &&
        tw_str_equal(tw_bson_get_str(error, TW_STR("type")), TW_STR("index_not_found_exception"));
    if (!gone) {
        return false;
    }
    for (size_t i = 0; i < work->indices_count; i++) {
        work->indices[i]->ready = false;
        work->indices[i]->told = false;
    }
    work->restarted = true;
    work->proxy->restarts++;
    es_need_indices(work, work->start);
    return true;
}

static void on_reply(void *context, const curl_reply *in)
{
    es_work *work;
    TW_CAST(work, context, ES_WORK_MAGIC);
    if (in->err != TW_OK && work->lost != NULL) {
        work->lost(work);
        return;
    }
    if (in->err != TW_OK) {
        es_fail(work, in->err, "%s", in->why);
        return;
    }
    if (in->status >= 300 && in->status < 400) { /* it may lead to anybody, with our credentials */
        es_fail(work, TW_E_SEARCH_UNAVAILABLE,
                "The cluster answers with a redirect (%d), which is not followed.", in->status);
        return;
    }
    es_reply reply = {.status = in->status, .elastic = in->server[0] != '\0'};
    tw_str cause = {NULL, 0};
    tw_err err = TW_OK;
    if (in->body.len > 0) {
        err = strstr(in->type, "json") == NULL
                  ? TW_E_BAD_MESSAGE
                  : tw_json_read(&work->arena, in->body, TW_DEPTH_MAX, &reply.body, &cause);
    }
    if (err == TW_E_NO_MEMORY || err == TW_E_TOO_BIG) {
        es_fail(work, TW_E_TOO_BIG, "The engine's reply is larger than allowed.");
    } else if (err != TW_OK && in->status < 400) {
        es_fail(work, TW_E_SEARCH_UNAVAILABLE, "What the engine answered is no JSON (%.60s).",
                in->type[0] == '\0' ? "no type" : in->type);
    } else if (err != TW_OK) {
        es_fail(work,
                in->status >= 500 || in->status == 429 ? TW_E_SEARCH_UNAVAILABLE : TW_E_BAD_QUERY,
                "The engine answered with status %d.", in->status);
    } else if (begins_anew(work, &reply)) {
        return;
    } else if (in->status >= 400 && !work->tolerant) {
        es_fail_reply(work, &reply);
    } else {
        work->answered(work, &reply);
    }
}

void es_call_send(es_work *work, const es_call *call, es_answered answered)
{
    uint64_t now_ms = tw_now_ms(work->proxy->actor);
    const curl_call out = {
        .method = call->method,
        .path = call->path,
        .body = call->body,
        .lines = call->lines,
        .idempotent = call->idempotent,
        .deadline_ms = call->wait_ms != 0 ? now_ms + call->wait_ms : work->deadline_ms,
        .reply_max = call->large ? TW_DOCUMENT_MAX : TW_SEARCH_REPLY_MAX,
    };
    work->answered = answered;
    work->tolerant = call->tolerant;
    if (call->path[0] == '\0' || work->out.err != TW_OK || work->built.err != TW_OK) {
        es_fail(work, TW_E_TOO_BIG, "The request to the engine is larger than allowed.");
        return;
    }
    curl_link_send(work->proxy->link, &out, on_reply, work);
}

/* ---- requests and answers ---- */
void es_begin(es_work *work, tw_bson_builder *b)
{
    tw_buf_clear(&work->built);
    tw_buf_clear(&work->out);
    tw_bson_begin(b, &work->built);
}

tw_str es_json(es_work *work, tw_bson_builder *b)
{
    search_json(&work->out, tw_bson_end(b));
    return tw_buf_str(&work->out);
}

void es_result_begin(es_work *work, tw_bson_builder *b)
{
    tw_buf_clear(&work->reply);
    tw_bson_begin(b, &work->reply);
}

void es_answer_result(es_work *work, tw_bson_builder *b)
{
    tw_msg_search_answer answer = {.as_of = work->as_of, .result = tw_bson_end(b)};
    if (work->reply.err != TW_OK) {
        es_fail(work, work->reply.err, "The answer is larger than allowed.");
        return;
    }
    es_answer(work, TW_MSG_search_answer, &answer);
}

void es_answer_items(es_work *work, const tw_item_search_item *items, size_t count, tw_str cursor,
                     uint64_t counted)
{
    tw_msg_search_answer answer = {
        .cursor = cursor, .as_of = work->as_of, .count = counted, .items = {items, count}};
    es_answer(work, TW_MSG_search_answer, &answer);
}

bool es_is_dry(const es_work *work)
{
    return tw_bson_get_bool_or(work->asked.search_ask.args, TW_STR("dry_run"), false);
}

const char *es_path(es_work *work, const char *behind)
{
    tw_buf text;
    tw_buf_init(&text, TW_MESSAGE_MAX);
    for (size_t i = 0; i < work->indices_count; i++) {
        tw_buf_format(&text, "%s%s", i == 0 ? "/" : ",", work->indices[i]->alias);
    }
    tw_buf_format(&text, "%s", behind);
    const char *path =
        text.err == TW_OK ? tw_arena_format(&work->arena, "%.*s", (int)text.len, text.ptr) : "";
    tw_buf_fini(&text);
    return path;
}

es_index *es_index_of(es_proxy *self, tw_str db, tw_str coll)
{
    for (size_t i = 0; i < self->indices_count; i++) {
        const catalog_collection *rules = self->indices[i].rules;
        if (tw_str_equal(tw_str_of(rules->name), coll) &&
            tw_str_equal(tw_str_of(rules->database), db)) {
            return &self->indices[i];
        }
    }
    return NULL;
}

/* ---- the messages ---- */
static const es_function functions[] = {
    {"search", es_search, true},
    {"stream_search", es_stream, true},
    {"keys", es_stream, true},
    {"facet", es_facet, true},
    {"stats", es_stats, true},
    {"histogram", es_histogram, true},
    {"grouped_search", es_grouped, true},
    {"multiget", es_multiget, false},
    {"bulk", es_bulk, false},
    {"fields", es_fields, false},
    {"commit", es_commit, false},
    {"reindex", es_reindex, false},
    {"wipe", es_wipe, false},
    {"fix_ilm", es_fix_ilm, false},
    {"fix_replicas", es_fix_replicas, false},
    {"fix_shards", es_fix_shards, false},
};

static es_work *make_work(es_proxy *self)
{
    es_work *work = tw_alloc_zero(1, sizeof *work);
    if (work == NULL) {
        return NULL;
    }
    work->magic = ES_WORK_MAGIC;
    work->proxy = self;
    tw_arena_init(&work->arena, ES_WORK_MEMORY_MAX);
    tw_buf_init(&work->out, TW_ACTOR_MESSAGE_MAX * 2);
    tw_buf_init(&work->built, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&work->reply, TW_DOCUMENT_MAX);
    work->next = self->running;
    work->link = &self->running;
    if (work->next != NULL) {
        work->next->link = &work->next;
    }
    self->running = work;
    self->running_count++;
    return work;
}

static es_work *begin_work(es_proxy *self, const tw_envelope *in)
{
    uint64_t number = 0;
    es_work *work = make_work(self);
    if (work == NULL) {
        return NULL;
    }
    work->route = *in->route;
    tw_str bytes = tw_arena_str(&work->arena, in->bytes); /* the message dies with its handler */
    if (bytes.ptr == NULL ||
        tw_message_decode(&work->arena, bytes, &work->kind, &number, &work->asked) != TW_OK) {
        end(work);
        return NULL;
    }
    return work;
}

es_work *es_own_work(es_proxy *self, es_index **indices, size_t count, es_step lost)
{
    es_work *work = make_work(self);
    if (work == NULL) {
        return NULL;
    }
    work->own = true;
    work->lost = lost;
    work->deadline_ms = tw_now_ms(self->actor) + ES_MANAGE_MS;
    work->indices = tw_arena_zero(&work->arena, count, sizeof(es_index *));
    if (work->indices == NULL) {
        end(work);
        return NULL;
    }
    memcpy(work->indices, indices, count * sizeof(es_index *));
    work->indices_count = count;
    return work;
}

void es_wait(es_work *work, uint64_t wait_ms, es_step woken)
{
    work->woken = woken;
    work->wake_ms = tw_now_ms(work->proxy->actor) + wait_ms;
}

static tw_err take_work(es_proxy *self, const tw_envelope *in, uint64_t wait_ms, es_work **out)
{
    if (self->running_count >= TW_SEARCH_RUNNING_MAX) {
        self->refused++;
        return TW_E_BUSY;
    }
    *out = begin_work(self, in);
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    (*out)->deadline_ms = tw_now_ms(self->actor) + wait_ms;
    return TW_OK;
}

static tw_err find_indices(es_work *work, const tw_item_search_target *targets, size_t count)
{
    work->indices = tw_arena_zero(&work->arena, count + 1, sizeof(es_index *));
    if (work->indices == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        es_index *index = es_index_of(work->proxy, targets[i].db, targets[i].coll);
        if (index == NULL) {
            return TW_E_NOT_FOUND;
        }
        work->indices[work->indices_count++] = index;
    }
    return TW_OK;
}

static void when_ready(es_work *work)
{
    if (work->function->searches) {
        es_need_position(work, work->function->start);
    } else {
        work->function->start(work);
    }
}

static tw_err on_search_ask(void *state, const tw_envelope *in)
{
    es_proxy *self = proxy_of(state);
    es_work *work = NULL;
    const tw_msg_search_ask *asked = &in->body->search_ask;
    tw_err err = take_work(self, in, asked->deadline_ms, &work);
    if (err != TW_OK) {
        return err;
    }
    for (size_t i = 0; i < TW_COUNT(functions); i++) {
        if (tw_str_equal(asked->function, tw_str_of(functions[i].name))) {
            work->function = &functions[i];
        }
    }
    err = work->function == NULL
              ? TW_E_UNKNOWN
              : find_indices(work, work->asked.search_ask.targets.at, asked->targets.count);
    if (err != TW_OK || work->indices_count == 0) {
        es_fail(work, err == TW_OK ? TW_E_BAD_MESSAGE : err, "There is no such index or function.");
        return TW_OK;
    }
    if (asked->close) {
        es_close_cursor(work);
        return TW_OK;
    }
    work->start = when_ready;
    es_need_indices(work, when_ready);
    return TW_OK;
}

static tw_err begin_feed(void *state, const tw_envelope *in, tw_str db, tw_str coll, es_step start)
{
    es_proxy *self = proxy_of(state);
    es_work *work = NULL;
    tw_item_search_target target = {.db = db, .coll = coll};
    tw_err err = take_work(self, in, ES_FEED_MS, &work);
    if (err != TW_OK) {
        return err;
    }
    err = find_indices(work, &target, 1);
    if (err != TW_OK) {
        es_fail(work, err, "This collection has no index.");
        return TW_OK;
    }
    work->start = start;
    es_need_indices(work, start);
    return TW_OK;
}

static tw_err on_index_ask(void *state, const tw_envelope *in)
{
    const tw_msg_index_ask *asked = &in->body->index_ask;
    return begin_feed(state, in, asked->db, asked->coll, es_index_ask);
}

static tw_err on_index_write(void *state, const tw_envelope *in)
{
    const tw_msg_index_write *asked = &in->body->index_write;
    return begin_feed(state, in, asked->db, asked->coll, es_index_write);
}

static tw_err on_index_list(void *state, const tw_envelope *in)
{
    const tw_msg_index_list *asked = &in->body->index_list;
    return begin_feed(state, in, asked->db, asked->coll, es_index_list);
}

/* ---- the loop, figures, life ---- */
static void es_proxy_wait(void *state, int timeout_ms)
{
    curl_link_wait(proxy_of(state)->link, timeout_ms);
}

static void prepared(es_work *work)
{
    es_answer(work, TW_MSG_done, &(tw_msg_done){0});
}

/* Declared collections get their index without waiting for a search, one after the other: what
 * is wrong with one is no matter of the others. */
static void prepare(es_proxy *self)
{
    uint64_t now_ms = tw_now_ms(self->actor);
    if (now_ms < self->prepare_ms) {
        return;
    }
    self->prepare_ms = now_ms + PREPARE_MS;
    for (size_t i = 0; i < self->indices_count; i++) {
        es_index *index = &self->indices[i];
        es_work *work = index->ready ? NULL : es_own_work(self, &index, 1, prepared);
        if (work != NULL) {
            es_need_indices(work, prepared);
        }
    }
}

/* Works that wait for a time. One may end another, or begin one: the list is walked anew. */
static void wake(es_proxy *self)
{
    uint64_t now_ms = tw_now_ms(self->actor);
    es_work *work = self->running;
    while (work != NULL) {
        if (work->wake_ms == 0 || work->wake_ms > now_ms) {
            work = work->next;
            continue;
        }
        work->wake_ms = 0;
        work->woken(work);
        work = self->running;
    }
}

static void on_tick(void *state, uint64_t tag)
{
    es_proxy *self = proxy_of(state);
    wake(self);
    if (tag % SLOW_TICKS == 0) {
        prepare(self);
        es_feed_tick(self);
    }
    tw_timer_set(self->actor, tw_now_ms(self->actor) + TICK_MS, on_tick, (tag + 1) % SLOW_TICKS);
}

static void es_proxy_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    const es_proxy *self = proxy_of(state);
    curl_figures link = curl_link_figures(self->link);
    const struct {
        const char *name;
        uint64_t value;
    } told[] = {
        {"search_running", self->running_count},     {"search_answered_total", self->answered},
        {"search_failed_total", self->failed},       {"search_refused_total", self->refused},
        {"search_index_lost_total", self->restarts}, {"search_known", self->flavour != NULL},
        {"cluster_calls_total", link.calls},         {"cluster_retries_total", link.retries},
        {"cluster_failures_total", link.failures},   {"cluster_timeouts_total", link.timeouts},
        {"cluster_rejected_total", link.rejected},   {"cluster_circuit_opened_total", link.opened},
        {"cluster_circuit_open", link.open},         {"cluster_bytes_in_total", link.bytes_in},
    };
    tw_item_gauge *items = tw_arena_zero(arena, TW_COUNT(told), sizeof *items);
    for (size_t i = 0; items != NULL && i < TW_COUNT(told); i++) {
        items[i].name = tw_str_of(told[i].name);
        items[i].value = (int64_t)told[i].value;
    }
    *out = (tw_list_gauge){items, items == NULL ? 0 : TW_COUNT(told)};
}

static void es_proxy_fini(void *state)
{
    es_proxy *self = proxy_of(state);
    curl_link_free(&self->link);
    while (self->running != NULL) {
        es_work *work = self->running;
        self->running = work->next;
        release(&work);
    }
    tw_free(self->indices);
    self->indices = NULL;
}

static tw_err make_indices(es_proxy *self)
{
    const catalog *known = self->options->catalog;
    self->indices = tw_alloc_zero(known->count + 1, sizeof *self->indices);
    if (self->indices == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < known->count; i++) {
        if (known->at[i].searched) {
            es_index *index = &self->indices[self->indices_count++];
            index->rules = &known->at[i];
            tw_format(index->alias, sizeof index->alias, "%s%s", self->options->prefix,
                      known->at[i].search_index);
        }
    }
    return TW_OK;
}

static tw_err es_proxy_init(void *state, tw_actor *actor, const void *given)
{
    es_proxy *self = state;
    const es_proxy_options *options = given;
    const char *why = "";
    *self = (es_proxy){.magic = ES_PROXY_MAGIC, .actor = actor, .options = options};
    const curl_link_options link = {.hosts = options->hosts,
                                    .hosts_count = options->hosts_count,
                                    .user = options->user,
                                    .password = options->password,
                                    .api_key = options->api_key,
                                    .ca_file = options->ca_file,
                                    .connections = options->connections};
    tw_err err = make_indices(self);
    if (err == TW_OK) {
        err = curl_link_new(&self->link, actor, &link, &why);
    }
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "%s", why);
        es_proxy_fini(self);
        return err;
    }
    tw_timer_set(actor, tw_now_ms(actor) + TICK_MS, on_tick, 0);
    return TW_OK;
}

static const tw_handler handlers[] = {
    [TW_MSG_search_ask] = on_search_ask,
    [TW_MSG_index_ask] = on_index_ask,
    [TW_MSG_index_write] = on_index_write,
    [TW_MSG_index_list] = on_index_list,
};

const tw_actor_class es_proxy_class = {
    .name = "es_proxy",
    .state_size = sizeof(es_proxy),
    .init = es_proxy_init,
    .fini = es_proxy_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .wait = es_proxy_wait,
    .gauges = es_proxy_gauges,
};
