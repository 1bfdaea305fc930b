/* fake_store.c - see fake_store.h: a store of which nothing survives. */
#include "tests/support/fake_store.h"

#include <stdlib.h>

#include "broker/projection.h"
#include "broker/query.h"
#include "broker/update.h"

#include "actors/runtime/shared.h"

enum { FAKE_SRV = 7, FAKE_ROWS_FIRST = 1024 };

typedef struct fake_row {
    char db[TW_NAME_MAX + 1], coll[TW_NAME_MAX + 1];
    tw_key key;  /* own */
    tw_bson doc; /* own */
    int64_t version;
    uint64_t flags, n, prev;
    bool superseded;
} fake_row;

typedef struct fake_opid {
    char opid[TW_OPID_MAX + 1];
    uint64_t row; /* the result is told from it again */
} fake_opid;

struct fake_log {
    tw_rwlock lock;
    fake_row *rows; /* own */
    size_t count, cap;
    fake_opid *opids; /* own */
    size_t opids_count, opids_cap;
    atomic_int lose_answers, fail_reads;
    atomic_uint_fast64_t writes, ops;
};

typedef struct fake_actor {
    fake_log *log; /* borrow */
    tw_actor *actor;
} fake_actor;

static void must(bool there)
{
    if (!there) {
        abort(); /* a test without memory tells nothing */
    }
}

static void *copy(const void *bytes, size_t len)
{
    void *out = tw_alloc(len == 0 ? 1 : len);
    must(out != NULL);
    if (len != 0) {
        memcpy(out, bytes, len);
    }
    return out;
}

fake_log *fake_log_new(void)
{
    fake_log *log = tw_alloc_zero(1, sizeof *log);
    must(log != NULL);
    tw_rwlock_init(&log->lock);
    return log;
}

static void row_free(fake_row *row)
{
    union {
        const uint8_t *kept;
        void *own;
    } key = {.kept = row->key.ptr}, doc = {.kept = row->doc.ptr};
    tw_free(key.own);
    tw_free(doc.own);
}

void fake_log_free(fake_log **out)
{
    fake_log *log = *out;
    *out = NULL;
    for (size_t i = 0; log != NULL && i < log->count; i++) {
        row_free(&log->rows[i]);
    }
    if (log != NULL) {
        tw_free(log->rows);
        tw_free(log->opids);
        tw_rwlock_fini(&log->lock);
        tw_free(log);
    }
}

uint64_t fake_log_head(fake_log *log)
{
    tw_rwlock_read(&log->lock);
    uint64_t head = log->count;
    tw_rwlock_done(&log->lock);
    return head;
}

void fake_log_lose_answers(fake_log *log, int count)
{
    atomic_store(&log->lose_answers, count);
}

void fake_log_fail_reads(fake_log *log, int count)
{
    atomic_store(&log->fail_reads, count);
}

uint64_t fake_log_writes(fake_log *log)
{
    return atomic_load(&log->writes);
}

uint64_t fake_log_ops(fake_log *log)
{
    return atomic_load(&log->ops);
}

static bool take_fault(atomic_int *count)
{
    int left = atomic_load(count);
    while (left > 0) {
        if (atomic_compare_exchange_weak(count, &left, left - 1)) {
            return true;
        }
    }
    return false;
}

static bool is_of(const fake_row *row, tw_str db, tw_str coll)
{
    return tw_str_equal(tw_str_of(row->db), db) && tw_str_equal(tw_str_of(row->coll), coll);
}

static bool is_live(const fake_row *row)
{
    return !row->superseded && (row->flags & TW_ROW_PUT) != 0;
}

/* The newest row of a key, tombstones too; NULL: none. */
static fake_row *newest(fake_log *log, tw_str db, tw_str coll, tw_key key)
{
    for (size_t i = log->count; i > 0; i--) {
        fake_row *row = &log->rows[i - 1];
        if (is_of(row, db, coll) && tw_key_equal(row->key, key)) {
            return row;
        }
    }
    return NULL;
}

/* ---- the store ---- */
static fake_row *append(fake_log *log, const tw_item_write_op *op, tw_key key, tw_bson doc,
                        fake_row *old, uint64_t flags)
{
    uint64_t prev = old == NULL ? 0 : old->n;
    int64_t version = old == NULL ? 1 : old->version + 1;
    if (old != NULL) {
        old->superseded = true;
    }
    if (log->count == log->cap) {
        log->cap = log->cap == 0 ? FAKE_ROWS_FIRST : log->cap * 2;
        log->rows = tw_realloc(log->rows, log->cap * sizeof *log->rows);
        must(log->rows != NULL);
    }
    fake_row *row = &log->rows[log->count++];
    *row = (fake_row){.version = version, .n = log->count, .prev = prev};
    row->flags = flags | TW_ROW_LAST | (op->silent ? TW_ROW_SILENT : 0);
    row->key = (tw_key){copy(key.ptr, key.len), key.len};
    row->doc = (tw_bson){copy(doc.ptr, doc.len), doc.len};
    tw_format(row->db, sizeof row->db, "%.*s", (int)op->db.len, op->db.ptr);
    tw_format(row->coll, sizeof row->coll, "%.*s", (int)op->coll.len, op->coll.ptr);
    return row;
}

static void told(tw_item_write_result *out, const fake_row *row)
{
    *out = (tw_item_write_result){
        .key = row->key, .version = row->version, .srv = FAKE_SRV, .seqno = row->n, .count = 1};
}

/* The key of a document; one is made, and put in front, where there is none. */
static tw_err key_of(tw_arena *arena, tw_bson *doc, tw_key *key)
{
    tw_bson_value id = tw_bson_get(*doc, TW_STR("_id"));
    if (id.type == 0) {
        tw_buf buf;
        tw_bson_builder b;
        uint8_t oid[12];
        tw_oid_new(oid);
        tw_buf_init(&buf, TW_ACTOR_MESSAGE_MAX);
        tw_bson_begin(&b, &buf);
        tw_bson_add_oid(&b, TW_STR("_id"), oid);
        tw_bson_add_all(&b, *doc);
        *doc = tw_arena_bson(arena, tw_bson_end(&b));
        tw_buf_fini(&buf);
        id = tw_bson_get(*doc, TW_STR("_id"));
    }
    return tw_key_of_value(arena, id, key);
}

static bool matches(tw_bson match, tw_bson doc)
{
    query *compiled;
    broker_why why;
    if (match.len == 0) {
        return true;
    }
    if (query_compile(match, &compiled, &why) != TW_OK) {
        return false;
    }
    bool fits = query_match(compiled, doc);
    query_free(&compiled);
    return fits;
}

static tw_err apply_doc(fake_log *log, tw_arena *arena, const tw_item_write_op *op, fake_row *old,
                        tw_key key, tw_bson doc, tw_item_write_result *out)
{
    bool live = old != NULL && is_live(old);
    broker_why why = {0};
    if (op->op == TW_OP_INSERT && live) {
        *out = (tw_item_write_result){.version = old->version, .key = key};
        return TW_E_CONFLICT;
    }
    if (op->op == TW_OP_UPDATE) {
        if (!live) {
            return TW_E_NOT_FOUND;
        }
        tw_err err = update_apply(arena, old->doc, op->doc, TW_STR("_id"), 0, &doc, &why);
        if (err != TW_OK) {
            out->why = tw_arena_str(arena, tw_str_of(why.text));
            return err;
        }
        if (doc.len == old->doc.len && memcmp(doc.ptr, old->doc.ptr, doc.len) == 0) {
            *out = (tw_item_write_result){.key = key, .version = old->version}; /* no change */
            return TW_OK;
        }
    }
    if (tw_bson_get_bool_or(doc, TW_STR("break_rule"), false)) {
        out->rule = TW_STR("test.rule");
        out->why = TW_STR("This breaks a rule.");
        return TW_E_RULE;
    }
    told(out, append(log, op, key, doc, old, TW_ROW_PUT));
    return TW_OK;
}

static tw_err apply_one(fake_log *log, tw_arena *arena, const tw_item_write_op *op,
                        tw_item_write_result *out)
{
    tw_key key = op->key;
    tw_bson doc = op->doc;
    if (op->op == TW_OP_INSERT || op->op == TW_OP_PUT) {
        tw_err err = key_of(arena, &doc, &key);
        if (err != TW_OK) {
            return err;
        }
    }
    fake_row *old = newest(log, op->db, op->coll, key);
    bool live = old != NULL && is_live(old);
    if (op->if_version >= 0 && op->if_version != (live ? old->version : 0)) {
        *out = (tw_item_write_result){.version = live ? old->version : 0, .key = key};
        return TW_E_CONFLICT;
    }
    if (live && !matches(op->match, old->doc)) {
        return TW_E_NOT_FOUND;
    }
    if (op->op != TW_OP_REMOVE) {
        return apply_doc(log, arena, op, old, key, doc, out);
    }
    if (!live) {
        return TW_E_NOT_FOUND;
    }
    told(out, append(log, op, key, (tw_bson){0}, old, TW_ROW_DELETE));
    return TW_OK;
}

static fake_opid *remembered(fake_log *log, tw_str opid)
{
    for (size_t i = 0; opid.len != 0 && i < log->opids_count; i++) {
        if (tw_str_equal(tw_str_of(log->opids[i].opid), opid)) {
            return &log->opids[i];
        }
    }
    return NULL;
}

static void remember(fake_log *log, tw_str opid, uint64_t row)
{
    if (opid.len == 0) {
        return;
    }
    if (log->opids_count == log->opids_cap) {
        log->opids_cap = log->opids_cap == 0 ? FAKE_ROWS_FIRST : log->opids_cap * 2;
        log->opids = tw_realloc(log->opids, log->opids_cap * sizeof *log->opids);
        must(log->opids != NULL);
    }
    fake_opid *entry = &log->opids[log->opids_count++];
    tw_format(entry->opid, sizeof entry->opid, "%.*s", (int)opid.len, opid.ptr);
    entry->row = row;
}

/* Takes back the rows above head, all of one transaction that failed. */
static void roll_back(fake_log *log, size_t head)
{
    while (log->count > head) {
        fake_row *row = &log->rows[--log->count];
        if (row->prev != 0) {
            log->rows[row->prev - 1].superseded = false;
        }
        row_free(row);
    }
}

static void apply_group(fake_log *log, tw_arena *arena, const tw_list_write_op *ops, size_t from,
                        size_t to, tw_item_write_result *results)
{
    size_t head = log->count;
    bool failed = false;
    for (size_t i = from; i < to; i++) {
        fake_opid *before = remembered(log, ops->at[i].opid);
        if (before != NULL) {
            told(&results[i], &log->rows[before->row - 1]);
            continue;
        }
        results[i].code = (uint64_t)apply_one(log, arena, &ops->at[i], &results[i]);
        failed = failed || results[i].code != TW_OK;
        if (results[i].code == TW_OK && results[i].seqno != 0) {
            remember(log, ops->at[i].opid, log->count);
        }
    }
    if (failed && to - from > 1) {
        roll_back(log, head);
        for (size_t i = from; i < to; i++) {
            if (results[i].code == TW_OK) { /* as the store tells it */
                results[i] = (tw_item_write_result){.code = TW_E_CONFLICT};
                results[i].why = TW_STR("Another operation of the transaction was refused.");
            }
        }
    }
}

static void row_told(tw_item_log_row *out, const fake_row *row)
{
    *out = (tw_item_log_row){.n = row->n,
                             .srv = FAKE_SRV,
                             .seqno = row->n,
                             .flags = row->flags,
                             .db = tw_str_of(row->db),
                             .coll = tw_str_of(row->coll),
                             .key = row->key,
                             .version = row->version,
                             .prev = row->prev,
                             .doc = row->doc};
}

static tw_list_log_row rows_told(fake_log *log, tw_arena *arena, size_t from, size_t to)
{
    tw_item_log_row *at = tw_arena_zero(arena, to - from + 1, sizeof *at);
    must(at != NULL);
    for (size_t i = from; i < to; i++) {
        row_told(&at[i - from], &log->rows[i]);
    }
    return (tw_list_log_row){at, to - from};
}

static tw_err on_write(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    fake_log *log = self->log;
    const tw_list_write_op *ops = &in->body->write.ops;
    tw_item_write_result *results = tw_arena_zero(in->arena, ops->count, sizeof *results);
    must(results != NULL);
    atomic_fetch_add(&log->writes, 1);
    atomic_fetch_add(&log->ops, ops->count);
    tw_rwlock_write(&log->lock);
    size_t head = log->count;
    for (size_t from = 0, to = 0; from < ops->count; from = to) {
        for (to = from + 1; to < ops->count && ops->at[to - 1].more;) {
            to++;
        }
        apply_group(log, in->arena, ops, from, to, results);
    }
    tw_position at = {FAKE_SRV, log->count};
    tw_msg_log_batch batch = {
        .srv = FAKE_SRV, .prev_head = head, .head = log->count, .at = {&at, 1}};
    batch.rows = rows_told(log, in->arena, head, log->count);
    if (batch.rows.count != 0) {
        tw_publish(self->actor, TW_MSG_log_batch, &batch);
    }
    bool lost = take_fault(&log->lose_answers);
    if (!lost) {
        tw_reply(self->actor, in->route, TW_MSG_written,
                 &(tw_msg_written){.results = {results, ops->count}});
    }
    tw_rwlock_done(&log->lock);
    return lost ? TW_E_UNAVAILABLE : TW_OK;
}

static tw_err on_log_state(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    tw_msg_log_state state = {.srv = FAKE_SRV, .own = FAKE_SRV, .head = fake_log_head(self->log)};
    tw_reply(self->actor, in->route, TW_MSG_log_state, &state);
    return TW_OK;
}

/* ---- the reader ---- */
typedef struct fake_found {
    tw_item_record *at; /* arena */
    size_t count;
} fake_found;

static void found(tw_arena *arena, fake_found *out, const fake_row *row, tw_bson fields)
{
    projection names;
    tw_buf buf;
    tw_err err = projection_init(&names, fields);
    must(err == TW_OK);
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    projection_apply(&names, TW_STR("_id"), row->doc, &buf);
    tw_bson doc = tw_arena_bson(arena, (tw_bson){(const uint8_t *)buf.ptr, buf.len});
    tw_buf_fini(&buf);
    out->at[out->count++] = (tw_item_record){
        .key = row->key, .version = row->version, .srv = FAKE_SRV, .seqno = row->n, .doc = doc};
}

static tw_err on_get(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    const tw_msg_get *get = &in->body->get;
    fake_found out = {tw_arena_zero(in->arena, get->keys.count + 1, sizeof *out.at), 0};
    must(out.at != NULL);
    if (take_fault(&self->log->fail_reads)) {
        return TW_E_UNAVAILABLE;
    }
    tw_rwlock_read(&self->log->lock);
    for (size_t i = 0; i < get->keys.count; i++) {
        fake_row *row = newest(self->log, get->db, get->coll, get->keys.at[i].key);
        if (row != NULL && is_live(row)) {
            found(in->arena, &out, row, get->fields);
        }
    }
    tw_reply(self->actor, in->route, TW_MSG_records,
             &(tw_msg_records){.items = {out.at, out.count}});
    tw_rwlock_done(&self->log->lock);
    return TW_OK;
}

/* Puts the matching rows into the order of a sort by one field. */
static void sort_rows(const fake_row **rows, size_t count, tw_bson sort)
{
    tw_bson_iter by;
    tw_bson_iter_init(&by, sort);
    int64_t way = 1;
    if (sort.len == 0 || !tw_bson_iter_next(&by) || !tw_bson_value_i64(by.value, &way)) {
        return;
    }
    for (size_t i = 1; i < count; i++) {
        for (size_t j = i; j > 0; j--) {
            int order = tw_bson_compare(tw_bson_get_path(rows[j - 1]->doc, by.name),
                                        tw_bson_get_path(rows[j]->doc, by.name));
            if ((way > 0 ? order : -order) <= 0) {
                break;
            }
            const fake_row *other = rows[j];
            rows[j] = rows[j - 1];
            rows[j - 1] = other;
        }
    }
}

static size_t matching(fake_log *log, tw_arena *arena, tw_str db, tw_str coll, const query *filter,
                       uint64_t after, const fake_row ***out)
{
    size_t count = 0;
    *out = tw_arena_alloc(arena, (log->count + 1) * sizeof **out);
    must(*out != NULL);
    for (size_t i = after; i < log->count; i++) {
        const fake_row *row = &log->rows[i];
        if (is_of(row, db, coll) && is_live(row) && query_match(filter, row->doc)) {
            (*out)[count++] = row;
        }
    }
    return count;
}

static tw_err on_find(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    const tw_msg_find *find = &in->body->find;
    broker_why why = {0};
    query *filter;
    if (take_fault(&self->log->fail_reads)) {
        return TW_E_UNAVAILABLE;
    }
    tw_err err = query_compile(find->query, &filter, &why);
    if (err != TW_OK) {
        tw_reply_error(self->actor, in->route, err, "%s", why.text);
        return TW_OK;
    }
    tw_rwlock_read(&self->log->lock);
    const fake_row **rows;
    size_t count = matching(self->log, in->arena, find->db, find->coll, filter, find->after, &rows);
    sort_rows(rows, count, find->sort);
    fake_found out = {tw_arena_zero(in->arena, count + 1, sizeof *out.at), 0};
    must(out.at != NULL);
    uint64_t limit = find->limit == 0 ? TW_FIND_MAX : find->limit;
    tw_msg_records answer = {.after = find->after};
    size_t bytes = 0;
    size_t i = find->skip < count ? find->skip : count;
    for (; i < count && out.count < limit && (bytes == 0 || bytes < find->bytes_max); i++) {
        found(in->arena, &out, rows[i], find->fields);
        bytes += out.at[out.count - 1].doc.len;
        answer.after = rows[i]->n;
    }
    answer.more = i < count;
    answer.items = (tw_list_record){out.at, out.count};
    tw_reply(self->actor, in->route, TW_MSG_records, &answer);
    tw_rwlock_done(&self->log->lock);
    query_free(&filter);
    return TW_OK;
}

static tw_err on_count(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    const tw_msg_count *count = &in->body->count;
    broker_why why = {0};
    query *filter;
    tw_err err = query_compile(count->query, &filter, &why);
    if (err != TW_OK) {
        tw_reply_error(self->actor, in->route, err, "%s", why.text);
        return TW_OK;
    }
    tw_rwlock_read(&self->log->lock);
    const fake_row **rows;
    tw_msg_counted answer = {0};
    answer.count = matching(self->log, in->arena, count->db, count->coll, filter, 0, &rows);
    tw_rwlock_done(&self->log->lock);
    query_free(&filter);
    tw_reply(self->actor, in->route, TW_MSG_counted, &answer);
    return TW_OK;
}

static tw_err on_log_read(void *arg, const tw_envelope *in)
{
    fake_actor *self = arg;
    const tw_msg_log_read *read = &in->body->log_read;
    if (take_fault(&self->log->fail_reads)) {
        return TW_E_UNAVAILABLE;
    }
    tw_rwlock_read(&self->log->lock);
    size_t from = read->after < self->log->count ? read->after : self->log->count;
    size_t to = self->log->count - from > read->rows_max ? from + read->rows_max : self->log->count;
    tw_msg_log_rows answer = {.srv = FAKE_SRV, .head = self->log->count, .upto = to};
    answer.rows = rows_told(self->log, in->arena, from, to);
    tw_reply(self->actor, in->route, TW_MSG_log_rows, &answer);
    tw_rwlock_done(&self->log->lock);
    return TW_OK;
}

static tw_err fake_init(void *arg, tw_actor *actor, const void *options)
{
    fake_actor *self = arg;
    union {
        const void *given;
        fake_log *log;
    } same = {.given = options}; /* the log is locked by itself */
    self->actor = actor;
    self->log = same.log;
    return TW_OK;
}

static const tw_handler store_handlers[] = {
    [TW_MSG_write] = on_write,
    [TW_MSG_log_state_ask] = on_log_state,
};

const tw_actor_class fake_store_class = {
    .name = "store",
    .state_size = sizeof(fake_actor),
    .init = fake_init,
    .handlers = store_handlers,
    .handlers_count = TW_COUNT(store_handlers),
    .publishes = true,
};

static const tw_handler reader_handlers[] = {
    [TW_MSG_get] = on_get,
    [TW_MSG_find] = on_find,
    [TW_MSG_count] = on_count,
    [TW_MSG_log_read] = on_log_read,
};

const tw_actor_class fake_reader_class = {
    .name = "log_reader",
    .state_size = sizeof(fake_actor),
    .init = fake_init,
    .handlers = reader_handlers,
    .handlers_count = TW_COUNT(reader_handlers),
};
