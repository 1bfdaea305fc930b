/* table.c - chained buckets; doubled when there are as many nodes as buckets. */
#include "gateways/streams/table.h"

enum { TABLE_CAP_FIRST = 64 };

tw_err table_init(table *self)
{
    self->buckets = tw_alloc_zero(TABLE_CAP_FIRST, sizeof(table_node *));
    self->cap = TABLE_CAP_FIRST;
    self->count = 0;
    return self->buckets == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void table_fini(table *self)
{
    tw_free(self->buckets);
    self->buckets = NULL;
}

static void grow(table *self)
{
    table_node **buckets = tw_alloc_zero(self->cap * 2, sizeof(table_node *));
    if (buckets == NULL) {
        return; /* longer chains until there is memory again */
    }
    for (size_t i = 0; i < self->cap; i++) {
        table_node *node = self->buckets[i];
        while (node != NULL) {
            table_node *next = node->next;
            table_node **bucket = &buckets[node->hash & (self->cap * 2 - 1)];
            node->next = *bucket;
            *bucket = node;
            node = next;
        }
    }
    tw_free(self->buckets);
    self->buckets = buckets;
    self->cap *= 2;
}

void table_insert(table *self, table_node *node, uint64_t hash)
{
    if (self->count >= self->cap) {
        grow(self);
    }
    table_node **bucket = &self->buckets[hash & (self->cap - 1)];
    *node = (table_node){*bucket, hash};
    *bucket = node;
    self->count++;
}

void table_remove(table *self, table_node *node)
{
    table_node **at = &self->buckets[node->hash & (self->cap - 1)];
    while (*at != node) {
        TW_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    self->count--;
}

table_node *table_first(const table *self, uint64_t hash)
{
    table_node *node = self->buckets[hash & (self->cap - 1)];
    while (node != NULL && node->hash != hash) {
        node = node->next;
    }
    return node;
}

table_node *table_next(const table_node *node)
{
    uint64_t hash = node->hash;
    do {
        node = node->next;
    } while (node != NULL && node->hash != hash);
    return (table_node *)node;
}
