/* mongo_writer.c - the actor that writes to MongoDB: what the store is for the embedded source.
 *
 * Receives  write      Sends  written
 * Owns      one client, the opids of the last writes
 * Blocks    for an answer of MongoDB, within the asker's patience; while MongoDB is away, writes
 *           are refused at once and one in MONGO_LINK_DOWN_MS tries
 * Never     writes without a guard (mongo_writer_priv.h), touches the log, guesses an outcome */
#include "actors/mongo/mongo_writer.h"

#include "actors/mongo/mongo_writer_priv.h"

/* ---- the deployment, and whether it answers ---- */

/* A client with a session, and the deployment's srv_id: all that a message needs. */
static tw_err begin_message(struct mongo_writer *self, char *text)
{
    bson_error_t error = {0};
    self->message_ms = mongo_link_clock_ms();
    if (self->client == NULL) {
        self->client = mongo_link_take(self->options->link, MONGO_LINK_WRITES);
    }
    if (self->client == NULL) {
        tw_format(text, TW_ERROR_TEXT_MAX, "no MongoDB client is free");
        return TW_E_BUSY;
    }
    if (self->srv == 0) {
        tw_err err = mongo_link_origin(self->client, &self->srv, text, TW_ERROR_TEXT_MAX);
        if (err != TW_OK) {
            return err;
        }
    }
    self->session = mongoc_client_start_session(self->client, NULL, &error);
    return self->session == NULL ? mongo_link_error(&error, NULL, text, TW_ERROR_TEXT_MAX) : TW_OK;
}

static void end_message(struct mongo_writer *self)
{
    if (self->session != NULL) {
        mongoc_client_session_destroy(self->session);
        self->session = NULL;
    }
    tw_arena_reset(&self->memory);
    if (self->command.cap > BULK_BYTES_MAX) { /* one large message is no reason to keep so much */
        tw_buf_fini(&self->command);
        tw_buf_init(&self->command, TW_DOCUMENT_MAX * 2);
    }
}

/* ---- a round: many operations, each on a record of its own ---- */

/* What is not done is refused with an error that concerns all. */
static void refuse_rest(struct mongo_writer *self, write_op *ops, size_t count, tw_err err,
                        const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (!ops[i].is_done) {
            writer_op_refuse(self, &ops[i], err, text[0] != '\0' ? text : tw_err_text(err));
        }
    }
}

/* Reads, judges and sends until every operation is done. */
static tw_err run_rounds(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    tw_err err = TW_OK;
    uint64_t begin_ms = mongo_link_clock_ms();
    for (int round = 0; count > 0 && err == TW_OK; round++) {
        bool is_late = round > 2 && mongo_link_clock_ms() - begin_ms > PATIENCE_MS;
        if (round == ROUNDS_MAX || is_late) {
            tw_format(text, TW_ERROR_TEXT_MAX, "others change the record too quickly");
            return TW_E_BUSY;
        }
        self->rounds++;
        size_t reads = 0;
        write_op **to_read = tw_arena_alloc(&self->memory, count * sizeof *to_read);
        write_op **to_send = tw_arena_alloc(&self->memory, count * sizeof *to_send);
        if (to_read == NULL || to_send == NULL) {
            return TW_E_NO_MEMORY;
        }
        for (size_t i = 0; i < count; i++) {
            if (!ops[i]->blind) {
                to_read[reads++] = ops[i];
            }
        }
        err = reads == 0 ? TW_OK : writer_read(self, to_read, reads, text);
        size_t sends = 0;
        for (size_t i = 0; i < count && err == TW_OK; i++) {
            writer_op_plan(self, ops[i]);
            if (!ops[i]->is_done) {
                to_send[sends++] = ops[i];
            }
        }
        err = err == TW_OK ? writer_send(self, to_send, sends, text) : err;
        size_t left = 0;
        for (size_t i = 0; i < sends; i++) {
            if (!to_send[i]->is_done) {
                ops[left++] = to_send[i];
            }
        }
        count = err == TW_OK ? left : count;
    }
    return err;
}

/* Operations on different records that wait to go together: all with a mark, or none. */
typedef struct bulk {
    write_op *ops[BULK_OPS_MAX];
    size_t count;
    size_t bytes;
    bool is_marked;
    hash_table keys;
} bulk;

static uint64_t hash_of(const write_op *op)
{
    return tw_hash(op->key.ptr, op->key.len,
                   tw_hash(op->coll.ptr, op->coll.len, tw_hash(op->db.ptr, op->db.len, 1)));
}

static bool has_key(const bulk *all, const write_op *op)
{
    hash_link *link = hash_table_first(&all->keys, hash_of(op));
    for (; link != NULL; link = hash_table_next(link)) {
        const write_op *each = link->owner;
        if (tw_key_equal(each->key, op->key) && tw_str_equal(each->coll, op->coll) &&
            tw_str_equal(each->db, op->db)) {
            return true;
        }
    }
    return false;
}

static tw_err bulk_flush(struct mongo_writer *self, bulk *all, char *text)
{
    for (size_t i = 0; i < all->count; i++) {
        hash_table_remove(&all->keys, &all->ops[i]->link);
    }
    size_t count = all->count;
    all->count = 0;
    all->bytes = 0;
    if (!all->is_marked) {
        return count == 0 ? TW_OK : run_rounds(self, all->ops, count, text);
    }
    tw_err err = writer_transact_many(self, all->ops, count, text);
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        if (!all->ops[i]->is_done) {
            err = writer_transact(self, all->ops[i], 1, text);
        }
    }
    return err;
}

/* True for parts of one request: opids that differ behind the last slash. Only they share a
 * transaction, and so a position. */
static bool is_same_request(tw_str a, tw_str b)
{
    const char *slash = a.len == 0 ? NULL : memrchr(a.ptr, '/', a.len);
    size_t head = slash == NULL ? 0 : (size_t)(slash - a.ptr) + 1;
    return head > 0 && b.len > head && memcmp(a.ptr, b.ptr, head) == 0 &&
           memchr(b.ptr + head, '/', b.len - head) == NULL;
}

static tw_err bulk_add(struct mongo_writer *self, bulk *all, write_op *op, bool is_marked,
                       char *text)
{
    tw_err err = TW_OK;
    bool is_other =
        all->count > 0 && is_marked && !is_same_request(all->ops[0]->asked->opid, op->asked->opid);
    if (all->count == BULK_OPS_MAX || all->bytes > BULK_BYTES_MAX || has_key(all, op) ||
        all->is_marked != is_marked || is_other) {
        err = bulk_flush(self, all, text);
    }
    all->is_marked = is_marked;
    hash_table_add(&all->keys, &op->link, hash_of(op), op);
    all->ops[all->count++] = op;
    all->bytes += op->asked->doc.len;
    return err;
}

/* ---- a message ---- */

/* An opid drawn by a gateway that is sent once more: told from memory, or in doubt. */
static bool is_repeated(struct mongo_writer *self, write_op *op)
{
    if (writer_known_find(self, writer_opid(self, op->asked), op->result)) {
        op->is_done = true;
        return true;
    }
    bool young = self->message_ms - self->began_ms < DOUBT_MS;
    if (op->asked->again && op->asked->drawn && young) {
        writer_op_refuse(self, op, TW_E_UNAVAILABLE,
                         "The writer was restarted: whether this write took effect is not known; "
                         "give an opid to writes that are to be repeated safely.");
        return true;
    }
    return false;
}

/* Operations that belong together, from i on; what can wait goes into the bulk. */
static tw_err run_unit(struct mongo_writer *self, bulk *all, write_op *ops, size_t count,
                       char *text)
{
    write_op *first = &ops[0];
    const tw_item_write_op *asked = first->asked;
    bool is_drop = asked->op == TW_OP_DROP || asked->op == TW_OP_DROP_DB;
    bool has_mark = (asked->opid.len > 0 && !asked->drawn) || asked->silent;
    if (is_repeated(self, first)) {
        for (size_t i = 1; i < count; i++) {
            (void)is_repeated(self, &ops[i]);
        }
        return TW_OK;
    }
    size_t refused = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        writer_op_begin(self, &ops[i]);
        bool drops = ops[i].asked->op == TW_OP_DROP || ops[i].asked->op == TW_OP_DROP_DB;
        if (drops && count > 1 && !ops[i].is_done) {
            writer_op_refuse(self, &ops[i], TW_E_UNSUPPORTED,
                             "A drop is no part of a transaction on MongoDB.");
        }
        refused = ops[i].is_done && refused == SIZE_MAX ? i : refused;
    }
    if (refused != SIZE_MAX) {
        for (size_t i = 0; i < count; i++) {
            if (!ops[i].is_done) {
                writer_op_refuse(self, &ops[i], (tw_err)ops[refused].result->code,
                                 "Another operation of the transaction was refused.");
            }
        }
        return TW_OK;
    }
    for (size_t i = 0; i < count && !is_drop; i++) {
        bool may_make = ops[i].asked->op == TW_OP_INSERT || ops[i].asked->op == TW_OP_PUT;
        tw_err made = may_make ? writer_make_place(self, &ops[i], text) : TW_OK;
        if (made != TW_OK) {
            return made;
        }
    }
    bool has_opid = asked->opid.len > 0; /* a silent one may come without: it goes alone */
    if (count == 1 && !is_drop && first->rules->rule == CATALOG_FREE && (!has_mark || has_opid)) {
        return bulk_add(self, all, first, has_mark, text);
    }
    tw_err err = bulk_flush(self, all, text);
    if (err == TW_OK && is_drop) {
        err = writer_drop(self, first, text);
    } else if (err == TW_OK && count == 1 && !has_mark) {
        err = run_rounds(self, &first, 1, text);
    } else if (err == TW_OK) {
        err = writer_transact(self, ops, count, text);
    }
    return err;
}

static tw_err run_message(struct mongo_writer *self, const tw_list_write_op *asked, write_op *ops,
                          char *text)
{
    bulk *all = tw_arena_zero(&self->memory, 1, sizeof *all);
    tw_err err = all == NULL ? TW_E_NO_MEMORY : hash_table_init(&all->keys);
    if (err != TW_OK) {
        return err;
    }
    for (size_t i = 0; i < asked->count && err == TW_OK;) {
        size_t count = 1;
        while (asked->at[i + count - 1].more && i + count < asked->count) {
            count++;
        }
        err = run_unit(self, all, ops + i, count, text);
        i += count;
    }
    if (err == TW_OK) {
        err = bulk_flush(self, all, text);
    }
    hash_table_fini(&all->keys);
    return err;
}

static tw_err on_write(void *state, const tw_envelope *in)
{
    struct mongo_writer *self;
    TW_CAST(self, state, MONGO_WRITER_MAGIC);
    const tw_list_write_op *asked = &in->body->write.ops;
    char text[TW_ERROR_TEXT_MAX] = "";
    write_op *ops = tw_arena_zero(&self->memory, asked->count + 1, sizeof *ops);
    tw_item_write_result *results = tw_arena_zero(&self->memory, asked->count + 1, sizeof *results);
    if (ops == NULL || results == NULL) {
        tw_arena_reset(&self->memory);
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < asked->count; i++) {
        ops[i].asked = &asked->at[i];
        ops[i].result = &results[i];
    }
    tw_err err = TW_E_UNAVAILABLE;
    if (!mongo_link_is_down(&self->health, text)) {
        err = begin_message(self, text);
        if (err == TW_OK) {
            err = run_message(self, asked, ops, text);
        }
        mongo_link_tried(&self->health, tw_actor_name(self->actor), err, text);
    }
    if (err != TW_OK) {
        refuse_rest(self, ops, asked->count, err, text);
    }
    for (size_t i = 0; i < asked->count; i++) {
        self->writes += results[i].code == TW_OK ? 1 : 0;
        self->refused += results[i].code == TW_OK ? 0 : 1;
        writer_known_keep(self, writer_opid(self, &asked->at[i]), &results[i]);
    }
    const tw_msg_written written = {.results = {results, asked->count}};
    tw_reply(in->actor, in->route, TW_MSG_written, &written);
    end_message(self);
    return TW_OK;
}

/* ---- life ---- */

static void mongo_writer_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    struct mongo_writer *self;
    TW_CAST(self, state, MONGO_WRITER_MAGIC);
    const tw_item_gauge gauges[] = {
        {.name = TW_STR("mongo_up"), .value = self->health.why[0] == '\0' ? 1 : 0},
        {.name = TW_STR("mongo_writes_total"), .value = (int64_t)self->writes},
        {.name = TW_STR("mongo_writes_refused_total"), .value = (int64_t)self->refused},
        {.name = TW_STR("mongo_write_rounds_total"), .value = (int64_t)self->rounds},
        {.name = TW_STR("mongo_write_commands_total"), .value = (int64_t)self->commands},
        {.name = TW_STR("mongo_transactions_total"), .value = (int64_t)self->transactions},
        {.name = TW_STR("mongo_writes_repeated_total"), .value = (int64_t)self->repeated},
        {.name = TW_STR("mongo_write_failures_total"), .value = (int64_t)self->health.failures},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

static void mongo_writer_fini(void *state)
{
    struct mongo_writer *self;
    TW_CAST(self, state, MONGO_WRITER_MAGIC);
    mongo_link_give_back(self->options->link, MONGO_LINK_WRITES, &self->client);
    if (self->log != NULL) {
        tw_caller_close(&self->log);
    }
    tw_arena_fini(&self->memory);
    tw_buf_fini(&self->scratch);
    tw_buf_fini(&self->command);
    writer_known_fini(self);
}

static tw_err mongo_writer_init(void *state, tw_actor *actor, const void *options)
{
    struct mongo_writer *self = state;
    const mongo_writer_options *given = options;
    TW_ASSERT(given != NULL && given->link != NULL && given->catalog != NULL);
    TW_ASSERT(given->node != NULL);
    *self = (struct mongo_writer){.magic = MONGO_WRITER_MAGIC,
                                  .actor = actor,
                                  .options = given,
                                  .has_bulk = true,
                                  .puts_insert = true,
                                  .began_ms = mongo_link_clock_ms()};
    tw_arena_init(&self->memory, MONGO_WRITER_BYTES_MAX);
    tw_buf_init(&self->scratch, TW_DOCUMENT_MAX + TW_KEY_MAX + 65536);
    tw_buf_init(&self->command, TW_DOCUMENT_MAX * 2);
    tw_err err = writer_known_init(self);
    if (err != TW_OK) {
        mongo_writer_fini(self);
    }
    return err;
}

static void mongo_writer_on_drain(void *state)
{
    struct mongo_writer *self;
    TW_CAST(self, state, MONGO_WRITER_MAGIC);
    tw_actor_drained(self->actor); /* each message is finished with its handler */
}

static const tw_handler handlers[] = {
    [TW_MSG_write] = on_write,
};

const tw_actor_class mongo_writer_class = {
    .name = "mongo_writer",
    .state_size = sizeof(struct mongo_writer),
    .init = mongo_writer_init,
    .fini = mongo_writer_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_drain = mongo_writer_on_drain,
    .gauges = mongo_writer_gauges,
};
