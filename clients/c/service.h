/* service.h - a client of the service socket: writes, reads, and a feed that resumes.
 *
 * Requests and replies are the msgpack maps of the service socket, seen here as BSON. A reply is a
 * view until the next call. Thread: one at a time per client or feed; calls block up to their
 * timeout. A request that timed out may or may not have had its effect: repeat it with its opid. */
#pragma once

#include "protocol/bson.h"

typedef struct service_client service_client;

/* url  ipc:///path or tcp://127.0.0.1:port. TW_E_UNAVAILABLE: nobody listens there. */
tw_err service_client_open(service_client **out, const char *url);
void service_client_close(service_client **client);

/* Asks {"op":...} and waits. TW_OK: the reply says ok. Otherwise the code of the refusal (the reply
 * then tells message, hint, version, rule), or TW_E_TIMEOUT, TW_E_UNAVAILABLE, TW_E_BAD_MESSAGE
 * with an empty reply. */
tw_err service_client_ask(service_client *client, tw_bson request, uint32_t timeout_ms,
                          tw_bson *reply);
/* Replaces or inserts; opid (len 0: none) makes it safe to repeat. Reply: key, version, since. */
tw_err service_client_put(service_client *client, tw_str collection, tw_bson doc, tw_str opid,
                          uint32_t timeout_ms, tw_bson *reply);
/* ops  array of {"op":"put","doc":...}, {"op":"remove","id":...} ...; at most TW_WRITE_OPS_MAX of
 * them and TW_SERVICE_MESSAGE_MAX bytes. Reply: count, failed, since, results. */
tw_err service_client_batch(service_client *client, tw_str collection, tw_bson ops, bool atomic,
                            uint32_t timeout_ms, tw_bson *reply);
/* ids  one value or an array. Reply: docs, count, missing. TW_E_NOT_FOUND: none is there. */
tw_err service_client_get(service_client *client, tw_str collection, tw_bson_value ids,
                          uint32_t timeout_ms, tw_bson *reply);

/* ---- feed ---- */
typedef struct service_feed service_feed;

#define SERVICE_FEED_NOW UINT64_MAX

/* Follows a collection (database NULL: the server's default). after: rows above it are told; 0: all
 * that is stored first; SERVICE_FEED_NOW: what comes from now on. Errors as of service_client_ask;
 * TW_E_AHEAD, TW_E_COMPACTED: this position cannot be served, open again at 0. */
tw_err service_feed_open(service_feed **out, const char *url, const char *database,
                         const char *collection, uint64_t after, uint32_t timeout_ms);
void service_feed_close(service_feed **feed);
/* The next row {"n","op","key","version","srv_id","seqno","doc"}, each once, in order of n; what
 * was lost on the way is read again. A view until the next call. TW_E_TIMEOUT: none came. */
tw_err service_feed_next(service_feed *feed, uint32_t timeout_ms, tw_bson *row);
/* Every row up to here was told: the `after` of a later feed. */
uint64_t service_feed_position(const service_feed *feed);
/* Times that the feed read again what was lost or late. */
uint64_t service_feed_replays(const service_feed *feed);
