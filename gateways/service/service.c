/* service.c - the service gateway: other programs ask over nng, in msgpack maps.
 * Receives  requests of the service socket, log_batch of the store
 * Sends     write to the store, get, find, count and log_read to log_readers, dispatch to the
 *           subscription_manager
 * Answers   once a request: {"ok":true,...} or {"ok":false,"code":...,"message":...}
 * Limit     running_max requests, then busy; TW_SERVICE_MESSAGE_MAX bytes, then the pipe is closed
 * Never     blocks; asserts on what a peer sent */
#include "gateways/service/service.h"

#include <poll.h>

#include "protocol/codec.h"

#include "actors/runtime/log.h"

#include "gateways/service/service_priv.h"
#include "gateways/service/service_socket.h"

/* ---- slots ---- */
static uint64_t slot_take(service *self, const service_route *route)
{
    if (self->free_slot == 0) {
        return 0;
    }
    uint32_t index = self->free_slot - 1;
    service_slot *slot = &self->slots[index];
    self->free_slot = slot->next_free;
    self->turn++;
    *slot = (service_slot){.tag = self->turn << 20 | index, .route = *route};
    return slot->tag;
}

service_slot *service_slot_of(service *self, uint64_t tag)
{
    size_t index = tag & 0xfffff;
    TW_ASSERT(index < self->slots_count);
    TW_ASSERT(tag != 0);
    return self->slots[index].tag == tag ? &self->slots[index] : NULL;
}

static void docs_free(service *self, service_slot *slot)
{
    if (slot->docs != NULL) {
        TW_ASSERT(self->collected_bytes >= slot->docs->counted);
        self->collected_bytes -= slot->docs->counted;
        tw_buf_fini(&slot->docs->buf);
        tw_free(slot->docs);
        slot->docs = NULL;
    }
}

static void slot_free(service *self, service_slot *slot)
{
    docs_free(self, slot);
    slot->tag = 0;
    slot->next_free = self->free_slot;
    self->free_slot = (uint32_t)(slot - self->slots) + 1;
}

int service_next_reader(service *self)
{
    return self->readers[self->reader_next++ % self->options->readers_count];
}

bool service_has_followers(const service *self)
{
    return service_socket_followers(self->socket) != 0;
}

tw_err service_publish(service *self, tw_str topic, tw_str body)
{
    return service_socket_publish(self->socket, topic, body);
}

/* ---- answers ---- */
void service_answer(service *self, uint64_t tag, tw_bson answer)
{
    service_slot *slot = service_slot_of(self, tag);
    if (slot == NULL) {
        return;
    }
    tw_buf_clear(&self->packed);
    tw_msgpack_from_bson(&self->packed, answer);
    if (self->packed.err != TW_OK) {
        service_answer_error(self, tag, (tw_bson){0}, self->packed.err,
                             "The answer is too large: ask for less at once.");
        return;
    }
    if (service_socket_reply(self->socket, &slot->route, tw_buf_str(&self->packed)) != TW_OK) {
        self->refused++; /* the asker is gone or does not read */
    }
    slot_free(self, slot);
}

/* {"ok":false, and what an error of the engine says, without its type}. */
static void answer_refusal(service *self, uint64_t tag, tw_bson error)
{
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(&self->answer);
    tw_bson_begin(&b, &self->answer);
    tw_bson_add_bool(&b, TW_STR("ok"), false);
    tw_bson_iter_init(&iter, error);
    while (tw_bson_iter_next(&iter)) {
        if (!tw_str_equal(iter.name, TW_STR("type"))) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    tw_bson answer = tw_bson_end(&b);
    self->refused++;
    if (self->answer.err == TW_OK) {
        service_answer(self, tag, answer);
    } else {
        service_slot *slot = service_slot_of(self, tag);
        if (slot != NULL) { /* no memory for a word; the asker's timeout tells it */
            slot_free(self, slot);
        }
    }
}

void service_answer_error(service *self, uint64_t tag, tw_bson asked, tw_err code,
                          const char *message)
{
    tw_buf error;
    tw_buf_init(&error, TW_MESSAGE_MAX);
    request_error(&error, asked, code, tw_str_of(message), (tw_str){NULL, 0}, (tw_bson){0});
    tw_bson view = {(const uint8_t *)error.ptr, error.err == TW_OK ? error.len : 0};
    answer_refusal(self, tag, view);
    tw_buf_fini(&error);
}

static bool is_sync(tw_bson reply)
{
    return tw_str_equal(tw_bson_get_str(reply, TW_STR("action")), TW_STR("sync"));
}

/* What a sync says of a record, without what every reply repeats. */
static void add_verdict(tw_bson_builder *b, tw_str name, tw_bson reply)
{
    tw_bson_iter iter;
    tw_bson_open_doc(b, name);
    for (tw_bson_iter_init(&iter, reply); tw_bson_iter_next(&iter);) {
        bool repeated = tw_str_equal(iter.name, TW_STR("action")) ||
                        tw_str_equal(iter.name, TW_STR("reqID")) ||
                        tw_str_equal(iter.name, TW_STR("database"));
        if (!repeated) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
    tw_bson_close(b);
}

/* One of many: its document, or what else it is about. */
static bool docs_add(service *self, service_slot *slot, tw_bson reply)
{
    tw_bson_value one = tw_bson_get(reply, TW_STR("doc"));
    one = one.type != 0 ? one : tw_bson_get(reply, TW_STR("key"));
    if (slot->docs == NULL) {
        slot->docs = tw_alloc_zero(1, sizeof *slot->docs);
        if (slot->docs == NULL) {
            return false;
        }
        tw_buf_init(&slot->docs->buf, TW_ACTOR_MESSAGE_MAX);
        tw_bson_begin(&slot->docs->builder, &slot->docs->buf);
    }
    service_docs *docs = slot->docs;
    char index[24];
    size_t len = tw_format(index, sizeof index, "%u", docs->builder.index[0]++);
    if (is_sync(reply)) {
        add_verdict(&docs->builder, (tw_str){index, len}, reply);
    } else if (one.type != 0) {
        tw_bson_add_value(&docs->builder, (tw_str){index, len}, one);
    } else {
        tw_bson_add_doc(&docs->builder, (tw_str){index, len}, reply);
    }
    self->collected_bytes += docs->buf.len - docs->counted;
    docs->counted = docs->buf.len;
    return docs->buf.err == TW_OK && self->collected_bytes <= SERVICE_COLLECTED_MAX;
}

static bool is_echo(tw_str name)
{
    return tw_str_equal(name, TW_STR("action")) || tw_str_equal(name, TW_STR("collection")) ||
           tw_str_equal(name, TW_STR("database")) || tw_str_equal(name, TW_STR("index"));
}

/* The last reply: its fields, and the documents that came before it. */
static void answer_final(service *self, uint64_t tag, service_slot *slot, tw_bson reply)
{
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(&self->answer);
    tw_bson_begin(&b, &self->answer);
    tw_bson_add_bool(&b, TW_STR("ok"), true);
    if (tw_str_equal(tw_bson_get_str(reply, TW_STR("action")), TW_STR("done"))) {
        if (slot->docs != NULL) {
            tw_bson_add_array(&b, TW_STR("docs"), tw_bson_end(&slot->docs->builder));
        } else {
            tw_bson_open_array(&b, TW_STR("docs"));
            tw_bson_close(&b);
        }
    }
    tw_bson_iter_init(&iter, reply);
    while (tw_bson_iter_next(&iter)) {
        if (!is_echo(iter.name)) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    tw_bson answer = tw_bson_end(&b);
    if (self->answer.err != TW_OK) {
        service_answer_error(self, tag, (tw_bson){0}, self->answer.err,
                             "The answer is too large: ask for less at once.");
        return;
    }
    service_answer(self, tag, answer);
}

/* A sync has told as much as an answer holds: it is asked again, with what is held then. */
static void answer_more(service *self, uint64_t tag, service_slot *slot, tw_bson reply)
{
    tw_bson_builder b;
    tw_buf_clear(&self->answer);
    tw_bson_begin(&b, &self->answer);
    tw_bson_add_bool(&b, TW_STR("ok"), true);
    tw_bson_add_array(&b, TW_STR("docs"), tw_bson_end(&slot->docs->builder));
    tw_bson_value req_id = tw_bson_get(reply, TW_STR("reqID"));
    if (req_id.type != 0) {
        tw_bson_add_value(&b, TW_STR("reqID"), req_id);
    }
    tw_bson_add_bool(&b, TW_STR("more"), true);
    tw_bson answer = tw_bson_end(&b);
    request_forget(self->engine, tag);
    if (self->answer.err == TW_OK) {
        service_answer(self, tag, answer);
    } else {
        service_answer_error(self, tag, (tw_bson){0}, self->answer.err, NULL);
    }
}

static bool on_reply(void *context, uint64_t tag, tw_bson reply, bool final)
{
    service *self;
    TW_CAST(self, context, SERVICE_MAGIC);
    service_slot *slot = service_slot_of(self, tag);
    if (slot == NULL) {
        return true;
    }
    if (tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"))) {
        answer_refusal(self, tag, reply);
    } else if (final) {
        answer_final(self, tag, slot, reply);
    } else if (tw_bson_get(reply, TW_STR("progress")).type == 0 && !docs_add(self, slot, reply)) {
        request_forget(self->engine, tag);
        service_answer_error(self, tag, (tw_bson){0}, TW_E_TOO_BIG,
                             "The answer is too large: ask for less at once.");
    } else if (is_sync(reply) && slot->docs->buf.len >= SERVICE_SYNC_BYTES) {
        answer_more(self, tag, slot, reply);
    }
    return true;
}

/* ---- requests ---- */
/* Answers without a slot: there is none left, or it is not worth one. */
static void refuse_at_once(service *self, const service_route *route, tw_err code)
{
    tw_bson_builder b;
    tw_buf_clear(&self->answer);
    tw_buf_clear(&self->packed);
    tw_bson_begin(&b, &self->answer);
    tw_bson_add_bool(&b, TW_STR("ok"), false);
    tw_bson_add_str(&b, TW_STR("code"), tw_str_of(tw_err_code(code)));
    tw_bson_add_str(&b, TW_STR("message"), tw_str_of(tw_err_text(code)));
    tw_bson_add_str(&b, TW_STR("retry"), tw_str_of(tw_err_retry(code)));
    tw_msgpack_from_bson(&self->packed, tw_bson_end(&b));
    self->refused++;
    if (self->answer.err == TW_OK && self->packed.err == TW_OK) {
        tw_err err = service_socket_reply(self->socket, route, tw_buf_str(&self->packed));
        (void)(err == TW_OK); /* who cannot even be refused has left */
    }
}

static void on_request(service *self, const service_route *route, tw_str body)
{
    tw_bson asked;
    self->requests++;
    if (self->draining) {
        refuse_at_once(self, route, TW_E_DRAINING);
        return;
    }
    tw_arena_reset(&self->arena);
    tw_err err = tw_msgpack_to_bson(&self->arena, body, TW_DEPTH_CLIENT_MAX, &asked);
    if (err != TW_OK) {
        self->bad++;
        refuse_at_once(self, route, err);
        return;
    }
    uint64_t tag = slot_take(self, route);
    if (tag == 0) {
        refuse_at_once(self, route, TW_E_BUSY);
        return;
    }
    rights *whose = NULL;
    broker_why why = {0};
    err = service_identity_of(self, &asked, &whose, &why);
    if (err != TW_OK) {
        service_answer_error(self, tag, asked, err,
                             why.text[0] != '\0' ? why.text : tw_err_text(err));
    } else if (tw_str_equal(tw_bson_get_str(asked, TW_STR("op")), TW_STR("replay"))) {
        service_replay_start(self, tag, asked, whose);
    } else {
        request_run(self->engine, whose, asked, on_reply, self, tag);
    }
}

/* Waits for the actor's own descriptor and for requests; the latter are taken here. */
static void service_wait(void *arg, int timeout_ms)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    struct pollfd fds[] = {{.fd = tw_actor_fd(self->actor), .events = POLLIN},
                           {.fd = service_socket_fd(self->socket), .events = POLLIN}};
    int ready = poll(fds, TW_COUNT(fds), timeout_ms);
    if (ready <= 0 || (fds[1].revents & POLLIN) == 0) {
        return;
    }
    for (int i = 0; i < SERVICE_TURN_MAX; i++) {
        service_route route;
        tw_str body;
        if (service_socket_receive(self->socket, &route, &body) != TW_OK) {
            break;
        }
        on_request(self, &route, body);
    }
}

static tw_err service_on_turn(void *arg)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    TW_ASSERT(self->engine != NULL);
    request_flush(self->engine);
    bool is_idle = request_engine_figures(self->engine).running == 0 && self->replays == NULL;
    if (self->draining && !self->drained && is_idle) {
        self->drained = true;
        tw_actor_drained(self->actor);
    }
    return TW_OK;
}

static void service_on_drain(void *arg)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    self->draining = true;
}

static void service_gauges(void *arg, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    request_figures figures = request_engine_figures(self->engine);
    const tw_item_gauge gauges[] = {
        {TW_STR("service_requests_total"), (int64_t)self->requests},
        {TW_STR("service_running"), (int64_t)figures.running},
        {TW_STR("service_bad_total"), (int64_t)self->bad},
        {TW_STR("service_refused_total"), (int64_t)self->refused},
        {TW_STR("service_peers"), (int64_t)service_socket_peers(self->socket)},
        {TW_STR("service_peers_refused_total"), (int64_t)service_socket_refused(self->socket)},
        {TW_STR("service_relistened_total"), (int64_t)service_socket_relistened(self->socket)},
        {TW_STR("service_followers"), (int64_t)service_socket_followers(self->socket)},
        {TW_STR("service_feed_messages_total"), (int64_t)self->feed.batches},
        {TW_STR("service_feed_dropped_total"), (int64_t)self->feed.dropped},
        {TW_STR("service_feed_repairs_total"), (int64_t)self->feed.repairs},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

/* ---- life ---- */
static void on_guard(void *arg, uint64_t tag)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    TW_ASSERT(self->socket != NULL);
    service_socket_guard(self->socket);
    tw_timer_set(self->actor, tw_now_ms(self->actor) + SERVICE_GUARD_MS, on_guard, tag);
}

static tw_err slots_init(service *self, size_t count)
{
    self->slots = tw_alloc_zero(count, sizeof *self->slots);
    if (self->slots == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->slots_count = count;
    for (size_t i = count; i > 0; i--) {
        slot_free(self, &self->slots[i - 1]);
    }
    return TW_OK;
}

static void service_fini(void *arg)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    service_socket_close(&self->socket);
    request_engine_free(&self->engine);
    for (size_t i = 0; i < self->slots_count; i++) {
        docs_free(self, &self->slots[i]);
    }
    tw_free(self->slots);
    self->slots = NULL;
    service_replays_free(self);
    service_identity_fini(self);
    service_feed_fini(self);
    tw_arena_fini(&self->arena);
    tw_buf_fini(&self->answer);
    tw_buf_fini(&self->packed);
}

static void on_wake(void *arg, uint64_t tag)
{
    (void)tag;
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    request_wake(self->engine);
}

static tw_err service_init(void *arg, tw_actor *actor, const void *given)
{
    service *self = arg;
    const service_options *options = given;
    TW_ASSERT(options->catalog != NULL);
    TW_ASSERT(options->readers_count > 0 && options->readers_count < TW_LINKS_MAX);
    size_t running_max = options->running_max != 0 ? options->running_max : SERVICE_RUNNING_MAX;
    *self = (service){.magic = SERVICE_MAGIC, .actor = actor, .options = options};
    tw_arena_init(&self->arena, (size_t)TW_SERVICE_MESSAGE_MAX * 8);
    tw_buf_init(&self->answer, TW_ACTOR_MESSAGE_MAX + TW_MESSAGE_MAX);
    tw_buf_init(&self->packed, TW_ACTOR_MESSAGE_MAX);
    self->store = tw_link(actor, "store");
    int manager = tw_link(actor, "subscription_manager");
    for (size_t i = 0; i < options->readers_count; i++) {
        char name[32];
        tw_format(name, sizeof name, "log_reader.%zu", i);
        self->readers[i] = tw_link(actor, name);
    }
    int records[TW_LINKS_MAX];
    for (size_t i = 0; i < options->mongo_readers_count; i++) {
        char name[32];
        tw_format(name, sizeof name, "mongo_reader.%zu", i);
        records[i] = tw_link(actor, name);
    }
    bool mongo = options->mongo_readers_count > 0;
    request_options engine = {
        .actor = actor,
        .catalog = options->catalog,
        .store = mongo ? tw_link(actor, "mongo_writer") : self->store,
        .log_store = self->store,
        .manager = manager,
        .readers = mongo ? records : self->readers,
        .readers_count = mongo ? options->mongo_readers_count : options->readers_count,
        .log_readers = self->readers,
        .log_readers_count = options->readers_count,
        .search = options->search == NULL ? -1 : tw_link(actor, options->search),
        .search_ms = options->search_ms,
        .wake = on_wake,
        .processor = -1, /* services are told documents as they are */
        .running_max = running_max,
        .mongo = mongo,
        .trusted = true};
    tw_err err = request_engine_new(&self->engine, &engine);
    err = err != TW_OK ? err : slots_init(self, running_max);
    err = err != TW_OK ? err : service_feed_init(self);
    err = err != TW_OK ? err : service_identity_init(self);
    if (err == TW_OK) {
        char why[512];
        err = service_socket_open(&self->socket, options->url, why, sizeof why);
        if (err != TW_OK) {
            tw_actor_fail(actor, err, "%s", why);
        }
    }
    if (err != TW_OK) {
        service_fini(self);
        return err;
    }
    tw_follow(actor, "store");
    tw_timer_set(actor, tw_now_ms(actor) + SERVICE_GUARD_MS, on_guard, 0);
    tw_log(TW_LOG_INFO, tw_actor_name(actor), "services are answered at %s", options->url);
    return TW_OK;
}

static const tw_handler handlers[] = {
    [TW_MSG_log_batch] = service_on_log_batch,
};

const tw_actor_class service_class = {
    .name = "service",
    .state_size = sizeof(service),
    .init = service_init,
    .fini = service_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_gap = service_on_gap,
    .on_turn = service_on_turn,
    .wait = service_wait,
    .on_drain = service_on_drain,
    .gauges = service_gauges,
};
