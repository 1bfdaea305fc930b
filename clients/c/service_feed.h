/* service_feed.h - the feed of one collection: every row once, in order, across restarts.
 *
 * The published messages are a hint, the log is the truth: a gap in their numbers, silence and a
 * lost connection make it read the log again from its position. Thread: one at a time. */
#pragma once

#include "clients/c/service.h"

typedef struct service_feed service_feed;

#define SERVICE_FEED_NOW UINT64_MAX

typedef struct service_feed_options {
    const char *database; /* NULL: the server's default */
    const char *collection;
    const service_identity *identity; /* read when it is opened; NULL: none */
    uint64_t srv_id;                  /* of after: the log that it is of; 0: not known */
    uint64_t after; /* rows above it are told; 0: what is stored first; SERVICE_FEED_NOW */
} service_feed_options;

/* Follows a collection. TW_E_RESET (it is another log now), TW_E_AHEAD, TW_E_COMPACTED: this
 * position cannot be served, open again at 0; otherwise as of service_call_ask. failure: why. */
tw_err service_feed_open(service_feed **out, const char *url, const service_feed_options *options,
                         uint64_t deadline_ms, service_failure *failure);
/* Ends within 2 * TW_CLOSE_MS, also while messages arrive (see service_close.h). */
void service_feed_close(service_feed **feed);
/* The next row {"n","op","key","version","srv_id","seqno","doc"}, each once, in order of n; what
 * was lost on the way is read again. A view until the next call. TW_E_TIMEOUT: none came until
 * deadline_ms (of service_clock_ms); the feed goes on with the next call. TW_E_RESET and its like
 * as of opening: the log was replaced while it was followed. */
tw_err service_feed_next(service_feed *feed, uint64_t deadline_ms, tw_bson *row);
/* Every row up to here was told: the `after` of a later feed. */
uint64_t service_feed_position(const service_feed *feed);
/* Names the log that the position is of. */
uint64_t service_feed_srv_id(const service_feed *feed);
/* Times that the feed read again what was lost or late. */
uint64_t service_feed_replays(const service_feed *feed);
/* Why the last call failed. */
const service_failure *service_feed_failure(const service_feed *feed);
