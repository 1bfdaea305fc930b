/* load_client.h - many websocket connections on one epoll thread, and what they received.
 *
 * A connection goes CONNECTING, HANDSHAKE, OPENING (its adapter says hello and subscribes), READY.
 * Frames are cut from whatever pieces arrive; an adapter (load_adapter.h) makes sense of their
 * payload and calls load_delivered for each event. Sequence numbers are checked per connection: a
 * number that was skipped is lost, one that is not above the last is repeated, so two swapped
 * events count as both. Nothing here is thread safe. */
#pragma once

#include <stdbool.h>

#include "protocol/base.h"

#include "bench/support/load_histogram.h"

enum load_state { LOAD_CLOSED, LOAD_CONNECTING, LOAD_HANDSHAKE, LOAD_OPENING, LOAD_READY };

typedef struct load_bytes {
    uint8_t *ptr; /* own */
    size_t len, max;
} load_bytes;

typedef struct load_conn {
    int fd;
    enum load_state state;
    bool publishes;  /* the others subscribe */
    bool stalled;    /* never reads once it is ready */
    bool waits;      /* for room in its socket */
    uint32_t next;   /* the sequence number that is due */
    load_bytes kept; /* of a frame that is not complete */
    load_bytes rest; /* of a message that spans frames */
    load_bytes out;
} load_conn;

struct load_adapter;

typedef struct load_client {
    const struct load_adapter *adapter;
    uint16_t port;
    uint32_t payload_bytes;
    bool from_start; /* subscribe to what is stored too */
    int epoll;
    uint64_t now_ns;
    uint8_t *scratch; /* own; head room, then what is read */
    uint64_t opened;  /* connections so far; picks the source address */
    /* what happened */
    uint64_t ready, refused, dropped;
    uint64_t delivered, lost, repeated, undecoded;
    uint64_t acked, rejected; /* events, where the server answers for them */
    uint64_t measure_from_ns, measure_to_ns;
    load_histogram latency; /* of events that were due between the two */
    load_histogram ack;     /* the same, until the answer */
    uint64_t (*due_ns)(const struct load_client *self, uint32_t seq); /* NULL: no ack times */
    double period_ns;
    uint64_t begin_ns;
} load_client;

uint64_t load_now_ns(void);
/* Ends the program with one line. */
_Noreturn void load_die(const char *what);

/* self  zeroed but for adapter, port, payload_bytes */
void load_client_init(load_client *self);
void load_client_fini(load_client *self);
void load_conn_open(load_client *self, load_conn *conn, bool publishes);
void load_conn_close(load_client *self, load_conn *conn);
/* Handles what is ready, waiting up to `ns`; calls `between` after each connection. */
void load_client_turn(load_client *self, uint64_t ns, void (*between)(void *arg), void *arg);

/* For adapters. */
void load_bytes_add(load_bytes *self, const void *ptr, size_t len);
/* Room for len bytes at the end, already counted. */
uint8_t *load_bytes_room(load_bytes *self, size_t len);
/* The head of a client's frame; its mask is 0, so the payload follows as it is. */
void load_frame_begin(load_conn *conn, uint8_t opcode, size_t len);
void load_send(load_client *self, load_conn *conn, uint8_t opcode, const void *ptr, size_t len);
/* Writes what is waiting; the rest leaves when the socket has room. */
void load_flush(load_client *self, load_conn *conn);
void load_is_ready(load_client *self, load_conn *conn);

static inline void load_delivered(load_client *self, load_conn *conn, uint32_t seq, uint64_t due)
{
    if (seq < conn->next) {
        self->repeated++;
        return;
    }
    self->lost += seq - conn->next;
    conn->next = seq + 1;
    self->delivered++;
    if (due >= self->measure_from_ns && due < self->measure_to_ns) {
        load_histogram_add(&self->latency, self->now_ns > due ? self->now_ns - due : 0);
    }
}
