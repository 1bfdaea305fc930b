/* request_write.c - writes: operations of many requests travel in one message, outcomes come back.
 *
 * A message that was lost (timeout, the store was away) is sent once more: each operation carries
 * an opid, drawn here where the asker gave none, so that it cannot have its effect twice. */
#include "protocol/json.h"

#include "broker/update.h"

#include "gateways/request/request_priv.h"

enum {
    BATCH_FIRST = 64,      /* operations there is room for at first */
    BATCH_BYTES = 1048576, /* a message is sent at this size */
    OP_BYTES = 48,         /* numbers and lengths of an operation, encoded; at most */
    MESSAGE_BYTES = 1024,  /* room left for the message's own head */
    OPID_DRAWN = 32,       /* hex digits of 128 random bits */
    OPID_PART = 17,        /* a slash and 16 hex digits */
};

void request_batch_free(request_batch **batch)
{
    if (*batch != NULL) {
        tw_free((*batch)->ops);
        tw_free((*batch)->owners);
        tw_free(*batch);
        *batch = NULL;
    }
}

static request_batch *batch_take(request_engine *engine)
{
    request_batch *batch = engine->spare_batches;
    if (batch != NULL) {
        engine->spare_batches = batch->next;
        engine->spare_batches_count--;
        batch->next = NULL;
        return batch;
    }
    batch = tw_alloc_zero(1, sizeof *batch);
    if (batch != NULL) {
        batch->magic = REQUEST_BATCH_MAGIC;
        batch->engine = engine;
    }
    return batch;
}

static void batch_give_back(request_batch *batch)
{
    request_engine *engine = batch->engine;
    *batch->link = batch->next;
    if (batch->next != NULL) {
        batch->next->link = batch->link;
    }
    batch->count = 0;
    batch->bytes = 0;
    batch->retried = false;
    if (engine->spare_batches_count >= REQUEST_BATCH_SPARE_MAX) {
        request_batch_free(&batch);
        return;
    }
    batch->next = engine->spare_batches;
    engine->spare_batches = batch;
    engine->spare_batches_count++;
}

static bool batch_room(request_batch *batch, size_t more)
{
    size_t cap = batch->cap == 0 ? BATCH_FIRST : batch->cap;
    while (cap < batch->count + more) {
        cap *= 2;
    }
    if (cap == batch->cap) {
        return true;
    }
    tw_item_write_op *ops = tw_realloc(batch->ops, cap * sizeof *ops);
    if (ops == NULL) {
        return false;
    }
    batch->ops = ops;
    request_owner *owners = tw_realloc(batch->owners, cap * sizeof *owners);
    if (owners == NULL) {
        return false;
    }
    batch->owners = owners;
    batch->cap = cap;
    return true;
}

/* ---- outcomes ---- */
static void since_add(request_since *since, uint64_t srv, uint64_t seqno)
{
    if (seqno == 0) {
        return;
    }
    size_t i = 0;
    while (i < since->count && since->at[i].srv < srv) {
        i++;
    }
    if (i < since->count && since->at[i].srv == srv) {
        since->at[i].seqno = since->at[i].seqno < seqno ? seqno : since->at[i].seqno;
    } else if (since->count < TW_ORIGINS_MAX) { /* a store has one origin of its own */
        memmove(&since->at[i + 1], &since->at[i], (since->count - i) * sizeof since->at[0]);
        since->at[i] = (tw_position){srv, seqno};
        since->count++;
    }
}

static void result_keep(request *self, request_result *out, const tw_item_write_result *in)
{
    *out = (request_result){.code = (tw_err)in->code, .version = in->version, .count = in->count};
    if (in->code >= TW_ERRORS_END) {
        out->code = TW_E_INTERNAL;
    }
    if (out->code == TW_OK) {
        since_add(&self->since, in->srv, in->seqno);
    }
    out->key = tw_arena_key(&self->arena, in->key);
    out->why = tw_arena_str(&self->arena, in->why);
    out->rule = tw_arena_str(&self->arena, in->rule);
    if (out->key.ptr == NULL || out->why.ptr == NULL) { /* lost words are no lost outcome */
        out->key.len = out->key.ptr == NULL ? 0 : out->key.len;
        out->why.len = out->why.ptr == NULL ? 0 : out->why.len;
    }
    out->rule.len = out->rule.ptr == NULL ? 0 : out->rule.len;
}

static void outcome(request_owner owner, const tw_item_write_result *result)
{
    request *self = owner.of;
    TW_ASSERT(self->magic == REQUEST_MAGIC && self->writes_left > 0);
    TW_ASSERT(owner.index < self->results_count);
    result_keep(self, &self->results[owner.index], result);
    request_enter(self);
    self->writes_left--;
    if (self->writes_left == 0 && !self->forgotten) {
        self->written(self);
    }
    request_leave(self);
}

static void on_written(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in);

static void batch_send(request_batch *batch)
{
    tw_msg_write message = {.ops = {batch->ops, batch->count}};
    request_engine *engine = batch->engine;
    tw_ask(engine->options.actor, engine->options.store, TW_MSG_write, &message, TW_ASK_TIMEOUT_MS,
           on_written, batch, 0);
}

static void on_written(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)state;
    (void)tag;
    request_batch *batch;
    TW_CAST(batch, context, REQUEST_BATCH_MAGIC);
    if ((err == TW_E_UNAVAILABLE || err == TW_E_TIMEOUT) && !batch->retried) {
        batch->retried = true;
        for (size_t i = 0; i < batch->count; i++) {
            batch->ops[i].again = true;
        }
        batch_send(batch);
        return;
    }
    const tw_list_write_result *results = NULL;
    if (err == TW_OK) {
        results = &in->body->written.results;
        err = in->id == TW_MSG_written && results->count == batch->count ? TW_OK : TW_E_INTERNAL;
    }
    tw_item_write_result all = {.code = (uint64_t)err};
    if (err != TW_OK && in != NULL && in->id == TW_MSG_error) {
        all.why = in->body->error.why;
    }
    for (size_t i = 0; i < batch->count; i++) {
        outcome(batch->owners[i], err == TW_OK ? &results->at[i] : &all);
    }
    batch_give_back(batch);
}

static void queue_send(request_engine *engine)
{
    request_batch *batch = engine->queue;
    if (batch == NULL) {
        return;
    }
    engine->queue = NULL;
    batch->next = engine->sent_batches;
    batch->link = &engine->sent_batches;
    if (batch->next != NULL) {
        batch->next->link = &batch->next;
    }
    engine->sent_batches = batch;
    batch_send(batch);
}

/* A writer to MongoDB takes one message after the other, and pays for the round trips of each: what
 * comes while it has one waits here and goes as one, up to a message's size. The store commits what
 * came in a turn together, in however many messages. */
void request_flush(request_engine *engine)
{
    TW_ASSERT(engine != NULL && engine->magic == REQUEST_ENGINE_MAGIC);
    if (!engine->options.mongo || engine->sent_batches == NULL) {
        queue_send(engine);
    }
}

/* ---- queueing ---- */
static size_t op_bytes(const tw_item_write_op *op)
{
    return OP_BYTES + op->db.len + op->coll.len + op->key.len + op->doc.len + op->match.len +
           op->guard.len + op->opid.len + op->origin.len;
}

/* Puts operations that belong together into one message; the caller has made sure that they fit. */
static tw_err queue_group(request *self, const tw_item_write_op *ops, size_t count, size_t first,
                          size_t bytes)
{
    request_engine *engine = self->engine;
    if (engine->queue != NULL && (engine->queue->count + count > TW_WRITE_OPS_MAX ||
                                  engine->queue->bytes + bytes > BATCH_BYTES)) {
        queue_send(engine);
    }
    if (engine->queue == NULL) {
        engine->queue = batch_take(engine);
    }
    request_batch *batch = engine->queue;
    if (batch == NULL || !batch_room(batch, count)) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        batch->ops[batch->count] = ops[i];
        batch->owners[batch->count] = (request_owner){self, (uint32_t)(first + i)};
        batch->count++;
    }
    batch->bytes += bytes;
    return TW_OK;
}

/* 16 digits, the highest first. */
static void put_hex(char *at, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = OPID_PART - 1; i > 0; i--, value >>= 4) {
        at[i - 1] = digits[value & 15];
    }
}

static tw_str draw_opid(request *self)
{
    char *text = tw_arena_alloc(&self->arena, OPID_DRAWN);
    if (text == NULL) {
        return (tw_str){NULL, 0};
    }
    for (size_t half = 0; half < 2; half++) {
        put_hex(text + half * (OPID_DRAWN / 2), tw_random(self->engine->options.actor));
    }
    return (tw_str){text, OPID_DRAWN};
}

/* Told to those who watch changes as the origin of this one: as asked, or the text of the reqID. */
static tw_str origin_of(request *self)
{
    if ((self->given.set & FIELD_BIT(origin)) != 0) {
        return tw_bson_value_str(self->given.at[FIELD_origin]);
    }
    tw_bson_value id = self->given.at[FIELD_req_id];
    if (id.type == 0 || id.type == TW_BSON_NULL) {
        return (tw_str){NULL, 0};
    }
    if (id.type == TW_BSON_STRING) {
        return tw_bson_value_str(id);
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_buf_clear(scratch);
    tw_json_write_value(scratch, id);
    if (scratch->err != TW_OK || scratch->len > TW_OPID_MAX) {
        return (tw_str){NULL, 0};
    }
    tw_str text = tw_arena_str(&self->arena, tw_buf_str(scratch));
    return text.ptr == NULL ? (tw_str){NULL, 0} : text;
}

static tw_err results_room(request *self, size_t count)
{
    if (self->results_cap < count) {
        self->results = tw_arena_alloc(&self->arena, count * sizeof *self->results);
        self->results_cap = self->results == NULL ? 0 : count;
    }
    self->results_count = self->results_cap < count ? 0 : count;
    return self->results_cap < count ? TW_E_NO_MEMORY : TW_OK;
}

tw_err request_write(request *self, tw_item_write_op *ops, size_t count, bool atomic,
                     request_step written)
{
    TW_ASSERT(count > 0 && count <= TW_WRITE_OPS_MAX);
    TW_ASSERT(self->writes_left == 0);
    tw_err err = results_room(self, count);
    tw_str origin = origin_of(self);
    size_t bytes = 0;
    for (size_t i = 0; i < count && err == TW_OK; i++) { /* before any of them is queued */
        err = request_allow_write(self, &ops[i]);
    }
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        ops[i].more = atomic && i + 1 < count;
        ops[i].origin = origin;
        ops[i].drawn = ops[i].opid.len == 0;
        ops[i].opid = ops[i].drawn ? draw_opid(self) : ops[i].opid;
        err = ops[i].opid.len != 0 ? TW_OK : TW_E_NO_MEMORY;
        bytes += op_bytes(&ops[i]);
    }
    if (err == TW_OK && atomic && bytes > TW_ACTOR_MESSAGE_MAX - MESSAGE_BYTES) {
        err = TW_E_TOO_BIG;
    }
    if (err == TW_OK && atomic) {
        err = queue_group(self, ops, count, 0, bytes);
        self->writes_left = err == TW_OK ? count : 0;
    }
    self->written = written;
    for (size_t i = 0; i < count && err == TW_OK && !atomic; i++) {
        err = queue_group(self, &ops[i], 1, i, op_bytes(&ops[i]));
        if (err == TW_OK) {
            self->writes_left++;
        } else if (i > 0) { /* what is queued goes its way; the rest was never tried */
            for (size_t rest = i; rest < count; rest++) {
                self->results[rest] = (request_result){.code = err};
            }
            return TW_OK;
        }
    }
    return err;
}

/* ---- what an operation is made of ---- */
tw_item_write_op request_op(const request *self, const request_given *given, uint64_t op)
{
    tw_item_write_op out = {.op = op, .db = self->db, .coll = self->coll, .if_version = -1};
    if ((given->set & FIELD_BIT(if_version)) != 0) {
        bool whole = tw_bson_value_i64(given->at[FIELD_if_version], &out.if_version);
        TW_ASSERT(whole); /* the validator has seen it */
    }
    if ((given->set & FIELD_BIT(dispatch)) != 0) {
        out.silent = !tw_bson_value_bool_or(given->at[FIELD_dispatch], true);
    }
    if ((given->set & FIELD_BIT(opid)) != 0) {
        out.opid = tw_bson_value_str(given->at[FIELD_opid]);
    }
    return out;
}

tw_err request_update_of(request *self, const request_given *given, tw_bson *out, request_why *why)
{
    if ((given->set & FIELD_BIT(update)) != 0) {
        *out = tw_bson_value_doc(given->at[FIELD_update]);
        return TW_OK;
    }
    tw_err err = TW_OK;
    if ((given->set & FIELD_BIT(set)) != 0) {
        err =
            update_of_fields(&self->arena, tw_bson_value_doc(given->at[FIELD_set]), out, &why->why);
    } else {
        err = update_of_operations(&self->arena, tw_bson_value_doc(given->at[FIELD_operations]),
                                   out, &why->why);
    }
    return err == TW_OK && out->len > TW_DOCUMENT_MAX ? TW_E_TOO_BIG : err;
}

tw_err request_opid_part(request *self, tw_str opid, uint64_t part, tw_str *out, request_why *why)
{
    *out = opid;
    if (opid.len == 0) {
        return TW_OK;
    }
    if (opid.len > TW_OPID_MAX - OPID_PART) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"opid\" of several changes is at most %d bytes.",
                             TW_OPID_MAX - OPID_PART);
    }
    char *text = tw_arena_alloc(&self->arena, opid.len + OPID_PART);
    if (text == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(text, opid.ptr, opid.len);
    text[opid.len] = '/';
    put_hex(text + opid.len + 1, part);
    *out = (tw_str){text, opid.len + OPID_PART};
    return TW_OK;
}
