/* query_priv.h - a compiled filter: shared by query_compile.c and query_match.c. */
#pragma once

#include <stdatomic.h>

#include "broker/query.h"
#include "broker/regex.h"

enum {
    QUERY_MAGIC = 0x3c0e7a11,
    /* A joined filter carries the scope and the collection's own filter beside the client's. */
    QUERY_NODES_CEILING = 2 * TW_FILTER_NODES_MAX + 4,
    QUERY_DEPTH_CEILING = 2 * TW_FILTER_DEPTH_MAX + 2,
};

typedef enum query_kind {
    QUERY_AND, /* children */
    QUERY_OR,
    QUERY_NOR,
    QUERY_NOT,     /* one child */
    QUERY_NOTHING, /* $all: [] */
    QUERY_EQ,      /* value */
    QUERY_GT,
    QUERY_GTE,
    QUERY_LT,
    QUERY_LTE,
    QUERY_IN,          /* value: the list; children: its regular expressions */
    QUERY_EXISTS,      /* NOT of it for false */
    QUERY_TYPE,        /* types */
    QUERY_SIZE,        /* size */
    QUERY_REGEX,       /* regex */
    QUERY_ELEM_FIELDS, /* one child, held against each element that is a document */
    QUERY_ELEM_VALUE,  /* one child, held against each element itself */
} query_kind;

enum { QUERY_NONE = 0xffff }; /* no node */

typedef struct query_node {
    uint8_t kind;        /* query_kind */
    uint16_t first;      /* child */
    uint16_t last;       /* child */
    uint16_t next;       /* sibling */
    tw_str path;         /* of leaves; view into query.filter */
    tw_bson_value value; /* view into query.filter */
    uint32_t types;      /* bit of query_type_bit each */
    int64_t size;
    regex *regex; /* own */
} query_node;

struct query {
    uint32_t magic;
    uint16_t nodes_count;
    uint16_t equalities_count;
    uint16_t root;
    uint8_t *filter;              /* own copy: what the views point into */
    uint8_t *keys;                /* own: the keys of equalities */
    query_node *nodes;            /* own */
    query_equality *equalities;   /* own */
    atomic_uint_fast64_t *costly; /* own: the one thing that matching changes */
};

/* The bit of a BSON type in query_node.types; 0 for type 0. */
uint32_t query_type_bit(uint8_t type);
