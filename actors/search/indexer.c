/* indexer.c - the actor that keeps the index of each declared collection equal to the log.
 *
 * Receives  log_batch (the store's publications: only that there is something new)
 * Sends     log_state_ask (store), log_read, find, count (log_reader.0); index_ask, index_write,
 *           index_list (the search engine)
 * Owns      how far each index is (indexer_priv.h); the engine keeps it in the index
 * Limit     one read of INDEXER_READ_ROWS rows at a time is on its way: an engine that is slow, or
 *           away, makes it wait, and nothing is queued for it
 * Never     drops a change: what an index did not take is read from the log again */
#include "actors/search/indexer.h"

#include "actors/runtime/log.h"

#include "actors/search/indexer_priv.h"

enum { TICK_MS = 200, TOLD_MAX = 10 /* documents set aside that are named in the log */ };

indexer *indexer_of(void *state)
{
    indexer *self;
    TW_CAST(self, state, INDEXER_MAGIC);
    return self;
}

static void read_on(indexer *self);

/* ---- errors ---- */
void indexer_lost(indexer *self, index_feed *feed, tw_err err, const tw_envelope *in)
{
    tw_str why = {NULL, 0};
    if (in != NULL && in->id == TW_MSG_error) {
        why = in->body->error.why;
    }
    bool broken = err == TW_E_BAD_CONFIG || err == TW_E_UNSUPPORTED;
    uint64_t next = feed->backoff_ms == 0 ? INDEXER_RETRY_MS : feed->backoff_ms * 2;
    feed->backoff_ms = next < INDEXER_RETRY_MAX_MS ? next : INDEXER_RETRY_MAX_MS;
    uint64_t wait_ms = broken ? INDEXER_BROKEN_MS : feed->backoff_ms;
    if (broken || next == INDEXER_RETRY_MS) {
        tw_log(TW_LOG_WARN, tw_actor_name(self->actor), "the index of %s waits: %s %.*s",
               feed->rules->name, tw_err_text(err), (int)why.len, why.len == 0 ? "" : why.ptr);
    }
    if (self->comparison.feed == feed) {
        indexer_compare_end(self);
    }
    feed->phase = FEED_WAIT;
    feed->verifying = false;
    feed->retry_ms = tw_now_ms(self->actor) + wait_ms;
}

void indexer_note_refused(indexer *self, index_feed *feed, const tw_msg_index_written *told)
{
    for (size_t i = 0; i < told->refused.count; i++) {
        const tw_item_index_refusal *one = &told->refused.at[i];
        if (feed->set_aside++ < TOLD_MAX) {
            tw_log(TW_LOG_WARN, tw_actor_name(self->actor),
                   "document %.*s of %s cannot be indexed: %.*s", (int)one->id.len, one->id.ptr,
                   feed->rules->name, (int)one->why.len, one->why.len == 0 ? "" : one->why.ptr);
        }
    }
    self->refused += told->refused.count;
}

/* ---- FOLLOW ---- */
void indexer_join(indexer *self, index_feed *feed, uint64_t n)
{
    feed->n = n;
    feed->phase = FEED_FOLLOW;
    feed->backoff_ms = 0;
    feed->verify = true;
    read_on(self);
}

static void on_written(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    index_feed *feed = &self->feeds[tag];
    TW_ASSERT(self->writes > 0);
    self->writes--;
    if (err != TW_OK || in->id != TW_MSG_index_written) {
        indexer_lost(self, feed, err == TW_OK ? TW_E_INTERNAL : err, in);
    } else {
        indexer_note_refused(self, feed, &in->body->index_written);
        feed->n = self->upto;
        feed->backoff_ms = 0;
    }
    if (self->writes == 0) {
        read_on(self);
    }
}

static bool is_of(const index_feed *feed, const tw_item_log_row *row)
{
    return tw_str_equal(row->db, tw_str_of(feed->rules->database)) &&
           (row->coll.len == 0 || tw_str_equal(row->coll, tw_str_of(feed->rules->name)));
}

/* The changes of one collection among rows; a drop forgets those before it. */
static bool collect(indexer *self, index_feed *feed, const tw_envelope *in, tw_msg_index_write *out)
{
    const tw_msg_log_rows *rows = &in->body->log_rows;
    tw_item_index_op *ops = tw_arena_alloc(in->arena, (rows->rows.count + 1) * sizeof *ops);
    size_t count = 0;
    if (ops == NULL) {
        return false;
    }
    for (size_t i = 0; i < rows->rows.count; i++) {
        const tw_item_log_row *row = &rows->rows.at[i];
        if (row->n <= feed->n || !is_of(feed, row)) {
            continue;
        }
        self->rows++;
        if ((row->flags & TW_ROW_DROP) != 0) {
            out->empty = true;
            count = 0;
            continue;
        }
        tw_str id = {NULL, 0};
        tw_err err = search_id_of_key(in->arena, row->key, &id);
        if (err == TW_E_NO_MEMORY) {
            return false;
        }
        if (err != TW_OK) { /* no engine can hold it */
            feed->set_aside++;
            self->refused++;
            continue;
        }
        bool puts = (row->flags & TW_ROW_PUT) != 0;
        self->puts += puts ? 1 : 0;
        self->removes += puts ? 0 : 1;
        ops[count++] = (tw_item_index_op){.op = puts ? TW_OP_PUT : TW_OP_REMOVE,
                                          .id = id,
                                          .key = row->key,
                                          .version = row->version,
                                          .seqno = row->seqno,
                                          .doc = puts ? row->doc : (tw_bson){NULL, 0}};
    }
    out->ops = (tw_list_index_op){ops, count};
    return true;
}

/* The rows that an index lacks are no longer all there: superseded ones, and what was deleted. */
static bool is_below_floor(const index_feed *feed, uint64_t floor)
{
    return feed->n < floor;
}

static void on_rows(void *state, const tw_envelope *in)
{
    indexer *self = indexer_of(state);
    const tw_msg_log_rows *rows = &in->body->log_rows;
    self->upto = rows->upto;
    if (rows->upto <= self->read) { /* the reader has not seen them yet; the tick reads again */
        return;
    }
    for (size_t i = 0; i < self->feeds_count; i++) {
        index_feed *feed = &self->feeds[i];
        if (feed->phase != FEED_FOLLOW || feed->n >= rows->upto || feed->n < self->read) {
            continue; /* it has them, or lacks some before them: it joined meanwhile */
        }
        if (is_below_floor(feed, rows->floor)) {
            feed->phase = FEED_COMPARE;
            continue;
        }
        tw_msg_index_write write = {.db = tw_str_of(feed->rules->database),
                                    .coll = tw_str_of(feed->rules->name),
                                    .srv = self->srv,
                                    .n = rows->upto,
                                    .at = rows->at};
        if (!collect(self, feed, in, &write)) {
            indexer_lost(self, feed, TW_E_NO_MEMORY, NULL);
            continue;
        }
        self->writes++;
        tw_ask(self->actor, self->engine, TW_MSG_index_write, &write, TW_SEARCH_DEADLINE_MAX_MS,
               on_written, NULL, i);
    }
    if (self->writes == 0) {
        read_on(self);
    }
}

/* Reads behind the least advanced of those that follow. */
static void read_on(indexer *self)
{
    uint64_t least = self->log.head;
    for (size_t i = 0; i < self->feeds_count; i++) {
        const index_feed *feed = &self->feeds[i];
        least = feed->phase == FEED_FOLLOW && feed->n < least ? feed->n : least;
    }
    if (self->log.reading || self->writes > 0 || least == self->log.head) {
        return;
    }
    self->read = least;
    log_link_read(&self->log, least);
}

/* ---- VERIFY: the same number of documents? ---- */
static void on_record_count(void *state, void *context, uint64_t tag, tw_err err,
                            const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    index_feed *feed = &self->feeds[tag];
    feed->verifying = false;
    if (err != TW_OK || in->id != TW_MSG_counted || feed->phase != FEED_FOLLOW ||
        feed->n != self->log.head || !feed->verify) {
        return; /* at the next quiet moment */
    }
    feed->verify = false;
    uint64_t documents = feed->documents;
    if (documents + feed->set_aside != in->body->counted.count) {
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor),
               "the index of %s has %llu documents, the collection %llu: they are compared",
               feed->rules->name, (unsigned long long)documents,
               (unsigned long long)in->body->counted.count);
        feed->phase = FEED_COMPARE;
    }
}

static void on_document_count(void *state, void *context, uint64_t tag, tw_err err,
                              const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    index_feed *feed = &self->feeds[tag];
    if (err != TW_OK || in->id != TW_MSG_index_state || feed->phase != FEED_FOLLOW ||
        feed->n != self->log.head) {
        feed->verifying = false;
        return;
    }
    feed->documents = in->body->index_state.documents;
    tw_ask(self->actor, self->log.reader, TW_MSG_count,
           &(tw_msg_count){.db = tw_str_of(feed->rules->database),
                           .coll = tw_str_of(feed->rules->name)},
           TW_ASK_TIMEOUT_MS, on_record_count, NULL, tag);
}

static void verify(indexer *self, size_t i)
{
    index_feed *feed = &self->feeds[i];
    if (!feed->verify || feed->verifying || feed->phase != FEED_FOLLOW ||
        feed->n != self->log.head) {
        return;
    }
    feed->verifying = true;
    tw_ask(self->actor, self->engine, TW_MSG_index_ask,
           &(tw_msg_index_ask){.db = tw_str_of(feed->rules->database),
                               .coll = tw_str_of(feed->rules->name),
                               .count = true},
           TW_SEARCH_DEADLINE_MAX_MS, on_document_count, NULL, i);
}

/* ---- ASK ---- */
static void on_index_state(void *state, void *context, uint64_t tag, tw_err err,
                           const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    index_feed *feed = &self->feeds[tag];
    if (err != TW_OK || in->id != TW_MSG_index_state) {
        indexer_lost(self, feed, err == TW_OK ? TW_E_INTERNAL : err, in);
        return;
    }
    const tw_msg_index_state *told = &in->body->index_state;
    if (told->srv != self->srv || told->n > self->log.head) {
        feed->foreign = told->srv != self->srv; /* its positions mean nothing here */
        feed->phase = FEED_COMPARE;
        return;
    }
    indexer_join(self, feed, told->n);
}

static void ask_index(indexer *self, size_t i)
{
    index_feed *feed = &self->feeds[i];
    feed->phase = FEED_ASK;
    feed->set_aside = 0;
    tw_ask(self->actor, self->engine, TW_MSG_index_ask,
           &(tw_msg_index_ask){.db = tw_str_of(feed->rules->database),
                               .coll = tw_str_of(feed->rules->name)},
           TW_SEARCH_DEADLINE_MAX_MS, on_index_state, NULL, i);
}

static void on_told(void *state)
{
    indexer *self = indexer_of(state);
    if (self->srv != 0 && self->srv != self->log.srv) {
        tw_actor_fail(self->actor, TW_E_UNAVAILABLE, "the log is another one");
        return;
    }
    self->srv = self->log.srv;
    read_on(self);
}

/* ---- the loop ---- */
static tw_err on_log_batch(void *state, const tw_envelope *in)
{
    indexer *self = indexer_of(state);
    log_link_heard(&self->log, &in->body->log_batch);
    read_on(self);
    return TW_OK;
}

/* Nothing depends on publications: what was lost is asked for. */
static void on_gap(void *state, const char *source)
{
    (void)source;
    log_link_ask(&indexer_of(state)->log);
}

static void on_tick(void *state, uint64_t tag)
{
    indexer *self = indexer_of(state);
    uint64_t now_ms = tw_now_ms(self->actor);
    if (self->srv == 0 || tag % 5 == 0) {
        log_link_ask(&self->log);
    }
    for (size_t i = 0; i < self->feeds_count && self->srv != 0; i++) {
        index_feed *feed = &self->feeds[i];
        if (feed->phase == FEED_WAIT && feed->retry_ms <= now_ms) {
            ask_index(self, i);
        }
        verify(self, i);
    }
    read_on(self);
    indexer_compare_next(self);
    tw_timer_set(self->actor, now_ms + TICK_MS, on_tick, (tag + 1) % 5);
}

static void indexer_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    const indexer *self = indexer_of(state);
    uint64_t following = 0;
    uint64_t least = self->log.head;
    for (size_t i = 0; i < self->feeds_count; i++) {
        following += self->feeds[i].phase == FEED_FOLLOW ? 1 : 0;
        least = self->feeds[i].n < least ? self->feeds[i].n : least;
    }
    const struct {
        const char *name;
        uint64_t value;
    } told[] = {
        {"index_collections", self->feeds_count},
        {"index_following", following},
        {"index_behind_rows", self->log.head - least},
        {"index_rows_total", self->rows},
        {"index_puts_total", self->puts},
        {"index_removes_total", self->removes},
        {"index_repairs_total", self->repairs},
        {"index_set_aside_total", self->refused},
    };
    tw_item_gauge *items = tw_arena_zero(arena, TW_COUNT(told), sizeof *items);
    for (size_t i = 0; items != NULL && i < TW_COUNT(told); i++) {
        items[i].name = tw_str_of(told[i].name);
        items[i].value = (int64_t)told[i].value;
    }
    *out = (tw_list_gauge){items, items == NULL ? 0 : TW_COUNT(told)};
}

static void indexer_fini(void *state)
{
    indexer *self = indexer_of(state);
    indexer_compare_end(self);
    tw_free(self->feeds);
    self->feeds = NULL;
}

static const log_link_options followed = {.rows_max = INDEXER_READ_ROWS,
                                          .bytes_max = INDEXER_READ_BYTES,
                                          .on_told = on_told,
                                          .on_rows = on_rows};

static tw_err indexer_init(void *state, tw_actor *actor, const void *given)
{
    indexer *self = state;
    const indexer_options *options = given;
    *self = (indexer){.magic = INDEXER_MAGIC, .actor = actor, .options = options};
    self->engine = tw_link(actor, options->engine);
    self->feeds = tw_alloc_zero(options->catalog->count + 1, sizeof *self->feeds);
    tw_err err = self->feeds == NULL ? TW_E_NO_MEMORY : log_link_init(&self->log, actor, &followed);
    if (err != TW_OK) {
        indexer_fini(self);
        return err;
    }
    for (size_t i = 0; i < options->catalog->count; i++) {
        const catalog_collection *one = &options->catalog->at[i];
        if (one->searched && !one->search_store) {
            self->feeds[self->feeds_count++] = (index_feed){.rules = one, .phase = FEED_WAIT};
        }
    }
    tw_timer_set(actor, tw_now_ms(actor), on_tick, 0);
    return TW_OK;
}

static const tw_handler handlers[] = {
    [TW_MSG_log_batch] = on_log_batch,
};

const tw_actor_class indexer_class = {
    .name = "indexer",
    .state_size = sizeof(indexer),
    .init = indexer_init,
    .fini = indexer_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_gap = on_gap,
    .gauges = indexer_gauges,
};
