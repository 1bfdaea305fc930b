/* gateway.c - the actor around the edge: links, listeners, loop, figures.
 * Receives  topic_batch, topic_dispatch  Sends  topic_open, topics_keep, page_read, log_state_ask,
 * Owns      every client's connection           and what requests need
 * Limit     TW_CONNECTIONS_MAX           Never  blocks; its wait is libwebsockets' loop */
#include "gateways/web/gateway.h"

#include <sys/resource.h>

#include "actors/runtime/log.h"

#include "gateways/streams/table.h"
#include "gateways/web/connection.h"
#include "gateways/web/http.h"
#include "gateways/web/websocket.h"

enum {
    GATEWAY_MAGIC = 0x6a7e3a11,
    GATEWAY_KEEP_MS = 10000,
    GATEWAY_STATE_MS = 50,       /* how often the store is asked whether its log is complete yet */
    GATEWAY_REQUESTS_MAX = 8192, /* at once, of all connections */
    GATEWAY_DRAIN_AFTER_MS = 1000, /* told to clients: when to come back */
};

struct gateway {
    uint32_t magic;
    uint64_t id; /* names this gateway to the manager; drawn at the start */
    bool drained;
    edge edge;
};

static struct gateway *gateway_of(void *state)
{
    struct gateway *self;
    TW_CAST(self, state, GATEWAY_MAGIC);
    return self;
}

static tw_str why_of(const tw_envelope *in)
{
    return in != NULL && in->id == TW_MSG_error ? in->body->error.why : (tw_str){"", 0};
}

/* ---- what streams ask of others ---- */

static void on_topic_opened(void *state, void *context, uint64_t tag, tw_err err,
                            const tw_envelope *in)
{
    (void)context;
    struct gateway *self = gateway_of(state);
    if (err == TW_OK && in->id != TW_MSG_topic_opened) {
        err = TW_E_INTERNAL;
    }
    streams_opened(self->edge.streams, tag, err, err == TW_OK ? &in->body->topic_opened : NULL,
                   why_of(in));
}

static void ask_topic_open(void *context, uint64_t tag, tw_bson query)
{
    struct gateway *self = gateway_of(context);
    tw_msg_topic_open ask = {.gateway = self->id, .query = query};
    tw_ask(self->edge.actor, self->edge.manager, TW_MSG_topic_open, &ask, TW_ASK_TIMEOUT_MS,
           on_topic_opened, NULL, tag);
}

static void on_page(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    struct gateway *self = gateway_of(state);
    if (err == TW_OK && in->id != TW_MSG_page) {
        err = TW_E_INTERNAL;
    }
    streams_page(self->edge.streams, tag, err, err == TW_OK ? &in->body->page : NULL, why_of(in));
}

static void ask_page_read(void *context, uint64_t tag, const tw_msg_page_read *page_read,
                          bool processed)
{
    struct gateway *self = gateway_of(context);
    const edge *hub = &self->edge;
    if (processed) {
        tw_ask(hub->actor, hub->processor, TW_MSG_page_read, page_read, TW_ASK_TIMEOUT_MS, on_page,
               NULL, tag);
        return;
    }
    int reader = hub->readers[tag % hub->readers_count];
    for (size_t i = 0; i < hub->readers_count && !tw_link_up(hub->actor, reader); i++) {
        reader = hub->readers[(tag + i) % hub->readers_count];
    }
    tw_ask(hub->actor, reader, TW_MSG_page_read, page_read, TW_ASK_TIMEOUT_MS, on_page, NULL, tag);
}

static void on_manifest(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    struct gateway *self = gateway_of(state);
    streams_manifest(self->edge.streams, tag, err, in == NULL ? TW_MSG_none : in->id,
                     in == NULL ? NULL : in->body, why_of(in));
}

static void ask_manifest(void *context, uint64_t tag, tw_msg_id id, const void *body,
                         bool processed)
{
    struct gateway *self = gateway_of(context);
    const edge *hub = &self->edge;
    int link = processed ? hub->processor : hub->readers[tag % hub->readers_count];
    tw_ask(hub->actor, link, id, body, TW_ASK_TIMEOUT_MS, on_manifest, NULL, tag);
}

static void mark_dirty(void *context, streams_conn *conn)
{
    struct gateway *self = gateway_of(context);
    edge_dirty(&self->edge, TABLE_OWNER(connection, streams, conn));
}

/* ---- publications ---- */

static tw_err on_topic_batch(void *state, const tw_envelope *in)
{
    struct gateway *self = gateway_of(state);
    streams_batch(self->edge.streams, in->arena, &in->body->topic_batch);
    return TW_OK;
}

static tw_err on_topic_dispatch(void *state, const tw_envelope *in)
{
    struct gateway *self = gateway_of(state);
    streams_dispatched(self->edge.streams, &in->body->topic_dispatch);
    return TW_OK;
}

/* The gateway with the admin listener asks: what would be shown here? */
static tw_err on_gateway_page_ask(void *state, const tw_envelope *in)
{
    struct gateway *self = gateway_of(state);
    tw_buf items;
    tw_msg_gateway_page page;
    tw_buf_init(&items, TW_DOCUMENT_MAX);
    tw_err err = http_show(&self->edge, in->body->gateway_page_ask.streams, &items, &page);
    if (err == TW_OK) {
        tw_reply(self->edge.actor, in->route, TW_MSG_gateway_page, &page);
    }
    tw_buf_fini(&items);
    return err;
}

static void on_gap(void *state, const char *source)
{
    struct gateway *self = gateway_of(state);
    (void)source; /* the manager is all that is followed */
    streams_gap(self->edge.streams);
}

/* ---- timers ---- */

static void reload_tls(edge *hub)
{
    unsigned wanted = hub->tls == NULL ? 0 : atomic_load(&hub->options->tls->reloads);
    if (hub->tls == NULL || wanted == hub->reloads) {
        return;
    }
    broker_why why = {0};
    hub->reloads = wanted;
    tw_err err = tls_link_reload(hub->tls, &why);
    if (err == TW_OK) {
        tw_log(TW_LOG_INFO, tw_actor_name(hub->actor), "the certificate was read again");
    } else {
        tw_log(TW_LOG_ERROR, tw_actor_name(hub->actor), "the old certificate stays: %s",
               why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
}

static void on_tick(void *state, uint64_t tag)
{
    struct gateway *self = gateway_of(state);
    reload_tls(&self->edge);
    edge_tick(&self->edge, tag);
    edge_flush(&self->edge); /* timers come after on_turn */
    tw_timer_set(self->edge.actor, tw_now_ms(self->edge.actor) + EDGE_TICK_MS, on_tick, 0);
}

static void on_kept(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    (void)in;
    struct gateway *self = gateway_of(state);
    if (err != TW_OK && err != TW_E_UNAVAILABLE) {
        tw_log(TW_LOG_WARN, tw_actor_name(self->edge.actor), "topics_keep: %s", tw_err_text(err));
    }
    streams_kept(self->edge.streams);
}

static void on_keep(void *state, uint64_t tag)
{
    (void)tag;
    struct gateway *self = gateway_of(state);
    edge *hub = &self->edge;
    tw_msg_topics_keep keep = {.gateway = self->id};
    tw_arena arena;
    tw_arena_init(&arena, 2 * (size_t)TW_TOPICS_MAX * sizeof(tw_item_one_id));
    bool may = streams_keep(hub->streams, &arena, &keep.topics);
    if (may) {
        tw_ask(hub->actor, hub->manager, TW_MSG_topics_keep, &keep, TW_ASK_TIMEOUT_MS, on_kept,
               NULL, 0);
    }
    tw_arena_fini(&arena);
    uint64_t wait_ms = may ? GATEWAY_KEEP_MS : EDGE_TICK_MS;
    tw_timer_set(hub->actor, tw_now_ms(hub->actor) + wait_ms, on_keep, 0);
}

static void ask_state(void *state, uint64_t tag);

static void on_log_state(void *state, void *context, uint64_t tag, tw_err err,
                         const tw_envelope *in)
{
    (void)context;
    (void)tag;
    struct gateway *self = gateway_of(state);
    edge *hub = &self->edge;
    if (err != TW_OK || in->id != TW_MSG_log_state || in->body->log_state.partial) {
        hub->partial = err == TW_OK;
        tw_timer_set(hub->actor, tw_now_ms(hub->actor) + GATEWAY_STATE_MS, ask_state, 0);
        return;
    }
    const tw_msg_log_state *told = &in->body->log_state;
    hub->partial = false;
    hub->srv = told->srv;
    hub->head_count = told->at.count;
    if (told->at.count > 0) {
        memcpy(hub->head, told->at.at, told->at.count * sizeof(tw_position));
    }
}

static void ask_state(void *state, uint64_t tag)
{
    (void)tag;
    struct gateway *self = gateway_of(state);
    tw_ask(self->edge.actor, self->edge.store, TW_MSG_log_state_ask,
           &(tw_msg_log_state_ask){.counts = false}, TW_ASK_TIMEOUT_MS, on_log_state, NULL, 0);
}

/* ---- the loop ---- */

/* What clients asked travels first: the store works while we write. A queue that has drained may
 * let requests go on. */
static void flush(edge *hub)
{
    request_flush(hub->requests);
    edge_flush(hub);
    request_flush(hub->requests);
}

static void gateway_wait(void *state, int timeout_ms)
{
    struct gateway *self = gateway_of(state);
    lws_link_service(self->edge.link, edge_is_dirty(&self->edge) ? 0 : timeout_ms);
    flush(&self->edge);
}

static tw_err gateway_turn(void *state)
{
    struct gateway *self = gateway_of(state);
    edge *hub = &self->edge;
    flush(hub);
    if (hub->draining && hub->connections == 0 && !self->drained) {
        self->drained = true;
        tw_actor_drained(hub->actor);
    }
    return TW_OK;
}

static void gateway_drain(void *state)
{
    struct gateway *self = gateway_of(state);
    edge *hub = &self->edge;
    hub->draining = true;
    lws_link_stop_listening(hub->link);
    for (size_t i = 0; i < hub->slots_count; i++) {
        connection *conn = hub->slots[i];
        if (conn != NULL && conn->kind == CONNECTION_WEBSOCKET) {
            websocket_drain(hub, conn, GATEWAY_DRAIN_AFTER_MS);
        } else if (conn != NULL) {
            connection_end(hub, conn);
        }
    }
}

/* ---- figures ---- */

static void gateway_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    const struct gateway *self = gateway_of(state);
    const edge_figures *hub = &self->edge.figures;
    streams_figures told_streams = streams_tell(self->edge.streams);
    request_figures requests = request_engine_figures(self->edge.requests);
    lws_link_figures sockets = lws_link_tell(self->edge.link);
    const struct {
        const char *name;
        uint64_t value;
    } told[] = {
        {"connections", self->edge.connections},
        {"websockets", hub->websockets},
        {"accepted_total", hub->accepted},
        {"refused_total", hub->refused},
        {"refused_address_total", hub->refused_address},
        {"refused_user_total", hub->refused_user},
        {"refused_rate_total", hub->refused_rate},
        {"throttled_total", hub->throttled},
        {"messages_total", hub->messages},
        {"bad_messages_total", hub->bad_messages},
        {"http_requests_total", hub->http_requests},
        {"handshakes", sockets.handshakes},
        {"handshakes_total", sockets.handshakes_done},
        {"handshakes_failed_total", sockets.handshakes_failed},
        {"bytes_in_total", hub->bytes_in},
        {"bytes_out_total", hub->bytes_out},
        {"writes_total", hub->writes},
        {"blocked_total", hub->blocked},
        {"stalled_total", hub->stalled},
        {"timeouts_total", hub->timeouts},
        {"streams", told_streams.streams},
        {"streams_live", told_streams.live},
        {"topics", told_streams.topics},
        {"classes", told_streams.classes},
        {"frames_total", told_streams.frames},
        {"deliveries_total", told_streams.deliveries},
        {"pages_total", told_streams.pages},
        {"pages_shared_total", told_streams.pages_shared},
        {"gaps_total", told_streams.gaps},
        {"behind_total", told_streams.behind},
        {"resets_total", told_streams.resets},
        {"joined_from_ring_total", told_streams.joined_from_ring},
        {"ring_bytes", told_streams.ring_bytes},
        {"requests_running", requests.running},
        {"requests_paused", requests.paused},
        {"requests_total", requests.done},
        {"requests_refused_total", requests.refused},
    };
    tw_item_gauge *items = tw_arena_zero(arena, TW_COUNT(told), sizeof(*items));
    for (size_t i = 0; items != NULL && i < TW_COUNT(told); i++) {
        items[i].name = tw_str_of(told[i].name);
        items[i].value = (int64_t)told[i].value;
    }
    *out = (tw_list_gauge){items, items == NULL ? 0 : TW_COUNT(told)};
}

/* ---- init and fini ---- */

/* The link to an actor that is asked for its state: the one that there is, or a new one. */
static int link_of(edge *self, const gateway_options *options, const char *name)
{
    const struct {
        const char *name; /* NULL: there is none */
        int link;
    } known[] = {
        {"store", self->store},          {"subscription_manager", self->manager},
        {"processor", self->processor},  {"mongo_writer", self->writer},
        {options->search, self->search},
    };
    for (size_t i = 0; i < TW_COUNT(known); i++) {
        if (known[i].name != NULL && strcmp(name, known[i].name) == 0) {
            return known[i].link;
        }
    }
    return tw_link(self->actor, name);
}

static tw_err make_links(edge *self, const gateway_options *options)
{
    self->store = tw_link(self->actor, "store");
    self->manager = tw_link(self->actor, "subscription_manager");
    self->search = options->search == NULL ? -1 : tw_link(self->actor, options->search);
    self->processor = tw_link(self->actor, "processor");
    TW_ASSERT(options->readers_count >= 1 && options->readers_count <= TW_LINKS_MAX / 2);
    for (size_t i = 0; i < options->readers_count; i++) {
        char name[TW_NAME_MAX];
        tw_format(name, sizeof(name), "log_reader.%zu", i);
        self->readers[self->readers_count++] = tw_link(self->actor, name);
    }
    self->writer = self->store;
    self->records_count = options->mongo_readers_count;
    if (self->records_count == 0) {
        memcpy(self->records, self->readers, sizeof(self->records));
        self->records_count = self->readers_count;
    } else {
        self->writer = tw_link(self->actor, "mongo_writer");
        for (size_t i = 0; i < self->records_count; i++) {
            char name[TW_NAME_MAX];
            tw_format(name, sizeof(name), "mongo_reader.%zu", i);
            self->records[i] = tw_link(self->actor, name);
        }
    }
    for (size_t i = 0; options->actors != NULL && options->actors[i] != NULL; i++) {
        int link = link_of(self, options, options->actors[i]);
        TW_ASSERT(self->peers_count < TW_COUNT(self->peers));
        self->peers[self->peers_count++] = link;
        bool is_gateway = strncmp(options->actors[i], "gateway", strlen("gateway")) == 0;
        if (is_gateway && strcmp(options->actors[i], tw_actor_name(self->actor)) != 0) {
            TW_ASSERT(self->gateways_count < TW_COUNT(self->gateways));
            self->gateways[self->gateways_count++] = link;
        }
        if (link < 0) {
            return TW_E_TOO_MANY;
        }
    }
    bool is_short = self->store < 0 || self->manager < 0 || self->writer < 0 || self->processor < 0;
    return is_short ? TW_E_TOO_MANY : TW_OK;
}

/* The certificate is read at the start, and again when somebody asks for it. */
static tw_err make_tls(edge *self, const gateway_options *options)
{
    if (options->tls == NULL) {
        return TW_OK;
    }
    broker_why why = {0};
    self->reloads = atomic_load(&options->tls->reloads);
    tw_err err = tls_link_new(&self->tls, &options->tls->files, &why);
    if (err != TW_OK) {
        tw_actor_fail(self->actor, err, "%s", why.text);
    }
    return err;
}

static tw_err listen_all(edge *self, const gateway_options *options)
{
    const char *why = "";
    int bound = 0;
    lws_link_address at = {.host = options->listen_address,
                           .port = options->listen_port,
                           .tag = EDGE_PUBLIC,
                           .shared = options->gateways_count > 1,
                           .tls = self->tls};
    if (at.port == 0 && at.shared && options->ports != NULL) {
        at.port = atomic_load(&options->ports->listen); /* any, but the same for all */
    }
    tw_err err = lws_link_listen(self->link, &at, &bound, &why);
    int admin = 0;
    if (err == TW_OK && options->admin_address != NULL) {
        at = (lws_link_address){
            .host = options->admin_address, .port = options->admin_port, .tag = EDGE_ADMIN};
        err = lws_link_listen(self->link, &at, &admin, &why);
    }
    if (err != TW_OK) {
        tw_actor_fail(self->actor, err, "%s", why);
        return err;
    }
    if (options->ports != NULL) {
        if (options->admin_address != NULL) {
            atomic_store(&options->ports->admin, admin);
        }
        atomic_store(&options->ports->listen, bound);
    }
    tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "listens at %s:%d", options->listen_address,
           bound);
    if (options->admin_address != NULL) {
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "figures at %s:%d", options->admin_address,
               admin);
    }
    return TW_OK;
}

static void gateway_fini(void *state)
{
    struct gateway *self = state;
    edge *hub = &self->edge;
    lws_link_free(&hub->link); /* closes every connection */
    tls_link_free(&hub->tls);
    streams_free(&hub->streams);
    request_engine_free(&hub->requests);
    edge_fini(hub);
}

static void on_wake(void *state, uint64_t tag)
{
    (void)tag;
    request_wake(gateway_of(state)->edge.requests);
}

/* As configured, and a tenth of the descriptors stays with the rest of the process. */
static size_t connections_max(const gateway_options *options)
{
    size_t most =
        options->limits.connections != 0 ? options->limits.connections : (size_t)TW_CONNECTIONS_MAX;
    struct rlimit files;
    bool told = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY;
    size_t may = told ? (size_t)(files.rlim_max - files.rlim_max / 10) : most;
    return most < may ? most : may;
}

static tw_err make_engines(struct gateway *self, const gateway_options *options)
{
    edge *hub = &self->edge;
    streams_sink sink = {self, mark_dirty, ask_topic_open, ask_page_read, ask_manifest};
    tw_err err = streams_new(&hub->streams, options->catalog, &sink, tw_now_ms(hub->actor));
    if (err != TW_OK) {
        return err;
    }
    request_options requests = {
        .actor = hub->actor,
        .catalog = options->catalog,
        .store = hub->writer,
        .log_store = hub->store,
        .manager = hub->manager,
        .readers = hub->records,
        .readers_count = hub->records_count,
        .log_readers = hub->readers,
        .log_readers_count = hub->readers_count,
        .search = hub->search,
        .search_ms = options->search_ms,
        .wake = on_wake,
        .processor = hub->processor,
        .running_max = GATEWAY_REQUESTS_MAX,
        .mongo = options->mongo_readers_count > 0,
    };
    err = request_engine_new(&hub->requests, &requests);
    if (err != TW_OK) {
        return err;
    }
    lws_link_handler handler = edge_link_handler;
    handler.context = hub;
    size_t all = options->gateways_count > 1 ? options->gateways_count : 1;
    err = lws_link_new(&hub->link, &handler, connections_max(options),
                       all * connections_max(options));
    return err == TW_OK ? lws_link_watch(hub->link, tw_actor_fd(hub->actor)) : err;
}

static tw_err gateway_init(void *state, tw_actor *actor, const void *given)
{
    struct gateway *self = state;
    const gateway_options *options = given;
    self->magic = GATEWAY_MAGIC;
    self->id = tw_random(actor) & TW_SEQNO_MAX;
    tw_err err = edge_init(&self->edge, actor, options);
    if (err == TW_OK) {
        err = make_links(&self->edge, options);
    }
    if (err == TW_OK) {
        err = make_engines(self, options);
    }
    if (err == TW_OK) {
        err = make_tls(&self->edge, options);
    }
    if (err == TW_OK) {
        tw_follow(actor, "subscription_manager");
        err = listen_all(&self->edge, options);
    }
    if (err != TW_OK) {
        gateway_fini(self);
        return err;
    }
    ask_state(self, 0);
    tw_timer_set(actor, tw_now_ms(actor) + EDGE_TICK_MS, on_tick, 0);
    tw_timer_set(actor, tw_now_ms(actor) + GATEWAY_KEEP_MS, on_keep, 0);
    return TW_OK;
}

static const tw_handler handlers[] = {
    [TW_MSG_topic_batch] = on_topic_batch,
    [TW_MSG_topic_dispatch] = on_topic_dispatch,
    [TW_MSG_gateway_page_ask] = on_gateway_page_ask,
};

const tw_actor_class gateway_class = {
    .name = "gateway",
    .state_size = sizeof(struct gateway),
    .init = gateway_init,
    .fini = gateway_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_gap = on_gap,
    .on_turn = gateway_turn,
    .wait = gateway_wait,
    .on_drain = gateway_drain,
    .gauges = gateway_gauges,
};
