/* hash_table.c - a chained table with links inside the things. */
#include "broker/hash_table.h"

enum { HASH_TABLE_HEADS_MIN = 16 };

tw_err hash_table_init(hash_table *table)
{
    TW_ASSERT(table != NULL);
    *table = (hash_table){.mask = HASH_TABLE_HEADS_MIN - 1};
    table->heads = tw_alloc_zero(HASH_TABLE_HEADS_MIN, sizeof(hash_link *));
    return table->heads == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void hash_table_fini(hash_table *table)
{
    TW_ASSERT(table != NULL);
    tw_free(table->heads);
    *table = (hash_table){0};
}

static void grow(hash_table *table)
{
    size_t mask = table->mask * 2 + 1;
    TW_ASSERT((mask & (mask + 1)) == 0);
    hash_link **heads = tw_alloc_zero(mask + 1, sizeof(hash_link *));
    if (heads == NULL) {
        return;
    }
    for (size_t i = 0; i <= table->mask; i++) {
        hash_link *next;
        for (hash_link *link = table->heads[i]; link != NULL; link = next) {
            next = link->next;
            link->next = heads[link->hash & mask];
            heads[link->hash & mask] = link;
        }
    }
    tw_free(table->heads);
    table->heads = heads;
    table->mask = mask;
}

void hash_table_add(hash_table *table, hash_link *link, uint64_t hash, void *owner)
{
    TW_ASSERT(table->heads != NULL);
    TW_ASSERT(owner != NULL);
    if (table->count > table->mask) {
        grow(table);
    }
    hash_link **head = &table->heads[hash & table->mask];
    *link = (hash_link){.next = *head, .hash = hash, .owner = owner};
    *head = link;
    table->count++;
}

void hash_table_remove(hash_table *table, hash_link *link)
{
    TW_ASSERT(table->heads != NULL);
    TW_ASSERT(table->count > 0);
    hash_link **at = &table->heads[link->hash & table->mask];
    while (*at != link) {
        TW_ASSERT(*at != NULL); /* only what was added is removed */
        at = &(*at)->next;
    }
    *at = link->next;
    link->next = NULL;
    table->count--;
}

hash_link *hash_table_first(const hash_table *table, uint64_t hash)
{
    TW_ASSERT(table->heads != NULL);
    hash_link *link = table->heads[hash & table->mask];
    while (link != NULL && link->hash != hash) {
        link = link->next;
    }
    return link;
}

hash_link *hash_table_next(const hash_link *link)
{
    TW_ASSERT(link != NULL);
    hash_link *next = link->next;
    while (next != NULL && next->hash != link->hash) {
        next = next->next;
    }
    return next;
}
