/* streams_test.c - streams against a model: a log, a manager, readers and clients, all in memory,
 * in
 * random order, with lost batches, restarts of the manager, slow clients and failing answers.
 *
 * What each client must see: positions that rise, no event twice, prev never above what it knows,
 * at
 * each sync exactly the newest rows up to its position, nothing after closed. */
#include "gateways/streams/streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/json.h"

#include "broker/topic_query.h"

#include "gateways/wire/websocket_frame.h"

enum {
    KEYS = 6,
    ROWS_MAX = 4096,
    CONNS = 4,
    MUXES = 3,
    QUERIES = 3, /* a, b, both */
    TOPICS_MAX = 64,
    PENDING_MAX = 4096,
};

typedef struct row {
    char coll; /* 'a' or 'b' */
    int key;
} row;

typedef struct client {
    bool open;
    bool synced;
    bool closing; /* close was sent: closed must come */
    int query;
    uint64_t held[2][KEYS]; /* seqno by collection and key */
    uint64_t highest;       /* position known */
    uint64_t sync_at;       /* of the last sync or closed */
} client;

typedef struct pending_batch {
    uint64_t prev_head, head;
    uint64_t prev[TOPICS_MAX]; /* of each topic before the batch */
    int topics;                /* known when it was made */
    int life;
} pending_batch;

typedef struct pending_page {
    bool used;
    uint64_t tag, after, since;
    bool fresh, resume, now;
    int query;
} pending_page;

typedef struct world {
    uint32_t random;
    streams *streams;
    catalog catalog;
    tw_bson canonical[QUERIES];
    tw_arena arena; /* of canonical */
    row rows[ROWS_MAX + 1];
    uint64_t head;
    uint64_t now_ms;
    int life; /* of the manager */
    struct {
        int query;
        uint64_t last;    /* its last event */
    } topics[TOPICS_MAX]; /* of this life; id = life * 1000 + index + 1 */
    int topics_count;
    pending_batch batches[PENDING_MAX];
    int batches_first, batches_count;
    struct {
        uint64_t tag;
        int query;
    } opens[STREAMS_OPENS_MAX];
    int opens_count;
    pending_page pages[STREAMS_PAGES_MAX];
    streams_conn conns[CONNS];
    tw_buf received[CONNS];
    client clients[CONNS][MUXES];
    uint64_t padding;   /* bytes of a row's tail, now and then */
    uint32_t reads_max; /* bytes of a slow client's read; 0: all are fast */
    bool gap_due;
} world;

static uint32_t chance(world *w, uint32_t below)
{
    w->random = w->random * 1664525U + 1013904223U;
    return (w->random >> 8) % below;
}

static bool query_has(int which, char coll)
{
    return which == 2 || (which == 0 && coll == 'a') || (which == 1 && coll == 'b');
}

static int query_of(const world *w, tw_bson canonical)
{
    for (int i = 0; i < QUERIES; i++) {
        if (w->canonical[i].len == canonical.len &&
            memcmp(w->canonical[i].ptr, canonical.ptr, canonical.len) == 0) {
            return i;
        }
    }
    if (tw_bson_get_str(canonical, TW_STR("k")).ptr != NULL) {
        return QUERIES; /* a change stream: its opening is not answered */
    }
    fail_msg("a query that nobody asked for");
    return -1;
}

/* ---- the sink ---- */

static void on_dirty(void *context, streams_conn *conn)
{
    (void)context;
    assert_true(conn->dirty);
}

static void on_topic_open(void *context, uint64_t tag, tw_bson canonical)
{
    world *w = context;
    assert_true(w->opens_count < STREAMS_OPENS_MAX);
    w->opens[w->opens_count].tag = tag;
    w->opens[w->opens_count++].query = query_of(w, canonical);
}

static void on_page_read(void *context, uint64_t tag, const tw_msg_page_read *ask, bool processed)
{
    world *w = context;
    assert_true(tag < STREAMS_PAGES_MAX);
    assert_false(processed);
    assert_false(w->pages[tag].used);
    uint64_t since = ask->since.count == 0 ? 0 : ask->since.at[0].seqno;
    w->pages[tag] = (pending_page){true,       tag,         ask->after, since,
                                   ask->fresh, ask->resume, ask->now,   query_of(w, ask->query)};
}

static void on_manifest(void *context, uint64_t tag, tw_msg_id id, const void *body, bool processed)
{
    (void)context;
    (void)tag;
    (void)body;
    (void)processed;
    fail_msg("a manifest is read by %d, and none was given", (int)id);
}

/* ---- the log and the manager ---- */

static bool is_newest(const world *w, uint64_t n, uint64_t upto)
{
    for (uint64_t m = n + 1; m <= upto; m++) {
        if (w->rows[m].coll == w->rows[n].coll && w->rows[m].key == w->rows[n].key) {
            return false;
        }
    }
    return true;
}

static void write_rows(world *w)
{
    if (w->head + 3 > ROWS_MAX || w->batches_count == PENDING_MAX) {
        return;
    }
    pending_batch *batch = &w->batches[w->batches_count++];
    batch->prev_head = w->head;
    batch->topics = w->topics_count;
    batch->life = w->life;
    uint32_t count = 1 + chance(w, 3);
    for (int t = 0; t < w->topics_count; t++) {
        batch->prev[t] = w->topics[t].last;
    }
    for (uint32_t i = 0; i < count; i++) {
        w->head++;
        w->rows[w->head] = (row){chance(w, 2) == 0 ? 'a' : 'b', (int)chance(w, KEYS)};
        for (int t = 0; t < w->topics_count; t++) {
            if (query_has(w->topics[t].query, w->rows[w->head].coll)) {
                w->topics[t].last = w->head;
            }
        }
    }
    batch->head = w->head;
}

static tw_str tail_of(tw_arena *arena, const world *w, uint64_t n)
{
    tw_buf text;
    tw_buf_init(&text, 1 << 20);
    tw_buf_format(&text, "\"srv_id\":1,\"seqno\":%llu,\"coll\":\"%c\",\"key\":%d,\"pad\":\"",
                  (unsigned long long)n, w->rows[n].coll, w->rows[n].key);
    for (uint64_t i = 0; i < (n % 7 == 0 ? w->padding : 0); i++) {
        tw_buf_add_byte(&text, 'x');
    }
    tw_buf_add_str(&text, TW_STR("\"}"));
    tw_str out = tw_arena_str(arena, tw_buf_str(&text));
    tw_buf_fini(&text);
    assert_non_null(out.ptr);
    return out;
}

static void deliver_batch(world *w, bool lose)
{
    if (w->batches_first == w->batches_count) {
        return;
    }
    pending_batch *batch = &w->batches[w->batches_first++];
    if (lose) {
        return;
    }
    if (w->gap_due) {
        w->gap_due = false;
        streams_gap(w->streams);
    }
    tw_arena arena;
    tw_arena_init(&arena, 1 << 24);
    tw_item_event events[4];
    tw_item_mark marks[4][TOPICS_MAX];
    size_t count = 0;
    for (uint64_t n = batch->prev_head + 1; n <= batch->head; n++) {
        size_t marked = 0;
        for (int t = 0; t < batch->topics; t++) {
            bool own =
                batch->life == w->life ? query_has(w->topics[t].query, w->rows[n].coll) : false;
            if (own) {
                uint64_t id = (uint64_t)batch->life * 1000 + (uint64_t)t + 1;
                marks[count][marked++] = (tw_item_mark){id, batch->prev[t]};
                batch->prev[t] = n;
            }
        }
        if (marked > 0) {
            events[count] = (tw_item_event){.n = n,
                                            .srv = 1,
                                            .seqno = n,
                                            .type = TW_STR("record"),
                                            .tail = tail_of(&arena, w, n)};
            events[count].marks = (tw_list_mark){marks[count], marked};
            count++;
        }
    }
    tw_position at = {1, batch->head};
    tw_msg_topic_batch message = {batch->prev_head, batch->head, {&at, 1}, {events, count}};
    streams_batch(w->streams, &arena, &message);
    tw_arena_fini(&arena);
}

static void restart_manager(world *w)
{
    w->life++;
    w->topics_count = 0;
    w->gap_due = true; /* seen with the first batch of the new life */
}

static void answer_open(world *w, bool well)
{
    if (w->opens_count == 0) {
        return;
    }
    int which = w->opens[0].query;
    uint64_t tag = w->opens[0].tag;
    memmove(w->opens, w->opens + 1, sizeof(w->opens[0]) * (size_t)(w->opens_count - 1));
    w->opens_count--;
    if (!well && chance(w, 4) == 0) {
        streams_opened(w->streams, tag, TW_E_UNAVAILABLE, NULL, (tw_str){"", 0});
        return;
    }
    int topic = 0;
    while (topic < w->topics_count && w->topics[topic].query != which) {
        topic++;
    }
    if (topic == w->topics_count) {
        assert_true(topic < TOPICS_MAX);
        w->topics[w->topics_count].query = which;
        w->topics[w->topics_count++].last = 0;
    }
    tw_msg_topic_opened opened = {(uint64_t)w->life * 1000 + (uint64_t)topic + 1, w->head};
    streams_opened(w->streams, tag, TW_OK, &opened, (tw_str){"", 0});
}

static void answer_page(world *w, bool well)
{
    uint32_t slot = chance(w, STREAMS_PAGES_MAX);
    if (!w->pages[slot].used) {
        return;
    }
    pending_page ask = w->pages[slot];
    w->pages[slot].used = false;
    if (!well && chance(w, 8) == 0) {
        streams_page(w->streams, ask.tag, TW_E_TIMEOUT, NULL, (tw_str){"", 0});
        return;
    }
    tw_arena arena;
    tw_arena_init(&arena, 1 << 24);
    tw_item_page_row rows[3];
    size_t count = 0;
    uint64_t at = ask.now ? w->head : ask.fresh ? 0 : ask.resume ? ask.since : ask.after;
    uint64_t head =
        w->head; /* of a reader that may be late: within a batch, or behind the gateway */
    if (!well && chance(w, 2) == 0) {
        uint64_t late = chance(w, 8);
        head = head - at > late ? head - late : at;
    }
    size_t rows_max = 1 + chance(w, 3);
    while (at < head && count < rows_max) {
        at++;
        if (query_has(ask.query, w->rows[at].coll) && is_newest(w, at, head)) {
            rows[count++] = (tw_item_page_row){at, 1, at, TW_STR("record"), tail_of(&arena, w, at)};
        }
    }
    tw_position position = {1, at};
    tw_msg_page page = {.after = at,
                        .head = head,
                        .caught_up = at == head,
                        .at = {&position, 1},
                        .rows = {rows, count}};
    streams_page(w->streams, ask.tag, TW_OK, &page, (tw_str){"", 0});
    tw_arena_fini(&arena);
}

/* ---- clients ---- */

static uint64_t number_at(const char *text, const char *name, uint64_t otherwise)
{
    const char *at = strstr(text, name);
    return at == NULL ? otherwise : strtoull(at + strlen(name), NULL, 10);
}

static void check_set(const world *w, const client *one, uint64_t upto, const char *what)
{
    uint64_t truth[2][KEYS] = {{0}};
    for (uint64_t n = 1; n <= upto; n++) {
        if (query_has(one->query, w->rows[n].coll)) {
            truth[w->rows[n].coll - 'a'][w->rows[n].key] = n;
        }
    }
    for (int c = 0; c < 2; c++) {
        for (int k = 0; k < KEYS; k++) {
            if (one->held[c][k] != truth[c][k]) {
                fail_msg("%s at %llu: key %c%d is %llu, held %llu", what, (unsigned long long)upto,
                         'a' + c, k, (unsigned long long)truth[c][k],
                         (unsigned long long)one->held[c][k]);
            }
        }
    }
}

static void client_hears(world *w, int conn, char *text)
{
    uint64_t mux = number_at(text, "\"mux_id\":", MUXES);
    assert_true(mux < MUXES);
    client *one = &w->clients[conn][mux];
    assert_true(one->open);
    if (strncmp(text, "{\"type\":\"record\"", 16) == 0) {
        uint64_t seqno = number_at(text, "\"seqno\":", 0);
        uint64_t prev = number_at(text, "\"prev\":", 0);
        const row *told = &w->rows[seqno];
        assert_true(seqno > one->highest); /* ORDERED, UNIQUE */
        assert_true(prev <= one->highest); /* no gap */
        assert_true(query_has(one->query, told->coll));
        one->highest = seqno;
        one->held[told->coll - 'a'][told->key] = seqno;
        return;
    }
    uint64_t since = number_at(text, "\"since\":[[1,", 0);
    if (strncmp(text, "{\"type\":\"sync\"", 14) == 0) {
        assert_true(since >= one->highest);
        assert_true(since >= one->sync_at);
        check_set(w, one, since, "sync");
        one->highest = since;
        one->sync_at = since;
        one->synced = true;
    } else if (strncmp(text, "{\"type\":\"closed\"", 16) == 0) {
        assert_true(one->closing);
        assert_true(since <= one->highest || since >= one->sync_at);
        if (since >= one->highest && since > 0) {
            check_set(w, one, since, "closed");
        }
        one->sync_at = since;
        one->open = false;
    } else {
        fail_msg("%s", text);
    }
}

/* Reads some bytes of a connection, and all whole frames of what has come. */
static void client_reads(world *w, int conn, size_t bytes_max)
{
    streams_conn *from = &w->conns[conn];
    tw_buf *got = &w->received[conn];
    struct iovec iov[8];
    size_t count = outbound_peek(&from->out, iov, TW_COUNT(iov), bytes_max);
    size_t read = 0;
    for (size_t i = 0; i < count; i++) {
        tw_buf_add(got, iov[i].iov_base, iov[i].iov_len);
        read += iov[i].iov_len;
    }
    outbound_sent(&from->out, read);
    from->dirty = false;
    assert_false(from->failed);
    size_t at = 0;
    while (got->len - at >= 2) {
        const uint8_t *head = (const uint8_t *)got->ptr + at;
        size_t header = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
        if (got->len - at < header) {
            break;
        }
        uint64_t len = header == 2 ? head[1] : 0;
        for (size_t i = 2; i < header; i++) {
            len = len << 8 | head[i];
        }
        if (got->len - at - header < len) {
            break;
        }
        assert_int_equal(head[0], 0x81);
        char *text = malloc(len + 1);
        memcpy(text, head + header, len);
        text[len] = 0;
        client_hears(w, conn, text);
        free(text);
        at += header + len;
    }
    if (at > 0) {
        memmove(got->ptr, got->ptr + at, got->len - at);
        got->len -= at;
    }
    if (from->out.bytes < STREAMS_QUEUE_LOW) {
        streams_conn_drained(w->streams, from);
    }
}

static tw_err say(world *w, int conn, const char *text, bool subscribe)
{
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_bson message;
    broker_why why = {"", ""};
    assert_int_equal(tw_json_read(&arena, tw_str_of(text), 32, &message, NULL), TW_OK);
    tw_err err = subscribe ? streams_subscribe(w->streams, &w->conns[conn], &arena, message, &why)
                           : streams_close(w->streams, &w->conns[conn], message, &why);
    tw_arena_fini(&arena);
    return err;
}

static void client_subscribes(world *w, int conn, int mux)
{
    static const char *const asks[QUERIES] = {"\"a\":\"*\"", "\"b\":\"*\"",
                                              "\"a\":\"*\",\"b\":\"*\""};
    client *one = &w->clients[conn][mux];
    char text[256];
    if (one->closing && one->open) {
        return; /* waits for closed */
    }
    if (one->open) {
        tw_format(text, sizeof(text), "{\"mux_id\":%d,%s}", mux, asks[0]);
        assert_int_equal(say(w, conn, text, true), TW_E_MUX_IN_USE);
        return;
    }
    bool resume = one->sync_at > 0 && one->highest == one->sync_at && chance(w, 2) == 0;
    if (!resume) {
        *one = (client){.query = (int)chance(w, QUERIES)};
    }
    one->open = true;
    one->synced = false;
    one->closing = false;
    if (resume) {
        tw_format(text, sizeof(text), "{\"mux_id\":%d,%s,\"since\":[[1,%llu]]}", mux,
                  asks[one->query], (unsigned long long)one->sync_at);
    } else {
        tw_format(text, sizeof(text), "{\"mux_id\":%d,%s,\"syncid\":\"s\"}", mux, asks[one->query]);
    }
    assert_int_equal(say(w, conn, text, true), TW_OK);
}

static void client_closes(world *w, int conn, int mux)
{
    client *one = &w->clients[conn][mux];
    char text[64];
    tw_format(text, sizeof(text), "{\"mux_id\":%d}", mux);
    if (!one->open || one->closing) {
        assert_int_equal(say(w, conn, text, false), TW_E_NO_STREAM);
        return;
    }
    one->closing = true;
    assert_int_equal(say(w, conn, text, false), TW_OK);
}

static void connection_lost(world *w, int conn)
{
    streams_conn_gone(w->streams, &w->conns[conn]);
    memset(&w->conns[conn], 0, sizeof(w->conns[conn]));
    tw_buf_clear(&w->received[conn]);
    for (int mux = 0; mux < MUXES; mux++) {
        w->clients[conn][mux].open = false;
    }
}

static void keep(world *w)
{
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_list_one_id ids = {NULL, 0};
    if (streams_keep(w->streams, &arena, &ids)) {
        assert_int_equal(w->opens_count, 0);
        streams_kept(w->streams);
    }
    tw_arena_fini(&arena);
}

static void tick(world *w, uint64_t ms)
{
    w->now_ms += ms;
    streams_tick(w->streams, w->now_ms);
}

/* ---- runs ---- */

static void world_init(world *w, uint32_t seed)
{
    memset(w, 0, sizeof(*w));
    w->random = seed;
    w->life = 1;
    w->catalog = (catalog){.magic = CATALOG_MAGIC, .default_database = "main"};
    streams_sink sink = {w, on_dirty, on_topic_open, on_page_read, on_manifest};
    w->now_ms = 1000000000; /* as a clock that runs since the machine began */
    assert_int_equal(streams_new(&w->streams, &w->catalog, &sink, w->now_ms), TW_OK);
    streams_gap(w->streams); /* the manager is heard */
    tw_arena_init(&w->arena, 1 << 20);
    static const char *const asks[QUERIES] = {"{\"a\":\"*\"}", "{\"b\":\"*\"}",
                                              "{\"a\":\"*\",\"b\":\"*\"}"};
    for (int i = 0; i < QUERIES; i++) {
        tw_bson message;
        broker_why why;
        assert_int_equal(tw_json_read(&w->arena, tw_str_of(asks[i]), 32, &message, NULL), TW_OK);
        assert_int_equal(
            topic_query_of_subscribe(&w->catalog, NULL, &w->arena, message, &w->canonical[i], &why),
            TW_OK);
    }
    for (int i = 0; i < CONNS; i++) {
        tw_buf_init(&w->received[i], 1 << 26);
    }
}

static void world_fini(world *w)
{
    for (int i = 0; i < CONNS; i++) {
        streams_conn_gone(w->streams, &w->conns[i]);
        tw_buf_fini(&w->received[i]);
    }
    streams_free(&w->streams);
    tw_arena_fini(&w->arena);
}

static void random_step(world *w)
{
    int conn = (int)chance(w, CONNS);
    int mux = (int)chance(w, MUXES);
    uint32_t what = chance(w, 100);
    if (what < 20) {
        write_rows(w);
    } else if (what < 42) {
        deliver_batch(w, chance(w, 40) == 0);
    } else if (what < 50) {
        answer_open(w, false);
    } else if (what < 70) {
        answer_page(w, false);
    } else if (what < 84) {
        size_t often = chance(w, 2) == 0 ? 1 : 100;
        client_reads(w, conn,
                     1 + (w->reads_max > 0 && chance(w, 20) > 0 ? chance(w, w->reads_max)
                                                                : chance(w, 4000) * often));
    } else if (what < 91) {
        client_subscribes(w, conn, mux);
    } else if (what < 94) {
        client_closes(w, conn, mux);
    } else if (what < 98) {
        tick(w, chance(w, 100));
    } else if (what < 99) {
        keep(w);
    } else if (chance(w, 4) == 0) {
        connection_lost(w, conn);
    } else if (chance(w, 4) == 0 && w->batches_first == w->batches_count) {
        restart_manager(w);
        write_rows(w); /* its first batch shows that it began anew */
    }
}

/* Everything goes well from now on, until every stream was told that it has everything. */
static void settle(world *w)
{
    for (int i = 0; i < 3; i++) {
        write_rows(w);
        for (int turn = 0; turn < 4000; turn++) {
            deliver_batch(w, false);
            answer_open(w, true);
            answer_page(w, true);
            tick(w, 1);
            for (int conn = 0; conn < CONNS; conn++) {
                client_reads(w, conn, SIZE_MAX);
            }
        }
        tick(w, TW_SYNC_REPEAT_MS + 1);
    }
    for (int conn = 0; conn < CONNS; conn++) {
        client_reads(w, conn, SIZE_MAX);
        for (int mux = 0; mux < MUXES; mux++) {
            client *one = &w->clients[conn][mux];
            if (one->open) {
                assert_true(one->synced);
                assert_int_equal(one->sync_at, w->head); /* CONVERGED */
                check_set(w, one, w->head, "end");
            }
        }
    }
}

static streams_figures run_random(uint32_t seed, int steps)
{
    static world w;
    world_init(&w, seed);
    for (int i = 0; i < steps; i++) {
        random_step(&w);
    }
    settle(&w);
    streams_figures figures = streams_tell(w.streams);
    world_fini(&w);
    return figures;
}

static void test_streams_in_random_order_tell_every_client_exactly_the_log(void **state)
{
    (void)state;
    uint64_t joined = 0;
    uint64_t gaps = 0;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        streams_figures figures = run_random(seed, 1500);
        joined += figures.joined_from_ring;
        gaps += figures.gaps;
    }
    assert_true(joined > 0); /* what is tested did happen */
    assert_true(gaps > 0);
}

static void test_streams_of_slow_clients_fall_behind_and_catch_up(void **state)
{
    (void)state;
    uint64_t behind = 0;
    for (uint32_t seed = 100; seed < 106; seed++) {
        static world w;
        world_init(&w, seed);
        w.padding = 700000;
        w.reads_max = 2000;
        for (int i = 0; i < 1500; i++) {
            random_step(&w);
        }
        behind += streams_tell(w.streams).behind;
        settle(&w);
        world_fini(&w);
    }
    assert_true(behind > 0);
}

/* What a connection has queued, as text. */
static bool was_told(const world *w, int conn, const char *text)
{
    struct iovec parts[16];
    size_t count = outbound_peek(&w->conns[conn].out, parts, 16, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        if (memmem(parts[i].iov_base, parts[i].iov_len, text, strlen(text)) != NULL) {
            return true;
        }
    }
    return false;
}

/* A world whose streams 0 and 1 of connections 0 and 1 are live. */
static void go_live(world *w, const char *first, const char *second)
{
    world_init(w, 7);
    w->clients[0][1] = (client){.open = true};
    w->clients[1][1] = (client){.open = true};
    assert_int_equal(say(w, 0, first, true), TW_OK);
    assert_int_equal(say(w, 1, second, true), TW_OK);
    for (int i = 0; i < 200; i++) {
        answer_open(w, true);
        answer_page(w, true);
    }
}

static void test_streams_of_one_class_share_frames(void **state)
{
    (void)state;
    static world w;
    go_live(&w, "{\"mux_id\":1,\"a\":\"*\"}", "{\"a\":\"*\",\"mux_id\":1}");
    streams_figures figures = streams_tell(w.streams);
    assert_int_equal(figures.topics, 1);
    assert_int_equal(figures.classes, 1);
    assert_int_equal(figures.live, 2);
    client_reads(&w, 0, SIZE_MAX);
    client_reads(&w, 1, SIZE_MAX);
    while (w.head == 0 || w.rows[w.head].coll != 'a') {
        write_rows(&w);
    }
    while (w.batches_first < w.batches_count) {
        deliver_batch(&w, false);
    }
    struct iovec one[16];
    struct iovec two[16];
    size_t count = outbound_peek(&w.conns[0].out, one, 16, SIZE_MAX);
    assert_int_equal(outbound_peek(&w.conns[1].out, two, 16, SIZE_MAX), count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(one[i].iov_base, two[i].iov_base);
    }
    client_reads(&w, 0, SIZE_MAX);
    client_reads(&w, 1, SIZE_MAX);
    world_fini(&w);
}

static void test_streams_of_a_full_connection_catch_up_and_cost_the_others_nothing(void **state)
{
    (void)state;
    static world w;
    go_live(&w, "{\"mux_id\":1,\"a\":\"*\",\"b\":\"*\"}", "{\"a\":\"*\",\"b\":\"*\",\"mux_id\":1}");
    w.clients[0][1].query = 2;
    w.clients[1][1].query = 2;
    w.padding = 700000;
    client_reads(&w, 0, SIZE_MAX);
    for (int i = 0; i < 30; i++) {
        write_rows(&w);
        deliver_batch(&w, false);
        client_reads(&w, 1, SIZE_MAX);
        assert_true(w.conns[0].out.bytes <= TW_OUTBOUND_QUEUE_MAX);
    }
    assert_int_equal(streams_tell(w.streams).behind, 1);
    assert_int_equal(streams_tell(w.streams).live, 1);
    settle(&w);
    assert_int_equal(streams_tell(w.streams).live, 2);
    world_fini(&w);
}

/* A stream may stand before the clock is told for the first time: a client was there as the server
 * began. */
static void test_streams_repeat_a_sync_only_when_it_is_due(void **state)
{
    (void)state;
    static world w;
    go_live(&w, "{\"mux_id\":1,\"a\":\"*\"}", "{\"mux_id\":1,\"b\":\"*\"}");
    w.clients[1][1].query = 1;
    assert_int_equal(streams_tell(w.streams).live, 2);
    client_reads(&w, 0, SIZE_MAX);
    client_reads(&w, 1, SIZE_MAX);
    tick(&w, 100);
    tick(&w, TW_SYNC_REPEAT_MS - 101);
    assert_int_equal(w.conns[0].out.bytes, 0);
    assert_int_equal(w.conns[1].out.bytes, 0);
    tick(&w, 1);
    assert_true(was_told(&w, 0, "\"type\":\"sync\""));
    assert_true(was_told(&w, 1, "\"type\":\"sync\""));
    client_reads(&w, 0, SIZE_MAX);
    client_reads(&w, 1, SIZE_MAX);
    tick(&w, TW_SYNC_REPEAT_MS - 1);
    assert_int_equal(w.conns[0].out.bytes, 0);
    world_fini(&w);
}

static void test_streams_since_now_begins_at_the_head(void **state)
{
    (void)state;
    static world w;
    go_live(&w, "{\"mux_id\":1,\"a\":\"*\",\"b\":\"*\"}", "{\"mux_id\":1,\"b\":\"*\"}");
    w.clients[0][1].query = 2;
    w.clients[1][1].query = 1;
    write_rows(&w);
    deliver_batch(&w, false);
    uint64_t pages = streams_tell(w.streams).pages;
    assert_int_equal(say(&w, 2, "{\"mux_id\":1,\"b\":\"*\",\"since\":\"now\"}", true), TW_OK);
    assert_int_equal(streams_tell(w.streams).pages, pages + 1); /* which tells the head alone */
    for (int i = 0; i < 1000 && streams_tell(w.streams).live < 3; i++) {
        answer_page(&w, true); /* of any slot */
    }
    assert_int_equal(streams_tell(w.streams).live, 3);
    assert_true(w.conns[2].out.bytes > 0); /* its sync */
    world_fini(&w);
}

static void test_streams_that_ask_the_same_are_told_one_page(void **state)
{
    (void)state;
    static world w;
    world_init(&w, 7);
    write_rows(&w);
    for (int conn = 0; conn < CONNS; conn++) {
        w.clients[conn][1] = (client){.open = true, .query = 2};
        assert_int_equal(say(&w, conn, "{\"mux_id\":1,\"a\":\"*\",\"b\":\"*\"}", true), TW_OK);
    }
    w.clients[1][2] = (client){.open = true, .query = 2};
    assert_int_equal(say(&w, 1, "{\"mux_id\":2,\"a\":\"*\",\"b\":\"*\",\"since\":[[1,1]]}", true),
                     TW_OK);
    answer_open(&w, true);
    assert_int_equal(streams_tell(w.streams).pages, 2); /* the last one asks for something else */
    assert_int_equal(streams_tell(w.streams).pages_shared, CONNS - 1);
    connection_lost(&w, 0); /* while its question is under way */
    for (int i = 0; i < 1000 && w.conns[2].out.bytes == 0; i++) {
        answer_page(&w, true); /* of any slot */
    }
    struct iovec one[8], two[8];
    assert_true(outbound_peek(&w.conns[2].out, one, TW_COUNT(one), SIZE_MAX) > 0);
    assert_true(outbound_peek(&w.conns[3].out, two, TW_COUNT(two), SIZE_MAX) > 0);
    assert_ptr_equal(one[0].iov_base, two[0].iov_base); /* and it is framed once for a class */
    w.clients[1][2].highest = 1;
    w.clients[1][2].held[w.rows[1].coll - 'a'][w.rows[1].key] = 1;
    settle(&w);
    assert_int_equal(streams_tell(w.streams).live, CONNS);
    world_fini(&w);
}

static tw_err say_watch(world *w, int conn, const char *text)
{
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_bson message;
    broker_why why = {"", ""};
    assert_int_equal(tw_json_read(&arena, tw_str_of(text), 32, &message, NULL), TW_OK);
    tw_err err = streams_watch(w->streams, &w->conns[conn], &arena, message, &why);
    tw_arena_fini(&arena);
    return err;
}

static void test_streams_watch_replaces_the_change_stream_alone(void **state)
{
    (void)state;
    static world w;
    world_init(&w, 1);
    assert_int_equal(say(&w, 0, "{\"mux_id\":7,\"a\":\"*\"}", true), TW_OK);
    assert_int_equal(say_watch(&w, 0, "{}"), TW_OK);
    assert_int_equal(w.conns[0].count, 2);
    size_t before = w.conns[0].out.bytes;
    assert_int_equal(say_watch(&w, 0, "{\"mux_id\":7}"), TW_E_MUX_IN_USE);
    assert_int_equal(say_watch(&w, 0, "{\"mux_id\":{}}"), TW_E_BAD_MESSAGE);
    assert_int_equal(say_watch(&w, 0, "{\"reqID\":[]}"), TW_E_BAD_MESSAGE);
    assert_int_equal(say_watch(&w, 0, "{\"since\":7}"), TW_E_BAD_SINCE);
    assert_int_equal(say_watch(&w, 0, "{\"collections\":7}"), TW_E_BAD_MESSAGE);
    assert_int_equal(w.conns[0].out.bytes, before); /* what runs goes on */
    assert_int_equal(w.conns[0].count, 2);
    assert_int_equal(say_watch(&w, 0, "{\"mux_id\":8,\"reqID\":\"r\",\"collections\":[\"a\"]}"),
                     TW_OK);
    assert_true(w.conns[0].out.bytes > before); /* closed */
    assert_int_equal(w.conns[0].count, 2);
    assert_int_equal(say_watch(&w, 0, "{\"mux_id\":8,\"since\":[]}"), TW_OK);
    assert_int_equal(say(&w, 0, "{\"mux_id\":8}", false), TW_OK);
    assert_int_equal(w.conns[0].count, 1);
    for (int i = 0; i < TW_STREAMS_PER_CONNECTION_MAX - 1; i++) {
        char text[64];
        tw_format(text, sizeof(text), "{\"mux_id\":%d,\"a\":\"*\"}", 100 + i);
        assert_int_equal(say(&w, 0, text, true), TW_OK);
    }
    assert_int_equal(say_watch(&w, 0, "{}"), TW_E_TOO_MANY);
    world_fini(&w);
}

static tw_err say_schema(world *w, int conn, const char *text, bool anew)
{
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_bson message;
    broker_why why = {"", ""};
    assert_int_equal(tw_json_read(&arena, tw_str_of(text), 32, &message, NULL), TW_OK);
    tw_err err = streams_listen_check(&arena, message, &why);
    if (err == TW_OK) {
        err = streams_listen(w->streams, &w->conns[conn], &arena, message, anew, &why);
    }
    tw_arena_fini(&arena);
    return err;
}

static void test_streams_databases_stand_beside_each_other_and_the_change_stream(void **state)
{
    (void)state;
    static world w;
    world_init(&w, 1);
    broker_why why;
    assert_int_equal(say_watch(&w, 0, "{}"), TW_OK);
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"crm\"}", false), TW_OK);
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"shop\",\"reqID\":1}", false), TW_OK);
    assert_int_equal(w.conns[0].count, 3);
    size_t before = w.conns[0].out.bytes;
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"$\"}", false), TW_E_BAD_MESSAGE);
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"crm\",\"since\":7}", false), TW_E_BAD_SINCE);
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"crm\",\"reqID\":[]}", false), TW_E_BAD_MESSAGE);
    assert_int_equal(w.conns[0].out.bytes, before); /* what runs goes on */
    /* again: in place of the one before, with a position; the change stream stays */
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"crm\",\"since\":[[1,2]]}", false), TW_OK);
    assert_true(was_told(&w, 0, "{\"event\":\"DB_CLOSED\",\"db\":\"crm\",\"since\":[]}"));
    assert_false(was_told(&w, 0, "DB_RESET"));
    assert_int_equal(say_watch(&w, 0, "{\"collections\":[\"a\"]}"), TW_OK);
    assert_int_equal(w.conns[0].count, 3);
    /* a copy of another schema begins anew, whatever it knows */
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"shop\",\"since\":\"now\"}", true), TW_OK);
    assert_true(was_told(&w, 0, "{\"event\":\"DB_RESET\",\"db\":\"shop\",\"reason\":\"changed\"}"));
    tw_str crm = TW_STR("crm");
    assert_int_equal(streams_unlisten(w.streams, &w.conns[0], crm, &why), TW_OK);
    assert_int_equal(streams_unlisten(w.streams, &w.conns[0], crm, &why), TW_E_NO_STREAM);
    assert_int_equal(w.conns[0].count, 2);
    for (int i = 0; i < TW_STREAMS_PER_CONNECTION_MAX - 2; i++) {
        char text[64];
        tw_format(text, sizeof(text), "{\"mux_id\":%d,\"a\":\"*\"}", 100 + i);
        assert_int_equal(say(&w, 0, text, true), TW_OK);
    }
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"crm\"}", false), TW_E_TOO_MANY);
    assert_int_equal(say_schema(&w, 0, "{\"db\":\"shop\"}", false), TW_OK);
    world_fini(&w);
}

static void test_streams_dispatched_messages_go_to_those_with_room(void **state)
{
    (void)state;
    static world w;
    go_live(&w, "{\"mux_id\":1,\"a\":\"*\"}", "{\"a\":\"*\",\"mux_id\":2}");
    w.clients[1][2] = (client){.open = true};
    assert_int_equal(streams_tell(w.streams).live, 2);
    client_reads(&w, 0, SIZE_MAX);
    client_reads(&w, 1, SIZE_MAX);
    const tw_item_one_id ids[] = {{999999}, {(uint64_t)w.life * 1000 + 1}};
    tw_msg_topic_dispatch dispatch = {.tail = TW_STR("\"collection\":\"a\",\"message\":7}"),
                                      .topics = {ids, TW_COUNT(ids)}};
    streams_dispatched(w.streams, &dispatch);
    assert_true(
        was_told(&w, 0, "{\"type\":\"dispatch\",\"mux_id\":1,\"collection\":\"a\",\"message\":7}"));
    assert_true(was_told(&w, 1, "\"mux_id\":2,\"collection\""));
    assert_false(was_told(&w, 1, "\"mux_id\":1,"));
    size_t one = w.conns[0].out.bytes;
    size_t most = 0;
    for (int i = 0; i < 40000; i++) { /* nobody reads: what does not fit is gone */
        streams_dispatched(w.streams, &dispatch);
        most = w.conns[0].out.bytes > most ? w.conns[0].out.bytes : most;
    }
    assert_true(most > one && most <= TW_OUTBOUND_QUEUE_MAX);
    assert_int_equal(streams_tell(w.streams).live, 2); /* and nobody falls behind for it */
    world_fini(&w);
}

static void test_streams_subscribe_refuses_what_is_wrong(void **state)
{
    (void)state;
    static world w;
    world_init(&w, 1);
    assert_int_equal(say(&w, 0, "{\"a\":\"*\"}", true), TW_E_BAD_MESSAGE);
    assert_int_equal(say(&w, 0, "{\"mux_id\":{},\"a\":\"*\"}", true), TW_E_BAD_MESSAGE);
    assert_int_equal(say(&w, 0, "{\"mux_id\":1}", true), TW_E_BAD_MESSAGE);
    assert_int_equal(say(&w, 0, "{\"mux_id\":1,\"a\":\"*\",\"since\":[[1,2],[1,3]]}", true),
                     TW_E_BAD_SINCE);
    assert_int_equal(say(&w, 0, "{\"mux_id\":1}", false), TW_E_NO_STREAM);
    assert_int_equal(w.conns[0].count, 0);
    for (int i = 0; i < TW_STREAMS_PER_CONNECTION_MAX; i++) {
        char text[64];
        tw_format(text, sizeof(text), "{\"mux_id\":%d,\"a\":\"*\"}", i);
        assert_int_equal(say(&w, 0, text, true), TW_OK);
    }
    assert_int_equal(say(&w, 0, "{\"mux_id\":\"x\",\"a\":\"*\"}", true), TW_E_TOO_MANY);
    world_fini(&w);
}

static void test_streams_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 120; nth++) {
        static world w;
        world_init(&w, 3);
        tw_alloc_fail_at(nth);
        tw_arena arena;
        tw_arena_init(&arena, 1 << 20);
        tw_bson message;
        broker_why why;
        if (tw_json_read(&arena, TW_STR("{\"mux_id\":1,\"a\":\"*\"}"), 32, &message, NULL) ==
            TW_OK) {
            tw_err err = streams_subscribe(w.streams, &w.conns[0], &arena, message, &why);
            assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        }
        tw_alloc_fail_at(0);
        tw_arena_fini(&arena);
        world_fini(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_in_random_order_tell_every_client_exactly_the_log),
        cmocka_unit_test(test_streams_of_slow_clients_fall_behind_and_catch_up),
        cmocka_unit_test(test_streams_of_one_class_share_frames),
        cmocka_unit_test(test_streams_of_a_full_connection_catch_up_and_cost_the_others_nothing),
        cmocka_unit_test(test_streams_repeat_a_sync_only_when_it_is_due),
        cmocka_unit_test(test_streams_since_now_begins_at_the_head),
        cmocka_unit_test(test_streams_that_ask_the_same_are_told_one_page),
        cmocka_unit_test(test_streams_watch_replaces_the_change_stream_alone),
        cmocka_unit_test(test_streams_databases_stand_beside_each_other_and_the_change_stream),
        cmocka_unit_test(test_streams_dispatched_messages_go_to_those_with_room),
        cmocka_unit_test(test_streams_subscribe_refuses_what_is_wrong),
        cmocka_unit_test(test_streams_survive_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
