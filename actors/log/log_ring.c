/* log_ring.c - see log_ring.h. Documents stand behind each other and wrap at the end, whole. */
#include "actors/log/log_ring.h"

tw_err log_ring_init(log_ring *ring, uint32_t cap)
{
    TW_ASSERT(cap > 0);
    *ring = (log_ring){.cap = cap};
    ring->bytes = tw_alloc(cap);
    ring->slots = tw_alloc_zero(LOG_RING_SLOTS, sizeof *ring->slots);
    if (ring->bytes == NULL || ring->slots == NULL) {
        log_ring_fini(ring);
        return TW_E_NO_MEMORY;
    }
    return TW_OK;
}

void log_ring_fini(log_ring *ring)
{
    tw_free(ring->bytes);
    tw_free(ring->slots);
    *ring = (log_ring){0};
}

/* Gives up the oldest rows while their bytes lie in [from, upto). */
static void evict(log_ring *ring, uint32_t from, uint32_t upto)
{
    while (ring->first < ring->next) {
        const log_ring_slot *oldest = &ring->slots[ring->first % LOG_RING_SLOTS];
        if (oldest->len > 0 && (oldest->at < from || oldest->at >= upto)) {
            return;
        }
        ring->first++;
    }
}

void log_ring_add(log_ring *ring, uint64_t n, tw_bson doc)
{
    TW_ASSERT(n > 0);
    if (n != ring->next) {
        ring->first = ring->next = n;
        ring->at = 0;
    }
    if (ring->next - ring->first == LOG_RING_SLOTS) {
        ring->first++;
    }
    log_ring_slot *slot = &ring->slots[n % LOG_RING_SLOTS];
    *slot = (log_ring_slot){0};
    if (doc.len > 0 && doc.len <= ring->cap / 8) {
        uint32_t len = (uint32_t)doc.len;
        if (len > ring->cap - ring->at) {
            evict(ring, ring->at, ring->cap);
            ring->at = 0;
        }
        evict(ring, ring->at, ring->at + len);
        memcpy(ring->bytes + ring->at, doc.ptr, len);
        *slot = (log_ring_slot){ring->at, len};
        ring->at += len;
    }
    ring->next = n + 1;
}

bool log_ring_find(const log_ring *ring, uint64_t n, tw_bson *out)
{
    TW_ASSERT(out != NULL);
    if (n < ring->first || n >= ring->next || ring->slots[n % LOG_RING_SLOTS].len == 0) {
        return false;
    }
    const log_ring_slot *slot = &ring->slots[n % LOG_RING_SLOTS];
    *out = (tw_bson){ring->bytes + slot->at, slot->len};
    return true;
}
