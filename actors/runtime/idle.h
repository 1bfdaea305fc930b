/* idle.h - tells actors when a core is free: one thread of the process, of the lowest priority.
 *
 * While somebody has asked it looks at its core every 0.2 ms, and wakes those who asked when it was
 * let at once: so the more of the core's time is free, the sooner. It holds no lock, as who waited
 * for one would wait for a free core; so a slot's descriptor is never closed, only used again: a
 * wake-up that comes late is one too many for the next.
 * Thread    any; never blocks */
#pragma once

#include "protocol/base.h"

/* Takes a place among those who may ask; its descriptor becomes readable when it is time.
 * TW_E_TOO_MANY: TW_ACTORS_MAX have one. TW_E_NO_MEMORY: no thread, no descriptor. */
tw_err idle_slot_take(int *slot, int *fd);
/* Gives it back. */
void idle_slot_give(int slot);
/* Asks; once is enough until the descriptor was readable. */
void idle_slot_ask(int slot);
/* Tests: a core counts as free when the thread was let no later than so; below 0: never. */
void idle_set_lateness(int64_t ns);
