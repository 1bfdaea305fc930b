/* embedded_search_follow.c - how the index follows the log; for embedded_search.c.
 *
 * In steps, FOLLOW_ROWS or FOLLOW_MS behind it, as a commit for each row costs four times as much a
 * row. A step gives way to all other threads: it waits until a core is free, IDLE_MS at most, which
 * is the share that it has under any load. Behind by more it only takes longer to catch up: what is
 * not superseded stays in the log. What a search waits for is read at once.
 *
 * Deletes alone are lost when the log's floor passes the index. Then no more than each document is
 * looked up (the check), a step of it for each step of reading: that ends under any load too, and
 * meanwhile searches find all the rest. A check that is under way holds reading back for a moment:
 * so its answer is never older than what the index knows. */
#include "protocol/bson.h"
#include "protocol/messages.h"

#include "actors/runtime/log.h"

#include "actors/search/embedded_search_priv.h"

enum {
    READ_ROWS = 256, /* of the log in one transaction: a search waits for some 2 ms */
    READ_BYTES = 1048576,
    FOLLOW_ROWS = 64, /* that may wait for the next step */
    FOLLOW_MS = 50,   /* that they wait at most */
    IDLE_MS = 100,    /* that a step waits for a free core at most: 2,500 rows/s in any case */
    CHECK_MEMORY_MAX = 4 * 1048576, /* bytes: ids and keys of a step */
    FULL_MIN_MS = 100,  /* between two tries to write to a full disk, doubled each time, */
    FULL_MAX_MS = 2000, /* up to this: so long the health is red at most when there is room */
};

uint64_t embedded_follow_behind(const embedded_search *self)
{
    uint64_t n = embedded_table_reached(self->table)->n;
    return self->log.head > n ? self->log.head - n : 0;
}

/* ---- a full disk ---- */
static bool is_full(const embedded_search *self)
{
    return tw_now_ms(self->actor) < self->full_ms;
}

/* A write has failed. A full disk is waited for, and searches see meanwhile what is there; all else
 * ends the actor. */
static void failed(embedded_search *self, tw_err err)
{
    char why[TW_ERROR_TEXT_MAX];
    tw_format(why, sizeof why, "%s", embedded_table_why(self->table));
    if (err == TW_E_DISK) {
        embedded_search_interrupt(self);
        err = embedded_table_reload(self->table);
        self->check.number = 0;
        self->check.row = 0;
        self->check.removed = 0;
    }
    if (err != TW_OK) {
        embedded_search_broken(self, err);
        return;
    }
    uint64_t doubled = self->full_wait_ms == 0 ? FULL_MIN_MS : 2 * self->full_wait_ms;
    self->full_wait_ms = doubled < FULL_MAX_MS ? doubled : FULL_MAX_MS;
    self->full_ms = tw_now_ms(self->actor) + self->full_wait_ms; /* then a tick tries again */
    tw_actor_status(self->actor, true, "the index waits for room: %s", why);
    tw_log(TW_LOG_WARN, tw_actor_name(self->actor), "the index waits for room: %s", why);
}

static void has_written(embedded_search *self)
{
    if (self->full_wait_ms > 0) {
        self->full_wait_ms = 0;
        tw_actor_status(self->actor, false, "running");
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "there is room again: the index goes on");
    }
}

/* ---- rows ---- */
static tw_err forget(embedded_search *self)
{
    embedded_search_interrupt(self);
    tw_err err = embedded_table_forget(self->table);
    if (err != TW_OK) {
        return err;
    }
    self->rebuild = false;
    self->rebuilds++;
    self->check.number = 0;
    self->check.row = 0;
    self->check.again = false;
    return TW_OK;
}

static tw_err apply(embedded_search *self, tw_arena *arena, const tw_item_log_row *row)
{
    bool drop = (row->flags & TW_ROW_DROP) != 0;
    if (drop && row->coll.len == 0) { /* the database */
        tw_err err = TW_OK;
        embedded_collection *at = embedded_table_collections(self->table);
        for (; at != NULL && err == TW_OK; at = at->next) {
            err = tw_str_equal(at->db, row->db) ? embedded_table_empty(self->table, at) : TW_OK;
        }
        return err;
    }
    embedded_collection *held = embedded_table_collection(self->table, row->db, row->coll, !drop);
    tw_str id;
    if (held == NULL) {
        return TW_OK; /* it is not searched */
    }
    if (drop) {
        return embedded_table_empty(self->table, held);
    }
    tw_err err = search_id_of_key(arena, row->key, &id);
    if (err != TW_OK) {
        self->refused++;
        return err == TW_E_TOO_BIG ? TW_OK : err;
    }
    return (row->flags & TW_ROW_PUT) != 0 && row->doc.len > 0
               ? embedded_table_put(self->table, held, id, row->version, row->doc)
               : embedded_table_remove(self->table, held, id);
}

/* The rows that another one of the same page supersedes; NULL: no memory. */
static bool *find_superseded(tw_arena *arena, const tw_list_log_row *rows)
{
    bool *is_old = tw_arena_zero(arena, rows->count + 1, sizeof *is_old);
    for (size_t i = 0; is_old != NULL && i < rows->count; i++) {
        size_t low = 0;
        size_t high = rows->at[i].prev >= rows->at[0].n ? i : 0;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (rows->at[middle].n < rows->at[i].prev) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        is_old[low] = is_old[low] || rows->at[low].n == rows->at[i].prev;
    }
    return is_old;
}

/* What was deleted and then swept is not told any more. */
static void doubt(embedded_search *self, embedded_reached *reached)
{
    tw_log(TW_LOG_INFO, tw_actor_name(self->actor),
           "the log's floor has passed the index: its %llu documents are looked up",
           (unsigned long long)embedded_table_docs(self->table));
    self->check.again = reached->doubted;
    reached->doubted = true;
}

static tw_err take_rows(embedded_search *self, const tw_envelope *in)
{
    const tw_msg_log_rows *rows = &in->body->log_rows;
    embedded_reached reached = *embedded_table_reached(self->table);
    uint64_t before = reached.n;
    bool *is_old = find_superseded(in->arena, &rows->rows);
    tw_err err = is_old == NULL ? TW_E_NO_MEMORY : embedded_table_begin(self->table);
    if (before < rows->floor && reached.floor < rows->floor &&
        embedded_table_docs(self->table) > 0) {
        doubt(self, &reached);
    }
    for (size_t i = 0; i < rows->rows.count && err == TW_OK; i++) {
        if (rows->rows.at[i].n > before) {
            err = is_old[i] ? TW_OK : apply(self, in->arena, &rows->rows.at[i]);
            self->rows++;
        }
    }
    reached.srv = self->log.srv;
    reached.n = rows->upto;
    reached.floor = rows->floor;
    return err == TW_OK ? embedded_table_end(self->table, &reached, rows->at) : err;
}

static void on_rows(void *state, const tw_envelope *in)
{
    embedded_search *self = embedded_search_of(state);
    tw_err err = take_rows(self, in);
    if (err != TW_OK) {
        failed(self, err);
        return;
    }
    has_written(self);
    embedded_follow(self);
    if (self->first != NULL) {
        embedded_search_work(self); /* one may have waited for these rows */
    }
}

static void read_on(embedded_search *self)
{
    const embedded_reached *reached = embedded_table_reached(self->table);
    if (self->log.reading || self->check.asking || self->log.srv == 0 || is_full(self)) {
        return;
    }
    bool other = reached->srv != self->log.srv && reached->n > 0;
    if (other || self->rebuild || reached->n > self->log.head) {
        tw_log(TW_LOG_INFO, tw_actor_name(self->actor), "the index is made anew from the log");
        tw_err err = forget(self);
        if (err != TW_OK) {
            failed(self, err);
            return;
        }
        has_written(self);
    }
    if (reached->n < self->log.head) {
        log_link_read(&self->log, reached->n);
    }
}

/* ---- the check ---- */
static tw_err finish_check(embedded_search *self)
{
    embedded_check *check = &self->check;
    embedded_reached reached = *embedded_table_reached(self->table);
    check->number = 0;
    check->row = 0;
    self->checks++;
    tw_log(TW_LOG_INFO, tw_actor_name(self->actor),
           "each document of the index was looked up: %llu were gone",
           (unsigned long long)check->removed);
    check->removed = 0;
    reached.doubted = check->again;
    check->again = false;
    tw_err err = embedded_table_begin(self->table);
    err = err == TW_OK ? embedded_table_end(self->table, &reached, (tw_vector){NULL, 0}) : err;
    if (err == TW_OK) {
        has_written(self);
    }
    return err;
}

/* The collection that the check is at, or the next one; NULL: there is none. */
static embedded_collection *collection_of(const embedded_search *self)
{
    embedded_collection *found = NULL;
    embedded_collection *at = embedded_table_collections(self->table);
    for (; at != NULL; at = at->next) {
        bool is_next = at->number >= self->check.number;
        found = is_next && (found == NULL || at->number < found->number) ? at : found;
    }
    return found;
}

/* Removes of what was asked for what is not among the records, which stand in the same order. */
static tw_err remove_gone(embedded_search *self, tw_arena *arena, const tw_msg_records *told)
{
    embedded_check *check = &self->check;
    embedded_collection *held = collection_of(self);
    size_t upto = told->more ? (size_t)told->after + 1 : check->asked_count;
    size_t next = 0;
    tw_str id = {NULL, 0}; /* of the record `next` */
    tw_err err = embedded_table_begin(self->table);
    for (size_t i = 0; i < upto && i < check->asked_count && err == TW_OK; i++) {
        if (id.ptr == NULL && next < told->items.count) {
            err = search_id_of_key(arena, told->items.at[next++].key, &id);
        }
        if (err == TW_OK && id.ptr != NULL && tw_str_equal(id, check->asked[i].id)) {
            id = (tw_str){NULL, 0};
        } else if (err == TW_OK) {
            err = embedded_table_remove(self->table, held, check->asked[i].id);
            check->removed++;
        }
        check->row = check->asked[i].row;
    }
    embedded_reached reached = *embedded_table_reached(self->table);
    return err == TW_OK ? embedded_table_end(self->table, &reached, (tw_vector){NULL, 0}) : err;
}

/* A question that fails is asked again, at a later tick. */
static void on_checked(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    embedded_search *self = embedded_search_of(state);
    self->check.asking = false;
    if (err != TW_OK || in->id != TW_MSG_records) {
        return;
    }
    err = remove_gone(self, in->arena, &in->body->records);
    if (err != TW_OK) {
        failed(self, err);
        return;
    }
    has_written(self);
    embedded_follow(self);
}

static tw_err ask_for(embedded_search *self, const embedded_collection *held)
{
    embedded_check *check = &self->check;
    tw_item_one_key keys[EMBEDDED_CHECK_DOCUMENTS];
    for (size_t i = 0; i < check->asked_count; i++) {
        tw_err err = search_key_of_id(&check->arena, check->asked[i].id, &keys[i].key);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_QUERY_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_add_str(&b, TW_STR("0"), TW_STR("_id")); /* no more of the document than that */
    const tw_msg_get ask = {.db = held->db,
                            .coll = held->name,
                            .fields = tw_bson_end(&b),
                            .keys = {keys, check->asked_count}};
    check->asking = true;
    tw_ask(self->actor, self->log.reader, TW_MSG_get, &ask, TW_ASK_TIMEOUT_MS, on_checked, NULL, 0);
    tw_buf_fini(&text);
    return TW_OK;
}

static tw_err check_on(embedded_search *self)
{
    embedded_check *check = &self->check;
    if (self->log.reading || check->asking || is_full(self)) {
        return TW_OK;
    }
    for (embedded_collection *held; (held = collection_of(self)) != NULL;) {
        check->number = held->number;
        tw_arena_reset(&check->arena);
        tw_err err = embedded_table_ids(self->table, &check->arena, held, check->row, check->asked,
                                        EMBEDDED_CHECK_DOCUMENTS, &check->asked_count);
        if (err != TW_OK || check->asked_count > 0) {
            return err == TW_OK ? ask_for(self, held) : err;
        }
        check->number++;
        check->row = 0;
    }
    return finish_check(self);
}

/* ---- when ---- */
static void on_rested(void *state, uint64_t tag)
{
    (void)tag;
    embedded_search *self = embedded_search_of(state);
    self->resting = false;
    read_on(self);
}

static void on_step(void *state, uint64_t tag)
{
    (void)tag;
    embedded_search *self = embedded_search_of(state);
    bool is_doubted = embedded_table_reached(self->table)->doubted;
    self->waiting = false;
    self->check.was_last =
        is_doubted && (!self->check.was_last || embedded_follow_behind(self) == 0);
    if (!self->check.was_last) {
        read_on(self);
        return;
    }
    tw_err err = check_on(self);
    if (err != TW_OK) {
        failed(self, err);
        return;
    }
    embedded_follow(self);
}

static bool is_awaited(const embedded_search *self)
{
    for (const embedded_job *job = self->first; job != NULL; job = job->next) {
        if (!job->begun) {
            return true;
        }
    }
    return false;
}

void embedded_follow(embedded_search *self)
{
    uint64_t behind = embedded_follow_behind(self);
    if (self->log.reading || self->check.asking || is_full(self)) {
        return; /* the answer, or a tick, leads here again */
    }
    if (self->rebuild || (behind > 0 && is_awaited(self))) {
        read_on(self);
    } else if (behind >= FOLLOW_ROWS || embedded_table_reached(self->table)->doubted) {
        if (!self->waiting) {
            self->waiting = true;
            tw_idle_set(self->actor, tw_now_ms(self->actor) + IDLE_MS, on_step, 0);
        }
    } else if (behind > 0 && !self->resting) {
        self->resting = true;
        tw_timer_set(self->actor, tw_now_ms(self->actor) + FOLLOW_MS, on_rested, 0);
    }
}

tw_err embedded_follow_on_batch(void *state, const tw_envelope *in)
{
    embedded_search *self = embedded_search_of(state);
    log_link_heard(&self->log, &in->body->log_batch);
    embedded_follow(self);
    return TW_OK;
}

/* Nothing depends on publications: what was lost is asked for. */
void embedded_follow_on_gap(void *state, const char *source)
{
    (void)source;
    log_link_ask(&embedded_search_of(state)->log);
}

static void on_told(void *state)
{
    embedded_search *self = embedded_search_of(state);
    const embedded_reached *reached = embedded_table_reached(self->table);
    bool other = reached->srv != self->log.srv || reached->n > self->log.head;
    if (other) {
        read_on(self);
    }
    embedded_follow(self);
}

tw_err embedded_follow_init(embedded_search *self)
{
    static const log_link_options followed = {.rows_max = READ_ROWS,
                                              .bytes_max = READ_BYTES,
                                              .every_ms = FOLLOW_MS,
                                              .on_told = on_told,
                                              .on_rows = on_rows};
    tw_arena_init(&self->check.arena, CHECK_MEMORY_MAX);
    return log_link_init(&self->log, self->actor, &followed);
}

void embedded_follow_fini(embedded_search *self)
{
    tw_arena_fini(&self->check.arena);
}
