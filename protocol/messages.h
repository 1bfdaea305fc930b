/* messages.h - what actors say to each other: the one table.
 *
 * Structs, msgpack codec, validation, names, the fuzz dictionary and docs/messages.md are
 * expansions of it. A message is the msgpack array [version, id, request, fields...]; decode is
 * strict: each field is bounded, and input is read to its last byte. Ids are never reused.
 *
 * Field kinds:  u64 i64 flag str bytes bson key vector  and  list(item): a list of an item below.
 *   str bytes bson key   views into the message; max is their length in bytes
 *   u64                  max is the largest value;  i64: max is the largest magnitude
 *   vector               max is the number of origins
 *   list                 max is the number of items
 * F(kind, name, max, unit, doc)   I(name, doc)   M(id, name, sender, doc) */
#pragma once

#include "protocol/arena.h"
#include "protocol/base.h"
#include "protocol/limits.h"

#define TW_MESSAGES_VERSION 1
#define TW_SEQNO_MAX        9007199254740991ULL /* 2^53 - 1: a JavaScript number holds it */
#define TW_I64_MAX          9223372036854775807ULL

/* What an operation of a write does. */
enum tw_op {
    TW_OP_INSERT = 1,  /* doc; conflict where the key exists */
    TW_OP_PUT = 2,     /* doc; replaces or inserts */
    TW_OP_UPDATE = 3,  /* key, doc = update document ({"$set":...} form, see broker/update.h) */
    TW_OP_REMOVE = 4,  /* key */
    TW_OP_DROP = 5,    /* the collection */
    TW_OP_DROP_DB = 6, /* the database */
};

/* Flags of a log row. */
enum tw_row_flags {
    TW_ROW_PUT = 1,        /* a version of a record */
    TW_ROW_DELETE = 2,     /* a tombstone */
    TW_ROW_DROP = 4,       /* the collection ends here */
    TW_ROW_LAST = 8,       /* last row of its transaction (single rows too) */
    TW_ROW_SYNTHETIC = 16, /* made by comparison after lost history */
    TW_ROW_SILENT = 32,    /* written with dispatch: false; streams skip it */
    TW_ROW_MULTI = 64,     /* its transaction has several rows */
    TW_ROW_DROP_DB = 128,  /* the last drop of a whole database: the database ends here */
};

/* What a row means to a stream. */
enum tw_meaning {
    TW_MEANS_PUT = 1,
    TW_MEANS_LEFT = 2,    /* no longer matches */
    TW_MEANS_REVOKED = 3, /* is there, but outside what the asker's rights show */
    TW_MEANS_DELETED = 4, /* a tombstone of a record that matched */
    TW_MEANS_DROP = 5,    /* the collection was dropped */
};

/* Why a resume starts over. */
enum tw_reset {
    TW_RESET_NONE = 0,
    TW_RESET_AHEAD = 1,
    TW_RESET_COMPACTED = 2,
    TW_RESET_CHANGED = 3,
};

#define TW_ITEMS(I)                                                                                \
    I(write_op, "One operation of a write.")                                                       \
    I(write_result, "The outcome of one operation.")                                               \
    I(past, "A version of a record that streams may still hold.")                                  \
    I(log_row, "One change, with the version that it replaced.")                                   \
    I(page_row, "One event of a stream's history, rendered.")                                      \
    I(mark, "A topic that an event is for.")                                                       \
    I(event, "One event, rendered once for all topics of a projection.")                           \
    I(record, "A stored record.")                                                                  \
    I(one_key, "A key.")                                                                           \
    I(one_id, "A number that names something.")                                                    \
    I(gauge, "A figure by name.")                                                                  \
    I(collection_state, "A collection as the log knows it.")                                       \
    I(search_target, "A collection that a search may look at.")                                    \
    I(search_item, "One of many parts of a search's answer.")                                      \
    I(index_op, "One change on its way into an index.")                                            \
    I(index_entry, "A document that an index holds.")                                              \
    I(index_refusal, "A document that an index did not take.")                                     \
    I(manifest_entry, "A record of a query's result, without its document.")                       \
    I(raw_row, "What is needed to render a page's row.")                                           \
    I(append_row, "One change of a foreign source.")

#define TW_ITEM_write_op(F, L)                                                                     \
    F(u64, op, TW_OP_DROP_DB, "enum tw_op", "What to do.")                                         \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection; empty for a drop of the database.")            \
    F(key, key, TW_KEY_MAX, "bytes", "The record; empty: taken from doc, or made.")                \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "Document, or update document.")                        \
    F(bson, match, TW_QUERY_MAX, "bytes", "Only if the stored version matches; empty: always.")    \
    F(bson, guard, TW_TOPIC_QUERY_MAX, "bytes", "The same by rights: looked at before all else.")  \
    F(i64, if_version, TW_I64_MAX, "version", "Only if it is this one; -1: any; 0: absent.")       \
    F(flag, silent, 1, "", "Not to be told to live streams (dispatch: false).")                    \
    F(flag, more, 1, "", "The next operation belongs to the same transaction.")                    \
    F(str, opid, TW_OPID_MAX, "bytes", "Makes the operation idempotent; empty: not asked.")        \
    F(str, origin, TW_OPID_MAX, "bytes", "Told in /changes as origin.")                            \
    F(flag, drawn, 1, "", "A gateway drew the opid, for the case that it sends once more.")        \
    F(flag, again, 1, "", "Sent once more: the first may have had its effect.")

#define TW_ITEM_write_result(F, L)                                                                 \
    F(u64, code, 1000, "tw_err", "TW_OK, or why not.")                                             \
    F(str, why, TW_ERROR_TEXT_MAX, "bytes", "What was wrong, for a person; empty when done.")      \
    F(str, rule, 64, "bytes", "The rule that a refused write broke; empty otherwise.")             \
    F(key, key, TW_KEY_MAX, "bytes", "The record's key.")                                          \
    F(i64, version, TW_I64_MAX, "version", "After the write; of the stored record on conflict.")   \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Position of the write.")                                  \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position of the write; 0 when nothing changed.")         \
    F(u64, count, TW_SEQNO_MAX, "records", "Records that changed.")

#define TW_ITEM_past(F, L) F(bson, doc, TW_DOCUMENT_MAX, "bytes", "The document.")

#define TW_ITEM_log_row(F, L)                                                                      \
    F(u64, n, TW_SEQNO_MAX, "row", "Local row number.")                                            \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Origin.")                                                 \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position.")                                              \
    F(u64, flags, 255, "enum tw_row_flags", "What happened.")                                      \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(key, key, TW_KEY_MAX, "bytes", "The record; empty for a drop.")                              \
    F(i64, version, TW_I64_MAX, "version", "Of this row.")                                         \
    F(u64, prev, TW_SEQNO_MAX, "row", "The row that this one supersedes; 0: none.")                \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "The document; empty for a tombstone or a drop.")       \
    F(bson, old, TW_DOCUMENT_MAX, "bytes", "The document before; empty where there was none.")     \
    F(u64, time_ms, TW_SEQNO_MAX, "unix ms", "When it was committed.")                             \
    F(str, origin, TW_OPID_MAX, "bytes", "Who wrote it, as the writer said.")                      \
    F(flag, lacking, 1, "", "Streams may hold versions that stand neither in old nor in past.")    \
    L(past, past, TW_PAST_MAX, "versions", "Where old was not told: those before, to one told.")

#define TW_ITEM_page_row(F, L)                                                                     \
    F(u64, n, TW_SEQNO_MAX, "row", "Local row number.")                                            \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Origin.")                                                 \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position.")                                              \
    F(str, type, TW_NAME_MAX, "bytes", "The message's type: entry, record, remove, drop.")         \
    F(bytes, tail, TW_ACTOR_MESSAGE_MAX, "bytes", "JSON behind the stream's prefix, with its }.")

#define TW_ITEM_mark(F, L)                                                                         \
    F(u64, topic, TW_I64_MAX, "topic", "The topic.")                                               \
    F(u64, prev, TW_SEQNO_MAX, "seqno", "Position of the topic's event before; 0: none known.")

#define TW_ITEM_event(F, L)                                                                        \
    F(u64, n, TW_SEQNO_MAX, "row", "Local row number.")                                            \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Origin.")                                                 \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position.")                                              \
    F(str, type, TW_NAME_MAX, "bytes", "The message's type: entry, record, remove, drop.")         \
    F(bytes, tail, TW_ACTOR_MESSAGE_MAX, "bytes", "JSON behind the stream's prefix, with its }.")  \
    L(mark, marks, TW_TOPICS_MAX, "topics", "Whom it is for.")

#define TW_ITEM_record(F, L)                                                                       \
    F(key, key, TW_KEY_MAX, "bytes", "The record's key.")                                          \
    F(i64, version, TW_I64_MAX, "version", "Its version.")                                         \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Position of its newest version.")                         \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position of its newest version.")                        \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "The document, or the fields asked for.")

#define TW_ITEM_one_key(F, L) F(key, key, TW_KEY_MAX, "bytes", "The key.")
#define TW_ITEM_one_id(F, L)  F(u64, id, TW_I64_MAX, "id", "The id.")
#define TW_ITEM_gauge(F, L)                                                                        \
    F(str, name, TW_NAME_MAX, "bytes", "Name, in Prometheus' spelling without the prefix.")        \
    F(i64, value, TW_I64_MAX, "", "Value.")

#define TW_ITEM_collection_state(F, L)                                                             \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(u64, records, TW_SEQNO_MAX, "records", "Live records.")

#define TW_ITEM_search_target(F, L)                                                                \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, filter, TW_TOPIC_QUERY_MAX, "bytes", "What does not match it is as if missing.")
#define TW_ITEM_search_item(F, L)                                                                  \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "Fields of a reply of its own: doc, key, a result.")

#define TW_ITEM_index_op(F, L)                                                                     \
    F(u64, op, TW_OP_DROP_DB, "enum tw_op", "TW_OP_PUT or TW_OP_REMOVE.")                          \
    F(str, id, TW_KEY_MAX, "bytes", "The document's id in the index (broker/search_doc.h).")       \
    F(key, key, TW_KEY_MAX, "bytes", "The record; empty where only the id is known.")              \
    F(i64, version, TW_I64_MAX, "version", "Of the record.")                                       \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position of the change: older ones have no effect.")     \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "The document, of a put.")
#define TW_ITEM_index_entry(F, L)                                                                  \
    F(str, id, TW_KEY_MAX, "bytes", "The document's id in the index.")                             \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position of the version that it holds.")
#define TW_ITEM_index_refusal(F, L)                                                                \
    F(str, id, TW_KEY_MAX, "bytes", "The document's id in the index.")                             \
    F(str, why, TW_ERROR_TEXT_MAX, "bytes", "What the engine said.")

#define TW_ITEM_manifest_entry(F, L)                                                               \
    F(u64, n, TW_SEQNO_MAX, "row", "Where its document stands.")                                   \
    F(u64, part, TW_COLLECTIONS_PER_TOPIC_MAX, "part", "Of the topic query.")                      \
    F(i64, version, TW_I64_MAX, "version", "Its version.")                                         \
    F(key, key, TW_KEY_MAX, "bytes", "Its key.")

#define TW_ITEM_raw_row(F, L)                                                                      \
    F(flag, raw, 1, "", "The tail is the minimal document as BSON, to be processed and rendered.") \
    F(flag, had, 1, "", "The query had the version before: without the new one it has left.")      \
    F(u64, part, TW_COLLECTIONS_PER_TOPIC_MAX, "part", "Of the topic query.")                      \
    F(u64, flags, 255, "enum tw_row_flags", "Of the row.")                                         \
    F(i64, version, TW_I64_MAX, "version", "Of the row.")                                          \
    F(key, key, TW_KEY_MAX, "bytes", "Of the row.")

#define TW_ITEM_append_row(F, L)                                                                   \
    F(u64, flags, 255, "enum tw_row_flags", "PUT, DELETE or DROP; and SYNTHETIC, SILENT.")         \
    F(flag, more, 1, "", "The next row belongs to the same transaction.")                          \
    F(flag, scan, 1, "",                                                                           \
      "Of a scan: left out where nothing differs, or where the source told more.")                 \
    F(u64, seqno, TW_SEQNO_MAX, "seqno", "Position, at or above that of the row before.")          \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection; empty: a drop of all of the database.")        \
    F(key, key, TW_KEY_MAX, "bytes", "The record; empty for a drop.")                              \
    F(i64, version, TW_I64_MAX, "version", "Of a put.")                                            \
    F(bson, doc, TW_DOCUMENT_MAX, "bytes", "Of a put.")                                            \
    F(str, origin, TW_OPID_MAX, "bytes", "Who wrote it; empty: not known.")                        \
    F(bson, change, TW_DOCUMENT_MAX, "bytes",                                                      \
      "Update that makes the version from the one before; doc, which may be newer or empty, "      \
      "serves where there is none.")

#define TW_MESSAGES(M)                                                                             \
    M(1, error, any, "Any request may be answered by it instead.")                                 \
    M(2, done, any, "Answer to a command that has nothing to tell.")                               \
    M(3, actor_state_ask, supervisor, "Every actor answers it by actor_state.")                    \
    M(4, actor_state, any, "How an actor is.")                                                     \
    M(10, write, gateway, "Operations, in order; answered by written when they are on disk.")      \
    M(11, written, store, "The outcome of each operation.")                                        \
    M(12, log_batch, store, "Published after each commit: its rows, in order.")                    \
    M(13, log_state_ask, any, "Asks for log_state.")                                               \
    M(14, log_state, store, "Head, floor and origins of the log.")                                 \
    M(15, log_read, any, "Asks a log_reader for raw rows; answered by log_rows.")                  \
    M(16, log_rows, log_reader, "Raw rows behind a row number.")                                   \
    M(17, trim, any, "Moves the floor now, as age and size allow, and sweeps a step.")             \
    M(20, page_read, gateway, "A page of a topic's history or resume; answered by page.")          \
    M(21, page, log_reader, "Events in order, and where to go on.")                                \
    M(22, get, gateway, "Records by key; answered by records.")                                    \
    M(23, find, gateway, "Records by query; answered by records.")                                 \
    M(24, records, log_reader, "Records.")                                                         \
    M(25, count, gateway, "Counts records by query; answered by counted.")                         \
    M(26, counted, log_reader, "How many.")                                                        \
    M(50, aggregate, gateway, "Documents made by a pipeline; answered by records.")                \
    M(30, topic_open, gateway, "Opens a topic or joins an equal one; answered by topic_opened.")   \
    M(31, topic_opened, subscription_manager, "The topic stands; its events follow.")              \
    M(32, topics_keep, gateway, "The topics this gateway still has; others of it are closed.")     \
    M(33, topic_batch, subscription_manager, "Published for each log_batch, empty ones too.")      \
    M(70, manifest_read, gateway, "Keys of a query's result at a cut; answered by manifest.")      \
    M(71, manifest, log_reader, "Keys and versions, in order of n, and where to go on.")           \
    M(72, manifest_docs, gateway, "Documents of those rows; answered by records, or by page.")     \
    M(73, raw_page_read, processor, "As page_read; answered by raw_page.")                         \
    M(74, raw_page, log_reader, "A page whose documents are to be processed before rendering.")    \
    M(80, dispatch, gateway, "A message for the followers of a collection; answered by done.")     \
    M(81, topic_dispatch, subscription_manager, "Published for each dispatch; may be lost.")       \
    M(40, append, change_tailer,                                                                   \
      "Changes of a foreign source; answered by appended when on disk.")                           \
    M(41, appended, store, "How far the log is with the source.")                                  \
    M(42, source_ask, change_tailer, "Asks where a source goes on; answered by source.")           \
    M(43, source, store, "What the log knows of a source.")                                        \
    M(90, search_ask, gateway, "A function of the search engine; answered by search_answer.")      \
    M(91, search_answer, search_engine, "What it gave, or the first part of it.")                  \
    M(92, index_ask, indexer, "How an index is; made where it is not. Answered by index_state.")   \
    M(93, index_state, search_engine, "What an index holds.")                                      \
    M(94, index_write, indexer, "Changes of one collection; answered by index_written.")           \
    M(95, index_written, search_engine, "They are in the index, but for those named.")             \
    M(96, index_list, indexer, "A page of what an index holds; answered by index_listed.")         \
    M(97, index_listed, search_engine, "Documents in order of their ids.")                         \
    M(110, gateway_page_ask, gateway, "What another one shows the operator: gateway_page.")        \
    M(111, gateway_page, gateway, "Its connections, or its topics.")                               \
    M(120, aggregate_run, gateway, "Runs a pipeline here; answered by aggregated when done.")      \
    M(121, aggregate_next, gateway, "Goes on with its result, or ends it, even as it runs.")       \
    M(122, aggregated, log_reader, "A page of the result.")

#define TW_FIELDS_error(F, L)                                                                      \
    F(u64, code, 1000, "tw_err", "What went wrong.")                                               \
    F(str, why, TW_ERROR_TEXT_MAX, "bytes", "Cause, for a person.")                                \
    F(str, hint, TW_ERROR_TEXT_MAX, "bytes", "What to do; may be empty.")                          \
    F(u64, after_ms, TW_SEQNO_MAX, "ms", "When to try again; 0: not told.")
#define TW_FIELDS_done(F, L)            F(u64, count, TW_SEQNO_MAX, "items", "How many.")
#define TW_FIELDS_actor_state_ask(F, L) F(flag, reset, 1, "", "Begin the maxima anew.")
#define TW_FIELDS_actor_state(F, L)                                                                \
    F(str, name, TW_NAME_MAX, "bytes", "The actor's name.")                                        \
    F(str, state, TW_NAME_MAX, "bytes", "running, starting, failed: reason.")                      \
    F(u64, handled, TW_SEQNO_MAX, "messages", "Handled since the start.")                          \
    F(u64, waiting, TW_SEQNO_MAX, "requests", "Asks that wait for a free link or an answer.")      \
    F(u64, gaps, TW_SEQNO_MAX, "batches", "Publications lost and repaired.")                       \
    L(gauge, gauges, 256, "gauges", "The actor's own figures.")

#define TW_FIELDS_write(F, L) L(write_op, ops, TW_WRITE_OPS_MAX, "operations", "In order.")
#define TW_FIELDS_written(F, L)                                                                    \
    L(write_result, results, TW_WRITE_OPS_MAX, "results", "One for each operation.")

#define TW_FIELDS_log_batch(F, L)                                                                  \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The log's own origin: row numbers are of this log.")      \
    F(u64, prev_head, TW_SEQNO_MAX, "row", "Head before this batch.")                              \
    F(u64, head, TW_SEQNO_MAX, "row", "Head with this batch.")                                     \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at head.")                                 \
    L(log_row, rows, TW_BATCH_ROWS_MAX, "rows", "In order of n.")
#define TW_FIELDS_log_state_ask(F, L) F(flag, counts, 1, "", "Count each collection's records.")
#define TW_FIELDS_log_state(F, L)                                                                  \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Whose positions writes get: the log's, or its source's.") \
    F(u64, own, TW_SEQNO_MAX, "srv_id", "The log's own origin: row numbers are of this log.")      \
    F(u64, head, TW_SEQNO_MAX, "row", "Newest row.")                                               \
    F(u64, floor, TW_SEQNO_MAX, "row", "Cursors below it are refused.")                            \
    F(u64, rows, TW_SEQNO_MAX, "rows", "Rows kept.")                                               \
    F(u64, records, TW_SEQNO_MAX, "records", "Live records.")                                      \
    F(u64, bytes, TW_SEQNO_MAX, "bytes", "Size of the file.")                                      \
    F(flag, partial, 1, "",                                                                        \
      "The first copy of the source is not complete: nobody may rely on it.")                      \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at head.")                                 \
    L(collection_state, collections, TW_COLLECTIONS_MAX, "collections", "Where counts was set.")
#define TW_FIELDS_log_read(F, L)                                                                   \
    F(u64, after, TW_SEQNO_MAX, "row", "Rows above this one.")                                     \
    F(u64, rows_max, TW_BATCH_ROWS_MAX, "rows", "At most so many.")                                \
    F(u64, bytes_max, TW_DOCUMENT_MAX, "bytes", "Stop after so many (one row at least).")
#define TW_FIELDS_log_rows(F, L)                                                                   \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The log's own origin: row numbers are of this log.")      \
    F(u64, head, TW_SEQNO_MAX, "row", "Newest row of the log.")                                    \
    F(u64, upto, TW_SEQNO_MAX, "row", "These rows are all up to here.")                            \
    F(u64, floor, TW_SEQNO_MAX, "row", "Rows that were superseded below it may be missing.")       \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at upto.")                                 \
    L(log_row, rows, TW_BATCH_ROWS_MAX, "rows", "In order of n.")
#define TW_FIELDS_trim(F, L)                                                                       \
    F(u64, keep_rows, TW_SEQNO_MAX, "rows", "Floor rises to head - keep_rows at least.")

#define TW_FIELDS_page_read(F, L)                                                                  \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Canonical topic query (broker/topic_query.h).")   \
    F(flag, fresh, 1, "", "First page of a fresh subscription: w0 is to be set to head.")          \
    F(flag, resume, 1, "", "First page of a resume: after is to be found from since.")             \
    F(flag, now, 1, "", "No history: after is to be set to head.")                                 \
    F(u64, after, TW_SEQNO_MAX, "row", "Cursor: rows above it; unread with fresh and resume.")     \
    F(u64, w0, TW_SEQNO_MAX, "row", "Head when a fresh subscription began; 0: not fresh.")         \
    F(vector, since, TW_ORIGINS_MAX, "origins", "Of a resume, until it has caught up.")            \
    F(u64, bytes_max, TW_DOCUMENT_MAX, "bytes", "Stop after so many (one row at least).")
#define TW_FIELDS_page(F, L)                                                                       \
    F(u64, reset, TW_RESET_CHANGED, "enum tw_reset", "Not none: since cannot be served.")          \
    F(u64, floor, TW_SEQNO_MAX, "seqno", "With a reset: the oldest position that can.")            \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "With a reset: the origin it is about.")                   \
    F(u64, after, TW_SEQNO_MAX, "row", "Cursor for the next page.")                                \
    F(u64, w0, TW_SEQNO_MAX, "row", "For the next page.")                                          \
    F(u64, head, TW_SEQNO_MAX, "row", "Newest row when this page was read.")                       \
    F(flag, caught_up, 1, "", "after = head: nothing more at the moment.")                         \
    F(flag, follows, 1, "",                                                                        \
      "With a reset: this log follows the origin, and may reach since in a moment.")               \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at after.")                                \
    L(page_row, rows, TW_PAGE_ROWS_MAX, "rows", "In order of n.")

#define TW_FIELDS_get(F, L)                                                                        \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, fields, TW_QUERY_MAX, "bytes", "Array of names; empty: all.")                          \
    F(bson, match, TW_TOPIC_QUERY_MAX, "bytes", "Rows that do not match are as if missing.")       \
    L(one_key, keys, 2 * TW_IDS_MAX, "keys", "Which.")
#define TW_FIELDS_find(F, L)                                                                       \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Filter; empty: all.")                             \
    F(bson, match, TW_TOPIC_QUERY_MAX, "bytes", "Rows that do not match are as if missing.")       \
    F(bson, fields, TW_QUERY_MAX, "bytes", "Array of names; empty: all.")                          \
    F(bson, sort, TW_QUERY_MAX, "bytes", "{field: 1 or -1}; empty: order of n.")                   \
    F(u64, skip, TW_SEQNO_MAX, "records", "Leave out the first.")                                  \
    F(u64, limit, TW_FIND_MAX, "records", "At most so many; 0: TW_FIND_MAX.")                      \
    F(u64, after, TW_SEQNO_MAX, "row", "Without sort: go on behind this row.")                     \
    F(key, after_key, TW_KEY_MAX, "bytes", "The same on MongoDB: go on behind this key.")          \
    F(u64, bytes_max, TW_DOCUMENT_MAX, "bytes", "Stop after so many (one record at least).")
#define TW_FIELDS_aggregate(F, L)                                                                  \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, match, TW_TOPIC_QUERY_MAX, "bytes", "The first stage: records that may be read.")      \
    F(bson, pipeline, TW_TOPIC_QUERY_MAX, "bytes", "Array of stages (broker/pipeline.h).")         \
    F(u64, limit, TW_FIND_MAX, "documents", "At most so many; 0: TW_FIND_MAX.")                    \
    F(u64, bytes_max, TW_DOCUMENT_MAX, "bytes", "Stop after so many (one document at least).")     \
    F(u64, time_ms, TW_AGGREGATE_MS, "ms", "It may take so long; 0: as every read.")
#define TW_FIELDS_aggregate_run(F, L)                                                              \
    F(u64, id, TW_SEQNO_MAX, "id", "Drawn by the asker: names it until its end; not 0.")           \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, match, TW_TOPIC_QUERY_MAX, "bytes", "The pipeline's leading $match as a filter.")      \
    F(bson, guard, TW_TOPIC_QUERY_MAX, "bytes", "Records that do not match are as if missing.")    \
    F(bson, hidden, TW_TOPIC_QUERY_MAX, "bytes", "List of fields that the pipeline may not see.")  \
    F(bson, pipeline, TW_DOCUMENT_MAX, "bytes", "Array of stages (broker/aggregate.h).")           \
    F(u64, time_ms, TW_AGGREGATE_MS, "ms", "It may take so long; 0: the most.")
#define TW_FIELDS_aggregate_next(F, L)                                                             \
    F(u64, id, TW_SEQNO_MAX, "id", "Of the aggregate_run.")                                        \
    F(flag, end, 1, "", "Nothing more is wanted of it; answered by done.")
#define TW_FIELDS_aggregated(F, L)                                                                 \
    F(flag, more, 1, "", "There are more: they are kept for TW_AGGREGATE_IDLE_MS.")                \
    L(record, items, TW_FIND_MAX, "documents", "In order; doc alone is set.")
#define TW_FIELDS_records(F, L)                                                                    \
    F(u64, after, TW_SEQNO_MAX, "row", "Where the next find goes on.")                             \
    F(key, after_key, TW_KEY_MAX, "bytes", "The same on MongoDB.")                                 \
    F(flag, more, 1, "", "There are more.")                                                        \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions that the answer reflects at least.")       \
    L(record, items, TW_FIND_MAX, "records", "In order.")
#define TW_FIELDS_count(F, L)                                                                      \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Filter; empty: all.")                             \
    F(bson, match, TW_TOPIC_QUERY_MAX, "bytes", "Rows that do not match are as if missing.")
#define TW_FIELDS_counted(F, L) F(u64, count, TW_SEQNO_MAX, "records", "That match.")

#define TW_FIELDS_topic_open(F, L)                                                                 \
    F(u64, gateway, TW_SEQNO_MAX, "id", "Who opens; drawn at its start.")                          \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Canonical: equal queries share a topic.")
#define TW_FIELDS_topic_opened(F, L)                                                               \
    F(u64, topic, TW_I64_MAX, "id", "Names the topic in every later message.")                     \
    F(u64, applied, TW_SEQNO_MAX, "row", "Events of rows above it are published.")
#define TW_FIELDS_topics_keep(F, L)                                                                \
    F(u64, gateway, TW_SEQNO_MAX, "id", "Who keeps.")                                              \
    L(one_id, topics, TW_TOPICS_MAX, "topics", "All that it has.")
#define TW_FIELDS_topic_batch(F, L)                                                                \
    F(u64, prev_head, TW_SEQNO_MAX, "row", "Head before this batch.")                              \
    F(u64, head, TW_SEQNO_MAX, "row", "Head with this batch.")                                     \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at head.")                                 \
    L(event, events, 65536, "events", "In order of n.")

/* Searching. The gateway asks es_proxy or embedded_search, whichever runs; both answer the same. */
#define TW_FIELDS_search_ask(F, L)                                                                 \
    F(str, function, TW_NAME_MAX, "bytes", "search, facet, ...: docs/PROTOCOL.md.")                \
    L(search_target, targets, TW_SEARCH_TARGETS_MAX, "collections", "Where; one but for search.")  \
    F(bson, args, TW_DOCUMENT_MAX, "bytes", "The request as it was asked.")                        \
    F(flag, trusted, 1, "", "Asked by a service.")                                                 \
    F(vector, min_since, TW_ORIGINS_MAX, "origins", "The answer is to reflect this; or timeout.")  \
    F(bytes, cursor, TW_SEARCH_CURSOR_MAX, "bytes", "Of the answer before; empty: begin.")         \
    F(flag, close, 1, "", "Nothing more is wanted of this cursor; answered by done.")              \
    F(u64, deadline_ms, TW_SEARCH_DEADLINE_MAX_MS, "ms", "An answer is wanted in this time.")
#define TW_FIELDS_search_answer(F, L)                                                              \
    F(bytes, cursor, TW_SEARCH_CURSOR_MAX, "bytes", "For the next ask; empty: that was all.")      \
    F(vector, as_of, TW_ORIGINS_MAX, "origins", "Positions that it reflects; empty: not known.")   \
    F(u64, count, TW_SEQNO_MAX, "items", "Items in this answer and those before it.")              \
    F(bson, result, TW_DOCUMENT_MAX, "bytes", "Fields of the final reply.")                        \
    L(search_item, items, TW_SEARCH_ITEMS_MAX, "items", "Each a reply of its own, in order.")

#define TW_FIELDS_index_ask(F, L)                                                                  \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(flag, count, 1, "", "Count the documents, all writes before included.")
#define TW_FIELDS_index_state(F, L)                                                                \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The log that it was filled from; 0: none yet.")           \
    F(u64, n, TW_SEQNO_MAX, "row", "Rows of that log up to here are in it.")                       \
    F(u64, documents, TW_SEQNO_MAX, "documents", "Where count was set.")
#define TW_FIELDS_index_write(F, L)                                                                \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The log that the changes are from.")                      \
    F(u64, n, TW_SEQNO_MAX, "row", "With these changes the index holds all up to here; 0: not.")   \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at n.")                                    \
    F(flag, empty, 1, "", "Forget all documents first: the collection was dropped.")               \
    L(index_op, ops, TW_INDEX_OPS_MAX, "changes", "In order.")
#define TW_FIELDS_index_written(F, L)                                                              \
    F(u64, count, TW_SEQNO_MAX, "changes", "Changes that had an effect.")                          \
    L(index_refusal, refused, TW_INDEX_OPS_MAX, "documents", "Documents the engine cannot hold.")
#define TW_FIELDS_index_list(F, L)                                                                 \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(str, after, TW_KEY_MAX, "bytes", "Ids above this one; empty: from the first.")
#define TW_FIELDS_index_listed(F, L)                                                               \
    F(flag, more, 1, "", "There are more.")                                                        \
    L(index_entry, entries, TW_INDEX_OPS_MAX, "documents", "In order of their ids.")

#define TW_FIELDS_manifest_read(F, L)                                                              \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Canonical topic query (broker/topic_query.h).")   \
    F(u64, cut, TW_SEQNO_MAX, "row", "The result as it was at this row; 0: at the head.")          \
    F(u64, after, TW_SEQNO_MAX, "row", "Rows above this one.")
#define TW_FIELDS_manifest(F, L)                                                                   \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The log's own origin: row numbers are of this log.")      \
    F(u64, cut, TW_SEQNO_MAX, "row", "For the next question.")                                     \
    F(u64, after, TW_SEQNO_MAX, "row", "For the next question.")                                   \
    F(flag, complete, 1, "", "The cut was reached.")                                               \
    F(u64, records, TW_SEQNO_MAX, "records", "About how many the collections hold.")               \
    F(vector, at, TW_ORIGINS_MAX, "origins", "Positions at the cut, in the first answer.")         \
    L(manifest_entry, entries, TW_MANIFEST_PAGE_MAX, "records", "In order of n.")
#define TW_FIELDS_manifest_docs(F, L)                                                              \
    F(bson, query, TW_TOPIC_QUERY_MAX, "bytes", "Canonical topic query (broker/topic_query.h).")   \
    F(u64, cut, TW_SEQNO_MAX, "row", "Of the manifest.")                                           \
    F(u64, part, TW_COLLECTIONS_PER_TOPIC_MAX, "part", "Of the topic query.")                      \
    F(flag, rendered, 1, "", "As a stream's events (page), not as records.")                       \
    L(one_id, rows, TW_PAGE_ROWS_MAX, "rows", "Their n.")

#define TW_FIELDS_raw_page_read(F, L) TW_FIELDS_page_read(F, L)
#define TW_FIELDS_raw_page(F, L)                                                                   \
    TW_FIELDS_page(F, L) L(raw_row, raws, TW_PAGE_ROWS_MAX, "rows", "One for each row of the page.")
#define TW_FIELDS_dispatch(F, L)                                                                   \
    F(str, db, TW_NAME_MAX, "bytes", "Database.")                                                  \
    F(str, coll, TW_NAME_MAX, "bytes", "Collection.")                                              \
    F(bson, message, TW_DISPATCH_MAX + 64, "bytes", "{message: any value}.")
#define TW_FIELDS_topic_dispatch(F, L)                                                             \
    F(bytes, tail, 8 * TW_DISPATCH_MAX, "bytes", "JSON behind the stream's prefix, with its }.")   \
    L(one_id, topics, TW_TOPICS_MAX, "topics", "Whom it is for.")
#define TW_FIELDS_gateway_page_ask(F, L)                                                           \
    F(flag, streams, 1, "", "Topics with their streams; else connections.")
#define TW_FIELDS_gateway_page(F, L)                                                               \
    F(u64, count, TW_SEQNO_MAX, "items", "Connections, or streams.")                               \
    F(u64, live, TW_SEQNO_MAX, "streams", "Of them, those that are live.")                         \
    F(bytes, items, TW_DOCUMENT_MAX, "bytes", "JSON objects with commas between them.")
#define TW_FIELDS_append(F, L)                                                                     \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "Origin of the rows.")                                     \
    F(u64, life, TW_I64_MAX, "id", "As in the source_ask before.")                                 \
    F(u64, number, TW_SEQNO_MAX, "append", "One above the last that was taken; lower: a repeat.")  \
    F(u64, at, TW_SEQNO_MAX, "seqno", "All changes up to here are in the log with this append.")   \
    F(u64, applied_ms, TW_SEQNO_MAX, "unix ms", "When the newest of them happened.")               \
    F(bytes, state, TW_SOURCE_STATE_MAX, "bytes",                                                  \
      "Where the source goes on; opaque to the store.")                                            \
    F(flag, whole, 1, "", "The log is a complete image of the source with this append.")           \
    F(u64, scan_from, TW_SEQNO_MAX, "row", "Head when the scan began; for rows of it.")            \
    L(append_row, rows, TW_BATCH_ROWS_MAX, "rows", "In order of seqno.")
#define TW_FIELDS_appended(F, L)                                                                   \
    F(u64, number, TW_SEQNO_MAX, "append", "The last that was taken.")                             \
    F(u64, at, TW_SEQNO_MAX, "seqno", "Position of the source in the log.")                        \
    F(u64, head, TW_SEQNO_MAX, "row", "Newest row.")                                               \
    F(u64, rows, TW_BATCH_ROWS_MAX, "rows", "Rows that became rows of the log; 0 for a repeat.")
#define TW_FIELDS_source_ask(F, L)                                                                 \
    F(u64, srv, TW_SEQNO_MAX, "srv_id", "The source's origin.")                                    \
    F(u64, life, TW_I64_MAX, "id",                                                                 \
      "Drawn by the asker: only appends with it are taken from now on.")
#define TW_FIELDS_source(F, L)                                                                     \
    F(u64, own, TW_SEQNO_MAX, "srv_id", "The log's own origin, which names this node.")            \
    F(flag, foreign, 1, "", "The log has rows of another origin: it cannot take this source.")     \
    F(u64, number, TW_SEQNO_MAX, "append", "The last that was taken; 0: none.")                    \
    F(u64, at, TW_SEQNO_MAX, "seqno", "Position of the source in the log.")                        \
    F(flag, whole, 1, "", "The log was a complete image of the source once.")                      \
    F(u64, head, TW_SEQNO_MAX, "row", "Newest row.")                                               \
    F(u64, rows, TW_SEQNO_MAX, "rows", "Rows of the source in the log.")                           \
    F(bytes, state, TW_SOURCE_STATE_MAX, "bytes", "As the last append gave it.")

/* ---- expansions: items, lists of them, message bodies ---- */
typedef tw_str tw_bytes;

#define TW_TYPE_u64                             uint64_t
#define TW_TYPE_i64                             int64_t
#define TW_TYPE_flag                            bool
#define TW_TYPE_str                             tw_str
#define TW_TYPE_bytes                           tw_bytes
#define TW_TYPE_bson                            tw_bson
#define TW_TYPE_key                             tw_key
#define TW_TYPE_vector                          tw_vector
#define TW_F_MEMBER(kind, name, max, unit, doc) TW_TYPE_##kind name;
#define TW_L_MEMBER(item, name, max, unit, doc) tw_list_##item name;
#define TW_I_STRUCT(item, doc)                                                                     \
    typedef struct tw_item_##item tw_item_##item;                                                  \
    typedef struct tw_list_##item {                                                                \
        const tw_item_##item *at; /* view: the arena of the message */                             \
        size_t count;                                                                              \
    } tw_list_##item;                                                                              \
    struct tw_item_##item {                                                                        \
        TW_ITEM_##item(TW_F_MEMBER, TW_L_MEMBER)                                                   \
    };
TW_ITEMS(TW_I_STRUCT)
#undef TW_I_STRUCT

#define TW_M_STRUCT(id, message, sender, doc)                                                      \
    typedef struct tw_msg_##message {                                                              \
        TW_FIELDS_##message(TW_F_MEMBER, TW_L_MEMBER)                                              \
    } tw_msg_##message;
TW_MESSAGES(TW_M_STRUCT)
#undef TW_M_STRUCT
#undef TW_F_MEMBER
#undef TW_L_MEMBER

typedef enum tw_msg_id {
    TW_MSG_none = 0,
#define M(id, message, sender, doc) TW_MSG_##message = (id),
    TW_MESSAGES(M)
#undef M
        TW_MSG_ID_END = 256
} tw_msg_id;

typedef union tw_body {
#define M(id, message, sender, doc) tw_msg_##message message;
    TW_MESSAGES(M)
#undef M
} tw_body;
