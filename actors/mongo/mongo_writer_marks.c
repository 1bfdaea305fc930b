/* mongo_writer_marks.c - operation ids: in the writer's memory, and as marks in the deployment; for
 * mongo_writer.c.
 *
 * A mark is a document of tidewire.opids, inserted in the transaction of its writes:
 *   {_id: "database/opid", at: date, writes: [{db, coll, id, silent, by}, ...],
 *    results: [{key, version, count}, ...]}
 * Its event comes with those of the writes, so every node's tailer learns from it which of them are
 * silent and who asked for them; an opid that is sent again finds its results. The server removes
 * it after TW_OPID_AGE_S. */
#include "actors/mongo/mongo_writer_priv.h"

tw_str writer_opid(struct mongo_writer *self, const tw_item_write_op *asked)
{
    const char *db = self->options->catalog->default_database;
    if (asked->opid.len == 0) {
        return (tw_str){NULL, 0};
    }
    const char *text =
        asked->db.len == 0
            ? tw_arena_format(&self->memory, "%s/%.*s", db, (int)asked->opid.len, asked->opid.ptr)
            : tw_arena_format(&self->memory, "%.*s/%.*s", (int)asked->db.len, asked->db.ptr,
                              (int)asked->opid.len, asked->opid.ptr);
    return tw_str_of(text);
}

/* ---- in memory ---- */

tw_err writer_known_init(struct mongo_writer *self)
{
    self->ring = tw_alloc_zero(KNOWN_MAX, sizeof *self->ring);
    return self->ring == NULL ? TW_E_NO_MEMORY : hash_table_init(&self->known);
}

void writer_known_fini(struct mongo_writer *self)
{
    for (size_t i = 0; self->ring != NULL && i < KNOWN_MAX; i++) {
        tw_free(self->ring[i].bytes);
    }
    tw_free(self->ring);
    hash_table_fini(&self->known);
}

static known_write *find_known(struct mongo_writer *self, tw_str opid)
{
    hash_link *link = hash_table_first(&self->known, tw_hash(opid.ptr, opid.len, 7));
    for (; link != NULL; link = hash_table_next(link)) {
        known_write *each = link->owner;
        if (tw_str_equal((tw_str){each->bytes, each->id_len}, opid)) {
            return each;
        }
    }
    return NULL;
}

bool writer_known_find(struct mongo_writer *self, tw_str opid, tw_item_write_result *result)
{
    const known_write *known = opid.len == 0 ? NULL : find_known(self, opid);
    if (known == NULL) {
        return false;
    }
    tw_key key = {(const uint8_t *)known->bytes + known->id_len, known->key_len};
    *result = (tw_item_write_result){.key = tw_arena_key(&self->memory, key),
                                     .version = known->version,
                                     .srv = self->srv,
                                     .seqno = known->seqno,
                                     .count = known->count};
    self->repeated++;
    return true;
}

void writer_known_keep(struct mongo_writer *self, tw_str opid, const tw_item_write_result *result)
{
    static_assert((int)TW_OPID_MAX + (int)TW_NAME_MAX < UINT16_MAX && (int)TW_KEY_MAX <= UINT16_MAX,
                  "they fit");
    if (opid.len == 0 || result->code != TW_OK || find_known(self, opid) != NULL) {
        return;
    }
    known_write *place = &self->ring[self->ring_at++ % KNOWN_MAX];
    if (place->bytes != NULL) { /* the oldest is forgotten */
        hash_table_remove(&self->known, &place->link);
        tw_free(place->bytes);
    }
    *place = (known_write){.id_len = (uint16_t)opid.len,
                           .key_len = (uint16_t)result->key.len,
                           .version = result->version,
                           .seqno = result->seqno,
                           .count = result->count,
                           .bytes = tw_alloc(opid.len + result->key.len + 1)};
    if (place->bytes == NULL) {
        return; /* sent again it is in doubt: told as such */
    }
    memcpy(place->bytes, opid.ptr, opid.len);
    if (result->key.len > 0) {
        memcpy(place->bytes + opid.len, result->key.ptr, result->key.len);
    }
    hash_table_add(&self->known, &place->link, tw_hash(opid.ptr, opid.len, 7), place);
}

/* ---- in the deployment ---- */

tw_err writer_marks_prepare(struct mongo_writer *self, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    if (self->has_marks) {
        return TW_OK;
    }
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("createIndexes"), TW_STR(MONGO_LINK_OPIDS));
    tw_bson_open_array(&b, TW_STR("indexes"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_open_doc(&b, TW_STR("key"));
    tw_bson_add_i64(&b, TW_STR("at"), 1);
    tw_bson_close(&b);
    tw_bson_add_str(&b, TW_STR("name"), TW_STR("at_1"));
    tw_bson_add_i64(&b, TW_STR("expireAfterSeconds"), TW_OPID_AGE_S);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_err err = writer_command(self, TW_STR(MONGO_LINK_DATABASE), tw_bson_end(&b), true, &reply,
                                &error, text);
    bson_destroy(&reply);
    self->has_marks = err == TW_OK;
    return err;
}

/* ---- the session of a writer ---- */

static tw_bson_value own_lsid(const struct mongo_writer *self)
{
    tw_bson lsid = mongo_link_doc(mongoc_client_session_get_lsid(self->session));
    return tw_bson_get(lsid, TW_STR("id")); /* a binary of 16 bytes: its length, subtype, bytes */
}

static void add_writer_id(tw_bson_builder *b, const struct mongo_writer *self, const char *name)
{
    char id[TW_KEY_MAX];
    size_t len = tw_format(id, sizeof id, "writer %s", self->options->node);
    tw_bson_add_str(b, tw_str_of(name), (tw_str){id, len});
}

/* The session that stands in tidewire.meta, killed. */
static tw_err end_life_before(struct mongo_writer *self, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("find"), TW_STR(MONGO_LINK_META));
    tw_bson_open_doc(&b, TW_STR("filter"));
    add_writer_id(&b, self, "_id");
    tw_bson_close(&b);
    tw_bson_add_i64(&b, TW_STR("limit"), 1);
    tw_bson_add_bool(&b, TW_STR("singleBatch"), true);
    tw_err err = writer_command(self, TW_STR(MONGO_LINK_DATABASE), tw_bson_end(&b), false, &reply,
                                &error, text);
    tw_bson batch = tw_bson_get_doc(tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("cursor")),
                                    TW_STR("firstBatch"));
    tw_bson kept = batch.len == 0 ? (tw_bson){0} : tw_bson_get_doc(batch, TW_STR("0"));
    tw_bson_value lsid = kept.len == 0 ? (tw_bson_value){0} : tw_bson_get(kept, TW_STR("lsid"));
    bool has_one = err == TW_OK && lsid.type == TW_BSON_BINARY;
    if (has_one) {
        tw_buf_clear(&self->command);
        tw_bson_begin(&b, &self->command);
        tw_bson_open_array(&b, TW_STR("killSessions"));
        tw_bson_open_doc(&b, TW_STR(""));
        tw_bson_add_value(&b, TW_STR("id"), lsid);
        tw_bson_close(&b);
        tw_bson_close(&b);
    }
    tw_bson command = has_one ? tw_bson_end(&b) : (tw_bson){0};
    bson_destroy(&reply);
    if (has_one) {
        err = writer_command(self, TW_STR("admin"), command, false, &reply, &error, text);
        bson_destroy(&reply);
    }
    return err == TW_E_UNAVAILABLE ? err : TW_OK; /* without the right to it: after a minute */
}

tw_err writer_announce(struct mongo_writer *self, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    tw_bson_value lsid = own_lsid(self);
    const uint8_t *uuid = lsid.ptr + lsid.len - sizeof self->announced;
    TW_ASSERT(lsid.type == TW_BSON_BINARY && lsid.len == 5 + sizeof self->announced);
    if (memcmp(uuid, self->announced, sizeof self->announced) == 0) {
        return TW_OK;
    }
    tw_err err = end_life_before(self, text);
    if (err != TW_OK) {
        return err;
    }
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("update"), TW_STR(MONGO_LINK_META));
    tw_bson_open_array(&b, TW_STR("updates"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_open_doc(&b, TW_STR("q"));
    add_writer_id(&b, self, "_id");
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("u"));
    tw_bson_open_doc(&b, TW_STR("$set"));
    tw_bson_add_value(&b, TW_STR("lsid"), lsid);
    tw_bson_add_date(&b, TW_STR("at"), (int64_t)tw_unix_ms(self->actor));
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_add_bool(&b, TW_STR("upsert"), true);
    tw_bson_close(&b);
    tw_bson_close(&b);
    err = writer_command(self, TW_STR(MONGO_LINK_DATABASE), tw_bson_end(&b), true, &reply, &error,
                         text);
    bson_destroy(&reply);
    if (err == TW_OK) {
        memcpy(self->announced, uuid, sizeof self->announced);
    }
    return err;
}

/* ---- marks ---- */

static void add_writes(tw_bson_builder *b, const write_op *ops, size_t count)
{
    tw_bson_open_array(b, TW_STR("writes"));
    for (size_t i = 0; i < count; i++) {
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_add_str(b, TW_STR("db"), ops[i].db);
        tw_bson_add_str(b, TW_STR("coll"), ops[i].coll);
        tw_bson_add_key(b, TW_STR("id"), ops[i].key);
        if (ops[i].asked->silent) {
            tw_bson_add_bool(b, TW_STR("silent"), true);
        }
        if (ops[i].asked->origin.len > 0) {
            tw_bson_add_str(b, TW_STR("by"), ops[i].asked->origin);
        }
        tw_bson_close(b);
    }
    tw_bson_close(b);
}

/* planned: the results that the plans will have; otherwise those that stand. */
static void add_results(tw_bson_builder *b, const write_op *ops, size_t count, bool planned)
{
    tw_bson_open_array(b, TW_STR("results"));
    for (size_t i = 0; i < count; i++) {
        bool changes = planned && ops[i].plan != PLAN_NOTHING;
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_add_key(b, TW_STR("key"), ops[i].key);
        tw_bson_add_i64(b, TW_STR("version"),
                        changes ? ops[i].next_version : ops[i].result->version);
        tw_bson_add_i64(b, TW_STR("count"), changes ? 1 : (int64_t)ops[i].result->count);
        tw_bson_close(b);
    }
    tw_bson_close(b);
}

static void begin_marks(struct mongo_writer *self, tw_bson_builder *b)
{
    tw_buf_clear(&self->command);
    tw_bson_begin(b, &self->command);
    tw_bson_add_str(b, TW_STR("insert"), TW_STR(MONGO_LINK_OPIDS));
    tw_bson_open_array(b, TW_STR("documents"));
}

static void add_mark(struct mongo_writer *self, tw_bson_builder *b, tw_str opid,
                     const write_op *ops, size_t count, bool with_results)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("_id"), opid);
    tw_bson_add_date(b, TW_STR("at"), (int64_t)tw_unix_ms(self->actor));
    add_writes(b, ops, count);
    if (with_results) {
        add_results(b, ops, count, true);
    }
    tw_bson_close(b);
}

static tw_err send_marks(struct mongo_writer *self, tw_bson_builder *b, bson_error_t *error,
                         char *text)
{
    bson_t reply;
    tw_bson_close(b);
    tw_bson command = tw_bson_end(b);
    if (self->command.err != TW_OK) {
        return self->command.err;
    }
    tw_err err =
        writer_command(self, TW_STR(MONGO_LINK_DATABASE), command, true, &reply, error, text);
    bson_destroy(&reply);
    return err;
}

tw_err writer_mark(struct mongo_writer *self, tw_str opid, write_op *ops, size_t count,
                   bool with_results, bson_error_t *error, char *text)
{
    tw_bson_builder b;
    begin_marks(self, &b);
    add_mark(self, &b, opid, ops, count, with_results);
    return send_marks(self, &b, error, text);
}

tw_err writer_mark_each(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    bson_error_t error = {0};
    tw_bson_builder b;
    begin_marks(self, &b);
    for (size_t i = 0; i < count; i++) {
        add_mark(self, &b, writer_opid(self, ops[i]->asked), ops[i], 1, true);
    }
    return send_marks(self, &b, &error, text);
}

tw_err writer_mark_results(struct mongo_writer *self, tw_str opid, const write_op *ops,
                           size_t count, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("update"), TW_STR(MONGO_LINK_OPIDS));
    tw_bson_open_array(&b, TW_STR("updates"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_open_doc(&b, TW_STR("q"));
    tw_bson_add_str(&b, TW_STR("_id"), opid);
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("u"));
    tw_bson_open_doc(&b, TW_STR("$set"));
    add_results(&b, ops, count, false);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson command = tw_bson_end(&b);
    if (self->command.err != TW_OK) {
        return self->command.err;
    }
    tw_err err =
        writer_command(self, TW_STR(MONGO_LINK_DATABASE), command, true, &reply, &error, text);
    bson_destroy(&reply);
    return err;
}

/* Takes the results out of a mark. */
static tw_err take_results(struct mongo_writer *self, tw_bson mark, write_op *ops, size_t count)
{
    tw_bson results = tw_bson_get_doc(mark, TW_STR("results"));
    size_t at = 0;
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, results); tw_bson_iter_next(&i) && at < count; at++) {
        tw_bson each = tw_bson_value_doc(i.value);
        tw_item_write_result *result = ops[at].result;
        *result = (tw_item_write_result){
            .version = tw_bson_get_i64_or(each, TW_STR("version"), 0),
            .srv = self->srv,
            .seqno = writer_fence(self), /* later than the write: what has passed it has shown it */
            .count = (uint64_t)tw_bson_get_i64_or(each, TW_STR("count"), 0)};
        tw_err err = tw_key_of_value(&self->memory, tw_bson_get(each, TW_STR("key")), &result->key);
        if (err == TW_E_NO_MEMORY) {
            return err;
        }
        ops[at].is_done = true;
    }
    return at == count ? TW_OK : TW_E_CONFLICT;
}

tw_err writer_mark_read(struct mongo_writer *self, tw_str opid, write_op *ops, size_t count,
                        char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    TW_ASSERT(!self->in_transaction);
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("find"), TW_STR(MONGO_LINK_OPIDS));
    tw_bson_open_doc(&b, TW_STR("filter"));
    tw_bson_add_str(&b, TW_STR("_id"), opid);
    tw_bson_close(&b);
    tw_bson_add_i64(&b, TW_STR("limit"), 1);
    tw_bson_add_bool(&b, TW_STR("singleBatch"), true);
    tw_err err = writer_command(self, TW_STR(MONGO_LINK_DATABASE), tw_bson_end(&b), false, &reply,
                                &error, text);
    if (err == TW_OK) {
        tw_bson cursor = tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("cursor"));
        tw_bson batch = tw_bson_get_doc(cursor, TW_STR("firstBatch"));
        tw_bson mark = tw_bson_get_doc(batch, TW_STR("0"));
        err = mark.len == 0 ? TW_E_NOT_FOUND : take_results(self, mark, ops, count);
        self->repeated += err == TW_OK ? 1 : 0;
    }
    bson_destroy(&reply);
    return err;
}
