/* processor_priv.h - for processor.c and processor_<part>.c alone. */
#pragma once

#include <sys/queue.h>

#include "broker/topic_query_cache.h"

#include "actors/runtime/transport.h"

#include "actors/processor.h"

enum {
    PROCESSOR_MAGIC = 0x70c0ce55,
    PROCESSOR_JOB_MAGIC = 0x70c0ce56,
    PROCESSOR_LINKS_MAX = 16,           /* addresses; further ones are refused at the start */
    PROCESSOR_SUSPECTS_MAX = 1024,      /* documents that failed; the longest known is forgotten */
    PROCESSOR_CALL_BYTES = 524288,      /* of documents in one call (one at least) */
    PROCESSOR_DEPTH_MAX = TW_DEPTH_MAX, /* of an answer; the documents stand on the third */
    PROCESSOR_JOB_BYTES = 268435456,
};

/* A document that its service could not process. */
typedef struct processor_suspect {
    uint64_t hash; /* of collection, key and version */
    uint64_t retry_ms;
    unsigned failures;
    bool aside; /* given up: left out of what is told */
} processor_suspect;

/* One document of a job. */
typedef struct processor_item {
    bool done;
    tw_bson doc; /* to be processed; then the outcome, len 0: dropped */
    size_t part;
    tw_key key;
    int64_t version;
} processor_item;

/* A page or documents on their way. */
typedef struct processor_job {
    uint32_t magic;
    struct processor *owner;
    STAILQ_ENTRY(processor_job) next; /* waits for its link */
    LIST_ENTRY(processor_job) all;
    tw_route route;
    tw_arena arena; /* own */
    tw_bson query;  /* in arena */
    bool is_docs, rendered;
    tw_body source; /* what the reader answered; views into arena */
    tw_msg_id source_id;
    processor_item *items; /* in arena; those of the source that are raw */
    size_t count;
    size_t *call; /* in arena; items of the call under way */
    size_t call_count;
    bool probing; /* the call under way has no documents */
} processor_job;

/* One service. */
typedef struct processor_link {
    const char *address; /* borrow: the catalog's */
    transport_socket socket;
    processor_job *busy; /* whose call is under way */
    STAILQ_HEAD(, processor_job) waiting;
    uint32_t request;
    uint64_t deadline_ms;
    uint64_t slow_until_ms;
    unsigned losses; /* of the socket when the call was sent */
    bool told;       /* the log has been told that it is not there */
} processor_link;

struct processor {
    uint32_t magic;
    tw_actor *actor;
    const catalog *catalog;
    uint32_t deadline_ms;
    int readers[TW_LINKS_MAX];
    size_t readers_count, reader_next;
    int wake_fd; /* own */
    processor_link links[PROCESSOR_LINKS_MAX];
    size_t links_count;
    LIST_HEAD(, processor_job) jobs;
    size_t jobs_count;
    topic_query_cache queries;
    processor_suspect suspects[PROCESSOR_SUSPECTS_MAX];
    size_t suspects_count, suspects_next;
    tw_buf bytes;   /* own; a call */
    tw_buf scratch; /* own; BSON of a call */
    tw_buf text;    /* own; an answer */
    uint64_t calls, documents, dropped, failures, deadlines, aside, paused;
};

/* ---- processor_call.c: what goes to a service, and what comes ---- */
/* Whether the services of a query can be called now; answers the request where not, so that nothing
 * is read for what would wait. */
bool processor_may_begin(struct processor *self, const tw_envelope *in, tw_bson canonical);
/* Goes on with a job: calls its service for what is left, or answers. */
void processor_go_on(struct processor *self, processor_job *job);
void processor_receive(struct processor *self, processor_link *link);
/* Looks for calls whose deadline has passed or whose connection was lost. */
void processor_look(struct processor *self, processor_link *link);

/* ---- processor.c ---- */
/* Everything of a job is done: renders and answers. Ends the job. */
void processor_answer(struct processor *self, processor_job *job);
/* Answers with an error and ends the job. */
void processor_fail(struct processor *self, processor_job *job, tw_err err, const char *why);
