/* change_tailer_link.c - see change_tailer_link.h. */
#include "actors/mongo/change_tailer_link.h"

#include <stdlib.h>

#include "protocol/messages.h"

#include "broker/position.h"

enum {
    WIRE_WITH_IMAGES = 17,         /* MongoDB 6.0: fullDocument whenAvailable */
    BATCH_EVENTS = 2000,           /* of a getMore: the store works while the server reads on */
    CUT_OFF_BYTES = 8388608,       /* a batch of this size may have been ended by its size */
    DATABASES_MAX = 4096,          /* listed; more: fatal */
    COLLECTIONS_LISTED_MAX = 4096, /* of one database */
};
#define BARRIER_PREFIX "node:"

/* ---- errors ---- */

/* Codes of the server.                             Source  MongoDB's error_codes.yml, and the
 * specification of change streams for what may be resumed */
static const struct {
    uint32_t code;
    change_failure failure;
} codes[] = {
    {6, CHANGE_PASSES},     {7, CHANGE_PASSES},     {43, CHANGE_PASSES},    {63, CHANGE_PASSES},
    {89, CHANGE_PASSES},    {91, CHANGE_PASSES},    {133, CHANGE_PASSES},   {134, CHANGE_PASSES},
    {150, CHANGE_PASSES},   {189, CHANGE_PASSES},   {234, CHANGE_PASSES},   {262, CHANGE_PASSES},
    {9001, CHANGE_PASSES},  {10107, CHANGE_PASSES}, {11600, CHANGE_PASSES}, {11602, CHANGE_PASSES},
    {13388, CHANGE_PASSES}, {13435, CHANGE_PASSES}, {13436, CHANGE_PASSES}, {286, CHANGE_LOST},
    {136, CHANGE_LOST}, /* CappedPositionLost */
    {260, CHANGE_LOST}, /* InvalidResumeToken */
    {280, CHANGE_LOST}, /* ChangeStreamFatalError */
    {9, CHANGE_LOST},       {10334, CHANGE_LOST},   {40647, CHANGE_LOST},   {40648, CHANGE_LOST},
    {40649, CHANGE_LOST},   {50811, CHANGE_LOST},   {13, CHANGE_FATAL},     {18, CHANGE_FATAL},
    {20, CHANGE_FATAL},     {59, CHANGE_FATAL},     {72, CHANGE_FATAL},     {8000, CHANGE_FATAL},
    {40324, CHANGE_FATAL},  {40573, CHANGE_FATAL}, /* no replica set */
};

/* Notes what an error means. An unknown code passes: the caller counts how often. */
static tw_err note_error(change_source *self, const bson_error_t *error, const bson_t *reply)
{
    bool is_server = error->domain == MONGOC_ERROR_SERVER || error->domain == MONGOC_ERROR_QUERY;
    (void)!mongo_link_error(error, reply, self->why, sizeof self->why); /* its text */
    self->code = is_server ? error->code : 0;
    self->failure = CHANGE_PASSES;
    self->is_known = !is_server;
    if (error->domain == MONGOC_ERROR_CLIENT && error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE) {
        self->failure = CHANGE_FATAL;
        self->code = 18;
    }
    for (size_t i = 0; is_server && i < TW_COUNT(codes); i++) {
        if (codes[i].code == error->code) {
            self->failure = codes[i].failure;
            self->is_known = true;
        }
    }
    return TW_E_UNAVAILABLE; /* failure says the rest */
}

static tw_err refuse(change_source *self, change_failure failure, const char *why)
{
    self->failure = failure;
    self->code = 0;
    tw_format(self->why, sizeof self->why, "%s", why);
    return TW_E_UNAVAILABLE;
}

/* ---- commands ---- */

static void forget_reply(change_reply *reply)
{
    bson_free(reply->bytes);
    *reply = (change_reply){0};
}

static tw_bson reply_of(const change_reply *reply)
{
    return (tw_bson){reply->bytes, reply->len};
}

/* Runs a command at the primary; options: own, destroyed here. */
static tw_err run(change_source *self, const char *db, const bson_t *command, bson_t *options,
                  change_reply *reply)
{
    bson_error_t error = {0};
    bson_t got;
    uint32_t len = 0;
    TW_ASSERT(self->client != NULL);
    BSON_APPEND_INT32(options, "serverId", (int32_t)self->server_id);
    forget_reply(reply);
    self->commands++;
    bool done =
        mongoc_client_command_with_opts(self->client, db, command, NULL, options, &got, &error);
    bson_destroy(options);
    if (!done) {
        tw_err err = note_error(self, &error, &got);
        bson_destroy(&got);
        return err;
    }
    reply->bytes = bson_destroy_with_steal(&got, true, &len);
    reply->len = len;
    return TW_OK;
}

static tw_err run_plain(change_source *self, const char *db, const bson_t *command,
                        change_reply *reply)
{
    bson_t options = BSON_INITIALIZER;
    return run(self, db, command, &options, reply);
}

/* A name in a terminated buffer, for libmongoc. */
static bool terminated(tw_str name, char *out, size_t size)
{
    bool fits = name.len < size && memchr(name.ptr, '\0', name.len) == NULL;
    if (fits) {
        memcpy(out, name.ptr, name.len);
        out[name.len] = '\0';
    }
    return fits;
}

static uint64_t timestamp_of(tw_bson reply)
{
    tw_bson_value value = tw_bson_get(reply, TW_STR("operationTime"));
    uint32_t words[2];
    if (value.type != TW_BSON_TIMESTAMP || value.len != sizeof words) {
        return 0;
    }
    memcpy(words, value.ptr, sizeof words);
    return position_of_cluster_time(words[1], words[0]);
}

/* ---- life ---- */

void change_source_init(change_source *self, mongo_link *link)
{
    *self = (change_source){.link = link};
}

void change_source_fini(change_source *self)
{
    change_source_close(self);
    forget_reply(&self->stream);
    forget_reply(&self->scan);
    forget_reply(&self->other);
}

tw_err change_source_connect(change_source *self)
{
    TW_ASSERT(self->client == NULL);
    self->client = mongo_link_take(self->link, MONGO_LINK_READS);
    if (self->client == NULL) {
        return refuse(self, CHANGE_PASSES, "no client of the pool is free");
    }
    bson_error_t error = {0};
    mongoc_server_description_t *server =
        mongoc_client_select_server(self->client, true, NULL, &error);
    if (server == NULL) {
        tw_err err = note_error(self, &error, NULL);
        change_source_close(self);
        return err;
    }
    self->server_id = mongoc_server_description_id(server);
    tw_bson hello = mongo_link_doc(mongoc_server_description_hello_response(server));
    bool is_lone = tw_bson_get_str(hello, TW_STR("setName")).ptr == NULL &&
                   !tw_str_equal(tw_bson_get_str(hello, TW_STR("msg")), TW_STR("isdbgrid"));
    self->knows_images = tw_bson_get_i64_or(hello, TW_STR("maxWireVersion"), 0) >= WIRE_WITH_IMAGES;
    mongoc_server_description_destroy(server);
    if (is_lone) {
        change_source_close(self);
        tw_err err =
            refuse(self, CHANGE_FATAL,
                   "MongoDB: the server is in no replica set, so it has no change streams");
        self->code = 40573;
        return err;
    }
    return TW_OK;
}

static tw_err session_options(change_source *self, bson_t *options)
{
    bson_error_t error = {0};
    if (!mongoc_client_session_append(self->session, options, &error)) {
        bson_destroy(options);
        return note_error(self, &error, NULL);
    }
    return TW_OK;
}

/* Ends a cursor where the server still answers; it ends by itself, too. */
static void kill_cursor(change_source *self, const char *db, const char *coll, int64_t *cursor)
{
    change_reply unused = {0};
    if (*cursor != 0) {
        bson_t *command =
            BCON_NEW("killCursors", BCON_UTF8(coll), "cursors", "[", BCON_INT64(*cursor), "]");
        (void)!run_plain(self, db, command, &unused);
        bson_destroy(command);
    }
    forget_reply(&unused);
    *cursor = 0;
}

void change_source_scan_end(change_source *self)
{
    kill_cursor(self, self->scan_db, self->scan_coll, &self->scan_cursor);
    self->scan_part = CHANGE_SCAN_NONE;
}

static void close_cursor(change_source *self)
{
    change_source_scan_end(self);
    kill_cursor(self, "admin", "$cmd.aggregate", &self->cursor);
    self->has_first = false;
    if (self->session != NULL) {
        mongoc_client_session_destroy(self->session);
        self->session = NULL;
    }
}

void change_source_close(change_source *self)
{
    if (self->failure == CHANGE_PASSES && self->why[0] != '\0') {
        self->cursor = 0; /* after a failure nothing is asked of that server once more */
        self->scan_cursor = 0;
    }
    if (self->client == NULL) {
        return;
    }
    close_cursor(self);
    mongo_link_give_back(self->link, MONGO_LINK_READS, &self->client);
}

tw_err change_source_origin(change_source *self, uint64_t *srv)
{
    tw_err err = mongo_link_origin(self->client, srv, self->why, sizeof self->why);
    self->failure = err == TW_E_CORRUPT || err == TW_E_FORBIDDEN ? CHANGE_FATAL : CHANGE_PASSES;
    self->code = err == TW_E_FORBIDDEN ? 13 : 0;
    return err;
}

/* ---- the stream ---- */

static bson_t *open_command(const change_source *self, tw_bson token, bool after)
{
    bson_t stage = BSON_INITIALIZER;
    BSON_APPEND_BOOL(&stage, "allChangesForCluster", true);
    if (self->knows_images) {
        BSON_APPEND_UTF8(&stage, "fullDocument", "whenAvailable");
    }
    if (token.len > 0) {
        bson_t view;
        mongo_link_view(&view, token);
        BSON_APPEND_DOCUMENT(&stage, after ? "startAfter" : "resumeAfter", &view);
    }
    bson_t *command = BCON_NEW("aggregate", BCON_INT32(1), "pipeline", "[", "{", "$changeStream",
                               BCON_DOCUMENT(&stage), "}", "]", "cursor", "{", "}");
    bson_destroy(&stage);
    return command;
}

static void take_cursor(change_source *self)
{
    tw_bson cursor = tw_bson_get_doc(reply_of(&self->stream), TW_STR("cursor"));
    self->cursor = tw_bson_get_i64_or(cursor, TW_STR("id"), 0);
}

tw_err change_source_open(change_source *self, tw_bson token, bool after)
{
    TW_ASSERT(self->client != NULL);
    close_cursor(self);
    bson_error_t error = {0};
    mongoc_session_opt_t *wish = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(wish, false);
    self->session = mongoc_client_start_session(self->client, wish, &error);
    mongoc_session_opts_destroy(wish);
    if (self->session == NULL) {
        return note_error(self, &error, NULL);
    }
    bson_t options = BSON_INITIALIZER;
    tw_err err = session_options(self, &options);
    if (err == TW_OK) {
        bson_t *command = open_command(self, token, after);
        self->opens++;
        err = run(self, "admin", command, &options, &self->stream);
        bson_destroy(command);
    }
    if (err == TW_OK) {
        take_cursor(self);
        self->has_first = true;
        self->why[0] = '\0';
        if (self->cursor == 0) {
            return refuse(self, CHANGE_PASSES, "MongoDB closed the change stream at once");
        }
    }
    return err;
}

static void read_batch(const change_source *self, tw_str name, change_batch *out)
{
    tw_bson reply = reply_of(&self->stream);
    tw_bson cursor = tw_bson_get_doc(reply, TW_STR("cursor"));
    out->events = tw_bson_get_doc(cursor, name);
    out->token = tw_bson_get_doc(cursor, TW_STR("postBatchResumeToken"));
    out->seqno = timestamp_of(reply);
    out->bytes = reply.len;
    out->is_cut_off = reply.len >= CUT_OFF_BYTES || tw_bson_count(out->events) >= BATCH_EVENTS;
}

tw_err change_source_next(change_source *self, uint32_t await_ms, change_batch *out)
{
    if (self->has_first) {
        self->has_first = false;
        read_batch(self, TW_STR("firstBatch"), out);
        return TW_OK;
    }
    TW_ASSERT(self->cursor != 0);
    bson_t options = BSON_INITIALIZER;
    tw_err err = session_options(self, &options);
    if (err == TW_OK) {
        bson_t command = BSON_INITIALIZER;
        BSON_APPEND_INT64(&command, "getMore", self->cursor);
        BSON_APPEND_UTF8(&command, "collection", "$cmd.aggregate");
        BSON_APPEND_INT64(&command, "batchSize", BATCH_EVENTS);
        BSON_APPEND_INT64(&command, "maxTimeMS", (int64_t)await_ms);
        err = run(self, "admin", &command, &options, &self->stream);
        bson_destroy(&command);
    }
    if (err != TW_OK) {
        return err;
    }
    take_cursor(self);
    read_batch(self, TW_STR("nextBatch"), out);
    if (self->cursor == 0 && tw_bson_count(out->events) == 0) {
        return refuse(self, CHANGE_PASSES, "MongoDB closed the change stream");
    }
    return TW_OK;
}

/* ---- barriers ---- */

tw_err change_source_barrier(change_source *self, uint64_t node, uint64_t number)
{
    char id[40];
    tw_format(id, sizeof id, BARRIER_PREFIX "%llu", (unsigned long long)node);
    bson_t *command =
        BCON_NEW("update", BCON_UTF8(MONGO_LINK_META), "updates", "[", "{", "q", "{", "_id",
                 BCON_UTF8(id), "}", "u", "{", "_id", BCON_UTF8(id), "barrier",
                 BCON_INT64((int64_t)number), "}", "upsert", BCON_BOOL(true), "}", "]");
    tw_err err = run_plain(self, MONGO_LINK_DATABASE, command, &self->other);
    bson_destroy(command);
    tw_bson failed = tw_bson_get_doc(reply_of(&self->other), TW_STR("writeErrors"));
    if (err == TW_OK && failed.len > 0) {
        return refuse(self, CHANGE_PASSES, "MongoDB did not take the barrier");
    }
    return err;
}

bool change_source_is_barrier(tw_str db, tw_str coll, tw_bson_value id, tw_bson doc, uint64_t *node,
                              uint64_t *number)
{
    tw_str name = tw_bson_value_str(id);
    size_t prefix = sizeof BARRIER_PREFIX - 1;
    int64_t written;
    return tw_str_equal(db, TW_STR(MONGO_LINK_DATABASE)) &&
           tw_str_equal(coll, TW_STR(MONGO_LINK_META)) && name.len > prefix &&
           memcmp(name.ptr, BARRIER_PREFIX, prefix) == 0 &&
           tw_parse_u64((tw_str){name.ptr + prefix, name.len - prefix}, TW_SEQNO_MAX, node) ==
               TW_OK &&
           tw_bson_value_i64(tw_bson_get(doc, TW_STR("barrier")), &written) && written > 0 &&
           (*number = (uint64_t)written) > 0;
}

/* ---- records ---- */

/* Appends {"level":"majority"}: what a stream has told is majority committed. */
static void want_majority(bson_t *command)
{
    bson_t concern;
    BSON_APPEND_DOCUMENT_BEGIN(command, "readConcern", &concern);
    BSON_APPEND_UTF8(&concern, "level", "majority");
    bson_append_document_end(command, &concern);
}

/* Appends filter: {"_id": {operator: value}}. */
static void want_ids(bson_t *command, const char *operator, tw_bson_value value)
{
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &text);
    if (value.type != 0) {
        tw_bson_open_doc(&b, TW_STR("_id"));
        tw_bson_add_value(&b, tw_str_of(operator), value);
        tw_bson_close(&b);
    }
    tw_bson filter = tw_bson_end(&b);
    bson_t view;
    mongo_link_view(&view, text.err == TW_OK ? filter : (tw_bson){0});
    BSON_APPEND_DOCUMENT(command, "filter", &view);
    tw_buf_fini(&text);
}

/* Appends filter: {"_id": {$type: [those that are ordered above that of value]}}. */
static void want_types_above(bson_t *command, tw_bson_value value)
{
    bson_t filter, id, list;
    int32_t types[MONGO_LINK_TYPES_MAX];
    size_t count = mongo_link_types_above(value.type, types);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &id);
    BSON_APPEND_ARRAY_BEGIN(&id, "$type", &list);
    for (size_t i = 0; i < count; i++) {
        char index[8];
        size_t len = tw_format(index, sizeof index, "%zu", i);
        bson_append_int32(&list, index, (int)len, types[i]);
    }
    bson_append_array_end(&id, &list);
    bson_append_document_end(&filter, &id);
    bson_append_document_end(command, &filter);
}

/* Runs a command in a database; options: own, destroyed here. */
static tw_err run_in(change_source *self, tw_str db, const bson_t *command, bson_t *options,
                     change_reply *reply)
{
    char database[TW_NAME_MAX + 1];
    if (!terminated(db, database, sizeof database)) {
        bson_destroy(options);
        return refuse(self, CHANGE_PASSES, "a name is too long");
    }
    return run(self, database, command, options, reply);
}

static tw_err run_find(change_source *self, tw_str db, const bson_t *command, change_reply *reply,
                       tw_bson *docs)
{
    bson_t options = BSON_INITIALIZER;
    tw_err err = run_in(self, db, command, &options, reply);
    tw_bson cursor = tw_bson_get_doc(reply_of(reply), TW_STR("cursor"));
    *docs = tw_bson_get_doc(cursor, TW_STR("firstBatch"));
    return err;
}

static bool begin_find(bson_t *command, tw_str coll)
{
    bson_init(command);
    return bson_append_utf8(command, "find", 4, coll.ptr, (int)coll.len);
}

/* ---- a scan ---- */

/* Codes that end the cursor of a scan, no more: the collection was dropped, or it was forgotten. */
static bool is_of_cursor(uint32_t code)
{
    return code == 43 || code == 175 || code == 237; /* CursorNotFound, QueryPlanKilled, Killed */
}

static tw_err scan_open(change_source *self, tw_str db, tw_str coll, tw_bson_value after)
{
    bson_t command;
    bson_t sort;
    if (!terminated(db, self->scan_db, sizeof self->scan_db) ||
        !terminated(coll, self->scan_coll, sizeof self->scan_coll)) {
        return refuse(self, CHANGE_PASSES, "a name is too long");
    }
    begin_find(&command, coll);
    if (self->scan_part == CHANGE_SCAN_ABOVE) {
        want_types_above(&command, after);
    } else {
        want_ids(&command, "$gt", after);
    }
    BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &sort);
    BSON_APPEND_INT32(&sort, "_id", 1);
    bson_append_document_end(&command, &sort);
    BSON_APPEND_INT64(&command, "batchSize", TW_SCAN_ROWS_MAX);
    want_majority(&command);
    bson_t options = BSON_INITIALIZER;
    tw_err err = session_options(self, &options);
    if (err == TW_OK) {
        err = run_in(self, db, &command, &options, &self->scan);
    }
    bson_destroy(&command);
    return err;
}

static tw_err scan_more(change_source *self, tw_str db, tw_str coll)
{
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT64(&command, "getMore", self->scan_cursor);
    bson_append_utf8(&command, "collection", 10, coll.ptr, (int)coll.len);
    BSON_APPEND_INT64(&command, "batchSize", TW_SCAN_ROWS_MAX);
    bson_t options = BSON_INITIALIZER;
    tw_err err = session_options(self, &options);
    if (err == TW_OK) {
        err = run_in(self, db, &command, &options, &self->scan);
    }
    bson_destroy(&command);
    return err;
}

/* One batch of the part in hand, which is opened where it has no cursor. */
static tw_err scan_batch(change_source *self, tw_str db, tw_str coll, tw_bson_value after,
                         tw_bson *docs)
{
    bool is_open = self->scan_cursor != 0;
    tw_err err = is_open ? scan_more(self, db, coll) : scan_open(self, db, coll, after);
    if (err != TW_OK && is_open && is_of_cursor(self->code)) {
        is_open = false;
        self->why[0] = '\0';
        self->scan_part = after.type == 0 ? CHANGE_SCAN_ALL : CHANGE_SCAN_GT;
        err = scan_open(self, db, coll, after);
    }
    self->scan_cursor = 0;
    if (err != TW_OK) {
        self->scan_part = CHANGE_SCAN_NONE;
        return err;
    }
    tw_bson cursor = tw_bson_get_doc(reply_of(&self->scan), TW_STR("cursor"));
    self->scan_cursor = tw_bson_get_i64_or(cursor, TW_STR("id"), 0);
    *docs = tw_bson_get_doc(cursor, is_open ? TW_STR("nextBatch") : TW_STR("firstBatch"));
    return TW_OK;
}

tw_err change_source_scan(change_source *self, tw_str db, tw_str coll, tw_bson_value after,
                          tw_bson *docs, bool *is_last)
{
    TW_ASSERT(self->session != NULL);
    if (self->scan_part == CHANGE_SCAN_NONE) {
        self->scan_part = after.type == 0 ? CHANGE_SCAN_ALL : CHANGE_SCAN_GT;
    } else if (self->scan_part == CHANGE_SCAN_GT && self->scan_cursor == 0) {
        self->scan_part = CHANGE_SCAN_ABOVE;
    }
    bool has_above = after.type != 0 && after.type != TW_BSON_MAX_KEY;
    tw_err err = scan_batch(self, db, coll, after, docs);
    if (err == TW_OK && self->scan_part == CHANGE_SCAN_GT && self->scan_cursor == 0 && has_above &&
        tw_bson_count(*docs) == 0) {
        self->scan_part = CHANGE_SCAN_ABOVE;
        err = scan_batch(self, db, coll, after, docs);
    }
    bool goes_on = self->scan_cursor != 0 || (self->scan_part == CHANGE_SCAN_GT && has_above);
    *is_last = err == TW_OK && !goes_on;
    if (*is_last) {
        self->scan_part = CHANGE_SCAN_NONE;
    }
    return err;
}

bool change_source_is_scanning(const change_source *self)
{
    return self->scan_part != CHANGE_SCAN_NONE;
}

tw_err change_source_find(change_source *self, tw_str db, tw_str coll, tw_bson ids, bool only_ids,
                          tw_bson *docs, uint64_t *seqno, bool *is_cut)
{
    char names[2][TW_NAME_MAX + 1];
    bson_t command;
    begin_find(&command, coll);
    want_ids(&command, "$in", (tw_bson_value){TW_BSON_ARRAY, ids.ptr, ids.len});
    BSON_APPEND_INT64(&command, "batchSize", TW_SCAN_ROWS_MAX + 1);
    if (only_ids) {
        bson_t fields;
        BSON_APPEND_DOCUMENT_BEGIN(&command, "projection", &fields);
        BSON_APPEND_INT32(&fields, "_id", 1);
        bson_append_document_end(&command, &fields);
    }
    want_majority(&command);
    self->lookups++;
    tw_err err = run_find(self, db, &command, &self->other, docs);
    bson_destroy(&command);
    *is_cut = false;
    *seqno = 0;
    if (err != TW_OK) {
        return err;
    }
    *seqno = timestamp_of(reply_of(&self->other));
    tw_bson cursor = tw_bson_get_doc(reply_of(&self->other), TW_STR("cursor"));
    int64_t id = tw_bson_get_i64_or(cursor, TW_STR("id"), 0);
    if (id != 0 && terminated(db, names[0], sizeof names[0]) &&
        terminated(coll, names[1], sizeof names[1])) {
        *is_cut = true;
        kill_cursor(self, names[0], names[1], &id);
    }
    return TW_OK;
}

/* ---- collections ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t count_names(char **names)
{
    size_t count = 0;
    while (names != NULL && names[count] != NULL) {
        count++;
    }
    return count;
}

/* What is a collection of records: no view, no time series, nothing of the server's own. */
static bool is_of_records(tw_bson described)
{
    tw_str type = tw_bson_get_str(described, TW_STR("type"));
    tw_str name = tw_bson_get_str(described, TW_STR("name"));
    bool is_plain = type.ptr == NULL || tw_str_equal(type, TW_STR("collection"));
    return is_plain && name.len > 0 && catalog_check_name(name) == TW_OK;
}

static tw_err list_database(change_source *self, const char *db, change_source_each each,
                            void *context)
{
    bson_error_t error = {0};
    mongoc_database_t *database = mongoc_client_get_database(self->client, db);
    mongoc_cursor_t *cursor = mongoc_database_find_collections_with_opts(database, NULL);
    char **names = tw_alloc_zero(COLLECTIONS_LISTED_MAX + 1, sizeof *names);
    size_t count = 0;
    const bson_t *described;
    tw_err err = names == NULL ? TW_E_NO_MEMORY : TW_OK;
    while (err == TW_OK && mongoc_cursor_next(cursor, &described)) {
        if (count == COLLECTIONS_LISTED_MAX) {
            err = refuse(self, CHANGE_FATAL, "a database has more collections than can be served");
        } else if (is_of_records(mongo_link_doc(described))) {
            tw_str name = tw_bson_get_str(mongo_link_doc(described), TW_STR("name"));
            names[count++] = bson_strndup(name.ptr, name.len);
        }
    }
    if (err == TW_OK && mongoc_cursor_error(cursor, &error)) {
        err = note_error(self, &error, NULL);
    }
    if (err == TW_OK && count > 0) {
        qsort(names, count, sizeof *names, by_text);
    }
    for (size_t i = 0; i < count; i++) {
        err = err == TW_OK ? each(context, tw_str_of(db), tw_str_of(names[i])) : err;
        bson_free(names[i]);
    }
    tw_free(names);
    mongoc_cursor_destroy(cursor);
    mongoc_database_destroy(database);
    return err;
}

tw_err change_source_list(change_source *self, change_source_each each, void *context)
{
    bson_error_t error = {0};
    char **names = mongoc_client_get_database_names_with_opts(self->client, NULL, &error);
    if (names == NULL) {
        return note_error(self, &error, NULL);
    }
    size_t count = count_names(names);
    qsort(names, count, sizeof *names, by_text);
    tw_err err = count > DATABASES_MAX
                     ? refuse(self, CHANGE_FATAL, "there are more databases than can be served")
                     : TW_OK;
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        tw_str name = tw_str_of(names[i]);
        if (!mongo_link_is_reserved(name) && catalog_check_name(name) == TW_OK) {
            err = list_database(self, names[i], each, context);
        }
    }
    bson_strfreev(names);
    return err;
}
