/* log_reader_find.c - records by key and by query; for log_reader.c.
 *
 * A query that fixes the key looks the key up; one that fixes the collection's scope scans that
 * scope alone; all others scan the collection in order of n. Sorted answers hold what they sort by
 * of at most TW_SORT_MAX records, and read the documents of the window afterwards. An aggregate
 * goes through a collection in the same way, in steps (log_reader_scan). */
#include <stdlib.h>

#include "broker/projection.h"

#include "actors/log_reader_priv.h"

enum {
    FIND_FOUND_MAX = 1024,
    SCAN_LOOKED_MAX = 8192,    /* entries of the index in one step */
    SCAN_BYTES_MAX = 16777216, /* of documents in one step */
};

typedef struct sorted_record {
    uint64_t n;
    const tw_bson_value *values; /* one for each field of the sort */
} sorted_record;

typedef struct sort_field {
    tw_str path;
    int direction;
} sort_field;

typedef struct search {
    struct log_reader *reader;
    tw_arena *arena;
    tw_str db, coll;
    const catalog_collection *rules;
    query *filter;         /* own, but where step is set */
    log_reader_scan *step; /* NULL: an answer is made */
    size_t step_bytes;
    query *match; /* own; NULL: no record is as if missing */
    projection fields;
    tw_item_record *items;
    size_t *doc_at;
    size_t items_count, items_max;
    uint64_t skip;
    size_t bytes_max;
    uint64_t after;
    bool is_full, counts_only, is_enough;
    uint64_t matched;
    sort_field sort[16];
    size_t sort_count;
    sorted_record *sorted; /* in arena */
    size_t sorted_count;
    broker_why why;
} search;

/* ---- what was found ---- */

static bool is_shown(const search *self, tw_bson doc)
{
    return self->match == NULL || query_match(self->match, doc);
}

/* Adds a record to the answer; false: there is no room. */
static bool add_item(search *self, const log_row *row, uint64_t srv)
{
    tw_buf *text = &self->reader->text;
    size_t before = text->len;
    if (self->items_count == self->items_max ||
        (self->items_count > 0 && before >= self->bytes_max)) {
        return false;
    }
    if (self->fields.count == 0) {
        tw_buf_add(text, row->doc.ptr, row->doc.len);
    } else {
        projection_apply(&self->fields, tw_str_of(self->rules->key), row->doc, text);
    }
    bool is_much = self->items_count > 0 && text->len > TW_ACTOR_MESSAGE_MAX - 2 * 65536;
    tw_key key = tw_arena_key(self->arena, row->key);
    if (text->err != TW_OK || is_much || key.ptr == NULL) {
        text->len = before;
        return false;
    }
    self->doc_at[self->items_count] = before;
    self->items[self->items_count++] = (tw_item_record){.key = key,
                                                        .version = row->ver,
                                                        .srv = srv,
                                                        .seqno = row->seqno,
                                                        .doc.len = text->len - before};
    return true;
}

static uint64_t srv_of(search *self, uint32_t origin)
{
    tw_rwlock_read(log_store_lock(self->reader->view.store));
    log_index *index = log_store_index(self->reader->view.store);
    const log_origin *of = index == NULL ? NULL : log_index_origin(index, origin);
    uint64_t srv = of == NULL ? 0 : of->srv;
    tw_rwlock_done(log_store_lock(self->reader->view.store));
    return srv;
}

static tw_err start_items(search *self, size_t max)
{
    self->items_max = max;
    self->items = tw_arena_alloc(self->arena, (max + 1) * sizeof *self->items);
    self->doc_at = tw_arena_alloc(self->arena, (max + 1) * sizeof *self->doc_at);
    tw_buf_clear(&self->reader->text);
    return self->items == NULL || self->doc_at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static tw_err reply_items(search *self, const tw_envelope *in, bool more)
{
    for (size_t i = 0; i < self->items_count; i++) {
        self->items[i].doc.ptr = (const uint8_t *)self->reader->text.ptr + self->doc_at[i];
    }
    tw_msg_records answer = {
        .after = self->after, .more = more, .items = {self->items, self->items_count}};
    tw_err err = log_reader_positions(self->reader, self->arena, &answer.at);
    if (err != TW_OK) {
        return err;
    }
    self->reader->records += self->items_count;
    tw_reply(in->actor, in->route, TW_MSG_records, &answer);
    return TW_OK;
}

/* ---- by key ---- */

/* The row of a key's living version; 0: none. */
static uint64_t row_of_key(search *self, tw_key key)
{
    uint64_t n = 0;
    tw_rwlock_read(log_store_lock(self->reader->view.store));
    log_index *index = log_store_index(self->reader->view.store);
    log_incarnation *coll = index == NULL ? NULL : log_index_named(index, self->db, self->coll);
    for (; n == 0 && coll != NULL && coll->dropped == 0; coll = log_index_older(index, coll)) {
        const log_entry *entry = coll->is_void ? NULL : log_index_find(index, coll->id, key);
        n = entry == NULL || log_entry_deleted(entry) ? 0 : log_entry_n(entry);
    }
    tw_rwlock_done(log_store_lock(self->reader->view.store));
    return n;
}

/* Reads a key's record. A version that is swept while it is read was replaced: looked up anew. */
static tw_err read_key(search *self, tw_key key, log_row *row)
{
    tw_err err = TW_E_NOT_FOUND;
    for (int i = 0; i < 3 && err == TW_E_NOT_FOUND; i++) {
        uint64_t n = row_of_key(self, key);
        if (n == 0) {
            return TW_E_NOT_FOUND;
        }
        err = log_view_read(&self->reader->view, n, row);
    }
    return err;
}

/* filter is the asker's; what does not match `match` is as if missing; len 0: all. */
static tw_err begin_search(search *self, struct log_reader *reader, tw_str db, tw_str coll,
                           tw_bson filter, tw_bson match, tw_bson fields)
{
    *self = (search){.reader = reader, .arena = &reader->memory, .coll = coll};
    tw_arena_reset(&reader->memory);
    reader->view.why[0] = '\0';
    self->db = db.len > 0 ? db : tw_str_of(reader->catalog->default_database);
    self->rules = catalog_rules(reader->catalog, self->db, coll);
    if (self->rules == NULL) {
        return broker_refuse(&self->why, TW_E_FORBIDDEN, "The collection is not declared.");
    }
    tw_err err = projection_init(&self->fields, fields);
    if (err == TW_OK) {
        err = query_compile(filter, &self->filter, &self->why);
    }
    if (err == TW_OK && match.len > 0) {
        err = query_compile_joined(match, &self->match, &self->why);
    }
    return err == TW_OK ? log_view_sync(&reader->view) : err;
}

/* Ends in the error's answer, or in nothing. */
static tw_err end_search(search *self, const tw_envelope *in, tw_err err)
{
    query_free(&self->filter);
    query_free(&self->match);
    if (err != TW_OK) {
        const char *said = self->why.text[0] != '\0' ? self->why.text : self->reader->view.why;
        tw_reply_error(in->actor, in->route, err, "%s", said);
    }
    return TW_OK;
}

tw_err log_reader_on_get(void *state, const tw_envelope *in)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    const tw_msg_get *ask = &in->body->get;
    search self;
    tw_err err =
        begin_search(&self, reader, ask->db, ask->coll, (tw_bson){0}, ask->match, ask->fields);
    if (err == TW_OK) {
        err = start_items(&self, ask->keys.count);
    }
    self.bytes_max = TW_DOCUMENT_MAX;
    bool more = false;
    if (err == TW_OK) {
        err = log_view_begin(&reader->view);
        for (size_t i = 0; err == TW_OK && !more && i < ask->keys.count; i++) {
            log_row row;
            err = ask->keys.at[i].key.len == 0 ? TW_E_NOT_FOUND
                                               : read_key(&self, ask->keys.at[i].key, &row);
            if (err == TW_OK && is_shown(&self, row.doc)) {
                more = !add_item(&self, &row, srv_of(&self, row.origin));
                self.after = i;
            }
            err = err == TW_E_NOT_FOUND ? TW_OK : err;
        }
        tw_err end = log_view_end(&reader->view);
        err = err == TW_OK ? end : err;
    }
    if (err == TW_OK) {
        err = reply_items(&self, in, more);
    }
    return end_search(&self, in, err);
}

/* ---- by query ---- */

static tw_err keep_sorted(search *self, const log_row *row)
{
    if (self->sorted_count == TW_SORT_MAX) {
        return broker_refuse(&self->why, TW_E_TOO_COSTLY, "Too many records to sort.");
    }
    tw_bson_value *values = tw_arena_alloc(self->arena, self->sort_count * sizeof *values);
    bool is_kept = values != NULL;
    for (size_t i = 0; is_kept && i < self->sort_count; i++) {
        tw_bson_value value = tw_bson_get_path(row->doc, self->sort[i].path);
        if (value.type == TW_BSON_ARRAY) { /* its lowest element, or the highest when descending */
            tw_bson_iter element;
            tw_bson_value best = {0};
            for (tw_bson_iter_init(&element, tw_bson_value_doc(value));
                 tw_bson_iter_next(&element);) {
                bool is_better = best.type == 0 ||
                                 tw_bson_compare(element.value, best) * self->sort[i].direction < 0;
                best = is_better ? element.value : best;
            }
            value = best;
        }
        values[i] = value.type == 0 ? (tw_bson_value){TW_BSON_NULL, NULL, 0} : value;
        tw_str copy =
            tw_arena_str(self->arena, (tw_str){(const char *)values[i].ptr, values[i].len});
        is_kept = values[i].len == 0 || copy.ptr != NULL;
        values[i].ptr = (const uint8_t *)copy.ptr;
    }
    if (!is_kept) {
        return broker_refuse(&self->why, TW_E_TOO_COSTLY, "The records to sort are too large.");
    }
    self->sorted[self->sorted_count++] = (sorted_record){row->n, values};
    return TW_OK;
}

/* A row of the scan. */
static tw_err look_at(search *self, const log_row *row)
{
    if ((row->flags & TW_ROW_PUT) == 0 || !query_match(self->filter, row->doc) ||
        !is_shown(self, row->doc)) {
        return TW_OK;
    }
    self->matched++;
    if (self->step != NULL) {
        self->step_bytes += row->doc.len;
        self->is_enough =
            !self->step->take(self->step->context, row->doc) || self->step_bytes >= SCAN_BYTES_MAX;
        return TW_OK;
    }
    if (self->counts_only) {
        return TW_OK;
    }
    if (self->sort_count > 0) {
        return keep_sorted(self, row);
    }
    if (self->skip > 0) {
        self->skip--;
        return TW_OK;
    }
    self->is_full = !add_item(self, row, srv_of(self, row->origin));
    return TW_OK;
}

static tw_err look_at_found(search *self, const log_found *found, size_t count)
{
    log_view *view = &self->reader->view;
    tw_err err = log_view_begin(view);
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        log_row row;
        err = log_view_scan(view, found[i].n, &row);
        if (err == TW_OK) {
            err = look_at(self, &row);
        }
        err = err == TW_E_NOT_FOUND ? TW_OK : err;
        if (self->is_full) {
            break;
        }
        self->after = found[i].n;
        if (self->is_enough) {
            break;
        }
    }
    tw_err end = log_view_end(view);
    return err == TW_OK ? end : err;
}

/* An equality of the filter on this path. */
static bool fixed(const search *self, const char *path, tw_key *out)
{
    query_equality equality;
    for (size_t i = 0; path != NULL && query_equality_at(self->filter, i, &equality); i++) {
        if (tw_str_equal(equality.path, tw_str_of(path))) {
            *out = equality.value;
            return true;
        }
    }
    return false;
}

/* Looks at some more rows, as many as found holds; at_head: those were all. */
static tw_err scan_some(search *self, log_scan *scan, log_found *found, bool *at_head)
{
    log_store *store = self->reader->view.store;
    size_t count = 0;
    tw_rwlock_read(log_store_lock(store));
    log_index *index = log_store_index(store);
    bool is_same = index != NULL && log_store_generation(store) == self->reader->view.generation;
    *at_head = is_same && log_scan_collect(scan, index, found, FIND_FOUND_MAX, &count);
    tw_rwlock_done(log_store_lock(store));
    tw_err err = is_same ? look_at_found(self, found, count) : TW_E_UNAVAILABLE;
    if (self->is_full || self->is_enough) {
        *at_head = false;
    } else {
        self->after = scan->after;
    }
    return err;
}

/* at_head: those were all; false where a step ends before. */
static tw_err scan_all(search *self, bool *at_head)
{
    log_part part = {
        .db = self->db, .name = self->coll, .scope_field = tw_str_of(self->rules->scope_field)};
    tw_key scope;
    if (fixed(self, self->rules->scope_field, &scope) && scope.ptr[0] != TW_BSON_DECIMAL128) {
        part.scope = scope;
    }
    log_found *found = tw_arena_alloc(self->arena, FIND_FOUND_MAX * sizeof *found);
    log_scan scan = {.parts = &part,
                     .parts_count = 1,
                     .after = self->after,
                     .newest_upto = UINT64_MAX,
                     .w0 = UINT64_MAX,
                     .looked_max = self->step != NULL ? SCAN_LOOKED_MAX : TW_FIND_SCAN_MAX};
    tw_err err = found == NULL ? TW_E_NO_MEMORY : TW_OK;
    *at_head = false;
    do {
        err = err == TW_OK ? scan_some(self, &scan, found, at_head) : err;
        if (err == TW_OK && self->step == NULL && !*at_head && scan.looked >= scan.looked_max) {
            err = broker_refuse(&self->why, TW_E_TOO_COSTLY, "Too many records to look at.");
        }
    } while (err == TW_OK && self->step == NULL && !*at_head && !self->is_full);
    self->reader->scanned += scan.looked;
    return err;
}

/* The key is fixed: one look-up. */
static tw_err find_key(search *self, tw_key key)
{
    log_row row;
    tw_err err = log_view_begin(&self->reader->view);
    if (err == TW_OK) {
        err = read_key(self, key, &row);
        if (err == TW_OK && row.n > self->after) {
            err = look_at(self, &row);
        }
        err = err == TW_E_NOT_FOUND ? TW_OK : err;
        tw_err end = log_view_end(&self->reader->view);
        err = err == TW_OK ? end : err;
    }
    return err;
}

static tw_err run_search(search *self, bool *at_head)
{
    tw_key key;
    *at_head = true;
    if (fixed(self, self->rules->key, &key) && key.ptr[0] != TW_BSON_DECIMAL128) {
        return find_key(self, key);
    }
    return scan_all(self, at_head);
}

tw_err log_reader_scan_step(struct log_reader *reader, log_reader_scan *scan)
{
    search self = {.reader = reader,
                   .arena = &reader->memory,
                   .db = scan->db,
                   .coll = scan->coll,
                   .rules = catalog_rules(reader->catalog, scan->db, scan->coll),
                   .filter = scan->filter,
                   .step = scan,
                   .after = scan->after};
    TW_ASSERT(self.rules != NULL); /* log_reader_on_aggregate_run has asked */
    tw_arena_reset(&reader->memory);
    reader->view.why[0] = '\0';
    tw_err err = log_view_sync(&reader->view);
    if (err == TW_OK) {
        err = run_search(&self, &scan->at_head);
    }
    scan->after = self.after;
    return err;
}

static tw_err read_sort(search *self, tw_bson sort)
{
    tw_bson_iter i;
    if (sort.len == 0) {
        return TW_OK;
    }
    for (tw_bson_iter_init(&i, sort); tw_bson_iter_next(&i);) {
        int64_t direction = 0;
        bool is_good = self->sort_count < TW_COUNT(self->sort) && i.name.len > 0 &&
                       tw_bson_value_i64(i.value, &direction) &&
                       (direction == 1 || direction == -1);
        if (!is_good) {
            return broker_refuse(&self->why, TW_E_BAD_QUERY, "sort is {field: 1 or -1}, up to 16.");
        }
        self->sort[self->sort_count++] = (sort_field){i.name, (int)direction};
    }
    self->sorted = self->sort_count == 0
                       ? NULL
                       : tw_arena_alloc(self->arena, TW_SORT_MAX * sizeof *self->sorted);
    return self->sort_count > 0 && self->sorted == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static int compare_sorted(const void *a, const void *b, void *context)
{
    const search *self = context;
    const sorted_record *left = a;
    const sorted_record *right = b;
    for (size_t i = 0; i < self->sort_count; i++) {
        int order = tw_bson_compare(left->values[i], right->values[i]);
        if (order != 0) {
            return order * self->sort[i].direction;
        }
    }
    return left->n < right->n ? -1 : 1; /* a stable order; no row stands twice */
}

/* Reads the documents of the window. One that was replaced meanwhile is left out. */
static tw_err read_window(search *self, bool *more)
{
    qsort_r(self->sorted, self->sorted_count, sizeof *self->sorted, compare_sorted, self);
    tw_err err = log_view_begin(&self->reader->view);
    size_t i = self->skip < self->sorted_count ? (size_t)self->skip : self->sorted_count;
    for (; err == TW_OK && i < self->sorted_count; i++) {
        log_row row;
        err = log_view_read(&self->reader->view, self->sorted[i].n, &row);
        if (err == TW_OK && !add_item(self, &row, srv_of(self, row.origin))) {
            break;
        }
        err = err == TW_E_NOT_FOUND ? TW_OK : err;
    }
    *more = i < self->sorted_count;
    tw_err end = log_view_end(&self->reader->view);
    return err == TW_OK ? end : err;
}

tw_err log_reader_on_find(void *state, const tw_envelope *in)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    const tw_msg_find *ask = &in->body->find;
    search self;
    tw_err err =
        begin_search(&self, reader, ask->db, ask->coll, ask->query, ask->match, ask->fields);
    if (err == TW_OK) {
        err = start_items(&self, ask->limit == 0 ? TW_FIND_MAX : ask->limit);
    }
    if (err == TW_OK) {
        err = read_sort(&self, ask->sort);
    }
    self.skip = ask->skip;
    self.after = self.sort_count == 0 ? ask->after : 0;
    self.bytes_max = ask->bytes_max == 0 ? TW_DOCUMENT_MAX : ask->bytes_max;
    bool at_head;
    if (err == TW_OK) {
        err = run_search(&self, &at_head);
    }
    bool more = self.is_full;
    if (err == TW_OK && self.sort_count > 0) {
        err = read_window(&self, &more);
    }
    if (err == TW_OK && reader->text.err != TW_OK && self.items_count == 0) {
        err = reader->text.err;
    }
    if (err == TW_OK) {
        err = reply_items(&self, in, more);
    }
    return end_search(&self, in, err);
}

/* Counts without reading where the whole collection is asked for. */
static bool count_whole(search *self)
{
    if (!query_matches_all(self->filter) || self->match != NULL) {
        return false;
    }
    tw_rwlock_read(log_store_lock(self->reader->view.store));
    log_index *index = log_store_index(self->reader->view.store);
    log_incarnation *coll = index == NULL ? NULL : log_index_named(index, self->db, self->coll);
    for (; coll != NULL && coll->dropped == 0; coll = log_index_older(index, coll)) {
        self->matched += coll->is_void ? 0 : coll->records;
    }
    tw_rwlock_done(log_store_lock(self->reader->view.store));
    return true;
}

tw_err log_reader_on_count(void *state, const tw_envelope *in)
{
    struct log_reader *reader;
    TW_CAST(reader, state, LOG_READER_MAGIC);
    const tw_msg_count *ask = &in->body->count;
    search self;
    tw_err err =
        begin_search(&self, reader, ask->db, ask->coll, ask->query, ask->match, (tw_bson){0});
    self.counts_only = true;
    bool at_head;
    if (err == TW_OK && !count_whole(&self)) {
        err = run_search(&self, &at_head);
    }
    if (err == TW_OK) {
        const tw_msg_counted answer = {self.matched};
        tw_reply(in->actor, in->route, TW_MSG_counted, &answer);
    }
    return end_search(&self, in, err);
}
