/* change_tailer_link.h - the commands by which the change tailer reads a deployment: its change
 * stream, its collections, and the barriers that it writes.
 *
 * The stream is read by aggregate and getMore of our own, not by mongoc_change_stream_t: only so is
 * the end of a batch seen (one lookup a batch, transactions kept whole), and the cluster's time
 * with each reply. All functions block, at most MONGO_LINK_READ_MS. Thread: one. */
#pragma once

#include "protocol/limits.h"

#include "actors/mongo/mongo_link.h"

/* What a failure means to the stream. */
typedef enum change_failure {
    CHANGE_PASSES, /* try again from the own token */
    CHANGE_LOST,   /* the server has no history behind the token, or cannot tell it */
    CHANGE_FATAL,  /* somebody has to do something: rights, no replica set */
} change_failure;

/* What the cursor of a scan reads. */
typedef enum change_scan_part {
    CHANGE_SCAN_NONE,
    CHANGE_SCAN_ALL,   /* from the first _id */
    CHANGE_SCAN_GT,    /* behind an _id, of types that compare with it */
    CHANGE_SCAN_ABOVE, /* of the types ordered above it */
} change_scan_part;

/* A reply of the server, kept. */
typedef struct change_reply {
    uint8_t *bytes; /* own; libbson's memory */
    size_t len;
} change_reply;

typedef struct change_source {
    mongo_link *link;                 /* borrow */
    mongoc_client_t *client;          /* own; NULL: not connected */
    mongoc_client_session_t *session; /* own; of the cursors */
    uint32_t server_id;               /* the primary; cursors are its */
    int64_t cursor;                   /* of the stream; 0: none */
    int64_t scan_cursor;              /* of a scan; 0: none */
    change_scan_part scan_part;       /* that is read, or was read to its end */
    char scan_db[TW_NAME_MAX + 1], scan_coll[TW_NAME_MAX + 1];
    bool knows_images;                 /* the server has fullDocument: whenAvailable */
    change_reply stream, scan, other;  /* own; the last of the cursor, of a scan, of the rest */
    bool has_first;                    /* stream is of the aggregate and was not taken */
    change_failure failure;            /* of the last error */
    bool is_known;                     /* its code's meaning is */
    uint32_t code;                     /* 0: of the network */
    char why[TW_ERROR_TEXT_MAX];       /* of the last error */
    uint64_t opens, lookups, commands; /* counted */
} change_source;

/* What a getMore brought; views of the reply, valid until the next. */
typedef struct change_batch {
    tw_bson events;  /* array */
    tw_bson token;   /* postBatchResumeToken; len 0: none */
    uint64_t seqno;  /* the server's operationTime as a position; 0: not told */
    bool is_cut_off; /* it is full: more may be there already */
    uint64_t bytes;
} change_batch;

void change_source_init(change_source *source, mongo_link *link);
void change_source_fini(change_source *source);

/* Takes a client and chooses the primary. */
tw_err change_source_connect(change_source *source);
/* Gives all back; a cursor is killed where the server still answers. */
void change_source_close(change_source *source);
/* The srv_id of the deployment. */
tw_err change_source_origin(change_source *source, uint64_t *srv);
/* Opens the stream; token len 0: from now on. after: the token is of an invalidate. */
tw_err change_source_open(change_source *source, tw_bson token, bool after);
tw_err change_source_next(change_source *source, uint32_t await_ms, change_batch *out);
/* Writes the barrier of this node; its event carries number. */
tw_err change_source_barrier(change_source *source, uint64_t node, uint64_t number);

/* The next documents of a collection behind an _id (type 0: from the first), in order of it. Views
 * until the next scan. *is_last: there were no more. One cursor is read to its end: `after` is the
 * last _id that it brought, and counts where it is opened anew. What it brings may be as old as its
 * opening. Needs the stream's session. Blocks twice at most. */
tw_err change_source_scan(change_source *source, tw_str db, tw_str coll, tw_bson_value after,
                          tw_bson *docs, bool *is_last);
/* Whether a scan goes on with the cursor in hand. */
bool change_source_is_scanning(const change_source *source);
/* Ends it: the next scan is of another collection, or begins behind another _id. */
void change_source_scan_end(change_source *source);
/* Documents by _id: ids is an array. only_ids: nothing else of them. *seqno: what they reflect.
 * *is_cut: the reply was full, some that were asked for are missing. */
tw_err change_source_find(change_source *source, tw_str db, tw_str coll, tw_bson ids, bool only_ids,
                          tw_bson *docs, uint64_t *seqno, bool *is_cut);
/* Every collection that clients may reach, called in order of database and name. */
typedef tw_err (*change_source_each)(void *context, tw_str db, tw_str coll);
tw_err change_source_list(change_source *source, change_source_each each, void *context);

/* True for the event of a barrier: *node and *number are what it was written with. */
bool change_source_is_barrier(tw_str db, tw_str coll, tw_bson_value id, tw_bson doc, uint64_t *node,
                              uint64_t *number);
