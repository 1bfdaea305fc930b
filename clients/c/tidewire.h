/* tidewire.h - libtidewire: a service that writes to a Tidewire and follows it, over nng.
 *
 * Link: pkg-config --cflags --libs tidewire. C99 and later, C++.
 *
 *   tidewire *client;
 *   tidewire_error error;
 *   if (tidewire_open(&client, "ipc:///run/tidewire", NULL, &error) == TIDEWIRE_OK) {
 *       tidewire_put(client, "people", tidewire_json("{\"_id\":1,\"n\":2}"), NULL, &error);
 *       tidewire_close(&client);
 *   }
 *
 * Documents go in as JSON text (Extended JSON for dates and ids) or as msgpack maps, by the
 * tidewire_data that names them; they come out as the options say.
 *
 * Deadlines  Each call ends within its deadline (default 10 s). TIDEWIRE_OK of a write means that
 *            it is on the server's disk.
 * Repeats    Until its deadline a call is sent again when the connection breaks or the server asks
 *            for patience. A write carries an operation id (opid), made up where you give none, so
 *            a repeat has no second effect. A write that ended with TIDEWIRE_TIMEOUT may or may not
 *            have happened: call again with the same opid of your own, within a day.
 * Errors     Each call returns a tidewire_result, and fills *error unless error is NULL.
 * Ownership  What a call takes is read before it returns; what it gives belongs to the handle and
 *            is valid until the next call with that handle.
 * Threads    A handle (client, publisher, feed) is used by one thread at a time; different handles
 *            by different threads at once. A publisher and a feed have connections of their own.
 *            No call depends on another handle. nng does not survive fork(): open after it.
 * Closing    Each close ends within 6 seconds, mostly at once. nng 1.5.2 can wait for ever where a
 *            connection is closed while a message comes by it; a close that has waited 3 seconds
 *            for one of its sockets leaves it to a thread, and returns. Nothing is lost by that:
 *            what was acknowledged is on the server's disk. But nng then takes no connection of
 *            this process apart any more: later closes do not wait, their memory and connections
 *            stay, and the process should end soon. It ends by exit or by return from main as
 *            ever. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIDEWIRE_API __attribute__((visibility("default")))

typedef struct tidewire tidewire;
typedef struct tidewire_publisher tidewire_publisher;
typedef struct tidewire_feed tidewire_feed;

typedef enum tidewire_result {
    TIDEWIRE_OK = 0,
    TIDEWIRE_REFUSED,   /* the server said no; error.code says why */
    TIDEWIRE_TIMEOUT,   /* the deadline passed: nobody there, no answer, or nothing new (feed) */
    TIDEWIRE_BAD_INPUT, /* wrong arguments: nothing was sent */
    TIDEWIRE_FAILED     /* this side: memory, files, an answer that cannot be understood */
} tidewire_result;

typedef enum tidewire_retry {
    TIDEWIRE_RETRY_NO,     /* the same call will fail again */
    TIDEWIRE_RETRY_NOW,    /* it may succeed at once */
    TIDEWIRE_RETRY_BACKOFF /* it may succeed later */
} tidewire_retry;

typedef struct tidewire_error {
    tidewire_result result;
    tidewire_retry retry;
    int64_t version;   /* conflict: the version that stands; else 0 */
    char code[64];     /* for programs: conflict, not_found, too_big, timeout, ... */
    char message[512]; /* the cause, for people */
    char hint[512];    /* what to do about it, or "" */
} tidewire_error;

typedef enum tidewire_form { TIDEWIRE_JSON, TIDEWIRE_MSGPACK } tidewire_form;

/* A document or value, in or out. JSON that comes out is also terminated by a NUL. */
typedef struct tidewire_data {
    tidewire_form form;
    const void *bytes; /* NULL: none */
    size_t len;        /* bytes */
} tidewire_data;

static inline tidewire_data tidewire_json(const char *text)
{
    tidewire_data data = {TIDEWIRE_JSON, text, text == NULL ? 0 : strlen(text)};
    return data;
}

static inline tidewire_data tidewire_msgpack(const void *bytes, size_t len)
{
    tidewire_data data = {TIDEWIRE_MSGPACK, bytes, len};
    return data;
}

static inline tidewire_data tidewire_none(void)
{
    tidewire_data data = {TIDEWIRE_JSON, NULL, 0};
    return data;
}

/* ---- who asks, where the server wants to know ---- */
typedef struct tidewire_identity {
    const char *token; /* copied; NULL: give says it */
    /* Called before each request: the token that it carries, valid until the next call; NULL: none.
     * Keep one, and get another before it expires. refused: the server has refused the last one;
     * the request is sent once more with what you give then. By the thread that uses the handle. */
    const char *(*give)(void *context, bool refused);
    void *context;
} tidewire_identity;

/* ---- client ---- */
typedef struct tidewire_options {
    uint32_t deadline_ms;              /* of calls that name none, and of opening; 0: 10,000 */
    const char *database;              /* copied; NULL: the server's default */
    tidewire_form replies;             /* how documents come out */
    const tidewire_identity *identity; /* copied; NULL: none */
} tidewire_options;

/* What a call may carry; NULL and all zero: nothing of it. */
typedef struct tidewire_call {
    uint32_t deadline_ms; /* 0: the client's */
    const char *opid;     /* writes: 1 to 128 bytes of text; NULL: one is made up */
    int64_t if_version;   /* put, update, remove: only where this version stands; 0: any */
    bool silent;          /* writes: stored, but told to no live stream */
    bool atomic;          /* batch: all operations or none */
} tidewire_call;

/* Connects to the service socket of url: ipc:///PATH, tcp://127.0.0.1:PORT. Asks the server once,
 * so that TIDEWIRE_OK means that one answers there. options may be NULL. */
TIDEWIRE_API tidewire_result tidewire_open(tidewire **out, const char *url,
                                           const tidewire_options *options, tidewire_error *error);
/* Ends a client; sets *client to NULL. NULL is allowed. */
TIDEWIRE_API void tidewire_close(tidewire **client);

/* Replaces or inserts a document; its key is in it (_id, unless declared otherwise), or made up. */
TIDEWIRE_API tidewire_result tidewire_put(tidewire *client, const char *collection,
                                          tidewire_data doc, const tidewire_call *call,
                                          tidewire_error *error);
/* Refused with conflict where the key exists. */
TIDEWIRE_API tidewire_result tidewire_insert(tidewire *client, const char *collection,
                                             tidewire_data doc, const tidewire_call *call,
                                             tidewire_error *error);
/* Changes one document. id: a value, as JSON text 7, "x", {"$oid":"..."}. change: an object of one
 * field, {"fields":{...}} or {"operations":[["INC","n",1],...]}. */
TIDEWIRE_API tidewire_result tidewire_update(tidewire *client, const char *collection,
                                             tidewire_data id, tidewire_data change,
                                             const tidewire_call *call, tidewire_error *error);
TIDEWIRE_API tidewire_result tidewire_remove(tidewire *client, const char *collection,
                                             tidewire_data id, const tidewire_call *call,
                                             tidewire_error *error);
/* Many writes in one message of at most 4096 operations and 1 MiB. ops: an array of
 * {"op":"put","doc":{...}}, {"op":"remove","id":...}, ...; each fails alone unless call->atomic,
 * and TIDEWIRE_OK then is with tidewire_failed(client) above 0. */
TIDEWIRE_API tidewire_result tidewire_batch(tidewire *client, const char *collection,
                                            tidewire_data ops, const tidewire_call *call,
                                            tidewire_error *error);
/* Whole documents by id: one value, or an array of at most 1000. Refused with not_found where none
 * is there. Read them with tidewire_next. */
TIDEWIRE_API tidewire_result tidewire_get(tidewire *client, const char *collection,
                                          tidewire_data ids, const tidewire_call *call,
                                          tidewire_error *error);
/* Documents that match. query: a filter; more: tidewire_none(), or an object of fields, sort, limit
 * and skip. At most 10,000; read them with tidewire_next. */
TIDEWIRE_API tidewire_result tidewire_find(tidewire *client, const char *collection,
                                           tidewire_data query, tidewire_data more,
                                           const tidewire_call *call, tidewire_error *error);
/* Any other action of the service socket: request is its object, {"op":"count",...}. It is sent
 * again on a broken connection like all others: give a write its opid. */
TIDEWIRE_API tidewire_result tidewire_ask(tidewire *client, tidewire_data request,
                                          const tidewire_call *call, tidewire_error *error);

/* The next document of the last get or find; .bytes is NULL behind the last. */
TIDEWIRE_API tidewire_data tidewire_next(tidewire *client);
/* The whole last answer: {"ok":true,"key":...,"version":...,"since":[[...]],...}; refusals too. */
TIDEWIRE_API tidewire_data tidewire_reply(tidewire *client);
/* Of the last answer: the version written (0: none is told); documents or records counted;
 * operations of a batch that were refused. */
TIDEWIRE_API int64_t tidewire_version(const tidewire *client);
TIDEWIRE_API uint64_t tidewire_count(const tidewire *client);
TIDEWIRE_API uint64_t tidewire_failed(const tidewire *client);

/* ---- publisher: many records, in batches, several on their way at once ---- */
typedef struct tidewire_publisher_options {
    uint32_t deadline_ms;   /* for a batch to be acknowledged; 0: 60,000; opening: at most 10,000 */
    const char *database;   /* NULL: the server's default */
    const char *key;        /* the field that holds a record's key; NULL: _id */
    uint32_t window;        /* batches on their way, 1 to 32; 0: 8 */
    uint32_t batch_records; /* 1 to 4096; 0: 1000 */
    uint32_t batch_bytes;   /* 1 to 1,000,000; 0: 65,536 */
    bool silent;            /* stored, but told to no live stream */
    const tidewire_identity *identity; /* copied; NULL: none */
} tidewire_publisher_options;

/* Opens a publisher of one collection. options may be NULL. Errors as of tidewire_open. */
TIDEWIRE_API tidewire_result tidewire_publisher_open(tidewire_publisher **out, const char *url,
                                                     const char *collection,
                                                     const tidewire_publisher_options *options,
                                                     tidewire_error *error);
/* Puts a document into the batch that is being filled; sends it when it is full, and waits while
 * the window is. Puts of one key keep their order. After an error that is not BAD_INPUT the
 * publisher is over: what tidewire_publisher_acknowledged does not count may have happened or not,
 * and putting it again is safe. */
TIDEWIRE_API tidewire_result tidewire_publisher_put(tidewire_publisher *publisher,
                                                    tidewire_data doc, tidewire_error *error);
/* Sends what is left and waits until all is acknowledged. */
TIDEWIRE_API tidewire_result tidewire_publisher_flush(tidewire_publisher *publisher,
                                                      tidewire_error *error);
/* Records on the server's disk: the first so many of those that were put. */
TIDEWIRE_API uint64_t tidewire_publisher_acknowledged(const tidewire_publisher *publisher);
/* Ends it; what was not flushed may be lost. Sets *publisher to NULL. NULL is allowed. */
TIDEWIRE_API void tidewire_publisher_close(tidewire_publisher **publisher);

/* ---- feed: every change of a collection, once, in order ---- */
#define TIDEWIRE_START 0          /* all that is stored, then what comes */
#define TIDEWIRE_NOW   UINT64_MAX /* what comes from now on */

typedef struct tidewire_feed_options {
    uint32_t deadline_ms;      /* of opening; 0: 10,000 */
    const char *database;      /* NULL: the server's default */
    uint64_t after;            /* TIDEWIRE_START, TIDEWIRE_NOW, or a position */
    uint64_t after_srv_id;     /* with a position: the log that it is of (tidewire_feed_srv_id) */
    const char *position_file; /* NULL, or: begins where this file says, if it is there */
    tidewire_form documents;   /* how keys and documents come out */
    const tidewire_identity *identity; /* copied; NULL: none */
} tidewire_feed_options;

typedef struct tidewire_row {
    uint64_t position; /* all rows up to this one were told */
    const char *op;    /* put, remove, drop (of the whole collection), or a later server's */
    int64_t version;   /* of the record */
    uint64_t srv_id;   /* who numbered the change, and its number there: together, */
    uint64_t seqno;    /*   the position that streams on websockets use */
    tidewire_data key; /* JSON: a value; msgpack: a map {"key":...} of it */
    tidewire_data doc; /* .bytes NULL: none */
} tidewire_row;

/* Follows a collection across lost messages, lost connections and restarts of the server. Refused,
 * here or by tidewire_feed_next, with reset (the server's log was replaced), ahead or compacted
 * where the position cannot be served: open again at TIDEWIRE_START, and forget what you had.
 * options may be NULL. */
TIDEWIRE_API tidewire_result tidewire_feed_open(tidewire_feed **out, const char *url,
                                                const char *collection,
                                                const tidewire_feed_options *options,
                                                tidewire_error *error);
/* The next row. TIDEWIRE_TIMEOUT: none came within deadline_ms, or the server is away; call again.
 * deadline_ms 0: 10,000. */
TIDEWIRE_API tidewire_result tidewire_feed_next(tidewire_feed *feed, uint32_t deadline_ms,
                                                tidewire_row *row, tidewire_error *error);
/* Where to begin a later feed: both numbers together. */
TIDEWIRE_API uint64_t tidewire_feed_position(const tidewire_feed *feed);
TIDEWIRE_API uint64_t tidewire_feed_srv_id(const tidewire_feed *feed);
/* Writes the position to position_file, whole and on disk or not at all: when you have done what
 * the rows so far ask for. Rows that were told after the last save are told again. */
TIDEWIRE_API tidewire_result tidewire_feed_save(tidewire_feed *feed, tidewire_error *error);
/* Times that the feed read the log instead of a message. */
TIDEWIRE_API uint64_t tidewire_feed_replays(const tidewire_feed *feed);
/* Ends it; the position is not saved. Sets *feed to NULL. NULL is allowed. See Closing above. */
TIDEWIRE_API void tidewire_feed_close(tidewire_feed **feed);

#ifdef __cplusplus
}
#endif
