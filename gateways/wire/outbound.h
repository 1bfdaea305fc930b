/* outbound.h - what waits to leave on one connection: references to shared bytes, in order.
 *
 * Nothing is copied: a reference is (shared, offset, length), and a partial write moves the first
 * one's offset. Two references stand in the struct itself, so that a connection that keeps up never
 * allocates for a delivery. */
#pragma once

#include <sys/uio.h>

#include "protocol/limits.h"

#include "actors/runtime/shared.h"

enum { OUTBOUND_INLINE = 2 };

typedef struct outbound_ref {
    tw_shared *shared; /* holds one */
    size_t offset;
    size_t len; /* bytes that are still to leave */
} outbound_ref;

typedef struct outbound {
    outbound_ref near[OUTBOUND_INLINE]; /* used while far is NULL */
    outbound_ref *far;                  /* own; a ring of far_cap references */
    uint32_t far_cap;
    uint32_t first;
    uint32_t count;
    size_t bytes; /* waiting */
} outbound;

/* All zero = empty. */
void outbound_clear(outbound *queue); /* drops everything and gives the memory back */
/* Adds a part of shared behind the others; takes a holder of its own. TW_E_NO_MEMORY: nothing
 * changed. The bound in bytes is the caller's to keep. */
tw_err outbound_add(outbound *queue, tw_shared *shared, size_t offset, size_t len);
/* Fills iov with what is first, at most bytes_max; returns how many entries. */
size_t outbound_peek(const outbound *queue, struct iovec *iov, size_t iov_max, size_t bytes_max);
/* Takes away bytes that have left. */
void outbound_sent(outbound *queue, size_t bytes);
