/* log_reader.c - the actor that reads the log for others; several may run.
 *
 * Receives  page_read, raw_page_read, log_read (here), get, find, count (log_reader_find.c),
 *           manifest_read, manifest_docs (log_reader_manifest.c), aggregate_run, aggregate_next
 *           (log_reader_aggregate.c)
 * Sends     page, raw_page, log_rows, records, counted, manifest, aggregated
 * Owns      a read-only connection, compiled topic queries
 * Limit     a page ends at TW_PAGE_BYTES, TW_PAGE_ROWS_MAX or TW_PAGE_SCAN_MAX
 * Never     writes, checkpoints, or holds the log's lock while it reads the disk */
#include "actors/log_reader.h"

#include "broker/position.h"

#include "actors/log_reader_priv.h"

tw_err log_reader_refuse(struct log_reader *self, const tw_envelope *in, tw_err err)
{
    TW_ASSERT(err != TW_OK);
    tw_reply_error(in->actor, in->route, err, "%s", self->view.why);
    return TW_OK;
}

/* ---- pages ---- */

typedef struct page_making {
    struct log_reader *reader;
    const topic_query *query;
    tw_arena *arena;        /* of the message */
    tw_item_page_row *rows; /* in arena */
    tw_item_raw_row *raws;  /* in arena; NULL: all is rendered */
    size_t *tail_at;        /* of each row in the reader's text */
    size_t rows_count;
    size_t bytes_max;
    const log_page *page;
    tw_bson old; /* of the row in hand; view */
    bool live;   /* of the row in hand */
} page_making;

static tw_position position_of(const log_row *row, uint64_t srv)
{
    return (tw_position){srv, row->seqno};
}

static unsigned page_meaning(void *context, size_t part, const log_row *row, tw_bson old,
                             uint64_t srv, bool live)
{
    page_making *making = context;
    making->old = old;
    making->live = live;
    return topic_query_meaning(making->query, (int)part, row->flags, row->doc, old,
                               position_of(row, srv), live);
}

static bool page_take(void *context, size_t part, unsigned meaning, const log_row *row,
                      uint64_t srv)
{
    page_making *making = context;
    tw_buf *text = &making->reader->text;
    size_t before = text->len;
    if (making->rows_count == TW_PAGE_ROWS_MAX ||
        (making->rows_count > 0 && before >= making->bytes_max)) {
        return false;
    }
    const topic_change change = {.at = position_of(row, srv),
                                 .flags = row->flags,
                                 .key = row->key,
                                 .version = row->ver,
                                 .doc = meaning == TW_MEANS_PUT ? row->doc : (tw_bson){0},
                                 .db = tw_str_of(making->page->db),
                                 .coll = tw_str_of(making->page->coll),
                                 .prev = making->live ? row->prev : 0,
                                 .old = making->old,
                                 .old_told = making->page->old_told,
                                 .origin = row->by};
    const topic_query_part *of = &making->query->parts[part];
    bool is_raw = making->raws != NULL && meaning == TW_MEANS_PUT && of->rules->processor != NULL;
    tw_key key = making->raws == NULL ? row->key : tw_arena_key(making->arena, row->key);
    if (key.ptr == NULL && row->key.len > 0) {
        return false;
    }
    if (is_raw) {
        topic_query_minimal(of, row->doc, text);
    } else {
        topic_query_render(making->reader->catalog, of, meaning, &change, text);
    }
    if (text->err != TW_OK ||
        (making->rows_count > 0 && text->len > TW_ACTOR_MESSAGE_MAX - 65536)) {
        text->len =
            before; /* it goes into a page of its own; the error says when even that fails */
        return false;
    }
    if (making->raws != NULL) {
        bool had = making->live && making->old.len > 0 && query_match(of->filter, making->old);
        making->raws[making->rows_count] = (tw_item_raw_row){.raw = is_raw,
                                                             .had = had,
                                                             .part = part,
                                                             .flags = row->flags,
                                                             .version = row->ver,
                                                             .key = key};
    }
    making->tail_at[making->rows_count] = before;
    making->rows[making->rows_count++] = (tw_item_page_row){.n = row->n,
                                                            .srv = srv,
                                                            .seqno = row->seqno,
                                                            .type = topic_query_type(of, meaning),
                                                            .tail.len = text->len - before};
    return true;
}

static int page_part_of(void *context, tw_str db, tw_str coll)
{
    const page_making *making = context;
    return topic_query_part_of(making->query, db, coll);
}

tw_err log_reader_parts(const topic_query *asked, tw_arena *arena, log_part **out)
{
    log_part *parts = tw_arena_zero(arena, asked->parts_count + 1, sizeof *parts);
    if (parts == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < asked->parts_count; i++) {
        const topic_query_part *part = &asked->parts[i];
        parts[i].db = tw_str_of(part->db);
        parts[i].name = tw_str_of(part->name);
        parts[i].scope_field = tw_str_of(part->rules->scope_field);
        bool is_exact =
            part->has_scope && part->scope.len > 0 && part->scope.ptr[0] != TW_BSON_DECIMAL128;
        parts[i].scope = is_exact ? part->scope : (tw_key){0};
    }
    *out = parts;
    return TW_OK;
}

/* raws: as many rows, to be filled in; NULL: documents are rendered. */
static tw_err read_page(struct log_reader *self, const tw_envelope *in, const tw_msg_page_read *ask,
                        topic_query *asked, tw_item_raw_row *raws, tw_msg_page *answer,
                        log_page *page)
{
    page_making making = {
        .reader = self, .query = asked, .page = page, .arena = in->arena, .raws = raws};
    making.rows = tw_arena_alloc(in->arena, TW_PAGE_ROWS_MAX * sizeof *making.rows);
    making.tail_at = tw_arena_alloc(in->arena, TW_PAGE_ROWS_MAX * sizeof *making.tail_at);
    making.bytes_max = ask->bytes_max == 0 ? TW_PAGE_BYTES : ask->bytes_max;
    log_part *parts = NULL;
    tw_err err = making.rows == NULL || making.tail_at == NULL
                     ? TW_E_NO_MEMORY
                     : log_reader_parts(asked, in->arena, &parts);
    if (err != TW_OK) {
        return err;
    }
    *page = (log_page){.fresh = ask->fresh || (ask->resume && ask->since.count == 0),
                       .resume = ask->resume && ask->since.count > 0,
                       .now = ask->now,
                       .since = ask->since,
                       .after = ask->after,
                       .w0 = ask->w0};
    const log_page_taker taker = {.context = &making,
                                  .meaning = page_meaning,
                                  .take = page_take,
                                  .part_of = asked->any ? page_part_of : NULL};
    tw_buf_clear(&self->text);
    err = log_page_read(&self->view, in->arena, parts, asked->any ? 0 : asked->parts_count, &taker,
                        page);
    if (err == TW_OK && self->text.err != TW_OK && making.rows_count == 0) {
        err = self->text.err;
    }
    if (err != TW_OK) {
        return err;
    }
    for (size_t i = 0; i < making.rows_count; i++) {
        making.rows[i].tail.ptr = self->text.ptr + making.tail_at[i];
    }
    bool is_reset = page->reset != TW_RESET_NONE;
    *answer = (tw_msg_page){.reset = page->reset,
                            .floor = page->floor,
                            .srv = page->srv,
                            .after = page->after,
                            .w0 = page->w0,
                            .head = page->head,
                            .caught_up = page->caught_up,
                            .follows = page->follows,
                            .at = {page->at, page->at_count},
                            .rows = {making.rows, is_reset ? 0 : making.rows_count}};
    self->pages++;
    self->events += answer->rows.count;
    return TW_OK;
}

static tw_err answer_page(struct log_reader *self, const tw_envelope *in,
                          const tw_msg_page_read *ask, tw_item_raw_row *raws)
{
    tw_err err = log_view_sync(&self->view);
    if (err == TW_OK && !log_store_is_whole(self->view.store)) {
        tw_format(self->view.why, sizeof self->view.why, "the first copy is under way");
        err = TW_E_UNAVAILABLE;
    }
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    topic_query *asked;
    broker_why why = {0};
    err = topic_query_cache_get(&self->queries, self->catalog, ask->query, &asked, &why);
    if (err != TW_OK) {
        tw_reply_error(in->actor, in->route, err, "%s", why.text);
        return TW_OK;
    }
    tw_msg_page answer;
    log_page page;
    self->view.why[0] = '\0';
    err = read_page(self, in, ask, asked, raws, &answer, &page);
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    if (raws == NULL) {
        tw_reply(in->actor, in->route, TW_MSG_page, &answer);
        return TW_OK;
    }
    const tw_msg_raw_page raw = {.reset = answer.reset,
                                 .floor = answer.floor,
                                 .srv = answer.srv,
                                 .after = answer.after,
                                 .w0 = answer.w0,
                                 .head = answer.head,
                                 .caught_up = answer.caught_up,
                                 .follows = answer.follows,
                                 .at = answer.at,
                                 .rows = answer.rows,
                                 .raws = {raws, answer.rows.count}};
    tw_reply(in->actor, in->route, TW_MSG_raw_page, &raw);
    return TW_OK;
}

static tw_err on_page_read(void *state, const tw_envelope *in)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    return answer_page(self, in, &in->body->page_read, NULL);
}

static tw_err on_raw_page_read(void *state, const tw_envelope *in)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    const tw_msg_raw_page_read *raw = &in->body->raw_page_read;
    const tw_msg_page_read ask = {.query = raw->query,
                                  .fresh = raw->fresh,
                                  .resume = raw->resume,
                                  .now = raw->now,
                                  .after = raw->after,
                                  .w0 = raw->w0,
                                  .since = raw->since,
                                  .bytes_max = raw->bytes_max};
    tw_item_raw_row *raws = tw_arena_alloc(in->arena, TW_PAGE_ROWS_MAX * sizeof *raws);
    return raws == NULL ? TW_E_NO_MEMORY : answer_page(self, in, &ask, raws);
}

/* ---- raw rows ---- */

typedef struct raw_making {
    struct log_reader *reader;
    tw_arena *arena;
    tw_item_log_row *rows;
    size_t count, rows_max, bytes, bytes_max;
    uint64_t head, floor, upto;
    position_set at;
} raw_making;

/* What of a row stands in the index: names of its collection and origin. Under the lock. */
static bool name_row(raw_making *making, log_index *index, const log_row *row, tw_item_log_row *out)
{
    const log_incarnation *coll = log_index_incarnation(index, row->coll);
    const log_origin *origin = log_index_origin(index, row->origin);
    if (coll == NULL || origin == NULL || coll->is_void) {
        return false;
    }
    out->srv = origin->srv;
    out->db = tw_arena_str(making->arena, tw_str_of(coll->db));
    out->coll = tw_arena_str(making->arena, tw_str_of(coll->name));
    return out->db.ptr != NULL && out->coll.ptr != NULL;
}

/* Where the version before was not told: those before it, down to the last that was. What is more
 * than the row's message holds is said to be lacking. */
static tw_err add_past(raw_making *making, tw_item_log_row *out, log_row *before)
{
    enum { PAST_BYTES_MAX = 131072 }; /* of one row; it is rare, and there are many rows */
    tw_item_past *past = NULL;
    size_t count = 0;
    tw_err err = TW_OK;
    for (size_t bytes = 0; err == TW_OK && (before->flags & TW_ROW_SILENT) != 0;) {
        if (before->prev == 0) {
            break;
        }
        err = log_table_read(making->reader->view.table, before->prev, before);
        past = past != NULL ? past : tw_arena_alloc(making->arena, TW_PAST_MAX * sizeof *past);
        bytes += before->doc.len;
        if (err != TW_OK || past == NULL || count == TW_PAST_MAX || bytes > PAST_BYTES_MAX) {
            out->lacking = err != TW_E_NOT_FOUND; /* swept: no stream is that old */
            break;
        }
        past[count++].doc = tw_arena_bson(making->arena, before->doc);
        making->bytes += before->doc.len;
    }
    out->past = (tw_list_past){past, count};
    return err == TW_OK || err == TW_E_NOT_FOUND ? TW_OK : err;
}

/* Superseded at or below the floor, and not swept yet: what superseded it may be gone already. */
static bool is_dead(raw_making *making, uint64_t n)
{
    tw_rwlock_read(log_store_lock(making->reader->view.store));
    log_index *index = log_store_index(making->reader->view.store);
    bool dead = index != NULL && log_index_dead(index, n);
    tw_rwlock_done(log_store_lock(making->reader->view.store));
    return dead;
}

static tw_err add_raw(raw_making *making, const log_row *row)
{
    struct log_reader *self = making->reader;
    if (is_dead(making, row->n)) {
        return TW_OK;
    }
    tw_item_log_row *out = &making->rows[making->count];
    *out = (tw_item_log_row){.n = row->n,
                             .seqno = row->seqno,
                             .flags = row->flags,
                             .version = row->ver,
                             .prev = row->prev,
                             .time_ms = row->time_ms,
                             .key = tw_arena_key(making->arena, row->key),
                             .doc = tw_arena_bson(making->arena, row->doc),
                             .origin = tw_arena_str(making->arena, row->by)};
    log_row before = {0};
    tw_err err = row->prev == 0 ? TW_OK : log_table_read(self->view.table, row->prev, &before);
    if (err != TW_OK && err != TW_E_NOT_FOUND) {
        return err == TW_E_CORRUPT ? err : TW_E_UNAVAILABLE;
    }
    bool fits = row->doc.len + before.doc.len + row->key.len + 4096 <= TW_ACTOR_MESSAGE_MAX;
    out->old = fits ? tw_arena_bson(making->arena, before.doc) : (tw_bson){0};
    out->lacking = !fits && before.doc.len > 0;
    bool is_told = (row->flags & TW_ROW_SILENT) == 0;
    err = err == TW_OK && is_told ? add_past(making, out, &before) : TW_OK;
    if (err != TW_OK) {
        return err == TW_E_CORRUPT ? err : TW_E_UNAVAILABLE;
    }
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    bool is_named = index != NULL && name_row(making, index, row, out);
    tw_rwlock_done(log_store_lock(self->view.store));
    if (is_named) {
        making->count++;
        making->bytes += row->doc.len + out->old.len + row->key.len + 128;
    }
    return TW_OK;
}

static tw_err read_raw(raw_making *making, uint64_t after)
{
    log_view *view = &making->reader->view;
    tw_err err = log_view_begin(view);
    uint64_t at = after;
    while (err == TW_OK && making->count < making->rows_max &&
           (making->count == 0 || making->bytes < making->bytes_max)) {
        log_row row;
        err = log_table_scan(view->table, at + 1, &row);
        if (err == TW_E_END || (err == TW_OK && row.n > making->head)) {
            err = TW_OK;
            at = making->head;
            break;
        }
        size_t size = row.doc.len * 2 + making->bytes;
        if (err == TW_OK && making->count > 0 && size > TW_DOCUMENT_MAX) {
            break; /* a large one goes alone */
        }
        if (err == TW_OK) {
            err = add_raw(making, &row);
            at = row.n;
        } else if (err == TW_E_CORRUPT) {
            log_store_report_damage(view->store);
        }
    }
    making->upto = at;
    tw_err end = err == TW_E_UNAVAILABLE && view->table == NULL ? err : log_view_end(view);
    return err == TW_OK ? end : err;
}

static tw_err on_log_read(void *state, const tw_envelope *in)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    const tw_msg_log_read *ask = &in->body->log_read;
    tw_err err = log_view_sync(&self->view);
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    raw_making making = {.reader = self, .arena = &self->memory};
    making.rows_max = ask->rows_max == 0 ? TW_BATCH_ROWS_MAX : ask->rows_max;
    making.bytes_max = ask->bytes_max == 0 ? TW_BATCH_BYTES : ask->bytes_max;
    tw_arena_reset(&self->memory);
    making.rows = tw_arena_alloc(&self->memory, making.rows_max * sizeof *making.rows);
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    making.head = index == NULL ? 0 : log_index_head(index);
    tw_rwlock_done(log_store_lock(self->view.store));
    if (making.rows == NULL) {
        return TW_E_NO_MEMORY;
    }
    err = read_raw(&making, ask->after);
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    tw_rwlock_read(log_store_lock(self->view.store));
    index = log_store_index(self->view.store);
    bool is_open = index != NULL;
    for (size_t i = 0; is_open && i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        bool is_own = origin->id == LOG_ORIGIN_OWN;
        if (is_own && origin->rows == 0 && log_index_origins(index) > 1) {
            continue; /* an image: nothing stands at its own positions */
        }
        uint64_t seqno = log_origin_seqno_at(origin, making.upto);
        tw_err raised = position_set_raise(&making.at, (tw_position){origin->srv, seqno});
        TW_ASSERT(raised == TW_OK); /* as many as a set holds */
    }
    making.floor = is_open ? log_index_floor(index) : 0;
    tw_rwlock_done(log_store_lock(self->view.store));
    self->rows += making.count;
    const tw_msg_log_rows answer = {.srv = log_reader_srv(self),
                                    .head = making.head,
                                    .upto = making.upto,
                                    .floor = making.floor,
                                    .at = position_set_view(&making.at),
                                    .rows = {making.rows, making.count}};
    tw_reply(in->actor, in->route, TW_MSG_log_rows, &answer);
    return TW_OK;
}

/* ---- life ---- */

uint64_t log_reader_srv(struct log_reader *self)
{
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    uint64_t srv = index == NULL ? 0 : log_index_origin(index, LOG_ORIGIN_OWN)->srv;
    tw_rwlock_done(log_store_lock(self->view.store));
    return srv;
}

tw_err log_reader_positions(struct log_reader *self, tw_arena *arena, tw_vector *out)
{
    position_set at = {0};
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    for (size_t i = 0; index != NULL && i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        bool is_own = origin->id == LOG_ORIGIN_OWN;
        if (is_own && origin->rows == 0 && log_index_origins(index) > 1) {
            continue; /* an image: nothing stands at its own positions */
        }
        uint64_t seqno = log_origin_seqno_at(origin, log_index_head(index));
        tw_err err = position_set_raise(&at, (tw_position){origin->srv, seqno});
        TW_ASSERT(err == TW_OK); /* as many as a set holds */
    }
    tw_rwlock_done(log_store_lock(self->view.store));
    *out = tw_arena_vector(arena, position_set_view(&at));
    if (index == NULL) {
        return TW_E_UNAVAILABLE;
    }
    return out->count > 0 && out->at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static void log_reader_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    const tw_item_gauge gauges[] = {
        {.name = TW_STR("pages_total"), .value = (int64_t)self->pages},
        {.name = TW_STR("page_events_total"), .value = (int64_t)self->events},
        {.name = TW_STR("records_read_total"), .value = (int64_t)self->records},
        {.name = TW_STR("raw_rows_total"), .value = (int64_t)self->rows},
        {.name = TW_STR("rows_scanned_total"), .value = (int64_t)self->scanned},
        {.name = TW_STR("manifest_keys_total"), .value = (int64_t)self->manifest_keys},
        {.name = TW_STR("aggregates_done_total"), .value = (int64_t)self->aggregates_done},
        {.name = TW_STR("aggregates_ended_total"), .value = (int64_t)self->aggregates_ended},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

static void log_reader_fini(void *state)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    topic_query_cache_fini(&self->queries);
    log_reader_aggregates_fini(self);
    for (size_t i = 0; i < LOG_READER_CUTS; i++) {
        log_cut_fini(&self->cuts[i]);
    }
    log_view_fini(&self->view);
    tw_arena_fini(&self->memory);
    tw_buf_fini(&self->text);
}

static tw_err log_reader_init(void *state, tw_actor *actor, const void *options)
{
    struct log_reader *self = state;
    const log_reader_options *given = options;
    TW_ASSERT(given != NULL && given->log != NULL && given->catalog != NULL);
    self->magic = LOG_READER_MAGIC;
    self->actor = actor;
    self->catalog = given->catalog;
    self->idle_ms = given->idle_ms != 0 ? given->idle_ms : TW_AGGREGATE_IDLE_MS;
    log_view_init(&self->view, given->log);
    tw_arena_init(&self->memory, LOG_READER_BYTES_MAX);
    tw_buf_init(&self->text, TW_ACTOR_MESSAGE_MAX);
    return TW_OK; /* the connection is made when it is needed: the store may be starting */
}

static void log_reader_on_drain(void *state)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    tw_actor_drained(self->actor);
}

static const tw_handler handlers[] = {
    [TW_MSG_raw_page_read] = on_raw_page_read,
    [TW_MSG_page_read] = on_page_read,
    [TW_MSG_log_read] = on_log_read,
    [TW_MSG_get] = log_reader_on_get,
    [TW_MSG_find] = log_reader_on_find,
    [TW_MSG_count] = log_reader_on_count,
    [TW_MSG_manifest_read] = log_reader_on_manifest_read,
    [TW_MSG_manifest_docs] = log_reader_on_manifest_docs,
    [TW_MSG_aggregate_run] = log_reader_on_aggregate_run,
    [TW_MSG_aggregate_next] = log_reader_on_aggregate_next,
};

const tw_actor_class log_reader_class = {
    .name = "log_reader",
    .state_size = sizeof(struct log_reader),
    .init = log_reader_init,
    .fini = log_reader_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_drain = log_reader_on_drain,
    .gauges = log_reader_gauges,
};
