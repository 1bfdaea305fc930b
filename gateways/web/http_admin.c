/* http_admin.c - what the operator sees: every actor's figures, connections, streams. */
#include <stdlib.h>
#include <sys/resource.h>

#include "protocol/json.h"
#include "protocol/version.h"

#include "gateways/web/http_priv.h"

enum { HTTP_ADMIN_ITEMS_MAX = 10000, HTTP_ADMIN_WAIT_MS = 2000 };

/* ---- /metrics: the text format of Prometheus ---- */

static void add_gauges_text(tw_buf *out, const tw_msg_actor_state *told)
{
    const struct {
        const char *name;
        uint64_t value;
    } own[] = {
        {"handled_total", told->handled},
        {"waiting", told->waiting},
        {"lost_publications_total", told->gaps},
    };
    for (size_t i = 0; i < TW_COUNT(own); i++) {
        tw_buf_format(out, "tidewire_actor_%s{actor=\"%.*s\"} %llu\n", own[i].name,
                      (int)told->name.len, told->name.ptr, (unsigned long long)own[i].value);
    }
    for (size_t i = 0; i < told->gauges.count; i++) {
        const tw_item_gauge *gauge = &told->gauges.at[i];
        tw_buf_format(out, "tidewire_%.*s{actor=\"%.*s\"} %lld\n", (int)gauge->name.len,
                      gauge->name.ptr, (int)told->name.len, told->name.ptr,
                      (long long)gauge->value);
    }
}

/* The name of a metric: what stands before its labels. */
static tw_str metric_of(tw_str line)
{
    const char *end = memchr(line.ptr, '{', line.len);
    end = end == NULL ? memchr(line.ptr, ' ', line.len) : end;
    return (tw_str){line.ptr, end == NULL ? line.len : (size_t)(end - line.ptr)};
}

static int compare_lines(const void *a, const void *b)
{
    const tw_str *one = a;
    const tw_str *other = b;
    tw_str x = metric_of(*one);
    tw_str y = metric_of(*other);
    int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    if (order != 0 || x.len != y.len) {
        return order != 0 ? order : (x.len < y.len ? -1 : 1);
    }
    return one->ptr < other->ptr ? -1 : 1; /* as they came */
}

/* All lines of a metric must stand together, behind its type: the actors tell theirs one after the
 * other. Returns how many there are; *lines is of the arena, NULL without memory. */
static size_t sort_lines(tw_arena *arena, tw_str text, tw_str **lines)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        count += text.ptr[i] == '\n' ? 1 : 0;
    }
    *lines = tw_arena_alloc(arena, (count + 1) * sizeof **lines);
    if (*lines == NULL) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        const char *end = memchr(text.ptr, '\n', text.len);
        (*lines)[i] = (tw_str){text.ptr, (size_t)(end - text.ptr)};
        text.len -= (size_t)(end + 1 - text.ptr);
        text.ptr = end + 1;
    }
    qsort(*lines, count, sizeof **lines, compare_lines);
    return count;
}

static bool is_counter(tw_str metric)
{
    static const char end[] = "_total";
    size_t len = sizeof end - 1;
    return metric.len > len && memcmp(metric.ptr + metric.len - len, end, len) == 0;
}

/* Of the process, by the names that dashboards know. */
static void add_process(tw_buf *out)
{
    struct rusage used = {0};
    getrusage(RUSAGE_SELF, &used);
    int64_t us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * INT64_C(1000000) +
                 used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    tw_buf_format(out,
                  "process_cpu_seconds_total %lld.%06lld\ntidewire_build_info{version=\"%s\"} 1\n",
                  (long long)(us / 1000000), (long long)(us % 1000000), TW_VERSION);
}

static void answer_metrics(edge *self, connection *conn, tw_buf *told)
{
    add_process(told);
    tw_str *lines;
    tw_buf text;
    tw_arena_reset(&self->arena);
    tw_buf_init(&text, HTTP_REPLY_MAX);
    size_t count = told->err == TW_OK ? sort_lines(&self->arena, tw_buf_str(told), &lines) : 0;
    tw_str last = {"", 0};
    for (size_t i = 0; i < count; i++) {
        tw_str metric = metric_of(lines[i]);
        if (!tw_str_equal(metric, last)) {
            tw_buf_format(&text, "# TYPE %.*s %s\n", (int)metric.len, metric.ptr,
                          is_counter(metric) ? "counter" : "gauge");
            last = metric;
        }
        tw_buf_add_str(&text, lines[i]);
        tw_buf_add_byte(&text, '\n');
    }
    bool fits = count > 0 && text.err == TW_OK;
    http_answer(self, conn, fits ? 200 : 503, "text/plain; version=0.0.4",
                fits ? tw_buf_str(&text) : (tw_str){"", 0});
    tw_buf_fini(&text);
}

/* ---- JSON: /varz and /actorz ---- */

static void add_state_json(tw_buf *out, const tw_msg_actor_state *told)
{
    tw_buf_add_str(out, TW_STR("{\"name\":"));
    tw_json_write_str(out, told->name);
    tw_buf_add_str(out, TW_STR(",\"state\":"));
    tw_json_write_str(out, told->state);
    tw_buf_format(out, ",\"handled\":%llu,\"waiting\":%llu,\"gaps\":%llu,\"gauges\":{",
                  (unsigned long long)told->handled, (unsigned long long)told->waiting,
                  (unsigned long long)told->gaps);
    for (size_t i = 0; i < told->gauges.count; i++) {
        if (i > 0) {
            tw_buf_add_byte(out, ',');
        }
        tw_json_write_str(out, told->gauges.at[i].name);
        tw_buf_format(out, ":%lld", (long long)told->gauges.at[i].value);
    }
    tw_buf_add_str(out, TW_STR("}}"));
}

static void end_gathering(edge *self, connection *conn)
{
    struct http_state *http = conn->http;
    if (!http->prometheus) {
        tw_buf_add_byte(&http->body, ']');
        if (http->with_health) {
            char why[TW_ERROR_TEXT_MAX] = "";
            if (self->options->system != NULL) {
                tw_system_health(self->options->system, why, sizeof(why));
            }
            tw_buf_add_str(&http->body, TW_STR(",\"health\":"));
            tw_json_write_str(&http->body, tw_str_of(why[0] == 0 ? "green" : why));
        }
        tw_buf_add_byte(&http->body, '}');
    }
    tw_buf body = http->body;
    tw_buf_init(&http->body, HTTP_REPLY_MAX);
    if (http->prometheus) {
        answer_metrics(self, conn, &body);
    } else {
        http_answer(self, conn, body.err == TW_OK ? 200 : 503, NULL, tw_buf_str(&body));
    }
    tw_buf_fini(&body);
}

/* The connection whose request an answer is for; NULL: it is gone, or waits no more. */
static connection *find_asker(edge *self, uint64_t tag)
{
    connection *conn = edge_find(self, tag);
    bool waits = conn != NULL && conn->kind == CONNECTION_HTTP && conn->http->running;
    return waits ? conn : NULL;
}

/* context is the edge; tag the connection, which may be gone. */
static void on_state(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)state;
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn = find_asker(self, tag);
    if (conn == NULL) {
        return;
    }
    struct http_state *http = conn->http;
    if (err == TW_OK && in->id == TW_MSG_actor_state) {
        if (http->prometheus) {
            add_gauges_text(&http->body, &in->body->actor_state);
        } else {
            if (http->docs++ > 0) {
                tw_buf_add_byte(&http->body, ',');
            }
            add_state_json(&http->body, &in->body->actor_state);
        }
    }
    if (--http->wait == 0) {
        end_gathering(self, conn);
    }
}

static void gather(edge *self, connection *conn)
{
    struct http_state *http = conn->http;
    http->docs = 0;
    http->wait = (uint16_t)self->peers_count;
    conn->deadline_ms = 0; /* the asks have one */
    if (!http->prometheus) {
        tw_buf_add_str(&http->body, TW_STR("{\"actors\":["));
    }
    if (self->peers_count == 0) {
        end_gathering(self, conn);
        return;
    }
    for (size_t i = 0; i < self->peers_count; i++) {
        tw_ask(self->actor, self->peers[i], TW_MSG_actor_state_ask,
               &(tw_msg_actor_state_ask){.reset = false}, HTTP_ADMIN_WAIT_MS, on_state, self,
               conn->id);
    }
}

static void show_metrics(edge *self, connection *conn)
{
    conn->http->prometheus = true;
    gather(self, conn);
}

static void show_varz(edge *self, connection *conn)
{
    conn->http->prometheus = false;
    conn->http->with_health = true;
    gather(self, conn);
}

static void show_actorz(edge *self, connection *conn)
{
    conn->http->prometheus = false;
    conn->http->with_health = false;
    gather(self, conn);
}

/* ---- /connz and /streamz: what all gateways have, each telling its own ---- */

static void add_connection(edge *self, const connection *one, tw_buf *out)
{
    char address[NETWORK_TEXT_MAX];
    uint64_t now_ms = tw_now_ms(self->actor);
    network_text(&one->peer, address);
    tw_buf_format(out,
                  "%s{\"gateway\":\"%s\",\"id\":%llu,\"kind\":\"%s\",\"address\":\"%s\","
                  "\"user\":",
                  out->len == 0 ? "" : ",", tw_actor_name(self->actor), (unsigned long long)one->id,
                  one->kind == CONNECTION_WEBSOCKET ? "websocket" : "http", address);
    tw_str user =
        one->identity.rights == NULL ? (tw_str){"", 0} : rights_subject(one->identity.rights);
    tw_json_write_str(out, user);
    tw_buf_format(out, ",\"streams\":%u,\"queued\":%zu,\"quiet_ms\":%llu,\"age_ms\":%llu}",
                  one->streams.count, one->streams.out.bytes,
                  (unsigned long long)(now_ms - one->heard_ms),
                  (unsigned long long)(now_ms - one->opened_ms));
}

tw_err http_show(edge *self, bool of_streams, tw_buf *items, tw_msg_gateway_page *page)
{
    *page = (tw_msg_gateway_page){.count = self->connections};
    if (of_streams) {
        streams_figures figures = streams_tell(self->streams);
        page->count = figures.streams;
        page->live = figures.live;
        streams_describe(self->streams, tw_actor_name(self->actor), items, HTTP_ADMIN_ITEMS_MAX);
    } else {
        size_t told = 0;
        for (size_t i = 0; i < self->slots_count && told < HTTP_ADMIN_ITEMS_MAX; i++) {
            if (self->slots[i] != NULL) {
                add_connection(self, self->slots[i], items);
                told++;
            }
        }
    }
    page->items = tw_buf_str(items);
    return items->err;
}

static void end_page(edge *self, connection *conn)
{
    struct http_state *http = conn->http;
    tw_buf page;
    tw_buf_init(&page, HTTP_REPLY_MAX);
    if (http->of_streams) {
        tw_buf_format(&page, "{\"streams\":%llu,\"live\":%llu", (unsigned long long)http->count,
                      (unsigned long long)http->live);
    } else {
        tw_buf_format(&page, "{\"count\":%llu", (unsigned long long)http->count);
    }
    if (http->silent > 0) { /* what they have is missing */
        tw_buf_format(&page, ",\"silent\":%llu", (unsigned long long)http->silent);
    }
    tw_buf_format(&page, ",\"%s\":[", http->of_streams ? "topics" : "connections");
    tw_buf_add_str(&page, tw_buf_str(&http->body));
    tw_buf_add_str(&page, TW_STR("]}"));
    bool fits = page.err == TW_OK && http->body.err == TW_OK;
    http_answer(self, conn, fits ? 200 : 503, NULL, fits ? tw_buf_str(&page) : TW_STR("{}"));
    tw_buf_fini(&page);
}

static void take_page(struct http_state *http, const tw_msg_gateway_page *page)
{
    http->count += page->count;
    http->live += page->live;
    if (page->items.len > 0 && http->body.len > 0) {
        tw_buf_add_byte(&http->body, ',');
    }
    tw_buf_add_str(&http->body, page->items);
}

/* context is the edge; tag the connection, which may be gone. */
static void on_page(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)state;
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn = find_asker(self, tag);
    if (conn == NULL) {
        return;
    }
    if (err == TW_OK && in->id == TW_MSG_gateway_page) {
        take_page(conn->http, &in->body->gateway_page);
    } else {
        conn->http->silent++;
    }
    if (--conn->http->wait == 0) {
        end_page(self, conn);
    }
}

static void show_page(edge *self, connection *conn, bool of_streams)
{
    struct http_state *http = conn->http;
    tw_buf items;
    tw_msg_gateway_page own;
    tw_buf_init(&items, HTTP_REPLY_MAX);
    http->of_streams = of_streams;
    http->count = http->live = http->silent = 0;
    if (http_show(self, of_streams, &items, &own) == TW_OK) {
        take_page(http, &own);
    } else {
        http->silent++;
    }
    tw_buf_fini(&items);
    http->wait = (uint16_t)self->gateways_count;
    if (http->wait == 0) {
        end_page(self, conn);
        return;
    }
    conn->deadline_ms = 0; /* the asks have one */
    for (size_t i = 0; i < self->gateways_count; i++) {
        tw_ask(self->actor, self->gateways[i], TW_MSG_gateway_page_ask,
               &(tw_msg_gateway_page_ask){.streams = of_streams}, HTTP_ADMIN_WAIT_MS, on_page, self,
               conn->id);
    }
}

static void show_connz(edge *self, connection *conn)
{
    show_page(self, conn, false);
}

static void show_streamz(edge *self, connection *conn)
{
    show_page(self, conn, true);
}

/* What the program was told, and where the public listener stands. */
static void show_configz(edge *self, connection *conn)
{
    const gateway_options *options = self->options;
    tw_buf body;
    tw_buf_init(&body, HTTP_REPLY_MAX);
    tw_buf_add_str(&body, TW_STR("{\"listen\":{\"address\":"));
    tw_json_write_str(&body, tw_str_of(options->listen_address));
    tw_buf_format(&body, ",\"port\":%d,\"tls\":%s},\"demo\":%s,\"configuration\":%s}",
                  http_public_port(self), options->tls != NULL ? "true" : "false",
                  options->demo ? "true" : "false",
                  options->configuration == NULL ? "null" : options->configuration);
    http_answer(self, conn, 200, NULL, tw_buf_str(&body));
    tw_buf_fini(&body);
}

bool http_admin(edge *self, connection *conn, const http_head *head)
{
    static const struct {
        const char *path;
        void (*show)(edge *self, connection *conn);
    } pages[] = {
        {"/metrics", show_metrics}, {"/varz", show_varz},     {"/connz", show_connz},
        {"/streamz", show_streamz}, {"/actorz", show_actorz}, {"/configz", show_configz},
    };
    for (size_t i = 0; i < TW_COUNT(pages); i++) {
        if (tw_str_equal(head->path, tw_str_of(pages[i].path))) {
            pages[i].show(self, conn);
            return true;
        }
    }
    return false;
}
