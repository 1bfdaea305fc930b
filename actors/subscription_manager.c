/* subscription_manager.c - the actor that holds the topics and says what each change means to them.
 *
 * Receives  topic_open, topics_keep, dispatch (gateways); log_batch (the store's publications)
 * Sends     topic_batch, topic_dispatch (published), log_state_ask (store), log_read
 *           (log_reader.0)
 * Owns      topic_set; applied: every row up to it was matched and published
 * Limit     TW_TOPICS_MAX topics, then TW_E_BUSY
 * Never     blocks, reads a document from disk, knows a client
 *
 * Invariants
 * 1. applied only grows. A batch is published for each step of it: (prev_head, head] in its
 * numbers.
 * 2. Publications of the store are a hint: a batch that does not follow on applied makes it read
 *    the log instead (repair), and the store's head is asked for each LAG_CHECK_MS, so that the
 *    loss of the last batch is seen too. It tells its own followers by an empty batch each
 * HEARTBEAT_MS.
 * 3. What cannot be repaired (rows below the floor, another log) ends the actor: its followers see
 *    a new life and let every stream read the log itself. */
#include "actors/subscription_manager.h"

#include "broker/position.h"
#include "broker/topic_set.h"

enum {
    SUBSCRIPTION_MANAGER_MAGIC = 0x5b5c71de,
    LAG_CHECK_MS = 500, /* a lost last batch is seen within a second (RELIABILITY: fault 13) */
    HEARTBEAT_MS = 250, /* so that gateways see a lost last batch as soon */
    GATEWAY_SILENT_MS = 60000, /* six times the 10 s in which a gateway keeps its topics */
    REPAIR_BYTES = 1048576,    /* of rows in one log_read: few round trips, bounded memory */
};

struct subscription_manager {
    uint32_t magic;
    tw_actor *actor;
    const catalog *catalog;
    int store;         /* link */
    int reader;        /* link */
    topic_set *topics; /* own */
    bool known;        /* the store's head was heard: applied is valid */
    bool asking;       /* a log_state_ask is under way */
    bool repairing;    /* a log_read is under way */
    uint64_t srv;      /* the log's own origin, to notice another log */
    uint64_t applied;
    uint64_t applied_asked; /* applied when the log_state_ask under way was sent */
    uint64_t seen;          /* highest head heard of */
    uint64_t published_ms;
    uint64_t repairs, oversize, dispatched; /* gauges */
    position_set at;                        /* positions at applied */
};

/* Notes the position of a row that is applied. More than TW_ORIGINS_MAX origins: the log refuses
 * them before it has a row of theirs. */
static void raise_at(struct subscription_manager *self, tw_position position)
{
    tw_err err = position_set_raise(&self->at, position);
    TW_ASSERT(err == TW_OK);
}

static void publish(struct subscription_manager *self, uint64_t prev_head, uint64_t head,
                    const topic_set_events *events)
{
    TW_ASSERT(prev_head <= head);
    tw_msg_topic_batch batch = {
        .prev_head = prev_head,
        .head = head,
        .at = position_set_view(&self->at),
        .events = {.at = events->at, .count = events->count},
    };
    self->published_ms = tw_now_ms(self->actor);
    tw_publish(self->actor, TW_MSG_topic_batch, &batch);
}

/* Tells the followers to read the log: this batch follows on none of theirs. */
static void publish_unreadable(struct subscription_manager *self, uint64_t head)
{
    static const topic_set_events none;
    self->oversize++;
    publish(self, head, head, &none);
}

/* Matches rows above applied and publishes them, closing a batch at TW_BATCH_BYTES. */
static tw_err apply_rows(struct subscription_manager *self, tw_arena *arena,
                         const tw_list_log_row *rows, uint64_t upto)
{
    TW_ASSERT(self->known);
    topic_set_events events = {0};
    uint64_t from = self->applied;
    for (size_t i = 0; i < rows->count; i++) {
        const tw_item_log_row *row = &rows->at[i];
        if (row->n <= self->applied) {
            continue; /* a repeat */
        }
        size_t before = events.bytes;
        tw_err err =
            row->lacking ? TW_E_TOO_BIG : topic_set_apply(self->topics, arena, row, &events);
        if (err != TW_OK && err != TW_E_TOO_BIG) {
            return err;
        }
        if (err == TW_E_TOO_BIG || events.bytes - before > TW_DOCUMENT_MAX) {
            events = (topic_set_events){0};
            self->applied = row->n;
            raise_at(self, (tw_position){row->srv, row->seqno});
            publish_unreadable(self, row->n);
            from = row->n;
            continue;
        }
        self->applied = row->n;
        raise_at(self, (tw_position){row->srv, row->seqno});
        if (events.bytes >= TW_BATCH_BYTES) {
            publish(self, from, self->applied, &events);
            events = (topic_set_events){0};
            from = self->applied;
        }
    }
    if (upto > self->applied) {
        self->applied = upto;
    }
    if (self->applied > from) {
        publish(self, from, self->applied, &events);
    }
    return TW_OK;
}

/* The position of a source moved while nothing was written: followers are told, so that a stream
 * passes the fence of a write that it is not about. */
static void take_position(struct subscription_manager *self, tw_vector at)
{
    static const topic_set_events none;
    bool moved = false;
    for (size_t i = 0; i < at.count; i++) {
        tw_vector known = position_set_view(&self->at);
        moved = moved || position_vector_get(known, at.at[i].srv) < at.at[i].seqno;
        raise_at(self, at.at[i]);
    }
    if (moved) {
        publish(self, self->applied, self->applied, &none);
    }
}

static void repair(struct subscription_manager *self);

static void on_rows(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    TW_ASSERT(self->repairing);
    self->repairing = false;
    if (err != TW_OK) {
        return; /* the next look at the store's head tries again */
    }
    const tw_msg_log_rows *rows = &in->body->log_rows;
    if (rows->floor > self->applied || rows->head < self->applied) {
        tw_actor_fail(self->actor, TW_E_GAP, "the rows behind %llu are no longer in the log",
                      (unsigned long long)self->applied);
        return;
    }
    self->repairs++;
    err = apply_rows(self, in->arena, &rows->rows, rows->upto);
    if (err != TW_OK) {
        tw_actor_fail(self->actor, err, "rows cannot be matched: %s", tw_err_text(err));
        return;
    }
    if (rows->head > self->seen) {
        self->seen = rows->head;
    }
    if (self->applied < self->seen) {
        repair(self);
    }
}

/* Reads what publications did not bring. To ask twice does no harm. */
static void repair(struct subscription_manager *self)
{
    TW_ASSERT(self->known);
    if (self->repairing) {
        return;
    }
    self->repairing = true;
    const tw_msg_log_read ask = {
        .after = self->applied, .rows_max = TW_BATCH_ROWS_MAX, .bytes_max = REPAIR_BYTES};
    tw_ask(self->actor, self->reader, TW_MSG_log_read, &ask, TW_ASK_TIMEOUT_MS, on_rows, NULL, 0);
}

static void on_log_state(void *state, void *context, uint64_t tag, tw_err err,
                         const tw_envelope *in)
{
    (void)context;
    (void)tag;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    TW_ASSERT(self->asking);
    self->asking = false;
    if (err != TW_OK) {
        return; /* the store is away; asked again by the timer */
    }
    const tw_msg_log_state *log = &in->body->log_state;
    if (!self->known && log->partial) {
        return; /* streams begin when the log is complete */
    }
    if (!self->known) {
        self->known = true;
        self->srv = log->srv;
        self->applied = self->seen = log->head;
        for (size_t i = 0; i < log->at.count; i++) {
            raise_at(self, log->at.at[i]);
        }
        return;
    }
    /* Batches overtake this answer: what was applied when it was asked for is in it at least. */
    if (log->srv != self->srv || log->head < self->applied_asked) {
        tw_actor_fail(self->actor, TW_E_GAP, "the log was replaced by another");
        return;
    }
    if (log->head > self->seen) {
        self->seen = log->head;
    }
    if (log->head == self->applied) {
        take_position(self, log->at);
    }
    if (self->applied < self->seen) {
        repair(self);
    }
}

static void ask_log_state(struct subscription_manager *self)
{
    if (self->asking) {
        return;
    }
    self->asking = true;
    self->applied_asked = self->applied;
    const tw_msg_log_state_ask ask = {.counts = false};
    tw_ask(self->actor, self->store, TW_MSG_log_state_ask, &ask, TW_ASK_TIMEOUT_MS, on_log_state,
           NULL, 0);
}

static void on_lag_check(void *state, uint64_t tag)
{
    (void)tag;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    uint64_t now = tw_now_ms(self->actor);
    topic_set_clock(self->topics, now);
    if (now > GATEWAY_SILENT_MS) {
        topic_set_expire(self->topics, now - GATEWAY_SILENT_MS);
    }
    ask_log_state(self);
    tw_timer_set(self->actor, now + (self->known ? LAG_CHECK_MS : 10), on_lag_check, 0);
}

static void on_heartbeat(void *state, uint64_t tag)
{
    (void)tag;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    static const topic_set_events none;
    uint64_t now = tw_now_ms(self->actor);
    if (self->known && now >= self->published_ms + HEARTBEAT_MS) {
        publish(self, self->applied, self->applied, &none);
    }
    tw_timer_set(self->actor, now + HEARTBEAT_MS, on_heartbeat, 0);
}

static void on_gap(void *state, const char *source)
{
    (void)source;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    ask_log_state(self);
}

static bool is_lacking(const tw_list_log_row *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->at[i].lacking) {
            return true;
        }
    }
    return false;
}

/* Matches a batch of the store's. One that does not follow, or lacks versions that streams may
 * hold, is read from the log instead. */
static tw_err on_log_batch(void *state, const tw_envelope *in)
{
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    const tw_msg_log_batch *batch = &in->body->log_batch;
    if (batch->head > self->seen) {
        self->seen = batch->head;
    }
    if (self->known && batch->rows.count == 0 && batch->head == self->applied) {
        take_position(self, batch->at);
    }
    if (!self->known || batch->head <= self->applied) {
        return TW_OK;
    }
    if (batch->prev_head > self->applied || self->repairing || is_lacking(&batch->rows)) {
        repair(self);
        return TW_OK;
    }
    tw_err err = apply_rows(self, in->arena, &batch->rows, batch->head);
    if (err != TW_OK) {
        tw_actor_fail(self->actor, err, "rows cannot be matched: %s", tw_err_text(err));
    }
    return TW_OK;
}

static tw_err on_topic_open(void *state, const tw_envelope *in)
{
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    if (!self->known) {
        return TW_E_UNAVAILABLE; /* the store was not heard yet */
    }
    const tw_msg_topic_open *open = &in->body->topic_open;
    tw_msg_topic_opened opened = {.applied = self->applied};
    broker_why why;
    topic_set_clock(self->topics, tw_now_ms(self->actor));
    tw_err err = topic_set_open(self->topics, open->gateway, open->query, &opened.topic, &why);
    if (err != TW_OK) {
        tw_reply_error(in->actor, in->route, err, "%s", why.text);
        return TW_OK;
    }
    tw_reply(in->actor, in->route, TW_MSG_topic_opened, &opened);
    return TW_OK;
}

static tw_err on_topics_keep(void *state, const tw_envelope *in)
{
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    const tw_msg_topics_keep *keep = &in->body->topics_keep;
    uint64_t *ids = tw_arena_alloc(in->arena, (keep->topics.count + 1) * sizeof(*ids));
    if (ids == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < keep->topics.count; i++) {
        ids[i] = keep->topics.at[i].id;
    }
    topic_set_clock(self->topics, tw_now_ms(self->actor));
    topic_set_keep(self->topics, keep->gateway, ids, keep->topics.count);
    const tw_msg_done done = {.count = keep->topics.count};
    tw_reply(in->actor, in->route, TW_MSG_done, &done);
    return TW_OK;
}

/* Passes a message that is not stored to the followers of its collection. Its publication may be
 * lost, and then it is: nothing depends on it. */
static tw_err on_dispatch(void *state, const tw_envelope *in)
{
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    const tw_msg_dispatch *asked = &in->body->dispatch;
    tw_bson_value message = tw_bson_get(asked->message, TW_STR("message"));
    if (asked->db.len == 0 || asked->coll.len == 0 || message.type == 0) {
        return TW_E_BAD_MESSAGE;
    }
    tw_msg_topic_dispatch told = {0};
    tw_buf tail;
    tw_buf_init(&tail, 8 * (size_t)TW_DISPATCH_MAX);
    topic_query_render_dispatch(self->catalog, asked->db, asked->coll, message, &tail);
    told.tail = tw_buf_str(&tail);
    tw_err err = tail.err;
    if (err == TW_OK) {
        err = topic_set_followers(self->topics, in->arena, asked->db, asked->coll, &told.topics);
    }
    if (err == TW_OK && told.topics.count > 0) {
        tw_publish(self->actor, TW_MSG_topic_dispatch, &told);
    }
    tw_buf_fini(&tail);
    if (err == TW_OK) {
        self->dispatched++;
        tw_reply(in->actor, in->route, TW_MSG_done, &(tw_msg_done){.count = told.topics.count});
    }
    return err;
}

static void subscription_manager_gauges(void *state, tw_buf *scratch, tw_arena *arena,
                                        tw_list_gauge *out)
{
    (void)scratch;
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    topic_set_stats figures = topic_set_figures(self->topics);
    const tw_item_gauge gauges[] = {
        {.name = TW_STR("topics"), .value = (int64_t)figures.topics},
        {.name = TW_STR("queries_tested_total"), .value = (int64_t)figures.tested},
        {.name = TW_STR("queries_matched_total"), .value = (int64_t)figures.matched},
        {.name = TW_STR("applied_row"), .value = (int64_t)self->applied},
        {.name = TW_STR("lag_rows"), .value = (int64_t)(self->seen - self->applied)},
        {.name = TW_STR("repairs_total"), .value = (int64_t)self->repairs},
        {.name = TW_STR("oversize_total"), .value = (int64_t)self->oversize},
        {.name = TW_STR("dispatched_total"), .value = (int64_t)self->dispatched},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof(gauges));
    if (at != NULL) {
        memcpy(at, gauges, sizeof(gauges));
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

static tw_err subscription_manager_init(void *state, tw_actor *actor, const void *options)
{
    struct subscription_manager *self = state;
    const subscription_manager_options *given = options;
    TW_ASSERT(given != NULL && given->catalog != NULL);
    *self = (struct subscription_manager){
        .magic = SUBSCRIPTION_MANAGER_MAGIC, .actor = actor, .catalog = given->catalog};
    size_t topics_max = given->topics_max == 0 ? TW_TOPICS_MAX : given->topics_max;
    tw_err err = topic_set_new(&self->topics, given->catalog, topics_max);
    if (err != TW_OK) {
        return err;
    }
    self->store = tw_link(actor, "store");
    self->reader = tw_link(actor, "log_reader.0");
    tw_follow(actor, "store");
    tw_timer_set(actor, tw_now_ms(actor), on_lag_check, 0);
    tw_timer_set(actor, tw_now_ms(actor) + HEARTBEAT_MS, on_heartbeat, 0);
    return TW_OK;
}

static void subscription_manager_fini(void *state)
{
    struct subscription_manager *self;
    TW_CAST(self, state, SUBSCRIPTION_MANAGER_MAGIC);
    topic_set_free(&self->topics);
}

static const tw_handler handlers[] = {
    [TW_MSG_log_batch] = on_log_batch,
    [TW_MSG_topic_open] = on_topic_open,
    [TW_MSG_topics_keep] = on_topics_keep,
    [TW_MSG_dispatch] = on_dispatch,
};

const tw_actor_class subscription_manager_class = {
    .name = "subscription_manager",
    .state_size = sizeof(struct subscription_manager),
    .init = subscription_manager_init,
    .fini = subscription_manager_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_gap = on_gap,
    .gauges = subscription_manager_gauges,
    .publishes = true,
};
