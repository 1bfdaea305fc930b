/* request.h - the data access actions (getByIds, insert, find, ...) behind every edge.
 *
 * The websocket gateway, HTTP and the service socket all turn what they receive into one BSON
 * request {"action":...,"reqID":...,"collection":...,...} and render BSON replies; the meaning of
 * each action is here, once. One action = one file of this folder; request_actions.c holds the one
 * table of them.
 *
 * Runs inside a gateway actor, on its thread. Writes of one turn travel in one message: the gateway
 * calls request_flush at the end of each turn. Raw input never reaches an assertion. */
#pragma once

#include "protocol/bson.h"

#include "broker/catalog.h"
#include "broker/rights.h"

#include "actors/runtime/actor.h"

typedef struct request_engine request_engine;

typedef struct request_options {
    tw_actor *actor;        /* the gateway */
    const catalog *catalog; /* borrow */
    int store;              /* link to who writes records: the store or the mongo_writer */
    int log_store;          /* link to the store, which alone knows what the log has */
    int manager;            /* link to the subscription_manager; -1: none */
    const int *readers;     /* links to who reads records: log_readers or mongo_readers, in turn */
    size_t readers_count;
    const int *log_readers; /* links to log_readers, which alone know manifests; used in turn */
    size_t log_readers_count;
    int search;         /* link to the search engine; -1: there is none */
    uint32_t search_ms; /* deadline of a search that asks for no other */
    tw_on_timer wake;   /* sets off request_wake of this engine; its state is the actor's */
    int processor;      /* link, for documents of collections that have one; -1: none */
    size_t running_max; /* requests at once; beyond: busy */
    bool mongo;         /* the readers are MongoDB's: aggregate is offered */
    bool trusted;       /* a service: read, write and remove_denied are about clients */
} request_options;

/* Receives each reply of a request in order; final with the last one (exactly once a request, also
 * on an error). reply is a view until it returns. Returning false asks the engine to pause this
 * request until request_resume(tag): the asker's queue is full. The asker may be gone: tag is
 * looked up. */
typedef bool (*request_emit)(void *context, uint64_t tag, tw_bson reply, bool final);

tw_err request_engine_new(request_engine **out, const request_options *options);
void request_engine_free(request_engine **engine);

/* Runs one request, under rights (NULL: there is no auth), which it holds until it is over.
 * Replies follow later or at once (from inside this call too). Errors are replies:
 *   {"type":"error","action":A,"reqID":R,"collection":C,"code":...,"message":...,"hint":...,
 *    "retry":...[,"after_ms":N][,"rule":...][,"version":current]}
 * reqID of any scalar type is given back in each reply as it came. Requests may share a tag. */
void request_run(request_engine *engine, rights *rights, tw_bson request, request_emit emit,
                 void *context, uint64_t tag);
/* True when the action is one of the table. */
bool request_knows(tw_str action);
/* True when a request is to be answered by the search engine. */
bool request_is_search(tw_bson asked);
/* Searches of a tag that run. */
size_t request_searches_of(const request_engine *engine, uint64_t tag);
/* The verbs of all actions, index 0, 1, ...: what a test holds against its own list. False: no
 * more. */
bool request_verb_at(size_t index, const char **action, unsigned *verb);
void request_resume(request_engine *engine, uint64_t tag);
/* Goes on with the requests that wait for a time which has come. */
void request_wake(request_engine *engine);
/* Ends all requests of a tag without further replies (the asker is gone). */
void request_forget(request_engine *engine, uint64_t tag);
/* Sends the writes collected since the last flush; to MongoDB's writer once it has answered those
 * sent before. */
void request_flush(request_engine *engine);

/* Builds the error reply above into out; shared by the edges for their own refusals. Fields with
 * ptr NULL are left out. extra (may be len 0): further fields. */
void request_error(tw_buf *out, tw_bson request, tw_err code, tw_str message, tw_str hint,
                   tw_bson extra);

typedef struct request_figures {
    uint64_t running, paused, done, refused;
} request_figures;
request_figures request_engine_figures(const request_engine *engine);
