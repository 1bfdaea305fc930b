/* service_feed.c - the feed: what was committed, per collection, in numbered messages; and replay.
 *
 * A message is the topic "db.collection" and a NUL, then the msgpack map
 * {"srv_id":S,"n_prev":P,"n":N,"batch":B,
 *  "rows":[{"n","op","key","version","srv_id","seqno","doc"}...]}:
 * rows in order of n; P is the N of the collection's message before, S names the log that n is of.
 * A follower at position X that finds P > X has lost something and asks
 * {"op":"replay","srv_id":S,"after":X,...}; so it does after silence, as the last message may be
 * the lost one, and where S is another: that is answered `reset`. nng drops what a follower does
 * not read in time: the feed is the hint, the log the truth. The gateway itself follows the store
 * in the same way, and reads from the log what it missed. */
#include "protocol/codec.h"

#include "gateways/service/service_priv.h"

typedef struct service_replay {
    uint32_t magic;
    bool retried;
    bool is_waiting;                     /* for the log to reach its position */
    uint64_t ahead_until_ms;             /* how long; 0: it was not ahead yet */
    struct service_replay *next, **link; /* of the gateway's */
    service *gateway;                    /* borrow */
    uint64_t tag;
    uint64_t srv; /* of the log that after is of; 0: not told */
    uint64_t after, limit;
    rights *rights; /* hold; NULL: all */
    unsigned pages;
    char db[TW_NAME_MAX + 1], coll[TW_NAME_MAX + 1];
    char req_id[TW_MUX_ID_MAX + 1]; /* text; "" = none */
} service_replay;

enum { FEED_TOPIC_MAX = 2 * TW_NAME_MAX + 2 };

/* ---- marks: the last n of each collection ---- */
static service_mark *mark_of(service_feed_state *feed, tw_str db, tw_str coll)
{
    uint64_t hash = tw_hash(coll.ptr, coll.len, tw_hash(db.ptr, db.len, 0));
    hash = hash == 0 ? 1 : hash;
    size_t at = hash % SERVICE_COLLECTIONS;
    while (feed->marks[at].collection != 0 && feed->marks[at].collection != hash) {
        at = (at + 1) % SERVICE_COLLECTIONS;
    }
    if (feed->marks[at].collection == 0) {
        if (feed->marks_count >= TW_COLLECTIONS_MAX) {
            return NULL;
        }
        feed->marks[at] = (service_mark){hash, feed->base};
        feed->marks_count++;
    }
    return &feed->marks[at];
}

/* Forgets all marks: whoever followed before base is told that it lost something. */
static void begin_at(service_feed_state *feed, uint64_t srv, uint64_t n)
{
    memset(feed->marks, 0, SERVICE_COLLECTIONS * sizeof feed->marks[0]);
    feed->marks_count = 0;
    feed->srv = srv;
    feed->base = n;
    feed->applied = n;
    feed->seen = n;
    feed->started = true;
}

tw_err service_feed_init(service *self)
{
    TW_ASSERT(self->feed.marks == NULL);
    tw_buf_init(&self->feed.rows, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&self->feed.bytes, TW_ACTOR_MESSAGE_MAX);
    self->feed.marks = tw_alloc_zero(SERVICE_COLLECTIONS, sizeof *self->feed.marks);
    return self->feed.marks == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void service_feed_fini(service *self)
{
    tw_free(self->feed.marks);
    self->feed.marks = NULL;
    tw_buf_fini(&self->feed.rows);
    tw_buf_fini(&self->feed.bytes);
}

/* ---- rows ---- */
static bool is_told(const tw_item_log_row *row)
{
    return (row->flags & TW_ROW_SILENT) == 0;
}

static void add_row(tw_bson_builder *b, const tw_item_log_row *row, tw_bson doc)
{
    bool drop = (row->flags & TW_ROW_DROP) != 0;
    bool remove = (row->flags & TW_ROW_DELETE) != 0;
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_i64(b, TW_STR("n"), (int64_t)row->n);
    tw_bson_add_str(b, TW_STR("op"), tw_str_of(drop ? "drop" : remove ? "remove" : "put"));
    if (row->key.len != 0) {
        tw_bson_add_key(b, TW_STR("key"), row->key);
    }
    tw_bson_add_i64(b, TW_STR("version"), row->version);
    tw_bson_add_i64(b, TW_STR("srv_id"), (int64_t)row->srv);
    tw_bson_add_i64(b, TW_STR("seqno"), (int64_t)row->seqno);
    if ((row->flags & TW_ROW_MULTI) != 0) {
        tw_bson_add_bool(b, TW_STR("last"), (row->flags & TW_ROW_LAST) != 0);
    }
    if (doc.len != 0) {
        tw_bson_add_doc(b, TW_STR("doc"), doc);
    }
    tw_bson_close(b);
}

/* ---- publishing ---- */
static void publish(service *self, const tw_item_log_row *row, uint64_t n_prev, uint64_t n)
{
    service_feed_state *feed = &self->feed;
    char topic[FEED_TOPIC_MAX];
    size_t len = tw_format(topic, sizeof topic, "%.*s.%.*s", (int)row->db.len, row->db.ptr,
                           (int)row->coll.len, row->coll.ptr);
    tw_buf_clear(&feed->bytes);
    tw_msgpack_from_bson(&feed->bytes, (tw_bson){(const uint8_t *)feed->rows.ptr, feed->rows.len});
    bool sent = feed->rows.err == TW_OK && feed->bytes.err == TW_OK && n > n_prev &&
                service_publish(self, (tw_str){topic, len + 1}, tw_buf_str(&feed->bytes)) == TW_OK;
    feed->batches += sent ? 1 : 0;
    feed->dropped += sent ? 0 : 1;
}

/* Publishes the rows of one collection from index `from` on; done gets a mark for each. */
static void publish_collection(service *self, const tw_list_log_row *rows, size_t from,
                               uint64_t prev_head, uint8_t *done)
{
    service_feed_state *feed = &self->feed;
    const tw_item_log_row *first = &rows->at[from];
    service_mark *mark = mark_of(feed, first->db, first->coll);
    bool heard = service_has_followers(self);
    bool hints = service_identity_asks_all(self);
    size_t at = from;
    while (at < rows->count) {
        tw_bson_builder b;
        uint64_t n_prev = mark != NULL ? mark->n : prev_head;
        uint64_t n = 0;
        tw_buf_clear(&feed->rows);
        tw_bson_begin(&b, &feed->rows);
        tw_bson_add_i64(&b, TW_STR("srv_id"), (int64_t)feed->srv);
        if (!hints) {
            tw_bson_add_i64(&b, TW_STR("n_prev"), (int64_t)n_prev);
        }
        tw_bson_add_i64(&b, TW_STR("batch"), (int64_t)feed->batches + 1);
        tw_bson_open_array(&b, TW_STR("rows"));
        for (; at < rows->count && feed->rows.len < TW_BATCH_BYTES; at++) {
            const tw_item_log_row *row = &rows->at[at];
            if (done[at] || !tw_str_equal(row->coll, first->coll) ||
                !tw_str_equal(row->db, first->db)) {
                continue;
            }
            done[at] = 1;
            if (is_told(row) && row->n > feed->applied) {
                n = row->n;
                if (heard && !hints) {
                    add_row(&b, row, row->doc);
                }
            }
        }
        tw_bson_close(&b);
        if (hints) { /* a loss, to whoever follows: the rows are asked for, with a token */
            tw_bson_add_i64(&b, TW_STR("n_prev"), (int64_t)n);
        }
        tw_bson_add_i64(&b, TW_STR("n"), (int64_t)n);
        (void)tw_bson_end(&b);
        if (n != 0 && heard) {
            publish(self, first, n_prev, n);
        }
        if (n != 0 && mark != NULL) {
            mark->n = n;
        }
    }
}

static void publish_rows(service *self, const tw_list_log_row *rows, uint64_t prev_head,
                         uint64_t upto)
{
    uint8_t done[TW_BATCH_ROWS_MAX] = {0};
    TW_ASSERT(rows->count <= TW_BATCH_ROWS_MAX);
    for (size_t i = 0; i < rows->count; i++) {
        if (!done[i]) {
            publish_collection(self, rows, i, prev_head, done);
        }
    }
    TW_ASSERT(self->feed.started);
    self->feed.applied = upto > self->feed.applied ? upto : self->feed.applied;
}

/* ---- reading what the gateway missed ---- */
static void repair(void *arg, uint64_t tag);

static void on_repair(void *arg, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    service_feed_state *feed = &self->feed;
    if (err != TW_OK || in->id != TW_MSG_log_rows) {
        tw_timer_set(self->actor, tw_now_ms(self->actor) + SERVICE_REPAIR_MS, repair, 0);
        return;
    }
    const tw_msg_log_rows *rows = &in->body->log_rows;
    if (rows->srv != feed->srv || rows->head < feed->applied || feed->applied < rows->floor) {
        begin_at(feed, rows->srv,
                 rows->head); /* another log, or too late: followers read it themselves */
    } else {
        publish_rows(self, &rows->rows, feed->applied, rows->upto);
    }
    uint64_t goal = rows->head > feed->seen ? rows->head : feed->seen;
    if (feed->applied < goal && rows->upto < rows->head) {
        repair(self, 0);
        return;
    }
    feed->repairing = false;
    feed->repairs++;
}

static void repair(void *arg, uint64_t tag)
{
    (void)tag;
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    TW_ASSERT(self->feed.started);
    self->feed.repairing = true;
    tw_msg_log_read message = {.after = self->feed.applied,
                               .rows_max = TW_BATCH_ROWS_MAX,
                               .bytes_max = TW_SERVICE_MESSAGE_MAX};
    tw_ask(self->actor, service_next_reader(self), TW_MSG_log_read, &message, TW_ASK_TIMEOUT_MS,
           on_repair, NULL, 0);
}

tw_err service_on_log_batch(void *arg, const tw_envelope *in)
{
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    TW_ASSERT(in->id == TW_MSG_log_batch);
    const tw_msg_log_batch *batch = &in->body->log_batch;
    service_feed_state *feed = &self->feed;
    if (!feed->started || batch->srv != feed->srv || batch->head < feed->applied) {
        begin_at(feed, batch->srv, batch->prev_head); /* the first, or of another log */
    }
    feed->seen = batch->head > feed->seen ? batch->head : feed->seen;
    if (feed->repairing) {
        return TW_OK; /* read from the log with the rest */
    }
    if (batch->prev_head > feed->applied) {
        repair(self, 0);
        return TW_OK;
    }
    publish_rows(self, &batch->rows, batch->prev_head, batch->head);
    return TW_OK;
}

void service_on_gap(void *arg, const char *source)
{
    (void)source;
    service *self;
    TW_CAST(self, arg, SERVICE_MAGIC);
    if (self->feed.started && !self->feed.repairing) {
        repair(self, 0);
    }
}

/* ---- replay ---- */
static void replay_ask(service_replay *self);

static void replay_end(service_replay **at)
{
    service_replay *self = *at;
    *at = NULL;
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    rights_drop(&self->rights);
    tw_free(self);
}

void service_replays_free(service *gateway)
{
    while (gateway->replays != NULL) {
        service_replay *self = gateway->replays;
        replay_end(&self);
    }
}

static void replay_fail(service_replay **at, tw_err err, const char *message)
{
    service_answer_error((*at)->gateway, (*at)->tag, (tw_bson){0}, err, message);
    replay_end(at);
}

static void answer_begin(service_replay *self, tw_bson_builder *b)
{
    service *gateway = self->gateway;
    char topic[FEED_TOPIC_MAX];
    size_t len = tw_format(topic, sizeof topic, "%s.%s", self->db, self->coll);
    tw_buf_clear(&gateway->answer);
    tw_bson_begin(b, &gateway->answer);
    tw_bson_add_bool(b, TW_STR("ok"), true);
    if (self->req_id[0] != '\0') {
        tw_bson_add_str(b, TW_STR("reqID"), tw_str_of(self->req_id));
    }
    tw_bson_add_str(b, TW_STR("topic"), (tw_str){topic, len});
    tw_bson_open_array(b, TW_STR("rows"));
}

static void answer_end(service_replay **at, tw_bson_builder *b, uint64_t srv, uint64_t upto,
                       uint64_t head, uint64_t floor)
{
    service *gateway = (*at)->gateway;
    tw_bson_close(b);
    tw_bson_add_i64(b, TW_STR("srv_id"), (int64_t)srv);
    tw_bson_add_i64(b, TW_STR("upto"), (int64_t)upto);
    tw_bson_add_i64(b, TW_STR("head"), (int64_t)head);
    tw_bson_add_i64(b, TW_STR("floor"), (int64_t)floor);
    tw_bson answer = tw_bson_end(b);
    if (gateway->answer.err != TW_OK) {
        replay_fail(at, gateway->answer.err, NULL);
        return;
    }
    service_answer(gateway, (*at)->tag, answer);
    replay_end(at);
}

/* Why `after` cannot be served; NULL: it can. */
static const char *refusal(const service_replay *self, const tw_msg_log_rows *page, tw_err *err)
{
    if (self->srv != 0 && self->srv != page->srv) {
        *err = TW_E_RESET;
        return "The log was replaced: forget what you have of it, and begin again at 0.";
    }
    if (self->after > page->head) {
        *err = TW_E_AHEAD;
        return "after is ahead of the log: begin again at 0.";
    }
    if (self->after != 0 && self->after < page->floor) {
        *err = TW_E_COMPACTED;
        return "after is below the log's floor: begin again at 0.";
    }
    return NULL;
}

static void ask_waiting(void *arg, uint64_t tag)
{
    (void)tag;
    service *gateway;
    TW_CAST(gateway, arg, SERVICE_MAGIC);
    for (service_replay *at = gateway->replays; at != NULL; at = at->next) {
        if (at->is_waiting) {
            at->is_waiting = false;
            replay_ask(at);
        }
    }
}

/* A log that follows MongoDB may be some milliseconds behind what its asker has seen. False: it was
 * waited for, or is what was written. */
static bool wait_for_log(service_replay *self)
{
    service *gateway = self->gateway;
    uint64_t now = tw_now_ms(gateway->actor);
    if (gateway->options->mongo_readers_count == 0) {
        return false;
    }
    if (self->ahead_until_ms == 0) {
        self->ahead_until_ms = now + TW_AHEAD_WAIT_MS;
    }
    self->is_waiting = now < self->ahead_until_ms;
    if (self->is_waiting) {
        tw_timer_set(gateway->actor, now + SERVICE_AHEAD_MS, ask_waiting, 0);
    }
    return self->is_waiting;
}

/* Without the fields that the asker's rights hide. Views, until the next row. */
static tw_bson visible(service *gateway, const rights_grant *grant, tw_bson doc)
{
    tw_buf *scratch = &gateway->packed;
    static const uint8_t empty[] = {5, 0, 0, 0, 0}; /* without memory nothing is shown */
    if (grant->hidden_count == 0 || doc.len == 0) {
        return doc;
    }
    tw_buf_clear(scratch);
    rights_hide(grant, doc, scratch);
    return scratch->err == TW_OK ? (tw_bson){(const uint8_t *)scratch->ptr, scratch->len}
                                 : (tw_bson){empty, sizeof empty};
}

static void on_replay_rows(void *state, void *context, uint64_t tag, tw_err err,
                           const tw_envelope *in)
{
    (void)state;
    (void)tag;
    service_replay *self;
    TW_CAST(self, context, SERVICE_REPLAY_MAGIC);
    if (err == TW_E_UNAVAILABLE && !self->retried) {
        self->retried = true;
        replay_ask(self);
        return;
    }
    if (err != TW_OK || in->id != TW_MSG_log_rows) {
        replay_fail(&self, err != TW_OK ? err : TW_E_INTERNAL, NULL);
        return;
    }
    const tw_msg_log_rows *page = &in->body->log_rows;
    if (self->after > page->head && (self->srv == 0 || self->srv == page->srv) &&
        wait_for_log(self)) {
        return;
    }
    tw_err refused = TW_OK;
    const char *cause = refusal(self, page, &refused);
    if (cause != NULL) {
        replay_fail(&self, refused, cause);
        return;
    }
    tw_bson_builder b;
    uint64_t count = 0;
    uint64_t upto = page->upto;
    rights_grant grant;
    tw_arena_reset(&self->gateway->arena); /* the request that was read last has been copied */
    refused = rights_of(self->rights, &self->gateway->arena, tw_str_of(self->db),
                        tw_str_of(self->coll), RIGHTS_READ, &grant);
    if (refused != TW_OK) {
        replay_fail(&self, refused, NULL);
        return;
    }
    answer_begin(self, &b);
    for (size_t i = 0; i < page->rows.count; i++) {
        const tw_item_log_row *row = &page->rows.at[i];
        if (!is_told(row) || !tw_str_equal(row->coll, tw_str_of(self->coll)) ||
            !tw_str_equal(row->db, tw_str_of(self->db))) {
            continue;
        }
        add_row(&b, row, visible(self->gateway, &grant, row->doc));
        count++;
        if (count == self->limit) {
            upto = row->n;
            break;
        }
    }
    if (count == 0 && upto < page->head && upto > self->after &&
        ++self->pages < SERVICE_REPLAY_PAGES_MAX) {
        self->after = upto;
        replay_ask(self);
        return;
    }
    answer_end(&self, &b, page->srv, upto, page->head, page->floor);
}

/* Without `after`: where the log is now, and no rows. */
static void on_replay_state(void *state, void *context, uint64_t tag, tw_err err,
                            const tw_envelope *in)
{
    (void)state;
    (void)tag;
    service_replay *self;
    TW_CAST(self, context, SERVICE_REPLAY_MAGIC);
    if (err != TW_OK || in->id != TW_MSG_log_state) {
        replay_fail(&self, err != TW_OK ? err : TW_E_INTERNAL, NULL);
        return;
    }
    tw_bson_builder b;
    const tw_msg_log_state *log = &in->body->log_state;
    answer_begin(self, &b);
    answer_end(&self, &b, log->own, log->head, log->head, log->floor);
}

static void replay_ask(service_replay *self)
{
    service *gateway = self->gateway;
    TW_ASSERT(self->magic == SERVICE_REPLAY_MAGIC);
    TW_ASSERT(self->after <= TW_SEQNO_MAX);
    tw_msg_log_read message = {.after = self->after,
                               .rows_max = TW_BATCH_ROWS_MAX,
                               .bytes_max = TW_SERVICE_MESSAGE_MAX / 2};
    tw_ask(gateway->actor, service_next_reader(gateway), TW_MSG_log_read, &message,
           TW_ASK_TIMEOUT_MS, on_replay_rows, self, 0);
}

static bool take_name(tw_bson_value value, char out[TW_NAME_MAX + 1])
{
    tw_str name = tw_bson_value_str(value);
    if (name.ptr == NULL || catalog_check_name(name) != TW_OK) {
        return false;
    }
    tw_format(out, TW_NAME_MAX + 1, "%.*s", (int)name.len, name.ptr);
    return true;
}

/* NULL: all is well; otherwise what is wrong with the field. */
static const char *take_field(service_replay *self, tw_str name, tw_bson_value value,
                              bool *from_now)
{
    int64_t number = -1;
    bool whole = tw_bson_value_i64(value, &number) && number >= 0;
    if (tw_str_equal(name, TW_STR("op"))) {
        return NULL;
    }
    if (tw_str_equal(name, TW_STR("collection"))) {
        return take_name(value, self->coll) ? NULL : "\"collection\" is no possible name.";
    }
    if (tw_str_equal(name, TW_STR("database"))) {
        return take_name(value, self->db) ? NULL : "\"database\" is no possible name.";
    }
    if (tw_str_equal(name, TW_STR("after"))) {
        *from_now = false;
        self->after = (uint64_t)number;
        return whole && self->after <= TW_SEQNO_MAX ? NULL : "\"after\" is to be a row number.";
    }
    if (tw_str_equal(name, TW_STR("srv_id"))) {
        self->srv = (uint64_t)number;
        return whole && self->srv <= TW_SEQNO_MAX ? NULL : "\"srv_id\" is to be a number.";
    }
    if (tw_str_equal(name, TW_STR("limit"))) {
        self->limit = (uint64_t)number;
        bool fits = whole && self->limit > 0 && self->limit <= TW_BATCH_ROWS_MAX;
        return fits ? NULL : "\"limit\" is to be a number from 1 to 4096.";
    }
    if (tw_str_equal(name, TW_STR("reqID"))) {
        tw_str text = tw_bson_value_str(value);
        bool fits = text.ptr != NULL && text.len <= TW_MUX_ID_MAX;
        tw_format(self->req_id, sizeof self->req_id, "%.*s", fits ? (int)text.len : 0, text.ptr);
        return fits ? NULL : "\"reqID\" of replay is to be text of at most 64 bytes.";
    }
    return "replay has the fields collection, database, srv_id, after, limit and reqID.";
}

/* A feed tells rows as they are committed, without what they were: whose rights are of some rows
 * could not be told which of them have left. */
static tw_err may_follow(const service_replay *self, rights_grant *grant, const char **wrong)
{
    tw_err err = rights_of(self->rights, &self->gateway->arena, tw_str_of(self->db),
                           tw_str_of(self->coll), RIGHTS_READ, grant);
    if (err == TW_OK && (!grant->allowed || grant->filter.len > 0)) {
        err = TW_E_FORBIDDEN;
        *wrong = grant->allowed ? "A right to some records does not reach the collection's feed."
                                : "Your rights do not allow read on this collection.";
    }
    return err;
}

void service_replay_start(service *gateway, uint64_t tag, tw_bson asked, rights *whose)
{
    service_replay *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        service_answer_error(gateway, tag, asked, TW_E_NO_MEMORY, NULL);
        return;
    }
    self->magic = SERVICE_REPLAY_MAGIC;
    self->gateway = gateway;
    self->rights = rights_hold(whose);
    self->tag = tag;
    self->next = gateway->replays;
    self->link = &gateway->replays;
    if (self->next != NULL) {
        self->next->link = &self->next;
    }
    gateway->replays = self;
    self->limit = TW_BATCH_ROWS_MAX;
    tw_format(self->db, sizeof self->db, "%s", gateway->options->catalog->default_database);
    bool from_now = true;
    const char *wrong = NULL;
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, asked);
    while (wrong == NULL && tw_bson_iter_next(&iter)) {
        wrong = take_field(self, iter.name, iter.value, &from_now);
    }
    if (wrong == NULL && self->coll[0] == '\0') {
        wrong = "replay needs \"collection\".";
    }
    tw_err err = wrong != NULL ? TW_E_BAD_MESSAGE : TW_OK;
    rights_grant grant = {0};
    if (err == TW_OK) {
        err = may_follow(self, &grant, &wrong);
    }
    if (err != TW_OK) {
        service_answer_error(gateway, tag, asked, err, wrong);
        replay_end(&self);
        return;
    }
    if (from_now) {
        tw_msg_log_state_ask message = {.counts = false};
        tw_ask(gateway->actor, gateway->store, TW_MSG_log_state_ask, &message, TW_ASK_TIMEOUT_MS,
               on_replay_state, self, 0);
        return;
    }
    replay_ask(self);
}
