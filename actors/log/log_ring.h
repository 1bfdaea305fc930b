/* log_ring.h - the documents of the newest rows, so that what replaces them need not read them. */
#pragma once

#include "protocol/base.h"

enum { LOG_RING_SLOTS = 65536 };

typedef struct log_ring_slot {
    uint32_t at, len; /* len 0: not kept */
} log_ring_slot;

typedef struct log_ring {
    uint8_t *bytes;       /* own */
    log_ring_slot *slots; /* own; of row n at n % LOG_RING_SLOTS */
    uint32_t cap, at;     /* where the next document goes */
    uint64_t first, next; /* rows [first, next) have slots */
} log_ring;

tw_err log_ring_init(log_ring *ring, uint32_t cap);
void log_ring_fini(log_ring *ring);
/* Rows come in order; one that does not follow on the last begins the ring anew. */
void log_ring_add(log_ring *ring, uint64_t n, tw_bson doc);
bool log_ring_find(const log_ring *ring, uint64_t n, tw_bson *out); /* view until the next add */
