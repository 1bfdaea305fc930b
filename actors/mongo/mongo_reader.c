/* mongo_reader.c - an actor that reads records from MongoDB; several run side by side.
 *
 * Receives  get, find, count, aggregate      Sends  records, counted
 * Owns      one client
 * Blocks    for an answer of MongoDB, at most MONGO_LINK_READ_MS; the server ends its work at
 *           MONGO_LINK_READ_WORK_MS
 * Limits    an answer ends at limit, at bytes_max, and at what a message between actors holds
 * Never     writes; passes on a filter or a pipeline that the broker has not read */
#include "actors/mongo/mongo_reader.h"

#include "broker/pipeline.h"
#include "broker/projection.h"
#include "broker/query.h"

#include "actors/mongo/mongo_link.h"

enum {
    MONGO_READER_MAGIC = 0x2b9f43d1,
    MONGO_READER_BYTES_MAX = 67108864, /* of one answer's making, besides the documents */
    ANSWER_ROOM = 131072,              /* kept free in an answer for all but its documents */
    BATCH_FIRST = 256,                 /* documents of a first batch */
    SORT_FIELDS_MAX = 16,
};

struct mongo_reader {
    uint32_t magic;
    tw_actor *actor;
    const mongo_reader_options *options;
    mongoc_client_t *client; /* own; NULL: none was free yet */
    uint64_t srv;
    mongo_link_health health;
    tw_arena memory;         /* own; of the answer being made */
    tw_buf command;          /* own */
    tw_buf text;             /* own; the documents of the answer */
    uint64_t reads, records; /* gauges */
};

/* One answer. */
typedef struct answer {
    struct mongo_reader *reader;
    tw_str db, coll;
    const catalog_collection *rules;
    projection fields;
    mongoc_client_session_t *session; /* own */
    tw_item_record *items;            /* in memory */
    size_t *doc_at;
    size_t count, max;
    size_t bytes_max;
    bool is_full, is_made; /* is_made: of a pipeline, no records of the collection */
    tw_key last;
    broker_why why;
} answer;

/* ---- beginning and ending ---- */

static tw_err find_place(answer *self, tw_str db, tw_str coll)
{
    const catalog *known = self->reader->options->catalog;
    self->db = db.len > 0 ? db : tw_str_of(known->default_database);
    self->coll = coll;
    if (mongo_link_is_reserved(self->db)) {
        return broker_refuse(&self->why, TW_E_FORBIDDEN, "This database is not for clients.");
    }
    self->rules = catalog_rules(known, self->db, coll);
    if (self->rules == NULL) {
        return broker_refuse(&self->why, TW_E_FORBIDDEN, "The collection is not declared.");
    }
    tw_err err = catalog_check_name(self->db);
    err = err == TW_OK ? catalog_check_name(coll) : err;
    return err == TW_OK
               ? TW_OK
               : broker_refuse(&self->why, err, "The name of the collection is not allowed.");
}

/* A client, a session, and the deployment's srv_id. */
static tw_err open_session(answer *self)
{
    struct mongo_reader *reader = self->reader;
    bson_error_t error = {0};
    if (reader->client == NULL) {
        reader->client = mongo_link_take(reader->options->link, MONGO_LINK_READS);
    }
    if (reader->client == NULL) {
        return broker_refuse(&self->why, TW_E_BUSY, "No MongoDB client is free.");
    }
    if (reader->srv == 0) {
        tw_err err =
            mongo_link_origin(reader->client, &reader->srv, self->why.text, sizeof self->why.text);
        if (err != TW_OK) {
            return err;
        }
    }
    self->session = mongoc_client_start_session(reader->client, NULL, &error);
    return self->session == NULL
               ? mongo_link_error(&error, NULL, self->why.text, sizeof self->why.text)
               : TW_OK;
}

/* ---- what is asked for ---- */

/* What the four questions share; what one of them lacks is empty. */
typedef struct wanted {
    tw_str db, coll;
    tw_bson fields, query, match;
    uint64_t limit, bytes_max; /* 0: the most that is answered */
} wanted;

/* A filter that the server would understand in another way, or not, is refused here. */
static tw_err read_filter(answer *self, tw_bson filter, bool joined)
{
    query *compiled = NULL;
    tw_err err = joined ? query_compile_joined(filter, &compiled, &self->why)
                        : query_compile(filter, &compiled, &self->why);
    query_free(&compiled);
    return err;
}

/* Begins an answer; an error is told by finish, with why. */
static tw_err begin(answer *self, struct mongo_reader *reader, const wanted *asked)
{
    *self =
        (answer){.reader = reader,
                 .max = asked->limit == 0 ? TW_FIND_MAX : (size_t)asked->limit,
                 .bytes_max = asked->bytes_max == 0 ? TW_DOCUMENT_MAX : (size_t)asked->bytes_max};
    tw_arena_reset(&reader->memory);
    tw_buf_clear(&reader->text);
    reader->reads++;
    tw_err err = find_place(self, asked->db, asked->coll);
    if (err == TW_OK) {
        err = projection_init(&self->fields, asked->fields);
    }
    if (err == TW_OK) {
        err = read_filter(self, asked->query, false);
    }
    if (err == TW_OK) {
        err = read_filter(self, asked->match, true);
    }
    if (err != TW_OK) {
        return err;
    }
    self->items = tw_arena_alloc(&reader->memory, (self->max + 1) * sizeof *self->items);
    self->doc_at = tw_arena_alloc(&reader->memory, (self->max + 1) * sizeof *self->doc_at);
    return self->items == NULL || self->doc_at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

/* ---- answering ---- */

/* Replies, with the records or with why not. */
static tw_err finish(answer *self, const tw_envelope *in, tw_err err)
{
    struct mongo_reader *reader = self->reader;
    uint32_t seconds = 0;
    uint32_t increment = 0;
    if (err != TW_OK) {
        tw_reply_error(in->actor, in->route, err, "%s",
                       self->why.text[0] != '\0' ? self->why.text : tw_err_text(err));
    } else {
        for (size_t i = 0; i < self->count; i++) {
            self->items[i].doc.ptr = (const uint8_t *)reader->text.ptr + self->doc_at[i];
        }
        mongoc_client_session_get_operation_time(self->session, &seconds, &increment);
        tw_position at = {reader->srv, mongo_link_seqno(seconds, increment)};
        const tw_msg_records records = {.more = self->is_full,
                                        .after_key = self->last,
                                        .at = {&at, at.seqno > 0 ? 1 : 0},
                                        .items = {self->items, self->count}};
        reader->records += self->count;
        tw_reply(in->actor, in->route, TW_MSG_records, &records);
    }
    if (self->session != NULL) {
        mongoc_client_session_destroy(self->session);
    }
    return TW_OK;
}

/* Runs what asks MongoDB, unless it is known to be away. */
typedef tw_err (*answer_step)(answer *self, const void *ask);
static tw_err try_step(answer *self, answer_step step, const void *ask)
{
    struct mongo_reader *reader = self->reader;
    if (mongo_link_is_down(&reader->health, self->why.text)) {
        return TW_E_UNAVAILABLE;
    }
    tw_err err = open_session(self);
    if (err == TW_OK) {
        err = step(self, ask);
    }
    mongo_link_tried(&reader->health, tw_actor_name(reader->actor), err, self->why.text);
    return err;
}

/* ---- what was found ---- */

/* Adds a document; is_full: there was no room for it. */
static tw_err add_item(answer *self, tw_bson stored)
{
    struct mongo_reader *reader = self->reader;
    tw_buf *text = &reader->text;
    tw_key key = {0};
    int64_t version = 0;
    tw_bson doc = stored;
    size_t before = text->len;
    self->is_full = self->count == self->max ||
                    (self->count > 0 && (before >= self->bytes_max ||
                                         before + stored.len > TW_ACTOR_MESSAGE_MAX - ANSWER_ROOM));
    if (self->is_full) {
        return TW_OK;
    }
    tw_err err = self->is_made ? TW_OK
                               : mongo_link_record(self->rules, &reader->memory, stored, &key,
                                                   &version, &doc);
    if (err == TW_E_BAD_DOCUMENT || err == TW_E_TOO_BIG) {
        return TW_OK; /* its _id is none of ours: it is no record here */
    }
    if (err != TW_OK) {
        return err;
    }
    if (self->fields.count == 0) {
        tw_buf_add(text, doc.ptr, doc.len);
    } else {
        projection_apply(&self->fields, tw_str_of(self->rules->key), doc, text);
    }
    if (text->err != TW_OK) {
        return text->err;
    }
    self->doc_at[self->count] = before;
    self->items[self->count++] = (tw_item_record){
        .key = key, .version = version, .srv = reader->srv, .doc.len = text->len - before};
    self->last = key;
    return TW_OK;
}

/* Ends a command that answers with a cursor, runs it, and adds its documents. work_ms: for each of
 * the server's turns; 0: the most. */
static tw_err run_cursor(answer *self, tw_bson_builder *b, uint64_t work_ms)
{
    struct mongo_reader *reader = self->reader;
    bool is_short = work_ms > 0 && work_ms < MONGO_LINK_READ_WORK_MS;
    tw_bson_add_i64(b, TW_STR("maxTimeMS"), is_short ? (int64_t)work_ms : MONGO_LINK_READ_WORK_MS);
    tw_bson command = tw_bson_end(b);
    char name[TW_NAME_MAX + 1];
    bson_t view;
    bson_t reply;
    bson_t opts = BSON_INITIALIZER;
    bson_error_t error = {0};
    if (reader->command.err != TW_OK) {
        return reader->command.err;
    }
    tw_format(name, sizeof name, "%.*s", (int)self->db.len, self->db.ptr);
    mongo_link_view(&view, command);
    mongoc_client_session_append(self->session, &opts, &error);
    mongoc_read_concern_append(
        (mongoc_read_concern_t *)mongoc_client_get_read_concern(reader->client), &opts);
    bool done = mongoc_client_read_command_with_opts(reader->client, name, &view, NULL, &opts,
                                                     &reply, &error);
    bson_destroy(&opts);
    if (!done) {
        tw_err err = mongo_link_error(&error, &reply, self->why.text, sizeof self->why.text);
        bson_destroy(&reply);
        return err;
    }
    bson_init(&opts);
    mongoc_client_session_append(self->session, &opts, &error);
    mongoc_cursor_t *cursor = /* takes the reply */
        mongoc_cursor_new_from_command_reply_with_opts(reader->client, &reply, &opts);
    bson_destroy(&opts);
    const bson_t *found;
    tw_err err = TW_OK;
    while (err == TW_OK && !self->is_full && mongoc_cursor_next(cursor, &found)) {
        err = add_item(self, mongo_link_doc(found));
    }
    const bson_t *said = NULL;
    if (err == TW_OK && mongoc_cursor_error_document(cursor, &error, &said)) {
        err = mongo_link_error(&error, said, self->why.text, sizeof self->why.text);
    }
    mongoc_cursor_destroy(cursor);
    return err;
}

/* ---- commands ---- */

/* The asker's filter; what it says of a declared key holds for _id too, which has the index. */
static void add_filter(tw_bson_builder *b, const answer *self, tw_str name, tw_bson filter)
{
    tw_str key = tw_str_of(self->rules->key);
    tw_bson_value of_key = filter.len == 0 ? (tw_bson_value){0} : tw_bson_get(filter, key);
    tw_bson_open_doc(b, name);
    if (filter.len > 0) {
        tw_bson_add_all(b, filter);
    }
    if (of_key.type != 0 && tw_bson_get(filter, TW_STR("_id")).type == 0) {
        tw_bson_add_value(b, TW_STR("_id"), of_key);
    }
    tw_bson_close(b);
}

/* What is needed of a document to tell the fields asked for; nothing where paths meet, as the
 * server then refuses. */
static void add_projection(tw_bson_builder *b, const answer *self)
{
    const projection *fields = &self->fields;
    for (size_t i = 0; i < fields->count; i++) {
        tw_str name = fields->names[i];
        const char *dot = name.len == 0 ? NULL : memchr(name.ptr, '.', name.len);
        if (dot != NULL || name.len == 0 || name.ptr[0] == '$') {
            return; /* the whole document; projection_apply does the rest */
        }
    }
    if (fields->count == 0) {
        return;
    }
    tw_bson_open_doc(b, TW_STR("projection"));
    tw_bson_add_i64(b, TW_STR("_id"), 1);
    tw_str own[] = {tw_str_of(self->rules->key), tw_str_of(self->rules->version_field)};
    for (size_t i = 0; i < TW_COUNT(own); i++) {
        bool is_named = tw_str_equal(own[i], TW_STR("_id"));
        for (size_t k = 0; k < fields->count; k++) {
            is_named = is_named || tw_str_equal(own[i], fields->names[k]);
        }
        if (!is_named) {
            tw_bson_add_i64(b, own[i], 1);
        }
    }
    for (size_t i = 0; i < fields->count; i++) {
        bool again = tw_str_equal(fields->names[i], TW_STR("_id"));
        for (size_t k = 0; k < i; k++) {
            again = again || tw_str_equal(fields->names[i], fields->names[k]);
        }
        if (!again) {
            tw_bson_add_i64(b, fields->names[i], 1);
        }
    }
    tw_bson_close(b);
}

static void begin_command(tw_bson_builder *b, answer *self, const char *name)
{
    tw_buf_clear(&self->reader->command);
    tw_bson_begin(b, &self->reader->command);
    tw_bson_add_str(b, tw_str_of(name), self->coll);
}

/* ---- get ---- */

static tw_err run_get(answer *self, const void *asked)
{
    const tw_msg_get *ask = asked;
    tw_bson_builder b;
    begin_command(&b, self, "find");
    tw_bson_open_doc(&b, TW_STR("filter"));
    tw_bson_open_doc(&b, TW_STR("_id"));
    tw_bson_open_array(&b, TW_STR("$in"));
    for (size_t i = 0; i < ask->keys.count; i++) {
        if (ask->keys.at[i].key.len > 0) {
            tw_bson_add_key(&b, TW_STR(""), ask->keys.at[i].key);
        }
    }
    tw_bson_close(&b);
    tw_bson_close(&b);
    if (ask->match.len > 0) {
        tw_bson_open_array(&b, TW_STR("$and"));
        add_filter(&b, self, TW_STR(""), ask->match);
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    add_projection(&b, self);
    tw_bson_add_i64(&b, TW_STR("batchSize"), (int64_t)ask->keys.count + 1);
    return run_cursor(self, &b, 0);
}

static tw_err on_get(void *state, const tw_envelope *in)
{
    struct mongo_reader *reader;
    TW_CAST(reader, state, MONGO_READER_MAGIC);
    const tw_msg_get *ask = &in->body->get;
    const wanted asked = {.db = ask->db,
                          .coll = ask->coll,
                          .fields = ask->fields,
                          .match = ask->match,
                          .limit = ask->keys.count};
    answer self;
    tw_err err = begin(&self, reader, &asked);
    if (err == TW_OK) {
        err = try_step(&self, run_get, ask);
    }
    return finish(&self, in, err);
}

/* ---- find ---- */

static void add_types_behind(tw_bson_builder *b, uint8_t type)
{
    int32_t types[MONGO_LINK_TYPES_MAX];
    size_t count = mongo_link_types_above(type, types);
    tw_bson_open_array(b, TW_STR("$type"));
    for (size_t i = 0; i < count; i++) {
        tw_bson_add_i64(b, TW_STR(""), types[i]);
    }
    tw_bson_close(b);
}

/* {$or: [{_id: {$gt: key}}, {_id: {$type: [all behind]}}]}: $gt alone stays within a bracket. */
static void add_behind(tw_bson_builder *b, tw_key key)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_array(b, TW_STR("$or"));
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("_id"));
    tw_bson_add_key(b, TW_STR("$gt"), key);
    tw_bson_close(b);
    tw_bson_close(b);
    if (key.ptr[0] != TW_BSON_MAX_KEY) {
        tw_bson_open_doc(b, TW_STR(""));
        tw_bson_open_doc(b, TW_STR("_id"));
        add_types_behind(b, key.ptr[0]);
        tw_bson_close(b);
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
}

static tw_err run_find(answer *self, const void *asked)
{
    const tw_msg_find *ask = asked;
    bool sorted = ask->sort.len > 0 && tw_bson_count(ask->sort) > 0;
    bool goes_on = !sorted && ask->after_key.len > 0;
    tw_bson_builder b;
    begin_command(&b, self, "find");
    if (goes_on || ask->match.len > 0) {
        tw_bson_open_doc(&b, TW_STR("filter"));
        tw_bson_open_array(&b, TW_STR("$and"));
        add_filter(&b, self, TW_STR(""), ask->query);
        if (ask->match.len > 0) {
            add_filter(&b, self, TW_STR(""), ask->match);
        }
        if (goes_on) {
            add_behind(&b, ask->after_key);
        }
        tw_bson_close(&b);
        tw_bson_close(&b);
    } else {
        add_filter(&b, self, TW_STR("filter"), ask->query);
    }
    tw_bson_open_doc(&b, TW_STR("sort"));
    if (sorted) {
        tw_bson_add_all(&b, ask->sort);
    }
    if (!sorted || tw_bson_get(ask->sort, TW_STR("_id")).type == 0) {
        tw_bson_add_i64(&b, TW_STR("_id"), 1); /* a stable order, and where to go on */
    }
    tw_bson_close(&b);
    add_projection(&b, self);
    if (ask->skip > 0) {
        tw_bson_add_i64(&b, TW_STR("skip"), (int64_t)ask->skip);
    }
    tw_bson_add_i64(&b, TW_STR("limit"), (int64_t)self->max + 1); /* one more tells of more */
    int64_t batch = self->max < BATCH_FIRST ? (int64_t)self->max + 1 : BATCH_FIRST;
    tw_bson_add_i64(&b, TW_STR("batchSize"), batch);
    return run_cursor(self, &b, 0);
}

static tw_err check_sort(answer *self, tw_bson sort)
{
    tw_bson_iter i;
    size_t count = 0;
    for (tw_bson_iter_init(&i, sort); sort.len > 0 && tw_bson_iter_next(&i); count++) {
        int64_t direction = 0;
        bool good = count < SORT_FIELDS_MAX && i.name.len > 0 && i.name.ptr[0] != '$' &&
                    tw_bson_value_i64(i.value, &direction) && (direction == 1 || direction == -1);
        if (!good) {
            return broker_refuse(&self->why, TW_E_BAD_QUERY, "sort is {field: 1 or -1}, up to 16.");
        }
    }
    return TW_OK;
}

static tw_err on_find(void *state, const tw_envelope *in)
{
    struct mongo_reader *reader;
    TW_CAST(reader, state, MONGO_READER_MAGIC);
    const tw_msg_find *ask = &in->body->find;
    const wanted asked = {.db = ask->db,
                          .coll = ask->coll,
                          .fields = ask->fields,
                          .query = ask->query,
                          .match = ask->match,
                          .limit = ask->limit,
                          .bytes_max = ask->bytes_max};
    answer self;
    tw_err err = begin(&self, reader, &asked);
    if (err == TW_OK) {
        err = check_sort(&self, ask->sort);
    }
    self.last = ask->after_key;
    if (err == TW_OK) {
        err = try_step(&self, run_find, ask);
    }
    return finish(&self, in, err);
}

/* ---- aggregate ---- */

static tw_err run_aggregate(answer *self, const void *asked)
{
    const tw_msg_aggregate *ask = asked;
    tw_bson_builder b;
    tw_bson_iter i;
    begin_command(&b, self, "aggregate");
    tw_bson_open_array(&b, TW_STR("pipeline"));
    if (ask->match.len > 0) {
        tw_bson_open_doc(&b, TW_STR(""));
        add_filter(&b, self, TW_STR("$match"), ask->match);
        tw_bson_close(&b);
    }
    for (tw_bson_iter_init(&i, ask->pipeline); tw_bson_iter_next(&i);) {
        tw_bson_add_value(&b, TW_STR(""), i.value);
    }
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_add_i64(&b, TW_STR("$limit"), (int64_t)self->max + 1);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("cursor"));
    tw_bson_close(&b);
    return run_cursor(self, &b, ask->time_ms);
}

/* The gateway has judged the asker's rights; here it is made sure of what no asker may. */
static bool may_look_up(void *context, tw_str coll)
{
    const answer *self = context;
    return catalog_check_name(coll) == TW_OK &&
           catalog_rules(self->reader->options->catalog, self->db, coll) != NULL;
}

static tw_err on_aggregate(void *state, const tw_envelope *in)
{
    struct mongo_reader *reader;
    TW_CAST(reader, state, MONGO_READER_MAGIC);
    const tw_msg_aggregate *ask = &in->body->aggregate;
    const wanted asked = {.db = ask->db,
                          .coll = ask->coll,
                          .match = ask->match,
                          .limit = ask->limit,
                          .bytes_max = ask->bytes_max};
    answer self;
    tw_err err = begin(&self, reader, &asked);
    self.is_made = true;
    if (err == TW_OK) {
        err = pipeline_check(ask->pipeline, may_look_up, &self, &self.why);
    }
    if (err == TW_OK) {
        err = try_step(&self, run_aggregate, ask);
    }
    return finish(&self, in, err);
}

/* ---- count ---- */

static tw_err run_count(answer *self, const void *asked)
{
    const tw_msg_count *ask = asked;
    tw_bson_builder b;
    begin_command(&b, self, "aggregate");
    tw_bson_open_array(&b, TW_STR("pipeline"));
    const tw_bson filters[] = {ask->match, ask->query};
    for (size_t i = 0; i < TW_COUNT(filters); i++) {
        tw_bson_open_doc(&b, TW_STR(""));
        add_filter(&b, self, TW_STR("$match"), filters[i]);
        tw_bson_close(&b);
    }
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_add_str(&b, TW_STR("$count"), TW_STR("n"));
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("cursor"));
    tw_bson_close(&b);
    return run_cursor(self, &b, 0);
}

static tw_err on_count(void *state, const tw_envelope *in)
{
    struct mongo_reader *reader;
    TW_CAST(reader, state, MONGO_READER_MAGIC);
    const tw_msg_count *ask = &in->body->count;
    const wanted asked = {
        .db = ask->db, .coll = ask->coll, .query = ask->query, .match = ask->match, .limit = 1};
    answer self;
    tw_err err = begin(&self, reader, &asked);
    self.is_made = true;
    if (err == TW_OK) {
        err = try_step(&self, run_count, ask);
    }
    if (err != TW_OK) {
        return finish(&self, in, err);
    }
    tw_bson made = {(const uint8_t *)reader->text.ptr, self.count == 0 ? 0 : reader->text.len};
    int64_t number = made.len == 0 ? 0 : tw_bson_get_i64_or(made, TW_STR("n"), 0);
    const tw_msg_counted counted = {(uint64_t)(number < 0 ? 0 : number)};
    tw_reply(in->actor, in->route, TW_MSG_counted, &counted);
    mongoc_client_session_destroy(self.session);
    return TW_OK;
}

/* ---- life ---- */

static void mongo_reader_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    struct mongo_reader *self;
    TW_CAST(self, state, MONGO_READER_MAGIC);
    const tw_item_gauge gauges[] = {
        {.name = TW_STR("mongo_up"), .value = self->health.why[0] == '\0' ? 1 : 0},
        {.name = TW_STR("mongo_reads_total"), .value = (int64_t)self->reads},
        {.name = TW_STR("mongo_records_read_total"), .value = (int64_t)self->records},
        {.name = TW_STR("mongo_read_failures_total"), .value = (int64_t)self->health.failures},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

static void mongo_reader_fini(void *state)
{
    struct mongo_reader *self;
    TW_CAST(self, state, MONGO_READER_MAGIC);
    mongo_link_give_back(self->options->link, MONGO_LINK_READS, &self->client);
    tw_arena_fini(&self->memory);
    tw_buf_fini(&self->command);
    tw_buf_fini(&self->text);
}

static tw_err mongo_reader_init(void *state, tw_actor *actor, const void *options)
{
    struct mongo_reader *self = state;
    const mongo_reader_options *given = options;
    TW_ASSERT(given != NULL && given->link != NULL && given->catalog != NULL);
    *self = (struct mongo_reader){.magic = MONGO_READER_MAGIC, .actor = actor, .options = given};
    tw_arena_init(&self->memory, MONGO_READER_BYTES_MAX);
    tw_buf_init(&self->command, TW_DOCUMENT_MAX);
    tw_buf_init(&self->text, TW_ACTOR_MESSAGE_MAX * 2);
    return TW_OK;
}

static void mongo_reader_on_drain(void *state)
{
    struct mongo_reader *self;
    TW_CAST(self, state, MONGO_READER_MAGIC);
    tw_actor_drained(self->actor);
}

static const tw_handler handlers[] = {
    [TW_MSG_get] = on_get,
    [TW_MSG_find] = on_find,
    [TW_MSG_count] = on_count,
    [TW_MSG_aggregate] = on_aggregate,
};

const tw_actor_class mongo_reader_class = {
    .name = "mongo_reader",
    .state_size = sizeof(struct mongo_reader),
    .init = mongo_reader_init,
    .fini = mongo_reader_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .on_drain = mongo_reader_on_drain,
    .gauges = mongo_reader_gauges,
};
