/* guard_streams.c - the edge: frames in and out, and an event's way to all its connections. */
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "bench/guard/guard.h"
#include "gateways/streams/streams.h"
#include "gateways/wire/websocket_frame.h"
#include "gateways/wire/wire.h"

enum { CONNECTIONS = 64, EVENTS = 16, FRAMES = 32, FRAME_BYTES = 160, TOPIC = 1000 };

static const char tail[] =
    "\"srv_id\":1,\"seqno\":5,\"_id\":\"5f8d0c2e0102030400000000\",\"title\":\"Three rooms with a "
    "view of the harbour\",\"price\":1249.5,\"active\":true}";

/* ---- frames ---- */

static char framed[FRAMES * 1024];
static uint8_t incoming[FRAMES * (FRAME_BYTES + WEBSOCKET_CLIENT_HEADER_MAX)];
static uint8_t arrived[sizeof incoming];
static size_t incoming_len;
static websocket_reader reader;

static void set_up_frames(void)
{
    websocket_reader_init(&reader);
    for (unsigned i = 0; i < FRAMES; i++) {
        uint8_t *at = incoming + incoming_len;
        static const uint8_t mask[4] = {0x11, 0x92, 0x33, 0xf4};
        at[0] = 0x80 | WEBSOCKET_OP_TEXT;
        at[1] = 0x80 | 126;
        at[2] = 0;
        at[3] = FRAME_BYTES;
        memcpy(at + 4, mask, sizeof mask);
        for (unsigned k = 0; k < FRAME_BYTES; k++) {
            at[8 + k] = (uint8_t)(((k + i) % 26 + 'a') ^ mask[k % 4]);
        }
        incoming_len += 8 + FRAME_BYTES;
    }
}

static void frame(void)
{
    char *to = framed;
    for (unsigned i = 0; i < FRAMES; i++) {
        const wire_event event = {.type = TW_STR("\"offers\""),
                                  .mux_id = TW_STR("7"),
                                  .prev = 1000 + i,
                                  .tail = {tail, sizeof tail - 1}};
        guard_must(to + wire_event_len(&event) <= framed + sizeof framed, "room for frames");
        to = wire_event_put(to, &event);
    }
}

static void read_frames(void)
{
    memcpy(arrived, incoming, incoming_len);
    uint8_t *at = arrived;
    uint8_t *end = arrived + incoming_len;
    for (unsigned i = 0; i < FRAMES; i++) {
        tw_str payload;
        guard_must(websocket_next(&reader, &at, end, &payload) == WEBSOCKET_TEXT &&
                       payload.len == FRAME_BYTES,
                   "reading a frame");
    }
    tw_str none;
    guard_must(websocket_next(&reader, &at, end, &none) == WEBSOCKET_MORE, "reading the last");
}

/* ---- fan-out ---- */

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};
static streams *all;
static streams_conn connections[CONNECTIONS];
static uint64_t head, opening, paging[STREAMS_PAGES_MAX];
static size_t paging_count;
static bool is_opening;

static void on_dirty(void *context, streams_conn *conn)
{
    (void)context;
    guard_must(conn->dirty, "a dirty connection");
}

static void on_topic_open(void *context, uint64_t tag, tw_bson canonical)
{
    (void)context;
    guard_must(canonical.len > 0 && !is_opening, "a topic is opened once");
    opening = tag;
    is_opening = true;
}

static void on_page_read(void *context, uint64_t tag, const tw_msg_page_read *ask, bool processed)
{
    (void)context;
    guard_must(ask->fresh && !processed && paging_count < STREAMS_PAGES_MAX, "a first page");
    paging[paging_count++] = tag;
}

static void on_manifest(void *context, uint64_t tag, tw_msg_id id, const void *body, bool processed)
{
    (void)context;
    (void)tag;
    (void)id;
    (void)body;
    (void)processed;
    guard_must(false, "a manifest is asked for by nobody, so this");
}

/* Takes away what waits on each connection, as a write would; returns the bytes. */
static size_t drain(void)
{
    size_t all_sent = 0;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct iovec iov[64];
        size_t count;
        do {
            size_t sent = 0;
            count = outbound_peek(&connections[i].out, iov, TW_COUNT(iov), 1 << 20);
            for (size_t k = 0; k < count; k++) {
                sent += iov[k].iov_len;
            }
            outbound_sent(&connections[i].out, sent);
            all_sent += sent;
        } while (count > 0);
        connections[i].dirty = false;
    }
    return all_sent;
}

static void answer_pages(void)
{
    tw_position at = {1, head};
    while (paging_count > 0) {
        uint64_t tag = paging[--paging_count];
        const tw_msg_page page = {.after = head,
                                  .head = head,
                                  .caught_up = true,
                                  .at = {head > 0 ? &at : NULL, head > 0}};
        streams_page(all, tag, TW_OK, &page, (tw_str){"", 0});
    }
}

static void send_batch(void)
{
    tw_item_event events[EVENTS];
    tw_item_mark marks[EVENTS];
    uint64_t before = head;
    for (unsigned i = 0; i < EVENTS; i++) {
        marks[i] = (tw_item_mark){TOPIC, head};
        head++;
        events[i] = (tw_item_event){.n = head,
                                    .srv = 1,
                                    .seqno = head,
                                    .type = TW_STR("offers"),
                                    .tail = {tail, sizeof tail - 1},
                                    .marks = {&marks[i], 1}};
    }
    tw_position at = {1, head};
    const tw_msg_topic_batch batch = {before, head, {&at, 1}, {events, EVENTS}};
    tw_arena_reset(&guard_temporary);
    streams_batch(all, &guard_temporary, &batch);
}

static void fan_out(void)
{
    send_batch();
    guard_must(drain() > CONNECTIONS * EVENTS * sizeof tail, "delivering");
}

static void set_up_streams(void)
{
    static const streams_sink sink = {NULL, on_dirty, on_topic_open, on_page_read, on_manifest};
    static const char subscribe[] = "{\"type\":\"subscribe\",\"mux_id\":7,\"offers\":\"*\"}";
    head = 1000000; /* numbers keep their count of digits */
    guard_must(streams_new(&all, &known, &sink, 0) == TW_OK, "the streams");
    streams_gap(all); /* the manager is heard */
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        tw_bson message;
        broker_why why;
        guard_must(tw_json_read(&guard_kept, tw_str_of(subscribe), TW_DEPTH_MAX, &message, NULL) ==
                           TW_OK &&
                       streams_subscribe(all, &connections[i], &guard_kept, message, &why) == TW_OK,
                   "subscribing");
    }
    guard_must(is_opening, "opening the topic");
    const tw_msg_topic_opened opened = {TOPIC, head};
    streams_opened(all, opening, TW_OK, &opened, (tw_str){"", 0});
    send_batch();
    while (streams_tell(all).live < CONNECTIONS) {
        guard_must(paging_count > 0, "reading pages");
        answer_pages();
        drain();
    }
}

const guard_path guard_streams_paths[] = {
    {"frame", set_up_frames, frame, NULL},
    {"frame_read", set_up_frames, read_frames, NULL},
    {"fan_out", set_up_streams, fan_out, NULL},
    {0},
};
