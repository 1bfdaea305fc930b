/* change_tailer.c - the actor that brings MongoDB's changes into the log.
 *
 * Receives  nothing                  Sends  source_ask, append, log_state_ask (store); find
 *                                           (log_reader.0)
 * Owns      the one change stream of this node, its resume token, the copy of the deployment
 * Limit     TW_APPENDS_IN_FLIGHT_MAX appends; then the stream is not read
 * Never     tries a token again that the server refused; skips a change
 *
 * Its thread blocks in a getMore for at most TAILER_AWAIT_MS, and is woken by answers only between
 * two of them. Parts: change_tailer_link.c (commands), _batch.c (events to rows), _scan.c (copy),
 * _state.c (what is kept), _marks.c (who wrote a row).
 *
 * Invariants
 * 1. What the log holds, and token and scan that go on behind it, are of one commit. A start goes
 *    on from there; so does a failed append.
 * 2. A failure of the connection goes on from the token in hand, at once the first time, then with
 *    back-off. Lost history begins a scan from a new barrier. What needs somebody is tried again
 *    rarely, and health is red.
 * 3. The log is whole when all collections were read and the second barrier has come; only then
 *    streams begin. */
#include "actors/mongo/change_tailer.h"

#include <poll.h>

#include "protocol/fault.h"

#include "actors/runtime/log.h"

#include "actors/mongo/change_tailer_priv.h"

enum {
    BACK_OFF_FIRST_MS = 100,
    BACK_OFF_MAX_MS = 15000,
    FATAL_WAIT_MS = 10000, /* half of it at least */
    UNKNOWN_MAX = 8, /* times that a code of unknown meaning passes; then it is told as fatal */
    AT_ONCE_MS = 5,  /* an empty answer in less time than asked for */
};

static const char *const reason_texts[] = {
#define R(name, text) text,
    TAILER_REASONS(R)
#undef R
};

/* ---- state for people ---- */

static void tell_state(struct change_tailer *self)
{
    const tailer_scan *scan = &self->scan;
    const char *name = scan->has_name ? scan->name.coll : "";
    if (self->is_failed) {
        tw_actor_status(self->actor, true, "failed(%u): %s", (unsigned)self->source.code,
                        self->source.why);
    } else if (self->failures > 1) {
        tw_actor_status(self->actor, false, "waiting: %s", self->source.why);
    } else if (self->phase == PHASE_BARRIER || self->want_scan) {
        tw_actor_status(self->actor, false, "barrier (%s)", reason_texts[self->scan_reason]);
    } else if (self->phase != PHASE_TAIL) {
        tw_actor_status(self->actor, false, "connecting");
    } else if (scan->is_active && scan->reason == TAILER_FIRST) {
        tw_actor_status(self->actor, false, "copying %llu/%zu %s", (unsigned long long)scan->done,
                        scan->names_count, name);
    } else if (scan->is_active) {
        tw_actor_status(self->actor, false, "rescanning (%s) %llu/%zu %s",
                        reason_texts[scan->reason], (unsigned long long)scan->done,
                        scan->names_count, name);
    } else {
        tw_actor_status(self->actor, false, "tailing");
    }
}

static void wait_ms(struct change_tailer *self, uint64_t ms)
{
    self->not_before_ms = tw_now_ms(self->actor) + ms;
}

/* ---- trouble ---- */

/* Nothing of the stream in hand counts any more; the token does. */
static void let_go(struct change_tailer *self)
{
    change_source_close(&self->source);
    tw_buf_clear(&self->held);
    tailer_scan_forget_batch(self);
    self->barrier = BARRIER_NONE;
    self->fence_ms = 0;
    self->phase = PHASE_CONNECT;
}

static void back_off(struct change_tailer *self)
{
    self->failures++;
    self->resumes++;
    if (self->failures == 1) {
        return; /* at once: a primary that stepped down has a successor */
    }
    unsigned doublings = self->failures - 2 < 10 ? self->failures - 2 : 10;
    uint64_t most = (uint64_t)BACK_OFF_FIRST_MS << doublings;
    most = most > BACK_OFF_MAX_MS ? BACK_OFF_MAX_MS : most;
    wait_ms(self, tw_random(self->actor) % (most + 1));
}

void tailer_want_scan(struct change_tailer *self, tailer_reason reason)
{
    self->want_scan = true;
    self->want_source = true; /* the head behind which the scan begins */
    self->scan_reason = reason;
}

void tailer_trouble(struct change_tailer *self)
{
    const change_source *source = &self->source;
    bool has_token = self->phase == PHASE_OPEN || self->phase == PHASE_TAIL;
    change_failure failure = source->failure;
    if (failure == CHANGE_LOST && !has_token) {
        failure = CHANGE_PASSES; /* a stream that begins now has no history to lose */
    }
    bool is_unknown = failure == CHANGE_PASSES && source->code != 0 &&
                      self->failures >= UNKNOWN_MAX && !source->is_known;
    self->is_failed = failure == CHANGE_FATAL || is_unknown;
    tw_log(self->is_failed ? TW_LOG_ERROR : TW_LOG_WARN, tw_actor_name(self->actor),
           "the change stream failed (%u): %s", (unsigned)source->code, source->why);
    if (failure == CHANGE_LOST) {
        tailer_want_scan(self, source->code == 286     ? TAILER_HISTORY
                               : source->code == 10334 ? TAILER_OVERSIZE
                                                       : TAILER_TOKEN);
    }
    let_go(self);
    if (self->is_failed) {
        self->failures++;
        wait_ms(self, FATAL_WAIT_MS / 2 + tw_random(self->actor) % (FATAL_WAIT_MS / 2));
    } else {
        back_off(self);
    }
    tell_state(self);
}

/* ---- what the store knows ---- */

static void on_source(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    TW_ASSERT(self->asking > 0);
    self->asking--;
    if (err != TW_OK || tag != self->life) {
        wait_ms(self, BACK_OFF_FIRST_MS);
        return; /* asked again */
    }
    const tw_msg_source *told = &in->body->source;
    self->want_source = false;
    if (told->foreign) {
        self->is_failed = true;
        self->want_source = true;
        self->source.code = 0;
        tw_format(self->source.why, sizeof self->source.why,
                  "the data directory has records of another store; give another --data");
        wait_ms(self, FATAL_WAIT_MS);
        tell_state(self);
        return;
    }
    self->node = told->own;
    self->number = told->number;
    self->at = told->at;
    self->head = told->head;
    self->is_whole = told->whole;
    self->is_dirty = false;
    if (!self->want_scan &&
        (told->state.len == 0 || tailer_state_read(self, told->state) != TW_OK)) {
        self->want_scan = true;
        self->scan_reason = told->rows == 0 ? TAILER_FIRST : TAILER_NO_TOKEN;
    }
    self->image_rows = told->rows;
    self->phase = self->source.client == NULL ? PHASE_CONNECT
                  : self->want_scan           ? PHASE_BARRIER
                                              : PHASE_OPEN;
    tell_state(self);
}

static void ask_source(struct change_tailer *self)
{
    TW_ASSERT(self->in_flight == 0);
    tw_buf_clear(&self->held);
    change_source_scan_end(&self->source);
    tailer_scan_forget_batch(self);
    self->barrier = BARRIER_NONE;
    self->life = tw_random(self->actor) >> 1 | 1;
    const tw_msg_source_ask ask = {.srv = self->srv, .life = self->life};
    self->asking++;
    tw_ask(self->actor, self->store, TW_MSG_source_ask, &ask, TW_ASK_TIMEOUT_MS, on_source, NULL,
           self->life);
}

/* ---- appending ---- */

static void on_appended(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    TW_ASSERT(self->in_flight > 0);
    self->in_flight--;
    if (err == TW_OK) {
        tw_fault("tailer_committed");
        self->head = in->body->appended.head;
        self->rows += in->body->appended.rows;
        return;
    }
    self->refused++;
    if (!self->want_source) {
        tw_log(TW_LOG_WARN, tw_actor_name(self->actor), "append %llu was not taken: %s",
               (unsigned long long)tag, tw_err_text(err));
    }
    self->want_source = true; /* it goes on from what is stored */
    wait_ms(self, err == TW_E_GAP ? 0 : BACK_OFF_FIRST_MS);
}

void tailer_append(struct change_tailer *self, tailer_rows *rows)
{
    tw_str kept = tailer_state_write(self);
    if (kept.len == 0 || kept.len > TW_SOURCE_STATE_MAX) {
        tw_actor_fail(self->actor, TW_E_TOO_BIG, "the state of the scan cannot be kept");
        return;
    }
    uint64_t unix_ms = tw_unix_ms(self->actor);
    const tw_msg_append append = {
        .srv = self->srv,
        .life = self->life,
        .number = ++self->number,
        .at = self->at,
        .applied_ms = rows->wall_ms > 0 ? rows->wall_ms : unix_ms,
        .state = kept,
        .whole = self->is_whole,
        .scan_from = self->scan.from,
        .rows = {rows->at, rows->count},
    };
    tw_fault("tailer_read_before_commit");
    self->appends++;
    self->in_flight++;
    tw_ask(self->actor, self->store, TW_MSG_append, &append, TAILER_APPEND_MS, on_appended, NULL,
           self->number);
    self->lag_ms = rows->wall_ms > 0 && unix_ms > rows->wall_ms ? unix_ms - rows->wall_ms : 0;
    self->is_dirty = false;
    self->saved_ms = tw_now_ms(self->actor);
    rows->count = 0;
    rows->bytes = 0;
    rows->wall_ms = 0;
}

/* ---- barriers ---- */

tw_err tailer_write_barrier(struct change_tailer *self, tailer_barrier purpose)
{
    TW_ASSERT(purpose != BARRIER_NONE && self->barrier == BARRIER_NONE);
    self->barrier_number = (tw_random(self->actor) & TW_SEQNO_MAX) | 1;
    tw_err err = change_source_barrier(&self->source, self->node, self->barrier_number);
    if (err == TW_OK) {
        self->barrier = purpose;
        self->barrier_ms = tw_now_ms(self->actor);
        self->barriers++;
    }
    return err;
}

/* The barrier's event: from it on the stream counts. */
static void begin_scan(struct change_tailer *self, const change_event *event)
{
    tailer_rows none = {0};
    self->barrier = BARRIER_NONE;
    if (event->seqno <= self->at) {
        self->is_failed = true;
        self->source.code = 0;
        tw_format(self->source.why, sizeof self->source.why,
                  "the clock of the cluster went back; the deployment was restored?");
        tw_log(TW_LOG_ERROR, tw_actor_name(self->actor), "%s", self->source.why);
        let_go(self);
        wait_ms(self, FATAL_WAIT_MS);
        return;
    }
    bool has_image = self->image_rows > 0;
    tailer_scan_begin(self, self->head, has_image);
    self->want_scan = false;
    self->at = event->seqno;
    tailer_set_token(self, event->token, false);
    tailer_append(self, &none);
    self->phase = PHASE_TAIL;
    tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "%s the deployment (%s)",
           has_image ? "the log is compared with" : "copying", reason_texts[self->scan.reason]);
}

/* Looks for the barrier among events, which the scan that follows covers. */
static tw_err await_barrier(struct change_tailer *self)
{
    change_batch batch = {0};
    tw_err err = change_source_next(&self->source, TAILER_AWAIT_MS, &batch);
    tw_bson_iter i;
    if (err != TW_OK) {
        return err;
    }
    for (tw_bson_iter_init(&i, batch.events); tw_bson_iter_next(&i);) {
        change_event event;
        uint64_t node, number;
        tw_bson raw = tw_bson_value_doc(i.value);
        if (self->phase == PHASE_TAIL) { /* behind the barrier: these count */
            break;
        }
        if (change_event_read(raw, &event, NULL) == TW_OK &&
            change_source_is_barrier(event.db, event.coll, event.id, event.doc, &node, &number) &&
            node == self->node && number == self->barrier_number) {
            begin_scan(self, &event);
        }
    }
    if (self->phase == PHASE_TAIL) {
        return tailer_take(self, &batch); /* those up to the barrier are known as repeats */
    }
    return TW_OK;
}

/* ---- steps: each blocks at most once ---- */

static tw_err step_connect(struct change_tailer *self)
{
    tw_err err = change_source_connect(&self->source);
    if (err == TW_OK && self->srv == 0) {
        err = change_source_origin(&self->source, &self->srv);
        self->want_source = true;
    }
    if (err == TW_OK) {
        self->phase = self->want_scan ? PHASE_BARRIER : PHASE_OPEN;
    }
    return err;
}

static tw_err step_open(struct change_tailer *self)
{
    tw_bson token = {(const uint8_t *)self->token.ptr, self->token.len};
    tw_err err = change_source_open(&self->source, token, self->is_after);
    if (err == TW_OK) {
        self->phase = PHASE_TAIL;
    }
    return err;
}

static tw_err step_barrier(struct change_tailer *self)
{
    if (self->barrier == BARRIER_START) {
        return await_barrier(self);
    }
    tw_err err = change_source_open(&self->source, (tw_bson){0}, false);
    return err == TW_OK ? tailer_write_barrier(self, BARRIER_START) : err;
}

/* An answer that comes at once and is empty would be asked for without end: true = wait first. */
static bool slow_down(struct change_tailer *self)
{
    uint64_t now = tw_now_ms(self->actor);
    bool is_hurried = self->idle_ms > 0 && now < self->idle_ms + AT_ONCE_MS;
    self->idle_ms = 0;
    self->hurried = is_hurried ? self->hurried + 1 : 0;
    if (!is_hurried) {
        return false;
    }
    self->slowed++;
    wait_ms(self, self->hurried < 6 ? 1u << self->hurried : TAILER_AWAIT_MS / 4);
    return true;
}

static tw_err step_tail(struct change_tailer *self)
{
    tw_err err = TW_OK;
    if (slow_down(self)) {
        return TW_OK;
    }
    if (self->scan.is_active && self->barrier == BARRIER_NONE) {
        err = tailer_scan_step(self);
    }
    if (err != TW_OK || self->phase != PHASE_TAIL) {
        return err;
    }
    /* What is known to be there already, or is not waited for, is asked for without waiting. */
    bool is_short = self->held.len > 0 || (self->scan.is_active && self->barrier == BARRIER_NONE);
    uint32_t await_ms = is_short ? 1 : TAILER_AWAIT_MS;
    change_batch batch = {0};
    err = change_source_next(&self->source, await_ms, &batch);
    if (err == TW_OK) {
        bool is_idle = !is_short && tw_bson_count(batch.events) == 0;
        self->idle_ms = is_idle ? tw_now_ms(self->actor) : 0;
        self->lag_ms = is_idle ? 0 : self->lag_ms;
        err = tailer_take(self, &batch);
    }
    if (err == TW_OK && self->barrier != BARRIER_NONE &&
        tw_now_ms(self->actor) > self->barrier_ms + TAILER_BARRIER_MS) {
        self->source.failure = CHANGE_PASSES;
        self->source.code = 0;
        tw_format(self->source.why, sizeof self->source.why, "the barrier's event did not come");
        return TW_E_TIMEOUT;
    }
    if (err == TW_OK && self->barrier == BARRIER_NONE) {
        self->failures = 0;
        self->is_failed = false;
    }
    return err;
}

static tw_err (*const steps[])(struct change_tailer *self) = {
    [PHASE_CONNECT] = step_connect,
    [PHASE_OPEN] = step_open,
    [PHASE_BARRIER] = step_barrier,
    [PHASE_TAIL] = step_tail,
};

/* Whether there is something to do that is not an answer. */
static bool may_step(const struct change_tailer *self)
{
    bool has_room = self->want_source && self->srv != 0
                        ? self->in_flight == 0
                        : self->in_flight < TW_APPENDS_IN_FLIGHT_MAX;
    return self->asking == 0 && has_room && !self->is_draining &&
           tw_now_ms(self->actor) >= self->not_before_ms;
}

static void change_tailer_wait(void *state, int timeout_ms)
{
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    if (!may_step(self)) {
        uint64_t now = tw_now_ms(self->actor);
        int most = self->not_before_ms > now ? (int)(self->not_before_ms - now) : TAILER_AWAIT_MS;
        struct pollfd wake = {.fd = tw_actor_fd(self->actor), .events = POLLIN};
        (void)poll(&wake, 1, timeout_ms >= 0 && timeout_ms < most ? timeout_ms : most);
        return;
    }
    if (self->want_source && self->srv != 0) {
        ask_source(self);
        return;
    }
    tw_err err = steps[self->phase](self);
    if (err == TW_E_NO_MEMORY || err == TW_E_TOO_BIG) {
        tw_actor_fail(self->actor, err, "a batch of changes cannot be taken: %s", tw_err_text(err));
    } else if (err != TW_OK) {
        tailer_trouble(self);
    }
    tell_state(self);
}

/* ---- figures ---- */

static void change_tailer_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    const tailer_scan *scan = &self->scan;
    bool has_saved = self->saved_ms > 0;
    const tw_item_gauge own[] = {
        {TW_STR("tailer_phase"), (int64_t)self->phase},
        {TW_STR("tailer_failed"), self->is_failed},
        {TW_STR("tailer_scanning"), scan->is_active},
        {TW_STR("tailer_scan_collections"), (int64_t)scan->names_count},
        {TW_STR("tailer_scan_collections_done"), (int64_t)scan->done},
        {TW_STR("tailer_scan_documents"), (int64_t)scan->documents},
        {TW_STR("tailer_lag_ms"), (int64_t)self->lag_ms},
        {TW_STR("tailer_token_age_s"),
         has_saved ? (int64_t)((tw_now_ms(self->actor) - self->saved_ms) / 1000) : 0},
        {TW_STR("tailer_position"), (int64_t)self->at},
        {TW_STR("tailer_events_total"), (int64_t)self->events},
        {TW_STR("tailer_batches_total"), (int64_t)self->batches},
        {TW_STR("tailer_appends_total"), (int64_t)self->appends},
        {TW_STR("tailer_appends_refused_total"), (int64_t)self->refused},
        {TW_STR("tailer_rows_total"), (int64_t)self->rows},
        {TW_STR("tailer_resumes_total"), (int64_t)self->resumes},
        {TW_STR("tailer_repeats_total"), (int64_t)self->repeats},
        {TW_STR("tailer_unfit_total"), (int64_t)self->unfit},
        {TW_STR("tailer_lookups_total"), (int64_t)self->source.lookups},
        {TW_STR("tailer_lookups_gone_total"), (int64_t)self->nulls},
        {TW_STR("tailer_cursor_opens_total"), (int64_t)self->source.opens},
        {TW_STR("tailer_commands_total"), (int64_t)self->source.commands},
        {TW_STR("tailer_barriers_total"), (int64_t)self->barriers},
        {TW_STR("tailer_held_events_total"), (int64_t)self->held_total},
        {TW_STR("tailer_transaction_pieces_total"), (int64_t)self->pieces},
        {TW_STR("tailer_slowed_total"), (int64_t)self->slowed},
    };
    tw_item_gauge *at =
        tw_arena_alloc(arena, sizeof own + TAILER_REASONS_COUNT * sizeof(tw_item_gauge));
    if (at == NULL) {
        return;
    }
    memcpy(at, own, sizeof own);
    for (size_t i = 0; i < TAILER_REASONS_COUNT; i++) {
        size_t from = scratch->len;
        tw_buf_format(scratch, "tailer_scans_%s_total", reason_texts[i]);
        tw_str name = tw_arena_str(arena, (tw_str){scratch->ptr + from, scratch->len - from});
        at[TW_COUNT(own) + i] = (tw_item_gauge){name, (int64_t)self->rescans[i]};
    }
    *out = (tw_list_gauge){at, TW_COUNT(own) + TAILER_REASONS_COUNT};
}

/* ---- life ---- */

static void change_tailer_fini(void *state)
{
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    change_source_fini(&self->source);
    tailer_scan_fini(self);
    tw_arena_fini(&self->batch);
    tw_buf_fini(&self->token);
    tw_buf_fini(&self->state);
    tw_buf_fini(&self->held);
    tw_free(self->touched);
}

static tw_err change_tailer_init(void *state, tw_actor *actor, const void *options)
{
    struct change_tailer *self = state;
    const change_tailer_options *given = options;
    TW_ASSERT(given != NULL && given->link != NULL && given->catalog != NULL);
    *self = (struct change_tailer){.magic = CHANGE_TAILER_MAGIC,
                                   .actor = actor,
                                   .catalog = given->catalog,
                                   .want_source = true};
    self->touched = tw_alloc_zero(TAILER_TOUCHED_SLOTS, sizeof *self->touched);
    if (self->touched == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_arena_init(&self->batch, TAILER_BATCH_BYTES_MAX);
    tw_buf_init(&self->token, TW_SOURCE_STATE_MAX);
    tw_buf_init(&self->state, TW_SOURCE_STATE_MAX);
    tw_buf_init(&self->held, 2 * (size_t)TW_TRANSACTION_BYTES_MAX);
    tailer_scan_init(self);
    change_source_init(&self->source, given->link);
    self->store = tw_link(actor, "store");
    self->reader = tw_link(actor, "log_reader.0");
    return TW_OK;
}

static void change_tailer_on_drain(void *state)
{
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    self->is_draining = true; /* what was appended is committed by the store's own drain */
    tw_actor_drained(self->actor);
}

const tw_actor_class change_tailer_class = {
    .name = "change_tailer",
    .state_size = sizeof(struct change_tailer),
    .init = change_tailer_init,
    .fini = change_tailer_fini,
    .wait = change_tailer_wait,
    .on_drain = change_tailer_on_drain,
    .gauges = change_tailer_gauges,
};
