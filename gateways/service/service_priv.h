/* service_priv.h - the state of the service gateway, shared by service.c and service_feed.c. */
#pragma once

#include "gateways/request/request.h"
#include "gateways/service/service.h"

enum {
    SERVICE_MAGIC = 0x5e47c0de,
    SERVICE_REPLAY_MAGIC = 0x5e4eb1a7,
    SERVICE_RUNNING_MAX = 1024,        /* requests at once, where the options name none */
    SERVICE_TURN_MAX = 256,            /* requests of one turn */
    SERVICE_SYNC_BYTES = 4194304,      /* of one answer to a sync; then it is asked again */
    SERVICE_COLLECTED_MAX = 268435456, /* bytes of documents that wait for their answer, together */
    SERVICE_COLLECTIONS = 8192,        /* slots of the feed's table: twice TW_COLLECTIONS_MAX */
    SERVICE_REPAIR_MS = 100,       /* until a failed reading of what the feed lost is repeated */
    SERVICE_GUARD_MS = 1000,       /* between the looks at the listeners */
    SERVICE_AHEAD_MS = 20,         /* between two looks at a log that is waited for */
    SERVICE_REPLAY_PAGES_MAX = 64, /* pages of other collections that one replay looks through */
};
static_assert((int)SERVICE_COLLECTIONS >= 2 * (int)TW_COLLECTIONS_MAX, "half of it stays empty");

typedef struct service service;
typedef struct service_socket service_socket; /* service_socket.h */

/* Where an answer goes: the header of a raw REP socket (pipe, then request ids). */
typedef struct service_route {
    uint8_t bytes[64];
    uint8_t len;
} service_route;

/* A token that was verified, until its end or until the policy is another. */
typedef struct service_token {
    tw_buf text; /* own */
    auth_identity identity;
} service_token;

/* Documents of a request on their way into one answer. */
typedef struct service_docs {
    tw_buf buf; /* own */
    tw_bson_builder builder;
    size_t counted; /* bytes of buf in collected_bytes */
} service_docs;

/* A request that is being answered. */
typedef struct service_slot {
    uint64_t tag; /* 0: free */
    service_route route;
    service_docs *docs; /* own; NULL: none came */
    uint32_t next_free;
} service_slot;

/* The last row of a collection that was published; by a hash of its names: two that fall together
 * are told a loss that was none, and read again. */
typedef struct service_mark {
    uint64_t collection; /* 0: free */
    uint64_t n;
} service_mark;

typedef struct service_feed_state {
    bool started;     /* applied and base hold */
    uint64_t srv;     /* of the log whose rows these are */
    bool repairing;   /* the log is being read; batches are left to that */
    uint64_t applied; /* rows up to here were published */
    uint64_t base;    /* n_prev of a collection without mark */
    uint64_t seen;    /* newest head told by a batch */
    uint64_t batches; /* published messages */
    uint64_t repairs;
    uint64_t dropped;    /* messages that nng or memory had no room for: followers see the gap */
    service_mark *marks; /* own */
    size_t marks_count;
    tw_buf rows;  /* own; BSON of one message */
    tw_buf bytes; /* own; the same as msgpack */
} service_feed_state;

struct service {
    uint32_t magic;
    bool draining;
    bool drained;
    tw_actor *actor;
    const service_options *options;
    service_socket *socket; /* own */
    request_engine *engine; /* own */
    int store;
    int readers[TW_LINKS_MAX];
    size_t reader_next;
    service_slot *slots; /* own */
    size_t slots_count;
    uint32_t free_slot; /* index + 1; 0: none */
    size_t collected_bytes;
    uint64_t turn;  /* makes tags unique */
    tw_arena arena; /* own; of the request being read */
    tw_buf answer;  /* own; BSON */
    tw_buf packed;  /* own; msgpack */
    uint64_t requests, bad, refused;
    service_token *tokens; /* own; TW_SERVICE_TOKENS_MAX */
    size_t tokens_count, token_next;
    unsigned generation;            /* of the policy that tokens are of */
    struct service_replay *replays; /* own; those that wait for an answer */
    service_feed_state feed;
};

/* ---- service.c ---- */
service_slot *service_slot_of(service *self, uint64_t tag); /* NULL: answered already */
/* Answers with a BSON document, as msgpack, and frees the slot. */
void service_answer(service *self, uint64_t tag, tw_bson answer);
void service_answer_error(service *self, uint64_t tag, tw_bson asked, tw_err code,
                          const char *message);
int service_next_reader(service *self);
bool service_has_followers(const service *self);
tw_err service_publish(service *self, tw_str topic, tw_str body);

/* ---- service_feed.c ---- */
tw_err service_feed_init(service *self);
void service_feed_fini(service *self);
tw_err service_on_log_batch(void *arg, const tw_envelope *in);
void service_on_gap(void *arg, const char *source);
void service_replays_free(service *self);
/* whose: rights of the asker, NULL: all. */
void service_replay_start(service *self, uint64_t tag, tw_bson asked, rights *whose);

/* ---- service_identity.c ---- */
tw_err service_identity_init(service *self);
void service_identity_fini(service *self);
/* Who asks: takes the token out of a request (*asked is then another, in the arena). *whose: what
 * it may, a view until the next call; NULL: all. TW_E_TOKEN, TW_E_UNAVAILABLE with why. */
tw_err service_identity_of(service *self, tw_bson *asked, rights **whose, broker_why *why);
/* True when followers are to ask for rows themselves, with their tokens: the feed only says that
 * there are some. */
bool service_identity_asks_all(const service *self);
