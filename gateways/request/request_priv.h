/* request_priv.h - what the files of the request engine share; nobody else includes it.
 *
 * A request lives from request_run to its final reply. Invariants
 * 1. Exactly one final reply, unless the request was forgotten before.
 * 2. It is recycled when it is over (final or forgotten), no ask or write of it is unanswered, and
 *    no function of the engine stands on it (holds = 0): callbacks may forget it while it replies.
 * 3. Views in operations point into its arena, which therefore lives until their outcome is known.
 * 4. Each operation that is sent carries an opid, so a whole message may be sent once more. */
#pragma once

#include "broker/why.h"

#include "gateways/request/request.h"
#include "gateways/streams/sync_session.h"

enum {
    REQUEST_MAGIC = 0x4e95e571,
    REQUEST_ENGINE_MAGIC = 0x4e9e2614,
    REQUEST_BATCH_MAGIC = 0x4eba7c31,
    REQUEST_MEMORY_MAX = 67108864,   /* bytes of one request: a page kept, keys, its own text */
    REQUEST_MATCH_MAX = TW_SORT_MAX, /* records that one update or remove by query may change */
    REQUEST_CHUNK = 64,              /* ids of one get: its documents are then given out */
    REQUEST_SPARE_MAX = 256,         /* requests kept for reuse */
    REQUEST_BATCH_SPARE_MAX = 8,     /* write messages kept for reuse */
    REQUEST_BUSY_MS = 100,           /* told as after_ms where there is no room */
    SEARCH_ACTIONS_MAX = 32,         /* rows of the table of request_search.c */
};

typedef enum request_kind {
    KIND_TEXT,   /* min and max are bytes */
    KIND_NAME,   /* of a database or a collection */
    KIND_NUMBER, /* whole; min and max are values */
    KIND_BOOL,
    KIND_DOC,    /* max is bytes */
    KIND_LIST,   /* max is items */
    KIND_IDS,    /* one id or a list of them; max is items */
    KIND_QUERY,  /* a filter, or what coerce_query makes one of: an id, a list; max is bytes */
    KIND_TOLD,   /* a projection: one name, a list of names, an object; max is bytes */
    KIND_SCALAR, /* max is bytes */
    KIND_SEARCH, /* text in Lucene's syntax, or an object; max is bytes */
    KIND_TEXTS,  /* text, a list, or an object; max is bytes */
    KIND_ANY,    /* any value; max is bytes */
} request_kind;

/* F(field, name, kind, min, max) */
#define REQUEST_FIELDS(F)                                                                          \
    F(action, "action", KIND_TEXT, 1, TW_MUX_ID_MAX)                                               \
    F(op, "op", KIND_TEXT, 1, TW_MUX_ID_MAX)                                                       \
    F(req_id, "reqID", KIND_SCALAR, 0, TW_MUX_ID_MAX)                                              \
    F(collection, "collection", KIND_NAME, 1, TW_NAME_MAX)                                         \
    F(database, "database", KIND_NAME, 1, TW_NAME_MAX)                                             \
    F(id, "id", KIND_IDS, 1, TW_IDS_MAX)                                                           \
    F(ids, "ids", KIND_IDS, 1, TW_IDS_MAX)                                                         \
    F(query, "query", KIND_QUERY, 0, TW_QUERY_MAX)                                                 \
    F(told, "fields", KIND_TOLD, 0, TW_QUERY_MAX)                                                  \
    F(sort, "sort", KIND_DOC, 0, TW_QUERY_MAX)                                                     \
    F(pipeline, "pipeline", KIND_LIST, 0, TW_PIPELINE_STAGES_MAX)                                  \
    F(limit, "limit", KIND_NUMBER, 1, TW_FIND_MAX)                                                 \
    F(max_time_ms, "maxTimeMS", KIND_NUMBER, 1, TW_AGGREGATE_MS)                                   \
    F(skip, "skip", KIND_NUMBER, 0, TW_SEQNO_MAX)                                                  \
    F(field, "field", KIND_TEXT, 1, TW_KEY_MAX)                                                    \
    F(doc, "doc", KIND_DOC, 0, TW_DOCUMENT_MAX)                                                    \
    F(set, "fields", KIND_DOC, 0, TW_DOCUMENT_MAX)                                                 \
    F(operations, "operations", KIND_LIST, 1, TW_WRITE_OPS_MAX)                                    \
    F(update, "update", KIND_DOC, 0, TW_DOCUMENT_MAX)                                              \
    F(if_version, "if_version", KIND_NUMBER, 0, TW_SEQNO_MAX)                                      \
    F(opid, "opid", KIND_TEXT, 1, TW_OPID_MAX)                                                     \
    F(dispatch, "dispatch", KIND_BOOL, 0, 0)                                                       \
    F(ops, "ops", KIND_LIST, 1, TW_WRITE_OPS_MAX)                                                  \
    F(atomic, "atomic", KIND_BOOL, 0, 0)                                                           \
    F(index, "index", KIND_NAME, 1, TW_NAME_MAX)                                                   \
    F(body, "body", KIND_DOC, 0, TW_SEARCH_BODY_MAX)                                               \
    F(lucene, "query", KIND_SEARCH, 0, TW_SEARCH_BODY_MAX)                                         \
    F(filters, "filters", KIND_TEXTS, 0, TW_SEARCH_BODY_MAX)                                       \
    F(rows, "rows", KIND_NUMBER, 0, TW_SEARCH_SIZE_MAX)                                            \
    F(offset, "offset", KIND_NUMBER, 0, TW_SEARCH_WINDOW_MAX)                                      \
    F(order, "sort", KIND_TEXTS, 0, TW_QUERY_MAX)                                                  \
    F(deadline_ms, "deadline_ms", KIND_NUMBER, 1, TW_SEARCH_DEADLINE_MAX_MS)                       \
    F(min_since, "min_since", KIND_LIST, 0, TW_ORIGINS_MAX)                                        \
    F(version, "version", KIND_SCALAR, 0, TW_OPID_MAX)                                             \
    F(bulk_plan, "bulk_plan", KIND_LIST, 0, TW_BULK_MAX)                                           \
    F(start, "start", KIND_SCALAR, 0, TW_OPID_MAX)                                                 \
    F(end, "end", KIND_SCALAR, 0, TW_OPID_MAX)                                                     \
    F(gap, "gap", KIND_SCALAR, 0, TW_OPID_MAX)                                                     \
    F(mincount, "mincount", KIND_NUMBER, 0, TW_SEQNO_MAX)                                          \
    F(group_field, "group_field", KIND_TEXT, 1, TW_KEY_MAX)                                        \
    F(group_limit, "limit", KIND_NUMBER, 1, TW_SEARCH_GROUPS_MAX)                                  \
    F(dry_run, "dry_run", KIND_BOOL, 0, 0)                                                         \
    F(origin, "origin", KIND_TEXT, 1, TW_OPID_MAX)                                                 \
    F(key, "key", KIND_ANY, 0, TW_KEY_MAX)                                                         \
    F(message, "message", KIND_ANY, 0, TW_DISPATCH_MAX)                                            \
    F(value, "value", KIND_ANY, 0, TW_DOCUMENT_MAX)                                                \
    F(excluded, "excluded", KIND_IDS, 0, TW_IDS_MAX)

typedef enum request_field {
#define F(field, name, kind, min, max) FIELD_##field,
    REQUEST_FIELDS(F)
#undef F
        FIELDS_COUNT
} request_field;
static_assert(FIELDS_COUNT <= 64, "a set of fields is 64 bits");

#define FIELD_BIT(field) (1ULL << FIELD_##field)
#define FIELDS_COMMON                                                                              \
    (FIELD_BIT(action) | FIELD_BIT(op) | FIELD_BIT(req_id) | FIELD_BIT(collection) |               \
     FIELD_BIT(database))
#define FIELDS_WRITE  (FIELD_BIT(opid) | FIELD_BIT(dispatch) | FIELD_BIT(origin))
#define FIELDS_CHANGE (FIELD_BIT(set) | FIELD_BIT(operations) | FIELD_BIT(update))

/* A request's fields by number; type 0 = not given. Views. */
typedef struct request_given {
    tw_bson_value at[FIELDS_COUNT];
    uint64_t set; /* which */
} request_given;

/* Why a request is refused, and what would help. */
typedef struct request_why {
    broker_why why;
    char hint[192]; /* terminated; "" = none */
} request_why;

typedef struct request request;
typedef void (*request_step)(request *self);
typedef void (*request_answered)(request *self, const tw_envelope *in);

typedef enum request_right {
    RIGHT_NONE,
    RIGHT_READ,
    RIGHT_WRITE,
    RIGHT_REMOVE,
    RIGHT_DROP
} request_right;

/* What tells an action of the search family from the others. */
typedef enum request_search_kind {
    SEARCH_NONE,   /* no such action */
    SEARCH_STORE,  /* on the records themselves: their store answers, which may be the engine */
    SEARCH_ENGINE, /* on the index of one collection */
    SEARCH_ALL,    /* the same; without index it is about all that the asker may read */
} request_search_kind;

/* One row of the table of actions. */
typedef struct request_action {
    const char *name;
    uint64_t allowed; /* FIELD_BITs besides the common ones; FIELDS_ANY: not looked at */
    uint64_t required;
    uint64_t one_of[2];      /* of each set exactly one is given; 0: no such demand */
    unsigned verb;           /* enum rights_verb: what rights must allow */
    request_right right;     /* RIGHT_NONE: needs no collection */
    bool default_collection; /* may be left out where the catalog names one */
    uint64_t op;             /* of a write: enum tw_op */
    request_search_kind search;
    bool patient; /* waits TW_SEARCH_DEADLINE_MAX_MS where no deadline is given */
    request_step start;
} request_action;
#define FIELDS_ANY UINT64_MAX

/* An id as it was spelled, and the keys that it may mean. */
typedef struct request_id {
    tw_bson_value spelled;
    tw_key key;
    tw_key also; /* len 0: one reading only */
    bool found;
    bool missing;
} request_id;

/* Keys without repetition, in the order of their coming. Memory of an arena. */
typedef struct request_keys {
    tw_key *at;
    size_t count, cap;
    uint32_t *slots; /* open addressing: index + 1 */
    size_t slots_count;
} request_keys;

/* The outcome of an operation; key, why, rule in the request's arena. */
typedef struct request_result {
    tw_err code;
    tw_str why, rule;
    tw_key key;
    int64_t version;
    uint64_t count;
} request_result;

/* The highest position of each origin among outcomes. */
typedef struct request_since {
    tw_position at[TW_ORIGINS_MAX];
    size_t count;
} request_since;

struct request {
    uint32_t magic;
    uint32_t holds;     /* functions of the engine that stand on it */
    uint32_t asks;      /* unanswered asks to readers */
    size_t writes_left; /* operations without outcome */
    bool finished;      /* the final reply was given */
    bool forgotten;
    bool paused;
    bool retried; /* the last ask went to a second reader */
    request_engine *engine;
    request *next, **link; /* of its tag's chain; next: of the spare ones */
    uint64_t pass;         /* of request_resume, so that one call resumes it once */
    const request_action *action;
    const catalog_collection *rules;
    tw_str db, coll;
    rights *rights;      /* hold; NULL: there is no auth */
    rights_grant grant;  /* of the action's verb and collection; in arena */
    bool judged;         /* its writes have been looked at before */
    bool restricted;     /* rows are kept from it: versions of others are not told */
    tw_bson hidden;      /* names of the grant's hidden fields, a list; in arena */
    const char *refusal; /* words for a write that rights refuse */
    request_emit emit;
    void *context;
    uint64_t tag;
    tw_arena arena;      /* own */
    tw_bson asked;       /* own copy in arena */
    request_given given; /* views into asked */
    request_step ask;    /* sends the current question (again) */
    request_answered answered;
    request_step go_on;   /* after a pause */
    request_step written; /* all outcomes are in results */
    request_id *ids;
    size_t ids_count;
    uint16_t chunk[REQUEST_CHUNK]; /* indices of ids of the current get */
    size_t chunk_count;
    request_keys keys;
    size_t keys_at; /* the next one to be changed */
    tw_bson query, told, sort, update;
    uint64_t after, skip, limit, count;
    tw_key after_key; /* on MongoDB, what after is on the log; in arena */
    tw_buf page;      /* own; an answer whose rest waits for request_resume */
    size_t page_at;   /* its next item */
    request_result *results;
    size_t results_cap, results_count;
    uint64_t aggregate; /* id of one that a log_reader runs, or keeps the result of; 0: none */
    int reader;         /* link to that one */
    request_since since;
    sync_session *sync;    /* own; of the action sync */
    request_result failed; /* the first refusal among the changes of a query; code TW_OK: none */
    tw_list_search_target targets;
    tw_vector min_since;
    tw_buf cursor;                    /* own; where the engine goes on; empty: nowhere */
    uint64_t deadline_ms;             /* by the actor's clock; 0: none yet */
    uint64_t wake_ms;                 /* 0: waits for no time */
    struct request_search *searching; /* of request_search_*.c, in arena */
};

typedef struct request_owner {
    request *of;
    uint32_t index; /* of its results */
} request_owner;

/* A write message that is being collected or waits for its outcome. */
typedef struct request_batch {
    uint32_t magic;
    bool retried;
    struct request_batch *next, **link; /* of the sent or of the spare ones */
    request_engine *engine;
    tw_item_write_op *ops; /* own */
    request_owner *owners; /* own */
    size_t count, cap, bytes;
} request_batch;

enum { REQUEST_BUCKETS = 1024 };

struct request_engine {
    uint32_t magic;
    bool emitting; /* a reply is being received: no further request may start */
    request_options options;
    int readers[TW_LINKS_MAX];
    int log_readers[TW_LINKS_MAX];
    size_t reader_next;
    request *tags[REQUEST_BUCKETS]; /* chains of running requests */
    request *spare;                 /* own */
    size_t spare_count;
    request_batch *queue;        /* own; being collected; NULL: nothing */
    request_batch *sent_batches; /* own; without outcome yet */
    request_batch *spare_batches;
    size_t spare_batches_count;
    tw_buf reply;   /* own; the reply being given out */
    tw_buf scratch; /* own; BSON on its way into an arena */
    tw_arena again; /* own; a kept page, read again */
    size_t waiting; /* requests with a wake_ms */
    uint64_t pass;
    size_t syncs; /* under way */
    request_figures figures;
};

/* ---- request.c ---- */
/* Sleeps for a time: go_on is called then. */
void request_wait(request *self, uint64_t wait_ms, request_step go_on);
/* Sleeps until request_resume: go_on is called then. */
void request_pause(request *self, request_step go_on);
/* Pairs around everything that may reply; leave may recycle the request. */
void request_enter(request *self);
void request_leave(request *self);
/* The chain in which the requests of a tag are found, with others. */
request *request_first_of(const request_engine *engine, uint64_t tag);
/* The collection that is meant and its rules, as the right demands. */
tw_err request_place(const request_engine *engine, const request_given *given,
                     const request_action *action, tw_str *db, tw_str *coll,
                     const catalog_collection **rules, request_why *why);

/* ---- request_actions.c ---- */
const request_action *request_action_find(tw_str name);
/* The name of the action that was most likely meant, or NULL. */
const char *request_action_nearest(tw_str name);

/* ---- request_ask.c ---- */
/* Asks a reader; the answer goes to answered. An unavailable reader is replaced once by the next:
 * ask is called again. Errors end the request. */
void request_ask(request *self, tw_msg_id id, const void *body);
/* The same of a log_reader, whoever reads records. */
void request_ask_log(request *self, tw_msg_id id, const void *body);
/* The same of another actor: the store, the subscription manager. */
void request_ask_link(request *self, int link, tw_msg_id id, const void *body);
void request_ask_patiently(request *self, int link, tw_msg_id id, const void *body,
                           uint32_t timeout_ms);
/* Asks the search engine; the answer goes to answered, errors end the request. */
void request_ask_search(request *self, const tw_msg_search_ask *body, uint64_t timeout_ms);
/* Link to a log_reader, in turn; -1: there is none, the request failed. */
int request_log_reader(request *self);

/* ---- request_rights.c ---- */
/* Looks up what the asker's rights say of the action's collection. TW_E_FORBIDDEN with why. */
tw_err request_allow(request *self, request_why *why);
/* The same of another verb and collection, into a grant that joins what both allow. */
tw_err request_allow_too(request *self, tw_str db, tw_str coll, unsigned verb, request_why *why);
/* False where nothing of that collection may be read at all. */
bool request_may_read(const request *self, tw_str db, tw_str coll);
/* The same, all rows and all fields. */
bool request_may_read_all(const request *self, tw_str db, tw_str coll);
/* Refuses a filter, a sort or a name that asks about what the grant hides. */
tw_err request_check_asked(const request *self, tw_bson paths, request_why *why);
/* Adds a document without what the grant hides. */
void request_add_shown(request *self, tw_bson_builder *b, tw_str name, tw_bson doc);
/* The same, a view into the engine's scratch where something was left out. */
tw_bson request_visible(request *self, tw_bson doc);
/* The names that the grant hides as a list, in arena; len 0: none. TW_E_NO_MEMORY. */
tw_err request_name_hidden(request *self, tw_bson *out);
/* True when the grant lets a document be seen. */
bool request_shows(const request *self, tw_bson doc);
/* The grant's filter joined with another, in arena. */
tw_err request_join(request *self, tw_bson filter, tw_bson *out);
/* Looks at a write before it is queued: refuses it, or has the store hold the stored version
 * against the rights. Makes opids the asker's own. */
tw_err request_allow_write(request *self, tw_item_write_op *op);
/* What rights add to the targets of a search, or why there is none. */
tw_err request_allow_search(request *self, const catalog_collection *rules, rights_grant grant,
                            tw_bson *filter, request_why *why);

/* ---- request_fields.c: the strict validator ---- */
tw_err request_fields_read(const request_action *action, tw_bson asked, request_given *out,
                           request_why *why);
tw_str request_action_name(tw_bson asked); /* of action, or of op; ptr NULL: neither is text */
/* Text of an outsider made fit to be shown: cut at TW_SHOWN_INPUT_MAX, what is not printable as
 * '?'. */
typedef struct request_shown {
    char text[TW_SHOWN_INPUT_MAX + 4];
} request_shown;
request_shown request_show(tw_str text);
/* The name of the list that was most likely meant, or NULL. */
const char *request_nearest(tw_str given, const char *const *names, size_t count);

/* ---- request_reply.c ---- */
/* Begins a reply: action, reqID, collection, database. */
void request_reply_begin(request *self, tw_bson_builder *b, const char *action);
/* Ends and gives it out; false: the asker wants a pause. */
bool request_reply_end(request *self, tw_bson_builder *b, bool final);
bool request_reply_doc(request *self, tw_bson doc);
void request_fail(request *self, tw_err code, const char *message, const char *hint, tw_bson extra);
void request_fail_why(request *self, tw_err code, const request_why *why);
void request_fail_result(request *self, const request_result *result, bool with_count);
/* After an item of the answer `bytes` was given out: on as of request_reply_end, next the item
 * behind it. true: that may follow. false: it waits for request_resume, which calls go_on, or
 * nobody waits for it any more. */
bool request_item_given(request *self, bool on, size_t next, tw_str bytes, request_step go_on);
/* Reads again, in go_on, the answer of which items wait, from page_at on; false: the request
 * failed. */
bool request_page_again(request *self, tw_body *out);
void request_add_since(tw_bson_builder *b, const request_since *since);
/* Around the fields of the reply to one write, whose result is the first: begin is false where it
 * was refused, which has been told. */
bool request_reply_result_begin(request *self, tw_bson_builder *b);
void request_reply_result_end(request *self, tw_bson_builder *b);
/* Keeps where the next page begins; false: no memory, the request failed. */
bool request_go_behind(request *self, const tw_msg_records *page);

/* ---- request_keys.c: ids, keys, queries as they are spelled ---- */
tw_err request_ids_read(tw_arena *arena, tw_bson_value ids, request_id **out, size_t *count,
                        request_why *why);
tw_err request_keys_add(tw_arena *arena, request_keys *keys, tw_key key);
tw_err request_coerce_query(request *self, tw_bson_value query, tw_bson *out, request_why *why);
tw_err request_coerce_told(request *self, tw_bson_value told, tw_bson *out, request_why *why);
/* A projection of one name. */
tw_err request_told_one(request *self, tw_str name, tw_bson *out);
/* The record that an id means: its first reading before its second; NULL: none. */
const tw_item_record *request_record_of(const tw_msg_records *records, const request_id *id);
/* Makes chunk of the next ids that are neither found nor missing; false: there is none. */
bool request_next_chunk(request *self);
/* All readings of the chunk's ids. */
size_t request_chunk_keys(const request *self, tw_item_one_key out[2 * REQUEST_CHUNK]);
/* The ids that were not found, as they were spelled. */
void request_add_missing(const request *self, tw_bson_builder *b);
/* Copies what was built in scratch. */
tw_err request_keep(request *self, const tw_buf *scratch, tw_bson *out);

/* ---- request_write.c ---- */
/* Queues operations; written is called when all their outcomes stand in results. atomic: they are
 * one transaction. Adds opids and the origin where they are missing. */
tw_err request_write(request *self, tw_item_write_op *ops, size_t count, bool atomic,
                     request_step written);
/* An operation of a request or of an item of a batch: all but key and doc. */
tw_item_write_op request_op(const request *self, const request_given *given, uint64_t op);
/* The update document of fields, operations or update. */
tw_err request_update_of(request *self, const request_given *given, tw_bson *out, request_why *why);
void request_batch_free(request_batch **batch);
/* opid of one of several operations: the asker's, a slash, and what tells it from the others. */
tw_err request_opid_part(request *self, tw_str opid, uint64_t part, tw_str *out, request_why *why);

/* ---- the actions ---- */
void request_get_by_ids(request *self);
void request_find(request *self);                                 /* and find_one */
void request_find_answered(request *self, const tw_envelope *in); /* of aggregate too */
void request_count(request *self);
void request_detail(request *self); /* and get_field */
void request_get_new_id(request *self);
void request_insert(request *self); /* and put */
void request_update(request *self);
void request_change(request *self); /* remove, and the second half of update */
void request_run_batch(request *self);
void request_sync(request *self);
void request_dispatch(request *self);
void request_drop(request *self); /* and drop_database */
/* What clients may drop; a service may drop all. */
bool request_may_drop(const catalog_collection *rules);
extern const char request_drop_hint[];
void request_schema(request *self);
void request_coerce_query_action(request *self);
void request_coerce_list(request *self);
void request_aggregate(request *self);
void request_aggregate_mongo(request *self);
uint64_t request_aggregate_time(const request *self); /* ms that the asker gives it; 0: any */
/* Tells the log_reader that nothing more is wanted of what it runs, or keeps, for the request. */
void request_aggregate_close(request *self);

/* ---- request_search.c: searching, and the table of its family ---- */
const request_action *request_search_action(tw_str name);
size_t request_search_names(const char **names, size_t max); /* how many were written */
/* Index, rights, targets and times of an action of that family. */
tw_err request_search_place(request *self, request_why *why);
/* What every ask of a request has in common. */
tw_msg_search_ask request_search_ask(const request *self, tw_str function, tw_bson args);
/* Tells the engine that nothing more is wanted of the cursor. */
void request_search_close(request *self);
