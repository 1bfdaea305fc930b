/* log_store_write.c - preparing rows and committing them; see log_store.h.
 *
 * Rows are prepared in memory alone, with a hash of those keys that they change over the index, so
 * a refused transaction is undone by forgetting its rows, and SQLite sees only what will be
 * committed. */
#include "protocol/fault.h"

#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

/* ---- the overlay: newest prepared row of a key ---- */

static size_t overlay_slot(const log_store *store, uint32_t coll, tw_key key)
{
    size_t at = tw_hash(key.ptr, key.len, coll) & (store->overlay_slots - 1);
    while (store->overlay[at] != 0) {
        const log_row *row = &store->prepared[store->overlay[at] - 1].row;
        if (row->coll == coll && tw_key_equal(row->key, key)) {
            break;
        }
        at = (at + 1) & (store->overlay_slots - 1);
    }
    return at;
}

/* Makes room for one more. Rows are put in again in their order, so the newest of a key counts. */
static void overlay_grow(log_store *store)
{
    if ((store->prepared_count + 1) * 4 <= store->overlay_slots) {
        return;
    }
    store->overlay_slots *= 2;
    TW_ASSERT(store->overlay_slots <= LOG_OVERLAY_SLOTS);
    memset(store->overlay, 0, store->overlay_slots * sizeof *store->overlay);
    for (size_t i = 0; i < store->prepared_count; i++) {
        const log_row *row = &store->prepared[i].row;
        if (row->key.len > 0) {
            store->overlay[overlay_slot(store, row->coll, row->key)] = (uint32_t)i + 1;
        }
    }
}

void log_store_overlay_clear(log_store *store)
{
    size_t count = store->prepared_count;
    if (count * 16 > store->overlay_slots) {
        memset(store->overlay, 0, store->overlay_slots * sizeof *store->overlay);
        store->overlay_slots = LOG_OVERLAY_SLOTS_FIRST;
        return;
    }
    for (size_t i = count; i > 0; i--) { /* from the last added: what stands behind it is gone */
        const log_row *row = &store->prepared[i - 1].row;
        if (row->key.len > 0) {
            size_t at = overlay_slot(store, row->coll, row->key);
            store->overlay[at] = store->prepared[i - 1].shadows;
        }
    }
    store->overlay_slots = LOG_OVERLAY_SLOTS_FIRST;
}

log_current log_store_current(log_store *store, uint32_t coll, tw_key key)
{
    TW_ASSERT(key.len > 0 && !store->is_committed);
    uint32_t prepared = store->overlay[overlay_slot(store, coll, key)];
    if (prepared != 0) {
        const log_row *row = &store->prepared[prepared - 1].row;
        return (log_current){row->n, row->ver, row->scope, (row->flags & TW_ROW_PUT) == 0};
    }
    const log_entry *entry = log_index_find(store->index, coll, key);
    if (entry != NULL) {
        return (log_current){log_entry_n(entry), entry->ver, entry->scope,
                             log_entry_deleted(entry)};
    }
    const log_incarnation *incarnation = log_index_incarnation(store->index, coll);
    return (log_current){.ver = incarnation == NULL ? 0 : incarnation->ver_base, .deleted = true};
}

tw_err log_store_document(log_store *store, tw_arena *arena, uint64_t n, tw_bson *out)
{
    TW_ASSERT(n > 0);
    uint64_t head = log_index_head(store->index);
    if (n > head) {
        TW_ASSERT(n - head <= store->prepared_count);
        *out = store->prepared[n - head - 1].row.doc;
        return TW_OK;
    }
    if (log_ring_find(&store->ring, n, out)) {
        return TW_OK; /* the ring takes documents in log_store_clear alone */
    }
    log_row row;
    tw_err err = log_table_hold(store->table);
    if (err == TW_OK) {
        err = log_table_read(store->table, n, &row);
    }
    if (err != TW_OK) {
        tw_format(store->why, sizeof store->why, "%s",
                  err == TW_E_NOT_FOUND ? "a row that the index names is missing"
                                        : log_table_why(store->table));
        return err == TW_E_NOT_FOUND ? TW_E_CORRUPT : err;
    }
    *out = tw_arena_bson(arena, row.doc);
    return row.doc.len > 0 && out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

/* ---- names ---- */

tw_err log_store_collection(log_store *store, tw_str db, tw_str name, tw_str scope_field,
                            bool create, uint32_t *coll)
{
    TW_ASSERT(coll != NULL && !store->is_committed);
    log_incarnation *newest = log_index_named(store->index, db, name);
    while (newest != NULL && newest->is_void) {
        newest = log_index_older(store->index, newest);
    }
    if (newest != NULL && newest->dropping == 0) {
        *coll = newest->id;
        return TW_OK;
    }
    if (!create) {
        return TW_E_NOT_FOUND;
    }
    tw_rwlock_write(&store->lock);
    tw_err err = log_index_add_incarnation(store->index, 0, db, name, scope_field, &newest);
    tw_rwlock_done(&store->lock);
    if (err == TW_OK) {
        store->incarnations_unstored = true;
        *coll = newest->id;
    }
    return err;
}

tw_err log_store_scope(log_store *store, tw_key value, uint32_t *code)
{
    TW_ASSERT(value.len > 0);
    *code = log_index_scope(store->index, value);
    if (*code != 0) {
        return TW_OK;
    }
    if (store->scopes_count == store->scopes_cap) {
        size_t cap = store->scopes_cap == 0 ? 16 : store->scopes_cap * 2;
        log_new_scope *bigger = tw_realloc(store->scopes, cap * sizeof *bigger);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        store->scopes = bigger;
        store->scopes_cap = cap;
    }
    uint8_t *copy = tw_alloc(value.len);
    if (copy == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(copy, value.ptr, value.len);
    tw_rwlock_write(&store->lock);
    tw_err err = log_index_add_scope(store->index, 0, value, code);
    tw_rwlock_done(&store->lock);
    if (err != TW_OK) {
        tw_free(copy);
        return err;
    }
    store->scopes[store->scopes_count++] = (log_new_scope){*code, {copy, value.len}};
    return TW_OK;
}

/* ---- preparing ---- */

tw_err log_store_prepare(log_store *store, const log_row *row, tw_bson old)
{
    TW_ASSERT(!store->is_committed);
    TW_ASSERT(((row->flags & TW_ROW_DROP) != 0) == (row->key.len == 0));
    if (store->prepared_count == LOG_PREPARED_MAX) {
        return TW_E_BUSY;
    }
    uint64_t n = log_index_head(store->index) + store->prepared_count + 1;
    if (n >= TW_SEQNO_MAX) {
        return TW_E_TOO_MANY;
    }
    log_incarnation *incarnation = log_index_incarnation(store->index, row->coll);
    TW_ASSERT(incarnation != NULL && incarnation->dropping == 0);
    log_pending *pending = &store->prepared[store->prepared_count];
    *pending = (log_pending){.row = *row, .old = old};
    pending->row.n = n;
    if (row->origin == LOG_ORIGIN_OWN) {
        pending->row.seqno = n;
    }
    if ((row->flags & TW_ROW_DROP) != 0) {
        incarnation->dropping = n;
    } else {
        overlay_grow(store);
        size_t at = overlay_slot(store, row->coll, row->key);
        pending->shadows = store->overlay[at];
        pending->old_silent =
            pending->shadows != 0
                ? (store->prepared[pending->shadows - 1].row.flags & TW_ROW_SILENT) != 0
                : log_index_silent(store->index, row->prev);
        store->overlay[at] = (uint32_t)store->prepared_count + 1;
    }
    store->prepared_count++;
    return TW_OK;
}

size_t log_store_prepared(const log_store *store)
{
    return store->prepared_count;
}

const log_pending *log_store_prepared_at(const log_store *store, size_t i)
{
    TW_ASSERT(i < store->prepared_count);
    return &store->prepared[i];
}

void log_store_seal(log_store *store, size_t count)
{
    TW_ASSERT(count <= store->prepared_count);
    size_t rows = store->prepared_count - count;
    for (size_t i = count; i < store->prepared_count; i++) {
        store->prepared[i].row.flags |= rows > 1 ? TW_ROW_MULTI : 0;
    }
    if (rows > 0) {
        store->prepared[store->prepared_count - 1].row.flags |= TW_ROW_LAST;
    }
}

/* A collection that came into being for a row that is now forgotten, after its forerunner's drop
 * was forgotten too, would stand beside it: it is void. */
static void undo_drop(log_store *store, const log_row *row)
{
    log_incarnation *dropped = log_index_incarnation(store->index, row->coll);
    log_incarnation *newest =
        log_index_named(store->index, tw_str_of(dropped->db), tw_str_of(dropped->name));
    for (; newest != NULL && newest != dropped; newest = log_index_older(store->index, newest)) {
        TW_ASSERT(!newest->is_stored || newest->is_void);
        tw_rwlock_write(&store->lock);
        newest->is_void = true;
        tw_rwlock_done(&store->lock);
    }
    dropped->dropping = 0;
}

void log_store_undo(log_store *store, size_t count)
{
    TW_ASSERT(count <= store->prepared_count && !store->is_committed);
    while (store->prepared_count > count) {
        const log_pending *pending = &store->prepared[store->prepared_count - 1];
        if ((pending->row.flags & TW_ROW_DROP) != 0) {
            if (store->index != NULL) {
                undo_drop(store, &pending->row);
            }
        } else {
            size_t at = overlay_slot(store, pending->row.coll, pending->row.key);
            TW_ASSERT(store->overlay[at] == store->prepared_count);
            store->overlay[at] = pending->shadows;
        }
        store->prepared_count--;
    }
}

/* ---- committing ---- */

static tw_err store_incarnations(log_store *store)
{
    for (size_t i = 0; i < log_index_incarnations(store->index); i++) {
        const log_incarnation *incarnation = log_index_slot(store->index, i);
        if (incarnation->is_stored || incarnation->is_void) {
            continue;
        }
        const log_table_incarnation stored = {.id = incarnation->id,
                                              .db = tw_str_of(incarnation->db),
                                              .name = tw_str_of(incarnation->name),
                                              .scope_field = tw_str_of(incarnation->scope_field),
                                              .dropped = incarnation->dropping,
                                              .ver_base = incarnation->ver_base};
        tw_err err = log_table_save_incarnation(store->table, &stored);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

/* What stands beside the rows. */
static tw_err store_beside(log_store *store, uint64_t unix_ms)
{
    tw_err err = store->incarnations_unstored ? store_incarnations(store) : TW_OK;
    for (size_t i = 0; err == TW_OK && i < store->scopes_count; i++) {
        err = log_table_save_scope(store->table, store->scopes[i].code, store->scopes[i].value);
    }
    if (err == TW_OK) {
        err = log_store_save_opids(store, unix_ms);
    }
    return err;
}

static tw_err store_rows(log_store *store, uint64_t *superseded)
{
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < store->prepared_count; i++) {
        const log_pending *pending = &store->prepared[i];
        err = log_table_insert(store->table, &pending->row);
        *superseded += pending->old.len;
        if (err == TW_OK && (pending->row.flags & TW_ROW_DROP) != 0) {
            const log_incarnation *dropped = log_index_incarnation(store->index, pending->row.coll);
            const log_table_incarnation stored = {.id = dropped->id,
                                                  .db = tw_str_of(dropped->db),
                                                  .name = tw_str_of(dropped->name),
                                                  .scope_field = tw_str_of(dropped->scope_field),
                                                  .dropped = dropped->dropping,
                                                  .ver_base = dropped->ver_base};
            err = log_table_save_incarnation(store->table, &stored);
        }
    }
    return err;
}

/* A mark is due once a second, and each LOG_MARK_ROWS rows. */
static bool mark_due(const log_store *store, const log_mark *mark)
{
    if (store->prepared_count == 0) {
        return false;
    }
    if (store->marks_count == 0) {
        return true;
    }
    const log_mark *last = &store->marks[store->marks_count - 1];
    return mark->n >= last->n + LOG_MARK_ROWS || mark->time_ms >= last->time_ms + LOG_MARK_MS;
}

static tw_err keep_mark(log_store *store, const log_mark *mark)
{
    if (store->marks_count == store->marks_cap) {
        size_t cap = store->marks_cap == 0 ? 1024 : store->marks_cap * 2;
        log_mark *bigger = tw_realloc(store->marks, cap * sizeof *bigger);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        store->marks = bigger;
        store->marks_cap = cap;
    }
    store->marks[store->marks_count++] = *mark;
    return TW_OK;
}

/* Makes the committed rows seen. */
static tw_err show(log_store *store, uint64_t head)
{
    tw_err err = TW_OK;
    tw_rwlock_write(&store->lock);
    for (size_t i = 0; err == TW_OK && i < store->prepared_count; i++) {
        err = log_index_add(store->index, &store->prepared[i].row);
    }
    if (err == TW_OK) {
        log_index_set_head(store->index, head);
        log_store_show_source(store, head);
    }
    tw_rwlock_done(&store->lock);
    return err;
}

static void forget_stored(log_store *store)
{
    if (store->incarnations_unstored) {
        for (size_t i = 0; i < log_index_incarnations(store->index); i++) {
            log_incarnation *incarnation = log_index_slot(store->index, i);
            incarnation->is_stored = !incarnation->is_void;
        }
        store->incarnations_unstored = false;
    }
    for (size_t i = 0; i < store->scopes_count; i++) {
        tw_free((void *)store->scopes[i].value.ptr);
    }
    store->scopes_count = 0;
    store->source = (log_source){0};
    store->is_cutting = false;
}

tw_err log_store_commit(log_store *store, uint64_t unix_ms)
{
    TW_ASSERT(store->index != NULL && !store->is_committed);
    uint64_t head = log_index_head(store->index) + store->prepared_count;
    log_mark mark = {.n = head, .time_ms = unix_ms, .bytes = store->bytes};
    for (size_t i = 0; i < store->prepared_count; i++) {
        store->prepared[i].row.time_ms = unix_ms;
    }
    store->why[0] = '\0';
    tw_fault("store_before_begin");
    tw_err err = log_table_begin(store->table);
    if (err == TW_OK) {
        err = store_beside(store, unix_ms);
    }
    if (err == TW_OK) {
        err = store_rows(store, &mark.bytes);
        tw_fault("store_after_insert");
    }
    if (err == TW_OK) {
        err = log_store_save_source(store, head);
    }
    bool is_marked = mark_due(store, &mark);
    if (err == TW_OK && is_marked) {
        err = log_table_save_mark(store->table, &mark);
    }
    if (err == TW_OK) {
        err = log_store_sweep(store, LOG_SWEEP_ROWS + 2 * store->prepared_count);
    }
    tw_fault("store_before_commit");
    if (err == TW_OK) {
        err = log_table_commit(store->table);
    } else {
        log_table_rollback(store->table);
    }
    log_store_swept(store, err == TW_OK);
    log_store_opids_saved(store, err == TW_OK);
    if (err != TW_OK) {
        if (store->why[0] == '\0') {
            tw_format(store->why, sizeof store->why, "%s", log_table_why(store->table));
        }
        return err;
    }
    tw_fault("store_after_commit");
    log_guard_raise(&store->guard, head);
    store->bytes = mark.bytes;
    log_store_overlay_clear(store);
    store->is_committed = true;
    err = show(store, head);
    forget_stored(store);
    if (err == TW_OK && is_marked) {
        err = keep_mark(store, &mark);
    }
    return err;
}

void log_store_clear(log_store *store)
{
    TW_ASSERT(store->is_committed || (store->prepared_count == 0 && store->opids_count == 0));
    for (size_t i = 0; i < store->prepared_count; i++) {
        log_ring_add(&store->ring, store->prepared[i].row.n, store->prepared[i].row.doc);
    }
    store->prepared_count = 0;
    log_store_forget(store, 0);
    store->is_committed = false;
}

tw_err log_store_checkpoint(log_store *store)
{
    TW_ASSERT(store->table != NULL);
    tw_fault("store_checkpoint");
    return log_table_checkpoint(store->table, false);
}
