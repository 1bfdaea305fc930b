/* streams_priv.h - for streams.c and streams_live.c: topics, classes, streams. */
#pragma once

#include <sys/queue.h>

#include "broker/position.h"
#include "broker/topic_query.h"

#include "gateways/streams/ring.h"
#include "gateways/streams/streams.h"
#include "gateways/streams/sync_session.h"
#include "gateways/streams/table.h"
#include "gateways/wire/wire.h"

enum { STREAMS_MAGIC = 0x57ea6d51, STREAM_STATE_MAGIC = 0x57ea6d52 };

/* A vector that several hold: all live streams share the one at L. */
typedef struct shared_vector {
    uint32_t holders;
    uint32_t count;
    tw_position at[];
} shared_vector;

shared_vector *shared_vector_new(tw_vector vector); /* NULL = no memory */
void shared_vector_drop(shared_vector **vector);    /* nulls; accepts NULL */
static inline tw_vector shared_vector_view(const shared_vector *vector)
{
    return vector == NULL ? (tw_vector){NULL, 0} : (tw_vector){vector->at, vector->count};
}

typedef enum topic_state { TOPIC_CLOSED, TOPIC_QUEUED, TOPIC_OPENING, TOPIC_OPEN } topic_state;
typedef enum stream_state {
    STREAM_WAITING,
    STREAM_CATCHING,
    STREAM_AHEAD,
    STREAM_LIVE,
    STREAM_RESTING,
    STREAM_STATES
} stream_state;

/* An event of the batch in hand that is for a topic. */
typedef struct due_event {
    struct due_event *next;
    size_t index; /* in the batch */
    uint64_t prev;
} due_event;

struct topic {
    table_node by_query;
    table_node by_id;            /* while OPEN */
    TAILQ_ENTRY(topic) link;     /* in queued or opening */
    STAILQ_ENTRY(topic) touched; /* by the batch in hand */
    topic_state state;
    bool stale; /* a gap came while it was being opened: the answer counts for nothing */
    uint64_t id;
    uint64_t applied; /* events of rows above it are published */
    uint64_t tag;     /* of the open */
    uint64_t retry_at_ms;
    bool processed; /* documents are rewritten by a service: its streams never go live */
    uint64_t due_n; /* of a processed topic: the newest row with an event */
    size_t streams_count;
    LIST_HEAD(, stream_class) classes;
    due_event *due_first;
    due_event *due_last;
    char name[17];
    tw_bson canonical; /* view into bytes */
    uint8_t bytes[];
};

/* The streams of one topic with one mux_id: they get the same frames. */
typedef struct stream_class {
    table_node by_mux; /* hash of (topic, mux_id) */
    LIST_ENTRY(stream_class) of_topic;
    struct topic *topic;
    LIST_HEAD(, stream) live;
    LIST_HEAD(, stream) others;
    size_t count;
    size_t live_count;
    uint8_t mux_len;         /* 0: none: a change stream, or a realtime database's */
    char mux[TW_MUX_ID_MAX]; /* JSON text */
} stream_class;

struct stream {
    uint32_t magic;
    uint8_t state;
    uint8_t form;      /* enum topic_query_form; but for records syncid is a reqID */
    bool now;          /* since: "now": its next page tells the head alone */
    bool fresh;        /* its next page is the first of a snapshot */
    bool resume;       /* its next page is the first of a resume */
    bool reading;      /* a page is in flight; it stands in the list of its slot */
    bool ready;        /* in the ready list */
    bool retry;        /* in the retry list */
    bool syncing;      /* it is told what differs from its manifest, not history */
    uint8_t slot;      /* of its question while reading */
    table_node by_mux; /* hash of (connection, mux_id) */
    LIST_ENTRY(stream) of_class;
    TAILQ_ENTRY(stream) turn;  /* ready, retry, ahead or resting list, or that of a slot */
    TAILQ_ENTRY(stream) syncs; /* while LIVE: ordered by sync_due_ms */
    struct stream *conn_next;
    struct stream **conn_link; /* what points to this stream in its connection's list */
    streams_conn *conn;
    stream_class *class;
    uint64_t after; /* cursor; unread while LIVE */
    uint64_t seen;  /* newest head that a page of it was read at */
    uint64_t w0;
    uint64_t sync_due_ms;
    uint64_t ahead_until_ms; /* till then this node may reach since; 0: nothing was ahead */
    shared_vector *since;    /* hold; of a resume until it has caught up */
    shared_vector *told;     /* hold; what was told completely, unless LIVE */
    sync_session *have;      /* own; of a manifest in subscribe, until it was used or not needed */
    position_set *read;      /* own; positions read on this stream while it catches up */
    size_t syncid_len;
    char syncid[]; /* JSON text; empty: none given */
};

typedef TAILQ_HEAD(stream_list, stream) stream_list;
typedef TAILQ_HEAD(topic_list, topic) topic_list;
typedef STAILQ_HEAD(touched_list, topic) touched_list;

struct streams {
    uint32_t magic;
    const catalog *catalog; /* borrow */
    streams_sink sink;
    uint64_t seed; /* of the hashes */
    table topics_by_query;
    table topics_by_id;
    table classes;
    table streams;
    topic_list queued;  /* topics to be opened */
    topic_list opening; /* topics that are being opened */
    size_t opening_count;
    uint64_t next_tag;
    bool keeping;         /* a topics_keep is in flight */
    stream_list ready[2]; /* [1]: of processed topics */
    stream_list retry;
    stream_list ahead;
    stream_list syncs;
    stream_list resting;
    /* By tag, processed ones in the second half: who is told the answer. Those may be gone, a slot
     * is busy until it comes. */
    stream_list pages[2 * STREAMS_PAGES_MAX];
    bool page_busy[2 * STREAMS_PAGES_MAX];
    size_t pages_count[2];
    bool heard; /* a publication of the manager came */
    bool head_known;
    uint64_t head;     /* L: the row up to which batches were applied */
    shared_vector *at; /* hold; positions at head; NULL: not known yet */
    ring ring;
    uint64_t now_ms;
    tw_buf text; /* own; scratch for small messages */
    streams_figures figures;
};

/* What a subscribe asks for besides its query. */
typedef struct wish {
    tw_bson canonical;
    tw_str mux;            /* JSON text */
    tw_str syncid;         /* JSON text; may be empty */
    topic_query_form form; /* but for records syncid is a reqID, and mux may be empty */
    bool now;
    bool resume;
    bool changed; /* query of its sync is another */
    tw_vector since;
    sync_session *have; /* own until the stream is opened; NULL: no manifest */
} wish;

/* ---- streams.c ---- */
void stream_move(streams *self, struct stream *stream, stream_state state);
void stream_start(streams *self, struct stream *stream); /* its topic is open: read or go live */
void stream_wake(streams *self, struct stream *stream);  /* rests; there may be something to read */
void stream_free(streams *self, struct stream *stream);
/* Reads since, and a name of the client's own (syncid, reqID), of a message into a wish. */
tw_err wish_read_since(tw_arena *arena, tw_bson message, wish *out, broker_why *why);
tw_err wish_read_name(tw_arena *arena, tw_bson message, const char *name, tw_str *out,
                      broker_why *why);
/* Notes whether the query that the message carries, of an earlier sync, is another. */
void wish_compare_query(tw_bson message, wish *of);
/* Opens a stream; the connection has room for it. */
tw_err stream_begin(streams *self, streams_conn *conn, const wish *of);
/* Tells a stream's end, and how far it was told; frees it. */
void stream_end(streams *self, struct stream *stream);
/* Begins a stream where `running` was; NULL: a new one. TW_E_TOO_MANY: the connection is full. */
tw_err stream_replace(streams *self, streams_conn *conn, struct stream *running, const wish *of,
                      broker_why *why);
/* Of a realtime database's stream: the database. Otherwise ptr NULL. */
tw_str stream_database(const struct stream *stream);
void stream_fail(streams *self, struct stream *stream, tw_err err, tw_str why);
void stream_sync(streams *self, struct stream *stream, tw_vector at);
void streams_pump(streams *self);
/* Queues part of shared; false where the bound (unless forced) or memory forbids it. */
bool streams_deliver(streams *self, streams_conn *conn, tw_shared *shared, size_t len, bool forced);

void stream_ready(streams *self, struct stream *stream);    /* it reads on when its turn comes */
void stream_read_end(streams *self, struct stream *stream); /* its page came, or none is asked */
void stream_retry(streams *self, struct stream *stream);    /* the same, at the next tick */
void stream_conn_fail(streams *self, streams_conn *conn);
bool stream_may_retry(tw_err err);
/* Everything comes again, told by a reset. */
void stream_start_over(streams *self, struct stream *stream, uint64_t reset, uint64_t srv,
                       uint64_t floor);
/* A page as frames, for the streams of one class that had read the same before it. All zero: none
 * yet. */
typedef struct page_frames {
    const stream_class *class;
    tw_shared *frames; /* hold */
    position_set before, after;
} page_frames;
/* Sends the rows of a page as one piece: that of made, or a new one, which made holds then. False:
 * no memory. */
bool stream_send_page(streams *self, struct stream *stream, tw_arena *arena,
                      const tw_msg_page *page, page_frames *made);
void page_frames_drop(page_frames *made);

/* ---- streams_manifest.c ---- */
/* The turn of a stream that is syncing: asks in the slot, which stays busy until the answer. False:
 * it told something itself, or is done, and the slot is not needed. */
bool stream_manifest_step(streams *self, struct stream *stream, uint64_t slot);
void stream_manifest_answer(streams *self, struct stream *stream, tw_err err, tw_msg_id id,
                            const tw_body *body, tw_str why);

/* ---- streams_live.c ---- */
/* Caught up at stream->after, where positions are at. */
void stream_join(streams *self, struct stream *stream, tw_vector at);
void topic_enqueue(streams *self, struct topic *topic);
void topics_pump(streams *self);
void topic_drop(streams *self, struct topic *topic);
void streams_forget_live(streams *self); /* every live stream catches up from head */
/* A type as JSON text with quotes, in arena; empty: empty. ptr NULL = no memory. */
tw_str streams_type_text(tw_arena *arena, tw_str type);
