/* log_store.c - the handle, opening and loading; see log_store.h. Writing is in log_store_write.c,
 * the floor and sweeping in log_store_trim.c, damage in log_store_rebuild.c. */
#include "actors/log/log_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "actors/log/log_store_priv.h"

enum { RING_BYTES = 16777216 };

tw_err log_store_new(log_store **out)
{
    TW_ASSERT(out != NULL);
    *out = tw_alloc_zero(1, sizeof **out);
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    (*out)->magic = LOG_STORE_MAGIC;
    (*out)->guard = (log_guard){.lock = -1, .seen = -1};
    tw_rwlock_init(&(*out)->lock);
    return TW_OK;
}

void log_store_free(log_store **store)
{
    log_store *self = *store;
    *store = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->index == NULL); /* closed */
    if (self->memory_directory[0] != '\0') {
        static const char *const files[] = {"log.db", "log.db-wal", "log.db-shm", "lock",
                                            "log.seen"};
        char path[128];
        for (size_t i = 0; i < TW_COUNT(files); i++) {
            tw_format(path, sizeof path, "%s/%s", self->memory_directory, files[i]);
            unlink(path);
        }
        rmdir(self->memory_directory);
    }
    tw_rwlock_fini(&self->lock);
    tw_free(self);
}

uint64_t log_store_draw_srv(void)
{
    uint64_t drawn = 0;
    while (drawn == 0) {
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
            drawn = 0;
        }
        drawn &= TW_SEQNO_MAX;
    }
    return drawn;
}

/* ---- loading ---- */

static tw_err each_incarnation(void *context, const log_table_incarnation *stored)
{
    log_store *store = context;
    log_incarnation *incarnation;
    size_t count = log_index_incarnations(store->index);
    uint32_t last = count == 0 ? 0 : log_index_slot(store->index, count - 1)->id;
    if (stored->id <= last || stored->db.len == 0 || stored->db.len > TW_NAME_MAX ||
        stored->name.len == 0 || stored->name.len > TW_NAME_MAX) {
        return TW_E_CORRUPT;
    }
    tw_err err = log_index_add_incarnation(store->index, stored->id, stored->db, stored->name,
                                           stored->scope_field, &incarnation);
    if (err == TW_OK) {
        incarnation->dropped = stored->dropped;
        incarnation->dropping = stored->dropped;
        incarnation->is_stored = true;
        if (stored->ver_base > incarnation->ver_base) {
            incarnation->ver_base = stored->ver_base;
        }
    }
    return err;
}

static tw_err each_scope(void *context, uint32_t code, tw_key value)
{
    log_store *store = context;
    uint32_t same;
    bool is_good = code >= LOG_SCOPE_FIRST && code < INT32_MAX && value.len > 0 &&
                   value.len <= LOG_KEY_BYTES_MAX && log_index_scope(store->index, value) == 0;
    return is_good ? log_index_add_scope(store->index, code, value, &same) : TW_E_CORRUPT;
}

static tw_err each_origin(void *context, const log_table_origin *stored)
{
    log_store *store = context;
    log_origin *origin;
    if (stored->srv > TW_SEQNO_MAX || log_index_origin(store->index, stored->id) != NULL ||
        stored->id == 0 || log_index_origins(store->index) == TW_ORIGINS_MAX) {
        return TW_E_CORRUPT;
    }
    tw_err err = log_index_add_origin(store->index, stored->id, stored->srv, &origin);
    if (err == TW_OK) {
        origin->floor = stored->floor;
        origin->floor_multi = stored->floor_multi;
    }
    return err;
}

static tw_err each_mark(void *context, const log_mark *mark)
{
    log_store *store = context;
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

bool log_store_may_be_row(log_index *names, const log_row *row)
{
    const log_origin *origin = log_index_origin(names, row->origin);
    bool is_drop = (row->flags & TW_ROW_DROP) != 0;
    bool is_own = row->origin == LOG_ORIGIN_OWN;
    return log_index_incarnation(names, row->coll) != NULL && origin != NULL && row->n > 0 &&
           row->n <= TW_SEQNO_MAX && row->prev < row->n && (!is_own || row->seqno == row->n) &&
           (row->key.len == 0) == is_drop && row->key.len <= LOG_KEY_BYTES_MAX;
}

/* A row of the table. What could not have been written by us is damage, checksum or not. */
static tw_err each_row(void *context, const log_row *row)
{
    log_store *store = context;
    if (!log_store_may_be_row(store->index, row) || row->n <= log_index_head(store->index) ||
        row->seqno < log_index_origin(store->index, row->origin)->head) {
        tw_format(store->why, sizeof store->why, "%s: row %llu of the log is damaged", store->path,
                  (unsigned long long)row->n);
        return TW_E_CORRUPT;
    }
    tw_err err = log_index_add(store->index, row);
    if (err == TW_OK && row->n <= log_index_floor(store->index)) {
        log_index_pass_floor(store->index, row);
    }
    return err;
}

/* Rows are numbered without holes and only sweeping takes them away, below the floor: so that a
 * page that was replaced by an older state of itself, a pointer that skips some, a short count of
 * cells, each in order for SQLite, are seen as what they are. */
static tw_err check_complete(log_store *store, uint64_t head)
{
    uint64_t rows = log_index_figures(store->index).rows;
    uint64_t floor = log_index_floor(store->index);
    uint64_t above = floor;
    while (above < head && log_index_present(store->index, above + 1)) {
        above++;
    }
    if (above == head && rows + store->swept_rows == head) {
        return TW_OK;
    }
    tw_format(store->why, sizeof store->why,
              "%s: rows are missing: there are %llu of %llu, %llu were swept, and row %llu is %s",
              store->path, (unsigned long long)rows, (unsigned long long)head,
              (unsigned long long)store->swept_rows, (unsigned long long)(above + 1),
              above == head ? "not due" : "not there");
    return TW_E_CORRUPT;
}

/* Marks the rows of collections whose drop the floor has passed. */
static void kill_dropped(log_store *store)
{
    uint64_t floor = log_index_floor(store->index);
    for (size_t i = 0; i < log_index_incarnations(store->index); i++) {
        const log_incarnation *incarnation = log_index_slot(store->index, i);
        size_t at = 0;
        if (incarnation->dropped != 0 && incarnation->dropped <= floor) {
            (void)log_index_kill(store->index, incarnation->id, incarnation->dropped, &at,
                                 SIZE_MAX);
        }
    }
}

/* How far each source is, and whether what they give was ever complete. */
static tw_err load_sources(log_store *store)
{
    bool whole = !store->options.is_image;
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < log_index_origins(store->index); i++) {
        log_origin *origin = log_index_origin_at(store->index, i);
        log_source source;
        if (origin->id == LOG_ORIGIN_OWN) {
            continue;
        }
        err = log_store_source_numbers(store, origin->id, &source);
        if (source.at > 0 && source.at <= TW_SEQNO_MAX) {
            log_origin_reach(origin, source.at);
        }
        whole = whole || source.whole;
    }
    atomic_store(&store->whole, whole);
    return err;
}

tw_err log_store_load(log_store *store, uint64_t unix_ms)
{
    TW_ASSERT(store->table != NULL && store->index != NULL);
    uint64_t floor = 0;
    uint64_t head = 0;
    tw_err err = log_table_number(store->table, "floor", &floor);
    if (err == TW_OK) {
        err = log_table_number(store->table, "head", &head);
    }
    if (err == TW_OK) {
        err = log_table_number(store->table, "swept", &store->swept_rows);
    }
    if (err == TW_OK && (floor > TW_SEQNO_MAX || head > TW_SEQNO_MAX)) {
        err = TW_E_CORRUPT;
    }
    if (err == TW_OK) {
        log_index_set_floor(store->index, floor);
        err = log_table_incarnations(store->table, store, each_incarnation);
    }
    if (err == TW_OK) {
        err = log_table_scopes(store->table, store, each_scope);
    }
    if (err == TW_OK) {
        err = log_table_origins(store->table, store, each_origin);
    }
    if (err == TW_OK) {
        err = log_table_marks(store->table, store, each_mark);
    }
    if (err == TW_OK) {
        err = log_store_load_opids(store);
    }
    if (err == TW_OK && log_index_origin(store->index, LOG_ORIGIN_OWN) == NULL) {
        log_origin *own;
        err = log_index_add_origin(store->index, LOG_ORIGIN_OWN, 0, &own);
    }
    if (err == TW_OK) {
        err = log_table_load(store->table, each_row, store);
    }
    if (err != TW_OK) {
        return err;
    }
    uint64_t newest = log_index_head(store->index);
    newest = floor > newest ? floor : newest; /* so that no number is given twice */
    newest = head > newest ? head : newest;
    log_index_set_head(store->index, newest);
    err = check_complete(store, newest);
    if (err == TW_OK) {
        err = load_sources(store);
    }
    if (err != TW_OK) {
        return err;
    }
    kill_dropped(store);
    store->passed = floor;
    store->bytes = store->marks_count == 0 ? 0 : store->marks[store->marks_count - 1].bytes;
    (void)unix_ms;
    return TW_OK;
}

/* ---- opening ---- */

static tw_err make_directory(log_store *store, const log_store_options *options, char *why,
                             size_t size)
{
    if (!options->memory) {
        tw_format(store->directory, sizeof store->directory, "%s", options->directory);
        return log_guard_open(&store->guard, store->directory, why, size);
    }
    if (store->memory_directory[0] == '\0') {
        static const char *const parents[] = {"/dev/shm", "/tmp"};
        char path[64] = "";
        for (size_t i = 0; i < TW_COUNT(parents); i++) {
            tw_format(path, sizeof path, "%s/tidewire-XXXXXX", parents[i]);
            if (mkdtemp(path) != NULL) {
                memcpy(store->memory_directory, path, sizeof path);
                break;
            }
        }
    }
    if (store->memory_directory[0] == '\0') {
        tw_format(why, size, "no directory can be made in /dev/shm or /tmp");
        return TW_E_DISK;
    }
    tw_format(store->directory, sizeof store->directory, "%s", store->memory_directory);
    return TW_OK;
}

static tw_err allocate(log_store *store)
{
    size_t swept_max = (size_t)LOG_SWEEP_CHUNKS * LOG_CHUNK_ROWS;
    tw_buf_init(&store->swept_keys, swept_max * LOG_KEY_BYTES_MAX);
    store->swept = tw_alloc(swept_max * sizeof *store->swept);
    store->swept_key_at = tw_alloc(swept_max * sizeof *store->swept_key_at);
    store->prepared = tw_alloc(LOG_PREPARED_MAX * sizeof *store->prepared);
    store->overlay = tw_alloc_zero(LOG_OVERLAY_SLOTS, sizeof *store->overlay);
    store->overlay_slots = LOG_OVERLAY_SLOTS_FIRST;
    tw_buf_init(&store->opids_packed, LOG_OPID_GROUP_BYTES);
    tw_buf_init(&store->opids_gone, 4 * ((size_t)TW_OPIDS_MAX + 2 * LOG_PREPARED_MAX));
    store->opids = tw_alloc(LOG_PREPARED_MAX * sizeof *store->opids);
    store->opid_chains = tw_alloc_zero(LOG_OPID_CHAINS, sizeof *store->opid_chains);
    store->opid_gone_sizes = tw_alloc(LOG_OPID_GROUPS_GONE * sizeof *store->opid_gone_sizes);
    if (store->prepared == NULL || store->overlay == NULL || store->opids == NULL ||
        store->opid_chains == NULL || store->opid_gone_sizes == NULL || store->swept == NULL ||
        store->swept_key_at == NULL) {
        return TW_E_NO_MEMORY;
    }
    return log_ring_init(&store->ring, RING_BYTES);
}

/* Sees to the srv_id: one for a new log, another one for a copy. */
static tw_err settle_srv(log_store *store, char *why, size_t size)
{
    log_origin *own = log_index_origin(store->index, LOG_ORIGIN_OWN);
    TW_ASSERT(own != NULL);
    uint64_t head = log_index_head(store->index);
    bool is_new = own->srv == 0;
    bool is_copy = !is_new && !store->options.memory &&
                   !log_guard_fits(&store->guard, store->path, own->srv, head);
    if (is_new || is_copy) {
        uint64_t before = own->srv;
        /* A configured one is taken once: a log that had it and is gone gave positions under it. */
        bool is_given = is_new && store->options.srv_id != 0 &&
                        !log_guard_knows(&store->guard, store->options.srv_id);
        own->srv = is_given ? store->options.srv_id : log_store_draw_srv();
        const log_table_origin stored = {.id = LOG_ORIGIN_OWN, .srv = own->srv};
        tw_err err = log_table_begin(store->table);
        if (err == TW_OK) {
            err = log_table_save_origin(store->table, &stored);
            err = err == TW_OK ? log_table_commit(store->table) : err;
        }
        if (err != TW_OK) {
            return err;
        }
        if (is_copy) {
            tw_format(why, size,
                      "%s is a copy, was restored, or has lost its newest rows: its srv_id was "
                      "%llu and is now %llu",
                      store->path, (unsigned long long)before, (unsigned long long)own->srv);
        } else if (store->options.srv_id != 0 && !is_given) {
            tw_format(why, size,
                      "%s is new, but there was one before it: its srv_id is %llu, not the %llu "
                      "that is configured",
                      store->path, (unsigned long long)own->srv,
                      (unsigned long long)store->options.srv_id);
        }
    }
    store->own_srv = own->srv;
    log_guard_write(&store->guard, store->path, own->srv, head);
    return TW_OK;
}

/* Opens the file and loads it into a fresh index, which readers do not see yet. */
static tw_err open_and_load(log_store *store, log_index **index, uint64_t unix_ms, char *why,
                            size_t size)
{
    log_table_use use = store->options.memory ? LOG_TABLE_VOLATILE : LOG_TABLE_WRITER;
    bool was_damaged = atomic_exchange(&store->damaged, false);
    store->why[0] = '\0';
    tw_err err = log_table_open(&store->table, store->path, use, why, size);
    if (err == TW_OK) {
        err = was_damaged ? TW_E_CORRUPT : log_store_load(store, unix_ms);
        const char *said = store->why[0] != '\0' ? store->why : log_table_why(store->table);
        tw_format(why, size, "%s", was_damaged ? "a stored row is damaged" : said);
    }
    if (err == TW_E_CORRUPT) {
        log_index_free(&store->index);
        store->marks_count = 0;
        err = log_index_new(&store->index);
        if (err == TW_OK) {
            err = log_store_rebuild(store, unix_ms, why, size);
        }
    } else if (err == TW_OK) {
        why[0] = '\0';
    }
    *index = store->index;
    return err;
}

tw_err log_store_open(log_store *store, const log_store_options *options, uint64_t unix_ms,
                      char *why, size_t size)
{
    TW_ASSERT(store != NULL && store->magic == LOG_STORE_MAGIC);
    TW_ASSERT(store->index == NULL && store->table == NULL);
    store->options = *options;
    store->options.age_ms = options->age_ms == 0 ? TW_LOG_AGE_S * 1000ULL : options->age_ms;
    if (options->superseded_bytes == 0) {
        store->options.superseded_bytes = TW_LOG_SUPERSEDED_BYTES;
    }
    tw_rwlock_write(&store->lock); /* readers that come now wait for the start: it is short */
    tw_err err = make_directory(store, options, why, size);
    tw_format(store->path, sizeof store->path, "%s/log.db", store->directory);
    if (err == TW_OK) {
        err = log_store_finish_rebuild(store);
        tw_format(why, size, "%s", err == TW_OK ? "" : store->why);
    }
    if (err == TW_OK) {
        err = allocate(store);
        tw_format(why, size, "%s", err == TW_OK ? "" : "no memory");
    }
    if (err == TW_OK) {
        err = log_index_new(&store->index);
    }
    if (err == TW_OK) {
        log_index *index;
        err = open_and_load(store, &index, unix_ms, why, size);
    }
    if (err == TW_OK) {
        err = settle_srv(store, why, size);
    }
    if (err == TW_OK) {
        log_table_limit(store->table, options->bytes_max);
        store->generation++;
    }
    tw_rwlock_done(&store->lock);
    if (err != TW_OK) {
        log_store_close(store);
    }
    return err;
}

void log_store_close(log_store *store)
{
    TW_ASSERT(store != NULL && store->magic == LOG_STORE_MAGIC);
    if (store->prepared != NULL && !store->is_committed) {
        log_store_undo(store, 0);
    }
    if (store->index != NULL && store->table != NULL && store->own_srv != 0) {
        log_guard_write(&store->guard, store->path, store->own_srv, log_index_head(store->index));
    }
    tw_rwlock_write(&store->lock);
    log_index_free(&store->index);
    store->sweeping_count = 0;
    tw_rwlock_done(&store->lock);
    log_table_close(&store->table);
    log_guard_close(&store->guard);
    log_ring_fini(&store->ring);
    for (size_t i = 0; i < store->scopes_count; i++) {
        tw_free((void *)store->scopes[i].value.ptr);
    }
    tw_free(store->scopes);
    tw_free(store->prepared);
    tw_free(store->overlay);
    tw_free(store->opids);
    tw_free(store->opid_chains);
    tw_free(store->opid_gone_sizes);
    log_opids_fini(&store->known);
    tw_buf_fini(&store->opids_packed);
    tw_buf_fini(&store->opids_gone);
    tw_free(store->marks);
    tw_buf_fini(&store->swept_keys);
    tw_free(store->swept);
    tw_free(store->swept_key_at);
    store->swept = NULL;
    store->swept_key_at = NULL;
    store->scopes = NULL;
    store->scopes_count = store->scopes_cap = 0;
    store->prepared = NULL;
    store->prepared_count = 0;
    store->is_committed = false;
    store->overlay = NULL;
    store->opids = NULL;
    store->opid_chains = NULL;
    store->opid_gone_sizes = NULL;
    store->opid_groups_gone = 0;
    store->opids_count = 0;
    store->marks = NULL;
    store->marks_count = store->marks_cap = 0;
    store->incarnations_unstored = false;
    store->source = (log_source){0};
    store->kill_coll = 0;
    store->swept_count = 0;
    store->own_srv = 0;
}

bool log_store_is_open(const log_store *store)
{
    return store->index != NULL;
}

/* ---- both ---- */

tw_rwlock *log_store_lock(log_store *store)
{
    return &store->lock;
}

log_index *log_store_index(log_store *store)
{
    return store->index;
}

uint64_t log_store_generation(const log_store *store)
{
    return store->generation;
}

const char *log_store_path(const log_store *store)
{
    return store->path;
}

bool log_store_sweeping(const log_store *store, uint64_t n)
{
    for (size_t i = 0; i < store->sweeping_count; i++) {
        if (store->sweeping[i] == n / LOG_CHUNK_ROWS) {
            return true;
        }
    }
    return false;
}

void log_store_report_damage(log_store *store)
{
    atomic_store(&store->damaged, true);
}

bool log_store_is_whole(const log_store *store)
{
    return atomic_load(&store->whole);
}

bool log_store_is_damaged(const log_store *store)
{
    return atomic_load(&store->damaged);
}

uint64_t log_store_bytes(log_store *store)
{
    return log_table_bytes(store->table);
}

const char *log_store_why(const log_store *store)
{
    return store->why;
}
