/* topic_index_priv.h - the rooms of the index: collections and paths, buckets, ranges, texts, and
 * what is scanned. */
#pragma once

#include "protocol/limits.h"

#include "broker/regex.h"
#include "broker/topic_index.h"

enum {
    INDEX_BRACKETS = 6, /* kinds of values that have an order here, see index_reach_of */
    INDEX_GRAM_MIN = 2,
    INDEX_GRAM_MAX = 3,
    INDEX_GRAM_BITS = 16, /* of the filter before the table of grams: 8 KiB a path */
    INDEX_VETO = QUERY_NEED_KINDS,
    INDEX_SCREEN, /* an entry alone: it holds the path */
    INDEX_KINDS
};

/* A value as an order that is never finer than tw_bson_compare's: v < w gives v <= w here. */
typedef struct index_bound {
    uint64_t key;
    tw_str text; /* decides where keys are equal; view */
} index_bound;

/* The values at a path, of one bracket, from the lowest to the highest; or a need for some. */
typedef struct index_reach {
    index_bound low, high;
} index_reach;

/* An entry stands in a bucket, or in a tree of ranges, or (a veto) in the slots of a bucket. */
struct topic_index_entry {
    topic_index_member *member;
    topic_index_entry *next_of_member;
    uint8_t kind;    /* query_need_kind or INDEX_VETO */
    uint8_t bracket; /* of a range */
    uint8_t gram;    /* of a text: letters of its key */
    uint16_t path;
};

typedef struct index_bucket {
    hash_link link;
    uint32_t members;
    uint16_t path;
    uint8_t kind;
    struct index_hashed *first;
} index_bucket;

typedef struct index_hashed {
    topic_index_entry entry; /* first */
    index_bucket *bucket;
    struct index_hashed *next, *prev; /* in the bucket */
    uint8_t literal_len;              /* of a text */
    uint8_t literal_at;               /* where in it its key stands */
    char literal[];                   /* behind the struct */
} index_hashed;

/* A node of a treap: a search tree by the lower bound, a heap by chance, which keeps it shallow. */
typedef struct index_ranged {
    topic_index_entry entry; /* first */
    uint32_t chance;
    index_reach reach;
    index_bound highest; /* of this node and those below it */
    struct index_ranged *left, *right;
} index_ranged;

/* Slots that a value excludes; one array, so that excluding thousands is a walk over it. */
typedef struct index_veto {
    hash_link link;
    uint16_t path;
    query_need_kind kind;
    tw_bson_value value; /* own bytes, behind the struct */
    uint32_t count, cap;
    uint32_t *slots;              /* own */
    struct index_vetoed **owners; /* own; whose slot it is */
    uint8_t bytes[];
} index_veto;

typedef struct index_vetoed {
    topic_index_entry entry; /* first */
    index_veto *veto;
    uint32_t at; /* in its slots */
} index_vetoed;

/* The texts that a document has at a path, as screens ask for them. */
typedef struct index_column {
    uint64_t bytes[4]; /* bits of those that stand in a text */
    uint64_t first[4]; /* of those that begin one */
    uint64_t len_max;
    uint64_t has; /* bits: INDEX_HAS_TEXT, INDEX_HAS_REGEX; a word, so that columns are compared */
} index_column;
enum { INDEX_HAS_TEXT = 1, INDEX_HAS_REGEX = 2 };

/* What is tested of a slot before its part is told. */
typedef struct index_screen {
    uint64_t bytes[4];
    uint32_t len_min;
    uint16_t path;
    bool is_used, is_anchored, or_same; /* as in regex_screen and query_screen_of */
} index_screen;

typedef struct index_path {
    char *name; /* own; NULL: free */
    size_t len;
    tw_str head, rest; /* views into name */
    bool has_rest;
    uint64_t seed;
    uint32_t entries;
    uint32_t buckets;
    uint32_t of_kind[INDEX_KINDS];       /* entries */
    uint32_t of_bracket[INDEX_BRACKETS]; /* entries */
    index_ranged *trees[INDEX_BRACKETS];
    uint32_t of_gram[INDEX_GRAM_MAX + 1]; /* entries */
    uint64_t *grams;                      /* own; bits of those that may stand in the table */
    index_column *column; /* own, where screens ask: of the document at hand, and the one before */
} index_path;

struct topic_index_collection {
    hash_link link;
    hash_table buckets;
    hash_table vetoes;
    topic_index_member **scanned; /* own; by slot */
    index_screen *screens;        /* own; by slot */
    uint64_t *left;               /* own; bits of the slots that are not excluded */
    uint64_t *left_before;        /* own; the same of the document before in this look-up */
    bool has_before;              /* there was one */
    uint32_t scanned_count, scanned_cap;
    topic_index_member *all;
    uint32_t paths_count; /* entries in use lie below it */
    uint32_t paths_cap;
    index_path *paths; /* own */
    uint32_t chance;   /* the last number drawn */
    char *name;        /* own; db, NUL, name */
    size_t name_len;
};

/* One look-up. */
typedef struct index_finding {
    topic_index *index;
    topic_index_collection *collection;
    index_path *path; /* at hand */
    uint16_t path_at;
    bool has_some; /* a value stands at it */
    bool has_reach[INDEX_BRACKETS];
    index_reach reach[INDEX_BRACKETS];
    tw_err err;
    topic_index_visit visit;
    void *context;
} index_finding;

/* Tells a member unless this look-up has told it. */
void index_tell(index_finding *finding, topic_index_member *member);

/* ---- topic_index_bucket.c ---- */
/* The hash of a need, or of a value that meets it; for values of which all equals have one. */
uint64_t index_hash(const index_path *path, query_need_kind kind, const void *bytes, size_t len);
/* The hash of a value as QUERY_NEED_VALUE; false: none. Decimals are whole then; scratch is theirs.
 * *err: TW_E_NO_MEMORY. */
bool index_hash_value(tw_arena *scratch, const index_path *path, tw_bson_value value,
                      uint64_t *hash, tw_err *err);
/* The hash of any need but RANGE and TEXT. */
uint64_t index_hash_need(const index_path *path, const query_need *need);
index_bucket *index_find_bucket(const topic_index_collection *collection, uint16_t path,
                                uint64_t hash);
/* Puts an entry into the bucket of a hash. NULL: no memory. literal is the text's, else empty. */
topic_index_entry *index_join_bucket(topic_index_collection *collection, uint16_t path,
                                     const query_need *need, uint64_t hash);
void index_leave_bucket(topic_index_collection *collection, topic_index_entry *entry);
void index_tell_bucket(index_finding *finding, uint64_t hash);

/* ---- topic_index_range.c ---- */
/* The bracket of a type, below INDEX_BRACKETS; -1: it has no order here. */
int index_bracket_of(uint8_t type);
/* What a value spans: a point, or the whole bracket where it has no place (NaN, a decimal that is
 * not whole). Its bracket; -1: *out is not set. Text is a view. */
int index_reach_of(tw_arena *scratch, tw_bson_value value, index_reach *out);
topic_index_entry *index_join_range(topic_index *index, topic_index_collection *collection,
                                    uint16_t path, const query_need *need);
void index_leave_range(topic_index_collection *collection, topic_index_entry *entry);
/* Widens what the path at hand has been seen to hold. */
void index_see_range(index_finding *finding, tw_bson_value value);
/* Tells who asks for a part of it. */
void index_tell_ranges(index_finding *finding);

/* ---- topic_index_text.c ---- */
/* The rarest key of a literal: its hash and what it costs. */
uint64_t index_rarest_gram(const topic_index_collection *collection, uint16_t path,
                           const index_path *at, tw_str literal, uint8_t *where, size_t *members);
topic_index_entry *index_join_text(topic_index_collection *collection, uint16_t path,
                                   const query_need *need);
void index_leave_text(topic_index_collection *collection, topic_index_entry *entry);
void index_tell_texts(index_finding *finding, tw_str text);

/* ---- topic_index_scan.c ---- */
/* Puts a member among those that are scanned, with what excludes it. */
tw_err index_join_scan(topic_index *index, topic_index_collection *collection,
                       topic_index_member *member);
void index_leave_scan(topic_index_collection *collection, topic_index_member *member);
void index_leave_veto(topic_index_collection *collection, topic_index_entry *entry);
/* A document's look-up (is_first: of the two of a change): none is excluded yet, then those that a
 * value excludes (its hash is that of kind), then the rest is told. */
void index_begin_scan(topic_index_collection *collection, bool is_first);
void index_meet_veto(index_finding *finding, uint64_t hash, query_need_kind kind,
                     tw_bson_value value);
/* A value at the path at hand, for the screens there. */
void index_see_text(index_finding *finding, tw_bson_value value);
void index_tell_scanned(index_finding *finding);

/* ---- topic_index.c ---- */
/* The entry of a path, made where it stands not. TW_E_BUSY: TW_TOPIC_PATHS_MAX stand. Whoever puts
 * nothing there leaves it again. */
tw_err index_make_path(topic_index *index, topic_index_collection *collection, tw_str path,
                       uint16_t *out);
/* An entry has come (by 1) or goes (by -1). */
void index_count(index_path *path, const topic_index_entry *entry, int by);
/* Frees it if nothing stands there. */
void index_leave_path(topic_index_collection *collection, uint16_t at);
