/* load_schedule.h - when each event is due, and which topic it falls on. Pure: no clock, no socket.
 *
 * Event k of a schedule is due at begin + (k - first) * period, whatever happened to those before:
 * one that is late is sent late, and counts as late. */
#pragma once

#include <stdbool.h>

#include "protocol/base.h"

typedef struct load_schedule {
    uint64_t begin_ns;
    double period_ns;
    uint64_t first; /* the number of the event that is due at begin_ns */
} load_schedule;

uint64_t load_schedule_due(const load_schedule *self, uint64_t seq);
/* Numbers below this one are due before `ns`. */
uint64_t load_schedule_end(const load_schedule *self, uint64_t ns);

typedef struct load_topics {
    uint32_t count;
    uint32_t *next; /* own; the number that each topic's next event gets */
    double *shares; /* own; of all events that fall on this topic or one before; NULL: evenly */
    uint64_t random;
} load_topics;

/* False: no memory. */
bool load_topics_init(load_topics *self, uint32_t count, bool zipf);
void load_topics_fini(load_topics *self);
/* The topic of the next event; the same order in each run. */
uint32_t load_topics_pick(load_topics *self);
