/* search_query_priv.h - for search_query*.c alone: the compiled tree. */
#pragma once

#include "protocol/limits.h"

#include "broker/search_query.h"
#include "broker/search_text.h"

enum {
    SEARCH_TERMS_MAX = TW_SEARCH_CLAUSES_MAX, /* of one clause */
    SEARCH_NODES_MAX = 4096,                  /* clauses times fields; more: too_costly */
    SEARCH_PLACES_MAX = 2048, /* of a phrase's terms in one document; more are not looked at */
};

typedef enum search_kind {
    SEARCH_ALL,
    SEARCH_NONE,
    SEARCH_IDS,    /* terms */
    SEARCH_MATCH,  /* terms of a text field, or raw in any other */
    SEARCH_PHRASE, /* terms in order */
    SEARCH_TERM,   /* any of terms (keyword) or of numbers */
    SEARCH_RANGE,  /* low, high; low_text, high_text of keywords */
    SEARCH_EXISTS,
    SEARCH_WILD, /* pattern: prefix*, w?ld* */
    SEARCH_BOOL,
    SEARCH_BEST,  /* of its children */
    SEARCH_CONST, /* one child, without its score */
} search_kind;

typedef enum search_role { SEARCH_SHOULD, SEARCH_MUST, SEARCH_FILTER, SEARCH_NOT } search_role;

typedef struct search_node search_node;
struct search_node {
    search_kind kind;
    search_role role; /* in the bool around it */
    search_node *first, *next;
    double boost, tie;
    tw_str path;     /* of the value; len 0: everywhere */
    tw_str field;    /* name as it was asked for */
    uint64_t number; /* of the field in the index */
    search_type type;
    size_t ignore_above;
    tw_str raw; /* the text before it was analysed */
    tw_str *terms;
    double *weights;
    uint32_t *places; /* of terms: position in the query */
    double *numbers;
    size_t terms_count, numbers_count;
    int least; /* terms or children that are to match */
    uint32_t slop;
    bool last_prefix; /* the last term of a phrase is a beginning */
    double average;   /* terms of the field in a document */
    bool weighed;
    double low, high;
    bool low_open, high_open;
    tw_str low_text, high_text; /* ptr NULL: none */
    tw_str pattern;
};

struct search_query {
    search_node *root;
};

typedef struct search_compiler {
    tw_arena *arena;
    const search_mapping *mapping; /* NULL: none */
    broker_why *why;
    size_t nodes;
} search_compiler;

/* The fields that a text is looked for in, each with its boost. */
typedef struct search_target {
    tw_str name;
    double boost;
} search_target;
typedef struct search_targets {
    search_target *at;
    size_t count;
    bool all; /* nothing was named */
} search_targets;

typedef struct search_asked {
    tw_str text;
    search_kind kind; /* SEARCH_MATCH or SEARCH_PHRASE */
    bool every;       /* all terms */
    tw_bson_value least;
    uint32_t slop;
    bool prefix, lenient;
    double boost, tie;
    bool sum; /* over the fields */
} search_asked;

/* ---- search_query_node.c ---- */
search_node *search_node_new(search_compiler *self, search_kind kind, tw_err *err);
/* Points a leaf to its field; false: there is no such field. */
bool search_node_field(search_compiler *self, search_node *node, tw_str name);
tw_err search_targets_read(search_compiler *self, tw_bson_value names, search_targets *out);
/* A text in some fields. *out NULL: nothing is left of the text. */
tw_err search_text_node(search_compiler *self, const search_targets *where,
                        const search_asked *asked, search_node **out);
int search_least(tw_bson_value given, size_t of, int fallback);
/* A copy; that of an empty text is empty, and not NULL. */
tw_str search_keep(search_compiler *self, tw_str text);
/* What is not carried out is refused: a parameter, a value of the wrong type. */
tw_err search_refuse_param(search_compiler *self, const char *clause, tw_str name);
/* A day, a month or a year as a term is all of it. */
tw_err search_date_node(search_node *node, tw_bson_value value, tw_str text);
tw_err search_wrong_value(search_compiler *self, const search_node *node, tw_str text);

/* ---- search_query_compile.c ---- */
tw_err search_range_node(search_compiler *self, tw_str field, tw_bson bounds, bool lenient,
                         search_node **out);
tw_err search_exists_node(search_compiler *self, tw_str field, search_node **out);
tw_err search_wild_node(search_compiler *self, const search_targets *where, tw_str pattern,
                        search_node **out);

/* ---- search_query_lucene.c ---- */
typedef struct search_lucene {
    search_compiler *compiler;
    const char *at, *end;
    const search_targets *where;
    search_asked asked; /* what holds for each text of it */
    const char *clause;
    bool merges; /* the next word and those behind it are one text */
} search_lucene;
tw_err search_lucene_parse(search_lucene *self, search_node **out);
tw_err search_simple_parse(search_lucene *self, search_node **out);
