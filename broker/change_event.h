/* change_event.h - what an event of a MongoDB change stream says, read without I/O.
 *
 * An event is a BSON document of the server's; it was checked as such (tw_bson_validate or the
 * driver), what it says was not. Events of a transaction share their clusterTime and are next to
 * each other.                              Source  MongoDB manual, "Change Events" */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

#include "broker/why.h"

typedef enum change_kind {
    CHANGE_NOTHING,    /* an event that changes no record: an index, a modified collection */
    CHANGE_PUT,        /* doc is what the record was right after the change */
    CHANGE_LOOK_UP,    /* the record changed; the event does not say to what */
    CHANGE_DELETE,     /* of the record */
    CHANGE_DROP,       /* of the collection */
    CHANGE_RENAME,     /* of the collection, to to_db.to_coll */
    CHANGE_DROP_DB,    /* of the database */
    CHANGE_INVALIDATE, /* the stream ends; it goes on with startAfter */
} change_kind;

typedef struct change_event {
    change_kind kind;
    tw_bson token;       /* resume token: goes on behind this event */
    uint64_t seqno;      /* position of clusterTime; never 0 */
    uint64_t wall_ms;    /* unix; 0: the server did not say */
    bool in_transaction; /* others may share its clusterTime, and stand behind it */
    tw_str db, coll;     /* of all but invalidate; coll empty for a drop of the database */
    tw_str to_db, to_coll;
    tw_bson_value id; /* _id of the record */
    tw_bson doc;
    /* Of an update that is told by whole fields or paths: what it set and removed; len 0: not told,
     * or in a form that means something only beside the document (truncated arrays). */
    tw_bson set, removed;
} change_event;

/* Reads an event. Views of it.
 * Errors   TW_E_BAD_DOCUMENT with the cause in why: it is no event, or has no position (a clock
 *          before 2020); *out is then untouched
 * Thread   any; never blocks */
tw_err change_event_read(tw_bson event, change_event *out, broker_why *why);

/* The position that a resume token carries in front, in the form of MongoDB's key strings: 82, then
 * seconds and increment, in hexadecimal; 0 where it has another form. */
uint64_t change_token_seqno(tw_bson token);

/* Events from `from` on that share its position: the index behind the last of them. */
size_t change_group_end(const change_event *events, size_t count, size_t from);

/* The version of a record: the field's value where that is a whole number of at least 1, else the
 * position of its change. */
int64_t change_version(tw_bson doc, tw_str field, uint64_t seqno);
