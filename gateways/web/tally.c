/* tally.c - see tally.h. Linear probing; a hole is closed by moving later entries forward, so no
 * search passes over graves. */
#include "gateways/web/tally.h"

tw_err tally_init(tally *self, size_t keys_max, uint64_t seed)
{
    *self = (tally){.size = 2, .keys_max = keys_max, .seed = seed};
    while (self->size < 2 * keys_max) {
        self->size *= 2;
    }
    self->at = tw_alloc_zero(self->size, sizeof *self->at);
    return self->at == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void tally_fini(tally *self)
{
    tw_free(self->at);
    *self = (tally){0};
}

static size_t home_of(const tally *self, tally_key key)
{
    return (size_t)tw_hash(&key, sizeof key, self->seed) & (self->size - 1);
}

/* Where the key stands, or the free place where it would. */
static size_t place_of(const tally *self, tally_key key)
{
    size_t i = home_of(self, key);
    while (self->at[i].count != 0 &&
           (self->at[i].key.at[0] != key.at[0] || self->at[i].key.at[1] != key.at[1])) {
        i = (i + 1) & (self->size - 1);
    }
    return i;
}

uint32_t tally_add(tally *self, tally_key key)
{
    tally_entry *entry = &self->at[place_of(self, key)];
    if (entry->count == 0 && self->keys == self->keys_max) {
        return 0;
    }
    self->keys += entry->count == 0 ? 1 : 0;
    entry->key = key;
    return ++entry->count;
}

void tally_drop(tally *self, tally_key key)
{
    size_t hole = place_of(self, key);
    TW_ASSERT(self->at[hole].count > 0);
    if (--self->at[hole].count > 0) {
        return;
    }
    self->keys--;
    size_t mask = self->size - 1;
    for (size_t i = (hole + 1) & mask; self->at[i].count != 0; i = (i + 1) & mask) {
        size_t home = home_of(self, self->at[i].key);
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* it was moved past the hole */
            self->at[hole] = self->at[i];
            self->at[i].count = 0;
            hole = i;
        }
    }
}

uint32_t tally_of(const tally *self, tally_key key)
{
    return self->at[place_of(self, key)].count;
}
