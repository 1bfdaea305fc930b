/* embedded_search.c - the actor that answers searches without a server, from a file of its own.
 *
 * Receives  search_ask; log_batch (embedded_search_follow.c)
 * Sends     log_state_ask (store), log_read, get (log_reader.0)
 * Owns      search.db (embedded_search_table.c): each document that is searched, its terms, and how
 *           far the log was followed, all in one transaction
 * Limit     TW_SEARCH_RUNNING_MAX searches, then TW_E_BUSY; EMBEDDED_STEP documents of one search,
 *           then the next one's turn
 * Never     believes its file more than the log: another log, or a damaged file, and it begins at
 *           the log's first row; a floor that has passed it, and each document is asked for
 *
 * The index gives way to all others (embedded_search_follow.c), searches do not: one that comes
 * while it is a little behind has the rest read first, so that it sees all that was published
 * before it. */
#include "actors/search/embedded_search.h"

#include "protocol/codec.h"

#include "actors/search/embedded_search_priv.h"

enum {
    TICK_MS = 200,
    PATH_LEN = 4200,
    FRESH_ROWS = 1024, /* that a search has read first; further behind it sees what is there */
    FRESH_MS = 100,    /* it waits so long for them; then it sees what is there */
    WAITING_MS = 5,    /* between two looks at what searches wait for */
};

embedded_search *embedded_search_of(void *state)
{
    embedded_search *self;
    TW_CAST(self, state, EMBEDDED_MAGIC);
    return self;
}

embedded_table *embedded_search_table(embedded_search *self)
{
    return self->table;
}

void embedded_search_rebuild(embedded_search *self)
{
    self->rebuild = true;
}

void embedded_search_broken(embedded_search *self, tw_err err)
{
    tw_actor_fail(self->actor, err, "%s", embedded_table_why(self->table));
}

/* ---- searches ---- */
static void release(embedded_job *job)
{
    for (size_t i = 0; i < job->targets_count; i++) {
        query_free(&job->targets[i].filter);
    }
    tw_arena_fini(&job->arena);
    tw_buf_fini(&job->built);
    tw_free(job);
}

void embedded_job_answer(embedded_job *job, const tw_msg_search_answer *given)
{
    embedded_search *self = job->search;
    tw_msg_search_answer answer = *given;
    answer.as_of = position_set_view(embedded_table_at(self->table));
    self->answered++;
    tw_reply(self->actor, &job->route, TW_MSG_search_answer, &answer);
}

static void refuse(embedded_job *job, tw_err err)
{
    job->search->failed++;
    tw_reply_error(job->search->actor, &job->route, err, "%s",
                   job->why.text[0] == '\0' ? tw_err_text(err) : job->why.text);
}

void embedded_search_interrupt(embedded_search *self)
{
    for (embedded_job **at = &self->first; *at != NULL;) {
        embedded_job *job = *at;
        if (!job->begun) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        self->running--;
        refuse(job, TW_E_UNAVAILABLE);
        release(job);
    }
}

static bool is_reached(const embedded_job *job)
{
    const embedded_search *self = job->search;
    if (embedded_table_reached(self->table)->n < job->wanted &&
        tw_now_ms(self->actor) < job->fresh_ms) {
        return false;
    }
    tw_vector wanted = job->asked.search_ask.min_since;
    tw_vector at = position_set_view(embedded_table_at(self->table));
    for (size_t i = 0; i < wanted.count; i++) {
        if (!position_vector_covers(at, wanted.at[i])) {
            return false;
        }
    }
    return true;
}

/* A search whose index is on its way sees what is there, as an engine's does. */
static tw_err add_target(embedded_job *job, embedded_collection *held, tw_bson filter)
{
    embedded_target *target = &job->targets[job->targets_count];
    *target = (embedded_target){.collection = held};
    job->targets_count++;
    return filter.len > 5 ? query_compile_joined(filter, &target->filter, &job->why) : TW_OK;
}

/* An empty name stands for every collection that is not declared. */
static tw_err find_targets(embedded_job *job)
{
    embedded_search *self = job->search;
    const tw_list_search_target *asked = &job->asked.search_ask.targets;
    tw_err err = TW_OK;
    size_t room = asked->count;
    embedded_collection *each = embedded_table_collections(self->table);
    for (; each != NULL; each = each->next) {
        room++;
    }
    job->targets = tw_arena_zero(&job->arena, room + 1, sizeof *job->targets);
    if (job->targets == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < asked->count && err == TW_OK; i++) {
        const tw_item_search_target *one = &asked->at[i];
        if (one->coll.len > 0) {
            embedded_collection *held =
                embedded_table_collection(self->table, one->db, one->coll, true);
            err = held == NULL ? TW_E_NOT_FOUND : add_target(job, held, one->filter);
            continue;
        }
        for (each = embedded_table_collections(self->table); each != NULL && err == TW_OK;
             each = each->next) {
            bool declared = catalog_find(self->options->catalog, each->db, each->name) != NULL;
            err = !declared && tw_str_equal(each->db, one->db)
                      ? add_target(job, each, (tw_bson){NULL, 0})
                      : TW_OK;
        }
    }
    return err;
}

static tw_err work_on(embedded_job *job, bool *done)
{
    tw_err err = TW_OK;
    if (tw_now_ms(job->search->actor) >= job->deadline_ms) {
        return TW_E_TIMEOUT;
    }
    if (!job->begun) {
        if (!is_reached(job)) {
            return TW_OK;
        }
        job->begun = true;
        err = find_targets(job);
        if (err == TW_OK && job->function->begin != NULL) {
            err = job->function->begin(job);
        }
    }
    if (err == TW_OK) {
        err = embedded_job_step(job, done);
    }
    return err == TW_OK && *done ? job->function->end(job) : err;
}

static void on_turn_again(void *state, uint64_t tag);

void embedded_search_work(embedded_search *self)
{
    bool waiting = false;
    for (embedded_job **at = &self->first; *at != NULL;) {
        embedded_job *job = *at;
        bool done = false;
        tw_err err = work_on(job, &done);
        if (err == TW_OK && !done) {
            waiting = waiting || job->begun;
            at = &job->next;
            continue;
        }
        *at = job->next;
        self->running--;
        if (err != TW_OK) {
            refuse(job, err);
        }
        release(job);
        if (err == TW_E_CORRUPT) {
            embedded_search_broken(self, err);
            return;
        }
    }
    if (waiting) {
        tw_timer_set(self->actor, tw_now_ms(self->actor), on_turn_again, 0);
    } else if (self->first != NULL) { /* for a position or a deadline */
        tw_timer_set(self->actor, tw_now_ms(self->actor) + WAITING_MS, on_turn_again, 0);
    }
}

static void on_turn_again(void *state, uint64_t tag)
{
    (void)tag;
    embedded_search_work(embedded_search_of(state));
}

static embedded_job *make_job(embedded_search *self, const tw_envelope *in)
{
    embedded_job *job = tw_alloc_zero(1, sizeof *job);
    uint64_t number = 0;
    tw_msg_id id;
    if (job == NULL) {
        return NULL;
    }
    *job = (embedded_job){.magic = EMBEDDED_JOB_MAGIC, .search = self, .route = *in->route};
    tw_arena_init(&job->arena, EMBEDDED_JOB_MEMORY_MAX);
    tw_buf_init(&job->built, TW_DOCUMENT_MAX);
    tw_str bytes = tw_arena_str(&job->arena, in->bytes); /* the message dies with its handler */
    if (bytes.ptr == NULL ||
        tw_message_decode(&job->arena, bytes, &id, &number, &job->asked) != TW_OK) {
        release(job);
        return NULL;
    }
    return job;
}

static tw_err on_search_ask(void *state, const tw_envelope *in)
{
    embedded_search *self = embedded_search_of(state);
    const tw_msg_search_ask *asked = &in->body->search_ask;
    const embedded_function *function = embedded_function_of(asked->function);
    if (asked->close) { /* a cursor holds nothing here */
        tw_reply(self->actor, in->route, TW_MSG_done, &(tw_msg_done){0});
        return TW_OK;
    }
    if (function == NULL) {
        return TW_E_UNKNOWN;
    }
    if (self->running >= TW_SEARCH_RUNNING_MAX) {
        self->refused++;
        return TW_E_BUSY;
    }
    embedded_job *job = make_job(self, in);
    if (job == NULL) {
        return TW_E_NO_MEMORY;
    }
    job->function = function;
    job->deadline_ms = tw_now_ms(self->actor) + asked->deadline_ms;
    embedded_job **last = &self->first;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = job;
    self->running++;
    if (embedded_follow_behind(self) <= FRESH_ROWS) {
        uint32_t fresh_ms = self->options->fresh_ms;
        job->wanted = self->log.head;
        job->fresh_ms = tw_now_ms(self->actor) + (fresh_ms != 0 ? fresh_ms : FRESH_MS);
    }
    embedded_search_work(self);
    embedded_follow(self); /* if it waits */
    return TW_OK;
}

/* ---- life ---- */
static void on_tick(void *state, uint64_t tag)
{
    embedded_search *self = embedded_search_of(state);
    if (self->log.srv == 0 || tag % 3 == 0) {
        log_link_ask(&self->log);
    }
    embedded_follow(self);
    tw_timer_set(self->actor, tw_now_ms(self->actor) + TICK_MS, on_tick, (tag + 1) % 3);
}

static void embedded_search_gauges(void *state, tw_buf *scratch, tw_arena *arena,
                                   tw_list_gauge *out)
{
    (void)scratch;
    const embedded_search *self = embedded_search_of(state);
    const struct {
        const char *name;
        uint64_t value;
    } told[] = {
        {"search_running", self->running},
        {"search_answered_total", self->answered},
        {"search_failed_total", self->failed},
        {"search_refused_total", self->refused},
        {"index_documents", embedded_table_docs(self->table)},
        {"index_rows_total", self->rows},
        {"index_rebuilds_total", self->rebuilds},
        {"index_checks_total", self->checks},
        {"index_behind_rows", embedded_follow_behind(self)},
        {"index_waits_for_room", self->full_wait_ms > 0},
    };
    tw_item_gauge *items = tw_arena_zero(arena, TW_COUNT(told), sizeof *items);
    for (size_t i = 0; items != NULL && i < TW_COUNT(told); i++) {
        items[i].name = tw_str_of(told[i].name);
        items[i].value = (int64_t)told[i].value;
    }
    *out = (tw_list_gauge){items, items == NULL ? 0 : TW_COUNT(told)};
}

static void embedded_search_fini(void *state)
{
    embedded_search *self = embedded_search_of(state);
    while (self->first != NULL) {
        embedded_job *job = self->first;
        self->first = job->next;
        release(job);
    }
    embedded_follow_fini(self);
    embedded_table_close(&self->table);
}

static tw_err embedded_search_init(void *state, tw_actor *actor, const void *given)
{
    embedded_search *self = state;
    const embedded_search_options *options = given;
    char path[PATH_LEN];
    *self = (embedded_search){.magic = EMBEDDED_MAGIC, .actor = actor, .options = options};
    tw_format(path, sizeof path, "%s/search.db", options->directory);
    tw_err err = embedded_table_open(&self->table, options->catalog, options->memory ? NULL : path);
    err = err == TW_OK ? embedded_follow_init(self) : err;
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "%s", embedded_table_why(self->table));
        embedded_search_fini(self);
        return err;
    }
    tw_timer_set(actor, tw_now_ms(actor), on_tick, 0);
    return TW_OK;
}

static const tw_handler handlers[] = {
    [TW_MSG_log_batch] = embedded_follow_on_batch,
    [TW_MSG_search_ask] = on_search_ask,
};

const tw_actor_class embedded_search_class = {
    .name = "embedded_search",
    .state_size = sizeof(embedded_search),
    .init = embedded_search_init,
    .fini = embedded_search_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_gap = embedded_follow_on_gap,
    .waits_for_idle = true,
    .gauges = embedded_search_gauges,
};
