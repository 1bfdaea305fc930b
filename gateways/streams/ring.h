/* ring.h - the recent publications of the subscription manager, for streams that join between two
 * pages: what they missed is taken from here instead of being read again. */
#pragma once

#include "protocol/messages.h"

typedef struct ring_event {
    uint64_t n;
    uint64_t topic;
    uint64_t prev;
    tw_str type; /* JSON text; view into the entry */
    tw_str tail; /* view into the entry */
} ring_event;

typedef struct ring_entry ring_entry;

typedef struct ring {
    ring_entry *oldest; /* own; a list */
    ring_entry *newest;
    size_t bytes; /* of all entries; at most bytes_max, but one entry may be larger */
    size_t bytes_max;
    uint64_t start; /* rows above it are held */
    uint64_t head;  /* rows up to it are held */
} ring;

void ring_init(ring *self, size_t bytes_max);
void ring_fini(ring *self);
/* Forgets everything; what follows begins behind start. */
void ring_restart(ring *self, uint64_t start);
/* Takes a copy of a batch that goes on at head; types are the events' types as JSON text. Without
 * memory the ring restarts behind the batch. */
void ring_add(ring *self, const tw_msg_topic_batch *batch, const tw_str *types);
bool ring_covers(const ring *self, uint64_t after);

/* Walks the events of a topic above a row, in order: start with cursor all zero. */
typedef struct ring_cursor {
    const ring_entry *entry;
    size_t index;
} ring_cursor;
bool ring_next(const ring *self, ring_cursor *cursor, uint64_t topic, uint64_t after,
               ring_event *out);
