/* topic_index.h - which parts of which topics may care about a document: the index of topic_set.
 *
 * Per collection each part stands under what its filter demands of every match (query_needs_of):
 * values, ranges, texts within texts, types. A look-up walks the paths that are indexed and tells
 * every part of which the document meets a need; the whole filter is then held against it by the
 * caller. Parts whose filters demand nothing that can be found are scanned: those that the document
 * certainly does not concern are left out by words of 64 parts.
 * Parts of any collection stand under the empty name and are told of every row. */
#pragma once

#include "broker/hash_table.h"
#include "broker/topic_query.h"

typedef struct topic_index_collection topic_index_collection;
typedef struct topic_index_entry topic_index_entry;

/* A part of a topic, as the index holds it; lives in the topic. */
typedef struct topic_index_member topic_index_member;
struct topic_index_member {
    void *topic;                  /* whose it is */
    const topic_query_part *part; /* borrow: the topic's */
    int part_index;
    bool is_scanned; /* it stands among those that are scanned, at slot */
    uint32_t slot;
    void *rendering;    /* the holder's business */
    uint64_t tested_in; /* the look-up that told it last */
    topic_index_collection *collection;
    topic_index_entry *entries;      /* own: where it stands */
    topic_index_member *next_of_all; /* in the collection */
    topic_index_member *prev_of_all;
};

typedef struct topic_index {
    hash_table collections;
    uint64_t seed;
    uint64_t lookup;  /* counts look-ups, for tested_in */
    tw_arena scratch; /* of one look-up or addition */
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
