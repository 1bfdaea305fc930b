/* log_reader_manifest.c - a query's result as it was at one row (the cut): keys and versions page
 * by page, then the documents that are asked for; for log_reader.c.
 *
 * Nothing is kept for the asker: the cut is a row number, and each question stands for itself, at
 * any reader. What newer rows have superseded since is noted in a log_cut and kept for the next
 * question; a reader that has none makes it from the log. */
#include "broker/position.h"

#include "actors/log_reader_priv.h"

enum { MANIFEST_FOUND_MAX = 1024, MANIFEST_BYTES_MAX = 4194304 };

static_assert((int)MANIFEST_BYTES_MAX + (int)MANIFEST_FOUND_MAX * (TW_KEY_MAX + 64) <
                  (int)TW_ACTOR_MESSAGE_MAX,
              "a page fits a message");

typedef struct manifest_making {
    struct log_reader *reader;
    tw_arena *arena;
    topic_query *asked;
    log_part *parts;
    log_cut *cut;
    uint64_t after, head, records;
    tw_vector at;
    tw_item_manifest_entry *entries;
    size_t count, bytes;
    bool complete;
} manifest_making;

static bool is_same_log(const log_view *view)
{
    return log_store_index(view->store) != NULL &&
           log_store_generation(view->store) == view->generation;
}

/* Live records of the query's collections. Under the lock. */
static uint64_t records_of(const topic_query *asked, log_index *index)
{
    uint64_t records = 0;
    for (size_t i = 0; i < asked->parts_count; i++) {
        const topic_query_part *part = &asked->parts[i];
        const log_incarnation *at =
            log_index_named(index, tw_str_of(part->db), tw_str_of(part->name));
        for (; at != NULL && at->dropped == 0; at = log_index_older(index, at)) {
            records += at->is_void ? 0 : at->records;
        }
    }
    return records;
}

/* Where the log stands, and with `at` the positions there: both from one look. */
static tw_err look(manifest_making *making, uint64_t *cut, bool wants_positions)
{
    struct log_reader *self = making->reader;
    position_set at = {0};
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    bool is_same = is_same_log(&self->view);
    bool is_below = false;
    if (is_same) {
        making->head = log_index_head(index);
        *cut = *cut == 0 ? making->head : *cut;
        is_below = *cut < log_index_floor(index);
        making->records = records_of(making->asked, index);
    }
    for (size_t i = 0; is_same && wants_positions && i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        bool is_own = origin->id == LOG_ORIGIN_OWN;
        if (is_own && origin->rows == 0 && log_index_origins(index) > 1) {
            continue; /* as pages tell it */
        }
        uint64_t seqno = log_origin_seqno_at(origin, making->head);
        tw_err raised = position_set_raise(&at, (tw_position){origin->srv, seqno});
        TW_ASSERT(raised == TW_OK); /* as many as a set holds */
    }
    tw_rwlock_done(log_store_lock(self->view.store));
    if (!is_same || is_below) {
        tw_format(self->view.why, sizeof self->view.why, "%s",
                  is_same ? "the log no longer has what the sync began with"
                          : "the store was started anew");
        return is_same ? TW_E_GAP : TW_E_UNAVAILABLE;
    }
    making->at = tw_arena_vector(making->arena, position_set_view(&at));
    return at.count > 0 && making->at.at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static log_cut *cut_of(struct log_reader *self, uint64_t at)
{
    log_cut *oldest = &self->cuts[0];
    for (size_t i = 0; i < LOG_READER_CUTS; i++) {
        log_cut *cut = &self->cuts[i];
        if (cut->used > 0 && cut->at == at && cut->generation == self->view.generation) {
            cut->used = ++self->uses;
            return cut;
        }
        oldest = cut->used < oldest->used ? cut : oldest;
    }
    log_cut_fini(oldest);
    log_cut_init(oldest, at, self->view.generation);
    oldest->used = ++self->uses;
    return oldest;
}

/* A row of the cut. */
static tw_err take_row(manifest_making *making, const log_found *found)
{
    struct log_reader *self = making->reader;
    log_row row;
    tw_err err = log_view_scan(&self->view, found->n, &row);
    if (err != TW_OK || (row.flags & TW_ROW_PUT) == 0) {
        return err == TW_E_NOT_FOUND ? TW_OK : err; /* the floor is looked at afterwards */
    }
    tw_position at = {0, row.seqno};
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    const log_origin *origin = index == NULL ? NULL : log_index_origin(index, row.origin);
    at.srv = origin == NULL ? 0 : origin->srv;
    tw_rwlock_done(log_store_lock(self->view.store));
    if (topic_query_meaning(making->asked, (int)found->part, row.flags, row.doc, (tw_bson){0}, at,
                            false) != TW_MEANS_PUT) {
        return TW_OK;
    }
    tw_key key = tw_arena_key(making->arena, row.key);
    if (key.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    making->entries[making->count++] =
        (tw_item_manifest_entry){.n = row.n, .part = found->part, .version = row.ver, .key = key};
    making->bytes += key.len + 32;
    return TW_OK;
}

static tw_err take_found(manifest_making *making, const log_found *found, size_t count)
{
    log_view *view = &making->reader->view;
    tw_err err = log_cut_extend(making->cut, view, making->head);
    if (err != TW_OK) {
        return err;
    }
    err = log_view_begin(view);
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        if (!found[i].superseded || log_cut_has(making->cut, found[i].n)) {
            err = take_row(making, &found[i]);
        }
    }
    tw_err end = view->table == NULL ? err : log_view_end(view);
    return err == TW_OK ? end : err;
}

static tw_err read_keys(manifest_making *making)
{
    struct log_reader *self = making->reader;
    log_store *store = self->view.store;
    log_found *found = tw_arena_alloc(making->arena, MANIFEST_FOUND_MAX * sizeof *found);
    log_scan scan = {.parts = making->parts,
                     .parts_count = making->asked->parts_count,
                     .after = making->after,
                     .cut = making->cut->at,
                     .looked_max = TW_PAGE_SCAN_MAX};
    tw_err err = found == NULL ? TW_E_NO_MEMORY : TW_OK;
    while (err == TW_OK && !making->complete && scan.looked < scan.looked_max &&
           making->bytes < MANIFEST_BYTES_MAX &&
           making->count + MANIFEST_FOUND_MAX <= TW_MANIFEST_PAGE_MAX) {
        size_t count = 0;
        tw_rwlock_read(log_store_lock(store));
        bool is_same = is_same_log(&self->view);
        if (is_same) {
            log_index *index = log_store_index(store);
            making->complete = log_scan_collect(&scan, index, found, MANIFEST_FOUND_MAX, &count);
            making->head = log_index_head(index);
        }
        tw_rwlock_done(log_store_lock(store));
        if (!is_same) {
            tw_format(self->view.why, sizeof self->view.why, "the store was started anew");
            return TW_E_UNAVAILABLE;
        }
        err = take_found(making, found, count);
        making->after = scan.after;
    }
    self->scanned += scan.looked;
    return err;
}

tw_err log_reader_on_manifest_read(void *state, const tw_envelope *in)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    const tw_msg_manifest_read *ask = &in->body->manifest_read;
    manifest_making making = {.reader = self, .arena = &self->memory, .after = ask->after};
    broker_why why = {0};
    tw_arena_reset(&self->memory);
    self->view.why[0] = '\0';
    tw_err err = log_view_sync(&self->view);
    if (err == TW_OK) {
        err = topic_query_cache_get(&self->queries, self->catalog, ask->query, &making.asked, &why);
        if (err != TW_OK) {
            tw_reply_error(in->actor, in->route, err, "%s", why.text);
            return TW_OK;
        }
        uint64_t cut = ask->cut;
        making.entries =
            tw_arena_alloc(&self->memory, TW_MANIFEST_PAGE_MAX * sizeof *making.entries);
        err = making.entries == NULL ? TW_E_NO_MEMORY : look(&making, &cut, ask->cut == 0);
        making.cut = err == TW_OK ? cut_of(self, cut) : NULL;
        making.complete = cut == 0; /* the log is empty */
    }
    if (err == TW_OK) {
        err = log_reader_parts(making.asked, &self->memory, &making.parts);
    }
    if (err == TW_OK) {
        err = read_keys(&making);
    }
    uint64_t cut = making.cut == NULL ? 0 : making.cut->at;
    tw_vector at = making.at;
    if (err == TW_OK && cut > 0) {
        err = look(&making, &cut, false); /* the floor may have passed the cut meanwhile */
    }
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    self->manifest_keys += making.count;
    const tw_msg_manifest answer = {.srv = log_reader_srv(self),
                                    .cut = cut,
                                    .after = making.after,
                                    .complete = making.complete,
                                    .records = making.records,
                                    .at = at,
                                    .entries = {making.entries, making.count}};
    tw_reply(in->actor, in->route, TW_MSG_manifest, &answer);
    return TW_OK;
}

/* ---- documents ---- */

typedef struct docs_making {
    struct log_reader *reader;
    tw_arena *arena;
    const topic_query *asked;
    const topic_query_part *part;
    bool rendered;
    tw_item_record *records;
    tw_item_page_row *events;
    size_t *at; /* of each in the reader's text */
    size_t count;
} docs_making;

/* Adds a row as an event or as a record; false: there is no room. */
static bool add_doc(docs_making *making, const log_row *row, tw_position at)
{
    tw_buf *text = &making->reader->text;
    size_t before = text->len;
    const topic_change change = {
        .at = at, .flags = row->flags, .key = row->key, .version = row->ver, .doc = row->doc};
    if (making->rendered) {
        topic_query_render(making->reader->catalog, making->part, TW_MEANS_PUT, &change, text);
    } else {
        topic_query_minimal(making->part, row->doc, text);
    }
    bool is_much = making->count > 0 && text->len > TW_ACTOR_MESSAGE_MAX - 2 * 65536;
    tw_key key = tw_arena_key(making->arena, row->key);
    if (text->err != TW_OK || is_much || key.ptr == NULL) {
        text->len = before;
        return false;
    }
    size_t k = making->count++;
    making->at[k] = before;
    making->events[k] = (tw_item_page_row){.n = row->n,
                                           .srv = at.srv,
                                           .seqno = at.seqno,
                                           .type = topic_query_type(making->part, TW_MEANS_PUT),
                                           .tail.len = text->len - before};
    making->records[k] = (tw_item_record){.key = key,
                                          .version = row->ver,
                                          .srv = at.srv,
                                          .seqno = at.seqno,
                                          .doc.len = text->len - before};
    return true;
}

static uint64_t srv_of(struct log_reader *self, uint32_t id)
{
    tw_rwlock_read(log_store_lock(self->view.store));
    log_index *index = log_store_index(self->view.store);
    const log_origin *origin = index == NULL ? NULL : log_index_origin(index, id);
    uint64_t srv = origin == NULL ? 0 : origin->srv;
    tw_rwlock_done(log_store_lock(self->view.store));
    return srv;
}

static tw_err read_docs(docs_making *making, const tw_list_one_id *rows)
{
    struct log_reader *self = making->reader;
    tw_err err = log_view_begin(&self->view);
    bool full = false;
    for (size_t i = 0; err == TW_OK && !full && i < rows->count; i++) {
        log_row row;
        err = log_view_read(&self->view, rows->at[i].id, &row);
        if (err == TW_OK) {
            full = !add_doc(making, &row, (tw_position){srv_of(self, row.origin), row.seqno}) ||
                   self->text.len >= TW_PAGE_BYTES;
        }
    }
    tw_err end = self->view.table == NULL ? err : log_view_end(&self->view);
    if (err == TW_E_NOT_FOUND) {
        tw_format(self->view.why, sizeof self->view.why,
                  "the log no longer has what the sync began with");
        return TW_E_GAP;
    }
    err = err == TW_OK ? end : err;
    return err == TW_OK && making->count == 0 && self->text.err != TW_OK ? self->text.err : err;
}

static void reply_docs(docs_making *making, const tw_envelope *in, size_t asked)
{
    struct log_reader *self = making->reader;
    for (size_t i = 0; i < making->count; i++) {
        const char *bytes = self->text.ptr + making->at[i];
        making->events[i].tail.ptr = bytes;
        making->records[i].doc.ptr = (const uint8_t *)bytes;
    }
    if (making->rendered) {
        const tw_msg_page page = {.rows = {making->events, making->count}};
        tw_reply(in->actor, in->route, TW_MSG_page, &page);
    } else {
        const tw_msg_records records = {.more = making->count < asked,
                                        .items = {making->records, making->count}};
        tw_reply(in->actor, in->route, TW_MSG_records, &records);
    }
    self->records += making->count;
}

tw_err log_reader_on_manifest_docs(void *state, const tw_envelope *in)
{
    struct log_reader *self;
    TW_CAST(self, state, LOG_READER_MAGIC);
    const tw_msg_manifest_docs *ask = &in->body->manifest_docs;
    docs_making making = {.reader = self, .arena = &self->memory, .rendered = ask->rendered};
    topic_query *asked = NULL;
    broker_why why = {0};
    tw_arena_reset(&self->memory);
    tw_buf_clear(&self->text);
    self->view.why[0] = '\0';
    tw_err err = log_view_sync(&self->view);
    if (err == TW_OK) {
        err = topic_query_cache_get(&self->queries, self->catalog, ask->query, &asked, &why);
        if (err != TW_OK || ask->part >= asked->parts_count) {
            err = err == TW_OK ? TW_E_BAD_QUERY : err;
            tw_reply_error(in->actor, in->route, err, "%s", why.text);
            return TW_OK;
        }
        making.asked = asked;
        making.part = &asked->parts[ask->part];
        making.records = tw_arena_alloc(&self->memory, TW_PAGE_ROWS_MAX * sizeof *making.records);
        making.events = tw_arena_alloc(&self->memory, TW_PAGE_ROWS_MAX * sizeof *making.events);
        making.at = tw_arena_alloc(&self->memory, TW_PAGE_ROWS_MAX * sizeof *making.at);
        bool is_made = making.records != NULL && making.events != NULL && making.at != NULL;
        err = is_made ? read_docs(&making, &ask->rows) : TW_E_NO_MEMORY;
    }
    if (err != TW_OK) {
        return log_reader_refuse(self, in, err);
    }
    reply_docs(&making, in, ask->rows.count);
    return TW_OK;
}
