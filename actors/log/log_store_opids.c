/* log_store_opids.c - remembering what operation ids did; see log_store.h and log_opids.h.
 *
 * Prepared ids are found by chains of their own; with the commit they become a group. The oldest
 * groups go with the same commits: as many ids at least as come, so that their number keeps its
 * bound whatever the rate. What the table holds and what the memory knows change together: the
 * memory after the commit. */
#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

enum { FORGET_A_TICK = 64 }; /* groups that are too old */

/* ---- prepared ids ---- */

static uint32_t *chain_of(log_store *store, uint32_t hash)
{
    return &store->opid_chains[hash & (LOG_OPID_CHAINS - 1)];
}

tw_err log_store_remember(log_store *store, const log_opid *opid)
{
    TW_ASSERT(opid->id.len > 0 && opid->id.len <= TW_OPID_MAX + 8);
    if (store->opids_count == LOG_PREPARED_MAX) {
        return TW_E_BUSY;
    }
    uint32_t hash = log_opids_hash(&store->known, opid->id);
    uint32_t *chain = chain_of(store, hash);
    store->opids[store->opids_count++] = (log_pending_opid){*opid, hash, *chain};
    *chain = (uint32_t)store->opids_count;
    return TW_OK;
}

size_t log_store_remembered(const log_store *store)
{
    return store->opids_count;
}

void log_store_forget(log_store *store, size_t count)
{
    TW_ASSERT(count <= store->opids_count);
    while (store->opids_count > count) {
        const log_pending_opid *last = &store->opids[store->opids_count - 1];
        *chain_of(store, last->hash) = last->before;
        store->opids_count--;
    }
}

/* ---- finding ---- */

typedef struct opid_search {
    log_store *store;
    tw_str id;
    tw_arena *arena;
    log_opid *out; /* NULL until it is found */
} opid_search;

static tw_err damaged(log_store *store, uint64_t group)
{
    tw_format(store->why, sizeof store->why, "%s: group %llu of operation ids is damaged",
              store->path, (unsigned long long)group);
    return TW_E_CORRUPT;
}

static tw_err search_group(void *context, uint64_t group, uint64_t time_ms, tw_str body)
{
    opid_search *search = context;
    (void)time_ms;
    log_opid opid;
    size_t at = 0;
    tw_err err;
    while ((err = log_opids_unpack(body, &at, &opid)) == TW_OK) {
        if (!tw_str_equal(opid.id, search->id)) {
            continue;
        }
        log_opid *out = tw_arena_alloc(search->arena, sizeof *out);
        if (out == NULL) {
            return TW_E_NO_MEMORY;
        }
        *out = opid;
        out->id = search->id;
        out->key = tw_arena_key(search->arena, opid.key);
        search->out = out;
        return opid.key.len > 0 && out->key.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    return err == TW_E_END ? TW_OK : damaged(search->store, group);
}

void log_store_expect_opid(const log_store *store, tw_str id)
{
    log_opids_expect(&store->known, log_opids_hash(&store->known, id));
}

const log_opid *log_store_find_opid(log_store *store, tw_arena *arena, tw_str id, tw_err *err)
{
    TW_ASSERT(id.len > 0);
    *err = TW_OK;
    uint32_t hash = log_opids_hash(&store->known, id);
    for (uint32_t i = *chain_of(store, hash); i != 0; i = store->opids[i - 1].before) {
        if (tw_str_equal(store->opids[i - 1].opid.id, id)) {
            return &store->opids[i - 1].opid;
        }
    }
    opid_search search = {.store = store, .id = id, .arena = arena};
    store->why[0] = '\0';
    size_t probe = 0;
    uint64_t group;
    while (*err == TW_OK && search.out == NULL &&
           log_opids_next(&store->known, hash, store->opid_group, &probe, &group)) {
        *err = log_table_opids(store->table, group, group, search_group, &search);
    }
    if (*err != TW_OK && store->why[0] == '\0') {
        tw_format(store->why, sizeof store->why, "%s", log_table_why(store->table));
    }
    return *err == TW_OK ? search.out : NULL;
}

/* ---- groups ---- */

static tw_err load_group(void *context, uint64_t group, uint64_t time_ms, tw_str body)
{
    log_store *store = context;
    log_opid opid;
    size_t at = 0;
    tw_err err;
    (void)time_ms;
    if (store->opid_group_first == 0) {
        store->opid_group_first = group;
    } else if (group != store->opid_group + 1) {
        return damaged(store, group); /* one is missing */
    }
    store->opid_group = group;
    while ((err = log_opids_unpack(body, &at, &opid)) == TW_OK) {
        err = log_opids_reserve(&store->known, 1);
        if (err != TW_OK) {
            return err;
        }
        log_opids_add(&store->known, log_opids_hash(&store->known, opid.id), group);
    }
    return err == TW_E_END ? TW_OK : damaged(store, group);
}

tw_err log_store_load_opids(log_store *store)
{
    log_opids_fini(&store->known);
    store->opid_group = store->opid_group_first = 0;
    tw_err err = log_opids_init(&store->known, log_store_draw_srv());
    if (err == TW_OK) {
        err = log_table_opids(store->table, 0, INT64_MAX, load_group, store);
    }
    store->opid_group_first = store->opid_group_first == 0 ? 1 : store->opid_group_first;
    return err;
}

typedef struct opid_group {
    log_store *store;
    uint64_t time_ms;
} opid_group;

/* Notes what the memory is to forget. */
static tw_err note_group(void *context, uint64_t group, uint64_t time_ms, tw_str body)
{
    opid_group *self = context;
    log_opid opid;
    size_t at = 0;
    tw_err err;
    self->time_ms = time_ms;
    while ((err = log_opids_unpack(body, &at, &opid)) == TW_OK) {
        uint32_t hash = log_opids_hash(&self->store->known, opid.id);
        tw_buf_add(&self->store->opids_gone, &hash, sizeof hash);
    }
    return err == TW_E_END ? self->store->opids_gone.err : damaged(self->store, group);
}

/* Deletes the oldest group when it is from before, or when there are too many ids. */
static tw_err forget_oldest(log_store *store, uint64_t before_ms, size_t coming, bool *done)
{
    tw_buf *gone = &store->opids_gone;
    size_t before = gone->len;
    size_t held = store->known.count - before / sizeof(uint32_t);
    opid_group self = {.store = store};
    uint64_t group = store->opid_group_first + store->opid_groups_gone;
    *done = true;
    if (group > store->opid_group) {
        return TW_OK;
    }
    tw_err err = log_table_opids(store->table, group, group, note_group, &self);
    if (err != TW_OK || (self.time_ms >= before_ms && held + coming <= TW_OPIDS_MAX)) {
        gone->len = before;
        return err;
    }
    err = log_table_forget_opids(store->table, group);
    if (err == TW_OK) {
        store->opid_gone_sizes[store->opid_groups_gone++] =
            (uint32_t)((gone->len - before) / sizeof(uint32_t));
        *done = false;
    }
    return err;
}

static tw_err forget_some(log_store *store, uint64_t before_ms, size_t coming, size_t most)
{
    tw_err err = TW_OK;
    bool done = false;
    TW_ASSERT(store->opid_groups_gone == 0);
    for (size_t i = 0; i < most && err == TW_OK && !done; i++) {
        err = forget_oldest(store, before_ms, coming, &done);
    }
    return err;
}

tw_err log_store_save_opids(log_store *store, uint64_t unix_ms)
{
    if (store->opids_count == 0) {
        return TW_OK;
    }
    tw_buf *group = &store->opids_packed;
    tw_buf_clear(group);
    for (size_t i = 0; i < store->opids_count; i++) {
        log_opids_pack(group, &store->opids[i].opid);
    }
    tw_err err = group->err;
    if (err == TW_OK) {
        err = log_opids_reserve(&store->known, store->opids_count);
    }
    if (err == TW_OK) {
        err = log_table_save_opids(store->table, store->opid_group + 1, unix_ms, tw_buf_str(group));
    }
    bool is_full = store->known.count + store->opids_count > TW_OPIDS_MAX;
    return err == TW_OK && is_full ? forget_some(store, 0, store->opids_count, LOG_OPID_GROUPS_GONE)
                                   : err;
}

void log_store_opids_saved(log_store *store, bool committed)
{
    const char *gone = store->opids_gone.ptr;
    for (size_t i = 0; committed && i < store->opid_groups_gone; i++) {
        for (uint32_t left = store->opid_gone_sizes[i]; left > 0; left--, gone += 4) {
            uint32_t hash;
            memcpy(&hash, gone, sizeof hash);
            log_opids_remove(&store->known, hash, store->opid_group_first);
        }
        store->opid_group_first++;
    }
    tw_buf_clear(&store->opids_gone);
    store->opid_groups_gone = 0;
    if (!committed || store->opids_count == 0) {
        return;
    }
    store->opid_group++;
    for (size_t i = 0; i < store->opids_count; i++) {
        log_opids_add(&store->known, store->opids[i].hash, store->opid_group);
    }
}

tw_err log_store_forget_old_opids(log_store *store, uint64_t unix_ms)
{
    if (store->known.count == 0) {
        return TW_OK;
    }
    tw_err err = log_table_begin(store->table);
    if (err != TW_OK) {
        return err;
    }
    uint64_t age_ms = TW_OPID_AGE_S * 1000ULL;
    err = forget_some(store, unix_ms > age_ms ? unix_ms - age_ms : 0, 0, FORGET_A_TICK);
    if (err == TW_OK) {
        err = log_table_commit(store->table);
    } else {
        log_table_rollback(store->table);
    }
    log_store_opids_saved(store, err == TW_OK);
    return err;
}
