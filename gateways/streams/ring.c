/* ring.c - batches as one block of memory each: events by (event, mark), then the bytes of them.
 * Batches without events only move head. */
#include "gateways/streams/ring.h"

struct ring_entry {
    ring_entry *next; /* newer */
    uint64_t head;
    size_t bytes; /* of this block */
    size_t count;
    ring_event events[];
};

void ring_init(ring *self, size_t bytes_max)
{
    memset(self, 0, sizeof(*self));
    self->bytes_max = bytes_max;
}

static void drop_oldest(ring *self)
{
    ring_entry *entry = self->oldest;
    self->oldest = entry->next;
    if (self->oldest == NULL) {
        self->newest = NULL;
    }
    self->start = entry->head;
    self->bytes -= entry->bytes;
    tw_free(entry);
}

void ring_restart(ring *self, uint64_t start)
{
    while (self->oldest != NULL) {
        drop_oldest(self);
    }
    self->start = start;
    self->head = start;
}

void ring_fini(ring *self)
{
    ring_restart(self, 0);
}

bool ring_covers(const ring *self, uint64_t after)
{
    return after >= self->start;
}

static void fill(ring_entry *entry, const tw_msg_topic_batch *batch, const tw_str *types)
{
    char *bytes = (char *)(entry->events + entry->count);
    size_t at = 0;
    for (size_t i = 0; i < batch->events.count; i++) {
        const tw_item_event *event = &batch->events.at[i];
        tw_str type = {bytes, types[i].len};
        memcpy(bytes, types[i].ptr, types[i].len);
        bytes += types[i].len;
        tw_str tail = {bytes, event->tail.len};
        memcpy(bytes, event->tail.ptr, event->tail.len);
        bytes += event->tail.len;
        for (size_t m = 0; m < event->marks.count; m++) {
            const tw_item_mark *mark = &event->marks.at[m];
            entry->events[at++] = (ring_event){event->n, mark->topic, mark->prev, type, tail};
        }
    }
    TW_ASSERT(at == entry->count);
}

void ring_add(ring *self, const tw_msg_topic_batch *batch, const tw_str *types)
{
    TW_ASSERT(batch->prev_head == self->head);
    self->head = batch->head;
    size_t count = 0;
    size_t text = 0;
    for (size_t i = 0; i < batch->events.count; i++) {
        count += batch->events.at[i].marks.count;
        text += types[i].len + batch->events.at[i].tail.len;
    }
    if (count == 0) {
        return;
    }
    size_t bytes = sizeof(ring_entry) + count * sizeof(ring_event) + text;
    while (self->oldest != NULL && self->bytes + bytes > self->bytes_max) {
        drop_oldest(self);
    }
    ring_entry *entry = bytes <= self->bytes_max ? tw_alloc(bytes) : NULL;
    if (entry == NULL) {
        ring_restart(self, batch->head);
        return;
    }
    *entry = (ring_entry){.head = batch->head, .bytes = bytes, .count = count};
    fill(entry, batch, types);
    self->bytes += bytes;
    if (self->newest != NULL) {
        self->newest->next = entry;
    } else {
        self->oldest = entry;
    }
    self->newest = entry;
}

bool ring_next(const ring *self, ring_cursor *cursor, uint64_t topic, uint64_t after,
               ring_event *out)
{
    if (cursor->entry == NULL && cursor->index == 0) {
        cursor->entry = self->oldest;
    }
    while (cursor->entry != NULL) {
        const ring_entry *entry = cursor->entry;
        size_t index = entry->head > after ? cursor->index : entry->count;
        for (; index < entry->count; index++) {
            if (entry->events[index].topic == topic && entry->events[index].n > after) {
                *out = entry->events[index];
                cursor->index = index + 1;
                return true;
            }
        }
        cursor->entry = entry->next;
        cursor->index = cursor->entry == NULL; /* 1: the walk is over */
    }
    return false;
}
