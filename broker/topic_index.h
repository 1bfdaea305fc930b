/* topic_index.h - which parts of which topics may care about a document: the index of topic_set.
 *
 * Per collection each part stands once: in the bucket of one equality that its filter demands,
 * or in
 * the list of those that demand none. A look-up walks the paths that are indexed and tells every
 * part
 * whose bucket the document falls into; the whole filter is then held against it by the caller.
 * Parts of any collection stand under the empty name and are told of every row. */
#pragma once

#include "broker/hash_table.h"
#include "broker/topic_query.h"

enum { TOPIC_INDEX_PATHS_MAX = 64 }; /* of a collection; parts beyond it join a path that stands */

typedef struct topic_index_collection topic_index_collection;
typedef struct topic_index_bucket topic_index_bucket;

/* A part of a topic, as the index holds it; lives in the topic. */
typedef struct topic_index_member topic_index_member;
struct topic_index_member {
    void *topic;                  /* whose it is */
    const topic_query_part *part; /* borrow: the topic's */
    int part_index;
    void *rendering;    /* the holder's business */
    uint64_t tested_in; /* the look-up that told it last */
    topic_index_collection *collection;
    topic_index_bucket *bucket; /* NULL: in the list of those without equality */
    topic_index_member *next;   /* in the bucket or that list */
    topic_index_member *prev;
    topic_index_member *next_of_all; /* in the collection */
    topic_index_member *prev_of_all;
};

typedef struct topic_index {
    hash_table collections;
    uint64_t seed;
    uint64_t lookup;  /* counts look-ups, for tested_in */
    tw_arena scratch; /* keys of one look-up */
} topic_index;

tw_err topic_index_init(topic_index *index, uint64_t seed);
void topic_index_fini(topic_index *index); /* every member has been removed before */

/* Puts a member in; its topic, part and part_index are set. TW_E_NO_MEMORY: nothing changed. */
tw_err topic_index_add(topic_index *index, topic_index_member *member);
void topic_index_remove(topic_index *index, topic_index_member *member);

/* Told each member once; an error ends the look-up and is returned. */
typedef tw_err (*topic_index_visit)(void *context, topic_index_member *member);
/* Members that one of the two documents may concern (len 0: none). */
tw_err topic_index_find(topic_index *index, tw_str db, tw_str coll, tw_bson doc, tw_bson old,
                        topic_index_visit visit, void *context);
/* All members of a collection. */
tw_err topic_index_all(topic_index *index, tw_str db, tw_str coll, topic_index_visit visit,
                       void *context);
