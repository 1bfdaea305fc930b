/* mongo_link.c - see mongo_link.h. libmongoc 1.23 (Debian 12) to 1.30 (Debian 13). */
#include "actors/mongo/mongo_link.h"

#include "protocol/messages.h"

#include "broker/position.h"

#include "actors/runtime/log.h"
#include "actors/runtime/shared.h"

enum { MONGO_LINK_MAGIC = 0x5a0d6b11, HOSTS_SHOWN = 256 };

/* A write whose event is expected. The hash stands for place, key and version: 64 bits of it among
 * 65,536 are mistaken once in 10^14 times. */
typedef struct expected {
    uint64_t hash; /* 0: taken */
    uint8_t len;
    char origin[TW_OPID_MAX];
} expected;

struct mongo_link {
    uint32_t magic;
    mongoc_client_pool_t *pools[2]; /* own; by mongo_link_use */
    char hosts[HOSTS_SHOWN];
    tw_rwlock lock;       /* of what follows */
    expected *expected;   /* own; NULL: nothing was expected yet */
    size_t expected_next; /* which one of several makes room */
};

/* ---- the library ---- */

static void on_log(mongoc_log_level_t level, const char *domain, const char *message, void *context)
{
    (void)context;
    /* A transaction that the server has ended itself is aborted once more: that is no trouble. */
    bool is_noise = strncmp(message, "Error in abortTransaction", 25) == 0;
    level = is_noise ? MONGOC_LOG_LEVEL_DEBUG : level;
    tw_log_level as = level <= MONGOC_LOG_LEVEL_CRITICAL  ? TW_LOG_ERROR
                      : level == MONGOC_LOG_LEVEL_WARNING ? TW_LOG_WARN
                                                          : TW_LOG_DEBUG;
    tw_log(as, "mongo", "%s: %s", domain, message);
}

void mongo_link_library_start(void)
{
    mongoc_log_set_handler(on_log, NULL);
    mongoc_init();
}

void mongo_link_library_end(void)
{
    mongoc_cleanup();
}

/* ---- the URI ---- */

static tw_err refuse(char *why, size_t size, const char *cause, const char *hint)
{
    tw_format(why, size, "%s; %s", cause, hint);
    return TW_E_BAD_CONFIG;
}

/* What is wrong with the URI's text, as far as it can be said without repeating a password. */
static tw_err parse(const char *uri, mongoc_uri_t **out, char *why, size_t size)
{
    static const char form[] = "write mongodb://HOST:PORT/?replicaSet=NAME or mongodb+srv://NAME";
    bson_error_t error = {0};
    *out = NULL;
    if (strncmp(uri, "mongodb://", 10) != 0 && strncmp(uri, "mongodb+srv://", 14) != 0) {
        return refuse(why, size, "the MongoDB URI has no scheme that is known", form);
    }
    mongoc_uri_t *made = mongoc_uri_new_with_error(uri, &error);
    if (made == NULL) {
        const char *rest = strchr(uri, '@') == NULL ? error.message : "it cannot be understood";
        tw_format(why, size, "the MongoDB URI is wrong: %s; %s%s", rest, form,
                  strchr(uri, '@') == NULL
                      ? ""
                      : "; in user and password write %40 for @, %3A for :, %2F for /, %25 for %");
        return TW_E_BAD_CONFIG;
    }
    *out = made;
    return TW_OK;
}

/* What is well formed and yet cannot serve. */
static tw_err judge(const mongoc_uri_t *uri, char *why, size_t size)
{
    const mongoc_write_concern_t *concern = mongoc_uri_get_write_concern(uri);
    int32_t w = mongoc_write_concern_get_w(concern);
    if (w == MONGOC_WRITE_CONCERN_W_UNACKNOWLEDGED) {
        return refuse(why, size, "w=0 in the MongoDB URI leaves writes without an answer",
                      "leave w out: majority is used");
    }
    if (!mongoc_uri_get_option_as_bool(uri, MONGOC_URI_RETRYWRITES, true)) {
        tw_log(TW_LOG_WARN, "mongo",
               "retryWrites=false: a write whose connection breaks is answered `unavailable`");
    }
    return TW_OK;
}

tw_err mongo_link_check(const char *uri, char *why, size_t size)
{
    mongoc_uri_t *parsed = NULL;
    tw_err err = parse(uri, &parsed, why, size);
    if (err == TW_OK) {
        err = judge(parsed, why, size);
    }
    mongoc_uri_destroy(parsed);
    return err;
}

static void set_default(mongoc_uri_t *uri, const char *option, int32_t value)
{
    if (!mongoc_uri_has_option(uri, option)) {
        mongoc_uri_set_option_as_int32(uri, option, value);
    }
}

/* What a Tidewire wants where the operator has not said otherwise. */
static void complete(mongoc_uri_t *uri, mongo_link_use use)
{
    set_default(uri, MONGOC_URI_CONNECTTIMEOUTMS, MONGO_LINK_CONNECT_MS);
    set_default(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, MONGO_LINK_SELECT_MS);
    set_default(uri, MONGOC_URI_SOCKETTIMEOUTMS,
                use == MONGO_LINK_WRITES ? MONGO_LINK_WRITE_MS : MONGO_LINK_READ_MS);
    set_default(uri, MONGOC_URI_WAITQUEUETIMEOUTMS, MONGO_LINK_WAIT_MS);
    set_default(uri, MONGOC_URI_MAXPOOLSIZE, MONGO_LINK_CLIENTS_MAX);
    set_default(uri, MONGOC_URI_HEARTBEATFREQUENCYMS, 2000);
    if (!mongoc_uri_has_option(uri, MONGOC_URI_APPNAME)) {
        mongoc_uri_set_appname(uri, "tidewire");
    }
    if (!mongoc_uri_has_option(uri, MONGOC_URI_W)) {
        mongoc_write_concern_t *majority = mongoc_write_concern_new();
        mongoc_write_concern_set_wmajority(majority, MONGO_LINK_WRITE_MS - 200);
        mongoc_write_concern_set_journal(majority, true);
        mongoc_uri_set_write_concern(uri, majority);
        mongoc_write_concern_destroy(majority);
    }
    /* A writer reads what it is about to replace: that is on the primary, whoever else has it. */
    if (use == MONGO_LINK_READS &&
        mongoc_read_concern_get_level(mongoc_uri_get_read_concern(uri)) == NULL) {
        mongoc_read_concern_t *majority = mongoc_read_concern_new();
        mongoc_read_concern_set_level(majority, MONGOC_READ_CONCERN_LEVEL_MAJORITY);
        mongoc_uri_set_read_concern(uri, majority);
        mongoc_read_concern_destroy(majority);
    }
}

static void list_hosts(mongo_link *self, const mongoc_uri_t *uri)
{
    size_t len = 0;
    for (const mongoc_host_list_t *host = mongoc_uri_get_hosts(uri);
         host != NULL && len + 1 < sizeof self->hosts; host = host->next) {
        len += tw_format(self->hosts + len, sizeof self->hosts - len, "%s%s", len == 0 ? "" : ",",
                         host->host_and_port);
    }
    const char *service = mongoc_uri_get_srv_hostname(uri);
    if (service != NULL) {
        tw_format(self->hosts, sizeof self->hosts, "%s", service);
    }
}

static void free_pools(mongo_link *self)
{
    for (size_t use = 0; self != NULL && use < TW_COUNT(self->pools); use++) {
        if (self->pools[use] != NULL) {
            mongoc_client_pool_destroy(self->pools[use]);
        }
    }
}

tw_err mongo_link_new(mongo_link **out, const char *uri, char *why, size_t size)
{
    TW_ASSERT(uri != NULL && uri[0] != '\0');
    *out = NULL;
    mongoc_uri_t *given = NULL;
    tw_err err = parse(uri, &given, why, size);
    if (err == TW_OK) {
        err = judge(given, why, size);
    }
    mongo_link *self = err == TW_OK ? tw_alloc_zero(1, sizeof *self) : NULL;
    if (err == TW_OK && self == NULL) {
        err = TW_E_NO_MEMORY;
    }
    for (size_t use = 0; err == TW_OK && use < TW_COUNT(self->pools); use++) {
        bson_error_t error = {0};
        mongoc_uri_t *full = mongoc_uri_copy(given);
        complete(full, (mongo_link_use)use);
        self->magic = MONGO_LINK_MAGIC;
        self->pools[use] = mongoc_client_pool_new_with_error(full, &error);
        mongoc_uri_destroy(full);
        if (self->pools[use] == NULL) {
            err = refuse(why, size, error.message, "look at the MongoDB URI's options");
        } else {
            mongoc_client_pool_set_error_api(self->pools[use], MONGOC_ERROR_API_VERSION_2);
        }
    }
    if (err == TW_OK) {
        tw_rwlock_init(&self->lock);
        list_hosts(self, given);
        *out = self;
    } else {
        free_pools(self);
        tw_free(self);
    }
    mongoc_uri_destroy(given);
    return err;
}

void mongo_link_free(mongo_link **link)
{
    mongo_link *self = *link;
    *link = NULL;
    if (self == NULL) {
        return;
    }
    free_pools(self);
    tw_rwlock_fini(&self->lock);
    tw_free(self->expected);
    tw_free(self);
}

mongoc_client_t *mongo_link_take(mongo_link *self, mongo_link_use use)
{
    TW_ASSERT(self != NULL && self->magic == MONGO_LINK_MAGIC);
    return mongoc_client_pool_pop(self->pools[use]);
}

void mongo_link_give_back(mongo_link *self, mongo_link_use use, mongoc_client_t **client)
{
    TW_ASSERT(self != NULL && self->magic == MONGO_LINK_MAGIC);
    if (*client != NULL) {
        mongoc_client_pool_push(self->pools[use], *client);
        *client = NULL;
    }
}

const char *mongo_link_hosts(const mongo_link *self)
{
    TW_ASSERT(self != NULL && self->magic == MONGO_LINK_MAGIC);
    return self->hosts;
}

/* ---- errors ---- */

/* Codes of the server: its number, what it means to an asker, whether a write that got it may have
 * had its effect.                                  Source  MongoDB's error_codes.yml */
static const struct {
    uint32_t code;
    tw_err err;
    bool doubtful;
} server_codes[] = {
    {2, TW_E_BAD_QUERY, false},        /* BadValue */
    {6, TW_E_UNAVAILABLE, true},       /* HostUnreachable */
    {7, TW_E_UNAVAILABLE, true},       /* HostNotFound */
    {9, TW_E_BAD_QUERY, false},        /* FailedToParse */
    {11, TW_E_UNAVAILABLE, false},     /* UserNotFound */
    {13, TW_E_FORBIDDEN, false},       /* Unauthorized */
    {14, TW_E_BAD_QUERY, false},       /* TypeMismatch */
    {16, TW_E_BAD_QUERY, false},       /* InvalidLength */
    {18, TW_E_UNAVAILABLE, false},     /* AuthenticationFailed */
    {26, TW_E_NOT_FOUND, false},       /* NamespaceNotFound */
    {28, TW_E_BAD_UPDATE, false},      /* PathNotViable */
    {40, TW_E_BAD_UPDATE, false},      /* ConflictingUpdateOperators */
    {50, TW_E_TOO_COSTLY, true},       /* MaxTimeMSExpired */
    {52, TW_E_BAD_DOCUMENT, false},    /* DollarPrefixedFieldName */
    {64, TW_E_UNAVAILABLE, true},      /* WriteConcernFailed */
    {66, TW_E_BAD_UPDATE, false},      /* ImmutableField */
    {73, TW_E_BAD_MESSAGE, false},     /* InvalidNamespace */
    {89, TW_E_UNAVAILABLE, true},      /* NetworkTimeout */
    {91, TW_E_UNAVAILABLE, true},      /* ShutdownInProgress */
    {112, TW_E_BUSY, false},           /* WriteConflict */
    {121, TW_E_BAD_DOCUMENT, false},   /* DocumentValidationFailure */
    {189, TW_E_UNAVAILABLE, true},     /* PrimarySteppedDown */
    {225, TW_E_UNAVAILABLE, false},    /* TransactionTooOld */
    {251, TW_E_BUSY, false},           /* NoSuchTransaction */
    {262, TW_E_UNAVAILABLE, true},     /* ExceededTimeLimit */
    {263, TW_E_UNSUPPORTED, false},    /* OperationNotSupportedInTransaction */
    {292, TW_E_TOO_COSTLY, false},     /* QueryExceededMemoryLimitNoDiskUseAllowed */
    {9001, TW_E_UNAVAILABLE, true},    /* SocketException */
    {10107, TW_E_UNAVAILABLE, false},  /* NotWritablePrimary */
    {10334, TW_E_TOO_BIG, false},      /* BSONObjectTooLarge */
    {11000, TW_E_CONFLICT, false},     /* DuplicateKey */
    {11600, TW_E_UNAVAILABLE, true},   /* InterruptedAtShutdown */
    {11602, TW_E_UNAVAILABLE, true},   /* InterruptedDueToReplStateChange */
    {13435, TW_E_UNAVAILABLE, false},  /* NotPrimaryNoSecondaryOk */
    {13436, TW_E_UNAVAILABLE, false},  /* NotPrimaryOrSecondary */
    {16755, TW_E_BAD_DOCUMENT, false}, /* an index cannot hold the value */
    {17280, TW_E_TOO_BIG, false},      /* KeyTooLong */
    {17419, TW_E_TOO_BIG, false},      /* the document would be too large after the update */
};

static bool is_of_network(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_STREAM || error->domain == MONGOC_ERROR_SERVER_SELECTION ||
           (error->domain == MONGOC_ERROR_CLIENT &&
            (error->code == MONGOC_ERROR_CLIENT_NOT_READY ||
             error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ||
             error->code == MONGOC_ERROR_CLIENT_NO_ACCEPTABLE_PEER ||
             error->code == MONGOC_ERROR_CLIENT_SESSION_FAILURE));
}

tw_err mongo_link_error(const bson_error_t *error, const bson_t *reply, char *text, size_t size)
{
    TW_ASSERT(error != NULL && size > 0);
    tw_format(text, size, "MongoDB: %s",
              error->message[0] == '\0' ? "no reason was given" : error->message);
    if (is_of_network(error)) {
        return TW_E_UNAVAILABLE;
    }
    for (size_t i = 0; i < TW_COUNT(server_codes); i++) {
        if (server_codes[i].code == error->code) {
            return server_codes[i].err;
        }
    }
    bool may_pass = reply != NULL && (mongoc_error_has_label(reply, "TransientTransactionError") ||
                                      mongoc_error_has_label(reply, "RetryableWriteError"));
    return may_pass ? TW_E_UNAVAILABLE : TW_E_INTERNAL;
}

bool mongo_link_is_doubtful(const bson_error_t *error)
{
    if (error->domain == MONGOC_ERROR_STREAM) {
        return true;
    }
    for (size_t i = 0; i < TW_COUNT(server_codes); i++) {
        if (server_codes[i].code == error->code) {
            return server_codes[i].doubtful;
        }
    }
    return false;
}

uint64_t mongo_link_clock_ms(void)
{
    return (uint64_t)bson_get_monotonic_time() / 1000;
}

bool mongo_link_is_down(const mongo_link_health *health, char *text)
{
    bool down = mongo_link_clock_ms() < health->until_ms;
    if (down) {
        tw_format(text, TW_ERROR_TEXT_MAX, "%s", health->why);
    }
    return down;
}

void mongo_link_tried(mongo_link_health *health, const char *who, tw_err err, const char *text)
{
    if (err != TW_E_UNAVAILABLE) {
        if (health->why[0] != '\0') {
            tw_log(TW_LOG_INFO, who, "MongoDB answers again");
        }
        health->why[0] = '\0';
        health->until_ms = 0;
        return;
    }
    health->failures++;
    if (health->why[0] == '\0') {
        tw_log(TW_LOG_WARN, who, "MongoDB does not serve: %s", text);
    }
    tw_format(health->why, sizeof health->why, "%s", text[0] == '\0' ? tw_err_text(err) : text);
    health->until_ms = mongo_link_clock_ms() + MONGO_LINK_DOWN_MS;
}

/* ---- views ---- */

void mongo_link_view(bson_t *out, tw_bson doc)
{
    static const uint8_t empty[5] = {5, 0, 0, 0, 0};
    bool good = doc.len == 0 ? bson_init_static(out, empty, sizeof empty)
                             : bson_init_static(out, doc.ptr, doc.len);
    TW_ASSERT(good); /* decode has checked the outer length */
}

tw_bson mongo_link_doc(const bson_t *doc)
{
    return (tw_bson){bson_get_data(doc), doc->len};
}

/* ---- positions ---- */

uint64_t mongo_link_seqno(uint32_t seconds, uint32_t increment)
{
    return position_of_cluster_time(seconds, increment);
}

static uint64_t draw_srv_id(void)
{
    uint8_t random[12];
    uint64_t bits = 0;
    tw_oid_new(random);
    memcpy(&bits, random + 4, 8); /* the five random bytes of the process, and the count */
    return (tw_hash(random, sizeof random, bits) & TW_SEQNO_MAX) | 1;
}

tw_err mongo_link_origin(mongoc_client_t *client, uint64_t *srv_id, char *text, size_t size)
{
    bson_error_t error = {0};
    bson_t reply = BSON_INITIALIZER;
    bson_t *command = BCON_NEW("findAndModify", BCON_UTF8(MONGO_LINK_META), "query", "{", "_id",
                               BCON_UTF8("origin"), "}", "update", "{", "$setOnInsert", "{",
                               "srv_id", BCON_INT64((int64_t)draw_srv_id()), "}", "}", "upsert",
                               BCON_BOOL(true), "new", BCON_BOOL(true));
    bson_destroy(&reply);
    bool done = mongoc_client_read_write_command_with_opts(client, MONGO_LINK_DATABASE, command,
                                                           NULL, NULL, &reply, &error);
    tw_err err = done ? TW_OK : mongo_link_error(&error, &reply, text, size);
    if (done) {
        tw_bson kept = tw_bson_get_doc(mongo_link_doc(&reply), TW_STR("value"));
        int64_t number = tw_bson_get_i64_or(kept, TW_STR("srv_id"), 0);
        if (number <= 0 || (uint64_t)number > TW_SEQNO_MAX) {
            tw_format(text, size, "%s.%s {_id: \"origin\"} holds no srv_id", MONGO_LINK_DATABASE,
                      MONGO_LINK_META);
            err = TW_E_CORRUPT;
        }
        *srv_id = (uint64_t)number;
    }
    bson_destroy(command);
    bson_destroy(&reply);
    return err;
}

/* ---- who wrote it ---- */

/* A table in which a write stands in one of the EXPECTED_NEAR slots from its hash on. */
enum { EXPECTED_NEAR = 16 };

static uint64_t expected_hash(tw_str db, tw_str coll, tw_key key, int64_t version)
{
    uint64_t hash = tw_hash(db.ptr, db.len, (uint64_t)version);
    hash = tw_hash(coll.ptr, coll.len, hash);
    hash = tw_hash(key.ptr, key.len, hash);
    return hash == 0 ? 1 : hash;
}

/* The slot of a hash; NULL: none. Holding the lock. */
static expected *expected_find(mongo_link *self, uint64_t hash)
{
    for (size_t i = 0; self->expected != NULL && i < EXPECTED_NEAR; i++) {
        expected *at = &self->expected[(hash + i) % MONGO_LINK_EXPECTED_MAX];
        if (at->hash == hash) {
            return at;
        }
    }
    return NULL;
}

/* A slot to be filled: a free one, else one in turn, whose write is forgotten. */
static expected *expected_find_free(mongo_link *self, uint64_t hash)
{
    for (size_t i = 0; i < EXPECTED_NEAR; i++) {
        expected *at = &self->expected[(hash + i) % MONGO_LINK_EXPECTED_MAX];
        if (at->hash == 0) {
            return at;
        }
    }
    return &self->expected[(hash + self->expected_next++ % EXPECTED_NEAR) %
                           MONGO_LINK_EXPECTED_MAX];
}

void mongo_link_expect(mongo_link *self, tw_str db, tw_str coll, tw_key key, int64_t version,
                       tw_str origin)
{
    TW_ASSERT(self != NULL && self->magic == MONGO_LINK_MAGIC);
    if (origin.len == 0 || origin.len > TW_OPID_MAX) {
        return;
    }
    uint64_t hash = expected_hash(db, coll, key, version);
    tw_rwlock_write(&self->lock);
    if (self->expected == NULL) {
        self->expected = tw_alloc_zero(MONGO_LINK_EXPECTED_MAX, sizeof *self->expected);
    }
    if (self->expected != NULL) {
        expected *at = expected_find(self, hash);
        at = at == NULL ? expected_find_free(self, hash) : at;
        at->hash = hash;
        at->len = (uint8_t)origin.len;
        memcpy(at->origin, origin.ptr, origin.len);
    }
    tw_rwlock_done(&self->lock);
}

void mongo_link_expect_no_more(mongo_link *self, tw_str db, tw_str coll, tw_key key,
                               int64_t version)
{
    char unused[TW_OPID_MAX];
    (void)mongo_link_expected(self, db, coll, key, version, unused);
}

size_t mongo_link_expected(mongo_link *self, tw_str db, tw_str coll, tw_key key, int64_t version,
                           char out[TW_OPID_MAX])
{
    TW_ASSERT(self != NULL && self->magic == MONGO_LINK_MAGIC);
    size_t len = 0;
    tw_rwlock_write(&self->lock);
    expected *at = expected_find(self, expected_hash(db, coll, key, version));
    if (at != NULL) {
        len = at->len;
        memcpy(out, at->origin, len);
        at->hash = 0;
    }
    tw_rwlock_done(&self->lock);
    return len;
}

/* ---- records ---- */

static int64_t version_of(const catalog_collection *rules, tw_bson stored)
{
    int64_t version = tw_bson_get_i64_or(stored, tw_str_of(rules->version_field), 0);
    return version > 0 ? version : 0;
}

static tw_err without_id(tw_arena *arena, tw_bson stored, tw_bson *doc)
{
    tw_buf out;
    tw_bson_builder b;
    tw_bson_iter i;
    tw_buf_init(&out, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &out);
    for (tw_bson_iter_init(&i, stored); tw_bson_iter_next(&i);) {
        if (!tw_str_equal(i.name, TW_STR("_id"))) {
            tw_bson_add_value(&b, i.name, i.value);
        }
    }
    tw_bson made = tw_bson_end(&b);
    *doc = out.err == TW_OK ? tw_arena_bson(arena, made) : (tw_bson){0};
    tw_buf_fini(&out);
    return doc->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err mongo_link_record(const catalog_collection *rules, tw_arena *arena, tw_bson stored,
                         tw_key *key, int64_t *version, tw_bson *doc)
{
    tw_err err = tw_key_of_value(arena, tw_bson_get(stored, TW_STR("_id")), key);
    *version = version_of(rules, stored);
    *doc = stored;
    tw_bson_value own = tw_bson_get(stored, tw_str_of(rules->key));
    tw_key also;
    if (err != TW_OK || strcmp(rules->key, "_id") == 0 || own.type == 0 ||
        tw_key_of_value(arena, own, &also) != TW_OK || !tw_key_equal(*key, also)) {
        return err;
    }
    return without_id(arena, stored, doc);
}

size_t mongo_link_types_above(uint8_t type, int32_t out[MONGO_LINK_TYPES_MAX])
{
    static const uint8_t types[] = {
        TW_BSON_DOUBLE,    TW_BSON_STRING,    TW_BSON_DOCUMENT,   TW_BSON_BINARY,
        TW_BSON_OBJECT_ID, TW_BSON_BOOL,      TW_BSON_DATE,       TW_BSON_NULL,
        TW_BSON_REGEX,     TW_BSON_CODE,      TW_BSON_SYMBOL,     TW_BSON_INT32,
        TW_BSON_INT64,     TW_BSON_TIMESTAMP, TW_BSON_DECIMAL128, TW_BSON_MAX_KEY,
    }; /* the minimal key is above none */
    static_assert(TW_COUNT(types) <= MONGO_LINK_TYPES_MAX, "all of them fit");
    size_t count = 0;
    for (size_t i = 0; i < TW_COUNT(types); i++) {
        if (tw_bson_bracket(types[i]) > tw_bson_bracket(type)) {
            out[count++] = types[i];
        }
    }
    return count;
}

bool mongo_link_is_reserved(tw_str database)
{
    static const char *const reserved[] = {MONGO_LINK_DATABASE, "admin", "config", "local"};
    for (size_t i = 0; i < TW_COUNT(reserved); i++) {
        if (tw_str_equal(database, tw_str_of(reserved[i]))) {
            return true;
        }
    }
    return false;
}
