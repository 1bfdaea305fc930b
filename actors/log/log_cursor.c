/* log_cursor.c - see log_cursor.h.
 *
 * A page is: look into the index under the lock and note row numbers; let go; read them in one read
 * transaction; look again whether the floor has risen above what was relied on. A row that was
 * noted and is no longer there was dead (swept), so it is skipped: if that mattered, the floor
 * tells. */
#include "actors/log/log_cursor.h"

#include "broker/position.h"

enum {
    FOUND_MAX = 1024,      /* row numbers noted at a time: bounds the time under the lock */
    FOUND_FIRST = 256,     /* the same at first: mostly a page is full then */
    PAGE_READS_MAX = 4096, /* rows read for one page: a page ends in milliseconds */
    LISTS_MAX = 2 * TW_COLLECTIONS_PER_TOPIC_MAX,
};

/* ---- the view ---- */

void log_view_init(log_view *view, log_store *store)
{
    TW_ASSERT(store != NULL);
    *view = (log_view){.store = store};
}

void log_view_fini(log_view *view)
{
    log_table_close(&view->table);
}

tw_err log_view_sync(log_view *view)
{
    char path[4096];
    tw_rwlock_read(log_store_lock(view->store));
    bool is_open = log_store_index(view->store) != NULL;
    uint64_t generation = log_store_generation(view->store);
    tw_format(path, sizeof path, "%s", log_store_path(view->store));
    tw_rwlock_done(log_store_lock(view->store));
    if (!is_open) {
        tw_format(view->why, sizeof view->why, "the store is starting");
        return TW_E_UNAVAILABLE;
    }
    if (view->table != NULL && view->generation == generation) {
        return TW_OK;
    }
    log_table_close(&view->table);
    tw_err err = log_table_open(&view->table, path, LOG_TABLE_READER, view->why, sizeof view->why);
    view->generation = generation;
    return err == TW_OK ? TW_OK : err == TW_E_NO_MEMORY ? err : TW_E_UNAVAILABLE;
}

/* Notes an error of the table, and damage for the writer. */
static tw_err failed(log_view *view, tw_err err)
{
    tw_format(view->why, sizeof view->why, "%s", log_table_why(view->table));
    if (err == TW_E_CORRUPT) {
        log_store_report_damage(view->store);
    }
    return err == TW_E_INTERNAL || err == TW_E_BUSY ? TW_E_UNAVAILABLE : err;
}

tw_err log_view_begin(log_view *view)
{
    TW_ASSERT(view->table != NULL);
    tw_err err = log_table_begin(view->table);
    return err == TW_OK ? TW_OK : failed(view, err);
}

tw_err log_view_end(log_view *view)
{
    log_table_scan_end(view->table);
    log_table_rollback(view->table);
    tw_rwlock_read(log_store_lock(view->store));
    bool is_same = log_store_index(view->store) != NULL &&
                   log_store_generation(view->store) == view->generation;
    tw_rwlock_done(log_store_lock(view->store));
    if (!is_same) {
        tw_format(view->why, sizeof view->why, "the store was started anew");
    }
    return is_same ? TW_OK : TW_E_UNAVAILABLE;
}

/* A row that the index named is not in the table. */
static tw_err missing(log_view *view, uint64_t n)
{
    tw_rwlock_read(log_store_lock(view->store));
    const log_index *index = log_store_index(view->store);
    bool is_same = index != NULL && log_store_generation(view->store) == view->generation;
    bool is_gone = is_same && (!log_index_present(index, n) || log_store_sweeping(view->store, n));
    tw_rwlock_done(log_store_lock(view->store));
    if (is_gone) {
        return TW_E_NOT_FOUND;
    }
    if (!is_same) {
        tw_format(view->why, sizeof view->why, "the store was started anew");
        return TW_E_UNAVAILABLE;
    }
    tw_format(view->why, sizeof view->why, "row %llu of the log is missing", (unsigned long long)n);
    log_store_report_damage(view->store);
    return TW_E_CORRUPT;
}

tw_err log_view_read(log_view *view, uint64_t n, log_row *out)
{
    tw_err err = log_table_read(view->table, n, out);
    if (err == TW_E_NOT_FOUND) {
        return missing(view, n);
    }
    return err == TW_OK ? TW_OK : failed(view, err);
}

tw_err log_view_scan(log_view *view, uint64_t n, log_row *out)
{
    tw_err err = log_table_scan(view->table, n, out);
    if (err == TW_E_END || (err == TW_OK && out->n != n)) {
        log_table_scan_end(view->table); /* it may stand on a row that is asked for next */
        return missing(view, n);
    }
    return err == TW_OK ? TW_OK : failed(view, err);
}

/* ---- scans ---- */

typedef struct scan_list {
    const log_list *list;
    size_t at;
    uint32_t part;
} scan_list;

static void add_list(scan_list *lists, size_t *count, const log_list *list, uint64_t after,
                     size_t part)
{
    TW_ASSERT(*count < LISTS_MAX);
    size_t at = list == NULL ? 0 : log_list_after(list, after);
    if (list != NULL && at < list->count) {
        lists[(*count)++] = (scan_list){list, at, (uint32_t)part};
    }
}

/* The living incarnation that readers see: a drop that is not committed yet does not count. */
static log_incarnation *living(log_index *index, const log_part *part)
{
    log_incarnation *at = log_index_named(index, part->db, part->name);
    while (at != NULL && (at->is_void || (at->all.count == 0 && at->dropped == 0))) {
        at = log_index_older(index, at); /* without rows it may not be committed */
    }
    return at == NULL || at->dropped != 0 ? NULL : at;
}

/* The incarnation that lived at a row. */
static log_incarnation *living_at(log_index *index, const log_part *part, uint64_t cut)
{
    log_incarnation *at = log_index_named(index, part->db, part->name);
    while (at != NULL && (at->is_void || at->all.count == 0 || at->all.at[0] > cut)) {
        at = log_index_older(index, at); /* it had no rows yet */
    }
    return at == NULL || (at->dropped != 0 && at->dropped <= cut) ? NULL : at;
}

static size_t open_lists(const log_scan *scan, log_index *index, scan_list *lists)
{
    size_t count = 0;
    for (size_t i = 0; i < scan->parts_count; i++) {
        const log_part *part = &scan->parts[i];
        const log_incarnation *incarnation =
            scan->cut == 0 ? living(index, part) : living_at(index, part, scan->cut);
        if (incarnation == NULL) {
            continue;
        }
        bool is_scoped = part->scope.len > 0 && part->scope_field.len > 0 &&
                         tw_str_equal(part->scope_field, tw_str_of(incarnation->scope_field));
        if (!is_scoped) {
            add_list(lists, &count, log_index_all(index, incarnation), scan->after, i);
            continue;
        }
        uint32_t code = log_index_scope(index, part->scope);
        if (code != 0) {
            add_list(lists, &count, log_index_scoped(index, incarnation->id, code), scan->after, i);
        }
        add_list(lists, &count, log_index_scoped(index, incarnation->id, LOG_SCOPE_WILD),
                 scan->after, i);
    }
    return count;
}

/* The part that names a dropped collection, or parts_count. */
static size_t part_of_drop(const log_scan *scan, log_index *index, uint32_t coll)
{
    const log_incarnation *dropped = log_index_incarnation(index, coll);
    size_t i = 0;
    while (i < scan->parts_count && dropped != NULL &&
           !(tw_str_equal(tw_str_of(dropped->db), scan->parts[i].db) &&
             tw_str_equal(tw_str_of(dropped->name), scan->parts[i].name))) {
        i++;
    }
    return dropped == NULL ? scan->parts_count : i;
}

/* The next drop of one of the parts at or behind *at; UINT64_MAX: none. */
static uint64_t next_drop(const log_scan *scan, log_index *index, size_t *at, size_t *part)
{
    const log_list *drops = log_index_drops(index);
    for (; *at < drops->count; ++*at) {
        *part = part_of_drop(scan, index, log_index_drop_coll(index, *at));
        if (*part < scan->parts_count && drops->at[*at] > scan->newest_upto) {
            return drops->at[*at];
        }
    }
    return UINT64_MAX;
}

/* The list whose next row is the lowest; moves those on that name the same row. */
static uint64_t next_row(scan_list *lists, size_t *count, uint32_t *part)
{
    uint64_t lowest = UINT64_MAX;
    for (size_t i = 0; i < *count; i++) {
        uint64_t n = lists[i].list->at[lists[i].at];
        if (n < lowest) {
            lowest = n;
            *part = lists[i].part;
        }
    }
    for (size_t i = 0; i < *count;) {
        bool is_it = lists[i].list->at[lists[i].at] == lowest;
        if (is_it && ++lists[i].at == lists[i].list->count) {
            lists[i] = lists[--*count];
        } else {
            i++;
        }
    }
    return lowest;
}

static uint64_t peek_row(const scan_list *lists, size_t count)
{
    uint64_t lowest = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = lists[i].list->at[lists[i].at];
        lowest = n < lowest ? n : lowest;
    }
    return lowest;
}

/* What a reader needs to know of a row later, when the lock is let go. */
static log_found note_found(const log_scan *scan, const log_index *index, uint64_t n, uint32_t part,
                            bool is_superseded)
{
    log_found found = {.n = n, .part = part, .superseded = is_superseded};
    if (found.superseded) {
        uint64_t after = log_index_silent_after(index, n);
        found.covered = log_index_covered(index, n);
        found.hidden = found.covered || after == 0 || after <= scan->w0;
    }
    return found;
}

/* Rows of every collection, by their numbers; whether they still count is seen when they are read.
 */
static bool collect_every(log_scan *scan, log_index *index, log_found *found, size_t max,
                          size_t *count)
{
    uint64_t head = log_index_head(index);
    *count = 0;
    for (;;) {
        uint64_t row = log_index_next(index, scan->after);
        if (row > head) { /* none */
            scan->after = head > scan->after ? head : scan->after;
            return true;
        }
        if (*count == max || scan->looked >= scan->looked_max) {
            return false;
        }
        scan->looked++;
        scan->after = row;
        log_found noted = note_found(scan, index, row, 0, log_index_superseded(index, row));
        if (!noted.hidden || row > scan->newest_upto) {
            found[(*count)++] = noted;
        }
    }
}

bool log_scan_collect(log_scan *scan, log_index *index, log_found *found, size_t max, size_t *count)
{
    if (scan->every) {
        return collect_every(scan, index, found, max, count);
    }
    TW_ASSERT(scan->parts_count <= TW_COLLECTIONS_PER_TOPIC_MAX);
    scan_list lists[LISTS_MAX];
    size_t lists_count = open_lists(scan, index, lists);
    size_t drop_at = scan->drops ? log_list_after(log_index_drops(index), scan->after)
                                 : log_index_drops(index)->count;
    size_t drop_part = 0;
    uint64_t drop = next_drop(scan, index, &drop_at, &drop_part);
    *count = 0;
    for (;;) {
        uint64_t row = peek_row(lists, lists_count);
        if (scan->cut != 0 && row > scan->cut) {
            scan->after = scan->cut;
            return true;
        }
        if (row == UINT64_MAX && drop == UINT64_MAX) {
            uint64_t head = log_index_head(index);
            scan->after = head > scan->after ? head : scan->after;
            return true;
        }
        if (*count == max || scan->looked >= scan->looked_max) {
            return false;
        }
        scan->looked++;
        if (drop < row) {
            found[(*count)++] = (log_found){.n = drop, .part = (uint32_t)drop_part};
            scan->after = drop;
            drop_at++;
            drop = next_drop(scan, index, &drop_at, &drop_part);
            continue;
        }
        uint32_t part = 0;
        row = next_row(lists, &lists_count, &part);
        scan->after = row;
        log_row_state is = log_index_state(index, row);
        log_found noted = note_found(scan, index, row, part, is.is_superseded);
        if (is.is_present && (!noted.hidden || row > scan->newest_upto)) {
            found[(*count)++] = noted;
        }
    }
}

/* ---- pages ---- */

/* What is needed of an origin while a page is read. */
typedef struct page_origin {
    uint32_t id;
    uint64_t srv;
    uint64_t pos; /* the client's; 0: it has nothing of it */
} page_origin;

typedef struct page_run {
    log_view *view;
    const log_page_taker *taker;
    log_page *page;
    page_origin origins[TW_ORIGINS_MAX];
    size_t origins_count;
    uint64_t start; /* cursor with which the page began */
    size_t reads;
} page_run;

static void set_reset(log_page *page, enum tw_reset reset, const log_origin *origin, uint64_t floor)
{
    page->reset = reset;
    page->srv = origin->srv;
    page->floor = floor;
    page->follows = origin->id != LOG_ORIGIN_OWN;
}

static uint64_t floor_of(log_index *index, const log_origin *origin)
{
    return origin->id == LOG_ORIGIN_OWN ? log_index_floor(index) : origin->floor;
}

/* LOG.md rules 3 to 5: whether all that the cursor relies on is still there. Under the lock. */
static void check_floor(const page_run *run, log_index *index)
{
    log_page *page = run->page;
    for (size_t i = 0; i < run->origins_count && page->reset == TW_RESET_NONE; i++) {
        const log_origin *origin = log_index_origin(index, run->origins[i].id);
        uint64_t pos = run->origins[i].pos;
        uint64_t floor = floor_of(index, origin);
        uint64_t seen = log_origin_seqno_at(origin, run->start);
        bool is_cut = pos == floor && origin->floor_multi && seen <= pos && pos > 0;
        uint64_t cursor = run->start > page->w0 ? run->start : page->w0;
        bool is_below = pos > 0 ? (pos > seen ? pos : seen) < floor
                                : floor > 0 && cursor < log_index_floor(index);
        if (is_below || is_cut) {
            set_reset(page, TW_RESET_COMPACTED, origin, floor);
        }
    }
}

static void note_origins(page_run *run, log_index *index)
{
    run->origins_count = log_index_origins(index);
    for (size_t i = 0; i < run->origins_count; i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        run->origins[i] = (page_origin){origin->id, origin->srv,
                                        position_vector_get(run->page->since, origin->srv)};
    }
}

/* Finds the cursor of a first page. Under the lock. */
static void begin_page(page_run *run, log_index *index)
{
    log_page *page = run->page;
    page->head = log_index_head(index);
    note_origins(run, index);
    if (page->now) {
        page->after = page->head;
    } else if (page->fresh || page->resume) {
        bool any_fresh = false;
        uint64_t lowest = page->head;
        for (size_t i = 0; i < run->origins_count; i++) {
            const log_origin *origin = log_index_origin(index, run->origins[i].id);
            uint64_t pos = page->fresh ? 0 : run->origins[i].pos;
            bool is_own = origin->id == LOG_ORIGIN_OWN;
            if (pos > (is_own ? page->head : origin->head)) {
                set_reset(page, TW_RESET_AHEAD, origin, floor_of(index, origin));
            } else if (pos > 0 && page->reset == TW_RESET_NONE &&
                       (pos < floor_of(index, origin) ||
                        (!is_own && pos == origin->floor && origin->floor_multi))) {
                set_reset(page, TW_RESET_COMPACTED, origin, floor_of(index, origin));
            }
            uint64_t row = pos == 0 ? 0 : log_origin_row_below(origin, pos);
            /* Nothing of the origin is below the floor: from 0 on all can be told, what left too.
             * */
            bool is_whole = page->resume && floor_of(index, origin) == 0;
            any_fresh = any_fresh || (pos == 0 && origin->rows > 0 && !is_whole);
            bool has_rows = pos > 0 || (is_whole && origin->rows > 0);
            lowest = has_rows && row < lowest ? row : lowest;
        }
        page->w0 = page->fresh || any_fresh ? page->head : 0;
        page->after = page->fresh || any_fresh ? 0 : lowest;
        uint64_t floor = log_index_floor(index); /* below it is nothing that the client lacks */
        page->after = !page->fresh && !any_fresh && page->after < floor ? floor : page->after;
    }
    run->start = page->after;
    if (page->reset == TW_RESET_NONE) {
        check_floor(run, index);
    }
}

/* Names the part of a row that was found by its number. False: it has none, or its collection was
 * dropped. */
static bool place_row(page_run *run, const log_row *row, size_t *part)
{
    const log_page_taker *taker = run->taker;
    log_page *page = run->page;
    int placed = -1;
    tw_rwlock_read(log_store_lock(run->view->store));
    log_index *index = log_store_index(run->view->store);
    bool is_same = index != NULL && log_store_generation(run->view->store) == run->view->generation;
    const log_incarnation *coll = is_same ? log_index_incarnation(index, row->coll) : NULL;
    bool counts =
        coll != NULL && !coll->is_void && (coll->dropped == 0 || (row->flags & TW_ROW_DROP) != 0);
    if (counts) {
        tw_format(page->db, sizeof page->db, "%s", coll->db);
        tw_format(page->coll, sizeof page->coll, "%s", coll->name);
        placed = taker->part_of(taker->context, tw_str_of(coll->db), tw_str_of(coll->name));
    }
    tw_rwlock_done(log_store_lock(run->view->store));
    *part = placed < 0 ? 0 : (size_t)placed;
    return placed >= 0;
}

/* True when the client's since covers a row: it was told it. A cursor alone does not say so, since
 * what newer rows superseded was left out below it. */
static bool was_told(const page_run *run, const log_row *row)
{
    for (size_t i = 0; i < run->origins_count; i++) {
        if (run->origins[i].id == row->origin) {
            return row->seqno <= run->origins[i].pos && (row->flags & TW_ROW_SILENT) == 0;
        }
    }
    return false;
}

/* What the taker makes of a row that is told, given the versions before it: the one that it
 * supersedes, and where nothing leaves by that and it is silent, those up to the last that is told.
 */
static tw_err weigh(page_run *run, const log_row *row, size_t part, const page_origin *origin,
                    unsigned *meaning)
{
    const log_page_taker *taker = run->taker;
    log_row before = {.prev = row->prev, .flags = TW_ROW_SILENT};
    tw_err err = TW_OK;
    *meaning = 0;
    for (bool is_first = true; *meaning == 0; is_first = false) {
        bool is_more = (before.flags & TW_ROW_SILENT) != 0 && before.prev != 0;
        if (!is_more && !is_first) {
            break;
        }
        err = is_more ? log_view_read(run->view, before.prev, &before) : TW_E_NOT_FOUND;
        if (err != TW_OK && err != TW_E_NOT_FOUND) {
            return err;
        }
        bool is_there = err == TW_OK;
        if (is_first) {
            run->page->old_told = is_there && was_told(run, &before);
        }
        *meaning = taker->meaning(taker->context, part, row, is_there ? before.doc : (tw_bson){0},
                                  origin->srv, true);
        run->reads++;
        if (!is_there) {
            break;
        }
    }
    return TW_OK;
}

static const page_origin *origin_of(const page_run *run, uint32_t id)
{
    for (size_t i = 0; i < run->origins_count; i++) {
        if (run->origins[i].id == id) {
            return &run->origins[i];
        }
    }
    return NULL;
}

/* The cursor rule for one row. *full: the page has no room for it. */
static tw_err apply_row(page_run *run, const log_found *found, bool *full)
{
    log_row row;
    tw_err err = log_view_scan(run->view, found->n, &row);
    if (err != TW_OK) {
        return err == TW_E_NOT_FOUND ? TW_OK : err;
    }
    const page_origin *origin = origin_of(run, row.origin);
    if (origin == NULL) {
        return TW_OK; /* came after the page began: the next one has it */
    }
    bool is_shared = (row.flags & TW_ROW_MULTI) != 0 && origin->id != LOG_ORIGIN_OWN;
    if (row.seqno < origin->pos || (row.seqno == origin->pos && !is_shared)) {
        return TW_OK; /* the client has it */
    }
    bool is_fresh = origin->pos == 0 && row.n <= run->page->w0;
    bool has_nothing = origin->pos == 0 && run->page->w0 == 0 && run->page->since.count > 0;
    bool is_untold = (row.flags & TW_ROW_SILENT) != 0 && !is_fresh && !has_nothing;
    bool is_put = (row.flags & TW_ROW_PUT) != 0;
    size_t part = found->part;
    if (is_untold || (is_fresh && (!is_put || found->hidden)) ||
        (run->taker->part_of != NULL && !place_row(run, &row, &part))) {
        return TW_OK;
    }
    run->page->old_told = false;
    unsigned meaning = 0;
    if (is_fresh) {
        meaning =
            run->taker->meaning(run->taker->context, part, &row, (tw_bson){0}, origin->srv, false);
    } else {
        err = weigh(run, &row, part, origin, &meaning);
    }
    bool is_squashed =
        meaning == TW_MEANS_PUT && !is_fresh && (has_nothing ? found->superseded : found->covered);
    if (err != TW_OK || meaning == 0 || is_squashed) {
        return err;
    }
    *full = !run->taker->take(run->taker->context, part, meaning, &row, origin->srv);
    return TW_OK;
}

/* Reads what was noted; *at is where the page then stands. */
static tw_err apply_found(page_run *run, const log_found *found, size_t count, uint64_t *at,
                          bool *full)
{
    tw_err err = TW_OK;
    for (size_t i = 0; i < count; i++) {
        err = apply_row(run, &found[i], full);
        if (err != TW_OK || *full) {
            return err;
        }
        *at = found[i].n;
        run->reads++;
    }
    return err;
}

/* Positions at the cursor. */
static void note_positions(page_run *run, log_index *index)
{
    log_page *page = run->page;
    tw_position *at = page->at;
    page->at_count = 0;
    for (size_t i = 0; i < log_index_origins(index); i++) {
        const log_origin *origin = log_index_origin_at(index, i);
        uint64_t seqno = log_origin_seqno_at(origin, page->after);
        uint64_t pos = position_vector_get(page->since, origin->srv);
        bool is_unused =
            origin->id == LOG_ORIGIN_OWN && origin->rows == 0 && log_index_origins(index) > 1;
        if (is_unused) {
            continue;
        }
        size_t k = page->at_count++;
        for (; k > 0 && at[k - 1].srv > origin->srv; k--) {
            at[k] = at[k - 1];
        }
        at[k] = (tw_position){origin->srv, seqno > pos ? seqno : pos};
    }
}

static tw_err read_rows(page_run *run, log_scan *scan, log_found *found)
{
    log_store *store = run->view->store;
    bool at_head = false;
    bool full = false;
    size_t found_max = FOUND_FIRST;
    tw_err err = TW_OK;
    while (err == TW_OK && !at_head && !full && run->reads < PAGE_READS_MAX &&
           scan->looked < scan->looked_max) {
        size_t count = 0;
        tw_rwlock_read(log_store_lock(store));
        log_index *index = log_store_index(store);
        bool is_same = index != NULL && log_store_generation(store) == run->view->generation;
        if (is_same) {
            at_head = log_scan_collect(scan, index, found, found_max, &count);
            run->page->head = log_index_head(index);
        }
        tw_rwlock_done(log_store_lock(store));
        if (!is_same) {
            tw_format(run->view->why, sizeof run->view->why, "the store was started anew");
            return TW_E_UNAVAILABLE;
        }
        err = log_view_begin(run->view);
        if (err == TW_OK) {
            uint64_t at = run->page->after;
            err = apply_found(run, found, count, &at, &full);
            run->page->after = full ? at : scan->after;
            log_table_scan_end(run->view->table);
            log_table_rollback(run->view->table);
        }
        found_max = FOUND_MAX;
    }
    return err;
}

tw_err log_page_read(log_view *view, tw_arena *arena, const log_part *parts, size_t parts_count,
                     const log_page_taker *taker, log_page *page)
{
    TW_ASSERT(view->table != NULL && taker != NULL && page != NULL);
    page_run run = {.view = view, .taker = taker, .page = page};
    log_store *store = view->store;
    log_found *found = tw_arena_alloc(arena, FOUND_MAX * sizeof *found);
    if (found == NULL) {
        return TW_E_NO_MEMORY;
    }
    page->reset = TW_RESET_NONE;
    page->caught_up = false;
    page->at_count = 0;
    tw_rwlock_read(log_store_lock(store));
    log_index *index = log_store_index(store);
    bool is_same = index != NULL && log_store_generation(store) == view->generation;
    if (is_same) {
        begin_page(&run, index);
    }
    tw_rwlock_done(log_store_lock(store));
    if (!is_same) {
        tw_format(view->why, sizeof view->why, "the store was started anew");
        return TW_E_UNAVAILABLE;
    }
    if (page->reset != TW_RESET_NONE) {
        return TW_OK;
    }
    log_scan scan = {.parts = parts,
                     .parts_count = parts_count,
                     .after = page->after,
                     .newest_upto = page->since.count == 0 ? page->w0 : 0,
                     .w0 = page->w0,
                     .drops = true,
                     .every = taker->part_of != NULL,
                     .looked_max = TW_PAGE_SCAN_MAX};
    tw_err err = read_rows(&run, &scan, found);
    if (err != TW_OK) {
        return err;
    }
    tw_rwlock_read(log_store_lock(store));
    index = log_store_index(store);
    is_same = index != NULL && log_store_generation(store) == view->generation;
    if (is_same) {
        check_floor(&run, index);
        note_positions(&run, index);
        page->caught_up = page->after >= page->head;
    }
    tw_rwlock_done(log_store_lock(store));
    return is_same ? TW_OK : TW_E_UNAVAILABLE;
}
