/* timer.c - at most 64 entries: a search costs less than what keeping an order would. */
#include "actors/runtime/timer.h"

static struct timer *timer_find(timers *self, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(self->count <= TW_TIMERS_MAX);
    for (size_t i = 0; i < self->count; i++) {
        if (self->at[i].fn == fn && self->at[i].tag == tag) {
            return &self->at[i];
        }
    }
    return NULL;
}

static void timer_remove(timers *self, struct timer *timer)
{
    TW_ASSERT(self->count > 0);
    TW_ASSERT(timer >= self->at && timer < self->at + self->count);
    self->count--;
    *timer = self->at[self->count];
}

void timers_set(timers *self, uint64_t at_ms, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(fn != NULL);
    struct timer *timer = timer_find(self, fn, tag);
    if (timer == NULL) {
        TW_ASSERT(self->count < TW_TIMERS_MAX); /* a class knows how many it uses */
        timer = &self->at[self->count++];
    }
    self->serial++;
    *timer = (struct timer){.at_ms = at_ms, .serial = self->serial, .fn = fn, .tag = tag};
}

void timers_cancel(timers *self, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(fn != NULL);
    struct timer *timer = timer_find(self, fn, tag);
    if (timer != NULL) {
        timer_remove(self, timer);
    }
}

void timers_hasten(timers *self, uint64_t at_ms, tw_on_timer fn, uint64_t tag)
{
    struct timer *timer = timer_find(self, fn, tag);
    if (timer != NULL && timer->at_ms > at_ms) {
        timer->at_ms = at_ms;
    }
}

uint64_t timers_next(const timers *self)
{
    TW_ASSERT(self->count <= TW_TIMERS_MAX);
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < self->count; i++) {
        next = self->at[i].at_ms < next ? self->at[i].at_ms : next;
    }
    return next;
}

bool timers_take(timers *self, uint64_t now_ms, uint64_t serial_max, tw_on_timer *fn, uint64_t *tag)
{
    TW_ASSERT(fn != NULL);
    TW_ASSERT(tag != NULL);
    struct timer *first = NULL;
    for (size_t i = 0; i < self->count; i++) {
        struct timer *timer = &self->at[i];
        if (timer->at_ms > now_ms || timer->serial > serial_max) {
            continue;
        }
        if (first == NULL || timer->at_ms < first->at_ms ||
            (timer->at_ms == first->at_ms && timer->serial < first->serial)) {
            first = timer;
        }
    }
    if (first == NULL) {
        return false;
    }
    *fn = first->fn;
    *tag = first->tag;
    timer_remove(self, first);
    return true;
}
