/* hash_table.h - a table of things that carry their own link: finding by hash, the rest is theirs.
 *
 * Chained; grows by doubling and, when there is no memory to grow, goes on with longer chains. The
 * hash must be seeded where the keys come from outside (tw_hash). */
#pragma once

#include "protocol/base.h"

typedef struct hash_link hash_link;
struct hash_link {
    hash_link *next;
    uint64_t hash;
    void *owner; /* what the link stands in */
};

typedef struct hash_table {
    hash_link **heads; /* own */
    size_t mask;
    size_t count;
} hash_table;

tw_err hash_table_init(hash_table *table); /* TW_E_NO_MEMORY */
void hash_table_fini(hash_table *table);   /* the things themselves are their owners' */
void hash_table_add(hash_table *table, hash_link *link, uint64_t hash, void *owner);
void hash_table_remove(hash_table *table, hash_link *link);
/* for (l = hash_table_first(t, h); l != NULL; l = hash_table_next(l)): all of that hash. */
hash_link *hash_table_first(const hash_table *table, uint64_t hash);
hash_link *hash_table_next(const hash_link *link);
