/* connection.h - one client's connection, and what all connections of a gateway share.
 *
 * A connection begins as HTTP and may become a websocket. Whatever it is, what leaves it are
 * references in streams.out, written once at the end of a turn of the loop (edge_flush), and again
 * when the socket has room. */
#pragma once

#include <sys/queue.h>

#include "actors/runtime/actor.h"

#include "gateways/auth/auth.h"
#include "gateways/request/request.h"
#include "gateways/streams/streams.h"
#include "gateways/web/gateway.h"
#include "gateways/web/lws_link.h"
#include "gateways/web/tally.h"
#include "gateways/wire/websocket_frame.h"
#include "gateways/wire/wire.h"

enum { CONNECTION_MAGIC = 0x2c0ee710, EDGE_MAGIC = 0x2c0ee711 };

enum {
    EDGE_TICK_MS = 100,
    EDGE_TICK_SLICES = 4,     /* a tick looks at one in four connections */
    EDGE_LINGER_MS = 2000,    /* for the peer to see the last bytes before the socket goes */
    EDGE_HEAD_MS = 10000,     /* for the head of a request, and for a websocket to begin */
    EDGE_MESSAGE_MS = 30000,  /* for one whole message or body; idle keep-alive */
    EDGE_QUEUE_HIGH = 262144, /* bytes; replies pause above it */
    EDGE_IOV_MAX = 64,
    /* Connections written between two looks at what has come: a write costs 5 us. What comes joins
     * the queues of those that are not written yet, and leaves with their one write. */
    EDGE_FLUSH_MAX = 128,
};

typedef enum connection_kind { CONNECTION_HTTP, CONNECTION_WEBSOCKET } connection_kind;

typedef struct http_state http_state; /* of http.c; only while the connection speaks HTTP */
struct database_state;                /* of database.c */

typedef struct connection {
    uint32_t magic;
    uint8_t kind;
    uint8_t listener;   /* enum edge_listener */
    uint8_t bad_in_row; /* messages that were not understood */
    bool waiting;       /* for room in the socket */
    bool closing;       /* the queue is written, then the socket ends */
    bool shut;          /* our side has ended; input is thrown away */
    bool dead;          /* lws_link_close was called */
    bool pinged;
    bool paused;    /* a reply waits for the queue to drain */
    bool unwelcome; /* too many of its address */
    bool throttled; /* it said too much: its socket is not read for a time */
    bool is_proxy;  /* of limits.proxies: X-Forwarded-For tells who asks */
    bool greets;    /* /changes: its stream begins with the hello */
    STAILQ_ENTRY(connection) dirty;
    STAILQ_ENTRY(connection) throttle;
    bucket messages, subscribes, searches;
    tally_key address, user; /* under which it is counted; 0: under none */
    network_address peer;    /* who asks; zeros: not of the Internet */
    uint64_t opened_ms;
    uint64_t id;
    lws_socket *socket;
    uint64_t heard_ms;               /* bytes came */
    uint64_t moved_ms;               /* bytes left, or nothing waits */
    uint64_t deadline_ms;            /* 0: none */
    uint64_t message_ms;             /* an unfinished message began */
    uint64_t hello_ms;               /* till then a hello is awaited; 0: none is */
    unsigned generation;             /* of the policy that identity's rights are of */
    auth_identity identity;          /* own; rights NULL: not known, or there is no auth */
    struct database_state *database; /* own; NULL until an event comes */
    streams_conn streams;
    union {
        http_state *http;         /* own */
        websocket_reader *reader; /* own */
    };
} connection;

static_assert(sizeof(connection) <= 512, "what a connection costs beside lws's own");

enum edge_listener { EDGE_PUBLIC, EDGE_ADMIN };

typedef struct edge_figures {
    uint64_t accepted, refused, websockets, messages, bad_messages, http_requests;
    uint64_t bytes_in, bytes_out, writes, blocked, stalled, timeouts;
    uint64_t refused_address, refused_user, refused_rate, throttled;
} edge_figures;

typedef struct edge {
    uint32_t magic;
    tw_actor *actor;
    const gateway_options *options;
    lws_link *link;
    tls_link *tls;    /* own; NULL: plain */
    unsigned reloads; /* of its files, that were attended to */
    streams *streams;
    request_engine *requests;
    connection **slots; /* own; by index of an id */
    size_t slots_count;
    size_t connections;
    uint32_t *unused; /* own; free indexes, a stack */
    size_t unused_count;
    uint64_t serial;
    unsigned slice;
    bool draining;
    STAILQ_HEAD(, connection) dirty;
    STAILQ_HEAD(, connection) throttled;
    bucket accepts;
    tally addresses, users; /* own */
    uint64_t users_seed;
    uint64_t srv;                     /* of the store; 0: not known yet */
    bool partial;                     /* the store is to be an image and is not complete yet */
    tw_position head[TW_ORIGINS_MAX]; /* of the store when it was asked */
    size_t head_count;
    int store; /* links */
    int manager;
    int search; /* -1: none */
    int processor;
    int readers[TW_LINKS_MAX]; /* of the log: history */
    size_t readers_count;
    int writer;                /* of records: the store, or MongoDB's writer */
    int records[TW_LINKS_MAX]; /* readers of records: those of the log, or MongoDB's */
    size_t records_count;
    int peers[TW_LINKS_MAX]; /* every actor, for its state */
    size_t peers_count;
    int gateways[TW_GATEWAYS_MAX]; /* the others, for what they show */
    size_t gateways_count;
    tw_arena arena; /* of the message in hand */
    tw_buf text;    /* own; scratch of replies */
    edge_figures figures;
} edge;

tw_err edge_init(edge *self, tw_actor *actor, const gateway_options *options);
void edge_fini(edge *self);
extern const lws_link_handler edge_link_handler; /* context is filled in by the gateway */

connection *edge_find(const edge *self, uint64_t id); /* NULL: gone */
void edge_dirty(edge *self, connection *conn);
/* Writes what dirty connections have, EDGE_FLUSH_MAX of them. */
void edge_flush(edge *self);
/* Some are still dirty: do not wait. */
bool edge_is_dirty(const edge *self);
void edge_tick(edge *self, uint64_t tick);
/* Ends a connection once its queue is written (end), or now (drop). */
void connection_end(edge *self, connection *conn);
void connection_drop(edge *self, connection *conn);
/* Queues bytes of a caller: a copy is made. */
void connection_send(edge *self, connection *conn, tw_str bytes);
bool connection_has_room(const connection *conn); /* for another reply */
