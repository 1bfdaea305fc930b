/* mongo_probe.c - see mongo_probe.h. Each look is one row of the table at the end. */
#include "actors/mongo/mongo_probe.h"

#include "actors/mongo/mongo_link.h"

enum {
    WIRE_WANTED = 9, /* MongoDB 4.4: transactions make collections, streams have images */
    OPLOG_WANTED_S = 86400,
    SKEW_MAX_MS = 2000,
    VALUE_MAX = 512,
};

typedef struct probe {
    mongoc_client_t *client;
    const char *database;
    uint64_t now_ms;
    mongo_report report;
    void *context;
    char value[VALUE_MAX];
} probe;

static void tell(probe *self, mongo_finding finding, const char *what, const char *advice)
{
    self->report(self->context, finding, what, self->value, advice);
}

/* Runs a command; a failure's text stands in value. reply is to be destroyed in both cases. */
static tw_err run(probe *self, const char *db, bson_t *command, bson_t *reply)
{
    bson_error_t error = {0};
    bool done = mongoc_client_command_simple(self->client, db, command, NULL, reply, &error);
    bson_destroy(command);
    return done ? TW_OK : mongo_link_error(&error, reply, self->value, sizeof self->value);
}

/* ---- the looks; false: the others make no sense ---- */

static bool look_at_server(probe *self)
{
    bson_t reply;
    tw_err err = run(self, "admin", BCON_NEW("hello", BCON_INT32(1)), &reply);
    tw_bson hello = mongo_link_doc(&reply);
    if (err != TW_OK) {
        tell(self, MONGO_BAD, "mongodb", "is it running, and is the URI right? docs/MONGODB.md");
        bson_destroy(&reply);
        return false;
    }
    tw_str set = tw_bson_get_str(hello, TW_STR("setName"));
    tw_str message = tw_bson_get_str(hello, TW_STR("msg"));
    int64_t wire = tw_bson_get_i64_or(hello, TW_STR("maxWireVersion"), 0);
    bool is_sharded = message.ptr != NULL && tw_str_equal(message, TW_STR("isdbgrid"));
    tw_format(self->value, sizeof self->value, "answers, wire version %lld", (long long)wire);
    if (wire < WIRE_WANTED) {
        tell(self, MONGO_BAD, "mongodb", "MongoDB 4.4 or later is needed");
    } else {
        tell(self, MONGO_GOOD, "mongodb", "");
    }
    if (set.ptr != NULL || is_sharded) {
        tw_format(self->value, sizeof self->value, "%.*s", is_sharded ? 15 : (int)set.len,
                  is_sharded ? "sharded cluster" : set.ptr);
        tell(self, MONGO_GOOD, "replica set", "");
    } else {
        tw_format(self->value, sizeof self->value, "none: a server of its own");
        tell(self, MONGO_BAD, "replica set",
             "change streams need one: start mongod with --replSet and run rs.initiate()");
    }
    tw_bson_value time = tw_bson_get(hello, TW_STR("localTime"));
    int64_t there = 0;
    if (time.type == TW_BSON_DATE && time.len == sizeof there) {
        memcpy(&there, time.ptr, sizeof there);
        int64_t skew = there - (int64_t)self->now_ms;
        tw_format(self->value, sizeof self->value, "%lld ms from ours", (long long)skew);
        bool far = skew > SKEW_MAX_MS || skew < -SKEW_MAX_MS;
        tell(self, far ? MONGO_DOUBTFUL : MONGO_GOOD, "mongodb clock",
             far ? "dates that Tidewire sets and the age of operation ids differ: use NTP" : "");
    }
    bson_destroy(&reply);
    return set.ptr != NULL || is_sharded;
}

static bool look_at_rights(probe *self)
{
    bson_t reply;
    tw_err err = run(self, MONGO_LINK_DATABASE,
                     BCON_NEW("update", BCON_UTF8(MONGO_LINK_META), "updates", "[", "{", "q", "{",
                              "_id", BCON_UTF8("doctor"), "}", "u", "{", "$set", "{", "at",
                              BCON_DATE_TIME((int64_t)self->now_ms), "}", "}", "upsert",
                              BCON_BOOL(true), "}", "]"),
                     &reply);
    bson_destroy(&reply);
    if (err == TW_OK) {
        tw_format(self->value, sizeof self->value, "may write to %s", MONGO_LINK_DATABASE);
    }
    tell(self, err == TW_OK ? MONGO_GOOD : MONGO_BAD, "mongodb rights",
         err == TW_OK ? "" : "give the user readWrite on the database tidewire");
    err = run(self, self->database,
              BCON_NEW("listCollections", BCON_INT32(1), "nameOnly", BCON_BOOL(true)), &reply);
    bson_destroy(&reply);
    if (err == TW_OK) {
        tw_format(self->value, sizeof self->value, "may read %s", self->database);
    }
    tell(self, err == TW_OK ? MONGO_GOOD : MONGO_BAD, "mongodb database",
         err == TW_OK ? "" : "give the user readWrite on this database");
    return true;
}

static bool look_at_stream(probe *self)
{
    bson_t pipeline = BSON_INITIALIZER;
    bson_error_t error = {0};
    const bson_t *said = NULL;
    const bson_t *event;
    mongoc_change_stream_t *stream = mongoc_client_watch(self->client, &pipeline, NULL);
    (void)mongoc_change_stream_next(stream, &event);
    bool failed = mongoc_change_stream_error_document(stream, &error, &said);
    if (failed) {
        (void)mongo_link_error(&error, said, self->value, sizeof self->value);
    } else {
        tw_format(self->value, sizeof self->value, "may be opened");
    }
    mongoc_change_stream_destroy(stream);
    bson_destroy(&pipeline);
    tell(self, failed ? MONGO_BAD : MONGO_GOOD, "change stream",
         failed ? "give the user the actions find and changeStream on every database" : "");
    return true;
}

/* Seconds of the oplog's first or last entry; 0: it cannot be read. */
static int64_t oplog_end(probe *self, int direction)
{
    bson_t reply;
    int64_t seconds = 0;
    tw_err err =
        run(self, "local",
            BCON_NEW("find", BCON_UTF8("oplog.rs"), "sort", "{", "$natural", BCON_INT32(direction),
                     "}", "limit", BCON_INT64(1), "singleBatch", BCON_BOOL(true)),
            &reply);
    if (err == TW_OK) {
        tw_bson cursor = tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("cursor"));
        tw_bson batch = cursor.len == 0 ? cursor : tw_bson_get_doc(cursor, TW_STR("firstBatch"));
        tw_bson first = batch.len == 0 ? batch : tw_bson_get_doc(batch, TW_STR("0"));
        tw_bson_value at = first.len == 0 ? (tw_bson_value){0} : tw_bson_get(first, TW_STR("ts"));
        uint64_t bits = 0;
        if (at.type == TW_BSON_TIMESTAMP && at.len == sizeof bits) {
            memcpy(&bits, at.ptr, sizeof bits);
            seconds = (int64_t)(bits >> 32);
        }
    }
    bson_destroy(&reply);
    return seconds;
}

static bool look_at_oplog(probe *self)
{
    int64_t first = oplog_end(self, 1);
    int64_t last = first == 0 ? 0 : oplog_end(self, -1);
    if (first == 0) {
        tw_format(self->value, sizeof self->value, "cannot be read by this user");
        tell(self, MONGO_DOUBTFUL, "oplog",
             "see that it spans the longest time in which Tidewire may be away");
        return true;
    }
    tw_format(self->value, sizeof self->value, "spans %.1f hours", (double)(last - first) / 3600.0);
    bool is_short = last - first < OPLOG_WANTED_S;
    tell(self, is_short ? MONGO_DOUBTFUL : MONGO_GOOD, "oplog",
         is_short ? "when Tidewire is away for longer, it reads every collection again" : "");
    return true;
}

static bool look_at_images(probe *self)
{
    bson_t reply;
    size_t all = 0;
    size_t with = 0;
    tw_err err = run(self, self->database, BCON_NEW("listCollections", BCON_INT32(1)), &reply);
    if (err == TW_OK) {
        tw_bson cursor = tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("cursor"));
        tw_bson_iter i;
        tw_bson_iter_init(&i, tw_bson_get_doc(cursor, TW_STR("firstBatch")));
        while (tw_bson_iter_next(&i)) {
            tw_bson enabled = tw_bson_value_doc(tw_bson_get_path(
                tw_bson_value_doc(i.value), TW_STR("options.changeStreamPreAndPostImages")));
            all++;
            with += enabled.len > 0 && tw_bson_get_bool_or(enabled, TW_STR("enabled"), false);
        }
        tw_format(self->value, sizeof self->value, "kept by %zu of %zu collections", with, all);
        tell(self, MONGO_GOOD, "post-images", "");
    }
    bson_destroy(&reply);
    return true;
}

void mongo_probe(const char *uri, const char *database, uint64_t now_ms, mongo_report report,
                 void *context)
{
    static bool (*const looks[])(probe * self) = {look_at_server, look_at_rights, look_at_stream,
                                                  look_at_oplog, look_at_images};
    probe self = {.database = database, .now_ms = now_ms, .report = report, .context = context};
    mongo_link *link = NULL;
    if (mongo_link_new(&link, uri, self.value, sizeof self.value) != TW_OK) {
        tell(&self, MONGO_BAD, "mongo.uri", "docs/MONGODB.md tells how it is written");
        return;
    }
    self.client = mongo_link_take(link, MONGO_LINK_READS);
    bool goes_on = self.client != NULL;
    for (size_t i = 0; goes_on && i < TW_COUNT(looks); i++) {
        goes_on = looks[i](&self);
    }
    mongo_link_give_back(link, MONGO_LINK_READS, &self.client);
    mongo_link_free(&link);
}
