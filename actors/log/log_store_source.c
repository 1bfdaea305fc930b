/* log_store_source.c - foreign origins and how far the log is with the source of each; see
 * log_store.h. */
#include "actors/log/log_store.h"
#include "actors/log/log_store_priv.h"

tw_err log_store_origin(log_store *store, uint64_t srv, uint32_t *id)
{
    TW_ASSERT(srv > 0 && srv <= TW_SEQNO_MAX);
    log_origin *origin = log_index_origin_of_srv(store->index, srv);
    if (origin != NULL) {
        *id = origin->id;
        return TW_OK;
    }
    uint32_t next = LOG_ORIGIN_OWN + 1;
    while (log_index_origin(store->index, next) != NULL) {
        next++;
    }
    const log_table_origin stored = {.id = next, .srv = srv};
    tw_err err = log_table_begin(store->table);
    if (err == TW_OK) {
        err = log_table_save_origin(store->table, &stored);
        if (err == TW_OK) {
            err = log_table_commit(store->table);
        } else {
            log_table_rollback(store->table);
        }
    }
    if (err == TW_OK) {
        tw_rwlock_write(&store->lock);
        err = log_index_add_origin(store->index, next, srv, &origin);
        tw_rwlock_done(&store->lock);
    }
    *id = next;
    return err;
}

void log_store_source(log_store *store, const log_source *source)
{
    TW_ASSERT(source->origin != 0 && source->origin != LOG_ORIGIN_OWN);
    TW_ASSERT(log_index_origin(store->index, source->origin) != NULL);
    TW_ASSERT(!store->is_committed);
    store->source = *source;
}

bool log_store_has_source(const log_store *store)
{
    return store->source.origin != 0;
}

bool log_store_source_is_whole(const log_store *store)
{
    return store->source.origin != 0 && store->source.whole;
}

void log_store_forget_source(log_store *store)
{
    store->source = (log_source){0};
}

/* ---- as stored: the origin's row has the state, numbers beside it the rest ---- */

enum { NUMBER_NAME_MAX = 40 };

static void number_name(char name[NUMBER_NAME_MAX], uint32_t origin, const char *what)
{
    tw_format(name, NUMBER_NAME_MAX, "source %u %s", (unsigned)origin, what);
}

tw_err log_store_source_numbers(log_store *store, uint32_t origin, log_source *out)
{
    *out = (log_source){.origin = origin};
    uint64_t whole = 0;
    const struct {
        const char *what;
        uint64_t *value;
    } numbers[] = {{"number", &out->number}, {"at", &out->at}, {"whole", &whole}};
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < TW_COUNT(numbers); i++) {
        char name[NUMBER_NAME_MAX];
        number_name(name, origin, numbers[i].what);
        err = log_table_number(store->table, name, numbers[i].value);
    }
    out->whole = whole != 0;
    return err;
}

typedef struct state_search {
    tw_arena *arena;
    log_source *out;
    bool found;
} state_search;

static tw_err each_state(void *context, const log_table_origin *origin)
{
    state_search *search = context;
    if (origin->id != search->out->origin || origin->token.len == 0) {
        return TW_OK;
    }
    search->found = true;
    search->out->applied_ms = origin->applied_ms;
    search->out->state = tw_arena_str(search->arena, origin->token);
    return search->out->state.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err log_store_source_of(log_store *store, tw_arena *arena, uint32_t origin, log_source *out)
{
    TW_ASSERT(out != NULL);
    tw_err err = log_store_source_numbers(store, origin, out);
    state_search search = {.arena = arena, .out = out};
    if (err == TW_OK) {
        err = log_table_origins(store->table, &search, each_state);
    }
    return err == TW_OK && !search.found ? TW_E_NOT_FOUND : err;
}

tw_err log_store_save_source(log_store *store, uint64_t head)
{
    const log_source *source = &store->source;
    store->is_cutting = false;
    if (source->origin == 0) {
        return TW_OK;
    }
    store->is_cutting = source->whole && !atomic_load(&store->whole);
    const log_origin *origin = log_index_origin(store->index, source->origin);
    const log_table_origin stored = {.id = origin->id,
                                     .srv = origin->srv,
                                     .floor = store->is_cutting ? source->at : origin->floor,
                                     .floor_multi = !store->is_cutting && origin->floor_multi,
                                     .token = source->state,
                                     .applied_ms = source->applied_ms};
    tw_err err = log_table_save_origin(store->table, &stored);
    const struct {
        const char *what;
        uint64_t value;
    } numbers[] = {{"number", source->number}, {"at", source->at}, {"whole", 1}};
    size_t count = TW_COUNT(numbers) - (store->is_cutting ? 0 : 1);
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        char name[NUMBER_NAME_MAX];
        number_name(name, source->origin, numbers[i].what);
        err = log_table_save_number(store->table, name, numbers[i].value);
    }
    if (err == TW_OK && store->is_cutting) {
        err = log_table_save_number(store->table, "floor", head);
    }
    return err;
}

void log_store_show_source(log_store *store, uint64_t head)
{
    const log_source *source = &store->source;
    if (source->origin == 0) {
        return;
    }
    log_origin *origin = log_index_origin(store->index, source->origin);
    log_origin_reach(origin, source->at);
    if (store->is_cutting) {
        log_index_set_floor(store->index, head);
        origin->floor = source->at;
        origin->floor_multi = false;
        atomic_store(&store->whole, true);
    }
}
