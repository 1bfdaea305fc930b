/* timer.h - the timers of one actor: a small table, searched in order.
 * The actor's thread alone; never blocks, never allocates. */
#pragma once

#include "protocol/limits.h"

#include "actors/runtime/actor.h"

typedef struct timers {
    struct timer {
        uint64_t at_ms;
        uint64_t serial; /* when it was set: timers of the same time fire in this order */
        tw_on_timer fn;
        uint64_t tag;
    } at[TW_TIMERS_MAX];
    size_t count;
    uint64_t serial; /* of the timer that was set last */
} timers;

void timers_set(timers *self, uint64_t at_ms, tw_on_timer fn, uint64_t tag);
void timers_cancel(timers *self, tw_on_timer fn, uint64_t tag);
/* Makes it due at at_ms, if it is set. */
void timers_hasten(timers *self, uint64_t at_ms, tw_on_timer fn, uint64_t tag);
/* When the first is due; UINT64_MAX: none is set. */
uint64_t timers_next(const timers *self);
/* Takes the earliest that is due and was set no later than serial_max, so that a timer that sets
 * itself anew waits for the next turn. False: none. */
bool timers_take(timers *self, uint64_t now_ms, uint64_t serial_max, tw_on_timer *fn,
                 uint64_t *tag);
