/* wsload.h - a load of websocket subscribers in one epoll thread, for any server that has an
 * adapter.
 *
 * An adapter knows how its server is greeted, subscribed and published to, and how one delivery is
 * found in the bytes that come. Every payload carries its number and the time at which it was due;
 * each delivery is decoded, so loss, repeats and order are counted, not assumed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WSLOAD_CONNS_MAX = 16384, WSLOAD_BUCKETS = 4096 };

typedef struct wsload wsload;
typedef struct wsload_conn wsload_conn;

typedef struct wsload_adapter {
    const char *name;
    const char *path;        /* of the handshake */
    const char *subprotocol; /* "" = none */
    bool binary;             /* its frames */
    /* Writes what is sent after the handshake; publisher: no subscription. Returns bytes. */
    size_t (*greet)(char *out, size_t size, bool publisher);
    /* One publication of payload (text without quotes) as frame payload. */
    size_t (*publish)(char *out, size_t size, uint64_t number, const char *payload, size_t len);
    /* Consumes whole units of bytes; calls wsload_delivered for each payload, wsload_ready once the
     * subscription stands. Returns bytes consumed. stream: bytes may hold parts of units (NATS,
     * MQTT); otherwise bytes is exactly one message. */
    size_t (*take)(wsload *load, wsload_conn *conn, const char *bytes, size_t len);
    bool stream;
    unsigned publishes_per_frame; /* in max mode; 1: one */
} wsload_adapter;

extern const wsload_adapter wsload_tidewire, wsload_nats, wsload_mqtt;

typedef struct wsload_figures {
    uint64_t published, delivered, lost, repeated;
    double seconds; /* of the measured part */
    double p50_ms, p99_ms, max_ms;
    double server_cpu; /* cores */
    double own_cpu;
    double late_ms;     /* how late the sender was at most */
    double connect_s;   /* until all were subscribed */
    long server_rss_kb; /* with all subscribed, idle */
    long server_rss_before_kb;
} wsload_figures;

typedef struct wsload_options {
    const wsload_adapter *adapter;
    int port;
    int server_pid;
    unsigned subscribers;
    unsigned payload; /* bytes */
    double rate;      /* events a second; 0: a closed window, as fast as it goes */
    double seconds;
    bool idle_only; /* connect and subscribe, measure memory, publish nothing */
} wsload_options;

/* 0, or -1 with a line on stderr. */
int wsload_run(const wsload_options *options, wsload_figures *out);

/* ---- for adapters ---- */
void wsload_ready(wsload *load, wsload_conn *conn);
void wsload_delivered(wsload *load, wsload_conn *conn, const char *payload, size_t len);
/* A masked client frame around payload; the mask is zero, which the protocol allows. */
size_t wsload_frame(char *out, size_t size, bool binary, const char *payload, size_t len);
