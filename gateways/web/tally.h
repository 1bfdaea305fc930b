/* tally.h - how often each of many keys stands at the moment: connections of an address, of a
 * user. A key whose count falls to 0 is gone, so the table is as big as what it counts; its size
 * is fixed at the start. Keys are hashed with a seed, so nobody can make them collide. */
#pragma once

#include "protocol/base.h"

typedef struct tally_key {
    uint64_t at[2]; /* both 0: no key */
} tally_key;

typedef struct tally_entry {
    tally_key key;
    uint32_t count; /* 0: free */
} tally_entry;

typedef struct tally {
    tally_entry *at; /* own; twice keys_max, a power of two */
    size_t size;
    size_t keys;
    size_t keys_max;
    uint64_t seed;
} tally;

/* keys_max: different keys at once. TW_E_NO_MEMORY. */
tw_err tally_init(tally *self, size_t keys_max, uint64_t seed);
void tally_fini(tally *self);
/* Counts a key once more; returns its count. 0: there is no room for another key. */
uint32_t tally_add(tally *self, tally_key key);
/* Takes one away of a key that was counted. */
void tally_drop(tally *self, tally_key key);
uint32_t tally_of(const tally *self, tally_key key);
