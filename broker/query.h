/* query.h - the filter language: compile once, match documents without allocation.
 *
 * A subset of MongoDB's with its semantics (arrays fan out on equality and comparison, missing
 * equals null, comparison within a type bracket): implicit equality, $eq $ne $gt $gte $lt $lte $in
 * $nin $exists $type $size $all $elemMatch $and $or $nor $not $regex ($options i m s x). Any other
 * $ key is refused by name, with the path to it. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

typedef struct query query;

/* Compiles a filter; len 0 or {} matches everything. TW_E_BAD_FILTER with why; TW_E_NO_MEMORY.
 * *out is the caller's, query_free ends it. Thread: any. */
tw_err query_compile(tw_bson filter, query **out, broker_why *why);
/* The same with twice the bounds, for a filter that the server joined from several. */
tw_err query_compile_joined(tw_bson filter, query **out, broker_why *why);
void query_free(query **query);
/* True when the document matches. A $regex out of steps counts as no match and is counted in
 * query_costly. Thread: any number at once. */
bool query_match(const query *query, tw_bson doc);
bool query_matches_all(const query *query);
uint64_t query_costly(const query *query);

/* An equality that every matching document fulfils, for indexes: path and key of the value (scalars
 * only; the document's value at path, or an element of the array there, must equal it). Index 0,
 * 1, ...;
 * false when there is no further one. */
typedef struct query_equality {
    tw_str path;  /* view into the query */
    tw_key value; /* view into the query */
} query_equality;
bool query_equality_at(const query *query, size_t index, query_equality *out);

/* What must stand at a path of every document that matches: one of several needs, for indexes. A
 * need is met by what path_walk with spread visits; being met does not mean that the filter is. */
typedef enum query_need_kind {
    QUERY_NEED_VALUE,  /* one that equals value; null: or nothing stands there */
    QUERY_NEED_RANGE,  /* one of low's or high's bracket not below low, and one not above high */
    QUERY_NEED_TEXT,   /* a text with these letters in it, ASCII letters in lower case */
    QUERY_NEED_SIZE,   /* an array of so many */
    QUERY_NEED_NESTED, /* an array with an array in it */
    QUERY_NEED_TYPE,   /* one of this type */
    QUERY_NEED_SOME,   /* any at all */
    QUERY_NEED_ABSENT, /* none of value's bracket, or none at all where value has type 0 */
    QUERY_NEED_KINDS
} query_need_kind;

typedef struct query_need {
    query_need_kind kind;
    tw_str path;             /* view into the query or the arena */
    tw_bson_value value;     /* view into the query */
    tw_bson_value low, high; /* type 0: no bound on that side; views into the query */
    tw_str literal;          /* view into the arena */
    int64_t size;
    uint8_t type; /* TW_BSON_* */
} query_need;

/* What a look-up by this need is expected to cost; SIZE_MAX: it cannot be used. */
typedef size_t (*query_need_cost)(void *context, const query_need *need);
typedef struct query_needs {
    query_need *at; /* at most TW_TOPIC_NEEDS_MAX */
    size_t count;
    size_t cost; /* the sum */
} query_needs;
/* The cheapest needs of which every match meets one; in arena. count 0: there are none.
 * TW_E_NO_MEMORY. Thread: any. */
tw_err query_needs_of(const query *query, tw_arena *arena, query_need_cost cost, void *context,
                      query_needs *out);
/* What no match meets: VALUE, TYPE and SOME alone. At most TW_TOPIC_NEEDS_MAX, in arena. */
tw_err query_vetoes_of(const query *query, tw_arena *arena, query_needs *out);
/* A regular expression that a text at path must match, or be the same as where or_same is set: for
 * what is scanned. False: every match may do without one. View into the query. */
struct regex_screen;
bool query_screen_of(const query *query, tw_str *path, const struct regex_screen **screen,
                     bool *or_same);
