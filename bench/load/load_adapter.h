/* load_adapter.h - how each server is spoken to: hello, subscribe, publish, and what arrives.
 *
 * An event is the same text for all: a mark, its number, the time it was due, and padding, as many
 * bytes as asked for, with the topic it belongs to. No character of it needs an escape in JSON. */
#pragma once

#include "bench/load/load_client.h"

enum {
    LOAD_PAYLOAD_MIN = 2 + 8 + 8 + 16, /* mark, topic, number, time */
    LOAD_PAYLOAD_MAX = 16384,
};

typedef struct load_event {
    uint32_t seq;       /* of all */
    uint32_t topic;     /* 0 where there is one */
    uint32_t topic_seq; /* within the topic: the same as seq where there is one */
    uint64_t due_ns;
} load_event;

typedef struct load_adapter {
    const char *name;
    const char *subprotocol; /* or NULL */
    const char *subscribe_path, *publish_path;
    bool is_stream;       /* messages may span frames */
    bool resumes_by_path; /* by ?last_event_id= */
    bool topics_by_path;  /* by ?t=1,2,3 */
    bool plain;           /* no connection is a websocket, or */
    bool plain_publisher; /* that of the publisher is none */
    /* The handshake is done: says hello and subscribes. Calls load_is_ready, or the answer does. */
    void (*opened)(load_client *client, load_conn *conn);
    /* Returns the bytes that were understood; the rest comes again with more. */
    size_t (*received)(load_client *client, load_conn *conn, uint8_t *ptr, size_t len);
    /* Adds to conn->out; the caller flushes. */
    void (*publish)(load_client *client, load_conn *conn, const load_event *events, size_t count);
} load_adapter;

/* raw, nchan, nchan-meta, nchan-all, nchan-topics, nats, jetstream, mqtt, mqtt-retain, redis,
 * tidewire; NULL: none of these. */
const load_adapter *load_adapter_find(const char *name);
