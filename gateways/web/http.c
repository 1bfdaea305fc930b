/* http.c - HTTP/1.1 without chunks and without upgrades but to websocket; one request at a time.
 *
 * REST (DESIGN 6.8) becomes the requests of request.h: their BSON replies become one JSON body. */
#include "gateways/web/http.h"

#include "protocol/json.h"
#include "protocol/utf8.h"

#include "gateways/web/admission.h"
#include "gateways/web/http_priv.h"
#include "gateways/web/identity.h"
#include "gateways/web/websocket.h"

enum {
    HTTP_INPUT_MAX = TW_HTTP_BODY_MAX + HTTP_HEAD_MAX,
    HTTP_RETRY_S = 5, /* told to one too many of an address: when to come again */
};

/* ---- answers ---- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {302, "Found"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < TW_COUNT(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Internal Server Error";
}

void http_answer(edge *self, connection *conn, int status, const char *type, tw_str body)
{
    struct http_state *http = conn->http;
    tw_buf *out = &self->text;
    tw_buf_clear(out);
    tw_buf_format(out,
                  "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                  "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
                  "Connection: %s\r\n",
                  status, reason_of(status), type != NULL ? type : "application/json", body.len,
                  http->keep_alive ? "keep-alive" : "close");
    if (status == 302) {
        tw_buf_format(out, "Location: %.*s\r\n", (int)body.len, body.ptr);
    }
    if (http->is_cross) { /* others were refused; there are no cookies that it could speak for */
        tw_buf_add_str(out, TW_STR("Access-Control-Allow-Origin: *\r\n"
                                   "Access-Control-Expose-Headers: Retry-After\r\n"));
    }
    if (http->more_head != NULL) {
        tw_buf_add_str(out, tw_str_of(http->more_head));
        http->more_head = NULL;
    }
    tw_buf_add_str(out, TW_STR("\r\n"));
    connection_send(self, conn, tw_buf_str(out));
    if (!http->head_only) {
        connection_send(self, conn, body);
    }
    tw_buf_fini(&http->body);
    tw_buf_init(&http->body, HTTP_REPLY_MAX);
    http->running = false;
    conn->deadline_ms = tw_now_ms(self->actor) + EDGE_MESSAGE_MS;
    if (!http->keep_alive) {
        connection_end(self, conn);
    }
}

void http_answer_refusal(edge *self, connection *conn, int status, const wire_refusal *refusal)
{
    tw_buf body;
    tw_buf_init(&body, 4096);
    wire_error(&body, refusal);
    http_answer(self, conn, status, NULL, tw_buf_str(&body));
    tw_buf_fini(&body);
}

void http_answer_error(edge *self, connection *conn, int status, tw_err err, const char *message)
{
    const wire_refusal refusal = {.code = err, .message = tw_str_of(message)};
    http_answer_refusal(self, conn, status, &refusal);
}

/* Refuses a method: a client is told which there are. allow: "GET, HEAD". */
static void refuse_method(edge *self, connection *conn, const char *allow, const char *message)
{
    char line[128];
    tw_format(line, sizeof line, "Allow: %s\r\n", allow);
    conn->http->more_head = line;
    http_answer_error(self, conn, 405, TW_E_UNSUPPORTED, message);
}

void http_refuse_address(edge *self, connection *conn)
{
    char body[512];
    size_t len = tw_format(body, sizeof body,
                           "{\"type\":\"error\",\"code\":\"rate\",\"message\":\"There are %u "
                           "connections of this address.\",\"hint\":\"Close some, or have the "
                           "server's operator name the address in limits.exempt.\","
                           "\"retry\":\"backoff\",\"after_ms\":%d}",
                           self->options->limits.address_connections, HTTP_RETRY_S * 1000);
    tw_buf_clear(&self->text);
    tw_buf_format(&self->text,
                  "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
                  len, HTTP_RETRY_S, body);
    connection_send(self, conn, tw_buf_str(&self->text));
    connection_end(self, conn);
}

/* A request that cannot be read: what follows it cannot be found either. */
static void refuse_head(edge *self, connection *conn, int status)
{
    static const struct {
        int status;
        tw_err code;
        const char *message, *hint; /* hint NULL: none */
    } refusals[] = {
        {400, TW_E_BAD_MESSAGE, "the HTTP request is malformed",
         "HTTP/1.1 has one Host; a websocket begins by GET, Upgrade, and a Sec-WebSocket-Key"},
        {403, TW_E_FORBIDDEN, "pages of this Origin may not connect",
         "Its address belongs into server.origins (--origins)"},
        {411, TW_E_BAD_MESSAGE, "a body is told by Content-Length", "Chunked bodies are not read"},
        {413, TW_E_TOO_BIG, "the request is larger than allowed", "A body has at most 1 MiB"},
        {426, TW_E_BAD_MESSAGE, "Sec-WebSocket-Version is to be 13", NULL},
        {431, TW_E_TOO_BIG, "the head of the request is larger than 4 KiB",
         "Cookies of the same host are sent along by browsers"},
        {505, TW_E_BAD_MESSAGE, "HTTP/1.1 is spoken here", NULL},
    };
    conn->http->keep_alive = false;
    size_t at = 0; /* what is not in the table is malformed */
    for (size_t i = 0; i < TW_COUNT(refusals); i++) {
        at = refusals[i].status == status ? i : at;
    }
    const char *hint = refusals[at].hint;
    http_answer_refusal(self, conn, status,
                        &(wire_refusal){.code = refusals[at].code,
                                        .message = tw_str_of(refusals[at].message),
                                        .hint = hint == NULL ? (tw_str){0} : tw_str_of(hint)});
}

/* A name of elsewhere that leads to a server which listens on this machine alone. */
static void refuse_host(edge *self, connection *conn)
{
    const wire_refusal refusal = {
        .code = TW_E_FORBIDDEN,
        .message = TW_STR("a server on loopback does not answer to this Host"),
        .hint = TW_STR("Behind a proxy: name the origins of your pages in server.origins, or "
                       "have the proxy send Host: 127.0.0.1"),
    };
    conn->http->keep_alive = false;
    http_answer_refusal(self, conn, 403, &refusal);
}

static int status_of(tw_err err)
{
    if (err == TW_E_NOT_FOUND || err == TW_E_UNKNOWN) {
        return 404;
    }
    if (err == TW_E_UNSUPPORTED) {
        return 501;
    }
    int status = (int)tw_err_number(err) - 4000;
    return status == 508 ? 503 : status;
}

/* ---- replies of requests ---- */

static void add_doc(struct http_state *http, tw_bson reply)
{
    tw_bson doc = tw_bson_get_doc(reply, TW_STR("doc"));
    tw_buf_add_str(&http->body, http->docs == 0 ? TW_STR("{\"docs\":[") : TW_STR(","));
    http->docs++;
    tw_bson_value key = tw_bson_get(reply, TW_STR("key"));
    if (doc.len > 0) {
        tw_json_write(&http->body, doc);
    } else if (key.type != 0) {
        tw_json_write_value(&http->body, key);
    } else {
        tw_json_write(&http->body, reply);
    }
}

/* The last reply of a list: its figures stand beside the documents. */
static void end_list(struct http_state *http, tw_bson reply)
{
    tw_buf_add_str(&http->body, http->docs == 0 ? TW_STR("{\"docs\":[]") : TW_STR("]"));
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, reply); tw_bson_iter_next(&iter);) {
        bool known = tw_str_equal(iter.name, TW_STR("action")) ||
                     tw_str_equal(iter.name, TW_STR("reqID")) ||
                     tw_str_equal(iter.name, TW_STR("collection"));
        if (!known) {
            tw_buf_add_byte(&http->body, ',');
            tw_json_write_str(&http->body, iter.name);
            tw_buf_add_byte(&http->body, ':');
            tw_json_write_value(&http->body, iter.value);
        }
    }
    tw_buf_add_byte(&http->body, '}');
}

/* Sends the collected body as the answer. */
static void answer_body(edge *self, connection *conn, int status)
{
    struct http_state *http = conn->http;
    if (http->body.err != TW_OK) {
        tw_err err = http->body.err;
        http_answer_error(self, conn, status_of(err), err, "ask for fewer documents");
        return;
    }
    tw_buf body = http->body; /* http_answer gives back what the connection holds */
    tw_buf_init(&http->body, HTTP_REPLY_MAX);
    http_answer(self, conn, status, NULL, tw_buf_str(&body));
    tw_buf_fini(&body);
}

static void answer_refusal(edge *self, connection *conn, tw_bson reply)
{
    char code[64];
    tw_str given = tw_bson_get_str(reply, TW_STR("code"));
    tw_format(code, sizeof(code), "%.*s", (int)given.len, given.ptr == NULL ? "" : given.ptr);
    tw_buf_clear(&conn->http->body);
    tw_json_write(&conn->http->body, reply);
    answer_body(self, conn, status_of(tw_err_by_code(code)));
}

bool http_reply(edge *self, connection *conn, tw_bson reply, bool final)
{
    struct http_state *http = conn->http;
    if (!http->running || conn->closing) {
        return true;
    }
    if (tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"))) {
        if (final) {
            answer_refusal(self, conn, reply);
        }
        return true;
    }
    if (!final && tw_bson_get(reply, TW_STR("progress")).type != 0) {
        return true; /* one body: the end tells it */
    }
    if (!final) {
        http->shape = http->shape == HTTP_REPLY ? HTTP_LIST : http->shape;
        add_doc(http, reply);
        return true; /* bounded by HTTP_REPLY_MAX */
    }
    tw_bson doc = tw_bson_get_doc(reply, TW_STR("doc"));
    bool done = tw_str_equal(tw_bson_get_str(reply, TW_STR("action")), TW_STR("done"));
    if (http->shape == HTTP_LIST || done) {
        end_list(http, reply);
    } else {
        tw_json_write(&http->body, http->shape == HTTP_DOCUMENT && doc.len > 0 ? doc : reply);
    }
    answer_body(self, conn, http->good);
    return true;
}

static bool reply_arrived(void *context, uint64_t tag, tw_bson reply, bool final)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn = edge_find(self, tag);
    return conn == NULL || conn->kind != CONNECTION_HTTP || http_reply(self, conn, reply, final);
}

/* ---- who may ask ---- */

static tw_str host_name(tw_str host)
{
    if (host.len > 0 && host.ptr[0] == '[') {
        const char *end = memchr(host.ptr, ']', host.len);
        return end == NULL ? host : (tw_str){host.ptr + 1, (size_t)(end - host.ptr) - 1};
    }
    const char *colon = host.len == 0 ? NULL : memchr(host.ptr, ':', host.len);
    return colon == NULL ? host : (tw_str){host.ptr, (size_t)(colon - host.ptr)};
}

bool http_is_loopback(tw_str host)
{
    tw_str name = host_name(host);
    if (http_token_equal(name, "localhost") || tw_str_equal(name, TW_STR("::1"))) {
        return true;
    }
    if (name.len < 4 || memcmp(name.ptr, "127.", 4) != 0) {
        return false;
    }
    for (size_t i = 4; i < name.len; i++) { /* 127.evil.example is a name */
        if (name.ptr[i] != '.' && (name.ptr[i] < '0' || name.ptr[i] > '9')) {
            return false;
        }
    }
    return true;
}

/* A page of elsewhere must not reach a server on this machine by a name of its own (rebinding). */
static bool host_allowed(const edge *self, const connection *conn, const http_head *head)
{
    const gateway_options *options = self->options;
    bool admin = conn->listener == EDGE_ADMIN;
    const char *address = admin ? options->admin_address : options->listen_address;
    if (!admin && (options->origins_count > 0 || !http_is_loopback(tw_str_of(address)))) {
        return true;
    }
    return head->host.ptr == NULL || http_is_loopback(head->host) ||
           tw_str_equal(host_name(head->host), tw_str_of(address));
}

/* The inspector's own page: nobody else can serve one at the port that we hold. */
static bool is_inspector(const edge *self, tw_str origin)
{
    const gateway_options *options = self->options;
    int port = options->ports == NULL ? 0 : atomic_load(&options->ports->admin);
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < TW_COUNT(hosts) && port != 0; i++) {
        char own[64];
        tw_format(own, sizeof(own), "http://%s:%d", hosts[i], port);
        if (http_token_equal(origin, own)) {
            return true;
        }
    }
    return false;
}

static bool origin_allowed(const edge *self, const http_head *head)
{
    if (head->origin.ptr == NULL || is_inspector(self, head->origin)) {
        return true; /* no browser, or our own page */
    }
    for (size_t i = 0; i < self->options->origins_count; i++) {
        const char *one = self->options->origins[i];
        if (strcmp(one, "*") == 0 || http_token_equal(head->origin, one)) {
            return true;
        }
    }
    if (self->options->origins_count > 0) {
        return false;
    }
    tw_str host = head->origin;
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < TW_COUNT(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (host.len > len && memcmp(host.ptr, schemes[i], len) == 0) {
            host = (tw_str){host.ptr + len, host.len - len};
            return tw_str_equal(host, head->host) || http_is_loopback(host);
        }
    }
    return false; /* "null" and others */
}

/* ---- health ---- */

void http_health(edge *self, connection *conn, bool ready)
{
    char why[TW_ERROR_TEXT_MAX] = "";
    if (self->options->system != NULL) {
        tw_system_health(self->options->system, why, sizeof(why));
    }
    if (ready && why[0] == 0) {
        bool up = tw_link_up(self->actor, self->store) && tw_link_up(self->actor, self->manager);
        for (size_t i = 0; i < self->readers_count; i++) {
            up = up && tw_link_up(self->actor, self->readers[i]);
        }
        if (self->partial) {
            tw_format(why, sizeof(why), "the first copy of the database is under way");
        } else if (!streams_heard(self->streams)) {
            tw_format(why, sizeof(why), "the subscription manager was not heard yet");
        } else if (!up || self->srv == 0) {
            tw_format(why, sizeof(why), "the log is not open yet");
        } else if (self->draining) {
            tw_format(why, sizeof(why), "draining");
        }
    }
    tw_buf body;
    tw_buf_init(&body, 8192);
    tw_buf_format(&body, "{\"ok\":%s,\"why\":", why[0] == 0 ? "true" : "false");
    tw_json_write_str(&body, tw_str_of(why));
    tw_buf_add_byte(&body, '}');
    http_answer(self, conn, why[0] == 0 ? 200 : 503, NULL, tw_buf_str(&body));
    tw_buf_fini(&body);
}

/* ---- REST ---- */

/* What a request is built from. */
typedef struct rest {
    const http_head *head;
    tw_bson body;    /* len 0: none */
    tw_str database; /* ptr NULL: the default one */
    tw_str collection;
    tw_str id; /* or function; ptr NULL: none */
    tw_bson_builder builder;
    tw_buf request;
} rest;

/* An id as a path spells it: a whole number is one (in quotes it is text), all else is text, which
 * may be an ObjectId's 24 digits. */
static void add_id(tw_bson_builder *builder, tw_str id)
{
    bool minus = id.len > 1 && id.ptr[0] == '-';
    tw_str digits = {id.ptr + (minus ? 1 : 0), id.len - (minus ? 1 : 0)};
    uint64_t number;
    bool padded = digits.len > 1 && digits.ptr[0] == '0';
    if (!padded && tw_parse_u64(digits, TW_SEQNO_MAX, &number) == TW_OK) {
        tw_bson_add_i64(builder, TW_STR("id"), minus ? -(int64_t)number : (int64_t)number);
    } else if (id.len > 1 && id.ptr[0] == '"' && id.ptr[id.len - 1] == '"') {
        tw_bson_add_str(builder, TW_STR("id"), (tw_str){id.ptr + 1, id.len - 2});
    } else {
        tw_bson_add_str(builder, TW_STR("id"), id);
    }
}

/* ?database=NAME&dispatch=false are for every request and every write. */
static void begin_request(rest *asked, const char *action, const char *coll_field)
{
    tw_bson_begin(&asked->builder, &asked->request);
    tw_bson_add_str(&asked->builder, TW_STR("action"), tw_str_of(action));
    if (asked->collection.len > 0) {
        tw_bson_add_str(&asked->builder, tw_str_of(coll_field), asked->collection);
    }
    if (asked->database.ptr != NULL) {
        tw_bson_add_str(&asked->builder, TW_STR("database"), asked->database);
    }
}

/* False: there, but neither true nor false. */
static bool add_dispatch(rest *asked)
{
    tw_str given = http_query_get(asked->head->query, "dispatch");
    bool is_true = tw_str_equal(given, TW_STR("true"));
    if (given.ptr == NULL) {
        return true;
    }
    tw_bson_add_bool(&asked->builder, TW_STR("dispatch"), is_true);
    return is_true || tw_str_equal(given, TW_STR("false"));
}

/* A number of the query string or of If-Match. False: there, but no number. */
static bool add_number(rest *asked, tw_str text, const char *field)
{
    if (text.ptr == NULL) {
        return true;
    }
    if (text.len > 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"') {
        text = (tw_str){text.ptr + 1, text.len - 2}; /* an entity tag */
    }
    uint64_t value = 0;
    if (tw_parse_u64(text, TW_SEQNO_MAX, &value) != TW_OK) {
        return false;
    }
    tw_bson_add_i64(&asked->builder, tw_str_of(field), (int64_t)value);
    return true;
}

static bool add_if_version(rest *asked)
{
    tw_str given = http_query_get(asked->head->query, "if_version");
    return add_number(asked, given.ptr != NULL ? given : asked->head->if_match, "if_version");
}

static bool make_find(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "find", "collection");
    if (asked->body.len > 0) {
        tw_bson_add_all(&asked->builder, asked->body);
        return true;
    }
    return add_number(asked, http_query_get(asked->head->query, "limit"), "limit") &&
           add_number(asked, http_query_get(asked->head->query, "skip"), "skip");
}

static bool make_detail(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "detail", "collection");
    add_id(&asked->builder, asked->id);
    return true;
}

static bool make_insert(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "insert", "collection");
    tw_bson_add_doc(&asked->builder, TW_STR("doc"), asked->body);
    return asked->body.len > 0 && add_dispatch(asked);
}

/* The document's key is that of the path, in its first reading (an ObjectId where it can be one).
 * */
static bool make_put(edge *self, rest *asked)
{
    const catalog_collection *rules =
        catalog_rules(self->options->catalog, asked->database, asked->collection);
    tw_str key_field = tw_str_of(rules == NULL ? "_id" : rules->key);
    tw_buf text;
    tw_bson_builder value;
    tw_buf_init(&text, TW_KEY_MAX + 64);
    tw_bson_begin(&value, &text);
    add_id(&value, asked->id);
    tw_key key = {NULL, 0};
    tw_key also = {NULL, 0};
    bool good = text.err == TW_OK && asked->body.len > 0 &&
                tw_key_of_id(&self->arena, tw_bson_get(tw_bson_end(&value), TW_STR("id")), &key,
                             &also) == TW_OK;
    if (good) {
        begin_request(asked, "put", "collection");
        tw_bson_open_doc(&asked->builder, TW_STR("doc"));
        tw_bson_add_key(&asked->builder, key_field, key);
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, asked->body); tw_bson_iter_next(&iter);) {
            if (!tw_str_equal(iter.name, key_field)) {
                tw_bson_add_value(&asked->builder, iter.name, iter.value);
            }
        }
        tw_bson_close(&asked->builder);
        good = add_if_version(asked) && add_dispatch(asked);
    }
    tw_buf_fini(&text);
    return good;
}

static bool make_update(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "update", "collection");
    add_id(&asked->builder, asked->id);
    tw_bson_value operations = tw_bson_get(asked->body, TW_STR("operations"));
    if (operations.type == TW_BSON_ARRAY) {
        tw_bson_add_value(&asked->builder, TW_STR("operations"), operations);
    } else {
        tw_bson_add_doc(&asked->builder, TW_STR("fields"), asked->body);
    }
    return asked->body.len > 0 && add_if_version(asked) && add_dispatch(asked);
}

static bool make_remove(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "remove", "collection");
    add_id(&asked->builder, asked->id);
    return add_dispatch(asked);
}

static bool make_drop(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, asked->collection.len > 0 ? "drop" : "drop_database", "collection");
    return add_dispatch(asked);
}

static bool make_dispatch(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "dispatch", "collection");
    tw_bson_add_all(&asked->builder, asked->body);
    return asked->body.len > 0;
}

static bool make_aggregate(edge *self, rest *asked)
{
    (void)self;
    begin_request(asked, "aggregate", "collection");
    tw_bson_add_all(&asked->builder, asked->body);
    return asked->body.len > 0;
}

/* /api/v1/search/{index}/{function}: the body's fields are the function's. */
static bool make_search(edge *self, rest *asked)
{
    (void)self;
    char function[64];
    tw_format(function, sizeof(function), "%.*s", (int)asked->id.len, asked->id.ptr);
    begin_request(asked, function, "index");
    if (asked->body.len > 0) {
        tw_bson_add_all(&asked->builder, asked->body);
    }
    return true;
}

static const struct route {
    const char *method;
    const char *last; /* "": none; "*": an id; otherwise this word */
    http_shape shape;
    uint16_t good;
    bool (*make)(edge *self, rest *asked);
} routes[] = {
    {"POST", "find", HTTP_LIST, 200, make_find},
    {"GET", "", HTTP_LIST, 200, make_find},
    {"POST", "", HTTP_REPLY, 201, make_insert},
    {"GET", "*", HTTP_DOCUMENT, 200, make_detail},
    {"PUT", "*", HTTP_REPLY, 200, make_put},
    {"PATCH", "*", HTTP_REPLY, 200, make_update},
    {"DELETE", "*", HTTP_REPLY, 200, make_remove},
    {"DELETE", "", HTTP_REPLY, 200, make_drop},
    {"POST", "dispatch", HTTP_REPLY, 200, make_dispatch},
    {"POST", "aggregate", HTTP_LIST, 200, make_aggregate},
};
static const struct route database_route = {"DELETE", "", HTTP_REPLY, 200, make_drop};
static const struct route search_route = {"POST", "*", HTTP_REPLY, 200, make_search};

static const struct route *find_route(const rest *asked)
{
    for (size_t i = 0; i < TW_COUNT(routes); i++) {
        bool last = routes[i].last[0] == 0     ? asked->id.ptr == NULL
                    : routes[i].last[0] == '*' ? asked->id.ptr != NULL
                                               : tw_str_equal(asked->id, tw_str_of(routes[i].last));
        if (last && (tw_str_equal(asked->head->method, tw_str_of(routes[i].method)) ||
                     (tw_str_equal(asked->head->method, TW_STR("HEAD")) &&
                      strcmp(routes[i].method, "GET") == 0))) {
            return &routes[i];
        }
    }
    return NULL;
}

/* No route: tells the methods of the path. */
static void refuse_route(edge *self, connection *conn, rest *asked, bool is_deep)
{
    char allow[128] = "POST";
    size_t len = 0;
    for (size_t i = 0; i < TW_COUNT(routes) && !is_deep; i++) {
        http_head head = {.method = tw_str_of(routes[i].method)};
        const rest other = {.head = &head, .id = asked->id};
        if (find_route(&other) == &routes[i]) {
            bool is_get = strcmp(routes[i].method, "GET") == 0;
            len += tw_format(allow + len, sizeof allow - len, "%s%s%s", len == 0 ? "" : ", ",
                             routes[i].method, is_get ? ", HEAD" : "");
        }
    }
    refuse_method(self, conn, allow, "not offered for this path");
}

/* A page of another origin asks its browser what it may do; with OPTIONS nothing is done. */
static void answer_options(edge *self, connection *conn)
{
    conn->http->more_head =
        "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
        "Access-Control-Allow-Headers: Authorization, Content-Type, If-Match\r\n"
        "Access-Control-Max-Age: 600\r\n";
    http_answer(self, conn, 200, "text/plain", (tw_str){"", 0});
}

/* What a route could not make a request of. */
static void refuse_parts(edge *self, connection *conn, const rest *asked)
{
    bool has_body = asked->body.len > 0 || asked->head->method.ptr[0] == 'G' ||
                    tw_str_equal(asked->head->method, TW_STR("DELETE"));
    const wire_refusal parameter = {
        .code = TW_E_BAD_MESSAGE,
        .message = TW_STR("a parameter is wrong"),
        .hint = TW_STR("limit, skip and if_version are whole numbers, dispatch is true or "
                       "false; an id has at most 1,024 bytes"),
    };
    const wire_refusal body = {
        .code = TW_E_BAD_MESSAGE,
        .message = TW_STR("the body is missing"),
        .hint = TW_STR("Send a JSON object, with Content-Type: application/json"),
    };
    http_answer_refusal(self, conn, 400, has_body ? &parameter : &body);
}

/* Splits and decodes what stands behind /api/v1/; false: malformed, or more than three parts. */
static bool split_path(tw_arena *arena, tw_str path, tw_str parts[3], size_t *count)
{
    *count = 0;
    while (path.len > 0) {
        const char *slash = memchr(path.ptr, '/', path.len);
        tw_str one = {path.ptr, slash == NULL ? path.len : (size_t)(slash - path.ptr)};
        char *text = *count < 3 && one.len > 0 ? tw_arena_alloc(arena, one.len) : NULL;
        size_t len = 0;
        if (text == NULL || !http_decode(one, text, &len) || !tw_utf8_valid((tw_str){text, len})) {
            return false;
        }
        parts[(*count)++] = (tw_str){text, len};
        path.ptr += one.len + (slash != NULL);
        path.len -= one.len + (slash != NULL);
    }
    return *count > 0;
}

/* ?database=NAME, decoded. False: malformed. */
static bool read_database(tw_arena *arena, tw_str query, tw_str *out)
{
    tw_str given = http_query_get(query, "database");
    size_t len = 0;
    *out = (tw_str){NULL, 0};
    if (given.ptr == NULL) {
        return true;
    }
    char *text = tw_arena_alloc(arena, given.len + 1);
    if (text == NULL || !http_decode(given, text, &len) || !tw_utf8_valid((tw_str){text, len})) {
        return false;
    }
    *out = (tw_str){text, len};
    return true;
}

static bool read_body(edge *self, connection *conn, const http_head *head, tw_str text,
                      tw_bson *out)
{
    *out = (tw_bson){NULL, 0};
    if (text.len == 0) {
        return true;
    }
    tw_str type = head->content_type;
    const char *json = "application/json";
    if (type.ptr == NULL || type.len < strlen(json) ||
        !http_token_equal((tw_str){type.ptr, strlen(json)}, json)) {
        http_answer_error(self, conn, 415, TW_E_BAD_MESSAGE,
                          "the body is to be JSON, with Content-Type: application/json");
        return false;
    }
    tw_str why = {"", 0};
    tw_err err = tw_json_read(&self->arena, text, TW_DEPTH_CLIENT_MAX, out, &why);
    if (err != TW_OK) {
        char message[TW_ERROR_TEXT_MAX];
        tw_format(message, sizeof(message), "%.*s", (int)why.len, why.ptr);
        http_answer_error(self, conn, status_of(err), err, message);
        return false;
    }
    return true;
}

static void run_rest(edge *self, connection *conn, const http_head *head, tw_str body)
{
    rest asked = {.head = head};
    if (!read_body(self, conn, head, body, &asked.body)) {
        return;
    }
    tw_str parts[3];
    size_t count = 0;
    tw_str below = {head->path.ptr + strlen("/api/v1/"), head->path.len - strlen("/api/v1/")};
    bool good = read_database(&self->arena, head->query, &asked.database);
    bool whole = good && below.len == 0 && asked.database.ptr != NULL &&
                 tw_str_equal(head->method, TW_STR("DELETE"));
    if (!good || (!whole && !split_path(&self->arena, below, parts, &count))) {
        http_answer_error(self, conn, 404, TW_E_NOT_FOUND, "the path names no collection");
        return;
    }
    bool search = count == 3 && tw_str_equal(parts[0], TW_STR("search"));
    asked.collection = whole ? (tw_str){NULL, 0} : parts[search ? 1 : 0];
    asked.id = count > 1 ? parts[count - 1] : (tw_str){NULL, 0};
    const struct route *route = whole    ? &database_route
                                : search ? &search_route
                                         : find_route(&asked);
    if (route == NULL || (count == 3 && !search) ||
        (search && !tw_str_equal(head->method, TW_STR("POST")))) {
        refuse_route(self, conn, &asked, search || count == 3);
        return;
    }
    tw_buf_init(&asked.request, TW_DOCUMENT_MAX);
    conn->http->shape = (uint8_t)route->shape;
    conn->http->good = route->good;
    conn->http->docs = 0;
    bool made = route->make(self, &asked);
    tw_bson request = made ? tw_bson_end(&asked.builder) : (tw_bson){0};
    if (!made || asked.request.err != TW_OK) {
        refuse_parts(self, conn, &asked);
    } else if (request_is_search(request) && admission_search(self, conn) > 0) {
        conn->http->more_head = "Retry-After: 1\r\n";
        http_answer_error(self, conn, 429, TW_E_RATE, "too many searches of one connection");
    } else {
        conn->deadline_ms = 0; /* a request has deadlines of its own */
        request_run(self->requests, conn->streams.rights, request, reply_arrived, self, conn->id);
    }
    tw_buf_fini(&asked.request);
}

/* ---- websocket handshake ---- */

static bool path_is_websocket(tw_str path)
{
    static const char *const paths[] = {"/ws", "/db", "/search", "/changes"};
    for (size_t i = 0; i < TW_COUNT(paths); i++) {
        if (tw_str_equal(path, tw_str_of(paths[i]))) {
            return true;
        }
    }
    return false;
}

static void upgrade(edge *self, connection *conn, const http_head *head)
{
    bool right = head->upgrades && http_token_equal(head->upgrade, "websocket") &&
                 tw_str_equal(head->method, TW_STR("GET")) && !head->http10 &&
                 head->content_length == 0;
    if (!right || head->websocket_key.len != 24) {
        refuse_head(self, conn, 400);
        return;
    }
    if (!tw_str_equal(head->websocket_version, TW_STR("13"))) {
        refuse_head(self, conn, 426);
        return;
    }
    char key[32];
    lws_link_accept_key(head->websocket_key, key);
    tw_buf_clear(&self->text);
    tw_buf_format(&self->text,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
                  key,
                  identity_speaks(head->protocols) ? "Sec-WebSocket-Protocol: tidewire\r\n" : "");
    connection_send(self, conn, tw_buf_str(&self->text));
    struct http_state *http = conn->http;
    if (!websocket_begin(self, conn, head->path)) {
        connection_drop(self, conn);
        return;
    }
    if (http->input.len > head->len) { /* frames that came with the handshake */
        websocket_bytes(self, conn, (uint8_t *)http->input.ptr + head->len,
                        http->input.len - head->len);
    }
    tw_buf_fini(&http->input);
    tw_buf_fini(&http->body);
    tw_free(http);
}

/* ---- requests ---- */

static bool starts_with(tw_str text, const char *with)
{
    size_t len = strlen(with);
    return text.len >= len && memcmp(text.ptr, with, len) == 0;
}

static bool is_options(const http_head *head)
{
    return tw_str_equal(head->method, TW_STR("OPTIONS"));
}

static void run(edge *self, connection *conn, const http_head *head, tw_str body)
{
    self->figures.http_requests++;
    admission_charge(self, conn);
    tw_arena_reset(&self->arena);
    bool reads =
        tw_str_equal(head->method, TW_STR("GET")) || tw_str_equal(head->method, TW_STR("HEAD"));
    bool admin = conn->listener == EDGE_ADMIN;
    if (tw_str_equal(head->path, TW_STR("/healthz"))) {
        http_health(self, conn, false);
    } else if (tw_str_equal(head->path, TW_STR("/readyz"))) {
        http_health(self, conn, true);
    } else if (admin) {
        if (!reads) {
            refuse_method(self, conn, "GET, HEAD", "figures and pages are read only");
        } else if (!http_admin(self, conn, head)) {
            http_page(self, conn, head->path);
        }
    } else if (starts_with(head->path, "/api/v1/") && is_options(head)) {
        answer_options(self, conn);
    } else if (starts_with(head->path, "/api/v1/")) {
        run_rest(self, conn, head, body);
    } else if (path_is_websocket(head->path)) {
        http_answer_error(self, conn, 426, TW_E_BAD_MESSAGE, "this path speaks websocket");
    } else if (!reads) {
        refuse_method(self, conn, "GET, HEAD", "pages are read only");
    } else {
        http_page(self, conn, head->path);
    }
}

/* Who asks, before the body is read: of REST always, of an upgrade where it brings a token. False:
 * refused. */
static bool is_known(edge *self, connection *conn, const http_head *head, bool upgrades)
{
    struct http_state *http = conn->http;
    broker_why why = {"", ""};
    bool is_rest = conn->listener == EDGE_PUBLIC && starts_with(head->path, "/api/v1/") &&
                   !is_options(head); /* which browsers send without a token */
    bool brings = identity_token(head).ptr != NULL || head->authorization.ptr != NULL;
    bool wanted = is_rest || (upgrades && brings);
    if (upgrades && !wanted) {
        identity_gone(conn); /* of a request before */
    }
    if (self->options->auth == NULL || !wanted || http->in_body) {
        return true;
    }
    tw_err err = identity_of_head(self, conn, head, &why);
    if (err == TW_OK) {
        return true;
    }
    http->running = true;
    http->keep_alive = false;
    http->more_head = err == TW_E_TOKEN ? "WWW-Authenticate: Bearer\r\n" : "Retry-After: 1\r\n";
    http_answer_error(self, conn, status_of(err), err, why.text);
    return false;
}

/* The next request of input, if it is whole. False: nothing more to do now. */
static bool take_request(edge *self, connection *conn)
{
    struct http_state *http = conn->http;
    if (http->running || conn->closing || http->input.len == 0) {
        return false;
    }
    http_head head;
    int status = http_parse(tw_buf_str(&http->input), &head);
    if (status == 0) {
        return false;
    }
    http->keep_alive = status == 200 && head.keep_alive && !self->draining;
    http->head_only = status == 200 && tw_str_equal(head.method, TW_STR("HEAD"));
    http->is_cross = false;
    if (status == 200 && !host_allowed(self, conn, &head)) {
        http->running = true;
        refuse_host(self, conn);
        return false;
    }
    if (status == 200 && head.content_length > TW_HTTP_BODY_MAX) {
        status = 413;
    } else if (status == 200 && !origin_allowed(self, &head)) {
        status = 403;
    }
    if (status != 200) {
        http->running = true;
        refuse_head(self, conn, status);
        return false;
    }
    if (!admission_forwarded(self, conn, head.forwarded)) {
        http->running = true;
        http_refuse_address(self, conn);
        return false;
    }
    http->is_cross = head.origin.ptr != NULL && conn->listener == EDGE_PUBLIC;
    bool upgrades =
        head.upgrade.ptr != NULL && conn->listener == EDGE_PUBLIC && path_is_websocket(head.path);
    if (!is_known(self, conn, &head, upgrades)) {
        return false;
    }
    if (upgrades) {
        upgrade(self, conn, &head);
        return false;
    }
    size_t whole = head.len + (size_t)head.content_length;
    if (http->input.len < whole) {
        if (head.expects_continue && http->input.len == head.len) {
            connection_send(self, conn, TW_STR("HTTP/1.1 100 Continue\r\n\r\n"));
        }
        if (!http->in_body) { /* once: dripped bytes win no time */
            http->in_body = true;
            conn->deadline_ms = tw_now_ms(self->actor) + EDGE_MESSAGE_MS;
        }
        return false;
    }
    http->in_body = false;
    http->running = true;
    run(self, conn, &head, (tw_str){http->input.ptr + head.len, (size_t)head.content_length});
    memmove(http->input.ptr, http->input.ptr + whole, http->input.len - whole);
    http->input.len -= whole;
    return true;
}

void http_go_on(edge *self, connection *conn)
{
    while (conn->kind == CONNECTION_HTTP && conn->http != NULL && take_request(self, conn)) {
    }
}

/* False: no memory, and the connection ends. */
static bool begin(edge *self, connection *conn)
{
    struct http_state *http = conn->http;
    if (http == NULL) {
        http = tw_alloc_zero(1, sizeof(*http));
        if (http == NULL) {
            connection_drop(self, conn);
            return false;
        }
        tw_buf_init(&http->input, HTTP_INPUT_MAX);
        tw_buf_init(&http->body, HTTP_REPLY_MAX);
        conn->http = http;
    }
    return true;
}

void http_refuse_plain(edge *self, connection *conn)
{
    if (begin(self, conn)) {
        http_answer_error(self, conn, 400, TW_E_BAD_MESSAGE,
                          "this port speaks TLS: https:// and wss://");
    }
}

void http_bytes(edge *self, connection *conn, const uint8_t *bytes, size_t len)
{
    if (!begin(self, conn)) {
        return;
    }
    struct http_state *http = conn->http;
    tw_buf_add(&http->input, bytes, len);
    if (http->input.err != TW_OK) {
        if (http->running) {
            connection_drop(self, conn); /* sends on without waiting for its answers */
        } else {
            http->running = true;
            refuse_head(self, conn, 413);
        }
        return;
    }
    http_go_on(self, conn);
}

void http_gone(connection *conn)
{
    if (conn->http != NULL) {
        tw_buf_fini(&conn->http->input);
        tw_buf_fini(&conn->http->body);
        tw_free(conn->http);
        conn->http = NULL;
    }
}
