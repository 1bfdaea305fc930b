/* topic_query.h - what a stream asks for, in one canonical form.
 *
 * The gateway turns `subscribe` into canonical BSON; equal queries are equal bytes and share a
 * topic. log_reader and subscription_manager compile it; the answer to "what does this change mean
 * to that query" (meaning) and the bytes told of it (render) are here, so history and live cannot
 * differ.
 *
 * Canonical form: {"v":1,"a":include archived,"c":[{"d":db,"n":name,"s":scope value (absent: none),
 * "f":filter (scope, the collection's own filter and that of the asker's rights joined in by $and),
 * "r":which clauses of f's $and the rights' are, as bits (absent: none; -1: f itself),
 * "q":query of the search language (absent: none),"p":[fields] (absent: whole),"h":[fields hidden
 * by rights] (absent: none)},
 * ...]} with c sorted by (d, n), f and p as given otherwise. A change stream:
 * {"v":1,"k":"changes","any":every collection that is not declared too,"c":[{d,n,f,h},...]}.
 * A realtime database: {"v":1,"k":"events","db":name,"any":as above, of that database,"c":...}.
 * Where rights limit what is not declared: "db" in a change stream too, and "af", "ah" as f, h. */
#pragma once

#include "protocol/messages.h"

#include "broker/catalog.h"
#include "broker/projection.h"
#include "broker/query.h"
#include "broker/rights.h"
#include "broker/search_query.h"

/* In which words a stream is told of changes. */
typedef enum topic_query_form {
    TOPIC_RECORDS, /* {"type":"record","mux_id":..., ...} */
    TOPIC_CHANGES, /* {"op":"update","ns":{...}, ...} */
    TOPIC_EVENTS,  /* {"event":"DB_RECORD_PUT","db":..., ...} */
} topic_query_form;

typedef struct topic_query_part {
    const char *db; /* own, terminated; "" is never left: the default database is written out */
    const char *name;
    tw_str told; /* own; "collection":C, as streams of records are told it; ptr NULL in others */
    const catalog_collection *rules; /* borrow: the catalog's */
    query *filter;                   /* own */
    tw_bson filter_bytes;            /* that it was made of; view into canonical */
    query *granted;                  /* own; of it what the rights show; NULL: all */
    search_query *search;            /* in memory; NULL: none */
    search_mapping mapping;          /* that was declared, in memory */
    tw_arena memory;                 /* own */
    projection fields;               /* views into canonical */
    rights_grant grant;              /* own: hidden; its names are views into canonical */
    topic_query_form form;
    bool any; /* every collection that is not declared; db and name are empty */
    bool has_scope;
    tw_key scope; /* of the scope field; view into canonical's memory */
} topic_query_part;

typedef struct topic_query {
    uint32_t magic;
    tw_bson canonical;      /* own copy */
    const catalog *catalog; /* borrow */
    bool include_archived;
    bool any;        /* changes of every collection */
    tw_str database; /* the only one that any is about; empty: all; view into canonical */
    size_t parts_count;
    topic_query_part *parts; /* own */
} topic_query;

/* In all three, rights are the asker's; NULL: there is no auth.
 * Reads a `subscribe` message (DESIGN 6.2; also the `watch` of /changes with all collections = a
 * list of names): every key that is not reserved names a collection. TW_E_BAD_MESSAGE,
 * TW_E_BAD_FILTER,
 * TW_E_TOO_MANY, TW_E_FORBIDDEN with why. *out lives in arena. */
tw_err topic_query_of_subscribe(const catalog *catalog, const rights *rights, tw_arena *arena,
                                tw_bson subscribe, tw_bson *out, broker_why *why);
/* Reads a `watch` message (DESIGN 6.5): "collections" is a list of names or of {"db":…,"coll":…};
 * absent: all that may be read, those that come into being later too. */
tw_err topic_query_of_watch(const catalog *catalog, const rights *rights, tw_arena *arena,
                            tw_bson watch, tw_bson *out, broker_why *why);
/* A realtime database, all its collections that may be read. Where it is not declared: those that
 * come into being later too. TW_E_BAD_MESSAGE for a name that is none, TW_E_FORBIDDEN where there
 * can be no such database. */
tw_err topic_query_of_database(const catalog *catalog, const rights *rights, tw_arena *arena,
                               tw_str db, tw_bson *out, broker_why *why);
/* 64-bit hash of the canonical bytes as 16 hex digits: `query` of sync. */
void topic_query_name(tw_bson canonical, char out[17]);

/* True where documents of a canonical query are rewritten by a service before they are told. */
bool topic_query_processed(const catalog *catalog, tw_bson canonical);

tw_err topic_query_compile(const catalog *catalog, tw_bson canonical, topic_query **out,
                           broker_why *why);
void topic_query_free(topic_query **query);

/* True when a document is told to a part: by its filter and by its search. */
bool topic_query_part_matches(const topic_query_part *part, tw_bson doc);
/* The part that tells of this collection, or -1. */
int topic_query_part_of(const topic_query *query, tw_str db, tw_str coll);

/* What a change means to a part: 0 = nothing, else enum tw_meaning.
 * doc len 0: tombstone (flags TW_ROW_DELETE) or drop; old len 0: no version before.
 * live: false while a snapshot is read (then archived records are omitted unless included; a row
 * that does not match says nothing). Silent rows are the caller's business.
 * A version that the rights do not show is revoked, whatever else it is: were its other fields
 * looked at, left and revoked would tell of them (docs/decisions/0047). */
unsigned topic_query_meaning(const topic_query *query, int part, uint64_t flags, tw_bson doc,
                             tw_bson old, tw_position at, bool live);

/* What is told of a change. type: the event's type: the collection's message for flat puts,
 * "record",
 * "remove", "drop". The tail is everything behind {"type":T,"mux_id":M,"prev":P, with the last }.
 *   flat put     "srv_id":1,"seqno":5,"proj_id":7,...}            (the document's fields, key
 *   included) nested put
 *   "collection":C,"op":"put","key":K,"version":V,"srv_id":1,"seqno":5,"doc":{...}}
 *   left, revoked, deleted "collection":C,"key":K,"why":"left","srv_id":1,"seqno":5}
 *   drop "collection":C,"srv_id":1,"seqno":5}
 * In a transaction of several rows "last":true|false stands behind seqno. Fields named type,
 * mux_id, prev, srv_id, seqno of a flat document are left out (the server's own stand there). A
 * record with archivetime that its position is not covered by carries "edited_after_archive":true.
 * collection is C, or "db.C" outside the default database.
 * A change stream: the type is empty, the tail
 *   "op":insert|update|replace|delete|drop,"ns":{"db":D,"coll":C},"documentKey":{KEY:K},
 *   "fullDocument":{...},"updateDescription":{"updatedFields":{...},"removedFields":[...]},
 *   "srv_id":1,"seqno":5,"origin":O}
 * insert: there was no version before, or none that the filter lets through; update: there was, and
 * the stream was told it; replace: what the stream was told is older than that, or the two are
 * large, so there is no updateDescription. What leaves the filter is a delete.
 * A realtime database: the type is empty, the tail
 *   "event":E,"db":D,"collection":C,"key":K,"version":V,"record":{...},"srv_id":1,"seqno":5,
 *   "origin":O}
 * E is DB_RECORD_ADD where a live stream is told of a record that was not there before,
 * DB_RECORD_PUT for all else that is stored; a DB_RECORD_DELETE has of the record its key alone;
 * DB_COLLECTION_DROP has neither key nor record, and the last drop of a whole database is a
 * DB_DATABASE_DROP, without collection. */
typedef struct topic_change {
    tw_position at;
    uint64_t flags; /* enum tw_row_flags */
    tw_key key;
    int64_t version;
    tw_bson doc; /* len 0 unless a put */
    /* for change streams and events alone */
    tw_str db, coll; /* of the row */
    uint64_t prev;   /* the row that it supersedes; 0: none, or a snapshot */
    tw_bson old;     /* that row's document; len 0: none */
    bool old_told;   /* the stream was told that row: differences make sense */
    tw_str origin;   /* who wrote it; empty: not known */
} topic_change;
tw_str topic_query_type(const topic_query_part *part, unsigned meaning);
void topic_query_render(const catalog *catalog, const topic_query_part *part, unsigned meaning,
                        const topic_change *change, tw_buf *out);
/* Appends the minimal document that a part is told, as BSON: its fields, without hidden ones. */
void topic_query_minimal(const topic_query_part *part, tw_bson doc, tw_buf *out);
/* What streams of records are told of a message that is not stored, behind their prefix:
 *   "collection":C,"message":M} */
void topic_query_render_dispatch(const catalog *catalog, tw_str db, tw_str coll,
                                 tw_bson_value message, tw_buf *out);
/* Writes over out what the bytes that a part tells depend on, but for the change and its meaning:
 * parts of equal names tell it by the same bytes. */
void topic_query_name_rendering(const topic_query_part *part, tw_buf *out);
