/* log_store_rebuild.c - a damaged log is set aside and written anew from its good rows, under a new
 * srv_id: positions given before may stand for what is lost. The floor is the head then, so
 * nobody's cursor reaches what is missing. See log_store.h. */
#include <stdio.h>

#include "actors/runtime/log.h"

#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

typedef struct rebuild {
    log_store *store;
    log_table *from;
    uint64_t rows, head;
    uint64_t orphans; /* rows of collections that are no longer known */
} rebuild;

/* Renames the file and what belongs to it; never deletes. */
static void set_aside(const log_store *store, uint64_t unix_ms, char *aside, size_t size)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    tw_format(aside, size, "%s.damaged-%llu", store->path, (unsigned long long)unix_ms);
    for (size_t i = 0; i < TW_COUNT(parts); i++) {
        char from[4200], to[4200];
        tw_format(from, sizeof from, "%s%s", store->path, parts[i]);
        tw_format(to, sizeof to, "%s%s", aside, parts[i]);
        (void)rename(from, to); /* the last two may not be there */
    }
}

static tw_err keep_incarnation(void *context, const log_table_incarnation *incarnation)
{
    rebuild *self = context;
    return log_table_save_incarnation(self->store->table, incarnation);
}

static tw_err keep_scope(void *context, uint32_t code, tw_key value)
{
    rebuild *self = context;
    bool is_good = code >= LOG_SCOPE_FIRST && value.len > 0 && value.len <= LOG_KEY_BYTES_MAX;
    return is_good ? log_table_save_scope(self->store->table, code, value) : TW_OK;
}

/* The own origin gets another srv_id; foreign ones keep theirs but go on from nothing: what is lost
 * is to be read from them again. */
static tw_err keep_origin(void *context, const log_table_origin *origin)
{
    rebuild *self = context;
    log_table_origin kept = *origin;
    kept.token = (tw_str){0};
    return origin->id == LOG_ORIGIN_OWN ? TW_OK : log_table_save_origin(self->store->table, &kept);
}

static tw_err keep_row(void *context, const log_row *row)
{
    rebuild *self = context;
    if (row->n <= self->head) {
        self->orphans++;
        return TW_OK;
    }
    self->rows++;
    self->head = row->n;
    return log_table_insert(self->store->table, row);
}

/* Leaves out rows whose collection or origin is unknown, and takes scopes that are unknown as any.
 * */
static tw_err fit_rows(log_store *store)
{
    static const char *const statements[] = {
        "DELETE FROM log WHERE coll NOT IN (SELECT id FROM incarnation)",
        "DELETE FROM log WHERE srv <> 1 AND srv NOT IN (SELECT id FROM origin)",
    };
    for (size_t i = 0; i < TW_COUNT(statements); i++) {
        tw_err err = log_table_run(store->table, statements[i]);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

static tw_err copy_rows(log_store *store, rebuild *self, uint64_t *bad)
{
    const log_table_origin own = {.id = LOG_ORIGIN_OWN, .srv = log_store_draw_srv()};
    tw_err err = log_table_save_origin(store->table, &own);
    if (err == TW_OK && self->from != NULL) {
        /* What of these cannot be read is lost; the rows decide what can be kept. */
        static const char lost[] = "%s: a part of the damaged file cannot be read: %s";
        if (log_table_incarnations(self->from, self, keep_incarnation) != TW_OK ||
            log_table_scopes(self->from, self, keep_scope) != TW_OK ||
            log_table_origins(self->from, self, keep_origin) != TW_OK) {
            tw_log(TW_LOG_WARN, "store", lost, store->path, log_table_why(self->from));
        }
        err = log_table_salvage(self->from, keep_row, self, bad);
    }
    uint64_t numbers[2] = {0, 0};
    if (err == TW_OK && self->from != NULL) {
        (void)!log_table_number(self->from, "floor", &numbers[0]);
        (void)!log_table_number(self->from, "head", &numbers[1]);
    }
    for (size_t i = 0; i < TW_COUNT(numbers); i++) {
        self->head =
            numbers[i] > self->head && numbers[i] < TW_SEQNO_MAX / 2 ? numbers[i] : self->head;
    }
    if (err == TW_OK) {
        err = fit_rows(store);
    }
    return err == TW_OK ? log_table_save_number(store->table, "floor", self->head) : err;
}

tw_err log_store_rebuild(log_store *store, uint64_t unix_ms, char *why, size_t size)
{
    TW_ASSERT(store->index != NULL);
    char found[512], aside[4200];
    tw_format(found, sizeof found, "%s", why);
    log_table_close(&store->table);
    set_aside(store, unix_ms, aside, sizeof aside);
    tw_log(TW_LOG_ERROR, "store", "%s; set aside as %s", found, aside);
    rebuild self = {.store = store};
    if (log_table_open(&self.from, aside, LOG_TABLE_SALVAGE, why, size) != TW_OK) {
        tw_log(TW_LOG_ERROR, "store", "nothing of it can be read: %s", why);
    }
    log_table_use use = store->options.memory ? LOG_TABLE_VOLATILE : LOG_TABLE_WRITER;
    tw_err err = log_table_open(&store->table, store->path, use, why, size);
    uint64_t bad = 0;
    if (err == TW_OK) {
        err = log_table_begin(store->table);
        if (err == TW_OK) {
            err = copy_rows(store, &self, &bad);
            if (err == TW_OK) {
                err = log_table_commit(store->table);
            } else {
                log_table_rollback(store->table);
            }
        }
    }
    log_table_close(&self.from);
    if (err == TW_OK) {
        err = log_store_load(store, unix_ms);
    }
    if (err != TW_OK) {
        return err;
    }
    const log_origin *own = log_index_origin(store->index, LOG_ORIGIN_OWN);
    log_guard_write(&store->guard, store->path, own->srv, log_index_head(store->index));
    tw_format(why, size, "%s; rebuilt from %llu good rows (%llu damaged), srv_id is now %llu",
              found, (unsigned long long)self.rows, (unsigned long long)bad,
              (unsigned long long)own->srv);
    return TW_OK;
}
