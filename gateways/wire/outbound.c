/* outbound.c - a queue of references to shared bytes. Invariant: bytes is the sum of all len, and
 * no reference of length 0 is in the queue. */
#include "gateways/wire/outbound.h"

static outbound_ref *ref_at(const outbound *queue, uint32_t index)
{
    uint32_t cap = queue->far != NULL ? queue->far_cap : OUTBOUND_INLINE;
    const outbound_ref *refs = queue->far != NULL ? queue->far : queue->near;
    return (outbound_ref *)&refs[(queue->first + index) & (cap - 1)]; /* cap: a power of two */
}

static tw_err grow(outbound *queue)
{
    uint32_t cap = queue->far != NULL ? queue->far_cap : OUTBOUND_INLINE;
    outbound_ref *refs = tw_alloc(sizeof(*refs) * cap * 2);
    if (refs == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (uint32_t i = 0; i < queue->count; i++) {
        refs[i] = *ref_at(queue, i);
    }
    tw_free(queue->far);
    queue->far = refs;
    queue->far_cap = cap * 2;
    queue->first = 0;
    return TW_OK;
}

static void drop_first(outbound *queue)
{
    outbound_ref *ref = ref_at(queue, 0);
    tw_shared_drop(&ref->shared);
    queue->first++;
    queue->count--;
    if (queue->count == 0) {
        tw_free(queue->far);
        queue->far = NULL;
        queue->far_cap = 0;
        queue->first = 0;
    }
}

void outbound_clear(outbound *queue)
{
    while (queue->count > 0) {
        drop_first(queue);
    }
    queue->bytes = 0;
}

tw_err outbound_add(outbound *queue, tw_shared *shared, size_t offset, size_t len)
{
    TW_ASSERT(offset + len <= shared->len);
    TW_ASSERT(len > 0);
    uint32_t cap = queue->far != NULL ? queue->far_cap : OUTBOUND_INLINE;
    if (queue->count == cap) {
        tw_err err = grow(queue);
        if (err != TW_OK) {
            return err;
        }
    }
    *ref_at(queue, queue->count) = (outbound_ref){tw_shared_hold(shared), offset, len};
    queue->count++;
    queue->bytes += len;
    return TW_OK;
}

size_t outbound_peek(const outbound *queue, struct iovec *iov, size_t iov_max, size_t bytes_max)
{
    size_t filled = 0;
    while (filled < iov_max && filled < queue->count && bytes_max > 0) {
        const outbound_ref *ref = ref_at(queue, (uint32_t)filled);
        size_t len = ref->len < bytes_max ? ref->len : bytes_max;
        iov[filled++] = (struct iovec){ref->shared->bytes + ref->offset, len};
        bytes_max -= len;
    }
    return filled;
}

void outbound_sent(outbound *queue, size_t bytes)
{
    TW_ASSERT(bytes <= queue->bytes);
    queue->bytes -= bytes;
    while (bytes > 0) {
        outbound_ref *ref = ref_at(queue, 0);
        if (bytes < ref->len) {
            ref->offset += bytes;
            ref->len -= bytes;
            return;
        }
        bytes -= ref->len;
        drop_first(queue);
    }
}
