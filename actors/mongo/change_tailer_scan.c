/* change_tailer_scan.c - the copy of a deployment into the log while its stream runs, and the
 * comparison after history was lost; for change_tailer.c.
 *
 * A step reads some documents, then writes a barrier and goes on with the stream until the
 * barrier's event: then all that happened before the reading is in the log, and what was read is
 * right but for records that the stream told of since the scan began. The rows stand at the
 * barrier's position, which no other change has. So positions rise, nothing is told twice, and a
 * scan may stop at any step.
 *
 * The steps of a collection share a cursor, and a server may have read ahead of what it gives: a
 * document is as old as the opening, at most. The log knows of changes since then by its rows, but
 * nothing of a record that was deleted before it was copied: such keys are remembered.
 *
 * First all collections of the deployment are read in order of _id (STAGE_READ). Where the log had
 * records before, those are then looked for in the deployment (STAGE_IMAGE): what is missing there
 * was deleted in the lost history. */
#include "protocol/fault.h"

#include "actors/runtime/log.h"

#include "actors/mongo/change_tailer_priv.h"

enum {
    IMAGE_PAGE_BYTES = 1048576,
    GONE_BYTES_MAX = 4194304, /* of keys; above it the cursor is opened anew */
};

void tailer_scan_init(struct change_tailer *self)
{
    self->scan = (tailer_scan){0};
    tw_buf_init(&self->scan.last_id, TW_DOCUMENT_MAX + 1);
    tw_buf_init(&self->scan.gone, (size_t)TW_DOCUMENT_MAX);
}

void tailer_scan_fini(struct change_tailer *self)
{
    tw_buf_fini(&self->scan.last_id);
    tw_buf_fini(&self->scan.gone);
    tw_free(self->scan.names);
    tw_free(self->scan.image);
    self->scan.names = NULL;
    self->scan.image = NULL;
}

void tailer_scan_begin(struct change_tailer *self, uint64_t from, bool compare)
{
    tailer_scan_fini(self);
    tailer_scan_init(self);
    self->scan.is_active = true;
    self->scan.reason = self->scan_reason;
    self->scan.from = from;
    self->scan.compare = compare;
    self->rescans[self->scan_reason]++;
}

void tailer_scan_forget_batch(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    scan->has_batch = false;
    scan->is_drop = false;
    if (!change_source_is_scanning(&self->source)) {
        scan->is_void = false;
        scan->is_again = false;
        tw_buf_clear(&scan->gone);
    }
}

/* ---- names ---- */

static void set_name(tailer_name *name, tw_str db, tw_str coll)
{
    TW_ASSERT(db.len <= TW_NAME_MAX && coll.len <= TW_NAME_MAX);
    memcpy(name->db, db.ptr, db.len);
    name->db[db.len] = '\0';
    memcpy(name->coll, coll.ptr, coll.len);
    name->coll[coll.len] = '\0';
}

static tw_err add_name(void *context, tw_str db, tw_str coll)
{
    struct change_tailer *self = context;
    tailer_scan *scan = &self->scan;
    if (catalog_rules(self->catalog, db, coll) == NULL) {
        return TW_OK; /* nobody may be told of it */
    }
    if (scan->names_count == scan->names_cap) {
        size_t cap = scan->names_cap == 0 ? 64 : scan->names_cap * 2;
        tailer_name *bigger = tw_realloc(scan->names, cap * sizeof *bigger);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        scan->names = bigger;
        scan->names_cap = cap;
    }
    set_name(&scan->names[scan->names_count++], db, coll);
    return TW_OK;
}

static tw_err load_names(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    scan->names_count = 0;
    scan->names_next = 0;
    tw_err err = change_source_list(&self->source, add_name, self);
    scan->is_loaded = err == TW_OK;
    return err;
}

/* Order of a name in the list: database, then collection. */
static int compare_names(const tailer_name *a, const tailer_name *b)
{
    int order = strcmp(a->db, b->db);
    return order != 0 ? order : strcmp(a->coll, b->coll);
}

static bool is_listed_name(const tailer_scan *scan, const tailer_name *name)
{
    size_t low = 0;
    size_t high = scan->names_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_names(&scan->names[middle], name);
        if (order == 0) {
            return true;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return false;
}

static void begin_name(tailer_scan *scan, const tailer_name *name)
{
    scan->name = *name;
    scan->has_name = true;
    tw_buf_clear(&scan->last_id);
}

/* Chooses the collection to read next; false: there is none. */
static bool choose_name(tailer_scan *scan)
{
    if (!scan->is_listed) {
        if (scan->has_name) { /* behind the one that was under way, in a life before */
            while (scan->names_next < scan->names_count &&
                   compare_names(&scan->names[scan->names_next], &scan->name) <= 0) {
                scan->names_next++;
            }
        }
        if (scan->names_next < scan->names_count) {
            begin_name(scan, &scan->names[scan->names_next++]);
            return true;
        }
        scan->is_listed = true;
    }
    scan->has_name = scan->renamed_count > 0;
    if (scan->has_name) {
        begin_name(scan, &scan->renamed[0]);
    }
    return scan->has_name;
}

/* The collection in hand is done. */
static void end_name(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    scan->done++;
    if (scan->is_listed && scan->renamed_count > 0) {
        scan->renamed_count--;
        memmove(scan->renamed, scan->renamed + 1, scan->renamed_count * sizeof *scan->renamed);
    }
    if (choose_name(scan)) {
        return;
    }
    scan->stage = scan->compare ? STAGE_IMAGE : STAGE_END;
    scan->is_loaded = false;
}

void tailer_scan_rename(struct change_tailer *self, tw_str db, tw_str coll)
{
    tailer_scan *scan = &self->scan;
    if (mongo_link_is_reserved(db) || catalog_rules(self->catalog, db, coll) == NULL ||
        db.len > TW_NAME_MAX || coll.len > TW_NAME_MAX || catalog_check_name(coll) != TW_OK) {
        return;
    }
    if (!scan->is_active) {
        self->scan_reason = TAILER_RENAME;
        tailer_scan_begin(self, self->head, false);
        scan->is_listed = true;
        scan->is_loaded = true;
    } else if (scan->stage != STAGE_READ) { /* read it first */
        scan->stage = STAGE_READ;
        scan->is_listed = true;
        scan->has_name = false;
    }
    if (scan->renamed_count == TAILER_RENAMES_MAX) { /* all are read again: differences alone */
        scan->renamed_count = 0;
        scan->is_listed = false;
        scan->is_loaded = false;
        scan->has_name = false;
        scan->compare = true;
        change_source_scan_end(&self->source);
        return;
    }
    set_name(&scan->renamed[scan->renamed_count++], db, coll);
}

/* ---- what the stream tells meanwhile ---- */

void tailer_scan_note(struct change_tailer *self, const change_event *event)
{
    tailer_scan *scan = &self->scan;
    if ((!scan->has_batch && !change_source_is_scanning(&self->source)) ||
        !tw_str_equal(tw_str_of(scan->name.db), event->db)) {
        return;
    }
    bool is_here = tw_str_equal(tw_str_of(scan->name.coll), event->coll);
    tw_key key;
    if (event->kind == CHANGE_DROP_DB ||
        (is_here && (event->kind == CHANGE_DROP || event->kind == CHANGE_RENAME))) {
        scan->is_void = true;
    } else if (is_here && event->kind == CHANGE_DELETE && scan->stage == STAGE_READ &&
               tw_key_of_value(&self->batch, event->id, &key) == TW_OK) {
        uint32_t len = (uint32_t)key.len;
        tw_buf_add(&scan->gone, &len, sizeof len);
        tw_buf_add(&scan->gone, key.ptr, key.len);
        scan->is_again = scan->is_again || scan->gone.len > GONE_BYTES_MAX;
    }
}

/* Walks the keys in `gone`. */
static bool next_gone(const tailer_scan *scan, size_t *at, tw_key *key)
{
    uint32_t len;
    if (*at + sizeof len > scan->gone.len) {
        return false;
    }
    memcpy(&len, scan->gone.ptr + *at, sizeof len);
    *key = (tw_key){(const uint8_t *)scan->gone.ptr + *at + sizeof len, len};
    *at += sizeof len + len;
    return true;
}

/* The keys in `gone` as an open hash, in the batch's arena. */
typedef struct gone_keys {
    tw_key *slots;
    size_t mask;
} gone_keys;

static tw_err index_gone(struct change_tailer *self, gone_keys *out)
{
    size_t count = 0;
    tw_key key;
    for (size_t at = 0; next_gone(&self->scan, &at, &key);) {
        count++;
    }
    size_t slots = 4;
    while (slots < count * 2) {
        slots *= 2;
    }
    *out = (gone_keys){tw_arena_zero(&self->batch, slots, sizeof *out->slots), slots - 1};
    for (size_t at = 0; out->slots != NULL && next_gone(&self->scan, &at, &key);) {
        size_t slot = tw_hash(key.ptr, key.len, 0) & out->mask;
        while (out->slots[slot].len > 0) {
            slot = (slot + 1) & out->mask;
        }
        out->slots[slot] = key;
    }
    return out->slots == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static bool was_deleted(const gone_keys *gone, tw_key key)
{
    size_t slot = tw_hash(key.ptr, key.len, 0) & gone->mask;
    for (; gone->slots[slot].len > 0; slot = (slot + 1) & gone->mask) {
        if (tw_key_equal(gone->slots[slot], key)) {
            return true;
        }
    }
    return false;
}

/* ---- records of the deployment ---- */

static tw_bson_value last_id(const tailer_scan *scan)
{
    const uint8_t *id = (const uint8_t *)scan->last_id.ptr;
    return scan->last_id.len == 0 ? (tw_bson_value){0}
                                  : (tw_bson_value){id[0], id + 1, scan->last_id.len - 1};
}

static tw_err read_step(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    tw_err err = scan->is_loaded ? TW_OK : load_names(self);
    if (err != TW_OK) {
        return err;
    }
    if (!scan->has_name && !choose_name(scan)) {
        scan->stage = scan->compare ? STAGE_IMAGE : STAGE_END;
        scan->is_loaded = false;
        return TW_OK;
    }
    err = change_source_scan(&self->source, tw_str_of(scan->name.db), tw_str_of(scan->name.coll),
                             last_id(scan), &scan->docs, &scan->is_last);
    if (err != TW_OK) {
        return err;
    }
    if (tw_bson_count(scan->docs) == 0 && !scan->is_last) {
        return TW_OK;
    }
    if (tw_bson_count(scan->docs) == 0) {
        change_source_scan_end(&self->source);
        tailer_scan_forget_batch(self);
        end_name(self);
        return TW_OK;
    }
    scan->has_batch = true;
    return tailer_write_barrier(self, BARRIER_STEP);
}

static void take_docs(struct change_tailer *self, tailer_rows *rows, uint64_t seqno)
{
    tailer_scan *scan = &self->scan;
    unsigned flags = scan->compare ? TW_ROW_SYNTHETIC : 0u;
    tw_str db = tw_arena_str(&self->batch, tw_str_of(scan->name.db));
    tw_str coll = tw_arena_str(&self->batch, tw_str_of(scan->name.coll));
    tw_bson_value last = {0};
    gone_keys gone;
    if (index_gone(self, &gone) != TW_OK) {
        scan->is_again = true; /* no rows: read again */
        return;
    }
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, scan->docs); tw_bson_iter_next(&i);) {
        tw_bson doc = tw_bson_value_doc(i.value);
        tw_key key;
        last = tw_bson_get(doc, TW_STR("_id"));
        scan->documents++;
        if (scan->is_void ||
            (tw_key_of_value(&self->batch, last, &key) == TW_OK && was_deleted(&gone, key))) {
            continue;
        }
        if (tailer_rows_are_full(rows, doc.len)) {
            tailer_append_piece(self, rows, seqno);
        }
        tailer_add_put(self, rows, db, coll, doc, seqno, flags, true);
    }
    tw_buf_clear(&scan->last_id);
    tw_buf_add_byte(&scan->last_id, (char)last.type);
    tw_buf_add(&scan->last_id, last.ptr, last.len);
}

/* ---- records of the log ---- */

/* The keys of a page of the log that the deployment does not have; appended to `gone`. */
static tw_err find_gone(struct change_tailer *self, const tw_list_record *page)
{
    tailer_scan *scan = &self->scan;
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("ids"));
    for (size_t i = 0; i < page->count; i++) {
        tw_bson_add_value(&b, TW_STR(""), tw_key_value(page->at[i].key));
    }
    tw_bson_close(&b);
    tw_bson ids = tw_bson_get_doc(tw_bson_end(&b), TW_STR("ids"));
    tw_bson docs = {0};
    uint64_t seqno;
    bool is_cut = false;
    tw_err err = text.err;
    if (err == TW_OK) {
        err = change_source_find(&self->source, tw_str_of(scan->name.db),
                                 tw_str_of(scan->name.coll), ids, true, &docs, &seqno, &is_cut);
    }
    tw_buf_fini(&text);
    size_t count = err == TW_OK ? tw_bson_count(docs) : 0;
    if (err != TW_OK || count == page->count || is_cut) { /* cut: ids alone never fill a reply */
        return err;
    }
    tw_key *found = tw_arena_alloc(&self->batch, (count + 1) * sizeof *found);
    size_t found_count = 0;
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, docs); found != NULL && tw_bson_iter_next(&i);) {
        tw_bson_value id = tw_bson_get(tw_bson_value_doc(i.value), TW_STR("_id"));
        found_count += tw_key_of_value(&self->batch, id, &found[found_count]) == TW_OK;
    }
    for (size_t k = 0; found != NULL && k < page->count; k++) {
        bool is_there = false;
        for (size_t m = 0; m < found_count && !is_there; m++) {
            is_there = tw_key_equal(found[m], page->at[k].key);
        }
        uint32_t len = (uint32_t)page->at[k].key.len;
        if (!is_there) {
            tw_buf_add(&scan->gone, &len, sizeof len);
            tw_buf_add(&scan->gone, page->at[k].key.ptr, len);
        }
    }
    return found == NULL ? TW_E_NO_MEMORY : scan->gone.err;
}

static void on_page(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    tailer_scan *scan = &self->scan;
    self->asking--;
    if (tag != self->life || !scan->is_active || scan->stage != STAGE_IMAGE ||
        self->phase != PHASE_TAIL || (err != TW_OK && err != TW_E_NOT_FOUND)) {
        return; /* asked again by the next step */
    }
    const tw_msg_records *page = err == TW_OK ? &in->body->records : NULL;
    tw_buf_clear(&scan->gone);
    bool is_empty = page == NULL || page->items.count == 0;
    err = is_empty || scan->is_drop ? TW_OK : find_gone(self, &page->items);
    if (err != TW_OK) {
        tailer_trouble(self);
        return;
    }
    scan->image_then = page == NULL ? scan->image_after : page->after;
    scan->image_more = page != NULL && page->more;
    if (is_empty || (scan->gone.len == 0 && !scan->is_drop)) {
        scan->image_after = scan->image_then;
        scan->is_drop = false;
        scan->has_name = scan->image_more;
        return;
    }
    scan->has_batch = true;
    if (tailer_write_barrier(self, BARRIER_STEP) != TW_OK) {
        tailer_trouble(self);
    }
}

static void ask_page(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, 256);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("fields"));
    tw_bson_add_str(&b, TW_STR(""), TW_STR("_id"));
    tw_bson_close(&b);
    tw_bson made = tw_bson_end(&b);
    const tw_msg_find find = {.db = tw_str_of(scan->name.db),
                              .coll = tw_str_of(scan->name.coll),
                              .fields = tw_bson_get_doc(made, TW_STR("fields")),
                              .limit = TW_SCAN_ROWS_MAX,
                              .after = scan->image_after,
                              .bytes_max = IMAGE_PAGE_BYTES};
    self->asking++;
    tw_ask(self->actor, self->reader, TW_MSG_find, &find, TW_ASK_TIMEOUT_MS, on_page, NULL,
           self->life);
    tw_buf_fini(&text);
}

static void on_collections(void *state, void *context, uint64_t tag, tw_err err,
                           const tw_envelope *in)
{
    (void)context;
    struct change_tailer *self;
    TW_CAST(self, state, CHANGE_TAILER_MAGIC);
    tailer_scan *scan = &self->scan;
    self->asking--;
    if (err != TW_OK || tag != self->life || !scan->is_active || scan->stage != STAGE_IMAGE) {
        return;
    }
    const tw_list_collection_state *told = &in->body->log_state.collections;
    tailer_name *names = tw_alloc_zero(told->count + 1, sizeof *names);
    if (names == NULL) {
        tw_actor_fail(self->actor, TW_E_NO_MEMORY, "no memory for the names of collections");
        return;
    }
    for (size_t i = 0; i < told->count; i++) {
        set_name(&names[i], told->at[i].db, told->at[i].coll);
    }
    scan->image = names;
    scan->image_count = told->count;
    scan->image_next = 0;
    scan->has_name = false;
}

/* Looks for the next page of the log's records in the deployment. */
static tw_err image_step(struct change_tailer *self)
{
    tailer_scan *scan = &self->scan;
    if (!scan->is_loaded) {
        tw_err err = load_names(self);
        if (err != TW_OK) {
            return err;
        }
    }
    if (scan->image == NULL) {
        const tw_msg_log_state_ask ask = {.counts = true};
        self->asking++;
        tw_ask(self->actor, self->store, TW_MSG_log_state_ask, &ask, TW_ASK_TIMEOUT_MS,
               on_collections, NULL, self->life);
        return TW_OK;
    }
    if (!scan->has_name) {
        if (scan->image_next == scan->image_count) {
            scan->stage = STAGE_END;
            return TW_OK;
        }
        begin_name(scan, &scan->image[scan->image_next++]);
        scan->image_after = 0;
        scan->is_drop = !is_listed_name(scan, &scan->name);
    }
    ask_page(self);
    return TW_OK;
}

static void take_gone(struct change_tailer *self, tailer_rows *rows, uint64_t seqno)
{
    tailer_scan *scan = &self->scan;
    tw_str db = tw_arena_str(&self->batch, tw_str_of(scan->name.db));
    tw_str coll = tw_arena_str(&self->batch, tw_str_of(scan->name.coll));
    tw_key key;
    if (scan->is_drop && !scan->is_void) {
        tailer_add_end(self, rows, db, coll, (tw_key){0}, seqno, TW_ROW_DROP | TW_ROW_SYNTHETIC,
                       true);
    }
    for (size_t at = 0; !scan->is_drop && !scan->is_void && next_gone(scan, &at, &key);) {
        tailer_add_end(self, rows, db, coll, tw_arena_key(&self->batch, key), seqno,
                       TW_ROW_DELETE | TW_ROW_SYNTHETIC, true);
    }
    if (scan->is_drop) { /* what was left of it, record by record */
        scan->is_drop = false;
        scan->image_after = 0;
        return;
    }
    scan->image_after = scan->image_then;
    scan->has_name = scan->image_more;
}

/* ---- steps ---- */

tw_err tailer_scan_step(struct change_tailer *self)
{
    TW_ASSERT(self->scan.is_active && self->barrier == BARRIER_NONE);
    switch (self->scan.stage) {
    case STAGE_READ:
        return read_step(self);
    case STAGE_IMAGE:
        return image_step(self);
    case STAGE_END:
        break;
    }
    tw_fault("tailer_between_barriers");
    return tailer_write_barrier(self, BARRIER_END);
}

void tailer_scan_take(struct change_tailer *self, tailer_rows *rows, uint64_t seqno)
{
    tailer_scan *scan = &self->scan;
    size_t first = rows->count;
    if (!scan->has_batch) {
        return;
    }
    bool is_read = scan->stage == STAGE_READ;
    if (is_read && !scan->is_again) {
        take_docs(self, rows, seqno);
    } else if (!is_read) {
        take_gone(self, rows, seqno);
    }
    bool is_last = is_read && scan->is_last && !scan->is_again && scan->has_name;
    if (scan->is_void || scan->is_again) {
        change_source_scan_end(&self->source);
    }
    for (size_t i = first; i < rows->count; i++) {
        rows->at[i].more = i + 1 < rows->count;
        rows->at[i].flags |= TW_ROW_MULTI;
    }
    tailer_scan_forget_batch(self);
    if (is_last) {
        end_name(self);
    }
}
