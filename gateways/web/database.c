/* database.c - realtime database events in, answers out; see database.h.
 *
 * Invariants
 * 1. An event is looked at field by field here, so that what is refused is named in its own
 *    words; the engine knows nothing of events.
 * 2. A record without a key gets one of 32 hex digits, as text: it is a key of IndexedDB too, and
 *    no spelling of an ObjectId.
 * 3. DB_SCHEMA is answered before the first event of the stream that it opens. */
#include "gateways/web/database.h"

#include "broker/topic_query.h"

#include "gateways/web/websocket.h"

enum {
    DATABASE_MAGIC = 0x0da7aba5,
    CLIENT_MAX = 48,    /* bytes: with a slash and a reqID it is an origin */
    CLIENT_DRAWN = 16,  /* hex digits of a name that the server gives */
    KEY_DRAWN = 32,     /* hex digits of a key that the server gives */
    REPLY_MAX = 1 << 20 /* bytes of an answer: a schema of all collections */
};

static_assert((int)CLIENT_MAX + 1 + (int)TW_MUX_ID_MAX + 2 <= (int)TW_OPID_MAX, "an origin fits");

/* A DB_SCHEMA whose answer is awaited. */
typedef struct pending {
    struct pending *next;
    tw_bson message; /* view into bytes */
    uint8_t bytes[];
} pending;

/* What a connection that speaks in events has besides. */
struct database_state {
    uint32_t magic;
    size_t pending_count;
    pending *first; /* own */
    char client[CLIENT_MAX + 1];
};

/* ---- what an event may hold ---- */

enum field_bits {
    HAS_COLLECTION = 1,
    HAS_RECORD = 2,
    HAS_KEY = 4,
    HAS_IF_VERSION = 8,
    HAS_OPID = 16,
    HAS_DISPATCH = 32,
    HAS_CLIENT = 64,
    HAS_VERSION = 128,
    HAS_SINCE = 256,
    HAS_QUERY = 512,
    HAS_WRITE = HAS_OPID | HAS_DISPATCH,
};

static const struct {
    const char *name;
    unsigned bit; /* 0: every event */
} fields[] = {
    {"event", 0},
    {"db", 0},
    {"reqID", 0},
    {"collection", HAS_COLLECTION},
    {"record", HAS_RECORD},
    {"key", HAS_KEY},
    {"if_version", HAS_IF_VERSION},
    {"opid", HAS_OPID},
    {"dispatch", HAS_DISPATCH},
    {"client", HAS_CLIENT},
    {"version", HAS_VERSION},
    {"since", HAS_SINCE},
    {"query", HAS_QUERY},
};

typedef struct event_row event_row;
typedef void (*event_run)(edge *self, connection *conn, tw_bson message, const event_row *row);
struct event_row {
    const char *name;
    const char *action; /* of the engine; NULL: none */
    unsigned allowed;   /* field_bits */
    unsigned required;
    event_run run;
};

/* A field of the message that is fit to be given back: text or a number that is not too long. */
static tw_str echo(tw_bson message, const char *name, tw_buf *text)
{
    tw_buf_init(text, 4096);
    bool good = wire_mux_id(text, tw_bson_get(message, tw_str_of(name))) == TW_OK;
    return good ? tw_buf_str(text) : (tw_str){NULL, 0};
}

static const char *what_is_wrong(tw_str name, tw_bson_value value)
{
    int64_t number = 0;
    if (tw_str_equal(name, TW_STR("db")) || tw_str_equal(name, TW_STR("collection"))) {
        bool good = catalog_check_name(tw_bson_value_str(value)) == TW_OK;
        return good ? NULL : "a name";
    }
    if (tw_str_equal(name, TW_STR("record"))) {
        return value.type == TW_BSON_DOCUMENT ? NULL : "an object";
    }
    if (tw_str_equal(name, TW_STR("version"))) {
        bool good = tw_bson_value_i64(value, &number) && number >= 0;
        return good ? NULL : "a whole number, 0 or more";
    }
    if (tw_str_equal(name, TW_STR("client"))) {
        size_t len = tw_bson_value_str(value).len;
        return len > 0 && len <= CLIENT_MAX ? NULL : "text of 1 to 48 bytes";
    }
    if (tw_str_equal(name, TW_STR("query"))) {
        return tw_bson_value_str(value).ptr != NULL ? NULL : "text";
    }
    return NULL; /* what is left is the engine's, or read_since's */
}

static tw_err check_field(const event_row *row, tw_str name, tw_bson_value value, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    for (size_t i = 0; i < TW_COUNT(fields); i++) {
        if (!tw_str_equal(name, tw_str_of(fields[i].name))) {
            continue;
        }
        if (fields[i].bit != 0 && (row->allowed & fields[i].bit) == 0) {
            break;
        }
        const char *wanted = what_is_wrong(name, value);
        return wanted == NULL ? TW_OK
                              : broker_refuse(why, TW_E_BAD_MESSAGE, "\"%s\" is to be %s.",
                                              fields[i].name, wanted);
    }
    broker_show(name, shown);
    return broker_refuse(why, TW_E_BAD_MESSAGE, "%s has no field \"%s\".", row->name, shown);
}

static tw_err check_event(const event_row *row, tw_bson message, broker_why *why)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, message); tw_bson_iter_next(&iter);) {
        tw_err err = check_field(row, iter.name, iter.value, why);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_buf req;
    uint8_t type = tw_bson_get(message, TW_STR("reqID")).type;
    bool fit = echo(message, "reqID", &req).ptr != NULL || type == 0 || type == TW_BSON_NULL;
    tw_buf_fini(&req);
    if (!fit) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "\"reqID\" is to be a number or text of at most %d bytes.",
                             TW_MUX_ID_MAX);
    }
    for (size_t i = 0; i < TW_COUNT(fields); i++) {
        bool needed = strcmp(fields[i].name, "db") == 0 || (row->required & fields[i].bit) != 0;
        if (needed && tw_bson_get(message, tw_str_of(fields[i].name)).type == 0) {
            return broker_refuse(why, TW_E_BAD_MESSAGE, "%s needs \"%s\".", row->name,
                                 fields[i].name);
        }
    }
    return TW_OK;
}

/* ---- answers ---- */

static void refuse(edge *self, connection *conn, tw_bson message, tw_err err, const char *text,
                   const char *hint)
{
    tw_buf req;
    tw_str db = tw_bson_get_str(message, TW_STR("db"));
    bool named = db.ptr != NULL && db.len <= TW_NAME_MAX;
    const wire_refusal refusal = {.req_id = echo(message, "reqID", &req),
                                  .event = tw_bson_get_str(message, TW_STR("event")),
                                  .db = named ? db : (tw_str){NULL, 0},
                                  .code = err,
                                  .message = tw_str_of(text),
                                  .hint = tw_str_of(hint)};
    tw_buf_clear(&self->text);
    wire_error(&self->text, &refusal);
    tw_buf_fini(&req);
    if (self->text.err != TW_OK) {
        streams_send(self->streams, &conn->streams, NULL); /* sheds the connection */
    } else {
        streams_send_text(self->streams, &conn->streams, tw_buf_str(&self->text));
    }
}

static const event_row *row_of_action(tw_str action);

/* The engine's reply in the words of events. with: further fields; len 0: none. */
static bool answer(edge *self, connection *conn, tw_bson reply, const char *event, tw_bson with)
{
    const event_row *row = row_of_action(tw_bson_get_str(reply, TW_STR("action")));
    bool failed = tw_bson_get_str(reply, TW_STR("type")).ptr != NULL;
    tw_buf buf;
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_init(&buf, REPLY_MAX);
    tw_bson_begin(&b, &buf);
    if (!failed) {
        tw_bson_add_str(&b, TW_STR("event"), tw_str_of(event));
    }
    for (tw_bson_iter_init(&iter, reply); tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("action"))) {
            tw_str name = failed ? TW_STR("event") : TW_STR("of");
            if (row != NULL && (failed || with.len == 0)) {
                tw_bson_add_str(&b, name, tw_str_of(row->name));
            }
        } else if (tw_str_equal(iter.name, TW_STR("database"))) {
            tw_bson_add_value(&b, TW_STR("db"), iter.value);
        } else {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    if (with.len > 0) {
        tw_bson_add_all(&b, with);
    }
    tw_bson told = tw_bson_end(&b);
    bool on = true;
    if (buf.err == TW_OK) {
        on = websocket_reply(self, conn, told);
    } else {
        refuse(self, conn, (tw_bson){NULL, 0}, buf.err, "", "");
    }
    tw_buf_fini(&buf);
    return on;
}

static bool on_written(void *context, uint64_t tag, tw_bson reply, bool final)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    (void) final;
    connection *conn = edge_find(self, tag);
    return conn == NULL || conn->closing || answer(self, conn, reply, "DB_DONE", (tw_bson){0});
}

/* ---- names and keys that the server gives ---- */

static void draw(edge *self, char *out, size_t digits)
{
    static const char hex[] = "0123456789abcdef";
    TW_ASSERT(digits % 16 == 0);
    for (size_t i = 0; i < digits; i += 16) {
        uint64_t bits = tw_random(self->actor);
        for (size_t k = 0; k < 16; k++, bits >>= 4) {
            out[i + k] = hex[bits & 15];
        }
    }
    out[digits] = '\0';
}

static struct database_state *state_of(edge *self, connection *conn)
{
    struct database_state *state = conn->database;
    if (state == NULL) {
        state = tw_alloc_zero(1, sizeof(*state));
        if (state == NULL) {
            return NULL;
        }
        state->magic = DATABASE_MAGIC;
        draw(self, state->client, CLIENT_DRAWN);
        conn->database = state;
    }
    TW_ASSERT(state->magic == DATABASE_MAGIC);
    return state;
}

void database_gone(connection *conn)
{
    struct database_state *state = conn->database;
    conn->database = NULL;
    while (state != NULL && state->first != NULL) {
        pending *gone = state->first;
        state->first = gone->next;
        tw_free(gone);
    }
    tw_free(state);
}

/* ---- writes ---- */

/* CLIENT/reqID, or CLIENT: by it a listener knows its own events again. */
static void add_origin(tw_bson_builder *b, const struct database_state *state, tw_bson message)
{
    char origin[TW_OPID_MAX + 1];
    tw_bson_value id = tw_bson_get(message, TW_STR("reqID"));
    tw_buf req;
    tw_str text = echo(message, "reqID", &req);
    if (id.type == TW_BSON_STRING && text.ptr != NULL) {
        text = tw_bson_value_str(id);
    }
    size_t len = tw_format(origin, sizeof(origin), "%s%s%.*s", state->client,
                           text.len > 0 ? "/" : "", (int)text.len, text.len > 0 ? text.ptr : "");
    tw_bson_add_str(b, TW_STR("origin"), (tw_str){origin, len});
    tw_buf_fini(&req);
}

static void add_record(edge *self, tw_bson_builder *b, tw_bson record,
                       const catalog_collection *rules)
{
    tw_bson_open_doc(b, TW_STR("doc"));
    if (rules != NULL && tw_bson_get(record, tw_str_of(rules->key)).type == 0) {
        char key[KEY_DRAWN + 1];
        draw(self, key, KEY_DRAWN);
        tw_bson_add_str(b, tw_str_of(rules->key), tw_str_of(key));
    }
    tw_bson_add_all(b, record);
    tw_bson_close(b);
}

/* The key of a deletion: given, or that of the record. */
static tw_err read_key(tw_bson message, const catalog_collection *rules, tw_bson_value *out,
                       broker_why *why)
{
    tw_bson_value given = tw_bson_get(message, TW_STR("key"));
    tw_bson_value record = tw_bson_get(message, TW_STR("record"));
    *out = given;
    if ((given.type == 0) == (record.type == 0)) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "DB_RECORD_DELETE needs \"key\" or \"record\"%s.",
                             given.type == 0 ? "" : ", and only one");
    }
    if (given.type == 0 && rules != NULL) {
        *out = tw_bson_get(tw_bson_value_doc(record), tw_str_of(rules->key));
    }
    if (out->type == 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "The record has no \"%s\".",
                             rules == NULL ? "_id" : rules->key);
    }
    return TW_OK;
}

static void add_passed(tw_bson_builder *b, tw_bson message)
{
    static const char *const passed[] = {"reqID", "collection", "if_version", "opid", "dispatch"};
    for (size_t i = 0; i < TW_COUNT(passed); i++) {
        tw_bson_value value = tw_bson_get(message, tw_str_of(passed[i]));
        if (value.type != 0) {
            tw_bson_add_value(b, tw_str_of(passed[i]), value);
        }
    }
    tw_bson_add_value(b, TW_STR("database"), tw_bson_get(message, TW_STR("db")));
}

/* The event as a request of the engine, in out. */
static tw_err write_request(edge *self, connection *conn, tw_bson message, const event_row *row,
                            tw_buf *out, broker_why *why)
{
    const struct database_state *state = state_of(self, conn);
    if (state == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_str db = tw_bson_get_str(message, TW_STR("db"));
    tw_str coll = tw_bson_get_str(message, TW_STR("collection"));
    bool one = coll.ptr != NULL;
    const catalog_collection *rules = one ? catalog_rules(self->options->catalog, db, coll) : NULL;
    tw_bson_value key = {0};
    if ((row->allowed & HAS_KEY) != 0) {
        tw_err err = read_key(message, rules, &key, why);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_bson_builder b;
    tw_bson_begin(&b, out);
    tw_bson_add_str(&b, TW_STR("action"), tw_str_of(row->action));
    add_passed(&b, message);
    add_origin(&b, state, message);
    if (key.type != 0) {
        tw_bson_add_value(&b, TW_STR("key"), key);
    } else if ((row->allowed & HAS_RECORD) != 0) {
        add_record(self, &b, tw_bson_get_doc(message, TW_STR("record")), rules);
    }
    (void)tw_bson_end(&b);
    return out->err;
}

static void run_write(edge *self, connection *conn, tw_bson message, const event_row *row)
{
    broker_why why = {0};
    tw_buf asked;
    tw_buf_init(&asked, TW_DOCUMENT_MAX);
    tw_err err = write_request(self, conn, message, row, &asked, &why);
    if (err == TW_OK) {
        tw_bson request = {(const uint8_t *)asked.ptr, asked.len};
        request_run(self->requests, conn->streams.rights, request, on_written, self, conn->id);
    } else {
        refuse(self, conn, message, err, why.text, "");
    }
    tw_buf_fini(&asked);
}

/* ---- DB_SCHEMA and DB_CLOSE ---- */

static bool same_value(tw_bson_value a, tw_bson_value b)
{
    return a.type == b.type && a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Takes the DB_SCHEMA that a reply answers off the list. */
static pending *take_pending(struct database_state *state, tw_bson reply)
{
    tw_bson_value id = tw_bson_get(reply, TW_STR("reqID"));
    tw_str db = tw_bson_get_str(reply, TW_STR("database"));
    for (pending **at = &state->first; *at != NULL; at = &(*at)->next) {
        pending *found = *at;
        if (tw_str_equal(tw_bson_get_str(found->message, TW_STR("db")), db) &&
            same_value(tw_bson_get(found->message, TW_STR("reqID")), id)) {
            *at = found->next;
            state->pending_count--;
            return found;
        }
    }
    return NULL;
}

/* True where the client says that its copy is of another version of the schema. */
static bool is_other_version(tw_bson message, tw_bson reply)
{
    tw_bson_value has = tw_bson_get(message, TW_STR("version"));
    int64_t version = 0;
    return tw_bson_value_i64(has, &version) &&
           version != tw_bson_get_i64_or(reply, TW_STR("version"), 0);
}

static void listen(edge *self, connection *conn, const pending *asked, tw_bson reply)
{
    bool anew = is_other_version(asked->message, reply);
    tw_buf more;
    tw_bson_builder b;
    tw_buf_init(&more, 4096);
    tw_bson_begin(&b, &more);
    tw_bson_add_str(&b, TW_STR("client"), tw_str_of(conn->database->client));
    tw_bson_add_bool(&b, TW_STR("changed"), anew);
    tw_bson with = tw_bson_end(&b);
    (void)answer(self, conn, reply, "DB_SCHEMA", more.err == TW_OK ? with : (tw_bson){0});
    tw_buf_fini(&more);
    broker_why why = {0};
    tw_arena_reset(&self->arena);
    tw_err err = self->draining ? TW_E_DRAINING
                                : streams_listen(self->streams, &conn->streams, &self->arena,
                                                 asked->message, anew, &why);
    if (err != TW_OK) {
        refuse(self, conn, asked->message, err, why.text, "");
    }
}

static bool on_schema(void *context, uint64_t tag, tw_bson reply, bool final)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    (void) final;
    connection *conn = edge_find(self, tag);
    if (conn == NULL || conn->closing || conn->database == NULL) {
        return true;
    }
    pending *asked = take_pending(conn->database, reply);
    bool failed = tw_bson_get_str(reply, TW_STR("type")).ptr != NULL;
    if (failed || asked == NULL) {
        (void)answer(self, conn, reply, "DB_SCHEMA", (tw_bson){0});
    } else {
        listen(self, conn, asked, reply);
    }
    tw_free(asked);
    return true;
}

static tw_err add_pending(struct database_state *state, tw_bson message)
{
    if (state->pending_count >= TW_SCHEMAS_PENDING_MAX) {
        return TW_E_BUSY;
    }
    pending *made = tw_alloc(sizeof(*made) + message.len);
    if (made == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(made->bytes, message.ptr, message.len);
    made->message = (tw_bson){made->bytes, message.len};
    made->next = NULL;
    pending **last = &state->first;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = made;
    state->pending_count++;
    return TW_OK;
}

static void run_schema(edge *self, connection *conn, tw_bson message, const event_row *row)
{
    broker_why why = {0};
    struct database_state *state = state_of(self, conn);
    tw_err err = state == NULL ? TW_E_NO_MEMORY : streams_listen_check(&self->arena, message, &why);
    if (err == TW_OK && self->draining) {
        err = TW_E_DRAINING;
    }
    if (err == TW_OK) {
        err = add_pending(state, message);
    }
    if (err != TW_OK) {
        refuse(self, conn, message, err, why.text, "");
        return;
    }
    tw_str client = tw_bson_get_str(message, TW_STR("client"));
    if (client.ptr != NULL) {
        tw_format(state->client, sizeof(state->client), "%.*s", (int)client.len, client.ptr);
    }
    tw_buf asked;
    tw_bson_builder b;
    tw_buf_init(&asked, 4096);
    tw_bson_begin(&b, &asked);
    tw_bson_add_str(&b, TW_STR("action"), tw_str_of(row->action));
    add_passed(&b, message);
    tw_bson request = tw_bson_end(&b);
    if (asked.err == TW_OK) {
        request_run(self->requests, conn->streams.rights, request, on_schema, self, conn->id);
    } else {
        streams_send(self->streams, &conn->streams, NULL); /* sheds the connection */
    }
    tw_buf_fini(&asked);
}

static void run_close(edge *self, connection *conn, tw_bson message, const event_row *row)
{
    broker_why why = {0};
    (void)row;
    tw_str db = tw_bson_get_str(message, TW_STR("db"));
    tw_err err = streams_unlisten(self->streams, &conn->streams, db, &why);
    if (err != TW_OK) {
        refuse(self, conn, message, err, why.text, "");
    }
}

/* ---- the table ---- */

const char database_events[] =
    "DB_RECORD_ADD, DB_RECORD_PUT, DB_RECORD_DELETE, DB_COLLECTION_DROP, "
    "DB_DATABASE_DROP, DB_SCHEMA, DB_CLOSE";

static const event_row rows[] = {
    {"DB_RECORD_ADD", "insert", HAS_COLLECTION | HAS_RECORD | HAS_WRITE,
     HAS_COLLECTION | HAS_RECORD, run_write},
    {"DB_RECORD_PUT", "put", HAS_COLLECTION | HAS_RECORD | HAS_IF_VERSION | HAS_WRITE,
     HAS_COLLECTION | HAS_RECORD, run_write},
    {"DB_RECORD_DELETE", "remove",
     HAS_COLLECTION | HAS_RECORD | HAS_KEY | HAS_IF_VERSION | HAS_WRITE, HAS_COLLECTION, run_write},
    {"DB_COLLECTION_DROP", "drop", HAS_COLLECTION | HAS_WRITE, HAS_COLLECTION, run_write},
    {"DB_DATABASE_DROP", "drop_database", HAS_WRITE, 0, run_write},
    {"DB_SCHEMA", "schema", HAS_CLIENT | HAS_VERSION | HAS_SINCE | HAS_QUERY, 0, run_schema},
    {"DB_CLOSE", NULL, 0, 0, run_close},
};

static const event_row *row_of_action(tw_str action)
{
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        if (rows[i].action != NULL && tw_str_equal(tw_str_of(rows[i].action), action)) {
            return &rows[i];
        }
    }
    return NULL;
}

bool database_event(edge *self, connection *conn, tw_bson message, tw_str event)
{
    const event_row *row = NULL;
    for (size_t i = 0; i < TW_COUNT(rows) && row == NULL; i++) {
        row = tw_str_equal(tw_str_of(rows[i].name), event) ? &rows[i] : NULL;
    }
    if (row == NULL) {
        return false;
    }
    broker_why why = {0};
    tw_err err = check_event(row, message, &why);
    if (err != TW_OK) {
        refuse(self, conn, message, err, why.text, "");
    } else {
        row->run(self, conn, message, row);
    }
    return true;
}
