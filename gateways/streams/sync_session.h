/* sync_session.h - a manifest sync on its way: what a client has said, what is to be asked of a
 * log_reader next, what is to be told to the client.
 *
 * Pure: the driver (request/request_sync.c for the action, streams_manifest.c for a manifest inside
 * subscribe) asks sync_session_next what is due, does it, and hands in what came. All that is told
 * is one cut of the log: the query's result at the row where the first answer stood.
 *
 * The course of it
 *   INPUT    the client's turn: manifests and sums, in as many messages as it needs
 *   KEYS     keys and versions of the result are read: summed first, where ranges were given; then
 *            held against the manifests
 *   TELL     which ranges differ; then it is INPUT again, for their halves or their ids
 *   DOCS     documents of those that the client lacks or has in another version
 *   REMOVES  ids that nothing answers to
 *   DONE */
#pragma once

#include "protocol/messages.h"

#include "broker/catalog.h"
#include "broker/manifest.h"
#include "broker/rights.h"
#include "broker/why.h"

typedef struct sync_session sync_session;

typedef enum sync_want {
    SYNC_INPUT,
    SYNC_KEYS,
    SYNC_TELL,
    SYNC_DOCS,
    SYNC_REMOVES,
    SYNC_DONE
} sync_want;

typedef struct sync_figures {
    uint64_t inserted, updated, removed, same;
} sync_figures;

/* asked: the first message, of which the query's words are taken (project_id, collections, ...);
 * borrow until the session is freed, as are rights (NULL: there is no auth). db: where its
 * collections are. TW_E_NO_MEMORY. */
tw_err sync_session_new(sync_session **out, const catalog *catalog, const rights *rights,
                        tw_bson asked, tw_str db);
/* Of a stream: the query stands, and its collections may be fed, by one message without "more". */
tw_err sync_session_of_query(sync_session **out, const catalog *catalog, tw_bson canonical);
void sync_session_free(sync_session **self);
/* Takes manifests and ranges of a message, the first one too; allowed while INPUT is wanted. more:
 * the client's turn goes on. TW_E_BAD_MESSAGE, TW_E_TOO_MANY, TW_E_FORBIDDEN, TW_E_BAD_FILTER with
 * why: the sync is over. hint (constant) may be set. */
tw_err sync_session_feed(sync_session *self, tw_bson message, bool more, broker_why *why,
                         const char **hint);
sync_want sync_session_next(const sync_session *self);

/* KEYS: the question, and its answer. */
tw_msg_manifest_read sync_session_ask_keys(const sync_session *self);
tw_err sync_session_take_keys(sync_session *self, const tw_msg_manifest *answer);

/* DOCS: the question, at most TW_PAGE_ROWS_MAX rows of one part (views until the next call); what
 * each of them is to the client; how many of them were told. */
tw_msg_manifest_docs sync_session_ask_docs(sync_session *self);
size_t sync_session_docs_part(const sync_session *self); /* as sync_session_collection wants it */
bool sync_session_is_insert(const sync_session *self, size_t i);
void sync_session_docs_told(sync_session *self, size_t count);

/* REMOVES: the next id that is to be removed, as it was spelled; false: there are no more. */
bool sync_session_next_removed(sync_session *self, size_t *part, tw_bson_value *id);

/* TELL: the next ranges that differ. false: all was told, and the client's turn begins. */
enum { SYNC_TOLD_MAX = 4096 };
typedef struct sync_told {
    size_t part;
    unsigned bits;
    const uint32_t *ranges; /* view until the next call */
    size_t count;
    bool split; /* their sums, of each 2^(next_bits - bits); else the ids in them */
    unsigned next_bits;
} sync_told;
bool sync_session_next_told(sync_session *self, sync_told *out);

/* Of the query, once INPUT is over. */
tw_bson sync_session_query(const sync_session *self);                  /* canonical */
tw_str sync_session_collection(const sync_session *self, size_t part); /* as the client names it */
tw_str sync_session_database(const sync_session *self, size_t part);
tw_vector sync_session_at(const sync_session *self); /* positions at the cut */
uint64_t sync_session_cut(const sync_session *self);
uint64_t sync_session_srv(const sync_session *self); /* of the log that the cut is a row of */
sync_figures sync_session_tell(const sync_session *self);
