/* mongo_writer_send.c - reading the records of operations, and sending their plans; for
 * mongo_writer.c.
 *
 * insert tells which of many documents met another. For other changes bulkWrite (MongoDB 8.0) tells
 * the outcome of each; an older server is sent a command for each. Commands are built by hand: the
 * document of an operation goes into them once, without a copy through libbson. */
#include "actors/mongo/mongo_writer_priv.h"

/* ---- commands ---- */

uint64_t writer_fence(const struct mongo_writer *self)
{
    uint32_t seconds = 0;
    uint32_t increment = 0;
    mongoc_client_session_get_operation_time(self->session, &seconds, &increment);
    return mongo_link_seqno(seconds, increment);
}

/* An error that stands in a reply which is otherwise good: of one write, or of the write
 * concern. */
static bool error_in_reply(const bson_t *reply, bson_error_t *error)
{
    tw_bson body = mongo_link_doc(reply);
    tw_bson concern = tw_bson_get_doc(body, TW_STR("writeConcernError"));
    tw_bson errors = tw_bson_get_doc(body, TW_STR("writeErrors"));
    tw_bson first = errors.len == 0 ? (tw_bson){0} : tw_bson_get_doc(errors, TW_STR("0"));
    tw_bson found = first.len > 0 ? first : concern;
    if (found.len == 0) {
        return false;
    }
    tw_str text = tw_bson_get_str(found, TW_STR("errmsg"));
    bson_set_error(error, MONGOC_ERROR_SERVER,
                   (uint32_t)tw_bson_get_i64_or(found, TW_STR("code"), 0), "%.*s", (int)text.len,
                   text.ptr == NULL ? "" : text.ptr);
    return true;
}

tw_err writer_command(struct mongo_writer *self, tw_str db, tw_bson command, bool writes,
                      bson_t *reply, bson_error_t *error, char *text)
{
    char name[TW_NAME_MAX + 1];
    bson_t view;
    bson_t opts = BSON_INITIALIZER;
    bson_error_t unused;
    tw_format(name, sizeof name, "%.*s", (int)db.len, db.ptr);
    mongo_link_view(&view, command);
    *error = (bson_error_t){0};
    bool done = mongoc_client_session_append(self->session, &opts, &unused);
    TW_ASSERT(done); /* the session is this client's */
    if (writes && !self->in_transaction) {
        const mongoc_write_concern_t *concern = mongoc_client_get_write_concern(self->client);
        mongoc_write_concern_append((mongoc_write_concern_t *)concern, &opts);
    }
    self->commands++;
    done = writes ? mongoc_client_write_command_with_opts(self->client, name, &view, &opts, reply,
                                                          error)
                  : mongoc_client_read_command_with_opts(self->client, name, &view, NULL, &opts,
                                                         reply, error);
    bson_destroy(&opts);
    if (done && writes) {
        done = !error_in_reply(reply, error);
    }
    return done ? TW_OK : mongo_link_error(error, reply, text, TW_ERROR_TEXT_MAX);
}

/* ---- reading ---- */

static bool is_same_place(const write_op *a, const write_op *b)
{
    return tw_str_equal(a->coll, b->coll) && tw_str_equal(a->db, b->db);
}

/* ops are all of one place */
static tw_bson read_command(struct mongo_writer *self, write_op **ops, size_t count)
{
    bool whole = false;
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("find"), ops[0]->coll);
    tw_bson_open_doc(&b, TW_STR("filter"));
    if (count == 1) {
        tw_bson_add_key(&b, TW_STR("_id"), ops[0]->key);
        whole = writer_op_needs_document(ops[0]);
    } else {
        tw_bson_open_doc(&b, TW_STR("_id"));
        tw_bson_open_array(&b, TW_STR("$in"));
        for (size_t i = 0; i < count; i++) {
            tw_bson_add_key(&b, TW_STR(""), ops[i]->key);
            whole = whole || writer_op_needs_document(ops[i]);
        }
        tw_bson_close(&b);
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    if (!whole) {
        tw_bson_open_doc(&b, TW_STR("projection"));
        tw_bson_add_i64(&b, tw_str_of(ops[0]->rules->version_field), 1);
        tw_bson_close(&b);
    }
    tw_bson_add_i64(&b, TW_STR("batchSize"), (int64_t)count + 1);
    tw_bson_add_i64(&b, TW_STR("maxTimeMS"), MONGO_LINK_WRITE_MS);
    return tw_bson_end(&b);
}

/* Gives a document to the operations that asked for it. */
static tw_err hand_out(struct mongo_writer *self, write_op **ops, size_t count, tw_bson stored)
{
    tw_key key;
    tw_err err = tw_key_of_value(&self->memory, tw_bson_get(stored, TW_STR("_id")), &key);
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        if (tw_key_equal(ops[i]->key, key)) {
            err = writer_op_found(self, ops[i], stored);
        }
    }
    return err;
}

static tw_err read_place(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    bson_t reply;
    bson_error_t error;
    char name[TW_NAME_MAX + 1];
    bson_t opts = BSON_INITIALIZER;
    tw_bson command = read_command(self, ops, count);
    if (self->command.err != TW_OK) {
        return self->command.err;
    }
    tw_err err = writer_command(self, ops[0]->db, command, false, &reply, &error, text);
    if (err != TW_OK) {
        bson_destroy(&reply);
        return err;
    }
    tw_format(name, sizeof name, "%.*s", (int)ops[0]->db.len, ops[0]->db.ptr);
    mongoc_client_session_append(self->session, &opts, &error);
    mongoc_cursor_t *cursor = /* takes the reply */
        mongoc_cursor_new_from_command_reply_with_opts(self->client, &reply, &opts);
    bson_destroy(&opts);
    const bson_t *found;
    while (err == TW_OK && mongoc_cursor_next(cursor, &found)) {
        tw_bson copy = tw_arena_bson(&self->memory, mongo_link_doc(found));
        err = copy.ptr == NULL ? TW_E_NO_MEMORY : hand_out(self, ops, count, copy);
    }
    if (err == TW_OK && mongoc_cursor_error(cursor, &error)) {
        err = mongo_link_error(&error, NULL, text, TW_ERROR_TEXT_MAX);
    }
    mongoc_cursor_destroy(cursor);
    return err;
}

tw_err writer_read(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    tw_err err = TW_OK;
    write_op **some = tw_arena_alloc(&self->memory, READ_KEYS_MAX * sizeof *some);
    bool *is_read = tw_arena_zero(&self->memory, count, sizeof *is_read);
    if (some == NULL || is_read == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        err = writer_op_found(self, ops[i], (tw_bson){0});
        TW_ASSERT(err == TW_OK);
    }
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        size_t taken = 0;
        for (size_t k = i; k < count && taken < READ_KEYS_MAX && !is_read[i]; k++) {
            if (!is_read[k] && is_same_place(ops[k], ops[i])) {
                some[taken++] = ops[k];
                is_read[k] = k != i;
            }
        }
        err = taken == 0 ? TW_OK : read_place(self, some, taken, text);
    }
    return err;
}

/* ---- plans as BSON ---- */

/* {_id: key, version field: as it was read} */
static void add_guard(tw_bson_builder *b, const char *name, const write_op *op)
{
    tw_str version_field = tw_str_of(op->rules->version_field);
    tw_bson_open_doc(b, tw_str_of(name));
    tw_bson_add_key(b, TW_STR("_id"), op->key);
    if (op->guard.type == 0) {
        tw_bson_open_doc(b, version_field);
        tw_bson_add_bool(b, TW_STR("$exists"), false);
        tw_bson_close(b);
    } else {
        tw_bson_open_doc(b, version_field);
        tw_bson_add_value(b, TW_STR("$eq"), op->guard);
        tw_bson_close(b);
    }
    tw_bson_close(b);
}

/* A new document: _id in front. What replaces another leaves _id to the server, which keeps it. */
static void add_document(tw_bson_builder *b, const char *name, const write_op *op)
{
    tw_bson_iter i;
    tw_bson_open_doc(b, tw_str_of(name));
    if (op->plan == PLAN_INSERT) {
        tw_bson_value own = tw_bson_get(op->doc, TW_STR("_id"));
        bool is_key = strcmp(op->rules->key, "_id") == 0;
        if (is_key && own.type != 0) {
            tw_bson_add_value(b, TW_STR("_id"), own);
        } else {
            tw_bson_add_key(b, TW_STR("_id"), op->key);
        }
    }
    for (tw_bson_iter_init(&i, op->doc); tw_bson_iter_next(&i);) {
        if (!tw_str_equal(i.name, TW_STR("_id"))) {
            tw_bson_add_value(b, i.name, i.value);
        }
    }
    tw_bson_close(b);
}

static void add_change(tw_bson_builder *b, const char *name, const write_op *op)
{
    if (op->plan == PLAN_UPDATE) {
        tw_bson_add_doc(b, tw_str_of(name), op->doc);
    } else {
        add_document(b, name, op);
    }
}

/* ---- outcomes ---- */

/* What the server said of one operation: n records, or an error. */
static void take_outcome(struct mongo_writer *self, write_op *op, int64_t n, uint32_t code,
                         tw_str said)
{
    TW_ASSERT(!op->is_done);
    if (code == 0 && n > 0) {
        op->is_done = true;
        op->result->version = op->next_version;
        op->result->count = 1;
        return;
    }
    if (code == 0) {
        return; /* the guard failed */
    }
    if (code == 11000 || code == 11001) {
        op->duplicates++;
        op->blind = false;
        return;
    }
    char text[TW_ERROR_TEXT_MAX];
    bson_error_t error = {0};
    bson_set_error(&error, MONGOC_ERROR_SERVER, code, "%.*s", (int)said.len,
                   said.ptr == NULL ? "" : said.ptr);
    tw_err err = mongo_link_error(&error, NULL, text, sizeof text);
    if (err == TW_E_BUSY) {
        return; /* a write conflict: as a failed guard */
    }
    writer_op_refuse(self, op, err, text);
}

/* ---- inserts: every server tells which of them met another ---- */

/* How many operations from the first on are inserts into one place, and fit into a command. */
static size_t inserts_from(write_op **ops, size_t count)
{
    size_t taken = 0;
    size_t bytes = 0;
    while (taken < count && ops[taken]->plan == PLAN_INSERT && is_same_place(ops[taken], ops[0]) &&
           (taken == 0 || bytes + ops[taken]->doc.len < BULK_BYTES_MAX)) {
        bytes += ops[taken++]->doc.len;
    }
    return taken;
}

static tw_bson insert_command(struct mongo_writer *self, write_op **ops, size_t count)
{
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("insert"), ops[0]->coll);
    tw_bson_open_array(&b, TW_STR("documents"));
    for (size_t i = 0; i < count; i++) {
        add_document(&b, "", ops[i]);
    }
    tw_bson_close(&b);
    tw_bson_add_bool(&b, TW_STR("ordered"), false);
    return tw_bson_end(&b);
}

static tw_err send_inserts(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson command = insert_command(self, ops, count);
    if (self->command.err != TW_OK) {
        return self->command.err;
    }
    tw_err err = writer_command(self, ops[0]->db, command, true, &reply, &error, text);
    tw_bson body = mongo_link_doc(&reply);
    tw_bson errors = tw_bson_get_doc(body, TW_STR("writeErrors"));
    bool *met = tw_arena_zero(&self->memory, count, sizeof *met);
    if ((err != TW_OK && errors.len == 0) || met == NULL) {
        bson_destroy(&reply);
        return err == TW_OK ? TW_E_NO_MEMORY : err;
    }
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, errors); errors.len > 0 && tw_bson_iter_next(&i);) {
        tw_bson each = tw_bson_value_doc(i.value);
        int64_t at = tw_bson_get_i64_or(each, TW_STR("index"), -1);
        if (at >= 0 && (size_t)at < count && !met[at]) {
            met[at] = true;
            take_outcome(self, ops[at], 0, (uint32_t)tw_bson_get_i64_or(each, TW_STR("code"), 1),
                         tw_bson_get_str(each, TW_STR("errmsg")));
        }
    }
    for (size_t k = 0; k < count; k++) {
        if (!met[k]) {
            take_outcome(self, ops[k], 1, 0, (tw_str){NULL, 0});
        }
    }
    tw_bson concern = tw_bson_get_doc(body, TW_STR("writeConcernError"));
    err = concern.len > 0 ? err : TW_OK; /* with it all are in doubt */
    bson_destroy(&reply);
    return err;
}

/* ---- one at a time ---- */

static tw_bson one_command(struct mongo_writer *self, const write_op *op)
{
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    if (op->plan == PLAN_DELETE) {
        tw_bson_add_str(&b, TW_STR("delete"), op->coll);
        tw_bson_open_array(&b, TW_STR("deletes"));
        tw_bson_open_doc(&b, TW_STR(""));
        add_guard(&b, "q", op);
        tw_bson_add_i64(&b, TW_STR("limit"), 1);
        tw_bson_close(&b);
    } else {
        tw_bson_add_str(&b, TW_STR("update"), op->coll);
        tw_bson_open_array(&b, TW_STR("updates"));
        tw_bson_open_doc(&b, TW_STR(""));
        add_guard(&b, "q", op);
        add_change(&b, "u", op);
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    return tw_bson_end(&b);
}

static tw_err send_one(struct mongo_writer *self, write_op *op, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson command = one_command(self, op);
    if (self->command.err != TW_OK) {
        writer_op_refuse(self, op, self->command.err, tw_err_text(self->command.err));
        return TW_OK;
    }
    tw_err err = writer_command(self, op->db, command, true, &reply, &error, text);
    tw_bson body = mongo_link_doc(&reply);
    bool told = err == TW_OK || tw_bson_get_doc(body, TW_STR("writeErrors")).len > 0;
    if (told) {
        take_outcome(self, op, tw_bson_get_i64_or(body, TW_STR("n"), 0),
                     err == TW_OK ? 0 : error.code, tw_str_of(error.message));
        err = self->in_transaction && err != TW_OK && error.code == 112 ? err : TW_OK;
    } else if (error.domain == MONGOC_ERROR_SERVER && err != TW_E_UNAVAILABLE &&
               err != TW_E_BUSY) { /* about this command, not about the server */
        writer_op_refuse(self, op, err, text);
        err = TW_OK;
    }
    bson_destroy(&reply);
    return err;
}

/* ---- many in one command ---- */

/* The number of an operation's collection in nsInfo. */
static size_t place_of(write_op **ops, size_t at, size_t *places)
{
    for (size_t i = 0; i < at; i++) {
        if (is_same_place(ops[i], ops[at])) {
            return places[i];
        }
    }
    size_t next = 0;
    for (size_t i = 0; i < at; i++) {
        next = places[i] >= next ? places[i] + 1 : next;
    }
    return next;
}

static void add_bulk_op(tw_bson_builder *b, const write_op *op, size_t place)
{
    tw_bson_open_doc(b, TW_STR(""));
    if (op->plan == PLAN_DELETE) {
        tw_bson_add_i64(b, TW_STR("delete"), (int64_t)place);
        add_guard(b, "filter", op);
        tw_bson_add_bool(b, TW_STR("multi"), false);
    } else {
        tw_bson_add_i64(b, TW_STR("update"), (int64_t)place);
        add_guard(b, "filter", op);
        add_change(b, "updateMods", op);
        tw_bson_add_bool(b, TW_STR("multi"), false);
    }
    tw_bson_close(b);
}

/* How many operations come before the next insert. */
static size_t others_from(write_op **ops, size_t count)
{
    size_t taken = 0;
    while (taken < count && ops[taken]->plan != PLAN_INSERT) {
        taken++;
    }
    return taken;
}

/* Builds bulkWrite for as many as fit; returns their number. */
static size_t bulk_command(struct mongo_writer *self, write_op **ops, size_t count, size_t *places,
                           tw_bson *out)
{
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_i64(&b, TW_STR("bulkWrite"), 1);
    tw_bson_open_array(&b, TW_STR("ops"));
    size_t taken = 0;
    size_t named = 0;
    size_t bytes = 0;
    for (; taken < count && (taken == 0 || bytes + ops[taken]->doc.len < BULK_BYTES_MAX); taken++) {
        bytes += ops[taken]->doc.len + ops[taken]->key.len + 128;
        places[taken] = place_of(ops, taken, places);
        named = places[taken] >= named ? places[taken] + 1 : named;
        add_bulk_op(&b, ops[taken], places[taken]);
    }
    tw_bson_close(&b);
    tw_bson_add_bool(&b, TW_STR("ordered"), false);
    tw_bson_add_bool(&b, TW_STR("errorsOnly"), false);
    tw_bson_open_array(&b, TW_STR("nsInfo"));
    for (size_t place = 0; place < named; place++) {
        size_t i = 0;
        while (places[i] != place) {
            i++;
        }
        char name[2 * TW_NAME_MAX + 2];
        size_t len = tw_format(name, sizeof name, "%.*s.%.*s", (int)ops[i]->db.len, ops[i]->db.ptr,
                               (int)ops[i]->coll.len, ops[i]->coll.ptr);
        tw_bson_open_doc(&b, TW_STR(""));
        tw_bson_add_str(&b, TW_STR("ns"), (tw_str){name, len});
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    *out = tw_bson_end(&b);
    return taken;
}

/* Reads the cursor of outcomes; it takes the reply. */
static tw_err take_bulk(struct mongo_writer *self, write_op **ops, size_t count, bson_t *reply,
                        char *text)
{
    bson_error_t error = {0};
    bson_t opts = BSON_INITIALIZER;
    mongoc_client_session_append(self->session, &opts, &error);
    mongoc_cursor_t *cursor =
        mongoc_cursor_new_from_command_reply_with_opts(self->client, reply, &opts);
    bson_destroy(&opts);
    const bson_t *each;
    while (mongoc_cursor_next(cursor, &each)) {
        tw_bson outcome = mongo_link_doc(each);
        int64_t at = tw_bson_get_i64_or(outcome, TW_STR("idx"), -1);
        if (at >= 0 && (size_t)at < count && !ops[at]->is_done) {
            take_outcome(self, ops[at], tw_bson_get_i64_or(outcome, TW_STR("n"), 0),
                         (uint32_t)tw_bson_get_i64_or(outcome, TW_STR("code"), 0),
                         tw_bson_get_str(outcome, TW_STR("errmsg")));
        }
    }
    tw_err err = TW_OK;
    if (mongoc_cursor_error(cursor, &error)) { /* written, and not all outcomes are known */
        (void)mongo_link_error(&error, NULL, text, TW_ERROR_TEXT_MAX);
        err = TW_E_UNAVAILABLE;
    }
    mongoc_cursor_destroy(cursor);
    return err;
}

static tw_err send_bulk(struct mongo_writer *self, write_op **ops, size_t count, size_t *taken,
                        char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson command = {0};
    size_t *places = tw_arena_alloc(&self->memory, count * sizeof *places);
    if (places == NULL) {
        return TW_E_NO_MEMORY;
    }
    *taken = bulk_command(self, ops, count, places, &command);
    if (self->command.err != TW_OK) {
        return self->command.err;
    }
    tw_err err = writer_command(self, TW_STR("admin"), command, true, &reply, &error, text);
    if (err == TW_OK) {
        return take_bulk(self, ops, *taken, &reply, text);
    }
    bson_destroy(&reply);
    if (error.domain == MONGOC_ERROR_SERVER && error.code == 59) { /* CommandNotFound */
        self->has_bulk = false;
        *taken = 0;
        return TW_OK;
    }
    return err;
}

/* Tells the node's tailer whose write comes, and that it did not come. */
static void expect(struct mongo_writer *self, const write_op *op)
{
    mongo_link_expect(self->options->link, op->db, op->coll, op->key,
                      op->plan == PLAN_DELETE ? 0 : op->next_version, op->asked->origin);
}

static void expect_no_more(struct mongo_writer *self, const write_op *op)
{
    if (op->asked->origin.len > 0) {
        mongo_link_expect_no_more(self->options->link, op->db, op->coll, op->key,
                                  op->plan == PLAN_DELETE ? 0 : op->next_version);
    }
}

tw_err writer_send(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    tw_err err = TW_OK;
    for (size_t i = 0; i < count; i++) {
        expect(self, ops[i]);
    }
    for (size_t i = 0; i < count && err == TW_OK;) {
        size_t taken = inserts_from(ops + i, count - i);
        if (taken > 0) {
            err = send_inserts(self, ops + i, taken, text);
        } else if (count - i > 1 && self->has_bulk && !self->in_transaction) {
            err = send_bulk(self, ops + i, others_from(ops + i, count - i), &taken, text);
        } else {
            taken = 1;
            err = send_one(self, ops[i], text);
        }
        uint64_t fence = writer_fence(self);
        for (size_t k = i; k < i + taken; k++) {
            bool is_written = ops[k]->is_done && ops[k]->result->code == TW_OK;
            ops[k]->result->seqno = is_written ? fence : 0;
            if (!is_written && err == TW_OK) {
                expect_no_more(self, ops[k]);
            }
        }
        i += taken;
    }
    return err;
}

/* ---- collections ---- */

tw_err writer_make_place(struct mongo_writer *self, const write_op *op, char *text)
{
    enum { NAMESPACE_EXISTS = 48 };
    uint64_t hash = tw_hash(op->coll.ptr, op->coll.len, tw_hash(op->db.ptr, op->db.len, 5)) | 1;
    uint64_t *place = &self->places[hash % PLACES_MAX];
    if (!self->options->post_images || *place == hash) {
        return TW_OK;
    }
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_str(&b, TW_STR("create"), op->coll);
    tw_bson_open_doc(&b, TW_STR("changeStreamPreAndPostImages"));
    tw_bson_add_bool(&b, TW_STR("enabled"), true);
    tw_bson_close(&b);
    tw_err err = writer_command(self, op->db, tw_bson_end(&b), true, &reply, &error, text);
    bson_destroy(&reply);
    bool is_there =
        err == TW_OK || (error.domain == MONGOC_ERROR_SERVER && error.code == NAMESPACE_EXISTS);
    *place = is_there ? hash : *place;
    return err == TW_E_UNAVAILABLE ? err : TW_OK; /* without the right to it: made by the insert */
}

/* ---- drops ---- */

/* dropDatabase tells neither how many collections went nor that there was none, nor does drop since
 * MongoDB 7.0: they are counted first. coll: len 0 = all of the database. */
static tw_err count_collections(struct mongo_writer *self, tw_str db, tw_str coll, size_t *count,
                                char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    tw_bson_add_i64(&b, TW_STR("listCollections"), 1);
    tw_bson_add_bool(&b, TW_STR("nameOnly"), true);
    if (coll.len > 0) {
        tw_bson_open_doc(&b, TW_STR("filter"));
        tw_bson_add_str(&b, TW_STR("name"), coll);
        tw_bson_close(&b);
    }
    tw_bson_open_doc(&b, TW_STR("cursor"));
    tw_bson_add_i64(&b, TW_STR("batchSize"), TW_COLLECTIONS_MAX);
    tw_bson_close(&b);
    tw_err err = writer_command(self, db, tw_bson_end(&b), false, &reply, &error, text);
    tw_bson cursor = tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("cursor"));
    *count = tw_bson_count(tw_bson_get_doc(cursor, TW_STR("firstBatch")));
    bson_destroy(&reply);
    return err;
}

tw_err writer_drop(struct mongo_writer *self, write_op *op, char *text)
{
    bson_t reply;
    bson_error_t error;
    tw_bson_builder b;
    size_t count = 0;
    bool one = op->asked->op == TW_OP_DROP;
    tw_err err = count_collections(self, op->db, one ? op->coll : (tw_str){NULL, 0}, &count, text);
    if (err != TW_OK) {
        return err;
    }
    tw_buf_clear(&self->command);
    tw_bson_begin(&b, &self->command);
    if (one) {
        tw_bson_add_str(&b, TW_STR("drop"), op->coll);
    } else {
        tw_bson_add_i64(&b, TW_STR("dropDatabase"), 1);
    }
    tw_bson command = tw_bson_end(&b);
    if (count > 0) {
        err = writer_command(self, op->db, command, true, &reply, &error, text);
        bson_destroy(&reply);
    }
    if (count == 0 || err == TW_E_NOT_FOUND) {
        writer_op_refuse(self, op, TW_E_NOT_FOUND,
                         one ? "There is no such collection." : "There is no such database.");
        return TW_OK;
    }
    if (err == TW_OK) {
        op->is_done = true;
        op->result->count = count;
        op->result->seqno = writer_fence(self);
        memset(self->places, 0, sizeof self->places);
    }
    return err;
}
