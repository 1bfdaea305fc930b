/* limits.h - every bound in one place: value, unit, reason, and what happens at it.
 *
 * L(name, value, unit, reason and behaviour at the limit)
 * The table is also the source of `welcome.limits` and of the reference in docs. */
#pragma once

#include <assert.h>

#define TW_LIMITS(L)                                                                               \
    L(MESSAGE_MAX, 65536, "bytes", "A client's websocket message; beyond it 4413.")                \
    L(MESSAGE_FRAGMENTS_MAX, 4096, "frames", "Fragments of one message; beyond it 1009.")          \
    L(DOCUMENT_MAX, 16777216, "bytes", "A BSON document, as MongoDB has it; too_big.")             \
    L(ACTOR_MESSAGE_MAX, 16842752, "bytes", "Between actors: a document and 64 KiB; refused.")     \
    L(SERVICE_MESSAGE_MAX, 1048576, "bytes", "On the service socket; the pipe is closed.")         \
    L(DEPTH_CLIENT_MAX, 32, "levels", "Nesting of what clients send; error depth.")                \
    L(DEPTH_MAX, 100, "levels", "Nesting of stored documents; error depth.")                       \
    L(KEY_MAX, 1024, "bytes", "A record's key; error bad_document.")                               \
    L(NAME_MAX, 120, "bytes", "Database and collection names; error bad_message.")                 \
    L(MUX_ID_MAX, 64, "bytes", "A mux_id or reqID as JSON text; error bad_message.")               \
    L(ORIGINS_MAX, 64, "origins", "Components of a position vector; error bad_since.")             \
    L(QUERY_MAX, 4096, "bytes", "A filter, as BSON; error bad_filter.")                            \
    L(TOPIC_QUERY_MAX, 65536, "bytes", "A canonical topic query; error too_big.")                  \
    L(FILTER_DEPTH_MAX, 8, "levels", "Nesting of a filter; error bad_filter.")                     \
    L(FILTER_NODES_MAX, 64, "nodes", "Clauses of a filter; error bad_filter.")                     \
    L(FILTER_IN_MAX, 256, "values", "Values in $in, $nin or $all; error bad_filter.")              \
    L(REGEX_MAX, 256, "bytes", "A $regex pattern; error bad_filter.")                              \
    L(REGEX_SUBJECT_MAX, 65536, "bytes", "Text a $regex is held against; longer text: no match.")  \
    L(REGEX_STEPS_MAX, 10000, "steps", "Work of one $regex on one text; too_costly.")              \
    L(COLLECTIONS_PER_TOPIC_MAX, 32, "collections", "Named by one subscribe; error too_many.")     \
    L(COLLECTIONS_MAX, 4096, "collections", "Known to one server; a write gets too_many.")         \
    L(FIELDS_MAX, 256, "fields", "In a projection; error too_many.")                               \
    L(STREAMS_PER_CONNECTION_MAX, 1024, "streams", "On one websocket; error too_many.")            \
    L(TOPICS_MAX, 131072, "topics", "Distinct queries at one manager; error busy.")                \
    L(TOPIC_PATHS_MAX, 64, "paths", "Indexed of a collection; further filters take one of them.")  \
    L(TOPIC_NEEDS_MAX, 256, "entries", "Of one filter in the index; with more it is scanned.")     \
    L(GATEWAYS_MAX, 8, "gateways", "That share one port and one log; more: refused at the start.") \
    L(CONNECTIONS_MAX, 16384, "connections", "Of one gateway; accept pauses.")                     \
    L(OUTBOUND_QUEUE_MAX, 1048576, "bytes", "Queued to a connection; its streams go to the log.")  \
    L(HANDSHAKES_MAX, 1024, "handshakes", "Of TLS, unfinished, of one gateway; accept pauses.")    \
    L(SOCKET_WRITE_MAX, 65536, "bytes", "One write to a socket; then others have their turn.")     \
    L(PAGE_BYTES, 65536, "bytes", "A page of history; the next is asked when the socket drained.") \
    L(PAGE_ROWS_MAX, 500, "rows", "Rows of one page; bounds one read transaction.")                \
    L(PAGE_SCAN_MAX, 65536, "rows", "Index entries looked at for one page; the page ends early.")  \
    L(RING_BYTES, 8388608, "bytes", "Recent publications kept for joining; older: read again.")    \
    L(BATCH_BYTES, 65536, "bytes", "A publication is closed at this size.")                        \
    L(PAST_MAX, 64, "versions", "Of a record, read for one row; streams read the log for more.")   \
    L(BATCH_ROWS_MAX, 4096, "rows", "Rows of one publication or one commit.")                      \
    L(WRITE_OPS_MAX, 4096, "operations", "In one write message; error too_many.")                  \
    L(MANIFEST_IDS_MAX, 100000, "ids", "Listed by one sync; error too_many names the ranges.")     \
    L(MANIFEST_BYTES_MAX, 16777216, "bytes", "Kept of one sync's manifests; error too_many.")      \
    L(MANIFEST_BITS_MAX, 18, "bits", "Ranges of keys are 2^bits; finer ones: bad_message.")        \
    L(MANIFEST_PAGE_MAX, 4096, "records", "Keys of one page of a manifest; bounds one reading.")   \
    L(SYNCS_PER_CONNECTION_MAX, 4, "syncs", "At once on one websocket; error too_many.")           \
    L(SYNCS_MAX, 128, "syncs", "At once in one gateway, 4 GiB at worst; error busy.")              \
    L(PROCESSOR_MS, 2000, "ms", "A processor's answer; then what needs it waits and asks again.")  \
    L(PROCESSOR_TRIES, 5, "times", "A document may fail at a processor; then it is set aside.")    \
    L(PROCESSOR_JOBS_MAX, 64, "pages", "That wait for processors; busy.")                          \
    L(DISPATCH_MAX, 65536, "bytes", "A dispatched message, as BSON; too_big.")                     \
    L(SCHEMAS_PENDING_MAX, 64, "questions", "DB_SCHEMA of one connection at once; busy.")          \
    L(IDS_MAX, 1000, "ids", "In one getByIds; error too_many.")                                    \
    L(STAGES_MAX, 16, "stages", "Of a pipeline on the embedded store; error too_many.")            \
    L(AGGREGATE_SCAN_MAX, 1000000, "documents", "Looked at by one aggregate; too_costly.")         \
    L(AGGREGATE_SORT_MAX, 20000, "documents", "Sorted by one aggregate; too_costly.")              \
    L(AGGREGATE_BYTES_MAX, 67108864, "bytes", "Held by one aggregate; too_costly.")                \
    L(AGGREGATE_MS, 30000, "ms", "Of one aggregate, or its maxTimeMS; too_costly.")                \
    L(AGGREGATE_IDLE_MS, 60000, "ms", "A result nobody fetches is kept so long; then gap.")        \
    L(AGGREGATES_MAX, 8, "aggregates", "At once at one log_reader, 512 MiB at worst; busy.")       \
    L(FIND_MAX, 10000, "documents", "Of one find; done carries more: true.")                       \
    L(FIND_SCAN_MAX, 10000000, "rows", "Looked at by one find or count; too_costly.")              \
    L(PIPELINE_STAGES_MAX, 64, "stages", "Of an aggregate, with those inside; too_many.")          \
    L(SORT_MAX, 100000, "documents", "Sorted by one find; too_costly.")                            \
    L(OPIDS_MAX, 1000000, "ids", "Operation ids remembered; the oldest is forgotten.")             \
    L(OPID_MAX, 128, "bytes", "An operation id; error bad_message.")                               \
    L(OPID_AGE_S, 86400, "s", "Operation ids are remembered this long.")                           \
    L(LOG_AGE_S, 86400, "s", "Superseded rows are kept this long; then the floor passes.")         \
    L(MAILBOX_MAX, 4096, "messages", "Waiting asks of one actor; busy.")                           \
    L(LINK_IN_FLIGHT_MAX, 32, "requests", "Unanswered on one nng link: its queue holds 64.")       \
    L(FOLLOW_QUEUE_MAX, 1024, "messages", "Published, not taken yet; the oldest is lost: a gap.")  \
    L(FOLLOW_BYTES_MAX, 67108864, "bytes", "Of those inside a process; the oldest is lost.")       \
    L(ACTORS_MAX, 64, "actors", "In one process.")                                                 \
    L(LINKS_MAX, 32, "links", "Of one actor to others.")                                           \
    L(TIMERS_MAX, 64, "timers", "Of one actor.")                                                   \
    L(ASK_TIMEOUT_MS, 5000, "ms", "An ask without answer; timeout.")                               \
    L(RESTARTS_MAX, 5, "restarts", "Of an actor in 10 s; then health is red.")                     \
    L(PING_MS, 25000, "ms", "A ping after so much silence (Centrifugo's value).")                  \
    L(PONG_MS, 8000, "ms", "No pong in this time: the connection is cut.")                         \
    L(STALL_MS, 30000, "ms", "No byte drained with data waiting: 4508.")                           \
    L(HELLO_MS, 10000, "ms", "No hello where auth is required: 4408.")                             \
    L(HELLO_MESSAGE_MAX, 12288, "bytes", "A message before hello, where auth is required; 4413.")  \
    L(TOKEN_MAX, 8192, "bytes", "A token; longer ones are refused unread: 4401.")                  \
    L(AUTH_KEYS_MAX, 32, "keys", "That sign tokens; the start is refused.")                        \
    L(JWKS_MAX, 65536, "bytes", "A set of keys; a longer one is refused, the last one holds.")     \
    L(JWKS_MS, 1000, "ms", "One attempt to fetch a set of keys; there are two.")                   \
    L(JWKS_UNKNOWN_S, 60, "s", "At most one fetch for unknown kids; further ones are 4401.")       \
    L(JWKS_REFRESH_S, 600, "s", "A set of keys is fetched again, so that keys can be taken back.") \
    L(SERVICE_TOKENS_MAX, 64, "tokens", "Verified and kept by a service gateway; then again.")     \
    L(AUTH_LEEWAY_MAX_S, 300, "s", "The most that auth.leeway_s may be.")                          \
    L(ADDRESS_CONNECTIONS, 100, "connections", "Of one address, unless exempt; HTTP 503.")         \
    L(USER_CONNECTIONS, 20, "connections", "Websockets of one subject; error rate, close 4429.")   \
    L(ACCEPTS_S, 2000, "per second", "Connections accepted; others wait in the backlog.")          \
    L(MESSAGES_S, 2000, "per second",                                                              \
      "Of one connection, burst twice that; then it waits unread.")                                \
    L(SUBSCRIBES_S, 1000, "per second", "Of one connection, burst twice that; error rate.")        \
    L(SEARCHES_S, 50, "per second", "Of one connection, burst twice that; error rate, HTTP 429.")  \
    L(SEARCHES_AT_ONCE, 8, "searches", "Of one connection that run; error rate, HTTP 429.")        \
    L(EXEMPT_NETWORKS_MAX, 64, "networks", "In limits.exempt, limits.proxies; refused.")           \
    L(RIGHTS_RULES_MAX, 1024, "rules", "Of the configuration; the start is refused.")              \
    L(SYNC_REPEAT_MS, 30000, "ms", "sync is repeated on idle streams.")                            \
    L(AHEAD_WAIT_MS, 2000, "ms", "A since of another node is waited for; then reset: ahead.")      \
    L(DRAIN_MS, 10000, "ms", "Time for an orderly end; then connections are cut.")                 \
    L(STOP_MS, 20000, "ms", "Then for actors to end their work; the process ends with 1.")         \
    L(CLOSE_MS, 3000, "ms", "Then for nng to close sockets; left to the kernel, a warning.")       \
    L(BAD_FRAMES_MAX, 3, "messages", "Bad messages in a row; close 4400.")                         \
    L(HTTP_BODY_MAX, 1048576, "bytes", "A request body; 413.")                                     \
    L(HTTP_HEADER_POOL, 256, "connections", "Handshakes at once; 4 lost connections in bursts.")   \
    L(SOURCE_STATE_MAX, 65536, "bytes",                                                            \
      "A resume token and the state of a copy; longer: not kept.")                                 \
    L(TRANSACTION_ROWS_MAX, 4096, "rows", "Of a source, kept whole; longer ones come in pieces.")  \
    L(TRANSACTION_BYTES_MAX, 8388608, "bytes", "Of a source, kept whole; beyond: in pieces.")      \
    L(APPEND_BYTES, 1048576, "bytes", "An append is closed at this size, between transactions.")   \
    L(APPENDS_IN_FLIGHT_MAX, 4, "appends", "Not yet on disk; then the source is not read.")        \
    L(SCAN_ROWS_MAX, 1000, "documents", "One step of a copy from MongoDB, and one lookup.")        \
    L(SEARCH_BODY_MAX, 65536, "bytes", "A search body, as BSON; error too_big.")                   \
    L(SEARCH_DEPTH_MAX, 16, "levels", "Nesting of a search body; error depth.")                    \
    L(SEARCH_CLAUSES_MAX, 256, "clauses", "Of a search body; error too_costly.")                   \
    L(SEARCH_AGGS_DEPTH_MAX, 3, "levels", "Aggregations in aggregations; error depth.")            \
    L(SEARCH_BUCKETS_MAX, 10000, "buckets", "Of one histogram; error too_costly.")                 \
    L(SEARCH_SIZE_MAX, 100, "documents", "Of one page of a search; error bad_query.")              \
    L(SEARCH_WINDOW_MAX, 10000, "documents", "offset + rows; beyond it use stream_search.")        \
    L(SEARCH_MS, 2000, "ms", "For one search where nothing else is asked; timeout.")               \
    L(SEARCH_DEADLINE_MAX_MS, 60000, "ms", "The most that deadline_ms may ask for.")               \
    L(SEARCH_REPLY_MAX, 8388608, "bytes", "A reply of the cluster; error too_big.")                \
    L(SEARCH_RETRIES_MAX, 2, "retries", "Of one idempotent call to the cluster.")                  \
    L(SEARCH_HOSTS_MAX, 16, "hosts", "Of one cluster; the start is refused.")                      \
    L(SEARCH_RUNNING_MAX, 256, "requests", "At once at the search engine; busy.")                  \
    L(SEARCH_TARGETS_MAX, 256, "collections", "Of one search; error too_many.")                    \
    L(SEARCH_ITEMS_MAX, 1000, "items", "In one answer of the engine; more follow by a cursor.")    \
    L(SEARCH_CURSOR_MAX, 8192, "bytes", "A cursor of the engine; error too_big.")                  \
    L(SEARCH_GROUPS_MAX, 10, "documents", "Of one group of grouped_search; error bad_message.")    \
    L(INDEX_OPS_MAX, 1000, "changes", "In one message of the indexer.")                            \
    L(BY_QUERY_MAX, 100000, "documents", "Changed by one query; its reply carries more: true.")    \
    L(BULK_MAX, 1000, "operations", "In one bulk plan; error too_many.")                           \
    L(LOG_LINE_MAX, 4096, "bytes", "A log line; cut.")                                             \
    L(LOG_REPEATS_MAX, 64, "lines",                                                                \
      "Known as repeated; the one unheard for longest is new again.")                              \
    L(LOG_REPEAT_MIN_MS, 10000, "ms", "Equal warnings are counted; then told, and twice as long.") \
    L(LOG_REPEAT_MAX_MS, 600000, "ms", "The longest that they are counted; then told.")            \
    L(LOG_REPEAT_NEW_MS, 60000, "ms", "A warning that was not said so long is told at once.")      \
    L(ERROR_TEXT_MAX, 512, "bytes", "Text of an error to a client; cut.")                          \
    L(SHOWN_INPUT_MAX, 64, "bytes", "A client's input shown in an error; cut and escaped.")

/* Each limit as a constant of its name: TW_MESSAGE_MAX. The one that int cannot hold is below. */
enum {
#define L(name, value, unit, reason) TW_##name = (value),
    TW_LIMITS(L)
#undef L
};
#define TW_LOG_SUPERSEDED_BYTES 4294967296LL /* bytes of superseded rows kept; the floor passes */

static_assert((int)TW_ACTOR_MESSAGE_MAX >= (int)TW_DOCUMENT_MAX + 65536, "a document fits");
static_assert((int)TW_LINK_IN_FLIGHT_MAX <= 64 / 2, "nng's reply queue of a pipe holds 64");
static_assert((int)TW_PAGE_BYTES <= (int)TW_OUTBOUND_QUEUE_MAX, "a page fits a connection's queue");
static_assert((int)TW_SOCKET_WRITE_MAX <= (int)TW_OUTBOUND_QUEUE_MAX, "a write fits the queue");
