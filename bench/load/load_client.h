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

#include "bench/load/load_histogram.h"
#include "bench/load/load_tls.h"

enum load_state {
    LOAD_CLOSED,
    LOAD_CONNECTING,
    LOAD_SECURING, /* the handshake of TLS */
    LOAD_HANDSHAKE,
    LOAD_OPENING,
    LOAD_READY,
};

typedef struct load_bytes {
    uint8_t *ptr; /* own */
    size_t len, max;
} load_bytes;

/* A topic that a connection follows, where a run has several. */
typedef struct load_slot {
    uint32_t topic;
    uint32_t next; /* the number that is due in this topic */
} load_slot;

typedef struct load_conn {
    int fd;
    uint64_t number; /* of all that were opened */
    enum load_state state;
    bool publishes;   /* the others subscribe */
    bool stalled;     /* never reads once it is ready */
    bool waits;       /* for room in its socket */
    bool plain;       /* no websocket: what its adapter says is all there is */
    uint32_t next;    /* the sequence number that is due */
    uint32_t first;   /* the sequence number that it began with */
    uint32_t synced;  /* streams that were told all that is stored */
    load_slot *slots; /* borrow; NULL: one topic, counted in `next` */
    uint32_t slots_count;
    uint64_t opened_ns;  /* when it began to connect */
    load_tls_conn *tls;  /* own; NULL: plain */
    load_bytes kept;     /* of a frame that is not complete */
    uint64_t frame_left; /* bytes to come of a frame whose begin was handed on already */
    load_bytes rest;     /* of a message that spans frames */
    load_bytes out;
} load_conn;

struct load_adapter;

typedef struct load_client {
    const struct load_adapter *adapter;
    uint32_t host; /* IPv4, host order; 0: 127.0.0.1 */
    uint16_t port;
    bool secure; /* by TLS */
    uint32_t payload_bytes;
    const char *collection; /* or subject, or topic */
    bool from_start;        /* subscribe to what is stored too */
    char since[512];        /* go on from here: members of a subscribe, or an id; empty: from now */
    char position[512];     /* what `since` would be now, where the server tells it */
    uint32_t first_seq;     /* the number that new connections wait for */
    bool has_topics;        /* events name a topic, connections follow those of their slots */
    uint32_t variants; /* different filters that all match every event; 0: all follow the same */
    uint32_t scanned_percent; /* of the topics: no index can find their subscriptions */
    uint32_t words;           /* events carry a word out of so many, for searches; 0: none */
    int epoll;
    load_tls *tls; /* own; NULL: plain */
    uint64_t now_ns;
    uint8_t *scratch;                  /* own; head room, then what is read */
    uint64_t opened;                   /* connections so far; picks the source address */
    unsigned long long publisher_name; /* where it is answered, where that has a name */
    /* what happened */
    uint64_t ready, refused, dropped, cut; /* cut: stalled ones that the server ended */
    uint64_t delivered, lost, repeated, undecoded;
    uint64_t acked, rejected; /* events, where the server answers for them */
    uint64_t target;          /* a connection that has this many events has caught up; 0: none */
    uint64_t caught_up;       /* connections that have */
    load_histogram catch_up;  /* the time since they began to connect */
    uint32_t seen_seq, acked_seq; /* the newest event that came, and that was answered for */
    uint64_t seen_at_ns, acked_at_ns;
    load_histogram told; /* from the answer to a write until the event came; 0 where it was first */
    /* What else the server says to the publisher; NULL: it is rejected. True: it was understood. */
    bool (*on_reply)(void *context, const char *text, size_t len);
    void *reply_context;
    void (*tick)(void *context); /* about four times a second, for progress; or NULL */
    void *tick_context;
    uint64_t next_tick_ns;
    uint64_t measure_from_ns, measure_to_ns;
    load_histogram latency; /* of events that were due between the two */
    load_histogram ack;     /* the same, until the answer */
    uint64_t (*due_ns)(const struct load_client *self, uint32_t seq); /* NULL: no ack times */
    const struct load_schedule *schedule;                             /* borrow; for due_ns */
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
/* The newest event came, its write was answered: whichever is second gives the time between. */
void load_seen(load_client *self, uint32_t seq);
void load_acked(load_client *self, uint32_t first, uint64_t count);

/* Counts an event of a topic (0 where there is one), by its number in that topic. */
static inline void load_delivered(load_client *self, load_conn *conn, uint32_t topic, uint32_t seq,
                                  uint64_t due)
{
    uint32_t *next = &conn->next;
    for (uint32_t i = 0; i < conn->slots_count; i++) {
        if (conn->slots[i].topic == topic) {
            next = &conn->slots[i].next;
            break;
        }
    }
    if (seq < *next) {
        self->repeated++;
        return;
    }
    self->lost += seq - *next;
    *next = seq + 1;
    self->delivered++;
    if (due >= self->measure_from_ns && due < self->measure_to_ns) {
        load_histogram_add(&self->latency, self->now_ns > due ? self->now_ns - due : 0);
    }
    if (seq + 1 == self->target) {
        self->caught_up++;
        load_histogram_add(&self->catch_up, self->now_ns - conn->opened_ns);
    }
    if (!self->has_topics && seq >= self->seen_seq) {
        load_seen(self, seq);
    }
}
