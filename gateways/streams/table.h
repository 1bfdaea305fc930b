/* table.h - a hash table of nodes that stand inside what they name. Grows, never shrinks, allocates
 * only its buckets: an insert that finds no memory for more of them still succeeds. */
#pragma once

#include "protocol/base.h"

typedef struct table_node {
    struct table_node *next;
    uint64_t hash;
} table_node;

typedef struct table {
    table_node **buckets; /* own */
    size_t cap;           /* a power of two */
    size_t count;
} table;

tw_err table_init(table *self);
void table_fini(table *self); /* the nodes are their owners' */
void table_insert(table *self, table_node *node, uint64_t hash);
void table_remove(table *self, table_node *node);
/* The first node of this hash, and the next one after it; NULL: none. The caller compares. */
table_node *table_first(const table *self, uint64_t hash);
table_node *table_next(const table_node *node);

#define TABLE_OWNER(type, member, node) ((type *)(void *)((char *)(node)-offsetof(type, member)))
