/* request.c - the engine: the life of a request. */
#include "gateways/request/request_priv.h"

/* ---- the life of a request ---- */
static size_t bucket_of(uint64_t tag)
{
    return (size_t)(tw_hash(&tag, sizeof tag, 0) % REQUEST_BUCKETS);
}

request *request_first_of(const request_engine *engine, uint64_t tag)
{
    return engine->tags[bucket_of(tag)];
}

static void free_sync(request *self)
{
    if (self->sync != NULL) {
        TW_ASSERT(self->engine->syncs > 0);
        self->engine->syncs--;
        sync_session_free(&self->sync);
    }
}

static request *take(request_engine *engine, uint64_t tag)
{
    request *self = engine->spare;
    if (self != NULL) {
        engine->spare = self->next;
        engine->spare_count--;
    } else {
        self = tw_alloc_zero(1, sizeof *self);
        if (self == NULL) {
            return NULL;
        }
        self->magic = REQUEST_MAGIC;
        tw_arena_init(&self->arena, REQUEST_MEMORY_MAX);
        tw_buf_init(&self->page, TW_ACTOR_MESSAGE_MAX);
        tw_buf_init(&self->cursor, TW_SEARCH_CURSOR_MAX);
    }
    request **bucket = &engine->tags[bucket_of(tag)];
    self->engine = engine;
    self->tag = tag;
    self->next = *bucket;
    self->link = bucket;
    if (self->next != NULL) {
        self->next->link = &self->next;
    }
    *bucket = self;
    engine->figures.running++;
    return self;
}

static void release(request **at)
{
    request *self = *at;
    *at = NULL;
    free_sync(self);
    rights_drop(&self->rights);
    tw_arena_fini(&self->arena);
    tw_buf_fini(&self->page);
    tw_buf_fini(&self->cursor);
    tw_free(self);
}

/* The whole state but its memory begins anew, so a field that is added cannot be forgotten here. */
static void recycle(request *self)
{
    request_engine *engine = self->engine;
    TW_ASSERT(self->holds == 0 && self->asks == 0 && self->writes_left == 0);
    TW_ASSERT(engine->figures.running > 0);
    TW_ASSERT(self->wake_ms == 0);
    request_search_close(self);
    request_aggregate_close(self);
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    engine->figures.running--;
    engine->figures.done++;
    free_sync(self);
    rights_drop(&self->rights);
    bool large = self->page.cap > TW_PAGE_BYTES * 2;
    if (engine->spare_count >= REQUEST_SPARE_MAX || large) {
        release(&self);
        return;
    }
    tw_arena arena = self->arena;
    tw_buf page = self->page;
    tw_buf cursor = self->cursor;
    tw_arena_reset(&arena);
    tw_buf_clear(&page);
    tw_buf_clear(&cursor);
    memset(self, 0, sizeof *self);
    self->magic = REQUEST_MAGIC;
    self->arena = arena;
    self->page = page;
    self->cursor = cursor;
    self->next = engine->spare;
    engine->spare = self;
    engine->spare_count++;
}

void request_enter(request *self)
{
    TW_ASSERT(self != NULL && self->magic == REQUEST_MAGIC);
    self->holds++;
}

void request_leave(request *self)
{
    TW_ASSERT(self->magic == REQUEST_MAGIC);
    TW_ASSERT(self->holds > 0);
    self->holds--;
    bool over = self->finished || self->forgotten;
    if (over && self->holds == 0 && self->asks == 0 && self->writes_left == 0) {
        recycle(self);
    }
}

void request_pause(request *self, request_step go_on)
{
    TW_ASSERT(!self->paused && !self->finished);
    self->go_on = go_on;
    self->paused = !self->forgotten;
    self->engine->figures.paused += self->paused ? 1 : 0;
}

/* ---- waiting for a time ---- */
static void set_wake(request_engine *engine, uint64_t at_ms)
{
    tw_timer_set(engine->options.actor, at_ms, engine->options.wake, 0);
}

void request_wait(request *self, uint64_t wait_ms, request_step go_on)
{
    enum { TICK_MS = 50 }; /* one timer serves all that wait */
    request_engine *engine = self->engine;
    TW_ASSERT(self->wake_ms == 0 && !self->finished);
    TW_ASSERT(engine->options.wake != NULL);
    if (self->forgotten) {
        return;
    }
    uint64_t now_ms = tw_now_ms(engine->options.actor);
    self->go_on = go_on;
    self->wake_ms = now_ms + wait_ms;
    if (engine->waiting++ == 0) {
        set_wake(engine, now_ms + TICK_MS);
    }
}

static void stop_waiting(request *self)
{
    if (self->wake_ms != 0) {
        TW_ASSERT(self->engine->waiting > 0);
        self->wake_ms = 0;
        self->engine->waiting--;
    }
}

void request_wake(request_engine *engine)
{
    enum { TICK_MS = 50 };
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    uint64_t now_ms = tw_now_ms(engine->options.actor);
    for (size_t i = 0; i < REQUEST_BUCKETS && engine->waiting > 0; i++) {
        request *self = engine->tags[i];
        while (self != NULL) {
            if (self->wake_ms == 0 || self->wake_ms > now_ms) {
                self = self->next;
                continue;
            }
            stop_waiting(self);
            request_enter(self);
            self->go_on(self);
            request_leave(self);
            self = engine->tags[i]; /* the chain may be another now */
        }
    }
    if (engine->waiting > 0) {
        set_wake(engine, now_ms + TICK_MS);
    }
}

/* ---- where a request belongs ---- */
tw_err request_place(const request_engine *engine, const request_given *given,
                     const request_action *action, tw_str *db, tw_str *coll,
                     const catalog_collection **rules, request_why *why)
{
    const catalog *known = engine->options.catalog;
    *db = (given->set & FIELD_BIT(database)) != 0 ? tw_bson_value_str(given->at[FIELD_database])
                                                  : tw_str_of(known->default_database);
    if ((given->set & FIELD_BIT(collection)) != 0) {
        *coll = tw_bson_value_str(given->at[FIELD_collection]);
    } else if (action->default_collection && known->default_collection != NULL) {
        *coll = tw_str_of(known->default_collection);
    } else {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s needs \"collection\".", action->name);
    }
    *rules = catalog_rules(known, *db, *coll);
    if (*rules == NULL) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN, "\"%s\" is not declared on this server.",
                             request_show(*coll).text);
    }
    if ((*rules)->search_store && action->search == SEARCH_NONE) {
        tw_format(why->hint, sizeof why->hint, "Use the actions of /search with \"index\".");
        return broker_refuse(&why->why, TW_E_UNSUPPORTED,
                             "The documents of \"%s\" are in the search engine alone.",
                             request_show(*coll).text);
    }
    if (engine->options.trusted) {
        return TW_OK;
    }
    bool denied = action->right == RIGHT_READ ? (*rules)->read_denied : (*rules)->write_denied;
    if (action->right == RIGHT_DROP && !denied && !request_may_drop(*rules)) {
        tw_format(why->hint, sizeof why->hint, "%s", request_drop_hint);
        denied = true;
    }
    if (action->right == RIGHT_REMOVE && (*rules)->remove_denied) {
        tw_format(why->hint, sizeof why->hint, "Archive it, or ask the server's operator.");
        denied = true;
    }
    if (denied) {
        return broker_refuse(&why->why, TW_E_FORBIDDEN, "Clients may not %s \"%s\".",
                             action->right == RIGHT_READ    ? "read"
                             : action->right == RIGHT_WRITE ? "write"
                             : action->right == RIGHT_DROP  ? "drop"
                                                            : "remove from",
                             request_show(*coll).text);
    }
    return TW_OK;
}

/* ---- public ---- */
tw_err request_engine_new(request_engine **out, const request_options *options)
{
    TW_ASSERT(options->readers_count <= TW_LINKS_MAX);
    TW_ASSERT(options->log_readers_count <= TW_LINKS_MAX);
    TW_ASSERT(options->running_max > 0 && options->catalog->magic == (uint32_t)CATALOG_MAGIC);
    *out = NULL;
    request_engine *engine = tw_alloc_zero(1, sizeof *engine);
    if (engine == NULL) {
        return TW_E_NO_MEMORY;
    }
    engine->magic = REQUEST_ENGINE_MAGIC;
    engine->options = *options;
    if (options->readers_count != 0) {
        memcpy(engine->readers, options->readers,
               options->readers_count * sizeof engine->readers[0]);
    }
    engine->options.readers = engine->readers;
    if (options->log_readers_count != 0) {
        memcpy(engine->log_readers, options->log_readers,
               options->log_readers_count * sizeof engine->log_readers[0]);
    }
    engine->options.log_readers = engine->log_readers;
    tw_buf_init(&engine->reply, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&engine->scratch, TW_ACTOR_MESSAGE_MAX);
    tw_arena_init(&engine->again, TW_ACTOR_MESSAGE_MAX * 2);
    if (!tw_buf_reserve(&engine->reply, TW_ERROR_TEXT_MAX)) { /* so that errors can be told */
        request_engine_free(&engine);
        return TW_E_NO_MEMORY;
    }
    *out = engine;
    return TW_OK;
}

void request_engine_free(request_engine **out)
{
    request_engine *engine = *out;
    *out = NULL;
    if (engine == NULL) {
        return;
    }
    TW_ASSERT(engine->magic == REQUEST_ENGINE_MAGIC);
    for (size_t i = 0; i < REQUEST_BUCKETS; i++) { /* their asks die with the actor */
        while (engine->tags[i] != NULL) {
            request *self = engine->tags[i];
            engine->tags[i] = self->next;
            release(&self);
        }
    }
    while (engine->spare != NULL) {
        request *self = engine->spare;
        engine->spare = self->next;
        release(&self);
    }
    while (engine->spare_batches != NULL) {
        request_batch *batch = engine->spare_batches;
        engine->spare_batches = batch->next;
        request_batch_free(&batch);
    }
    while (engine->sent_batches != NULL) {
        request_batch *batch = engine->sent_batches;
        engine->sent_batches = batch->next;
        request_batch_free(&batch);
    }
    request_batch_free(&engine->queue);
    tw_buf_fini(&engine->reply);
    tw_buf_fini(&engine->scratch);
    tw_arena_fini(&engine->again);
    tw_free(engine);
}

/* Refuses what cannot even become a request. */
static void refuse(request_engine *engine, tw_bson asked, request_emit emit, void *context,
                   uint64_t tag, tw_err code)
{
    tw_buf *reply = &engine->reply;
    tw_bson_builder b;
    tw_buf_clear(&engine->scratch);
    tw_bson_begin(&b, &engine->scratch);
    tw_bson_add_i64(&b, TW_STR("after_ms"), REQUEST_BUSY_MS);
    tw_bson extra = tw_bson_end(&b);
    extra = engine->scratch.err == TW_OK ? extra : (tw_bson){0};
    engine->figures.refused++;
    tw_buf_clear(reply);
    request_error(reply, asked, code, tw_str_of(NULL), tw_str_of(NULL), extra);
    if (reply->err != TW_OK) {
        tw_buf_clear(reply);
        request_error(reply, (tw_bson){0}, code, tw_str_of(NULL), tw_str_of(NULL), (tw_bson){0});
    }
    engine->emitting = true;
    (void)emit(context, tag, (tw_bson){(const uint8_t *)reply->ptr, reply->len}, true);
    engine->emitting = false;
}

static tw_err find_action(request *self, request_why *why)
{
    tw_str name = request_action_name(self->asked);
    if (name.ptr == NULL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"action\" is missing or no text.");
    }
    bool searches = tw_bson_get(self->asked, TW_STR("index")).type != 0; /* update is of both */
    self->action = searches ? request_search_action(name) : NULL;
    self->action = self->action != NULL ? self->action : request_action_find(name);
    if (self->action != NULL) {
        return TW_OK;
    }
    const char *nearest = request_action_nearest(name);
    if (nearest != NULL) {
        tw_format(why->hint, sizeof why->hint, "Did you mean \"%s\"?", nearest);
    }
    return broker_refuse(&why->why, TW_E_UNKNOWN, "There is no action \"%s\".",
                         request_show(name).text);
}

static tw_err prepare(request *self, tw_bson asked, request_why *why)
{
    self->asked = asked; /* for errors, until the copy stands */
    tw_bson copy = tw_arena_bson(&self->arena, asked);
    if (copy.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->asked = copy;
    tw_err err = find_action(self, why);
    if (err == TW_OK) {
        err = request_fields_read(self->action, self->asked, &self->given, why);
    }
    if (err == TW_OK && self->action->search != SEARCH_NONE) {
        err = request_search_place(self, why);
    } else if (err == TW_OK && self->action->right != RIGHT_NONE) {
        err = request_place(self->engine, &self->given, self->action, &self->db, &self->coll,
                            &self->rules, why);
        err = err == TW_OK ? request_allow(self, why) : err;
    }
    return err;
}

void request_run(request_engine *engine, rights *whose, tw_bson asked, request_emit emit,
                 void *context, uint64_t tag)
{
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    TW_ASSERT(!engine->emitting);
    bool full = engine->figures.running >= engine->options.running_max;
    request *self = full ? NULL : take(engine, tag);
    if (self == NULL) {
        refuse(engine, asked, emit, context, tag, full ? TW_E_BUSY : TW_E_NO_MEMORY);
        return;
    }
    self->emit = emit;
    self->context = context;
    self->rights = rights_hold(whose);
    request_why why = {0};
    request_enter(self);
    tw_err err = prepare(self, asked, &why);
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
    } else {
        self->action->start(self);
    }
    request_leave(self);
}

static bool is_engines(const request_action *action)
{
    return action != NULL && (action->search == SEARCH_ENGINE || action->search == SEARCH_ALL);
}

bool request_is_search(tw_bson asked)
{
    tw_str name = request_action_name(asked);
    return name.ptr != NULL && is_engines(request_search_action(name));
}

size_t request_searches_of(const request_engine *engine, uint64_t tag)
{
    size_t count = 0;
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    for (const request *at = engine->tags[bucket_of(tag)]; at != NULL; at = at->next) {
        bool runs = at->tag == tag && !at->finished && !at->forgotten;
        count += runs && is_engines(at->action) ? 1 : 0;
    }
    return count;
}

void request_resume(request_engine *engine, uint64_t tag)
{
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    TW_ASSERT(!engine->emitting);
    uint64_t pass = ++engine->pass;
    request *self = engine->tags[bucket_of(tag)];
    while (self != NULL) {
        if (self->tag != tag || !self->paused || self->forgotten || self->pass == pass) {
            self = self->next;
            continue;
        }
        self->pass = pass;
        self->paused = false;
        engine->figures.paused--;
        request_enter(self);
        self->go_on(self);
        request_leave(self);
        self = engine->tags[bucket_of(tag)]; /* the chain may be another now */
    }
}

void request_forget(request_engine *engine, uint64_t tag)
{
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    request *next = NULL;
    for (request *self = engine->tags[bucket_of(tag)]; self != NULL; self = next) {
        next = self->next;
        if (self->tag != tag || self->forgotten) {
            continue;
        }
        self->forgotten = true;
        stop_waiting(self);
        request_aggregate_close(self);
        if (self->paused) {
            self->paused = false;
            engine->figures.paused--;
        }
        request_enter(self);
        request_leave(self);
    }
}

request_figures request_engine_figures(const request_engine *engine)
{
    return engine->figures;
}
