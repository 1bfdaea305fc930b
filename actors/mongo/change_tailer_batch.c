/* change_tailer_batch.c - the events of a getMore become rows of an append; for change_tailer.c.
 *
 * 1. Events that share a position are a transaction: they stand in one append, the last one marked.
 *    A batch that ends inside one is held until its end has come, up to TW_TRANSACTION_*_MAX.
 * 2. An update that comes without its version goes to the log as the change that it is, where the
 *    store makes the version from the one before: what is told at a position is what was written
 *    there. Beside it goes what was looked up, once a batch and collection, for a record that the
 *    log does not have yet.
 * 3. Where the change cannot be taken so (truncated arrays; a record that a scan may not have
 *    read) what was looked up is told. It is at least as new as the event: later events of that
 *    record, up to the position that the look-up reflects, are looked up as well, so that nothing
 *    older is told after it. A record that is gone by then waits for its delete event. */
#include "protocol/fault.h"

#include "actors/runtime/log.h"

#include "actors/mongo/change_tailer_priv.h"

enum { APPEND_ROWS = 1000 /* closes an append between transactions */ };

/* What is made of a batch. */
typedef struct taking {
    struct change_tailer *self;
    change_event *events; /* in the batch's arena */
    tw_bson *raw;
    tw_bson *changes; /* of each event; len 0: none that the store can take */
    size_t count;
    tailer_rows rows;
} taking;

/* ---- rows ---- */

tw_err tailer_rows_init(struct change_tailer *self, tailer_rows *rows)
{
    *rows = (tailer_rows){0};
    rows->at = tw_arena_alloc(&self->batch, TW_BATCH_ROWS_MAX * sizeof *rows->at);
    return rows->at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

/* A record or collection that nobody can be told of is left out, and counted. */
static void leave_out(struct change_tailer *self, tw_str db, tw_str coll, const char *why)
{
    self->unfit++;
    if ((self->unfit & (self->unfit - 1)) == 0) {
        tw_log(TW_LOG_WARN, tw_actor_name(self->actor), "left out of %.*s.%.*s: %s (%llu so far)",
               (int)db.len, db.ptr, (int)coll.len, coll.ptr, why, (unsigned long long)self->unfit);
    }
}

static bool is_told(struct change_tailer *self, tw_str db, tw_str coll)
{
    if (mongo_link_is_reserved(db) || catalog_rules(self->catalog, db, coll) == NULL) {
        return false;
    }
    if (db.len > TW_NAME_MAX || coll.len > TW_NAME_MAX || catalog_check_name(db) != TW_OK ||
        (coll.len > 0 && catalog_check_name(coll) != TW_OK)) {
        leave_out(self, db, coll, "the name is too long, or not allowed");
        return false;
    }
    return true;
}

static void add_row(tailer_rows *rows, const tw_item_append_row *row)
{
    TW_ASSERT(rows->count < TW_BATCH_ROWS_MAX);
    rows->at[rows->count++] = *row;
    rows->bytes += row->doc.len + row->change.len + row->key.len + row->db.len + row->coll.len + 64;
}

/* {"_id": ...} of a record whose document cannot be kept. */
static tw_bson only_id(struct change_tailer *self, tw_bson stored)
{
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_add_value(&b, TW_STR("_id"), tw_bson_get(stored, TW_STR("_id")));
    tw_bson made = tw_bson_end(&b);
    tw_bson kept = text.err == TW_OK ? tw_arena_bson(&self->batch, made) : (tw_bson){0};
    tw_buf_fini(&text);
    return kept;
}

void tailer_add_put(struct change_tailer *self, tailer_rows *rows, tw_str db, tw_str coll,
                    tw_bson stored, uint64_t seqno, unsigned flags, bool scan)
{
    if (!is_told(self, db, coll)) {
        return;
    }
    const catalog_collection *rules = catalog_rules(self->catalog, db, coll);
    tw_bson checked;
    if (tw_bson_validate(stored.ptr, stored.len, TW_DEPTH_MAX, &checked) != TW_OK) {
        leave_out(self, db, coll, "a document is nested too deeply or damaged; its _id is told");
        checked = only_id(self, stored);
    }
    tw_item_append_row row = {.flags = TW_ROW_PUT | flags,
                              .scan = scan,
                              .seqno = seqno,
                              .db = db,
                              .coll = coll,
                              .version =
                                  change_version(checked, tw_str_of(rules->version_field), seqno)};
    int64_t version;
    if (mongo_link_record(rules, &self->batch, checked, &row.key, &version, &row.doc) != TW_OK ||
        row.key.len > TW_KEY_MAX) {
        leave_out(self, db, coll, "a record's _id cannot be a key");
        return;
    }
    add_row(rows, &row);
}

void tailer_add_end(struct change_tailer *self, tailer_rows *rows, tw_str db, tw_str coll,
                    tw_key key, uint64_t seqno, unsigned flags, bool scan)
{
    if (is_told(self, db, coll)) {
        const tw_item_append_row row = {
            .flags = flags, .scan = scan, .seqno = seqno, .db = db, .coll = coll, .key = key};
        add_row(rows, &row);
    }
}

/* ---- updates as changes ---- */

/* {$set: ..., $unset: ...} of an update event; len 0: it does not say, or not in so few bytes. */
static tw_bson change_of(struct change_tailer *self, const change_event *event)
{
    size_t removed = event->removed.len > 0 ? tw_bson_count(event->removed) : 0;
    tw_buf text;
    tw_bson_builder b;
    if (event->kind != CHANGE_LOOK_UP || (removed == 0 && tw_bson_count(event->set) == 0)) {
        return (tw_bson){0};
    }
    tw_buf_init(&text, TW_DOCUMENT_MAX / 2);
    tw_bson_begin(&b, &text);
    if (tw_bson_count(event->set) > 0) {
        tw_bson_add_doc(&b, TW_STR("$set"), event->set);
    }
    if (removed > 0) {
        tw_bson_open_doc(&b, TW_STR("$unset"));
        tw_bson_iter i;
        for (tw_bson_iter_init(&i, event->removed); tw_bson_iter_next(&i);) {
            tw_bson_add_bool(&b, tw_bson_value_str(i.value), true);
        }
        tw_bson_close(&b);
    }
    tw_bson made = tw_bson_end(&b);
    tw_bson kept = text.err == TW_OK ? tw_arena_bson(&self->batch, made) : (tw_bson){0};
    tw_buf_fini(&text);
    return kept;
}

/* The row of an update: its change, and what was looked up where that fits beside it. */
static void add_change(taking *take, const change_event *event, tw_bson change)
{
    struct change_tailer *self = take->self;
    tailer_rows *rows = &take->rows;
    size_t before = rows->count;
    const catalog_collection *rules = catalog_rules(self->catalog, event->db, event->coll);
    tw_key key;
    if (event->doc.len > 0) {
        tailer_add_put(self, rows, event->db, event->coll, event->doc, event->seqno, 0, false);
    } else if (is_told(self, event->db, event->coll) &&
               tw_key_of_value(&self->batch, event->id, &key) == TW_OK && key.len <= TW_KEY_MAX) {
        const tw_item_append_row row = {.flags = TW_ROW_PUT,
                                        .seqno = event->seqno,
                                        .db = event->db,
                                        .coll = event->coll,
                                        .key = key};
        add_row(rows, &row);
    }
    if (rows->count > before) {
        tw_item_append_row *row = &rows->at[before];
        row->change = change;
        row->version = change_version(event->set, tw_str_of(rules->version_field), event->seqno);
        rows->bytes += change.len;
    }
}

/* ---- records whose newest version was told early ---- */

static uint64_t record_hash(const change_event *event)
{
    uint64_t hash = tw_hash(event->db.ptr, event->db.len, event->id.type);
    hash = tw_hash(event->coll.ptr, event->coll.len, hash);
    hash = tw_hash(event->id.ptr, event->id.len, hash);
    return hash == 0 ? 1 : hash;
}

static size_t touched_slot(const struct change_tailer *self, uint64_t hash)
{
    size_t at = hash & (TAILER_TOUCHED_SLOTS - 1);
    while (self->touched[at] != 0 && self->touched[at] != hash) {
        at = (at + 1) & (TAILER_TOUCHED_SLOTS - 1);
    }
    return at;
}

static void touch(struct change_tailer *self, uint64_t hash)
{
    size_t at = touched_slot(self, hash);
    if (self->touched[at] == hash || self->touched_all) {
        return;
    }
    if (self->touched_count >= TAILER_TOUCHED_SLOTS / 4 * 3) {
        self->touched_all = true; /* any record may be one of them */
        return;
    }
    self->touched[at] = hash;
    self->touched_count++;
}

static void forget_touched(struct change_tailer *self)
{
    if (self->touched_count > 0) {
        memset(self->touched, 0, TAILER_TOUCHED_SLOTS * sizeof *self->touched);
    }
    self->touched_count = 0;
    self->touched_all = false;
}

/* Decides which versions are looked up (see 2. above). */
static bool mark_lookups(taking *take)
{
    struct change_tailer *self = take->self;
    bool any = false;
    for (size_t i = 0; i < take->count; i++) {
        change_event *event = &take->events[i];
        bool is_version = event->kind == CHANGE_PUT || event->kind == CHANGE_LOOK_UP;
        if (!is_version || mongo_link_is_reserved(event->db)) {
            continue;
        }
        if (self->touched_count > 0 && !any && event->seqno > self->touched_until) {
            forget_touched(self);
        }
        if (event->kind == CHANGE_LOOK_UP) {
            if (take->changes[i].len == 0 || self->scan.is_active) {
                touch(self, record_hash(event));
            }
            any = true;
        } else if (self->touched_count > 0 &&
                   (self->touched_all ||
                    self->touched[touched_slot(self, record_hash(event))] != 0)) {
            event->kind = CHANGE_LOOK_UP;
            any = true;
        }
    }
    return any;
}

/* ---- look-ups ---- */

typedef struct found_doc {
    tw_key key;
    tw_bson doc;
} found_doc;

/* The documents of a reply by key, in an open hash; own memory: the reply goes. */
typedef struct found_docs {
    found_doc *slots;
    size_t mask;
} found_docs;

static tw_err keep_found(struct change_tailer *self, tw_bson docs, found_docs *out)
{
    size_t slots = 4;
    while (slots < tw_bson_count(docs) * 2) {
        slots *= 2;
    }
    *out = (found_docs){tw_arena_zero(&self->batch, slots, sizeof *out->slots), slots - 1};
    tw_bson_iter i;
    bool good = out->slots != NULL;
    for (tw_bson_iter_init(&i, docs); good && tw_bson_iter_next(&i);) {
        tw_bson doc = tw_bson_value_doc(i.value);
        tw_key key;
        if (tw_key_of_value(&self->batch, tw_bson_get(doc, TW_STR("_id")), &key) != TW_OK) {
            continue;
        }
        size_t at = tw_hash(key.ptr, key.len, 0) & out->mask;
        while (out->slots[at].key.len > 0) {
            at = (at + 1) & out->mask;
        }
        out->slots[at] = (found_doc){key, tw_arena_bson(&self->batch, doc)};
        good = out->slots[at].doc.ptr != NULL;
    }
    return good ? TW_OK : TW_E_NO_MEMORY;
}

static tw_bson find_found(const found_docs *found, tw_key key)
{
    size_t at = tw_hash(key.ptr, key.len, 0) & found->mask;
    for (; found->slots[at].key.len > 0; at = (at + 1) & found->mask) {
        if (tw_key_equal(found->slots[at].key, key)) {
            return found->slots[at].doc;
        }
    }
    return (tw_bson){0};
}

/* Puts what was found into the events that were asked for. is_cut: what is missing was not looked
 * at. Returns how many events were settled. */
static size_t settle(taking *take, const size_t *asked, size_t count, const found_docs *found,
                     bool is_cut)
{
    struct change_tailer *self = take->self;
    size_t settled = 0;
    for (size_t i = 0; i < count; i++) {
        change_event *event = &take->events[asked[i]];
        tw_key key;
        bool is_key = tw_key_of_value(&self->batch, event->id, &key) == TW_OK;
        event->doc = is_key ? find_found(found, key) : (tw_bson){0};
        if (event->doc.len > 0 || (take->changes[asked[i]].len > 0 && (!is_cut || !is_key))) {
            event->kind = CHANGE_PUT;
            settled++;
        } else if (!is_cut || !is_key) {
            event->kind = CHANGE_NOTHING; /* gone: its delete follows */
            self->nulls++;
            settled++;
        }
    }
    return settled;
}

/* Looks up versions of one collection, from the event `first` on. */
static tw_err look_up_some(taking *take, size_t first)
{
    struct change_tailer *self = take->self;
    size_t *asked = tw_arena_alloc(&self->batch, TW_SCAN_ROWS_MAX * sizeof *asked);
    size_t count = 0;
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("ids"));
    for (size_t i = first; asked != NULL && i < take->count && count < TW_SCAN_ROWS_MAX &&
                           text.len < TW_DOCUMENT_MAX / 2;
         i++) {
        const change_event *event = &take->events[i];
        if (event->kind == CHANGE_LOOK_UP && tw_str_equal(event->db, take->events[first].db) &&
            tw_str_equal(event->coll, take->events[first].coll)) {
            asked[count++] = i;
            tw_bson_add_value(&b, TW_STR(""), event->id);
        }
    }
    tw_bson_close(&b);
    tw_bson ids = tw_bson_get_doc(tw_bson_end(&b), TW_STR("ids"));
    tw_bson docs;
    uint64_t seqno = 0;
    bool is_cut = false;
    tw_err err = asked == NULL ? TW_E_NO_MEMORY : text.err;
    if (err == TW_OK) {
        err = change_source_find(&self->source, take->events[first].db, take->events[first].coll,
                                 ids, false, &docs, &seqno, &is_cut);
    }
    tw_buf_fini(&text);
    found_docs found;
    if (err == TW_OK) {
        err = keep_found(self, docs, &found);
    }
    if (err != TW_OK) {
        return err;
    }
    self->touched_until = seqno > self->touched_until ? seqno : self->touched_until;
    bool stuck = settle(take, asked, count, &found, is_cut) == 0;
    TW_ASSERT(!stuck || is_cut);
    return stuck ? TW_E_UNAVAILABLE
                 : TW_OK; /* nothing came of so many: tried again from the token */
}

static tw_err look_up(taking *take)
{
    struct change_tailer *self = take->self;
    uint64_t last = take->events[take->count - 1].seqno;
    bool any = mark_lookups(take);
    tw_err err = TW_OK;
    for (size_t i = 0; any && err == TW_OK && i < take->count;) {
        const change_event *event = &take->events[i];
        if (event->kind != CHANGE_LOOK_UP) {
            i++;
        } else if (!is_told(self, event->db, event->coll)) {
            take->events[i++].kind = CHANGE_NOTHING;
        } else {
            err = look_up_some(take, i);
        }
    }
    if (any && self->touched_until < last) {
        self->touched_until = last; /* a server that does not say: at least what was told */
    }
    return err;
}

/* ---- reading events ---- */

static void read_event(taking *take, tw_bson raw)
{
    struct change_tailer *self = take->self;
    change_event *event = &take->events[take->count];
    broker_why why = {0};
    self->events++;
    if (change_event_read(raw, event, &why) != TW_OK) {
        leave_out(self, TW_STR("stream"), TW_STR("event"), why.text);
    } else if (event->seqno <= self->at) {
        self->repeats++; /* from an older token: it is in the log */
    } else {
        take->changes[take->count] = change_of(self, event);
        take->raw[take->count++] = raw;
    }
}

static tw_err read_events(taking *take, const change_batch *batch, tw_bson held)
{
    struct change_tailer *self = take->self;
    size_t held_count = held.len > 0 ? tw_bson_count(held) : 0;
    size_t count = held_count + tw_bson_count(batch->events);
    take->events = tw_arena_alloc(&self->batch, (count + 1) * sizeof *take->events);
    take->raw = tw_arena_alloc(&self->batch, (count + 1) * sizeof *take->raw);
    take->changes = tw_arena_alloc(&self->batch, (count + 1) * sizeof *take->changes);
    if (take->events == NULL || take->raw == NULL || take->changes == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, held); tw_bson_iter_next(&i);) {
        read_event(take, tw_bson_value_doc(i.value));
    }
    self->events -= held_count; /* counted when they came */
    for (tw_bson_iter_init(&i, batch->events); tw_bson_iter_next(&i);) {
        read_event(take, tw_bson_value_doc(i.value));
    }
    return TW_OK;
}

/* ---- transactions ---- */

/* Keeps the events from `from` on for the next batch. False: they are too many. */
static bool hold(taking *take, size_t from)
{
    struct change_tailer *self = take->self;
    size_t bytes = 0;
    for (size_t i = from; i < take->count; i++) {
        bytes += take->raw[i].len + 16;
    }
    if (take->count - from > TW_TRANSACTION_ROWS_MAX / 2 || bytes > TW_TRANSACTION_BYTES_MAX) {
        return false;
    }
    tw_bson_builder b;
    tw_buf_clear(&self->held);
    tw_bson_begin(&b, &self->held);
    tw_bson_open_array(&b, TW_STR("held"));
    for (size_t i = from; i < take->count; i++) {
        tw_bson_add_doc(&b, TW_STR(""), take->raw[i]);
    }
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    self->held_total += take->count - from;
    return self->held.err == TW_OK;
}

/* Whether more of the last group may follow in the next batch. */
static bool may_go_on(const taking *take, const change_batch *batch)
{
    const change_event *last = &take->events[take->count - 1];
    bool has_ended = tw_bson_count(batch->events) == 0; /* all that was there has come */
    if (last->kind == CHANGE_DROP) { /* of the database: its event comes behind the last of these */
        return !has_ended;
    }
    return (last->in_transaction || batch->is_cut_off) && !has_ended &&
           change_token_seqno(batch->token) <= last->seqno;
}

/* ---- one event ---- */

/* A server drops each collection first: the last of these rows says that all of it ended. */
static void end_database(tailer_rows *rows, const change_event *event)
{
    tw_item_append_row *last = rows->count > 0 ? &rows->at[rows->count - 1] : NULL;
    if (last != NULL && (last->flags & TW_ROW_DROP) != 0 && tw_str_equal(last->db, event->db)) {
        last->flags |= TW_ROW_DROP_DB;
    }
}

static void add_event(taking *take, size_t at)
{
    const change_event *event = &take->events[at];
    struct change_tailer *self = take->self;
    tailer_rows *rows = &take->rows;
    tw_key key = {0};
    rows->wall_ms = event->wall_ms > rows->wall_ms ? event->wall_ms : rows->wall_ms;
    tailer_scan_note(self, event);
    switch (event->kind) {
    case CHANGE_PUT:
        if (take->changes[at].len > 0) {
            add_change(take, event, take->changes[at]);
        } else {
            tailer_add_put(self, rows, event->db, event->coll, event->doc, event->seqno, 0, false);
        }
        break;
    case CHANGE_DELETE:
        if (tw_key_of_value(&self->batch, event->id, &key) == TW_OK && key.len <= TW_KEY_MAX) {
            tailer_add_end(self, rows, event->db, event->coll, key, event->seqno, TW_ROW_DELETE,
                           false);
        }
        break;
    case CHANGE_DROP_DB:
        end_database(rows, event);
        tailer_add_end(self, rows, event->db, event->coll, key, event->seqno, TW_ROW_DROP, false);
        break;
    case CHANGE_DROP:
        tailer_add_end(self, rows, event->db, event->coll, key, event->seqno, TW_ROW_DROP, false);
        break;
    case CHANGE_RENAME:
        tailer_add_end(self, rows, event->db, event->coll, key, event->seqno, TW_ROW_DROP, false);
        tailer_add_end(self, rows, event->to_db, event->to_coll, key, event->seqno, TW_ROW_DROP,
                       false);
        tailer_scan_rename(self, event->to_db, event->to_coll);
        break;
    case CHANGE_LOOK_UP:
    case CHANGE_NOTHING:
    case CHANGE_INVALIDATE:
        break;
    }
}

/* Moves the position to the end of what stands in the rows. */
static void reach(struct change_tailer *self, uint64_t at, tw_bson token, bool is_after)
{
    self->is_dirty = self->is_dirty || at > self->at;
    self->at = at > self->at ? at : self->at;
    tailer_set_token(self, token, is_after);
}

void tailer_append_piece(struct change_tailer *self, tailer_rows *rows, uint64_t seqno)
{
    for (size_t i = 0; i < rows->count; i++) {
        rows->at[i].flags |= TW_ROW_MULTI;
        rows->at[i].more = true;
    }
    self->pieces++;
    self->at = seqno - 1; /* reached with the last piece only */
    tailer_append(self, rows);
}

bool tailer_rows_are_full(const tailer_rows *rows, size_t bytes)
{
    enum { ROWS_OF_AN_EVENT = 2 }; /* a rename drops two collections */
    return rows->count > 0 && (rows->count + ROWS_OF_AN_EVENT > TW_BATCH_ROWS_MAX ||
                               rows->bytes + bytes > TW_TRANSACTION_BYTES_MAX);
}

/* Room for a whole transaction beside what stands in the rows, or they go first. */
static void make_room(taking *take, size_t from, size_t end)
{
    size_t bytes = 0;
    for (size_t i = from; i < end; i++) {
        bytes += take->events[i].doc.len + take->changes[i].len + 128;
    }
    size_t rows = take->rows.count + 2 * (end - from);
    if (take->rows.count > 0 &&
        (rows > TW_BATCH_ROWS_MAX || take->rows.bytes + bytes > TW_TRANSACTION_BYTES_MAX)) {
        tailer_append(take->self, &take->rows);
    }
}

/* The rows of events that share a position. is_open: more of them may follow. True when one is the
 * barrier that is waited for. */
static bool add_group(taking *take, size_t from, size_t end, bool is_open)
{
    struct change_tailer *self = take->self;
    tailer_rows *rows = &take->rows;
    make_room(take, from, end);
    size_t first = rows->count;
    bool is_barrier = false;
    bool in_pieces = false;
    tw_bson mark = tailer_mark_of(take->events + from, end - from);
    for (size_t i = from; i < end; i++) {
        const change_event *event = &take->events[i];
        uint64_t node = 0, number = 0;
        if (tailer_rows_are_full(rows, event->doc.len + take->changes[i].len)) {
            TW_ASSERT(first == 0 && i > from); /* make_room: all of them are of this one */
            tailer_mark_rows(self, rows, 0, mark);
            tailer_set_token(self, take->events[i - 1].token, false);
            tailer_append_piece(self, rows, event->seqno);
            in_pieces = true;
        }
        bool is_one =
            change_source_is_barrier(event->db, event->coll, event->id, event->doc, &node, &number);
        is_barrier = is_barrier || (is_one && self->barrier != BARRIER_NONE && node == self->node &&
                                    number == self->barrier_number);
        add_event(take, i);
    }
    tailer_mark_rows(self, rows, first, mark);
    for (size_t k = first; k < rows->count; k++) {
        rows->at[k].more = k + 1 < rows->count;
        rows->at[k].flags |= in_pieces ? TW_ROW_MULTI : 0u;
    }
    if (is_open && rows->count > first) {
        if (first > 0) { /* complete ones stand before it: they are not of this transaction */
            tailer_rows rest = {rows->at + first, rows->count - first, rows->bytes, rows->wall_ms};
            rows->count = first;
            tailer_append(self, rows);
            *rows = rest;
        }
        tailer_set_token(self, take->events[end - 1].token, false);
        tailer_append_piece(self, rows, take->events[from].seqno);
    }
    return is_barrier;
}

/* ---- a batch ---- */

/* All that happened before the barrier at seqno is in the rows or the log. */
static void pass_barrier(taking *take, const change_event *event)
{
    struct change_tailer *self = take->self;
    tailer_barrier purpose = self->barrier;
    self->barrier = BARRIER_NONE;
    if (purpose == BARRIER_STEP) {
        if (take->rows.count > 0) {
            tailer_append(self, &take->rows);
        }
        tailer_scan_take(self, &take->rows, event->seqno);
    }
    if (purpose == BARRIER_END) {
        self->scan.is_active = false;
        self->is_whole = true;
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor),
               "the log is complete: %llu records of %llu collections were read",
               (unsigned long long)self->scan.documents, (unsigned long long)self->scan.done);
    }
    reach(self, event->seqno, event->token, false);
    tailer_append(self, &take->rows);
    if (purpose == BARRIER_STEP) {
        tw_fault("tailer_mid_copy");
    }
}

static void take_groups(taking *take, const change_batch *batch)
{
    struct change_tailer *self = take->self;
    tailer_rows *rows = &take->rows;
    for (size_t from = 0, end = 0; from < take->count; from = end) {
        end = change_group_end(take->events, take->count, from);
        bool is_open = end == take->count && may_go_on(take, batch);
        if (is_open && hold(take, from)) {
            return;
        }
        const change_event *last = &take->events[end - 1];
        bool is_barrier = add_group(take, from, end, is_open);
        if (is_open) {
            continue;
        }
        if (is_barrier) {
            pass_barrier(take, last);
            continue;
        }
        reach(self, last->seqno, last->token, last->kind == CHANGE_INVALIDATE);
        if (last->kind == CHANGE_INVALIDATE) {
            self->phase = PHASE_OPEN;
        }
        if (rows->bytes > TW_APPEND_BYTES || rows->count >= APPEND_ROWS ||
            last->kind == CHANGE_DROP_DB) { /* it may become a row for each collection */
            tailer_append(self, rows);
        }
    }
}

/* The position that an empty batch, or the end of one, tells. Real servers put it into the token:
 * events at it may still come, those below it have come. */
static void take_token(struct change_tailer *self, const change_batch *batch)
{
    if (batch->token.len == 0 || self->phase != PHASE_TAIL) {
        return;
    }
    uint64_t seqno = change_token_seqno(batch->token);
    reach(self, seqno > 0 ? seqno - 1 : 0, batch->token, false);
}

/* The cluster's clock went on and the stream tells nothing: where that lasts, a barrier gives idle
 * streams a position, so that they pass the fence of a write that they do not see. */
static tw_err watch_fence(struct change_tailer *self, const change_batch *batch)
{
    uint64_t now = tw_now_ms(self->actor);
    bool is_behind = tw_bson_count(batch->events) == 0 && batch->seqno > self->at;
    if (!is_behind || self->scan.is_active || self->barrier != BARRIER_NONE) {
        self->fence_ms = 0;
        return TW_OK;
    }
    if (self->fence_ms == 0) {
        self->fence_ms = now;
    }
    if (now < self->fence_ms + TAILER_FENCE_MS) {
        return TW_OK;
    }
    self->fence_ms = 0;
    return tailer_write_barrier(self, BARRIER_FENCE);
}

tw_err tailer_take(struct change_tailer *self, const change_batch *batch)
{
    taking take = {.self = self};
    tw_arena_reset(&self->batch);
    tw_bson held = {0};
    if (self->held.len > 0) {
        tw_bson kept = {(const uint8_t *)self->held.ptr, self->held.len};
        held = tw_bson_get_doc(tw_arena_bson(&self->batch, kept), TW_STR("held"));
        tw_buf_clear(&self->held);
    }
    tw_err err = read_events(&take, batch, held);
    if (err == TW_OK) {
        err = tailer_rows_init(self, &take.rows);
    }
    if (err == TW_OK && take.count > 0) {
        err = look_up(&take);
    }
    if (err != TW_OK) {
        return err;
    }
    self->batches++;
    take_groups(&take, batch);
    if (self->held.len == 0) {
        take_token(self, batch);
    }
    uint64_t now = tw_now_ms(self->actor);
    bool is_due = self->is_dirty && now >= self->saved_ms + TAILER_SAVE_MS;
    if (take.rows.count > 0 || is_due) {
        tailer_append(self, &take.rows);
    }
    return watch_fence(self, batch);
}
