/* mongo_link.h - what the actors that speak to MongoDB share: the URI, the clients, the meaning of
 * errors, and how a record lies in a deployment. No mailbox, no thread of its own.
 *
 * How a record lies in MongoDB
 * 1. Its key is the document's _id. A collection whose declared key is another field is written
 *    with _id = that key; the copy is left out of what clients are told (mongo_link_record).
 * 2. Its version is the declared version field. A document of others that has none is version 1.
 * 3. The database `tidewire` of the deployment is Tidewire's own: `meta` {_id:"origin", srv_id}
 *    and `opids`, the marks of writes (docs/decisions/0007). Clients reach neither it nor admin,
 *    config and local. */
#pragma once

#include <mongoc/mongoc.h>

#include "protocol/bson.h"

#include "broker/catalog.h"
#include "broker/why.h"

#define MONGO_LINK_DATABASE "tidewire" /* Tidewire's own, in each deployment */
#define MONGO_LINK_META     "meta"
#define MONGO_LINK_OPIDS    "opids"

enum {
    MONGO_LINK_CLIENTS_MAX = 64,     /* of one pool; more wait */
    MONGO_LINK_EXPECTED_MAX = 65536, /* writes whose event was not seen yet */
    MONGO_LINK_WAIT_MS = 1000,       /* for a client of a pool */
    MONGO_LINK_SELECT_MS = 1500,     /* for a server that may be asked */
    MONGO_LINK_CONNECT_MS = 1500,    /* for a connection */
    MONGO_LINK_WRITE_MS = 2000,      /* for the answer to a write: with its retry within 5 s */
    MONGO_LINK_READ_MS = 4500,       /* for the answer to a read */
    MONGO_LINK_DOWN_MS = 500,        /* between tries while the deployment is away */
    MONGO_LINK_READ_WORK_MS = 4000   /* maxTimeMS: the server ends what nobody waits for any more */
};

/* Which socket timeout a client has: a write is answered by somebody's deadline, a read may
 * work. */
typedef enum mongo_link_use { MONGO_LINK_WRITES, MONGO_LINK_READS } mongo_link_use;

typedef struct mongo_link mongo_link;

/* Sets the log handler (libmongoc's own prints to stdout) and starts the library; end it last, once
 * a process. Thread: the one that made the actors. */
void mongo_link_library_start(void);
void mongo_link_library_end(void);

/* Checks a URI without any network. TW_E_BAD_CONFIG with the cause and a hint in why; no password
 * is ever in it. */
tw_err mongo_link_check(const char *uri, char *why, size_t size);
/* The pools of this process for one deployment; connects to nothing yet. TW_E_BAD_CONFIG with why,
 * TW_E_NO_MEMORY. */
tw_err mongo_link_new(mongo_link **out, const char *uri, char *why, size_t size);
void mongo_link_free(mongo_link **link); /* every client has been given back */

/* A client, for one thread at a time; NULL: none was free within MONGO_LINK_WAIT_MS. Thread: any.
 * An actor keeps it for its life. */
mongoc_client_t *mongo_link_take(mongo_link *link, mongo_link_use use);
void mongo_link_give_back(mongo_link *link, mongo_link_use use, mongoc_client_t **client);
/* The hosts of the URI, with commas, for people. View of the link. */
const char *mongo_link_hosts(const mongo_link *link);

/* What an error of libmongoc means to an asker, and its text: cause only, cut at size. Whether to
 * try again is tw_err_retry of it. reply may be NULL. Thread: any. */
tw_err mongo_link_error(const bson_error_t *error, const bson_t *reply, char *text, size_t size);
/* True where a write that failed so may have had its effect all the same. */
bool mongo_link_is_doubtful(const bson_error_t *error);

/* Milliseconds of a clock that never goes back, now: where an actor blocks, its turn's is old. */
uint64_t mongo_link_clock_ms(void);

/* Whether the deployment answers, as one actor knows it: while it does not, requests are refused at
 * once, and one in MONGO_LINK_DOWN_MS tries. All zero: it does. */
typedef struct mongo_link_health {
    char why[TW_ERROR_TEXT_MAX]; /* "": it answers */
    uint64_t until_ms;           /* refused at once until then */
    uint64_t failures;
} mongo_link_health;
/* True where a request is to be refused without trying; text is then why. */
bool mongo_link_is_down(const mongo_link_health *health, char *text);
/* What a try has shown: TW_E_UNAVAILABLE or anything else. who: the actor's name, for the log. */
void mongo_link_tried(mongo_link_health *health, const char *who, tw_err err, const char *text);

/* ---- views: no copies ---- */
/* A bson_t that looks at doc; len 0 is an empty document. out needs no destroy. */
void mongo_link_view(bson_t *out, tw_bson doc);
tw_bson mongo_link_doc(const bson_t *doc); /* view */

/* ---- positions ---- */
/* The srv_id of the deployment; drawn and stored by the first who asks. TW_E_CORRUPT: what stands
 * there is no srv_id. Blocks. */
tw_err mongo_link_origin(mongoc_client_t *client, uint64_t *srv_id, char *text, size_t size);
/* The seqno of a (seconds, increment) of the cluster's clock; 0: before 2020, no position. */
uint64_t mongo_link_seqno(uint32_t seconds, uint32_t increment);

/* ---- who wrote it ---- */
/* A write names its asker (origin, the reqID) to the change streams of its own node through these:
 * the writer expects the event before it sends the write, the tailer takes it with the event. Kept
 * for MONGO_LINK_EXPECTED_MAX writes, the oldest forgotten; lost where writer and tailer are
 * different processes, which the mark of a write makes good (docs/decisions/0007). Thread: any. */
/* version: that the write will give; 0: it removes the record. */
void mongo_link_expect(mongo_link *link, tw_str db, tw_str coll, tw_key key, int64_t version,
                       tw_str origin);
/* The write did not take place. */
void mongo_link_expect_no_more(mongo_link *link, tw_str db, tw_str coll, tw_key key,
                               int64_t version);
/* Takes the origin of an event; its length, 0: nobody of this node asked for it. */
size_t mongo_link_expected(mongo_link *link, tw_str db, tw_str coll, tw_key key, int64_t version,
                           char out[TW_OPID_MAX]);

/* ---- records ---- */
/* A stored document as a record: version 0 = it has none; doc without the copy of the key. key and
 * a changed doc live in arena, otherwise doc is a view of stored. TW_E_BAD_DOCUMENT: its _id cannot
 * be a key; TW_E_NO_MEMORY. */
tw_err mongo_link_record(const catalog_collection *rules, tw_arena *arena, tw_bson stored,
                         tw_key *key, int64_t *version, tw_bson *doc);
/* The types of an _id, as $type numbers them, that are ordered above that of `type`: $gt compares
 * within one bracket of types only, so what reads in order of _id steps from one to the next. */
enum { MONGO_LINK_TYPES_MAX = 16 };
size_t mongo_link_types_above(uint8_t type, int32_t out[MONGO_LINK_TYPES_MAX]);
/* True for databases that clients do not reach. */
bool mongo_link_is_reserved(tw_str database);
