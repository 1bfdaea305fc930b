/* log_store_trim.c - the floor rises first, rows are swept later; see log_store.h and LOG rules 7,
 * 8.
 *
 * 1. raise_floor stores the new floor and shows it: all cursors below are refused from then on.
 * 2. step looks at the rows that the floor passed, LOG_FLOOR_ROWS at a time, and marks as dead what
 *    they superseded, tombstones, and rows of dropped collections.
 * 3. sweep deletes the dead rows of a chunk where they are most of it, inside a commit. A row goes
 *    only with or after the row that it superseded: otherwise a key whose tombstone went first
 * would
 *    come back at the restart. */
#include "protocol/fault.h"

#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

enum { SWEEP_LOOK = 64 }; /* chunks looked at for one that is worth it */

/* ---- the floor ---- */

/* The highest row that age and size allow the floor to rise to. Marks stand at ends of commits. */
static uint64_t floor_allowed(const log_store *store, uint64_t unix_ms)
{
    uint64_t floor = 0;
    for (size_t i = 0; i < store->marks_count; i++) {
        const log_mark *mark = &store->marks[i];
        bool is_old = mark->time_ms + store->options.age_ms <= unix_ms;
        bool is_much = store->bytes - mark->bytes >= store->options.superseded_bytes;
        if (!is_old && !is_much) {
            break;
        }
        floor = mark->n;
    }
    return floor;
}

/* The end of the transaction that n lies in: down from n, so that no more is given up than asked.
 * */
static tw_err transaction_end(log_store *store, uint64_t above, uint64_t *n)
{
    while (*n > above) {
        log_row row;
        tw_err err = log_table_read(store->table, *n, &row);
        bool is_end = err == TW_OK && (row.flags & TW_ROW_LAST) != 0;
        if (is_end || (err != TW_OK && err != TW_E_NOT_FOUND)) {
            log_table_scan_end(store->table);
            return err;
        }
        --*n;
    }
    log_table_scan_end(store->table);
    return TW_OK;
}

typedef struct origin_floor {
    uint64_t seqno;
    bool is_multi;
} origin_floor;

/* The highest position of each foreign origin among the rows that the floor passes. */
static tw_err origin_floors(log_store *store, uint64_t from, uint64_t upto,
                            origin_floor floors[TW_ORIGINS_MAX])
{
    size_t count = log_index_origins(store->index);
    for (size_t i = 0; i < count; i++) {
        const log_origin *origin = log_index_origin_at(store->index, i);
        floors[i] = (origin_floor){origin->floor, origin->floor_multi};
    }
    if (count < 2) {
        return TW_OK; /* the own origin's floor is the floor */
    }
    log_row row;
    tw_err err = TW_OK;
    for (uint64_t n = from + 1; (err = log_table_scan_head(store->table, n, upto, &row)) == TW_OK;
         n = 0) {
        for (size_t i = 0; i < count; i++) {
            if (log_index_origin_at(store->index, i)->id == row.origin) {
                floors[i] = (origin_floor){row.seqno, (row.flags & TW_ROW_MULTI) != 0};
            }
        }
    }
    log_table_scan_end(store->table);
    return err == TW_E_END ? TW_OK : err;
}

typedef struct tokens {
    log_store *store;
    const origin_floor *floors;
    tw_buf copies; /* tokens cannot be views while their row is written */
    log_table_origin origins[TW_ORIGINS_MAX];
    size_t at[TW_ORIGINS_MAX];
    size_t count;
} tokens;

static tw_err each_origin_copy(void *context, const log_table_origin *origin)
{
    tokens *self = context;
    if (self->count == TW_ORIGINS_MAX) {
        return TW_E_TOO_MANY;
    }
    self->at[self->count] = self->copies.len;
    self->origins[self->count++] = *origin;
    tw_buf_add_str(&self->copies, origin->token);
    return self->copies.err;
}

/* Stores the floors of the origins beside what they had. */
static tw_err save_origin_floors(log_store *store, const origin_floor *floors)
{
    if (log_index_origins(store->index) < 2) {
        return TW_OK;
    }
    tokens *kept = tw_alloc_zero(1, sizeof *kept);
    if (kept == NULL) {
        return TW_E_NO_MEMORY;
    }
    *kept = (tokens){.store = store, .floors = floors};
    tw_buf_init(&kept->copies, TW_DOCUMENT_MAX);
    tw_err err = log_table_origins(store->table, kept, each_origin_copy);
    for (size_t i = 0; err == TW_OK && i < kept->count; i++) {
        log_table_origin *origin = &kept->origins[i];
        origin->token.ptr = kept->copies.ptr == NULL ? "" : kept->copies.ptr + kept->at[i];
        for (size_t k = 0; k < log_index_origins(store->index); k++) {
            if (log_index_origin_at(store->index, k)->id == origin->id) {
                origin->floor = floors[k].seqno;
                origin->floor_multi = floors[k].is_multi;
            }
        }
        err = log_table_save_origin(store->table, origin);
    }
    tw_buf_fini(&kept->copies);
    tw_free(kept);
    return err;
}

static void show_floor(log_store *store, uint64_t floor, const origin_floor *floors)
{
    tw_rwlock_write(&store->lock);
    log_index_set_floor(store->index, floor);
    for (size_t i = 0; i < log_index_origins(store->index); i++) {
        log_origin *origin = log_index_origin_at(store->index, i);
        origin->floor = floors[i].seqno;
        origin->floor_multi = floors[i].is_multi;
    }
    tw_rwlock_done(&store->lock);
    size_t gone = 0; /* the mark on the floor stays: the next floor is counted from it */
    while (gone < store->marks_count && store->marks[gone].n < floor) {
        gone++;
    }
    store->marks_count -= gone;
    memmove(store->marks, store->marks + gone, store->marks_count * sizeof *store->marks);
}

tw_err log_store_raise_floor(log_store *store, uint64_t unix_ms, uint64_t keep_rows)
{
    TW_ASSERT(store->index != NULL && store->prepared_count == 0);
    uint64_t before = log_index_floor(store->index);
    uint64_t head = log_index_head(store->index);
    uint64_t floor = floor_allowed(store, unix_ms);
    tw_err err = TW_OK;
    if (keep_rows < head && head - keep_rows > floor) {
        floor = head - keep_rows;
        err = transaction_end(store, before, &floor);
    }
    if (err != TW_OK || floor <= before) {
        return err;
    }
    origin_floor floors[TW_ORIGINS_MAX];
    err = origin_floors(store, before, floor, floors);
    if (err == TW_OK) {
        err = log_table_begin(store->table);
    }
    if (err == TW_OK) {
        err = log_table_save_number(store->table, "floor", floor);
        if (err == TW_OK) {
            err = log_table_forget_marks(store->table, floor);
        }
        if (err == TW_OK) {
            err = save_origin_floors(store, floors);
        }
        tw_fault("store_trim");
        if (err == TW_OK) {
            err = log_table_commit(store->table);
        } else {
            log_table_rollback(store->table);
        }
    }
    if (err == TW_OK) {
        show_floor(store, floor, floors);
    } else {
        tw_format(store->why, sizeof store->why, "%s", log_table_why(store->table));
    }
    return err;
}

/* ---- what the floor made dead ---- */

/* Goes on marking a dropped collection; true while there is more of it. */
static bool kill_some(log_store *store)
{
    if (store->kill_coll == 0) {
        return false;
    }
    tw_rwlock_write(&store->lock);
    bool done = log_index_kill(store->index, store->kill_coll, store->kill_upto, &store->kill_at,
                               LOG_FLOOR_ROWS * 8);
    tw_rwlock_done(&store->lock);
    if (done) {
        store->kill_coll = 0;
    }
    return true;
}

static tw_err pass_some(log_store *store)
{
    uint64_t floor = log_index_floor(store->index);
    log_row rows[LOG_FLOOR_ROWS];
    size_t count = 0;
    uint64_t upto = floor;
    tw_err err = TW_OK;
    for (uint64_t n = store->passed + 1; count < LOG_FLOOR_ROWS; n = 0) {
        err = log_table_scan_head(store->table, n, floor, &rows[count]);
        if (err != TW_OK) {
            break;
        }
        upto = rows[count].n;
        rows[count].key = (tw_key){0}; /* a view that goes with the next row; not needed */
        if ((rows[count++].flags & TW_ROW_DROP) != 0) {
            break;
        }
    }
    log_table_scan_end(store->table);
    if (err != TW_OK && err != TW_E_END) {
        return err;
    }
    tw_rwlock_write(&store->lock);
    for (size_t i = 0; i < count; i++) {
        log_index_pass_floor(store->index, &rows[i]);
    }
    tw_rwlock_done(&store->lock);
    if (count > 0 && (rows[count - 1].flags & TW_ROW_DROP) != 0) {
        store->kill_coll = rows[count - 1].coll;
        store->kill_upto = rows[count - 1].n;
        store->kill_at = 0;
    }
    store->passed = err == TW_E_END ? floor : upto;
    return TW_OK;
}

/* ---- sweeping ---- */

static bool was_swept(const log_store *store, uint64_t n)
{
    for (size_t i = 0; i < store->sweeping_count; i++) {
        if (store->sweeping[i] == n / LOG_CHUNK_ROWS) {
            size_t bit = n % LOG_CHUNK_ROWS;
            return (store->swept_bits[i][bit / 64] >> bit % 64 & 1) != 0;
        }
    }
    return false;
}

static bool may_go(const log_store *store, const log_row *row)
{
    const log_incarnation *incarnation = log_index_incarnation(store->index, row->coll);
    bool is_closed = incarnation != NULL && incarnation->dropped != 0; /* never comes back */
    return is_closed || row->prev == 0 || !log_index_present(store->index, row->prev) ||
           was_swept(store, row->prev);
}

/* Collects the dead rows of a chunk that may go; those that may not are told to the index. at: the
 * chunk's place in `sweeping`. A key's pointer is its place in swept_keys until all is
 * collected. */
static tw_err collect(log_store *store, size_t at)
{
    uint64_t chunk = store->sweeping[at];
    uint64_t first = chunk * LOG_CHUNK_ROWS;
    unsigned blocked = 0;
    log_row row;
    tw_err err;
    memset(store->swept_bits[at], 0, sizeof store->swept_bits[at]);
    for (uint64_t n = first == 0 ? 1 : first;
         (err = log_table_scan_head(store->table, n, first + LOG_CHUNK_ROWS - 1, &row)) == TW_OK;
         n = 0) {
        if (!log_index_dead(store->index, row.n)) {
            continue;
        }
        if (!may_go(store, &row)) {
            blocked++;
            continue;
        }
        size_t bit = row.n % LOG_CHUNK_ROWS;
        store->swept_bits[at][bit / 64] |= 1ULL << bit % 64;
        store->swept_key_at[store->swept_count] = (uint32_t)store->swept_keys.len;
        tw_buf_add(&store->swept_keys, row.key.ptr, row.key.len);
        store->swept[store->swept_count++] = row;
    }
    log_table_scan_end(store->table);
    if (err != TW_E_END || store->swept_keys.err != TW_OK) {
        return err == TW_E_END ? store->swept_keys.err : err;
    }
    if (blocked > 0) {
        log_index_blocked(store->index, chunk, blocked);
    }
    return TW_OK;
}

/* Collects chunks until there are so many rows; shows readers which they are. */
static tw_err collect_chunks(log_store *store, size_t rows)
{
    tw_err err = TW_OK;
    tw_buf_clear(&store->swept_keys);
    while (err == TW_OK && store->swept_count < rows && store->sweeping_count < LOG_SWEEP_CHUNKS &&
           log_index_next_sweep(store->index, &store->sweep_at, SWEEP_LOOK)) {
        uint64_t chunk = store->sweep_at++;
        if (log_store_sweeping(store, chunk * LOG_CHUNK_ROWS)) {
            break; /* once around */
        }
        tw_rwlock_write(&store->lock);
        store->sweeping[store->sweeping_count++] = chunk; /* who misses a row of it knows why */
        tw_rwlock_done(&store->lock);
        err = collect(store, store->sweeping_count - 1);
    }
    for (size_t i = 0; i < store->swept_count; i++) {
        store->swept[i].key.ptr = (const uint8_t *)store->swept_keys.ptr + store->swept_key_at[i];
    }
    return err;
}

/* Versions of swept tombstones must not be given again: the collection's base goes with them. */
static tw_err save_bases(log_store *store)
{
    uint32_t saved = 0;
    for (size_t i = 0; i < store->swept_count; i++) {
        const log_row *row = &store->swept[i];
        if ((row->flags & TW_ROW_DELETE) == 0 || row->coll == saved) {
            continue;
        }
        saved = row->coll;
        const log_incarnation *of = log_index_incarnation(store->index, row->coll);
        const log_table_incarnation stored = {.id = of->id,
                                              .db = tw_str_of(of->db),
                                              .name = tw_str_of(of->name),
                                              .scope_field = tw_str_of(of->scope_field),
                                              .dropped = of->dropping,
                                              .ver_base = of->ver_base};
        tw_err err = log_table_save_incarnation(store->table, &stored);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

tw_err log_store_sweep(log_store *store, size_t rows)
{
    TW_ASSERT(store->swept_count == 0 && store->sweeping_count == 0);
    tw_err err = collect_chunks(store, rows);
    if (err != TW_OK || store->swept_count == 0) {
        return err;
    }
    uint64_t last = 0;
    for (size_t i = 0; err == TW_OK && i < store->swept_count; i++) {
        err = log_table_delete(store->table, store->swept[i].n);
        last = store->swept[i].n > last ? store->swept[i].n : last;
    }
    tw_fault("store_sweep");
    if (err == TW_OK) {
        err = log_table_save_number(store->table, "swept", store->swept_rows + store->swept_count);
    }
    if (err == TW_OK && last / LOG_CHUNK_ROWS == log_index_head(store->index) / LOG_CHUNK_ROWS) {
        /* The newest rows go: what was numbered must stay known. */
        err = log_table_save_number(store->table, "head",
                                    log_index_head(store->index) + store->prepared_count);
    }
    return err == TW_OK ? save_bases(store) : err;
}

/* Gives up an incarnation whose last row is gone; its row in the table goes with the next start or
 * sweep that meets it. */
static void retire(log_store *store, uint32_t coll)
{
    log_incarnation *incarnation = log_index_incarnation(store->index, coll);
    if (incarnation == NULL || incarnation->dropped == 0 || incarnation->is_void ||
        incarnation->all.count > 0 || log_index_present(store->index, incarnation->dropped)) {
        return;
    }
    if (log_table_delete_incarnation(store->table, coll) == TW_OK) {
        incarnation->is_void = true;
    }
}

void log_store_swept(log_store *store, bool committed)
{
    if (store->sweeping_count == 0) {
        return;
    }
    tw_rwlock_write(&store->lock);
    for (size_t i = 0; committed && i < store->swept_count; i++) {
        log_index_remove(store->index, &store->swept[i]);
    }
    store->sweeping_count = 0;
    store->swept_rows += committed ? store->swept_count : 0;
    for (size_t i = 0; committed && i < store->swept_count; i++) {
        if (i == 0 || store->swept[i].coll != store->swept[i - 1].coll) {
            retire(store, store->swept[i].coll);
        }
    }
    tw_rwlock_done(&store->lock);
    store->swept_count = 0;
}

tw_err log_store_step(log_store *store, bool may_sweep, bool *more)
{
    TW_ASSERT(store->index != NULL && store->prepared_count == 0);
    *more = true;
    if (kill_some(store)) {
        return TW_OK;
    }
    if (store->passed < log_index_floor(store->index)) {
        return pass_some(store);
    }
    uint64_t look = store->sweep_at;
    if (!log_index_next_sweep(store->index, &look, SWEEP_LOOK)) {
        *more = false;
        store->sweep_at = look;
        return TW_OK;
    }
    store->sweep_at = look;
    if (!may_sweep) {
        return TW_OK;
    }
    tw_err err = log_table_begin(store->table);
    if (err == TW_OK) {
        err = log_store_sweep(store, LOG_STEP_ROWS);
        if (err == TW_OK) {
            err = log_table_commit(store->table);
        } else {
            log_table_rollback(store->table);
        }
    }
    log_store_swept(store, err == TW_OK);
    return err;
}

tw_err log_store_tick(log_store *store, uint64_t unix_ms)
{
    TW_ASSERT(store->index != NULL && store->prepared_count == 0);
    log_guard_write(&store->guard, store->path, store->own_srv, log_index_head(store->index));
    return log_store_forget_old_opids(store, unix_ms);
}
