/* restart.h - when an actor that ended is started again, and when that is too often.
 *
 * The wait doubles from 10 ms to 5 s, with a jitter of half of it, and begins anew once the actor
 * has lived for 10 s. More than TW_RESTARTS_MAX ends within 10 s make it red; it stays so, although
 * the growing waits make the ends rarer, until it has lived for 10 s. Pure: time and chance are
 * data. */
#pragma once

#include "protocol/base.h"
#include "protocol/limits.h"

typedef struct restart_policy {
    uint64_t ended_ms[TW_RESTARTS_MAX + 1]; /* a ring of the last ends */
    uint64_t count;                         /* of all ends */
    uint64_t wait_ms;                       /* the last wait, without jitter; 0: none yet */
    bool is_red;
} restart_policy;

/* The actor ended after lived_ms. Returns how long to wait. */
uint64_t restart_policy_ended(restart_policy *self, uint64_t now_ms, uint64_t lived_ms,
                              uint64_t random);
/* lived_ms: of the life that goes on; 0 when it does not run. */
bool restart_policy_is_red(const restart_policy *self, uint64_t lived_ms);
