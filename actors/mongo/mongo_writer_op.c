/* mongo_writer_op.c - what each operation of a write means for its record; for mongo_writer.c.
 *
 * The meaning is the embedded store's: the same conditions, the same rules, the same update. What
 * differs is that the outcome is a plan, guarded by the version that it was made from. */
#include "broker/query.h"
#include "broker/record.h"
#include "broker/rules.h"
#include "broker/update.h"

#include "actors/mongo/mongo_writer_priv.h"

void writer_op_refuse(struct mongo_writer *self, write_op *op, tw_err err, const char *text)
{
    TW_ASSERT(err != TW_OK);
    op->plan = PLAN_NOTHING;
    op->is_done = true;
    op->result->code = err;
    op->result->why = tw_arena_str(&self->memory, tw_str_of(text));
    if (op->result->why.ptr == NULL) {
        op->result->why = (tw_str){NULL, 0};
    }
    op->result->rule = tw_arena_str(&self->memory, tw_str_of(op->why.rule));
    op->result->count = 0;
    op->result->seqno = 0;
}

static void refuse_why(struct mongo_writer *self, write_op *op, tw_err err)
{
    writer_op_refuse(self, op, err, op->why.text[0] != '\0' ? op->why.text : tw_err_text(err));
}

/* ---- where it belongs ---- */

static tw_err find_collection(struct mongo_writer *self, write_op *op)
{
    const catalog *known = self->options->catalog;
    const tw_item_write_op *asked = op->asked;
    op->db = asked->db.len > 0 ? asked->db : tw_str_of(known->default_database);
    op->coll = asked->coll;
    if (mongo_link_is_reserved(op->db)) {
        return broker_refuse(&op->why, TW_E_FORBIDDEN, "This database is not for clients.");
    }
    tw_err err = catalog_check_name(op->db);
    if (asked->op == TW_OP_DROP_DB) {
        return err;
    }
    op->rules = catalog_rules(known, op->db, op->coll);
    if (op->rules == NULL) {
        return broker_refuse(&op->why, TW_E_FORBIDDEN, "The collection is not declared.");
    }
    err = err == TW_OK ? catalog_check_name(op->coll) : err;
    return err == TW_OK
               ? TW_OK
               : broker_refuse(&op->why, err, "The name of the collection is not allowed.");
}

/* A name that begins with $ would be an operator to the server. */
static tw_err check_names(write_op *op)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, op->asked->doc); tw_bson_iter_next(&i);) {
        if (i.name.len > 0 && i.name.ptr[0] == '$') {
            char shown[BROKER_SHOWN_MAX];
            return broker_refuse(&op->why, TW_E_BAD_DOCUMENT,
                                 "A field may not begin with $: \"%s\".",
                                 broker_show(i.name, shown));
        }
    }
    return TW_OK;
}

static tw_err find_record(struct mongo_writer *self, write_op *op)
{
    const tw_item_write_op *asked = op->asked;
    tw_err err = TW_OK;
    switch (asked->op) {
    case TW_OP_INSERT:
    case TW_OP_PUT:
        if (asked->doc.len == 0) {
            return broker_refuse(&op->why, TW_E_BAD_DOCUMENT, "There is no document.");
        }
        err = check_names(op);
        return err == TW_OK ? record_key(op->rules, &self->memory, asked->doc, asked->key, &op->key,
                                         &op->why)
                            : err;
    case TW_OP_UPDATE:
    case TW_OP_REMOVE:
        op->key = asked->key;
        return asked->key.len == 0
                   ? broker_refuse(&op->why, TW_E_BAD_MESSAGE, "The record is not named.")
                   : TW_OK;
    case TW_OP_DROP:
    case TW_OP_DROP_DB:
        return TW_OK;
    default: /* a number from another process */
        return broker_refuse(&op->why, TW_E_UNKNOWN, "No such operation.");
    }
}

void writer_op_begin(struct mongo_writer *self, write_op *op)
{
    *op->result = (tw_item_write_result){.srv = self->srv};
    tw_err err = find_collection(self, op);
    if (err == TW_OK) {
        err = find_record(self, op);
    }
    op->result->key = op->key;
    bool is_put = op->asked->op == TW_OP_PUT && self->puts_insert && op->asked->match.len == 0 &&
                  op->asked->guard.len == 0 && op->asked->if_version <= 0;
    op->blind = err == TW_OK && (op->asked->op == TW_OP_INSERT || is_put) &&
                op->rules->rule == CATALOG_FREE;
    if (err != TW_OK) {
        refuse_why(self, op, err);
    }
}

bool writer_op_needs_document(const write_op *op)
{
    bool has_condition = op->asked->if_version >= 0 || op->asked->op == TW_OP_INSERT;
    return op->asked->op == TW_OP_UPDATE || op->asked->match.len > 0 || op->asked->guard.len > 0 ||
           has_condition || op->rules->rule != CATALOG_FREE;
}

tw_err writer_op_found(struct mongo_writer *self, write_op *op, tw_bson stored)
{
    op->is_there = stored.len > 0;
    op->stored = stored;
    op->old = stored;
    op->version = 0;
    op->guard = (tw_bson_value){0};
    op->is_uncounted = false;
    if (!op->is_there) {
        return TW_OK;
    }
    tw_key key;
    op->guard = tw_bson_get(stored, tw_str_of(op->rules->version_field));
    tw_err err = mongo_link_record(op->rules, &self->memory, stored, &key, &op->version, &op->old);
    op->is_uncounted = op->version == 0;
    if (op->is_uncounted) { /* streams tell the position of its change, which is not above this */
        uint64_t read_at = writer_fence(self);
        op->version = read_at > 0 ? (int64_t)read_at : 1;
    }
    return err;
}

/* ---- judging ---- */

/* if_version is the document's own version, or the number that streams tell of it. */
static tw_err check_version(struct mongo_writer *self, write_op *op)
{
    int64_t wanted = op->asked->if_version;
    int64_t told = op->version;
    tw_position at;
    tw_err err = TW_OK;
    if (wanted <= 0 || (op->is_there && op->version == wanted)) {
        return TW_OK;
    }
    if (op->is_there) {
        err = writer_position(self, op, &at, &told);
    }
    if (err == TW_OK && (!op->is_there || told != wanted)) {
        err = broker_refuse(&op->why, TW_E_CONFLICT, "The record has another version.");
    }
    return err;
}

/* A refusal tells the number that streams tell, where the document has none. */
static void tell_version(struct mongo_writer *self, write_op *op)
{
    tw_position unused;
    int64_t told;
    broker_why kept = op->why;
    if (op->is_uncounted && writer_position(self, op, &unused, &told) == TW_OK) {
        op->result->version = told;
    }
    op->why = kept;
}

/* Holds a stored version against a filter: what does not match is as if missing. */
static tw_err check_filter(write_op *op, tw_bson filter, bool joined)
{
    if (filter.len == 0 || !op->is_there) {
        return TW_OK;
    }
    query *match = NULL;
    tw_err err = joined ? query_compile_joined(filter, &match, &op->why)
                        : query_compile(filter, &match, &op->why);
    bool matches = err == TW_OK && query_match(match, op->old);
    query_free(&match);
    if (err != TW_OK) {
        return err;
    }
    return matches ? TW_OK : broker_refuse(&op->why, TW_E_NOT_FOUND, "No record matches.");
}

static tw_err check_conditions(struct mongo_writer *self, write_op *op)
{
    int64_t wanted = op->asked->if_version;
    tw_err guarded = check_filter(op, op->asked->guard, true);
    if (guarded != TW_OK) {
        op->result->version = 0; /* whom the guard keeps out is told no version either */
        return guarded;
    }
    if (op->asked->op == TW_OP_INSERT && op->is_there) {
        return broker_refuse(&op->why, TW_E_CONFLICT, "The record exists.");
    }
    if (wanted == 0 && op->is_there) {
        return broker_refuse(&op->why, TW_E_CONFLICT, "The record exists.");
    }
    tw_err right = check_version(self, op);
    if (right != TW_OK) {
        return right;
    }
    return check_filter(op, op->asked->match, false);
}

typedef struct lookup {
    struct mongo_writer *writer;
    const write_op *op;
    tw_err err;
    char *text;
} lookup;

/* Another record of the same collection, as the rules ask for it. */
static bool look_up_other(void *context, tw_key key, tw_arena *arena, tw_bson *out)
{
    lookup *self = context;
    write_op other = *self->op;
    write_op *one = &other;
    tw_item_write_result unused = {0};
    other.key = key;
    other.result = &unused;
    other.link = (hash_link){0};
    if (self->err == TW_OK) {
        self->err = writer_read(self->writer, &one, 1, self->text);
    }
    if (self->err != TW_OK || !other.is_there) {
        return false;
    }
    *out = tw_arena_bson(arena, other.old);
    return out->ptr != NULL;
}

/* The rules of a declared collection. A failure to read what they need is not a refusal. */
static tw_err apply_rules(struct mongo_writer *self, write_op *op, tw_bson *doc)
{
    if (op->rules->rule == CATALOG_FREE) {
        return TW_OK;
    }
    lookup context = {.writer = self, .op = op, .text = op->why.text};
    tw_position old_at = {0, 0};
    int64_t told;
    tw_err err =
        op->rules->archives && op->is_there ? writer_position(self, op, &old_at, &told) : TW_OK;
    if (err != TW_OK) {
        return err;
    }
    err = rules_check(op->rules, &self->memory, *doc, op->old, old_at, tw_unix_ms(self->actor),
                      look_up_other, &context, doc, &op->why);
    return context.err != TW_OK ? context.err : err;
}

static tw_err version_in(struct mongo_writer *self, write_op *op, tw_bson doc, int64_t version,
                         tw_bson *out)
{
    return record_with_version(op->rules, &self->scratch, &self->memory, doc, op->key, version, out,
                               &op->why);
}

/* ---- plans ---- */

/* Learns whether puts bring new records: then they are tried as inserts, without a look before. */
static void judge_put(struct mongo_writer *self, bool is_new)
{
    self->puts_seen++;
    self->puts_new += is_new ? 1 : 0;
    if (self->puts_seen == PUTS_JUDGED) {
        self->puts_insert = self->puts_new * 2 > self->puts_seen;
        self->puts_seen = 0;
        self->puts_new = 0;
    }
}

static tw_err plan_document(struct mongo_writer *self, write_op *op)
{
    tw_bson doc = op->asked->doc;
    tw_err err = TW_OK;
    if (op->asked->op == TW_OP_PUT && (op->duplicates > 0 || !op->blind)) {
        judge_put(self, !op->is_there);
    } else if (op->asked->op == TW_OP_PUT) {
        judge_put(self, true); /* taken back by the round after it, where it was not */
    }
    op->next_version = op->version + 1;
    if (op->rules->rule != CATALOG_FREE) {
        err = version_in(self, op, doc, op->next_version, &doc); /* rules see the key */
    }
    if (err == TW_OK) {
        err = apply_rules(self, op, &doc);
    }
    if (err == TW_OK) {
        err = version_in(self, op, doc, op->next_version, &op->doc);
    }
    op->plan = op->is_there ? PLAN_REPLACE : PLAN_INSERT;
    return err;
}

static tw_err plan_update(struct mongo_writer *self, write_op *op)
{
    tw_bson doc;
    tw_bson same = {0};
    tw_err err = update_apply(&self->memory, op->old, op->asked->doc, tw_str_of(op->rules->key),
                              tw_unix_ms(self->actor), &doc, &op->why);
    if (err == TW_OK && op->guard.type != 0) { /* without a version there is something to write */
        err = version_in(self, op, doc, op->version, &same);
    }
    if (err == TW_OK && same.len == op->old.len && memcmp(same.ptr, op->old.ptr, same.len) == 0) {
        op->plan = PLAN_NOTHING; /* nothing changed: no event, the version stays */
        op->is_done = true;
        op->result->version = op->version;
        return TW_OK;
    }
    op->next_version = op->version + 1;
    op->plan = PLAN_UPDATE;
    tw_str version_field = tw_str_of(op->rules->version_field);
    if (err == TW_OK && op->rules->rule == CATALOG_FREE &&
        update_for_server(&self->memory, op->asked->doc, version_field, op->next_version,
                          &op->doc)) {
        return TW_OK;
    }
    op->plan = PLAN_REPLACE;
    if (err == TW_OK) {
        err = apply_rules(self, op, &doc);
    }
    return err == TW_OK ? version_in(self, op, doc, op->next_version, &op->doc) : err;
}

void writer_op_plan(struct mongo_writer *self, write_op *op)
{
    TW_ASSERT(!op->is_done);
    op->why.text[0] = '\0';
    op->result->version = op->version;
    op->plan = PLAN_NOTHING;
    tw_err err = check_conditions(self, op);
    if (err == TW_E_CONFLICT) {
        tell_version(self, op);
    }
    bool needs_record = op->asked->op == TW_OP_UPDATE || op->asked->op == TW_OP_REMOVE;
    if (err == TW_OK && needs_record && !op->is_there) {
        err = broker_refuse(&op->why, TW_E_NOT_FOUND, "There is no such record.");
    }
    if (err == TW_OK && op->duplicates >= DUPLICATES_MAX && !op->is_there) {
        err = broker_refuse(&op->why, TW_E_CONFLICT,
                            "Another record has a value that the collection's index wants unique.");
    }
    if (err == TW_OK) {
        switch (op->asked->op) {
        case TW_OP_INSERT:
        case TW_OP_PUT:
            err = plan_document(self, op);
            break;
        case TW_OP_UPDATE:
            err = plan_update(self, op);
            break;
        case TW_OP_REMOVE:
            op->plan = PLAN_DELETE;
            op->next_version = op->version + 1;
            break;
        default: /* begin has refused all others */
            break;
        }
    }
    if (err != TW_OK) {
        refuse_why(self, op, err);
    }
}
