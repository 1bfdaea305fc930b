/* websocket.c - frames in, families told apart, answers out.
 *
 * `type` streams (streams.h), `action` data access (request/request.h) and `watch` (a change
 * stream), `event` the realtime database. A message that belongs to no family gets an error and has
 * no effect; TW_BAD_FRAMES_MAX in a row end the connection. */
#include "gateways/web/websocket.h"

#include "broker/position.h"

#include "gateways/web/admission.h"
#include "gateways/web/database.h"
#include "gateways/web/identity.h"

enum { WEBSOCKET_USER_MS = 5000 }; /* told to one too many of a user: when to come again */

typedef struct verb {
    const char *name;
    void (*run)(edge *self, connection *conn, tw_bson message);
} verb;

/* ---- answers ---- */

static void send_text(edge *self, connection *conn)
{
    if (self->text.err != TW_OK) {
        conn->streams.failed = true;
        streams_send(self->streams, &conn->streams, NULL);
        return;
    }
    streams_send_text(self->streams, &conn->streams, tw_buf_str(&self->text));
}

static void send_error(edge *self, connection *conn, const wire_refusal *refusal)
{
    tw_buf_clear(&self->text);
    wire_error(&self->text, refusal);
    send_text(self, conn);
}

static void send_control(edge *self, connection *conn, websocket_opcode opcode, tw_str payload)
{
    char frame[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    TW_ASSERT(payload.len <= WEBSOCKET_CONTROL_MAX);
    size_t len = websocket_header((uint8_t *)frame, opcode, payload.len);
    if (payload.len > 0) {
        memcpy(frame + len, payload.ptr, payload.len);
    }
    connection_send(self, conn, (tw_str){frame, len + payload.len});
}

void websocket_close(edge *self, connection *conn, unsigned number, const char *text)
{
    if (conn->closing) {
        return;
    }
    char payload[WEBSOCKET_CONTROL_MAX];
    payload[0] = (char)(number >> 8);
    payload[1] = (char)(number & 0xffU);
    size_t len = 2 + tw_format(payload + 2, sizeof(payload) - 2, "%s", text);
    send_control(self, conn, WEBSOCKET_OP_CLOSE, (tw_str){payload, len});
    connection_end(self, conn);
}

void websocket_drain(edge *self, connection *conn, uint64_t after_ms)
{
    send_error(self, conn, &(wire_refusal){.code = TW_E_DRAINING, .after_ms = after_ms});
    websocket_close(self, conn, tw_err_number(TW_E_DRAINING), "draining");
}

bool websocket_reply(edge *self, connection *conn, tw_bson reply)
{
    if (conn->closing) {
        return true;
    }
    tw_buf_clear(&self->text);
    tw_json_write(&self->text, reply);
    if (self->text.err == TW_E_TOO_BIG || self->text.err == TW_E_DEPTH) {
        tw_err err = self->text.err;
        send_error(self, conn, &(wire_refusal){.code = err});
    } else {
        send_text(self, conn);
    }
    conn->paused = conn->paused || !connection_has_room(conn);
    return connection_has_room(conn);
}

/* An error about a message of a known family: no step towards the end. */
static void refuse_for(edge *self, connection *conn, tw_bson message, wire_refusal *refusal)
{
    tw_buf mux;
    tw_buf req;
    tw_buf_init(&mux, 4096);
    tw_buf_init(&req, 4096);
    bool named = wire_mux_id(&mux, tw_bson_get(message, TW_STR("mux_id"))) == TW_OK;
    bool asked = wire_mux_id(&req, tw_bson_get(message, TW_STR("reqID"))) == TW_OK;
    refusal->mux_id = named ? tw_buf_str(&mux) : (tw_str){NULL, 0};
    refusal->req_id = asked ? tw_buf_str(&req) : (tw_str){NULL, 0};
    send_error(self, conn, refusal);
    tw_buf_fini(&mux);
    tw_buf_fini(&req);
}

static void refuse(edge *self, connection *conn, tw_bson message, tw_err err, tw_str why,
                   tw_str hint)
{
    refuse_for(self, conn, message, &(wire_refusal){.code = err, .message = why, .hint = hint});
}

/* A message that is not understood at all. */
static void misunderstood(edge *self, connection *conn, tw_bson message, tw_err err, tw_str why,
                          tw_str hint)
{
    self->figures.bad_messages++;
    refuse(self, conn, message, err, why, hint);
    if (++conn->bad_in_row >= TW_BAD_FRAMES_MAX) {
        websocket_close(self, conn, tw_err_number(TW_E_BAD_MESSAGE), "too many bad messages");
    }
}

/* ---- type: streams ---- */

/* More than its rate: nothing was done, and it is told when it may ask again. */
static bool is_too_fast(edge *self, connection *conn, tw_bson message, uint64_t after_ms,
                        const char *text)
{
    if (after_ms > 0) {
        refuse_for(self, conn, message,
                   &(wire_refusal){.code = TW_E_RATE,
                                   .message = tw_str_of(text),
                                   .hint = TW_STR("ask again after after_ms"),
                                   .after_ms = after_ms});
    }
    return after_ms > 0;
}

static bool subscribes_too_fast(edge *self, connection *conn, tw_bson message)
{
    return is_too_fast(self, conn, message, admission_subscribe(self, conn),
                       "Too many streams were asked for in a short time.");
}

static void on_subscribe(edge *self, connection *conn, tw_bson message)
{
    broker_why why = {"", ""};
    if (subscribes_too_fast(self, conn, message)) {
        return;
    }
    tw_err err = self->draining ? TW_E_DRAINING
                                : streams_subscribe(self->streams, &conn->streams, &self->arena,
                                                    message, &why);
    if (err != TW_OK) {
        refuse(self, conn, message, err, tw_str_of(why.text), (tw_str){NULL, 0});
    }
}

static void on_watch(edge *self, connection *conn, tw_bson message)
{
    broker_why why = {"", ""};
    if (subscribes_too_fast(self, conn, message)) {
        return;
    }
    tw_err err = self->draining
                     ? TW_E_DRAINING
                     : streams_watch(self->streams, &conn->streams, &self->arena, message, &why);
    if (err != TW_OK) {
        refuse(self, conn, message, err, tw_str_of(why.text), (tw_str){NULL, 0});
    }
}

static void on_close_stream(edge *self, connection *conn, tw_bson message)
{
    broker_why why = {"", ""};
    tw_err err = streams_close(self->streams, &conn->streams, message, &why);
    if (err != TW_OK) {
        refuse(self, conn, message, err, tw_str_of(why.text), (tw_str){NULL, 0});
    }
}

/* The limits that may be configured are told as they are. */
static uint64_t limit_of(const gateway_limits *limits, const char *name, uint64_t fallback)
{
    const struct {
        const char *name;
        uint32_t value;
    } configured[] = {
        {"ADDRESS_CONNECTIONS", limits->address_connections},
        {"USER_CONNECTIONS", limits->user_connections},
        {"ACCEPTS_S", limits->accepts.per_s},
        {"MESSAGES_S", limits->messages.per_s},
        {"SUBSCRIBES_S", limits->subscribes.per_s},
        {"SEARCHES_S", limits->searches.per_s},
        {"SEARCHES_AT_ONCE", limits->searches_at_once},
    };
    for (size_t i = 0; i < TW_COUNT(configured); i++) {
        if (strcmp(configured[i].name, name) == 0) {
            return configured[i].value;
        }
    }
    return fallback;
}

static void add_limits(const gateway_limits *configured, tw_buf *out)
{
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
#define L(name, value, unit, reason) {#name, (value)},
        TW_LIMITS(L)
#undef L
    };
    for (size_t i = 0; i < TW_COUNT(limits); i++) {
        tw_buf_add(out, i == 0 ? "\"" : ",\"", i == 0 ? 1 : 2);
        for (const char *at = limits[i].name; *at != 0; at++) {
            tw_buf_add_byte(out, *at >= 'A' && *at <= 'Z' ? (char)(*at + 32) : *at);
        }
        uint64_t value = limit_of(configured, limits[i].name, limits[i].value);
        tw_buf_format(out, "\":%llu", (unsigned long long)value);
    }
}

/* Tells what is wrong with a token, and ends the connection by the same number. */
static void refuse_token(edge *self, connection *conn, tw_err err, const char *text)
{
    send_error(self, conn,
               &(wire_refusal){.code = err,
                               .message = tw_str_of(text),
                               .hint = err == TW_E_TOKEN
                                           ? TW_STR("hello with a token that is good now")
                                           : TW_STR("connect again with the same token")});
    websocket_close(self, conn, tw_err_number(err), "token");
}

/* What its streams were told is of other rights: it comes back, and they begin anew. */
static void end_changed(edge *self, connection *conn)
{
    send_error(self, conn,
               &(wire_refusal){.code = TW_E_FORBIDDEN,
                               .message = TW_STR("The rights are others than before."),
                               .hint = TW_STR("connect and subscribe again")});
    websocket_close(self, conn, tw_err_number(TW_E_UNAVAILABLE), "rights changed");
}

/* False: there are too many websockets of its user, and it ends. */
static bool enter_user(edge *self, connection *conn)
{
    if (admission_enter_user(self, conn)) {
        return true;
    }
    send_error(self, conn,
               &(wire_refusal){.code = TW_E_RATE,
                               .message = TW_STR("There are too many connections of this user."),
                               .hint = TW_STR("close some, or share one by mux_id"),
                               .after_ms = WEBSOCKET_USER_MS});
    websocket_close(self, conn, tw_err_number(TW_E_RATE), "too many connections");
    return false;
}

/* Where there is auth: who says hello. False: the connection ends. */
static bool take_token(edge *self, connection *conn, tw_bson message)
{
    broker_why why = {"", ""};
    bool changed = false;
    tw_bson_value given = tw_bson_get(message, TW_STR("token"));
    tw_str token = tw_bson_value_str(given);
    if (given.type == 0 && conn->streams.rights != NULL) {
        return true; /* it came with the handshake, or before */
    }
    tw_err err = given.type != 0 && token.len == 0
                     ? broker_refuse(&why, TW_E_TOKEN, "token is to be text")
                     : identity_take(self, conn, token, &changed, &why);
    if (err != TW_OK) {
        refuse_token(self, conn, err, why.text);
        return false;
    }
    if (changed) {
        end_changed(self, conn);
        return false;
    }
    return enter_user(self, conn);
}

static bool may_read(edge *self, const connection *conn, const catalog_collection *at)
{
    rights_grant grant;
    return !at->read_denied &&
           rights_of(conn->streams.rights, &self->arena, tw_str_of(at->database),
                     tw_str_of(at->name), RIGHTS_READ, &grant) == TW_OK &&
           grant.allowed;
}

static void start_changes(edge *self, connection *conn)
{
    static const uint8_t empty[] = {5, 0, 0, 0, 0};
    conn->greets = false;
    on_watch(self, conn, (tw_bson){empty, sizeof empty});
}

static void on_hello(edge *self, connection *conn, tw_bson message)
{
    if (self->options->auth != NULL && !take_token(self, conn, message)) {
        return;
    }
    tw_buf *out = &self->text;
    tw_buf_clear(out);
    tw_buf_format(out, "{\"type\":\"welcome\",\"protocol\":1,\"srv_id\":%llu,\"head\":",
                  (unsigned long long)self->srv);
    tw_vector head = streams_at(self->streams);
    tw_json_write_vector(out, head.count > 0 ? head : (tw_vector){self->head, self->head_count});
    tw_buf_add_str(out, TW_STR(",\"limits\":{"));
    add_limits(&self->options->limits, out);
    tw_buf_add_str(out, TW_STR("},\"collections\":["));
    const catalog *known = self->options->catalog;
    bool first = true;
    for (size_t i = 0; i < known->count; i++) {
        if (may_read(self, conn, &known->at[i])) {
            if (!first) {
                tw_buf_add_byte(out, ',');
            }
            first = false;
            tw_json_write_str(out, tw_str_of(known->at[i].name));
        }
    }
    tw_buf_add_str(out, TW_STR("],\"databases\":["));
    for (size_t i = 0; i < known->databases_count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("{\"name\":") : TW_STR(",{\"name\":"));
        tw_json_write_str(out, tw_str_of(known->databases[i].name));
        tw_buf_format(out, ",\"version\":%lld}", (long long)known->databases[i].version);
    }
    tw_buf_add_byte(out, ']');
    if (conn->identity.expires_s != 0) {
        tw_buf_format(out, ",\"expires\":%llu", (unsigned long long)conn->identity.expires_s);
    }
    tw_buf_add_byte(out, '}');
    send_text(self, conn);
    if (conn->greets) {
        start_changes(self, conn);
    }
}

/* Pages cannot send the pings of websockets: this is theirs. */
static void on_ping(edge *self, connection *conn, tw_bson message)
{
    (void)message;
    tw_buf_clear(&self->text);
    tw_buf_add_str(&self->text, TW_STR("{\"type\":\"pong\"}"));
    send_text(self, conn);
}

static const verb types[] = {
    {"subscribe", on_subscribe},
    {"close", on_close_stream},
    {"hello", on_hello},
    {"ping", on_ping},
};

/* ---- families ---- */

static bool reply_arrived(void *context, uint64_t tag, tw_bson reply, bool final)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    (void) final;
    connection *conn = edge_find(self, tag);
    return conn == NULL || websocket_reply(self, conn, reply);
}

static void on_type(edge *self, connection *conn, tw_bson message, tw_str type)
{
    for (size_t i = 0; i < TW_COUNT(types); i++) {
        if (tw_str_equal(type, tw_str_of(types[i].name))) {
            conn->bad_in_row = 0;
            types[i].run(self, conn, message);
            return;
        }
    }
    misunderstood(self, conn, message, TW_E_UNKNOWN, TW_STR("there is no such type"),
                  TW_STR("subscribe, close, hello or ping"));
}

static void on_action(edge *self, connection *conn, tw_bson message, tw_str action)
{
    if (tw_str_equal(action, TW_STR("watch"))) {
        conn->bad_in_row = 0;
        on_watch(self, conn, message);
        return;
    }
    if (!request_knows(action)) {
        self->figures.bad_messages++;
        conn->bad_in_row++;
    } else {
        conn->bad_in_row = 0;
    }
    if (!request_is_search(message) ||
        !is_too_fast(self, conn, message, admission_search(self, conn),
                     "Too many searches of one connection.")) {
        request_run(self->requests, conn->streams.rights, message, reply_arrived, self,
                    conn->id); /* refuses by itself */
    }
    if (conn->bad_in_row >= TW_BAD_FRAMES_MAX) {
        websocket_close(self, conn, tw_err_number(TW_E_BAD_MESSAGE), "too many bad messages");
    }
}

static void on_event_message(edge *self, connection *conn, tw_bson message)
{
    if (database_event(self, conn, message, tw_bson_get_str(message, TW_STR("event")))) {
        conn->bad_in_row = 0;
        return;
    }
    misunderstood(self, conn, message, TW_E_UNKNOWN, TW_STR("there is no such event"),
                  tw_str_of(database_events));
}

static_assert((int)TW_DEPTH_CLIENT_MAX == 32, "the hint below names it");

/* What helps whose message could not be read; one that begins as an object was meant to be one. */
static tw_str hint_of_json(tw_str text, tw_err err)
{
    size_t at = 0;
    while (at < text.len && strchr(" \t\r\n", text.ptr[at]) != NULL) {
        at++;
    }
    bool is_object = at < text.len && text.ptr[at] == '{';
    if (err == TW_E_DEPTH) {
        return TW_STR("32 levels of objects and arrays are the most");
    }
    return is_object ? (tw_str){NULL, 0} : TW_STR("one JSON object per frame");
}

static void on_message(edge *self, connection *conn, tw_str text)
{
    self->figures.messages++;
    tw_arena_reset(&self->arena);
    tw_bson message = {NULL, 0};
    tw_str why = {"", 0};
    tw_err err = tw_json_read(&self->arena, text, TW_DEPTH_CLIENT_MAX, &message, &why);
    if (err != TW_OK) {
        misunderstood(self, conn, (tw_bson){NULL, 0}, err, why, hint_of_json(text, err));
        return;
    }
    tw_str type = tw_bson_get_str(message, TW_STR("type"));
    tw_str action = tw_bson_get_str(message, TW_STR("action"));
    if (identity_missing(self, conn) && !tw_str_equal(type, TW_STR("hello"))) {
        misunderstood(self, conn, message, TW_E_TOKEN, TW_STR("A token is needed here."),
                      TW_STR("{\"type\":\"hello\",\"token\":...} comes first"));
    } else if (type.ptr != NULL) {
        on_type(self, conn, message, type);
    } else if (action.ptr != NULL) {
        on_action(self, conn, message, action);
    } else if (tw_bson_get_str(message, TW_STR("event")).ptr != NULL) {
        on_event_message(self, conn, message);
    } else {
        misunderstood(self, conn, message, TW_E_BAD_MESSAGE,
                      TW_STR("a message has type, action or event"), (tw_str){NULL, 0});
    }
}

/* ---- the connection ---- */

bool websocket_begin(edge *self, connection *conn, tw_str path)
{
    websocket_reader *reader = tw_alloc(sizeof(*reader));
    if (reader == NULL) {
        return false;
    }
    websocket_reader_init(reader);
    conn->kind = CONNECTION_WEBSOCKET;
    conn->reader = reader;
    conn->deadline_ms = 0;
    self->figures.websockets++;
    conn->greets = tw_str_equal(path, TW_STR("/changes"));
    if (identity_missing(self, conn)) {
        uint64_t wait_ms = self->options->hello_ms;
        conn->hello_ms = conn->heard_ms + (wait_ms != 0 ? wait_ms : TW_HELLO_MS);
    } else if (enter_user(self, conn) && conn->greets) {
        start_changes(self, conn);
    }
    return true;
}

void websocket_gone(edge *self, connection *conn)
{
    database_gone(conn);
    websocket_reader_fini(conn->reader);
    tw_free(conn->reader);
    conn->reader = NULL;
    self->figures.websockets--;
}

/* One event of the reader. */
static void on_event(edge *self, connection *conn, websocket_event event, tw_str payload)
{
    switch (event) {
    case WEBSOCKET_TEXT:
        admission_charge(self, conn);
        if (identity_missing(self, conn) && payload.len > TW_HELLO_MESSAGE_MAX) {
            websocket_close(self, conn, tw_err_number(TW_E_TOO_BIG), "too big before hello");
            break;
        }
        on_message(self, conn, payload);
        break;
    case WEBSOCKET_BINARY:
        websocket_close(self, conn, WEBSOCKET_CLOSE_UNSUPPORTED, "text frames only");
        break;
    case WEBSOCKET_PING:
        admission_charge(self, conn);
        send_control(self, conn, WEBSOCKET_OP_PONG, payload);
        break;
    case WEBSOCKET_CLOSE:
        websocket_close(self, conn, conn->reader->close_number, "");
        break;
    case WEBSOCKET_BROKEN:
        self->figures.bad_messages++;
        websocket_close(self, conn, conn->reader->close_number, "");
        break;
    case WEBSOCKET_NO_MEMORY:
        websocket_close(self, conn, tw_err_number(TW_E_NO_MEMORY), "no memory");
        break;
    case WEBSOCKET_PONG: /* any byte proves that the peer is there */
    case WEBSOCKET_MORE:
        break;
    }
}

void websocket_bytes(edge *self, connection *conn, uint8_t *bytes, size_t len)
{
    uint8_t *end = bytes + len;
    websocket_event event = WEBSOCKET_TEXT;
    while (event != WEBSOCKET_MORE && !conn->closing && !conn->dead) {
        if (conn->streams.out.bytes > 2 * (size_t)TW_OUTBOUND_QUEUE_MAX) {
            websocket_close(self, conn, tw_err_number(TW_E_SLOW), "asks and does not read");
            return;
        }
        tw_str payload = {NULL, 0};
        event = websocket_next(conn->reader, &bytes, end, &payload);
        on_event(self, conn, event, payload);
    }
    if (identity_missing(self, conn) && !conn->closing &&
        conn->reader->message.len + conn->reader->left > TW_HELLO_MESSAGE_MAX) {
        websocket_close(self, conn, tw_err_number(TW_E_TOO_BIG), "too big before hello");
    }
    if (!websocket_reader_inside(conn->reader)) {
        conn->message_ms = 0;
    } else if (conn->message_ms == 0) {
        conn->message_ms = conn->heard_ms;
    }
}

void websocket_look_at(edge *self, connection *conn, uint64_t now_ms)
{
    if (conn->hello_ms != 0 && now_ms >= conn->hello_ms) {
        self->figures.timeouts++;
        websocket_close(self, conn, tw_err_number(TW_E_INIT_TIMEOUT), "no hello in time");
    } else if (identity_over(self, conn)) {
        refuse_token(self, conn, TW_E_TOKEN, "The token has expired.");
    } else if (identity_changed(self, conn)) {
        end_changed(self, conn);
    } else if (conn->message_ms != 0 && now_ms - conn->message_ms >= EDGE_MESSAGE_MS) {
        self->figures.timeouts++;
        websocket_close(self, conn, tw_err_number(TW_E_INIT_TIMEOUT), "message not complete");
    } else if (conn->pinged && now_ms - conn->heard_ms >= TW_PING_MS + TW_PONG_MS) {
        self->figures.timeouts++;
        connection_drop(self, conn);
    } else if (!conn->pinged && now_ms - conn->heard_ms >= TW_PING_MS) {
        conn->pinged = true;
        send_control(self, conn, WEBSOCKET_OP_PING, (tw_str){NULL, 0});
    }
}
