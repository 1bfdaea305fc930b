/* log_store_rebuild.c - a damaged log is written anew from its good rows, under a new srv_id:
 * positions given before may stand for what is lost. The floor is the head then, so nobody's cursor
 * reaches what is missing. See log_store.h.
 *
 * A kill may come at any point:
 * 1. The new log grows as log.db.rebuilding, beside the damaged one, which is only read. A start
 *    that finds both begins again.
 * 2. When it is whole and synced it is renamed to log.db.rebuilt. A start that finds that goes on
 *    from here: the damaged file and what belongs to it are set aside (never deleted) as
 *    log.db.damaged-TIME, and the new one takes its place. The write-ahead log goes first: beside
 *    another file it would be taken for that file's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/fault.h"

#include "actors/runtime/log.h"

#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

enum { PATH_BYTES = 4200 };

typedef struct number_set {
    uint8_t *bits; /* own */
    size_t bytes;
} number_set;

typedef struct rebuild {
    log_store *store;
    log_table *from, *to;
    log_index *names; /* own; what is known of collections, scopes and origins */
    uint64_t opid_groups;
    uint64_t rows, head, floor;
    uint64_t orphans; /* rows of collections that are no longer known */
    number_set rows_kept, scopes_kept;
} rebuild;

static void part_path(const log_store *store, const char *suffix, const char *part, char *out)
{
    tw_format(out, PATH_BYTES, "%s%s%s", store->path, suffix, part);
}

static const char *const parts[] = {"-wal", "-shm", "-journal", ""};

/* Makes names durable. */
static bool sync_directory(const log_store *store)
{
    int directory = open(store->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = directory >= 0 && fsync(directory) == 0;
    if (directory >= 0) {
        close(directory);
    }
    return done;
}

static tw_err disk_error(log_store *store, const char *path)
{
    tw_format(store->why, sizeof store->why, "%s: %s", path, strerror(errno));
    return TW_E_DISK;
}

tw_err log_store_finish_rebuild(log_store *store)
{
    char from[PATH_BYTES], to[PATH_BYTES], suffix[64];
    struct stat made;
    part_path(store, ".rebuilt", "", from);
    if (stat(from, &made) != 0) {
        return TW_OK;
    }
    uint64_t made_ms =
        (uint64_t)made.st_mtim.tv_sec * 1000 + (uint64_t)made.st_mtim.tv_nsec / 1000000;
    tw_format(suffix, sizeof suffix, ".damaged-%llu", (unsigned long long)made_ms);
    for (size_t i = 0; i < TW_COUNT(parts); i++) {
        part_path(store, "", parts[i], from);
        part_path(store, suffix, parts[i], to);
        if (rename(from, to) != 0 && errno != ENOENT) { /* some are not there, or went before */
            return disk_error(store, from);
        }
        tw_fault("store_rebuild_aside");
    }
    part_path(store, ".rebuilt", "", from);
    if (!sync_directory(store) || rename(from, store->path) != 0 || !sync_directory(store)) {
        return disk_error(store, from);
    }
    tw_log(TW_LOG_ERROR, "store", "%s was damaged; it is set aside as %s%s", store->path,
           store->path, suffix);
    return TW_OK;
}

/* ---- copying ---- */

static tw_err number_set_add(number_set *set, uint64_t n)
{
    size_t at = (size_t)(n / 8);
    if (at >= set->bytes) {
        size_t bytes = (at + 1) * 2;
        uint8_t *bigger = tw_realloc(set->bits, bytes);
        if (bigger == NULL) {
            return TW_E_NO_MEMORY;
        }
        memset(bigger + set->bytes, 0, bytes - set->bytes);
        set->bits = bigger;
        set->bytes = bytes;
    }
    set->bits[at] = (uint8_t)(set->bits[at] | 1u << n % 8);
    return TW_OK;
}

static bool number_set_has(const number_set *set, uint64_t n)
{
    return n / 8 < set->bytes && (set->bits[n / 8] >> n % 8 & 1) != 0;
}

static tw_err keep_incarnation(void *context, const log_table_incarnation *incarnation)
{
    rebuild *self = context;
    log_incarnation *added;
    size_t count = log_index_incarnations(self->names);
    uint32_t last = count == 0 ? 0 : log_index_slot(self->names, count - 1)->id;
    bool is_good = incarnation->id > last && count < TW_COLLECTIONS_MAX &&
                   incarnation->db.len > 0 && incarnation->db.len <= TW_NAME_MAX &&
                   incarnation->name.len > 0 && incarnation->name.len <= TW_NAME_MAX;
    if (!is_good) {
        return TW_OK; /* its rows go with it */
    }
    tw_err err = log_index_add_incarnation(self->names, incarnation->id, incarnation->db,
                                           incarnation->name, incarnation->scope_field, &added);
    return err == TW_OK ? log_table_save_incarnation(self->to, incarnation) : err;
}

static tw_err keep_scope(void *context, uint32_t code, tw_key value)
{
    rebuild *self = context;
    uint32_t same;
    bool is_good = code >= LOG_SCOPE_FIRST && code < INT32_MAX && value.len > 0 &&
                   value.len <= LOG_KEY_BYTES_MAX && log_index_scope(self->names, value) == 0;
    if (!is_good) {
        return TW_OK;
    }
    tw_err err = log_index_add_scope(self->names, code, value, &same);
    if (err == TW_OK) {
        err = number_set_add(&self->scopes_kept, code);
    }
    return err == TW_OK ? log_table_save_scope(self->to, code, value) : err;
}

/* The own origin gets another srv_id; foreign ones keep theirs but go on from nothing: what is lost
 * is to be read from them again. */
static tw_err keep_origin(void *context, const log_table_origin *origin)
{
    rebuild *self = context;
    log_origin *added;
    log_table_origin kept = *origin;
    kept.token = (tw_str){0};
    bool is_good = origin->id > LOG_ORIGIN_OWN && origin->srv <= TW_SEQNO_MAX &&
                   log_index_origin(self->names, origin->id) == NULL &&
                   log_index_origin_of_srv(self->names, origin->srv) == NULL &&
                   log_index_origins(self->names) < TW_ORIGINS_MAX;
    if (!is_good) {
        return TW_OK;
    }
    tw_err err = log_index_add_origin(self->names, origin->id, origin->srv, &added);
    return err == TW_OK ? log_table_save_origin(self->to, &kept) : err;
}

/* Rows are whole: their checksums fit. Rows of a collection that is lost go; a scope whose value is
 * lost may be any. */
static tw_err keep_row(void *context, const log_row *row)
{
    rebuild *self = context;
    if (!log_store_may_be_row(self->names, row)) {
        self->orphans++;
        return TW_OK;
    }
    log_row kept = *row;
    uint32_t *const codes[] = {&kept.scope, &kept.lscope};
    for (size_t i = 0; i < TW_COUNT(codes); i++) {
        if (*codes[i] >= LOG_SCOPE_FIRST && !number_set_has(&self->scopes_kept, *codes[i])) {
            *codes[i] = LOG_SCOPE_WILD;
        }
    }
    tw_err err = number_set_add(&self->rows_kept, row->n);
    if (err == TW_OK) {
        err = log_table_insert(self->to, &kept);
    }
    self->rows += err == TW_OK ? 1 : 0;
    self->head = row->n > self->head ? row->n : self->head;
    tw_fault("store_rebuild_copy");
    return err;
}

/* An operation is still done when its row is there, or was superseded long ago: below the floor.
 * Groups are numbered anew, without holes. */
static tw_err keep_opids(void *context, uint64_t group, uint64_t time_ms, tw_str body)
{
    rebuild *self = context;
    tw_buf kept;
    log_opid opid;
    size_t at = 0;
    (void)group;
    tw_buf_init(&kept, body.len);
    while (log_opids_unpack(body, &at, &opid) == TW_OK) {
        if (number_set_has(&self->rows_kept, opid.seqno) || opid.seqno <= self->floor) {
            log_opids_pack(&kept, &opid);
        }
    }
    tw_err err = kept.err;
    if (err == TW_OK && kept.len > 0) {
        err = log_table_save_opids(self->to, ++self->opid_groups, time_ms, tw_buf_str(&kept));
    }
    tw_buf_fini(&kept);
    return err;
}

/* What of these cannot be read is lost; the rows decide what can be kept. */
static tw_err copy_names(rebuild *self)
{
    log_origin *own;
    const log_table_origin stored = {.id = LOG_ORIGIN_OWN, .srv = log_store_draw_srv()};
    tw_err err = log_index_add_origin(self->names, LOG_ORIGIN_OWN, stored.srv, &own);
    if (err == TW_OK) {
        err = log_table_save_origin(self->to, &stored);
    }
    if (err != TW_OK || self->from == NULL) {
        return err;
    }
    const tw_err read[] = {log_table_incarnations(self->from, self, keep_incarnation),
                           log_table_scopes(self->from, self, keep_scope),
                           log_table_origins(self->from, self, keep_origin)};
    for (size_t i = 0; i < TW_COUNT(read); i++) {
        if (read[i] == TW_E_DISK || read[i] == TW_E_NO_MEMORY) {
            return read[i];
        }
        if (read[i] != TW_OK) {
            tw_log(TW_LOG_WARN, "store", "a part of the damaged file cannot be read: %s",
                   log_table_why(self->from));
        }
    }
    return TW_OK;
}

static tw_err copy_all(rebuild *self, uint64_t *bad)
{
    tw_err err = copy_names(self);
    if (err == TW_OK && self->from != NULL) {
        err = log_table_salvage(self->from, keep_row, self, bad);
    }
    uint64_t numbers[2] = {0, 0};
    if (err == TW_OK && self->from != NULL) {
        (void)!log_table_number(self->from, "floor", &numbers[0]);
        (void)!log_table_number(self->from, "head", &numbers[1]);
    }
    for (size_t i = 0; i < TW_COUNT(numbers); i++) {
        bool is_good = numbers[i] > self->head && numbers[i] < TW_SEQNO_MAX / 2;
        self->head = is_good ? numbers[i] : self->head;
    }
    self->floor = numbers[0];
    if (err == TW_OK && self->from != NULL) {
        err = log_table_opids(self->from, 0, INT64_MAX, keep_opids, self);
        err = err == TW_E_DISK || err == TW_E_NO_MEMORY ? err : TW_OK;
    }
    if (err == TW_OK) {
        err = log_table_save_number(self->to, "swept", self->head - self->rows);
    }
    return err == TW_OK ? log_table_save_number(self->to, "floor", self->head) : err;
}

/* Writes log.db.rebuilt. */
static tw_err make_new(log_store *store, rebuild *self, uint64_t *bad, char *why, size_t size)
{
    char path[PATH_BYTES], ready[PATH_BYTES];
    for (size_t i = 0; i < TW_COUNT(parts); i++) {
        part_path(store, ".rebuilding", parts[i], path);
        (void)unlink(path); /* of a rebuild that was broken off */
    }
    log_table_use use = store->options.memory ? LOG_TABLE_VOLATILE : LOG_TABLE_WRITER;
    tw_err err = log_table_open(&self->to, path, use, why, size);
    if (err == TW_OK) {
        err = log_table_begin(self->to);
    }
    if (err == TW_OK) {
        err = copy_all(self, bad);
        if (err == TW_OK) {
            err = log_table_commit(self->to);
        } else {
            log_table_rollback(self->to);
        }
    }
    if (err == TW_OK) {
        err = log_table_checkpoint(self->to, true);
    }
    if (self->to != NULL && err != TW_OK) {
        tw_format(why, size, "%s", log_table_why(self->to));
    }
    log_table_close(&self->to);
    tw_fault("store_rebuild_made");
    part_path(store, ".rebuilt", "", ready);
    if (err == TW_OK && (rename(path, ready) != 0 || !sync_directory(store))) {
        err = disk_error(store, ready);
        tw_format(why, size, "%s", store->why);
    }
    tw_fault("store_rebuild_ready");
    return err;
}

tw_err log_store_rebuild(log_store *store, uint64_t unix_ms, char *why, size_t size)
{
    TW_ASSERT(store->index != NULL);
    char found[512];
    tw_format(found, sizeof found, "%s", why);
    log_table_close(&store->table);
    tw_log(TW_LOG_ERROR, "store", "%s", found);
    rebuild self = {.store = store};
    tw_err err = log_index_new(&self.names);
    if (err == TW_OK &&
        log_table_open(&self.from, store->path, LOG_TABLE_SALVAGE, why, size) != TW_OK) {
        tw_log(TW_LOG_ERROR, "store", "nothing of it can be read: %s", why);
    }
    uint64_t bad = 0;
    if (err == TW_OK) {
        err = make_new(store, &self, &bad, why, size);
    }
    log_table_close(&self.from);
    log_index_free(&self.names);
    tw_free(self.rows_kept.bits);
    tw_free(self.scopes_kept.bits);
    if (err == TW_OK) {
        err = log_store_finish_rebuild(store);
        tw_format(why, size, "%s", store->why);
    }
    log_table_use use = store->options.memory ? LOG_TABLE_VOLATILE : LOG_TABLE_WRITER;
    if (err == TW_OK) {
        err = log_table_open(&store->table, store->path, use, why, size);
    }
    if (err == TW_OK) {
        err = log_store_load(store, unix_ms);
        tw_format(why, size, "%s",
                  store->why[0] != '\0' ? store->why : log_table_why(store->table));
    }
    if (err != TW_OK) {
        return err;
    }
    const log_origin *own = log_index_origin(store->index, LOG_ORIGIN_OWN);
    log_guard_write(&store->guard, store->path, own->srv, log_index_head(store->index));
    tw_format(why, size,
              "%s; rebuilt from %llu good rows (%llu damaged, %llu of lost collections),"
              " srv_id is now %llu",
              found, (unsigned long long)self.rows, (unsigned long long)bad,
              (unsigned long long)self.orphans, (unsigned long long)own->srv);
    return TW_OK;
}
