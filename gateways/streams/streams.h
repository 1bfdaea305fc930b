/* streams.h - the streams of all connections of a gateway: what each was told, what it is told
 * next.
 *
 * Pure: what must be asked of others, and who has something to send, goes out through a sink;
 * answers
 * and publications come in by calls. Time is data. The life of a stream:
 *   WAITING  its topic is not open at the manager    -> topic_opened
 *   CATCHING it reads pages behind its cursor        -> caught up at row W; L is the live head
 *   AHEAD    W > L: live, but events up to W are skipped
 *   LIVE     every batch of its topic reaches it
 *   RESTING  its documents are processed: never live, it reads on when its topic has events
 * A live stream holds no position: all of them stand at L. One whose connection is full, and all of
 * them after a lost publication, fall back to CATCHING with the cursor at L.
 *
 * Invariants
 * 1. `since` in sync and closed is what the stream was told completely, never more.
 * 2. A page is asked only while its connection's queue is below STREAMS_QUEUE_LOW, one at a time
 *    for a stream, STREAMS_PAGES_MAX for all; streams take turns. Those that stand in a row and ask
 *    the same are told one answer: many that come at once are one question.
 * 3. A stream goes live only where its cursor is at or above what its topic's events cover. */
#pragma once

#include "protocol/messages.h"

#include "broker/catalog.h"
#include "broker/rights.h"
#include "broker/why.h"

#include "gateways/wire/outbound.h"

enum {
    STREAMS_QUEUE_LOW = TW_PAGE_BYTES, /* bytes; below it the next page is asked */
    STREAMS_PAGES_MAX = 8,             /* page_reads in flight, and as many processed ones */
    STREAMS_SHARE_MAX = 32,            /* streams that are told one page, in one go */
    STREAMS_OPENS_MAX = 16,            /* topic_opens in flight */
    STREAMS_RETRY_MS = 100,            /* after a failure that may pass */
};

typedef struct streams streams;
struct stream;

/* What streams know of a connection; stands inside it. All zero at first. */
typedef struct streams_conn {
    outbound out;
    struct stream *first; /* its streams */
    uint32_t count;
    bool parked;    /* a stream waits for the queue to drain */
    bool dirty;     /* told to the sink; the connection clears it when it writes */
    bool failed;    /* no memory to tell what had to be told: the connection is to be closed */
    rights *rights; /* borrow: of its token; NULL: there is no auth */
} streams_conn;

typedef struct streams_sink {
    void *context;
    void (*dirty)(void *context, streams_conn *conn); /* has something to write, or failed */
    void (*topic_open)(void *context, uint64_t tag, tw_bson query);
    /* processed: documents of the query are rewritten by a service first. */
    void (*page_read)(void *context, uint64_t tag, const tw_msg_page_read *page_read,
                      bool processed);
    /* manifest_read or manifest_docs, of a stream that came with a manifest. */
    void (*manifest)(void *context, uint64_t tag, tw_msg_id id, const void *body, bool processed);
} streams_sink;

typedef struct streams_figures {
    uint64_t streams, live, topics, classes;
    uint64_t frames, deliveries, pages, pages_shared; /* told by the page of another */
    uint64_t gaps, behind, resets, joined_from_ring, ring_bytes;
} streams_figures;

/* now_ms: of the clock that streams_tick tells; what is due is counted from it before the first. */
tw_err streams_new(streams **out, const catalog *collections, const streams_sink *sink,
                   uint64_t now_ms);
void streams_free(streams **self); /* after streams_conn_gone for every connection */

/* `subscribe` and `close` of a client. On an error the caller answers with it and *why. */
tw_err streams_subscribe(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                         broker_why *why);
/* `watch` of a client: its connection's change stream, in place of the one before, which is closed.
 * An empty message: all collections, from now on. */
tw_err streams_watch(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                     broker_why *why);
/* `DB_SCHEMA` of a client: its connection's stream of that realtime database, in place of the one
 * before. since and query as in subscribe; anew: the client's copy is of another schema, whatever
 * since says. */
tw_err streams_listen(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                      bool anew, broker_why *why);
/* since and reqID of a `DB_SCHEMA`, looked at before it is answered. */
tw_err streams_listen_check(tw_arena *arena, tw_bson message, broker_why *why);
tw_err streams_unlisten(streams *self, streams_conn *conn, tw_str db, broker_why *why);
tw_err streams_close(streams *self, streams_conn *conn, tw_bson message, broker_why *why);
void streams_conn_gone(streams *self, streams_conn *conn);
void streams_conn_drained(streams *self, streams_conn *conn); /* its queue fell below LOW */

/* Queues a frame to a connection: also for messages that are no stream's. False: no memory. */
bool streams_send(streams *self, streams_conn *conn, tw_shared *frame);
bool streams_send_text(streams *self, streams_conn *conn, tw_str payload);

/* Answers, by the tag that the sink was given. why: for the client. */
void streams_opened(streams *self, uint64_t tag, tw_err err, const tw_msg_topic_opened *opened,
                    tw_str why);
void streams_page(streams *self, uint64_t tag, tw_err err, const tw_msg_page *page, tw_str why);

/* The answer to a manifest's question; body NULL on an error. */
void streams_manifest(streams *self, uint64_t tag, tw_err err, tw_msg_id id, const tw_body *body,
                      tw_str why);

/* Publications; arena is temporary memory. */
void streams_batch(streams *self, tw_arena *arena, const tw_msg_topic_batch *batch);
/* A message that is not stored, for every stream of these topics that has room for it. */
void streams_dispatched(streams *self, const tw_msg_topic_dispatch *dispatch);
/* Lost some, or the manager began anew, or was heard for the first time: topics are opened
 * again. */
void streams_gap(streams *self);
bool streams_heard(const streams *self); /* a publication came: topics can be opened */

/* Every 50 to 250 ms. */
void streams_tick(streams *self, uint64_t now_ms);

/* Lists the open topics for topics_keep after dropping those without streams; false: not now, one
 * is
 * being opened. No topic is opened until streams_kept: a keep that overtakes an open ends a topic
 * that this gateway believes in. */
bool streams_keep(streams *self, tw_arena *arena, tw_list_one_id *out);
void streams_kept(streams *self);

tw_vector streams_at(const streams *self); /* positions at the live head; empty: not known yet */
streams_figures streams_tell(const streams *self);
/* Appends topics as JSON with commas between them: {"gateway":of,"topic":id,"query":hash,
 * "streams":n,"live":n}, at most max. */
void streams_describe(const streams *self, const char *of, tw_buf *out, size_t max);
