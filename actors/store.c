/* store.c - the actor that owns the log: the one writer.
 *
 * Receives  write, trim, log_state_ask; append, source_ask (store_append.c)
 * Sends     written, appended, log_state, source; log_batch (published)
 * Owns      the log (actors/log), which the log_readers of this process read
 * Limit     TW_BATCH_ROWS_MAX rows or 16 MiB a commit
 * Never     waits for more writes: what is due in a turn is committed at its end, one alone too
 *
 * Invariants
 * 1. on_write prepares; on_turn commits all that was prepared in one transaction, then answers,
 * then
 *    publishes. Nothing is answered or published before it is on disk.
 * 2. A full disk refuses the writes of that commit and nothing else; a failed one ends the actor.
 * */
#include "actors/store.h"

#include "protocol/fault.h"

#include "broker/position.h"

#include "actors/runtime/log.h"

#include "actors/store_priv.h"

enum {
    TICK_MS = 1000,
    STEPS_A_TURN = 4,  /* of housekeeping: some ms at most between two turns */
    ROWS_A_STEP = 256, /* written in a turn: one step more, which looks at twice as many */
    STEPS_A_TRIM = 64,
    OPIDS_AHEAD = 8, /* operations whose ids are fetched from memory before they are looked up */
};

/* ---- publishing ---- */

/* Positions when the log's head was n. */
static void positions_at(const struct store *self, uint64_t n, position_set *out)
{
    log_index *index = log_store_index(self->log);
    *out = (position_set){0};
    for (size_t i = 0; i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        bool is_own = origin->id == LOG_ORIGIN_OWN;
        if (is_own && origin->rows == 0 && log_index_origins(index) > 1) {
            continue;
        }
        uint64_t seqno = log_origin_seqno_at(origin, n);
        tw_err err = position_set_raise(out, (tw_position){origin->srv, seqno});
        TW_ASSERT(err == TW_OK); /* the index holds no more origins than a set */
    }
}

static void publish(struct store *self, uint64_t prev_head, const tw_item_log_row *rows,
                    size_t count)
{
    TW_ASSERT(count > 0);
    position_set at;
    uint64_t head = rows[count - 1].n;
    positions_at(self, head, &at);
    const tw_msg_log_batch batch = {.srv = self->srv,
                                    .prev_head = prev_head,
                                    .head = head,
                                    .at = position_set_view(&at),
                                    .rows = {rows, count}};
    tw_publish(self->actor, TW_MSG_log_batch, &batch);
    self->published += count;
}

/* A commit without rows moved the position of the source alone. */
static void publish_position(struct store *self)
{
    position_set at;
    uint64_t head = log_index_head(log_store_index(self->log));
    positions_at(self, head, &at);
    const tw_msg_log_batch batch = {.srv = self->srv,
                                    .prev_head = head,
                                    .head = head,
                                    .at = position_set_view(&at),
                                    .rows = {NULL, 0}};
    tw_publish(self->actor, TW_MSG_log_batch, &batch);
}

/* What followers are told of a row. A version and the one before it that together pass a message's
 * bound go without the one before. Versions before one that was not told are for readers of the
 * log: lacking says so, as streams may hold them. */
static tw_item_log_row told(struct store *self, const log_pending *pending)
{
    log_index *index = log_store_index(self->log);
    const log_row *row = &pending->row;
    const log_incarnation *coll = log_index_incarnation(index, row->coll);
    tw_bson old = pending->old;
    bool lacking = pending->old_silent && (row->flags & TW_ROW_SILENT) == 0;
    if (row->doc.len + old.len + row->key.len + 4096 > TW_ACTOR_MESSAGE_MAX) {
        old = (tw_bson){0};
        lacking = true;
        self->without_old++;
    }
    return (tw_item_log_row){
        .n = row->n,
        .srv = log_index_origin(index, row->origin)->srv,
        .seqno = row->seqno,
        .flags = row->flags,
        .db = tw_str_of(coll->db),
        .coll = tw_str_of(coll->name),
        .key = row->key,
        .version = row->ver,
        .prev = row->prev,
        .doc = row->doc,
        .old = old,
        .time_ms = row->time_ms,
        .origin = row->by,
        .lacking = lacking,
    };
}

static void publish_all(struct store *self)
{
    size_t count = log_store_prepared(self->log);
    tw_item_log_row *rows = tw_arena_alloc(&self->answers, (count + 1) * sizeof *rows);
    if (count == 0 && self->appends_count > 0) {
        publish_position(self);
    }
    if (rows == NULL || count == 0) {
        return; /* a lost publication: followers read the log */
    }
    uint64_t prev_head = log_store_prepared_at(self->log, 0)->row.n - 1;
    size_t from = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        rows[i] = told(self, log_store_prepared_at(self->log, i));
        size_t size = rows[i].doc.len + rows[i].old.len + rows[i].key.len + 128;
        if (i > from && (bytes + size > TW_BATCH_BYTES || i - from == TW_BATCH_ROWS_MAX)) {
            publish(self, prev_head, rows + from, i - from);
            prev_head = rows[i - 1].n;
            from = i;
            bytes = 0;
        }
        bytes += size;
    }
    publish(self, prev_head, rows + from, count - from);
}

/* ---- committing ---- */

void store_fail(struct store *self, tw_err err, const char *what)
{
    TW_ASSERT(err != TW_OK);
    TW_ASSERT(what != NULL);
    if (err == TW_E_CORRUPT) {
        log_store_report_damage(self->log);
    }
    tw_actor_fail(self->actor, err, "the log cannot be %s: %s", what, log_store_why(self->log));
}

static void refuse_open(struct store *self, tw_err err)
{
    for (size_t i = 0; i < self->open_count; i++) {
        tw_item_write_result *result = self->open[i];
        if (result->code == TW_OK) {
            result->code = err;
            result->why = tw_str_of(tw_err_text(err));
            result->seqno = 0;
            result->count = 0;
        }
    }
    self->open_count = 0;
}

tw_err store_commit(struct store *self)
{
    if (log_store_prepared(self->log) == 0 && log_store_remembered(self->log) == 0 &&
        !log_store_has_source(self->log)) {
        self->open_count = 0;
        self->appends_open = self->appends_count;
        return TW_OK;
    }
    tw_err err = log_store_commit(self->log, tw_unix_ms(self->actor));
    if (err == TW_E_DISK) {
        tw_log(TW_LOG_ERROR, tw_actor_name(self->actor), "%s: %zu rows refused",
               log_store_why(self->log), log_store_prepared(self->log));
        log_store_undo(self->log, 0);
        log_store_forget(self->log, 0);
        log_store_forget_source(self->log);
        refuse_open(self, err);
        store_refuse_appends(self, err);
        tw_arena_reset(&self->rows);
        return store_load_source(self);
    }
    if (err != TW_OK) {
        store_fail(self, err, "written");
        return err;
    }
    self->commits++;
    self->writes += log_store_prepared(self->log);
    self->open_count = 0;
    self->appends_open = self->appends_count;
    return TW_OK;
}

/* Every operation that is answered with an error counts, whatever refused it and when. */
static void answer_all(struct store *self)
{
    for (size_t i = 0; i < self->waiting_count; i++) {
        const store_answer *answer = &self->waiting[i];
        for (size_t k = 0; k < answer->count; k++) {
            self->refused += answer->results[k].code != TW_OK;
        }
        const tw_msg_written written = {.results = {answer->results, answer->count}};
        tw_reply(self->actor, &answer->route, TW_MSG_written, &written);
    }
    self->waiting_count = 0;
}

/* After a commit in mid message: what is prepared is told, the answers wait for the turn's end. */
static void publish_and_clear(struct store *self)
{
    tw_fault("store_before_publish");
    publish_all(self);
    log_store_clear(self->log);
    tw_arena_reset(&self->rows);
}

tw_err store_flush(struct store *self)
{
    if (self->waiting_count == 0 && self->appends_count == 0) {
        return TW_OK;
    }
    tw_err err = store_commit(self);
    if (err != TW_OK) {
        return err;
    }
    tw_fault("store_before_reply");
    answer_all(self);
    store_answer_appends(self);
    publish_and_clear(self);
    self->appends_count = 0;
    self->appends_open = 0;
    tw_arena_reset(&self->answers);
    err = log_store_checkpoint(self->log);
    return err == TW_E_DISK ? TW_OK : err; /* no room: the next one tries again */
}

/* ---- writing ---- */

static tw_err keep_open(struct store *self, tw_item_write_result *results, size_t count)
{
    if (self->open_count + count > self->open_cap) {
        size_t cap = (self->open_count + count) * 2;
        tw_item_write_result **bigger = tw_realloc(self->open, cap * sizeof *bigger);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        self->open = bigger;
        self->open_cap = cap;
    }
    for (size_t i = 0; i < count; i++) {
        self->open[self->open_count++] = &results[i];
    }
    return TW_OK;
}

tw_err store_make_room(struct store *self, size_t rows)
{
    bool is_full = log_store_prepared(self->log) + rows > TW_BATCH_ROWS_MAX ||
                   log_store_remembered(self->log) + rows > TW_BATCH_ROWS_MAX ||
                   self->rows.used > STORE_ROWS_BYTES;
    if (!is_full || (log_store_prepared(self->log) == 0 && log_store_remembered(self->log) == 0)) {
        return TW_OK;
    }
    tw_err err = store_commit(self);
    if (err == TW_OK) {
        publish_and_clear(self);
    }
    return err;
}

static tw_err write_all(struct store *self, const tw_list_write_op *ops,
                        tw_item_write_result *results)
{
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < ops->count;) {
        size_t count = 1;
        if (i + OPIDS_AHEAD < ops->count) { /* others are rare, and only waited for */
            log_store_expect_opid(self->log, ops->at[i + OPIDS_AHEAD].opid);
        }
        while (ops->at[i + count - 1].more && i + count < ops->count) {
            count++;
        }
        err = store_make_room(self, count);
        if (err == TW_OK) {
            err = keep_open(self, results + i, count);
        }
        if (err == TW_OK) {
            err = store_transact(self, ops->at + i, count, results + i);
        }
        i += count;
    }
    return err;
}

static tw_err on_write(void *state, const tw_envelope *in)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    const tw_list_write_op *ops = &in->body->write.ops;
    if (self->image) {
        self->refused += ops->count;
        tw_reply_error(in->actor, in->route, TW_E_UNSUPPORTED,
                       "this log is the image of another store, which takes the writes");
        return TW_OK;
    }
    if (self->waiting_count == self->waiting_cap) {
        size_t cap = self->waiting_cap == 0 ? 256 : self->waiting_cap * 2;
        store_answer *bigger = tw_realloc(self->waiting, cap * sizeof *bigger);
        if (bigger == NULL) {
            self->refused += ops->count;
            return TW_E_NO_MEMORY;
        }
        self->waiting = bigger;
        self->waiting_cap = cap;
    }
    size_t bytes = (ops->count + 1) * sizeof(tw_item_write_result);
    tw_item_write_result *results = tw_arena_zero(&self->answers, 1, bytes);
    if (results == NULL) {
        self->refused += ops->count;
        return TW_E_BUSY; /* too much is waiting for this turn's commit */
    }
    tw_err err = write_all(self, ops, results);
    if (err == TW_OK || err == TW_E_NO_MEMORY) {
        for (size_t i = 0; err == TW_E_NO_MEMORY && i < ops->count; i++) {
            if (results[i].seqno == 0 && results[i].code == TW_OK) {
                results[i].code = err;
            }
        }
        self->waiting[self->waiting_count++] = (store_answer){*in->route, results, ops->count};
        return TW_OK;
    }
    store_fail(self, err, "read");
    return TW_OK;
}

/* ---- housekeeping ---- */

/* An error of housekeeping: no room is no reason to end, all else is. */
static bool may_go_on(struct store *self, tw_err err)
{
    if (err == TW_OK || err == TW_E_DISK) {
        return true;
    }
    store_fail(self, err, "trimmed");
    return false;
}

static void on_step(void *state, uint64_t tag)
{
    (void)tag;
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    self->step_due = true;
}

static void on_tick(void *state, uint64_t tag)
{
    (void)tag;
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    tw_timer_set(self->actor, tw_now_ms(self->actor) + TICK_MS, on_tick, 0);
    self->tick_due = true;
}

static void tick(struct store *self)
{
    if (log_store_is_damaged(self->log)) {
        tw_actor_fail(self->actor, TW_E_CORRUPT, "a stored row was found damaged");
        return;
    }
    tw_err err = log_store_raise_floor(self->log, tw_unix_ms(self->actor), UINT64_MAX);
    if (err == TW_OK) {
        err = log_store_tick(self->log, tw_unix_ms(self->actor));
    }
    self->step_due = may_go_on(self, err);
}

/* rows: written in this turn. Steps keep pace with them; a transaction of their own, and the wait
 * for the disk that it costs, they have in turns without a commit alone. */
static void step(struct store *self, uint64_t rows)
{
    bool more = true;
    tw_err err = TW_OK;
    for (uint64_t i = 0; more && err == TW_OK && i < STEPS_A_TURN + rows / ROWS_A_STEP; i++) {
        err = log_store_step(self->log, rows == 0, &more);
    }
    if (may_go_on(self, err) && err == TW_OK && more) {
        tw_timer_set(self->actor, tw_now_ms(self->actor) + 1, on_step, 0);
    }
}

/* Housekeeping comes behind the commit, not instead of it: writers that never pause would otherwise
 * keep the floor down, and the log growing, for as long as they write. */
static tw_err on_turn(void *state)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    tw_err err = store_flush(self);
    if (err != TW_OK) {
        return err;
    }
    if (self->tick_due) {
        self->tick_due = false;
        tick(self);
    }
    uint64_t rows = self->writes - self->written_before;
    self->written_before = self->writes;
    if (self->step_due) {
        self->step_due = false;
        step(self, rows);
    }
    return TW_OK;
}

static tw_err on_trim(void *state, const tw_envelope *in)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    tw_err err = store_flush(self); /* what was prepared goes first */
    uint64_t before = log_index_figures(log_store_index(self->log)).swept;
    if (err == TW_OK) {
        err = log_store_raise_floor(self->log, tw_unix_ms(self->actor), in->body->trim.keep_rows);
    }
    bool more = true;
    for (int i = 0; err == TW_OK && more && i < STEPS_A_TRIM; i++) {
        err = log_store_step(self->log, true, &more);
    }
    if (err == TW_OK && more) {
        tw_timer_set(self->actor, tw_now_ms(self->actor), on_step, 0);
    }
    if (err != TW_OK) {
        return may_go_on(self, err) ? err : TW_OK;
    }
    const tw_msg_done done = {log_index_figures(log_store_index(self->log)).swept - before};
    tw_reply(in->actor, in->route, TW_MSG_done, &done);
    return TW_OK;
}

/* ---- state ---- */

static tw_err list_collections(const struct store *self, tw_arena *arena,
                               tw_list_collection_state *out)
{
    log_index *index = log_store_index(self->log);
    size_t slots = log_index_incarnations(index);
    tw_item_collection_state *at = tw_arena_alloc(arena, (slots + 1) * sizeof *at);
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    size_t count = 0;
    for (size_t i = 0; i < slots && count < TW_COLLECTIONS_MAX; i++) {
        const log_incarnation *incarnation = log_index_slot(index, i);
        if (incarnation->is_void || incarnation->dropped != 0 || incarnation->all.count == 0) {
            continue;
        }
        at[count++] = (tw_item_collection_state){.db = tw_str_of(incarnation->db),
                                                 .coll = tw_str_of(incarnation->name),
                                                 .records = incarnation->records};
    }
    *out = (tw_list_collection_state){at, count};
    return TW_OK;
}

static tw_err on_log_state_ask(void *state, const tw_envelope *in)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    log_index *index = log_store_index(self->log);
    log_index_stats stats = log_index_figures(index);
    position_set at;
    positions_at(self, log_index_head(index), &at);
    tw_msg_log_state answer = {
        .srv = self->source.srv != 0 ? self->source.srv : self->srv,
        .own = self->srv,
        .partial = !log_store_is_whole(self->log),
        .head = log_index_head(index),
        .floor = log_index_floor(index),
        .rows = stats.rows,
        .records = stats.records,
        .bytes = log_store_bytes(self->log),
        .at = position_set_view(&at),
    };
    if (in->body->log_state_ask.counts) {
        tw_err err = list_collections(self, in->arena, &answer.collections);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_reply(in->actor, in->route, TW_MSG_log_state, &answer);
    return TW_OK;
}

static void store_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    log_index *index = log_store_index(self->log);
    log_index_stats stats = log_index_figures(index);
    const tw_item_gauge gauges[] = {
        {.name = TW_STR("log_head"), .value = (int64_t)log_index_head(index)},
        {.name = TW_STR("log_floor"), .value = (int64_t)log_index_floor(index)},
        {.name = TW_STR("log_rows"), .value = (int64_t)stats.rows},
        {.name = TW_STR("log_records"), .value = (int64_t)stats.records},
        {.name = TW_STR("log_dead_rows"), .value = (int64_t)stats.dead},
        {.name = TW_STR("log_swept_rows_total"), .value = (int64_t)stats.swept},
        {.name = TW_STR("log_bytes"), .value = (int64_t)log_store_bytes(self->log)},
        {.name = TW_STR("commits_total"), .value = (int64_t)self->commits},
        {.name = TW_STR("rows_written_total"), .value = (int64_t)self->writes},
        {.name = TW_STR("writes_refused_total"), .value = (int64_t)self->refused},
        {.name = TW_STR("rows_published_total"), .value = (int64_t)self->published},
        {.name = TW_STR("rows_published_without_old_total"), .value = (int64_t)self->without_old},
        {.name = TW_STR("appends_total"), .value = (int64_t)self->appended},
        {.name = TW_STR("append_rows_total"), .value = (int64_t)self->append_rows},
        {.name = TW_STR("append_rows_skipped_total"), .value = (int64_t)self->append_skipped},
        {.name = TW_STR("appends_refused_total"), .value = (int64_t)self->append_refused},
        {.name = TW_STR("log_partial"), .value = !log_store_is_whole(self->log)},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

/* ---- life ---- */

static void store_fini(void *state)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    if (log_store_is_open(self->log)) {
        log_store_close(self->log);
    }
    tw_arena_fini(&self->rows);
    tw_arena_fini(&self->answers);
    tw_buf_fini(&self->scratch);
    tw_free(self->waiting);
    tw_free(self->appends);
    tw_free(self->open);
}

static tw_err store_init(void *state, tw_actor *actor, const void *options)
{
    struct store *self = state;
    const store_options *given = options;
    TW_ASSERT(given != NULL && given->log != NULL && given->catalog != NULL);
    *self = (struct store){.magic = STORE_MAGIC,
                           .actor = actor,
                           .log = given->log,
                           .catalog = given->catalog,
                           .image = given->image};
    tw_arena_init(&self->rows, STORE_ROWS_BYTES_MAX);
    tw_arena_init(&self->answers, STORE_ANSWERS_BYTES_MAX);
    tw_buf_init(&self->scratch, TW_DOCUMENT_MAX + TW_KEY_MAX + 65536);
    const log_store_options log = {.directory = given->directory,
                                   .memory = given->memory,
                                   .srv_id = given->srv_id,
                                   .age_ms = given->age_ms,
                                   .superseded_bytes = given->superseded_bytes,
                                   .bytes_max = given->bytes_max,
                                   .is_image = given->image};
    char why[1024] = "";
    tw_err err = log_store_open(self->log, &log, tw_unix_ms(actor), why, sizeof why);
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "the log cannot be opened: %s", why);
        store_fini(self);
        return err;
    }
    if (why[0] != '\0') {
        tw_log(TW_LOG_WARN, tw_actor_name(actor), "%s", why);
    }
    log_index *index = log_store_index(self->log);
    self->srv = log_index_origin(index, LOG_ORIGIN_OWN)->srv;
    err = store_load_source(self);
    if (err != TW_OK) {
        store_fini(self);
        return err;
    }
    tw_log(TW_LOG_INFO, tw_actor_name(actor), "opened the log: srv_id %llu, head %llu, floor %llu",
           (unsigned long long)self->srv, (unsigned long long)log_index_head(index),
           (unsigned long long)log_index_floor(index));
    tw_timer_set(actor, tw_now_ms(actor) + TICK_MS, on_tick, 0);
    return TW_OK;
}

static void store_on_drain(void *state)
{
    struct store *self;
    TW_CAST(self, state, STORE_MAGIC);
    tw_actor_drained(self->actor); /* what was asked before is committed with its turn */
}

static const tw_handler handlers[] = {
    [TW_MSG_write] = on_write,
    [TW_MSG_log_state_ask] = on_log_state_ask,
    [TW_MSG_trim] = on_trim,
    [TW_MSG_append] = store_on_append,
    [TW_MSG_source_ask] = store_on_source_ask,
};

const tw_actor_class store_class = {
    .name = "store",
    .state_size = sizeof(struct store),
    .init = store_init,
    .fini = store_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_turn = on_turn,
    .on_drain = store_on_drain,
    .gauges = store_gauges,
    .publishes = true,
};
