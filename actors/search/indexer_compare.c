/* indexer_compare.c - an index is held against its collection, and put right: exact equality.
 *
 * 1. The log's head is asked for: from there the index will follow.
 * 2. All that the index holds is listed (ids in order, position of each) into a table of hashes.
 * 3. Every record is read; one that the index lacks, or holds at another position, is written.
 * 4. The index is listed again: what no record has is removed.
 * Changes behind the head come by FOLLOW afterwards, so nothing has to stand still meanwhile. One
 * comparison runs at a time. */
#include "actors/runtime/log.h"

#include "actors/search/indexer_priv.h"

#define SEEN (1ULL << 63)

enum { TABLE_FIRST = 4096, COMPARE_BYTES = 1048576 };

static void list_on(indexer *self, bool again);
static void scan_on(indexer *self);

/* Every answer comes by this: the comparison that it is for, or NULL. There is none any more, or it
 * ended here: an error, or another message than the one that was asked for. */
static comparison *answered(indexer *self, tw_msg_id wanted, tw_err err, const tw_envelope *in)
{
    comparison *now = &self->comparison;
    if (now->feed == NULL) {
        return NULL;
    }
    if (err != TW_OK || in->id != wanted) {
        indexer_lost(self, now->feed, err == TW_OK ? TW_E_INTERNAL : err, in);
        return NULL;
    }
    return now;
}

/* ---- the table ---- */
static uint64_t hash_of(tw_str id)
{
    uint64_t hash = tw_hash(id.ptr, id.len, 0x1d3e);
    return hash == 0 ? 1 : hash;
}

static entry *slot_of(const comparison *self, uint64_t hash)
{
    size_t at = (size_t)(hash & (self->cap - 1));
    while (self->table[at].hash != 0 && self->table[at].hash != hash) {
        at = (at + 1) & (self->cap - 1);
    }
    return &self->table[at];
}

static bool grow(comparison *self)
{
    size_t cap = self->cap == 0 ? TABLE_FIRST : self->cap * 2;
    entry *old = self->table;
    size_t old_cap = self->cap;
    entry *table = cap > INDEXER_ENTRIES_MAX ? NULL : tw_alloc_zero(cap, sizeof *table);
    if (table == NULL) {
        return false;
    }
    self->table = table;
    self->cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].hash != 0) {
            *slot_of(self, old[i].hash) = old[i];
        }
    }
    tw_free(old);
    return true;
}

static bool note(comparison *self, tw_str id, uint64_t value)
{
    if (self->count * 2 >= self->cap && !grow(self)) {
        return false;
    }
    entry *slot = slot_of(self, hash_of(id));
    self->count += slot->hash == 0 ? 1 : 0;
    *slot = (entry){hash_of(id), value};
    return true;
}

/* ---- writing ---- */
static void finish(indexer *self)
{
    comparison *now = &self->comparison;
    index_feed *feed = now->feed;
    uint64_t head = now->head;
    tw_log(TW_LOG_INFO, tw_actor_name(self->actor),
           "the index of %s is equal to the collection: %llu written, %llu removed",
           feed->rules->name, (unsigned long long)now->put, (unsigned long long)now->removed);
    self->repairs++;
    indexer_compare_end(self);
    indexer_join(self, feed, head);
}

typedef enum written_then { THEN_SCAN, THEN_LIST, THEN_FINISH } written_then;

static void on_written(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    const comparison *now = answered(self, TW_MSG_index_written, err, in);
    if (now == NULL) {
        return;
    }
    indexer_note_refused(self, now->feed, &in->body->index_written);
    switch ((written_then)tag) {
    case THEN_SCAN:
        scan_on(self);
        return;
    case THEN_LIST:
        list_on(self, true);
        return;
    case THEN_FINISH:
        finish(self);
        return;
    }
}

static void write_ops(indexer *self, const tw_item_index_op *ops, size_t count, written_then then)
{
    const comparison *now = &self->comparison;
    bool last = then == THEN_FINISH;
    tw_msg_index_write write = {.db = tw_str_of(now->feed->rules->database),
                                .coll = tw_str_of(now->feed->rules->name),
                                .srv = self->srv,
                                .n = last ? now->head : 0,
                                .at = {now->at, last ? now->at_count : 0},
                                .ops = {ops, count}};
    tw_ask(self->actor, self->engine, TW_MSG_index_write, &write, TW_SEARCH_DEADLINE_MAX_MS,
           on_written, NULL, then);
}

/* ---- 2 and 4: what the index holds ---- */
static void remove_strays(indexer *self, const tw_envelope *in, bool more)
{
    comparison *now = &self->comparison;
    const tw_list_index_entry *entries = &in->body->index_listed.entries;
    tw_item_index_op *ops = tw_arena_alloc(in->arena, (entries->count + 1) * sizeof *ops);
    size_t count = 0;
    for (size_t i = 0; ops != NULL && i < entries->count; i++) {
        const entry *slot = slot_of(now, hash_of(entries->at[i].id));
        if (slot->hash == 0 || (slot->seqno & SEEN) == 0) {
            ops[count++] = (tw_item_index_op){
                .op = TW_OP_REMOVE, .id = entries->at[i].id, .seqno = entries->at[i].seqno};
        }
    }
    if (ops == NULL) {
        indexer_lost(self, now->feed, TW_E_NO_MEMORY, NULL);
        return;
    }
    now->removed += count;
    if (count == 0 && more) {
        list_on(self, true);
    } else {
        write_ops(self, ops, count, more ? THEN_LIST : THEN_FINISH);
    }
}

static void on_listed(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    indexer *self = indexer_of(state);
    comparison *now = answered(self, TW_MSG_index_listed, err, in);
    bool again = tag != 0;
    if (now == NULL) {
        return;
    }
    const tw_msg_index_listed *told = &in->body->index_listed;
    bool more = told->more && told->entries.count > 0;
    if (more) {
        tw_str last = told->entries.at[told->entries.count - 1].id;
        now->after_id_len = last.len < sizeof now->after_id ? last.len : 0;
        memcpy(now->after_id, last.ptr, now->after_id_len);
    } else {
        now->after_id_len = 0;
    }
    if (again) {
        remove_strays(self, in, more);
        return;
    }
    for (size_t i = 0; i < told->entries.count; i++) {
        if (!note(now, told->entries.at[i].id, told->entries.at[i].seqno)) {
            indexer_lost(self, now->feed, TW_E_NO_MEMORY, NULL);
            return;
        }
    }
    if (more) {
        list_on(self, false);
    } else {
        scan_on(self);
    }
}

static void list_on(indexer *self, bool again)
{
    const comparison *now = &self->comparison;
    tw_ask(self->actor, self->engine, TW_MSG_index_list,
           &(tw_msg_index_list){.db = tw_str_of(now->feed->rules->database),
                                .coll = tw_str_of(now->feed->rules->name),
                                .after = {now->after_id, now->after_id_len}},
           TW_SEARCH_DEADLINE_MAX_MS, on_listed, NULL, again ? 1 : 0);
}

/* ---- 3: every record ---- */
static tw_err compare_record(indexer *self, const tw_envelope *in, const tw_item_record *record,
                             tw_item_index_op *ops, size_t *count)
{
    comparison *now = &self->comparison;
    tw_str id = {NULL, 0};
    tw_err err = search_id_of_key(in->arena, record->key, &id);
    if (err == TW_E_TOO_BIG) { /* no engine can hold it */
        now->feed->set_aside++;
        self->refused++;
        return TW_OK;
    }
    if (err != TW_OK) {
        return err;
    }
    const entry *slot = now->cap == 0 ? NULL : slot_of(now, hash_of(id));
    bool equal = slot != NULL && slot->hash != 0 && (slot->seqno & ~SEEN) == record->seqno;
    if (!note(now, id, record->seqno | SEEN)) {
        return TW_E_NO_MEMORY;
    }
    if (!equal) {
        ops[(*count)++] = (tw_item_index_op){.op = TW_OP_PUT,
                                             .id = id,
                                             .key = record->key,
                                             .version = record->version,
                                             .seqno = record->seqno,
                                             .doc = record->doc};
    }
    return TW_OK;
}

static void on_records(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    indexer *self = indexer_of(state);
    comparison *now = answered(self, TW_MSG_records, err, in);
    if (now == NULL) {
        return;
    }
    const tw_msg_records *page = &in->body->records;
    tw_item_index_op *ops = tw_arena_alloc(in->arena, (page->items.count + 1) * sizeof *ops);
    size_t count = 0;
    err = ops == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; err == TW_OK && i < page->items.count; i++) {
        err = compare_record(self, in, &page->items.at[i], ops, &count);
    }
    if (err != TW_OK) {
        indexer_lost(self, now->feed, err, NULL);
        return;
    }
    now->put += count;
    now->more = page->more && page->after > now->after;
    now->after = page->after;
    if (count > 0) {
        write_ops(self, ops, count, now->more ? THEN_SCAN : THEN_LIST);
    } else if (now->more) {
        scan_on(self);
    } else {
        list_on(self, true);
    }
}

static void scan_on(indexer *self)
{
    const comparison *now = &self->comparison;
    tw_ask(self->actor, self->log.reader, TW_MSG_find,
           &(tw_msg_find){.db = tw_str_of(now->feed->rules->database),
                          .coll = tw_str_of(now->feed->rules->name),
                          .limit = TW_INDEX_OPS_MAX,
                          .after = now->after,
                          .bytes_max = COMPARE_BYTES},
           TW_ASK_TIMEOUT_MS, on_records, NULL, 0);
}

/* ---- 1 ---- */
static void on_emptied(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    indexer *self = indexer_of(state);
    comparison *now = answered(self, TW_MSG_index_written, err, in);
    if (now == NULL) {
        return;
    }
    now->feed->foreign = false;
    list_on(self, false);
}

/* Documents of another log have positions of that one: a smaller one of this would be refused. */
static void empty(indexer *self)
{
    const catalog_collection *rules = self->comparison.feed->rules;
    tw_ask(self->actor, self->engine, TW_MSG_index_write,
           &(tw_msg_index_write){.db = tw_str_of(rules->database),
                                 .coll = tw_str_of(rules->name),
                                 .srv = self->srv,
                                 .empty = true},
           TW_SEARCH_DEADLINE_MAX_MS, on_emptied, NULL, 0);
}

static void on_head(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    indexer *self = indexer_of(state);
    comparison *now = answered(self, TW_MSG_log_state, err, in);
    if (now == NULL) {
        return;
    }
    const tw_msg_log_state *told = &in->body->log_state;
    now->head = told->head;
    now->at_count = told->at.count;
    if (told->at.count > 0) {
        memcpy(now->at, told->at.at, told->at.count * sizeof now->at[0]);
    }
    if (now->feed->foreign) {
        empty(self);
    } else {
        list_on(self, false);
    }
}

void indexer_compare_next(indexer *self)
{
    comparison *now = &self->comparison;
    for (size_t i = 0; i < self->feeds_count && now->feed == NULL; i++) {
        if (self->feeds[i].phase == FEED_COMPARE) {
            *now = (comparison){.feed = &self->feeds[i]};
            now->feed->set_aside = 0;
            tw_ask(self->actor, self->log.store, TW_MSG_log_state_ask,
                   &(tw_msg_log_state_ask){.counts = false}, TW_ASK_TIMEOUT_MS, on_head, NULL, 0);
        }
    }
}

void indexer_compare_end(indexer *self)
{
    tw_free(self->comparison.table);
    self->comparison = (comparison){.feed = NULL};
}
