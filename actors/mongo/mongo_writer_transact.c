/* mongo_writer_transact.c - operations that take effect together, with their mark; for
 * mongo_writer.c.
 *
 * The mark goes first: where its opid is there already, nothing was done and its results are told.
 * Operations are then carried out in order, each reading what those before it wrote. */
#include <poll.h>

#include "actors/mongo/mongo_writer_priv.h"

enum { MARK_ID_LEN = 24 }; /* hex digits of an ObjectId: of a mark that nobody asks for */

typedef struct transaction {
    struct mongo_writer *writer;
    write_op *ops;
    size_t count;
    tw_str opid;   /* of the mark; len 0: no mark */
    bool is_asked; /* the asker gave the opid: it may be there */
    bool may_retry;
    char *text;
} transaction;

static bool is_transient(const bson_error_t *error, tw_err err)
{
    return err == TW_E_BUSY || (err == TW_E_UNAVAILABLE && error->code != 11600);
}

static void forget_outcome(transaction *self)
{
    for (size_t i = 0; i < self->count; i++) {
        write_op *op = &self->ops[i];
        op->is_done = false;
        op->duplicates = 0;
        op->result->code = TW_OK;
        op->result->count = 0;
        op->result->seqno = 0;
        op->result->why = (tw_str){NULL, 0};
    }
}

/* The others of a transaction are refused with the one that was. */
static void refuse_others(transaction *self, size_t refused)
{
    for (size_t i = 0; i < self->count; i++) {
        if (i != refused) {
            tw_err err = (tw_err)self->ops[refused].result->code;
            self->ops[i].why.rule[0] = '\0';
            writer_op_refuse(self->writer, &self->ops[i], err,
                             "Another operation of the transaction was refused.");
        }
    }
}

/* One operation inside the transaction; a guard that fails means that somebody else wrote. */
static tw_err run_op(transaction *self, write_op *op, bool planned)
{
    struct mongo_writer *writer = self->writer;
    tw_err err = TW_OK;
    if (!planned) {
        err = writer_read(writer, &op, 1, self->text);
        if (err == TW_OK) {
            writer_op_plan(writer, op);
        }
    }
    if (err != TW_OK || op->is_done) {
        return err;
    }
    err = writer_send(writer, &op, 1, self->text);
    if (err == TW_OK && !op->is_done) {
        if (op->duplicates > 0) { /* the server has ended the transaction with it */
            writer_op_refuse(writer, op, TW_E_CONFLICT, "The record exists.");
            return TW_OK;
        }
        self->may_retry = true;
        err = TW_E_BUSY;
    }
    return err;
}

static tw_err run_mark(transaction *self, bool with_results, bool *is_known)
{
    bson_error_t error = {0};
    tw_err err = self->opid.len == 0 ? TW_OK
                                     : writer_mark(self->writer, self->opid, self->ops, self->count,
                                                   with_results, &error, self->text);
    *is_known = err == TW_E_CONFLICT;
    self->may_retry = is_transient(&error, err);
    return err;
}

/* All that happens between begin and commit. *refused: the operation that was. */
static tw_err run_all(transaction *self, size_t *refused, bool *is_known)
{
    struct mongo_writer *writer = self->writer;
    bool one = self->count == 1;
    write_op *first = &self->ops[0];
    tw_err err = TW_OK;
    *is_known = false;
    *refused = SIZE_MAX;
    if (one) { /* its result is known before it is sent */
        err = writer_read(writer, &first, 1, self->text);
        if (err == TW_OK) {
            writer_op_plan(writer, first);
            *refused = first->result->code != TW_OK ? 0 : SIZE_MAX;
        }
    }
    if (err == TW_OK && *refused == SIZE_MAX) {
        err = run_mark(self, one, is_known);
    }
    for (size_t i = 0; i < self->count && err == TW_OK && *refused == SIZE_MAX; i++) {
        err = run_op(self, &self->ops[i], one);
        *refused = err == TW_OK && self->ops[i].result->code != TW_OK ? i : SIZE_MAX;
    }
    if (err == TW_OK && *refused == SIZE_MAX && !one && self->opid.len > 0) {
        err = writer_mark_results(writer, self->opid, self->ops, self->count, self->text);
    }
    self->may_retry = self->may_retry || err == TW_E_BUSY || err == TW_E_UNAVAILABLE;
    return err;
}

static tw_err commit(transaction *self)
{
    struct mongo_writer *writer = self->writer;
    bson_t reply;
    bson_error_t error = {0};
    tw_err err = TW_OK;
    for (int i = 0; i < 2; i++) {
        bool done = mongoc_client_session_commit_transaction(writer->session, &reply, &error);
        err = done ? TW_OK : mongo_link_error(&error, &reply, self->text, TW_ERROR_TEXT_MAX);
        self->may_retry = !done && mongoc_error_has_label(&reply, "TransientTransactionError");
        bool unknown = !done && mongoc_error_has_label(&reply, "UnknownTransactionCommitResult");
        bson_destroy(&reply);
        if (!unknown) {
            return err;
        }
        err = TW_E_UNAVAILABLE;
    }
    self->may_retry = false; /* it may be there: only its opid can tell */
    return err;
}

/* One attempt. */
static tw_err attempt(transaction *self, size_t *refused, bool *is_known)
{
    struct mongo_writer *writer = self->writer;
    bson_error_t error = {0};
    self->may_retry = false;
    forget_outcome(self);
    if (!mongoc_client_session_start_transaction(writer->session, NULL, &error)) {
        return mongo_link_error(&error, NULL, self->text, TW_ERROR_TEXT_MAX);
    }
    writer->in_transaction = true;
    writer->transactions++;
    tw_err err = run_all(self, refused, is_known);
    bool good = err == TW_OK && *refused == SIZE_MAX;
    if (good) {
        err = commit(self);
    } else {
        bson_error_t unused;
        (void)mongoc_client_session_abort_transaction(writer->session, &unused);
    }
    writer->in_transaction = false;
    if (good && err == TW_OK) {
        uint64_t fence = writer_fence(writer);
        for (size_t i = 0; i < self->count; i++) {
            self->ops[i].result->seqno = self->ops[i].result->count > 0 ? fence : 0;
            self->ops[i].is_done = true;
        }
    }
    return err;
}

tw_err writer_transact(struct mongo_writer *self, write_op *ops, size_t count, char *text)
{
    bool is_silent = false;
    for (size_t i = 0; i < count; i++) {
        is_silent = is_silent || ops[i].asked->silent;
    }
    bool is_asked = ops[0].asked->opid.len > 0 && !ops[0].asked->drawn;
    transaction run = {
        .writer = self, .ops = ops, .count = count, .is_asked = is_asked, .text = text};
    char made[MARK_ID_LEN + 1];
    if (is_asked || (is_silent && ops[0].asked->opid.len > 0)) {
        run.opid = writer_opid(self, ops[0].asked);
        if (run.opid.len == 0) {
            return TW_E_NO_MEMORY;
        }
    } else if (is_silent) {
        uint8_t oid[12];
        tw_oid_new(oid);
        for (size_t i = 0; i < sizeof oid; i++) {
            tw_format(made + 2 * i, 3, "%02x", oid[i]);
        }
        run.opid = (tw_str){made, MARK_ID_LEN};
    }
    tw_err err = writer_announce(self, text);
    if (err == TW_OK && run.opid.len > 0) {
        err = writer_marks_prepare(self, text);
    }
    size_t refused = SIZE_MAX;
    bool is_known = false;
    run.may_retry = err == TW_OK;
    for (int wait_ms = CONFLICT_WAIT_MS; run.may_retry; wait_ms *= 2) {
        err = attempt(&run, &refused, &is_known);
        run.may_retry = run.may_retry && err != TW_OK && !is_known &&
                        mongo_link_clock_ms() - self->message_ms < PATIENCE_MS;
        if (run.may_retry) { /* the other transaction needs time: this actor is allowed to wait */
            poll(NULL, 0, wait_ms < CONFLICT_WAIT_MAX_MS ? wait_ms : CONFLICT_WAIT_MAX_MS);
            wait_ms = wait_ms < CONFLICT_WAIT_MAX_MS ? wait_ms : CONFLICT_WAIT_MAX_MS;
        }
    }
    if (is_known || (err == TW_OK && refused != SIZE_MAX && run.is_asked)) {
        tw_err read = writer_mark_read(self, run.opid, ops, count, text);
        if (read == TW_OK) {
            return TW_OK;
        }
        if (is_known && read == TW_E_CONFLICT) {
            writer_op_refuse(self, &ops[0], TW_E_CONFLICT,
                             "The opid belongs to other operations that were written.");
            refuse_others(&run, 0);
            return TW_OK;
        }
        if (read != TW_E_NOT_FOUND || is_known) {
            return read == TW_E_NOT_FOUND ? TW_E_UNAVAILABLE : read;
        }
    }
    if (err == TW_OK && refused != SIZE_MAX) {
        refuse_others(&run, refused);
    }
    return err;
}

/* ---- many with a mark each ---- */

/* Reads and judges; those with a plan are moved to the front. Returns their number. */
static size_t plan_many(struct mongo_writer *self, write_op **ops, size_t count, tw_err *err,
                        char *text)
{
    size_t reads = 0;
    size_t planned = 0;
    write_op **some = tw_arena_alloc(&self->memory, count * sizeof *some);
    *err = some == NULL ? TW_E_NO_MEMORY : TW_OK;
    for (size_t i = 0; some != NULL && i < count; i++) {
        if (!ops[i]->blind) {
            some[reads++] = ops[i];
        }
    }
    if (*err == TW_OK && reads > 0) {
        *err = writer_read(self, some, reads, text);
    }
    for (size_t i = 0; *err == TW_OK && i < count; i++) {
        writer_op_plan(self, ops[i]);
        if (ops[i]->is_done) { /* refused, or nothing to change: its mark decides, alone */
            ops[i]->is_done = false;
            ops[i]->result->code = TW_OK;
            continue;
        }
        write_op *one = ops[i];
        ops[i] = ops[planned];
        ops[planned++] = one;
    }
    return planned;
}

static bool all_done(write_op **ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!ops[i]->is_done || ops[i]->result->code != TW_OK) {
            return false;
        }
    }
    return true;
}

tw_err writer_transact_many(struct mongo_writer *self, write_op **ops, size_t count, char *text)
{
    bson_error_t error = {0};
    bson_t reply;
    tw_err err = count < 2 ? TW_OK : writer_announce(self, text);
    if (err == TW_OK && count > 1) {
        err = writer_marks_prepare(self, text);
    }
    if (err != TW_OK || count < 2) {
        return err;
    }
    if (!mongoc_client_session_start_transaction(self->session, NULL, &error)) {
        return mongo_link_error(&error, NULL, text, TW_ERROR_TEXT_MAX);
    }
    self->in_transaction = true;
    self->transactions++;
    size_t planned = plan_many(self, ops, count, &err, text);
    if (err == TW_OK && planned > 0) {
        err = writer_mark_each(self, ops, planned, text);
    }
    if (err == TW_OK && planned > 0) {
        err = writer_send(self, ops, planned, text);
    }
    bool good = err == TW_OK && planned > 0 && all_done(ops, planned);
    if (good) {
        good = mongoc_client_session_commit_transaction(self->session, &reply, &error);
        bson_destroy(&reply);
    } else {
        (void)mongoc_client_session_abort_transaction(self->session, &error);
    }
    self->in_transaction = false;
    uint64_t fence = writer_fence(self);
    for (size_t i = 0; i < count; i++) { /* not committed, or in doubt: each asks its mark alone */
        bool is_written = good && i < planned;
        ops[i]->is_done = is_written;
        ops[i]->result->seqno = is_written ? fence : 0;
        ops[i]->result->count = is_written ? 1 : 0;
        ops[i]->result->code = TW_OK;
        ops[i]->duplicates = 0;
    }
    return TW_OK;
}
